"""A pool of samples on the training device: batches are drawn from it as fast as the device takes them.

A GPU takes more samples than the cores beside it can draw. So each is used several times: new ones take the place of the
oldest, every batch is drawn at random from all that are there, and each use is flipped anew and seen in a slightly other
light. Samples lie there as bytes, one a row (`producers.Layout`).
"""

from __future__ import annotations

import random
import time
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .producers import Layout, Producers

# Samples on their way to a GPU at a time.
STAGE = 32


class Clips(NamedTuple):
    """A batch on the device; shapes as in `samples.Batch`."""

    frames: Tensor
    alpha: Tensor
    mask: Tensor
    prior: Tensor
    tokens: Tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A small tensor on `device`, without waiting for what the device is at."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def unpack(rows: Tensor, layout: Layout) -> Clips:
    """Samples from rows of bytes, `[B, layout.bytes]`."""
    frames, alpha, mask, prior, tokens = (
        (part if kind == np.uint8 else part.contiguous().view(torch.float32)).reshape(len(rows), *shape)
        for part, (shape, kind) in zip(rows.split(layout.sizes, 1), layout.parts, strict=True))
    return Clips(frames, alpha.float() / 255, mask.float() / 255, prior, tokens)


def flip(clips: Clips, flipped: Tensor) -> Clips:
    """Left and right changed where `flipped`, `[B]`, says so."""

    def of(x: Tensor) -> Tensor:
        return torch.where(flipped.reshape(-1, *[1] * (x.dim() - 1)), x.flip(-1), x)

    return Clips(of(clips.frames), of(clips.alpha), of(clips.mask), of(clips.prior), clips.tokens)


def relight(frames: Tensor, gain: Tensor, gamma: Tensor) -> Tensor:
    """Frames, bytes, in another light, one for each clip: `gain · x^gamma`."""
    gain, gamma = (x.reshape(-1, 1, 1, 1, 1) for x in (gain, gamma))
    return (frames.float() / 255).pow_(gamma).mul_(255 * gain).round_().clamp_(0, 255).to(torch.uint8)


class Ring:
    """The latest samples of one kind; a new one takes the place of the oldest."""

    def __init__(self, capacity: int, layout: Layout, device: torch.device):
        self.rows = torch.zeros(capacity, layout.bytes, dtype=torch.uint8, device=device)
        self.arrived = 0

    def __len__(self) -> int:
        return min(self.arrived, len(self.rows))

    def put(self, row: Tensor) -> None:
        self.rows[self.arrived % len(self.rows)].copy_(row, non_blocking=True)
        self.arrived += 1

    def draw(self, chance: random.Random, count: int) -> Tensor:
        """So many different rows."""
        places = torch.tensor(chance.sample(range(len(self)), count))
        return self.rows.index_select(0, to_device(places, self.rows.device))


class Pool:
    """What the processes have drawn; samples that leap ahead and the others are kept apart, since a batch is of one kind.

    `ahead` is the share of the former. Each kind that there is has room for `capacity`.
    """

    def __init__(self, producers: Producers, layout: Layout, capacity: int, ahead: float, device: torch.device, seed: int):
        self.producers, self.layout, self.device = producers, layout, device
        kinds = [kind for kind, share in ((False, 1 - ahead), (True, ahead)) if share > 0]
        self.rings = {kind: Ring(capacity, layout, device) for kind in kinds}
        self.chance = random.Random(seed)
        self.generator = torch.Generator(device).manual_seed(seed)
        self.stage, self.events, self.turn = None, [], 0
        if device.type == "cuda":
            # Copies from pinned memory are queued behind the steps before them; others would wait for these.
            self.stage = torch.empty(STAGE, layout.bytes, dtype=torch.uint8, pin_memory=True)
            self.events = [torch.cuda.Event() for _ in range(STAGE)]
        self.drawn = self.noted_drawn = self.noted_arrived = 0
        self.noted = time.monotonic()

    @property
    def arrived(self) -> int:
        return sum(ring.arrived for ring in self.rings.values())

    def take(self, timeout: float = 0) -> None:
        """Takes in the samples that are ready."""
        for row, ahead in self.producers.received(timeout):
            if self.stage is None:
                self.rings[ahead].put(torch.from_numpy(row))
                continue
            place, self.turn = self.turn, (self.turn + 1) % STAGE
            self.events[place].synchronize()
            np.copyto(self.stage[place].numpy(), row)
            self.rings[ahead].put(self.stage[place])
            self.events[place].record()

    def fill(self, least: int) -> None:
        """Waits until there are so many samples of each kind."""
        begun = told = time.monotonic()
        while any(len(ring) < least for ring in self.rings.values()):
            self.take(1.0)
            if time.monotonic() - told > 5:
                told = time.monotonic()
                print(f"{self.arrived} samples after {told - begun:.0f} s", flush=True)
        self.note()

    def batch(self, ahead: bool, count: int) -> Clips:
        """Samples of one kind, each flipped or not and in a light of its own."""
        self.drawn += count
        clips = flip(unpack(self.rings[ahead].draw(self.chance, count), self.layout), self._normal(count) > 0)
        gain, gamma = (torch.exp(spread * self._normal(count)) for spread in (0.05, 0.08))
        return clips._replace(frames=relight(clips.frames, gain, gamma))

    def _normal(self, count: int) -> Tensor:
        return torch.randn(count, generator=self.generator, device=self.device)

    def note(self) -> dict[str, float]:
        """For the log, since the last note: new samples a second, and how often a sample is used on average."""
        now, arrived = time.monotonic(), self.arrived - self.noted_arrived
        out = {"new_per_s": round(arrived / max(now - self.noted, 1e-6), 1),
               "uses": round((self.drawn - self.noted_drawn) / max(arrived, 1), 2)}
        self.noted, self.noted_arrived, self.noted_drawn = now, self.arrived, self.drawn
        return out
