//! The matte at full size. Either bilinear interpolation, or the fast guided filter (He and Sun, "Fast Guided Filter",
//! 2015): at the working size alpha is fitted in every window as a·luma + b; a and b, which are smooth, are interpolated
//! to full size and applied to the full-size luma, so that the matte has the edges of the picture.

use multiversion::multiversion;

use super::bands::{self, Grid};

/// Radius of the fitting window, working-size pixels.
pub(crate) const RADIUS: usize = 2;
/// Luma variance below which a window counts as flat.
pub(crate) const EPSILON: f32 = 1e-3;

/// A window's sides are no longer than this.
const WINDOW: usize = 2 * RADIUS + 1;

/// Brings the matte to full size, with buffers that are kept from frame to frame.
#[derive(Debug, Default)]
pub(crate) struct Upsampler {
    /// For every row, one after the other, the sums along it over windows of luma, alpha, luma·alpha and luma².
    moments: Vec<f32>,
    /// For every row the sums along it over windows of a and of b; without a guide nothing and alpha.
    coefficients: Vec<f32>,
    low: (usize, usize),
    full: (usize, usize),
    guided: bool,
    columns: Columns,
}

/// For every full-size column the left one of the two that it lies between, and the weight of the right one.
pub(crate) type Columns = Vec<(u32, f32)>;

/// What a thread needs for its rows.
#[derive(Debug, Default)]
pub(crate) struct Spread {
    /// Two rows of a and b, spread to the full width, and which rows they are.
    held: [(Option<usize>, Vec<f32>, Vec<f32>); 2],
    /// Rows with [`RADIUS`] zeros at either end.
    padded: [Vec<f32>; 2],
    luma: Vec<f32>,
    sums: Vec<f32>,
    low: Vec<[f32; 2]>,
}

impl Spread {
    /// Forgets what it holds: the matte is another one.
    pub(crate) fn begin(&mut self, width: usize) {
        for (row, a, b) in &mut self.held {
            *row = None;
            a.resize(width, 0.0);
            b.resize(width, 0.0);
        }
    }

    /// Room for rows of the working size.
    fn resize(&mut self, width: usize) {
        for row in &mut self.padded {
            row.clear();
            row.resize(width + 2 * RADIUS, 0.0);
        }
        self.luma.resize(width, 0.0);
        self.sums.resize(4 * width, 0.0);
        self.low.resize(width, [0.0; 2]);
    }
}

impl AsMut<Spread> for Spread {
    fn as_mut(&mut self) -> &mut Spread {
        self
    }
}

/// How many of `n` columns, or rows, the window around `i` has.
fn window(i: usize, n: usize) -> usize {
    i.min(RADIUS) + (n - 1 - i).min(RADIUS) + 1
}

/// Columns whose window is cut by the border.
fn cut_columns(n: usize) -> impl Iterator<Item = usize> {
    let left = RADIUS.min(n);
    (0..left).chain(n.saturating_sub(RADIUS).max(left)..n)
}

/// Sums over windows along a padded row.
#[multiversion(targets("x86_64+avx2+fma+bmi1+bmi2"))]
fn along(padded: &[f32], out: &mut [f32]) {
    let n = out.len();
    let rows: [&[f32]; WINDOW] = std::array::from_fn(|k| &padded[k..k + n]);
    for i in 0..n {
        let mut sum = 0.0;
        for row in rows {
            sum += row[i];
        }
        out[i] = sum;
    }
}

#[multiversion(targets("x86_64+avx2+fma+bmi1+bmi2"))]
fn product(a: &[f32], b: &[f32], out: &mut [f32]) {
    let n = out.len();
    let (a, b) = (&a[..n], &b[..n]);
    for i in 0..n {
        out[i] = a[i] * b[i];
    }
}

/// The sum of the rows in the window around row `y`.
#[multiversion(targets("x86_64+avx2+fma+bmi1+bmi2"))]
fn across(rows: &[f32], y: usize, sums: &mut [f32]) {
    let n = sums.len();
    let last = (y + RADIUS + 1) * n;
    let mut rows = rows[y.saturating_sub(RADIUS) * n..last.min(rows.len())].chunks_exact(n);
    if let Some(first) = rows.next() {
        sums.copy_from_slice(first);
    }
    for row in rows {
        for i in 0..n {
            sums[i] += row[i];
        }
    }
}

