//! The matte at full size. Either bilinear interpolation, or the fast guided filter with a colour guide (He, Sun and Tang,
//! "Guided Image Filtering", 2013; He and Sun, "Fast Guided Filter", 2015): at the working size alpha is fitted in every
//! window as a·colour + b; a and b, which are smooth, are interpolated to full size and applied to the full-size colour, so
//! that the matte has the edges of the picture. Colour finds edges that luma alone does not.
//!
//! Most of a matte is empty or full. A window in which alpha is the same everywhere gives a = 0 and b = alpha, so only
//! blocks of columns with something else near them are computed: all others are filled.

use std::ops::Range;

use multiversion::multiversion;

use super::bands::{self, Grid};

/// Radius of the fitting window, working-size pixels.
pub(crate) const RADIUS: usize = 3;
/// Variance of a colour below which a window counts as flat.
pub(crate) const EPSILON: f32 = 3e-4;

/// A window's sides are no longer than this.
const WINDOW: usize = 2 * RADIUS + 1;
/// Columns of a block.
pub(crate) const BLOCK: usize = 16;
/// Columns of a block and what its windows reach beyond it, filled up to whole vectors.
const REACH: usize = (BLOCK + 2 * RADIUS).next_multiple_of(8);
/// Alphas that differ by less are the same: half a step of 8 bits.
const SAME: f32 = 1.0 / 512.0;
/// What is summed over a window: red, green, blue, alpha, alpha times each colour, and the products of the colours.
const MOMENTS: usize = 13;

/// The moments of a block of a row.
type Sums = [[f32; BLOCK]; MOMENTS];
/// The planes fitted to the windows of a block of a row: the factors of red, green and blue, and what is added.
type Planes = [[f32; BLOCK]; 4];
/// The same of each column together, which is how they are spread to full size.
type Means = [[f32; 4]; BLOCK];

/// Brings the matte to full size, with buffers that are kept from frame to frame.
///
/// What is fitted is held by columns of blocks, each from top to bottom, so that all that a window needs stays in the
/// nearest cache; threads take columns of blocks in turn, since the target may stand on one side.
#[derive(Debug, Default)]
pub(crate) struct Upsampler {
    /// Where alpha is not the same all around a block, the planes of its windows.
    planes: Vec<Planes>,
    /// Where a block is drawn, the means of the planes over the windows.
    means: Vec<Means>,
    /// The matte itself, where there is no guide.
    alpha: Vec<f32>,
    live: Live,
    order: Order,
    low: (usize, usize),
    full: (usize, usize),
    guided: bool,
    places: Places,
}

/// Which column of blocks lies where in the buffers.
#[derive(Debug, Default)]
struct Order {
    /// The place of a column of blocks, and the one at a place.
    place: Vec<usize>,
    at: Vec<usize>,
}

impl Order {
    /// Places for columns of blocks, so that threads, which take a run of places each, get columns from all over.
    fn set(&mut self, blocks: usize, threads: usize) {
        self.at.clear();
        for thread in 0..threads {
            self.at.extend((thread..blocks).step_by(threads));
        }
        self.place.clear();
        self.place.resize(blocks, 0);
        for (place, k) in self.at.iter().enumerate() {
            self.place[*k] = place;
        }
    }

    /// Calls `work` with every column of blocks and its part of `data`, which has a value for each of `height` rows.
    fn each<S: Send, T: Send>(
        &self,
        scratch: &mut [S],
        data: &mut [T],
        height: usize,
        work: impl Fn(usize, &mut [T]) + Sync,
    ) {
        let columns = Grid {
            data,
            width: height,
        };
        bands::each(scratch, columns, &|_: &mut S, band, first| {
            let columns = band.data.chunks_exact_mut(height);
            for (k, column) in self.at[first..].iter().zip(columns) {
                work(*k, column);
            }
        });
    }
}

/// Which blocks of which rows have to be computed, for each step.
#[derive(Debug, Default)]
struct Live {
    blocks: usize,
    /// Smallest and largest alpha from [`RADIUS`] columns before a block to as many after it.
    lowest: Vec<f32>,
    highest: Vec<f32>,
    /// Alpha is not the same in every window of the block.
    fit: Vec<bool>,
    /// The matte has to be drawn with what was fitted, between this row and the next one.
    draw: Vec<bool>,
}

/// For every full-size column the left one of the two that it lies between, and the weight of the right one.
pub(crate) type Columns = Vec<(u32, f32)>;

