//! Pictures in and out: videos and cameras through GStreamer, folders of PNG and JPEG files through `image`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use gst::prelude::*;
use gst_video::{VideoFormat, VideoFrameExt};

/// Extensions of the image files that make up a sequence.
const IMAGE_EXTENSIONS: [&str; 3] = ["png", "jpg", "jpeg"];

/// What is wanted of a decoded picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    /// The picture, in a format that the engine reads.
    Colour,
    /// RGBA; opaque where the picture has no alpha channel.
    Rgba,
    /// One plane: the alpha channel where the picture has one, otherwise its luma.
    Alpha,
}

/// A decoded picture.
#[derive(Debug)]
pub(crate) enum Picture {
    Video(Box<gst_video::VideoFrame<gst_video::video_frame::Readable>>),
    Image(image::DynamicImage),
}

impl Picture {
    /// Width and height in pixels.
    pub(crate) fn size(&self) -> (u32, u32) {
        match self {
            Self::Video(frame) => (frame.width(), frame.height()),
            Self::Image(image) => (image.width(), image.height()),
        }
    }

    /// The alpha plane, rows packed. For a picture read as [`Want::Alpha`].
    pub(crate) fn alpha(&self) -> Result<Vec<u8>> {
        match self {
            Self::Video(frame) => {
                let (step, first) = match frame.format() {
                    VideoFormat::Gray8 => (1, 0),
                    VideoFormat::Rgba => (4, 3),
                    other => bail!("decoded as {other}, expected GRAY8 or RGBA"),
                };
                let stride = frame.plane_stride()[0] as usize;
                let (width, height) = (frame.width() as usize, frame.height() as usize);
                let data = frame.plane_data(0)?;
                let mut out = Vec::with_capacity(width * height);
                for row in data.chunks(stride).take(height) {
                    out.extend(row[..width * step].iter().skip(first).step_by(step));
                }
                Ok(out)
            }
            Self::Image(image) if image.color().has_alpha() => {
                Ok(image.to_rgba8().pixels().map(|pixel| pixel.0[3]).collect())
            }
            Self::Image(image) => Ok(image.to_luma8().into_raw()),
        }
    }

    /// RGBA, rows packed. For a picture read as [`Want::Rgba`].
    pub(crate) fn rgba(&self) -> Result<Vec<u8>> {
        match self {
            Self::Video(frame) => {
                let stride = frame.plane_stride()[0] as usize;
                let row = frame.width() as usize * 4;
                let rows = frame
                    .plane_data(0)?
                    .chunks(stride)
                    .take(frame.height() as usize);
                Ok(rows.flat_map(|bytes| &bytes[..row]).copied().collect())
            }
            Self::Image(image) => Ok(image.to_rgba8().into_raw()),
        }
    }

    /// When the picture is shown, and for how long; nothing for files of a sequence.
    pub(crate) fn timing(&self) -> (Option<gst::ClockTime>, Option<gst::ClockTime>) {
        match self {
            Self::Video(frame) => (frame.buffer().pts(), frame.buffer().duration()),
            Self::Image(_) => (None, None),
        }
    }
}

/// Pictures in their order, from a video file, a camera (`/dev/video0`) or a folder.
pub(crate) enum Reader {
    Video(VideoReader),
    Images(std::vec::IntoIter<PathBuf>, Want),
}

impl Reader {
    pub(crate) fn open(path: &Path, want: Want) -> Result<Self> {
        if path.is_dir() {
            let files = image_files(path)?;
            ensure!(
                !files.is_empty(),
                "{}: no .png or .jpg files in this folder",
                path.display()
            );
            return Ok(Self::Images(files.into_iter(), want));
        }
        Ok(Self::Video(VideoReader::open(path, want)?))
    }

    /// The next picture; `None` at the end.
    pub(crate) fn read(&mut self) -> Result<Option<Picture>> {
        match self {
            Self::Video(video) => video.read(),
            Self::Images(files, want) => files
                .next()
                .map(|path| {
                    let image = image::open(&path).with_context(|| path.display().to_string())?;
                    Ok(Picture::Image(match want {
                        Want::Colour => image::DynamicImage::ImageRgb8(image.into_rgb8()),
                        Want::Alpha | Want::Rgba => image,
                    }))
                })
                .transpose(),
        }
    }

    /// Pictures a second, where it is known and fixed.
    pub(crate) fn frame_rate(&self) -> Option<gst::Fraction> {
        match self {
            Self::Video(video) => video.frame_rate,
            Self::Images(..) => None,
        }
    }