/// The line through a window whose sums these are, `scale` being one over its pixels.
#[allow(
    clippy::inline_always,
    reason = "it must take on the instruction set of its caller"
)]
#[inline(always)]
fn line(sums: [f32; 4], scale: f32) -> (f32, f32) {
    let [i, p, ip, ii] = sums.map(|s| s * scale);
    let a = (ip - i * p) / ((ii - i * i).max(0.0) + EPSILON);
    (a, p - a * i)
}

/// The lines of a row. `rows` of the window are inside the picture.
#[multiversion(targets("x86_64+avx2+fma+bmi1+bmi2"))]
fn fit(sums: &[f32], rows: usize, a: &mut [f32], b: &mut [f32]) {
    let n = a.len();
    let (i, rest) = sums[..4 * n].split_at(n);
    let (p, rest) = rest.split_at(n);
    let (ip, ii) = rest.split_at(n);
    let b = &mut b[..n];
    let scale = 1.0 / (rows * WINDOW) as f32;
    for x in 0..n {
        (a[x], b[x]) = line([i[x], p[x], ip[x], ii[x]], scale);
    }
    for x in cut_columns(n) {
        let scale = 1.0 / (rows * window(x, n)) as f32;
        (a[x], b[x]) = line([i[x], p[x], ip[x], ii[x]], scale);
    }
}

/// Sums of a and b become means, side by side.
#[multiversion(targets("x86_64+avx2+fma+bmi1+bmi2"))]
fn means(sums: &[f32], rows: usize, out: &mut [[f32; 2]]) {
    let n = out.len();
    let (a, b) = sums[..2 * n].split_at(n);
    let scale = 1.0 / (rows * WINDOW) as f32;
    for x in 0..n {
        out[x] = [a[x] * scale, b[x] * scale];
    }
    for x in cut_columns(n) {
        let scale = 1.0 / (rows * window(x, n)) as f32;
        out[x] = [a[x] * scale, b[x] * scale];
    }
}

/// Fills the columns for a width.
pub(crate) fn columns(low: usize, full: usize, out: &mut Columns) {
    out.clear();
    out.extend((0..full).map(|x| {
        let (lower, weight) = position(x, low, full);
        (lower as u32, weight)
    }));
}

/// Position at half-pixel centres, clamped to the edge: lower neighbour and weight of the upper one.
pub(crate) fn position(i: usize, low: usize, full: usize) -> (usize, f32) {
    let at = ((i as f32 + 0.5) * (low as f32 / full as f32) - 0.5).clamp(0.0, (low - 1) as f32);
    let lower = (at as usize).min(low.saturating_sub(2));
    (lower, at - lower as f32)
}

/// 0 to 1 becomes 0 to 255, rounded; what lies outside is clamped.
#[allow(
    clippy::inline_always,
    reason = "it must take on the instruction set of its caller"
)]
#[inline(always)]
fn byte(v: f32) -> u8 {
    // Adding 2^23 leaves the integer in the lowest bits: unlike a cast, this vectorises.
    (v.clamp(0.0, 1.0) * 255.0 + 8_388_608.0).to_bits() as u8
}

#[multiversion(targets("x86_64+avx2+fma+bmi1+bmi2"))]
fn apply_guided(upper: [&[f32]; 2], lower: [&[f32]; 2], weight: f32, luma: &[f32], out: &mut [u8]) {
    let n = out.len();
    let ([a0, b0], [a1, b1], luma) = (upper.map(|r| &r[..n]), lower.map(|r| &r[..n]), &luma[..n]);
    for i in 0..n {
        let a = a0[i] + (a1[i] - a0[i]) * weight;
        let b = b0[i] + (b1[i] - b0[i]) * weight;
        out[i] = byte(a * luma[i] + b);
    }
}

#[multiversion(targets("x86_64+avx2+fma+bmi1+bmi2"))]
fn apply_plain(upper: &[f32], lower: &[f32], weight: f32, out: &mut [u8]) {
    let n = out.len();
    let (b0, b1) = (&upper[..n], &lower[..n]);
    for i in 0..n {
        out[i] = byte(b0[i] + (b1[i] - b0[i]) * weight);
    }
}

