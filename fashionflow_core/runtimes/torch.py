"""PyTorch runtime of appearance models, through diffusers and transformers."""

import textwrap
from pathlib import Path
from typing import Any, Self

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor
from transformers import CLIPVisionModel

from fashionflow_core.config import ModelConfig
from fashionflow_core.errors import FashionFlowError
from fashionflow_core.models import FashionFlowUNet, ImageContextAdapter
from fashionflow_core.runtimes.flops import count_flop
from fashionflow_core.runtimes.interpolator import Interpolator
from fashionflow_core.store.folder import INTERPOLATOR
from fashionflow_core.utils import model_parts
from fashionflow_core.utils.libraries import quiet_libraries


class TorchNetworks:
    """`interface.Networks` in PyTorch. Also wraps networks in memory (training previews)."""

    def __init__(
        self,
        unet: FashionFlowUNet,
        adapter: ImageContextAdapter,
        vae: AutoencoderKL,
        image_encoder: CLIPVisionModel,
        interpolator: FashionFlowUNet | None = None,
    ) -> None:
        self.unet, self.adapter, self.vae, self.image_encoder = unet, adapter, vae, image_encoder
        self.interpolator = interpolator
        self.frame_divisor = unet.frame_divisor
        self.frame_counts: range | None = None
        self.decode_batch = 1
        self.compiled = False
        self.input_channels: int = unet.config["in_channels"]
        self.latent_channels, self.latent_height, self.latent_width = adapter.latent_shape
        shrink = 2 ** (len(vae.config["block_out_channels"]) - 1)
        self.pixel_shape = (vae.config["in_channels"], self.latent_height * shrink, self.latent_width * shrink)

    @property
    def device(self) -> torch.device:
        return self.unet.device

    @property
    def dtype(self) -> torch.dtype:
        return self.unet.dtype

    def to(self, device: torch.device, dtype: torch.dtype) -> Self:
        for network in self.parts:
            # A Module method that both libraries wrap; with different argument stubs.
            torch.nn.Module.to(network, device=device, dtype=dtype)
            network.eval()
        return self

    def settle(self, device: torch.device) -> Self:
        """Use the memory layout of activations for convolution weights, for inference on `device`.

        The VAE's activations follow the layout of its weights. Only for CPUs: not measured elsewhere.
        """
        for unet in (self.unet, self.interpolator):
            if unet is not None:
                settle(unet)
        if device.type == "cpu":
            vae: Any = self.vae  # stubs lack this argument
            vae.to(memory_format=torch.channels_last)
        return self

    def compile(self) -> Self:
        """Compile U-Net and decoder for their shapes, on CUDA as replayed graphs.

        The first call of each takes minutes. Shapes are static: another number of frames compiles again.
        """
        mode = "reduce-overhead" if self.device.type == "cuda" else "default"
        for network in (self.unet, self.vae.decoder):
            torch.nn.Module.compile(network, mode=mode, dynamic=False)
        self.compiled = True
        return self

    @property
    def weights_bytes(self) -> int:
        return sum(weight.numel() * weight.element_size() for network in self.parts for weight in network.parameters())

    @property
    def parts(self) -> list[Any]:
        """All networks, in the order of the arguments of `__init__`."""
        networks: list[Any] = [self.unet, self.adapter, self.vae, self.image_encoder]
        return networks + ([] if self.interpolator is None else [self.interpolator])

    def count_flop(self, frames: int) -> dict[str, int]:
        latents = (1, self.latent_channels, self.latent_height, self.latent_width)
        tokens, width = self.adapter.config["clip_tokens"], self.adapter.config["clip_dim"]
        side: Any = self.image_encoder.config.image_size
        clip = (1, self.input_channels, frames, *latents[2:])
        between = {}
        if self.interpolator is not None:
            between["difference"] = Interpolator(self.interpolator).count_flop(frames, *latents[2:])
        return between | {
            "encode_image": count_flop(self.encode_image, (1, *self.pixel_shape)),
            "context": count_flop(self.context, (1, 3, side, side), latents),
            "denoise": count_flop(self.denoise, clip, (1,), (1, tokens, width)),
            "decode": count_flop(self.decode, latents),
        }

    @torch.inference_mode()
    def encode_image(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        posterior = self.vae.encode(pixels.to(self.device, self.dtype), return_dict=False)[0]
        return posterior.mean.float(), posterior.logvar.float()

    @torch.inference_mode()
    def context(self, pixels: Tensor, latents: Tensor) -> Tensor:
        clip = self.image_encoder(pixels.to(self.device, self.dtype)).last_hidden_state
        return self.adapter(clip, latents.to(self.device, self.dtype)).float()

    @torch.inference_mode()
    def denoise(self, sample: Tensor, timestep: Tensor, context: Tensor) -> Tensor:
        self._begin()
        timestep = timestep.to(self.device).expand(sample.shape[0])
        predicted = self.unet(sample.to(self.device, self.dtype), timestep, context.to(self.device, self.dtype)).sample
        return self._own(predicted)

    def difference(self, sides: Tensor) -> Tensor:
        return Interpolator(self.interpolator).difference(sides)

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Tensor:
        self._begin()
        vae: Any = self.vae  # its stub asks for torch.FloatTensor, which is not a real class of tensors
        return self._own(vae.decode(latents.to(self.device, self.dtype), return_dict=False)[0])

    def _begin(self) -> None:
        """Allow replayed graphs to overwrite earlier outputs."""
        if self.compiled:
            torch.compiler.cudagraph_mark_step_begin()

    def _own(self, value: Tensor) -> Tensor:
        """Convert to float32 in new memory: a replayed graph overwrites its outputs."""
        return value.float().clone() if self.compiled else value.float()


def settle(unet: Any) -> None:
    """Convert a U-Net's convolution weights to channels-last order, that of its activations.

    Otherwise each call of a convolution copies its weights to that order. Not for training: checkpoints restore torch's
    usual order, which rounds differently.
    """
    unet.to(memory_format=torch.channels_last_3d)


def open_network(kind: Any, folder: Path, part: str, dtype: torch.dtype) -> Any:
    """Load one network of a model folder with its `from_pretrained`.

    Raises:
        FashionFlowError: missing or damaged, or weights that do not match its config.
    """
    if not (folder / part / "config.json").is_file():
        raise FashionFlowError(
            f"{folder / part}: missing part of the model folder", hint="import or pull the model again"
        )
    try:
        with quiet_libraries():
            network, report = model_parts.open_network(kind, folder / part, torch_dtype=dtype, low_cpu_mem_usage=False)
    except FashionFlowError:
        raise
    except Exception as error:  # safetensors, json and both libraries raise various kinds
        reason = textwrap.shorten(str(error), 300, placeholder=" ...") or type(error).__name__
        raise FashionFlowError(
            f"{folder / part}: cannot be loaded ({reason})", hint="import or pull the model again"
        ) from error
    # Both libraries initialize missing weights randomly without an error.
    for what in ("missing", "unexpected"):
        if keys := sorted(report[f"{what}_keys"]):
            raise FashionFlowError(
                f"{folder / part}: weights are {what} ({len(keys)}): {keys[0]} ...",
                hint="import or pull the model again (config.json and the weights do not match)",
            )
    return network


def load(folder: Path, device: torch.device, dtype: torch.dtype, config: ModelConfig | None = None) -> TorchNetworks:
    """Load all networks of an appearance model's folder; `config` is its model.json, if already read.

    Raises:
        FashionFlowError: a part is missing or damaged, or the parts do not match.
    """
    config = config or ModelConfig.load(folder)
    unet = open_network(FashionFlowUNet, folder, "unet", dtype)
    adapter = open_network(ImageContextAdapter, folder, "adapter", dtype)
    vae = open_network(AutoencoderKL, folder, "vae", dtype)
    image_encoder = open_network(CLIPVisionModel, folder, "image_encoder", dtype)
    latents = "latent channels"
    check_alike(folder, latents, unet=unet.config.out_channels, adapter=adapter.latent_shape[0])
    check_alike(folder, latents, adapter=adapter.latent_shape[0], vae=vae.config.latent_channels)
    check_belonging(folder, unet, adapter, image_encoder)
    channels = adapter.latent_shape[0]
    interpolator = open_interpolator(folder, channels, dtype) if config.interpolator else None
    return TorchNetworks(unet, adapter, vae, image_encoder, interpolator).to(device, dtype)


def check_belonging(folder: Path, unet: Any, adapter: Any, image_encoder: Any) -> None:
    """Raise FashionFlowError unless image encoder, adapter and U-Net agree on the context."""
    clip = image_encoder.config
    tokens = (clip.image_size // clip.patch_size) ** 2 + 1
    width = "values per context token"
    check_alike(folder, width, unet=unet.config.cross_attention_dim, adapter=adapter.config.clip_dim)
    check_alike(folder, width, adapter=adapter.config.clip_dim, image_encoder=clip.hidden_size)
    check_alike(folder, "context tokens", adapter=adapter.config.clip_tokens, image_encoder=tokens)


def check_alike(folder: Path, what: str, **found: int) -> None:
    """Raise FashionFlowError unless two parts, given by name, agree on a number."""
    (one, a), (other, b) = found.items()
    if a != b:
        raise FashionFlowError(
            f"{folder}: parts do not match: {one} has {a} {what}, {other} has {b}",
            hint="import or pull the model again",
        )


def open_interpolator(folder: Path, channels: int, dtype: torch.dtype) -> FashionFlowUNet:
    """Load the interpolation U-Net of a model folder or engine folder.

    Raises:
        FashionFlowError: missing or damaged, or for another number of latent channels.
    """
    unet = open_network(FashionFlowUNet, folder, INTERPOLATOR, dtype)
    found, wanted = (unet.config.in_channels, unet.config.out_channels), (2 * channels + 1, channels)
    if found != wanted:
        raise FashionFlowError(
            f"{folder}: parts do not match: interpolator has {found} input and output channels, not {wanted}",
            hint="import or pull the model again",
        )
    return unet
