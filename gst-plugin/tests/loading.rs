//! Models are opened beside the stream, and what is shown meanwhile, or when they fail, is never the room by surprise.

#![allow(clippy::print_stderr, reason = "a skipped test says why")]

mod common;

use std::time::Duration;

use common::*;
use gst::prelude::*;
use gst_video::VideoFormat;

const SIZE: (u32, u32) = (64, 48);
/// A room: the matte of [`PROBE`] would be 40.
const ROOM: [u8; 3] = [90, 40, 30];

fn is_transparent(buffer: &gst::Buffer) -> bool {
    buffer.map_readable().unwrap().iter().all(|byte| *byte == 0)
}

fn live<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [&[("wait-for-model", "never")], more].concat()
}

/// The element with a model that is stuck while it is opened, on a source that is not live.
fn stuck(mask: &MaskFile) -> (SlowModel, gst::Element, gst::Bus, Ends) {
    let model = SlowModel::new();
    let (element, bus) = element(&[
        ("model", model.location()),
        ("mask-location", mask.location()),
        ("wait-for-model", "auto"),
        ("refine", "none"),
    ]);
    let ends = Ends::new(&element);
    (model, element, bus, ends)
}

#[test]
fn state_changes_and_caps_return_while_the_model_is_opened_and_the_room_is_hidden() {
    if !ready() {
        return;
    }
    let info = info(VideoFormat::Rgb, SIZE);
    let mask = MaskFile::full(SIZE);
    let model = SlowModel::new();
    let properties = live(&[
        ("model", model.location()),
        ("mask-location", mask.location()),
        ("refine", "none"),
    ]);
    // Nothing of this comes back before the release below if it waits for the model.
    let mut filter = Filter::new(&properties, &info, "video/x-raw");
    for t in 0..3 {
        assert!(is_transparent(&filter.push(plain(&info, ROOM, t))));
    }
    assert_eq!(
        filter.stats().n_fields(),
        0,
        "there is no engine to ask, and no wait for it"
    );
    model.release();
    wait_for(&filter.bus, "matte-backend", is_ready);
    let out =
        until(|i| Some(filter.push(plain(&info, ROOM, 3 + i))).filter(|o| !is_transparent(o)))
            .expect("a matte comes once the model is there");
    assert_eq!(first_pixel(&out), [90, 40, 30, 40]);
    assert_eq!(errors(&filter.bus), [""; 0]);
}

#[test]
fn a_harness_is_live_so_its_frames_do_not_wait() {
    if !ready() {
        return;
    }
    let info = info(VideoFormat::Rgb, SIZE);
    let model = SlowModel::new();
    let properties = [("model", model.location()), ("wait-for-model", "auto")];
    let mut filter = Filter::new(&properties, &info, "video/x-raw");
    assert!(is_transparent(&filter.push(plain(&info, ROOM, 0))));
    model.release();
}

#[test]
fn while_the_model_is_opened_before_seed_may_show_the_picture_and_error_stops_nothing() {
    if !ready() {
        return;
    }
    let info = info(VideoFormat::Rgb, SIZE);
    for (policy, shown) in [("pass-through", [90, 40, 30, 255]), ("error", [0; 4])] {
        let model = SlowModel::new();
        let properties = live(&[("model", model.location()), ("before-seed", policy)]);
        let mut filter = Filter::new(&properties, &info, "video/x-raw");
        assert_eq!(
            first_pixel(&filter.push(plain(&info, ROOM, 0))),
            shown,
            "{policy}"
        );
        model.release();
    }
}

#[test]
fn a_file_is_matted_from_its_first_frame_on() {
    if !ready() {
        return;
    }
    let info = info(VideoFormat::Rgb, SIZE);
    let mask = MaskFile::full(SIZE);
    let (model, element, bus, ends) = stuck(&mask);
    element.set_state(gst::State::Playing).unwrap();
    assert!(ends.start(&info));
    std::thread::scope(|scope| {
        let pushed = scope.spawn(|| {
            for t in 0..3 {
                ends.src.push(plain(&info, ROOM, t)).unwrap();
            }
        });
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(ends.take().len(), 0, "the first frame waits");
        model.release();
        pushed.join().unwrap();
    });
    let out = ends.take();
    assert_eq!(out.len(), 3);
    for buffer in out {
        assert_eq!(first_pixel(&buffer), [90, 40, 30, 40]);
    }
    element.set_state(gst::State::Null).unwrap();
    assert_eq!(errors(&bus), [""; 0]);
}

