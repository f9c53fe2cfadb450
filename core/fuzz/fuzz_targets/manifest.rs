//! Any bytes as a manifest: read or refused, never a panic.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| tempfile::tempdir().unwrap());

fuzz_target!(|bytes: &[u8]| {
    let path = FOLDER.path().join("manifest.json");
    std::fs::write(&path, bytes).unwrap();
    let _ = matte_core::Manifest::read(&path);
});
