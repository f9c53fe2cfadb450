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
const BLOCK: usize = 16;
/// Alphas that differ by less are the same: half a step of 8 bits.
const SAME: f32 = 1.0 / 512.0;
/// What is summed over a window: red, green, blue, alpha, alpha times each colour, and the products of the colours.
const MOMENTS: usize = 13;

/// Brings the matte to full size, with buffers that are kept from frame to frame.
#[derive(Debug, Default)]
pub(crate) struct Upsampler {
    /// For every row the sums along it over windows, one moment after the other; only where `live` says so.
    moments: Vec<f32>,
    /// For every row the sums along it over windows of a (three) and b; without a guide alpha itself.
    coefficients: Vec<f32>,
    live: Live,
    low: (usize, usize),
    full: (usize, usize),
    guided: bool,
    columns: Columns,
    /// First full-size column of every block, and their number.
    starts: Vec<usize>,
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
    /// A fit needs the moments of this row.
    moments: Vec<bool>,
    /// The matte has to be drawn with what was fitted.
    draw: Vec<bool>,
}

/// For every full-size column the left one of the two that it lies between, and the weight of the right one.
pub(crate) type Columns = Vec<(u32, f32)>;

/// What a thread needs for its rows.
#[derive(Debug, Default)]
pub(crate) struct Spread {
    /// Two rows of a and b, spread to the full width, and which rows they are.
    held: [(Option<usize>, [Vec<f32>; 4]); 2],
    /// Rows with [`RADIUS`] zeros at either end: colours and a product, or a and b.
    padded: [Vec<f32>; 5],
    sums: Vec<f32>,
    low: [Vec<f32>; 4],
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

    /// Room for rows of the working size.
    fn resize(&mut self, width: usize) {
        for row in &mut self.padded {
            row.clear();
            row.resize(width + 2 * RADIUS, 0.0);
        }
        self.sums.resize(MOMENTS * width, 0.0);
        for row in &mut self.low {
            row.resize(width, 0.0);
        }
    }
}

