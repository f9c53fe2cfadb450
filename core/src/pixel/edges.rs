//! The edge of a full-size matte, moved and softened.
//!
//! It is moved by grey dilation or erosion with a disc: wherever alpha rises over a distance, however softly, the whole
//! rise moves by the radius and keeps its shape. Radii between two pixels are interpolated.

use multiversion::multiversion;

use super::bands::{self, Grid};

/// A disc of a radius, and how much the next larger one counts.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Disc {
    radius: usize,
    larger: u16,
}

/// Scratch of a thread.
#[derive(Debug, Default)]
pub(crate) struct EdgeRows {
    /// Ring of rows: for each the maxima over 2w+1 pixels, w from 0 to the radius, with a pixel of padding on each side.
    maxima: Vec<u8>,
    smaller: Vec<u8>,
    larger: Vec<u8>,
    /// A row with padding, and a ring of rows softened along the row.
    padded: Vec<u8>,
    soft: Vec<u8>,
}

/// Half the width of the disc's row at a distance from its middle.
fn half_width(radius: usize, distance: usize) -> Option<usize> {
    let squared = (radius * radius).checked_sub(distance * distance)?;
    Some((squared as f32).sqrt().round() as usize)
}

#[multiversion(targets("x86_64+avx2+fma+bmi1+bmi2"))]
fn max_into(row: &mut [u8], other: &[u8]) {
    let n = row.len();
    let other = &other[..n];
    for i in 0..n {
        row[i] = row[i].max(other[i]);
    }
}

/// Maxima of three: `out[i]` from `row[i]`, `row[i + 1]` and `row[i + 2]`.
#[multiversion(targets("x86_64+avx2+fma+bmi1+bmi2"))]
fn max_beside(row: &[u8], out: &mut [u8]) {
    let n = out.len();
    let (left, centre, right) = (&row[..n], &row[1..=n], &row[2..n + 2]);
    for i in 0..n {
        out[i] = left[i].max(centre[i]).max(right[i]);
    }
}

#[multiversion(targets("x86_64+avx2+fma+bmi1+bmi2"))]
fn mix(smaller: &[u8], larger: &[u8], weight: u16, flip: u8, out: &mut [u8]) {
    let n = out.len();
    let (smaller, larger) = (&smaller[..n], &larger[..n]);
    for i in 0..n {
        let sum = u16::from(smaller[i]) * (256 - weight) + u16::from(larger[i]) * weight;
        out[i] = ((sum + 128) >> 8) as u8 ^ flip;
    }
}

#[multiversion(targets("x86_64+avx2+fma+bmi1+bmi2"))]
fn flipped(row: &[u8], flip: u8, out: &mut [u8]) {
    let n = out.len();
    let row = &row[..n];
    for i in 0..n {
        out[i] = row[i] ^ flip;
    }
}

/// Moves the edge of `alpha`, rows of `width`, by `shift` pixels: outwards where positive. Outside the picture alpha is
/// taken to go on as it is at the border.
pub(crate) fn shift<S: Send + AsMut<EdgeRows>>(
    scratch: &mut [S],
    alpha: &[u8],
    width: usize,
    shift: f32,
    out: &mut [u8],
) {
    let radius = shift.abs();
    let disc = Disc {
        radius: radius as usize,
        larger: (radius.fract() * 256.0).round() as u16,
    };
    // An erosion is the dilation of what is not there.
    let flip = if shift < 0.0 { 255 } else { 0 };
    bands::each(
        scratch,
        Grid { data: out, width },
        &|scratch, band, first| dilate(scratch.as_mut(), alpha, width, disc, flip, band, first),
    );
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "a band is what its thread may write to"
)]
fn dilate(
    scratch: &mut EdgeRows,
    alpha: &[u8],
    width: usize,
    disc: Disc,
    flip: u8,
    band: Grid<'_, u8>,
    first: usize,
) {
    let height = alpha.len() / width;
    let reach = disc.radius + usize::from(disc.larger > 0);
    let ring = 2 * reach + 1;
    // Padding of a pixel on each side stays 0, which no maximum notices.
    let line = width + 2;
    let EdgeRows {
        maxima,
        smaller,
        larger,
        ..
    } = scratch;
    maxima.clear();
    maxima.resize(ring * (reach + 1) * line, 0);
    smaller.resize(width, 0);
    larger.resize(width, 0);
    let load = |maxima: &mut [u8], y: usize| {
        let lines = &mut maxima[(y % ring) * (reach + 1) * line..][..(reach + 1) * line];
        flipped(&alpha[y * width..][..width], flip, &mut lines[1..=width]);
        for w in 1..=reach {
            let (below, this) = lines.split_at_mut(w * line);
            max_beside(&below[(w - 1) * line..], &mut this[1..=width]);
        }
    };
    let gather = |maxima: &[u8], radius: usize, y: usize, out: &mut [u8]| {
        let of =
            |row: usize, w: usize| &maxima[((row % ring) * (reach + 1) + w) * line + 1..][..width];
        out.copy_from_slice(of(y, radius));
        for distance in 1..=radius {
            let Some(w) = half_width(radius, distance) else {
                break;
            };
            if let Some(row) = y.checked_sub(distance) {
                max_into(out, of(row, w));
            }
            if y + distance < height {
                max_into(out, of(y + distance, w));
            }
        }
    };
    for y in first.saturating_sub(reach)..(first + reach).min(height) {
        load(maxima, y);
    }
    for (y, row) in (first..).zip(band.data.chunks_exact_mut(width)) {
        if y + reach < height {
            load(maxima, y + reach);
        }
        gather(maxima, disc.radius, y, smaller);
        if disc.larger > 0 {
            gather(maxima, reach, y, larger);
            mix(smaller, larger, disc.larger, flip, row);
        } else {
            flipped(smaller, flip, row);
        }
    }
}

