//! The engine's pixel formats against GStreamer's `videoconvert`, on a chart of flat fields: within ±1.

use gst::prelude::*;
use gst_app::{AppSink, AppSrc};
use gst_video::prelude::*;
use gst_video::{VideoFormat, VideoFrame, VideoInfo};
use matte_core::{
    AlphaMode, Colorimetry, Frame, Mask, Options, OutputFormat, OutputMut, PixelFormat, Plane,
    PlaneMut, Policy, Renderer, YuvMatrix,
};
use matte_tests::init;

/// `videoconvert` rounds several times on its way: it is up to five steps off the standards' formula, which the element's
/// own tests hold every format to within one.
const VIDEOCONVERT: u8 = 5;

/// Side of a field, pixels; its middle is compared, as the chroma of neighbours mixes.
const FIELD: usize = 8;
const COLUMNS: usize = 9;
const ROWS: usize = 6;
const WIDTH: usize = FIELD * COLUMNS;
const HEIGHT: usize = FIELD * ROWS;

/// Primaries, greys, skin, and colours from all over the cube.
fn colour(field: usize) -> [u8; 3] {
    const FIRST: [[u8; 3]; 14] = [
        [255, 0, 0],
        [0, 255, 0],
        [0, 0, 255],
        [0, 255, 255],
        [255, 0, 255],
        [255, 255, 0],
        [0, 0, 0],
        [255, 255, 255],
        [128, 128, 128],
        [16, 16, 16],
        [235, 235, 235],
        [224, 172, 105],
        [141, 85, 36],
        [255, 219, 172],
    ];
    FIRST.get(field).copied().unwrap_or_else(|| {
        let v = (field as u32).wrapping_mul(2_654_435_761);
        [(v >> 24) as u8, (v >> 16) as u8, (v >> 8) as u8]
    })
}

fn chart() -> Vec<u8> {
    (0..WIDTH * HEIGHT)
        .flat_map(|i| colour(i / WIDTH / FIELD * COLUMNS + i % WIDTH / FIELD))
        .collect()
}

const MATRICES: [(YuvMatrix, u8); 3] = [
    (YuvMatrix::Bt601, 4),
    (YuvMatrix::Bt709, 3),
    (YuvMatrix::Bt2020, 6),
];

/// In GStreamer's numbers: range, matrix, transfer function and primaries; the last two stay, so that only the matrix
/// and the range matter.
fn colorimetry(matrix: u8, full_range: bool) -> String {
    format!("{}:{matrix}:5:1", if full_range { 1 } else { 2 })
}

fn caps(format: VideoFormat, colorimetry: &str) -> gst::Caps {
    gst::Caps::builder("video/x-raw")
        .field("format", format.to_str())
        .field("width", WIDTH as i32)
        .field("height", HEIGHT as i32)
        .field("framerate", gst::Fraction::new(30, 1))
        .field("colorimetry", colorimetry)
        .build()
}

/// One frame through `videoconvert`.
fn convert(buffer: gst::Buffer, from: &gst::Caps, to: &gst::Caps) -> gst::Buffer {
    let pipeline = gst::Pipeline::new();
    let source = AppSrc::builder()
        .caps(from)
        .format(gst::Format::Time)
        .build();
    let convert = gst::ElementFactory::make("videoconvert").build().unwrap();
    let sink = AppSink::builder().caps(to).sync(false).build();
    pipeline
        .add_many([source.upcast_ref(), &convert, sink.upcast_ref()])
        .unwrap();
    gst::Element::link_many([source.upcast_ref(), &convert, sink.upcast_ref()]).unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    source.push_buffer(buffer).unwrap();
    source.end_of_stream().unwrap();
    let sample = sink.pull_sample().unwrap();
    pipeline.set_state(gst::State::Null).unwrap();
    sample.buffer_owned().unwrap()
}

/// The chart as RGB in a buffer with GStreamer's strides.
fn rgb_buffer(info: &VideoInfo) -> gst::Buffer {
    let mut buffer = gst::Buffer::with_size(info.size()).unwrap();
    {
        let writable = buffer.get_mut().unwrap();
        writable.set_pts(gst::ClockTime::ZERO);
        let mut frame = gst_video::VideoFrameRef::from_buffer_ref_writable(writable, info).unwrap();
        let stride = frame.plane_stride()[0] as usize;
        let rows = frame.plane_data_mut(0).unwrap().chunks_mut(stride);
        for (row, source) in rows.zip(chart().chunks(WIDTH * 3)) {
            row[..WIDTH * 3].copy_from_slice(source);
        }
    }
    buffer
}

fn view(
    frame: &VideoFrame<gst_video::video_frame::Readable>,
    format: PixelFormat,
    colorimetry: Colorimetry,
) -> Frame<'_> {
    let planes: Vec<Plane<'_>> = (0..format.planes())
        .map(|i| Plane {
            data: frame.plane_data(i as u32).unwrap(),
            stride: frame.plane_stride()[i] as usize,
        })
        .collect();
    Frame::new(format, WIDTH as u32, HEIGHT as u32, &planes, colorimetry).unwrap()
}

