"""Reading the alpha memory bank.

The anisotropic distance of XMem (ECCV 2022) between a memory token with key ``m`` and shrinkage ``s`` and
a query token with key ``k`` and selection ``e``,

    S = -(s / sqrt(C)) · Σ_c e_c (m_c - k_c)²,

is expanded into one inner product of two rows, so that the whole read is two matrix products and a softmax along the
contiguous axis:

    bank row   (s / sqrt(C)) · [-m², 2m, -1]
    query row               [ e,  e·k, Σ e·k²]

Behind these 2C + 1 coordinates a row carries one *validity* coordinate: 1 in a query row; in a bank row 0 for a filled
slot and -1e9 for an empty one. So a bank of fixed size needs no mask. Rows are then padded to a multiple of 8, which
is what tensor cores want; the bank's padding is 0, so the query's may be anything.

Everything here is float32 in every package: squares of keys cancel each other.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from matte_models.network.blocks import cast, channels

EMPTY = -1e9
"""Validity coordinate of an empty slot: finite, so that an entirely empty bank still gives finite (zero) readouts."""


def valid_index(key_dim: int) -> int:
    """Coordinate of a row that tells filled slots from empty ones."""
    return 2 * key_dim + 1


def row_width(key_dim: int) -> int:
    """Width K of a row: 2C + 1 coordinates and the validity, padded to a multiple of 8."""
    return -(-(valid_index(key_dim) + 1) // 8) * 8


def _rows(parts: list[Tensor], key_dim: int, fill: float) -> Tensor:
    """``[B, *, h, w]`` parts to rows ``[B, hw, K]``, the rest of each row being ``fill``."""
    x = torch.cat(parts, dim=1)
    x = F.pad(x, (0, 0, 0, 0, 0, row_width(key_dim) - valid_index(key_dim)), value=fill)
    return x.flatten(2).transpose(1, 2)


def key_rows(key: Tensor, shrinkage: Tensor) -> Tensor:
    """Rows to store: ``key [B, C, h, w]``, ``shrinkage [B, 1, h, w]`` (≥ 1) → ``[B, hw, K]``."""
    dim = channels(key)
    scale = shrinkage * dim**-0.5
    scaled = key * scale
    return _rows([-key * scaled, 2 * scaled, -scale], dim, 0.0)


def query_rows(key: Tensor, selection: Tensor) -> Tensor:
    """Rows to look up: ``key``, ``selection`` ``[B, C, h, w]`` → ``[B, hw, K]``."""
    selected = selection * key
    square = (selected * key).sum(dim=1, keepdim=True)
    return _rows([selection, selected, square], channels(key), 1.0)


def affinity(queries: Tensor, bank_keys: Tensor, top_k: int | None = None) -> Tensor:
    """Weights of the bank's tokens for every query: ``[…, hw, K], […, N, K] → […, hw, N]``; rows sum to 1.

    ``top_k`` keeps the k most similar tokens, as in the published evaluation; it is a different function from the full
    softmax. The k-th similarity is used as a threshold, so no index ever leaves the operator.
    """
    similarity = torch.matmul(queries, bank_keys.transpose(-1, -2))
    if top_k is None:
        return torch.softmax(similarity, dim=-1)
    best = torch.topk(similarity, top_k, dim=-1).values
    weight = torch.exp(similarity - best[..., :1]) * (similarity >= best[..., -1:]).to(similarity.dtype)
    return weight / weight.sum(dim=-1, keepdim=True)


def read_bank(queries: Tensor, bank_keys: Tensor, bank_values: Tensor, top_k: int | None = None) -> Tensor:
    """The bank's values as each query sees them, channels first: ``[…, hw, K] → […, CV, hw]``."""
    weights = cast(affinity(queries, bank_keys, top_k), bank_values.dtype)
    # The small result is transposed, not the two large factors.
    return torch.matmul(weights, bank_values).transpose(-1, -2)
