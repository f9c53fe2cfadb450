"""`lite`: the small matting network for CPUs.

Dense 3×3 convolutions at a quarter of the resolution and below, the picture brought in by patches of 4×4 pixels and the
alpha out by pixel-shuffle: on a CPU this shape runs and trains several times faster, for the same number of operations, than
the thin depthwise layers of mobile networks. Every normalisation is a BatchNorm, folded into its convolution by `fold`.

The stages are those of the family: `matte` (encode, read the bank, decode) and `value`. It has no object memory, so there
is no `memorize`, and no sensory memory: what a state like that carries from frame to frame, it carries further than any
clip that one can train on, and errors feed themselves through it within a hundred frames. The last value and alpha are
the only short-term memory. Shapes are `[B, C, H, W]`; `h = H/16`.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import down, up2
from .read import affinity, key_rows, query_rows, row_width, valid_index

ABSENT = -1.0
"""Value of `prior` everywhere when there is no segmentation."""


@dataclass(frozen=True)
class LiteConfig:
    c4: int = 32
    c8: int = 64
    c16: int = 96
    key: int = 15
    value: int = 64
    place: float = 22.0
    """What a distance between two places, squared, takes from the similarity of their keys; 1 is the root of the area."""

    @property
    def key_row(self) -> int:
        # Three coordinates for the place, and again a multiple of 8.
        return self.place_index + 8

    @property
    def valid(self) -> int:
        return valid_index(self.key)

    @property
    def place_index(self) -> int:
        """The first of the coordinates of a row that hold its place."""
        return row_width(self.key)


class ConvNorm(nn.Module):
    """Convolution and BatchNorm, then, if asked, ReLU. Folded, it is a convolution with bias."""

    def __init__(self, cin: int, cout: int, kernel: int = 3, stride: int = 1, relu: bool = True) -> None:
        super().__init__()
        # Patches, which do not overlap, need no padding.
        self.conv = nn.Conv2d(cin, cout, kernel, stride, 0 if kernel == stride else kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(cout)
        self.relu = relu

    @torch.no_grad()
    def fold(self) -> None:
        norm, conv = self.norm, self.conv
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        folded = nn.Conv2d(conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding)
        folded.weight.copy_(conv.weight * scale.reshape(-1, 1, 1, 1))
        folded.bias.copy_(norm.bias - norm.running_mean * scale)
        self.conv, self.norm = folded, nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        return F.relu(x) if self.relu else x


class Residual(nn.Module):
    """Two 3×3 convolutions around a shortcut; ReLU after the sum."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(channels, channels)
        self.conv2 = ConvNorm(channels, channels, relu=False)
        nn.init.constant_(self.conv2.norm.weight, 0.2)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.conv2(self.conv1(x)))


class Features(NamedTuple):
    """What the picture alone gives."""

    f4: Tensor
    f8: Tensor
    f16: Tensor


def unshuffle_alpha(alpha: Tensor) -> Tensor:
    """`pixel_unshuffle(alpha, 4)`, as a convolution: runtimes do it in half the time, in the layout that they want next."""
    return F.conv2d(alpha, torch.eye(16, dtype=alpha.dtype, device=alpha.device).reshape(16, 1, 4, 4), stride=4)


