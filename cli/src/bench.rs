//! `matte bench`: where the time goes, and whether memory stays put.

mod against;
mod allocations;
mod layers;
mod peak;
mod picture;

use std::time::{Duration, Instant};

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use matte_core::import::{Checkpoint, WeightSource};
use matte_core::{
    Backend, Colorimetry, Frame, Mask, MatteState, Matter, ModelSet, Options, OutputFormat,
    OutputMut, Package, PixelFormat, Plane, Precision, SeedMode, Stage,
};
use serde::Serialize;

use against::{Comparison, Side};
use layers::GraphCost;
use peak::Peak;

use crate::engine::{EngineArgs, parse_size};
use crate::{doctor, models};

/// Frames before anything is counted: the memory bank is full and every buffer has its size.
const WARM_UP: u32 = 30;
/// Frames that are profiled, at most.
const PROFILED: u32 = 30;
/// Dearest nodes that a table shows.
const SHOWN: usize = 20;
/// Different pictures that the synthetic video repeats.
const PICTURES: u32 = 24;
/// After how many frames the resident memory is looked at.
const MEMORY_AT: [u32; 2] = [300, 3000];

/// Measure the engine on synthetic frames in memory.
#[derive(Debug, clap::Args)]
#[command(args_override_self = true)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "switches of the command line"
)]
pub(crate) struct Args {
    #[command(flatten)]
    engine: EngineArgs,
    /// Fill the network's skeleton with weights made by rule: the speed is that of the real ones.
    #[arg(long)]
    rule_weights: bool,
    /// Frame sizes to measure.
    #[arg(long, value_parser = parse_size, default_values = ["1280x720", "1920x1080"])]
    size: Vec<(u32, u32)>,
    /// Frames to measure, at most.
    #[arg(long, default_value_t = 300)]
    frames: u32,
    /// Time to measure a size for, at most, in seconds; at least ten frames are measured.
    #[arg(long, default_value_t = 30.0)]
    seconds: f64,
    /// Do not measure the memory after 300 and 3,000 frames.
    #[arg(long)]
    no_memory: bool,
    /// Working size while the memory is measured.
    #[arg(long, value_parser = parse_size)]
    memory_working_size: Option<(u32, u32)>,
    /// Show what every node of the network costs. The network runs once more for that, profiled.
    #[arg(long)]
    layers: bool,
    /// Compare with other options of `matte bench`, run in turn, such as "--precision full". They come after those given
    /// for both.
    #[arg(long, value_name = "OPTIONS", allow_hyphen_values = true)]
    against: Option<String>,
    /// Compare with another build of this program.
    #[arg(long, value_name = "FILE")]
    against_program: Option<PathBuf>,
    /// How often each side runs when there is something to compare.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Print JSON instead of tables.
    #[arg(long)]
    json: bool,
    /// Do not measure what the machine can do at most. What runs for a comparison gets this: only times are compared.
    #[arg(long, hide = true)]
    no_peak: bool,
    /// Draw what a frame costs into an SVG file, too.
    #[arg(long, value_name = "FILE")]
    picture: Option<PathBuf>,
    /// Measure nothing: draw what earlier runs printed with --json.
    #[arg(long, value_name = "FILE", num_args = 1.., requires = "picture")]
    reports: Vec<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Report {
    machine: String,
    command: String,
    version: &'static str,
    runs: Vec<Run>,
    memory: Option<Memory>,
}

/// One frame size. Times in milliseconds.
#[derive(Debug, Serialize)]
struct Run {
    backend: String,
    /// Threads that the network may use.
    threads: usize,
    model: String,
    frame_size: (u32, u32),
    working_size: (u32, u32),
    frames: u32,
    /// From the first call until the first matted frame was there.
    start: f64,
    /// A frame in, a frame out.
    latency: Quantiles,
    /// The same, and what is remembered afterwards.
    whole: Quantiles,
    frames_a_second: f64,
    allocations_a_frame: f64,
    stages: Vec<StageTimes>,
    /// What the machine could do just before or after.
    peak: Option<Peak>,
    /// With `--layers`.
    graphs: Vec<GraphCost>,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Quantiles {
    p50: f64,
    p95: f64,
    p99: f64,
}

#[derive(Debug, Serialize)]
struct StageTimes {
    stage: &'static str,
    runs: u64,
    p50: f64,
    p95: f64,
    p99: f64,
}

#[derive(Debug, Serialize)]
struct Memory {
    working_size: (u32, u32),
    /// Frames and resident megabytes after them.
    resident: Vec<(u32, f64)>,
    ratio: f64,
}

/// What was typed.
fn command() -> String {
    std::env::args().collect::<Vec<_>>().join(" ")
}

/// Runs this program, or another, with other options in turn.
fn compare(args: &Args) -> Result<()> {
    let own = std::env::current_exe().context("the path of this program is not known")?;
    // What both sides get: everything but what asks for the comparison.
    let mut shared = Vec::new();
    let mut given = std::env::args()
        .skip(1)
        .skip_while(|a| a != "bench")
        .skip(1);
    while let Some(word) = given.next() {
        let (name, value) = word
            .split_once('=')
            .map_or((word.as_str(), false), |(n, _)| (n, true));
        match name {
            "--against" | "--against-program" | "--rounds" | "--picture" => {
                if !value {
                    given.next();
                }
            }
            "--json" | "--no-memory" | "--layers" => {}
            _ => shared.push(word),
        }
    }
    let mut options = shared.clone();
    options.extend(
        args.against
            .iter()
            .flat_map(|o| o.split_whitespace())
            .map(str::to_owned),
    );
    // Only this build is known to take it.
    shared.push("--no-peak".to_owned());
    if args.against_program.is_none() {
        options.push("--no-peak".to_owned());
    }
    let sides = [
        Side {
            program: &own,
            options: shared,
        },
        Side {
            program: args.against_program.as_deref().unwrap_or(&own),
            options,
        },
    ];
    let comparison = Comparison {
        machine: machine(),
        command: command(),
        rounds: args.rounds,
        runs: against::compare(&sides, args.rounds)?,
    };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&comparison)?);
    } else {
        against::print(&comparison);
    }
    picture(args, &comparison)
}

