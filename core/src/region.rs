//! The part of the frame that the network looks at: where the target is small or narrow, a window around it shows it
//! larger for the same work.

use crate::stages::preprocess::{Geometry, STRIDE};

/// Left, top, right and bottom in shares of the frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Bounds {
    pub(crate) left: f64,
    pub(crate) top: f64,
    pub(crate) right: f64,
    pub(crate) bottom: f64,
}

/// Where a target is, in shares of what is seen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Found {
    /// Without what is thin: what a window is chosen for.
    body: Bounds,
    /// With arms that are stretched out: what a window must hold.
    reach: Bounds,
}

/// What is kept free around the target when a window is chosen, in shares of its longer side: arms reach out sideways.
const ROOM: (f64, f64) = (0.22, 0.15);
/// Share of that room that has to be left; with less the whole frame is seen again.
const LEAST_ROOM: f64 = 0.3;
/// A window is worth its while when it shows the target so many times larger.
const GAIN: f64 = 1.15;
/// A window shows a target at most so many times larger than the whole frame at the working size does.
const LARGEST_GAIN: f64 = 2.5;
/// A better window has to be better for so many frames.
const PATIENCE: u32 = 40;
/// How far a target that has reached the border of a window may have got beyond it within a frame, in shares of the frame.
const BEYOND: f64 = 0.06;
/// Alpha from which a pixel belongs to the target.
const THRESHOLD: f32 = 0.2;
/// Share of the window that a target has to cover, so that specks do not count.
const SMALLEST: f32 = 0.002;

/// Working size of windows: narrower than high, as people are, with the area of the whole frame's.
pub(crate) fn window_size((width, height): (usize, usize)) -> (u32, u32) {
    let area = (width * height) as f64;
    let step = STRIDE as f64;
    let high = ((area * 9.0 / 8.0).sqrt() / step).round().max(1.0) * step;
    let wide = (area / high / step).round().max(1.0) * step;
    (wide as u32, high as u32)
}

impl Bounds {
    /// Whether all of it, and a little more, is inside of another.
    fn is_clear_of(&self, border: &Self) -> bool {
        const CLEAR: f64 = 5e-3;
        border.contains(&Self {
            left: (self.left - CLEAR).max(0.0),
            top: (self.top - CLEAR).max(0.0),
            right: (self.right + CLEAR).min(1.0),
            bottom: (self.bottom + CLEAR).min(1.0),
        })
    }

    /// With room around, within the frame.
    fn with_room(self, (width, height): (f64, f64), share: f64) -> Self {
        let longer = ((self.right - self.left) * width).max((self.bottom - self.top) * height);
        let (x, y) = (
            ROOM.0 * share * longer / width,
            ROOM.1 * share * longer / height,
        );
        Self {
            left: (self.left - x).max(0.0),
            top: (self.top - y).max(0.0),
            right: (self.right + x).min(1.0),
            bottom: (self.bottom + y).min(1.0),
        }
    }

    /// Whether a place of the frame lies inside.
    pub(crate) fn holds(&self, (x, y): (f64, f64)) -> bool {
        (self.left..=self.right).contains(&x) && (self.top..=self.bottom).contains(&y)
    }

    fn contains(&self, other: &Self) -> bool {
        // A border of the frame is as far as anything goes.
        const NEAR: f64 = 1e-3;
        self.left <= other.left + NEAR
            && self.top <= other.top + NEAR
            && self.right + NEAR >= other.right
            && self.bottom + NEAR >= other.bottom
    }
}

/// First and last of the rows, or columns.
type Sides = (usize, usize);

