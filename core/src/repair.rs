//! When the target has to be named anew: cuts, and mattes that went wrong.
//!
//! The matte is compared with the person segmentation on the token grid. How well the two agree depends on the scene and
//! the person, so it is compared with what was usual before; a target that never agreed is not a person that the
//! segmentation sees, and is left alone.
//!
//! A part that is missing weighs more than one that is too much, which may be something in somebody's hand: where the
//! target was as long as the two agreed, and the segmentation still sees a person, the matte must not be empty.
//!
//! Who was found while coming into the picture is remembered as half a person. So in the first seconds after somebody was found,
//! a part that the segmentation sees of them, and the matte lacks, counts at once.

use crate::seed::reached;

/// Frames from one comparison to the next.
pub(crate) const INTERVAL: u32 = 5;
/// Comparisons in a row that must fail: about a second at 30 frames a second.
const LASTING: i32 = 6;
/// After an attempt that changed nothing so many comparisons must fail before the next.
const PATIENCE: i32 = 24;
/// Agreement from which the target counts as a person that the segmentation sees.
pub(crate) const PERSON: f32 = 0.6;
/// What is presumed of a target that the segmentation has found.
const PRESUMED: f32 = 0.75;
/// A mask tells after so many comparisons whether it names a person.
const TRIAL: u32 = 3;
/// Agreement below the usual one by this much, and below [`BAD`], is a disagreement.
const DROP: f32 = 0.25;
const BAD: f32 = 0.55;
/// Share of the target that must not be missing: half a head of somebody at a desk.
const MISSING: f32 = 0.12;
/// So many comparisons after a target was found it may still be coming into the picture: six seconds at 30 frames a second.
const ARRIVAL: u32 = 36;
/// Share of a person that the matte lacks while they come.
const LACKS: f32 = 0.15;
/// Comparisons in a row in which it does.
const LACKING: i32 = 2;
/// After an attempt that changed nothing so many more; there are three of them at most.
const LATER: i32 = 6;
/// A mask of somebody who has come is at most so full of the matte before, and holds at least so much of it.
const GROWN: f32 = 0.88;
const KEPT: f32 = 0.7;
/// Share of a matte that people cover at least if it shows nothing else.
const WITHIN: f32 = 0.8;
/// How fast what the target covers follows it, in shares of a comparison.
const FOLLOW: f32 = 0.3;
/// Less of the frame than this, in matte and segmentation together, says nothing.
const LEAST: f32 = 0.003;

/// How a matte and the person segmentation compare.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Comparison {
    pub(crate) agreement: f32,
    /// Share of what the target covered that the segmentation still sees and the matte lacks.
    pub(crate) missing: f32,
    /// Share of the persons who hang together with the matte that it lacks.
    pub(crate) lacking: f32,
}

impl Comparison {
    /// Whether the matte lacks a part of somebody who may be coming into the picture.
    pub(crate) fn lacks_a_part(&self) -> bool {
        self.lacking >= LACKS
    }

    /// Whether the matte lacks a part of what the target covered, and the segmentation still sees.
    pub(crate) fn lacks_what_was(&self) -> bool {
        self.missing >= MISSING
    }
}

/// Why a target has to be named anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Matte and person segmentation disagree.
    Disagreement,
    /// They agree, but for a part that the matte lacks.
    MissingPart,
    /// The target was found not long ago, and there is more of it now.
    Arrival,
}

/// From here on a cell belongs to a matte, or a person.
const HALF: f32 = 0.5;

/// Share of what hangs together with a matte in a map of persons that the matte lacks.
fn lacking(matte: &[f32], persons: &[f32], width: usize) -> f32 {
    let start = (0..persons.len().min(matte.len())).filter(|i| matte[*i] >= HALF);
    let joined = reached(persons, width, |p| *p >= HALF, start);
    let (mut person, mut lacks) = (0.0, 0.0);
    for ((p, alpha), _) in persons.iter().zip(matte).zip(joined).filter(|(_, is)| *is) {
        person += p;
        lacks += (p - alpha).max(0.0);
    }
    lacks / person.max(1.0)
}

/// Whether a mask is that of somebody of whom a matte shows a part: more of them has come.
pub(crate) fn has_grown(mask: &[f32], matte: &[f32]) -> bool {
    let both: f32 = mask.iter().zip(matte).map(|(m, a)| m.min(*a)).sum();
    let (mask, matte): (f32, f32) = (mask.iter().sum(), matte.iter().sum());
    both <= GROWN * mask && both >= KEPT * matte
}

