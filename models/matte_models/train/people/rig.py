"""Rotations, the skeleton at rest, forward kinematics and two-bone inverse kinematics.

A joint's axes are parallel to the world's at rest, so a rotation is the same whatever the roll of the bone.
"""

from __future__ import annotations

import math

import numpy as np

from .assets import Library


def unit(v: np.ndarray) -> np.ndarray:
    return v / max(float(np.linalg.norm(v)), 1e-9)


def cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """NumPy's is slow for single vectors."""
    ax, ay, az = float(a[0]), float(a[1]), float(a[2])
    bx, by, bz = float(b[0]), float(b[1]), float(b[2])
    return np.array([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx])


def about(axis: np.ndarray, angle: float) -> np.ndarray:
    """The rotation by `angle` radians about `axis`."""
    x, y, z = float(axis[0]), float(axis[1]), float(axis[2])
    n = max(math.sqrt(x * x + y * y + z * z), 1e-9)
    x, y, z = x / n, y / n, z / n
    c, s = math.cos(angle), math.sin(angle)
    d = 1 - c
    return np.array(
        [
            [c + x * x * d, x * y * d - z * s, x * z * d + y * s],
            [x * y * d + z * s, c + y * y * d, y * z * d - x * s],
            [x * z * d - y * s, y * z * d + x * s, c + z * z * d],
        ]
    )


def pitch(angle: float) -> np.ndarray:
    return about(np.array([1.0, 0, 0]), angle)


def yaw(angle: float) -> np.ndarray:
    return about(np.array([0, 1.0, 0]), angle)


def roll(angle: float) -> np.ndarray:
    return about(np.array([0, 0, 1.0]), angle)


def log(rotation: np.ndarray) -> np.ndarray:
    """The rotation vector (axis × angle)."""
    angle = np.arccos(np.clip((np.trace(rotation) - 1) / 2, -1, 1))
    w = np.array([rotation[2, 1] - rotation[1, 2], rotation[0, 2] - rotation[2, 0], rotation[1, 0] - rotation[0, 1]])
    if angle < 1e-7:
        return w / 2
    if angle > np.pi - 1e-3:  # the antisymmetric part vanishes: take the axis from the symmetric one
        axis = np.sqrt(np.clip((np.diag(rotation) + 1) / 2, 0, None))
        k = int(np.argmax(axis))
        signs = np.sign(rotation[k] + rotation[:, k])
        signs[k] = 1
        axis = axis * np.where(signs == 0, 1, signs)
        return unit(axis) * angle * (1 if w @ axis >= 0 else -1)
    return w * angle / (2 * np.sin(angle))


def part(rotation: np.ndarray, share: float) -> np.ndarray:
    """A share of a rotation about its own axis."""
    v = log(rotation)
    angle = float(np.linalg.norm(v))
    return np.eye(3) if angle < 1e-9 else about(v, angle * share)


def between(a: np.ndarray, b: np.ndarray, share: float) -> np.ndarray:
    return a @ part(a.T @ b, share)


def swing(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The smallest rotation that takes direction `a` to `b`."""
    axis = cross(a, b)
    s, c = float(np.linalg.norm(axis)), float(np.dot(a, b))
    if s < 1e-9:
        return np.eye(3) if c > 0 else about(cross(a, [0.3, 0.5, 0.8]), np.pi)
    return about(axis, np.arctan2(s, c))


def frame(direction: np.ndarray, side: np.ndarray) -> np.ndarray:
    """An orthonormal frame: `direction`, the part of `side` across it, and their product."""
    d = unit(direction)
    s = unit(side - d * (side @ d))
    return np.stack([d, s, cross(d, s)], 1)


class Skeleton:
    """The rig on one body: where its joints are at rest."""

    def __init__(self, library: Library, base: np.ndarray):
        spec = library.skeleton
        self.names = library.bones
        self.index = {name: i for i, name in enumerate(self.names)}
        self.parents = [self.index.get(spec["bones"][n]["parent"], -1) for n in self.names]
        joints = {name: base[vertices].mean(0) for name, vertices in spec["joints"].items()}
        self.heads = np.array([joints[spec["bones"][n]["head"]] for n in self.names])
        self.tails = np.array([joints[spec["bones"][n]["tail"]] for n in self.names])

    def head(self, name: str) -> np.ndarray:
        return self.heads[self.index[name]]

    def forward(self, turns: dict[str, np.ndarray], shift: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """World rotations and joint positions for the turns of single joints (relative to the parent's axes)."""
        n = len(self.names)
        rotations, positions = np.empty((n, 3, 3)), np.empty((n, 3))
        for i, name in enumerate(self.names):
            p = self.parents[i]
            own = turns.get(name)
            if p < 0:
                rotations[i] = np.eye(3) if own is None else own
                positions[i] = self.heads[i] + shift
            else:
                rotations[i] = rotations[p] if own is None else rotations[p] @ own
                positions[i] = positions[p] + rotations[p] @ (self.heads[i] - self.heads[p])
        return rotations, positions

    def matrices(self, rotations: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """Bones × 3 × 4: from a place at rest to the place in the pose."""
        moved = positions - np.einsum("bij,bj->bi", rotations, self.heads)
        return np.concatenate([rotations, moved[:, :, None]], 2)

    def reach(
        self,
        turns: dict[str, np.ndarray],
        rotations: np.ndarray,
        positions: np.ndarray,
        side: str,
        target: np.ndarray,
        pole: np.ndarray,
        twist: float,
    ) -> None:
        """Turns the arm so that the wrist comes to `target` (world), the elbow pointing to `pole` (world direction)."""
        upper, middle, lower, half, wrist = (
            self.index[f"{n}.{side}"] for n in ("upperarm01", "upperarm02", "lowerarm01", "lowerarm02", "wrist")
        )
        u0, l0 = self.heads[lower] - self.heads[upper], self.heads[wrist] - self.heads[lower]
        a, b = float(np.linalg.norm(u0)), float(np.linalg.norm(l0))
        start = positions[upper]
        way = target - start
        d = float(np.clip(np.linalg.norm(way), abs(a - b) + 0.15 * min(a, b), (a + b) * 0.995))
        way = unit(way)
        out = unit(pole - way * (pole @ way))
        cosine = np.clip((a * a + d * d - b * b) / (2 * a * d), -1, 1)
        elbow = start + way * a * cosine + out * a * np.sqrt(1 - cosine * cosine)
        u, lower_way = unit(elbow - start), unit(start + way * d - elbow)
        hinge0, hinge = cross(unit(u0), unit(l0)), cross(u, lower_way)
        full = frame(u, hinge) @ frame(u0, hinge0).T
        bend = frame(lower_way, hinge) @ frame(l0, hinge0).T
        parent = rotations[self.parents[upper]]
        rest = parent @ swing(unit(u0), parent.T @ u)  # no more twist than the shoulder itself has
        first = between(rest, full, 0.35)
        turns[self.names[upper]] = parent.T @ first
        turns[self.names[middle]] = first.T @ full
        turns[self.names[lower]] = full.T @ bend
        turns[self.names[half]] = about(l0, twist * 0.5)
        turns[self.names[wrist]] = about(l0, twist * 0.5)
