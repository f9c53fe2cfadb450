"""One person drawn from a seed: body, skin, clothes and hair as vertex arrays ready for the renderer.

The material has meshes but hardly any pictures (they are pointers to a store that is not part of it), so skin, cloth
and hair are painted here: skin by regions of the face and of the body, cloth by patterns in the shader, hair as strands.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .assets import BODY_VERTICES, Clothing, Library, Mesh
from .rig import Skeleton

SKIN, EYE, FIRST_CLOTH, MATERIALS = 0, 1, 2, 16

SOLID = np.dtype(
    [
        ("position", "3f4"),
        ("normal", "3f4"),
        ("uv", "2f4"),
        ("bones", "4u1"),
        ("weights", "4u1"),
        ("colour", "4u1"),
        ("material", "f4"),
    ]
)
STRAND = np.dtype(
    [
        ("position", "3f4"),
        ("normal", "3f4"),
        ("side", "3f4"),
        ("width", "f4"),
        ("card", "4f4"),
        ("bones", "4u1"),
        ("weights", "4u1"),
        ("colour", "4u1"),
    ]
)


def linear(srgb) -> np.ndarray:
    c = np.asarray(srgb, np.float64)
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


@dataclass
class Material:
    """How a surface looks; colours are linear."""

    colour: np.ndarray = field(default_factory=lambda: np.ones(3))
    second: np.ndarray = field(default_factory=lambda: np.ones(3))
    pattern: float = 0
    scale: float = 1
    gloss: float = 0.1
    rough: float = 0.3  # strength of wrinkles


@dataclass
class Person:
    skeleton: Skeleton
    solid: np.ndarray
    solid_triangles: np.ndarray
    strands: np.ndarray
    strand_triangles: np.ndarray
    materials: list[Material]
    eye_hue: np.ndarray
    holding: str  # the side of the hand that holds something, or nothing
    notes: dict


# --- shape --------------------------------------------------------------------------------------------------------


def _split(value: float, names: tuple[str, str, str]) -> dict[str, float]:
    """A slider from 0 to 1 as shares of its two ends and its middle."""
    low, high = max(0.0, 1 - 2 * value), max(0.0, 2 * value - 1)
    return {k: v for k, v in zip(names, (low, 1 - low - high, high)) if v > 0.02}


def shape(library: Library, rng: np.random.Generator) -> tuple[np.ndarray, dict]:
    """Base vertices of a random body, and what was drawn."""
    base = library.base.positions.astype(np.float64).copy()
    male = float(np.clip(rng.choice([0.06, 0.94]) + rng.normal(0, 0.06), 0, 1))
    ages = {"child": 0.0, "young": 1.0, "old": 0.0}
    kind = rng.random()
    if kind < 0.08:
        ages["child"] = rng.uniform(0.45, 0.9)
    else:
        ages["old"] = rng.beta(1.0, 2.2) * 0.95
    ages["young"] = 1 - ages["child"] - ages["old"]
    races = dict(zip(("african", "asian", "caucasian"), rng.dirichlet([0.45] * 3)))
    sexes = {"male": male, "female": 1 - male}
    muscle = _split(rng.beta(2, 2), ("minmuscle", "averagemuscle", "maxmuscle"))
    weight = _split(rng.beta(1.8, 1.8), ("minweight", "averageweight", "maxweight"))
    height = _split(rng.beta(2, 2), ("minheight", "", "maxheight"))
    figure = _split(rng.beta(2, 2), ("uncommonproportions", "", "idealproportions"))

    def add(name: str, share: float) -> None:
        if abs(share) > 0.015:
            vertices, moves = library.target(name)
            base[vertices] += moves * share

    known = {folder: set(names) for folder, names in library.names.items()}
    for sex, s in sexes.items():
        for age, a in ages.items():
            for race, r in races.items():
                add(f"macrodetails/{race}-{sex}-{age}", s * a * r)
            for m, mw in muscle.items():
                for w, ww in weight.items():
                    share = s * a * mw * ww
                    add(f"macrodetails/universal-{sex}-{age}-{m}-{w}", share)
                    for folder, extra in (("height", height), ("proportions", figure)):
                        for e, ew in extra.items():
                            name = f"{sex}-{age}-{m}-{w}-{e}"
                            if e and name in known.get(f"macrodetails/{folder}", ()):
                                add(f"macrodetails/{folder}/{name}", share * ew)
    for folder, rate, strength in (
        ("head", 0.35, 0.45),
        ("nose", 0.4, 0.5),
        ("mouth", 0.3, 0.45),
        ("chin", 0.4, 0.5),
        ("forehead", 0.4, 0.5),
        ("neck", 0.3, 0.4),
        ("torso", 0.3, 0.35),
        ("hip", 0.3, 0.35),
        ("stomach", 0.3, 0.4),
    ):
        for name in library.names.get(folder, []):
            if "-trans-" in name and folder in ("torso", "hip", "head", "neck"):
                continue  # these move parts off the joints
            if rng.random() < rate * 0.5:
                add(f"{folder}/{name}", min(abs(rng.normal(0, strength)), 0.9))
    for folder, rate in (("cheek", 0.2), ("armslegs", 0.08)):
        for name in library.names.get(folder, []):
            if name.startswith("r-") or "-trans-" in name or "valgus" in name or "foot" in name:
                continue
            if rng.random() < rate:
                share = min(abs(rng.normal(0, 0.4)), 0.8)
                add(f"{folder}/{name}", share)
                if name.startswith("l-"):
                    add(f"{folder}/r-{name[2:]}", share)
    # A fixed expression; the jaw moves with the rig.
    face = "expression/units/caucasian"
    for name, top in (
        ("mouth-corner-puller", 0.8),
        ("mouth-elevation", 0.4),
        ("mouth-pursing", 0.3),
        ("mouth-open", 0.3),
        ("eyebrows-left-up", 0.5),
        ("eyebrows-left-down", 0.4),
        ("eye-left-slit", 0.4),
    ):
        if rng.random() < 0.35:
            share = rng.uniform(0, top)
            add(f"{face}/{name}", share)
            if "left" in name:
                add(f"{face}/{name.replace('left', 'right')}", share)
    return base, {"male": male, "ages": ages, "races": races}


# --- geometry -----------------------------------------------------------------------------------------------------


def vertex_normals(positions: np.ndarray, faces: np.ndarray) -> np.ndarray:
    a, b, c, d = (positions[faces[:, k]] for k in range(4))
    across = np.cross(c - a, d - b)
    degenerate = faces[:, 2] == faces[:, 3]
    across[degenerate] = np.cross(b - a, c - a)[degenerate]
    out = np.zeros_like(positions)
    for k in range(4):
        use = slice(None) if k < 3 else ~degenerate
        np.add.at(out, faces[use, k], across[use])
    return out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-9)


def triangles(faces: np.ndarray) -> np.ndarray:
    second = faces[faces[:, 2] != faces[:, 3]]
    return np.concatenate([faces[:, [0, 1, 2]], second[:, [0, 2, 3]]])


def components(count: int, faces: np.ndarray) -> np.ndarray:
    """A label of the connected part for each vertex."""
    label = np.arange(count)
    while True:
        least = label[faces].min(1)
        new = label.copy()
        np.minimum.at(new, faces.ravel(), np.repeat(least, faces.shape[1]))
        new = new[new]
        if np.array_equal(new, label):
            return label
        label = new


def borders(faces: np.ndarray) -> np.ndarray:
    """The vertices on edges that only one face has."""
    edges = np.concatenate([faces[:, [k, (k + 1) % 4]] for k in range(4)])
    edges = np.sort(edges[edges[:, 0] != edges[:, 1]], 1)
    unique, counts = np.unique(edges, axis=0, return_counts=True)
    return np.unique(unique[counts == 1])


def top_weights(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The four strongest bones of each vertex; weights as bytes that sum to 255."""
    order = np.argsort(-weights, axis=1, kind="stable")[:, :4]
    best = np.take_along_axis(weights, order, 1)
    best = best / np.maximum(best.sum(1, keepdims=True), 1e-9)
    out = np.floor(best * 255).astype(np.int64)
    out[:, 0] += 255 - out.sum(1)
    return order.astype(np.uint8), out.astype(np.uint8)


