//! The target's own colour where it covers a pixel only in part (Forte, "Approximate Fast Foreground Colour
//! Estimation", 2021: blur fusion).
//!
//! A pixel shows I = αF + (1−α)B. Means of the foreground around it, weighted with α, and of the background, weighted
//! with 1−α, are first guesses of F and B; what they leave of I unexplained is then given back to F. It is done over a
//! wide neighbourhood and then, from its result, over a narrow one. Both guesses are smooth and are made at the working
//! size; the last step, which brings the detail, takes the full-size picture and matte.

use multiversion::multiversion;

use super::bands::{self, Grid};
use super::boxes::box_mean;
use super::guided::{Columns, position};
use super::rows::Planes;

/// Working-size pixels along the side of a cell of the wide neighbourhood.
const CELL: usize = 4;
/// Radius of the wide neighbourhood, cells.
const WIDE: usize = 3;
/// Radius of the narrow neighbourhood, working-size pixels.
const NARROW: usize = 1;
/// Weight of the wide guess in the narrow one, pixels: it counts where nothing else is there.
const TRUST: f32 = 9e-3;

/// Red, green and blue of the foreground and a spare value, then of the background and one more. Before the division
/// the spare ones are the weights.
type Pair = [f32; 8];

/// Guesses of foreground and background at the working size, 0 to 255.
#[derive(Debug, Default)]
pub(crate) struct Estimate {
    /// The wide guess.
    cells: Vec<Pair>,
    scratch: Vec<Pair>,
    /// Weighted colours and weights, summed along the rows over the narrow neighbourhood.
    sums: Vec<Pair>,
    size: (usize, usize),
}

/// What a thread needs for its rows.
#[derive(Debug, Default)]
pub(crate) struct EstimateRows {
    /// A row with [`NARROW`] zeros at either end.
    padded: Vec<Pair>,
    /// Two rows of the narrow guess, and which they are.
    held: [(Option<usize>, Vec<Pair>); 2],
    /// A row between them.
    between: Vec<Pair>,
}

impl EstimateRows {
    /// Forgets what it holds: the matte is another one.
    pub(crate) fn begin(&mut self) {
        for (row, _) in &mut self.held {
            *row = None;
        }
    }
}

impl AsMut<EstimateRows> for EstimateRows {
    fn as_mut(&mut self) -> &mut EstimateRows {
        self
    }
}

// A closure takes on the instruction set of the kernel around it, but what calls it for an array (`map`, `from_fn`) does
// not, and then cannot take it in: kernels do without.
#[allow(
    clippy::inline_always,
    reason = "it must take on the instruction set of its caller"
)]
#[inline(always)]
fn lerp(a: &Pair, b: &Pair, weight: f32) -> Pair {
    std::array::from_fn(|c| a[c] + (b[c] - a[c]) * weight)
}

/// What a pixel of alpha `a` shows beyond what the two guesses explain.
#[allow(
    clippy::inline_always,
    reason = "it must take on the instruction set of its caller"
)]
#[inline(always)]
fn unexplained(pixel: [f32; 3], a: f32, guess: &Pair) -> [f32; 3] {
    std::array::from_fn(|c| pixel[c] - a * guess[c] - (1.0 - a) * guess[4 + c])
}

#[multiversion(targets("x86_64+avx2+fma+bmi1+bmi2"))]
fn gather(alpha: &[f32], picture: &[[u8; 3]], width: usize, cells: &mut [Pair], columns: usize) {
    for (y, (alpha, pixels)) in alpha
        .chunks_exact(width)
        .zip(picture.chunks_exact(width))
        .enumerate()
    {
        let cells = &mut cells[y / CELL * columns..][..columns];
        for ((alpha, pixels), cell) in alpha
            .chunks(CELL)
            .zip(pixels.chunks(CELL))
            .zip(cells.iter_mut())
        {
            for (a, pixel) in alpha.iter().zip(pixels) {
                let b = 1.0 - a;
                let [red, green, blue] = pixel.map(f32::from);
                let add = [
                    a * red,
                    a * green,
                    a * blue,
                    *a,
                    b * red,
                    b * green,
                    b * blue,
                    b,
                ];
                for c in 0..8 {
                    cell[c] += add[c];
                }
            }
        }
    }
}

/// Two rows of cells and the weight of the lower one.
type Cells<'a> = (&'a [Pair], &'a [Pair], f32);

