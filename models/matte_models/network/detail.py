"""`detail`: draws the edges of a matte that a guided filter has brought to full size anew, from the full-size picture.

It sees tiles of picture and matte, and gives the tile's alpha: what it adds to the filter's. Tiles overlap by a margin, in which
it knows less (`matte_models.train.detail`). As in `lite` the picture comes in by patches of 4×4 pixels, and alpha goes out by
pixel-shuffle; between them are dense 3×3 convolutions of one width, each added to what it came from.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

TILE = 64
"""Side of a tile, pixels."""
PLANES = 4
"""Of a tile: red, green, blue and the filter's alpha."""
PATCH = 4


@dataclass(frozen=True)
class DetailConfig:
    width: int = 32
    depth: int = 4


class Detail(nn.Module):
    """Tiles `[T, 4, H, W]`, 0 to 1 → unclamped alpha `[T, 1, H, W]`. Sides are multiples of 4."""

    def __init__(self, config: DetailConfig = DetailConfig()) -> None:
        super().__init__()
        self.config = config
        self.stem = nn.Conv2d(PLANES, config.width, PATCH, stride=PATCH)
        self.body = nn.ModuleList(nn.Conv2d(config.width, config.width, 3, padding=1) for _ in range(config.depth))
        self.out = nn.Conv2d(config.width, PATCH * PATCH, 1)
        # It begins as the filter.
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, tiles: Tensor) -> Tensor:
        x = F.relu(self.stem(2 * tiles - 1))
        for layer in self.body:
            x = F.relu(x + layer(x))
        return tiles[:, 3:] + F.pixel_shuffle(self.out(x), PATCH)


class Tiles(nn.Module):
    """The graph `detail`: `tiles` u8 `[T, 4, 64, 64]` → `tile_alpha` `[T, 1, 64, 64]` in [0, 1]."""

    def __init__(self, net: Detail) -> None:
        super().__init__()
        self.net = net

    def forward(self, tiles: Tensor) -> Tensor:
        return self.net(tiles.float() / 255).clamp(0, 1)
