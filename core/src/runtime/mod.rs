//! Everything that talks to ONNX Runtime: where it is, which packages there are, what runs them.

mod backend;
mod ending;
mod engine_cache;
pub(crate) mod floats;
mod gpu;
mod graph;
pub(crate) mod manifest;
mod model_set;
pub mod paths;
pub(crate) mod tensor;

pub use backend::{Backend, availability};
pub(crate) use backend::{Engine, Power, Role, must_build};
pub use gpu::source_of_library;
pub(crate) use graph::Graph;
pub use manifest::{Kind, Licence, Manifest, MemoryDefaults, WorkingSizes};
#[cfg(feature = "import")]
pub(crate) use model_set::hash_file;
pub use model_set::{ModelSet, Package};