/// Draws a report, where a picture is asked for.
fn picture(args: &Args, report: &impl Serialize) -> Result<()> {
    match &args.picture {
        Some(file) => picture::draw(&[serde_json::to_value(report)?], file),
        None => Ok(()),
    }
}

/// Draws reports of earlier runs.
fn draw_reports(args: &Args, file: &Path) -> Result<()> {
    let reports = args
        .reports
        .iter()
        .map(|path| {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            serde_json::from_str(&text)
                .with_context(|| format!("{} is no report in JSON", path.display()))
        })
        .collect::<Result<Vec<_>>>()?;
    picture::draw(&reports, file)
}

pub(crate) fn run(args: &Args) -> Result<()> {
    if let (Some(file), false) = (&args.picture, args.reports.is_empty()) {
        return draw_reports(args, file);
    }
    if args.against.is_some() || args.against_program.is_some() {
        return compare(args);
    }
    // Lives as long as the measurement; dropping it removes the files.
    let folder = args
        .rule_weights
        .then(|| rule_weights(&args.engine.model))
        .transpose()?;
    let models = match &folder {
        Some(folder) => {
            let segmentation = ModelSet::find(crate::engine::DEFAULT_MODEL)
                .ok()
                .and_then(|set| set.segmentation);
            ModelSet {
                matting: Package::open(folder.path().join("package"))?,
                segmentation,
            }
        }
        None => ModelSet::find(&args.engine.model)?,
    };
    let options = args.engine.options(SeedMode::Mask)?;
    let mut runs = Vec::with_capacity(args.size.len());
    for &size in &args.size {
        runs.push(measure(&models, args.engine.backend, &options, size, args)?);
    }
    let memory = if args.no_memory {
        None
    } else {
        Some(memory(&models, &options, args)?)
    };
    let report = Report {
        machine: machine(),
        command: command(),
        version: env!("CARGO_PKG_VERSION"),
        runs,
        memory,
    };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print(&report);
    }
    picture(args, &report)
}

/// The skeleton with weights made by rule, in a temporary folder.
fn rule_weights(model: &str) -> Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    let weights = Checkpoint::deterministic();
    let target = folder.path().join("package");
    models::skeleton(model)?.import(&WeightSource::Checkpoint(&weights), &target)?;
    Ok(folder)
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cores = cores();
    format!(
        "{}, {cores} cores, {}",
        doctor::name(&info),
        std::env::consts::OS
    )
}

/// A person-like shape that sways before a textured wall, in NV12 as cameras and decoders give it.
struct Video {
    size: (u32, u32),
    pictures: Vec<(Vec<u8>, Vec<u8>)>,
    mask: Vec<u8>,
}

