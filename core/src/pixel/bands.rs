//! Rows in bands, each on a thread of its own.

use std::sync::LazyLock;

use crate::frame::OutputMut;

/// More threads than this gain little: memory is the limit.
const MOST: usize = 4;
/// Smaller pictures are not worth waking a thread for.
const SMALLEST: usize = 320 * 180;

/// Threads of all renderers of the process; none where there is one core, or where the system gives none.
static POOL: LazyLock<Option<rayon::ThreadPool>> = LazyLock::new(|| {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    if threads < 2 {
        return None;
    }
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads.min(MOST))
        .thread_name(|i| format!("matte-draw-{i}"))
        .build();
    pool.inspect_err(|e| log::warn!("drawing on one thread: {e}"))
        .ok()
});

/// How many bands a picture of so many pixels is drawn in.
pub(crate) fn count(pixels: usize) -> usize {
    match &*POOL {
        Some(pool) if pixels >= SMALLEST => pool.current_num_threads(),
        _ => 1,
    }
}

/// What can be parted by rows.
pub(crate) trait Rows: Send + Sized {
    fn rows(&self) -> usize;
    /// The rows above `row`, and the others.
    fn split(self, row: usize) -> (Self, Self);
}

/// Rows without padding.
#[derive(Debug)]
pub(crate) struct Grid<'a, T> {
    pub(crate) data: &'a mut [T],
    pub(crate) width: usize,
}

impl<T: Send> Rows for Grid<'_, T> {
    fn rows(&self) -> usize {
        self.data.len() / self.width
    }

    fn split(self, row: usize) -> (Self, Self) {
        let (upper, lower) = self.data.split_at_mut(row * self.width);
        let width = self.width;
        (Self { data: upper, width }, Self { data: lower, width })
    }
}

impl Rows for OutputMut<'_> {
    fn rows(&self) -> usize {
        self.size().1 as usize
    }

    fn split(self, row: usize) -> (Self, Self) {
        self.split_at_row(row)
    }
}

/// Calls `work` with a scratch, a band of rows and the number of its first row, one band for each scratch. Bands begin
/// at even rows. Nothing is allocated.
pub(crate) fn each<S: Send, R: Rows>(
    scratch: &mut [S],
    rows: R,
    work: &(impl Fn(&mut S, R, usize) + Sync),
) {
    match &*POOL {
        Some(pool) if scratch.len() > 1 => pool.install(|| parts(scratch, rows, 0, work)),
        _ => {
            if let Some(first) = scratch.first_mut() {
                work(first, rows, 0);
            }
        }
    }
}

/// Does two things, where there is a second one, on two threads if there are as many `bands`.
pub(crate) fn both(
    bands: usize,
    first: impl FnOnce() + Send,
    second: Option<impl FnOnce() + Send>,
) {
    match (&*POOL, second) {
        (Some(pool), Some(second)) if bands > 1 => {
            pool.install(|| rayon::join(first, second));
        }
        (_, second) => {
            first();
            if let Some(second) = second {
                second();
            }
        }
    }
}

fn parts<S: Send, R: Rows>(
    scratch: &mut [S],
    rows: R,
    first: usize,
    work: &(impl Fn(&mut S, R, usize) + Sync),
) {
    match scratch {
        [] => {}
        [one] => work(one, rows, first),
        many => {
            let middle = many.len() / 2;
            let row = (rows.rows() * middle / many.len()) & !1;
            let (upper, lower) = many.split_at_mut(middle);
            let (above, below) = rows.split(row);
            rayon::join(
                || parts(upper, above, first, work),
                || parts(lower, below, first + row, work),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_met_once_and_bands_begin_at_even_rows() {
        for (rows, bands) in [(1, 4), (3, 2), (7, 3), (100, 4), (37, 1)] {
            let mut data = vec![0; rows * 5];
            let mut scratch = vec![(); bands];
            parts(
                &mut scratch,
                Grid {
                    data: &mut data,
                    width: 5,
                },
                0,
                &|(), band: Grid<'_, u8>, first| {
                    assert_eq!(first % 2, 0);
                    for (i, row) in band.data.chunks_mut(5).enumerate() {
                        for v in row {
                            *v += (first + i) as u8 + 1;
                        }
                    }
                },
            );
            for (y, row) in data.chunks(5).enumerate() {
                assert_eq!(row, [y as u8 + 1; 5]);
            }
        }
    }
}
