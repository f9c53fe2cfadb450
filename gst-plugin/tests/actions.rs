//! What an application may ask for while playing: signals, clicks, presets.

#![allow(clippy::print_stderr, reason = "a skipped test says why")]

mod common;

use std::time::{Duration, Instant};

use common::*;
use gst::prelude::*;
use gst_video::{NavigationEvent, VideoFormat, VideoInfo};

const SIZE: (u32, u32) = (64, 48);
const PICTURE: [u8; 3] = [90, 40, 30];

fn unseeded(more: &[(&str, &str)]) -> (Filter, VideoInfo) {
    let info = info(VideoFormat::Rgb, SIZE);
    let fixed = [("model", PROBE), ("refine", "none")];
    (Filter::unseeded(&[&fixed, more].concat(), &info), info)
}

fn seeded(more: &[(&str, &str)]) -> (Filter, VideoInfo) {
    let info = info(VideoFormat::Rgb, SIZE);
    let mask = MaskFile::full(SIZE);
    let mut filter = probe(more, &info, &mask);
    filter.push(plain(&info, PICTURE, 0));
    wait_for(&filter.bus, "matte-seeded", |_| true);
    (filter, info)
}

fn sample(info: &VideoInfo, data: Vec<u8>) -> gst::Sample {
    gst::Sample::builder()
        .buffer(&gst::Buffer::from_mut_slice(data))
        .caps(&info.to_caps().unwrap())
        .build()
}

#[test]
fn the_signals_are_actions_with_the_documented_types() {
    init();
    let type_ = gst::ElementFactory::make("mattefilter")
        .build()
        .unwrap()
        .type_();
    for (name, arguments, returns) in [
        ("seed-from-sample", vec!["GstSample"], "gboolean"),
        ("seed-at", vec!["gdouble", "gdouble"], "gboolean"),
        ("correct", vec!["GstSample"], "gboolean"),
        ("add-reference", vec!["GstSample", "GstSample"], "guint64"),
        ("remove-reference", vec!["guint64"], "gboolean"),
        ("add-target", vec!["GstSample"], "guint64"),
        ("remove-target", vec!["guint64"], "gboolean"),
        ("reset", vec![], "void"),
    ] {
        let id = gst::glib::subclass::SignalId::lookup(name, type_).unwrap();
        let query = id.query();
        assert!(query.flags().contains(gst::glib::SignalFlags::ACTION));
        let types: Vec<_> = query
            .param_types()
            .iter()
            .map(|t| t.type_().name())
            .collect();
        assert_eq!(types, arguments, "{name}");
        assert_eq!(query.return_type().type_().name(), returns, "{name}");
    }
}

#[test]
fn a_mask_sample_names_the_target_on_the_next_frame() {
    if !ready() {
        return;
    }
    let (mut filter, info) = unseeded(&[]);
    assert_eq!(first_pixel(&filter.push(plain(&info, PICTURE, 0)))[3], 0);
    let taken = filter
        .element()
        .emit_by_name::<bool>("seed-from-sample", &[&mask_sample(SIZE, 255)]);
    assert!(taken);
    assert_eq!(first_pixel(&filter.push(plain(&info, PICTURE, 1)))[3], 40);
    let message = wait_for(&filter.bus, "matte-seeded", |_| true);
    assert_eq!(message.get::<&str>("how"), Ok("sample"));
    assert_eq!(
        message.get::<u64>("running-time"),
        Ok(FRAME.nseconds()),
        "of the frame that it was used on"
    );
}

