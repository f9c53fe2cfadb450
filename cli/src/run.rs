//! `matte run`: videos, cameras or folders of images through the engine.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use matte_core::{
    Background, MaskImage, MatteState, Matter, ModelSet, Options, OutputFormat, OutputMut, Repair,
    SeedMode,
};

use crate::engine::{EngineArgs, view};
use crate::video::{Content, Reader, Want, Writer, is_complete};

/// Cut a person, or what a mask names, out of videos.
///
/// Every decoded frame gives one output frame. A video is written beside its place, as NAME.part.EXT, and takes its name
/// when it is complete; what was written before an error stays there.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Video files, a camera (/dev/video0) or folders of PNG or JPEG images.
    #[arg(required = true)]
    input: Vec<PathBuf>,
    /// Mask of the first frame: white where the target is, any size with the aspect ratio of the frame. For several
    /// inputs a folder, with a mask called NAME.png for each that needs one. Without a mask a person is looked for.
    #[arg(short, long)]
    mask: Option<PathBuf>,
    /// A video (.mov: ProRes 4444, or PNG where that encoder is missing; .webm: VP9, through ffmpeg; .mkv: FFV1,
    /// lossless; .mp4: H.264, for an opaque background) or a folder, which gets PNG files numbered from 000000.png. For
    /// several inputs a folder, in which each gets an output of its name.
    #[arg(short, long)]
    output: PathBuf,
    /// What is written for each of several inputs.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Go on where an earlier run ended: outputs that are complete are skipped, a folder of PNG files gets those that it
    /// lacks. The frames before them are matted again, as the memory of the target needs them, but not written.
    #[arg(long)]
    resume: bool,
    /// Write the alpha alone, as 8-bit grey.
    #[arg(long)]
    alpha_only: bool,
    /// Stop after so many frames of each input.
    #[arg(long)]
    frames: Option<u64>,
    #[command(flatten)]
    engine: EngineArgs,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// ProRes 4444.
    #[default]
    Mov,
    /// FFV1, lossless.
    Mkv,
    /// VP9 with alpha, through ffmpeg.
    Webm,
    /// H.264, for an opaque background.
    Mp4,
    /// A folder of PNG files.
    Png,
}

impl Format {
    fn path(self, folder: &Path, name: &str) -> PathBuf {
        let extension = match self {
            Self::Mov => ".mov",
            Self::Mkv => ".mkv",
            Self::Webm => ".webm",
            Self::Mp4 => ".mp4",
            Self::Png => "",
        };
        folder.join(format!("{name}{extension}"))
    }
}

/// One input.
#[derive(Debug, PartialEq, Eq)]
struct Job {
    input: PathBuf,
    mask: Option<PathBuf>,
    output: PathBuf,
}

/// What has become of an input.
struct Done {
    frames: u64,
    without_matte: u64,
    failures: u64,
    repairs: u64,
    seeded: bool,
}

fn jobs(args: &Args) -> Result<Vec<Job>> {
    if let [input] = args.input.as_slice() {
        return Ok(vec![Job {
            input: input.clone(),
            mask: args.mask.clone(),
            output: args.output.clone(),
        }]);
    }
    let mut names = BTreeSet::new();
    let masks = args.mask.as_deref();
    if let Some(masks) = masks {
        ensure!(
            masks.is_dir(),
            "{}: several inputs need a folder of masks, one called NAME.png for each input",
            masks.display()
        );
    }
    args.input
        .iter()
        .map(|input| {
            let name = input
                .file_stem()
                .with_context(|| format!("{}: no name to write it under", input.display()))?
                .to_string_lossy()
                .into_owned();
            ensure!(
                names.insert(name.clone()),
                "two inputs are called {name}: their outputs would be one file"
            );
            Ok(Job {
                input: input.clone(),
                mask: masks
                    .map(|folder| folder.join(format!("{name}.png")))
                    .filter(|mask| mask.exists()),
                output: args.format.path(&args.output, &name),
            })
        })
        .collect()
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let models = ModelSet::find(&args.engine.model)?;
    let jobs = jobs(args)?;
    if jobs.len() > 1 {
        std::fs::create_dir_all(&args.output).with_context(|| args.output.display().to_string())?;
    }
    let mut engine = None;
    let mut failed = Vec::new();
    for (number, job) in jobs.iter().enumerate() {
        if args.resume && is_complete(&job.output) {
            eprintln!("{}: is there already", job.output.display());
            continue;
        }
        let title = match jobs.len() {
            1 => String::new(),
            all => format!("{}/{all} {} ", number + 1, job.input.display()),
        };
        if let Err(error) = one(args, &models, job, &mut engine, title) {
            if jobs.len() == 1 {
                return Err(error);
            }
            eprintln!("matte: {error:#}");
            failed.push(job.input.display().to_string());
            // Whatever state the error has left the engine in.
            engine = None;
        }
    }
    ensure!(
        failed.is_empty(),
        "{} of {} inputs failed: {}",
        failed.len(),
        jobs.len(),
        failed.join(", ")
    );
    Ok(())
}

