"""The person segmentation, against an independent conversion of the same files."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from safetensors import safe_open

from matte_models import export_selfie, fill, manifest

PACKAGE = export_selfie.PACKAGES / "selfie"


@pytest.fixture(scope="session")
def tflite() -> dict[str, bytes]:
    wheel = os.environ.get("MATTE_MEDIAPIPE_WHEEL", "")
    if not Path(wheel).is_file():
        pytest.skip("MATTE_MEDIAPIPE_WHEEL does not name the wheel of mediapipe 0.10.14")
    return export_selfie.tflite_files(Path(wheel))


def weights_of(document: dict, files: dict[str, bytes]) -> bytes:
    def source(entry):
        where = entry["bytes"]
        data = files[where["file"]][where["offset"] : where["offset"] + where["length"]]
        return np.frombuffer(data, entry["source_type"]).reshape(entry["source_shape"])

    return manifest.fill_weights(document, source)


def test_committed_package_is_what_the_export_gives(tflite):
    assert manifest.differences(PACKAGE, export_selfie.package(tflite)) == []


@pytest.mark.parametrize("graph", export_selfie.GRAPHS)
def test_person(shared, tflite, tmp_path, graph):
    other = shared / "models" / export_selfie.GRAPHS[graph].replace(".tflite", ".onnx")
    if not other.is_file():
        pytest.skip(f"no {other} to compare with")
    document = manifest.load(PACKAGE)
    fill.fill(PACKAGE, tmp_path, weights_of(document, tflite))
    (port,) = document["graphs"][graph]["inputs"]
    ours = ort.InferenceSession(tmp_path / document["graphs"][graph]["file"], providers=["CPUExecutionProvider"])
    reference = ort.InferenceSession(other, providers=["CPUExecutionProvider"])

    _, height, width, _ = port["shape"]
    random = np.random.default_rng(0).integers(0, 256, port["shape"], dtype=np.uint8)
    with safe_open(shared / "golden" / "a_synth160x96.safetensors", "np") as file:
        picture = file.get_tensor("frames")[0]
    rows, columns = np.arange(height) * 96 // height, np.arange(width) * 160 // width
    for frame in (random, np.ascontiguousarray(picture[rows][:, columns])[None]):
        (person,) = ours.run(["person"], {"frame": frame})
        name = reference.get_inputs()[0].name
        (expected,) = reference.run(None, {name: frame.astype(np.float32) / 255})
        error = np.abs(person[0, 0] - expected[0, ..., 0]).max()
        print(f"{graph}: {error:.1e}")
        assert error < 1e-4
