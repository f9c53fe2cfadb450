//! How often the person segmentation runs as a hint for the network.

#![allow(clippy::print_stderr, reason = "a skipped test says why")]

mod common;

use std::path::Path;

use matte_core::{
    Backend, Mask, Matter, ModelSet, Options, OutputFormat, OutputMut, SeedMode, Stage,
};
use serde_json::{Value, json};

const SIZE: (u32, u32) = (160, 96);

/// `lite` whose hint is made every `interval` frames; `None`, with the reason printed, where it cannot run.
fn matter(interval: u32, dir: &Path) -> Option<Matter> {
    if matte_core::runtime::paths::find_onnxruntime().is_none() {
        eprintln!("skipped: ONNX Runtime is not installed; `cargo xtask setup` installs it");
        return None;
    }
    let lite = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/packages/lite");
    for entry in std::fs::read_dir(lite).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, dir.join(path.file_name().unwrap())).unwrap();
    }
    let path = dir.join("manifest.json");
    let mut manifest: Value =
        serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    manifest["prior"]["interval"] = json!(interval);
    std::fs::write(&path, manifest.to_string()).unwrap();
    let models = ModelSet::find(dir.to_str().unwrap()).unwrap();
    if models.segmentation.is_none() {
        eprintln!("skipped: no person segmentation; `cargo xtask setup` installs it");
        return None;
    }
    let options = Options {
        working_size: Some(SIZE),
        seed: SeedMode::Mask,
        max_references: 1,
        ..Options::default()
    };
    Some(Matter::open(&models, Backend::Cpu, options, SIZE).unwrap())
}

#[test]
fn a_hint_serves_as_long_as_the_package_says_and_a_new_target_gets_a_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut matter) = matter(3, dir.path()) else {
        return;
    };
    let pixels: Vec<u8> = (0..SIZE.0 * SIZE.1 * 3).map(|i| (i % 251) as u8).collect();
    let frame = common::rgb(&pixels, SIZE);
    let mut mask = vec![0u8; (SIZE.0 * SIZE.1) as usize];
    for row in mask.chunks_exact_mut(SIZE.0 as usize).skip(30) {
        row[50..110].fill(255);
    }
    let mask = Mask::new(SIZE.0, SIZE.1, &mask, SIZE.0 as usize).unwrap();
    let mut out = vec![0u8; (SIZE.0 * SIZE.1) as usize];
    let mut runs_after = |matter: &mut Matter, frames: usize| {
        for _ in 0..frames {
            let mut out = OutputMut::new(
                OutputFormat::Gray8,
                SIZE.0,
                SIZE.1,
                &mut out,
                SIZE.0 as usize,
            )
            .unwrap();
            matter.process(&frame, &mut out).unwrap();
        }
        matter.stats().stage(Stage::Prior).runs
    };

    matter.seed(&frame, &mask).unwrap();
    assert_eq!(runs_after(&mut matter, 0), 1);
    assert_eq!(runs_after(&mut matter, 2), 1);
    assert_eq!(runs_after(&mut matter, 1), 2);
    assert_eq!(runs_after(&mut matter, 6), 4);
    // A reference has a hint of its own, and so has the frame after it.
    matter.add_reference(&frame, &mask).unwrap();
    assert_eq!(runs_after(&mut matter, 0), 5);
    assert_eq!(runs_after(&mut matter, 1), 6);
    matter.seed(&frame, &mask).unwrap();
    assert_eq!(runs_after(&mut matter, 0), 7);
}
