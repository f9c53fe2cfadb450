//! The matte at full size. Either bilinear interpolation, or the fast guided filter (He and Sun, "Fast Guided Filter",
//! 2015): at the working size alpha is fitted in every window as a·luma + b; a and b, which are smooth, are interpolated
//! to full size and applied to the full-size luma, so that the matte has the edges of the picture.

use multiversion::multiversion;

use super::boxes::box_mean;

/// Radius of the fitting window, working-size pixels.
pub(crate) const RADIUS: usize = 2;
/// Luma variance below which a window counts as flat.
pub(crate) const EPSILON: f32 = 1e-3;

/// Brings the matte to full size, with buffers that are kept from frame to frame.
#[derive(Debug, Default)]
pub(crate) struct Upsampler {
    moments: Vec<[f32; 4]>,
    coefficients: Vec<[f32; 2]>,
    scratch_moments: Vec<[f32; 4]>,
    scratch_coefficients: Vec<[f32; 2]>,
    low: (usize, usize),
    full: (usize, usize),
    guided: bool,
    columns: Columns,
}

/// For every full-size column the left one of the two that it lies between, and the weight of the right one.
pub(crate) type Columns = Vec<(u32, f32)>;

/// Two rows of a and b, spread to the full width, and which rows they are. Every thread has its own.
#[derive(Debug, Default)]
pub(crate) struct Spread([(Option<usize>, Vec<f32>, Vec<f32>); 2]);

impl Spread {
    /// Forgets what it holds: the matte is another one.
    pub(crate) fn begin(&mut self, width: usize) {
        for (row, a, b) in &mut self.0 {
            *row = None;
            a.resize(width, 0.0);
            b.resize(width, 0.0);
        }
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

#[multiversion(targets("x86_64+avx2+fma+bmi1+bmi2"))]
fn fit(moments: &[[f32; 4]], coefficients: &mut Vec<[f32; 2]>) {
    coefficients.extend(moments.iter().map(|[i, p, ip, ii]| {
        let a = (ip - i * p) / ((ii - i * i).max(0.0) + EPSILON);
        [a, p - a * i]
    }));
}

impl Upsampler {
    /// Takes the rows of a matte at the working size; `luma` is the guide at the same size, none for plain
    /// interpolation.
    pub(crate) fn prepare<'a>(
        &mut self,
        alpha: impl Iterator<Item = &'a [f32]>,
        luma: Option<&[f32]>,
        low: (usize, usize),
        full: (usize, usize),
    ) {
        self.guided = luma.is_some();
        if (low, full) != (self.low, self.full) {
            (self.low, self.full) = (low, full);
            columns(low.0, full.0, &mut self.columns);
        }
        self.coefficients.clear();
        let Some(luma) = luma else {
            for row in alpha {
                self.coefficients.extend(row.iter().map(|p| [0.0, *p]));
            }
            return;
        };
        self.moments.clear();
        for (row, luma) in alpha.zip(luma.chunks_exact(low.0)) {
            self.moments
                .extend(luma.iter().zip(row).map(|(i, p)| [*i, *p, i * p, i * i]));
        }
        box_mean(&mut self.moments, low, RADIUS, &mut self.scratch_moments);
        fit(&self.moments, &mut self.coefficients);
        box_mean(
            &mut self.coefficients,
            low,
            RADIUS,
            &mut self.scratch_coefficients,
        );
    }

    /// For every full-size column its place among those of the working size.
    pub(crate) fn columns(&self) -> &Columns {
        &self.columns
    }

    fn spread_row(&self, row: usize, rows: &mut Spread) {
        let width = self.low.0;
        let low = &self.coefficients[row * width..][..width];
        let (which, a, b) = &mut rows.0[row % 2];
        if *which != Some(row) {
            *which = Some(row);
            spread(low, &self.columns, a, b);
        }
    }

    /// Row `y` of the matte at full size, 0 to 255; `luma` is that row of the guide.
    pub(crate) fn row(&self, y: usize, luma: Option<&[f32]>, rows: &mut Spread, out: &mut [u8]) {
        let (upper, weight) = position(y, self.low.1, self.full.1);
        let lower = (upper + 1).min(self.low.1 - 1);
        self.spread_row(upper, rows);
        self.spread_row(lower, rows);
        let (_, a0, b0) = &rows.0[upper % 2];
        let (_, a1, b1) = &rows.0[lower % 2];
        match luma.filter(|_| self.guided) {
            Some(luma) => apply_guided([a0, b0], [a1, b1], weight, luma, out),
            None => apply_plain(b0, b1, weight, out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(n: usize, seed: u32) -> Vec<f32> {
        let mut v = seed;
        (0..n)
            .map(|_| {
                v = v.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (v >> 8) as f32 / (1 << 24) as f32
            })
            .collect()
    }

    #[test]
    fn without_a_guide_it_is_bilinear_at_half_pixel_centres() {
        let (low, full) = ((4, 3), (9, 7));
        let alpha = noise(12, 3);
        let mut up = Upsampler::default();
        up.prepare(alpha.chunks(low.0), None, low, full);
        let mut rows = Spread::default();
        rows.begin(full.0);
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
        up.prepare(alpha.chunks(16), None, (16, 16), (16, 16));
        let mut rows = Spread::default();
        rows.begin(16);
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
            up.prepare(alpha.chunks(low.0), guide.then_some(&luma_low), low, full);
            let mut rows = Spread::default();
            rows.begin(128);
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
            up.prepare([value; 800].chunks(40), Some(&luma), (40, 20), (80, 40));
            let mut rows = Spread::default();
            rows.begin(80);
            let mut out = vec![7; 80];
            for y in 0..40 {
                up.row(y, Some(&noise(80, y as u32)), &mut rows, &mut out);
                assert!(out.iter().all(|a| *a == (value * 255.0) as u8));
            }
        }
    }
}
