//! Maps of probabilities over a frame, or a part of it: what hangs together in them.

use super::look::Part;
use super::{flood, reached};

/// Probability from which a pixel belongs to a person.
pub(super) const THRESHOLD: f32 = 0.5;
/// Share of the frame that a person must cover to be taken as target.
pub(super) const SMALLEST: f32 = 0.005;

/// 0 below a range, 1 above it.
pub(super) fn rise(value: f32, [from, to]: [f32; 2]) -> f32 {
    ((value - from) / (to - from)).clamp(0.0, 1.0)
}

/// Left becomes right in a picture of this width.
pub(super) fn mirror<T>(picture: &mut [T], width: usize) {
    for row in picture.chunks_exact_mut(width) {
        row.reverse();
    }
}

/// Value of a map at a position in shares of its size, interpolated, clamped to the edge.
pub(super) fn sample(map: &[f32], (width, height): (usize, usize), x: f64, y: f64) -> f32 {
    let at = |v: f64, n: usize| {
        let v = (v * n as f64 - 0.5).clamp(0.0, (n - 1) as f64);
        (v as usize, (v as usize + 1).min(n - 1), v.fract() as f32)
    };
    let ((x0, x1, fx), (y0, y1, fy)) = (at(x, width), at(y, height));
    let row = |y: usize| map[y * width + x0] * (1.0 - fx) + map[y * width + x1] * fx;
    row(y0) * (1.0 - fy) + row(y1) * fy
}

/// Bounding box of cells of a map, and how many there are.
#[derive(Default)]
struct Extent {
    columns: std::ops::Range<usize>,
    rows: std::ops::Range<usize>,
    cells: usize,
}

impl Extent {
    fn add(&mut self, x: usize, y: usize) {
        let grow = |range: &mut std::ops::Range<usize>, v: usize| {
            *range = match range.start < range.end {
                true => range.start.min(v)..range.end.max(v + 1),
                false => v..v + 1,
            };
        };
        grow(&mut self.columns, x);
        grow(&mut self.rows, y);
        self.cells += 1;
    }

    /// As a part of the map's size, and the share of its cells; none if it is empty.
    fn part(&self, (width, height): (usize, usize)) -> Option<(Part, f32)> {
        let (w, h) = (width as f64, height as f64);
        let bounds = [
            self.columns.start as f64 / w,
            self.rows.start as f64 / h,
            self.columns.len() as f64 / w,
            self.rows.len() as f64 / h,
        ];
        (self.cells > 0).then(|| (bounds, self.cells as f32 / (width * height) as f32))
    }
}

/// Bounding box of all pixels above the threshold in a row-major map, in shares of its size, and their share.
pub(super) fn found(map: &[f32], (width, height): (usize, usize)) -> Option<(Part, f32)> {
    let mut extent = Extent::default();
    for (i, _) in map.iter().enumerate().filter(|(_, p)| **p >= THRESHOLD) {
        extent.add(i % width, i / width);
    }
    extent.part((width, height))
}

/// How far from a place a person may begin, in shares of the map's width: a click is not always on target.
const REACH: f64 = 0.04;

/// What hangs together with a place of a row-major map, in shares of its size; all else is 0.
pub(super) fn component<T: Copy + Default>(
    map: &[T],
    (width, height): (usize, usize),
    (x, y): (f64, f64),
    inside: impl Fn(&T) -> bool,
) -> Vec<T> {
    let (x, y) = (x * width as f64 - 0.5, y * height as f64 - 0.5);
    let distance = |i: usize| ((i % width) as f64 - x).powi(2) + ((i / width) as f64 - y).powi(2);
    let reach = (REACH * width as f64).max(1.0).powi(2);
    let nearest = (0..map.len())
        .filter(|i| inside(&map[*i]) && distance(*i) <= reach)
        .min_by(|a, b| distance(*a).total_cmp(&distance(*b)));
    let reached = reached(map, width, inside, nearest);
    let kept = map.iter().zip(reached);
    kept.map(|(v, is_kept)| if is_kept { *v } else { T::default() })
        .collect()
}

/// What hangs together in a map.
#[derive(Debug)]
pub(super) struct Component {
    /// Bounding box, in shares of the map's size.
    pub(super) bounds: Part,
    pub(super) cells: Vec<usize>,
}

