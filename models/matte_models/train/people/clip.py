"""Clips of one person each: framing, camera, light, motion; written as cropped premultiplied RGBA."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from .assets import Library
from .motion import Act
from .person import _hsv, build, linear
from .render import Light, Renderer, View, look_at, perspective, window
from .rig import unit

FRAMES = 24
TALLEST = 400


@dataclass
class Clip:
    """`frames` is T × height × width × 4, premultiplied RGBA; an open side is one where the person goes on."""

    frames: np.ndarray
    bottom_open: bool
    left_open: bool
    right_open: bool
    seed: int
    notes: dict = field(default_factory=dict)


def _colour(rng: np.random.Generator, most: float) -> np.ndarray:
    """A light's colour about white: warm, cool or, now and then, any."""
    if rng.random() < 0.08:
        return linear(_hsv(rng.random(), rng.uniform(0.3, 0.7), 1.0))
    heat = rng.normal(0, most)
    return np.clip(np.array([1 + 0.5 * heat, 1.0, 1 - 0.6 * heat]), 0.3, 2)


def random_light(rng: np.random.Generator) -> Light:
    side, up = rng.uniform(-1.3, 1.3), rng.uniform(0.0, 1.1)
    key_way = np.array([np.sin(side) * np.cos(up), np.sin(up), np.cos(side) * np.cos(up)])
    fill_side = -np.sign(side + 1e-3) * rng.uniform(0.4, 1.6)
    fill_way = unit(np.array([np.sin(fill_side), rng.uniform(-0.2, 0.5), np.cos(fill_side)]))
    back = rng.uniform(2.0, 4.3)
    rim_way = unit(np.array([np.sin(back), rng.uniform(0.0, 0.9), np.cos(back)]))
    hard = rng.uniform(0.3, 1.0)
    white = _colour(rng, 0.35)
    sky = _colour(rng, 0.3) * (1.1 - hard) * rng.uniform(0.5, 1.0)
    rim = _colour(rng, 0.4) * rng.choice([0, 0.3, 1.0, 2.0])
    return Light(
        key_way,
        white * hard * 1.9,
        fill_way,
        _colour(rng, 0.4) * rng.uniform(0.02, 0.6),
        rim_way,
        rim,
        sky * 0.8 + 0.05,
        sky * rng.uniform(0.2, 0.7) + 0.03,
        float(np.exp(rng.normal(-0.1, 0.3))),
        float(rng.uniform(0.85, 1.15)),
    )


