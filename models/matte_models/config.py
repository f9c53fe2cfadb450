"""Sizes of a network of the MatAnyone family."""

from __future__ import annotations

from dataclasses import dataclass

from matte_models.network.read import row_width, valid_index


@dataclass(frozen=True)
class Config:
    """Everything that gives a tensor its shape. The defaults are the published network (MatAnyone, CVPR 2025)."""

    stem: int = 64
    """Channels after the 7×7 stems; the stages double from there."""
    image_blocks: tuple[int, int, int] = (3, 4, 6)
    """Bottleneck blocks of the pixel encoder at strides 4, 8, 16 (ResNet-50)."""
    mask_blocks: tuple[int, int, int] = (2, 2, 2)
    """Basic blocks of the mask encoder at strides 4, 8, 16 (ResNet-18)."""
    pixel_dim: int = 256
    key_dim: int = 64
    value_dim: int = 256
    sensory_dim: int = 256
    embed_dim: int = 256
    num_queries: int = 16
    """Queries of the object transformer; the first half looks at the foreground, the second at the background."""
    num_heads: int = 8
    ff_dim: int = 2048
    num_blocks: int = 3
    up_dims: tuple[int, int, int, int, int] = (256, 128, 128, 64, 16)
    """Decoder channels at strides 16, 8, 4, 2, 1."""
    pe_scale: float = 32.0
    pe_temperature: float = 128.0
    change_dims: tuple[int, int] = (64, 32)
    """Hidden channels of the change head."""
    top_k: int | None = None
    """Tokens that a memory read keeps; None reads them all (softmax)."""

    def __post_init__(self) -> None:
        if self.num_queries % 2:
            raise ValueError(f"num_queries is {self.num_queries}, which does not split into two halves")
        if self.embed_dim % self.num_heads or self.embed_dim % 4:
            raise ValueError(f"embed_dim {self.embed_dim} must divide by num_heads {self.num_heads} and by 4")
        if self.up_dims[0] != self.embed_dim:
            raise ValueError(f"up_dims start at {self.up_dims[0]}, the object transformer gives {self.embed_dim}")

    @property
    def image_dims(self) -> tuple[int, int, int, int, int]:
        """Channels of the image pyramid at strides 16, 8, 4, 2, 1."""
        return (16 * self.stem, 8 * self.stem, 4 * self.stem, self.stem, 3)

    @property
    def mask_dim(self) -> int:
        """Channels of the mask encoder at stride 16."""
        return 4 * self.stem

    @property
    def key_row(self) -> int:
        """Width of a key row."""
        return row_width(self.key_dim)

    @property
    def valid(self) -> int:
        """Validity coordinate of a key row."""
        return valid_index(self.key_dim)


MATANYONE = Config()
