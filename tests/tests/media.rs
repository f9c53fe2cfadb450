//! `mattefilter` on the shared clips: with a given first mask against an exact matte, and on its own.
//!
//! Only the first second of a clip is run, which shows whether the product works; how good a model is, `matte bench`
//! and `matte eval` tell over whole clips.

#![allow(clippy::print_stderr, reason = "a skipped test says why")]

use std::path::Path;

use gst::prelude::*;
use gst_app::AppSink;
use matte_tests::{LITE, Picture, can_find_people, can_matte, iou, mad, media, run};

const FRAMES: usize = 30;

fn matted(clip: &Path, properties: &str) -> Vec<Picture> {
    let line = format!(
        "filesrc location={} ! decodebin ! mattefilter model={LITE} {properties} \
         ! video/x-raw,format=GRAY8 ! appsink name=out",
        clip.join("video.mp4").display()
    );
    run(&line, FRAMES)
}

#[test]
fn with_the_first_mask_the_mattes_of_synthetic_clips_are_near_the_exact_ones() {
    if !can_matte() {
        return;
    }
    // Mean absolute difference over the clip's first second.
    for (clip, bound) in [
        ("syn01_dancer_fullbody_room", 0.03),
        ("syn05_webcam_lowres_man", 0.03),
    ] {
        let Some(clip) = media(&format!("synthetic/{clip}")) else {
            return;
        };
        let truth = format!(
            "filesrc location={} ! decodebin ! videoconvert ! video/x-raw,format=GRAY8 ! appsink name=out",
            clip.join("alpha.mkv").display()
        );
        let truth = run(&truth, FRAMES);
        let mattes = matted(
            &clip,
            &format!("mask-location={}", clip.join("mask_0000.png").display()),
        );
        assert_eq!((mattes.len(), truth.len()), (FRAMES, FRAMES));
        let mean = mattes
            .iter()
            .zip(&truth)
            .map(|(m, t)| mad(m, t))
            .sum::<f64>()
            / FRAMES as f64;
        let overlap = mattes
            .iter()
            .zip(&truth)
            .map(|(m, t)| iou(m, t))
            .sum::<f64>()
            / FRAMES as f64;
        eprintln!(
            "{}: mean absolute difference {mean:.4}, intersection over union {overlap:.3}",
            clip.display()
        );
        assert!(
            mean < bound,
            "{}: {mean:.4}, not below {bound}",
            clip.display()
        );
    }
}

#[test]
fn a_person_in_front_of_a_real_camera_is_found_and_followed() {
    if !can_find_people() {
        return;
    }
    for clip in ["real01_talking_head_gestures", "real05_signing_man"] {
        let Some(clip) = media(&format!("real/{clip}")) else {
            return;
        };
        let mattes = matted(&clip, "before-seed=error");
        assert_eq!(mattes.len(), FRAMES);
        let mask = image::open(clip.join("mask_0000_pseudo.png"))
            .unwrap()
            .into_luma8();
        let mask = Picture {
            width: mask.width() as usize,
            height: mask.height() as usize,
            data: mask.into_raw(),
        };
        let first = iou(&mattes[0], &mask);
        let areas: Vec<f64> = mattes.iter().map(|m| m.area() / mask.area()).collect();
        eprintln!(
            "{}: first frame {first:.3}, areas {areas:.2?}",
            clip.display()
        );
        assert!(
            first > 0.8,
            "{}: intersection over union with a mask checked by eye is {first:.3}",
            clip.display()
        );
        // A person who talks and gestures for a second stays about as large as in the first frame.
        assert!(
            areas.iter().all(|a| (0.6..1.6).contains(a)),
            "{}: {areas:.2?}",
            clip.display()
        );
    }
}

