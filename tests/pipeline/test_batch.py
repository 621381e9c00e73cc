"""Several photos in one call of the U-Net: neighbours change no video, and unlike requests share no steps."""

import numpy as np
import pytest
from tiny import build_tiny_model

from fashionflow_core import pipeline
from fashionflow_core.catalogue.gpu_memory import MOST, batch_that_fits
from fashionflow_core.config import GenerateSettings
from fashionflow_core.errors import OutOfMemory
from fashionflow_core.store.registry import ASSETS


def photos(count: int, height: int = 96, width: int = 64) -> list[np.ndarray]:
    coarse = np.random.default_rng(0).integers(0, 256, (count, height // 16, width // 16, 3), np.uint8)
    return [one.repeat(16, axis=0).repeat(16, axis=1) for one in coarse]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> pipeline.FashionFlowPipeline:
    folder = build_tiny_model(tmp_path_factory.mktemp("models") / "tiny", vae_sample=True)
    return pipeline.load(folder, device="cpu")


@pytest.mark.parametrize("scheduler", ["ddpm", "ddim", "dpm++-sde", "unipc"])
def test_neighbours_do_not_change_a_video(tiny: pipeline.FashionFlowPipeline, scheduler: str) -> None:
    """Within 1/255, with a seed and a variation of each photo's own."""
    settings = [
        GenerateSettings(seed=seed, steps=5, scheduler=scheduler, fit=fit)
        for seed, fit in zip((3, 1, 3), ("pad", "crop", "stretch"))
    ]
    items = [0, 4, 1]
    together = tiny.generate_batch(photos(3), settings, items)
    for photo, request, item, clip in zip(photos(3), settings, items, together):
        alone = tiny.generate(photo, request, item=item)
        assert (clip.count, clip.height, clip.width, clip.metadata) == (4, alone.height, alone.width, alone.metadata)
        ours, theirs = np.stack(list(clip.frames)).astype(int), np.stack(list(alone.frames)).astype(int)
        assert np.abs(ours - theirs).max() <= 1


@pytest.mark.slow
def test_neighbours_do_not_change_a_video_of_the_bundled_model() -> None:
    mini = pipeline.load(ASSETS / "mini-latent", device="cpu")
    settings = [GenerateSettings(seed=seed, frames=8) for seed in (0, 1)]
    together = mini.generate_batch(photos(2, 320, 256), settings, [0, 0])
    for photo, request, clip in zip(photos(2, 320, 256), settings, together):
        alone = np.stack(list(mini.generate(photo, request).frames)).astype(int)
        assert np.abs(np.stack(list(clip.frames)) - alone).max() <= 1


def test_requests_that_cannot_share_their_steps(tiny: pipeline.FashionFlowPipeline) -> None:
    for other in (GenerateSettings(steps=3), GenerateSettings(frames=6), GenerateSettings(scheduler="ddpm")):
        with pytest.raises(ValueError, match="may differ in"):
            tiny.generate_batch(photos(2), [GenerateSettings(), other], [0, 0])


def test_out_of_memory_has_a_type_of_its_own(
    tiny: pipeline.FashionFlowPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_arguments: object) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp] . DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(tiny.networks, "denoise", full)
    with pytest.raises(OutOfMemory, match="out of memory while denoising"):
        tiny.generate_batch(photos(2), [GenerateSettings()] * 2, [0, 0])


def test_the_batch_that_fits() -> None:
    assert [batch_that_fits(free, 10) for free in (0, 11, 12, 24, 48, 10_000)] == [1, 1, 1, 2, 4, MOST]
    assert batch_that_fits(100, 0) == MOST
