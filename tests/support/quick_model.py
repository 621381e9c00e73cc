"""A model without networks, for tests of what is around them: opens in no time, its clips are the photo getting darker.

What it does beyond that is in the photo's name or in the environment: a worker's only ties to a test.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from fashionflow_core.config import GenerateSettings, LoadOptions, ModelConfig, ResolvedSettings
from fashionflow_core.errors import FashionFlowError, OutOfMemory

OPENER = "quick_model:load"
LOG = "QUICK_MODEL_LOG"  # a file that gets a line for each batch: how many photos, and their mean colours
SECONDS = "QUICK_MODEL_SECONDS"  # how long a clip takes
MEMORY = "QUICK_MODEL_MEMORY"  # how many photos fit
PATIENCE = "QUICK_MODEL_PATIENCE"  # seconds that a run waits for what is being made, once it is to stop
HOLD = "QUICK_MODEL_HOLD"  # a file: while it is there, HELD photos take for ever, ENDLESS ones step by step
# Blue of a photo whose mean is (red 250, green 5): what it does.
ENDLESS, DARK, DEADLY, POISON, STILL, UNLUCKY, HELD = 0, 40, 80, 120, 160, 200, 240


@dataclass
class QuickClip:
    """Four frames."""

    photo: np.ndarray
    moves: bool
    fps: float
    metadata: dict[str, str]
    height: int
    width: int
    count: int = 4
    warnings: tuple[str, ...] = ()
    lock: None = None

    @property
    def frames(self) -> Iterator[np.ndarray]:
        for number in range(self.count):
            yield (self.photo * (1 - 0.02 * number * self.moves)).astype(np.uint8)


class QuickPipeline:
    """Stands where `FashionFlowPipeline` does."""

    def __init__(self, config: ModelConfig, device: str) -> None:
        self.config, self.networks = config, SimpleNamespace(device=device)

    def resolve(self, settings: GenerateSettings) -> ResolvedSettings:
        return settings.resolve(self.config)

    def generate_batch(
        self,
        photos: Sequence[Any],
        settings: Sequence[GenerateSettings],
        items: Sequence[int],
        on_step: Callable[..., None],
    ) -> list[QuickClip]:
        if log := os.environ.get(LOG):
            with Path(log).open("a") as file:
                file.write(f"{len(photos)} {' '.join(str(_mean(photo)) for photo in photos)}\n")
        if len(photos) > int(os.environ.get(MEMORY, "1000")):
            raise OutOfMemory(f"out of memory with {len(photos)} photos")
        for photo in photos:
            red, green, blue = _mean(photo)
            if red > 240 and green < 15:
                if abs(blue - DEADLY) < 10:
                    os.kill(os.getpid(), signal.SIGKILL)
                if abs(blue - POISON) < 10:
                    raise FashionFlowError("this photo is poison")
                if abs(blue - DARK) < 10:
                    raise OutOfMemory("out of memory, always")
                while abs(blue - HELD) < 10 and Path(os.environ.get(HOLD, "")).is_file():
                    time.sleep(0.01)
                while abs(blue - ENDLESS) < 10 and Path(os.environ.get(HOLD, "")).is_file():
                    time.sleep(0.01)
                    on_step(1, 10)
        requests = [self.resolve(one) for one in settings]
        for step in range(10):
            time.sleep(float(os.environ.get(SECONDS, "0")) / 10)
            on_step(step + 1, 10)
        return [
            QuickClip(
                photo.pixels,
                _moves(_mean(photo), request.seed),
                request.fps,
                {"fashionflow_scheduler": request.scheduler, "fashionflow_steps": str(request.steps)},
                photo.box.height,
                photo.box.width,
            )
            for photo, request in zip(photos, requests)
        ]


def _moves(mean: tuple[int, int, int], seed: int) -> bool:
    """STILL photos never do, UNLUCKY ones with every third seed."""
    if mean[0] < 240 or mean[1] > 15 or (abs(mean[2] - STILL) > 10 and abs(mean[2] - UNLUCKY) > 10):
        return True
    return seed % 3 == 1 and abs(mean[2] - UNLUCKY) < 10


def _mean(photo: Any) -> tuple[int, int, int]:
    red, green, blue = photo.pixels.reshape(-1, 3).mean(axis=0).round().astype(int)
    return int(red), int(green), int(blue)


def load(folder: Path, options: LoadOptions) -> QuickPipeline:
    """As `pipeline.load`."""
    return QuickPipeline(ModelConfig.load(folder), options.device)
