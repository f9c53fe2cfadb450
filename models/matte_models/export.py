"""From PyTorch modules to skeletons: ONNX graphs whose weights lie outside, each with a recipe.

A skeleton is traced once, whatever the weights. Every parameter that the trace uses, and every slice, transposition,
reshape or cast of one that does not depend on the input, becomes an initializer of its own with a *recipe*: how to make
it from the checkpoint's tensor. So importing a checkpoint is copying bytes, and graphs share what they have in common.
Everything else that is constant (shapes, axes, image statistics) stays inline.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from torch import Tensor, nn

OPSET = 17
ALIGNMENT = 64
"""Offsets into weights.bin: a cache line, so that mapped weights can be used where they lie."""

TYPES = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "uint8": TensorProto.UINT8}
SIZES = {"float32": 4, "float16": 2, "uint16": 2, "uint8": 1}

# What TensorRT's parser lists and these networks need. A new operator is a decision, not an accident of the tracer.
ALLOWED = frozenset(
    "Add AveragePool BatchNormalization Cast Clip Concat Conv ConvTranspose Cos Div Exp Expand Gather Gemm "
    "GlobalAveragePool GreaterOrEqual LayerNormalization MatMul Max MaxPool Mul Neg Pad Range ReduceMax ReduceSum "
    "Relu Reshape Resize Shape Sigmoid Sin Slice Softmax Split Squeeze Sub Tanh Transpose Unsqueeze".split()
)


@dataclass(frozen=True)
class Port:
    """One input or output of a graph."""

    name: str
    type: str
    shape: tuple[int | str, ...]

    def as_json(self) -> dict:
        return {"name": self.name, "type": self.type, "shape": list(self.shape)}


@dataclass(frozen=True)
class GraphSpec:
    """A graph of a package: its name, what computes it, and its ports."""

    name: str
    call: Callable[..., tuple[Tensor, ...]]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    also: frozenset[str] = frozenset()
    """Operators that this graph may use beyond the usual ones."""


@dataclass
class Weight:
    """An initializer that lies outside: what it is made of, and where it lands."""

    source: str
    type: str
    shape: tuple[int, ...]
    recipe: tuple[dict, ...] = ()
    offset: int = -1

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * SIZES[self.type]

    @property
    def name(self) -> str:
        """The source's name; what the recipe does is told behind it."""
        parts = [self.source]
        for step in self.recipe:
            match step["op"]:
                case "slice":
                    parts.append(f"slice{step['axis']}_{step['start']}_{step['end']}")
                case "transpose":
                    parts.append("transpose" + "".join(map(str, step["perm"])))
                case "reshape":
                    parts.append("reshape" + "x".join(map(str, step["shape"])))
        if self.type != "float32":
            parts.append(self.type)
        return "/".join(parts)

    def then(self, step: dict, shape: Iterable[int]) -> Weight:
        return Weight(self.source, self.type, tuple(shape), (*self.recipe, step))

    def as_json(self) -> dict:
        return {
            "initializer": self.name,
            "source": self.source,
            "type": self.type,
            "shape": list(self.shape),
            "offset": self.offset,
            "recipe": list(self.recipe),
        }


@dataclass
class WeightFile:
    """The one weights.bin of a package, filled in the order in which graphs ask."""

    weights: dict[str, Weight] = field(default_factory=dict)
    bytes: int = 0

    def place(self, weight: Weight) -> Weight:
        if weight.name not in self.weights:
            offset = -(-self.bytes // ALIGNMENT) * ALIGNMENT
            self.weights[weight.name] = replace(weight, offset=offset)
            self.bytes = offset + weight.bytes
        return self.weights[weight.name]

    def as_json(self, unused: list[str]) -> dict:
        tensors = [w.as_json() for w in self.weights.values()]
        return {"file": "weights.bin", "bytes": self.bytes, "tensors": tensors, "unused": unused}


class _Call(nn.Module):
    """A method of the network as a module of its own, for the tracer."""

    def __init__(self, network: nn.Module, call: Callable[..., tuple[Tensor, ...]]) -> None:
        super().__init__()
        self.network = network
        self.call = call

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.call(*inputs))


