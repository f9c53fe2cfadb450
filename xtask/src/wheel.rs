//! Files out of PyPI wheels: fetched by pip with the user's own settings, checked against a pinned hash, put in place in
//! one step.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use matte_core::import::remove_leftovers;
use sha2::{Digest, Sha256};

use crate::command;

/// How the names of folders begin into which wheels are fetched.
const WORK: &str = ".fetch-";

/// Lists what was unpacked: hash, size and name of every file.
const RECORD: &str = "installed.txt";

/// A wheel and what is taken out of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wheel {
    /// Name and version, as pip takes it.
    pub(crate) requirement: &'static str,
    /// Platform tags that pip may choose from. They name the wheel that was hashed, not the machine: a wheel from which
    /// only data is taken serves everywhere.
    pub(crate) platforms: &'static [&'static str],
    pub(crate) sha256: &'static str,
    /// Size of the download, MB.
    pub(crate) megabytes: u32,
    /// File name in the target folder for a member of the archive; `None` leaves it out.
    pub(crate) take: fn(&str) -> Option<&str>,
    /// What an older matte did not take: where it is missing, the wheel is fetched again.
    pub(crate) since: &'static [&'static str],
}

const LINUX_X86_64: &[&str] = &[
    "manylinux_2_28_x86_64",
    "manylinux_2_17_x86_64",
    "manylinux2014_x86_64",
];
const LINUX_AARCH64: &[&str] = &[
    "manylinux_2_28_aarch64",
    "manylinux_2_17_aarch64",
    "manylinux2014_aarch64",
];

/// Libraries of ONNX Runtime and their licences; the Python binding stays behind.
fn onnxruntime_files(member: &str) -> Option<&str> {
    let name = member.rsplit('/').next()?;
    let library = member.starts_with("onnxruntime/capi/libonnxruntime");
    (library
        || matches!(
            member,
            "onnxruntime/LICENSE" | "onnxruntime/ThirdPartyNotices.txt"
        ))
    .then_some(name)
}

fn openvino_files(member: &str) -> Option<&str> {
    let name = member.strip_prefix("onnxruntime_ep_openvino/")?;
    // The same library lies in the wheel under three names.
    let twice = name.starts_with("libonnxruntime_providers_openvino_plugin.so.");
    let python = Path::new(name)
        .extension()
        .is_some_and(|extension| extension == "py");
    (!name.is_empty() && !twice && !python).then_some(name)
}

const POSE: &str = "pose_landmark_full.tflite";
const DETECTION: &str = "pose_detection.tflite";

fn selfie_files(member: &str) -> Option<&str> {
    match member {
        "mediapipe-0.10.14.dist-info/LICENSE" => Some("LICENSE"),
        "mediapipe/modules/pose_landmark/pose_landmark_full.tflite" => Some(POSE),
        "mediapipe/modules/pose_detection/pose_detection.tflite" => Some(DETECTION),
        _ => member
            .strip_prefix("mediapipe/modules/selfie_segmentation/")
            .filter(|name| {
                Path::new(name)
                    .extension()
                    .is_some_and(|extension| extension == "tflite")
            }),
    }
}

fn astronaut_files(member: &str) -> Option<&str> {
    (member == "skimage/data/astronaut.png").then_some("astronaut.png")
}

/// ONNX Runtime for this machine; `None` where no wheel has been pinned.
pub(crate) fn onnxruntime(gpu: bool) -> Option<Wheel> {
    let on = |arch: &str| cfg!(target_os = "linux") && std::env::consts::ARCH == arch;
    let (requirement, platforms, sha256, megabytes) = match gpu {
        true if on("x86_64") => (
            "onnxruntime-gpu==1.31.1",
            LINUX_X86_64,
            "e26c475fe361b2015f45b4b824bd13f0bb20204e59b62814e6f0acd5f3d491a6",
            256,
        ),
        false if on("x86_64") => (
            "onnxruntime==1.31.1",
            LINUX_X86_64,
            "5752bd508126ae7c49894d3b9d2e83f0c3d487319246d04c444b393308d7ad7f",
            24,
        ),
        false if on("aarch64") => (
            "onnxruntime==1.31.1",
            LINUX_AARCH64,
            "da05378364c44d4407e463982d2bf8d5e4cfea873283757e48beeb41df97b7f3",
            21,
        ),
        _ => return None,
    };
    Some(Wheel {
        requirement,
        platforms,
        sha256,
        megabytes,
        take: onnxruntime_files,
        since: &[],
    })
}

