"""Writes the skeletons of MatAnyone and MatAnyone 2.

    python -m matte_models.export_matanyone            write models/packages and the comparison skeleton
    python -m matte_models.export_matanyone --check    compare with what is there instead

No weights are needed, and none are written.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from matte_models import manifest
from matte_models.config import MATANYONE, Config
from matte_models.export import GraphSpec, Port, skeletons
from matte_models.network.matanyone import MatAnyone

MODELS = Path(__file__).resolve().parents[1]
PACKAGES = MODELS / "packages"
TEST_DATA = MODELS.parent / "tests" / "data"

# Any size does; no two dimensions that are independent in the graphs are equal here.
TRACE_DIMS = {"H": 48, "W": 64, "h": 3, "w": 4, "hw": 12, "N": 36}

LICENCE = {
    "id": "S-Lab-1.0",
    "text": "S-Lab License 1.0: the weights may be used for non-commercial purposes only; commercial use needs the "
    "authors' consent.",
    "commercial_use": False,
}


def graph_specs(network: MatAnyone) -> list[GraphSpec]:
    """The three graphs with their ports, as docs/model-packages.md lays them down."""
    c = network.config
    t = str(network.dtype).removeprefix("torch.")
    frame = Port("frame", "uint8", (1, "H", "W", 3))
    sensory = ("float32", (1, c.sensory_dim, "h", "w"))
    value = (t, (1, c.value_dim, "h", "w"))
    feature = (t, (1, c.pixel_dim, "h", "w"))
    alpha = Port("alpha", "float32", (1, 1, "H", "W"))
    alpha_16 = ("float32", (1, 1, "h", "w"))
    object_memory = ("float32", (1, c.num_queries, c.embed_dim + 1))
    return [
        GraphSpec(
            "matte",
            network.matte,
            (
                frame,
                Port("bank_keys", "float32", ("N", c.key_row)),
                Port("bank_values", t, ("N", c.value_dim)),
                Port("sensory", *sensory),
                Port("last_alpha", *alpha_16),
                Port("last_feature", *feature),
                Port("last_value", *value),
                Port("object_memory", *object_memory),
                Port("gate", "float32", ()),
            ),
            (
                alpha,
                Port("sensory_out", *sensory),
                Port("feature", *feature),
                Port("key_rows", "float32", ("hw", c.key_row)),
            ),
            also=frozenset() if c.top_k is None else frozenset({"TopK"}),
        ),
        GraphSpec(
            "value",
            network.value,
            (frame, Port("feature", *feature), alpha),
            (Port("value", *value), Port("value_rows", t, ("hw", c.value_dim)), Port("alpha_16", *alpha_16)),
        ),
        GraphSpec(
            "memorize",
            network.memorize,
            (
                Port("value", *value),
                Port("sensory", *sensory),
                Port("alpha_16", *alpha_16),
                Port("object_memory", *object_memory),
                Port("keep", "float32", ()),
            ),
            (Port("sensory_out", *sensory), Port("object_memory_out", *object_memory)),
        ),
    ]


def package(name: str, *, half: bool = False, top_k: int | None = None, config: Config = MATANYONE) -> dict[str, bytes]:
    """All files of a skeleton package."""
    torch.manual_seed(0)
    c = Config(**{**config.__dict__, "top_k": top_k})
    network = MatAnyone(c).eval().requires_grad_(False)
    if half:
        network.half_()
    specs = graph_specs(network)
    graphs, weights = skeletons(network, specs, TRACE_DIMS)
    precision = "fp16" if half else "fp32"
    document = {
        "format": manifest.FORMAT,
        "name": name,
        "version": "1.0.0",
        "kind": "matting",
        "description": f"MatAnyone 2, memory-based human video matting, {precision}",
        "licence": LICENCE,
        "source": "https://github.com/pq-yang/MatAnyone2",
        # MatAnyone is the same network with other weights: an import under this name replaces these fields.
        "variants": {
            name.replace("matanyone2", "matanyone"): {
                "description": f"MatAnyone, memory-based human video matting, {precision}",
                "source": "https://github.com/pq-yang/MatAnyone",
            }
        },
        "precision": precision,
        "working_size": {"min": [64, 64], "max": [3840, 2176], "default": [1024, 576], "multiple": 16},
        "dims": {
            "stride": 16,
            "key_row": c.key_row,
            "valid": c.valid,
            "value": c.value_dim,
            "sensory": c.sensory_dim,
            "feature": c.pixel_dim,
            "queries": c.num_queries,
            "embed": c.embed_dim,
        },
        "memory": {"interval": 5, "temporary_frames": 4, "warm_up": 10},
        "read": "softmax" if top_k is None else f"top-{top_k}",
        "graphs": {
            spec.name: {
                "file": f"{spec.name}.onnx",
                "inputs": [p.as_json() for p in spec.inputs],
                "outputs": [p.as_json() for p in spec.outputs],
            }
            for spec in specs
        },
        "weights": weights.as_json(network.unused()),
    }
    return manifest.package_files(document, {f"{n}.onnx": data for n, data in graphs.items()})


def everything() -> dict[Path, dict[str, bytes]]:
    """Every committed package, by directory."""
    return {
        PACKAGES / "matanyone2": package("matanyone2"),
        PACKAGES / "matanyone2-fp16": package("matanyone2-fp16", half=True),
        TEST_DATA / "matanyone2-top30": package("matanyone2-top30", top_k=30),
    }


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare, write nothing; fails where files differ")
    check = parser.parse_args().check
    wrong: list[str] = []
    for directory, files in everything().items():
        if check:
            wrong += manifest.differences(directory, files)
        else:
            manifest.write(directory, files)
            print(f"{directory}: {sum(map(len, files.values())) / 1e3:.0f} kB")
    for name in wrong:
        print(f"{name} is not what the export gives", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
