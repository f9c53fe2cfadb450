//! Properties of what comes from outside: views of frames, manifests, mask files. Whatever is given, the answer is a
//! checked view or an error in words, never a panic.

use std::path::Path;

use matte_core::{
    Colorimetry, Frame, Manifest, Mask, MaskImage, Options, OutputFormat, OutputMut, PixelFormat,
    Plane, PlaneMut, Policy, Renderer,
};
use proptest::prelude::*;

/// A size, a format, and for each plane a stride and a length that may be right, a little off, or anything.
fn plane(row: usize, rows: usize) -> impl Strategy<Value = (usize, usize)> {
    let stride = prop_oneof![
        4 => row..row + 70,
        1 => 0..row.max(1),
        1 => Just(usize::MAX / 2),
    ];
    (stride, -2i64..20, any::<bool>()).prop_map(move |(stride, off, exact)| {
        let need = stride.saturating_mul(rows - 1).saturating_add(row);
        // Whatever is asked for, a test has only so much memory.
        let need = need.min(1 << 20) as i64;
        let len = if exact { need } else { (need + off).max(0) };
        (stride, len as usize)
    })
}

fn right(stride: usize, len: usize, row: usize, rows: usize) -> bool {
    stride >= row
        && stride
            .checked_mul(rows - 1)
            .and_then(|n| n.checked_add(row))
            .is_some_and(|need| len >= need)
}

fn input() -> impl Strategy<Value = (PixelFormat, u32, u32, Vec<(usize, usize)>)> {
    (0..PixelFormat::ALL.len(), 1u32..80, 1u32..60).prop_flat_map(|(format, width, height)| {
        let format = PixelFormat::ALL[format];
        let planes: Vec<_> = (0..format.planes())
            .map(|i| {
                let (row, rows) = format.plane_size(i, width, height);
                plane(row, rows)
            })
            .collect();
        (Just(format), Just(width), Just(height), planes)
    })
}

fn output() -> impl Strategy<Value = (OutputFormat, usize)> {
    (0..OutputFormat::ALL.len(), 0usize..40).prop_map(|(f, pad)| (OutputFormat::ALL[f], pad))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// A view is made exactly when it stays inside its data, and then every row can be read: drawing the frame touches
    /// each of them, and writes nothing but rows.
    #[test]
    fn a_frame_is_a_view_of_its_own_data_or_an_error(
        (format, width, height, planes) in input(),
        (to, pad) in output(),
        full_range in any::<bool>(),
    ) {
        let data: Vec<Vec<u8>> = planes.iter().map(|(_, len)| vec![77; *len]).collect();
        let views: Vec<Plane<'_>> = planes
            .iter()
            .zip(&data)
            .map(|((stride, _), data)| Plane { data, stride: *stride })
            .collect();
        let colorimetry = Colorimetry { full_range, ..Colorimetry::default() };
        let frame = Frame::new(format, width, height, &views, colorimetry);
        let wanted = planes.iter().enumerate().all(|(i, (stride, len))| {
            let (row, rows) = format.plane_size(i, width, height);
            right(*stride, *len, row, rows)
        });
        prop_assert_eq!(frame.is_ok(), wanted, "{} {}x{} {:?}", format.name(), width, height, planes);
        let Ok(frame) = frame else { return Ok(()) };

        let sizes: Vec<_> = (0..4).map(|i| to.plane_size(i, width, height)).collect();
        let mut out: Vec<Vec<u8>> = sizes
            .iter()
            .map(|(row, rows)| vec![0xA5; (row + pad) * (rows - 1) + row])
            .collect();
        {
            let mut planes = out.iter_mut().zip(&sizes).map(|(data, (row, _))| PlaneMut {
                data,
                stride: row + pad,
            });
            let planes: [PlaneMut<'_>; 4] = std::array::from_fn(|_| planes.next().unwrap());
            let mut out = OutputMut::with_planes(to, width, height, planes, colorimetry).unwrap();
            let mut renderer = Renderer::new(&Options::default()).unwrap();
            renderer.render_without_matte(Policy::PassThrough, &frame, &mut out).unwrap();
        }
        for (data, (row, rows)) in out.iter().zip(&sizes).take(to.planes()) {
            for y in 0..rows - 1 {
                let padding = &data[y * (row + pad) + row..(y + 1) * (row + pad)];
                prop_assert!(padding.iter().all(|v| *v == 0xA5), "padding is not the renderer's");
            }
        }
    }

    #[test]
    fn a_mask_is_a_view_of_its_own_data_or_an_error(
        width in 0u32..20_000,
        height in 0u32..200,
        stride in 0usize..30_000,
        len in 0usize..100_000,
    ) {
        let data = vec![0; len];
        let mask = Mask::new(width, height, &data, stride);
        let sides = (1..=16384).contains(&width) && (1..=16384).contains(&height);
        let wanted = sides && right(stride, len, width as usize, height as usize);
        prop_assert_eq!(mask.is_ok(), wanted);
    }

    /// Options with any numbers either pass or name the one that is wrong.
    #[test]
    fn options_are_valid_or_named(shift in any::<f32>(), soft in any::<f32>(), blur in any::<f32>(), smooth in any::<f32>()) {
        let options = Options {
            edge_shift: shift,
            edge_softness: soft,
            background_blur: blur,
            temporal_smoothing: smooth,
            ..Options::default()
        };
        let inside = (-20.0..=20.0).contains(&shift)
            && (0.0..=20.0).contains(&soft)
            && (0.05..=1.0).contains(&blur)
            && (0.0..=1.0).contains(&smooth);
        prop_assert_eq!(options.validate().is_ok(), inside);
    }

    #[test]
    fn any_bytes_are_a_mask_file_or_an_error_that_names_it(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        kind in 0usize..4,
    ) {
        // The beginning of a real file makes the decoder go on.
        let starts: [&[u8]; 4] = [b"", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"\xff\xd8\xff\xe0\0\x10JFIF", b"GIF89a"];
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mask.png");
        std::fs::write(&path, [starts[kind], &bytes].concat()).unwrap();
        if let Err(e) = MaskImage::read(&path) {
            prop_assert!(e.to_string().contains("mask"), "{}", e);
        }
    }

    /// A shipped manifest in which one byte is another, or which ends early.
    #[test]
    fn a_spoiled_manifest_is_refused_in_words_or_still_one(at in 0usize..6000, byte in any::<u8>(), cut in any::<bool>()) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/packages/lite/manifest.json");
        let mut json = std::fs::read(path).unwrap();
        let at = at % json.len();
        if cut {
            json.truncate(at);
        } else {
            json[at] = byte;
        }
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("manifest.json"), &json).unwrap();
        if let Err(e) = Manifest::read(&dir.path().join("manifest.json")) {
            prop_assert!(e.to_string().contains("manifest.json"), "{}", e);
        }
    }
}
