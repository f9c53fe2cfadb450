//! `matte doctor`: what is installed, what would be used, and why not the rest.

use std::path::Path;

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

pub(crate) fn run(args: &Args) {
    println!(
        "matte {} on {} {}",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        std::env::consts::ARCH
    );
    println!("CPU: {}", cpu());
    println!("cache: {}", paths::cache_dir().display());
    match paths::find_onnxruntime() {
        Some(path) => println!(
            "ONNX Runtime: {} (tested with {})",
            path.display(),
            paths::ONNXRUNTIME_VERSION
        ),
        None => println!(
            "ONNX Runtime: not found; nothing mattes. `cargo xtask setup` installs it. Looked for:"
        ),
    }
    if paths::find_onnxruntime().is_none() {
        for path in paths::onnxruntime_candidates() {
            println!("  {}", path.display());
        }
    }
    println!("model packages:");
    for (path, package) in Package::list() {
        println!("  {}", package_line(&path, &package));
    }
    backends(&args.model);
    gstreamer();
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

/// Opens the engine on every backend that has its files, and then as `auto` would.
fn backends(model: &str) {
    let models = match ModelSet::find(model) {
        Ok(models) => models,
        Err(error) => {
            println!("backends: not tried: {error}");
            return;
        }
    };
    println!(
        "backends, each tried with model {model} for {}x{} frames:",
        TRIAL_SIZE.0, TRIAL_SIZE.1
    );
    let open = |backend| Matter::open(&models, backend, Options::default(), TRIAL_SIZE);
    for backend in Backend::ALL
        .into_iter()
        .filter(|backend| *backend != Backend::Auto)
    {
        let outcome = availability(backend).and_then(|_| open(backend));
        match outcome {
            Ok(_) => println!("  {backend}: works"),
            Err(error) => println!("  {backend}: no: {error}"),
        }
    }
    match open(Backend::Auto) {
        Ok(matter) => {
            let stats = matter.stats();
            let (width, height) = stats.working_size;
            println!("auto uses {}, working size {width}x{height}", stats.backend);
            if !matter.can_seed_automatically() {
                println!(
                    "automatic first masks: no, the person segmentation is missing; `cargo xtask setup` installs it"
                );
            }
        }
        Err(error) => println!("auto: nothing works: {error}"),
    }
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
