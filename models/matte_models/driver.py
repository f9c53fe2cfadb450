"""The frame loop around the three graphs, in numpy, as the engine runs it; one object, one sequence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field

import numpy as np
import torch

Graphs = Mapping[str, Callable[..., dict[str, np.ndarray]]]
"""``matte``, ``value``, ``memorize``: keyword arguments in, outputs by name."""

EMPTY = -1e9


def torch_graphs(network: object, mode: Callable = nullcontext) -> Graphs:
    """The three graphs of a network as a driver wants them; ``mode`` is a context to run them in."""

    def run(method):
        def call(**inputs):
            with torch.no_grad(), mode():
                out = method(**{k: torch.as_tensor(v) for k, v in inputs.items()})
            return {k: v.numpy() for k, v in out._asdict().items()}

        return call

    return {name: run(getattr(network, name)) for name in ("matte", "value", "memorize")}


@dataclass
class Driver:
    graphs: Graphs
    size: tuple[int, int]
    """Height and width of the frames, before padding."""
    dtype: type = np.float32
    """Type of features and values."""
    interval: int = 5
    temporary: int = 4
    key_row: int = 136
    valid: int = 129
    width: int = 256
    queries: int = 16
    log: list[dict[str, np.ndarray]] = field(default_factory=list)
    """Inputs and outputs of every step, where wanted."""
    keep_log: bool = False

    def __post_init__(self) -> None:
        height, width = self.size
        self.top, self.bottom = ((-height % 16) // 2, (-height % 16 + 1) // 2)
        self.left, self.right = ((-width % 16) // 2, (-width % 16 + 1) // 2)
        h, w = (height + self.top + self.bottom) // 16, (width + self.left + self.right) // 16
        self.tokens = h * w
        self.bank_keys = np.zeros(((1 + self.temporary) * h * w, self.key_row), np.float32)
        self.bank_values = np.zeros((len(self.bank_keys), self.width), self.dtype)
        self.sensory = np.zeros((1, self.width, h, w), np.float32)
        self.object_memory = np.zeros((1, self.queries, self.width + 1), np.float32)
        self.last_alpha = np.zeros((1, 1, h, w), np.float32)
        self.last_feature = np.zeros((1, self.width, h, w), self.dtype)
        self.last_value = np.zeros((1, self.width, h, w), self.dtype)
        self.time = -1
        self.memory_time = 0
        self._clear()

    def _clear(self) -> None:
        self.bank_keys[:] = 0
        self.bank_keys[:, self.valid] = EMPTY
        self.bank_values[:] = 0
        self.filled = 0
        self.next_temporary = 0

    def _pad(self, x: np.ndarray) -> np.ndarray:
        return np.pad(x, ((self.top, self.bottom), (self.left, self.right), *((0, 0),) * (x.ndim - 2)))

    def _matte(self, frame: np.ndarray, gate: float) -> dict[str, np.ndarray]:
        return self.graphs["matte"](
            frame=frame,
            bank_keys=self.bank_keys,
            bank_values=self.bank_values,
            sensory=self.sensory,
            last_alpha=self.last_alpha,
            last_feature=self.last_feature,
            last_value=self.last_value,
            object_memory=self.object_memory,
            gate=np.float32(gate),
        )

    def _store(self, key_rows: np.ndarray, value_rows: np.ndarray) -> None:
        """The first entry is permanent; the others go round in a ring."""
        slot = 0
        if self.filled:
            slot = 1 + self.next_temporary
            self.next_temporary = (self.next_temporary + 1) % self.temporary
        self.filled = min(self.filled + 1, 1 + self.temporary)
        rows = slice(slot * self.tokens, (slot + 1) * self.tokens)
        self.bank_keys[rows] = key_rows
        self.bank_values[rows] = value_rows

    def step(self, frame: np.ndarray, mask: np.ndarray | None = None, first: bool = False) -> np.ndarray:
        """``frame [H, W, 3]`` u8, ``mask [H, W]`` u8 → alpha ``[H, W]``. ``first`` is a first-frame prediction."""
        self.time += 1
        if first:
            self.time = self.memory_time = 0
        frame = self._pad(frame)[None]
        remember = first or mask is not None or self.time - self.memory_time >= self.interval
        before = {"sensory_in": self.sensory, "object_memory_in": self.object_memory}
        out = self._matte(frame, 0.0 if first or mask is not None else 1.0)
        if mask is None:
            alpha = out["alpha"]
            self.sensory = out["sensory_out"]
        else:
            alpha = self._pad(mask).astype(np.float32)[None, None] / np.float32(255)
        value = self.graphs["value"](frame=frame, feature=out["feature"], alpha=alpha)
        if remember:
            if first:
                self._clear()
            memory = self.graphs["memorize"](
                value=value["value"],
                sensory=self.sensory,
                alpha_16=value["alpha_16"],
                object_memory=self.object_memory,
                keep=np.float32(0.0 if first else 1.0),
            )
            self.sensory = memory["sensory_out"]
            self.object_memory = memory["object_memory_out"]
            self._store(out["key_rows"], value["value_rows"])
            self.memory_time = self.time
        self.last_alpha = value["alpha_16"]
        self.last_feature = out["feature"]
        self.last_value = value["value"]
        if self.keep_log:
            after = {"sensory_after": self.sensory, "object_memory_after": self.object_memory}
            self.log.append({**before, **out, **value, **after})
        return alpha[0, 0, self.top : self.top + self.size[0], self.left : self.left + self.size[1]]
