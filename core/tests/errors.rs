//! What is missing or wrong is named, with the value and the limit.

use std::path::{Path, PathBuf};
use std::process::Command;

use matte_core::{Backend, Matter, ModelSet, Options, Package, SeedMode};
use serde_json::{Value, json};

fn lite() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/packages/lite")
}

/// A copy of `lite` whose manifest has been changed.
fn changed(change: impl FnOnce(&mut Value)) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(lite()).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
    }
    let path = dir.path().join("manifest.json");
    let mut manifest: Value =
        serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    change(&mut manifest);
    std::fs::write(&path, manifest.to_string()).unwrap();
    dir
}

fn open_error(change: impl FnOnce(&mut Value)) -> String {
    let dir = changed(change);
    let error = Package::open(dir.path()).unwrap_err().to_string();
    error.replace(&dir.path().display().to_string(), "DIR")
}

#[test]
fn a_missing_model_is_named_with_the_places_that_were_searched() {
    let dirs = [
        PathBuf::from("/nonexistent/a"),
        PathBuf::from("/nonexistent/b"),
    ];
    let error = Package::find_in("litte", &dirs).unwrap_err().to_string();
    assert_eq!(
        error,
        "model litte: not found. Looked in: /nonexistent/a, /nonexistent/b"
    );
    let error = Package::find("/nonexistent/model").unwrap_err().to_string();
    assert_eq!(
        error,
        "/nonexistent/model/manifest.json: No such file or directory (os error 2)"
    );
}

#[test]
fn a_wrong_manifest_field_is_named_with_what_it_must_be() {
    for (change, wanted) in [
        (
            (|m: &mut Value| m["format"] = json!("2.0")) as fn(&mut Value),
            "DIR/manifest.json: field `format` is \"2.0\", but this version reads 1.x",
        ),
        (
            |m| {
                m.as_object_mut().unwrap().remove("dims");
            },
            "DIR/manifest.json: field `dims` is missing",
        ),
        (
            |m| {
                m["working_size"] = json!({"min": [64, 64], "max": [1920, 1088], "default": [544, 304],
                    "quick": [2048, 368], "multiple": 16});
            },
            "DIR/manifest.json: field `working_size`: min [64, 64], recommended [2048, 368], max [1920, 1088] are not in \
             ascending order from 1",
        ),
        (
            |m| (m["dims"]["key_row"], m["dims"]["place"]) = (json!(40), json!(38)),
            "DIR/manifest.json: field `dims`: place 38 must leave room for three coordinates below key_row 40",
        ),
        (
            |m| m["memory"]["interval"] = json!(0),
            "DIR/manifest.json: field `memory`: interval 0 must be from 1 to 1000, temporary_frames 1 from 1 to 64, \
             warm_up 0 at most 100",
        ),
        (
            |m| m["graphs"]["matte"]["file"] = json!("other.onnx"),
            "DIR/manifest.json: graph `matte` is in file \"other.onnx\", which `files` does not list",
        ),
        (
            |m| m["graphs"]["matte"]["int8"] = json!("small.onnx"),
            "DIR/manifest.json: graph `matte` is in file \"small.onnx\", which `files` does not list",
        ),
        (
            |m| m["graphs"]["matte"]["inputs"][0]["type"] = json!("float32"),
            "DIR/manifest.json: graph `matte`: input `frame` has type float32, but it must be uint8",
        ),
        (
            |m| m["graphs"]["matte"]["inputs"][0]["shape"] = json!([1, 3, "H", "W"]),
            "DIR/manifest.json: graph `matte`: input `frame` has shape [1,3,H,W], but it must be [1,H,W,3]",
        ),
    ] {
        let error = open_error(change);
        // What a package recommends may change; the test is about the text.
        assert_eq!(error, wanted);
    }
    let error = open_error(|m| {
        m.as_object_mut().unwrap().remove("licence");
    });
    assert_eq!(error, "DIR/manifest.json: missing field `licence`");
}

