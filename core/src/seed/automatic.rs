//! People found by small networks: the automatic first mask, and a hint for every frame.

use super::figures::{Detector, Figure};
use super::look::{Finder, Look, Outside, Part, View, aspect, grown, joined, lies_in, within};
use super::maps::{Component, SMALLEST, THRESHOLD, apart, component, sample};
use super::reached;
use super::seen::{
    ABREAST, BODY_WEIGHT, Body, Cells, Seeing, Seen, abreast, are_close, body_at, body_weight,
    doubt,
};
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
    /// Who is there. It is opened when somebody is looked for first: many an engine goes before that.
    detector: Option<Detector>,
    engine: Engine,
    package: Package,
    /// Frames in a row in which nobody was found while somebody was looked for.
    in_vain: u32,
    /// Whether the segmentation saw anything in the last of them.
    saw: bool,
}

/// A closer look is larger than what was found before by this share of its size on every side.
const MARGIN: f64 = 0.3;
/// As above, where a person beside others is meant.
const LITTLE_ROOM: f64 = 0.15;
/// What the closest look, the same mirrored, and the look at the whole frame count. Each makes errors of its own: a corner of a
/// dark building beside a dark shoulder is a person to one of them, seldom to all.
const WEIGHTS: [f32; 3] = [0.4, 0.4, 0.2];

/// While nobody is found the detector, which takes most of the time then, looks at every so manyth frame, and at the first in which
/// the segmentation sees somebody.
const DETECTED_EVERY: u32 = 5;
/// So many people's bodies are looked at, the largest.
const MOST_BODIES: usize = 4;
/// So many squares are looked into for that at most, twice each.
const MOST_SQUARES: usize = 8;
/// A look at a figure with more room goes beyond the circle by this share of its size on every side.
const MORE_ROOM: f64 = 0.25;
/// Where the detector finds nobody, so much of what the segmentation sees may be doubt.
const DOUBT: f32 = 0.1;
/// Of more, a guess of the detector that looks at them alone bears out who it has missed if it is at least so likely.
const PROBABLE: f32 = 0.6;
/// Where the detector finds nobody, so much a look at a body must count.
const HALF_WEIGHT: f32 = 0.5;
/// Longer side of the map on which people are told apart, cells.
const MAP_SIDE: f64 = 256.0;

/// Who is looked for.
#[derive(Debug, Clone, Copy)]
enum Search {
    /// Everybody.
    Thorough,
    /// Everybody, for one frame after the other.
    Waiting,
    /// Who is at a place, in shares of the frame's size.
    At((f64, f64)),
}

/// Looks at those whom the detector has found.
#[derive(Debug, Default)]
struct Found {
    /// Those who are the target, and those who are not, but close to it.
    meant: Vec<Seeing>,
    rivals: Vec<Seeing>,
    /// Where those are at whom nobody has looked.
    unseen: Vec<Part>,
}

/// [`THRESHOLD`] in a mask.
const HALF: u8 = 128;
/// Whoever was the target is shown by this share of them at least.
const KNOWN: f32 = 0.4;
/// Within this share of a mask's width doubtful pixels belong to the person beside them.
const SEAM: f64 = 0.02;

/// Clears a mask but for the person at a place, in shares of its size, and the doubtful pixels around them.
fn keep_person_at(mask: &mut [u8], size: (usize, usize), place: (f64, f64)) {
    let person = component(mask, size, place, |pixel| *pixel >= HALF);
    keep(mask, size, person);
}

/// Clears a mask but for those who hang together with a matte of the same size, and the doubtful pixels around them.
pub(crate) fn keep_joined(mask: &mut [u8], size: (usize, usize), matte: &[f32]) {
    let start = (0..mask.len().min(matte.len())).filter(|i| matte[*i] >= THRESHOLD);
    let joined = reached(mask, size.0, |pixel| *pixel >= HALF, start);
    let people = joined.into_iter().map(u8::from).collect();
    keep(mask, size, people);
}

