"""Synthetic matting clips: composites with exact alpha, written once to disk and read as random crops.

A clip is a stack of moving layers (people, animals, objects, drawn figures) over a moving background. Some layers are
the target, the others are there to be told apart from it. Everything is drawn from one seed: clip `i` of a split is the
same on every machine with the same material and the same OpenCV.

A data folder holds, for `n` clips of `FRAMES` frames:

    size                                          width and height of a frame; 448 and 256 where there is no such file
    frames.u8   n × FRAMES × height × width × 4   RGB and alpha
    prior.u8    n × FRAMES × height/16 × width/16 person segmentation, 16×16 means × 255
    done        how many clips are complete (a number); a reader may start while a writer still appends

or, with `--layers`, what the pictures are put together from, so that targets and scenes can be paired anew (`samples.py`):

    scene.u8    n × FRAMES × height × width × 3   RGB of what is behind the target
    target.u8   n × FRAMES × height × width × 4   the target, premultiplied RGBA
    front.u8    n × FRAMES × height × width × 4   what is before the target, premultiplied RGBA
    kinds.u8    n                                 1 where there is something before the target
    size, done  as above
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

FRAMES = 24
STRIDE = 16
# The person segmentation of the hint `prior`, below the folder of the material.
SEGMENTER = "models/selfie_segmentation_landscape.onnx"
# The files of layers, and their planes.
LAYERS = {"scene.u8": 3, "target.u8": 4, "front.u8": 4}

# Never seen in training: the measure for unseen subjects and places.
HELD_OUT = {"person_05", "person_08", "animal_03", "gfm_05", "bg_05", "bg_26"}
# Not used at all: a halo is baked into the alpha.
BROKEN = {"layer_01"}


class Size(NamedTuple):
    """Of a clip's frames, in pixels: multiples of 16."""

    width: int
    height: int

    @classmethod
    def parse(cls, text: str) -> Size:
        """Of `640x368`."""
        try:
            size = cls(*map(int, text.split("x")))
        except (TypeError, ValueError):
            raise ValueError(f"size {text!r}: it must be like 640x368") from None
        if min(size) < 64 or size.width % STRIDE or size.height % STRIDE:
            raise ValueError(f"size {text!r}: both sides must be multiples of {STRIDE}, 64 at least")
        return size

    @property
    def unit(self) -> float:
        """How much longer a way across the frame is than at the usual size."""
        return self.height / USUAL.height

    @property
    def tokens(self) -> int:
        return self.width * self.height // STRIDE**2


USUAL = Size(448, 256)


@cache
def _grid(size: Size) -> tuple[np.ndarray, np.ndarray]:
    """Of every pixel its column and its row."""
    return tuple(np.meshgrid(np.arange(size.width, dtype=np.float32), np.arange(size.height, dtype=np.float32)))


# --- material -------------------------------------------------------------------------------------------------------


@dataclass
class Cutout:
    """A picture with alpha, premultiplied, as a pyramid of halvings so that shrinking does not alias."""

    name: str
    levels: list[np.ndarray]
    bottom_open: bool  # the subject continues below the picture

    @property
    def size(self) -> tuple[int, int]:
        return self.levels[0].shape[1], self.levels[0].shape[0]


@dataclass
class Material:
    people: list[Cutout] = field(default_factory=list)
    others: list[Cutout] = field(default_factory=list)
    dancer: list[list[Cutout]] = field(default_factory=list)  # runs of frames in their order
    rendered: list[Path] = field(default_factory=list)        # clips of synthetic people, from train/people.py
    backgrounds: list[np.ndarray] = field(default_factory=list)


def premultiply(rgba: np.ndarray) -> np.ndarray:
    alpha = rgba[..., 3:].astype(np.float32) / 255
    out = rgba.copy()
    out[..., :3] = np.rint(rgba[..., :3] * alpha)
    return out


