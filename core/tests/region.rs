//! A window around the target: it follows, what is drawn is the whole frame's, and the memory goes along.

#![allow(clippy::print_stderr, reason = "a skipped test says why")]

mod common;

use std::path::Path;

use matte_core::{
    Backend, Background, Mask, Matter, ModelSet, Options, OutputFormat, OutputMut, Region, SeedMode,
};

const SIZE: (u32, u32) = (960, 540);
const RADIUS: f32 = 70.0;

fn inside(i: u32, centre: (f32, f32)) -> bool {
    let (x, y) = ((i % SIZE.0) as f32 + 0.5, (i / SIZE.0) as f32 + 0.5);
    (x - centre.0).hypot(y - centre.1) < RADIUS
}

/// A disc before a ground of stripes.
fn picture(centre: (f32, f32)) -> Vec<u8> {
    (0..SIZE.0 * SIZE.1)
        .flat_map(|i| match inside(i, centre) {
            true => [220, 150, 110],
            false => [40, 90 + 30 * ((i % SIZE.0 / 40) % 2) as u8, 120],
        })
        .collect()
}

fn disc(centre: (f32, f32)) -> Vec<u8> {
    (0..SIZE.0 * SIZE.1)
        .map(|i| if inside(i, centre) { 255 } else { 0 })
        .collect()
}

/// Intersection over union with the disc.
fn agreement(alpha: &[u8], centre: (f32, f32)) -> f32 {
    let (mut both, mut either) = (0u32, 0u32);
    for (i, a) in (0..).zip(alpha) {
        let (shown, there) = (*a >= 128, inside(i, centre));
        both += u32::from(shown && there);
        either += u32::from(shown || there);
    }
    both as f32 / either as f32
}

fn open(region: Region, options: Options) -> Option<Matter> {
    open_for(SIZE, region, options)
}

fn open_for(size: (u32, u32), region: Region, options: Options) -> Option<Matter> {
    if matte_core::runtime::paths::find_onnxruntime().is_none() {
        eprintln!("skipped: ONNX Runtime is not installed; `cargo xtask setup` installs it");
        return None;
    }
    let lite = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/packages/lite");
    let mut models = ModelSet::find(lite.to_str().unwrap()).unwrap();
    models.segmentation = None;
    let options = Options {
        region,
        seed: SeedMode::Mask,
        // Larger, as on some processors, these frames would have no windows.
        working_size: Some((544, 304)),
        ..options
    };
    Some(Matter::open(&models, Backend::Cpu, options, size).unwrap())
}

fn seed(matter: &mut Matter, centre: (f32, f32)) {
    let mask = disc(centre);
    matter.queue_seed(&Mask::new(SIZE.0, SIZE.1, &mask, SIZE.0 as usize).unwrap());
}

/// Mattes a frame; gives its alpha at full size.
fn step(matter: &mut Matter, centre: (f32, f32)) -> Vec<u8> {
    let data = picture(centre);
    let mut alpha = vec![7; (SIZE.0 * SIZE.1) as usize];
    let mut out = OutputMut::new(
        OutputFormat::Gray8,
        SIZE.0,
        SIZE.1,
        &mut alpha,
        SIZE.0 as usize,
    )
    .unwrap();
    let report = matter.process(&common::rgb(&data, SIZE), &mut out).unwrap();
    assert!(report.has_matte());
    alpha
}

#[test]
fn the_window_follows_across_the_frame() {
    let Some(mut matter) = open(Region::Target, Options::default()) else {
        return;
    };
    let path = |t: u16| (120.0 + 12.0 * f32::from(t), 300.0 - 2.0 * f32::from(t));
    seed(&mut matter, path(0));
    for t in 0..60 {
        let alpha = step(&mut matter, path(t));
        let agreement = agreement(&alpha, path(t));
        assert!(agreement > 0.9, "frame {t}: {agreement}");
        if t == 30 {
            // A reference and a correction look at the whole frame; the window comes back.
            let (data, mask) = (picture(path(t)), disc(path(t)));
            let mask = Mask::new(SIZE.0, SIZE.1, &mask, SIZE.0 as usize).unwrap();
            matter.correct(&common::rgb(&data, SIZE), &mask).unwrap();
        }
    }
}

