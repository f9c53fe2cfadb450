"""Object transformer (Cutie, CVPR 2024): queries read the pixels, the pixels read the queries.

The sixteen queries are a handful of numbers and stay float32 in every package; the pixels stay a map ``[1, C, h, w]``
throughout, so that linear layers over tokens are 1×1 convolutions and nothing is transposed.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from matte_models.network.blocks import CAResBlock, PositionEncoding2D, cast

FORBIDDEN = 1e9
"""What is taken off the logit of a forbidden position: exp() of it is exactly 0 in float32."""


class Attention(nn.Module):
    """Weights of one multi-head attention; rows of ``in_proj_weight`` are queries, keys and values, in this order."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dim, dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dim))
        self.out_proj = nn.Linear(dim, dim)
        nn.init.xavier_uniform_(self.in_proj_weight)
        self.dim = dim
        self.heads = heads
        self.head_dim = dim // heads
        self.scale = self.head_dim**-0.5

    def _rows(self, part: int) -> tuple[Tensor, Tensor]:
        rows = slice(part * self.dim, (part + 1) * self.dim)
        return self.in_proj_weight[rows], self.in_proj_bias[rows]

    def project_tokens(self, part: int, x: Tensor) -> Tensor:
        """Part 0, 1, 2 (query, key, value) of a few tokens ``[Q, C]``, by heads: ``[heads, Q, C/heads]``."""
        weight, bias = self._rows(part)
        return F.linear(x, weight, bias).reshape(-1, self.heads, self.head_dim).transpose(0, 1)

    def project_map(self, part: int, x: Tensor) -> Tensor:
        """The same for a map ``[1, C, h, w]``, in its type: ``[heads, C/heads, hw]``."""
        weight, bias = self._rows(part)
        weight = cast(weight.reshape(self.dim, self.dim, 1, 1), x.dtype)
        return F.conv2d(x, weight, cast(bias, x.dtype)).reshape(self.heads, self.head_dim, -1)

    def merge_tokens(self, x: Tensor) -> Tensor:
        """``[heads, Q, C/heads] → [Q, C]`` through the output projection."""
        return self.out_proj(x.transpose(0, 1).reshape(-1, self.dim))

    def merge_map(self, x: Tensor, like: Tensor) -> Tensor:
        """``[heads, C/heads, hw]`` → a map of the shape of ``like``, through the output projection."""
        weight = cast(self.out_proj.weight.reshape(self.dim, self.dim, 1, 1), x.dtype)
        h, w = like.shape[-2:]
        return F.conv2d(x.reshape(1, self.dim, h, w), weight, cast(self.out_proj.bias, x.dtype))


class ReadFromPixel(nn.Module):
    """Masked attention of the queries over the pixels."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.cross_attn = Attention(dim, heads)
        self.norm = nn.LayerNorm(dim)

    def forward(self, query: Tensor, query_pe: Tensor, pixel: Tensor, pixel_pe: Tensor, forbidden: Tensor) -> Tensor:
        """``forbidden [1, 2, 1, hw]`` is added to the logits: one row for each half of the queries."""
        attn = self.cross_attn
        x = self.norm(query)
        q = cast(attn.project_tokens(0, x + query_pe) * attn.scale, pixel.dtype)
        k = attn.project_map(1, pixel + pixel_pe)
        v = attn.project_map(2, pixel)
        logits = cast(torch.matmul(q, k), torch.float32)
        count = query.shape[0]
        logits = logits.reshape(attn.heads, 2, count // 2, -1) + forbidden
        weight = cast(torch.softmax(logits, dim=-1), pixel.dtype).reshape(attn.heads, count, -1)
        read = cast(torch.matmul(weight, v.transpose(1, 2)), torch.float32)
        # The residual is the normalised query, as trained.
        return x + attn.merge_tokens(read)


class SelfAttention(nn.Module):
    """Attention of the queries over each other."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.self_attn = Attention(dim, heads)
        self.norm = nn.LayerNorm(dim)

    def forward(self, query: Tensor, query_pe: Tensor) -> Tensor:
        attn = self.self_attn
        x = self.norm(query)
        q = attn.project_tokens(0, x + query_pe) * attn.scale
        k = attn.project_tokens(1, x + query_pe)
        v = attn.project_tokens(2, x)
        weight = torch.softmax(torch.matmul(q, k.transpose(1, 2)), dim=-1)
        return x + attn.merge_tokens(torch.matmul(weight, v))