/// Where full-size columns lie among those of the working size.
#[derive(Debug, Default)]
pub(crate) struct Places {
    columns: Columns,
    /// First full-size column of every block of [`BLOCK`], and their number.
    starts: Vec<usize>,
}

impl Places {
    pub(crate) fn set(&mut self, low: usize, full: usize) {
        columns(low, full, &mut self.columns);
        let columns = &self.columns;
        let start = |k| columns.partition_point(|(x, _)| (*x as usize) < k * BLOCK);
        self.starts.clear();
        self.starts.extend((0..low.div_ceil(BLOCK)).map(start));
        self.starts.push(full);
    }

    /// The full-size columns that lie between those of a block, or its last one and the first of the next.
    fn of_block(&self, block: usize) -> Range<usize> {
        self.starts[block]..self.starts[block + 1]
    }

    /// The blocks that full-size columns lie in.
    pub(crate) fn blocks(&self, full: &Range<usize>) -> Range<usize> {
        let of = |x: usize| self.columns[x].0 as usize / BLOCK;
        of(full.start)..of(full.end - 1) + 1
    }

    /// Makes full-size columns of those of a block and the one after it, each of four values that lie together.
    pub(crate) fn spread(&self, low: &[[f32; 4]; BLOCK + 1], block: usize, out: [&mut [f32]; 4]) {
        let to = self.of_block(block);
        let out = out.map(|plane| &mut plane[to.clone()]);
        spread(low, block * BLOCK, &self.columns[to], out);
    }
}

/// What a thread needs for its rows.
#[derive(Debug, Default)]
pub(crate) struct Spread {
    /// Two rows of a and b, spread to the full width, and which rows they are.
    held: [(Option<usize>, [Vec<f32>; 4]); 2],
}

impl Spread {
    /// Forgets what it holds: the matte is another one.
    pub(crate) fn begin(&mut self, width: usize) {
        for (row, planes) in &mut self.held {
            *row = None;
            for plane in planes {
                plane.resize(width, 0.0);
            }
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
    rounded(v.clamp(0.0, 1.0) * 255.0)
}

/// The nearest of 0 to 255.
#[allow(
    clippy::inline_always,
    reason = "it must take on the instruction set of its caller"
)]
#[inline(always)]
pub(crate) fn rounded(v: f32) -> u8 {
    // Adding 2^23 leaves the integer in the lowest bits: unlike a cast, this vectorises.
    (v.clamp(0.0, 255.0) + 8_388_608.0).to_bits() as u8
}

/// Red, green and blue of a full-size row.
pub(crate) type GuideRow<'a> = [&'a [u8]; 3];

#[multiversion(targets("x86_64+avx2+fma+bmi1+bmi2"))]
fn apply_guided(
    upper: [&[f32]; 4],
    lower: [&[f32]; 4],
    weight: f32,
    guide: GuideRow<'_>,
    out: &mut [u8],
) {
    let n = out.len();
    let ([a0, b0, c0, d0], [a1, b1, c1, d1]) = (upper.map(|r| &r[..n]), lower.map(|r| &r[..n]));
    let [red, green, blue] = guide.map(|r| &r[..n]);
    let between = |upper: f32, lower: f32| upper + (lower - upper) * weight;
    for i in 0..n {
        let red = f32::from(red[i]) * between(a0[i], a1[i]);
        let green = f32::from(green[i]) * between(b0[i], b1[i]);
        let blue = f32::from(blue[i]) * between(c0[i], c1[i]);
        out[i] = byte(red + green + blue + between(d0[i], d1[i]));
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

/// Values at full-size columns, from those of a row of the working size.
#[multiversion(targets("x86_64+avx2+fma+bmi1+bmi2"))]
fn spread_plain(low: &[f32], columns: &[(u32, f32)], out: &mut [f32]) {
    let (n, last) = (columns.len(), low.len() - 1);
    let out = &mut out[..n];
    for i in 0..n {
        let (x, weight) = columns[i];
        let (left, right) = (low[(x as usize).min(last)], low[(x as usize + 1).min(last)]);
        out[i] = left + (right - left) * weight;
    }
}

/// Full-size columns from those of a block, of which the first is column `first`, and the one after it.
#[multiversion(targets("x86_64+avx2+fma+bmi1+bmi2"))]
fn spread(
    low: &[[f32; 4]; BLOCK + 1],
    first: usize,
    columns: &[(u32, f32)],
    [a, b, c, d]: [&mut [f32]; 4],
) {
    const LANES: usize = 8;
    let n = columns.len();
    let (a, b, c, d) = (&mut a[..n], &mut b[..n], &mut c[..n], &mut d[..n]);
    let mut start = 0;
    while start < n {
        // The four values of a column lie together, which saves picking each up alone; then rows are made of them.
        let some = (n - start).min(LANES);
        let mut pixels = [[0.0; 4]; LANES];
        for j in 0..some {
            let (x, weight) = columns[start + j];
            let x = (x as usize - first).min(BLOCK - 1);
            for p in 0..4 {
                pixels[j][p] = low[x][p] + (low[x + 1][p] - low[x][p]) * weight;
            }
        }
        if some == LANES {
            let rows = (
                a[start..].first_chunk_mut::<LANES>(),
                b[start..].first_chunk_mut::<LANES>(),
                c[start..].first_chunk_mut::<LANES>(),
                d[start..].first_chunk_mut::<LANES>(),
            );
            if let (Some(a), Some(b), Some(c), Some(d)) = rows {
                for j in 0..LANES {
                    [a[j], b[j], c[j], d[j]] = pixels[j];
                }
            }
        } else {
            for j in 0..some {
                [a[start + j], b[start + j], c[start + j], d[start + j]] = pixels[j];
            }
        }
        start += some;
    }
}

/// How many of `n` columns, or rows, the window around `i` has; none outside.
fn window(i: usize, n: usize) -> usize {
    if i < n {
        i.min(RADIUS) + (n - 1 - i).min(RADIUS) + 1
    } else {
        0
    }
}

/// Sums over windows along a row.
#[allow(
    clippy::inline_always,
    reason = "it must take on the instruction set of its caller"
)]
#[inline(always)]
fn along(values: &[f32; REACH]) -> [f32; BLOCK] {
    let mut sums = [0.0; BLOCK];
    for k in 0..WINDOW {
        for i in 0..BLOCK {
            sums[i] += values[i + k];
        }
    }
    sums
}

