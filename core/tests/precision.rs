//! Graphs in 8-bit integers: taken on the CPU unless full precision is asked for, and as good.

#![allow(clippy::print_stderr, reason = "a skipped test says why")]

mod common;

use std::path::Path;

use matte_core::{Backend, Mask, Matter, ModelSet, Options, Precision, SeedMode};

const SIZE: (u32, u32) = (320, 192);

/// A disc on a coloured ground; `None` for the mask of the disc.
fn disc(moved: u32, colours: Option<[[u8; 3]; 2]>) -> Vec<u8> {
    (0..SIZE.0 * SIZE.1)
        .flat_map(|i| {
            let (x, y) = ((i % SIZE.0) as f32, (i / SIZE.0) as f32);
            let inside = (x - 120.0 - moved as f32).hypot(y - 96.0) < 60.0;
            match colours {
                Some(colours) => colours[usize::from(inside)].to_vec(),
                None => vec![if inside { 255 } else { 0 }],
            }
        })
        .collect()
}

/// Alpha after three frames.
fn alpha(matter: &mut Matter) -> Vec<f32> {
    let mask = disc(0, None);
    let mask = Mask::new(SIZE.0, SIZE.1, &mask, SIZE.0 as usize).unwrap();
    for t in 0..3 {
        let data = disc(4 * t, Some([[40, 90, 120], [220, 170, 130]]));
        let frame = common::rgb(&data, SIZE);
        if t == 0 {
            matter.seed(&frame, &mask).unwrap();
        }
        assert!(matter.predict(&frame).unwrap().has_matte());
        matter.remember().unwrap();
    }
    matter.alpha().unwrap()
}

#[test]
fn integers_serve_the_cpu_and_differ_little() {
    if matte_core::runtime::paths::find_onnxruntime().is_none() {
        eprintln!("skipped: ONNX Runtime is not installed; `cargo xtask setup` installs it");
        return;
    }
    let lite = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/packages/lite");
    let mut models = ModelSet::find(lite.to_str().unwrap()).unwrap();
    models.segmentation = None;
    let options = |precision| Options {
        working_size: Some(SIZE),
        seed: SeedMode::Mask,
        precision,
        ..Options::default()
    };
    let open = |precision| Matter::open(&models, Backend::Cpu, options(precision), SIZE).unwrap();
    let mut full = open(Precision::Full);
    assert!(full.stats().model.ends_with(" fp32"), "{:?}", full.stats());
    let exact = alpha(&mut full);

    let mut small = open(Precision::Auto);
    if !small.stats().model.ends_with(" int8") {
        eprintln!("skipped: this processor has no instructions for 8-bit integers");
        return;
    }
    let rounded = alpha(&mut small);
    let differences = exact.iter().zip(&rounded).map(|(a, b)| (a - b).abs());
    let mean = differences.sum::<f32>() / exact.len() as f32;
    assert!(mean > 0.0 && mean < 0.01, "{mean}");

    // What was opened in integers becomes exact when that is asked for, and the other way round.
    small.set_options(options(Precision::Full)).unwrap();
    assert_eq!(alpha(&mut small), exact);
    small.set_options(options(Precision::Auto)).unwrap();
    assert_eq!(alpha(&mut small), rounded);
}