/// Weights of a smooth kernel that turns a step into a rise over `softness` pixels: from its middle outwards, with a sum
/// over both sides of 256. It is a box run twice, each with ends that count in part.
fn kernel(softness: f32) -> Vec<u16> {
    let radius = softness / 4.0;
    let whole = radius as i32;
    let weight = |i: i32| match i.abs() {
        d if d <= whole => 1.0,
        d if d == whole + 1 => radius.fract(),
        _ => 0.0,
    };
    let reach = 2 * (whole + 1);
    let all: Vec<f32> = (0..=reach)
        .map(|k| {
            (-reach..=reach)
                .map(|i| weight(i) * weight(k - i))
                .sum::<f32>()
        })
        .collect();
    let total: f32 = all[0] + 2.0 * all[1..].iter().sum::<f32>();
    let mut fixed: Vec<u16> = all
        .iter()
        .map(|w| (w / total * 256.0).round() as u16)
        .collect();
    // What rounding leaves over goes to the middle, so that flat parts stay as they are.
    let sides = 2 * fixed[1..].iter().sum::<u16>();
    fixed[0] = 256 - sides;
    while fixed.len() > 1 && fixed.last() == Some(&0) {
        fixed.pop();
    }
    fixed
}

/// A kernel that is made anew only for another softness.
#[derive(Debug, Default)]
pub(crate) struct Kernel {
    softness: f32,
    weights: Vec<u16>,
}

impl Kernel {
    pub(crate) fn set(&mut self, softness: f32) {
        if self.weights.is_empty() || (softness - self.softness).abs() > 0.0 {
            self.softness = softness;
            self.weights = kernel(softness);
        }
    }
}

/// Sums of what `sides` gives for each distance, weighted: from a place on, the pixels on the one side and on the other.
#[allow(
    clippy::inline_always,
    reason = "it must take on the instruction set of its caller"
)]
#[inline(always)]
fn weighted<'a>(
    weights: &[u16],
    out: &mut [u8],
    sides: impl Fn(usize, usize) -> (&'a [u8], &'a [u8]),
) {
    const LANES: usize = 32;
    let n = out.len();
    let mut start = 0;
    while start < n {
        // The last block overlaps the one before, so that all are of one length.
        let at = if start + LANES <= n {
            start
        } else {
            n.saturating_sub(LANES)
        };
        let lanes = LANES.min(n - at);
        let mut sums = [128u16; LANES];
        for (k, weight) in weights.iter().enumerate() {
            let (one, other) = sides(k, at);
            let twice = if k == 0 { 0 } else { *weight };
            if lanes == LANES {
                let (one, other) = (&one[..LANES], &other[..LANES]);
                for i in 0..LANES {
                    sums[i] += u16::from(one[i]) * weight + u16::from(other[i]) * twice;
                }
            } else {
                for i in 0..lanes {
                    sums[i] += u16::from(one[i]) * weight + u16::from(other[i]) * twice;
                }
            }
        }
        for i in 0..lanes {
            out[at + i] = (sums[i] >> 8) as u8;
        }
        start += LANES;
    }
}

