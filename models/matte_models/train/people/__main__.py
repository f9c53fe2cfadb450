from __future__ import annotations

import argparse
import time
from pathlib import Path

import cv2
import numpy as np

from .clip import TALLEST, Clip, Studio, load, save


def sheet(clips: list[Clip], path: Path, columns: int = 6, picks: tuple[int, ...] = (0, 12)) -> None:
    """Frames of every clip over a grey and a coloured ground, and their alpha."""
    cell = 300
    tiles = []
    for clip in clips:
        row = []
        for k, pick in enumerate(picks):
            frame = clip.frames[min(pick, len(clip.frames) - 1)].astype(np.float32)
            ground = np.array([(96, 100, 104), (40, 150, 90)][k % 2], np.float32)
            row.append(frame[..., :3] + ground * (1 - frame[..., 3:] / 255))
        row.append(np.repeat(frame[..., 3:], 3, 2))
        picture = np.concatenate(row, 1)
        factor = min(cell / picture.shape[0], cell * 2.2 / picture.shape[1])
        picture = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        tile = np.full((cell, int(cell * 2.2), 3), 20, np.float32)
        tile[: picture.shape[0], : picture.shape[1]] = picture
        tile = np.ascontiguousarray(tile.astype(np.uint8))
        text = f"{clip.seed} " + " ".join(str(clip.notes.get(k, "")) for k in ("hair", "suit", "framing", "kind"))
        cv2.putText(tile, text, (4, cell - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (255, 255, 0), 1, cv2.LINE_AA)
        tiles.append(tile)
    while len(tiles) % columns:
        tiles.append(np.zeros_like(tiles[0]))
    rows = [np.concatenate(tiles[i : i + columns], 1) for i in range(0, len(tiles), columns)]
    cv2.imwrite(str(path), np.concatenate(rows)[..., ::-1])


def main() -> None:
    parser = argparse.ArgumentParser(description="Render clips of synthetic people.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--makehuman", type=Path, required=True, help="the folder that makehuman-cc0.tar.xz unpacks to")
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--start", type=int, default=0, help="number of the first clip, which is also its seed")
    parser.add_argument("--tallest", type=int, default=TALLEST,
                        help=f"the most rows of a picture; the least are 0.6 of that (default: {TALLEST})")
    parser.add_argument("--sheet", type=Path, help="write a contact sheet of the clips (PNG)")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    studio = Studio(args.makehuman)
    shown = []
    for seed in range(args.start, args.start + args.count):
        path = args.out / f"{seed:05d}.npz"
        if path.exists():
            if args.sheet:
                shown.append(load(path))
            continue
        since = time.time()
        clip = studio.clip(seed, tallest=args.tallest)
        save(clip, path)
        height, width = clip.frames.shape[1:3]
        print(
            f"{path.name} {width}×{height} {path.stat().st_size / 1e6:.1f} MB {time.time() - since:.1f} s {clip.notes}",
            flush=True,
        )
        if args.sheet:
            shown.append(clip)
    if args.sheet and shown:
        sheet(shown, args.sheet, min(3, len(shown)))


if __name__ == "__main__":
    main()
