//! Which parts of a matte are the same all around, so that the shader can leave them alone.
//!
//! The matte goes to the GPU as bytes: 0 and 255 say "nothing" and "all of it, and so is everything near"; 1 to 254 are
//! alpha 0 to 1. So a single sample tells the shader whether there is an edge to look at.

use crate::ffi::Part;

/// Pixels of the working size around a pixel that the shader looks at.
const REACH: usize = 2;
/// What a network calls nothing or all is rarely quite that.
const NOISE: u8 = 3;

/// Working memory.
#[derive(Debug, Default)]
pub(crate) struct Flat {
    lowest: Vec<u8>,
    highest: Vec<u8>,
    lowest_row: Vec<u8>,
    highest_row: Vec<u8>,
    codes: Vec<u8>,
    column: Vec<u8>,
}

/// Alpha of a pixel near an edge.
fn near_edge(alpha: u8) -> u8 {
    // 253 steps between 1 and 254, rounded.
    ((u16::from(alpha) * 253 + 127) / 255 + 1) as u8
}

impl Flat {
    /// Writes the coded matte into the fourth byte of every pixel, and tells which parts of it are not flat.
    pub(crate) fn write(&mut self, alpha: &[u8], width: usize, rgba: &mut [u8], parts: &mut Parts) {
        self.windows(alpha, width);
        self.codes.clear();
        let flags = self.lowest.iter().zip(&self.highest);
        let codes = alpha.iter().zip(flags).map(|(alpha, (lowest, highest))| {
            if *highest <= NOISE {
                0
            } else if *lowest >= 255 - NOISE {
                255
            } else {
                near_edge(*alpha)
            }
        });
        self.codes.extend(codes);
        for (pixel, code) in rgba.chunks_exact_mut(4).zip(&self.codes) {
            pixel[3] = *code;
        }
        parts.find(&self.codes, width, &mut self.column);
    }

    /// Lowest and highest value in the window around every pixel.
    fn windows(&mut self, alpha: &[u8], width: usize) {
        let rows = alpha.len() / width.max(1);
        for plane in [
            &mut self.lowest,
            &mut self.highest,
            &mut self.lowest_row,
            &mut self.highest_row,
        ] {
            plane.clear();
            plane.extend_from_slice(alpha);
        }
        // Along rows: shifted copies, so that the loops have no window in them.
        for y in 0..rows {
            let row = &alpha[y * width..][..width];
            let low = &mut self.lowest_row[y * width..][..width];
            let high = &mut self.highest_row[y * width..][..width];
            for shift in 1..=REACH.min(width.saturating_sub(1)) {
                let kept = width - shift;
                for ((l, h), v) in low[..kept]
                    .iter_mut()
                    .zip(&mut high[..kept])
                    .zip(&row[shift..])
                {
                    (*l, *h) = ((*l).min(*v), (*h).max(*v));
                }
                for ((l, h), v) in low[shift..]
                    .iter_mut()
                    .zip(&mut high[shift..])
                    .zip(&row[..kept])
                {
                    (*l, *h) = ((*l).min(*v), (*h).max(*v));
                }
            }
        }
        self.lowest.copy_from_slice(&self.lowest_row);
        self.highest.copy_from_slice(&self.highest_row);
        for y in 0..rows {
            for other in y.saturating_sub(REACH)..(y + REACH + 1).min(rows) {
                let low = &mut self.lowest[y * width..][..width];
                for (l, v) in low.iter_mut().zip(&self.lowest_row[other * width..]) {
                    *l = (*l).min(*v);
                }
                let high = &mut self.highest[y * width..][..width];
                for (h, v) in high.iter_mut().zip(&self.highest_row[other * width..]) {
                    *h = (*h).max(*v);
                }
            }
        }
    }
}

/// Sides of the blocks that are looked at as a whole.
const BLOCK: usize = 8;

/// The parts of a matte. What is in neither is empty.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Parts {
    /// They hold every pixel whose code is 1 to 254 and those next to it.
    pub(crate) edges: Vec<Part>,
    /// The target covers all of it.
    pub(crate) full: Vec<Part>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Empty,
    Full,
    Edge,
}

