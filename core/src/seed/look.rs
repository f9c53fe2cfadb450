//! Looking at a frame, or a part of it, through a small network.

use super::maps::{THRESHOLD, component, found, mirror, sample};
use crate::error::{Error, Result};
use crate::frame::Frame;
use crate::pixel::scale::{Crop, Placement, Scaler};
use crate::runtime::manifest::Dim;
use crate::runtime::tensor::Tensor;
use crate::runtime::{Engine, Graph, Package, Role};

/// A part of a frame: left, top, width and height, in shares of the frame's size.
pub(super) type Part = [f64; 4];

pub(super) const WHOLE: Part = [0.0, 0.0, 1.0, 1.0];

/// A part with a margin around it, in shares of its size, as far as the frame goes.
pub(super) fn grown([x, y, w, h]: Part, margin: f64) -> Part {
    let (left, top) = ((x - w * margin).max(0.0), (y - h * margin).max(0.0));
    let (right, bottom) = (
        (x + w * (1.0 + margin)).min(1.0),
        (y + h * (1.0 + margin)).min(1.0),
    );
    [left, top, right - left, bottom - top]
}

/// The square around a part of a frame of such an aspect, so many times its longer side. It may reach beyond the frame.
pub(super) fn square_around([x, y, w, h]: Part, aspect: f64, times: f64) -> Part {
    let side = (w * aspect).max(h) * times;
    let width = side / aspect;
    [x + (w - width) / 2.0, y + (h - side) / 2.0, width, side]
}

/// Width to height of a frame.
pub(super) fn aspect(frame: &Frame<'_>) -> f64 {
    f64::from(frame.width()) / f64::from(frame.height())
}

/// What of a part lies in the frame.
pub(super) fn within(part: Part) -> Part {
    grown(part, 0.0).map(|v| v.max(0.0))
}

/// The smallest part that holds two.
pub(super) fn joined(a: Option<Part>, b: Part) -> Part {
    let Some(a) = a else {
        return b;
    };
    let (left, top) = (a[0].min(b[0]), a[1].min(b[1]));
    let (right, bottom) = (
        (a[0] + a[2]).max(b[0] + b[2]),
        (a[1] + a[3]).max(b[1] + b[3]),
    );
    [left, top, right - left, bottom - top]
}

/// Whether a place of the frame lies in a part of it.
pub(super) fn lies_in([left, top, width, height]: Part, (x, y): (f64, f64)) -> bool {
    (left..left + width).contains(&x) && (top..top + height).contains(&y)
}

/// What a network sees beyond the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outside {
    /// The frame's edges, repeated: to a segmentation a black border would be the lower end of everybody who stands at it.
    Edges,
    Black,
}

/// Which pixels of a frame a network sees, and where in its picture.
#[derive(Debug, Clone, Copy)]
pub(super) struct View {
    crop: Option<Crop>,
    left: usize,
    top: usize,
    size: (usize, usize),
}

impl View {
    pub(super) fn whole(size: (usize, usize)) -> Self {
        let (left, top) = (0, 0);
        Self {
            crop: None,
            left,
            top,
            size,
        }
    }

    /// A part of the frame that may reach beyond it.
    pub(super) fn of(
        [x, y, w, h]: Part,
        frame: &Frame<'_>,
        (width, height): (usize, usize),
    ) -> Self {
        // First pixel and pixels of a side that lie in the frame, and what they are of the part.
        let side = |from: f64, length: f64, pixels: usize| {
            let n = pixels as f64;
            let first = (-from / length * n).ceil().clamp(0.0, n - 1.0);
            let end = ((1.0 - from) / length * n).floor().clamp(first + 1.0, n);
            let count = end - first;
            let (start, share) = (from + first / n * length, count / n * length);
            (first as usize, count as usize, start.clamp(0.0, 1.0), share)
        };
        let (left, columns, x, w) = side(x, w, width);
        let (top, rows, y, h) = side(y, h, height);
        let (across, down) = (f64::from(frame.width()), f64::from(frame.height()));
        Self {
            crop: Some([
                x * across,
                y * down,
                w.min(1.0 - x) * across,
                h.min(1.0 - y) * down,
            ]),
            left,
            top,
            size: (columns, rows),
        }
    }

