//! What the subcommands share: the engine's options as arguments, and views of decoded pictures.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use gst_video::{VideoColorMatrix, VideoColorRange, VideoFormat, VideoFrameExt};
use matte_core::{
    AlphaMode, Backend, Background, Colorimetry, Foreground, Frame, Options, PixelFormat, Plane,
    Policy, Precision, Refine, Region, SeedMode, YuvMatrix,
};

use crate::video::Picture;

/// Package that is used when none is named.
pub(crate) const DEFAULT_MODEL: &str = "lite";

/// The engine's options. What is not given is what the engine or the model package recommends.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct EngineArgs {
    /// Name or folder of the model package.
    #[arg(long, default_value = DEFAULT_MODEL)]
    pub(crate) model: String,
    /// What runs the network: auto, tensorrt, tensorrt-rtx, cuda, openvino or cpu. Only auto falls back.
    #[arg(long, default_value = "auto")]
    pub(crate) backend: Backend,
    /// Size at which the network sees the frame, WIDTHxHEIGHT in pixels.
    #[arg(long, value_parser = parse_size)]
    pub(crate) working_size: Option<(u32, u32)>,
    /// Refinements of the first frame after a mask has been given, 0 to 100.
    #[arg(long)]
    warm_up: Option<u32>,
    /// Erosion of the mask, pixels of the working size, 0 to 64.
    #[arg(long, default_value_t = Options::default().mask_erode)]
    mask_erode: u32,
    /// Dilation of the mask before its erosion, pixels of the working size, 0 to 64.
    #[arg(long, default_value_t = Options::default().mask_dilate)]
    mask_dilate: u32,
    /// A frame is stored in the memory every so many frames, 1 to 1000.
    #[arg(long)]
    memory_interval: Option<u32>,
    /// Temporary frames that the memory holds, 1 to 64.
    #[arg(long)]
    memory_frames: Option<u32>,
    /// Room for reference frames in the memory, 0 to 64.
    #[arg(long, default_value_t = Options::default().max_references)]
    max_references: u32,
    /// Do not give the network a person segmentation as a hint.
    #[arg(long)]
    no_prior: bool,
    /// What of the frame the network sees.
    #[arg(long, value_enum, default_value_t)]
    region: RegionArg,
    /// Numbers that the network computes with.
    #[arg(long, value_enum, default_value_t)]
    precision: PrecisionArg,
    /// Threads on the CPU, 0 to 256; 0 takes as many as there are cores.
    #[arg(long, default_value_t = Options::default().threads)]
    threads: u32,
    /// Which GPU the network runs on, 0 to 63.
    #[arg(long, default_value_t = Options::default().device)]
    device: u32,
    /// Options of the execution provider, as ONNX Runtime names them, for CUDA and TensorRT: KEY=VALUE, apart by commas.
    #[arg(long)]
    provider_options: Option<String>,
    /// Where the engines are kept that TensorRT builds; by default in the user's cache directory.
    #[arg(long)]
    model_cache_dir: Option<PathBuf>,
    /// How the matte gets to the size of the frame.
    #[arg(long, value_enum, default_value_t)]
    refine: RefineArg,
    /// Colour of pixels that the target covers only partly.
    #[arg(long, value_enum, default_value_t)]
    foreground: ForegroundArg,
    /// How colour relates to alpha in the output.
    #[arg(long, value_enum, default_value_t)]
    alpha_mode: AlphaModeArg,
    /// What lies behind the target.
    #[arg(long, value_enum, default_value_t)]
    background: BackgroundArg,
    /// Colour for `--background colour`, RRGGBB.
    #[arg(long, value_parser = parse_colour, default_value = "00b140")]
    background_colour: [u8; 3],
    /// Strength for `--background blur`, 0.05 to 1: the standard deviation in twentieths of the longer side.
    #[arg(long, default_value_t = Options::default().background_blur)]
    background_blur: f32,
    /// Move the edge of the matte by so many pixels, -20 to 20: outwards where positive.
    #[arg(long, default_value_t = Options::default().edge_shift, allow_hyphen_values = true)]
    edge_shift: f32,
    /// Soften the edge of the matte over so many pixels, 0 to 20.
    #[arg(long, default_value_t = Options::default().edge_softness)]
    edge_softness: f32,
    /// How much of the matte before stays where the picture has not changed, 0 to 1.
    #[arg(long, default_value_t = Options::default().temporal_smoothing)]
    temporal_smoothing: f32,
    /// Name the person anew where the matte goes wrong and after cuts.
    #[arg(long, value_name = "ON", default_value_t = Options::default().drift_repair, action = clap::ArgAction::Set)]
    drift_repair: bool,
    /// What a frame shows before there is a target.
    #[arg(long, value_enum, default_value_t)]
    before_seed: PolicyArg,
    /// What a frame shows when the network fails.
    #[arg(long, value_enum, default_value_t)]
    on_failure: PolicyArg,
}

