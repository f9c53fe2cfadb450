//! Where the first mask comes from.

mod automatic;
mod mask;
mod middle;

pub(crate) use automatic::Segmenter;
pub(crate) use mask::prepare;
pub use middle::middle_mask;
