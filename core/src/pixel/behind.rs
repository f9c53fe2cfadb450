//! The frame, blurred, as a background. The target is left out of it, so that it has no halo of its own colour.

use multiversion::multiversion;

use super::boxes::box_mean;
use super::guided::{Columns, columns, position};
use super::rows::Planes;

/// How little a pixel that the target covers counts.
const LEAST: f32 = 1e-3;

/// The blurred picture at a size that its smoothness allows.
#[derive(Debug, Default)]
pub(crate) struct Blurred {
    /// Red, green, blue, 0 to 255, and the weight.
    cells: Vec<[f32; 4]>,
    scratch: Vec<[f32; 4]>,
    size: (usize, usize),
    full: (usize, usize),
    columns: Columns,
}

/// Two rows at full width, and which they are. Every thread has its own.
#[derive(Debug, Default)]
pub(crate) struct BlurredRows([(Option<usize>, [Vec<f32>; 3]); 2]);

impl BlurredRows {
    /// Forgets what it holds: the picture is another one.
    pub(crate) fn begin(&mut self) {
        for (row, _) in &mut self.0 {
            *row = None;
        }
    }
}

#[multiversion(targets("x86_64+avx2+fma+bmi1+bmi2"))]
fn gather(
    alpha: &[f32],
    picture: &[[u8; 3]],
    width: usize,
    step: usize,
    cells: &mut [[f32; 4]],
    row_cells: usize,
) {
    for (y, (alpha, pixels)) in alpha
        .chunks_exact(width)
        .zip(picture.chunks_exact(width))
        .enumerate()
    {
        let cells = &mut cells[y / step * row_cells..][..row_cells];
        for ((alpha, pixels), cell) in alpha.chunks(step).zip(pixels.chunks(step)).zip(cells) {
            for (a, pixel) in alpha.iter().zip(pixels) {
                let weight = (1.0 - a) * (1.0 - a) + LEAST;
                let [r, g, b] = pixel.map(f32::from);
                let add = [weight * r, weight * g, weight * b, weight];
                for c in 0..4 {
                    cell[c] += add[c];
                }
            }
        }
    }
}

#[multiversion(targets("x86_64+avx2+fma+bmi1+bmi2"))]
fn spread(low: &[[f32; 4]], columns: &[(u32, f32)], out: &mut [Vec<f32>; 3]) {
    let (n, last) = (columns.len(), low.len() - 1);
    let [r, g, b] = out;
    for row in [&mut *r, &mut *g, &mut *b] {
        row.resize(n, 0.0);
    }
    let (r, g, b) = (&mut r[..n], &mut g[..n], &mut b[..n]);
    for i in 0..n {
        let (x, weight) = columns[i];
        let (left, right) = (low[x as usize], low[(x as usize + 1).min(last)]);
        r[i] = left[0] + (right[0] - left[0]) * weight;
        g[i] = left[1] + (right[1] - left[1]) * weight;
        b[i] = left[2] + (right[2] - left[2]) * weight;
    }
}

#[multiversion(targets("x86_64+avx2+fma+bmi1+bmi2"))]
fn between(upper: &[f32], lower: &[f32], weight: f32, out: &mut [u8]) {
    let n = out.len();
    let (upper, lower) = (&upper[..n], &lower[..n]);
    for i in 0..n {
        let v = upper[i] + (lower[i] - upper[i]) * weight;
        // Adding 2^23 leaves the integer in the lowest bits: unlike a cast, this vectorises.
        out[i] = (v.clamp(0.0, 255.0) + 8_388_608.0).to_bits() as u8;
    }
}