impl Found {
    /// Where what a map of alphas covers is; none where that is next to nothing. The body is what rows and columns of a thousandth
    /// of it or more hold; of its reach as much is left out on each side: specks, but no arm.
    pub(crate) fn of<T: Copy>(
        map: &[T],
        (width, height): (usize, usize),
        alpha: impl Fn(T) -> f32,
    ) -> Option<Self> {
        let (mut columns, mut rows) = (vec![0u32; width], vec![0u32; height]);
        for (row, count) in map.chunks_exact(width).zip(&mut rows) {
            for (value, column) in row.iter().zip(&mut columns) {
                let inside = u32::from(alpha(*value) >= THRESHOLD);
                *count += inside;
                *column += inside;
            }
        }
        let total: u32 = rows.iter().sum();
        if (total as f32) < SMALLEST * map.len() as f32 {
            return None;
        }
        let whole = |counts: &[u32]| -> Option<Sides> {
            let holds = |c: &u32| u64::from(*c) * 1000 >= u64::from(total);
            Some((
                counts.iter().position(holds)?,
                counts.iter().rposition(holds)?,
            ))
        };
        let nearly = |counts: &[u32]| -> Option<Sides> {
            let enough = |sum: &mut u32, count: &u32| {
                *sum += count;
                Some(u64::from(*sum) * 1000 >= u64::from(total))
            };
            let first = counts.iter().scan(0, enough).position(|is| is)?;
            let last = counts.iter().rev().scan(0, enough).position(|is| is)?;
            Some((first, counts.len() - 1 - last))
        };
        let bounds = |span: &dyn Fn(&[u32]) -> Option<Sides>| {
            let ((left, right), (top, bottom)) = (span(&columns)?, span(&rows)?);
            Some(Bounds {
                left: left as f64 / width as f64,
                top: top as f64 / height as f64,
                right: (right + 1) as f64 / width as f64,
                bottom: (bottom + 1) as f64 / height as f64,
            })
        };
        Some(Self {
            body: bounds(&whole)?,
            reach: bounds(&nearly)?,
        })
    }
}

impl Geometry {
    /// What of the frame the network sees.
    pub(crate) fn seen(&self) -> Bounds {
        let (w, h) = (self.canvas.0 as f64, self.canvas.1 as f64);
        Bounds {
            left: self.origin.0 as f64 / w,
            top: self.origin.1 as f64 / h,
            right: (self.origin.0 + self.size.0) as f64 / w,
            bottom: (self.origin.1 + self.size.1) as f64 / h,
        }
    }

    /// Where the target is known to end: what is seen, and a little more beyond a border at which something was found, unless
    /// the frame ends there, too.
    pub(crate) fn known(&self, Found { reach: found, .. }: Found) -> Bounds {
        const NEAR: f64 = 0.01;
        let seen = self.seen();
        let beyond = |touches: bool| if touches { BEYOND } else { 0.0 };
        Bounds {
            left: (seen.left - beyond(found.left <= NEAR)).max(0.0),
            top: (seen.top - beyond(found.top <= NEAR)).max(0.0),
            right: (seen.right + beyond(found.right >= 1.0 - NEAR)).min(1.0),
            bottom: (seen.bottom + beyond(found.bottom >= 1.0 - NEAR)).min(1.0),
        }
    }

    /// Where in the frame a pixel of what is seen lies, in shares.
    pub(crate) fn place(&self, x: usize, y: usize) -> (f64, f64) {
        (
            ((self.origin.0 + x) as f64 + 0.5) / self.canvas.0 as f64,
            ((self.origin.1 + y) as f64 + 0.5) / self.canvas.1 as f64,
        )
    }

    /// The pixel of what is seen at a place of the frame, in shares; none beyond it.
    pub(crate) fn pixel(&self, (x, y): (f64, f64)) -> Option<(usize, usize)> {
        let along = |v: f64, canvas: usize, origin: usize, size: usize| {
            let pixel = (v * canvas as f64).floor() - origin as f64;
            (0.0..size as f64)
                .contains(&pixel)
                .then_some(pixel as usize)
        };
        Some((
            along(x, self.canvas.0, self.origin.0, self.size.0)?,
            along(y, self.canvas.1, self.origin.1, self.size.1)?,
        ))
    }

    /// The same window around the middle of something else.
    fn centred(mut self, on: Bounds) -> Self {
        let place = |low: f64, high: f64, canvas: usize, size: usize| {
            let middle = f64::midpoint(low, high) * canvas as f64;
            let free = (canvas - size) as f64;
            (middle - size as f64 / 2.0).round().clamp(0.0, free) as usize
        };
        self.origin = (
            place(on.left, on.right, self.canvas.0, self.size.0),
            place(on.top, on.bottom, self.canvas.1, self.size.1),
        );
        self
    }

