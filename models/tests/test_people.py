"""The generator of synthetic people: readers and rig on tiny cases; clips on the real parts where they are."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("numba", reason="synthetic people need numba (pip install '.[people]')")
pytest.importorskip("cv2", reason="synthetic people need opencv")

from matte_models.train.people import hair, person, raster, rig  # noqa: E402
from matte_models.train.people.assets import Library, read_bvh, read_mhclo  # noqa: E402
from matte_models.train.people.clip import Studio, load, save  # noqa: E402
from matte_models.train.people.motion import Act  # noqa: E402

SHARED = Path(os.environ.get("MATTE_SHARED", Path(__file__).resolve().parents[3] / "shared"))


@pytest.fixture(scope="session")
def makehuman(tmp_path_factory) -> Path:
    """The unpacked parts: MATTE_MAKEHUMAN, or the archive of the training material."""
    if "MATTE_MAKEHUMAN" in os.environ:
        return Path(os.environ["MATTE_MAKEHUMAN"])
    archive = SHARED / "train/makehuman-cc0.tar.xz"
    if not archive.is_file():
        pytest.skip(f"no MATTE_MAKEHUMAN and no {archive} (set MATTE_SHARED)")
    folder = tmp_path_factory.mktemp("makehuman")
    with tarfile.open(archive) as file:
        file.extractall(folder, filter="data")
    return folder / "makehuman"


@pytest.fixture(scope="session")
def studio(makehuman) -> Studio:
    return Studio(makehuman)


BVH = """HIERARCHY
ROOT hip
{
  OFFSET 0 0 0
  CHANNELS 6 Xposition Yposition Zposition Xrotation Yrotation Zrotation
  JOINT knee
  {
    OFFSET 0 0 -4
    CHANNELS 3 Zrotation Xrotation Yrotation
    End Site
    {
      OFFSET 0 0 -4
    }
  }
}
MOTION
Frames: 2
Frame Time: 0.05
0 0 0 0 0 0 0 0 0
1 2 3 0 0 90 0 90 0
"""


def test_bvh_with_z_up_becomes_y_up(tmp_path):
    path = tmp_path / "two.bvh"
    path.write_text(BVH)
    motion = read_bvh(path)
    assert motion.bones == ["hip", "knee"]
    assert motion.parents == [-1, 0]
    np.testing.assert_allclose(motion.offsets, [[0, 0, 0], [0, -4, 0]])
    assert motion.seconds == 0.05
    np.testing.assert_allclose(motion.rotations[0], np.tile(np.eye(3), (2, 1, 1)), atol=1e-12)
    # 90° about z (up) is 90° about y: x turns to -z, which was y.
    np.testing.assert_allclose(motion.rotations[1, 0] @ [1, 0, 0], [0, 0, -1], atol=1e-12)
    # 90° about x, which both have: the old y (-z here) turns to the old z (y here).
    np.testing.assert_allclose(motion.rotations[1, 1] @ [0, 0, -1], [0, 1, 0], atol=1e-12)


MHCLO = """name patch
obj_file patch.obj
x_scale 0 1 2.0
y_scale 0 2 1.0
z_scale 0 3 1.0
verts 0
0 1 2 0.5 0.5 0 0.25 0 0.5
3
1
0 1 2 0 0 1 0 0 0
delete_verts
1 - 3 7
9
"""


def test_mhclo_binds_scales_and_deletes(tmp_path):
    (tmp_path / "patch.obj").write_text("v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nvt 0 0\nf 1/1 2/1 3/1 4/1\n")
    (tmp_path / "patch.mhclo").write_text(MHCLO)
    clothing = read_mhclo(tmp_path / "patch.mhclo")
    np.testing.assert_array_equal(clothing.deleted, [1, 2, 3, 7, 9])
    base = np.array([[0, 0, 0], [4.0, 0, 0], [0, 3.0, 0], [0, 0, 2.0]])
    # The base is twice as wide as the one the garment was made for, so are offsets along x; along z likewise.
    np.testing.assert_allclose(clothing.fit(base), [[2 + 0.5, 0, 1.0], [0, 0, 2], [4, 0, 0], [0, 3, 0]])


def test_faces_go_only_when_all_their_vertices_are_hidden():
    faces = np.array([[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 6, 7]])
    hidden = np.isin(np.arange(8), [2, 3, 4, 5, 6, 7])
    np.testing.assert_array_equal(person.visible(faces, hidden), [True, False, False])


def test_rotations():
    a, b = rig.unit(np.array([1.0, 2, -0.5])), rig.unit(np.array([-0.3, 0.1, 0.9]))
    np.testing.assert_allclose(rig.swing(a, b) @ a, b, atol=1e-12)
    np.testing.assert_allclose(rig.swing(a, -a) @ a, -a, atol=1e-12)
    turn = rig.about(np.array([0.2, -0.7, 0.4]), 2.5)
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(rig.part(turn, 0.5) @ rig.part(turn, 0.5), turn, atol=1e-9)
    half = rig.about(np.array([0.6, 0.0, -0.8]), np.pi)
    np.testing.assert_allclose(rig.part(half, 0.5) @ rig.part(half, 0.5), half, atol=1e-6)


def arm() -> rig.Skeleton:
    """A straight body and an arm of two parts of 3 and 2 that is slightly bent."""
    skeleton = rig.Skeleton.__new__(rig.Skeleton)
    skeleton.names = ["root", "upperarm01.L", "upperarm02.L", "lowerarm01.L", "lowerarm02.L", "wrist.L"]
    skeleton.index = {n: i for i, n in enumerate(skeleton.names)}
    skeleton.parents = [-1, 0, 1, 2, 3, 4]
    skeleton.heads = np.array([[0, 0, 0], [1.0, 5, 0], [2.5, 5, 0], [4, 5, 0], [5, 5, 0.2], [6, 5, 0.4]])
    skeleton.tails = skeleton.heads + 0.1
    return skeleton


def test_forward_kinematics_of_two_joints():
    skeleton = arm()
    turns = {"upperarm01.L": rig.roll(np.pi / 2), "lowerarm01.L": rig.yaw(0.0)}
    rotations, positions = skeleton.forward(turns, np.array([0, 0, 1.0]))
    np.testing.assert_allclose(positions[skeleton.index["lowerarm01.L"]], [1, 8, 1], atol=1e-12)
    matrices = skeleton.matrices(rotations, positions)
    wrist = np.append(skeleton.head("wrist.L"), 1)
    np.testing.assert_allclose(matrices[skeleton.index["lowerarm01.L"]] @ wrist, [1, 10, 1.4], atol=1e-12)


@pytest.mark.parametrize("target", [(2.0, 4.0, 2.5), (3.5, 7.0, 1.0), (1.5, 2.0, 1.0)])
def test_the_wrist_comes_to_its_target(target):
    skeleton = arm()
    turns = {"root": rig.yaw(0.4)}
    rotations, positions = skeleton.forward(turns, np.zeros(3))
    skeleton.reach(turns, rotations, positions, "L", np.array(target), np.array([0.3, -1.0, -0.3]), 0.5)
    _, positions = skeleton.forward(turns, np.zeros(3))
    np.testing.assert_allclose(positions[skeleton.index["wrist.L"]], target, atol=1e-6)
    elbow, shoulder = positions[skeleton.index["lowerarm01.L"]], positions[skeleton.index["upperarm01.L"]]
    assert np.linalg.norm(elbow - shoulder) == pytest.approx(3)


def test_beyond_reach_the_arm_points_at_its_target():
    skeleton = arm()
    turns: dict = {}
    rotations, positions = skeleton.forward(turns, np.zeros(3))
    skeleton.reach(turns, rotations, positions, "L", np.array([1.0, 5, 30]), np.array([0, -1.0, 0]), 0.0)
    _, positions = skeleton.forward(turns, np.zeros(3))
    way = positions[skeleton.index["wrist.L"]] - positions[skeleton.index["upperarm01.L"]]
    assert rig.unit(way)[2] > 0.999


def test_coverage_is_the_area():
    """A rectangle of a known area, drawn as two triangles: the samples' mean is its area to a sample's precision."""
    left, top, right, bottom = 2.25, 1.5, 7.5, 6.75
    screen = np.array([[left, top, 1], [right, top, 1], [right, bottom, 1], [left, bottom, 1]], np.float32)
    nearest, owner = np.zeros((9, 10, raster.SAMPLES), np.float32), np.full((9, 10, raster.SAMPLES), -1, np.int32)
    raster.cover(screen, np.array([[0, 1, 2], [0, 2, 3]], np.int32), np.zeros(2, bool), nearest, owner)
    covered = (owner >= 0).mean(-1)
    xs = np.clip(np.minimum(right, np.arange(10) + 1) - np.maximum(left, np.arange(10)), 0, 1)
    ys = np.clip(np.minimum(bottom, np.arange(9) + 1) - np.maximum(top, np.arange(9)), 0, 1)
    np.testing.assert_allclose(covered, ys[:, None] * xs, atol=1e-6)


def test_nearer_surfaces_cover_farther_ones_in_any_order():
    screen = np.array([[0, 0, 0.2], [8, 0, 0.2], [0, 8, 0.2], [0, 0, 0.5], [8, 0, 0.5], [0, 8, 0.5]], np.float32)
    for triangles, front in (([[0, 1, 2], [3, 4, 5]], 1), ([[3, 4, 5], [0, 1, 2]], 0)):
        nearest, owner = np.zeros((4, 4, raster.SAMPLES), np.float32), np.full((4, 4, raster.SAMPLES), -1, np.int32)
        raster.cover(screen, np.array(triangles, np.int32), np.zeros(2, bool), nearest, owner)
        assert (owner == front).all()


def test_components_and_borders():
    faces = np.array([[0, 1, 2, 3], [4, 5, 6, 6], [1, 7, 8, 2]])
    label = person.components(9, faces)
    assert label[0] == label[8] != label[4]
    assert set(person.borders(faces)) == {0, 1, 2, 3, 4, 5, 6, 7, 8}
    grid = np.array([[i * 3 + j, i * 3 + j + 1, i * 3 + j + 4, i * 3 + j + 3] for i in range(2) for j in range(2)])
    assert set(person.borders(grid)) == set(range(9)) - {4}


def test_weights_of_four_bones_sum_to_a_whole():
    weights = np.random.default_rng(3).dirichlet([0.3] * 9, 50).astype(np.float32)
    bones, shares = person.top_weights(weights)
    assert (shares.astype(int).sum(1) == 255).all()
    assert (bones[:, 0] == weights.argmax(1)).all()


def test_missing_material_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="base.obj"):
        Library(tmp_path)


# --- with the parts of MakeHuman ----------------------------------------------------------------------------------


def test_hidden_skin_is_not_drawn(studio):
    someone = person.build(studio.library, 3)
    suit = next(
        studio.library.clothing(p)
        for p in studio.library.garments("*suit*")
        if studio.library.clothing(p).name == someone.notes["suit"]
    )
    base, _ = person.shape(studio.library, np.random.default_rng([3, 1]))
    gone = np.zeros(len(base), bool)
    gone[suit.deleted] = True
    faces = studio.library.base.faces[studio.library.base.groups["body"]]
    inner = set(np.unique(faces)) - set(np.unique(faces[person.visible(faces, gone)]))
    assert len(inner) > 500
    drawn = someone.solid["position"][someone.solid["material"] == person.SKIN]
    kept = {tuple(p) for p in drawn.round(4)}
    assert not kept & {tuple(p) for p in base[sorted(inner)].astype(np.float32).round(4)}
    assert len(drawn) > 3000


def test_people_differ_and_have_finite_vertices(studio):
    first, second = person.build(studio.library, 0), person.build(studio.library, 1)
    for someone in (first, second):
        for array in (someone.solid, someone.strands):
            for name in ("position", "normal"):
                assert np.isfinite(array[name]).all()
        assert someone.solid_triangles.max() < len(someone.solid)
        assert someone.strand_triangles.max() < len(someone.strands)
    assert first.solid.tobytes() != second.solid.tobytes()


def test_clips_follow_from_their_seed(studio, makehuman, tmp_path):
    clip = studio.clip(5, frames=3, tallest=96)
    studio.clip(6, frames=2, tallest=64)  # what was made before must not matter
    again = Studio(makehuman).clip(5, frames=3, tallest=96)
    np.testing.assert_array_equal(clip.frames, again.frames)
    assert clip.frames.dtype == np.uint8 and clip.frames.shape[0] == 3 and clip.frames.shape[3] == 4
    assert (clip.frames[..., :3] <= clip.frames[..., 3:]).all(), "not premultiplied"
    alpha = clip.frames[..., 3]
    assert (alpha == 255).mean() > 0.15 and ((alpha > 0) & (alpha < 255)).any()
    # The crop is tight.
    seen = alpha.max(0) > 0
    assert seen[0].any() and seen[-1].any() and seen[:, 0].any() and seen[:, -1].any()
    save(clip, tmp_path / "00005.npz")
    back = load(tmp_path / "00005.npz")
    np.testing.assert_array_equal(back.frames, clip.frames)
    assert (back.seed, back.bottom_open) == (5, clip.bottom_open)


def test_alpha_is_exact(studio):
    """Drawn over any background, a picture is the premultiplied one plus the background's uncovered share."""
    draw, calls = studio.renderer.draw, []
    studio.renderer.draw = lambda *a, **k: calls.append(a) or draw(*a, **k)
    try:
        studio.clip(1, frames=2, tallest=120)
    finally:
        del studio.renderer.draw
    layer = draw(*calls[0]).copy()
    for ground in ((255.0, 255.0, 255.0), (10.0, 200.0, 90.0)):
        over = draw(*calls[0], background=(*ground, 255.0))
        expected = layer[..., :3] + np.array(ground) * (1 - layer[..., 3:] / 255)
        np.testing.assert_allclose(over[..., :3], expected, atol=0.02)
        np.testing.assert_allclose(over[..., 3], 255, atol=0.02)
    partial = (layer[..., 3] > 1) & (layer[..., 3] < 254)
    assert partial.mean() > 0.01


