//! What the tests of the whole product share: pipelines in this process, their frames, the shared media, and a measure.

#![allow(clippy::print_stderr, reason = "a skipped test says why")]

use std::path::{Path, PathBuf};
use std::sync::Once;

use gst::prelude::*;
use gst_app::AppSink;
use gst_video::prelude::*;
use gst_video::{VideoFrameRef, VideoInfo};
use matte_core::{Backend, Frame, Matter, ModelSet, Options, OutputFormat, OutputMut, PixelFormat};

/// The shipped package.
pub const LITE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/packages/lite");

/// GStreamer with the element, once.
///
/// # Panics
/// When GStreamer does not start.
pub fn init() {
    static INIT: Once = Once::new();
    INIT.call_once(|| {
        gst::init().expect("GStreamer starts");
        gstmatte::plugin_register_static().expect("the element registers");
    });
}

/// Whether the network can run here; says why not.
pub fn can_matte() -> bool {
    init();
    if matte_core::runtime::paths::find_onnxruntime().is_none() {
        eprintln!("skipped: ONNX Runtime is not installed; `cargo xtask setup` installs it");
        return false;
    }
    if !Path::new(LITE).join("manifest.json").is_file() {
        eprintln!("skipped: there is no model package in {LITE}");
        return false;
    }
    true
}

/// Whether a person can be found automatically here; says why not.
pub fn can_find_people() -> bool {
    can_matte() && {
        let found = ModelSet::find(LITE).is_ok_and(|set| set.segmentation.is_some());
        if !found {
            eprintln!(
                "skipped: no package {}; `cargo xtask setup` installs it",
                ModelSet::SEGMENTATION
            );
        }
        found
    }
}

/// A folder or file of the shared test media: in `$MATTE_SHARED`, or in `shared` beside the repository. Says which is
/// missing.
pub fn media(path: &str) -> Option<PathBuf> {
    let shared = std::env::var_os("MATTE_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"),
        PathBuf::from,
    );
    let path = shared.join("media").join(path);
    if !path.exists() {
        eprintln!(
            "skipped: {} does not exist; MATTE_SHARED names the folder of the shared media",
            path.display()
        );
        return None;
    }
    Some(path)
}

/// One frame of a single plane.
pub struct Picture {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// Rows without padding.
    pub data: Vec<u8>,
}

impl Picture {
    /// Copies the first plane.
    ///
    /// # Panics
    /// When the sample is no video frame.
    pub fn of(sample: &gst::Sample) -> Self {
        let info = VideoInfo::from_caps(sample.caps().expect("a sample has caps"))
            .expect("the caps are video");
        let buffer = sample.buffer().expect("a sample has a buffer");
        let frame =
            VideoFrameRef::from_buffer_ref_readable(buffer, &info).expect("the buffer is a frame");
        let row = (info.width() as i32 * info.comp_pstride(0)) as usize;
        let stride = frame.plane_stride()[0] as usize;
        let rows = frame
            .plane_data(0)
            .expect("a frame has a plane")
            .chunks(stride);
        Self {
            width: info.width() as usize,
            height: info.height() as usize,
            data: rows
                .take(info.height() as usize)
                .flat_map(|r| r[..row].to_vec())
                .collect(),
        }
    }

    /// Share of the plane's values that are at least half.
    pub fn area(&self) -> f64 {
        self.data.iter().filter(|v| **v >= 128).count() as f64 / self.data.len() as f64
    }
}

/// Runs a launch line with an `appsink name=out` to its end, or until that many frames have come out of it.
///
/// # Panics
/// When the line does not parse, or the pipeline reports an error.
pub fn run(line: &str, frames: usize) -> Vec<Picture> {
    init();
    let pipeline = gst::parse::launch(line)
        .unwrap_or_else(|e| panic!("{line}: {e}"))
        .downcast::<gst::Pipeline>()
        .expect("the line has more than one element");
    let out = pipeline
        .by_name("out")
        .expect("an element is named out")
        .downcast::<AppSink>()
        .expect("out is an appsink");
    out.set_property("sync", false);
    out.set_max_buffers(2);
    let bus = pipeline.bus().expect("a pipeline has a bus");
    let started = pipeline.set_state(gst::State::Playing);
    let mut pictures = Vec::new();
    while started.is_ok() && pictures.len() < frames {
        match out.pull_sample() {
            Ok(sample) => pictures.push(Picture::of(&sample)),
            Err(_) => break,
        }
    }
    let error = bus.pop_filtered(&[gst::MessageType::Error]);
    pipeline
        .set_state(gst::State::Null)
        .expect("a pipeline stops");
    if let Some(gst::MessageView::Error(e)) = error.as_ref().map(|m| m.view()) {
        panic!("{line}: {} ({:?})", e.error(), e.debug());
    }
    pictures
}

/// Mean absolute difference of two mattes, 0 to 1.
///
/// # Panics
/// When they differ in size.
pub fn mad(a: &Picture, b: &Picture) -> f64 {
    assert_eq!((a.width, a.height), (b.width, b.height));
    let sum: u64 = a
        .data
        .iter()
        .zip(&b.data)
        .map(|(a, b)| u64::from(a.abs_diff(*b)))
        .sum();
    sum as f64 / 255.0 / a.data.len() as f64
}

/// Intersection over union of two mattes at half, 0 to 1.
///
/// # Panics
/// When they differ in size.
pub fn iou(a: &Picture, b: &Picture) -> f64 {
    assert_eq!((a.width, a.height), (b.width, b.height));
    let count = |keep: fn(bool, bool) -> bool| {
        a.data
            .iter()
            .zip(&b.data)
            .filter(|(a, b)| keep(**a >= 128, **b >= 128))
            .count() as f64
    };
    count(|a, b| a && b) / count(|a, b| a || b).max(1.0)
}

/// The first frames of a clip as packed RGB of 640×360; none where the clip is not there.
pub fn frames(clip: &str, count: usize) -> Option<Vec<Picture>> {
    Some(scaled(&media(clip)?.join("video.mp4"), "RGB", count))
}

/// The exact mattes of [`frames`] of a synthetic clip.
pub fn truths(clip: &str, count: usize) -> Option<Vec<Picture>> {
    Some(scaled(&media(clip)?.join("alpha.mkv"), "GRAY8", count))
}

fn scaled(video: &Path, format: &str, count: usize) -> Vec<Picture> {
    run(
        &format!(
            "filesrc location={} ! decodebin ! videoconvert ! videoscale ! \
             video/x-raw,format={format},width=640,height=360 ! appsink name=out",
            video.display()
        ),
        count,
    )
}

/// A picture of [`frames`].
///
/// # Panics
/// When it is not of packed RGB.
pub fn view(picture: &Picture) -> Frame<'_> {
    let (width, height) = (picture.width as u32, picture.height as u32);
    Frame::packed(
        PixelFormat::Rgb,
        width,
        height,
        &picture.data,
        picture.width * 3,
    )
    .unwrap()
}

/// A grey picture to be drawn into.
///
/// # Panics
/// When it is not grey.
pub fn output(picture: &mut Picture) -> OutputMut<'_> {
    let (width, height) = (picture.width as u32, picture.height as u32);
    OutputMut::new(
        OutputFormat::Gray8,
        width,
        height,
        &mut picture.data,
        picture.width,
    )
    .unwrap()
}

/// An engine with `lite` for [`frames`].
///
/// # Panics
/// When `lite` cannot be opened.
pub fn open(options: Options) -> Matter {
    let models = ModelSet::find(LITE).unwrap();
    Matter::open(&models, Backend::Cpu, options, (640, 360)).unwrap()
}
