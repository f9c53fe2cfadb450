//! People found by a segmentation network: the automatic first mask, and a hint for every frame.

use super::flood;
use crate::error::{Error, Result};
use crate::frame::Frame;
use crate::pixel::morphology::dilate;
use crate::pixel::scale::{Crop, Placement, Scaler};
use crate::runtime::manifest::Dim;
use crate::runtime::tensor::Tensor;
use crate::runtime::{Engine, Graph, Package, Role};
use crate::stages::preprocess::{Geometry, STRIDE};

/// Which pixels of a frame a network sees, and where in its picture. What is left of the picture repeats their edges: a
/// black border would be the lower end of everybody who stands at it.
#[derive(Debug, Clone, Copy)]
struct View {
    crop: Option<Crop>,
    left: usize,
    top: usize,
    size: (usize, usize),
}

impl View {
    fn whole(size: (usize, usize)) -> Self {
        let (left, top) = (0, 0);
        Self {
            crop: None,
            left,
            top,
            size,
        }
    }

    /// A part of the frame that may reach beyond it.
    fn of([x, y, w, h]: Part, frame: &Frame<'_>, (width, height): (usize, usize)) -> Self {
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

    /// Repeats the edges of what was drawn as far as the picture goes.
    fn extend<T: Copy>(&self, picture: &mut [T], row_pixels: usize) {
        let (left, right) = (self.left, self.left + self.size.0);
        let (top, bottom) = (self.top, self.top + self.size.1);
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
        let graph = Graph::open(engine, package, name, &[], Role::Small)?;
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
        view: View,
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
            view.extend(pixels, self.size.0);
            if mirrored {
                mirror(pixels, self.size.0);
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
        let view = match part {
            Some(part) => View::of(part, frame, self.size),
            None => View::whole(self.size),
        };
        let mut map = self.run(scaler, frame, view, mirrored)?.to_vec();
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
    /// For one person at a time, arms and feet and all.
    body: Option<Finder>,
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

/// Side of the square in which one person's body is looked at, in longer sides of what was found of them.
const ROOM_FOR_BODY: f64 = 1.5;
/// So many people's bodies are looked at, the largest.
const MOST_BODIES: usize = 4;
/// So many squares are looked into for that at most, twice each.
const MOST_SQUARES: usize = 8;
/// Longer side of the map on which people are told apart, cells.
const MAP_SIDE: f64 = 256.0;
/// From here on a pixel belongs to a person for certain.
const CERTAIN: f32 = 0.8;
/// What the body's look must give to what is certainly a person, on average, to count at all, and in full: it knows whole
/// figures, and loses the shoulders of a face that fills the picture.
const BODY_AGREES: [f32; 2] = [0.5, 0.7];
/// What it counts then, where it is sure of more than the other looks see, or where they are in doubt.
const BODY_WEIGHT: f32 = 0.85;
/// Probabilities from which it begins to be sure of a person, and is.
const BODY_SURE: [f32; 2] = [0.5, 0.8];
/// Probabilities from which the other looks begin to be sure of a person, and are: it counts nothing then.
const PEOPLE_SURE: [f32; 2] = [0.65, 0.95];

/// 0 below a range, 1 above it.
fn rise(value: f32, [from, to]: [f32; 2]) -> f32 {
    ((value - from) / (to - from)).clamp(0.0, 1.0)
}

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

/// Bounding box of cells of a map, and how many there are.
#[derive(Default)]
struct Extent {
    columns: std::ops::Range<usize>,
    rows: std::ops::Range<usize>,
    cells: usize,
}

impl Extent {
    fn add(&mut self, x: usize, y: usize) {
        let grow = |range: &mut std::ops::Range<usize>, v: usize| {
            *range = match range.start < range.end {
                true => range.start.min(v)..range.end.max(v + 1),
                false => v..v + 1,
            };
        };
        grow(&mut self.columns, x);
        grow(&mut self.rows, y);
        self.cells += 1;
    }

    /// As a part of the map's size, and the share of its cells; none if it is empty.
    fn part(&self, (width, height): (usize, usize)) -> Option<(Part, f32)> {
        let (w, h) = (width as f64, height as f64);
        let bounds = [
            self.columns.start as f64 / w,
            self.rows.start as f64 / h,
            self.columns.len() as f64 / w,
            self.rows.len() as f64 / h,
        ];
        (self.cells > 0).then(|| (bounds, self.cells as f32 / (width * height) as f32))
    }
}

/// Bounding box of all pixels above the threshold in a row-major map, in shares of its size, and their share.
fn found(map: &[f32], (width, height): (usize, usize)) -> Option<(Part, f32)> {
    let mut extent = Extent::default();
    for (i, _) in map.iter().enumerate().filter(|(_, p)| **p >= THRESHOLD) {
        extent.add(i % width, i / width);
    }
    extent.part((width, height))
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
    let mut visited = vec![false; map.len()];
    let (x, y) = (x * width as f64 - 0.5, y * height as f64 - 0.5);
    let distance = |i: usize| ((i % width) as f64 - x).powi(2) + ((i / width) as f64 - y).powi(2);
    let reach = (REACH * width as f64).max(1.0).powi(2);
    let nearest = (0..map.len())
        .filter(|i| inside(&map[*i]) && distance(*i) <= reach)
        .min_by(|a, b| distance(*a).total_cmp(&distance(*b)));
    if let Some(nearest) = nearest {
        flood(map, width, nearest, inside, &mut visited, |i| {
            kept[i] = map[i];
        });
    }
    kept
}

/// Bounding boxes of what hangs together above the threshold in a row-major map, in shares of its size, largest area first;
/// what is smaller than a person must be is left out.
fn apart(map: &[f32], (width, height): (usize, usize)) -> Vec<Part> {
    let inside = |p: &f32| *p >= THRESHOLD;
    let mut visited = vec![false; map.len()];
    let mut people = Vec::new();
    for start in 0..map.len() {
        if visited[start] || !inside(&map[start]) {
            continue;
        }
        let mut extent = Extent::default();
        flood(map, width, start, inside, &mut visited, |i| {
            extent.add(i % width, i / width);
        });
        people.extend(
            extent
                .part((width, height))
                .filter(|(_, share)| *share >= SMALLEST),
        );
    }
    people.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    people.into_iter().map(|(bounds, _)| bounds).collect()
}

/// A person's body, looked at by itself; or those of a few people who touch each other, each looked at by itself.
struct Body {
    looks: Vec<Look>,
    /// What had been found of them.
    bounds: Part,
    weight: f32,
}

/// Probability of a person at a place of the frame by looks at bodies, the highest; none beyond all of them.
fn body_at(looks: &[Look], (x, y): (f64, f64)) -> Option<f32> {
    looks
        .iter()
        .filter(|look| lies_in(look.part, (x, y)))
        .map(|look| look.at(x, y))
        .reduce(f32::max)
}

/// What is found of one, two and three people side by side is at least so wide for its height.
const ABREAST: [f64; 3] = [0.0, 0.8, 1.4];

/// Squares in which to look at the bodies of so many people side by side, who were found as one; none where what was found
/// is too narrow for them. `aspect` is that of the frame.
fn abreast([x, y, w, h]: Part, count: usize, aspect: f64) -> Vec<Part> {
    if w * aspect < ABREAST[count - 1] * h {
        return Vec::new();
    }
    let each = w / count as f64;
    let side = (each * aspect).max(h) * ROOM_FOR_BODY;
    (0..count)
        .map(|i| {
            let centre = x + (i as f64 + 0.5) * each;
            let width = side / aspect;
            [centre - width / 2.0, y + (h - side) / 2.0, width, side]
        })
        .collect()
}

/// Whether a place of the frame lies in a part of it.
fn lies_in([left, top, width, height]: Part, (x, y): (f64, f64)) -> bool {
    (left..left + width).contains(&x) && (top..top + height).contains(&y)
}

/// All that was seen of the people in a frame.
struct Seen {
    looks: Vec<(Look, f32)>,
    bodies: Vec<Body>,
}

impl Seen {
    /// Probability of a person at a place of the frame, by the looks at everybody.
    fn people_at(&self, x: f64, y: f64) -> f32 {
        self.looks
            .iter()
            .map(|(look, weight)| look.at(x, y) * weight)
            .sum()
    }

    /// Probability of a person at a place of the frame.
    ///
    /// The looks at everybody see heads and shoulders well, forearms and small figures badly; those at one body the other
    /// way round. So the latter count where they are sure of more, and where the former are in doubt. Nobody's look denies
    /// what was found of somebody else.
    fn at(&self, x: f64, y: f64) -> f32 {
        let people = self.people_at(x, y);
        let (mut raised, mut lowered) = (people, people);
        for (i, body) in self.bodies.iter().enumerate() {
            let Some(person) = body_at(&body.looks, (x, y)) else {
                continue;
            };
            if person > people {
                let counts = body.weight * rise(person, BODY_SURE);
                raised = raised.max(people + (person - people) * counts);
            } else if !self.is_anothers(i, (x, y)) {
                let counts = body.weight * (1.0 - rise(people, PEOPLE_SURE));
                lowered = lowered.min(people + (person - people) * counts);
            }
        }
        match raised > people {
            true => raised.min(1.0),
            false => lowered.max(0.0),
        }
    }

    fn is_anothers(&self, body: usize, place: (f64, f64)) -> bool {
        let mut others = self.bodies.iter().enumerate().filter(|(i, _)| *i != body);
        others.any(|(_, other)| lies_in(other.bounds, place))
    }

    /// How far looks at the body in `bounds` agree with the looks at everybody, as what they count; none where the latter are
    /// certain of nothing.
    fn weight_of(&self, looks: &[Look], [left, top, width, height]: Part) -> Option<f32> {
        const STEPS: usize = 64;
        let (mut sum, mut count) = (0.0, 0u32);
        for v in 0..STEPS {
            let y = top + height * (v as f64 + 0.5) / STEPS as f64;
            for u in 0..STEPS {
                let x = left + width * (u as f64 + 0.5) / STEPS as f64;
                if self.people_at(x, y) >= CERTAIN {
                    sum += body_at(looks, (x, y)).unwrap_or_default();
                    count += 1;
                }
            }
        }
        (count > 0).then(|| BODY_WEIGHT * rise(sum / count as f32, BODY_AGREES))
    }
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
        let optional = |name| match package.manifest.graphs.contains_key(name) {
            true => Finder::open(engine, package, name).map(Some),
            false => Ok(None),
        };
        let (wide, body) = (optional("segment_wide")?, optional("segment_body")?);
        Ok(Self { whole, wide, body })
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
    /// which is often more; then each person's body is looked at. `None` if nobody is there.
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

    /// As [`first_mask`](Self::first_mask), but by one closer look and one at the body, of the person at a place alone, in
    /// shares of the frame's size. People who touch each other are one to the segmentation.
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
        let seen = self.with_bodies(scaler, frame, looks, place)?;
        let (width, height) = geometry.size;
        let (origin, canvas) = (geometry.origin, geometry.canvas);
        let mut mask = vec![0; width * height];
        for (v, row) in (origin.1..).zip(mask.chunks_exact_mut(width)) {
            let y = (v as f64 + 0.5) / canvas.1 as f64;
            for (u, pixel) in (origin.0..).zip(row) {
                let x = (u as f64 + 0.5) / canvas.0 as f64;
                *pixel = (255.0 * seen.at(x, y)).round() as u8;
            }
        }
        if let Some(place) = place {
            keep_person_at(&mut mask, geometry.size, place);
        }
        let covered = mask.iter().filter(|pixel| **pixel >= HALF).count();
        Ok((covered as f32 >= SMALLEST * mask.len() as f32).then_some(mask))
    }

    /// Looks at the body of each person who was found, or of the one at a place.
    fn with_bodies(
        &mut self,
        scaler: &mut Scaler,
        frame: &Frame<'_>,
        looks: Vec<(Look, f32)>,
        place: Option<(f64, f64)>,
    ) -> Result<Seen> {
        let mut seen = Seen {
            looks,
            bodies: Vec::new(),
        };
        let Some(finder) = &mut self.body else {
            return Ok(seen);
        };
        let (across, down) = (f64::from(frame.width()), f64::from(frame.height()));
        let cell = across.max(down) / MAP_SIDE;
        let [columns, rows] = [across, down].map(|side| (side / cell).ceil().max(1.0) as usize);
        let size = (columns, rows);
        let share = |i: usize, n: usize| (i as f64 + 0.5) / n as f64;
        let map: Vec<f32> = (0..columns * rows)
            .map(|i| seen.people_at(share(i % columns, columns), share(i / columns, rows)))
            .collect();
        let people = match place {
            Some(place) => apart(&component(&map, size, place, |p| *p >= THRESHOLD), size),
            None => apart(&map, size),
        };
        let mut squares = MOST_SQUARES;
        for bounds in people.into_iter().take(MOST_BODIES) {
            if seen.weight_of(&[], bounds).is_none() {
                continue;
            }
            let mut best: Option<Body> = None;
            for count in 1..=ABREAST.len() {
                let mut looks = Vec::with_capacity(count);
                let parts = abreast(bounds, count, across / down);
                let Some(left) = squares.checked_sub(parts.len()) else {
                    break;
                };
                squares = left;
                for part in parts {
                    let mut look = finder.look(scaler, frame, Some(part), false)?;
                    let mirrored = finder.look(scaler, frame, Some(part), true)?;
                    for (one, other) in look.map.iter_mut().zip(mirrored.map) {
                        *one = f32::midpoint(*one, other);
                    }
                    looks.push(look);
                }
                let weight = seen.weight_of(&looks, bounds).unwrap_or_default();
                log::debug!("{count} in {bounds:.2?}: looks at bodies count {weight:.2}");
                if best.as_ref().is_none_or(|best| weight > best.weight) {
                    best = Some(Body {
                        looks,
                        bounds,
                        weight,
                    });
                }
                if weight >= BODY_WEIGHT {
                    break;
                }
            }
            seen.bodies.extend(best);
        }
        Ok(seen)
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
        let map = finder.run(scaler, frame, View::whole(size), false)?;
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
    use crate::frame::PixelFormat;

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
        view.extend(&mut picture, 5);
        let (upper, lower) = ([1, 1, 1, 2, 2], [3, 3, 3, 4, 4]);
        assert_eq!(picture, [upper, upper, lower, lower, lower].concat()[..]);
        // Nothing of the part is in the frame: still a picture, of the frame's nearest pixels.
        let view = View::of([1.5, -3.0, 0.5, 1.0], &frame, (8, 8));
        assert!(view.size.0 >= 1 && view.size.1 >= 1 && view.left < 8 && view.top < 8);
    }

    #[test]
    fn people_are_told_apart_and_specks_are_none() {
        let mut map = vec![0.0; 100 * 50];
        for (x0, x1, y0, y1) in [(5, 15, 10, 40), (50, 80, 20, 50), (90, 92, 3, 4)] {
            for y in y0..y1 {
                map[y * 100 + x0..y * 100 + x1].fill(0.7);
            }
        }
        let people = apart(&map, (100, 50));
        let wanted = [[0.5, 0.4, 0.3, 0.6], [0.05, 0.2, 0.1, 0.6]];
        assert_eq!(people.len(), 2, "{people:?}");
        for (got, wanted) in people.iter().flatten().zip(wanted.iter().flatten()) {
            assert!((got - wanted).abs() < 1e-9, "{people:?}");
        }
        assert!(apart(&[0.4; 100], (10, 10)).is_empty());
    }

    /// What is seen of two people side by side, each in a half of the frame, given what everybody's look and the left
    /// one's sees at each of eight places.
    fn two_people(everybody: [f32; 8], left: [f32; 4]) -> Seen {
        let looks = vec![(
            Look {
                map: everybody.to_vec(),
                size: (8, 1),
                part: WHOLE,
            },
            1.0,
        )];
        let mut seen = Seen {
            looks,
            bodies: Vec::new(),
        };
        let look = Look {
            map: left.to_vec(),
            size: (4, 1),
            part: [0.0, 0.0, 0.5, 1.0],
        };
        let bounds = [0.0, 0.0, 0.375, 1.0];
        let weight = seen.weight_of(std::slice::from_ref(&look), bounds);
        let weight = weight.unwrap_or_default();
        seen.bodies.push(Body {
            looks: vec![look],
            bounds,
            weight,
        });
        let bounds = [0.5, 0.0, 0.5, 1.0];
        let look = Look {
            map: vec![0.0; 4],
            size: (4, 1),
            part: bounds,
        };
        seen.bodies.push(Body {
            looks: vec![look],
            bounds,
            weight: BODY_WEIGHT,
        });
        seen
    }

    #[test]
    fn a_body_counts_where_it_is_sure_or_the_others_are_not() {
        let seen = two_people(
            [0.9, 0.1, 0.6, 0.3, 0.5, 0.9, 0.9, 0.1],
            [1.0, 1.0, 0.0, 0.6],
        );
        assert!((seen.bodies[0].weight - BODY_WEIGHT).abs() < 1e-6);
        let at = |i: usize| seen.at((i as f64 + 0.5) / 8.0, 0.5);
        // An arm that only the body's look sees; doubt that it clears up; a guess of its own that is worth little.
        assert!(at(1) > 0.8, "{}", at(1));
        assert!(at(2) < 0.2, "{}", at(2));
        assert!((at(3) - 0.3).abs() < 0.15, "{}", at(3));
        // The other body's look denies doubt, but not what is certain.
        assert!(at(4) < 0.2 && at(5) > 0.75, "{} {}", at(4), at(5));
    }

    #[test]
    fn a_body_is_not_believed_that_misses_what_is_certain() {
        let seen = two_people(
            [0.9, 0.9, 0.9, 0.3, 0.5, 0.9, 0.9, 0.1],
            [0.0, 0.2, 0.1, 1.0],
        );
        assert!(seen.bodies[0].weight.abs() < 1e-6);
        assert!((seen.at(0.3, 0.5) - 0.9).abs() < 0.3);
    }

    #[test]
    fn people_who_touch_are_looked_at_one_by_one() {
        // 800 × 600 pixels of 1600 × 900: room for one or two.
        let bounds = [0.25, 1.0 / 3.0, 0.5, 2.0 / 3.0];
        let pixels = |parts: Vec<Part>| -> Vec<[i32; 4]> {
            let whole = [1600.0, 900.0, 1600.0, 900.0];
            let each = |part: Part| std::array::from_fn(|i| (part[i] * whole[i]).round() as i32);
            parts.into_iter().map(each).collect()
        };
        let aspect = 16.0 / 9.0;
        assert_eq!(pixels(abreast(bounds, 1, aspect)), [[200, 0, 1200, 1200]]);
        assert_eq!(
            pixels(abreast(bounds, 2, aspect)),
            [[150, 150, 900, 900], [550, 150, 900, 900]]
        );
        assert!(abreast(bounds, 3, aspect).is_empty());
        // The higher of what two looks see; nothing beyond both.
        let look = |left: f64, p: f32| Look {
            map: vec![p; 4],
            size: (2, 2),
            part: [left, 0.0, 0.4, 1.0],
        };
        let looks = [look(0.0, 0.3), look(0.3, 0.8)];
        assert_eq!(body_at(&looks, (0.1, 0.5)), Some(0.3));
        assert_eq!(body_at(&looks, (0.35, 0.5)), Some(0.8));
        assert_eq!(body_at(&looks, (0.8, 0.5)), None);
    }

    #[test]
    fn nobodys_look_denies_somebody_else() {
        let mut seen = two_people([0.0, 0.0, 0.0, 0.0, 0.5, 0.5, 0.5, 0.1], [0.0; 4]);
        // The second is found in the right half; a look at the first that reaches over them sees nobody there.
        seen.bodies[0].looks = vec![Look {
            map: vec![0.0; 8],
            size: (8, 1),
            part: WHOLE,
        }];
        seen.bodies[0].weight = BODY_WEIGHT;
        seen.bodies[1].weight = 0.0;
        assert!((seen.at(0.7, 0.5) - 0.5).abs() < 1e-6);
        assert_eq!(seen.weight_of(&[], WHOLE), None, "nothing is certain");
        // Nor what a look at them is sure of beyond what had been found, whoever comes first.
        for (sure, blind) in [(0, 1), (1, 0)] {
            for (i, p) in [(sure, 1.0), (blind, 0.0)] {
                seen.bodies[i].looks[0].map.fill(p);
                seen.bodies[i].looks[0].part = WHOLE;
                seen.bodies[i].weight = BODY_WEIGHT;
            }
            assert!(seen.at(0.45, 0.5) > 0.8, "{}", seen.at(0.45, 0.5));
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
