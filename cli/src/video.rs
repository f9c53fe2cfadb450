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
            "I420", "NV12", "YUY2", "UYVY", "RGBA", "BGRA", "ARGB", "ABGR", "RGBx", "BGRx", "xRGB",
            "xBGR", "RGB", "BGR",
        ],
    };
    gst::Caps::builder("video/x-raw")
        .field("format", gst::List::new(formats))
        .build()
}

/// What the pixels that are written hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// A single plane: alpha alone.
    Alpha,
    /// RGBA.
    Rgba,
    /// RGBA whose alpha is 255 everywhere.
    Opaque,
}

/// Where a video is written until it is complete: `a.mov` becomes `a.part.mov`, so that players know what it is.
fn part_of(path: &Path) -> PathBuf {
    let extension = path.extension().unwrap_or_default().to_string_lossy();
    path.with_extension(format!("part.{extension}"))
}

/// Whether an output has been written to its end. Of a folder that cannot be told.
pub(crate) fn is_complete(path: &Path) -> bool {
    path.is_file()
}

/// A video or a folder of images being written.
pub(crate) enum Writer {
    Images(ImageWriter),
    Video(VideoWriter),
    Ffmpeg(FfmpegWriter),
}

impl Writer {
    /// Without a frame rate a video gets 30 frames a second. With `resume` a folder may hold images already, and only
    /// those that it lacks are written.
    pub(crate) fn create(
        path: &Path,
        content: Content,
        size: (u32, u32),
        frame_rate: Option<gst::Fraction>,
        resume: bool,
    ) -> Result<Self> {
        match Encoder::for_path(path, content)? {
            Some(Encoder::Pipeline { elements, format }) => Ok(Self::Video(VideoWriter::create(
                path, elements, format, content, size, frame_rate,
            )?)),
            Some(Encoder::Ffmpeg) => {
                Ok(Self::Ffmpeg(FfmpegWriter::create(path, size, frame_rate)?))
            }
            None => Ok(Self::Images(ImageWriter::create(
                path, content, size, resume,
            )?)),
        }
    }

    /// Writes one frame, rows packed.
    pub(crate) fn write(
        &mut self,
        pixels: &[u8],
        timing: (Option<gst::ClockTime>, Option<gst::ClockTime>),
    ) -> Result<()> {
        match self {
            Self::Images(images) => images.write(pixels),
            Self::Video(video) => video.write(pixels, timing),
            Self::Ffmpeg(ffmpeg) => ffmpeg.write(pixels),
        }
    }

    /// Completes the file, which then gets its name.
    pub(crate) fn finish(self) -> Result<()> {
        match self {
            Self::Images(_) => Ok(()),
            Self::Video(mut video) => {
                video.end()?;
                video.name()
            }
            Self::Ffmpeg(mut ffmpeg) => {
                ffmpeg.end()?;
                rename(&ffmpeg.part, &ffmpeg.path)
            }
        }
    }

    /// Ends after an error: what was written is completed as far as that goes, and stays. Says what is where.
    pub(crate) fn salvage(self) -> String {
        let kept = |ended: Result<()>, written: u64, part: &Path| match ended {
            Ok(()) => format!(
                "stopped; the {written} frames before are in {}",
                part.display()
            ),
            Err(_) => format!(
                "stopped; what was written of {written} frames is in {}, which may not be playable",
                part.display()
            ),
        };
        match self {
            Self::Images(images) => format!(
                "stopped; the {} pictures before are in {}, and --resume goes on from there",
                images.next,
                images.folder.display()
            ),
            Self::Video(mut video) => {
                let ended = video.end();
                kept(ended, video.written, &video.part)
            }
            Self::Ffmpeg(mut ffmpeg) => {
                let ended = ffmpeg.end();
                kept(ended, ffmpeg.written, &ffmpeg.part)
            }
        }
    }
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).with_context(|| format!("{} to {}", from.display(), to.display()))
}

/// PNG files, numbered from 000000.png.
pub(crate) struct ImageWriter {
    folder: PathBuf,
    next: u64,
    /// So many are there already.
    present: u64,
    color: image::ColorType,
    size: (u32, u32),
}

