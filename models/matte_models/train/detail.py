"""Training of `detail`, the network that draws edges anew (`matte_models.network.detail`).

    python -m matte_models.train.detail make  OUT --shared MATERIAL --people PEOPLE --seed 42 --count 300
    python -m matte_models.train.detail train OUT… --out detail.pt --minutes 30
    python -m matte_models.train.detail score detail.pt CLIP… [--frames 30]

`make` lets `lite` follow the target of generated clips, and keeps three frames of each, one after the other: a file `.npy` of u8
`[3, H, W, 5]`, red, green, blue, the matte of `lite` brought to full size by the guided filter, and the true alpha. `train` draws
tiles of these along edges, each in two frames. `score` compares the filter and the network on clips with true alpha (folders as
in `matte_models.train.evaluate`).
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from ..export_detail import load_detail
from ..network.detail import TILE, Detail, DetailConfig
from . import losses
from .data import SEGMENTER, Clip, Material, Segmenter, Size, load_material
from .evaluate import Driver, Scores, guided_upsample, read_video
from .samples import corrupt_mask

PACKAGE = Path(__file__).parents[2] / "packages" / "lite"
SIZE = Size(1280, 720)
# At which `lite` sees a frame, and how often: the frame is 2, 2.35 and 3 times as wide.
WORKING_SIZES = {(640, 368): 0.5, (544, 304): 0.2, (432, 240): 0.3}
# Frames of a clip that `lite` sees; the last ones are kept.
TIMES = (0, 1, 3, 5, 7, 9, 10, 11)
KEPT = 3

# As in core/src/stages/detail.rs: cells in whose surroundings the matte differs by more than this are drawn anew.
CELL, AROUND, DIFFERS = 16, 4, 12
CORE = 48
MARGIN = (TILE - CORE) // 2


def live_cells(alpha: np.ndarray) -> np.ndarray:
    """Cells of a full-size matte (u8) that are to be drawn anew: `[⌈H/16⌉, ⌈W/16⌉]`."""

    def extremes(axis_values: np.ndarray, pick) -> np.ndarray:
        n = axis_values.shape[0]
        return np.stack([pick(axis_values[max(0, start - AROUND) : start + CELL + AROUND], axis=0)
                         for start in range(0, n, CELL)])

    highest, lowest = (extremes(extremes(alpha, pick).T, pick).T.astype(int) for pick in (np.max, np.min))
    return highest - lowest > DIFFERS


# --- data -----------------------------------------------------------------------------------------------------------


def make_clip(seed: int, index: int, material: Material, segmenter: Segmenter, package: Path,
              as_seen: bool = False) -> np.ndarray:
    """Three frames of clip `index` of the stream `seed`: `[3, H, W, 5]`, u8; with `as_seen` at the size that `lite` sees."""
    rng = np.random.default_rng([seed, index, 999])
    for attempt in range(20):
        clip = Clip(np.random.default_rng([seed, index, attempt]), material, 0.25, SIZE)
        first = clip.frame(TIMES[0])
        if 0.015 < first[1].mean() / 255 < 0.8:
            break
    else:
        raise RuntimeError(f"clip {index}: no attempt showed the target")
    size = list(WORKING_SIZES)[rng.choice(len(WORKING_SIZES), p=list(WORKING_SIZES.values()))]
    driver = Driver(package, size[1], size[0], threads=1)
    out = []
    for number, time_ in enumerate(TIMES):
        rgb, alpha = first if number == 0 else clip.frame(time_)
        small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
        prior = segmenter(small) if rng.random() < 0.9 else None
        if number == 0:
            mask = cv2.resize(corrupt_mask(rng, alpha), size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
            matte = driver.seed(small, mask, prior)
        else:
            matte = driver.step(small, prior)
        if number >= len(TIMES) - KEPT and as_seen:
            true = cv2.resize(alpha, size, interpolation=cv2.INTER_AREA)
            out.append(np.dstack([small, np.rint(matte * 255).astype(np.uint8), true]))
        elif number >= len(TIMES) - KEPT:
            full = guided_upsample(matte, small.astype(np.float32) / 255, rgb.astype(np.float32) / 255)
            out.append(np.dstack([rgb, np.rint(full * 255).astype(np.uint8), alpha]))
    return np.stack(out)


def write_clips(out: Path, material: Material, segmenter: Segmenter, package: Path, seed: int, start: int, count: int,
                as_seen: bool = False) -> None:
    """Writes clips that are not there yet."""
    out.mkdir(parents=True, exist_ok=True)
    for index in range(start, start + count):
        path = out / f"{seed}_{index:04d}.npy"
        if not path.exists():
            with open(path.with_suffix(".tmp"), "wb") as file:
                np.save(file, make_clip(seed, index, material, segmenter, package, as_seen))
            path.with_suffix(".tmp").replace(path)


class Clips:
    """Clips that `make` wrote, mapped from disk, and tiles of them."""

    def __init__(self, folders: list[Path]) -> None:
        self.clips: list[tuple[np.ndarray, list[np.ndarray]]] = []
        for path in sorted(path for folder in folders for path in folder.glob("*.npy")):
            frames = np.load(path, mmap_mode="r")
            cells = [np.argwhere(live_cells(np.asarray(frame[..., 3]))) for frame in frames]
            if min(map(len, cells)) >= 8:
                self.clips.append((frames, cells))
        if not self.clips:
            raise ValueError(f"no clips in {', '.join(map(str, folders))}")

    def tiles(self, rng: np.random.Generator, count: int) -> Tensor:
        """Pairs of tiles, `[count, 2, 5, 64, 64]`, 0 to 1: the same place in two frames, four of a clip, in another light."""
        out: list[np.ndarray] = []
        while len(out) < count:
            frames, cells = self.clips[rng.integers(len(self.clips))]
            first = int(rng.integers(len(frames) - 1))
            height, width = frames.shape[1:3]
            for cell in cells[first][rng.integers(len(cells[first]), size=4)]:
                middle = cell * CELL + CELL // 2 + rng.integers(-CORE // 2, CORE // 2 + 1, 2)
                top, left = np.clip(middle - TILE // 2, 0, [height - TILE, width - TILE])
                pair = np.asarray(frames[first : first + 2, top : top + TILE, left : left + TILE])
                out.append(pair[:, :, ::-1] if rng.random() < 0.5 else pair)
        tiles = torch.from_numpy(np.stack(out[:count])).permute(0, 1, 4, 2, 3).float() / 255
        light = np.exp(rng.normal(0, 0.045, (count, 1, 3, 1, 1)) + rng.normal(0, 0.2, (count, 1, 1, 1, 1)))
        lift = rng.normal(0, 0.04, (count, 1, 1, 1, 1))
        lit = tiles[:, :, :3] * torch.from_numpy(light).float() + torch.from_numpy(lift).float()
        return torch.cat([lit.clamp(0, 1), tiles[:, :, 3:]], 2)


# --- training -------------------------------------------------------------------------------------------------------


def loss_of(raw: Tensor, truth: Tensor, steady: float) -> Tensor:
    """Of unclamped alphas `[B, 2, 1, H, W]`, within the margin that is thrown away; `steady` weighs the temporal loss."""
    raw, truth = (x[..., MARGIN:-MARGIN, MARGIN:-MARGIN] for x in (raw, truth))
    alpha = raw.clamp(0, 1)
    # Clamped, alpha has no gradient where it is wrong by far: `pull` has.
    return (losses.pull(raw, truth).mean() + losses.laplacian(raw, truth, levels=3)
            + steady * losses.temporal(alpha, truth) + 0.5 * (alpha - truth).abs().mean())


def train(clips: Clips, out: Path, minutes: float, rate: float, batch: int, seed: int, config: DetailConfig,
          steady: float = 0.5, init: Path | None = None, log_every: int = 500) -> None:
    """Trains for so many minutes; the rate falls as a cosine. `out` gets the averaged weights."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    net = load_detail(init) if init else Detail(config)
    net = net.train().to(memory_format=torch.channels_last)
    average = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    optimizer = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=1e-4)
    began, step, sums = time.monotonic(), 0, np.zeros(3)
    while (share := (time.monotonic() - began) / 60 / minutes) < 1:
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 200) * (0.01 + 0.99 * 0.5 * (1 + np.cos(np.pi * share)))
        tiles = clips.tiles(rng, batch)
        raw = net(tiles[:, :, :4].flatten(0, 1)).unflatten(0, (batch, 2))
        loss = loss_of(raw, tiles[:, :, 4:], steady)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        step += 1
        with torch.no_grad():
            kept = min(0.999, step / (step + 10))
            for name, tensor in net.state_dict().items():
                average[name].lerp_(tensor, 1 - kept)
            core = np.s_[..., MARGIN:-MARGIN, MARGIN:-MARGIN]
            truth = tiles[:, :, 4:][core]
            sums += [float(loss), float((raw.clamp(0, 1)[core] - truth).abs().mean()),
                     float((tiles[:, :, 3:4][core] - truth).abs().mean())]
        if step % log_every == 0:
            loss, own, filters = sums / log_every
            print(f"{step} steps, {share * minutes:.1f} min: loss {loss:.4f}, alpha wrong by {own:.4f}, the filter's by {filters:.4f}",
                  flush=True)
            sums[:] = 0
            torch.save({"detail": average, "width": net.config.width, "depth": net.config.depth, "steps": step}, out)
    torch.save({"detail": average, "width": net.config.width, "depth": net.config.depth, "steps": step}, out)


