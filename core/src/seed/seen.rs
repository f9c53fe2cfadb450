//! What several looks at the people in a frame make of them together.

use super::figures::Figure;
use super::look::{Look, Part, lies_in, square_around, within};
use super::maps::{THRESHOLD, rise};
use super::reached;

/// Side of the square in which one person's body is looked at, in longer sides of what was found of them.
const ROOM_FOR_BODY: f64 = 1.5;
/// From here on a pixel belongs to a person for certain.
const CERTAIN: f32 = 0.8;
/// What the body's look must give to what is certainly a person, on average, to count at all, and in full: it knows whole
/// figures, and loses the shoulders of a face that fills the picture.
const BODY_AGREES: [f32; 2] = [0.5, 0.7];
/// What it counts then, where it is sure of more than the other looks see, or where they are in doubt.
pub(super) const BODY_WEIGHT: f32 = 0.85;
/// Probabilities from which it begins to be sure of a person, and is.
const BODY_SURE: [f32; 2] = [0.5, 0.8];
/// Probabilities from which the other looks begin to be sure of a person, and are: it counts nothing then.
const PEOPLE_SURE: [f32; 2] = [0.65, 0.95];

/// How much of a body's circle the frame shows from which the look at it counts, and counts in full: what it adds, and what
/// it takes from the doubt of others.
const FIGURE_COUNTS: [f32; 2] = [0.2, 0.4];
/// The same, for what it takes from what others are sure of: the bag on a chair, the laptop before somebody.
const FIGURE_REMOVES: [f32; 2] = [0.45, 0.65];
/// From here on a figure needs no other look at the body.
const WHOLE_FIGURE: f32 = 0.4;
/// What looks at figures must give to what is certainly a person around one of them, on average, to deny anything, and to do so in
/// full: the look at somebody who lies or stands on their hands is a poor one. Things that are taken for a part of people cost
/// them some of it.
const FIGURE_AGREES: [f32; 2] = [0.3, 0.5];
/// From here on a figure's look agrees with what is certain.
const TRUSTED: f32 = 0.5;
/// Below this it is a face close to the camera.
const CLOSE: f32 = 0.3;
/// By how much the claim of somebody else must be higher than that of the person who is meant to take a pixel, and take it
/// whole.
const RIVAL: [f32; 2] = [0.1, 0.5];
/// What a radius of distance from the middle of a body takes from its claim.
const DISTANCE: f32 = 2.0;

/// A person's body, looked at by itself; or those of a few people who touch each other, each looked at by itself.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) looks: Vec<Look>,
    /// What had been found of them.
    pub(super) bounds: Part,
    pub(super) weight: f32,
    /// Whether it is a face close to the camera: nothing is added far from what the others see.
    pub(super) is_close: bool,
}

/// A look at the body of somebody whom the detector found.
#[derive(Debug)]
pub(super) struct Seeing {
    pub(super) figure: Figure,
    pub(super) look: Look,
    /// What it counts where it adds to the other looks, and where it denies what they are sure of, as far as it agrees.
    pub(super) counts: f32,
    pub(super) removes: f32,
    /// How far it agrees with what is certain, 0 to 1.
    pub(super) agrees: f32,
}

impl Seeing {
    pub(super) fn counts(figure: &Figure) -> f32 {
        rise(figure.visible(), FIGURE_COUNTS)
    }

    pub(super) fn new(figure: &Figure, look: Look) -> Self {
        Self {
            figure: *figure,
            look,
            counts: Self::counts(figure),
            removes: rise(figure.visible(), FIGURE_REMOVES),
            agrees: 1.0,
        }
    }

    /// What it counts where the other looks are in doubt.
    pub(super) fn doubts(&self) -> f32 {
        self.counts * self.agrees
    }

    /// How far a place is theirs: each look may see some of somebody else, and what several see is the one's whose middle is
    /// nearest.
    pub(super) fn claim(&self, place: (f64, f64)) -> f32 {
        self.look.at(place.0, place.1) - DISTANCE * self.figure.distance(place)
    }