fn readable(buffer: gst::Buffer, caps: &gst::Caps) -> VideoFrame<gst_video::video_frame::Readable> {
    VideoFrame::from_buffer_readable(buffer, &VideoInfo::from_caps(caps).unwrap()).unwrap()
}

/// Largest difference between two planes in the middles of the fields, which have `field` samples along a side.
fn difference(
    (a, a_stride): (&[u8], usize),
    (b, b_stride): (&[u8], usize),
    samples: usize,
    field: usize,
) -> u8 {
    let mut worst = 0;
    for row in 0..ROWS {
        for column in 0..COLUMNS {
            let (x, y) = (column * field + field / 2, row * field + field / 2);
            for s in 0..samples {
                let p = a[y * a_stride + x * samples + s];
                let q = b[y * b_stride + x * samples + s];
                worst = worst.max(p.abs_diff(q));
            }
        }
    }
    worst
}

fn renderer() -> Renderer {
    Renderer::new(&Options::default()).unwrap()
}

#[test]
fn every_luma_and_chroma_input_becomes_the_rgb_of_videoconvert() {
    init();
    let rgb_caps = caps(VideoFormat::Rgb, "1:1:5:1");
    let rgb_info = VideoInfo::from_caps(&rgb_caps).unwrap();
    for (matrix, number) in MATRICES {
        for full_range in [false, true] {
            let given = colorimetry(number, full_range);
            for (format, name) in [
                (PixelFormat::Nv12, VideoFormat::Nv12),
                (PixelFormat::I420, VideoFormat::I420),
                (PixelFormat::Yuy2, VideoFormat::Yuy2),
                (PixelFormat::Uyvy, VideoFormat::Uyvy),
            ] {
                let yuv_caps = caps(name, &given);
                let yuv = convert(rgb_buffer(&rgb_info), &rgb_caps, &yuv_caps);
                // Through a format of 16 bits: the short cuts of `videoconvert` for 8 bits are coarser than ±1.
                let deep = caps(VideoFormat::Argb64, "1:1:5:1");
                let theirs = convert(yuv.clone(), &yuv_caps, &deep);
                let theirs = readable(theirs, &deep);
                let theirs: Vec<u8> = theirs
                    .plane_data(0)
                    .unwrap()
                    .as_chunks::<2>()
                    .0
                    .iter()
                    .map(|v| ((u32::from(u16::from_ne_bytes(*v)) * 255 + 32767) / 65535) as u8)
                    .collect();
                let yuv = readable(yuv, &yuv_caps);
                let frame = view(&yuv, format, Colorimetry { matrix, full_range });
                let mut ours = vec![0; WIDTH * HEIGHT * 4];
                let mut out = OutputMut::new(
                    OutputFormat::Argb,
                    WIDTH as u32,
                    HEIGHT as u32,
                    &mut ours,
                    WIDTH * 4,
                )
                .unwrap();
                renderer()
                    .render_without_matte(Policy::PassThrough, &frame, &mut out)
                    .unwrap();
                let worst = difference((&ours, WIDTH * 4), (&theirs, WIDTH * 4), 4, FIELD);
                assert!(
                    worst <= VIDEOCONVERT,
                    "{} {matrix:?} full range {full_range}: {worst}",
                    format.name()
                );
            }
        }
    }
}

