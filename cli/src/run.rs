//! `matte run`: videos, cameras or folders of images through the engine.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use matte_core::{
    Background, MaskImage, MatteState, Matter, ModelSet, Options, OutputFormat, OutputMut, Repair,
    SeedMode,
};

use crate::engine::{EngineArgs, view};
use crate::video::{Content, Format, Frames, Reader, Want, Writer, is_complete, name_of, part_of};

/// Cut a person, or what a mask names, out of videos.
///
/// Every decoded frame gives one output frame, at its time; in a .webm, whose frames are equally long, frames are repeated
/// or left out for that. Sound is not copied. A video is written beside its place, as NAME.part.EXT, and takes its name
/// when it is complete; what was written before an error stays there. Ctrl-C ends a camera, whose video is complete then, and
/// stops everything else; a second one stops at once.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Video files, a camera (/dev/video0) or folders of PNG or JPEG images.
    #[arg(required = true)]
    input: Vec<PathBuf>,
    /// Mask of the first frame: white where the target is, any size with the aspect ratio of the frame. For several
    /// inputs a folder, with a mask called NAME.png for each that needs one. Without a mask a person is looked for.
    #[arg(short, long)]
    mask: Option<PathBuf>,
    /// A video (.mov: ProRes 4444, or PNG where that encoder is missing; .webm: VP9, through ffmpeg, at a constant frame
    /// rate; .mkv: FFV1, lossless; .mp4: H.264, for an opaque background and even sizes) or a folder, which gets PNG files
    /// numbered from 000000.png. For several inputs a folder, in which each gets an output of its name.
    #[arg(short, long)]
    output: PathBuf,
    /// What is written for each input into the folder that the output names; .mov by default.
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Go on where an earlier run ended: outputs that are complete are skipped, a folder of PNG files gets those that it
    /// lacks. The frames before them are matted again, as the memory of the target needs them, but not written.
    #[arg(long)]
    resume: bool,
    /// Write the alpha alone, as 8-bit grey.
    #[arg(long)]
    alpha_only: bool,
    /// Frames a second of a folder of images, as in 25 or 30000/1001; 30 by default. A video has its own.
    #[arg(long, value_parser = frame_rate)]
    frame_rate: Option<gst::Fraction>,
    /// Stop after so many frames of each input.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    frames: Option<u64>,
    #[command(flatten)]
    engine: EngineArgs,
}

/// One input.
#[derive(Debug, PartialEq, Eq)]
struct Job {
    input: PathBuf,
    mask: Option<PathBuf>,
    output: PathBuf,
    format: Format,
}

/// What has become of an input.
struct Done {
    frames: u64,
    without_matte: u64,
    failures: u64,
    repairs: u64,
    seeded: bool,
    /// When the last picture ends, from the first one on.
    end: Option<gst::ClockTime>,
}