class FeedForward(nn.Module):
    """Two linear layers on the queries; here the residual is the raw query."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(dim, hidden)
        self.linear2 = nn.Linear(hidden, dim)
        self.norm = nn.LayerNorm(dim)

    def forward(self, query: Tensor) -> Tensor:
        return query + self.linear2(F.relu(self.linear1(self.norm(query))))


class ReadFromQuery(nn.Module):
    """Attention of the pixels over the queries; no normalisation."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.cross_attn = Attention(dim, heads)

    def forward(self, pixel: Tensor, pixel_pe: Tensor, query: Tensor, query_pe: Tensor) -> Tensor:
        attn = self.cross_attn
        q = attn.project_map(0, pixel + pixel_pe)
        k = cast(attn.project_tokens(1, query + query_pe) * attn.scale, pixel.dtype)
        v = cast(attn.project_tokens(2, query), pixel.dtype)
        # [heads, hw, Q]: the softmax runs along the contiguous axis.
        logits = cast(torch.matmul(q.transpose(1, 2), k.transpose(1, 2)), torch.float32)
        weight = cast(torch.softmax(logits, dim=-1), pixel.dtype)
        read = torch.matmul(v.transpose(1, 2), weight.transpose(1, 2))
        return pixel + attn.merge_map(read, pixel)


class PixelFeedForward(nn.Module):
    """Convolutions on the pixels, which bring neighbours together."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv = CAResBlock(dim)

    def forward(self, pixel: Tensor) -> Tensor:
        return self.conv(pixel)


class TransformerBlock(nn.Module):
    """One exchange between queries ``[Q, C]`` and pixels ``[1, C, h, w]``."""

    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.read_from_pixel = ReadFromPixel(dim, heads)
        self.self_attn = SelfAttention(dim, heads)
        self.ffn = FeedForward(dim, hidden)
        self.read_from_query = ReadFromQuery(dim, heads)
        self.pixel_ffn = PixelFeedForward(dim)

    def forward(
        self, query: Tensor, query_pe: Tensor, pixel: Tensor, pixel_pe: Tensor, forbidden: Tensor
    ) -> tuple[Tensor, Tensor]:
        query = self.read_from_pixel(query, query_pe, pixel, pixel_pe, forbidden)
        query = self.self_attn(query, query_pe)
        query = self.ffn(query)
        pixel = self.read_from_query(pixel, pixel_pe, query, query_pe)
        return query, self.pixel_ffn(pixel)


def forbidden_positions(mask_logit: Tensor) -> Tensor:
    """Additive mask ``[1, 2, 1, hw]`` of a map ``[1, 1, h, w]``: 0 where a half may look, -1e9 elsewhere.

    The first half of the queries looks at the foreground (logit ≥ 0), the second at the background; a half with nowhere
    to look may look everywhere. Plain arithmetic, so that every provider can run it: no indices, no branches.
    """
    foreground = (mask_logit >= 0).to(torch.float32).reshape(1, 1, 1, -1)
    own = torch.cat([foreground, 1 - foreground], dim=1)
    allowed = torch.maximum(own, 1 - own.amax(dim=-1, keepdim=True))
    return (allowed - 1) * FORBIDDEN


class ObjectTransformer(nn.Module):
    """Refines the pixel readout ``[1, C, h, w]`` with the object memory ``[1, Q, C + 1]`` (sums and areas)."""

    def __init__(
        self, dim: int, num_queries: int, heads: int, hidden: int, blocks: int, scale: float, temperature: float
    ) -> None:
        super().__init__()
        self.query_init = nn.Embedding(num_queries, dim)
        self.query_emb = nn.Embedding(num_queries, dim)
        self.summary_to_query_init = nn.Linear(dim, dim)
        self.summary_to_query_emb = nn.Linear(dim, dim)
        self.pixel_init_proj = nn.Conv2d(dim, dim, 1)
        self.pixel_emb_proj = nn.Conv2d(dim, dim, 1)
        self.spatial_pe = PositionEncoding2D(dim, scale, temperature)
        self.blocks = nn.ModuleList(TransformerBlock(dim, heads, hidden) for _ in range(blocks))
        # The last head steers nothing; it is there because checkpoints hold it.
        self.mask_pred = nn.ModuleList(nn.Sequential(nn.ReLU(), nn.Conv2d(dim, 1, 1)) for _ in range(blocks + 1))
        self.dim = dim

    def forward(self, pixel: Tensor, object_memory: Tensor) -> Tensor:
        memory = object_memory[0]
        summary = memory[:, : self.dim] / (memory[:, self.dim :] + 1e-4)
        query = self.query_init.weight + self.summary_to_query_init(summary)
        query_pe = self.query_emb.weight + self.summary_to_query_emb(summary)
        pixel_pe = cast(self.spatial_pe(pixel), pixel.dtype) + self.pixel_emb_proj(pixel)
        pixel = self.pixel_init_proj(pixel)
        for block, head in zip(self.blocks, self.mask_pred, strict=False):
            # The decision is a sign: it is taken in float32.
            forbidden = forbidden_positions(head(cast(pixel, torch.float32)))
            query, pixel = block(query, query_pe, pixel, pixel_pe, forbidden)
        return pixel
