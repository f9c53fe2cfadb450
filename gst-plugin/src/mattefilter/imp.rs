#![allow(
    missing_docs,
    reason = "the property accessors that the derive writes; the blurbs are their documentation"
)]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gst::glib;
use gst::subclass::prelude::*;
use gst_base::prelude::*;
use gst_base::subclass::BaseTransformMode;
use gst_base::subclass::prelude::*;
use gst_video::prelude::*;
use gst_video::subclass::prelude::*;
use gst_video::{
    NavigationEvent, VideoCropMeta, VideoFrameRef, VideoInfo, VideoInterlaceMode,
    VideoMultiviewMode,
};
use matte_core::{MaskImage, ModelSet, Options, Repair, Stage};

use super::actions::{Action, OwnedMask};
use super::caps;
use super::engine::{FIRST_TARGET, News};
use super::errors::error_message;
use super::frames::{Picture, input, output};
use super::latency::Latency;
use super::loader::{Event, Loader, Urgency, Waited};
use super::properties::{
    AlphaModeKind, BackgroundMode, DEFAULT_MODEL, ExecutionProvider, ForegroundMode, FramePolicy,
    LatencyMode, PrecisionMode, RefineMode, RegionMode, Seed, Settings, WaitForModel, float_range,
    highest, range,
};
use super::state::{Busy, MOST_ACTIONS, State, Without};
use crate::logging::CAT;

