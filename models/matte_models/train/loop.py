"""The training loop: clips through the network exactly as the engine drives it.

On CPUs several workers draw their own samples and average their gradients. On a GPU one process trains, on samples that
others draw (`producers.py`, `pool.py`), and nothing in a step waits for the device.

The given mask of the first frame becomes its alpha (value, permanent slot), a first-frame prediction refines it and takes
its place, then each further frame reads the bank. The alpha that is fed back is detached: gradients through it explode.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from ..network.blocks import down
from ..network.lite import Features, Lite, fold, load_lite, read
from .data import SEGMENTER, STRIDE, read_folder
from .losses import laplacian, pull, temporal
from .pool import Clips, Pool, to_device
from .producers import Layout, Producers, Recipe

# The parts of the network that `--compile` compiles: nearly all of its operations.
COMPILED = ("encode", "decode", "value")
# Steps between lines of the log; checkpoints and validations come with one.
LOG_EVERY = 50


def to_image(frames: Tensor) -> Tensor:
    """`[B, T, 3, H, W]` bytes to what `Lite.encode` takes, the batch being T·B: the frames of one moment lie together."""
    return (frames.transpose(0, 1).flatten(0, 1).float() / 255).contiguous(memory_format=torch.channels_last)


def run_clip(net: Lite, frames: Tensor, mask: Tensor, prior: Tensor, interval: int, slots: int = 4,
             faults: random.Random | None = None, later: Tensor | None = None,
             tokens: Tensor | None = None) -> Tensor:
    """Unclamped alphas `[B, T, 1, H, W]` of a batch of clips. `slots` temporary frames, one stored every `interval`.

    With `faults`, what is fed back after the first frame is damaged now and then: parts of the alpha lost or added. The
    truth is not, so the network learns to find the subject again through the bank.

    Of crops `tokens`, `[B]`, is the area of the whole frame, in tokens.

    With `later`, the true alpha `[B, 1, H, W]` of the second frame, that frame is not predicted: its alpha is given (and
    damaged), as if everything between the first frame and it had been followed. The result then has no second frame.
    """
    b, t = frames.shape[:2]
    every = net.encode(to_image(frames))
    # Squares of keys cancel each other, so the read stays in `float32`.
    exact = partial(torch.autocast, frames.device.type, enabled=False)
    with exact():
        stored, sought = (x.split(b) for x in net.rows(every.f16.float(), None if tokens is None else tokens.repeat(t)))
    per_frame = [Features(*parts) for parts in zip(*(f.split(b) for f in every))]
    out = []

    # The mask step and the first-frame prediction.
    features = per_frame[0]
    value = net.value(features.f16, mask)
    # Cast before they are joined, as the convolution behind would. A copy, since compiled code is made anew where two inputs
    # are one tensor.
    raw = net.decode(features, value.clone(), value, down(mask, STRIDE).to(value.dtype), prior[:, 0].to(value.dtype))
    out.append(raw)
    keys: list[Tensor] = []
    values: list[Tensor] = []
    for i in range(1, t + 1):
        given = later is not None and i == 2
        alpha = later if given else out[-1].detach().clamp(0, 1).float()
        if faults and i > 1:
            alpha = damage(alpha, faults)
        value = net.value(features.f16, alpha)
        if (i - 1) % interval == 0:
            keys.append(stored[i - 1])
            values.append(value.float().flatten(2).transpose(1, 2))
            if len(keys) > 1 + slots:
                del keys[1], values[1]
        if i == t:
            break
        features = per_frame[i]
        if later is not None and i == 1:
            continue
        with exact():
            seen = read(sought[i], torch.cat(keys, 1), torch.cat(values, 1), features.f16)
        out.append(net.decode(features, seen.to(value.dtype), value, down(alpha, STRIDE).to(value.dtype),
                              prior[:, i].to(value.dtype)))
    return torch.stack(out, 1)


def damage(alpha: Tensor, faults: random.Random, rate: float = 0.4) -> Tensor:
    """Some alphas damaged as tracking errors do it. Takes and gives `[B, 1, H, W]`, `float32`.

    Half of the faults are a rectangle emptied, filled or halved; the others are slow erosion and haze: the alpha pulled
    towards 0 or 1 by a smooth random field. Left alone, erosion feeds on itself and eats holes within a hundred frames.

    Either is a pull towards a number, with a weight for every pixel. All pictures are damaged at once, from one small table
    that is drawn on the CPU.
    """
    height, width = alpha.shape[-2:]
    table = to_device(torch.tensor([_fault(faults, rate, height, width) for _ in alpha]), alpha.device)
    towards, strength, top, bottom, left, right = table[:, :6].reshape(-1, 6, 1, 1, 1).unbind(1)
    field = F.interpolate(table[:, 6:].reshape(-1, 1, 5, 5), (height, width), mode="bicubic").clamp(0, 1)
    y = torch.arange(height, device=alpha.device).reshape(-1, 1)
    x = torch.arange(width, device=alpha.device)
    inside = ((y >= top) & (y < bottom)) & ((x >= left) & (x < right))
    return torch.lerp(alpha, towards, torch.where(inside, strength, field))


def _fault(faults: random.Random, rate: float, height: int, width: int) -> list[float]:
    """What one picture is pulled towards; how strongly in a rectangle, and its top, bottom, left and right; and 5×5 weights
    of a smooth field for the rest of the picture. Mostly nothing is pulled at all."""
    nowhere, nothing = [0.0] * 5, [0.0] * 25
    if faults.random() >= rate:
        return [0.0, *nowhere, *nothing]
    if faults.random() < 0.5:
        coarse = [faults.random() ** 2 for _ in range(25)]
        strength = faults.uniform(0.1, 0.9)
        return [0.0 if faults.random() < 0.7 else 1.0, *nowhere, *(strength * c for c in coarse)]
    h, w = faults.randint(16, height // 2), faults.randint(16, width // 2)
    y, x = faults.randint(-h // 2, height - h // 2), faults.randint(-w // 2, width - w // 2)
    kind = faults.random()
    return [1.0 if 0.6 <= kind < 0.8 else 0.0, 1.0 if kind < 0.8 else 0.5, y, y + h, x, x + w, *nothing]


def near_edges(alpha: Tensor) -> Tensor:
    """1 within 4 to 8 pixels of partial alpha, 0 elsewhere: edges are few, so they are made to count more."""
    partial = ((alpha > 0.02) & (alpha < 0.98)).float().flatten(0, 1)
    coarse = F.max_pool2d(F.max_pool2d(partial, 4), 3, 1, 1)
    return F.interpolate(coarse, scale_factor=4.0, mode="nearest").view_as(alpha)


def loss_of(raw: Tensor, alpha: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss, and its parts for the log, as tensors: to read them is to wait for the device."""
    clamped = raw.clamp(0, 1)
    l1 = (pull(raw, alpha) * (1 + 3 * near_edges(alpha))).mean()
    lap = laplacian(clamped, alpha)
    tmp = temporal(clamped, alpha)
    mad = (clamped - alpha).abs().mean()
    return l1 + 2 * lap + 2 * tmp, {name: x.detach() for name, x in (("l1", l1), ("lap", lap), ("tmp", tmp), ("mad", mad))}


