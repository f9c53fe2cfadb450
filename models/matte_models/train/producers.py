"""Processes that draw samples and hand them over as bytes, through memory that they share with the training process.

Nothing here needs PyTorch: a process that draws is small and starts fast. Each has a few slots for samples and a pipe. It
fills a free slot and sends its number; the training process copies the sample and sends the number back. So a process waits
when all its slots are full, and ends when the training process is gone, however that ended.
"""

from __future__ import annotations

import ctypes
import math
import multiprocessing
import os
import random
import signal
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path

import cv2
import numpy as np

from .data import STRIDE, Segmenter
from .samples import Drawn, Loader

# Samples that a process may have drawn ahead.
SLOTS = 4
# Seconds after which a process looks for clips written since.
REFRESH = 10.0


@dataclass(frozen=True)
class Recipe:
    """What samples are drawn from, and how."""

    folders: Sequence[Path]
    prior_rate: float
    segmenter: Path | None
    seed_rate: float

    def loader(self, seed: int) -> Loader:
        segmenter = self.segmenter and Segmenter(self.segmenter)
        return Loader(list(self.folders), seed, self.prior_rate, segmenter, self.seed_rate)


@dataclass(frozen=True)
class Layout:
    """The bytes of a sample: its arrays one behind the other, in the order of `Drawn`."""

    length: int
    height: int
    width: int

    @property
    def parts(self) -> list[tuple[tuple[int, ...], np.dtype]]:
        """Shape and type of every array."""
        t, h, w = self.length, self.height, self.width
        byte, real = np.dtype(np.uint8), np.dtype(np.float32)
        return [((t, 3, h, w), byte), ((t, 1, h, w), byte), ((1, h, w), byte),
                ((t, 1, h // STRIDE, w // STRIDE), real), ((), real)]

    @property
    def sizes(self) -> list[int]:
        """Bytes of every array."""
        return [math.prod(shape) * kind.itemsize for shape, kind in self.parts]

    @property
    def bytes(self) -> int:
        return sum(self.sizes)

    def pack(self, row: np.ndarray, drawn: Drawn) -> None:
        """Writes a sample to a row of bytes."""
        at = 0
        for array, (shape, kind), size in zip(drawn, self.parts, self.sizes, strict=True):
            assert np.shape(array) == shape and array.dtype == kind, f"{np.shape(array)}, not {shape}"
            row[at : at + size] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
            at += size


class Producers:
    """Processes that draw samples until they are closed; a share `ahead` of the samples leaps ahead."""

    def __init__(self, count: int, recipe: Recipe, layout: Layout, ahead: float, seed: int):
        context = multiprocessing.get_context("spawn")
        self.failure = ""
        self.live: dict[Connection, tuple[multiprocessing.Process, np.ndarray]] = {}
        with _one_thread():
            for k in range(count):
                block = context.RawArray(ctypes.c_uint8, SLOTS * layout.bytes)
                ours, theirs = context.Pipe()
                given = block, theirs, recipe, layout, ahead, seed + k
                process = context.Process(target=_produce, args=given, daemon=True)
                process.start()
                # Only if the other end is open in that process alone, its end can be noticed here.
                theirs.close()
                self.live[ours] = process, _rows(block, layout)

    def received(self, timeout: float = 0) -> Iterator[tuple[np.ndarray, bool]]:
        """The samples that are ready, as rows of bytes, and whether they leap ahead. A row is good until the next is asked
        for. Waits up to `timeout` seconds for the first."""
        for connection in wait(list(self.live), timeout):
            process, rows = self.live[connection]
            try:
                while connection.poll():
                    message = connection.recv()
                    if isinstance(message, str):
                        self.failure = message
                        print(f"a process that draws samples failed:\n{message}", flush=True)
                        continue
                    slot, ahead = message
                    yield rows[slot], ahead
                    with suppress(OSError):  # it has ended; what it sent before can still be read
                        connection.send(slot)
            except (EOFError, OSError):
                process.join(5)
                del self.live[connection]
                print(f"a process that draws samples ended ({process.exitcode}), {len(self.live)} are left", flush=True)
        if not self.live:
            raise RuntimeError(f"no process that draws samples is left\n{self.failure}")

    def close(self) -> None:
        for connection, (process, _) in self.live.items():
            connection.close()
            process.terminate()
        for process, _ in self.live.values():
            process.join(5)
        self.live = {}


def _rows(block: ctypes.Array, layout: Layout) -> np.ndarray:
    return np.frombuffer(block, np.uint8).reshape(SLOTS, layout.bytes)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Processes started meanwhile have one thread in each library: there are as many of them as cores."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _produce(block: ctypes.Array, connection: Connection, recipe: Recipe, layout: Layout, ahead: float, seed: int) -> None:
    # Ctrl-C reaches all processes; the training process decides when these end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        # Whoever feeds the device comes first.
        os.nice(5)
        cv2.setNumThreads(1)
        loader, flags = recipe.loader(seed), random.Random(seed)
        rows, free, looked = _rows(block, layout), list(range(SLOTS)), time.monotonic()
        while True:
            while not free or connection.poll():
                free.append(connection.recv())
            if time.monotonic() - looked > REFRESH:
                loader.refresh()
                looked = time.monotonic()
            leaps = flags.random() < ahead
            slot = free.pop()
            layout.pack(rows[slot], loader.draw(layout.length, (layout.height, layout.width), leaps))
            connection.send((slot, leaps))
    except (EOFError, ConnectionError):
        pass  # The training process is gone.
    except Exception:
        with suppress(OSError):
            connection.send(traceback.format_exc())
