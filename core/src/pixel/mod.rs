//! Pixel work: plain row loops that the compiler vectorises.

pub(crate) mod guided;
pub(crate) mod morphology;
pub(crate) mod rows;
pub(crate) mod scale;
