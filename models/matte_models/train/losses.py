"""Losses of the matting network. Alphas are `[…, 1, H, W]`."""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

MARGIN = 0.05


def pull(raw: Tensor, alpha: Tensor, margin: float = MARGIN) -> Tensor:
    """Distance of the unclamped output from the truth, per pixel.

    Where the truth is 0 or 1 the output has to lie beyond it by `margin`, and costs nothing further out: clamping then
    gives exact zeros and ones, instead of the haze of a few hundredths that a plain L1 leaves. Far out (beyond three
    margins and half) it costs a little again, so that it stays within reach.
    """
    inside = (raw - alpha).abs()
    one = F.relu(1 + margin - raw)
    zero = F.relu(raw + margin)
    cost = torch.where(alpha >= 0.996, one, torch.where(alpha <= 0.004, zero, inside))
    return cost + 0.1 * F.relu((raw - 0.5).abs() - 1.0 - 3 * margin)


@cache
def _band(n: int, device: torch.device) -> Tensor:
    """The matrix that filters `n` samples by (1, 4, 6, 4, 1) / 16, reflected at the ends."""
    rows = torch.eye(n)
    padded = F.pad(rows[:, None], (2, 2), mode="reflect")[:, 0]
    taps = (1 / 16, 1 / 4, 3 / 8, 1 / 4, 1 / 16)
    return sum(tap * padded.narrow(1, k, n) for k, tap in enumerate(taps)).T.contiguous().to(device)


def _blur_by_products(x: Tensor) -> Tensor:
    """What `_blur` gives, in two products of matrices: on a GPU a tenth of the kernels and of the memory's traffic."""
    height, width = x.shape[-2:]
    x = x @ _band(width, x.device).T
    flat = x.reshape(-1, height, width)
    return torch.bmm(_band(height, x.device).expand(len(flat), -1, -1), flat).view_as(x)


def _blur(x: Tensor) -> Tensor:
    """Filtered by (1, 4, 6, 4, 1) / 16 along both sides. As sums: convolutions of one channel train twenty times slower."""
    # A compiler makes a kernel or two of the sums.
    if x.is_cuda and not torch.compiler.is_compiling():
        return _blur_by_products(x)
    x = F.pad(x, (2, 2, 2, 2), mode="reflect")
    for side in (-1, -2):
        n = x.shape[side] - 4
        a, b, c, d, e = (x.narrow(side, k, n) for k in range(5))
        x = (a + e) / 16 + (b + d) / 4 + c * 0.375
    return x


def laplacian(a: Tensor, b: Tensor, levels: int = 4) -> Tensor:
    """L1 between Laplacian pyramids, level `k` weighted by `2^k`, over the number of levels. Linear, so of `a − b`."""
    x = (a - b).flatten(0, -4)
    total = x.new_zeros(())
    for level in range(levels):
        low = _blur(x)
        total = total + 2.0**level * (x - low).abs().mean()
        x = F.avg_pool2d(low, 2)
    return total / levels


def temporal(a: Tensor, b: Tensor) -> Tensor:
    """Difference of temporal differences, along the second dimension (`[B, T, 1, H, W]`).

    The mean catches what flickers everywhere, the root of the mean square of each pair of frames (which is dtSSD) the few
    strong jumps at edges.
    """
    d = (a[:, 1:] - a[:, :-1]) - (b[:, 1:] - b[:, :-1])
    jumps = (d.square().mean((2, 3, 4)) + 1e-6).sqrt()
    return d.abs().mean() + 0.4 * jumps.mean()
