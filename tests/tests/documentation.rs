//! The pipelines of docs/gstreamer.md, run as they are written there: with test pictures in place of the camera, files made
//! here in place of the user's, and nothing in place of what this machine does not have.

#![allow(clippy::print_stderr, reason = "a skipped test says why")]

use std::path::Path;

use gst::prelude::*;
use matte_tests::{LITE, can_matte, init};

const PAGE: &str = include_str!("../../docs/gstreamer.md");
const CAMERA: &str = "videotestsrc is-live=true num-buffers=30 pattern=ball \
                      ! video/x-raw,format=YUY2,width=320,height=240,framerate=30/1";

/// Every launch line of the page, on one line.
fn lines() -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut goes_on = false;
    for line in PAGE.lines() {
        let text = line.trim().trim_end_matches('\\').trim();
        if goes_on {
            let last = lines.last_mut().unwrap();
            last.push(' ');
            last.push_str(text);
        } else if let Some(start) = text.strip_prefix("gst-launch-1.0 ") {
            lines.push(start.to_owned());
        } else {
            continue;
        }
        goes_on = line.trim_end().ends_with('\\');
    }
    lines
}

/// Runs a pipeline to its end. `false` where an element is missing.
fn run(line: &str) -> bool {
    let pipeline = match gst::parse::launch(line) {
        Ok(pipeline) => pipeline,
        Err(e) if e.matches(gst::ParseError::NoSuchElement) => {
            eprintln!("skipped: {e}: {line}");
            return false;
        }
        Err(e) => panic!("{line}: {e}"),
    };
    let bus = pipeline.bus().unwrap();
    pipeline
        .set_state(gst::State::Playing)
        .unwrap_or_else(|e| panic!("{line}: {e}: {:?}", bus.pop()));
    let message = bus.timed_pop_filtered(
        gst::ClockTime::from_seconds(120),
        &[gst::MessageType::Eos, gst::MessageType::Error],
    );
    pipeline.set_state(gst::State::Null).unwrap();
    match message.as_ref().map(|m| m.view()) {
        Some(gst::MessageView::Eos(_)) => true,
        Some(gst::MessageView::Error(e)) => panic!("{line}: {} ({:?})", e.error(), e.debug()),
        _ => panic!("{line}: no end within two minutes"),
    }
}

/// A film of 30 frames; whether this machine can make one.
fn film(path: &Path) -> bool {
    run(&format!(
        "videotestsrc num-buffers=30 pattern=ball ! video/x-raw,width=320,height=240,framerate=30/1 \
         ! x264enc speed-preset=ultrafast ! mp4mux ! filesink location={}",
        path.display()
    ))
}

#[test]
fn the_pipelines_of_the_page_run() {
    if !can_matte() {
        return;
    }
    init();
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    if !(film(&dir.path().join("in.mp4")) && film(&dir.path().join("behind.mp4"))) {
        return;
    }
    image::RgbImage::from_pixel(320, 240, image::Rgb([20, 120, 200]))
        .save(dir.path().join("beach.png"))
        .unwrap();
    image::GrayImage::from_fn(320, 240, |x, _| image::Luma([255 * u8::from(x < 160)]))
        .save(dir.path().join("first-frame.png"))
        .unwrap();
    let lines = lines();
    assert_eq!(lines.len(), 7, "{lines:#?}");
    for line in lines {
        assert!(line.contains("mattefilter"), "{line}");
        let mut replaced = line
            .replace("v4l2src", CAMERA)
            .replace("autovideosink", "fakesink sync=true")
            .replace("imagefreeze", "imagefreeze num-buffers=30")
            .replace(
                "mattefilter",
                &format!("mattefilter model={LITE} working-size=160x96"),
            );
        if !Path::new("/dev/video10").exists() {
            replaced = replaced.replace("v4l2sink device=/dev/video10", "fakesink sync=true");
        }
        let file = format!("filesink location={}", path("out.flv"));
        replaced = replaced.replace("rtmp2sink location=rtmp://localhost/live/me", &file);
        for name in [
            "in.mp4",
            "behind.mp4",
            "out.mp4",
            "out.mkv",
            "beach.png",
            "first-frame.png",
            "matte-%05d.png",
        ] {
            replaced = replaced.replace(
                &format!("location={name}"),
                &format!("location={}", path(name)),
            );
        }
        if !run(&replaced) {
            continue;
        }
        if line.contains("pngenc") {
            let count = (0..100)
                .take_while(|i| Path::new(&path(&format!("matte-{i:05}.png"))).is_file())
                .count();
            assert_eq!(count, 30, "{line}");
        }
        for out in ["out.flv", "out.mkv", "out.mp4"] {
            let out = dir.path().join(out);
            if out.exists() {
                assert!(out.metadata().unwrap().len() > 2000, "{line}");
                std::fs::remove_file(out).unwrap();
            }
        }
    }
}

#[test]
fn the_page_names_what_the_element_has() {
    init();
    let element = gst::ElementFactory::make("mattefilter").build().unwrap();
    let type_ = element.type_();
    for signal in [
        "seed-from-sample",
        "seed-at",
        "correct",
        "add-reference",
        "remove-reference",
        "add-target",
        "remove-target",
        "reset",
    ] {
        assert!(
            gst::glib::subclass::SignalId::lookup(signal, type_).is_some(),
            "{signal}"
        );
        assert!(PAGE.contains(&format!("{signal} (")), "signal {signal}");
    }
    for template in element.pad_template_list() {
        let caps = template.caps();
        let formats = caps
            .structure(0)
            .unwrap()
            .get::<gst::List>("format")
            .unwrap();
        let formats: Vec<String> = formats.iter().map(|f| f.get().unwrap()).collect();
        assert!(PAGE.contains(&formats.join(", ")), "{formats:?}");
    }
    for message in [
        "matte-backend",
        "matte-seeded",
        "matte-drift",
        "matte-reference",
        "matte-target",
    ] {
        assert!(PAGE.contains(&format!("| `{message}` |")), "{message}");
    }
}