impl ImageWriter {
    fn create(folder: &Path, content: Content, size: (u32, u32), resume: bool) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        let images = image_files(folder)?.len();
        let name = |number: u64| folder.join(format!("{number:06}.png"));
        // As many files as there are have room for no longer run than this.
        let present = (0..images as u64)
            .find(|number| !name(*number).exists())
            .unwrap_or(images as u64);
        if resume {
            ensure!(
                present == images as u64,
                "{}: {images} images, but {} is missing: an earlier run writes them without a gap",
                folder.display(),
                name(present).display()
            );
            if present > 0 {
                let last = name(present - 1);
                let before =
                    image::image_dimensions(&last).with_context(|| last.display().to_string())?;
                ensure!(
                    before == size,
                    "{} is {}x{}, the frames are {}x{}",
                    last.display(),
                    before.0,
                    before.1,
                    size.0,
                    size.1
                );
            }
        } else {
            ensure!(
                images == 0,
                "{}: {images} images lie in this folder already; give an empty or a new one, or --resume",
                folder.display()
            );
        }
        Ok(Self {
            folder: folder.to_owned(),
            next: 0,
            present,
            color: match content {
                Content::Alpha => image::ColorType::L8,
                Content::Rgba | Content::Opaque => image::ColorType::Rgba8,
            },
            size,
        })
    }

    fn write(&mut self, pixels: &[u8]) -> Result<()> {
        if self.next >= self.present {
            let path = self.folder.join(format!("{:06}.png", self.next));
            // A picture that is there is a whole one.
            let part = path.with_extension("part");
            let (width, height) = self.size;
            let format = image::ImageFormat::Png;
            image::save_buffer_with_format(&part, pixels, width, height, self.color, format)
                .with_context(|| path.display().to_string())?;
            rename(&part, &path)?;
        }
        self.next += 1;
        Ok(())
    }
}

/// VP9 with alpha, which GStreamer's encoder cannot write.
pub(crate) struct FfmpegWriter {
    path: PathBuf,
    part: PathBuf,
    child: std::process::Child,
    input: Option<std::process::ChildStdin>,
    written: u64,
}

