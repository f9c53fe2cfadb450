//! `matte doctor`: what is installed, what would be used, and why not the rest.

use std::path::Path;

use anyhow::{Result, ensure};
use matte_core::runtime::{availability, paths};
use matte_core::{Backend, Matter, ModelSet, Options, Package};

use crate::engine::DEFAULT_MODEL;

/// Frame size for which the engine is opened on trial.
const TRIAL_SIZE: (u32, u32) = (1280, 720);

/// Show what is installed, what would be used, and why not the rest.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Model package to try the backends with.
    #[arg(long, default_value = DEFAULT_MODEL)]
    model: String,
}

/// # Errors
/// When nothing could be matted.
pub(crate) fn run(args: &Args) -> Result<()> {
    println!(
        "matte {} on {} {}",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        std::env::consts::ARCH
    );
    println!("CPU: {}", cpu());
    println!("cache: {}", paths::cache_dir().display());
    if let Some(path) = paths::find_onnxruntime() {
        println!(
            "ONNX Runtime: {} (tested with {})",
            path.display(),
            paths::ONNXRUNTIME_VERSION
        );
    } else {
        println!(
            "ONNX Runtime was not found, and nothing runs without it. `cargo xtask setup` installs it. Looked for:"
        );
        for path in paths::onnxruntime_candidates() {
            println!("  {}", path.display());
        }
    }
    let works = backends(&args.model);
    println!("Model packages:");
    for (path, package) in Package::list() {
        println!("  {}", package_line(&path, &package));
    }
    outputs();
    gstreamer();
    ensure!(works, "nothing can be matted with {}", args.model);
    Ok(())
}

/// One line about a package, usable or not.
pub(crate) fn package_line(path: &Path, package: &matte_core::Result<Package>) -> String {
    match package {
        Ok(package) => {
            let manifest = &package.manifest;
            let commercial = if manifest.licence.commercial_use {
                ""
            } else {
                ", not for commercial use"
            };
            format!(
                "{} {} ({:?}, {}, {}{commercial}): {}",
                manifest.name,
                manifest.version,
                manifest.kind,
                manifest.precision,
                manifest.licence.id,
                path.display()
            )
        }
        Err(error) => format!(
            "{}: {error}",
            path.file_name().unwrap_or_default().to_string_lossy()
        ),
    }
}

/// Opens the engine as `auto` would and says what that means, then on every other backend, and says why not. Whether one works.
fn backends(model: &str) -> bool {
    let (width, height) = TRIAL_SIZE;
    let models = match ModelSet::find(model) {
        Ok(models) => models,
        Err(error) => {
            println!("Nothing can be matted: {error}.");
            return false;
        }
    };
    let open = |backend| Matter::open(&models, backend, Options::default(), TRIAL_SIZE);
    let chosen = match open(Backend::Auto) {
        Ok(matter) => {
            let stats = matter.stats();
            println!(
                "Video of {width}x{height} would be matted with {}, which runs on {} and sees the frames at {}x{}.",
                stats.model, stats.backend, stats.working_size.0, stats.working_size.1
            );
            if matter.can_seed_automatically() {
                println!(
                    "A person is found without a mask and, with drift repair switched on, found again after a cut."
                );
            } else {
                println!(
                    "A mask has to be given: people cannot be found, as the person segmentation is missing. `cargo xtask \
                     setup` installs it."
                );
            }
            Some(matter.backend())
        }
        Err(error) => {
            println!("Nothing can be matted: no backend works. The last one said: {error}.");
            None
        }
    };
    println!("The other backends, each tried with this model:");
    for backend in Backend::ALL
        .into_iter()
        .filter(|backend| *backend != Backend::Auto && Some(*backend) != chosen)
    {
        let there = availability(backend);
        if backend == Backend::TensorRt && there.is_ok() {
            println!(
                "  {backend}: opening it, which takes minutes where its engines are not in the cache"
            );
        }
        match there.and_then(|_| open(backend)) {
            Ok(_) => println!(
                "  {backend} works; auto prefers what is above. `--backend {backend}` takes it."
            ),
            Err(error) => println!("  {backend} cannot be used: {error}."),
        }
    }
    chosen.is_some()
}

/// What `matte run` can write here.
fn outputs() {
    let has = |element: &str| gst::ElementFactory::find(element).is_some();
    let prores = has("avenc_prores_ks") && has("qtmux");
    let webm = std::process::Command::new("ffmpeg")
        .arg("-version")
        .output()
        .is_ok();
    println!("Videos with alpha that `matte run` can write here:");
    let line = |name: &str, there: bool, lacks: &str| match there {
        true => println!("  {name}: yes"),
        false => println!("  {name}: no, {lacks} is missing"),
    };
    line(
        ".mov, ProRes 4444",
        prores,
        "GStreamer's avenc_prores_ks (gst-libav)",
    );
    line(".webm, VP9", webm, "the program ffmpeg");
    line(
        ".mkv, FFV1",
        has("avenc_ffv1"),
        "GStreamer's avenc_ffv1 (gst-libav)",
    );
    line("PNG files", true, "");
}

fn gstreamer() {
    println!("{}", gst::version_string());
    match gst::ElementFactory::find("mattefilter") {
        Some(factory) => {
            use gst::prelude::*;
            let file = factory.plugin().and_then(|plugin| plugin.filename());
            println!(
                "element mattefilter: {}",
                file.map_or_else(|| "there".to_owned(), |file| file.display().to_string())
            );
        }
        None => println!(
            "element mattefilter: not visible; put libgstmatte.so into a folder of its own and name that folder in \
             GST_PLUGIN_PATH"
        ),
    }
}

/// Number of cores and the vector extensions that matter here.
fn cpu() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut features: Vec<&str> = Vec::new();
    #[cfg(target_arch = "x86_64")]
    for (name, there) in [
        ("avx2", is_x86_feature_detected!("avx2")),
        ("fma", is_x86_feature_detected!("fma")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
        ("avx512vnni", is_x86_feature_detected!("avx512vnni")),
        ("avx512bf16", is_x86_feature_detected!("avx512bf16")),
    ] {
        if there {
            features.push(name);
        }
    }
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    if info.contains(" amx_tile") {
        features.push("amx");
    }
    format!(
        "{}, {cores} cores, {}",
        name(&info),
        if features.is_empty() {
            "-".to_owned()
        } else {
            features.join(" ")
        }
    )
}

/// The processor's name, as the kernel gives it.
pub(crate) fn name(cpuinfo: &str) -> &str {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"));
    line.and_then(|line| line.split_once(':'))
        .map_or("unknown processor", |(_, name)| name.trim())
}
