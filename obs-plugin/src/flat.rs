//! Which parts of a matte are the same all around, so that the shader can leave them alone.
//!
//! The matte goes to the GPU as bytes: 0 and 255 say "nothing" and "all of it, and so is everything near"; 1 to 254 are
//! alpha 0 to 1. So a single sample tells the shader whether there is an edge to look at.

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
}

/// Alpha of a pixel near an edge.
fn near_edge(alpha: u8) -> u8 {
    // 253 steps between 1 and 254, rounded.
    ((u16::from(alpha) * 253 + 127) / 255 + 1) as u8
}

impl Flat {
    /// Writes the coded matte into the fourth byte of every pixel.
    pub(crate) fn write(&mut self, alpha: &[u8], width: usize, rgba: &mut [u8]) {
        self.windows(alpha, width);
        let flags = self.lowest.iter().zip(&self.highest);
        for ((pixel, alpha), (lowest, highest)) in rgba.chunks_exact_mut(4).zip(alpha).zip(flags) {
            pixel[3] = if *highest <= NOISE {
                0
            } else if *lowest >= 255 - NOISE {
                255
            } else {
                near_edge(*alpha)
            };
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// As the shader reads it.
    fn decoded(code: u8) -> f32 {
        ((f32::from(code) - 1.0) / 253.0).clamp(0.0, 1.0)
    }

    fn coded(alpha: &[u8], width: usize) -> Vec<u8> {
        let mut rgba = vec![7; alpha.len() * 4];
        Flat::default().write(alpha, width, &mut rgba);
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
