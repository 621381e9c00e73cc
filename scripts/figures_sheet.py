"""Contact sheet of 3-D figures: photo above a frame after a turn.

python scripts/figures_sheet.py docs/img/figures-3d.jpg 3 8 10 ...
"""

import sys
from pathlib import Path

import numpy as np
from contact_sheet import labelled
from PIL import Image

from fashionflow_core.motion.timing import SECONDS
from fashionflow_core.synthetic.figures3d.clip import Figure3d

HEIGHT, WIDTH = 360, 288
COLUMNS = 8


def column(seed: int) -> np.ndarray:
    """Photo and turned frame of a figure, uint8 (2 h, w, 3)."""
    figure = Figure3d(seed, SECONDS, (2 * HEIGHT, 2 * WIDTH))
    times = np.arange(0, SECONDS, 0.04)
    yaw = figure.placed.figure.motion.yaw(times)
    turned = float(times[np.argmax(np.abs(yaw - yaw[0]))])
    pictures = figure.frames_at(np.array([0.0, turned]))
    small = [Image.fromarray(p).resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS) for p in pictures]
    return np.concatenate([np.asarray(p) for p in small])


def main() -> None:
    """Draw the seeds on the command line."""
    path, seeds = Path(sys.argv[1]), [int(seed) for seed in sys.argv[2:]]
    columns = [column(seed) for seed in seeds]
    rows = [np.concatenate(columns[k : k + COLUMNS], 1) for k in range(0, len(columns), COLUMNS)]
    picture = labelled(Image.fromarray(np.concatenate(rows)), [], ["photo", "turned"] * len(rows))
    picture.save(path, quality=74, optimize=True)


if __name__ == "__main__":
    main()
