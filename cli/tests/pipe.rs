//! The program beside others.

#![cfg(unix)]

use std::process::{Command, Stdio};

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
