"""The person segmentations, against the TFLite runtime and an independent conversion of the same files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from safetensors import safe_open

from matte_models import export_selfie, fill, manifest

PACKAGE = export_selfie.PACKAGES / "selfie"
# Logits of the pose network go beyond 1,000, and TFLite's own kernels differ by up to 1: 2e-3 of probability.
TOLERANCE = {"segment": 1e-4, "segment_wide": 1e-4, "segment_body": 2e-3, "detect": 1e-4}


@pytest.fixture(scope="session")
def tflite() -> dict[str, bytes]:
    wheel = os.environ.get("MATTE_MEDIAPIPE_WHEEL", "")
    if not Path(wheel).is_file():
        pytest.skip("MATTE_MEDIAPIPE_WHEEL does not name the wheel of mediapipe 0.10.14")
    return export_selfie.tflite_files(Path(wheel))


def weights_of(document: dict, files: dict[str, bytes]) -> bytes:
    def source(entry):
        file = files[entry["bytes"]["file"]]

        def numbers(where, type_):
            return np.frombuffer(file[where["offset"] : where["offset"] + where["length"]], type_)

        stored = numbers(entry["bytes"], entry["source_type"])
        if rows := entry.get("rows"):
            ends, columns = (numbers(rows[name], rows[name]["type"]) for name in ("ends", "columns"))
            dense = np.zeros((entry["source_shape"][0], entry["source_shape"][-1]), stored.dtype)
            dense[np.searchsorted(ends, np.arange(len(stored)), side="right"), columns] = stored
            stored = dense
        return stored.reshape(entry["source_shape"])

    return manifest.fill_weights(document, source)


def test_committed_package_is_what_the_export_gives(tflite):
    assert manifest.differences(PACKAGE, export_selfie.package(tflite)) == []


@pytest.fixture(scope="session")
def filled(tflite, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("selfie")
    fill.fill(PACKAGE, folder, weights_of(manifest.load(PACKAGE), tflite))
    return folder


def pictures(shared: Path, height: int, width: int) -> list[np.ndarray]:
    random = np.random.default_rng(0).integers(0, 256, (1, height, width, 3), dtype=np.uint8)
    with safe_open(shared / "golden" / "a_synth160x96.safetensors", "np") as file:
        picture = file.get_tensor("frames")[0]
    rows, columns = np.arange(height) * 96 // height, np.arange(width) * 160 // width
    return [random, np.ascontiguousarray(picture[rows][:, columns])[None]]


def compare(shared: Path, filled: Path, graph: str, expected_for: Callable[[np.ndarray], np.ndarray]) -> None:
    """With the outputs for pictures of 0 to 1."""
    document = manifest.load(PACKAGE)
    (port,), (out,) = (document["graphs"][graph][ports] for ports in ("inputs", "outputs"))
    ours = ort.InferenceSession(filled / document["graphs"][graph]["file"], providers=["CPUExecutionProvider"])
    _, height, width, _ = port["shape"]
    for frame in pictures(shared, height, width):
        (got,) = ours.run([out["name"]], {"frame": frame})
        expected = expected_for(frame.astype(np.float32) / 255)
        error = np.abs((got[0, 0] if out["name"] == "person" else got[0]) - expected).max()
        print(f"{graph}: {error:.1e}")
        assert error < TOLERANCE[graph]


@pytest.mark.parametrize("graph", export_selfie.GRAPHS)
def test_another_conversion_sees_the_same_person(shared, filled, graph):
    other = shared / "models" / export_selfie.GRAPHS[graph].file.replace(".tflite", ".onnx")
    if not other.is_file():
        pytest.skip(f"no {other} to compare with")
    reference = ort.InferenceSession(other, providers=["CPUExecutionProvider"])
    name = reference.get_inputs()[0].name
    compare(shared, filled, graph, lambda frame: reference.run(None, {name: frame})[0][0, ..., 0])


@pytest.mark.parametrize("graph", export_selfie.GRAPHS)
def test_tflite_sees_the_same_person(shared, tflite, filled, graph):
    litert = pytest.importorskip("ai_edge_litert.interpreter", reason="ai-edge-litert is not installed")
    source = export_selfie.GRAPHS[graph]
    # Without the operators of XNNPACK, which round the weights.
    interpreter = litert.Interpreter(
        model_content=tflite[source.file],
        experimental_op_resolver_type=litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    try:
        interpreter.allocate_tensors()
    except RuntimeError as error:
        pytest.skip(f"TFLite cannot run this file by itself: {error}")

    def probability(logits: np.ndarray) -> np.ndarray:
        return (1 + np.tanh(logits / 2)) / 2

    def expected(frame: np.ndarray) -> np.ndarray:
        finds_people = len(source.outputs) > 1
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], 2 * frame - 1 if finds_people else frame)
        interpreter.invoke()
        details = interpreter.get_output_details()
        outputs = [interpreter.get_tensor(details[i]["index"])[0] for i in source.outputs]
        if not finds_people:
            return probability(outputs[0][..., 0]) if source.logits else outputs[0][..., 0]
        places, logits = outputs
        shares = places[:, : len(export_selfie.PLACE)] / frame.shape[1]
        # As in MediaPipe's SsdAnchorsCalculator: rows of cells, several anchors in the middle of each.
        middles = [((x + 0.5) * cell / frame.shape[1], (y + 0.5) * cell / frame.shape[1])
                   for cell, times in export_selfie.ANCHORS for y in range(frame.shape[1] // cell)
                   for x in range(frame.shape[1] // cell) for _ in range(times)]  # fmt: skip
        for at in (0, 4, 6):
            shares[:, at : at + 2] += middles
        return np.hstack([probability(logits), shares])

    compare(shared, filled, graph, expected)
