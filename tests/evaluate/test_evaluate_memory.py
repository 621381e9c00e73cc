"""An evaluation holds the pixels of a pair of clips at a time, however many there are."""

import os
import tracemalloc
from pathlib import Path

import pytest
from clip_sets import named_clip, write_clip

from fashionflow_core.evaluate.protocol import EvaluateOptions, Protocol
from fashionflow_core.evaluate.run import evaluate

FRAMES, HEIGHT, WIDTH = 16, 64, 48


def peak_bytes(folder: Path, count: int) -> int:
    """Of an evaluation of `count` pairs of one clip, by links."""
    for which in ("real", "fake"):
        clip = write_clip(folder / which / "clip 0.mp4", named_clip(which, (FRAMES, HEIGHT, WIDTH)))
        for index in range(1, count):
            os.link(clip, clip.with_name(f"clip {index}.mp4"))
    tracemalloc.start()
    found = evaluate(
        folder / "real", folder / "fake", EvaluateOptions(Protocol(metrics=("psnr",), bootstrap=0), folder)
    )
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found["samples"]["pairs"] == count
    return peak


@pytest.mark.skipif(not hasattr(os, "link"), reason="clips are hard links here")
def test_pixels_are_let_go(tmp_path: Path):
    peak_bytes(tmp_path / "warm", 2)
    few, many = peak_bytes(tmp_path / "few", 4), peak_bytes(tmp_path / "many", 44)
    pixels = FRAMES * HEIGHT * WIDTH * 3
    assert few > 2 * pixels  # a pair was held
    assert many - few < pixels  # of the 40 pairs more, not one half was