#[derive(glib::Properties, Default)]
#[properties(wrapper_type = super::MatteFilter)]
pub struct MatteFilter {
    #[property(name = "model", get, set, type = String, member = model, nick = "Model",
        blurb = "Name or directory of the model package. Set while playing, the new model is opened beside the old \
        one, which goes on until then and hands its target over", default = Some(DEFAULT_MODEL), mutable_playing)]
    #[property(name = "execution-provider", get, set, type = ExecutionProvider, member = execution_provider,
        nick = "Execution provider", blurb = "What runs the network; only auto falls back to another. Set while \
        playing, the engine is opened anew, as for model",
        builder(ExecutionProvider::default()).mutable_playing())]
    #[property(name = "working-size", get, set, type = String, member = working_size, nick = "Working size",
        blurb = "Size at which the network sees the frame, WIDTHxHEIGHT in pixels; empty: from the frame size and the \
        model. Smaller is faster. Set while playing, the engine is opened anew, as for model", default = Some(""),
        mutable_playing)]
    #[property(name = "mask-location", get, set, type = Option<String>, member = mask_location, nick = "Mask location",
        blurb = "PNG or JPEG file with the mask of the first frame: white where the target is, any size with the \
        aspect ratio of the frame. Set while playing, it is the mask of the next frame and names a new target",
        mutable_playing)]
    #[property(name = "seed", get, set, type = Seed, member = seed, nick = "Seed",
        blurb = "Where the first mask comes from, beside the signals seed-from-sample and seed-at",
        builder(Settings::default().seed).mutable_playing())]
    #[property(name = "click-to-seed", get, set, type = bool, member = click_to_seed, nick = "Click to seed",
        blurb = "A click with the first mouse button, which video sinks send upstream as a navigation event, names the \
        person under it as the new target, as the signal seed-at does; the event goes no further",
        default = Settings::default().click_to_seed, mutable_playing)]
    #[property(name = "show-target", get, set, type = u64, member = show_target, nick = "Show target",
        blurb = "Number of the target that is shown, as add-target has given it (1: the one that the properties and \
        the seeding signals name; 0: all). The others are followed all the same",
        default = Settings::default().show_target, mutable_playing)]
    #[property(name = "warm-up", get, set, type = i32, member = warm_up, nick = "Warm-up",
        blurb = "Refinements of the first frame after a mask has been given (-1: as the model package says)",
        minimum = -1, maximum = highest("warm_up") as i32, default = Settings::default().warm_up, mutable_playing)]
    #[property(name = "mask-erode", get, set, type = u32, member = mask_erode, nick = "Mask erosion",
        blurb = "Erosion of a given mask, in pixels of the working size (0: none)",
        minimum = range("mask_erode").0, maximum = highest("mask_erode"), default = Settings::default().mask_erode,
        mutable_playing)]
    #[property(name = "mask-dilate", get, set, type = u32, member = mask_dilate, nick = "Mask dilation",
        blurb = "Dilation of a given mask before its erosion, in pixels of the working size (0: none)",
        minimum = range("mask_dilate").0, maximum = highest("mask_dilate"), default = Settings::default().mask_dilate,
        mutable_playing)]
    #[property(name = "memory-interval", get, set, type = u32, member = memory_interval, nick = "Memory interval",
        blurb = "A frame is stored in the memory every so many frames (0: as the model package says)",
        minimum = 0, maximum = highest("memory_interval"), default = Settings::default().memory_interval,
        mutable_playing)]
    #[property(name = "memory-frames", get, set, type = u32, member = memory_frames, nick = "Memory frames",
        blurb = "Temporary frames that the memory holds beside the first one; each costs time (0: as the model \
        package says). Set while playing, the engine is opened anew, as for model", minimum = 0,
        maximum = highest("memory_frames"), default = Settings::default().memory_frames, mutable_playing)]
    #[property(name = "max-references", get, set, type = u32, member = max_references, nick = "Maximum references",
        blurb = "Room in the memory for the reference frames of the signal add-reference; each costs time, also while \
        it is empty. Set while playing, the engine is opened anew, as for model",
        minimum = range("max_references").0, maximum = highest("max_references"),
        default = Settings::default().max_references, mutable_playing)]
    #[property(name = "region", get, set, type = RegionMode, member = region, nick = "Region",
        blurb = "What of the frame the network sees: a window around a small or narrow target shows it larger for the \
        same work. Set while playing, the engine is opened anew, as for model",
        builder(Settings::default().region).mutable_playing())]
    #[property(name = "precision", get, set, type = PrecisionMode, member = precision, nick = "Precision",
        blurb = "Numbers that the network computes with. Set while playing, the engine is opened anew, as for model",
        builder(Settings::default().precision).mutable_playing())]
    #[property(name = "threads", get, set, type = u32, member = threads, nick = "Threads",
        blurb = "Threads of the CPU execution provider (0: as many as there are cores, shared by all elements of the \
        process). With fewer, a model may take a smaller working size by itself. Set while playing, the engine is opened \
        anew, as for model",
        minimum = range("threads").0, maximum = highest("threads"), default = Settings::default().threads,
        mutable_playing)]
    #[property(name = "device", get, set, type = u32, member = device, nick = "Device",
        blurb = "Which GPU the network runs on, as CUDA counts them; other execution providers ignore it. Set while \
        playing, the engine is opened anew, as for model", minimum = range("device").0, maximum = highest("device"),
        default = Settings::default().device, mutable_playing)]
    #[property(name = "provider-options", get, set, type = Option<String>, member = provider_options,
        nick = "Provider options", blurb = "Options of the execution provider as ONNX Runtime names them, for cuda and \
        tensorrt: key=value, apart by commas; others ignore them. Set while playing, the engine is opened anew, as for \
        model", mutable_playing)]
    #[property(name = "model-cache-dir", get, set, type = Option<String>, member = model_cache_dir,
        nick = "Model cache directory", blurb = "Where the engines are kept that TensorRT builds, which takes minutes \
        the first time; none: engines in the user's cache directory. Set while playing, the engine is opened anew, as \
        for model", mutable_playing)]
    #[property(name = "use-prior", get, set, type = bool, member = use_prior, nick = "Use prior",
        blurb = "Give the network a person segmentation of every frame as a hint, where the model package takes one",
        default = Settings::default().use_prior, mutable_playing)]
    #[property(name = "latency-mode", get, set, type = LatencyMode, member = latency_mode, nick = "Latency mode",
        blurb = "Whether a frame waits for its own matte or shows the newest one there is, for live sources only: frames \
        that come faster than the network see older mattes",
        builder(Settings::default().latency_mode).mutable_playing())]
    #[property(name = "wait-for-model", get, set, type = WaitForModel, member = wait_for_model,
        nick = "Wait for model", blurb = "Whether frames wait while the model is opened, so that a file is matted from \
        its first frame on", builder(Settings::default().wait_for_model).mutable_playing())]
    #[property(name = "refine", get, set, type = RefineMode, member = refine, nick = "Refine",
        blurb = "How the matte gets from the working size to the size of the frame. With temporal-smoothing, and with \
        latency-mode=low, edges are not drawn anew (detail): guided takes its place",
        builder(Settings::default().refine).mutable_playing())]
    #[property(name = "foreground", get, set, type = ForegroundMode, member = foreground, nick = "Foreground",
        blurb = "Colour of the pixels that the target covers only partly",
        builder(Settings::default().foreground).mutable_playing())]
    #[property(name = "alpha-mode", get, set, type = AlphaModeKind, member = alpha_mode, nick = "Alpha mode",
        blurb = "How colour relates to alpha in the output. Caps do not carry it: what comes downstream must expect \
        the same; compositor and most others take straight alpha. Straight keeps the picture's colour a \
        few dozen pixels beyond the target, and black further away",
        builder(Settings::default().alpha_mode).mutable_playing())]
    #[property(name = "background", get, set, type = BackgroundMode, member = background, nick = "Background",
        blurb = "What lies behind the target, for pipelines without a compositor; GRAY8 holds the matte in any case",
        builder(Settings::default().background).mutable_playing())]
    #[property(name = "background-colour", get, set, type = u32, member = background_colour,
        nick = "Background colour", blurb = "Colour for background=colour, 0xRRGGBB (without 0x it is a decimal number)", minimum = 0, maximum = 0x00ff_ffff,
        default = Settings::default().background_colour, mutable_playing, controllable)]
    #[property(name = "background-blur", get, set, type = f32, member = background_blur, nick = "Background blur",
        blurb = "Strength for background=blur: the standard deviation in twentieths of the frame's longer side",
        minimum = float_range("background_blur").0, maximum = float_range("background_blur").1,
        default = Settings::default().background_blur, mutable_playing, controllable)]
    #[property(name = "edge-shift", get, set, type = f32, member = edge_shift, nick = "Edge shift",
        blurb = "Moves the edge of the matte by so many pixels of the frame: outwards where positive, inwards where \
        negative", minimum = float_range("edge_shift").0, maximum = float_range("edge_shift").1,
        default = Settings::default().edge_shift, mutable_playing, controllable)]
    #[property(name = "edge-softness", get, set, type = f32, member = edge_softness, nick = "Edge softness",
        blurb = "Softens the edge of the matte over so many pixels of the frame (0: as it is)",
        minimum = float_range("edge_softness").0, maximum = float_range("edge_softness").1,
        default = Settings::default().edge_softness, mutable_playing, controllable)]
    #[property(name = "temporal-smoothing", get, set, type = f32, member = temporal_smoothing,
        nick = "Temporal smoothing", blurb = "How much of the matte before stays where the picture has not changed \
        (0: off). Where something moves, the matte follows at once",
        minimum = float_range("temporal_smoothing").0, maximum = float_range("temporal_smoothing").1,
        default = Settings::default().temporal_smoothing, mutable_playing, controllable)]
    #[property(name = "drift-repair", get, set, type = bool, member = drift_repair, nick = "Drift repair",
        blurb = "Compare the matte with the person segmentation every few frames, and name the target anew where they \
        disagree for long or after a cut; the message matte-drift tells",
        default = Settings::default().drift_repair, mutable_playing)]
    #[property(name = "before-seed", get, set, type = FramePolicy, member = before_seed, nick = "Before seed",
        blurb = "What a frame shows before there is a target, and while the first model is opened (where error means \
        transparent)", builder(Settings::default().before_seed).mutable_playing())]
    #[property(name = "on-failure", get, set, type = FramePolicy, member = on_failure, nick = "On failure",
        blurb = "What a frame shows when the network fails, until it works again",
        builder(Settings::default().on_failure).mutable_playing())]
    settings: Mutex<Settings>,

    /// Locked for as long as a frame takes; messages are posted without it, as their receivers may read `stats`.
    state: Mutex<Option<State>>,

    /// From the first `start` on.
    loader: Mutex<Option<std::sync::Arc<Loader>>>,

    /// What the application asks for.
    actions: Mutex<Vec<Action>>,

    /// Names of references.
    next_reference: AtomicU64,
    references: Mutex<Vec<u64>>,

    /// Names of targets beside the first.
    next_target: AtomicU64,
    targets: Mutex<Vec<u64>>,
    /// Those that have been asked for and are not followed yet.
    coming: Mutex<Vec<u64>>,

    /// Caps that have been refused: GStreamer offers them again, and neither the work nor the error is to be repeated.
    refused: Mutex<Option<gst::Caps>>,

    latency: Mutex<Latency>,
    /// Zero where it is unknown.
    frame_duration: Mutex<gst::ClockTime>,

    /// Frames that QoS has dropped.
    dropped: AtomicU64,

    /// The buffer of the frame at hand, where the worker is to have it as well.
    held: Mutex<Option<gst::Buffer>>,

    /// Stream that the frames belong to.
    stream_id: Mutex<Option<glib::GString>>,
}

