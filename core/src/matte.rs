//! A matte by itself: what a [`Renderer`](crate::Renderer) draws, apart from the engine that made it.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};
use crate::frame::{Frame, check_equal};
use crate::stages::preprocess::Geometry;

/// Gives every matte a number of its own.
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
    /// Packed RGB, likewise.
    pub(crate) picture: Vec<u8>,
    /// Differs from matte to matte, so that a renderer knows a new one.
    pub(crate) number: u64,
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
        self.number = source.number;
    }
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
            number: next_number(),
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

    /// Takes a padded matte and the padded picture that it was made from.
    pub(crate) fn fill(&mut self, geometry: &Geometry, (alpha, picture): (&[f32], &[u8])) {
        self.clear();
        for range in geometry.inner_rows() {
            self.picture
                .extend_from_slice(&picture[range.start * 3..range.end * 3]);
            self.alpha.extend_from_slice(&alpha[range]);
        }
        self.geometry = Some(*geometry);
        self.number = next_number();
    }

    /// Adds the alpha of another target on the same frame, to 1 at most. One of another size replaces it.
    pub fn add(&mut self, other: &Self) {
        if self.is_empty() || self.geometry != other.geometry {
            self.clone_from(other);
            return;
        }
        for (a, b) in self.alpha.iter_mut().zip(&other.alpha) {
            *a = (*a + b).min(1.0);
        }
        self.number = other.number;
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
