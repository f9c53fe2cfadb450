//! What joins a matte from nowhere.
//!
//! The memory knows looks: a dark lorry that drives into the picture is as good a match for a dark coat as the coat. The
//! target itself comes from where it was, or is a person whom the segmentation sees. So where the target is such a person, a
//! part of the matte is a stray that hangs together with nothing that was there a frame ago, and in which the segmentation
//! sees nobody. It is cleared before the matte is drawn or remembered; what is remembered as background seldom comes back.
//! Where all of the matte is somewhere else, the picture is another one, and nothing is a stray.
//! What is thrown up and caught stays, as it comes out of a hand; what has left the picture and comes back by itself is a stray
//! until it touches the target.

/// Mean alpha from which there is something in a cell of the token grid.
const PRESENT: f32 = 0.02;
/// Mean probability from which the segmentation sees a person in a cell.
const PERSON: f32 = 0.2;
/// So many cells a part may have moved since the last frame, or the person since the hint was made.
const REACH: usize = 2;

/// Finds strays, from frame to frame of one geometry.
#[derive(Debug, Default)]
pub(crate) struct Strays {
    /// Whether the target was found by the person segmentation, or looked like it when it was named.
    pub(crate) target_is_person: bool,
    /// Where there was something a frame ago, on the token grid.
    before: Vec<bool>,
    /// What is looked at, and what of it has been visited.
    now: Vec<bool>,
    home: Vec<bool>,
    visited: Vec<bool>,
    /// Cells of the part that is looked at.
    part: Vec<usize>,
}

/// Grows what is marked by one cell on all eight sides.
fn grow(cells: &mut [bool], width: usize) {
    for row in cells.chunks_exact_mut(width) {
        let mut left = false;
        for x in 0..width {
            let own = row[x];
            let right = row.get(x + 1).copied().unwrap_or_default();
            row[x] = left || own || right;
            left = own;
        }
    }
    let height = cells.len() / width;
    for x in 0..width {
        let mut above = false;
        for y in 0..height {
            let own = cells[y * width + x];
            let below = y + 1 < height && cells[(y + 1) * width + x];
            cells[y * width + x] = above || own || below;
            above = own;
        }
    }
}

impl Strays {
    /// The next frame's matte is compared with nothing.
    pub(crate) fn forget(&mut self) {
        self.before.clear();
    }

    /// Marks in `stray` what is to be cleared; returns whether there is any. `cells` and `persons` are means of the matte and
    /// the probability of a person on the token grid, in rows of `width`. Without `persons` all is taken as it is.
    /// [`keep`](Self::keep) must follow before the next frame.
    pub(crate) fn find(
        &mut self,
        cells: &[f32],
        persons: Option<&[f32]>,
        width: usize,
        stray: &mut Vec<bool>,
    ) -> bool {
        stray.clear();
        stray.resize(cells.len(), false);
        self.now.clear();
        self.now.extend(cells.iter().map(|mean| *mean >= PRESENT));
        let known = self.before.len() == cells.len() && self.before.contains(&true);
        let mut any = false;
        if let Some(persons) = persons.filter(|persons| known && persons.len() == cells.len()) {
            self.home.clear();
            let seen = persons.iter().map(|p| *p >= PERSON);
            self.home.extend(
                self.before
                    .iter()
                    .zip(seen)
                    .map(|(before, seen)| *before || seen),
            );
            for _ in 0..REACH {
                grow(&mut self.home, width);
            }
            any = self.mark_parts(width, stray);
        }
        if any {
            for (now, stray) in self.now.iter_mut().zip(stray.iter()) {
                *now &= !stray;
            }
            // The faint rim goes along.
            grow(stray, width);
            for (stray, now) in stray.iter_mut().zip(&self.now) {
                *stray &= !now;
            }
        }
        any
    }

    /// What was found last, but for the strays, is where the target is.
    pub(crate) fn keep(&mut self) {
        std::mem::swap(&mut self.before, &mut self.now);
    }