#[test]
fn a_frame_that_waits_is_let_go_by_a_flush_and_by_the_end() {
    if !ready() {
        return;
    }
    let info = info(VideoFormat::Rgb, SIZE);
    let mask = MaskFile::full(SIZE);
    let (model, element, _bus, ends) = stuck(&mask);
    element.set_state(gst::State::Playing).unwrap();
    assert!(ends.start(&info));
    let waiting = |end: &dyn Fn()| {
        std::thread::scope(|scope| {
            let pushed = scope.spawn(|| ends.src.push(plain(&info, ROOM, 0)));
            std::thread::sleep(Duration::from_millis(50));
            assert!(!pushed.is_finished());
            end();
            pushed.join().unwrap()
        })
    };
    let flow = waiting(&|| {
        ends.src.push_event(gst::event::FlushStart::new());
    });
    assert_eq!(flow, Err(gst::FlowError::Flushing));
    ends.src.push_event(gst::event::FlushStop::new(true));
    let segment = gst::FormattedSegment::<gst::ClockTime>::new();
    ends.src.push_event(gst::event::Segment::new(&segment));

    let flow = waiting(&|| {
        element.set_state(gst::State::Ready).unwrap();
    });
    assert_eq!(flow, Err(gst::FlowError::Flushing));
    ends.stop();

    // The opening that went on all the time is not lost.
    element.set_state(gst::State::Playing).unwrap();
    assert!(ends.start(&info));
    model.release();
    ends.src.push(plain(&info, ROOM, 0)).unwrap();
    assert_eq!(first_pixel(&ends.take()[0]), [90, 40, 30, 40]);
    element.set_state(gst::State::Null).unwrap();
}

#[test]
fn a_model_that_is_not_there_is_told_before_any_frame() {
    init();
    let (element, bus) = element(&[("model", "no-such-model")]);
    element.set_state(gst::State::Paused).unwrap();
    let message = bus
        .timed_pop_filtered(gst::ClockTime::from_seconds(60), &[gst::MessageType::Error])
        .expect("an error");
    let gst::MessageView::Error(error) = message.view() else {
        unreachable!()
    };
    assert!(
        error
            .error()
            .to_string()
            .contains("model no-such-model: not found")
    );
    element.set_state(gst::State::Null).unwrap();
}

#[test]
fn a_model_set_while_playing_takes_over_with_the_target() {
    if !ready() {
        return;
    }
    let info = info(VideoFormat::Rgb, SIZE);
    let mask = MaskFile::full(SIZE);
    let mut filter = probe(&[], &info, &mask);
    assert_eq!(first_pixel(&filter.push(plain(&info, ROOM, 0)))[3], 40);
    wait_for(&filter.bus, "matte-seeded", |_| true);

    let model = SlowModel::new();
    filter.element().set_property("model", model.location());
    for t in 1..4 {
        let out = filter.push(plain(&info, ROOM, t));
        assert_eq!(first_pixel(&out)[3], 40, "the old one goes on");
    }
    model.release();
    wait_for(&filter.bus, "matte-backend", is_ready);
    let how = until(|i| {
        let out = filter.push(plain(&info, ROOM, 4 + i));
        assert_eq!(first_pixel(&out)[3], 40, "no frame goes without a matte");
        element_messages(&filter.bus, "matte-seeded").pop()
    })
    .expect("the new engine is used");
    assert_eq!(how.get::<&str>("how"), Ok("carried"));
    assert_eq!(
        (errors(&filter.bus), warnings(&filter.bus)),
        (vec![], vec![])
    );
}

