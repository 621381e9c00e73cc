"""Cache of encoded clips: safetensors shards with a JSON index.

Latents are stored as the VAE's posterior (mean and log-variance) without normalisation: training samples from it, and
normalises with its own statistics. `dataset/prepare.py` writes such folders.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from fashionflow_core.config import ModelConfig
from fashionflow_core.errors import FashionFlowError, UsageError, command
from fashionflow_core.utils.device import resolve_dtype, short_name
from fashionflow_core.utils.hashing import sha256

INDEX_FILE = "index.json"
FORMAT = 1
# Fields of `ModelConfig` that cached clips depend on; the others may differ.
CONVENTIONS = ("height", "width", "fit", "resample", "vae_range", "vae_patch_size", "clip_rescale_twice")
_AGAIN = "delete this file, then prepare the cache again with the same command"
ENCODERS = ("vae", "image_encoder")


@dataclass(frozen=True)
class Recipe:
    """Settings that determine the content of a cache, together with the videos.

    Attributes:
        config: model.json of the model.
        networks: ids of its encoders (`network_id`).
        dtype: dtype of the encoders.
        frames: frames per clip.
        strides: steps between a clip's frames in its video.
        clips_per_video, seed: number of windows drawn per video, and their seed.
    """

    config: ModelConfig
    networks: Mapping[str, str]
    dtype: str
    frames: int
    strides: tuple[int, ...]
    clips_per_video: int
    seed: int

    def settings(self) -> dict[str, Any]:
        """All fields by name, as in JSON; two runs on one cache must agree on them."""
        own = {name: getattr(self, name) for name in ("dtype", "frames", "clips_per_video", "seed")}
        model = {name: getattr(self.config, name) for name in CONVENTIONS}
        return own | {"strides": list(self.strides)} | model | dict(self.networks)

    @classmethod
    def of(
        cls,
        model: Path,
        device: torch.device,
        dtype: str = "auto",
        frames: int | None = None,
        strides: Sequence[int] = (1, 2, 4),
        clips_per_video: int = 1,
        seed: int = 0,
    ) -> Self:
        """The recipe for a model folder.

        Args:
            device: device of the networks, which `auto` depends on.
            dtype: one of auto, fp32, bf16 or fp16.
            frames: frames per clip; None: those of the model.

        Raises:
            FashionFlowError: a part of the model is missing or broken.
            UsageError: no such dtype, or a motion model.
        """
        config = ModelConfig.load(model)
        if config.latents == "motion":
            raise UsageError(
                f"{config.name}: a motion model has no latents of videos",
                hint=f"fit motion clips: {command('data prepare', 'VIDEOS', out='DIR', model=config.name)}",
            )
        return cls(
            config=config,
            networks={part: network_id(model, part, config) for part in ENCODERS},
            dtype=short_name(resolve_dtype(dtype, device)),
            frames=frames or config.frames,
            strides=tuple(strides),
            clips_per_video=clips_per_video,
            seed=seed,
        )


@dataclass(frozen=True)
class CachedClip:
    """One encoded clip: f frames of H x W pixels, latents of h x w.

    Attributes:
        latents_mean, latents_logvar: VAE posterior of each frame, float32 (f, c, h, w), not normalised.
        rgb: frames averaged at latent resolution, uint8 (f, h, w, 3) (paper 3.3: the mask channels).
        first_frame: frame 0 as fitted, uint8 (H, W, 3).
        clip_hidden_states: last hidden state of the image encoder for frame 0, before the adapter, float32 (n, d).
        info: source (name), sha256 (of its bytes), split, start, stride, frames, fps (of the clip: the source's by
            the stride), index.
    """

    latents_mean: Tensor
    latents_logvar: Tensor
    rgb: NDArray[np.uint8]
    first_frame: NDArray[np.uint8]
    clip_hidden_states: Tensor
    info: dict[str, Any]


class LatentCache:
    """Clips of a cache by number, loaded on demand.

    It keeps no file open, so it can be sent to the workers of a DataLoader. A concurrent `data prepare` on the same
    folder has no effect: clips remain those of the index at opening.
    """

    def __init__(self, folder: str | Path, split: str | None = None) -> None:
        """Open a cache.

        Args:
            folder: folder of the cache.
            split: folder name (train, test, ...) that the clips' sources must be in; None: all clips.

        Raises:
            FashionFlowError: not a cache, or of another version.
        """
        self.folder = Path(folder)
        self.index = read_index(self.folder)
        self.config = _model_config(self.index["model"])
        self._checked: set[str] = set()
        self._clips = [clip for clip in self.index["clips"] if split is None or clip["split"] == split]

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, number: int) -> CachedClip:
        """Clip `number`, from 0.

        Raises:
            IndexError: no such clip.
            FashionFlowError: its shard is missing or damaged, or the clip contains values that are not finite.
        """
        clip = self._clips[number]
        tensors = self._tensors(clip, "latents_mean", "latents_logvar", "rgb", "first_frame", "clip_hidden_states")
        mean, logvar, rgb, first_frame, hidden_states = tensors
        info = {key: value for key, value in clip.items() if key not in ("shard", "key")}
        info["index"] = number % len(self._clips)
        return CachedClip(mean, logvar, rgb.numpy(), first_frame.numpy(), hidden_states, info)

    def __iter__(self) -> Iterator[CachedClip]:
        return (self[number] for number in range(len(self)))

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation of each latent channel over all frames, of posterior samples: float32 (c,).

        Raises:
            FashionFlowError: no clips, or a shard is missing or damaged.
        """
        if not self._clips:
            raise FashionFlowError(f"{self.folder}: contains no clips", hint=f"prepare some: {command('data prepare')}")
        # All clips have one size, so their moments have equal weight: mean, its square, and variance, (3, c).
        moments = torch.stack([self._tensors(clip, "moments")[0] for clip in self._clips]).mean(dim=0)
        mean, square, variance = moments
        return mean.float(), (square - mean**2 + variance).clamp_min(0).sqrt().float()

    def check(self, config: ModelConfig, folder: str | Path | None = None) -> None:
        """Reject a model that does not match these latents.

        Args:
            config: model.json of the model.
            folder: the model folder; if given, the weights of its VAE and image encoder are compared as well.

        Raises:
            FashionFlowError: a mismatch; the message contains both values.
        """
        if len(config.latents_mean) != len(self.config.latents_mean):
            self._refuse("latent channels", len(self.config.latents_mean), len(config.latents_mean), config)
        for name in CONVENTIONS:
            if getattr(config, name) != getattr(self.config, name):
                self._refuse(name, getattr(self.config, name), getattr(config, name), config)
        if folder is None:
            return
        for part in ENCODERS:
            if (found := network_id(Path(folder), part, config)) != self.index["networks"][part]:
                self._refuse(part, self.index["networks"][part], found, config)

    def _refuse(self, what: str, ours: Any, theirs: Any, config: ModelConfig) -> None:
        raise FashionFlowError(
            f"{self.folder}: encoded with {what} {ours} (model {self.config.name}), "
            f"but model {config.name} has {what} {theirs}",
            hint=f"prepare another cache: {command('data prepare', 'VIDEOS', out='CACHE', model='MODEL')}",
        )

    def _tensors(self, clip: dict[str, Any], *names: str) -> list[Tensor]:
        path = self.folder / clip["shard"]
        try:
            if clip["shard"] not in self._checked and not is_whole(self.index, path):
                raise FashionFlowError(f"{path}: damaged (SHA-256 differs from the recorded one)", hint=_AGAIN)
            self._checked.add(clip["shard"])
            with safe_open(path, framework="pt") as shard:
                tensors = [shard.get_tensor(f"{clip['key']}.{name}") for name in names]
        except (OSError, SafetensorError) as error:
            raise FashionFlowError(
                f"{path}: missing or damaged ({' '.join(str(error).split())})", hint=_AGAIN
            ) from None
        for name, tensor in zip(names, tensors):
            if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
                at = f", frame {clip['start']} on" if "start" in clip else ""
                raise FashionFlowError(
                    f"{path}: clip {clip['key']} (of {clip['source']}{at}) has values in {name} that are not finite "
                    "numbers",
                    hint=_AGAIN,
                )
        return tensors


