"""Samples of clips for training: random crops with a first mask that has faults, and the hint `prior`.

A first mask is the truth, as people and tools draw it, or what the person segmentation saw, in all its doubt, as long as it
saw the target and little else: the faults that an automatic seed has are its own (a dark window beside a dark shoulder joins,
a forearm is missing), and cannot be drawn.

Drawing a clip takes a second, and there are few people; what a network learns by heart is who stands where before what. So
from a folder of layers every sample takes the target of one clip and, mostly, the scene of another, each in its own light,
flipped and run backwards on its own, then a camera for both, and a crop at some zoom: `n` clips give `n²` pairs. Now and then
the target of a third clip stands close by, before or behind it, as somebody who does not belong to the matte. A folder of
pictures gives crops of these.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from .data import FRAMES, LAYERS, STRIDE, Camera, USUAL, Segmenter, Size, read_folder, size_of

_LUMA = np.array([0.299, 0.587, 0.114])


def corrupt_mask(rng: np.random.Generator, alpha: np.ndarray) -> np.ndarray:
    """A first mask as people and tools give it: alpha ≥ 50, then grown, shrunk, simplified or coarse. u8, 0 or 255."""
    mask = ((alpha >= 50) * 255).astype(np.uint8)
    kind = rng.random()
    if kind < 0.4:
        return mask
    if kind < 0.65:
        size = int(rng.integers(2, 8))
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
        return cv2.erode(mask, kernel) if rng.random() < 0.5 else cv2.dilate(mask, kernel)
    if kind < 0.8:
        contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        out = np.zeros_like(mask)
        simple = [cv2.approxPolyDP(c, rng.uniform(1, 4), True) for c in contours if cv2.contourArea(c) > 20]
        return cv2.fillPoly(out, simple, 255) if simple else mask
    factor = 1 / rng.uniform(3, 9)
    small = cv2.resize(mask, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    soft = cv2.resize(small, mask.shape[::-1], interpolation=cv2.INTER_LINEAR)
    return ((soft > rng.uniform(90, 165)) * 255).astype(np.uint8)


def seed_of(person: np.ndarray, alpha: np.ndarray) -> np.ndarray | None:
    """The first mask that a segmentation `person`, 0 to 1, gives, u8; `None` where it agrees with alpha, u8, too little.

    Far from the target it is empty: whom an automatic seed takes for one of several people is not this network's to mend.
    """
    true = (alpha >= 128).astype(np.uint8)
    reach = 2 * (alpha.shape[0] // 8) + 1
    seed = np.where(cv2.dilate(true, np.ones((reach, reach), np.uint8)) > 0, person, 0)
    seen = seed >= 0.5
    both, either = np.count_nonzero(seen & (true > 0)), np.count_nonzero(seen | (true > 0))
    if not both or both < 0.6 * either or both < 0.75 * np.count_nonzero(true):
        return None
    return np.rint(seed * 255).astype(np.uint8)


@dataclass
class Batch:
    frames: np.ndarray  # B × T × 3 × S × S, u8
    alpha: np.ndarray   # B × T × 1 × S × S, float32 in [0, 1]
    mask: np.ndarray    # B × 1 × S × S, float32, the given mask of the first frame
    prior: np.ndarray   # B × T × 1 × S/16 × S/16, float32; −1 where it is absent
    tokens: np.ndarray  # B, float32: the area of the whole frame that a crop is of, in tokens, at the crop's zoom


class Drawn(NamedTuple):
    """A sample as it is handed on: pictures as bytes."""

    frames: np.ndarray  # T × 3 × height × width, u8
    alpha: np.ndarray   # T × 1 × height × width, u8
    mask: np.ndarray    # 1 × height × width, u8
    prior: np.ndarray   # T × 1 × height/16 × width/16, float32; −1 where it is absent
    tokens: np.float32  # as in `Batch`


@dataclass
class Layers:
    """The complete clips of a folder, mapped from disk."""

    scene: np.ndarray
    target: np.ndarray
    front: np.ndarray
    kinds: np.ndarray

    @classmethod
    def read(cls, folder: Path) -> Layers:
        count, (width, height) = int((folder / "done").read_text()), size_of(folder)
        planes = [np.memmap(folder / name, np.uint8, "r", shape=(count, FRAMES, height, width, depth))
                  for name, depth in LAYERS.items()]
        return cls(*planes, np.fromfile(folder / "kinds.u8", np.uint8, count))

    def __len__(self) -> int:
        return len(self.scene)

    @property
    def size(self) -> Size:
        return Size(self.scene.shape[3], self.scene.shape[2])


Source = tuple[Layers, int]
"""A clip of a folder."""


def tone(rng: np.random.Generator, strength: float) -> np.ndarray:
    """Another light: a 3 × 4 matrix that makes colour of colour and, in its last column, an offset (of 255)."""
    gain = np.exp(rng.normal(0, 0.25 * strength)) * np.exp(rng.normal(0, 0.12 * strength, 3))
    saturation = 1 + strength * rng.uniform(-0.6, 0.5)
    matrix = np.eye(3) * saturation + (1 - saturation) * _LUMA
    if rng.random() < 0.15 * strength:
        matrix = matrix[rng.permutation(3)]
    return np.hstack([matrix * gain[:, None], np.full((3, 1), rng.normal(0, 8 * strength))]).astype(np.float32)


def shifted(image: np.ndarray, by: int) -> np.ndarray:
    """Moved to the right by `by` pixels; what comes in is empty."""
    if by == 0:
        return image
    out = np.zeros_like(image)
    if by > 0:
        out[:, by:] = image[:, :-by]
    else:
        out[:, :by] = image[:, -by:]
    return out


def lit(body: np.ndarray, light: np.ndarray) -> np.ndarray:
    """A body, premultiplied RGBA, in `light`; float32, 0 to 255."""
    body = body.astype(np.float32)
    # The offset goes with alpha, which is up to 255.
    body[..., :3] = np.clip(cv2.transform(body, light * np.array([1, 1, 1, 1 / 255], np.float32)), 0, body[..., 3:])
    return body


def over(body: np.ndarray, picture: np.ndarray) -> np.ndarray:
    """`body`, premultiplied RGBA, before `picture`."""
    return body[..., :3] + (1 - body[..., 3:].astype(np.float32) * np.float32(1 / 255)) * picture[..., :3]


def joined(front: np.ndarray, back: np.ndarray) -> np.ndarray:
    """Two bodies, premultiplied RGBA bytes, as one."""
    seen = 1 - front[..., 3:].astype(np.float32) * np.float32(1 / 255)
    return np.rint(front + seen * back).clip(0, 255).astype(np.uint8)


def compose(body: np.ndarray, ground: np.ndarray, light: np.ndarray, ambient: np.ndarray,
            behind: list[np.ndarray], before: list[np.ndarray],
            worn: Sequence[np.ndarray] = ()) -> tuple[np.ndarray, np.ndarray]:
    """A target, in `light`, on a scene, in `ambient`, with premultiplied layers between the two and before the target,
    from far to near, and others that the target has on it. RGB and alpha, float32, 0 to 255."""
    body = lit(body, light)
    for layer in worn:
        # Its colour is there as far as the body is, and covers as much of the body's as it would of a solid one.
        body[..., :3] = over(np.dstack([layer[..., :3] * (body[..., 3:] * np.float32(1 / 255)), layer[..., 3:]]), body)
    picture = np.clip(cv2.transform(ground.astype(np.float32), ambient), 0, 255)
    for layer in [*behind, body, *before]:
        picture = over(layer, picture)
    alpha = body[..., 3]
    for layer in before:
        alpha = alpha * (1 - layer[..., 3].astype(np.float32) * np.float32(1 / 255))
    return picture, alpha


Part = tuple[slice, slice]
"""Rows and columns of a frame."""
# Pixels beyond a crop that a camera's blur reaches.
BORDER = 8


def closer(seen: np.ndarray, look: Callable[[Part], np.ndarray]) -> np.ndarray:
    """Near to the seed that the engine makes, without its looks through a mirror, at bodies, and at who is there at all
    (core/src/seed): of a look at the whole frame, `seen`, and one at where it has found somebody, with room around."""
    ys, xs = (np.flatnonzero((seen >= 0.5).any(axis)) for axis in (1, 0))
    if not len(ys):
        return seen
    rows, columns = (slice(max(0, at[0] - room), at[-1] + 1 + room)
                     for at, room in ((at, int(0.3 * (at[-1] + 1 - at[0]))) for at in (ys, xs)))
    out = np.zeros_like(seen)
    there = out[rows, columns]
    there[:] = cv2.resize(look((rows, columns)), there.shape[::-1], interpolation=cv2.INTER_LINEAR)
    return 0.8 * out + 0.2 * seen


class Moments:
    """Which frames of a clip a sample shows: their numbers, and whether they are flipped."""

    def __init__(self, rng: np.random.Generator, length: int, ahead: bool):
        step = int(rng.choice([1, 2, 3], p=[0.7, 0.2, 0.1]))
        while (length - 1) * step >= FRAMES:
            step -= 1
        free = FRAMES - 1 - (length - 1) * step
        gap = int(rng.integers(0, free + 1)) if ahead else 0
        start = int(rng.integers(0, free - gap + 1))
        self.times = start + step * np.arange(length)
        self.times[1:] += gap
        if rng.random() < 0.5:
            self.times = FRAMES - 1 - self.times
        self.flipped = rng.random() < 0.5

    def of(self, clip: np.ndarray) -> list[np.ndarray]:
        """Of a clip's frames, whose columns are the second axis."""
        return [clip[t][:, ::-1] if self.flipped else clip[t] for t in self.times]