/// The engine for frames of a size: the one of the input before, or a new one.
fn engine_for<'a>(
    engine: &'a mut Option<Matter>,
    args: &Args,
    models: &ModelSet,
    options: &Options,
    size: (u32, u32),
) -> Result<&'a mut Matter> {
    let matter = match engine.take() {
        Some(mut matter) => {
            matter.resize(size)?;
            matter.set_options(options.clone())?;
            matter.reset()?;
            matter
        }
        None => Matter::open(models, args.engine.backend, options.clone(), size)?,
    };
    Ok(engine.insert(matter))
}

fn one(
    args: &Args,
    models: &ModelSet,
    job: &Job,
    engine: &mut Option<Matter>,
    title: String,
) -> Result<()> {
    let started = Instant::now();
    let seed = match job.mask {
        Some(_) => SeedMode::Mask,
        None => SeedMode::Auto,
    };
    let options = args.engine.options(seed)?;
    let mask = job.mask.as_ref().map(MaskImage::read).transpose()?;
    let mut reader = Reader::open(&job.input, Want::Colour)?;
    let Some(first) = reader.read()? else {
        bail!("{}: no frames in it", job.input.display());
    };
    let size = first.size();
    let matter = engine_for(engine, args, models, &options, size)?;
    if let Some(mask) = &mask {
        matter.seed(&view(&first)?, &mask.as_mask())?;
    }
    let content = match (args.alpha_only, options.background) {
        (true, _) => Content::Alpha,
        (false, Background::Transparent) => Content::Rgba,
        (false, _) => Content::Opaque,
    };
    let rate = reader.frame_rate();
    let mut writer = Writer::create(&job.output, content, size, rate, args.resume)?;
    let bar = progress(args.frames.or_else(|| reader.estimated_frames()), title);
    let done = frames(args, job, first, &mut reader, matter, &mut writer, &bar);
    bar.finish_and_clear();
    let done = match done {
        Ok(done) => done,
        // What is there is completed as far as it goes, and said to be there.
        Err(error) => return Err(error.context(writer.salvage())),
    };
    writer.finish()?;
    let stats = matter.stats();
    eprintln!(
        "{} frames of {}x{} to {}; {}, model {}, working size {}x{}; {:.1} frames a second from file to file",
        done.frames,
        size.0,
        size.1,
        job.output.display(),
        stats.backend,
        stats.model,
        stats.working_size.0,
        stats.working_size.1,
        done.frames as f64 / started.elapsed().as_secs_f64().max(1e-6)
    );
    if done.without_matte > 0 {
        eprintln!(
            "{} of them have no matte: {} failures, the others before there was a target or while it was lost",
            done.without_matte, done.failures
        );
    }
    if done.repairs > 0 {
        eprintln!("the target was named anew {} times", done.repairs);
    }
    ensure!(
        done.seeded,
        "{}: nothing was cut out: {}",
        job.input.display(),
        if matter.can_seed_automatically() {
            "no person was found; give a mask (-m)"
        } else {
            "a person can be looked for only with the person segmentation, which `cargo xtask setup` installs; or give \
             a mask (-m)"
        }
    );
    Ok(())
}