/// The sums of rows that lie in a ring, over the whole ring.
#[allow(
    clippy::inline_always,
    reason = "it must take on the instruction set of its caller"
)]
#[inline(always)]
fn across<const N: usize>(ring: &[[[f32; BLOCK]; N]; WINDOW]) -> [[f32; BLOCK]; N] {
    let mut all = ring[0];
    for n in 0..N {
        for row in &ring[1..] {
            for i in 0..BLOCK {
                all[n][i] += row[n][i];
            }
        }
    }
    all
}

/// Smallest and largest value of every block of a row, from [`RADIUS`] columns before it to as many after it.
#[multiversion(targets("x86_64+avx2+fma+bmi1+bmi2"))]
fn block_ranges(row: &[f32], lowest: &mut [f32], highest: &mut [f32]) {
    const LANES: usize = 8;
    for (k, (lowest, highest)) in lowest.iter_mut().zip(highest).enumerate() {
        let end = ((k + 1) * BLOCK + RADIUS).min(row.len());
        let values = &row[(k * BLOCK).saturating_sub(RADIUS)..end];
        let (mut low, mut high) = ([values[0]; LANES], [values[0]; LANES]);
        // The last lanes overlap those before, so that all are of one length.
        let (chunks, rest) = values.as_chunks::<LANES>();
        let last = values.last_chunk::<LANES>();
        for eight in chunks.iter().chain(last) {
            for i in 0..LANES {
                low[i] = if eight[i] < low[i] { eight[i] } else { low[i] };
                high[i] = if eight[i] > high[i] {
                    eight[i]
                } else {
                    high[i]
                };
            }
        }
        if last.is_none() {
            for v in rest {
                (low[0], high[0]) = (low[0].min(*v), high[0].max(*v));
            }
        }
        for half in [4, 2, 1] {
            for i in 0..half {
                (low[i], high[i]) = (low[i].min(low[i + half]), high[i].max(high[i + half]));
            }
        }
        (*lowest, *highest) = (low[0], high[0]);
    }
}

/// The plane through a window whose sums these are, `scale` being one over its pixels: the factors of red, green and blue,
/// and what is added.
#[allow(
    clippy::inline_always,
    reason = "it must take on the instruction set of its caller"
)]
#[inline(always)]
fn plane(mut sums: [f32; MOMENTS], scale: f32) -> [f32; 4] {
    for sum in &mut sums {
        *sum *= scale;
    }
    let [r, g, b, p, rp, gp, bp, rr, rg, rb, gg, gb, bb] = sums;
    let (cr, cg, cb) = (rp - r * p, gp - g * p, bp - b * p);
    // The covariance matrix of the colours, as L·D·Lᵀ: stable where the picture is grey and the matrix nearly singular.
    let (rg, rb, gb) = (rg - r * g, rb - r * b, gb - g * b);
    let d0 = (rr - r * r).max(0.0) + EPSILON;
    let (l1, l2) = (rg / d0, rb / d0);
    let d1 = (gg - g * g - l1 * rg).max(0.0) + EPSILON;
    let l3 = (gb - l2 * rg) / d1;
    let d2 = (bb - b * b - l2 * rb - l3 * l3 * d1).max(0.0) + EPSILON;
    let cg = cg - l1 * cr;
    let blue = (cb - l2 * cr - l3 * cg) / d2;
    let green = cg / d1 - l3 * blue;
    let red = cr / d0 - l1 * green - l2 * blue;
    [red, green, blue, p - red * r - green * g - blue * b]
}

