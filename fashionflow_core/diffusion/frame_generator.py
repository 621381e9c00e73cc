"""Clips of frame generators: fitting of the photo, photo lock or fade, retiming, metadata."""

import itertools
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import torch

from fashionflow_core.config import MOST_FRAMES, ResolvedGenerator, ResolvedSettings
from fashionflow_core.diffusion.clip import Clip, describe
from fashionflow_core.diffusion.cost_estimate import RunCost
from fashionflow_core.diffusion.sampling import OnStep, counted, item_generator
from fashionflow_core.errors import FashionFlowWarning, SettingError
from fashionflow_core.generators.config import GeneratorConfig
from fashionflow_core.generators.families import CAPTION
from fashionflow_core.generators.frames import faded, retimed
from fashionflow_core.images.fitting import Fitted, Frame, Photo
from fashionflow_core.images.person import Box
from fashionflow_core.lock.options import LockOptions, LockReport
from fashionflow_core.lock.photo_lock import locked


class FrameSource(Protocol):
    """What generates frames: a pipeline of diffusers or a remote endpoint."""

    device: Any
    dtype: torch.dtype
    weights_bytes: int

    def generate(
        self,
        photos: Sequence[np.ndarray],
        requests: Sequence[ResolvedSettings],
        generators: Sequence[torch.Generator],
        on_step: OnStep,
    ) -> tuple[list[np.ndarray], float]:
        """A clip per photo, uint8 (n, h, w, 3), and their frame rate, from photos of one size, uint8 (h, w, 3).

        Several only where `GeneratorConfig.takes_lists`; their requests differ in texts alone.
        """
        ...


class FrameGenerator:
    """Makes clips of a frame source; what `FashionFlowPipeline` hands a generator's requests to.

    Args:
        source: of the frames.
        config: of the model.
    """

    def __init__(self, source: FrameSource, config: GeneratorConfig) -> None:
        self.source, self.config = source, config

    def generate_batch(
        self,
        photos: Sequence[Photo | Fitted],
        requests: Sequence[ResolvedSettings],
        items: Sequence[int],
        on_step: OnStep | None = None,
    ) -> list[Clip]:
        """As `FashionFlowPipeline.generate_batch`; photos of one frame size in one call where the model takes lists.

        Requests of such a call may also differ in texts, frame rate, duration and lock.
        """
        every = [_asked(request) for request in requests]
        fits = [Frame.of(self.config, request).fitted(photo) for photo, request in zip(photos, requests, strict=True)]
        calls: dict[Any, list[int]] = {}
        for number, (fitted, request, asked) in enumerate(zip(fits, requests, every)):
            alike = (fitted.pixels.shape, request.frames, request.steps, request.scheduler, asked.guidance)
            calls.setdefault(alike if self.config.takes_lists else number, []).append(number)
        tick = counted(on_step, sum(requests[numbers[0]].steps for numbers in calls.values()))
        clips: dict[int, Clip] = {}
        for numbers in calls.values():
            some = [requests[number] for number in numbers]
            generators = [item_generator(request.seed, items[number]) for number, request in zip(numbers, some)]
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", FashionFlowWarning)
                made, rate = self.source.generate([fits[number].pixels for number in numbers], some, generators, tick)
            lines = tuple(str(one.message) for one in caught if issubclass(one.category, FashionFlowWarning))
            for number, frames in zip(numbers, made, strict=True):
                clips[number] = self._clip(fits[number], requests[number], items[number], frames, rate, lines)
                lines = ()  # of the call, told once
        return [clips[number] for number in range(len(requests))]

    def _clip(
        self,
        fitted: Fitted,
        request: ResolvedSettings,
        item: int,
        made: np.ndarray,
        rate: float,
        lines: tuple[str, ...],
    ) -> Clip:
        asked = _asked(request)
        box = came_back(fitted, made.shape[1], made.shape[2])
        kept = np.ascontiguousarray(made[:, box.top : box.top + box.height, box.left : box.left + box.width])
        step, count = rate / request.fps / asked.slowdown, asked.video_frames
        if asked.duration is None:  # as long as what came back, which may be another number of frames
            count = min(MOST_FRAMES, max(1, round(len(kept) / step)))
        elif len(kept) < (count - 1) * step:  # shorter than was asked for: played slower
            step = (len(kept) - 1) / (count - 1)
        begun, report = _begun(_first(fitted, box), kept, request.lock)

        def frames() -> Iterator[np.ndarray]:
            return retimed(begun(), step, count)

        return Clip(
            count=count,
            fps=request.fps,
            height=box.height,
            width=box.width,
            latents=torch.zeros(0),
            metadata=describe(self.config.name, request, item, self.config.repo, self.config.revision),
            decode=frames,
            warnings=lines,
            lock=report,
        )

    def count_steps(self, request: ResolvedSettings) -> int:
        """Denoising steps of one clip."""
        return request.steps

    def plan(self, request: ResolvedSettings, photo: Photo | None) -> RunCost:
        """As `FashionFlowPipeline.plan`; nothing is timed, since one step may take minutes."""
        size = request.size or (self.config.height, self.config.width)
        if photo is not None:
            box = Frame.of(self.config, request).fitted(photo).box
            size = (box.height, box.width)
        guided_steps = request.steps if request.guidance_scale != 1 else 0
        return RunCost.of(
            self.config.name,
            self.source,
            request,
            size,
            {},
            frames=request.video_frames,
            clips=1,
            timesteps=(),
            guided_steps=guided_steps,
            unet_calls=request.steps + guided_steps,
            decode_calls=1,
            seconds=None,
            requirements=getattr(self.source, "requirements", None),
        )


