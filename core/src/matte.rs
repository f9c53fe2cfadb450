//! A matte by itself: what a [`Renderer`](crate::Renderer) draws, apart from the engine that made it.

use crate::error::{Error, Result};
use crate::frame::Frame;
use crate::stages::preprocess::Geometry;

/// The matte of one frame at the working size, with that frame's picture at the same size.
///
/// It is plain memory that [`Matter::snapshot`](crate::Matter::snapshot) fills again and again without allocating; it
/// may go to another thread and be drawn there by a [`Renderer`](crate::Renderer) while the engine is at work on the
/// next frame.
#[derive(Debug, Default, Clone)]
pub struct Matte {
    pub(crate) geometry: Option<Geometry>,
    /// Row-major, without padding, 0 to 1.
    pub(crate) alpha: Vec<f32>,
    /// Packed RGB, likewise.
    pub(crate) picture: Vec<u8>,
    /// Differs from matte to matte, so that a renderer knows a new one.
    pub(crate) number: u64,
}

impl Matte {
    /// An empty one: a renderer refuses it.
    pub fn new() -> Self {
        Self::default()
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
    pub(crate) fn fill(
        &mut self,
        geometry: &Geometry,
        (alpha, picture): (&[f32], &[u8]),
        number: u64,
    ) {
        self.clear();
        for range in geometry.inner_rows() {
            self.picture
                .extend_from_slice(&picture[range.start * 3..range.end * 3]);
            self.alpha.extend_from_slice(&alpha[range]);
        }
        self.geometry = Some(*geometry);
        self.number = number;
    }

    /// The geometry, if it fits a frame and an output.
    pub(crate) fn geometry_for(&self, frame: &Frame<'_>, output: (u32, u32)) -> Result<Geometry> {
        let geometry = self.geometry.ok_or(Error::NotSeeded)?;
        let (expected_width, expected_height) = self.frame_size();
        for (what, (width, height)) in [("frame", frame.size()), ("output", output)] {
            if (width, height) != (expected_width, expected_height) {
                return Err(Error::FrameSize {
                    what,
                    width,
                    height,
                    expected_width,
                    expected_height,
                });
            }
        }
        Ok(geometry)
    }
}
