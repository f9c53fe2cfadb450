//! What the user may set.

use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Result};

/// Where the first mask comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SeedMode {
    /// A person segmentation finds it, as soon as a person is there.
    #[default]
    Auto,
    /// The caller gives one with [`Matter::seed`](crate::Matter::seed).
    Mask,
    /// There is none; nothing is matted.
    None,
}

/// What a frame shows while there is no matte for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// Nothing: alpha 0 and black everywhere. The room is never shown by surprise.
    #[default]
    Transparent,
    /// The frame as it is, opaque. It shows the room.
    PassThrough,
    /// An error, so that the caller decides.
    Error,
}

/// How the matte gets from the working size to the size of the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Refine {
    /// [`Detail`](Self::Detail) where the package has it and there is enough to compute with: two threads of a processor
    /// with instructions for sums of 8-bit products (and [`Precision::Auto`]), or four of another. Otherwise
    /// [`Guided`](Self::Guided).
    #[default]
    Auto,
    /// Bilinear interpolation.
    None,
    /// Fast guided filter (He and Sun 2015) with the colours of the full-size frame as guide: edges of the matte follow
    /// the edges of the picture.
    Guided,
    /// As [`Guided`](Self::Guided); then a small network draws the edges anew, from the full-size picture. Frames that are
    /// more than 3.3 times as high and wide as what the matting network sees, or smaller than that by a tenth, are left to
    /// the filter, and so are all with `temporal_smoothing`, and sums of targets that are seen through windows. A package
    /// without that network is an error ([`Error::Option`]).
    Detail,
}

/// Colour of the pixels that the target covers only partly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Foreground {
    /// That of the frame. At soft edges it holds some of the old background, which shows over another one.
    #[default]
    Source,
    /// The target's own colour, estimated from its neighbourhood, so that no old background bleeds through.
    Estimated,
}

/// How colour relates to alpha in the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AlphaMode {
    /// Colour is not multiplied by alpha.
    #[default]
    Straight,
    /// Colour is multiplied by alpha: black where nothing is. In a luma and chroma format that is the luma and chroma
    /// of the multiplied colour.
    Premultiplied,
}

/// What lies behind the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Background {
    /// Nothing: the output's alpha is the matte.
    #[default]
    Transparent,
    /// [`Options::background_colour`]; the output is opaque.
    Colour,
    /// The frame, blurred by [`Options::background_blur`]; the output is opaque. It shows the room.
    Blur,
}

/// What of the frame the network sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Region {
    /// All of it.
    #[default]
    Frame,
    /// A window around the target wherever that shows it at least 1.15 times larger for the same work. The whole frame is
    /// seen when the target is named, before it leaves the window and where it cannot be found; a window has to be of use
    /// for 40 frames first. Good for people who stay where they are; the graphs are opened twice.
    Target,
}

/// Numbers that the network computes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// 8-bit integers where the package has such graphs, the backend is the CPU or OpenVINO, and the processor has the
    /// instructions (AVX2 on x86-64, dot products on ARM); otherwise as [`Full`](Self::Full).
    #[default]
    Auto,
    /// What the package names as its precision.
    Full,
    /// `bfloat16`, which keeps the range of `f32` but 8 bits of its mantissa, in the convolutions and products of the graphs
    /// of [`Full`](Self::Full); what is remembered stays `f32`. On the backend OpenVINO only, and there only on processors
    /// that have it; with AMX it is several times faster.
    Bf16,
}

