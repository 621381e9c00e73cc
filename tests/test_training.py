"""The bundled model's training, in miniature: the VAE is the PCA, a run resumes, and what is packed generates."""

import dataclasses
import json
from pathlib import Path

import mini_recipe
import mini_unet
import mini_vae
import numpy as np
import pytest
import torch
import train_mini
from mini_recipe import Paths

from fashionflow_core import pipeline
from fashionflow_core.config import GenerateSettings
from fashionflow_core.data.synthetic import render_clip

SMALL = dataclasses.replace(
    mini_recipe.RECIPE,
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


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Paths:
    """The recipe at toy size, and three rendered clips."""
    for module in (mini_recipe, mini_unet, mini_vae, train_mini):
        monkeypatch.setattr(module, "RECIPE", SMALL)
    paths = Paths(tmp_path / "run")
    paths.clips.mkdir(parents=True)
    for seed in range(3):
        clip = render_clip(seed, SMALL.frames, SMALL.height, SMALL.width)
        np.save(paths.clips / f"{seed:07d}.npy", clip.frames)
    return paths


def test_vae_starts_as_the_pca(small: Paths) -> None:
    """Encode and decode equal the textbook projection, and the latents are white."""
    frames = mini_vae.sample_frames(small, 3, 4)
    mean, components, deviation = mini_vae.pca(frames)
    vae = mini_vae.build_vae()
    mini_vae.start_from_pca(vae, mean, components, deviation)
    x = mini_vae.patches(frames)  # (b, d, h, w)
    codes = torch.einsum("kd,bdhw->bkhw", components, x - mean[None, :, None, None])
    with torch.no_grad():
        latents = vae.encode(x, return_dict=False)[0].mean
        decoded = vae.decode(latents).sample
    white = codes / deviation[None, :, None, None]
    # The norm's divisor is held by the constant channels; it may vary by a few tenths of a percent between images.
    assert (latents - white).abs().max() < 0.02 * white.abs().max()
    expected = torch.einsum("kd,bkhw->bdhw", components, codes) + mean[None, :, None, None]
    assert (decoded - expected).abs().mean() < 0.01
    assert latents.std(dim=(0, 2, 3)).sub(1).abs().max() < 0.05


def test_schedule_ends_in_pure_noise_and_keeps_its_shift() -> None:
    """Signal-to-noise is the cosine schedule's times shift² in the middle, and zero at the last timestep."""
    alphas = mini_unet.build_scheduler().alphas_cumprod
    assert float(alphas[-1]) == 0
    middle = np.cumprod(1 - np.array(mini_unet.shifted_cosine_betas()))[499]
    assert middle / (1 - middle) == pytest.approx(mini_unet.NOISE_SHIFT**2, rel=0.02)


def test_training_resumes_and_the_result_generates(small: Paths, tmp_path: Path) -> None:
    mini_vae.start_vae(small, per_clip=4)
    mini_unet.encode_clips(small, "cpu")
    options = {"batch": 1, "lr": 1e-3, "short_frames": 4, "short_part": 0.5, "ema_decay": 0.9}
    mini_unet.train_unet(small, 2, **options)
    first = json.loads((small.unet / "progress.json").read_text())
    mini_unet.train_unet(small, first["seconds"] + 2, **options)
    second = json.loads((small.unet / "progress.json").read_text())
    assert 0 < first["step"] < second["step"]
    assert second["seconds"] >= first["seconds"] + 2

    frozen = {k: v.clone() for k, v in mini_vae.load_vae(small).encoder.state_dict().items()}
    mini_vae.train_decoder(small, 1, "cpu", clips=3, per_clip=8, batch=2, crop=32)
    after = mini_vae.load_vae(small).encoder.state_dict()
    assert all(torch.equal(frozen[k], after[k]) for k in frozen)  # latents stay valid

    mini_unet.pack(small, tmp_path / "model")
    config = json.loads((tmp_path / "model" / "model.json").read_text())
    assert len(config["latents_mean"]) == SMALL.latent_channels
    pipe = pipeline.load(tmp_path / "model", device="cpu")
    photo = render_clip(5, height=SMALL.height, width=SMALL.width, frame_indices=[0]).frames[0]
    clip = pipe.generate(photo, GenerateSettings(steps=2))
    assert np.stack(list(clip.frames)).shape == (SMALL.frames, SMALL.height, SMALL.width, 3)


def test_loss_is_zero_for_the_truth_and_blind_to_given_frames() -> None:
    """A network that knows the clip has no loss, whatever it says about the frame that is given."""
    scheduler = mini_unet.build_scheduler()
    latents = torch.randn(2, 3, 6, 4, 4)

    class Oracle(torch.nn.Module):
        error = 0.0

        def forward(self, x: torch.Tensor, t: torch.Tensor, clip: torch.Tensor, first: torch.Tensor) -> torch.Tensor:
            # The given frame reaches the network as it is, and fills the extra channels of every frame.
            assert torch.equal(x[:, :3, 0], latents[:, :, 0])
            assert torch.equal(x[:, 3:6, 5], latents[:, :, 0])
            prediction = latents + self.error
            prediction[:, :, 0] = 100
            return prediction

    oracle = Oracle()
    generator = torch.Generator().manual_seed(0)
    weights = torch.tensor([2.0, 0.5, 0.5])
    assert mini_unet.training_loss(oracle, latents, torch.empty(0), scheduler, weights, generator).item() == 0
    oracle.error = 0.1
    loss = mini_unet.training_loss(oracle, latents, torch.empty(0), scheduler, weights, generator).item()
    assert 0.1**2 <= loss <= mini_unet.MAX_WEIGHT * 0.1**2 * 1.01
