//! What ONNX Runtime's GPU providers need of the system, which no wheel of ours brings.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use matte_core::runtime::source_of_library;

/// Libraries that are loaded only when they are needed, so that no linker lists them.
const ON_DEMAND: [&str; 2] = ["libcudnn.so.9", "libcuda.so.1"];

/// In words, whether a provider finds what it needs, and what brings the rest.
pub(crate) fn needs_of(provider: &Path) -> Result<String> {
    let ldd = Command::new("ldd").arg(provider).output();
    let ldd = ldd.with_context(|| format!("ldd {}", provider.display()))?;
    let mut missing = missing_in(&String::from_utf8_lossy(&ldd.stdout));
    missing.extend(
        ON_DEMAND
            .into_iter()
            .filter(|name| !is_found(name))
            .map(str::to_owned),
    );
    missing.sort();
    missing.dedup();
    Ok(told(&missing))
}

/// Names of the libraries that `ldd` did not find.
fn missing_in(ldd: &str) -> Vec<String> {
    ldd.lines()
        .filter_map(|line| line.trim().strip_suffix(" => not found"))
        .map(str::to_owned)
        .collect()
}

/// Whether the loader would find a library: in `LD_LIBRARY_PATH`, or in its own cache.
fn is_found(name: &str) -> bool {
    let named = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let cached = || {
        Command::new("ldconfig")
            .arg("-p")
            .output()
            .is_ok_and(|out| {
                (String::from_utf8_lossy(&out.stdout).lines())
                    .any(|line| line.trim_start().starts_with(&format!("{name} ")))
            })
    };
    std::env::split_paths(&named).any(|folder| folder.join(name).is_file()) || cached()
}

fn told(missing: &[String]) -> String {
    if missing.is_empty() {
        return "everything that it needs is there".to_owned();
    }
    let mut sources: Vec<&str> = missing
        .iter()
        .filter_map(|name| source_of_library(name))
        .collect();
    sources.sort_unstable();
    sources.dedup();
    format!(
        "not usable before the loader finds {}. They come with {}; docs/benchmarks.md has the versions that were tried",
        missing.join(", "),
        sources.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_what_brings_it() {
        let ldd = "\tlinux-vdso.so.1 (0x00007ffd)\n\
                   \tlibcublasLt.so.13 => not found\n\
                   \tlibnvinfer.so.10 => not found\n\
                   \tlibcudart.so.13 => /usr/local/cuda/lib64/libcudart.so.13 (0x00007f)\n\
                   \tlibcufft.so.12 => not found\n";
        let missing = missing_in(ldd);
        assert_eq!(
            missing,
            ["libcublasLt.so.13", "libnvinfer.so.10", "libcufft.so.12"]
        );
        let told = told(&missing);
        assert!(told.contains("come with CUDA 13, TensorRT 10;"), "{told}");
    }

    #[test]
    fn libraries_of_the_system_are_found() {
        assert!(is_found("libc.so.6"));
        assert!(!is_found("libc.so.99"));
    }
}
