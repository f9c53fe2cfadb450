//! Any bytes as a mask file: read or refused, never a panic.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| tempfile::tempdir().unwrap());

fuzz_target!(|bytes: &[u8]| {
    let path = FOLDER.path().join("mask");
    std::fs::write(&path, bytes).unwrap();
    if let Ok(mask) = matte_core::MaskImage::read(&path) {
        assert!(mask.as_mask().size().0 > 0);
    }
});
