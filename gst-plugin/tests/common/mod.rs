//! What the tests of the element share: pictures, masks, and the element between two pads.
#![allow(dead_code, unreachable_pub, reason = "every test file uses some of it")]
#![allow(clippy::print_stderr, reason = "a skipped test says why")]
#![allow(missing_docs, reason = "helpers of tests")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Once};

use gst::prelude::*;
use gst_check::Harness;
use gst_video::prelude::*;
use gst_video::{VideoConverter, VideoFormat, VideoFrame, VideoFrameRef, VideoInfo, VideoMeta};

pub const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/packages/lite");
/// A package whose matte is the green of each pixel, and which fails where a pixel is as red as [`fault`].
pub const PROBE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/probe");
pub const WIDTH: u32 = 320;
pub const HEIGHT: u32 = 180;
pub const FRAME: gst::ClockTime = gst::ClockTime::from_mseconds(40);

pub fn init() {
    static INIT: Once = Once::new();
    INIT.call_once(|| {
        gst::init().unwrap();
        gstmatte::plugin_register_static().unwrap();
    });
}

/// Whether the network can run here; says why not.
pub fn ready() -> bool {
    init();
    if matte_core::runtime::paths::find_onnxruntime().is_none() {
        eprintln!("skipped: ONNX Runtime is not installed; `cargo xtask setup` installs it");
        return false;
    }
    if !Path::new(MODEL).join("manifest.json").is_file() {
        eprintln!("skipped: there is no model package in {MODEL}");
        return false;
    }
    true
}

/// Where the figure is in frame `t`: a head on shoulders, moving to the right.
pub fn inside(x: u32, y: u32, (width, height): (u32, u32), t: u32) -> bool {
    let (x, y) = (
        f64::from(x) / f64::from(height),
        f64::from(y) / f64::from(height),
    );
    let middle = 0.5 * f64::from(width) / f64::from(height) - 0.05 + 0.01 * f64::from(t);
    let ellipse = |cx: f64, cy: f64, rx: f64, ry: f64| {
        ((x - cx) / rx).powi(2) + ((y - cy) / ry).powi(2) < 1.0
    };
    ellipse(middle, 0.32, 0.13, 0.18) || ellipse(middle, 1.0, 0.36, 0.52)
}

pub fn rgba(x: u32, y: u32, size: (u32, u32), t: u32) -> [u8; 4] {
    if inside(x, y, size, t) {
        [220, 170, 130, 255]
    } else {
        // Soft in both directions, so that subsampled chroma keeps it.
        [
            40 + (x * 60 / size.0) as u8,
            70 + (y * 60 / size.1) as u8,
            120,
            255,
        ]
    }
}

/// The picture of frame `t`, in any format, with the strides of `info`.
pub fn picture(info: &VideoInfo, t: u32) -> gst::Buffer {
    let size = (info.width(), info.height());
    let plain = VideoInfo::builder(VideoFormat::Rgba, size.0, size.1)
        .fps(info.fps())
        .build()
        .unwrap();
    let mut frame =
        VideoFrame::from_buffer_writable(gst::Buffer::with_size(plain.size()).unwrap(), &plain)
            .unwrap();
    let stride = frame.plane_stride()[0] as usize;
    for (y, row) in frame
        .plane_data_mut(0)
        .unwrap()
        .chunks_exact_mut(stride)
        .enumerate()
    {
        for (x, pixel) in row.chunks_exact_mut(4).take(size.0 as usize).enumerate() {
            pixel.copy_from_slice(&rgba(x as u32, y as u32, size, t));
        }
    }
    let buffer = frame.into_buffer();
    let buffer = if info.format() == VideoFormat::Rgba {
        buffer
    } else {
        let frame = VideoFrame::from_buffer_readable(buffer, &plain).unwrap();
        let out = gst::Buffer::with_size(info.size()).unwrap();
        let mut out = VideoFrame::from_buffer_writable(out, info).unwrap();
        VideoConverter::new(&plain, info, None)
            .unwrap()
            .frame(&frame, &mut out);
        out.into_buffer()
    };
    stamped(buffer, t)
}