@torch.no_grad()
def validate(net: Lite, folder: Path, count: int = 12) -> dict[str, float]:
    """MAD and dtSSD (× 1e3, × 1e2) of whole held-out clips, with no prior."""
    frames, prior = read_folder(folder)
    device = next(net.parameters()).device
    # A GPU takes some clips at a time. Their size is seen too rarely to be worth a search for the fastest convolutions.
    together = 4 if device.type == "cuda" else 1
    searching, torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark, False
    net.eval()
    mads, dts = [], []
    count = min(count, len(frames))
    for i in range(0, count, together):
        clip = torch.from_numpy(frames[i : min(i + together, count)].copy()).to(device)
        alpha = clip[..., 3].unsqueeze(2).float() / 255
        rgb = clip[..., :3].permute(0, 1, 4, 2, 3)
        mask = (clip[:, 0, None, ..., 3] >= 50).float()
        absent = alpha.new_full((*rgb.shape[:2], 1, *prior.shape[-2:]), -1.0)
        got = run_clip(net, rgb, mask, absent, 5).clamp(0, 1)
        mads += ((got - alpha).abs().mean((1, 2, 3, 4)) * 1e3).tolist()
        d = (got[:, 1:] - got[:, :-1]) - (alpha[:, 1:] - alpha[:, :-1])
        dts += (d.square().mean((2, 3, 4)).sqrt().mean(1) * 1e2).tolist()
    net.train()
    torch.backends.cudnn.benchmark = searching
    return {"mad": float(np.mean(mads)), "dtssd": float(np.mean(dts))}


