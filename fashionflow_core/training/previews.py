"""Preview videos during training."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fashionflow_core import video
from fashionflow_core.config import GenerateSettings
from fashionflow_core.diffusion.schedulers import make_scheduler
from fashionflow_core.images.loading import load_photo
from fashionflow_core.pipeline import FashionFlowPipeline
from fashionflow_core.training.config import TrainConfig
from fashionflow_core.training.targets import Target
from fashionflow_core.utils.files import atomic_path

_STRIP_FRAMES, _STRIP_HEIGHT = 6, 160  # frames side by side, and their height in pixels


class Previews:
    """Videos of a few photos from a target's networks, with the noise schedule in `scheduler/` of the run folder.

    Without `previews.photos` the first frames of `clips` are used.
    """

    def __init__(self, target: Target, config: TrainConfig, folder: Path, clips: Any) -> None:
        self.config, self.folder = config, folder
        self.target = target
        self.photos: list[np.ndarray] = [load_photo(path) for path in config.previews.photos]
        if not self.photos and clips is not None:
            self.photos = [np.asarray(clips[i].first_frame) for i in range(min(config.previews.count, len(clips)))]

    def make(self, step: int) -> list[Path]:
        """Write `previews/step-STEP-N.mp4` with the current weights, and a strip of its frames as `.jpg`."""
        networks: Any = self.target.networks
        training = [(module, module.training) for module in (networks.unet, networks.adapter, networks.image_encoder)]
        for module, _ in training:
            module.eval()
        pipe = FashionFlowPipeline(
            networks, self.target.processor, self.target.model, lambda name: make_scheduler(self.folder, name)
        )
        asked = self.config.previews
        settings = GenerateSettings(seed=asked.seed, steps=asked.steps or None, frames=self.target.frames, lock="off")
        folder = self.folder / "previews"
        folder.mkdir(exist_ok=True)
        paths = []
        try:
            for number, photo in enumerate(self.photos):
                clip = pipe.generate(photo, settings, item=number)
                paths.append(folder / f"step-{step:09}-{number}.mp4")
                clip.save(paths[-1])
                write_strip(paths[-1], paths[-1].with_suffix(".jpg"))
        finally:
            for module, mode in training:
                module.train(mode)
        return paths


def write_strip(clip: Path, target: Path) -> None:
    """Write evenly spaced frames of a video side by side as a JPEG, the first and the last included."""
    frames = list(video.iter_frames(clip))
    count = min(_STRIP_FRAMES, len(frames))
    chosen = [frames[round(index * (len(frames) - 1) / max(count - 1, 1))] for index in range(count)]
    height, width = chosen[0].shape[:2]
    size = (max(1, round(width * _STRIP_HEIGHT / height)), _STRIP_HEIGHT)
    strip = np.concatenate([np.asarray(Image.fromarray(frame).resize(size)) for frame in chosen], axis=1)
    with atomic_path(target) as temporary:
        Image.fromarray(strip).save(temporary, format="JPEG", quality=88)
