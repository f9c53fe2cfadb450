//! What a show does to an element: storms of flushes, caps and properties, many elements. What lasts is in `soak.rs`.

#![allow(clippy::print_stderr, reason = "a skipped test says why")]

mod common;

use std::time::{Duration, Instant};

use common::*;
use gst::prelude::*;
use gst_video::{VideoFormat, VideoInfo};

const SIZE: (u32, u32) = (64, 48);
const PICTURE: [u8; 3] = [90, 40, 30];

/// A small generator of numbers that are the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}

fn playing(properties: &[(&str, &str)]) -> (gst::Element, gst::Bus, Ends) {
    let fixed = [("model", PROBE), ("refine", "none")];
    let (element, bus) = element(&[&fixed, properties].concat());
    let ends = Ends::new(&element);
    element.set_state(gst::State::Playing).unwrap();
    (element, bus, ends)
}

#[test]
fn a_storm_of_flushes_and_seeks_keeps_the_target_and_loses_no_frame() {
    if !ready() {
        return;
    }
    let info = info(VideoFormat::Rgb, SIZE);
    let mask = MaskFile::full(SIZE);
    for mode in ["aligned", "low"] {
        let (element, bus, ends) =
            playing(&[("mask-location", mask.location()), ("latency-mode", mode)]);
        assert!(ends.start(&info));
        let mut dice = Dice(1);
        for _ in 0..300 {
            let frames = dice.roll(4);
            for t in 0..frames {
                let at = (t + dice.roll(1000)) as u32;
                ends.src.push(plain(&info, PICTURE, at)).unwrap();
            }
            assert_eq!(ends.take().len(), frames as usize);
            for _ in 0..=dice.roll(3) {
                ends.flush();
            }
        }
        ends.src.push(plain(&info, PICTURE, 0)).unwrap();
        assert_eq!(first_pixel(&ends.take()[0])[3], 40);
        element.set_state(gst::State::Null).unwrap();
        assert_eq!(element_messages(&bus, "matte-seeded").len(), 1, "{mode}");
        assert_eq!(errors(&bus), [""; 0]);
    }
}

#[test]
fn a_flush_may_come_from_another_thread_at_any_moment() {
    if !ready() {
        return;
    }
    let info = info(VideoFormat::Rgb, SIZE);
    let mask = MaskFile::full(SIZE);
    let (element, bus, ends) = playing(&[("mask-location", mask.location())]);
    assert!(ends.start(&info));
    let end = Instant::now() + Duration::from_secs(2);
    // A flush begins at any moment, and ends between two frames.
    let streaming = std::sync::Mutex::new(());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut dice = Dice(7);
            while Instant::now() < end {
                std::thread::sleep(Duration::from_micros(dice.roll(3000)));
                ends.src.push_event(gst::event::FlushStart::new());
                let between = streaming.lock().unwrap();
                ends.src.push_event(gst::event::FlushStop::new(true));
                drop(between);
            }
        });
        let mut t = 0;
        while Instant::now() < end {
            let frame = streaming.lock().unwrap();
            let segment = gst::FormattedSegment::<gst::ClockTime>::new();
            ends.src.push_event(gst::event::Segment::new(&segment));
            match ends.src.push(plain(&info, PICTURE, t)) {
                Ok(_) | Err(gst::FlowError::Flushing) => {}
                Err(e) => panic!("{e}: {:?}", errors(&bus)),
            }
            drop(frame);
            t += 1;
        }
    });
    ends.flush();
    ends.take();
    ends.src.push(plain(&info, PICTURE, 0)).unwrap();
    assert_eq!(first_pixel(&ends.take()[0])[3], 40);
    element.set_state(gst::State::Null).unwrap();
    assert_eq!(errors(&bus), [""; 0]);
}

#[test]
fn caps_may_change_with_every_buffer() {
    if !ready() {
        return;
    }
    let formats = [
        VideoFormat::Rgb,
        VideoFormat::Bgra,
        VideoFormat::Nv12,
        VideoFormat::I420,
        VideoFormat::Xbgr,
    ];
    for working_size in ["32x32", ""] {
        let (element, bus, ends) = playing(&[("seed", "none"), ("working-size", working_size)]);
        let mut dice = Dice(3);
        let mut next = || {
            let format = formats[dice.roll(formats.len() as u64) as usize];
            let size = (16 + dice.roll(300) as u32, 16 + dice.roll(200) as u32);
            info(format, size)
        };
        let first = next();
        assert!(ends.start(&first));
        let mut info = first;
        for t in 0..60 {
            if let Err(e) = ends.src.push(picture(&info, t)) {
                panic!("{e}: {info:?}: {:?}", errors(&bus));
            }
            let out = ends.take();
            assert_eq!(out.len(), 1);
            assert_eq!(
                out[0].size(),
                (info.width() * info.height() * 4) as usize,
                "{info:?}"
            );
            info = next();
            assert!(ends.caps(&info), "{info:?}");
        }
        element.set_state(gst::State::Null).unwrap();
        assert_eq!(errors(&bus), [""; 0]);
    }
}

#[test]
fn times_may_jump_go_backwards_and_be_missing() {
    if !ready() {
        return;
    }
    let info = info(VideoFormat::Rgb, SIZE);
    let mask = MaskFile::full(SIZE);
    let (element, bus, ends) = playing(&[("mask-location", mask.location())]);
    assert!(ends.start(&info));
    let times = [
        Some(0),
        Some(10_000_000_000),
        Some(40_000_000),
        None,
        Some(40_000_000),
        Some(u64::MAX - 1),
        None,
        Some(0),
    ];
    for time in times {
        let mut buffer = plain(&info, PICTURE, 0);
        let time = time.map(gst::ClockTime::from_nseconds);
        buffer.get_mut().unwrap().set_pts(time);
        ends.src.push(buffer).unwrap();
        let out = ends.take();
        assert_eq!((out.len(), out[0].pts()), (1, time));
        assert_eq!(first_pixel(&out[0])[3], 40, "{time:?}");
    }
    element.set_state(gst::State::Null).unwrap();
    assert_eq!(errors(&bus), [""; 0]);
}

