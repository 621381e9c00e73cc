"""Classifier-free guidance and the three kinds of conditioning, by what the network is asked and what comes of it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from schedules import SCHEDULES, generators_of, kept_variance, nothing_known, oracle, scheduler_folder
from tiny import Spy, build_tiny_model
from torch import Tensor

from fashionflow_core.config import CONDITIONING, SCHEDULERS
from fashionflow_core.diffusion.sampling import guided, is_guided, sample
from fashionflow_core.diffusion.schedulers import make_scheduler
from fashionflow_core.errors import UsageError
from fashionflow_core.pipeline import FashionFlowPipeline, load

TRAIN_STEPS = 1000
EVERYWHERE = (0.0, 1.0)


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (90, 60, 3), np.uint8)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, FashionFlowPipeline]:
    """A tiny model trained (so it says) for everything, with each kind of extra input channels."""
    root = tmp_path_factory.mktemp("models")
    kinds = {"none": ("none", "zero"), "rgb": ("rgb", "zero"), "latents": ("latents", "nearest")}
    common: dict[str, Any] = {"conditioning": CONDITIONING, "context_dropout": 0.1, "steps": 4}
    return {
        name: load(build_tiny_model(root / name, known_content=content, mask_fill=fill, **common), device="cpu")
        for name, (content, fill) in kinds.items()
    }


@pytest.fixture
def spied(models: dict[str, FashionFlowPipeline], request: pytest.FixtureRequest) -> tuple[FashionFlowPipeline, Spy]:
    model = models[getattr(request, "param", "none")]
    spy: Any = Spy(model.networks)
    return FashionFlowPipeline(spy, model.conditioner.processor, model.config, model.make_scheduler), spy


# ---- guidance ------------------------------------------------------------------------------------------------------


def test_each_guided_step_asks_twice_and_takes_the_second_time_no_context(
    spied: tuple[FashionFlowPipeline, Spy], photo: np.ndarray
):
    pipeline, spy = spied
    clip = pipeline.generate(photo, guidance_scale=3)
    assert len(spy.calls) == 8
    for (x, timestep, context), (null_x, null_timestep, null) in zip(spy.calls[::2], spy.calls[1::2]):
        assert torch.equal(x, null_x) and timestep == null_timestep
        assert context.any() and not null.any() and null.shape == context.shape
    assert not torch.isclose(clip.latents[:, :, 1:], pipeline.generate(photo).latents[:, :, 1:]).all()
    assert clip.metadata["fashionflow_guidance"] == "3"


@pytest.mark.parametrize("scale", [1, 1.0])
def test_scale_1_is_not_a_bit_different(spied: tuple[FashionFlowPipeline, Spy], photo: np.ndarray, scale: float):
    pipeline, spy = spied
    plain = pipeline.generate(photo).latents
    assert torch.equal(pipeline.generate(photo, guidance_scale=scale).latents, plain)
    assert len(spy.calls) == 8  # twice four
    assert "fashionflow_guidance" not in pipeline.generate(photo, guidance_scale=scale).metadata


def test_outside_the_interval_there_is_one_call_not_a_bit_different(
    spied: tuple[FashionFlowPipeline, Spy], photo: np.ndarray
):
    pipeline, spy = spied
    timesteps = [800, 600, 400, 200]  # four steps of the tiny model
    clip = pipeline.generate(photo, guidance_scale=3, guidance_interval=(0.4, 0.8))
    assert [timestep for _, timestep, _ in spy.calls] == [800, 600, 600, 400, 400, 200]
    inputs = [x for x, _, context in spy.calls if context.any()]
    spy.calls.clear()
    unguided = pipeline.generate(photo)
    assert [timestep for _, timestep, _ in spy.calls] == timesteps
    # The first step is unguided, and so is what the second starts from.
    assert torch.equal(inputs[0], spy.calls[0][0]) and torch.equal(inputs[1], spy.calls[1][0])
    assert not torch.equal(inputs[2], spy.calls[2][0])
    assert not torch.equal(clip.latents, unguided.latents)
    # An interval between the steps guides none of them.
    nowhere = pipeline.generate(photo, guidance_scale=3, guidance_interval=(0.3, 0.4))
    assert torch.equal(nowhere.latents, unguided.latents)


def test_the_ends_of_the_interval_belong_to_it():
    assert is_guided(999, (1e-9, 1.0), TRAIN_STEPS) and is_guided(0, (0.0, 0.1), TRAIN_STEPS)
    assert not is_guided(998, (0.9999, 1.0), TRAIN_STEPS) and not is_guided(1, (0.0, 0.0005), TRAIN_STEPS)
    assert all(is_guided(timestep, EVERYWHERE, TRAIN_STEPS) for timestep in range(TRAIN_STEPS))


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_guidance_does_the_same_to_every_prediction_type(tmp_path: Path, schedule: str, name: str):
    """Two exact denoisers, with the context and without: guided, their clean clips are mixed, whatever they predict.

    All data with context c are one point p, those without are one point q: every sampler must end in q + 2 (p - q).
    """
    folder, shape = scheduler_folder(tmp_path, schedule), (1, 4, 2, 3, 2)
    generator = torch.Generator().manual_seed(5)
    with_context, without = torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)
    exact = [oracle(folder, point, torch.tensor(0.0)) for point in (without, with_context)]

    def denoise(x: Tensor, timestep: Tensor, context: Tensor) -> Tensor:
        return exact[int(context.any())](x, timestep, context)

    found = sample(
        guided(denoise, 2, EVERYWHERE, TRAIN_STEPS),
        make_scheduler(folder, name),
        12,
        nothing_known(*shape),
        torch.ones(1, 1, 1),
        generators_of(1),
    )
    torch.testing.assert_close(found, without + 2 * (with_context - without), atol=0.02, rtol=0)


def test_guidance_at_one_timestep_is_the_formula(tmp_path: Path):
    """Of predicted noise, Ho and Salimans' equation 6: (1 + w) conditioned - w null, with w = scale - 1."""
    conditioned, null = torch.randn(2, 1, 4, 2, 3, 2, generator=torch.Generator().manual_seed(0))
    denoise = guided(lambda x, t, context: conditioned if context.any() else null, 7.5, EVERYWHERE, TRAIN_STEPS)
    found = denoise(torch.zeros_like(null), torch.tensor(500), torch.ones(1, 1, 1))
    torch.testing.assert_close(found, 7.5 * conditioned - 6.5 * null)
    assert 0 < float(kept_variance(scheduler_folder(tmp_path))[500]) < 1