class Studio:
    """Holds the material and one renderer; makes clip after clip."""

    def __init__(self, makehuman: Path):
        self.library = Library(makehuman)
        path = self.library.root / "eyes/materials/brown_eye.png"
        iris = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
        if iris is None:
            raise ValueError(f"{path}: not a picture")
        self.renderer = Renderer(iris)

    def clip(self, seed: int, frames: int = FRAMES, tallest: int = TALLEST) -> Clip:
        """The clip of a seed; it depends on nothing else."""
        person = build(self.library, seed)
        rng = np.random.default_rng([seed, 2])
        framing = str(rng.choice(["head", "half", "full"], p=[0.42, 0.28, 0.3]))
        speed = float(rng.choice([0.7, 1.0, 1.5, 2.2], p=[0.2, 0.4, 0.25, 0.15]))
        span = frames / 30 * speed
        skeleton = person.skeleton
        act = Act(self.library, skeleton, rng, framing, span, person.holding)
        light = random_light(rng)
        self.renderer.load(person)

        times = [k / 30 * speed for k in range(frames)]
        poses = [act.pose(t) for t in times]
        joints = np.stack([p for _, p in poses])
        tails = np.stack([np.einsum("bij,bj->bi", m[:, :, :3], skeleton.tails) + m[:, :, 3] for m, _ in poses])
        places = np.concatenate([joints, tails], 1)
        at = skeleton.index
        head = joints[:, at["head"]]
        middle = places.reshape(-1, 3).min(0) * 0.5 + places.reshape(-1, 3).max(0) * 0.5

        # The camera looks at what the framing shows; its picture is then cut to where the person is.
        centre = joints[:, at["spine01"]].mean(0) if framing != "full" else middle
        field = float(np.radians(rng.uniform(14, 48)))
        size = {"head": 6.5, "half": 10.0, "full": 20.0}[framing]
        distance = max(size / 2 / np.tan(field / 2), size * 0.8 + 9)
        around, above = rng.normal(0, 0.12), rng.normal(0.02, 0.12)
        way = np.array([np.sin(around) * np.cos(above), np.sin(above), np.cos(around) * np.cos(above)])
        eye = centre + way * distance
        camera = perspective(1.0, distance * 0.2, distance * 4) @ look_at(eye, centre, float(rng.normal(0, 0.03)))

        def project(points: np.ndarray) -> np.ndarray:
            clip = np.concatenate([points, np.ones_like(points[..., :1])], -1) @ camera.T
            return clip[..., :2] / np.maximum(clip[..., 3:], 0.1)

        seen = np.concatenate([project(self.renderer.places(m)) for m, _ in poses])
        margin = 0.12 / (distance * np.tan(0.5))
        highest, bottom = seen[:, 1].max() + margin, seen[:, 1].min() - margin
        bottom_open = framing != "full"
        if bottom_open:
            # A clip in which the person bends to the ground keeps a piece at least as high as the head.
            part = {"head": rng.choice(["spine02", "spine03", "spine04"]), "half": rng.choice(["spine05", "pelvis.L"])}[
                framing
            ]
            line = project(joints[:, at[str(part)]]).mean(0)[1]
            bottom = max(bottom, min(line, project(head).min(0)[1] - 0.02))
            seen = seen[seen[:, 1] > bottom - margin]
        left, right = seen[:, 0].min() - margin, seen[:, 0].max() + margin
        height = int(rng.integers(int(tallest * 0.6), tallest + 1))
        widest = 2.3 * (highest - bottom)
        if right - left > widest:
            middle_x = (left + right) / 2
            left, right = middle_x - widest / 2, middle_x + widest / 2
        width = max(16, int(np.ceil(height * (right - left) / (highest - bottom))))
        pixel = (highest - bottom) / height * np.tan(0.5) / 2
        view = View(window((left, bottom, right, highest)) @ camera, eye, width, height, pixel)
        crown = np.array([0, person.strands["position"][:, 1].max(), skeleton.head("head")[2]])

        # Pixels that the fastest joint moves while the shutter is open; a blurred frame has enough moments to hide
        # steps.
        shutter = float(rng.uniform(0.3, 0.9)) if rng.random() < 0.6 else 0.0
        shown = project(places)
        moved = np.linalg.norm(np.gradient(shown, axis=0), axis=2) * height / (highest - bottom)
        inside = (shown[..., 1] > bottom) & (np.abs(shown[..., 0]) < right)
        moved = (moved * inside).max(1) * shutter
        pictures = []
        for t, (matrices, _), far in zip(times, poses, moved):
            count = 1 if far < 3 else int(np.clip(np.ceil(far / 4), 2, 5))
            moments = [matrices]
            if count > 1:
                offsets = ((np.arange(count) + 0.5) / count - 0.5) * shutter / 30 * speed
                moments = [act.pose(t + offset)[0] for offset in offsets]
            parts = [self.renderer.draw(m, view, light, crown, middle) for m in moments]
            pictures.append(np.rint(sum(parts) / len(parts)))
        stack = np.stack(pictures)
        stack[..., :3] = np.minimum(stack[..., :3], stack[..., 3:])
        stack = stack.astype(np.uint8)
        seen_alpha = stack[..., 3].max(0) > 0
        rows, columns = np.nonzero(seen_alpha.any(1))[0], np.nonzero(seen_alpha.any(0))[0]
        if len(rows) == 0:
            raise ValueError(f"seed {seed}: nothing of the person is in the picture")
        # What is cut is cut at the border of the picture: the crop must not leave empty rows below it.
        stack = np.ascontiguousarray(stack[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
        notes = {
            **person.notes,
            "framing": framing,
            "kind": act.kind,
            "speed": speed,
            "moved": round(float(moved.max()), 1),
        }
        return Clip(
            stack,
            bottom_open and rows[-1] == height - 1,
            columns[0] == 0 and bool((stack[:, :, 0, 3] > 128).any()),
            columns[-1] == width - 1 and bool((stack[:, :, -1, 3] > 128).any()),
            seed,
            notes,
        )


def save(clip: Clip, path: Path) -> None:
    """Writes an `.npz` (zlib, level 1) in one step."""
    import zipfile

    arrays = {
        "frames": clip.frames,
        "bottom_open": np.array(clip.bottom_open),
        "left_open": np.array(clip.left_open),
        "right_open": np.array(clip.right_open),
        "seed": np.array(clip.seed),
    }
    temporary = path.with_suffix(".tmp")
    with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, np.asarray(array), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), buffer.getvalue(), zipfile.ZIP_DEFLATED, 1)
    temporary.replace(path)


def load(path: Path) -> Clip:
    with np.load(path) as file:
        return Clip(
            file["frames"],
            bool(file["bottom_open"]),
            bool(file["left_open"]),
            bool(file["right_open"]),
            int(file["seed"]),
        )