    /// Whether it agrees with what is certain.
    pub(super) fn is_trusted(&self) -> bool {
        self.agrees >= TRUSTED
    }

    /// Whether it needs no other look at the body.
    pub(super) fn is_whole(&self) -> bool {
        self.figure.visible() >= WHOLE_FIGURE && self.is_trusted()
    }
}

/// Whether these people are all faces close to the camera.
pub(super) fn are_close(figures: &[&Figure]) -> bool {
    !figures.is_empty() && figures.iter().all(|f| f.visible() < CLOSE)
}

/// Probability of a person at a place of the frame by looks at bodies, the highest; none beyond all of them.
pub(super) fn body_at(looks: &[Look], (x, y): (f64, f64)) -> Option<f32> {
    looks
        .iter()
        .filter(|look| lies_in(look.part, (x, y)))
        .map(|look| look.at(x, y))
        .reduce(f32::max)
}

/// What is found of one, two and three people side by side is at least so wide for its height.
pub(super) const ABREAST: [f64; 3] = [0.0, 0.8, 1.4];

/// Squares in which to look at the bodies of so many people side by side, who were found as one; none where what was found
/// is too narrow for them. `aspect` is that of the frame.
pub(super) fn abreast([x, y, w, h]: Part, count: usize, aspect: f64) -> Vec<Part> {
    if w * aspect < ABREAST[count - 1] * h {
        return Vec::new();
    }
    let each = w / count as f64;
    (0..count)
        .map(|i| [x + i as f64 * each, y, each, h])
        .map(|part| square_around(part, aspect, ROOM_FOR_BODY))
        .collect()
}

/// Places of the frame, in cells.
#[derive(Debug, Default)]
pub(super) struct Cells {
    /// Not 0 where a cell belongs to them.
    pub(super) map: Vec<u8>,
    pub(super) size: (usize, usize),
}

impl Cells {
    fn hold(&self, (x, y): (f64, f64)) -> bool {
        let (columns, rows) = self.size;
        let at = |v: f64, n: usize| ((v * n as f64) as usize).min(n.saturating_sub(1));
        (self.map.get(at(y, rows) * columns + at(x, columns))).is_some_and(|cell| *cell > 0)
    }
}

/// All that was seen of the people in a frame.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) looks: Vec<(Look, f32)>,
    pub(super) bodies: Vec<Body>,
    pub(super) figures: Vec<Seeing>,
    /// Where there are people who were found, but at whose bodies nobody has looked: nothing is denied there.
    pub(super) unseen: Vec<Part>,
    /// People who are not meant, where one is.
    pub(super) rivals: Vec<Seeing>,
    /// In and close around what the looks at everybody see.
    pub(super) near: Cells,
    /// In and close around people whom no look at a figure sees.
    pub(super) others: Cells,
    /// In and close around what hangs together with what looks at figures see; empty where nothing has been looked for.
    pub(super) whole: Cells,
    /// Things that the looks at everybody take for people, and that no look at a body sees.
    pub(super) things: Cells,
}

impl Seen {
    /// Probability of a person at a place of the frame, by the looks at everybody.
    pub(super) fn people_at(&self, x: f64, y: f64) -> f32 {
        self.looks
            .iter()
            .map(|(look, weight)| look.at(x, y) * weight)
            .sum()
    }

    /// Probability of a person at a place of the frame, or of the one who is meant.
    pub(super) fn at(&self, x: f64, y: f64) -> f32 {
        let place = (x, y);
        let person = self.with_figures(self.with_bodies(place), place);
        let claim = |seeing: &Seeing| seeing.claim(place);
        let Some(own) = self.figures.iter().map(claim).reduce(f32::max) else {
            return person;
        };
        let lost = |rival: &Seeing| {
            let sees = rival.counts * rise(rival.look.at(x, y), BODY_SURE);
            sees * rise(rival.claim(place) - own, RIVAL)
        };
        person * (1.0 - self.rivals.iter().map(lost).fold(0.0, f32::max))
    }

