"""Laws of training: noise schedules, weights of the loss, masks, randomness, settings. No network is run."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr
from places import GOLDEN, ROOT

from fashionflow_core.errors import FashionFlowError, UsageError
from fashionflow_core.models import noise_schedules
from fashionflow_core.training.config import FIELDS, TrainConfig
from fashionflow_core.training.data import Steps, draw_mask
from fashionflow_core.training.losses import add_noise, clip_losses, target_of, timestep_weights
from fashionflow_core.training.presets import PRESETS
from fashionflow_core.training.randomness import Shuffle, stream
from fashionflow_core.training.schedules import RunSchedule, noise_scheduler
from fashionflow_core.training.settings import FLAT, differences, load_config, to_yaml


def config(*settings: str) -> TrainConfig:
    return load_config(None, ["max_steps=1", *settings])


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A model folder, as far as noise schedules are concerned."""
    DDPMScheduler(beta_schedule="linear", prediction_type="epsilon").save_pretrained(tmp_path / "scheduler")
    return tmp_path


# ---- noise


def test_squared_cosine_is_diffusers_own(base: Path):
    ours = noise_scheduler(config("betas=squared_cosine").noise, base)
    theirs = DDPMScheduler(beta_schedule="squaredcos_cap_v2")
    torch.testing.assert_close(ours.betas, theirs.betas)


def test_linear_is_diffusers_own(base: Path):
    torch.testing.assert_close(noise_scheduler(config("betas=linear").noise, base).betas, DDPMScheduler().betas)


def test_shifted_cosine_multiplies_signal_to_noise_by_the_squared_shift():
    def snr(values: list[float]) -> float:
        abar = float(np.cumprod(1 - np.array(values))[499])
        return abar / (1 - abar)

    assert snr(noise_schedules.shifted_cosine_betas(1000, 0.3)) == pytest.approx(0.09, rel=0.02)
    assert snr(noise_schedules.shifted_cosine_betas(1000, 1.0)) == pytest.approx(1.0, rel=0.02)


@pytest.mark.parametrize("schedule", ["squared_cosine", "shifted_cosine", "published", "linear"])
def test_zero_terminal_snr_ends_in_pure_noise_and_keeps_the_start(base: Path, schedule: str):
    """2305.08891, algorithm 1: the last signal is exactly zero, the first is as it was."""
    plain = noise_scheduler(config(f"betas={schedule}").noise, base)
    zero = noise_scheduler(config(f"betas={schedule}", "prediction=v_prediction", "zero_terminal_snr=true").noise, base)
    assert float(zero.alphas_cumprod[-1]) == 0 < float(plain.alphas_cumprod[-1])
    assert float(zero.alphas_cumprod[0]) == pytest.approx(float(plain.alphas_cumprod[0]), rel=1e-4)
    assert bool((zero.alphas_cumprod.diff() < 0).all())


def test_what_settings_leave_open_is_the_base_models(base: Path):
    found = noise_scheduler(config().noise, base)
    torch.testing.assert_close(found.betas, DDPMScheduler().betas)
    assert found.config.prediction_type == "epsilon"


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
def test_the_target_leads_back_to_the_clip(prediction: str):
    """Noisy clip and target together give the clean clip, by each parametrisation's own formula."""
    clip, noise = torch.randn(2, 3, 3, 4, 2, 2).double()
    abar = torch.tensor([0.9, 0.4, 0.05]).double()
    noisy, target = add_noise(clip, noise, abar), target_of(clip, noise, abar, prediction)
    a = abar.view(3, 1, 1, 1, 1)
    back = {
        "epsilon": (noisy - (1 - a).sqrt() * target) / a.sqrt(),
        "sample": target,
        "v_prediction": a.sqrt() * noisy - (1 - a).sqrt() * target,
    }[prediction]
    torch.testing.assert_close(back, clip)


# ---- the loss


