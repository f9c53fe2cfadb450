//! What the system's package manager has to provide.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::command;

/// Oldest GStreamer that the plugin is built for.
const GSTREAMER: &str = "1.20";

/// Something that must be there, and the Debian package that brings it.
struct Need {
    what: String,
    package: &'static str,
}

/// Makes sure that every system package is there: installs what is missing where this is Debian or Ubuntu and we are
/// root, otherwise says what to type.
pub(crate) fn ensure(offline: bool) -> Result<()> {
    provide("system packages", missing, instructions, offline)
}

/// The same for what the OBS filter and its tests need.
pub(crate) fn ensure_obs(offline: bool) -> Result<()> {
    provide(
        "system packages of the OBS filter",
        missing_for_obs,
        obs_instructions,
        offline,
    )
}

fn provide(
    title: &str,
    look: fn() -> Vec<Need>,
    instructions: fn(&[&str]) -> String,
    offline: bool,
) -> Result<()> {
    let missing = look();
    if missing.is_empty() {
        println!("{title}: all there");
        return Ok(());
    }
    let names: Vec<&str> = missing.iter().map(|need| need.what.as_str()).collect();
    let names = names.join(", ");
    let mut packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
    packages.sort_unstable();
    packages.dedup();
    if offline {
        bail!(
            "missing: {names}. Nothing builds without them.\n{}",
            instructions(&packages)
        );
    }
    if !(Path::new("/etc/debian_version").exists()
        && command::succeeds("apt-get", &["--version"])
        && is_root())
    {
        bail!(
            "missing: {names}. Install them, then run this again:\n{}",
            instructions(&packages)
        );
    }
    println!(
        "{title}: missing {names}; installing {}",
        packages.join(" ")
    );
    let apt = |args: &[&str]| {
        let mut apt = Command::new("apt-get");
        apt.args(args).env("DEBIAN_FRONTEND", "noninteractive");
        command::run(&mut apt)
    };
    apt(&["update", "-qq"])?;
    apt(&[
        ["install", "-y", "-qq", "--no-install-recommends"].as_slice(),
        &packages,
    ]
    .concat())?;
    let still: Vec<String> = look().into_iter().map(|need| need.what).collect();
    if !still.is_empty() {
        bail!("still missing after the installation: {}", still.join(", "));
    }
    Ok(())
}

fn is_root() -> bool {
    Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

fn missing() -> Vec<Need> {
    let mut missing = Vec::new();
    let mut need = |there: bool, what: &str, package: &'static str| {
        if !there {
            missing.push(Need {
                what: what.to_owned(),
                package,
            });
        }
    };
    need(
        command::succeeds("cc", &["--version"]),
        "a C compiler",
        "gcc",
    );
    need(
        command::succeeds("pkg-config", &["--version"]),
        "pkg-config",
        "pkg-config",
    );
    let minimum = format!("--atleast-version={GSTREAMER}");
    for (library, package) in [
        ("gstreamer-1.0", "libgstreamer1.0-dev"),
        ("gstreamer-base-1.0", "libgstreamer1.0-dev"),
        ("gstreamer-check-1.0", "libgstreamer1.0-dev"),
        ("gstreamer-video-1.0", "libgstreamer-plugins-base1.0-dev"),
        ("gstreamer-app-1.0", "libgstreamer-plugins-base1.0-dev"),
    ] {
        let there = command::succeeds("pkg-config", &[&minimum, library]);
        need(
            there,
            &format!("{library} of {GSTREAMER} or newer, with headers"),
            package,
        );
    }
    need(
        command::succeeds("gst-launch-1.0", &["--version"]),
        "gst-launch-1.0",
        "gstreamer1.0-tools",
    );
    for (element, package) in [
        ("decodebin", "gstreamer1.0-plugins-base"),
        ("videoconvert", "gstreamer1.0-plugins-base"),
        ("rawvideoparse", "gstreamer1.0-plugins-base"),
        ("compositor", "gstreamer1.0-plugins-base"),
        ("pngenc", "gstreamer1.0-plugins-good"),
        ("qtmux", "gstreamer1.0-plugins-good"),
        ("matroskamux", "gstreamer1.0-plugins-good"),
        ("vp8enc", "gstreamer1.0-plugins-good"),
        ("h264parse", "gstreamer1.0-plugins-bad"),
        ("webrtcbin", "gstreamer1.0-plugins-bad"),
        ("nicesrc", "gstreamer1.0-nice"),
        ("x264enc", "gstreamer1.0-plugins-ugly"),
        ("vp9dec", "gstreamer1.0-plugins-good"),
        ("avdec_h264", "gstreamer1.0-libav"),
        ("avenc_ffv1", "gstreamer1.0-libav"),
    ] {
        need(
            command::succeeds(
                "gst-inspect-1.0",
                // Otherwise the plugin must be as new as GStreamer itself.
                &["--exists", "--atleast-version=0.0", element],
            ),
            &format!("element {element}"),
            package,
        );
    }
    // GStreamer has no encoder for VP9 with alpha.
    need(
        command::succeeds("ffmpeg", &["-version"]),
        "ffmpeg",
        "ffmpeg",
    );
    need(
        command::succeeds("python3", &["--version"]),
        "python3",
        "python3",
    );
    need(
        command::succeeds("python3", &["-m", "pip", "--version"]),
        "pip",
        "python3-pip",
    );
    missing
}

