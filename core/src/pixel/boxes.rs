//! Means over square windows, by running sums: their cost does not depend on the size of the window.

use multiversion::multiversion;

/// Sums over (2r+1)² windows, cut at the border, of pictures with `N` interleaved channels, divided by the number of
/// pixels in the window.
#[multiversion(targets("x86_64+avx2+fma+bmi1+bmi2"))]
pub(crate) fn box_mean<const N: usize>(
    data: &mut [[f32; N]],
    (width, height): (usize, usize),
    radius: usize,
    rows: &mut Vec<[f32; N]>,
) {
    let inverse_count =
        |i: usize, n: usize| 1.0 / (i.min(radius) + (n - 1 - i).min(radius) + 1) as f32;
    // Along the rows, in place through a copy of the row.
    rows.clear();
    let kept = 2 * radius + 1;
    rows.resize(width * (kept + 1), [0.0; N]);
    for row in data.chunks_exact_mut(width) {
        let copy = &mut rows[..width];
        copy.copy_from_slice(row);
        let mut sum = [0.0f32; N];
        for value in &copy[..radius.min(width)] {
            for c in 0..N {
                sum[c] += value[c];
            }
        }
        for x in 0..width {
            if let Some(entering) = copy.get(x + radius) {
                for c in 0..N {
                    sum[c] += entering[c];
                }
            }
            let scale = inverse_count(x, width);
            for c in 0..N {
                row[x][c] = sum[c] * scale;
            }
            if x >= radius {
                for c in 0..N {
                    sum[c] -= copy[x - radius][c];
                }
            }
        }
    }
    // Along the columns: a running sum of rows. The rows that will leave are kept, since they are overwritten.
    let (sum, rows) = rows.split_at_mut(width);
    sum.fill([0.0; N]);
    let add = |sum: &mut [[f32; N]], row: &[[f32; N]], sign: f32| {
        for (s, r) in sum.iter_mut().zip(row) {
            for c in 0..N {
                s[c] += sign * r[c];
            }
        }
    };
    for y in 0..height + radius {
        if y < height {
            let row = &data[y * width..][..width];
            add(sum, row, 1.0);
            rows[(y % kept) * width..][..width].copy_from_slice(row);
        }
        if let Some(centre) = y.checked_sub(radius) {
            let scale = inverse_count(centre, height);
            for (d, s) in data[centre * width..][..width].iter_mut().zip(sum.iter()) {
                for c in 0..N {
                    d[c] = s[c] * scale;
                }
            }
            if let Some(leaving) = centre.checked_sub(radius) {
                add(sum, &rows[(leaving % kept) * width..][..width], -1.0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pixel::noise::noise;

    #[test]
    fn running_sums_agree_with_plain_ones() {
        for (w, h, r) in [(1, 1, 2), (5, 3, 1), (17, 9, 4), (3, 20, 6), (40, 31, 3)] {
            let source = noise(w * h, 7);
            let mut data: Vec<[f32; 2]> = source.iter().map(|v| [*v, 1.0 - v]).collect();
            box_mean(&mut data, (w, h), r, &mut Vec::new());
            for y in 0..h {
                for x in 0..w {
                    let (mut sum, mut n) = (0.0, 0.0);
                    for v in y.saturating_sub(r)..(y + r + 1).min(h) {
                        for u in x.saturating_sub(r)..(x + r + 1).min(w) {
                            sum += source[v * w + u];
                            n += 1.0;
                        }
                    }
                    let got = data[y * w + x];
                    assert!(
                        (got[0] - sum / n).abs() < 1e-5 && (got[0] + got[1] - 1.0).abs() < 1e-5,
                        "{x} {y} {w}x{h}"
                    );
                }
            }
        }
    }
}
