//! What `mattefilter` promises, shown on the element alone.
//!
//! The tests run the shipped package `lite` at a small working size. Where ONNX Runtime is not installed, those that
//! need it skip and say so.

#![allow(clippy::print_stderr, reason = "a skipped test says why")]

mod common;

use common::*;
use gst::prelude::*;
use gst_video::prelude::*;
use gst_video::{
    VideoConverter, VideoConverterConfig, VideoCropMeta, VideoDitherMethod, VideoFormat,
    VideoFrame, VideoFrameRef, VideoInfo, VideoMeta,
};
use matte_core::Options;

fn every_format(template: &str) -> Vec<VideoFormat> {
    init();
    let factory = gst::ElementFactory::find("mattefilter").unwrap();
    let template = factory
        .static_pad_templates()
        .into_iter()
        .find(|t| t.name_template() == template)
        .unwrap();
    let caps = template.caps();
    let formats = caps
        .structure(0)
        .unwrap()
        .get::<gst::List>("format")
        .unwrap();
    formats
        .iter()
        .map(|f| VideoFormat::from_string(f.get().unwrap()))
        .collect()
}

#[test]
fn the_templates_list_the_formats_that_the_documentation_names() {
    let names = |pad| {
        every_format(pad)
            .into_iter()
            .map(|f| f.to_string())
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(
        names("sink"),
        "RGBA BGRA ARGB ABGR RGBx BGRx xRGB xBGR RGB BGR NV12 I420 YUY2 UYVY"
    );
    assert_eq!(names("src"), "RGBA BGRA ARGB ABGR A420 GRAY8");
}

#[test]
fn every_input_format_negotiates_and_gives_rgba_with_the_figure_cut_out() {
    if !ready() {
        return;
    }
    let size = (WIDTH, HEIGHT);
    let mask = MaskFile::new(size, 0);
    for format in every_format("sink") {
        let info = info(format, size);
        let mut filter = Filter::new(&[("mask-location", mask.location())], &info, "video/x-raw");
        for t in 0..3 {
            let out = filter.push(picture(&info, t));
            let output = filter.output();
            assert_eq!(
                (output.format(), output.width(), output.height()),
                (VideoFormat::Rgba, WIDTH, HEIGHT)
            );
            assert_eq!(output.fps(), gst::Fraction::new(25, 1), "{format}");
            assert_eq!(out.size(), (WIDTH * HEIGHT * 4) as usize, "{format}");
            let rows = rows(&out, &output);
            let (figure, room) = separation(&rows, 4, 3, size, t);
            assert!(
                figure > room + 0.3,
                "{format}, frame {t}: matte {figure:.3} on the figure, {room:.3} elsewhere"
            );
            // Where the figure is whole, its colour is the picture's, whatever the format did to it on the way.
            let (x, y) = (WIDTH as usize / 2, HEIGHT as usize * 3 / 4);
            let pixel = &rows[y][x * 4..][..4];
            for (got, want) in pixel.iter().zip(rgba(x as u32, y as u32, size, t)).take(3) {
                assert!(got.abs_diff(want) <= 4, "{format}: {pixel:?} at {x}, {y}");
            }
        }
        assert_eq!(errors(&filter.bus), [""; 0], "{format}");
    }
}

/// Rows of one plane of bytes, without padding.
fn plane_rows(buffer: &gst::Buffer, info: &VideoInfo, plane: u32) -> Vec<Vec<u8>> {
    let frame = VideoFrameRef::from_buffer_ref_readable(buffer.as_ref(), info).unwrap();
    let stride = frame.plane_stride()[plane as usize] as usize;
    let component = plane as u8;
    frame
        .plane_data(plane)
        .unwrap()
        .chunks(stride)
        .take(info.comp_height(component) as usize)
        .map(|r| r[..info.comp_width(component) as usize].to_vec())
        .collect()
}

#[test]
fn every_output_format_carries_the_same_matte_and_colours() {
    if !ready() {
        return;
    }
    let size = (WIDTH, HEIGHT);
    let mask = MaskFile::new(size, 0);
    let info = info(VideoFormat::I420, size);
    let mut reference: Option<Vec<Vec<u8>>> = None;
    for format in every_format("src") {
        let caps = format!("video/x-raw,format={format}");
        let mut filter = Filter::new(&[("mask-location", mask.location())], &info, &caps);
        let out = (0..2)
            .map(|t| filter.push(picture(&info, t)))
            .next_back()
            .unwrap();
        let output = filter.output();
        assert_eq!(output.format(), format);
        let order: &[usize] = match format {
            VideoFormat::Rgba => &[0, 1, 2, 3],
            VideoFormat::Bgra => &[2, 1, 0, 3],
            VideoFormat::Argb => &[1, 2, 3, 0],
            VideoFormat::Abgr => &[3, 2, 1, 0],
            _ => &[],
        };
        let alpha: Vec<Vec<u8>> = match format {
            VideoFormat::A420 => plane_rows(&out, &output, 3),
            VideoFormat::Gray8 => plane_rows(&out, &output, 0),
            _ => rows(&out, &output)
                .iter()
                .map(|row| row.chunks_exact(4).map(|pixel| pixel[order[3]]).collect())
                .collect(),
        };
        let reference = reference.get_or_insert_with(|| rows(&out, &output));
        for (y, (got, expected)) in alpha.iter().zip(reference.iter()).enumerate() {
            let expected: Vec<u8> = expected.chunks_exact(4).map(|p| p[3]).collect();
            assert_eq!(got, &expected, "matte of {format}, row {y}");
        }
        if format == VideoFormat::A420 {
            let source = picture(&info, 1);
            for (plane, black) in [(0, 16), (1, 128), (2, 128)] {
                let step = if plane == 0 { 1 } else { 2 };
                let got = plane_rows(&out, &output, plane);
                let expected = plane_rows(&source, &info, plane);
                for (y, (got, expected)) in got.iter().zip(&expected).enumerate() {
                    for (x, (got, expected)) in got.iter().zip(expected).enumerate() {
                        // Far from the figure nothing is left of the picture.
                        let is_hidden = *got == black && alpha[y * step][x * step] == 0;
                        assert!(got == expected || is_hidden, "plane {plane}, {x},{y}");
                    }
                }
            }
            assert_eq!(output.colorimetry(), info.colorimetry());
        }
        for (y, (row, expected)) in rows(&out, &output).iter().zip(reference.iter()).enumerate() {
            for (pixel, expected) in row
                .chunks_exact(order.len().max(1))
                .zip(expected.chunks_exact(4))
            {
                let got: Vec<u8> = order.iter().map(|i| pixel[*i]).collect();
                assert!(
                    order.is_empty() || got == expected,
                    "colour of {format}, row {y}: {got:?}, not {expected:?}"
                );
            }
        }
    }
}

/// Patches of 16 pixels in many colours. None is as red as what [`PROBE`] fails on.
fn chart(info: &VideoInfo) -> gst::Buffer {
    const LEVELS: [u8; 6] = [0, 48, 96, 144, 192, 235];
    let mut data = vec![255u8; info.size()];
    let stride = info.stride()[0] as usize;
    for (y, row) in data.chunks_exact_mut(stride).enumerate() {
        for (x, pixel) in row.chunks_exact_mut(4).enumerate() {
            let patch = y / 16 * 18 + x / 16;
            let level = |i: usize| LEVELS[i % 6];
            pixel[..3].copy_from_slice(&[level(patch), level(patch / 6), level(patch / 36)]);
        }
    }
    stamped(gst::Buffer::from_mut_slice(data), 0)
}

fn converted(buffer: &gst::Buffer, from: &VideoInfo, into: &VideoInfo) -> gst::Buffer {
    let frame = VideoFrame::from_buffer_readable(buffer.clone(), from).unwrap();
    let out = gst::Buffer::with_size(into.size()).unwrap();
    let mut out = VideoFrame::from_buffer_writable(out, into).unwrap();
    // Its noise would be most of what is measured.
    let mut config = VideoConverterConfig::new();
    config.set_dither_method(VideoDitherMethod::None);
    VideoConverter::new(from, into, Some(config))
        .unwrap()
        .frame(&frame, &mut out);
    stamped(out.into_buffer(), 0)
}

#[test]
fn luma_and_chroma_of_every_matrix_and_range_become_the_right_colours() {
    if !ready() {
        return;
    }
    let (width, height) = (18 * 16, 12 * 16);
    let rgba = info(VideoFormat::Rgba, (width, height));
    let chart = chart(&rgba);
    let mask = MaskFile::full((width, height));
    for format in [
        VideoFormat::Nv12,
        VideoFormat::I420,
        VideoFormat::Yuy2,
        VideoFormat::Uyvy,
    ] {
        // Range, matrix, transfer function, primaries: BT.601 and BT.709, limited and full.
        for colorimetry in ["bt601", "bt709", "1:4:16:4", "1:3:5:1"] {
            let info = VideoInfo::builder(format, width, height)
                .fps(gst::Fraction::new(25, 1))
                .colorimetry(&colorimetry.parse().unwrap())
                .build()
                .unwrap();
            let source = converted(&chart, &rgba, &info);
            let mut filter = probe(&[], &info, &mask);
            let out = filter.push(source.clone());
            let output = filter.output();
            let got = rows(&out, &output);
            // videoconvert itself is no measure with 8 bits: its short cuts are off by up to 5. Compared is inside the
            // patches, where it does not matter how chroma is brought to full size.
            for y in (8..height as usize).step_by(16) {
                for x in (8..width as usize).step_by(16) {
                    let exact = exact(&source, &info, (x, y));
                    for c in 0..3 {
                        let value = got[y][x * 4 + c];
                        assert!(
                            (f64::from(value) - exact[c]).abs() <= 1.0,
                            "{format}, {colorimetry}, patch at {x}, {y}, component {c}: {value}, not {exact:?}"
                        );
                    }
                }
            }
        }
    }
}

/// Red, green and blue of a pixel as the standards' formula gives them.
fn exact(buffer: &gst::Buffer, info: &VideoInfo, (x, y): (usize, usize)) -> [f64; 3] {
    let frame = VideoFrameRef::from_buffer_ref_readable(buffer.as_ref(), info).unwrap();
    let format = info.format_info();
    let full = info.colorimetry().range() == gst_video::VideoColorRange::Range0_255;
    let [luma, u, v] = [0, 1, 2].map(|c: usize| {
        let plane = format.plane()[c];
        let at = format.poffset()[c] as usize
            + (y >> format.h_sub()[c]) * frame.plane_stride()[plane as usize] as usize
            + (x >> format.w_sub()[c]) * format.pixel_stride()[c] as usize;
        let value = f64::from(frame.plane_data(plane).unwrap()[at]);
        match (full, c) {
            (true, 0) => value / 255.0,
            (false, 0) => (value - 16.0) / 219.0,
            (true, _) => (value - 128.0) / 255.0,
            (false, _) => (value - 128.0) / 224.0,
        }
    });
    let (kr, kb) = match info.colorimetry().matrix() {
        gst_video::VideoColorMatrix::Bt601 => (0.299, 0.114),
        _ => (0.2126, 0.0722),
    };
    let red = luma + 2.0 * (1.0 - kr) * v;
    let blue = luma + 2.0 * (1.0 - kb) * u;
    let green = (luma - kr * red - kb * blue) / (1.0 - kr - kb);
    [red, green, blue].map(|c| (c * 255.0).clamp(0.0, 255.0))
}

#[test]
fn a_background_colour_lies_behind_and_premultiplied_colour_is_multiplied() {
    if !ready() {
        return;
    }
    let info = info(VideoFormat::Rgb, (64, 48));
    let mask = MaskFile::full((64, 48));
    let near =
        |got: [u8; 4], expected: [u8; 4]| got.iter().zip(expected).all(|(a, b)| a.abs_diff(b) <= 1);
    let share = 51.0 / 255.0;
    let mix = |front: f64, behind: f64| (front * share + behind * (1.0 - share)).round() as u8;
    let mut filter = probe(
        &[("background", "colour"), ("background-colour", "0xff8000")],
        &info,
        &mask,
    );
    let out = first_pixel(&filter.push(plain(&info, [100, 51, 200], 0)));
    let expected = [mix(100.0, 255.0), mix(51.0, 128.0), mix(200.0, 0.0), 255];
    assert!(near(out, expected), "{out:?}, not {expected:?}");

    filter
        .element()
        .set_property_from_str("background", "transparent");
    filter
        .element()
        .set_property_from_str("alpha-mode", "premultiplied");
    let out = first_pixel(&filter.push(plain(&info, [100, 51, 200], 1)));
    let expected = [mix(100.0, 0.0), mix(51.0, 0.0), mix(200.0, 0.0), 51];
    assert!(near(out, expected), "{out:?}, not {expected:?}");

    let grey = "video/x-raw,format=GRAY8";
    let properties = [
        ("model", PROBE),
        ("mask-location", mask.location()),
        ("background", "colour"),
        ("refine", "none"),
    ];
    let mut filter = Filter::new(&properties, &info, grey);
    let out = filter.push(plain(&info, [100, 51, 200], 0));
    assert!(
        out.map_readable()
            .unwrap()
            .iter()
            .all(|a| a.abs_diff(51) <= 1),
        "the matte alone has no background"
    );
}

#[test]
fn grey_comes_only_when_nothing_else_is_taken() {
    let info = info(VideoFormat::Rgb, (WIDTH, HEIGHT));
    if !ready() {
        return;
    }
    let mut filter = Filter::new(
        &[("seed", "none")],
        &info,
        "video/x-raw,format={GRAY8,ABGR,BGRA}",
    );
    filter.push(picture(&info, 0));
    assert_eq!(filter.output().format(), VideoFormat::Bgra);
}

#[test]
fn padded_rows_and_odd_sizes_change_nothing() {
    if !ready() {
        return;
    }
    for size in [(321, 181), (17, 33)] {
        let mask = MaskFile::new(size, 0);
        for format in [
            VideoFormat::Rgb,
            VideoFormat::Bgra,
            VideoFormat::Nv12,
            VideoFormat::I420,
        ] {
            let info = info(format, size);
            let properties = [("mask-location", mask.location()), ("working-size", "")];
            let mut plain = Filter::new(&properties, &info, "video/x-raw");
            let mut padded = Filter::new(&properties, &info, "video/x-raw");
            for t in 0..2 {
                let buffer = picture(&info, t);
                let expected = plain.push(buffer.clone());
                let got = padded.push(with_padded_rows(&buffer, &info));
                let output = plain.output();
                assert_eq!((output.width(), output.height()), size);
                for (y, (got, expected)) in rows(&got, &output)
                    .iter()
                    .zip(rows(&expected, &output))
                    .enumerate()
                {
                    let different = got
                        .iter()
                        .zip(&expected)
                        .enumerate()
                        .find(|(_, (a, b))| a != b);
                    assert_eq!(different, None, "{format} {size:?}, frame {t}, row {y}");
                }
            }
        }
    }
}

#[test]
fn sizes_from_16x16_to_7680x4320_are_matted() {
    if !ready() {
        return;
    }
    for size in [
        (16, 16),
        (17, 19),
        (1921, 31),
        (4096, 2160),
        (7679, 4319),
        (7680, 4320),
    ] {
        // A mask may have any size with the frame's aspect ratio.
        let part = if size.1 > 1000 { 8 } else { 1 };
        let mask = MaskFile::full((size.0 / part, size.1 / part));
        let info = info(VideoFormat::Rgb, size);
        let mut filter = Filter::new(
            &[
                ("model", PROBE),
                ("mask-location", mask.location()),
                ("working-size", ""),
                ("threads", "0"),
            ],
            &info,
            "video/x-raw",
        );
        let out = filter.push(plain(&info, [9, 200, 7], 0));
        let data = out.map_readable().unwrap();
        assert_eq!(data.len(), (size.0 * size.1 * 4) as usize, "{size:?}");
        let wrong = data
            .chunks_exact(4)
            .find(|pixel| pixel[..3] != [9, 200, 7] || pixel[3].abs_diff(200) > 1);
        assert_eq!(wrong, None, "{size:?}");
    }
}

/// A buffer with a larger picture, of which a `GstVideoCropMeta` says that this one is meant.
fn cropped(picture: &gst::Buffer, info: &VideoInfo, (x, y): (u32, u32)) -> gst::Buffer {
    let whole = VideoInfo::builder(info.format(), info.width() + x + 21, info.height() + y + 7)
        .build()
        .unwrap();
    let mut data = vec![0x5Au8; whole.size()];
    let frame = VideoFrameRef::from_buffer_ref_readable(picture.as_ref(), info).unwrap();
    let format = frame.format_info();
    for plane in 0..info.n_planes() {
        let component = (0..info.n_components() as usize)
            .rfind(|c| format.plane()[*c] == plane)
            .unwrap();
        let (w_sub, h_sub) = (format.w_sub()[component], format.h_sub()[component]);
        let pixel = format.pixel_stride()[component] as usize;
        let bytes = info.width().div_ceil(1 << w_sub) as usize * pixel;
        let rows = info.height().div_ceil(1 << h_sub) as usize;
        let (from, to) = (
            frame.plane_stride()[plane as usize] as usize,
            whole.stride()[plane as usize] as usize,
        );
        let start = whole.offset()[plane as usize]
            + (y >> h_sub) as usize * to
            + (x >> w_sub) as usize * pixel;
        let source = frame.plane_data(plane).unwrap();
        for row in 0..rows {
            data[start + row * to..][..bytes].copy_from_slice(&source[row * from..][..bytes]);
        }
    }
    let mut buffer = gst::Buffer::from_mut_slice(data);
    let into = buffer.get_mut().unwrap();
    VideoMeta::add_full(
        into,
        gst_video::VideoFrameFlags::empty(),
        whole.format(),
        whole.width(),
        whole.height(),
        whole.offset(),
        whole.stride(),
    )
    .unwrap();
    VideoCropMeta::add(into, (x, y, info.width(), info.height()));
    into.set_pts(picture.pts());
    into.set_duration(picture.duration());
    buffer
}

#[test]
fn a_crop_of_a_larger_picture_is_the_picture() {
    if !ready() {
        return;
    }
    let size = (WIDTH, HEIGHT);
    let mask = MaskFile::new(size, 0);
    for format in every_format("sink") {
        let info = info(format, size);
        let properties = [("mask-location", mask.location())];
        let mut plain = Filter::new(&properties, &info, "video/x-raw");
        let mut crop = Filter::new(&properties, &info, "video/x-raw");
        for (t, place) in [(0, (24, 10)), (1, (0, 0)), (2, (2, 4))] {
            let buffer = picture(&info, t);
            let expected = plain.push(buffer.clone());
            let got = crop.push(cropped(&buffer, &info, place));
            assert!(got.meta::<VideoCropMeta>().is_none(), "{format}");
            let output = plain.output();
            assert!(
                rows(&got, &output) == rows(&expected, &output),
                "{format}, frame {t} at {place:?}"
            );
        }
    }
}

#[test]
fn a_crop_that_reaches_outside_is_refused_with_the_numbers() {
    if !ready() {
        return;
    }
    let info = info(VideoFormat::Rgb, (64, 48));
    let mut filter = Filter::unseeded(&[("model", PROBE)], &info);
    let mut buffer = cropped(&plain(&info, [1, 2, 3], 0), &info, (10, 10));
    let into = buffer.get_mut().unwrap();
    into.meta_mut::<VideoCropMeta>()
        .unwrap()
        .set_rect((90, 10, 64, 48));
    assert_eq!(filter.harness.push(buffer), Err(gst::FlowError::Error));
    let errors = errors(&filter.bus);
    assert!(
        errors.len() == 1 && errors[0].contains("the crop 64x48 at 90, 10 of a picture of 95x65"),
        "{errors:?}"
    );
}

#[test]
fn upstream_may_hand_over_padded_rows() {
    if !ready() {
        return;
    }
    let info = info(VideoFormat::Nv12, (WIDTH, HEIGHT));
    let filter = Filter::unseeded(&[], &info);
    let mut query = gst::query::Allocation::new(Some(&info.to_caps().unwrap()), true);
    assert!(
        filter
            .element()
            .static_pad("sink")
            .unwrap()
            .query(query.query_mut())
    );
    assert!(query.find_allocation_meta::<VideoMeta>().is_some());
    assert!(query.find_allocation_meta::<VideoCropMeta>().is_some());
}

#[test]
fn one_buffer_leaves_per_buffer_over_flush_caps_change_and_eos() {
    if !ready() {
        return;
    }
    let mask = MaskFile::new((WIDTH, HEIGHT), 0);
    let first = info(VideoFormat::I420, (WIDTH, HEIGHT));
    let mut filter = Filter::new(&[("mask-location", mask.location())], &first, "video/x-raw");
    let mut t = 0;
    let mut some = |filter: &mut Filter, info: &VideoInfo, n: u32| {
        for _ in 0..n {
            let buffer = picture(info, t);
            let out = filter.push(buffer.clone());
            assert_eq!(
                (out.pts(), out.duration(), out.offset()),
                (buffer.pts(), buffer.duration(), buffer.offset())
            );
            assert_eq!(filter.harness.buffers_in_queue(), 0, "frame {t}");
            t += 1;
        }
    };
    some(&mut filter, &first, 3);

    assert!(filter.harness.push_event(gst::event::FlushStart::new()));
    assert!(filter.harness.push_event(gst::event::FlushStop::new(true)));
    let segment = gst::FormattedSegment::<gst::ClockTime>::new();
    assert!(
        filter
            .harness
            .push_event(gst::event::Segment::new(&segment))
    );
    some(&mut filter, &first, 2);
    let seeds = element_messages(&filter.bus, "matte-seeded");
    assert_eq!(seeds.len(), 1, "a flush keeps the target");

    let second = info(VideoFormat::Bgrx, (WIDTH, HEIGHT));
    filter.harness.set_src_caps(second.to_caps().unwrap());
    some(&mut filter, &second, 2);
    assert_eq!(
        element_messages(&filter.bus, "matte-seeded").len(),
        0,
        "another format keeps the target"
    );

    let third = info(VideoFormat::Nv12, (WIDTH * 2, HEIGHT * 2));
    filter.harness.set_src_caps(third.to_caps().unwrap());
    some(&mut filter, &third, 2);
    assert_eq!(
        (filter.output().width(), filter.output().height()),
        (WIDTH * 2, HEIGHT * 2)
    );

    assert!(filter.harness.push_event(gst::event::Eos::new()));
    assert_eq!(filter.harness.buffers_received(), 9);
    assert_eq!(filter.stats().get::<u64>("frames-without-matte"), Ok(0));
    assert_eq!(errors(&filter.bus), [""; 0]);
}

#[test]
fn another_frame_shape_is_seeded_again_with_the_mask() {
    if !ready() {
        return;
    }
    let mask = MaskFile::new((WIDTH, HEIGHT), 0);
    let small = info(VideoFormat::Rgb, (WIDTH, HEIGHT));
    let mut filter = Filter::new(
        &[("mask-location", mask.location()), ("working-size", "")],
        &small,
        "video/x-raw",
    );
    filter.push(picture(&small, 0));
    assert_eq!(element_messages(&filter.bus, "matte-seeded").len(), 1);
    let large = info(VideoFormat::Rgb, (WIDTH / 2, HEIGHT / 2));
    filter.harness.set_src_caps(large.to_caps().unwrap());
    let out = filter.push(picture(&large, 1));
    assert_eq!(element_messages(&filter.bus, "matte-seeded").len(), 1);
    let (figure, room) = separation(
        &rows(&out, &filter.output()),
        4,
        3,
        (WIDTH / 2, HEIGHT / 2),
        1,
    );
    assert!(
        figure > room + 0.3,
        "{figure:.3} on the figure, {room:.3} elsewhere"
    );
}

#[test]
fn the_latency_is_upstreams_and_one_frame() {
    if !ready() {
        return;
    }
    let known = info(VideoFormat::Rgb, (WIDTH, HEIGHT));
    let mut filter = Filter::unseeded(&[], &known);
    filter
        .harness
        .set_upstream_latency(gst::ClockTime::from_mseconds(7));
    filter.push(picture(&known, 0));
    assert_eq!(
        filter.harness.query_latency(),
        Some(gst::ClockTime::from_mseconds(47))
    );
    assert!(
        filter
            .bus
            .pop_filtered(&[gst::MessageType::Latency])
            .is_some(),
        "a change is told"
    );

    let ntsc = VideoInfo::builder(VideoFormat::Rgb, WIDTH, HEIGHT)
        .fps(gst::Fraction::new(30000, 1001))
        .build()
        .unwrap();
    filter.harness.set_src_caps(ntsc.to_caps().unwrap());
    filter.push(picture(&ntsc, 1));
    assert_eq!(
        filter.harness.query_latency(),
        Some(gst::ClockTime::from_nseconds(7_000_000 + 33_366_667))
    );
    assert!(
        filter
            .bus
            .pop_filtered(&[gst::MessageType::Latency])
            .is_some()
    );

    let unknown = VideoInfo::builder(VideoFormat::Rgb, WIDTH, HEIGHT)
        .fps(gst::Fraction::new(0, 1))
        .build()
        .unwrap();
    filter.harness.set_src_caps(unknown.to_caps().unwrap());
    filter.push(picture(&unknown, 2));
    assert_eq!(
        filter.harness.query_latency(),
        Some(gst::ClockTime::from_nseconds(7_000_000 + 33_333_334)),
        "that of a usual camera"
    );
}

#[test]
fn before_a_seed_nothing_of_the_room_is_seen() {
    if !ready() {
        return;
    }
    let info = info(VideoFormat::Rgb, (WIDTH, HEIGHT));
    let mut filter = Filter::unseeded(&[], &info);
    for t in 0..2 {
        let out = filter.push(picture(&info, t));
        assert!(out.map_readable().unwrap().iter().all(|byte| *byte == 0));
    }
}

#[test]
fn before_a_seed_the_picture_passes_when_asked_to() {
    if !ready() {
        return;
    }
    let info = info(VideoFormat::Rgb, (WIDTH, HEIGHT));
    let mut filter = Filter::unseeded(&[("before-seed", "pass-through")], &info);
    let out = filter.push(picture(&info, 0));
    for (y, row) in rows(&out, &filter.output()).iter().enumerate() {
        for (x, pixel) in row.chunks_exact(4).enumerate() {
            assert_eq!(
                pixel,
                rgba(x as u32, y as u32, (WIDTH, HEIGHT), 0),
                "{x}, {y}"
            );
        }
    }
    filter
        .element()
        .set_property_from_str("before-seed", "transparent");
    let out = filter.push(picture(&info, 1));
    assert!(
        out.map_readable().unwrap().iter().all(|byte| *byte == 0),
        "the property works while playing"
    );
}

#[test]
fn before_a_seed_the_stream_stops_when_asked_to() {
    if !ready() {
        return;
    }
    let info = info(VideoFormat::Rgb, (WIDTH, HEIGHT));
    let error = error_of(&[("seed", "none"), ("before-seed", "error")], &info);
    assert!(error.contains("there is no target yet"), "{error}");
}

#[test]
fn a_missing_model_is_named_with_the_places_where_it_was_looked_for() {
    let info = info(VideoFormat::Rgb, (WIDTH, HEIGHT));
    let error = error_of(&[("model", "no-such-model")], &info);
    assert!(
        error.contains("model no-such-model: not found. Looked in: "),
        "{error}"
    );
}

#[test]
fn a_mask_file_that_is_missing_or_no_picture_is_named() {
    let info = info(VideoFormat::Rgb, (WIDTH, HEIGHT));
    let error = error_of(&[("mask-location", "/nowhere/mask.png")], &info);
    assert!(
        error.contains("mask file /nowhere/mask.png: ") && error.contains("No such file"),
        "{error}"
    );

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("text.png");
    std::fs::write(&file, "not a picture").unwrap();
    let error = error_of(&[("mask-location", file.to_str().unwrap())], &info);
    assert!(error.contains("text.png: "), "{error}");
}

#[test]
fn a_mask_of_another_shape_is_refused_with_both_sizes() {
    if !ready() {
        return;
    }
    let mask = MaskFile::new((100, 100), 0);
    let error = error_of(
        &[("mask-location", mask.location())],
        &info(VideoFormat::Rgb, (WIDTH, HEIGHT)),
    );
    assert!(
        error.contains("mask of 100x100") && error.contains("320x180"),
        "{error}"
    );
}

#[test]
fn a_wrong_working_size_is_refused_with_what_it_should_be() {
    let info = info(VideoFormat::Rgb, (WIDTH, HEIGHT));
    let error = error_of(&[("working-size", "large")], &info);
    assert!(
        error.contains("working-size: \"large\", but it must be WIDTHxHEIGHT"),
        "{error}"
    );
    if !ready() {
        return;
    }
    let error = error_of(&[("working-size", "8x8")], &info);
    assert!(
        error.contains("working_size") && error.contains('8'),
        "{error}"
    );
}

#[test]
fn interlaced_and_multiview_streams_are_refused_with_the_reason() {
    init();
    let interlaced = VideoInfo::builder(VideoFormat::I420, WIDTH, HEIGHT)
        .interlace_mode(gst_video::VideoInterlaceMode::Interleaved)
        .build()
        .unwrap();
    let error = error_of(&[("seed", "none")], &interlaced);
    assert!(
        error.contains("only progressive video can be matted; put a deinterlace before"),
        "{error}"
    );

    let views = VideoInfo::builder(VideoFormat::Rgb, WIDTH, HEIGHT)
        .multiview_mode(gst_video::VideoMultiviewMode::SideBySide)
        .build()
        .unwrap();
    let error = error_of(&[("seed", "none")], &views);
    assert!(error.contains("only one view can be matted"), "{error}");
}

#[test]
fn the_matrix_of_the_source_does_not_stay_on_rgb() {
    if !ready() {
        return;
    }
    for (given, expected) in [
        ("bt709", "1:1:5:1"),
        ("bt601", "1:1:16:4"),
        ("sRGB", "1:1:7:1"),
    ] {
        let format = if given == "sRGB" {
            VideoFormat::Rgb
        } else {
            VideoFormat::I420
        };
        let info = VideoInfo::builder(format, WIDTH, HEIGHT)
            .colorimetry(&given.parse().unwrap())
            .build()
            .unwrap();
        let mut filter = Filter::unseeded(&[], &info);
        filter.push(picture(&info, 0));
        let want: gst_video::VideoColorimetry = expected.parse().unwrap();
        assert_eq!(filter.output().colorimetry(), want, "{given}");
    }
}

#[test]
fn a_gap_and_a_corrupted_frame_show_the_last_matte_and_are_not_remembered() {
    if !ready() {
        return;
    }
    let info = info(VideoFormat::Rgb, (WIDTH, HEIGHT));
    let mask = MaskFile::full((WIDTH, HEIGHT));
    for flag in [gst::BufferFlags::GAP, gst::BufferFlags::CORRUPTED] {
        let mut filter = probe(&[], &info, &mask);
        assert_eq!(
            first_pixel(&filter.push(plain(&info, [9, 128, 7], 0)))[3],
            128
        );
        // What the engine would take for another matte, or fail on.
        for (t, colour) in [(1, [0, 255, 0]), (2, [255, 0, 0])] {
            let mut buffer = plain(&info, colour, t);
            buffer.get_mut().unwrap().set_flags(flag);
            let out = filter.push(buffer);
            assert!(out.flags().contains(flag), "{flag:?}");
            let [red, green, blue] = colour;
            assert_eq!(first_pixel(&out), [red, green, blue, 128], "{flag:?}");
        }
        assert_eq!(filter.stats().get::<u64>("frames"), Ok(1), "{flag:?}");
        let out = filter.push(plain(&info, [9, 64, 7], 3));
        assert!(!out.flags().contains(flag));
        assert_eq!(first_pixel(&out)[3], 64);
        assert_eq!(filter.stats().get::<u64>("frames"), Ok(2));
        assert_eq!(warnings(&filter.bus), [""; 0]);
    }
}

#[test]
fn what_videorate_repeats_has_the_edges_of_the_frame_itself() {
    if !ready() {
        return;
    }
    // The matte of this package is green, and edges that are drawn anew are blue.
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/probe-detail");
    let info = info(VideoFormat::Rgb, (WIDTH, HEIGHT));
    let mask = MaskFile::full((WIDTH, HEIGHT));
    // Left of the middle there is something, and blue tells nothing of that.
    let frame = |t: u32| {
        let mut frame = plain(&info, [9, 0, 30], t);
        let stride = info.stride()[0] as usize;
        let mut data = frame.get_mut().unwrap().map_writable().unwrap();
        for row in data.chunks_mut(stride) {
            for pixel in row[..WIDTH as usize / 2 * 3].chunks_mut(3) {
                pixel[1] = 255;
            }
        }
        drop(data);
        frame
    };
    let bytes = |buffer: gst::Buffer| buffer.map_readable().unwrap().to_vec();
    let [drawn, filtered] = ["detail", "guided"].map(|refine| {
        let mut filter = probe(&[("model", model), ("refine", refine)], &info, &mask);
        let first = bytes(filter.push(frame(0)));
        let mut again = frame(1);
        again.get_mut().unwrap().set_flags(gst::BufferFlags::GAP);
        assert!(bytes(filter.push(again)) == first, "{refine}: it shimmers");
        first
    });
    assert!(drawn != filtered, "edges are drawn anew");
}

#[test]
fn a_gap_before_any_target_shows_nothing_of_itself() {
    if !ready() {
        return;
    }
    let info = info(VideoFormat::Rgb, (WIDTH, HEIGHT));
    let mut filter = Filter::unseeded(&[("model", PROBE)], &info);
    let mut gap = plain(&info, [200, 200, 200], 0);
    gap.get_mut().unwrap().set_flags(gst::BufferFlags::GAP);
    let out = filter.push(gap);
    assert!(out.map_readable().unwrap().iter().all(|byte| *byte == 0));
}

#[test]
fn the_bus_tells_the_backend_and_the_seed() {
    if !ready() {
        return;
    }
    let mask = MaskFile::new((WIDTH, HEIGHT), 3);
    let info = info(VideoFormat::Rgb, (WIDTH, HEIGHT));
    let mut filter = Filter::new(&[("mask-location", mask.location())], &info, "video/x-raw");
    filter.push(picture(&info, 3));
    let messages: Vec<_> =
        std::iter::from_fn(|| filter.bus.pop_filtered(&[gst::MessageType::Element])).collect();
    let [opening, backend, seeded] = messages.as_slice() else {
        panic!("{messages:?}")
    };
    let opening = opening.structure().unwrap();
    assert_eq!(opening.name(), "matte-backend");
    assert_eq!(opening.get::<&str>("state"), Ok("opening"));
    assert_eq!(opening.get::<&str>("requested"), Ok("cpu"));
    let backend = backend.structure().unwrap();
    assert_eq!(backend.name(), "matte-backend");
    assert!(is_ready(backend), "{backend}");
    assert!(
        backend.get::<gst::ClockTime>("open-time").is_ok(),
        "{backend}"
    );
    assert!(
        backend.get::<String>("model").unwrap().starts_with("lite"),
        "{backend}"
    );
    assert!(!backend.get::<String>("backend").unwrap().is_empty());
    assert_eq!(
        (backend.get("working-width"), backend.get("working-height")),
        (Ok(160u32), Ok(96u32))
    );
    let seeded = seeded.structure().unwrap();
    assert_eq!(seeded.name(), "matte-seeded");
    assert_eq!(seeded.get::<&str>("how"), Ok("mask"));
    assert_eq!(
        seeded.get::<u64>("running-time"),
        Ok((FRAME * 3).nseconds())
    );
}

#[test]
fn a_new_mask_while_playing_names_a_new_target_and_a_bad_one_changes_nothing() {
    if !ready() {
        return;
    }
    let (size, info) = ((WIDTH, HEIGHT), info(VideoFormat::Rgb, (WIDTH, HEIGHT)));
    let first = MaskFile::new(size, 0);
    let mut filter = Filter::new(&[("mask-location", first.location())], &info, "video/x-raw");
    filter.push(picture(&info, 0));
    assert_eq!(element_messages(&filter.bus, "matte-seeded").len(), 1);

    filter
        .element()
        .set_property("mask-location", "/nowhere/mask.png");
    let out = filter.push(picture(&info, 1));
    let warned = warnings(&filter.bus);
    assert!(
        warned.len() == 1 && warned[0].contains("/nowhere/mask.png"),
        "{warned:?}"
    );
    let (figure, room) = separation(&rows(&out, &filter.output()), 4, 3, size, 1);
    assert!(
        figure > room + 0.3,
        "{figure:.3} on the figure, {room:.3} elsewhere"
    );
    filter.push(picture(&info, 2));
    assert_eq!(warnings(&filter.bus), [""; 0], "it is told once");

    let square = MaskFile::new((50, 50), 0);
    filter
        .element()
        .set_property("mask-location", square.location());
    filter.push(picture(&info, 3));
    let warned = warnings(&filter.bus);
    assert!(
        warned.len() == 1 && warned[0].contains("mask of 50x50"),
        "{warned:?}"
    );
    assert_eq!(element_messages(&filter.bus, "matte-seeded").len(), 0);

    let second = MaskFile::new(size, 4);
    filter
        .element()
        .set_property("mask-location", second.location());
    filter.push(picture(&info, 4));
    assert_eq!(element_messages(&filter.bus, "matte-seeded").len(), 1);
}

#[test]
fn a_mask_mode_without_a_mask_is_told() {
    if !ready() {
        return;
    }
    let info = info(VideoFormat::Rgb, (WIDTH, HEIGHT));
    let mut filter = Filter::new(&[("seed", "mask")], &info, "video/x-raw");
    let warned = warnings(&filter.bus);
    assert!(
        warned.len() == 1 && warned[0].contains("mask-location is not set"),
        "{warned:?}"
    );
    filter.push(picture(&info, 0));
    let mask = MaskFile::new((WIDTH, HEIGHT), 1);
    filter
        .element()
        .set_property("mask-location", mask.location());
    filter.push(picture(&info, 1));
    assert_eq!(element_messages(&filter.bus, "matte-seeded").len(), 1);
}

#[test]
fn stats_count_frames_and_time_every_stage() {
    if !ready() {
        return;
    }
    let mask = MaskFile::new((WIDTH, HEIGHT), 0);
    let info = info(VideoFormat::Rgb, (WIDTH, HEIGHT));
    let (idle, _bus) = element(&[]);
    assert_eq!(
        idle.property::<gst::Structure>("stats").n_fields(),
        0,
        "nothing has run yet"
    );
    let mut filter = Filter::new(&[("mask-location", mask.location())], &info, "video/x-raw");
    for t in 0..7 {
        filter.push(picture(&info, t));
    }
    let stats = filter.stats();
    assert_eq!(stats.name(), "application/x-matte-stats");
    assert_eq!(stats.get::<u64>("frames"), Ok(7));
    assert_eq!(stats.get::<u64>("frames-without-matte"), Ok(0));
    assert_eq!(
        (stats.get("working-width"), stats.get("working-height")),
        (Ok(160u32), Ok(96u32))
    );
    assert!(stats.get::<u32>("memory-frames").unwrap() >= 1);
    for stage in ["preprocess", "matte", "postprocess", "value"] {
        let time = |what| stats.get::<u64>(format!("{stage}-{what}")).unwrap();
        assert!(
            time("p50") > 0 && time("p50") <= time("p99") && time("mean") <= time("p99"),
            "{stage}: {stats}"
        );
    }
    for stage in ["prior", "memorize"] {
        assert!(stats.get::<u64>(format!("{stage}-p99")).is_ok(), "{stats}");
    }
}

#[test]
fn stopping_right_after_a_frame_waits_for_the_worker() {
    if !ready() {
        return;
    }
    let mask = MaskFile::new((WIDTH, HEIGHT), 0);
    let info = info(VideoFormat::Rgb, (WIDTH, HEIGHT));
    let (element, bus) = element(&[("mask-location", mask.location())]);
    let ends = Ends::new(&element);
    for _ in 0..3 {
        element.set_state(gst::State::Playing).unwrap();
        assert!(ends.start(&info), "{:?}", errors(&bus));
        ends.src.push(picture(&info, 0)).unwrap();
        ends.stop();
        element.set_state(gst::State::Null).unwrap();
        assert_eq!(element.property::<gst::Structure>("stats").n_fields(), 0);
    }
    assert_eq!(element_messages(&bus, "matte-seeded").len(), 3);
}

#[test]
fn properties_have_the_engines_defaults_and_ranges() {
    init();
    let filter = gst::ElementFactory::make("mattefilter").build().unwrap();
    let defaults = Options::default();
    assert_eq!(filter.property::<String>("model"), "lite");
    assert_eq!(filter.property::<String>("working-size"), "");
    assert_eq!(filter.property::<Option<String>>("mask-location"), None);
    assert_eq!(filter.property::<i32>("warm-up"), -1);
    assert_eq!(filter.property::<u32>("mask-erode"), defaults.mask_erode);
    assert_eq!(filter.property::<u32>("mask-dilate"), defaults.mask_dilate);
    assert_eq!(filter.property::<u32>("memory-interval"), 0);
    assert_eq!(filter.property::<u32>("memory-frames"), 0);
    assert_eq!(
        filter.property::<u32>("max-references"),
        defaults.max_references
    );
    assert_eq!(filter.property::<u32>("threads"), defaults.threads);
    assert_eq!(filter.property::<u32>("device"), defaults.device);
    assert_eq!(filter.property::<Option<String>>("model-cache-dir"), None);
    assert_eq!(filter.property::<Option<String>>("provider-options"), None);
    assert_eq!(filter.property::<bool>("use-prior"), defaults.prior);

    for (option, low, high) in Options::FLOAT_RANGES {
        let name = option.replace('_', "-");
        let pspec = filter.find_property(&name).unwrap();
        let pspec = pspec.downcast_ref::<gst::glib::ParamSpecFloat>().unwrap();
        assert_eq!((pspec.minimum(), pspec.maximum()), (low, high), "{name}");
        assert!(
            pspec.flags().contains(gst::PARAM_FLAG_CONTROLLABLE),
            "{name}"
        );
    }
    for (option, _, high) in Options::RANGES {
        let name = option.replace('_', "-");
        let pspec = filter.find_property(&name).unwrap();
        let maximum = match pspec.downcast_ref::<gst::glib::ParamSpecUInt>() {
            Some(pspec) => pspec.maximum(),
            None => pspec
                .downcast_ref::<gst::glib::ParamSpecInt>()
                .unwrap()
                .maximum() as u32,
        };
        assert_eq!(maximum, high, "{name}");
    }
    for (name, nicks) in [
        (
            "execution-provider",
            "auto tensorrt tensorrt-rtx cuda openvino cpu",
        ),
        ("seed", "auto mask none"),
        ("refine", "none guided detail auto"),
        ("latency-mode", "aligned low"),
        ("wait-for-model", "auto always never"),
        ("region", "frame target"),
        ("precision", "auto full bf16"),
        ("foreground", "source estimated"),
        ("alpha-mode", "straight premultiplied"),
        ("background", "transparent colour blur"),
        ("before-seed", "transparent pass-through error"),
        ("on-failure", "transparent pass-through error"),
    ] {
        let pspec = filter.find_property(name).unwrap();
        let class = pspec
            .downcast_ref::<gst::glib::ParamSpecEnum>()
            .unwrap()
            .enum_class();
        let found: Vec<_> = class.values().iter().map(|v| v.nick().to_owned()).collect();
        assert_eq!(found.join(" "), nicks, "{name}");
    }
    let names: Vec<_> = matte_core::Backend::ALL.iter().map(|b| b.name()).collect();
    assert_eq!(
        names.join(" "),
        "auto tensorrt tensorrt-rtx cuda openvino cpu"
    );
}

#[test]
fn every_property_says_that_it_may_change_while_playing_and_what_it_is() {
    init();
    let filter = gst::ElementFactory::make("mattefilter").build().unwrap();
    let own = filter
        .list_properties()
        .iter()
        .filter(|pspec| pspec.owner_type() == filter.type_())
        .cloned()
        .collect::<Vec<_>>();
    assert_eq!(own.len(), 34 + 3, "{own:?}");
    for pspec in own {
        let name = pspec.name();
        let read_only = ["stats", "references", "targets"].contains(&name);
        assert_eq!(
            pspec.flags().contains(gst::PARAM_FLAG_MUTABLE_PLAYING),
            !read_only,
            "{name}"
        );
        assert_eq!(
            pspec.flags().contains(gst::glib::ParamFlags::WRITABLE),
            !read_only,
            "{name}"
        );
        assert!(
            pspec.blurb().is_some_and(|blurb| blurb.len() > 20),
            "{name}"
        );
        assert_ne!(pspec.nick(), name, "{name}");
    }
}
