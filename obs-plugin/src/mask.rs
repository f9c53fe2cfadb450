//! Mask files for pictures that have not quite the source's shape.
//!
//! What the worker gets has sides in multiples of 16: of 1280×720 it sees 640×368. The user knows the source alone, so a
//! mask is held against that, and then follows the picture.

use std::path::Path;

use image::GrayImage;
use image::imageops::{self, FilterType};
use matte_core::{Error, Mask, MaskImage, Matter};

/// Gives the engine the mask of a file for its next frame.
///
/// # Errors
/// As [`MaskImage::read`], and [`Error::MaskAspect`] for a mask of another shape than the source's.
pub(crate) fn queue(matter: &mut Matter, file: &Path, source: (u32, u32)) -> Result<(), Error> {
    let mask = MaskImage::read(file)?;
    let size = mask.as_mask().size();
    mask.as_mask().check_aspect(source)?;
    let picture = matter.frame_size();
    if picture == size {
        matter.queue_seed(&mask.as_mask());
        return Ok(());
    }
    let mut grey = GrayImage::new(size.0, size.1);
    for (to, row) in grey
        .chunks_exact_mut(size.0 as usize)
        .zip(mask.as_mask().rows())
    {
        to.copy_from_slice(row);
    }
    let scaled = imageops::resize(&grey, picture.0, picture.1, FilterType::Triangle);
    matter.queue_seed(&Mask::new(
        picture.0,
        picture.1,
        &scaled,
        picture.0 as usize,
    )?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has_shape((width, height): (u32, u32), source: (u32, u32)) -> bool {
        let data = vec![255; (width * height) as usize];
        let mask = Mask::new(width, height, &data, width as usize).unwrap();
        mask.check_aspect(source).is_ok()
    }

    #[test]
    fn the_shape_is_the_source_s() {
        for (mask, source) in [
            ((1280, 720), (1280, 720)),
            ((1280, 720), (1920, 1080)),
            ((641, 360), (1280, 720)),
            ((1, 1), (1, 1)),
        ] {
            assert!(has_shape(mask, source), "{mask:?} for {source:?}");
        }
        for (mask, source) in [((640, 480), (1280, 720)), ((720, 1280), (1280, 720))] {
            assert!(!has_shape(mask, source), "{mask:?} for {source:?}");
        }
    }
}
