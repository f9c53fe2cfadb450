//! Rows of pixels: any input format to red, green and blue, colour and alpha to any output format.

use std::ops::Range;

use multiversion::multiversion;

use crate::frame::{Colorimetry, Frame, OutputFormat, PixelFormat, YuvMatrix};

/// YUV → RGB in fixed point of 16 bits. What a factor has beyond 1, with 15 bits of fraction for luma and 14 for chroma.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct YuvToRgb {
    y_offset: i16,
    y: i16,
    r_v: i16,
    g_u: i16,
    g_v: i16,
    b_u: i16,
}

/// ITU-R BT.601, BT.709 and BT.2020: luma weights of red and blue.
fn luma_weights(matrix: YuvMatrix) -> (f64, f64) {
    match matrix {
        YuvMatrix::Bt601 => (0.299, 0.114),
        YuvMatrix::Bt709 => (0.2126, 0.0722),
        YuvMatrix::Bt2020 => (0.2627, 0.0593),
    }
}

/// RGB → YUV in fixed point, 16 bits of fraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RgbToYuv {
    y_offset: i32,
    y: [i32; 3],
    u: [i32; 3],
    v: [i32; 3],
}

const FINE: i32 = 16;

impl RgbToYuv {
    pub(crate) fn new(colorimetry: Colorimetry) -> Self {
        let (kr, kb) = luma_weights(colorimetry.matrix);
        let kg = 1.0 - kr - kb;
        let (luma, chroma, y_offset) = match colorimetry.full_range {
            true => (1.0, 1.0, 0),
            false => (219.0 / 255.0, 224.0 / 255.0, 16),
        };
        let fixed = |v: f64| (v * f64::from(1 << FINE)).round() as i32;
        let (cu, cv) = (chroma / (2.0 * (1.0 - kb)), chroma / (2.0 * (1.0 - kr)));
        // The middle weight is what is left, so that white is exactly white and grey has no colour.
        let rest = |total: f64, a: i32, b: i32| fixed(total) - a - b;
        let (yr, yb) = (fixed(kr * luma), fixed(kb * luma));
        let (ur, ub) = (fixed(-kr * cu), fixed((1.0 - kb) * cu));
        let (vr, vb) = (fixed((1.0 - kr) * cv), fixed(-kb * cv));
        debug_assert!((kr + kg + kb - 1.0).abs() < 1e-12);
        Self {
            y_offset,
            y: [yr, rest(luma, yr, yb), yb],
            u: [ur, rest(0.0, ur, ub), ub],
            v: [vr, rest(0.0, vr, vb), vb],
        }
    }
}

impl YuvToRgb {
    pub(crate) fn new(colorimetry: Colorimetry) -> Self {
        let (kr, kb) = luma_weights(colorimetry.matrix);
        let kg = 1.0 - kr - kb;
        let (luma, chroma, y_offset) = if colorimetry.full_range {
            (1.0, 1.0, 0)
        } else {
            (255.0 / 219.0, 255.0 / 224.0, 16)
        };
        let fixed = |v: f64, bits: i32| ((v - 1.0) * f64::from(1 << bits)).round() as i16;
        Self {
            y_offset,
            y: fixed(luma, 15),
            r_v: fixed(2.0 * (1.0 - kr) * chroma, 14),
            g_u: fixed(-2.0 * kb * (1.0 - kb) / kg * chroma, 14),
            g_v: fixed(-2.0 * kr * (1.0 - kr) / kg * chroma, 14),
            b_u: fixed(2.0 * (1.0 - kb) * chroma, 14),
        }
    }

    #[cfg(test)]
    pub(crate) fn convert(&self, y: u8, u: u8, v: u8) -> [u8; 3] {
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
    /// Luma, taken out of a packed format.
    y: Vec<u8>,
    /// Chroma, spread to the width of luma.
    u: Vec<u8>,
    v: Vec<u8>,
}

/// Some columns of [`Planes`].
#[derive(Debug)]
pub(crate) struct PlanesMut<'a> {
    r: &'a mut [u8],
    g: &'a mut [u8],
    b: &'a mut [u8],
    y: &'a mut [u8],
    u: &'a mut [u8],
    v: &'a mut [u8],
}

