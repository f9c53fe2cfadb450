//! What the subcommands share: the engine's options as arguments, and views of decoded pictures.

use anyhow::{Context, Result, bail};
use gst_video::{VideoColorMatrix, VideoColorRange, VideoFormat, VideoFrameExt};
use matte_core::{
    Backend, Colorimetry, Frame, Options, PixelFormat, Plane, Policy, Refine, SeedMode, YuvMatrix,
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
    /// Threads on the CPU, 0 to 256; 0 takes as many as there are cores.
    #[arg(long, default_value_t = Options::default().threads)]
    threads: u32,
    /// How the matte gets to the size of the frame.
    #[arg(long, value_enum, default_value_t)]
    refine: RefineArg,
    /// What a frame shows before there is a target.
    #[arg(long, value_enum, default_value_t)]
    before_seed: PolicyArg,
    /// What a frame shows when the network fails.
    #[arg(long, value_enum, default_value_t)]
    on_failure: PolicyArg,
}

#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum RefineArg {
    /// Bilinear interpolation.
    None,
    /// Edges follow those of the full-size frame.
    #[default]
    Guided,
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
            max_references: self.max_references,
            prior: !self.no_prior,
            threads: self.threads,
            refine: match self.refine {
                RefineArg::None => Refine::None,
                RefineArg::Guided => Refine::Guided,
            },
            before_seed: self.before_seed.into(),
            on_failure: self.on_failure.into(),
            ..Options::default()
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
