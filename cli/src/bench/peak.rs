//! What the processor can do at most: the scale that stage times are read against.

use std::hint::black_box;
use std::time::{Duration, Instant};

use ndarray::linalg::general_mat_mul;
use ndarray::{ArrayView2, ArrayViewMut2};
use serde::Serialize;

/// Sums in flight: enough to hide how long an addition takes, few enough for the registers of AVX2, and of AVX-512.
const ACCUMULATORS: [usize; 2] = [96, 192];
/// Multiplications of each sum in one measurement: about a millisecond.
const ROUNDS: usize = 500_000;
/// Rows and columns of the matrices: more than a core's own caches hold, and still a fraction of a second on a slow core.
const MATRIX: usize = 1024;
/// Far more than the caches hold.
const COPIED: usize = 64 << 20;

/// Measured, not from a data sheet: it depends on the clock of the moment, and on whatever else the machine does.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Peak {
    /// GFLOP/s of `f32` multiplications and additions, fused and in registers, on one core.
    pub(super) one_core: f64,
    /// The same on all cores at once.
    pub(super) all_cores: f64,
    /// GFLOP/s of a large matrix product of `f32`, one on every core at once: what well-made code gets out of memory too.
    pub(super) product: f64,
    /// GB/s of a copy on one core; a byte that is copied counts once.
    pub(super) copy: f64,
}

impl Peak {
    /// Takes about a second and a half.
    pub(super) fn measure() -> Self {
        let from = vec![1_u8; COPIED];
        // Not zeros: those would be pages that the copy has to fetch from the kernel.
        let mut to = vec![2_u8; COPIED];
        let copy = best(|| black_box(&mut to).copy_from_slice(black_box(&from)));
        let one_core = fused();
        Self {
            one_core,
            all_cores: on_all_cores(fused).max(one_core),
            product: on_all_cores(product),
            copy: COPIED as f64 / 1e9 / copy.as_secs_f64(),
        }
    }

    /// The better of two measurements: whatever else ran can only have made them worse.
    pub(super) fn max(self, other: Self) -> Self {
        Self {
            one_core: self.one_core.max(other.one_core),
            all_cores: self.all_cores.max(other.all_cores),
            product: self.product.max(other.product),
            copy: self.copy.max(other.copy),
        }
    }

    /// Of so many threads.
    pub(super) fn of(&self, threads: usize) -> f64 {
        match threads {
            1 => self.one_core,
            threads => self.all_cores.min(self.one_core * threads as f64),
        }
    }

    /// Matrix products of so many threads.
    pub(super) fn product_of(&self, threads: usize) -> f64 {
        self.product * threads.min(super::cores()) as f64 / super::cores() as f64
    }
}

/// The sum of what every core reaches while the others do the same.
fn on_all_cores(rate: fn() -> f64) -> f64 {
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..super::cores()).map(|_| scope.spawn(rate)).collect();
        let rates = threads.into_iter().map(|t| t.join().unwrap_or_default());
        rates.sum()
    })
}

/// GFLOP/s of a matrix product on this thread.
fn product() -> f64 {
    let matrix = || vec![0.5_f32; MATRIX * MATRIX];
    let (a, b, mut c) = (matrix(), matrix(), matrix());
    let shape = (MATRIX, MATRIX);
    let time = best(|| {
        let of = |data| ArrayView2::from_shape(shape, data);
        if let (Ok(a), Ok(b), Ok(mut c)) = (
            of(black_box(&a)),
            of(black_box(&b)),
            ArrayViewMut2::from_shape(shape, black_box(&mut c)),
        ) {
            general_mat_mul(1.0, &a, &b, 0.0, &mut c);
        }
    });
    2.0 * (MATRIX * MATRIX * MATRIX) as f64 / 1e9 / time.as_secs_f64()
}

/// GFLOP/s of fused arithmetic on this thread, with as many sums as suit its registers.
fn fused() -> f64 {
    fused_in::<{ ACCUMULATORS[0] }>().max(fused_in::<{ ACCUMULATORS[1] }>())
}

fn fused_in<const SUMS: usize>() -> f64 {
    let mut sums = [0.5; SUMS];
    let time = best(|| multiply_add(black_box(&mut sums), black_box(0.999), black_box(0.001)));
    2.0 * (ROUNDS * SUMS) as f64 / 1e9 / time.as_secs_f64()
}

/// Multiplies and adds in registers, with no memory in the way.
#[multiversion::multiversion(targets("x86_64+avx512f+fma", "x86_64+avx2+fma", "aarch64+neon"))]
fn multiply_add<const SUMS: usize>(sums: &mut [f32; SUMS], factor: f32, summand: f32) {
    let mut local = *sums;
    for _ in 0..ROUNDS {
        for sum in &mut local {
            // Where there is no such instruction, `mul_add` is a call of a slow function.
            *sum = if multiversion::target::target_cfg_f!(any(
                target_feature = "fma",
                target_arch = "aarch64"
            )) {
                sum.mul_add(factor, summand)
            } else {
                *sum * factor + summand
            };
        }
    }
    *sums = local;
}

/// The shortest of many runs in a quarter of a second.
fn best(mut run: impl FnMut()) -> Duration {
    let begin = Instant::now();
    let mut best = Duration::MAX;
    while begin.elapsed() < Duration::from_millis(250) {
        let start = Instant::now();
        run();
        best = best.min(start.elapsed());
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_is_a_rate_and_the_better_one_counts() {
        let peak = Peak::measure();
        assert!(peak.one_core > 0.1 && peak.all_cores >= peak.one_core);
        assert!(peak.product > 0.1 && peak.copy > 0.01);
        let better = peak.max(Peak {
            one_core: 1e6,
            all_cores: 0.0,
            product: 0.0,
            copy: 0.0,
        });
        assert_eq!(
            (better.of(1), better.of(2)),
            (1e6, peak.all_cores),
            "{better:?}"
        );
    }
}
