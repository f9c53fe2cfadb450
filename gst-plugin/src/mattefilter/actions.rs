//! What an application asks for, to be done with the next frame.

use gst_video::prelude::*;
use gst_video::{VideoConverter, VideoFormat, VideoFrame, VideoInfo};
use matte_core::{Mask, MaskImage};

use super::engine::Opening;

/// A mask that owns its pixels.
#[derive(Debug, Clone)]
pub(super) enum OwnedMask {
    /// From a file.
    Image(MaskImage),
    /// From an application.
    Grey {
        width: u32,
        height: u32,
        data: Vec<u8>,
    },
}

impl OwnedMask {
    pub(super) fn view(&self) -> Result<Mask<'_>, matte_core::Error> {
        match self {
            Self::Image(image) => Ok(image.as_mask()),
            Self::Grey {
                width,
                height,
                data,
            } => Mask::new(*width, *height, data, *width as usize),
        }
    }

    /// The mask in a sample: its alpha where the format has one, otherwise its luma.
    ///
    /// # Errors
    /// In words, when there is no picture in it.
    pub(super) fn from_sample(sample: &gst::Sample) -> Result<Self, String> {
        let (buffer, info) = picture(sample)?;
        let (width, height) = (info.width(), info.height());
        let grey = |frame: &VideoFrame<gst_video::video_frame::Readable>,
                    plane: u32,
                    first: usize,
                    step: usize|
         -> Result<Self, String> {
            let stride = frame.plane_stride()[plane as usize].unsigned_abs() as usize;
            let rows = frame.plane_data(plane).map_err(|e| e.to_string())?;
            let data = rows
                .chunks(stride)
                .take(height as usize)
                .flat_map(|row| row.iter().skip(first).step_by(step).take(width as usize))
                .copied()
                .collect();
            Ok(Self::Grey {
                width,
                height,
                data,
            })
        };
        let frame =
            VideoFrame::from_buffer_readable(buffer, &info).map_err(|_| unreadable(&info))?;
        // The bytes of the alpha of the usual formats; the others go through a conversion.
        let alpha = match info.format() {
            VideoFormat::Rgba | VideoFormat::Bgra => Some((0, 3, 4)),
            VideoFormat::Argb | VideoFormat::Abgr | VideoFormat::Ayuv => Some((0, 0, 4)),
            VideoFormat::A420 => Some((3, 0, 1)),
            VideoFormat::Gray8 => Some((0, 0, 1)),
            _ => None,
        };
        if let Some((plane, first, step)) = alpha {
            let mask = grey(&frame, plane, first, step)?;
            // Alpha that is opaque everywhere says nothing: such a picture shows the mask, as in a file.
            let opaque = matches!(&mask, Self::Grey { data, .. } if data.iter().all(|a| *a == 255));
            if !opaque || info.format() == VideoFormat::Gray8 {
                return Ok(mask);
            }
        }
        let grey_info = VideoInfo::builder(VideoFormat::Gray8, width, height)
            .build()
            .map_err(|e| e.to_string())?;
        grey(&convert(&frame, &grey_info)?, 0, 0, 1)
    }
}

/// A whole picture, in the format and size of a stream.
pub(super) fn converted(
    sample: &gst::Sample,
    into: &VideoInfo,
) -> Result<VideoFrame<gst_video::video_frame::Readable>, String> {
    let (buffer, info) = picture(sample)?;
    let frame = VideoFrame::from_buffer_readable(buffer, &info).map_err(|_| unreadable(&info))?;
    if (info.format(), info.width(), info.height()) == (into.format(), into.width(), into.height())
    {
        return Ok(frame);
    }
    convert(&frame, into)
}

/// A copy to keep: the original may belong to a pool that waits for it.
pub(super) fn kept(buffer: &gst::BufferRef, info: &VideoInfo) -> Result<gst::Sample, String> {
    let copy = buffer.copy_deep().map_err(|e| e.to_string())?;
    let caps = info.to_caps().map_err(|e| e.to_string())?;
    Ok(gst::Sample::builder().buffer(&copy).caps(&caps).build())
}

/// As [`kept`].
pub(super) fn kept_sample(sample: &gst::Sample) -> Result<gst::Sample, String> {
    let (buffer, info) = picture(sample)?;
    kept(&buffer, &info)
}

fn convert(
    frame: &VideoFrame<gst_video::video_frame::Readable>,
    into: &VideoInfo,
) -> Result<VideoFrame<gst_video::video_frame::Readable>, String> {
    let out = gst::Buffer::with_size(into.size()).map_err(|e| e.to_string())?;
    let mut out = VideoFrame::from_buffer_writable(out, into).map_err(|_| unreadable(into))?;
    VideoConverter::new(frame.info(), into, None)
        .map_err(|e| e.to_string())?
        .frame(frame, &mut out);
    VideoFrame::from_buffer_readable(out.into_buffer(), into).map_err(|_| unreadable(into))
}

fn picture(sample: &gst::Sample) -> Result<(gst::Buffer, VideoInfo), String> {
    let caps = sample.caps().ok_or("the sample has no caps")?;
    let buffer = sample.buffer_owned().ok_or("the sample has no buffer")?;
    let info =
        VideoInfo::from_caps(caps).map_err(|_| format!("the sample is no raw video: {caps}"))?;
    Ok((buffer, info))
}

fn unreadable(info: &VideoInfo) -> String {
    format!(
        "the sample's buffer cannot be mapped as {} of {}x{}",
        info.format(),
        info.width(),
        info.height()
    )
}

/// What is to be done before a frame is predicted.
#[derive(Debug)]
pub(super) enum Action {
    /// The mask names a new target.
    Seed { mask: OwnedMask, how: &'static str },
    /// Who is at this place of the frame, in pixels, is the new target.
    SeedAt { x: f64, y: f64 },
    /// The mask is what the target covers on this frame.
    Correct(OwnedMask),
    /// A frame with its mask is remembered for good. Without a frame it is the one at hand.
    AddReference {
        id: u64,
        mask: OwnedMask,
        frame: Option<gst::Sample>,
    },
    /// It is not remembered any more.
    RemoveReference { id: u64 },
    /// The mask names one more target, beside those that there are.
    AddTarget {
        id: u64,
        mask: OwnedMask,
        /// Its engine, where that is being opened already.
        begun: Option<Opening>,
    },
    /// It is not followed any more.
    RemoveTarget { id: u64 },
    /// Everything is forgotten; the target is named as at the start.
    Reset,
    /// The frames come from elsewhere now: as `Reset`, but a mask that has been used does not fit any more.
    NewSource,
}

impl Action {
    /// Whether all that is known about targets is forgotten.
    pub(super) fn forgets(&self) -> bool {
        matches!(self, Self::Reset | Self::NewSource)
    }
}
