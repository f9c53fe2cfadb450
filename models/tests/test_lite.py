"""`lite`: the exported graphs, the losses, the generator of clips and the metrics."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from matte_models import export_detail
from matte_models import export_lite as export
from matte_models.network.lite import Lite, Matte, Value, fold, load_lite, unshuffle_alpha
from matte_models.network.read import affinity
from matte_models.train import data, evaluate, loop, losses, samples

PACKAGE = Path(__file__).parents[1] / "packages" / "lite"


def scrambled_lite() -> Lite:
    """A network whose BatchNorms do something."""
    torch.manual_seed(3)
    net = Lite()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, 0, 0.2)
            torch.nn.init.normal_(module.running_mean, 0, 0.2)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
    return net.eval()


# --- network and export ---


def test_unshuffling_by_convolution_is_exact():
    alpha = torch.rand(2, 1, 32, 48)
    assert torch.equal(unshuffle_alpha(alpha), torch.nn.functional.pixel_unshuffle(alpha, 4))


def test_the_graph_takes_bytes_where_training_takes_fractions():
    net = scrambled_lite()
    frame = torch.randint(0, 256, (1, 32, 48, 3), dtype=torch.uint8)
    image = loop.to_image(frame.permute(0, 3, 1, 2)[None])
    with torch.no_grad():
        patches = Matte(net).stem(frame.permute(0, 3, 1, 2).float())
        torch.testing.assert_close(net.features(patches).f16, net.encode(image).f16, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("stage", [Matte, Value])
def test_folding_changes_nothing(stage):
    net = scrambled_lite()
    c = net.config
    spec = export.graph_specs(c)[stage.__name__.lower()]
    inputs = export.random_inputs(spec, export.sizes(64, 96), np.random.default_rng(1), c.valid)
    tensors = [torch.from_numpy(np.asarray(v)) for v in inputs.values()]
    with torch.no_grad():
        for a, b in zip(stage(net)(*tensors), stage(fold(net))(*tensors), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_weights_load_whether_folded_or_not():
    net = scrambled_lite()
    image = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        expected = net.encode(image).f16
        for state in (net.state_dict(), fold(net).state_dict()):
            torch.testing.assert_close(load_lite(state).eval().encode(image).f16, expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(RuntimeError, match="stem.conv.weight"):
        load_lite({name: w for name, w in net.state_dict().items() if name != "stem.conv.weight"})


@pytest.mark.parametrize("size", [(64, 96), (144, 80)])
def test_graphs_match_the_definition(size):
    net = fold(scrambled_lite())
    c = net.config
    for stage, spec in ((Matte, "matte"), (Value, "value")):
        spec = export.graph_specs(c)[spec]
        model = export.export_graph(stage(net), spec, export.sizes(96, 128), c.valid)
        assert export.compare(stage(net), model, spec, export.sizes(*size), c.valid, 5) < export.TOLERANCE
        forbidden = {"NonZero", "If", "Loop", "ScatterND", "TopK", "BatchNormalization"}
        assert not forbidden & {n.op_type for n in model.graph.node}
        for tensor, value in zip(spec["inputs"] + spec["outputs"], [*model.graph.input, *model.graph.output], strict=True):
            dims = [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
            assert (value.name, dims) == (tensor["name"], tensor["shape"])


def test_first_frame_prediction_does_not_read_the_bank():
    net = scrambled_lite()
    c = net.config
    spec = export.graph_specs(c)["matte"]
    inputs = export.random_inputs(spec, export.sizes(64, 64), np.random.default_rng(2), c.valid)
    inputs["gate"] = np.array(0, np.float32)
    other = dict(inputs, bank_values=inputs["bank_values"] + 1)
    with torch.no_grad():
        a, b = (Matte(net)(*(torch.from_numpy(np.asarray(v)) for v in i.values()))[0] for i in (inputs, other))
    assert torch.equal(a, b)


def test_shipped_package_is_whole():
    import hashlib

    manifest = json.loads((PACKAGE / "manifest.json").read_text())
    for name, entry in manifest["files"].items():
        blob = (PACKAGE / name).read_bytes()
        assert len(blob) == entry["bytes"] and hashlib.sha256(blob).hexdigest() == entry["sha256"]
    assert sum(e["bytes"] for e in manifest["files"].values()) < 6_000_000
    graphs = manifest["graphs"]
    assert graphs.pop("detail") == export_detail.graph_spec(int8=True)
    assert graphs == export.graph_specs(Lite().config, int8=True)
    assert manifest["licence"]["commercial_use"] is True


def test_driver_agrees_with_training():
    """The engine's loop on the exported graphs and the training loop are the same function."""
    height, width, count = 64, 80, 8
    rng = np.random.default_rng(4)
    frames = rng.integers(0, 256, (count, height, width, 3), np.uint8)
    mask = (rng.random((height, width)) > 0.5).astype(np.float32)
    net = export.load_network(None)
    net.load_state_dict(scrambled_lite().state_dict())
    folded = fold(net)
    package = {}
    for stage, name in ((Matte, "matte"), (Value, "value")):
        spec = export.graph_specs(net.config)[name]
        package[name] = export.export_graph(stage(folded), spec, export.sizes(96, 128), net.config.valid)
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        for name, model in package.items():
            (Path(folder) / f"{name}.onnx").write_bytes(model.SerializeToString())
        manifest = {"dims": {"key_row": net.config.key_row, "valid": net.config.valid, "value": net.config.value}, "memory": {"interval": 2, "temporary_frames": 2, "warm_up": 0}}
        (Path(folder) / "manifest.json").write_text(json.dumps(manifest))
        driver = evaluate.Driver(Path(folder), height, width)
        got = [driver.seed(frames[0], mask)] + [driver.step(f) for f in frames[1:]]
    with torch.no_grad():
        expected = loop.run_clip(net, torch.from_numpy(frames).permute(0, 3, 1, 2)[None], torch.from_numpy(mask)[None, None],
                                 torch.full((1, count, 1, height // 16, width // 16), -1.0), interval=2, slots=2).clamp(0, 1)
    np.testing.assert_allclose(np.stack(got), expected[0, :, 0].numpy(), atol=5e-4)
    # Frames 2, 4 and 6 went into two slots: the ring is full and has turned.
    assert driver.stored == 3 and (driver.keys[:, net.config.valid] == 0).all()


@pytest.mark.parametrize("larger", [None, 4])
def test_of_what_looks_alike_the_nearer_counts_more(larger):
    """Where every key is the same, what is left of the read is the place: 1 is the root of the area."""
    net = scrambled_lite()
    height, width = 5, 7
    with torch.no_grad():
        tokens = larger and torch.tensor([larger * height * width])
        stored, sought = net.rows(torch.rand(1, net.config.c16, 1, 1).expand(-1, -1, height, width), tokens)
        weights = affinity(sought, stored)[0]
    y, x = np.divmod(np.arange(height * width), width)
    apart = ((y[:, None] - y) ** 2 + (x[:, None] - x) ** 2) / (height * width * (larger or 1))
    expected = np.exp(-net.config.place * apart)
    np.testing.assert_allclose(weights.numpy(), expected / expected.sum(1, keepdims=True), atol=1e-5)


def test_a_leap_takes_the_alpha_of_the_second_frame():
    net = scrambled_lite()
    torch.manual_seed(5)
    frames = torch.randint(0, 256, (1, 4, 3, 64, 64), dtype=torch.uint8)
    mask, later = (torch.rand(1, 1, 64, 64) > 0.5).float(), (torch.rand(1, 1, 64, 64) > 0.5).float()
    prior = torch.full((1, 4, 1, 4, 4), -1.0)
    with torch.no_grad():
        plain = loop.run_clip(net, frames, mask, prior, 1)
        leap = loop.run_clip(net, frames, mask, prior, 1, later=later)
        # Following the second frame and being given what was found there are the same.
        same = loop.run_clip(net, frames, mask, prior, 1, later=plain[:, 1].clamp(0, 1))
    assert leap.shape[1] == 3 and torch.equal(leap[:, 0], plain[:, 0]) and not torch.allclose(leap[:, 1], plain[:, 2])
    torch.testing.assert_close(same, plain[:, [0, 2, 3]])


# --- losses ---


def test_pull_by_hand():
    raw = torch.tensor([1.02, 1.05, 1.1, -0.02, -0.3, 0.6])
    alpha = torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0, 0.5])
    torch.testing.assert_close(losses.pull(raw, alpha), torch.tensor([0.03, 0.0, 0.0, 0.03, 0.0, 0.1]))
    # Far outside it costs a tenth of what lies beyond 0.5 ± 1.15.
    torch.testing.assert_close(losses.pull(torch.tensor([2.65]), torch.tensor([1.0])), torch.tensor([0.1]))


def test_laplacian_of_a_constant_is_zero():
    a = torch.full((2, 1, 32, 32), 0.7)
    assert losses.laplacian(a, torch.zeros_like(a)) < 1e-6


@pytest.mark.parametrize("levels", [1, 3, 4])
def test_laplacian_by_the_definition(levels):
    def blurred(x: np.ndarray) -> np.ndarray:
        for axis in (0, 1):
            padded = np.pad(x, [(2, 2) if a == axis else (0, 0) for a in (0, 1)], mode="reflect")
            parts = [padded.take(np.arange(k, k + x.shape[axis]), axis) for k in range(5)]
            x = sum(w * part for w, part in zip((1, 4, 6, 4, 1), parts)) / 16
        return x

    rng = np.random.default_rng(3)
    a, b = rng.random((2, 32, 48))
    x, expected = a - b, 0.0
    for level in range(levels):
        low = blurred(x)
        expected += 2**level * np.abs(x - low).mean() / levels
        x = low.reshape(low.shape[0] // 2, 2, low.shape[1] // 2, 2).mean((1, 3))
    got = losses.laplacian(*(torch.from_numpy(x)[None, None] for x in (a, b)), levels=levels)
    assert float(got) == pytest.approx(expected, rel=1e-6)


def test_temporal_by_hand():
    a = torch.zeros(1, 3, 1, 2, 2)
    b = torch.zeros(1, 3, 1, 2, 2)
    a[:, 1] = 0.5  # appears for one frame: twice a change of 0.5
    torch.testing.assert_close(losses.temporal(a, b), torch.tensor(0.5 + 0.4 * 0.5))
    b[:, :] = 0.25  # a constant offset is no flicker
    torch.testing.assert_close(losses.temporal(a, b), torch.tensor(0.5 + 0.4 * 0.5))


# --- data ---


def small_material() -> data.Material:
    rng = np.random.default_rng(0)
    rgba = np.zeros((200, 160, 4), np.uint8)
    cv2.ellipse(rgba, (80, 100), (60, 90), 0, 0, 360, (200, 120, 60, 255), -1, cv2.LINE_AA)
    cutout = data.make_cutout("ball", rgba)
    background = rng.integers(0, 256, (300, 500, 3), np.uint8)
    return data.Material(people=[cutout], others=[cutout], dancer=[], backgrounds=[background])


def test_clips_depend_on_seed_and_index_alone():
    material = small_material()
    a, b = data.make_clip(5, 3, material), data.make_clip(5, 3, material)
    assert a.shape == (data.FRAMES, 256, 448, 4) and np.array_equal(a, b)
    assert not np.array_equal(a, data.make_clip(5, 4, material))
    assert not np.array_equal(a, data.make_clip(6, 3, material))


def test_samples_are_close_in_time_and_leap_once(tmp_path):
    # Every pixel of a frame is its number; the alpha is half subject, so that no crop is refused.
    count = data.FRAMES
    frames = np.zeros((2, count, *data.USUAL[::-1], 4), np.uint8)
    frames[..., :3] = np.arange(count, dtype=np.uint8)[None, :, None, None, None]
    frames[..., ::2, 3] = 255
    for name, array in (("frames.u8", frames), ("prior.u8", frames[..., :: data.STRIDE, :: data.STRIDE, 0])):
        (tmp_path / name).write_bytes(np.ascontiguousarray(array).tobytes())
    (tmp_path / "done").write_text("2")
    for ahead in (False, True):
        loader, gaps = samples.Loader([tmp_path], 3), set()
        for _ in range(60):
            batch = loader.batch(1, 4, 64, 64, ahead)
            times = batch.frames[0, :, 0, 0, 0].astype(int)
            steps = np.abs(np.diff(times))
            assert batch.frames.shape == (1, 4, 3, 64, 64) and batch.prior.shape == (1, 4, 1, 4, 4)
            assert batch.tokens == [28 * 16]
            assert len(set(steps[1:])) == 1 and 1 <= steps[1] <= 3 and len(set(np.sign(np.diff(times)))) == 1
            gaps.add(int(steps[0] - steps[1]))
        assert (max(gaps) > 5) if ahead else (gaps == {0})


def test_layers_make_the_picture_that_they_come_from():
    material = small_material()
    seen = set()
    for seed in range(30):
        clip = data.Clip(np.random.default_rng(seed), material, hard=0.5)
        if clip.samples > 1:
            continue
        scene, target, front = (x.astype(np.float32) for x in clip.parts(3))
        seen.add(bool(front.any()))
        behind, before = 1 - target[..., 3:] / 255, 1 - front[..., 3:] / 255
        picture, alpha = clip._moment(3)
        assert np.abs(front[..., :3] + before * (target[..., :3] + behind * scene) - picture).max() < 2
        assert np.abs(before[..., 0] * target[..., 3] / 255 - alpha).max() < 0.01
    assert seen == {False, True}


class Half:
    """A segmentation that sees half a person everywhere."""

    @staticmethod
    def person(rgb: np.ndarray) -> np.ndarray:
        assert rgb.shape == (36, 64, 3) and rgb.dtype == np.uint8
        return np.full((36, 64), 0.5, np.float32)

    size = (64, 36)


def test_sizes_are_read_and_refused():
    assert data.Size.parse("640x368") == (640, 368) and data.Size(640, 368).tokens == 40 * 23
    for wrong in ("640", "640x360", "ax16", "32x64", "640x368x3"):
        with pytest.raises(ValueError, match=f"'{wrong}'"):
            data.Size.parse(wrong)


def test_clips_of_another_size_show_the_same_at_that_size():
    # Wide enough for the larger frames, so that backgrounds are not what differs.
    material, large = small_material(), data.Size(896, 512)
    shared = 0
    for index in range(6):
        usual, twice = (data.make_layers(8, index, material, size=size)[1][0, ..., 3] for size in (data.USUAL, large))
        assert twice.shape == (512, 896)
        half = cv2.resize(twice, data.USUAL, interpolation=cv2.INTER_AREA)
        shared += np.abs(half.astype(int) - usual).mean() < 6
    # Where the first attempt fails at one size alone, another clip is drawn.
    assert shared >= 5


def test_a_folder_is_of_one_size(tmp_path):
    small = data.Size(128, 64)
    data.write_layers(tmp_path, small_material(), 4, 0, 1, size=small)
    assert data.size_of(tmp_path) == small and samples.Layers.read(tmp_path).size == small
    with pytest.raises(ValueError, match="128×64, not 448×256"):
        data.write_layers(tmp_path, small_material(), 4, 1, 1)


def test_targets_meet_scenes_of_their_own_size_alone(tmp_path):
    for name, size in (("small", data.Size(128, 64)), ("large", data.Size(192, 128))):
        data.write_layers(tmp_path / name, small_material(), 4, 0, 2, size=size)
    loader = samples.Loader([tmp_path / "small", tmp_path / "large"], 3, 1.0, Half())
    areas = {float(loader.batch(1, 3, 64, 64).tokens[0]) for _ in range(20)}
    # Of a crop at some zoom the whole frame is larger or smaller by the square of that.
    assert any(area < 60 for area in areas) and any(area > 80 for area in areas)


def test_a_seed_is_what_the_segmentation_sees_of_the_target():
    alpha = np.zeros((40, 40), np.uint8)
    alpha[10:30, 10:30] = 255
    person = np.zeros((40, 40), np.float32)
    person[10:30, 10:26] = 0.9  # 80 % of it
    person[10:30, 33:35] = 0.7  # beside it
    person[10:30, 38:] = 1  # somebody else
    seed = samples.seed_of(person, alpha)
    assert (seed[10:30, 10:26] == 230).all() and (seed[10:30, 33:35] == 178).all() and not seed[:, 35:].any()
    person[10:30, 22:26] = 0  # 60 %
    assert samples.seed_of(person, alpha) is None
    assert samples.seed_of(person * 0, alpha * 0) is None


def test_a_closer_look_is_at_somebody_with_room_around():
    seen = np.zeros((100, 200), np.float32)
    seen[40:60, 100:140] = 1
    parts = []

    def look(part):
        parts.append(part)
        return np.full((36, 64), 0.5, np.float32)

    out = samples.closer(seen, look)
    assert parts == [(slice(34, 66), slice(88, 152))]
    np.testing.assert_allclose([out[50, 120], out[35, 90], out[10, 10]], [0.6, 0.4, 0], atol=1e-6)
    assert samples.closer(seen * 0, look) is not None and len(parts) == 1


def test_layers_are_written_and_sampled(tmp_path):
    shape = (data.FRAMES, *data.USUAL[::-1])
    for start in range(3):
        data.write_layers(tmp_path, small_material(), 4, start, 1)
    layers = samples.Layers.read(tmp_path)
    assert len(layers) == 3 and layers.target.shape == (3, *shape, 4)
    assert [bool(f.any()) for f in layers.front] == list(layers.kinds.astype(bool))
    assert np.array_equal(layers.target[2], data.make_layers(4, 2, small_material())[1])

    hinted = samples.Loader([tmp_path], 3, 1.0, Half()).batch(6, 4, 96, 128)
    assert hinted.frames.shape == (6, 4, 3, 96, 128) and hinted.alpha.shape == (6, 4, 1, 96, 128)
    assert hinted.alpha.min() >= 0 and hinted.alpha.max() == 1 and hinted.mask.shape == (6, 1, 96, 128)
    np.testing.assert_allclose(hinted.prior, np.full((6, 4, 1, 6, 8), 0.5), atol=1e-6)
    again = samples.Loader([tmp_path], 3, 1.0, Half()).batch(6, 4, 96, 128)
    assert np.array_equal(hinted.frames, again.frames) and np.array_equal(hinted.alpha, again.alpha)
    for without in (samples.Loader([tmp_path], 3, 1.0), samples.Loader([tmp_path], 3, 0.0, Half())):
        assert (without.batch(4, 4, 96, 128).prior == -1).all()


@pytest.fixture
def as_they_are(monkeypatch) -> tuple[int, int]:
    """Samples in the light they were drawn in, seen by no camera, and whole: the size of such a sample."""
    as_it_is = np.eye(3, 4, dtype=np.float32)
    monkeypatch.setattr(samples, "Camera", lambda rng: lambda picture, index, rng: picture.astype(np.uint8))
    monkeypatch.setattr(samples, "tone", lambda rng, strength: as_it_is.copy())
    monkeypatch.setattr(samples, "_towards", lambda *_: as_it_is.copy())
    monkeypatch.setattr(samples.Mixer, "_crop", staticmethod(lambda *_: (0, 0, 1.0)))
    return data.USUAL[::-1]


def test_a_target_stands_before_its_own_scene_or_another(as_they_are):
    # Scenes of one brightness each, seen as they are.
    target = np.zeros((2, data.FRAMES, *data.USUAL[::-1], 4), np.uint8)
    target[..., 60:200, 100:300, :] = 255
    scene = np.zeros((*target.shape[:-1], 3), np.uint8)
    scene[1] = 200
    layers = samples.Layers(scene, target, np.zeros_like(target), np.zeros(2, np.uint8))
    rng = np.random.default_rng(5)
    for own, ground in ((1.0, 0), (0.0, 200)):
        for _ in range(5):
            mixer = samples.Mixer(None, own, company=0, lining=0)
            frames = mixer.sample(rng, (layers, 0), (layers, 1), (layers, 1), 2, as_they_are, False, False).frames
            assert set(np.unique(frames[frames[..., 3] == 0][:, :3])) == {ground}
            assert set(np.unique(frames[frames[..., 3] == 255][:, :3])) == {255}


def two_before_nothing() -> samples.Layers:
    """A clip with a target of 255 and one with a target of 100, both 60 wide, before a scene of 0."""
    target = np.zeros((2, data.FRAMES, *data.USUAL[::-1], 4), np.uint8)
    target[0, :, 60:200, 200:260] = 255
    target[1, :, 60:200, 20:80] = [100, 100, 100, 255]
    return samples.Layers(np.zeros((*target.shape[:-1], 3), np.uint8), target, np.zeros_like(target), np.zeros(2, np.uint8))


def test_somebody_close_by_touches_the_target_and_is_not_in_the_matte(as_they_are):
    layers = two_before_nothing()
    rng = np.random.default_rng(5)
    places = set()
    for _ in range(20):
        mixer = samples.Mixer(None, own=1.0, company=1.0, lining=0, together=0)
        frames = mixer.sample(rng, (layers, 0), (layers, 0), (layers, 1), 2, as_they_are, False, False).frames
        row = frames[0, 130]
        here, there = (np.flatnonzero((row[:, :3] == colour).all(1)) for colour in (255, 100))
        # From two thirds covered to a gap of a twentieth of the width.
        assert len(there) and 15 <= abs(here.mean() - there.mean()) <= 64
        assert np.array_equal(here, np.flatnonzero(row[:, 3] == 255))
        places.add((len(here) < 60, here.mean() < there.mean()))
    assert len(places) > 2  # before it as well as behind it, and on either side


def test_two_together_are_one_target(as_they_are):
    layers = two_before_nothing()
    rng = np.random.default_rng(5)
    nearer = set()
    for _ in range(10):
        mixer = samples.Mixer(None, own=1.0, company=1.0, lining=0, together=1.0)
        frames = mixer.sample(rng, (layers, 0), (layers, 0), (layers, 1), 2, as_they_are, False, False).frames
        row = frames[0, 130]
        here, there = ((row[:, :3] == colour).all(1) for colour in (255, 100))
        assert here.any() and there.any() and np.array_equal(here | there, row[:, 3] == 255)
        nearer.add(int(here.sum()) == 60)
    assert nearer == {True, False}


def test_a_lining_of_the_colour_of_the_ground_belongs_to_the_target(as_they_are):
    # A target of 255 before a scene of 40, which moves; its alpha is what it was.
    target = np.zeros((1, data.FRAMES, *data.USUAL[::-1], 4), np.uint8)
    for t in range(data.FRAMES):
        target[0, t, 60:200, 100 + t : 300 + t] = 255
    layers = samples.Layers(np.full((*target.shape[:-1], 3), 40, np.uint8), target, np.zeros_like(target), np.zeros(1, np.uint8))
    rng = np.random.default_rng(5)
    begun = set()
    for _ in range(20):
        mixer = samples.Mixer(None, own=1.0, company=0, lining=1.0)
        frames = mixer.sample(rng, (layers, 0), (layers, 0), (layers, 0), 3, as_they_are, False, False).frames
        assert {int((frame[..., 3] == 255).sum()) for frame in frames} == {140 * 200}
        inside = [frame[..., 0][frame[..., 3] == 255] for frame in frames]
        shown = [bool((pixels < 150).sum() > 20) for pixels in inside]
        assert shown[-1] and shown == sorted(shown)  # once there, it stays
        begun.add(shown.index(True))
        assert (frames[0][frames[0][..., 3] == 0][:, :3] == 40).all()
    assert begun == {0, 1, 2}


def test_light_on_a_target_by_hand():
    as_it_is = np.eye(3, 4, dtype=np.float32)
    body = np.array([[[100, 50, 0, 128], [0, 0, 0, 0]]], np.uint8)
    ground = np.full((1, 2, 3), 200, np.uint8)
    picture, alpha = samples.compose(body, ground, as_it_is, as_it_is, [], [])
    rest = 200 * (1 - 128 / 255)
    np.testing.assert_allclose(picture[0], [[100 + rest, 50 + rest, rest], [200, 200, 200]], rtol=1e-5)
    np.testing.assert_allclose(alpha, [[128, 0]])
    # Twice as light, and 20 more: the offset counts as much as alpha does, and no colour passes it.
    light = np.hstack([2 * np.eye(3), np.full((3, 1), 20)]).astype(np.float32)
    picture, _ = samples.compose(body, ground, light, as_it_is, [], [])
    offset = 20 * 128 / 255
    np.testing.assert_allclose(picture[0, 0], [128 + rest, 100 + offset + rest, offset + rest], rtol=1e-5)
    # The scene in its own light, and half of a black thing before it all.
    picture, alpha = samples.compose(body, ground, as_it_is, 0.5 * as_it_is, [],
                                     [np.full((1, 2, 4), [0, 0, 0, 51], np.uint8)])
    np.testing.assert_allclose(picture[0, 1], 0.8 * np.full(3, 100), rtol=1e-5)
    np.testing.assert_allclose(alpha, [[0.8 * 128, 0]], rtol=1e-5)


def test_what_a_target_has_on_it_keeps_to_its_soft_edges():
    as_it_is = np.eye(3, 4, dtype=np.float32)
    white, ground = np.full((1, 1, 4), 128, np.uint8), np.zeros((1, 1, 3), np.uint8)
    # A white patch on half-covered white changes nothing; a black one leaves none of it; half of one leaves half.
    for patch, expected in (([255, 255, 255, 255], 128), ([0, 0, 0, 255], 0), ([0, 0, 0, 128], 128 * (1 - 128 / 255))):
        picture, alpha = samples.compose(white, ground, as_it_is, as_it_is, [], [], [np.full((1, 1, 4), patch, np.uint8)])
        np.testing.assert_allclose(picture, np.full((1, 1, 3), expected), rtol=1e-5, atol=1e-3)
        assert alpha == 128


def test_people_that_are_asked_for_are_there(tmp_path):
    for folder in ("cutouts", "backgrounds", "dancer"):
        (tmp_path / folder).mkdir()
    with pytest.raises(ValueError, match="no clips of people for training"):
        data.load_material(tmp_path, False, tmp_path / "people")
    people = tmp_path / "people"
    people.mkdir()
    for number, side in ((1, None), (2, "left_open"), (3, "right_open"), (20, None)):
        opens = {name: np.array(name == side) for name in ("bottom_open", "left_open", "right_open")}
        np.savez(people / f"{number:04d}.npz", frames=np.zeros((2, 8, 8, 4), np.uint8), **opens)
    assert [p.stem for p in data.load_material(tmp_path, False, people).rendered] == ["0001"]
    assert [p.stem for p in data.load_material(tmp_path, True, people).rendered] == ["0020"]


def test_what_is_cut_at_the_bottom_stands_below_the_frame():
    rgba = np.zeros((160, 120, 4), np.uint8)
    rgba[40:, 20:100] = 255
    cutout = data.make_cutout("person", rgba)
    assert cutout.bottom_open
    material = data.Material(people=[cutout], others=[cutout], dancer=[], backgrounds=[np.zeros((300, 500, 3), np.uint8)])
    size = data.Size(128, 96)
    rng = np.random.default_rng(4)
    for _ in range(60):
        clip = data.Clip(rng, material, 0.0, size)
        layer = clip._place("person", material, True, None)
        for t in (0, 8, 23):
            alpha = layer.render(t)[..., 3]
            # As wide at the border as above it, but for what a turn takes away.
            assert (alpha[-1] > 250).sum() >= 0.5 * (alpha[72] > 250).sum() - 2


def test_soft_edges_of_a_figure_have_its_colours():
    figure = data.Figure(np.random.default_rng(1), np.zeros((100, 100, 3), np.uint8))
    figure.patch[:] = 0
    figure.colours[0] = (255, 0, 255)
    figure.colours[1:] = (0, 255, 0)
    picture = figure.at(0, 1.0)
    soft = (picture[..., 3] > 20) & (picture[..., 3] < 250)
    assert soft.sum() > 500 and (picture[soft][:, 0] == 0).all()


@pytest.mark.parametrize(("frame", "size"), [((1280, 720), (640, 368)), ((640, 360), (640, 352)), ((720, 1280), (368, 640)),
                                             ((100, 50), (96, 48))])
def test_the_working_size_is_the_engines(frame, size):
    assert evaluate.working_size(frame, (640, 368)) == size


def test_a_first_mask_is_of_0_to_1():
    driver = evaluate.Driver(PACKAGE, 64, 64)
    with pytest.raises(ValueError, match="0 to 1"):
        driver.seed(np.zeros((64, 64, 3), np.uint8), np.full((64, 64), 255, np.float32))


def test_masks_stay_masks():
    alpha = np.zeros((96, 96), np.uint8)
    cv2.circle(alpha, (48, 48), 30, 255, -1, cv2.LINE_AA)
    faulty = 0
    for seed in range(100):
        mask = samples.corrupt_mask(np.random.default_rng(seed), alpha)
        faulty += not np.array_equal(mask > 0, alpha >= 50)
        assert set(np.unique(mask)) <= {0, 255}
        assert ((mask > 0) & (alpha > 0)).sum() / ((mask > 0) | (alpha > 0)).sum() > 0.6
    assert 45 <= faulty <= 70


# --- metrics ---


def test_scores_by_hand():
    truth = np.zeros((40, 40), np.uint8)
    truth[:, 20:] = 255
    scores = evaluate.Scores(with_conn=True)
    exact = truth.astype(np.float32) / 255
    scores.add(exact, truth)
    scores.add(np.clip(exact + 0.1, 0, 1), truth)
    means = scores.means()
    assert means["MAD"] == pytest.approx(1e3 * 0.05 / 2, rel=1e-4)  # half the picture by 0.1, in one frame of two
    assert means["MSE"] == pytest.approx(1e3 * 0.005 / 2, rel=1e-4)
    assert means["dtSSD"] == pytest.approx(1e2 * np.sqrt(0.005) / 2, rel=1e-4)
    assert scores.rows["Grad"][0] == scores.rows["Conn"][0] == 0


def test_gradient_kernel_has_unit_energy():
    assert (evaluate._gradient_kernel(1.4) ** 2).sum() == pytest.approx(1)


def test_transition_band_is_around_the_edge():
    truth = np.zeros((40, 40), np.uint8)
    truth[:, 20:] = 255
    columns = np.flatnonzero(evaluate.transition_band(truth)[20])
    assert columns.min() >= 14 and columns.max() <= 25 and len(columns) >= 8