const STATS: &str = "stats";
const REFERENCES: &str = "references";
const TARGETS: &str = "targets";

/// A panic in the middle of a frame is reported by the element itself and ends the stream; what the lock guards is only
/// read or dropped after that.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The reason why a stream cannot be matted at all.
fn refused(info: &VideoInfo) -> Option<gst::ErrorMessage> {
    if info.interlace_mode() != VideoInterlaceMode::Progressive {
        return Some(gst::error_msg!(
            gst::StreamError::WrongType,
            (
                "interlace-mode {}: only progressive video can be matted; put a deinterlace before",
                info.interlace_mode()
            )
        ));
    }
    let views = info.multiview_mode();
    if !matches!(views, VideoMultiviewMode::None | VideoMultiviewMode::Mono) {
        return Some(gst::error_msg!(
            gst::StreamError::WrongType,
            ("multiview-mode {views:?}: only one view can be matted")
        ));
    }
    None
}

/// What a frame lasts where nobody knows: 30 of them are a second.
const USUAL_FRAME: gst::ClockTime = gst::ClockTime::from_nseconds(33_333_334);

/// For so long statistics are tried for without holding the stream up.
const LONGEST_LOOK: Duration = Duration::from_secs(1);

fn not_started() -> gst::ErrorMessage {
    gst::error_msg!(gst::CoreError::StateChange, ("not started"))
}

fn clock_time(duration: Duration) -> gst::ClockTime {
    gst::ClockTime::from_nseconds(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX - 1))
}

impl MatteFilter {
    fn loader(&self) -> Option<std::sync::Arc<Loader>> {
        lock(&self.loader).clone()
    }

    fn stats(&self) -> gst::Structure {
        // Whoever waits for the network with the state locked holds the stream up: it is asked again and again instead.
        let until = Instant::now() + LONGEST_LOOK;
        let stats = loop {
            let waits = Instant::now() >= until;
            let stats = lock(&self.state).as_mut().map(|state| state.stats(waits));
            match stats {
                Some(Err(Busy)) => std::thread::sleep(Duration::from_millis(1)),
                Some(Ok(stats)) => break stats,
                None => break None,
            }
        };
        let structure = gst::Structure::builder("application/x-matte-stats");
        let Some((stats, drawing)) = stats else {
            return structure.build();
        };
        let mut structure = structure
            .field("backend", &stats.backend)
            .field("model", &stats.model)
            .field("working-width", stats.working_size.0)
            .field("working-height", stats.working_size.1)
            .field("frames", stats.frames)
            .field("frames-without-matte", stats.frames_without_matte)
            .field("frames-dropped", self.dropped.load(Ordering::Relaxed))
            .field("memory-frames", stats.memory_frames)
            .field("latency", clock_time(lock(&self.latency).reported()));
        for stage in Stage::ALL {
            let times = stats.stage(stage);
            let times = match stage {
                // The element draws for itself.
                Stage::Postprocess => drawing,
                _ => [times.p50, times.p99, times.mean],
            };
            for (what, time) in ["p50", "p99", "mean"].into_iter().zip(times) {
                structure =
                    structure.field(format!("{}-{what}", stage.name()), time.as_micros() as u64);
            }
        }
        structure.build()
    }

    fn post(&self, structure: gst::Structure) {
        let obj = self.obj();
        let message = gst::message::Element::builder(structure).src(&*obj).build();
        // Without a bus there is nobody to tell.
        let _ = obj.post_message(message);
    }

    /// What happens on the loader's thread.
    fn tell(&self, event: &Event) {
        let structure = gst::Structure::builder("matte-backend");
        match event {
            Event::Opening(target) => {
                gst::info!(CAT, imp = self, "opening {target:?}");
                if target.frame_size.is_some() {
                    self.post(
                        structure
                            .field("state", "opening")
                            .field("model", &target.model)
                            .field("requested", target.backend.name())
                            .build(),
                    );
                }
            }
            Event::Ready(target, stats, time) | Event::StandIn(target, stats, time) => {
                let stands_in = matches!(event, Event::StandIn(..));
                gst::info!(
                    CAT,
                    imp = self,
                    "backend {}{}, model {}, working size {:?}, opened in {time:?}",
                    stats.backend,
                    if stands_in { " for the time being" } else { "" },
                    stats.model,
                    stats.working_size
                );
                self.post(
                    structure
                        .field("state", "ready")
                        .field("backend", &stats.backend)
                        .field("model", &stats.model)
                        .field("requested", target.backend.name())
                        .field("stand-in", stands_in)
                        .field("working-width", stats.working_size.0)
                        .field("working-height", stats.working_size.1)
                        .field("open-time", clock_time(*time))
                        .build(),
                );
            }
            Event::Failed(target, error) => {
                let ends = {
                    let state = lock(&self.state);
                    let Some(state) = state.as_ref() else { return };
                    if state.ended {
                        return;
                    }
                    !state.ever_opened
                };
                self.post(
                    structure
                        .field("state", "failed")
                        .field("model", &target.model)
                        .field("requested", target.backend.name())
                        .field("reason", error.to_string())
                        .build(),
                );
                if ends {
                    self.post_error_message(error_message(error));
                    // Only now: a frame that is refused makes elements upstream report an error, which would come before the
                    // reason.
                    if let Some(state) = lock(&self.state).as_mut() {
                        state.ended = !state.ever_opened;
                    }
                } else {
                    gst::warning!(CAT, imp = self, "{target:?}: {error}");
                }
            }
        }
    }