#[test]
fn a_seek_keeps_the_target() {
    if !can_find_people() {
        return;
    }
    let Some(clip) = media("real/real05_signing_man/video.mp4") else {
        return;
    };
    let line = format!(
        "filesrc location={} ! decodebin ! mattefilter model={LITE} before-seed=error \
         ! video/x-raw,format=GRAY8 ! appsink name=out sync=false max-buffers=1",
        clip.display()
    );
    let pipeline = gst::parse::launch(&line)
        .unwrap()
        .downcast::<gst::Pipeline>()
        .unwrap();
    let out = pipeline
        .by_name("out")
        .unwrap()
        .downcast::<AppSink>()
        .unwrap();
    let bus = pipeline.bus().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let before = (0..5)
        .map(|_| Picture::of(&out.pull_sample().unwrap()).area())
        .next_back()
        .unwrap();
    let to = gst::ClockTime::from_seconds(1);
    pipeline
        .seek_simple(gst::SeekFlags::FLUSH | gst::SeekFlags::ACCURATE, to)
        .unwrap();
    let sample = out.pull_sample().unwrap();
    assert!(
        sample.buffer().unwrap().pts().unwrap() >= to,
        "the frame is one from behind the seek"
    );
    let after = Picture::of(&sample).area();
    let seeds = std::iter::from_fn(|| bus.pop_filtered(&[gst::MessageType::Element]))
        .filter(|message| message.has_name("matte-seeded"))
        .count();
    pipeline.set_state(gst::State::Null).unwrap();
    assert_eq!(seeds, 1);
    assert!(
        (0.6..1.6).contains(&(after / before)),
        "{before:.3} of the picture before, {after:.3} after"
    );
}

#[test]
fn a_place_in_the_picture_names_the_person_who_is_there_alone() {
    if !can_find_people() {
        return;
    }
    for (clip, places) in [
        (
            "real02_two_people_webcam",
            [(520.0, 520.0), (1080.0, 520.0)],
        ),
        (
            "real09_street_interview_two_masks",
            [(420.0, 480.0), (800.0, 500.0)],
        ),
    ] {
        let Some(clip) = media(&format!("real/{clip}")) else {
            return;
        };
        for (chosen, (x, y)) in places.into_iter().enumerate() {
            let line = format!(
                "filesrc location={} ! decodebin ! mattefilter name=matte model={LITE} seed=none \
                 ! video/x-raw,format=GRAY8 ! appsink name=out max-buffers=1 sync=false",
                clip.join("video.mp4").display()
            );
            let pipeline = gst::parse::launch(&line)
                .unwrap()
                .downcast::<gst::Pipeline>()
                .unwrap();
            let matte = pipeline.by_name("matte").unwrap();
            assert!(matte.emit_by_name::<bool>("seed-at", &[&x, &y]));
            let out = pipeline
                .by_name("out")
                .unwrap()
                .downcast::<AppSink>()
                .unwrap();
            pipeline.set_state(gst::State::Playing).unwrap();
            let picture = (0..3)
                .map(|_| Picture::of(&out.pull_sample().unwrap()))
                .next_back()
                .unwrap();
            pipeline.set_state(gst::State::Null).unwrap();
            // The two stand on either side of a line between the two places.
            let border = f64::midpoint(places[0].0, places[1].0) as usize;
            let mut sides = [0.0f64; 2];
            for row in picture.data.chunks_exact(picture.width) {
                for (i, alpha) in row.iter().enumerate() {
                    sides[usize::from(i >= border)] += f64::from(*alpha) / 255.0;
                }
            }
            let [other, this] = match chosen {
                0 => [sides[1], sides[0]],
                _ => [sides[0], sides[1]],
            };
            eprintln!(
                "{}, {x}, {y}: {this:.0} here, {other:.0} there",
                clip.display()
            );
            assert!(
                this > 0.05 * picture.data.len() as f64 && other < 0.15 * this,
                "{}, {x}, {y}: {this:.0} pixels here, {other:.0} on the other side",
                clip.display()
            );
        }
    }
}
