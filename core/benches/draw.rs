//! What drawing costs at 1920×1080, without a network: `cargo bench -p matte-core`. Arguments choose: a line is measured if
//! all of them occur in it, as in `cargo bench -p matte-core -- alone nv12`.
//!
//! A matte of 512×288, head and shoulders with a ragged edge, is drawn onto an NV12 frame and onto an RGBA one. Given are
//! the share of the matte that is neither empty nor full, the median and the 99th percentile of the whole call, for an edge
//! as people with short hair have it and for one as wide as loose long hair.

#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![allow(missing_docs, reason = "a program, not a library")]

use std::time::{Duration, Instant};

use matte_core::{
    Background, Colorimetry, Foreground, Frame, Matte, Options, OutputFormat, OutputMut,
    PixelFormat, Plane, PlaneMut, Renderer,
};

const SIZE: (u32, u32) = (1920, 1080);
const LOW: (u32, u32) = (512, 288);
const ROUNDS: usize = 200;

/// A head and shoulders with a ragged edge, `hardness` being one over its width as a share of the picture's.
fn alpha(u: f32, v: f32, hardness: f32) -> f32 {
    let ragged = 0.01 * (90.0 * u + 40.0 * v).sin() + 0.006 * (310.0 * v).sin();
    let head = 0.17 - (u - 0.5).hypot((v - 0.35) * 0.6) + ragged;
    let body = 0.3 - (u - 0.5).hypot((v - 1.1) * 0.7) + ragged;
    (head.max(body) * hardness + 0.5).clamp(0.0, 1.0)
}

fn noise(i: usize) -> u8 {
    ((i as u32).wrapping_mul(2_654_435_761) >> 27) as u8
}

struct Scene {
    /// Part of the matte that is neither empty nor full.
    partial: f64,
    mattes: Vec<Matte>,
    luma: Vec<u8>,
    chroma: Vec<u8>,
    rgba: Vec<u8>,
}

impl Scene {
    fn new(hardness: f32) -> Self {
        let (width, height) = (SIZE.0 as usize, SIZE.1 as usize);
        let at = |i: usize, w: usize, h: usize| {
            alpha(
                (i % w) as f32 / w as f32,
                (i / w) as f32 / h as f32,
                hardness,
            )
        };
        let (low_width, low_height) = (LOW.0 as usize, LOW.1 as usize);
        let low: Vec<f32> = (0..low_width * low_height)
            .map(|i| at(i, low_width, low_height))
            .collect();
        let picture: Vec<u8> = low
            .iter()
            .enumerate()
            .flat_map(|(i, a)| [(80.0 + 100.0 * a) as u8 + noise(i), 90, 120])
            .collect();
        // Two in turn, so that temporal smoothing has something to do.
        let matte = || Matte::from_alpha(SIZE, LOW, &low, &picture).expect("the sizes fit");
        let luma: Vec<u8> = (0..width * height)
            .map(|i| (80.0 + 100.0 * at(i, width, height)) as u8 + noise(i))
            .collect();
        let partial = low.iter().filter(|a| **a > 0.0 && **a < 1.0).count();
        Self {
            partial: partial as f64 / low.len() as f64,
            mattes: vec![matte(), matte()],
            rgba: luma.iter().flat_map(|y| [*y, 90, 120, 255]).collect(),
            chroma: (0..width * height / 2)
                .map(|i| 120 + noise(i) / 4)
                .collect(),
            luma,
        }
    }

    fn frame(&self, format: PixelFormat) -> Frame<'_> {
        let (width, height) = SIZE;
        let stride = width as usize;
        match format {
            PixelFormat::Nv12 => Frame::new(
                format,
                width,
                height,
                &[
                    Plane {
                        data: &self.luma,
                        stride,
                    },
                    Plane {
                        data: &self.chroma,
                        stride,
                    },
                ],
                Colorimetry::default(),
            ),
            _ => Frame::packed(format, width, height, &self.rgba, stride * 4),
        }
        .expect("the planes fit")
    }
}

fn main() {
    // What cargo adds begins with a dash.
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with('-'))
        .collect();
    let defaults = Options::default();
    let estimated = Options {
        foreground: Foreground::Estimated,
        ..defaults.clone()
    };
    let shifted = Options {
        edge_shift: -1.5,
        edge_softness: 2.0,
        ..defaults.clone()
    };
    let all = Options {
        edge_shift: -1.5,
        edge_softness: 2.0,
        temporal_smoothing: 0.5,
        ..estimated.clone()
    };
    let blur = Options {
        background: Background::Blur,
        ..defaults.clone()
    };
    let everything = Options {
        background: Background::Blur,
        ..all.clone()
    };
    let smooth = Options {
        temporal_smoothing: 0.5,
        ..defaults.clone()
    };
    let cases = [
        ("refinement alone", defaults),
        ("temporal smoothing", smooth),
        ("foreground", estimated),
        ("edge shift and softness", shifted),
        ("blurred background", blur),
        ("all but a background", all),
        ("everything", everything),
    ];
    println!(
        "{:<6} {:<26} {:<6} {:<6} {:>8} {:>8}",
        "edge", "1920x1080", "in", "out", "p50, ms", "p99, ms"
    );
    for hardness in [100.0, 25.0] {
        let scene = Scene::new(hardness);
        let edge = format!("{:.0} %", 100.0 * scene.partial);
        for input in [PixelFormat::Nv12, PixelFormat::Rgba] {
            for output in [OutputFormat::Rgba, OutputFormat::A420, OutputFormat::Gray8] {
                for (name, options) in &cases {
                    let (from, to) = (input.name(), output.name());
                    let line = format!("{edge:<6} {name:<26} {from:<6} {to:<6}");
                    let has = |part: &String| line.to_lowercase().contains(&part.to_lowercase());
                    if !wanted.iter().all(has) {
                        continue;
                    }
                    let (p50, p99) = measure(&scene, options, input, output);
                    let (p50, p99) = (p50.as_secs_f64() * 1e3, p99.as_secs_f64() * 1e3);
                    println!("{line} {p50:>8.2} {p99:>8.2}");
                }
            }
        }
    }
}

fn measure(
    scene: &Scene,
    options: &Options,
    input: PixelFormat,
    output: OutputFormat,
) -> (Duration, Duration) {
    let mut renderer = Renderer::new(options).expect("the options are valid");
    let (width, height) = SIZE;
    let frame = scene.frame(input);
    let mut data: Vec<(Vec<u8>, usize)> = (0..4)
        .map(|i| {
            let (row, rows) = output.plane_size(i, width, height);
            (vec![0; row * rows], row)
        })
        .collect();
    let mut times: Vec<Duration> = (0..ROUNDS + 10)
        .map(|i| {
            let mut planes = data.iter_mut().map(|(data, stride)| PlaneMut {
                data,
                stride: *stride,
            });
            let planes: [PlaneMut<'_>; 4] =
                std::array::from_fn(|_| planes.next().unwrap_or_default());
            let mut out =
                OutputMut::with_planes(output, width, height, planes, Colorimetry::default())
                    .expect("the planes fit");
            let start = Instant::now();
            renderer
                .render(&scene.mattes[i % 2], &frame, &mut out)
                .expect("the sizes agree");
            start.elapsed()
        })
        .skip(10)
        .collect();
    times.sort_unstable();
    (times[times.len() / 2], times[times.len() * 99 / 100])
}
