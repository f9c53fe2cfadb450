//! The program beside others.

#![cfg(unix)]
#![allow(clippy::print_stdout, reason = "a skipped test says why")]

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

#[test]
fn who_stops_reading_gets_no_panic() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_matte"))
        .arg("doctor")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains("panicked"), "{said}");
}

/// A model whose matte is a function of the colours.
const PROBE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/probe");

/// `matte run` over a clip of so many black frames; nothing, with the reason, where no network can run.
fn run_over(folder: &Path, frames: u32, more: &[&str]) -> Option<Command> {
    if matte_core::runtime::paths::find_onnxruntime().is_none() {
        println!("skipped: ONNX Runtime is not installed; `cargo xtask setup` installs it");
        return None;
    }
    let clip = folder.join("clip.mkv");
    let made = Command::new("gst-launch-1.0")
        .args(["-q", "videotestsrc", "pattern=black"])
        .arg(format!("num-buffers={frames}"))
        .args(["!", "video/x-raw,width=64,height=48", "!", "avenc_ffv1"])
        .args(["!", "matroskamux", "!", "filesink"])
        .arg(format!("location={}", clip.display()))
        .status();
    if !made.is_ok_and(|status| status.success()) {
        println!("skipped: a clip cannot be made; `cargo xtask setup` installs what is needed");
        return None;
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_matte"));
    command
        .current_dir(folder)
        .args(["run", "clip.mkv", "--model", PROBE, "--backend", "cpu"])
        .args(more)
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    Some(command)
}

#[test]
fn what_nobody_was_found_in_is_no_output() {
    let folder = tempfile::tempdir().unwrap();
    for output in ["out.mkv", "pictures"] {
        let Some(mut command) = run_over(folder.path(), 3, &["-o", output, "--resume"]) else {
            return;
        };
        // Nothing that the first run leaves counts as done for the second one.
        for _ in 0..2 {
            let ended = command.output().unwrap();
            let said = String::from_utf8_lossy(&ended.stderr);
            assert!(!ended.status.success(), "{output}: {said}");
            assert!(
                said.contains("nothing was cut out of 3 frames"),
                "{output}: {said}"
            );
        }
        let left: Vec<_> = walk(folder.path());
        assert_eq!(left, ["clip.mkv"], "{output}");
    }
}

/// Names of all files in a folder, those of its folders included.
fn walk(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => names.extend(walk(&path)),
            false => names.push(path.file_name().unwrap().to_string_lossy().into_owned()),
        }
    }
    names.sort();
    names
}

/// A run that gets this signal once it writes `out.part.mov`.
fn signalled(folder: &Path, signal: &str) -> Option<Output> {
    let mask = folder.join("mask.png");
    image::GrayImage::from_pixel(64, 48, image::Luma([255]))
        .save(&mask)
        .unwrap();
    // More frames than are matted until the signal comes.
    let mut command = run_over(
        folder,
        20_000,
        &["-m", "mask.png", "-o", "out.mov", "--alpha-only"],
    )?;
    let child = command.spawn().unwrap();
    let part = folder.join("out.part.mov");
    let deadline = Instant::now() + Duration::from_mins(1);
    while !std::fs::metadata(&part).is_ok_and(|file| file.len() > 0) {
        assert!(Instant::now() < deadline, "nothing is written");
        std::thread::sleep(Duration::from_millis(10));
    }
    let sent = Command::new("kill")
        .args([signal, &child.id().to_string()])
        .status();
    assert!(sent.is_ok_and(|status| status.success()));
    Some(child.wait_with_output().unwrap())
}

#[test]
fn who_ends_the_program_does_not_wait_for_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let Some(ended) = signalled(folder.path(), "-TERM") else {
        return;
    };
    assert_eq!(ended.status.signal(), Some(15), "{}", ended.status);
    assert!(!folder.path().join("out.mov").exists());
}

#[test]
fn a_file_that_is_interrupted_is_not_complete() {
    let folder = tempfile::tempdir().unwrap();
    let Some(ended) = signalled(folder.path(), "-INT") else {
        return;
    };
    let part = folder.path().join("out.part.mov");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(
        said.contains("interrupted") && said.contains("frames before are in"),
        "{said}"
    );
    assert!(part.is_file() && !folder.path().join("out.mov").exists());
    // With its index, without which a .mov cannot be played.
    let bytes = std::fs::read(&part).unwrap();
    assert!(bytes.windows(4).any(|word| word == b"moov"));
}
