"""The frame loop around the three graphs, as the engine runs it; one object, one sequence.

``Driver`` keeps numpy arrays, ``TorchDriver`` tensors on a device of PyTorch; the policy is the same code.
"""

from __future__ import annotations

import time
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
        self.bank_keys = self._zeros((1 + self.temporary) * h * w, self.key_row)
        self.bank_values = self._zeros(len(self.bank_keys), self.width, features=True)
        self.sensory = self._zeros(1, self.width, h, w)
        self.object_memory = self._zeros(1, self.queries, self.width + 1)
        self.last_alpha = self._zeros(1, 1, h, w)
        self.last_feature = self._zeros(1, self.width, h, w, features=True)
        self.last_value = self._zeros(1, self.width, h, w, features=True)
        self.time = -1
        self.memory_time = 0
        self._clear()

    def _clear(self) -> None:
        self.bank_keys[:] = 0
        self.bank_keys[:, self.valid] = EMPTY
        self.bank_values[:] = 0
        self.filled = 0
        self.next_temporary = 0

    def _zeros(self, *shape: int, features: bool = False) -> np.ndarray:
        return np.zeros(shape, self.dtype if features else np.float32)

    def _pad(self, x: np.ndarray) -> np.ndarray:
        return np.pad(x, ((self.top, self.bottom), (self.left, self.right), *((0, 0),) * (x.ndim - 2)))

    def _crop(self, x: np.ndarray) -> np.ndarray:
        return x[..., self.top : self.top + self.size[0], self.left : self.left + self.size[1]]

    def _picture(self, frame: np.ndarray) -> np.ndarray:
        return self._pad(frame)[None]

    def _alpha(self, mask: np.ndarray) -> np.ndarray:
        return self._pad(mask).astype(np.float32)[None, None] / np.float32(255)

    def _number(self, x: float) -> np.ndarray:
        return np.float32(x)

    def _keep(self, name: str, x: np.ndarray) -> None:
        setattr(self, name, x)

    def _deliver(self, alpha: np.ndarray) -> np.ndarray:
        return self._crop(alpha)[0, 0]

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
            gate=self._number(gate),
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
        frame = self._picture(frame)
        remember = first or mask is not None or self.time - self.memory_time >= self.interval
        before = {"sensory_in": self.sensory, "object_memory_in": self.object_memory}
        out = self._matte(frame, 0.0 if first or mask is not None else 1.0)
        if mask is None:
            alpha = out["alpha"]
            self._keep("sensory", out["sensory_out"])
        else:
            alpha = self._alpha(mask)
        delivered = self._deliver(alpha)
        value = self.graphs["value"](frame=frame, feature=out["feature"], alpha=alpha)
        if remember:
            if first:
                self._clear()
            memory = self.graphs["memorize"](
                value=value["value"],
                sensory=self.sensory,
                alpha_16=value["alpha_16"],
                object_memory=self.object_memory,
                keep=self._number(0.0 if first else 1.0),
            )
            self._keep("sensory", memory["sensory_out"])
            self._keep("object_memory", memory["object_memory_out"])
            self._store(out["key_rows"], value["value_rows"])
            self.memory_time = self.time
        self._keep("last_alpha", value["alpha_16"])
        self._keep("last_feature", out["feature"])
        self._keep("last_value", value["value"])
        if self.keep_log:
            after = {"sensory_after": self.sensory, "object_memory_after": self.object_memory}
            self.log.append({**before, **out, **value, **after})
        return delivered


@dataclass
class TorchDriver(Driver):
    """All state stays on the device: for a frame its bytes go up and its alpha comes down, into pinned memory.

    The graphs take and give tensors. ``step`` takes tensors or arrays; what it returns the next step overwrites.
    """

    dtype: torch.dtype = torch.float32
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    layout: torch.memory_format = torch.contiguous_format
    """Of maps, where ``own``."""
    own: bool = False
    """Copy what graphs return into buffers that stay where they are: CUDA graphs overwrite their outputs, and compiled
    code is made for the strides of its inputs."""
    wait: bool = True
    """For the alpha, before the frame is remembered. Otherwise the caller synchronises before looking at it."""
    delivered: float = 0.0
    """``time.perf_counter()`` when the last alpha was there, where ``wait``."""

    STATE = ("bank_keys", "bank_values", "sensory", "object_memory", "last_alpha", "last_feature", "last_value")

    def __post_init__(self) -> None:
        super().__post_init__()
        height, width = self.size
        padded = (height + self.top + self.bottom, width + self.left + self.right)
        self.frame = torch.zeros(1, *padded, 3, dtype=torch.uint8, device=self.device)
        self.host = torch.zeros(height, width, pin_memory=self.device.type == "cuda")
        self.numbers = {x: torch.tensor(x, device=self.device) for x in (0.0, 1.0)}

    def _zeros(self, *shape: int, features: bool = False) -> torch.Tensor:
        layout = self.layout if len(shape) == 4 else torch.contiguous_format
        dtype = self.dtype if features else torch.float32
        return torch.zeros(shape, dtype=dtype, device=self.device).contiguous(memory_format=layout)

    def _picture(self, frame: torch.Tensor | np.ndarray) -> torch.Tensor:
        inside = self._crop(self.frame.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        inside.copy_(torch.as_tensor(frame)[None], non_blocking=True)
        return self.frame

    def _alpha(self, mask: torch.Tensor | np.ndarray) -> torch.Tensor:
        alpha = torch.zeros(1, 1, *self.frame.shape[1:3], device=self.device)
        self._crop(alpha).copy_(torch.as_tensor(mask)).div_(255)
        return alpha

    def _number(self, x: float) -> torch.Tensor:
        return self.numbers[x]

    def _keep(self, name: str, x: torch.Tensor) -> None:
        if self.own:
            getattr(self, name).copy_(x)
        else:
            setattr(self, name, x)

    def _deliver(self, alpha: torch.Tensor) -> torch.Tensor:
        self.host.copy_(self._crop(alpha)[0, 0].float(), non_blocking=True)
        if self.wait:
            if self.device.type == "cuda":
                torch.cuda.current_stream().synchronize()
            self.delivered = time.perf_counter()
        return self.host