def _towards(rng: np.random.Generator, colour: np.ndarray, ground: np.ndarray, spread: float) -> np.ndarray:
    """A light in which `ground` has nearly this colour."""
    factor = np.clip(colour / np.maximum(ground, 10), 0.35, 2.5) * np.exp(rng.normal(0, spread, 3))
    return np.hstack([np.diag(factor), np.zeros((3, 1))]).astype(np.float32)


def _teaches(rng: np.random.Generator, alpha: np.ndarray) -> bool:
    """Crops that are all target or (mostly) none teach little; a few are kept."""
    return 0.04 < alpha.mean() / 255 < 0.93 or rng.random() < 0.04


@dataclass
class Sample:
    frames: np.ndarray         # T × height × width × 4, u8: RGB and alpha
    prior: np.ndarray          # T × height/16 × width/16, float32; −1 where it is absent
    tokens: float              # as in `Batch`
    person: np.ndarray | None  # height × width, float32, 0 to 1: what the segmentation sees in the first frame


class Mixer:
    """Draws samples from folders of layers."""

    def __init__(self, segmenter: Segmenter | None, own: float = 0.35, company: float = 0.3, lining: float = 0.2,
                 together: float = 0.5):
        self.segmenter, self.own, self.company, self.lining, self.together = segmenter, own, company, lining, together

    def sample(self, rng: np.random.Generator, target: Source, scene: Source, other: Source, length: int,
               size: tuple[int, int], ahead: bool, hint: bool) -> Sample:
        """A sample of height and width `size`. Only with `hint` it has a prior, and what the segmentation sees.

        The target of `other` stands close to that of `target` in a share `company` of the samples, and belongs to it in a
        share `together` of these: what is only told apart is given up wherever a first mask is in doubt of it. In a share
        `lining` a part of the target comes to be of the colour of what is behind it. The clips of all three are of one size.
        """
        whole = target[0].size
        moments = Moments(rng, length, ahead)
        bodies = moments.of(target[0].target[target[1]])
        own = rng.random() < self.own
        if own:
            scene = target
        places = moments if own else Moments(rng, length, ahead)
        grounds = places.of(scene[0].scene[scene[1]])
        fronts = places.of(scene[0].front[scene[1]]) if scene[0].kinds[scene[1]] else None
        if not own:
            bodies = self._moved(bodies, rng.normal(0, 70 * whole.unit))
        light, ambient = tone(rng, 0.7), tone(rng, 0.5)
        likeness = rng.random()
        if likeness < 0.3:
            ambient = (self._alike if likeness < 0.1 else self._alike_at_the_rim)(rng, bodies[0], grounds[0], light)
        behind = [[] for _ in bodies]
        before = [[] for _ in bodies] if fronts is None else [[front] for front in fronts]
        if rng.random() < self.company:
            others = Moments(rng, length, ahead).of(other[0].target[other[1]])
            others = self._beside(rng, others, bodies[0])
            nearer, shade = rng.random() < 0.25, tone(rng, 0.5)
            if rng.random() < self.together:
                bodies = [joined(*pair) for pair in (zip(others, bodies) if nearer else zip(bodies, others))]
            else:
                for place, layer in zip(before if nearer else behind, others):
                    place.insert(0, lit(layer, shade))
        worn = [[] for _ in bodies]
        if rng.random() < self.lining:
            worn = self._lining(rng, bodies, cv2.transform(grounds[0].astype(np.float32), ambient))
        camera = Camera(rng)
        y, x, zoom = self._crop(rng, bodies[0][..., 3], size)
        # No more than the crop is put together, with a border for the camera's blur.
        cut = np.s_[y : y + round(size[0] / zoom), x : x + round(size[1] / zoom)]
        top, left = min(y, BORDER), min(x, BORDER)
        around = np.s_[y - top : cut[0].stop + BORDER, x - left : cut[1].stop + BORDER]
        inner = np.s_[top : top + cut[0].stop - y, left : left + cut[1].stop - x]

        def composed(i: int, of: Callable[[np.ndarray], np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
            layers = ([of(layer) for layer in place] for place in (behind[i], before[i], worn[i]))
            return compose(of(bodies[i]), of(grounds[i]), light, ambient, *layers)

        def look(i: int, part: Part) -> np.ndarray:
            """What the segmentation sees in a part of frame `i`, at its own size."""
            small = partial(cv2.resize, dsize=self.segmenter.size, interpolation=cv2.INTER_AREA)
            picture, _ = composed(i, lambda layer: small(np.ascontiguousarray(layer[part])))
            return self.segmenter.person(np.clip(camera.exposed(picture, int(moments.times[i])), 0, 255).astype(np.uint8))

        grid = (size[1] // STRIDE, size[0] // STRIDE)
        frames = np.empty((length, *size, 4), np.uint8)
        prior = np.full((length, *grid[::-1]), -1, np.float32)
        person = None
        for i in range(length):
            picture, alpha = composed(i, lambda layer: layer[around])
            rgb = camera(picture, int(moments.times[i]), rng)
            interpolation = cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR
            frames[i, ..., :3] = cv2.resize(rgb[inner], size[::-1], interpolation=interpolation)
            frames[i, ..., 3] = np.rint(cv2.resize(alpha[inner], size[::-1], interpolation=interpolation))
            if hint and self.segmenter is not None:
                seen = cv2.resize(look(i, np.s_[:, :]), whole, interpolation=cv2.INTER_LINEAR)
                prior[i] = cv2.resize(seen[cut], grid, interpolation=cv2.INTER_AREA)
                if i == 0:
                    seen = closer(seen, partial(look, i))
                    person = cv2.resize(seen[cut], size[::-1], interpolation=cv2.INTER_LINEAR)
        return Sample(frames, prior, whole.tokens * zoom**2, person)

    @staticmethod
    def _moved(bodies: list[np.ndarray], by: float) -> list[np.ndarray]:
        """Moved to the right by so many pixels, as far as they stay whole; not if they go on beyond the sides."""
        if any(body[:, [0, -1], 3].any() for body in bodies):
            return bodies
        columns = np.flatnonzero(np.any([body[..., 3].any(0) for body in bodies], 0))
        if not len(columns):
            return bodies
        by = int(np.clip(by, -columns[0], bodies[0].shape[1] - 1 - columns[-1]))
        return [shifted(body, by) for body in bodies]

    @classmethod
    def _beside(cls, rng: np.random.Generator, others: list[np.ndarray], body: np.ndarray) -> list[np.ndarray]:
        """Moved to where they touch the target, or nearly."""
        here, there = (np.flatnonzero(layer[..., 3].any(0)) for layer in (body, others[0]))
        if not len(here) or not len(there):
            return others
        # As far apart as half of the two are wide, more or less.
        apart = (len(here) + len(there)) / 2 * rng.uniform(0.3, 1.05) * rng.choice([-1, 1])
        return cls._moved(others, here.mean() + apart - there.mean())

    @staticmethod
    def _alike(rng: np.random.Generator, body: np.ndarray, ground: np.ndarray, light: np.ndarray) -> np.ndarray:
        """A light in which the scene is, on average, of the target's colour."""
        seen = max(1.0, body[..., 3].sum() / 255)
        mean = light[:, :3] @ (body[..., :3].sum((0, 1)) / seen)
        return _towards(rng, mean, ground.mean((0, 1)), 0.1)

    @staticmethod
    def _alike_at_the_rim(rng: np.random.Generator, body: np.ndarray, ground: np.ndarray, light: np.ndarray) -> np.ndarray:
        """A light in which the scene has, around a spot of the target's rim, the colour of that spot."""
        solid = (body[..., 3] > 250).astype(np.uint8)
        ys, xs = np.nonzero(solid - cv2.erode(solid, np.ones((9, 9), np.uint8)))
        if not len(ys):
            return tone(rng, 0.5)
        spot = int(rng.integers(len(ys)))
        y, x = int(ys[spot]), int(xs[spot])
        near, around = (np.s_[max(0, y - r) : y + r + 1, max(0, x - r) : x + r + 1] for r in (3, round(30 * body.shape[0] / USUAL.height)))
        colour = light @ np.append(body[near][solid[near] > 0][:, :3].mean(0), 1)
        return _towards(rng, colour, ground[around].mean((0, 1)), 0.06)

    @staticmethod
    def _lining(rng: np.random.Generator, bodies: list[np.ndarray], ground: np.ndarray) -> list[list[np.ndarray]]:
        """A patch of each frame's target of the colour that the ground has nearby, or of the ground itself from elsewhere, as
        a jacket opens on a lining as grey as the wall: what is all around it says that it belongs to the target."""
        none = [[] for _ in bodies]
        height, width = ground.shape[:2]
        solid = (bodies[0][..., 3] > 250).astype(np.uint8)
        size = np.sqrt(solid.sum())
        inside = cv2.erode(solid, np.ones((2 * int(0.05 * size) + 1,) * 2, np.uint8), borderValue=0)
        ys, xs = np.nonzero(inside)
        if not len(ys):
            return none
        spot = int(rng.integers(len(ys)))
        centre = np.array([xs[spot], ys[spot]])
        axes = np.maximum(2, size * np.exp(rng.uniform(np.log(0.04), np.log(0.3), 2))).astype(int)
        shape = np.zeros((height, width), np.float32)
        cv2.ellipse(shape, tuple(map(int, centre)), tuple(map(int, axes)), float(rng.uniform(0, 180)), 0, 360, 1, -1, cv2.LINE_AA)
        shape = cv2.GaussianBlur(shape, (0, 0), rng.uniform(0.4, 1.5))[..., None]
        away = rng.normal(0, 0.4 * size, 2).astype(int)
        if rng.random() < 0.3:
            colour = np.roll(ground, tuple(away[::-1]), (0, 1))
        else:
            x, y = np.clip(centre + away, 0, (width - 1, height - 1))
            near = ground[max(0, y - 12) : y + 13, max(0, x - 12) : x + 13].mean((0, 1)) * np.exp(rng.normal(0, 0.06, 3))
            folds = cv2.resize(rng.normal(1, rng.uniform(0, 0.12), (5, 7)).astype(np.float32), (width, height),
                               interpolation=cv2.INTER_CUBIC)
            colour = near.astype(np.float32) * folds[..., None]
        patch = np.dstack([np.clip(colour, 0, 255) * shape, 255 * shape]).astype(np.uint8)
        begins = int(rng.integers(0, len(bodies)))
        places = [cv2.moments(body[..., 3]) for body in bodies]
        out = none
        for i in range(begins, len(bodies)):
            here, first = places[i], places[0]
            if here["m00"] and first["m00"]:
                by = [here[k] / here["m00"] - first[k] / first["m00"] for k in ("m10", "m01")]
                moved = np.float32([[1, 0, by[0]], [0, 1, by[1]]])
                out[i] = [cv2.warpAffine(patch, moved, (width, height))]
        return out

    @staticmethod
    def _crop(rng: np.random.Generator, alpha: np.ndarray, size: tuple[int, int]) -> tuple[int, int, float]:
        """A place and a zoom; mostly with a point of the target in it."""
        height, width = alpha.shape
        ys, xs = np.nonzero(alpha >= 128)
        least = max(size[0] / height, size[1] / width)
        for _ in range(10):
            zoom = max(least, float(np.exp(rng.normal(0, 0.22)))) if rng.random() < 0.6 else max(least, 1.0)
            h, w = round(size[0] / zoom), round(size[1] / zoom)
            y, x = int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1))
            if len(ys) and rng.random() < 0.8:
                point = int(rng.integers(len(ys)))
                y, x = (int(rng.integers(max(0, at - side + 1), min(at, whole - side) + 1))
                        for at, side, whole in ((ys[point], h, height), (xs[point], w, width)))
            if _teaches(rng, alpha[y : y + h, x : x + w]):
                break
        return y, x, zoom


class Loader:
    """Random crops of random clips: flipped, reversed in time, at full, double or triple speed.

    With `ahead` the second frame of a sample lies up to so many frames after the first, as far as the clip goes; the
    others follow it closely. `segmenter` makes the hint for samples from layers; without it they have none.
    """

    def __init__(self, folders: list[Path], seed: int, prior_rate: float = 0.5, segmenter: Segmenter | None = None,
                 seed_rate: float = 0.3):
        self.folders, self.prior_rate, self.seed_rate = folders, prior_rate, seed_rate
        self.mixer = Mixer(segmenter)
        self.rng = np.random.default_rng([seed, 7])
        self.refresh()

    def refresh(self) -> None:
        """Takes in the clips written since."""
        self.parts = [Layers.read(f) if (f / "scene.u8").is_file() else read_folder(f) for f in self.folders]
        self.counts = np.array([len(part) if isinstance(part, Layers) else len(part[0]) for part in self.parts])
        self.layers = np.array([isinstance(part, Layers) for part in self.parts])
        self.sizes = [size_of(f) for f in self.folders]

    def batch(self, clips: int, length: int, height: int, width: int, ahead: bool = False) -> Batch:
        parts = [self.draw(length, (height, width), ahead) for _ in range(clips)]
        frames, alpha, mask, prior, tokens = (np.stack(p) for p in zip(*parts))
        return Batch(frames, alpha.astype(np.float32) / 255, mask.astype(np.float32) / 255, prior, tokens)

    def _pick(self, among: np.ndarray) -> tuple[int, int]:
        """A folder and a clip of it, every clip of `among` with the same chance."""
        counts = self.counts * among
        part = int(self.rng.choice(len(counts), p=counts / counts.sum()))
        return part, int(self.rng.integers(self.counts[part]))

    def draw(self, length: int, size: tuple[int, int], ahead: bool) -> Drawn:
        """A sample of height and width `size`."""
        rng = self.rng
        part, clip = self._pick(self.counts > 0)
        hint = rng.random() < self.prior_rate
        if self.layers[part]:
            alike = self.layers & np.array([s == self.sizes[part] for s in self.sizes])
            scene, other = ((self.parts[p], c) for p, c in (self._pick(alike) for _ in range(2)))
            drawn = self.mixer.sample(rng, (self.parts[part], clip), scene, other, length, size, ahead, hint)
        else:
            drawn = self._crop(*(array[clip] for array in self.parts[part]), length, size, ahead)
            if not hint:
                drawn.prior[:] = -1
        first, mask = np.ascontiguousarray(drawn.frames[0, ..., 3]), None
        if drawn.person is not None and rng.random() < self.seed_rate:
            mask = seed_of(drawn.person, first)
        if mask is None:
            mask = corrupt_mask(rng, first)
        frames = np.ascontiguousarray(drawn.frames[..., :3].transpose(0, 3, 1, 2))
        alpha = np.ascontiguousarray(drawn.frames[..., 3])[:, None]
        return Drawn(frames, alpha, mask[None], np.ascontiguousarray(drawn.prior)[:, None], np.float32(drawn.tokens))

    def _crop(self, frames: np.ndarray, priors: np.ndarray, length: int, size: tuple[int, int], ahead: bool) -> Sample:
        """Of a clip of pictures, on the grid of the hint."""
        rng = self.rng
        height, width = size
        whole = Size(frames.shape[2], frames.shape[1])
        if width > whole.width or height > whole.height:
            raise ValueError(f"a crop of {width}x{height} does not fit into clips of {whole.width}x{whole.height}")
        for _ in range(10):
            moments = Moments(rng, length, ahead)
            x = STRIDE * int(rng.integers(0, (whole.width - width) // STRIDE + 1))
            y = STRIDE * int(rng.integers(0, (whole.height - height) // STRIDE + 1))
            if _teaches(rng, frames[moments.times[0], y : y + height, x : x + width, 3]):
                break
        grid = np.s_[:, y // STRIDE : (y + height) // STRIDE, x // STRIDE : (x + width) // STRIDE]
        data = np.stack(moments.of(frames))[:, y : y + height, x : x + width]
        return Sample(data, np.stack(moments.of(priors))[grid].astype(np.float32) / 255, whole.tokens, None)
