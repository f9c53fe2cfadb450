//! When a new target is refined: at once, or over the frames that follow.

#![allow(clippy::print_stderr, reason = "a skipped test says why")]

mod common;

use matte_core::{Backend, Mask, Matter, ModelSet, Options, SeedMode, Stage};

const SIZE: (u32, u32) = (160, 96);
const WARM_UP: u32 = 3;

#[test]
fn the_warm_up_of_a_queued_mask_is_done_on_its_frame_or_a_step_on_each_that_follows() {
    if matte_core::runtime::paths::find_onnxruntime().is_none() {
        eprintln!("skipped: ONNX Runtime is not installed; `cargo xtask setup` installs it");
        return;
    }
    let probe = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/probe");
    let models = ModelSet::find(probe).unwrap();
    let data = vec![90; (3 * SIZE.0 * SIZE.1) as usize];
    let frame = common::rgb(&data, SIZE);
    let everything = vec![255; (SIZE.0 * SIZE.1) as usize];
    let mask = Mask::new(SIZE.0, SIZE.1, &everything, SIZE.0 as usize).unwrap();
    let runs = |spreads: bool| {
        let options = Options {
            working_size: Some(SIZE),
            seed: SeedMode::Mask,
            warm_up: Some(WARM_UP),
            ..Options::default()
        };
        let mut matter = Matter::open(&models, Backend::Cpu, options, SIZE).unwrap();
        matter.spread_warm_up(spreads);
        matter.queue_seed(&mask);
        let mut before = 0;
        let mut counted = Vec::new();
        for _ in 0..6 {
            assert!(matter.predict(&frame).unwrap().has_matte());
            matter.remember().unwrap();
            let now = matter.stats().stage(Stage::Value).runs;
            counted.push(now - before);
            before = now;
        }
        counted
    };
    let at_once = runs(false);
    let first = at_once[0];
    let steps = u64::from(WARM_UP);
    assert_eq!(at_once, [first, 1, 1, 1, 1, 1]);
    assert!(first > steps, "{first} runs on the frame of the mask");
    assert_eq!(runs(true), [first - steps, 1, 1, 1, 1, 1]);
}
