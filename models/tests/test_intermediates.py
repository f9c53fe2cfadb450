"""Inner tensors of six steps of one sequence, against the published implementation's.

A whole-sequence test says that something is wrong; this one says where.
"""

from __future__ import annotations

import numpy as np
import pytest
from driver import Case
from safetensors import safe_open

from matte_models.driver import Driver, torch_graphs

# Steps of the reference run, by position: the mask, three first-frame predictions, then frames 1, 2, ...
STEPS = {"mask": 0, "warm0": 1, "warm2": 3, "f3": 6, "f5": 8, "f11": 14}

# Outputs of modules: (module, index into a tuple or None, name in the trace).
OUTPUTS = [
    ("pixel_encoder", 0, "f16"),
    ("pixel_encoder", 1, "f8"),
    ("pixel_encoder", 2, "f4"),
    ("pixel_encoder", 3, "f2"),
    ("pix_feat_proj", None, "pix_feat"),
    ("key_proj", 0, "key"),
    ("key_proj", 1, "shrinkage"),
    ("key_proj", 2, "selection"),
    ("temp_sparity", None, "uncert_prob"),
    ("pixel_fuser", None, "pixel_fused"),
    ("object_transformer.mask_pred.0", None, "aux_logits_0"),
    ("object_transformer.mask_pred.1", None, "aux_logits_1"),
    ("object_transformer.mask_pred.2", None, "aux_logits_2"),
    ("object_transformer.blocks.0", 0, "ot_block0_query"),
    ("object_transformer.blocks.0", 1, "ot_block0_pixel"),
    ("object_transformer.blocks.2", 0, "ot_block2_query"),
    ("object_transformer", None, "readout_memory"),
    ("mask_decoder.up_16_8", None, "dec_up_16_8"),
    ("mask_decoder.up_8_4", None, "dec_up_8_4"),
    ("mask_decoder.up_4_2", None, "dec_up_4_2"),
    ("mask_decoder.up_2_1", None, "dec_up_2_1"),
    ("mask_decoder.pred_mat", None, "logits"),
    ("mask_decoder", 1, "sensory_after_decoder"),
    ("mask_encoder.layer3", None, "mask_enc_layer3"),
    ("mask_encoder", None, "msk_value"),
]


@pytest.fixture(scope="module")
def steps(shared, build) -> list[dict[str, np.ndarray]]:
    """What every step computed, under the names of the trace."""
    network = build(top_k=30)
    seen: dict[str, np.ndarray] = {}

    def keep(index, name):
        def hook(module, args, output):
            seen[name] = (output if index is None else output[index]).numpy().copy()

        return hook

    for module, index, name in OUTPUTS:
        network.get_submodule(module).register_forward_hook(keep(index, name))
    network.object_summarizer.register_forward_hook(keep(None, "object_summary"))
    network.object_transformer.spatial_pe.register_forward_hook(keep(None, "spatial_pe"))
    case = Case.open(shared / "golden" / "a_synth160x96.safetensors")
    driver = Driver(torch_graphs(network), case.frames.shape[1:3], keep_log=True)
    kept = []

    def note():
        log = driver.log[-1]
        filled = driver.bank_keys[driver.bank_keys[:, driver.valid] == 0]
        state = {
            "sensory_in": log["sensory_in"],
            "sensory_after_step": log["sensory_after"],
            "obj_v_in": log["object_memory_in"],
            "obj_v_after": log["object_memory_after"],
            "bank_shrinkage_after": -8 * filled[:, 128],
        }
        kept.append({**seen, **state})
        seen.clear()

    driver.step(case.frames[0], mask=case.mask)
    note()
    for _ in range(3):
        driver.step(case.frames[0], first=True)
        note()
    for frame in case.frames[1:12]:
        driver.step(frame)
        note()
    return kept


@pytest.mark.parametrize("name", STEPS)
def test_step(shared, steps, name):
    got = dict(steps[STEPS[name]])
    got["spatial_pe"] = got["spatial_pe"].transpose(0, 2, 3, 1)
    compared = 0
    with safe_open(shared / "golden" / f"a_inter_{name}.safetensors", "np") as file:
        for key in file.keys():  # noqa: SIM118
            # On a mask step the graph decodes too, and its result is dropped; a summary is made on memory steps only.
            if key not in got:
                continue
            expected = file.get_tensor(key)
            # Some tensors of the trace are stored in half precision.
            tolerance = 1e-3 if expected.dtype == np.float16 else 2e-5
            expected = expected.astype(np.float32).ravel()
            error = np.abs(got[key].ravel() - expected).max() / max(1.0, np.abs(expected).max())
            assert error < tolerance, f"{key}: {error:.1e}"
            compared += 1
    assert compared > (12 if name == "mask" else 24)