#[test]
fn a_mask_may_lie_in_the_alpha_or_the_luma_of_any_format() {
    if !ready() {
        return;
    }
    for format in [
        VideoFormat::Gray8,
        VideoFormat::Rgba,
        VideoFormat::Argb,
        VideoFormat::Rgb,
        VideoFormat::I420,
        VideoFormat::A420,
    ] {
        let (mut filter, info) = unseeded(&[]);
        let of = VideoInfo::builder(format, SIZE.0, SIZE.1).build().unwrap();
        // White, and where there is alpha, opaque: the luma counts.
        let white = sample(&of, vec![255; of.size()]);
        assert!(
            filter
                .element()
                .emit_by_name::<bool>("seed-from-sample", &[&white])
        );
        assert_eq!(
            first_pixel(&filter.push(plain(&info, PICTURE, 0)))[3],
            40,
            "{format}"
        );
        // Nothing is selected: black or see-through everywhere.
        let mut black = vec![0; of.size()];
        if of.has_alpha() && format != VideoFormat::A420 {
            let alpha = usize::from(format != VideoFormat::Argb) * 3;
            for pixel in black.chunks_exact_mut(4) {
                pixel.fill(255);
                pixel[alpha] = 0;
            }
        }
        filter
            .element()
            .emit_by_name::<bool>("seed-from-sample", &[&sample(&of, black)]);
        filter.push(plain(&info, PICTURE, 1));
        let warned = warnings(&filter.bus);
        assert!(
            warned.len() == 1 && warned[0].contains("mask is empty"),
            "{format}: {warned:?}"
        );
    }
}

#[test]
fn what_is_no_mask_is_refused_with_the_reason() {
    if !ready() {
        return;
    }
    let (mut filter, info) = seeded(&[]);
    let element = filter.element();
    let none: Option<gst::Sample> = None;
    assert!(!element.emit_by_name::<bool>("seed-from-sample", &[&none]));
    let text = gst::Sample::builder()
        .buffer(&gst::Buffer::from_mut_slice(vec![0u8; 9]))
        .caps(&gst::Caps::new_empty_simple("text/x-raw"))
        .build();
    assert!(!element.emit_by_name::<bool>("correct", &[&text]));
    assert!(!element.emit_by_name::<bool>("seed-at", &[&f64::NAN, &1.0]));
    let warned = warnings(&filter.bus);
    assert!(
        warned.len() == 3
            && warned[0].contains("seed-from-sample: there is no sample")
            && warned[1].contains("correct: the sample is no raw video: text/x-raw")
            && warned[2].contains("seed-at: NaN, 1"),
        "{warned:?}"
    );
    // Of another shape: known when the frame is there.
    assert!(element.emit_by_name::<bool>("seed-from-sample", &[&mask_sample((10, 10), 255)]));
    assert_eq!(first_pixel(&filter.push(plain(&info, PICTURE, 1)))[3], 40);
    let warned = warnings(&filter.bus);
    assert!(
        warned.len() == 1
            && warned[0].contains("the target stays as it was")
            && warned[0].contains("mask of 10x10"),
        "{warned:?}"
    );
}

#[test]
fn a_correction_is_the_matte_of_its_frame_and_the_target_goes_on() {
    if !ready() {
        return;
    }
    let (mut filter, info) = seeded(&[]);
    let element = filter.element();
    assert!(element.emit_by_name::<bool>("correct", &[&mask_sample(SIZE, 255)]));
    assert_eq!(first_pixel(&filter.push(plain(&info, PICTURE, 1)))[3], 255);
    let message = wait_for(&filter.bus, "matte-seeded", |_| true);
    assert_eq!(message.get::<&str>("how"), Ok("correction"));
    assert_eq!(first_pixel(&filter.push(plain(&info, PICTURE, 2)))[3], 40);

    let (mut filter, info) = unseeded(&[]);
    filter
        .element()
        .emit_by_name::<bool>("correct", &[&mask_sample(SIZE, 255)]);
    assert_eq!(first_pixel(&filter.push(plain(&info, PICTURE, 0)))[3], 0);
    let warned = warnings(&filter.bus);
    assert!(
        warned.len() == 1 && warned[0].contains("there is no target yet"),
        "{warned:?}"
    );
}

fn references(element: &gst::Element) -> Vec<u64> {
    numbers(element, "references")
}

fn numbers(element: &gst::Element, property: &str) -> Vec<u64> {
    element
        .property::<gst::Array>(property)
        .iter()
        .map(|id| id.get().unwrap())
        .collect()
}

