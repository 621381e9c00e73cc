"""Losses of diffusion training: noise, targets, timestep weights."""

import torch
from einops import rearrange
from torch import Tensor

from fashionflow_core.errors import FashionFlowError
from fashionflow_core.training.config import LossConfig


def target_of(latents: Tensor, noise: Tensor, alphas_cumprod: Tensor, prediction: str) -> Tensor:
    """What the network should predict.

    Args:
        latents, noise: (b, c, f, h, w).
        alphas_cumprod: of each clip's timestep, (b,).
        prediction: epsilon, sample, or v_prediction: sqrt(abar) noise - sqrt(1 - abar) latents (Salimans and Ho
            2022, appendix D).
    """
    if prediction == "epsilon":
        return noise
    if prediction == "sample":
        return latents
    if prediction != "v_prediction":
        raise FashionFlowError(
            f"scheduler: prediction_type {prediction!r} cannot be trained",
            hint="set noise.prediction to epsilon, sample or v_prediction",
        )
    abar = rearrange(alphas_cumprod, "b -> b 1 1 1 1")
    return abar.sqrt() * noise - (1 - abar).sqrt() * latents


def add_noise(latents: Tensor, noise: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """sqrt(abar) latents + sqrt(1 - abar) noise, abar (b,)."""
    abar = rearrange(alphas_cumprod, "b -> b 1 1 1 1")
    return abar.sqrt() * latents + (1 - abar).sqrt() * noise


def timestep_weights(alphas_cumprod: Tensor, prediction: str, loss: LossConfig) -> Tensor:
    """Weight of each clip's loss by its timestep, (b,).

    min_snr: min(SNR, gamma) times the error of the clean clip, whatever is predicted (Hang et al. 2023, 2303.09556,
    equation 5 and section 3.4): divided by SNR for noise and by SNR + 1 for velocity. velocity: the error of a
    predicted clip weighs 1 + SNR, as that of the velocity would, at most `max_weight`: the last, nearly clean steps
    should not rule.
    """
    if loss.weighting == "none":
        return torch.ones_like(alphas_cumprod)
    snr = alphas_cumprod / (1 - alphas_cumprod)
    if loss.weighting == "velocity":
        return (1 + snr).clamp(max=loss.max_weight)
    clipped = snr.clamp(max=loss.min_snr_gamma)
    # Noise tells nothing of the clip where there is no signal, and the ratio's limit there is 1.
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
        prediction, target: (b, c, f, h, w).
        given: mask (b, f), 1 = given. With `given_target` zero (paper: the first frame carries no noise, so there is
            none to find) the network should say zeros there; otherwise those frames do not count.
        weights: by timestep, (b,).
        channels: weight of each latent channel, (c), mean 1; None: all alike.
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
