//! A live stream through the element: frames dropped, latency reported and measured, time around the network.
//!
//! ```sh
//! cargo bench -p gst-plugin-matte --bench live -- [SECONDS [WIDTHxHEIGHT [PROPERTY=VALUE ...]]]
//! ```
#![allow(
    clippy::print_stdout,
    missing_docs,
    reason = "a program that prints what it measures"
)]

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gst::prelude::*;

const RATE: u64 = 30;

fn main() {
    // Cargo adds arguments of its own.
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with("--"))
        .collect();
    let seconds: u64 = arguments
        .first()
        .map_or(60, |a| a.parse().expect("seconds"));
    let (width, height) = arguments.get(1).map_or((1280, 720), |a| {
        let (w, h) = a.split_once('x').expect("WIDTHxHEIGHT");
        (w.parse().expect("width"), h.parse().expect("height"))
    });
    gst::init().expect("GStreamer starts");
    gstmatte::plugin_register_static().expect("the element registers");

    // The target is named by a mask: what is shown does not matter to the time that the network takes.
    let dir = tempfile::tempdir().expect("a folder");
    let mask = dir.path().join("mask.png");
    image::GrayImage::from_fn(width, height, |x, y| {
        let (x, y) = (
            f64::from(x) / f64::from(width),
            f64::from(y) / f64::from(height),
        );
        image::Luma([255 * u8::from((x - 0.5).hypot(y - 0.6) < 0.3)])
    })
    .save(&mask)
    .expect("the mask is written");

    let line = format!(
        "videotestsrc is-live=true num-buffers={} pattern=ball \
         ! video/x-raw,format=NV12,width={width},height={height},framerate={RATE}/1 ! queue \
         ! mattefilter name=matte mask-location={} ! queue ! fakesink name=out sync=true qos=true",
        seconds * RATE,
        mask.display()
    );
    let pipeline = gst::parse::launch(&line)
        .expect("the pipeline parses")
        .downcast::<gst::Pipeline>()
        .expect("a pipeline");
    let matte = pipeline.by_name("matte").expect("the element");
    for argument in arguments.iter().skip(2) {
        let (name, value) = argument.split_once('=').expect("PROPERTY=VALUE");
        matte.set_property_from_str(name, value);
    }
    let (came, left) = (count(&matte, "sink"), count(&matte, "src"));
    let times = times(&matte);
    let bus = pipeline.bus().expect("a bus");
    let start = Instant::now();
    pipeline.set_state(gst::State::Playing).expect("it plays");
    let mut drops = 0;
    let limit = gst::ClockTime::from_seconds(seconds * 4 + 60);
    let kinds = [
        gst::MessageType::Eos,
        gst::MessageType::Error,
        gst::MessageType::Latency,
        gst::MessageType::Qos,
    ];
    let mut stats = gst::Structure::new_empty("none");
    while let Some(message) = bus.timed_pop_filtered(limit, &kinds) {
        match message.view() {
            gst::MessageView::Qos(_) => drops += 1,
            gst::MessageView::Latency(_) => {
                let _ = pipeline.recalculate_latency();
            }
            gst::MessageView::Error(e) => panic!("{}: {:?}", e.error(), e.debug()),
            _ => {
                stats = matte.property("stats");
                break;
            }
        }
    }
    let lasted = start.elapsed();
    pipeline.set_state(gst::State::Null).expect("it stops");

    let mut times = times.lock().expect("no panic before").clone();
    // The first second holds the opening of the model and the first frames.
    let mut times = times.split_off((RATE as usize).min(times.len() / 2));
    times.sort_unstable();
    let at = |share: f64| {
        times
            .get(((times.len().max(1) - 1) as f64 * share) as usize)
            .map_or(0.0, |t| t.as_secs_f64() * 1e3)
    };
    let stage = |name: &str| {
        let micros = stats.get::<u64>(format!("{name}-mean")).unwrap_or_default();
        micros as f64 / 1e3
    };
    let mean = times.iter().sum::<Duration>().as_secs_f64() * 1e3 / times.len().max(1) as f64;
    let network = stage("prior") + stage("matte") + stage("detail");
    println!("{width}x{height} NV12 at {RATE} frames a second for {seconds} s (took {lasted:.1?})");
    println!(
        "frames: {} came, {} left, {drops} QOS messages",
        came.load(Ordering::Relaxed),
        left.load(Ordering::Relaxed)
    );
    println!(
        "in the element: p50 {:.1}, p95 {:.1}, p99 {:.1}, mean {mean:.1} ms; reported {:.1} ms",
        at(0.5),
        at(0.95),
        at(0.99),
        stats
            .get::<gst::ClockTime>("latency")
            .map_or(0.0, |t| t.nseconds() as f64 / 1e6)
    );
    println!(
        "around the network: {:.2} ms (preprocess {:.2}); network: prior {:.2}, matte {:.2}; behind the frame: value \
         {:.2}, memorize {:.2}",
        mean - network,
        stage("preprocess"),
        stage("prior"),
        stage("matte"),
        stage("value"),
        stage("memorize")
    );
    println!("{stats}");
}

fn count(element: &gst::Element, pad: &str) -> Arc<AtomicU64> {
    let seen = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&seen);
    element
        .static_pad(pad)
        .expect("a pad")
        .add_probe(gst::PadProbeType::BUFFER, move |_, _| {
            counter.fetch_add(1, Ordering::Relaxed);
            gst::PadProbeReturn::Ok
        });
    seen
}

/// From the arrival of a buffer to its departure.
fn times(element: &gst::Element) -> Arc<Mutex<Vec<Duration>>> {
    let all = Arc::new(Mutex::new(Vec::new()));
    let arrived = Arc::new(Mutex::new(HashMap::<u64, Instant>::new()));
    let pts = |info: &gst::PadProbeInfo| {
        info.buffer()
            .and_then(|buffer| buffer.pts())
            .map_or(0, gst::ClockTime::nseconds)
    };
    let arrivals = Arc::clone(&arrived);
    element.static_pad("sink").expect("a pad").add_probe(
        gst::PadProbeType::BUFFER,
        move |_, info| {
            let mut arrivals = arrivals.lock().expect("no panic before");
            arrivals.insert(pts(info), Instant::now());
            gst::PadProbeReturn::Ok
        },
    );
    let into = Arc::clone(&all);
    element.static_pad("src").expect("a pad").add_probe(
        gst::PadProbeType::BUFFER,
        move |_, info| {
            if let Some(start) = arrived.lock().expect("no panic before").remove(&pts(info)) {
                into.lock().expect("no panic before").push(start.elapsed());
            }
            gst::PadProbeReturn::Ok
        },
    );
    all
}