    /// How many pictures there are, where that is known beforehand.
    pub(crate) fn estimated_frames(&self) -> Option<u64> {
        match self {
            Self::Video(video) => {
                let duration = video.pipeline.query_duration::<gst::ClockTime>()?;
                let rate = video.frame_rate?;
                let seconds = duration.nseconds() as f64 / 1e9;
                Some((seconds * f64::from(rate.numer()) / f64::from(rate.denom())).round() as u64)
            }
            Self::Images(files, _) => Some(files.len() as u64),
        }
    }
}

/// Image files of a folder, in the order of their names.
pub(crate) fn image_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry.with_context(|| folder.display().to_string())?.path();
        let extension = path
            .extension()
            .and_then(|e| e.to_str())
            .unwrap_or_default()
            .to_ascii_lowercase();
        if path.is_file() && IMAGE_EXTENSIONS.contains(&extension.as_str()) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Decodes a video file or a camera.
pub(crate) struct VideoReader {
    path: PathBuf,
    pipeline: gst::Pipeline,
    sink: gst_app::AppSink,
    /// The first picture, decoded when the video was opened so that its caps are known.
    first: Option<gst::Sample>,
    frame_rate: Option<gst::Fraction>,
}

impl VideoReader {
    fn open(path: &Path, want: Want) -> Result<Self> {
        let absolute = path
            .canonicalize()
            .with_context(|| path.display().to_string())?;
        let camera = absolute.starts_with("/dev");
        let pipeline = gst::Pipeline::new();
        let source = if camera {
            element("v4l2src", |source| {
                source.set_property("device", absolute.to_string_lossy().as_ref());
            })?
        } else {
            let uri = gst::glib::filename_to_uri(&absolute, None)?;
            element("uridecodebin", |source| {
                source.set_property("uri", uri.as_str());
            })?
        };
        let convert = element("videoconvert", |_| ())?;
        let sink = gst_app::AppSink::builder()
            .sync(false)
            .max_buffers(4)
            .caps(&wanted_caps(want, false))
            .build();
        pipeline.add_many([&source, &convert, sink.upcast_ref()])?;
        gst::Element::link_many([&convert, sink.upcast_ref()])?;
        if camera {
            source.link(&convert)?;
        } else {
            let (convert, sink) = (convert.clone(), sink.clone());
            source.connect_pad_added(move |_, pad| {
                let Some(into) = convert.static_pad("sink").filter(|into| !into.is_linked()) else {
                    return;
                };
                // Sound and subtitles stay unlinked.
                let caps = pad.current_caps();
                let Some(info) = caps.and_then(|caps| gst_video::VideoInfo::from_caps(&caps).ok())
                else {
                    return;
                };
                sink.set_caps(Some(&wanted_caps(want, info.has_alpha())));
                if let Err(error) = pad.link(&into) {
                    gst::element_error!(
                        convert,
                        gst::CoreError::Negotiation,
                        ["no decoded video: {}", error]
                    );
                }
            });
        }
        let mut reader = Self {
            path: path.to_owned(),
            pipeline,
            sink,
            first: None,
            frame_rate: None,
        };
        reader.pipeline.set_state(gst::State::Playing).ok();
        reader.first = reader.sample()?;
        let Some(first) = &reader.first else {
            bail!("{}: no video in this file", path.display())
        };
        reader.frame_rate = first
            .caps()
            .and_then(|caps| gst_video::VideoInfo::from_caps(caps).ok())
            .map(|info| info.fps())
            .filter(|fps| fps.numer() > 0);
        Ok(reader)
    }

    fn read(&mut self) -> Result<Option<Picture>> {
        let sample = match self.first.take() {
            Some(sample) => sample,
            None => match self.sample()? {
                Some(sample) => sample,
                None => return Ok(None),
            },
        };
        let caps = sample.caps().context("a decoded frame without caps")?;
        let info = gst_video::VideoInfo::from_caps(caps)?;
        let buffer = sample.buffer_owned().context("a sample without a buffer")?;
        let frame = gst_video::VideoFrame::from_buffer_readable(buffer, &info).map_err(|_| {
            anyhow::anyhow!("{}: a decoded frame cannot be mapped", self.path.display())
        })?;
        Ok(Some(Picture::Video(Box::new(frame))))
    }

