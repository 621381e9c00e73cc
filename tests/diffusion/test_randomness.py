"""Noise: streams of seeds and items, the order they are drawn in, and what must leave them alone."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from golden.named_weights import named_normal
from tiny import build_tiny_model
from torch import Tensor

from fashionflow_core import runtimes
from fashionflow_core.config import SCHEDULERS, LoadOptions
from fashionflow_core.diffusion.known_frames import KnownFrames
from fashionflow_core.diffusion.sampling import item_generator, sample
from fashionflow_core.diffusion.schedulers import make_scheduler


def _first(generator: torch.Generator) -> int:
    """The first 62 bits of a stream."""
    return int(torch.randint(2**62, (1,), generator=generator))


def test_streams_of_seeds_and_items_are_all_different():
    seeds = [*range(60), *(2**power + offset for power in range(8, 63, 6) for offset in (-1, 0, 1)), 2**63 - 1]
    firsts = {_first(item_generator(seed, item)) for seed in seeds for item in range(100)}
    assert len(firsts) == 100 * len(seeds)


class Seed:
    """Stands for torch.Generator, to look at many seeds without setting up as many streams."""

    def __init__(self, device: str) -> None:
        assert device == "cpu"

    def manual_seed(self, seed: int) -> int:
        return seed


def test_no_two_items_of_a_seed_share_their_noise(monkeypatch: pytest.MonkeyPatch):
    """Torch's CPU generator keeps 32 bits of its seed; of 300,000 random ones some ten would be taken twice."""
    assert _first(torch.Generator().manual_seed(7)) == _first(torch.Generator().manual_seed(7 + 2**32))
    monkeypatch.setattr(torch, "Generator", Seed)
    seeds: list[Any] = [item_generator(0, item) for item in range(300_000)]
    assert len({seed % 2**32 for seed in seeds}) == 300_000


def test_neighbouring_items_are_not_correlated():
    noise = torch.stack([torch.randn(4096, generator=item_generator(s, i)) for s in range(8) for i in range(8)])
    correlation = torch.corrcoef(noise) - torch.eye(64)
    assert correlation.abs().max() < 5 / math.sqrt(4096)
    assert abs(float(noise.mean())) < 4 / math.sqrt(noise.numel())


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


def _sample_tiny(model: Path, name: str, items: list[int], dtype: str = "fp32") -> tuple[Tensor, Tensor]:
    """What the tiny model makes of these items, and the input of its first call."""
    networks, inputs = runtimes.load(model, LoadOptions("cpu", dtype, "torch")), []

    def denoise(x: Tensor, timestep: Tensor, context: Tensor) -> Tensor:
        inputs.append(x.clone())
        return networks.denoise(x, timestep, context)

    photos = torch.from_numpy(named_normal("photos", (9, 4, 16, 12)))[items]
    context = torch.from_numpy(named_normal("contexts", (9, 17, 32)))[items]
    generators = [item_generator(3, item) for item in items]
    known = KnownFrames.first(photos, 4)
    return sample(denoise, make_scheduler(model, name), 5, known, context, generators), inputs[0]


@pytest.mark.parametrize("name", SCHEDULERS)
def test_neighbours_do_not_matter(model: Path, name: str):
    both, both_noise = _sample_tiny(model, name, [2, 7])
    for position, item in enumerate((2, 7)):
        alone, noise = _sample_tiny(model, name, [item])
        assert torch.equal(noise[0], both_noise[position])
        assert (alone[0] - both[position]).abs().max() < 1e-5 * both.abs().max()
    assert not torch.isclose(both_noise[0, :, 1:], both_noise[1, :, 1:]).any()


def test_the_same_seed_and_item_give_the_same_bits(model: Path):
    assert torch.equal(_sample_tiny(model, "ddpm", [2])[0], _sample_tiny(model, "ddpm", [2])[0])


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_the_networks_dtype_leaves_the_noise_alone(model: Path, monkeypatch: pytest.MonkeyPatch, dtype: str):
    draws: list[Tensor] = []
    randn = torch.randn

    def watched(*args: Any, **kwargs: Any) -> Tensor:
        drawn = randn(*args, **kwargs)
        if "generator" in kwargs:
            assert kwargs["generator"].device.type == "cpu"
            draws.append(drawn)
        return drawn

    monkeypatch.setattr(torch, "randn", watched)
    exact, _ = _sample_tiny(model, "ddpm", [2, 7])
    lowered, _ = _sample_tiny(model, "ddpm", [2, 7], dtype)
    # The initial noise of each item, then each item's noise of every step but that of timestep 0.
    assert [tuple(draw.shape) for draw in draws] == [(1, 4, 4, 16, 12)] * 2 * 2 * 5
    assert all(draw.dtype == torch.float32 for draw in draws)
    assert all(torch.equal(one, other) for one, other in zip(draws[:10], draws[10:], strict=True))
    assert exact.dtype == lowered.dtype == torch.float32 and not torch.equal(exact, lowered)
