"""What PyTorch needs for MatAnyone 2, as a second side of ``matte bench``.

    matte bench --model matanyone2 --rule-weights --size 1280x720 --working-size 512x288 \\
        --against-program models/torch-bench --against --compile

runs both in turn. It takes the options of ``matte bench`` that matter here, and prints the parts of its report that a
comparison reads. The network is the definition that the reference traces are replayed with, channels last where it is not
compiled, with the weights made by rule. Only the three graphs are timed: pictures are at the working size already, and
nothing is drawn.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import torch

from matte_models.config import Config
from matte_models.driver import Driver, Graphs, torch_graphs
from matte_models.network.matanyone import MatAnyone, load_checkpoint, rule_state

WARM_UP = 5
AT_LEAST = 10


def timed(graphs: Graphs, milliseconds: dict[str, list[float]]) -> Graphs:
    """The same graphs; every run adds its time to the list of its graph."""

    def measured(name: str, graph: Callable) -> Callable:
        def call(**inputs: np.ndarray) -> dict[str, np.ndarray]:
            start = time.perf_counter()
            out = graph(**inputs)
            milliseconds[name].append((time.perf_counter() - start) * 1e3)
            return out

        return call

    return {name: measured(name, graph) for name, graph in graphs.items()}


def network(compiled: bool) -> MatAnyone | SimpleNamespace:
    """With the weights made by rule and the whole softmax, ready for inference; or its graphs, compiled."""
    net = MatAnyone(Config(top_k=None)).eval().requires_grad_(False)
    load_checkpoint(net, rule_state())
    if not compiled:
        return net.to(memory_format=torch.channels_last)
    # In channels last what the compiler of PyTorch 2.7.1 makes of `matte` stops: it expects other strides of a key.
    return SimpleNamespace(**{name: torch.compile(getattr(net, name)) for name in ("matte", "value", "memorize")})


def pictures(width: int, height: int, count: int) -> tuple[list[np.ndarray], np.ndarray]:
    """A textured ellipse that sways before a textured wall, and the mask of the first picture; bytes."""
    y, x = np.mgrid[:height, :width] / np.array([height, width])[:, None, None]
    noise = np.random.default_rng(1).integers(0, 24, (height, width, 3))
    sway = 0.03 * np.sin(2 * np.pi * np.arange(count) / count)
    inside = [((x - 0.5 - s) / 0.2) ** 2 + ((y - 0.6) / 0.45) ** 2 < 1 for s in sway]
    frames = [(noise + np.where(i, 150, 60)[..., None]).astype(np.uint8) for i in inside]
    return frames, inside[0].astype(np.uint8) * 255


def quantile(times: list[float], at: float) -> float:
    """Of unsorted times; the nearest rank."""
    return sorted(times)[round((len(times) - 1) * at)]


def measure(size: tuple[int, int], args: argparse.Namespace) -> dict:
    """One run of a report."""
    width, height = args.working_size or size
    if width % 16 or height % 16:
        raise SystemExit(f"working size {width}x{height}: both must be multiples of 16")
    frames, mask = pictures(width, height, 24)
    milliseconds: defaultdict[str, list[float]] = defaultdict(list)
    graphs = torch_graphs(network(args.compile), torch.inference_mode)
    driver = Driver(timed(graphs, milliseconds), (height, width))
    driver.step(frames[0], mask=mask)
    driver.step(frames[0], first=True)
    for frame in frames[1 : 1 + WARM_UP]:
        driver.step(frame)
    milliseconds.clear()
    whole = []
    begin = time.perf_counter()
    for number in range(args.frames):
        start = time.perf_counter()
        driver.step(frames[number % len(frames)])
        whole.append((time.perf_counter() - start) * 1e3)
        if time.perf_counter() - begin > args.seconds and len(whole) >= AT_LEAST:
            break

    def quantiles(times: list[float]) -> dict:
        return {"p50": quantile(times, 0.5), "p95": quantile(times, 0.95), "p99": quantile(times, 0.99)}

    mode = "torch.compile" if args.compile else "eager, channels last"
    return {
        "backend": f"PyTorch {torch.__version__}, {mode}, {torch.get_num_threads()} threads",
        "model": args.model,
        "frame_size": size,
        "working_size": [width, height],
        "frames": len(whole),
        "latency": quantiles(milliseconds["matte"]),
        "whole": quantiles(whole),
        "stages": [{"stage": k, "runs": len(v), **quantiles(v)} for k, v in milliseconds.items()],
    }


def main(arguments: list[str] | None = None) -> None:
    """Reads the command line of ``matte bench`` and prints a report in JSON."""

    def size(text: str) -> tuple[int, int]:
        width, height = text.lower().split("x")
        return int(width), int(height)

    parser = argparse.ArgumentParser(prog="torch-bench", description=__doc__.split("\n")[0])
    parser.add_argument("command", choices=["bench"])
    parser.add_argument("--model", default="matanyone2", choices=["matanyone2"])
    parser.add_argument("--rule-weights", action="store_true", help="always so")
    parser.add_argument("--size", type=size, action="append")
    parser.add_argument("--working-size", type=size)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--compile", action="store_true", help="torch.compile instead of eager mode")
    parser.add_argument("--json", action="store_true", help="always so")
    parser.add_argument("--no-memory", action="store_true", help="always so")
    # The other side's, which are passed on to both.
    parser.add_argument("--backend", help="not used: PyTorch on the CPU")
    parser.add_argument("--precision", help="not used: float32")
    args = parser.parse_args(arguments)
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    runs = [measure(s, args) for s in args.size or [(1280, 720)]]
    json.dump({"command": " ".join(sys.argv), "runs": runs}, sys.stdout, indent=2)


if __name__ == "__main__":
    main()