    /// Bounds within what is seen, in shares of the frame.
    fn in_frame(&self, b: Bounds) -> Bounds {
        let seen = self.seen();
        let (w, h) = (seen.right - seen.left, seen.bottom - seen.top);
        Bounds {
            left: seen.left + b.left * w,
            top: seen.top + b.top * h,
            right: seen.left + b.right * w,
            bottom: seen.top + b.bottom * h,
        }
    }
}

/// Whether a window of `size` can show anything clearly larger than `whole` does: not where that has every pixel already.
pub(crate) fn may_help(whole: &Geometry, size: (usize, usize)) -> bool {
    window(
        whole,
        (size.0 as u32, size.1 as u32),
        Bounds {
            left: 0.5,
            top: 0.5,
            right: 0.5,
            bottom: 0.5,
        },
    )
    .is_some()
}

/// The window for a target, if one of `size` shows it clearly larger than `whole` does.
pub(crate) fn window(whole: &Geometry, size: (u32, u32), target: Bounds) -> Option<Geometry> {
    let frame = (whole.frame.0 as f64, whole.frame.1 as f64);
    let (w, h) = (f64::from(size.0), f64::from(size.1));
    let wanted = target.with_room(frame, 1.0);
    // Pixels of the frame for one of the window.
    let needed = ((wanted.right - wanted.left) * frame.0 / w)
        .max((wanted.bottom - wanted.top) * frame.1 / h);
    let whole_scale = (frame.0 / whole.size.0 as f64).min(frame.1 / whole.size.1 as f64);
    let largest = (frame.0 / w).min(frame.1 / h);
    let scale = needed.max(1.0).max(whole_scale / LARGEST_GAIN);
    // A window that is a little too low for its target, because the frame ends there, is as high as the frame.
    if scale > largest * 1.02 || scale.min(largest) * GAIN > whole_scale {
        return None;
    }
    let scale = scale.min(largest);
    let canvas = (
        ((frame.0 / scale).round() as usize).max(size.0 as usize),
        ((frame.1 / scale).round() as usize).max(size.1 as usize),
    );
    let mut geometry = Geometry::new((whole.frame.0 as u32, whole.frame.1 as u32), size);
    geometry.canvas = canvas;
    Some(geometry.centred(wanted))
}

/// Says when another window is due.
///
/// A window is never moved: the memory knows the background as it looked in the whole frame, and what a moved window
/// brought into view would be new to it, and some of it join the target. Before the target leaves, the whole frame is seen
/// again, for a while at least.
#[derive(Debug, Default)]
pub(crate) struct Follower {
    better: u32,
}

impl Follower {
    /// What was seen so far is over.
    pub(crate) fn reset(&mut self) {
        self.better = 0;
    }

    /// A target has been named: its window need not wait.
    pub(crate) fn hurry(&mut self) {
        self.better = PATIENCE;
    }

    /// Another window to look through from now on, given the bounds of the last matte within the one that it was seen
    /// through (`now`).
    pub(crate) fn next(
        &mut self,
        whole: &Geometry,
        now: &Geometry,
        size: (u32, u32),
        found: Option<Found>,
    ) -> Option<Geometry> {
        let frame = (whole.frame.0 as f64, whole.frame.1 as f64);
        let Some(found) = found else {
            // It may be anywhere.
            return self.lasting(now != whole).then_some(*whole);
        };
        let (target, reach) = (now.in_frame(found.body), now.in_frame(found.reach));
        let best = window(whole, size, target)
            .filter(|window| reach.is_clear_of(&window.seen()))
            .unwrap_or(*whole);
        let has_room = now.seen().contains(&target.with_room(frame, LEAST_ROOM));
        if !has_room || !reach.is_clear_of(&now.seen()) {
            self.better = 0;
            return now.is_window().then_some(*whole);
        }
        let larger = best.canvas.0 as f64 / now.canvas.0 as f64;
        self.lasting(larger > GAIN).then_some(best)
    }

    fn lasting(&mut self, better: bool) -> bool {
        self.better = if better { self.better + 1 } else { 0 };
        self.better >= PATIENCE
    }
}

