//! Where files are looked for.

use std::env;
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy as _;
use parking_lot::Mutex;

/// Version of ONNX Runtime that the engine is built and tested with.
pub const ONNXRUNTIME_VERSION: &str = "1.31.1";

/// Version of the OpenVINO plugin provider that is tested with it.
pub const OPENVINO_VERSION: &str = "1.8.1";

/// The user's cache: `$MATTE_CACHE_DIR`, or `matte` in the platform's cache directory.
pub fn cache_dir() -> PathBuf {
    if let Some(dir) = env::var_os("MATTE_CACHE_DIR").filter(|d| !d.is_empty()) {
        return dir.into();
    }
    match etcetera::base_strategy::choose_base_strategy() {
        Ok(strategy) => strategy.cache_dir().join("matte"),
        // No home directory: a service account.
        Err(_) => env::temp_dir().join("matte-cache"),
    }
}

/// Imported packages, one directory each.
pub fn models_cache() -> PathBuf {
    cache_dir().join("models")
}

/// Directory in the cache that holds the libraries of ONNX Runtime; `gpu` for those with CUDA and TensorRT.
pub fn onnxruntime_cache(gpu: bool) -> PathBuf {
    let flavour = if gpu {
        "onnxruntime-gpu"
    } else {
        "onnxruntime"
    };
    cache_dir()
        .join("runtime")
        .join(format!("{flavour}-{ONNXRUNTIME_VERSION}"))
}

/// Directory in the cache that holds the OpenVINO plugin provider.
pub fn openvino_cache() -> PathBuf {
    cache_dir()
        .join("runtime")
        .join(format!("onnxruntime-ep-openvino-{OPENVINO_VERSION}"))
}

/// File name of ONNX Runtime's shared library in its PyPI wheel.
pub fn onnxruntime_file_name() -> String {
    if cfg!(target_os = "windows") {
        "onnxruntime.dll".to_owned()
    } else if cfg!(target_os = "macos") {
        format!("libonnxruntime.{ONNXRUNTIME_VERSION}.dylib")
    } else {
        format!("libonnxruntime.so.{ONNXRUNTIME_VERSION}")
    }
}

/// File name of the OpenVINO plugin provider in its PyPI wheel.
pub fn openvino_file_name() -> &'static str {
    if cfg!(target_os = "windows") {
        "onnxruntime_providers_openvino_plugin.dll"
    } else {
        "libonnxruntime_providers_openvino_plugin.so"
    }
}

/// Directory of the running program.
fn program_dir() -> Option<PathBuf> {
    env::current_exe().ok()?.parent().map(Path::to_owned)
}

/// Folders that [`add_installation`] was given.
static INSTALLATIONS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Names a folder of the installation that this code is part of, for a plugin that is loaded into a program that lies
/// elsewhere: packages are looked for in `models` in it, libraries in `lib`, before all other places but those that the
/// environment names.
pub fn add_installation(folder: impl Into<PathBuf>) {
    let folder = folder.into();
    let mut all = INSTALLATIONS.lock();
    if !all.contains(&folder) {
        all.push(folder);
    }
}

/// The file that `$MATTE_ONNXRUNTIME` or `$ORT_DYLIB_PATH` names.
pub fn named_onnxruntime() -> Option<PathBuf> {
    let named = |name| env::var_os(name).filter(|file| !file.is_empty());
    named("MATTE_ONNXRUNTIME")
        .or_else(|| named("ORT_DYLIB_PATH"))
        .map(PathBuf::from)
}

/// Places where ONNX Runtime's shared library may be, in order: [`named_onnxruntime`], the cache's with GPU providers, which only is
/// there where somebody has asked for it, the folders of [`add_installation`], beside the program, the cache's without, the system's
/// library directories.
pub fn onnxruntime_candidates() -> Vec<PathBuf> {
    if let Some(file) = named_onnxruntime() {
        // Named explicitly: nothing else is tried, so that a wrong path is seen.
        return vec![file];
    }
    let file = onnxruntime_file_name();
    let mut all = vec![onnxruntime_cache(true).join(&file)];
    for dir in INSTALLATIONS.lock().iter() {
        all.push(dir.join("lib").join(&file));
    }
    if let Some(dir) = program_dir() {
        all.push(dir.join(&file));
        all.push(dir.join("../lib/matte").join(&file));
    }
    all.push(onnxruntime_cache(false).join(&file));
    for dir in [
        "/usr/local/lib/matte",
        "/usr/lib/matte",
        "/usr/local/lib",
        "/usr/lib",
        "/usr/lib64",
    ] {
        all.push(Path::new(dir).join(&file));
    }
    if cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        all.push(Path::new("/usr/lib/x86_64-linux-gnu").join(&file));
    } else if cfg!(all(target_os = "linux", target_arch = "aarch64")) {
        all.push(Path::new("/usr/lib/aarch64-linux-gnu").join(&file));
    }
    all
}

/// ONNX Runtime's shared library, if it is installed.
pub fn find_onnxruntime() -> Option<PathBuf> {
    onnxruntime_candidates().into_iter().find(|p| p.is_file())
}

/// The OpenVINO plugin provider, if it is installed: `$MATTE_OPENVINO` (a file; empty for none), beside ONNX Runtime,
/// or the cache.
pub fn find_openvino() -> Option<PathBuf> {
    if let Some(file) = env::var_os("MATTE_OPENVINO") {
        return Some(PathBuf::from(file)).filter(|f| f.is_file());
    }
    let beside = find_onnxruntime().and_then(|p| Some(p.parent()?.join(openvino_file_name())));
    beside
        .into_iter()
        .chain([openvino_cache().join(openvino_file_name())])
        .find(|p| p.is_file())
}

/// Directories that hold model packages, in order: `$MATTE_MODELS` (a path list), the folders of [`add_installation`], the
/// cache, beside the program, the system's shared data, the source tree that this was built from.
pub fn model_dirs() -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = env::var_os("MATTE_MODELS")
        .map(|list| env::split_paths(&list).collect())
        .unwrap_or_default();
    all.extend(INSTALLATIONS.lock().iter().map(|dir| dir.join("models")));
    all.push(models_cache());
    if let Some(dir) = program_dir() {
        all.push(dir.join("models"));
        all.push(dir.join("../share/matte/models"));
    }
    all.push("/usr/local/share/matte/models".into());
    all.push("/usr/share/matte/models".into());
    all.push(Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/packages"));
    all
}