#[test]
fn working_size_and_memory_set_while_playing_take_effect() {
    if !ready() {
        return;
    }
    let info = info(VideoFormat::Rgb, SIZE);
    let mask = MaskFile::full(SIZE);
    let mut filter = probe(&[], &info, &mask);
    filter.push(plain(&info, ROOM, 0));
    wait_for(&filter.bus, "matte-backend", is_ready);
    filter.element().set_property("working-size", "32x32");
    filter.element().set_property("max-references", 2u32);
    let out = filter.push(plain(&info, ROOM, 1));
    assert_eq!(first_pixel(&out)[3], 40);
    let ready = wait_for(&filter.bus, "matte-backend", is_ready);
    assert_eq!(ready.get("working-width"), Ok(32u32));
    // It is told when it is ready, and used from one of the next frames on.
    until(|i| {
        let out = filter.push(plain(&info, ROOM, 2 + i));
        assert_eq!(first_pixel(&out)[3], 40, "frame {i}");
        (filter.stats().get("working-height") == Ok(32u32)).then_some(())
    })
    .expect("the new engine is used");

    filter.element().set_property("working-size", "wide");
    for t in 3..6 {
        let out = filter.push(plain(&info, ROOM, t));
        assert_eq!(first_pixel(&out)[3], 40);
    }
    let warned = warnings(&filter.bus);
    assert!(
        warned.len() == 1 && warned[0].contains("working-size: \"wide\""),
        "{warned:?}"
    );
}

#[test]
fn a_replacement_that_cannot_be_opened_changes_nothing() {
    if !ready() {
        return;
    }
    let info = info(VideoFormat::Rgb, SIZE);
    let mask = MaskFile::full(SIZE);
    let mut filter = probe(&[], &info, &mask);
    filter.push(plain(&info, ROOM, 0));
    for (property, value, reason) in [
        ("model", "no-such-model", "not found"),
        ("execution-provider", "tensorrt-rtx", "not supported"),
    ] {
        let element = filter.element();
        let before = element.property_value(property);
        element.set_property_from_str(property, value);
        filter.push(plain(&info, ROOM, 1));
        let failed = wait_for(&filter.bus, "matte-backend", |s| {
            s.get::<&str>("state") == Ok("failed")
        });
        assert!(
            failed.get::<&str>("reason").unwrap().contains(reason),
            "{failed}"
        );
        let warned = until(|i| {
            let out = filter.push(plain(&info, ROOM, 2 + i));
            assert_eq!(first_pixel(&out)[3], 40, "{value}");
            warnings(&filter.bus).pop()
        })
        .expect("a warning");
        assert!(
            warned.contains("the engine stays as it was") && warned.contains(reason),
            "{warned}"
        );
        element.set_property_from_value(property, &before);
        filter.push(plain(&info, ROOM, 1));
    }
    assert_eq!(errors(&filter.bus), [""; 0]);
}

#[test]
fn when_the_network_fails_nothing_of_the_room_is_seen_unless_asked_for() {
    if !ready() {
        return;
    }
    let info = info(VideoFormat::Rgb, SIZE);
    let mask = MaskFile::full(SIZE);
    for (policy, shown) in [("transparent", [0; 4]), ("pass-through", [255, 0, 0, 255])] {
        let mut filter = probe(&[("on-failure", policy)], &info, &mask);
        assert_eq!(first_pixel(&filter.push(plain(&info, ROOM, 0)))[3], 40);
        assert_eq!(
            first_pixel(&filter.push(fault(&info, 1))),
            shown,
            "{policy}"
        );
        assert_eq!(
            first_pixel(&filter.push(fault(&info, 2))),
            shown,
            "{policy}"
        );
        let warned = warnings(&filter.bus);
        assert!(
            warned.len() == 1 && warned[0].contains("no matte: "),
            "one warning for both frames: {warned:?}"
        );
        let out = filter.push(plain(&info, ROOM, 3));
        assert_eq!(first_pixel(&out), [90, 40, 30, 40], "it works again");
        assert_eq!(errors(&filter.bus), [""; 0]);
    }
    let mut filter = probe(&[("on-failure", "error")], &info, &mask);
    filter.push(plain(&info, ROOM, 0));
    assert_eq!(
        filter.harness.push(fault(&info, 1)),
        Err(gst::FlowError::Error)
    );
    let errors = errors(&filter.bus);
    assert!(
        errors.len() == 1 && errors[0].contains("no matte: "),
        "{errors:?}"
    );
}

