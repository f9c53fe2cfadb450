#![allow(
    missing_docs,
    reason = "the property accessors that the derive writes; the blurbs are their documentation"
)]

use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use gst::glib;
use gst::subclass::prelude::*;
use gst_base::prelude::*;
use gst_base::subclass::BaseTransformMode;
use gst_base::subclass::prelude::*;
use gst_video::prelude::*;
use gst_video::subclass::prelude::*;
use gst_video::{VideoFrameRef, VideoInfo, VideoInterlaceMode, VideoMultiviewMode};
use matte_core::{
    Error, Frame, MaskImage, MatteState, Matter, ModelSet, Options, OutputMut, Plane, SeedMode,
    Stage,
};

use super::caps;
use super::engine::{Engine, Lost};
use super::properties::{
    DEFAULT_MODEL, ExecutionProvider, FramePolicy, RefineMode, Seed, Settings, highest, range,
};
use crate::logging::CAT;

/// From `start` to `stop`.
struct State {
    models: ModelSet,
    /// Opened with the first caps.
    engine: Option<Engine>,
    /// Options that the engine has.
    options: Options,
    /// What `mask-location` was when the mask was read.
    mask_location: Option<String>,
    mask: Option<MaskImage>,
    /// The mask is to name the target on the next frame.
    mask_waits: bool,
    /// The last frame has got no matte because the network failed; it has been reported.
    failing: bool,
}

/// What a frame gives the application to know, once nothing is locked any more.
#[derive(Default)]
struct News {
    seeded: Option<&'static str>,
    warning: Option<String>,
}

#[derive(glib::Properties, Default)]
#[properties(wrapper_type = super::MatteFilter)]
pub struct MatteFilter {
    #[property(name = "model", get, set, type = String, member = model, nick = "Model",
        blurb = "Name or directory of the model package", default = Some(DEFAULT_MODEL), mutable_ready)]
    #[property(name = "execution-provider", get, set, type = ExecutionProvider, member = execution_provider,
        nick = "Execution provider", blurb = "What runs the network; only auto falls back to another",
        builder(ExecutionProvider::default()).mutable_ready())]
    #[property(name = "working-size", get, set, type = String, member = working_size, nick = "Working size",
        blurb = "Size at which the network sees the frame, WIDTHxHEIGHT in pixels; empty: from the frame size and the \
        model. Smaller is faster", default = Some(""), mutable_ready)]
    #[property(name = "mask-location", get, set, type = Option<String>, member = mask_location, nick = "Mask location",
        blurb = "PNG or JPEG file with the mask of the first frame: white where the target is, any size with the \
        aspect ratio of the frame. Set while playing, it is the mask of the next frame and names a new target",
        mutable_playing)]
    #[property(name = "seed", get, set, type = Seed, member = seed, nick = "Seed",
        blurb = "Where the first mask comes from", builder(Settings::default().seed).mutable_playing())]
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
        package says)", minimum = 0, maximum = highest("memory_frames"), default = Settings::default().memory_frames,
        mutable_ready)]
    #[property(name = "max-references", get, set, type = u32, member = max_references, nick = "Maximum references",
        blurb = "Room in the memory for reference frames; each costs time, also while it is empty",
        minimum = range("max_references").0, maximum = highest("max_references"),
        default = Settings::default().max_references, mutable_ready)]
    #[property(name = "threads", get, set, type = u32, member = threads, nick = "Threads",
        blurb = "Threads of the CPU execution provider (0: as many as there are cores)",
        minimum = range("threads").0, maximum = highest("threads"), default = Settings::default().threads,
        mutable_ready)]
    #[property(name = "use-prior", get, set, type = bool, member = use_prior, nick = "Use prior",
        blurb = "Give the network a person segmentation of every frame as a hint, where the model package takes one",
        default = Settings::default().use_prior, mutable_playing)]
    #[property(name = "refine", get, set, type = RefineMode, member = refine, nick = "Refine",
        blurb = "How the matte gets from the working size to the size of the frame",
        builder(Settings::default().refine).mutable_playing())]
    #[property(name = "before-seed", get, set, type = FramePolicy, member = before_seed, nick = "Before seed",
        blurb = "What a frame shows before there is a target",
        builder(Settings::default().before_seed).mutable_playing())]
    #[property(name = "on-failure", get, set, type = FramePolicy, member = on_failure, nick = "On failure",
        blurb = "What a frame shows when the network fails",
        builder(Settings::default().on_failure).mutable_playing())]
    settings: Mutex<Settings>,

    /// Locked for as long as a frame takes; messages are posted without it, as their receivers may read `stats`.
    state: Mutex<Option<State>>,

    /// Caps that have been refused: GStreamer offers them again, and neither the work nor the error is to be repeated.
    refused: Mutex<Option<gst::Caps>>,

    /// One frame at the caps' frame rate, and nothing where that is unknown.
    latency: Mutex<gst::ClockTime>,
}

