//! Where the first mask comes from.

mod automatic;
mod mask;
mod middle;

pub(crate) use automatic::Segmenter;
pub use middle::middle_mask;
pub(crate) use mask::prepare;