/// Side of the grid on which frames are compared.
const GRID: usize = 24;
/// Mean change of a cell, 0 to 255, that a cut exceeds, and how many times the usual change it is.
const CUT: f32 = 12.0;
const SUDDEN: f32 = 3.0;
/// Correlation of two pictures' brightness below which they show something else: a change of light leaves it high.
const RELATED: f32 = 0.5;

/// Intersection over union of two soft maps of one size; none where both are next to empty.
pub(crate) fn agreement(a: &[f32], b: &[f32]) -> Option<f32> {
    let (mut both, mut either) = (0.0, 0.0);
    for (a, b) in a.iter().zip(b) {
        both += a.min(*b);
        either += a.max(*b);
    }
    (either >= LEAST * a.len() as f32).then(|| both / either)
}

/// Share of a target that is to be otherwise for what was known of it to be wrong, and the least number of cells: with less it is an
/// edge that is moved.
const WRONG: f32 = 0.03;
const WRONG_CELLS: usize = 3;

/// Whether a mask says that parts of a matte, both on the token grid, are not the target's, or that parts are missing.
pub(crate) fn contradicts(mask: &[f32], matte: &[f32]) -> bool {
    let area = |map: &[f32]| map.iter().sum::<f32>();
    let pairs = mask.iter().zip(matte);
    let others = pairs.filter(|(a, b)| (*a - *b).abs() > 0.5).count();
    others >= WRONG_CELLS && others as f32 >= WRONG * area(mask).max(area(matte))
}

/// A picture in a few numbers.
#[derive(Debug, Clone)]
struct Signature {
    colour: [[f32; 3]; GRID * GRID],
}

impl Signature {
    fn of(
        picture: &[u8],
        (width, height): (usize, usize),
        rows: impl Iterator<Item = usize>,
    ) -> Self {
        let (mut colour, mut counts) = ([[0u32; 3]; GRID * GRID], [0u32; GRID * GRID]);
        // Every other pixel of every other row will do.
        for (y, start) in rows.enumerate().step_by(2) {
            let row = &picture[start * 3..(start + width) * 3];
            let cells = y * GRID / height * GRID;
            for (x, pixel) in row.as_chunks::<3>().0.iter().enumerate().step_by(2) {
                let cell = cells + x * GRID / width;
                for c in 0..3 {
                    colour[cell][c] += u32::from(pixel[c]);
                }
                counts[cell] += 1;
            }
        }
        let mut out = [[0.0; 3]; GRID * GRID];
        for ((out, sum), n) in out.iter_mut().zip(colour).zip(counts) {
            *out = sum.map(|v| v as f32 / n.max(1) as f32);
        }
        Self { colour: out }
    }

    /// Mean change of a cell.
    fn distance(&self, other: &Self) -> f32 {
        let sum: f32 = self
            .colour
            .iter()
            .flatten()
            .zip(other.colour.iter().flatten())
            .map(|(a, b)| (a - b).abs())
            .sum();
        sum / (GRID * GRID * 3) as f32
    }

    /// Correlation of the brightness, −1 to 1.
    fn correlation(&self, other: &Self) -> f32 {
        let bright = |s: &Self| s.colour.map(|c| c.iter().sum::<f32>());
        let (mut a, mut b) = (bright(self), bright(other));
        for v in [&mut a, &mut b] {
            let mean = v.iter().sum::<f32>() / v.len() as f32;
            for x in v {
                *x -= mean;
            }
        }
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        dot(&a, &b) / (dot(&a, &a) * dot(&b, &b)).sqrt().max(1e-3)
    }
}

/// Looks for cuts and for lasting disagreement.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    last: Option<Box<Signature>>,
    /// Usual change from frame to frame.
    motion: f32,
    frames: u32,
    usual: Option<f32>,
    /// The segmentation has found the target: a person, however little the two agree later on, with something large in a hand say.
    found: bool,
    trial: u32,
    trial_sum: f32,
    /// Comparisons in a row that failed, less what an attempt in vain has cost.
    failed: i32,
    /// Comparisons that are left in which the target may still be coming.
    arriving: u32,
    /// Comparisons in a row in which it lacked a part while it was, less what an attempt in vain has cost.
    lacks: i32,
    /// What the target covers, on the token grid, averaged over the comparisons that did not fail.
    covered: Vec<f32>,
    /// After a cut nobody was found.
    pub(crate) lost: bool,
}

