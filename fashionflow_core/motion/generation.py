"""Generation with motion models: matte, sampling of motion channels, rendering.

Same steps (condition, sample, decode) and sampling loop as for appearance models; encoding of photos and decoding of
latents differ.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fashionflow_core.config import ModelConfig, ResolvedSettings
from fashionflow_core.diffusion.clip import Clip, describe
from fashionflow_core.diffusion.conditioning import Conditioner, clip_pixels
from fashionflow_core.diffusion.cost_estimate import RunCost, timesteps_of
from fashionflow_core.diffusion.sampling import OnStep, counted, item_generator, sampler
from fashionflow_core.errors import SettingError, option
from fashionflow_core.images.fitting import Fitted, Frame, Photo, fit_alike
from fashionflow_core.models.clothes_parser import ClothesParser
from fashionflow_core.models.parser import ParsedPhoto, parse_photo
from fashionflow_core.motion.control import controlled, safe_turn
from fashionflow_core.motion.handmade import handmade_motion
from fashionflow_core.motion.keyframes import KeyframePlan, plan_keyframes, sample_keyframes
from fashionflow_core.motion.prepared import PreparedPhoto
from fashionflow_core.motion.timing import at_times
from fashionflow_core.utils.memory import memory_explained

# Settings that may differ between the items of one U-Net call.
_OF_ITEMS: dict[str, Any] = {"seed": 0, "fit": "pad", "decode_chunk": 1, "size": None}


class MotionGenerator:
    """Generator of clips with a motion model, used by `FashionFlowPipeline`.

    Args:
        networks: networks of a motion model.
        conditioner: conditioner with these networks, for the context.
        config: model.json of the model.
        make_scheduler: function from a name to a new scheduler on the model's noise schedule.

    Attributes:
        clothes: SegFormer that predicts matte and parts instead of the model's parser, or None.
    """

    def __init__(
        self,
        networks: Any,
        conditioner: Conditioner,
        config: ModelConfig,
        make_scheduler: Callable[[str], Any],
    ) -> None:
        self.networks, self.conditioner, self.config = networks, conditioner, config
        self.make_scheduler = make_scheduler
        self.clothes: ClothesParser | None = None

    def generate_batch(
        self,
        photos: Sequence[Photo | Fitted],
        requests: Sequence[ResolvedSettings],
        items: Sequence[int],
        on_step: OnStep | None = None,
        mattes: Sequence[np.ndarray | None] | None = None,
    ) -> list[Clip]:
        """As `FashionFlowPipeline.generate_batch`; clips of one length are denoised together.

        Args:
            photos, requests, items, on_step: as there, with resolved requests.
            mattes: masks of the photos, (h, w), 0 to 1, used unchanged; None: predicted.
        """
        fits = [Frame.of(self.config, one).fitted(photo) for photo, one in zip(photos, requests, strict=True)]
        prepared = [
            PreparedPhoto.of(
                np.ascontiguousarray(fitted.box.cut(fitted.pixels)),  # without pad bars
                self.parse,
                _fitted_mask(mask, fitted),
                str(self.networks.device),
            )
            for fitted, mask in zip(fits, mattes or [None] * len(fits), strict=True)
        ]
        tick = counted(on_step, sum(self.count_steps(request) for request in requests))
        channels: list[Tensor] = [torch.zeros(0)] * len(requests)
        groups: dict[ResolvedSettings, list[int]] = {}
        for number, request in enumerate(requests):
            groups.setdefault(replace(request, **_OF_ITEMS), []).append(number)
        for numbers in groups.values():
            generators = [item_generator(requests[number].seed, items[number]) for number in numbers]
            found = self._motion([prepared[number] for number in numbers], requests[numbers[0]], generators, tick)
            for number, motion in zip(numbers, found):
                channels[number] = motion
        return [self._clip(*made) for made in zip(requests, prepared, channels, items)]

    def parse(self, photo: np.ndarray) -> ParsedPhoto:
        """Matte and parts of a photo, uint8 (h, w, 3): by the installed parser if there is one, else by the model's."""
        return self.parse_alone(photo) if self.clothes is None else self.clothes.parse(photo, self.parse_alone)

    def parse_alone(self, photo: np.ndarray) -> ParsedPhoto:
        """Matte and parts of a photo, uint8 (h, w, 3), as the model's parser predicts them."""
        return parse_photo(self.networks.parse, photo)

    def _motion(
        self,
        prepared: Sequence[PreparedPhoto],
        request: ResolvedSettings,
        generators: Sequence[torch.Generator],
        tick: OnStep,
    ) -> list[Tensor]:
        """Motion channels (4, n, h, w) of each photo at the times of its frames; empty for camera motion."""
        motion = _motion_of(request)
        times, period = frame_times(request)
        found: list[Tensor] = [torch.zeros(0)] * len(prepared)
        moving = [number for number, photo in enumerate(prepared) if photo.moves_figure]
        turns = {n: safe_turn(motion.turn, float(prepared[n].inflation.max()), prepared[n].box) for n in moving}
        if motion.kind == "simple":
            for n in moving:
                seed = int(torch.randint(2**31, (1,), generator=generators[n]))
                channels = handmade_motion(prepared[n].matte.alpha, prepared[n].box, times, seed, turns[n], period)
                found[n] = torch.from_numpy(channels)
            return found
        if not moving:
            return found
        plan = self._plan_keys(request)
        some = [prepared[n] for n in moving]
        with memory_explained(self.networks.device, request.frames):
            content, context = self._condition(some)
            sampled = sample_keyframes(
                plan,
                sampler(self.networks, self.make_scheduler(request.scheduler), self.config, request, tick),
                content,
                context,
                [generators[n] for n in moving],
                self.networks.latent_channels,
            )
        std = torch.tensor(self.config.latents_std)[:, None, None, None]
        for n, latents in zip(moving, sampled.cpu()):
            gain = self.config.shift_gain
            keys = controlled(latents * std, prepared[n].cells, prepared[n].box, motion.kind, turns[n], gain)
            found[n] = at_times(keys, times, plan.spacing, plan.closed)
        return found

    def _condition(self, prepared: Sequence[PreparedPhoto]) -> tuple[Tensor, Tensor]:
        """Photo channels (b, 9, h, w) and context tokens (b, n, d)."""
        pixels, content = self.seen(prepared)
        return content, self.networks.context(pixels, content)

    def seen(self, prepared: Sequence[PreparedPhoto]) -> tuple[Tensor, Tensor]:
        """Input of the context network: CLIP's pixels (b, 3, s, s) and photo channels (b, 9, h, w)."""
        content = torch.from_numpy(np.stack([photo.content for photo in prepared])).to(self.networks.device)
        size = (self.config.height, self.config.width)
        views = [photo.box.resample(photo.pixels, *size).round().clip(0, 255).astype(np.uint8) for photo in prepared]
        return clip_pixels(np.stack(views), self.conditioner.processor, self.config), content

    def _clip(self, request: ResolvedSettings, prepared: PreparedPhoto, channels: Tensor, item: int) -> Clip:
        times, period = frame_times(request)
        height, width, _ = prepared.pixels.shape

        def frames() -> Iterator[np.ndarray]:
            if prepared.moves_figure:
                return prepared.frames(channels)
            return prepared.camera(times, request.seed * 1000 + item, period)

        return Clip(
            count=len(times),
            fps=request.fps,
            height=height,
            width=width,
            latents=channels[None],
            metadata=describe(self.config.name, request, item),
            decode=frames,
            warnings=prepared.warnings,
        )

    def _plan_keys(self, request: ResolvedSettings) -> KeyframePlan:
        times, period = frame_times(request)
        seconds = period or float(times[-1])
        config, divisor = self.config, self.networks.frame_divisor
        plan = plan_keyframes(seconds, config.keyframes, config.keyframe_seconds, bool(period), divisor)
        counts = self.networks.frame_counts
        if counts is not None and (lacking := [w.frames for w in plan.windows if w.frames not in counts]):
            taken = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
            again = option("dynamic_frames", f"4:{config.keyframes}")
            raise SettingError(
                "loop",
                f"one of {seconds:g} s needs {lacking[0]} keyframes, but these engines of {config.name} were built "
                f"for {taken}",
                hint=f"use a longer one, or export the model again: {again}",
            )
        return plan

    def count_steps(self, request: ResolvedSettings) -> int:
        """Denoising steps of one clip."""
        if _motion_of(request).kind == "simple":
            return 0
        return request.steps * len(self._plan_keys(request).windows)

    def plan(self, request: ResolvedSettings, photo: Photo | None, measure: bool) -> RunCost:
        """As `FashionFlowPipeline.plan`."""
        size = request.size or (self.config.height * 2, self.config.width * 2)
        if photo is not None:
            box = Frame.of(self.config, request).fitted(photo).box
            size = (box.height, box.width)
        windows = () if _motion_of(request).kind == "simple" else self._plan_keys(request).windows
        timesteps, guided_steps = timesteps_of(self.make_scheduler, request, self.config.log_snr)
        calls = (len(timesteps) + guided_steps) * len(windows)
        one = self.networks.count_flop(self.config.keyframes)
        flop = {"unet": calls * one["denoise"], "context": one["context"], "parser": one["parse"]}
        count = len(frame_times(request)[0])
        return RunCost.of(
            self.config.name,
            self.networks,
            request,
            size,
            {part: n / 1e12 for part, n in flop.items()},
            frames=count,
            clips=len(windows),
            timesteps=tuple(timesteps),
            guided_steps=guided_steps,
            unet_calls=calls,
            decode_calls=count,
            seconds=self._seconds(request, photo, size) if measure else None,
        )

    def _seconds(self, request: ResolvedSettings, photo: Photo | None, size: tuple[int, int]) -> float:
        """Seconds of sampling and rendering, for the photo or a synthetic one of the video's size."""
        pixels = np.full((*size, 3), 230, np.uint8)
        if photo is None:
            rows, columns = slice(size[0] // 12, -size[0] // 12), slice(size[1] // 3, -size[1] // 3)
            pixels[rows, columns] = (60, 80, 140)
        given = np.zeros(size, np.float32) if photo is None else None
        if given is not None:
            given[pixels[..., 0] < 128] = 1
        start = time.perf_counter()
        (clip,) = self.generate_batch([pixels if photo is None else photo], [request], [0], mattes=[given])
        sampled = time.perf_counter()
        drawn = sum(1 for _, _frame in zip(range(4), clip.frames))
        return sampled - start + (time.perf_counter() - sampled) / drawn * clip.count


def _motion_of(request: ResolvedSettings) -> Any:
    if request.motion is None:
        raise ValueError("the request was resolved for an appearance model")
    return request.motion


def frame_times(request: ResolvedSettings) -> tuple[np.ndarray, float]:
    """Seconds of each frame of the video, (n,), and the period of a loop (0: no loop)."""
    count = request.video_frames
    return np.arange(count) / request.fps, count / request.fps if _motion_of(request).loop else 0.0


def _fitted_mask(mask: np.ndarray | None, fitted: Fitted) -> np.ndarray | None:
    """A mask of the photo's size, float (h, w) in 0..1, fitted like the photo, without pad bars."""
    if mask is None:
        return None
    grey = np.repeat((np.clip(mask, 0, 1) * 255).round().astype(np.uint8)[..., None], 3, axis=2)
    pixels = np.zeros_like(fitted.pixels)
    made = fit_alike(grey, replace(fitted, pixels=pixels), "bilinear")
    return fitted.box.cut(made)[..., 0].astype(np.float32) / 255
