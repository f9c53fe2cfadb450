//! Pictures in and out: videos and cameras through GStreamer, folders of PNG and JPEG files through `image`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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
        Self::open_until(path, want, &Arc::default())
    }

    /// As [`open`](Self::open), which waits for the first picture, until `stop` is set. A camera has its end there later on.
    pub(crate) fn open_until(path: &Path, want: Want, stop: &Arc<AtomicBool>) -> Result<Self> {
        if path.is_dir() {
            let files = image_files(path)?;
            ensure!(
                !files.is_empty(),
                "{}: no .png or .jpg files in this folder",
                path.display()
            );
            return Ok(Self::Images(files.into_iter(), want));
        }
        Ok(Self::Video(VideoReader::open(path, want, stop)?))
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

    /// Width of a pixel to its height.
    pub(crate) fn pixel_aspect(&self) -> gst::Fraction {
        match self {
            Self::Video(video) => video.pixel_aspect,
            Self::Images(..) => square(),
        }
    }

    /// Whether only its user ends it.
    pub(crate) fn is_camera(&self) -> bool {
        matches!(self, Self::Video(video) if video.camera)
    }

    /// Whether there is sound beside the pictures. It is not read.
    pub(crate) fn has_sound(&self) -> bool {
        matches!(self, Self::Video(video) if video.has_sound.load(Ordering::Relaxed))
    }

    /// Whether the light of the pictures is coded for HDR (PQ or HLG).
    pub(crate) fn is_hdr(&self) -> bool {
        self.colorimetry().is_some_and(|colours| {
            matches!(
                colours.transfer(),
                gst_video::VideoTransferFunction::Smpte2084
                    | gst_video::VideoTransferFunction::AribStdB67
            )
        })
    }

    /// How the colours of a video are coded.
    pub(crate) fn colorimetry(&self) -> Option<gst_video::VideoColorimetry> {
        match self {
            Self::Video(video) => video.colorimetry,
            Self::Images(..) => None,
        }
    }

    /// Throws away what a camera has captured so far.
    pub(crate) fn skip_captured(&mut self) {
        if let Self::Video(video) = self
            && video.camera
        {
            video.skip();
        }
    }

    /// How long a video says that it is; none of a camera.
    pub(crate) fn duration(&self) -> Option<gst::ClockTime> {
        match self {
            Self::Video(video) => video.pipeline.query_duration(),
            Self::Images(..) => None,
        }
    }

    /// How many pictures there are, where that is known beforehand.
    pub(crate) fn estimated_frames(&self) -> Option<u64> {
        match self {
            Self::Video(video) => {
                let rate = video.frame_rate?;
                let seconds = self.duration()?.seconds_f64();
                Some((seconds * f64::from(rate.numer()) / f64::from(rate.denom())).round() as u64)
            }
            Self::Images(files, _) => Some(files.len() as u64),
        }
    }
}

/// Image files of a folder, in the order of their names, in which 2 comes before 10.
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
    alphanumeric_sort::sort_path_slice(&mut files);
    Ok(files)
}

/// What a file or a folder of pictures is called. What follows a dot in the name of a folder is no extension.
pub(crate) fn name_of(path: &Path) -> Option<String> {
    let name = match path.is_dir() {
        true => path.file_name(),
        false => path.file_stem(),
    };
    name.map(|name| name.to_string_lossy().into_owned())
}

/// Pixels as wide as high.
fn square() -> gst::Fraction {
    gst::Fraction::new(1, 1)
}

/// Whether a path names a camera: a character device, which a file that lies in `/dev/shm` is not.
#[cfg(unix)]
fn is_camera(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt as _;
    path.starts_with("/dev")
        && fs::metadata(path).is_ok_and(|file| file.file_type().is_char_device())
}

#[cfg(not(unix))]
fn is_camera(_path: &Path) -> bool {
    false
}

const NO_VIDEO: &str = "no video in this file";

/// Decodes a video file or a camera.
pub(crate) struct VideoReader {
    path: PathBuf,
    pipeline: gst::Pipeline,
    sink: gst_app::AppSink,
    /// The first picture, decoded when the video was opened so that its caps are known.
    first: Option<gst::Sample>,
    frame_rate: Option<gst::Fraction>,
    pixel_aspect: gst::Fraction,
    camera: bool,
    /// How its colours are coded.
    colorimetry: Option<gst_video::VideoColorimetry>,
    /// There is sound beside it, which is not read.
    has_sound: Arc<AtomicBool>,
    /// What counts as the time 0.
    begin: gst::ClockTime,
    /// What is not installed and would be needed.
    missing: Option<String>,
    /// Ends a camera.
    stop: Arc<AtomicBool>,
}

