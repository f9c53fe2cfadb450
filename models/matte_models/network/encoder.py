"""Pixel encoder and key projection: what is computed from the frame alone."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from matte_models.network.blocks import cast


def shortcut(in_dim: int, out_dim: int, stride: int) -> nn.Sequential | None:
    """The projection of a residual block whose output differs in shape from its input."""
    if stride == 1 and in_dim == out_dim:
        return None
    return nn.Sequential(nn.Conv2d(in_dim, out_dim, 1, stride, bias=False), nn.BatchNorm2d(out_dim))


class Bottleneck(nn.Module):
    """ResNet-50 block ``in → 4·width``; the stride is in the 3×3 convolution."""

    def __init__(self, in_dim: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_dim, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample = shortcut(in_dim, 4 * width, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


def bottlenecks(in_dim: int, width: int, count: int, stride: int) -> nn.Sequential:
    """One stage: ``in_dim → 4·width``, the first block carrying the stride."""
    first = Bottleneck(in_dim, width, stride)
    return nn.Sequential(first, *(Bottleneck(4 * width, width, 1) for _ in range(count - 1)))


class PixelEncoder(nn.Module):
    """ResNet-50 without its last stage: image ``[1, 3, H, W]`` to a pyramid at strides 16, 8, 4, 2."""

    def __init__(self, stem: int, blocks: tuple[int, int, int]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, stem, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.res2 = bottlenecks(stem, stem, blocks[0], 1)
        self.layer2 = bottlenecks(4 * stem, 2 * stem, blocks[1], 2)
        self.layer3 = bottlenecks(8 * stem, 4 * stem, blocks[2], 2)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        f2 = F.relu(self.bn1(self.conv1(image)))
        f4 = self.res2(F.max_pool2d(f2, 3, 2, 1))
        f8 = self.layer2(f4)
        f16 = self.layer3(f8)
        return f16, f8, f4, f2


class KeyProjection(nn.Module):
    """Key, shrinkage and selection of every token (XMem, ECCV 2022), always float32.

    ``f16 [1, C, h, w] → key [1, key_dim, h, w], shrinkage [1, 1, h, w] ≥ 1, selection [1, key_dim, h, w] in (0, 1)``.
    """

    def __init__(self, in_dim: int, pixel_dim: int, key_dim: int) -> None:
        super().__init__()
        self.pix_feat_proj = nn.Conv2d(in_dim, pixel_dim, 1)
        self.key_proj = nn.Conv2d(pixel_dim, key_dim, 3, padding=1)
        self.d_proj = nn.Conv2d(pixel_dim, 1, 3, padding=1)
        self.e_proj = nn.Conv2d(pixel_dim, key_dim, 3, padding=1)

    def forward(self, f16: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = cast(self.pix_feat_proj(f16), torch.float32)
        depth = self.d_proj(x)
        return self.key_proj(x), depth * depth + 1, torch.sigmoid(self.e_proj(x))