    /// Probability of a person, without what the detector has found.
    ///
    /// The looks at everybody see heads and shoulders well, forearms and small figures badly; those at one body the other
    /// way round. So the latter count where they are sure of more, and where the former are in doubt. Nobody's look denies
    /// what was found of somebody else.
    pub(super) fn with_bodies(&self, place: (f64, f64)) -> f32 {
        let people = self.people_at(place.0, place.1);
        let (mut raised, mut lowered) = (people, people);
        for (i, body) in self.bodies.iter().enumerate() {
            let Some(person) = body_at(&body.looks, place) else {
                continue;
            };
            if person > people {
                let counts = body.weight * rise(person, BODY_SURE);
                if !body.is_close || self.near.hold(place) {
                    raised = raised.max(people + (person - people) * counts);
                }
            } else if !self.is_anothers(i, place) {
                let counts = body.weight * (1.0 - rise(people, PEOPLE_SURE));
                lowered = lowered.min(people + (person - people) * counts);
            }
        }
        match raised > people {
            true => raised.min(1.0),
            false => lowered.max(0.0),
        }
    }

    /// The detector knows where whole figures are, and so the looks at their bodies are right about what else a segmentation
    /// takes for a part of them. A look at somebody of whom the frame shows little counts less. Where several people are
    /// looked at, all of them must deny what is to go.
    fn with_figures(&self, people: f32, place: (f64, f64)) -> f32 {
        let (mut person, mut raised) = (0.0f32, people);
        let (mut doubts, mut removes) = (f32::INFINITY, f32::INFINITY);
        for figure in self.figures.iter().filter(|f| lies_in(f.look.part, place)) {
            let own = figure.look.at(place.0, place.1);
            person = person.max(own);
            raised = raised.max(people + (own - people) * figure.counts);
            doubts = doubts.min(figure.doubts());
            removes = removes.min(figure.removes * figure.agrees);
        }
        if person > people || self.is_unseen(place) || self.others.hold(place) {
            return raised;
        }
        if doubts == f32::INFINITY {
            // What is too small to be looked at, and hangs together with nobody, is nothing.
            let is_told = self.figures.iter().any(Seeing::is_trusted) && !self.whole.map.is_empty();
            let is_nothing = is_told && !self.whole.hold(place);
            return if is_nothing || self.things.hold(place) {
                0.0
            } else {
                people
            };
        }
        if self.things.hold(place) {
            removes = doubts;
        }
        let counts = (doubts * (1.0 - rise(people, PEOPLE_SURE))).max(removes);
        people + (person - people) * counts
    }

    /// Whether a look at a figure sees them at a place.
    pub(super) fn is_figures(&self, (x, y): (f64, f64)) -> bool {
        let mut looks = self.figures.iter().map(|figure| figure.look.at(x, y));
        looks.any(|p| p >= THRESHOLD)
    }

    /// Whether there may be somebody at a place at whose body nobody has looked.
    pub(super) fn is_unseen(&self, place: (f64, f64)) -> bool {
        self.unseen.iter().any(|part| lies_in(*part, place))
    }

    /// Marks what hangs together with what looks at figures see, with the marked cells of others, and with those at whose bodies
    /// nobody has looked; not through things.
    pub(super) fn hanging_together(
        &self,
        places: &[(f64, f64)],
        width: usize,
        others: &[u8],
        things: &[u8],
    ) -> Vec<bool> {
        // Whatever a look denies may lead to a hand that lies beyond it.
        let map: Vec<f32> = (places.iter().zip(things))
            .map(|(place, thing)| match *thing > 0 {
                true => 0.0,
                false => self.with_bodies(*place).max(self.at(place.0, place.1)),
            })
            .collect();
        let is_somebody = |i: &usize| {
            let place = places[*i];
            others[*i] > 0 || self.is_figures(place) || self.is_unseen(place)
        };
        let start = (0..map.len()).filter(is_somebody);
        reached(&map, width, |p| *p >= THRESHOLD, start)
    }

