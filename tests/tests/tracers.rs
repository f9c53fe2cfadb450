//! What GStreamer's own tracers see: how long frames stay in the element, and what is left when it is gone.
//!
//! A tracer has to be named before GStreamer starts, so the pipelines run in a process of their own: this program again,
//! with one of the tests that are ignored otherwise.

#![allow(clippy::print_stderr, reason = "a skipped test says why")]

use std::process::Command;

use gst::prelude::*;
use matte_tests::{LITE, can_matte, init};

/// Frames a second of the live pipelines.
const RATE: u64 = 25;

/// Runs one of the ignored tests with tracers; what it and GStreamer print on stderr.
fn traced(test: &str, tracers: &str, environment: &[(&str, &str)]) -> String {
    let output = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            test,
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .env("GST_TRACERS", tracers)
        .env("GST_DEBUG", "GST_TRACER:7")
        .env("GST_DEBUG_NO_COLOR", "1")
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success(),
        "{}\n{text}",
        String::from_utf8_lossy(&output.stdout)
    );
    text
}

/// Plays a line to its end; what the element says of itself then.
fn play(line: &str) -> gst::Structure {
    let pipeline = gst::parse::launch(line).unwrap();
    let bus = pipeline.bus().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let end = bus
        .timed_pop_filtered(
            gst::ClockTime::from_seconds(60),
            &[gst::MessageType::Eos, gst::MessageType::Error],
        )
        .unwrap();
    assert_eq!(end.type_(), gst::MessageType::Eos, "{end:?}");
    let matte = pipeline
        .downcast_ref::<gst::Bin>()
        .unwrap()
        .by_name("matte")
        .unwrap();
    let stats = matte.property("stats");
    pipeline.set_state(gst::State::Null).unwrap();
    stats
}

fn live(mode: &str, frames: u32) -> String {
    format!(
        "videotestsrc is-live=true num-buffers={frames} pattern=ball \
         ! video/x-raw,format=NV12,width=320,height=180,framerate={RATE}/1 \
         ! mattefilter name=matte model={LITE} working-size=160x96 latency-mode={mode} \
         ! queue ! fakesink sync=true"
    )
}

#[test]
#[ignore = "run by the_reported_latency_is_the_measured_one_within_a_frame"]
fn child_plays_live() {
    init();
    let stats = play(&live(&std::env::var("MATTE_TEST_MODE").unwrap(), 100));
    let latency = stats.get::<gst::ClockTime>("latency").unwrap();
    eprintln!("the element reports={}", latency.nseconds());
}

/// A number of a tracer's line.
fn number(line: &str, field: &str) -> Option<u64> {
    let at = line.find(&format!(" {field}=(guint64)"))? + field.len() + 11;
    let digits: String = line[at..]
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    digits.parse().ok()
}

#[test]
fn the_reported_latency_is_the_measured_one_within_a_frame() {
    if !can_matte() {
        return;
    }
    for mode in ["aligned", "low"] {
        let text = traced(
            "child_plays_live",
            "latency(flags=element)",
            &[("MATTE_TEST_MODE", mode)],
        );
        let mut times: Vec<u64> = text
            .lines()
            .filter(|line| {
                line.contains(" element-latency,") && line.contains("element=(string)matte,")
            })
            .filter_map(|line| number(line, "time"))
            .collect();
        // What is reported is fitted to a slow machine after 64 frames.
        let mut times = times.split_off(times.len() * 2 / 3);
        times.sort_unstable();
        let measured = times[times.len() * 9 / 10];
        let reported: u64 = text
            .lines()
            .find_map(|line| line.split_once("reports=")?.1.trim().parse().ok())
            .expect("a latency");
        let frame = 1_000_000_000 / RATE;
        eprintln!(
            "{mode}: {:.1} ms reported, {:.1} ms measured over {} frames",
            reported as f64 / 1e6,
            measured as f64 / 1e6,
            times.len()
        );
        assert!(
            measured.abs_diff(reported) <= frame,
            "{mode}: {measured} ns measured, {reported} ns reported"
        );
    }
}

#[test]
#[ignore = "run by nothing_is_left_of_an_element_that_is_gone"]
fn child_leaves_nothing() {
    init();
    let tracer = gst::active_tracers()
        .into_iter()
        .find(|tracer| tracer.type_().name().contains("Leaks"))
        .expect("the leaks tracer");
    let alive = || {
        let live: gst::Structure = tracer.emit_by_name("get-live-objects", &[]);
        let mut names: Vec<String> = live
            .get::<gst::List>("live-objects-list")
            .unwrap()
            .iter()
            .map(|object| {
                let object = object.get::<gst::Structure>().unwrap();
                let value = object.value("object").unwrap();
                match value.get::<gst::glib::Object>() {
                    Ok(object) => object.type_().name().to_owned(),
                    Err(_) => value.type_().name().to_owned(),
                }
            })
            .collect();
        names.sort();
        names
    };
    // What GStreamer keeps for good is there after the first time.
    play(&live("aligned", 3));
    let before = alive();
    for mode in ["aligned", "low"] {
        play(&live(mode, 10));
        let line = live(mode, 1000);
        let pipeline = gst::parse::launch(&line).unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(300));
        let filter = pipeline
            .downcast_ref::<gst::Bin>()
            .unwrap()
            .by_name("matte")
            .unwrap();
        filter.set_property("model", "no-such-model");
        filter.emit_by_name::<()>("reset", &[]);
        let _ = filter.property::<gst::Structure>("stats");
        std::thread::sleep(std::time::Duration::from_millis(200));
        pipeline.set_state(gst::State::Null).unwrap();
    }
    let after = alive();
    let new: Vec<_> = after.iter().filter(|name| !before.contains(name)).collect();
    assert!(
        after.len() <= before.len() && new.is_empty(),
        "before: {before:#?}\nafter: {after:#?}"
    );
}

#[test]
fn nothing_is_left_of_an_element_that_is_gone() {
    if !can_matte() {
        return;
    }
    traced("child_leaves_nothing", "leaks", &[]);
}

#[test]
#[ignore = "run by a_cache_that_cannot_be_written_or_is_broken_stops_nothing"]
fn child_plays_a_file() {
    init();
    play(&format!(
        "videotestsrc num-buffers=5 ! video/x-raw,format=RGB,width=320,height=180 \
         ! mattefilter name=matte model={LITE} working-size=160x96 seed=none ! fakesink"
    ));
}

#[test]
fn a_cache_that_cannot_be_written_or_is_broken_stops_nothing() {
    if !can_matte() {
        return;
    }
    let runtime = matte_core::runtime::paths::find_onnxruntime().unwrap();
    let runtime = runtime.to_str().unwrap();
    let dir = tempfile::tempdir().unwrap();
    // A writer that was killed leaves half a package behind.
    let models = dir.path().join("models");
    for name in ["selfie", "lite"] {
        let package = models.join(name);
        std::fs::create_dir_all(&package).unwrap();
        std::fs::write(package.join("manifest.json"), "{\"format\": \"1.0\", \"na").unwrap();
    }
    // No directory can be made in a file, whoever asks, and nothing can be written on a full disk.
    for cache in ["/dev/full", dir.path().to_str().unwrap()] {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_plays_a_file", "--ignored"])
            .env("MATTE_CACHE_DIR", cache)
            .env("MATTE_ONNXRUNTIME", runtime)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{cache}: {}",
            String::from_utf8_lossy(&output.stdout)
        );
    }
}