def bound_weights(library: Library, clothing: Clothing) -> np.ndarray:
    shares = np.clip(clothing.shares, 0, None)
    shares = shares / np.maximum(shares.sum(1, keepdims=True), 1e-6)
    return np.einsum("nk,nkb->nb", shares.astype(np.float32), library.weights[clothing.anchors])


def visible(faces: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """Which faces have a vertex that is not hidden."""
    return ~hidden[faces].all(1)


def nearest(points: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance to and number of the nearest of `others`, for each of `points`."""
    index = np.empty(len(points), np.int64)
    distance = np.empty(len(points))
    square = (others**2).sum(1)
    for at in range(0, len(points), 512):
        p = points[at : at + 512]
        d = square - 2 * p @ others.T
        index[at : at + 512] = d.argmin(1)
        distance[at : at + 512] = np.linalg.norm(p - others[index[at : at + 512]], axis=1)
    return distance, index


def bumps(rng: np.random.Generator, points: np.ndarray, size: float, count: int = 6) -> np.ndarray:
    """A smooth random function of place, about -1 to 1, with features of about `size`."""
    waves = rng.normal(0, 1 / size, (count, 3))
    return np.sin(points @ waves.T * 2 + rng.uniform(0, 6.28, count)).sum(1) / np.sqrt(count)


# --- looks --------------------------------------------------------------------------------------------------------

_TONES = np.array(
    [
        [0.97, 0.80, 0.72],
        [0.93, 0.74, 0.63],
        [0.86, 0.65, 0.52],
        [0.76, 0.55, 0.41],
        [0.60, 0.41, 0.29],
        [0.46, 0.30, 0.21],
        [0.33, 0.21, 0.15],
        [0.24, 0.15, 0.11],
    ]
)
_HAIR = np.array(
    [
        [0.06, 0.05, 0.05],
        [0.12, 0.08, 0.06],
        [0.22, 0.14, 0.09],
        [0.33, 0.22, 0.14],
        [0.48, 0.34, 0.20],
        [0.68, 0.52, 0.32],
        [0.82, 0.70, 0.48],
        [0.50, 0.22, 0.10],
        [0.62, 0.30, 0.14],
    ]
)


def _bytes(linear_colour: np.ndarray) -> np.ndarray:
    """Colours as bytes on a square-root scale (the shader squares them)."""
    return np.rint(np.sqrt(np.clip(linear_colour, 0, 1)) * 255).astype(np.uint8)


def hair_colour(rng: np.random.Generator, drawn: dict) -> np.ndarray:
    light = drawn["races"]["caucasian"]
    weights = np.array([2.5, 2.2, 2.0, 1.6 * light, 1.5 * light, 1.5 * light, 1.3 * light, 0.7 * light, 0.5 * light])
    colour = _HAIR[rng.choice(len(_HAIR), p=weights / weights.sum())] * rng.uniform(0.8, 1.2)
    grey = np.clip(drawn["ages"]["old"] * 1.6 - rng.uniform(0.2, 0.9), 0, 1)
    colour = colour * (1 - grey) + np.array([0.74, 0.73, 0.72]) * rng.uniform(0.7, 1.1) * grey
    if rng.random() < 0.06:
        colour = _hsv(rng.random(), rng.uniform(0.4, 0.9), rng.uniform(0.4, 0.9))
    return linear(np.clip(colour, 0.02, 0.95))


def _hsv(h: float, s: float, v: float) -> np.ndarray:
    k = (np.array([5, 3, 1]) + h * 6) % 6
    return v - v * s * np.clip(np.minimum(k, 4 - k), 0, 1)


def cloth_colour(rng: np.random.Generator) -> np.ndarray:
    kind = rng.random()
    if kind < 0.28:  # black, grey, white
        return linear(np.full(3, rng.choice([0.07, 0.12, 0.2, 0.35, 0.55, 0.8, 0.92])) * rng.uniform(0.94, 1.06, 3))
    if kind < 0.5:  # blues of denim and navy
        return linear(_hsv(rng.uniform(0.56, 0.66), rng.uniform(0.3, 0.75), rng.uniform(0.15, 0.6)))
    if kind < 0.68:  # earth, skin-like on purpose
        return linear(_hsv(rng.uniform(0.03, 0.12), rng.uniform(0.2, 0.6), rng.uniform(0.2, 0.85)))
    return linear(_hsv(rng.random(), rng.uniform(0.25, 0.95), rng.uniform(0.25, 0.95)))


def cloth(rng: np.random.Generator, plain: float = 0.5) -> Material:
    pattern = 0 if rng.random() < plain else int(rng.integers(1, 8))
    return Material(
        cloth_colour(rng),
        cloth_colour(rng),
        pattern,
        float(np.exp(rng.uniform(-1.2, 0.5))),
        float(rng.choice([0.02, 0.05, 0.1, 0.35], p=[0.4, 0.3, 0.2, 0.1])),
        float(rng.uniform(0.3, 1.0)),
    )


def mask_of(library: Library, names: list[str], count: int, full: float = 0.5) -> np.ndarray:
    """How far targets move each vertex, 1 where it is at least `full` of the most."""
    out = np.zeros(count)
    for name in names:
        vertices, moves = library.target(name)
        size = np.linalg.norm(moves, axis=1)
        inside = vertices < count
        np.maximum.at(out, vertices[inside], size[inside] / size.max())
    return np.clip(out / full, 0, 1)


def paint_skin(
    library: Library,
    rng: np.random.Generator,
    base: np.ndarray,
    drawn: dict,
    scalp: np.ndarray,
    beard: np.ndarray,
    hair: np.ndarray,
) -> np.ndarray:
    """Linear colours of the body's vertices. `scalp` and `beard` say how much hair covers each."""
    n = BODY_VERTICES
    races = drawn["races"]
    depth = races["caucasian"] * 1.0 + races["asian"] * 2.0 + races["african"] * 5.4
    depth = float(np.clip(depth + rng.normal(0, 0.7), 0, len(_TONES) - 1.001))
    i = int(depth)
    tone = _TONES[i] + (_TONES[i + 1] - _TONES[i]) * (depth - i)
    tone = linear(np.clip(tone * rng.uniform(0.93, 1.05, 3), 0, 1))
    points = base[:n]
    colour = np.tile(tone, (n, 1))
    colour *= 1 + 0.06 * bumps(rng, points, 1.5)[:, None] + 0.05 * bumps(rng, points, 0.35)[:, None]

    def blend(mask: np.ndarray, other: np.ndarray, most: float) -> None:
        colour[:] += (other - colour) * (mask * most)[:, None]

    flush = tone * np.array([1.08, 0.72, 0.68])
    cheeks = mask_of(library, ["cheek/l-cheek-volume-incr", "cheek/r-cheek-volume-incr"], n, 0.8)
    blend(cheeks, flush, rng.uniform(0.2, 0.7))
    blend(mask_of(library, ["nose/nose-point-up"], n, 0.7), flush, rng.uniform(0.1, 0.5))
    made_up = drawn["male"] < 0.5 and rng.random() < 0.35
    lips = mask_of(library, ["mouth/mouth-upperlip-volume-incr", "mouth/mouth-lowerlip-volume-incr"], n, 0.55)
    red = linear(_hsv(rng.uniform(0.94, 1.02) % 1, rng.uniform(0.5, 0.85), rng.uniform(0.35, 0.8)))
    blend(lips**2, red if made_up else tone * np.array([0.85, 0.5, 0.5]), 0.85 if made_up else 0.6)
    lids = mask_of(
        library, ["expression/units/caucasian/eye-left-closure", "expression/units/caucasian/eye-right-closure"], n, 0.7
    )
    blend(lids**2, tone * np.array([0.62, 0.5, 0.5]), rng.uniform(0.2, 0.8))
    blend(np.clip(beard, 0, 1), hair * 0.8 + tone * 0.12, 1.0)
    blend(np.clip(scalp, 0, 1), hair * 0.55, 0.97)
    return np.clip(colour, 0.003, 1)


# --- assembling ---------------------------------------------------------------------------------------------------


class Builder:
    """Collects solid parts."""

    def __init__(self) -> None:
        self.parts: list[np.ndarray] = []
        self.triangles: list[np.ndarray] = []
        self.count = 0

    def add(
        self,
        mesh: Mesh,
        positions: np.ndarray,
        weights: np.ndarray,
        keep: np.ndarray,
        colour: np.ndarray,
        material: np.ndarray,
    ) -> None:
        """`keep` picks faces; `colour` is per vertex (linear), `material` per face."""
        faces, face_uvs = mesh.faces[keep], mesh.face_uvs[keep]
        normals = vertex_normals(positions, mesh.faces)
        corners = np.stack([faces.ravel(), face_uvs.ravel(), np.repeat(material[keep], 4)], 1)
        unique, inverse = np.unique(corners, axis=0, return_inverse=True)
        out = np.zeros(len(unique), SOLID)
        v = unique[:, 0]
        out["position"], out["normal"], out["uv"] = positions[v], normals[v], mesh.uvs[unique[:, 1]]
        used, back = np.unique(v, return_inverse=True)
        bones, shares = top_weights(weights[used])
        out["bones"], out["weights"] = bones[back], shares[back]
        out["colour"][:, :3] = _bytes(colour[v])
        out["colour"][:, 3] = 255
        out["material"] = unique[:, 2]
        self.parts.append(out)
        self.triangles.append(triangles(inverse.reshape(-1, 4)) + self.count)
        self.count += len(out)


def uv_islands(mesh: Mesh) -> np.ndarray:
    """A label for each face: the piece of the texture it lies on."""
    return components(len(mesh.uvs), mesh.face_uvs)[mesh.face_uvs[:, 0]]


def build(library: Library, seed: int) -> Person:
    from . import extras
    from . import hair as hair_module

    rng = np.random.default_rng([seed, 1])
    base, drawn = shape(library, rng)
    skeleton = Skeleton(library, base)
    weights = library.weights
    count = len(base)
    notes: dict = {"male": round(drawn["male"], 2), **{k: round(v, 2) for k, v in drawn["ages"].items()}}

    # Clothes: one suit, shoes, sometimes a hat. A suit's panels are coloured by where they are.
    male = drawn["male"] > 0.5
    suits = library.garments("male_*" if male or rng.random() < 0.4 else "female_*")
    suit_name = suits[rng.integers(len(suits))]
    suit = library.clothing(suit_name)
    notes["suit"] = suit.name
    hidden = np.zeros(count, bool)
    hidden[suit.deleted] = True
    materials = [Material(gloss=float(rng.uniform(0.12, 0.4)), rough=0.15), Material(gloss=0.9, rough=0)]
    builder = Builder()

    cuts: list[extras.Cut] = []

    def layer(drawn_layer: tuple[extras.Cut, float]) -> None:
        """A garment over what is worn already; what is well inside it goes."""
        cut, by = drawn_layer
        mesh, inside = cut.mesh()
        materials.append(cloth(rng))
        builder.add(
            mesh,
            extras.blown(rng, mesh, inside, base, by),
            weights,
            inside,
            np.ones((count, 3)),
            np.full(len(mesh.faces), len(materials) - 1),
        )
        hidden[:BODY_VERTICES] |= cut.inside(library.base.positions[:BODY_VERTICES], 0.35)
        cuts.append(cut)

    def wear(clothing: Clothing, looks: np.ndarray, inflate: float = 0.0) -> np.ndarray:
        positions = clothing.fit(base)
        under = np.zeros(len(positions), bool)
        for cut in cuts:
            under |= cut.inside(clothing.fit(library.base.positions), 0.3)
        normals = vertex_normals(positions, clothing.mesh.faces)
        positions = positions + normals * (0.012 + inflate * np.abs(bumps(rng, positions, 0.8)))[:, None]
        builder.add(
            clothing.mesh,
            positions,
            bound_weights(library, clothing),
            visible(clothing.mesh.faces, under),
            np.ones((len(positions), 3)),
            looks,
        )
        return positions

    def bind(mesh: Mesh, bone: str, material: Material) -> None:
        materials.append(material)
        rigid = np.zeros((len(mesh.positions), len(library.bones)), np.float32)
        rigid[:, library.bones.index(bone)] = 1
        builder.add(
            mesh,
            mesh.positions,
            rigid,
            np.ones(len(mesh.faces), bool),
            np.ones((len(mesh.positions), 3)),
            np.full(len(mesh.faces), len(materials) - 1),
        )

    islands = uv_islands(suit.mesh)
    rest = suit.mesh.positions
    centre_y = rest[suit.mesh.faces].mean(1)[:, 1]
    split = rest[:, 1].min() + 0.62 * (rest[:, 1].max() - rest[:, 1].min())
    solid_parts = components(len(rest), suit.mesh.faces)[suit.mesh.faces[:, 0]]
    top = len(materials)
    materials += [cloth(rng), cloth(rng, 0.75), cloth(rng, 0.7)]
    one_piece = len(np.unique(solid_parts)) == 1 and rng.random() < 0.25
    looks = np.empty(len(islands), np.int64)
    for label in np.unique(islands):
        faces = islands == label
        y = np.average(centre_y[faces])
        looks[faces] = top if y > split or one_piece else top + 1
        if faces.sum() < len(islands) * 0.03 and rng.random() < 0.35:
            looks[faces] = top + 2
    if rng.random() < 0.3:
        layer(extras.jumper(library, rng))
        notes["jumper"] = True
    if not male and rng.random() < 0.3:
        layer(extras.skirt(library, rng))
        notes["skirt"] = True
    wear(suit, looks, float(rng.uniform(0, 0.05)))

    if rng.random() < 0.93:
        pairs = library.garments("shoes*")
        shoes = library.clothing(pairs[rng.integers(len(pairs))])
        hidden[shoes.deleted] = True
        materials.append(Material(cloth_colour(rng), cloth_colour(rng), 0, 1, float(rng.uniform(0.05, 0.6)), 0.3))
        wear(shoes, np.full(len(shoes.mesh.faces), len(materials) - 1))

    # Hair: the style decides what of the scalp is painted.
    style = hair_module.choose(library, rng, drawn)
    notes["hair"] = style.name
    hat = rng.random() < 0.07 and style.hat
    if hat:
        hats = library.garments("fedora01")
        fedora = library.clothing(hats[rng.integers(len(hats))])
        materials.append(cloth(rng, 0.8))
        wear(fedora, np.full(len(fedora.mesh.faces), len(materials) - 1))
        notes["hat"] = True
    colour = hair_colour(rng, drawn)
    strands = hair_module.Hair(library, rng, base, skeleton, style, colour, drawn, hat)

    plastic = lambda: Material(cloth_colour(rng), cloth_colour(rng), 0, 1, float(rng.uniform(0.1, 0.8)), 0.0)  # noqa: E731
    if rng.random() < 0.22:
        bind(extras.glasses(rng, skeleton, base), "head", plastic())
        notes["glasses"] = True
    if rng.random() < 0.12 and not hat:
        bind(extras.headphones(rng, skeleton, base, 0.0 if style.name == "bald" else 0.2), "head", plastic())
        notes["headphones"] = True
    holding = "LR"[rng.integers(2)] if rng.random() < 0.14 else ""
    if holding:
        kind = str(rng.choice(["cup", "phone", "paper"]))
        bind(extras.held(rng, skeleton, holding, kind), f"wrist.{holding}", plastic())
        notes["holds"] = kind

    body = library.base
    keep = np.zeros(len(body.faces), bool)
    keep[body.groups["body"]] = True
    keep &= visible(body.faces, hidden)
    skin = np.zeros((count, 3))
    skin[:BODY_VERTICES] = paint_skin(library, rng, base, drawn, strands.scalp, strands.beard, colour)
    builder.add(body, base, weights, keep, skin, np.zeros(len(body.faces), np.int64))

    eyes = library.clothing("eyes/low-poly/low-poly.mhclo")
    positions = eyes.fit(base)
    builder.add(
        eyes.mesh,
        positions,
        bound_weights(library, eyes),
        np.ones(len(eyes.mesh.faces), bool),
        np.ones((len(positions), 3)),
        np.full(len(eyes.mesh.faces), EYE),
    )
    tint = rng.choice(4, p=[0.5, 0.2, 0.15, 0.15])
    eye_hue = np.array([[1, 1, 1], [0.7, 1.1, 1.9], [0.8, 1.25, 0.9], [1.0, 1.2, 1.3]])[tint] * rng.uniform(0.8, 1.2)
    return Person(
        skeleton,
        np.concatenate(builder.parts),
        np.concatenate(builder.triangles).astype(np.int32),
        strands.vertices,
        strands.triangles,
        materials,
        eye_hue,
        holding,
        notes,
    )
