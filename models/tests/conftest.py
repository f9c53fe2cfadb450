"""Where the reference traces lie, and the network with deterministic weights."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the network definition needs torch")

SHARED = Path(os.environ.get("MATTE_SHARED", Path(__file__).resolve().parents[3] / "shared"))


@pytest.fixture(scope="session")
def shared() -> Path:
    if not (SHARED / "golden").is_dir():
        pytest.skip(f"no reference traces in {SHARED} (set MATTE_SHARED)")
    return SHARED


@pytest.fixture(scope="session")
def rule_state() -> dict:
    from matte_models.network import matanyone

    return matanyone.rule_state()


@pytest.fixture(scope="session")
def build(rule_state):
    """``build(**config)``: the network with deterministic weights, ready for inference."""
    from matte_models.config import Config
    from matte_models.network.matanyone import MatAnyone, load_checkpoint

    def make(**config):
        network = MatAnyone(Config(**config)).eval()
        load_checkpoint(network, rule_state)
        return network.requires_grad_(False)

    return make
