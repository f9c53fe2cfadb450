"""Twins in 8-bit integers of an imported package."""

from __future__ import annotations

import shutil
import subprocess

import numpy as np
import onnx
import pytest

from matte_models import export_matanyone, fill, manifest
from matte_models import quantise_matanyone as quantise
from matte_models.sessions import sessions

SKELETON = export_matanyone.PACKAGES / "matanyone2"
WIDTH, HEIGHT = 112, 80


def clip(seed: int, frames: int = 8) -> quantise.Clip:
    """A disc that moves over noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    ground = rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    discs = [(y - 40) ** 2 + (x - 30 - 4 * t) ** 2 < 20**2 for t in range(frames)]
    pictures = [np.where(disc[..., None], np.uint8(200), ground) for disc in discs]
    return quantise.Clip(np.stack(pictures), np.where(discs[0], np.uint8(255), np.uint8(0)))


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    folder = tmp_path_factory.mktemp("package")
    fill.fill(SKELETON, folder, fill.rule_weights(manifest.load(SKELETON)))
    return folder


def test_twins_are_written_beside_the_graphs_and_give_nearly_the_same(package, tmp_path, capsys):
    out = tmp_path / "out"
    difference = quantise.quantise_package(package, out, [clip(0), clip(1)], limit=0.2)
    # What is printed is what is returned, and integers are neither floats nor nonsense.
    assert f"alpha differs by {difference:.4f} on average" in capsys.readouterr().out
    assert 1e-5 < difference < 0.1

    before, after = manifest.load(package), manifest.load(out)
    for name in quantise.CHANGED:
        assert after["graphs"][name].pop("int8") == f"{name}.int8.onnx"
        assert after["files"].pop(f"{name}.int8.onnx") == manifest.digest((out / f"{name}.int8.onnx").read_bytes())
    assert after == before
    for name, entry in after["files"].items():
        assert manifest.digest((out / name).read_bytes()) == entry

    # The written files give that difference.
    size = (HEIGHT, WIDTH)
    alphas = [quantise.play(sessions(folder, size, int8=True), clip(1), before) for folder in (package, out)]
    assert np.abs(alphas[0] - alphas[1]).mean() == pytest.approx(difference, rel=1e-3)

    graph = onnx.load(out / "matte.int8.onnx").graph
    integers = {n.output[0] for n in graph.node if n.op_type == "DequantizeLinear"}
    convolutions = {n.name: n.input[1] in integers for n in graph.node if n.op_type == "Conv"}
    floats = {name for name, whole in convolutions.items() if not whole}
    assert floats == {name for name in convolutions if any(part in name for part in quantise.KEEP)}
    assert len(floats) == 6 and len(convolutions) > 100


@pytest.mark.parametrize(("operator", "name", "taken"), [
    ("Conv", "pixel_encoder/res2/res2.0/conv1/Conv", True),
    ("Conv", "pixel_encoder/conv1/Conv", False),
    ("Conv", "key_proj/d_proj/Conv", False),
    ("Conv", "mask_decoder/pred_mat/Conv", False),
    ("Conv", "object_transformer/blocks.0/pixel_ffn/conv/conv1/Conv", True),
    ("Add", "mask_decoder/up_2_1/Add", True),
    ("Resize", "mask_decoder/up_2_1/Resize", True),
    ("Add", "object_transformer/blocks.0/Add", False),
    ("Mul", "mask_decoder/sensory_update/Mul", False),
    ("Concat", "Concat", False),
])
def test_keys_alpha_and_the_sums_of_the_transformer_stay_in_floats(operator, name, taken):
    assert quantise.taken(onnx.helper.make_node(operator, ["a"], ["b"], name)) == taken


def test_what_differs_too_much_is_not_written(package, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(ValueError, match=r"allowed are 1e-07; nothing was written"):
        quantise.quantise_package(package, out, [clip(0, 3)], limit=1e-7)
    assert not out.exists()


def test_packages_that_it_is_not_for_are_refused(package, tmp_path):
    with pytest.raises(ValueError, match="has no weights"):
        quantise.quantise_package(SKELETON, tmp_path / "out", [clip(0)], 1)
    with pytest.raises(ValueError, match="lite in fp32 is not"):
        quantise.quantise_package(export_matanyone.PACKAGES / "lite", tmp_path / "out", [clip(0)], 1)
    with pytest.raises(ValueError, match="matanyone2-fp16 in fp16 is not"):
        quantise.quantise_package(export_matanyone.PACKAGES / "matanyone2-fp16", tmp_path / "out", [clip(0)], 1)
    (tmp_path / "something").write_text("mine")
    with pytest.raises(ValueError, match="is not empty"):
        quantise.quantise_package(package, tmp_path, [clip(0)], 1)
    assert (tmp_path / "something").read_text() == "mine"
    odd = clip(0)
    odd = quantise.Clip(odd.frames[:, :, :-2], odd.mask[:, :-2])
    with pytest.raises(ValueError, match="size 110x80"):
        quantise.quantise_package(package, tmp_path / "out", [odd], 1)


def test_clips_are_read_at_the_working_size(tmp_path):
    if not shutil.which("ffmpeg"):
        pytest.skip("ffmpeg is not installed")
    made = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i"]
    subprocess.run([*made, "testsrc=size=64x48:rate=10:duration=1", str(tmp_path / "video.mkv")], check=True)
    for name, colour in (("mask.png", "white"), ("empty.png", "black")):
        subprocess.run([*made, f"color={colour}:size=64x48", "-frames:v", "1", str(tmp_path / name)], check=True)
    found = quantise.open_clip(tmp_path / "video.mkv", tmp_path / "mask.png", (32, 16), 7)
    assert found.frames.shape == (7, 16, 32, 3) and found.frames.std() > 20
    assert (found.mask == 255).all() and found.mask.shape == (16, 32)
    with pytest.raises(ValueError, match=r"empty\.png.*names no target"):
        quantise.open_clip(tmp_path / "video.mkv", tmp_path / "empty.png", (32, 16), 7)
    with pytest.raises(ValueError, match=r"mask\.png: 1 frames"):
        quantise.open_clip(tmp_path / "mask.png", tmp_path / "mask.png", (32, 16), 7)
    with pytest.raises(ValueError, match=r"missing\.mkv"):
        quantise.open_clip(tmp_path / "missing.mkv", tmp_path / "mask.png", (32, 16), 7)
