//! How long each stage takes.

use std::time::{Duration, Instant};

/// Stages of the way of a frame, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stage {
    /// Frame → working size.
    Preprocess,
    /// Person segmentation of the frame, where it is used as a hint.
    Prior,
    /// Graph `matte`: encode, read the bank, decode.
    Matte,
    /// Graph `detail`: the matte at full size, its edges drawn anew.
    Detail,
    /// Matte → full size → output.
    Postprocess,
    /// Graph `value`.
    Value,
    /// Graph `memorize` and the bank, on memory frames.
    Memorize,
}

impl Stage {
    /// All stages.
    pub const ALL: [Self; 7] = [
        Self::Preprocess,
        Self::Prior,
        Self::Matte,
        Self::Detail,
        Self::Postprocess,
        Self::Value,
        Self::Memorize,
    ];

    /// Name, the same word as everywhere else.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Preprocess => "preprocess",
            Self::Prior => "prior",
            Self::Matte => "matte",
            Self::Detail => "detail",
            Self::Postprocess => "postprocess",
            Self::Value => "value",
            Self::Memorize => "memorize",
        }
    }
}

/// Times of one stage over the last [`WINDOW`] times that it ran.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct StageStats {
    /// How often it has run since the engine was opened or reset.
    pub runs: u64,
    /// Median.
    pub p50: Duration,
    /// 95th percentile.
    pub p95: Duration,
    /// 99th percentile.
    pub p99: Duration,
    /// Arithmetic mean.
    pub mean: Duration,
}

/// What [`Matter::stats`](crate::Matter::stats) returns.
#[derive(Debug, Clone, PartialEq)]
pub struct Stats {
    /// What runs the network, in words.
    pub backend: String,
    /// Name and version of the model package, and the numbers it computes with (fp32, fp16, int8, bf16).
    pub model: String,
    /// Width and height at which the network sees the frame, without padding.
    pub working_size: (u32, u32),
    /// Frames processed.
    pub frames: u64,
    /// Frames that got no matte: before a seed, or on failure.
    pub frames_without_matte: u64,
    /// Frames in the memory bank now.
    pub memory_frames: u32,
    /// Times per stage, in the order of [`Stage::ALL`].
    pub stages: [StageStats; Stage::ALL.len()],
}

impl Stats {
    /// Times of one stage.
    pub fn stage(&self, stage: Stage) -> StageStats {
        self.stages[stage as usize]
    }
}

/// Number of runs over which percentiles are taken.
pub const WINDOW: usize = 512;

#[derive(Debug)]
struct Ring {
    nanos: Box<[u64; WINDOW]>,
    runs: u64,
}

/// Collects times without allocating.
#[derive(Debug)]
pub(crate) struct Recorder {
    rings: [Ring; Stage::ALL.len()],
}

impl Recorder {
    pub(crate) fn new() -> Self {
        Self {
            rings: std::array::from_fn(|_| Ring {
                nanos: Box::new([0; WINDOW]),
                runs: 0,
            }),
        }
    }

    /// Adds the time since `start`.
    pub(crate) fn record(&mut self, stage: Stage, start: Instant) {
        let ring = &mut self.rings[stage as usize];
        ring.nanos[(ring.runs % WINDOW as u64) as usize] =
            u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        ring.runs += 1;
    }

    pub(crate) fn clear(&mut self) {
        for ring in &mut self.rings {
            ring.runs = 0;
        }
    }

    pub(crate) fn stages(&self) -> [StageStats; Stage::ALL.len()] {
        std::array::from_fn(|i| {
            let ring = &self.rings[i];
            let n = ring.runs.min(WINDOW as u64) as usize;
            if n == 0 {
                return StageStats::default();
            }
            let mut sorted = *ring.nanos;
            let sorted = &mut sorted[..n];
            sorted.sort_unstable();
            let at = |q: f64| Duration::from_nanos(sorted[((n - 1) as f64 * q).round() as usize]);
            let sum: u64 = sorted.iter().sum();
            StageStats {
                runs: ring.runs,
                p50: at(0.5),
                p95: at(0.95),
                p99: at(0.99),
                mean: Duration::from_nanos(sum / n as u64),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_may_take_long() {
        let Some(start) = Instant::now().checked_sub(Duration::from_secs(7)) else {
            return;
        };
        let mut recorder = Recorder::new();
        recorder.record(Stage::Matte, start);
        let stats = recorder.stages()[Stage::Matte as usize];
        assert!(stats.p50 >= Duration::from_secs(7), "{:?}", stats.p50);
    }

    #[test]
    fn percentiles_cover_the_last_window() {
        let mut recorder = Recorder::new();
        for i in 0..WINDOW as u64 + 100 {
            let ring = &mut recorder.rings[Stage::Matte as usize];
            ring.nanos[(ring.runs % WINDOW as u64) as usize] = i;
            ring.runs += 1;
        }
        let stats = recorder.stages()[Stage::Matte as usize];
        assert_eq!(stats.runs, 612);
        // The window holds 100 ..= 611.
        assert_eq!(stats.p50, Duration::from_nanos(356));
        assert_eq!(stats.p95, Duration::from_nanos(585));
        assert_eq!(stats.p99, Duration::from_nanos(606));
        assert_eq!(
            recorder.stages()[Stage::Value as usize],
            StageStats::default()
        );
    }
}
