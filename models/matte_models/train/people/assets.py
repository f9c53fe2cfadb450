"""Readers of the MakeHuman parts: base mesh, targets, rig, weights, garments and hair (`.mhclo`), motion (`.bvh`).

The unit is the decimetre, y is up, a person at rest looks along +z. Vertex numbers are those of the base mesh.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

BODY_VERTICES = 13380  # the vertices behind are joints and helpers that garments are bound to


@dataclass
class Mesh:
    """Faces are quads (a triangle repeats its last corner): `faces` indexes `positions`, `face_uvs` indexes `uvs`."""

    positions: np.ndarray
    uvs: np.ndarray
    faces: np.ndarray
    face_uvs: np.ndarray
    groups: dict[str, np.ndarray]  # name: numbers of faces


def read_obj(path: Path) -> Mesh:
    positions, uvs, faces, face_uvs = [], [], [], []
    groups: dict[str, list[int]] = {}
    current = groups.setdefault("", [])
    with path.open() as file:
        for line in file:
            words = line.split()
            if not words:
                continue
            if words[0] == "v":
                positions.append([float(x) for x in words[1:4]])
            elif words[0] == "vt":
                uvs.append([float(x) for x in words[1:3]])
            elif words[0] == "g":
                current = groups.setdefault(words[1] if len(words) > 1 else "", [])
            elif words[0] == "f":
                corners = [w.split("/") for w in words[1:]]
                if len(corners) not in (3, 4):
                    raise ValueError(f"{path}: a face of {len(corners)} corners, 3 or 4 are supported")
                corners = (corners + corners[-1:])[:4]
                current.append(len(faces))
                faces.append([int(c[0]) - 1 for c in corners])
                face_uvs.append([int(c[1]) - 1 if len(c) > 1 and c[1] else 0 for c in corners])
    return Mesh(
        np.array(positions, np.float64),
        np.array(uvs or [[0, 0]], np.float32),
        np.array(faces, np.int32),
        np.array(face_uvs, np.int32),
        {k: np.array(v, np.int32) for k, v in groups.items() if v},
    )


@dataclass
class Clothing:
    """A mesh whose vertices hang on the base mesh: three base vertices, their weights and an offset to be scaled."""

    name: str
    mesh: Mesh
    anchors: np.ndarray  # n × 3 base vertices
    shares: np.ndarray  # n × 3
    offsets: np.ndarray  # n × 3
    scales: list[tuple[int, int, float]]  # for x, y, z: two base vertices and their distance at which the scale is 1
    deleted: np.ndarray  # base vertices that the garment hides

    def fit(self, base: np.ndarray) -> np.ndarray:
        """The positions of the vertices on a body with the base vertices `base`."""
        scale = [abs(base[a, axis] - base[b, axis]) / length for axis, (a, b, length) in enumerate(self.scales)]
        return np.einsum("nk,nkc->nc", self.shares, base[self.anchors]) + self.offsets * scale


def read_mhclo(path: Path) -> Clothing:
    scales: dict[str, tuple[int, int, float]] = {}
    anchors, shares, offsets, deleted = [], [], [], []
    obj, section = None, ""
    for line in path.read_text(encoding="utf-8").splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if words[0] in ("verts", "delete_verts"):
            section = words[0]
        elif words[0].lstrip("-").replace(".", "").isdigit():
            if section == "verts" and len(words) == 1:
                anchors.append([int(words[0])] * 3)
                shares.append([1, 0, 0])
                offsets.append([0, 0, 0])
            elif section == "verts":
                anchors.append([int(w) for w in words[:3]])
                shares.append([float(w) for w in words[3:6]])
                offsets.append([float(w) for w in words[6:9]] if len(words) >= 9 else [0, 0, 0])
            elif section == "delete_verts":
                at = 0
                while at < len(words):
                    first = int(words[at])
                    ranged = at + 2 < len(words) and words[at + 1] == "-"
                    last = int(words[at + 2]) if ranged else first
                    deleted.extend(range(first, last + 1))
                    at += 3 if ranged else 1
        elif words[0] in ("x_scale", "y_scale", "z_scale"):
            scales[words[0][0]] = (int(words[1]), int(words[2]), float(words[3]))
        elif words[0] == "obj_file":
            obj = words[1]
    if obj is None:
        raise ValueError(f"{path}: no obj_file")
    mesh = read_obj(path.parent / obj)
    if len(mesh.positions) != len(anchors):
        raise ValueError(f"{path}: {len(anchors)} bound vertices, {len(mesh.positions)} in {obj}")
    return Clothing(
        path.stem,
        mesh,
        np.array(anchors),
        np.array(shares, np.float64),
        np.array(offsets, np.float64),
        [scales[k] for k in "xyz"],
        np.array(sorted(set(deleted)), np.int64),
    )


@dataclass
class Motion:
    """Rotations of a `.bvh`, in axes that are parallel to the world's at rest (y up)."""

    bones: list[str]
    parents: list[int]  # -1 for the root
    offsets: np.ndarray  # bones × 3, from the parent's joint at rest
    rotations: np.ndarray  # frames × bones × 3 × 3
    seconds: float  # of a frame


