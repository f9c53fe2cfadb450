"""Graphs in 8-bit integers, and averaged weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from matte_models import average, quantise
from matte_models import export_lite as export
from matte_models.network.lite import LiteConfig
from matte_models.train import data

PACKAGE = Path(__file__).parents[1] / "packages" / "lite"
CONFIG = LiteConfig()


def feeds(count: int) -> list[quantise.Feed]:
    spec = export.graph_specs(CONFIG)["matte"]
    return [export.random_inputs(spec, export.sizes(64, 96), np.random.default_rng(i), CONFIG.valid)
            for i in range(count)]


def quantised_convolutions(model: onnx.ModelProto) -> set[str]:
    """Names of those whose weights come out of integers."""
    integers = {n.output[0] for n in model.graph.node if n.op_type == "DequantizeLinear"}
    return {n.name for n in model.graph.node if n.op_type == "Conv" and n.input[1] in integers}


def test_all_convolutions_but_those_that_are_kept_are_in_integers_of_seven_bits():
    full = onnx.load(PACKAGE / "matte.onnx")
    small = quantise.quantise(full, feeds(3))
    every = {n.name for n in full.graph.node if n.op_type == "Conv"}
    kept = every - quantised_convolutions(small)
    assert kept == {n for n in every if any(part in n for part in quantise.KEEP)}
    assert len(kept) == len(quantise.KEEP)
    weights = [onnx.numpy_helper.to_array(t) for t in small.graph.initializer if t.data_type == onnx.TensorProto.INT8]
    largest = max(np.abs(w.astype(int)).max() for w in weights)
    assert 60 < largest <= 64
    assert 0 < quantise.loss(full, small, feeds(2)) < 0.05
    with pytest.raises(ValueError, match="none of the"):
        quantise.quantise(full, feeds(1), quantise.convolutions_but(""))


def test_the_shipped_integers_belong_to_the_shipped_weights():
    full, small = (onnx.load(PACKAGE / name) for name in ("matte.onnx", "matte.int8.onnx"))
    assert [i.name for i in full.graph.input] == [i.name for i in small.graph.input]
    assert [o.name for o in full.graph.output] == [o.name for o in small.graph.output]
    kept = {t.name: onnx.numpy_helper.to_array(t) for t in full.graph.initializer}
    constants = {n.output[0]: onnx.numpy_helper.to_array(n.attribute[0].t) for n in full.graph.node
                 if n.op_type == "Constant"}
    shared = {t.name for t in small.graph.initializer} & {**kept, **constants}.keys()
    for tensor in small.graph.initializer:
        if tensor.name in shared:
            np.testing.assert_array_equal(onnx.numpy_helper.to_array(tensor), {**kept, **constants}[tensor.name])
    assert any("mix" in name and "weight" in name for name in shared)


def test_frames_of_clips_are_fed_as_the_engine_feeds_them(tmp_path):
    rng = np.random.default_rng(4)
    frames = rng.integers(0, 256, (2, data.FRAMES, *data.USUAL[::-1], 4), np.uint8)
    for name, array in (("frames.u8", frames), ("prior.u8", frames[..., :: data.STRIDE, :: data.STRIDE, 0])):
        (tmp_path / name).write_bytes(np.ascontiguousarray(array).tobytes())
    (tmp_path / "done").write_text("2")
    found = quantise.feeds_of(PACKAGE, [tmp_path], clips=2, step=5)
    # Mask and first frame, then one for each further frame; every fifth is kept.
    a_clip = -(-(data.FRAMES + 1) // 5)
    assert len(found) == 2 * a_clip
    assert [float(f["gate"]) for f in found[:2]] == [0, 1]
    np.testing.assert_array_equal(found[0]["frame"][0], frames[0, 0, ..., :3])
    # Without a mask nothing is stored yet; later the first frame is.
    assert (found[0]["bank_keys"][:, CONFIG.valid] < 0).all() and (found[1]["bank_keys"][:, CONFIG.valid] == 0).any()
    assert (found[0]["prior"] >= 0).all() and (found[a_clip]["prior"] == -1).all()


def test_weights_are_averaged_by_share():
    before, after = {"a": torch.zeros(2)}, {"a": torch.ones(2)}
    assert torch.equal(average.mix(before, after, 0.75)["a"], torch.full((2,), 0.75))
    with pytest.raises(ValueError, match="'b'"):
        average.mix(before, {**after, "b": torch.ones(1)}, 0.5)
