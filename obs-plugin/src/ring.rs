//! Frames between their capture and their display.

/// Frames that can be under way at once: at the network, waiting for it, being read back, shown, and those that wait for
/// their turn to be shown.
pub(crate) const SLOTS: usize = 12;

/// Where the matte of a frame comes from, as far as drawing goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It has one.
    Matte,
    /// There is no target yet.
    BeforeSeed,
    /// The network failed.
    Failed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Free,
    /// Captured; the network has not answered.
    Waiting,
    Answered(Verdict),
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    id: u64,
    time: u64,
    state: State,
}

/// What to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shown {
    /// Where the picture is.
    pub(crate) slot: usize,
    /// Number of the frame.
    pub(crate) id: u64,
    /// When it was captured, nanoseconds.
    pub(crate) time: u64,
    /// What came of it.
    pub(crate) verdict: Verdict,
}

/// Which captured frame lies in which slot, and which of them is to be shown.
///
/// Frames are shown in their order, each with its own matte, at a steady distance behind the newest one: the longest
/// that a matte took lately. Frames that the network never got to are passed over.
#[derive(Debug)]
pub(crate) struct Ring {
    slots: [Slot; SLOTS],
    newest: u64,
    shown: Option<Shown>,
    /// Distance in frames between the newest frame and the one that is shown.
    delay: u64,
    /// Longest distance that an answer came after, since `since`.
    longest: u64,
    since: u64,
}

/// The delay shrinks when so many frames in a row would have done with less.
const PATIENCE: u64 = 90;

impl Ring {
    pub(crate) fn new() -> Self {
        Self {
            slots: [Slot {
                id: 0,
                time: 0,
                state: State::Free,
            }; SLOTS],
            newest: 0,
            shown: None,
            delay: 0,
            longest: 0,
            since: 0,
        }
    }

    /// Forgets all frames; numbers go on, so that late answers match nothing.
    pub(crate) fn clear(&mut self) {
        for slot in &mut self.slots {
            slot.state = State::Free;
        }
        self.shown = None;
    }

    /// A slot for a new frame and its number; `None` while all are needed.
    pub(crate) fn capture(&mut self, time: u64) -> Option<(usize, u64)> {
        let shown = self.shown.map(|s| s.slot);
        let free = |slot: &Slot| slot.state == State::Free;
        let index = match self.slots.iter().position(free) {
            Some(index) => index,
            // What was answered longest ago and not shown so far will be late anyway.
            None => (0..SLOTS)
                .filter(|i| Some(*i) != shown && matches!(self.slots[*i].state, State::Answered(_)))
                .min_by_key(|i| self.slots[*i].id)?,
        };
        self.newest += 1;
        self.slots[index] = Slot {
            id: self.newest,
            time,
            state: State::Waiting,
        };
        Some((index, self.newest))
    }

    /// The network will not see this frame.
    pub(crate) fn dropped(&mut self, id: u64) {
        for slot in &mut self.slots {
            if slot.id == id && slot.state == State::Waiting {
                slot.state = State::Free;
            }
        }
    }

    /// The network has answered for a frame; those before it will get no answer any more. Returns whether the frame is
    /// still here.
    pub(crate) fn answered(&mut self, id: u64, verdict: Verdict) -> bool {
        let mut found = false;
        for slot in &mut self.slots {
            if slot.state == State::Waiting && slot.id < id {
                slot.state = State::Free;
            } else if slot.state == State::Waiting && slot.id == id {
                slot.state = State::Answered(verdict);
                found = true;
            }
        }
        if found {
            let late = self.newest - id;
            self.delay = self.delay.max(late);
            self.longest = self.longest.max(late);
        }
        found
    }

