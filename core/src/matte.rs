//! A matte by itself: what a [`Renderer`](crate::Renderer) draws, apart from the engine that made it.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};
use crate::frame::{Frame, check_equal};
use crate::pixel::guided::position;
use crate::stages::preprocess::Geometry;

/// Gives every matte, every target and every reference a number of its own.
pub(crate) fn next_number() -> u64 {
    static MATTES: AtomicU64 = AtomicU64::new(1);
    MATTES.fetch_add(1, Ordering::Relaxed)
}

/// The matte of one frame at the working size, with that frame's picture at the same size.
///
/// It is plain memory that [`Matter::snapshot`](crate::Matter::snapshot) fills again and again without allocating; it
/// may go to another thread and be drawn there by a [`Renderer`](crate::Renderer) while the engine is at work on the
/// next frame.
#[derive(Debug, Default)]
pub struct Matte {
    pub(crate) geometry: Option<Geometry>,
    /// Row-major, without padding, 0 to 1.
    pub(crate) alpha: Vec<f32>,
    /// Packed RGB, likewise; black where the network did not look.
    pub(crate) picture: Vec<u8>,
    /// The matte at the size of the frame, 0 to 255, where its edges have been drawn anew; empty where they have not.
    pub(crate) full: Vec<u8>,
    /// Whether the network saw a part of the frame only.
    pub(crate) is_partial: bool,
    /// Whether the picture is not the frame's where the matte is.
    pub(crate) lacks_picture: bool,
    /// Differs from matte to matte, so that a renderer knows a new one.
    pub(crate) number: u64,
    /// Differs from target to target, and from one set of targets to another; 0 for mattes that were made elsewhere.
    pub(crate) target: u64,
}

impl Clone for Matte {
    fn clone(&self) -> Self {
        let mut new = Self::default();
        new.clone_from(self);
        new
    }

    /// Allocates nothing where `self` has held a matte of this size before.
    fn clone_from(&mut self, source: &Self) {
        self.geometry = source.geometry;
        self.alpha.clone_from(&source.alpha);
        self.picture.clone_from(&source.picture);
        self.full.clone_from(&source.full);
        self.is_partial = source.is_partial;
        self.lacks_picture = source.lacks_picture;
        self.number = source.number;
        self.target = source.target;
    }
}

/// A map at another size: bilinear, half-pixel centres.
fn scaled(map: &[f32], from: (usize, usize), to: (usize, usize)) -> Vec<f32> {
    let columns: Vec<_> = (0..to.0).map(|x| position(x, from.0, to.0)).collect();
    let rows = (0..to.1).map(|y| position(y, from.1, to.1));
    rows.flat_map(|(y, down)| {
        let upper = &map[y * from.0..][..from.0];
        let lower = &map[(y + 1).min(from.1 - 1) * from.0..][..from.0];
        columns.iter().map(move |(x, right)| {
            let next = (x + 1).min(from.0 - 1);
            let top = upper[*x] + (upper[next] - upper[*x]) * right;
            let bottom = lower[*x] + (lower[next] - lower[*x]) * right;
            top + (bottom - top) * down
        })
    })
    .collect()
}

/// Smallest share of a matte that says where a target is.
const LEAST_SHARE: f64 = 0.0005;

/// Whether there is enough in a matte to name a target by, in another engine say: pixels of more than `haze`, in the units of
/// `alpha`, are 0.05 % of all at least. What is less is noise, or somebody who has all but left.
#[must_use]
pub fn has_substance<T: PartialOrd + Copy>(alpha: &[T], haze: T) -> bool {
    let count = alpha.iter().filter(|alpha| **alpha > haze).count();
    count > 0 && count as f64 >= LEAST_SHARE * alpha.len() as f64
}

impl Matte {
    /// An empty one: a renderer refuses it.
    pub fn new() -> Self {
        Self::default()
    }

