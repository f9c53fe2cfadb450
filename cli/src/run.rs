//! `matte run`: a video, a camera or a folder of images through the engine.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use matte_core::{MaskImage, MatteState, Matter, ModelSet, OutputFormat, OutputMut, SeedMode};

use crate::engine::{EngineArgs, view};
use crate::video::{Reader, Want, Writer};

/// Cut a person, or what a mask names, out of a video.
///
/// Every decoded frame gives one output frame.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A video file, a camera (/dev/video0) or a folder of PNG or JPEG images.
    input: PathBuf,
    /// Mask of the first frame: white where the target is, any size with the aspect ratio of the frame. Without it a
    /// person is looked for.
    #[arg(short, long)]
    mask: Option<PathBuf>,
    /// A video (.mov: ProRes 4444 or PNG; .mkv: FFV1) or a folder, which gets PNG files numbered from 000000.png.
    #[arg(short, long)]
    output: PathBuf,
    /// Write the alpha alone, as 8-bit grey.
    #[arg(long)]
    alpha_only: bool,
    /// Stop after so many frames.
    #[arg(long)]
    frames: Option<u64>,
    #[command(flatten)]
    engine: EngineArgs,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let models = ModelSet::find(&args.engine.model)?;
    let seed = if args.mask.is_some() {
        SeedMode::Mask
    } else {
        SeedMode::Auto
    };
    let options = args.engine.options(seed)?;
    let mask = args.mask.as_ref().map(MaskImage::read).transpose()?;
    let mut reader = Reader::open(&args.input, Want::Colour)?;
    let Some(first) = reader.read()? else {
        anyhow::bail!("{}: no frames in it", args.input.display());
    };
    let size = first.size();
    let mut matter = Matter::open(&models, args.engine.backend, options, size)?;
    if let Some(mask) = &mask {
        matter.seed(&view(&first)?, &mask.as_mask())?;
    }
    let (format, bytes) = if args.alpha_only {
        (OutputFormat::Gray8, 1)
    } else {
        (OutputFormat::Rgba, 4)
    };
    let stride = size.0 as usize * bytes;
    let mut pixels = vec![0; stride * size.1 as usize];
    let mut writer = Writer::create(&args.output, args.alpha_only, size, reader.frame_rate())?;
    let mut progress = Progress::new(args.frames.or_else(|| reader.estimated_frames()));
    let mut failures = 0_u64;
    let mut next = Some(first);
    while let Some(picture) = next {
        ensure!(
            picture.size() == size,
            "{}: frame {} is {}x{}, the frames before were {}x{}",
            args.input.display(),
            progress.done,
            picture.size().0,
            picture.size().1,
            size.0,
            size.1
        );
        let mut output = OutputMut::new(format, size.0, size.1, &mut pixels, stride)?;
        let report = matter.process(&view(&picture)?, &mut output)?;
        if let MatteState::Failed(reason) = &report.matte {
            if failures == 0 {
                log::warn!("frame {}: no matte: {reason}", progress.done);
            }
            failures += 1;
        }
        writer.write(&pixels, picture.timing())?;
        matter.remember()?;
        progress.step();
        next = if args.frames == Some(progress.done) {
            None
        } else {
            reader.read()?
        };
    }
    writer.finish()?;
    let stats = matter.stats();
    progress.finish();
    eprintln!(
        "{} frames of {}x{} to {}; {}, model {}, working size {}x{}; {:.1} frames a second from file to file",
        progress.done,
        size.0,
        size.1,
        args.output.display(),
        stats.backend,
        stats.model,
        stats.working_size.0,
        stats.working_size.1,
        progress.done as f64 / progress.started.elapsed().as_secs_f64().max(1e-6)
    );
    if stats.frames_without_matte > 0 {
        eprintln!(
            "{} of them have no matte: {failures} failures, the others before there was a target",
            stats.frames_without_matte
        );
    }
    ensure!(
        matter.is_seeded(),
        "nothing was cut out: {}",
        if matter.can_seed_automatically() {
            "no person was found; give a mask (-m)"
        } else {
            "a person can be looked for only with the person segmentation, which `cargo xtask setup` installs; or give \
             a mask (-m)"
        }
    );
    Ok(())
}

/// One line on the terminal, a few times a second; silent elsewhere.
struct Progress {
    total: Option<u64>,
    done: u64,
    started: Instant,
    shown: Option<Instant>,
    terminal: bool,
}

impl Progress {
    fn new(total: Option<u64>) -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self {
            total,
            done: 0,
            started: Instant::now(),
            shown: None,
            terminal,
        }
    }

    fn step(&mut self) {
        self.done += 1;
        let due = self
            .shown
            .is_none_or(|shown| shown.elapsed() > Duration::from_millis(200));
        if self.terminal && due {
            self.shown = Some(Instant::now());
            let rate = self.done as f64 / self.started.elapsed().as_secs_f64().max(1e-6);
            let of = self
                .total
                .map_or_else(String::new, |total| format!("/{total}"));
            eprint!("\rframe {}{of}, {rate:.1} frames a second  ", self.done);
            std::io::stderr().flush().ok();
        }
    }

    fn finish(&self) {
        if self.terminal {
            eprintln!();
        }
    }
}