    fn post_news(&self, news: Vec<News>, pts: Option<gst::ClockTime>) {
        if news.is_empty() {
            return;
        }
        let segment = self.obj().segment();
        let running_time = segment
            .downcast_ref::<gst::ClockTime>()
            .and_then(|segment| segment.to_running_time(pts?))
            .unwrap_or_default();
        let message = |name: &str| {
            gst::Structure::builder(name).field("running-time", running_time.nseconds())
        };
        let all_gone = |known: &Mutex<Vec<u64>>, name: &str| {
            let gone = std::mem::take(&mut *lock(known));
            for id in gone {
                self.post_numbered(message(name), id, "removed", None);
            }
        };
        for news in news {
            gst::info!(CAT, imp = self, "{news:?}, running time {running_time}");
            match news {
                News::Seeded(how) => self.post(message("matte-seeded").field("how", how).build()),
                News::SceneCut => {
                    self.post(message("matte-drift").field("state", "scene-cut").build());
                }
                News::TargetLost => {
                    self.post(message("matte-drift").field("state", "lost").build());
                }
                News::Drift(Repair::Started {
                    after_cut,
                    agreement,
                }) => self.post(
                    message("matte-drift")
                        .field("state", "started")
                        .field("after-cut", after_cut)
                        .field("agreement", f64::from(agreement))
                        .build(),
                ),
                News::Drift(_) => {
                    self.post(message("matte-drift").field("state", "finished").build());
                }
                News::ReferenceAdded(id) => {
                    lock(&self.references).push(id);
                    self.post_numbered(message("matte-reference"), id, "added", None);
                }
                News::ReferenceRemoved(id) => {
                    lock(&self.references).retain(|known| *known != id);
                    self.post_numbered(message("matte-reference"), id, "removed", None);
                }
                News::ReferencesGone => all_gone(&self.references, "matte-reference"),
                News::ReferenceFailed(id, reason) => {
                    lock(&self.references).retain(|known| *known != id);
                    self.post_numbered(message("matte-reference"), id, "failed", Some(&reason));
                    gst::element_imp_warning!(
                        self,
                        gst::LibraryError::Settings,
                        ("reference {id} is not added: {reason}")
                    );
                }
                News::TargetAdded(id) => {
                    lock(&self.targets).push(id);
                    self.has_come(id);
                    self.post_numbered(message("matte-target"), id, "added", None);
                }
                News::TargetRenewed(id) => {
                    self.post_numbered(message("matte-target"), id, "renewed", None);
                }
                News::TargetRemoved(id) => {
                    self.has_come(id);
                    lock(&self.targets).retain(|known| *known != id);
                    self.post_numbered(message("matte-target"), id, "removed", None);
                }
                News::TargetsGone(handed) => {
                    all_gone(&self.targets, "matte-target");
                    for id in handed {
                        self.has_come(id);
                        self.post_numbered(message("matte-target"), id, "removed", None);
                    }
                }
                News::TargetFailed(id, reason) => {
                    self.has_come(id);
                    lock(&self.targets).retain(|known| *known != id);
                    self.post_numbered(message("matte-target"), id, "failed", Some(&reason));
                    gst::element_imp_warning!(
                        self,
                        gst::LibraryError::Settings,
                        ("target {id} is not followed: {reason}")
                    );
                }
                News::Warning(warning) => {
                    gst::element_imp_warning!(self, gst::LibraryError::Failed, ("{warning}"));
                }
                News::NobodySeeds => gst::element_imp_warning!(
                    self,
                    gst::ResourceError::NotFound,
                    (
                        "seed=auto, but the model package {} is not installed, so that nobody is found: nothing is \
                         matted until mask-location is set; `cargo xtask setup` installs it",
                        ModelSet::SEGMENTATION
                    )
                ),
            }
        }
    }

    fn post_numbered(
        &self,
        message: gst::structure::Builder,
        id: u64,
        state: &str,
        reason: Option<&str>,
    ) {
        self.post(
            message
                .field("id", id)
                .field("state", state)
                .field_if_some("reason", reason)
                .build(),
        );
    }

    fn post_latency(&self) {
        let obj = self.obj();
        let _ = obj.post_message(gst::message::Latency::builder().src(&*obj).build());
    }

    /// One frame with its own matte; a quarter of one where no frame waits for the network. Where the frame rate is unknown
    /// or varies, as with WebRTC, a frame is taken for that of a usual camera.
    fn set_latency(&self, fps: gst::Fraction) {
        let frame = match (fps.numer(), fps.denom()) {
            (n, d) if n > 0 && d > 0 => gst::ClockTime::SECOND
                .mul_div_ceil(d as u64, n as u64)
                .unwrap_or(gst::ClockTime::ZERO),
            _ => USUAL_FRAME,
        };
        *lock(&self.frame_duration) = frame;
        let mode = lock(&self.settings).latency_mode;
        self.restart_latency(mode, true);
    }

    /// Starts measuring anew where that is due: with new caps and with another mode.
    fn restart_latency(&self, mode: LatencyMode, new_caps: bool) {
        let frame = *lock(&self.frame_duration);
        let step = Duration::from_nanos(match mode {
            LatencyMode::Aligned => frame.nseconds(),
            LatencyMode::Low => frame.nseconds() / 4,
        });
        let changed = {
            let mut latency = lock(&self.latency);
            let before = latency.reported();
            if new_caps || latency.step() != step {
                latency.reset(step);
            }
            latency.reported() != before
        };
        if changed {
            self.post_latency();
        }
    }