/// Clears a mask but for those of whom a matte of the same size shows a good part, and the doubtful pixels around them. A speck of
/// the matte on somebody else is not enough.
pub(crate) fn keep_known(mask: &mut [u8], size: (usize, usize), matte: &[f32]) {
    let map: Vec<f32> = mask.iter().map(|m| f32::from(*m) / 255.0).collect();
    let mut people = vec![0; mask.len()];
    for Component { cells, .. } in apart(&map, size) {
        let is_shown = |i: &&usize| matte.get(**i).is_some_and(|a| *a >= THRESHOLD);
        if cells.iter().filter(is_shown).count() as f32 >= KNOWN * cells.len() as f32 {
            for i in cells {
                people[i] = 1;
            }
        }
    }
    keep(mask, size, people);
}

/// Clears a mask but for a part of it, which is not 0 in a picture of the same size, and the doubtful pixels around that.
fn keep(mask: &mut [u8], size: (usize, usize), person: Vec<u8>) {
    let mut around = person.clone();
    let reach = (SEAM * size.0 as f64).ceil() as usize;
    dilate(&mut around, size.0, 2 * reach + 1);
    for ((pixel, own), near) in mask.iter_mut().zip(person).zip(around) {
        if own == 0 && (near == 0 || *pixel >= HALF) {
            *pixel = 0;
        }
    }
}

/// What the looks at everybody see, on the map on which people are told apart.
struct Overview {
    size: (usize, usize),
    /// Middles of the cells, in shares of the frame's size, row by row.
    places: Vec<(f64, f64)>,
    map: Vec<f32>,
}

impl Overview {
    fn of(frame: &Frame<'_>, seen: &Seen) -> Self {
        let (across, down) = (f64::from(frame.width()), f64::from(frame.height()));
        let cell = across.max(down) / MAP_SIDE;
        let [columns, rows] = [across, down].map(|side| (side / cell).ceil().max(1.0) as usize);
        let share = |i: usize, n: usize| (i as f64 + 0.5) / n as f64;
        let places: Vec<(f64, f64)> = (0..columns * rows)
            .map(|i| (share(i % columns, columns), share(i / columns, rows)))
            .collect();
        Self {
            size: (columns, rows),
            map: places.iter().map(|(x, y)| seen.people_at(*x, *y)).collect(),
            places,
        }
    }

    /// Cells in which people are seen, and those close to them.
    fn near(&self) -> Cells {
        let people = self.map.iter().map(|p| u8::from(*p >= THRESHOLD));
        around(people.collect(), self.size)
    }
}

/// Marked cells and those close to them.
fn around(mut cells: Vec<u8>, size: (usize, usize)) -> Cells {
    let reach = (SEAM * MAP_SIDE).ceil() as usize;
    dilate(&mut cells, size.0, 2 * reach + 1);
    Cells { map: cells, size }
}

/// Whether somebody's head is in one of the cells.
fn has_head_of(cells: &[usize], figure: &Figure, places: &[(f64, f64)]) -> bool {
    let face = figure.face();
    cells.iter().any(|i| lies_in(face, places[*i]))
}

