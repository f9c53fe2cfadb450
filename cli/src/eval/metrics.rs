//! The measures of video matting, as pure functions over planes of alpha in [0, 1].
//!
//! They follow the published evaluation code of the field, so that figures can be compared with papers: each function
//! names its definition and already carries the scale that papers print (`× 10³`, `× 10²`, `/ 1000`).

/// Scale of the Gaussian whose derivative `grad` takes, in pixels.
const GRAD_SIGMA: f64 = 1.4;
/// The kernel of `grad` ends where the Gaussian falls below this.
const GRAD_CUT: f64 = 1e-2;
/// Thresholds of `conn` are 0.1, 0.2, … 1.0.
const CONN_STEPS: usize = 10;
/// A smaller distance from the connected level does not count as disconnected.
const CONN_THETA: f32 = 0.15;
/// Side of the square that holds the ellipse of `band`, in pixels.
const BAND_SIZE: usize = 10;

/// One alpha plane, rows packed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plane {
    pub(crate) width: usize,
    pub(crate) height: usize,
    /// `width · height` values in [0, 1].
    pub(crate) data: Vec<f32>,
}

impl Plane {
    /// A plane out of 8-bit samples.
    pub(crate) fn from_u8(width: usize, height: usize, samples: &[u8]) -> Self {
        assert_eq!(
            samples.len(),
            width * height,
            "samples of a {width}×{height} plane"
        );
        Self {
            width,
            height,
            data: samples.iter().map(|&v| f32::from(v) / 255.0).collect(),
        }
    }

    fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.data.chunks_exact(self.width)
    }
}

/// All measures of one frame; `dtssd` needs the frame before and is 0 for the first.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FrameScore {
    pub(crate) mad: f64,
    pub(crate) mse: f64,
    pub(crate) grad: f64,
    pub(crate) conn: f64,
    pub(crate) dtssd: f64,
    /// `None` in a frame without a band (all of it opaque or all transparent).
    pub(crate) mad_t: Option<f64>,
    /// `None` in a frame that is all band.
    pub(crate) mad_core: Option<f64>,
}

/// Scores a frame; `before` holds the previous prediction and truth.
pub(crate) fn score(pred: &Plane, truth: &Plane, before: Option<(&Plane, &Plane)>) -> FrameScore {
    let band = band(truth);
    FrameScore {
        mad: mad(pred, truth),
        mse: mse(pred, truth),
        grad: grad(pred, truth),
        conn: conn(pred, truth),
        dtssd: before.map_or(0.0, |(pred_before, truth_before)| {
            dtssd(pred, pred_before, truth, truth_before)
        }),
        mad_t: mad_where(pred, truth, &band, true),
        mad_core: mad_where(pred, truth, &band, false),
    }
}

/// Mean absolute difference over all pixels, × 10³.
pub(crate) fn mad(pred: &Plane, truth: &Plane) -> f64 {
    mean(pairs(pred, truth).map(|(p, t)| (p - t).abs())) * 1e3
}

/// Mean squared difference over all pixels, × 10³.
pub(crate) fn mse(pred: &Plane, truth: &Plane) -> f64 {
    mean(pairs(pred, truth).map(|(p, t)| (p - t).powi(2))) * 1e3
}

/// Squared difference of the magnitudes of the Gaussian-derivative gradients (σ 1.4, kernel cut at 1e-2 and normalised
/// to unit energy, border replicated), summed over the frame, / 1000.
pub(crate) fn grad(pred: &Plane, truth: &Plane) -> f64 {
    let (pred, truth) = (gradient_magnitude(pred), gradient_magnitude(truth));
    pred.iter()
        .zip(&truth)
        .map(|(p, t)| (f64::from(*p) - f64::from(*t)).powi(2))
        .sum::<f64>()
        / 1e3
}

