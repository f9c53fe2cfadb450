//! People as a detector finds them: where the head is, and a circle around the whole body.
//!
//! The detector is the one before MediaPipe's pose network (Bazarevsky et al., "BlazePose: On-device Real-time Body Pose
//! Tracking", 2020, section 2.1): it sees how many there are and where, however small a share of the picture they take and
//! whoever stands beside them, which a segmentation does not tell. The circle is what the pose network, and with it the
//! segmentation of a body, has been trained to look at.

use super::look::{Finder, Outside, Part, View, WHOLE, aspect, lies_in, square_around, within};
use super::maps::SMALLEST;
use crate::error::Result;
use crate::frame::Frame;
use crate::pixel::scale::Scaler;
use crate::runtime::{Engine, Package};

/// Probability from which there may be somebody, and a second look, at them alone, decides.
const POSSIBLE: f32 = 0.4;
/// Probability from which there is somebody.
const LIKELY: f32 = 0.7;
/// Looks at a part of the frame are into squares of so many times its longer side.
const AROUND: [f64; 2] = [1.1, 1.5];
/// A body takes this share of the square around its circle, or more.
const BODY: f64 = 0.15;
/// So many are looked at a second time at most, the likeliest.
const MOST: usize = 8;
/// Heads that overlap by this share of what they cover together are one.
const SAME: f64 = 0.3;
/// Heads are one in two looks if their middles lie within so many of their sides, or within such a share of the view of the first
/// look, which sees small ones less exactly; and in one look they are told apart as if they were no smaller than that.
const SHIFTED: f64 = 0.75;
const INEXACT: f64 = 0.12;
/// A head with its hair, as a share of the circle's diameter. The network gives a head a size, too, but always the same one, a
/// fifth of the picture.
const HEAD: f64 = 0.16;
/// A look at somebody's head and shoulders sees so much of the frame's longer side.
const VIEW: f64 = 0.4;
/// The pose network looks at a square that is larger than the circle by this share of its size on every side.
const ROOM: f64 = 0.125;

/// Somebody who was found. Parts are in shares of the frame, and may reach beyond it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Figure {
    pub(super) score: f32,
    pub(super) head: Part,
    /// The square around the circle.
    pub(super) circle: Part,
}

impl Figure {
    /// Numbers of the network for one anchor: probability, middle and size of the head, middle of the hips, a point of the
    /// circle, in shares of the part that it saw, which is a square.
    fn of(numbers: &[f32; 9], [left, top, width, height]: Part) -> Option<Self> {
        let [score, x, y, _, _, hip_x, hip_y, rim_x, rim_y] = numbers.map(f64::from);
        let diameter = 2.0 * (rim_x - hip_x).hypot(rim_y - hip_y);
        let square = |x: f64, y: f64, side: f64| -> Part {
            let (x, y) = (x - side / 2.0, y - side / 2.0);
            [
                left + x * width,
                top + y * height,
                side * width,
                side * height,
            ]
        };
        let is_sound = numbers.iter().all(|v| v.is_finite()) && diameter > 0.0;
        is_sound.then(|| Self {
            score: score as f32,
            head: square(x, y, HEAD * diameter),
            circle: square(hip_x, hip_y, diameter),
        })
    }

    /// The square in which to look at the body.
    pub(super) fn square(&self) -> Part {
        self.square_with(ROOM)
    }

    /// The same with more or less room around the circle, in shares of its size.
    pub(super) fn square_with(&self, room: f64) -> Part {
        let [x, y, w, h] = self.circle;
        let (across, down) = (w * room, h * room);
        [x - across, y - down, w + 2.0 * across, h + 2.0 * down]
    }

    /// Whether the frame shows enough of them to be a target.
    fn is_there(&self) -> bool {
        let area = |part: Part| part[2] * part[3];
        area(within(self.head)) > 0.0 && area(within(self.circle)) * BODY >= f64::from(SMALLEST)
    }

    /// How much of the circle's square the frame shows, 0 to 1: less than a third of somebody whose face fills the frame.
    pub(super) fn visible(&self) -> f32 {
        let [_, _, w, h] = within(self.circle);
        (w * h / (self.circle[2] * self.circle[3])) as f32
    }

    /// How far a place of the frame is from the middle of the hips, in radii of the circle.
    pub(super) fn distance(&self, (x, y): (f64, f64)) -> f32 {
        let [left, top, w, h] = self.circle;
        let (across, down) = ((x - left) / w - 0.5, (y - top) / h - 0.5);
        (2.0 * across.hypot(down)) as f32
    }

    /// Where head and shoulders are, as far as the frame goes, and who is beside somebody small: a look at less of the frame
    /// would see no more of them, and leave others out.
    pub(super) fn bust(&self) -> Part {
        let (x, y) = self.middle();
        let side = VIEW / self.circle[2].min(self.circle[3]);
        let [w, h] = [2, 3].map(|axis| self.circle[axis] * side);
        within([x - w / 2.0, y - h / 4.0, w, h])
    }