const STATS: &str = "stats";

/// A panic in the middle of a frame is reported by the element itself and ends the stream; what the lock guards is only
/// read or dropped after that.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The engine's error as GStreamer sorts errors.
fn error_message(error: &Error) -> gst::ErrorMessage {
    match error {
        Error::ModelNotFound { .. } | Error::MaskFile { .. } => {
            gst::error_msg!(gst::ResourceError::NotFound, ("{error}"))
        }
        Error::Runtime { .. } | Error::Backend { .. } => {
            gst::error_msg!(gst::LibraryError::Init, ("{error}"))
        }
        Error::Ort { .. } => gst::error_msg!(gst::LibraryError::Failed, ("{error}")),
        _ => gst::error_msg!(gst::LibraryError::Settings, ("{error}")),
    }
}

fn lost(_: Lost) -> gst::ErrorMessage {
    gst::error_msg!(
        gst::LibraryError::Failed,
        ("the engine panicked while it remembered a frame")
    )
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

fn input<'a>(frame: &'a VideoFrameRef<&gst::BufferRef>) -> Result<Frame<'a>, gst::ErrorMessage> {
    let wrong = |what: &str| gst::error_msg!(gst::StreamError::Format, ("input buffer: {what}"));
    let format = caps::pixel_format(frame.format())
        .ok_or_else(|| wrong("format that the caps do not allow"))?;
    let mut planes = [Plane::default(); 3];
    for (i, plane) in planes.iter_mut().enumerate().take(format.planes()) {
        *plane = Plane {
            data: frame
                .plane_data(i as u32)
                .map_err(|e| wrong(&e.to_string()))?,
            stride: usize::try_from(frame.plane_stride()[i])
                .map_err(|_| wrong("negative stride"))?,
        };
    }
    Frame::new(
        format,
        frame.width(),
        frame.height(),
        &planes,
        caps::colorimetry(frame.info()),
    )
    .map_err(|e| error_message(&e))
}

fn output<'a>(
    frame: &'a mut VideoFrameRef<&mut gst::BufferRef>,
) -> Result<OutputMut<'a>, gst::ErrorMessage> {
    let wrong = |what: &str| gst::error_msg!(gst::StreamError::Format, ("output buffer: {what}"));
    let format = caps::output_format(frame.format())
        .ok_or_else(|| wrong("format that the caps do not allow"))?;
    let stride = usize::try_from(frame.plane_stride()[0]).map_err(|_| wrong("negative stride"))?;
    let (width, height) = (frame.width(), frame.height());
    let data = frame.plane_data_mut(0).map_err(|e| wrong(&e.to_string()))?;
    OutputMut::new(format, width, height, data, stride).map_err(|e| error_message(&e))
}

