"""Networks of a training run, built from the base model and the settings."""

import copy
import dataclasses
from typing import Any

import torch
from torch import nn

from fashionflow_core.config import MODES, ModelConfig
from fashionflow_core.errors import UsageError, command
from fashionflow_core.models import FashionFlowUNet, ImageContextAdapter
from fashionflow_core.runtimes.torch import TorchNetworks
from fashionflow_core.training.config import SamplerConfig, TrainConfig, UNetConfig


def purpose() -> str:
    """Default `purpose` in the `model.json` of a trained model."""
    return f"trained with {command('train')}"


def known_channels(content: str, latent_channels: int) -> int:
    """Number of extra input channels for given frames, including the mask (`ModelConfig.known_content`)."""
    return {"none": 0, "rgb": 3 + 1, "latents": latent_channels + 1}[content]


def model_config(config: TrainConfig, base: ModelConfig, name: str, statistics: Any) -> ModelConfig:
    """model.json of the trained model.

    Args:
        base: model.json of the base model.
        name: name of the result, if the settings contain none.
        statistics: mean and deviation of each latent channel over the cache, or None.
    """
    strides = tuple(sorted(set(config.masks.interpolate_strides)))
    if config.target == "interpolator":
        return dataclasses.replace(
            base,
            name=config.name or name,
            purpose=config.purpose or base.purpose,
            modes=tuple(m for m in MODES if m == "interpolate" or m in base.modes),
            interpolate_strides=strides,
            interpolate_scheduler="",
            interpolate_steps=0,
            interpolate_mixture=0.0,
            interpolator=True,
        )
    changes: dict[str, Any] = {
        "name": config.name or name,
        "purpose": config.purpose or purpose() + (f" from {base.name}" if config.init_from else ""),
        "known_content": config.conditioning.known_content or base.known_content,
        "mask_fill": config.conditioning.mask_fill or base.mask_fill,
        "modes": tuple(m for m in ("generate", "interpolate", "extend") if getattr(config.masks, m)),
        "interpolate_strides": strides if config.masks.interpolate else base.interpolate_strides,
        "conditioning": (config.conditioning.kind,),
        "context_dropout": config.conditioning.context_dropout,
        "distilled": False,
        # A new U-Net invalidates the interpolator, unless the latents are unchanged.
        "interpolator": base.interpolator and bool(config.init_from),
        **sampling(config.sampler),
    }
    if config.data.latent_statistics == "cache":
        mean, std = statistics
        changes |= {f"latents_{key}": tuple(round(float(v), 5) for v in x) for key, x in (("mean", mean), ("std", std))}
    if config.lora.rank and changes["known_content"] != base.known_content:
        raise UsageError(
            "conditioning.known_content: a LoRA cannot change the input channels of the base model: omit it"
        )
    if changes["known_content"] == "none" and changes["modes"] != ("generate",):
        raise UsageError(
            "masks.interpolate, masks.extend: the network has no input for given frames",
            hint="set conditioning.known_content: rgb (paper 3.3) or latents",
        )
    return dataclasses.replace(base, **changes)


def sampling(sampler: SamplerConfig) -> dict[str, Any]:
    """Sampling settings of model.json that the run overrides."""
    changes: dict[str, Any] = {"scheduler": sampler.name, "log_snr": sampler.log_snr} if sampler.name else {}
    return changes | ({"steps": sampler.steps} if sampler.steps else {})


def fresh_unet(config: UNetConfig, base: FashionFlowUNet, in_channels: int) -> FashionFlowUNet:
    """A U-Net with random weights from (seed); unset settings are those of the base model."""
    values: dict[str, Any] = {k: v for k, v in base.config.items() if not k.startswith("_")}
    if config.widths:
        values["block_out_channels"] = config.widths
        values["time_embedding_dim"] = 4 * config.widths[0]
    if config.cross_heads:
        values["down_cross_attention_heads"] = config.cross_heads
        values["up_cross_attention_heads"] = config.cross_heads[::-1]
    if config.heads:
        values["num_attention_heads"] = config.heads
    if config.head_dim:
        values["attention_head_dim"] = config.head_dim
    if config.time_dim:
        values["time_embedding_dim"] = config.time_dim
    groups = values["norm_num_groups"]
    heads = values["down_cross_attention_heads"]
    for width, count in zip(values["block_out_channels"], heads):
        if width % groups or width % count:
            raise UsageError(
                f"unet.widths: {width} is not a multiple of the {groups} groups of its norms and its {count} heads"
            )
    values["in_channels"] = in_channels
    return FashionFlowUNet(**values)