# --- scores ---------------------------------------------------------------------------------------------------------


@torch.no_grad()
def redraw(net: Detail, rgb: np.ndarray, filtered: np.ndarray) -> np.ndarray:
    """The matte with its live cells drawn anew, u8. Of the whole frame at once: the network, which sees a little further than a
    tile's margin, gives nearly but not exactly what it gives in the engine."""
    height, width = filtered.shape
    pad = ((0, -height % 4), (0, -width % 4))
    planes = [np.pad(plane, pad, mode="edge") for plane in (*np.moveaxis(rgb, 2, 0), filtered)]
    drawn = net(torch.from_numpy(np.stack(planes)[None].astype(np.float32) / 255))[0, 0, :height, :width].clamp(0, 1)
    live = live_cells(filtered).repeat(CELL, 0).repeat(CELL, 1)[:height, :width]
    return np.where(live, np.rint(drawn.numpy() * 255).astype(np.uint8), filtered)


def score(net: Detail, clips: list[Path], size: tuple[int, int], segmenter: Segmenter, frames: int) -> None:
    """Prints the scores of the filter and of the network."""
    totals: dict[str, list[list[float]]] = {"filter": [], "detail": []}
    for clip in clips:
        scores = {name: Scores() for name in totals}
        driver = None
        mask = cv2.imread(str(sorted(clip.glob("mask_0000*.png"))[0]), cv2.IMREAD_GRAYSCALE).astype(np.float32) / 255
        videos = zip(read_video(clip / "video.mp4"), read_video(clip / "alpha.mkv", gray=True), range(frames))
        for rgb, truth, number in videos:
            small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
            if number == 0:
                driver = Driver(PACKAGE, size[1], size[0])
                matte = driver.seed(small, cv2.resize(mask, size, interpolation=cv2.INTER_AREA), segmenter(small))
            else:
                matte = driver.step(small, segmenter(small))
            full = guided_upsample(matte, small.astype(np.float32) / 255, rgb.astype(np.float32) / 255)
            filtered = np.rint(full * 255).astype(np.uint8)
            for name, alpha in (("filter", filtered), ("detail", redraw(net, rgb, filtered))):
                scores[name].add(alpha.astype(np.float32) / 255, truth)
        for name, of in scores.items():
            means = of.means()
            totals[name].append(list(means.values()))
            print(f"{clip.name:30} {name:7}" + "  ".join(f"{k} {v:6.2f}" for k, v in means.items()), flush=True)
    for name, rows in totals.items():
        print(f"{'mean':30} {name:7}" + "  ".join(f"{k} {v:6.2f}" for k, v in zip(means, np.mean(rows, 0))))


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the network that draws edges anew.")
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("make", help="write frames with the mattes of lite")
    make.add_argument("out", type=Path)
    make.add_argument("--people", type=Path, help="folder of synthetic people, from matte_models.train.people")
    make.add_argument("--package", type=Path, default=PACKAGE, help="package of lite (default: the committed one)")
    make.add_argument("--held-out", action="store_true", help="use the held-out material instead")
    make.add_argument("--as-seen", action="store_true", help="frames at the size that lite sees, without the filter")
    make.add_argument("--seed", type=int, default=1)
    make.add_argument("--start", type=int, default=0)
    make.add_argument("--count", type=int, default=300)
    learn = commands.add_parser("train", help="train")
    learn.add_argument("clips", type=Path, nargs="+")
    learn.add_argument("--out", type=Path, required=True)
    learn.add_argument("--init", type=Path, help="go on from these weights")
    learn.add_argument("--minutes", type=float, default=30)
    learn.add_argument("--rate", type=float, default=2e-3)
    learn.add_argument("--batch", type=int, default=32)
    learn.add_argument("--steady", type=float, default=0.5, help="weight of the temporal loss (default: 0.5)")
    learn.add_argument("--width", type=int, default=DetailConfig.width)
    learn.add_argument("--depth", type=int, default=DetailConfig.depth)
    learn.add_argument("--seed", type=int, default=1)
    judge = commands.add_parser("score", help="compare filter and network")
    judge.add_argument("weights", type=Path)
    judge.add_argument("clips", type=Path, nargs="+")
    judge.add_argument("--size", type=Size.parse, default=Size(640, 368))
    judge.add_argument("--frames", type=int, default=10**9)
    for command in (make, judge):
        command.add_argument("--shared", type=Path, default=os.environ.get("MATTE_SHARED"),
                             help="folder with train/ and models/ (default: $MATTE_SHARED)")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    if args.command == "train":
        config = DetailConfig(args.width, args.depth)
        train(Clips(args.clips), args.out, args.minutes, args.rate, args.batch, args.seed, config, args.steady,
              args.init)
        return
    if args.shared is None:
        parser.error("--shared or MATTE_SHARED is needed")
    segmenter = Segmenter(Path(args.shared) / SEGMENTER)
    if args.command == "score":
        score(load_detail(args.weights), args.clips, args.size, segmenter, args.frames)
        return
    material = load_material(Path(args.shared) / "train", args.held_out, args.people, SIZE)
    write_clips(args.out, material, segmenter, args.package, args.seed, args.start, args.count, args.as_seen)


if __name__ == "__main__":
    main()
