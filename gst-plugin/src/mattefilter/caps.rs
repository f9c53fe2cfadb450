//! Which formats the element takes and gives, and what becomes of the rest of the caps.

use gst_video::{VideoColorMatrix, VideoColorRange, VideoColorimetry, VideoFormat, VideoInfo};
use matte_core::{Colorimetry, OutputFormat, PixelFormat, YuvMatrix};

/// Formats of the sink pad, in the order of the template.
pub(super) const SINK_FORMATS: [VideoFormat; 14] = [
    VideoFormat::Rgba,
    VideoFormat::Bgra,
    VideoFormat::Argb,
    VideoFormat::Abgr,
    VideoFormat::Rgbx,
    VideoFormat::Bgrx,
    VideoFormat::Xrgb,
    VideoFormat::Xbgr,
    VideoFormat::Rgb,
    VideoFormat::Bgr,
    VideoFormat::Nv12,
    VideoFormat::I420,
    VideoFormat::Yuy2,
    VideoFormat::Uyvy,
];

/// Formats of the source pad, preferred first.
pub(super) const SRC_FORMATS: [VideoFormat; 6] = [
    VideoFormat::Rgba,
    VideoFormat::Bgra,
    VideoFormat::Argb,
    VideoFormat::Abgr,
    VideoFormat::A420,
    VideoFormat::Gray8,
];

/// The engine's name of a format of the sink pad.
pub(super) fn pixel_format(format: VideoFormat) -> Option<PixelFormat> {
    Some(match format {
        VideoFormat::Rgba => PixelFormat::Rgba,
        VideoFormat::Bgra => PixelFormat::Bgra,
        VideoFormat::Argb => PixelFormat::Argb,
        VideoFormat::Abgr => PixelFormat::Abgr,
        VideoFormat::Rgbx => PixelFormat::Rgbx,
        VideoFormat::Bgrx => PixelFormat::Bgrx,
        VideoFormat::Xrgb => PixelFormat::Xrgb,
        VideoFormat::Xbgr => PixelFormat::Xbgr,
        VideoFormat::Rgb => PixelFormat::Rgb,
        VideoFormat::Bgr => PixelFormat::Bgr,
        VideoFormat::Nv12 => PixelFormat::Nv12,
        VideoFormat::I420 => PixelFormat::I420,
        VideoFormat::Yuy2 => PixelFormat::Yuy2,
        VideoFormat::Uyvy => PixelFormat::Uyvy,
        _ => return None,
    })
}

/// The engine's name of a format of the source pad.
pub(super) fn output_format(format: VideoFormat) -> Option<OutputFormat> {
    Some(match format {
        VideoFormat::Rgba => OutputFormat::Rgba,
        VideoFormat::Bgra => OutputFormat::Bgra,
        VideoFormat::Argb => OutputFormat::Argb,
        VideoFormat::Abgr => OutputFormat::Abgr,
        VideoFormat::A420 => OutputFormat::A420,
        VideoFormat::Gray8 => OutputFormat::Gray8,
        _ => return None,
    })
}

/// How the luma and chroma of a stream become RGB.
pub(super) fn colorimetry(info: &VideoInfo) -> Colorimetry {
    let given = info.colorimetry();
    let matrix = match given.matrix() {
        VideoColorMatrix::Bt601 | VideoColorMatrix::Fcc => YuvMatrix::Bt601,
        VideoColorMatrix::Bt2020 => YuvMatrix::Bt2020,
        VideoColorMatrix::Bt709 | VideoColorMatrix::Smpte240m => YuvMatrix::Bt709,
        // Not said: what GStreamer assumes for the size.
        _ if info.height() > 576 => YuvMatrix::Bt709,
        _ => YuvMatrix::Bt601,
    };
    Colorimetry {
        matrix,
        full_range: given.range() == VideoColorRange::Range0_255,
    }
}

/// Caps of the other pad: everything but the format stays, and what only belongs to the format goes.
pub(super) fn transform(direction: gst::PadDirection, caps: &gst::CapsRef) -> gst::Caps {
    let formats: &[VideoFormat] = match direction {
        gst::PadDirection::Sink => &SRC_FORMATS,
        _ => &SINK_FORMATS,
    };
    let formats = gst::List::new(formats.iter().map(|f| f.to_str().as_str()));
    let mut other = gst::Caps::new_empty();
    let into = other.make_mut();
    for (structure, features) in caps.iter_with_features() {
        let mut structure = structure.to_owned();
        // A matrix of luma and chroma means nothing on RGB, and the other way round.
        structure.remove_fields(["colorimetry", "chroma-site"]);
        structure.set("format", &formats);
        // Once the format is gone, many structures are alike.
        if !into
            .iter_with_features()
            .any(|(s, f)| *s == *structure && f.is_equal(features))
        {
            into.append_structure_full(structure, Some(features.to_owned()));
        }
    }
    other
}

/// Takes the format that this element prefers, and says what its values mean: the primaries and the transfer function of
/// the source, which undoing the matrix does not change, and where luma and chroma stay, its matrix and range as well.
pub(super) fn prefer(input: &gst::CapsRef, output: &mut gst::CapsRef) {
    let Some(structure) = output.structure_mut(0) else {
        return;
    };
    let allowed: Vec<String> = match structure.value("format") {
        Ok(value) => match (value.get::<gst::List>(), value.get::<String>()) {
            (Ok(list), _) => list.iter().filter_map(|f| f.get().ok()).collect(),
            (_, Ok(format)) => vec![format],
            _ => return,
        },
        Err(_) => return,
    };
    let Some(format) = SRC_FORMATS
        .into_iter()
        .find(|f| allowed.iter().any(|a| a == f.to_str().as_str()))
    else {
        return;
    };
    structure.set("format", format.to_str());
    if format == VideoFormat::Gray8 || structure.has_field("colorimetry") {
        return;
    }
    let Ok(info) = VideoInfo::from_caps(input) else {
        return;
    };
    let given = info.colorimetry();
    if format == VideoFormat::A420 {
        if info.is_yuv() {
            structure.set("colorimetry", given.to_string());
        }
        return;
    }
    let range = match info.is_yuv() {
        true => VideoColorRange::Range0_255,
        false => given.range(),
    };
    let colorimetry = VideoColorimetry::new(
        range,
        VideoColorMatrix::Rgb,
        given.transfer(),
        given.primaries(),
    );
    structure.set("colorimetry", colorimetry.to_string());
}
