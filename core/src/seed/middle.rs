//! A first mask without any network: what is in the middle of the picture, told from the rest by its colours.

use super::reached;
use crate::frame::{Frame, MaskImage};
use crate::pixel::scale::{Placement, Scaler};

/// Longer side of the small picture that is looked at, pixels.
const LONGER: u32 = 160;
/// Its shorter side is at least this, so that the mask keeps the frame's shape.
const SHORTER: u32 = 48;
/// Histogram bins a channel.
const BINS: usize = 8;
/// Rounds of estimating colours from the mask and the mask from the colours.
const ROUNDS: usize = 6;
/// Share of each side that counts as background for certain.
const BORDER: f32 = 0.06;

/// Mask of what is in the middle of a frame: an area around the centre whose colours are rather those of the centre than
/// those of the border. Where colours do not tell the two apart, an ellipse in the middle.
///
/// It is a start for [`Matter::queue_seed`](crate::Matter::queue_seed): the network's warm-up finds the soft edges.
pub fn middle_mask(frame: &Frame<'_>) -> MaskImage {
    let (width, height) = frame.size();
    let (longer, shorter) = (width.max(height), width.min(height));
    let scale = (f64::from(LONGER) / f64::from(longer))
        .max(f64::from(SHORTER) / f64::from(shorter))
        .min(1.0);
    let side = |v: u32| ((f64::from(v) * scale).round() as usize).max(1);
    let (w, h) = (side(width), side(height));
    let mut rgb = vec![0; w * h * 3];
    let place = Placement {
        left: 0,
        top: 0,
        row_pixels: w,
    };
    let ellipse = |x: usize, y: usize| {
        let u = ((x as f32 + 0.5) / w as f32 - 0.5) / 0.22;
        let v = ((y as f32 + 0.5) / h as f32 - 0.5) / 0.34;
        u * u + v * v
    };
    let positions = || (0..h).flat_map(move |y| (0..w).map(move |x| (x, y)));
    let fallback = || {
        positions()
            .map(|(x, y)| ellipse(x, y) <= 1.0)
            .collect::<Vec<bool>>()
    };
    Scaler::new().rgb(frame, None, (w, h), &mut rgb, place);
    let inside = by_colour(&rgb, (w, h), &ellipse).unwrap_or_else(fallback);
    MaskImage::from_raw(
        w as u32,
        h as u32,
        inside
            .into_iter()
            .map(|v| if v { 255 } else { 0 })
            .collect(),
    )
}

fn bin(rgb: &[u8]) -> usize {
    rgb.iter()
        .fold(0, |index, c| index * BINS + usize::from(*c) * BINS / 256)
}

/// `None` where the colours do not tell.
fn by_colour(
    rgb: &[u8],
    (w, h): (usize, usize),
    ellipse: &dyn Fn(usize, usize) -> f32,
) -> Option<Vec<bool>> {
    let edge = |v: usize, n: usize| {
        let v = (v as f32 + 0.5) / n as f32;
        v.min(1.0 - v) < BORDER
    };
    // How likely the place alone makes a pixel part of the target, as a logit; the border is none of it.
    let place: Vec<f32> = (0..w * h)
        .map(|i| match (i % w, i / w) {
            (x, y) if edge(x, w) || edge(y, h) => -8.0,
            (x, y) => 1.5 - 1.5 * ellipse(x, y).min(3.0),
        })
        .collect();
    let bins: Vec<usize> = rgb.chunks_exact(3).map(bin).collect();
    let mut share: Vec<f32> = place
        .iter()
        .map(|l| 1.0 / (1.0 + (-2.0 * l).exp()))
        .collect();
    for _ in 0..ROUNDS {
        let (mut target, mut rest) = (vec![0.02f32; BINS.pow(3)], vec![0.02f32; BINS.pow(3)]);
        for (bin, s) in bins.iter().zip(&share) {
            target[*bin] += s;
            rest[*bin] += 1.0 - s;
        }
        let (all_target, all_rest) = (target.iter().sum::<f32>(), rest.iter().sum::<f32>());
        for ((s, bin), place) in share.iter_mut().zip(&bins).zip(&place) {
            let colour = ((target[*bin] / all_target) / (rest[*bin] / all_rest)).ln();
            *s = 1.0 / (1.0 + (-(1.5 * colour + place)).exp());
        }
        smooth(&mut share, (w, h));
    }
    let inside: Vec<bool> = share.iter().map(|s| *s >= 0.5).collect();
    let area = connected(&inside, (w, h));
    let covered = area.iter().filter(|v| **v).count() as f32 / area.len() as f32;
    (0.005..0.75)
        .contains(&covered)
        .then(|| without_holes(&area, (w, h)))
}

