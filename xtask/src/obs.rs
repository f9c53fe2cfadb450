//! The OBS filter, which is a workspace of its own: built and tested where OBS is.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::command::{self, Profile};
use crate::{demo, setup, system};

/// Folder of the filter.
pub(crate) fn folder() -> PathBuf {
    command::root().join("obs-plugin")
}

/// Cargo in the filter's workspace.
fn cargo() -> Command {
    let mut cargo = command::cargo();
    cargo.current_dir(folder());
    cargo
}

/// Builds the plugin; the library that OBS loads.
pub(crate) fn build(profile: Profile) -> Result<PathBuf> {
    let mut cargo = cargo();
    cargo.args(["build", "--locked", "--lib"]);
    if profile == Profile::Release {
        cargo.arg("--release");
    }
    command::run(&mut cargo)?;
    let name = format!(
        "{}obs_matte{}",
        std::env::consts::DLL_PREFIX,
        std::env::consts::DLL_SUFFIX
    );
    let library = command::target().join(profile.folder()).join(name);
    ensure!(library.is_file(), "cargo left no {}", library.display());
    Ok(library)
}

/// Runs the filter's tests: its parts, libobs in one process, and OBS itself.
pub(crate) fn test(args: setup::Args) -> Result<()> {
    same_lints()?;
    if let Err(error) = system::ensure_obs(args.offline) {
        println!("tests of the OBS filter: skipped. {error:#}");
        return Ok(());
    }
    let mut tests = cargo();
    tests.args(["test", "--locked"]);
    match demo::default_clip(&command::target().join("demo"), args) {
        Ok(clip) => {
            tests.env("MATTE_OBS_CLIP", clip);
        }
        Err(error) => println!("the smoke test goes without the demonstration's clip: {error:#}"),
    }
    command::run(&mut tests)
}

/// The lints of one `Cargo.toml`: the lines of its tables of that kind.
fn lints(text: &str, prefix: &str) -> Vec<String> {
    let mut inside = false;
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(table) = line.strip_prefix('[') {
            inside = table.starts_with(prefix);
        } else if inside && !line.is_empty() && !line.starts_with('#') {
            found.push(line.to_owned());
        }
    }
    found.sort();
    found
}

/// Lints cannot be inherited from another workspace, so they are written twice; this keeps them the same.
fn same_lints() -> Result<()> {
    let read =
        |path: PathBuf| fs::read_to_string(&path).with_context(|| path.display().to_string());
    let ours = read(folder().join("Cargo.toml"))?;
    let theirs = read(command::root().join("Cargo.toml"))?;
    ensure!(
        lints(&ours, "lints.") == lints(&theirs, "workspace.lints."),
        "the lints of obs-plugin/Cargo.toml differ from those of Cargo.toml"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_has_the_lints_of_the_rest() {
        same_lints().unwrap();
    }

    #[test]
    fn lints_are_the_lines_of_their_tables() {
        let text = "[a]\nx = 1\n[lints.rust]\n# why\nb = 2\na = 1\n\n[profile.dev]\nz = 3\n";
        assert_eq!(lints(text, "lints."), ["a = 1", "b = 2"]);
    }
}
