"""Memory use of an evaluation of many clips with all metrics, measured within minutes on a CPU.

    python scripts/measure_evaluate.py --clips samples --weights-dir weights --count 1000

Clips are links: each of `--clips` (as long as a window, and of one size) many times under other names, as real and as
fake. Results of a file (frames, features, measures) are computed once and copied, since equal files have equal numbers;
everything else runs as usual. The last clip goes through the networks again, so that the largest step coincides with
the largest memory. Distances between copies are meaningless.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fashionflow_benchmarks.timing import hardware
from fashionflow_core.evaluate import measure, run
from fashionflow_core.evaluate.parts import ClipParts
from fashionflow_core.evaluate.protocol import EvaluateOptions, Protocol
from fashionflow_core.evaluate.sources import find_clips


def peak_bytes() -> int:
    """Peak memory of this process."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def remembered(function: Callable[..., Any], key: Callable[..., bytes], last: int) -> Callable[..., Any]:
    """Cache a function by key, returning copies; calls from `last` on are computed again."""
    known: dict[bytes, Any] = {}
    calls = 0

    def call(*arguments: Any, **more: Any) -> Any:
        nonlocal calls
        calls += 1
        name = key(*arguments, **more)
        if name not in known or calls >= last:
            known[name] = function(*arguments, **more)
        found = known[name]
        if isinstance(found, tuple):
            return tuple(part.copy() for part in found)
        return found.copy()

    return call


def of_frames(*arguments: Any, **more: Any) -> bytes:
    """Key of the frames among the arguments."""
    total = hashlib.blake2b(repr([x for x in (*arguments, *more.values()) if isinstance(x, str)]).encode())
    for value in (*arguments, *more.values()):
        if isinstance(value, np.ndarray):
            total.update(value[::7, ::8, ::8].tobytes())
        elif isinstance(value, ClipParts):
            total.update(value.frames[::7, ::8, ::8].tobytes())
    return total.digest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, required=True)
    parser.add_argument("--weights-dir", type=Path, required=True)
    parser.add_argument("--count", type=int, default=1000, help="clips per set")
    parser.add_argument("--bootstrap", type=int, default=10)
    options = parser.parse_args()
    count, clips = options.count, find_clips(options.clips)
    for name in ("fvd_features", "vfid_features", "inception_features"):
        setattr(measure, name, remembered(getattr(measure, name), of_frames, 2 * count))
    run.compare = remembered(run.compare, of_frames, count)  # type: ignore[assignment]
    read_clip, read = run.read_clip, {}

    def read_once(looked: Any, *arguments: Any) -> measure.VideoFrames:
        name = looked.source.path.stat().st_ino
        if name not in read:
            read[name] = read_clip(looked, *arguments)
        head = read[name].head.copy()
        return measure.VideoFrames(head, head, 0)

    run.read_clip = read_once  # type: ignore[assignment]
    describe, described = measure.describe, {}

    def describe_once(measured: measure.ClipMeasurement, parts: ClipParts, *arguments: Any) -> None:
        name = of_frames(parts)
        if name not in described:
            described[name] = measure.ClipMeasurement("", "", 0, 0)
            describe(described[name], parts, *arguments)
        measured.numbers, measured.skin = dict(described[name].numbers), described[name].skin
        measured.drift = described[name].drift.copy()

    run.describe = describe_once  # type: ignore[assignment]
    before, start = peak_bytes(), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        copies = [Path(shutil.copy(clip.path, folder)) for clip in clips]
        for which in ("real", "fake"):
            (Path(folder) / which).mkdir()
            for index in range(count):
                source = copies[(index + (which == "fake")) % len(copies)]
                os.link(source, Path(folder) / which / f"clip-{index:05}{source.suffix}")
        shown = {}

        def tell(done: int, total: int) -> None:
            if done in (20, 100, 500, 1000) or done == total:
                shown[str(done)] = peak_bytes()
                print(done, shown[str(done)], file=sys.stderr, flush=True)

        metrics = ("fvd", "vfid", "fid", "is", "psnr", "ssim", "drift")
        protocol = Protocol(metrics, bootstrap=options.bootstrap, fvd_window="first")
        asked, progress = EvaluateOptions(protocol, options.weights_dir), run.EvaluateProgress(clip=tell)
        found = run.evaluate(Path(folder) / "real", Path(folder) / "fake", asked, progress)
    print(
        json.dumps(
            {
                "samples": found["samples"],
                "failed": len(found["failed"]),
                "peak_bytes_before": before,
                "peak_bytes_after_clips": shown,
                "peak_bytes": peak_bytes(),
                "seconds": round(time.perf_counter() - start, 1),
                "hardware": hardware(torch.device("cpu"), "float32"),
            }
        )
    )


if __name__ == "__main__":
    main()
