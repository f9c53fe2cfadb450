//! SECTION:element-mattefilter
//!
//! `mattefilter` cuts a person, or an object that a mask names once, out of live video: RGBA with a soft matte comes
//! out, or the matte alone (`GRAY8`). No green screen is needed.
//!
//! A person in front of a camera, over a picture:
//!
//! ```text
//! gst-launch-1.0 compositor name=mix sink_1::zorder=1 ! videoconvert ! autovideosink \
//!   filesrc location=beach.jpg ! decodebin ! imagefreeze ! videoconvert ! mix.sink_0 \
//!   v4l2src ! videoconvert ! mattefilter ! mix.sink_1
//! ```
//!
//! What the mask of the first frame selects, in a file:
//!
//! ```text
//! gst-launch-1.0 filesrc location=in.mp4 ! decodebin ! videoconvert \
//!   ! mattefilter mask-location=first-frame.png ! videoconvert ! avenc_ffv1 ! matroskamux ! filesink location=out.mkv
//! ```
//!
//! The matte alone:
//!
//! ```text
//! gst-launch-1.0 filesrc location=in.mp4 ! decodebin ! videoconvert ! mattefilter ! video/x-raw,format=GRAY8 \
//!   ! videoconvert ! autovideosink
//! ```
//!
//! # What a frame shows
//! Until there is a target, and where the network fails, a frame is transparent black: the room is shown only when
//! `before-seed` or `on-failure` say `pass-through`, or with `background=blur`. A buffer with the flag `GAP` or
//! `CORRUPTED` shows the last matte, or what `before-seed` says where that is another stream's, and does not reach the
//! engine.
//!
//! # Models
//! A model is opened on a thread of its own: state changes and caps return at once. Frames of a live source show what
//! `before-seed` says until it is there; others wait, so that a file is matted from its first frame on
//! (`wait-for-model`), and so they do for the engine of a target that `add-target` names. A model that cannot be opened
//! ends the stream with an error. Set while playing, `model` and all other properties that the engine is opened with open
//! another one beside it, which takes the target over; where that fails, a warning tells and the old one goes on. An
//! engine that has failed on several frames is opened anew.
//!
//! # What stays and what goes
//! The target and the memory stay over flushes, seeks, segments and changes of format. With another frame size they stay
//! only if the working size does; otherwise, and with another stream (another `stream-id`), the target is found again as
//! at the start: automatically, or with the mask, which counts for the first stream alone. Stopping the element (`READY`)
//! ends all. In `PLAYING`, a new `mask-location` names a new target on the next frame.
//!
//! # Latency
//! With `latency-mode=aligned` a frame leaves with its own matte: none is held back, but each takes the time that the
//! network needs. One frame is reported, or as many as 95 % of the frames need. With `latency-mode=low` no frame waits for
//! the network: it shows the newest matte, brought to its own edges, and quarters of a frame are reported. Where
//! the frame rate is unknown, a frame is taken for a 30th of a second. What the engine does after a frame, it does while that frame is on its way
//! downstream. With QoS, frames that would be late anyway are dropped before they are processed.
//!
//! # Actions
//! - `seed-from-sample` (`GstSample`: mask) names a new target on the next frame; returns whether it is taken;
//! - `seed-at` (`x`, `y`: pixels of the frame) names the person who is there, and so does a click with `click-to-seed`;
//! - `correct` (`GstSample`: mask) says what the target covers on the next frame;
//! - `add-reference` (`GstSample`: mask, `GstSample`: picture, or `NULL` for the next frame) remembers a view of the
//!   target for good, in the room that `max-references` makes; returns its number, 0 where it is refused; `references`
//!   lists them, `remove-reference` (number) forgets one;
//! - `add-target` (`GstSample`: mask) names one more target, with an engine and a memory of its own; returns its number,
//!   0 where it is refused; `targets` lists them, `show-target` chooses what is shown, `remove-target` (number) ends one,
//!   also before it is followed;
//! - `reset` forgets all targets.
//!
//! # Messages
//! - `matte-backend`, with `state`: `opening` (`model`, `requested`: strings); `ready` (`backend`, `model`, `requested`:
//!   strings, `working-width`, `working-height`: unsigned integers, `open-time`: `GstClockTime`); `failed` (`model`,
//!   `requested`, `reason`: strings);
//! - `matte-seeded` (`running-time`: nanoseconds as `guint64`, `how`: `automatic`, `mask`, `sample`, `point`, `correction`
//!   or, from the engine before, `carried`), when there is a target;
//! - `matte-drift` (`running-time`, `state`: `scene-cut`, `started`, `finished` or `lost`; with `started` also
//!   `after-cut`: boolean, `agreement`: 0 to 1);
//! - `matte-reference` (`running-time`, `id`: `guint64`, `state`: `added`, `removed` or `failed`; then also `reason`);
//! - `matte-target`, likewise for further targets;
//! - a warning when frames go without a matte, or when something that was asked for cannot be done.

use gst::glib;
use gst::prelude::*;

mod actions;
mod caps;
mod engine;
mod errors;
mod frames;
mod imp;
mod latency;
mod loader;
mod properties;
mod state;

pub use properties::{
    AlphaModeKind, BackgroundMode, ExecutionProvider, ForegroundMode, FramePolicy, LatencyMode,
    PrecisionMode, RefineMode, RegionMode, Seed, WaitForModel,
};

glib::wrapper! {
    /// The element; made with `gst::ElementFactory::make("mattefilter")` once the plugin is registered.
    pub struct MatteFilter(ObjectSubclass<imp::MatteFilter>)
        @extends gst_video::VideoFilter, gst_base::BaseTransform, gst::Element, gst::Object,
        @implements gst::Preset;
}

pub(crate) fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    gst::Element::register(
        Some(plugin),
        "mattefilter",
        gst::Rank::NONE,
        MatteFilter::static_type(),
    )
}
