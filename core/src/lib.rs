//! Real-time video matting: the engine, without GStreamer and without OBS.
//!
//! A target, a person or any object that is named once, is cut out of a video with soft, stable edges. The network is
//! the memory-based one of MatAnyone (CVPR 2025) and MatAnyone 2, or a smaller one of the same shape, run by ONNX
//! Runtime.
//!
//! # The way of a frame
//!
//! ```text
//! frame (any size, stride, format)
//!   → preprocess   scale to the working size, RGB u8, pad to 16        stages
//!   → matte        encode, read the bank, decode            → alpha    graph matte.onnx
//!   → detail       guided to full size, edges drawn anew    → alpha    graph detail.onnx    where a package has it
//!   → postprocess  unpad, refine to full size with the frame as guide  → RGBA out
//!   ⇢ remember     (after the frame has been handed out, on any thread)
//!        value     alpha → value of this frame              graph value.onnx     every frame
//!        memorize  value → sensory update, object summary   graph memorize.onnx  memory frames
//!        bank      key rows + value rows → slot             memory
//! ```
//!
//! [`Matter`] is the engine, [`ModelSet`] finds the packages that it runs, [`Options`] is what may be set, [`Frame`],
//! [`Mask`] and [`OutputMut`] are views of the caller's pixels. Where drawing must not wait for the network, its two
//! halves run on threads of their own: [`Matter::predict`] and [`Matter::snapshot`] make a [`Matte`], whose edges
//! [`Matter::refine`] draws anew, a [`Renderer`] draws it.
//!
//! # Threads
//!
//! Everything is [`Send`]. A [`Matter`] belongs to one video and is used by one thread at a time.

mod error;
pub mod frame;
#[cfg(feature = "import")]
pub mod import;
mod matte;
mod matter;
mod memory;
mod multi;
mod options;
mod pixel;
mod region;
mod repair;
pub mod runtime;
mod seed;
mod stages;
pub mod stats;
mod strays;

pub use error::{Error, Result};
pub use frame::{
    Colorimetry, Frame, Mask, MaskImage, OutputFormat, OutputMut, PixelFormat, Plane, PlaneMut,
    YuvMatrix,
};
pub use matte::{Matte, has_substance};
pub use matter::{FrameReport, MatteState, Matter, MemoryState, Repair};
pub use memory::ReferenceId;
pub use multi::{MultiMatter, Show, TargetId};
pub use options::{
    AlphaMode, Background, Foreground, Options, Policy, Precision, Refine, Region, SeedMode,
};
pub use runtime::{Backend, Kind, Licence, Manifest, ModelSet, Package};
pub use seed::middle_mask;
pub use stages::postprocess::Renderer;
pub use stats::{Stage, StageStats, Stats};
