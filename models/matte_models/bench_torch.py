"""What PyTorch needs for MatAnyone 2, as a second side of ``matte bench``.

    matte bench --model matanyone2 --rule-weights --size 1280x720 --working-size 512x288 \\
        --against-program models/torch-bench --against --compile

runs both in turn. It takes the options of ``matte bench`` that matter here, and prints the parts of its report that a
comparison reads. The network is the definition that the reference traces are replayed with, with the weights made by
rule, channels last where that works. Only the three graphs are timed: pictures are at the working size already, and
nothing is drawn. On a GPU the bytes of a picture go up and its alpha comes down; all else stays there.

Alone it measures several ways of running in one process:

    models/torch-bench bench --backend cuda --model matanyone2-fp16 --size 1280x720 \\
        --modes eager,graphs,default,reduce-overhead --peak

``eager``; ``graphs``, which is eager mode recorded in CUDA graphs; and the modes of ``torch.compile``. With
``-contiguous`` behind it a mode runs without channels last. What fails is said, and the rest goes on.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from matte_models import manifest
from matte_models.config import Config
from matte_models.driver import TorchDriver
from matte_models.network import blocks, matanyone, read
from matte_models.network.matanyone import MatAnyone, load_checkpoint, rule_state

GRAPHS = ("matte", "value", "memorize")
COMPILED = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")
CONTIGUOUS = "-contiguous"
AT_LEAST = 10
PROFILED = 10
COMPARED = 4
"""Frame of the warm-up whose alpha is compared with that of the first run of its size."""
BEGIN = time.perf_counter()


def say(text: str) -> None:
    """What is going on, and since when; nobody waits in the dark for a compiler."""
    print(f"[{time.perf_counter() - BEGIN:6.1f} s] {text}", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Mode:
    """A way to run the network."""

    name: str
    layout: torch.memory_format

    @classmethod
    def parse(cls, text: str) -> Mode:
        """``eager``, ``graphs`` or a mode of ``torch.compile``."""
        name = text.removesuffix(CONTIGUOUS)
        if name not in ("eager", "graphs", *COMPILED):
            raise argparse.ArgumentTypeError(f"there is no mode {text}")
        return cls(name, torch.channels_last if name == text else torch.contiguous_format)

    @property
    def compiled(self) -> bool:
        return self.name in COMPILED

    @property
    def cuda_graphs(self) -> bool:
        """Outputs lie in memory that the next run writes to."""
        return self.name in ("graphs", "reduce-overhead", "max-autotune")

    @property
    def warm_up(self) -> int:
        """Frames; each CUDA graph runs plainly, is recorded, is replayed, and one of them only in every fifth frame."""
        return 5 if self.name == "eager" else 25

    def __str__(self) -> str:
        words = {"eager": "eager", "graphs": "eager in CUDA graphs", "default": "torch.compile"}
        layout = ", channels last" if self.layout == torch.channels_last else ""
        return words.get(self.name, f"torch.compile {self.name}") + layout


class Image(nn.Module):
    """``image_from_frame`` with its constants on the device: a constant that is sent there for each frame makes the
    device wait, and keeps the compiler from CUDA graphs.
    """

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor([1.0 / (255.0 * s) for s in blocks.STD]).view(1, 3, 1, 1))
        offset = [-m / s for m, s in zip(blocks.MEAN, blocks.STD, strict=True)]
        self.register_buffer("offset", torch.tensor(offset).view(1, 3, 1, 1))

    def forward(self, frame: Tensor) -> Tensor:
        return frame.to(torch.float32).permute(0, 3, 1, 2) * self.scale + self.offset


class Positions(nn.Module):
    """A position encoding for one size: computed once, as runtimes with fixed sizes and the published code do."""

    def __init__(self, encoding: blocks.PositionEncoding2D, h: int, w: int) -> None:
        super().__init__()
        self.register_buffer("waves", encoding(torch.empty(1, 1, h, w)))

    def forward(self, like: Tensor) -> Tensor:
        return self.waves


class Exact(nn.Module):
    """A part that autocast leaves in float32."""

    def __init__(self, part: Callable[..., Tensor], device: str) -> None:
        super().__init__()
        self.part = part
        self.device = device

    def forward(self, *inputs: Tensor | None) -> Tensor:
        inputs = [x.float() if isinstance(x, Tensor) else x for x in inputs]
        with torch.autocast(self.device, enabled=False):
            return self.part(*inputs)


def network(size: tuple[int, int], layout: torch.memory_format, half: bool, whole: bool = False) -> MatAnyone:
    """With the weights made by rule and the whole softmax, ready for inference at ``size``, height and width."""
    net = MatAnyone(Config(top_k=None)).eval().requires_grad_(False)
    load_checkpoint(net, rule_state())
    h, w = size[0] // 16, size[1] // 16
    net.object_transformer.spatial_pe = Positions(net.object_transformer.spatial_pe, h, w)
    net.object_summarizer.pos_enc = Positions(net.object_summarizer.pos_enc, h, w)
    if whole:
        # The compiler cuts a graph in two where zip() leaves out the last of these, which is not used.
        net.object_transformer.mask_pred = net.object_transformer.mask_pred[:-1]
    if half:
        net.half_()
    return net.to(memory_format=layout)


@contextmanager
def running(net: MatAnyone, device: torch.device, mode: Mode, autocast: bool) -> Iterator[None]:
    """The definition, fitted to the device, and the context that frames run in.

    With ``autocast`` stay float32 what the published scripts take out of it: the similarity, both recurrent updates and
    the summaries.
    """
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad() if mode.cuda_graphs or mode.compiled else torch.inference_mode())
        stack.enter_context(mock.patch.object(matanyone, "image_from_frame", Image().to(device)))
        if autocast:
            exact = Exact(read.affinity, device.type)
            stack.enter_context(mock.patch.object(read, "affinity", exact))
            for owner, name in (
                (net.mask_decoder.sensory_update, "transform"),
                (net.mask_encoder.sensory_update, "transform"),
                (net, "object_summarizer"),
            ):
                setattr(owner, name, Exact(getattr(owner, name), device.type))
            stack.enter_context(torch.autocast(device.type, torch.float16))
        yield


def recorded(method: Callable, stable: dict[int, Tensor]) -> Callable:
    """A graph, recorded as a CUDA graph when it first runs.

    ``stable`` are tensors, by identity, that stay where they are; outputs are added, other inputs are copied.
    """
    graph = torch.cuda.CUDAGraph()
    inputs: dict[str, Tensor] = {}
    out = None

    def call(**given: Tensor) -> tuple:
        nonlocal out
        if out is None:
            inputs.update({k: v if id(v) in stable else v.clone() for k, v in given.items()})
            aside = torch.cuda.Stream()
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):
                # cuDNN and cuBLAS choose their kernels and reserve memory.
                for _ in range(3):
                    method(**inputs)
            torch.cuda.current_stream().wait_stream(aside)
            with torch.cuda.graph(graph):
                out = method(**inputs)
            stable.update({id(v): v for v in out})
        for name, x in given.items():
            if x is not inputs[name]:
                inputs[name].copy_(x)
        graph.replay()
        return out

    return call


class Clock:
    """Milliseconds of every run of a graph; on a GPU by its own clock, from the first kernel to the last."""

    def __init__(self, device: torch.device) -> None:
        self.milliseconds: defaultdict[str, list[float]] = defaultdict(list)
        self.events: dict[str, tuple] = {}
        self.pending: list[str] = []
        self.cuda = device.type == "cuda"

    def graph(self, name: str, method: Callable) -> Callable[..., dict[str, Tensor]]:
        """The same graph, timed, as a driver wants it."""
        if self.cuda:
            self.events[name] = tuple(torch.cuda.Event(enable_timing=True) for _ in range(2))

        def call(**inputs: Tensor) -> dict[str, Tensor]:
            if self.cuda:
                self.events[name][0].record()
                out = method(**inputs)
                self.events[name][1].record()
                self.pending.append(name)
            else:
                start = time.perf_counter()
                out = method(**inputs)
                self.milliseconds[name].append((time.perf_counter() - start) * 1e3)
            return out._asdict()

        return call

    def collect(self) -> None:
        """Once a frame, when the device has finished it."""
        for name in self.pending:
            start, end = self.events[name]
            self.milliseconds[name].append(start.elapsed_time(end))
        self.pending.clear()


class Stream:
    """A network at work on one video."""

    def __init__(
        self, net: MatAnyone, size: tuple[int, int], device: torch.device, mode: Mode, features: torch.dtype
    ) -> None:
        self.device = device
        self.mode = mode
        self.clock = Clock(device)
        methods = {name: getattr(net, name) for name in GRAPHS}
        self.driver = TorchDriver(
            {}, size, dtype=features, device=device, layout=mode.layout, own=mode.cuda_graphs or mode.compiled
        )
        buffers = [self.driver.frame, *(getattr(self.driver, name) for name in TorchDriver.STATE)]
        if mode.name == "graphs":
            stable = {id(x): x for x in buffers}
            methods = {name: recorded(method, stable) for name, method in methods.items()}
        elif mode.compiled:
            if mode.cuda_graphs:
                for x in buffers:
                    torch._dynamo.mark_static_address(x)
            how = None if mode.name == "default" else mode.name
            methods = {name: torch.compile(m, mode=how, dynamic=False) for name, m in methods.items()}
            value = methods["value"]
            # A mask's alpha has other strides in the dimension of its one channel than the network's, and another type
            # than under autocast: the compiler would make code for either.
            methods["value"] = lambda alpha, **more: value(alpha=alpha.float().reshape(-1).view(alpha.shape), **more)
        self.driver.graphs = {name: self.clock.graph(name, method) for name, method in methods.items()}

    def step(self, frame: Tensor, **how: object) -> Tensor:
        """One frame; what it was before is no longer needed."""
        if self.mode.compiled and self.mode.cuda_graphs:
            torch.compiler.cudagraph_mark_step_begin()
        return self.driver.step(frame, **how)

    def finish(self) -> None:
        """Waits for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        self.clock.collect()


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