    /// The frame to show now; frames before it are free again.
    pub(crate) fn show(&mut self) -> Option<Shown> {
        if self.newest - self.since >= PATIENCE {
            self.delay = self.longest;
            self.longest = 0;
            self.since = self.newest;
        }
        let due = self.newest.saturating_sub(self.delay);
        let shown = self.shown.map_or(0, |s| s.id);
        let next = (0..SLOTS)
            .filter_map(|slot| match self.slots[slot] {
                Slot {
                    id,
                    time,
                    state: State::Answered(verdict),
                } if id > shown && id <= due => Some(Shown {
                    slot,
                    id,
                    time,
                    verdict,
                }),
                _ => None,
            })
            .max_by_key(|s| s.id);
        if let Some(next) = next {
            self.shown = Some(next);
            for slot in &mut self.slots {
                if slot.id < next.id && matches!(slot.state, State::Answered(_)) {
                    slot.state = State::Free;
                }
            }
        }
        self.shown
    }

    /// Where the newest frame is that was captured.
    pub(crate) fn newest_slot(&self) -> Option<(usize, u64)> {
        self.slots
            .iter()
            .position(|slot| slot.state != State::Free && slot.id == self.newest)
            .map(|index| (index, self.slots[index].time))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: u64 = 33;

    /// A network that takes `took` ticks for a frame and keeps two waiting; returns the numbers shown, tick by tick.
    fn play(ring: &mut Ring, ticks: u64, took: impl Fn(u64) -> u64) -> Vec<Option<u64>> {
        let mut waiting: Vec<u64> = Vec::new();
        let mut busy: Option<(u64, u64)> = None;
        let mut shown = Vec::new();
        for tick in 0..ticks {
            if let Some((id, until)) = busy
                && tick >= until
            {
                ring.answered(id, Verdict::Matte);
                busy = None;
            }
            if let Some((_, id)) = ring.capture(tick * TICK) {
                waiting.push(id);
            }
            while waiting.len() > 2 {
                ring.dropped(waiting.remove(0));
            }
            if busy.is_none() && !waiting.is_empty() {
                busy = Some((waiting.remove(0), tick + took(tick)));
            }
            shown.push(ring.show().map(|s| s.id));
        }
        shown
    }

    #[test]
    fn every_frame_is_shown_once_and_in_order_when_the_network_keeps_up() {
        let shown = play(&mut Ring::new(), 200, |_| 1);
        for pair in shown[20..].windows(2) {
            assert_eq!(pair[1].unwrap(), pair[0].unwrap() + 1, "{shown:?}");
        }
    }

    #[test]
    fn a_network_that_is_slow_at_times_does_not_make_the_picture_stutter() {
        let shown = play(
            &mut Ring::new(),
            85,
            |tick| if tick % 10 == 0 { 2 } else { 1 },
        );
        let steps: Vec<u64> = shown[30..]
            .windows(2)
            .map(|p| p[1].unwrap() - p[0].unwrap())
            .collect();
        assert!(steps.iter().all(|s| *s <= 2), "{steps:?}");
        assert!(
            steps.iter().filter(|s| **s != 1).count() <= steps.len() / 4,
            "{steps:?}"
        );
    }

    #[test]
    fn a_network_far_too_slow_still_gets_its_frames_shown() {
        let shown = play(&mut Ring::new(), 200, |_| 15);
        let mut distinct: Vec<u64> = shown.iter().flatten().copied().collect();
        distinct.dedup();
        assert!(distinct.len() >= 10, "{distinct:?}");
        assert!(distinct.is_sorted());
    }

    #[test]
    fn the_delay_shrinks_again() {
        let mut ring = Ring::new();
        play(&mut ring, 30, |_| 6);
        let slow = ring.delay;
        play(&mut ring, 300, |_| 1);
        assert!(ring.delay < slow, "{} after {slow}", ring.delay);
    }

    #[test]
    fn an_answer_for_a_frame_that_is_gone_is_ignored() {
        let mut ring = Ring::new();
        let (_, id) = ring.capture(0).unwrap();
        ring.clear();
        assert!(!ring.answered(id, Verdict::Matte));
        assert_eq!(ring.show(), None);
    }

    #[test]
    fn what_is_shown_is_never_overwritten() {
        let mut ring = Ring::new();
        let (slot, id) = ring.capture(0).unwrap();
        ring.answered(id, Verdict::Matte);
        assert_eq!(ring.show().unwrap().slot, slot);
        for tick in 0..100 {
            if let Some((other, _)) = ring.capture(tick) {
                assert_ne!(other, slot);
            }
        }
    }
}
