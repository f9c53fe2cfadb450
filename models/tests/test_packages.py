"""The exported graphs: reproducible, equal to the network they were traced from, and equal to the reference."""

from __future__ import annotations

import onnx
import pytest
from driver import Case, Driver, errors
from matte_models.sessions import sessions
from test_sequences import torch_graphs

from matte_models import export_matanyone, fill, manifest

FP32 = export_matanyone.PACKAGES / "matanyone2"
FP16 = export_matanyone.PACKAGES / "matanyone2-fp16"
TOP30 = export_matanyone.TEST_DATA / "matanyone2-top30"
SKELETONS = [FP32, FP16, TOP30]


@pytest.fixture(scope="session")
def filled(tmp_path_factory):
    """``filled(package)``: a copy with deterministic weights."""
    done = {}

    def make(package):
        if package not in done:
            done[package] = tmp_path_factory.mktemp(package.name)
            fill.fill(package, done[package], fill.rule_weights(manifest.load(package)))
        return done[package]

    return make


def test_committed_packages_are_what_the_export_gives():
    for directory, files in export_matanyone.everything().items():
        assert manifest.differences(directory, files) == []


@pytest.mark.parametrize("package", SKELETONS, ids=lambda p: p.name)
def test_weights_table(package, rule_state):
    document = manifest.load(package)
    left, missing = manifest.unaccounted(document, set(rule_state))
    assert (left, missing) == (set(), set())
    table = {e["initializer"]: e for e in document["weights"]["tensors"]}
    assert len(table) == len(document["weights"]["tensors"])
    used = set()
    for graph in document["graphs"].values():
        for tensor in onnx.load(package / graph["file"], load_external_data=False).graph.initializer:
            if tensor.data_location != onnx.TensorProto.EXTERNAL:
                assert len(tensor.raw_data) < 256, f"{tensor.name} is a weight inside {graph['file']}"
                continue
            entry = table[tensor.name]
            where = {e.key: e.value for e in tensor.external_data}
            assert where["location"] == document["weights"]["file"]
            assert int(where["offset"]) == entry["offset"]
            assert int(where["offset"]) + int(where["length"]) <= document["weights"]["bytes"]
            assert list(tensor.dims) == entry["shape"]
            used.add(tensor.name)
    assert used == set(table)


@pytest.mark.parametrize("size", [(96, 160), (80, 112)], ids=["160x96", "112x80"])
@pytest.mark.parametrize(("package", "top_k"), [(FP32, None), (TOP30, 30)], ids=["softmax", "top30"])
def test_graphs_equal_the_network(shared, filled, build, package, top_k, size):
    """Every output of every graph along a sequence, on the network's own states."""
    graphs = sessions(filled(package), size)
    worst = dict.fromkeys((), 0.0)

    def both(name, reference):
        def call(**inputs):
            expected = reference(**inputs)
            for key, value in graphs[name](**inputs).items():
                scale = max(1.0, float(abs(expected[key]).max()))
                error = float(abs(value - expected[key]).max()) / scale
                worst[f"{name}.{key}"] = max(worst.get(f"{name}.{key}", 0.0), error)
            return expected

        return call

    network = {name: both(name, call) for name, call in torch_graphs(build(top_k=top_k)).items()}
    name = {(96, 160): "a_synth160x96", (80, 112): "h_mini112x80"}[size]
    case = Case.open(shared / "golden" / f"{name}.safetensors")
    for _ in case.play(Driver(network, size)):
        pass
    print({k: f"{v:.1e}" for k, v in worst.items()})
    assert max(worst.values()) < 2e-5


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("a_synth160x96", TOP30),
        ("b_fullsoftmax", FP32),
        ("c_pad150x90", TOP30),
        ("f_reseed", TOP30),
        ("h_mini112x80", TOP30),
        ("i_nowarm112x80", TOP30),
    ],
)
def test_alpha(shared, filled, name, package):
    case = Case.open(shared / "golden" / f"{name}.safetensors")
    height, width = case.frames.shape[1:3]
    padded = (-(-height // 16) * 16, -(-width // 16) * 16)
    worst = errors(case, Driver(sessions(filled(package), padded), (height, width)))
    print(f"{name}: max {worst.max():.2e}, mean {worst.mean():.2e}")
    assert worst.max() <= 1e-4
    assert worst.mean() <= 5e-6
