"""Hair as strands: shells and cards of the hair meshes with frayed borders, and grown single strands, which are what
makes an outline soft. Brows, lashes and beards are made the same way.

A vertex of a card has its place; a vertex of a grown strand has a half-width and is spread across the line of sight by
the renderer. Both carry the direction of the hair, along which it shines.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .assets import BODY_VERTICES, Library
from .person import (
    STRAND,
    _bytes,
    borders,
    bound_weights,
    bumps,
    components,
    mask_of,
    nearest,
    top_weights,
    triangles,
    vertex_normals,
)
from .rig import Skeleton

CARD, STRAND_KIND, BROW, LASH = 0, 1, 2, 3


@dataclass
class Style:
    name: str
    asset: str | None
    hat: bool
    volume: float = 0.0  # by how much the mesh is blown up, as a share
    wave: float = 0.0  # size of waves, decimetres
    lying: int = 0  # strands along the hair
    flying: int = 0  # strands that leave it
    length: float = 1.0
    curl: float = 0.0
    outward: float = 0.1
    paint: float = 1.0


def choose(library: Library, rng: np.random.Generator, drawn: dict) -> Style:
    male = drawn["male"] > 0.5
    roll = rng.random()
    old = drawn["ages"]["old"]
    if roll < (0.08 + 0.2 * old if male else 0.015):
        return Style("bald", None, True, paint=float(rng.choice([0, 0, 0.25, 0.5])))
    if roll < (0.2 if male else 0.05):
        return Style(
            "buzz",
            None,
            True,
            lying=int(rng.integers(900, 1600)),
            length=float(rng.uniform(0.06, 0.2)),
            outward=0.6,
            paint=float(rng.uniform(0.75, 1)),
        )
    if roll < (0.36 if male else 0.14):
        return Style(
            "crop",
            None,
            False,
            lying=int(rng.integers(1500, 2400)),
            length=float(rng.uniform(0.25, 0.8)),
            outward=float(rng.uniform(0.3, 1.0)),
            curl=float(rng.choice([0, 0.3, 1.0])),
            flying=int(rng.integers(0, 80)),
        )
    if roll < (0.42 if male else 0.24):
        return Style(
            "curls",
            None,
            False,
            lying=int(rng.integers(1300, 2000)),
            length=float(rng.uniform(0.7, 2.0)),
            outward=float(rng.uniform(0.9, 1.5)),
            curl=float(rng.uniform(1.5, 3)),
            flying=int(rng.integers(50, 200)),
        )
    short = [s for s in library.hair_styles() if "short" in s or "afro" in s]
    long = [s for s in library.hair_styles() if s not in short]
    pool = short if rng.random() < (0.75 if male else 0.15) else long
    asset = pool[rng.integers(len(pool))]
    name = asset.split("/")[-2]
    return Style(
        name,
        asset,
        name in ("short02", "short03", "long01", "bob02"),
        float(rng.uniform(-0.01, 0.1)),
        float(rng.choice([0, 0.04, 0.1])) if pool is long else 0.02,
        int(rng.integers(300, 900)),
        int(rng.choice([20, 80, 200, 350])),
        float(rng.uniform(0.35, 0.8)) if pool is short else float(rng.uniform(0.7, 1.8)),
        float(rng.choice([0.1, 0.3, 0.8])),
        float(rng.uniform(0.1, 0.25)),
    )


def _normalised(v: np.ndarray) -> np.ndarray:
    return v / np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), 1e-9)


def flow(points: np.ndarray, normals: np.ndarray, crown: np.ndarray) -> np.ndarray:
    """Where hair runs: from the crown outwards, then down, along the surface."""
    away = points - crown
    below = np.clip(-away[:, 1:2] / 0.9, 0, 1)
    radial = away * [1, 0, 1]
    direction = _normalised(radial) * (1 - below) + np.array([0, -1.0, 0]) * (0.25 + below)
    direction = direction - normals * (direction * normals).sum(1, keepdims=True)
    return _normalised(direction)


class Hair:
    def __init__(
        self,
        library: Library,
        rng: np.random.Generator,
        base: np.ndarray,
        skeleton: Skeleton,
        style: Style,
        colour: np.ndarray,
        drawn: dict,
        hat: bool,
    ):
        self.parts: list[np.ndarray] = []
        self.indices: list[np.ndarray] = []
        self.count = 0
        self.base, self.library, self.rng = base, library, rng
        self.skin_normals = vertex_normals(base, library.base.faces[library.base.groups["body"]])
        head = base[:BODY_VERTICES][library.weights[:BODY_VERTICES, library.bones.index("head")] > 0.5]
        self.crown = np.array([0, head[:, 1].max() + 0.05, np.median(head[:, 2]) - 0.35])
        self.colour = colour

        inside = self._hairy()
        self.scalp = inside * style.paint
        lips = mask_of(library, ["mouth/mouth-upperlip-volume-incr", "mouth/mouth-lowerlip-volume-incr"], BODY_VERTICES)
        self.beard = np.zeros(BODY_VERTICES)
        adult_man = drawn["male"] > 0.5 and drawn["ages"]["child"] == 0
        if adult_man and rng.random() < 0.5:
            self._beard(lips, rng)

        if style.asset:
            self._mesh(style, colour, inside)
        elif style.lying:
            self._own(style, inside, hat)
        self._brows_and_lashes(colour)
        self.vertices = np.concatenate(self.parts)
        self.triangles = np.concatenate(self.indices).astype(np.int32)

    def _hairy(self) -> np.ndarray:
        """How much each body vertex belongs to the scalp, by an outline around the head: the hairline is high over the
        forehead, comes down before the ears, passes above them and goes down to the nape.
        """
        brows = self.library.clothing("assets/eyebrows/eyebrow001/eyebrow001.mhclo").fit(self.base)
        brow, top = brows[:, 1].mean(), self.crown[1]
        points = self.base[:BODY_VERTICES]
        way = points - self.crown
        around = np.degrees(np.abs(np.arctan2(way[:, 0], way[:, 2])))
        rise = top - brow
        high = self.rng.uniform(0.42, 0.62)
        limit = np.interp(
            around,
            [0, 30, 48, 60, 72, 85, 100, 112, 125, 150, 180],
            brow + rise * np.array([high, high + 0.03, high * 0.75, 0.3, -0.1, -0.1, 0.12, 0.0, -0.5, -0.78, -0.8]),
        )
        out = np.clip((points[:, 1] - limit) / (0.09 * rise) + 0.15 * bumps(self.rng, points, 0.12), 0, 1)
        head = self.library.weights[:BODY_VERTICES, self.library.bones.index("head")]
        return out * (head > 0.15) * (points[:, 1] > brow - 1.1 * rise)

    def _beard(self, lips: np.ndarray, rng: np.random.Generator) -> None:
        w = self.library.weights[:BODY_VERTICES]
        points = self.base[:BODY_VERTICES]
        mouth = np.average(points, axis=0, weights=lips**2)
        jaw = w[:, self.library.bones.index("jaw")] + w[:, self.library.bones.index("special04")]
        lower = np.clip(jaw * 1.6, 0, 1) * (points[:, 1] < mouth[1] + 0.25) * (points[:, 1] > mouth[1] - 1.0)
        lower *= points[:, 2] > mouth[2] - 1.1
        front = points[:, 2] > mouth[2] - 0.35
        over = (
            np.clip(1.4 - np.abs(points[:, 0]) / 0.3, 0, 1)
            * front
            * (points[:, 1] > mouth[1])
            * (points[:, 1] < mouth[1] + 0.3)
        )
        kind = rng.random()
        region = np.maximum(lower, over) if kind < 0.7 else lower if kind < 0.8 else over
        region = region * (1 - np.clip(lips * 1.5, 0, 1)) * (front | (points[:, 1] < mouth[1] + 0.1))
        dense = rng.choice([0.25, 0.45, 0.9])
        self.beard = region * dense
        if dense > 0.8:
            roots = np.nonzero(region > 0.5)[0]
            if len(roots):
                pick = roots[rng.integers(len(roots), size=900)]
                length = rng.uniform(0.08, 0.9) * rng.uniform(0.4, 1, 900)
                p = points[pick] + rng.normal(0, 0.04, (900, 3))
                direction = _normalised(
                    self.skin_normals[pick] * 0.5 + np.array([0, -1.0, 0.05]) + rng.normal(0, 0.25, (900, 3))
                )
                self._grow(p, direction, length, 5, 0.006, 0.3, w[pick], rng.uniform(0.6, 1.1, 900), 0.25)

    # --- cards -----------------------------------------------------------------------------------------------------

    def _cards(
        self,
        positions: np.ndarray,
        faces: np.ndarray,
        weights: np.ndarray,
        edge: np.ndarray,
        kind: int,
        colour: np.ndarray,
        tangents: np.ndarray,
        opacity: float = 1.0,
    ) -> None:
        out = np.zeros(len(positions), STRAND)
        out["position"], out["normal"], out["side"] = positions, vertex_normals(positions, faces), tangents
        out["card"][:, 0] = self.rng.random()
        out["card"][:, 1] = np.linalg.norm(positions - self.crown, axis=1)
        out["card"][:, 2], out["card"][:, 3] = edge, kind
        out["bones"], out["weights"] = top_weights(weights)
        out["colour"][:, :3] = _bytes(colour)
        out["colour"][:, 3] = round(255 * opacity)
        self._add(out, triangles(faces))

    def _add(self, vertices: np.ndarray, indices: np.ndarray) -> None:
        self.parts.append(vertices)
        self.indices.append(indices + self.count)
        self.count += len(vertices)

    def _mesh(self, style: Style, colour: np.ndarray, inside: np.ndarray) -> None:
        clothing = self.library.clothing(style.asset)
        faces = clothing.mesh.faces
        positions = clothing.fit(self.base)
        middle = self.crown - [0, 0.9, -0.35]
        positions = middle + (positions - middle) * (1 + style.volume)
        normals = vertex_normals(positions, faces)
        hanging = np.clip((self.crown[1] - positions[:, 1]) / 2, 0, 1)[:, None]
        positions = positions + normals * (style.wave * bumps(self.rng, positions, 0.5))[:, None] * hanging
        weights = bound_weights(self.library, clothing)

        label = components(len(positions), faces)
        is_border = np.zeros(len(positions), bool)
        is_border[borders(faces)] = True
        edge = np.full(len(positions), 0.62)
        body = self.base[:BODY_VERTICES]
        to_skin, _ = nearest(positions, body[body[:, 1] > self.crown[1] - 3.5][::2])
        for part in np.unique(label):
            here = np.nonzero(label == part)[0]
            rim = here[is_border[here]]
            if len(rim) == 0 or len(rim) > 0.7 * len(here):
                continue
            distance, which = nearest(positions[here], positions[rim])
            wide = np.where(to_skin[rim[which]] < 0.25, 0.22, 0.55)
            edge[here] = np.clip(distance / wide, 0, 1)
        shade = 1 + 0.12 * bumps(self.rng, positions, 0.25)[:, None]
        self._cards(positions, faces, weights, edge, CARD, colour * shade, flow(positions, normals, self.crown))

        quads = positions[faces]
        area = np.linalg.norm(np.cross(quads[:, 2] - quads[:, 0], quads[:, 3] - quads[:, 1]), axis=1)
        for number, out, stiff in ((style.lying, style.outward, 0.5), (style.flying, 0.7, 0.15)):
            if number == 0:
                continue
            pick = self.rng.choice(len(faces), number, p=area / area.sum())
            mix = self.rng.dirichlet([1, 1, 1, 1], number)
            p = np.einsum("nk,nkc->nc", mix, quads[pick])
            owner = faces[pick, 0]
            n = normals[owner]
            n = n * np.sign((n * (p - middle)).sum(1, keepdims=True) + 0.2)
            p = p + n * 0.02
            along = flow(p, n, self.crown)
            direction = _normalised(
                along
                + n * out * self.rng.uniform(0.2, 1.6, (number, 1))
                + self.rng.normal(0, 0.12 + 0.3 * (out > 0.5), (number, 3))
            )
            length = (style.length if out < 0.5 else min(0.55 * style.length, 0.75)) * self.rng.uniform(
                0.3, 1.2, number
            )
            self._grow(
                p,
                direction,
                length,
                8,
                0.007,
                stiff,
                weights[owner],
                self.rng.uniform(0.7, 1.5, number),
                style.curl,
                positions,
                weights,
            )

    def _own(self, style: Style, inside: np.ndarray, hat: bool) -> None:
        """Hair that grows from the scalp itself."""
        faces = self.library.base.faces[self.library.base.groups["body"]]
        faces = faces[(faces < BODY_VERTICES).all(1)]
        faces = faces[inside[faces].min(1) > 0.4]
        quads = self.base[faces]
        area = np.linalg.norm(np.cross(quads[:, 2] - quads[:, 0], quads[:, 3] - quads[:, 1]), axis=1)
        number = style.lying + style.flying
        pick = self.rng.choice(len(faces), number, p=area / area.sum())
        p = np.einsum("nk,nkc->nc", self.rng.dirichlet([1, 1, 1, 1], number), quads[pick])
        n = self.skin_normals[faces[pick, 0]]
        if hat:
            low = p[:, 1] < self.crown[1] - 0.8
            p, n, pick = p[low], n[low], pick[low]
            number = len(p)
        direction = _normalised(flow(p, n, self.crown) + n * style.outward + self.rng.normal(0, 0.2, (number, 3)))
        length = style.length * self.rng.uniform(0.5, 1.15, number)
        weights = self.library.weights[faces[pick, 0]]
        wide = {"buzz": 0.012, "crop": 0.022, "curls": 0.03}[style.name]
        stiff = 0.1 if style.name != "curls" else 0.05
        self._grow(
            p,
            direction,
            length,
            4 if style.name == "buzz" else 7 if style.name == "crop" else 8,
            wide,
            stiff,
            weights,
            self.rng.uniform(0.6, 1.5, number),
            style.curl,
        )

    # --- grown strands ---------------------------------------------------------------------------------------------

    def _grow(
        self,
        start: np.ndarray,
        direction: np.ndarray,
        length: np.ndarray,
        steps: int,
        width: float,
        stiff: float,
        weights: np.ndarray,
        shade: np.ndarray,
        curl: float,
        hair: np.ndarray | None = None,
        hair_weights: np.ndarray | None = None,
    ) -> None:
        """Strands as ribbons. `stiff` is the pull of gravity per step, `curl` the turns per decimetre."""
        count = len(start)
        if count == 0:
            return
        rng = self.rng
        side = _normalised(np.cross(direction, rng.normal(0, 1, (count, 3))))
        up = np.cross(direction, side)
        phase = rng.uniform(0, 6.28, (count, 1))
        p, d = start.copy(), direction.copy()
        middle = self.crown - [0, 0.9, -0.35]
        nodes, tangents = [], []
        radius = 0.07 * min(curl, 1.2) * rng.uniform(0.3, 1.2, (count, 1))
        for k in range(steps + 1):
            angle = phase + 6.28 * curl * (length[:, None] * k / steps)
            grow = min(1.0, k / 2)
            nodes.append(
                p + (side * (np.cos(angle) - np.cos(phase)) + up * (np.sin(angle) - np.sin(phase))) * radius * grow
            )
            d = _normalised(d + np.array([0, -1.0, 0]) * stiff / np.sqrt(steps) + rng.normal(0, 0.06, (count, 3)))
            p = p + d * (length[:, None] / steps)
            # Not into the head.
            away = p - middle
            close = np.linalg.norm(away, axis=1, keepdims=True)
            p = np.where(close < 0.85, middle + away / np.maximum(close, 1e-6) * 0.85, p)
        nodes = np.stack(nodes, 1)  # strands × nodes × 3
        tangents = _normalised(np.gradient(nodes, axis=1))
        outward = _normalised(nodes - middle)
        out = np.zeros((count, steps + 1, 2), STRAND)
        out["position"], out["side"] = nodes[:, :, None], tangents[:, :, None]
        out["normal"] = _normalised(outward - tangents * (outward * tangents).sum(-1, keepdims=True))[:, :, None]
        t = np.linspace(0, 1, steps + 1)
        half = width * rng.uniform(0.6, 1.4, count)[:, None] * (1 - 0.75 * t**2)
        out["width"][:, :, 0], out["width"][:, :, 1] = half, -half
        out["card"][..., 0] = rng.random(count)[:, None, None]
        out["card"][..., 1] = t[None, :, None]
        out["card"][..., 2] = 1
        out["card"][..., 3] = STRAND_KIND
        out["colour"][..., :3] = _bytes(self.colour * shade[:, None])[:, None, None]
        out["colour"][..., 3] = np.rint(255 * (1 - 0.45 * t**2))[None, :, None].astype(np.uint8)
        bones, shares = top_weights(weights)
        out["bones"], out["weights"] = bones[:, None, None], shares[:, None, None]
        if hair is not None and hair_weights is not None and np.ptp(hair[:, 1]) > 2.6:
            _, owner = nearest(nodes.reshape(-1, 3), hair)  # long hair: tips follow the shoulders as the mesh does
            bones, shares = top_weights(hair_weights)
            out["bones"] = bones[owner].reshape(count, steps + 1, 1, 4)
            out["weights"] = shares[owner].reshape(count, steps + 1, 1, 4)
        at = np.arange(count * (steps + 1) * 2).reshape(count, steps + 1, 2)
        a, b, c, e = at[:, :-1, 0], at[:, :-1, 1], at[:, 1:, 0], at[:, 1:, 1]
        self._add(
            out.reshape(-1),
            np.concatenate([np.stack([a, b, c], -1).reshape(-1, 3), np.stack([b, e, c], -1).reshape(-1, 3)]),
        )

    def _brows_and_lashes(self, colour: np.ndarray) -> None:
        rng = self.rng
        brow = f"eyebrow{rng.integers(1, 13):03d}"
        lash = f"eyelashes{rng.integers(1, 5):02d}"
        for path, kind, tone, opacity in (
            (f"assets/eyebrows/{brow}/{brow}.mhclo", BROW, colour * 0.7, rng.uniform(0.5, 0.95)),
            (f"assets/eyelashes/{lash}/{lash}.mhclo", LASH, np.full(3, 0.01), 0.7),
        ):
            clothing = self.library.clothing(path)
            faces = clothing.mesh.faces
            positions = clothing.fit(self.base)
            rim = borders(faces)
            distance, _ = nearest(positions, positions[rim])
            edge = np.clip(distance / (0.05 if kind == BROW else 0.06), 0, 1)
            normals = vertex_normals(positions, faces)
            if kind == BROW:
                positions = positions + normals * 0.01
            tangents = _normalised(np.array([1.0, 0.25, 0]) * np.sign(positions[:, :1]))
            self._cards(
                positions,
                faces,
                bound_weights(self.library, clothing),
                edge,
                kind,
                np.tile(tone, (len(positions), 1)),
                tangents,
                opacity,
            )
