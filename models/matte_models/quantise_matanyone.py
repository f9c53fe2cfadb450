"""Twins in 8-bit integers for an imported package of MatAnyone 2, from its own weights and clips of the user.

    python -m matte_models.quantise_matanyone PACKAGE OUT --clip VIDEO MASK [--clip VIDEO MASK …] [--size 512x288]

For processors that sum 8-bit products with instructions of their own (VNNI) and have no AMX. The clips are played at
`--size`; all but the last calibrate, and the last one is played again with the twins, whole and with all that is carried
over from frame to frame, to see what they cost. A single clip does both. Nothing is written if that is more than `--limit`.
OUT is a package like PACKAGE, to be given as the model; `precision=full` still takes its graphs in floats.

ffmpeg reads the clips. The mask is that of a clip's first frame; 128 and more is the target.
"""

from __future__ import annotations

import argparse
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from . import manifest
from .driver import Driver, Graphs
from .quantise import Feed, quantise
from .sessions import sessions

KEEP = ("key_proj", "pred_mat", "pixel_encoder/conv1")
"""What stays in floats: the key, by whose distances the memory is read, what makes alpha itself, and where the picture
comes in."""
SUMS = ("Add", "Resize", "AveragePool", "Concat", "Relu")
"""Between convolutions these stay in integers, too; going back to floats for each costs as much as it gains. Not in the
transformer, whose sums no single scale suits (with them alpha differs twice as much)."""
CHANGED = ("matte", "value")
"""Graphs that get a twin; `memorize` is small, and runs for a fifth of the frames."""
FEEDS = 6
"""Steps of each clip that calibrate."""


@dataclass
class Clip:
    frames: np.ndarray
    """`[T, H, W, 3]`, u8."""
    mask: np.ndarray
    """`[H, W]`, u8, 0 or 255."""


def taken(node: onnx.NodeProto) -> bool:
    """Whether a node is computed in integers."""
    if any(part in node.name for part in KEEP):
        return False
    return node.op_type == "Conv" or (node.op_type in SUMS and "/" in node.name and "transformer" not in node.name)


def read(path: Path, size: tuple[int, int], pixels: str, frames: int) -> np.ndarray:
    """`[T, H, W, channels]` of at most `frames` pictures, scaled to `size` (width, height)."""
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-vf", f"scale={size[0]}:{size[1]}", "-frames:v", str(frames),
               "-f", "rawvideo", "-pix_fmt", pixels, "-"]
    try:
        data = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=True).stdout
    except FileNotFoundError:
        raise ValueError("ffmpeg is not installed; it reads the clips") from None
    except subprocess.CalledProcessError as error:
        raise ValueError(f"{path}: {error.stderr.decode(errors='replace').strip()}") from None
    return np.frombuffer(data, np.uint8).reshape(-1, size[1], size[0], {"rgb24": 3, "gray": 1}[pixels])


def open_clip(video: Path, mask: Path, size: tuple[int, int], frames: int) -> Clip:
    """A clip and the mask of its first frame."""
    target = read(mask, size, "gray", 1)[0, ..., 0]
    target = np.where(target >= 128, np.uint8(255), np.uint8(0))
    if not target.any():
        raise ValueError(f"{mask}: nothing of it is 128 or more, so it names no target")
    pictures = read(video, size, "rgb24", frames)
    if len(pictures) < 2:
        raise ValueError(f"{video}: {len(pictures)} frames, but at least 2 are needed")
    return Clip(pictures, target)


def play(graphs: Graphs, clip: Clip, document: dict) -> np.ndarray:
    """Alpha `[T, H, W]` of a clip, from its mask, warm-up and all, as the engine plays it."""
    memory, dims = document["memory"], document["dims"]
    driver = Driver(graphs, clip.mask.shape, interval=memory["interval"], temporary=memory["temporary_frames"],
                    key_row=dims["key_row"], valid=dims["valid"], width=dims["value"], queries=dims["queries"])
    driver.step(clip.frames[0], clip.mask)
    for _ in range(memory["warm_up"] + 1):
        alpha = driver.step(clip.frames[0], first=True)
    return np.stack([alpha.copy(), *(driver.step(frame).copy() for frame in clip.frames[1:])])