/// Options of a [`Matter`](crate::Matter). `None` takes what the model package recommends.
///
/// The graphs are opened for `working_size`, `region`, `memory_frames`, `max_references`, `precision`, `threads`, `device`,
/// `provider_options`, `model_cache_dir` and `profile_dir`; all else may change from frame to frame. From `refine` to
/// `temporal_smoothing` they concern only the drawing of a matte: a [`Renderer`](crate::Renderer) reads those alone, and the
/// engine only the first and the last of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Width and height at which the network sees the frame, pixels, from 16 to the package's limit. The frame is
    /// scaled to exactly this and padded to multiples of 16; `lite` is better off with multiples. Default: an area as the
    /// package recommends it for what runs the network, with about the aspect ratio of the frame, in multiples of 16; never
    /// more than the frame.
    pub working_size: Option<(u32, u32)>,
    /// What of the frame the network sees.
    pub region: Region,
    /// Where the first mask comes from.
    pub seed: SeedMode,
    /// Refinements of the first frame after a mask has been given, 0 to 100: one more prediction than this is made.
    pub warm_up: Option<u32>,
    /// Erosion of a given mask in working-size pixels, 0 to 64; 0 leaves it as it is. Otherwise only mask pixels of
    /// exactly 255 count.
    pub mask_erode: u32,
    /// Dilation of a given mask, before the erosion, in working-size pixels, 0 to 64; 0 leaves it as it is. Otherwise
    /// every mask pixel above 0 counts.
    pub mask_dilate: u32,
    /// A frame is stored in the memory bank every so many frames, 1 to 1000.
    pub memory_interval: Option<u32>,
    /// Temporary frames that the memory bank holds, beside the permanent first one, 1 to 64. Each costs time.
    pub memory_frames: Option<u32>,
    /// A correction that takes parts away or adds some (3 % of the target, in cells of 16 pixels of the working size) takes the place of
    /// the permanent first frame, which knows otherwise. Without it, or where an edge is moved alone, it is stored as a temporary frame,
    /// as in the published frame loop, and with a small bank forgotten soon.
    pub lasting_corrections: bool,
    /// Slots reserved for reference frames, 0 to 64. Each costs time, also while it is empty.
    pub max_references: u32,
    /// Use the person segmentation of every frame as a hint, where the package takes one and the segmentation is
    /// there.
    pub prior: bool,
    /// Numbers that the network computes with.
    pub precision: Precision,
    /// Threads of the CPU backend, 0 to 256. 0 takes the pool that all engines of the process share, with a thread for
    /// every core; any other number gives this engine threads of its own.
    pub threads: u32,
    /// Which GPU the network runs on, 0 to 63, as CUDA counts them. Other backends ignore it.
    pub device: u32,
    /// Options for ONNX Runtime's execution provider, as its documentation names them: `key=value`, apart by commas. Of the
    /// backends CUDA and TensorRT they go to the provider of that name, over what the engine sets itself; other backends
    /// ignore them. With CUDA, `enable_cuda_graph=1` records what the network does for a frame and then replays it as a
    /// whole. While it records, in the first frames, no other thread of the process may allocate memory on the GPU.
    pub provider_options: Option<Arc<str>>,
    /// Folder for the engines that TensorRT builds, which takes minutes the first time. Default: `engines` in
    /// [`cache_dir`](crate::runtime::paths::cache_dir).
    pub model_cache_dir: Option<Arc<Path>>,
    /// Folder for what ONNX Runtime measures of every node of the network: a JSON file for each graph, complete once the
    /// [`Matter`](crate::Matter) is dropped. It makes the network slower, and the files grow with every frame.
    pub profile_dir: Option<Arc<Path>>,
    /// How the matte gets to the size of the frame.
    pub refine: Refine,
    /// Colour of the pixels that the target covers only partly.
    pub foreground: Foreground,
    /// How colour relates to alpha in the output.
    pub alpha_mode: AlphaMode,
    /// What lies behind the target. An output of alpha alone holds the matte, whatever this says.
    pub background: Background,
    /// Red, green and blue for [`Background::Colour`].
    pub background_colour: [u8; 3],
    /// Strength for [`Background::Blur`], 0.05 to 1: the standard deviation in twentieths of the frame's longer side,
    /// so that it looks the same at every size.
    pub background_blur: f32,
    /// Moves the edge of the matte by so many pixels of the frame, −20 to 20: outwards where positive, inwards where
    /// negative. Soft edges keep their softness.
    pub edge_shift: f32,
    /// Softens the edge of the matte over so many pixels of the frame, 0 to 20; 0 leaves it as it is.
    pub edge_softness: f32,
    /// How much of the matte before stays where the picture has not changed, 0 to 1; 0 switches it off. Where something
    /// moves, the matte follows at once.
    pub temporal_smoothing: f32,
    /// Compare the matte with the person segmentation every few frames, and name the target anew where they disagree
    /// for long or after a cut. It needs the segmentation, and a target that it sees as a person. In the first seconds after
    /// somebody was found they are named anew without it, too, when more of them comes into the picture.
    pub drift_repair: bool,
    /// What a frame shows before there is a target.
    pub before_seed: Policy,
    /// What a frame shows when the network fails.
    pub on_failure: Policy,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            working_size: None,
            region: Region::default(),
            seed: SeedMode::default(),
            warm_up: None,
            mask_erode: 0,
            mask_dilate: 0,
            memory_interval: None,
            memory_frames: None,
            lasting_corrections: true,
            max_references: 0,
            prior: true,
            precision: Precision::default(),
            threads: 0,
            device: 0,
            provider_options: None,
            model_cache_dir: None,
            profile_dir: None,
            refine: Refine::default(),
            foreground: Foreground::default(),
            alpha_mode: AlphaMode::default(),
            background: Background::default(),
            background_colour: [0, 177, 64],
            background_blur: 0.5,
            edge_shift: 0.0,
            edge_softness: 0.0,
            temporal_smoothing: 0.0,
            drift_repair: false,
            before_seed: Policy::default(),
            on_failure: Policy::default(),
        }
    }
}