    /// The next sample; `None` at the end of the stream.
    fn sample(&self) -> Result<Option<gst::Sample>> {
        let bus = self.pipeline.bus().context("a pipeline has a bus")?;
        loop {
            if let Some(sample) = self
                .sink
                .try_pull_sample(gst::ClockTime::from_mseconds(100))
            {
                return Ok(Some(sample));
            }
            if let Some(message) = bus.pop_filtered(&[gst::MessageType::Error]) {
                return Err(bus_error(&message)).with_context(|| self.path.display().to_string());
            }
            if self.sink.is_eos() {
                return Ok(None);
            }
        }
    }
}

impl Drop for VideoReader {
    fn drop(&mut self) {
        self.pipeline.set_state(gst::State::Null).ok();
    }
}

fn wanted_caps(want: Want, has_alpha: bool) -> gst::Caps {
    let formats: &[&str] = match (want, has_alpha) {
        (Want::Alpha, true) | (Want::Rgba, _) => &["RGBA"],
        (Want::Alpha, false) => &["GRAY8"],
        (Want::Colour, _) => &[
            "I420", "NV12", "RGBA", "BGRA", "ARGB", "ABGR", "RGBx", "BGRx", "xRGB", "xBGR", "RGB",
            "BGR",
        ],
    };
    gst::Caps::builder("video/x-raw")
        .field("format", gst::List::new(formats))
        .build()
}

/// A video or a folder of images being written.
pub(crate) enum Writer {
    Images {
        folder: PathBuf,
        next: u64,
        gray: bool,
        size: (u32, u32),
    },
    Video(VideoWriter),
}

impl Writer {
    /// `gray` is a single plane (alpha alone), otherwise RGBA. Without a frame rate a video gets 30 frames a second.
    pub(crate) fn create(
        path: &Path,
        gray: bool,
        (width, height): (u32, u32),
        frame_rate: Option<gst::Fraction>,
    ) -> Result<Self> {
        if let Some(encoder) = Encoder::for_path(path, gray)? {
            return Ok(Self::Video(VideoWriter::create(
                path,
                &encoder,
                gray,
                (width, height),
                frame_rate,
            )?));
        }
        fs::create_dir_all(path).with_context(|| path.display().to_string())?;
        let present = image_files(path)?.len();
        ensure!(
            present == 0,
            "{}: {present} images lie in this folder already; give an empty or a new one",
            path.display()
        );
        Ok(Self::Images {
            folder: path.to_owned(),
            next: 0,
            gray,
            size: (width, height),
        })
    }

    /// Writes one frame, rows packed.
    pub(crate) fn write(
        &mut self,
        pixels: &[u8],
        timing: (Option<gst::ClockTime>, Option<gst::ClockTime>),
    ) -> Result<()> {
        match self {
            Self::Images {
                folder,
                next,
                gray,
                size,
            } => {
                let path = folder.join(format!("{next:06}.png"));
                let color = if *gray {
                    image::ColorType::L8
                } else {
                    image::ColorType::Rgba8
                };
                image::save_buffer(&path, pixels, size.0, size.1, color)
                    .with_context(|| path.display().to_string())?;
                *next += 1;
                Ok(())
            }
            Self::Video(video) => video.write(pixels, timing),
        }
    }

    /// Completes the file.
    pub(crate) fn finish(self) -> Result<()> {
        match self {
            Self::Images { .. } => Ok(()),
            Self::Video(video) => video.finish(),
        }
    }
}

/// How a video with alpha is stored.
struct Encoder {
    /// Elements between `videoconvert` and the file, in gst-launch syntax.
    elements: &'static str,
    format: VideoFormat,
}

impl Encoder {
    /// The encoder that goes with the extension; `None` stands for a folder of images.
    fn for_path(path: &Path, gray: bool) -> Result<Option<Self>> {
        let Some(extension) = path.extension().and_then(|e| e.to_str()) else {
            return Ok(None);
        };
        if path.is_dir() {
            return Ok(None);
        }
        let choices: &[Self] = match (extension.to_ascii_lowercase().as_str(), gray) {
            ("mkv", true) => &[Self {
                elements: "avenc_ffv1 ! matroskamux",
                format: VideoFormat::Gray8,
            }],
            ("mkv", false) => &[Self {
                elements: "avenc_ffv1 ! matroskamux",
                format: VideoFormat::Bgra,
            }],
            ("mov", true) => &[Self {
                elements: "pngenc ! qtmux",
                format: VideoFormat::Gray8,
            }],
            ("mov", false) => &[
                Self {
                    elements: "avenc_prores_ks profile=4444 alpha-bits=16 ! qtmux",
                    format: VideoFormat::A44410le,
                },
                Self {
                    elements: "pngenc ! qtmux",
                    format: VideoFormat::Rgba,
                },
            ],
            ("webm", _) => bail!(
                "{}: GStreamer's VP9 encoder drops the alpha channel; choose .mov (ProRes 4444, or PNG where that \
                 encoder is missing), .mkv (FFV1, lossless) or a folder (PNG files)",
                path.display()
            ),
            (other, _) => bail!(
                "{}: .{other} holds no alpha here; choose .mov, .mkv or a folder (a name without an extension)",
                path.display()
            ),
        };
        let usable = |encoder: &&Self| {
            encoder.elements.split('!').all(|element| {
                let name = element.split_whitespace().next().unwrap_or_default();
                gst::ElementFactory::find(name).is_some()
            })
        };
        let found = choices.iter().find(usable).with_context(|| {
            let wanted: Vec<&str> = choices.iter().map(|choice| choice.elements).collect();
            format!(
                "{}: GStreamer lacks the elements for this kind of file ({}); `cargo xtask setup` installs them",
                path.display(),
                wanted.join(" or ")
            )
        })?;
        Ok(Some(Self {
            elements: found.elements,
            format: found.format,
        }))
    }
}