    /// Whether frames wait for a model, rather than show nothing.
    fn waits(&self) -> bool {
        let wait = lock(&self.settings).wait_for_model;
        match wait {
            WaitForModel::Always => true,
            WaitForModel::Never => false,
            WaitForModel::Auto => !self.is_live(),
        }
    }

    fn is_live(&self) -> bool {
        if let Some(live) = lock(&self.state).as_ref().and_then(|state| state.live) {
            return live;
        }
        let mut query = gst::query::Latency::new();
        if !self.obj().sink_pad().peer_query(&mut query) {
            // A source that does not know yet may know later.
            return false;
        }
        let live = query.result().0;
        if let Some(state) = lock(&self.state).as_mut() {
            state.live = Some(live);
        }
        live
    }

    fn act(&self, action: Action) -> bool {
        let mut actions = lock(&self.actions);
        if actions.len() >= MOST_ACTIONS {
            gst::warning!(
                CAT,
                imp = self,
                "{MOST_ACTIONS} actions wait for a frame already: another is refused"
            );
            return false;
        }
        actions.push(action);
        true
    }

    /// The mask in the sample of a signal; what is wrong with it is told.
    fn mask(&self, signal: &str, sample: Option<&gst::Sample>) -> Option<OwnedMask> {
        let mask = sample
            .ok_or_else(|| "there is no sample".to_owned())
            .and_then(OwnedMask::from_sample);
        match mask {
            Ok(mask) => Some(mask),
            Err(reason) => {
                gst::element_imp_warning!(
                    self,
                    gst::LibraryError::Settings,
                    ("{signal}: {reason}")
                );
                None
            }
        }
    }

    fn seed_from_sample(&self, sample: Option<&gst::Sample>) -> bool {
        self.mask("seed-from-sample", sample).is_some_and(|mask| {
            self.act(Action::Seed {
                mask,
                how: "sample",
            })
        })
    }

    fn seed_at(&self, x: f64, y: f64) -> bool {
        if !(x.is_finite() && y.is_finite()) {
            gst::element_imp_warning!(
                self,
                gst::LibraryError::Settings,
                ("seed-at: {x}, {y} is no place in the frame")
            );
            return false;
        }
        self.act(Action::SeedAt { x, y })
    }

    fn correct(&self, sample: Option<&gst::Sample>) -> bool {
        self.mask("correct", sample)
            .is_some_and(|mask| self.act(Action::Correct(mask)))
    }

    /// The reference's name; 0 where it is refused.
    fn add_reference(&self, mask: Option<&gst::Sample>, frame: Option<gst::Sample>) -> u64 {
        let Some(mask) = self.mask("add-reference", mask) else {
            return 0;
        };
        let id = 1 + self.next_reference.fetch_add(1, Ordering::Relaxed);
        match self.act(Action::AddReference { id, mask, frame }) {
            true => id,
            false => 0,
        }
    }

    fn remove_reference(&self, id: u64) -> bool {
        lock(&self.references).contains(&id) && self.act(Action::RemoveReference { id })
    }

    /// The target's name; 0 where it is refused.
    fn add_target(&self, mask: Option<&gst::Sample>) -> u64 {
        let Some(mask) = self.mask("add-target", mask) else {
            return 0;
        };
        let id = FIRST_TARGET + 1 + self.next_target.fetch_add(1, Ordering::Relaxed);
        // Before a frame may have added it.
        lock(&self.coming).push(id);
        let begun = None;
        if self.act(Action::AddTarget { id, mask, begun }) {
            return id;
        }
        self.has_come(id);
        0
    }

    /// A target is followed, or will not be.
    fn has_come(&self, id: u64) {
        lock(&self.coming).retain(|coming| *coming != id);
    }

    fn remove_target(&self, id: u64) -> bool {
        let is_in = |known: &Mutex<Vec<u64>>| lock(known).contains(&id);
        (is_in(&self.coming) || is_in(&self.targets)) && self.act(Action::RemoveTarget { id })
    }

    /// A frame, when nothing is locked.
    fn frame(
        &self,
        inframe: &VideoFrameRef<&gst::BufferRef>,
        outframe: &mut VideoFrameRef<&mut gst::BufferRef>,
    ) -> Result<gst::FlowSuccess, gst::FlowError> {
        let held = lock(&self.held).take();
        let fail = |message: gst::ErrorMessage| {
            self.post_error_message(message);
            gst::FlowError::Error
        };
        let waits = self.waits();
        let mode = lock(&self.settings).latency_mode;
        self.restart_latency(mode, false);
        let loader = self.loader().ok_or_else(|| fail(not_started()))?;
        let pts = inframe.buffer().pts();
        // These have no picture, or a broken one: the engine must not remember it.
        let is_broken = (inframe.buffer().flags())
            .intersects(gst::BufferFlags::GAP | gst::BufferFlags::CORRUPTED);
        loop {
            let mut guard = lock(&self.state);
            let state = guard.as_mut().ok_or_else(|| fail(not_started()))?;
            state.update(&lock(&self.settings), &loader);
            let without = (!state.has_engine()).then(|| state.without_engine(waits));
            match without {
                Some(Without::Wait(target)) => {
                    let news = state.take_news();
                    drop(guard);
                    self.post_news(news, pts);
                    match loader.wait(&target) {
                        Waited::Look => continue,
                        Waited::Flushing => return Err(gst::FlowError::Flushing),
                    }
                }
                Some(Without::Stop) => {
                    let news = state.take_news();
                    drop(guard);
                    self.post_news(news, pts);
                    return Err(gst::FlowError::Error);
                }
                None if waits && !is_broken => {
                    state.take_actions(&mut lock(&self.actions));
                    if state.opens_targets() {
                        let news = state.take_news();
                        drop(guard);
                        self.post_news(news, pts);
                        match loader.wait_a_moment() {
                            Waited::Look => continue,
                            Waited::Flushing => return Err(gst::FlowError::Flushing),
                        }
                    }
                }
                _ => {}
            }
            let start = Instant::now();
            let result = (|| {
                let stream = state.stream.clone().ok_or_else(|| {
                    gst::error_msg!(gst::CoreError::Negotiation, ("a frame before any caps"))
                })?;
                let picture = Picture {
                    view: input(inframe, &stream)?,
                    buffer: inframe.buffer(),
                };
                let frame = &picture.view;
                let mut output = output(outframe)?;
                if let Some(Without::Show(policy)) = without {
                    if policy == matte_core::Policy::Error {
                        return Err(gst::error_msg!(
                            gst::LibraryError::Failed,
                            ("there is no engine, and on-failure is error")
                        ));
                    }
                    return state.show(policy, frame, &mut output);
                }
                if is_broken {
                    let forgotten = lock(&self.actions).iter().any(Action::forgets);
                    // What videorate repeats, it marks as a gap: with other edges it would shimmer.
                    let is_same = mode == LatencyMode::Aligned
                        && !(inframe.buffer().flags()).contains(gst::BufferFlags::CORRUPTED);
                    return state.repeat(forgotten, is_same, frame, &mut output);
                }
                state.take_actions(&mut lock(&self.actions));
                state.process(mode, waits, held, &picture, &mut output)
            })();
            let news = state.take_news();
            drop(guard);
            self.post_news(news, pts);
            if lock(&self.latency).add(start.elapsed()) {
                self.post_latency();
            }
            return result.map(|()| gst::FlowSuccess::Ok).map_err(fail);
        }
    }
}