def quantiles(times: list[float]) -> dict[str, float]:
    """As ``matte bench`` gives them."""
    return {"p50": quantile(times, 0.5), "p95": quantile(times, 0.95), "p99": quantile(times, 0.99)}


def kernel_times(events: Iterable[Mapping], frames: int) -> dict:
    """What a trace of the profiler says about the device, for a frame: milliseconds in kernels and in copies."""
    kernels: Counter[str] = Counter()
    copies = count = 0
    for event in events:
        if event.get("cat") == "kernel":
            kernels[event["name"]] += event["dur"]
            count += 1
        elif event.get("cat") in ("gpu_memcpy", "gpu_memset"):
            copies += event["dur"]
    if not count:
        raise RuntimeError("the profiler saw no kernel")
    scale = 1e-3 / frames
    dearest = [{"kernel": name[:120], "ms": total * scale} for name, total in kernels.most_common(12)]
    return {
        "kernels_ms": sum(kernels.values()) * scale,
        "copies_ms": copies * scale,
        "kernels": count / frames,
        "dearest": dearest,
    }


def profiled(run: Callable[[int], None]) -> dict:
    """``run(frames)`` under the profiler. Without a profile the measurement still counts."""
    try:
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
            run(PROFILED)
        with tempfile.TemporaryDirectory() as folder:
            trace = Path(folder, "trace.json")
            profile.export_chrome_trace(str(trace))
            return kernel_times(json.loads(trace.read_text(), strict=False)["traceEvents"], PROFILED)
    except Exception as error:
        say(f"no profile: {reason(error)}")
        return {"kernels_ms": None, "no_profile": reason(error)}


