//! Where the first mask comes from.

mod automatic;
mod mask;

pub(crate) use automatic::Segmenter;
pub(crate) use mask::prepare;
