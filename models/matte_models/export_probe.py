"""Writes `probe`, the package of the tests: a network so simple that every pixel it gives is known beforehand.

    python -m matte_models.export_probe ../tests/data/probe
    python -m matte_models.export_probe ../tests/data/probe-detail --detail

The matte of a pixel is its green. It is quick enough for tests that go through thousands of frames. A frame with a red of
250 or more anywhere makes the run fail, as a lost device would: that red is an index into a table which ends before it. With `detail` the package also has that graph: an
edge that is drawn anew is the blue of the picture.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from .manifest import package_files, write

OPSET = 17
# Of a tile, as in network/detail.py, which needs PyTorch.
PLANES, TILE = 4, 64
KEY_ROW, VALID, VALUE = 8, 7, 1
# Red values from here on fail.
FAILS = 250


def tensor(name: str, kind: str, *shape: int | str) -> dict:
    return {"name": name, "type": kind, "shape": list(shape)}


SPECS = {
    "matte": {
        "file": "matte.onnx",
        "inputs": [
            tensor("frame", "uint8", 1, "H", "W", 3),
            tensor("bank_keys", "float32", "N", KEY_ROW),
            tensor("bank_values", "float32", "N", VALUE),
            tensor("last_alpha", "float32", 1, 1, "h", "w"),
            tensor("gate", "float32"),
        ],
        "outputs": [
            tensor("alpha", "float32", 1, 1, "H", "W"),
            tensor("key_rows", "float32", "hw", KEY_ROW),
        ],
    },
    "value": {
        "file": "value.onnx",
        "inputs": [tensor("alpha", "float32", 1, 1, "H", "W")],
        "outputs": [
            tensor("value_rows", "float32", "hw", VALUE),
            tensor("alpha_16", "float32", 1, 1, "h", "w"),
        ],
    },
    "detail": {
        "file": "detail.onnx",
        "inputs": [tensor("tiles", "uint8", "T", PLANES, TILE, TILE)],
        "outputs": [tensor("tile_alpha", "float32", "T", 1, TILE, TILE)],
    },
}


def graph(name: str, nodes: list, constants: dict[str, np.ndarray]) -> bytes:
    def info(t: dict):
        kind = {"uint8": TensorProto.UINT8, "float32": TensorProto.FLOAT}[t["type"]]
        return helper.make_tensor_value_info(t["name"], kind, t["shape"])

    spec = SPECS[name]
    model = helper.make_model(
        helper.make_graph(
            nodes,
            name,
            [info(t) for t in spec["inputs"]],
            [info(t) for t in spec["outputs"]],
            [numpy_helper.from_array(value, key) for key, value in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        producer_name="matte_models.export_probe",
    )
    model.ir_version = 8
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)


def matte() -> bytes:
    node = helper.make_node
    return graph(
        "matte",
        [
            node("Gather", ["frame", "green"], ["green_u8"], axis=3),
            node("Cast", ["green_u8"], ["green_f32"], to=TensorProto.FLOAT),
            node("Mul", ["green_f32", "scale"], ["share"]),
            node("Unsqueeze", ["share", "axis_1"], ["plain"]),
            node("Gather", ["frame", "red"], ["red_u8"], axis=3),
            node("Cast", ["red_u8"], ["red_f32"], to=TensorProto.FLOAT),
            node("ReduceMax", ["red_f32"], ["reddest"], keepdims=0),
            node("Cast", ["reddest"], ["index"], to=TensorProto.INT64),
            node("Gather", ["table", "index"], ["nothing"]),
            node("Add", ["plain", "nothing"], ["alpha"]),
            node("AveragePool", ["alpha"], ["alpha_16"], kernel_shape=[16, 16], strides=[16, 16]),
            node("Reshape", ["alpha_16", "column"], ["tokens"]),
            node("Mul", ["tokens", "row"], ["key_rows"]),
        ],
        {
            "red": np.array(0, np.int64),
            "green": np.array(1, np.int64),
            "axis_1": np.array([1], np.int64),
            "scale": np.array(1 / 255, np.float32),
            "table": np.zeros(FAILS, np.float32),
            "column": np.array([-1, 1], np.int64),
            "row": np.ones((1, KEY_ROW), np.float32),
        },
    )


def value() -> bytes:
    node = helper.make_node
    return graph(
        "value",
        [
            node("AveragePool", ["alpha"], ["alpha_16"], kernel_shape=[16, 16], strides=[16, 16]),
            node("Reshape", ["alpha_16", "column"], ["value_rows"]),
        ],
        {"column": np.array([-1, 1], np.int64)},
    )


def detail() -> bytes:
    node = helper.make_node
    return graph(
        "detail",
        [
            node("Gather", ["tiles", "blue"], ["blue_u8"], axis=1),
            node("Cast", ["blue_u8"], ["blue_f32"], to=TensorProto.FLOAT),
            node("Mul", ["blue_f32", "scale"], ["tile_alpha"]),
        ],
        {"blue": np.array([2], np.int64), "scale": np.array(1 / 255, np.float32)},
    )


def package(with_detail: bool = False) -> dict[str, bytes]:
    """The files of the package by name."""
    graphs = {"matte": matte(), "value": value()}
    if with_detail:
        graphs["detail"] = detail()
    manifest = {
        "format": "1.0",
        "name": "probe-detail" if with_detail else "probe",
        "version": "1.0.0",
        "kind": "matting",
        "description": "for tests: the matte of a pixel is its green; a red of 250 or more fails",
        "licence": {"id": "MIT OR Apache-2.0", "text": "no weights", "commercial_use": True},
        "source": "models/matte_models/export_probe.py",
        "precision": "fp32",
        "working_size": {"min": [16, 16], "max": [7680, 4320], "default": [160, 96], "multiple": 16},
        "dims": {"stride": 16, "key_row": KEY_ROW, "valid": VALID, "value": VALUE},
        "memory": {"interval": 5, "temporary_frames": 2, "warm_up": 0},
        "read": "softmax",
        "graphs": {name: SPECS[name] for name in graphs},
    }
    return package_files(manifest, {SPECS[name]["file"]: blob for name, blob in graphs.items()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--detail", action="store_true", help="with the graph `detail`")
    args = parser.parse_args()
    write(args.out, package(args.detail))


if __name__ == "__main__":
    main()