/// Building the filter takes libobs and libclang (for its bindings), testing it OBS, a display without a screen, and
/// software GL.
fn missing_for_obs() -> Vec<Need> {
    let exists = |program: &str| {
        std::env::var_os("PATH").is_some_and(|path| {
            std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
        })
    };
    let library = |folder: &str, beginning: &str| {
        std::fs::read_dir(folder).is_ok_and(|mut entries| {
            entries.any(|e| {
                // The C++ interface, which comes along with Mesa, is another library.
                e.map(|e| e.file_name().to_string_lossy().into_owned())
                    .is_ok_and(|name| name.starts_with(beginning) && !name.contains("-cpp"))
            })
        })
    };
    let triple = format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    let in_system = |name: &str| {
        [triple.as_str(), "/usr/lib64", "/usr/lib"]
            .iter()
            .any(|f| library(f, name))
    };
    let clang = in_system("libclang")
        || (11..30).any(|version| library(&format!("/usr/lib/llvm-{version}/lib"), "libclang"));
    [
        (in_system("libobs.so"), "libobs with headers", "libobs-dev"),
        (clang, "libclang", "libclang-dev"),
        (
            command::succeeds("pkg-config", &["x11"]),
            "libX11 with headers",
            "libx11-dev",
        ),
        (exists("obs"), "obs", "obs-studio"),
        (
            Path::new("/usr/share/obs/obs-plugins/obs-ffmpeg").is_dir(),
            "plugins of OBS",
            "obs-plugins",
        ),
        (exists("xvfb-run"), "xvfb-run", "xvfb"),
        (exists("xauth"), "xauth", "xauth"),
        (in_system("libEGL.so.1"), "libEGL", "libegl1"),
        (
            library(&format!("{triple}/dri"), "swrast") || library("/usr/lib64/dri", "swrast"),
            "software GL",
            "libgl1-mesa-dri",
        ),
    ]
    .into_iter()
    .filter(|(there, ..)| !there)
    .map(|(_, what, package)| Need {
        what: what.to_owned(),
        package,
    })
    .collect()
}

fn obs_instructions(debian: &[&str]) -> String {
    format!(
        "  Debian, Ubuntu:  sudo apt-get install {}\n  \
         Fedora:          sudo dnf install obs-studio obs-studio-devel clang-devel libX11-devel xorg-x11-server-Xvfb \
         xorg-x11-xauth mesa-libEGL mesa-dri-drivers   (obs-studio: from RPM Fusion)\n  \
         Arch:            sudo pacman -S obs-studio clang libx11 xorg-server-xvfb xorg-xauth mesa",
        debian.join(" ")
    )
}

fn instructions(debian: &[&str]) -> String {
    format!(
        "  Debian, Ubuntu:  sudo apt-get install {}\n  \
         Fedora:          sudo dnf install gcc pkgconf-pkg-config gstreamer1-devel gstreamer1-plugins-base-devel \
         gstreamer1-plugins-good gstreamer1-plugins-bad-free gstreamer1-plugins-ugly gstreamer1-plugin-libav \
         libnice-gstreamer1 ffmpeg python3-pip   (ugly, libav and ffmpeg: from RPM Fusion)\n  \
         Arch:            sudo pacman -S base-devel pkgconf gstreamer gst-plugins-base gst-plugins-good \
         gst-plugins-bad gst-plugins-ugly gst-libav libnice ffmpeg python-pip\n  \
         macOS:           brew install pkgconf gstreamer ffmpeg python",
        debian.join(" ")
    )
}
