"""What half precision costs: the fp16 network with every operator rounded, against the float32 network.

Runtimes on a CPU compute half-precision graphs in float32, which would show nothing. So every operator that touches a
half tensor is computed in float32 here, as tensor cores do, and its result is rounded to half.
"""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from driver import Case
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from matte_models.driver import Driver, torch_graphs

CASTS = (torch.ops.aten._to_copy.default,)


class HalfRounding(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        halves = []
        tree_map_only(torch.Tensor, lambda t: halves.append(t.dtype == torch.float16), (args, kwargs))
        if not any(halves) or func in CASTS:
            return func(*args, **kwargs)

        def widen(t):
            return t.to(torch.float32) if t.dtype == torch.float16 else t

        args, kwargs = tree_map_only(torch.Tensor, widen, (args, kwargs))
        out = func(*args, **kwargs)
        return tree_map_only(torch.Tensor, lambda t: t.to(torch.float16) if t.dtype == torch.float32 else t, out)


def play(network, case, dtype, mode=nullcontext):
    driver = Driver(torch_graphs(network, mode), case.frames.shape[1:3], dtype=dtype)
    return np.stack([alpha for alpha, _ in case.play(driver)])


@pytest.mark.parametrize(("name", "top_k"), [("a_synth160x96", 30), ("b_fullsoftmax", None), ("h_mini112x80", 30)])
def test_half_precision(shared, build, name, top_k):
    case = Case.open(shared / "golden" / f"{name}.safetensors")
    exact = play(build(top_k=top_k), case, np.float32)
    error = np.abs(play(build(top_k=top_k).half_(), case, np.float16, HalfRounding) - exact)
    print(f"{name}: fp16 against fp32, max {error.max():.2e}, mean {error.mean():.2e}")
    print("by step:", " ".join(f"{e.max():.1e}" for e in error))
    assert error.mean() < 5e-3
