"""Whole sequences through the three graphs' PyTorch form, against the published implementation's traces."""

from __future__ import annotations

import pytest
from driver import Case, errors

from matte_models.driver import Driver, torch_graphs


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