#[test]
fn references_are_pinned_listed_and_removed_by_their_number() {
    if !ready() {
        return;
    }
    let (mut filter, info) = seeded(&[("max-references", "2")]);
    let element = filter.element();
    let none: Option<gst::Sample> = None;
    let mask = mask_sample(SIZE, 255);
    let first = element.emit_by_name::<u64>("add-reference", &[&mask, &none]);
    // Another picture, of another size and format, of any time.
    let other = self::info(VideoFormat::I420, (128, 96));
    let frame = sample(&other, vec![90; other.size()]);
    let second = element.emit_by_name::<u64>("add-reference", &[&mask, &frame]);
    let third = element.emit_by_name::<u64>("add-reference", &[&mask, &none]);
    assert!(first > 0 && second > first && third > second);
    assert!(references(&element).is_empty(), "they come with a frame");
    filter.push(plain(&info, PICTURE, 1));
    assert_eq!(references(&element), [first, second]);
    let failed = wait_for(&filter.bus, "matte-reference", |s| {
        s.get::<&str>("state") == Ok("failed")
    });
    assert_eq!(failed.get("id"), Ok(third));
    assert!(
        failed
            .get::<&str>("reason")
            .unwrap()
            .contains("all 2 reference slots are taken"),
        "{failed}"
    );
    assert_eq!(warnings(&filter.bus).len(), 1);

    assert!(!element.emit_by_name::<bool>("remove-reference", &[&third]));
    assert!(element.emit_by_name::<bool>("remove-reference", &[&first]));
    filter.push(plain(&info, PICTURE, 2));
    assert_eq!(references(&element), [second]);
    let removed = wait_for(&filter.bus, "matte-reference", |_| true);
    assert_eq!(
        (removed.get("id"), removed.get("state")),
        (Ok(first), Ok("removed"))
    );

    // A new target knows nothing of them.
    element.emit_by_name::<bool>("seed-from-sample", &[&mask]);
    filter.push(plain(&info, PICTURE, 3));
    assert!(references(&element).is_empty());
    assert_eq!(errors(&filter.bus), [""; 0]);
}

#[test]
fn edges_that_the_model_cannot_draw_are_warned_of_and_cost_no_other_option() {
    if !ready() {
        return;
    }
    let info = info(VideoFormat::Rgb, SIZE);
    let mask = MaskFile::full(SIZE);
    let mut filter = probe(&[("refine", "detail")], &info, &mask);
    let out = until(|t| {
        let out = filter.push(plain(&info, [90, 40, 30], t));
        (first_pixel(&out)[3] > 0).then_some(out)
    });
    assert_eq!(first_pixel(&out.expect("a matte comes")), [90, 40, 30, 40]);
    let warned = warnings(&filter.bus);
    assert!(
        warned
            .iter()
            .any(|w| w.contains("the package probe has no graph `detail`")),
        "{warned:?}"
    );
    assert_eq!(errors(&filter.bus), [""; 0]);
}

#[test]
fn without_room_for_references_the_warning_says_what_to_set() {
    if !ready() {
        return;
    }
    let (mut filter, info) = seeded(&[]);
    let none: Option<gst::Sample> = None;
    filter
        .element()
        .emit_by_name::<u64>("add-reference", &[&mask_sample(SIZE, 255), &none]);
    filter.push(plain(&info, PICTURE, 1));
    let warned = warnings(&filter.bus);
    assert!(
        warned.len() == 1
            && warned[0].contains("all 0 reference slots")
            && warned[0].contains("max_references"),
        "{warned:?}"
    );
}

