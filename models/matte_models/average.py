"""Averages the weights of two checkpoints of one descent: what each of them loses, the other often keeps.

    python -m matte_models.average before.pt after.pt --share 0.7 --out mixed.pt
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor


def mix(before: dict[str, Tensor], after: dict[str, Tensor], share: float) -> dict[str, Tensor]:
    """`share` of `after`, the rest of `before`; both have the same tensors."""
    if before.keys() != after.keys():
        raise ValueError(f"the checkpoints differ in {sorted(before.keys() ^ after.keys())}")
    return {name: torch.lerp(before[name], after[name], share) for name in before}


def main() -> None:
    parser = argparse.ArgumentParser(description="Average two checkpoints.")
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--share", type=float, required=True, help="of the second, 0 to 1")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    before, after = (torch.load(p, map_location="cpu", weights_only=True) for p in (args.before, args.after))
    torch.save({"average": mix(before["average"], after["average"], args.share), "step": after["step"]}, args.out)


if __name__ == "__main__":
    main()
