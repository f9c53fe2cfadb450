//! Where the first mask comes from.

mod automatic;
mod figures;
mod look;
mod maps;
mod mask;
mod middle;
mod seen;

pub(crate) use automatic::{Segmenter, keep_joined, keep_known};
pub(crate) use mask::prepare;
pub use middle::middle_mask;

/// Marks all cells in which something is and that are reached, through others like them, from the ones to start with.
pub(crate) fn reached<T>(
    map: &[T],
    width: usize,
    inside: impl Fn(&T) -> bool,
    start: impl IntoIterator<Item = usize>,
) -> Vec<bool> {
    let mut reached = vec![false; map.len()];
    for i in start {
        if !reached[i] && inside(&map[i]) {
            flood(map, width, i, &inside, &mut reached, |_| {});
        }
    }
    reached
}

/// Calls `visit` for all that hangs together with a cell and has not been visited.
fn flood<T>(
    map: &[T],
    width: usize,
    start: usize,
    inside: impl Fn(&T) -> bool,
    visited: &mut [bool],
    mut visit: impl FnMut(usize),
) {
    let height = map.len() / width;
    let mut open = vec![start];
    while let Some(i) = open.pop() {
        if std::mem::replace(&mut visited[i], true) {
            continue;
        }
        visit(i);
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
}
