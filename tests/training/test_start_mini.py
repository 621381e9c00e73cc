"""Training of mini-latent at toy size, by the commands of docs/concepts/mini-latent.md: from a PCA to a video."""

from pathlib import Path

import numpy as np
import pytest
import torch
from command import run
from safetensors.torch import load_file
from start_mini import Recipe, build_vae, make_start, pca, start_from_pca

from fashionflow_core import video
from fashionflow_core.config import ModelConfig
from fashionflow_core.images.fitting import write_png
from fashionflow_core.runtimes.preprocessing import to_vae_pixels
from fashionflow_core.synthetic.clips import render_clip
from fashionflow_core.training.targets import channel_energy

SMALL = Recipe(
    height=64,
    width=64,
    frames=8,
    vae_width=40,
    unet_widths=(8, 16),
    context_dim=16,
    clip_size=16,
    clip_patch=8,
    clip_layers=1,
)


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    """VAE pixels of a few rendered frames, (n, d, h, w)."""
    frames = np.concatenate([render_clip(seed, 4, SMALL.height, SMALL.width).frames for seed in range(3)])
    return to_vae_pixels(torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255, SMALL.model_config())


def test_vae_starts_as_the_pca(pixels: torch.Tensor):
    """Encode and decode equal the textbook projection, and the latents are white."""
    mean, components, deviation = pca(pixels, SMALL.latent_channels)
    vae = build_vae(SMALL)
    start_from_pca(vae, mean, components, deviation)
    codes = torch.einsum("kd,bdhw->bkhw", components, pixels - mean[None, :, None, None])
    with torch.no_grad():
        latents = vae.encode(pixels, return_dict=False)[0].mean
        decoded = vae.decode(latents).sample
    white = codes / deviation[None, :, None, None]
    # The norm's divisor is held by the constant channels; it may vary by a few tenths of a percent between images.
    assert (latents - white).abs().max() < 0.02 * white.abs().max()
    expected = torch.einsum("kd,bkhw->bdhw", components, codes) + mean[None, :, None, None]
    assert (decoded - expected).abs().mean() < 0.01
    assert latents.std(dim=(0, 2, 3)).sub(1).abs().max() < 0.05


def test_channels_weigh_what_their_component_does(pixels: torch.Tensor):
    """For this VAE the weights in the loss are the deviations of the components."""
    mean, components, deviation = pca(pixels, SMALL.latent_channels)
    vae = build_vae(SMALL)
    start_from_pca(vae, mean, components, deviation)
    with torch.no_grad():
        latents = vae.encode(pixels[:4], return_dict=False)[0].mean
    weights = channel_energy(vae, latents, (1.0,) * SMALL.latent_channels)
    torch.testing.assert_close(weights, deviation / deviation.mean(), rtol=0.03, atol=0.01)


@pytest.mark.slow
def test_from_clips_to_a_model_that_generates(tmp_path: Path):
    size = f"{SMALL.height}x{SMALL.width}"
    made = run("data", "synth", "-o", "clips", "--clips", "3", "--size", size, "--frames", "8", "-q", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    assert make_start(tmp_path / "clips", tmp_path / "start", SMALL, per_video=4) > 0.8
    steps = [
        ("data", "prepare", "clips", "-o", "cache", "--model", "start", "--strides", "1", "--device", "cpu", "-q"),
        ("train", "-o", "unet"),
        ("train", "-o", "last"),
    ]
    small_unet = {"short_frames": 4, "unet_widths": "8,16", "unet_cross_heads": "1,1", "unet_time_dim": 32}
    unet = {"preset": "mini-latent", "base": "start", "data": "cache", "max_minutes": 0.05, **small_unet}
    decoder = {
        "preset": "mini-latent-decoder",
        "name": "mini-latent",
        "base": "unet/model",
        "data": "clips",
        "max_minutes": 0.05,
    }
    changes = [{}, unet, {**decoder, "batch_size": 2, "vae_crop": 32}]
    for step, values in zip(steps, changes):
        result = run(*step, *[w for k, v in values.items() for w in ("--set", f"{k}={v}")], cwd=tmp_path)
        assert result.returncode == 0, result.stderr
    # The encoder is the PCA for good: what was encoded before the decoder learnt is what it encodes now.
    before, after = (
        load_file(tmp_path / x / "vae" / "diffusion_pytorch_model.safetensors") for x in ("start", "last/model")
    )
    assert all(torch.equal(before[name].half(), after[name]) for name in after if name.startswith("encoder."))
    assert any(not torch.equal(before[name].half(), after[name]) for name in after if name.startswith("decoder."))
    config = ModelConfig.load(tmp_path / "last" / "model")
    assert config.name == "mini-latent" and len(config.latents_mean) == SMALL.latent_channels
    assert np.mean(config.latents_std) == pytest.approx(1, abs=0.2)
    write_png(tmp_path / "photo.png", render_clip(9, 1, SMALL.height, SMALL.width).frames[0])
    result = run("generate", "photo.png", "--model", "last/model", "--steps", "2", "-o", "out.mp4", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert len(video.read(tmp_path / "out.mp4")) == SMALL.frames
