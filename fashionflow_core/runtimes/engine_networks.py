"""Networks backed by the graphs of an engine folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fashionflow_core.config import FRAME_DIVISOR
from fashionflow_core.errors import FashionFlowError, command
from fashionflow_core.runtimes.interface import Runner
from fashionflow_core.runtimes.interpolator import Interpolator
from fashionflow_core.store.engine_folder import Engines
from fashionflow_core.utils.device import resolve_dtype


class GraphNetworks:
    """Base of networks backed by graphs: splits batches into the sizes that a graph was built for.

    Args:
        folder: engine folder, named in errors.
        engines: content of `engines.json`.
        runtimes: runtime of each graph.
        runners: runner of each graph.
        device: device of inputs and outputs.
        interpolator: the model's interpolator, if any, in PyTorch on the same device.
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
        unet = engines.networks["unet"]
        self.dtype = resolve_dtype(unet.dtype, device)
        self.frame_divisor = FRAME_DIVISOR
        self.frame_counts: range | None = engines.frame_counts
        self.input_channels = unet.inputs["sample"][1]
        _, self.latent_channels, _, self.latent_height, self.latent_width = unet.outputs["prediction"]

    @property
    def weights_bytes(self) -> int:
        networks = self.engines.networks.values()
        engines = sum(one.parameters * resolve_dtype(one.dtype, self.device).itemsize for one in networks)
        return engines + (0 if self.interpolator is None else self.interpolator.weights_bytes)

    def context(self, pixels: Tensor, latents: Tensor) -> Tensor:
        return self._each("image_encoder", {"pixels": pixels, "latents": latents})["context"]

    def denoise(self, sample: Tensor, timestep: Tensor, context: Tensor) -> Tensor:
        timestep = timestep.to(torch.float32).expand(sample.shape[0])
        return self._each("unet", {"sample": sample, "timestep": timestep, "context": context})["prediction"]

    def _flop(self, calls: Mapping[str, str], frames: int) -> dict[str, int]:
        return {call: _at(self.engines.networks[name].flop, frames) for call, name in calls.items()}

    def _each(self, name: str, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Run a graph over a batch in parts of its built size; the last part is padded."""
        wanted = self.engines.networks[name].inputs
        for key, value in inputs.items():
            sizes = [self.engines.frame_counts if size == -1 else (size,) for size in wanted[key][1:]]
            fits = len(value.shape) - 1 == len(sizes)
            if not fits or any(size not in taken for size, taken in zip(value.shape[1:], sizes)):
                raise FashionFlowError(
                    f"{self.folder}: {name} takes {key} of shape {tuple(wanted[key])}, not {tuple(value.shape)}",
                    hint=f"export the model again for that shape: {command('export')}",
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


class EngineNetworks(GraphNetworks):
    """`interface.Networks` backed by graphs."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        networks = self.engines.networks
        self.decode_batch = networks["vae_decoder"].inputs["latents"][0]
        _, channels, height, width = networks["vae_encoder"].inputs["image"]
        self.pixel_shape = (channels, height, width)

    def count_flop(self, frames: int) -> dict[str, int]:
        calls = {"encode_image": "vae_encoder", "context": "image_encoder", "denoise": "unet", "decode": "vae_decoder"}
        found = self._flop(calls, frames)
        if self.interpolator is not None:
            found["difference"] = self.interpolator.count_flop(frames, self.latent_height, self.latent_width)
        return found

    def encode_image(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        found = self._each("vae_encoder", {"image": pixels})
        return found["mean"], found["logvar"]

    def difference(self, sides: Tensor) -> Tensor:
        assert self.interpolator is not None
        return self.interpolator.difference(sides)

    def decode(self, latents: Tensor) -> Tensor:
        return self._each("vae_decoder", {"latents": latents})["image"]


class MotionEngineNetworks(GraphNetworks):
    """Networks of a motion model backed by graphs: no VAE, a parser (`motion.MotionNetworks` in PyTorch)."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        networks = self.engines.networks
        self.decode_batch = 1
        self.photo_channels = networks["image_encoder"].inputs["latents"][1]
        _, *shape = networks["parser"].inputs["photo"]
        self.pixel_shape = tuple(shape)

    def count_flop(self, frames: int) -> dict[str, int]:
        return self._flop({"parse": "parser", "context": "image_encoder", "denoise": "unet"}, frames)

    def parse(self, pixels: Tensor) -> Tensor:
        return self._each("parser", {"photo": pixels})["logits"]


def _at(counts: Mapping[str, int], frames: int) -> int:
    """Lagrange interpolation of a count of operations, known at up to three numbers of frames."""
    known = {int(key): value for key, value in counts.items()}
    total = 0.0
    for x, value in known.items():
        weight = 1.0
        for other in known:
            if other != x:
                weight *= (frames - other) / (x - other)
        total += weight * value
    return round(total)