impl Blurred {
    /// Blurs a picture of the working size, packed RGB, without what `alpha` covers. `strength` is the standard
    /// deviation in twentieths of the longer side.
    pub(crate) fn prepare(
        &mut self,
        alpha: &[f32],
        picture: &[u8],
        (width, height): (usize, usize),
        full: (usize, usize),
        strength: f32,
    ) {
        let sigma = strength / 20.0 * width.max(height) as f32;
        let step = match sigma {
            s if s < 3.0 => 1,
            s if s < 9.0 => 2,
            _ => 4,
        };
        let size = (width.div_ceil(step), height.div_ceil(step));
        if (size, full) != (self.size, self.full) {
            (self.size, self.full) = (size, full);
            columns(size.0, full.0, &mut self.columns);
        }
        self.cells.clear();
        self.cells.resize(size.0 * size.1, [0.0; 4]);
        let pixels = picture.as_chunks::<3>().0;
        gather(alpha, pixels, width, step, &mut self.cells, size.0);
        // Three boxes of radius r have the variance ((2r+1)² − 1) / 4.
        let deviation = sigma / step as f32;
        let radius = (((4.0 * deviation * deviation + 1.0).sqrt() - 1.0) / 2.0).round() as usize;
        for _ in 0..3 {
            box_mean(&mut self.cells, size, radius.max(1), &mut self.scratch);
        }
        for cell in &mut self.cells {
            let scale = 1.0 / cell[3].max(1e-9);
            for v in cell {
                *v *= scale;
            }
        }
    }

    fn spread_row(&self, row: usize, rows: &mut BlurredRows) {
        let (which, planes) = &mut rows.0[row % 2];
        if *which != Some(row) {
            *which = Some(row);
            let low = &self.cells[row * self.size.0..][..self.size.0];
            spread(low, &self.columns, planes);
        }
    }

    /// Row `y` at full size.
    pub(crate) fn row(&self, y: usize, rows: &mut BlurredRows, out: &mut Planes) {
        let (upper, weight) = position(y, self.size.1, self.full.1);
        let lower = (upper + 1).min(self.size.1 - 1);
        self.spread_row(upper, rows);
        self.spread_row(lower, rows);
        let (_, above) = &rows.0[upper % 2];
        let (_, below) = &rows.0[lower % 2];
        for (plane, (above, below)) in [&mut out.r, &mut out.g, &mut out.b]
            .into_iter()
            .zip(above.iter().zip(below))
        {
            between(above, below, weight, plane);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(blurred: &Blurred, y: usize, width: usize) -> Planes {
        let mut planes = Planes::default();
        planes.resize(width);
        blurred.row(y, &mut BlurredRows::default(), &mut planes);
        planes
    }

    #[test]
    fn the_target_leaves_no_halo() {
        // A white square that is the target, on grey.
        let (w, h) = (96, 64);
        let inside = |i: usize| (30..60).contains(&(i % w)) && (20..50).contains(&(i / w));
        let alpha: Vec<f32> = (0..w * h).map(|i| f32::from(u8::from(inside(i)))).collect();
        let picture: Vec<u8> = (0..w * h)
            .flat_map(|i| [if inside(i) { 255 } else { 80 }; 3])
            .collect();
        for strength in [0.05, 0.5, 1.0] {
            let mut blurred = Blurred::default();
            blurred.prepare(&alpha, &picture, (w, h), (w * 2, h * 2), strength);
            let line = row(&blurred, 20, w * 2);
            assert!(
                line.r.iter().all(|v| (80..=82).contains(v)),
                "{strength}: {:?}",
                line.r.iter().max()
            );
        }
    }

    #[test]
    fn the_blur_has_the_deviation_that_was_asked_for() {
        let (w, h) = (400, 60);
        let picture: Vec<u8> = (0..w * h)
            .flat_map(|i| [if i % w < w / 2 { 0 } else { 255 }; 3])
            .collect();
        for (strength, sigma) in [(0.1, 2.0), (0.4, 8.0), (1.0, 20.0)] {
            let mut blurred = Blurred::default();
            blurred.prepare(&vec![0.0; w * h], &picture, (w, h), (w, h), strength);
            let line = row(&blurred, 30, w);
            // Of a blurred step, 15.87 % and 84.13 % lie a deviation to each side of it.
            let at = |share: f32| {
                let level = share * 255.0;
                line.r.iter().position(|v| f32::from(*v) >= level).unwrap() as f32
            };
            let measured = (at(0.8413) - at(0.1587)) / 2.0;
            assert!(
                (measured - sigma).abs() <= 0.15 * sigma + 1.0,
                "{strength}: {measured} instead of {sigma}"
            );
        }
    }
}