impl AsMut<Spread> for Spread {
    fn as_mut(&mut self) -> &mut Spread {
        self
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

/// Values at full-size columns, from those of a row of the working size. The first of `low` is that of column `first`.
#[multiversion(targets("x86_64+avx2+fma+bmi1+bmi2"))]
fn spread(low: &[f32], first: usize, columns: &[(u32, f32)], out: &mut [f32]) {
    let (n, last) = (columns.len(), low.len() - 1);
    let out = &mut out[..n];
    for i in 0..n {
        let (x, weight) = columns[i];
        let x = x as usize - first;
        let (left, right) = (low[x.min(last)], low[(x + 1).min(last)]);
        out[i] = left + (right - left) * weight;
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
    let mut rows = [padded; WINDOW];
    for (k, row) in rows.iter_mut().enumerate() {
        *row = &padded[k..k + n];
    }
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

/// Packed pixels, 0 to 1, as rows of a colour each.
#[multiversion(targets("x86_64+avx2+fma+bmi1+bmi2"))]
fn part(pixels: &[[u8; 3]], red: &mut [f32], green: &mut [f32], blue: &mut [f32]) {
    let n = pixels.len();
    let (red, green, blue) = (&mut red[..n], &mut green[..n], &mut blue[..n]);
    for i in 0..n {
        red[i] = f32::from(pixels[i][0]) * (1.0 / 255.0);
        green[i] = f32::from(pixels[i][1]) * (1.0 / 255.0);
        blue[i] = f32::from(pixels[i][2]) * (1.0 / 255.0);
    }
}

/// Sums over the rows of a window of some columns. Rows are `stride` apart and hold what is summed at `columns`.
#[multiversion(targets("x86_64+avx2+fma+bmi1+bmi2"))]
fn across(
    rows: &[f32],
    stride: usize,
    window: Range<usize>,
    columns: Range<usize>,
    out: &mut [f32],
) {
    let n = columns.len();
    let out = &mut out[..n];
    if window.len() == WINDOW {
        let mut all = [rows; WINDOW];
        for (row, y) in all.iter_mut().zip(window) {
            *row = &rows[y * stride + columns.start..][..n];
        }
        let rows = all;
        for i in 0..n {
            let mut sum = 0.0;
            for row in rows {
                sum += row[i];
            }
            out[i] = sum;
        }
        return;
    }
    out.fill(0.0);
    for y in window {
        let row = &rows[y * stride + columns.start..][..n];
        for i in 0..n {
            out[i] += row[i];
        }
    }
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
fn plane(sums: [f32; MOMENTS], scale: f32) -> [f32; 4] {
    let [r, g, b, p, rp, gp, bp, rr, rg, rb, gg, gb, bb] = sums.map(|s| s * scale);
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

/// One element of each row.
#[allow(
    clippy::inline_always,
    reason = "it must take on the instruction set of its caller"
)]
#[inline(always)]
fn at(rows: &[&[f32]; MOMENTS], i: usize) -> [f32; MOMENTS] {
    let mut all = [0.0; MOMENTS];
    for (one, row) in all.iter_mut().zip(rows) {
        *one = row[i];
    }
    all
}

/// The planes of some columns of a row of `width`. `sums` holds their moments, each `width` long, and `rows` of the window
/// are inside the picture.
#[multiversion(targets("x86_64+avx2+fma+bmi1+bmi2"))]
fn fit(
    sums: &[f32],
    (width, rows): (usize, usize),
    columns: Range<usize>,
    red: &mut [f32],
    green: &mut [f32],
    blue: &mut [f32],
    rest: &mut [f32],
) {
    let (first, n) = (columns.start, columns.len());
    let mut m = [sums; MOMENTS];
    for (moment, row) in m.iter_mut().enumerate() {
        *row = &sums[moment * width + first..][..n];
    }
    let (red, green, blue, rest) = (
        &mut red[..n],
        &mut green[..n],
        &mut blue[..n],
        &mut rest[..n],
    );
    let scale = 1.0 / (rows * WINDOW) as f32;
    for i in 0..n {
        [red[i], green[i], blue[i], rest[i]] = plane(at(&m, i), scale);
    }
    for x in cut_columns(width).filter(|x| columns.contains(x)) {
        let i = x - first;
        let scale = 1.0 / (rows * window(x, width)) as f32;
        [red[i], green[i], blue[i], rest[i]] = plane(at(&m, i), scale);
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
        for flags in [&mut self.fit, &mut self.moments, &mut self.draw] {
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
                for y in around(y, RADIUS) {
                    self.moments[y * blocks + k] = true;
                }
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

    /// Runs of blocks that are alive, as columns.
    fn runs<F: Fn(usize) -> bool>(
        &self,
        alive: F,
        width: usize,
    ) -> impl Iterator<Item = Range<usize>> + use<F> {
        let blocks = self.blocks;
        let mut k = 0;
        std::iter::from_fn(move || {
            while k < blocks && !alive(k) {
                k += 1;
            }
            let first = k;
            while k < blocks && alive(k) {
                k += 1;
            }
            (first < k).then(|| first * BLOCK..(k * BLOCK).min(width))
        })
    }
}

impl Upsampler {
    /// Takes a matte at the working size; `guide` is its picture, packed RGB, none for plain interpolation. Works on as
    /// many threads as there is scratch.
    pub(crate) fn prepare<S: AsMut<Spread> + Send>(
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
            columns(low.0, full.0, &mut self.columns);
            self.starts.clear();
            let columns = &self.columns;
            self.starts.extend(
                (0..width.div_ceil(BLOCK))
                    .map(|k| columns.partition_point(|(x, _)| (*x as usize) < k * BLOCK)),
            );
            self.starts.push(full.0);
        }
        for scratch in &mut *scratch {
            scratch.as_mut().resize(width);
        }
        let Some(guide) = guide else {
            self.coefficients.clear();
            self.coefficients.extend_from_slice(alpha);
            return;
        };
        let pixels = guide.as_chunks::<3>().0;
        self.live.look(alpha, low);
        self.moments.resize(MOMENTS * width * height, 0.0);
        let live = &self.live;
        let rows = Grid {
            data: &mut self.moments,
            width: MOMENTS * width,
        };
        bands::each(scratch, rows, &|scratch: &mut S, band, first| {
            let padded = &mut scratch.as_mut().padded;
            for (y, row) in (first..).zip(band.data.chunks_exact_mut(MOMENTS * width)) {
                let alive = &live.moments[y * live.blocks..][..live.blocks];
                for run in live.runs(|k| alive[k], width) {
                    let (alpha, pixels) = (&alpha[y * width..], &pixels[y * width..]);
                    sum_along(alpha, pixels, width, run, padded, row);
                }
            }
        });
        self.coefficients.resize(4 * width * height, 0.0);
        let (moments, rows) = (
            &self.moments,
            Grid {
                data: &mut self.coefficients,
                width: 4 * width,
            },
        );
        bands::each(scratch, rows, &|scratch: &mut S, band, first| {
            let Spread { padded, sums, .. } = scratch.as_mut();
            for (y, row) in (first..).zip(band.data.chunks_exact_mut(4 * width)) {
                let blocks = y * live.blocks..(y + 1) * live.blocks;
                let near = y.saturating_sub(RADIUS)..(y + RADIUS + 1).min(height);
                // A row is asked for by those around it, and by those around the one above.
                let mut asked = y.saturating_sub(RADIUS + 1)..near.end;
                if !asked.any(|y| live.draws(y).contains(&true)) {
                    continue;
                }
                let [red, green, blue, rest, _] = padded;
                let all = RADIUS..RADIUS + width;
                for plane in [&mut *red, &mut *green, &mut *blue] {
                    plane[all.clone()].fill(0.0);
                }
                let lowest = &live.lowest[blocks.clone()];
                for (part, low) in rest[all].chunks_mut(BLOCK).zip(lowest) {
                    part.fill(*low);
                }
                let alive = &live.fit[blocks];
                for run in live.runs(|k| alive[k], width) {
                    for moment in 0..MOMENTS {
                        let start = moment * width;
                        let columns = start + run.start..start + run.end;
                        let sums = &mut sums[columns.clone()];
                        across(moments, MOMENTS * width, near.clone(), columns, sums);
                    }
                    let at = RADIUS + run.start..;
                    fit(
                        sums,
                        (width, near.len()),
                        run,
                        &mut red[at.clone()],
                        &mut green[at.clone()],
                        &mut blue[at.clone()],
                        &mut rest[at],
                    );
                }
                for (plane, sums) in padded.iter().zip(row.chunks_exact_mut(width)) {
                    along(plane, sums);
                }
            }
        });
    }

    /// For every full-size column its place among those of the working size.
    pub(crate) fn columns(&self) -> &Columns {
        &self.columns
    }

    /// Whether a full-size row is drawn with the guide's.
    pub(crate) fn needs_guide(&self, y: usize) -> bool {
        let (upper, _) = position(y, self.low.1, self.full.1);
        self.guided && self.live.draws(upper).contains(&true)
    }

    /// Makes a row of a and b at full width, unless it is held.
    fn hold(&self, row: usize, rows: &mut Spread) {
        let (width, height) = self.low;
        let Spread {
            held, sums, low, ..
        } = rows;
        let (which, planes) = &mut held[row % 2];
        if *which == Some(row) {
            return;
        }
        *which = Some(row);
        if !self.guided {
            let alpha = &self.coefficients[row * width..][..width];
            spread(alpha, 0, &self.columns, &mut planes[3]);
            return;
        }
        let near = row.saturating_sub(RADIUS)..(row + RADIUS + 1).min(height);
        // It serves the full-size rows below it and above it.
        let (below, above) = (self.live.draws(row), self.live.draws(row.saturating_sub(1)));
        for run in self.live.runs(|k| below[k] || above[k], width) {
            // The last column is between this run and the next one.
            let reach = run.start..(run.end + 1).min(width);
            let to = self.starts[run.start / BLOCK]..self.starts[run.end.div_ceil(BLOCK)];
            for (plane, (low, out)) in low.iter_mut().zip(planes.iter_mut()).enumerate() {
                let sums = &mut sums[..reach.len()];
                let columns = plane * width + reach.start..plane * width + reach.end;
                across(&self.coefficients, 4 * width, near.clone(), columns, sums);
                // The guide comes in bytes.
                let scale = if plane == 3 { 1.0 } else { 1.0 / 255.0 } / near.len() as f32;
                let low = &mut low[..reach.len()];
                means(sums, scale, reach.start, width, low);
                spread(
                    low,
                    reach.start,
                    &self.columns[to.clone()],
                    &mut out[to.clone()],
                );
            }
        }
    }

    /// Row `y` of the matte at full size, 0 to 255; `guide` is that row of the frame, where it is needed. `rows` is one of
    /// the scratches that the matte was prepared with.
    pub(crate) fn row(
        &self,
        y: usize,
        guide: Option<GuideRow<'_>>,
        rows: &mut Spread,
        out: &mut [u8],
    ) {
        let (upper, weight) = position(y, self.low.1, self.full.1);
        let lower = (upper + 1).min(self.low.1 - 1);
        self.hold(upper, rows);
        self.hold(lower, rows);
        let (up, down) = (&rows.held[upper % 2].1, &rows.held[lower % 2].1);
        if !self.guided {
            apply_plain(&up[3], &down[3], weight, out);
            return;
        }
        let alive = self.live.draws(upper);
        let lowest = &self.live.lowest[upper * alive.len()..][..alive.len()];
        let at = |k: usize| self.starts[k]..self.starts[k + 1];
        for (k, alive) in alive.iter().enumerate() {
            if !alive || guide.is_none() {
                out[at(k)].fill(byte(lowest[k]));
            }
        }
        let Some(guide) = guide else {
            return;
        };
        for run in self.live.runs(|k| alive[k], self.low.0) {
            let to = self.starts[run.start / BLOCK]..self.starts[run.end.div_ceil(BLOCK)];
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

/// Means of some columns of a row of `width`, from sums over windows. `scale` is one over the rows of the window.
#[multiversion(targets("x86_64+avx2+fma+bmi1+bmi2"))]
fn means(sums: &[f32], scale: f32, first: usize, width: usize, out: &mut [f32]) {
    let n = out.len();
    let sums = &sums[..n];
    let whole = scale / WINDOW as f32;
    for i in 0..n {
        out[i] = sums[i] * whole;
    }
    for x in cut_columns(width).filter(|x| (first..first + n).contains(x)) {
        out[x - first] = sums[x - first] * scale / window(x, width) as f32;
    }
}

/// The moments of some columns of a row, summed along it over windows.
fn sum_along(
    alpha: &[f32],
    pixels: &[[u8; 3]],
    width: usize,
    run: Range<usize>,
    padded: &mut [Vec<f32>; 5],
    out: &mut [f32],
) {
    let from = run.start.saturating_sub(RADIUS)..(run.end + RADIUS).min(width);
    let at = from.start + RADIUS..from.end + RADIUS;
    let [red, green, blue, p, other] = padded;
    part(
        &pixels[from.clone()],
        &mut red[at.clone()],
        &mut green[at.clone()],
        &mut blue[at.clone()],
    );
    p[at.clone()].copy_from_slice(&alpha[from]);
    let mut moment = 0;
    let mut put = |values: &[f32]| {
        // Windows of column x begin at x in a padded row.
        let sums = &mut out[moment * width..][run.clone()];
        along(&values[run.start..run.end + 2 * RADIUS], sums);
        moment += 1;
    };
    for values in [&*red, green, blue, p] {
        put(values);
    }
    for (a, b) in [
        (&*red, &*p),
        (green, p),
        (blue, p),
        (red, red),
        (red, green),
        (red, blue),
        (green, green),
        (green, blue),
        (blue, blue),
    ] {
        product(&a[at.clone()], &b[at.clone()], &mut other[at.clone()]);
        put(other);
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
                up.row(y, up.needs_guide(y).then_some(guide), rows, &mut out);
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
        assert!(up.needs_guide(25) && !up.needs_guide(59));
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
            up.row(16, guide.then_some(row), &mut rows, &mut out);
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
                up.row(y, Some(guide), &mut rows, &mut out);
                assert!(out.iter().all(|a| *a == (value * 255.0) as u8));
            }
        }
    }
}