/// Connectivity error of Rhemann et al. (2009): how far each pixel lies above the level at which it is still joined to
/// the largest 4-connected component that prediction and truth share; summed over the frame, / 1000.
pub(crate) fn conn(pred: &Plane, truth: &Plane) -> f64 {
    let mut level: Vec<Option<f32>> = vec![None; truth.data.len()];
    let mut shared = vec![false; truth.data.len()];
    for step in 1..=CONN_STEPS {
        let threshold = step as f32 / CONN_STEPS as f32;
        for (shared, (p, t)) in shared.iter_mut().zip(pred.data.iter().zip(&truth.data)) {
            *shared = *p >= threshold && *t >= threshold;
        }
        let omega = largest_component(&shared, truth.width);
        for (level, in_omega) in level.iter_mut().zip(omega) {
            if !in_omega && level.is_none() {
                *level = Some((step - 1) as f32 / CONN_STEPS as f32);
            }
        }
    }
    let phi = |alpha: f32, level: f32| {
        let above = alpha - level;
        if above >= CONN_THETA {
            1.0 - above
        } else {
            1.0
        }
    };
    let error = pred
        .data
        .iter()
        .zip(&truth.data)
        .zip(&level)
        .map(|((p, t), level)| {
            let level = level.unwrap_or(1.0);
            f64::from((phi(*p, level) - phi(*t, level)).abs())
        });
    error.sum::<f64>() / 1e3
}

/// Root mean square over the pixels of the difference between the temporal differences, × 10².
pub(crate) fn dtssd(pred: &Plane, pred_before: &Plane, truth: &Plane, truth_before: &Plane) -> f64 {
    let change = pairs(pred, pred_before).map(|(now, before)| now - before);
    let true_change = pairs(truth, truth_before).map(|(now, before)| now - before);
    mean(change.zip(true_change).map(|(c, t)| (c - t).powi(2))).sqrt() * 1e2
}

/// The unknown band of a truth: what is left when {alpha = 1} and {alpha = 0} are each eroded by a 10×10 ellipse.
pub(crate) fn band(truth: &Plane) -> Vec<bool> {
    let opaque = eroded(truth, |alpha| alpha >= 1.0);
    let transparent = eroded(truth, |alpha| alpha <= 0.0);
    opaque
        .iter()
        .zip(&transparent)
        .map(|(opaque, transparent)| !opaque && !transparent)
        .collect()
}

/// Mean absolute difference over the pixels where `band` equals `inside`, × 10³. `None` where there are no such pixels.
pub(crate) fn mad_where(pred: &Plane, truth: &Plane, band: &[bool], inside: bool) -> Option<f64> {
    let (mut sum, mut count) = (0.0, 0_usize);
    for ((p, t), in_band) in pairs(pred, truth).zip(band) {
        if *in_band == inside {
            sum += (p - t).abs();
            count += 1;
        }
    }
    (count > 0).then(|| sum / count as f64 * 1e3)
}

fn pairs(a: &Plane, b: &Plane) -> impl Iterator<Item = (f64, f64)> {
    a.data
        .iter()
        .zip(&b.data)
        .map(|(a, b)| (f64::from(*a), f64::from(*b)))
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0_usize), |(sum, count), v| (sum + v, count + 1));
    if count == 0 { 0.0 } else { sum / count as f64 }
}

/// The two factors of the separable kernel: the Gaussian and its derivative, their outer product of unit energy.
fn gradient_kernel() -> (Vec<f32>, Vec<f32>) {
    let half = (GRAD_SIGMA
        * (-2.0 * ((std::f64::consts::TAU).sqrt() * GRAD_SIGMA * GRAD_CUT).ln()).sqrt())
    .ceil() as i32;
    let gaussian = |x: f64| {
        (-x * x / (2.0 * GRAD_SIGMA * GRAD_SIGMA)).exp()
            / (GRAD_SIGMA * (std::f64::consts::TAU).sqrt())
    };
    let unit = |values: Vec<f64>| -> Vec<f32> {
        let energy = values.iter().map(|v| v * v).sum::<f64>().sqrt();
        values.iter().map(|v| (v / energy) as f32).collect()
    };
    let smooth = (-half..=half).map(|x| gaussian(f64::from(x))).collect();
    let derive = (-half..=half)
        .map(|x| -f64::from(x) * gaussian(f64::from(x)) / (GRAD_SIGMA * GRAD_SIGMA))
        .collect();
    (unit(smooth), unit(derive))
}

