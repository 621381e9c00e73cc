"""Processor time of marks and result tables in a catalogue: per item, and as a share of the making of its videos.

    python scripts/measure_marking.py [--items 1000] [--video SECONDS]

Marks are timed as `video.writing` and `video.poster` write and verify them, on a copy of one MP4 and one JPEG per item;
tables as `catalogue.results` writes them from a manifest of so many lines. SECONDS is what one video of the run takes.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from fashionflow_core import video
from fashionflow_core.catalogue import results
from fashionflow_core.config import EncodeOptions
from fashionflow_core.video import marking, poster, provenance

SIZE, FRAMES, FPS = (640, 512), 70, 25


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description="Processor time of marks and result tables per item.")
    parser.add_argument("--items", type=int, default=1000)
    parser.add_argument("--video", type=float, help="seconds that one video of the run takes")
    options = parser.parse_args()
    count = options.items
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = {
            "mark of a video: write, read back": _of_video(folder, count),
            "mark of a poster": _of_poster(folder, count),
            "results.csv and results.json": _of_tables(folder, count),
        }
    total = sum(rows.values())
    for label, seconds in (rows | {"together": total}).items():
        print(f"{label:36}  {1e3 * seconds / count:8.3f} ms an item")
    if options.video:
        print(f"{'share of the run':36}  {total / count / options.video:8.4%}")


def _of_video(folder: Path, count: int) -> float:
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 256, (*SIZE, 3), np.uint8)
    shifted = (np.roll(frame, number, axis=1) for number in range(FRAMES))
    video.write(shifted, folder / "v.mp4", FPS, FRAMES, options=EncodeOptions(mark=False, crf=40))
    size = (folder / "v.mp4").stat().st_size

    def mark() -> None:
        with (folder / "v.mp4").open("ab") as file:
            file.write(marking.mp4_box())
        assert provenance.source_type(folder / "v.mp4") == marking.SOURCE_TYPE
        with (folder / "v.mp4").open("ab") as file:
            file.truncate(size)

    return _seconds(mark, count)


def _of_poster(folder: Path, count: int) -> float:
    frame = np.full((*SIZE, 3), 200, np.uint8)
    marked, plain = (
        _seconds(lambda mark=mark: poster.write(folder / "p.jpg", frame, EncodeOptions(mark=mark)), count)
        for mark in (True, False)
    )
    return max(0.0, marked - plain)


def _of_tables(folder: Path, count: int) -> float:
    scores = dict.fromkeys(results.SCORES, 1.25)
    record = {
        "status": "done",
        "source": "photos/women/dress-0000.jpg",
        "seed": 7,
        "model": "mini",
        "codec": "h264",
        "input_hash": "0" * 64,
        "output_hash": "1" * 64,
        "output_bytes": 200_000,
        "settings_hash": "0" * 16,
        "frames": FRAMES,
        "fps": FPS,
        "height": SIZE[0],
        "width": SIZE[1],
        "scores": scores,
        "flags": [],
    }
    with (folder / "manifest.jsonl").open("w") as file:
        for number in range(count):
            names = {"item": f"dress-{number}", "output": f"dress-{number}.mp4", "poster": f"dress-{number}-poster.jpg"}
            file.write(json.dumps(record | names) + "\n")
    return _seconds(lambda: results.write(folder), 1)


def _seconds(work: Callable[[], object], times: int) -> float:
    """Processor seconds of this process for so many calls."""
    start = time.process_time()
    for _ in range(times):
        work()
    return time.process_time() - start


if __name__ == "__main__":
    main()
