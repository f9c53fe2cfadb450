"""Exports a checkpoint of `lite` as a model package: `matte.onnx`, `value.onnx`, `manifest.json`.

    python -m matte_models.export_lite checkpoint.pt packages/lite --calibrate $WORK/d $WORK/e

The network that draws edges anew is not of it: `matte_models.export_detail` puts that into the package afterwards.

With clips to calibrate on (folders of matte_models.train.data) there is also `matte.int8.onnx` (see `quantise`).

The weights lie inside the graphs. Sizes are symbolic, named as in docs/model-packages.md. Before anything is replaced the
graphs are compared with the definition, in ONNX Runtime, at two sizes; files are replaced one by one, the manifest last.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import torch

from . import quantise
from .manifest import digest
from .network.lite import ABSENT, Lite, LiteConfig, Matte, Value, fold, load_lite

OPSET = 17
# A frame every half second is enough to follow new clothes and light; 5 to 60 give the same scores. One temporary frame
# beside the first one is enough, and each costs time.
MEMORY = {"interval": 15, "temporary_frames": 1, "warm_up": 0}
# The scores are the same with a hint that is up to eight frames old.
PRIOR_INTERVAL = 8
# With instructions for 8-bit products 640×368 leaves two cores a third of the time at 30 frames a second, 720×400 next to
# nothing.
WORKING_SIZE = {"min": [64, 64], "max": [1920, 1088], "default": [544, 304], "quick": [640, 368], "gpu": [1120, 640],
                "multiple": 16}
# The largest difference allowed between PyTorch and ONNX Runtime (sums in another order).
TOLERANCE = 2e-4
# The largest mean difference of alpha allowed between a graph and its 8-bit form.
INT8_TOLERANCE = 5e-3


def graph_specs(c: LiteConfig, int8: bool = False) -> dict:
    """Files of the graphs; names, types and shapes of their inputs and outputs, in their order."""

    def f(name, *shape):
        return {"name": name, "type": "float32", "shape": list(shape)}

    return {
        "matte": {
            "file": "matte.onnx",
            "inputs": [
                {"name": "frame", "type": "uint8", "shape": [1, "H", "W", 3]},
                f("bank_keys", "N", c.key_row),
                f("bank_values", "N", c.value),
                f("last_alpha", 1, 1, "h", "w"),
                f("last_value", 1, c.value, "h", "w"),
                f("gate"),
                f("prior", 1, 1, "h", "w"),
            ],
            "outputs": [
                f("alpha", 1, 1, "H", "W"),
                f("feature", 1, c.c16, "h", "w"),
                f("key_rows", "hw", c.key_row),
            ],
            **({"int8": "matte.int8.onnx"} if int8 else {}),
        },
        "value": {
            "file": "value.onnx",
            "inputs": [f("feature", 1, c.c16, "h", "w"), f("alpha", 1, 1, "H", "W")],
            "outputs": [f("value", 1, c.value, "h", "w"), f("value_rows", "hw", c.value), f("alpha_16", 1, 1, "h", "w")],
        },
    }


def sizes(height: int, width: int, slots: int = 5) -> dict[str, int]:
    """Values of the symbolic dimensions for one working size."""
    h, w = height // 16, width // 16
    return {"H": height, "W": width, "h": h, "w": w, "hw": h * w, "N": slots * h * w}


def random_inputs(spec: dict, dims: dict[str, int], rng: np.random.Generator, valid: int) -> dict[str, np.ndarray]:
    out = {}
    for tensor in spec["inputs"]:
        shape = [dims.get(d, d) for d in tensor["shape"]]
        if tensor["type"] == "uint8":
            out[tensor["name"]] = rng.integers(0, 256, shape, np.uint8)
        elif tensor["name"] in {"alpha", "last_alpha", "prior", "gate"}:
            out[tensor["name"]] = rng.random(shape, np.float32) if shape else np.array(rng.random(), np.float32)
        else:
            out[tensor["name"]] = 0.3 * rng.standard_normal(shape, np.float32)
        if tensor["name"] == "bank_keys":  # one slot in five is empty
            rows = out["bank_keys"]
            rows[:, valid] = 0
            rows[-len(rows) // 5 :] = 0
            rows[-len(rows) // 5 :, valid] = -1e9
    return out


def export_graph(module: torch.nn.Module, spec: dict, dims: dict[str, int], valid: int) -> onnx.ModelProto:
    """Traces a stage; every symbolic dimension of its spec becomes dynamic."""
    inputs = random_inputs(spec, dims, np.random.default_rng(0), valid)
    tensors = tuple(torch.from_numpy(np.asarray(v)) for v in inputs.values())
    dynamic = {t["name"]: {i: d for i, d in enumerate(t["shape"]) if isinstance(d, str)}
               for t in spec["inputs"] + spec["outputs"]}
    buffer = io.BytesIO()
    torch.onnx.export(module, tensors, buffer, input_names=[t["name"] for t in spec["inputs"]],
                      output_names=[t["name"] for t in spec["outputs"]], dynamic_axes=dynamic, opset_version=OPSET,
                      dynamo=False)
    model = onnx.load_from_string(buffer.getvalue())
    del model.metadata_props[:]
    model.doc_string = ""
    # Shapes of intermediate tensors carry invented names; the runtime infers its own.
    del model.graph.value_info[:]
    declared = {t["name"]: t["shape"] for t in spec["inputs"] + spec["outputs"]}
    for value in list(model.graph.input) + list(model.graph.output):
        for dim, name in zip(value.type.tensor_type.shape.dim, declared[value.name], strict=True):
            dim.Clear()
            if isinstance(name, str):
                dim.dim_param = name
            else:
                dim.dim_value = name
    onnx.checker.check_model(model, full_check=True)
    return model


def open_session(model: bytes | str, dims: dict[str, int], threads: int = 2):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    for name, value in dims.items():
        options.add_free_dimension_override_by_name(name, value)
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def compare(module: torch.nn.Module, model: onnx.ModelProto, spec: dict, dims: dict[str, int], valid: int,
            seed: int) -> float:
    """The largest difference between the definition and the graph on random inputs."""
    inputs = random_inputs(spec, dims, np.random.default_rng(seed), valid)
    with torch.no_grad():
        expected = module(*(torch.from_numpy(np.asarray(v)) for v in inputs.values()))
    got = open_session(model.SerializeToString(), dims).run(None, inputs)
    return max(float(np.abs(e.numpy() - g).max() / max(1.0, np.abs(g).max())) for e, g in zip(expected, got, strict=True))


def weights_of(package: Path) -> dict[str, torch.Tensor]:
    """The weights inside the graphs of a package, folded, as `load_lite` takes them."""
    state = {}
    for name in ("matte.onnx", "value.onnx"):
        for tensor in onnx.load(package / name).graph.initializer:
            if tensor.name.endswith((".weight", ".bias")):
                state[tensor.name.removeprefix("net.")] = torch.from_numpy(onnx.numpy_helper.to_array(tensor).copy())
    # `Matte` takes bytes.
    state["stem.conv.weight"] *= 255
    return state


def load_network(checkpoint: Path | None) -> Lite:
    if checkpoint is None:
        return Lite().eval()
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["average"]
    return load_lite(finite(state, checkpoint)).eval()


def finite(state: dict[str, torch.Tensor], checkpoint: Path) -> dict[str, torch.Tensor]:
    """The weights of a checkpoint, if all of them are numbers."""
    wrong = [name for name, tensor in state.items() if not torch.isfinite(tensor).all()]
    if wrong:
        raise ValueError(f"{checkpoint}: numbers that are not finite in {', '.join(wrong)}")
    return state


def export_package(checkpoint: Path | None, out: Path, version: str, calibrate: list[Path] | None = None) -> dict[str, float]:
    """Writes the package; returns the largest difference met per graph (the mean one for 8 bits)."""
    torch.manual_seed(0)
    net = fold(load_network(checkpoint))
    c = net.config
    specs = graph_specs(c)
    modules = {"matte": Matte(net).eval(), "value": Value(net).eval()}
    worst, blobs = {}, {}
    for name, spec in specs.items():
        model = export_graph(modules[name], spec, sizes(96, 128), c.valid)
        worst[name] = max(compare(modules[name], model, spec, sizes(*size), c.valid, seed)
                          for seed, size in enumerate([(288, 512), (240, 320)]))
        if not worst[name] <= TOLERANCE:  # NaN included
            raise RuntimeError(f"{name}: differs from the definition by {worst[name]:.2e}, allowed are {TOLERANCE:.0e}")
        blobs[spec["file"]] = model.SerializeToString()

    manifest = {
        "format": "1.0",
        "name": "lite",
        "version": version,
        "kind": "matting",
        "description": "small memory-based matting network for CPUs",
        "licence": {"id": "MIT OR Apache-2.0", "text": "trained from scratch for matte; free for any use",
                    "commercial_use": True},
        "source": "models/matte_models/train (see MODEL_CARD.md)",
        "precision": "fp32",
        "working_size": WORKING_SIZE,
        "dims": {"stride": 16, "key_row": c.key_row, "valid": c.valid, "place": c.place_index, "value": c.value,
                 "feature": c.c16},
        "memory": MEMORY,
        "read": "softmax",
        "prior": {"absent": ABSENT, "segmentation": "selfie", "interval": PRIOR_INTERVAL},
        "graphs": specs,
    }
    if calibrate:
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder), manifest, blobs)
            feeds = quantise.feeds_of(Path(folder), calibrate)
        full = onnx.load_from_string(blobs["matte.onnx"])
        # Half of the clips' frames calibrate, the others judge.
        small = quantise.quantise(full, feeds[::2])
        worst["matte.int8"] = quantise.loss(full, small, feeds[1::2])
        if not worst["matte.int8"] <= INT8_TOLERANCE:
            raise RuntimeError(f"matte in 8 bits: alpha differs by {worst['matte.int8']:.2e} on average, allowed are "
                               f"{INT8_TOLERANCE:.0e}")
        manifest["graphs"] = graph_specs(c, int8=True)
        blobs[manifest["graphs"]["matte"]["int8"]] = small.SerializeToString()
    write(out, manifest, blobs)
    return worst


def write(out: Path, manifest: dict, blobs: dict[str, bytes]) -> None:
    """Writes the files of a package, the manifest last, with the digests of the others; graphs that it had before go."""
    files = {name: digest(blob) for name, blob in blobs.items()}
    manifest = {**manifest, "files": files}
    blobs = {**blobs, "manifest.json": (json.dumps(manifest, indent=1) + "\n").encode()}
    out.mkdir(parents=True, exist_ok=True)
    for name, blob in blobs.items():
        temporary = out / (name + ".tmp")
        temporary.write_bytes(blob)
        temporary.replace(out / name)
    for graph in out.glob("*.onnx"):
        if graph.name not in blobs:
            print(f"{graph.name}: removed, the new package does not have it")
            graph.unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description="Export lite as a model package.")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--version", required=True)
    parser.add_argument("--calibrate", type=Path, nargs="+", help="folders of clips, for the graph in 8 bits")
    args = parser.parse_args()
    for name, difference in export_package(args.checkpoint, args.out, args.version, args.calibrate).items():
        print(f"{name}: difference {difference:.1e}")


if __name__ == "__main__":
    main()
