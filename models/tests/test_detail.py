"""`detail`: the network that draws edges anew, its graph, its data and its training."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnx.numpy_helper
import pytest
import torch
from test_lite import small_material

from matte_models import export_detail as export
from matte_models.export_lite import INT8_TOLERANCE, open_session
from matte_models.network.detail import PLANES, TILE, Detail, DetailConfig, Tiles
from matte_models.train import detail
from matte_models.train.data import Size
from matte_models.train.evaluate import guided_upsample

PACKAGE = Path(__file__).parents[1] / "packages" / "lite"


def scrambled() -> Detail:
    torch.manual_seed(3)
    net = Detail()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, 0, 0.05)
    return net.eval()


def step(rng: np.random.Generator, count: int, blur: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Tiles with a straight edge each between two grounds, sharp in the picture and blurred in the matte: `[count, 4, 64, 64]`, and
    the true alpha."""
    y, x = np.mgrid[:TILE, :TILE].astype(np.float32)
    tiles, truth = [], []
    for _ in range(count):
        angle, middle = rng.uniform(0, 2 * np.pi), rng.uniform(20, 44, 2)
        sharp = np.clip((x - middle[0]) * np.cos(angle) + (y - middle[1]) * np.sin(angle) + 0.5, 0, 1)
        noise = [cv2.GaussianBlur(rng.standard_normal((TILE, TILE)).astype(np.float32), (0, 0), 2) * 0.5 for _ in range(2)]
        front, back = (rng.uniform(0, 1, (3, 1, 1)) + n for n in noise)
        soft = cv2.blur(sharp, (blur, blur), borderType=cv2.BORDER_REPLICATE)
        tiles.append(np.concatenate([(front * sharp + back * (1 - sharp)).clip(0, 1), soft[None]]))
        truth.append(sharp[None])
    return np.rint(np.stack(tiles) * 255).astype(np.uint8), np.stack(truth)


def test_untrained_it_is_the_filter():
    tiles = torch.rand(3, PLANES, TILE, TILE)
    torch.testing.assert_close(Detail()(tiles), tiles[:, 3:])


def test_the_graph_equals_the_definition_for_any_number_of_tiles(tmp_path):
    net = scrambled()
    model = export.graph_of(net)
    for count in (1, 4, 9):
        tiles = np.random.default_rng(count).integers(0, 256, (count, PLANES, TILE, TILE), np.uint8)
        assert export.difference(net, model, tiles).max() < 1e-5


def test_exporting_leaves_the_other_graphs_alone(tmp_path):
    before = {p.name: p.read_bytes() for p in PACKAGE.iterdir() if p.name in {"matte.onnx", "value.onnx", "matte.int8.onnx"}}
    old = json.loads((PACKAGE / "manifest.json").read_text())
    for name, blob in {**before, "manifest.json": (PACKAGE / "manifest.json").read_bytes()}.items():
        (tmp_path / name).write_bytes(blob)
    tiles, _ = step(np.random.default_rng(0), 64)
    net = Detail()  # what scrambled weights give is nothing that 8 bits hold
    differs = export.export(net, tmp_path, "9.9.9", tiles)
    assert differs["detail"] < 1e-6 and differs["detail.int8"] < INT8_TOLERANCE
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    new = json.loads((tmp_path / "manifest.json").read_text())
    assert new["version"] == "9.9.9" and new["graphs"]["detail"] == export.graph_spec(int8=True)
    assert {k: v for k, v in new["graphs"].items() if k != "detail"} == {
        k: v for k, v in old["graphs"].items() if k != "detail"}
    assert set(new["files"]) == {p.name for p in tmp_path.iterdir()} - {"manifest.json"}