pub fn stamped(mut buffer: gst::Buffer, t: u32) -> gst::Buffer {
    let into = buffer.get_mut().unwrap();
    into.set_pts(FRAME * u64::from(t));
    into.set_duration(FRAME);
    buffer
}

/// The same picture with rows that are further apart, and described by a `GstVideoMeta`.
pub fn with_padded_rows(buffer: &gst::Buffer, info: &VideoInfo) -> gst::Buffer {
    let mut offsets = Vec::new();
    let mut strides = Vec::new();
    let mut size = 24;
    for plane in 0..info.n_planes() {
        offsets.push(size);
        let stride = info.stride()[plane as usize] + 36;
        strides.push(stride);
        size += stride as usize * info.comp_height(plane as u8) as usize;
    }
    let mut padded = gst::Buffer::from_mut_slice(vec![0xA5u8; size]);
    VideoMeta::add_full(
        padded.get_mut().unwrap(),
        gst_video::VideoFrameFlags::empty(),
        info.format(),
        info.width(),
        info.height(),
        &offsets,
        &strides,
    )
    .unwrap();
    let mut to = VideoFrame::from_buffer_writable(padded, info).unwrap();
    VideoFrame::from_buffer_readable(buffer.clone(), info)
        .unwrap()
        .copy(&mut to)
        .unwrap();
    let mut padded = to.into_buffer();
    let into = padded.get_mut().unwrap();
    into.set_pts(buffer.pts());
    into.set_duration(buffer.duration());
    padded
}

/// Rows of the first plane, without padding.
pub fn rows(buffer: &gst::Buffer, info: &VideoInfo) -> Vec<Vec<u8>> {
    let frame = VideoFrameRef::from_buffer_ref_readable(buffer.as_ref(), info).unwrap();
    let stride = frame.plane_stride()[0] as usize;
    let row = (info.width() * info.comp_pstride(0) as u32) as usize;
    frame
        .plane_data(0)
        .unwrap()
        .chunks(stride)
        .map(|r| r[..row].to_vec())
        .collect()
}

/// Mask of the figure in frame `t`, in a file.
pub struct MaskFile {
    pub path: PathBuf,
    pub _dir: tempfile::TempDir,
}

impl MaskFile {
    /// A mask that covers everything.
    pub fn full(size: (u32, u32)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mask.png");
        image::GrayImage::from_pixel(size.0, size.1, image::Luma([255]))
            .save(&path)
            .unwrap();
        Self { path, _dir: dir }
    }

    pub fn new(size: (u32, u32), t: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mask.png");
        let mask = image::GrayImage::from_fn(size.0, size.1, |x, y| {
            image::Luma([255 * u8::from(inside(x, y, size, t))])
        });
        mask.save(&path).unwrap();
        Self { path, _dir: dir }
    }

    pub fn location(&self) -> &str {
        self.path.to_str().unwrap()
    }
}

pub fn info(format: VideoFormat, (width, height): (u32, u32)) -> VideoInfo {
    init();
    VideoInfo::builder(format, width, height)
        .fps(gst::Fraction::new(25, 1))
        .build()
        .unwrap()
}

/// The element in `NULL`, and the bus that it posts on.
pub fn element(properties: &[(&str, &str)]) -> (gst::Element, gst::Bus) {
    init();
    let element = gst::ElementFactory::make("mattefilter")
        .property("model", MODEL)
        .property("working-size", "160x96")
        .property("threads", 1u32)
        // A harness is a live source; most tests want the matte of the first frame.
        .property_from_str("wait-for-model", "always")
        .property_from_str("execution-provider", "cpu")
        .build()
        .unwrap();
    for (name, value) in properties {
        element.set_property_from_str(name, value);
    }
    let bus = gst::Bus::new();
    element.set_bus(Some(&bus));
    (element, bus)
}

pub struct Filter {
    pub harness: Harness,
    pub bus: gst::Bus,
}

