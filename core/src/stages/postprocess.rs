//! Matte → full size → edges → colour → output.

use crate::error::Result;
use crate::frame::{Frame, Mask, OutputFormat, OutputMut, PixelFormat};
use crate::matte::Matte;
use crate::options::{AlphaMode, Background, Foreground, Options, Policy, Refine};
use crate::pixel::bands::{self, Grid};
use crate::pixel::behind::{Blurred, BlurredRows};
use crate::pixel::edges::{self, EdgeRows, Kernel};
use crate::pixel::foreground::{Estimate, EstimateRows, Low};
use crate::pixel::guided::{Places, Spread, Upsampler};
use crate::pixel::hidden::Hidden;
use crate::pixel::rows::{
    ChromaSums, Planes, RgbToYuv, YuvToRgb, average, frame_columns, frame_row, over_colour,
    over_row, premultiply, split_chroma, split_pairs_half, write_luma, write_row,
};
use crate::pixel::scale::{Placement, Scaler};
use crate::pixel::smooth::Smoother;
use crate::stages::preprocess::Geometry;

/// Longest side at which a frame without a matte is blurred.
const BLUR_SIDE: u32 = 256;

/// Longest side at which the colours around a given full-size matte are looked at.
const MASK_SIDE: u32 = 512;

/// A size of the same shape whose sides are no longer than `side`.
fn reduced((width, height): (u32, u32), side: u32) -> (usize, usize) {
    let longer = width.max(height);
    let scaled = |v: u32| (v * side.min(longer) / longer).max(1) as usize;
    (scaled(width), scaled(height))
}

/// What a thread needs for its rows.
#[derive(Debug, Default)]
struct Strip {
    planes: Planes,
    behind: Planes,
    spread: Spread,
    /// The row of the matte, where it is drawn together with the colour.
    alpha: Vec<u8>,
    edges: EdgeRows,
    estimate: EstimateRows,
    blurred: BlurredRows,
    sums: ChromaSums,
    /// Luma and chroma that are not wanted.
    spare: [Vec<u8>; 3],
}

impl Strip {
    /// What a row of the full-size matte needs.
    fn rows(&mut self) -> (&mut Planes, &mut Spread) {
        (&mut self.planes, &mut self.spread)
    }
}

impl AsMut<EdgeRows> for Strip {
    fn as_mut(&mut self) -> &mut EdgeRows {
        &mut self.edges
    }
}

/// Draws mattes: brings them to the size of the frame, moves and softens their edges, and writes them with the frame's
/// colour or the target's own, over nothing or over a background.
///
/// It owns every buffer that drawing needs and nothing of the network, so a streaming thread can draw each frame with
/// the newest [`Matte`] while another thread runs [`Matter::predict`](crate::Matter::predict).
/// [`Matter::process`](crate::Matter::process) has one inside. A renderer belongs to one video, since it remembers the
/// frame before for the temporal smoothing, and is used by one thread at a time; for the rows of a large frame it takes
/// up to four threads that all renderers of the process share. After the first frame of a size it allocates nothing.
#[derive(Debug)]
pub struct Renderer {
    options: Options,
    upsampler: Upsampler,
    scaler: Scaler,
    smoother: Smoother,
    estimate: Estimate,
    blurred: Blurred,
    hidden: Hidden,
    kernel: Kernel,
    /// The picture at the working size where it is not the matte's own.
    picture: Vec<u8>,
    /// No matte at all, at the size at which a frame without one is blurred.
    nothing: Vec<f32>,
    /// The full-size matte as the picture has it, and what moving and softening its edge makes of it.
    alpha: Vec<u8>,
    moved: Vec<u8>,
    soft: Vec<u8>,
    strips: Vec<Strip>,
}

/// Which colours have to be made at the working size.
#[derive(Clone, Copy, Debug)]
struct Colours {
    estimated: bool,
    /// Strength of a blurred background.
    blur: Option<f32>,
}

impl Colours {
    fn of(options: &Options, format: OutputFormat) -> Self {
        let colour = format != OutputFormat::Gray8;
        Self {
            estimated: colour && options.foreground == Foreground::Estimated,
            blur: (colour && options.background == Background::Blur)
                .then_some(options.background_blur),
        }
    }

