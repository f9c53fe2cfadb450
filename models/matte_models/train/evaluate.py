"""Scores of a model package on clips with true alpha, and contact sheets of clips without.

    python -m matte_models.train.evaluate packages/lite CLIP… [--guided] [--warm-up N] [--size 512x288] [--sheet out.png]

A clip is a folder with `video.mp4`, a first mask `mask_0000*.png` and, for scores, `alpha.mkv`. The exported graphs are
driven in ONNX Runtime exactly as the engine drives them. Scores: MAD, MSE and MAD-T × 1e3, Grad and Conn / 1000,
dtSSD × 1e2, at the video's own size, over all frames.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
from pathlib import Path
from typing import Iterator

import cv2
import numpy as np

from ..export_lite import open_session, sizes
from .data import Segmenter

# --- metrics --------------------------------------------------------------------------------------------------------


def _gradient_kernel(sigma: float, epsilon: float = 1e-2) -> np.ndarray:
    half = math.ceil(sigma * math.sqrt(-2 * math.log(math.sqrt(2 * math.pi) * sigma * epsilon)))
    x = np.arange(-half, half + 1, dtype=np.float64)
    gauss = np.exp(-(x**2) / (2 * sigma**2)) / (sigma * math.sqrt(2 * math.pi))
    kernel = gauss[:, None] * (-x * gauss / sigma**2)[None, :]
    return kernel / np.sqrt((kernel**2).sum())


def gradient_magnitude(alpha: np.ndarray, sigma: float = 1.4) -> np.ndarray:
    kernel = _gradient_kernel(sigma)
    x = cv2.filter2D(alpha, cv2.CV_32F, kernel, borderType=cv2.BORDER_REPLICATE)
    y = cv2.filter2D(alpha, cv2.CV_32F, kernel.T, borderType=cv2.BORDER_REPLICATE)
    return np.sqrt(x * x + y * y)


def grad(a: np.ndarray, b: np.ndarray) -> float:
    return float(((gradient_magnitude(a) - gradient_magnitude(b)) ** 2).sum() / 1000)


def conn(a: np.ndarray, b: np.ndarray, step: float = 0.1, theta: float = 0.15) -> float:
    """Connectivity error of Rhemann et al., CVPR 2009."""
    level = np.full(a.shape, -1.0)
    thresholds = np.arange(0, 1 + step, step)
    for i in range(1, len(thresholds)):
        both = ((a >= thresholds[i]) & (b >= thresholds[i])).astype(np.uint8)
        count, labels, stats, _ = cv2.connectedComponentsWithStats(both, connectivity=4)
        largest = labels == 1 + np.argmax(stats[1:, cv2.CC_STAT_AREA]) if count > 1 else np.zeros(a.shape, bool)
        level[(level == -1) & ~largest] = thresholds[i - 1]
    level[level == -1] = 1

    def phi(x: np.ndarray) -> np.ndarray:
        d = x - level
        return 1 - d * (d >= theta)

    return float(np.abs(phi(a) - phi(b)).sum() / 1000)


def transition_band(alpha: np.ndarray) -> np.ndarray:
    """What is left when {alpha = 1} and {alpha = 0} are each eroded by a 10×10 ellipse. Takes u8."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (10, 10))
    one = cv2.erode((alpha == 255).astype(np.uint8), kernel)
    zero = cv2.erode((alpha == 0).astype(np.uint8), kernel)
    return (one + zero) == 0


class Scores:
    """Gathers the scores of a clip, frame by frame."""

    def __init__(self, with_conn: bool = False):
        self.rows: dict[str, list[float]] = {}
        self.last: tuple[np.ndarray, np.ndarray] | None = None
        self.with_conn = with_conn

    def add(self, got: np.ndarray, truth: np.ndarray) -> None:
        """`got`: float32 in [0, 1]; `truth`: u8."""
        true = truth.astype(np.float32) / 255
        error = np.abs(got - true)
        row = {"MAD": 1e3 * float(error.mean()), "MSE": 1e3 * float((error**2).mean()), "Grad": grad(got, true)}
        if self.with_conn:
            row["Conn"] = conn(got, true)
        moved = 0.0
        if self.last is not None:
            change = (got - self.last[0]) - (true - self.last[1])
            moved = 1e2 * float(np.sqrt((change**2).mean()))
        row["dtSSD"] = moved
        band = transition_band(truth)
        row["MAD-T"] = 1e3 * float(error[band].mean()) if band.any() else 0.0
        self.last = (got, true)
        for name, value in row.items():
            self.rows.setdefault(name, []).append(value)

    def means(self) -> dict[str, float]:
        return {name: float(np.mean(values)) for name, values in self.rows.items()}