def is_whole(index: Mapping[str, Any], path: Path) -> bool:
    """Whether a shard has its recorded hash; caches of older versions have none.

    Raises:
        OSError: it cannot be read.
    """
    recorded = index.get("shards", {}).get(path.name)
    return recorded is None or sha256(path) == recorded


def _model_config(values: Mapping[str, Any]) -> ModelConfig:
    """ModelConfig from an index; unknown fields of newer versions are ignored."""
    known = {field.name for field in fields(ModelConfig)}
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    return ModelConfig(**{name: value for name, value in values.items() if name in known})


def read_index(folder: Path) -> dict[str, Any]:
    """The index of a cache.

    Raises:
        FashionFlowError: missing, or of an unsupported version.
    """
    path = folder / INDEX_FILE
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise FashionFlowError(
            f"{folder}: not a cache of clips (no {INDEX_FILE})",
            hint=f"create one: {command('data prepare', 'VIDEOS', out='DIR')}",
        ) from None
    except (OSError, ValueError) as error:
        raise FashionFlowError(f"{path}: unreadable ({error})", hint="prepare the cache again") from None
    needed = {"settings", "networks", "model", "sources", "clips"}
    if not isinstance(index, dict) or index.get("format") != FORMAT or not needed <= set(index):
        raise FashionFlowError(
            f"{path}: not an index of format {FORMAT}", hint="prepare the cache again with this fashionflow"
        )
    return index