    fn prepare(
        self,
        strips: &mut [Strip],
        (estimate, blurred): (&mut Estimate, &mut Blurred),
        low: Low<'_>,
        full: (usize, usize),
    ) {
        if self.estimated {
            estimate.prepare(strips, low);
        }
        if let Some(strength) = self.blur {
            let picture = low.picture.as_flattened();
            blurred.prepare(low.alpha, picture, low.size, full, strength);
        }
    }
}

/// Where the last stage takes the full-size matte from.
#[derive(Clone, Copy)]
enum FullMatte<'a> {
    /// It draws it: the edge is not moved, so that no row needs those around it.
    Drawn(&'a Upsampler),
    /// The matte of the picture, and the one that is shown.
    Given { own: &'a [u8], shown: &'a [u8] },
}

/// What the last stage does with a frame.
struct Job<'a> {
    frame: &'a Frame<'a>,
    yuv: YuvToRgb,
    to_yuv: RgbToYuv,
    matte: FullMatte<'a>,
    estimate: Option<(&'a Estimate, Low<'a>, &'a Places)>,
    background: Background,
    colour: [u8; 3],
    blurred: &'a Blurred,
    premultiplied: bool,
    /// Where nothing is left of the picture.
    hidden: Option<&'a Hidden>,
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
            smoother: Smoother::default(),
            estimate: Estimate::default(),
            blurred: Blurred::default(),
            hidden: Hidden::default(),
            kernel: Kernel::default(),
            picture: Vec::new(),
            nothing: Vec::new(),
            alpha: Vec::new(),
            moved: Vec::new(),
            soft: Vec::new(),
            strips: Vec::new(),
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
    pub fn reset(&mut self) {
        self.smoother.reset();
    }

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
        let mut picture = std::mem::take(&mut self.picture);
        // What is blurred lies around the window, too.
        let blurs = Colours::of(&self.options, out.format()).blur.is_some();
        let own = match matte.lacks_picture || (matte.is_partial && blurs) {
            true => {
                self.scale(frame, geometry.size, &mut picture);
                &picture
            }
            false => &matte.picture,
        };
        let smoothed = self.options.temporal_smoothing > 0.0;
        match matte.full.as_slice() {
            full if !full.is_empty() && !smoothed && self.options.refine != Refine::None => {
                self.smoother.reset();
                let low = Low {
                    alpha: &matte.alpha,
                    picture: own.as_chunks().0,
                    size: geometry.size,
                };
                self.draw_given(full, low, frame, out);
            }
            _ => self.draw(matte, own, frame, &geometry, out),
        }
        self.picture = picture;
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
        let mut picture = std::mem::take(&mut self.picture);
        self.scale(frame, geometry.size, &mut picture);
        self.draw(matte, &picture, frame, &geometry, out);
        self.picture = picture;
        Ok(())
    }

    /// Draws a full-size matte that comes from elsewhere, without refinement: edges, foreground and background are done
    /// as for the engine's own. There is no temporal smoothing.
    ///
    /// # Errors
    /// [`Error::FrameSize`](crate::Error::FrameSize) for a mask or output of another size than the frame's.
    pub fn render_mask(
        &mut self,
        mask: &Mask<'_>,
        frame: &Frame<'_>,
        out: &mut OutputMut<'_>,
    ) -> Result<()> {
        let full = (frame.width() as usize, frame.height() as usize);
        out.check_size(frame.size())?;
        mask.check_size(frame.size())?;
        let size = reduced(frame.size(), MASK_SIDE);
        let mut picture = std::mem::take(&mut self.picture);
        self.scale(frame, size, &mut picture);
        let alpha: Vec<f32> = self
            .scaler
            .mask(mask, size)
            .into_iter()
            .map(|a| f32::from(a) / 255.0)
            .collect();
        let low = Low {
            alpha: &alpha,
            picture: picture.as_chunks().0,
            size,
        };
        let mut own = std::mem::take(&mut self.alpha);
        own.clear();
        for y in 0..full.1 {
            own.extend_from_slice(mask.row(y));
        }
        self.draw_given(&own, low, frame, out);
        (self.picture, self.alpha) = (picture, own);
        Ok(())
    }

    fn scale(&mut self, frame: &Frame<'_>, size: (usize, usize), picture: &mut Vec<u8>) {
        picture.resize(size.0 * size.1 * 3, 0);
        let place = Placement {
            left: 0,
            top: 0,
            row_pixels: size.0,
        };
        self.scaler.rgb(frame, None, size, picture, place);
    }

    /// Writes what a policy shows where there is no matte: with [`Policy::Transparent`] no target, that is black and
    /// alpha 0, or the background alone; with [`Policy::PassThrough`] the frame as it is, opaque. [`Policy::Error`]
    /// writes the same as [`Policy::Transparent`]; the error itself is the caller's.
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
        let shown = match policy {
            Policy::Transparent | Policy::Error => 0,
            Policy::PassThrough => 255,
        };
        if shown == 0 && self.options.background == Background::Transparent {
            black(out);
            return Ok(());
        }
        let (width, height) = (frame.width() as usize, frame.height() as usize);
        if shown == 0 && self.options.background == Background::Blur {
            let size = reduced(frame.size(), BLUR_SIDE);
            let mut picture = std::mem::take(&mut self.picture);
            self.scale(frame, size, &mut picture);
            self.nothing.clear();
            self.nothing.resize(size.0 * size.1, 0.0);
            let strength = self.options.background_blur;
            self.blurred
                .prepare(&self.nothing, &picture, size, (width, height), strength);
            self.picture = picture;
        }
        self.alpha.clear();
        self.alpha.resize(width * height, shown);
        let mut strips = self.strips((width, height));
        let matte = FullMatte::Given {
            own: &self.alpha,
            shown: &self.alpha,
        };
        self.compose(&mut strips, frame, matte, None, out);
        self.strips = strips;
        Ok(())
    }

    /// Scratch for every thread that draws a frame of a size; it is to be put back.
    fn strips(&mut self, (width, height): (usize, usize)) -> Vec<Strip> {
        let mut strips = std::mem::take(&mut self.strips);
        strips.resize_with(bands::count(width * height), Strip::default);
        for strip in &mut strips {
            strip.planes.resize(width);
            strip.behind.resize(width);
            strip.spread.begin(width);
            strip.blurred.begin();
            strip.estimate.begin(width);
        }
        strips
    }

    /// `picture` is what the refinement takes its edges from, at the working size.
    fn draw(
        &mut self,
        matte: &Matte,
        picture: &[u8],
        frame: &Frame<'_>,
        geometry: &Geometry,
        out: &mut OutputMut<'_>,
    ) {
        let (width, height) = geometry.frame;
        let size = geometry.size;
        let mut strips = self.strips(geometry.frame);
        let mut smoother = std::mem::take(&mut self.smoother);
        let alpha = match self.options.temporal_smoothing {
            s if s > 0.0 => smoother.run(matte, picture, size, s),
            _ => {
                smoother.reset();
                &matte.alpha
            }
        };

        // Where nothing is scaled there is nothing to refine: the network saw every pixel.
        let refines = self.options.refine != Refine::None && size != geometry.frame;
        let guide = refines.then_some(picture);
        let full = geometry.frame;
        self.upsampler
            .prepare(&mut strips, alpha, guide, size, full);
        let low = Low {
            alpha,
            picture: picture.as_chunks().0,
            size,
        };
        let estimated = self.prepare_colours(&mut strips, low, full, out.format());

        if self.moves_edges() {
            let mut own = std::mem::take(&mut self.alpha);
            own.resize(width * height, 0);
            draw_rows(&self.upsampler, frame, &mut strips, Strip::rows, &mut own);
            self.finish(&mut strips, frame, &own, estimated, out);
            self.alpha = own;
        } else {
            let matte = FullMatte::Drawn(&self.upsampler);
            self.compose(&mut strips, frame, matte, estimated, out);
        }
        self.smoother = smoother;
        self.strips = strips;
    }

    /// Draws a matte whose full size is there already.
    fn draw_given(&mut self, own: &[u8], low: Low<'_>, frame: &Frame<'_>, out: &mut OutputMut<'_>) {
        let full = (frame.width() as usize, frame.height() as usize);
        let mut strips = self.strips(full);
        let estimated = self.prepare_colours(&mut strips, low, full, out.format());
        if estimated.is_some() {
            // The estimate takes the places of full-size pixels from here.
            self.upsampler
                .prepare(&mut strips, low.alpha, None, low.size, full);
        }
        self.finish(&mut strips, frame, own, estimated, out);
        self.strips = strips;
    }

    /// Makes what of the colours comes from the working size; gives it back where the target's own are estimated.
    fn prepare_colours<'a>(
        &mut self,
        strips: &mut [Strip],
        low: Low<'a>,
        full: (usize, usize),
        format: OutputFormat,
    ) -> Option<Low<'a>> {
        let colours = Colours::of(&self.options, format);
        let (estimate, blurred) = (&mut self.estimate, &mut self.blurred);
        colours.prepare(strips, (estimate, blurred), low, full);
        if self.hides(format) {
            self.hidden.look(low.alpha, low.size, full);
        }
        colours.estimated.then_some(low)
    }

    /// Whether colour is written that is not seen.
    fn hides(&self, format: OutputFormat) -> bool {
        format != OutputFormat::Gray8
            && self.options.background == Background::Transparent
            && self.options.alpha_mode == AlphaMode::Straight
    }

    /// Whether the edge of the full-size matte is moved or softened.
    fn moves_edges(&self) -> bool {
        self.options.edge_shift.abs() > 0.0 || self.options.edge_softness > 0.0
    }

    /// Moves and softens the edge of a full-size matte, and writes the frame with it.
    fn finish(
        &mut self,
        strips: &mut [Strip],
        frame: &Frame<'_>,
        own: &[u8],
        estimated: Option<Low<'_>>,
        out: &mut OutputMut<'_>,
    ) {
        let width = frame.width() as usize;
        let options = &self.options;
        let mut shown = own;
        if options.edge_shift.abs() > 0.0 {
            self.moved.resize(shown.len(), 0);
            edges::shift(strips, shown, width, options.edge_shift, &mut self.moved);
            shown = &self.moved;
        }
        if options.edge_softness > 0.0 {
            self.soft.resize(shown.len(), 0);
            self.kernel.set(options.edge_softness);
            edges::soften(strips, shown, width, &self.kernel, &mut self.soft);
            shown = &self.soft;
        }
        let matte = FullMatte::Given { own, shown };
        self.compose(strips, frame, matte, estimated, out);
    }

    /// Writes the frame's colour with a full-size matte.
    fn compose(
        &self,
        strips: &mut [Strip],
        frame: &Frame<'_>,
        matte: FullMatte<'_>,
        estimated: Option<Low<'_>>,
        out: &mut OutputMut<'_>,
    ) {
        let options = &self.options;
        let job = Job {
            frame,
            yuv: YuvToRgb::new(frame.colorimetry()),
            to_yuv: RgbToYuv::new(out.colorimetry()),
            matte,
            estimate: estimated.map(|low| (&self.estimate, low, self.upsampler.places())),
            background: options.background,
            colour: options.background_colour,
            blurred: &self.blurred,
            premultiplied: options.alpha_mode == AlphaMode::Premultiplied,
            hidden: self.hides(out.format()).then_some(&self.hidden),
        };
        let pass = frame.format().is_yuv()
            && frame.colorimetry() == out.colorimetry()
            && job.estimate.is_none()
            && job.background == Background::Transparent
            && !job.premultiplied;
        bands::each(
            strips,
            out.reborrow(),
            &|strip, band, first| match band.format() {
                OutputFormat::Gray8 => job.alpha_rows(strip, band, first, 0),
                OutputFormat::A420 if pass => job.copy_rows(strip, band, first),
                OutputFormat::A420 => job.planar_rows(strip, band, first),
                _ => job.packed_rows(strip, band, first),
            },
        );
    }
}