impl State {
    /// Takes over what the properties say now.
    fn update(
        &mut self,
        settings: &Mutex<Settings>,
        news: &mut News,
    ) -> Result<(), gst::ErrorMessage> {
        let Some(engine) = &mut self.engine else {
            return Ok(());
        };
        let new_mask = {
            let settings = lock(settings);
            let wanted = settings.live_options(&self.options);
            if wanted != self.options {
                self.options = wanted.clone();
                if let Err(e) = engine.matter().map_err(lost)?.set_options(wanted) {
                    news.warning = Some(e.to_string());
                }
            }
            (settings.mask_location != self.mask_location).then(|| settings.mask_location.clone())
        };
        if let Some(location) = new_mask {
            let mask = location.as_ref().map(MaskImage::read).transpose();
            // A file that cannot be read is not tried again with every frame, and the old target stays.
            self.mask_location = location;
            match mask {
                Ok(mask) => {
                    self.mask_waits = mask.is_some();
                    self.mask = mask;
                }
                Err(e) => news.warning = Some(format!("the target stays as it was: {e}")),
            }
        }
        Ok(())
    }

    /// One frame. Returns whether the engine is to remember it.
    fn process(
        &mut self,
        frame: &Frame,
        output: &mut OutputMut,
        news: &mut News,
    ) -> Result<bool, gst::ErrorMessage> {
        let Some(engine) = &mut self.engine else {
            return Err(gst::error_msg!(
                gst::CoreError::Negotiation,
                ("a frame before any caps")
            ));
        };
        engine.matter().map_err(lost)?;
        let mut failure = engine
            .take_failure()
            .map(|e| format!("the last frame could not be remembered: {e}"));
        let matter = engine.matter().map_err(lost)?;

        let mut with_mask = false;
        if let (true, SeedMode::Mask, Some(mask)) = (self.mask_waits, self.options.seed, &self.mask)
        {
            matter.queue_seed(&mask.as_mask());
            self.mask_waits = false;
            with_mask = true;
        }
        let report = match matter.process(frame, output) {
            // Without a target all frames would be empty, and the reason would be easy to miss: that ends the stream.
            Err(e @ (Error::MaskAspect { .. } | Error::MaskEmpty { .. })) if matter.is_seeded() => {
                news.warning = Some(format!("the target stays as it was: {e}"));
                with_mask = false;
                matter.process(frame, output)
            }
            report => report,
        };
        let remember = match report.map_err(|e| error_message(&e))?.matte {
            MatteState::Seeded => {
                news.seeded = Some(if with_mask { "mask" } else { "automatic" });
                true
            }
            MatteState::Failed(reason) => {
                failure = Some(format!("no matte: {reason}"));
                self.mask_waits = with_mask && !matter.is_seeded();
                false
            }
            MatteState::BeforeSeed => false,
            _ => true,
        };
        // A failure lasts, mostly: one warning for all its frames.
        let failed = failure.is_some();
        if !self.failing {
            news.warning = failure.or(news.warning.take());
        }
        self.failing = failed;
        Ok(remember)
    }
}