impl Watch {
    /// A target has been named, by the segmentation or by a mask.
    pub(crate) fn named(&mut self, by_segmentation: bool) {
        *self = Self {
            last: self.last.take(),
            motion: self.motion,
            usual: by_segmentation.then_some(PRESUMED),
            found: by_segmentation,
            ..Self::default()
        };
    }

    /// Somebody was found at the edge of the picture, and may be coming into it.
    pub(crate) fn comes(&mut self) {
        self.arriving = ARRIVAL;
        self.lacks = 0;
    }

    /// A mask says how much of the target is there.
    pub(crate) fn is_complete(&mut self) {
        self.arriving = 0;
        self.lacks = 0;
    }

    /// A mask says who is meant on this picture: what the two agreed on before, a second person say, is not the target any more.
    /// Who was found stays a person if the mask is that of one.
    pub(crate) fn corrected(&mut self, is_person: bool) {
        self.is_complete();
        self.usual = None;
        self.found &= is_person;
        (self.trial, self.trial_sum, self.failed) = (0, 0.0, 0);
        self.covered.clear();
    }

    /// The target has been named anew; it is the same.
    pub(crate) fn renamed(&mut self) {
        self.failed = 0;
        self.lacks = 0;
        self.arriving = self.arriving.saturating_sub(2 * LATER as u32);
        self.frames = 0;
        self.lost = false;
        self.found = true;
        self.covered.clear();
    }

    /// Whether the target was found not long ago, and may still be coming into the picture.
    pub(crate) fn is_arriving(&self) -> bool {
        self.arriving > 0
    }

    /// Whether the target is a person that the segmentation sees.
    pub(crate) fn is_person(&self) -> bool {
        self.sees_a_person().unwrap_or_default()
    }

    /// The same; `None` before it is known.
    pub(crate) fn sees_a_person(&self) -> Option<bool> {
        match self.found {
            true => Some(true),
            false => self.usual.map(|usual| usual >= PERSON),
        }
    }

    /// What the target covered on the token grid as long as the two agreed; empty before that is known.
    pub(crate) fn covered(&self) -> &[f32] {
        &self.covered
    }

    /// The next picture is another one, or shows something else: it is compared with nothing.
    pub(crate) fn forget_picture(&mut self) {
        self.last = None;
        self.covered.clear();
    }

    /// Compares a matte with the person segmentation, both on the token grid, in rows of `width`; none where there is nothing to
    /// compare.
    pub(crate) fn comparison(
        &self,
        matte: &[f32],
        persons: &[f32],
        width: usize,
    ) -> Option<Comparison> {
        let agreement = agreement(matte, persons)?;
        let covered: f32 = self.covered.iter().sum();
        let missing: f32 = (self.covered.iter().zip(persons).zip(matte))
            .map(|((covered, person), alpha)| (covered.min(*person) - alpha).max(0.0))
            .sum();
        Some(Comparison {
            agreement,
            missing: missing / covered.max(1.0),
            lacking: match self.arriving {
                0 => 0.0,
                _ => lacking(matte, persons, width),
            },
        })
    }

    /// Whether a mask, on the token grid, is that of a target that lacks a part: it covers what the target covered, nobody
    /// else, and the part as well.
    pub(crate) fn completes(&self, mask: &[f32], matte: &[f32], width: usize) -> bool {
        agreement(mask, &self.covered).is_some_and(|a| a >= PRESUMED)
            && (self.comparison(matte, mask, width)).is_some_and(|c| c.lacks_what_was())
    }

    /// Whether a matte, on the token grid, shows as much as the target covered, wherever that has moved to, and next to nothing
    /// but people of a mask: whoever else is in that mask has come since.
    pub(crate) fn is_as_before(&self, mask: &[f32], matte: &[f32]) -> bool {
        let inside: f32 = mask.iter().zip(matte).map(|(m, a)| m.min(*a)).sum();
        let shown: f32 = matte.iter().sum();
        let covered: f32 = self.covered.iter().sum();
        covered > 0.0 && shown >= PRESUMED * covered && inside >= WITHIN * shown
    }

