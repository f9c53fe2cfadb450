//! People found by a segmentation network: the automatic first mask, and a hint for every frame.

use crate::error::{Error, Result};
use crate::frame::Frame;
use crate::pixel::morphology::dilate;
use crate::pixel::scale::{Crop, Placement, Scaler};
use crate::runtime::manifest::Dim;
use crate::runtime::tensor::Tensor;
use crate::runtime::{Engine, Graph, Package, Role};
use crate::stages::preprocess::{Geometry, STRIDE};

/// One graph of the segmentation and its tensors.
#[derive(Debug)]
struct Finder {
    graph: Graph,
    size: (usize, usize),
    frame: Tensor,
    person: Tensor,
}

impl Finder {
    fn open(engine: &Engine, package: &Package, name: &'static str) -> Result<Self> {
        let graph = Graph::open(engine, package, name, &[], Role::Segmentation)?;
        let missing = || {
            Error::model(
                &package.dir,
                format!("graph `{name}` does not take `frame` and give `person`"),
            )
        };
        let size = match graph.spec().input("frame").map(|t| t.shape.as_slice()) {
            Some([_, Dim::Fixed(h), Dim::Fixed(w), _]) => (*w as usize, *h as usize),
            _ => return Err(missing()),
        };
        let host = ort::memory::Allocator::default();
        let frame = graph.tensor(&host, "frame")?.ok_or_else(missing)?;
        let person = graph.tensor(&host, "person")?.ok_or_else(missing)?;
        Ok(Self {
            graph,
            size,
            frame,
            person,
        })
    }

    /// Probability of a person for each pixel of the network's own size. A mirrored picture gives a mirrored map.
    fn run(
        &mut self,
        scaler: &mut Scaler,
        frame: &Frame<'_>,
        crop: Option<Crop>,
        mirrored: bool,
    ) -> Result<&[f32]> {
        let place = Placement {
            left: 0,
            top: 0,
            row_pixels: self.size.0,
        };
        self.frame.write(|rgb: &mut [u8]| {
            scaler.rgb(frame, crop, self.size, rgb, place);
            if mirrored {
                mirror(rgb.as_chunks_mut::<3>().0, self.size.0);
            }
        })?;
        self.graph.run(
            &[("frame", Some(&self.frame))],
            &mut [("person", Some(&mut self.person))],
        )?;
        self.person.read()
    }

    /// A look at a part of a frame, or all of it; with `mirrored` through a mirror, though what is seen lies where it is.
    fn look(
        &mut self,
        scaler: &mut Scaler,
        frame: &Frame<'_>,
        part: Option<Part>,
        mirrored: bool,
    ) -> Result<Look> {
        let (width, height) = (f64::from(frame.width()), f64::from(frame.height()));
        let crop = part.map(|[x, y, w, h]| [x * width, y * height, w * width, h * height]);
        let mut map = self.run(scaler, frame, crop, mirrored)?.to_vec();
        if mirrored {
            mirror(&mut map, self.size.0);
        }
        Ok(Look {
            map,
            size: self.size,
            part: part.unwrap_or(WHOLE),
        })
    }
}

/// The person segmentation. It runs on the CPU, whatever runs the matting network.
#[derive(Debug)]
pub(crate) struct Segmenter {
    whole: Finder,
    /// For wide frames: fewer pixels are wasted on their height.
    wide: Option<Finder>,
}

/// Probability from which a pixel belongs to a person.
const THRESHOLD: f32 = 0.5;
/// Share of the frame that a person must cover to be taken as target.
const SMALLEST: f32 = 0.005;
/// A closer look is larger than what was found before by this share of its size on every side.
const MARGIN: f64 = 0.3;
/// As above, where a person beside others is meant.
const LITTLE_ROOM: f64 = 0.15;
/// What the closest look, the same mirrored, and the look at the whole frame count. Each makes errors of its own: a corner of a
/// dark building beside a dark shoulder is a person to one of them, seldom to all.
const WEIGHTS: [f32; 3] = [0.4, 0.4, 0.2];

/// Left becomes right in a picture of this width.
fn mirror<T>(picture: &mut [T], width: usize) {
    for row in picture.chunks_exact_mut(width) {
        row.reverse();
    }
}

/// A part of a frame: left, top, width and height, in shares of the frame's size.
type Part = [f64; 4];

const WHOLE: Part = [0.0, 0.0, 1.0, 1.0];

/// What the segmentation saw in a part of the frame.
struct Look {
    map: Vec<f32>,
    size: (usize, usize),
    part: Part,
}

impl Look {
    /// A place of the frame as one of the part, both in shares.
    fn place(&self, x: f64, y: f64) -> (f64, f64) {
        let [left, top, width, height] = self.part;
        ((x - left) / width, (y - top) / height)
    }