impl Parts {
    /// Looks at codes as [`Flat::write`] makes them; `column` is working memory.
    fn find(&mut self, codes: &[u8], width: usize, column: &mut Vec<u8>) {
        self.edges.clear();
        self.full.clear();
        let height = codes.len() / width.max(1);
        let share = |at: usize, of: usize| at.min(of) as f32 / of as f32;
        for y in (0..height).step_by(BLOCK) {
            // Whether a column of these rows has an edge.
            column.clear();
            column.resize(width, 0);
            for row in y.saturating_sub(1)..(y + BLOCK + 1).min(height) {
                for (has, code) in column.iter_mut().zip(&codes[row * width..]) {
                    *has |= u8::from(code.wrapping_sub(1) < 254);
                }
            }
            let kind = |x: usize| {
                let near = x.saturating_sub(1)..(x + BLOCK + 1).min(width);
                match (column[near].contains(&1), codes[y * width + x]) {
                    (true, _) => Kind::Edge,
                    (false, 0) => Kind::Empty,
                    _ => Kind::Full,
                }
            };
            let mut from = 0;
            for x in (BLOCK..width + BLOCK).step_by(BLOCK) {
                if x < width && kind(x) == kind(from) {
                    continue;
                }
                let part = Part {
                    from: [share(from, width), share(y, height)],
                    to: [share(x, width), share(y + BLOCK, height)],
                };
                match kind(from) {
                    Kind::Empty => {}
                    Kind::Full => self.full.push(part),
                    Kind::Edge => self.edges.push(part),
                }
                from = x;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_what_they_say() {
        for (width, height) in [(1, 1), (7, 9), (64, 36), (61, 35)] {
            for seed in 0..20 {
                let soft = |x: usize, y: usize| (x * 31 + y * 17 + seed * 7).is_multiple_of(97);
                let codes: Vec<u8> = (0..width * height)
                    .map(|i| match soft(i % width, i / width) {
                        true => 1 + (i % 254) as u8,
                        false => 255 * (seed % 2) as u8,
                    })
                    .collect();
                let mut parts = Parts::default();
                parts.find(&codes, width, &mut Vec::new());
                let (w, h) = (width as f32, height as f32);
                let times = |parts: &[Part], x: usize, y: usize| {
                    let (x, y) = (x as f32 + 0.5, y as f32 + 0.5);
                    let inside = |p: &&Part| {
                        (p.from[0] * w..p.to[0] * w).contains(&x)
                            && (p.from[1] * h..p.to[1] * h).contains(&y)
                    };
                    parts.iter().filter(inside).count()
                };
                for (x, y) in (0..height).flat_map(|y| (0..width).map(move |x| (x, y))) {
                    let near = (y.saturating_sub(1)..(y + 2).min(height))
                        .flat_map(|v| {
                            (x.saturating_sub(1)..(x + 2).min(width)).map(move |u| (u, v))
                        })
                        .any(|(u, v)| soft(u, v));
                    let drawn = (times(&parts.edges, x, y), times(&parts.full, x, y));
                    let allowed: &[(usize, usize)] = match (near, seed % 2 == 1) {
                        (true, _) => &[(1, 0)],
                        (false, true) => &[(1, 0), (0, 1)],
                        (false, false) => &[(1, 0), (0, 0)],
                    };
                    assert!(
                        allowed.contains(&drawn),
                        "{width}x{height}: {x},{y}: {drawn:?}"
                    );
                }
                let all = parts.edges.iter().chain(&parts.full);
                assert!(all.clone().all(|p| p.to[0] <= 1.0 && p.to[1] <= 1.0));
            }
        }
        let mut parts = Parts::default();
        parts.find(&[255; 64], 8, &mut Vec::new());
        let whole = Part {
            from: [0.0; 2],
            to: [1.0; 2],
        };
        assert_eq!((parts.edges, parts.full), (vec![], vec![whole]));
    }

    /// As the shader reads it.
    fn decoded(code: u8) -> f32 {
        ((f32::from(code) - 1.0) / 253.0).clamp(0.0, 1.0)
    }

    fn coded(alpha: &[u8], width: usize) -> Vec<u8> {
        let mut rgba = vec![7; alpha.len() * 4];
        Flat::default().write(alpha, width, &mut rgba, &mut Parts::default());
        assert!(rgba.chunks_exact(4).all(|p| p[..3] == [7, 7, 7]));
        rgba.chunks_exact(4).map(|p| p[3]).collect()
    }

    #[test]
    fn flags_are_those_of_a_plain_window() {
        for (width, height) in [(1, 1), (2, 3), (5, 4), (13, 9), (1, 7), (7, 1)] {
            let alpha: Vec<u8> = (0..width * height)
                .map(|i| match (i * 7 + i / 3) % 11 {
                    0 => 90,
                    1..4 => 255,
                    _ if i % width < width / 2 => 1,
                    _ => 254,
                })
                .collect();
            let got = coded(&alpha, width);
            for y in 0..height {
                for x in 0..width {
                    let window =
                        (y.saturating_sub(REACH)..(y + REACH + 1).min(height)).flat_map(|v| {
                            (x.saturating_sub(REACH)..(x + REACH + 1).min(width))
                                .map(move |u| (u, v))
                        });
                    let values: Vec<u8> = window.map(|(u, v)| alpha[v * width + u]).collect();
                    let wanted = if values.iter().all(|v| *v <= NOISE) {
                        0
                    } else if values.iter().all(|v| *v >= 255 - NOISE) {
                        255
                    } else {
                        near_edge(alpha[y * width + x])
                    };
                    assert_eq!(got[y * width + x], wanted, "{width}x{height} at {x}, {y}");
                }
            }
        }
    }

    #[test]
    fn alpha_survives_the_code() {
        for alpha in 0..=255u8 {
            let code = near_edge(alpha);
            assert!((1..=254).contains(&code));
            let back = decoded(code) * 255.0;
            assert!(
                (back - f32::from(alpha)).abs() <= 0.51,
                "{alpha} comes back as {back}"
            );
        }
        assert!((decoded(0), decoded(255)) == (0.0, 1.0));
    }
}
