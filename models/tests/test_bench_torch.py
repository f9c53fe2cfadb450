"""PyTorch as the other side of ``matte bench``: the frame loop on tensors does what the one on arrays does."""

from __future__ import annotations

import json
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from matte_models import bench_torch
from matte_models.bench_torch import Mode, Stream, kernel_times, network, pictures, running
from matte_models.driver import Driver, TorchDriver, torch_graphs

CPU = torch.device("cpu")
WIDTH, HEIGHT = 112, 80
FRAMES = 13
EAGER = Mode.parse("eager")
CONTIGUOUS = Mode.parse("eager-contiguous")


def play(driver, frames, mask, count=None):
    """Alphas of a mask, two first frames, a stream that fills the bank and goes round in it, and another mask."""
    steps = [(0, {"mask": mask}), (0, {"first": True}), (0, {"first": True})]
    steps += [(t, {}) for t in range(1, len(frames))] + [(3, {"mask": mask}), (4, {})]
    return np.stack([np.asarray(driver.step(frames[t], **how)).copy() for t, how in steps[:count]])


def streamed(mode=EAGER, half=False, autocast=False, count=None, own=None):
    """The same through the stream that is timed."""
    frames, mask = pictures(WIDTH, HEIGHT, FRAMES)
    net = network((HEIGHT, WIDTH), mode.layout, half, whole=True)
    with running(net, CPU, mode, autocast):
        stream = Stream(net, (HEIGHT, WIDTH), CPU, mode, torch.float16 if half or autocast else torch.float32)
        if own is not None:
            stream.driver.own = own
        alphas = play(stream, [torch.from_numpy(f) for f in frames], mask, count)
    return alphas, stream


@pytest.fixture(scope="module")
def expected(build):
    """From the loop on arrays and the definition as it is."""
    frames, mask = pictures(WIDTH, HEIGHT, FRAMES)
    driver = Driver(torch_graphs(build(top_k=None)), (HEIGHT, WIDTH))
    return play(driver, frames, mask), driver


@pytest.mark.parametrize(("mode", "own"), [(EAGER, False), (EAGER, True), (CONTIGUOUS, False)])
def test_tensors_do_what_arrays_do(expected, mode, own):
    alphas, arrays = expected
    got, stream = streamed(mode, own=own)
    assert np.abs(got - alphas).max() <= 1e-5
    driver = stream.driver
    assert (driver.time, driver.memory_time, driver.filled) == (arrays.time, arrays.memory_time, arrays.filled)
    for name in TorchDriver.STATE:
        # The object memory is a sum over frames and tokens.
        np.testing.assert_allclose(getattr(driver, name), getattr(arrays, name), atol=1e-4, rtol=1e-4, err_msg=name)



