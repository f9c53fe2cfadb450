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
            eprintln!("matte: {error:#}");
            ExitCode::FAILURE
        }
    }
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
        Command::Doctor(args) => {
            doctor::run(args);
            Ok(())
        }
        Command::Sheet(args) => sheet::run(args),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn arguments_are_consistent() {
        super::Cli::command().debug_assert();
    }
}
