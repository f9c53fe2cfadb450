//! The element in a WebRTC session: two peers in this process, one sends what the element makes, the other decodes it.

#![allow(clippy::print_stderr, reason = "a skipped test says why")]

use gst::prelude::*;
use gst_app::AppSink;
use matte_tests::{LITE, can_matte, init};

/// Gives the candidates of one peer to the other.
fn trickle(from: &gst::Element, to: &gst::Element) {
    let to = to.downgrade();
    from.connect("on-ice-candidate", false, move |values| {
        let line = values[1].get::<u32>().unwrap();
        let candidate = values[2].get::<String>().unwrap();
        if let Some(to) = to.upgrade() {
            to.emit_by_name::<()>("add-ice-candidate", &[&line, &candidate]);
        }
        None
    });
}

/// Makes a description, and gives it to both peers; `then` comes after.
fn describe(
    kind: &'static str,
    by: &gst::Element,
    other: &gst::Element,
    then: impl FnOnce() + Send + 'static,
) {
    let (maker, taker) = (by.clone(), other.clone());
    let promise = gst::Promise::with_change_func(move |reply| {
        let reply = reply.expect("a reply").expect("a description");
        let description = reply.value(kind).expect("the description").clone();
        let none = || None::<gst::Promise>.to_value();
        maker.emit_by_name_with_values(
            "set-local-description",
            &[description.clone().into(), none()],
        );
        let done = gst::Promise::with_change_func(move |_| then());
        taker.emit_by_name_with_values(
            "set-remote-description",
            &[description.into(), done.to_value()],
        );
    });
    by.emit_by_name_with_values(
        &format!("create-{kind}"),
        &[None::<gst::Structure>.to_value(), promise.to_value()],
    );
}

#[test]
fn what_the_element_makes_reaches_the_other_peer() {
    if !can_matte() {
        return;
    }
    init();
    for element in [
        "webrtcbin",
        "nicesrc",
        "dtlsenc",
        "srtpenc",
        "vp8enc",
        "vp8dec",
        "rtpvp8pay",
    ] {
        if gst::ElementFactory::find(element).is_none() {
            eprintln!("skipped: no element {element}");
            return;
        }
    }
    let line = format!(
        "webrtcbin name=sender bundle-policy=max-bundle webrtcbin name=receiver bundle-policy=max-bundle \
         videotestsrc is-live=true pattern=ball ! video/x-raw,width=320,height=240,framerate=15/1 \
         ! mattefilter model={LITE} working-size=160x96 background=colour background-colour=0x203040 \
         latency-mode=low ! videoconvert ! queue ! vp8enc deadline=1 keyframe-max-dist=15 \
         ! rtpvp8pay pt=96 ! application/x-rtp,media=video,encoding-name=VP8,payload=96 ! sender."
    );
    let pipeline = gst::parse::launch(&line)
        .unwrap()
        .downcast::<gst::Pipeline>()
        .unwrap();
    let peer = |name| pipeline.by_name(name).unwrap();
    let (sender, receiver) = (peer("sender"), peer("receiver"));
    trickle(&sender, &receiver);
    trickle(&receiver, &sender);
    let sink = AppSink::builder()
        .name("out")
        .sync(false)
        .max_buffers(1)
        .drop(true)
        .build();
    let decoder = gst::parse::bin_from_description(
        "rtpvp8depay name=in ! vp8dec ! videoconvert ! capsfilter name=end caps=video/x-raw,format=RGB",
        true,
    )
    .unwrap();
    pipeline
        .add_many([decoder.upcast_ref(), sink.upcast_ref::<gst::Element>()])
        .unwrap();
    decoder.link(&sink).unwrap();
    let into = decoder.static_pad("sink").unwrap();
    receiver.connect_pad_added(move |_, pad| {
        if pad.direction() == gst::PadDirection::Src {
            pad.link(&into).expect("the decoder takes it");
        }
    });
    let (offers, answers) = (sender.clone(), receiver.clone());
    sender.connect("on-negotiation-needed", false, move |_| {
        let (back, by) = (offers.clone(), answers.clone());
        describe("offer", &offers, &answers, move || {
            describe("answer", &by, &back, || {});
        });
        None
    });
    pipeline.set_state(gst::State::Playing).unwrap();
    let frames = (0..10)
        .map_while(|_| sink.try_pull_sample(gst::ClockTime::from_seconds(20)))
        .count();
    let error = pipeline
        .bus()
        .unwrap()
        .pop_filtered(&[gst::MessageType::Error]);
    pipeline.set_state(gst::State::Null).unwrap();
    assert!(error.is_none(), "{error:?}");
    assert_eq!(frames, 10);
}