/// A row of colours with their weights: what the wide guess leaves unexplained is given to foreground and background.
#[multiversion(targets("x86_64+avx2+fma+bmi1+bmi2"))]
fn weigh(alpha: &[f32], pixels: &[[u8; 3]], (upper, lower, down): Cells<'_>, out: &mut [Pair]) {
    let (n, columns) = (out.len(), upper.len());
    let (alpha, pixels) = (&alpha[..n], &pixels[..n]);
    for x in 0..n {
        let (a, b) = (alpha[x], 1.0 - alpha[x]);
        let pixel = pixels[x].map(f32::from);
        let (mut f, mut g) = (pixel, pixel);
        if (0.004..0.996).contains(&a) {
            let (left, right) = position(x, columns, n);
            let next = (left + 1).min(columns - 1);
            let guess = lerp(
                &lerp(&upper[left], &upper[next], right),
                &lerp(&lower[left], &lower[next], right),
                down,
            );
            let rest = unexplained(pixel, a, &guess);
            for c in 0..3 {
                f[c] = (guess[c] + a * rest[c]).clamp(0.0, 255.0);
                g[c] = (guess[4 + c] + b * rest[c]).clamp(0.0, 255.0);
            }
        }
        out[x] = [
            a * f[0],
            a * f[1],
            a * f[2],
            a,
            b * g[0],
            b * g[1],
            b * g[2],
            b,
        ];
    }
}

/// Sums over the narrow neighbourhood along a padded row.
#[multiversion(targets("x86_64+avx2+fma+bmi1+bmi2"))]
fn along(padded: &[Pair], out: &mut [Pair]) {
    let n = out.len();
    let padded = &padded[..n + 2 * NARROW];
    for i in 0..n {
        let mut sum = padded[i];
        for next in &padded[i + 1..=i + 2 * NARROW] {
            for c in 0..8 {
                sum[c] += next[c];
            }
        }
        out[i] = sum;
    }
}

/// Sums of the rows in the narrow neighbourhood become means; where there is no weight, `other` counts.
#[multiversion(targets("x86_64+avx2+fma+bmi1+bmi2"))]
fn across(rows: &[Pair], other: &[Pair], out: &mut [Pair]) {
    let n = out.len();
    let mut rows = rows.chunks_exact(n);
    if let Some(first) = rows.next() {
        out.copy_from_slice(first);
    }
    for row in rows {
        for i in 0..n {
            for c in 0..8 {
                out[i][c] += row[i][c];
            }
        }
    }
    for (pairs, other) in out.chunks_mut(CELL).zip(other) {
        for pair in pairs {
            let (f, b) = (1.0 / (pair[3] + TRUST), 1.0 / (pair[7] + TRUST));
            let scale = [f, f, f, f, b, b, b, b];
            for c in 0..8 {
                pair[c] = (pair[c] + TRUST * other[c]) * scale[c];
            }
        }
    }
}

impl Estimate {
    /// Makes the guesses from a matte and its picture, packed RGB, at the working size. Works on as many threads as there
    /// is scratch.
    pub(crate) fn prepare<S: AsMut<EstimateRows> + Send>(
        &mut self,
        scratch: &mut [S],
        alpha: &[f32],
        picture: &[u8],
        (width, height): (usize, usize),
    ) {
        let picture = picture.as_chunks::<3>().0;
        let (columns, rows) = (width.div_ceil(CELL), height.div_ceil(CELL));
        self.size = (width, height);
        self.cells.clear();
        self.cells.resize(columns * rows, [0.0; 8]);
        let grid = Grid {
            data: &mut self.cells,
            width: columns,
        };
        bands::each(scratch, grid, &|_: &mut S, band, first| {
            let below = first + band.data.len() / columns;
            let range = (first * CELL).min(height) * width..(below * CELL).min(height) * width;
            let (alpha, picture) = (&alpha[range.clone()], &picture[range]);
            gather(alpha, picture, width, band.data, columns);
        });
        box_mean(&mut self.cells, (columns, rows), WIDE, &mut self.scratch);
        for cell in &mut self.cells {
            let (f, b) = (1.0 / cell[3].max(1e-6), 1.0 / cell[7].max(1e-6));
            for c in 0..4 {
                cell[c] *= f;
                cell[4 + c] *= b;
            }
        }
        self.sums.resize(width * height, [0.0; 8]);
        let cells = &self.cells;
        let grid = Grid {
            data: &mut self.sums,
            width,
        };
        bands::each(scratch, grid, &|scratch: &mut S, band, first| {
            let padded = &mut scratch.as_mut().padded;
            padded.clear();
            padded.resize(width + 2 * NARROW, [0.0; 8]);
            for (y, sums) in (first..).zip(band.data.chunks_exact_mut(width)) {
                let (top, down) = position(y, rows, height);
                let upper = &cells[top * columns..][..columns];
                let lower = &cells[(top + 1).min(rows - 1) * columns..][..columns];
                let row = y * width..(y + 1) * width;
                let values = &mut padded[NARROW..][..width];
                weigh(
                    &alpha[row.clone()],
                    &picture[row],
                    (upper, lower, down),
                    values,
                );
                along(padded, sums);
            }
        });
    }

