//! How long a frame takes on its way through the element, and what is reported of it.

use std::time::Duration;

/// Times of what the element does itself, over the last frames.
#[derive(Debug)]
pub(super) struct Times {
    all: [Duration; 512],
    runs: usize,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            all: [Duration::ZERO; 512],
            runs: 0,
        }
    }
}

impl Times {
    pub(super) fn add(&mut self, time: Duration) {
        let places = self.all.len();
        self.all[self.runs % places] = time;
        self.runs += 1;
    }

    /// Median, 99th percentile and mean; nothing before the first.
    pub(super) fn summary(&self) -> [Duration; 3] {
        let n = self.runs.min(self.all.len());
        if n == 0 {
            return [Duration::ZERO; 3];
        }
        let mut sorted = self.all;
        let sorted = &mut sorted[..n];
        sorted.sort_unstable();
        let at = |share: f64| sorted[((n - 1) as f64 * share).round() as usize];
        [
            at(0.5),
            at(0.99),
            sorted.iter().sum::<Duration>() / n as u32,
        ]
    }
}

/// Frames over which the time is taken.
const WINDOW: usize = 64;
/// Share of the frames that are through in the time that is reported.
const SHARE: f64 = 0.95;
/// More than so many steps are not reported: a stream that needs them is not kept up with anyway.
const MOST_STEPS: u64 = 16;

/// What is reported goes up in steps, when most frames take longer, and never down before the next caps: every change
/// makes a pipeline distribute its latency anew, which is heard.
#[derive(Debug)]
pub(super) struct Latency {
    step: Duration,
    reported: Duration,
    times: [Duration; WINDOW],
    filled: usize,
}

impl Default for Latency {
    fn default() -> Self {
        Self {
            step: Duration::ZERO,
            reported: Duration::ZERO,
            times: [Duration::ZERO; WINDOW],
            filled: 0,
        }
    }
}

impl Latency {
    /// Starts anew with one step. A step of nothing reports nothing, whatever frames take.
    pub(super) fn reset(&mut self, step: Duration) {
        *self = Self {
            step,
            reported: step,
            ..Self::default()
        };
    }

    pub(super) fn step(&self) -> Duration {
        self.step
    }

    pub(super) fn reported(&self) -> Duration {
        self.reported
    }

    /// Adds the time of a frame. Returns whether more is reported from now on.
    pub(super) fn add(&mut self, time: Duration) -> bool {
        self.times[self.filled] = time;
        self.filled += 1;
        if self.filled < WINDOW {
            return false;
        }
        self.filled = 0;
        if self.step.is_zero() {
            return false;
        }
        self.times.sort_unstable();
        let most = self.times[((WINDOW - 1) as f64 * SHARE) as usize];
        let steps = most
            .as_nanos()
            .div_ceil(self.step.as_nanos())
            .clamp(1, MOST_STEPS.into());
        // No more than 16 steps: the cast loses nothing.
        let wanted = self.step * steps as u32;
        let more = wanted > self.reported;
        self.reported = self.reported.max(wanted);
        more
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: Duration = Duration::from_millis(40);

    fn fill(latency: &mut Latency, millis: u64) -> usize {
        (0..WINDOW)
            .filter(|_| latency.add(Duration::from_millis(millis)))
            .count()
    }

    #[test]
    fn one_step_is_reported_until_most_frames_take_longer() {
        let mut latency = Latency::default();
        latency.reset(FRAME);
        assert_eq!(fill(&mut latency, 30), 0);
        assert_eq!(latency.reported(), FRAME);
        assert_eq!(fill(&mut latency, 50), 1, "told once");
        assert_eq!(latency.reported(), 2 * FRAME);
        assert_eq!(fill(&mut latency, 10), 0, "it does not go down by itself");
        assert_eq!(latency.reported(), 2 * FRAME);
        latency.reset(FRAME);
        assert_eq!(latency.reported(), FRAME);
    }

    #[test]
    fn single_slow_frames_and_hopeless_streams_do_not_count() {
        let mut latency = Latency::default();
        latency.reset(FRAME);
        for i in 0..WINDOW {
            assert!(!latency.add(if i < 3 { 20 * FRAME } else { FRAME }));
        }
        assert_eq!(latency.reported(), FRAME);
        fill(&mut latency, 100_000);
        assert_eq!(latency.reported(), 16 * FRAME);
    }

    #[test]
    fn times_are_those_of_the_last_frames() {
        let mut times = Times::default();
        assert_eq!(times.summary(), [Duration::ZERO; 3]);
        for millis in 0..1000 {
            times.add(Duration::from_millis(millis));
        }
        // 488 to 999.
        let [median, high, mean] = times.summary();
        assert_eq!(median, Duration::from_millis(744));
        assert_eq!(high, Duration::from_millis(994));
        assert_eq!(mean, Duration::from_micros(743_500));
    }

    #[test]
    fn without_a_frame_rate_nothing_is_reported() {
        let mut latency = Latency::default();
        latency.reset(Duration::ZERO);
        assert_eq!(fill(&mut latency, 100), 0);
        assert_eq!(latency.reported(), Duration::ZERO);
    }
}
