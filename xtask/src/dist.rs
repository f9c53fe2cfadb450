//! `cargo xtask dist`: the OBS filter laid out as OBS looks for it, with everything that it needs.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use matte_core::runtime::paths;

use crate::command::{self, Profile};
use crate::{obs, setup, system};

/// Name of the plugin's files and folders.
const NAME: &str = "obs-matte";

#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Args {
    /// Also install it for this user.
    #[arg(long)]
    install: bool,
    #[command(flatten)]
    setup: setup::Args,
}

/// Folders of one layout.
struct Layout {
    /// Holds the plugin's library.
    binary: PathBuf,
    /// Holds the effect, locales and models.
    data: PathBuf,
}

impl Layout {
    /// A folder that OBS finds in the user's configuration.
    fn user(root: &Path) -> Self {
        Self {
            binary: root.join(NAME).join("bin/64bit"),
            data: root.join(NAME).join("data"),
        }
    }

    /// The system's folders below `/usr`.
    fn system(root: &Path) -> Self {
        let triple = format!("{}-linux-gnu", env::consts::ARCH);
        Self {
            binary: root.join("usr/lib").join(triple).join("obs-plugins"),
            data: root.join("usr/share/obs/obs-plugins").join(NAME),
        }
    }
}

pub(crate) fn run(args: Args) -> Result<()> {
    ensure!(
        cfg!(target_os = "linux"),
        "dist lays out the plugin for Linux; docs/obs.md tells where the files go elsewhere"
    );
    setup::run(args.setup)?;
    system::ensure_obs(args.setup.offline)?;
    let library = obs::build(Profile::Release)?;
    let folder = command::target().join("dist").join(format!(
        "{NAME}-{}-linux-{}",
        env!("CARGO_PKG_VERSION"),
        env::consts::ARCH
    ));
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
    }
    fill(&Layout::user(&folder.join("user")), &library)?;
    fill(&Layout::system(&folder.join("system")), &library)?;
    copy_file(&obs::folder().join("LICENSE"), &folder.join("LICENSE"))?;
    copy_file(
        &command::root().join("docs/obs.md"),
        &folder.join("README.md"),
    )?;
    command::open_to_all(&folder)?;
    println!(
        "for one user:   cp -r {}/user/{NAME} ~/.config/obs-studio/plugins/",
        folder.display()
    );
    println!(
        "for all users:  sudo cp -r {}/system/usr /",
        folder.display()
    );
    if args.install {
        let plugins = env::var_os("XDG_CONFIG_HOME")
            .map(PathBuf::from)
            .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".config")))
            .context("neither XDG_CONFIG_HOME nor HOME is set")?
            .join("obs-studio/plugins");
        let there = plugins.join(NAME);
        if there.exists() {
            fs::remove_dir_all(&there).with_context(|| there.display().to_string())?;
        }
        copy_folder(&folder.join("user").join(NAME), &there)?;
        println!("installed in {}", there.display());
    }
    Ok(())
}

/// Copies everything that the plugin needs.
fn fill(layout: &Layout, library: &Path) -> Result<()> {
    copy_file(library, &layout.binary.join(format!("{NAME}.so")))?;
    let source = obs::folder().join("data");
    copy_file(
        &source.join("matte.effect"),
        &layout.data.join("matte.effect"),
    )?;
    copy_folder(&source.join("locale"), &layout.data.join("locale"))?;

    // Beside the library, in a folder of its own: OBS takes every library in its plugin folder for a plugin.
    let lib = layout.binary.join(NAME).join("lib");
    let runtime = paths::find_onnxruntime().context("ONNX Runtime is not installed")?;
    let runtime = runtime.parent().context("a library lies in a folder")?;
    let own = runtime.starts_with(paths::cache_dir());
    for file in files(runtime)? {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        // A folder of the system holds other things too.
        if own || name.starts_with("libonnxruntime") {
            copy_file(&file, &lib.join(&*name))?;
        }
    }
    if let Some(folder) = paths::find_openvino().as_deref().and_then(Path::parent) {
        for file in files(folder)? {
            copy_file(&file, &lib.join(file.file_name().unwrap_or_default()))?;
        }
    }

    let models = layout.data.join("models");
    copy_folder(
        &command::root().join("models/packages/lite"),
        &models.join("lite"),
    )?;
    if let Some((person, licence)) = setup::installed_selfie()? {
        let folder = models.join(setup::SELFIE);
        copy_folder(&person, &folder)?;
        copy_file(&licence, &folder.join("LICENSE"))?;
    } else {
        println!(
            "{}: not installed, so the plugin finds nobody by itself",
            setup::SELFIE
        );
    }
    Ok(())
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_file() {
            all.push(path);
        }
    }
    Ok(all)
}

fn copy_file(from: &Path, to: &Path) -> Result<()> {
    let folder = to.parent().context("a file lies in a folder")?;
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    fs::copy(from, to).with_context(|| from.display().to_string())?;
    Ok(())
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
        let path = entry?.path();
        let target = to.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            copy_folder(&path, &target)?;
        } else {
            copy_file(&path, &target)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_s_plugin_lies_as_obs_looks_for_it() {
        let layout = Layout::user(Path::new("plugins"));
        assert_eq!(layout.binary, Path::new("plugins/obs-matte/bin/64bit"));
        assert_eq!(layout.data, Path::new("plugins/obs-matte/data"));
    }

    #[test]
    fn folders_are_copied_with_all_that_is_in_them() {
        let dir = tempfile::tempdir().unwrap();
        let from = dir.path().join("from");
        fs::create_dir_all(from.join("deep")).unwrap();
        fs::write(from.join("deep/file"), "text").unwrap();
        copy_folder(&from, &dir.path().join("to")).unwrap();
        assert_eq!(
            fs::read_to_string(dir.path().join("to/deep/file")).unwrap(),
            "text"
        );
    }
}