def test_recorded_graphs_get_their_inputs(expected, monkeypatch):
    """CUDA graphs without CUDA: what is recorded runs again on the tensors that it was recorded with, and its outputs
    stay where they are.
    """
    runs = []

    class Recorded:
        def replay(self):
            for old, new in zip(self.out, self.run(), strict=True):
                old.copy_(new)

    @contextmanager
    def record(graph):
        runs.clear()
        yield
        graph.run, graph.out = runs[-1]

    def seen(method):
        def call(**inputs):
            out = method(**inputs)
            runs.append((lambda: method(**inputs), out))
            return out

        return call

    stream = SimpleNamespace(wait_stream=lambda other: None)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Recorded)
    monkeypatch.setattr(torch.cuda, "graph", record)
    monkeypatch.setattr(torch.cuda, "Stream", lambda: stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    recorded = bench_torch.recorded
    monkeypatch.setattr(bench_torch, "recorded", lambda method, stable: recorded(seen(method), stable))
    got, _ = streamed(Mode.parse("graphs"))
    assert np.abs(got - expected[0]).max() <= 1e-5


def test_padding(build):
    """As the loop on arrays pads; nobody times it."""
    frames, mask = pictures(109, 78, 6)
    net = build(top_k=None)
    expected = play(Driver(torch_graphs(net), (78, 109)), frames, mask)
    graphs = {n: lambda m=getattr(net, n), **i: m(**i)._asdict() for n in bench_torch.GRAPHS}
    with torch.inference_mode():
        got = play(TorchDriver(graphs, (78, 109)), frames, mask)
    assert np.abs(got - expected).max() <= 1e-5


@pytest.mark.parametrize("autocast", [False, True])
def test_half_precision_stays_near(expected, autocast):
    """Rounding turns single mask decisions, so that only the mean says something (models/README.md)."""
    got, stream = streamed(half=not autocast, autocast=autocast, count=5)
    error = np.abs(got - expected[0][:5])
    print(f"autocast {autocast}: max {error.max():.2e}, mean {error.mean():.2e}")
    assert error.mean() < 5e-3
    assert stream.driver.last_value.dtype == stream.driver.bank_values.dtype == torch.float16


def test_what_the_profiler_says():
    events = [
        {"cat": "kernel", "name": "conv", "dur": 3000.0},
        {"cat": "kernel", "name": "conv", "dur": 1000},
        {"cat": "kernel", "name": "add", "dur": 500},
        {"cat": "gpu_memcpy", "name": "Memcpy HtoD (Pinned -> Device)", "dur": 100},
        {"cat": "gpu_user_annotation", "name": "a whole graph", "dur": 9999},
        {"ph": "M", "name": "process_name"},
    ]
    said = kernel_times(events, 2)
    assert said["kernels_ms"] == pytest.approx(2.25)
    assert said["copies_ms"] == pytest.approx(0.05)
    assert said["kernels"] == 1.5
    assert said["dearest"][0] == {"kernel": "conv", "ms": pytest.approx(2.0)}
    with pytest.raises(RuntimeError, match="no kernel"):
        kernel_times(events[3:], 2)


def report(capsys, *words):
    code = bench_torch.main(["bench", "--rule-weights", "--size", "64x64", "--seconds", "0", *words, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_report_has_what_a_comparison_reads(capsys):
    code, said = report(capsys, "--backend", "openvino", "--frames", "10")
    assert code == 0 and said["failed"] == []
    (run,) = said["runs"]
    assert run["frame_size"] == run["working_size"] == [64, 64]
    assert run["model"] == "matanyone2" and "eager, channels last" in run["backend"]
    assert [s["stage"] for s in run["stages"]] == ["matte", "value", "memorize"]
    assert [s["runs"] for s in run["stages"]] == [10, 10, 2]
    assert 0.1 < run["alpha"]["mean"] < 0.9 and run["alpha"]["max_error"] == 0
    assert 0 < run["latency"]["p50"] < run["whole"]["p50"]


def test_what_fails_is_said_and_the_rest_goes_on(capsys, monkeypatch):
    def measure(size, mode, args):
        if mode.compiled:
            raise RuntimeError(f"{mode} does not compile")
        return {"size": size, "mode": mode.name}

    monkeypatch.setattr(bench_torch, "measure", measure)
    code, said = report(capsys, "--modes", "default,eager")
    assert code == 0 and [r["mode"] for r in said["runs"]] == ["eager"]
    assert [f["reason"] for f in said["failed"]] == ["RuntimeError: torch.compile does not compile"]
    code, said = report(capsys, "--compile")
    assert code == 1 and said["runs"] == [] and len(said["failed"]) == 1


def test_channels_last_is_given_up_where_the_compiler_stops(monkeypatch):
    tried = []

    def measure(size, mode, args):
        tried.append(str(mode))
        if mode.layout == torch.channels_last:
            raise AssertionError("expected size 1==1, stride 5==7")
        return {"mode": mode.name}

    monkeypatch.setattr(bench_torch, "measure", measure)
    run, failed = bench_torch.attempts((64, 64), Mode.parse("reduce-overhead"), SimpleNamespace(device=CPU))
    assert run == {"mode": "reduce-overhead"} and len(failed) == 1
    assert tried == ["torch.compile reduce-overhead, channels last", "torch.compile reduce-overhead"]


@pytest.mark.parametrize(
    "words",
    [
        ["--modes", "eager,fast"],
        ["--working-size", "1920x1080"],
        ["--model", "matanyone2-fp16"],
        ["--autocast"],
        ["--modes", "graphs"],
    ],
)
def test_what_cannot_be_is_refused(words, capsys):
    with pytest.raises(SystemExit):
        bench_torch.options(["bench", *words])
    assert "error" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_nothing_else_is_measured(capsys):
    with pytest.raises(SystemExit):
        bench_torch.options(["bench", "--backend", "cuda"])
    assert "finds no GPU" in capsys.readouterr().err
