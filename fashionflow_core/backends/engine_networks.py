"""`contract.Networks` over the graphs of an engine folder, each in whatever runtime."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from fashionflow_core.backends.interpolator import Interpolator
from fashionflow_core.contract import DTYPES, Engines, Runner
from fashionflow_core.errors import FashionFlowError

TORCH_DTYPES = {"fp32": torch.float32, "fp16": torch.float16}


class EngineNetworks:
    """Graphs as networks: batches are cut into what a graph was built for.

    Args:
        folder: of the engines, named in errors.
        engines: its `engines.json`.
        runtimes: of each of `contract.GRAPHS`, the runtime it runs in.
        runners: one for each of them.
        device: where tensors go in and come out.
        interpolator: of a model that has one; PyTorch runs it on the same device.
    """

    def __init__(
        self,
        folder: Path,
        engines: Engines,
        runtimes: Mapping[str, str],
        runners: Mapping[str, Runner],
        device: torch.device,
        interpolator: Interpolator | None = None,
    ) -> None:
        self.interpolator = interpolator
        self.folder, self.engines, self.runtimes, self.runners, self.device = folder, engines, runtimes, runners, device
        unet, encoder = engines.networks["unet"], engines.networks["vae_encoder"]
        self.dtype = TORCH_DTYPES[unet.dtype]
        self.frame_divisor = 2  # `FashionFlowUNet.frame_divisor`
        self.frame_counts: range | None = engines.frame_counts
        self.decode_batch = engines.networks["vae_decoder"].inputs["latents"][0]
        _, channels, height, width = encoder.inputs["image"]
        self.pixel_shape = (channels, height, width)
        self.input_channels = unet.inputs["sample"][1]
        _, self.latent_channels, self.latent_height, self.latent_width = encoder.outputs["mean"]

    @property
    def weights_bytes(self) -> int:
        engines = sum(network.parameters * DTYPES[network.dtype] for network in self.engines.networks.values())
        return engines + (0 if self.interpolator is None else self.interpolator.weights_bytes)

    def count_flop(self, frames: int) -> dict[str, int]:
        calls = {"encode_image": "vae_encoder", "context": "image_encoder", "denoise": "unet", "decode": "vae_decoder"}
        found = {call: _at(self.engines.networks[name].flop, frames) for call, name in calls.items()}
        if self.interpolator is not None:
            found["difference"] = self.interpolator.count_flop(frames, self.latent_height, self.latent_width)
        return found

    def encode_image(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        found = self._each("vae_encoder", {"image": pixels})
        return found["mean"], found["logvar"]

    def context(self, pixels: Tensor, latents: Tensor) -> Tensor:
        return self._each("image_encoder", {"pixels": pixels, "latents": latents})["context"]

    def denoise(self, sample: Tensor, timestep: Tensor, context: Tensor) -> Tensor:
        timestep = timestep.to(torch.float32).expand(sample.shape[0])
        return self._each("unet", {"sample": sample, "timestep": timestep, "context": context})["prediction"]

    def difference(self, sides: Tensor) -> Tensor:
        assert self.interpolator is not None
        return self.interpolator.difference(sides)

    def decode(self, latents: Tensor) -> Tensor:
        return self._each("vae_decoder", {"latents": latents})["image"]

    def _each(self, name: str, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Run a graph over a batch, as many items at a time as it was built for; the last call is filled up."""
        wanted = self.engines.networks[name].inputs
        for key, value in inputs.items():
            sizes = [self.engines.frame_counts if size == -1 else (size,) for size in wanted[key][1:]]
            fits = len(value.shape) - 1 == len(sizes)
            if not fits or any(size not in taken for size, taken in zip(value.shape[1:], sizes)):
                raise FashionFlowError(
                    f"{self.folder}: {name} takes {key} of shape {tuple(wanted[key])}, not {tuple(value.shape)}",
                    hint="export the model again for that shape: fashionflow export",
                )
        size = next(iter(wanted.values()))[0]
        count = next(iter(inputs.values())).shape[0]
        found: dict[str, list[Tensor]] = {}
        for start in range(0, count, size):
            taken = {key: value[start : start + size] for key, value in inputs.items()}
            missing = size - next(iter(taken.values())).shape[0]
            if missing:
                taken = {
                    key: torch.cat((value, value[-1:].expand(missing, *value.shape[1:])))
                    for key, value in taken.items()
                }
            for key, value in self.runners[name](taken).items():
                found.setdefault(key, []).append(value[: size - missing].to(self.device))
        return {key: values[0] if len(values) == 1 else torch.cat(values) for key, values in found.items()}


def _at(counts: Mapping[str, int], frames: int) -> int:
    """Lagrange's interpolation of a count of operations that is known at up to three numbers of frames."""
    known = {int(key): value for key, value in counts.items()}
    total = 0.0
    for x, value in known.items():
        weight = 1.0
        for other in known:
            if other != x:
                weight *= (frames - other) / (x - other)
        total += weight * value
    return round(total)
