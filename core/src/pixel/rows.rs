//! Rows of pixels: any input format to packed RGB, RGB and alpha to any output format.

use crate::frame::{Colorimetry, Frame, OutputFormat, PixelFormat, YuvMatrix};

/// YUV → RGB in fixed point, 14 bits of fraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct YuvToRgb {
    y_offset: i32,
    y: i32,
    r_v: i32,
    g_u: i32,
    g_v: i32,
    b_u: i32,
}

const FRACTION: i32 = 14;

impl YuvToRgb {
    pub(crate) fn new(colorimetry: Colorimetry) -> Self {
        // ITU-R BT.601, BT.709 and BT.2020: luma weights of red and blue.
        let (kr, kb) = match colorimetry.matrix {
            YuvMatrix::Bt601 => (0.299, 0.114),
            YuvMatrix::Bt709 => (0.2126, 0.0722),
            YuvMatrix::Bt2020 => (0.2627, 0.0593),
        };
        let kg = 1.0 - kr - kb;
        let (luma, chroma, y_offset) = if colorimetry.full_range {
            (1.0, 1.0, 0)
        } else {
            (255.0 / 219.0, 255.0 / 224.0, 16)
        };
        let fixed = |v: f64| (v * f64::from(1 << FRACTION)).round() as i32;
        Self {
            y_offset,
            y: fixed(luma),
            r_v: fixed(2.0 * (1.0 - kr) * chroma),
            g_u: fixed(-2.0 * kb * (1.0 - kb) / kg * chroma),
            g_v: fixed(-2.0 * kr * (1.0 - kr) / kg * chroma),
            b_u: fixed(2.0 * (1.0 - kb) * chroma),
        }
    }

    #[inline]
    pub(crate) fn convert(&self, y: u8, u: u8, v: u8) -> [u8; 3] {
        let y = (i32::from(y) - self.y_offset) * self.y + (1 << (FRACTION - 1));
        let (u, v) = (i32::from(u) - 128, i32::from(v) - 128);
        let clamp = |x: i32| (x >> FRACTION).clamp(0, 255) as u8;
        [
            clamp(y + self.r_v * v),
            clamp(y + self.g_u * u + self.g_v * v),
            clamp(y + self.b_u * u),
        ]
    }
}

/// Packed RGB from pixels of `N` bytes with red, green and blue at these positions.
fn pick<const N: usize>(src: &[u8], dst: &mut [u8], [r, g, b]: [usize; 3]) {
    for (d, s) in dst
        .as_chunks_mut::<3>()
        .0
        .iter_mut()
        .zip(src.as_chunks::<N>().0)
    {
        *d = [s[r], s[g], s[b]];
    }
}

/// Packed RGB of pixels in an RGB layout.
pub(crate) fn packed_to_rgb(src: &[u8], dst: &mut [u8], layout: [usize; 3], bytes: usize) {
    match (layout, bytes) {
        ([0, 1, 2], 4) => pick::<4>(src, dst, [0, 1, 2]),
        ([2, 1, 0], 4) => pick::<4>(src, dst, [2, 1, 0]),
        ([1, 2, 3], 4) => pick::<4>(src, dst, [1, 2, 3]),
        ([3, 2, 1], 4) => pick::<4>(src, dst, [3, 2, 1]),
        ([0, 1, 2], _) => dst.copy_from_slice(&src[..dst.len()]),
        (layout, _) => pick::<3>(src, dst, layout),
    }
}

/// Row `y` of a frame as packed RGB; `dst` has three bytes a pixel.
pub(crate) fn rgb_row(frame: &Frame<'_>, yuv: &YuvToRgb, y: usize, dst: &mut [u8]) {
    if let Some((layout, bytes)) = frame.format().rgb_layout() {
        packed_to_rgb(frame.row(0, y), dst, layout, bytes);
        return;
    }
    let luma = frame.row(0, y);
    let pixels = dst.as_chunks_mut::<3>().0;
    match frame.format() {
        PixelFormat::Nv12 => {
            let chroma = frame.row(1, y / 2).as_chunks::<2>().0;
            for ((pair, l), [u, v]) in pixels.chunks_mut(2).zip(luma.chunks(2)).zip(chroma) {
                for (d, l) in pair.iter_mut().zip(l) {
                    *d = yuv.convert(*l, *u, *v);
                }
            }
        }
        PixelFormat::I420 => {
            let chroma = frame.row(1, y / 2).iter().zip(frame.row(2, y / 2));
            for ((pair, l), (u, v)) in pixels.chunks_mut(2).zip(luma.chunks(2)).zip(chroma) {
                for (d, l) in pair.iter_mut().zip(l) {
                    *d = yuv.convert(*l, *u, *v);
                }
            }
        }
        _ => {
            for (d, l) in pixels.iter_mut().zip(luma) {
                *d = [*l; 3];
            }
        }
    }
}

/// Luma of packed RGB, 0 to 1, BT.601 weights: a guide for edges, not a colour.
pub(crate) fn luma_row(rgb: &[u8], dst: &mut [f32]) {
    for (d, [r, g, b]) in dst.iter_mut().zip(rgb.as_chunks::<3>().0) {
        let y = 77 * u32::from(*r) + 150 * u32::from(*g) + 29 * u32::from(*b);
        *d = y as f32 * (1.0 / (255.0 * 256.0));
    }
}

