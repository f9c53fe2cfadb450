//! GStreamer plugin `matte`: the element [`mattefilter`] cuts a person or an object out of live video.
//!
//! The element maps buffers to views, calls `matte-core` and translates what comes back; all pixels and tensors are
//! handled there.

use gst::glib;

mod logging;
pub mod mattefilter;

fn plugin_init(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    logging::forward_to_gstreamer();
    mattefilter::register(plugin)
}

#[allow(missing_docs, reason = "the macro writes no documentation")]
mod definition {
    use super::plugin_init;

    gst::plugin_define!(
        matte,
        env!("CARGO_PKG_DESCRIPTION"),
        plugin_init,
        concat!(env!("CARGO_PKG_VERSION"), "-", env!("COMMIT_ID")),
        // GStreamer knows a fixed set of strings here; this is the one for the MIT licence, of which the crate's
        // second licence is an alternative.
        "MIT/X11",
        env!("CARGO_PKG_NAME"),
        env!("CARGO_PKG_NAME"),
        env!("CARGO_PKG_REPOSITORY"),
        env!("BUILD_REL_DATE")
    );
}

pub use definition::plugin_register_static;
