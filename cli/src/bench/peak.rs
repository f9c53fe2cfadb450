//! What the processor can do at most: the scale that stage times are read against.

use std::hint::black_box;
use std::time::{Duration, Instant};

use serde::Serialize;

/// Sums in flight: enough to hide how long an addition takes, few enough for the registers of AVX2.
const ACCUMULATORS: usize = 96;
/// Multiplications of each sum in one measurement: about a millisecond.
const ROUNDS: usize = 500_000;
/// Far more than the caches hold.
const COPIED: usize = 256 << 20;

/// Measured, not from a data sheet: it depends on the clock of the moment, and on whatever else the machine does.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Peak {
    /// GFLOP/s of `f32` multiplications and additions, fused and in registers, on one core.
    pub(super) one_core: f64,
    /// The same on all cores at once.
    pub(super) all_cores: f64,
    /// GB/s of a copy on one core; a byte that is copied counts once.
    pub(super) copy: f64,
}

impl Peak {
    /// Takes about a second.
    pub(super) fn measure() -> Self {
        let from = vec![1_u8; COPIED];
        let mut to = vec![0_u8; COPIED];
        let copy = best(|| black_box(&mut to).copy_from_slice(black_box(&from)));
        let one_core = fused();
        let all_cores = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..super::cores()).map(|_| scope.spawn(fused)).collect();
            let rates = threads.into_iter().map(|t| t.join().unwrap_or_default());
            rates.sum::<f64>()
        });
        Self {
            one_core,
            all_cores: all_cores.max(one_core),
            copy: COPIED as f64 / 1e9 / copy.as_secs_f64(),
        }
    }

    /// The better of two measurements: whatever else ran can only have made them worse.
    pub(super) fn max(self, other: Self) -> Self {
        Self {
            one_core: self.one_core.max(other.one_core),
            all_cores: self.all_cores.max(other.all_cores),
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
}

/// GFLOP/s on this thread.
fn fused() -> f64 {
    let mut sums = [0.5; ACCUMULATORS];
    let time = best(|| multiply_add(black_box(&mut sums), black_box(0.999), black_box(0.001)));
    2.0 * (ROUNDS * ACCUMULATORS) as f64 / 1e9 / time.as_secs_f64()
}

/// Multiplies and adds in registers, with no memory in the way.
#[multiversion::multiversion(targets("x86_64+avx512f+fma", "x86_64+avx2+fma", "aarch64+neon"))]
fn multiply_add(sums: &mut [f32; ACCUMULATORS], factor: f32, summand: f32) {
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
        assert!(peak.one_core > 0.1 && peak.all_cores >= peak.one_core && peak.copy > 0.01);
        let better = peak.max(Peak {
            one_core: 1e6,
            all_cores: 0.0,
            copy: 0.0,
        });
        assert_eq!(
            (better.of(1), better.of(2)),
            (1e6, peak.all_cores),
            "{better:?}"
        );
    }
}
