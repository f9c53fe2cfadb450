//! What is left of the picture where there is no target.
//!
//! Straight alpha leaves the colour as it is under pixels that are not shown: who scales the picture, or draws its edges anew, needs
//! that of pixels beside the target. Of those further away nobody does, and whatever drops alpha would show the room.

use std::ops::Range;

use crate::pixel::rows::Planes;

/// Side of a cell, pixels of the frame. Colour is left in cells with something of the target, and in those around them.
const CELL: usize = 16;
/// Pixels of a smaller matte by which the guided filter may carry what is in one: two windows of its radius, and one for the
/// interpolation.
const CARRIED: usize = 7;

/// Cells of a frame in which, and around which, there is nothing of a target.
#[derive(Debug, Default)]
pub(crate) struct Hidden {
    columns: usize,
    width: usize,
    near: Vec<bool>,
    cells: Vec<bool>,
    /// Bits of the alphas below each other in a row of cells.
    bits: Vec<u32>,
}

/// The part of a map that a cell covers along one axis.
fn part(cell: usize, map: usize, frame: usize) -> Range<usize> {
    let end = ((cell + 1) * CELL).min(frame);
    cell * CELL * map / frame..(end * map).div_ceil(frame)
}

fn is_empty(alpha: &[u8]) -> bool {
    match <[u8; CELL]>::try_from(alpha) {
        Ok(cell) => u128::from_ne_bytes(cell) == 0,
        Err(_) => alpha.iter().all(|a| *a == 0),
    }
}

impl Hidden {
    /// Takes in a matte, 0 to 1, of a size that may be smaller than the frame's.
    pub(crate) fn look(&mut self, alpha: &[f32], size: (usize, usize), frame: (usize, usize)) {
        let (columns, rows) = (frame.0.div_ceil(CELL), frame.1.div_ceil(CELL));
        (self.columns, self.width) = (columns, frame.0);
        self.near.clear();
        self.near.resize(columns * rows, false);
        for (y, cells) in self.near.chunks_exact_mut(columns).enumerate() {
            self.bits.clear();
            self.bits.resize(size.0, 0);
            // In bits, because loops that look for the first one are not vectorised.
            for row in part(y, size.1, frame.1) {
                let row = &alpha[row * size.0..][..size.0];
                self.bits
                    .iter_mut()
                    .zip(row)
                    .for_each(|(b, a)| *b |= a.to_bits());
            }
            for (x, cell) in cells.iter_mut().enumerate() {
                let part = &self.bits[part(x, size.0, frame.0)];
                // All but the sign, which a zero may have.
                *cell = part.iter().fold(0, |all, bits| all | bits) << 1 != 0;
            }
        }
        self.cells.clear();
        let near = &self.near;
        let reach = |size: usize, frame: usize| (CARRIED * frame).div_ceil(size * CELL).max(1);
        let (wide, high) = (reach(size.0, frame.0), reach(size.1, frame.1));
        self.cells.extend((0..columns * rows).map(|i| {
            let (x, y) = (i % columns, i / columns);
            let across = x.saturating_sub(wide)..(x + wide + 1).min(columns);
            let mut around = y.saturating_sub(high)..(y + high + 1).min(rows);
            !around.any(|y| near[y * columns..][across.clone()].contains(&true))
        }));
    }

    /// Columns of a row, from left to right, in whose cells there is nothing, and nothing of the row's alpha either.
    pub(crate) fn columns<'a>(
        &'a self,
        y: usize,
        alpha: &'a [u8],
    ) -> impl Iterator<Item = Range<usize>> + 'a {
        let cells = (self.cells.get(y / CELL * self.columns..)).unwrap_or_default();
        let cells = cells.iter().zip(alpha.chunks(CELL)).enumerate();
        let mut hidden = cells
            .filter(|(_, (hidden, alpha))| **hidden && is_empty(alpha))
            .map(|(x, _)| x)
            .peekable();
        std::iter::from_fn(move || {
            let first = hidden.next()?;
            let mut end = first + 1;
            while hidden.next_if_eq(&end).is_some() {
                end += 1;
            }
            Some(first * CELL..(end * CELL).min(self.width))
        })
    }

    /// Leaves nothing of a row's colour in them.
    pub(crate) fn blank(&self, y: usize, alpha: &[u8], planes: &mut Planes) {
        for columns in self.columns(y, alpha) {
            planes.blacken(columns);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_around_the_target_are_left() {
        // A point of a matte of half the size: pixels 100 and 101, so cell 6, of columns 5 to 7.
        let (frame, size) = ((203, 99), (102, 50));
        let mut alpha = vec![0.0; size.0 * size.1];
        alpha[25 * size.0 + 50] = 0.004;
        let mut hidden = Hidden::default();
        hidden.look(&alpha, size, frame);
        let nothing = vec![0; frame.0];
        let seen = |y| -> Vec<Range<usize>> { hidden.columns(y, &nothing).collect() };
        let whole = |y| seen(y).first() == Some(&(0..frame.0));
        // The point is in rows 49 and 50, and so in the fourth row of cells.
        assert!(whole(0) && whole(31) && whole(80) && whole(98));
        for y in [32, 50, 79] {
            assert_eq!(seen(y), [0..80, 128..203], "row {y}");
        }
        // Alpha that is there all the same keeps its colour.
        let mut row = nothing.clone();
        row[202] = 1;
        assert!(hidden.columns(0, &row).eq(std::iter::once(0..192)));
        // None at all, and of the frame's size.
        hidden.look(&vec![0.0; 203 * 99], frame, frame);
        assert!(hidden.columns(98, &nothing).eq(std::iter::once(0..203)));
    }
}