#[test]
fn an_engine_that_keeps_failing_is_opened_anew_and_keeps_the_target() {
    if !ready() {
        return;
    }
    let info = info(VideoFormat::Rgb, SIZE);
    let mask = MaskFile::full(SIZE);
    let mut filter = probe(&[], &info, &mask);
    filter.push(plain(&info, ROOM, 0));
    wait_for(&filter.bus, "matte-backend", is_ready);
    wait_for(&filter.bus, "matte-seeded", |_| true);
    for t in 1..5 {
        assert!(is_transparent(&filter.push(fault(&info, t))));
    }
    // Looking for one kind of message drops the others.
    let ready = wait_for_all(&filter.bus, "matte-backend", is_ready);
    assert_eq!(ready, 1, "one warning for all the frames");
    let how = until(|i| {
        let out = filter.push(plain(&info, ROOM, 5 + i));
        assert_eq!(first_pixel(&out), [90, 40, 30, 40]);
        element_messages(&filter.bus, "matte-seeded").pop()
    })
    .expect("the new engine is used");
    assert_eq!(how.get::<&str>("how"), Ok("carried"));
}

#[test]
fn a_target_that_is_out_of_the_picture_keeps_its_engine_until_it_is_back() {
    if !ready() {
        return;
    }
    let info = info(VideoFormat::Rgb, SIZE);
    let mask = MaskFile::full(SIZE);
    for mode in ["aligned", "low"] {
        let mut filter = probe(&[("latency-mode", mode)], &info, &mask);
        let element = filter.element();
        let mut t = 0;
        let mut push = |green: u8| {
            t += 1;
            first_pixel(&filter.push(plain(&info, [90, green, 30], t)))[3]
        };
        until(|_| (push(40) == 40).then_some(())).expect("the target is known");
        until(|_| (push(0) == 0).then_some(())).expect("it has gone");
        let bus = element.bus().unwrap();
        wait_for(&bus, "matte-seeded", |_| true);
        let model = SlowModel::new();
        element.set_property("model", model.location());
        model.release();
        until(|_| {
            assert_eq!(push(0), 0, "{mode}");
            let mut told = element_messages(&bus, "matte-backend");
            told.pop().filter(|structure| is_ready(structure))
        })
        .expect("the other engine is open");
        for _ in 0..20 {
            assert_eq!(push(0), 0, "{mode}: there is nothing to go on from");
            std::thread::sleep(Duration::from_millis(1));
        }
        let (mut frames, mut is_seen) = (0, false);
        let how = until(|_| {
            frames += 1;
            // In the low mode the newest matte may be of a frame before.
            let seen = push(40) == 40;
            assert!(seen || !is_seen, "{mode}: by the old one without a gap");
            is_seen |= seen;
            element_messages(&bus, "matte-seeded").pop()
        })
        .expect("the new engine is used when it is back");
        assert_eq!(how.get::<&str>("how"), Ok("carried"), "{mode}");
        assert!(
            frames > 30,
            "{mode}: not by the first of it, but by frame {frames}"
        );
        assert!(is_seen, "{mode}: by the old one first");
        assert_eq!((errors(&bus), warnings(&bus)), (vec![], vec![]), "{mode}");
    }
}

#[test]
fn after_a_seek_the_low_mode_shows_nothing_of_what_was_before() {
    if !ready() {
        return;
    }
    let info = info(VideoFormat::Rgb, SIZE);
    let mask = MaskFile::full(SIZE);
    for waits in ["always", "never"] {
        let (element, _bus) = element(&[
            ("model", PROBE),
            ("mask-location", mask.location()),
            ("wait-for-model", waits),
            ("latency-mode", "low"),
            ("refine", "none"),
        ]);
        element.set_state(gst::State::Playing).unwrap();
        let ends = Ends::new(&element);
        assert!(ends.start(&info));
        let push = |green: u8, t: u32| {
            ends.src.push(plain(&info, [90, green, 30], t)).unwrap();
            first_pixel(&ends.take()[0])[3]
        };
        until(|t| (push(40, t) == 40).then_some(())).expect("it is matted");
        ends.flush();
        let mut gap = plain(&info, [90, 255, 30], 0);
        gap.get_mut().unwrap().set_flags(gst::BufferFlags::GAP);
        ends.src.push(gap).unwrap();
        assert!(is_transparent(&ends.take()[0]), "a broken one neither");
        let after = push(100, 0);
        match waits {
            "always" => assert_eq!(after, 100, "its own matte"),
            _ => assert_eq!(after, 0, "nothing"),
        }
        until(|t| {
            let alpha = push(100, 1 + t);
            assert!(alpha == 100 || alpha == 0, "{alpha} is of before");
            (alpha == 100).then_some(())
        })
        .expect("it goes on");
        ends.stop();
        element.set_state(gst::State::Null).unwrap();
    }
}

