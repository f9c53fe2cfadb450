//! `cargo xtask`: the project's own commands.
//!
//! This program builds on a bare machine, so that it can say, and where it may also install, what everything else
//! needs.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line program speaks through them"
)]

mod astronaut;
mod command;
mod deb;
mod demo;
mod dist;
mod gpu;
mod obs;
mod setup;
mod system;
mod wheel;

use std::process::{Command, ExitCode};

use anyhow::{Result, ensure};
use clap::Parser;

/// The project's own commands.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, clap::Subcommand)]
enum Task {
    /// Check or install system packages, ONNX Runtime and the person segmentation.
    Setup(setup::Args),
    /// Set up, then run all tests; with --obs also those of the OBS filter.
    Test {
        /// Run the Python tests of models/ as well (they need PyTorch).
        #[arg(long)]
        models: bool,
        #[command(flatten)]
        setup: setup::Args,
    },
    /// Set up, then matte a clip with the GStreamer element; results go to target/demo.
    Demo(demo::Args),
    /// Set up, then make a Debian package: plugin, program, models and ONNX Runtime.
    Deb(deb::Args),
    /// Set up, then lay the OBS filter out for installation, in target/dist.
    Dist(dist::Args),
    /// Set up, then measure the shipped model and MatAnyone 2 (with weights made by rule).
    Bench {
        #[command(flatten)]
        setup: setup::Args,
        /// Passed on to `matte bench`.
        #[arg(last = true)]
        args: Vec<String>,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).init();
    let done = match &cli.task {
        Task::Setup(args) => setup::run(*args),
        Task::Test { models, setup } => test(*models, *setup),
        Task::Demo(args) => demo::run(args),
        Task::Deb(args) => deb::run(args),
        Task::Dist(args) => dist::run(*args),
        Task::Bench { setup, args } => bench(*setup, args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cargo xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn test(models: bool, args: setup::Args) -> Result<()> {
    if models {
        ensure!(
            command::succeeds("python3", &["-c", "import pytest, torch, cv2"]),
            "tests of models/: python3 lacks PyTorch, pytest or OpenCV (pip install -e 'models[test]')"
        );
    }
    // Without OBS its tests are skipped, and the rest runs.
    let obs = args.obs;
    setup::run(setup::Args { obs: false, ..args })?;
    // gst-launch-1.0 in the tests needs the plugin as a file.
    let built = command::build(command::Profile::Dev)?;
    let mut tests = command::cargo();
    tests.args(["test", "--workspace", "--locked"]);
    tests.env("GST_PLUGIN_PATH", command::plugin_path(&built.plugins));
    command::run(&mut tests)?;
    if models {
        let mut python = Command::new("python3");
        python.args(["-m", "pytest", "-q", "models/tests"]);
        python
            .current_dir(command::root())
            .env("PYTHONPATH", command::root().join("models"));
        command::run(&mut python)?;
    }
    if obs {
        obs::test(args)?;
    }
    Ok(())
}

fn bench(args: setup::Args, more: &[String]) -> Result<()> {
    setup::run(args)?;
    let matte = command::build(command::Profile::Release)?.matte;
    let lite = ["--model", "lite"];
    // The memory of a network this size is measured at a small working size: 3,000 frames at its own take an hour.
    let matanyone2 = [
        "--model",
        "matanyone2",
        "--rule-weights",
        "--memory-working-size",
        "160x96",
    ];
    for model in [lite.as_slice(), &matanyone2] {
        let mut bench = Command::new(&matte);
        bench
            .arg("bench")
            .args(model)
            .args(more)
            .current_dir(command::root());
        command::run(&mut bench)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn arguments_are_consistent() {
        super::Cli::command().debug_assert();
    }
}
