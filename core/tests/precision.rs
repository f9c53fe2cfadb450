//! Graphs in 8-bit integers: taken on the CPU unless full precision is asked for, and as good. `bfloat16` on OpenVINO.

#![allow(clippy::print_stderr, reason = "a skipped test says why")]

mod common;

use std::path::Path;

use matte_core::{Backend, Error, Mask, Matter, ModelSet, Options, Precision, SeedMode};

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

fn lite() -> ModelSet {
    let lite = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/packages/lite");
    let mut models = ModelSet::find(lite.to_str().unwrap()).unwrap();
    models.segmentation = None;
    models
}

fn options(precision: Precision) -> Options {
    Options {
        working_size: Some(SIZE),
        seed: SeedMode::Mask,
        precision,
        ..Options::default()
    }
}

fn mean_difference(a: &[f32], b: &[f32]) -> f32 {
    let differences = a.iter().zip(b).map(|(a, b)| (a - b).abs());
    differences.sum::<f32>() / a.len() as f32
}

#[test]
fn integers_serve_the_cpu_and_differ_little() {
    if matte_core::runtime::paths::find_onnxruntime().is_none() {
        eprintln!("skipped: ONNX Runtime is not installed; `cargo xtask setup` installs it");
        return;
    }
    let models = lite();
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
    let mean = mean_difference(&exact, &rounded);
    assert!(mean > 0.0 && mean < 0.01, "{mean}");

    // What was opened in integers becomes exact when that is asked for, and the other way round.
    small.set_options(options(Precision::Full)).unwrap();
    assert_eq!(alpha(&mut small), exact);
    small.set_options(options(Precision::Auto)).unwrap();
    assert_eq!(alpha(&mut small), rounded);
}

/// Options of a plugin provider get lost without a word where they are not named as it wants them; numbers show whether
/// they arrived.
#[test]
fn openvino_computes_in_what_is_asked_for() {
    let models = lite();
    let open = |backend, precision| Matter::open(&models, backend, options(precision), SIZE);
    let mut full = match open(Backend::OpenVino, Precision::Full) {
        Ok(matter) => matter,
        Err(e @ (Error::Backend { .. } | Error::Runtime { .. })) => {
            eprintln!("skipped: {e}");
            return;
        }
        Err(e) => panic!("{e}"),
    };
    assert!(full.stats().model.ends_with(" fp32"), "{:?}", full.stats());
    let exact = alpha(&mut open(Backend::Cpu, Precision::Full).unwrap());
    let mean = mean_difference(&exact, &alpha(&mut full));
    assert!(mean < 1e-5, "in full precision: {mean}");

    let mut small = open(Backend::OpenVino, Precision::Auto).unwrap();
    if small.stats().model.ends_with(" int8") {
        let mean = mean_difference(&exact, &alpha(&mut small));
        assert!(mean > 1e-5 && mean < 0.01, "in integers: {mean}");
    }

    match open(Backend::OpenVino, Precision::Bf16) {
        Ok(mut half) => {
            assert!(half.stats().model.ends_with(" bf16"), "{:?}", half.stats());
            let mean = mean_difference(&exact, &alpha(&mut half));
            assert!(mean > 1e-5 && mean < 0.01, "in bfloat16: {mean}");
        }
        Err(e @ Error::Option { .. }) => eprintln!("bfloat16 skipped: {e}"),
        Err(e) => panic!("{e}"),
    }
}

#[test]
fn bfloat16_is_refused_where_it_would_not_be_used() {
    if matte_core::runtime::paths::find_onnxruntime().is_none() {
        eprintln!("skipped: ONNX Runtime is not installed; `cargo xtask setup` installs it");
        return;
    }
    let error = Matter::open(&lite(), Backend::Cpu, options(Precision::Bf16), SIZE).unwrap_err();
    assert_eq!(
        error.to_string(),
        "option precision: bf16, but only the backend openvino computes in it, not cpu"
    );
}