#[test]
fn further_targets_are_followed_and_shown_together_or_one_alone() {
    if !ready() {
        return;
    }
    for mode in ["aligned", "low"] {
        let (mut filter, info) = seeded(&[]);
        let element = filter.element();
        element.set_property_from_str("latency-mode", mode);
        let mut shown = |t: u32, expected: u8| {
            // In the low mode the newest matte may be one of a frame before.
            until(|i| {
                let alpha = first_pixel(&filter.push(plain(&info, PICTURE, t + i)))[3];
                (alpha == expected).then_some(())
            })
            .is_some()
        };
        assert!(shown(1, 40), "{mode}");
        let second = element.emit_by_name::<u64>("add-target", &[&mask_sample(SIZE, 255)]);
        assert_eq!(second, 2);
        // The matte of PROBE is the same for every target: where two overlap they add up.
        assert!(shown(100_000, 80), "{mode}: both");
        assert_eq!(numbers(&element, "targets"), [second]);
        element.set_property("show-target", second);
        assert!(shown(200_000, 40), "{mode}: the second");
        element.set_property("show-target", 1u64);
        assert!(shown(300_000, 40), "{mode}: the first");
        element.set_property("show-target", 7u64);
        assert!(shown(400_000, 0), "{mode}: one that there is not");
        element.set_property("show-target", 0u64);
        assert!(shown(500_000, 80), "{mode}: both again");
        assert!(element.emit_by_name::<bool>("remove-target", &[&second]));
        assert!(shown(600_000, 40), "{mode}: the first alone");
        assert!(numbers(&element, "targets").is_empty());
        assert!(!element.emit_by_name::<bool>("remove-target", &[&second]));
        element.emit_by_name::<u64>("add-target", &[&mask_sample((10, 10), 255)]);
        assert!(shown(700_000, 40), "{mode}");
        let failed = until(|i| {
            shown(800_000 + i, 40);
            warnings(&filter_bus(&element)).pop()
        });
        assert!(
            failed.is_some_and(|w| w.contains("target 3 is not followed: mask of 10x10")),
            "{mode}"
        );
    }
}

