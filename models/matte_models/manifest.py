"""Writing and filling model packages: manifest.json, graphs, weights.bin."""

from __future__ import annotations

import fnmatch
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

FORMAT = "1.0"


def digest(data: bytes) -> dict:
    """How a manifest names the contents of a file."""
    return {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}


def dump(value: object, depth: int = 0, width: int = 120) -> str:
    """JSON in which whatever fits on a line stays on it: a table of tensors reads as a table."""
    line = json.dumps(value, ensure_ascii=False)
    if len(line) + 2 * depth <= width - 20 or not isinstance(value, dict | list) or not value:
        return line
    # A tensor is one row of the table, however long.
    if isinstance(value, dict) and ("initializer" in value or set(value) == {"name", "type", "shape"}):
        return line
    pad = "  " * (depth + 1)
    if isinstance(value, dict):
        items = [f"{pad}{json.dumps(k, ensure_ascii=False)}: {dump(v, depth + 1)}" for k, v in value.items()]
        opening, closing = "{", "}"
    else:
        items = [f"{pad}{dump(v, depth + 1)}" for v in value]
        opening, closing = "[", "]"
    return opening + "\n" + ",\n".join(items) + "\n" + "  " * depth + closing


def package_files(manifest: dict, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The files of a package by name, the manifest among them with the digests of the others filled in."""
    manifest = {**manifest, "files": {name: digest(data) for name, data in sorted(files.items())}}
    if "weights" in manifest:
        manifest["weights"] = manifest.pop("weights")  # the long table comes last
    return {"manifest.json": (dump(manifest) + "\n").encode(), **files}


def write(directory: Path, files: Mapping[str, bytes]) -> None:
    """Writes a package directory."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (directory / name).write_bytes(data)


def differences(directory: Path, files: Mapping[str, bytes]) -> list[str]:
    """Names of the files in which a directory differs from a package."""
    return [
        str(directory / name)
        for name, data in files.items()
        if not (directory / name).is_file() or (directory / name).read_bytes() != data
    ]


def apply_recipe(array: np.ndarray, recipe: list[dict]) -> np.ndarray:
    """The steps that lead from a source tensor to an initializer."""
    for step in recipe:
        match step["op"]:
            case "slice":
                index = [slice(None)] * array.ndim
                index[step["axis"]] = slice(step["start"], step["end"])
                array = array[tuple(index)]
            case "transpose":
                array = array.transpose(step["perm"])
            case "reshape":
                array = array.reshape(step["shape"])
            case other:
                raise ValueError(f"unknown recipe step {other!r}")
    return array


def fill_weights(manifest: dict, source: Callable[[dict], np.ndarray]) -> bytes:
    """weights.bin of a skeleton; ``source`` gives the raw tensor of an entry of the table."""
    weights = manifest["weights"]
    data = bytearray(weights["bytes"])
    for entry in weights["tensors"]:
        array = np.ascontiguousarray(apply_recipe(source(entry), entry["recipe"]).astype(entry["type"]))
        if not np.isfinite(array).all():
            raise ValueError(f"{entry['initializer']} has numbers that are not finite as {entry['type']}")
        if list(array.shape) != entry["shape"]:
            raise ValueError(f"{entry['initializer']} has shape {array.shape}, the graph wants {entry['shape']}")
        data[entry["offset"] : entry["offset"] + array.nbytes] = array.tobytes()
    return bytes(data)


def unaccounted(manifest: dict, names: set[str]) -> tuple[set[str], set[str]]:
    """Checkpoint tensors that are neither used nor listed as unused, and sources that the checkpoint lacks."""
    weights = manifest["weights"]
    used = {entry["source"] for entry in weights["tensors"]}
    left = {n for n in names - used if not any(fnmatch.fnmatchcase(n, glob) for glob in weights["unused"])}
    return left, used - names


def load(directory: Path) -> dict:
    """The manifest of a package."""
    return json.loads((directory / "manifest.json").read_text())