impl MatteFilter {
    fn stats(&self) -> gst::Structure {
        let stats = match lock(&self.state)
            .as_mut()
            .and_then(|state| state.engine.as_mut())
        {
            Some(engine) => engine.matter().ok().map(|matter| matter.stats()),
            None => None,
        };
        let structure = gst::Structure::builder("application/x-matte-stats");
        let Some(stats) = stats else {
            return structure.build();
        };
        let mut structure = structure
            .field("backend", &stats.backend)
            .field("model", &stats.model)
            .field("working-width", stats.working_size.0)
            .field("working-height", stats.working_size.1)
            .field("frames", stats.frames)
            .field("frames-without-matte", stats.frames_without_matte)
            .field("memory-frames", stats.memory_frames);
        for stage in Stage::ALL {
            let times = stats.stage(stage);
            for (what, time) in [("p50", times.p50), ("p99", times.p99), ("mean", times.mean)] {
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

    fn post_backend(&self, backend: &str, model: &str, (width, height): (u32, u32)) {
        gst::info!(
            CAT,
            imp = self,
            "backend {backend}, model {model}, working size {width}x{height}"
        );
        self.post(
            gst::Structure::builder("matte-backend")
                .field("backend", backend)
                .field("model", model)
                .field("working-width", width)
                .field("working-height", height)
                .build(),
        );
    }

    fn post_news(&self, news: News, pts: Option<gst::ClockTime>) {
        if let Some(how) = news.seeded {
            let segment = self.obj().segment();
            let running_time = segment
                .downcast_ref::<gst::ClockTime>()
                .and_then(|segment| segment.to_running_time(pts?))
                .unwrap_or_default();
            gst::info!(
                CAT,
                imp = self,
                "seeded: {how}, running time {running_time}"
            );
            self.post(
                gst::Structure::builder("matte-seeded")
                    .field("running-time", running_time.nseconds())
                    .field("how", how)
                    .build(),
            );
        }
        if let Some(warning) = news.warning {
            gst::element_imp_warning!(self, gst::LibraryError::Failed, ("{warning}"));
        }
    }

    fn set_latency(&self, fps: gst::Fraction) {
        let frame = match (fps.numer(), fps.denom()) {
            (n, d) if n > 0 && d > 0 => gst::ClockTime::SECOND
                .mul_div_ceil(d as u64, n as u64)
                .unwrap_or(gst::ClockTime::ZERO),
            _ => gst::ClockTime::ZERO,
        };
        if std::mem::replace(&mut *lock(&self.latency), frame) != frame {
            let obj = self.obj();
            let _ = obj.post_message(gst::message::Latency::builder().src(&*obj).build());
        }
    }

    /// Opens the engine for this size, or keeps the one that is open.
    fn open(&self, info: &VideoInfo) -> Result<(), gst::ErrorMessage> {
        let size = (info.width(), info.height());
        let not_started = || gst::error_msg!(gst::CoreError::StateChange, ("not started"));
        let (models, engine, provider, options) = {
            let mut state = lock(&self.state);
            let state = state.as_mut().ok_or_else(not_started)?;
            let settings = lock(&self.settings);
            let options = settings
                .options()
                .map_err(|e| gst::error_msg!(gst::LibraryError::Settings, ("{e}")))?;
            (
                state.models.clone(),
                state.engine.take(),
                settings.execution_provider,
                options,
            )
        };

        // Opening takes seconds with some providers: nothing is locked meanwhile.
        let fresh = engine.is_none();
        let mut engine = if let Some(mut engine) = engine {
            engine
                .matter()
                .map_err(lost)?
                .resize(size)
                .map_err(|e| error_message(&e))?;
            engine
        } else {
            let matter = Matter::open(&models, provider.into(), options.clone(), size)
                .map_err(|e| error_message(&e))?;
            Engine::new(matter).map_err(|e| {
                gst::error_msg!(gst::ResourceError::NoSpaceLeft, ("no worker thread: {e}"))
            })?
        };
        let matter = engine.matter().map_err(lost)?;
        let (seeded, stats) = (matter.is_seeded(), matter.stats());
        let nobody_seeds =
            matter.options().seed == SeedMode::Auto && !matter.can_seed_automatically();

        {
            let mut state = lock(&self.state);
            let state = state.as_mut().ok_or_else(not_started)?;
            state.engine = Some(engine);
            if fresh {
                state.options = options;
            }
            state.mask_waits |= !seeded && state.mask.is_some();
        }
        self.post_backend(&stats.backend, &stats.model, stats.working_size);
        if fresh && nobody_seeds {
            gst::element_imp_warning!(
                self,
                gst::ResourceError::NotFound,
                (
                    "seed=auto, but the model package {} is not installed, so that nobody is found: nothing is matted \
                     until mask-location is set; `cargo xtask setup` installs it",
                    ModelSet::SEGMENTATION
                )
            );
        }
        Ok(())
    }
}

#[glib::object_subclass]
impl ObjectSubclass for MatteFilter {
    const NAME: &'static str = "GstMatteFilter";
    type Type = super::MatteFilter;
    type ParentType = gst_video::VideoFilter;
}

#[glib::derived_properties]
impl ObjectImpl for MatteFilter {
    // `stats` is a structure, which the derive does not know.
    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
            let stats = glib::ParamSpecBoxed::builder::<gst::Structure>(STATS)
                .nick("Statistics")
                .blurb(
                    "backend, model (strings); working-width, working-height (pixels); frames, frames-without-matte, \
                     memory-frames (counts); p50, p99 and mean of preprocess-, prior-, matte-, postprocess-, value- and \
                     memorize- (microseconds, over the last runs)",
                )
                .read_only()
                .build();
            MatteFilter::derived_properties()
                .iter()
                .cloned()
                .chain([stats])
                .collect()
        });
        &PROPERTIES
    }

