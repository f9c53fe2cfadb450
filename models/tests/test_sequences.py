"""Whole sequences through the three graphs' PyTorch form, against the published implementation's traces."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from driver import Case, Driver, errors


def torch_graphs(network, mode=nullcontext):
    """The three graphs of a network as a driver wants them; ``mode`` is a context to run them in."""

    def run(method):
        def call(**inputs):
            with torch.no_grad(), mode():
                out = method(**{k: torch.as_tensor(v) for k, v in inputs.items()})
            return {k: v.numpy() for k, v in out._asdict().items()}

        return call

    return {name: run(getattr(network, name)) for name in ("matte", "value", "memorize")}


@pytest.mark.parametrize(
    ("name", "top_k"),
    [
        ("a_synth160x96", 30),
        ("b_fullsoftmax", None),
        ("c_pad150x90", 30),
        ("f_reseed", 30),
        ("h_mini112x80", 30),
        ("i_nowarm112x80", 30),
    ],
)
def test_alpha(shared, build, name, top_k):
    case = Case.open(shared / "golden" / f"{name}.safetensors")
    driver = Driver(torch_graphs(build(top_k=top_k)), case.frames.shape[1:3])
    worst = errors(case, driver)
    print(f"{name}: max {worst.max():.2e}, mean {worst.mean():.2e}")
    assert worst.max() <= 1e-4
    assert worst.mean() <= 5e-6