#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum RegionArg {
    /// All of it.
    #[default]
    Frame,
    /// A window around the target, where that shows it larger.
    Target,
}

#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum PrecisionArg {
    /// 8-bit integers where package, backend and processor have them.
    #[default]
    Auto,
    /// What the package names as its precision.
    Full,
    /// bfloat16: several times faster on OpenVINO where the processor has AMX, and less exact.
    Bf16,
}

#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum RefineArg {
    /// `detail` where there is enough to compute with, `guided` where there is not.
    #[default]
    Auto,
    /// Bilinear interpolation.
    None,
    /// Edges follow those of the full-size frame.
    Guided,
    /// As `guided`, then a small network draws the edges anew.
    Detail,
}

#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum ForegroundArg {
    /// That of the frame, with some of the old background in it.
    #[default]
    Source,
    /// The target's own, estimated.
    Estimated,
}

#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum AlphaModeArg {
    /// Not multiplied.
    #[default]
    Straight,
    /// Colour is multiplied by alpha.
    Premultiplied,
}

#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum BackgroundArg {
    /// Nothing: the output has alpha.
    #[default]
    Transparent,
    /// One colour; the output is opaque.
    Colour,
    /// The frame, blurred; the output is opaque.
    Blur,
}

#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum PolicyArg {
    /// Nothing.
    #[default]
    Transparent,
    /// The frame as it is: it shows the room.
    PassThrough,
    /// Stop with an error.
    Error,
}

impl From<PolicyArg> for Policy {
    fn from(policy: PolicyArg) -> Self {
        match policy {
            PolicyArg::Transparent => Self::Transparent,
            PolicyArg::PassThrough => Self::PassThrough,
            PolicyArg::Error => Self::Error,
        }
    }
}

impl EngineArgs {
    /// As the engine takes them, checked.
    pub(crate) fn options(&self, seed: SeedMode) -> Result<Options> {
        let options = Options {
            working_size: self.working_size,
            seed,
            warm_up: self.warm_up,
            mask_erode: self.mask_erode,
            mask_dilate: self.mask_dilate,
            memory_interval: self.memory_interval,
            memory_frames: self.memory_frames,
            lasting_corrections: true,
            max_references: self.max_references,
            prior: !self.no_prior,
            region: match self.region {
                RegionArg::Frame => Region::Frame,
                RegionArg::Target => Region::Target,
            },
            precision: match self.precision {
                PrecisionArg::Auto => Precision::Auto,
                PrecisionArg::Full => Precision::Full,
                PrecisionArg::Bf16 => Precision::Bf16,
            },
            threads: self.threads,
            device: self.device,
            provider_options: self.provider_options.as_deref().map(Into::into),
            model_cache_dir: self.model_cache_dir.as_deref().map(Into::into),
            profile_dir: None,
            refine: match self.refine {
                RefineArg::Auto => Refine::Auto,
                RefineArg::None => Refine::None,
                RefineArg::Guided => Refine::Guided,
                RefineArg::Detail => Refine::Detail,
            },
            before_seed: self.before_seed.into(),
            on_failure: self.on_failure.into(),
            foreground: match self.foreground {
                ForegroundArg::Source => Foreground::Source,
                ForegroundArg::Estimated => Foreground::Estimated,
            },
            alpha_mode: match self.alpha_mode {
                AlphaModeArg::Straight => AlphaMode::Straight,
                AlphaModeArg::Premultiplied => AlphaMode::Premultiplied,
            },
            background: match self.background {
                BackgroundArg::Transparent => Background::Transparent,
                BackgroundArg::Colour => Background::Colour,
                BackgroundArg::Blur => Background::Blur,
            },
            background_colour: self.background_colour,
            background_blur: self.background_blur,
            edge_shift: self.edge_shift,
            edge_softness: self.edge_softness,
            temporal_smoothing: self.temporal_smoothing,
            drift_repair: self.drift_repair,
        };
        options.validate()?;
        Ok(options)
    }
}

/// `640x360`.
pub(crate) fn parse_size(text: &str) -> Result<(u32, u32), String> {
    let parsed = text.split_once(['x', 'X']).and_then(|(width, height)| {
        Some((width.trim().parse().ok()?, height.trim().parse().ok()?))
    });
    parsed.ok_or_else(|| format!("{text:?} is not WIDTHxHEIGHT, such as 640x360"))
}

