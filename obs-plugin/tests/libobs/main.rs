//! The filter inside libobs, in this process, under Xvfb with software GL: what it draws, how it lives, what it leaks.
//!
//! libobs is global state, so there is one process, no test threads, and one program: `cargo test --test libobs`, with
//! part of a test's name to run only some.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test program speaks through them"
)]

mod ffi;
mod reference;
mod tests;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use ffi::Obs;

/// A test has libobs with the plugin.
type Test = fn(&Obs);

/// Set in the process that runs under Xvfb.
const INSIDE: &str = "MATTE_OBS_TEST_INSIDE";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.iter().any(|a| a == "--list") {
        return ExitCode::SUCCESS;
    }
    if let [first, rest @ ..] = args.as_slice()
        && first == "--reference"
    {
        reference::main(rest);
        return ExitCode::SUCCESS;
    }
    let filter = args
        .iter()
        .find(|a| !a.starts_with('-'))
        .cloned()
        .unwrap_or_default();
    if std::env::var_os(INSIDE).is_none() {
        return under_xvfb(&filter);
    }
    run(&filter)
}

/// Runs this program again with a display of its own.
fn under_xvfb(filter: &str) -> ExitCode {
    if Command::new("xvfb-run").arg("--help").output().is_err() {
        println!("skipped: xvfb-run is not installed; `cargo xtask setup --obs` installs it");
        return ExitCode::SUCCESS;
    }
    if matte_core::runtime::paths::find_onnxruntime().is_none() {
        println!("skipped: ONNX Runtime is not installed; `cargo xtask setup` installs it");
        return ExitCode::SUCCESS;
    }
    let program = std::env::current_exe().expect("this program has a file");
    let status = Command::new("xvfb-run")
        .args(["-a", "-s", "-screen 0 640x480x24 -nolisten tcp"])
        .arg(program)
        .arg(filter)
        .env(INSIDE, "1")
        .env("LIBGL_ALWAYS_SOFTWARE", "1")
        // The packages of the tests, and none that a user may have imported.
        .env("MATTE_MODELS", models_path())
        .status();
    match status {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(status) => {
            eprintln!("under Xvfb: {status}");
            ExitCode::FAILURE
        }
        Err(e) => {
            eprintln!("xvfb-run: {e}");
            ExitCode::FAILURE
        }
    }
}

fn models_path() -> std::ffi::OsString {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    std::env::join_paths([here.join("tests/data"), here.join("../models/packages")])
        .expect("paths without colons")
}

/// The plugin that cargo built beside this program.
fn library() -> PathBuf {
    let program = std::env::current_exe().expect("this program has a file");
    let deps = program.parent().expect("it lies in a folder");
    let name = format!(
        "{}obs_matte{}",
        std::env::consts::DLL_PREFIX,
        std::env::consts::DLL_SUFFIX
    );
    [deps.join(&name), deps.join("..").join(&name)]
        .into_iter()
        .filter(|file| file.is_file())
        .max_by_key(|file| file.metadata().and_then(|m| m.modified()).ok())
        .expect("cargo builds the plugin with its tests")
}

fn run(filter: &str) -> ExitCode {
    let obs = match Obs::start(60).and_then(|obs| {
        obs.load(
            &library(),
            &Path::new(env!("CARGO_MANIFEST_DIR")).join("data"),
        )?;
        Ok(obs)
    }) {
        Ok(obs) => obs,
        Err(e) => {
            eprintln!("libobs: {e}");
            return ExitCode::FAILURE;
        }
    };
    let mut failed = Vec::new();
    let mut number = 0;
    for (name, test) in tests::ALL.iter().filter(|(name, _)| name.contains(filter)) {
        let started = Instant::now();
        let passed = std::panic::catch_unwind(|| test(&obs)).is_ok();
        obs.output(None);
        println!(
            "test {name} ... {} ({:.1} s)",
            if passed { "ok" } else { "FAILED" },
            started.elapsed().as_secs_f64()
        );
        number += 1;
        if !passed {
            failed.push(*name);
        }
    }
    let uptime = obs.uptime();
    tests::end_while_a_model_is_being_opened(&obs);
    let leaks = obs.shutdown();
    println!(
        "{number} tests in {:.1} s, {leaks} leaks",
        uptime.as_secs_f64()
    );
    if leaks != 0 {
        failed.push("leaks");
    }
    if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        eprintln!("failed: {}", failed.join(", "));
        ExitCode::FAILURE
    }
}
