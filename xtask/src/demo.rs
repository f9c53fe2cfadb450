//! `cargo xtask demo`: a clip through the GStreamer element, as a user would run it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use image::{Rgb, RgbImage};
use matte_core::runtime::paths;

use crate::command::{self, Profile};
use crate::{astronaut, setup, wheel};

/// Frames that are taken from a camera.
const CAMERA_FRAMES: u32 = 300;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A video file or a camera (/dev/video0); without it, a portrait with a moving camera.
    input: Option<PathBuf>,
    /// Mask of the first frame: white where the target is. Without it a person is looked for.
    #[arg(long)]
    mask: Option<PathBuf>,
    /// Model package; without it, the element's default.
    #[arg(long)]
    model: Option<String>,
    #[command(flatten)]
    setup: setup::Args,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    setup::run(args.setup)?;
    let folder = command::target().join("demo");
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let input = match &args.input {
        Some(input) => input
            .canonicalize()
            .with_context(|| input.display().to_string())?,
        None => default_clip(&folder, args.setup)?,
    };
    let built = command::build(Profile::Release)?;

    let matted = folder.join("matte.mkv");
    println!("matting {}", input.display());
    let report = matte(&built.plugins, &input, args, &matted)?;
    let composite = folder.join("composite.mp4");
    compose(&matted, &report, &folder.join("background.png"), &composite)?;
    let sheet = folder.join("sheet.png");
    let mut draw = Command::new(built.matte);
    draw.arg("sheet").arg(&matted).arg("-o").arg(&sheet);
    if !is_camera(&input) {
        draw.arg("--source").arg(&input);
    }
    command::run(&mut draw)?;

    for (what, path) in [
        ("RGBA video", &matted),
        ("composite", &composite),
        ("contact sheet", &sheet),
    ] {
        println!("{what}: {}", path.display());
    }
    println!("{}", report.line());
    Ok(())
}

/// The clip of the astronaut, made in `folder` unless it is there.
pub(crate) fn default_clip(folder: &Path, setup: setup::Args) -> Result<PathBuf> {
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let clip = folder.join("astronaut.mp4");
    if !clip.is_file() {
        let photograph = paths::cache_dir().join("sources/scikit-image-0.25.2");
        setup::install(&wheel::ASTRONAUT, &photograph, setup)
            .context("the demonstration's photograph; with a video of your own it is not needed")?;
        let fresh = folder.join("astronaut.part.mp4");
        astronaut::write_clip(&photograph.join("astronaut.png"), &fresh)?;
        fs::rename(&fresh, &clip)?;
    }
    Ok(clip)
}

/// A character device, which a file that lies in `/dev/shm` is not.
#[cfg(unix)]
fn is_camera(input: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt as _;
    input.starts_with("/dev")
        && fs::metadata(input).is_ok_and(|file| file.file_type().is_char_device())
}

#[cfg(not(unix))]
fn is_camera(_input: &Path) -> bool {
    false
}

/// What the pipeline said about itself.
#[derive(Debug, Default, PartialEq)]
struct Report {
    backend: String,
    model: String,
    working_size: String,
    /// Width, height and frame rate of the video.
    size: (u32, u32),
    frame_rate: String,
    /// How long each frame took from the element's sink pad to its source pad.
    latencies: Vec<Duration>,
    seeded: bool,
    elapsed: Duration,
}

impl Report {
    fn line(&self) -> String {
        let at = |quantile: f64| {
            let mut sorted = self.latencies.clone();
            sorted.sort_unstable();
            let index = ((sorted.len().max(1) - 1) as f64 * quantile).round() as usize;
            sorted.get(index).copied().unwrap_or_default().as_secs_f64() * 1e3
        };
        let frames = self.latencies.len();
        format!(
            "{}, model {}, working size {}: {frames} frames of {}x{} in {:.1} s from start to end, {:.1} frames a \
             second (decode, matte, encode); a frame takes {:.1} ms in the element (median), {:.1} ms (99 %){}",
            self.backend,
            self.model,
            self.working_size,
            self.size.0,
            self.size.1,
            self.elapsed.as_secs_f64(),
            frames as f64 / self.elapsed.as_secs_f64().max(1e-3),
            at(0.5),
            at(0.99),
            if self.seeded {
                ""
            } else {
                "; NO TARGET WAS FOUND, so all of it is transparent"
            }
        )
    }
}

