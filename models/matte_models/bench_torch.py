"""What PyTorch needs for MatAnyone 2, as a second side of ``matte bench``.

    matte bench --model matanyone2 --rule-weights --size 1280x720 --working-size 512x288 \\
        --against-program models/torch-bench --against --compile

runs both in turn. It takes the options of ``matte bench`` that matter here, and prints the parts of its report that a
comparison reads. The network is the definition that the reference traces are replayed with, channels last, with the
weights made by rule. Only the three graphs are timed: pictures are at the working size already, and nothing is drawn.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from matte_models import rule
from matte_models.config import Config
from matte_models.network.matanyone import MatAnyone, load_checkpoint
from matte_models.network.read import valid_index

Graphs = Mapping[str, Callable[..., tuple[Tensor, ...]]]

INTERVAL = 5
"""Every how many frames one is remembered."""
SLOTS = 5
"""Frames in the bank: the seed and four others."""
WARM_UP = 5
AT_LEAST = 10


class Loop:
    """The frame loop of a stream, with all state in tensors and every graph timed."""

    def __init__(self, graphs: Graphs, config: Config, width: int, height: int) -> None:
        h, w = height // 16, width // 16
        self.graphs, self.config = graphs, config
        self.tokens = h * w

        def zeros(channels: int) -> Tensor:
            return torch.zeros(1, channels, h, w).to(memory_format=torch.channels_last)

        self.bank_keys = torch.zeros(SLOTS * self.tokens, config.key_row)
        self.bank_keys[:, valid_index(config.key_dim)] = -1e9
        self.bank_values = torch.zeros(SLOTS * self.tokens, config.value_dim)
        self.sensory = zeros(config.sensory_dim)
        self.object_memory = torch.zeros(1, config.num_queries, config.embed_dim + 1)
        self.last = {"last_alpha": zeros(1), "last_feature": zeros(config.pixel_dim), "last_value": zeros(config.value_dim)}
        self.stored = 0
        self.milliseconds: defaultdict[str, list[float]] = defaultdict(list)

    def _timed(self, name: str, *inputs: Tensor) -> tuple[Tensor, ...]:
        start = time.perf_counter()
        out = self.graphs[name](*inputs)
        self.milliseconds[name].append((time.perf_counter() - start) * 1e3)
        return out

    def step(self, frame: Tensor, number: int, mask: Tensor | None = None) -> Tensor:
        """``frame [1, H, W, 3]`` u8 → alpha ``[1, 1, H, W]``; a mask of that shape names the target."""
        gate = torch.tensor(0.0 if mask is not None else 1.0)
        state = (self.sensory, self.last["last_alpha"], self.last["last_feature"], self.last["last_value"])
        out = self._timed("matte", frame, self.bank_keys, self.bank_values, *state, self.object_memory, gate)
        alpha, self.sensory, feature, key_rows = out
        if mask is not None:
            alpha = mask
        value, value_rows, alpha_16 = self._timed("value", frame, feature, alpha)
        if mask is not None or number % INTERVAL == 0:
            keep = torch.tensor(0.0 if mask is not None else 1.0)
            out = self._timed("memorize", value, self.sensory, alpha_16, self.object_memory, keep)
            self.sensory, self.object_memory = out
            slot = 0 if self.stored == 0 else 1 + (self.stored - 1) % (SLOTS - 1)
            rows = slice(slot * self.tokens, (slot + 1) * self.tokens)
            self.bank_keys[rows] = key_rows
            self.bank_values[rows] = value_rows
            self.stored += 1
        self.last = {"last_alpha": alpha_16, "last_feature": feature, "last_value": value}
        return alpha


def network(config: Config) -> MatAnyone:
    """With the weights made by rule, ready for inference."""
    net = MatAnyone(config).eval().requires_grad_(False)
    state = {k: torch.from_numpy(rule.tensor(k, v.shape)) for k, v in net.state_dict().items()}
    load_checkpoint(net, state)
    return net.to(memory_format=torch.channels_last)


def pictures(width: int, height: int, count: int) -> tuple[list[Tensor], Tensor]:
    """A textured ellipse that sways before a textured wall, and the mask of the first picture."""
    y, x = torch.meshgrid(torch.arange(height) / height, torch.arange(width) / width, indexing="ij")
    noise = torch.randint(0, 24, (height, width, 3), generator=torch.Generator().manual_seed(1))
    frames, first = [], None
    for i in range(count):
        sway = 0.03 * torch.sin(torch.tensor(2 * torch.pi * i / count))
        inside = ((x - 0.5 - sway) / 0.2) ** 2 + ((y - 0.6) / 0.45) ** 2 < 1
        first = inside if first is None else first
        frames.append((noise + torch.where(inside, 150, 60)[..., None]).to(torch.uint8)[None])
    return frames, first.float()[None, None]


def quantile(times: list[float], at: float) -> float:
    """Of unsorted times; the nearest rank."""
    return sorted(times)[round((len(times) - 1) * at)]


def measure(size: tuple[int, int], args: argparse.Namespace) -> dict:
    """One run of a report."""
    width, height = args.working_size or size
    if width % 16 or height % 16:
        raise SystemExit(f"working size {width}x{height}: both must be multiples of 16")
    config = Config(top_k=None)
    net = network(config)
    graphs: Graphs = {name: getattr(net, name) for name in ("matte", "value", "memorize")}
    if args.compile:
        graphs = {name: torch.compile(graph) for name, graph in graphs.items()}
    frames, mask = pictures(width, height, 24)
    loop = Loop(graphs, config, width, height)
    whole = []
    with torch.inference_mode():
        loop.step(frames[0], 0, mask)
        for number in range(1, 1 + WARM_UP):
            loop.step(frames[number], number)
        loop.milliseconds.clear()
        begin = time.perf_counter()
        for number in range(args.frames):
            start = time.perf_counter()
            loop.step(frames[number % len(frames)], number)
            whole.append((time.perf_counter() - start) * 1e3)
            if time.perf_counter() - begin > args.seconds and len(whole) >= AT_LEAST:
                break

    def quantiles(times: list[float]) -> dict:
        return {"p50": quantile(times, 0.5), "p95": quantile(times, 0.95), "p99": quantile(times, 0.99)}

    mode = "torch.compile" if args.compile else "eager"
    return {
        "backend": f"PyTorch {torch.__version__}, {mode}, channels last, {torch.get_num_threads()} threads",
        "model": args.model,
        "frame_size": size,
        "working_size": [width, height],
        "frames": len(whole),
        "latency": quantiles(loop.milliseconds["matte"]),
        "whole": quantiles(whole),
        "stages": [{"stage": k, "runs": len(v), **quantiles(v)} for k, v in loop.milliseconds.items()],
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
    args = parser.parse_args(arguments)
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    runs = [measure(s, args) for s in args.size or [(1280, 720)]]
    json.dump({"command": " ".join(sys.argv), "runs": runs}, sys.stdout, indent=2)


if __name__ == "__main__":
    main()
