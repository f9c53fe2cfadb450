//! Buffers as the views that the engine takes.

use gst_video::prelude::*;
use gst_video::{VideoCropMeta, VideoFrameRef, VideoInfo};
use matte_core::{Colorimetry, Frame, OutputMut, Plane, PlaneMut};

use super::caps;
use super::errors::error_message;

/// What the caps say about a stream.
#[derive(Debug, Clone)]
pub(super) struct Stream {
    pub(super) info: VideoInfo,
    pub(super) colorimetry: Colorimetry,
}

impl Stream {
    pub(super) fn new(info: &VideoInfo) -> Self {
        Self {
            info: info.clone(),
            colorimetry: caps::colorimetry(info),
        }
    }

    pub(super) fn size(&self) -> (u32, u32) {
        (self.info.width(), self.info.height())
    }
}

/// A frame at hand, and the buffer that it lies in.
pub(super) struct Picture<'a> {
    pub(super) view: Frame<'a>,
    pub(super) buffer: &'a gst::BufferRef,
}

/// Where the picture begins in a buffer that may hold more of it than the caps say.
fn origin(
    frame: &VideoFrameRef<&gst::BufferRef>,
    (width, height): (u32, u32),
) -> Result<(u32, u32), String> {
    let (x, y, crop_width, crop_height) = frame
        .buffer()
        .meta::<VideoCropMeta>()
        .map_or((0, 0, width, height), |crop| crop.rect());
    // Decoders that do not touch the caps crop to what the caps say, or to less at the right and at the bottom.
    let fits = |from: u32, size: u32, all: u32| from.checked_add(size).is_some_and(|n| n <= all);
    if crop_width < width
        || crop_height < height
        || !fits(x, width, frame.width())
        || !fits(y, height, frame.height())
    {
        return Err(format!(
            "the crop {crop_width}x{crop_height} at {x}, {y} of a picture of {}x{}, but the caps say {width}x{height}",
            frame.width(),
            frame.height()
        ));
    }
    Ok((x, y))
}

/// The picture of a buffer, cropped as its `GstVideoCropMeta` says.
pub(super) fn input<'a>(
    frame: &'a VideoFrameRef<&gst::BufferRef>,
    stream: &Stream,
) -> Result<Frame<'a>, gst::ErrorMessage> {
    let wrong = |what: &str| gst::error_msg!(gst::StreamError::Format, ("input buffer: {what}"));
    let format = caps::pixel_format(frame.format())
        .ok_or_else(|| wrong("format that the caps do not allow"))?;
    let (width, height) = stream.size();
    let (x, y) = origin(frame, stream.size()).map_err(|e| wrong(&e))?;
    let described = frame.format_info();
    let mut planes = [Plane::default(); 4];
    for (i, plane) in planes.iter_mut().enumerate().take(format.planes()) {
        let stride =
            usize::try_from(frame.plane_stride()[i]).map_err(|_| wrong("negative stride"))?;
        let component = (0..described.n_components() as usize)
            .rfind(|c| described.plane()[*c] as usize == i)
            .ok_or_else(|| wrong("plane without a component"))?;
        // Half a pixel of chroma is lost where a crop begins at an odd pixel: subsampled chroma has no such place.
        let column = (x >> described.w_sub()[component]) as usize
            * described.pixel_stride()[component].unsigned_abs() as usize;
        let row = (y >> described.h_sub()[component]) as usize;
        let data = frame
            .plane_data(i as u32)
            .map_err(|e| wrong(&e.to_string()))?;
        *plane = Plane {
            data: data.get(row * stride + column..).unwrap_or_default(),
            stride,
        };
    }
    Frame::new(format, width, height, &planes, stream.colorimetry).map_err(|e| error_message(&e))
}

/// The picture that is to be written.
pub(super) fn output<'a>(
    frame: &'a mut VideoFrameRef<&mut gst::BufferRef>,
) -> Result<OutputMut<'a>, gst::ErrorMessage> {
    let wrong = |what: &str| gst::error_msg!(gst::StreamError::Format, ("output buffer: {what}"));
    let format = caps::output_format(frame.format())
        .ok_or_else(|| wrong("format that the caps do not allow"))?;
    let colorimetry = caps::colorimetry(frame.info());
    let (width, height) = (frame.width(), frame.height());
    let mut strides = [0; 4];
    for (stride, given) in strides.iter_mut().zip(frame.plane_stride()) {
        *stride = usize::try_from(*given).map_err(|_| wrong("negative stride"))?;
    }
    let mut strides = strides.into_iter();
    let planes = frame.planes_data_mut().map(|data| PlaneMut {
        data,
        stride: strides.next().unwrap_or_default(),
    });
    OutputMut::with_planes(format, width, height, planes, colorimetry)
        .map_err(|e| error_message(&e))
}