impl Planes {
    /// Some columns.
    pub(crate) fn part(&mut self, columns: Range<usize>) -> PlanesMut<'_> {
        PlanesMut {
            r: &mut self.r[columns.clone()],
            g: &mut self.g[columns.clone()],
            b: &mut self.b[columns.clone()],
            y: &mut self.y[columns.clone()],
            u: &mut self.u[columns.clone()],
            v: &mut self.v[columns],
        }
    }

    /// Makes some columns black.
    pub(crate) fn blacken(&mut self, columns: Range<usize>) {
        for plane in [&mut self.r, &mut self.g, &mut self.b] {
            plane[columns.clone()].fill(0);
        }
    }

    pub(crate) fn rgb(&self) -> [&[u8]; 3] {
        [&self.r, &self.g, &self.b]
    }

    /// All columns.
    pub(crate) fn all(&mut self) -> PlanesMut<'_> {
        self.part(0..self.r.len())
    }

    pub(crate) fn resize(&mut self, width: usize) {
        for plane in [
            &mut self.r,
            &mut self.g,
            &mut self.b,
            &mut self.y,
            &mut self.u,
            &mut self.v,
        ] {
            plane.resize(width, 0);
        }
    }
}

// The kernels take slices of one length and walk them by index: so the compiler drops the bound checks and vectorises.
// `multiversion` compiles each of them a second time for processors with AVX2.

/// The upper half of a product: in this form one instruction for all lanes.
#[allow(
    clippy::inline_always,
    reason = "it must take on the instruction set of its caller"
)]
#[inline(always)]
fn upper(a: i16, b: i16) -> i16 {
    ((i32::from(a) * i32::from(b)) >> 16) as i16
}

#[multiversion(targets("x86_64+avx2+fma+bmi1+bmi2"))]
fn yuv_to_rgb(m: YuvToRgb, [y, u, v]: [&[u8]; 3], r: &mut [u8], g: &mut [u8], b: &mut [u8]) {
    let n = r.len();
    let (y, u, v, g, b) = (&y[..n], &u[..n], &v[..n], &mut g[..n], &mut b[..n]);
    for i in 0..n {
        // Everything with six bits of fraction; 32 is a half.
        let luma = i16::from(y[i]) - m.y_offset;
        let luma = luma * 64 + upper(luma * 128, m.y) + 32;
        let (u, v) = (i16::from(u[i]) - 128, i16::from(v[i]) - 128);
        let (u6, v6, u8, v8) = (u * 64, v * 64, u * 256, v * 256);
        let red = v6 + upper(v8, m.r_v);
        let green = u6 + upper(u8, m.g_u) + v6 + upper(v8, m.g_v);
        let blue = u6 + upper(u8, m.b_u);
        r[i] = (luma.saturating_add(red) >> 6).clamp(0, 255) as u8;
        g[i] = (luma.saturating_add(green) >> 6).clamp(0, 255) as u8;
        b[i] = (luma.saturating_add(blue) >> 6).clamp(0, 255) as u8;
    }
}

