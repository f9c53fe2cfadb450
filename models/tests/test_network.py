"""Pieces of the network against their definitions, and what a checkpoint may look like."""

from __future__ import annotations

import dataclasses

import onnx
import pytest
import torch

from matte_models.config import Config
from matte_models.export import skeletons
from matte_models.export_matanyone import TRACE_DIMS, graph_specs
from matte_models.network import read
from matte_models.network.matanyone import MatAnyone, load_checkpoint

SMALL = Config(
    stem=16,
    image_blocks=(1, 1, 1),
    mask_blocks=(1, 1, 1),
    pixel_dim=32,
    key_dim=16,
    value_dim=48,
    sensory_dim=40,
    embed_dim=32,
    num_queries=8,
    num_heads=4,
    ff_dim=64,
    num_blocks=2,
    up_dims=(32, 32, 24, 16, 8),
)


def tokens(seed, dim=16, h=3, w=5):
    generator = torch.Generator().manual_seed(seed)
    key = torch.randn(1, dim, h, w, generator=generator)
    shrinkage = 1 + torch.rand(1, 1, h, w, generator=generator) ** 2
    selection = torch.rand(1, dim, h, w, generator=generator)
    return key, shrinkage, selection


def test_rows_give_the_anisotropic_distance():
    key, shrinkage, _ = tokens(1)
    query, _, selection = tokens(2)
    product = read.query_rows(query, selection)[0] @ read.key_rows(key, shrinkage)[0].T
    m, k, e = (x.flatten(2)[0] for x in (key, query, selection))
    distance = (e[:, None, :] * (m[:, :, None] - k[:, None, :]) ** 2).sum(0)
    expected = -(shrinkage.flatten()[:, None] / 4) * distance
    torch.testing.assert_close(product.T, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("dim", "width"), [(16, 40), (32, 72), (64, 136)])
def test_row_layout(dim, width):
    key, shrinkage, selection = tokens(3, dim)
    rows, queries = read.key_rows(key, shrinkage), read.query_rows(key, selection)
    assert rows.shape == queries.shape == (1, 15, width)
    assert (rows[..., read.valid_index(dim) :] == 0).all()
    assert (queries[..., read.valid_index(dim)] == 1).all()


@pytest.mark.parametrize("top_k", [None, 5])
def test_empty_slots_are_not_read(top_k):
    key, shrinkage, selection = tokens(4)
    queries, filled = read.query_rows(key, selection)[0], read.key_rows(key, shrinkage)[0]
    empty = torch.zeros_like(filled)
    empty[:, read.valid_index(16)] = read.EMPTY
    values = torch.randn(30, 7, generator=torch.Generator().manual_seed(5))
    values[15:] = 0
    some = read.read_bank(queries, torch.cat([filled, empty]), values, top_k)
    torch.testing.assert_close(some, read.read_bank(queries, filled, values[:15], top_k))
    nothing = read.read_bank(queries, torch.cat([empty, empty]), torch.zeros(30, 7), top_k)
    assert (nothing == 0).all()


def test_top_k_keeps_the_largest():
    key, shrinkage, selection = tokens(6)
    queries, rows = read.query_rows(key, selection)[0], read.key_rows(key, shrinkage)[0]
    weights = read.affinity(queries, rows, 4)
    best, where = (queries @ rows.T).topk(4)
    expected = torch.zeros_like(weights).scatter(1, where, torch.softmax(best, 1))
    torch.testing.assert_close(weights, expected)


def test_gate_lets_the_last_value_pass():
    """With gate 0 nothing of the bank reaches the alpha."""
    torch.manual_seed(0)
    network = MatAnyone(SMALL).eval()
    spec = graph_specs(network)[0]
    inputs = {}
    for port in spec.inputs:
        shape = [TRACE_DIMS[d] if isinstance(d, str) else d for d in port.shape]
        real = torch.rand(shape)
        inputs[port.name] = (real * 255).to(torch.uint8) if port.type == "uint8" else real
    with torch.no_grad():
        off = [network.matte(**{**inputs, "gate": torch.tensor(0.0), "bank_values": v}).alpha
               for v in (inputs["bank_values"], -inputs["bank_values"])]  # fmt: skip
    assert torch.equal(*off)


@pytest.mark.parametrize("half", [False, True])
def test_other_sizes_export(half):
    """Nothing in the definition or the export knows the published sizes."""
    network = MatAnyone(SMALL).eval().requires_grad_(False)
    if half:
        network.half_()
    graphs, weights = skeletons(network, graph_specs(network), TRACE_DIMS)
    assert weights.bytes > 0
    row = next(o for o in onnx.load_from_string(graphs["matte"]).graph.output if o.name == "key_rows")
    assert row.type.tensor_type.shape.dim[1].dim_value == SMALL.key_row


@pytest.fixture(scope="module")
def checkpoint():
    torch.manual_seed(0)
    return MatAnyone(SMALL).state_dict()


def loaded(tensors):
    network = MatAnyone(SMALL)
    load_checkpoint(network, tensors)
    return network.state_dict()


def test_checkpoint_forms(checkpoint):
    """A common prefix, half precision, absent counters and the many-object form are taken."""
    tensors = {f"module.model.{k}": v for k, v in checkpoint.items() if not k.endswith("num_batches_tracked")}
    for key in ("mask_encoder.conv1.weight", "pixel_fuser.sensory_compress.weight"):
        full = tensors[f"module.model.{key}"]
        tensors[f"module.model.{key}"] = torch.cat([full, torch.ones_like(full[:, :1])], dim=1)
    state = loaded(tensors)
    assert all(torch.equal(state[k], v) for k, v in checkpoint.items())
    state = loaded({k: v.half() if v.is_floating_point() else v for k, v in checkpoint.items()})
    assert all(torch.equal(state[k], v.half().float()) for k, v in checkpoint.items() if v.is_floating_point())


def test_checkpoint_is_loaded_strictly(checkpoint):
    missing = {k: v for k, v in checkpoint.items() if k != "key_proj.d_proj.bias"}
    with pytest.raises(RuntimeError, match=r"key_proj\.d_proj\.bias"):
        loaded(missing)
    with pytest.raises(RuntimeError, match="stranger"):
        loaded({**checkpoint, "stranger.weight": torch.zeros(1)})


def test_config_refuses_what_cannot_be():
    with pytest.raises(ValueError, match="num_heads 7"):
        dataclasses.replace(SMALL, num_heads=7)
    with pytest.raises(ValueError, match="num_queries is 3"):
        dataclasses.replace(SMALL, num_queries=3)