    /// Makes a row of the narrow guess, unless it is held.
    fn hold(&self, row: usize, rows: &mut EstimateRows) {
        let (width, height) = self.size;
        let (which, held) = &mut rows.held[row % 2];
        if *which == Some(row) {
            return;
        }
        *which = Some(row);
        held.resize(width, [0.0; 8]);
        let (first, last) = (row.saturating_sub(NARROW), (row + NARROW + 1).min(height));
        let columns = width.div_ceil(CELL);
        let other = &self.cells[row / CELL * columns..][..columns];
        across(&self.sums[first * width..last * width], other, held);
    }

    /// Replaces the colour of a full-size row where the target is seen and does not cover the pixel. `own` is the matte
    /// that belongs to the picture, `shown` the one that is shown, whose edge may have been moved.
    pub(crate) fn row(
        &self,
        y: usize,
        height: usize,
        columns: &Columns,
        (own, shown): (&[u8], &[u8]),
        rows: &mut EstimateRows,
        planes: &mut Planes,
    ) {
        /// Most of a row is empty or full: it is skipped by blocks.
        const BLOCK: usize = 32;
        let concerned = |own: u8, shown: u8| own != 255 && shown != 0;
        let any = |own: &[u8], shown: &[u8]| {
            own.iter()
                .zip(shown)
                .fold(false, |any, (o, s)| any | concerned(*o, *s))
        };
        let width = self.size.0;
        let mut blended = false;
        for start in (0..own.len()).step_by(BLOCK) {
            let end = (start + BLOCK).min(own.len());
            if !any(&own[start..end], &shown[start..end]) {
                continue;
            }
            if !blended {
                blended = true;
                let (top, down) = position(y, self.size.1, height);
                let below = (top + 1).min(self.size.1 - 1);
                self.hold(top, rows);
                self.hold(below, rows);
                let EstimateRows { held, between, .. } = &mut *rows;
                between.resize(width, [0.0; 8]);
                blend(&held[top % 2].1, &held[below % 2].1, down, between);
            }
            apply(
                &rows.between,
                &columns[start..end],
                &own[start..end],
                &shown[start..end],
                [
                    &mut planes.r[start..end],
                    &mut planes.g[start..end],
                    &mut planes.b[start..end],
                ],
            );
        }
    }
}

#[multiversion(targets("x86_64+avx2+fma+bmi1+bmi2"))]
fn blend(upper: &[Pair], lower: &[Pair], weight: f32, out: &mut [Pair]) {
    let n = out.len();
    let (upper, lower) = (&upper[..n], &lower[..n]);
    for i in 0..n {
        for c in 0..8 {
            out[i][c] = upper[i][c] + (lower[i][c] - upper[i][c]) * weight;
        }
    }
}