@pytest.mark.parametrize("gamma", [1.0, 5.0])
def test_min_snr_weights_are_the_papers(gamma: float):
    """2303.09556: min(SNR, gamma) over SNR for noise, over SNR + 1 for velocity, as it is for the clip."""
    scheduler: Any = DDPMScheduler(beta_schedule="squaredcos_cap_v2")
    steps = torch.tensor([1, 250, 500, 900, 998])
    snr = compute_snr(scheduler, steps)
    clipped = torch.minimum(snr, torch.full_like(snr, gamma))
    settings = config("weighting=min_snr", f"min_snr_gamma={gamma}")
    abar = scheduler.alphas_cumprod[steps]
    for prediction, expected in (
        ("epsilon", clipped / snr),
        ("sample", clipped),
        ("v_prediction", clipped / (snr + 1)),
    ):
        torch.testing.assert_close(timestep_weights(abar, prediction, settings.loss), expected, rtol=1e-3, atol=1e-4)


def test_min_snr_weighs_the_same_error_of_the_clip_alike():
    """A wrong clip costs the same, whichever of noise, clip and velocity it is told by."""
    settings = config("weighting=min_snr", "given_target=ignore")
    clip, noise, wrong = torch.randn(3, 4, 2, 2, 2)
    costs = []
    for step_abar in (0.99, 0.5, 0.02):
        abar = torch.tensor([step_abar])
        noisy = add_noise(clip[None], noise[None], abar)
        a = abar.view(1, 1, 1, 1, 1)
        said = {
            "sample": wrong[None],
            "epsilon": (noisy - a.sqrt() * wrong) / (1 - a).sqrt(),
        }
        said["v_prediction"] = a.sqrt() * said["epsilon"] - (1 - a).sqrt() * wrong
        for prediction, value in said.items():
            target = target_of(clip[None], noise[None], abar, prediction)
            weights = timestep_weights(abar, prediction, settings.loss)
            costs.append(float(clip_losses(value, target, torch.zeros(1, 2), weights, None, settings.loss)))
        assert costs[-3:] == pytest.approx([costs[-1]] * 3, rel=1e-3)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_min_snr_is_finite_where_there_is_no_signal(prediction: str):
    weights = timestep_weights(torch.tensor([0.0]), prediction, config("weighting=min_snr").loss)
    assert bool(weights.isfinite().all())


def test_given_frames_should_be_silence_or_do_not_count():
    target, given = torch.ones(1, 2, 4, 3, 3), torch.tensor([[1.0, 0, 0, 0]])
    one = torch.ones(1)
    truth = target.clone()
    truth[:, :, 0] = 0
    shouting = target.clone()
    shouting[:, :, 0] = 9
    zero, ignore = config("given_target=zero").loss, config("given_target=ignore").loss
    assert float(clip_losses(truth, target, given, one, None, zero)) == 0
    assert float(clip_losses(target, target, given, one, None, zero)) == pytest.approx(1 / 4)
    assert float(clip_losses(shouting, target, given, one, None, ignore)) == 0


def test_sum_over_frames_is_the_mean_times_the_frames_that_count():
    (said, target), given = torch.randn(2, 1, 2, 6, 3, 3), torch.tensor([[1.0, 0, 0, 0, 1, 0]])
    one = torch.ones(1)
    for rule, frames in (("zero", 6), ("ignore", 4)):
        mean, total = (
            float(clip_losses(said, target, given, one, None, config(f"given_target={rule}", f"frame_loss={how}").loss))
            for how in ("mean", "sum")
        )
        assert total == pytest.approx(frames * mean, rel=1e-5)


def test_channel_weights_of_mean_one_keep_a_uniform_error():
    said, target = torch.zeros(1, 3, 2, 2, 2), torch.ones(1, 3, 2, 2, 2)
    weights = torch.tensor([2.0, 0.5, 0.5])
    loss = clip_losses(said, target, torch.zeros(1, 2), torch.ones(1), weights, config().loss)
    assert float(loss) == pytest.approx(1)


# ---- given frames


def test_mask_mix_has_its_shares_and_every_mask_gives_the_first_frame():
    settings = config("mask_generate=0.5", "mask_interpolate=0.3", "mask_extend=0.2", "extend_frames=4")
    masks = torch.stack([draw_mask(settings, 10, stream(0, "test", i)) for i in range(4000)])
    assert bool((masks[:, 0] == 1).all())
    generate = (masks.sum(dim=1) == 1).float().mean()
    interpolate = (masks == torch.tensor([1.0, 0] * 5)).all(dim=1).float().mean()
    extended = [(masks == torch.tensor([1.0] * k + [0.0] * (10 - k))).all(dim=1).float().mean() for k in (2, 3, 4)]
    assert float(generate) == pytest.approx(0.5, abs=0.03)
    assert float(interpolate) == pytest.approx(0.3, abs=0.03)
    assert float(sum(extended)) == pytest.approx(0.2, abs=0.03)
    assert min(map(float, extended)) > 0.04  # every length from 2 to extend_frames occurs