    /// A matte that was made elsewhere: `alpha` at `size`, row-major, 0 to 1, with the picture of the frame at that size,
    /// packed RGB. Values outside the range are clamped, what is not a number counts as 0.
    ///
    /// # Errors
    /// [`Error::Size`] for a side of 0 or beyond the limit, [`Error::Buffer`] for too little data.
    pub fn from_alpha(
        frame_size: (u32, u32),
        size: (u32, u32),
        alpha: &[f32],
        picture: &[u8],
    ) -> Result<Self> {
        for (what, (width, height)) in [("frame", frame_size), ("matte", size)] {
            let sides = 1..=crate::frame::MAX_SIDE;
            if !sides.contains(&width) || !sides.contains(&height) {
                return Err(Error::Size {
                    what,
                    width,
                    height,
                });
            }
        }
        let (width, height) = size;
        let pixels = width as usize * height as usize;
        let check = |what: &str, have: usize, bytes: usize, format| {
            if have >= pixels * bytes {
                return Ok(());
            }
            Err(Error::Buffer {
                what: what.to_owned(),
                have,
                need: pixels * bytes,
                width,
                height,
                format,
                stride: width as usize * bytes,
            })
        };
        check("alpha", size_of_val(alpha), size_of::<f32>(), "f32")?;
        check("picture", picture.len(), 3, "RGB")?;
        let clamped = |a: &f32| if *a > 0.0 { a.min(1.0) } else { 0.0 };
        let alpha = alpha[..pixels].iter().map(clamped);
        Ok(Self {
            geometry: Some(Geometry::new(frame_size, size)),
            alpha: alpha.collect(),
            picture: picture[..pixels * 3].to_vec(),
            full: Vec::new(),
            is_partial: false,
            lacks_picture: false,
            number: next_number(),
            target: 0,
        })
    }

    /// Whether no matte has been put in yet.
    pub fn is_empty(&self) -> bool {
        self.geometry.is_none()
    }

    /// Makes it empty again; the memory is kept.
    pub fn clear(&mut self) {
        self.geometry = None;
        self.alpha.clear();
        self.picture.clear();
        self.full.clear();
    }

    /// Width and height of the frame that it belongs to, pixels; 0 where it is empty.
    pub fn frame_size(&self) -> (u32, u32) {
        self.geometry
            .map_or((0, 0), |g| (g.frame.0 as u32, g.frame.1 as u32))
    }

    /// Width and height of the matte, pixels; 0 where it is empty.
    pub fn size(&self) -> (u32, u32) {
        self.geometry
            .map_or((0, 0), |g| (g.size.0 as u32, g.size.1 as u32))
    }

    /// Alpha at the working size, row-major, 0 to 1.
    pub fn alpha(&self) -> &[f32] {
        &self.alpha
    }

    /// Takes a padded matte and the padded picture that it was made from. Around a window there is no target.
    pub(crate) fn fill(&mut self, geometry: &Geometry, (alpha, picture): (&[f32], &[u8])) {
        self.clear();
        let ((width, height), (left, top)) = (geometry.canvas, geometry.origin);
        for (y, range) in (top..).zip(geometry.inner_rows()) {
            let start = y * width + left;
            self.picture.resize(start * 3, 0);
            self.alpha.resize(start, 0.0);
            self.picture
                .extend_from_slice(&picture[range.start * 3..range.end * 3]);
            self.alpha.extend_from_slice(&alpha[range]);
        }
        self.picture.resize(width * height * 3, 0);
        self.alpha.resize(width * height, 0.0);
        let (frame, canvas) = (geometry.frame, geometry.canvas);
        self.geometry = Some(Geometry::new(
            (frame.0 as u32, frame.1 as u32),
            (canvas.0 as u32, canvas.1 as u32),
        ));
        self.is_partial = geometry.is_window();
        self.lacks_picture = false;
        self.number = next_number();
    }

