"""Small sets of clips on the disk, for tests of what judges them."""

from pathlib import Path

import numpy as np
from golden.named_weights import named_video
from PIL import Image

from fashionflow_core import video

SHAPE = (16, 48, 32)  # frames, height, width


def named_clip(name: str, shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    return named_video(name, shape)


def write_clip(path: Path, frames: np.ndarray, fps: float = 25) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    video.write(iter(frames), path, fps, len(frames))
    return path


def write_frames(folder: Path, frames: np.ndarray, first: int = 1, step: int = 1) -> Path:
    folder.mkdir(parents=True)
    for index, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"frame-{first + index * step}.png")
    return folder


def write_set(folder: Path, kind: str, count: int = 5, shape: tuple[int, int, int] = SHAPE) -> Path:
    """`clip 0.mp4`, `clip 1.mp4` and so on: the names of two sets are the same, the clips are not."""
    for index in range(count):
        write_clip(folder / f"clip {index}.mp4", named_clip(f"set:{kind}:{index}", shape))
    return folder