    /// Probability of a person at a place of the frame; 0 beyond the part.
    fn at(&self, x: f64, y: f64) -> f32 {
        let (x, y) = self.place(x, y);
        match (0.0..=1.0).contains(&x) && (0.0..=1.0).contains(&y) {
            true => sample(&self.map, self.size, x, y),
            false => 0.0,
        }
    }

    /// The part of the frame in which there are people, or the person at a place of the frame, and the share of pixels that
    /// are theirs.
    fn people(&self, place: Option<(f64, f64)>) -> Option<(Part, f32)> {
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

/// A part with a margin around it, in shares of its size, as far as the frame goes.
fn grown([x, y, w, h]: Part, margin: f64) -> Part {
    let (left, top) = ((x - w * margin).max(0.0), (y - h * margin).max(0.0));
    let (right, bottom) = (
        (x + w * (1.0 + margin)).min(1.0),
        (y + h * (1.0 + margin)).min(1.0),
    );
    [left, top, right - left, bottom - top]
}

/// Bounding box of all pixels above the threshold in a row-major map, in shares of its size, and their share.
fn found(map: &[f32], (width, height): (usize, usize)) -> Option<(Part, f32)> {
    let (mut x0, mut y0, mut x1, mut y1, mut n) = (width, height, 0, 0, 0usize);
    for (y, row) in map.chunks_exact(width).enumerate() {
        for (x, _) in row.iter().enumerate().filter(|(_, p)| **p >= THRESHOLD) {
            (x0, x1) = (x0.min(x), x1.max(x + 1));
            (y0, y1) = (y0.min(y), y1.max(y + 1));
            n += 1;
        }
    }
    let (w, h) = (width as f64, height as f64);
    let bounds = [
        x0 as f64 / w,
        y0 as f64 / h,
        (x1 as f64 - x0 as f64) / w,
        (y1 as f64 - y0 as f64) / h,
    ];
    (n > 0).then(|| (bounds, n as f32 / map.len() as f32))
}

/// How far from a place a person may begin, in shares of the map's width: a click is not always on target.
const REACH: f64 = 0.04;

/// What hangs together with a place of a row-major map, in shares of its size; all else is 0.
fn component<T: Copy + Default>(
    map: &[T],
    (width, height): (usize, usize),
    (x, y): (f64, f64),
    inside: impl Fn(&T) -> bool,
) -> Vec<T> {
    let mut kept = vec![T::default(); map.len()];
    let (x, y) = (x * width as f64 - 0.5, y * height as f64 - 0.5);
    let distance = |i: usize| ((i % width) as f64 - x).powi(2) + ((i / width) as f64 - y).powi(2);
    let reach = (REACH * width as f64).max(1.0).powi(2);
    let nearest = (0..map.len())
        .filter(|i| inside(&map[*i]) && distance(*i) <= reach)
        .min_by(|a, b| distance(*a).total_cmp(&distance(*b)));
    let mut visited = vec![false; map.len()];
    let mut open: Vec<usize> = nearest.into_iter().collect();
    while let Some(i) = open.pop() {
        if std::mem::replace(&mut visited[i], true) {
            continue;
        }
        kept[i] = map[i];
        let (u, v) = (i % width, i / width);
        let neighbours = [
            (u > 0).then(|| i - 1),
            (u + 1 < width).then(|| i + 1),
            (v > 0).then(|| i - width),
            (v + 1 < height).then(|| i + width),
        ];
        open.extend(
            neighbours
                .into_iter()
                .flatten()
                .filter(|n| !visited[*n] && inside(&map[*n])),
        );
    }
    kept
}

/// [`THRESHOLD`] in a mask.
const HALF: u8 = 128;
/// Within this share of a mask's width doubtful pixels belong to the person beside them.
const SEAM: f64 = 0.02;

/// Clears a mask but for the person at a place, in shares of its size, and the doubtful pixels around them.
fn keep_person_at(mask: &mut [u8], size: (usize, usize), place: (f64, f64)) {
    let person = component(mask, size, place, |pixel| *pixel >= HALF);
    let mut around = person.clone();
    let reach = (SEAM * size.0 as f64).ceil() as usize;
    dilate(&mut around, size.0, 2 * reach + 1);
    for ((pixel, own), near) in mask.iter_mut().zip(person).zip(around) {
        if own == 0 && (near == 0 || *pixel >= HALF) {
            *pixel = 0;
        }
    }
}

/// Value of a map at a position in shares of its size, interpolated, clamped to the edge.
fn sample(map: &[f32], (width, height): (usize, usize), x: f64, y: f64) -> f32 {
    let at = |v: f64, n: usize| {
        let v = (v * n as f64 - 0.5).clamp(0.0, (n - 1) as f64);
        (v as usize, (v as usize + 1).min(n - 1), v.fract() as f32)
    };
    let ((x0, x1, fx), (y0, y1, fy)) = (at(x, width), at(y, height));
    let row = |y: usize| map[y * width + x0] * (1.0 - fx) + map[y * width + x1] * fx;
    row(y0) * (1.0 - fy) + row(y1) * fy
}

/// Wider than 4:3.
fn is_wide(width: usize, height: usize) -> bool {
    width * 3 > height * 4
}

impl Segmenter {
    pub(crate) fn open(engine: &Engine, package: &Package) -> Result<Self> {
        let whole = Finder::open(engine, package, "segment")?;
        let wide = match package.manifest.graphs.contains_key("segment_wide") {
            true => Some(Finder::open(engine, package, "segment_wide")?),
            false => None,
        };
        Ok(Self { whole, wide })
    }

    /// Whether a picture of this size has as many pixels as the segmentation looks at.
    pub(crate) fn is_served_by(&self, (width, height): (usize, usize)) -> bool {
        let finder = match &self.wide {
            Some(finder) if is_wide(width, height) => finder,
            _ => &self.whole,
        };
        width >= finder.size.0 && height >= finder.size.1
    }

    fn for_frame(&mut self, frame: &Frame<'_>) -> &mut Finder {
        let wide = is_wide(frame.width() as usize, frame.height() as usize);
        match &mut self.wide {
            Some(finder) if wide => finder,
            _ => &mut self.whole,
        }
    }

    /// A first mask at the working size, without padding: the probability of a person, 0 to 255. The frame is searched as a
    /// whole, then around what was found, where a person fills the network's view, and once more around what was found there,
    /// which is often more. `None` if nobody is there.
    ///
    /// Doubt is left to the matting network, which sees the picture in more detail: cut at a half, a doubtful arm is either
    /// gone for seconds or there with what lies around it.
    pub(crate) fn first_mask(
        &mut self,
        scaler: &mut Scaler,
        frame: &Frame<'_>,
        geometry: &Geometry,
    ) -> Result<Option<Vec<u8>>> {
        self.search(scaler, frame, geometry, None)
    }

    /// As [`first_mask`](Self::first_mask), but by one closer look, of the person at a place alone, in shares of the frame's
    /// size. People who touch each other are one to the segmentation.
    pub(crate) fn mask_at(
        &mut self,
        scaler: &mut Scaler,
        frame: &Frame<'_>,
        geometry: &Geometry,
        place: (f64, f64),
    ) -> Result<Option<Vec<u8>>> {
        self.search(scaler, frame, geometry, Some(place))
    }

    fn search(
        &mut self,
        scaler: &mut Scaler,
        frame: &Frame<'_>,
        geometry: &Geometry,
        place: Option<(f64, f64)>,
    ) -> Result<Option<Vec<u8>>> {
        let whole = self.for_frame(frame).look(scaler, frame, None, false)?;
        let Some((part, _)) = whole.people(place).filter(|(_, share)| *share >= SMALLEST) else {
            return Ok(None);
        };
        let mut closer = |part, mirrored| self.whole.look(scaler, frame, Some(part), mirrored);
        let looks = if place.is_some() {
            // More room, and blurred looks, would draw in whoever stands beside the one who is meant.
            let close = closer(grown(part, LITTLE_ROOM), false)?;
            vec![(close, 1.0)]
        } else {
            let near = closer(grown(part, MARGIN), false)?;
            let part = near
                .people(None)
                .map_or(near.part, |(part, _)| grown(part, MARGIN));
            let close = closer(part, false)?;
            let mirrored = closer(part, true)?;
            [close, mirrored, whole].into_iter().zip(WEIGHTS).collect()
        };
        let (width, height) = geometry.size;
        let (origin, canvas) = (geometry.origin, geometry.canvas);
        let mut mask = vec![0; width * height];
        for (v, row) in (origin.1..).zip(mask.chunks_exact_mut(width)) {
            let y = (v as f64 + 0.5) / canvas.1 as f64;
            for (u, pixel) in (origin.0..).zip(row) {
                let x = (u as f64 + 0.5) / canvas.0 as f64;
                let seen: f32 = looks.iter().map(|(look, w)| look.at(x, y) * w).sum();
                *pixel = (255.0 * seen).round() as u8;
            }
        }
        if let Some(place) = place {
            keep_person_at(&mut mask, geometry.size, place);
        }
        let covered = mask.iter().filter(|pixel| **pixel >= HALF).count();
        Ok((covered as f32 >= SMALLEST * mask.len() as f32).then_some(mask))
    }

    /// The hint for a frame: means over the cells of the token grid, into a tensor [1,1,h,w]. The padding counts as
    /// empty.
    pub(crate) fn prior(
        &mut self,
        scaler: &mut Scaler,
        frame: &Frame<'_>,
        geometry: &Geometry,
        out: &mut Tensor,
    ) -> Result<()> {
        /// Samples along each side of a cell.
        const SAMPLES: usize = 4;
        let finder = self.for_frame(frame);
        let size = finder.size;
        let map = finder.run(scaler, frame, None, false)?;
        let (columns, _) = geometry.grid();
        let position = |cell: usize, sample: usize, offset: usize, inner: usize| {
            let pixel =
                cell as f64 * STRIDE as f64 + (sample as f64 + 0.5) * (STRIDE / SAMPLES) as f64;
            Some((pixel - offset as f64) / inner as f64).filter(|v| (0.0..1.0).contains(v))
        };
        out.write(|cells: &mut [f32]| {
            for (i, cell) in cells.iter_mut().enumerate() {
                let (column, row) = (i % columns, i / columns);
                let mut sum = 0.0;
                for j in 0..SAMPLES {
                    let Some(y) = position(row, j, geometry.offset.1, geometry.size.1) else {
                        continue;
                    };
                    for k in 0..SAMPLES {
                        let Some(x) = position(column, k, geometry.offset.0, geometry.size.0)
                        else {
                            continue;
                        };
                        sum += sample(map, size, x, y);
                    }
                }
                *cell = sum / (SAMPLES * SAMPLES) as f32;
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bounding_box_covers_what_is_above_the_threshold() {
        let mut map = vec![0.1; 20 * 10];
        for y in 2..5 {
            for x in 4..12 {
                map[y * 20 + x] = 0.9;
            }
        }
        let (bounds, share) = found(&map, (20, 10)).unwrap();
        for (got, wanted) in bounds.iter().zip([0.2, 0.2, 0.4, 0.3]) {
            assert!((got - wanted).abs() < 1e-9, "{bounds:?}");
        }
        assert!((share - 24.0 / 200.0).abs() < 1e-6);
        assert!(found(&[0.2; 200], (20, 10)).is_none());
    }

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
    fn a_place_selects_what_hangs_together_with_it() {
        // Two blocks; the second has an arm.
        let mut map = vec![0u8; 60 * 10];
        for (x0, x1, y0, y1) in [(2, 10, 2, 8), (20, 26, 1, 9), (26, 40, 4, 5)] {
            for y in y0..y1 {
                for x in x0..x1 {
                    map[y * 60 + x] = 255;
                }
            }
        }
        let count = |x: f64, y: f64| {
            component(&map, (60, 10), (x / 60.0, y / 10.0), |p| *p > 0)
                .iter()
                .filter(|p| **p > 0)
                .count()
        };
        assert_eq!(count(5.0, 5.0), 48);
        assert_eq!(count(38.0, 4.5), 48 + 14, "the arm's body comes along");
        assert_eq!(count(18.5, 5.0), 48 + 14, "a little beside it");
        assert_eq!(count(55.0, 5.0), 0, "far from everything");
        assert_eq!(count(-1e9, f64::MAX), 0, "outside");
    }

    #[test]
    fn a_person_keeps_the_doubt_around_them_and_nobody_else() {
        // A person of 255, a rim of 90 on one side, somebody else behind it, and haze far away.
        let mut mask = [0, 255, 255, 90, 90, 200, 200, 0, 0, 40].repeat(4);
        keep_person_at(&mut mask, (10, 4), (0.15, 0.5));
        assert_eq!(mask, [0, 255, 255, 90, 0, 0, 0, 0, 0, 0].repeat(4));
        let mut mask = [0, 255, 255, 90, 90, 200, 200, 0, 0, 40].repeat(4);
        keep_person_at(&mut mask, (10, 4), (0.6, 0.5));
        assert_eq!(mask, [0, 0, 0, 0, 90, 200, 200, 0, 0, 0].repeat(4));
        keep_person_at(&mut mask, (10, 4), (0.95, 0.5));
        assert_eq!(mask, [0; 40]);
    }

    #[test]
    fn sampling_is_bilinear_and_clamped() {
        let map = [0.0, 1.0, 2.0, 3.0];
        assert!((sample(&map, (2, 2), 0.5, 0.5) - 1.5).abs() < 1e-6);
        assert!((sample(&map, (2, 2), 0.0, 0.0)).abs() < 1e-6);
        assert!((sample(&map, (2, 2), 1.0, 0.25) - 1.0).abs() < 1e-6);
    }
}