def reason(error: Exception) -> str:
    """The first lines of an error; compilers append their whole story."""
    return f"{type(error).__name__}: {str(error).strip()[:600]}"


def measure(size: tuple[int, int], mode: Mode, args: argparse.Namespace) -> dict:
    """One run of a report."""
    width, height = args.working_size or size
    device = args.device
    cuda = device.type == "cuda"
    half = args.model.endswith("-fp16")
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    begin = time.perf_counter()
    # In one piece what the compiler of PyTorch 2.7.1 makes of `matte` for a CPU writes where it must not, and dies.
    net = network((height, width), mode.layout, half, whole=cuda and not args.split).to(device)
    frames, mask = pictures(width, height, 24)
    frames = [torch.from_numpy(f).pin_memory() if cuda else torch.from_numpy(f) for f in frames]
    with running(net, device, mode, args.autocast):
        stream = Stream(net, (height, width), device, mode, torch.float16 if half or args.autocast else torch.float32)
        driver, clock = stream.driver, stream.clock
        stream.step(frames[0], mask=mask)
        stream.step(frames[0], first=True)
        stream.finish()
        start = time.perf_counter() - begin
        say(f"{width}x{height}, {mode}: the first two frames were there after {start:.1f} s")
        for number in range(mode.warm_up):
            alpha = stream.step(frames[number % len(frames)])
            if number == COMPARED:
                stream.finish()
                alpha = alpha.clone()
                first = args.alphas.setdefault((width, height), alpha)
                error = (alpha - first).abs()
                errors = {"max_error": error.max().item(), "mean_error": error.mean().item()}
                check = {"mean": alpha.mean().item(), **errors}
        stream.finish()
        say(f"{width}x{height}, {mode}: warm")

        def timed(seconds: float, at_least: int) -> tuple[list[float], list[float]]:
            latency, whole = [], []
            until = time.perf_counter() + seconds
            for number in range(max(args.frames, 1)):
                start = time.perf_counter()
                stream.step(frames[number % len(frames)])
                stream.finish()
                end = time.perf_counter()
                latency.append((driver.delivered - start) * 1e3)
                whole.append((end - start) * 1e3)
                if end > until and len(whole) >= at_least:
                    break
            return latency, whole

        clock.milliseconds.clear()
        if cuda:
            torch.cuda.reset_peak_memory_stats()
        latency, whole = timed(args.seconds, AT_LEAST)
        stages = [
            {"stage": name, "runs": len(times), **quantiles(times)}
            for name in GRAPHS
            if (times := clock.milliseconds.get(name))
        ]
        more = {}
        if cuda:
            driver.wait = False
            more["queued"] = quantiles(timed(args.seconds / 3, AT_LEAST)[1])
            driver.wait = True
            more["memory_mb"] = {
                "allocated": torch.cuda.max_memory_allocated() / 2**20,
                "reserved": torch.cuda.max_memory_reserved() / 2**20,
            }

            def play(count: int) -> None:
                for number in range(count):
                    stream.step(frames[number])
                stream.finish()

            more |= profiled(play)
    if mode.compiled:
        counters = torch._dynamo.utils.counters
        more["compiler"] = {
            "graphs": counters["stats"]["unique_graphs"],
            "graph_breaks": sum(counters["graph_break"].values()),
            "cudagraph_skips": counters["inductor"]["cudagraph_skips"],
        }
    kind = "float16" if half else "float32"
    if args.autocast:
        kind += " under autocast to float16"
    if cuda:
        tf32 = ", TF32" if args.tf32 else ""
        backend = f"PyTorch {torch.__version__}, {mode}, {kind}{tf32}, {torch.cuda.get_device_name(device)}"
    else:
        backend = f"PyTorch {torch.__version__}, {mode}, {torch.get_num_threads()} threads"
    return {
        "backend": backend,
        "model": args.model,
        "mode": mode.name,
        "channels_last": mode.layout == torch.channels_last,
        "precision": kind,
        "frame_size": size,
        "working_size": [width, height],
        "frames": len(whole),
        "start": start * 1e3,
        "latency": quantiles(latency),
        "whole": quantiles(whole),
        "stages": stages,
        "alpha": check,
        **more,
    }


