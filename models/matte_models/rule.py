"""Deterministic weights: every tensor is a function of its name and of the index in it.

With them the real network, at its real size, can be compared bit for bit across implementations and machines, without
anybody's trained weights. The values are chosen so that signals neither vanish nor explode and so that the recurrences
contract. Integer arithmetic modulo 2^64, one float64 multiplication, one addition, one rounding: the same everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

_STARTS, _ENDS, _IS, _HAS = range(4)

# (tests, offset, scale, divide by the square root of fan-in); the first row whose tests all hold is taken.
_RULES: tuple[tuple[tuple[tuple[int, str], ...], float, float, bool], ...] = (
    (((_ENDS, ".running_mean"),), 0.0, 0.1, False),
    (((_ENDS, ".running_var"),), 1.0, 0.2, False),
    (((_ENDS, ".bn3.weight"),), 0.3, 0.1, False),
    (((_STARTS, "mask_encoder.layer"), (_ENDS, ".bn2.weight")), 0.4, 0.1, False),
    # Row 5, all other one-dimensional weights, is tested in `rule_of`.
    (((_IS, "mask_decoder.pred_mat.bias"),), 0.4, 0.0, False),
    (((_IS, "object_transformer.mask_pred.1.1.bias"),), 0.6, 0.0, False),
    (((_IS, "object_transformer.mask_pred.2.1.bias"),), 0.3, 0.0, False),
    (((_ENDS, "bias"),), 0.0, 0.1, False),
    (((_IS, "object_transformer.query_init.weight"),), 0.0, 1.0, False),
    (((_IS, "object_transformer.query_emb.weight"),), 0.0, 1.0, False),
    (((_IS, "pix_feat_proj.weight"),), 0.0, 1.0, True),
    (((_IS, "key_proj.pix_feat_proj.weight"),), 0.0, 1.0, True),
    (((_IS, "key_proj.key_proj.weight"),), 0.0, 4.0, True),
    (((_IS, "key_proj.d_proj.weight"),), 0.0, 1.0, True),
    (((_IS, "key_proj.e_proj.weight"),), 0.0, 1.7, True),
    (((_IS, "mask_decoder.pred_mat.weight"),), 0.0, 0.7, True),
    (((_IS, "temp_sparity.conv1x1_v2.weight"),), 0.0, 1.7, True),
    (((_IS, "temp_sparity.conv3x3_out.weight"),), 0.0, 1.7, True),
    (((_HAS, "sensory_update.transform.weight"),), 0.0, 1.2, True),
    (((_HAS, "sensory_update.g"),), 0.0, 1.0, True),
    (((_IS, "pixel_fuser.fuser.distributor.g_transform.weight"),), 0.0, 1.6, True),
    (((_IS, "mask_encoder.fuser.distributor.g_transform.weight"),), 0.0, 1.9, True),
    (((_IS, "mask_encoder.conv1.weight"),), 0.0, 3.3, True),
    (((_HAS, "distributor.x_transform.weight"),), 0.0, 0.8, True),
    (((_IS, "pixel_fuser.sensory_compress.weight"),), 0.0, 1.7, True),
    (((_HAS, "block1.conv2.weight"),), 0.0, 1.2, True),
    (((_HAS, "block2.conv2.weight"),), 0.0, 1.2, True),
    (((_HAS, "pixel_ffn.conv.conv2.weight"),), 0.0, 1.2, True),
    (((_HAS, "out_conv.conv2.weight"),), 0.0, 1.7, True),
    (((_HAS, "out_conv.downsample.weight"),), 0.0, 1.7, True),
    (((_HAS, "decoder_feat_proc"),), 0.0, 1.2, True),
    (((_HAS, "object_transformer.mask_pred"),), 0.0, 1.0, True),
    (((_HAS, "read_from_pixel.cross_attn.out_proj.weight"),), 0.0, 0.3, True),
    (((_HAS, "out_proj.weight"),), 0.0, 1.2, True),
    (((_HAS, "in_proj_weight"),), 0.0, 1.7, True),
    (((_HAS, "object_transformer.pixel_"),), 0.0, 1.2, True),
    (((_HAS, "object_transformer.summary_to_"),), 0.0, 1.2, True),
    (((_HAS, "object_summarizer.input_proj"),), 0.0, 1.2, True),
    ((), 0.0, 2.449, True),
)
_ROW_OF_VECTORS = 4

_TESTS = {
    _STARTS: str.startswith,
    _ENDS: str.endswith,
    _IS: str.__eq__,
    _HAS: str.__contains__,
}

# float32 of 128^(-2i/128); the formula in float32 differs by one unit in some entries.
_INV_FREQ = (
    "3f8000003f6d4f303f5bfbb83f4bec153f3d08a43f2f3b793f2270433f16942d3f0b95c23f0164d23eefe4ba3ede60f53ece248c3ebf179a"
    "3eb123f63ea435163e9837f03e8d1adf3e82cd873e7281773e60ccdf3e5063343e412c4d3e3311c43e25fed73e19e0463e0ea43a3e043a29"
    "3df5257d3de33f893dd2a81e3dc346cd3db504f33da7cd943d9b8d3a3d9031dc3d85aac33d77d0df3d65b9073d54f35b3d45672a3d36fd92"
    "3d29a15b3d1d3eda3d11c3d33d071f623cfa83b33ce8396a3cd744fd3cc78d753cb8fbaf3cab7a3a3c9ef5323c935a2b3c88980f3c7d3e0c"
    "3c6ac0c73c599d163c49b9be3c3aff5b3c2d583f3c20b0513c14f4f03c0a14d5"
)

_GOLDEN = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


def seed(key: str) -> int:
    """FNV-1a hash of the name, 64 bits."""
    value = 0xCBF29CE484222325
    for byte in key.encode():
        value = ((value ^ byte) * 0x00000100000001B3) & _MASK
    return value


def stream(key: str, count: int) -> np.ndarray:
    """``count`` numbers in [-1, 1) with 24 bits each, float64: splitmix64 from the name's seed."""
    with np.errstate(over="ignore"):
        s = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(_GOLDEN) + np.uint64(seed(key))
        s = (s ^ (s >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        s = (s ^ (s >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = s ^ (s >> np.uint64(31))
    return ((z >> np.uint64(40)).astype(np.int64) - 8388608) / 8388608.0


def rule_of(key: str, shape: Iterable[int]) -> tuple[float, float]:
    """Offset and scale of a tensor."""
    shape = tuple(shape)
    for i, (tests, offset, scale, by_fan_in) in enumerate(_RULES):
        if i == _ROW_OF_VECTORS and len(shape) == 1 and key.endswith("weight"):
            return 1.0, 0.1
        if all(_TESTS[kind](key, text) for kind, text in tests):
            return offset, scale / math.sqrt(math.prod(shape[1:])) if by_fan_in else scale
    raise AssertionError("the last rule takes everything")


def tensor(key: str, shape: Iterable[int]) -> np.ndarray:
    """The tensor of this name and shape: float32, or int64 for a counter."""
    shape = tuple(shape)
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, dtype=np.int64)
    if key.endswith("inv_freq"):
        table = np.frombuffer(bytes.fromhex(_INV_FREQ), dtype=">f4").astype(np.float32)
        if shape != table.shape:
            raise ValueError(f"{key} has shape {shape}, the rule knows {table.shape}")
        return table
    offset, scale = rule_of(key, shape)
    return (offset + scale * stream(key, math.prod(shape))).astype(np.float32).reshape(shape)