# --- the driver -----------------------------------------------------------------------------------------------------


class Driver:
    """The engine's frame loop (NETWORK.md section 9) for packages without object memory and sensory memory."""

    def __init__(self, package: Path, height: int, width: int, warm_up: int | None = None, threads: int = 2):
        manifest = json.loads((package / "manifest.json").read_text())
        self.dims = manifest["dims"]
        self.memory = dict(manifest["memory"])
        if warm_up is not None:
            self.memory["warm_up"] = warm_up
        self.slots = 1 + self.memory["temporary_frames"]
        self.size = sizes(height, width, self.slots)
        self.matte = open_session(str(package / "matte.onnx"), self.size, threads)
        self.value = open_session(str(package / "value.onnx"), self.size, threads)
        self.has_prior = any(i.name == "prior" for i in self.matte.get_inputs())
        self.absent = manifest.get("prior", {}).get("absent", -1.0)
        self.prior_interval = manifest.get("prior", {}).get("interval", 1)
        h, w, hw = self.size["h"], self.size["w"], self.size["hw"]
        self.keys = np.zeros((self.slots * hw, self.dims["key_row"]), np.float32)
        self.values = np.zeros((self.slots * hw, self.dims["value"]), np.float32)
        self.last_alpha = np.zeros((1, 1, h, w), np.float32)
        self.last_value = np.zeros((1, self.dims["value"], h, w), np.float32)
        self._empty()

    def _empty(self) -> None:
        self.keys[:] = 0
        self.keys[:, self.dims["valid"]] = -1e9
        self.values[:] = 0
        self.stored = 0

    def _inputs(self, frame: np.ndarray, prior: np.ndarray | None, gate: float) -> dict[str, np.ndarray]:
        inputs = {"frame": frame[None], "bank_keys": self.keys, "bank_values": self.values,
                  "last_alpha": self.last_alpha, "last_value": self.last_value, "gate": np.array(gate, np.float32)}
        if self.has_prior:
            inputs["prior"] = np.full_like(self.last_alpha, self.absent) if prior is None else prior[None, None]
        return inputs

    def _predict(self, frame: np.ndarray, prior: np.ndarray | None, gate: float):
        return self.matte.run(["alpha", "feature", "key_rows"], self._inputs(frame, prior, gate))

    def _remember(self, feature: np.ndarray, alpha: np.ndarray) -> np.ndarray:
        """Runs `value`; returns its rows."""
        value, rows, self.last_alpha = self.value.run(["value", "value_rows", "alpha_16"],
                                                      {"feature": feature, "alpha": alpha})
        self.last_value = value
        return rows

    def _store(self, slot: int, keys: np.ndarray, values: np.ndarray) -> None:
        hw = self.size["hw"]
        self.keys[slot * hw : (slot + 1) * hw] = keys
        self.values[slot * hw : (slot + 1) * hw] = values

    def seed(self, frame: np.ndarray, mask: np.ndarray, prior: np.ndarray | None = None) -> np.ndarray:
        """First frame (u8, sides multiples of 16) and its mask (0 to 1); returns its alpha."""
        if mask.max() > 1:
            raise ValueError(f"a mask of 0 to 1 is needed, this one goes up to {mask.max()}")
        _, feature, keys = self._predict(frame, prior, 0.0)
        self._store(0, keys, self._remember(feature, np.ascontiguousarray(mask[None, None], np.float32)))
        for _ in range(self.memory["warm_up"] + 1):
            alpha, feature, keys = self._predict(frame, prior, 0.0)
            self._empty()
            self._store(0, keys, self._remember(feature, alpha))
        self.time = 0
        return alpha[0, 0]

    def step(self, frame: np.ndarray, prior: np.ndarray | None = None) -> np.ndarray:
        alpha, feature, keys = self._predict(frame, prior, 1.0)
        rows = self._remember(feature, alpha)
        self.time += 1
        if self.time % self.memory["interval"] == 0:
            self._store(1 + self.stored % (self.slots - 1), keys, rows)
            self.stored += 1
        return alpha[0, 0]