#[multiversion(targets("x86_64+avx2+fma+bmi1+bmi2"))]
fn apply(
    low: &[Pair],
    columns: &[(u32, f32)],
    own: &[u8],
    shown: &[u8],
    [r, g, b]: [&mut [u8]; 3],
) {
    let last = low.len() - 1;
    for i in 0..columns.len() {
        if own[i] == 255 || shown[i] == 0 {
            continue;
        }
        let (x, weight) = columns[i];
        let (left, right) = (&low[x as usize], &low[(x as usize + 1).min(last)]);
        let mut guess = [0.0; 8];
        for c in 0..8 {
            guess[c] = left[c] + (right[c] - left[c]) * weight;
        }
        let a = f32::from(own[i]) * (1.0 / 255.0);
        let pixel = [r[i], g[i], b[i]].map(f32::from);
        let mut own_colour = [0.0f32; 3];
        for c in 0..3 {
            let rest = pixel[c] - a * guess[c] - (1.0 - a) * guess[4 + c];
            own_colour[c] = (guess[c] + a * rest + 0.5).clamp(0.0, 255.0);
        }
        (r[i], g[i], b[i]) = (
            own_colour[0] as u8,
            own_colour[1] as u8,
            own_colour[2] as u8,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pixel::guided;

    /// A red disc with a soft edge before green stripes.
    fn scene(size: usize) -> (Vec<f32>, Vec<[u8; 3]>, Vec<[u8; 3]>) {
        let (mut alpha, mut picture, mut own) = (Vec::new(), Vec::new(), Vec::new());
        for y in 0..size {
            for x in 0..size {
                let middle = size as f32 / 2.0;
                let distance = (x as f32 - middle).hypot(y as f32 - middle);
                let a =
                    ((size as f32 * 0.35 - distance) / (size as f32 * 0.12) + 0.5).clamp(0.0, 1.0);
                let f = [200.0, 40.0 + 20.0 * (y as f32 / size as f32), 30.0];
                let b = [
                    20.0,
                    180.0 + 40.0 * (x as f32 * 20.0 / size as f32).sin(),
                    60.0,
                ];
                alpha.push(a);
                picture.push(std::array::from_fn(|c| {
                    (a * f[c] + (1.0 - a) * b[c]).round() as u8
                }));
                own.push(f.map(|v| v as u8));
            }
        }
        (alpha, picture, own)
    }

    #[test]
    fn the_background_leaves_soft_edges() {
        let (size, low) = (256usize, 64usize);
        let (alpha, picture, own) = scene(size);
        let (low_alpha, low_picture, _) = scene(low);
        let mut estimate = Estimate::default();
        let mut rows = EstimateRows::default();
        let scratch = std::slice::from_mut(&mut rows);
        estimate.prepare(scratch, &low_alpha, low_picture.as_flattened(), (low, low));
        let mut columns = Columns::new();
        guided::columns(low, size, &mut columns);
        let matte: Vec<u8> = alpha.iter().map(|a| (a * 255.0).round() as u8).collect();
        let (mut before, mut after) = (0.0, 0.0);
        for y in 0..size {
            let row = &picture[y * size..][..size];
            let mut planes = Planes::default();
            planes.resize(size);
            for (x, p) in row.iter().enumerate() {
                (planes.r[x], planes.g[x], planes.b[x]) = (p[0], p[1], p[2]);
            }
            let line = &matte[y * size..][..size];
            estimate.row(y, size, &columns, (line, line), &mut rows, &mut planes);
            for (x, p) in row.iter().enumerate() {
                let got = [planes.r[x], planes.g[x], planes.b[x]];
                if line[x] == 255 || line[x] == 0 {
                    assert_eq!(got, *p, "only soft pixels change");
                    continue;
                }
                let wanted = own[y * size + x];
                let error = |v: [u8; 3]| -> f32 {
                    let sum: i32 = (0..3)
                        .map(|c| (i32::from(v[c]) - i32::from(wanted[c])).abs())
                        .sum();
                    sum as f32 * f32::from(line[x]) / 255.0
                };
                before += error(*p);
                after += error(got);
            }
        }
        assert!(after < 0.25 * before, "{after} of {before}");
    }

    #[test]
    fn a_grown_edge_takes_the_colour_of_the_target() {
        let low = 64;
        let (low_alpha, low_picture, _) = scene(low);
        let mut estimate = Estimate::default();
        let mut rows = EstimateRows::default();
        let scratch = std::slice::from_mut(&mut rows);
        estimate.prepare(scratch, &low_alpha, low_picture.as_flattened(), (low, low));
        let mut columns = Columns::new();
        guided::columns(low, low, &mut columns);
        let mut planes = Planes::default();
        planes.resize(low);
        // A pixel just outside the disc, green before.
        let x = low_alpha[32 * low..][..low]
            .iter()
            .position(|a| *a > 0.0)
            .unwrap()
            - 1;
        planes.g[x] = 200;
        let (own, mut shown) = (vec![0; low], vec![0; low]);
        shown[x] = 255;
        estimate.row(32, low, &columns, (&own, &shown), &mut rows, &mut planes);
        assert!(
            planes.r[x] > 150 && planes.g[x] < 90,
            "{} {}",
            planes.r[x],
            planes.g[x]
        );
    }

    #[test]
    fn nothing_and_everything_give_no_wild_colours_on_any_number_of_threads() {
        let sizes = [(33, 18), (1, 1), (3, 2), (4, 5)];
        for (size, bands) in sizes.into_iter().flat_map(|s| [1, 2, 4].map(|n| (s, n))) {
            let picture = [90u8, 120, 150].repeat(size.0 * size.1);
            for value in [0.0, 1.0, 0.5] {
                let mut estimate = Estimate::default();
                let mut all: Vec<EstimateRows> =
                    (0..bands).map(|_| EstimateRows::default()).collect();
                estimate.prepare(&mut all, &vec![value; size.0 * size.1], &picture, size);
                for y in 0..size.1 {
                    estimate.hold(y, &mut all[0]);
                    for pair in &all[0].held[y % 2].1 {
                        for (c, wanted) in [90.0, 120.0, 150.0].into_iter().enumerate() {
                            let seen = [(value > 0.0, pair[c]), (value < 1.0, pair[4 + c])];
                            for (there, got) in seen {
                                assert!(got.is_finite() && (-1.0..=256.0).contains(&got));
                                assert!(!there || (got - wanted).abs() < 1.0, "{size:?}: {got}");
                            }
                        }
                    }
                }
            }
        }
    }
}