    /// The middle of the head.
    fn middle(&self) -> (f64, f64) {
        let [x, y, w, h] = self.head;
        (x + w / 2.0, y + h / 2.0)
    }

    /// What is head and nothing else, if the head is where it was found.
    pub(super) fn face(&self) -> Part {
        let [x, y, w, h] = self.head;
        [x + 0.2 * w, y + 0.2 * h, 0.6 * w, 0.6 * h]
    }

    /// Whether the heads of two are one, in looks that see them equally well.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        overlap(self.head, other.head) >= SAME
    }

    /// Whether it is one with another of a second look, if the first was at a part of such a size.
    fn is_near(&self, other: &Self, view: [f64; 2]) -> bool {
        let ((x, y), (u, v)) = (self.middle(), other.middle());
        let reach = |axis: usize| {
            let side = self.head[axis + 2].max(other.head[axis + 2]);
            (SHIFTED * side).max(INEXACT * view[axis])
        };
        (x - u).abs() < reach(0) && (y - v).abs() < reach(1)
    }
}

/// Share that two parts have in common of what they cover together.
fn overlap(a: Part, b: Part) -> f64 {
    let common: f64 = (0..2)
        .map(|i| ((a[i] + a[i + 2]).min(b[i] + b[i + 2]) - a[i].max(b[i])).max(0.0))
        .product();
    common / (a[2] * a[3] + b[2] * b[3] - common)
}

/// Those who may be there, the likeliest first, each once, out of all the numbers of the network for a part of the frame.
fn possible(numbers: &[f32], part: Part) -> Vec<Figure> {
    let mut all: Vec<Figure> = numbers
        .as_chunks::<9>()
        .0
        .iter()
        .filter(|numbers| numbers[0] >= POSSIBLE)
        .filter_map(|numbers| Figure::of(numbers, part))
        .collect();
    all.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut kept: Vec<Figure> = Vec::new();
    let head = |figure: &Figure| {
        let (x, y) = figure.middle();
        let [w, h] = [2, 3].map(|axis| figure.head[axis].max(INEXACT * part[axis]));
        [x - w / 2.0, y - h / 2.0, w, h]
    };
    for figure in all {
        if kept.iter().all(|k| overlap(head(k), head(&figure)) < SAME) {
            kept.push(figure);
        }
    }
    kept
}

/// Probability of somebody who was found in a part of such a size, after a second look that found others, or nobody.
fn confirmed(figure: &Figure, view: [f64; 2], again: &[Figure]) -> f32 {
    let same = again.iter().filter(|f| figure.is_near(f, view));
    same.map(|f| f.score).fold(0.0, f32::max)
}

/// The detector.
#[derive(Debug)]
pub(super) struct Detector(Finder);

impl Detector {
    pub(super) fn open(engine: &Engine, package: &Package) -> Result<Self> {
        Finder::open(engine, package, "detect", "people").map(Self)
    }

    fn look(&mut self, scaler: &mut Scaler, frame: &Frame<'_>, part: Part) -> Result<Vec<Figure>> {
        let view = View::of(part, frame, self.0.size);
        let numbers = self.0.run(scaler, frame, view, Outside::Black, false)?;
        Ok(possible(numbers, part))
    }