fn planar(frame: &Frame<'_>, colorimetry: Colorimetry, options: &Options) -> Vec<Vec<u8>> {
    let (width, height) = frame.size();
    let mut data: Vec<(Vec<u8>, usize)> = (0..4)
        .map(|i| {
            let (row, rows) = OutputFormat::A420.plane_size(i, width, height);
            (vec![0; (row + 5) * rows], row + 5)
        })
        .collect();
    let mut planes = data.iter_mut().map(|(data, stride)| PlaneMut {
        data,
        stride: *stride,
    });
    let planes: [PlaneMut<'_>; 4] = std::array::from_fn(|_| planes.next().unwrap());
    let mut out =
        OutputMut::with_planes(OutputFormat::A420, width, height, planes, colorimetry).unwrap();
    let mask = vec![255; (width * height) as usize];
    let mask = Mask::new(width, height, &mask, width as usize).unwrap();
    Renderer::new(options)
        .unwrap()
        .render_mask(&mask, frame, &mut out)
        .unwrap();
    data.into_iter()
        .enumerate()
        .map(|(i, (data, stride))| {
            let (row, _) = OutputFormat::A420.plane_size(i, width, height);
            data.chunks(stride)
                .flat_map(|r| r[..row].to_vec())
                .collect()
        })
        .collect()
}

#[test]
fn rgb_becomes_the_luma_and_chroma_of_videoconvert() {
    init();
    let rgb_caps = caps(VideoFormat::Rgb, "1:1:5:1");
    let rgb_info = VideoInfo::from_caps(&rgb_caps).unwrap();
    let rgb = readable(rgb_buffer(&rgb_info), &rgb_caps);
    let frame = view(&rgb, PixelFormat::Rgb, Colorimetry::default());
    for (matrix, number) in MATRICES {
        for full_range in [false, true] {
            let planar_caps = caps(VideoFormat::A420, &colorimetry(number, full_range));
            let theirs = convert(rgb_buffer(&rgb_info), &rgb_caps, &planar_caps);
            let theirs = readable(theirs, &planar_caps);
            let ours = planar(
                &frame,
                Colorimetry { matrix, full_range },
                &Options::default(),
            );
            for (i, plane) in ours.iter().enumerate() {
                let (field, width) = match i {
                    1 | 2 => (FIELD / 2, WIDTH / 2),
                    _ => (FIELD, WIDTH),
                };
                let theirs = (
                    theirs.plane_data(i as u32).unwrap(),
                    theirs.plane_stride()[i] as usize,
                );
                let worst = difference((plane, width), theirs, 1, field);
                assert!(
                    worst <= VIDEOCONVERT,
                    "{matrix:?} full range {full_range}, plane {i}: {worst}"
                );
            }
        }
    }
}

#[test]
fn luma_and_chroma_pass_unchanged_where_nothing_is_done_to_the_colour() {
    init();
    // Odd, with padded strides, and values that no RGB has: only a copy keeps them.
    let (width, height) = (33u32, 17u32);
    let noise = |n: usize, seed: u32| -> Vec<u8> {
        (0..n as u32)
            .map(|i| ((i + seed).wrapping_mul(2_654_435_761) >> 23) as u8)
            .collect()
    };
    for format in [
        PixelFormat::I420,
        PixelFormat::Nv12,
        PixelFormat::Yuy2,
        PixelFormat::Uyvy,
    ] {
        let data: Vec<(Vec<u8>, usize)> = (0..format.planes())
            .map(|i| {
                let (row, rows) = format.plane_size(i, width, height);
                (noise((row + 3) * rows, i as u32 * 999), row + 3)
            })
            .collect();
        let planes: Vec<Plane<'_>> = data
            .iter()
            .map(|(data, stride)| Plane {
                data,
                stride: *stride,
            })
            .collect();
        let colorimetry = Colorimetry {
            matrix: YuvMatrix::Bt601,
            full_range: false,
        };
        let frame = Frame::new(format, width, height, &planes, colorimetry).unwrap();
        let out = planar(&frame, colorimetry, &Options::default());
        let (cw, ch) = (17usize, 9usize);
        let at = |plane: usize, x: usize, y: usize| data[plane].0[y * data[plane].1 + x];
        for y in 0..height as usize {
            for x in 0..width as usize {
                let luma = match format {
                    PixelFormat::Yuy2 => at(0, x * 2, y),
                    PixelFormat::Uyvy => at(0, x * 2 + 1, y),
                    _ => at(0, x, y),
                };
                assert_eq!(out[0][y * width as usize + x], luma, "{}", format.name());
            }
        }
        for y in 0..ch {
            for x in 0..cw {
                // 4:2:2 has a chroma row for each row: the mean of two is taken, of the last one alone.
                let pair = |first: usize| {
                    let (a, b) = (
                        at(0, x * 4 + first, y * 2),
                        at(0, x * 4 + first, (y * 2 + 1).min(height as usize - 1)),
                    );
                    (u16::from(a) + u16::from(b)).div_ceil(2) as u8
                };
                let (u, v) = match format {
                    PixelFormat::I420 => (at(1, x, y), at(2, x, y)),
                    PixelFormat::Nv12 => (at(1, x * 2, y), at(1, x * 2 + 1, y)),
                    PixelFormat::Yuy2 => (pair(1), pair(3)),
                    _ => (pair(0), pair(2)),
                };
                assert_eq!(
                    (out[1][y * cw + x], out[2][y * cw + x]),
                    (u, v),
                    "{} {x} {y}",
                    format.name()
                );
            }
        }
        assert!(out[3].iter().all(|a| *a == 255));
    }
}

#[test]
fn premultiplied_colour_is_colour_times_alpha() {
    let (width, height) = (64u32, 4u32);
    let rgba: Vec<u8> = (0..width * height)
        .flat_map(|i| [(i * 3) as u8, 200, 255 - (i % 64) as u8, 255])
        .collect();
    let frame = Frame::packed(PixelFormat::Rgba, width, height, &rgba, 256).unwrap();
    let alpha: Vec<u8> = (0..width * height).map(|i| (i * 4 % 256) as u8).collect();
    let mask = Mask::new(width, height, &alpha, 64).unwrap();
    let options = Options {
        alpha_mode: AlphaMode::Premultiplied,
        ..Options::default()
    };
    let mut out = vec![0; rgba.len()];
    let mut view = OutputMut::new(OutputFormat::Rgba, width, height, &mut out, 256).unwrap();
    Renderer::new(&options)
        .unwrap()
        .render_mask(&mask, &frame, &mut view)
        .unwrap();
    for ((got, source), a) in out.chunks(4).zip(rgba.chunks(4)).zip(&alpha) {
        for c in 0..3 {
            let wanted = (f32::from(source[c]) * f32::from(*a) / 255.0).round() as u8;
            assert_eq!(got[c], wanted);
        }
        assert_eq!(got[3], *a);
    }
}
