"""The training loop: clips through the network exactly as the engine drives it.

The given mask of the first frame becomes its alpha (value, permanent slot), a first-frame prediction refines it and takes
its place, then each further frame reads the bank. The alpha that is fed back is detached: gradients through it explode.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import random
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from ..export_lite import weights_of
from ..network.blocks import down
from ..network.lite import Features, Lite, fold, load_lite, read
from .data import SEGMENTER, STRIDE, Segmenter, read_folder
from .losses import laplacian, pull, temporal
from .samples import Loader


def to_image(frames: Tensor) -> Tensor:
    """`[B, T, 3, H, W]` bytes to what `Lite.encode` takes, the batch being B·T."""
    return frames.flatten(0, 1).float() / 255


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
    # Squares of keys cancel each other, so the read stays in `float32`.
    exact = partial(torch.autocast, "cpu", enabled=False)
    every = net.encode(to_image(frames))
    per_frame = [Features(*(f.unflatten(0, (b, t))[:, i] for f in every)) for i in range(t)]
    out = []

    # The mask step and the first-frame prediction.
    features = per_frame[0]
    value = net.value(features.f16, mask)
    raw = net.decode(features, value, value, down(mask, STRIDE), prior[:, 0])
    out.append(raw)
    keys: list[Tensor] = []
    values: list[Tensor] = []
    for i in range(1, t + 1):
        given = later is not None and i == 2
        alpha = later if given else out[-1].detach().clamp(0, 1)
        if faults and i > 1:
            alpha = damage(alpha, faults)
        value = net.value(features.f16, alpha)
        if (i - 1) % interval == 0:
            with exact():
                keys.append(net.rows(features.f16.float(), tokens)[0])
            values.append(value.float().flatten(2).transpose(1, 2))
            if len(keys) > 1 + slots:
                del keys[1], values[1]
        if i == t:
            break
        features = per_frame[i]
        if later is not None and i == 1:
            continue
        with exact():
            queries = net.rows(features.f16.float(), tokens)[1]
            seen = read(queries, torch.cat(keys, 1), torch.cat(values, 1), features.f16)
        out.append(net.decode(features, seen, value, down(alpha, STRIDE), prior[:, i]))
    return torch.stack(out, 1)


def damage(alpha: Tensor, faults: random.Random, rate: float = 0.4) -> Tensor:
    """Some alphas damaged as tracking errors do it. Takes and gives `[B, 1, H, W]`.

    Half of the faults are a rectangle emptied, filled or halved; the others are slow erosion and haze: the alpha pulled
    towards 0 or 1 by a smooth random field. Left alone, erosion feeds on itself and eats holes within a hundred frames.
    """
    alpha = alpha.clone()
    height, width = alpha.shape[-2:]
    for picture in alpha[:, 0]:
        if faults.random() >= rate:
            continue
        if faults.random() < 0.5:
            coarse = [[faults.random() ** 2 for _ in range(5)] for _ in range(5)]
            strength = faults.uniform(0.1, 0.9)
            field = F.interpolate(alpha.new_tensor(coarse)[None, None], (height, width), mode="bicubic")[0, 0]
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


def near_edges(alpha: Tensor) -> Tensor:
    """1 within 4 to 8 pixels of partial alpha, 0 elsewhere: edges are few, so they are made to count more."""
    partial = ((alpha > 0.02) & (alpha < 0.98)).float().flatten(0, 1)
    coarse = F.max_pool2d(F.max_pool2d(partial, 4), 3, 1, 1)
    return F.interpolate(coarse, scale_factor=4.0, mode="nearest").view_as(alpha)


def loss_of(raw: Tensor, alpha: Tensor) -> tuple[Tensor, dict[str, float]]:
    clamped = raw.clamp(0, 1)
    l1 = (pull(raw, alpha) * (1 + 3 * near_edges(alpha))).mean()
    lap = laplacian(clamped, alpha)
    tmp = temporal(clamped, alpha)
    with torch.no_grad():
        mad = (clamped - alpha).abs().mean().item()
    return l1 + 2 * lap + 2 * tmp, {"l1": l1.item(), "lap": lap.item(), "tmp": tmp.item(), "mad": mad}


@torch.no_grad()
def validate(net: Lite, folder: Path, count: int = 12) -> dict[str, float]:
    """MAD and dtSSD (× 1e3, × 1e2) of whole held-out clips, with no prior."""
    frames, prior = read_folder(folder)
    net.eval()
    mads, dts = [], []
    for i in range(min(count, len(frames))):
        clip = torch.from_numpy(frames[i][None].copy())
        alpha = clip[..., 3].unsqueeze(2).float() / 255
        rgb = clip[..., :3].permute(0, 1, 4, 2, 3)
        mask = (clip[:, 0, None, ..., 3] >= 50).float()
        absent = torch.full((1, rgb.shape[1], 1, *prior.shape[-2:]), -1.0)
        got = run_clip(net, rgb, mask, absent, 5).clamp(0, 1)
        mads.append((got - alpha).abs().mean().item() * 1e3)
        d = (got[:, 1:] - got[:, :-1]) - (alpha[:, 1:] - alpha[:, :-1])
        dts.append(d.square().mean((2, 3, 4)).sqrt().mean().item() * 1e2)
    net.train()
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
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--minutes", type=float, default=1e9, help="stop when these have passed")
    parser.add_argument("--decay", type=int, default=0, help="the last steps, in which the rate falls to a hundredth")
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
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--bf16", action="store_true", help="convolutions in bfloat16: faster on CPUs with AMX")
    parser.add_argument("--save-every", type=int, default=200)
    args = parser.parse_args()

    if args.init and args.init.is_dir() and not args.restart:
        parser.error("a package has weights alone: --init with one needs --restart")
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "workers").unlink(missing_ok=True)
    if args.workers > 1:
        torch.multiprocessing.start_processes(train, (args,), args.workers, start_method="spawn")
    else:
        train(0, args)


def train(rank: int, args: argparse.Namespace) -> None:
    """One worker. Workers hold the same weights, draw different clips and average their gradients."""
    if args.workers > 1:
        dist.init_process_group("gloo", f"file://{(args.out / 'workers').resolve()}", rank=rank, world_size=args.workers)
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    state = _read(args.init) if args.init else None
    net = load_lite(state["average" if args.restart else "net"]) if state else Lite()
    if args.fold:
        net = fold(net)
    net = net.to(memory_format=torch.channels_last)
    average = copy.deepcopy(net)
    optimiser = torch.optim.AdamW(net.parameters(), lr=args.rate, betas=(0.9, 0.99), weight_decay=0.01)
    step = 0
    if state:
        step = state["step"]
        if not args.restart:
            average.load_state_dict(state["average"])
            optimiser.load_state_dict(state["optimiser"])
    first, last = step, step + args.steps
    segmenter = Segmenter(Path(args.shared) / SEGMENTER) if args.shared else None
    loader = Loader(args.folders, 1000 * args.seed + 10 * step + rank, args.prior_rate, segmenter, args.seed_rate)
    pick = random.Random(1000 * args.seed + 10 * step + rank)
    net.train()
    average.eval()
    over = False
    begun, sums, since = time.time(), {}, time.time()
    warm = step if args.restart or not args.init else -100
    while step < last and not over:
        rate = args.rate * min(1.0, (step - warm + 1) / 100)
        if args.decay and last - step < args.decay:
            rate *= 0.01 ** (1 - (last - step) / args.decay)
        for group in optimiser.param_groups:
            group["lr"] = rate
        # All workers leap together, so that none waits for another.
        ahead = random.Random(f"{args.seed} {step}").random() < args.ahead
        batch = loader.batch(args.clips, args.frames, args.height, args.width, ahead)
        frames, alpha, mask, prior, tokens = (torch.from_numpy(x) for x in
                                              (batch.frames, batch.alpha, batch.mask, batch.prior, batch.tokens))
        later = alpha[:, 1] if ahead else None
        # Convolutions and products in bfloat16, on processors that have it: half the time, the same direction.
        with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
            raw = run_clip(net, frames, mask, prior, pick.choice([1, 2, 3, 5]), faults=pick, later=later,
                           tokens=tokens)
        raw = raw.float()
        if ahead:
            alpha = torch.cat([alpha[:, :1], alpha[:, 2:]], 1)
        loss, parts = loss_of(raw, alpha)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        _share([p.grad for p in net.parameters()])
        norm = torch.nn.utils.clip_grad_norm_(net.parameters(), 0.3)
        if torch.isfinite(norm):  # the same on every worker
            optimiser.step()
        step += 1
        # Young averages are short, so that they do not remember where the run began.
        keep = min(0.998, (step - first + 1) / (step - first + 10))
        with torch.no_grad():
            for a, p in zip(average.parameters(), net.parameters()):
                a.lerp_(p, 1 - keep)
            for a, p in zip(average.buffers(), net.buffers()):
                a.copy_(p if not a.is_floating_point() else torch.lerp(a, p, 1 - min(keep, 0.99)))
        for k, v in parts.items():
            sums[k] = sums.get(k, 0.0) + v
        if step % 50 == 0:
            if buffers := [b for b in net.buffers() if b.is_floating_point()]:
                _share(buffers)
            if args.minutes < 1e9:
                # Every worker stops at the same step.
                passed = torch.tensor([(time.time() - begun) / 60])
                _share([passed])
                over = passed.item() > args.minutes
        if step % 50 == 0 and rank > 0:
            loader.refresh()
        elif step % 50 == 0:
            note = {"step": step, "minutes": round((time.time() - begun) / 60, 2),
                    "ms": round((time.time() - since) * 20), **{k: round(v / 50, 5) for k, v in sums.items()}}
            sums, since = {}, time.time()
            loader.refresh()
            if step % args.save_every == 0:
                if args.held_out and step % (2 * args.save_every) == 0:
                    note["held_out"] = validate(average, args.held_out)
                    average.eval()
                _save(args.out / "last.pt", net, average, optimiser, step)
                if step % 1000 == 0:
                    _save(args.out / f"{step:06d}.pt", net, average, optimiser, step)
                since = time.time()
            with open(args.out / "log.jsonl", "a") as log:
                log.write(json.dumps(note) + "\n")
            print(note, flush=True)
    if rank == 0:
        _save(args.out / "last.pt", net, average, optimiser, step)


def _read(init: Path) -> dict:
    if init.is_dir():
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


def _save(path: Path, net: Lite, average: Lite, optimiser: torch.optim.Optimizer, step: int) -> None:
    temporary = path.with_suffix(".tmp")
    torch.save({"net": net.state_dict(), "average": average.state_dict(), "optimiser": optimiser.state_dict(),
                "step": step}, temporary)
    temporary.replace(path)


if __name__ == "__main__":
    main()