/// Encodes frames into a video file.
pub(crate) struct VideoWriter {
    path: PathBuf,
    pipeline: gst::Pipeline,
    source: gst_app::AppSrc,
    info: gst_video::VideoInfo,
    frame_time: gst::ClockTime,
    written: u64,
}

impl VideoWriter {
    fn create(
        path: &Path,
        encoder: &Encoder,
        gray: bool,
        (width, height): (u32, u32),
        frame_rate: Option<gst::Fraction>,
    ) -> Result<Self> {
        let rate = frame_rate.unwrap_or_else(|| gst::Fraction::new(30, 1));
        let format = if gray {
            VideoFormat::Gray8
        } else {
            VideoFormat::Rgba
        };
        let info = gst_video::VideoInfo::builder(format, width, height)
            .fps(rate)
            .build()?;
        let pipeline = gst::Pipeline::new();
        let source = gst_app::AppSrc::builder()
            .caps(&info.to_caps()?)
            .format(gst::Format::Time)
            .block(true)
            // A few frames: the engine is slower than the encoder, or must wait for it.
            .max_bytes(4 * info.size() as u64)
            .build();
        let tail = format!(
            "videoconvert ! video/x-raw,format={} ! {}",
            encoder.format, encoder.elements
        );
        let tail = gst::parse::bin_from_description(&tail, true).with_context(|| tail.clone())?;
        let sink = element("filesink", |sink| {
            sink.set_property("location", path.to_string_lossy().as_ref());
        })?;
        pipeline.add_many([source.upcast_ref(), tail.upcast_ref(), &sink])?;
        gst::Element::link_many([source.upcast_ref(), tail.upcast_ref(), &sink])?;
        let frame_time = gst::ClockTime::SECOND
            .mul_div_round(u64::try_from(rate.denom())?, u64::try_from(rate.numer())?)
            .context("frame rate")?;
        let writer = Self {
            path: path.to_owned(),
            pipeline,
            source,
            info,
            frame_time,
            written: 0,
        };
        if writer.pipeline.set_state(gst::State::Playing).is_err() {
            return Err(writer.error());
        }
        Ok(writer)
    }

    fn write(
        &mut self,
        pixels: &[u8],
        timing: (Option<gst::ClockTime>, Option<gst::ClockTime>),
    ) -> Result<()> {
        let mut buffer = gst::Buffer::with_size(self.info.size())?;
        {
            let writable = buffer.get_mut().context("a new buffer is ours alone")?;
            writable.set_pts(timing.0.unwrap_or(self.frame_time * self.written));
            writable.set_duration(timing.1.unwrap_or(self.frame_time));
            // GStreamer pads rows to multiples of 4 bytes.
            let mut frame =
                gst_video::VideoFrameRef::from_buffer_ref_writable(writable, &self.info)?;
            let row = frame.width() as usize * self.info.format_info().pixel_stride()[0] as usize;
            let stride = frame.plane_stride()[0] as usize;
            for (to, from) in frame
                .plane_data_mut(0)?
                .chunks_mut(stride)
                .zip(pixels.chunks(row))
            {
                to[..row].copy_from_slice(from);
            }
        }
        self.written += 1;
        self.source.push_buffer(buffer).map_err(|_| self.error())?;
        Ok(())
    }