impl FfmpegWriter {
    fn create(
        path: &Path,
        (width, height): (u32, u32),
        frame_rate: Option<gst::Fraction>,
    ) -> Result<Self> {
        let rate = frame_rate.unwrap_or_else(|| gst::Fraction::new(30, 1));
        let part = part_of(path);
        let mut child = std::process::Command::new("ffmpeg")
            .args(["-loglevel", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgba"])
            .args(["-video_size", &format!("{width}x{height}")])
            .args(["-framerate", &format!("{}/{}", rate.numer(), rate.denom())])
            .args(["-i", "-"])
            .args(["-vf", "scale=out_color_matrix=bt709:out_range=tv"])
            .args(["-c:v", "libvpx-vp9", "-pix_fmt", "yuva420p", "-auto-alt-ref", "0"])
            .args(["-crf", "20", "-b:v", "0", "-row-mt", "1", "-deadline", "good", "-cpu-used", "4"])
            .args(["-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709"])
            .arg(format!("file:{}", part.display()))
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .with_context(|| {
                format!(
                    "{}: VP9 with alpha is written by ffmpeg, which could not be started; install it, or choose .mov, \
                     .mkv or a folder",
                    path.display()
                )
            })?;
        Ok(Self {
            path: path.to_owned(),
            part,
            input: child.stdin.take(),
            child,
            written: 0,
        })
    }

    fn write(&mut self, pixels: &[u8]) -> Result<()> {
        use std::io::Write;
        let Some(input) = &mut self.input else {
            bail!("{}: has ended already", self.path.display());
        };
        if let Err(error) = input.write_all(pixels) {
            // A broken pipe says only that ffmpeg has ended; why, it says itself.
            self.end()?;
            return Err(error).with_context(|| self.path.display().to_string());
        }
        self.written += 1;
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        use std::io::Read;
        self.input = None;
        let mut said = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            stderr.read_to_string(&mut said).ok();
        }
        let status = self.child.wait()?;
        let said = said.trim();
        ensure!(
            status.success(),
            "{}: ffmpeg ended with {status}{}",
            self.path.display(),
            match said.lines().last() {
                Some(last) => format!(": {last}"),
                None => String::new(),
            }
        );
        Ok(())
    }
}

impl Drop for FfmpegWriter {
    fn drop(&mut self) {
        // Without its input it ends by itself; it must not stay behind as a zombie.
        self.input = None;
        self.child.wait().ok();
    }
}

/// How a video is stored.
#[derive(Clone, Copy, Debug)]
enum Encoder {
    /// Elements between `videoconvert` and the file, in gst-launch syntax, and the format that they take.
    Pipeline {
        elements: &'static str,
        format: VideoFormat,
    },
    /// VP9 with alpha by ffmpeg.
    Ffmpeg,
}

impl Encoder {
    /// The encoder that goes with the extension; `None` stands for a folder of images.
    fn for_path(path: &Path, content: Content) -> Result<Option<Self>> {
        let Some(extension) = path.extension().and_then(|e| e.to_str()) else {
            return Ok(None);
        };
        if path.is_dir() {
            return Ok(None);
        }
        let choices: &[(&str, VideoFormat)] = match (
            extension.to_ascii_lowercase().as_str(),
            content,
        ) {
            ("mkv", Content::Alpha) => &[("avenc_ffv1 ! matroskamux", VideoFormat::Gray8)],
            ("mkv", _) => &[("avenc_ffv1 ! matroskamux", VideoFormat::Bgra)],
            ("mov", Content::Alpha) => &[("pngenc ! qtmux", VideoFormat::Gray8)],
            ("mov", _) => &[
                (
                    "avenc_prores_ks profile=4444 alpha-bits=16 ! qtmux",
                    VideoFormat::A44410le,
                ),
                ("pngenc ! qtmux", VideoFormat::Rgba),
            ],
            ("webm", Content::Alpha) => bail!(
                "{}: alpha alone is written as .mkv (FFV1), .mov (PNG) or a folder",
                path.display()
            ),
            ("webm", _) => return Ok(Some(Self::Ffmpeg)),
            ("mp4", Content::Opaque) => &[(
                "x264enc speed-preset=medium pass=quant quantizer=18 ! h264parse ! mp4mux",
                VideoFormat::I420,
            )],
            ("mp4", _) => bail!(
                "{}: .mp4 holds no alpha here; choose .mov, .webm, .mkv or a folder, or a background (--background)",
                path.display()
            ),
            (other, _) => bail!(
                "{}: .{other} cannot be written; choose .mov, .webm, .mkv or a folder (a name without an extension)",
                path.display()
            ),
        };
        let usable = |(elements, _): &&(&str, VideoFormat)| {
            elements.split('!').all(|element| {
                let name = element.split_whitespace().next().unwrap_or_default();
                gst::ElementFactory::find(name).is_some()
            })
        };
        let &(elements, format) = choices.iter().find(usable).with_context(|| {
            let wanted: Vec<&str> = choices.iter().map(|(elements, _)| *elements).collect();
            format!(
                "{}: GStreamer lacks the elements for this kind of file ({}); `cargo xtask setup` installs them",
                path.display(),
                wanted.join(" or ")
            )
        })?;
        Ok(Some(Self::Pipeline { elements, format }))
    }
}

/// Encodes frames into a video file.
pub(crate) struct VideoWriter {
    path: PathBuf,
    part: PathBuf,
    pipeline: gst::Pipeline,
    source: gst_app::AppSrc,
    info: gst_video::VideoInfo,
    frame_time: gst::ClockTime,
    written: u64,
    /// The pipeline has reported an error: no end of stream will come through it.
    broken: bool,
}

impl VideoWriter {
    /// Frames that may wait for the encoder.
    const WAITING: u64 = 4;

