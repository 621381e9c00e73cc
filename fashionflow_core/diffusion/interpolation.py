"""Frame interpolation (paper 3.3) in windows of a clip's length.

Given frames are pinned as in generation; gaps are filled by the sampling loop, or by an interpolator in one call.
Consecutive windows share one given frame, so that there is no jump between them.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, repeat

import numpy as np
import torch
from torch import Tensor

from fashionflow_core.config import ModelConfig, ResolvedSettings
from fashionflow_core.diffusion.conditioning import Conditioner, frames_to_tensor, known_content
from fashionflow_core.diffusion.decoding import check_finite
from fashionflow_core.diffusion.known_frames import KnownFrames
from fashionflow_core.diffusion.sampling import OnStep, Sampler
from fashionflow_core.diffusion.vae_residual import restore_detail
from fashionflow_core.errors import FashionFlowError, SettingError, UsageError
from fashionflow_core.images.fitting import fit, fit_alike
from fashionflow_core.runtimes.interface import Networks
from fashionflow_core.utils.memory import memory_explained


@dataclass(frozen=True)
class GapWindow:
    """A sequence of given frames whose gaps are filled together.

    Attributes:
        start: index of its first given frame.
        given: number of given frames.
        stride: step between given frames in the window.
        frames: frames of the denoised clip, padded after the last given frame to a multiple of the U-Net's divisor.
        skip: frames at its beginning that the previous window has already produced.
    """

    start: int
    given: int
    stride: int
    frames: int
    skip: int

    @property
    def stop(self) -> int:
        """Number of frames up to the last given one; padding after it is dropped."""
        return (self.given - 1) * self.stride + 1


@dataclass(frozen=True)
class GivenFrame:
    """One given frame.

    Attributes:
        latents: latents, (1, c, h, w).
        content: content of the extra input channels, (1, k, h, w).
        photo: pixels, uint8 (height, width, 3), decoded on demand; needed only for the first frame of a window.
    """

    latents: Tensor = field(repr=False)
    content: Tensor | None = field(repr=False)
    photo: Callable[[], np.ndarray]


# Given frames, the first of them, and the window's own generator → latents (1, c, f, h, w).
Make = Callable[[KnownFrames, GivenFrame, torch.Generator], Tensor]


def plan_windows(
    count: int, stride: int, frames: int, divisor: int, lengths: Sequence[int] | None = None
) -> list[GapWindow]:
    """Split given frames into windows of at most `frames` frames.

    All have the same length, since networks are best at their trained length; the last one overlaps instead.

    Args:
        count: number of given frames, at least 2.
        stride: step between given frames in the result.
        frames: frames per window; a multiple of `divisor`.
        divisor: frame divisor of the U-Net.
        lengths: lengths that engines were built for, including `frames`; None: any.

    Raises:
        UsageError: a window is too short for two given frames.
    """
    room = (frames - 1) // stride + 1
    if room < 2:
        raise SettingError("frames", f"a window of {frames} is too short for two frames with {stride - 1} between them")
    given = min(room, count)
    length = -(-((given - 1) * stride + 1) // divisor) * divisor
    if lengths is not None:
        length = min(possible for possible in lengths if possible >= length)
    starts = [*range(0, count - given, given - 1), count - given]
    ends = [0, *(start + given - 1 for start in starts)]  # last given frame of each window's predecessor
    return [
        GapWindow(start, given, stride, length, skip=(end - start) * stride + 1 if number else 0)
        for number, (start, end) in enumerate(zip(starts, ends))
    ]


def plan_passes(
    count: int, factor: int, model: ModelConfig, frames: int, divisor: int, lengths: Sequence[int] | None = None
) -> list[list[GapWindow]]:
    """Windows that interpolate `count` frames to (count - 1) * factor + 1.

    One pass if the model was trained for that stride, else two passes of stride 2.

    Raises:
        UsageError: the model was not trained for it; fewer than two frames; windows too short.
    """
    if count < 2:
        raise UsageError("interpolation: needs at least two frames")
    known = model.interpolate_strides
    strides = (factor,) if factor in known else (2,) * (factor.bit_length() - 1)
    if unknown := [stride for stride in strides if stride not in known]:
        raise SettingError(
            "interpolate",
            f"model {model.name} was not trained for {unknown[0]}",
            hint=f"use one of: {', '.join(map(str, known))}",
        )
    passes = []
    for stride in strides:
        passes.append(plan_windows(count, stride, frames, divisor, lengths))
        count = (count - 1) * stride + 1
    return passes


def of_latents(
    latents: Iterable[Tensor], conditioner: Conditioner, decode: Callable[[Tensor], Iterator[np.ndarray]]
) -> Iterator[GivenFrame]:
    """Generated latents, each (1, c, f, h, w), as given frames; decoded only where pixels are needed."""
    rgb = conditioner.config.known_content == "rgb"
    for clip in latents:
        for latent in clip.split(1, dim=2):

            def photo(latent: Tensor = latent) -> np.ndarray:
                return next(decode(latent))

            pixels = frames_to_tensor(photo()[None], latent.device) if rgb else latent.new_zeros(0)
            yield GivenFrame(latent[:, :, 0], known_content(pixels, latent[:, :, 0], conditioner.config), photo)


def sampled(conditioner: Conditioner, sample: Sampler, null_context: bool) -> Make:
    """Fill windows by the sampling loop, with the context of their first frame, or null for local conditioning.

    Args:
        conditioner: conditioner of the model.
        sample: result of `sampling.sampler`.
        null_context: whether the context is null (local conditioning).
    """

    def make(known: KnownFrames, first: GivenFrame, generator: torch.Generator) -> Tensor:
        context = conditioner.context(first.photo()[None], first.latents)
        return sample(known, torch.zeros_like(context) if null_context else context, [generator])

    return make


def predicted(networks: Networks, on_step: OnStep) -> Make:
    """Fill windows with the linear mixture of their given latents plus the residual of the interpolator.

    Args:
        networks: networks of a model with an interpolator (`ModelConfig.interpolator`).
        on_step: called once per window.
    """

    def make(known: KnownFrames, _first: GivenFrame, _generator: torch.Generator) -> Tensor:
        latents = known.mixed(known.latents) + networks.difference(known.interpolator_input())
        check_finite(latents, "interpolation")
        on_step(1, 1)
        return known.pin(latents)

    return make


class Filler:
    """Interpolator of given frames, window by window, pass by pass.

    Args:
        conditioner: conditioner of the model.
        decode: function of latents (1, c, f, h, w), a box and a chunk that returns frames.
        passes: result of `plan_passes`.
        make: result of `sampled` or `predicted`.
    """

    def __init__(
        self,
        conditioner: Conditioner,
        decode: Callable[..., Iterator[np.ndarray]],
        passes: Sequence[Sequence[GapWindow]],
        make: Make,
    ) -> None:
        self.conditioner, self.decode, self.passes, self.make = conditioner, decode, passes, make

    def fill(self, given: Iterable[GivenFrame], generator: torch.Generator) -> Iterator[Tensor]:
        """Yield latents (1, c, f, h, w) of the longer clip in order, as given frames arrive.

        Args:
            generator: generator of the item; draws the seed of the windows' noise at the start.

        Raises:
            FashionFlowError: fewer given frames than expected.
        """
        pieces: Iterator[Tensor] = iter(())
        for number, windows in enumerate(self.passes):
            seeds = torch.randint(2**62, (len(windows),), generator=generator).tolist()
            source = of_latents(pieces, self.conditioner, self.decode) if number else given
            pieces = self._pass(windows, seeds, source)
        return pieces

    def _pass(
        self, windows: Sequence[GapWindow], seeds: Sequence[int], given: Iterable[GivenFrame]
    ) -> Iterator[Tensor]:
        source, held, first = iter(given), deque[GivenFrame](), 0  # at most one window of them
        for window, seed in zip(windows, seeds):
            while first < window.start:
                held.popleft()
                first += 1
            while len(held) < window.given:
                if (frame := next(source, None)) is None:
                    raise FashionFlowError(
                        f"the video ends early, after {first + len(held)} frames",
                        hint="create or download the video again",
                    )
                held.append(frame)
            latents = torch.stack([frame.latents for frame in held], dim=2)  # (1, c, g, h, w)
            contents = [frame.content for frame in held if frame.content is not None]
            content = torch.stack(contents, dim=2) if contents else None
            fill = self.conditioner.config.mask_fill
            known = KnownFrames.every(latents, window.stride, window.frames, content, fill)
            made = self.make(known, held[0], torch.Generator("cpu").manual_seed(seed))
            yield made[:, :, window.skip : window.stop]

    def frames(
        self, given: Iterator[np.ndarray], request: ResolvedSettings, generator: torch.Generator
    ) -> Iterator[np.ndarray]:
        """Interpolate frames of a video, uint8 (h, w, 3) (`FashionFlowPipeline.interpolate`)."""
        config = self.conditioner.config
        if (first := next(given, None)) is None:
            raise FashionFlowError("given: no frames", hint="create or download the video again")
        fitted = fit(first, config.height, config.width, request.fit, config.resample)
        originals = deque[np.ndarray]()

        def encoded() -> Iterator[GivenFrame]:
            for frame in chain((first,), given):
                pixels = fit_alike(frame, fitted, config.resample)
                originals.append(fitted.box.cut(pixels))
                yield GivenFrame(*self.conditioner.encode_frame(pixels, generator), lambda pixels=pixels: pixels)

        def decoded() -> Iterator[np.ndarray]:
            for latents in self.fill(encoded(), generator):
                yield from self.decode(latents, fitted.box, request.decode_chunk)

        with memory_explained(self.conditioner.networks.device, request.frames):
            given_again = (originals.popleft() for _ in repeat(None))
            yield from restore_detail(decoded(), request.interpolate, given_again, config.interpolate_mixture)