/// Where the place of a token (row and column from the middle of the grid, in roots of its area) lies in another window.
pub(crate) fn moved((y, x): (f64, f64), (from, to): (&Geometry, &Geometry)) -> (f64, f64) {
    let side = |g: &Geometry| ((g.grid().0 * g.grid().1) as f64).sqrt() * STRIDE as f64;
    let along = |v: f64, axis: fn((usize, usize)) -> usize| {
        let middle = |g: &Geometry| {
            axis(g.padded) as f64 / 2.0 - axis(g.offset) as f64 + axis(g.origin) as f64
        };
        let place = (v * side(from) + middle(from)) / axis(from.canvas) as f64;
        (place * axis(to.canvas) as f64 - middle(to)) / side(to)
    };
    (along(y, |p| p.1), along(x, |p| p.0))
}

/// Brings a padded map `[channels, h, w]`, one value for `cell`×`cell` pixels, from one window to another: bilinear, and
/// beyond what was seen the nearest, or `outside`.
pub(crate) fn carry(
    map: &[f32],
    (from, to): (&Geometry, &Geometry),
    cell: usize,
    outside: Option<f32>,
) -> Vec<f32> {
    let grid = |g: &Geometry| (g.padded.0 / cell, g.padded.1 / cell);
    let ((w, h), (width, height)) = (grid(from), grid(to));
    let position = |i: usize, axis: fn((usize, usize)) -> usize, n: usize| {
        let pixel = (i as f64 + 0.5) * cell as f64 - axis(to.offset) as f64;
        let place = (pixel + axis(to.origin) as f64) / axis(to.canvas) as f64;
        let pixel = place * axis(from.canvas) as f64 - axis(from.origin) as f64;
        let v = (pixel + axis(from.offset) as f64) / cell as f64 - 0.5;
        let inside = (-0.5..n as f64 - 0.5).contains(&v);
        let v = v.clamp(0.0, (n - 1) as f64);
        (
            v as usize,
            (v as usize + 1).min(n - 1),
            v.fract() as f32,
            inside,
        )
    };
    let columns: Vec<_> = (0..width).map(|x| position(x, |p| p.0, w)).collect();
    let rows: Vec<_> = (0..height).map(|y| position(y, |p| p.1, h)).collect();
    let mut out = Vec::with_capacity(map.len() / (w * h) * width * height);
    for plane in map.chunks_exact(w * h) {
        for (y0, y1, fy, high) in &rows {
            for (x0, x1, fx, wide) in &columns {
                let row = |y: usize| plane[y * w + x0] * (1.0 - fx) + plane[y * w + x1] * fx;
                out.push(match outside {
                    Some(value) if !(*high && *wide) => value,
                    _ => row(*y0) * (1.0 - fy) + row(*y1) * fy,
                });
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: (u32, u32) = (384, 432);

    fn whole() -> Geometry {
        Geometry::new((1280, 720), (544, 304))
    }

    fn bounds(left: f64, top: f64, right: f64, bottom: f64) -> Bounds {
        Bounds {
            left,
            top,
            right,
            bottom,
        }
    }

    /// Nothing of it is thin.
    fn compact(bounds: Bounds) -> Found {
        Found {
            body: bounds,
            reach: bounds,
        }
    }

    #[test]
    fn a_window_has_the_area_of_the_whole_and_whole_cells() {
        assert_eq!(window_size((544, 304)), SIZE);
        let (w, h) = window_size((16, 16));
        assert_eq!((w % 16, h % 16), (0, 0));
    }

    #[test]
    fn a_standing_person_is_seen_larger_and_whole() {
        // 230 of 1280 pixels wide, 640 of 720 high.
        let target = bounds(0.48, 0.06, 0.66, 0.94);
        let window = window(&whole(), SIZE, target).unwrap();
        assert_eq!(window.canvas, (768, 432));
        assert!(
            window
                .seen()
                .contains(&target.with_room((1280.0, 720.0), LEAST_ROOM))
        );
        assert_eq!(window.size, (384, 432));
        // At the border the window stays within the frame.
        let right = super::window(&whole(), SIZE, bounds(0.82, 0.06, 1.0, 1.0)).unwrap();
        assert_eq!(right.origin, (768 - 384, 0));
    }

    #[test]
    fn small_frames_have_no_windows() {
        assert!(may_help(&whole(), (384, 432)));
        assert!(!may_help(
            &Geometry::new((544, 304), (544, 304)),
            (384, 432)
        ));
        assert!(!may_help(
            &Geometry::new((640, 360), (544, 304)),
            (384, 432)
        ));
    }

    #[test]
    fn what_fills_the_frame_is_seen_as_a_whole() {
        assert_eq!(window(&whole(), SIZE, bounds(0.1, 0.1, 0.9, 1.0)), None);
        assert_eq!(window(&whole(), SIZE, bounds(0.0, 0.0, 1.0, 1.0)), None);
    }

    #[test]
    fn a_far_target_is_not_enlarged_beyond_the_pixels_of_the_frame() {
        let target = bounds(0.5, 0.5, 0.53, 0.56);
        let large = window(&whole(), SIZE, target).unwrap();
        assert_eq!(large.canvas.0, 1280);
        let vast = Geometry::new((7680, 4320), (544, 304));
        let window = window(&vast, SIZE, target).unwrap();
        assert!((window.canvas.0 as f64 / 544.0 - LARGEST_GAIN).abs() < 0.05);
    }

    #[test]
    fn the_window_stays_while_it_can() {
        let mut follower = Follower::default();
        let whole = whole();
        let target = bounds(0.48, 0.3, 0.6, 0.7);
        let now = window(&whole, SIZE, target).unwrap();
        let within = |b: Bounds, g: &Geometry| {
            let seen = g.seen();
            let (w, h) = (seen.right - seen.left, seen.bottom - seen.top);
            Some(compact(bounds(
                (b.left - seen.left) / w,
                (b.top - seen.top) / h,
                (b.right - seen.left) / w,
                (b.bottom - seen.top) / h,
            )))
        };
        assert_eq!(
            follower.next(&whole, &now, SIZE, within(target, &now)),
            None
        );
        // A little aside: the window stays. Near its border the whole frame is seen at once.
        let aside = bounds(0.5, 0.3, 0.62, 0.7);
        assert_eq!(follower.next(&whole, &now, SIZE, within(aside, &now)), None);
        let far = bounds(now.seen().right - 0.12, 0.3, now.seen().right, 0.7);
        let next = follower.next(&whole, &now, SIZE, within(far, &now));
        assert_eq!(next, Some(whole));
        // An arm may come nearer to it, and must not reach it.
        let with_arm = |right: f64| {
            within(target, &now).map(|found| Found {
                reach: Bounds {
                    right,
                    ..found.reach
                },
                ..found
            })
        };
        assert_eq!(follower.next(&whole, &now, SIZE, with_arm(0.97)), None);
        let next = follower.next(&whole, &now, SIZE, with_arm(1.0));
        assert_eq!(next, Some(whole));
        // Nothing to see: the whole frame, after a while.
        let tries = (0..100).position(|_| follower.next(&whole, &now, SIZE, None) == Some(whole));
        assert_eq!(tries, Some(PATIENCE as usize - 1));
        // From the whole frame to a window likewise.
        follower.reset();
        let tries = (0..100)
            .position(|_| follower.next(&whole, &whole, SIZE, within(target, &whole)) == Some(now));
        assert_eq!(tries, Some(PATIENCE as usize - 1));
    }

    #[test]
    fn a_target_at_the_border_may_go_on_unless_the_frame_ends_there() {
        let left = window(&whole(), SIZE, bounds(0.1, 0.1, 0.3, 1.0)).unwrap();
        let below = bounds(0.2, 0.1, 0.9, 1.0);
        let seen = left.seen();
        assert_eq!(left.known(compact(below)), seen, "the frame ends there");
        assert_eq!(
            left.known(compact(bounds(0.0, 0.1, 0.9, 1.0))),
            seen,
            "there, too"
        );
        let right = seen.right + BEYOND;
        assert_eq!(
            left.known(compact(bounds(0.2, 0.1, 1.0, 0.9))),
            Bounds { right, ..seen }
        );
        assert!(left.seen().holds(left.place(0, 0)));
        assert!(left.seen().holds(left.place(383, 431)));
        assert!(!left.seen().holds(left.place(384, 0)));
    }

    #[test]
    fn specks_are_no_target() {
        let mut map = vec![0.0f32; 100 * 50];
        assert_eq!(Found::of(&map, (100, 50), |a| a), None);
        for y in 10..40 {
            map[y * 100 + 20..y * 100 + 60].fill(1.0);
        }
        map[99] = 1.0;
        let found = Found::of(&map, (100, 50), |a| a).unwrap();
        assert_eq!(found, compact(bounds(0.2, 0.2, 0.6, 0.8)));
    }

    #[test]
    fn an_arm_that_is_stretched_out_belongs_to_the_target() {
        // Somebody as high as a window of a GPU's size, and a forearm that is a twentieth of that thick.
        let (width, height) = (400, 800);
        let mut map = vec![0.0f32; width * height];
        for row in map.chunks_exact_mut(width) {
            row[100..250].fill(1.0);
        }
        for row in map.chunks_exact_mut(width).skip(300).take(40) {
            row[250..].fill(1.0);
        }
        let Found { body, reach } = Found::of(&map, (width, height), |a| a).unwrap();
        assert_eq!(body, bounds(0.25, 0.0, 0.625, 1.0));
        assert!(reach.right >= 0.99, "{reach:?}");
        assert!((0.25..0.26).contains(&reach.left), "{reach:?}");
    }

    #[test]
    fn a_place_of_the_frame_is_a_pixel_of_the_window_that_shows_it() {
        let to = window(&whole(), SIZE, bounds(0.48, 0.06, 0.66, 0.94)).unwrap();
        for pixel in [(0, 0), (17, 3), (to.size.0 - 1, to.size.1 - 1)] {
            assert_eq!(to.pixel(to.place(pixel.0, pixel.1)), Some(pixel));
        }
        assert_eq!(to.pixel((0.01, 0.5)), None);
        assert_eq!(to.pixel((0.99, 0.5)), None);
    }

    #[test]
    fn a_place_moves_to_where_another_window_shows_it() {
        let whole = whole();
        let to = window(&whole, SIZE, bounds(0.48, 0.06, 0.66, 0.94)).unwrap();
        // The token at the left and the top of the window, by hand.
        let (columns, rows) = to.grid();
        let side = ((columns * rows) as f64).sqrt();
        let corner = (0.5 - rows as f64 / 2.0, 0.5 - columns as f64 / 2.0);
        let share = (
            (to.origin.1 as f64 + 8.0) / to.canvas.1 as f64,
            (to.origin.0 as f64 + 8.0) / to.canvas.0 as f64,
        );
        let in_whole = (
            (share.0 - 0.5) * 19.0 / (34.0f64 * 19.0).sqrt(),
            (share.1 - 0.5) * 34.0 / (34.0f64 * 19.0).sqrt(),
        );
        let there = moved(in_whole, (&whole, &to));
        assert!((there.0 - corner.0 / side).abs() < 1e-9, "{there:?}");
        assert!((there.1 - corner.1 / side).abs() < 1e-9, "{there:?}");
        // And back; of a window whose grid is padded, too.
        let odd = Geometry::new((1280, 720), (500, 281));
        for other in [to, odd] {
            let back = moved(moved((0.1, -0.3), (&whole, &other)), (&other, &whole));
            assert!((back.0 - 0.1).abs() < 1e-9 && (back.1 + 0.3).abs() < 1e-9);
        }
    }

    #[test]
    fn a_map_is_carried_to_where_it_belongs() {
        // A ramp over the frame, as the whole shows it, is the same ramp in a window.
        let whole = whole();
        let (w, h) = whole.grid();
        let ramp: Vec<f32> = (0..w * h)
            .map(|i| ((i % w) as f32 + 0.5) / w as f32)
            .collect();
        let to = window(&whole, SIZE, bounds(0.48, 0.06, 0.66, 0.94)).unwrap();
        let carried = carry(&ramp, (&whole, &to), STRIDE, None);
        let (columns, _) = to.grid();
        for (i, v) in carried.iter().enumerate() {
            let x = (i % columns) as f64 + 0.5;
            let place = (x * 16.0 + to.origin.0 as f64) / to.canvas.0 as f64;
            assert!((f64::from(*v) - place).abs() < 1e-4, "{i}: {v}, {place}");
        }
        // And back: what the window did not show is empty where that is asked for.
        let ones = vec![1.0; carried.len()];
        let back = carry(&ones, (&to, &whole), STRIDE, Some(0.0));
        assert!(back[0].abs() < 1e-6);
        assert!((back[h / 2 * w + w * 57 / 100] - 1.0).abs() < 1e-6);
    }
}
