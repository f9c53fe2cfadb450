"""Building blocks that every network of the family shares.

Shapes are ``[B, C, h, w]``. The blocks hold no state, know no sizes but their widths, and are written so that tracing
them gives static, provider-friendly operators: average pools for block means, no data-dependent shapes, no copies that
a slice of a weight can save.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# ImageNet statistics: the encoders start from networks trained with them.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


def cast(x: Tensor, dtype: torch.dtype) -> Tensor:
    """``x`` as ``dtype``; leaves no node in a traced graph where nothing changes."""
    return x if x.dtype == dtype else x.to(dtype)


def channels(x: Tensor) -> int:
    """Channels of a map, as a plain number: a tracer would compute with a symbolic one, and divide differently."""
    return int(x.shape[1])


def image_from_frame(frame: Tensor) -> Tensor:
    """Bytes ``[1, H, W, 3]`` to the normalised image ``[1, 3, H, W]``, float32.

    The frame is padded with black *before* it comes here, so a padded pixel becomes -mean/std, as in training. Scale
    and offset are one multiplication and one addition.
    """
    scale = torch.tensor([1.0 / (255.0 * s) for s in STD]).view(1, 3, 1, 1)
    offset = torch.tensor([-m / s for m, s in zip(MEAN, STD, strict=True)]).view(1, 3, 1, 1)
    # TensorRT takes bytes as an input, but only to convert them.
    x = frame.to(torch.float32).permute(0, 3, 1, 2)
    return x * scale.to(x.device) + offset.to(x.device)


def down(x: Tensor, r: int) -> Tensor:
    """Exact means of r×r blocks (an "area" resize by an integer)."""
    return F.avg_pool2d(x, r, r)


def up2(x: Tensor) -> Tensor:
    """Twice the size, bilinear, half-pixel centres."""
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


def conv_of_parts(conv: nn.Conv2d, *parts: Tensor) -> Tensor:
    """``conv(concat(parts))`` for a 1×1 convolution, without building the concatenation.

    The weight is cut along its input channels; the sum over the parts is the same function.
    """
    dtype = conv.weight.dtype
    out, start = None, 0
    for i, part in enumerate(parts):
        width = channels(part)
        weight = conv.weight[:, start : start + width]
        y = F.conv2d(cast(part, dtype), weight, conv.bias if i == 0 else None)
        out = y if out is None else out + y
        start += width
    assert start == conv.in_channels, f"parts have {start} channels, the convolution takes {conv.in_channels}"
    return out


def channel_kernel(dim: int) -> int:
    """Width of the filter that slides over the channel index (ECA-Net's rule)."""
    t = int((math.log2(dim) + 1) / 2)
    return t if t % 2 else t + 1


class CAResBlock(nn.Module):
    """Residual block with efficient channel attention (ECA-Net), ``C → C``.

    The residual is the raw input, before its ReLU.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        k = channel_kernel(dim)
        self.conv1 = nn.Conv2d(dim, dim, 3, padding=1)
        self.conv2 = nn.Conv2d(dim, dim, 3, padding=1)
        self.conv = nn.Conv1d(1, 1, k, padding=(k - 1) // 2, bias=False)
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(F.relu(self.conv1(F.relu(x))))
        mean = F.adaptive_avg_pool2d(y, 1)
        # The channels become the height of a one-column picture, so that the 1-D filter is a plain 2-D convolution.
        k = self.conv.kernel_size[0]
        column = mean.reshape(-1, 1, self.dim, 1)
        column = F.conv2d(column, self.conv.weight.reshape(1, 1, k, 1), padding=((k - 1) // 2, 0))
        attention = torch.sigmoid(column).reshape(-1, self.dim, 1, 1)
        return y * attention + x


class Distributor(nn.Module):
    """Sum of two linear maps, one of the image features ``x``, one of the mask features ``g``."""

    def __init__(self, x_dim: int, g_dim: int, out_dim: int) -> None:
        super().__init__()
        self.x_transform = nn.Conv2d(x_dim, out_dim, 1)
        self.g_transform = nn.Conv2d(g_dim, out_dim, 1)

    def forward(self, x: Tensor, g: Tensor) -> Tensor:
        return self.x_transform(x) + self.g_transform(g)


class Fuse(nn.Module):
    """Fusion of image features ``x`` and mask features ``g``: ``[B, x_dim], [B, g_dim] → [B, out_dim]``."""

    def __init__(self, x_dim: int, g_dim: int, out_dim: int) -> None:
        super().__init__()
        self.distributor = Distributor(x_dim, g_dim, out_dim)
        self.block1 = CAResBlock(out_dim)
        self.block2 = CAResBlock(out_dim)

    def forward(self, x: Tensor, g: Tensor) -> Tensor:
        return self.block2(self.block1(self.distributor(x, g)))


class ResidualBlock(nn.Module):
    """Pre-activation residual block ``in → out``; the shortcut is a 1×1 convolution only where the widths differ."""

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.downsample = nn.Conv2d(in_dim, out_dim, 1) if in_dim != out_dim else None
        self.conv1 = nn.Conv2d(in_dim, out_dim, 3, padding=1)
        self.conv2 = nn.Conv2d(out_dim, out_dim, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(F.relu(self.conv1(F.relu(x))))
        return y + (x if self.downsample is None else self.downsample(x))


def gru_update(values: Tensor, state: Tensor) -> Tensor:
    """The recurrent rule of the sensory memory (XMem, ECCV 2022).

    ``values`` ``[B, 3·C, h, w]`` holds forget, update and new, in this order; ``state`` is ``[B, C, h, w]``.
    """
    forget, update, new = values.chunk(3, dim=1)
    update = torch.sigmoid(update)
    return torch.sigmoid(forget) * state * (1 - update) + update * torch.tanh(new)


class SensoryUpdate(nn.Module):
    """Sensory memory from what has been seen: ``x [B, in_dim], state [B, dim] → state``.

    Always float32: the state is recurrent, and an error in it would live as long as the stream.
    """

    def __init__(self, in_dim: int, dim: int) -> None:
        super().__init__()
        self.transform = nn.Conv2d(in_dim + dim, 3 * dim, 3, padding=1)

    def forward(self, x: Tensor, state: Tensor) -> Tensor:
        x = torch.cat([cast(x, torch.float32), state], dim=1)
        return gru_update(self.transform(x), state)


class PositionEncoding2D(nn.Module):
    """Sines and cosines of the position, ``[1, dim, h, w]``: the first half of the channels follows x, the second y.

    Positions are scaled to [0, scale] over the picture, whatever its size. It depends on the size alone: a runtime with
    fixed sizes folds it into a constant.
    """

    def __init__(self, dim: int, scale: float = 32.0, temperature: float = 128.0) -> None:
        super().__init__()
        assert dim % 4 == 0, f"{dim} channels cannot hold sine and cosine of two axes"
        half = dim // 2
        exponent = torch.arange(0, half, 2, dtype=torch.float64) / half
        self.register_buffer("inv_freq", (temperature**-exponent).to(torch.float32))
        self.half = half
        self.scale = scale

    def _waves(self, n: int) -> Tensor:
        """Sines and cosines of n positions, interleaved: ``[half, n]``."""
        position = torch.arange(n, dtype=torch.float32, device=self.inv_freq.device)
        position = position / (position[-1:] + 1e-6) * self.scale
        angle = self.inv_freq.reshape(-1, 1) * position.reshape(1, -1)
        return torch.stack([torch.sin(angle), torch.cos(angle)], dim=1).reshape(self.half, -1)

    def forward(self, like: Tensor) -> Tensor:
        h, w = like.shape[-2:]
        x = self._waves(w).reshape(1, self.half, 1, -1)
        y = self._waves(h).reshape(1, self.half, -1, 1)
        # Adding nothing broadcasts; the tracer makes a dozen nodes of an expand().
        return torch.cat([x + 0 * y, y + 0 * x], dim=1)
