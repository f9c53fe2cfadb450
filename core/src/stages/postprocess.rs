//! Matte → full size → output.

use crate::error::Result;
use crate::frame::{Frame, OutputFormat, OutputMut};
use crate::matte::Matte;
use crate::options::{Options, Policy, Refine};
use crate::pixel::guided::Upsampler;
use crate::pixel::rows::{Planes, YuvToRgb, frame_row, luma_row, split_packed, write_row};
use crate::pixel::scale::{Placement, Scaler};
use crate::stages::preprocess::Geometry;

/// Draws mattes: brings them to the size of the frame and writes them with the frame's colour.
///
/// It owns every buffer that drawing needs and nothing of the network, so a streaming thread can draw each frame with
/// the newest [`Matte`] while another thread runs [`Matter::predict`](crate::Matter::predict).
/// [`Matter::process`](crate::Matter::process) has one inside. A renderer belongs to one video, since it remembers the
/// frame before for the temporal smoothing, and is used by one thread at a time. After the first frame of a size it
/// allocates nothing.
#[derive(Debug)]
pub struct Renderer {
    options: Options,
    upsampler: Upsampler,
    scaler: Scaler,
    /// The picture at the working size where it is not the matte's own.
    picture: Vec<u8>,
    low_luma: Vec<f32>,
    planes: Planes,
    luma: Vec<f32>,
    alpha: Vec<u8>,
}

impl Renderer {
    /// A renderer with the drawing options of `options`.
    ///
    /// # Errors
    /// [`Error::Option`](crate::Error::Option) for one outside its range.
    pub fn new(options: &Options) -> Result<Self> {
        options.validate()?;
        Ok(Self {
            options: options.clone(),
            upsampler: Upsampler::default(),
            scaler: Scaler::new(),
            picture: Vec::new(),
            low_luma: Vec::new(),
            planes: Planes::default(),
            luma: Vec::new(),
            alpha: Vec::new(),
        })
    }

    /// Changes the drawing options; they take effect with the next frame.
    ///
    /// # Errors
    /// [`Error::Option`](crate::Error::Option) for one outside its range; all stay as they were.
    pub fn set_options(&mut self, options: &Options) -> Result<()> {
        if *options != self.options {
            options.validate()?;
            self.options.clone_from(options);
        }
        Ok(())
    }

    /// Forgets the frames before: for a new stream, a seek, another source.
    pub fn reset(&mut self) {}

    /// Draws a matte onto the frame that it was made from.
    ///
    /// # Errors
    /// [`Error::NotSeeded`](crate::Error::NotSeeded) for an empty matte, [`Error::FrameSize`](crate::Error::FrameSize)
    /// for a frame or output of another size than the matte was made for.
    pub fn render(
        &mut self,
        matte: &Matte,
        frame: &Frame<'_>,
        out: &mut OutputMut<'_>,
    ) -> Result<()> {
        let geometry = matte.geometry_for(frame, out.size())?;
        self.draw((&matte.alpha, &matte.picture), frame, &geometry, out);
        Ok(())
    }

    /// Draws a matte onto a later frame: the refinement takes its edges from `frame`, so that the matte of the frame
    /// before the last still follows a slow movement. With [`Refine::None`] the matte is drawn where it was.
    ///
    /// # Errors
    /// As [`Renderer::render`].
    pub fn render_newer(
        &mut self,
        matte: &Matte,
        frame: &Frame<'_>,
        out: &mut OutputMut<'_>,
    ) -> Result<()> {
        let geometry = matte.geometry_for(frame, out.size())?;
        let (width, height) = geometry.size;
        let mut picture = std::mem::take(&mut self.picture);
        picture.resize(width * height * 3, 0);
        let place = Placement {
            left: 0,
            top: 0,
            row_pixels: width,
        };
        self.scaler
            .rgb(frame, None, geometry.size, &mut picture, place);
        self.draw((&matte.alpha, &picture), frame, &geometry, out);
        self.picture = picture;
        Ok(())
    }

    /// Writes what a policy shows where there is no matte. [`Policy::Error`] writes the same as
    /// [`Policy::Transparent`]; the error itself is the caller's.
    ///
    /// # Errors
    /// [`Error::FrameSize`](crate::Error::FrameSize) for an output of another size than the frame's.
    pub fn render_without_matte(
        &mut self,
        policy: Policy,
        frame: &Frame<'_>,
        out: &mut OutputMut<'_>,
    ) -> Result<()> {
        out.check_size(frame.size())?;
        match policy {
            Policy::Transparent | Policy::Error => transparent(out),
            Policy::PassThrough => pass_through(frame, out),
        }
        Ok(())
    }

    fn draw(
        &mut self,
        (alpha, picture): (&[f32], &[u8]),
        frame: &Frame<'_>,
        geometry: &Geometry,
        out: &mut OutputMut<'_>,
    ) {
        let (width, height) = geometry.frame;
        let low_width = geometry.size.0;
        // Where nothing is scaled there is nothing to refine: the network saw every pixel.
        let guided = self.options.refine == Refine::Guided && geometry.size != geometry.frame;
        if guided {
            self.planes.resize(low_width);
            self.low_luma.resize(alpha.len(), 0.0);
            for (row, rgb) in self
                .low_luma
                .chunks_exact_mut(low_width)
                .zip(picture.chunks_exact(low_width * 3))
            {
                split_packed(rgb, [0, 1, 2], 3, &mut self.planes);
                luma_row(&self.planes, row);
            }
        }
        let luma = guided.then_some(self.low_luma.as_slice());
        self.upsampler.prepare(
            alpha.chunks_exact(low_width),
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
fn transparent(out: &mut OutputMut<'_>) {
    for y in 0..out.size().1 as usize {
        out.row_mut(y).fill(0);
    }
}

/// The frame as it is, opaque.
fn pass_through(frame: &Frame<'_>, out: &mut OutputMut<'_>) {
    let (width, height) = (frame.width() as usize, frame.height() as usize);
    let (mut planes, alpha) = (Planes::default(), vec![255; width]);
    planes.resize(width);
    let yuv = YuvToRgb::new(frame.colorimetry());
    for y in 0..height {
        frame_row(frame, yuv, y, &mut planes);
        write_row(&planes, &alpha, out.format(), out.row_mut(y));
    }
}
