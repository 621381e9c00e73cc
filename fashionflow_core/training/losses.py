"""Diffusion training losses: noising, prediction targets, timestep weights."""

import torch
from einops import rearrange
from torch import Tensor

from fashionflow_core.errors import FashionFlowError
from fashionflow_core.training.config import LossConfig
from fashionflow_core.training.status import NOISE_LEVELS


def target_of(latents: Tensor, noise: Tensor, alphas_cumprod: Tensor, prediction: str) -> Tensor:
    """The training target of the network.

    Args:
        latents, noise: clean latents and noise, (b, c, f, h, w).
        alphas_cumprod: cumulative alpha at each clip's timestep, (b,).
        prediction: epsilon, sample, or v_prediction: sqrt(abar) noise - sqrt(1 - abar) latents (Salimans and Ho
            2022, appendix D).
    """
    if prediction == "epsilon":
        return noise
    if prediction == "sample":
        return latents
    if prediction != "v_prediction":
        raise FashionFlowError(
            f"scheduler: unsupported prediction_type {prediction!r}",
            hint="set noise.prediction to epsilon, sample or v_prediction",
        )
    abar = rearrange(alphas_cumprod, "b -> b 1 1 1 1")
    return abar.sqrt() * noise - (1 - abar).sqrt() * latents


def add_noise(latents: Tensor, noise: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """Noisy latents: sqrt(abar) latents + sqrt(1 - abar) noise, abar (b,)."""
    abar = rearrange(alphas_cumprod, "b -> b 1 1 1 1")
    return abar.sqrt() * latents + (1 - abar).sqrt() * noise


def levels_of(timesteps: Tensor, train_timesteps: int) -> Tensor:
    """Noise level of each timestep, (b,) long from 0, the least noise: equal parts of the noise schedule."""
    return (timesteps * NOISE_LEVELS // train_timesteps).clamp(max=NOISE_LEVELS - 1)


def timestep_weights(alphas_cumprod: Tensor, prediction: str, loss: LossConfig) -> Tensor:
    """Weight of each clip's loss by its timestep, (b,).

    min_snr: min(SNR, gamma) times the error of the clean clip, for any prediction type (Hang et al. 2023, 2303.09556,
    equation 5 and section 3.4): divided by SNR for noise and by SNR + 1 for velocity. velocity: the error of a
    predicted clip is weighted by 1 + SNR, like that of the velocity, up to `max_weight`, so that the last, nearly clean
    steps do not dominate.
    """
    if loss.weighting == "none":
        return torch.ones_like(alphas_cumprod)
    snr = alphas_cumprod / (1 - alphas_cumprod)
    if loss.weighting == "velocity":
        return (1 + snr).clamp(max=loss.max_weight)
    clipped = snr.clamp(max=loss.min_snr_gamma)
    # At SNR 0 the ratio's limit is 1.
    return {
        "epsilon": torch.where(snr > 0, clipped / snr.clamp(min=1e-12), torch.ones_like(snr)),
        "sample": clipped,
        "v_prediction": clipped / (snr + 1),
    }[prediction]


def clip_losses(
    prediction: Tensor, target: Tensor, given: Tensor, weights: Tensor, channels: Tensor | None, loss: LossConfig
) -> Tensor:
    """The loss of each clip, (b,).

    Args:
        prediction, target: output and target of the network, (b, c, f, h, w).
        given: mask (b, f), 1 = given. With `given_target` zero (paper: the first frame has no noise to predict) the
            target is zero there; otherwise those frames have no loss.
        weights: weight by timestep, (b,).
        channels: weight of each latent channel, (c), mean 1; None: equal weights.
    """
    given = given.to(prediction.device)
    if loss.given_target == "zero":
        target = target * rearrange(1 - given, "b f -> b 1 f 1 1")
    square = (prediction.float() - target).square().mean(dim=(3, 4))  # (b, c, f)
    if channels is not None:
        square = square * channels[None, :, None]
    error = square.mean(dim=1)  # (b, f)
    counted = torch.ones_like(given) if loss.given_target == "zero" else 1 - given
    total = (error * counted).sum(dim=1)
    return weights * (total if loss.frame_loss == "sum" else total / counted.sum(dim=1).clamp(min=1))