    /// Fills what was not drawn of a picture.
    fn fill<T: Copy + Default>(&self, picture: &mut [T], row_pixels: usize, outside: Outside) {
        let (left, right) = (self.left, self.left + self.size.0);
        let (top, bottom) = (self.top, self.top + self.size.1);
        if outside == Outside::Black {
            for (y, row) in picture.chunks_exact_mut(row_pixels).enumerate() {
                let drawn = if (top..bottom).contains(&y) {
                    left..right
                } else {
                    0..0
                };
                row[..drawn.start].fill(T::default());
                row[drawn.end..].fill(T::default());
            }
            return;
        }
        for row in picture[top * row_pixels..bottom * row_pixels].chunks_exact_mut(row_pixels) {
            let (first, last) = (row[left], row[right - 1]);
            row[..left].fill(first);
            row[right..].fill(last);
        }
        let row = |y: usize| y * row_pixels..(y + 1) * row_pixels;
        for y in 0..top {
            picture.copy_within(row(top), y * row_pixels);
        }
        for y in bottom..picture.len() / row_pixels {
            picture.copy_within(row(bottom - 1), y * row_pixels);
        }
    }
}

/// A graph that looks at a picture of one size, and its tensors.
#[derive(Debug)]
pub(super) struct Finder {
    graph: Graph,
    pub(super) size: (usize, usize),
    frame: Tensor,
    output: &'static str,
    found: Tensor,
}

impl Finder {
    pub(super) fn open(
        engine: &Engine,
        package: &Package,
        name: &'static str,
        output: &'static str,
    ) -> Result<Self> {
        let graph = Graph::open(engine, package, name, &[], Role::Small)?;
        let missing = || {
            Error::model(
                &package.dir,
                format!("graph `{name}` does not take `frame` and give `{output}`"),
            )
        };
        let size = match graph.spec().input("frame").map(|t| t.shape.as_slice()) {
            Some([_, Dim::Fixed(h), Dim::Fixed(w), _]) => (*w as usize, *h as usize),
            _ => return Err(missing()),
        };
        let host = ort::memory::Allocator::default();
        let frame = graph.tensor(&host, "frame")?.ok_or_else(missing)?;
        let found = graph.tensor(&host, output)?.ok_or_else(missing)?;
        Ok(Self {
            graph,
            size,
            frame,
            output,
            found,
        })
    }

    /// All numbers that the network gives. A map of a mirrored picture is mirrored.
    pub(super) fn run(
        &mut self,
        scaler: &mut Scaler,
        frame: &Frame<'_>,
        view: View,
        outside: Outside,
        mirrored: bool,
    ) -> Result<&[f32]> {
        let place = Placement {
            left: view.left,
            top: view.top,
            row_pixels: self.size.0,
        };
        self.frame.write(|rgb: &mut [u8]| {
            scaler.rgb(frame, view.crop, view.size, rgb, place);
            let pixels = rgb.as_chunks_mut::<3>().0;
            view.fill(pixels, self.size.0, outside);
            if mirrored {
                mirror(pixels, self.size.0);
            }
        })?;
        self.graph.run(
            &[("frame", Some(&self.frame))],
            &mut [(self.output, Some(&mut self.found))],
        )?;
        self.found.read()
    }

    /// A look at a part of a frame, or all of it; with `mirrored` through a mirror, though what is seen lies where it is.
    pub(super) fn look(
        &mut self,
        scaler: &mut Scaler,
        frame: &Frame<'_>,
        part: Option<Part>,
        mirrored: bool,
    ) -> Result<Look> {
        let view = match part {
            Some(part) => View::of(part, frame, self.size),
            None => View::whole(self.size),
        };
        let map = self.run(scaler, frame, view, Outside::Edges, mirrored)?;
        let mut map = map.to_vec();
        if mirrored {
            mirror(&mut map, self.size.0);
        }
        Ok(Look {
            map,
            size: self.size,
            part: part.unwrap_or(WHOLE),
        })
    }

    /// The mean of a look at a part and one through a mirror.
    pub(super) fn look_twice(
        &mut self,
        scaler: &mut Scaler,
        frame: &Frame<'_>,
        part: Part,
    ) -> Result<Look> {
        let mut look = self.look(scaler, frame, Some(part), false)?;
        let mirrored = self.look(scaler, frame, Some(part), true)?;
        for (one, other) in look.map.iter_mut().zip(mirrored.map) {
            *one = f32::midpoint(*one, other);
        }
        Ok(look)
    }
}

/// What the segmentation saw in a part of the frame.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) map: Vec<f32>,
    pub(super) size: (usize, usize),
    pub(super) part: Part,
}

impl Look {
    /// A place of the frame as one of the part, both in shares.
    fn place(&self, x: f64, y: f64) -> (f64, f64) {
        let [left, top, width, height] = self.part;
        ((x - left) / width, (y - top) / height)
    }