def test_a_model_without_dropped_context_refuses_guidance(tmp_path: Path, photo: np.ndarray):
    pipeline = load(build_tiny_model(tmp_path / "tiny"), device="cpu")
    for call in (lambda: pipeline.generate(photo, guidance_scale=2), lambda: pipeline.plan(guidance_scale=2)):
        with pytest.raises(
            UsageError, match="guidance_scale: model tiny was trained without dropped context"
        ) as caught:
            call()
        assert caught.value.hint is not None
    assert pipeline.generate(photo, guidance_scale=1).count == 4


# ---- conditioning --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spied", ["none", "rgb", "latents"], indirect=True)
def test_local_gives_the_first_frame_and_no_context(spied: tuple[FashionFlowPipeline, Spy], photo: np.ndarray):
    pipeline, spy = spied
    clip, both = pipeline.generate(photo, conditioning="local"), pipeline.generate(photo)
    assert clip.metadata["fashionflow_conditioning"] == "local"
    for (x, _, context), (of_both, _, some) in zip(spy.calls[:4], spy.calls[4:]):
        assert not context.any() and some.any() and context.shape == some.shape
        assert torch.equal(x[:, :, 0], of_both[:, :, 0])  # latents and extra channels of the given frame
    assert torch.equal(clip.latents[:, :, 0], both.latents[:, :, 0])
    assert not torch.isclose(clip.latents[:, :, 1:], both.latents[:, :, 1:]).all()