/// The OpenVINO provider for this machine; `None` where there is none. On processors of other makers it loads, but
/// offers no device.
pub(crate) fn openvino() -> Option<Wheel> {
    let intel =
        std::fs::read_to_string("/proc/cpuinfo").is_ok_and(|info| info.contains("GenuineIntel"));
    (intel && cfg!(all(target_os = "linux", target_arch = "x86_64"))).then_some(Wheel {
        requirement: "onnxruntime-ep-openvino==1.8.1",
        platforms: LINUX_X86_64,
        sha256: "3832643158c8c187fcab6db661cde2a8c06a2b3559d95d0f2411ac0e51c5e924",
        megabytes: 53,
        take: openvino_files,
        since: &[],
    })
}

/// The weights of the person segmentation.
pub(crate) const SELFIE: Wheel = Wheel {
    requirement: "mediapipe==0.10.14",
    platforms: LINUX_X86_64,
    sha256: "a807328339e7356fda0bb14df12fedbf1d33bdf81649c5f8666b0026b1cc30b4",
    megabytes: 36,
    take: selfie_files,
    since: &[POSE, DETECTION],
};

/// The photograph of the demonstration: Eileen Collins, NASA, public domain.
pub(crate) const ASTRONAUT: Wheel = Wheel {
    requirement: "scikit-image==0.25.2",
    platforms: LINUX_X86_64,
    sha256: "24cc986e1f4187a12aa319f777b36008764e856e5013666a4a83f8df083c2641",
    megabytes: 15,
    take: astronaut_files,
    since: &[],
};

impl Wheel {
    /// Whether everything that was taken out of the wheel lies unchanged in `folder`.
    pub(crate) fn is_installed(&self, folder: &Path) -> bool {
        let Ok(record) = fs::read_to_string(folder.join(RECORD)) else {
            return false;
        };
        let mut lines = record.lines();
        if lines.next() != Some(self.sha256) {
            return false;
        }
        let mut files = Vec::new();
        let intact = lines.all(|line| {
            line.split_once("  ").is_some_and(|(hash, name)| {
                files.push(name);
                hash_file(&folder.join(name)).is_ok_and(|h| h == hash)
            })
        });
        intact && !files.is_empty() && self.since.iter().all(|name| files.contains(name))
    }

    /// Puts the files in place, unless they are there already. Returns whether it had to.
    pub(crate) fn install(&self, folder: &Path) -> Result<bool> {
        if self.is_installed(folder) {
            return Ok(false);
        }
        println!(
            "fetching {} from PyPI ({} MB)",
            self.requirement, self.megabytes
        );
        let parent = folder.parent().context("a folder in the cache")?;
        fs::create_dir_all(parent).with_context(|| parent.display().to_string())?;
        // In the same file system as the target, so that the rename at the end is one step.
        remove_leftovers(parent, WORK);
        let work = tempfile::Builder::new().prefix(WORK).tempdir_in(parent)?;
        let archive = self.download(work.path())?;
        let fresh = work.path().join("files");
        self.unpack(&archive, &fresh)?;
        if folder.exists() {
            fs::rename(folder, work.path().join("old"))
                .with_context(|| folder.display().to_string())?;
        }
        fs::rename(&fresh, folder).with_context(|| folder.display().to_string())?;
        Ok(true)
    }

    fn download(&self, folder: &Path) -> Result<PathBuf> {
        let mut pip = Command::new("python3");
        pip.args([
            "-m",
            "pip",
            "download",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
        ]);
        pip.args([
            "--only-binary=:all:",
            "--implementation=cp",
            "--python-version=3.11",
        ]);
        for platform in self.platforms {
            pip.args(["--platform", platform]);
        }
        pip.arg("-d").arg(folder).arg(self.requirement);
        command::run(&mut pip)?;
        let mut files = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
        files.retain(|file| {
            file.path()
                .extension()
                .is_some_and(|extension| extension == "whl")
        });
        let [file] = files.as_slice() else {
            bail!(
                "pip left {} wheels for {}, expected one",
                files.len(),
                self.requirement
            );
        };
        let path = file.path();
        let found = hash_file(&path)?;
        ensure!(
            found == self.sha256,
            "{}: SHA-256 is {found}, expected {}",
            path.file_name().unwrap_or_default().to_string_lossy(),
            self.sha256
        );
        Ok(path)
    }

