//! The element's settings, as properties show them, and as the engine takes them.

use gst::glib;
use matte_core::{
    AlphaMode, Backend, Background, Foreground, Options, Policy, Precision, Refine, Region,
    SeedMode,
};

use super::loader::Target;

/// Conversions between an option of the engine and the property of the same names.
macro_rules! same_names {
    ($option:ident, $property:ident: $($name:ident),+) => {
        impl From<$option> for $property {
            fn from(value: $option) -> Self {
                match value {
                    $($option::$name => Self::$name,)+
                }
            }
        }

        impl From<$property> for $option {
            fn from(value: $property) -> Self {
                match value {
                    $($property::$name => Self::$name,)+
                }
            }
        }
    };
}

/// What runs the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstMatteFilterExecutionProvider")]
#[repr(i32)]
pub enum ExecutionProvider {
    /// The fastest that works.
    #[default]
    #[enum_value(
        name = "The fastest that works; the log says why the others do not",
        nick = "auto"
    )]
    Auto,
    /// NVIDIA TensorRT.
    #[enum_value(name = "NVIDIA TensorRT", nick = "tensorrt")]
    TensorRt,
    /// NVIDIA TensorRT for RTX.
    #[enum_value(name = "NVIDIA TensorRT for RTX", nick = "tensorrt-rtx")]
    TensorRtRtx,
    /// NVIDIA CUDA.
    #[enum_value(name = "NVIDIA CUDA", nick = "cuda")]
    Cuda,
    /// Intel OpenVINO.
    #[enum_value(name = "Intel OpenVINO", nick = "openvino")]
    OpenVino,
    /// The CPU.
    #[enum_value(name = "CPU", nick = "cpu")]
    Cpu,
}

impl From<ExecutionProvider> for Backend {
    fn from(provider: ExecutionProvider) -> Self {
        match provider {
            ExecutionProvider::Auto => Self::Auto,
            ExecutionProvider::TensorRt => Self::TensorRt,
            ExecutionProvider::TensorRtRtx => Self::TensorRtRtx,
            ExecutionProvider::Cuda => Self::Cuda,
            ExecutionProvider::OpenVino => Self::OpenVino,
            ExecutionProvider::Cpu => Self::Cpu,
        }
    }
}

/// Where the first mask comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstMatteFilterSeed")]
#[repr(i32)]
pub enum Seed {
    /// A person is found in the picture, unless there is a mask file.
    #[default]
    #[enum_value(
        name = "A person is found in the picture; a mask-location comes first",
        nick = "auto"
    )]
    Auto,
    /// The mask file.
    #[enum_value(name = "The mask of mask-location", nick = "mask")]
    Mask,
    /// Nothing is matted.
    #[enum_value(name = "Nothing is matted", nick = "none")]
    None,
}

/// What of the frame the network sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstMatteFilterRegion")]
#[repr(i32)]
pub enum RegionMode {
    /// The frame.
    #[default]
    #[enum_value(name = "The whole frame", nick = "frame")]
    Frame,
    /// A window.
    #[enum_value(
        name = "A window around the target, where that shows it larger",
        nick = "target"
    )]
    Target,
}

same_names!(Region, RegionMode: Frame, Target);

/// Numbers that the network computes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstMatteFilterPrecision")]
#[repr(i32)]
pub enum PrecisionMode {
    /// The fastest.
    #[default]
    #[enum_value(
        name = "8-bit integers where model package, execution provider and processor have them",
        nick = "auto"
    )]
    Auto,
    /// The package's own.
    #[enum_value(name = "Floating point, as the model package says", nick = "full")]
    Full,
    /// bfloat16.
    #[enum_value(
        name = "bfloat16: much faster on OpenVINO where the processor has AMX, and less exact",
        nick = "bf16"
    )]
    Bf16,
}

same_names!(Precision, PrecisionMode: Auto, Full, Bf16);

/// How the matte gets to the size of the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstMatteFilterRefine")]
#[repr(i32)]
pub enum RefineMode {
    /// Interpolated.
    #[enum_value(name = "Bilinear interpolation", nick = "none")]
    None,
    /// Along the edges of the picture.
    #[enum_value(name = "Guided filter: edges follow the picture", nick = "guided")]
    Guided,
    /// By a network.
    #[enum_value(
        name = "Guided filter, then a small network draws the edges anew",
        nick = "detail"
    )]
    Detail,
    /// As the machine allows.
    #[default]
    #[enum_value(
        name = "detail where there is enough to compute with, guided where there is not",
        nick = "auto"
    )]
    Auto,
}

same_names!(Refine, RefineMode: None, Guided, Detail, Auto);