fn gradient_magnitude(plane: &Plane) -> Vec<f32> {
    let (smooth, derive) = gradient_kernel();
    let x = filter_columns(&filter_rows(plane, &derive), plane.width, &smooth);
    let y = filter_columns(&filter_rows(plane, &smooth), plane.width, &derive);
    x.iter().zip(&y).map(|(x, y)| x.hypot(*y)).collect()
}

/// Correlates every row with `kernel` (odd length), the border replicated.
fn filter_rows(plane: &Plane, kernel: &[f32]) -> Vec<f32> {
    let half = kernel.len() / 2;
    let mut out = Vec::with_capacity(plane.data.len());
    let mut padded = Vec::with_capacity(plane.width + 2 * half);
    for row in plane.rows() {
        padded.clear();
        padded.extend(std::iter::repeat_n(row[0], half));
        padded.extend_from_slice(row);
        padded.extend(std::iter::repeat_n(row[row.len() - 1], half));
        out.extend(
            padded
                .windows(kernel.len())
                .map(|w| w.iter().zip(kernel).map(|(v, k)| v * k).sum::<f32>()),
        );
    }
    out
}

/// Correlates every column with `kernel` (odd length), the border replicated.
fn filter_columns(data: &[f32], width: usize, kernel: &[f32]) -> Vec<f32> {
    let half = kernel.len() / 2;
    let height = data.len() / width;
    let mut out = vec![0.0; data.len()];
    for (y, out) in out.chunks_exact_mut(width).enumerate() {
        for (k, weight) in kernel.iter().enumerate() {
            let from = (y + k).saturating_sub(half).min(height - 1) * width;
            for (out, v) in out.iter_mut().zip(&data[from..from + width]) {
                *out += v * weight;
            }
        }
    }
    out
}

/// Which pixels belong to the largest 4-connected component of `set`; the first in reading order where two are equal.
fn largest_component(set: &[bool], width: usize) -> Vec<bool> {
    const NONE: u32 = u32::MAX;
    // Two-pass labelling: provisional labels joined by union-find, then resolved and counted.
    let mut labels = vec![NONE; set.len()];
    let mut parents: Vec<u32> = Vec::new();
    for i in (0..set.len()).filter(|&i| set[i]) {
        let left = if i % width > 0 { labels[i - 1] } else { NONE };
        let above = if i >= width { labels[i - width] } else { NONE };
        labels[i] = match (left, above) {
            (NONE, NONE) => {
                let label = parents.len() as u32;
                parents.push(label);
                label
            }
            (label, NONE) | (NONE, label) => label,
            (left, above) => {
                let (left, above) = (root(&mut parents, left), root(&mut parents, above));
                let joined = left.min(above);
                parents[left.max(above) as usize] = joined;
                joined
            }
        };
    }
    let mut sizes = vec![0_usize; parents.len()];
    for label in &mut labels {
        if *label != NONE {
            *label = root(&mut parents, *label);
            sizes[*label as usize] += 1;
        }
    }
    let mut largest = NONE;
    for (label, &size) in sizes.iter().enumerate() {
        if size > 0 && (largest == NONE || size > sizes[largest as usize]) {
            largest = label as u32;
        }
    }
    labels
        .iter()
        .map(|&label| label != NONE && label == largest)
        .collect()
}

fn root(parents: &mut [u32], mut label: u32) -> u32 {
    while parents[label as usize] != label {
        // Path halving keeps the chains short.
        parents[label as usize] = parents[parents[label as usize] as usize];
        label = parents[label as usize];
    }
    label
}

/// Column offsets (first and last, relative to the anchor) of each row of the ellipse, as OpenCV draws it with an
/// anchor in the middle.
fn ellipse() -> [(isize, isize); BAND_SIZE] {
    let radius = (BAND_SIZE / 2) as f64;
    std::array::from_fn(|row| {
        let dy = row as f64 - radius;
        let dx = (radius * radius - dy * dy)
            .max(0.0)
            .sqrt()
            .round_ties_even();
        let first = (radius - dx).max(0.0);
        let last = (radius + dx).min(BAND_SIZE as f64 - 1.0);
        ((first - radius) as isize, (last - radius) as isize)
    })
}