/// Softened along a row that is padded by the reach of the weights.
#[multiversion(targets("x86_64+avx2+fma+bmi1+bmi2"))]
fn along(row: &[u8], weights: &[u16], out: &mut [u8]) {
    let reach = weights.len() - 1;
    weighted(weights, out, |k, at| {
        (&row[at + reach - k..], &row[at + reach + k..])
    });
}

/// The same across rows, which begin at `places` for every distance.
#[multiversion(targets("x86_64+avx2+fma+bmi1+bmi2"))]
fn across(rows: &[u8], places: &[(usize, usize)], weights: &[u16], out: &mut [u8]) {
    weighted(weights, out, |k, at| {
        let (above, below) = places[k];
        (&rows[above + at..], &rows[below + at..])
    });
}

/// Longest reach of a kernel: softness 20.
const REACH: usize = 12;

/// Softens the edge of `alpha` with a kernel.
pub(crate) fn soften<S: Send + AsMut<EdgeRows>>(
    scratch: &mut [S],
    alpha: &[u8],
    width: usize,
    kernel: &Kernel,
    out: &mut [u8],
) {
    let height = alpha.len() / width;
    let weights = kernel.weights.as_slice();
    let reach = (weights.len() - 1).min(REACH);
    let ring = 2 * reach + 1;
    bands::each(
        scratch,
        Grid { data: out, width },
        &|scratch, band, first| {
            let EdgeRows { padded, soft, .. } = scratch.as_mut();
            padded.resize(width + 2 * reach, 0);
            soft.resize(ring * width, 0);
            let mut load = |soft: &mut [u8], y: usize| {
                let row = &alpha[y * width..][..width];
                padded[..reach].fill(row[0]);
                padded[reach..reach + width].copy_from_slice(row);
                padded[reach + width..].fill(row[width - 1]);
                along(padded, weights, &mut soft[(y % ring) * width..][..width]);
            };
            for y in first.saturating_sub(reach)..(first + reach).min(height) {
                load(soft, y);
            }
            let mut places = [(0, 0); REACH + 1];
            for (y, row) in (first..).zip(band.data.chunks_exact_mut(width)) {
                if y + reach < height {
                    load(soft, y + reach);
                }
                for (k, place) in places.iter_mut().enumerate().take(reach + 1) {
                    let above = y.saturating_sub(k);
                    let below = (y + k).min(height - 1);
                    *place = ((above % ring) * width, (below % ring) * width);
                }
                across(soft, &places[..=reach], weights, row);
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    impl AsMut<EdgeRows> for EdgeRows {
        fn as_mut(&mut self) -> &mut Self {
            self
        }
    }

    fn scratch(bands: usize) -> Vec<EdgeRows> {
        (0..bands).map(|_| EdgeRows::default()).collect()
    }

    fn noise(n: usize) -> Vec<u8> {
        let mut v = 9u32;
        (0..n)
            .map(|_| {
                v = v.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                // Mostly empty and full, as mattes are.
                match v >> 29 {
                    0..=2 => 0,
                    3..=5 => 255,
                    _ => (v >> 16) as u8,
                }
            })
            .collect()
    }

    /// The definition: the largest value under the disc, or the smallest.
    fn reference(alpha: &[u8], width: usize, radius: usize, grow: bool) -> Vec<u8> {
        let height = alpha.len() / width;
        let mut out = Vec::new();
        for y in 0..height {
            for x in 0..width {
                let mut best = alpha[y * width + x];
                for v in y.saturating_sub(radius)..(y + radius + 1).min(height) {
                    let w = half_width(radius, v.abs_diff(y)).unwrap();
                    for u in x.saturating_sub(w)..(x + w + 1).min(width) {
                        let value = alpha[v * width + u];
                        best = if grow {
                            best.max(value)
                        } else {
                            best.min(value)
                        };
                    }
                }
                out.push(best);
            }
        }
        out
    }

    #[test]
    fn moving_equals_its_definition() {
        for (width, height) in [(1, 1), (40, 3), (67, 50), (5, 33)] {
            let alpha = noise(width * height);
            for shift_by in [0.0, 1.0, -1.0, 2.0, 3.5, -2.25, 7.0, -20.0] {
                let radius = f32::abs(shift_by);
                let (low, high) = (radius as usize, radius.ceil() as usize);
                let grow = shift_by > 0.0;
                let (a, b) = (
                    reference(&alpha, width, low, grow),
                    reference(&alpha, width, high, grow),
                );
                for bands in [1, 3] {
                    let mut out = vec![0; alpha.len()];
                    shift(&mut scratch(bands), &alpha, width, shift_by, &mut out);
                    for i in 0..out.len() {
                        let (a, b) = (f32::from(a[i]), f32::from(b[i]));
                        let wanted = a + (b - a) * radius.fract();
                        assert!(
                            (f32::from(out[i]) - wanted).abs() <= 0.51,
                            "{width}x{height} by {shift_by}, pixel {i}: {} instead of {wanted}",
                            out[i]
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn a_soft_edge_moves_and_keeps_its_shape() {
        let width = 64;
        let ramp = |x: f32| ((x - 24.0) * 25.0).clamp(0.0, 255.0);
        let alpha: Vec<u8> = (0..width * 9)
            .map(|i| ramp((i % width) as f32) as u8)
            .collect();
        for by in [3.0f32, -3.0, 1.5, -0.5] {
            let mut out = vec![0; alpha.len()];
            shift(&mut scratch(1), &alpha, width, by, &mut out);
            for x in 22..44 {
                let got = f32::from(out[4 * width + x]);
                // At the very ends of the rise, interpolated radii cut the corner.
                let slack = if by.fract() == 0.0 { 1.0 } else { 14.0 };
                assert!(
                    (got - ramp(x as f32 + by)).abs() <= slack,
                    "{by} {x}: {got}"
                );
            }
        }
    }

    #[test]
    fn softening_equals_its_definition_and_keeps_what_is_flat() {
        for softness in [0.5f32, 2.0, 6.5, 20.0] {
            let mut made = Kernel::default();
            made.set(softness);
            let weights = made.weights.clone();
            assert!(weights.len() <= REACH + 1);
            assert_eq!(
                u32::from(weights[0]) + 2 * weights[1..].iter().map(|w| u32::from(*w)).sum::<u32>(),
                256
            );
            for (width, height) in [(1, 1), (45, 7), (70, 40), (31, 3)] {
                let alpha = noise(width * height);
                let clamp = |v: isize, n: usize| v.clamp(0, n as isize - 1) as usize;
                let reach = weights.len() as isize - 1;
                let soften_line = |get: &dyn Fn(isize) -> u8| {
                    let sum: u32 = (-reach..=reach)
                        .map(|k| u32::from(weights[k.unsigned_abs()]) * u32::from(get(k)))
                        .sum();
                    ((sum + 128) >> 8) as u8
                };
                let mut rows = vec![0; alpha.len()];
                for y in 0..height {
                    for x in 0..width {
                        rows[y * width + x] =
                            soften_line(&|k| alpha[y * width + clamp(x as isize + k, width)]);
                    }
                }
                for bands in [1, 2] {
                    let mut out = vec![0; alpha.len()];
                    soften(&mut scratch(bands), &alpha, width, &made, &mut out);
                    for y in 0..height {
                        for x in 0..width {
                            let wanted =
                                soften_line(&|k| rows[clamp(y as isize + k, height) * width + x]);
                            assert_eq!(out[y * width + x], wanted, "{softness} {x} {y}");
                        }
                    }
                    for flat in [0, 255] {
                        soften(
                            &mut scratch(bands),
                            &vec![flat; alpha.len()],
                            width,
                            &made,
                            &mut out,
                        );
                        assert!(out.iter().all(|a| *a == flat));
                    }
                }
            }
        }
    }

    #[test]
    fn a_step_becomes_a_rise_over_the_softness() {
        let width = 80;
        let alpha: Vec<u8> = (0..width * 40)
            .map(|i| if i % width < 40 { 0 } else { 255 })
            .collect();
        let mut made = Kernel::default();
        made.set(12.0);
        let mut out = vec![0; alpha.len()];
        soften(&mut scratch(1), &alpha, width, &made, &mut out);
        let row = &out[20 * width..21 * width];
        let soft = row.iter().filter(|a| (3..253).contains(*a)).count();
        assert!((10..=13).contains(&soft), "{soft}");
        assert!(row.is_sorted());
    }
}
