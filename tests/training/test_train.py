"""`fashionflow train` on a tiny model and a tiny cache: real processes, killed ones too."""

import json
import re
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import assert_refused, run, started, wait_until
from safetensors.torch import load_file
from tiny import build_tiny_model
from tiny_cache import build_tiny_cache

from fashionflow_core import pipeline
from fashionflow_core.config import GenerateSettings, ModelConfig
from fashionflow_core.errors import FashionFlowError, UsageError
from fashionflow_core.training import run as training
from fashionflow_core.training.dry_run import make_plan
from fashionflow_core.training.loop import Report
from fashionflow_core.training.run_folder import RunFolder
from fashionflow_core.training.settings import load_config
from fashionflow_core.training.status import NOISE_LEVELS, TrainingStatus


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with model/ and cache/: 3 clips of 8 frames."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("train")
    build_tiny_model(folder / "model", known_content="latents", mask_fill="nearest")
    build_tiny_cache(folder / "cache", folder / "model")
    return folder


def settings(place: Path, **changes: Any) -> list[str]:
    values = {"data": place / "cache", "base": place / "model", "max_steps": 20, "checkpoint_steps": 10}
    values |= {"frames": 4, "batch_size": 2, "lr": 1e-3, "log_every": 1, "tensorboard": "false"} | changes
    return [f"{key}={value}" for key, value in values.items()]


def flags(place: Path, **changes: Any) -> list[str]:
    return [word for setting in settings(place, **changes) for word in ("--set", setting)]


def train(place: Path, out: Path, resume: bool = False, report: Report | None = None, **changes: Any) -> Path:
    """A run in this process."""
    config = load_config(None, settings(place, **changes))
    base = Path(config.init_from or config.base)
    return training.train(config, out, base, resume=resume, device="cpu", report=report)


