//! Temporal smoothing. The matte before stays where the picture is what it was; where the picture has changed, the new
//! matte counts alone, so that nothing is drawn out behind what moves. The picture that a pixel is compared with is
//! smoothed alike: a slow change adds up until it is noticed.

use multiversion::multiversion;

use crate::matte::Matte;
use crate::runtime::floats::FlushDenormals;

/// Change of a colour, 0 to 255, up to which a pixel counts as unchanged: noise.
const SAME: f32 = 4.0;
/// Change from which it counts as another.
const OTHER: f32 = 14.0;
/// Share of the matte before that stays at full strength.
const MOST: f32 = 0.9;

#[derive(Debug, Default)]
pub(crate) struct Smoother {
    size: (usize, usize),
    /// The matte that went in last, and whose it was.
    number: u64,
    target: u64,
    alpha: Vec<f32>,
    picture: Vec<f32>,
    /// Change of each pixel, and the largest along the row.
    change: Vec<f32>,
    widest: Vec<f32>,
}

#[multiversion(targets("x86_64+avx2+fma+bmi1+bmi2"))]
fn changes(picture: &[[u8; 3]], before: &[[f32; 3]], out: &mut [f32]) {
    let n = out.len();
    let (picture, before) = (&picture[..n], &before[..n]);
    for i in 0..n {
        let mut most = 0f32;
        for c in 0..3 {
            most = most.max((f32::from(picture[i][c]) - before[i][c]).abs());
        }
        out[i] = most;
    }
}

#[multiversion(targets("x86_64+avx2+fma+bmi1+bmi2"))]
fn largest(a: &[f32], b: &[f32], c: &[f32], out: &mut [f32]) {
    let n = out.len();
    let (a, b, c) = (&a[..n], &b[..n], &c[..n]);
    for i in 0..n {
        out[i] = a[i].max(b[i]).max(c[i]);
    }
}

/// How much of the matte before stays, for a change.
#[allow(
    clippy::inline_always,
    reason = "it must take on the instruction set of its caller"
)]
#[inline(always)]
fn kept(change: f32, most: f32) -> f32 {
    most * ((OTHER - change) * (1.0 / (OTHER - SAME))).clamp(0.0, 1.0)
}

#[multiversion(targets("x86_64+avx2+fma+bmi1+bmi2"))]
fn follow(change: &mut [f32], most: f32, alpha: &[f32], kept_alpha: &mut [f32]) {
    let n = change.len();
    let (alpha, kept_alpha) = (&alpha[..n], &mut kept_alpha[..n]);
    for i in 0..n {
        let keep = kept(change[i], most);
        change[i] = keep;
        kept_alpha[i] = alpha[i] + (kept_alpha[i] - alpha[i]) * keep;
    }
}

#[multiversion(targets("x86_64+avx2+fma+bmi1+bmi2"))]
fn follow_picture(keep: &[f32], picture: &[[u8; 3]], before: &mut [[f32; 3]]) {
    let n = keep.len();
    let (picture, before) = (&picture[..n], &mut before[..n]);
    for i in 0..n {
        for c in 0..3 {
            let new = f32::from(picture[i][c]);
            before[i][c] = new + (before[i][c] - new) * keep[i];
        }
    }
}

/// The largest change among a pixel and its eight neighbours: an edge that moves reaches beyond its pixels.
fn around(
    picture: &[[u8; 3]],
    before: &[[f32; 3]],
    width: usize,
    (change, widest): (&mut [f32], &mut [f32]),
) {
    changes(picture, before, change);
    let height = change.len() / width;
    for (row, out) in change
        .chunks_exact(width)
        .zip(widest.chunks_exact_mut(width))
    {
        out.copy_from_slice(row);
        if width > 2 {
            largest(row, &row[1..], &row[2..], &mut out[1..width - 1]);
        }
        if width > 1 {
            out[0] = row[0].max(row[1]);
            out[width - 1] = row[width - 1].max(row[width - 2]);
        }
    }
    for (y, out) in change.chunks_exact_mut(width).enumerate() {
        let row = |y: usize| &widest[y * width..][..width];
        let (above, below) = (y.saturating_sub(1), (y + 1).min(height - 1));
        largest(row(above), row(y), row(below), out);
    }
}