    /// Lets looks at figures deny only as far as they agree with what is certain.
    pub(super) fn weigh_figures(&mut self) {
        let agreements: Vec<f32> = (self.figures.iter())
            .map(|seeing| self.agreement(within(seeing.figure.circle)))
            .map(|agreement| agreement.map_or(1.0, |agreement| rise(agreement, FIGURE_AGREES)))
            .collect();
        for (seeing, agreement) in self.figures.iter_mut().zip(agreements) {
            seeing.agrees = agreement;
        }
    }

    /// What looks at figures give to what is certainly a person in a part of the frame, on average; none where nothing is.
    fn agreement(&self, part: Part) -> Option<f32> {
        mean_over(part, |x, y| {
            let looks = self.figures.iter().chain(&self.rivals);
            let looks = looks.map(|seeing| seeing.look.at(x, y));
            let is_certain = self.people_at(x, y) >= CERTAIN;
            is_certain.then(|| looks.fold(0.0, f32::max))
        })
    }

    fn is_anothers(&self, body: usize, place: (f64, f64)) -> bool {
        let mut others = self.bodies.iter().enumerate().filter(|(i, _)| *i != body);
        others.any(|(_, other)| lies_in(other.bounds, place))
    }

    /// How far looks at the body in `bounds` agree with the looks at everybody, as what they count; none where the latter are
    /// certain of nothing.
    pub(super) fn weight_of(&self, looks: &[Look], bounds: Part) -> Option<f32> {
        let agreement = mean_over(bounds, |x, y| {
            let is_certain = self.people_at(x, y) >= CERTAIN;
            is_certain.then(|| body_at(looks, (x, y)).unwrap_or_default())
        });
        agreement.map(body_weight)
    }
}

/// What of probabilities is doubt, as a share of what they see.
pub(super) fn doubt(probabilities: impl Iterator<Item = f32>) -> f32 {
    let (mut doubt, mut sum) = (0.0, 0.0);
    for p in probabilities {
        doubt += p.min(1.0 - p);
        sum += p;
    }
    doubt / f32::max(sum, f32::MIN_POSITIVE)
}

/// What a look at a body counts that gives so much to what is certainly a person.
pub(super) fn body_weight(agreement: f32) -> f32 {
    BODY_WEIGHT * rise(agreement, BODY_AGREES)
}

/// Mean over a part of the frame, of places where there is a value; none where there is nowhere.
fn mean_over(
    [left, top, width, height]: Part,
    value: impl Fn(f64, f64) -> Option<f32>,
) -> Option<f32> {
    const STEPS: usize = 64;
    let (mut sum, mut count) = (0.0, 0u32);
    for v in 0..STEPS {
        let y = top + height * (v as f64 + 0.5) / STEPS as f64;
        for u in 0..STEPS {
            let x = left + width * (u as f64 + 0.5) / STEPS as f64;
            if let Some(value) = value(x, y) {
                sum += value;
                count += 1;
            }
        }
    }
    (count > 0).then(|| sum / count as f32)
}

#[cfg(test)]
mod tests {
    use super::super::look::WHOLE;
    use super::*;

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
            ..Seen::default()
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
            is_close: false,
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
            is_close: false,
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

    /// A look at the whole frame, of so many columns.
    fn columns(map: &[f32]) -> Look {
        Look {
            map: map.to_vec(),
            size: (map.len(), 1),
            part: WHOLE,
        }
    }

    /// Somebody whom the detector has found in the left half of the frame, given what everybody's look sees at eight places, and
    /// the look at them at four.
    fn figure_on_the_left(everybody: &[f32], own: &[f32]) -> Seen {
        let left = [0.0, 0.0, 0.5, 1.0];
        let figure = Figure {
            score: 0.9,
            head: [0.1, 0.0, 0.1, 0.2],
            circle: left,
        };
        let look = Look {
            part: left,
            ..columns(own)
        };
        Seen {
            looks: vec![(columns(everybody), 1.0)],
            figures: vec![Seeing::new(&figure, look)],
            ..Seen::default()
        }
    }