def test_the_committed_graphs_agree_and_bring_edges_nearer_to_the_true_ones():
    graph = onnx.load(PACKAGE / "detail.onnx").graph
    weights = {t.name.removeprefix("net."): torch.from_numpy(onnx.numpy_helper.to_array(t).copy()) for t in graph.initializer
               if t.name.endswith((".weight", ".bias"))}
    width = len(weights["stem.bias"])
    net = Detail(DetailConfig(width, sum(name.startswith("body.") and name.endswith(".bias") for name in weights)))
    net.load_state_dict(weights)
    core = np.s_[..., detail.MARGIN : -detail.MARGIN, detail.MARGIN : -detail.MARGIN]
    for blur in (3, 5):
        tiles, truth = step(np.random.default_rng(1), 60, blur)
        drawn = {}
        for file in ("detail.onnx", "detail.int8.onnx"):
            drawn[file] = open_session(str(PACKAGE / file), {"T": len(tiles)}).run(None, {"tiles": tiles})[0]
        with torch.no_grad():
            expected = Tiles(net.eval())(torch.from_numpy(tiles)).numpy()
        assert np.abs(drawn["detail.onnx"] - expected).max() < 1e-5
        assert np.abs(drawn["detail.int8.onnx"] - expected)[core].mean() < INT8_TOLERANCE
        filters = np.abs(tiles[:, 3:] / 255 - truth)[core].mean()
        for alpha in drawn.values():
            assert np.abs(alpha - truth)[core].mean() < 0.95 * filters


def test_live_cells_are_those_around_which_the_matte_differs():
    rng = np.random.default_rng(5)
    alpha = np.zeros((70, 150), np.uint8)
    alpha[30:, 60:] = 255
    alpha[2, 3] = 12  # not enough
    alpha[65, 20] = 13
    alpha += rng.integers(0, 2, alpha.shape, np.uint8) * (alpha < 13)
    got = detail.live_cells(alpha)
    assert got.shape == (5, 10)
    for row in range(5):
        for column in range(10):
            part = alpha[max(0, row * 16 - 4) : row * 16 + 20, max(0, column * 16 - 4) : column * 16 + 20].astype(int)
            assert got[row, column] == (part.max() - part.min() > 12)


def test_only_live_cells_are_drawn_anew():
    rng = np.random.default_rng(2)
    filtered = np.zeros((101, 203), np.uint8)
    filtered[40:, 100:] = 255
    rgb = rng.integers(0, 256, (*filtered.shape, 3), np.uint8)
    drawn = detail.redraw(scrambled(), rgb, filtered)
    live = detail.live_cells(filtered).repeat(16, 0).repeat(16, 1)[:101, :203]
    assert (drawn[~live] == filtered[~live]).all()
    assert (drawn[live] != filtered[live]).mean() > 0.5


def test_the_loss_by_hand():
    truth = torch.full((1, 2, 1, TILE, TILE), 0.5)
    wrong = truth + 0.2
    # L1 unclamped and clamped; a constant has no Laplacian, and nothing moves: the root of 1e-6 is left.
    assert float(detail.loss_of(wrong, truth, 2.0)) == pytest.approx(0.2 + 0.5 * 0.2 + 2 * 0.4e-3, abs=1e-5)
    moved = truth.clone()
    moved[:, 1] += 0.2
    # Half of the frames are off by 0.2; between the two it jumps by 0.2.
    assert float(detail.loss_of(moved, truth, 2.0)) == pytest.approx(0.1 + 0.05 + 2 * (0.2 + 0.4 * 0.2), abs=1e-4)
    # Beyond 0 and 1 by the margin nothing is wrong.
    assert float(detail.loss_of(truth * 2 + 0.1, truth * 2, 2.0)) == pytest.approx(2 * 0.4e-3, abs=1e-5)
    edge = truth.clone()
    edge[..., :2, :] = 3.0
    assert float(detail.loss_of(edge, truth, 2.0)) == pytest.approx(2 * 0.4e-3, abs=1e-5)


def clips(folder: Path) -> Path:
    """Two clips of a square that moves, its matte blurred."""
    folder.mkdir()
    for number in range(2):
        frames = np.zeros((3, 160, 224, 5), np.uint8)
        for i, frame in enumerate(frames):
            truth = np.zeros((160, 224), np.uint8)
            truth[40:120, 60 + 3 * i + 20 * number : 160 + 3 * i] = 255
            frame[..., :3] = np.where(truth[..., None] > 0, (200, 90, 60), (30, 60 + 40 * number, 120))
            frame[..., 3] = cv2.blur(truth, (11, 11))
            frame[..., 4] = truth
        np.save(folder / f"{number}.npy", frames)
    return folder