@pytest.mark.parametrize("spied", ["none", "rgb", "latents"], indirect=True)
def test_global_gives_the_context_and_no_frame(spied: tuple[FashionFlowPipeline, Spy], photo: np.ndarray):
    pipeline, spy = spied
    clip, both = pipeline.generate(photo, conditioning="global"), pipeline.generate(photo)
    given = both.latents[:, :, 0]
    for (x, _, context), (of_both, _, same) in zip(spy.calls[:4], spy.calls[4:]):
        assert torch.equal(context, same) and context.any()
        assert torch.equal(of_both[:, :4, 0], given)
        assert not torch.isclose(x[:, :4, 0], given).any()
        assert not x[:, 4:].any()  # neither content nor mask
    assert not torch.isclose(clip.latents[:, :, 0], given).any()
    assert len(list(clip.frames)) == 4


def test_the_noise_does_not_depend_on_the_conditioning(spied: tuple[FashionFlowPipeline, Spy], photo: np.ndarray):
    pipeline, spy = spied
    for conditioning in CONDITIONING:
        pipeline.generate(photo, conditioning=conditioning, steps=1)
    first, *others = (x[:, :4, 1:] for x, _, _ in spy.calls)
    assert all(torch.equal(first, other) for other in others)


def test_the_first_conditioning_of_the_model_is_its_default(tmp_path: Path, photo: np.ndarray):
    folder = build_tiny_model(tmp_path / "tiny", conditioning=("global", "both"))
    clip = load(folder, device="cpu").generate(photo)
    assert clip.metadata["fashionflow_conditioning"] == "global"


def test_a_conditioning_the_model_was_not_trained_for_names_those_it_was(tmp_path: Path, photo: np.ndarray):
    pipeline = load(build_tiny_model(tmp_path / "tiny", conditioning=("both", "global")), device="cpu")
    for call in (pipeline.generate, lambda _, **options: pipeline.plan(**options)):
        with pytest.raises(UsageError, match="conditioning: model tiny was not trained for 'local'") as caught:
            call(photo, conditioning="local")
        assert caught.value.hint is not None and caught.value.hint.endswith("both, global")


def test_guidance_needs_a_context_to_guide_towards(spied: tuple[FashionFlowPipeline, Spy], photo: np.ndarray):
    pipeline, spy = spied
    with pytest.raises(UsageError, match="guidance_scale: local conditioning"):
        pipeline.generate(photo, conditioning="local", guidance_scale=2)
    assert spy.calls == []
    pipeline.generate(photo, conditioning="global", guidance_scale=2)
    assert len(spy.calls) == 8


# ---- neighbours, interruption ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCHEDULERS)
def test_neighbours_do_not_matter_to_guided_clips(models: dict[str, FashionFlowPipeline], name: str):
    pipeline = models["latents"]
    photos = np.random.default_rng(1).integers(0, 256, (2, 64, 48, 3), np.uint8)

    def make(items: list[int]) -> Tensor:
        from fashionflow_core.diffusion.conditioning import condition

        generators = [generators_of(2)[item] for item in items]
        encoded = pipeline.conditioner.encode(photos[items], generators)
        known, context = condition(*encoded, 4, "both", "nearest")
        denoise = guided(pipeline.networks.denoise, 3, (0.2, 1.0), TRAIN_STEPS)
        return sample(denoise, pipeline.make_scheduler(name), 5, known, context, generators)

    together = make([0, 1])
    for item in (0, 1):
        assert (make([item])[0] - together[item]).abs().max() < 1e-5 * together.abs().max()


class Stopped(BaseException):
    """As the command line raises it on SIGTERM."""


@pytest.mark.parametrize("kind", [KeyboardInterrupt, Stopped])
@pytest.mark.parametrize("scale", [1, 2])
def test_an_interruption_ends_the_loop_between_steps(
    spied: tuple[FashionFlowPipeline, Spy], photo: np.ndarray, kind: type[BaseException], scale: float
):
    pipeline, spy = spied

    def interrupt(done: int, steps: int) -> None:
        if done == 2:
            raise kind

    with pytest.raises(kind):
        pipeline.generate(photo, guidance_scale=scale, on_step=interrupt)
    assert len(spy.calls) == 2 * scale
    frames = pipeline.generate(photo, guidance_scale=scale).frames  # nothing of it is left behind
    assert len(list(frames)) == 4
