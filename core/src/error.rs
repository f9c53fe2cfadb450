//! What can go wrong. Every message names the value that was met and what it should have been.

use std::path::{Path, PathBuf};

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Errors of the engine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The data of a frame, mask or output is shorter than its size, format and stride ask for.
    #[error(
        "{what}: {have} bytes, but {width}x{height} {format} with a stride of {stride} bytes needs {need}"
    )]
    Buffer {
        /// Frame, mask or output, and the plane.
        what: String,
        /// Bytes given.
        have: usize,
        /// Bytes needed.
        need: usize,
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// Name of the pixel format.
        format: &'static str,
        /// Bytes from one row to the next.
        stride: usize,
    },
    /// A stride shorter than a row.
    #[error("{what}: stride of {stride} bytes, but a row of {width} {format} pixels has {row}")]
    Stride {
        /// Frame, mask or output, and the plane.
        what: String,
        /// Bytes from one row to the next.
        stride: usize,
        /// Width in pixels.
        width: u32,
        /// Name of the pixel format.
        format: &'static str,
        /// Bytes of a row.
        row: usize,
    },
    /// The program is ending, and ONNX Runtime with it.
    #[error("{doing}: the program is ending")]
    Ending {
        /// What was not done.
        doing: String,
    },
    /// A width or height of 0, or beyond what the engine takes.
    #[error("{what}: {width}x{height} pixels, but each side must be from 1 to {max}", max = crate::frame::MAX_SIDE)]
    Size {
        /// Frame, mask or output.
        what: &'static str,
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// A frame or output of another size than the engine was opened for.
    #[error(
        "{what} of {width}x{height}, but the engine is set up for {expected_width}x{expected_height}"
    )]
    FrameSize {
        /// Frame or output.
        what: &'static str,
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// Width that the engine was opened for.
        expected_width: u32,
        /// Height that the engine was opened for.
        expected_height: u32,
    },
    /// A mask whose shape does not fit the frame's.
    #[error(
        "mask of {mask_width}x{mask_height}: its aspect ratio differs from that of the {frame_width}x{frame_height} \
         frame by more than 2 %"
    )]
    MaskAspect {
        /// Width of the mask.
        mask_width: u32,
        /// Height of the mask.
        mask_height: u32,
        /// Width of the frame.
        frame_width: u32,
        /// Height of the frame.
        frame_height: u32,
    },
    /// A mask with nothing in it.
    #[error(
        "the mask is empty after erosion by {erode} and dilation by {dilate} pixels: no pixel is selected"
    )]
    MaskEmpty {
        /// Erosion, working-size pixels.
        erode: u32,
        /// Dilation, working-size pixels.
        dilate: u32,
    },
    /// An image file that cannot be read.
    #[error("mask file {path}: {reason}")]
    MaskFile {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// An option outside its range.
    #[error("option {option}: {value}, but {limit}")]
    Option {
        /// The option's name.
        option: &'static str,
        /// Its value.
        value: String,
        /// What it must be.
        limit: String,
    },
    /// Nothing has been named yet that should be cut out.
    #[error(
        "there is no target yet: nobody was found or looked for; give a mask, or switch automatic seeding on if it is off"
    )]
    NotSeeded,
    /// A reference was added although all slots that were reserved for references are taken.
    #[error(
        "all {limit} reference slots are taken: remove one, or open the engine with a higher `max_references`"
    )]
    ReferencesFull {
        /// Number of reference slots.
        limit: u32,
    },
    /// A reference that does not exist (any more).
    #[error("there is no reference {id}; known are {known:?}")]
    UnknownReference {
        /// What was asked for.
        id: u64,
        /// What there is.
        known: Vec<u64>,
    },
    /// A target that does not exist (any more).
    #[error("there is no target {id}; known are {known:?}")]
    UnknownTarget {
        /// What was asked for.
        id: u64,
        /// What there is.
        known: Vec<u64>,
    },
    /// ONNX Runtime's shared library was not found or could not be loaded.
    #[error("ONNX Runtime: {reason}. Looked for: {looked}. `cargo xtask setup` installs it")]
    Runtime {
        /// Why.
        reason: String,
        /// Where it was looked for.
        looked: String,
    },
    /// A backend that was asked for cannot be used.
    #[error("backend {backend}: {reason}")]
    Backend {
        /// Name of the backend.
        backend: &'static str,
        /// Why.
        reason: String,
    },
    /// No package of this name.
    #[error("model {name}: not found. Looked in: {looked}")]
    ModelNotFound {
        /// Name or path that was asked for.
        name: String,
        /// Where it was looked for.
        looked: String,
    },
    /// A package that contradicts itself or the contract.
    #[error("{path}: {reason}")]
    Model {
        /// The file.
        path: PathBuf,
        /// Which field, tensor or value is wrong and what it should be.
        reason: String,
    },
    /// A checkpoint that does not hold what the network needs.
    #[error("checkpoint {path}: {reason}")]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// Which tensor is wrong and what it should be.
        reason: String,
    },
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// ONNX Runtime reported a failure.
    #[error("ONNX Runtime, {doing}: {source}")]
    Ort {
        /// What was being done.
        doing: String,
        /// The runtime's error.
        source: ort::Error,
    },
}

impl Error {
    pub(crate) fn io(path: impl AsRef<Path>, source: std::io::Error) -> Self {
        Self::Io {
            path: path.as_ref().to_owned(),
            source,
        }
    }

    pub(crate) fn model(path: impl AsRef<Path>, reason: impl Into<String>) -> Self {
        Self::Model {
            path: path.as_ref().to_owned(),
            reason: reason.into(),
        }
    }

    #[cfg(feature = "import")]
    pub(crate) fn checkpoint(path: impl AsRef<Path>, reason: impl Into<String>) -> Self {
        Self::Checkpoint {
            path: path.as_ref().to_owned(),
            reason: reason.into(),
        }
    }
}

/// Adds to an error of ONNX Runtime what was being done.
pub(crate) trait Doing<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, R> Doing<T> for std::result::Result<T, ort::Error<R>>
where
    ort::Error: From<ort::Error<R>>,
{
    fn doing(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|e| Error::Ort {
            doing: what(),
            source: e.into(),
        })
    }
}
