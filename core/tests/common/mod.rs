//! What several tests of the engine need.

use matte_core::{Colorimetry, Frame, PixelFormat, Plane};

/// RGB without padding as a frame.
pub(crate) fn rgb(data: &[u8], (width, height): (u32, u32)) -> Frame<'_> {
    let plane = Plane {
        data,
        stride: 3 * width as usize,
    };
    Frame::new(
        PixelFormat::Rgb,
        width,
        height,
        &[plane],
        Colorimetry::default(),
    )
    .unwrap()
}
