"""Generated clip: lazy decoding of latents to frames and files."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from fashionflow_core import video
from fashionflow_core.config import EncodeOptions, ModelConfig, ResolvedSettings
from fashionflow_core.diffusion.vae_residual import restore_detail
from fashionflow_core.errors import SettingError
from fashionflow_core.images.fitting import Box, Fitted
from fashionflow_core.lock.options import LockOptions, LockReport
from fashionflow_core.lock.photo_lock import locked
from fashionflow_core.video import finishing, poster
from fashionflow_core.video.finishing import FinishOptions, Footage


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

    def save(
        self,
        path: str | Path,
        options: EncodeOptions = EncodeOptions(),
        finish: FinishOptions = FinishOptions(),
        **changes: Any,
    ) -> video.VideoInfo:
        """Write the video; its suffix determines the format. An existing file is replaced atomically.

        Args:
            path: output file.
            options, changes: as in `video.write`, such as crf=30.
            finish: at most one target, canvas and overlays; `{columns}` of its caption are not filled in.

        Raises:
            UsageError: several targets, for which `save_files` writes a file each; or a suffix that the target does
                not take.
            FashionFlowError: as `video.finishing.write`, and as decoding.
        """
        if len(finish.targets) > 1:
            raise SettingError("for", "several targets have a file each", hint="use save_files")
        (info,) = self.save_files(path, finish, options, **changes)
        return info

    def save_files(
        self, path: str | Path, finish: FinishOptions, options: EncodeOptions = EncodeOptions(), **changes: Any
    ) -> list[video.VideoInfo]:
        """Write one file per target from frames that are decoded once: of `dress.mp4` `dress.amazon.mp4` and so on.

        Args:
            path: output file; with several targets their names are added to it (`FinishOptions.files`).
            finish: targets, canvas and overlays.
            options, changes: as in `save`.

        Returns:
            The files, in the order of the targets.

        Raises:
            UsageError, FashionFlowError: as `save`.
        """
        path, options = Path(path), replace(options, **changes)
        paths = [path.with_name(name) for name in finish.files(path.stem, path.suffix)]
        for file in paths:
            video.check_options(file, finish.encode(options, file))
        finishers = finish.finishers(self._footage)
        with finishing.replayed(self.frames, finishers, paths) as generated:
            return [
                finishing.write(finisher, generated(finisher), file, self.metadata, options)
                for finisher, file in zip(finishers, paths, strict=True)
            ]

    def save_poster(
        self,
        path: str | Path,
        options: EncodeOptions = EncodeOptions(),
        finish: FinishOptions = FinishOptions(),
        **changes: Any,
    ) -> Path:
        """Write the sharpest frame away from the first one as PNG or JPEG, marked and signed as `save` does.

        Args:
            path: output file, ending in .png, .jpg or .jpeg.
            options, finish, changes: as in `save`.

        Raises:
            FashionFlowError: as `video.poster.write`, and as decoding.
        """
        picker = poster.PosterPicker()
        for frame in self.frames:
            picker.add(frame)
        assert picker.poster is not None
        shown = finish.finishers(self._footage)[0].still(picker.poster)
        poster.write(Path(path), shown, replace(options, **changes), self.metadata)
        return Path(path)

    @property
    def _footage(self) -> Footage:
        loop = self.metadata.get("fashionflow_loop") == "true"
        return Footage(self.count, self.fps, self.height, self.width, loop)


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
