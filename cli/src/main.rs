//! `matte`: the matting engine on files, and the tools around it.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line program speaks through them"
)]

mod bench;
mod doctor;
mod engine;
mod eval;
mod models;
mod run;
mod sheet;
mod video;

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;

/// Video matting on files, and the tools around it.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Run(run::Args),
    Eval(eval::Args),
    Composite(eval::composite::Args),
    Bench(bench::Args),
    Models(models::Args),
    Doctor(doctor::Args),
    Sheet(sheet::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).init();
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("matte: {}", told(&error));
            ExitCode::FAILURE
        }
    }
}

/// An error and what has caused it, each once: some errors say their causes themselves.
fn told(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

fn run(cli: &Cli) -> anyhow::Result<()> {
    // What only prints ends quietly when nobody reads on, as in `matte doctor | head`. The others also write to programs
    // that they start, and say what became of those.
    if let Command::Doctor(_) | Command::Models(_) | Command::Eval(_) | Command::Bench(_) =
        cli.command
    {
        sigpipe::reset();
    }
    gst::init().context("GStreamer")?;
    match &cli.command {
        Command::Run(args) => run::run(args),
        Command::Eval(args) => eval::run(args),
        Command::Composite(args) => eval::composite::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Models(args) => models::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Sheet(args) => sheet::run(args),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn causes_are_told_once() {
        let lost = || std::io::Error::other("lost");
        let error = anyhow::Error::new(lost())
            .context("a.png: lost")
            .context("frame 3");
        assert_eq!(super::told(&error), "frame 3: a.png: lost");
        let error = anyhow::Error::new(lost()).context("a.png");
        assert_eq!(super::told(&error), "a.png: lost");
    }

    #[test]
    fn arguments_are_consistent() {
        super::Cli::command().debug_assert();
    }
}
