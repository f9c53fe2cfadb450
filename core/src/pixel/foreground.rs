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
use super::guided::{BLOCK, Places, position, rounded, runs};
use super::rows::Planes;

/// Working-size pixels along the side of a cell of the wide neighbourhood.
const CELL: usize = 4;
/// Radius of the wide neighbourhood, cells.
const WIDE: usize = 3;
/// Radius of the narrow neighbourhood, working-size pixels.
const NARROW: usize = 1;
/// Weight of the wide guess in the narrow one, pixels: it counts where nothing else is there.
const TRUST: f32 = 9e-3;
/// Less weight than this in the wide neighbourhood is none: sums that run along leave a little.
const LEAST: f32 = 1e-4;

/// Red, green and blue of the foreground and a spare value, then of the background and one more. Before the division
/// the spare ones are the weights.
type Pair = [f32; 8];

/// A matte and its picture at the working size.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Low<'a> {
    pub(crate) alpha: &'a [f32],
    pub(crate) picture: &'a [[u8; 3]],
    pub(crate) size: (usize, usize),
}

/// The wide guess of foreground and background, 0 to 255. The narrow one is made from it row by row, as far as it is
/// looked at: see [`Estimate::row`].
#[derive(Debug, Default)]
pub(crate) struct Estimate {
    cells: Vec<Pair>,
    scratch: Vec<Pair>,
}

/// A block of a row and the column after it, which full-size pixels at its end take in.
type Block<T> = [T; BLOCK + 1];

/// A row of which only some blocks are made.
#[derive(Debug, Default)]
struct Sparse<T> {
    row: Option<usize>,
    made: Vec<bool>,
    values: T,
}

impl<T> Sparse<T> {
    /// Whether a block of a row is yet to be made. What there is of another row is forgotten.
    fn lacks(&mut self, row: usize, block: usize, blocks: usize) -> bool {
        if self.row != Some(row) {
            self.row = Some(row);
            self.made.clear();
            self.made.resize(blocks, false);
        }
        !std::mem::replace(&mut self.made[block], true)
    }
}

/// What a thread needs for its rows.
#[derive(Debug, Default)]
pub(crate) struct EstimateRows {
    /// Weighted colours and weights, summed along the row over the narrow neighbourhood.
    sums: [Sparse<Vec<Block<Pair>>>; 2 + 2 * NARROW],
    /// The narrow guess of two rows at full width, by channels: red, green and blue of the foreground and a spare one, and
    /// the same of the background.
    narrow: [Sparse<[[Vec<f32>; 4]; 2]>; 2],
}

