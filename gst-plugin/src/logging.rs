//! What the engine logs, shown with `GST_DEBUG=mattefilter:LEVEL`.

use std::sync::LazyLock;

use gst::glib;
use gst::prelude::*;

/// Debug category of the element and of the engine below it.
pub(crate) static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "mattefilter",
        gst::DebugColorFlags::empty(),
        Some("Real-time video matting"),
    )
});

struct Forward;

fn level(level: log::Level) -> gst::DebugLevel {
    match level {
        log::Level::Error => gst::DebugLevel::Error,
        log::Level::Warn => gst::DebugLevel::Warning,
        log::Level::Info => gst::DebugLevel::Info,
        log::Level::Debug => gst::DebugLevel::Debug,
        log::Level::Trace => gst::DebugLevel::Trace,
    }
}

impl log::Log for Forward {
    fn enabled(&self, metadata: &log::Metadata) -> bool {
        CAT.above_threshold(level(metadata.level()))
    }

    fn log(&self, record: &log::Record) {
        if self.enabled(record.metadata()) {
            CAT.log(
                None::<&glib::Object>,
                level(record.level()),
                glib::GString::from(record.file().unwrap_or("?")).as_gstr(),
                record.target(),
                record.line().unwrap_or(0),
                *record.args(),
            );
        }
    }

    fn flush(&self) {}
}

/// Forwards the engine's log, unless the program has a logger of its own.
pub(crate) fn forward_to_gstreamer() {
    if log::set_logger(&Forward).is_ok() {
        // The threshold of the category may change at any time: `enabled` asks it.
        log::set_max_level(log::LevelFilter::Trace);
    }
}