    fn property(&self, id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        match pspec.name() {
            STATS => self.stats().to_value(),
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

impl GstObjectImpl for MatteFilter {}

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
}

impl BaseTransformImpl for MatteFilter {
    const MODE: BaseTransformMode = BaseTransformMode::NeverInPlace;
    const PASSTHROUGH_ON_SAME_CAPS: bool = false;
    const TRANSFORM_IP_ON_PASSTHROUGH: bool = false;

    fn start(&self) -> Result<(), gst::ErrorMessage> {
        let (model, location, seed) = {
            let settings = lock(&self.settings);
            settings
                .options()
                .map_err(|e| gst::error_msg!(gst::LibraryError::Settings, ("{e}")))?;
            (
                settings.model.clone(),
                settings.mask_location.clone(),
                settings.seed,
            )
        };
        let models = ModelSet::find(&model).map_err(|e| error_message(&e))?;
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
        *lock(&self.state) = Some(State {
            models,
            engine: None,
            options: Options::default(),
            mask_location: location,
            mask_waits: mask.is_some(),
            mask,
            failing: false,
        });
        Ok(())
    }

    fn stop(&self) -> Result<(), gst::ErrorMessage> {
        gst::info!(CAT, imp = self, "{}", self.stats());
        // Taken out first: the worker is waited for without the lock.
        let state = lock(&self.state).take();
        drop(state);
        *lock(&self.refused) = None;
        *lock(&self.latency) = gst::ClockTime::ZERO;
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
            let own = *lock(&self.latency);
            let (live, min, max) = upstream.result();
            latency.set(live, min + own, max.map(|max| max + own));
            return true;
        }
        BaseTransformImplExt::parent_query(self, direction, query)
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
        if let Err(message) = refused(in_info)
            .map_or(Ok(()), Err)
            .and_then(|()| self.open(in_info))
        {
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
        if inframe.buffer().flags().contains(gst::BufferFlags::GAP) {
            // There is no picture: the engine must not remember one.
            for plane in 0..outframe.n_planes() {
                if let Ok(data) = outframe.plane_data_mut(plane) {
                    data.fill(0);
                }
            }
            return Ok(gst::FlowSuccess::Ok);
        }

        let mut news = News::default();
        let result = (|| {
            let frame = input(inframe)?;
            let mut output = output(outframe)?;
            let mut state = lock(&self.state);
            let Some(state) = state.as_mut() else {
                return Err(gst::error_msg!(
                    gst::CoreError::StateChange,
                    ("not started")
                ));
            };
            state.update(&self.settings, &mut news)?;
            let remember = state.process(&frame, &mut output, &mut news)?;
            if remember && let Some(engine) = &mut state.engine {
                engine.remember();
            }
            Ok(gst::FlowSuccess::Ok)
        })();
        self.post_news(news, inframe.buffer().pts());
        result.map_err(|message| {
            self.post_error_message(message);
            gst::FlowError::Error
        })
    }
}