impl Job<'_> {
    /// The matte alone, into a plane.
    fn alpha_rows(&self, strip: &mut Strip, mut out: OutputMut<'_>, first: usize, plane: usize) {
        let width = self.frame.width() as usize;
        let Strip { planes, spread, .. } = strip;
        for y in 0..out.size().1 as usize {
            let (at, row) = (first + y, out.row_mut(plane, y));
            match self.matte {
                FullMatte::Drawn(upsampler) => {
                    draw_row(upsampler, self.frame, self.yuv, at, planes, spread, row);
                }
                FullMatte::Given { shown, .. } => {
                    row.copy_from_slice(&shown[at * width..][..width]);
                }
            }
        }
    }

    /// Luma and chroma as they are.
    fn copy_rows(&self, strip: &mut Strip, mut out: OutputMut<'_>, first: usize) {
        let (frame, height) = (self.frame, out.size().1 as usize);
        let format = frame.format();
        if let Some(layout) = format.yuv_layout() {
            let width = frame.width() as usize;
            let [luma, u2, v2] = &mut strip.spare;
            luma.resize(width, 0);
            u2.resize(width.div_ceil(2), 0);
            v2.resize(width.div_ceil(2), 0);
            for y in 0..height {
                let source = frame.row(0, first + y);
                if y % 2 == 0 {
                    let (u, v) = out.chroma_rows_mut(y / 2);
                    split_pairs_half(source, layout, luma, u, v);
                } else {
                    // Chroma has half the rows: the mean of two.
                    split_pairs_half(source, layout, luma, u2, v2);
                    let (u, v) = out.chroma_rows_mut(y / 2);
                    average(u, u2);
                    average(v, v2);
                }
                out.row_mut(0, y).copy_from_slice(luma);
            }
        } else {
            for y in 0..height {
                out.row_mut(0, y).copy_from_slice(frame.row(0, first + y));
            }
            for y in 0..height.div_ceil(2) {
                let (u, v) = out.chroma_rows_mut(y);
                let source = first / 2 + y;
                if format == PixelFormat::Nv12 {
                    split_chroma(frame.row(1, source), u, v);
                } else {
                    u.copy_from_slice(frame.row(1, source));
                    v.copy_from_slice(frame.row(2, source));
                }
            }
        }
        self.alpha_rows(strip, out.reborrow(), first, 3);
        if let Some(hidden) = self.hidden {
            blank_rows(hidden, &mut out, first, &mut strip.spare);
        }
    }

    /// The colour of a row as it is to be written, and the matte that is shown.
    fn colour_row<'s>(&'s self, strip: &'s mut Strip, y: usize) -> (&'s Planes, &'s [u8]) {
        let Strip {
            planes,
            behind,
            spread,
            alpha,
            estimate: rows,
            blurred,
            ..
        } = strip;
        let width = self.frame.width() as usize;
        frame_row(self.frame, self.yuv, y, planes);
        let (own, shown) = match self.matte {
            FullMatte::Drawn(upsampler) => {
                alpha.resize(width, 0);
                upsampler.row(y, planes.rgb(), spread, alpha);
                (alpha.as_slice(), alpha.as_slice())
            }
            FullMatte::Given { own, shown } => {
                let row = y * width..(y + 1) * width;
                (&own[row.clone()], &shown[row])
            }
        };
        if let Some((estimate, low, places)) = self.estimate {
            let height = self.frame.height() as usize;
            estimate.row(low, places, (y, height), (own, shown), rows, planes);
        }
        match self.background {
            Background::Transparent if self.premultiplied => premultiply(planes, shown),
            Background::Transparent => {
                if let Some(hidden) = self.hidden {
                    hidden.blank(y, shown, planes);
                }
            }
            Background::Colour => over_colour(planes, shown, self.colour),
            Background::Blur => {
                self.blurred.row(y, blurred, behind);
                over_row(planes, shown, behind);
            }
        }
        (planes, shown)
    }

    fn packed_rows(&self, strip: &mut Strip, mut out: OutputMut<'_>, first: usize) {
        let opaque = self.background != Background::Transparent;
        let mut full = std::mem::take(&mut strip.spare[0]);
        if opaque {
            full.resize(self.frame.width() as usize, 255);
            full.fill(255);
        }
        for y in 0..out.size().1 as usize {
            let (planes, shown) = self.colour_row(strip, first + y);
            let alpha = if opaque { full.as_slice() } else { shown };
            let format = out.format();
            write_row(planes, alpha, format, out.row_mut(0, y));
        }
        strip.spare[0] = full;
    }

    fn planar_rows(&self, strip: &mut Strip, mut out: OutputMut<'_>, first: usize) {
        let height = out.size().1 as usize;
        let mut sums = std::mem::take(&mut strip.sums);
        for y in 0..height {
            let (planes, shown) = self.colour_row(strip, first + y);
            write_luma(planes, self.to_yuv, out.row_mut(0, y));
            sums.add(planes, y % 2 == 0);
            if y % 2 == 0 && y + 1 == height {
                // A last row without a partner counts twice.
                sums.add(planes, false);
            }
            if y % 2 == 1 || y + 1 == height {
                let (u, v) = out.chroma_rows_mut(y / 2);
                sums.write(self.to_yuv, u, v);
            }
            match self.background {
                Background::Transparent => out.row_mut(3, y).copy_from_slice(shown),
                _ => out.row_mut(3, y).fill(255),
            }
        }
        strip.sums = sums;
    }
}

