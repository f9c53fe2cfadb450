//! `matte composite`: how far a clip, cut out and put over another background, is from what it should be.
//!
//! A frame is I = aF + (1−a)B with the true alpha a, so over a colour W it should be aF + (1−a)W = I + (1−a)(W − B). That
//! takes the old background B, but not the foreground. `tests/composite/background.py` makes B for the synthetic clips.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use matte_core::{
    AlphaMode, Background, Foreground, Mask, MaskImage, Matter, ModelSet, Options, OutputFormat,
    OutputMut, Renderer, SeedMode,
};

use crate::engine::{EngineArgs, view};
use crate::video::{Reader, Want};

/// Measure the halo of the old background in a composite over white and over black.
///
/// CLIP is a folder with `video.mp4`, `alpha.mkv` (the true alpha) and `mask_0000.png`. Given are mean absolute
/// differences of 255 from the true composite, over the soft pixels (true alpha from 0.02 to 0.98) and over all, with the
/// frame's colours and with estimated ones, for the true alpha and for the engine's.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder of the clip.
    clip: PathBuf,
    /// The old background of every frame, a video.
    old_background: PathBuf,
    #[command(flatten)]
    engine: EngineArgs,
}

/// Sums of differences, and of what they are over.
#[derive(Clone, Copy, Debug, Default)]
struct Error {
    soft: f64,
    soft_pixels: u64,
    all: f64,
    pixels: u64,
}

impl Error {
    /// Adds a frame. All are packed RGBA but the alpha.
    fn add(&mut self, output: &[u8], frame: &[u8], behind: &[u8], alpha: &[u8], colour: f64) {
        for (((out, pixel), back), a) in output
            .as_chunks::<4>()
            .0
            .iter()
            .zip(frame.as_chunks::<4>().0)
            .zip(behind.as_chunks::<4>().0)
            .zip(alpha)
        {
            let truth_alpha = f64::from(*a) / 255.0;
            let own = f64::from(out[3]) / 255.0;
            let difference: f64 = (0..3)
                .map(|c| {
                    let truth =
                        f64::from(pixel[c]) + (1.0 - truth_alpha) * (colour - f64::from(back[c]));
                    let got = own * f64::from(out[c]) + (1.0 - own) * colour;
                    (got - truth.clamp(0.0, 255.0)).abs()
                })
                .sum::<f64>()
                / 3.0;
            self.all += difference;
            self.pixels += 1;
            if (5..=250).contains(a) {
                self.soft += difference;
                self.soft_pixels += 1;
            }
        }
    }

    fn soft(&self) -> f64 {
        self.soft / self.soft_pixels.max(1) as f64
    }

    fn all(&self) -> f64 {
        self.all / self.pixels.max(1) as f64
    }
}

const COLOURS: [(&str, f64); 2] = [("white", 255.0), ("black", 0.0)];

pub(crate) fn run(args: &Args) -> Result<()> {
    let source = Options {
        // What it looks like over a colour is what is measured here.
        alpha_mode: AlphaMode::Straight,
        background: Background::Transparent,
        ..args.engine.options(SeedMode::Mask)?
    };
    let with = |foreground| Options {
        foreground,
        ..source.clone()
    };
    let kinds = [Foreground::Source, Foreground::Estimated].map(with);
    let models = ModelSet::find(&args.engine.model)?;
    let mask = MaskImage::read(args.clip.join("mask_0000.png"))?;
    let open = |name: &str, want| {
        let path = args.clip.join(name);
        Reader::open(&path, want).with_context(|| path.display().to_string())
    };
    let mut frames = open("video.mp4", Want::Colour)?;
    let mut colours = open("video.mp4", Want::Rgba)?;
    let mut alphas = open("alpha.mkv", Want::Alpha)?;
    let mut behinds = Reader::open(&args.old_background, Want::Rgba)?;

    let mut matter: Option<Matter> = None;
    let mut renderers = [Renderer::new(&kinds[0])?, Renderer::new(&kinds[1])?];
    let mut matte = matte_core::Matte::new();
    // By alpha (true, engine's), by foreground (source, estimated), by colour (white, black).
    let mut errors = [[[Error::default(); 2]; 2]; 2];
    let mut count = 0;
    let mut pixels = Vec::new();
    while let Some(picture) = frames.read()? {
        let frame = view(&picture)?;
        let (width, height) = frame.size();
        let missing = |what: &str| format!("frame {count}: no {what}");
        let rgba = colours.read()?.with_context(|| missing("colour"))?.rgba()?;
        let alpha = alphas.read()?.with_context(|| missing("alpha"))?.alpha()?;
        let behind = behinds
            .read()?
            .with_context(|| missing("background"))?
            .rgba()?;
        ensure!(
            rgba.len() == alpha.len() * 4 && behind.len() == rgba.len(),
            "frame {count}: video, alpha and background differ in size"
        );
        let matter = match &mut matter {
            Some(matter) => matter,
            none => {
                let opened =
                    Matter::open(&models, args.engine.backend, source.clone(), frame.size())?;
                let matter = none.insert(opened);
                matter.queue_seed(&mask.as_mask());
                matter
            }
        };
        matter.predict(&frame)?;
        matter.snapshot(&mut matte)?;
        matter.refine(&frame, &mut matte)?;
        matter.remember()?;
        let truth = Mask::new(width, height, &alpha, width as usize)?;
        pixels.resize(rgba.len(), 0);
        let stride = width as usize * 4;
        for (which, by_alpha) in errors.iter_mut().enumerate() {
            for (renderer, by_foreground) in renderers.iter_mut().zip(by_alpha) {
                let mut out =
                    OutputMut::new(OutputFormat::Rgba, width, height, &mut pixels, stride)?;
                match which {
                    0 => renderer.render_mask(&truth, &frame, &mut out)?,
                    _ => renderer.render(&matte, &frame, &mut out)?,
                }
                for ((_, colour), error) in COLOURS.iter().zip(by_foreground) {
                    error.add(&pixels, &rgba, &behind, &alpha, *colour);
                }
            }
        }
        count += 1;
    }
    ensure!(count > 0, "{}: no frames in it", args.clip.display());
    println!(
        "{} frames; mean absolute difference from the true composite, of 255\n\
         {:<16} {:<6} {:>12} {:>12} {:>7}   {:>10} {:>10}",
        count, "alpha", "over", "soft, source", "estimated", "less", "all", "estimated"
    );
    for (name, by_alpha) in ["true", "the engine's"].iter().zip(&errors) {
        for (c, (colour, _)) in COLOURS.iter().enumerate() {
            let (before, after) = (by_alpha[0][c], by_alpha[1][c]);
            println!(
                "{name:<16} {colour:<6} {:>12.3} {:>12.3} {:>5.1} %   {:>10.4} {:>10.4}",
                before.soft(),
                after.soft(),
                100.0 * (1.0 - after.soft() / before.soft()),
                before.all(),
                after.all()
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_true_foreground_over_a_colour_has_no_error() {
        // Half of a red pixel before green: (128, 127, 0) in the frame.
        let (frame, behind, alpha) = ([128, 127, 0, 255], [0, 255, 0, 255], [128]);
        for (own, wanted) in [([255, 0, 0, 128], 0.0), ([128, 127, 0, 128], 42.6)] {
            for (_, colour) in COLOURS {
                let mut error = Error::default();
                error.add(&own, &frame, &behind, &alpha, colour);
                assert!((error.soft() - wanted).abs() < 0.7, "{colour}: {error:?}");
            }
        }
    }
}