    fn unpack(&self, archive: &Path, folder: &Path) -> Result<()> {
        fs::create_dir(folder)?;
        let mut archive = zip::ZipArchive::new(File::open(archive)?)?;
        let mut record = format!("{}\n", self.sha256);
        for index in 0..archive.len() {
            let mut member = archive.by_index(index)?;
            let member_name = member.name()?.into_owned();
            let Some(name) = (self.take)(&member_name) else {
                continue;
            };
            ensure!(
                !name.contains(['/', '\\']) && name != "..",
                "{member_name}: not a plain file name"
            );
            let path = folder.join(name);
            io::copy(&mut member, &mut File::create_new(&path)?)
                .with_context(|| path.display().to_string())?;
            record.extend([
                &hash_file(&path)?,
                "  ",
                name,
                "
",
            ]);
        }
        ensure!(
            record.lines().count() > 1,
            "{}: nothing of what is needed is in this wheel",
            self.requirement
        );
        fs::write(folder.join(RECORD), record)?;
        Ok(())
    }
}

/// SHA-256 of a file, in hexadecimal.
pub(crate) fn hash_file(path: &Path) -> Result<String> {
    let mut file = File::open(path).with_context(|| path.display().to_string())?;
    let mut hash = Sha256::new();
    let mut block = vec![0; 1 << 20];
    loop {
        let read = file
            .read(&mut block)
            .with_context(|| path.display().to_string())?;
        if read == 0 {
            break;
        }
        hash.update(&block[..read]);
    }
    let digits = |byte: u8| [byte >> 4, byte & 15].map(|digit| char::from_digit(digit.into(), 16));
    Ok(hash
        .finalize()
        .iter()
        .copied()
        .flat_map(digits)
        .flatten()
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const TEST: Wheel = Wheel {
        requirement: "test==1",
        platforms: &[],
        sha256: "abc",
        megabytes: 0,
        take: |member| member.strip_prefix("lib/"),
        since: &[],
    };

    fn archive(path: &Path, members: &[(&str, &[u8])]) {
        let mut zip = zip::ZipWriter::new(File::create(path).unwrap());
        for (name, data) in members {
            zip.start_file(*name, zip::write::SimpleFileOptions::default())
                .unwrap();
            zip.write_all(data).unwrap();
        }
        zip.finish().unwrap();
    }

    #[test]
    fn an_unpacked_wheel_is_intact_until_a_file_changes() {
        let dir = tempfile::tempdir().unwrap();
        let (wheel, folder) = (dir.path().join("t.whl"), dir.path().join("out"));
        archive(&wheel, &[("lib/a.so", b"one"), ("python/b.py", b"two")]);
        assert!(!TEST.is_installed(&folder));
        TEST.unpack(&wheel, &folder).unwrap();
        assert!(TEST.is_installed(&folder));
        assert!(!folder.join("b.py").exists());
        fs::write(folder.join("a.so"), b"One").unwrap();
        assert!(!TEST.is_installed(&folder));
    }

    #[test]
    fn what_an_older_matte_did_not_take_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let (wheel, folder) = (dir.path().join("t.whl"), dir.path().join("out"));
        archive(&wheel, &[("lib/a.so", b"one"), ("lib/b.so", b"two")]);
        let older = Wheel {
            take: |member| (member == "lib/a.so").then_some("a.so"),
            ..TEST
        };
        let newer = Wheel {
            since: &["b.so"],
            ..TEST
        };
        older.unpack(&wheel, &folder).unwrap();
        assert!(older.is_installed(&folder) && !newer.is_installed(&folder));
        std::fs::remove_dir_all(&folder).unwrap();
        newer.unpack(&wheel, &folder).unwrap();
        assert!(newer.is_installed(&folder));
    }

    #[test]
    fn a_wheel_without_what_is_needed_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let wheel = dir.path().join("t.whl");
        archive(&wheel, &[("python/b.py", b"two")]);
        assert!(TEST.unpack(&wheel, &dir.path().join("out")).is_err());
    }

    #[test]
    fn members_are_chosen_by_their_place() {
        assert_eq!(
            onnxruntime_files("onnxruntime/capi/libonnxruntime.so.1.31.1"),
            Some("libonnxruntime.so.1.31.1")
        );
        assert_eq!(
            onnxruntime_files("onnxruntime/capi/onnxruntime_pybind11_state.so"),
            None
        );
        assert_eq!(openvino_files("onnxruntime_ep_openvino/__init__.py"), None);
        assert_eq!(
            openvino_files("onnxruntime_ep_openvino/libtbb.so.12"),
            Some("libtbb.so.12")
        );
        assert_eq!(
            openvino_files("onnxruntime_ep_openvino/libonnxruntime_providers_openvino_plugin.so.1"),
            None
        );
        assert_eq!(
            selfie_files("mediapipe/modules/selfie_segmentation/__init__.py"),
            None
        );
        assert_eq!(
            selfie_files("mediapipe/modules/pose_landmark/pose_landmark_full.tflite"),
            Some(POSE)
        );
        assert_eq!(
            selfie_files("mediapipe/modules/pose_detection/pose_detection.tflite"),
            Some(DETECTION)
        );
    }
}