#[glib::object_subclass]
impl ObjectSubclass for MatteFilter {
    const NAME: &'static str = "GstMatteFilter";
    type Type = super::MatteFilter;
    type ParentType = gst_video::VideoFilter;
    type Interfaces = (gst::Preset,);
}

#[glib::derived_properties]
impl ObjectImpl for MatteFilter {
    // `stats`, `references` and `targets` are of types that the derive does not know.
    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
            let stats = glib::ParamSpecBoxed::builder::<gst::Structure>(STATS)
                .nick("Statistics")
                .blurb(
                    "backend, model (strings); working-width, working-height (pixels); frames, frames-without-matte, \
                     frames-dropped (by QoS), memory-frames (counts); latency (as it is reported, nanoseconds); p50, \
                     p99 and mean of preprocess-, prior-, matte-, postprocess-, value- and memorize- (microseconds, \
                     over the last runs)",
                )
                .read_only()
                .build();
            let numbers = |name, nick, blurb| {
                gst::ParamSpecArray::builder(name)
                    .nick(nick)
                    .blurb(blurb)
                    .element_spec(
                        &glib::ParamSpecUInt64::builder("number")
                            .nick("Number")
                            .blurb("Number that the signal has given")
                            .read_only()
                            .build(),
                    )
                    .read_only()
                    .build()
            };
            let references = numbers(
                REFERENCES,
                "Reference frames",
                "Numbers of the reference frames that the memory holds, as add-reference has given them",
            );
            let targets = numbers(
                TARGETS,
                "Further targets",
                "Numbers of the targets that are followed beside the first, as add-target has given them",
            );
            MatteFilter::derived_properties()
                .iter()
                .cloned()
                .chain([references, targets, stats])
                .collect()
        });
        &PROPERTIES
    }

    fn signals() -> &'static [glib::subclass::Signal] {
        static SIGNALS: LazyLock<Vec<glib::subclass::Signal>> = LazyLock::new(|| {
            let sample = gst::Sample::static_type();
            vec![
                // `gboolean seed-from-sample (GstSample * mask)`: the mask names a new target on the next frame.
                glib::subclass::Signal::builder("seed-from-sample")
                    .param_types([sample])
                    .return_type::<bool>()
                    .action()
                    .class_handler(|args| {
                        let (this, sample) = (element(args)?, optional_sample(&args[1]));
                        Some(this.imp().seed_from_sample(sample.as_ref()).to_value())
                    })
                    .build(),
                // `gboolean seed-at (gdouble x, gdouble y)`: who is there, in pixels of the frame, is the new target.
                glib::subclass::Signal::builder("seed-at")
                    .param_types([f64::static_type(), f64::static_type()])
                    .return_type::<bool>()
                    .action()
                    .class_handler(|args| {
                        let this = element(args)?;
                        let (x, y) = (args[1].get().ok()?, args[2].get().ok()?);
                        Some(this.imp().seed_at(x, y).to_value())
                    })
                    .build(),
                // `gboolean correct (GstSample * mask)`: the mask is what the target covers on the next frame.
                glib::subclass::Signal::builder("correct")
                    .param_types([sample])
                    .return_type::<bool>()
                    .action()
                    .class_handler(|args| {
                        let (this, sample) = (element(args)?, optional_sample(&args[1]));
                        Some(this.imp().correct(sample.as_ref()).to_value())
                    })
                    .build(),
                // `guint64 add-reference (GstSample * mask, GstSample * frame)`: `NULL` takes the next frame.
                glib::subclass::Signal::builder("add-reference")
                    .param_types([sample, sample])
                    .return_type::<u64>()
                    .action()
                    .class_handler(|args| {
                        let this = element(args)?;
                        let (mask, frame) = (optional_sample(&args[1]), optional_sample(&args[2]));
                        Some(this.imp().add_reference(mask.as_ref(), frame).to_value())
                    })
                    .build(),
                // `gboolean remove-reference (guint64 id)`.
                glib::subclass::Signal::builder("remove-reference")
                    .param_types([u64::static_type()])
                    .return_type::<bool>()
                    .action()
                    .class_handler(|args| {
                        let this = element(args)?;
                        Some(this.imp().remove_reference(args[1].get().ok()?).to_value())
                    })
                    .build(),
                // `guint64 add-target (GstSample * mask)`: the mask names one more target on the next frame.
                glib::subclass::Signal::builder("add-target")
                    .param_types([sample])
                    .return_type::<u64>()
                    .action()
                    .class_handler(|args| {
                        let (this, sample) = (element(args)?, optional_sample(&args[1]));
                        Some(this.imp().add_target(sample.as_ref()).to_value())
                    })
                    .build(),
                // `gboolean remove-target (guint64 id)`.
                glib::subclass::Signal::builder("remove-target")
                    .param_types([u64::static_type()])
                    .return_type::<bool>()
                    .action()
                    .class_handler(|args| {
                        let this = element(args)?;
                        Some(this.imp().remove_target(args[1].get().ok()?).to_value())
                    })
                    .build(),
                // `void reset ()`: the target and the memory are forgotten.
                glib::subclass::Signal::builder("reset")
                    .action()
                    .class_handler(|args| {
                        element(args)?.imp().act(Action::Reset);
                        None
                    })
                    .build(),
            ]
        });
        &SIGNALS
    }

    fn property(&self, id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        match pspec.name() {
            STATS => self.stats().to_value(),
            REFERENCES => gst::Array::new(lock(&self.references).iter().copied()).to_value(),
            TARGETS => gst::Array::new(lock(&self.targets).iter().copied()).to_value(),
            _ => self.derived_property(id, pspec),
        }
    }

    fn constructed(&self) {
        self.parent_constructed();
        let obj = self.obj();
        obj.set_qos(true);
        // Otherwise the flag would be lost on the way.
        obj.set_gap_aware(true);
    }
}

