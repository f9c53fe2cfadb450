"""Garments cut from the helper layers of the base mesh (jumpers, skirts), and things of simple shape that people wear
or hold: glasses, headphones, a cup, a telephone, a sheet of paper.
"""

from __future__ import annotations

import numpy as np

from .assets import Library, Mesh
from .person import bumps, vertex_normals
from .rig import Skeleton, unit

_SHOULDER, _WRIST = np.array([1.68, 5.25, 0.15]), np.array([4.31, 2.45, 1.76])  # of the base mesh


def _along_arm(library: Library, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Share of the way from shoulder to wrist on the unchanged base mesh, and whether a point is on an arm."""
    way = _WRIST - _SHOULDER
    mirrored = points.copy()
    mirrored[:, 0] = np.abs(mirrored[:, 0])
    share = (mirrored - _SHOULDER) @ way / (way @ way)
    return share, (mirrored[:, 0] > 1.75) & (mirrored[:, 1] > 1.5)


class Cut:
    """A garment's region, in places of the unchanged base mesh, so that one rule serves all bodies and garments."""

    def __init__(self, library: Library, hem: float, neck: float, sleeve: float, skirt: bool = False):
        self.library, self.hem, self.neck, self.sleeve, self.skirt = library, hem, neck, sleeve, skirt

    def inside(self, points: np.ndarray, margin: float = 0.0) -> np.ndarray:
        """`margin` (decimetres) shrinks the region at its hems."""
        share, on_arm = _along_arm(self.library, points)
        y = points[:, 1]
        body = (y > self.hem + margin) & (y < self.neck - margin)
        if self.skirt:
            return body & ~on_arm
        return np.where(on_arm, share < self.sleeve - margin / 4, body)

    def mesh(self) -> tuple[Mesh, np.ndarray]:
        """The layer's mesh with the faces inside, and a mask of those."""
        base = self.library.base
        faces = base.groups["helper-skirt" if self.skirt else "helper-tights"]
        keep = np.zeros(len(base.faces), bool)
        inside = self.inside(base.positions)
        keep[faces] = inside[base.faces[faces]].all(1)
        return base, keep


def jumper(library: Library, rng: np.random.Generator) -> tuple[Cut, float]:
    cut = Cut(
        library,
        float(rng.uniform(0.3, 1.1)),
        float(rng.choice([5.95, 6.1])),
        float(rng.choice([0.0, 0.3, 0.55, 0.97, 0.97, 0.97])),
    )
    return cut, float(rng.uniform(0.13, 0.28))


def skirt(library: Library, rng: np.random.Generator) -> tuple[Cut, float]:
    return Cut(library, float(rng.uniform(-6.8, -1.6)), 2.0, 0.0, skirt=True), float(rng.uniform(0.08, 0.2))


def blown(rng: np.random.Generator, mesh: Mesh, keep: np.ndarray, base: np.ndarray, by: float) -> np.ndarray:
    """The layer on a body, moved outwards, with folds."""
    normals = vertex_normals(base, mesh.faces[keep])
    folds = bumps(rng, base * [1, 0.35, 1], 0.35) * 0.35 + bumps(rng, base, 0.6) * 0.35
    return base + normals * (by * (1 + 0.6 * folds))[:, None]


# --- simple shapes ------------------------------------------------------------------------------------------------


class Shape:
    """Quads collected in one mesh."""

    def __init__(self) -> None:
        self.positions: list[np.ndarray] = []
        self.faces: list[np.ndarray] = []
        self.count = 0

    def _grid(self, points: np.ndarray, closed: bool) -> None:
        """`points` is n × m × 3; the second way round is closed, the first where `closed` says so."""
        n, m = points.shape[:2]
        at = np.arange(n * m).reshape(n, m) + self.count
        rows = range(n) if closed else range(n - 1)
        for i in rows:
            j = (i + 1) % n
            self.faces.append(np.stack([at[i], at[j], np.roll(at[j], -1), np.roll(at[i], -1)], 1))
        self.positions.append(points.reshape(-1, 3))
        self.count += n * m

    def tube(self, path: np.ndarray, radius: float, closed: bool = False, sides: int = 6, flat: float = 1.0) -> None:
        way = np.gradient(path, axis=0) if not closed else np.roll(path, -1, 0) - np.roll(path, 1, 0)
        way /= np.maximum(np.linalg.norm(way, axis=1, keepdims=True), 1e-9)
        side = np.cross(way, np.array([0.12, 0.2, 0.97]))
        side /= np.maximum(np.linalg.norm(side, axis=1, keepdims=True), 1e-9)
        up = np.cross(way, side)
        angle = np.arange(sides) / sides * 2 * np.pi
        ring = side[:, None] * np.cos(angle)[:, None] * radius + up[:, None] * np.sin(angle)[:, None] * radius * flat
        self._grid(path[:, None] + ring, closed)

    def turned(self, centre: np.ndarray, axis: np.ndarray, profile: list[tuple[float, float]], sides: int = 18) -> None:
        """A turned body: pairs of place on the axis and radius."""
        axis = unit(axis)
        side = unit(np.cross(axis, [0.3, 0.2, 0.9]))
        up = np.cross(axis, side)
        angle = np.arange(sides) / sides * 2 * np.pi
        ring = side * np.cos(angle)[:, None] + up * np.sin(angle)[:, None]
        self._grid(np.stack([centre + axis * a + ring * max(r, 1e-3) for a, r in profile]), False)

    def box(self, centre: np.ndarray, axes: np.ndarray, size: tuple[float, float, float]) -> None:
        corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * np.array(size) / 2
        quads = [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
        for quad in quads:  # corners of their own, for sharp edges
            self.positions.append(centre + corners[quad] @ axes)
            self.faces.append(np.arange(4)[None] + self.count)
            self.count += 4

    def mesh(self) -> Mesh:
        faces = np.concatenate(self.faces).astype(np.int32)
        return Mesh(np.concatenate(self.positions), np.zeros((1, 2), np.float32), faces, np.zeros_like(faces), {})


def glasses(rng: np.random.Generator, skeleton: Skeleton, base: np.ndarray) -> Mesh:
    shape = Shape()
    thick = float(rng.uniform(0.014, 0.032))
    wide, high, square = rng.uniform(0.23, 0.3), rng.uniform(0.15, 0.24), rng.uniform(0.5, 1.0)
    angle = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    outline = np.stack(
        [
            np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** square * wide,
            np.sign(np.sin(angle)) * np.abs(np.sin(angle)) ** square * high,
        ],
        1,
    )
    half, ear = _ears(base, skeleton)
    for side, sign in (("L", 1), ("R", -1)):
        eye = skeleton.tails[skeleton.index[f"eye.{side}"]]
        centre = np.array([eye[0] + 0.02 * sign, eye[1] - 0.04, eye[2] + 0.12])
        rim = np.c_[
            centre[0] + outline[:, 0], centre[1] + outline[:, 1], centre[2] - 0.25 * np.abs(outline[:, 0] * sign + 0.1)
        ]
        shape.tube(rim, thick, closed=True)
        hinge = centre + [sign * wide, high * 0.4, -0.1]
        hook = np.array([sign * (half + 0.02), ear[1] + 0.22, ear[2] + 0.1])
        shape.tube(
            np.stack([hinge, hinge + (hook - hinge) * 0.15 + [sign * 0.05, 0, 0], hook, hook + [0, -0.25, -0.2]]), thick
        )
        if sign > 0:
            inner = centre - [wide, -0.05, 0]
            shape.tube(
                np.stack(
                    [
                        inner,
                        [inner[0] * 0.4, inner[1] + 0.04, inner[2] + 0.05],
                        [-inner[0] * 0.4, inner[1] + 0.04, inner[2] + 0.05],
                        inner * [-1, 1, 1],
                    ]
                ),
                thick,
            )
    return shape.mesh()


def _ears(base: np.ndarray, skeleton: Skeleton) -> tuple[float, np.ndarray]:
    """Half the width of the head at the ears, and the place of the left one."""
    eye = skeleton.head("eye.L")
    head = base[:13380]
    near = head[(np.abs(head[:, 1] - eye[1] + 0.1) < 0.35) & (head[:, 2] < eye[2] - 0.4)]
    ear = near[near[:, 0].argmax()]
    return float(ear[0]) - 0.06, ear


def headphones(rng: np.random.Generator, skeleton: Skeleton, base: np.ndarray, lift: float) -> Mesh:
    """`lift` is the thickness of the hair under the band."""
    shape = Shape()
    half, ear = _ears(base, skeleton)
    top = base[:13380, 1].max() + 0.06 + lift
    reach = half + 0.2
    angle = np.linspace(0, np.pi, 22)
    tilt = rng.uniform(-0.3, 0.1)
    path = np.stack([np.cos(angle) * reach, ear[1] + np.sin(angle) * (top - ear[1]), ear[2] + np.sin(angle) * tilt], 1)
    shape.tube(path, float(rng.uniform(0.05, 0.09)), sides=8, flat=float(rng.uniform(1.0, 2.6)))
    size = float(rng.uniform(0.3, 0.48))
    for sign in (1, -1):
        shape.turned(
            np.array([sign * (half - 0.02), ear[1] - 0.05, ear[2] + 0.05]),
            np.array([sign, 0.05, 0]),
            [(0, 0.0), (0, size * 0.8), (0.05, size), (0.18, size), (0.28, size * 0.85), (0.3, 0.0)],
        )
    if rng.random() < 0.4:  # a microphone on an arm
        start = np.array([half + 0.2, ear[1] - 0.15, ear[2] + 0.1])
        mouth = skeleton.head("jaw") + [0.35, -0.25, 1.25]
        shape.tube(np.stack([start, start * 0.5 + mouth * 0.5 + [0.22, -0.1, 0.05], mouth]), 0.025)
        shape.turned(mouth, np.array([0.2, 0, 1.0]), [(-0.09, 0), (-0.06, 0.07), (0.06, 0.07), (0.09, 0)], 10)
    return shape.mesh()


def held(rng: np.random.Generator, skeleton: Skeleton, side: str, kind: str) -> Mesh:
    """A thing in the hand, in its place at rest; it is bound to the wrist."""
    shape = Shape()
    first, last = skeleton.head(f"finger2-1.{side}"), skeleton.head(f"finger5-1.{side}")
    knuckle, wrist = skeleton.head(f"finger3-1.{side}"), skeleton.head(f"wrist.{side}")
    across, along = unit(first - last), unit(knuckle - wrist)
    palm = unit(np.cross(last - first, along)) * (1 if side == "L" else -1)
    centre = knuckle + along * 0.15
    if kind == "cup":
        r, h = rng.uniform(0.32, 0.45), rng.uniform(0.7, 1.3)
        shape.turned(
            centre + palm * (r + 0.12),
            across,
            [
                (-h / 2, 0),
                (-h / 2, r * 0.85),
                (h / 2, r),
                (h / 2, r * 0.9),
                (-h / 2 + 0.06, r * 0.75),
                (-h / 2 + 0.06, 0),
            ],
        )
    elif kind == "phone":
        shape.box(centre + palm * 0.2 + across * 0.35, np.stack([along, across, palm]), (0.75, 1.55, 0.08))
    else:
        shape.box(centre + palm * 0.15 + across * 1.1, np.stack([along, across, palm]), (2.1, 2.9, 0.015))
    return shape.mesh()