/// Lets one matte take the place of another over some frames, where the picture has not changed since; elsewhere the
/// new one counts at once.
#[derive(Debug, Default)]
pub(crate) struct Fader {
    old: Matte,
    picture: Vec<f32>,
    left: u32,
    change: Vec<f32>,
    widest: Vec<f32>,
}

/// Frames that a change of mattes takes.
const FADE: u32 = 8;

impl Fader {
    /// Begins to fade out a matte.
    pub(crate) fn begin(&mut self, old: impl FnOnce(&mut Matte)) {
        old(&mut self.old);
        self.picture.clear();
        self.picture
            .extend(self.old.picture.iter().map(|v| f32::from(*v)));
        self.change.resize(self.old.alpha.len(), 0.0);
        self.widest.resize(self.old.alpha.len(), 0.0);
        self.left = FADE;
    }

    pub(crate) fn stop(&mut self) {
        self.left = 0;
    }

    /// The next frame. Whether the old matte has gone with it.
    pub(crate) fn advance(&mut self) -> bool {
        let fading = self.left > 0;
        self.left = self.left.saturating_sub(1);
        fading && self.left == 0
    }

    pub(crate) fn is_fading(&self) -> bool {
        self.left > 0
    }

    /// Mixes what is left of the old matte into a new one.
    pub(crate) fn mix(&mut self, matte: &mut Matte) {
        if self.left == 0 || matte.geometry != self.old.geometry {
            return;
        }
        let width = matte.size().0 as usize;
        let share = self.left as f32 / (FADE + 1) as f32;
        around(
            matte.picture.as_chunks::<3>().0,
            self.picture.as_chunks::<3>().0,
            width,
            (&mut self.change, &mut self.widest),
        );
        for ((new, old), change) in matte
            .alpha
            .iter_mut()
            .zip(&self.old.alpha)
            .zip(&self.change)
        {
            *new += (old - *new) * kept(*change, share);
        }
    }
}

impl Smoother {
    pub(crate) fn reset(&mut self) {
        self.size = (0, 0);
    }

