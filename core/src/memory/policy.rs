//! When which state changes (MatAnyone, section 3; the counters are those of its published frame loop).

/// What a step does to the memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step {
    /// Key and value rows are stored, object memory and sensory memory get the deep update.
    pub(crate) memorize: bool,
    /// The sensory memory takes the decoder's update.
    pub(crate) sensory: bool,
}

/// Counts frames.
#[derive(Debug, Clone)]
pub(crate) struct Policy {
    /// Frames since the first one; −1 before it.
    now: i64,
    /// When a frame was last stored.
    last_memory: i64,
    interval: i64,
    /// Distances from the last stored frame at which the sensory memory is updated.
    stagger: Vec<i64>,
}

/// At most so many sensory updates lie between two stored frames.
const SENSORY_UPDATES: u32 = 5;

impl Policy {
    pub(crate) fn new(interval: u32) -> Self {
        let interval = interval.max(1);
        let stagger = if interval <= SENSORY_UPDATES {
            (1..=i64::from(interval)).collect()
        } else {
            let step = f64::from(interval - 1) / f64::from(SENSORY_UPDATES - 1);
            (0..SENSORY_UPDATES)
                .map(|i| (1.0 + f64::from(i) * step).round_ties_even() as i64)
                .collect()
        };
        Self {
            now: -1,
            last_memory: 0,
            interval: i64::from(interval),
            stagger,
        }
    }

    /// Changes the interval; the count goes on.
    pub(crate) fn set_interval(&mut self, interval: u32) {
        *self = Self {
            now: self.now,
            last_memory: self.last_memory,
            ..Self::new(interval)
        };
    }

    /// A first-frame prediction: it becomes frame 0, and is stored.
    pub(crate) fn first_frame(&mut self) {
        self.now = 0;
        self.last_memory = 0;
    }

    /// An ordinary frame.
    pub(crate) fn advance(&mut self) -> Step {
        self.now += 1;
        let since = self.now - self.last_memory;
        let step = Step {
            memorize: since >= self.interval,
            sensory: self.stagger.contains(&since),
        };
        if step.memorize {
            self.last_memory = self.now;
        }
        step
    }

    /// A frame whose mask is given: always stored, never predicted.
    pub(crate) fn mask_step(&mut self) {
        self.now += 1;
        self.last_memory = self.now;
    }

    pub(crate) fn now(&self) -> i64 {
        self.now
    }

    pub(crate) fn last_memory(&self) -> i64 {
        self.last_memory
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_default_every_fifth_frame_is_stored_and_sensory_is_always_updated() {
        let mut policy = Policy::new(5);
        policy.first_frame();
        let stored: Vec<i64> = (1..=20)
            .filter(|_| {
                let step = policy.advance();
                assert!(step.sensory);
                step.memorize
            })
            .collect();
        assert_eq!(stored, [5, 10, 15, 20]);
    }

    #[test]
    fn with_longer_intervals_sensory_updates_are_spread() {
        // round-half-even(linspace(1, 10, 5)) = 1, 3, 6, 8, 10
        assert_eq!(Policy::new(10).stagger, [1, 3, 6, 8, 10]);
        assert_eq!(Policy::new(6).stagger, [1, 2, 4, 5, 6]);
        assert_eq!(Policy::new(3).stagger, [1, 2, 3]);
    }

    #[test]
    fn a_mask_restarts_the_interval() {
        let mut policy = Policy::new(5);
        policy.first_frame();
        for _ in 1..=8 {
            policy.advance();
        }
        policy.mask_step();
        assert_eq!((policy.now(), policy.last_memory()), (9, 9));
        let stored: Vec<i64> = (10..=16).filter(|_| policy.advance().memorize).collect();
        assert_eq!(stored, [14]);
    }
}
