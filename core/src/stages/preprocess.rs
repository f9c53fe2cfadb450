//! Frame → working size: RGB, 8 bits, padded to multiples of 16.

use crate::error::Result;
use crate::frame::Frame;
use crate::pixel::scale::{Crop, Placement, Scaler};
use crate::runtime::WorkingSizes;
use crate::runtime::tensor::Tensor;

/// The network's token grid has one cell for so many pixels.
pub(crate) const STRIDE: usize = 16;

/// Size at which the network sees the frame or a window of it, and the padding around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Geometry {
    /// Frame, pixels.
    pub(crate) frame: (usize, usize),
    /// Working size without padding.
    pub(crate) size: (usize, usize),
    /// Working size with padding: W and H of the graphs.
    pub(crate) padded: (usize, usize),
    /// Padding on the left and at the top: the smaller half.
    pub(crate) offset: (usize, usize),
    /// The whole frame at the scale at which the network sees its window. Where it sees everything, that is `size`.
    pub(crate) canvas: (usize, usize),
    /// Where on the canvas the window lies: left and top.
    pub(crate) origin: (usize, usize),
}

impl Geometry {
    pub(crate) fn new(frame: (u32, u32), size: (u32, u32)) -> Self {
        let (w, h) = (size.0 as usize, size.1 as usize);
        let padded = (w.next_multiple_of(STRIDE), h.next_multiple_of(STRIDE));
        Self {
            frame: (frame.0 as usize, frame.1 as usize),
            size: (w, h),
            padded,
            offset: ((padded.0 - w) / 2, (padded.1 - h) / 2),
            canvas: (w, h),
            origin: (0, 0),
        }
    }

    /// Whether the network sees a part of the frame only.
    pub(crate) fn is_window(&self) -> bool {
        self.canvas != self.size
    }

    /// The window in pixels of the frame; none where it is all of it.
    fn crop(&self) -> Option<Crop> {
        let scale =
            |axis: fn((usize, usize)) -> usize| axis(self.frame) as f64 / axis(self.canvas) as f64;
        let (x, y) = (scale(|p| p.0), scale(|p| p.1));
        self.is_window().then_some([
            self.origin.0 as f64 * x,
            self.origin.1 as f64 * y,
            self.size.0 as f64 * x,
            self.size.1 as f64 * y,
        ])
    }

    /// Token grid: width and height.
    pub(crate) fn grid(&self) -> (usize, usize) {
        (self.padded.0 / STRIDE, self.padded.1 / STRIDE)
    }

    pub(crate) fn placement(&self) -> Placement {
        Placement {
            left: self.offset.0,
            top: self.offset.1,
            row_pixels: self.padded.0,
        }
    }

    /// Rows of a padded picture without the padding: index ranges.
    pub(crate) fn inner_rows(self) -> impl Iterator<Item = std::ops::Range<usize>> {
        let (width, height) = self.size;
        (0..height).map(move |y| {
            let start = (y + self.offset.1) * self.padded.0 + self.offset.0;
            start..start + width
        })
    }
}

/// Working size for a frame: the area of `recommended` with the frame's aspect ratio, in multiples of 16, so that nothing
/// has to be padded: black rows at a border make the network of `lite` lose what touches it. A frame that is smaller is
/// scaled down to the next multiples, one that is too small is scaled up.
pub(crate) fn automatic_size(
    frame: (u32, u32),
    recommended: [u32; 2],
    sizes: &WorkingSizes,
) -> (u32, u32) {
    let (w, h) = (f64::from(frame.0), f64::from(frame.1));
    let area = f64::from(recommended[0]) * f64::from(recommended[1]);
    let inside = |w: u32, h: u32| {
        (
            w.clamp(sizes.min[0], sizes.max[0]),
            h.clamp(sizes.min[1], sizes.max[1]),
        )
    };
    let step = sizes.multiple.max(1);
    if w * h <= area {
        let below = |side: u32| (side - side % step).max(step);
        return inside(below(frame.0), below(frame.1));
    }
    let scale = (area / (w * h)).sqrt();
    let step = f64::from(step);
    let round = |v: f64| ((v * scale / step).round().max(1.0) * step) as u32;
    inside(round(w), round(h))
}

/// Scales a frame into the tensor `frame`, [1,H,W,3]. The padding stays 0.
pub(crate) fn preprocess(
    scaler: &mut Scaler,
    frame: &Frame<'_>,
    geometry: &Geometry,
    tensor: &mut Tensor,
) -> Result<()> {
    tensor.write(|rgb: &mut [u8]| {
        scaler.rgb(
            frame,
            geometry.crop(),
            geometry.size,
            rgb,
            geometry.placement(),
        );
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn automatic(frame: (u32, u32)) -> (u32, u32) {
        automatic_size(frame, SIZES.default, &SIZES)
    }

    const SIZES: WorkingSizes = WorkingSizes {
        min: [64, 64],
        max: [2048, 1152],
        default: [512, 288],
        quick: None,
        gpu: None,
        multiple: 16,
    };

    #[test]
    fn the_aspect_ratio_is_kept() {
        assert_eq!(automatic((1280, 720)), (512, 288));
        assert_eq!(automatic((1920, 1080)), (512, 288));
        assert_eq!(automatic((720, 1280)), (288, 512));
        assert_eq!(automatic((640, 480)), (448, 336));
        assert_eq!(automatic((320, 180)), (320, 176));
        assert_eq!(automatic((7, 180)), (64, 176));
        assert_eq!(automatic((16, 16)), (64, 64));
        let (w, h) = automatic((7680, 100));
        assert!(w <= 2048 && h == 64, "{w}x{h}");
    }

    #[test]
    fn the_lower_half_of_the_padding_is_the_smaller_one() {
        let g = Geometry::new((150, 90), (150, 90));
        assert_eq!((g.padded, g.offset, g.grid()), ((160, 96), (5, 3), (10, 6)));
        let g = Geometry::new((149, 91), (149, 91));
        assert_eq!((g.padded, g.offset), ((160, 96), (5, 2)));
        assert_eq!(g.inner_rows().next(), Some(2 * 160 + 5..2 * 160 + 5 + 149));
        assert_eq!(g.inner_rows().count(), 91);
    }
}