    /// The smoothed alpha of a matte, whose frame is `picture` at its size, packed RGB. A matte that has been seen already
    /// changes nothing; of another target nothing stays.
    pub(crate) fn run(
        &mut self,
        matte: &Matte,
        picture: &[u8],
        size: (usize, usize),
        strength: f32,
    ) -> &[f32] {
        if (self.size, self.target) != (size, matte.target) {
            self.size = size;
            self.number = matte.number;
            self.target = matte.target;
            self.alpha.clear();
            self.alpha.extend_from_slice(&matte.alpha);
            self.picture.clear();
            self.picture.extend(picture.iter().map(|v| f32::from(*v)));
            self.change.resize(matte.alpha.len(), 0.0);
            self.widest.resize(matte.alpha.len(), 0.0);
        }
        if self.number == matte.number {
            return &self.alpha;
        }
        self.number = matte.number;
        // What fades to exactly 0 would stay denormal for ever.
        let _guard = FlushDenormals::new();
        let picture = picture.as_chunks::<3>().0;
        let before = self.picture.as_chunks_mut::<3>().0;
        around(
            picture,
            before,
            size.0,
            (&mut self.change, &mut self.widest),
        );
        follow(
            &mut self.change,
            strength * MOST,
            &matte.alpha,
            &mut self.alpha,
        );
        follow_picture(&self.change, picture, before);
        &self.alpha
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::preprocess::Geometry;

    fn matte(
        number: u64,
        picture: impl Fn(usize, usize) -> u8,
        alpha: impl Fn(usize, usize) -> f32,
    ) -> Matte {
        let geometry = Geometry::new((48, 32), (48, 32));
        let all = || (0..32).flat_map(|y| (0..48).map(move |x| (x, y)));
        let rgb: Vec<u8> = all().flat_map(|(x, y)| [picture(x, y); 3]).collect();
        let alpha: Vec<f32> = all().map(|(x, y)| alpha(x, y)).collect();
        let mut matte = Matte::new();
        matte.fill(&geometry, (&alpha, &rgb));
        matte.number = number;
        matte
    }

    #[test]
    fn flicker_on_a_still_picture_goes() {
        let mut smoother = Smoother::default();
        let mut swing = (1f32, 0f32);
        for number in 1..60 {
            // Alpha jumps between 0.3 and 0.7; the picture has noise of two levels.
            let value = if number % 2 == 0 { 0.3 } else { 0.7 };
            let noisy =
                |x: usize, y: usize| 100 + ((x * 7 + y * 13 + number as usize * 5) % 3) as u8;
            let new = matte(number, noisy, |_, _| value);
            let alpha = smoother.run(&new, &new.picture, (48, 32), 1.0);
            if number > 40 {
                swing = (swing.0.min(alpha[500]), swing.1.max(alpha[500]));
            }
        }
        assert!(swing.1 - swing.0 < 0.06, "{swing:?}");
    }

    #[test]
    fn a_moving_edge_is_not_smeared() {
        let mut smoother = Smoother::default();
        for number in 1..30 {
            let edge = number as usize;
            let picture = |x: usize, _: usize| if x < edge { 200 } else { 60 };
            let wanted = |x: usize, _: usize| if x < edge { 1.0 } else { 0.0 };
            let new = matte(number, picture, wanted);
            let alpha = smoother.run(&new, &new.picture, (48, 32), 1.0);
            assert_eq!(alpha, new.alpha, "frame {number}");
        }
    }

    #[test]
    fn a_slow_change_is_noticed_when_it_has_added_up() {
        let mut smoother = Smoother::default();
        let (mut last, mut first_alpha) = (0.0, 0.0);
        for number in 1..100u64 {
            // One level a frame; alpha follows it.
            let new = matte(
                number,
                |_, _| 50 + number as u8,
                |_, _| number as f32 / 100.0,
            );
            last = smoother.run(&new, &new.picture, (48, 32), 1.0)[100];
            first_alpha = new.alpha[100];
        }
        assert!(first_alpha - last < 0.1, "{last} behind {first_alpha}");
    }

    #[test]
    fn a_matte_fades_where_nothing_moves_and_goes_at_once_elsewhere() {
        let mut fader = Fader::default();
        let old = matte(1, |_, _| 100, |_, _| 1.0);
        fader.begin(|to| to.clone_from(&old));
        let mut before = 1.0;
        for number in 2..20 {
            // The old matte begins to fade on the frame itself.
            let gone = number > 2 && fader.advance();
            let mut new = matte(number, |x, _| if x < 20 { 100 } else { 200 }, |_, _| 0.0);
            fader.mix(&mut new);
            let (still, moved) = (new.alpha[10], new.alpha[30]);
            assert!(moved.abs() < 1e-6, "{moved}");
            assert!(
                still < before || still.abs() < 1e-6,
                "{still} after {before}"
            );
            assert!(before - still < 0.2, "a jump from {before} to {still}");
            assert_eq!(gone, number == 2 + u64::from(FADE));
            before = still;
        }
        assert!(before.abs() < 1e-6);
    }

    #[test]
    fn the_same_matte_counts_once() {
        let mut smoother = Smoother::default();
        let first = matte(1, |_, _| 9, |_, _| 1.0);
        smoother.run(&first, &first.picture, (48, 32), 0.5);
        let second = matte(2, |_, _| 9, |_, _| 0.0);
        let once = smoother
            .run(&second, &second.picture, (48, 32), 0.5)
            .to_vec();
        assert_eq!(smoother.run(&second, &second.picture, (48, 32), 0.5), once);
        assert!((once[0] - 0.45).abs() < 1e-6);
    }

    #[test]
    fn of_another_target_nothing_stays() {
        let mut smoother = Smoother::default();
        let first = matte(1, |_, _| 9, |_, _| 1.0);
        smoother.run(&first, &first.picture, (48, 32), 1.0);
        let mut second = matte(2, |_, _| 9, |_, _| 0.0);
        second.target = 5;
        let alpha = smoother.run(&second, &second.picture, (48, 32), 1.0);
        assert!(alpha.iter().all(|a| *a == 0.0));
    }

    /// As with several targets, whose windows differ.
    #[test]
    fn the_picture_is_the_one_that_is_given() {
        let mut smoother = Smoother::default();
        let first = matte(1, |_, _| 9, |_, _| 1.0);
        let (dark, light) = (vec![9; first.picture.len()], vec![200; first.picture.len()]);
        smoother.run(&first, &dark, (48, 32), 1.0);
        let second = matte(2, |_, _| 9, |_, _| 0.0);
        let alpha = smoother.run(&second, &light, (48, 32), 1.0);
        assert!(alpha.iter().all(|a| *a == 0.0));
    }
}