/// A matte and its picture at the working size.
#[derive(Debug, Clone, Copy)]
struct Picture<'a> {
    alpha: &'a [f32],
    pixels: &'a [[u8; 3]],
    width: usize,
    height: usize,
}

/// The moments of a block of a row, summed along it over windows. Outside the picture there is nothing.
#[allow(
    clippy::inline_always,
    reason = "it must take on the instruction set of its caller"
)]
#[inline(always)]
fn sum_along(picture: Picture<'_>, first: usize, y: usize) -> Sums {
    let width = picture.width;
    let from = first.saturating_sub(RADIUS)..(first + BLOCK + RADIUS).min(width);
    let at = from.start + RADIUS - first;
    let n = from.len();
    let row = y * width;
    let (mut p, mut pixels) = ([0.0; REACH], [[0; 3]; REACH]);
    p[at..at + n].copy_from_slice(&picture.alpha[row + from.start..][..n]);
    pixels[at..at + n].copy_from_slice(&picture.pixels[row + from.start..][..n]);
    let mut colours = [[0.0; REACH]; 3];
    for i in 0..REACH {
        for c in 0..3 {
            colours[c][i] = f32::from(pixels[i][c]) * (1.0 / 255.0);
        }
    }
    let [r, g, b] = &colours;
    [
        along(r),
        along(g),
        along(b),
        along(&p),
        along(&product(r, &p)),
        along(&product(g, &p)),
        along(&product(b, &p)),
        along(&product(r, r)),
        along(&product(r, g)),
        along(&product(r, b)),
        along(&product(g, g)),
        along(&product(g, b)),
        along(&product(b, b)),
    ]
}

#[allow(
    clippy::inline_always,
    reason = "it must take on the instruction set of its caller"
)]
#[inline(always)]
fn product(a: &[f32; REACH], b: &[f32; REACH]) -> [f32; REACH] {
    let mut out = [0.0; REACH];
    for i in 0..REACH {
        out[i] = a[i] * b[i];
    }
    out
}

/// One over the columns of every window of a block; 0 outside the picture.
fn one_over_columns(first: usize, width: usize) -> [f32; BLOCK] {
    let mut scale = [0.0; BLOCK];
    for (i, scale) in scale.iter_mut().enumerate() {
        if let n @ 1.. = window(first + i, width) {
            *scale = 1.0 / n as f32;
        }
    }
    scale
}

/// Fits planes to the windows of some rows of a column of blocks that begins at column `first`. `out` is the whole column.
#[multiversion(targets("x86_64+avx2+fma+bmi1+bmi2"))]
fn fit(picture: Picture<'_>, first: usize, rows: Range<usize>, out: &mut [Planes]) {
    let height = picture.height;
    let columns = one_over_columns(first, picture.width);
    let mut ring = [[[0.0; BLOCK]; MOMENTS]; WINDOW];
    let below = (rows.start + RADIUS).min(height);
    for y in rows.start.saturating_sub(RADIUS)..below {
        ring[y % WINDOW] = sum_along(picture, first, y);
    }
    for y in rows {
        ring[(y + RADIUS) % WINDOW] = if y + RADIUS < height {
            sum_along(picture, first, y + RADIUS)
        } else {
            [[0.0; BLOCK]; MOMENTS]
        };
        let sums = across(&ring);
        let scale = 1.0 / window(y, height) as f32;
        let [red, green, blue, rest] = &mut out[y];
        for i in 0..BLOCK {
            let mut all = [0.0; MOMENTS];
            for m in 0..MOMENTS {
                all[m] = sums[m][i];
            }
            [red[i], green[i], blue[i], rest[i]] = plane(all, columns[i] * scale);
        }
    }
}

/// What has been fitted, and where.
#[derive(Debug, Clone, Copy)]
struct Fitted<'a> {
    planes: &'a [Planes],
    live: &'a Live,
    place: &'a [usize],
    width: usize,
    height: usize,
}

