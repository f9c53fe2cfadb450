//! A program may end while the engine is at work: hosts do not wait for their streams when somebody closes them.

#![allow(clippy::print_stderr, reason = "a skipped test says why")]

mod common;

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use matte_core::{Backend, Mask, Matter, ModelSet, Options, SeedMode};

const SIZE: (u32, u32) = (160, 96);
/// Set where this program is the one that ends: after so many milliseconds.
const ENDS: &str = "MATTE_TEST_ENDS_AFTER";

/// Opens an engine, uses it and frees it, again and again.
fn work(begun: &mpsc::Sender<()>) {
    let lite = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/packages/lite");
    let models = ModelSet::find(lite.to_str().unwrap()).unwrap();
    let data = vec![90; (3 * SIZE.0 * SIZE.1) as usize];
    let frame = common::rgb(&data, SIZE);
    loop {
        let options = Options {
            working_size: Some(SIZE),
            seed: SeedMode::Mask,
            ..Options::default()
        };
        let Ok(mut matter) = Matter::open(&models, Backend::Cpu, options, SIZE) else {
            return;
        };
        let _ = begun.send(());
        let middle: Vec<u8> = (0..SIZE.0 * SIZE.1)
            .map(|i| {
                if (40..120).contains(&(i % SIZE.0)) {
                    255
                } else {
                    0
                }
            })
            .collect();
        let mask = Mask::new(SIZE.0, SIZE.1, &middle, SIZE.0 as usize).unwrap();
        if matter.seed(&frame, &mask).is_err() {
            return;
        }
        for _ in 0..4 {
            if matter.predict(&frame).is_err() || matter.remember().is_err() {
                return;
            }
        }
    }
}

#[test]
fn a_program_may_end_while_engines_are_opened_used_and_freed() {
    if matte_core::runtime::paths::find_onnxruntime().is_none() {
        eprintln!("skipped: ONNX Runtime is not installed; `cargo xtask setup` installs it");
        return;
    }
    if let Ok(after) = std::env::var(ENDS) {
        let (begun, seen) = mpsc::channel();
        for _ in 0..3 {
            let begun = begun.clone();
            std::thread::spawn(move || work(&begun));
        }
        seen.recv().unwrap();
        std::thread::sleep(Duration::from_millis(after.parse().unwrap()));
        std::process::exit(0);
    }
    for after in (0..12).map(|i| 13 * i) {
        let status = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "a_program_may_end_while_engines_are_opened_used_and_freed",
            ])
            .env(ENDS, after.to_string())
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success(), "ended after {after} ms: {status}");
    }
}