/// Mean over 3×3.
fn smooth(values: &mut [f32], (w, h): (usize, usize)) {
    let copy = values.to_vec();
    for (i, value) in values.iter_mut().enumerate() {
        let (x, y) = (i % w, i / w);
        let (mut sum, mut n) = (0.0, 0.0);
        for v in y.saturating_sub(1)..(y + 2).min(h) {
            for u in x.saturating_sub(1)..(x + 2).min(w) {
                sum += copy[v * w + u];
                n += 1.0;
            }
        }
        *value = sum / n;
    }
}

/// The part that holds the selected pixel nearest to the centre.
fn connected(inside: &[bool], (w, h): (usize, usize)) -> Vec<bool> {
    let from_centre = |i: &usize| {
        let (x, y) = ((i % w) as i64 - w as i64 / 2, (i / w) as i64 - h as i64 / 2);
        x * x + y * y
    };
    let start = (0..w * h).filter(|i| inside[*i]).min_by_key(from_centre);
    reached(inside, w, |is| *is, start)
}

/// What the border cannot reach belongs to it.
fn without_holes(area: &[bool], (w, h): (usize, usize)) -> Vec<bool> {
    let outside: Vec<bool> = area.iter().map(|v| !v).collect();
    let border =
        (0..w * h).filter(|i| i % w == 0 || i % w == w - 1 || i / w == 0 || i / w == h - 1);
    reached(&outside, w, |is| *is, border)
        .into_iter()
        .map(|v| !v)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::PixelFormat;

    fn covered(mask: &MaskImage) -> f32 {
        let mask = mask.as_mask();
        let (w, h) = mask.size();
        let inside = (0..h as usize)
            .map(|y| mask.row(y).iter().filter(|v| **v > 0).count())
            .sum::<usize>();
        inside as f32 / (w * h) as f32
    }

    #[test]
    fn a_thing_of_its_own_colour_is_found_with_its_shape() {
        let (w, h) = (640usize, 360usize);
        let inside = |x: usize, y: usize| (250..420).contains(&x) && (90..300).contains(&y);
        let rgb: Vec<u8> = (0..w * h)
            .flat_map(|i| match inside(i % w, i / w) {
                true => [200, 40 + (i % 7) as u8, 30],
                // Striped, with a colour near the thing's in one corner.
                false if i % w < 60 && i / w < 60 => [190, 50, 40],
                false => [60, (i % w / 8 % 2 * 60) as u8 + 80, 120],
            })
            .collect();
        let frame = Frame::packed(PixelFormat::Rgb, w as u32, h as u32, &rgb, w * 3).unwrap();
        let mask = middle_mask(&frame);
        let view = mask.as_mask();
        let (mw, mh) = (view.size().0 as usize, view.size().1 as usize);
        let (mut both, mut either) = (0, 0);
        for y in 0..mh {
            for x in 0..mw {
                let truth = inside(x * w / mw, y * h / mh);
                let found = view.row(y)[x] > 0;
                both += usize::from(truth && found);
                either += usize::from(truth || found);
            }
        }
        assert!(both as f32 / either as f32 > 0.9, "IoU {both}/{either}");
    }

    #[test]
    fn a_picture_of_one_colour_gives_an_area_in_the_middle() {
        let grey = vec![128; 320 * 180 * 3];
        let frame = Frame::packed(PixelFormat::Rgb, 320, 180, &grey, 320 * 3).unwrap();
        let mask = middle_mask(&frame);
        let share = covered(&mask);
        assert!((0.05..0.5).contains(&share), "{share}");
        assert_eq!(
            mask.as_mask().row(mask.as_mask().size().1 as usize / 2)
                [mask.as_mask().size().0 as usize / 2],
            255
        );
        assert_eq!(mask.as_mask().row(0)[0], 0);
    }

    #[test]
    fn the_mask_has_the_shape_of_the_frame() {
        for (w, h) in [(16, 16), (1920, 1080), (100, 2000), (33, 47)] {
            let data = vec![90; w * h * 3];
            let frame = Frame::packed(PixelFormat::Rgb, w as u32, h as u32, &data, w * 3).unwrap();
            let (mw, mh) = middle_mask(&frame).as_mask().size();
            let (a, b) = (w as f64 / h as f64, f64::from(mw) / f64::from(mh));
            assert!((a / b - 1.0).abs() < 0.02, "{w}x{h} → {mw}x{mh}");
        }
    }
}