    /// Whether the picture is another one than that of the frame before. `rows` gives the first pixel of each row.
    pub(crate) fn cut(
        &mut self,
        picture: &[u8],
        size: (usize, usize),
        rows: impl Iterator<Item = usize>,
    ) -> bool {
        let new = Signature::of(picture, size, rows);
        let Some(last) = &mut self.last else {
            self.last = Some(Box::new(new));
            return false;
        };
        let change = new.distance(last);
        let cut = change > CUT && change > SUDDEN * self.motion && new.correlation(last) < RELATED;
        if !cut {
            self.motion += (change - self.motion) * 0.2;
        }
        **last = new;
        cut
    }

    /// Whether this frame is to be compared.
    pub(crate) fn due(&mut self) -> bool {
        self.frames += 1;
        self.frames.is_multiple_of(INTERVAL)
    }

    /// Takes a comparison and the matte that was compared. Whether the target has to be named anew, and why.
    pub(crate) fn compare(
        &mut self,
        comparison: Option<Comparison>,
        matte: &[f32],
    ) -> Option<Fault> {
        self.arriving = self.arriving.saturating_sub(1);
        let Some(comparison) = comparison else {
            self.failed = self.failed.min(0);
            self.lacks = self.lacks.min(0);
            return None;
        };
        log::trace!("{comparison:.2?}");
        let agreement = comparison.agreement;
        self.lacks = match comparison.lacks_a_part() {
            true => self.lacks + 1,
            false => self.lacks.min(0),
        };
        if self.lacks >= LACKING {
            return Some(Fault::Arrival);
        }
        let Some(usual) = &mut self.usual else {
            self.trial += 1;
            self.trial_sum += agreement;
            if self.trial == TRIAL {
                self.usual = Some(self.trial_sum / TRIAL as f32);
            }
            return None;
        };
        let fault = if agreement < (*usual - DROP).min(BAD) {
            Some(Fault::Disagreement)
        } else {
            comparison.lacks_what_was().then_some(Fault::MissingPart)
        };
        if fault.is_some() {
            self.failed += 1;
        } else {
            // What an attempt in vain has cost is made up for as time goes by.
            self.failed = (self.failed + 1).min(0);
            *usual += (agreement - *usual) * 0.05;
            if self.covered.len() == matte.len() {
                for (covered, alpha) in self.covered.iter_mut().zip(matte) {
                    *covered += (alpha - *covered) * FOLLOW;
                }
            } else {
                self.covered.clear();
                self.covered.extend_from_slice(matte);
            }
        }
        fault.filter(|_| self.is_person() && self.failed >= LASTING)
    }

