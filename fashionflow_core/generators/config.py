"""Conventions of a generator: what `ModelConfig` is for models of FashionFlow."""

import math
from dataclasses import dataclass, field

from fashionflow_core.config import (
    MOST_FRAMES,
    GenerateSettings,
    ModelConfig,
    ResolvedGenerator,
    ResolvedSettings,
)
from fashionflow_core.errors import SettingError, option
from fashionflow_core.generators.families import NEGATIVE, PROMPT
from fashionflow_core.utils.frame_sizes import FrameSizes

OWN_SCHEDULER = "own"
_SLOWEST = 2.0  # a clip is played at most this much slower to reach a duration
_LARGEST = 8.3  # megapixels, a frame of 4K


@dataclass(frozen=True)
class GeneratorConfig(ModelConfig):
    """A model whose pipeline or server returns frames.

    Attributes:
        family: title of its row in `families`.
        pipeline: class of diffusers that takes a photo; "" for a remote model.
        frame_step, longest: frames are a multiple of `frame_step`, plus one, at most `longest`.
        sizes: frame sizes.
        guidance: default guidance scale; None: it takes none.
        takes_prompt: whether it takes text.
        schedulers: names that `GenerateSettings.scheduler` may have.
        takes_lists: whether several photos may be generated in one call (`families.Family.takes_lists`).
        licence, is_restricted: of the weights; whether the licence restricts use.
        is_tested: whether the tests run its family.
        repo, revision: where its weights come from and which commit, as far as the folder records it.
    """

    family: str = ""
    pipeline: str = ""
    frame_step: int = 1
    longest: int = 1
    sizes: FrameSizes = field(default=FrameSizes(480 * 832, 16))
    guidance: float | None = None
    takes_prompt: bool = True
    schedulers: tuple[str, ...] = ()
    takes_lists: bool = False
    licence: str = ""
    is_restricted: bool = True
    is_tested: bool = True
    repo: str = ""
    revision: str = ""

    def resolve_frames(self, asked: GenerateSettings) -> ResolvedSettings:
        """As `GenerateSettings.resolve`, which calls it."""
        self._refuse_foreign(asked)
        fps = float(asked.fps or self.fps)
        frames, slowdown = self._length(asked)
        seconds = asked.duration or frames / self.fps
        written = max(1, round(seconds * fps))
        if written > MOST_FRAMES:
            raise SettingError(
                "duration",
                f"{seconds:g} s at {fps:g} frames per second are more than {MOST_FRAMES} frames",
                hint=f"use a shorter {option('duration')} or a lower {option('fps')}",
            )
        guidance = self.guidance if asked.guidance_scale is None else float(asked.guidance_scale)
        return ResolvedSettings(
            seed=int(asked.seed),
            frames=frames,
            fps=fps,
            steps=int(asked.steps or self.steps),
            scheduler=asked.scheduler or OWN_SCHEDULER,
            fit=asked.fit or self.fit,
            size=self._size(asked),
            decode_chunk=int(asked.decode_chunk),
            guidance_scale=1.0 if guidance is None else guidance,
            guidance_interval=(0.0, 1.0),
            conditioning="both",
            interpolate=1,
            interpolate_steps=0,
            interpolate_scheduler="",
            lock=asked.lock or self.lock,
            generator=ResolvedGenerator(
                prompt=(PROMPT if asked.prompt is None else asked.prompt) if self.takes_prompt else "",
                negative_prompt=(NEGATIVE if asked.negative_prompt is None else asked.negative_prompt)
                if self.takes_prompt
                else "",
                guidance=guidance,
                sizes=self._sizes(asked),
                model_fps=self.fps,
                video_frames=written,
                slowdown=slowdown,
                duration=asked.duration,
            ),
        )

    def _refuse_foreign(self, asked: GenerateSettings) -> None:
        """Refuse settings that only models of FashionFlow have, and those that this family lacks."""
        motion = f"leave it out, or use a motion model: {option('model', 'mini')}"
        foreign = {
            "motion": (asked.motion, motion),
            "motion_amount": (asked.motion_amount, motion),
            "loop": (asked.loop or None, motion),
            "conditioning": (asked.conditioning, f"leave {option('conditioning')} out"),
            "guidance_interval": (
                None if tuple(asked.guidance_interval) == (0.0, 1.0) else asked.guidance_interval,
                f"leave {option('guidance_interval')} out",
            ),
            "interpolate": (None if asked.interpolate == 1 else asked.interpolate, f"use {option('fps')}"),
        }
        for name, (value, hint) in foreign.items():
            if value is not None:
                raise SettingError(name, f"{self.name} ({self.family}) has no such setting", hint=hint)
        for name in ("prompt", "negative_prompt"):
            text = getattr(asked, name) or ""
            # As in the metadata of a video, where it is kept: neither NUL nor half a surrogate pair.
            if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
                raise SettingError(name, "not text that UTF-8 can hold", hint="remove its control characters")
            if not self.takes_prompt and getattr(asked, name) is not None:
                raise SettingError(name, f"{self.name} ({self.family}) takes no text", hint=f"leave {option(name)} out")
        if asked.guidance_scale is not None and self.guidance is None:
            raise SettingError(
                "guidance_scale",
                f"{self.name} ({self.family}) has no guidance argument: its guider component sets the scale",
                hint=f"leave {option('guidance_scale')} out",
            )
        if asked.scheduler is not None and asked.scheduler not in self.schedulers:
            taken = f"it takes: {', '.join(self.schedulers)}" if self.schedulers else "it has its own"
            raise SettingError(
                "scheduler",
                f"{self.name} ({self.family}) cannot be sampled with {asked.scheduler}",
                hint=f"{taken}; leave {option('scheduler')} out",
            )

    def _length(self, asked: GenerateSettings) -> tuple[int, float]:
        """Frames to generate, and how much slower than generated they are played."""
        step = self.frame_step
        if asked.frames is not None:
            frames = int(asked.frames)
            below = min((frames - 1) // step * step + 1, self.longest)
            if frames != below or frames < 2:
                above = below + step
                near = [str(n) for n in (below, above) if 1 < n <= self.longest]
                rule = f"{step}k+1" if step > 1 else "2 or more"
                raise SettingError(
                    "frames",
                    f"{frames} is not possible with {self.name} ({self.family}): it generates {rule} "
                    f"frames, at most {self.longest}",
                    hint=f"use {option('frames', ' or '.join(near))}",
                )
            return frames, 1.0
        if asked.duration is None:
            return self.frames, 1.0
        wanted = asked.duration * self.fps
        frames = min(max(2, math.ceil((wanted - 1) / step - 1e-9) * step + 1), self.longest)
        slowdown = max(1.0, wanted / frames)
        if slowdown > _SLOWEST:
            raise SettingError(
                "duration",
                f"{asked.duration:g} s is too long for {self.name} ({self.family}): it generates at most "
                f"{self.longest / self.fps:.3g} s, which can be played at half speed",
                hint=f"use {option('duration', f'{int(self.longest / self.fps * _SLOWEST)}')} or less",
            )
        return frames, slowdown

    def _sizes(self, asked: GenerateSettings) -> FrameSizes:
        if asked.megapixels is None:
            return self.sizes
        if self.sizes.fixed is not None or self.sizes.bucket:
            raise SettingError(
                "megapixels",
                f"{self.name} ({self.family}) has frame sizes of its own",
                hint=f"leave {option('megapixels')} out",
            )
        least = self.sizes.divisor**2 / 1e6
        if not least <= asked.megapixels <= _LARGEST:
            raise SettingError(
                "megapixels",
                f"must be from {least:.4f} to {_LARGEST:g} for {self.name}, not {asked.megapixels:g}",
                hint=f"use {option('megapixels', f'{self.sizes.pixels / 1e6:g}')}, its own",
            )
        return FrameSizes(round(asked.megapixels * 1e6), self.sizes.divisor)

    def _size(self, asked: GenerateSettings) -> tuple[int, int] | None:
        if asked.size is None:
            return None
        if asked.megapixels is not None:
            raise SettingError("size, megapixels", "mutually exclusive", hint="omit one")
        if isinstance(asked.size, str):
            raise SettingError(
                "size", f"{self.name} ({self.family}) has frame sizes of its own", hint=f"use {option('megapixels')}"
            )
        height, width = int(asked.size[0]), int(asked.size[1])
        if height * width > _LARGEST * 1e6:
            near = self.sizes.nearest(height, width)
            raise SettingError(
                "size",
                f"{height}x{width} is too large for {self.name}: at most {_LARGEST:g} megapixels",
                hint=f"the nearest one (height x width): {option('size', f'{near[0]}x{near[1]}')}",
            )
        if near := self.sizes.check(height, width):
            raise SettingError(
                "size",
                f"{height}x{width} is not possible with {self.name} ({self.family})",
                hint=f"the nearest one (height x width): {option('size', near)}",
            )
        return height, width