/// The element that a signal is for.
fn element(args: &[glib::Value]) -> Option<super::MatteFilter> {
    args.first()?.get().ok()
}

fn optional_sample(value: &glib::Value) -> Option<gst::Sample> {
    value.get::<Option<gst::Sample>>().ok().flatten()
}

impl GstObjectImpl for MatteFilter {}

impl PresetImpl for MatteFilter {}

impl ElementImpl for MatteFilter {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "Matte filter",
                "Filter/Effect/Converter/Video",
                "Cuts a person, or what a mask names, out of live video without a green screen",
                env!("CARGO_PKG_REPOSITORY"),
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            let template = |name, direction, formats: &[gst_video::VideoFormat]| {
                let sides = 1..=matte_core::frame::MAX_SIDE as i32;
                let caps = gst_video::VideoCapsBuilder::new()
                    .format_list(formats.iter().copied())
                    .width_range(sides.clone())
                    .height_range(sides)
                    .build();
                gst::PadTemplate::new(name, direction, gst::PadPresence::Always, &caps)
                    .expect("the name and the caps of a template are constants")
            };
            vec![
                template("sink", gst::PadDirection::Sink, &caps::SINK_FORMATS),
                template("src", gst::PadDirection::Src, &caps::SRC_FORMATS),
            ]
        });
        &TEMPLATES
    }

    fn change_state(
        &self,
        transition: gst::StateChange,
    ) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        if transition == gst::StateChange::PausedToReady
            && let Some(loader) = self.loader()
        {
            // A frame that waits for a model would hold the change up.
            loader.set_flushing(true);
        }
        self.parent_change_state(transition)
    }
}

impl BaseTransformImpl for MatteFilter {
    const MODE: BaseTransformMode = BaseTransformMode::NeverInPlace;
    const PASSTHROUGH_ON_SAME_CAPS: bool = false;
    const TRANSFORM_IP_ON_PASSTHROUGH: bool = false;

    fn start(&self) -> Result<(), gst::ErrorMessage> {
        let (location, seed, target, options) = {
            let settings = lock(&self.settings);
            let working_size = settings
                .working_size()
                .map_err(|e| gst::error_msg!(gst::LibraryError::Settings, ("{e}")))?;
            (
                settings.mask_location.clone(),
                settings.seed,
                settings.target(working_size, None, 0),
                settings.live_options(&Options::default()),
            )
        };
        let mask = location
            .as_ref()
            .map(MaskImage::read)
            .transpose()
            .map_err(|e| error_message(&e))?;
        if seed == Seed::Mask && mask.is_none() {
            gst::element_imp_warning!(
                self,
                gst::LibraryError::Settings,
                ("seed=mask, but mask-location is not set: nothing is matted until it is")
            );
        }
        let loader = {
            let mut loader = lock(&self.loader);
            if let Some(loader) = &*loader {
                std::sync::Arc::clone(loader)
            } else {
                let weak = self.ref_counted().downgrade();
                let new = Loader::new(move |event| {
                    if let Some(this) = weak.upgrade() {
                        this.tell(&event);
                    }
                })
                .map_err(|e| {
                    gst::error_msg!(gst::ResourceError::NoSpaceLeft, ("no thread: {e}"))
                })?;
                std::sync::Arc::clone(loader.insert(std::sync::Arc::new(new)))
            }
        };
        loader.set_flushing(false);
        *lock(&self.state) =
            Some(State::new(location, mask, options).map_err(|e| error_message(&e))?);
        // That there is no such model is told at once, not when frames come.
        loader.want(&target, Urgency::NothingServes);
        Ok(())
    }

    fn stop(&self) -> Result<(), gst::ErrorMessage> {
        let state = lock(&self.state).take();
        if let Some(loader) = self.loader() {
            loader.cancel();
            // Waiting for the worker and freeing take their time elsewhere.
            if let Some(mut state) = state {
                loader.discard(Box::new(state.take_slow()));
            }
        }
        lock(&self.actions).clear();
        lock(&self.references).clear();
        lock(&self.targets).clear();
        lock(&self.coming).clear();
        *lock(&self.held) = None;
        *lock(&self.stream_id) = None;
        *lock(&self.refused) = None;
        *lock(&self.frame_duration) = gst::ClockTime::ZERO;
        lock(&self.latency).reset(Duration::ZERO);
        self.dropped.store(0, Ordering::Relaxed);
        Ok(())
    }

    fn transform_caps(
        &self,
        direction: gst::PadDirection,
        caps: &gst::Caps,
        filter: Option<&gst::Caps>,
    ) -> Option<gst::Caps> {
        let other = caps::transform(direction, caps);
        let other = match filter {
            Some(filter) => filter.intersect_with_mode(&other, gst::CapsIntersectMode::First),
            None => other,
        };
        gst::debug!(CAT, imp = self, "{direction:?}: {caps} becomes {other}");
        Some(other)
    }

    fn fixate_caps(
        &self,
        direction: gst::PadDirection,
        caps: &gst::Caps,
        mut othercaps: gst::Caps,
    ) -> gst::Caps {
        if direction == gst::PadDirection::Sink {
            caps::prefer(caps, othercaps.make_mut());
        }
        self.parent_fixate_caps(direction, caps, othercaps)
    }

