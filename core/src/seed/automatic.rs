//! People found by small networks: the automatic first mask, and a hint for every frame.

use super::figures::{Detector, Figure};
use super::look::{Finder, Look, Outside, View, grown, joined, lies_in, within};
use super::maps::{Component, SMALLEST, THRESHOLD, apart, component, sample};
use super::seen::{ABREAST, BODY_WEIGHT, Body, Cells, Seeing, Seen, abreast, are_close, are_whole};
use crate::error::Result;
use crate::frame::Frame;
use crate::pixel::morphology::dilate;
use crate::pixel::scale::Scaler;
use crate::runtime::tensor::Tensor;
use crate::runtime::{Engine, Package};
use crate::stages::preprocess::{Geometry, STRIDE};

/// The person segmentation. It runs on the CPU, whatever runs the matting network.
#[derive(Debug)]
pub(crate) struct Segmenter {
    whole: Finder,
    /// For wide frames: fewer pixels are wasted on their height.
    wide: Option<Finder>,
    /// For one person at a time, arms and feet and all.
    body: Option<Finder>,
    /// Who is there.
    detector: Option<Detector>,
    /// Searches in a row that found nobody.
    in_vain: u32,
}

/// A closer look is larger than what was found before by this share of its size on every side.
const MARGIN: f64 = 0.3;
/// As above, where a person beside others is meant.
const LITTLE_ROOM: f64 = 0.15;
/// What the closest look, the same mirrored, and the look at the whole frame count. Each makes errors of its own: a corner of a
/// dark building beside a dark shoulder is a person to one of them, seldom to all.
const WEIGHTS: [f32; 3] = [0.4, 0.4, 0.2];

/// While nobody is seen the detector, which takes most of the time then, looks at every so manyth frame.
const DETECTED_EVERY: u32 = 5;
/// So many people's bodies are looked at, the largest.
const MOST_BODIES: usize = 4;
/// So many squares are looked into for those whom the detector has not found whole at most, twice each.
const MOST_SQUARES: usize = 8;
/// Longer side of the map on which people are told apart, cells.
const MAP_SIDE: f64 = 256.0;

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

/// Wider than 4:3.
fn is_wide(width: usize, height: usize) -> bool {
    width * 3 > height * 4
}

