"""Conditioning: the golden CLIP pixels, the VAE's ranges and patches, latent statistics, and what a model is given."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny import build_tiny_model, tiny_config
from torch import Tensor
from transformers import CLIPImageProcessorPil

from fashionflow_core import runtimes
from fashionflow_core.config import LoadOptions
from fashionflow_core.diffusion.conditioning import (
    Conditioner,
    clip_pixels,
    frames_to_tensor,
    known_content,
    load_processor,
    tensor_to_frames,
)
from fashionflow_core.diffusion.sampling import item_generator
from fashionflow_core.errors import FashionFlowError
from fashionflow_core.images.fitting import fit
from fashionflow_core.images.loading import load_photo
from fashionflow_core.runtimes.interface import Networks
from fashionflow_core.runtimes.preprocessing import (
    denormalize_latents,
    from_vae_pixels,
    normalize_latents,
    to_vae_pixels,
)

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def values(golden: Path) -> dict[str, np.ndarray]:
    with np.load(golden / "golden_conditioning.npz") as arrays:
        return {name: arrays[name] for name in arrays.files}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


def _photos(count: int, height: int = 64, width: int = 48) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def _uniform(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


# ---- CLIP ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "twice"), [("clip_official", True), ("clip_correct", False)])
def test_golden_clip_pixels(golden: Path, values: dict[str, np.ndarray], name: str, twice: bool):
    photo = fit(load_photo(golden / "blue.jpg"), 640, 512, "stretch", "bilinear").pixels
    config = tiny_config(height=640, width=512, clip_rescale_twice=twice)
    found = clip_pixels(photo[None], CLIPImageProcessorPil(), config)
    assert found.shape == (1, 3, 224, 224) and found.dtype == torch.float32
    np.testing.assert_allclose(found[0, :, ::8, ::8].numpy(), values[name], atol=1e-6, rtol=0)


def test_rescaling_twice_leaves_a_255th_of_the_contrast():
    photos, processor = _photos(1, 224, 224), CLIPImageProcessorPil()
    once = clip_pixels(photos, processor, tiny_config())
    twice = clip_pixels(photos, processor, tiny_config(clip_rescale_twice=True))
    torch.testing.assert_close(twice.std(dim=(2, 3)) * 255, once.std(dim=(2, 3)), rtol=1e-4, atol=0)


# ---- the VAE's pixels ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("patch", [1, 2, 8])
@pytest.mark.parametrize("vae_range", ["zero_one", "minus_one_one"])
def test_vae_pixels_there_and_back(vae_range: str, patch: int):
    config, frames = tiny_config(vae_range=vae_range, vae_patch_size=patch), _uniform(2, 3, 64, 48)
    pixels = to_vae_pixels(frames, config)
    scaled = frames if vae_range == "zero_one" else 2 * frames - 1
    # Torch's space-to-depth is an independent formulation of the channel order (c p1 p2).
    assert torch.equal(pixels, F.pixel_unshuffle(scaled, patch))
    torch.testing.assert_close(from_vae_pixels(pixels, config), frames, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("vae_range", "low"), [("zero_one", 0.0), ("minus_one_one", -1.0)])
def test_what_the_vae_overshoots_is_clamped(vae_range: str, low: float):
    config = tiny_config(vae_range=vae_range, vae_patch_size=1)
    pixels = torch.tensor([low - 0.5, low, 1.0, 1.5]).reshape(1, 1, 2, 2).expand(1, 3, 2, 2)
    assert torch.equal(from_vae_pixels(pixels, config)[0, 0].flatten(), torch.tensor([0.0, 0, 1, 1]))


def test_every_grey_level_survives():
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
    for vae_range in ("zero_one", "minus_one_one"):
        config = tiny_config(vae_range=vae_range, vae_patch_size=2)
        pixels = to_vae_pixels(frames_to_tensor(levels, CPU), config)
        np.testing.assert_array_equal(tensor_to_frames(from_vae_pixels(pixels, config)), levels)


# ---- latents -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(2, 4, 6, 5), (2, 4, 3, 6, 5)])  # b c h w and b c f h w
def test_latent_statistics_there_and_back(shape: tuple[int, ...]):
    config = tiny_config(latents_mean=(1.0, -2.0, 0.5, 0.0), latents_std=(2.0, 0.5, 1.0, 4.0))
    latents = _uniform(*shape)
    normalized = normalize_latents(latents, config)
    for channel, (mean, std) in enumerate(zip(config.latents_mean, config.latents_std)):
        torch.testing.assert_close(normalized[:, channel], (latents[:, channel] - mean) / std)
    torch.testing.assert_close(denormalize_latents(normalized, config), latents)


def test_the_published_scaling_is_a_deviation():
    config = tiny_config(latents_mean=(0.0,) * 4, latents_std=(1 / 0.18215,) * 4)
    latents = _uniform(1, 4, 6, 5)
    torch.testing.assert_close(normalize_latents(latents, config), latents * 0.18215)


def test_known_content_shows_what_the_config_says():
    photos, latents = _uniform(2, 3, 64, 48), _uniform(2, 4, 16, 12)
    assert known_content(photos, latents, tiny_config()) is None
    assert known_content(photos, latents, tiny_config(known_content="latents")) is latents
    rgb = known_content(photos, latents, tiny_config(known_content="rgb"))
    assert rgb is not None and rgb.shape == (2, 3, 16, 12)
    block = photos[1, :, 4 * 5 : 4 * 6, 4 * 7 : 4 * 8].mean(dim=(1, 2))
    torch.testing.assert_close(rgb[1, :, 5, 7], 2 * block - 1)


# ---- all of it, with networks --------------------------------------------------------------------------------------


class Watched:
    """Networks that remember what they were asked and what they answered."""

    def __init__(self, networks: Networks) -> None:
        self._networks = networks
        self.encoded: list[tuple[Tensor, Tensor]] = []
        self.contexts: list[tuple[Tensor, Tensor]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._networks, name)

    def encode_image(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        self.encoded.append(self._networks.encode_image(pixels))
        return self.encoded[-1]

    def context(self, pixels: Tensor, latents: Tensor) -> Tensor:
        self.contexts.append((pixels, latents))
        return self._networks.context(pixels, latents)


def _watched(model: Path, **overrides: Any) -> tuple[Conditioner, Watched]:
    networks: Any = Watched(runtimes.load(model, LoadOptions("cpu", "fp32", backend="torch")))
    return Conditioner(networks, load_processor(model), tiny_config(**overrides)), networks


def test_encode_without_posterior_noise_draws_nothing(model: Path):
    conditioner, networks = _watched(model, known_content="latents")
    generator = item_generator(0, 0)
    before = generator.get_state()
    local, context, content = conditioner.encode(_photos(1), [generator])
    assert torch.equal(generator.get_state(), before)
    mean, _ = networks.encoded[0]
    assert local.shape == (1, 4, 16, 12) and context.shape == (1, 17, 32)
    assert torch.equal(local, normalize_latents(mean, conditioner.config))
    assert content is local
    assert torch.equal(networks.contexts[0][1], local)
    assert torch.equal(networks.contexts[0][0], clip_pixels(_photos(1), conditioner.processor, conditioner.config))


def test_posterior_noise_is_drawn_for_the_local_latent_and_then_for_the_global_one(model: Path):
    conditioner, networks = _watched(model, vae_sample=True)
    local, _, content = conditioner.encode(_photos(2), [item_generator(5, item) for item in (3, 8)])
    assert content is None
    (mean, logvar), (_, globally) = networks.encoded[0], networks.contexts[0]
    generators = [item_generator(5, item) for item in (3, 8)]
    for latents in (local, globally):
        noise = torch.stack([torch.randn(mean.shape[1:], generator=generator) for generator in generators])
        expected = normalize_latents(mean + noise * (logvar / 2).exp(), conditioner.config)
        torch.testing.assert_close(latents, expected)
    assert not torch.allclose(local, globally)


def test_neighbours_do_not_matter(model: Path):
    conditioner, _ = _watched(model, vae_sample=True, known_content="rgb")
    photos = _photos(2)
    together = conditioner.encode(photos, [item_generator(0, item) for item in range(2)])
    for item in range(2):
        alone = conditioner.encode(photos[item : item + 1], [item_generator(0, item)])
        for one, both in zip(alone, together):
            assert one is not None and both is not None
            torch.testing.assert_close(one, both[item : item + 1], atol=1e-5, rtol=0)


def test_a_feature_extractor_that_is_missing_or_broken(model: Path, tmp_path: Path):
    folder = Path(shutil.copytree(model / "feature_extractor", tmp_path / "feature_extractor"))
    file = folder / "preprocessor_config.json"
    for text in ("{", json.dumps([1])):
        file.write_text(text)
        with pytest.raises(FashionFlowError, match="cannot be loaded") as caught:
            load_processor(tmp_path)
        assert str(folder) in caught.value.message and "\n" not in caught.value.message
    file.unlink()
    with pytest.raises(FashionFlowError, match="missing part of the model folder") as caught:
        load_processor(tmp_path)
    assert str(folder) in caught.value.message
