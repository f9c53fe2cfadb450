//! `cargo xtask setup`: brings the machine to where everything else works, and changes nothing the second time.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use matte_core::import::{WeightSource, import_package};
use matte_core::runtime::{Package, paths};

use crate::wheel::{self, Wheel};
use crate::{command, gpu, system};

/// Name of the person segmentation's package.
pub(crate) const SELFIE: &str = "selfie";

#[derive(Clone, Copy, Debug, Default, clap::Args)]
#[group(id = "setup")]
#[allow(
    clippy::struct_excessive_bools,
    reason = "switches of the command line"
)]
pub(crate) struct Args {
    /// Fetch ONNX Runtime with CUDA and TensorRT (256 MB).
    #[arg(long)]
    pub(crate) gpu: bool,
    /// Also what the OBS filter and its tests need (OBS, libobs, libclang, Xvfb).
    #[arg(id = "obs_packages", long = "obs")]
    pub(crate) obs: bool,
    /// Fetch nothing: check what is there, and say what the rest would bring.
    #[arg(long)]
    pub(crate) offline: bool,
    /// Fail where something optional cannot be had, instead of saying what it costs.
    #[arg(long)]
    pub(crate) strict: bool,
}

pub(crate) fn run(args: Args) -> Result<()> {
    system::ensure(args.offline)?;
    if args.obs {
        system::ensure_obs(args.offline)?;
    }
    let runtime = onnxruntime(args);
    // The rest is optional: what a failure costs is said, and nothing stops.
    let optional = [
        (
            openvino(args).context("OpenVINO"),
            "Without it the CPU provider computes, slower",
        ),
        (
            selfie(args).context(SELFIE),
            match Package::open(paths::models_cache().join(SELFIE)) {
                Ok(_) => "The one that was installed before stays",
                Err(_) => "Without it everything works but automatic seeding: give a mask",
            },
        ),
    ];
    for (result, cost) in optional {
        match result {
            Err(error) if args.strict => return Err(error),
            Err(error) => println!("{error:#}. {cost}"),
            Ok(()) => {}
        }
    }
    runtime
}

fn onnxruntime(args: Args) -> Result<()> {
    if paths::named_onnxruntime().is_some() {
        let found = paths::find_onnxruntime()
            .context("MATTE_ONNXRUNTIME or ORT_DYLIB_PATH names a file that is not there")?;
        println!("ONNX Runtime: {}, as the environment says", found.display());
        return Ok(());
    }
    let Some(wheel) = wheel::onnxruntime(args.gpu) else {
        let found = paths::find_onnxruntime().with_context(|| {
            format!(
                "ONNX Runtime: no wheel is pinned for {} on {}{}. Install ONNX Runtime {} and name the library in \
                 MATTE_ONNXRUNTIME. Nothing mattes without it",
                std::env::consts::OS,
                std::env::consts::ARCH,
                if args.gpu { " with GPU providers" } else { "" },
                paths::ONNXRUNTIME_VERSION
            )
        })?;
        println!("ONNX Runtime: {}", found.display());
        return Ok(());
    };
    let folder = paths::onnxruntime_cache(args.gpu);
    install(&wheel, &folder, args).context("ONNX Runtime: nothing mattes without it")?;
    println!("ONNX Runtime: {}", folder.display());
    if args.gpu {
        for backend in ["cuda", "tensorrt"] {
            let provider = folder.join(format!("libonnxruntime_providers_{backend}.so"));
            println!("{backend}: {}", gpu::needs_of(&provider)?);
        }
    }
    Ok(())
}

fn openvino(args: Args) -> Result<()> {
    let Some(wheel) = wheel::openvino() else {
        println!("OpenVINO: not for this processor (Intel, x86-64, Linux)");
        return Ok(());
    };
    let folder = paths::openvino_cache();
    install(&wheel, &folder, args)?;
    println!("OpenVINO: {}", folder.display());
    Ok(())
}

/// Our skeleton of the person segmentation.
fn selfie_skeleton() -> PathBuf {
    command::root().join("models/packages").join(SELFIE)
}

/// Where the weights of the person segmentation lie, with their licence.
fn selfie_sources() -> PathBuf {
    paths::cache_dir().join("sources/mediapipe-0.10.14")
}

/// Says which skeleton the installed package was made from, so that a newer one is imported again.
fn selfie_stamp() -> PathBuf {
    let sources = paths::cache_dir().join("sources");
    sources.join(format!("{SELFIE}-skeleton.txt"))
}

/// Whether the installed package was made from the skeleton whose manifest has this hash.
fn selfie_is_of(skeleton: &str) -> bool {
    fs::read_to_string(selfie_stamp()).is_ok_and(|text| text.trim() == skeleton)
}

/// The installed person segmentation and the licence that goes with it, to be packed; none where there is none.
pub(crate) fn installed_selfie() -> Result<Option<(PathBuf, PathBuf)>> {
    let package = paths::models_cache().join(SELFIE);
    if !package.is_dir() {
        return Ok(None);
    }
    let skeleton = wheel::hash_file(&selfie_skeleton().join("manifest.json"))?;
    if !selfie_is_of(&skeleton) {
        println!(
            "{SELFIE}: an older one is installed and packed; `cargo xtask setup` brings the new one"
        );
    }
    Ok(Some((package, selfie_sources().join("LICENSE"))))
}

/// Takes the weights out of the wheel and imports them into our skeleton of the network.
fn selfie(args: Args) -> Result<()> {
    let skeleton = selfie_skeleton();
    let manifest = skeleton.join("manifest.json");
    if !manifest.is_file() {
        bail!("{} is missing", manifest.display());
    }
    let sources = selfie_sources();
    install(&wheel::SELFIE, &sources, args)?;
    let package = paths::models_cache().join(SELFIE);
    let stamp = selfie_stamp();
    let skeleton_hash = wheel::hash_file(&manifest)?;
    if !(selfie_is_of(&skeleton_hash) && Package::open(&package).is_ok()) {
        import_package(&skeleton, &WeightSource::Files(&sources), &package)?;
        fs::write(&stamp, skeleton_hash).with_context(|| stamp.display().to_string())?;
    }
    println!("{SELFIE}: {}", package.display());
    Ok(())
}

/// Installs a wheel, or in offline mode says that it is missing.
pub(crate) fn install(wheel: &Wheel, folder: &Path, args: Args) -> Result<()> {
    if args.offline {
        if wheel.is_installed(folder) {
            return Ok(());
        }
        bail!(
            "{} is not in {}, and nothing is fetched offline",
            wheel.requirement,
            folder.display()
        );
    }
    wheel.install(folder).map(|_| ())
}