# --- clips ----------------------------------------------------------------------------------------------------------


def read_video(path: Path, gray: bool = False) -> Iterator[np.ndarray]:
    probe = subprocess.run(["ffprobe", "-v", "error", "-select_streams", "v", "-show_entries", "stream=width,height",
                            "-of", "csv=p=0", str(path)], check=True, capture_output=True, text=True).stdout
    width, height = (int(x) for x in probe.strip().split(",")[:2])
    channels = 1 if gray else 3
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-f", "rawvideo", "-pix_fmt", "gray" if gray else "rgb24", "-"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        while len(data := process.stdout.read(width * height * channels)) == width * height * channels:
            yield np.frombuffer(data, np.uint8).reshape((height, width) if gray else (height, width, 3))
        process.terminate()  # quietly, when the reader wants no more


def guided_upsample(alpha: np.ndarray, small: np.ndarray, picture: np.ndarray, radius: int = 3,
                    epsilon: float = 3e-4) -> np.ndarray:
    """Fast guided filter with a colour guide, as the engine has it: coefficients at the small size, applied to the
    full-size picture. Both pictures are `[H, W, 3]`, 0 … 1."""
    size = (2 * radius + 1, 2 * radius + 1)

    def mean(x):
        return cv2.blur(x, size, borderType=cv2.BORDER_REPLICATE)

    r, g, b = (np.ascontiguousarray(small[..., i]) for i in range(3))
    mr, mg, mb, ma = mean(r), mean(g), mean(b), mean(alpha)
    cr, cg, cb = mean(r * alpha) - mr * ma, mean(g * alpha) - mg * ma, mean(b * alpha) - mb * ma
    rr, rg, rb = mean(r * r) - mr * mr, mean(r * g) - mr * mg, mean(r * b) - mr * mb
    gg, gb, bb = mean(g * g) - mg * mg, mean(g * b) - mg * mb, mean(b * b) - mb * mb
    # The covariance matrix of the colours, as L·D·Lᵀ.
    d0 = np.maximum(rr, 0) + epsilon
    l1, l2 = rg / d0, rb / d0
    d1 = np.maximum(gg - l1 * rg, 0) + epsilon
    l3 = (gb - l2 * rg) / d1
    d2 = np.maximum(bb - l2 * rb - l3 * l3 * d1, 0) + epsilon
    cg = cg - l1 * cr
    blue = (cb - l2 * cr - l3 * cg) / d2
    green = cg / d1 - l3 * blue
    red = cr / d0 - l1 * green - l2 * blue
    added = ma - red * mr - green * mg - blue * mb
    full = picture.shape[1::-1]
    red, green, blue, added = (cv2.resize(mean(x), full, interpolation=cv2.INTER_LINEAR) for x in (red, green, blue, added))
    return np.clip(red * picture[..., 0] + green * picture[..., 1] + blue * picture[..., 2] + added, 0, 1)


