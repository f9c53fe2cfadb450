//! Pixel work: plain row loops that the compiler vectorises.

pub(crate) mod bands;
pub(crate) mod behind;
pub(crate) mod boxes;
pub(crate) mod edges;
pub(crate) mod foreground;
pub(crate) mod guided;
pub(crate) mod hidden;
pub(crate) mod morphology;
pub(crate) mod rows;
pub(crate) mod scale;
pub(crate) mod smooth;

#[cfg(test)]
mod noise {
    /// Numbers from 0 to 1 without order, the same for the same seed.
    pub(super) fn noise(n: usize, seed: u32) -> Vec<f32> {
        let mut v = seed;
        (0..n)
            .map(|_| {
                v = v.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (v >> 8) as f32 / (1 << 24) as f32
            })
            .collect()
    }
}