def _example(port: Port, dims: dict[str, int]) -> Tensor:
    shape = [dims[d] if isinstance(d, str) else d for d in port.shape]
    return torch.zeros(shape, dtype=getattr(torch, port.type))


def trace(network: nn.Module, spec: GraphSpec, dims: dict[str, int]) -> onnx.ModelProto:
    """The traced graph as PyTorch writes it, weights inside."""
    file = io.BytesIO()
    axes = {
        port.name: {i: d for i, d in enumerate(port.shape) if isinstance(d, str)} for port in spec.inputs + spec.outputs
    }
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _Call(network, spec.call),
            tuple(_example(port, dims) for port in spec.inputs),
            file,
            input_names=[p.name for p in spec.inputs],
            output_names=[p.name for p in spec.outputs],
            dynamic_axes=axes,
            opset_version=OPSET,
            # Kept as traced: folding, of constants or of BatchNorm, would make new weights that no checkpoint has.
            do_constant_folding=False,
            training=torch.onnx.TrainingMode.PRESERVE,
            dynamo=False,
        )
    return onnx.load_from_string(file.getvalue())


class Skeleton:
    """A traced graph on its way to a skeleton."""

    PREFIX = "network."

    def __init__(self, model: onnx.ModelProto, spec: GraphSpec) -> None:
        self.model = model
        self.graph = model.graph
        self.spec = spec
        self.weights: dict[str, Weight] = {}
        self.constants: dict[str, np.ndarray] = {}

    def build(self, file: WeightFile) -> onnx.ModelProto:
        self._take_initializers()
        self._ports()
        while self._fold() | self._fold_static_dims():
            pass
        self._simplify()
        self._drop_dead()
        self._rename()
        self._put_initializers(file)
        self._check_operators()
        model = helper.make_model(
            self.graph,
            producer_name="matte",
            ir_version=8,
            opset_imports=[helper.make_opsetid("", OPSET)],
        )
        check(model)
        return model

    def _take_initializers(self) -> None:
        for tensor in self.graph.initializer:
            if tensor.name.startswith(self.PREFIX):
                source = tensor.name.removeprefix(self.PREFIX)
                type_ = {v: k for k, v in TYPES.items()}[tensor.data_type]
                self.weights[tensor.name] = Weight(source, type_, tuple(tensor.dims))
            else:
                self.constants[tensor.name] = numpy_helper.to_array(tensor)
        del self.graph.initializer[:]

    def _ports(self) -> None:
        """Names and shapes as the package declares them."""
        for ports, infos in ((self.spec.inputs, self.graph.input), (self.spec.outputs, self.graph.output)):
            assert [p.name for p in ports] == [i.name for i in infos], "the tracer dropped an unused port"
            del infos[:]
            infos.extend(helper.make_tensor_value_info(p.name, TYPES[p.type], list(p.shape)) for p in ports)
        del self.graph.value_info[:]

    def _fold(self) -> bool:
        """One pass over the nodes: constants are computed, steps on weights become recipes."""
        kept, changed = [], False
        for node in self.graph.node:
            if self._fold_node(node):
                changed = True
            else:
                kept.append(node)
        if changed:
            del self.graph.node[:]
            self.graph.node.extend(kept)
        return changed

    def _fold_node(self, node: onnx.NodeProto) -> bool:
        inputs = [name for name in node.input if name]
        if all(name in self.constants for name in inputs):
            results = self._evaluate(node, [self.constants[name] for name in inputs])
            self.constants.update(zip(node.output, results, strict=True))
            return True
        head, *rest = inputs
        if head in self.weights and all(name in self.constants for name in rest):
            weight = self._recipe(node, self.weights[head], [self.constants[name] for name in rest])
            if weight is not None:
                self.weights[node.output[0]] = weight
                return True
        if node.op_type == "Shape" and head in self.weights:
            self.constants[node.output[0]] = np.array(self.weights[head].shape, np.int64)
            return True
        return False

    @staticmethod
    def _evaluate(node: onnx.NodeProto, values: list[np.ndarray]) -> list[np.ndarray]:
        """What a node gives for constant inputs."""
        names = [name for name in node.input if name]
        graph = helper.make_graph(
            [node],
            "fold",
            [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
             for n, v in zip(names, values, strict=True)],
            [helper.make_empty_tensor_value_info(n) for n in node.output],
        )  # fmt: skip
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
        results = ReferenceEvaluator(model).run(None, dict(zip(names, values, strict=True)))
        return [np.asarray(r) for r in results]

    @staticmethod
    def _recipe(node: onnx.NodeProto, weight: Weight, rest: list[np.ndarray]) -> Weight | None:
        """The weight after this node, or None where the node is no step of a recipe."""
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        match node.op_type:
            case "Identity":
                return weight
            case "Cast":
                type_ = {v: k for k, v in TYPES.items()}[attributes["to"]]
                return Weight(weight.source, type_, weight.shape, weight.recipe)
            case "Transpose":
                perm = list(attributes["perm"])
                return weight.then({"op": "transpose", "perm": perm}, (weight.shape[i] for i in perm))
            case "Reshape":
                shape = np.empty(weight.shape, np.bool_).reshape(rest[0]).shape
                return weight if shape == weight.shape else weight.then({"op": "reshape", "shape": list(shape)}, shape)
            case "Slice":
                starts, ends, axes, *steps = (v.tolist() for v in rest)
                assert not steps or all(s == 1 for s in steps[0]), "a recipe has no strided slices"
                for start, end, axis in zip(starts, ends, axes, strict=True):
                    size = weight.shape[axis]
                    start, end, _ = slice(start, end).indices(size)
                    if (start, end) == (0, size):
                        continue
                    shape = [*weight.shape[:axis], end - start, *weight.shape[axis + 1 :]]
                    weight = weight.then({"op": "slice", "axis": axis, "start": start, "end": end}, shape)
                return weight
        return None

    def _fold_static_dims(self) -> bool:
        """Sizes that do not depend on the frame (channels, batch) become constants."""
        infos = [
            helper.make_tensor_value_info(name, TYPES[w.type], w.shape) for name, w in sorted(self.weights.items())
        ]
        graph = onnx.GraphProto()
        graph.CopyFrom(self.graph)
        graph.input.extend(infos)
        graph.initializer.extend(numpy_helper.from_array(v, n) for n, v in sorted(self.constants.items()))
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
        inferred = onnx.shape_inference.infer_shapes(model).graph
        shapes = {
            info.name: [d.dim_value if d.HasField("dim_value") else None for d in info.type.tensor_type.shape.dim]
            for info in (*inferred.input, *inferred.value_info, *inferred.output)
            if info.type.tensor_type.HasField("shape")
        }
        shape_of = {n.output[0]: shapes.get(n.input[0]) for n in self.graph.node if n.op_type == "Shape"}
        kept, changed = [], False
        for node in self.graph.node:
            dims = shape_of.get(node.input[0]) if node.input else None
            picked = self._picked(node, len(dims)) if dims is not None else None
            if picked is not None:
                sizes = [dims[i] for i in picked.ravel()]
                if None not in sizes:
                    self.constants[node.output[0]] = np.array(sizes, np.int64).reshape(picked.shape)
                    changed = True
                    continue
            kept.append(node)
        if changed:
            del self.graph.node[:]
            self.graph.node.extend(kept)
        return changed

    def _picked(self, node: onnx.NodeProto, rank: int) -> np.ndarray | None:
        """Which dimensions a node takes out of a shape of this rank; None where it does something else."""
        if any(name not in self.constants for name in node.input[1:]):
            return None
        values = [self.constants[name] for name in node.input[1:]]
        if node.op_type not in ("Gather", "Slice"):
            return None
        return self._evaluate(node, [np.arange(rank), *values])[0]

    def _simplify(self) -> None:
        """What the tracer says in a roundabout or a PyTorch way."""
        alias: dict[str, str] = {}
        outputs = {o.name for o in self.graph.output}
        kept = []
        for node in self.graph.node:
            for i, name in enumerate(node.input):
                node.input[i] = alias.get(name, name)
            if node.op_type == "Identity" and node.output[0] not in outputs:
                alias[node.output[0]] = node.input[0]
                continue
            if node.op_type == "Resize":
                for attribute in node.attribute:
                    # The two differ for outputs of size 1 alone.
                    if attribute.s == b"pytorch_half_pixel":
                        attribute.s = b"half_pixel"
                names = [a for a in node.attribute if a.name in ("coordinate_transformation_mode", "mode")]
                del node.attribute[:]
                node.attribute.extend(names)
            node.doc_string = ""
            kept.append(node)
        del self.graph.node[:]
        self.graph.node.extend(kept)

    def _drop_dead(self) -> None:
        needed = {o.name for o in self.graph.output}
        kept = []
        for node in reversed(self.graph.node):
            if any(name in needed for name in node.output):
                needed.update(node.input)
                kept.append(node)
        del self.graph.node[:]
        self.graph.node.extend(reversed(kept))

    def _rename(self) -> None:
        """Inner names follow the modules; constants are numbered and merged."""
        names: dict[str, str] = {}
        constants: dict[tuple, str] = {}
        ports = {p.name for p in self.spec.inputs + self.spec.outputs}
        for node in self.graph.node:
            node.name = node.name.removeprefix("/network/").lstrip("/")
            for name in node.input:
                if name in self.constants and name not in names:
                    value = self.constants[name]
                    key = (value.dtype.str, value.shape, value.tobytes())
                    names[name] = constants.setdefault(key, f"constant_{len(constants)}")
                elif name in self.weights:
                    names[name] = self.weights[name].name
            for i, name in enumerate(node.output):
                if name and name not in ports:
                    names[name] = f"{node.name}:{i}"
            node.input[:] = [names.get(name, name) for name in node.input]
            node.output[:] = [names.get(name, name) for name in node.output]
        self.constants = {names[n]: v for n, v in self.constants.items() if n in names}
        self.weights = {names[n]: w for n, w in self.weights.items() if n in names}

    def _put_initializers(self, file: WeightFile) -> None:
        seen = set()
        for name in (name for node in self.graph.node for name in node.input):
            if name in seen:
                continue
            seen.add(name)
            if name in self.constants:
                self.graph.initializer.append(numpy_helper.from_array(self.constants[name], name))
            elif name in self.weights:
                self.graph.initializer.append(external_initializer(file.place(self.weights[name])))
        self.graph.name = self.spec.name

    def _check_operators(self) -> None:
        strange = {node.op_type for node in self.graph.node} - ALLOWED - self.spec.also
        if strange:
            raise ValueError(f"graph {self.spec.name} uses {sorted(strange)}, which TensorRT may not take")


def external_initializer(weight: Weight) -> TensorProto:
    """An initializer whose bytes lie in weights.bin."""
    tensor = TensorProto(name=weight.name, data_type=TYPES[weight.type], dims=weight.shape)
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "weights.bin"), ("offset", weight.offset), ("length", weight.bytes)):
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def check(model: onnx.ModelProto) -> None:
    """ONNX's checker and strict shape inference, which need no weights: here they count as inputs."""
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    outside = [t for t in probe.graph.initializer if t.data_location == TensorProto.EXTERNAL]
    for tensor in outside:
        probe.graph.initializer.remove(tensor)
        probe.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    onnx.checker.check_model(probe, full_check=True)


def serialize(model: onnx.ModelProto) -> bytes:
    """Bytes of a graph; equal graphs give equal bytes."""
    return model.SerializeToString(deterministic=True)


def skeletons(network: nn.Module, specs: list[GraphSpec], dims: dict[str, int]) -> tuple[dict[str, bytes], WeightFile]:
    """All graphs of a package, by name, and the file of weights they share."""
    file = WeightFile()
    graphs = {spec.name: serialize(Skeleton(trace(network, spec, dims), spec).build(file)) for spec in specs}
    return graphs, file
