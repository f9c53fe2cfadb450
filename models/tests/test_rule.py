"""The deterministic weights, against the checksums of all 562 tensors."""

from __future__ import annotations

import csv
import zlib

import numpy as np

from matte_models import rule
from matte_models.network.matanyone import MatAnyone


def test_seed_and_first_values():
    assert rule.seed("pixel_encoder.conv1.weight") == 0x54A0EB0FFFC59323
    first = rule.tensor("pixel_encoder.conv1.weight", (64, 3, 7, 7)).ravel()
    assert [v.view(np.uint32).item() for v in first[:3]] == [0x3CE3E536, 0xBE06AF81, 0x3D8FF34B]


def test_every_tensor_of_the_checkpoint(shared):
    expected = {k: tuple(v.shape) for k, v in MatAnyone().state_dict().items()}
    seen = {}
    for row in csv.DictReader((shared / "checkpoint_tensors.tsv").open(), delimiter="\t"):
        key = row["key"]
        if row["idx"] is None or not row["idx"].isdigit():
            continue  # totals
        shape = () if row["shape"] == "scalar" else tuple(int(n) for n in row["shape"].split("x"))
        seen[key] = shape
        crc = zlib.crc32(rule.tensor(key, shape).tobytes())
        assert f"{crc:08x}" == row["rule_crc32_le_bytes"], key
    assert seen == expected