#[test]
fn what_is_to_name_the_target_outlasts_an_engine_that_fails_on_it() {
    if !ready() {
        return;
    }
    let info = info(VideoFormat::Rgb, SIZE);
    let mask = MaskFile::full(SIZE);
    for how in ["mask", "sample"] {
        // `seed=none` has no use for the mask.
        let seed = if how == "mask" { "mask" } else { "none" };
        let mut filter = probe(&[("seed", seed)], &info, &mask);
        if how == "sample" {
            let sample = mask_sample(SIZE, 255);
            assert!(
                filter
                    .element()
                    .emit_by_name::<bool>("seed-from-sample", &[&sample])
            );
        }
        until(|t| {
            assert!(is_transparent(&filter.push(fault(&info, t))));
            let frames = filter.stats().get::<u64>("frames").unwrap();
            (frames < u64::from(t) + 1).then_some(())
        })
        .expect("another engine");
        assert_eq!(first_pixel(&filter.push(plain(&info, ROOM, 60_000)))[3], 40);
        let seeded = wait_for(&filter.bus, "matte-seeded", |_| true);
        assert_eq!(seeded.get::<&str>("how"), Ok(how));
    }
}

#[test]
fn a_seed_on_which_the_network_fails_is_not_replaced_by_the_old_target() {
    if !ready() {
        return;
    }
    let info = info(VideoFormat::Rgb, SIZE);
    let mask = MaskFile::full(SIZE);
    let mut filter = probe(&[], &info, &mask);
    assert_eq!(first_pixel(&filter.push(plain(&info, ROOM, 0)))[3], 40);
    wait_for(&filter.bus, "matte-seeded", |_| true);
    let sample = mask_sample(SIZE, 255);
    filter
        .element()
        .emit_by_name::<bool>("seed-from-sample", &[&sample]);
    assert!(is_transparent(&filter.push(fault(&info, 1))));
    assert_eq!(first_pixel(&filter.push(plain(&info, ROOM, 2)))[3], 40);
    let seeded = wait_for(&filter.bus, "matte-seeded", |_| true);
    assert_eq!(seeded.get::<&str>("how"), Ok("sample"));
}

#[test]
fn a_first_mask_that_is_refused_late_ends_the_stream() {
    if !ready() {
        return;
    }
    let wide = info(VideoFormat::Rgb, SIZE);
    let square = info(VideoFormat::Rgb, (48, 48));
    let mask = MaskFile::full(SIZE);
    let mut filter = probe(&[], &wide, &mask);
    assert!(is_transparent(&filter.push(fault(&wide, 0))));
    filter.harness.set_src_caps(square.to_caps().unwrap());
    let pushed = filter.harness.push(plain(&square, ROOM, 1));
    assert_eq!(pushed, Err(gst::FlowError::Error));
    let errors = errors(&filter.bus);
    assert_eq!(errors.len(), 1, "{errors:?}");
}

#[test]
fn in_the_low_mode_failures_and_the_time_before_the_first_matte_show_nothing_either() {
    if !ready() {
        return;
    }
    let info = info(VideoFormat::Rgb, SIZE);
    let mask = MaskFile::full(SIZE);
    let properties = live(&[("latency-mode", "low")]);
    let mut filter = probe(&properties, &info, &mask);
    let mut matted = 0;
    until(|t| {
        let [red, green, blue, alpha] = first_pixel(&filter.push(plain(&info, ROOM, t)));
        assert!(
            [red, green, blue, alpha] == [0; 4] || alpha == 40,
            "{:?}",
            [red, green, blue, alpha]
        );
        matted += u32::from(alpha == 40);
        (t >= 399 && matted > 10).then_some(())
    })
    .expect("mattes");
    let mut hidden = 0;
    until(|i| {
        // The newest matte may be that of a frame before.
        let alpha = first_pixel(&filter.push(fault(&info, 60_000 + i)))[3];
        assert!(alpha == 0 || alpha == 40, "{alpha}");
        hidden += u32::from(alpha == 0);
        (i >= 49 && hidden > 10).then_some(())
    })
    .expect("nothing is shown where the network fails");
    assert_eq!(errors(&filter.bus), [""; 0]);
}