def test_a_clip_shows_what_lite_makes_of_it(monkeypatch):
    monkeypatch.setattr(detail, "SIZE", Size(256, 192))
    monkeypatch.setattr(detail, "WORKING_SIZES", {(128, 96): 1.0})
    clip = detail.make_clip(3, 0, small_material(), lambda rgb: np.zeros((6, 8), np.float32), detail.PACKAGE)
    assert clip.shape == (detail.KEPT, 192, 256, 5) and clip.dtype == np.uint8
    assert np.abs(clip[..., 3].astype(int) - clip[..., 4]).mean() < 40


def test_tiles_are_pairs_of_one_place_and_lie_at_edges(tmp_path):
    data = detail.Clips([clips(tmp_path / "clips")])
    tiles = data.tiles(np.random.default_rng(0), 24)
    assert tiles.shape == (24, 2, 5, TILE, TILE) and float(tiles.min()) >= 0 and float(tiles.max()) <= 1
    matte = tiles[:, 0, 3]
    # Of an edge that lies in a corner of its cell's surroundings a tile may see nothing.
    assert float(((matte.amax((1, 2)) - matte.amin((1, 2))) > 0.04).float().mean()) > 0.9
    # The same light in both frames of a pair: what the square covers in both has the same colours.
    both = (tiles[:, 0, 4] == 1) & (tiles[:, 1, 4] == 1)
    assert float((tiles[:, 0, :3] - tiles[:, 1, :3]).abs().amax(1)[both].max()) < 1e-6
    again = data.tiles(np.random.default_rng(0), 24)
    assert torch.equal(tiles, again)
    with pytest.raises(ValueError, match="no clips"):
        detail.Clips([tmp_path])


def test_training_learns_and_what_it_saves_is_exported(tmp_path, capsys):
    folder = clips(tmp_path / "clips")
    out = tmp_path / "detail.pt"
    detail.train(detail.Clips([folder]), out, minutes=0.15, rate=3e-3, batch=4, seed=1, config=DetailConfig(16, 1), log_every=20)
    lines = capsys.readouterr().out.strip().splitlines()
    own, filters = (float(lines[-1].split(what)[1].split(",")[0]) for what in ("alpha wrong by ", "the filter's by "))
    assert own < 0.8 * filters, lines[-1]
    net = export.load_detail(out)
    assert (net.config.width, net.config.depth) == (16, 1)
    saved = torch.load(out, weights_only=True)
    saved["detail"]["out.bias"][3] = float("nan")
    torch.save(saved, out)
    with pytest.raises(ValueError, match="not finite in out.bias"):
        export.load_detail(out)


def test_the_guided_filter_is_that_of_the_paper():
    """Against the solution of its 3×3 equations, window by window."""
    rng = np.random.default_rng(4)
    small = cv2.GaussianBlur(rng.random((40, 56, 3)), (0, 0), 3).astype(np.float32)
    alpha = cv2.GaussianBlur(rng.random((40, 56)), (0, 0), 3).astype(np.float32)
    picture = cv2.resize(small, (112, 80), interpolation=cv2.INTER_CUBIC)

    def mean(x):
        return cv2.blur(x, (7, 7), borderType=cv2.BORDER_REPLICATE)

    means = np.dstack([mean(small[..., i]) for i in range(3)]).astype(np.float64)
    covariance = np.stack([[mean(small[..., i] * small[..., j]) for j in range(3)] for i in range(3)]).transpose(2, 3, 0, 1)
    covariance = covariance - means[..., :, None] * means[..., None, :] + 3e-4 * np.eye(3)
    with_alpha = np.dstack([mean(small[..., i] * alpha) for i in range(3)]) - means * mean(alpha)[..., None]
    a = np.linalg.solve(covariance, with_alpha[..., None])[..., 0]
    b = mean(alpha) - (a * means).sum(-1)
    full = [cv2.resize(mean(x.astype(np.float32)), (112, 80), interpolation=cv2.INTER_LINEAR)
            for x in (*np.moveaxis(a, 2, 0), b)]
    expected = np.clip((np.dstack(full[:3]) * picture).sum(-1) + full[3], 0, 1)
    np.testing.assert_allclose(guided_upsample(alpha, small, picture), expected, atol=2e-4)