impl VideoReader {
    fn open(path: &Path, want: Want, stop: &Arc<AtomicBool>) -> Result<Self> {
        let absolute = path
            .canonicalize()
            .with_context(|| path.display().to_string())?;
        let camera = is_camera(&absolute);
        let has_sound = Arc::new(AtomicBool::new(false));
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
        // A phone held upright writes its picture lying, and says so beside it.
        let upright = element("videoflip", |flip| {
            flip.set_property_from_str("video-direction", "auto");
        })?;
        let sink = gst_app::AppSink::builder()
            .sync(false)
            .max_buffers(4)
            .caps(&wanted_caps(want, false))
            .build();
        pipeline.add_many([&source, &convert, &upright, sink.upcast_ref()])?;
        gst::Element::link_many([&convert, &upright, sink.upcast_ref()])?;
        if camera {
            source.link(&convert)?;
        } else {
            let unused = convert.clone();
            source.connect_no_more_pads(move |_| {
                if unused
                    .static_pad("sink")
                    .is_some_and(|into| !into.is_linked())
                {
                    // Nothing would ever arrive, not even the end.
                    gst::element_error!(unused, gst::StreamError::WrongType, ("{}", NO_VIDEO));
                }
            });
            let (convert, sink) = (convert.clone(), sink.clone());
            let has_sound = Arc::clone(&has_sound);
            source.connect_pad_added(move |_, pad| {
                let caps = pad.current_caps();
                let kind = caps.as_ref().and_then(|caps| caps.structure(0));
                if kind.is_some_and(|kind| kind.name().starts_with("audio/")) {
                    has_sound.store(true, Ordering::Relaxed);
                }
                let Some(into) = convert.static_pad("sink").filter(|into| !into.is_linked()) else {
                    return;
                };
                // Sound and subtitles stay unlinked.
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
            pixel_aspect: square(),
            camera,
            has_sound,
            colorimetry: None,
            begin: gst::ClockTime::ZERO,
            missing: None,
            stop: Arc::clone(stop),
        };
        reader.pipeline.set_state(gst::State::Playing).ok();
        reader.first = reader.sample(true)?;
        let Some(first) = &reader.first else {
            ensure!(
                !stop.load(Ordering::Relaxed),
                "{}: interrupted",
                path.display()
            );
            bail!("{}: {}", path.display(), reader.why_no_video())
        };
        let info = first
            .caps()
            .and_then(|caps| gst_video::VideoInfo::from_caps(caps).ok());
        if let Some(info) = info {
            reader.frame_rate = Some(info.fps()).filter(|fps| fps.numer() > 0);
            reader.pixel_aspect = info.par();
            reader.colorimetry = Some(info.colorimetry());
            ensure!(
                info.interlace_mode() == gst_video::VideoInterlaceMode::Progressive,
                "{}: {} video; make it progressive before, with `ffmpeg -i IN -vf bwdif OUT` for example",
                path.display(),
                info.interlace_mode()
            );
        }
        Ok(reader)
    }

    fn read(&mut self) -> Result<Option<Picture>> {
        let sample = match self.first.take() {
            Some(sample) => sample,
            None => match self.sample(self.camera)? {
                Some(sample) => sample,
                None => return Ok(None),
            },
        };
        let caps = sample.caps().context("a decoded frame without caps")?;
        let info = gst_video::VideoInfo::from_caps(caps)?;
        let mut buffer = sample.buffer_owned().context("a sample without a buffer")?;
        // A file may begin at any time of its own; what is written begins with its first frame.
        let segment = sample.segment().cloned();
        let segment = segment.and_then(|it| it.downcast::<gst::ClockTime>().ok());
        if let Some(segment) = segment {
            let time = segment.to_running_time(buffer.pts());
            if let Some(time) = time {
                buffer.make_mut().set_pts(time.saturating_sub(self.begin));
            }
        }
        let frame = gst_video::VideoFrame::from_buffer_readable(buffer, &info).map_err(|_| {
            anyhow::anyhow!("{}: a decoded frame cannot be mapped", self.path.display())
        })?;
        Ok(Some(Picture::Video(Box::new(frame))))
    }

    /// The next sample; `None` at the end of the stream, and for what `stops` where it is stopped.
    fn sample(&mut self, stops: bool) -> Result<Option<gst::Sample>> {
        let bus = self.pipeline.bus().context("a pipeline has a bus")?;
        loop {
            if stops && self.stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            if let Some(sample) = self
                .sink
                .try_pull_sample(gst::ClockTime::from_mseconds(100))
            {
                return Ok(Some(sample));
            }
            let told = [gst::MessageType::Error, gst::MessageType::Element];
            while let Some(message) = bus.pop_filtered(&told) {
                if message.type_() == gst::MessageType::Element {
                    let missing = message
                        .structure()
                        .filter(|it| it.name() == "missing-plugin");
                    let name = missing.and_then(|it| it.get::<String>("name").ok());
                    self.missing = name.or(self.missing.take());
                    continue;
                }
                let mut error = bus_error(&message);
                if error.to_string().contains(NO_VIDEO) {
                    error = anyhow::anyhow!(self.why_no_video());
                }
                return Err(error).with_context(|| self.path.display().to_string());
            }
            if self.sink.is_eos() {
                return Ok(None);
            }
        }
    }

    fn why_no_video(&self) -> String {
        match &self.missing {
            Some(missing) => format!("GStreamer has no {missing}; install the plugin that has it"),
            None => NO_VIDEO.to_owned(),
        }
    }

    /// Throws away what a camera has captured so far: the next picture is one of now, and the first.
    fn skip(&mut self) {
        self.first = None;
        while self
            .sink
            .try_pull_sample(gst::ClockTime::from_mseconds(1))
            .is_some()
        {}
        self.begin = (self.pipeline.current_running_time()).unwrap_or(self.begin);
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

/// What is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// ProRes 4444.
    #[default]
    Mov,
    /// FFV1, lossless.
    Mkv,
    /// VP9 with alpha, through ffmpeg, at a constant frame rate.
    Webm,
    /// H.264, for an opaque background.
    Mp4,
    /// A folder of PNG files.
    Png,
}

impl Format {
    /// What the name of an output asks for.
    ///
    /// # Errors
    /// For an extension that none of them has.
    pub(crate) fn of(path: &Path) -> Result<Self> {
        let Some(extension) = path.extension().and_then(|e| e.to_str()) else {
            return Ok(Self::Png);
        };
        if path.is_dir() {
            return Ok(Self::Png);
        }
        Ok(match extension.to_ascii_lowercase().as_str() {
            "mov" => Self::Mov,
            "mkv" => Self::Mkv,
            "webm" => Self::Webm,
            "mp4" => Self::Mp4,
            other => bail!(
                "{}: .{other} cannot be written; choose .mov, .webm, .mkv or a folder (a name without an extension)",
                path.display()
            ),
        })
    }

    /// The output of that name in a folder.
    pub(crate) fn path(self, folder: &Path, name: &str) -> PathBuf {
        let extension = match self {
            Self::Mov => ".mov",
            Self::Mkv => ".mkv",
            Self::Webm => ".webm",
            Self::Mp4 => ".mp4",
            Self::Png => "",
        };
        folder.join(format!("{name}{extension}"))
    }
}

/// The frames that are written, besides their pixels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frames {
    pub(crate) content: Content,
    /// Width and height in pixels.
    pub(crate) size: (u32, u32),
    /// Frames a second; 30 where it is not known.
    pub(crate) rate: Option<gst::Fraction>,
    /// Width of a pixel to its height.
    pub(crate) pixel_aspect: gst::Fraction,
    /// How the colours of the input are coded: what is written keeps primaries and transfer function.
    pub(crate) colorimetry: Option<gst_video::VideoColorimetry>,
}

impl Frames {
    /// Of RGB pixels.
    fn rgb(&self) -> Option<gst_video::VideoColorimetry> {
        use gst_video::{VideoColorMatrix, VideoColorRange, VideoColorimetry};
        let of = self.colorimetry?;
        let (range, matrix) = (VideoColorRange::Range0_255, VideoColorMatrix::Rgb);
        Some(VideoColorimetry::new(
            range,
            matrix,
            of.transfer(),
            of.primaries(),
        ))
    }

    fn rate(&self) -> gst::Fraction {
        self.rate.unwrap_or_else(|| gst::Fraction::new(30, 1))
    }
}

/// Where a video is written until it is complete: `a.mov` becomes `a.part.mov`, so that players know what it is.
pub(crate) fn part_of(path: &Path) -> PathBuf {
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
    /// Refuses what [`create`](Self::create) will not write, before anything is computed for it.
    pub(crate) fn check(path: &Path, format: Format, frames: &Frames) -> Result<()> {
        Encoder::choose(path, format, frames).map(drop)
    }

    /// With `resume` a folder may hold images already, and only those that it lacks are written.
    pub(crate) fn create(
        path: &Path,
        format: Format,
        frames: &Frames,
        resume: bool,
    ) -> Result<Self> {
        Ok(match Encoder::choose(path, format, frames)? {
            Encoder::Pipeline { elements, format } => {
                Self::Video(VideoWriter::create(path, elements, format, frames)?)
            }
            Encoder::Ffmpeg => Self::Ffmpeg(FfmpegWriter::create(path, frames)?),
            Encoder::Images => Self::Images(ImageWriter::create(path, frames, resume)?),
        })
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
            Self::Ffmpeg(ffmpeg) => ffmpeg.write_at(pixels, timing.0),
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

    /// Removes what was written: nothing that is missed later, and nothing that a later run takes for done.
    pub(crate) fn discard(self) -> Result<()> {
        let part = match self {
            Self::Images(images) => return images.discard(),
            // Both are ended first.
            Self::Video(video) => video.part.clone(),
            Self::Ffmpeg(ffmpeg) => ffmpeg.part.clone(),
        };
        fs::remove_file(&part).with_context(|| part.display().to_string())
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

/// The picture of a frame in a folder.
fn numbered(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:06}.png"))
}

impl ImageWriter {
    fn create(folder: &Path, frames: &Frames, resume: bool) -> Result<Self> {
        let size = frames.size;
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        let images = image_files(folder)?.len();
        let name = |number| numbered(folder, number);
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
            color: match frames.content {
                Content::Alpha => image::ColorType::L8,
                Content::Rgba | Content::Opaque => image::ColorType::Rgba8,
            },
            size,
        })
    }

    /// Removes what this run has written, not what was there.
    fn discard(self) -> Result<()> {
        for number in self.present..self.next {
            let path = numbered(&self.folder, number);
            fs::remove_file(&path).with_context(|| path.display().to_string())?;
        }
        Ok(())
    }

    fn write(&mut self, pixels: &[u8]) -> Result<()> {
        if self.next >= self.present {
            let path = numbered(&self.folder, self.next);
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

/// Longer gaps are cut out where frames come at a constant rate: a time may be wrong altogether.
const MOST_REPEATED: gst::ClockTime = gst::ClockTime::from_seconds(10);

/// VP9 with alpha, which GStreamer's encoder cannot write.
pub(crate) struct FfmpegWriter {
    path: PathBuf,
    part: PathBuf,
    child: std::process::Child,
    input: Option<std::process::ChildStdin>,
    rate: gst::Fraction,
    /// The last frame.
    before: Vec<u8>,
    /// Frames of gaps that were too long to be filled.
    cut: u64,
    written: u64,
}

impl FfmpegWriter {
    fn create(path: &Path, frames: &Frames) -> Result<Self> {
        let (width, height) = frames.size;
        let (rate, aspect) = (frames.rate(), frames.pixel_aspect);
        let filters = format!(
            "scale=out_color_matrix=bt709:out_range=tv,setsar={}/{}",
            aspect.numer(),
            aspect.denom()
        );
        let part = part_of(path);
        let mut command = std::process::Command::new("ffmpeg");
        // Ctrl-C is for this program, which then ends the stream.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command
            .args(["-loglevel", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgba"])
            .args(["-video_size", &format!("{width}x{height}")])
            .args(["-framerate", &format!("{}/{}", rate.numer(), rate.denom())])
            .args(["-i", "-"])
            .args(["-vf", &filters])
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
            rate,
            before: Vec::new(),
            cut: 0,
            written: 0,
        })
    }

    /// Frames come at a constant rate here: one that comes late is preceded by the one before once more, and one whose time
    /// has another already is left out.
    fn write_at(&mut self, pixels: &[u8], time: Option<gst::ClockTime>) -> Result<()> {
        let number = time.map_or(self.written, |time| {
            self.frames_in(time).saturating_sub(self.cut)
        });
        let late = number.saturating_sub(self.written);
        let most = self.frames_in(MOST_REPEATED);
        let before = std::mem::take(&mut self.before);
        let still = match before.is_empty() {
            true => pixels,
            false => &before,
        };
        let repeated = (0..late.min(most)).try_for_each(|_| self.write(still));
        self.before = before;
        repeated?;
        // A gap that is not filled is cut out.
        let cut = number.saturating_sub(self.written);
        if cut > 0 {
            let seconds = cut as f64 * f64::from(self.rate.denom()) / f64::from(self.rate.numer());
            log::warn!(
                "a gap of frames is too long to be filled: {seconds:.1} s of it are left out"
            );
        }
        self.cut += cut;
        if number < self.written {
            return Ok(());
        }
        self.before.clear();
        self.before.extend_from_slice(pixels);
        self.write(pixels)
    }

    fn frames_in(&self, time: gst::ClockTime) -> u64 {
        let (numer, denom) = (self.rate.numer() as u64, self.rate.denom() as u64);
        let frames = time.nseconds().mul_div_round(numer, denom * 1_000_000_000);
        frames.unwrap_or(u64::MAX)
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
    /// PNG files in a folder.
    Images,
}

impl Encoder {
    fn choose(path: &Path, format: Format, frames: &Frames) -> Result<Self> {
        ensure!(
            format == Format::Png || !path.is_dir(),
            "{}: is a folder; the video of this name cannot be written",
            path.display()
        );
        let (width, height) = frames.size;
        let choices: &[(&str, VideoFormat)] = match (format, frames.content) {
            (Format::Png, _) => return Ok(Self::Images),
            (Format::Mkv, Content::Alpha) => &[("avenc_ffv1 ! matroskamux", VideoFormat::Gray8)],
            (Format::Mkv, _) => &[("avenc_ffv1 ! matroskamux", VideoFormat::Bgra)],
            (Format::Mov, Content::Alpha) => &[("pngenc ! qtmux", VideoFormat::Gray8)],
            (Format::Mov, _) => &[
                (
                    "avenc_prores_ks profile=4444 alpha-bits=16 ! qtmux",
                    VideoFormat::A44410le,
                ),
                ("pngenc ! qtmux", VideoFormat::Rgba),
            ],
            (Format::Webm, Content::Alpha) => bail!(
                "{}: alpha alone is written as .mkv (FFV1), .mov (PNG) or a folder",
                path.display()
            ),
            (Format::Webm, _) => return Ok(Self::Ffmpeg),
            (Format::Mp4, Content::Opaque) if width % 2 == 1 || height % 2 == 1 => bail!(
                "{}: H.264 takes even sizes only, the frames are {width}x{height}; choose .mov, .webm, .mkv or a folder",
                path.display()
            ),
            (Format::Mp4, Content::Opaque) => &[(
                "x264enc speed-preset=medium pass=quant quantizer=18 ! h264parse ! mp4mux",
                VideoFormat::I420,
            )],
            (Format::Mp4, _) => bail!(
                "{}: .mp4 holds no alpha here; choose .mov, .webm, .mkv or a folder, or a background (--background)",
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
        Ok(Self::Pipeline { elements, format })
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

    fn create(path: &Path, elements: &str, encoded: VideoFormat, frames: &Frames) -> Result<Self> {
        let (width, height) = frames.size;
        let rate = frames.rate();
        let format = match frames.content {
            Content::Alpha => VideoFormat::Gray8,
            Content::Rgba | Content::Opaque => VideoFormat::Rgba,
        };
        let part = part_of(path);
        let mut info = gst_video::VideoInfo::builder(format, width, height)
            .fps(rate)
            .par(frames.pixel_aspect);
        let colours = frames.rgb().filter(|_| frames.content != Content::Alpha);
        if let Some(colours) = &colours {
            info = info.colorimetry(colours);
        }
        let info = info.build()?;
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

    fn create(path: &Path, content: Content, size: (u32, u32), resume: bool) -> Result<Writer> {
        let frames = Frames {
            content,
            size,
            rate: None,
            pixel_aspect: square(),
            colorimetry: None,
        };
        Writer::create(path, Format::of(path)?, &frames, resume)
    }

    fn has_ffmpeg() -> bool {
        let found = std::process::Command::new("ffmpeg")
            .arg("-version")
            .output();
        if found.is_err() {
            println!("skipped: ffmpeg is not installed");
        }
        found.is_ok()
    }

    /// Lets a pipeline write its file.
    fn run_to_end(pipeline: &gst::Element) {
        pipeline.set_state(gst::State::Playing).unwrap();
        let end = [gst::MessageType::Eos, gst::MessageType::Error];
        let bus = pipeline.bus().unwrap();
        let message = bus.timed_pop_filtered(gst::ClockTime::from_seconds(20), &end);
        pipeline.set_state(gst::State::Null).unwrap();
        assert_eq!(message.map(|m| m.type_()), Some(gst::MessageType::Eos));
    }

    fn round_trip(name: &str, gray: bool) {
        gst::init().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        let (width, height) = (33, 17);
        let written = frames(width, height, if gray { 1 } else { 4 });
        let content = match gray {
            true => Content::Alpha,
            false => Content::Rgba,
        };
        let mut writer = create(&path, content, (width, height), false).unwrap();
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
    fn frames_of_a_constant_rate_are_repeated_and_left_out_to_keep_their_time() {
        gst::init().unwrap();
        if !has_ffmpeg() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.webm");
        let mut writer = create(&path, Content::Rgba, (32, 16), false).unwrap();
        // At 30 frames a second: twice as fast, a gap of five, and one of an hour, which is wrong.
        let times = [0, 17, 33, 50, 67, 267, 3_600_000, 3_600_033, 3_600_200];
        for (number, time) in times.into_iter().enumerate() {
            let frame = vec![16 * number as u8; 32 * 16 * 4];
            let time = gst::ClockTime::from_mseconds(time);
            writer.write(&frame, (Some(time), None)).unwrap();
        }
        writer.finish().unwrap();
        let mut reader = Reader::open(&path, Want::Rgba).unwrap();
        let mut seen = Vec::new();
        while let Some(picture) = reader.read().unwrap() {
            let time = picture.timing().0.unwrap().mseconds();
            seen.push((time * 30 + 500) / 1000);
        }
        // 0, 1 and 2; what is at 8 after five of the one before; ten seconds of that; two more; another gap of four.
        assert!(seen.into_iter().eq(0..3 + 6 + 300 + 2 + 5));
    }

    #[test]
    fn unpadded_numbers_of_a_folder_are_in_their_order() {
        let dir = tempfile::tempdir().unwrap();
        for number in [1, 2, 9, 10, 11, 100] {
            let name = dir.path().join(format!("shot {number}.png"));
            std::fs::write(name, b"").unwrap();
        }
        let files = image_files(dir.path()).unwrap();
        let names = files.iter().map(|file| name_of(file).unwrap());
        let wanted = [1, 2, 9, 10, 11, 100].map(|n| format!("shot {n}"));
        assert_eq!(names.collect::<Vec<_>>(), wanted);
    }

    #[test]
    fn interlaced_video_is_refused_with_what_to_do() {
        gst::init().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.mkv");
        let line = format!(
            "videotestsrc num-buffers=3 ! video/x-raw,format=I420,width=32,height=16,framerate=25/1 ! \
             capssetter caps=video/x-raw,interlace-mode=interleaved,field-order=top-field-first ! \
             jpegenc ! matroskamux ! filesink location={}",
            path.display()
        );
        let Ok(pipeline) = gst::parse::launch(&line) else {
            eprintln!("skipped: GStreamer has no capssetter or jpegenc");
            return;
        };
        run_to_end(&pipeline);
        let error = Reader::open(&path, Want::Rgba).err().unwrap().to_string();
        assert!(
            error.contains("interleaved video; make it progressive"),
            "{error}"
        );
    }

    #[test]
    fn primaries_and_transfer_of_the_input_are_kept() {
        gst::init().unwrap();
        let dir = tempfile::tempdir().unwrap();
        for (name, given) in [
            ("a.mov", "bt2100-hlg"),
            ("b.mov", "bt709"),
            ("c.mp4", "bt709"),
        ] {
            let path = dir.path().join(name);
            let given: gst_video::VideoColorimetry = given.parse().unwrap();
            let frames = Frames {
                content: match name {
                    "c.mp4" => Content::Opaque,
                    _ => Content::Rgba,
                },
                size: (32, 16),
                rate: None,
                pixel_aspect: square(),
                colorimetry: Some(given),
            };
            let format = Format::of(&path).unwrap();
            let mut writer = Writer::create(&path, format, &frames, false).unwrap();
            for _ in 0..3 {
                writer.write(&[90; 32 * 16 * 4], (None, None)).unwrap();
            }
            writer.finish().unwrap();
            let reader = Reader::open(&path, Want::Colour).unwrap();
            let read = reader.colorimetry().unwrap();
            assert_eq!(
                (read.transfer(), read.primaries()),
                (given.transfer(), given.primaries()),
                "{name}"
            );
            assert_eq!(reader.is_hdr(), name == "a.mov");
        }
    }

    #[test]
    fn sound_beside_the_pictures_is_noticed() {
        gst::init().unwrap();
        let dir = tempfile::tempdir().unwrap();
        for sound in [true, false] {
            let path = dir.path().join(format!("{sound}.mkv"));
            let audio = match sound {
                true => "audiotestsrc num-buffers=9 ! audio/x-raw,rate=8000 ! mux.",
                false => "",
            };
            let line = format!(
                "matroskamux name=mux ! filesink location={} videotestsrc num-buffers=3 ! \
                 video/x-raw,width=32,height=16,framerate=30/1 ! videoconvert ! avenc_ffv1 ! mux. {audio}",
                path.display()
            );
            run_to_end(&gst::parse::launch(&line).unwrap());
            let mut reader = Reader::open(&path, Want::Rgba).unwrap();
            while reader.read().unwrap().is_some() {}
            assert_eq!(reader.has_sound(), sound);
            assert!(!reader.is_hdr());
        }
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
        let mut writer = create(&path, Content::Rgba, (64, 64), false).unwrap();
        writer.write(&frame, (None, None)).unwrap();
        writer.finish().unwrap();
        let mut reader = Reader::open(&path, Want::Alpha).unwrap();
        let alpha = reader.read().unwrap().unwrap().alpha().unwrap();
        let expected: Vec<u8> = frame.iter().skip(3).step_by(4).copied().collect();
        assert!(alpha == expected, "{:?}", &alpha[..8]);
    }

    #[test]
    fn what_holds_no_video_is_refused() {
        gst::init().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let sound = dir.path().join("a.wav");
        let write = format!(
            "audiotestsrc num-buffers=5 ! wavenc ! filesink location=\"{}\"",
            sound.display()
        );
        let pipeline = gst::parse::launch(&write).unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        let end = [gst::MessageType::Eos, gst::MessageType::Error];
        let patience = gst::ClockTime::from_seconds(10);
        let message = pipeline.bus().unwrap();
        let message = message.timed_pop_filtered(patience, &end).unwrap();
        pipeline.set_state(gst::State::Null).unwrap();
        assert_eq!(message.type_(), gst::MessageType::Eos);
        // A track of video without a frame.
        let empty = Path::new(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../tests/data/no-frames.mkv"
        ));
        for path in [&sound, empty] {
            let error = Reader::open(path, Want::Colour).err().unwrap();
            let said = format!("{error:#}");
            assert!(said.contains(NO_VIDEO), "{said}");
            assert!(said.contains(&path.display().to_string()), "{said}");
        }
    }

    #[test]
    fn what_holds_no_alpha_is_refused() {
        gst::init().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let refused = |name: &str, content| {
            let path = dir.path().join(name);
            let writer = create(&path, content, (16, 16), false);
            writer
                .err()
                .map(|error| error.to_string())
                .unwrap_or_default()
        };
        assert!(refused("a.webm", Content::Alpha).contains("alpha alone"));
        assert!(refused("a.mp4", Content::Rgba).contains(".mp4 holds no alpha"));
        let odd = Writer::create(
            &dir.path().join("a.mp4"),
            Format::Mp4,
            &Frames {
                content: Content::Opaque,
                size: (641, 361),
                rate: None,
                pixel_aspect: square(),
                colorimetry: None,
            },
            false,
        );
        let odd = odd.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(odd.contains("the frames are 641x361"), "{odd}");
        assert!(refused("a.avi", Content::Rgba).contains(".avi cannot be written"));
    }

    #[test]
    fn vp9_keeps_alpha() {
        gst::init().unwrap();
        if !has_ffmpeg() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.webm");
        let frame: Vec<u8> = (0..64 * 48)
            .flat_map(|i| [180, 90, 40, if i % 64 < 32 { 255 } else { 0 }])
            .collect();
        let mut writer = create(&path, Content::Rgba, (64, 48), false).unwrap();
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
        let mut writer = create(&path, Content::Opaque, (64, 48), false).unwrap();
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
        let mut writer = create(&path, Content::Rgba, (8, 6), false).unwrap();
        writer.write(&frames[0], (None, None)).unwrap();
        assert!(writer.salvage().contains("the 1 pictures before are in"));
        let refused = create(&path, Content::Rgba, (8, 6), false);
        assert!(refused.err().unwrap().to_string().contains("--resume"));
        let resized = create(&path, Content::Rgba, (9, 6), true);
        assert!(
            resized
                .err()
                .unwrap()
                .to_string()
                .contains("is 8x6, the frames are 9x6")
        );

        let first = path.join("000000.png");
        let before = fs::metadata(&first).unwrap().modified().unwrap();
        let mut writer = create(&path, Content::Rgba, (8, 6), true).unwrap();
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
        let mut writer = create(&path, Content::Rgba, size, false).unwrap();
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

    #[test]
    fn pixels_keep_their_shape() {
        gst::init().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let pixel_aspect = gst::Fraction::new(16, 15);
        let ffmpeg = std::process::Command::new("ffmpeg")
            .arg("-version")
            .output();
        for (format, content) in [
            (Format::Mov, Content::Rgba),
            (Format::Mkv, Content::Rgba),
            (Format::Mp4, Content::Opaque),
            (Format::Webm, Content::Rgba),
        ] {
            if format == Format::Webm && ffmpeg.is_err() {
                println!("skipped: ffmpeg is not installed");
                continue;
            }
            let path = format.path(dir.path(), "a");
            let frames = Frames {
                content,
                size: (72, 58),
                rate: None,
                pixel_aspect,
                colorimetry: None,
            };
            let mut writer = Writer::create(&path, format, &frames, false).unwrap();
            for _ in 0..3 {
                writer
                    .write(&[90, 120, 150, 255].repeat(72 * 58), (None, None))
                    .unwrap();
            }
            writer.finish().unwrap();
            let reader = Reader::open(&path, Want::Rgba).unwrap();
            let read = reader.pixel_aspect();
            // Matroska keeps the size at which a frame is shown, in whole pixels.
            let off = f64::from(read.numer()) / f64::from(read.denom()) * 15.0 / 16.0 - 1.0;
            assert!(off.abs() < 0.02, "{format:?}: {read}");
        }
    }

    #[test]
    fn a_video_that_lies_on_its_side_is_set_upright() {
        gst::init().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.mp4");
        let mut writer = create(&path, Content::Opaque, (64, 48), false).unwrap();
        for _ in 0..3 {
            let frame = [90, 120, 150, 255].repeat(64 * 48);
            writer.write(&frame, (None, None)).unwrap();
        }
        writer.finish().unwrap();
        // Phones write a turn by 90 degrees into the matrix of the track's header.
        let mut file = fs::read(&path).unwrap();
        let header = file.windows(4).position(|word| word == b"tkhd").unwrap();
        let matrix = header + if file[header + 4] == 0 { 44 } else { 56 };
        for (n, value) in [0, 0x1_0000, 0, -0x1_0000, 0i32].into_iter().enumerate() {
            file[matrix + n * 4..][..4].copy_from_slice(&value.to_be_bytes());
        }
        fs::write(&path, file).unwrap();
        for want in [Want::Colour, Want::Rgba, Want::Alpha] {
            let mut reader = Reader::open(&path, want).unwrap();
            let picture = reader.read().unwrap().unwrap();
            assert_eq!(picture.size(), (48, 64), "{want:?}");
        }
    }

    #[test]
    fn what_is_discarded_is_no_output() {
        gst::init().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let frames = frames(8, 6, 4);
        for name in ["a.mkv", "pictures"] {
            let path = dir.path().join(name);
            let mut writer = create(&path, Content::Rgba, (8, 6), false).unwrap();
            for frame in &frames {
                writer.write(frame, (None, None)).unwrap();
            }
            writer.discard().unwrap();
            assert!(!is_complete(&path) && !part_of(&path).exists(), "{name}");
        }
        let path = dir.path().join("pictures");
        assert_eq!(image_files(&path).unwrap().len(), 0);
        // What an earlier run has left stays.
        let mut writer = create(&path, Content::Rgba, (8, 6), false).unwrap();
        writer.write(&frames[0], (None, None)).unwrap();
        writer.finish().unwrap();
        let mut writer = create(&path, Content::Rgba, (8, 6), true).unwrap();
        for frame in &frames {
            writer.write(frame, (None, None)).unwrap();
        }
        writer.discard().unwrap();
        assert_eq!(
            image_files(&path).unwrap(),
            [path.join("000000.png")],
            "the first is not this run's"
        );
    }

    #[test]
    #[cfg(unix)]
    fn only_devices_are_cameras() {
        assert!(is_camera(Path::new("/dev/null")));
        let dir = tempfile::tempdir_in("/dev/shm")
            .or_else(|_| tempfile::tempdir())
            .unwrap();
        let file = dir.path().join("a.mp4");
        fs::write(&file, b"").unwrap();
        assert!(!is_camera(&file));
        assert!(!is_camera(Path::new("/dev/no-such-device")));
    }

    #[test]
    fn a_camera_ends_where_it_is_stopped() {
        gst::init().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.mkv");
        let mut writer = create(&path, Content::Rgba, (8, 6), false).unwrap();
        for frame in frames(8, 6, 4) {
            writer.write(&frame, (None, None)).unwrap();
        }
        writer.finish().unwrap();
        for camera in [false, true] {
            let stop = Arc::new(AtomicBool::new(false));
            let mut reader = Reader::open_until(&path, Want::Rgba, &stop).unwrap();
            // A file in its place: there is no camera here.
            if let Reader::Video(video) = &mut reader {
                video.camera = camera;
            }
            assert!(reader.read().unwrap().is_some());
            stop.store(true, Ordering::Relaxed);
            assert_eq!(reader.read().unwrap().is_none(), camera);
            // Nor is a first picture waited for.
            let stopped = Reader::open_until(&path, Want::Rgba, &stop).err().unwrap();
            assert!(stopped.to_string().ends_with(": interrupted"), "{stopped}");
        }
    }
}
