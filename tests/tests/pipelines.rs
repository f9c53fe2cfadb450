//! `mattefilter` in the pipelines that it is made for.

#![allow(clippy::print_stderr, reason = "a skipped test says why")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use gst::prelude::*;
use gst_app::{AppSink, AppSrc};
use matte_tests::{LITE, Picture, can_matte, init, iou, run};

const WIDTH: usize = 640;
const HEIGHT: usize = 360;
const FRAMES: usize = 20;

/// The matte of frame `t`: head and shoulders, with an edge of three pixels, moving to the right.
fn figure(t: usize) -> Picture {
    let middle = 250.0 + 6.0 * t as f64;
    let ellipse = |x: f64, y: f64, cx: f64, cy: f64, rx: f64, ry: f64| {
        let distance = (((x - cx) / rx).powi(2) + ((y - cy) / ry).powi(2)).sqrt();
        ((1.0 - distance) * rx.min(ry) / 3.0 + 0.5).clamp(0.0, 1.0)
    };
    let data = (0..WIDTH * HEIGHT)
        .map(|i| {
            let (x, y) = ((i % WIDTH) as f64, (i / WIDTH) as f64);
            let alpha = ellipse(x, y, middle, 120.0, 50.0, 65.0)
                .max(ellipse(x, y, middle, 370.0, 140.0, 190.0));
            (alpha * 255.0).round() as u8
        })
        .collect();
    Picture {
        width: WIDTH,
        height: HEIGHT,
        data,
    }
}

/// Frame `t` as RGB: the figure over a wall with furniture.
fn frame(t: usize, alpha: &Picture) -> Vec<u8> {
    let middle = 250.0 + 6.0 * t as f64;
    alpha
        .data
        .iter()
        .enumerate()
        .flat_map(|(i, a)| {
            let (x, y) = ((i % WIDTH) as f64, (i / WIDTH) as f64);
            let face = y < 190.0;
            let figure = match face {
                true => [205.0, 150.0, 120.0],
                // A shirt with folds that move along.
                false => [60.0, 70.0, 130.0].map(|c: f64| c + 12.0 * ((x - middle) / 17.0).sin()),
            };
            let shelf = (y / 60.0).floor() as i64 % 2 == 0 && x > 400.0;
            let room = if shelf {
                [120.0, 95.0, 70.0]
            } else {
                [190.0 - x / 20.0, 188.0, 175.0]
            };
            let a = f64::from(*a) / 255.0;
            std::array::from_fn::<u8, 3, _>(|c| (a * figure[c] + (1.0 - a) * room[c]).round() as u8)
        })
        .collect()
}

#[test]
fn a_moving_figure_is_followed_from_its_mask_on() {
    if !can_matte() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mask = dir.path().join("mask.png");
    let first = figure(0);
    image::GrayImage::from_raw(WIDTH as u32, HEIGHT as u32, first.data.clone())
        .unwrap()
        .save(&mask)
        .unwrap();
    let line = format!(
        "appsrc name=in format=time caps=video/x-raw,format=RGB,width={WIDTH},height={HEIGHT},framerate=30/1 \
         ! mattefilter model={LITE} mask-location={} ! video/x-raw,format=GRAY8 ! appsink name=out sync=false",
        mask.display()
    );
    let pipeline = gst::parse::launch(&line)
        .unwrap()
        .downcast::<gst::Pipeline>()
        .unwrap();
    let source = pipeline
        .by_name("in")
        .unwrap()
        .downcast::<AppSrc>()
        .unwrap();
    let out = pipeline
        .by_name("out")
        .unwrap()
        .downcast::<AppSink>()
        .unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    for t in 0..FRAMES {
        let mut buffer = gst::Buffer::from_mut_slice(frame(t, &figure(t)));
        let into = buffer.get_mut().unwrap();
        into.set_pts(gst::ClockTime::from_mseconds(33) * t as u64);
        into.set_duration(gst::ClockTime::from_mseconds(33));
        source.push_buffer(buffer).unwrap();
    }
    source.end_of_stream().unwrap();
    let mut overlaps = Vec::new();
    for t in 0..FRAMES {
        let sample = out
            .pull_sample()
            .unwrap_or_else(|_| panic!("frame {t} is missing"));
        assert_eq!(
            sample.buffer().unwrap().pts(),
            Some(gst::ClockTime::from_mseconds(33) * t as u64)
        );
        overlaps.push(iou(&Picture::of(&sample), &figure(t)));
    }
    assert!(out.pull_sample().is_err(), "as many frames leave as come");
    pipeline.set_state(gst::State::Null).unwrap();
    let worst = overlaps.iter().copied().fold(1.0, f64::min);
    assert!(
        worst > 0.85,
        "intersection over union, frame by frame: {overlaps:.3?}"
    );
}