    /// What was found agrees with the matte, or nobody was found: the comparison was wrong.
    pub(crate) fn in_vain(&mut self, fault: Fault) {
        match fault {
            Fault::Arrival => {
                self.lacks = LACKING - LATER;
                self.arriving = self.arriving.saturating_sub(LATER as u32);
            }
            Fault::Disagreement | Fault::MissingPart => self.failed = LASTING - PATIENCE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_contradicts_and_an_edge_does_not() {
        // 200 cells, a quarter of them the target's.
        let mut matte = vec![0.0; 200];
        matte[..50].fill(1.0);
        let with = |cells: std::ops::Range<usize>, value: f32| {
            let mut mask = matte.clone();
            mask[cells].fill(value);
            mask
        };
        assert!(!contradicts(&matte, &matte));
        assert!(!contradicts(&with(45..60, 0.5), &matte), "a moved edge");
        assert!(!contradicts(&with(0..2, 0.0), &matte), "two cells");
        assert!(contradicts(&with(0..3, 0.0), &matte), "a part taken away");
        assert!(contradicts(&with(100..110, 1.0), &matte), "a part added");
        assert!(contradicts(&vec![0.0; 200], &matte));
        // Of a large target three cells are nothing.
        let large = vec![1.0; 200];
        let mut mask = large.clone();
        mask[..5].fill(0.0);
        assert!(!contradicts(&mask, &large));
    }

    fn picture(value: impl Fn(usize, usize) -> u8) -> Vec<u8> {
        (0..48 * 96)
            .flat_map(|i| [value(i % 96, i / 96); 3])
            .collect()
    }

    fn cut(watch: &mut Watch, picture: &[u8]) -> bool {
        watch.cut(picture, (96, 48), (0..48).map(|y| y * 96))
    }

    #[test]
    fn a_cut_is_told_from_motion_and_light() {
        let mut watch = Watch::default();
        let scene = |shift: usize, light: f32| {
            picture(move |x, y| {
                let v = 100.0 + 60.0 * (((x + shift) as f32) * 0.1).sin() + y as f32;
                (v * light).clamp(0.0, 255.0) as u8
            })
        };
        for i in 0..20 {
            assert!(!cut(&mut watch, &scene(i * 2, 1.0)), "a pan, frame {i}");
        }
        assert!(!cut(&mut watch, &scene(40, 0.5)), "the light goes off");
        assert!(!cut(&mut watch, &scene(40, 1.0)), "and on");
        let other = picture(|x, y| if (x / 12 + y / 12) % 2 == 0 { 220 } else { 20 });
        assert!(cut(&mut watch, &other));
        assert!(!cut(&mut watch, &other));
        assert!(cut(&mut watch, &scene(40, 1.0)));
    }

    #[test]
    fn agreement_is_a_soft_intersection_over_union() {
        let overlap = agreement(&[1.0, 0.5, 0.0, 0.0], &[0.5, 0.5, 0.5, 0.0]).unwrap();
        assert!((overlap - 0.5).abs() < 1e-6);
        assert_eq!(agreement(&[0.0; 100], &[0.0; 100]), None);
    }

    /// Compares by a number alone.
    fn compare(watch: &mut Watch, agreement: f32) -> bool {
        let comparison = Comparison {
            agreement,
            missing: 0.0,
            lacking: 0.0,
        };
        watch.compare(Some(comparison), &[]).is_some()
    }

    #[test]
    fn a_part_that_is_missing_counts_where_the_target_was_and_somebody_still_is() {
        // 20 tokens: somebody's body and head, another place, and the rest.
        let map = |body: f32, head: f32, elsewhere: f32| {
            [[body; 10].as_slice(), &[head; 4], &[elsewhere; 6]].concat()
        };
        let whole = map(1.0, 1.0, 0.0);
        let headless = map(1.0, 0.0, 0.0);
        let followed = || {
            let mut watch = Watch::default();
            watch.named(true);
            for _ in 0..=ARRIVAL {
                let same = watch.comparison(&whole, &whole, 20);
                assert_eq!(watch.compare(same, &whole), None);
            }
            watch
        };
        let until = |matte: &[f32], persons: &[f32]| {
            let mut watch = followed();
            let found = (1..50).find_map(|n| {
                let comparison = watch.comparison(matte, persons, 20);
                watch.compare(comparison, matte).map(|fault| (n, fault))
            });
            (found, watch)
        };
        let (found, watch) = until(&headless, &whole);
        assert_eq!(found, Some((LASTING, Fault::MissingPart)));
        assert!(watch.completes(&whole, &headless, 20));
        assert!(
            !watch.completes(&map(1.0, 1.0, 1.0), &headless, 20),
            "somebody else, too"
        );
        assert!(
            !watch.completes(&headless, &headless, 20),
            "the part is not in it"
        );
        assert_eq!(until(&headless, &headless).0, None, "the head is hidden");
        assert_eq!(
            until(&whole, &map(1.0, 1.0, 1.0)).0,
            None,
            "somebody else comes"
        );
        // Somebody larger: a disagreement, but not the matte's fault.
        let mut wide = followed();
        let both = [whole.as_slice(), &[1.0; 20]].concat();
        let alone = |map: &[f32]| [map, &[0.0; 20]].concat();
        wide.covered = alone(&whole);
        assert!(wide.is_as_before(&both, &alone(&whole)));
        assert!(
            !wide.is_as_before(&both, &alone(&map(0.4, 1.0, 0.0))),
            "half is gone"
        );
        let wall = [map(1.0, 1.0, 1.0).as_slice(), &[0.0; 20]].concat();
        assert!(
            !wide.is_as_before(&alone(&whole), &wall),
            "a piece of the wall"
        );
        assert_eq!(
            until(&map(1.0, 1.0, 0.9), &whole).0,
            None,
            "something is held up"
        );
    }

    #[test]
    fn who_comes_into_the_picture_is_complete_as_soon_as_they_are_there() {
        // Rows of four cells: half of somebody, all of them, and somebody else who does not touch them.
        let half = [1.0, 0.0, 0.0, 0.0].repeat(5);
        let all = [1.0, 1.0, 0.0, 0.0].repeat(5);
        let another = [1.0, 0.0, 0.0, 1.0].repeat(5);
        let is_arrival =
            |found: Option<(i32, Fault)>| found.is_some_and(|(_, f)| f == Fault::Arrival);
        let until = |watch: &mut Watch, matte: &[f32], persons: &[f32]| {
            (1..=ARRIVAL as i32 + 9).find_map(|n| {
                let comparison = watch.comparison(matte, persons, 4);
                watch.compare(comparison, matte).map(|fault| (n, fault))
            })
        };
        let found = || {
            let mut watch = Watch::default();
            watch.named(true);
            watch.comes();
            watch
        };
        let mut watch = found();
        assert_eq!(
            until(&mut watch, &half, &all),
            Some((LACKING, Fault::Arrival))
        );
        watch.in_vain(Fault::Arrival);
        assert_eq!(
            until(&mut watch, &half, &all),
            Some((LATER, Fault::Arrival))
        );
        assert_eq!(until(&mut found(), &all, &all), None);
        watch.in_vain(Fault::Arrival);
        assert_eq!(
            until(&mut watch, &half, &all),
            Some((LATER, Fault::Arrival))
        );
        watch.in_vain(Fault::Arrival);
        assert!(!is_arrival(until(&mut watch, &half, &all)));
        // Nor is anybody named anew for ever.
        let mut watch = found();
        let mut times = 0;
        while is_arrival(until(&mut watch, &half, &all)) {
            watch.renamed();
            times += 1;
        }
        assert_eq!(times, 3);
        let mut watch = found();
        watch.is_complete();
        assert!(!is_arrival(until(&mut watch, &half, &all)));
        // Nor is somebody who comes later and does not touch them a part of them.
        assert!(!is_arrival(until(&mut found(), &half, &another)));
        let mut watch = found();
        until(&mut watch, &all, &all);
        assert!(!is_arrival(until(&mut watch, &half, &all)));
        let mut watch = Watch::default();
        watch.named(false);
        assert!(!is_arrival(until(&mut watch, &half, &all)));

        assert!(has_grown(&all, &half));
        assert!(!has_grown(&all, &all));
        assert!(
            !has_grown(&[0.0, 1.0, 0.0, 0.0].repeat(5), &half),
            "somebody else"
        );
    }

    #[test]
    fn only_lasting_disagreement_counts() {
        let mut watch = Watch::default();
        watch.named(true);
        for round in 0..20 {
            let now = if round % LASTING == LASTING - 1 {
                0.8
            } else {
                0.1
            };
            assert!(!compare(&mut watch, now), "round {round}");
        }
        watch.renamed();
        let until = (1..1000).find(|_| compare(&mut watch, 0.1)).unwrap();
        assert_eq!(until, LASTING);
        watch.in_vain(Fault::Disagreement);
        let until = (1..1000).find(|_| compare(&mut watch, 0.1)).unwrap();
        assert_eq!(until, PATIENCE);
        // An attempt in vain long ago costs nothing.
        watch.in_vain(Fault::Disagreement);
        for _ in LASTING..PATIENCE {
            assert!(!compare(&mut watch, 0.8));
        }
        let until = (1..1000).find(|_| compare(&mut watch, 0.1)).unwrap();
        assert_eq!(until, LASTING);
    }

    #[test]
    fn who_was_found_stays_a_person_until_a_mask_says_otherwise() {
        let mut watch = Watch::default();
        watch.named(true);
        // A guitar: no fault, but little agreement, for a minute.
        for _ in 0..360 {
            assert!(!compare(&mut watch, 0.51));
        }
        assert!(watch.is_person());
        watch.corrected(false);
        assert_eq!(watch.sees_a_person(), None);
        for _ in 0..TRIAL {
            assert!(!compare(&mut watch, 0.51));
        }
        // One of two who were found, say: the other is not brought back.
        assert_eq!(watch.sees_a_person(), Some(false));
        for _ in 0..100 {
            assert!(!compare(&mut watch, 0.1));
        }
        watch.renamed();
        assert!(watch.is_person());
        // What was put right is the same person.
        watch.corrected(true);
        assert!(watch.is_person());
    }

    #[test]
    fn what_is_no_person_is_left_alone() {
        let mut watch = Watch::default();
        watch.named(false);
        for _ in 0..TRIAL {
            assert!(!compare(&mut watch, 0.2));
        }
        assert!(!watch.is_person());
        for _ in 0..100 {
            assert!(!compare(&mut watch, 0.0));
        }
        watch.named(false);
        for _ in 0..TRIAL {
            compare(&mut watch, 0.8);
        }
        assert!(watch.is_person());
    }
}
