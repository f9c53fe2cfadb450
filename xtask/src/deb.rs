//! `cargo xtask deb`: a Debian package with the plugin, the program, the models and ONNX Runtime, which work after the
//! installation without any variable being set.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use matte_core::runtime::paths;

use crate::command::{self, Profile};
use crate::setup;

/// The version that the packaging is tested with.
const CARGO_DEB: &str = "3.8.0";

#[derive(Clone, Debug, Default, clap::Args)]
#[group(id = "deb")]
pub(crate) struct Args {
    #[command(flatten)]
    setup: setup::Args,
    /// Where the package is put, a folder.
    #[arg(long, default_value = "target/debian")]
    output: PathBuf,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    setup::run(args.setup)?;
    cargo_deb()?;
    let built = command::build(Profile::Release)?;
    // A folder as the package is to be, so that what is packed can be looked at.
    let root = command::root().join("target/deb/root");
    if root.exists() {
        fs::remove_dir_all(&root).with_context(|| root.display().to_string())?;
    }
    stage(&root, &built)?;
    let mut deb = command::cargo();
    deb.args([
        "deb",
        "--no-build",
        "--locked",
        "--package",
        "gst-plugin-matte",
        "--output",
    ]);
    deb.arg(&args.output);
    fs::create_dir_all(command::root().join(&args.output))
        .with_context(|| args.output.display().to_string())?;
    command::run(&mut deb)
}

/// Installs `cargo deb` where it is missing.
fn cargo_deb() -> Result<()> {
    if command::succeeds("cargo", &["deb", "--version"]) {
        return Ok(());
    }
    println!("cargo-deb {CARGO_DEB} is installed, which takes minutes");
    let mut install = command::cargo();
    install.args(["install", "--locked", "--version", CARGO_DEB, "cargo-deb"]);
    command::run(&mut install)
}

/// Puts everything where the package has it.
fn stage(root: &Path, built: &command::Built) -> Result<()> {
    let multiarch = multiarch()?;
    let plugins = root.join("usr/lib").join(multiarch).join("gstreamer-1.0");
    copy(&built.plugins.join("libgstmatte.so"), &plugins)?;
    copy(&built.matte, &root.join("usr/bin"))?;
    let source = command::root();
    copy(
        &source.join("gst-plugin/presets/GstMatteFilter.prs"),
        &root.join("usr/share/gstreamer-1.0/presets"),
    )?;

    // Not the one with GPU providers, which need libraries that no package of ours can bring.
    let cached = paths::onnxruntime_cache(false).join(paths::onnxruntime_file_name());
    let runtime = Some(cached)
        .filter(|file| file.is_file())
        .or_else(paths::find_onnxruntime)
        .context("ONNX Runtime is not installed")?;
    let libraries = root.join("usr/lib/matte");
    copy(&runtime, &libraries)?;
    let docs = root.join("usr/share/doc/matte");
    for file in ["LICENSE", "ThirdPartyNotices.txt"] {
        let licence = runtime.with_file_name(file);
        if !licence.is_file() {
            bail!(
                "{} is missing, without which ONNX Runtime may not be passed on; `cargo xtask setup` brings both",
                licence.display()
            );
        }
        copy_as(&licence, &docs.join(format!("onnxruntime-{file}")))?;
    }

    let models = root.join("usr/share/matte/models");
    copy_folder(&source.join("models/packages/lite"), &models.join("lite"))?;
    let selfie = paths::models_cache().join(setup::SELFIE);
    if selfie.is_dir() {
        copy_folder(&selfie, &models.join(setup::SELFIE))?;
        let licence = paths::cache_dir().join("sources/mediapipe-0.10.14/LICENSE");
        copy_as(&licence, &docs.join("mediapipe-LICENSE"))?;
    } else {
        println!(
            "without {}: the package seeds from masks only",
            setup::SELFIE
        );
    }
    for file in [
        "README.md",
        "CHANGELOG.md",
        "LICENSE-MIT",
        "LICENSE-APACHE",
        "docs/gstreamer.md",
        "docs/model-packages.md",
    ] {
        copy(&source.join(file), &docs)?;
    }
    Ok(())
}

/// Debian's name of this machine's kind, such as `x86_64-linux-gnu`.
fn multiarch() -> Result<String> {
    let output = Command::new("dpkg-architecture")
        .args(["-q", "DEB_HOST_MULTIARCH"])
        .output()
        .context("dpkg-architecture (package dpkg-dev)")?;
    let name = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if !output.status.success() || name.is_empty() {
        bail!("dpkg-architecture: {}", output.status);
    }
    Ok(name)
}

fn copy(file: &Path, folder: &Path) -> Result<()> {
    let name = file
        .file_name()
        .with_context(|| format!("{}: no file name", file.display()))?;
    copy_as(file, &folder.join(name))
}

fn copy_as(file: &Path, into: &Path) -> Result<()> {
    if let Some(folder) = into.parent() {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    fs::copy(file, into)
        .with_context(|| format!("{} to {}", file.display(), into.display()))
        .map(|_| ())
}

fn copy_folder(from: &Path, into: &Path) -> Result<()> {
    for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
        let path = entry?.path();
        if path.is_file() {
            copy(&path, into)?;
        }
    }
    Ok(())
}