/// What a frame shows when there is no matte for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstMatteFilterPolicy")]
#[repr(i32)]
pub enum FramePolicy {
    /// Nothing of the picture.
    #[default]
    #[enum_value(name = "Nothing: transparent black", nick = "transparent")]
    Transparent,
    /// The picture as it is.
    #[enum_value(
        name = "The picture as it is, with the room behind",
        nick = "pass-through"
    )]
    PassThrough,
    /// The stream stops.
    #[enum_value(name = "An error that stops the stream", nick = "error")]
    Error,
}

same_names!(Policy, FramePolicy: Transparent, PassThrough, Error);

/// Which matte a frame shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstMatteFilterLatencyMode")]
#[repr(i32)]
pub enum LatencyMode {
    /// Its own.
    #[default]
    #[enum_value(
        name = "Each frame has its own matte, and waits for it",
        nick = "aligned"
    )]
    Aligned,
    /// The newest.
    #[enum_value(
        name = "The newest matte, brought to the edges of the frame: no frame waits for the network",
        nick = "low"
    )]
    Low,
}

/// Whether frames wait while a model is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstMatteFilterWaitForModel")]
#[repr(i32)]
pub enum WaitForModel {
    /// Unless they come from a live source.
    #[default]
    #[enum_value(
        name = "Frames wait for the model, unless the source is live",
        nick = "auto"
    )]
    Auto,
    /// They wait.
    #[enum_value(name = "Frames wait for the model", nick = "always")]
    Always,
    /// They do not.
    #[enum_value(
        name = "Frames do not wait: until the model is there they show what before-seed says",
        nick = "never"
    )]
    Never,
}

/// Colour of soft edges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstMatteFilterForeground")]
#[repr(i32)]
pub enum ForegroundMode {
    /// That of the frame.
    #[default]
    #[enum_value(
        name = "Colour of the frame: at soft edges some of the old background stays",
        nick = "source"
    )]
    Source,
    /// The target's own.
    #[enum_value(
        name = "Colour of the target alone, estimated: no old background bleeds through",
        nick = "estimated"
    )]
    Estimated,
}

same_names!(Foreground, ForegroundMode: Source, Estimated);

/// How colour relates to alpha.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstMatteFilterAlphaMode")]
#[repr(i32)]
pub enum AlphaModeKind {
    /// Not multiplied.
    #[default]
    #[enum_value(
        name = "Straight: colour is not multiplied by alpha",
        nick = "straight"
    )]
    Straight,
    /// Multiplied.
    #[enum_value(
        name = "Premultiplied: colour is multiplied by alpha",
        nick = "premultiplied"
    )]
    Premultiplied,
}

same_names!(AlphaMode, AlphaModeKind: Straight, Premultiplied);

/// What lies behind the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstMatteFilterBackground")]
#[repr(i32)]
pub enum BackgroundMode {
    /// Nothing.
    #[default]
    #[enum_value(name = "Nothing: alpha is the matte", nick = "transparent")]
    Transparent,
    /// One colour.
    #[enum_value(
        name = "The colour of background-colour; the output is opaque",
        nick = "colour"
    )]
    Colour,
    /// The picture, blurred.
    #[enum_value(
        name = "The picture, blurred; the output is opaque, and the room shows through",
        nick = "blur"
    )]
    Blur,
}

same_names!(Background, BackgroundMode: Transparent, Colour, Blur);

/// What the properties hold.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) model: String,
    pub(super) execution_provider: ExecutionProvider,
    /// As the user wrote it; read by [`Settings::options`], because setting a property cannot fail.
    pub(super) working_size: String,
    pub(super) mask_location: Option<String>,
    pub(super) seed: Seed,
    /// −1: the package's.
    pub(super) warm_up: i32,
    pub(super) mask_erode: u32,
    pub(super) mask_dilate: u32,
    /// 0: the package's.
    pub(super) memory_interval: u32,
    /// 0: the package's.
    pub(super) memory_frames: u32,
    pub(super) max_references: u32,
    pub(super) region: RegionMode,
    pub(super) precision: PrecisionMode,
    pub(super) threads: u32,
    pub(super) device: u32,
    pub(super) provider_options: Option<String>,
    /// `None`: the user's cache.
    pub(super) model_cache_dir: Option<String>,
    pub(super) use_prior: bool,
    pub(super) latency_mode: LatencyMode,
    pub(super) wait_for_model: WaitForModel,
    pub(super) click_to_seed: bool,
    pub(super) show_target: u64,
    pub(super) refine: RefineMode,
    pub(super) foreground: ForegroundMode,
    pub(super) alpha_mode: AlphaModeKind,
    pub(super) background: BackgroundMode,
    /// 0xRRGGBB.
    pub(super) background_colour: u32,
    pub(super) background_blur: f32,
    pub(super) edge_shift: f32,
    pub(super) edge_softness: f32,
    pub(super) temporal_smoothing: f32,
    pub(super) drift_repair: bool,
    pub(super) before_seed: FramePolicy,
    pub(super) on_failure: FramePolicy,
}