    /// Probability of a person at a place of the frame; 0 beyond the part.
    pub(super) fn at(&self, x: f64, y: f64) -> f32 {
        let (x, y) = self.place(x, y);
        match (0.0..=1.0).contains(&x) && (0.0..=1.0).contains(&y) {
            true => sample(&self.map, self.size, x, y),
            false => 0.0,
        }
    }

    /// The part of the frame in which there are people, or the person at a place of the frame, and the share of pixels that
    /// are theirs.
    pub(super) fn people(&self, place: Option<(f64, f64)>) -> Option<(Part, f32)> {
        let (bounds, share) = match place {
            Some((x, y)) => {
                let place = self.place(x, y);
                let person = component(&self.map, self.size, place, |p| *p >= THRESHOLD);
                found(&person, self.size)?
            }
            None => found(&self.map, self.size)?,
        };
        let [left, top, width, height] = self.part;
        let [x, y, w, h] = bounds;
        let part = [left + x * width, top + y * height, w * width, h * height];
        Some((part, share))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::PixelFormat;

    #[test]
    fn a_look_at_a_part_is_found_where_the_part_is() {
        // A person in the left third of the right half of the frame, upper half.
        let mut map = vec![0.0; 12 * 10];
        for row in map.chunks_exact_mut(12).take(5) {
            row[..4].fill(0.9);
        }
        let look = Look {
            map,
            size: (12, 10),
            part: [0.5, 0.0, 0.5, 1.0],
        };
        // In the person, beside it, and beyond the part.
        for (x, wanted) in [(0.55, 0.9), (0.95, 0.0), (0.45, 0.0)] {
            assert!((look.at(x, 0.2) - wanted).abs() < 1e-6, "{x}");
        }
        let (part, share) = look.people(Some((0.55, 0.2))).unwrap();
        for (got, wanted) in part.iter().zip([0.5, 0.0, 0.5 / 3.0, 0.5]) {
            assert!((got - wanted).abs() < 1e-9, "{part:?}");
        }
        assert!((share - 20.0 / 120.0).abs() < 1e-6);
        assert!(look.people(Some((0.9, 0.9))).is_none());
        // As far as the frame goes, and no further.
        let around = grown([0.1, 0.5, 0.2, 0.5], 0.3);
        for (got, wanted) in around.iter().zip([0.04, 0.35, 0.32, 0.65]) {
            assert!((got - wanted).abs() < 1e-9, "{around:?}");
        }
    }

    #[test]
    fn a_view_beyond_the_frame_repeats_its_edges() {
        let data = vec![0; 100 * 50 * 3];
        let frame = Frame::packed(PixelFormat::Rgb, 100, 50, &data, 300).unwrap();
        // A square of 80 pixels around the lower right corner: half of it each way lies in the frame.
        let view = View::of([0.6, 0.2, 0.8, 1.6], &frame, (8, 8));
        assert_eq!((view.left, view.top, view.size), (0, 0, (4, 4)));
        for (got, wanted) in view.crop.unwrap().iter().zip([60.0, 10.0, 40.0, 40.0]) {
            assert!((got - wanted).abs() < 1e-9, "{:?}", view.crop);
        }
        // Around the upper left one; a pixel that lies only partly in the frame repeats its neighbour.
        let view = View::of([-0.45, -0.8, 0.8, 1.6], &frame, (8, 8));
        assert_eq!((view.left, view.top, view.size), (5, 4, (3, 4)));
        assert!(
            (view.crop.unwrap()[0] - 5.0).abs() < 1e-9,
            "{:?}",
            view.crop
        );

        let mut picture = [0u8; 25];
        picture[7] = 1;
        picture[8] = 2;
        picture[12] = 3;
        picture[13] = 4;
        let view = View {
            crop: None,
            left: 2,
            top: 1,
            size: (2, 2),
        };
        view.fill(&mut picture, 5, Outside::Edges);
        let (upper, lower) = ([1, 1, 1, 2, 2], [3, 3, 3, 4, 4]);
        assert_eq!(picture, [upper, upper, lower, lower, lower].concat()[..]);
        view.fill(&mut picture, 5, Outside::Black);
        let (upper, lower) = ([0, 0, 1, 2, 0], [0, 0, 3, 4, 0]);
        assert_eq!(picture, [[0; 5], upper, lower, [0; 5], [0; 5]].concat()[..]);
        // Nothing of the part is in the frame: still a picture, of the frame's nearest pixels.
        let view = View::of([1.5, -3.0, 0.5, 1.0], &frame, (8, 8));
        assert!(view.size.0 >= 1 && view.size.1 >= 1 && view.left < 8 && view.top < 8);
    }
}