def attempts(size: tuple[int, int], mode: Mode, args: argparse.Namespace) -> tuple[dict | None, list[dict]]:
    """A run, if it succeeds, and what failed. What cannot be compiled in channels last is compiled without."""
    failed = []
    retry = [replace(mode, layout=torch.contiguous_format)] if mode.compiled else []
    for attempt in dict.fromkeys([mode, *retry]):
        try:
            run = measure(size, attempt, args)
        except Exception as error:
            text = reason(error)
            failed.append({"frame_size": size, "mode": str(attempt), "reason": text})
            say(f"{size[0]}x{size[1]}, {attempt} FAILED: {text}")
        else:
            say(json.dumps({k: v for k, v in run.items() if k != "dearest"}))
            return run, failed
        finally:
            gc.collect()
            if args.device.type == "cuda":
                torch.cuda.empty_cache()
    return None, failed


def peak(device: torch.device) -> dict:
    """What the device can do at most: matrix products of 8192³ and copies; medians of ten."""

    def seconds(run: Callable[[], object]) -> float:
        times = []
        for _ in range(13):
            torch.cuda.synchronize()
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            run()
            end.record()
            end.synchronize()
            times.append(start.elapsed_time(end) * 1e-3)
        return median(times[3:])

    out = {}
    size = 8192
    for dtype, name in ((torch.float16, "float16"), (torch.float32, "float32")):
        a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        c = torch.empty_like(a)
        out[f"matmul_{name}_tflops"] = 2 * size**3 / seconds(lambda a=a, b=b, c=c: torch.mm(a, b, out=c)) * 1e-12
    source = torch.zeros(2**30, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    # A byte that is copied is read and written.
    out["copy_gb_s"] = 2 * source.numel() / seconds(lambda: target.copy_(source)) * 1e-9
    there, here = source[: 2**26], torch.empty(2**26, dtype=torch.uint8, pin_memory=True)
    out["upload_gb_s"] = here.numel() / seconds(lambda: there.copy_(here, non_blocking=True)) * 1e-9
    out["download_gb_s"] = here.numel() / seconds(lambda: here.copy_(there, non_blocking=True)) * 1e-9
    return out


def options(arguments: list[str] | None) -> argparse.Namespace:
    """The command line, checked."""

    def named(text: str) -> str:
        folder = Path(text)
        return manifest.load(folder)["name"] if (folder / "manifest.json").is_file() else text

    def size(text: str) -> tuple[int, int]:
        width, height = text.lower().split("x")
        return int(width), int(height)

    parser = argparse.ArgumentParser(prog="torch-bench", description=__doc__.split("\n")[0])
    parser.add_argument("command", choices=["bench"])
    parser.add_argument("--model", default="matanyone2", type=named, choices=["matanyone2", "matanyone2-fp16"],
                        help="or the folder of a package of that name")
    parser.add_argument("--rule-weights", action="store_true", help="always so")
    parser.add_argument("--size", type=size, action="append")
    parser.add_argument("--working-size", type=size)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--seconds", type=float, help="for each measurement; 30, on a GPU 3")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument(
        "--compile", nargs="?", const="default", choices=COMPILED, help="torch.compile instead of eager mode"
    )
    parser.add_argument("--modes", help="several in turn: eager, graphs, or those of --compile; also with -contiguous")
    parser.add_argument("--split", action="store_true", help="let the compiler cut `matte` in two; on a CPU always so")
    parser.add_argument("--autocast", action="store_true", help="float32 weights under autocast to float16")
    parser.add_argument("--tf32", action="store_true", help="let products of float32 be rounded to TF32")
    parser.add_argument("--peak", action="store_true", help="measure what the GPU can do at most, too")
    parser.add_argument("--backend", default="cpu", help="cuda and tensorrt: the GPU; others: the CPU")
    parser.add_argument("--json", action="store_true", help="always so")
    parser.add_argument("--no-memory", action="store_true", help="always so")
    # The other side's, which is passed on to both.
    parser.add_argument("--precision", help="not used: the model's")
    args = parser.parse_args(arguments)
    args.device = torch.device("cuda" if args.backend in ("cuda", "tensorrt") else "cpu")
    cuda = args.device.type == "cuda"
    if cuda and not torch.cuda.is_available():
        parser.error(f"--backend {args.backend}: this PyTorch ({torch.__version__}) finds no GPU")
    try:
        args.modes = [Mode.parse(m) for m in (args.modes or args.compile or "eager").split(",")]
    except argparse.ArgumentTypeError as error:
        parser.error(str(error))
    if not cuda:
        if args.model.endswith("-fp16") or args.autocast or args.peak:
            parser.error("half precision and --peak are for --backend cuda")
        if any(m.name == "graphs" for m in args.modes):
            parser.error("CUDA graphs are for --backend cuda")
        # In channels last what the compiler of PyTorch 2.7.1 makes of `matte` for a CPU stops: it expects other strides
        # of a key.
        args.modes = [replace(m, layout=torch.contiguous_format) if m.compiled else m for m in args.modes]
    if args.autocast and args.model.endswith("-fp16"):
        parser.error("--autocast is for float32 weights: --model matanyone2")
    if args.seconds is None:
        args.seconds = 3.0 if cuda else 30.0
    args.size = args.size or [(1280, 720)]
    args.alphas = {}
    for width, height in [args.working_size] if args.working_size else args.size:
        if width % 16 or height % 16:
            parser.error(f"working size {width}x{height}: both must be multiples of 16")
    return args


def main(arguments: list[str] | None = None) -> int:
    """Reads the command line of ``matte bench`` and prints a report in JSON."""
    args = options(arguments)
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    report: dict = {"command": " ".join(sys.argv)}
    if args.device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = args.tf32
        torch.backends.cudnn.allow_tf32 = args.tf32
        # Sizes are fixed: cuDNN may try its kernels.
        torch.backends.cudnn.benchmark = True
        say(f"PyTorch {torch.__version__} on {torch.cuda.get_device_name(args.device)}")
        if args.peak:
            report["peak"] = peak(args.device)
            torch.cuda.empty_cache()
            say(json.dumps(report["peak"]))
    runs, failed = [], []
    for size in args.size:
        for mode in args.modes:
            run, failures = attempts(size, mode, args)
            runs += [run] if run else []
            failed += failures
    json.dump({**report, "runs": runs, "failed": failed}, sys.stdout, indent=2)
    print(flush=True)
    return 0 if runs else 1


if __name__ == "__main__":
    sys.exit(main())