/// Every sample twice.
#[multiversion(targets("x86_64+avx2+fma+bmi1+bmi2"))]
fn double(samples: &[u8], out: &mut [u8]) {
    let (pairs, rest) = out.as_chunks_mut::<2>();
    let n = pairs.len();
    let whole = &samples[..n];
    for i in 0..n {
        // As a number of two bytes: this vectorises.
        pairs[i] = (u16::from(whole[i]) * 0x101).to_le_bytes();
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
    let (us, vs, halves) = (&mut us[..whole], &mut vs[..whole], &pairs[..whole]);
    for i in 0..whole {
        // As numbers of two bytes: this vectorises.
        let pair = u16::from_le_bytes(halves[i]);
        us[i] = ((pair & 0xff) * 0x101).to_le_bytes();
        vs[i] = ((pair >> 8) * 0x101).to_le_bytes();
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
pub(crate) fn split_packed(src: &[u8], layout: [usize; 3], bytes: usize, out: &mut PlanesMut<'_>) {
    let PlanesMut { r, g, b, .. } = out;
    if bytes == 3 {
        split(src.as_chunks::<3>().0, layout, r, g, b);
    } else {
        split(src.as_chunks::<4>().0, layout, r, g, b);
    }
}

/// A row of luma with its chroma, given at full width or half, as RGB.
pub(crate) fn split_yuv(luma: &[u8], chroma: Chroma<'_>, yuv: YuvToRgb, out: &mut PlanesMut<'_>) {
    let PlanesMut { r, g, b, u, v, .. } = out;
    match chroma {
        Chroma::None => {
            for plane in [r, g, b] {
                plane.copy_from_slice(luma);
            }
            return;
        }
        Chroma::Planes(us, vs) => return yuv_to_rgb(yuv, [luma, us, vs], r, g, b),
        Chroma::Pairs(pairs) => split_chroma(pairs, u, v),
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
    frame_columns(frame, yuv, y, 0..frame.width() as usize, out);
}

/// Some columns of row `y` of a frame, into the same columns of `out`.
pub(crate) fn frame_columns(
    frame: &Frame<'_>,
    yuv: YuvToRgb,
    y: usize,
    columns: Range<usize>,
    out: &mut Planes,
) {
    let row = frame.row(0, y);
    // Where two columns share their chroma they are taken together.
    let columns = match frame.format().rgb_layout() {
        Some(_) => columns,
        None => columns.start & !1..(columns.end.next_multiple_of(2)).min(frame.width() as usize),
    };
    let half = columns.start / 2..columns.end.div_ceil(2);
    let mut part = out.part(columns.clone());
    if let Some((layout, bytes)) = frame.format().rgb_layout() {
        let row = &row[columns.start * bytes..columns.end * bytes];
        return split_packed(row, layout, bytes, &mut part);
    }
    if let Some(layout) = frame.format().yuv_layout() {
        let PlanesMut { r, g, b, y, u, v } = part;
        split_pairs(&row.as_chunks::<4>().0[half], layout, [y, u, v]);
        return yuv_to_rgb(yuv, [y, u, v], r, g, b);
    }
    let chroma = match frame.format() {
        PixelFormat::Nv12 => Chroma::HalfPairs(&frame.row(1, y / 2)[2 * half.start..2 * half.end]),
        PixelFormat::I420 => Chroma::HalfPlanes(
            &frame.row(1, y / 2)[half.clone()],
            &frame.row(2, y / 2)[half],
        ),
        _ => Chroma::None,
    };
    split_yuv(&row[columns], chroma, yuv, &mut part);
}

/// Two pixels in four bytes, taken apart; both take the chroma.
#[multiversion(targets("x86_64+avx2+fma+bmi1+bmi2"))]
fn split_pairs(pixels: &[[u8; 4]], [y0, y1, u, v]: [usize; 4], out: [&mut [u8]; 3]) {
    let n = out[0].len();
    let (whole, odd) = (n / 2, n % 2);
    let [ys, us, vs] = out;
    {
        let pixels = &pixels[..whole];
        let ys = &mut ys.as_chunks_mut::<2>().0[..whole];
        let us = &mut us.as_chunks_mut::<2>().0[..whole];
        let vs = &mut vs.as_chunks_mut::<2>().0[..whole];
        for i in 0..whole {
            let pixel = pixels[i];
            ys[i] = [pixel[y0], pixel[y1]];
            us[i] = [pixel[u]; 2];
            vs[i] = [pixel[v]; 2];
        }
    }
    if odd == 1 {
        let pixel = pixels[whole];
        (ys[n - 1], us[n - 1], vs[n - 1]) = (pixel[y0], pixel[u], pixel[v]);
    }
}

/// A packed luma and chroma row as planes; chroma at half width.
#[multiversion(targets("x86_64+avx2+fma+bmi1+bmi2"))]
pub(crate) fn split_pairs_half(
    pixels: &[u8],
    [y0, y1, u, v]: [usize; 4],
    ys: &mut [u8],
    us: &mut [u8],
    vs: &mut [u8],
) {
    let pixels = pixels.as_chunks::<4>().0;
    let n = us.len();
    let (pixels, vs) = (&pixels[..n], &mut vs[..n]);
    for i in 0..n {
        us[i] = pixels[i][u];
        vs[i] = pixels[i][v];
    }
    let width = ys.len();
    let pairs = ys.as_chunks_mut::<2>().0;
    for (pair, pixel) in pairs.iter_mut().zip(pixels) {
        *pair = [pixel[y0], pixel[y1]];
    }
    if width % 2 == 1 {
        ys[width - 1] = pixels[n - 1][y0];
    }
}

/// The mean of two rows, halves rounded up.
#[multiversion(targets("x86_64+avx2+fma+bmi1+bmi2"))]
pub(crate) fn average(row: &mut [u8], other: &[u8]) {
    let n = row.len();
    let other = &other[..n];
    for i in 0..n {
        row[i] = (u16::from(row[i]) + u16::from(other[i])).div_ceil(2) as u8;
    }
}

/// Interleaved chroma as planes.
#[multiversion(targets("x86_64+avx2+fma+bmi1+bmi2"))]
pub(crate) fn split_chroma(pairs: &[u8], us: &mut [u8], vs: &mut [u8]) {
    let pairs = pairs.as_chunks::<2>().0;
    let n = us.len();
    let (pairs, vs) = (&pairs[..n], &mut vs[..n]);
    for i in 0..n {
        us[i] = pairs[i][0];
        vs[i] = pairs[i][1];
    }
}

/// Sums of colour over blocks of two by two pixels, and what becomes of them.
#[derive(Debug, Default)]
pub(crate) struct ChromaSums([Vec<u16>; 3]);

impl ChromaSums {
    /// Takes the upper row of a block, and again or the lower one.
    pub(crate) fn add(&mut self, planes: &Planes, first: bool) {
        for (sums, row) in self.0.iter_mut().zip([&planes.r, &planes.g, &planes.b]) {
            sums.resize(row.len().div_ceil(2), 0);
            if first {
                sums.fill(0);
            }
            sum_pairs(row, sums);
        }
    }

    pub(crate) fn write(&self, m: RgbToYuv, u: &mut [u8], v: &mut [u8]) {
        let [r, g, b] = &self.0;
        sums_to_chroma([r, g, b], m, u, v);
    }
}

#[multiversion(targets("x86_64+avx2+fma+bmi1+bmi2"))]
fn sum_pairs(row: &[u8], sums: &mut [u16]) {
    let (pairs, rest) = row.as_chunks::<2>();
    let n = pairs.len();
    for i in 0..n.min(sums.len()) {
        sums[i] += u16::from(pairs[i][0]) + u16::from(pairs[i][1]);
    }
    if let ([last], Some(sum)) = (rest, sums.last_mut()) {
        *sum += 2 * u16::from(*last);
    }
}

#[multiversion(targets("x86_64+avx2+fma+bmi1+bmi2"))]
fn sums_to_chroma([r, g, b]: [&[u16]; 3], m: RgbToYuv, u: &mut [u8], v: &mut [u8]) {
    // Four pixels were summed: two more bits of fraction.
    const SHIFT: i32 = FINE + 2;
    let n = u.len();
    let (r, g, b, v) = (&r[..n], &g[..n], &b[..n], &mut v[..n]);
    let middle = (128 << SHIFT) + (1 << (SHIFT - 1));
    for i in 0..n {
        let (r, g, b) = (i32::from(r[i]), i32::from(g[i]), i32::from(b[i]));
        u[i] = ((m.u[0] * r + m.u[1] * g + m.u[2] * b + middle) >> SHIFT).clamp(0, 255) as u8;
        v[i] = ((m.v[0] * r + m.v[1] * g + m.v[2] * b + middle) >> SHIFT).clamp(0, 255) as u8;
    }
}

/// A row of luma.
pub(crate) fn write_luma(planes: &Planes, m: RgbToYuv, out: &mut [u8]) {
    rgb_to_luma(&planes.r, &planes.g, &planes.b, m, out);
}

#[multiversion(targets("x86_64+avx2+fma+bmi1+bmi2"))]
fn rgb_to_luma(r: &[u8], g: &[u8], b: &[u8], m: RgbToYuv, out: &mut [u8]) {
    let n = out.len();
    let (r, g, b) = (&r[..n], &g[..n], &b[..n]);
    let offset = (m.y_offset << FINE) + (1 << (FINE - 1));
    for i in 0..n {
        let y = m.y[0] * i32::from(r[i]) + m.y[1] * i32::from(g[i]) + m.y[2] * i32::from(b[i]);
        out[i] = ((y + offset) >> FINE).clamp(0, 255) as u8;
    }
}

/// `v / 255`, rounded, for products of two bytes and sums of such that do not exceed 255².
#[allow(
    clippy::inline_always,
    reason = "it must take on the instruction set of its caller"
)]
#[inline(always)]
fn over_255(v: u16) -> u8 {
    let v = v + 128;
    ((v + (v >> 8)) >> 8) as u8
}

/// Multiplies colour by alpha.
pub(crate) fn premultiply(planes: &mut Planes, alpha: &[u8]) {
    for plane in [&mut planes.r, &mut planes.g, &mut planes.b] {
        multiply(plane, alpha);
    }
}

#[multiversion(targets("x86_64+avx2+fma+bmi1+bmi2"))]
fn multiply(row: &mut [u8], alpha: &[u8]) {
    let n = row.len();
    let alpha = &alpha[..n];
    for i in 0..n {
        row[i] = over_255(u16::from(row[i]) * u16::from(alpha[i]));
    }
}

/// Puts a row of one colour behind.
pub(crate) fn over_colour(planes: &mut Planes, alpha: &[u8], colour: [u8; 3]) {
    let rows = [&mut planes.r, &mut planes.g, &mut planes.b];
    for (row, colour) in rows.into_iter().zip(colour) {
        over_one(row, alpha, colour);
    }
}

#[multiversion(targets("x86_64+avx2+fma+bmi1+bmi2"))]
fn over_one(row: &mut [u8], alpha: &[u8], behind: u8) {
    let n = row.len();
    let alpha = &alpha[..n];
    for i in 0..n {
        let a = u16::from(alpha[i]);
        row[i] = over_255(u16::from(row[i]) * a + u16::from(behind) * (255 - a));
    }
}

/// Puts a row of another picture behind.
pub(crate) fn over_row(planes: &mut Planes, alpha: &[u8], behind: &Planes) {
    let rows = [&mut planes.r, &mut planes.g, &mut planes.b];
    for (row, behind) in rows.into_iter().zip([&behind.r, &behind.g, &behind.b]) {
        over(row, alpha, behind);
    }
}

#[multiversion(targets("x86_64+avx2+fma+bmi1+bmi2"))]
fn over(row: &mut [u8], alpha: &[u8], behind: &[u8]) {
    let n = row.len();
    let (alpha, behind) = (&alpha[..n], &behind[..n]);
    for i in 0..n {
        let a = u16::from(alpha[i]);
        row[i] = over_255(u16::from(row[i]) * a + u16::from(behind[i]) * (255 - a));
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

/// Writes a row of colour and alpha in a packed output format.
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