/// `00b140`, `#00b140`, or `0x00b140` as the element takes it.
fn parse_colour(text: &str) -> Result<[u8; 3], String> {
    let digits = (text.strip_prefix('#').or_else(|| text.strip_prefix("0x"))).unwrap_or(text);
    let value = (digits.len() == 6 && digits.bytes().all(|b| b.is_ascii_hexdigit()))
        .then(|| u32::from_str_radix(digits, 16).ok())
        .flatten();
    let Some(value) = value else {
        return Err(format!("{text:?} is not RRGGBB, such as 00b140"));
    };
    let [_, r, g, b] = value.to_be_bytes();
    Ok([r, g, b])
}

/// A decoded picture as the engine sees it.
pub(crate) fn view(picture: &Picture) -> Result<Frame<'_>> {
    match picture {
        Picture::Image(image) => {
            let rgb = image
                .as_rgb8()
                .context("an image that was not read as RGB")?;
            let stride = rgb.width() as usize * 3;
            Ok(Frame::packed(
                PixelFormat::Rgb,
                rgb.width(),
                rgb.height(),
                rgb.as_raw(),
                stride,
            )?)
        }
        Picture::Video(frame) => {
            let format = match frame.format() {
                VideoFormat::I420 => PixelFormat::I420,
                VideoFormat::Nv12 => PixelFormat::Nv12,
                VideoFormat::Yuy2 => PixelFormat::Yuy2,
                VideoFormat::Uyvy => PixelFormat::Uyvy,
                VideoFormat::Rgba => PixelFormat::Rgba,
                VideoFormat::Bgra => PixelFormat::Bgra,
                VideoFormat::Argb => PixelFormat::Argb,
                VideoFormat::Abgr => PixelFormat::Abgr,
                VideoFormat::Rgbx => PixelFormat::Rgbx,
                VideoFormat::Bgrx => PixelFormat::Bgrx,
                VideoFormat::Xrgb => PixelFormat::Xrgb,
                VideoFormat::Xbgr => PixelFormat::Xbgr,
                VideoFormat::Rgb => PixelFormat::Rgb,
                VideoFormat::Bgr => PixelFormat::Bgr,
                other => bail!("frames of format {other} cannot be read"),
            };
            let mut planes = [Plane::default(); 3];
            let count = format.planes();
            for (index, plane) in planes.iter_mut().enumerate().take(count) {
                let stride =
                    usize::try_from(frame.plane_stride()[index]).context("a negative stride")?;
                *plane = Plane {
                    data: frame.plane_data(index as u32)?,
                    stride,
                };
            }
            let colorimetry = frame.info().colorimetry();
            let colorimetry = Colorimetry {
                matrix: match colorimetry.matrix() {
                    VideoColorMatrix::Bt601 => YuvMatrix::Bt601,
                    VideoColorMatrix::Bt2020 => YuvMatrix::Bt2020,
                    _ => YuvMatrix::Bt709,
                },
                full_range: colorimetry.range() == VideoColorRange::Range0_255,
            };
            Ok(Frame::new(
                format,
                frame.width(),
                frame.height(),
                &planes[..count],
                colorimetry,
            )?)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_width_by_height() {
        assert_eq!(parse_size("640x360"), Ok((640, 360)));
        assert!(parse_size("640").unwrap_err().contains("WIDTHxHEIGHT"));
        assert!(parse_size("-1x2").is_err());
    }

    #[test]
    fn colours_are_hexadecimal() {
        assert_eq!(parse_colour("00b140"), Ok([0, 177, 64]));
        assert_eq!(parse_colour("#FF0001"), Ok([255, 0, 1]));
        assert_eq!(parse_colour("0x203040"), Ok([32, 48, 64]));
        for wrong in ["", "fff", "00b14g", "+0b140", "00b14000"] {
            assert!(parse_colour(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn defaults_are_the_engine_s() {
        use clap::Parser;
        #[derive(Parser)]
        struct Only {
            #[command(flatten)]
            engine: EngineArgs,
        }
        let only = Only::try_parse_from(["matte"]).unwrap();
        assert_eq!(
            only.engine.options(SeedMode::Auto).unwrap(),
            Options::default()
        );
        let outside = Only::try_parse_from(["matte", "--mask-erode", "65"]).unwrap();
        let error = outside
            .engine
            .options(SeedMode::Auto)
            .unwrap_err()
            .to_string();
        assert!(error.contains("mask_erode: 65"), "{error}");
    }
}