    #[test]
    fn a_hand_beyond_the_look_at_its_figure_hangs_together_with_it() {
        // The look at the figure misses the forearm that leads to the hand; somebody else on the right.
        let seen = figure_on_the_left(
            &[0.1, 0.9, 0.9, 0.6, 0.7, 0.1, 0.7, 0.8],
            &[0.1, 0.9, 0.9, 0.0],
        );
        let places: Vec<(f64, f64)> = (0..8).map(|i| ((f64::from(i) + 0.5) / 8.0, 0.5)).collect();
        assert!(seen.at(places[3].0, 0.5) < THRESHOLD, "denied");
        let whole = |others: [u8; 8], things: [u8; 8]| {
            let marks = seen.hanging_together(&places, 8, &others, &things);
            marks.into_iter().map(u8::from).collect::<Vec<_>>()
        };
        assert_eq!(whole([0; 8], [0; 8]), [0, 1, 1, 1, 1, 0, 0, 0]);
        let (somebody, a_thing) = ([0, 0, 0, 0, 0, 0, 0, 1], [0, 0, 0, 1, 0, 0, 0, 0]);
        assert_eq!(whole(somebody, a_thing), [0, 1, 1, 0, 0, 0, 1, 1]);
    }

    #[test]
    fn what_hangs_together_with_nobody_is_nothing() {
        // Something small far to the right, and a hand that reaches out of the look at the figure.
        let mut seen = figure_on_the_left(
            &[0.1, 0.9, 0.9, 0.9, 0.7, 0.1, 0.1, 0.7],
            &[0.1, 0.9, 0.9, 0.9],
        );
        let at = |seen: &Seen, i: usize| seen.at((i as f64 + 0.5) / 8.0, 0.5);
        assert!((at(&seen, 7) - 0.7).abs() < 1e-6, "nobody has looked");
        seen.whole = Cells {
            map: vec![0, 1, 1, 1, 1, 1, 0, 0],
            size: (8, 1),
        };
        assert!(at(&seen, 4) > 0.6 && at(&seen, 2) > 0.8);
        assert!(at(&seen, 7).abs() < 1e-6);
        // A look that disagrees with what is certain tells nothing.
        seen.figures[0].agrees = 0.0;
        assert!((at(&seen, 7) - 0.7).abs() < 1e-6);
    }

    #[test]
    fn a_face_close_to_the_camera_gets_nothing_from_afar() {
        let mut seen = Seen {
            looks: vec![(columns(&[0.9, 0.9, 0.1, 0.1]), 1.0)],
            near: Cells {
                map: vec![1, 1, 1, 0],
                size: (4, 1),
            },
            ..Seen::default()
        };
        seen.bodies.push(Body {
            looks: vec![columns(&[1.0; 4])],
            bounds: [0.0, 0.0, 0.5, 1.0],
            weight: BODY_WEIGHT,
            is_close: true,
        });
        let at = |seen: &Seen, i: usize| seen.at((i as f64 + 0.5) / 4.0, 0.5);
        assert!(at(&seen, 2) > 0.8 && at(&seen, 3) < 0.2);
        seen.bodies[0].is_close = false;
        assert!(at(&seen, 3) > 0.8);
    }