#[test]
fn a_damaged_file_is_named() {
    let dir = changed(|_| {});
    let path = dir.path().join("value.onnx");
    let mut bytes = std::fs::read(&path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let error = Package::open(dir.path()).unwrap_err().to_string();
    assert!(
        error.starts_with(&format!("{}: SHA-256 ", path.display())),
        "{error}"
    );
    assert!(error.contains("but the manifest lists"), "{error}");
    std::fs::write(&path, &bytes[..last]).unwrap();
    let error = Package::open(dir.path()).unwrap_err().to_string();
    assert_eq!(
        error,
        format!(
            "{}: {last} bytes, but the manifest lists {}",
            path.display(),
            last + 1
        )
    );
    std::fs::remove_file(&path).unwrap();
    let error = Package::open(dir.path()).unwrap_err().to_string();
    assert_eq!(
        error,
        format!("{}: No such file or directory (os error 2)", path.display())
    );
}

#[test]
fn a_skeleton_says_how_it_is_filled() {
    let dir = lite().with_file_name("matanyone2");
    let error = Package::open(dir).unwrap_err().to_string();
    assert!(
        error.contains("`matte models import matanyone2 FILE` fills it"),
        "{error}"
    );
}

/// Replaces a dimension wherever it stands in the shapes of the graphs.
fn replace_dim(value: &mut Value, from: i64, to: i64) {
    match value {
        Value::Array(all) => all.iter_mut().for_each(|v| replace_dim(v, from, to)),
        Value::Object(all) => all.values_mut().for_each(|v| replace_dim(v, from, to)),
        Value::Number(n) if n.as_i64() == Some(from) => *value = json!(to),
        _ => {}
    }
}

#[test]
fn a_tensor_of_another_shape_than_listed_is_named() {
    if let Err(e) = matte_core::runtime::availability(Backend::Cpu) {
        println!("skipped: {e}");
        return;
    }
    // The manifest agrees with the contract, but not with the file.
    let dir = changed(|m| {
        let width = m["dims"]["value"].as_i64().unwrap();
        m["dims"]["value"] = json!(width + 8);
        for graph in ["matte", "value"] {
            replace_dim(&mut m["graphs"][graph], width, width + 8);
        }
    });
    let matting = Package::open(dir.path()).unwrap();
    let models = ModelSet {
        matting,
        segmentation: None,
    };
    let options = Options {
        seed: SeedMode::Mask,
        ..Options::default()
    };
    let error = Matter::open(&models, Backend::Cpu, options, (320, 180))
        .unwrap_err()
        .to_string();
    assert!(error.contains(".onnx: input `bank_values` is "), "{error}");
    assert!(
        error.contains("but the manifest makes it float32 ["),
        "{error}"
    );
}

#[test]
fn a_working_size_beyond_the_package_is_refused() {
    let models = ModelSet {
        matting: Package::open(lite()).unwrap(),
        segmentation: None,
    };
    let options = Options {
        working_size: Some((8, 100_000)),
        ..Options::default()
    };
    let error = Matter::open(&models, Backend::Cpu, options, (320, 180))
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("option working_size: 8x100000, but lite takes from 16x16 to "),
        "{error}"
    );
}

/// Opens an engine and prints the error; run by the test below in a process of its own, as ONNX Runtime is loaded once
/// per process.
#[test]
#[ignore = "run by a_missing_or_wrong_runtime_is_named"]
fn child_opens_an_engine() {
    let models = ModelSet {
        matting: Package::open(lite()).unwrap(),
        segmentation: None,
    };
    let error = Matter::open(&models, Backend::Cpu, Options::default(), (320, 180)).unwrap_err();
    println!("error: {error}");
}

#[test]
fn a_missing_or_wrong_runtime_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let wrong = dir.path().join("libonnxruntime.so");
    std::fs::write(&wrong, "no library").unwrap();
    let missing = dir.path().join("nowhere.so");
    for (path, wanted) in [
        (
            &missing,
            format!(
                "error: ONNX Runtime: its shared library is missing. Looked for: {}. `cargo xtask setup` installs it",
                missing.display()
            ),
        ),
        (
            &wrong,
            format!("error: ONNX Runtime: {}: ", wrong.display()),
        ),
    ] {
        let output = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "child_opens_an_engine",
                "--ignored",
                "--nocapture",
            ])
            .env("MATTE_ONNXRUNTIME", path)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains(&wanted), "{text}");
    }
}
