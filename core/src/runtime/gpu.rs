//! What ONNX Runtime's GPU providers need of the system.

use super::backend::Backend;
use crate::error::Error;

/// Beginnings of libraries' names and what brings them, for the ONNX Runtime that is tested with.
const SOURCES: [(&str, &str); 6] = [
    ("libcudnn", "cuDNN 9 for CUDA 13"),
    ("libnvinfer", "TensorRT 10"),
    ("libnvonnxparser", "TensorRT 10"),
    ("libcuda.so", "NVIDIA's driver"),
    ("libcu", "CUDA 13"),
    ("libnv", "CUDA 13"),
];

/// What brings a library that a GPU provider needs; none where it is not one of NVIDIA's.
pub fn source_of_library(name: &str) -> Option<&'static str> {
    let found = SOURCES.iter().find(|(begins, _)| name.starts_with(begins));
    found.map(|(_, source)| *source)
}

/// An error of ONNX Runtime, in words of ours where it is that a library is missing.
pub(super) fn explained(backend: Backend, error: Error) -> Error {
    let reason = match &error {
        Error::Ort { source, .. } => missing_library(&source.to_string()),
        _ => None,
    };
    match reason {
        Some(reason) => Error::Backend {
            backend: backend.name(),
            reason,
        },
        None => error,
    }
}

/// Which library is missing, by ONNX Runtime's message, and what brings it; without the places in its source that it names.
fn missing_library(message: &str) -> Option<String> {
    let (_, rest) = message.split_once("Failed to load library ")?;
    let (provider, rest) = rest.split_once(" with error: ")?;
    let (library, _) = rest.split_once(": cannot open")?;
    let source = source_of_library(library)
        .map(|source| format!("; it comes with {source}"))
        .unwrap_or_default();
    Some(format!(
        "{provider} needs {library}, which the loader does not find{source}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_library_is_told_with_what_brings_it() {
        let long = "/onnxruntime_src/provider_bridge_ort.cc:2043 Get() [ONNXRuntimeError] : 1 : FAIL : Failed to load library \
                    /lib/libonnxruntime_providers_cuda.so with error: libcublasLt.so.13: cannot open shared object file: No such \
                    file or directory\n";
        assert_eq!(
            missing_library(long).unwrap(),
            "/lib/libonnxruntime_providers_cuda.so needs libcublasLt.so.13, which the loader does not find; it comes with CUDA 13"
        );
        assert_eq!(missing_library("out of memory"), None);
        for (library, source) in [
            ("libcudnn.so.9", Some("cuDNN 9 for CUDA 13")),
            ("libcuda.so.1", Some("NVIDIA's driver")),
            ("libnvinfer.so.10", Some("TensorRT 10")),
            ("libcurand.so.10", Some("CUDA 13")),
            ("libstdc++.so.6", None),
        ] {
            assert_eq!(source_of_library(library), source, "{library}");
        }
    }
}