def _turn(axis: str, degrees: float) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    i, j = {"X": (1, 2), "Y": (2, 0), "Z": (0, 1)}[axis]
    out = np.eye(3)
    out[i, i] = out[j, j] = c
    out[i, j], out[j, i] = -s, s
    return out


def read_bvh(path: Path, z_is_up: bool = True) -> Motion:
    bones: list[str] = []
    channels: list[list[str]] = []
    parents: list[int] = []
    offsets: list[list[float]] = []
    open_joints: list[int] = []  # -1 stands for the end of a limb
    lines = iter(path.read_text().splitlines())
    for line in lines:
        words = line.split()
        if not words:
            continue
        if words[0] in ("ROOT", "JOINT"):
            parents.append(open_joints[-1] if open_joints else -1)
            open_joints.append(len(bones))
            bones.append(words[1])
            channels.append([])
        elif words[0] == "End":
            open_joints.append(-1)
        elif words[0] == "}":
            open_joints.pop()
        elif words[0] == "OFFSET" and open_joints[-1] >= 0:
            offsets.append([float(x) for x in words[1:4]])
        elif words[0] == "CHANNELS":
            channels[-1] = words[2:]
        elif words[0] == "MOTION":
            break
    count = int(next(lines).split()[1])
    seconds = float(next(lines).split()[2])
    # (x, y, z) with z up becomes (x, z, -y).
    swap = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]], float) if z_is_up else np.eye(3)
    rotations = np.zeros((count, len(bones), 3, 3))
    for frame in range(count):
        values = iter([float(x) for x in next(lines).split()])
        for bone, names in enumerate(channels):
            turn = np.eye(3)
            for name in names:
                value = next(values)
                if name.endswith("rotation"):
                    turn = turn @ _turn(name[0], value)
            rotations[frame, bone] = swap @ turn @ swap.T
    return Motion(bones, parents, np.array(offsets) @ swap.T, rotations, seconds)


class Library:
    """The unpacked material. Everything is read at the first use and kept."""

    def __init__(self, root: Path):
        self.root = Path(root)
        if not (self.root / "3dobjs/base.obj").is_file():
            raise FileNotFoundError(f"{self.root}: no 3dobjs/base.obj; unpack makehuman-cc0.tar.xz and give its folder")
        self._targets: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self._clothing: dict[str, Clothing] = {}
        self._motions: dict[str, Motion] = {}

    @cached_property
    def base(self) -> Mesh:
        return read_obj(self.root / "3dobjs/base.obj")

    @cached_property
    def names(self) -> dict[str, list[str]]:
        """Names of targets by folder, each sorted."""
        out: dict[str, list[str]] = {}
        for path in sorted((self.root / "targets").rglob("*.target")):
            out.setdefault(str(path.parent.relative_to(self.root / "targets")), []).append(path.stem)
        return out

    def target(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Vertex numbers and displacements of `targets/<name>.target`."""
        if name not in self._targets:
            text = (self.root / "targets" / f"{name}.target").read_text()
            rows = " ".join(line for line in text.splitlines() if line and not line.startswith("#")).split()
            values = np.array(rows, np.float64).reshape(-1, 4)
            self._targets[name] = (values[:, 0].astype(np.int64), values[:, 1:].astype(np.float32))
        return self._targets[name]

    def clothing(self, path: str) -> Clothing:
        """The garment or hair of a `.mhclo`, by its path below the root."""
        if path not in self._clothing:
            self._clothing[path] = read_mhclo(self.root / path)
        return self._clothing[path]

    def hair_styles(self) -> list[str]:
        return [str(p.relative_to(self.root)) for p in sorted((self.root / "assets/hair").glob("*/*.mhclo"))]

    def garments(self, pattern: str) -> list[str]:
        return [
            str(p.relative_to(self.root)) for p in sorted((self.root / "assets/clothes").glob(f"{pattern}/*.mhclo"))
        ]

    @cached_property
    def skeleton(self) -> dict:
        return json.loads((self.root / "rigs/default.mhskel").read_text())

    @cached_property
    def bones(self) -> list[str]:
        """Parents come before their children."""
        bones, out = self.skeleton["bones"], []
        pending = sorted(bones)
        while pending:
            ready = [b for b in pending if bones[b]["parent"] is None or bones[b]["parent"] in out]
            if not ready:
                raise ValueError(f"default.mhskel: no root above {pending}")
            out += ready
            pending = [b for b in pending if b not in ready]
        return out

    @cached_property
    def weights(self) -> np.ndarray:
        """Base vertices × bones, every row sums to 1."""
        table = json.loads((self.root / "rigs/default_weights.mhw").read_text())["weights"]
        out = np.zeros((len(self.base.positions), len(self.bones)), np.float32)
        for name, pairs in table.items():
            if name in self.bones and pairs:
                rows = np.array(pairs)
                np.add.at(out[:, self.bones.index(name)], rows[:, 0].astype(np.int64), rows[:, 1].astype(np.float32))
        total = out.sum(1, keepdims=True)
        out[total[:, 0] < 1e-6, self.bones.index("root")] = 1
        return out / np.maximum(out.sum(1, keepdims=True), 1e-6)

    def motion(self, path: str) -> Motion:
        """The motion of a `.bvh`, by its path below the root."""
        if path not in self._motions:
            self._motions[path] = read_bvh(self.root / path)
        return self._motions[path]
