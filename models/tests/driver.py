"""Reference sequences, played through the frame loop."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import safe_open

from matte_models.driver import Driver


@dataclass
class Case:
    """One reference sequence."""

    frames: np.ndarray
    mask: np.ndarray
    alpha: np.ndarray
    warm_up: np.ndarray | None
    reseed: dict[int, np.ndarray]

    @classmethod
    def open(cls, path: Path) -> Case:
        with safe_open(path, "np") as file:
            names = set(file.keys())
            return cls(
                frames=file.get_tensor("frames"),
                mask=file.get_tensor("mask"),
                alpha=file.get_tensor("alpha"),
                warm_up=file.get_tensor("alpha_warmup") if "alpha_warmup" in names else None,
                reseed={int(n.rsplit("_", 1)[1]): file.get_tensor(n) for n in names if n.startswith("reseed_mask_")},
            )

    def play(self, driver: Driver) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Alpha and expected alpha of every step after the mask step: the warm-up, then the frames."""
        driver.step(self.frames[0], mask=self.mask)
        for expected in () if self.warm_up is None else self.warm_up:
            yield driver.step(self.frames[0], first=True), expected
        yield driver.step(self.frames[0], first=True), self.alpha[0]
        for t in range(1, len(self.frames)):
            yield driver.step(self.frames[t], mask=self.reseed.get(t)), self.alpha[t]


def errors(case: Case, driver: Driver) -> np.ndarray:
    """Absolute alpha errors, one row per step."""
    return np.stack([np.abs(got - expected) for got, expected in case.play(driver)])