fn place(rgb: &[u8], alpha: &[u8], dst: &mut [u8], [r, g, b, a]: [usize; 4]) {
    let pixels = rgb.as_chunks::<3>().0.iter().zip(alpha);
    for (d, (c, alpha)) in dst.as_chunks_mut::<4>().0.iter_mut().zip(pixels) {
        d[r] = c[0];
        d[g] = c[1];
        d[b] = c[2];
        d[a] = *alpha;
    }
}

/// Writes a row of packed RGB and alpha in an output format.
pub(crate) fn write_row(rgb: &[u8], alpha: &[u8], format: OutputFormat, dst: &mut [u8]) {
    // Constant positions let the compiler make shuffles of them.
    match format.layout() {
        None => dst.copy_from_slice(alpha),
        Some([0, ..]) => place(rgb, alpha, dst, [0, 1, 2, 3]),
        Some([2, ..]) => place(rgb, alpha, dst, [2, 1, 0, 3]),
        Some([1, ..]) => place(rgb, alpha, dst, [1, 2, 3, 0]),
        Some(_) => place(rgb, alpha, dst, [3, 2, 1, 0]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Plane;

    #[test]
    fn every_packed_format_gives_the_same_rgb() {
        for format in PixelFormat::ALL {
            let Some(([r, g, b], bytes)) = format.rgb_layout() else {
                continue;
            };
            let mut data = vec![99; 7 * bytes];
            for (i, p) in data.chunks_mut(bytes).enumerate() {
                p[r] = i as u8;
                p[g] = 100 + i as u8;
                p[b] = 200 + i as u8;
            }
            let frame = Frame::packed(format, 7, 1, &data, 7 * bytes).unwrap();
            let mut rgb = [0; 21];
            rgb_row(&frame, &YuvToRgb::new(frame.colorimetry()), 0, &mut rgb);
            for (i, p) in rgb.chunks(3).enumerate() {
                assert_eq!(
                    p,
                    [i as u8, 100 + i as u8, 200 + i as u8],
                    "{}",
                    format.name()
                );
            }
        }
    }

    #[test]
    fn every_output_format_places_colour_and_alpha() {
        let (rgb, alpha) = ([1, 2, 3, 4, 5, 6], [7, 8]);
        for (format, wanted) in [
            (OutputFormat::Rgba, &[1, 2, 3, 7, 4, 5, 6, 8][..]),
            (OutputFormat::Bgra, &[3, 2, 1, 7, 6, 5, 4, 8]),
            (OutputFormat::Argb, &[7, 1, 2, 3, 8, 4, 5, 6]),
            (OutputFormat::Abgr, &[7, 3, 2, 1, 8, 6, 5, 4]),
            (OutputFormat::Gray8, &[7, 8]),
        ] {
            let mut out = vec![0; wanted.len()];
            write_row(&rgb, &alpha, format, &mut out);
            assert_eq!(out, wanted, "{}", format.name());
        }
    }

    #[test]
    fn yuv_agrees_with_the_standards_in_floating_point() {
        for matrix in [YuvMatrix::Bt601, YuvMatrix::Bt709, YuvMatrix::Bt2020] {
            for full_range in [false, true] {
                let yuv = YuvToRgb::new(Colorimetry { matrix, full_range });
                let (kr, kb): (f64, f64) = match matrix {
                    YuvMatrix::Bt601 => (0.299, 0.114),
                    YuvMatrix::Bt709 => (0.2126, 0.0722),
                    YuvMatrix::Bt2020 => (0.2627, 0.0593),
                };
                let scale = if full_range {
                    (0.0, 255.0, 255.0)
                } else {
                    (16.0, 219.0, 224.0)
                };
                for (y, u, v) in [
                    (16, 128, 128),
                    (235, 128, 128),
                    (81, 90, 240),
                    (145, 54, 34),
                    (41, 240, 110),
                ] {
                    let luma = (f64::from(y) - scale.0) / scale.1;
                    let (cb, cr) = (
                        (f64::from(u) - 128.0) / scale.2,
                        (f64::from(v) - 128.0) / scale.2,
                    );
                    let r = luma + 2.0 * (1.0 - kr) * cr;
                    let b = luma + 2.0 * (1.0 - kb) * cb;
                    let g = (luma - kr * r - kb * b) / (1.0 - kr - kb);
                    let wanted = [r, g, b].map(|x| (x * 255.0).clamp(0.0, 255.0));
                    let got = yuv.convert(y, u, v);
                    for (w, g) in wanted.iter().zip(got) {
                        assert!(
                            (w - f64::from(g)).abs() <= 0.51,
                            "{matrix:?} {full_range}: {wanted:?} {got:?}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn odd_sizes_use_the_last_chroma_sample() {
        let (y, uv) = ([128u8; 9], [128u8, 128, 128, 255, 128, 128, 128, 128]);
        let planes = [
            Plane {
                data: &y,
                stride: 3,
            },
            Plane {
                data: &uv,
                stride: 4,
            },
        ];
        let frame = Frame::new(
            PixelFormat::Nv12,
            3,
            3,
            &planes,
            Colorimetry {
                full_range: true,
                ..Default::default()
            },
        )
        .unwrap();
        let mut rgb = [0; 9];
        rgb_row(&frame, &YuvToRgb::new(frame.colorimetry()), 0, &mut rgb);
        assert_eq!(rgb[..6], [128; 6]);
        assert_eq!(
            rgb[6], 255,
            "the third pixel takes the second chroma sample"
        );
    }
}