impl Fitted<'_> {
    /// The planes of a block; where none were fitted, alpha is the same everywhere.
    #[allow(
        clippy::inline_always,
        reason = "it must take on the instruction set of its caller"
    )]
    #[inline(always)]
    fn at(&self, k: usize, y: usize) -> Planes {
        if self.live.fit[y * self.live.blocks + k] {
            return self.planes[self.place[k] * self.height + y];
        }
        let mut flat = [[0.0; BLOCK]; 4];
        let inside = (self.width - k * BLOCK).min(BLOCK);
        flat[3][..inside].fill(self.live.lowest[y * self.live.blocks + k]);
        flat
    }

    /// The planes of a block of a row, summed along it over windows.
    #[allow(
        clippy::inline_always,
        reason = "it must take on the instruction set of its caller"
    )]
    #[inline(always)]
    fn sum_along(&self, k: usize, y: usize) -> Planes {
        let mut all = self.at(k, y);
        let (mut before, mut after) = ([[0.0; BLOCK]; 4], [[0.0; BLOCK]; 4]);
        if k > 0 {
            before = self.at(k - 1, y);
        }
        if k + 1 < self.live.blocks {
            after = self.at(k + 1, y);
        }
        for p in 0..4 {
            let mut row = [0.0; REACH];
            row[..RADIUS].copy_from_slice(&before[p][BLOCK - RADIUS..]);
            row[RADIUS..RADIUS + BLOCK].copy_from_slice(&all[p]);
            row[RADIUS + BLOCK..][..RADIUS].copy_from_slice(&after[p][..RADIUS]);
            all[p] = along(&row);
        }
        all
    }
}

/// Means of the planes over the windows of some rows of a column of blocks. `out` is the whole column.
#[multiversion(targets("x86_64+avx2+fma+bmi1+bmi2"))]
fn mean(fitted: Fitted<'_>, k: usize, rows: Range<usize>, out: &mut [Means]) {
    let height = fitted.height;
    let columns = one_over_columns(k * BLOCK, fitted.width);
    let mut ring = [[[0.0; BLOCK]; 4]; WINDOW];
    let below = (rows.start + RADIUS).min(height);
    for y in rows.start.saturating_sub(RADIUS)..below {
        ring[y % WINDOW] = fitted.sum_along(k, y);
    }
    for y in rows {
        ring[(y + RADIUS) % WINDOW] = if y + RADIUS < height {
            fitted.sum_along(k, y + RADIUS)
        } else {
            [[0.0; BLOCK]; 4]
        };
        let sums = across(&ring);
        let scale = 1.0 / window(y, height) as f32;
        // The guide comes in bytes.
        let colour = scale / 255.0;
        for i in 0..BLOCK {
            let (scale, colour) = (columns[i] * scale, columns[i] * colour);
            out[y][i] = [
                sums[0][i] * colour,
                sums[1][i] * colour,
                sums[2][i] * colour,
                sums[3][i] * scale,
            ];
        }
    }
}

impl Live {
    /// Finds out where a matte is not the same all around.
    fn look(&mut self, alpha: &[f32], (width, height): (usize, usize)) {
        let blocks = width.div_ceil(BLOCK);
        self.blocks = blocks;
        let n = blocks * height;
        self.lowest.resize(n, 0.0);
        self.highest.resize(n, 0.0);
        for flags in [&mut self.fit, &mut self.draw] {
            flags.clear();
            flags.resize(n, false);
        }
        for (y, row) in alpha.chunks_exact(width).enumerate() {
            let at = y * blocks..(y + 1) * blocks;
            block_ranges(row, &mut self.lowest[at.clone()], &mut self.highest[at]);
        }
        let around = |y: usize, reach: usize| y.saturating_sub(reach)..(y + reach + 1).min(height);
        for y in 0..height {
            for k in 0..blocks {
                let (mut low, mut high) = (f32::INFINITY, f32::NEG_INFINITY);
                for y in around(y, RADIUS) {
                    low = low.min(self.lowest[y * blocks + k]);
                    high = high.max(self.highest[y * blocks + k]);
                }
                if high - low < SAME {
                    continue;
                }
                self.fit[y * blocks + k] = true;
                let near = k.saturating_sub(1)..(k + 2).min(blocks);
                // One row more: a full-size row lies between two.
                for y in around(y, RADIUS + 1) {
                    self.draw[y * blocks..][near.clone()].fill(true);
                }
            }
        }
    }