fn frame_rate(text: &str) -> Result<gst::Fraction> {
    let (numer, denom) = text.split_once('/').unwrap_or((text, "1"));
    let parsed = (numer.parse::<i32>().ok()).zip(denom.parse::<i32>().ok());
    match parsed {
        Some((numer, denom)) if numer > 0 && denom > 0 && numer / denom <= 1000 => {
            Ok(gst::Fraction::new(numer, denom))
        }
        _ => bail!("{text:?} is no frame rate of up to 1000; write 25 or 30000/1001"),
    }
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    match text.chars().all(is_plain) {
        true => text,
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

/// The mask of an input: the one of its name in a folder of them, if there is one, or the one that is given.
fn mask_of(masks: Option<&Path>, name: &str) -> Option<PathBuf> {
    let masks = masks?;
    if !masks.is_dir() {
        return Some(masks.to_owned());
    }
    let mask = masks.join(format!("{name}.png"));
    if mask.exists() {
        return Some(mask);
    }
    eprintln!(
        "{name}: {} is not there; a person is looked for",
        mask.display()
    );
    None
}

fn jobs(args: &Args) -> Result<Vec<Job>> {
    // A pattern of the shell may match one file alone: what is said of a folder goes for that, too.
    let named = Format::of(&args.output);
    let is_folder = matches!(named, Ok(Format::Png)) && args.format.is_some();
    let format = args.format.unwrap_or_default();
    if let [input] = args.input.as_slice()
        && !is_folder
    {
        let named = named?;
        ensure!(
            args.format.is_none_or(|format| format == named),
            "{}: its name asks for another format than --format; give a folder, or leave one of them out",
            args.output.display()
        );
        return Ok(vec![Job {
            input: input.clone(),
            mask: mask_of(args.mask.as_deref(), &name_of(input).unwrap_or_default()),
            output: args.output.clone(),
            format: named,
        }]);
    }
    let mut names = BTreeSet::new();
    let masks = args.mask.as_deref();
    if let Some(masks) = masks {
        ensure!(
            masks.is_dir() || args.input.len() == 1,
            "{}: several inputs need a folder of masks, one called NAME.png for each input",
            masks.display()
        );
    }
    args.input
        .iter()
        .map(|input| {
            let name = name_of(input)
                .with_context(|| format!("{}: no name to write it under", input.display()))?;
            ensure!(
                names.insert(name.clone()),
                "two inputs are called {name}: their outputs would be one file"
            );
            Ok(Job {
                input: input.clone(),
                mask: mask_of(masks, &name),
                output: format.path(&args.output, &name),
                format,
            })
        })
        .collect()
}

/// Refuses outputs that would be written over an input, be it that of another one.
fn spare_inputs(jobs: &[Job]) -> Result<()> {
    let inputs: BTreeSet<PathBuf> = jobs
        .iter()
        .filter_map(|job| job.input.canonicalize().ok())
        .collect();
    let outputs: BTreeSet<&Path> = jobs.iter().map(|job| job.output.as_path()).collect();
    for job in jobs {
        ensure!(
            !outputs.contains(part_of(&job.output).as_path()),
            "{}: another output of this run has the name that it has while it is written",
            job.output.display()
        );
        for written in [job.output.clone(), part_of(&job.output)] {
            // What does not exist is no input.
            let same = written.canonicalize().ok();
            if let Some(same) = same.filter(|path| inputs.contains(path)) {
                bail!(
                    "{}: would be written over the input {}; choose another output",
                    job.output.display(),
                    same.display()
                );
            }
        }
    }
    Ok(())
}

/// What signals ask for. The first Ctrl-C sets `flag`, the second one ends the program. SIGTERM ends it at once, but for a
/// camera's recording, which it completes as Ctrl-C does.
struct Stop {
    flag: Arc<AtomicBool>,
    term_ends: Arc<AtomicBool>,
}

impl Stop {
    fn at_signals() -> Result<Self> {
        use signal_hook::consts::{SIGINT, SIGTERM};
        use signal_hook::flag::{register, register_conditional_default};
        let stop = Self {
            flag: Arc::new(AtomicBool::new(false)),
            term_ends: Arc::new(AtomicBool::new(true)),
        };
        register_conditional_default(SIGTERM, Arc::clone(&stop.term_ends))?;
        for signal in [SIGINT, SIGTERM] {
            // In this order: the first signal finds the flag unset here.
            register_conditional_default(signal, Arc::clone(&stop.flag))?;
            register(signal, Arc::clone(&stop.flag))?;
        }
        Ok(stop)
    }

    fn is_set(&self) -> bool {
        self.flag.load(Ordering::Relaxed)
    }

    /// A camera is being recorded until what is returned is dropped.
    fn recording(&self) -> Recording<'_> {
        self.term_ends.store(false, Ordering::SeqCst);
        Recording(self)
    }
}

struct Recording<'a>(&'a Stop);