    fn query(&self, direction: gst::PadDirection, query: &mut gst::QueryRef) -> bool {
        if direction == gst::PadDirection::Src
            && let gst::QueryViewMut::Latency(latency) = query.view_mut()
        {
            let mut upstream = gst::query::Latency::new();
            if !self.obj().sink_pad().peer_query(&mut upstream) {
                return false;
            }
            let own = clock_time(lock(&self.latency).reported());
            let (live, min, max) = upstream.result();
            latency.set(live, min + own, max.map(|max| max + own));
            return true;
        }
        BaseTransformImplExt::parent_query(self, direction, query)
    }

    fn propose_allocation(
        &self,
        decide_query: Option<&gst::query::Allocation>,
        query: &mut gst::query::Allocation,
    ) -> Result<(), gst::LoggableError> {
        self.parent_propose_allocation(decide_query, query)?;
        // A decoder may hand its whole buffer over.
        query.add_allocation_meta::<VideoCropMeta>(None);
        Ok(())
    }

    fn transform_meta<'a>(
        &self,
        outbuf: &'a mut gst::BufferRef,
        meta: gst::MetaRef<'a, gst::Meta>,
        inbuf: &'a gst::BufferRef,
    ) -> bool {
        // What comes out is cropped already.
        meta.api() != VideoCropMeta::meta_api() && self.parent_transform_meta(outbuf, meta, inbuf)
    }

    fn sink_event(&self, event: gst::Event) -> bool {
        match event.view() {
            gst::EventView::FlushStart(_) => {
                if let Some(loader) = self.loader() {
                    loader.set_flushing(true);
                }
            }
            gst::EventView::FlushStop(_) => {
                if let Some(loader) = self.loader() {
                    loader.set_flushing(false);
                }
                if let Some(state) = lock(&self.state).as_mut() {
                    state.flushed();
                }
            }
            gst::EventView::StreamStart(start) => {
                let id = glib::GString::from(start.stream_id());
                let before = lock(&self.stream_id).replace(id.clone());
                if before.is_some_and(|before| before != id) {
                    gst::info!(
                        CAT,
                        imp = self,
                        "another stream, {id}: the target is forgotten"
                    );
                    lock(&self.actions).push(Action::NewSource);
                }
            }
            _ => {}
        }
        self.parent_sink_event(event)
    }

    fn src_event(&self, event: gst::Event) -> bool {
        if let gst::EventView::Navigation(_) = event.view()
            && lock(&self.settings).click_to_seed
            && let Ok(NavigationEvent::MouseButtonPress {
                button: 1, x, y, ..
            }) = NavigationEvent::parse(&event)
        {
            gst::debug!(CAT, imp = self, "click at {x}, {y}");
            return self.seed_at(x, y);
        }
        self.parent_src_event(event)
    }

    fn before_transform(&self, inbuf: &gst::BufferRef) {
        let obj = self.obj();
        let time = obj
            .segment()
            .downcast_ref::<gst::ClockTime>()
            .and_then(|segment| segment.to_stream_time(inbuf.pts()?));
        if let Some(time) = time {
            // Fails where nothing is controlled.
            let _ = obj.sync_values(time);
        }
    }

    fn submit_input_buffer(
        &self,
        is_discont: bool,
        inbuf: gst::Buffer,
    ) -> Result<gst::FlowSuccess, gst::FlowError> {
        let low = lock(&self.settings).latency_mode == LatencyMode::Low;
        let held = low.then(|| inbuf.clone());
        let flow = self.parent_submit_input_buffer(is_discont, inbuf)?;
        if flow == gst_base::BASE_TRANSFORM_FLOW_DROPPED {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        } else {
            *lock(&self.held) = held;
        }
        Ok(flow)
    }
}

impl VideoFilterImpl for MatteFilter {
    fn set_info(
        &self,
        incaps: &gst::Caps,
        in_info: &VideoInfo,
        _outcaps: &gst::Caps,
        _out_info: &VideoInfo,
    ) -> Result<(), gst::LoggableError> {
        let refusal = || {
            gst::loggable_error!(
                CAT,
                "the stream cannot be matted; the error message says why"
            )
        };
        if lock(&self.refused).as_ref() == Some(incaps) {
            return Err(refusal());
        }
        let loader = self.loader().ok_or_else(refusal)?;
        let started = refused(in_info).map_or(Ok(()), Err).and_then(|()| {
            let mut state = lock(&self.state);
            let state = state.as_mut().ok_or_else(not_started)?;
            state.set_stream(in_info, &loader);
            state.update(&lock(&self.settings), &loader);
            Ok(())
        });
        if let Err(message) = started {
            *lock(&self.refused) = Some(incaps.clone());
            self.post_error_message(message);
            return Err(refusal());
        }
        self.set_latency(in_info.fps());
        Ok(())
    }

    fn transform_frame(
        &self,
        inframe: &VideoFrameRef<&gst::BufferRef>,
        outframe: &mut VideoFrameRef<&mut gst::BufferRef>,
    ) -> Result<gst::FlowSuccess, gst::FlowError> {
        self.frame(inframe, outframe)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_that_were_to_be_added_by_a_lost_engine_are_removed() {
        gst::init().unwrap();
        let element: super::super::MatteFilter = glib::Object::new();
        let bus = gst::Bus::new();
        element.set_bus(Some(&bus));
        let this = element.imp();
        lock(&this.targets).push(2);
        lock(&this.coming).extend([3, 4]);
        this.post_news(vec![News::TargetsGone(vec![3])], None);
        let mut removed = Vec::new();
        while let Some(message) = bus.pop_filtered(&[gst::MessageType::Element]) {
            let told = message.structure().unwrap();
            assert_eq!(told.get::<&str>("state"), Ok("removed"));
            removed.push(told.get::<u64>("id").unwrap());
        }
        assert_eq!(removed, [2, 3]);
        assert!(!this.remove_target(3), "it is known no more");
        assert!(this.remove_target(4), "it is still to come");
    }
}