    /// Blocks of row `y` that have to be drawn with what was fitted.
    fn draws(&self, y: usize) -> &[bool] {
        &self.draw[y * self.blocks..][..self.blocks]
    }

    /// Whether a block of row `y` is asked for: by what is drawn below it, or above it.
    fn asks(&self, k: usize, y: usize) -> bool {
        self.draw[y * self.blocks + k] || y > 0 && self.draw[(y - 1) * self.blocks + k]
    }
}

/// Runs of what is alive, of `n`.
pub(crate) fn runs<F: Fn(usize) -> bool>(
    n: usize,
    alive: F,
) -> impl Iterator<Item = Range<usize>> + use<F> {
    let mut i = 0;
    std::iter::from_fn(move || {
        while i < n && !alive(i) {
            i += 1;
        }
        let first = i;
        while i < n && alive(i) {
            i += 1;
        }
        (first < i).then_some(first..i)
    })
}

impl Upsampler {
    /// Takes a matte at the working size; `guide` is its picture, packed RGB, none for plain interpolation. Works on as
    /// many threads as there is scratch.
    pub(crate) fn prepare<S: Send>(
        &mut self,
        scratch: &mut [S],
        alpha: &[f32],
        guide: Option<&[u8]>,
        low: (usize, usize),
        full: (usize, usize),
    ) {
        self.guided = guide.is_some();
        let (width, height) = low;
        if (low, full) != (self.low, self.full) {
            (self.low, self.full) = (low, full);
            self.places.set(low.0, full.0);
        }
        let Some(guide) = guide else {
            self.alpha.clear();
            self.alpha.extend_from_slice(alpha);
            return;
        };
        let picture = Picture {
            alpha,
            pixels: guide.as_chunks().0,
            width,
            height,
        };
        self.live.look(alpha, low);
        let live = &self.live;
        let blocks = live.blocks;
        self.order.set(blocks, scratch.len());
        let order = &self.order;
        self.planes.resize(blocks * height, [[0.0; BLOCK]; 4]);
        order.each(scratch, &mut self.planes, height, |k, column| {
            for rows in runs(height, |y| live.fit[y * blocks + k]) {
                fit(picture, k * BLOCK, rows, column);
            }
        });
        self.means.resize(blocks * height, [[0.0; 4]; BLOCK]);
        let fitted = Fitted {
            planes: &self.planes,
            live,
            place: &order.place,
            width,
            height,
        };
        order.each(scratch, &mut self.means, height, |k, column| {
            for rows in runs(height, |y| live.asks(k, y)) {
                mean(fitted, k, rows, column);
            }
        });
    }

    pub(crate) fn places(&self) -> &Places {
        &self.places
    }