    /// Marks the parts of `now` that nowhere touch `home`, if another part does.
    fn mark_parts(&mut self, width: usize, stray: &mut [bool]) -> bool {
        let height = self.now.len() / width;
        self.visited.clear();
        self.visited.resize(self.now.len(), false);
        let (mut any, mut rest) = (false, false);
        for start in 0..self.now.len() {
            if !self.now[start] || std::mem::replace(&mut self.visited[start], true) {
                continue;
            }
            self.part.clear();
            self.part.push(start);
            let (mut next, mut at_home) = (0, false);
            while let Some(&cell) = self.part.get(next) {
                next += 1;
                at_home |= self.home[cell];
                let (x, y) = (cell % width, cell / width);
                for v in y.saturating_sub(1)..(y + 2).min(height) {
                    for u in x.saturating_sub(1)..(x + 2).min(width) {
                        let neighbour = v * width + u;
                        let is_new = !std::mem::replace(&mut self.visited[neighbour], true);
                        if is_new && self.now[neighbour] {
                            self.part.push(neighbour);
                        }
                    }
                }
            }
            rest |= at_home;
            if !at_home {
                any = true;
                for cell in &self.part {
                    stray[*cell] = true;
                }
            }
        }
        if !rest {
            stray.fill(false);
        }
        any && rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cells out of a drawing: `#` is full, all else empty.
    fn drawn(rows: &[&str]) -> (Vec<f32>, usize) {
        let cells = rows.iter().flat_map(|row| row.bytes());
        let cells = cells.map(|c| f32::from(u8::from(c == b'#'))).collect();
        (cells, rows[0].len())
    }

    fn marked(rows: &[&str]) -> Vec<bool> {
        drawn(rows).0.iter().map(|v| *v > 0.0).collect()
    }

    /// A frame: whether there were strays.
    fn next(
        finder: &mut Strays,
        cells: &[f32],
        persons: Option<&[f32]>,
        width: usize,
        stray: &mut Vec<bool>,
    ) -> bool {
        let any = finder.find(cells, persons, width, stray);
        finder.keep();
        any
    }

    fn strays(before: &[&str], now: &[&str], persons: &[&str]) -> (bool, Vec<bool>) {
        let (mut finder, mut stray) = (Strays::default(), Vec::new());
        let (before, width) = drawn(before);
        assert!(!next(
            &mut finder,
            &before,
            Some(&drawn(persons).0),
            width,
            &mut stray
        ));
        let any = next(
            &mut finder,
            &drawn(now).0,
            Some(&drawn(persons).0),
            width,
            &mut stray,
        );
        (any, stray)
    }

    const NOBODY: [&str; 3] = ["............"; 3];

    #[test]
    fn what_comes_from_nowhere_is_a_stray_with_its_rim() {
        let before = ["........##..", "........##..", "........##.."];
        let now = ["........##..", "#.......##..", "#.......##.."];
        let (any, stray) = strays(&before, &now, &NOBODY);
        assert!(any);
        let wanted = ["##..........", "##..........", "##.........."];
        assert_eq!(stray, marked(&wanted));
    }

    #[test]
    fn what_moves_on_is_none() {
        // A ball two cells further on, an arm that is stretched out at once.
        let before = ["##........#..", "##...........", "##..........."];
        let now = ["##......#....", "#######......", "##..........."];
        assert!(!strays(&before, &now, &["............."; 3]).0);
    }

    #[test]
    fn a_person_may_come_from_nowhere() {
        let before = ["........##..", "........##..", "........##.."];
        let now = ["#.......##..", "#.......##..", "#.......##.."];
        let persons = ["............", "............", "..#.....##.."];
        assert!(!strays(&before, &now, &persons).0);
    }

    #[test]
    fn nothing_is_a_stray_where_nothing_is_known() {
        let now = ["#.......##..", "#.......##..", "#.......##.."];
        let mut stray = Vec::new();
        let mut finder = Strays::default();
        let (now, width) = drawn(&now);
        let (before, _) = drawn(&["........##..", "........##..", "........##.."]);
        let persons = drawn(&NOBODY).0;
        // The first frame; without the segmentation; after everything was forgotten; after an empty matte; another grid.
        assert!(!next(&mut finder, &now, Some(&persons), width, &mut stray));
        next(&mut finder, &before, None, width, &mut stray);
        assert!(!next(&mut finder, &now, None, width, &mut stray));
        next(&mut finder, &before, None, width, &mut stray);
        finder.forget();
        assert!(!next(&mut finder, &now, Some(&persons), width, &mut stray));
        next(&mut finder, &persons, None, width, &mut stray);
        assert!(!next(&mut finder, &now, Some(&persons), width, &mut stray));
        next(&mut finder, &before[..24], None, width, &mut stray);
        assert!(!next(&mut finder, &now, Some(&persons), width, &mut stray));
        assert!(stray.iter().all(|stray| !stray));
    }

    #[test]
    fn a_stray_stays_one_while_it_moves() {
        let (mut finder, mut stray) = (Strays::default(), Vec::new());
        let (before, width) = drawn(&["........##..", "........##..", "........##.."]);
        let persons = drawn(&NOBODY).0;
        next(&mut finder, &before, None, width, &mut stray);
        for step in 0..4 {
            let mut now = before.clone();
            now[step] = 1.0;
            assert!(
                next(&mut finder, &now, Some(&persons), width, &mut stray),
                "{step}"
            );
            assert!(stray[step]);
        }
        // At the target it cannot be told from it any more.
        let mut now = before.clone();
        now[6] = 1.0;
        assert!(!next(&mut finder, &now, Some(&persons), width, &mut stray));
    }

    #[test]
    fn where_everything_is_elsewhere_nothing_is_a_stray() {
        let before = ["#...........", "#...........", "............"];
        let now = ["........##..", "........##..", "........##.."];
        assert!(!strays(&before, &now, &NOBODY).0);
    }

    #[test]
    fn a_second_look_decides() {
        let (mut finder, mut stray) = (Strays::default(), Vec::new());
        let (before, width) = drawn(&["........##..", "........##..", "........##.."]);
        let (now, _) = drawn(&["#.......##..", "#.......##..", "#.......##.."]);
        let persons = drawn(&NOBODY).0;
        next(&mut finder, &before, None, width, &mut stray);
        // With a hint that is old somebody is a stray, with a fresh one none.
        assert!(finder.find(&now, Some(&persons), width, &mut stray));
        assert!(!finder.find(&now, Some(&now), width, &mut stray));
        finder.keep();
        assert!(!next(&mut finder, &now, Some(&persons), width, &mut stray));
    }

    #[test]
    fn growing_reaches_all_eight_neighbours() {
        let mut cells = marked(&[".....", "..#..", ".....", "....#"]);
        grow(&mut cells, 5);
        let wanted = [".###.", ".###.", ".####", "...##"];
        assert_eq!(cells, marked(&wanted));
    }
}
