"""8-bit graphs of `lite`: static quantisation of its convolutions, calibrated on clips of the generator.

Weights are rounded to 7 bits and a sign, one scale per output channel: on processors without VNNI the products of two pairs
are added in 16 bits, and with 8 bits these sums can overflow. Activations are 8 bits, one scale per tensor.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

KEEP = ("/stem/", "/mix/", "/out/")
"""Convolutions that stay as they are. `mix` takes picture, memory and alphas side by side, which no single scale suits (five
times the loss); `stem` is where rounding shows most, and costs little. `out` makes alpha itself: in steps of a hundredth, and
OpenVINO clips what is rounded before it is made whole again, so that nothing was quite opaque."""

Feed = dict[str, np.ndarray]


class _Reader(CalibrationDataReader):
    def __init__(self, feeds: list[Feed]) -> None:
        self.feeds = iter(feeds)

    def get_next(self) -> Feed | None:
        return next(self.feeds, None)


def feeds_of(package: Path, folders: list[Path], clips: int = 4, step: int = 6) -> list[Feed]:
    """Inputs of `matte`, as they come about when the package mattes clips of these folders; every other clip without a hint.

    `clips` evenly spaced clips of each folder, each from its first frame on; every `step`-th frame is taken.
    """
    from .train.data import read_folder
    from .train.evaluate import Driver

    feeds: list[Feed] = []

    class Recording(Driver):
        def _inputs(self, frame, prior, gate):
            inputs = super()._inputs(frame, prior, gate)
            # Copies: the bank is written to in place.
            self.seen.append({name: np.array(value) for name, value in inputs.items()})
            return inputs

    for folder in folders:
        frames, priors = read_folder(folder)
        for number, index in enumerate(np.linspace(0, len(frames) - 1, clips).astype(int)):
            clip = np.array(frames[index])
            hints = [None if number % 2 else p.astype(np.float32) / 255 for p in priors[index]]
            driver = Recording(package, *clip.shape[1:3], threads=1)
            driver.seen = []
            driver.seed(clip[0, ..., :3], (clip[0, ..., 3] >= 50).astype(np.float32), hints[0])
            for picture, hint in zip(clip[1:, ..., :3], hints[1:], strict=True):
                driver.step(np.ascontiguousarray(picture), hint)
            feeds += driver.seen[::step]
    return feeds


def convolutions_but(*parts: str) -> Callable[[onnx.NodeProto], bool]:
    """Whether a node is a convolution, and its name contains none of `parts`."""
    return lambda node: node.op_type == "Conv" and not any(part in node.name for part in parts)


def quantise(model: onnx.ModelProto, feeds: list[Feed],
             takes: Callable[[onnx.NodeProto], bool] = convolutions_but(*KEEP)) -> onnx.ModelProto:
    """The graph with the nodes that `takes` is true of in 8 bits."""
    with tempfile.TemporaryDirectory() as folder:
        source, folded, out = (Path(folder) / name for name in ("source.onnx", "folded.onnx", "int8.onnx"))
        onnx.save(model, source)
        # Constants folded, so that only what depends on the inputs is left.
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(folded)
        options.log_severity_level = 3
        ort.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
        nodes = onnx.load(folded).graph.node
        chosen = [n for n in nodes if takes(n)]
        if not chosen:
            raise ValueError(f"none of the {len(nodes)} nodes is to be quantised")
        quantize_static(folded, out, _Reader(feeds), quant_format=QuantFormat.QDQ, per_channel=True, reduce_range=True,
                        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
                        op_types_to_quantize=sorted({n.op_type for n in chosen}),
                        nodes_to_quantize=[n.name for n in chosen])
        quantised = onnx.load(out)
    del quantised.metadata_props[:]
    del quantised.graph.value_info[:]
    onnx.checker.check_model(quantised)
    return quantised


def loss(full: onnx.ModelProto, quantised: onnx.ModelProto, feeds: list[Feed]) -> float:
    """Mean absolute difference of the alphas of both graphs."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    one, two = (ort.InferenceSession(m.SerializeToString(), options, providers=["CPUExecutionProvider"])
                for m in (full, quantised))
    return float(np.mean([np.abs(one.run(["alpha"], f)[0] - two.run(["alpha"], f)[0]).mean() for f in feeds]))
