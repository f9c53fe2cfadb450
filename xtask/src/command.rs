//! Running other programs.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// Which of cargo's profiles something is built with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    Dev,
    Release,
}

impl Profile {
    /// Name of its folder under `target`.
    pub(crate) fn folder(self) -> &'static str {
        match self {
            Self::Dev => "debug",
            Self::Release => "release",
        }
    }
}

/// Root of the source tree.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies in the source tree")
        .to_owned()
}

/// Cargo's target folder.
pub(crate) fn target() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => root().join(folder),
        None => root().join("target"),
    }
}

/// The cargo that runs this.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Runs a program to its end, its output on ours.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| shown(command))?;
    ensure!(status.success(), "{}: {status}", shown(command));
    Ok(())
}

/// Runs a program quietly; whether it exists and succeeds.
pub(crate) fn succeeds(program: &str, args: &[&str]) -> bool {
    let status = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

/// A command as one would type it.
pub(crate) fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

/// What is run: built by [`build`].
pub(crate) struct Built {
    /// A folder that holds the GStreamer plugin and nothing else, because GStreamer loads every library that it finds
    /// under a plugin path.
    pub(crate) plugins: PathBuf,
    /// The command line program.
    pub(crate) matte: PathBuf,
}

/// Builds the GStreamer plugin and the command line program.
pub(crate) fn build(profile: Profile) -> Result<Built> {
    let mut cargo = cargo();
    // Both at once, so that what they share is built with the features of the whole workspace, and so only once.
    cargo.args([
        "build",
        "--locked",
        "--package",
        "gst-plugin-matte",
        "--package",
        "matte-cli",
    ]);
    if profile == Profile::Release {
        cargo.arg("--release");
    }
    run(&mut cargo)?;
    let output = target().join(profile.folder());
    let plugins = target().join("gst-plugins").join(profile.folder());
    fs::create_dir_all(&plugins).with_context(|| plugins.display().to_string())?;
    let file = format!(
        "{}gstmatte{}",
        env::consts::DLL_PREFIX,
        env::consts::DLL_SUFFIX
    );
    // By a rename: a running GStreamer may have the old one mapped.
    let fresh = plugins.join("fresh.part");
    fs::copy(output.join(&file), &fresh)
        .with_context(|| output.join(&file).display().to_string())?;
    fs::rename(&fresh, plugins.join(&file)).with_context(|| plugins.display().to_string())?;
    Ok(Built {
        plugins,
        matte: output.join(format!("matte{}", env::consts::EXE_SUFFIX)),
    })
}

/// Everybody may read what is below a folder, and go into its folders, whatever the umask is: it is to be installed for all users.
#[cfg(unix)]
pub(crate) fn open_to_all(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;

    let said = || path.display().to_string();
    let data = fs::symlink_metadata(path).with_context(said)?;
    if data.is_symlink() {
        return Ok(());
    }
    let mode = data.permissions().mode();
    let is_run = data.is_dir() || mode & 0o100 != 0;
    let mode = if is_run { 0o755 } else { 0o644 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).with_context(said)?;
    if data.is_dir() {
        for entry in fs::read_dir(path).with_context(said)? {
            open_to_all(&entry?.path())?;
        }
    }
    Ok(())
}

/// As above; elsewhere there are no modes.
#[cfg(not(unix))]
pub(crate) fn open_to_all(_path: &Path) -> Result<()> {
    Ok(())
}

/// A plugin path with `folder` first.
pub(crate) fn plugin_path(folder: &Path) -> OsString {
    let before = env::var_os("GST_PLUGIN_PATH").unwrap_or_default();
    let all = std::iter::once(folder.to_owned())
        .chain(env::split_paths(&before).filter(|p| !p.as_os_str().is_empty()));
    env::join_paths(all).unwrap_or_else(|_| folder.into())
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_is_packed_is_readable_whatever_the_umask() {
        let folder = tempfile::tempdir().unwrap();
        let (file, program) = (folder.path().join("in/file"), folder.path().join("in/run"));
        fs::create_dir(folder.path().join("in")).unwrap();
        for (path, mode) in [(&file, 0o600), (&program, 0o700)] {
            fs::write(path, "").unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
        let inner = folder.path().join("in");
        fs::set_permissions(&inner, fs::Permissions::from_mode(0o700)).unwrap();
        open_to_all(folder.path()).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(
            [mode(&inner), mode(&file), mode(&program)],
            [0o755, 0o644, 0o755]
        );
    }
}
