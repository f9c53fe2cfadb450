#!/usr/bin/env python3
"""The background of a synthetic clip, for `matte composite`.

    python background.py CLIP OUT.mkv

CLIP holds video.mp4 and alpha.mkv (exact alpha), OUT.mkv gets the background of every frame, lossless.

A frame is I = aF + (1-a)B, so a true composite over a colour W is I + (1-a)(W - B): it takes no true foreground, only B,
and an error of B counts with 1-a alone. B is seen where a = 0. The camera pans, zooms and shakes before a still picture,
so what the target hides in one frame is seen in others: each frame is registered to the middle one by a homography from
features of the background (SIFT, RANSAC), the mosaic takes for each of its pixels the median over all frames in which it
is seen, and is warped back. What no frame shows is filled from its surroundings. Printed are the mean difference from
the frames where the background is seen, which tells how far the registration can be trusted, and the share of the soft
pixels that had to be filled.
"""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np


def read(path: Path, grey: bool) -> np.ndarray:
    video = cv2.VideoCapture(str(path))
    frames = []
    while True:
        ok, frame = video.read()
        if not ok:
            return np.stack(frames)
        frames.append(frame[..., 0] if grey else frame)


def homography(frame, free, reference) -> np.ndarray:
    sift = cv2.SIFT_create(4000)
    points, descriptors = sift.detectAndCompute(frame, free)
    pairs = cv2.BFMatcher().knnMatch(descriptors, reference[1], k=2)
    good = [a for a, b in pairs if a.distance < 0.75 * b.distance]
    source = np.float32([points[m.queryIdx].pt for m in good])
    target = np.float32([reference[0][m.trainIdx].pt for m in good])
    found, _ = cv2.findHomography(source, target, cv2.RANSAC, 1.0, maxIters=5000, confidence=0.9999)
    return found


def main() -> None:
    clip, out = Path(sys.argv[1]), sys.argv[2]
    frames, alpha = read(clip / "video.mp4", False), read(clip / "alpha.mkv", True)
    count, height, width = alpha.shape
    # Away from the target by a few pixels: codec and motion blur reach over the edge.
    kernel = np.ones((9, 9), np.uint8)
    free = [np.where(cv2.dilate(a, kernel) == 0, 255, 0).astype(np.uint8) for a in alpha]
    middle = count // 2
    sift = cv2.SIFT_create(4000)
    reference = sift.detectAndCompute(frames[middle], free[middle])
    to_middle = [homography(f, m, reference) for f, m in zip(frames, free)]

    margin = 160
    shift = np.array([[1, 0, margin], [0, 1, margin], [0, 0, 1]], np.float64)
    size = (width + 2 * margin, height + 2 * margin)
    # Every other frame is enough for a median.
    chosen = range(0, count, 2)
    warped = np.stack([cv2.warpPerspective(frames[i], shift @ to_middle[i], size, flags=cv2.INTER_CUBIC) for i in chosen])
    seen = np.stack([cv2.warpPerspective(free[i], shift @ to_middle[i], size, flags=cv2.INTER_NEAREST) for i in chosen])
    mosaic = np.zeros((size[1], size[0], 3), np.uint8)
    for top in range(0, size[1], 64):
        part = warped[:, top : top + 64].astype(np.float32)
        part[seen[:, top : top + 64] == 0] = np.nan
        mosaic[top : top + 64] = np.nan_to_num(np.nanmedian(part, axis=0)).round().astype(np.uint8)
    hidden = np.where(seen.max(axis=0) == 0, 255, 0).astype(np.uint8)
    mosaic = cv2.inpaint(mosaic, hidden, 5, cv2.INPAINT_TELEA)

    writer = subprocess.Popen(
        ["gst-launch-1.0", "-q", "fdsrc", "!", "rawvideoparse", f"width={width}", f"height={height}", "format=bgr",
         "framerate=30/1", "!", "videoconvert", "!", "avenc_ffv1", "!", "matroskamux", "!", "filesink", f"location={out}"],
        stdin=subprocess.PIPE,
    )
    differences, soft_all, soft_filled = [], 0, 0
    for i in range(count):
        back = np.linalg.inv(shift @ to_middle[i])
        behind = cv2.warpPerspective(mosaic, back, (width, height), flags=cv2.INTER_CUBIC)
        filled = cv2.warpPerspective(hidden, back, (width, height), flags=cv2.INTER_NEAREST) > 0
        # Where it is seen now, the frame itself is the background.
        clear = free[i] > 0
        differences.append(np.abs(behind.astype(int) - frames[i])[clear].mean())
        behind[clear] = frames[i][clear]
        soft = (alpha[i] > 5) & (alpha[i] < 250)
        soft_all += soft.sum()
        soft_filled += (soft & filled).sum()
        writer.stdin.write(behind.tobytes())
    writer.stdin.close()
    writer.wait()
    print(f"{count} frames; registered background differs from the seen one by {np.mean(differences):.2f} of 255;")
    print(f"{100 * soft_filled / soft_all:.1f} % of the soft pixels were never seen and are filled")


if __name__ == "__main__":
    main()