    /// Columns of a full-size row that are drawn with the guide's. Outside them the guide is not looked at.
    pub(crate) fn guided(&self, y: usize) -> impl Iterator<Item = Range<usize>> + use<'_> {
        let (upper, _) = position(y, self.low.1, self.full.1);
        let alive: &[bool] = if self.guided {
            self.live.draws(upper)
        } else {
            &[]
        };
        let starts = &self.places.starts;
        runs(alive.len(), |k| alive[k]).map(|run| starts[run.start]..starts[run.end])
    }

    /// Makes a row of a and b at full width, unless it is held.
    fn hold(&self, row: usize, rows: &mut Spread) {
        let (width, height) = self.low;
        let (which, planes) = &mut rows.held[row % 2];
        if *which == Some(row) {
            return;
        }
        *which = Some(row);
        if !self.guided {
            let alpha = &self.alpha[row * width..][..width];
            spread_plain(alpha, &self.places.columns, &mut planes[3]);
            return;
        }
        let live = &self.live;
        let at = |k: usize| &self.means[self.order.place[k] * height + row];
        for k in (0..live.blocks).filter(|k| live.asks(*k, row)) {
            let mut low = [[0.0; 4]; BLOCK + 1];
            low[..BLOCK].copy_from_slice(at(k));
            if k + 1 < live.blocks {
                low[BLOCK] = if live.asks(k + 1, row) {
                    at(k + 1)[0]
                } else {
                    // Nothing was fitted near it.
                    [0.0, 0.0, 0.0, live.lowest[row * live.blocks + k + 1]]
                };
            }
            self.places
                .spread(&low, k, planes.each_mut().map(Vec::as_mut_slice));
        }
    }

    /// Row `y` of the matte at full size, 0 to 255. `guide` is that row of the frame; it has to be right where
    /// [`Upsampler::guided`] says. `rows` is one of the scratches that the matte was prepared with.
    pub(crate) fn row(&self, y: usize, guide: GuideRow<'_>, rows: &mut Spread, out: &mut [u8]) {
        let (upper, weight) = position(y, self.low.1, self.full.1);
        let lower = (upper + 1).min(self.low.1 - 1);
        let mut live = self.guided(y).peekable();
        if !self.guided || live.peek().is_some() {
            self.hold(upper, rows);
            self.hold(lower, rows);
        }
        let (up, down) = (&rows.held[upper % 2].1, &rows.held[lower % 2].1);
        if !self.guided {
            apply_plain(&up[3], &down[3], weight, out);
            return;
        }
        let alive = self.live.draws(upper);
        let lowest = &self.live.lowest[upper * alive.len()..][..alive.len()];
        for (k, lowest) in lowest.iter().enumerate().filter(|(k, _)| !alive[*k]) {
            out[self.places.of_block(k)].fill(byte(*lowest));
        }
        for to in live {
            apply_guided(
                up.each_ref().map(|plane| &plane[to.clone()]),
                down.each_ref().map(|plane| &plane[to.clone()]),
                weight,
                guide.map(|row| &row[to.clone()]),
                &mut out[to],
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pixel::noise::noise;

    fn grey(luma: &[f32]) -> Vec<u8> {
        luma.iter()
            .flat_map(|v| [(v * 255.0).round() as u8; 3])
            .collect()
    }

    /// A row of packed pixels, taken apart.
    fn parted(row: &[u8]) -> [Vec<u8>; 3] {
        [0, 1, 2].map(|c| row.iter().skip(c).step_by(3).copied().collect())
    }

    /// The filter as the paper has it, in double precision, window by window: a and b of every pixel.
    fn plain_guided(alpha: &[f32], picture: &[u8], (w, h): (usize, usize)) -> Vec<[f64; 4]> {
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
        let i = |k: usize, c: usize| f64::from(picture[k * 3 + c]) / 255.0;
        let p = |k: usize| f64::from(alpha[k]);
        let pixels = || (0..h).flat_map(|y| (0..w).map(move |x| (x, y)));
        let planes: Vec<[f64; 4]> = pixels()
            .map(|(x, y)| {
                let mi = [0, 1, 2].map(|c| mean(x, y, &|k| i(k, c)));
                let mp = mean(x, y, &p);
                let mut c = [0, 1, 2].map(|c| mean(x, y, &|k| i(k, c) * p(k)) - mi[c] * mp);
                let mut s = [0, 1, 2].map(|c| {
                    [0, 1, 2].map(|d| {
                        let product = mean(x, y, &|k| i(k, c) * i(k, d));
                        product - mi[c] * mi[d] + if c == d { f64::from(EPSILON) } else { 0.0 }
                    })
                });
                // Gauss and Jordan.
                for step in 0..3 {
                    let pivot = s[step][step];
                    s[step] = s[step].map(|v| v / pivot);
                    c[step] /= pivot;
                    for other in (0..3).filter(|o| *o != step) {
                        let factor = s[other][step];
                        s[other] = [0, 1, 2].map(|d| s[other][d] - factor * s[step][d]);
                        c[other] -= factor * c[step];
                    }
                }
                let rest = mp - (0..3).map(|d| c[d] * mi[d]).sum::<f64>();
                [c[0], c[1], c[2], rest]
            })
            .collect();
        pixels()
            .map(|(x, y)| [0, 1, 2, 3].map(|c| mean(x, y, &|k| planes[k][c])))
            .collect()
    }

    /// Compares the rows of a matte, on several numbers of threads, with the filter of the paper.
    fn compare(alpha: &[f32], picture: &[u8], size: (usize, usize), most: f64) {
        let (w, h) = size;
        let wanted = plain_guided(alpha, picture, size);
        for bands in [1, 2, 4] {
            let mut scratch: Vec<Spread> = (0..bands).map(|_| Spread::default()).collect();
            for rows in &mut scratch {
                rows.begin(w);
            }
            let mut up = Upsampler::default();
            up.prepare(&mut scratch, alpha, Some(picture), size, size);
            let rows = &mut scratch[0];
            let mut out = vec![7; w];
            for y in 0..h {
                let guide = parted(&picture[y * w * 3..][..w * 3]);
                let guide = guide.each_ref().map(Vec::as_slice);
                up.row(y, guide, rows, &mut out);
                for x in 0..w {
                    let [r, g, b, rest] = wanted[y * w + x];
                    let colour = [0, 1, 2].map(|c| f64::from(picture[(y * w + x) * 3 + c]) / 255.0);
                    let alpha = r * colour[0] + g * colour[1] + b * colour[2] + rest;
                    let wanted = alpha.clamp(0.0, 1.0) * 255.0;
                    assert!(
                        (f64::from(out[x]) - wanted).abs() < most,
                        "{size:?} {bands} at {x},{y}: {} {wanted}",
                        out[x]
                    );
                }
            }
        }
    }

    #[test]
    fn it_is_the_filter_of_the_paper_on_any_number_of_threads() {
        for size in [(1, 1), (2, 3), (3, 2), (4, 7), (5, 5), (33, 18), (70, 11)] {
            let n = size.0 * size.1;
            let colours: Vec<u8> = noise(n * 3, 2).iter().map(|v| (v * 255.0) as u8).collect();
            compare(&noise(n, 1), &colours, size, 0.55);
            compare(&noise(n, 1), &grey(&noise(n, 2)), size, 0.6);
        }
    }

    #[test]
    fn blocks_that_are_left_out_are_what_they_would_be() {
        // A soft disc, small and off the middle, in a picture of many blocks; then its inverse.
        let size = (300, 60);
        let colours: Vec<u8> = noise(size.0 * size.1 * 3, 4)
            .iter()
            .map(|v| (v * 255.0) as u8)
            .collect();
        let disc: Vec<f32> = (0..size.1)
            .flat_map(|y| (0..size.0).map(move |x| (x as f32 - 121.0).hypot(y as f32 - 25.0)))
            .map(|distance| ((14.0 - distance) / 5.0).clamp(0.0, 1.0))
            .collect();
        compare(&disc, &colours, size, 1.05);
        let inverse: Vec<f32> = disc.iter().map(|a| 1.0 - a).collect();
        compare(&inverse, &colours, size, 1.05);
        let mut up = Upsampler::default();
        let mut rows = Spread::default();
        rows.begin(size.0);
        let scratch = std::slice::from_mut(&mut rows);
        up.prepare(scratch, &disc, Some(&colours), size, size);
        assert!(up.guided(25).count() > 0 && up.guided(59).count() == 0);
        assert!(!up.live.fit[25 * up.live.blocks], "nothing is there");
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
            up.row(y, [&[]; 3], &mut rows, &mut out);
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
            up.row(y, [&[]; 3], &mut rows, &mut out);
            let wanted: Vec<u8> = (0..16).map(|x| (y * 16 + x) as u8).collect();
            assert_eq!(out, wanted);
        }
    }

    #[test]
    fn the_guide_brings_a_coarse_edge_to_the_edge_of_the_picture() {
        // A picture with an edge at x = 70 of 128; the matte at a quarter of the size has it two pixels off and soft.
        let (low, full) = ((32, 8), (128, 32));
        let full_row: Vec<f32> = (0..128).map(|x| if x < 70 { 0.2 } else { 0.8 }).collect();
        let low_row = full_row.as_chunks::<4>().0;
        let low_rows: Vec<f32> = (0..8)
            .flat_map(|_| low_row.iter().map(|four| four.iter().sum::<f32>() / 4.0))
            .collect();
        let (picture, row) = (grey(&low_rows), parted(&grey(&full_row)));
        let row = row.each_ref().map(Vec::as_slice);
        let alpha: Vec<f32> = (0..8)
            .flat_map(|_| (0..32).map(|x| ((x as f32 - 15.0) / 4.0).clamp(0.0, 1.0)))
            .collect();
        let error = |guide: bool| {
            let mut up = Upsampler::default();
            let mut rows = Spread::default();
            rows.begin(128);
            let scratch = std::slice::from_mut(&mut rows);
            let picture = guide.then_some(picture.as_slice());
            up.prepare(scratch, &alpha, picture, low, full);
            let mut out = vec![0; 128];
            up.row(16, row, &mut rows, &mut out);
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
        let picture = grey(&noise(40 * 20, 5));
        for value in [0.0, 1.0] {
            let mut up = Upsampler::default();
            let mut rows = Spread::default();
            rows.begin(80);
            let scratch = std::slice::from_mut(&mut rows);
            up.prepare(scratch, &[value; 800], Some(&picture), (40, 20), (80, 40));
            let mut out = vec![7; 80];
            for y in 0..40 {
                let guide = parted(&grey(&noise(80, y as u32)));
                let guide = guide.each_ref().map(Vec::as_slice);
                up.row(y, guide, &mut rows, &mut out);
                assert!(out.iter().all(|a| *a == (value * 255.0) as u8));
            }
        }
    }
}