impl Video {
    fn new((width, height): (u32, u32)) -> Self {
        let inside = |x: u32, y: u32, picture: u32| {
            let sway = (std::f32::consts::TAU * picture as f32 / PICTURES as f32).sin() * 0.03;
            let u = (x as f32 + 0.5) / width as f32 - 0.5 - sway;
            let v = (y as f32 + 0.5) / height as f32;
            let aspect = width as f32 / height as f32;
            let head = (u * aspect).hypot(v - 0.3) < 0.14;
            let body = (u * aspect / 0.32).hypot((v - 1.0) / 0.58) < 1.0;
            head || body
        };
        let pictures = (0..PICTURES)
            .map(|picture| {
                let mut luma = Vec::with_capacity((width * height) as usize);
                for y in 0..height {
                    for x in 0..width {
                        let texture = (x.wrapping_mul(31) ^ y.wrapping_mul(17)) % 24;
                        luma.push(if inside(x, y, picture) {
                            150 + texture as u8
                        } else {
                            60 + texture as u8
                        });
                    }
                }
                let (w, h) = (width.div_ceil(2), height.div_ceil(2));
                let mut chroma = Vec::with_capacity((w * h * 2) as usize);
                for y in 0..h {
                    for x in 0..w {
                        chroma.extend(if inside(x * 2, y * 2, picture) {
                            [110, 150]
                        } else {
                            [140, 120]
                        });
                    }
                }
                (luma, chroma)
            })
            .collect();
        let mask = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        let mask = mask
            .map(|(x, y)| if inside(x, y, 0) { 255 } else { 0 })
            .collect();
        Self {
            size: (width, height),
            pictures,
            mask,
        }
    }

    fn frame(&self, number: u32) -> Result<Frame<'_>> {
        let (width, height) = self.size;
        let (luma, chroma) = &self.pictures[(number % PICTURES) as usize];
        let planes = [
            Plane {
                data: luma,
                stride: width as usize,
            },
            Plane {
                data: chroma,
                stride: width.div_ceil(2) as usize * 2,
            },
        ];
        Ok(Frame::new(
            PixelFormat::Nv12,
            width,
            height,
            &planes,
            Colorimetry::default(),
        )?)
    }

    /// Names the target.
    fn seed(&self, matter: &mut Matter) -> Result<()> {
        let mask = Mask::new(self.size.0, self.size.1, &self.mask, self.size.0 as usize)?;
        Ok(matter.seed(&self.frame(0)?, &mask)?)
    }
}

/// Times of a frame: until it was out, and until it was remembered.
fn step(
    matter: &mut Matter,
    video: &Video,
    number: u32,
    out: &mut [u8],
) -> Result<(Duration, Duration)> {
    let (width, height) = video.size;
    let frame = video.frame(number)?;
    let start = Instant::now();
    let mut output = OutputMut::new(OutputFormat::Rgba, width, height, out, width as usize * 4)?;
    let report = matter.process(&frame, &mut output)?;
    let latency = start.elapsed();
    matter.remember()?;
    if let MatteState::Failed(reason) = report.matte {
        bail!("frame {number}: no matte: {reason}");
    }
    Ok((latency, start.elapsed()))
}

fn measure(
    models: &ModelSet,
    backend: Backend,
    options: &Options,
    size: (u32, u32),
    args: &Args,
) -> Result<Run> {
    let before = (!args.no_peak).then(Peak::measure);
    let video = Video::new(size);
    let mut out = vec![0; size.0 as usize * size.1 as usize * 4];
    let begin = Instant::now();
    let mut matter = Matter::open(models, backend, options.clone(), size)?;
    video.seed(&mut matter)?;
    step(&mut matter, &video, 0, &mut out)?;
    let start = begin.elapsed();
    let slow = begin.elapsed();
    for number in 1..WARM_UP {
        step(&mut matter, &video, number, &mut out)?;
        // A large network on a small machine: the bank may not be full, and the report says how many frames there were.
        if slow.as_secs_f64() > args.seconds && number >= 5 {
            break;
        }
    }
    // Naming the target and warming up run some stages more often, and the first time slower, than a stream does.
    matter.clear_stage_times();
    let mut times = Vec::with_capacity(args.frames as usize);
    let allocations = allocations::count();
    let begin = Instant::now();
    for number in 0..args.frames {
        times.push(step(&mut matter, &video, WARM_UP + number, &mut out)?);
        if begin.elapsed().as_secs_f64() > args.seconds && times.len() >= 10 {
            break;
        }
    }
    let elapsed = begin.elapsed();
    let allocations = allocations::count() - allocations;
    let frames = times.len();
    let stats = matter.stats();
    drop(matter);
    let peak = before.map(|before| before.max(Peak::measure()));
    let graphs = match args.layers {
        true => graph_costs(models, backend, options, &video, args.seconds)?,
        false => Vec::new(),
    };
    let stages = Stage::ALL
        .into_iter()
        .map(|stage| (stage, stats.stage(stage)))
        .filter(|(_, times)| times.runs > 0);
    Ok(Run {
        backend: stats.backend.clone(),
        threads: match options.threads {
            0 => cores(),
            threads => threads as usize,
        },
        model: stats.model.clone(),
        frame_size: size,
        working_size: stats.working_size,
        frames: frames as u32,
        start: milliseconds(start),
        latency: Quantiles::of(times.iter().map(|(latency, _)| *latency)),
        whole: Quantiles::of(times.iter().map(|(_, whole)| *whole)),
        frames_a_second: frames as f64 / elapsed.as_secs_f64(),
        allocations_a_frame: allocations as f64 / frames as f64,
        stages: stages
            .map(|(stage, times)| StageTimes {
                stage: stage.name(),
                runs: times.runs,
                p50: milliseconds(times.p50),
                p95: milliseconds(times.p95),
                p99: milliseconds(times.p99),
            })
            .collect(),
        peak,
        graphs,
    })
}