/// One row of a and b at full width.
#[multiversion(targets("x86_64+avx2+fma+bmi1+bmi2"))]
fn spread(low: &[[f32; 2]], columns: &[(u32, f32)], a: &mut [f32], b: &mut [f32]) {
    let (n, last) = (columns.len(), low.len() - 1);
    let (a, b) = (&mut a[..n], &mut b[..n]);
    for i in 0..n {
        let (x, weight) = columns[i];
        let left = low[x as usize];
        let right = low[(x as usize + 1).min(last)];
        a[i] = left[0] + (right[0] - left[0]) * weight;
        b[i] = left[1] + (right[1] - left[1]) * weight;
    }
}

/// Fills in row `y` of a guide at the working size, 0 to 1.
pub(crate) type GuideRows<'a> = &'a (dyn Fn(usize, &mut [f32]) + Sync);

impl Upsampler {
    /// Takes a matte at the working size; `luma` is the guide at the same size, none for plain interpolation. Works on as
    /// many threads as there is scratch.
    pub(crate) fn prepare<S: AsMut<Spread> + Send>(
        &mut self,
        scratch: &mut [S],
        alpha: &[f32],
        luma: Option<GuideRows<'_>>,
        low: (usize, usize),
        full: (usize, usize),
    ) {
        self.guided = luma.is_some();
        if (low, full) != (self.low, self.full) {
            (self.low, self.full) = (low, full);
            columns(low.0, full.0, &mut self.columns);
        }
        let (width, height) = low;
        for scratch in &mut *scratch {
            scratch.as_mut().resize(width);
        }
        self.coefficients.resize(2 * width * height, 0.0);
        let Some(luma) = luma else {
            let rows = self.coefficients.chunks_exact_mut(2 * width);
            for (row, alpha) in rows.zip(alpha.chunks_exact(width)) {
                let (a, b) = row.split_at_mut(width);
                a.fill(0.0);
                b.copy_from_slice(alpha);
            }
            return;
        };
        self.moments.resize(4 * width * height, 0.0);
        let rows = Grid {
            data: &mut self.moments,
            width: 4 * width,
        };
        bands::each(scratch, rows, &|scratch: &mut S, band, first| {
            let Spread {
                padded: [padded, _],
                luma: guide,
                ..
            } = scratch.as_mut();
            for (y, row) in (first..).zip(band.data.chunks_exact_mut(4 * width)) {
                luma(y, guide);
                let alpha = &alpha[y * width..][..width];
                for (moment, sums) in row.chunks_exact_mut(width).enumerate() {
                    let values = &mut padded[RADIUS..][..width];
                    match moment {
                        0 => values.copy_from_slice(guide),
                        1 => values.copy_from_slice(alpha),
                        2 => product(guide, alpha, values),
                        _ => product(guide, guide, values),
                    }
                    along(padded, sums);
                }
            }
        });
        let (moments, rows) = (
            &self.moments,
            Grid {
                data: &mut self.coefficients,
                width: 2 * width,
            },
        );
        bands::each(scratch, rows, &|scratch: &mut S, band, first| {
            let Spread {
                padded: [a, b],
                sums,
                ..
            } = scratch.as_mut();
            for (y, row) in (first..).zip(band.data.chunks_exact_mut(2 * width)) {
                across(moments, y, sums);
                let rows = window(y, height);
                fit(
                    sums,
                    rows,
                    &mut a[RADIUS..][..width],
                    &mut b[RADIUS..][..width],
                );
                let (a_sums, b_sums) = row.split_at_mut(width);
                along(a, a_sums);
                along(b, b_sums);
            }
        });
    }

    /// For every full-size column its place among those of the working size.
    pub(crate) fn columns(&self) -> &Columns {
        &self.columns
    }

    fn spread_row(&self, row: usize, rows: &mut Spread) {
        let (width, height) = self.low;
        let Spread {
            held, sums, low, ..
        } = rows;
        let (which, a, b) = &mut held[row % 2];
        if *which == Some(row) {
            return;
        }
        *which = Some(row);
        if self.guided {
            let sums = &mut sums[..2 * width];
            across(&self.coefficients, row, sums);
            means(sums, window(row, height), low);
        } else {
            let alpha = &self.coefficients[(2 * row + 1) * width..][..width];
            for (pair, alpha) in low.iter_mut().zip(alpha) {
                *pair = [0.0, *alpha];
            }
        }
        spread(low, &self.columns, a, b);
    }