/// Name of the model package that is used when none is named.
pub(super) const DEFAULT_MODEL: &str = "lite";

impl Default for Settings {
    fn default() -> Self {
        let options = Options::default();
        Self {
            model: DEFAULT_MODEL.to_owned(),
            execution_provider: ExecutionProvider::default(),
            working_size: options
                .working_size
                .map(|(w, h)| format!("{w}x{h}"))
                .unwrap_or_default(),
            mask_location: None,
            seed: match options.seed {
                SeedMode::Auto => Seed::Auto,
                SeedMode::Mask => Seed::Mask,
                SeedMode::None => Seed::None,
            },
            warm_up: options.warm_up.map_or(-1, |n| n as i32),
            mask_erode: options.mask_erode,
            mask_dilate: options.mask_dilate,
            memory_interval: options.memory_interval.unwrap_or(0),
            memory_frames: options.memory_frames.unwrap_or(0),
            max_references: options.max_references,
            region: options.region.into(),
            precision: options.precision.into(),
            threads: options.threads,
            device: options.device,
            provider_options: None,
            model_cache_dir: None,
            use_prior: options.prior,
            latency_mode: LatencyMode::default(),
            wait_for_model: WaitForModel::default(),
            click_to_seed: false,
            show_target: 0,
            refine: options.refine.into(),
            foreground: options.foreground.into(),
            alpha_mode: options.alpha_mode.into(),
            background: options.background.into(),
            background_colour: {
                let [red, green, blue] = options.background_colour;
                u32::from_be_bytes([0, red, green, blue])
            },
            background_blur: options.background_blur,
            edge_shift: options.edge_shift,
            edge_softness: options.edge_softness,
            temporal_smoothing: options.temporal_smoothing,
            drift_repair: options.drift_repair,
            before_seed: options.before_seed.into(),
            on_failure: options.on_failure.into(),
        }
    }
}

/// Lowest and highest value of a numeric option of the engine.
pub(super) fn range(option: &str) -> (u32, u32) {
    Options::RANGES
        .iter()
        .find(|(name, ..)| *name == option)
        .map_or_else(
            || panic!("the engine has no option {option}"),
            |&(_, low, high)| (low, high),
        )
}

/// Highest value of a numeric option of the engine.
pub(super) fn highest(option: &str) -> u32 {
    range(option).1
}

impl Settings {
    /// Options of the engine that may change between two frames; the others are those of `opened`.
    ///
    /// Called for every frame: it does not allocate.
    pub(super) fn live_options(&self, opened: &Options) -> Options {
        Options {
            seed: match (self.seed, &self.mask_location) {
                (Seed::None, _) => SeedMode::None,
                (Seed::Mask, _) | (Seed::Auto, Some(_)) => SeedMode::Mask,
                (Seed::Auto, None) => SeedMode::Auto,
            },
            warm_up: u32::try_from(self.warm_up).ok(),
            mask_erode: self.mask_erode,
            mask_dilate: self.mask_dilate,
            memory_interval: Some(self.memory_interval).filter(|n| *n > 0),
            prior: self.use_prior,
            refine: match (self.refine, self.latency_mode) {
                // Edges that were drawn for one frame are not those of a newer one.
                (RefineMode::Auto | RefineMode::Detail, LatencyMode::Low) => Refine::Guided,
                (refine, _) => refine.into(),
            },
            foreground: self.foreground.into(),
            alpha_mode: self.alpha_mode.into(),
            background: self.background.into(),
            background_colour: {
                let [_, red, green, blue] = self.background_colour.to_be_bytes();
                [red, green, blue]
            },
            background_blur: self.background_blur,
            edge_shift: self.edge_shift,
            edge_softness: self.edge_softness,
            temporal_smoothing: self.temporal_smoothing,
            drift_repair: self.drift_repair,
            before_seed: self.before_seed.into(),
            on_failure: self.on_failure.into(),
            ..opened.clone()
        }
    }

    /// What the engine is to be opened with.
    pub(super) fn target(
        &self,
        working_size: Option<(u32, u32)>,
        frame_size: Option<(u32, u32)>,
        attempt: u32,
    ) -> Target {
        Target {
            model: self.model.clone(),
            backend: self.execution_provider.into(),
            working_size,
            memory_frames: Some(self.memory_frames).filter(|n| *n > 0),
            max_references: self.max_references,
            region: self.region.into(),
            precision: self.precision.into(),
            threads: self.threads,
            device: self.device,
            provider_options: self.provider_options.clone(),
            model_cache_dir: self.model_cache_dir.clone(),
            frame_size,
            attempt,
        }
    }

