//! Rows of pixels: any input format to red, green and blue, colour and alpha to any output format.

use multiversion::multiversion;

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

    #[cfg(test)]
    fn convert(&self, y: u8, u: u8, v: u8) -> [u8; 3] {
        let mut planes = Planes::default();
        planes.resize(1);
        yuv_to_rgb(
            *self,
            [&[y], &[u], &[v]],
            &mut planes.r,
            &mut planes.g,
            &mut planes.b,
        );
        [planes.r[0], planes.g[0], planes.b[0]]
    }
}

/// A row of red, green and blue, apart: the form that vectorises.
#[derive(Debug, Default)]
pub(crate) struct Planes {
    pub(crate) r: Vec<u8>,
    pub(crate) g: Vec<u8>,
    pub(crate) b: Vec<u8>,
    /// Chroma, spread to the width of luma.
    u: Vec<u8>,
    v: Vec<u8>,
}

impl Planes {
    pub(crate) fn resize(&mut self, width: usize) {
        for plane in [
            &mut self.r,
            &mut self.g,
            &mut self.b,
            &mut self.u,
            &mut self.v,
        ] {
            plane.resize(width, 0);
        }
    }
}

// The kernels take slices of one length and walk them by index: so the compiler drops the bound checks and vectorises.
// `multiversion` compiles each of them a second time for processors with AVX2.

#[multiversion(targets("x86_64+avx2+fma+bmi1+bmi2"))]
fn yuv_to_rgb(m: YuvToRgb, [y, u, v]: [&[u8]; 3], r: &mut [u8], g: &mut [u8], b: &mut [u8]) {
    let n = r.len();
    let (y, u, v, g, b) = (&y[..n], &u[..n], &v[..n], &mut g[..n], &mut b[..n]);
    for i in 0..n {
        let luma = (i32::from(y[i]) - m.y_offset) * m.y + (1 << (FRACTION - 1));
        let (u, v) = (i32::from(u[i]) - 128, i32::from(v[i]) - 128);
        r[i] = ((luma + m.r_v * v) >> FRACTION).clamp(0, 255) as u8;
        g[i] = ((luma + m.g_u * u + m.g_v * v) >> FRACTION).clamp(0, 255) as u8;
        b[i] = ((luma + m.b_u * u) >> FRACTION).clamp(0, 255) as u8;
    }
}

/// Every sample twice.
#[multiversion(targets("x86_64+avx2+fma+bmi1+bmi2"))]
fn double(samples: &[u8], out: &mut [u8]) {
    let (pairs, rest) = out.as_chunks_mut::<2>();
    for (pair, sample) in pairs.iter_mut().zip(samples) {
        *pair = [*sample; 2];
    }
    for last in rest {
        *last = samples[samples.len() - 1];
    }
}

/// The two of every pair, each twice.
#[multiversion(targets("x86_64+avx2+fma+bmi1+bmi2"))]
fn double_pairs(pairs: &[u8], u: &mut [u8], v: &mut [u8]) {
    let pairs = pairs.as_chunks::<2>().0;
    let n = u.len();
    let (whole, odd) = (n / 2, n % 2);
    let (us, vs) = (u.as_chunks_mut::<2>().0, v.as_chunks_mut::<2>().0);
    for i in 0..whole {
        us[i] = [pairs[i][0]; 2];
        vs[i] = [pairs[i][1]; 2];
    }
    if odd == 1 {
        u[n - 1] = pairs[whole][0];
        v[n - 1] = pairs[whole][1];
    }
}

#[multiversion(targets("x86_64+avx2+fma+bmi1+bmi2"))]
fn split<const N: usize>(
    pixels: &[[u8; N]],
    positions: [usize; 3],
    r: &mut [u8],
    g: &mut [u8],
    b: &mut [u8],
) {
    let n = r.len();
    let (pixels, g, b) = (&pixels[..n], &mut g[..n], &mut b[..n]);
    for i in 0..n {
        r[i] = pixels[i][positions[0]];
        g[i] = pixels[i][positions[1]];
        b[i] = pixels[i][positions[2]];
    }
}

/// Pixels in an RGB layout, taken apart.
pub(crate) fn split_packed(src: &[u8], layout: [usize; 3], bytes: usize, out: &mut Planes) {
    let Planes { r, g, b, .. } = out;
    if bytes == 3 {
        split(src.as_chunks::<3>().0, layout, r, g, b);
    } else {
        split(src.as_chunks::<4>().0, layout, r, g, b);
    }
}

/// A row of luma with its chroma, given at full width or half, as RGB.
pub(crate) fn split_yuv(luma: &[u8], chroma: Chroma<'_>, yuv: YuvToRgb, out: &mut Planes) {
    let Planes { r, g, b, u, v } = out;
    match chroma {
        Chroma::None => {
            for plane in [r, g, b] {
                plane.copy_from_slice(luma);
            }
            return;
        }
        Chroma::Planes(us, vs) => return yuv_to_rgb(yuv, [luma, us, vs], r, g, b),
        Chroma::Pairs(pairs) => {
            for (pair, (u, v)) in pairs
                .as_chunks::<2>()
                .0
                .iter()
                .zip(u.iter_mut().zip(v.iter_mut()))
            {
                [*u, *v] = *pair;
            }
        }
        Chroma::HalfPlanes(us, vs) => {
            double(us, u);
            double(vs, v);
        }
        Chroma::HalfPairs(pairs) => double_pairs(pairs, u, v),
    }
    yuv_to_rgb(yuv, [luma, u, v], r, g, b);
}

