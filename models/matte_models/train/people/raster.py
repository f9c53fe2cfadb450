"""The kernels of the renderer, compiled with Numba: skinning, shadow map, coverage with 16 samples a pixel, shading.

A pixel keeps 16 samples on a rotated grid, each with its nearest solid surface. Every surface is shaded once a pixel,
at the middle of the samples it owns. Cards and strands of hair are then blended into the samples they cover, back to
front, so that the mean of a pixel's samples is colour and alpha by coverage. Scalars are 32-bit floats.
"""

from __future__ import annotations

import math

import numba
import numpy as np

SAMPLES = 16
_OFFSETS = np.array(
    [[((i % 4) + ((i // 4) + 0.5) / 4) / 4, ((i // 4) + ((i % 4) + 0.5) / 4) / 4] for i in range(16)], np.float32
)
_jit = numba.njit(cache=True, fastmath={"nsz", "arcp", "contract", "afn", "reassoc"}, error_model="numpy", nogil=True)
_inline = numba.njit(fastmath={"nsz", "arcp", "contract", "afn", "reassoc"}, error_model="numpy", inline="never")


@_jit
def skin(position, direction, bones, weights, pose, camera, width, height, world, turned, screen):
    """World places and directions, and the screen: x, y in pixels, and 1/w (0 behind the camera)."""
    for i in range(len(position)):
        m = np.zeros(12, np.float32)
        for k in range(4):
            w = np.float32(weights[i, k]) * np.float32(1 / 255)
            if w > 0:
                b = bones[i, k]
                for j in range(12):
                    m[j] += w * pose[b, j]
        x, y, z = position[i, 0], position[i, 1], position[i, 2]
        px = m[0] * x + m[1] * y + m[2] * z + m[3]
        py = m[4] * x + m[5] * y + m[6] * z + m[7]
        pz = m[8] * x + m[9] * y + m[10] * z + m[11]
        world[i, 0], world[i, 1], world[i, 2] = px, py, pz
        for d in range(direction.shape[1]):
            x, y, z = direction[i, d, 0], direction[i, d, 1], direction[i, d, 2]
            nx = m[0] * x + m[1] * y + m[2] * z
            ny = m[4] * x + m[5] * y + m[6] * z
            nz = m[8] * x + m[9] * y + m[10] * z
            s = np.float32(1) / max(math.sqrt(nx * nx + ny * ny + nz * nz), np.float32(1e-6))
            turned[i, d, 0], turned[i, d, 1], turned[i, d, 2] = nx * s, ny * s, nz * s
    project(world, camera, width, height, screen)


@_jit
def project(world, camera, width, height, screen):
    for i in range(len(world)):
        x, y, z = world[i, 0], world[i, 1], world[i, 2]
        w = camera[3, 0] * x + camera[3, 1] * y + camera[3, 2] * z + camera[3, 3]
        if w < np.float32(0.3):
            screen[i, 2] = 0
            continue
        s = np.float32(1) / w
        cx = (camera[0, 0] * x + camera[0, 1] * y + camera[0, 2] * z + camera[0, 3]) * s
        cy = (camera[1, 0] * x + camera[1, 1] * y + camera[1, 2] * z + camera[1, 3]) * s
        screen[i, 0] = (cx * np.float32(0.5) + np.float32(0.5)) * width
        screen[i, 1] = (np.float32(0.5) - cy * np.float32(0.5)) * height
        screen[i, 2] = s


@_jit
def spread(world, along, width, opacity, eye, pixel, out, thin):
    """Widens strands across the line of sight, to half a sample at least; `thin` gets the opacity that stays."""
    for i in range(len(world)):
        thin[i] = opacity[i]
        if width[i] == 0:
            out[i, 0], out[i, 1], out[i, 2] = world[i, 0], world[i, 1], world[i, 2]
            continue
        vx, vy, vz = eye[0] - world[i, 0], eye[1] - world[i, 1], eye[2] - world[i, 2]
        finest = pixel * math.sqrt(vx * vx + vy * vy + vz * vz)
        w = max(abs(width[i]), finest)
        thin[i] = opacity[i] * abs(width[i]) / w
        ax, ay, az = along[i, 0], along[i, 1], along[i, 2]
        cx, cy, cz = ay * vz - az * vy, az * vx - ax * vz, ax * vy - ay * vx
        s = w / max(math.sqrt(cx * cx + cy * cy + cz * cz), np.float32(1e-6))
        if width[i] < 0:
            s = -s
        out[i, 0], out[i, 1], out[i, 2] = world[i, 0] + cx * s, world[i, 1] + cy * s, world[i, 2] + cz * s


@_jit
def shadows(world, triangles, camera, depth):
    """Nearest depth seen from the light (parallel rays; `camera` gives -1…1), into the square `depth`."""
    size = depth.shape[0]
    half = np.float32(size / 2)
    depth[:] = np.float32(9)
    p = np.empty((len(world), 3), np.float32)
    for i in range(len(world)):
        for r in range(3):
            p[i, r] = (
                camera[r, 0] * world[i, 0] + camera[r, 1] * world[i, 1] + camera[r, 2] * world[i, 2] + camera[r, 3]
            )
        p[i, 0] = (p[i, 0] + 1) * half
        p[i, 1] = (p[i, 1] + 1) * half
    for t in range(len(triangles)):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ax, ay, bx, by, cx, cy = p[a, 0], p[a, 1], p[b, 0], p[b, 1], p[c, 0], p[c, 1]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if abs(area) < np.float32(1e-6):
            continue
        s = np.float32(1) / area
        x0, x1 = max(int(math.floor(min(ax, bx, cx) - 0.5)), 0), min(int(math.ceil(max(ax, bx, cx))), size - 1)
        y0, y1 = max(int(math.floor(min(ay, by, cy) - 0.5)), 0), min(int(math.ceil(max(ay, by, cy))), size - 1)
        for y in range(y0, y1 + 1):
            fy = np.float32(y) + np.float32(0.5)
            for x in range(x0, x1 + 1):
                fx = np.float32(x) + np.float32(0.5)
                u = ((bx - fx) * (cy - fy) - (by - fy) * (cx - fx)) * s
                v = ((cx - fx) * (ay - fy) - (cy - fy) * (ax - fx)) * s
                w = 1 - u - v
                if u >= 0 and v >= 0 and w >= 0:
                    z = u * p[a, 2] + v * p[b, 2] + w * p[c, 2]
                    if z < depth[y, x]:
                        depth[y, x] = z


@_jit
def cover(screen, triangles, closed, nearest, owner):
    """Fills each sample's 1/w and number of its nearest triangle. `owner` starts at -1, `nearest` at 0.

    The backs of `closed` surfaces are never seen; cloth is seen from inside, too.
    """
    height, width = owner.shape[0], owner.shape[1]
    for t in range(len(triangles)):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        wa, wb, wc = screen[a, 2], screen[b, 2], screen[c, 2]
        if wa == 0 or wb == 0 or wc == 0:
            continue
        ax, ay, bx, by, cx, cy = screen[a, 0], screen[a, 1], screen[b, 0], screen[b, 1], screen[c, 0], screen[c, 1]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if abs(area) < np.float32(1e-7) or (area > 0 and closed[t]):
            continue
        s = np.float32(1) / area
        x0, x1 = max(int(math.floor(min(ax, bx, cx))), 0), min(int(math.floor(max(ax, bx, cx))), width - 1)
        y0, y1 = max(int(math.floor(min(ay, by, cy))), 0), min(int(math.floor(max(ay, by, cy))), height - 1)
        # u = u0 + ux·x + uy·y is the share of corner a, v of b.
        ux, uy = (by - cy) * s, (cx - bx) * s
        u0 = (bx * cy - by * cx) * s
        vx, vy = (cy - ay) * s, (ax - cx) * s
        v0 = (cx * ay - cy * ax) * s
        # The most that a share can rise within a pixel.
        um = max(ux, np.float32(0)) + max(uy, np.float32(0))
        vm = max(vx, np.float32(0)) + max(vy, np.float32(0))
        wm = max(-ux - vx, np.float32(0)) + max(-uy - vy, np.float32(0))
        for y in range(y0, y1 + 1):
            for x in range(x0, x1 + 1):
                uc = u0 + ux * x + uy * y
                vc = v0 + vx * x + vy * y
                wc0 = 1 - uc - vc
                if uc + um < 0 or vc + vm < 0 or wc0 + wm < 0:
                    continue
                for k in range(SAMPLES):
                    ox, oy = _OFFSETS[k, 0], _OFFSETS[k, 1]
                    u = uc + ux * ox + uy * oy
                    v = vc + vx * ox + vy * oy
                    w = 1 - u - v
                    if u >= 0 and v >= 0 and w >= 0:
                        z = u * wa + v * wb + w * wc
                        if z > nearest[y, x, k]:
                            nearest[y, x, k] = z
                            owner[y, x, k] = t


@_inline
def _texel(pyramid, level, u, v):
    """Four channels, bilinear, tiled. Level n of the pyramid starts where the larger ones end."""
    size = 256 >> level
    start = (65536 - size * size) * 4 // 3
    fu, fv = u * size - np.float32(0.5), v * size - np.float32(0.5)
    iu, iv = int(math.floor(fu)), int(math.floor(fv))
    du, dv = fu - np.float32(iu), fv - np.float32(iv)
    a, b = iu & (size - 1), (iu + 1) & (size - 1)
    c, d = start + (iv & (size - 1)) * size, start + ((iv + 1) & (size - 1)) * size
    p, q, r, s = (1 - du) * (1 - dv), du * (1 - dv), (1 - du) * dv, du * dv
    return (
        pyramid[c + a, 0] * p + pyramid[c + b, 0] * q + pyramid[d + a, 0] * r + pyramid[d + b, 0] * s,
        pyramid[c + a, 1] * p + pyramid[c + b, 1] * q + pyramid[d + a, 1] * r + pyramid[d + b, 1] * s,
        pyramid[c + a, 2] * p + pyramid[c + b, 2] * q + pyramid[d + a, 2] * r + pyramid[d + b, 2] * s,
        pyramid[c + a, 3] * p + pyramid[c + b, 3] * q + pyramid[d + a, 3] * r + pyramid[d + b, 3] * s,
    )


@_inline
def _level(footprint):
    """The level at which a texel is about as large as the footprint (in texels of the largest)."""
    level = 0
    while footprint > np.float32(1.6) and level < 7:
        footprint *= np.float32(0.5)
        level += 1
    return level


@_inline
def _noise(pyramid, x, y, z, nx, nz, frequency, footprint):
    """Noise on a surface at a place of the body at rest: projected along z, along x at its sides."""
    level = _level(footprint * frequency * np.float32(256))
    side = abs(nx) / (abs(nx) + abs(nz) + np.float32(1e-4))
    side = min(max((side - np.float32(0.4)) / np.float32(0.2), np.float32(0)), np.float32(1))
    if side >= 1:
        return _texel(pyramid, level, z * frequency + np.float32(0.37), y * frequency)
    a, b, c, d = _texel(pyramid, level, x * frequency, y * frequency)
    if side > 0:
        e, f, g, h = _texel(pyramid, level, z * frequency + np.float32(0.37), y * frequency)
        a, b, c, d = a + (e - a) * side, b + (f - b) * side, c + (g - c) * side, d + (h - d) * side
    return a, b, c, d


@_inline
def _stripe(x, share, soft):
    f = x - math.floor(x)
    up = min(max(f / soft, np.float32(0)), np.float32(1))
    down = min(max((f - share) / soft, np.float32(0)), np.float32(1))
    return up - down


@_inline
def _lit(depth, camera, x, y, z, nx, ny, nz):
    size = depth.shape[0]
    x, y, z = x + nx * np.float32(0.07), y + ny * np.float32(0.07), z + nz * np.float32(0.07)
    px = (camera[0, 0] * x + camera[0, 1] * y + camera[0, 2] * z + camera[0, 3] + 1) * np.float32(size / 2)
    py = (camera[1, 0] * x + camera[1, 1] * y + camera[1, 2] * z + camera[1, 3] + 1) * np.float32(size / 2)
    pz = camera[2, 0] * x + camera[2, 1] * y + camera[2, 2] * z + camera[2, 3] - np.float32(0.0015)
    total = np.float32(0)
    fx, fy = px - np.float32(0.5), py - np.float32(0.5)
    ix, iy = int(math.floor(fx)), int(math.floor(fy))
    dx, dy = fx - np.float32(ix), fy - np.float32(iy)
    for j in range(2):
        for i in range(2):
            w = (dx if i else 1 - dx) * (dy if j else 1 - dy)
            a, b = ix + i, iy + j
            if a < 0 or b < 0 or a >= size or b >= size or depth[b, a] >= pz:
                total += w
    return total


# Rows of the table of lights.
KEY_WAY, KEY, FILL_WAY, FILL, RIM_WAY, RIM, SKY, GROUND = range(8)


@_inline
def _dot(lights, row, x, y, z):
    return lights[row, 0] * x + lights[row, 1] * y + lights[row, 2] * z


@_jit
def shade(
    owner,
    triangles,
    screen,
    world,
    normal,
    rest,
    rest_normal,
    uv,
    tint,
    material,
    looks,
    eye,
    lights,
    curve,
    pyramid,
    iris,
    eye_hue,
    depth,
    shadow_camera,
    footprint,
    samples,
):
    """Shades each surface of each pixel once and writes the samples it owns (premultiplied RGBA, 0 to 255)."""
    height, width = owner.shape[0], owner.shape[1]
    seen = np.empty(SAMPLES, np.int32)
    zero, one = np.float32(0), np.float32(1)
    for py in range(height):
        for px in range(width):
            any_here = False
            for k in range(SAMPLES):
                seen[k] = owner[py, px, k]
                if seen[k] >= 0:
                    any_here = True
            if not any_here:
                continue
            for k in range(SAMPLES):
                t = seen[k]
                if t < 0:
                    continue
                ox, oy, count = zero, zero, 0
                for j in range(k, SAMPLES):
                    if seen[j] == t:
                        ox += _OFFSETS[j, 0]
                        oy += _OFFSETS[j, 1]
                        count += 1
                a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
                x, y = px + ox / count, py + oy / count
                ax, ay, bx, by, cx, cy = (
                    screen[a, 0],
                    screen[a, 1],
                    screen[b, 0],
                    screen[b, 1],
                    screen[c, 0],
                    screen[c, 1],
                )
                s = one / ((bx - ax) * (cy - ay) - (by - ay) * (cx - ax))
                u = ((bx - x) * (cy - y) - (by - y) * (cx - x)) * s * screen[a, 2]
                v = ((cx - x) * (ay - y) - (cy - y) * (ax - x)) * s * screen[b, 2]
                w = ((ax - x) * (by - y) - (ay - y) * (bx - x)) * s * screen[c, 2]
                s = one / (u + v + w)
                u, v, w = u * s, v * s, w * s
                wx = u * world[a, 0] + v * world[b, 0] + w * world[c, 0]
                wy = u * world[a, 1] + v * world[b, 1] + w * world[c, 1]
                wz = u * world[a, 2] + v * world[b, 2] + w * world[c, 2]
                nx = u * normal[a, 0, 0] + v * normal[b, 0, 0] + w * normal[c, 0, 0]
                ny = u * normal[a, 0, 1] + v * normal[b, 0, 1] + w * normal[c, 0, 1]
                nz = u * normal[a, 0, 2] + v * normal[b, 0, 2] + w * normal[c, 0, 2]
                s = one / max(math.sqrt(nx * nx + ny * ny + nz * nz), np.float32(1e-6))
                nx, ny, nz = nx * s, ny * s, nz * s
                rx = u * rest[a, 0] + v * rest[b, 0] + w * rest[c, 0]
                ry = u * rest[a, 1] + v * rest[b, 1] + w * rest[c, 1]
                rz = u * rest[a, 2] + v * rest[b, 2] + w * rest[c, 2]
                qx = u * rest_normal[a, 0, 0] + v * rest_normal[b, 0, 0] + w * rest_normal[c, 0, 0]
                qz = u * rest_normal[a, 0, 2] + v * rest_normal[b, 0, 2] + w * rest_normal[c, 0, 2]
                red = u * tint[a, 0] + v * tint[b, 0] + w * tint[c, 0]
                green = u * tint[a, 1] + v * tint[b, 1] + w * tint[c, 1]
                blue = u * tint[a, 2] + v * tint[b, 2] + w * tint[c, 2]
                ex, ey, ez = eye[0] - wx, eye[1] - wy, eye[2] - wz
                s = one / math.sqrt(ex * ex + ey * ey + ez * ez)
                ex, ey, ez = ex * s, ey * s, ez * s
                if nx * ex + ny * ey + nz * ez < -0.25:
                    nx, ny, nz = -nx, -ny, -nz
                fx, fy, fz = nx, ny, nz
                which = material[a]
                gloss, sharp, wrap = looks[which, 8], np.float32(18), zero
                if which == 0:
                    d, _, _, g = _noise(pyramid, rx, ry, rz, qx, qz, np.float32(0.9), footprint)
                    _, _, h, _ = _noise(pyramid, rx, ry, rz, qx, qz, np.float32(0.17), footprint)
                    s = (np.float32(0.9) + np.float32(0.2) * g) * (np.float32(0.92) + np.float32(0.16) * h)
                    red, green, blue = red * s, green * s, blue * s
                    nx, ny = nx + (d - np.float32(0.5)) * np.float32(0.1), ny + (g - np.float32(0.5)) * np.float32(0.1)
                    gloss *= np.float32(0.5) + h
                    wrap = np.float32(0.35)
                elif which == 1:
                    tu = u * uv[a, 0] + v * uv[b, 0] + w * uv[c, 0]
                    tv = u * uv[a, 1] + v * uv[b, 1] + w * uv[c, 1]
                    ix = min(max(int(tu * iris.shape[1]), 0), iris.shape[1] - 1)
                    iy = min(max(int((1 - tv) * iris.shape[0]), 0), iris.shape[0] - 1)
                    red, green, blue = iris[iy, ix, 0], iris[iy, ix, 1], iris[iy, ix, 2]
                    s = min(max((max(red, green, blue) - min(red, green, blue) - np.float32(0.02)) * 10, zero), one)
                    red *= 1 + (eye_hue[0] - 1) * s
                    green *= 1 + (eye_hue[1] - 1) * s
                    blue *= 1 + (eye_hue[2] - 1) * s
                    sharp = np.float32(120)
                else:
                    bigx, bigy, big, _ = _noise(pyramid, rx, ry, rz, qx, qz, np.float32(0.11), footprint)
                    midx, _, _, _ = _noise(pyramid, rx, ry, rz, qx, qz, np.float32(0.35), footprint)
                    _, _, _, small = _noise(pyramid, rx, ry, rz, qx, qz, np.float32(1.1), footprint)
                    kind, scale, m = looks[which, 6], looks[which, 7], zero
                    across = rx + np.float32(0.7) * rz
                    down = ry + np.float32(0.12) * (midx - np.float32(0.5))
                    soft = max(np.float32(0.06), footprint * scale * np.float32(1.6))
                    if kind > 6.5:  # a print on the chest
                        e = math.sqrt(rx * rx + np.float32(1.7) * (ry - np.float32(3.4)) * (ry - np.float32(3.4)))
                        if rz > 0 and e < np.float32(1.1):
                            m = min((np.float32(1.1) - e) * 12, one) * (
                                one if big > np.float32(0.5) else _stripe(ry * np.float32(2.5), np.float32(0.5), soft)
                            )
                    elif kind > 5.5:  # mottled yarn
                        m = np.float32(0.7) * small + np.float32(0.3) * big - np.float32(0.1)
                    elif kind > 4.5:  # blotches
                        _, _, m, _ = _noise(
                            pyramid, rx, ry, rz, qx, qz, np.float32(0.08) * scale + np.float32(0.05), footprint
                        )
                        m = (m - np.float32(0.5)) * 18
                    elif kind > 3.5:  # dots
                        d1, d2 = across * scale * np.float32(2.2), down * scale * np.float32(2.2)
                        d1, d2 = d1 - math.floor(d1) - np.float32(0.5), d2 - math.floor(d2) - np.float32(0.5)
                        m = (np.float32(0.31) - math.sqrt(d1 * d1 + d2 * d2)) / soft
                    elif kind > 2.5:  # checks
                        m = np.float32(0.5) * (
                            _stripe(down * scale * np.float32(1.4), np.float32(0.4), soft)
                            + _stripe(across * scale * np.float32(1.4), np.float32(0.4), soft)
                        )
                    elif kind > 1.5:
                        m = _stripe(across * scale * np.float32(1.7), np.float32(0.35), soft)
                    elif kind > 0.5:
                        m = _stripe(down * scale * np.float32(1.5), np.float32(0.45), soft)
                    m = min(max(m, zero), one)
                    s = (np.float32(0.9) + np.float32(0.2) * small) * (np.float32(0.9) + np.float32(0.2) * big)
                    red = (looks[which, 0] + (looks[which, 3] - looks[which, 0]) * m) * s
                    green = (looks[which, 1] + (looks[which, 4] - looks[which, 1]) * m) * s
                    blue = (looks[which, 2] + (looks[which, 5] - looks[which, 2]) * m) * s
                    rough = looks[which, 9]
                    nx += (
                        (midx - np.float32(0.5)) * np.float32(0.16) + (bigx - np.float32(0.5)) * np.float32(0.7)
                    ) * rough
                    ny += ((bigy - np.float32(0.5)) * np.float32(0.7)) * rough
                    nz += (
                        (midx - np.float32(0.5)) * np.float32(0.16) + (bigy - np.float32(0.5)) * np.float32(0.6)
                    ) * rough
                    sharp = np.float32(12) + 60 * gloss
                s = one / max(math.sqrt(nx * nx + ny * ny + nz * nz), np.float32(1e-6))
                nx, ny, nz = nx * s, ny * s, nz * s
                shadow = _lit(depth, shadow_camera, wx, wy, wz, fx, fy, fz)
                k_dot = _dot(lights, KEY_WAY, nx, ny, nz)
                direct = max((k_dot + wrap) / (1 + wrap), zero) * shadow
                fill = max(_dot(lights, FILL_WAY, nx, ny, nz), zero)
                up = np.float32(0.5) + np.float32(0.5) * ny
                facing = max(nx * ex + ny * ey + nz * ez, zero)
                graze = (1 - facing) * (1 - facing) * (1 - facing)
                back = max(_dot(lights, RIM_WAY, nx, ny, nz), zero) * (np.float32(0.3) + graze)
                hx, hy, hz = lights[KEY_WAY, 0] + ex, lights[KEY_WAY, 1] + ey, lights[KEY_WAY, 2] + ez
                s = one / max(math.sqrt(hx * hx + hy * hy + hz * hz), np.float32(1e-6))
                gleam = gloss * math.pow(max((nx * hx + ny * hy + nz * hz) * s, zero), sharp) * shadow
                gleam *= np.float32(0.25) + np.float32(0.75) * graze
                warm = (1 - min(max(k_dot, zero), one)) * np.float32(0.6) if wrap > 0 else zero
                for channel in range(3):
                    colour = red if channel == 0 else green if channel == 1 else blue
                    bleed = 1 + warm * (np.float32(0.15) if channel == 0 else np.float32(-0.12))
                    light = (
                        lights[KEY, channel] * direct * bleed
                        + lights[FILL, channel] * fill
                        + lights[GROUND, channel]
                        + (lights[SKY, channel] - lights[GROUND, channel]) * up
                        + lights[RIM, channel] * back
                    )
                    value = (
                        colour * light
                        + lights[KEY, channel] * gleam
                        + lights[SKY, channel] * gloss * graze * np.float32(0.25)
                    )
                    value = curve[min(int(value * 512), 4095)]
                    for j in range(k, SAMPLES):
                        if seen[j] == t:
                            samples[py, px, j, channel] = value
                for j in range(k, SAMPLES):
                    if seen[j] == t:
                        samples[py, px, j, 3] = np.float32(255)
                        seen[j] = -1


@_inline
def _hair_light(
    wx, wy, wz, nx, ny, nz, tx, ty, tz, red, green, blue, streak, card, eye, lights, curve, depth, shadow_camera
):
    """The sRGB-coded colour (0 to 255) of hair that runs along t on a surface with normal n."""
    zero, one = np.float32(0), np.float32(1)
    ex, ey, ez = eye[0] - wx, eye[1] - wy, eye[2] - wz
    s = one / math.sqrt(ex * ex + ey * ey + ez * ez)
    ex, ey, ez = ex * s, ey * s, ez * s
    if nx * ex + ny * ey + nz * ez < 0:
        nx, ny, nz = -nx, -ny, -nz
    dark = one
    if card:  # strands lie beside each other: tilt the surface across them
        d = (streak - np.float32(0.5)) * np.float32(1.2)
        nx, ny, nz = nx + (ny * tz - nz * ty) * d, ny + (nz * tx - nx * tz) * d, nz + (nx * ty - ny * tx) * d
        dark = np.float32(0.45) + np.float32(1.1) * streak
    s = one / max(math.sqrt(nx * nx + ny * ny + nz * nz), np.float32(1e-6))
    nx, ny, nz = nx * s, ny * s, nz * s
    s = one / max(math.sqrt(tx * tx + ty * ty + tz * tz), np.float32(1e-6))
    tx, ty, tz = tx * s, ty * s, tz * s
    shadow = _lit(depth, shadow_camera, wx, wy, wz, nx, ny, nz)
    along = _dot(lights, KEY_WAY, tx, ty, tz)
    k_dot = _dot(lights, KEY_WAY, nx, ny, nz)
    direct = math.sqrt(max(1 - along * along, zero)) * max(k_dot * np.float32(0.75) + np.float32(0.25), zero)
    direct *= np.float32(0.25) + np.float32(0.75) * shadow
    fill = max(_dot(lights, FILL_WAY, nx, ny, nz), zero)
    up = np.float32(0.5) + np.float32(0.5) * ny
    facing = abs(nx * ex + ny * ey + nz * ez)
    graze = (1 - facing) * (1 - facing)
    behind = max(-_dot(lights, RIM_WAY, ex, ey, ez), zero)
    back = max(_dot(lights, RIM_WAY, nx, ny, nz), zero) * np.float32(0.5) + graze * behind
    hx, hy, hz = lights[KEY_WAY, 0] + ex, lights[KEY_WAY, 1] + ey, lights[KEY_WAY, 2] + ez
    s = (tx * hx + ty * hy + tz * hz) / max(math.sqrt(hx * hx + hy * hy + hz * hz), np.float32(1e-6))
    gleam = math.pow(max(1 - s * s, zero), np.float32(40)) * max(k_dot, zero) * shadow * (np.float32(0.4) + streak)
    red = _hair_channel(red * dark, direct, fill, up, back, gleam, lights, curve, 0)
    green = _hair_channel(green * dark, direct, fill, up, back, gleam, lights, curve, 1)
    blue = _hair_channel(blue * dark, direct, fill, up, back, gleam, lights, curve, 2)
    return red, green, blue


@_inline
def _hair_channel(colour, direct, fill, up, back, gleam, lights, curve, channel):
    light = (
        lights[KEY, channel] * direct
        + lights[FILL, channel] * fill
        + lights[GROUND, channel]
        + (lights[SKY, channel] - lights[GROUND, channel]) * up
        + lights[RIM, channel] * back
    )
    value = colour * light + lights[KEY, channel] * gleam * (np.float32(0.08) + np.float32(0.3) * colour)
    return curve[min(int(value * 512), 4095)]


@_jit
def light_strands(world, turned, card, tint, eye, lights, curve, depth, shadow_camera, lit):
    """The lit colours of the vertices of grown strands."""
    for i in range(len(world)):
        if card[i, 3] > 0.5 and card[i, 3] < 1.5:
            red, green, blue = _hair_light(
                world[i, 0],
                world[i, 1],
                world[i, 2],
                turned[i, 0, 0],
                turned[i, 0, 1],
                turned[i, 0, 2],
                turned[i, 1, 0],
                turned[i, 1, 1],
                turned[i, 1, 2],
                tint[i, 0],
                tint[i, 1],
                tint[i, 2],
                np.float32(0.5),
                False,
                eye,
                lights,
                curve,
                depth,
                shadow_camera,
            )
            lit[i, 0], lit[i, 1], lit[i, 2] = red, green, blue


@_jit
def blend(
    order,
    triangles,
    screen,
    world,
    turned,
    rest,
    card,
    tint,
    lit,
    thin,
    crown,
    eye,
    lights,
    curve,
    pyramid,
    depth,
    shadow_camera,
    footprint,
    nearest,
    samples,
):
    """Blends cards and strands over the samples they cover and are in front in, in the given order."""
    height, width = nearest.shape[0], nearest.shape[1]
    zero, one = np.float32(0), np.float32(1)
    hit = np.empty(SAMPLES, np.int32)
    for n in range(len(order)):
        t = order[n]
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        wa, wb, wc = screen[a, 2], screen[b, 2], screen[c, 2]
        if wa == 0 or wb == 0 or wc == 0:
            continue
        ax, ay, bx, by, cx, cy = screen[a, 0], screen[a, 1], screen[b, 0], screen[b, 1], screen[c, 0], screen[c, 1]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if abs(area) < np.float32(1e-7):
            continue
        inverse = one / area
        x0, x1 = max(int(math.floor(min(ax, bx, cx))), 0), min(int(math.floor(max(ax, bx, cx))), width - 1)
        y0, y1 = max(int(math.floor(min(ay, by, cy))), 0), min(int(math.floor(max(ay, by, cy))), height - 1)
        ux, uy, u0 = (by - cy) * inverse, (cx - bx) * inverse, (bx * cy - by * cx) * inverse
        vx, vy, v0 = (cy - ay) * inverse, (ax - cx) * inverse, (cx * ay - cy * ax) * inverse
        um = max(ux, zero) + max(uy, zero)
        vm = max(vx, zero) + max(vy, zero)
        wm = max(-ux - vx, zero) + max(-uy - vy, zero)
        for py in range(y0, y1 + 1):
            for px in range(x0, x1 + 1):
                uc, vc = u0 + ux * px + uy * py, v0 + vx * px + vy * py
                if uc + um < 0 or vc + vm < 0 or 1 - uc - vc + wm < 0:
                    continue
                count, su, sv = 0, zero, zero
                for k in range(SAMPLES):
                    ox, oy = _OFFSETS[k, 0], _OFFSETS[k, 1]
                    u = uc + ux * ox + uy * oy
                    v = vc + vx * ox + vy * oy
                    w = 1 - u - v
                    # A sample on an edge belongs to one of the two triangles only.
                    if u >= 0 and v > 0 and w >= 0 and u * wa + v * wb + w * wc > nearest[py, px, k]:
                        hit[count] = k
                        count += 1
                        su += u
                        sv += v
                if count == 0:
                    continue
                u, v = su / count, sv / count
                w = (1 - u - v) * wc
                u, v = u * wa, v * wb
                s = one / (u + v + w)
                u, v, w = u * s, v * s, w * s
                alpha = u * thin[a] + v * thin[b] + w * thin[c]
                kind = card[a, 3]
                rx = u * rest[a, 0] + v * rest[b, 0] + w * rest[c, 0]
                ry = u * rest[a, 1] + v * rest[b, 1] + w * rest[c, 1]
                rz = u * rest[a, 2] + v * rest[b, 2] + w * rest[c, 2]
                streak = np.float32(0.5)
                if kind < 0.5:
                    edge = u * card[a, 2] + v * card[b, 2] + w * card[c, 2]
                    far = u * card[a, 1] + v * card[b, 1] + w * card[c, 1]
                    dx, dz = rx - crown[0], rz - crown[2]
                    turn = math.atan2(dx, dz) * np.float32(1 / 6.2831853)
                    fine = _level(footprint / max(math.sqrt(dx * dx + dz * dz), np.float32(0.2)) * np.float32(14 * 40))
                    _, _, _, coarse = _texel(pyramid, fine, turn * 4, far * np.float32(0.05) + card[a, 0])
                    _, _, _, streak = _texel(pyramid, fine, turn * 14, far * np.float32(0.09) + card[a, 0])
                    streak = np.float32(0.45) * coarse + np.float32(0.55) * streak
                    cut = np.float32(0.95) * streak
                    s = (edge * np.float32(1.25) - np.float32(0.05) - cut + np.float32(0.12)) / np.float32(0.24)
                    s = min(max(s, zero), one)
                    alpha *= s * s * (3 - 2 * s)
                elif kind > 1.5:
                    edge = u * card[a, 2] + v * card[b, 2] + w * card[c, 2]
                    level = _level(footprint * np.float32(256 * 2.6))
                    _, _, _, s = _texel(
                        pyramid, level, rx * np.float32(2.6) + ry * np.float32(1.2), ry * np.float32(0.4)
                    )
                    if kind < 2.5:
                        s = (
                            edge * np.float32(0.9) + (s - np.float32(0.5)) * np.float32(0.8) - np.float32(0.15)
                        ) / np.float32(0.4)
                        alpha *= min(max(s, zero), one)
                    else:
                        alpha *= edge * min(max((s - np.float32(0.3)) / np.float32(0.3), zero), one)
                if alpha < np.float32(0.004):
                    continue
                keep = 1 - alpha
                if kind > 0.5 and kind < 1.5:
                    red = (u * lit[a, 0] + v * lit[b, 0] + w * lit[c, 0]) * alpha
                    green = (u * lit[a, 1] + v * lit[b, 1] + w * lit[c, 1]) * alpha
                    blue = (u * lit[a, 2] + v * lit[b, 2] + w * lit[c, 2]) * alpha
                else:
                    wx = u * world[a, 0] + v * world[b, 0] + w * world[c, 0]
                    wy = u * world[a, 1] + v * world[b, 1] + w * world[c, 1]
                    wz = u * world[a, 2] + v * world[b, 2] + w * world[c, 2]
                    nx = u * turned[a, 0, 0] + v * turned[b, 0, 0] + w * turned[c, 0, 0]
                    ny = u * turned[a, 0, 1] + v * turned[b, 0, 1] + w * turned[c, 0, 1]
                    nz = u * turned[a, 0, 2] + v * turned[b, 0, 2] + w * turned[c, 0, 2]
                    tx = u * turned[a, 1, 0] + v * turned[b, 1, 0] + w * turned[c, 1, 0]
                    ty = u * turned[a, 1, 1] + v * turned[b, 1, 1] + w * turned[c, 1, 1]
                    tz = u * turned[a, 1, 2] + v * turned[b, 1, 2] + w * turned[c, 1, 2]
                    red = u * tint[a, 0] + v * tint[b, 0] + w * tint[c, 0]
                    green = u * tint[a, 1] + v * tint[b, 1] + w * tint[c, 1]
                    blue = u * tint[a, 2] + v * tint[b, 2] + w * tint[c, 2]
                    red, green, blue = _hair_light(
                        wx,
                        wy,
                        wz,
                        nx,
                        ny,
                        nz,
                        tx,
                        ty,
                        tz,
                        red,
                        green,
                        blue,
                        streak,
                        kind < np.float32(0.5),
                        eye,
                        lights,
                        curve,
                        depth,
                        shadow_camera,
                    )
                    red, green, blue = red * alpha, green * alpha, blue * alpha
                for n_hit in range(count):
                    k = hit[n_hit]
                    samples[py, px, k, 0] = samples[py, px, k, 0] * keep + red
                    samples[py, px, k, 1] = samples[py, px, k, 1] * keep + green
                    samples[py, px, k, 2] = samples[py, px, k, 2] * keep + blue
                    samples[py, px, k, 3] = samples[py, px, k, 3] * keep + 255 * alpha


@_jit
def resolve(samples, out):
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            for channel in range(4):
                total = np.float32(0)
                for k in range(SAMPLES):
                    total += samples[y, x, k, channel]
                out[y, x, channel] = total * np.float32(1 / SAMPLES)
