"""DreamPose-style sampling: steps, guidance, what optimising it may and may not change, and what it is charged for."""

import gc
from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny_baselines import CPU, EAGER, STEPS, TINY
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from fashionflow_benchmarks import dreampose
from fashionflow_benchmarks.dreampose import AS_PUBLISHED, DreamPose, How, open_dreampose


def test_a_hundred_steps_are_101_calls() -> None:
    timesteps = dreampose.make_scheduler(100).timesteps.tolist()
    assert len(timesteps) == 101 and timesteps[:3] == [991, 981, 981] and timesteps[-1] == 1


@pytest.fixture(scope="module")
def plain() -> DreamPose:
    return DreamPose(TINY, CPU, torch.float32)


@pytest.fixture(scope="module")
def latents(plain: DreamPose) -> Tensor:
    return plain.sample(STEPS, 4)


@pytest.mark.parametrize(
    "how",
    [EAGER, How(half=True, channels_last=True), How(once=True), How(frames_at_once=4), How(frames_at_once=3)],
    ids=["all", "channels-last", "once", "batch", "uneven"],
)
def test_optimised_gives_the_same(plain: DreamPose, latents: Tensor, how: How) -> None:
    model = DreamPose(TINY, CPU, torch.float32, how)
    found = model.sample(STEPS, 4)
    # Random networks leave large latents, their error with them: guidance by 8 and PNDM have amplified both.
    torch.testing.assert_close(found, latents, rtol=0, atol=1e-4 * latents.std().item())
    difference = model.video(STEPS, 4).astype(int) - plain.video(STEPS, 4)
    assert abs(difference).max() <= 1


@pytest.mark.slow
def test_compiled_gives_the_same() -> None:
    shallow = {
        "block_out_channels": (8, 16),
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    }
    shape = replace(TINY, unet2d=TINY.unet2d | shallow)
    expected, found = (
        DreamPose(shape, CPU, torch.float32, replace(EAGER, compiled=compiled)).sample(STEPS, 4)
        for compiled in (False, True)
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * expected.std().item())


def test_half_precision_stays_near(plain: DreamPose) -> None:
    """One guided prediction, eight times the difference of two passes: rounding shows, another network would more."""
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(3, 14, 16, 16, generator=generator), torch.tensor(500), torch.randn(3, 5, 96)
    expected = plain.predict(*inputs)
    for how in (AS_PUBLISHED, EAGER):
        found = DreamPose(TINY, CPU, torch.bfloat16, how).predict(*inputs)
        assert found.dtype == torch.float32
        assert 0 < (found - expected).std() < 0.1 * expected.std()


def test_frames_depend_on_their_own_poses_alone(plain: DreamPose, latents: Tensor) -> None:
    torch.testing.assert_close(plain.sample(STEPS, 2), latents[:2])
    assert not torch.allclose(latents[0], latents[1], atol=1e-2)


def test_guidance_of_photo_and_poses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their formula: nothing + s1 (photo - nothing) + s2 (both - photo), s1 = 8, s2 = 3."""
    model = DreamPose(TINY, CPU, torch.float32)
    answers = {(False, False): 1.0, (False, True): 10.0, (True, True): 100.0}

    def unet(x: Tensor, _timestep: Tensor, context: Tensor, return_dict: bool) -> tuple[Tensor]:
        poses, photo = x[:, 4:].flatten(1).any(dim=1), context.flatten(1).any(dim=1)
        values = [answers[bool(a), bool(b)] for a, b in zip(poses, photo)]
        return (torch.tensor(values)[:, None, None, None].expand(-1, 4, 16, 16),)

    monkeypatch.setattr(model, "unet", unet)
    context, start = torch.stack((torch.zeros(5, 96), torch.ones(5, 96))), torch.zeros(1, 4, 16, 16)
    seen: list[Tensor] = []
    predict = model.predict
    monkeypatch.setattr(model, "predict", lambda *inputs: seen.append(predict(*inputs)) or seen[-1])
    dreampose.DreamPoseSampling(model, context, start, model.poses(2), STEPS)()
    assert seen[0].shape == (2, 4, 16, 16)
    assert torch.equal(seen[0], torch.full_like(seen[0], 1 + 8 * (10 - 1) + 3 * (100 - 10)))


class Casts(TorchDispatchMode):
    """Counts numbers cast to bfloat16."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._to_copy.default and (kwargs or {}).get("dtype") == torch.bfloat16:
            self.numbers += args[0].numel()
        return func(*args, **(kwargs or {}))


def test_weights_are_cast_once() -> None:
    """A cast in every call would be charged to a baseline whose own code casts once a frame."""
    with open_dreampose(TINY, CPU, torch.bfloat16, steps=2) as opened:
        counts = []
        weights = opened.parameters["unet"]
        torch.clear_autocast_cache()
        for _ in range(2):
            with Casts() as casts:
                opened.stages["denoise"]()
            counts.append(casts.numbers)
        assert counts[0] - counts[1] > 0.9 * weights > counts[1]
    assert not torch.is_autocast_enabled("cpu")


def test_weights_are_the_seeds(plain: DreamPose) -> None:
    before = torch.get_rng_state()
    again, other = (DreamPose(TINY, CPU, torch.float32, seed=seed) for seed in (0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    for name, weight in plain.unet.state_dict().items():
        assert torch.equal(weight, again.unet.state_dict()[name])
    assert not torch.equal(plain.unet.conv_in.weight, other.unet.conv_in.weight)


def test_networks_go_when_the_baseline_does() -> None:
    def networks() -> int:
        gc.collect()
        return sum(type(thing).__name__ == "UNet2DConditionModel" for thing in gc.get_objects())

    before = networks()
    with open_dreampose(TINY, CPU, torch.float32, steps=2) as opened:
        opened.stages["denoise"]()
        assert networks() == before + 1
    del opened
    assert networks() == before