/// Leaves black, in luma and chroma, of what is hidden in rows that have been written.
fn blank_rows(
    hidden: &Hidden,
    out: &mut OutputMut<'_>,
    first: usize,
    [alpha, above, _]: &mut [Vec<u8>; 3],
) {
    let black = if out.colorimetry().full_range { 0 } else { 16 };
    for y in 0..out.size().1 as usize {
        alpha.clear();
        alpha.extend_from_slice(out.row_mut(3, y));
        for columns in hidden.columns(first + y, alpha) {
            out.row_mut(0, y)[columns].fill(black);
        }
        // Of the two rows that share chroma, what is hidden in both.
        if y % 2 == 0 {
            above.clone_from(alpha);
        } else {
            above.iter_mut().zip(&*alpha).for_each(|(a, b)| *a |= b);
        }
        if y % 2 == 1 || y + 1 == out.size().1 as usize {
            let (u, v) = out.chroma_rows_mut(y / 2);
            for columns in hidden.columns(first + y, above) {
                let columns = columns.start / 2..columns.end.div_ceil(2);
                u[columns.clone()].fill(128);
                v[columns].fill(128);
            }
        }
    }
}

/// The full-size matte, row by row on as many threads as there are strips, of which `scratch` gives what a row needs.
pub(crate) fn draw_rows<S: Send>(
    upsampler: &Upsampler,
    frame: &Frame<'_>,
    strips: &mut [S],
    scratch: fn(&mut S) -> (&mut Planes, &mut Spread),
    out: &mut [u8],
) {
    let (width, yuv) = (frame.width() as usize, YuvToRgb::new(frame.colorimetry()));
    let rows = Grid { data: out, width };
    bands::each(strips, rows, &|strip: &mut S, band, first| {
        let (planes, spread) = scratch(strip);
        for (y, row) in (first..).zip(band.data.chunks_exact_mut(width)) {
            draw_row(upsampler, frame, yuv, y, planes, spread, row);
        }
    });
}

/// A row of the full-size matte; the frame's colour is made only where it is looked at.
fn draw_row(
    upsampler: &Upsampler,
    frame: &Frame<'_>,
    yuv: YuvToRgb,
    y: usize,
    planes: &mut Planes,
    spread: &mut Spread,
    row: &mut [u8],
) {
    for columns in upsampler.guided(y) {
        frame_columns(frame, yuv, y, columns, planes);
    }
    upsampler.row(y, planes.rgb(), spread, row);
}

/// Nothing at all: black and transparent.
fn black(out: &mut OutputMut<'_>) {
    let (format, (width, height)) = (out.format(), out.size());
    let luma = if out.colorimetry().full_range { 0 } else { 16 };
    for plane in 0..format.planes() {
        let value = match (format, plane) {
            (OutputFormat::A420, 0) => luma,
            (OutputFormat::A420, 1 | 2) => 128,
            _ => 0,
        };
        for y in 0..format.plane_size(plane, width, height).1 {
            out.row_mut(plane, y).fill(value);
        }
    }
}
