//! Dilation and erosion of masks, as MatAnyone's command-line tool prepares them: binary, with OpenCV's elliptic
//! kernel, its anchor at ⌊n/2⌋ and pixels outside the image left out. For even sizes the kernel is not symmetric, so
//! dilating and eroding by the same size shifts the mask by one pixel; the published results are made so.

/// First and last column (exclusive) of each row of the kernel.
fn ellipse(n: usize) -> Vec<(usize, usize)> {
    if n == 1 {
        return vec![(0, 1)];
    }
    let r = n / 2;
    (0..n)
        .map(|i| {
            let dy = i as f64 - r as f64;
            let half = (r as f64 * (1.0 - (dy / r as f64).powi(2)).max(0.0).sqrt())
                .round_ties_even() as usize;
            (r.saturating_sub(half), (r + half + 1).min(n))
        })
        .collect()
}

/// Sets a pixel where any (`any`) or every pixel under the kernel is set.
fn apply(mask: &mut [u8], width: usize, n: usize, set: impl Fn(u8) -> bool + Copy, any: bool) {
    if n == 0 {
        return;
    }
    let height = mask.len() / width;
    let kernel = ellipse(n);
    let anchor = n / 2;
    // For each row, the running count of pixels that decide: those set for `any`, those not set otherwise.
    let counts: Vec<u32> = mask
        .chunks_exact(width)
        .flat_map(|row| {
            let mut sum = 0;
            std::iter::once(0).chain(row.iter().map(move |p| {
                sum += u32::from(set(*p) == any);
                sum
            }))
        })
        .collect();
    for y in 0..height {
        for x in 0..width {
            let found = kernel.iter().enumerate().any(|(i, &(from, to))| {
                let Some(row) = (y + i).checked_sub(anchor).filter(|r| *r < height) else {
                    return false;
                };
                let from = (x + from).saturating_sub(anchor).min(width);
                let to = (x + to).saturating_sub(anchor).min(width);
                counts[row * (width + 1) + to] > counts[row * (width + 1) + from]
            });
            mask[y * width + x] = if found == any { 255 } else { 0 };
        }
    }
}

/// Every pixel above 0 counts; the result is 0 or 255. Size 0 does nothing.
pub(crate) fn dilate(mask: &mut [u8], width: usize, n: usize) {
    apply(mask, width, n, |p| p != 0, true);
}

/// Only pixels of 255 count; the result is 0 or 255. Size 0 does nothing.
pub(crate) fn erode(mask: &mut [u8], width: usize, n: usize) {
    apply(mask, width, n, |p| p == 255, false);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_of_ten_is_opencvs() {
        let wanted = [
            (5, 6),
            (2, 9),
            (1, 10),
            (0, 10),
            (0, 10),
            (0, 10),
            (0, 10),
            (0, 10),
            (1, 10),
            (2, 9),
        ];
        assert_eq!(ellipse(10), wanted);
    }

    #[test]
    fn closing_by_ten_shifts_a_square_by_one() {
        let mut mask = vec![0; 64 * 64];
        for y in 20..40 {
            mask[y * 64 + 20..y * 64 + 40].fill(255);
        }
        dilate(&mut mask, 64, 10);
        erode(&mut mask, 64, 10);
        let row = |y: usize| mask[y * 64..][..64].iter().position(|p| *p == 255);
        assert_eq!(mask[30 * 64 + 20], 0);
        assert_eq!(
            (row(30), mask[30 * 64 + 40], mask[30 * 64 + 41]),
            (Some(21), 255, 0)
        );
        assert_eq!(
            (row(20), mask[40 * 64 + 30], mask[41 * 64 + 30]),
            (None, 255, 0)
        );
    }

    #[test]
    fn parity_with_the_published_mask_preparation() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../tests/golden/j_morphology.safetensors");
        let bytes = std::fs::read(path).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        for n in [3, 5, 10, 15] {
            let kernel = file.tensor(&format!("kernel_{n}")).unwrap();
            for (row, (from, to)) in kernel.data().chunks(n).zip(ellipse(n)) {
                let ours: Vec<u8> = (0..n).map(|x| u8::from((from..to).contains(&x))).collect();
                assert_eq!(
                    row.iter().map(|v| u8::from(*v != 0)).collect::<Vec<_>>(),
                    ours,
                    "kernel {n}"
                );
            }
        }
        for case in ["bin", "grey_border"] {
            let input = file.tensor(&format!("{case}_in")).unwrap();
            let width = input.shape()[1];
            for n in [3, 10] {
                let check = |name: String, run: &dyn Fn(&mut Vec<u8>)| {
                    let mut mask = input.data().to_vec();
                    run(&mut mask);
                    assert_eq!(mask, file.tensor(&name).unwrap().data(), "{name}");
                };
                check(format!("{case}_dilate{n}"), &|m| dilate(m, width, n));
                check(format!("{case}_erode{n}"), &|m| erode(m, width, n));
                check(format!("{case}_dilate{n}_erode{n}"), &|m| {
                    dilate(m, width, n);
                    erode(m, width, n);
                });
            }
        }
    }
}