def main() -> None:
    parser = argparse.ArgumentParser(description="Train lite.")
    parser.add_argument("folders", type=Path, nargs="+", help="clips for training, from matte_models.train.data")
    parser.add_argument("--out", type=Path, required=True, help="folder of checkpoints and log")
    parser.add_argument("--shared", type=Path, default=os.environ.get("MATTE_SHARED"),
                        help="folder with models/, for the hint of clips in layers (default: $MATTE_SHARED)")
    parser.add_argument("--held-out", type=Path, help="clips for validation")
    parser.add_argument("--init", type=Path, help="checkpoint to go on from, or a package (with --restart)")
    parser.add_argument("--restart", action="store_true", help="take only the (averaged) weights of --init")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--steps", type=int, help="how many, at most (default: 4000; with --decay-share no limit)")
    parser.add_argument("--minutes", type=float, default=1e9, help="stop when these have passed since the first step")
    parser.add_argument("--decay", type=int, default=0, help="the last steps, in which the rate falls to a hundredth")
    parser.add_argument("--decay-share", type=float, default=0.0,
                        help="or the last share of --minutes in which it does, however many steps that are")
    parser.add_argument("--fold", action="store_true", help="fold BatchNorm into the convolutions and go on without it")
    parser.add_argument("--ahead", type=float, default=0.5, help="share of batches that leap ahead after the first frame")
    parser.add_argument("--prior-rate", type=float, default=0.5, help="share of samples that have the hint `prior`")
    parser.add_argument("--seed-rate", type=float, default=0.3,
                        help="share of the samples with a hint in which the segmentation gives the first mask, where it can")
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--frames", type=int, default=3)
    parser.add_argument("--height", type=int, default=192)
    parser.add_argument("--width", type=int, default=192)
    parser.add_argument("--rate", type=float, default=4e-4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1, help="of each worker")
    parser.add_argument("--workers", type=int, help="processes that train (default: 2 on CPUs; a GPU has one)")
    parser.add_argument("--producers", type=int,
                        help="processes that draw samples into a pool (default: none on CPUs, whose workers draw their own; "
                             "for a GPU one less than there are cores)")
    parser.add_argument("--pool", type=int, default=3072, help="samples in the pool, of each of the two kinds")
    parser.add_argument("--bf16", action="store_true", help="convolutions in bfloat16: faster on GPUs, and CPUs with AMX")
    parser.add_argument("--compile", action="store_true", help="compile the network and the loss: minutes, then faster steps")
    parser.add_argument("--average", type=float, default=0.998, help="share of the averaged weights that a step leaves")
    parser.add_argument("--save-every", type=int, default=200, help="steps between checkpoints: a multiple of 50")
    parser.add_argument("--validate-every", type=float,
                        help="minutes between validations (default: twice --save-every steps)")
    args = parser.parse_args()
    _complete(parser, args)

    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "workers").unlink(missing_ok=True)
    if args.workers > 1:
        torch.multiprocessing.start_processes(train, (args,), args.workers, start_method="spawn")
    else:
        train(0, args)