impl Filter {
    /// Playing, with caps on both sides; `out` may leave things open.
    pub fn new(properties: &[(&str, &str)], info: &VideoInfo, out: &str) -> Self {
        let (element, bus) = element(properties);
        let mut harness = Harness::with_element(&element, Some("sink"), Some("src"));
        harness.set_sink_caps_str(out);
        harness.set_src_caps(info.to_caps().unwrap());
        Self { harness, bus }
    }

    /// Without a target: nothing is matted.
    pub fn unseeded(properties: &[(&str, &str)], info: &VideoInfo) -> Self {
        Self::new(
            &[&[("seed", "none")], properties].concat(),
            info,
            "video/x-raw",
        )
    }

    pub fn push(&mut self, buffer: gst::Buffer) -> gst::Buffer {
        if let Err(e) = self.harness.push(buffer) {
            panic!("{e}: {:?}", errors(&self.bus));
        }
        self.harness.pull().unwrap()
    }

    pub fn element(&self) -> gst::Element {
        self.harness.element().unwrap()
    }

    pub fn output(&self) -> VideoInfo {
        let caps = self
            .element()
            .static_pad("src")
            .unwrap()
            .current_caps()
            .unwrap();
        VideoInfo::from_caps(&caps).unwrap()
    }

    pub fn stats(&self) -> gst::Structure {
        self.element().property("stats")
    }
}

pub fn errors(bus: &gst::Bus) -> Vec<String> {
    std::iter::from_fn(|| bus.pop_filtered(&[gst::MessageType::Error]))
        .map(|message| match message.view() {
            gst::MessageView::Error(e) => e.error().to_string(),
            _ => unreachable!("only errors are popped"),
        })
        .collect()
}

pub fn warnings(bus: &gst::Bus) -> Vec<String> {
    std::iter::from_fn(|| bus.pop_filtered(&[gst::MessageType::Warning]))
        .map(|message| match message.view() {
            gst::MessageView::Warning(w) => w.error().to_string(),
            _ => unreachable!("only warnings are popped"),
        })
        .collect()
}

pub fn element_messages(bus: &gst::Bus, name: &str) -> Vec<gst::Structure> {
    std::iter::from_fn(|| bus.pop_filtered(&[gst::MessageType::Element]))
        .filter_map(|message| {
            message
                .structure()
                .filter(|s| s.name() == name)
                .map(std::borrow::ToOwned::to_owned)
        })
        .collect()
}

/// Pads on both sides of an element, for what a harness does not allow: refusals, restarts, sources that are not live.
pub struct Ends {
    pub src: gst::Pad,
    pub sink: gst::Pad,
    /// What has come out.
    pub out: Arc<Mutex<Vec<gst::Buffer>>>,
}

impl Ends {
    pub fn new(element: &gst::Element) -> Self {
        let out = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&out);
        let src = gst::Pad::builder(gst::PadDirection::Src).build();
        // Without a template a pad takes nothing but the caps that it has.
        let any = gst::PadTemplate::new(
            "sink",
            gst::PadDirection::Sink,
            gst::PadPresence::Always,
            &gst::Caps::new_any(),
        )
        .unwrap();
        let sink = gst::Pad::builder_from_template(&any)
            .chain_function(move |_, _, buffer| {
                into.lock().unwrap().push(buffer);
                Ok(gst::FlowSuccess::Ok)
            })
            .event_function(|_, _, _| true)
            .build();
        src.link(&element.static_pad("sink").unwrap()).unwrap();
        element.static_pad("src").unwrap().link(&sink).unwrap();
        Self { src, sink, out }
    }

    /// Starts a stream; whether its caps are taken.
    pub fn start(&self, info: &VideoInfo) -> bool {
        self.src.set_active(true).unwrap();
        self.sink.set_active(true).unwrap();
        self.src.push_event(gst::event::StreamStart::new("test"));
        self.caps(info)
            && self
                .src
                .push_event(gst::event::Segment::new(&gst::FormattedSegment::<
                    gst::ClockTime,
                >::new()))
    }

    /// New caps; whether they are taken.
    pub fn caps(&self, info: &VideoInfo) -> bool {
        self.src
            .push_event(gst::event::Caps::new(&info.to_caps().unwrap()))
    }

    /// Another seek to the beginning.
    pub fn flush(&self) {
        self.src.push_event(gst::event::FlushStart::new());
        self.src.push_event(gst::event::FlushStop::new(true));
        let segment = gst::FormattedSegment::<gst::ClockTime>::new();
        self.src.push_event(gst::event::Segment::new(&segment));
    }

    pub fn stop(&self) {
        self.src.set_active(false).unwrap();
        self.sink.set_active(false).unwrap();
    }

    /// What has come out since this was asked last.
    pub fn take(&self) -> Vec<gst::Buffer> {
        std::mem::take(&mut self.out.lock().unwrap())
    }
}