def places(like: Tensor, tokens: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Row and column of every token of a map `[B, *, h, w]`, from the middle, as `[B, hw, 1]`; 1 is the root of `tokens`,
    `[B]`, which is the area of the map if nothing else is said."""
    h, w = like.shape[-2:]
    one = torch.ones_like(like[:, :1])
    side = one.sum((2, 3), keepdim=True) if tokens is None else tokens.to(one).reshape(-1, 1, 1, 1)
    y = torch.arange(h, dtype=like.dtype, device=like.device).reshape(-1, 1) - 0.5 * (h - 1)
    x = torch.arange(w, dtype=like.dtype, device=like.device) - 0.5 * (w - 1)
    y, x = (one * v / side.sqrt() for v in (y, x))
    return y.flatten(2).transpose(1, 2), x.flatten(2).transpose(1, 2)


class Lite(nn.Module):
    def __init__(self, config: LiteConfig = LiteConfig()) -> None:
        super().__init__()
        self.config = c = config
        # Picture.
        self.stem = ConvNorm(3, c.c4, 4, stride=4)
        self.enc4 = ConvNorm(c.c4, c.c4)
        self.down8 = ConvNorm(c.c4, c.c8, stride=2)
        self.enc8 = Residual(c.c8)
        self.down16 = ConvNorm(c.c8, c.c16, stride=2)
        self.enc16 = nn.Sequential(Residual(c.c16), Residual(c.c16))
        self.key = nn.Conv2d(c.c16, c.key, 1)
        self.shrinkage = nn.Conv2d(c.c16, 1, 1)
        self.selection = nn.Conv2d(c.c16, c.key, 1)
        # Memory and picture together.
        self.mix = ConvNorm(c.c16 + 2 * c.value + 2, c.c16, 1)
        self.mix16 = nn.Sequential(Residual(c.c16), Residual(c.c16))
        # Back up to the picture.
        self.up8 = ConvNorm(c.c16, c.c8, 1, relu=False)
        self.skip8 = ConvNorm(c.c8, c.c8, 1, relu=False)
        self.dec8 = Residual(c.c8)
        self.up4 = ConvNorm(c.c8, c.c4, 1, relu=False)
        self.skip4 = ConvNorm(c.c4, c.c4, 1, relu=False)
        self.dec4 = Residual(c.c4)
        self.out = nn.Conv2d(c.c4, 16, 3, padding=1)
        # Alpha to value.
        self.alpha8 = ConvNorm(16, 32, stride=2)
        self.alpha16 = ConvNorm(32, c.value, stride=2)
        self.join = ConvNorm(c.value + c.c16, c.value, 1)
        self.value16 = Residual(c.value)
        nn.init.constant_(self.out.bias, 0.3)

    # --- parts ---

    def encode(self, image: Tensor) -> Features:
        """Features of a picture `[B, 3, H, W]`, 0 … 1."""
        return self.features(self.stem(image))

    def features(self, patches: Tensor) -> Features:
        """Features from the output of the stem."""
        f4 = self.enc4(patches)
        f8 = self.enc8(self.down8(f4))
        return Features(f4, f8, self.enc16(self.down16(f8)))

    def rows(self, f16: Tensor, tokens: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Rows to store and rows to look up, both `[B, hw, K]`.

        Behind what the keys give they hold the place, so that of two things that look alike the nearer one counts more:
        the similarity gets `-place · |p_m - p_k|²`, less what all rows of the bank have in common for a query. Rows to
        store hold the place alone, `[2y, 2x, -y² - x²]`, so that it can be changed when the frame is seen through another
        window. Of crops `tokens`, `[B]`, is the area that the whole frame has.
        """
        key = self.key(f16)
        shrinkage = self.shrinkage(f16).square() + 1
        stored, sought = key_rows(key, shrinkage), query_rows(key, torch.sigmoid(self.selection(f16)))
        y, x = places(key, tokens)
        one, none = torch.ones_like(y), torch.zeros_like(y)
        rest = [none] * (self.config.key_row - self.config.place_index - 3)
        stored = torch.cat([stored, 2 * y, 2 * x, -y * y - x * x, *rest], 2)
        return stored, torch.cat([sought, *(self.config.place * v for v in (y, x, one)), *rest], 2)

    def decode(self, features: Features, read: Tensor, last_value: Tensor, last_alpha: Tensor, prior: Tensor) -> Tensor:
        """Alpha before it is clamped, `[B, 1, H, W]`."""
        x = self.mix16(self.mix(torch.cat([features.f16, read, last_value, last_alpha, prior], 1)))
        y = self.dec8(F.relu(up2(self.up8(x)) + self.skip8(features.f8)))
        y = self.dec4(F.relu(up2(self.up4(y)) + self.skip4(features.f4)))
        return F.pixel_shuffle(self.out(y), 4)

    def value(self, f16: Tensor, alpha: Tensor) -> Tensor:
        """Value of a frame with this alpha, `[B, CV, h, w]`."""
        x = self.alpha16(self.alpha8(unshuffle_alpha(alpha)))
        return self.value16(self.join(torch.cat([x, f16], 1)))


def read(queries: Tensor, bank_keys: Tensor, bank_values: Tensor, like: Tensor) -> Tensor:
    """Readout of the bank as a map of the size of `like`: `[…, hw, K], […, N, K], […, N, CV] → [B, CV, h, w]`."""
    rows = torch.matmul(affinity(queries, bank_keys), bank_values)
    return rows.transpose(-1, -2).reshape(-1, bank_values.shape[-1], like.shape[-2], like.shape[-1])


class Matte(nn.Module):
    """The graph `matte`."""

    def __init__(self, net: Lite) -> None:
        super().__init__()
        self.net = net
        # Takes bytes: that saves a pass over the picture.
        self.stem = copy.deepcopy(net.stem)
        with torch.no_grad():
            self.stem.conv.weight /= 255

    def forward(self, frame, bank_keys, bank_values, last_alpha, last_value, gate, prior):
        features = self.net.features(self.stem(frame.to(torch.float32).permute(0, 3, 1, 2)))
        rows, queries = self.net.rows(features.f16)
        seen = read(queries[0], bank_keys, bank_values, features.f16)
        seen = gate * seen + (1 - gate) * last_value
        alpha = self.net.decode(features, seen, last_value, last_alpha, prior)
        return alpha.clamp(0, 1), features.f16, rows[0]


class Value(nn.Module):
    """The graph `value`."""

    def __init__(self, net: Lite) -> None:
        super().__init__()
        self.net = net

    def forward(self, feature, alpha):
        value = self.net.value(feature, alpha)
        return value, value.flatten(2)[0].transpose(0, 1), down(alpha, 16)


def fold(net: Lite) -> Lite:
    """A copy in which every BatchNorm has gone into its convolution."""
    net = copy.deepcopy(net).eval()
    for module in net.modules():
        if isinstance(module, ConvNorm) and not isinstance(module.norm, nn.Identity):
            module.fold()
    return net


def load_lite(state: dict[str, Tensor]) -> Lite:
    """The network with these weights, folded if they are those of a folded one."""
    net = Lite()
    if not any(".norm." in name for name in state):
        net = fold(net)
    net.load_state_dict(state)
    return net
