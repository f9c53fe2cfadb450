"""Puts the network that draws edges anew into a model package: `detail.onnx`, `detail.int8.onnx`, and their lines in the manifest.

    python -m matte_models.export_detail detail.pt packages/lite --calibrate $WORK/clips [--version 0.10.0]

The other graphs of the package stay as they are. `--calibrate` takes folders of `matte_models.train.detail make`, of whose tiles
half calibrate the graph in 8-bit integers and the others judge it.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import onnx
import torch

from . import quantise
from .export_lite import INT8_TOLERANCE, TOLERANCE, export_graph, finite, open_session, write
from .network.detail import PLANES, TILE, Detail, DetailConfig, Tiles

# `stem` is where rounding shows most; `out` makes alpha itself.
KEEP = ("/stem/", "/out/")


def graph_spec(int8: bool = False) -> dict:
    """File, inputs and outputs of the graph."""
    return {
        "file": "detail.onnx",
        "inputs": [{"name": "tiles", "type": "uint8", "shape": ["T", PLANES, TILE, TILE]}],
        "outputs": [{"name": "tile_alpha", "type": "float32", "shape": ["T", 1, TILE, TILE]}],
        **({"int8": "detail.int8.onnx"} if int8 else {}),
    }


def load_detail(checkpoint: Path) -> Detail:
    """The network of a checkpoint of `matte_models.train.detail`."""
    saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
    net = Detail(DetailConfig(saved["width"], saved["depth"]))
    net.load_state_dict(finite(saved["detail"], checkpoint))
    return net.eval()


def graph_of(net: Detail) -> onnx.ModelProto:
    """The graph, with the number of tiles open."""
    # It has no bank, whose rows could be valid.
    return export_graph(Tiles(net).eval(), graph_spec(), {"T": 2}, valid=0)


def difference(net: Detail, model: onnx.ModelProto, tiles: np.ndarray) -> np.ndarray:
    """Of graph and definition, alpha by alpha."""
    with torch.no_grad():
        expected = Tiles(net)(torch.from_numpy(tiles)).numpy()
    return np.abs(open_session(model.SerializeToString(), {"T": len(tiles)}).run(None, {"tiles": tiles})[0] - expected)


def export(net: Detail, package: Path, version: str | None, tiles: np.ndarray | None) -> dict[str, float]:
    """Writes the graphs and the manifest; returns the largest difference met (the mean one in 8 bits)."""
    manifest = json.loads((package / "manifest.json").read_text())
    model = graph_of(net)
    random = np.random.default_rng(0).integers(0, 256, (8, PLANES, TILE, TILE), np.uint8)
    differs = {"detail": float(difference(net, model, random).max())}
    if not differs["detail"] <= TOLERANCE:
        raise RuntimeError(f"detail: differs from the definition by {differs['detail']:.2e}, allowed are {TOLERANCE:.0e}")
    blobs = {"detail.onnx": model.SerializeToString()}
    if tiles is not None:
        batches = [{"tiles": batch} for batch in tiles[::2].reshape(-1, 8, PLANES, TILE, TILE)]
        small = quantise.quantise(model, batches, quantise.convolutions_but(*KEEP))
        differs["detail.int8"] = float(difference(net, small, tiles[1::2]).mean())
        if not differs["detail.int8"] <= INT8_TOLERANCE:
            raise RuntimeError(f"detail in 8 bits: alpha differs by {differs['detail.int8']:.2e} on average, allowed are "
                               f"{INT8_TOLERANCE:.0e}")
        blobs["detail.int8.onnx"] = small.SerializeToString()
    manifest["graphs"]["detail"] = graph_spec(int8=tiles is not None)
    if version:
        manifest["version"] = version
    for file in manifest.pop("files"):
        if not file.startswith("detail."):
            blobs.setdefault(file, (package / file).read_bytes())
    write(package, manifest, blobs)
    return differs


def main() -> None:
    parser = argparse.ArgumentParser(description="Put the network that draws edges anew into a model package.")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("package", type=Path)
    parser.add_argument("--version", help="of the package (default: as it is)")
    parser.add_argument("--calibrate", type=Path, nargs="+", help="folders of clips, for the graph in 8 bits")
    args = parser.parse_args()
    tiles = None
    if args.calibrate:
        from .train.detail import Clips

        drawn = Clips(args.calibrate).tiles(np.random.default_rng(0), 256)[:, 0, :PLANES]
        tiles = np.rint(drawn.numpy() * 255).astype(np.uint8)
    for name, differs in export(load_detail(args.checkpoint), args.package, args.version, tiles).items():
        print(f"{name}: difference {differs:.1e}")


if __name__ == "__main__":
    main()
