"""Writes probe/, a model package whose matte is known beforehand: alpha = red * 128 / 255 + blue, at most 1.

So green is background, blue and white are the target, and red is just over half of it. It remembers nothing. Writes
fragile/ as well, which does the same but fails on pictures that are white everywhere. Run from this folder with any Python
that has onnx.
"""

import hashlib
import json
from pathlib import Path

import onnx
from onnx import TensorProto, helper, numpy_helper
import numpy as np

HERE = Path(__file__).parent
KEY, VALUE = 8, 8


def tensor(name, kind, shape):
    return helper.make_tensor_value_info(name, kind, shape)


def constant(name, value):
    return numpy_helper.from_array(np.asarray(value), name)


def save(out, name, nodes, inputs, outputs, constants):
    graph = helper.make_graph(nodes, name, inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], producer_name="matte")
    model.ir_version = 8
    onnx.checker.check_model(model)
    onnx.save(model, out / f"{name}.onnx")


FLOAT = TensorProto.FLOAT
matte_inputs = [
    tensor("frame", TensorProto.UINT8, [1, "H", "W", 3]),
    tensor("bank_keys", FLOAT, ["N", KEY]),
    tensor("bank_values", FLOAT, ["N", VALUE]),
    tensor("last_alpha", FLOAT, [1, 1, "h", "w"]),
    tensor("gate", FLOAT, []),
]
matte_outputs = [tensor("alpha", FLOAT, [1, 1, "H", "W"]), tensor("key_rows", FLOAT, ["hw", KEY])]
value_inputs = [tensor("alpha", FLOAT, [1, 1, "H", "W"])]
value_outputs = [tensor("value_rows", FLOAT, ["hw", VALUE]), tensor("alpha_16", FLOAT, [1, 1, "h", "w"])]


def rows(source, target, width):
    """[1,1,h,w] to [hw,width], all 0."""
    return [
        helper.make_node("Reshape", [source, "column"], [f"{target}_column"]),
        helper.make_node("MatMul", [f"{target}_column", "nothing"], [target]),
    ], [constant("column", np.array([-1, 1], np.int64)), constant("nothing", np.zeros((1, width), np.float32))]


def described(values):
    names = {FLOAT: "float32", TensorProto.UINT8: "uint8"}
    return [
        {
            "name": v.name,
            "type": names[v.type.tensor_type.elem_type],
            "shape": [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim],
        }
        for v in values
    ]


def package(name, description, before_sum=(), more_constants=()):
    """`before_sum` makes `weighted`, the weighted colours, into `sum`."""
    out = HERE / name
    out.mkdir(exist_ok=True)
    key_nodes, key_constants = rows("last_alpha", "key_rows", KEY)
    save(
        out,
        "matte",
        [
            helper.make_node("Cast", ["frame"], ["colours"], to=FLOAT),
            helper.make_node("MatMul", ["colours", "weights"], ["weighted" if before_sum else "sum"]),
            *before_sum,
            helper.make_node("Clip", ["sum", "zero", "one"], ["clipped"]),
            helper.make_node("Transpose", ["clipped"], ["alpha"], perm=[0, 3, 1, 2]),
            *key_nodes,
        ],
        matte_inputs,
        matte_outputs,
        [
            constant("weights", np.array([[128 / 255 / 255], [0], [1 / 255]], np.float32)),
            constant("zero", np.float32(0)),
            constant("one", np.float32(1)),
            *more_constants,
            *key_constants,
        ],
    )
    value_nodes, value_constants = rows("alpha_16", "value_rows", VALUE)
    save(
        out,
        "value",
        [
            helper.make_node("AveragePool", ["alpha"], ["alpha_16"], kernel_shape=[16, 16], strides=[16, 16]),
            *value_nodes,
        ],
        value_inputs,
        value_outputs,
        value_constants,
    )
    files = {p.name: p.read_bytes() for p in sorted(out.glob("*.onnx"))}
    manifest = {
        "format": "1.0",
        "name": name,
        "version": "1.0.0",
        "kind": "matting",
        "description": description,
        "licence": {"id": "MIT OR Apache-2.0", "text": "made by make_probe.py", "commercial_use": True},
        "source": "obs-plugin/tests/data/make_probe.py",
        "precision": "fp32",
        "working_size": {"min": [16, 16], "max": [1920, 1088], "default": [512, 288], "multiple": 16},
        "dims": {"stride": 16, "key_row": KEY, "valid": KEY - 1, "value": VALUE},
        "memory": {"interval": 60, "temporary_frames": 1, "warm_up": 0},
        "read": "softmax",
        "files": {n: {"sha256": hashlib.sha256(b).hexdigest(), "bytes": len(b)} for n, b in files.items()},
        "graphs": {
            "matte": {"file": "matte.onnx", "inputs": described(matte_inputs), "outputs": described(matte_outputs)},
            "value": {"file": "value.onnx", "inputs": described(value_inputs), "outputs": described(value_outputs)},
        },
    }
    (out / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")


package("probe", "for tests: alpha is a function of the colour")
package(
    "fragile",
    "for tests: the probe, but it fails on white pictures",
    # Beyond the one element of `nothing_more` where the darkest byte is 255.
    [
        helper.make_node("ReduceMin", ["colours"], ["darkest"], keepdims=0),
        helper.make_node("Div", ["darkest", "white"], ["share"]),
        helper.make_node("Floor", ["share"], ["whole"]),
        helper.make_node("Cast", ["whole"], ["index"], to=TensorProto.INT64),
        helper.make_node("Gather", ["nothing_more", "index"], ["more"]),
        helper.make_node("Add", ["weighted", "more"], ["sum"]),
    ],
    [constant("white", np.float32(255)), constant("nothing_more", np.zeros(1, np.float32))],
)