/// What the nodes of every graph cost. Multiplications are counted in the graphs at full precision: of those in 8-bit
/// integers ONNX Runtime does not tell the shapes of the weights.
fn graph_costs(
    models: &ModelSet,
    backend: Backend,
    options: &Options,
    video: &Video,
    seconds: f64,
) -> Result<Vec<GraphCost>> {
    let profile = |precision| -> Result<Vec<GraphCost>> {
        let folder = tempfile::tempdir()?;
        let options = Options {
            precision,
            profile_dir: Some(folder.path().into()),
            ..options.clone()
        };
        let mut out = vec![0; video.size.0 as usize * video.size.1 as usize * 4];
        let mut matter = Matter::open(models, backend, options, video.size)?;
        video.seed(&mut matter)?;
        let begin = Instant::now();
        for number in 0..PROFILED {
            step(&mut matter, video, number, &mut out)?;
            // What is remembered every fifth frame is to be seen as well.
            if begin.elapsed().as_secs_f64() > seconds && number >= 5 {
                break;
            }
        }
        drop(matter);
        layers::read(folder.path())
    };
    let mut costs = profile(options.precision)?;
    if options.precision != Precision::Full {
        for (cost, full) in costs.iter_mut().zip(profile(Precision::Full)?) {
            cost.gmac = full.gmac;
        }
    }
    Ok(costs)
}

/// Resident memory after few and after many frames.
fn memory(models: &ModelSet, options: &Options, args: &Args) -> Result<Memory> {
    let mut options = options.clone();
    options.working_size = args.memory_working_size.or(options.working_size);
    // Frames no larger than what is looked at: it is the engine's memory that may grow, not the frame's.
    let size = options
        .working_size
        .or(args.size.first().copied())
        .unwrap_or((1280, 720));
    let video = Video::new(size);
    let mut out = vec![0; size.0 as usize * size.1 as usize * 4];
    let mut matter = Matter::open(models, args.engine.backend, options, size)?;
    video.seed(&mut matter)?;
    let mut resident = Vec::with_capacity(MEMORY_AT.len());
    for number in 1..=MEMORY_AT[MEMORY_AT.len() - 1] {
        step(&mut matter, &video, number, &mut out)?;
        if MEMORY_AT.contains(&number) {
            resident.push((number, resident_megabytes()?));
        }
    }
    let ratio = resident[resident.len() - 1].1 / resident[0].1;
    Ok(Memory {
        working_size: matter.stats().working_size,
        resident,
        ratio,
    })
}

/// Memory of this process that lies in RAM.
fn resident_megabytes() -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")
        .context("resident memory is known on Linux only; --no-memory leaves it out")?;
    let kilobytes = status.lines().find_map(|line| {
        line.strip_prefix("VmRSS:")?
            .trim()
            .strip_suffix("kB")?
            .trim()
            .parse::<f64>()
            .ok()
    });
    Ok(kilobytes.context("no VmRSS in /proc/self/status")? / 1024.0)
}

