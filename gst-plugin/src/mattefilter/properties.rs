//! The element's settings, as properties show them, and as the engine takes them.

use gst::glib;
use matte_core::{Backend, Options, Policy, Refine, SeedMode};

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

/// How the matte gets to the size of the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstMatteFilterRefine")]
#[repr(i32)]
pub enum RefineMode {
    /// Interpolated.
    #[enum_value(name = "Bilinear interpolation", nick = "none")]
    None,
    /// Along the edges of the picture.
    #[default]
    #[enum_value(name = "Guided filter: edges follow the picture", nick = "guided")]
    Guided,
}

impl From<Refine> for RefineMode {
    fn from(refine: Refine) -> Self {
        match refine {
            Refine::None => Self::None,
            Refine::Guided => Self::Guided,
        }
    }
}

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

impl From<Policy> for FramePolicy {
    fn from(policy: Policy) -> Self {
        match policy {
            Policy::Transparent => Self::Transparent,
            Policy::PassThrough => Self::PassThrough,
            Policy::Error => Self::Error,
        }
    }
}

impl From<FramePolicy> for Policy {
    fn from(policy: FramePolicy) -> Self {
        match policy {
            FramePolicy::Transparent => Self::Transparent,
            FramePolicy::PassThrough => Self::PassThrough,
            FramePolicy::Error => Self::Error,
        }
    }
}

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
    pub(super) threads: u32,
    pub(super) use_prior: bool,
    pub(super) refine: RefineMode,
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
            threads: options.threads,
            use_prior: options.prior,
            refine: options.refine.into(),
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
            refine: match self.refine {
                RefineMode::None => Refine::None,
                RefineMode::Guided => Refine::Guided,
            },
            before_seed: self.before_seed.into(),
            on_failure: self.on_failure.into(),
            ..opened.clone()
        }
    }

    /// All options of the engine.
    ///
    /// # Errors
    /// In words, when the working size is not one.
    pub(super) fn options(&self) -> Result<Options, String> {
        Ok(Options {
            working_size: working_size(&self.working_size)?,
            memory_frames: Some(self.memory_frames).filter(|n| *n > 0),
            max_references: self.max_references,
            threads: self.threads,
            ..self.live_options(&Options::default())
        })
    }
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
        assert_eq!(Settings::default().options().unwrap(), Options::default());
    }

    #[test]
    fn a_mask_file_comes_before_automatic_seeding_but_not_before_none() {
        let mut settings = Settings {
            mask_location: Some("mask.png".to_owned()),
            ..Settings::default()
        };
        assert_eq!(settings.options().unwrap().seed, SeedMode::Mask);
        settings.seed = Seed::None;
        assert_eq!(settings.options().unwrap().seed, SeedMode::None);
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
