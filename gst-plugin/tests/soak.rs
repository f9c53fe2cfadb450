//! What many hours do to an element: its threads and its memory stay as they were. These tests measure the process, so
//! that they run one after the other, and nothing else beside them.

#![allow(clippy::print_stderr, reason = "a skipped test says why")]

mod common;

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use common::*;
use gst::prelude::*;
use gst_video::VideoFormat;

const SIZE: (u32, u32) = (64, 48);
const PICTURE: [u8; 3] = [90, 40, 30];

static ALONE: Mutex<()> = Mutex::new(());

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count)
}

/// Resident memory in KiB.
fn memory() -> usize {
    std::fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("VmRSS"))?;
            line.split_whitespace().nth(1)?.parse().ok()
        })
        .unwrap_or(0)
}

#[test]
fn a_thousand_state_changes_leave_nothing_behind() {
    if !ready() {
        return;
    }
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let info = info(VideoFormat::Rgb, SIZE);
    let mask = MaskFile::full(SIZE);
    let (element, bus) = element(&[
        ("model", PROBE),
        ("refine", "none"),
        ("mask-location", mask.location()),
    ]);
    let ends = Ends::new(&element);
    let mut before = None;
    for round in 0..250 {
        element.set_state(gst::State::Ready).unwrap();
        element.set_state(gst::State::Paused).unwrap();
        if round % 10 == 0 {
            assert!(ends.start(&info));
            ends.src.push(plain(&info, PICTURE, 0)).unwrap();
            assert_eq!(first_pixel(&ends.take()[0])[3], 40);
            ends.stop();
        }
        element.set_state(gst::State::Playing).unwrap();
        element.set_state(gst::State::Null).unwrap();
        if round == 50 {
            before = Some((threads(), memory()));
        }
    }
    let (threads_before, memory_before) = before.unwrap();
    // Engines are freed beside the state changes: the last ones may still be on their way.
    let end = Instant::now() + Duration::from_secs(10);
    while threads() > threads_before && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(50));
    }
    let grown = memory().saturating_sub(memory_before);
    eprintln!("{grown} KiB more after 200 rounds, {threads_before} threads");
    assert!(grown < 32 * 1024, "{grown} KiB");
    assert_eq!(errors(&bus), [""; 0]);
}

/// `MATTE_SOAK_MINUTES` makes it longer than a few seconds.
#[test]
fn a_soak_in_both_modes_does_not_grow() {
    if !ready() {
        return;
    }
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let minutes = std::env::var("MATTE_SOAK_MINUTES").ok();
    let length = minutes.as_ref().map_or(Duration::from_secs(4), |m| {
        Duration::from_secs_f64(m.parse::<f64>().expect("minutes") * 60.0 / 2.0)
    });
    let info = info(VideoFormat::Nv12, (WIDTH, HEIGHT));
    let mask = MaskFile::new((WIDTH, HEIGHT), 0);
    let frames: Vec<_> = (0..8).map(|t| picture(&info, t)).collect();
    for mode in ["aligned", "low"] {
        let properties = [
            ("model", PROBE),
            ("mask-location", mask.location()),
            ("latency-mode", mode),
            ("working-size", "96x64"),
            ("foreground", "estimated"),
            ("temporal-smoothing", "0.5"),
            ("edge-softness", "2"),
        ];
        let (element, bus) = element(&properties);
        let ends = Ends::new(&element);
        element.set_state(gst::State::Playing).unwrap();
        assert!(ends.start(&info));
        let start = Instant::now();
        let mut settled = None;
        let mut count = 0u64;
        while start.elapsed() < length {
            let mut buffer = frames[(count % 8) as usize].copy();
            buffer.get_mut().unwrap().set_pts(FRAME * count);
            ends.src.push(buffer).unwrap();
            assert_eq!(ends.take().len(), 1);
            count += 1;
            if settled.is_none() && start.elapsed() > length / 4 {
                settled = Some(memory());
            }
        }
        let grown = memory().saturating_sub(settled.unwrap());
        eprintln!("{mode}: {count} frames in {length:?}, {grown} KiB more since the first quarter");
        assert!(grown < 8 * 1024, "{mode}: {grown} KiB");
        element.set_state(gst::State::Null).unwrap();
        assert_eq!(errors(&bus), [""; 0]);
    }
}