impl Quantiles {
    fn of(times: impl Iterator<Item = Duration>) -> Self {
        let mut times: Vec<Duration> = times.collect();
        times.sort_unstable();
        let at = |quantile: f64| {
            let index = ((times.len().max(1) - 1) as f64 * quantile).round() as usize;
            milliseconds(times.get(index).copied().unwrap_or_default())
        };
        Self {
            p50: at(0.5),
            p95: at(0.95),
            p99: at(0.99),
        }
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn print(report: &Report) {
    println!("{}", report.machine);
    println!("$ {}", report.command);
    for run in &report.runs {
        println!(
            "\n{}x{} NV12 in, RGBA out; {}, model {}, working size {}x{}, {} frames",
            run.frame_size.0,
            run.frame_size.1,
            run.backend,
            run.model,
            run.working_size.0,
            run.working_size.1,
            run.frames
        );
        println!(
            "{:14} {:>8} {:>10} {:>10} {:>10}",
            "stage", "runs", "p50 ms", "p95 ms", "p99 ms"
        );
        for stage in &run.stages {
            println!(
                "{:14} {:>8} {:>10.2} {:>10.2} {:>10.2}",
                stage.stage, stage.runs, stage.p50, stage.p95, stage.p99
            );
        }
        println!(
            "{:14} {:>8} {:>10.2} {:>10.2} {:>10.2}",
            "frame out", run.frames, run.latency.p50, run.latency.p95, run.latency.p99
        );
        println!(
            "{:14} {:>8} {:>10.2} {:>10.2} {:>10.2}",
            "and remembered", run.frames, run.whole.p50, run.whole.p95, run.whole.p99
        );
        println!(
            "{:.1} frames a second; first matte after {:.0} ms; {:.2} allocations a frame",
            run.frames_a_second, run.start, run.allocations_a_frame
        );
        if let Some(peak) = &run.peak {
            print_peak(run, peak);
        }
    }
    if let Some(memory) = &report.memory {
        println!(
            "\nresident memory at working size {}x{}:",
            memory.working_size.0, memory.working_size.1
        );
        for (frames, megabytes) in &memory.resident {
            println!("  after {frames} frames: {megabytes:.1} MB");
        }
        println!("  ratio {:.3}", memory.ratio);
    }
}

/// The peak, and with `--layers` what the graphs make of it.
fn print_peak(run: &Run, peak: &Peak) {
    println!(
        "f32 arithmetic: {:.0} GFLOP/s on one core, {:.0} on all, {:.0} in matrix products on all; copying {:.1} GB/s",
        peak.one_core, peak.all_cores, peak.product, peak.copy
    );
    for cost in &run.graphs {
        let stage = run.stages.iter().find(|s| s.stage == cost.graph);
        let rate = stage.map_or(0.0, |s| 2.0 * cost.gmac / s.p50 * 1e3);
        println!(
            "\n{}: {:.3} GMAC, {:.0} GFLOP/s in its stage's p50, {:.0} % of the peak of {} threads and {:.0} % of their \
             matrix products; {:.2} ms in its nodes while profiled",
            cost.graph,
            cost.gmac,
            rate,
            100.0 * rate / peak.of(run.threads),
            run.threads,
            100.0 * rate / peak.product_of(run.threads),
            cost.milliseconds
        );
        println!("{:>10} {:>10} {:>10}  node", "ms", "GMAC", "GFLOP/s");
        for node in cost.nodes.iter().take(SHOWN) {
            println!(
                "{:>10.3} {:>10.4} {:>10.0}  {} {}",
                node.milliseconds,
                node.gmac,
                2.0 * node.gmac / node.milliseconds * 1e3,
                node.operator,
                node.name
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_sorted_times() {
        let times = (1..=101_u64).rev().map(Duration::from_millis);
        let Quantiles { p50, p95, p99 } = Quantiles::of(times);
        assert!((p95 - 96.0).abs() < 1e-9, "{p95}");
        assert!(
            (p50 - 51.0).abs() < 1e-9 && (p99 - 100.0).abs() < 1e-9,
            "{p50} {p99}"
        );
    }

    #[test]
    fn synthetic_frames_are_valid_and_hold_a_target() {
        let video = Video::new((63, 37));
        video.frame(PICTURES + 1).unwrap();
        let inside = video.mask.iter().filter(|value| **value > 127).count();
        assert!(
            inside > video.mask.len() / 10 && inside < video.mask.len() * 6 / 10,
            "{inside}"
        );
    }

    #[test]
    fn allocations_are_counted() {
        let before = allocations::count();
        let kept = std::hint::black_box(vec![0_u8; 100]);
        assert!(allocations::count() > before);
        drop(kept);
    }
}