def _complete(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Fills in what depends on the device, and refuses what does not go together."""
    cuda = args.device == "cuda"
    if args.workers is None:
        args.workers = 1 if cuda or args.producers else 2
    if args.producers is None:
        args.producers = max(1, len(os.sched_getaffinity(0)) - 1) if cuda else 0
    if args.steps is None:
        args.steps = 10**9 if args.decay_share else 4000
    if cuda and not torch.cuda.is_available():
        parser.error("--device cuda: PyTorch sees no GPU here")
    if cuda and args.workers > 1:
        parser.error("--workers: one process trains on a GPU (--producers draw samples for it)")
    if args.producers and args.workers > 1:
        parser.error("--producers need --workers 1")
    if args.producers and args.pool < 4 * args.clips:
        parser.error(f"--pool {args.pool}: it must hold four batches, {4 * args.clips} samples")
    if not 0 <= args.decay_share <= 1:
        parser.error(f"--decay-share {args.decay_share}: it must be 0 to 1")
    if args.decay_share and (args.decay or args.workers > 1 or args.minutes >= 1e9):
        parser.error("--decay-share needs --minutes and one worker, and no --decay")
    if args.save_every % LOG_EVERY:
        parser.error(f"--save-every {args.save_every}: it must be a multiple of {LOG_EVERY}")
    if args.prior_rate > 0 and not args.shared and any((folder / "scene.u8").is_file() for folder in args.folders):
        parser.error("clips in layers have no hint without --shared or MATTE_SHARED; --prior-rate 0 trains without")
    for name in ("height", "width"):
        if getattr(args, name) % STRIDE:
            parser.error(f"--{name} {getattr(args, name)}: it must be a multiple of {STRIDE}")


def decayed(passed: float, whole: float, share: float) -> float:
    """1, which falls exponentially to a hundredth over the last `share` of `whole`."""
    if share <= 0:
        return 1.0
    return 0.01 ** min(1.0, max(0.0, 1 - (whole - passed) / (share * whole)))


class Skipping:
    """Steps of an optimiser, but for those whose gradients are not finite. A fused one learns of these without waiting."""

    def __init__(self, optimiser: torch.optim.Optimizer):
        self.optimiser = optimiser

    def step(self, norm: Tensor) -> None:
        if self.optimiser.param_groups[0].get("fused"):
            # Where `GradScaler` puts it: the kernel leaves everything as it is if this is not 0.
            self.optimiser.grad_scale, self.optimiser.found_inf = None, (~norm.isfinite()).float()
            self.optimiser.step()
        elif torch.isfinite(norm):
            self.optimiser.step()


def forward(net: Lite, clips: Clips, ahead: bool, pick: random.Random, bf16: bool,
            loss: Callable[[Tensor, Tensor], tuple[Tensor, dict[str, Tensor]]]) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of a batch, and its parts."""
    later = clips.alpha[:, 1] if ahead else None
    # Convolutions and products in bfloat16, on processors that have it: half the time, the same direction.
    with torch.autocast(clips.frames.device.type, torch.bfloat16, enabled=bf16):
        raw = run_clip(net, clips.frames, clips.mask, clips.prior, pick.choice([1, 2, 3, 5]), faults=pick, later=later,
                       tokens=clips.tokens)
    alpha = torch.cat([clips.alpha[:, :1], clips.alpha[:, 2:]], 1) if ahead else clips.alpha
    return loss(raw.float(), alpha)


def train(rank: int, args: argparse.Namespace) -> None:
    """One worker. Workers hold the same weights, draw different clips and average their gradients."""
    if args.workers > 1:
        dist.init_process_group("gloo", f"file://{(args.out / 'workers').resolve()}", rank=rank, world_size=args.workers)
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    device = torch.device(args.device)
    state = _read(args.init) if args.init else None
    if state and "net" not in state and not args.restart:
        raise ValueError(f"{args.init} has averaged weights alone: --init with it needs --restart")
    seed = 1000 * args.seed + 10 * (state["step"] if state else 0) + rank
    segmenter = Path(args.shared) / SEGMENTER if args.shared else None
    recipe = Recipe(args.folders, args.prior_rate, segmenter, args.seed_rate)
    if not args.producers:
        loader = recipe.loader(seed)
        _train(rank, args, device, state, seed, lambda ahead: _drawn(loader, args, ahead, device), loader.refresh, dict)
        return
    layout = Layout(args.frames, args.height, args.width)
    # Before the device is used: they start meanwhile.
    producers = Producers(args.producers, recipe, layout, args.ahead, 1000 * seed)
    try:
        pool = Pool(producers, layout, args.pool, args.ahead, device, seed)

        def batch(ahead: bool) -> Clips:
            pool.take()
            return pool.batch(ahead, args.clips)

        begun = time.time()
        pool.fill(4 * args.clips)
        print(f"{pool.arrived} samples of {layout.bytes / 1e6:.1f} MB after {time.time() - begun:.1f} s", flush=True)
        _train(rank, args, device, state, seed, batch, lambda: None, pool.note)
    finally:
        producers.close()


def _drawn(loader, args: argparse.Namespace, ahead: bool, device: torch.device) -> Clips:
    batch = loader.batch(args.clips, args.frames, args.height, args.width, ahead)
    return Clips(*(torch.from_numpy(x).to(device) for x in
                   (batch.frames, batch.alpha, batch.mask, batch.prior, batch.tokens)))


def _train(rank: int, args: argparse.Namespace, device: torch.device, state: dict | None, seed: int,
           batch: Callable[[bool], Clips], refresh: Callable[[], None], supply: Callable[[], dict]) -> None:
    """`batch` gives the next batch, of either kind, `refresh` looks for new clips, and `supply` notes how samples come."""
    torch.backends.cudnn.benchmark = True  # every step has the same shapes
    torch.backends.cudnn.allow_tf32 = False  # nor do the convolutions that make keys lose any of their digits
    net = load_lite(state["average" if args.restart else "net"]) if state else Lite()
    if args.fold:
        net = fold(net)
    net = net.to(device).to(memory_format=torch.channels_last)
    average = copy.deepcopy(net)
    optimiser = torch.optim.AdamW(net.parameters(), lr=args.rate, betas=(0.9, 0.99), weight_decay=0.01,
                                  fused=True if device.type == "cuda" else None)
    skipping = Skipping(optimiser)
    step = 0
    if state:
        step = state["step"]
        if not args.restart:
            average.load_state_dict(state["average"])
            _resume(optimiser, state["optimiser"])
    first, last = step, step + args.steps
    pick = random.Random(seed)
    net.train()
    average.eval()
    loss_now = loss_of
    if args.compile:
        loss_now = _compile(net, lambda ahead, loss: forward(net, batch(ahead), ahead, pick, args.bf16, loss), args.ahead)
    stopped = _on_sigterm() if args.workers == 1 else []
    over, failure = False, None
    begun, sums, since, validated = time.time(), {}, time.time(), time.time()
    warm = step if args.restart or not args.init else -100
    while step < last and not over and not stopped:
        rate = args.rate * min(1.0, (step - warm + 1) / 100)
        if args.decay and last - step < args.decay:
            rate *= 0.01 ** (1 - (last - step) / args.decay)
        if args.decay_share:
            rate *= decayed((time.time() - begun) / 60, args.minutes, args.decay_share)
        for group in optimiser.param_groups:
            group["lr"] = rate
        # All workers leap together, so that none waits for another.
        ahead = random.Random(f"{args.seed} {step}").random() < args.ahead
        try:
            clips = batch(ahead)
        except RuntimeError as error:  # what has been learnt so far is kept
            failure = error
            break
        loss, parts = forward(net, clips, ahead, pick, args.bf16, loss_now)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        _share([p.grad for p in net.parameters()])
        skipping.step(torch.nn.utils.clip_grad_norm_(net.parameters(), 0.3))  # the same norm on every worker
        step += 1
        # Young averages are short, so that they do not remember where the run began.
        keep = min(args.average, (step - first + 1) / (step - first + 10))
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(net.parameters()), 1 - keep)
            for a, p in zip(average.buffers(), net.buffers()):
                a.copy_(p if not a.is_floating_point() else torch.lerp(a, p, 1 - min(keep, 0.99)))
        for k, v in parts.items():
            sums[k] = sums.get(k, 0.0) + v
        if args.workers == 1:
            over = time.time() - begun > 60 * args.minutes
        elif step % LOG_EVERY == 0:
            if buffers := [b for b in net.buffers() if b.is_floating_point()]:
                _share(buffers)
            if args.minutes < 1e9:
                # Every worker stops at the same step.
                passed = torch.tensor([(time.time() - begun) / 60])
                _share([passed])
                over = passed.item() > args.minutes
        if step % LOG_EVERY == 0 and rank > 0:
            refresh()
        elif step % LOG_EVERY == 0:
            sums = {k: round(v.item() / LOG_EVERY, 5) for k, v in sums.items()}
            note = {"step": step, "minutes": round((time.time() - begun) / 60, 2),
                    "ms": round((time.time() - since) * 1000 / LOG_EVERY, 1), "rate": float(f"{rate:.3g}"), **sums, **supply()}
            sums = {}
            refresh()
            saves = step % args.save_every == 0
            due = saves and step % (2 * args.save_every) == 0
            if args.validate_every:
                due = time.time() - validated > 60 * args.validate_every
            if args.held_out and due:
                note["held_out"] = validate(average, args.held_out)
                average.eval()
                validated = time.time()
            if saves:
                _save(args.out, "last.pt", net, average, optimiser, step)
                if step % 1000 == 0:
                    _save(args.out, f"{step:06d}.pt", net, average, optimiser, step)
            since = time.time()
            _log(args.out, note)
    if rank == 0:
        _save(args.out, "last.pt", net, average, optimiser, step)
        note = {"step": step, "minutes": round((time.time() - begun) / 60, 2), "ended": "SIGTERM" if stopped else "as asked"}
        if failure:
            note["ended"] = str(failure)
        elif args.held_out and not stopped:
            note["held_out"] = validate(average, args.held_out)
        _log(args.out, note)
    if failure:
        raise failure