def working_size(frame: tuple[int, int], recommended: tuple[int, int]) -> tuple[int, int]:
    """The area of `recommended` (width, height) with the frame's aspect, in multiples of 16, never larger than the frame: as the
    engine has it (core/src/stages/preprocess.rs)."""
    area, own = recommended[0] * recommended[1], frame[0] * frame[1]
    if own <= area:
        return tuple(max(16, side // 16 * 16) for side in frame)
    factor = (area / own) ** 0.5
    return tuple(max(16, int(side * factor / 16 + 0.5) * 16) for side in frame)


def run_clip(package: Path, clip: Path, recommended: tuple[int, int], warm_up: int | None, guided: bool,
             segmenter: Segmenter | None, frames: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields (frame, alpha) at the video's own size. The hint is made anew as often as the package says."""
    driver, small, prior = None, (0, 0), None
    mask_path = sorted(clip.glob("mask_0000*.png"))[0]
    for index, frame in enumerate(read_video(clip / "video.mp4")):
        if index >= frames:
            return
        full = frame.shape[1], frame.shape[0]
        if driver is None:
            small = working_size(full, recommended)
            driver = Driver(package, small[1], small[0], warm_up)
        picture = cv2.resize(frame, small, interpolation=cv2.INTER_AREA)
        if segmenter and index % driver.prior_interval == 0:
            prior = segmenter(picture)
        if index == 0:
            mask = cv2.imread(str(mask_path), cv2.IMREAD_GRAYSCALE).astype(np.float32) / 255
            alpha = driver.seed(picture, cv2.resize(mask, small, interpolation=cv2.INTER_AREA), prior)
        else:
            alpha = driver.step(picture, prior)
        if guided:
            yield frame, guided_upsample(alpha, picture.astype(np.float32) / 255, frame.astype(np.float32) / 255)
        else:
            yield frame, cv2.resize(alpha, full, interpolation=cv2.INTER_LINEAR)


def contact_row(frame: np.ndarray, alpha: np.ndarray, width: int = 420) -> np.ndarray:
    """Frame, alpha, composite over green, side by side."""
    backdrop = np.array([0, 177, 64], np.float32)
    composite = frame * alpha[..., None] + backdrop * (1 - alpha[..., None])
    parts = [frame, np.repeat(255 * alpha[..., None], 3, 2), composite]
    size = (width, round(width * frame.shape[0] / frame.shape[1]))
    return np.hstack([cv2.resize(np.rint(p).astype(np.uint8), size, interpolation=cv2.INTER_AREA) for p in parts])


def main() -> None:
    parser = argparse.ArgumentParser(description="Score a matting package on clips.")
    parser.add_argument("package", type=Path)
    parser.add_argument("clips", type=Path, nargs="+")
    parser.add_argument("--size", default=None, help="working size, WxH, for frames of that aspect (default: the manifest's)")
    parser.add_argument("--warm-up", type=int, default=None)
    parser.add_argument("--guided", action="store_true", help="guided filter instead of bilinear upsampling")
    parser.add_argument("--prior", type=Path, help="person segmentation (ONNX) to feed as `prior`")
    parser.add_argument("--conn", action="store_true", help="also Conn (slow)")
    parser.add_argument("--frames", type=int, default=10**9, help="only the first so many frames")
    parser.add_argument("--sheet", type=Path, help="PNG of frame, alpha and composite at six moments of each clip")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    default = json.loads((args.package / "manifest.json").read_text())["working_size"]["default"]
    recommended = tuple(int(x) for x in args.size.split("x")) if args.size else tuple(default)
    segmenter = Segmenter(args.prior) if args.prior else None
    table, sheet = {}, []
    for clip in args.clips:
        truth_path = clip / "alpha.mkv"
        truth = read_video(truth_path, gray=True) if truth_path.exists() else None
        scores, pairs = Scores(args.conn), []
        for frame, alpha in run_clip(args.package, clip, recommended, args.warm_up, args.guided, segmenter, args.frames):
            if truth is not None:
                scores.add(alpha, next(truth))
            if args.sheet:
                pairs.append(contact_row(frame, alpha))
        if truth is not None:
            table[clip.name] = scores.means()
            print(f"{clip.name:34}" + "  ".join(f"{k} {v:7.2f}" for k, v in table[clip.name].items()), flush=True)
        if args.sheet:
            picks = np.linspace(0, len(pairs) - 1, 6).round().astype(int)
            rows = [pairs[i] for i in picks]
            sheet.append(np.vstack([np.hstack(rows[i : i + 2]) for i in (0, 2, 4)]))
    if len(table) > 1:
        mean = {k: float(np.mean([row[k] for row in table.values()])) for k in next(iter(table.values()))}
        table["mean"] = mean
        print(f"{'mean':34}" + "  ".join(f"{k} {v:7.2f}" for k, v in mean.items()))
    if args.sheet:
        width = max(s.shape[1] for s in sheet)
        sheet = [np.pad(s, ((0, 6), (0, width - s.shape[1]), (0, 0))) for s in sheet]
        cv2.imwrite(str(args.sheet), cv2.cvtColor(np.vstack(sheet), cv2.COLOR_RGB2BGR))
    if args.json:
        args.json.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