/// What hangs together above the threshold in a row-major map, largest area first; what is smaller than a person must be is
/// left out.
pub(super) fn apart(map: &[f32], (width, height): (usize, usize)) -> Vec<Component> {
    let inside = |p: &f32| *p >= THRESHOLD;
    let mut visited = vec![false; map.len()];
    let mut people = Vec::new();
    for start in 0..map.len() {
        if visited[start] || !inside(&map[start]) {
            continue;
        }
        let (mut extent, mut cells) = (Extent::default(), Vec::new());
        flood(map, width, start, inside, &mut visited, |i| {
            extent.add(i % width, i / width);
            cells.push(i);
        });
        people.extend(
            extent
                .part((width, height))
                .filter(|(_, share)| *share >= SMALLEST)
                .map(|(bounds, _)| Component { bounds, cells }),
        );
    }
    people.sort_by_key(|person| std::cmp::Reverse(person.cells.len()));
    people
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bounding_box_covers_what_is_above_the_threshold() {
        let mut map = vec![0.1; 20 * 10];
        for y in 2..5 {
            for x in 4..12 {
                map[y * 20 + x] = 0.9;
            }
        }
        let (bounds, share) = found(&map, (20, 10)).unwrap();
        for (got, wanted) in bounds.iter().zip([0.2, 0.2, 0.4, 0.3]) {
            assert!((got - wanted).abs() < 1e-9, "{bounds:?}");
        }
        assert!((share - 24.0 / 200.0).abs() < 1e-6);
        assert!(found(&[0.2; 200], (20, 10)).is_none());
    }

    #[test]
    fn people_are_told_apart_and_specks_are_none() {
        let mut map = vec![0.0; 100 * 50];
        for (x0, x1, y0, y1) in [(5, 15, 10, 40), (50, 80, 20, 50), (90, 92, 3, 4)] {
            for y in y0..y1 {
                map[y * 100 + x0..y * 100 + x1].fill(0.7);
            }
        }
        let people = apart(&map, (100, 50));
        let wanted = [[0.5, 0.4, 0.3, 0.6], [0.05, 0.2, 0.1, 0.6]];
        assert_eq!(people.len(), 2, "{people:?}");
        for (person, wanted) in people.iter().zip(wanted) {
            for (got, wanted) in person.bounds.iter().zip(wanted) {
                assert!((got - wanted).abs() < 1e-9, "{:?}", person.bounds);
            }
            let cells = wanted[2] * 100.0 * wanted[3] * 50.0;
            assert_eq!(person.cells.len(), cells.round() as usize);
        }
        assert!(apart(&[0.4; 100], (10, 10)).is_empty());
    }

    #[test]
    fn a_place_selects_what_hangs_together_with_it() {
        // Two blocks; the second has an arm.
        let mut map = vec![0u8; 60 * 10];
        for (x0, x1, y0, y1) in [(2, 10, 2, 8), (20, 26, 1, 9), (26, 40, 4, 5)] {
            for y in y0..y1 {
                for x in x0..x1 {
                    map[y * 60 + x] = 255;
                }
            }
        }
        let count = |x: f64, y: f64| {
            component(&map, (60, 10), (x / 60.0, y / 10.0), |p| *p > 0)
                .iter()
                .filter(|p| **p > 0)
                .count()
        };
        assert_eq!(count(5.0, 5.0), 48);
        assert_eq!(count(38.0, 4.5), 48 + 14, "the arm's body comes along");
        assert_eq!(count(18.5, 5.0), 48 + 14, "a little beside it");
        assert_eq!(count(55.0, 5.0), 0, "far from everything");
        assert_eq!(count(-1e9, f64::MAX), 0, "outside");
    }

    #[test]
    fn sampling_is_bilinear_and_clamped() {
        let map = [0.0, 1.0, 2.0, 3.0];
        assert!((sample(&map, (2, 2), 0.5, 0.5) - 1.5).abs() < 1e-6);
        assert!((sample(&map, (2, 2), 0.0, 0.0)).abs() < 1e-6);
        assert!((sample(&map, (2, 2), 1.0, 0.25) - 1.0).abs() < 1e-6);
    }
}