/// Erodes the set of pixels where `is_in` holds by the ellipse. Beyond the border counts as inside.
fn eroded(plane: &Plane, is_in: impl Fn(f32) -> bool) -> Vec<bool> {
    let (width, height) = (plane.width as isize, plane.height as isize);
    // Of each row: how many pixels outside the set lie left of a column. One subtraction then answers a whole span.
    let mut outside = Vec::with_capacity((plane.width + 1) * plane.height);
    for row in plane.rows() {
        let mut count = 0_u32;
        outside.push(0);
        for &alpha in row {
            count += u32::from(!is_in(alpha));
            outside.push(count);
        }
    }
    let ellipse = ellipse();
    let anchor = (BAND_SIZE / 2) as isize;
    let mut out = Vec::with_capacity(plane.data.len());
    for y in 0..height {
        for x in 0..width {
            out.push(ellipse.iter().enumerate().all(|(row, &(first, last))| {
                let from_y = y + row as isize - anchor;
                if from_y < 0 || from_y >= height {
                    return true;
                }
                let sums = &outside[(from_y * (width + 1)) as usize..][..=plane.width];
                let from = (x + first).clamp(0, width) as usize;
                let to = (x + last + 1).clamp(0, width) as usize;
                sums[from] == sums[to]
            }));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plane(width: usize, data: &[f32]) -> Plane {
        Plane {
            width,
            height: data.len() / width,
            data: data.to_vec(),
        }
    }

    #[track_caller]
    fn close(got: f64, want: f64) {
        assert!(
            (got - want).abs() < 1e-5 * want.abs().max(1.0),
            "got {got}, expected {want}"
        );
    }

    #[test]
    fn mad_and_mse_are_means_in_thousandths() {
        let pred = plane(2, &[0.0, 0.5, 1.0, 1.0]);
        let truth = plane(2, &[0.0, 1.0, 1.0, 0.0]);
        close(mad(&pred, &truth), (0.5 + 1.0) / 4.0 * 1e3);
        close(mse(&pred, &truth), (0.25 + 1.0) / 4.0 * 1e3);
    }

    #[test]
    fn eight_bit_samples_span_zero_to_one() {
        assert_eq!(Plane::from_u8(2, 1, &[0, 255]).data, [0.0, 1.0]);
    }

    #[test]
    fn dtssd_sees_only_change() {
        let (a, b) = (plane(2, &[0.2, 0.2]), plane(2, &[0.6, 0.6]));
        close(dtssd(&a, &a, &b, &b), 0.0);
        // One of two pixels jumps by 0.4 where the truth stays: sqrt(0.16 / 2).
        let jumped = plane(2, &[0.6, 0.2]);
        close(dtssd(&jumped, &a, &b, &b), (0.16_f64 / 2.0).sqrt() * 1e2);
    }

    #[test]
    fn gradient_kernel_is_nine_wide_with_unit_energy() {
        let (smooth, derive) = gradient_kernel();
        assert_eq!((smooth.len(), derive.len()), (9, 9));
        let energy: f32 = smooth
            .iter()
            .flat_map(|s| derive.iter().map(move |d| (s * d).powi(2)))
            .sum();
        close(f64::from(energy), 1.0);
        assert!(
            derive.iter().sum::<f32>().abs() < 1e-6,
            "the derivative of a constant is 0"
        );
    }

    #[test]
    fn grad_of_a_step_is_the_energy_of_the_step() {
        // A vertical step, far from the side borders, against nothing. Along a row the response is the running sum of
        // the derivative times the sum of the Gaussian; every row answers alike.
        let (smooth, derive) = gradient_kernel();
        let gain = f64::from(smooth.iter().sum::<f32>());
        let mut expected = 0.0;
        let mut running = 0.0;
        for d in &derive {
            running += f64::from(*d);
            expected += (running * gain).powi(2);
        }
        let (width, height) = (32, 5);
        let step = plane(
            width,
            &(0..width * height)
                .map(|i| if i % width < 16 { 0.0 } else { 1.0 })
                .collect::<Vec<_>>(),
        );
        let nothing = plane(width, &vec![0.0; width * height]);
        close(grad(&step, &nothing), expected * height as f64 / 1e3);
        close(grad(&step, &step), 0.0);
    }

    #[test]
    fn largest_component_joins_a_u_and_breaks_ties_by_order() {
        let u = [
            true, false, true, false, true, false, true, false, true, true, true, false,
        ];
        assert_eq!(largest_component(&u, 4), u);
        assert_eq!(
            largest_component(&[true, false, true], 3),
            [true, false, false]
        );
        // A pair in the second row outweighs a single pixel in the first.
        let two = largest_component(&[true, false, false, false, false, true, true, false], 4);
        assert_eq!(two, [false, false, false, false, false, true, true, false]);
        assert_eq!(largest_component(&[false; 4], 2), [false; 4]);
    }

    #[test]
    fn conn_counts_an_island_but_not_the_body() {
        // Columns 0 and 1 are the body, column 3 an island that only the prediction has.
        let truth = plane(4, &[1.0, 1.0, 0.0, 0.0]);
        let island = plane(4, &[1.0, 1.0, 0.0, 0.8]);
        close(conn(&island, &truth), 0.8 / 1e3);
        close(conn(&truth, &truth), 0.0);
        // A difference of 0.1 above the common level stays below theta: free.
        let near = plane(4, &[1.0, 0.92, 0.0, 0.1]);
        close(conn(&near, &truth), 0.0);
        // 0.8 where the truth is 1: joined up to 0.8, the truth lies 0.2 above, the prediction 0.
        let lower = plane(4, &[1.0, 0.8, 0.0, 0.0]);
        close(conn(&lower, &truth), 0.2 / 1e3);
    }

    #[test]
    fn ellipse_is_the_one_of_opencv() {
        // Rows of getStructuringElement(MORPH_ELLIPSE, (10, 10)), as columns relative to the anchor at 5.
        assert_eq!(
            ellipse(),
            [
                (0, 0),
                (-3, 3),
                (-4, 4),
                (-5, 4),
                (-5, 4),
                (-5, 4),
                (-5, 4),
                (-5, 4),
                (-4, 4),
                (-3, 3)
            ]
        );
    }

    #[test]
    fn band_lies_around_the_edge() {
        // A step at column 20 of a plane tall enough for the whole ellipse: the erosion of the opaque side takes the
        // columns whose span to the left (5) meets the other side, that of the transparent side those to the right (4).
        let (width, height) = (40, 12);
        let step = plane(
            width,
            &(0..width * height)
                .map(|i| if i % width < 20 { 0.0 } else { 1.0 })
                .collect::<Vec<_>>(),
        );
        let band = band(&step);
        let row = &band[5 * width..6 * width];
        let inside: Vec<usize> = (0..width).filter(|&x| row[x]).collect();
        assert_eq!(inside, (16..=24).collect::<Vec<_>>());
    }

    #[test]
    fn mad_t_is_the_band_alone() {
        let truth = plane(2, &[0.0, 1.0]);
        let pred = plane(2, &[0.5, 1.0]);
        close(
            mad_where(&pred, &truth, &[true, false], true).unwrap(),
            500.0,
        );
        close(
            mad_where(&pred, &truth, &[true, false], false).unwrap(),
            0.0,
        );
        assert_eq!(mad_where(&pred, &truth, &[false, false], true), None);
    }

    #[test]
    fn first_frame_has_no_temporal_error() {
        let (a, b) = (plane(2, &[0.0, 1.0]), plane(2, &[1.0, 0.0]));
        close(score(&a, &b, None).dtssd, 0.0);
        assert!(score(&a, &b, Some((&b, &a))).dtssd > 0.0);
    }
}
