//! The way of a frame, one stage a file.

pub(crate) mod detail;
pub(crate) mod postprocess;
pub(crate) mod preprocess;