    /// Row `y` of the matte at full size, 0 to 255; `luma` is that row of the guide. `rows` is one of the scratches that
    /// the matte was prepared with.
    pub(crate) fn row(&self, y: usize, luma: Option<&[f32]>, rows: &mut Spread, out: &mut [u8]) {
        let (upper, weight) = position(y, self.low.1, self.full.1);
        let lower = (upper + 1).min(self.low.1 - 1);
        self.spread_row(upper, rows);
        self.spread_row(lower, rows);
        let (_, a0, b0) = &rows.held[upper % 2];
        let (_, a1, b1) = &rows.held[lower % 2];
        match luma.filter(|_| self.guided) {
            Some(luma) => apply_guided([a0, b0], [a1, b1], weight, luma, out),
            None => apply_plain(b0, b1, weight, out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pixel::noise::noise;

    fn guide_rows(luma: &[f32], width: usize) -> impl Fn(usize, &mut [f32]) + Sync {
        move |y, row| row.copy_from_slice(&luma[y * width..][..width])
    }

    /// The filter as the paper has it, in double precision, window by window: a and b of every pixel.
    fn plain_guided(alpha: &[f32], luma: &[f32], (w, h): (usize, usize)) -> Vec<[f64; 2]> {
        let mean = |x: usize, y: usize, of: &dyn Fn(usize) -> f64| {
            let (mut sum, mut n) = (0.0, 0.0);
            for v in y.saturating_sub(RADIUS)..(y + RADIUS + 1).min(h) {
                for u in x.saturating_sub(RADIUS)..(x + RADIUS + 1).min(w) {
                    sum += of(v * w + u);
                    n += 1.0;
                }
            }
            sum / n
        };
        let (i, p) = (
            |k: usize| f64::from(luma[k]),
            |k: usize| f64::from(alpha[k]),
        );
        let pixels = || (0..h).flat_map(|y| (0..w).map(move |x| (x, y)));
        let lines: Vec<[f64; 2]> = pixels()
            .map(|(x, y)| {
                let (mi, mp) = (mean(x, y, &i), mean(x, y, &p));
                let covariance = mean(x, y, &|k| i(k) * p(k)) - mi * mp;
                let variance = mean(x, y, &|k| i(k) * i(k)) - mi * mi;
                let a = covariance / (variance + f64::from(EPSILON));
                [a, mp - a * mi]
            })
            .collect();
        pixels()
            .map(|(x, y)| [0, 1].map(|c| mean(x, y, &|k| lines[k][c])))
            .collect()
    }

    #[test]
    fn it_is_the_filter_of_the_paper_on_any_number_of_threads() {
        for size in [(1, 1), (2, 3), (3, 2), (4, 7), (5, 5), (33, 18)] {
            let (w, h) = size;
            let (alpha, luma) = (noise(w * h, 1), noise(w * h, 2));
            let wanted = plain_guided(&alpha, &luma, size);
            for bands in [1, 2, 4] {
                let mut scratch: Vec<Spread> = (0..bands).map(|_| Spread::default()).collect();
                for rows in &mut scratch {
                    rows.begin(w);
                }
                let mut up = Upsampler::default();
                let fill = guide_rows(&luma, w);
                up.prepare(&mut scratch, &alpha, Some(&fill), size, size);
                let rows = &mut scratch[0];
                let mut out = vec![0; w];
                for y in 0..h {
                    up.row(y, Some(&luma[y * w..][..w]), rows, &mut out);
                    for x in 0..w {
                        let [a, b] = wanted[y * w + x];
                        let wanted = (a * f64::from(luma[y * w + x]) + b).clamp(0.0, 1.0) * 255.0;
                        assert!(
                            (f64::from(out[x]) - wanted).abs() < 0.52,
                            "{size:?} {bands} at {x},{y}: {} {wanted}",
                            out[x]
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn without_a_guide_it_is_bilinear_at_half_pixel_centres() {
        let (low, full) = ((4, 3), (9, 7));
        let alpha = noise(12, 3);
        let mut up = Upsampler::default();
        let mut rows = Spread::default();
        rows.begin(full.0);
        up.prepare(std::slice::from_mut(&mut rows), &alpha, None, low, full);
        let mut out = vec![0; full.0];
        for y in 0..full.1 {
            up.row(y, None, &mut rows, &mut out);
            for (x, got) in out.iter().enumerate() {
                let at = |i: usize, low: usize, full: usize| {
                    ((i as f64 + 0.5) * low as f64 / full as f64 - 0.5).clamp(0.0, (low - 1) as f64)
                };
                let (sx, sy) = (at(x, 4, 9), at(y, 3, 7));
                let pick = |x: usize, y: usize| f64::from(alpha[y.min(2) * 4 + x.min(3)]);
                let (x0, y0) = (sx as usize, sy as usize);
                let (fx, fy) = (sx.fract(), sy.fract());
                let top = pick(x0, y0) * (1.0 - fx) + pick(x0 + 1, y0) * fx;
                let bottom = pick(x0, y0 + 1) * (1.0 - fx) + pick(x0 + 1, y0 + 1) * fx;
                let wanted = (top * (1.0 - fy) + bottom * fy) * 255.0;
                assert!(
                    (f64::from(*got) - wanted).abs() <= 0.51,
                    "{x} {y}: {got} {wanted}"
                );
            }
        }
    }

    #[test]
    fn the_same_size_passes_unchanged() {
        let alpha: Vec<f32> = (0..=255).map(|v| v as f32 / 255.0).collect();
        let mut up = Upsampler::default();
        let mut rows = Spread::default();
        rows.begin(16);
        let size = (16, 16);
        up.prepare(std::slice::from_mut(&mut rows), &alpha, None, size, size);
        let mut out = vec![0; 16];
        for y in 0..16 {
            up.row(y, None, &mut rows, &mut out);
            let wanted: Vec<u8> = (0..16).map(|x| (y * 16 + x) as u8).collect();
            assert_eq!(out, wanted);
        }
    }

    #[test]
    fn the_guide_brings_a_coarse_edge_to_the_edge_of_the_picture() {
        // A picture with an edge at x = 70 of 128; the matte at a quarter of the size has it two pixels off and soft.
        let (low, full) = ((32, 8), (128, 32));
        let luma_full: Vec<f32> = (0..128).map(|x| if x < 70 { 0.2 } else { 0.8 }).collect();
        let luma_low: Vec<f32> = (0..8)
            .flat_map(|_| (0..32).map(|x| luma_full[x * 4..x * 4 + 4].iter().sum::<f32>() / 4.0))
            .collect();
        let alpha: Vec<f32> = (0..8)
            .flat_map(|_| (0..32).map(|x| ((x as f32 - 15.0) / 4.0).clamp(0.0, 1.0)))
            .collect();
        let error = |guide: bool| {
            let mut up = Upsampler::default();
            let mut rows = Spread::default();
            rows.begin(128);
            let fill = guide_rows(&luma_low, low.0);
            let luma: Option<GuideRows<'_>> = if guide { Some(&fill) } else { None };
            up.prepare(std::slice::from_mut(&mut rows), &alpha, luma, low, full);
            let mut out = vec![0; 128];
            up.row(16, guide.then_some(&luma_full), &mut rows, &mut out);
            out.iter()
                .enumerate()
                .map(|(x, a)| (f32::from(*a) / 255.0 - f32::from(u8::from(x >= 70))).abs())
                .sum::<f32>()
        };
        assert!(
            error(true) < 0.65 * error(false),
            "{} {}",
            error(true),
            error(false)
        );
    }

    #[test]
    fn flat_parts_stay_exactly_empty_and_full() {
        let luma = noise(40 * 20, 5);
        for value in [0.0, 1.0] {
            let mut up = Upsampler::default();
            let mut rows = Spread::default();
            rows.begin(80);
            let scratch = std::slice::from_mut(&mut rows);
            let fill = guide_rows(&luma, 40);
            up.prepare(scratch, &[value; 800], Some(&fill), (40, 20), (80, 40));
            let mut out = vec![7; 80];
            for y in 0..40 {
                up.row(y, Some(&noise(80, y as u32)), &mut rows, &mut out);
                assert!(out.iter().all(|a| *a == (value * 255.0) as u8));
            }
        }
    }
}