/// The same disc covers more of what the network sees.
#[test]
fn the_target_is_seen_larger() {
    let centre = (480.0, 270.0);
    let share = |region| {
        let mut matter = open(region, Options::default())?;
        seed(&mut matter, centre);
        for _ in 0..3 {
            step(&mut matter, centre);
        }
        let alpha = matter.alpha().unwrap();
        Some(alpha.iter().sum::<f32>() / alpha.len() as f32)
    };
    let (Some(frame), Some(window)) = (share(Region::Frame), share(Region::Target)) else {
        return;
    };
    assert!(window > 2.0 * frame, "{window} and {frame}");
}

#[test]
fn around_the_window_lies_the_background() {
    let options = Options {
        background: Background::Blur,
        ..Options::default()
    };
    let Some(mut matter) = open(Region::Target, options) else {
        return;
    };
    let centre = (200.0, 270.0);
    seed(&mut matter, centre);
    let data = picture(centre);
    let mut pixels = vec![0; (SIZE.0 * SIZE.1 * 4) as usize];
    for _ in 0..3 {
        let stride = SIZE.0 as usize * 4;
        let mut out =
            OutputMut::new(OutputFormat::Rgba, SIZE.0, SIZE.1, &mut pixels, stride).unwrap();
        matter.process(&common::rgb(&data, SIZE), &mut out).unwrap();
    }
    // The mean of the stripes, not black.
    let far = &pixels[(270 * SIZE.0 as usize + 900) * 4..][..4];
    for (got, wanted) in far.iter().zip([40, 105, 120, 255]) {
        assert!(got.abs_diff(wanted) < 12, "{far:?}");
    }
}

#[test]
fn the_region_may_change_while_frames_run() {
    let Some(mut matter) = open(Region::Frame, Options::default()) else {
        return;
    };
    let centre = (300.0, 250.0);
    for region in [Region::Target, Region::Frame, Region::Target] {
        let options = Options {
            region,
            ..matter.options().clone()
        };
        matter.set_options(options).unwrap();
        assert!(!matter.is_seeded());
        seed(&mut matter, centre);
        for _ in 0..3 {
            let alpha = step(&mut matter, centre);
            assert!(agreement(&alpha, centre) > 0.9);
        }
    }
    // Frames of the same shape and working size: all is kept.
    matter.resize((1920, 1080)).unwrap();
    assert!(matter.is_seeded());
    matter.resize(SIZE).unwrap();
    let alpha = step(&mut matter, centre);
    assert!(agreement(&alpha, centre) > 0.85);
}

/// Frames that have no use for windows are followed by larger ones that have.
#[test]
fn windows_come_with_larger_frames() {
    let small = (SIZE.0 / 3 * 2, SIZE.1 / 3 * 2);
    let Some(mut matter) = open_for(small, Region::Target, Options::default()) else {
        return;
    };
    matter.resize(SIZE).unwrap();
    let centre = (300.0, 250.0);
    seed(&mut matter, centre);
    for _ in 0..3 {
        let alpha = step(&mut matter, centre);
        assert!(agreement(&alpha, centre) > 0.9);
    }
}

/// A reference of elsewhere right after the seed, as a change of model makes it: the disc is followed from where it is.
#[test]
fn a_reference_leaves_matte_and_window_alone() {
    let (here, there) = ((200.0, 270.0), (760.0, 270.0));
    for region in [Region::Frame, Region::Target] {
        let options = Options {
            max_references: 1,
            ..Options::default()
        };
        let Some(mut matter) = open(region, options) else {
            return;
        };
        seed(&mut matter, here);
        let shown = step(&mut matter, here);
        if region == Region::Target {
            // Through a window by now.
            step(&mut matter, here);
        }
        let (data, mask) = (picture(there), disc(there));
        let mask = Mask::new(SIZE.0, SIZE.1, &mask, SIZE.0 as usize).unwrap();
        let before = matter.alpha().unwrap();
        matter
            .add_reference(&common::rgb(&data, SIZE), &mask)
            .unwrap();
        if region == Region::Frame {
            assert!(matter.alpha().unwrap() == before);
        }
        // What is drawn is still the matte of the last frame, refined by that frame's own edges.
        let mut again = vec![7; shown.len()];
        let (width, height) = SIZE;
        let format = OutputFormat::Gray8;
        let mut out = OutputMut::new(format, width, height, &mut again, width as usize).unwrap();
        let last = picture(here);
        matter.render(&common::rgb(&last, SIZE), &mut out).unwrap();
        let agrees = agreement(&again, here);
        assert!(
            agrees > 0.9,
            "{region:?}: {agrees} is drawn after a reference"
        );
        for _ in 0..3 {
            let agrees = agreement(&step(&mut matter, here), here);
            assert!(agrees > 0.9, "{region:?}: {agrees} after a reference");
        }
    }
}
