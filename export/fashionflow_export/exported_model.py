"""The model to export, in PyTorch and float32, with its reference outputs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from fashionflow_core import pipeline
from fashionflow_core.config import ModelConfig
from fashionflow_core.diffusion.conditioning import clip_pixels
from fashionflow_core.diffusion.known_frames import KnownFrames
from fashionflow_core.errors import FashionFlowError
from fashionflow_core.motion.prepared import PreparedPhoto
from fashionflow_core.runtimes.graphs import make_graphs
from fashionflow_core.runtimes.parity import Case
from fashionflow_core.store.engine_folder import ENGINES_FILE, GRAPHS
from fashionflow_core.synthetic.clips import render_clip
from fashionflow_core.utils.hashing import sha256


@dataclass(frozen=True)
class ExportedModel:
    """A model folder loaded in PyTorch.

    Attributes:
        folder: model folder.
        pipe: pipeline over float32 networks on the CPU, with a LoRA fused.
        graphs: the same networks by the names of `engine_folder.GRAPHS`.
        files: file of the folder → SHA-256, for all weights.
        photo: input of the comparison, uint8 (height, width, 3) of the model's frame: a rendered figure.
    """

    folder: Path
    pipe: pipeline.FashionFlowPipeline
    graphs: dict[str, nn.Module]
    files: dict[str, str]
    photo: np.ndarray

    @property
    def config(self) -> ModelConfig:
        return self.pipe.config

    @property
    def networks(self) -> Any:
        return self.pipe.networks


def open_source(folder: Path, lora: Path | None = None) -> ExportedModel:
    """Open a model folder for export.

    Raises:
        FashionFlowError: not a model folder, or an engine folder; the LoRA of another model.
    """
    if (folder / ENGINES_FILE).is_file():
        raise FashionFlowError(f"{folder}: contains engines", hint="export the model that they were built from")
    pipe = pipeline.load(folder, device="cpu", dtype="fp32", backend="torch")
    networks: Any = pipe.networks
    if lora is not None:
        from fashionflow_core.runtimes.lora import fuse_lora

        fuse_lora(networks.unet, lora)
    weights = sorted(path for path in folder.rglob("*.safetensors") if path.is_file())
    config = pipe.config
    return ExportedModel(
        folder,
        pipe,
        make_graphs(networks, config),
        {path.relative_to(folder).as_posix(): sha256(path) for path in weights},
        standard_photo(config),
    )


def inputs_of(source: ExportedModel, frames: int, decode_batch: int, kind: str) -> dict[str, dict[str, Tensor]]:
    """Inputs of every graph, float32 with values exact in float16: "random", or "real" ones of a generation.

    Args:
        source: loaded model.
        frames: frames of the clip.
        decode_batch: frames per call of the decoder.
        kind: one of random, real.
    """
    networks, config = source.networks, source.config
    generator = torch.Generator("cpu").manual_seed(frames)
    size = (networks.latent_height, networks.latent_width)
    latent_shape = (1, networks.latent_channels, *size)

    def noise(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    image = torch.from_numpy(source.photo)[None].permute(0, 3, 1, 2) / 255
    motion = config.latents == "motion"
    if kind == "random":
        encoder_config, side = networks.adapter.config, networks.image_encoder.config.image_size
        shown = (1, networks.photo_channels, *size) if motion else latent_shape
        found = {
            "image_encoder": {"pixels": noise(1, 3, side, side), "latents": noise(*shown)},
            "unet": {
                "sample": noise(1, networks.input_channels, frames, *size),
                "timestep": torch.tensor([437.0]),
                "context": noise(1, encoder_config["clip_tokens"], encoder_config["clip_dim"]),
            },
        }
        if motion:
            return _rounded({**found, "parser": {"photo": noise(2, *networks.pixel_shape)}})
        latents = {"latents": noise(decode_batch, *latent_shape[1:])}
        return _rounded({**found, "vae_encoder": {"image": noise(*image.shape)}, "vae_decoder": latents})
    if motion:
        return _real_motion(source, frames, noise)
    pixels = clip_pixels(source.photo[None], source.pipe.conditioner.processor, config)
    local, context, content = source.pipe.conditioner.encode(source.photo[None], [generator])
    known = KnownFrames.first(local, frames, content, config.mask_fill)
    # Halfway: equal signal and noise.
    sample = 0.7 * local[:, :, None] + 0.7 * noise(1, networks.latent_channels, frames, *size)
    return _rounded(
        {
            "vae_encoder": {"image": image},
            "image_encoder": {"pixels": pixels, "latents": local},
            "unet": {
                "sample": known.network_input(sample),
                "timestep": torch.tensor([500.0]),
                "context": context,
            },
            "vae_decoder": {"latents": local + 0.1 * noise(decode_batch, *latent_shape[1:])},
        }
    )


def _real_motion(source: ExportedModel, frames: int, noise: Callable[..., Tensor]) -> dict[str, dict[str, Tensor]]:
    """Real inputs of a motion model's graphs, from the first window of a clip."""
    generator = source.pipe.motion
    assert generator is not None
    photo = torch.from_numpy(source.photo).permute(2, 0, 1)[None] / 255
    photo = functional.interpolate(photo, size=source.networks.pixel_shape[1:], mode="area")
    prepared = PreparedPhoto.of(source.photo, generator.parse_alone)
    pixels, content = generator.seen([prepared])
    blank = content.new_zeros(1, source.networks.latent_channels, frames, *content.shape[2:])
    mask = content.new_zeros(1, frames)
    mask[:, 0] = 1
    shown = content[:, :, None].expand(-1, -1, frames, -1, -1)
    known = KnownFrames.from_clip(blank, mask, shown, fill="nearest")
    return _rounded(
        {
            "image_encoder": {"pixels": pixels, "latents": content},
            "unet": {
                "sample": known.network_input(0.7 * noise(*blank.shape)),
                "timestep": torch.tensor([500.0]),
                "context": source.networks.context(pixels, content),
            },
            "parser": {"photo": torch.cat((photo, photo.flip(-1)))},
        }
    )


def standard_photo(config: ModelConfig) -> np.ndarray:
    """Input of the compared generations: a rendered figure of the model's frame, uint8 (height, width, 3)."""
    return render_clip(0, height=config.height, width=config.width, frame_indices=[0]).frames[0]


def _rounded(inputs: dict[str, dict[str, Tensor]]) -> dict[str, dict[str, Tensor]]:
    return {name: {key: x.half().float() for key, x in tensors.items()} for name, tensors in inputs.items()}


def make_cases(source: ExportedModel, networks: Sequence[str], counts: Sequence[int], decode_batch: int) -> list[Case]:
    """PyTorch's outputs for random and real inputs; for the U-Net at every number of frames in `counts`."""
    cases = []
    for number, frames in enumerate(counts):
        for kind in ("random", "real"):
            for name, inputs in inputs_of(source, frames, decode_batch, kind).items():
                if name not in networks or (number and name != "unet"):
                    continue
                with torch.inference_mode():
                    found = source.graphs[name](**inputs)
                values = found if isinstance(found, tuple) else (found,)
                outputs = {key: value.numpy() for key, value in zip(GRAPHS[name].outputs, values, strict=True)}
                arrays = {key: value.numpy() for key, value in inputs.items()}
                cases.append(Case.of(name, kind, frames if name == "unet" else 0, arrays, outputs))
    return cases
