//! Any bytes as a checkpoint, and as the pickle in one: read or refused, never a panic, and no more memory than the file's size
//! explains (`-rss_limit_mb`).

#![no_main]

use std::io::Write as _;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| tempfile::tempdir().unwrap());

fuzz_target!(|bytes: &[u8]| {
    let path = FOLDER.path().join("model.pth");
    std::fs::write(&path, bytes).unwrap();
    let _ = matte_core::import::Checkpoint::read(&path);

    let mut zip = zip::ZipWriter::new(std::fs::File::create(&path).unwrap());
    let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, content) in [("archive/data.pkl", bytes), ("archive/data/0", &[0; 64])] {
        zip.start_file(name, stored).unwrap();
        zip.write_all(content).unwrap();
    }
    zip.finish().unwrap();
    let _ = matte_core::import::Checkpoint::read(&path);
});