#[test]
fn the_end_may_come_at_once_and_while_the_model_is_opened() {
    if !ready() {
        return;
    }
    let info = info(VideoFormat::Rgb, SIZE);
    let mask = MaskFile::full(SIZE);
    let (element, bus, ends) = playing(&[("mask-location", mask.location())]);
    assert!(ends.start(&info));
    assert!(ends.src.push_event(gst::event::Eos::new()));
    element.set_state(gst::State::Null).unwrap();
    ends.stop();

    // In the middle of a long warm-up.
    element.set_property("warm-up", 100);
    element.set_state(gst::State::Playing).unwrap();
    assert!(ends.start(&info));
    ends.src.push(plain(&info, PICTURE, 0)).unwrap();
    assert!(ends.src.push_event(gst::event::Eos::new()));
    assert_eq!(ends.take().len(), 1);
    element.set_state(gst::State::Null).unwrap();
    ends.stop();

    let model = SlowModel::new();
    element.set_property("model", model.location());
    element.set_state(gst::State::Playing).unwrap();
    assert!(ends.start(&info));
    assert!(ends.src.push_event(gst::event::Eos::new()));
    element.set_state(gst::State::Null).unwrap();
    model.release();
    assert_eq!(errors(&bus), [""; 0]);
}

#[test]
fn elements_come_and_go_while_their_models_are_opened() {
    if !ready() {
        return;
    }
    let info = info(VideoFormat::Rgb, SIZE);
    for _ in 0..20 {
        let (element, bus, ends) = playing(&[("seed", "none")]);
        assert!(ends.start(&info));
        element.set_state(gst::State::Null).unwrap();
        drop((ends, element));
        assert_eq!(errors(&bus), [""; 0]);
    }
}

/// Frames through an element on a thread of its own; the mattes' value.
fn run(info: &VideoInfo, mask: &MaskFile, green: u8, mode: &str) {
    let (element, bus, ends) =
        playing(&[("mask-location", mask.location()), ("latency-mode", mode)]);
    assert!(ends.start(info));
    for t in 0..200 {
        ends.src.push(plain(info, [9, green, 7], t)).unwrap();
        let out = ends.take();
        assert_eq!(first_pixel(&out[0])[3], green, "frame {t}");
    }
    element.set_state(gst::State::Null).unwrap();
    assert_eq!(errors(&bus), [""; 0]);
}

#[test]
fn four_elements_in_parallel_do_not_mix_up_their_mattes() {
    if !ready() {
        return;
    }
    let info = info(VideoFormat::Rgb, SIZE);
    let mask = MaskFile::full(SIZE);
    std::thread::scope(|scope| {
        for (green, mode) in [(20, "aligned"), (90, "low"), (160, "aligned"), (230, "low")] {
            let (info, mask) = (&info, &mask);
            scope.spawn(move || run(info, mask, green, mode));
        }
    });
}

#[test]
fn two_elements_one_after_the_other_in_a_pipeline_are_apart() {
    if !ready() {
        return;
    }
    let info = info(VideoFormat::Rgb, SIZE);
    let mask = MaskFile::full(SIZE);
    let mut first = probe(&[], &info, &mask);
    let mut second = probe(&[], &info, &mask);
    let rgba = self::info(VideoFormat::Rgba, SIZE);
    second.harness.set_src_caps(rgba.to_caps().unwrap());
    for t in 0..10 {
        let out = first.push(plain(&info, PICTURE, t));
        let out = second.push(out);
        assert_eq!(first_pixel(&out), [90, 40, 30, 40]);
    }
}

#[test]
fn properties_may_change_with_every_frame_from_another_thread() {
    if !ready() {
        return;
    }
    let info = info(VideoFormat::Rgb, SIZE);
    let mask = MaskFile::full(SIZE);
    let (element, bus, ends) = playing(&[("mask-location", mask.location())]);
    assert!(ends.start(&info));
    ends.src.push(plain(&info, PICTURE, 0)).unwrap();
    let end = Instant::now() + Duration::from_secs(2);
    std::thread::scope(|scope| {
        let changed = element.clone();
        scope.spawn(move || {
            let mut dice = Dice(5);
            let choices = [
                ("latency-mode", ["low", "aligned"]),
                ("refine", ["none", "auto"]),
                ("working-size", ["32x32", "48x32"]),
                ("memory-interval", ["1", "7"]),
                ("background", ["transparent", "colour"]),
                ("edge-shift", ["0", "1"]),
                ("threads", ["1", "2"]),
                ("precision", ["full", "auto"]),
                ("region", ["frame", "target"]),
            ];
            while Instant::now() < end {
                let (name, values) = choices[dice.roll(choices.len() as u64) as usize];
                changed.set_property_from_str(name, values[dice.roll(2) as usize]);
                let _ = changed.property::<gst::Structure>("stats");
                std::thread::sleep(Duration::from_micros(dice.roll(5000)));
            }
        });
        let mut t = 1;
        while Instant::now() < end {
            ends.src.push(plain(&info, PICTURE, t)).unwrap();
            let pixel = first_pixel(&ends.take()[0]);
            // Over a colour the picture is mixed, but it is never without a matte.
            assert_ne!(pixel, [90, 40, 30, 255], "frame {t}");
            t += 1;
        }
    });
    element.set_state(gst::State::Null).unwrap();
    assert_eq!(errors(&bus), [""; 0]);
}