fn frames(
    args: &Args,
    job: &Job,
    first: crate::video::Picture,
    reader: &mut Reader,
    matter: &mut Matter,
    writer: &mut Writer,
    bar: &ProgressBar,
) -> Result<Done> {
    let size = first.size();
    let (format, bytes) = match args.alpha_only {
        true => (OutputFormat::Gray8, 1),
        false => (OutputFormat::Rgba, 4),
    };
    let stride = size.0 as usize * bytes;
    let mut pixels = vec![0; stride * size.1 as usize];
    let mut done = Done {
        frames: 0,
        without_matte: 0,
        failures: 0,
        repairs: 0,
        seeded: matter.is_seeded(),
    };
    let mut next = Some(first);
    while let Some(picture) = next {
        ensure!(
            picture.size() == size,
            "{}: frame {} is {}x{}, the frames before were {}x{}",
            job.input.display(),
            done.frames,
            picture.size().0,
            picture.size().1,
            size.0,
            size.1
        );
        let mut output = OutputMut::new(format, size.0, size.1, &mut pixels, stride)?;
        let report = matter
            .process(&view(&picture)?, &mut output)
            .with_context(|| format!("{}: frame {}", job.input.display(), done.frames))?;
        if let MatteState::Failed(reason) = &report.matte {
            if done.failures == 0 {
                bar.suspend(|| log::warn!("frame {}: no matte: {reason}", done.frames));
            }
            done.failures += 1;
        }
        done.without_matte += u64::from(!report.has_matte());
        done.repairs += u64::from(matches!(report.repair, Some(Repair::Started { .. })));
        done.seeded |= report.has_matte();
        writer.write(&pixels, picture.timing())?;
        matter.remember()?;
        done.frames += 1;
        bar.inc(1);
        next = if args.frames == Some(done.frames) {
            None
        } else {
            reader
                .read()
                .with_context(|| format!("after frame {}", done.frames - 1))?
        };
    }
    Ok(done)
}

/// With a known number of frames, and without.
const TEMPLATES: [&str; 2] = [
    "{prefix}{bar:30} frame {pos}/{len}, {per_sec}, {eta} left",
    "{prefix}{spinner} frame {pos}, {per_sec}, {elapsed}",
];

/// A line on the terminal; nothing elsewhere.
fn progress(total: Option<u64>, title: String) -> ProgressBar {
    let (bar, template) = match total {
        Some(total) => (ProgressBar::new(total), TEMPLATES[0]),
        None => (ProgressBar::no_length(), TEMPLATES[1]),
    };
    let style = ProgressStyle::with_template(template);
    let bar = bar.with_prefix(title);
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        args: Args,
    }

    fn parse(line: &str) -> Args {
        Only::try_parse_from(line.split_whitespace()).unwrap().args
    }

    #[test]
    fn several_inputs_get_outputs_of_their_names() {
        let dir = tempfile::tempdir().unwrap();
        let masks = dir.path().join("masks");
        std::fs::create_dir(&masks).unwrap();
        std::fs::write(masks.join("b.png"), b"").unwrap();
        let line = format!(
            "matte x/a.mp4 y/b.mkv -o out --format webm -m {}",
            masks.display()
        );
        let all = jobs(&parse(&line)).unwrap();
        assert_eq!(all[0].output, Path::new("out/a.webm"));
        assert_eq!(all[0].mask, None);
        assert_eq!(all[1].output, Path::new("out/b.webm"));
        assert_eq!(all[1].mask, Some(masks.join("b.png")));
        let same = jobs(&parse("matte x/a.mp4 y/a.mkv -o out")).unwrap_err();
        assert!(same.to_string().contains("two inputs are called a"));
    }

    #[test]
    fn every_progress_line_is_a_valid_one() {
        for total in [Some(10), None] {
            let bar = progress(total, "1/2 a.mp4 ".to_owned());
            bar.inc(3);
            assert_eq!(bar.position(), 3);
            bar.finish_and_clear();
        }
        for template in TEMPLATES {
            ProgressStyle::with_template(template).unwrap();
        }
    }
}