#[test]
fn it_runs_in_the_pipelines_of_the_documentation() {
    if !can_matte() {
        return;
    }
    let filter = format!("mattefilter model={LITE} seed=none");
    let camera =
        "videotestsrc num-buffers=5 pattern=ball ! video/x-raw,width=320,height=240,framerate=30/1";
    for line in [
        // A camera that gives YUY2, which is converted.
        format!("{camera},format=YUY2 ! videoconvert ! {filter} ! videoconvert ! appsink name=out"),
        format!(
            "{camera},format=NV12 ! queue ! {filter} ! queue ! video/x-raw,format=ARGB ! appsink name=out"
        ),
        format!(
            "compositor name=mix sink_1::zorder=1 ! videoconvert ! video/x-raw,format=RGB ! appsink name=out \
             videotestsrc num-buffers=5 pattern=smpte ! video/x-raw,width=320,height=240,framerate=30/1 ! mix.sink_0 \
             {camera} ! {filter} ! mix.sink_1"
        ),
        format!(
            "{camera} ! tee name=t ! queue ! {filter} ! appsink name=out  t. ! queue ! fakesink"
        ),
        format!(
            "{camera} ! {filter} name=one ! videoconvert ! {filter} name=two ! appsink name=out"
        ),
    ] {
        let pictures = run(&line, usize::MAX);
        assert_eq!(pictures.len(), 5, "{line}");
        assert!(
            pictures.iter().all(|p| (p.width, p.height) == (320, 240)),
            "{line}"
        );
    }
}

#[test]
fn over_a_background_the_picture_shows_that_background_until_there_is_a_target() {
    if !can_matte() {
        return;
    }
    let line = format!(
        "compositor name=mix background=black sink_1::zorder=1 ! videoconvert ! video/x-raw,format=RGB \
         ! appsink name=out \
         videotestsrc num-buffers=3 pattern=blue ! video/x-raw,width=320,height=240,framerate=30/1 ! mix.sink_0 \
         videotestsrc num-buffers=3 pattern=white ! video/x-raw,width=320,height=240,framerate=30/1 \
         ! mattefilter model={LITE} seed=none ! mix.sink_1"
    );
    for picture in run(&line, 3) {
        let room = picture
            .data
            .chunks_exact(3)
            .filter(|p| p[0] > 20 || p[1] > 20 || p[2] < 200)
            .count();
        assert_eq!(room, 0, "pixels that are not the background's blue");
    }
}

#[test]
fn frames_that_would_be_late_are_dropped_before_they_cost_anything() {
    if !can_matte() {
        return;
    }
    init();
    let dir = tempfile::tempdir().unwrap();
    let mask = dir.path().join("mask.png");
    image::GrayImage::from_fn(64, 36, |x, _| {
        image::Luma([255 * u8::from(x > 20 && x < 40)])
    })
    .save(&mask)
    .unwrap();
    // More frames than any CPU keeps up with.
    let line = format!(
        "videotestsrc num-buffers=500 is-live=true pattern=ball ! video/x-raw,width=1280,height=720,framerate=500/1 \
         ! mattefilter name=matte model={LITE} mask-location={} warm-up=0 wait-for-model=always \
         ! fakesink sync=true qos=true",
        mask.display()
    );
    let pipeline = gst::parse::launch(&line)
        .unwrap()
        .downcast::<gst::Pipeline>()
        .unwrap();
    let matte = pipeline.by_name("matte").unwrap();
    let count = |pad: &str| {
        let seen = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&seen);
        matte
            .static_pad(pad)
            .unwrap()
            .add_probe(gst::PadProbeType::BUFFER, move |_, _| {
                counter.fetch_add(1, Ordering::Relaxed);
                gst::PadProbeReturn::Ok
            });
        seen
    };
    let (came, left) = (count("sink"), count("src"));
    let bus = pipeline.bus().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let mut told = 0;
    let kinds = [
        gst::MessageType::Eos,
        gst::MessageType::Error,
        gst::MessageType::Qos,
    ];
    let end = loop {
        let Some(message) = bus.timed_pop_filtered(gst::ClockTime::from_seconds(60), &kinds) else {
            break None;
        };
        match message.view() {
            gst::MessageView::Qos(qos) if message.src() == Some(matte.upcast_ref()) => {
                told = qos.stats().1.value();
            }
            gst::MessageView::Qos(_) => {}
            _ => break Some(message.type_()),
        }
    };
    let stats = matte.property::<gst::Structure>("stats");
    pipeline.set_state(gst::State::Null).unwrap();
    assert_eq!(end, Some(gst::MessageType::Eos));
    let (came, left) = (came.load(Ordering::Relaxed), left.load(Ordering::Relaxed));
    eprintln!("{came} frames came, {left} left, {told} dropped according to QoS messages");
    assert!(left < came, "{left} of {came} frames left");
    assert_eq!(told, i64::from(came - left), "every dropped frame is told");
    assert_eq!(
        stats.get::<u64>("frames"),
        Ok(u64::from(left)),
        "a dropped frame does not reach the engine"
    );
}