    /// Whether there is somebody of such a probability, or more, in a part of the frame that is looked at by itself, of those who
    /// are meant.
    pub(super) fn finds(
        &mut self,
        scaler: &mut Scaler,
        frame: &Frame<'_>,
        part: Part,
        probability: f32,
        is_meant: impl Fn(&Figure) -> bool,
    ) -> Result<bool> {
        for times in AROUND {
            let square = square_around(part, aspect(frame), times);
            let mut figures = self.look(scaler, frame, square)?.into_iter();
            if figures.any(|figure| figure.score >= probability && is_meant(&figure)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Who is in a frame, the likeliest first. Where nobody is, a part in which others see somebody is looked at by itself.
    pub(super) fn find(
        &mut self,
        scaler: &mut Scaler,
        frame: &Frame<'_>,
        seen: Option<Part>,
    ) -> Result<Vec<Figure>> {
        let square = square_around(WHOLE, aspect(frame), 1.0);
        let mut figures = self.look(scaler, frame, square)?;
        figures.retain(Figure::is_there);
        figures.truncate(MOST);
        for figure in &mut figures {
            if figure.score < LIKELY {
                let again = self.look(scaler, frame, figure.circle)?;
                figure.score = confirmed(figure, [square[2], square[3]], &again);
            }
        }
        figures.retain(|figure| figure.score >= LIKELY);
        // More room than there is helps, too: somebody close to the camera is smaller then.
        for times in AROUND {
            let Some(part) = seen.filter(|_| figures.is_empty()) else {
                break;
            };
            figures = self.look(scaler, frame, square_around(part, aspect(frame), times))?;
            let is_seen = |figure: &Figure| lies_in(part, figure.middle());
            figures.retain(|f| f.score >= LIKELY && f.is_there() && is_seen(f));
        }
        figures.sort_by(|a, b| b.score.total_cmp(&a.score));
        log::debug!("people: {figures:.2?}");
        Ok(figures)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Somebody upright in a picture whose sides are 1: the middle of the head, its side, and how far below the hips are. The size
    /// that the network gives to heads is always the same.
    fn numbers(score: f32, [x, y]: [f32; 2], side: f32, below: f32) -> [f32; 9] {
        let hip = y + below;
        let radius = side / (2.0 * HEAD as f32);
        [score, x, y, 0.2, 0.2, x, hip, x, hip - radius]
    }

    fn close(got: Part, wanted: Part) {
        for (a, b) in got.iter().zip(wanted) {
            assert!((a - b).abs() < 1e-6, "{got:?} is not {wanted:?}");
        }
    }

    #[test]
    fn a_figure_lies_where_the_part_was() {
        // Seen in the right half of a wide frame, as a square picture.
        let part = [0.5, 0.0, 0.5, 1.0];
        let figure = Figure::of(&numbers(0.9, [0.5, 0.2], 0.096, 0.2), part).unwrap();
        close(figure.head, [0.726, 0.152, 0.048, 0.096]);
        close(figure.circle, [0.6, 0.1, 0.3, 0.6]);
        close(figure.square(), [0.5625, 0.025, 0.375, 0.75]);
        close(figure.bust(), [0.55, 0.0, 0.4, 0.8]);
        close(figure.face(), [0.7356, 0.1712, 0.0288, 0.0576]);
        for (place, distance) in [((0.75, 0.4), 0.0), ((0.6, 0.4), 1.0), ((0.75, 1.0), 2.0)] {
            assert!(
                (figure.distance(place) - distance).abs() < 1e-6,
                "{place:?}"
            );
        }
        assert!((figure.visible() - 1.0).abs() < 1e-6);
        // Of a face that fills the frame most of the body lies below.
        let figure = Figure::of(&numbers(0.9, [0.5, 0.5], 0.48, 1.0), WHOLE).unwrap();
        close(figure.circle, [-1.0, 0.0, 3.0, 3.0]);
        assert!((figure.visible() - 1.0 / 9.0).abs() < 1e-6);
        let mut wrong = numbers(0.9, [0.5, 0.5], 0.48, 1.0);
        wrong[7] = f32::NAN;
        assert!(Figure::of(&wrong, WHOLE).is_none());
        assert!(Figure::of(&numbers(0.9, [0.5, 0.5], 0.0, 1.0), WHOLE).is_none());
    }

    #[test]
    fn everybody_is_found_once_and_the_unlikely_are_not() {
        let all = [
            numbers(0.7, [0.3, 0.3], 0.2, 0.3),
            numbers(0.9, [0.31, 0.3], 0.2, 0.3),
            numbers(0.3, [0.9, 0.3], 0.2, 0.3),
            // Beside the first: their heads touch.
            numbers(0.5, [0.5, 0.3], 0.2, 0.3),
        ];
        let found = possible(&all.concat(), WHOLE);
        let scores: Vec<i32> = found
            .iter()
            .map(|f| (f.score * 10.0).round() as i32)
            .collect();
        assert_eq!(scores, [9, 5]);
        let view = [1.0; 2];
        assert!(found[0].is_near(&Figure::of(&all[0], WHOLE).unwrap(), view));
        assert!(!found[0].is_near(&found[1], view));
        // The one in doubt was seen again, or somebody else was.
        let again = |x: f32| possible(&numbers(0.8, [x, 0.3], 0.2, 0.3), WHOLE);
        assert!((confirmed(&found[1], view, &again(0.55)) - 0.8).abs() < 1e-6);
        assert!(confirmed(&found[1], view, &again(0.3)).abs() < 1e-6);
        assert!(confirmed(&found[1], view, &[]).abs() < 1e-6);
        // Somebody small is found once, too.
        let twice = [[0.5, 0.3], [0.53, 0.3]].map(|at| numbers(0.8, at, 0.04, 0.1));
        assert_eq!(possible(&twice.concat(), WHOLE).len(), 1);
        let two = [[0.5, 0.3], [0.6, 0.3]].map(|at| numbers(0.8, at, 0.04, 0.1));
        assert_eq!(possible(&two.concat(), WHOLE).len(), 2);
        // Where somebody small is, a look at the whole tells less exactly than one at a tenth of it.
        let small = |x: f32| possible(&numbers(0.8, [x, 0.3], 0.05, 0.1), WHOLE);
        let (first, again) = (small(0.5), small(0.58));
        assert!(confirmed(&first[0], view, &again) > 0.7);
        assert!(confirmed(&first[0], [0.1; 2], &again).abs() < 1e-6);
    }

    #[test]
    fn who_is_far_away_or_outside_is_no_target() {
        let is_there = |x: f32, side: f32, below: f32| {
            let numbers = numbers(0.9, [x, 0.3], side, below);
            Figure::of(&numbers, WHOLE).is_some_and(|f| f.is_there())
        };
        assert!(is_there(0.5, 0.1, 0.2));
        assert!(!is_there(0.5, 0.01, 0.03), "far away");
        assert!(!is_there(1.2, 0.1, 0.2), "beyond the frame");
    }
}
