"""`--low-memory`: networks take turns on the device, and videos stay the same."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import build_tiny_model

from fashionflow_core import pipeline, runtimes
from fashionflow_core.config import LoadOptions
from fashionflow_core.errors import UsageError
from fashionflow_core.runtimes.offload import OffloadedNetworks

CPU = torch.device("cpu")
PHOTO = np.random.default_rng(0).integers(0, 256, (64, 48, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("models") / "tiny", known_content="rgb")


def test_videos_are_the_same(model: Path) -> None:
    usual, low = (pipeline.load(model, device="cpu", low_memory=low) for low in (False, True))
    assert isinstance(low.networks, OffloadedNetworks)
    frames = [np.stack(list(pipe.generate(PHOTO, seed=3).frames)).astype(int) for pipe in (usual, low)]
    assert np.abs(frames[0] - frames[1]).max() <= 1  # one frame at a time rounds elsewhere
    assert frames[0].std() > 5


@pytest.mark.parametrize(
    ("call", "there"),
    [
        ("encode_image", {"vae"}),
        ("context", {"image_encoder", "adapter"}),
        ("denoise", {"unet"}),
        ("decode", {"vae"}),
    ],
)
def test_only_what_works_is_on_the_device(model: Path, call: str, there: set[str]) -> None:
    """On a device that computes nothing and keeps nothing, which shows who was sent there."""
    networks = OffloadedNetworks(runtimes.load(model, LoadOptions("cpu", backend="torch")), torch.device("meta"))  # pyright: ignore[reportArgumentType]
    inputs: dict[str, tuple[Any, ...]] = {
        "encode_image": (torch.zeros(1, *networks.pixel_shape),),
        "context": (torch.zeros(1, 3, 32, 32), torch.zeros(1, 4, 16, 12)),
        "denoise": (torch.zeros(1, 8, 4, 16, 12), torch.tensor([5]), torch.zeros(1, 17, 32)),
        "decode": (torch.zeros(3, 4, 16, 12),),
    }
    result = getattr(networks, call)(*inputs[call])
    assert (result[0] if isinstance(result, tuple) else result).device.type == "meta"
    parts = ("unet", "adapter", "vae", "image_encoder")
    assert {name for name in parts if getattr(networks, name).device.type == "meta"} == there


def test_frames_are_decoded_one_by_one(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = pipeline.load(model, device="cpu", low_memory=True)
    vae: Any = pipe.networks.vae  # pyright: ignore[reportAttributeAccessIssue]
    decode, sizes = vae.decode, []

    def watched(latents: torch.Tensor, **options: Any) -> Any:
        sizes.append(len(latents))
        return decode(latents, **options)

    monkeypatch.setattr(vae, "decode", watched)
    assert pipe.networks.decode(torch.zeros(3, 4, 16, 12)).shape[0] == 3
    assert sizes == [1, 1, 1]


def test_not_both(model: Path) -> None:
    with pytest.raises(UsageError, match="compile, low_memory"):
        pipeline.load(model, device="cpu", compile=True, low_memory=True)


@pytest.mark.gpu
def test_a_gpu_holds_less(model: Path) -> None:
    peaks = []
    for low in (False, True):
        pipe = pipeline.load(model, device="cuda", low_memory=low)
        torch.cuda.reset_peak_memory_stats()
        list(pipe.generate(PHOTO).frames)
        peaks.append(torch.cuda.max_memory_allocated())
        del pipe
    assert peaks[1] < peaks[0]