def _asked(request: ResolvedSettings) -> ResolvedGenerator:
    """What a request asks of a generator, checked."""
    asked = request.generator
    if asked is None:
        raise ValueError("the request was resolved for a model of FashionFlow")
    if CAPTION in asked.prompt:
        raise SettingError(
            "prompt", f"{CAPTION} is for lists of photos with a column named caption", hint="write the text itself"
        )
    return asked


def _begun(
    photo: np.ndarray, made: np.ndarray, level: str
) -> tuple[Callable[[], Iterator[np.ndarray]], LockReport | None]:
    """Generated frames, uint8 (n, h, w, 3), that begin with the photo: locked to it, or faded from it.

    A clip is locked before it is retimed, since flow is followed best from frame to frame as generated. Where the lock
    finds no figure, no plain background or another first frame, it leaves all frames alone: then they are faded.
    """
    if level == "off":
        return lambda: faded(photo, iter(made)), None
    lock, report = locked(lambda: iter(made), photo, LockOptions(level))

    def frames() -> Iterator[np.ndarray]:
        found = lock()
        first = next(found)  # whether the lock can be had is known from here on
        return faded(photo, iter(made)) if report.level == "off" else itertools.chain([first], found)

    return frames, report


def came_back(fitted: Fitted, height: int, width: int) -> Box:
    """The part without pad bars of a frame that came back with `height` x `width`, with even sides where it can be.

    Where that is not the size that was asked for, the whole frame is taken to have been resized.
    """
    asked_height, asked_width = fitted.pixels.shape[:2]
    if (asked_height, asked_width) == (height, width):
        return fitted.box
    rows, columns = height / asked_height, width / asked_width
    box = fitted.box
    top, left = round(box.top * rows), round(box.left * columns)
    return replace(
        box,
        top=top,
        left=left,
        height=max(2, min(round(box.height * rows), height - top) // 2 * 2),
        width=max(2, min(round(box.width * columns), width - left) // 2 * 2),
    )


def _first(fitted: Fitted, box: Box) -> np.ndarray:
    """The photo at the size of `box`."""
    photo = np.ascontiguousarray(fitted.box.cut(fitted.pixels))
    if photo.shape[:2] == (box.height, box.width):
        return photo
    return Frame((box.height, box.width), "stretch", "lanczos").fit(photo).pixels