def grow_input(unet: FashionFlowUNet, in_channels: int) -> FashionFlowUNet:
    """The same U-Net with extra input channels of zero weights: the initial output is unchanged."""
    old: int = unet.config["in_channels"]
    if old == in_channels:
        return unet
    if old != unet.config["out_channels"]:
        raise UsageError(
            f"conditioning.known_content: the model of init_from has {old - unet.config['out_channels']} mask channels "
            f"already, not {in_channels - unet.config['out_channels']}",
            hint="omit conditioning.known_content to use that of the model",
        )
    values: dict[str, Any] = {k: v for k, v in unet.config.items() if not k.startswith("_")}
    values["in_channels"] = in_channels
    grown = FashionFlowUNet(**values)
    state = dict(unet.state_dict())
    weight = state["conv_in.spatial.weight"]  # (width, old, 1, 7, 7)
    padded = weight.new_zeros(weight.shape[0], in_channels, *weight.shape[2:])
    padded[:, :old] = weight
    grown.load_state_dict(state | {"conv_in.spatial.weight": padded})
    return grown


def start_interpolator(config: TrainConfig, unet: FashionFlowUNet) -> FashionFlowUNet:
    """The initial interpolation U-Net: predicts zero, the residual of the mean of the given frames.

    Its levels, outermost first, start with the weights of `unet` where the widths match; their input is then like a
    frame that is the mean of its two given neighbours.
    """
    channels: int = unet.config["out_channels"]
    made = fresh_unet(config.unet, unet, 2 * channels + 1)
    deeper = len(unet.down_blocks) - len(made.down_blocks)
    old, state = unet.state_dict(), made.state_dict()
    for name, value in state.items():
        part, _, rest = name.partition(".")
        source = name
        if part == "up_blocks":  # indexed from the innermost level
            number, _, rest = rest.partition(".")
            source = f"up_blocks.{int(number) + deeper}.{rest}"
        if source in old and old[source].shape == value.shape and not (deeper and part == "mid_block"):
            state[name] = old[source].clone()
    first, weight = old["conv_in.spatial.weight"], state["conv_in.spatial.weight"]  # (width, channels, 1, 7, 7)
    if first.shape[0] == weight.shape[0]:
        seen = first[:, :channels]
        if first.shape[1] == weight.shape[1]:  # latents enter twice: noisy, and as known content
            seen = seen + first[:, channels:-1]
        state["conv_in.spatial.weight"] = torch.cat((seen / 2, seen / 2, torch.zeros_like(seen[:, :1])), dim=1)
    for name in ("conv_out.spatial.weight", "conv_out.spatial.bias", "conv_out.temporal.bias"):
        state[name] = torch.zeros_like(state[name])
    made.load_state_dict(state)
    return made


def start(config: TrainConfig, networks: TorchNetworks, model: ModelConfig) -> TorchNetworks:
    """The networks before the first step: all of `networks`, or a new U-Net and adapter with the others.

    Args:
        networks: networks of the base model, in float32.
        model: model.json of the result.
    """
    channels = networks.latent_channels
    in_channels = channels + known_channels(model.known_content, channels)
    unet, adapter, interpolator = networks.unet, networks.adapter, networks.interpolator
    # The weights are drawn from torch's global generator, whose state is restored.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        if config.init_from:
            unet = grow_input(unet, in_channels)
            if config.target == "interpolator" and interpolator is None:
                interpolator = start_interpolator(config, unet)
        else:
            unet = fresh_unet(config.unet, unet, in_channels)
            adapter = ImageContextAdapter(**{k: v for k, v in adapter.config.items() if not k.startswith("_")})
    return TorchNetworks(unet, adapter, networks.vae, networks.image_encoder, interpolator)


def unwrapped_copy(network: nn.Module) -> Any:
    """A copy of a network in training without the wrappers of `checkpoint_activations`."""
    made = copy.deepcopy(network)
    for module in made.modules():
        module.__dict__.pop("forward", None)
    return made


def prepare_learning(config: TrainConfig, unet: nn.Module, image_encoder: nn.Module) -> None:
    """Freeze parameters that do not affect the output; add the LoRA and activation checkpointing if set."""
    for name, parameter in image_encoder.named_parameters():
        if "post_layernorm" in name:  # after the hidden state in use; DDP requires that all parameters are used
            parameter.requires_grad_(False)
    if config.lora.rank:
        from fashionflow_core.runtimes.lora import add_lora

        add_lora(unet, config.lora.rank, config.lora.alpha, config.lora.targets)
    if config.unet.gradient_checkpointing:
        checkpoint_activations(unet)


def checkpoint_activations(unet: nn.Module) -> None:
    """Recompute the activations of every level in the backward pass instead of storing them."""
    from functools import partial

    from torch.utils.checkpoint import checkpoint

    for name in ("down_blocks", "up_blocks"):
        for block in getattr(unet, name):
            block.forward = partial(checkpoint, block.forward, use_reentrant=False)
    unet.mid_block.forward = partial(checkpoint, unet.mid_block.forward, use_reentrant=False)  # type: ignore[union-attr]


def checkpointed_blocks(network: nn.Module) -> list[nn.Module]:
    """The parts of a network that `checkpoint_activations` wrapped; empty without it."""
    return [module for module in network.modules() if "forward" in module.__dict__]
