//! Pixel work: plain row loops that the compiler vectorises.

pub(crate) mod bands;
pub(crate) mod behind;
pub(crate) mod boxes;
pub(crate) mod edges;
pub(crate) mod foreground;
pub(crate) mod guided;
pub(crate) mod morphology;
pub(crate) mod rows;
pub(crate) mod scale;
pub(crate) mod smooth;
