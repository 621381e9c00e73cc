"""The sampling loop: golden steps, the paper's variance, the schedulers, and given frames pinned in the input."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.schedulers import scheduling_ddpm
from golden.named_weights import named_normal
from schedules import SCHEDULES, TRAIN_STEPS, generators_of, kept_variance, nothing_known, scheduler_folder
from torch import Tensor

from fashionflow_core.config import SCHEDULERS
from fashionflow_core.diffusion.known_frames import KnownFrames
from fashionflow_core.diffusion.sampling import sample
from fashionflow_core.diffusion.schedulers import make_scheduler, set_timesteps
from fashionflow_core.errors import FashionFlowError, UsageError
from fashionflow_core.store.published import published_betas

# ---- one step -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def values(golden: Path) -> dict[str, np.ndarray]:
    with np.load(golden / "golden_conditioning.npz") as arrays:
        return {name: arrays[name] for name in arrays.files}


def _ddpm_inputs() -> tuple[Tensor, Tensor, Tensor]:
    x, eps, z = (torch.from_numpy(named_normal(f"ddpm_a:{name}", (1, 4, 3, 4, 4))) for name in ("x", "eps", "z"))
    return x, eps, z


def test_published_betas(values: dict[str, np.ndarray]):
    np.testing.assert_allclose(published_betas(), values["betas"], atol=1e-12, rtol=0)


@pytest.mark.parametrize("timestep", [999, 700, 1, 0])
def test_golden_ddpm_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values: dict[str, np.ndarray], timestep: int
):
    x, eps, z = _ddpm_inputs()
    monkeypatch.setattr(scheduling_ddpm, "randn_tensor", lambda *args, **kwargs: z)
    scheduler = make_scheduler(scheduler_folder(tmp_path), "ddpm")
    scheduler.set_timesteps(TRAIN_STEPS)
    found = scheduler.step(eps, timestep, x, return_dict=False)[0]
    np.testing.assert_allclose(found.numpy(), values[f"ddpm_a_step_{timestep}"], atol=1e-5, rtol=0)


@pytest.mark.parametrize(("name", "variance"), [("ddpm", "fixed_large"), ("ddpm-large", "fixed_small")])
@pytest.mark.parametrize("steps", [1000, 50])
def test_equation_2_of_the_paper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int, name: str, variance: str):
    """x_(t-1) = mean + sqrt(beta_t) z, in every step but the last, where DDPM's algorithm 2 sets z to 0.

    With fewer steps beta_t is that of the longer step, 1 - abar_t / abar_prev. `variance` is that of the folder.
    """
    x, eps, z = _ddpm_inputs()
    monkeypatch.setattr(scheduling_ddpm, "randn_tensor", lambda *args, **kwargs: z)
    folder = scheduler_folder(tmp_path, variance_type=variance)
    scheduler = make_scheduler(folder, name)
    scheduler.set_timesteps(steps)
    kept = np.cumprod(1 - np.array(published_betas()))
    timesteps = [int(t) for t in scheduler.timesteps]
    for index in (0, steps // 2, steps - 2, steps - 1):
        last = index == steps - 1
        abar, before = kept[timesteps[index]], 1.0 if last else kept[timesteps[index + 1]]
        beta = 1 - abar / before
        mean = (x - beta / math.sqrt(1 - abar) * eps) / math.sqrt(1 - beta)
        expected = mean if last else mean + math.sqrt(beta) * z
        found = scheduler.step(eps, scheduler.timesteps[index], x, return_dict=False)[0]
        torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)


def test_squared_cosine_as_cited(tmp_path: Path):
    """Nichol and Dhariwal 2021, equation 17, with their s = 0.008 and betas of at most 0.999."""
    f = np.cos((np.arange(TRAIN_STEPS + 1) / TRAIN_STEPS + 0.008) / 1.008 * np.pi / 2) ** 2
    expected = np.cumprod(1 - np.minimum(1 - f[1:] / f[:-1], 0.999))
    folder = scheduler_folder(tmp_path, "squared cosine")
    for name in SCHEDULERS:
        found = make_scheduler(folder, name).alphas_cumprod
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-6, rtol=0)


# ---- schedulers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_scheduler_keeps_the_folders_schedule(tmp_path: Path, name: str, schedule: str):
    folder = scheduler_folder(tmp_path, schedule)
    scheduler = make_scheduler(folder, name)
    assert scheduler.config.prediction_type == SCHEDULES[schedule].get("prediction_type", "epsilon")
    torch.testing.assert_close(scheduler.alphas_cumprod.double(), kept_variance(folder), atol=1e-7, rtol=0)


def test_a_scheduler_that_does_not_exist(tmp_path: Path):
    with pytest.raises(UsageError, match="scheduler: unknown scheduler 'heun'") as caught:
        make_scheduler(scheduler_folder(tmp_path), "heun")
    assert caught.value.hint is not None and all(name in caught.value.hint for name in SCHEDULERS)


@pytest.mark.parametrize(
    "text",
    [None, "{", "[1]", '{"beta_schedule": "banana"}', '{"prediction_type": "banana"}', '{"trained_betas": "banana"}'],
)
@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_broken_scheduler_folder_is_named(tmp_path: Path, name: str, text: str | None):
    file = scheduler_folder(tmp_path) / "scheduler" / "scheduler_config.json"
    file.unlink() if text is None else file.write_text(text)
    with pytest.raises(FashionFlowError) as caught:
        make_scheduler(tmp_path, name)
    assert str(tmp_path / "scheduler") in caught.value.message and "\n" not in caught.value.message


@pytest.mark.parametrize("spacing", ["trailing", "leading", "linspace"])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_any_number_of_steps_calls_the_network_so_often(tmp_path: Path, name: str, spacing: str):
    """Diffusers itself goes on to timestep -1 for 61, 103, 122 ... trailing steps, repeats 0 for 1000 leading ones, has
    fractions of timesteps for linspace ones of Euler, and allows LCM no more than 50.
    """
    folder = scheduler_folder(tmp_path, timestep_spacing=spacing)
    calls: list[int] = []
    done: list[tuple[int, ...]] = []

    def denoise(x: Tensor, timestep: Tensor, context: Tensor) -> Tensor:
        assert not timestep.is_floating_point()
        calls.append(int(timestep))
        return torch.zeros_like(x)

    for steps in (1, 2, 3, 7, 61, 103, 1000):
        calls.clear()
        done.clear()
        sample(
            denoise,
            make_scheduler(folder, name),
            steps,
            nothing_known(1, 1, 1, 1, 1),
            torch.zeros(1, 1, 1),
            generators_of(1),
            lambda *count: done.append(count),
        )
        assert len(calls) == steps and min(calls) >= 0 and max(calls) < TRAIN_STEPS
        assert calls[0] >= TRAIN_STEPS // 2  # from noise, though "leading" starts a step below it
        assert calls == sorted(set(calls), reverse=True)
        assert done == [(step, steps) for step in range(1, steps + 1)]


def test_more_steps_than_the_schedule_has(tmp_path: Path):
    with pytest.raises(UsageError, match=r"steps: 1001 .* 1000"):
        sample(
            lambda x, timestep, context: x,
            make_scheduler(scheduler_folder(tmp_path), "ddim"),
            1001,
            nothing_known(1, 1, 1, 1, 1),
            torch.zeros(1, 1, 1),
            generators_of(1),
        )


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_network_first_sees_noise_of_deviation_1(tmp_path: Path, name: str, schedule: str):
    """As in training at the last timestep; the given seed makes it the same noise for every scheduler."""
    noise = torch.randn(1, 4, 8, 16, 16, generator=generators_of(1)[0])
    inputs: list[Tensor] = []

    def denoise(x: Tensor, timestep: Tensor, context: Tensor) -> Tensor:
        inputs.append(x.clone())
        return torch.zeros_like(x)

    for spacing in ("trailing", "leading", "linspace"):
        scheduler = make_scheduler(scheduler_folder(tmp_path, schedule, timestep_spacing=spacing), name)
        sample(denoise, scheduler, 10, nothing_known(1, 4, 8, 16, 16), torch.zeros(1, 1, 1), generators_of(1))
        torch.testing.assert_close(inputs[-10], noise, atol=1e-5, rtol=0)


# ---- pinning --------------------------------------------------------------------------------------------------------

MASKS = {
    "first": [1.0, 0, 0, 0, 0, 0],
    "every second": [1.0, 0, 1, 0, 1, 0],
    "last two": [0.0, 0, 0, 0, 1, 1],
}


class Spy:
    """A network that answers with noise and remembers its input."""

    def __init__(self) -> None:
        self.inputs: list[Tensor] = []

    def __call__(self, x: Tensor, timestep: Tensor, context: Tensor) -> Tensor:
        self.inputs.append(x.clone())
        return torch.randn(x[:, :4].shape, generator=torch.Generator().manual_seed(len(self.inputs)))


def _assert_pinned(inputs: list[Tensor], known: KnownFrames) -> None:
    given = known.mask[0] > 0
    for x in inputs:
        assert torch.equal(x[:, :4, given], known.latents[:, :, given])
        assert not torch.isclose(x[:, :4, ~given], known.latents[:, :, ~given]).any()


def _known(mask: str, content: str = "none", fill: str = "zero") -> KnownFrames:
    clip = torch.from_numpy(named_normal("given", (2, 4, 6, 4, 3)))
    shown = {"none": None, "latents": clip, "rgb": clip[:, :3].tanh()}[content]
    return KnownFrames.from_clip(clip, torch.tensor([MASKS[mask]] * 2), shown, fill)


@pytest.mark.parametrize(("content", "fill"), [("none", "zero"), ("rgb", "zero"), ("latents", "nearest")])
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("log_snr", [(), (-6.0, 5.0)], ids=["even", "log-SNR"])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_given_frames_reach_the_network_as_they_are(
    tmp_path: Path, name: str, log_snr: tuple[float, ...], mask: str, content: str, fill: str
):
    spy, known = Spy(), _known(mask, content, fill)
    scheduler = make_scheduler(scheduler_folder(tmp_path), name)
    found = sample(spy, scheduler, 10, known, torch.zeros(2, 1, 1), generators_of(2), log_snr=log_snr)
    assert len(spy.inputs) == 10
    _assert_pinned(spy.inputs, known)
    extra = known.channels()
    for x in spy.inputs:
        assert x.shape[1] == 4 + (0 if extra is None else extra.shape[1])
        assert extra is None or torch.equal(x[:, 4:], extra)
    _assert_pinned([found], known)


def test_pinning_before_the_scaling_would_hand_euler_next_to_nothing(tmp_path: Path):
    """The same law finds the wrong order out: the network would see 0.6 % of the photo."""
    known, spy = _known("first"), Spy()
    scheduler = make_scheduler(scheduler_folder(tmp_path), "euler")
    set_timesteps(scheduler, 10, torch.device("cpu"))
    latents = torch.from_numpy(named_normal("noise", (2, 4, 6, 4, 3))) * scheduler.init_noise_sigma
    for timestep in scheduler.timesteps:
        latents = known.pin(latents)
        prediction = spy(scheduler.scale_model_input(latents, timestep), timestep, torch.zeros(2, 1, 1))
        latents = scheduler.step(prediction, timestep, latents, return_dict=False)[0]
    with pytest.raises(AssertionError):
        _assert_pinned(spy.inputs, known)
    seen = float((spy.inputs[0][:, :, 0] / known.latents[:, :, 0]).mean())
    assert seen == pytest.approx(math.sqrt(np.prod(1 - np.array(published_betas()))), rel=0.01)
    assert seen == pytest.approx(0.006, abs=0.0005)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_scheduler_that_has_sampled_samples_the_next_clip_as_a_fresh_one(tmp_path: Path, name: str):
    """Windows of an interpolation, items of a batch: they share one scheduler."""

    def denoise(x: Tensor, timestep: Tensor, context: Tensor) -> Tensor:
        return 0.3 * x[:, :4]

    folder = scheduler_folder(tmp_path)
    used = make_scheduler(folder, name)
    clips = [
        sample(denoise, scheduler, 4, nothing_known(1, 4, 2, 3, 3), torch.zeros(1, 1, 1), generators_of(1, seed))
        for scheduler, seed in ((used, 0), (used, 1), (make_scheduler(folder, name), 1))
    ]
    assert torch.equal(clips[1], clips[2])
    assert not torch.equal(clips[0], clips[1])
