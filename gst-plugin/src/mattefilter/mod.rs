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
//! `before-seed` or `on-failure` say `pass-through`. A buffer with the flag `GAP` has no picture; it becomes transparent
//! and does not reach the engine. A buffer with the flag `CORRUPTED` has one, and is matted like any other.
//!
//! # What stays and what goes
//! The target and the memory stay over flushes, seeks, segments and changes of format. With another frame size they stay
//! only if the working size does; otherwise the target is found again as at the start: automatically, or with the
//! mask. Stopping the element (`READY`) ends all. In `PLAYING`, a new `mask-location` names a new target on the next
//! frame.
//!
//! # Latency
//! A frame leaves with its own matte: none is held back, but each takes the time that the network needs. As a stream is
//! kept up with only if that is less than a frame lasts, the element reports the duration of one frame; 0 where the frame
//! rate is unknown. What the engine does after a frame, it does while that frame is on its way downstream. With QoS,
//! frames that would be late anyway are dropped before they are processed.
//!
//! # Messages
//! - `matte-backend` (`backend`, `model`: strings, `working-width`, `working-height`: unsigned integers), when the
//!   engine is open;
//! - `matte-seeded` (`running-time`: nanoseconds as `guint64`, `how`: `"automatic"` or `"mask"`), when there is a target;
//! - a warning when frames go without a matte, or a new mask cannot be used.

use gst::glib;
use gst::prelude::*;

mod caps;
mod engine;
mod imp;
mod properties;

pub use properties::{ExecutionProvider, FramePolicy, RefineMode, Seed};

glib::wrapper! {
    /// The element; made with `gst::ElementFactory::make("mattefilter")` once the plugin is registered.
    pub struct MatteFilter(ObjectSubclass<imp::MatteFilter>)
        @extends gst_video::VideoFilter, gst_base::BaseTransform, gst::Element, gst::Object;
}

pub(crate) fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    gst::Element::register(
        Some(plugin),
        "mattefilter",
        gst::Rank::NONE,
        MatteFilter::static_type(),
    )
}