#[test]
fn another_frame_size_hides_the_room_while_its_engine_is_opened() {
    if !ready() {
        return;
    }
    let small = info(VideoFormat::Rgb, SIZE);
    let large = info(VideoFormat::Rgb, (160, 120));
    let mask = MaskFile::full(SIZE);
    let mut filter = probe(&[("working-size", "")], &small, &mask);
    assert_eq!(first_pixel(&filter.push(plain(&small, ROOM, 0)))[3], 40);
    filter
        .element()
        .set_property_from_str("wait-for-model", "never");
    filter.harness.set_src_caps(large.to_caps().unwrap());
    let mut shown = Vec::new();
    for t in 1..200 {
        let pixel = first_pixel(&filter.push(plain(&large, ROOM, t)));
        assert!(pixel == [0; 4] || pixel == [90, 40, 30, 40], "{pixel:?}");
        shown.push(pixel[3]);
        if pixel[3] == 40 {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(shown.last(), Some(&40), "{shown:?}");
}

#[test]
fn another_source_is_no_part_of_the_old_ones_target() {
    if !ready() {
        return;
    }
    let old = info(VideoFormat::Rgb, SIZE);
    let mask = MaskFile::full(SIZE);
    // The same size, and one that needs other graphs, as the last does for either.
    let last = info(VideoFormat::Rgb, (160, 120));
    for size in [SIZE, (2 * SIZE.0, 3 * SIZE.1)] {
        let new = info(VideoFormat::Rgb, size);
        let (element, bus) = element(&[
            ("model", PROBE),
            ("working-size", ""),
            ("mask-location", mask.location()),
            ("seed", "mask"),
            ("refine", "none"),
        ]);
        element.set_state(gst::State::Playing).unwrap();
        let ends = Ends::new(&element);
        assert!(ends.start(&old));
        ends.src.push(plain(&old, ROOM, 0)).unwrap();
        assert_eq!(first_pixel(&ends.take()[0])[3], 40);
        // The same stream again, as after a reconnection.
        ends.src.push_event(gst::event::StreamStart::new("test"));
        ends.src.push(plain(&old, ROOM, 1)).unwrap();
        assert_eq!(first_pixel(&ends.take()[0])[3], 40);
        ends.src.push_event(gst::event::StreamStart::new("other"));
        ends.caps(&new);
        ends.src.push(plain(&new, ROOM, 2)).unwrap();
        assert!(is_transparent(&ends.take()[0]));
        let drift = wait_for(&bus, "matte-drift", |_| true);
        assert_eq!(drift.get::<&str>("state"), Ok("lost"));
        assert!(ends.caps(&last));
        ends.src.push(plain(&last, ROOM, 3)).unwrap();
        assert!(
            is_transparent(&ends.take()[0]),
            "the mask has named the target of the old source"
        );
        // A mask for the new source.
        let again = MaskFile::full((160, 120));
        element.set_property("mask-location", again.location());
        ends.src.push(plain(&last, ROOM, 4)).unwrap();
        assert_eq!(first_pixel(&ends.take()[0])[3], 40);
        element.set_state(gst::State::Null).unwrap();
    }
}

#[test]
fn what_is_forgotten_is_not_shown_by_a_network_that_was_still_at_work() {
    if !ready() {
        return;
    }
    let info = info(VideoFormat::Rgb, SIZE);
    for (waits, resets) in [
        ("never", false),
        ("never", true),
        ("always", false),
        ("always", true),
    ] {
        let (element, bus) = element(&[
            ("model", PROBE),
            ("seed", "none"),
            ("refine", "none"),
            ("latency-mode", "low"),
            ("wait-for-model", waits),
            // A frame takes far longer than the time between two.
            ("working-size", "1920x1088"),
        ]);
        element.set_state(gst::State::Playing).unwrap();
        let ends = Ends::new(&element);
        assert!(ends.start(&info));
        let push = |t: u32| {
            ends.src.push(plain(&info, ROOM, t)).unwrap();
            ends.take().remove(0)
        };
        element.emit_by_name::<bool>("seed-from-sample", &[&mask_sample(SIZE, 255)]);
        until(|t| (first_pixel(&push(t))[3] == 40).then_some(())).expect("a matte");
        push(60_000);
        if resets {
            element.emit_by_name::<()>("reset", &[]);
        } else {
            ends.src.push_event(gst::event::StreamStart::new("other"));
            ends.caps(&info);
        }
        for t in 0..40 {
            let out = push(60_001 + t);
            assert!(is_transparent(&out), "{waits}, {resets}: frame {t}");
            std::thread::sleep(Duration::from_millis(5));
        }
        element.set_state(gst::State::Null).unwrap();
        assert_eq!((errors(&bus), warnings(&bus)), (vec![], vec![]));
    }
}

#[test]
fn a_broken_first_frame_of_another_source_is_not_shown_through_the_old_matte() {
    if !ready() {
        return;
    }
    let info = info(VideoFormat::Rgb, SIZE);
    let mask = MaskFile::full(SIZE);
    for mode in ["aligned", "low"] {
        for flag in [gst::BufferFlags::GAP, gst::BufferFlags::CORRUPTED] {
            let (element, _bus) = element(&[
                ("model", PROBE),
                ("mask-location", mask.location()),
                ("seed", "mask"),
                ("refine", "none"),
                ("latency-mode", mode),
            ]);
            element.set_state(gst::State::Playing).unwrap();
            let ends = Ends::new(&element);
            assert!(ends.start(&info));
            let push = |t: u32, flags: gst::BufferFlags| {
                let mut frame = plain(&info, ROOM, t);
                frame.get_mut().unwrap().set_flags(flags);
                ends.src.push(frame).unwrap();
                ends.take().remove(0)
            };
            let none = gst::BufferFlags::empty();
            assert_eq!(first_pixel(&push(0, none))[3], 40);
            assert_eq!(first_pixel(&push(1, flag))[3], 40, "of the same source");
            ends.src.push_event(gst::event::StreamStart::new("other"));
            ends.caps(&info);
            for (t, flags) in [(2, flag), (3, flag), (4, none), (5, flag)] {
                assert!(is_transparent(&push(t, flags)), "{mode}, {flag:?}: {t}");
            }
            element.set_state(gst::State::Null).unwrap();
        }
    }
}

#[test]
fn in_the_low_mode_a_matte_of_the_frame_size_before_is_no_failure() {
    if !ready() {
        return;
    }
    let mask = MaskFile::full(SIZE);
    let (element, bus) = element(&[
        ("model", PROBE),
        ("mask-location", mask.location()),
        ("refine", "none"),
        ("latency-mode", "low"),
    ]);
    element.set_state(gst::State::Playing).unwrap();
    let ends = Ends::new(&element);
    let sizes = [SIZE, (128, 96)].map(|size| info(VideoFormat::Rgb, size));
    assert!(ends.start(&sizes[0]));
    for (t, info) in (0..10).zip(sizes.iter().cycle()) {
        assert!(ends.caps(info));
        for t in [2 * t, 2 * t + 1] {
            ends.src.push(plain(info, ROOM, t)).unwrap();
            assert_eq!(first_pixel(&ends.take()[0])[3], 40, "frame {t}");
        }
    }
    element.set_state(gst::State::Null).unwrap();
    assert_eq!((errors(&bus), warnings(&bus)), (vec![], vec![]));
}

#[test]
fn a_mask_that_did_not_fit_the_frame_size_before_is_tried_with_the_next() {
    if !ready() {
        return;
    }
    let mask = MaskFile::full((10, 10));
    let (element, bus) = element(&[
        ("model", PROBE),
        ("mask-location", mask.location()),
        ("refine", "none"),
        ("latency-mode", "low"),
        ("wait-for-model", "never"),
    ]);
    element.set_state(gst::State::Playing).unwrap();
    let ends = Ends::new(&element);
    let wide = info(VideoFormat::Rgb, SIZE);
    assert!(ends.start(&wide));
    // The first frame that the engine gets is the last of this size: what comes of it is not seen.
    until(|t| {
        ends.src.push(plain(&wide, ROOM, t)).unwrap();
        let stats = element.property::<gst::Structure>("stats");
        (stats.n_fields() > 0).then_some(())
    })
    .expect("an engine");
    let square = info(VideoFormat::Rgb, (48, 48));
    assert!(ends.caps(&square));
    ends.take();
    until(|t| {
        ends.src.push(plain(&square, ROOM, 60_000 + t)).unwrap();
        (first_pixel(&ends.take()[0])[3] == 40).then_some(())
    })
    .expect("a matte");
    element.set_state(gst::State::Null).unwrap();
    assert_eq!((errors(&bus), warnings(&bus)), (vec![], vec![]));
}