impl Options {
    /// Ranges of the integer options, in the order `(name, lowest, highest)`; adapters take theirs from here.
    pub const RANGES: [(&'static str, u32, u32); 8] = [
        ("warm_up", 0, 100),
        ("mask_erode", 0, 64),
        ("mask_dilate", 0, 64),
        ("memory_interval", 1, 1000),
        ("memory_frames", 1, 64),
        ("max_references", 0, 64),
        ("threads", 0, 256),
        ("device", 0, 63),
    ];

    /// Ranges of the other numeric options, likewise.
    pub const FLOAT_RANGES: [(&'static str, f32, f32); 4] = [
        ("background_blur", 0.05, 1.0),
        ("edge_shift", -20.0, 20.0),
        ("edge_softness", 0.0, 20.0),
        ("temporal_smoothing", 0.0, 1.0),
    ];

    /// Checks every option against its range.
    ///
    /// # Errors
    /// [`Error::Option`] that names the first one outside its range.
    pub fn validate(&self) -> Result<()> {
        let values = [
            self.warm_up,
            Some(self.mask_erode),
            Some(self.mask_dilate),
            self.memory_interval,
            self.memory_frames,
            Some(self.max_references),
            Some(self.threads),
            Some(self.device),
        ];
        for ((option, low, high), value) in Self::RANGES.into_iter().zip(values) {
            if let Some(value) = value.filter(|v| !(low..=high).contains(v)) {
                return Err(Error::Option {
                    option,
                    value: value.to_string(),
                    limit: format!("it must be from {low} to {high}"),
                });
            }
        }
        let values = [
            self.background_blur,
            self.edge_shift,
            self.edge_softness,
            self.temporal_smoothing,
        ];
        for ((option, low, high), value) in Self::FLOAT_RANGES.into_iter().zip(values) {
            // What is not a number is in no range.
            if !(low..=high).contains(&value) {
                return Err(Error::Option {
                    option,
                    value: value.to_string(),
                    limit: format!("it must be from {low} to {high}"),
                });
            }
        }
        for part in self.provider_options_parts() {
            if let Err(part) = part {
                return Err(Error::Option {
                    option: "provider_options",
                    value: format!("{part:?}"),
                    limit: "it must be like key=value".to_owned(),
                });
            }
        }
        Ok(())
    }

    /// Keys and values of `provider_options`; what is neither as it is.
    pub(crate) fn provider_options_parts(
        &self,
    ) -> impl Iterator<Item = std::result::Result<(&str, &str), &str>> {
        let text = self.provider_options.as_deref().unwrap_or_default();
        let parts = text.split(',').map(str::trim).filter(|p| !p.is_empty());
        parts.map(|part| match part.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => Ok((key.trim(), value.trim())),
            _ => Err(part),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        Options::default().validate().unwrap();
    }

    #[test]
    fn an_option_outside_its_range_is_named() {
        let options = Options {
            memory_interval: Some(0),
            ..Options::default()
        };
        assert_eq!(
            options.validate().unwrap_err().to_string(),
            "option memory_interval: 0, but it must be from 1 to 1000"
        );
        let options = Options {
            provider_options: Some("prefer_nhwc=1, enable_cuda_graph".into()),
            ..Options::default()
        };
        assert_eq!(
            options.validate().unwrap_err().to_string(),
            r#"option provider_options: "enable_cuda_graph", but it must be like key=value"#
        );
        let options = Options {
            edge_shift: -20.5,
            ..Options::default()
        };
        assert_eq!(
            options.validate().unwrap_err().to_string(),
            "option edge_shift: -20.5, but it must be from -20 to 20"
        );
        let options = Options {
            temporal_smoothing: f32::NAN,
            ..Options::default()
        };
        assert_eq!(
            options.validate().unwrap_err().to_string(),
            "option temporal_smoothing: NaN, but it must be from 0 to 1"
        );
    }
}
