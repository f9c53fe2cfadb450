//! The engine's errors as GStreamer sorts errors.

use matte_core::Error;

use super::engine::Lost;

pub(super) fn error_message(error: &Error) -> gst::ErrorMessage {
    match error {
        Error::ModelNotFound { .. } | Error::MaskFile { .. } => {
            gst::error_msg!(gst::ResourceError::NotFound, ("{error}"))
        }
        Error::Runtime { .. } | Error::Backend { .. } => {
            gst::error_msg!(gst::LibraryError::Init, ("{error}"))
        }
        Error::Ort { .. } => gst::error_msg!(gst::LibraryError::Failed, ("{error}")),
        _ => gst::error_msg!(gst::LibraryError::Settings, ("{error}")),
    }
}

pub(super) fn lost(_: Lost) -> gst::ErrorMessage {
    gst::error_msg!(
        gst::LibraryError::Failed,
        ("the engine panicked while it worked on a frame")
    )
}