/// A copy of [`PROBE`] whose opening stops half-way until it is let go on.
pub struct SlowModel {
    dir: tempfile::TempDir,
    /// Where it stops.
    file: &'static str,
}

impl SlowModel {
    pub fn new() -> Self {
        let model = Self::stopping_at("manifest.json");
        model.hold();
        model
    }

    /// One that is like any other until it is held, which stops also who knows its manifest already.
    pub fn quick() -> Self {
        Self::stopping_at("matte.onnx")
    }

    fn stopping_at(file: &'static str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for file in ["manifest.json", "matte.onnx", "value.onnx"] {
            std::fs::copy(Path::new(PROBE).join(file), dir.path().join(file)).unwrap();
        }
        Self { dir, file }
    }

    /// Stops who opens it.
    pub fn hold(&self) {
        let (dir, file) = (self.dir.path().to_owned(), self.file);
        // Who opens a pipe for reading waits for somebody who writes.
        let pipe = dir.join("pipe");
        let made = std::process::Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap();
        assert!(made.success());
        std::fs::rename(pipe, dir.join(file)).unwrap();
        // A test that fails before it lets the opening go on must not hang.
        std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_secs(90));
            let pipe = dir.join(file);
            if pipe.exists() && !pipe.is_file() {
                release(&dir, file);
            }
        });
    }

    pub fn location(&self) -> &str {
        self.dir.path().to_str().unwrap()
    }

    /// Lets the opening go on; from now on the package is like any other.
    pub fn release(&self) {
        release(self.dir.path(), self.file);
    }
}

fn release(dir: &Path, file: &str) {
    let pipe = dir.join(file);
    // For reading as well: that does not wait for a reader, which there may not be.
    let mut into = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(&pipe)
        .unwrap();
    let data = std::fs::read(Path::new(PROBE).join(file)).unwrap();
    let part = dir.join("part");
    std::fs::write(&part, &data).unwrap();
    std::fs::rename(&part, &pipe).unwrap();
    into.write_all(&data).unwrap();
}

/// The error with which these properties end a stream of this format, wherever it comes up.
pub fn error_of(properties: &[(&str, &str)], info: &VideoInfo) -> String {
    let (element, bus) = element(properties);
    if element.set_state(gst::State::Paused).is_ok() {
        let ends = Ends::new(&element);
        if ends.start(info) {
            let frame = stamped(gst::Buffer::from_mut_slice(vec![0u8; info.size()]), 0);
            assert!(ends.src.push(frame).is_err());
        }
    }
    element.set_state(gst::State::Null).unwrap();
    let errors = errors(&bus);
    assert_eq!(errors.len(), 1, "one error, not {errors:?}");
    errors.into_iter().next().unwrap()
}

/// Mean of the matte inside and outside of the figure.
pub fn separation(
    rows: &[Vec<u8>],
    bytes: usize,
    alpha: usize,
    size: (u32, u32),
    t: u32,
) -> (f64, f64) {
    let (mut sums, mut counts) = ([0.0; 2], [0.0; 2]);
    for (y, row) in rows.iter().enumerate() {
        for (x, pixel) in row.chunks_exact(bytes).enumerate() {
            let side = usize::from(!inside(x as u32, y as u32, size, t));
            sums[side] += f64::from(pixel[alpha]) / 255.0;
            counts[side] += 1.0;
        }
    }
    (sums[0] / counts[0], sums[1] / counts[1])
}