    /// Adds the alpha of another target on the same frame, to 1 at most. Of two sizes, as different windows give them, the
    /// larger one is kept. A matte of another frame size replaces it.
    pub fn add(&mut self, other: &Self) {
        let (Some(own), Some(others)) = (self.geometry, other.geometry) else {
            self.clone_from(other);
            return;
        };
        if own.frame != others.frame {
            self.clone_from(other);
            return;
        }
        if own == others {
            for (a, b) in self.alpha.iter_mut().zip(&other.alpha) {
                *a = (*a + b).min(1.0);
            }
        } else {
            let larger = match own.size.0 * own.size.1 < others.size.0 * others.size.1 {
                true => others,
                false => own,
            };
            let mut alpha = scaled(&self.alpha, own.size, larger.size);
            let added = scaled(&other.alpha, others.size, larger.size);
            for (a, b) in alpha.iter_mut().zip(added) {
                *a = (*a + b).min(1.0);
            }
            self.alpha = alpha;
            self.picture.resize(larger.size.0 * larger.size.1 * 3, 0);
            self.lacks_picture |= larger != own;
            self.geometry = Some(larger);
        }
        self.full.clear();
        // Each picture shows its own window only.
        self.lacks_picture |= other.lacks_picture || self.is_partial || other.is_partial;
        self.is_partial |= other.is_partial;
        self.number = other.number;
        // The order counts, but it is that of the targets, which stays.
        self.target = self.target.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ other.target;
    }

    /// The geometry, if it fits a frame and an output.
    pub(crate) fn geometry_for(&self, frame: &Frame<'_>, output: (u32, u32)) -> Result<Geometry> {
        let geometry = self.geometry.ok_or(Error::NotSeeded)?;
        for (what, size) in [("frame", frame.size()), ("output", output)] {
            check_equal(what, size, self.frame_size())?;
        }
        Ok(geometry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mattes_of_different_windows_are_added_at_the_larger_size() {
        let alpha = |n: usize, set: &[usize]| -> Vec<f32> {
            (0..n)
                .map(|i| f32::from(u8::from(set.contains(&i))))
                .collect()
        };
        let small = Matte::from_alpha((40, 20), (4, 2), &alpha(8, &[0]), &[9; 24]).unwrap();
        let large = Matte::from_alpha((40, 20), (8, 4), &alpha(32, &[31]), &[9; 96]).unwrap();
        for (first, second) in [(&small, &large), (&large, &small)] {
            let mut sum = first.clone();
            sum.add(second);
            assert_eq!((sum.size(), sum.alpha().len()), ((8, 4), 32));
            for (i, wanted) in [(0, 1.0), (31, 1.0), (7, 0.0)] {
                assert!((sum.alpha()[i] - wanted).abs() < 1e-6, "{i}");
            }
            assert_eq!(sum.picture.len(), 96);
            // The picture of the smaller one is not of this size.
            assert_eq!(sum.lacks_picture, first.size() == (4, 2));
        }
        let mut other = large;
        let elsewhere = Matte::from_alpha((80, 20), (4, 2), &alpha(8, &[0]), &[9; 24]).unwrap();
        other.add(&elsewhere);
        assert_eq!(other.frame_size(), (80, 20));
    }

    #[test]
    fn noise_and_haze_name_no_target() {
        let mut alpha = vec![25u8; 10_000];
        assert!(!has_substance(&alpha, 25), "haze");
        alpha[..4].fill(255);
        assert!(!has_substance(&alpha, 25), "noise");
        alpha[..5].fill(26);
        assert!(has_substance(&alpha, 25));
        assert!(!has_substance::<f32>(&[], 0.1));
        assert!(!has_substance(&[0.1f32], 0.1) && has_substance(&[0.2f32], 0.1));
    }

    #[test]
    fn a_matte_from_elsewhere_is_checked_and_clamped() {
        let alpha = [-1.0, 0.25, f32::NAN, 7.0];
        let matte = Matte::from_alpha((20, 10), (2, 2), &alpha, &[9; 12]).unwrap();
        assert_eq!(matte.alpha(), [0.0, 0.25, 0.0, 1.0]);
        assert_eq!((matte.frame_size(), matte.size()), ((20, 10), (2, 2)));
        let short = Matte::from_alpha((20, 10), (2, 3), &alpha, &[9; 18]).unwrap_err();
        assert_eq!(
            short.to_string(),
            "alpha: 16 bytes, but 2x3 f32 with a stride of 8 bytes needs 24"
        );
        assert!(Matte::from_alpha((0, 10), (2, 2), &alpha, &[9; 12]).is_err());
    }
}