/// Runs the element over the input into an RGBA video.
fn matte(plugins: &Path, input: &Path, args: &Args, output: &Path) -> Result<Report> {
    let trace = output.with_extension("trace");
    let mut launch = Command::new("gst-launch-1.0");
    // -v prints caps, -m prints messages; the tracer writes how long each frame stays in each element.
    launch.args(["-e", "-v", "-m"]);
    if is_camera(input) {
        launch
            .arg("v4l2src")
            .arg(format!("device={}", input.display()))
            .arg(format!("num-buffers={CAMERA_FRAMES}"));
    } else {
        launch
            .arg("filesrc")
            .arg(format!("location={}", input.display()))
            .args(["!", "decodebin"]);
    }
    launch.args(["!", "videoconvert", "!", "mattefilter", "name=matte"]);
    if let Some(model) = &args.model {
        launch.arg(format!("model={model}"));
    }
    if let Some(mask) = &args.mask {
        launch
            .arg(format!("mask-location={}", mask.display()))
            .arg("seed=mask");
    }
    launch
        .args("! video/x-raw,format=BGRA ! queue ! avenc_ffv1 ! matroskamux ! filesink".split(' '));
    launch.arg(format!("location={}", output.display()));
    launch.env("GST_PLUGIN_PATH", command::plugin_path(plugins));
    launch
        .env("GST_TRACERS", "latency(flags=element)")
        .env("GST_DEBUG", "GST_TRACER:7");
    launch
        .env("GST_DEBUG_FILE", &trace)
        .env("GST_DEBUG_NO_COLOR", "1");
    let started = std::time::Instant::now();
    let done = launch
        .stderr(Stdio::piped())
        .output()
        .context("gst-launch-1.0")?;
    let elapsed = started.elapsed();
    let said = String::from_utf8_lossy(&done.stdout);
    ensure!(
        done.status.success(),
        "{}: {}\n{}",
        command::shown(&launch),
        done.status,
        String::from_utf8_lossy(&done.stderr)
    );
    let traced = fs::read_to_string(&trace).with_context(|| trace.display().to_string())?;
    fs::remove_file(&trace).ok();
    let mut report = parse(&said, &traced);
    report.elapsed = elapsed;
    ensure!(
        report.size.0 > 0 && !report.latencies.is_empty(),
        "no frame came out of mattefilter:\n{said}"
    );
    Ok(report)
}

fn parse(said: &str, traced: &str) -> Report {
    let mut report = Report::default();
    for line in said.lines() {
        if line.contains("matte-backend,") {
            let text = |name| field(line, name).unwrap_or_default();
            report.backend = text("backend");
            report.model = text("model");
            report.working_size = format!("{}x{}", text("working-width"), text("working-height"));
        } else if line.contains("matte-seeded,") {
            report.seeded = true;
        } else if line.contains(":matte.GstPad:src: caps = ") {
            let number = |name| field(line, name).and_then(|n| n.parse().ok()).unwrap_or(0);
            report.size = (number("width"), number("height"));
            report.frame_rate = field(line, "framerate").unwrap_or_else(|| "30/1".to_owned());
        }
    }
    let of_matte = traced
        .lines()
        .filter(|line| line.contains("element-latency") && line.contains("=(string)matte,"));
    report.latencies = of_matte
        .filter_map(|line| field(line, "time")?.parse().ok())
        .map(Duration::from_nanos)
        .collect();
    report
}

/// A field of a structure that GStreamer printed: `name=(type)value,`.
fn field(line: &str, name: &str) -> Option<String> {
    let start = line.find(&format!(" {name}=("))?;
    let value = line[start..].split_once(')')?.1;
    let value = match value.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next()?,
        None => value.split([',', ';']).next()?,
    };
    // GStreamer escapes what is neither a letter nor a digit.
    Some(value.replace('\\', ""))
}

