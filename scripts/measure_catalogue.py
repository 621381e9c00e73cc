"""Wall time of a folder of photos relative to the U-Net and VAE alone, in turns on the same processor.

    python scripts/measure_catalogue.py --photos 6 --repeats 5

`networks` is one thread that generates the frames of all photos; `folder` is a catalogue run with one worker, from the
open model to the last line of the manifest. What is beside the networks (opening photos, encoding, scores) needs a
second processor: on one that other programs use, the ratio says little.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from fashionflow_benchmarks.timing import hardware
from fashionflow_core import pipeline
from fashionflow_core.catalogue import run as session
from fashionflow_core.catalogue.inputs import read_inputs
from fashionflow_core.catalogue.jobs import RunSpec
from fashionflow_core.config import GenerateSettings
from fashionflow_core.images.loading import load_photo
from fashionflow_core.store.registry import find


def photographed(folder: Path, count: int) -> Path:
    """Noise in the size of a shop's photos, which take a moment to open."""
    folder.mkdir()
    for number in range(count):
        noise = np.random.default_rng(number).integers(0, 256, (40, 30, 3), np.uint8)
        Image.fromarray(noise).resize((1500, 2000), Image.Resampling.BICUBIC).save(folder / f"{number}.jpg")
    return folder


def folder_seconds(photos: Path, out: Path, work: RunSpec) -> float:
    """From the open model to the last line of the manifest."""
    times: list[float] = []

    def recorded(_: Mapping[str, Any]) -> None:
        times.append(time.monotonic())

    def said(line: str) -> None:
        if "model open" in line:
            times.append(time.monotonic())

    entries = read_inputs([str(photos)], out, bytes).entries
    watcher = session.Watcher(recorded=recorded, said=said)
    summary = session.run(session.Request(entries, work, devices=("cpu",)), watcher, page=False)
    assert summary.made == len(entries)
    return times[-1] - times[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mini-latent")
    parser.add_argument("--photos", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--steps", type=int, default=6)
    arguments = parser.parse_args()
    # The worker inherits the variable.
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    model, settings = find(arguments.model), GenerateSettings(frames=arguments.frames, steps=arguments.steps)
    pipe = pipeline.load(model, device="cpu")
    with tempfile.TemporaryDirectory() as temporary:
        photos = photographed(Path(temporary) / "photos", arguments.photos)
        pixels = [load_photo(path) for path in sorted(photos.iterdir())]

        def networks_seconds(count: int = len(pixels)) -> float:
            start = time.monotonic()
            for photo in pixels[:count]:
                assert sum(1 for _ in pipe.generate(photo, settings).frames) == arguments.frames
            return time.monotonic() - start

        networks_seconds(1)  # the first calls take longer
        ratios = []
        for number in range(arguments.repeats):
            out = Path(temporary) / f"out-{number}"
            before = networks_seconds()
            whole = folder_seconds(photos, out, RunSpec(str(model), str(out), "", settings=settings))
            # The mean of two, since what else runs on the machine comes and goes.
            ratios.append(whole / ((before + networks_seconds()) / 2))
            print(f"folder / networks: {ratios[-1]:.3f}", flush=True)
    print(json.dumps({"ratios": ratios, "hardware": hardware(torch.device("cpu"), "float32")}, indent=1))


if __name__ == "__main__":
    main()
