"""Photo to frames with a tiny model: what comes out, what is refused, and memory that runs out."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import build_tiny_model
from torch import Tensor

from fashionflow_core.config import SCHEDULERS, GenerateSettings
from fashionflow_core.diffusion.conditioning import frames_to_tensor, tensor_to_frames
from fashionflow_core.diffusion.sampling import item_generator
from fashionflow_core.errors import FashionFlowError, UsageError
from fashionflow_core.images.fitting import Box, fit
from fashionflow_core.images.loading import load_photo
from fashionflow_core.pipeline import FashionFlowPipeline, load
from fashionflow_core.runtimes.preprocessing import from_vae_pixels, to_vae_pixels

# The conventions of the published model, of the bundled one, and of one trained the paper's way (3.3).
CONVENTIONS: dict[str, dict[str, Any]] = {
    "published": {
        "vae_patch_size": 1,
        "vae_range": "zero_one",
        "vae_sample": True,
        "clip_rescale_twice": True,
        "fit": "stretch",
        "resample": "bilinear",
        "scheduler": "ddpm",
    },
    "bundled": {"known_content": "latents", "mask_fill": "nearest"},
    "paper": {"known_content": "rgb", "fit": "crop"},
}


@pytest.fixture(scope="module")
def photo(golden: Path) -> np.ndarray:
    return load_photo(golden / "blue.jpg")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def tiny(folder: Path) -> FashionFlowPipeline:
    return load(folder, device="cpu")


def _frames(pipeline: FashionFlowPipeline, photo: np.ndarray, item: int = 0, **settings: Any) -> np.ndarray:
    return np.stack(list(pipeline.generate(photo, GenerateSettings(**settings), item).frames))


# ---- what comes out ------------------------------------------------------------------------------------------------


def test_a_clip_is_what_it_says(tiny: FashionFlowPipeline, photo: np.ndarray):
    done: list[tuple[int, int]] = []
    settings = GenerateSettings(seed=3, frames=6, fps=12.5, steps=4, scheduler="dpm++")
    clip = tiny.generate(photo, settings, item=2, on_step=lambda *count: done.append(count))
    frames = np.stack(list(clip.frames))
    assert frames.shape == (clip.count, clip.height, clip.width, 3) == (6, 60, 48, 3)
    assert frames.dtype == np.uint8 and frames.std() > 1
    assert clip.fps == 12.5 and clip.latents.shape == (1, 4, 6, 16, 12) and clip.latents.dtype == torch.float32
    assert done == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert clip.metadata == {
        "title": "FashionFlow, model tiny",
        "fashionflow_model": "tiny",
        "fashionflow_seed": "3",
        "fashionflow_item": "2",
        "fashionflow_scheduler": "dpm++",
        "fashionflow_steps": "4",
        "fashionflow_fit": "pad",
        "fashionflow_conditioning": "both",
    }


def test_what_is_not_asked_for_is_as_the_model_says(tiny: FashionFlowPipeline, photo: np.ndarray):
    clip = tiny.generate(photo, GenerateSettings())
    assert (clip.count, clip.fps) == (4, 25)
    metadata = clip.metadata
    assert (metadata["fashionflow_scheduler"], metadata["fashionflow_steps"]) == ("ddim", "2")


@pytest.mark.parametrize(("mode", "size"), [("pad", (60, 48)), ("crop", (64, 48)), ("stretch", (64, 48))])
def test_pad_bars_are_cut_off_and_nothing_else_is(
    tiny: FashionFlowPipeline, photo: np.ndarray, mode: str, size: tuple[int, int]
):
    clip = tiny.generate(photo, GenerateSettings(fit=mode))
    box = fit(photo, 64, 48, mode).box
    assert (clip.height, clip.width) == (box.height, box.width) == size
    whole = np.stack(list(tiny.decode(clip.latents)))
    assert whole.shape == (4, 64, 48, 3)
    inside = whole[:, box.top : box.top + box.height, box.left : box.left + box.width]
    np.testing.assert_array_equal(np.stack(list(clip.frames)), inside)


def test_a_wide_photo_is_cut_to_its_own_shape(tiny: FashionFlowPipeline, photo: np.ndarray):
    frames = _frames(tiny, np.ascontiguousarray(photo[:200]))  # 200x512
    assert frames.shape == (4, 18, 48, 3)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_the_first_frame_is_the_photo_as_the_vae_shows_it(tmp_path: Path, photo: np.ndarray, convention: str):
    """The given latent comes out of the loop untouched, through every convention."""
    pipeline = load(build_tiny_model(tmp_path / "model", **CONVENTIONS[convention]))
    config, networks = pipeline.config, pipeline.networks
    clip = pipeline.generate(photo, GenerateSettings())
    fitted = fit(photo, config.height, config.width, config.fit, config.resample)
    pixels = to_vae_pixels(frames_to_tensor(fitted.pixels[None], torch.device("cpu")), config)
    latents, logvar = networks.encode_image(pixels)
    if config.vae_sample:  # the first thing that an item's generator is asked for
        latents = latents + torch.randn(latents.shape, generator=item_generator(0, 0)) * (logvar / 2).exp()
    expected = tensor_to_frames(from_vae_pixels(networks.decode(latents), config))[0]
    box = fitted.box
    expected = expected[box.top : box.top + box.height, box.left : box.left + box.width]
    first, *others = list(clip.frames)
    assert np.abs(first.astype(int) - expected).max() <= 1
    assert all(np.abs(other.astype(int) - expected).max() > 1 for other in others)


@pytest.mark.filterwarnings("ignore:scheduler. lcm")
def test_every_scheduler_makes_another_clip(tiny: FashionFlowPipeline, photo: np.ndarray):
    found = {name: _frames(tiny, photo, scheduler=name, steps=3).astype(int) for name in SCHEDULERS}
    for (name, frames), (other, others) in itertools.combinations(found.items(), 2):
        assert frames.shape == (4, 60, 48, 3)
        difference = np.abs(frames - others).max()
        # Euler's method is DDIM in other variables.
        assert difference <= 1 if {name, other} == {"ddim", "euler"} else difference > 1


# Relative error of the latents against float32 after two steps, measured: bf16 0.53 %, fp16 0.07 %.
@pytest.mark.parametrize(("dtype", "kind", "error"), [("bf16", torch.bfloat16, 0.02), ("fp16", torch.float16, 0.003)])
def test_half_precision_makes_nearly_the_same_clip(
    folder: Path, tiny: FashionFlowPipeline, photo: np.ndarray, dtype: str, kind: torch.dtype, error: float
):
    pipeline = load(folder, dtype=dtype)
    networks: Any = pipeline.networks
    assert networks.dtype == kind
    found, exact = (p.generate(photo, GenerateSettings()) for p in (pipeline, tiny))
    assert found.latents.dtype == torch.float32
    assert float((found.latents - exact.latents).norm() / exact.latents.norm()) < error
    frames = np.stack(list(found.frames))
    assert frames.shape == (4, 60, 48, 3) and frames.std() > 1


def test_seed_and_item_decide(tiny: FashionFlowPipeline, photo: np.ndarray):
    frames = _frames(tiny, photo, seed=1)
    np.testing.assert_array_equal(frames, _frames(tiny, photo, seed=1))
    assert not np.array_equal(frames, _frames(tiny, photo, seed=2))
    assert not np.array_equal(frames, _frames(tiny, photo, item=1, seed=1))


# ---- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(48, 64), (640, 512), (64, 64)])
def test_another_size_names_the_native_one(tiny: FashionFlowPipeline, photo: np.ndarray, size: tuple[int, int]):
    with pytest.raises(UsageError, match="64x48") as caught:
        tiny.generate(photo, GenerateSettings(size=size))
    assert "size" in caught.value.message and f"{size[0]}x{size[1]}" in caught.value.message


def test_the_native_size_may_be_asked_for(tiny: FashionFlowPipeline, photo: np.ndarray):
    assert tiny.generate(photo, GenerateSettings(size=(64, 48))).count == 4


@pytest.mark.parametrize("frames", [1, 3, 71])
def test_odd_frames_name_the_divisor(tiny: FashionFlowPipeline, photo: np.ndarray, frames: int):
    with pytest.raises(UsageError, match=f"frames: {frames} is not a multiple of 2"):
        tiny.generate(photo, GenerateSettings(frames=frames))


# ---- memory, and numbers that are none -----------------------------------------------------------------------------


class Flawed:
    """Networks of which one function fails."""

    def __init__(self, networks: Any, **flaws: Callable[..., Any]) -> None:
        self._networks = networks
        self._flaws = flaws

    def __getattr__(self, name: str) -> Any:
        return self._flaws.get(name) or getattr(self._networks, name)


def _flawed(tiny: FashionFlowPipeline, **flaws: Callable[..., Any]) -> FashionFlowPipeline:
    networks: Any = Flawed(tiny.networks, **flaws)
    return FashionFlowPipeline(networks, tiny.conditioner.processor, tiny.config, tiny.make_scheduler)


def _out_of_memory(*_: Any) -> Any:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")


def _nothing(*tensors: Tensor) -> Tensor:
    return torch.full_like(tensors[0], float("nan"))


def _latents(frames: int) -> Tensor:
    return torch.randn(1, 4, frames, 16, 12, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("most", "tried"), [(7, [7, 7, 2]), (3, [7, 3, 3, 3, 3, 3, 1]), (1, [7, 3] + [1] * 16)])
def test_decoding_takes_half_when_memory_runs_out(tiny: FashionFlowPipeline, most: int, tried: list[int]):
    asked: list[int] = []

    def decode(latents: Tensor) -> Tensor:
        asked.append(len(latents))
        return _out_of_memory() if len(latents) > most else tiny.networks.decode(latents)

    frames = np.stack(list(_flawed(tiny, decode=decode).decode(_latents(16), chunk=7)))
    assert asked == tried
    np.testing.assert_array_equal(frames, np.stack(list(tiny.decode(_latents(16), chunk=most))))


def test_frames_are_the_same_in_chunks_of_any_size(tiny: FashionFlowPipeline):
    """Up to the rounding of a convolution that groups its sums otherwise."""
    frames = [np.stack(list(tiny.decode(_latents(6), chunk=chunk))).astype(int) for chunk in (1, 4, 6, 100)]
    for other in frames[1:]:
        assert np.abs(other - frames[0]).max() <= 1 and (other != frames[0]).mean() < 1e-3


def test_frames_are_decoded_as_they_are_asked_for(tiny: FashionFlowPipeline):
    asked: list[int] = []

    def decode(latents: Tensor) -> Tensor:
        asked.append(len(latents))
        return tiny.networks.decode(latents)

    frames = _flawed(tiny, decode=decode).decode(_latents(6), Box(0, 0, 60, 48), chunk=2)
    assert asked == []
    assert next(frames).shape == (60, 48, 3)
    assert asked == [2]


@pytest.mark.parametrize(
    ("flaws", "says"),
    [
        ({"decode": _out_of_memory}, "out of memory while decoding one frame"),
        ({"denoise": _out_of_memory}, "out of memory while denoising 4 frames"),
        ({"encode_image": _out_of_memory}, "out of memory"),
        ({"denoise": _nothing}, "denoising returned values that are not finite"),
        ({"decode": _nothing}, "decoding returned values that are not finite"),
    ],
)
def test_a_failing_device_is_one_line_and_a_hint(
    tiny: FashionFlowPipeline, photo: np.ndarray, flaws: dict[str, Any], says: str
):
    with pytest.raises(FashionFlowError, match=says) as caught:
        _frames(_flawed(tiny, **flaws), photo)
    assert caught.value.hint is not None and "dtype=" in caught.value.hint
    assert "\n" not in caught.value.message