def recorded(graphs: Graphs, clip: Clip, document: dict) -> dict[str, list[Feed]]:
    """Inputs of the graphs that get a twin, of evenly spaced steps of a clip."""
    seen: dict[str, list[Feed]] = {name: [] for name in CHANGED}

    def recording(name: str):
        def call(**inputs: np.ndarray) -> dict[str, np.ndarray]:
            # Copies: the bank is written to in place.
            seen[name].append({key: np.array(value) for key, value in inputs.items()})
            return graphs[name](**inputs)

        return call

    play({**graphs, **{name: recording(name) for name in CHANGED}}, clip, document)
    return {name: [feeds[i] for i in np.unique(np.linspace(0, len(feeds) - 1, FEEDS).astype(int))]
            for name, feeds in seen.items()}


def timed(graphs: Graphs) -> tuple[Graphs, dict[str, list[float]]]:
    """The same graphs, and how long their runs take, in ms."""
    times: dict[str, list[float]] = {name: [] for name in graphs}

    def timing(name: str):
        def call(**inputs: np.ndarray) -> dict[str, np.ndarray]:
            start = time.perf_counter()
            out = graphs[name](**inputs)
            times[name].append(1e3 * (time.perf_counter() - start))
            return out

        return call

    return {name: timing(name) for name in graphs}, times


def quantise_package(package: Path, out: Path, clips: list[Clip], limit: float, threads: int = 2) -> float:
    """Writes `out`, unless alpha differs by more than `limit` on average, which is an error; returns the difference."""
    document = manifest.load(package)
    missing = {*CHANGED, "memorize"} - document["graphs"].keys()
    if missing or document["precision"] != "fp32" or any("int8" in g for g in document["graphs"].values()):
        raise ValueError(f"{package}: {document['name']} in {document['precision']} is not a MatAnyone package in float32 "
                         "without twins in integers")
    if not (package / document["weights"]["file"]).is_file():
        raise ValueError(f"{package} has no weights; `matte models import` makes a package that has")
    if out.exists() and any(out.iterdir()):
        raise ValueError(f"{out} is not empty")
    size = clips[0].mask.shape
    if any(n % 16 for n in size):
        raise ValueError(f"size {size[1]}x{size[0]}, but both must be multiples of 16")

    full = sessions(package, size, threads=threads)
    feeds: dict[str, list[Feed]] = {name: [] for name in CHANGED}
    for clip in clips[:-1] or clips:
        for name, more in recorded(full, clip, document).items():
            feeds[name] += more

    names = {*document["files"], "manifest.json", document["weights"]["file"]}
    files = {name: (package / name).read_bytes() for name in sorted(names)}
    for name in CHANGED:
        spec = document["graphs"][name]
        spec["int8"] = f"{name}.int8.onnx"
        files[spec["int8"]] = quantise(onnx.load(package / spec["file"]), feeds[name], taken).SerializeToString()
        document["files"][spec["int8"]] = manifest.digest(files[spec["int8"]])
    files["manifest.json"] = (manifest.dump(document) + "\n").encode()

    out.mkdir(parents=True, exist_ok=True)
    try:
        manifest.write(out, files)
        # In turn, so that both see the same machine.
        (floats, slow), (integers, quick) = (timed(g) for g in (full, sessions(out, size, threads=threads, int8=True)))
        judge = clips[-1]
        alphas = [play(graphs, judge, document) for graphs in (floats, integers)]
        error = np.abs(alphas[0] - alphas[1])
        mean = float(error.mean())
        print(f"alpha differs by {mean:.4f} on average, {error[-1].mean():.4f} in the last of {len(error)} frames, "
              f"{error.max():.2f} at most")
        for name in CHANGED:
            before, after = np.median(slow[name]), np.median(quick[name])
            print(f"{name}: {before:.1f} ms in floats, {after:.1f} in integers, {after / before:.2f} times "
                  f"({threads} threads)")
        if not mean <= limit:
            raise ValueError(f"alpha differs by {mean:.4f} on average, allowed are {limit}; nothing was written")
    except BaseException:
        for name in files:
            (out / name).unlink(missing_ok=True)
        out.rmdir()
        raise
    return mean


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--clip", type=Path, nargs=2, action="append", required=True, metavar=("VIDEO", "MASK"))
    parser.add_argument("--size", default="512x288", help="working size, width and height, multiples of 16")
    parser.add_argument("--frames", type=int, default=40, help="of each clip")
    parser.add_argument("--limit", type=float, default=0.005, help="what alpha may differ by on average, of 1")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    try:
        width, height = (int(n) for n in args.size.split("x"))
    except ValueError:
        parser.error(f"--size {args.size}: should be like 512x288")
    try:
        clips = [open_clip(video, mask, (width, height), args.frames) for video, mask in args.clip]
        quantise_package(args.package, args.out, clips, args.limit, args.threads)
    except ValueError as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
