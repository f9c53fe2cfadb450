//! `cargo xtask deb`: a Debian package with the plugin, the program, the models and ONNX Runtime, which work after the
//! installation without any variable being set.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use matte_core::runtime::paths;

use crate::command::{self, Profile};
use crate::setup;

/// Name of the package.
const NAME: &str = "matte";

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
    for (program, package) in [
        ("dpkg-deb", "dpkg"),
        ("dpkg-shlibdeps", "dpkg-dev"),
        ("strip", "binutils"),
    ] {
        if !command::succeeds(program, &["--version"]) {
            bail!("{program} is missing: apt-get install {package}");
        }
    }
    setup::run(args.setup)?;
    let built = command::build(Profile::Release)?;
    // A folder as the package is to be, so that what is packed can be looked at.
    let root = command::root().join("target/deb/root");
    if root.exists() {
        fs::remove_dir_all(&root).with_context(|| root.display().to_string())?;
    }
    let programs = stage(&root, &built)?;
    let architecture = output(Command::new("dpkg").arg("--print-architecture"))?;
    write(
        &root.join("DEBIAN/control"),
        &control(&root, &programs, &architecture)?,
    )?;
    command::open_to_all(&root)?;
    let folder = command::root().join(&args.output);
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let version = env!("CARGO_PKG_VERSION");
    let package = folder.join(format!("{NAME}_{version}_{architecture}.deb"));
    command::run(
        Command::new("dpkg-deb")
            .args(["--root-owner-group", "--build"])
            .args([&root, &package]),
    )?;
    println!("{}", package.display());
    Ok(())
}

/// The package's description. What the programs need of the system is found out by Debian's own tool.
fn control(root: &Path, programs: &[PathBuf], architecture: &str) -> Result<String> {
    // It wants to run in a source package.
    let source = root.with_file_name("source");
    write(
        &source.join("debian/control"),
        &format!("Source: {NAME}\n\nPackage: {NAME}\nArchitecture: any\n"),
    )?;
    let needed = output(
        Command::new("dpkg-shlibdeps")
            .arg("-O")
            .args(programs)
            .current_dir(&source),
    )?;
    let needed = needed
        .lines()
        .find_map(|line| line.strip_prefix("shlibs:Depends="))
        .context("dpkg-shlibdeps says nothing about shlibs:Depends")?;
    let mut bytes = 0;
    size(root, &mut bytes)?;
    Ok(format!(
        "Package: {NAME}\n\
         Version: {}\n\
         Architecture: {architecture}\n\
         Maintainer: The matte developers <matte@users.noreply.github.com>\n\
         Installed-Size: {}\n\
         Depends: {needed}, gstreamer1.0-plugins-base\n\
         Recommends: gstreamer1.0-tools, gstreamer1.0-plugins-good, gstreamer1.0-libav\n\
         Suggests: gstreamer1.0-plugins-bad, gstreamer1.0-plugins-ugly, ffmpeg\n\
         Provides: gstreamer1.0-matte\n\
         Section: video\n\
         Priority: optional\n\
         Homepage: {}\n\
         Description: cuts a person or an object out of live video\n \
         The GStreamer element mattefilter cuts a person, or anything that a mask\n \
         names once, out of live video: soft, stable edges, no green screen. The\n \
         program matte does the same with files. A model, a person segmentation and\n \
         ONNX Runtime come along.\n",
        env!("CARGO_PKG_VERSION"),
        bytes / 1024,
        env!("CARGO_PKG_REPOSITORY"),
    ))
}

/// Adds up the sizes of all files under a folder.
fn size(folder: &Path, bytes: &mut u64) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            size(&entry.path(), bytes)?;
        } else {
            *bytes += entry.metadata()?.len();
        }
    }
    Ok(())
}

/// Puts everything where the package has it. Returns what runs.
fn stage(root: &Path, built: &command::Built) -> Result<Vec<PathBuf>> {
    let multiarch = multiarch()?;
    let plugins = root.join("usr/lib").join(multiarch).join("gstreamer-1.0");
    copy(&built.plugins.join("libgstmatte.so"), &plugins)?;
    copy(&built.matte, &root.join("usr/bin"))?;
    let programs = vec![plugins.join("libgstmatte.so"), root.join("usr/bin/matte")];
    command::run(
        Command::new("strip")
            .arg("--strip-unneeded")
            .args(&programs),
    )?;
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
    // The skeletons wait for their weights: `matte models import`.
    for name in ["lite", "matanyone2", "matanyone2-fp16"] {
        copy_folder(
            &source.join("models/packages").join(name),
            &models.join(name),
        )?;
    }
    if let Some((selfie, licence)) = setup::installed_selfie()? {
        copy_folder(&selfie, &models.join(setup::SELFIE))?;
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
    write(&docs.join("copyright"), COPYRIGHT)?;
    Ok(programs)
}

/// Who has made what, in Debian's format.
const COPYRIGHT: &str = "\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: matte

Files: *
Copyright: the matte developers
License: MIT or Apache-2.0
 See LICENSE-MIT and LICENSE-APACHE in this folder. The weights of the model lite
 are under the same terms.

Files: usr/lib/matte/libonnxruntime.so.*
Copyright: Microsoft Corporation
License: MIT
 See onnxruntime-LICENSE and onnxruntime-ThirdPartyNotices.txt in this folder.

Files: usr/share/matte/models/selfie/*
Copyright: The MediaPipe Authors
License: Apache-2.0
 See mediapipe-LICENSE in this folder, and NOTICE beside the model.
";

fn write(file: &Path, text: &str) -> Result<()> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    fs::write(file, text).with_context(|| file.display().to_string())
}

/// Debian's name of this machine's kind, such as `x86_64-linux-gnu`.
fn multiarch() -> Result<String> {
    output(Command::new("dpkg-architecture").args(["-q", "DEB_HOST_MULTIARCH"]))
}

/// What a program prints.
fn output(program: &mut Command) -> Result<String> {
    let output = program.output().with_context(|| command::shown(program))?;
    if !output.status.success() {
        bail!(
            "{}: {}: {}",
            command::shown(program),
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
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