def records(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def losses(out: Path) -> list[float]:
    return [record["loss"] for record in records(out) if "loss" in record]


def state(out: Path, step: int = 20) -> dict[str, torch.Tensor]:
    return load_file(out / "checkpoints" / f"step-{step:09}.safetensors")


def assert_same_state(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    """Weights, averaged weights and the optimizer's moments, bit for bit."""
    kinds = {name.split("/")[0] for name in one}
    assert kinds == {"weights", "ema", "optimizer"}
    assert one.keys() == other.keys()
    assert not [name for name in one if not torch.equal(one[name], other[name])]


@pytest.fixture(scope="module")
def whole(place: Path) -> Path:
    """Twenty steps without a break."""
    train(place, place / "whole")
    return place / "whole"


@pytest.mark.slow
def test_killed_run_goes_on_bit_for_bit(place: Path, whole: Path, tmp_path: Path):
    out, log = tmp_path / "run", tmp_path / "log"
    command = ["train", *flags(place), "--out", out, "--device", "cpu"]
    first = out / "checkpoints" / "step-000000010.safetensors"
    with started(*command, cwd=tmp_path, log=log) as process:
        wait_until(first.exists, process, log)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (out / "model").exists()
    result = run(*command, "--resume", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout == f"{out / 'model'}\n"
    assert_same_state(state(out), state(whole))
    assert losses(out) == losses(whole)  # every step once, in order


@pytest.mark.slow
def test_the_logged_loss_of_a_resumed_run_is_that_of_a_run_without_a_break(place: Path, tmp_path: Path):
    """A line of the log is a mean over steps, of which some were before the checkpoint."""

    class Died(BaseException):
        pass

    def die(status: TrainingStatus) -> None:
        if status.part >= 9 / 12:
            raise Died

    changes: dict[str, Any] = {"log_every": 4, "checkpoint_steps": 6, "max_steps": 12}
    train(place, tmp_path / "whole", **changes)
    with pytest.raises(Died):
        train(place, tmp_path / "run", report=Report(progress=die), **changes)
    train(place, tmp_path / "run", resume=True, **changes)
    assert len(losses(tmp_path / "whole")) == 3
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")
    by_noise = [
        [record["loss_by_noise"] for record in records(tmp_path / out) if "loss" in record] for out in ("whole", "run")
    ]
    assert by_noise[0] == by_noise[1] and any(value is not None for value in by_noise[0][0])


@pytest.mark.slow
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["SIGTERM", "SIGINT"])
def test_signal_saves_a_whole_step_and_the_run_goes_on(
    place: Path, whole: Path, tmp_path: Path, sent: signal.Signals, code: int
):
    out, log = tmp_path / "run", tmp_path / "log"
    command = ["train", *flags(place, checkpoint_steps=0), "--out", out, "--device", "cpu"]
    with started(*command, cwd=tmp_path, log=log) as process:
        wait_until(lambda: (out / "log.jsonl").exists() and len(losses_so_far(out)) >= 3, process, log)
        process.send_signal(sent)
        assert process.wait(60) == code, log.read_text()
    (saved,) = (out / "checkpoints").iterdir()
    assert 3 <= int(saved.stem.split("-")[1]) < 20
    assert "resume with --resume" in log.read_text()
    result = run("train", "--out", out, "--resume", "--quiet", "--device", "cpu", cwd=tmp_path)  # its own settings
    assert (result.returncode, result.stderr) == (0, "")
    assert_same_state(state(out), state(whole))


def losses_so_far(out: Path) -> list[str]:
    return [line for line in (out / "log.jsonl").read_text().splitlines() if '"loss"' in line]


def test_result_is_a_model_of_the_averaged_weights(whole: Path, place: Path):
    made = ModelConfig.load(whole / "model")
    assert (made.name, made.modes, made.conditioning) == ("whole", ("generate",), ("both",))
    unet = load_file(whole / "model" / "unet" / "diffusion_pytorch_model.safetensors")
    averaged = {k.removeprefix("ema/unet."): v for k, v in state(whole).items() if k.startswith("ema/unet.")}
    assert averaged.keys() == unet.keys()
    assert all(torch.equal(averaged[name], unet[name]) for name in unet)
    pipe = pipeline.load(whole / "model", device="cpu")
    photo = np.full((64, 48, 3), 128, np.uint8)
    assert len(list(pipe.generate(photo, GenerateSettings(steps=1)).frames)) == 4


def test_training_lowers_the_loss(place: Path, tmp_path: Path):
    train(place, tmp_path / "run", max_steps=60, prediction="sample", ema_decay=0.9)
    found = losses(tmp_path / "run")
    assert np.mean(found[-10:]) < 0.8 * np.mean(found[:10])


def test_micro_batches_do_not_change_the_run(place: Path, whole: Path, tmp_path: Path):
    train(place, tmp_path / "run", max_steps=3, micro_batch_size=1)
    assert losses(tmp_path / "run") == pytest.approx(losses(whole)[:3], rel=1e-4)


def test_gradient_checkpointing_does_not_change_the_run(place: Path, whole: Path, tmp_path: Path):
    model = train(place, tmp_path / "run", max_steps=3, gradient_checkpointing="true")
    assert losses(tmp_path / "run") == pytest.approx(losses(whole)[:3], rel=1e-5)
    pipeline.load(model, device="cpu")


@pytest.mark.slow
def test_reading_processes_do_not_change_the_run(place: Path, whole: Path, tmp_path: Path):
    train(place, tmp_path / "run", max_steps=3, workers=1)
    assert losses(tmp_path / "run") == losses(whole)[:3]


def test_out_of_memory_halves_the_micro_batch(
    place: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A device that holds one clip at a time: same losses, and the log says what happened."""
    honest, notes = training.UNetTarget.losses, []

    def small_device(target: Any, module: Any, batch: Any) -> torch.Tensor:
        if len(batch) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return honest(target, module, batch)

    monkeypatch.setattr(training.UNetTarget, "losses", small_device)
    train(place, tmp_path / "run", max_steps=3, report=Report(note=notes.append))
    assert losses(tmp_path / "run") == pytest.approx(losses(whole)[:3], rel=1e-4)
    (event,) = [record for record in records(tmp_path / "run") if record.get("event") == "out_of_memory"]
    assert (event["step"], event["micro_batch_size"]) == (1, 1)
    assert notes == ["step 1: out of memory with 2 clips per pass; now 1"]


def test_loss_that_is_no_number_stops_and_names_step_and_checkpoint(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    honest, calls = training.UNetTarget.losses, []

    def broken(target: Any, module: Any, batch: Any) -> torch.Tensor:
        calls.append(None)
        return honest(target, module, batch) * (float("nan") if len(calls) > 12 else 1)

    monkeypatch.setattr(training.UNetTarget, "losses", broken)
    with pytest.raises(FashionFlowError, match=r"step 13: the loss is not finite.*step-000000010\.safetensors"):
        train(place, tmp_path / "run")
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-000000010.safetensors"]


def test_steps_without_finite_gradients_are_skipped_but_not_for_ever(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    honest, bad, calls = training.UNetTarget.losses, {3, 4}, []

    def sometimes(target: Any, module: Any, batch: Any) -> torch.Tensor:
        calls.append(None)
        losses = honest(target, module, batch)
        if len(calls) in bad:
            losses.register_hook(lambda gradient: gradient * float("inf"))
        return losses

    monkeypatch.setattr(training.UNetTarget, "losses", sometimes)
    train(place, tmp_path / "run", max_steps=6, max_skipped_steps=2)
    assert [r["step"] for r in records(tmp_path / "run") if r.get("event") == "skipped"] == [3, 4]
    assert all(bool(tensor.isfinite().all()) for tensor in state(tmp_path / "run", 6).values())
    bad |= {5}
    calls.clear()
    with pytest.raises(FashionFlowError, match="step 5: gradients of 3 consecutive steps"):
        train(place, tmp_path / "again", max_steps=6, max_skipped_steps=2)


def test_without_averaging_the_weights_themselves_are_saved(place: Path, tmp_path: Path):
    made = train(place, tmp_path / "run", max_steps=2, ema_decay=0)
    unet = load_file(made / "unet" / "diffusion_pytorch_model.safetensors")
    found = state(tmp_path / "run", 2)
    assert all(torch.equal(found[f"weights/unet.{name}"], unet[name]) for name in unet)
    assert not [name for name in found if name.startswith("ema/")]


def test_two_trainings_in_one_folder_are_refused(place: Path, tmp_path: Path):
    config = load_config(None, settings(place))
    folder = RunFolder(tmp_path / "run")
    folder.open(config, overwrite=False)
    try:
        with pytest.raises(FashionFlowError, match="another training is writing to it"):
            train(place, tmp_path / "run", resume=True)
    finally:
        folder.close()


def test_only_the_last_checkpoints_are_kept(place: Path, tmp_path: Path):
    train(place, tmp_path / "run", max_steps=5, checkpoint_steps=1, keep_checkpoints=2)
    kept = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert kept == ["step-000000004.safetensors", "step-000000005.safetensors"]


def test_resume_refuses_other_settings_and_passes_over_a_damaged_checkpoint(place: Path, tmp_path: Path):
    train(place, tmp_path / "run", max_steps=4, checkpoint_steps=2)
    with pytest.raises(UsageError, match="other settings: seed"):
        train(place, tmp_path / "run", resume=True, max_steps=4, seed=1)
    damaged = tmp_path / "run" / "checkpoints" / "step-000000004.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:1000])
    with pytest.warns(match="step-000000004.safetensors: damaged or incomplete checkpoint"):
        train(place, tmp_path / "run", resume=True, max_steps=4, checkpoint_steps=2)
    assert [r["step"] for r in records(tmp_path / "run") if "loss" in r] == [1, 2, 3, 4]


def test_a_longer_run_goes_on_from_a_finished_one(place: Path, whole: Path, tmp_path: Path):
    train(place, tmp_path / "run", max_steps=10)
    train(place, tmp_path / "run", resume=True)
    assert_same_state(state(tmp_path / "run"), state(whole))


def test_previews_plot_and_events(place: Path, tmp_path: Path):
    out = tmp_path / "run"
    train(place, out, max_steps=2, preview_every=1, preview_count=1, preview_steps=1, tensorboard="true")
    names = {path.name for path in (out / "previews").iterdir()}
    assert names == {f"step-00000000{step}-0.{kind}" for step in (1, 2) for kind in ("mp4", "jpg")}
    assert (out / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert list((out / "tensorboard").glob("events.out.tfevents.*"))


def test_status_of_every_step_by_noise_level(place: Path, tmp_path: Path):
    """Levels are equal parts of the noise schedule; the mean over the clips of all levels is the loss."""
    seen: list[TrainingStatus] = []
    train(place, tmp_path / "run", max_steps=8, log_every=8, report=Report(progress=seen.append))
    (line,) = [record for record in records(tmp_path / "run") if "loss" in record]
    assert [status.step for status in seen] == list(range(1, 9)) and seen[-1].part == 1
    assert seen[-1].loss == line["loss"] and seen[-1].hours_left == 0
    assert len(line["loss_by_noise"]) == NOISE_LEVELS
    known = [value for value in line["loss_by_noise"] if value is not None]
    assert min(known) <= line["loss"] <= max(known)
    assert all(status.hours_left is not None and status.clips_per_second for status in seen)


def test_dry_run_in_plain_words_and_as_json(place: Path, tmp_path: Path):
    words = ["train", *flags(place, max_steps=0, max_epochs=4), "-o", "run", "--dry-run", "--device", "cpu"]
    said = run(*words, cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    for part in (
        "3 clips",
        "4 frames of 64x48, latents 4x16x12",
        "6 steps, 4.0 epochs",
        "parameters",
        " on cpu in fp32",
    ):
        assert part in said.stdout
    plan = json.loads(run(*words, "--json", cwd=tmp_path).stdout)
    assert (plan["clips"], plan["frames"], plan["steps"], plan["limit"]) == (3, 4, 6, "schedule.max_epochs")
    assert plan["hours"] == pytest.approx(6 * plan["seconds_per_step"] / 3600) and plan["activation_bytes"] > 0
    assert list(tmp_path.iterdir()) == []


def test_dry_run_counts_what_the_checkpoint_holds(place: Path, whole: Path, tmp_path: Path):
    plan = make_plan(load_config(None, settings(place)), place / "model", tmp_path / "run", "cpu")
    assert plan.checkpoint_bytes == pytest.approx(sum(tensor.nbytes for tensor in state(whole).values()), rel=0.01)
    longer = make_plan(load_config(None, settings(place, frames=8)), place / "model", tmp_path / "run", "cpu")
    assert longer.activation_bytes == pytest.approx(2 * plan.activation_bytes, rel=0.05)


def test_dry_run_counts_gradient_checkpointing(place: Path, tmp_path: Path):
    """It saves activations, but the borders of all levels and the activations of one remain."""

    def planned(checkpointing: str, frames: int) -> int:
        asked = load_config(None, settings(place, frames=frames, gradient_checkpointing=checkpointing))
        return make_plan(asked, place / "model", tmp_path / "run", "cpu").activation_bytes

    kept, recomputed = planned("false", 4), planned("true", 4)
    assert 0.2 * kept < recomputed < 0.8 * kept
    assert planned("true", 8) == pytest.approx(2 * recomputed, rel=0.05)


def test_the_report_of_a_run_is_a_page_of_its_own(place: Path, tmp_path: Path):
    """Curves of every noise level, previews next to the page, nothing from elsewhere."""
    out = tmp_path / "run"
    train(place, out, max_steps=12, preview_every=6, preview_count=1, preview_steps=1)
    page = (out / "report.html").read_text(encoding="utf-8")
    assert [f"level-{level}" in page for level in range(NOISE_LEVELS)] == [True] * NOISE_LEVELS
    assert page.count("<polyline") == 1 + NOISE_LEVELS + 1  # loss, its levels, learning rate
    links = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert len([link for link in links if link.endswith(".mp4")]) == 2
    assert all((out / link).is_file() for link in links if not link.startswith("data:"))
    assert "finished: model" in page and "http" not in page.replace("http-equiv", "")


def test_refusals_of_the_command(place: Path, tmp_path: Path):
    assert_refused(run("train", "--set", "learning_rate=1", "-o", "run", cwd=tmp_path), 2, "learning_rate")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    taken = run("train", *flags(place), "-o", "mine", "--overwrite", "--quiet", cwd=tmp_path)
    assert_refused(taken, 1, "mine: contains other files")
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"