    #[test]
    fn figures_count_by_how_much_of_them_is_seen() {
        let mut seen = Seen {
            // A person with a bag that is taken for a part of them, doubt, and an arm that is not seen.
            looks: vec![(columns(&[1.0, 1.0, 0.6, 0.0]), 1.0)],
            ..Seen::default()
        };
        let figure = Figure {
            score: 1.0,
            head: WHOLE,
            circle: WHOLE,
        };
        seen.figures.push(Seeing {
            figure,
            look: columns(&[1.0, 0.0, 0.0, 1.0]),
            counts: 1.0,
            removes: 1.0,
            agrees: 1.0,
        });
        let all = |seen: &Seen| -> [i32; 4] {
            let at = |i: usize| seen.at((i as f64 + 0.5) / 4.0, 0.5) * 100.0;
            std::array::from_fn(|i| at(i).round() as i32)
        };
        assert_eq!(all(&seen), [100, 0, 0, 100]);
        // Less of them is seen: the bag stays.
        seen.figures[0].removes = 0.0;
        assert_eq!(all(&seen), [100, 100, 0, 100]);
        seen.figures[0].counts = 0.0;
        assert_eq!(all(&seen), [100, 100, 60, 0]);
        // Nothing is denied where there is somebody at whom nobody has looked, nor whom no look at a figure sees.
        seen.figures[0].counts = 1.0;
        seen.figures[0].removes = 1.0;
        seen.unseen.push([0.25, 0.0, 0.25, 1.0]);
        assert_eq!(all(&seen), [100, 100, 0, 100]);
        seen.unseen.clear();
        (seen.figures[0].removes, seen.figures[0].agrees) = (0.0, 0.9);
        seen.things = Cells {
            map: vec![0, 1, 0, 0],
            size: (4, 1),
        };
        assert_eq!(all(&seen), [100, 10, 6, 100]);
        (seen.figures[0].removes, seen.figures[0].agrees) = (1.0, 1.0);
        seen.others = Cells {
            map: vec![0, 1, 0, 0],
            size: (4, 1),
        };
        assert_eq!(all(&seen), [100, 100, 0, 100]);
        seen.others = Cells::default();
        // Where no figure is looked at, things go, but not where somebody was found.
        seen.figures[0].look.part = [0.0, 0.0, 0.25, 1.0];
        assert_eq!(all(&seen)[1..], [0, 60, 0]);
        seen.unseen.push([0.25, 0.0, 0.25, 1.0]);
        assert_eq!(all(&seen)[1..], [100, 60, 0]);
        seen.unseen.clear();
        seen.figures[0].look.part = WHOLE;
        seen.things = Cells::default();
        // Who is meant, and somebody beside them.
        seen.others = Cells::default();
        seen.figures[0].removes = 0.0;
        let rival = |map: &[f32], circle: Part| Seeing {
            figure: Figure { circle, ..figure },
            look: columns(map),
            counts: 1.0,
            removes: 0.0,
            agrees: 1.0,
        };
        seen.rivals.push(rival(&[0.2, 1.0, 0.0, 1.0], WHOLE));
        assert_eq!(all(&seen), [100, 0, 0, 100]);
        // What both see is the nearer one's.
        seen.rivals[0] = rival(&[1.0; 4], [0.0, 0.0, 0.5, 1.0]);
        seen.figures[0].look = columns(&[1.0; 4]);
        seen.figures[0].figure.circle = [0.5, 0.0, 0.5, 1.0];
        assert_eq!(all(&seen), [0, 0, 100, 100]);
        // What the rival does not see is not theirs, however near.
        seen.rivals[0].look = columns(&[1.0, 0.0, 1.0, 1.0]);
        assert_eq!(all(&seen), [0, 100, 100, 100]);
    }

    #[test]
    fn a_look_that_misses_what_is_certain_denies_nothing() {
        let figure = Figure {
            score: 1.0,
            head: WHOLE,
            circle: WHOLE,
        };
        let seen = |own: &[f32]| {
            let mut seen = Seen {
                looks: vec![(columns(&[1.0, 1.0, 1.0, 1.0, 0.6]), 1.0)],
                figures: vec![Seeing::new(&figure, columns(own))],
                ..Seen::default()
            };
            seen.weigh_figures();
            let at = |i: usize| (seen.at((i as f64 + 0.5) / 5.0, 0.5) * 100.0).round() as i32;
            (
                std::array::from_fn::<i32, 5, _>(at),
                seen.figures[0].is_whole(),
            )
        };
        // A bag is a part of what is certain; somebody who lies is missed for the most part.
        assert_eq!(
            seen(&[1.0, 1.0, 1.0, 0.0, 0.0]),
            ([100, 100, 100, 0, 0], true)
        );
        assert_eq!(
            seen(&[1.0, 0.0, 0.0, 0.0, 0.0]),
            ([100, 100, 100, 100, 60], false)
        );
    }
}
