"""Makes a usable package of a skeleton.

    python -m matte_models.fill --rule PACKAGE OUT                 with deterministic weights
    python -m matte_models.fill --checkpoint FILE PACKAGE OUT      with a checkpoint (.safetensors)

For work on the networks. Users import checkpoints with ``matte models import``, which needs no Python.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from matte_models import manifest, rule


def rule_weights(document: dict) -> bytes:
    """weights.bin of a skeleton under the deterministic weights."""
    from matte_models.network.matanyone import MatAnyone

    shapes = {k: tuple(v.shape) for k, v in MatAnyone().state_dict().items()}
    return manifest.fill_weights(document, lambda entry: rule.tensor(entry["source"], shapes[entry["source"]]))


def checkpoint_weights(document: dict, path: Path) -> bytes:
    """weights.bin of a skeleton from a checkpoint; every tensor of it must be accounted for."""
    from safetensors.torch import load_file

    from matte_models.network.matanyone import MatAnyone, load_checkpoint

    network = MatAnyone()
    load_checkpoint(network, load_file(path))
    tensors: dict[str, np.ndarray] = {k: v.numpy() for k, v in network.state_dict().items()}
    left, missing = manifest.unaccounted(document, set(tensors))
    if left or missing:
        raise ValueError(f"not accounted for: {sorted(left)}; missing: {sorted(missing)}")
    return manifest.fill_weights(document, lambda entry: tensors[entry["source"]])


def fill(package: Path, out: Path, weights: bytes) -> None:
    """Copies a skeleton and puts its weights beside it."""
    document = manifest.load(package)
    files = {name: (package / name).read_bytes() for name in document["files"]}
    document["files"]["weights.bin"] = manifest.digest(weights)
    manifest.write(out, {**files, "weights.bin": weights, "manifest.json": json.dumps(document).encode()})


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--rule", action="store_true")
    source.add_argument("--checkpoint", type=Path, metavar="FILE")
    parser.add_argument("package", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    document = manifest.load(args.package)
    weights = rule_weights(document) if args.rule else checkpoint_weights(document, args.checkpoint)
    fill(args.package, args.out, weights)


if __name__ == "__main__":
    main()