/// Chroma of a row.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Chroma<'a> {
    /// Grey.
    None,
    /// A sample for every pixel.
    Planes(&'a [u8], &'a [u8]),
    /// Interleaved, a pair for every pixel.
    Pairs(&'a [u8]),
    /// A sample for two pixels.
    HalfPlanes(&'a [u8], &'a [u8]),
    /// Interleaved, a pair for two pixels.
    HalfPairs(&'a [u8]),
}

/// Row `y` of a frame.
pub(crate) fn frame_row(frame: &Frame<'_>, yuv: YuvToRgb, y: usize, out: &mut Planes) {
    let row = frame.row(0, y);
    if let Some((layout, bytes)) = frame.format().rgb_layout() {
        return split_packed(row, layout, bytes, out);
    }
    let chroma = match frame.format() {
        PixelFormat::Nv12 => Chroma::HalfPairs(frame.row(1, y / 2)),
        PixelFormat::I420 => Chroma::HalfPlanes(frame.row(1, y / 2), frame.row(2, y / 2)),
        _ => Chroma::None,
    };
    split_yuv(row, chroma, yuv, out);
}

/// Luma, 0 to 1, BT.601 weights: a guide for edges, not a colour.
pub(crate) fn luma_row(planes: &Planes, out: &mut [f32]) {
    luma(&planes.r, &planes.g, &planes.b, out);
}

#[multiversion(targets("x86_64+avx2+fma+bmi1+bmi2"))]
fn luma(r: &[u8], g: &[u8], b: &[u8], out: &mut [f32]) {
    let n = out.len();
    let (r, g, b) = (&r[..n], &g[..n], &b[..n]);
    for i in 0..n {
        let y = 77 * i32::from(r[i]) + 150 * i32::from(g[i]) + 29 * i32::from(b[i]);
        out[i] = y as f32 * (1.0 / (255.0 * 256.0));
    }
}

#[multiversion(targets("x86_64+avx2+fma+bmi1+bmi2"))]
fn join3(r: &[u8], g: &[u8], b: &[u8], out: &mut [[u8; 3]]) {
    let n = out.len();
    let (r, g, b) = (&r[..n], &g[..n], &b[..n]);
    for i in 0..n {
        out[i] = [r[i], g[i], b[i]];
    }
}

#[multiversion(targets("x86_64+avx2+fma+bmi1+bmi2"))]
fn join4([p, q, s, t]: [&[u8]; 4], out: &mut [[u8; 4]]) {
    let n = out.len();
    let (p, q, s, t) = (&p[..n], &q[..n], &s[..n], &t[..n]);
    for i in 0..n {
        // One store of four bytes.
        let all =
            u32::from(p[i]) | u32::from(q[i]) << 8 | u32::from(s[i]) << 16 | u32::from(t[i]) << 24;
        out[i] = all.to_le_bytes();
    }
}

/// Packed RGB.
pub(crate) fn write_rgb(planes: &Planes, out: &mut [u8]) {
    join3(&planes.r, &planes.g, &planes.b, out.as_chunks_mut::<3>().0);
}

/// Writes a row of colour and alpha in an output format.
pub(crate) fn write_row(planes: &Planes, alpha: &[u8], format: OutputFormat, out: &mut [u8]) {
    let Some(layout) = format.layout() else {
        out.copy_from_slice(alpha);
        return;
    };
    let mut bytes: [&[u8]; 4] = [alpha; 4];
    for (plane, at) in [&planes.r, &planes.g, &planes.b].into_iter().zip(layout) {
        bytes[at] = plane;
    }
    join4(bytes, out.as_chunks_mut::<4>().0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Plane;

    fn packed(frame: &Frame<'_>, y: usize) -> Vec<u8> {
        let (mut planes, width) = (Planes::default(), frame.width() as usize);
        planes.resize(width);
        frame_row(frame, YuvToRgb::new(frame.colorimetry()), y, &mut planes);
        let mut rgb = vec![0; width * 3];
        write_rgb(&planes, &mut rgb);
        rgb
    }

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
            let rgb = packed(&frame, 0);
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
        let planes = Planes {
            r: vec![1, 4],
            g: vec![2, 5],
            b: vec![3, 6],
            ..Planes::default()
        };
        let alpha = [7, 8];
        for (format, wanted) in [
            (OutputFormat::Rgba, &[1, 2, 3, 7, 4, 5, 6, 8][..]),
            (OutputFormat::Bgra, &[3, 2, 1, 7, 6, 5, 4, 8]),
            (OutputFormat::Argb, &[7, 1, 2, 3, 8, 4, 5, 6]),
            (OutputFormat::Abgr, &[7, 3, 2, 1, 8, 6, 5, 4]),
            (OutputFormat::Gray8, &[7, 8]),
        ] {
            let mut out = vec![0; wanted.len()];
            write_row(&planes, &alpha, format, &mut out);
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
        let rgb = packed(&frame, 0);
        assert_eq!(rgb[..6], [128; 6]);
        assert_eq!(
            rgb[6], 255,
            "the third pixel takes the second chroma sample"
        );
    }
}
