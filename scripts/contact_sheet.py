"""Contact sheet of videos, one row of frames per video: `python scripts/contact_sheet.py OUT.jpg VIDEO [VIDEO ...]`."""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from fashionflow_core.utils.files import atomic_path
from fashionflow_core.video import read


def sheet(clips: list[np.ndarray], columns: int, height: int) -> Image.Image:
    """Rows of evenly spaced frames; first and last frame of each clip are among them."""
    rows = []
    for frames in clips:
        chosen = frames[np.linspace(0, len(frames) - 1, columns).round().astype(int)]
        row = Image.fromarray(np.concatenate(list(chosen), axis=1))
        rows.append(row.resize((round(row.width * height / row.height), height), Image.Resampling.LANCZOS))
    result = Image.new("RGB", (max(row.width for row in rows), height * len(rows)), "white")
    for index, row in enumerate(rows):
        result.paste(row, (0, index * height))
    return result


def save(image: Image.Image, path: Path) -> None:
    with atomic_path(path) as temporary:
        image.save(temporary, quality=85)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("videos", type=Path, nargs="+")
    parser.add_argument("--columns", type=int, default=8)
    parser.add_argument("--height", type=int, default=200, help="height of a row in pixels")
    args = parser.parse_args()
    save(sheet([read(video) for video in args.videos], args.columns, args.height), args.out)


if __name__ == "__main__":
    main()