def test_every_fourth_frame_can_be_given_too():
    settings = config("mask_generate=0", "mask_interpolate=1", "interpolate_strides=2,4")
    masks = {tuple(draw_mask(settings, 8, stream(0, "test", i)).int().tolist()) for i in range(50)}
    assert masks == {(1, 0, 1, 0, 1, 0, 1, 0), (1, 0, 0, 0, 1, 0, 0, 0)}


def test_global_conditioning_gives_no_frame():
    assert float(draw_mask(config("conditioning=global"), 6, stream(0, "test")).sum()) == 0


# ---- randomness and the schedule


def test_an_epoch_takes_every_clip_once_in_an_order_of_its_own():
    shuffle = Shuffle(seed=3, items=20)
    first, second = [shuffle[i] for i in range(20)], [shuffle[20 + i] for i in range(20)]
    assert sorted(first) == sorted(second) == list(range(20))
    assert first != second
    assert [Shuffle(3, 20)[i] for i in (25, 5)] == [second[5], first[5]]  # whatever was asked before


def test_processes_share_out_what_one_process_draws():
    def draws(rank: int, world: int) -> list[Any]:
        steps = iter(Steps(0, 5, lambda step, drawn: (4, 8), 3, 12, rank, world))
        return [draw for _ in range(3) for draw in next(steps)]

    alone, shared = draws(0, 1), draws(0, 2) + draws(1, 2)
    assert sorted(alone, key=str) == sorted(shared, key=str)
    assert alone[0].step == 3 and len({(d.step, d.slot) for d in alone}) == 12


def test_windows_are_short_first_and_then_every_second_one_whole():
    schedule = RunSchedule(config("short_frames=4", "short_part=0.5", "batch_size=2"), clips=10, frames=16)
    assert schedule.window(0, 0.2) == schedule.window(1, 0.2) == (8, 4)
    assert schedule.window(6, 0.6) == (2, 16)
    assert schedule.window(7, 0.6) == (8, 4)


def test_learning_rate_warms_up_and_falls_along_a_cosine():
    settings = config("lr=1", "lr_schedule=cosine", "lr_final=0.1", "warmup_steps=10")
    schedule = RunSchedule(settings, clips=1, frames=2)
    assert schedule.learning_rate(0, 0) == pytest.approx(0.1)
    assert schedule.learning_rate(9, 0) == 1
    assert schedule.learning_rate(50, 0.5) == pytest.approx(0.55)
    assert schedule.learning_rate(99, 1) == pytest.approx(0.1)


def test_the_nearest_end_ends_a_run():
    settings = config("max_steps=100", "max_epochs=2", "max_minutes=1")
    schedule = RunSchedule(settings, clips=10, frames=2)
    assert schedule.part(10, 10, 0) == 0.5  # half of the epochs
    assert schedule.part(10, 0, 30) == 0.5
    assert schedule.part(100, 0, 0) == 1


# ---- settings


def test_settings_go_preset_then_file_then_command(tmp_path: Path):
    path = tmp_path / "a.yaml"
    path.write_text("preset: mini-latent\noptimizer: {lr: 1e-3}\ndata:\n  batch_size: 4\nunet.widths: [8, 16, 32]\n")
    found = load_config(path, ["data.batch_size=8"])
    assert (found.optimizer.lr, found.data.batch_size, found.unet.widths) == (1e-3, 8, (8, 16, 32))
    assert found.noise.prediction == "sample" and found.data.reverse == 0.5  # of the preset
    assert load_config(path, ["preset=paper"]).noise.prediction == "epsilon"


