"""Generated clip: lazy decoding of latents to frames and files."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from fashionflow_core import video
from fashionflow_core.config import EncodeOptions, ModelConfig, ResolvedSettings
from fashionflow_core.diffusion.vae_residual import restore_detail
from fashionflow_core.images.fitting import Box, Fitted
from fashionflow_core.lock.options import LockOptions, LockReport
from fashionflow_core.lock.photo_lock import locked


@dataclass(frozen=True)
class Clip:
    """One generated video: its latents, decoded on demand.

    Attributes:
        count, fps, height, width: properties of the video, without the pad bars of the fit.
        latents: float32 (1, c, count, h, w); for a motion model the channels at each frame's time.
        metadata: origin of the video, for the file's metadata.
        decode: function from latents to a new iterator of frames.
        warnings: remarks on the photo, one line each.
        lock: what the photo lock did to the frames, complete once they were all taken; None without one. Its numbers of
            frames are those of generated frames, before retiming.
    """

    count: int
    fps: float
    height: int
    width: int
    latents: Tensor = field(repr=False)
    metadata: dict[str, str]
    decode: Callable[[], Iterator[np.ndarray]] = field(repr=False)
    warnings: tuple[str, ...] = ()
    lock: LockReport | None = None

    @property
    def frames(self) -> Iterator[np.ndarray]:
        """The frames, uint8 (height, width, 3), decoded on demand; each iteration starts at the first."""
        return self.decode()

    def save(self, path: str | Path, options: EncodeOptions = EncodeOptions(), **changes: Any) -> video.VideoInfo:
        """Write the video; its suffix determines the format. An existing file is replaced atomically.

        Args:
            path: output file.
            options, changes: as in `video.write`, such as crf=30.

        Raises:
            FashionFlowError: as `video.write`, and as decoding.
        """
        return video.write(self.frames, path, self.fps, self.count, self.metadata, options, **changes)


def assemble(
    config: ModelConfig,
    request: ResolvedSettings,
    fitted: Fitted,
    latents: Tensor,
    item: int,
    decode: Callable[[Tensor, Box, int], Iterator[np.ndarray]],
) -> Clip:
    """Make a clip of generated latents; `decode` takes latents, the box to keep, and frames per chunk."""

    def frames() -> Iterator[np.ndarray]:
        decoded = decode(latents, fitted.box, request.decode_chunk)
        if request.interpolate == 1:
            return decoded
        return restore_detail(decoded, request.interpolate, None, config.interpolate_mixture)

    report = None
    if request.lock != "off":
        photo = fitted.box.cut(fitted.pixels)
        frames, report = locked(frames, photo, LockOptions(request.lock))
    return Clip(
        count=latents.shape[2],
        fps=request.fps,
        height=fitted.box.height,
        width=fitted.box.width,
        latents=latents,
        metadata=describe(config.name, request, item),
        decode=frames,
        lock=report,
    )


def describe(model: str, request: ResolvedSettings, item: int, repo: str = "", revision: str = "") -> dict[str, str]:
    """Metadata on the origin of a video, for its file; of generators also the source of their weights, if known."""
    filled = {"fashionflow_interpolate": str(request.interpolate)} if request.interpolate != 1 else {}
    motion = request.motion
    moved = {"fashionflow_motion": motion.kind, "fashionflow_turn": f"{motion.turn:g}"} if motion else {}
    moved |= {"fashionflow_lock": request.lock} if request.lock != "off" else {}
    moved |= {"fashionflow_loop": "true"} if motion and motion.loop else {}
    guidance = {
        "fashionflow_guidance": f"{request.guidance_scale:g}",
        "fashionflow_guidance_interval": "{:g} {:g}".format(*request.guidance_interval),
    }
    if request.generator:
        guidance = {}
    return (
        {
            "title": f"FashionFlow, model {model}",
            "fashionflow_model": model,
            "fashionflow_seed": str(request.seed),
            "fashionflow_item": str(item),
            "fashionflow_scheduler": request.scheduler,
            "fashionflow_steps": str(request.steps),
            "fashionflow_fit": request.fit,
        }
        | (
            _of_generator(request, repo, revision)
            if request.generator
            else {"fashionflow_conditioning": request.conditioning}
        )
        | filled
        | moved
        | (guidance if request.guidance_scale != 1 else {})
    )


def _of_generator(request: ResolvedSettings, repo: str, revision: str) -> dict[str, str]:
    asked = request.generator
    if asked is None:
        return {}
    found = {
        "frames": str(request.frames),
        "prompt": asked.prompt,
        "negative_prompt": asked.negative_prompt,
        "duration": "" if asked.duration is None else f"{asked.duration:.12g}",
        "guidance": "" if asked.guidance is None else f"{asked.guidance:g}",
        "megapixels": f"{asked.sizes.pixels / 1e6:g}" if asked.sizes.fixed is None and not asked.sizes.bucket else "",
        "repo": repo,
        "revision": revision,
    }
    return {f"fashionflow_{key}": value for key, value in found.items() if value}
