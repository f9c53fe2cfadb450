//! People as a detector finds them: where the head is, and a circle around the whole body.
//!
//! The detector is the one before MediaPipe's pose network (Bazarevsky et al., "BlazePose: On-device Real-time Body Pose
//! Tracking", 2020, section 2.1): it sees how many there are and where, however small a share of the picture they take and
//! whoever stands beside them, which a segmentation does not tell. The circle is what the pose network, and with it the
//! segmentation of a body, has been trained to look at.

use super::look::{Finder, Outside, Part, View, within};
use super::maps::SMALLEST;
use crate::error::Result;
use crate::frame::Frame;
use crate::pixel::scale::Scaler;
use crate::runtime::{Engine, Package};

/// Probability from which there may be somebody, and a second look, at them alone, decides.
const POSSIBLE: f32 = 0.4;
/// Probability from which there is somebody.
const LIKELY: f32 = 0.7;
/// A body takes this share of the square around its circle, or more.
const BODY: f64 = 0.15;
/// So many are looked at a second time at most, the likeliest.
const MOST: usize = 8;
/// Heads that overlap by this share of what they cover together are one.
const SAME: f64 = 0.3;
/// Heads whose middles lie within so many of their sides are one, in two looks.
const SHIFTED: f64 = 0.6;
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
        let [score, x, y, w, h, hip_x, hip_y, rim_x, rim_y] = numbers.map(f64::from);
        let radius = (rim_x - hip_x).hypot(rim_y - hip_y);
        let part = |x: f64, y: f64, w: f64, h: f64| -> Part {
            [left + x * width, top + y * height, w * width, h * height]
        };
        let is_sound = numbers.iter().all(|v| v.is_finite()) && w > 0.0 && h > 0.0 && radius > 0.0;
        is_sound.then(|| Self {
            score: score as f32,
            head: part(x - w / 2.0, y - h / 2.0, w, h),
            circle: part(hip_x - radius, hip_y - radius, 2.0 * radius, 2.0 * radius),
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

    /// Where head and shoulders are, as far as the frame goes.
    pub(super) fn bust(&self) -> Part {
        let [x, y, w, h] = self.head;
        within([x - w / 2.0, y, 2.0 * w, 2.0 * h])
    }

    /// What is head and nothing else, if the head is where it was found.
    pub(super) fn face(&self) -> Part {
        let [x, y, w, h] = self.head;
        [x + 0.2 * w, y + 0.2 * h, 0.6 * w, 0.6 * h]
    }

    fn is_near(&self, other: &Self) -> bool {
        (0..2).all(|axis| {
            let middle = |figure: &Self| figure.head[axis] + figure.head[axis + 2] / 2.0;
            let side = self.head[axis + 2].max(other.head[axis + 2]);
            (middle(self) - middle(other)).abs() < SHIFTED * side
        })
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
    for figure in all {
        if kept.iter().all(|k| overlap(k.head, figure.head) < SAME) {
            kept.push(figure);
        }
    }
    kept
}

/// Probability of somebody who was found, after a second look that found others, or nobody.
fn confirmed(figure: &Figure, again: &[Figure]) -> f32 {
    let same = again.iter().filter(|f| f.is_near(figure));
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

    /// Who is in a frame, the likeliest first.
    pub(super) fn find(&mut self, scaler: &mut Scaler, frame: &Frame<'_>) -> Result<Vec<Figure>> {
        let (width, height) = (f64::from(frame.width()), f64::from(frame.height()));
        let side = width.max(height);
        let (across, down) = (side / width, side / height);
        let square = [(1.0 - across) / 2.0, (1.0 - down) / 2.0, across, down];
        let mut figures = self.look(scaler, frame, square)?;
        figures.retain(Figure::is_there);
        figures.truncate(MOST);
        for figure in &mut figures {
            if figure.score < LIKELY {
                let again = self.look(scaler, frame, figure.circle)?;
                figure.score = confirmed(figure, &again);
            }
        }
        figures.retain(|figure| figure.score >= LIKELY);
        figures.sort_by(|a, b| b.score.total_cmp(&a.score));
        log::debug!("people: {figures:.2?}");
        Ok(figures)
    }
}

#[cfg(test)]
mod tests {
    use super::super::look::WHOLE;
    use super::*;

    /// Somebody upright in a picture whose sides are 1: the middle of the head, its side, and how far below the hips are.
    fn numbers(score: f32, [x, y]: [f32; 2], side: f32, below: f32) -> [f32; 9] {
        let hip = y + below;
        [score, x, y, side, side, x, hip, x, hip - 1.5 * below]
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
        let figure = Figure::of(&numbers(0.9, [0.5, 0.2], 0.2, 0.2), part).unwrap();
        close(figure.head, [0.7, 0.1, 0.1, 0.2]);
        close(figure.circle, [0.6, 0.1, 0.3, 0.6]);
        close(figure.square(), [0.5625, 0.025, 0.375, 0.75]);
        close(figure.bust(), [0.65, 0.1, 0.2, 0.4]);
        close(figure.face(), [0.72, 0.14, 0.06, 0.12]);
        for (place, distance) in [((0.75, 0.4), 0.0), ((0.6, 0.4), 1.0), ((0.75, 1.0), 2.0)] {
            assert!(
                (figure.distance(place) - distance).abs() < 1e-6,
                "{place:?}"
            );
        }
        assert!((figure.visible() - 1.0).abs() < 1e-6);
        // Of a face that fills the frame most of the body lies below.
        let figure = Figure::of(&numbers(0.9, [0.5, 0.5], 0.8, 1.0), WHOLE).unwrap();
        close(figure.circle, [-1.0, 0.0, 3.0, 3.0]);
        assert!((figure.visible() - 1.0 / 9.0).abs() < 1e-6);
        let mut wrong = numbers(0.9, [0.5, 0.5], 0.8, 1.0);
        wrong[7] = f32::NAN;
        assert!(Figure::of(&wrong, WHOLE).is_none());
        assert!(Figure::of(&numbers(0.9, [0.5, 0.5], 0.8, 0.0), WHOLE).is_none());
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
        assert!(found[0].is_near(&Figure::of(&all[0], WHOLE).unwrap()));
        assert!(!found[0].is_near(&found[1]));
        // The one in doubt was seen again, or somebody else was.
        let again = |x: f32| possible(&numbers(0.8, [x, 0.3], 0.2, 0.3), WHOLE);
        assert!((confirmed(&found[1], &again(0.55)) - 0.8).abs() < 1e-6);
        assert!(confirmed(&found[1], &again(0.3)).abs() < 1e-6);
        assert!(confirmed(&found[1], &[]).abs() < 1e-6);
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