    fn finish(self) -> Result<()> {
        self.source.end_of_stream().map_err(|_| self.error())?;
        let bus = self.pipeline.bus().context("a pipeline has a bus")?;
        let message = bus.timed_pop_filtered(
            gst::ClockTime::NONE,
            &[gst::MessageType::Error, gst::MessageType::Eos],
        );
        match message {
            Some(message) if message.type_() == gst::MessageType::Error => {
                Err(bus_error(&message)).with_context(|| self.path.display().to_string())
            }
            _ => Ok(()),
        }
    }

    /// What the pipeline says after a failure.
    fn error(&self) -> anyhow::Error {
        let message = self.pipeline.bus().and_then(|bus| {
            bus.timed_pop_filtered(gst::ClockTime::from_seconds(1), &[gst::MessageType::Error])
        });
        let reason = message.map_or_else(
            || anyhow::anyhow!("encoding stopped"),
            |message| bus_error(&message),
        );
        reason.context(self.path.display().to_string())
    }
}

impl Drop for VideoWriter {
    fn drop(&mut self) {
        self.pipeline.set_state(gst::State::Null).ok();
    }
}

fn element(name: &str, set: impl FnOnce(&gst::Element)) -> Result<gst::Element> {
    let element = gst::ElementFactory::make(name).build().with_context(|| {
        format!("GStreamer has no element {name}; `cargo xtask setup` installs what is needed")
    })?;
    set(&element);
    Ok(element)
}

fn bus_error(message: &gst::Message) -> anyhow::Error {
    match message.view() {
        gst::MessageView::Error(error) => {
            log::debug!("{:?}", error.debug());
            anyhow::anyhow!("{}", error.error())
        }
        _ => anyhow::anyhow!("the pipeline stopped"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames of an odd size, each with its own values, so that a mixed-up row, stride or order shows.
    fn frames(width: u32, height: u32, bytes: u32) -> Vec<Vec<u8>> {
        let frame = |number: u32| {
            let values = 0..width * height * bytes;
            values.map(|i| (i * 7 + number * 31) as u8).collect()
        };
        (0..3).map(frame).collect()
    }

    fn round_trip(name: &str, gray: bool) {
        gst::init().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        let (width, height) = (33, 17);
        let written = frames(width, height, if gray { 1 } else { 4 });
        let rate = gst::Fraction::new(25, 1);
        let mut writer = Writer::create(&path, gray, (width, height), Some(rate)).unwrap();
        for frame in &written {
            writer.write(frame, (None, None)).unwrap();
        }
        writer.finish().unwrap();

        let want = if gray { Want::Alpha } else { Want::Rgba };
        let mut reader = Reader::open(&path, want).unwrap();
        let mut number = 0;
        while let Some(picture) = reader.read().unwrap() {
            assert_eq!(picture.size(), (width, height));
            let read = if gray {
                picture.alpha().unwrap()
            } else {
                picture.rgba().unwrap()
            };
            assert!(read == written[number], "{name}: frame {number} differs");
            number += 1;
        }
        assert_eq!(number, written.len(), "{name}");
    }

    #[test]
    fn lossless_videos_come_back_as_they_were() {
        round_trip("rgba.mkv", false);
        round_trip("gray.mkv", true);
        round_trip("gray.mov", true);
    }

    #[test]
    fn folders_of_images_come_back_as_they_were() {
        round_trip("rgba", false);
        round_trip("gray", true);
    }

    #[test]
    fn prores_keeps_alpha() {
        gst::init().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.mov");
        let frame = [[200, 100, 50, 255], [10, 20, 30, 0]]
            .concat()
            .repeat(64 * 32);
        let mut writer = Writer::create(&path, false, (64, 64), None).unwrap();
        writer.write(&frame, (None, None)).unwrap();
        writer.finish().unwrap();
        let mut reader = Reader::open(&path, Want::Alpha).unwrap();
        let alpha = reader.read().unwrap().unwrap().alpha().unwrap();
        let expected: Vec<u8> = frame.iter().skip(3).step_by(4).copied().collect();
        assert!(alpha == expected, "{:?}", &alpha[..8]);
    }

    #[test]
    fn what_holds_no_alpha_is_refused() {
        gst::init().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let refused = |name: &str| {
            let writer = Writer::create(&dir.path().join(name), false, (16, 16), None);
            writer
                .err()
                .map(|error| error.to_string())
                .unwrap_or_default()
        };
        assert!(refused("a.webm").contains("drops the alpha channel"));
        assert!(refused("a.mp4").contains(".mp4 holds no alpha"));
    }

    #[test]
    fn a_file_that_is_no_video_is_an_error() {
        gst::init().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.mp4");
        fs::write(&path, b"not a video").unwrap();
        assert!(Reader::open(&path, Want::Colour).is_err());
    }
}