def _compile(net: Lite, run: Callable, ahead: float) -> Callable:
    """Compiles the parts of the network, and gives the compiled loss. Where that fails, all stays as it was.

    `run` takes a kind of batch and a loss: code is made when it is first used, forwards and backwards.
    """
    begun = time.time()
    compiled = torch.compile(loss_of, dynamic=False)
    for name in COMPILED:
        setattr(net, name, torch.compile(getattr(net, name), dynamic=False))
    try:
        for kind in (kind for kind, share in ((False, 1 - ahead), (True, ahead)) if share > 0):
            run(kind, compiled)[0].backward()
        net.zero_grad(set_to_none=True)
    except Exception as error:  # whatever a compiler may raise
        print(f"--compile: {type(error).__name__}: {error}\n--compile: going on without it", flush=True)
        for name in COMPILED:
            delattr(net, name)
        net.zero_grad(set_to_none=True)
        return loss_of
    print(f"compiled in {time.time() - begun:.0f} s", flush=True)
    return compiled


def _on_sigterm() -> list[int]:
    """A list that is not empty any more when the process has been asked to end."""
    asked: list[int] = []
    with suppress(ValueError):  # not the main thread
        signal.signal(signal.SIGTERM, lambda number, _: asked.append(number))
    return asked


def _log(out: Path, note: dict) -> None:
    with open(out / "log.jsonl", "a") as log:
        log.write(json.dumps(note) + "\n")
    print(note, flush=True)