_DECODING = ("decoder.", "post_quant_conv.")


def network_id(folder: Path, part: str, config: ModelConfig) -> str:
    """Identity of an encoder: a hash of its weights and of the conventions of its input.

    The same weights have the same id regardless of the number of files and the library version. A VAE's decoder is
    excluded: training it does not invalidate the output of its encoder.

    Args:
        folder: the model folder.
        part: one of `ENCODERS`.

    Raises:
        FashionFlowError: missing or damaged part.
    """
    place = folder / part
    conventions = ("vae_range", "vae_patch_size") if part == "vae" else ("clip_rescale_twice",)
    digest = hashlib.sha256(json.dumps([getattr(config, name) for name in conventions]).encode())
    homes: dict[str, Path] = {}
    try:
        for file in sorted(place.glob("*.safetensors")):
            with safe_open(file, framework="pt") as weights:
                homes |= {name: file for name in weights.keys() if not name.startswith(_DECODING)}  # noqa: SIM118
        for name, file in sorted(homes.items()):
            with safe_open(file, framework="pt") as weights:
                weight = weights.get_tensor(name)
            digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
            digest.update(weight.contiguous().flatten().view(torch.uint8).numpy().data)
    except (OSError, SafetensorError) as error:
        raise FashionFlowError(f"{place}: cannot be read ({error})", hint="import or pull the model again") from None
    if not homes:
        raise FashionFlowError(f"{place}: no .safetensors file", hint="import or pull the model again")
    return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Sizes:
    """Shapes of stored clips: latents (c, h, w), tokens (n, d); and bytes per clip."""

    latents: tuple[int, int, int]
    tokens: tuple[int, int]
    clip_bytes: int


def sizes(model: Path, config: ModelConfig, frames: int) -> Sizes:
    """Shapes from the configuration of a model's encoders, without reading their weights.

    Raises:
        FashionFlowError: a part is missing or broken.
    """
    vae, encoder = (_configuration(model / part) for part in ("vae", "image_encoder"))
    try:
        shrink = 2 ** (len(vae["block_out_channels"]) - 1) * config.vae_patch_size
        c, h, w = vae["latent_channels"], config.height // shrink, config.width // shrink
        n, d = (encoder["image_size"] // encoder["patch_size"]) ** 2 + 1, encoder["hidden_size"]
    except (KeyError, TypeError) as error:
        raise FashionFlowError(f"{model}: config.json: no {error}", hint="import or pull the model again") from None
    a_frame = h * w * (2 * c * 4 + 3)
    return Sizes((c, h, w), (n, d), frames * a_frame + 3 * config.height * config.width + 4 * n * d)


def _configuration(part: Path) -> dict[str, Any]:
    try:
        return json.loads((part / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FashionFlowError(f"{part}: cannot be loaded ({error})", hint="import or pull the model again") from None