#[test]
fn a_further_target_does_not_become_the_first_one() {
    if !ready() {
        return;
    }
    for mode in ["aligned", "low"] {
        let (mut filter, info) = unseeded(&[("latency-mode", mode)]);
        let element = filter.element();
        let mut t = 0;
        let mut push = || {
            t += 1;
            first_pixel(&filter.push(plain(&info, PICTURE, t)))[3]
        };
        let second = element.emit_by_name::<u64>("add-target", &[&mask_sample(SIZE, 255)]);
        until(|_| (push() == 40).then_some(())).expect("it is followed");
        // The second alone goes on where another engine comes.
        element.set_property("working-size", "32x32");
        let bus = filter_bus(&element);
        until(|_| {
            assert_eq!(push(), 40, "{mode}: there is one target");
            let mut told = element_messages(&bus, "matte-target");
            told.pop()
                .filter(|told| told.get::<&str>("state") == Ok("renewed"))
        })
        .expect("it gets another engine");
        for _ in 0..20 {
            assert_eq!(push(), 40, "{mode}: there is one target");
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(element_messages(&bus, "matte-seeded").is_empty(), "{mode}");
        assert!(element.emit_by_name::<bool>("remove-target", &[&second]));
        until(|_| (push() == 0).then_some(())).expect("nobody is shown any more");
    }
}

#[test]
fn a_further_target_of_a_live_picture_is_named_on_the_frame_that_its_mask_is_for() {
    if !ready() {
        return;
    }
    let (mut filter, info) = seeded(&[]);
    let element = filter.element();
    element.set_property_from_str("wait-for-model", "never");
    let target = element.emit_by_name::<u64>("add-target", &[&mask_sample(SIZE, 255)]);
    // The network fails on this one, and on no later one.
    filter.push(fault(&info, 1));
    let failed = until(|i| {
        filter.push(plain(&info, PICTURE, 2 + i));
        let warned = warnings(&filter.bus);
        warned.into_iter().find(|w| w.contains("is not followed"))
    });
    let wanted = format!("target {target} is not followed");
    assert!(failed.is_some_and(|failed| failed.contains(&wanted)));
}

/// A target in an element that is not live, and a model of which no more engines come.
fn held() -> (SlowModel, gst::Element, Ends, VideoInfo) {
    let info = info(VideoFormat::Rgb, SIZE);
    let model = SlowModel::quick();
    let (element, _) = element(&[
        ("model", model.location()),
        ("seed", "none"),
        ("refine", "none"),
    ]);
    element.set_state(gst::State::Playing).unwrap();
    let ends = Ends::new(&element);
    assert!(ends.start(&info));
    element.emit_by_name::<bool>("seed-from-sample", &[&mask_sample(SIZE, 255)]);
    ends.src.push(plain(&info, PICTURE, 0)).unwrap();
    assert_eq!(first_pixel(&ends.take()[0])[3], 40);
    model.hold();
    (model, element, ends, info)
}

#[test]
fn a_frame_that_waits_for_another_target_holds_nothing_up() {
    if !ready() {
        return;
    }
    let (model, element, ends, info) = held();
    let mask = mask_sample(SIZE, 255);
    let waiting = |end: &dyn Fn()| {
        std::thread::scope(|scope| {
            let pushed = scope.spawn(|| ends.src.push(plain(&info, PICTURE, 1)));
            std::thread::sleep(Duration::from_millis(100));
            assert!(!pushed.is_finished(), "it waits");
            let start = Instant::now();
            assert!(element.property::<gst::Structure>("stats").n_fields() > 0);
            end();
            let flow = pushed.join().unwrap();
            assert!(start.elapsed() < Duration::from_secs(20));
            flow
        })
    };
    let given_up = element.emit_by_name::<u64>("add-target", &[&mask]);
    let flow = waiting(&|| ends.flush());
    assert_eq!(flow, Err(gst::FlowError::Flushing));

    // It is no target yet, and will be none.
    let flow = waiting(&|| assert!(element.emit_by_name::<bool>("remove-target", &[&given_up])));
    assert_eq!(flow, Ok(gst::FlowSuccess::Ok));
    assert_eq!(first_pixel(&ends.take()[0])[3], 40);
    assert!(!element.emit_by_name::<bool>("remove-target", &[&given_up]));

    element.emit_by_name::<u64>("add-target", &[&mask]);
    let flow = waiting(&|| {
        element.set_state(gst::State::Ready).unwrap();
    });
    assert_eq!(flow, Err(gst::FlowError::Flushing));
    model.release();
    element.set_state(gst::State::Null).unwrap();
}

#[test]
fn a_frame_that_waits_for_another_target_shows_it() {
    if !ready() {
        return;
    }
    for mode in ["aligned", "low"] {
        let (model, element, ends, info) = held();
        element.set_property_from_str("latency-mode", mode);
        let second = element.emit_by_name::<u64>("add-target", &[&mask_sample(SIZE, 255)]);
        std::thread::scope(|scope| {
            let pushed = scope.spawn(|| ends.src.push(plain(&info, PICTURE, 1)));
            std::thread::sleep(Duration::from_millis(100));
            assert!(!pushed.is_finished(), "{mode}: it waits");
            model.release();
            pushed.join().unwrap().unwrap();
        });
        // In the low mode the newest matte may be the one before.
        let shown = first_pixel(&ends.take()[0])[3];
        assert!(shown == 80 || mode == "low", "{mode}: {shown}");
        until(|t| {
            ends.src.push(plain(&info, PICTURE, 2 + t)).unwrap();
            (first_pixel(&ends.take()[0])[3] == 80).then_some(())
        })
        .expect("both targets");
        assert_eq!(numbers(&element, "targets"), [second], "{mode}");
        element.set_state(gst::State::Null).unwrap();
    }
}

#[test]
fn a_live_picture_goes_on_when_a_target_is_given_up_that_is_being_opened() {
    if !ready() {
        return;
    }
    for mode in ["aligned", "low"] {
        let (model, element, ends, info) = held();
        element.set_property_from_str("latency-mode", mode);
        element.set_property_from_str("wait-for-model", "never");
        let bus = filter_bus(&element);
        let mask = mask_sample(SIZE, 255);
        let start = Instant::now();
        let frames = |expected: u8| {
            until(|t| {
                ends.src.push(plain(&info, PICTURE, 1 + t)).unwrap();
                let shown = first_pixel(&ends.take()[0])[3];
                (t > 20 && shown == expected).then_some(())
            })
            .unwrap_or_else(|| panic!("{mode}: no frame of {expected}"));
        };
        let is_removed = |id: u64| {
            move |s: &gst::StructureRef| (s.get("id"), s.get("state")) == (Ok(id), Ok("removed"))
        };
        let second = element.emit_by_name::<u64>("add-target", &[&mask]);
        frames(40);
        assert!(element.emit_by_name::<bool>("remove-target", &[&second]));
        frames(40);
        wait_for(&bus, "matte-target", is_removed(second));
        assert!(!element.emit_by_name::<bool>("remove-target", &[&second]));

        let third = element.emit_by_name::<u64>("add-target", &[&mask]);
        frames(40);
        element.emit_by_name::<()>("reset", &[]);
        frames(0);
        wait_for(&bus, "matte-target", is_removed(third));
        let _ = element.property::<gst::Structure>("stats");
        element.set_state(gst::State::Ready).unwrap();
        assert!(start.elapsed() < Duration::from_secs(45), "{mode}");
        model.release();
        element.set_state(gst::State::Null).unwrap();
    }
}

#[test]
fn references_and_further_targets_are_taken_over_by_another_model() {
    if !ready() {
        return;
    }
    for mode in ["aligned", "low"] {
        let (mut filter, info) = seeded(&[("max-references", "2"), ("latency-mode", mode)]);
        let element = filter.element();
        let none: Option<gst::Sample> = None;
        let mask = mask_sample(SIZE, 255);
        let other = self::info(VideoFormat::I420, (128, 96));
        let frame = sample(&other, vec![90; other.size()]);
        let first = element.emit_by_name::<u64>("add-reference", &[&mask, &none]);
        let second = element.emit_by_name::<u64>("add-reference", &[&mask, &frame]);
        let target = element.emit_by_name::<u64>("add-target", &[&mask]);
        let mut t = 0;
        let mut push = || {
            t += 1;
            first_pixel(&filter.push(plain(&info, PICTURE, t)))[3]
        };
        until(|_| (push() == 80).then_some(())).expect("both are followed");
        let model = SlowModel::new();
        element.set_property("model", model.location());
        for _ in 0..5 {
            assert_eq!(push(), 80, "{mode}: the old ones go on");
        }
        model.release();
        let bus = filter_bus(&element);
        let renewed = until(|_| {
            assert_eq!(push(), 80, "{mode}: no frame goes without one of them");
            element_messages(&bus, "matte-target")
                .into_iter()
                .find(|m| {
                    assert_ne!(m.get::<&str>("state"), Ok("removed"), "{mode}");
                    m.get::<&str>("state") == Ok("renewed")
                })
        })
        .expect("the other target gets an engine of the new model");
        assert_eq!(renewed.get("id"), Ok(target));
        for _ in 0..20 {
            assert_eq!(push(), 80, "{mode}: by the new engines");
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(numbers(&element, "targets"), [target], "{mode}");
        assert_eq!(references(&element), [first, second], "{mode}");

        // They are in the memory of the new engine: there is no room for another one until one is removed.
        let full = |push: &mut dyn FnMut() -> u8| {
            let third = element.emit_by_name::<u64>("add-reference", &[&mask, &none]);
            let warned = until(|_| {
                push();
                let taken = references(&element).contains(&third);
                warnings(&bus).pop().or(taken.then(String::new))
            })
            .expect("it is taken or refused");
            assert!(
                warned.is_empty() || warned.contains("all 2 reference slots are taken"),
                "{mode}: {warned}"
            );
            !warned.is_empty()
        };
        assert!(full(&mut push), "{mode}");
        assert!(element.emit_by_name::<bool>("remove-reference", &[&first]));
        assert!(!full(&mut push), "{mode}");
        assert_eq!(errors(&bus), [""; 0]);
    }
}

fn filter_bus(element: &gst::Element) -> gst::Bus {
    element.bus().unwrap()
}

#[test]
fn a_reset_forgets_the_target_and_names_it_as_at_the_start() {
    if !ready() {
        return;
    }
    let (mut filter, info) = unseeded(&[]);
    let element = filter.element();
    element.emit_by_name::<bool>("seed-from-sample", &[&mask_sample(SIZE, 255)]);
    assert_eq!(first_pixel(&filter.push(plain(&info, PICTURE, 0)))[3], 40);
    element.emit_by_name::<()>("reset", &[]);
    assert_eq!(first_pixel(&filter.push(plain(&info, PICTURE, 1)))[3], 0);

    let (mut filter, info) = seeded(&[]);
    filter.element().emit_by_name::<()>("reset", &[]);
    assert_eq!(first_pixel(&filter.push(plain(&info, PICTURE, 1)))[3], 40);
    let again = wait_for(&filter.bus, "matte-seeded", |_| true);
    assert_eq!(again.get::<&str>("how"), Ok("mask"));
}

#[test]
fn actions_before_the_first_frame_wait_for_it_but_not_without_end() {
    if !ready() {
        return;
    }
    let (mut filter, info) = unseeded(&[]);
    let element = filter.element();
    let mask = mask_sample(SIZE, 255);
    let taken = (0..100)
        .filter(|_| element.emit_by_name::<bool>("seed-from-sample", &[&mask]))
        .count();
    assert_eq!(taken, 64);
    assert_eq!(first_pixel(&filter.push(plain(&info, PICTURE, 0)))[3], 40);
    assert!(element.emit_by_name::<bool>("seed-from-sample", &[&mask]));
}

#[test]
fn in_the_low_mode_actions_are_done_as_well() {
    if !ready() {
        return;
    }
    let (mut filter, info) = unseeded(&[("latency-mode", "low"), ("max-references", "1")]);
    let element = filter.element();
    let none: Option<gst::Sample> = None;
    let mask = mask_sample(SIZE, 255);
    element.emit_by_name::<bool>("seed-from-sample", &[&mask]);
    let id = until(|t| {
        let alpha = first_pixel(&filter.push(plain(&info, PICTURE, t)))[3];
        (alpha == 40).then(|| element.emit_by_name::<u64>("add-reference", &[&mask, &none]))
    })
    .expect("a matte");
    until(|i| {
        filter.push(plain(&info, PICTURE, 60_000 + i));
        (references(&element) == [id]).then_some(())
    })
    .expect("the reference is listed");
}

#[test]
fn a_click_seeds_when_asked_to_and_goes_upstream_otherwise() {
    if !ready() {
        return;
    }
    let (mut filter, info) = seeded(&[]);
    let element = filter.element();
    let src = element.static_pad("src").unwrap();
    let click = |button| {
        src.send_event(NavigationEvent::new_mouse_button_press(button, 30.0, 20.0).build())
    };
    click(1);
    assert!(
        std::iter::from_fn(|| filter.harness.try_pull_upstream_event())
            .any(|event| event.type_() == gst::EventType::Navigation),
        "off: it goes upstream"
    );
    element.set_property("click-to-seed", true);
    assert!(click(1));
    click(3);
    let upstream: Vec<_> = std::iter::from_fn(|| filter.harness.try_pull_upstream_event())
        .filter(|event| event.type_() == gst::EventType::Navigation)
        .collect();
    assert_eq!(upstream.len(), 1, "only the other button's");
    // There is nobody in this picture.
    assert_eq!(first_pixel(&filter.push(plain(&info, PICTURE, 1)))[3], 40);
    let warned = warnings(&filter.bus);
    assert!(
        warned.len() == 1 && warned[0].contains("nobody is found at 30, 20"),
        "{warned:?}"
    );
}

#[test]
fn presets_are_saved_and_loaded() {
    init();
    let dir = tempfile::tempdir().unwrap();
    gst::Preset::set_app_dir(dir.path()).unwrap();
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/presets/GstMatteFilter.prs");
    std::fs::copy(shipped, dir.path().join("GstMatteFilter.prs")).unwrap();
    let filter = gst::ElementFactory::make("mattefilter").build().unwrap();
    let preset = filter.dynamic_cast_ref::<gst::Preset>().unwrap();
    let names: Vec<String> = preset
        .preset_names()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(names, ["Fast", "Fine edges", "Lowest latency"]);
    let value = |name: &str| {
        let value = filter.property_value(name);
        value.serialize().unwrap().to_string()
    };
    for (name, property, expected) in [
        ("Fast", "working-size", "\"384x224\""),
        ("Lowest latency", "latency-mode", "low"),
        ("Fine edges", "foreground", "estimated"),
    ] {
        preset.load_preset(name).unwrap();
        assert_eq!(
            value(property).trim_matches('"'),
            expected.trim_matches('"'),
            "{name}"
        );
    }
}