    /// Whether an engine of this target is what the properties ask for, apart from the size of the frames. A working size
    /// that is none asks for nothing new.
    ///
    /// Called for every frame: it does not allocate.
    pub(super) fn asks_for(&self, target: &Target) -> bool {
        target.model == self.model
            && target.backend == Backend::from(self.execution_provider)
            && self
                .working_size()
                .is_ok_and(|size| size == target.working_size)
            && target.memory_frames == Some(self.memory_frames).filter(|n| *n > 0)
            && target.max_references == self.max_references
            && target.region == Region::from(self.region)
            && target.precision == Precision::from(self.precision)
            && target.threads == self.threads
            && target.device == self.device
            && target.provider_options == self.provider_options
            && target.model_cache_dir == self.model_cache_dir
    }

    /// Size at which the network is to see the frame.
    ///
    /// # Errors
    /// In words, when it is not one.
    pub(super) fn working_size(&self) -> Result<Option<(u32, u32)>, String> {
        working_size(&self.working_size)
    }
}

/// Lowest and highest value of a numeric option of the engine that is no integer.
pub(super) fn float_range(option: &str) -> (f32, f32) {
    Options::FLOAT_RANGES
        .iter()
        .find(|(name, ..)| *name == option)
        .map_or_else(
            || panic!("the engine has no option {option}"),
            |&(_, low, high)| (low, high),
        )
}

fn working_size(text: &str) -> Result<Option<(u32, u32)>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    text.split_once('x')
        .and_then(|(w, h)| Some((w.trim().parse().ok()?, h.trim().parse().ok()?)))
        .map(Some)
        .ok_or_else(|| format!("working-size: {text:?}, but it must be WIDTHxHEIGHT in pixels, such as 512x288, or empty"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_settings_are_the_engines_default_options() {
        let settings = Settings::default();
        let target = settings.target(settings.working_size().unwrap(), None, 0);
        assert_eq!(settings.live_options(&target.options()), Options::default());
        let elsewhere = Settings {
            model_cache_dir: Some("/tmp/engines".to_owned()),
            ..Settings::default()
        };
        let options = elsewhere.target(None, None, 0).options();
        assert_eq!(
            options.model_cache_dir.as_deref(),
            Some(std::path::Path::new("/tmp/engines"))
        );
        assert!(settings.asks_for(&target));
    }

    #[test]
    fn a_mask_file_comes_before_automatic_seeding_but_not_before_none() {
        let mut settings = Settings {
            mask_location: Some("mask.png".to_owned()),
            ..Settings::default()
        };
        let seed = |settings: &Settings| settings.live_options(&Options::default()).seed;
        assert_eq!(seed(&settings), SeedMode::Mask);
        settings.seed = Seed::None;
        assert_eq!(seed(&settings), SeedMode::None);
    }

    #[test]
    fn a_property_that_the_engine_is_opened_with_asks_for_another_engine() {
        let settings = Settings::default();
        let target = settings.target(None, Some((640, 360)), 3);
        assert!(settings.asks_for(&target));
        let others = [
            Settings {
                model: "other".to_owned(),
                ..settings.clone()
            },
            Settings {
                execution_provider: ExecutionProvider::Cpu,
                ..settings.clone()
            },
            Settings {
                working_size: "256x144".to_owned(),
                ..settings.clone()
            },
            Settings {
                memory_frames: 2,
                ..settings.clone()
            },
            Settings {
                max_references: 1,
                ..settings.clone()
            },
            Settings {
                region: RegionMode::Target,
                ..settings.clone()
            },
            Settings {
                precision: PrecisionMode::Full,
                ..settings.clone()
            },
            Settings {
                threads: 1,
                ..settings.clone()
            },
            Settings {
                device: 1,
                ..settings.clone()
            },
            Settings {
                provider_options: Some("prefer_nhwc=1".to_owned()),
                ..settings.clone()
            },
            Settings {
                model_cache_dir: Some("/tmp/engines".to_owned()),
                ..settings.clone()
            },
        ];
        for other in others {
            assert!(!other.asks_for(&target), "{other:?}");
        }
    }

    #[test]
    fn a_working_size_is_read_or_refused_with_what_was_met() {
        assert_eq!(working_size("512x288"), Ok(Some((512, 288))));
        assert_eq!(working_size(""), Ok(None));
        for wrong in ["512", "x", "512x", "-1x2", "512x288x3", "ax b"] {
            let error = working_size(wrong).unwrap_err();
            assert!(
                error.contains(wrong) && error.contains("WIDTHxHEIGHT"),
                "{error}"
            );
        }
    }
}