def test_flat_names_mean_the_same(tmp_path: Path):
    """The settings of a run from before there were groups, as its config.yaml has them, and such names in `--set`."""
    flat = GOLDEN / "train_config_flat.yaml"
    found = load_config(flat)
    written = yaml.safe_load(flat.read_text())
    assert {name: list(v) if isinstance(v := found.value(FLAT[name]), tuple) else v for name in written} == written
    assert set(written) == set(FLAT) and set(FLAT.values()) == set(FIELDS)
    (tmp_path / "config.yaml").write_text(to_yaml(found))
    assert "lr: 0.0008" in to_yaml(found).partition("optimizer:")[2]
    assert load_config(tmp_path / "config.yaml") == found and not differences(found, load_config(flat, ["lr=1"]))
    assert differences(found, load_config(flat, ["preview_every=1", "adam_betas=0,0"])) == ["optimizer.adam_betas"]
    assert load_config(flat, ["conditioning=local", "context_dropout=0", "train_image_encoder=false"]) == load_config(
        flat, ["conditioning.kind=local", "conditioning.context_dropout=0", "train_image_encoder=false"]
    )


def test_every_setting_is_in_the_documentation():
    documented = (ROOT / "docs" / "guides" / "training.md").read_text()
    assert not [name for name in FIELDS if f"`{name}`" not in documented]


@pytest.mark.parametrize("preset", PRESETS)
def test_settings_survive_their_file(preset: str, tmp_path: Path):
    found = load_config(None, [f"preset={preset}", "previews.photos=a b.jpg,c.jpg", "data.path=a=b"])
    assert found.previews.photos == ("a b.jpg", "c.jpg") and found.data.path == "a=b"
    (tmp_path / "a.yaml").write_text(to_yaml(found))
    assert load_config(tmp_path / "a.yaml") == found


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("lerning_rate=1", "unknown setting 'lerning_rate'"),
        ("lr=fast", "lr needs a number, not 'fast'"),
        ("lr=-1", "lr: must not be below 0"),
        ("lr=0", "lr: must be above 0"),
        ("lr=nan", "lr: not a finite number: nan"),
        ("batch_size=1.5", "batch_size needs a whole number"),
        ("batch_size=true", "batch_size needs a whole number"),
        ("gradient_checkpointing=maybe", "gradient_checkpointing needs true or false"),
        ("target=clip", "target: invalid value 'clip'"),
        ("mask_extend=0.5", "must add up to 1, not 1.5"),
        ("adam_betas=0.9", "adam_betas: must be two numbers"),
        ("frames=7", "frames: must be even (the U-Net halves the frames), not 7"),
        ("preset=big", "preset: unknown preset 'big'"),
        ("lr", "set=lr: not KEY=VALUE"),
        ("optimizer=3", "'optimizer' is a group of settings"),
        ("context_dropout=2", "conditioning.context_dropout: must be from 0 to 1"),
        ("lora_rank=4", "set init_from"),
        ("interpolate_strides=[2,", "interpolate_strides needs a list"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(setting: str, words: str):
    with pytest.raises(UsageError) as caught:
        config(setting)
    assert words in str(caught.value) + str(caught.value.hint)


@pytest.mark.parametrize(
    ("setting", "near"),
    [
        ("warmup_step", "schedule.warmup_steps"),
        ("optimizer.warmup_steps", "schedule.warmup_steps"),
        ("lora_rnk", "lora.rank"),
        ("optimiser.lr", "optimizer.lr"),
        ("every", "log.every or previews.every"),
    ],
)
def test_misspelt_setting_gets_the_nearest(setting: str, near: str):
    with pytest.raises(UsageError) as caught:
        config(f"{setting}=1")
    assert f"did you mean {near}?" in (caught.value.hint or "")


def test_zero_terminal_snr_and_noise_prediction_contradict_each_other():
    with pytest.raises(UsageError, match="pure noise"):
        config("prediction=epsilon", "zero_terminal_snr=true")


def test_run_without_an_end_is_refused():
    with pytest.raises(UsageError, match="one of them must be above 0"):
        load_config(None, [])


@pytest.mark.parametrize(("text", "words"), [("a: [1", "readable YAML"), ("- 1", "not a mapping"), (None, "no such")])
def test_files_that_are_no_settings_are_refused(text: str | None, words: str, tmp_path: Path):
    path = tmp_path / "a.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(FashionFlowError, match=words):
        load_config(path)


def test_published_ramp_ends_where_the_facts_say():
    found = noise_schedules.published_betas()
    assert (len(found), found[0], found[-1]) == (1000, pytest.approx(1e-4), pytest.approx(0.02))
    assert math.isclose(found[500], 1e-4 + 0.5 * (0.02 - 1e-4) * (1 + math.cos(math.pi * 499 / 999)))
