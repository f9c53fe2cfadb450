"""Draws one moment of a person: colour and exact alpha, with a shadow map, on one CPU core (see `raster.py`).

Colours are premultiplied and sRGB-coded before samples are averaged, as a compositor of 8-bit layers needs them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from . import raster
from .person import EYE, Person

SHADOW = 768


@dataclass
class Light:
    key_way: np.ndarray
    key: np.ndarray
    fill_way: np.ndarray
    fill: np.ndarray
    rim_way: np.ndarray
    rim: np.ndarray
    sky: np.ndarray
    ground: np.ndarray
    exposure: float
    contrast: float


@dataclass
class View:
    camera: np.ndarray  # 4 × 4, world to clip
    eye: np.ndarray
    width: int
    height: int
    pixel: float  # half the width of a drawn sample, seen at distance 1


def look_at(eye: np.ndarray, target: np.ndarray, tilt: float = 0.0) -> np.ndarray:
    forward = (target - eye) / np.linalg.norm(target - eye)
    right = np.cross(forward, [np.sin(tilt), np.cos(tilt), 0])
    right /= np.linalg.norm(right)
    out = np.eye(4)
    out[0, :3], out[1, :3], out[2, :3] = right, np.cross(right, forward), -forward
    out[:3, 3] = -out[:3, :3] @ eye
    return out


def perspective(field: float, near: float, far: float) -> np.ndarray:
    """For a square picture; `field` in radians."""
    f = 1 / np.tan(field / 2)
    out = np.zeros((4, 4))
    out[0, 0] = out[1, 1] = f
    out[2, 2], out[2, 3] = (far + near) / (near - far), 2 * far * near / (near - far)
    out[3, 2] = -1
    return out


def window(box: tuple[float, float, float, float]) -> np.ndarray:
    """Clip space in which the box (left, bottom, right, top; in -1…1 of the old one) fills the picture."""
    left, bottom, right, top = box
    out = np.eye(4)
    out[0, 0], out[1, 1] = 2 / (right - left), 2 / (top - bottom)
    out[0, 3], out[1, 3] = -(right + left) / (right - left), -(top + bottom) / (top - bottom)
    return out


def grain_picture() -> np.ndarray:
    """Tileable noise: gradient (R, G) and value (B) of a smooth one, and a streaky fine one (A)."""
    rng = np.random.default_rng(7)
    size = 256
    white = rng.normal(0, 1, (size, size))
    fx, fy = np.meshgrid(np.fft.fftfreq(size), np.fft.fftfreq(size))
    f = np.hypot(fx, fy)
    smooth = np.real(np.fft.ifft2(np.fft.fft2(white) * np.where(f > 0, 1 / np.maximum(f, 1 / size) ** 1.6, 0)))
    fine = np.real(
        np.fft.ifft2(np.fft.fft2(rng.normal(0, 1, (size, size))) * np.exp(-((fy * 60) ** 2) - (fx * 4) ** 2))
    )
    gy, gx = np.roll(smooth, -1, 0) - np.roll(smooth, 1, 0), np.roll(smooth, -1, 1) - np.roll(smooth, 1, 1)
    layers = [gx / gx.std() / 5, gy / gy.std() / 5, smooth / smooth.std() / 5, fine / fine.std() / 4.5]
    return np.rint(np.clip(np.stack(layers, -1) + 0.5, 0, 1) * 255).astype(np.uint8)


class Renderer:
    def __init__(self, iris: np.ndarray):
        """`iris` is the picture of the eyes, RGB."""
        self.iris = ((iris.astype(np.float32) / 255) ** 2.2).astype(np.float32)
        level, levels = grain_picture().astype(np.float32) / 255, []
        while level.shape[0] >= 2:
            levels.append(level.reshape(-1, 4))
            half = level.shape[0] // 2
            level = level.reshape(half, 2, half, 2, 4).mean((1, 3))
        self.pyramid = np.ascontiguousarray(np.concatenate(levels))
        self.buffers: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
        self.depth = np.empty((SHADOW, SHADOW), np.float32)

    def load(self, person: Person) -> None:
        self.person = person
        solid, strands = person.solid, person.strands
        take = np.ascontiguousarray
        self.rest, self.rest_normal = take(solid["position"]), take(solid["normal"][:, None])
        self.bones, self.weights, self.uv = take(solid["bones"]), take(solid["weights"]), take(solid["uv"])
        self.tint = (solid["colour"][:, :3].astype(np.float32) / 255) ** 2
        self.material = np.rint(solid["material"]).astype(np.int32)
        self.solid_triangles = person.solid_triangles
        self.closed = self.material[self.solid_triangles[:, 0]] <= EYE
        n = len(solid)
        self.world, self.normal, self.screen = (np.zeros(shape, np.float32) for shape in ((n, 3), (n, 1, 3), (n, 3)))
        self.hair_rest = take(strands["position"])
        self.hair_directions = take(np.stack([strands["normal"], strands["side"]], 1))
        self.hair_bones, self.hair_weights = take(strands["bones"]), take(strands["weights"])
        self.hair_width, self.card = take(strands["width"]), take(strands["card"])
        self.hair_tint = (strands["colour"][:, :3].astype(np.float32) / 255) ** 2
        self.opacity = strands["colour"][:, 3].astype(np.float32) / 255
        m = len(strands)
        self.hair_world, self.hair_turned, self.hair_screen = (
            np.zeros(shape, np.float32) for shape in ((m, 3), (m, 2, 3), (m, 3))
        )
        self.hair_spread, self.thin = np.zeros((m, 3), np.float32), np.zeros(m, np.float32)
        self.looks = np.array(
            [(*x.colour, *x.second, x.pattern, x.scale, x.gloss, x.rough) for x in person.materials], np.float32
        )
        self.eye_hue = np.asarray(person.eye_hue, np.float32)

    def places(self, matrices: np.ndarray) -> np.ndarray:
        """World places of a share of the vertices, dense enough to find what a picture must show."""
        pose = np.ascontiguousarray(matrices.reshape(-1, 12), np.float32)
        camera, one = np.eye(4, dtype=np.float32), np.float32(1)
        raster.skin(
            self.rest,
            self.rest_normal,
            self.bones,
            self.weights,
            pose,
            camera,
            one,
            one,
            self.world,
            self.normal,
            self.screen,
        )
        raster.skin(
            self.hair_rest,
            self.hair_directions,
            self.hair_bones,
            self.hair_weights,
            pose,
            camera,
            one,
            one,
            self.hair_world,
            self.hair_turned,
            self.hair_screen,
        )
        return np.concatenate([self.world[::3], self.hair_world[::3]]).astype(np.float64)

    def draw(
        self,
        matrices: np.ndarray,
        view: View,
        light: Light,
        crown: np.ndarray,
        middle: np.ndarray,
        background: tuple[float, float, float, float] = (0, 0, 0, 0),
    ) -> np.ndarray:
        """One moment as `height × width × 4` floats 0 to 255, premultiplied, over a premultiplied background."""
        f4 = np.float32
        pose = np.ascontiguousarray(matrices.reshape(-1, 12), f4)
        camera, eye = view.camera.astype(f4), view.eye.astype(f4)
        width, height = f4(view.width), f4(view.height)
        raster.skin(
            self.rest,
            self.rest_normal,
            self.bones,
            self.weights,
            pose,
            camera,
            width,
            height,
            self.world,
            self.normal,
            self.screen,
        )
        raster.skin(
            self.hair_rest,
            self.hair_directions,
            self.hair_bones,
            self.hair_weights,
            pose,
            camera,
            width,
            height,
            self.hair_world,
            self.hair_turned,
            self.hair_screen,
        )
        raster.spread(
            self.hair_world,
            np.ascontiguousarray(self.hair_turned[:, 1]),
            self.hair_width,
            self.opacity,
            eye,
            f4(view.pixel * 0.25),
            self.hair_spread,
            self.thin,
        )
        raster.project(self.hair_spread, camera, width, height, self.hair_screen)

        reach = 11.0
        box = np.diag([1 / reach, 1 / reach, -1 / 30, 1.0])
        box[2, 3] = -40 / 30
        shadow_camera = (box @ look_at(middle + light.key_way * 40, middle)).astype(f4)
        raster.shadows(self.world, self.solid_triangles, shadow_camera, self.depth)

        shape = (view.height, view.width, raster.SAMPLES)
        if self.buffers is None or self.buffers[0].shape != shape:
            self.buffers = np.empty(shape, f4), np.empty(shape, np.int32), np.empty((*shape, 4), f4)
        nearest, owner, samples = self.buffers
        nearest[:] = 0
        owner[:] = -1
        samples[:] = background
        lights = np.array(
            [light.key_way, light.key, light.fill_way, light.fill, light.rim_way, light.rim, light.sky, light.ground],
            f4,
        )
        curve = tone_curve(light)
        distance = float(np.linalg.norm(view.eye - middle))
        footprint = f4(view.pixel * 2 * distance)
        raster.cover(self.screen, self.solid_triangles, self.closed, nearest, owner)
        raster.shade(
            owner,
            self.solid_triangles,
            self.screen,
            self.world,
            self.normal,
            self.rest,
            self.rest_normal,
            self.uv,
            self.tint,
            self.material,
            self.looks,
            eye,
            lights,
            curve,
            self.pyramid,
            self.iris,
            self.eye_hue,
            self.depth,
            shadow_camera,
            footprint,
            samples,
        )
        corners = self.person.strand_triangles
        nearness = self.hair_screen[:, 2][corners].sum(1)
        low, high = float(nearness.min()), float(nearness.max())
        order = np.argsort(((nearness - low) * (65535 / max(high - low, 1e-9))).astype(np.uint16), kind="stable")
        lit = np.zeros((len(self.hair_spread), 3), f4)
        raster.light_strands(
            self.hair_spread,
            self.hair_turned,
            self.card,
            self.hair_tint,
            eye,
            lights,
            curve,
            self.depth,
            shadow_camera,
            lit,
        )
        raster.blend(
            order,
            corners,
            self.hair_screen,
            self.hair_spread,
            self.hair_turned,
            self.hair_rest,
            self.card,
            self.hair_tint,
            lit,
            self.thin,
            crown.astype(f4),
            eye,
            lights,
            curve,
            self.pyramid,
            self.depth,
            shadow_camera,
            footprint,
            nearest,
            samples,
        )
        out = np.empty((*shape[:2], 4), f4)
        raster.resolve(samples, out)
        return out


def tone_curve(light: Light) -> np.ndarray:
    """sRGB-like bytes for linear values 0 to 8, with a soft shoulder."""
    c = np.arange(4096) / 512 * light.exposure
    c = c * (1 + 0.15 * c) / (1 + c * 0.55) * 1.25
    return (np.clip(np.power(c, light.contrast / 2.2), 0, 1) * 255).astype(np.float32)