    fn create(
        path: &Path,
        elements: &str,
        encoded: VideoFormat,
        content: Content,
        (width, height): (u32, u32),
        frame_rate: Option<gst::Fraction>,
    ) -> Result<Self> {
        let rate = frame_rate.unwrap_or_else(|| gst::Fraction::new(30, 1));
        let format = match content {
            Content::Alpha => VideoFormat::Gray8,
            Content::Rgba | Content::Opaque => VideoFormat::Rgba,
        };
        let part = part_of(path);
        let info = gst_video::VideoInfo::builder(format, width, height)
            .fps(rate)
            .build()?;
        let pipeline = gst::Pipeline::new();
        let source = gst_app::AppSrc::builder()
            .caps(&info.to_caps()?)
            .format(gst::Format::Time)
            .build();
        let tail = format!("videoconvert ! video/x-raw,format={encoded} ! {elements}");
        let tail = gst::parse::bin_from_description(&tail, true).with_context(|| tail.clone())?;
        let sink = element("filesink", |sink| {
            sink.set_property("location", part.to_string_lossy().as_ref());
        })?;
        pipeline.add_many([source.upcast_ref(), tail.upcast_ref(), &sink])?;
        gst::Element::link_many([source.upcast_ref(), tail.upcast_ref(), &sink])?;
        let frame_time = gst::ClockTime::SECOND
            .mul_div_round(u64::try_from(rate.denom())?, u64::try_from(rate.numer())?)
            .context("frame rate")?;
        let writer = Self {
            path: path.to_owned(),
            part,
            pipeline,
            source,
            info,
            frame_time,
            written: 0,
            broken: false,
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
        self.wait_for_room()?;
        if self.source.push_buffer(buffer).is_err() {
            self.broken = true;
            return Err(self.error());
        }
        self.written += 1;
        Ok(())
    }

    /// Waits until the encoder has taken all but a few frames, or has failed. A source that blocks by itself would wait
    /// for ever for an encoder that has stopped.
    fn wait_for_room(&mut self) -> Result<()> {
        let bus = self.pipeline.bus().context("a pipeline has a bus")?;
        let most = Self::WAITING * self.info.size() as u64;
        loop {
            let patience = match self.source.current_level_bytes() < most {
                true => gst::ClockTime::ZERO,
                false => gst::ClockTime::from_mseconds(10),
            };
            // The encoder runs behind: its error may come with no push.
            if let Some(message) = bus.timed_pop_filtered(patience, &[gst::MessageType::Error]) {
                self.broken = true;
                return Err(bus_error(&message)).with_context(|| self.path.display().to_string());
            }
            if patience == gst::ClockTime::ZERO {
                return Ok(());
            }
        }
    }

    /// Ends the stream and waits until all is in the file.
    fn end(&mut self) -> Result<()> {
        ensure!(
            !self.broken,
            "{}: the encoder has failed",
            self.path.display()
        );
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

    /// Gives the complete file its name.
    fn name(self) -> Result<()> {
        // Closes the file.
        self.pipeline.set_state(gst::State::Null).ok();
        rename(&self.part, &self.path)
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
        let content = match gray {
            true => Content::Alpha,
            false => Content::Rgba,
        };
        let mut writer =
            Writer::create(&path, content, (width, height), Some(rate), false).unwrap();
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
        let mut writer = Writer::create(&path, Content::Rgba, (64, 64), None, false).unwrap();
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
        let refused = |name: &str, content| {
            let path = dir.path().join(name);
            let writer = Writer::create(&path, content, (16, 16), None, false);
            writer
                .err()
                .map(|error| error.to_string())
                .unwrap_or_default()
        };
        assert!(refused("a.webm", Content::Alpha).contains("alpha alone"));
        assert!(refused("a.mp4", Content::Rgba).contains(".mp4 holds no alpha"));
        assert!(refused("a.avi", Content::Rgba).contains(".avi cannot be written"));
    }

    #[test]
    fn vp9_keeps_alpha() {
        gst::init().unwrap();
        if std::process::Command::new("ffmpeg")
            .arg("-version")
            .output()
            .is_err()
        {
            println!("skipped: ffmpeg is not installed");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.webm");
        let frame: Vec<u8> = (0..64 * 48)
            .flat_map(|i| [180, 90, 40, if i % 64 < 32 { 255 } else { 0 }])
            .collect();
        let mut writer = Writer::create(&path, Content::Rgba, (64, 48), None, false).unwrap();
        for _ in 0..5 {
            writer.write(&frame, (None, None)).unwrap();
        }
        assert!(!path.exists(), "it takes its name when it is complete");
        writer.finish().unwrap();
        let mut reader = Reader::open(&path, Want::Rgba).unwrap();
        let mut frames = 0;
        while let Some(picture) = reader.read().unwrap() {
            let got = picture.rgba().unwrap();
            for (x, alpha) in [(8, 255u8), (56, 0)] {
                let pixel = &got[(20 * 64 + x) * 4..][..4];
                assert!(pixel[3].abs_diff(alpha) <= 6, "{pixel:?}");
                if alpha == 255 {
                    assert!(
                        pixel[0].abs_diff(180) < 10 && pixel[2].abs_diff(40) < 10,
                        "{pixel:?}"
                    );
                }
            }
            frames += 1;
        }
        assert_eq!(frames, 5);
    }

    #[test]
    fn an_opaque_picture_becomes_an_mp4() {
        gst::init().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.mp4");
        let frame = [90, 120, 150, 255].repeat(64 * 48);
        let mut writer = Writer::create(&path, Content::Opaque, (64, 48), None, false).unwrap();
        for _ in 0..3 {
            writer.write(&frame, (None, None)).unwrap();
        }
        writer.finish().unwrap();
        let mut reader = Reader::open(&path, Want::Rgba).unwrap();
        let got = reader.read().unwrap().unwrap().rgba().unwrap();
        for (got, wanted) in got.iter().zip(&frame) {
            assert!(got.abs_diff(*wanted) <= 4, "{got} {wanted}");
        }
    }

    #[test]
    fn a_folder_is_resumed_after_its_last_picture() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pictures");
        let frames = frames(8, 6, 4);
        let mut writer = Writer::create(&path, Content::Rgba, (8, 6), None, false).unwrap();
        writer.write(&frames[0], (None, None)).unwrap();
        assert!(writer.salvage().contains("the 1 pictures before are in"));
        let refused = Writer::create(&path, Content::Rgba, (8, 6), None, false);
        assert!(refused.err().unwrap().to_string().contains("--resume"));
        let resized = Writer::create(&path, Content::Rgba, (9, 6), None, true);
        assert!(
            resized
                .err()
                .unwrap()
                .to_string()
                .contains("is 8x6, the frames are 9x6")
        );

        let first = path.join("000000.png");
        let before = fs::metadata(&first).unwrap().modified().unwrap();
        let mut writer = Writer::create(&path, Content::Rgba, (8, 6), None, true).unwrap();
        for frame in &frames {
            writer.write(frame, (None, None)).unwrap();
        }
        writer.finish().unwrap();
        assert_eq!(fs::metadata(&first).unwrap().modified().unwrap(), before);
        assert_eq!(image_files(&path).unwrap().len(), 3);
        let last = image::open(path.join("000002.png")).unwrap().into_rgba8();
        assert!(last.into_raw() == frames[2]);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_full_disk_is_named_and_the_old_output_stays() {
        gst::init().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.mkv");
        fs::write(&path, b"from an earlier run").unwrap();
        std::os::unix::fs::symlink("/dev/full", part_of(&path)).unwrap();
        let size = (256, 256);
        let frame: Vec<u8> = (0..256 * 256 * 4u32)
            .map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
            .collect();
        let mut writer = Writer::create(&path, Content::Rgba, size, None, false).unwrap();
        let failed = (0..50).find_map(|_| writer.write(&frame, (None, None)).err());
        let error = match failed {
            Some(error) => {
                assert!(writer.salvage().starts_with("stopped; what was written"));
                error
            }
            None => writer.finish().unwrap_err(),
        };
        let error = format!("{error:#}");
        assert!(
            error.contains("a.mkv") && error.contains("No space left"),
            "{error}"
        );
        assert_eq!(fs::read(&path).unwrap(), b"from an earlier run");
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
