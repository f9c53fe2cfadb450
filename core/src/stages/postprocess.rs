//! Matte → full size → output.

use super::preprocess::Geometry;
use crate::frame::{Frame, OutputFormat, OutputMut};
use crate::options::Refine;
use crate::pixel::guided::Upsampler;
use crate::pixel::rows::{Planes, YuvToRgb, frame_row, luma_row, split_packed, write_row};

/// Brings a matte to the size of the frame and writes it with the frame's colour.
#[derive(Debug, Default)]
pub(crate) struct Postprocess {
    upsampler: Upsampler,
    low_luma: Vec<f32>,
    planes: Planes,
    luma: Vec<f32>,
    alpha: Vec<u8>,
}

impl Postprocess {
    /// `alpha` and `working` are the padded matte and the padded working-size RGB picture.
    pub(crate) fn run(
        &mut self,
        frame: &Frame<'_>,
        (alpha, working): (&[f32], &[u8]),
        geometry: &Geometry,
        refine: Refine,
        out: &mut OutputMut<'_>,
    ) {
        let (width, height) = geometry.frame;
        // Where nothing is scaled there is nothing to refine: the network saw every pixel.
        let guided = refine == Refine::Guided && geometry.size != geometry.frame;
        if guided {
            let (low_width, low_height) = geometry.size;
            self.planes.resize(low_width);
            self.low_luma.resize(low_width * low_height, 0.0);
            for (row, range) in self
                .low_luma
                .chunks_exact_mut(low_width)
                .zip(geometry.inner_rows())
            {
                split_packed(
                    &working[range.start * 3..range.end * 3],
                    [0, 1, 2],
                    3,
                    &mut self.planes,
                );
                luma_row(&self.planes, row);
            }
        }
        let luma = guided.then_some(self.low_luma.as_slice());
        self.upsampler.prepare(
            geometry.inner_rows().map(|range| &alpha[range]),
            luma,
            geometry.size,
            geometry.frame,
        );

        self.planes.resize(width);
        self.luma.resize(width, 0.0);
        self.alpha.resize(width, 0);
        let colour = out.format() != OutputFormat::Gray8;
        let yuv = YuvToRgb::new(frame.colorimetry());
        for y in 0..height {
            if colour || guided {
                frame_row(frame, yuv, y, &mut self.planes);
            }
            if guided {
                luma_row(&self.planes, &mut self.luma);
            }
            self.upsampler
                .row(y, guided.then_some(self.luma.as_slice()), &mut self.alpha);
            write_row(&self.planes, &self.alpha, out.format(), out.row_mut(y));
        }
    }
}

/// Nothing at all: black and transparent.
pub(crate) fn transparent(out: &mut OutputMut<'_>) {
    for y in 0..out.size().1 as usize {
        out.row_mut(y).fill(0);
    }
}

/// The frame as it is, opaque.
pub(crate) fn pass_through(frame: &Frame<'_>, out: &mut OutputMut<'_>) {
    let (width, height) = (frame.width() as usize, frame.height() as usize);
    let (mut planes, alpha) = (Planes::default(), vec![255; width]);
    planes.resize(width);
    let yuv = YuvToRgb::new(frame.colorimetry());
    for y in 0..height {
        frame_row(frame, yuv, y, &mut planes);
        write_row(&planes, &alpha, out.format(), out.row_mut(y));
    }
}
