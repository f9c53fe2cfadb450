"""Training of `lite`: the loop, the processes that draw samples, and the pool on the device."""

from __future__ import annotations

import copy
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from test_lite import scrambled_lite, small_material

from matte_models import average
from matte_models.network.lite import fold, load_lite
from matte_models.train import data, loop, losses, pool, producers, samples

MODELS = Path(__file__).parents[1]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def layers(tmp_path_factory) -> Path:
    """A folder of two small clips in layers."""
    folder = tmp_path_factory.mktemp("layers")
    data.write_layers(folder, small_material(), 4, 0, 2, size=data.Size(128, 96))
    return folder


@pytest.fixture(scope="module")
def held_out(tmp_path_factory) -> Path:
    """A folder of one small clip, with no hint."""
    folder = tmp_path_factory.mktemp("held_out")
    data.write_folder(folder, small_material(), lambda rgb: np.zeros((4, 4), np.float32), 4, 0, 1, size=data.Size(64, 64))
    return folder


def recipe(folder: Path) -> producers.Recipe:
    return producers.Recipe([folder], 0.5, None, 0.3)


# --- damage ---


def damage_one_by_one(alpha: torch.Tensor, faults: random.Random, rate: float = 0.4) -> torch.Tensor:
    """The definition of `loop.damage`: one picture after the other."""
    alpha = alpha.clone()
    height, width = alpha.shape[-2:]
    for picture in alpha[:, 0]:
        if faults.random() >= rate:
            continue
        if faults.random() < 0.5:
            coarse = torch.tensor([[faults.random() ** 2 for _ in range(5)] for _ in range(5)])
            strength = faults.uniform(0.1, 0.9)
            field = F.interpolate(coarse[None, None], (height, width), mode="bicubic")[0, 0]
            towards = 0.0 if faults.random() < 0.7 else 1.0
            picture.lerp_(torch.full_like(picture, towards), (field * strength).clamp(0, 1))
            continue
        h, w = faults.randint(16, height // 2), faults.randint(16, width // 2)
        y, x = faults.randint(-h // 2, height - h // 2), faults.randint(-w // 2, width - w // 2)
        part = picture[max(y, 0) : y + h, max(x, 0) : x + w]
        kind = faults.random()
        if kind < 0.6:
            part.zero_()
        elif kind < 0.8:
            part.fill_(1)
        else:
            part.mul_(0.5)
    return alpha


def test_damage_of_a_batch_is_that_of_its_pictures():
    torch.manual_seed(1)
    alpha = torch.rand(300, 1, 48, 80)
    kept = alpha.clone()
    got = loop.damage(alpha, random.Random(7))
    torch.testing.assert_close(got, damage_one_by_one(alpha, random.Random(7)), rtol=0, atol=2e-6)
    assert torch.equal(alpha, kept)
    hit = (got != alpha).flatten(1).any(1).float().mean()
    assert 0.3 < hit < 0.5
    assert torch.equal(loop.damage(alpha, random.Random(7), rate=0), alpha)


# --- losses and steps ---


def test_the_loss_by_hand():
    alpha, raw = torch.zeros(1, 2, 1, 32, 32), torch.full((1, 2, 1, 32, 32), 0.2)
    # Nothing is near an edge, nothing moves, and a pyramid sees no constant: 0.2 and a margin of 0.05 are left.
    loss, parts = loop.loss_of(raw, alpha)
    torch.testing.assert_close(parts["l1"], torch.tensor(0.25))
    torch.testing.assert_close(loss, parts["l1"] + 2 * parts["lap"] + 2 * parts["tmp"])
    assert float(parts["lap"]) < 1e-6 and float(parts["tmp"]) < 1e-3
    # Around a pixel of half alpha 8×8 pixels count four times: 63 of 0.25 and this one, 0.3 off.
    alpha[..., 0, 0] = 0.5
    _, parts = loop.loss_of(raw, alpha)
    torch.testing.assert_close(parts["l1"], torch.tensor((4 * (0.3 + 63 * 0.25) + 960 * 0.25) / 1024))
    assert float(loop.near_edges(alpha).sum()) == 2 * 64


def test_clips_in_layers_without_a_segmentation_are_refused_where_a_hint_is_asked_for(layers, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("MATTE_SHARED", raising=False)
    monkeypatch.setattr(sys, "argv", ["train", str(layers), "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit):
        loop.main()
    assert "no hint without --shared" in capsys.readouterr().err


def test_averaged_weights_alone_ask_for_a_restart(layers, tmp_path, environment):
    torch.save({"average": fold(scrambled_lite()).state_dict(), "step": 7}, tmp_path / "init.pt")
    done = subprocess.run(train(tmp_path / "run", str(layers), "--init", str(tmp_path / "init.pt"), "--producers", "0"),
                          env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode and "needs --restart" in done.stderr


def test_blurring_by_products_is_blurring():
    x = torch.rand(3, 1, 34, 52, requires_grad=True)
    weight = torch.rand(3, 1, 34, 52)
    gradients = []
    for blur in (losses._blur, losses._blur_by_products):
        out = blur(x)
        gradients.append((out.detach(), *torch.autograd.grad((out * weight).sum(), x)))
    for a, b in zip(*gradients):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("fused", [None, True])
def test_steps_with_gradients_that_are_not_finite_change_nothing(fused):
    weight = torch.nn.Parameter(torch.ones(4))
    optimiser = torch.optim.AdamW([weight], lr=0.1, fused=fused)
    skipping = loop.Skipping(optimiser)

    def step(gradient: float) -> None:
        weight.grad = torch.full((4,), gradient)
        skipping.step(torch.nn.utils.clip_grad_norm_([weight], 0.3))

    step(1.0)
    before = weight.detach().clone(), {k: v.clone() for k, v in optimiser.state[weight].items()}
    assert (before[0] < 1).all()
    for bad in (float("nan"), float("inf")):
        step(bad)
        assert torch.equal(weight, before[0])
        for name, tensor in optimiser.state[weight].items():
            assert torch.equal(tensor, before[1][name]), name
    step(1.0)
    assert (weight < before[0]).all()


def test_the_rate_falls_over_the_last_share_of_the_time():
    assert [loop.decayed(passed, 10, 0.4) for passed in (0, 3, 6)] == [1, 1, 1]
    assert loop.decayed(8, 10, 0.4) == pytest.approx(0.1)
    assert loop.decayed(10, 10, 0.4) == loop.decayed(11, 10, 0.4) == pytest.approx(0.01)
    assert loop.decayed(9, 10, 0) == 1


@pytest.mark.parametrize(("options", "message"), [
    (["--device", "cuda", "--workers", "2"], "--device cuda|--workers"),
    (["--producers", "2", "--workers", "2"], "--workers 1"),
    (["--producers", "2", "--pool", "8"], "--pool 8"),
    (["--decay-share", "0.5"], "--minutes"),
    (["--decay-share", "1.5", "--workers", "1", "--minutes", "1"], "0 to 1"),
    (["--width", "100"], "multiple of 16"),
    (["--save-every", "20"], "multiple of 50"),
])
def test_options_that_do_not_go_together_are_refused(options, message, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["train", str(tmp_path), "--out", str(tmp_path / "out"), *options])
    with pytest.raises(SystemExit):
        loop.main()
    assert re.search(message, capsys.readouterr().err)


def test_a_state_is_taken_over_whether_fused_or_not():
    net = fold(scrambled_lite()).to(memory_format=torch.channels_last)
    image = torch.rand(1, 3, 64, 64)

    def trained(fused, saved=None):
        optimiser = torch.optim.AdamW(net.parameters(), lr=1e-3, fused=fused)
        if saved:
            loop._resume(optimiser, copy.deepcopy(saved))
        net.encode(image).f16.sum().backward()
        optimiser.step()
        return optimiser

    saved = loop._portable(trained(None).state_dict())
    assert all(v.is_contiguous() for s in saved["state"].values() for v in s.values())
    for fused in (True, None):
        optimiser = trained(fused, saved)
        assert optimiser.param_groups[0]["fused"] is fused
        weight = net.enc4.conv.weight
        assert optimiser.state[weight]["exp_avg"].stride() == weight.stride()
        assert optimiser.state[weight]["step"] == 2


# --- the pool ---


def test_samples_go_through_bytes_unchanged(layers):
    layout = producers.Layout(3, 64, 96)
    loaders = [recipe(layers).loader(5) for _ in range(2)]
    rows = np.zeros((4, layout.bytes), np.uint8)
    for row in rows:
        layout.pack(row, loaders[0].draw(3, (64, 96), True))
    got = pool.unpack(torch.from_numpy(rows), layout)
    expected = loaders[1].batch(4, 3, 64, 96, True)
    for name in got._fields:
        torch.testing.assert_close(getattr(got, name), torch.from_numpy(getattr(expected, name)), msg=name)


def test_a_ring_keeps_the_latest():
    layout = producers.Layout(1, 16, 16)
    ring = pool.Ring(5, layout, CPU)
    assert len(ring) == 0
    for k in range(8):
        ring.put(torch.full((layout.bytes,), k, dtype=torch.uint8))
    assert len(ring) == 5 and ring.arrived == 8
    drawn = [sorted(ring.draw(random.Random(k), 3)[:, 0].tolist()) for k in range(20)]
    assert all(len(set(places)) == 3 for places in drawn)
    assert {k for places in drawn for k in places} == {3, 4, 5, 6, 7}


def test_all_of_a_sample_is_flipped():
    torch.manual_seed(2)
    frames = torch.randint(0, 256, (2, 3, 3, 32, 48), dtype=torch.uint8)
    clips = pool.Clips(frames, torch.rand(2, 3, 1, 32, 48), torch.rand(2, 1, 32, 48), torch.rand(2, 3, 1, 2, 3), torch.ones(2))
    out = pool.flip(clips, torch.tensor([False, True]))
    for name in ("frames", "alpha", "mask", "prior"):
        before, after = getattr(clips, name), getattr(out, name)
        assert torch.equal(after[0], before[0]) and torch.equal(after[1], before[1].flip(-1)), name
    assert torch.equal(out.tokens, clips.tokens)


def test_light_by_hand():
    frames = torch.tensor([0, 51, 255], dtype=torch.uint8).reshape(1, 1, 3, 1, 1).expand(3, -1, -1, -1, -1)
    got = pool.relight(frames, torch.tensor([1.0, 1.1, 1.0]), torch.tensor([1.0, 1.0, 2.0]))
    assert got.flatten(1).tolist() == [[0, 51, 255], [0, 56, 255], [0, 10, 255]]


class Drawing:
    """Producers whose samples are numbered, and of the kind that their number says."""

    def __init__(self, layout: producers.Layout):
        self.layout, self.count = layout, 0

    def received(self, timeout: float):
        for _ in range(4):
            row = np.zeros(self.layout.bytes, np.uint8)
            row[:] = self.count % 256
            yield row, self.count % 2 == 1
            self.count += 1


def test_a_batch_is_of_one_kind(monkeypatch):
    layout = producers.Layout(2, 16, 16)
    monkeypatch.setattr(pool, "relight", lambda frames, gain, gamma: frames)
    supply = pool.Pool(Drawing(layout), layout, 20, 0.5, CPU, 1)
    supply.fill(10)
    assert supply.arrived == 20 and supply.producers.count == 20
    for ahead in (False, True):
        assert (supply.batch(ahead, 6).frames % 2 == int(ahead)).all()
    supply.take()
    note = supply.note()
    assert note["uses"] == 3 and note["new_per_s"] > 0
    assert set(pool.Pool(Drawing(layout), layout, 20, 1.0, CPU, 1).rings) == {True}


# --- processes ---


def test_processes_draw_what_their_seeds_say(layers):
    layout = producers.Layout(2, 64, 64)
    drawing = producers.Producers(2, recipe(layers), layout, 0.5, 30)
    try:
        rows, until = [], time.monotonic() + 60
        while len(rows) < 12 and time.monotonic() < until:
            rows += [(row.tobytes(), ahead) for row, ahead in drawing.received(1.0)]
    finally:
        processes = [process for process, _ in drawing.live.values()]
        drawing.close()
    assert len(processes) == 2 and not any(process.is_alive() for process in processes)
    expected = set()
    for seed in (30, 31):
        loader, flags = recipe(layers).loader(seed), random.Random(seed)
        row = np.zeros(layout.bytes, np.uint8)
        for _ in range(len(rows)):
            ahead = flags.random() < 0.5
            layout.pack(row, loader.draw(2, (64, 64), ahead))
            expected.add((row.tobytes(), ahead))
    assert len(rows) >= 12 and set(rows) <= expected and {ahead for _, ahead in rows} == {False, True}


def test_a_failure_is_shown_and_ends_the_run_when_nobody_is_left(tmp_path, capsys):
    drawing = producers.Producers(1, recipe(tmp_path / "nothing"), producers.Layout(2, 64, 64), 0.5, 1)
    with pytest.raises(RuntimeError, match="no process that draws samples is left"):
        for _ in range(60):
            list(drawing.received(1.0))
    assert "FileNotFoundError" in capsys.readouterr().out


def train(out: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "matte_models.train", "--out", str(out), "--clips", "2", "--frames", "3", "--height", "64",
            "--width", "64", "--workers", "1", "--producers", "2", "--pool", "8", "--prior-rate", "0", *options]


@pytest.fixture
def environment() -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k != "MATTE_SHARED"}
    return {**kept, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(MODELS)}


def test_a_run_on_a_pool_from_end_to_end(layers, held_out, tmp_path, environment):
    torch.save({"average": fold(scrambled_lite()).state_dict(), "step": 7}, tmp_path / "init.pt")
    out = tmp_path / "run"
    done = subprocess.run(train(out, str(layers), "--init", str(tmp_path / "init.pt"), "--restart", "--steps", "50",
                                "--minutes", "10", "--decay-share", "1", "--held-out", str(held_out)),
                          env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    notes = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert notes[0]["step"] == 50 and notes[0]["new_per_s"] >= 0 and notes[0]["uses"] > 0 and notes[0]["rate"] > 0
    assert notes[-1]["step"] == 57 and notes[-1]["held_out"]["mad"] > 0

    saved = torch.load(out / "average.pt", map_location="cpu", weights_only=True)
    assert set(saved) == {"average", "step"} and saved["step"] == 57
    assert all(t.is_contiguous() for t in saved["average"].values())
    net = load_lite(saved["average"])
    whole = torch.load(out / "last.pt", map_location="cpu", weights_only=True)
    assert all(torch.equal(saved["average"][k], v) for k, v in whole["average"].items())
    mixed = average.mix(whole["average"], saved["average"], 0.5)
    torch.testing.assert_close(mixed, dict(net.state_dict()))

    # And on from there.
    on = subprocess.run(train(out, str(layers), "--init", str(out / "last.pt"), "--steps", "3"),
                        env=environment, capture_output=True, text=True, timeout=300)
    assert on.returncode == 0, on.stdout + on.stderr
    assert torch.load(out / "average.pt", weights_only=True)["step"] == 60


def test_a_run_that_is_asked_to_end_saves_what_it_has(layers, tmp_path, environment):
    out = tmp_path / "run"
    run = subprocess.Popen(train(out, str(layers), "--steps", "100000"), env=environment, stdout=subprocess.PIPE, text=True)
    for line in run.stdout:
        if "'step': 50" in line:
            run.send_signal(signal.SIGTERM)
            break
    run.communicate(timeout=60)
    assert run.returncode == 0
    assert torch.load(out / "average.pt", weights_only=True)["step"] >= 50
    assert json.loads((out / "log.jsonl").read_text().splitlines()[-1])["ended"] == "SIGTERM"


def _children(pid: int) -> list[int]:
    return [int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit() and _parent(p) == pid]


def _parent(process: Path) -> int:
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return -1


def test_processes_end_with_a_run_that_is_killed(layers, tmp_path, environment):
    run = subprocess.Popen(train(tmp_path / "run", str(layers), "--steps", "100000"), env=environment, stdout=subprocess.PIPE,
                           text=True)
    assert "samples of" in next(iter(run.stdout))
    children = _children(run.pid)
    assert len(children) >= 2
    run.kill()
    run.communicate(timeout=60)
    until = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() for pid in children) and time.monotonic() < until:
        time.sleep(0.2)
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]


# --- compiled ---


def test_parts_that_cannot_be_compiled_are_left_as_they_are(capsys, monkeypatch):
    net = fold(scrambled_lite())

    def fails(function, **_):
        def raising(*args, **kwargs):
            raise RuntimeError("no compiler here")
        return raising

    monkeypatch.setattr(torch, "compile", fails)
    got = loop._compile(net, lambda ahead, loss: loss(net.encode(torch.rand(1, 3, 64, 64)).f16, None), 0.5)
    assert got is loop.loss_of and not {*loop.COMPILED} & {*net.__dict__}
    assert "no compiler here" in capsys.readouterr().out
    net.encode(torch.rand(1, 3, 64, 64))