/// A picture of one colour, RGB or of 4 bytes a pixel.
pub fn plain(info: &VideoInfo, colour: [u8; 3], t: u32) -> gst::Buffer {
    let bytes = info.comp_pstride(0) as usize;
    let stride = info.stride()[0] as usize;
    let mut data = vec![0u8; info.size()];
    for row in data.chunks_mut(stride) {
        for pixel in row.chunks_exact_mut(bytes).take(info.width() as usize) {
            pixel[..3].copy_from_slice(&colour);
        }
    }
    stamped(gst::Buffer::from_mut_slice(data), t)
}

/// A frame on which the network of [`PROBE`] fails.
pub fn fault(info: &VideoInfo, t: u32) -> gst::Buffer {
    plain(info, [255, 0, 0], t)
}

/// The element with [`PROBE`], seeded by a mask that covers everything.
pub fn probe(properties: &[(&str, &str)], info: &VideoInfo, mask: &MaskFile) -> Filter {
    let fixed = [
        ("model", PROBE),
        ("mask-location", mask.location()),
        ("refine", "none"),
    ];
    Filter::new(&[&fixed, properties].concat(), info, "video/x-raw")
}

/// A mask sample of one value.
pub fn mask_sample((width, height): (u32, u32), value: u8) -> gst::Sample {
    let info = VideoInfo::builder(VideoFormat::Gray8, width, height)
        .build()
        .unwrap();
    let buffer = gst::Buffer::from_mut_slice(vec![value; info.size()]);
    gst::Sample::builder()
        .buffer(&buffer)
        .caps(&info.to_caps().unwrap())
        .build()
}

/// The first pixel of an RGBA buffer.
pub fn first_pixel(buffer: &gst::Buffer) -> [u8; 4] {
    buffer.map_readable().unwrap()[..4].try_into().unwrap()
}

/// Calls `test` with 0, 1, 2 ... until it gives something, a minute at the most. It rests between two calls as a camera
/// does between two frames: what is waited for happens on other threads, and frames that are not matted go in microseconds.
pub fn until<T>(mut test: impl FnMut(u32) -> Option<T>) -> Option<T> {
    let end = std::time::Instant::now() + std::time::Duration::from_mins(1);
    (0..)
        .take_while(|_| std::time::Instant::now() < end)
        .find_map(|i| {
            let found = test(i);
            std::thread::sleep(std::time::Duration::from_millis(1));
            found
        })
}

/// Waits for an element message of that name that passes the test.
pub fn wait_for(
    bus: &gst::Bus,
    name: &str,
    test: impl Fn(&gst::StructureRef) -> bool,
) -> gst::Structure {
    let end = std::time::Instant::now() + std::time::Duration::from_mins(1);
    while std::time::Instant::now() < end {
        let message = bus.timed_pop_filtered(
            gst::ClockTime::from_mseconds(200),
            &[gst::MessageType::Element],
        );
        if let Some(structure) = message.as_ref().and_then(|m| m.structure())
            && structure.name() == name
            && test(structure)
        {
            return structure.to_owned();
        }
    }
    panic!("no {name} within a minute")
}

/// Waits likewise; how many warnings came before.
pub fn wait_for_all(bus: &gst::Bus, name: &str, test: impl Fn(&gst::StructureRef) -> bool) -> u32 {
    let mut warnings = 0;
    let types = [gst::MessageType::Element, gst::MessageType::Warning];
    while let Some(message) = bus.timed_pop_filtered(gst::ClockTime::from_seconds(60), &types) {
        match message.structure() {
            _ if message.type_() == gst::MessageType::Warning => warnings += 1,
            Some(structure) if structure.name() == name && test(structure) => return warnings,
            _ => {}
        }
    }
    panic!("no {name} within a minute")
}

/// Whether a message says that an engine is ready.
pub fn is_ready(structure: &gst::StructureRef) -> bool {
    structure.get::<&str>("state") == Ok("ready")
}