/// Whether what others take for somebody, and in which the detector has found nobody, may be somebody all the same: they are hardly
/// in doubt, or a look of the detector at it alone finds a head of nobody else in it.
fn is_borne_out(
    detector: &mut Option<Detector>,
    scaler: &mut Scaler,
    frame: &Frame<'_>,
    Component { bounds, cells }: &Component,
    places: &[(f64, f64)],
    doubt: f32,
    known: &[Seeing],
) -> Result<bool> {
    let Some(detector) = detector.as_mut().filter(|_| doubt > DOUBT) else {
        return Ok(true);
    };
    let is_meant = |figure: &Figure| {
        let is_known = known.iter().any(|seeing| seeing.figure.is_same(figure));
        !is_known && has_head_of(cells, figure, places)
    };
    detector.finds(scaler, frame, *bounds, PROBABLE, is_meant)
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
        Ok(Self {
            whole,
            wide,
            body,
            detector: None,
            engine: engine.clone(),
            package: package.clone(),
            in_vain: 0,
            saw: false,
        })
    }

    /// Whether the package finds people one by one.
    fn detects(&self) -> bool {
        self.package.manifest.graphs.contains_key("detect")
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
        self.search(scaler, frame, geometry, Search::Thorough)
    }

    /// As [`first_mask`](Self::first_mask), for every frame until somebody comes.
    pub(crate) fn wait_for_mask(
        &mut self,
        scaler: &mut Scaler,
        frame: &Frame<'_>,
        geometry: &Geometry,
    ) -> Result<Option<Vec<u8>>> {
        let mask = self.search(scaler, frame, geometry, Search::Waiting)?;
        match mask {
            Some(_) => self.begin(),
            None => self.in_vain = self.in_vain.wrapping_add(1),
        }
        Ok(mask)
    }

    /// The next frame is waited for as the first one.
    pub(crate) fn begin(&mut self) {
        (self.in_vain, self.saw) = (0, false);
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
        self.search(scaler, frame, geometry, Search::At(place))
    }

    fn search(
        &mut self,
        scaler: &mut Scaler,
        frame: &Frame<'_>,
        geometry: &Geometry,
        search: Search,
    ) -> Result<Option<Vec<u8>>> {
        let place = match search {
            Search::At(place) => Some(place),
            Search::Thorough | Search::Waiting => None,
        };
        let whole = self.for_frame(frame).look(scaler, frame, None, false)?;
        let found = whole.people(place);
        let mut part = found.and_then(|(part, share)| (share >= SMALLEST).then_some(part));
        let is_due = match search {
            Search::Thorough => true,
            Search::Waiting => {
                let saw = std::mem::replace(&mut self.saw, part.is_some());
                let appeared = part.is_some() && !saw;
                appeared || self.in_vain.is_multiple_of(DETECTED_EVERY)
            }
            // Without looks at bodies nobody is told from others.
            Search::At(_) => self.body.is_some(),
        };
        let detects = self.detects();
        if is_due && detects && self.detector.is_none() {
            self.detector = Some(Detector::open(&self.engine, &self.package)?);
        }
        let figures = match &mut self.detector {
            Some(detector) if is_due => detector.find(scaler, frame, part)?,
            // What the segmentation sees is not believed without it.
            _ if detects && place.is_none() => return Ok(None),
            _ => Vec::new(),
        };
        let found = self.look_at_figures(scaler, frame, &figures, place)?;
        let figures = match place {
            Some(_) => found.meant.iter().map(|seeing| seeing.figure).collect(),
            None => figures,
        };
        let meant = figures.first().filter(|_| place.is_some());
        let is_whole = found.meant.iter().any(Seeing::is_whole);
        match meant.filter(|_| is_whole) {
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
        let mut seen = Seen {
            looks,
            figures: found.meant,
            rivals: found.rivals,
            unseen: found.unseen,
            ..Seen::default()
        };
        seen.weigh_figures();
        // To a segmentation that is asked where the person is, mountains and shelves are people; but it is not sure of them, or
        // the look at a body is not.
        let is_unsure = figures.is_empty() && detects && place.is_none();
        let overview = Overview::of(frame, &seen);
        seen.near = overview.near();
        if is_unsure {
            let cells = overview.map.iter().zip(&seen.near.map);
            let seen_near = cells.filter(|(_, near)| **near > 0);
            let doubt = doubt(seen_near.map(|(p, _)| *p));
            log::debug!("nobody was found where somebody is seen, doubt {doubt:.2}");
            if doubt > DOUBT {
                return Ok(None);
            }
        }
        let seen = self.with_bodies(scaler, frame, seen, &overview, &figures, place)?;
        let agrees = |body: &Body| body.weight >= HALF_WEIGHT;
        if is_unsure && self.body.is_some() && !seen.bodies.iter().any(agrees) {
            return Ok(None);
        }
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
    ) -> Result<Found> {
        let mut found = Found::default();
        let Some(finder) = &mut self.body else {
            return Ok(found);
        };
        let order = |figure: &Figure| match place {
            Some(place) => f64::from(figure.distance(place)),
            None => -figure.circle[2] * figure.circle[3],
        };
        let (mut figures, close): (Vec<&Figure>, Vec<&Figure>) = figures
            .iter()
            .partition(|figure| Seeing::counts(figure) > 0.0);
        figures.sort_by(|a, b| order(a).total_cmp(&order(b)));
        let rest = figures.split_off(figures.len().min(MOST_BODIES));
        for figure in figures {
            let look = finder.look_twice(scaler, frame, figure.square())?;
            found.meant.push(Seeing::new(figure, look));
        }
        found.unseen = close
            .iter()
            .chain(&rest)
            .map(|figure| figure.square())
            .collect();
        let Some(place) = place else {
            return Ok(found);
        };
        let sees = |seeing: &Seeing| seeing.look.at(place.0, place.1) >= THRESHOLD;
        let claim = |seeing: &Seeing| {
            if sees(seeing) {
                seeing.claim(place)
            } else {
                f32::MIN
            }
        };
        found.meant.sort_by(|a, b| claim(b).total_cmp(&claim(a)));
        // A face close to the camera is before whoever else is there, and no look at a body tells it apart.
        let is_close = close.iter().any(|figure| lies_in(figure.head, place));
        if found.meant.first().is_some_and(sees) && !is_close {
            found.rivals = found.meant.split_off(1);
        } else {
            found.meant.clear();
        }
        Ok(found)
    }

    /// Looks at the body of each person who was found, or of the one at a place, but for those whom the detector has found
    /// whole; and at what the detector has missed.
    fn with_bodies(
        &mut self,
        scaler: &mut Scaler,
        frame: &Frame<'_>,
        mut seen: Seen,
        overview: &Overview,
        figures: &[Figure],
        place: Option<(f64, f64)>,
    ) -> Result<Seen> {
        let detects = self.detects();
        let Some(finder) = &mut self.body else {
            return Ok(seen);
        };
        let aspect = aspect(frame);
        let Overview { size, places, map } = overview;
        let size = *size;
        let people = match place {
            Some(place) => apart(&component(map, size, place, |p| *p >= THRESHOLD), size),
            None => apart(map, size),
        };
        let figures_in = |person: &Component| -> Vec<&Figure> {
            let heads = figures.iter();
            heads
                .filter(|figure| has_head_of(&person.cells, figure, places))
                .collect()
        };
        let mut squares = MOST_SQUARES.saturating_sub(seen.figures.len() + seen.rivals.len());
        let mut things = vec![0; map.len()];
        // Whether a cell is of what may be somebody, where that has been asked.
        let mut told = vec![None; map.len()];
        for person in people.iter().take(MOST_BODIES) {
            let (own, bounds) = (figures_in(person), person.bounds);
            let is_whole = |figure: &&Figure| {
                let mut looks = seen.figures.iter();
                looks.any(|seeing| seeing.figure == **figure && seeing.is_whole())
            };
            let are_whole = !own.is_empty() && own.iter().all(is_whole);
            if are_whole || seen.weight_of(&[], bounds).is_none() {
                continue;
            }
            // People side by side are guessed at only where nothing tells them apart.
            let is_missed = own.is_empty() && place.is_none() && detects;
            let most = if is_missed { 1 } else { ABREAST.len() };
            let doubt = doubt(person.cells.iter().map(|i| map[*i]));
            // To a look at a body a post is somebody, too.
            let detector = &mut self.detector;
            let known = &seen.figures;
            let may_be =
                !is_missed || is_borne_out(detector, scaler, frame, person, places, doubt, known)?;
            for cell in person.cells.iter().filter(|_| is_missed) {
                told[*cell] = Some(may_be);
            }
            if !may_be && !known.is_empty() {
                continue;
            }
            let mut best: Option<Body> = None;
            for count in 1..=most {
                let parts = abreast(bounds, count, aspect);
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
            // What the segmentation is sure of stays, whatever it is.
            let is_nobody = best.as_ref().is_some_and(|best| best.weight == 0.0);
            if is_missed && is_nobody && doubt > DOUBT {
                for cell in &person.cells {
                    things[*cell] = 1;
                }
            } else if may_be {
                seen.bodies.extend(best);
            }
        }
        seen.things = Cells { map: things, size };
        if place.is_none() && !seen.figures.is_empty() {
            self.look_at_the_rest(scaler, frame, &mut seen, overview, &told, squares)?;
        }
        Ok(seen)
    }

    /// What no look at a figure sees is somebody whom the detector has missed; a part of a figure that a look with more room
    /// sees; or a thing. So many squares may be looked into.
    fn look_at_the_rest(
        &mut self,
        scaler: &mut Scaler,
        frame: &Frame<'_>,
        seen: &mut Seen,
        Overview { size, places, .. }: &Overview,
        told: &[Option<bool>],
        mut squares: usize,
    ) -> Result<()> {
        let Some(finder) = &mut self.body else {
            return Ok(());
        };
        let aspect = aspect(frame);
        let size = *size;
        let mut things = std::mem::take(&mut seen.things).map;
        let rest: Vec<f32> = (places.iter().zip(&things))
            .map(
                |(place, thing)| match *thing > 0 || seen.is_figures(*place) {
                    true => 0.0,
                    false => seen.with_bodies(*place),
                },
            )
            .collect();
        let mean = |looks: &[Look], cells: &[usize]| {
            let at = |i: &usize| body_at(looks, places[*i]).unwrap_or_default();
            cells.iter().map(at).sum::<f32>() / cells.len().max(1) as f32
        };
        let mut others = vec![0; rest.len()];
        // Whose look disagrees with what is certain is where the head is, whatever that look says.
        let faces: Vec<Part> = (seen.figures.iter())
            .filter(|seeing| !seeing.is_trusted())
            .map(|seeing| seeing.figure.face())
            .collect();
        let mut wide: Vec<Look> = Vec::new();
        for component in apart(&rest, size) {
            let (bounds, cells) = (component.bounds, &component.cells);
            // What nobody has looked at stays, and who was found.
            let mut is_thing = false;
            let is_found = |i: &usize| {
                let place = places[*i];
                seen.is_unseen(place) || faces.iter().any(|face| lies_in(*face, place))
            };
            if squares > 0 && !cells.iter().any(is_found) {
                let doubt = doubt(cells.iter().map(|i| rest[*i]));
                let was_told = |is| cells.iter().any(|i| told[*i] == Some(is));
                let detector = &mut self.detector;
                let may_be = match (was_told(true), was_told(false)) {
                    (true, _) => true,
                    (false, true) => false,
                    (false, false) => {
                        let known = &seen.figures;
                        is_borne_out(detector, scaler, frame, &component, places, doubt, known)?
                    }
                };
                let square = if may_be {
                    squares -= 1;
                    abreast(bounds, 1, aspect)
                } else {
                    Vec::new()
                };
                let looks = square
                    .into_iter()
                    .map(|part| finder.look_twice(scaler, frame, part));
                let looks: Vec<Look> = looks.collect::<Result<_>>()?;
                let weight = body_weight(mean(&looks, cells));
                if weight > 0.0 {
                    let is_close = false;
                    seen.bodies.push(Body {
                        looks,
                        bounds,
                        weight,
                        is_close,
                    });
                } else {
                    if wide.is_empty() && squares >= seen.figures.len() {
                        squares -= seen.figures.len();
                        let more_room = |seeing: &Seeing| seeing.figure.square_with(MORE_ROOM);
                        let looks = seen.figures.iter().map(more_room);
                        let looks = looks.map(|part| finder.look_twice(scaler, frame, part));
                        wide = looks.collect::<Result<_>>()?;
                    }
                    let is_trusted = seen.figures.iter().any(|seeing| seeing.doubts() > 0.0);
                    is_thing = is_trusted && !wide.is_empty() && mean(&wide, cells) < THRESHOLD;
                }
                log::debug!(
                    "nobody in {bounds:.2?}: doubt {doubt:.2}, a look counts {weight:.2}, a thing: {is_thing}"
                );
            }
            let map = if is_thing { &mut things } else { &mut others };
            for cell in cells {
                map[*cell] = 1;
            }
        }
        let whole = seen.hanging_together(places, size.0, &others, &things);
        seen.whole = around(whole.into_iter().map(u8::from).collect(), size);
        seen.others = around(others, size);
        seen.things = Cells { map: things, size };
        Ok(())
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
        let mut mask = [0, 255, 255, 90, 90, 200, 200, 0, 0, 40].repeat(4);
        let matte = [0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0].repeat(4);
        keep_joined(&mut mask, (10, 4), &matte);
        assert_eq!(mask, [0, 255, 255, 90, 0, 0, 0, 0, 0, 0].repeat(4));
        // Half of the one, and a speck of the other, who is not known by it.
        let mut mask = [0, 255, 255, 90, 90, 200, 200, 0, 0, 40].repeat(4);
        let mut matte = [0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0].repeat(4);
        matte[5] = 1.0;
        keep_known(&mut mask, (10, 4), &matte);
        assert_eq!(mask, [0, 255, 255, 90, 0, 0, 0, 0, 0, 0].repeat(4));
        keep_known(&mut mask, (10, 4), &[0.0; 40]);
        assert_eq!(mask, [0; 40]);
    }
}