def _read(init: Path) -> dict:
    if init.is_dir():
        # Not above: training needs no `onnx` otherwise.
        from ..export_lite import weights_of

        return {"average": weights_of(init), "step": 0}
    return torch.load(init, map_location="cpu", weights_only=True)


def _share(tensors: list[Tensor]) -> None:
    """Replaces the tensors by their means over the workers."""
    if not dist.is_initialized():
        return
    flat = torch.cat([t.flatten() for t in tensors])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for t, part in zip(tensors, flat.split([t.numel() for t in tensors])):
        t.copy_(part.view(t.shape))


def _resume(optimiser: torch.optim.Optimizer, saved: dict) -> None:
    """Takes over a saved state, but for how the optimiser is run here."""
    fused = optimiser.param_groups[0]["fused"]
    for group in saved["param_groups"]:
        group["fused"] = fused
    optimiser.load_state_dict(saved)
    for parameter, kept in optimiser.state.items():
        for name, tensor in kept.items():
            if tensor.shape == parameter.shape:
                # Fused kernels want all that belongs to a parameter laid out like it.
                kept[name] = torch.empty_like(parameter, requires_grad=False).copy_(tensor)


def _portable(state):
    """A state with its tensors on the CPU, in their plain layout."""
    if isinstance(state, Tensor):
        return state.detach().cpu().contiguous()
    if isinstance(state, dict):
        return {key: _portable(value) for key, value in state.items()}
    return [_portable(value) for value in state] if isinstance(state, list) else state


def _save(out: Path, name: str, net: Lite, average: Lite, optimiser: torch.optim.Optimizer, step: int) -> None:
    """A checkpoint to go on from, and beside it the averaged weights alone, which are a quarter as large."""
    weights = {"average": _portable(average.state_dict()), "step": step}
    _write(out / name, {"net": _portable(net.state_dict()), **weights, "optimiser": _portable(optimiser.state_dict())})
    _write(out / "average.pt", weights)


def _write(path: Path, state: dict) -> None:
    temporary = path.with_suffix(".tmp")
    torch.save(state, temporary)
    temporary.replace(path)


if __name__ == "__main__":
    main()