impl EstimateRows {
    /// Forgets what it holds: the matte is another one.
    pub(crate) fn begin(&mut self, width: usize) {
        for sums in &mut self.sums {
            sums.row = None;
        }
        for narrow in &mut self.narrow {
            narrow.row = None;
            for plane in narrow.values.as_flattened_mut() {
                plane.resize(width, 0.0);
            }
        }
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

/// Colours with their weights, from a column on: what the wide guess leaves unexplained is given to foreground and
/// background.
#[multiversion(targets("x86_64+avx2+fma+bmi1+bmi2"))]
fn weigh(
    alpha: &[f32],
    pixels: &[[u8; 3]],
    (upper, lower, down): Cells<'_>,
    first: usize,
    out: &mut [Pair],
) {
    let (width, columns) = (alpha.len(), upper.len());
    let (alpha, pixels) = (&alpha[first..][..out.len()], &pixels[first..][..out.len()]);
    for x in 0..out.len() {
        let (a, b) = (alpha[x], 1.0 - alpha[x]);
        let pixel = pixels[x].map(f32::from);
        let (mut f, mut g) = (pixel, pixel);
        if (0.004..0.996).contains(&a) {
            let (left, right) = position(first + x, columns, width);
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

#[multiversion(targets("x86_64+avx2+fma+bmi1+bmi2"))]
fn add(values: &Block<Pair>, total: &mut Block<Pair>) {
    for (total, values) in total.iter_mut().zip(values) {
        for c in 0..8 {
            total[c] += values[c];
        }
    }
}

/// Sums over the narrow neighbourhood become means, foreground and background apart; where there is no weight, the wide
/// guess counts, a cell for each [`CELL`] columns.
#[multiversion(targets("x86_64+avx2+fma+bmi1+bmi2"))]
fn means(sums: &Block<Pair>, cells: &[Pair], out: &mut [Block<[f32; 4]>; 2]) {
    let last = cells.len() - 1;
    for (i, sum) in sums.iter().enumerate() {
        let cell = &cells[(i / CELL).min(last)];
        for (k, out) in out.iter_mut().enumerate() {
            let scale = 1.0 / (sum[4 * k + 3] + TRUST);
            for c in 0..4 {
                out[i][c] = (sum[4 * k + c] + TRUST * cell[4 * k + c]) * scale;
            }
        }
    }
}

impl Estimate {
    /// Makes the wide guess. Works on as many threads as there is scratch.
    pub(crate) fn prepare<S: Send>(&mut self, scratch: &mut [S], low: Low<'_>) {
        let (width, height) = low.size;
        let (columns, rows) = (width.div_ceil(CELL), height.div_ceil(CELL));
        self.cells.clear();
        self.cells.resize(columns * rows, [0.0; 8]);
        let grid = Grid {
            data: &mut self.cells,
            width: columns,
        };
        bands::each(scratch, grid, &|_: &mut S, band, first| {
            let below = first + band.data.len() / columns;
            let range = (first * CELL).min(height) * width..(below * CELL).min(height) * width;
            let (alpha, picture) = (&low.alpha[range.clone()], &low.picture[range]);
            gather(alpha, picture, width, band.data, columns);
        });
        box_mean(&mut self.cells, (columns, rows), WIDE, &mut self.scratch);
        for cell in &mut self.cells {
            let weights = [cell[3], cell[7]];
            let [f, b] = weights.map(|weight| 1.0 / weight.max(1e-6));
            for c in 0..4 {
                cell[c] *= f;
                cell[4 + c] *= b;
            }
            // Where one of the two is nowhere near, an edge that was moved far out say, the picture is as good a guess as any.
            let (front, back) = cell.split_at_mut(4);
            if weights[0] < LEAST {
                front.copy_from_slice(back);
            } else if weights[1] < LEAST {
                back.copy_from_slice(front);
            }
        }
    }

    /// Makes the sums of a block of a row.
    fn sum(&self, low: Low<'_>, row: usize, block: usize, out: &mut Block<Pair>) {
        let (width, height) = low.size;
        let (columns, rows) = (width.div_ceil(CELL), height.div_ceil(CELL));
        let (top, down) = position(row, rows, height);
        let upper = &self.cells[top * columns..][..columns];
        let lower = &self.cells[(top + 1).min(rows - 1) * columns..][..columns];
        let line = row * width..(row + 1) * width;
        // Beyond the picture there is nothing.
        let mut padded = [[0.0; 8]; BLOCK + 1 + 2 * NARROW];
        let start = block * BLOCK;
        let end = (start + BLOCK + 1).min(width);
        let (first, last) = (start.saturating_sub(NARROW), (end + NARROW).min(width));
        weigh(
            &low.alpha[line.clone()],
            &low.picture[line],
            (upper, lower, down),
            first,
            &mut padded[first + NARROW - start..last + NARROW - start],
        );
        along(&padded, out);
    }

    /// Makes a block of a row of the narrow guess at full width, unless it is held.
    fn hold(
        &self,
        low: Low<'_>,
        places: &Places,
        row: usize,
        block: usize,
        rows: &mut EstimateRows,
    ) {
        let (width, height) = low.size;
        let blocks = width.div_ceil(BLOCK);
        let EstimateRows { sums, narrow } = rows;
        let narrow = &mut narrow[row % 2];
        if !narrow.lacks(row, block, blocks) {
            return;
        }
        let near = row.saturating_sub(NARROW)..(row + NARROW + 1).min(height);
        let mut total = [[0.0; 8]; BLOCK + 1];
        for row in near {
            let sums = &mut sums[row % (2 + 2 * NARROW)];
            let lacks = sums.lacks(row, block, blocks);
            sums.values.resize(blocks, [[0.0; 8]; BLOCK + 1]);
            let values = &mut sums.values[block];
            if lacks {
                self.sum(low, row, block, values);
            }
            add(values, &mut total);
        }
        let columns = width.div_ceil(CELL);
        let cells = &self.cells[row / CELL * columns..][..columns];
        let mut guess = [[[0.0; 4]; BLOCK + 1]; 2];
        means(&total, &cells[block * (BLOCK / CELL)..], &mut guess);
        for (guess, planes) in guess.iter().zip(&mut narrow.values) {
            places.spread(guess, block, planes.each_mut().map(Vec::as_mut_slice));
        }
    }

    /// Replaces the colour of a full-size row where the target is seen and does not cover the pixel. `own` is the matte
    /// that belongs to the picture, `shown` the one that is shown, whose edge may have been moved. `low` is what
    /// [`prepare`](Self::prepare) was called with.
    pub(crate) fn row(
        &self,
        low: Low<'_>,
        places: &Places,
        (y, height): (usize, usize),
        (own, shown): (&[u8], &[u8]),
        rows: &mut EstimateRows,
        planes: &mut Planes,
    ) {
        let (top, down) = position(y, low.size.1, height);
        let below = (top + 1).min(low.size.1 - 1);
        let (owns, showns) = (own.as_chunks::<8>().0, shown.as_chunks::<8>().0);
        // Most of a row is empty or full. Whether any of eight pixels may be neither; those at the end of a row may.
        let soft = |k: usize| match owns.get(k).zip(showns.get(k)) {
            Some((own, shown)) => *own != [255; 8] && *shown != [0; 8],
            None => true,
        };
        for run in runs(own.len().div_ceil(8), soft) {
            let run = run.start * 8..(run.end * 8).min(own.len());
            for block in places.blocks(&run) {
                self.hold(low, places, top, block, rows);
                self.hold(low, places, below, block, rows);
            }
            let guess = |row: usize| {
                let [f, b] = &rows.narrow[row % 2].values;
                [&f[0], &f[1], &f[2], &b[0], &b[1], &b[2]].map(|plane| &plane[run.clone()])
            };
            apply(
                guess(top),
                guess(below),
                down,
                (&own[run.clone()], &shown[run.clone()]),
                [
                    &mut planes.r[run.clone()],
                    &mut planes.g[run.clone()],
                    &mut planes.b[run.clone()],
                ],
            );
        }
    }
}

/// Gives pixels the target's own colour, F + α(I − αF − (1−α)B), where they are seen and not covered. Red, green and blue
/// of F and of B lie between those of two rows.
#[multiversion(targets("x86_64+avx2+fma+bmi1+bmi2"))]
fn apply(
    upper: [&[f32]; 6],
    lower: [&[f32]; 6],
    down: f32,
    (own, shown): (&[u8], &[u8]),
    planes: [&mut [u8]; 3],
) {
    let n = own.len();
    let shown = &shown[..n];
    for (c, plane) in planes.into_iter().enumerate() {
        let plane = &mut plane[..n];
        let (f0, f1) = (&upper[c][..n], &lower[c][..n]);
        let (b0, b1) = (&upper[3 + c][..n], &lower[3 + c][..n]);
        for i in 0..n {
            let f = f0[i] + (f1[i] - f0[i]) * down;
            let b = b0[i] + (b1[i] - b0[i]) * down;
            let a = f32::from(own[i]) * (1.0 / 255.0);
            let rest = f32::from(plane[i]) - a * f - (1.0 - a) * b;
            let value = rounded(f + a * rest);
            let replaced = own[i] != 255 && shown[i] != 0;
            plane[i] = if replaced { value } else { plane[i] };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn low<'a>(alpha: &'a [f32], picture: &'a [[u8; 3]], size: (usize, usize)) -> Low<'a> {
        Low {
            alpha,
            picture,
            size,
        }
    }

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
        let (size, low_size) = (256usize, 64usize);
        let (alpha, picture, own) = scene(size);
        let (low_alpha, low_picture, _) = scene(low_size);
        let low = low(&low_alpha, &low_picture, (low_size, low_size));
        let mut estimate = Estimate::default();
        let mut rows = EstimateRows::default();
        estimate.prepare(&mut [()], low);
        let mut places = Places::default();
        places.set(low_size, size);
        rows.begin(size);
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
            estimate.row(
                low,
                &places,
                (y, size),
                (line, line),
                &mut rows,
                &mut planes,
            );
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
        let size = 64;
        let (low_alpha, low_picture, _) = scene(size);
        let low = low(&low_alpha, &low_picture, (size, size));
        let mut estimate = Estimate::default();
        let mut rows = EstimateRows::default();
        estimate.prepare(&mut [()], low);
        let mut places = Places::default();
        places.set(size, size);
        rows.begin(size);
        let mut planes = Planes::default();
        planes.resize(size);
        // A pixel just outside the disc, green before.
        let x = low_alpha[32 * size..][..size]
            .iter()
            .position(|a| *a > 0.0)
            .unwrap()
            - 1;
        planes.g[x] = 200;
        let (own, mut shown) = (vec![0; size], vec![0; size]);
        shown[x] = 255;
        let mattes = (own.as_slice(), shown.as_slice());
        estimate.row(low, &places, (32, size), mattes, &mut rows, &mut planes);
        assert!(
            planes.r[x] > 150 && planes.g[x] < 90,
            "{} {}",
            planes.r[x],
            planes.g[x]
        );
    }

    #[test]
    fn an_edge_that_has_grown_beyond_all_of_the_target_keeps_the_picture() {
        // The target is at the left, and the matte is shown as far as the right border: grey there, and nothing else.
        let size = (96, 24);
        let all = || (0..size.1).flat_map(|_| 0..size.0);
        let alpha: Vec<f32> = all().map(|x| if x < 20 { 1.0 } else { 0.0 }).collect();
        let picture: Vec<[u8; 3]> = all()
            .map(|x| if x < 20 { [220, 30, 40] } else { [110; 3] })
            .collect();
        let low = low(&alpha, &picture, size);
        let mut estimate = Estimate::default();
        estimate.prepare(&mut [()], low);
        let (mut places, mut rows) = (Places::default(), EstimateRows::default());
        places.set(size.0, size.0);
        rows.begin(size.0);
        let mut planes = Planes::default();
        planes.resize(size.0);
        for plane in [&mut planes.r, &mut planes.g, &mut planes.b] {
            plane.fill(110);
        }
        let (own, shown) = (vec![0; size.0], vec![255; size.0]);
        let mattes = (own.as_slice(), shown.as_slice());
        estimate.row(low, &places, (12, size.1), mattes, &mut rows, &mut planes);
        for x in 60..size.0 {
            let got = [planes.r[x], planes.g[x], planes.b[x]];
            assert!(got.iter().all(|v| v.abs_diff(110) < 4), "{x}: {got:?}");
        }
        assert!(planes.r[21] > 180, "near it, its own colour is shown");
    }

    #[test]
    fn nothing_and_everything_give_no_wild_colours_on_any_number_of_threads() {
        let sizes = [(33, 18), (1, 1), (3, 2), (4, 5)];
        for (size, bands) in sizes.into_iter().flat_map(|s| [1, 2, 4].map(|n| (s, n))) {
            let picture = vec![[90u8, 120, 150]; size.0 * size.1];
            for value in [0.0, 1.0, 0.5] {
                let alpha = vec![value; size.0 * size.1];
                let low = low(&alpha, &picture, size);
                let mut estimate = Estimate::default();
                estimate.prepare(&mut vec![(); bands], low);
                let mut places = Places::default();
                places.set(size.0, size.0);
                let mut rows = EstimateRows::default();
                rows.begin(size.0);
                for y in 0..size.1 {
                    for block in 0..size.0.div_ceil(BLOCK) {
                        estimate.hold(low, &places, y, block, &mut rows);
                    }
                    let [f, b] = &rows.narrow[y % 2].values;
                    for (guess, seen) in [(f, value > 0.0), (b, value < 1.0)] {
                        for (plane, wanted) in guess.iter().zip([90.0, 120.0, 150.0]) {
                            for got in plane {
                                assert!(got.is_finite() && (-1.0..=256.0).contains(got));
                                assert!(!seen || (got - wanted).abs() < 1.0, "{size:?}: {got}");
                            }
                        }
                    }
                }
            }
        }
    }
}