def test_hair_reaches_beyond_the_head(studio):
    rng = np.random.default_rng(2)
    base, drawn = person.shape(studio.library, rng)
    skeleton = rig.Skeleton(studio.library, base)
    style = hair.Style("crop", None, False, lying=200, length=0.6, outward=0.8)
    grown = hair.Hair(studio.library, rng, base, skeleton, style, np.full(3, 0.1), drawn, False)
    strands = grown.vertices[grown.vertices["card"][:, 3] == hair.STRAND_KIND]
    assert strands["position"][:, 1].max() > base[: person.BODY_VERTICES, 1].max() + 0.1
    body = base[: person.BODY_VERTICES]
    assert grown.scalp[body[:, 1].argmax()] > 0.9
    lips = person.mask_of(studio.library, ["mouth/mouth-upperlip-volume-incr", "nose/nose-point-up"], len(body))
    assert grown.scalp[lips > 0.3].max() == 0
    assert grown.scalp[body[:, 1] < body[:, 1].max() - 4].max() == 0


def test_fingers_close_into_the_palm(studio):
    base = studio.library.base.positions
    skeleton = rig.Skeleton(studio.library, base)
    act = Act(studio.library, skeleton, np.random.default_rng(0), "half", 1.0)
    for side in "LR":
        act.curl[side] = [1.0] * 5
        turns: dict = {}
        act._fingers(turns, side, 0.0)
        _, positions = skeleton.forward(turns, np.zeros(3))
        tip, palm = skeleton.index[f"finger3-3.{side}"], skeleton.index[f"finger3-1.{side}"]
        closed, rest = positions[tip] - positions[palm], skeleton.heads[tip] - skeleton.heads[palm]
        first, last = (skeleton.index[f"finger3-{k}.{side}"] for k in (1, 3))
        bent = rig.unit(skeleton.tails[last] - skeleton.heads[last]) - rig.unit(
            skeleton.tails[first] - skeleton.heads[first]
        )
        assert (closed - rest) @ bent > 0, "the other way than fingers bend at rest"


@pytest.mark.parametrize("path", ["animations/walks/walk1.bvh", "animations/zombie/zombieWalk1.bvh"])
def test_recorded_walks_step_and_let_the_arms_hang(studio, path):
    skeleton = rig.Skeleton(studio.library, studio.library.base.positions)
    act = Act(studio.library, skeleton, np.random.default_rng(0), "full", 1.0)
    feet, hands = [], []
    for frame in range(0, len(studio.library.motion(path).rotations), 2):
        _, positions = skeleton.forward(act._recorded(path, frame), np.zeros(3))
        at = {n: positions[skeleton.index[n]] for n in ("head", "foot.L", "foot.R", "wrist.L", "upperarm01.L")}
        assert at["head"][1] > at["foot.L"][1] + 11
        feet.append(at["foot.L"][2] - at["foot.R"][2])
        hands.append(at["upperarm01.L"][1] - at["wrist.L"][1])
    assert max(feet) > 1.5 and min(feet) < -1.5
    if "walk1" in path:
        assert min(hands) > 1.5