def make_cutout(name: str, rgba: np.ndarray) -> Cutout:
    image = premultiply(rgba)
    levels = [image]
    while min(levels[-1].shape[:2]) > 120:
        last = levels[-1]
        levels.append(cv2.resize(last, (last.shape[1] // 2, last.shape[0] // 2), interpolation=cv2.INTER_AREA))
    return Cutout(name, levels, bool((rgba[-3:, :, 3] > 128).mean() > 0.15))


def _read_rgba(path: Path) -> np.ndarray:
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None or image.ndim != 3 or image.shape[2] != 4:
        raise ValueError(f"{path}: not a picture with alpha")
    return cv2.cvtColor(image, cv2.COLOR_BGRA2RGBA)


def load_material(root: Path, held_out: bool, rendered: Path | None = None, size: Size = USUAL) -> Material:
    """Reads `cutouts/`, `dancer/` and `backgrounds/` below `root`; either the training part or the held-out one.

    Of the synthetic people in the folder `rendered` every twentieth is held out. Backgrounds are as wide as frames of `size`
    ask for.
    """
    material = Material()
    if rendered is not None:
        clips = [p for p in sorted(rendered.glob("*.npz")) if (int(p.stem) % 20 == 0) == held_out]
        material.rendered = [p for p in clips if not _is_cut_at_a_side(p)]
        if not material.rendered:
            raise ValueError(f"{rendered}: no clips of people for {'validation' if held_out else 'training'}, which "
                             "`python -m matte_models.train.people` makes")

    def wanted(path: Path) -> bool:
        return path.stem not in BROKEN and (path.stem in HELD_OUT) == held_out

    for path in sorted((root / "cutouts").glob("*.png")):
        if wanted(path):
            cutout = make_cutout(path.stem, _read_rgba(path))
            (material.people if _is_person(path.stem) else material.others).append(cutout)
    for path in sorted((root / "backgrounds").glob("*.jpg")):
        if wanted(path):
            image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
            factor = 800 * size.width / USUAL.width / image.shape[1]
            material.backgrounds.append(cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA))
    if not held_out:
        material.dancer = _load_runs(sorted((root / "dancer").glob("*.png")))
    return material


def _is_cut_at_a_side(clip: Path) -> bool:
    """Whether a synthetic person goes on beyond the left or the right of the pictures: before a scene the cut would show."""
    with np.load(clip) as file:
        return bool(file["left_open"]) or bool(file["right_open"])


def _is_person(stem: str) -> bool:
    return stem.startswith("person") or stem in {"layer_03", "layer_04"}


def _load_runs(paths: list[Path]) -> list[list[Cutout]]:
    """Cuts the numbered frames into runs of near-constant step, all cropped to the run's common box."""
    runs: list[list[Path]] = []
    for path in paths:
        number = int(path.stem)
        if not runs or number - int(runs[-1][-1].stem) > 5 or len(runs[-1]) >= 40:
            runs.append([])
        runs[-1].append(path)
    out = []
    for run in (r for r in runs if len(r) >= 4):
        frames = [_read_rgba(p) for p in run]
        seen = np.max([f[..., 3] for f in frames], axis=0) > 8
        ys, xs = np.nonzero(seen.any(1))[0], np.nonzero(seen.any(0))[0]
        box = np.s_[ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1]
        out.append([make_cutout(p.stem, np.ascontiguousarray(f[box])) for p, f in zip(run, frames)])
    return out


# --- motion ---------------------------------------------------------------------------------------------------------


class Path1D:
    """A smooth random function of time: a drift and two slow waves."""

    def __init__(self, rng: np.random.Generator, drift: float, wave: float):
        self.drift = rng.normal(0, drift)
        self.amplitude = rng.normal(0, wave, 2)
        self.frequency = rng.uniform(0.05, 0.9, 2)
        self.phase = rng.uniform(0, 2 * np.pi, 2)

    def __call__(self, t: float) -> float:
        waves = self.amplitude * (np.sin(self.frequency * t + self.phase) - np.sin(self.phase))
        return float(self.drift * t + waves.sum())


class Wobble:
    """A smooth displacement field that changes over time, on a coarse grid."""

    def __init__(self, rng: np.random.Generator, amplitude: float, size: Size):
        shape = (5, 7, 2)
        self.size = size
        self.amplitude = rng.normal(0, amplitude, shape)
        self.frequency = rng.uniform(0.1, 0.8, shape)
        self.phase = rng.uniform(0, 2 * np.pi, shape)

    def __call__(self, t: float) -> np.ndarray:
        coarse = (self.amplitude * np.sin(self.frequency * t + self.phase)).astype(np.float32)
        return cv2.resize(coarse, self.size, interpolation=cv2.INTER_CUBIC)


# --- sources of layers: a premultiplied RGBA picture at a time ---------------------------------------------------------


class Still:
    def __init__(self, cutout: Cutout):
        self.cutout = cutout
        self.size = cutout.size
        self.bottom_open = cutout.bottom_open

    def at(self, t: float, shrink: float) -> np.ndarray:
        return _level(self.cutout, shrink)


class Run:
    """Real motion: frames of a video in order; between two frames the first is warped along the optical flow."""

    def __init__(self, rng: np.random.Generator, frames: list[Cutout]):
        self.rate = float(rng.choice([0.2, 0.34, 0.6, 1.0]))
        span = int(np.ceil(self.rate * (FRAMES + 2))) + 2
        start = int(rng.integers(0, max(1, len(frames) - span)))
        self.frames = frames[start : start + span]
        if rng.random() < 0.5:
            self.frames = self.frames[::-1]
        self.size = frames[0].size
        self.bottom_open = frames[start].bottom_open
        self.flows: dict[int, np.ndarray] = {}

    def _flow(self, i: int) -> np.ndarray:
        if i not in self.flows:
            a, b = (cv2.cvtColor(f.levels[0], cv2.COLOR_RGBA2GRAY) for f in (self.frames[i], self.frames[i + 1]))
            solver = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
            self.flows[i] = solver.calc(a, b, None)
        return self.flows[i]

    def at(self, t: float, shrink: float) -> np.ndarray:
        # To the end and back again.
        last = len(self.frames) - 1.001
        position = last - abs(last - max(0.0, (t + 1) * self.rate) % (2 * last))
        i = int(position)
        fraction = position - i
        image = self.frames[i].levels[0]
        if fraction < 0.02:
            return image
        flow = self._flow(i)
        h, w = flow.shape[:2]
        x, y = np.meshgrid(np.arange(w, dtype=np.float32), np.arange(h, dtype=np.float32))
        flow = flow * np.float32(fraction)
        return cv2.remap(image, x - flow[..., 0], y - flow[..., 1], cv2.INTER_LINEAR)


class Rendered:
    """A synthetic person in motion: frames that were rendered with exact alpha, to the end and back again."""

    def __init__(self, rng: np.random.Generator, path: Path):
        with np.load(path) as clip:
            self.frames = clip["frames"]
            self.bottom_open = bool(clip["bottom_open"])
        self.rate = float(rng.choice([0.5, 1.0, 2.0], p=[0.25, 0.6, 0.15]))
        self.start = int(rng.integers(len(self.frames)))
        self.size = self.frames.shape[2], self.frames.shape[1]

    def at(self, t: float, shrink: float) -> np.ndarray:
        last = len(self.frames) - 1
        index = (self.start + (t + 1) * self.rate) % (2 * last)
        image = self.frames[round(last - abs(last - index))]
        if shrink > 1.5:
            size = (round(image.shape[1] / shrink), round(image.shape[0] / shrink))
            return cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        return image


class Figure:
    """A drawn figure: torso, head, arms and hair strands, each swinging; exact alpha by drawing at twice the size."""

    SIZE = 420

    def __init__(self, rng: np.random.Generator, texture: np.ndarray):
        self.size = (self.SIZE, self.SIZE)
        self.bottom_open = True
        s = self.SIZE
        self.colours = rng.integers(10, 245, (6, 3))
        self.torso = s * rng.uniform(0.15, 0.28)
        self.shoulder = s * rng.uniform(0.45, 0.55)
        self.head = s * np.array([rng.uniform(0.09, 0.14), rng.uniform(0.11, 0.17)])
        self.arm = s * rng.uniform(0.04, 0.075)
        self.reach = s * rng.uniform(0.2, 0.32, 2)
        self.angles = [Path1D(rng, 0.05, 0.5) for _ in range(5)]
        self.rest = np.array([rng.uniform(-0.6, 2.6), rng.uniform(-0.6, 2.6), rng.uniform(-2, 2), rng.uniform(-2, 2)])
        strands = int(rng.integers(0, 90)) if rng.random() < 0.7 else 0
        self.strands = rng.uniform(0, 1, (strands, 5))
        self.strand_length = s * rng.uniform(0.06, 0.3)
        self.strand_width = int(rng.integers(1, 4))
        self.cap = rng.random() < 0.7
        patch = cv2.resize(texture, (s, s), interpolation=cv2.INTER_AREA).astype(np.float32)
        patch = (patch - patch.mean((0, 1))) * rng.uniform(0, 1.0)
        self.patch = patch + rng.normal(0, 6, (s // 3, s // 3, 1)).repeat(3, 0).repeat(3, 1)
        light = np.linspace(-1, 1, s, dtype=np.float32)
        self.patch += 25 * rng.normal() * light[None, :, None] + 25 * rng.normal() * light[:, None, None]

    def at(self, t: float, shrink: float) -> np.ndarray:
        s = self.SIZE
        ids = np.zeros((s, s), np.uint8)
        alpha = np.zeros((s, s), np.uint8)
        swing = [a(t) for a in self.angles]
        neck = np.array([s / 2 + 12 * np.sin(swing[4]), self.shoulder])

        def pt(p) -> tuple[int, int]:
            return int(p[0] * 16), int(p[1] * 16)

        def part(draw, colour: int) -> None:
            mask = np.zeros((s, s), np.uint8)
            draw(mask)
            # A soft edge has the colour of its part, too, but not over what is more solid.
            ids[(mask > 0) & (mask >= np.minimum(alpha, 97))] = colour
            np.maximum(alpha, mask, out=alpha)

        def line(a, b, width):
            return lambda m: cv2.line(m, pt(a), pt(b), 255, max(1, int(width)), cv2.LINE_AA, 4)

        body = np.array([[neck[0] - self.torso, neck[1] + 24], [neck[0] - self.torso * 0.5, neck[1]],
                         [neck[0] + self.torso * 0.5, neck[1]], [neck[0] + self.torso, neck[1] + 24],
                         [s / 2 + self.torso * 1.05, s + 8], [s / 2 - self.torso * 1.05, s + 8]])
        centre = neck + [8 * np.sin(swing[4]), -self.head[1] * 1.05]
        behind = self.strands[: len(self.strands) // 2]
        front = self.strands[len(self.strands) // 2 :]
        for group in (behind,):
            self._hair(part, group, centre, swing, pt)
        part(line(neck + [0, 12], centre, self.head[0] * 0.9), 1)
        part(lambda m: cv2.fillPoly(m, [(body * 16).astype(np.int32)], 255, cv2.LINE_AA, 4), 2)
        part(lambda m: cv2.ellipse(m, pt(centre), pt(self.head), 0, 0, 360, 255, -1, cv2.LINE_AA, 4), 1)
        if self.cap:
            top = centre - [0, self.head[1] * 0.35]
            axes = self.head * [1.08, 0.8]
            part(lambda m: cv2.ellipse(m, pt(top), pt(axes), 0, 180, 360, 255, -1, cv2.LINE_AA, 4), 4)
        self._hair(part, front, centre, swing, pt)
        for side, sign in ((0, -1), (1, 1)):
            start = neck + [sign * self.torso * 0.85, 26]
            a = self.rest[side] + swing[side]
            elbow = start + self.reach[0] * np.array([sign * np.sin(a), np.cos(a)])
            b = a + self.rest[2 + side] + swing[2 + side]
            hand = elbow + self.reach[1] * np.array([sign * np.sin(b), np.cos(b)])
            part(line(start, elbow, self.arm * 2), 2)
            part(line(elbow, hand, self.arm * 1.5), 3)
            for k in range(4):
                c = b + (k - 1.5) * 0.3
                tip = hand + self.arm * 1.9 * np.array([sign * np.sin(c), np.cos(c)])
                part(line(hand, tip, self.arm * 0.42), 1)
        colour = np.clip(self.colours[ids].astype(np.float32) + self.patch, 0, 255)
        out = np.empty((s, s, 4), np.uint8)
        out[..., :3] = colour * (alpha[..., None] / np.float32(255))
        out[..., 3] = alpha
        return out

    def _hair(self, part, strands, centre, swing, pt) -> None:
        if not len(strands):
            return
        angle = strands[:, 0] * np.pi * 1.3 - np.pi * 1.15
        root = centre + np.stack([np.cos(angle), np.sin(angle)], 1) * self.head * 0.9
        out = np.stack([np.cos(angle), np.sin(angle)], 1)
        length = self.strand_length * (0.3 + strands[:, 1:2])
        sway = 0.5 * np.sin(swing[4] + strands[:, 2:3] * 3) * np.array([1.0, 0.1])
        middle = root + length * (out * 0.6 + [0, 0.15] + sway * 0.4)
        tip = middle + length * (out * 0.3 * strands[:, 3:4] + [0, 0.6] + sway + (strands[:, 4:5] - 0.5) * [0.6, 0.2])
        lines = [(np.stack(p) * 16).astype(np.int32) for p in zip(root, middle, tip)]
        part(lambda m: cv2.polylines(m, lines, False, 255, self.strand_width, cv2.LINE_AA, 4), 4)


def _level(cutout: Cutout, shrink: float) -> np.ndarray:
    level = int(np.clip(np.floor(np.log2(max(shrink, 1.0)) + 0.3), 0, len(cutout.levels) - 1))
    return cutout.levels[level]


# --- layers ---------------------------------------------------------------------------------------------------------


class Layer:
    """A source placed in the frame, moving and wobbling, with its own light."""

    def __init__(self, rng: np.random.Generator, source, height: float, centre_x: float, bottom: float, motion: float,
                 tint: np.ndarray, lift: np.ndarray, target: bool, size: Size):
        self.source, self.target, self.size = source, target, size
        unit = size.unit
        self.scale = height / source.size[1]
        self.flip = -1.0 if rng.random() < 0.5 else 1.0
        self.anchor = np.array([centre_x, bottom - height / 2])
        self.x, self.y = (Path1D(rng, a * unit * motion, b * unit * motion) for a, b in ((1.2, 5), (0.6, 2.5)))
        self.turn, self.zoom = Path1D(rng, 0.004 * motion, 0.03 * motion), Path1D(rng, 0.003 * motion, 0.02 * motion)
        self.wobble = Wobble(rng, 2.2 * motion * min(unit, height / 200), size)
        self.tint, self.lift = tint, lift

    def render(self, t: float) -> np.ndarray:
        scale = self.scale * float(np.exp(self.zoom(t)))
        image = self.source.at(t, 1 / scale)
        to_level = image.shape[1] / self.source.size[0]
        angle = self.turn(t)
        centre = self.anchor + [self.x(t), self.y(t)]
        c, s = np.cos(angle) / scale * to_level, np.sin(angle) / scale * to_level
        field_ = self.wobble(t)
        if self.source.bottom_open:
            # What goes on below the picture that it comes from does so below the frame: no straight cut is seen.
            width, height = np.array(self.source.size) * scale
            lowest = height / 2 * np.cos(angle) - width / 2 * abs(np.sin(angle)) - np.abs(field_).max()
            centre[1] = max(centre[1], self.size.height + 1 - lowest)
        columns, rows = _grid(self.size)
        dx = columns - np.float32(centre[0]) + field_[..., 0]
        dy = rows - np.float32(centre[1]) + field_[..., 1]
        map_x = np.float32(self.flip) * (np.float32(c) * dx + np.float32(s) * dy) + np.float32(image.shape[1] / 2)
        map_y = np.float32(c) * dy - np.float32(s) * dx + np.float32(image.shape[0] / 2)
        return cv2.remap(image, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)

    def lit(self, t: float) -> tuple[np.ndarray, np.ndarray]:
        """Premultiplied colour, 0 to 255, and coverage, 0 to 1, in its own light; float32."""
        rgba = self.render(t).astype(np.float32)
        cover = rgba[..., 3:] * np.float32(1 / 255)
        colour = rgba[..., :3] * self.tint.astype(np.float32) + cover * self.lift.astype(np.float32)
        return np.clip(colour, 0, 255 * cover), cover


class Clip:
    """One clip, frame by frame."""

    def __init__(self, rng: np.random.Generator, material: Material, hard: float = 0.0, size: Size = USUAL):
        self.rng, self.size = rng, size
        # A generator of its own: clips that are not hard are the same whatever the share.
        extra = rng.spawn(1)[0]
        self.hard = extra if extra.random() < hard else None
        background = material.backgrounds[rng.integers(len(material.backgrounds))]
        if rng.random() < 0.5:
            background = background[:, ::-1]
        if rng.random() < 0.2:
            background = cv2.GaussianBlur(background, (0, 0), rng.uniform(1, 6) * size.width / USUAL.width)
        self.background = np.ascontiguousarray(background)
        if rng.random() < 0.35:
            self._furnish(material)
        h, w = background.shape[:2]
        fit = max(size.width / w, size.height / h)
        self.bg_scale = rng.uniform(1.12, 2.0) * fit
        still = rng.random() < 0.35
        camera = 0.0 if still else rng.uniform(0.3, 1.6)
        sway = camera * size.unit
        margin = (np.array([w, h]) - np.array(size) / self.bg_scale) / 2 * 0.7
        self.bg_centre = np.array([w / 2, h / 2]) + rng.uniform(-1, 1, 2) * margin
        self.bg_x, self.bg_y = Path1D(rng, 0.8 * sway, 1.5 * sway), Path1D(rng, 0.4 * sway, 1.0 * sway)
        self.bg_turn = Path1D(rng, 0.001 * camera, 0.006 * camera)
        self.bg_tint = np.exp(rng.normal(0, 0.12, 3)) * np.exp(rng.normal(0, 0.2))
        self.layers: list[Layer] = []
        self._cast(material)
        if self.hard is not None:
            self._crowd(material)
            self._camouflage()
        self.samples = 3 if rng.random() < 0.3 else 1
        self.camera = Camera(rng)

    def _furnish(self, material: Material) -> None:
        """Parts of other places before the background: there are few photographs, and this makes many places of them."""
        rng = self.rng
        self.background = self.background.copy()
        h, w = self.background.shape[:2]
        for _ in range(int(rng.integers(1, 5))):
            other = material.backgrounds[rng.integers(len(material.backgrounds))]
            width, height = (int(rng.uniform(0.08, 0.5) * side) for side in (w, h))
            x, y = int(rng.integers(0, w - width)), int(rng.integers(0, h - height))
            u = int(rng.integers(0, max(1, other.shape[1] - width)))
            v = int(rng.integers(0, max(1, other.shape[0] - height)))
            part = other[v : v + height, u : u + width].astype(np.float32) * np.exp(rng.normal(0, 0.25, 3))
            shape = np.zeros(part.shape[:2], np.float32)
            kind = rng.random()
            if kind < 0.5:
                shape[:] = 1
            elif kind < 0.8:
                centre, axes = (part.shape[1] // 2, part.shape[0] // 2), (part.shape[1] // 2, part.shape[0] // 2)
                cv2.ellipse(shape, centre, axes, 0, 0, 360, 1, -1, cv2.LINE_AA)
            else:
                corners = rng.uniform(0, 1, (int(rng.integers(3, 7)), 2)) * part.shape[1::-1]
                cv2.fillPoly(shape, [cv2.convexHull(corners.astype(np.int32))], 1, cv2.LINE_AA)
            if rng.random() < 0.5:
                shape = cv2.GaussianBlur(shape, (0, 0), rng.uniform(0.5, 4))
            place = self.background[y : y + part.shape[0], x : x + part.shape[1]]
            part, shape = part[: place.shape[0], : place.shape[1]], shape[: place.shape[0], : place.shape[1], None]
            place[:] = np.clip(part * shape + place * (1 - shape), 0, 255)

    # Who is in the picture, in the order of depth.
    def _cast(self, material: Material) -> None:
        rng = self.rng
        weights = {
            "person": 0.3 if material.rendered else 0.46,
            "rendered": 0.36 if material.rendered else 0.0,
            "run": 0.14 if material.dancer else 0.0,
            "figure": 0.08,
            "other": 0.12,
        }
        kinds, total = list(weights), sum(weights.values())
        people = [k for k in kinds if k != "other"]
        human = sum(weights[k] for k in people)

        def somebody() -> str:
            return str(rng.choice(people, p=[weights[k] / human for k in people]))

        kind = rng.choice(kinds, p=[w / total for w in weights.values()])
        first = self._place(kind, material, True, None)
        layers = [first]
        if rng.random() < 0.1:
            layers.append(self._place(somebody(), material, True, None))
        if rng.random() < 0.4:
            distractor = self._place(somebody(), material, False, None)
            layers.insert(0 if rng.random() < 0.6 else len(layers), distractor)
            if rng.random() < 0.25:
                layers.insert(0, self._place(somebody(), material, False, rng.uniform(0.3, 0.7) * self.size.height))
        if rng.random() < 0.12:
            occluder = self._place("other", material, False, rng.uniform(0.15, 0.5) * self.size.height)
            layers.append(occluder)
        self.layers = layers

    def _place(self, kind: str, material: Material, target: bool, height: float | None) -> Layer:
        rng = self.rng
        if kind == "run":
            source = Run(rng, material.dancer[rng.integers(len(material.dancer))])
        elif kind == "rendered":
            source = Rendered(rng, material.rendered[rng.integers(len(material.rendered))])
        elif kind == "figure":
            source = Figure(rng, material.backgrounds[rng.integers(len(material.backgrounds))])
        else:
            pool = material.people if kind == "person" else material.others
            source = Still(pool[rng.integers(len(pool))])
        framing, tall = rng.random(), self.size.height
        if height is not None:
            bottom = rng.uniform(0.6, 1.2) * tall
        elif source.bottom_open and framing < 0.85:
            height = rng.uniform(0.55, 1.5) * tall
            bottom = tall * rng.uniform(1.02, 1.1) + max(0.0, height - tall) * rng.uniform(0.5, 1.0)
        elif framing < 0.6:
            height = rng.uniform(0.5, 1.0) * tall
            bottom = rng.uniform(0.85, 1.05) * tall
        else:
            height = rng.uniform(1.0, 2.0) * tall
            bottom = tall + (height - tall) * rng.uniform(0.1, 1.0)
        reach = 0.5 if rng.random() < 0.15 else 0.32
        centre_x = self.size.width * (0.5 + rng.uniform(-reach, reach))
        tint = np.exp(rng.normal(0, 0.12, 3)) * np.exp(rng.normal(0, 0.22))
        lift = np.full(3, rng.normal(0, 6))
        if target and rng.random() < 0.12:
            # As near in colour to the background as a tint can bring it.
            picture = source.at(0, 4.0)
            mean = picture[..., :3].sum((0, 1)) / max(1.0, picture[..., 3].sum() / 255)
            near = self.background.mean((0, 1)) * self.bg_tint
            tint = np.clip(near / np.maximum(mean, 20), 0.4, 2.0)
        motion = float(rng.choice([0.25, 0.7, 1.5, 3.0], p=[0.3, 0.35, 0.25, 0.1]))
        return Layer(rng, source, height, centre_x, bottom, motion, tint, lift, target, self.size)

    def _crowd(self, material: Material) -> None:
        """Somebody else close to the target, most of the time: the two touch, and one passes before the other."""
        rng = self.hard
        target = next(layer for layer in self.layers if layer.target)
        if rng.random() < 0.35:
            return
        height = target.scale * target.source.size[1]
        kind = "rendered" if material.rendered and rng.random() < 0.7 else "person"
        self.rng, own = rng, self.rng
        other = self._place(kind, material, False, height * rng.uniform(0.7, 1.1))
        self.rng = own
        other.anchor = target.anchor + [rng.choice([-1, 1]) * height * rng.uniform(0.15, 0.5), height * rng.normal(0, 0.06)]
        self.layers.insert(0 if rng.random() < 0.7 else len(self.layers), other)

    def _camouflage(self) -> None:
        """Tints the background so that, around a spot of the target's edge, it has the colour of that spot."""
        rng = self.hard
        target = next(layer for layer in self.layers if layer.target)
        rgba = target.render(0)
        solid = (rgba[..., 3] > 250).astype(np.uint8)
        rim = solid - cv2.erode(solid, np.ones((9, 9), np.uint8))
        ys, xs = np.nonzero(rim)
        if not len(ys):
            return
        spot = int(rng.integers(len(ys)))
        y, x = int(ys[spot]), int(xs[spot])

        def around(reach: int) -> tuple[slice, slice]:
            return np.s_[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1]

        near = around(3)
        colour = rgba[near][solid[near] > 0][:, :3].mean(0) * target.tint + target.lift
        ground = self._background(0)[around(40)].mean((0, 1))
        factor = np.clip(colour / np.maximum(ground, 8), 0.3, 3.0) * np.exp(rng.normal(0, 0.06, 3))
        self.bg_tint = self.bg_tint * factor

    def _background(self, t: float) -> np.ndarray:
        s, angle = 1 / self.bg_scale, self.bg_turn(t)
        c, n = np.cos(angle) * s, np.sin(angle) * s
        centre = self.bg_centre + [self.bg_x(t) * s, self.bg_y(t) * s]
        matrix = np.array([[c, -n, centre[0] - c * self.size.width / 2 + n * self.size.height / 2],
                           [n, c, centre[1] - n * self.size.width / 2 - c * self.size.height / 2]])
        image = cv2.warpAffine(self.background, matrix, self.size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                               borderMode=cv2.BORDER_REFLECT)
        return np.clip(image * self.bg_tint.astype(np.float32), 0, 255)

    def _moment(self, t: float) -> tuple[np.ndarray, np.ndarray]:
        picture = self._background(t)
        alpha = np.zeros((*self.size[::-1], 1), np.float32)
        for layer in self.layers:
            colour, cover = layer.lit(t)
            rest = 1 - cover
            picture = colour + rest * picture
            alpha = alpha * rest + (cover if layer.target else 0)
        return picture, alpha[..., 0]

    def _times(self, index: int) -> list[float]:
        return [index] if self.samples == 1 else [index - 0.25, index, index + 0.25]

    def frame(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """RGB and alpha of a frame, u8."""
        parts = [self._moment(t) for t in self._times(index)]
        picture = sum(p for p, _ in parts) / len(parts)
        alpha = sum(a for _, a in parts) / len(parts)
        return self.camera(picture, index, self.rng), np.rint(alpha * 255).astype(np.uint8)

    def parts(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A frame before the camera, u8: RGB of what is behind the target, and premultiplied RGBA of the target and of what
        is before it. Between several targets there is nothing else (`_cast`, `_crowd`)."""
        height, width = self.size[::-1]
        sums = [np.zeros((height, width, n), np.float32) for n in (3, 4, 4)]
        times = self._times(index)
        for t in times:
            stacks = [np.dstack([self._background(t), np.ones((height, width, 1), np.float32)])]
            stacks += [np.zeros((height, width, 4), np.float32) for _ in range(2)]
            place = 0
            for layer in self.layers:
                place = 1 if layer.target else 2 if place else 0
                colour, cover = layer.lit(t)
                stacks[place] = np.dstack([colour, cover]) + (1 - cover) * stacks[place]
            for total, stack in zip(sums, stacks):
                total += stack[..., : total.shape[2]]
        for total in sums:
            total /= len(times)
            total[..., 3:] *= 255
        return tuple(np.rint(total).astype(np.uint8) for total in sums)


class Camera:
    """What a camera and a codec add to a picture."""

    def __init__(self, rng: np.random.Generator):
        self.noise = rng.uniform(0, 5) if rng.random() < 0.7 else 0.0
        self.blur = rng.uniform(0.3, 1.1) if rng.random() < 0.3 else 0.0
        self.jpeg = int(rng.integers(35, 92)) if rng.random() < 0.3 else 0
        self.soft = rng.uniform(0.4, 0.75) if rng.random() < 0.12 else 0.0
        self.gain = Path1D(rng, 0.004, 0.03)
        self.contrast = np.exp(rng.normal(0, 0.15))
        self.level = rng.normal(0, 10)
        self.grey = rng.random() < 0.03

    def __call__(self, picture: np.ndarray, index: int, rng: np.random.Generator) -> np.ndarray:
        """`picture` is RGB in float32, 0 to 255; gives u8."""
        if self.blur:
            picture = cv2.GaussianBlur(picture, (0, 0), self.blur)
        if self.soft:
            small = cv2.resize(picture, None, fx=self.soft, fy=self.soft, interpolation=cv2.INTER_AREA)
            picture = cv2.resize(small, picture.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        picture = self.exposed(picture, index)
        if self.noise:
            picture = picture + float(self.noise) * rng.standard_normal(picture.shape, np.float32)
        rgb = np.clip(picture, 0, 255).astype(np.uint8)
        if self.jpeg:
            _, data = cv2.imencode(".jpg", rgb, [cv2.IMWRITE_JPEG_QUALITY, self.jpeg])
            rgb = cv2.imdecode(data, cv2.IMREAD_COLOR)
        return rgb

    def exposed(self, picture: np.ndarray, index: int) -> np.ndarray:
        """Its exposure of frame `index` alone."""
        # With NumPy's own scalars all of it would be float64.
        picture = ((picture - 128) * float(self.contrast) + float(128 + self.level)) * float(np.exp(self.gain(index)))
        return np.repeat(picture.mean(2, keepdims=True), 3, 2) if self.grey else picture


def _drawn(seed: int, index: int, material: Material, hard: float, size: Size, draw: Callable[[Clip, int], tuple],
           alpha: Callable[[tuple], np.ndarray]) -> list[tuple]:
    """The frames of clip `index` of the stream `seed`, as `draw` makes them. Drawn again where the target is not seen.

    A share `hard` of the clips has ground of the target's colour behind a part of it, most of them also a neighbour.
    """
    for attempt in range(20):
        clip = Clip(np.random.default_rng([seed, index, attempt]), material, hard, size)
        first = draw(clip, 0)
        if 0.015 < alpha(first).mean() / 255 < 0.8:
            return [first] + [draw(clip, i) for i in range(1, FRAMES)]
    raise RuntimeError(f"clip {index}: no attempt showed the target")


def make_clip(seed: int, index: int, material: Material, hard: float = 0.0, size: Size = USUAL) -> np.ndarray:
    """A clip: FRAMES × height × width × 4, u8."""
    frames = _drawn(seed, index, material, hard, size, Clip.frame, lambda frame: frame[1])
    return np.stack([np.dstack(frame) for frame in frames])


def make_layers(seed: int, index: int, material: Material, hard: float = 0.0,
                size: Size = USUAL) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The layers of a clip: FRAMES × height × width × 3, 4 and 4, u8."""
    frames = _drawn(seed, index, material, hard, size, Clip.parts, lambda parts: parts[1][..., 3])
    return tuple(np.stack(planes) for planes in zip(*frames))


class Segmenter:
    """Person probability of a frame: a map at the network's own size, or 16×16 means."""

    def __init__(self, path: Path):
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self.session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0]
        self.size = tuple(self.input.shape[2:0:-1])  # width and height of what it looks at

    def person(self, rgb: np.ndarray) -> np.ndarray:
        small = cv2.resize(rgb, self.size, interpolation=cv2.INTER_AREA).astype(np.float32)[None] / 255
        return self.session.run(None, {self.input.name: small})[0].reshape(self.size[::-1])

    def __call__(self, rgb: np.ndarray) -> np.ndarray:
        grid = (rgb.shape[1] // STRIDE, rgb.shape[0] // STRIDE)
        return cv2.resize(self.person(rgb), grid, interpolation=cv2.INTER_AREA)


# --- the folder -----------------------------------------------------------------------------------------------------


def _complete(out: Path, count: int) -> None:
    """So many clips of the folder can be read now."""
    (out / "done.tmp").write_text(str(count))
    os.replace(out / "done.tmp", out / "done")


def _begin(out: Path, start: int, size: Size) -> None:
    """Makes the folder, or refuses to append to one of another size."""
    out.mkdir(parents=True, exist_ok=True)
    if start and size_of(out) != size:
        raise ValueError(f"{out}: its frames are {'×'.join(map(str, size_of(out)))}, not {size.width}×{size.height}")
    (out / "size").write_text(f"{size.width}x{size.height}")


def size_of(folder: Path) -> Size:
    """The size of a folder's frames."""
    file = folder / "size"
    return Size.parse(file.read_text()) if file.is_file() else USUAL


def write_folder(out: Path, material: Material, segmenter: Segmenter, seed: int, start: int, count: int,
                 hard: float = 0.0, size: Size = USUAL) -> None:
    """Appends clips `start … start+count` to the folder."""
    _begin(out, start, size)
    with open(out / "frames.u8", "r+b" if start else "wb") as frames, open(out / "prior.u8", "r+b" if start else "wb") as prior:
        frames.seek(start * FRAMES * size.height * size.width * 4)
        prior.seek(start * FRAMES * size.tokens)
        for index in range(start, start + count):
            clip = make_clip(seed, index, material, hard, size)
            person = np.stack([segmenter(np.ascontiguousarray(f[..., :3])) for f in clip])
            frames.write(clip.tobytes())
            prior.write(np.rint(person * 255).astype(np.uint8).tobytes())
            frames.flush(), prior.flush()
            _complete(out, index + 1)


def write_layers(out: Path, material: Material, seed: int, start: int, count: int, hard: float = 0.0,
                 size: Size = USUAL) -> None:
    """Appends clips `start … start+count` to the folder."""
    _begin(out, start, size)
    for index in range(start, start + count):
        layers = make_layers(seed, index, material, hard, size)
        for (name, depth), planes in zip(LAYERS.items(), layers):
            with open(out / name, "r+b" if index else "wb") as file:
                if name == "front.u8" and not planes.any():
                    file.truncate((index + 1) * FRAMES * size.height * size.width * depth)
                    continue
                file.seek(index * planes.nbytes)
                file.write(planes.tobytes())
        with open(out / "kinds.u8", "r+b" if index else "wb") as file:
            file.seek(index)
            file.write(bytes([int(layers[2].any())]))
        _complete(out, index + 1)


def read_folder(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Frames and priors of the complete clips, mapped from disk."""
    count, (width, height) = int((folder / "done").read_text()), size_of(folder)
    frames = np.memmap(folder / "frames.u8", np.uint8, "r", shape=(count, FRAMES, height, width, 4))
    prior = np.memmap(folder / "prior.u8", np.uint8, "r", shape=(count, FRAMES, height // STRIDE, width // STRIDE))
    return frames, prior


def main() -> None:
    parser = argparse.ArgumentParser(description="Write composited clips for training.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--shared", type=Path, default=os.environ.get("MATTE_SHARED"),
                        help="folder with train/ and models/ (default: $MATTE_SHARED)")
    parser.add_argument("--people", type=Path, help="folder of synthetic people, from matte_models.train.people")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--count", type=int, default=1500)
    parser.add_argument("--hard", type=float, default=0.0,
                        help="share of clips with ground of the target's colour, most of them with somebody close beside it")
    parser.add_argument("--size", type=Size.parse, default=USUAL, help="width and height of the frames, like 640x368")
    parser.add_argument("--held-out", action="store_true", help="use the held-out material instead")
    parser.add_argument("--layers", action="store_true", help="keep targets and scenes apart")
    args = parser.parse_args()
    if args.shared is None:
        parser.error("--shared or MATTE_SHARED is needed")
    cv2.setNumThreads(1)
    material = load_material(Path(args.shared) / "train", args.held_out, args.people, args.size)
    if args.layers:
        write_layers(args.out, material, args.seed, args.start, args.count, args.hard, args.size)
        return
    segmenter = Segmenter(Path(args.shared) / SEGMENTER)
    write_folder(args.out, material, segmenter, args.seed, args.start, args.count, args.hard, args.size)


if __name__ == "__main__":
    main()