impl Drop for Recording<'_> {
    fn drop(&mut self) {
        self.0.term_ends.store(true, Ordering::SeqCst);
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let models = ModelSet::find(&args.engine.model)?;
    let jobs = jobs(args)?;
    spare_inputs(&jobs)?;
    let stop = Stop::at_signals()?;
    if jobs.iter().any(|job| job.output != args.output) {
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
        let done = one(args, &models, job, &mut engine, title, &stop);
        let stopped = stop.is_set();
        if let Err(error) = done {
            if jobs.len() == 1 || stopped {
                return Err(error);
            }
            eprintln!("matte: {error:#}");
            failed.push(job.input.display().to_string());
            // Whatever state the error has left the engine in.
            engine = None;
        }
        let left = jobs.len() - number - 1;
        ensure!(
            !stopped || left == 0,
            "interrupted; {left} inputs were not begun"
        );
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
    stop: &Stop,
) -> Result<()> {
    let started = Instant::now();
    let seed = match job.mask {
        Some(_) => SeedMode::Mask,
        None => SeedMode::Auto,
    };
    let options = args.engine.options(seed)?;
    let mask = job.mask.as_ref().map(MaskImage::read).transpose()?;
    let mut reader = Reader::open_until(&job.input, Want::Colour, &stop.flag)?;
    let Some(mut first) = reader.read()? else {
        bail!("{}: no frames in it", job.input.display());
    };
    let size = first.size();
    let content = match (args.alpha_only, options.background) {
        (true, _) => Content::Alpha,
        (false, Background::Transparent) => Content::Rgba,
        (false, _) => Content::Opaque,
    };
    let output = Frames {
        content,
        size,
        rate: reader.frame_rate().or(args.frame_rate),
        pixel_aspect: reader.pixel_aspect(),
        colorimetry: reader.colorimetry(),
    };
    if output.rate.is_none() && job.format != Format::Png {
        eprintln!(
            "{}: no frame rate is known, and 30 a second are taken; --frame-rate says another",
            job.input.display()
        );
    }
    // Before a model is opened for nothing.
    Writer::check(&job.output, job.format, &output)?;
    if reader.is_hdr() {
        eprintln!(
            "{}: coded for HDR; its colours are written as they are coded, which players have to know (a .webm and \
             pictures do not say it)",
            job.input.display()
        );
    }
    let matter = engine_for(engine, args, models, &options, size)?;
    if reader.is_camera() {
        // What it has seen while the model was opened would stand still at the beginning.
        reader.skip_captured();
        first = match reader.read()? {
            Some(first) => first,
            None => bail!("{}: interrupted", job.input.display()),
        };
    }
    ensure!(!stop.is_set(), "{}: interrupted", job.input.display());
    if let Some(mask) = &mask {
        matter.seed(&view(&first)?, &mask.as_mask())?;
    }
    let _recording = reader.is_camera().then(|| stop.recording());
    let mut writer = Writer::create(&job.output, job.format, &output, args.resume)?;
    let bar = progress(args.frames.or_else(|| reader.estimated_frames()), title);
    let done = frames(
        args,
        job,
        first,
        &mut reader,
        matter,
        &mut writer,
        &bar,
        stop,
    );
    bar.finish_and_clear();
    let done = match done {
        Ok(done) => done,
        // What is there is completed as far as it goes, and said to be there.
        Err(error) => return Err(error.context(writer.salvage())),
    };
    if !done.seeded {
        // Under its name it would count as done.
        let kept = writer.discard().err();
        bail!(
            "{}: nothing was cut out of {} frames, so nothing is kept{}: {}",
            job.input.display(),
            done.frames,
            kept.map(|error| format!(" (but {error:#})"))
                .unwrap_or_default(),
            if matter.can_seed_automatically() {
                "no person was found; give a mask (-m)"
            } else {
                "a person can be looked for only with the person segmentation, which `cargo xtask setup` installs; or \
                 give a mask (-m)"
            }
        );
    }
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
    if let (None, Some(end), Some(duration)) = (args.frames, done.end, reader.duration())
        && lacks_an_end(end, duration)
    {
        eprintln!(
            "{}: its pictures end after {:.1} of {:.1} seconds; it may be cut off or damaged",
            job.input.display(),
            end.seconds_f64(),
            duration.seconds_f64()
        );
    }
    if done.without_matte > 0 {
        eprintln!(
            "{} of them have no matte: {} failures, the others before there was a target or while it was lost",
            done.without_matte, done.failures
        );
    }
    if reader.has_sound() && job.format != Format::Png {
        eprintln!(
            "the sound of {} is not in it; `ffmpeg -i {} -i {} -map 0:v -map 1:a -c:v copy OUTPUT` puts both together",
            job.input.display(),
            quoted(&job.output),
            quoted(&job.input)
        );
    }
    if done.repairs > 0 {
        eprintln!("the target was named anew {} times", done.repairs);
    }
    Ok(())
}

/// Whether pictures end so long before the file should that it is not whole: durations are not exact, and sound may go on a little.
fn lacks_an_end(end: gst::ClockTime, duration: gst::ClockTime) -> bool {
    end + gst::ClockTime::SECOND + duration / 50 < duration
}

#[allow(clippy::too_many_arguments, reason = "all of them are the one input")]
fn frames(
    args: &Args,
    job: &Job,
    first: crate::video::Picture,
    reader: &mut Reader,
    matter: &mut Matter,
    writer: &mut Writer,
    bar: &ProgressBar,
    stop: &Stop,
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
        end: None,
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
        let (time, length) = picture.timing();
        done.end = time.map(|time| time + length.unwrap_or_default());
        writer.write(&pixels, (time, length))?;
        matter.remember()?;
        done.frames += 1;
        bar.inc(1);
        next = if args.frames == Some(done.frames) {
            None
        } else {
            // A camera ends by itself then; half of a file is not complete.
            ensure!(
                reader.is_camera() || !stop.is_set(),
                "{}: interrupted",
                job.input.display()
            );
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
    use std::path::Path;

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        args: Args,
    }

    fn parse(line: &str) -> Args {
        Only::try_parse_from(line.split_whitespace()).unwrap().args
    }

    #[test]
    fn a_video_lacks_its_end_where_its_pictures_end_long_before() {
        let lacks = |end, duration| {
            let seconds = |s: f64| gst::ClockTime::from_seconds_f64(s);
            lacks_an_end(seconds(end), seconds(duration))
        };
        assert!(lacks(1.0, 3.7) && lacks(90.0, 100.0));
        assert!(!lacks(3.6, 3.7) && !lacks(98.0, 100.0) && !lacks(5.0, 4.0) && !lacks(0.0, 0.9));
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
    fn one_input_of_a_pattern_is_written_as_several_would_be() {
        let dir = tempfile::tempdir().unwrap();
        let masks = dir.path().join("masks");
        std::fs::create_dir(&masks).unwrap();
        std::fs::write(masks.join("a.png"), b"").unwrap();
        let only = |line: &str| {
            let all = jobs(&parse(&format!("{line} -m {}", masks.display())));
            all.map(|mut all| all.remove(0))
        };
        let job = only("matte x/a.mp4 -o out --format mov").unwrap();
        assert_eq!(job.output, Path::new("out/a.mov"));
        assert_eq!(job.mask, Some(masks.join("a.png")));
        let job = only("matte x/b.mp4 -o out --format png").unwrap();
        assert_eq!((job.output.as_path(), job.mask), (Path::new("out/b"), None));
        let shot = dir.path().join("shot.v1");
        std::fs::create_dir(&shot).unwrap();
        std::fs::write(masks.join("shot.v1.png"), b"").unwrap();
        let job = only(&format!("matte {} -o out.mov", shot.display())).unwrap();
        assert_eq!(job.mask, Some(masks.join("shot.v1.png")));
        // Without it, the output is the folder of pictures; and a name of its own is kept.
        let job = only("matte x/a.mp4 -o out").unwrap();
        assert_eq!(
            (job.output.as_path(), job.format),
            (Path::new("out"), Format::Png)
        );
        assert_eq!(job.mask, Some(masks.join("a.png")));
        let job = only("matte x/a.mp4 -o a.mov --format mov").unwrap();
        assert_eq!(job.output, Path::new("a.mov"));
        let error = only("matte x/a.mp4 -o a.mov --format mkv").unwrap_err();
        assert!(error.to_string().contains("another format"), "{error}");
        // One mask for one input, in a folder of outputs as well.
        let file = masks.join("a.png");
        let line = format!("matte x/b.mp4 -o out --format mov -m {}", file.display());
        assert_eq!(jobs(&parse(&line)).unwrap()[0].mask, Some(file));
    }

    #[test]
    fn an_output_is_not_written_under_the_name_of_another() {
        let all = jobs(&parse("matte a.part.webm a.webm -o out --format mov")).unwrap();
        let error = spare_inputs(&all).unwrap_err().to_string();
        assert!(error.contains("another output of this run"), "{error}");
        assert!(spare_inputs(&jobs(&parse("matte a.webm b.webm -o out")).unwrap()).is_ok());
    }

    #[test]
    fn rates_and_paths_are_read_and_written_as_people_do() {
        assert_eq!(frame_rate("25").unwrap(), gst::Fraction::new(25, 1));
        assert_eq!(
            frame_rate("30000/1001").unwrap(),
            gst::Fraction::new(30000, 1001)
        );
        for wrong in ["", "0", "-5", "25/0", "a", "2000", "25/1/1"] {
            assert!(frame_rate(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(quoted(Path::new("/a/b-c_1.mov")), "/a/b-c_1.mov");
        assert_eq!(quoted(Path::new("it's a.mov")), r"'it'\''s a.mov'");
    }

    #[test]
    fn a_dot_in_a_name_is_no_extension_of_a_folder() {
        let dir = tempfile::tempdir().unwrap();
        let shots = ["shot.v1", "shot.v2"].map(|name| dir.path().join(name));
        for shot in &shots {
            std::fs::create_dir(shot).unwrap();
        }
        let line = format!(
            "matte {} {} 2024.05.01.mp4 a.mov.mp4 -o out --format png",
            shots[0].display(),
            shots[1].display()
        );
        let all = jobs(&parse(&line)).unwrap();
        let outputs: Vec<_> = all.iter().map(|job| job.output.as_path()).collect();
        assert_eq!(
            outputs,
            ["out/shot.v1", "out/shot.v2", "out/2024.05.01", "out/a.mov"].map(Path::new)
        );
        for job in &all {
            let frames = Frames {
                content: Content::Rgba,
                size: (8, 6),
                rate: None,
                pixel_aspect: gst::Fraction::new(1, 1),
                colorimetry: None,
            };
            let path = dir.path().join(&job.output);
            let writer = Writer::create(&path, job.format, &frames, false).unwrap();
            assert!(matches!(writer, Writer::Images(_)), "{}", path.display());
        }
        let one = jobs(&parse("matte x.mp4 -o 2024.05.01")).unwrap_err();
        assert!(one.to_string().contains(".01 cannot be written"));
    }

    #[test]
    fn no_frames_at_all_are_refused() {
        let refused = |line: &str| Only::try_parse_from(line.split_whitespace()).is_err();
        assert!(refused("matte a.mp4 -o b.mov --frames 0"));
        assert!(!refused("matte a.mp4 -o b.mov --frames 1"));
    }

    #[test]
    fn inputs_are_not_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        for name in ["a.mov", "b.mp4", "c.part.mov", "d.mp4"] {
            std::fs::write(at(name), b"").unwrap();
        }
        std::fs::create_dir(at("frames")).unwrap();
        let checked = |line: String| spare_inputs(&jobs(&parse(&line)).unwrap());
        let folder = dir.path().display();
        for line in [
            format!("matte {} -o {}", at("a.mov"), at("a.mov")),
            format!(
                "matte {} -o {}/../frames/../a.mov",
                at("a.mov"),
                at("frames")
            ),
            format!("matte {} -o {}", at("c.part.mov"), at("c.mov")),
            format!("matte {} -o {} --resume", at("frames"), at("frames")),
            format!(
                "matte {} {} -o {folder} --format mp4 --background blur",
                at("b.mp4"),
                at("d.mp4")
            ),
            // The output of the second is written while the first is still to be read.
            format!("matte {} {} -o {folder}", at("c.part.mov"), at("c.mp4")),
            format!(
                "matte {} {} -o {folder} --format png",
                at("frames"),
                at("b.mp4")
            ),
        ] {
            let error = checked(line.clone())
                .err()
                .unwrap_or_else(|| panic!("{line}"));
            assert!(
                error.to_string().contains("written over the input"),
                "{line}: {error}"
            );
        }
        for line in [
            format!("matte {} -o {}", at("a.mov"), at("b.mov")),
            format!("matte {} {} -o {folder}", at("b.mp4"), at("d.mp4")),
            format!("matte {} -o {}", at("missing.mov"), at("missing.mov")),
        ] {
            checked(line).unwrap();
        }
    }

    #[test]
    #[cfg(unix)]
    fn a_recording_is_completed_where_the_program_is_to_end() {
        let stop = Stop::at_signals().unwrap();
        let recording = stop.recording();
        signal_hook::low_level::raise(signal_hook::consts::SIGTERM).unwrap();
        assert!(stop.is_set());
        drop(recording);
        assert!(stop.term_ends.load(Ordering::SeqCst));
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