impl Segmenter {
    pub(crate) fn open(engine: &Engine, package: &Package) -> Result<Self> {
        let whole = Finder::open(engine, package, "segment", "person")?;
        let optional = |name| match package.manifest.graphs.contains_key(name) {
            true => Finder::open(engine, package, name, "person").map(Some),
            false => Ok(None),
        };
        let (wide, body) = (optional("segment_wide")?, optional("segment_body")?);
        let detector = match package.manifest.graphs.contains_key("detect") {
            true => Some(Detector::open(engine, package)?),
            false => None,
        };
        Ok(Self {
            whole,
            wide,
            body,
            detector,
            in_vain: 0,
        })
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
    /// which is often more; then each person's body is looked at, where the detector has found one, or where it must be by
    /// what was found so far. `None` if nobody is there.
    ///
    /// Doubt is left to the matting network, which sees the picture in more detail: cut at a half, a doubtful arm is either
    /// gone for seconds or there with what lies around it.
    pub(crate) fn first_mask(
        &mut self,
        scaler: &mut Scaler,
        frame: &Frame<'_>,
        geometry: &Geometry,
    ) -> Result<Option<Vec<u8>>> {
        let mask = self.search(scaler, frame, geometry, None)?;
        self.in_vain = match mask {
            Some(_) => 0,
            None => self.in_vain.wrapping_add(1),
        };
        Ok(mask)
    }

    /// As [`first_mask`](Self::first_mask), but by one closer look and one at the body, of the person at a place alone, in
    /// shares of the frame's size. People who touch each other are one to the segmentation, and told apart where the detector
    /// finds them.
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
        let found = whole.people(place);
        let mut part = found.and_then(|(part, share)| (share >= SMALLEST).then_some(part));
        let is_due =
            self.in_vain.is_multiple_of(DETECTED_EVERY) || place.is_some() || part.is_some();
        let figures = match &mut self.detector {
            Some(detector) if is_due => detector.find(scaler, frame)?,
            _ => Vec::new(),
        };
        let (seeings, rivals) = self.look_at_figures(scaler, frame, &figures, place)?;
        let figures = match place {
            Some(_) => seeings.iter().map(|seeing| seeing.figure).collect(),
            None => figures,
        };
        let meant = figures.first().filter(|_| place.is_some());
        match meant.filter(|figure| are_whole(&[figure])) {
            // What was found may be more than one of several people who touch each other.
            Some(figure) => part = Some(within(figure.circle)),
            None => {
                for figure in &figures {
                    part = Some(joined(part, figure.bust()));
                }
            }
        }
        let Some(part) = part else {
            return Ok(None);
        };
        let mut closer = |part, mirrored| self.whole.look(scaler, frame, Some(part), mirrored);
        let looks = if place.is_some() {
            // More room, and blurred looks, would draw in whoever stands beside the one who is meant.
            let close = closer(grown(part, LITTLE_ROOM), false)?;
            vec![(close, 1.0)]
        } else {
            let near = closer(grown(part, MARGIN), false)?;
            let mut part = near
                .people(None)
                .map_or(near.part, |(part, _)| grown(part, MARGIN));
            for figure in &figures {
                part = joined(Some(part), figure.bust());
            }
            let close = closer(part, false)?;
            let mirrored = closer(part, true)?;
            [close, mirrored, whole].into_iter().zip(WEIGHTS).collect()
        };
        let seen = Seen {
            looks,
            figures: seeings,
            rivals,
            ..Seen::default()
        };
        let seen = self.with_bodies(scaler, frame, seen, &figures, place)?;
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

    /// Looks at the bodies of people whom the detector has found, the largest. Where one at a place is meant, at the nearest,
    /// and tells that one from the others.
    fn look_at_figures(
        &mut self,
        scaler: &mut Scaler,
        frame: &Frame<'_>,
        figures: &[Figure],
        place: Option<(f64, f64)>,
    ) -> Result<(Vec<Seeing>, Vec<Seeing>)> {
        let (mut seeings, mut rivals) = (Vec::new(), Vec::new());
        let Some(finder) = &mut self.body else {
            return Ok((seeings, rivals));
        };
        let order = |figure: &Figure| match place {
            Some(place) => f64::from(figure.distance(place)),
            None => -figure.circle[2] * figure.circle[3],
        };
        let mut figures: Vec<&Figure> = figures
            .iter()
            .filter(|figure| Seeing::counts(figure) > 0.0)
            .collect();
        figures.sort_by(|a, b| order(a).total_cmp(&order(b)));
        for figure in figures.into_iter().take(MOST_BODIES) {
            let look = finder.look_twice(scaler, frame, figure.square())?;
            seeings.push(Seeing::new(figure, look));
        }
        if let Some((x, y)) = place {
            let at = |seeing: &Seeing| seeing.look.at(x, y);
            seeings.sort_by(|a, b| at(b).total_cmp(&at(a)));
            if seeings.first().is_some_and(|meant| at(meant) >= THRESHOLD) {
                rivals = seeings.split_off(1);
            } else {
                seeings.clear();
            }
        }
        Ok((seeings, rivals))
    }

    /// Looks at the body of each person who was found, or of the one at a place, but for those whom the detector has found
    /// whole.
    fn with_bodies(
        &mut self,
        scaler: &mut Scaler,
        frame: &Frame<'_>,
        mut seen: Seen,
        figures: &[Figure],
        place: Option<(f64, f64)>,
    ) -> Result<Seen> {
        let Some(finder) = &mut self.body else {
            return Ok(seen);
        };
        let (across, down) = (f64::from(frame.width()), f64::from(frame.height()));
        let cell = across.max(down) / MAP_SIDE;
        let [columns, rows] = [across, down].map(|side| (side / cell).ceil().max(1.0) as usize);
        let size = (columns, rows);
        let share = |i: usize, n: usize| (i as f64 + 0.5) / n as f64;
        let centre = |i: usize| (share(i % columns, columns), share(i / columns, rows));
        let map: Vec<f32> = (0..columns * rows)
            .map(|i| seen.people_at(centre(i).0, centre(i).1))
            .collect();
        let around = |mut cells: Vec<u8>| {
            dilate(
                &mut cells,
                columns,
                2 * (SEAM * MAP_SIDE).ceil() as usize + 1,
            );
            Cells { map: cells, size }
        };
        seen.near = around(map.iter().map(|p| u8::from(*p >= THRESHOLD)).collect());
        let people = match place {
            Some(place) => apart(&component(&map, size, place, |p| *p >= THRESHOLD), size),
            None => apart(&map, size),
        };
        let figures_in = |person: &Component| -> Vec<&Figure> {
            let is_in = |figure: &&Figure| {
                let face = figure.face();
                person.cells.iter().any(|i| lies_in(face, centre(*i)))
            };
            figures.iter().filter(is_in).collect()
        };
        let mut squares = MOST_SQUARES;
        for person in people.iter().take(MOST_BODIES) {
            let (own, bounds) = (figures_in(person), person.bounds);
            if are_whole(&own) || seen.weight_of(&[], bounds).is_none() {
                continue;
            }
            let mut best: Option<Body> = None;
            for count in 1..=ABREAST.len() {
                let parts = abreast(bounds, count, across / down);
                let Some(left) = squares.checked_sub(parts.len()) else {
                    break;
                };
                squares = left;
                let looks: Vec<Look> = parts
                    .into_iter()
                    .map(|part| finder.look_twice(scaler, frame, part))
                    .collect::<Result<_>>()?;
                let weight = seen.weight_of(&looks, bounds).unwrap_or_default();
                log::debug!("{count} in {bounds:.2?}: looks at bodies count {weight:.2}");
                if best.as_ref().is_none_or(|best| weight > best.weight) {
                    best = Some(Body {
                        looks,
                        bounds,
                        weight,
                        is_close: are_close(&own),
                    });
                }
                if weight >= BODY_WEIGHT {
                    break;
                }
            }
            seen.bodies.extend(best);
        }
        if place.is_none() && !seen.figures.is_empty() {
            let map: Vec<f32> = (0..map.len())
                .map(|i| seen.with_bodies(centre(i)))
                .collect();
            let mut others = vec![0; map.len()];
            let people = apart(&map, size);
            for person in people.iter().filter(|person| figures_in(person).is_empty()) {
                for cell in &person.cells {
                    others[*cell] = 1;
                }
            }
            seen.others = around(others);
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
        let map = finder.run(scaler, frame, View::whole(size), Outside::Edges, false)?;
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
}