/// Lays the RGBA video over a new background.
fn compose(matted: &Path, report: &Report, background: &Path, output: &Path) -> Result<()> {
    let (width, height) = report.size;
    backdrop(width, height)
        .save(background)
        .with_context(|| background.display().to_string())?;
    let frames = report.latencies.len();
    let mut launch = Command::new("gst-launch-1.0");
    launch.args(
        "-q compositor name=mix sink_1::zorder=1 ! videoconvert ! video/x-raw,format=I420"
            .split(' '),
    );
    launch.args(
        "! x264enc speed-preset=veryfast quantizer=20 pass=quant ! h264parse ! mp4mux ! filesink"
            .split(' '),
    );
    launch.arg(format!("location={}", output.display()));
    launch
        .arg("filesrc")
        .arg(format!("location={}", background.display()));
    launch
        .args(["!", "pngdec", "!", "imagefreeze"])
        .arg(format!("num-buffers={frames}"));
    launch.args([
        "!".to_owned(),
        format!("video/x-raw,framerate={}", report.frame_rate),
    ]);
    launch
        .args("! videoconvert ! mix.sink_0 filesrc".split(' '))
        .arg(format!("location={}", matted.display()));
    launch.args("! decodebin ! videoconvert ! mix.sink_1".split(' '));
    command::run(&mut launch)
}

/// A backdrop nobody takes for the room: an evening sky with lights out of focus.
fn backdrop(width: u32, height: u32) -> RgbImage {
    let mut lights = Vec::new();
    let mut random = 0x9E37_79B9_u32;
    let mut next = || {
        // xorshift: the same lights every time.
        random ^= random << 13;
        random ^= random >> 17;
        random ^= random << 5;
        random as f32 / u32::MAX as f32
    };
    for _ in 0..40 {
        lights.push((
            next(),
            0.45 + 0.55 * next(),
            0.015 + 0.04 * next(),
            0.1 + 0.3 * next(),
        ));
    }
    RgbImage::from_fn(width, height, |x, y| {
        let (u, v) = (x as f32 / width as f32, y as f32 / height as f32);
        let mix = |top: f32, bottom: f32| top + (bottom - top) * v;
        let mut colour = [mix(24.0, 196.0), mix(32.0, 96.0), mix(84.0, 88.0)];
        for &(light_x, light_y, radius, brightness) in &lights {
            let aspect = width as f32 / height as f32;
            let distance = ((u - light_x) * aspect).hypot(v - light_y);
            if distance < radius {
                colour = [0, 1, 2]
                    .map(|c| colour[c] + brightness * ([255.0, 220.0, 160.0][c] - colour[c]));
            }
        }
        Rgb(colour.map(|c| c.round() as u8))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(unix)]
    fn only_devices_are_cameras() {
        assert!(is_camera(Path::new("/dev/null")));
        assert!(!is_camera(Path::new("/dev/shm")));
        assert!(!is_camera(Path::new("/dev/no-such-device")));
    }

    #[test]
    fn what_gstreamer_prints_is_understood() {
        let said = "Got message #31 from element \"matte\" (element): matte-backend, backend=(string)\"cpu\\,\\ 2\\ threads\", \
                    model=(string)lite, working-width=(uint)512, working-height=(uint)288;\n\
                    Got message #33 from element \"matte\" (element): matte-seeded, running-time=(guint64)0, \
                    how=(string)automatic;\n\
                    /GstPipeline:pipeline0/GstMatteFilter:matte.GstPad:src: caps = video/x-raw, width=(int)1280, \
                    height=(int)720, framerate=(fraction)30/1, format=(string)BGRA\n";
        let traced = "0:00:01.0 1 0x1 TRACE GST_TRACER :0:: element-latency, element-id=(string)0x1, \
                      element=(string)matte, src=(string)src, time=(guint64)7500000, ts=(guint64)1;\n\
                      0:00:01.0 1 0x1 TRACE GST_TRACER :0:: element-latency, element-id=(string)0x2, \
                      element=(string)queue0, src=(string)src, time=(guint64)9, ts=(guint64)1;\n";
        let report = parse(said, traced);
        assert_eq!(report.backend, "cpu, 2 threads");
        assert_eq!(report.model, "lite");
        assert_eq!(report.working_size, "512x288");
        assert_eq!(report.size, (1280, 720));
        assert_eq!(report.frame_rate, "30/1");
        assert_eq!(report.latencies, [Duration::from_micros(7500)]);
        assert!(report.seeded);
    }

    #[test]
    fn the_line_warns_when_nothing_was_found() {
        let report = Report {
            latencies: vec![Duration::from_millis(8); 3],
            ..Report::default()
        };
        assert!(
            report.line().contains("8.0 ms in the element (median)"),
            "{}",
            report.line()
        );
        assert!(report.line().contains("NO TARGET"));
    }
}
