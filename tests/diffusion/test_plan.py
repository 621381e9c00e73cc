"""The plan of a run against the run itself, and its arithmetic against counts by hand."""

import json
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny import Spy, build_tiny_model
from torch import nn

from fashionflow_core.config import SCHEDULERS, GenerateSettings
from fashionflow_core.diffusion.schedulers import set_timesteps
from fashionflow_core.errors import FashionFlowError, FashionFlowWarning, UsageError
from fashionflow_core.pipeline import FashionFlowPipeline, load
from fashionflow_core.runtimes.flops import count_flop
from fashionflow_core.store import registry

EVERYWHERE = (0.0, 1.0)
PHOTO = np.random.default_rng(0).integers(0, 256, (90, 60, 3), np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("models") / "tiny", context_dropout=0.1, log_snr=(-6.0, 5.0))


@pytest.fixture
def spied(folder: Path) -> tuple[FashionFlowPipeline, Spy]:
    model = load(folder, device="cpu")
    spy: Any = Spy(model.networks)
    return FashionFlowPipeline(spy, model.conditioner.processor, model.config, model.make_scheduler), spy


CASES = [(name, 4, (0.0, 0.5)) for name in SCHEDULERS]
CASES += [("ddim", scale, interval) for scale, interval in ((1, EVERYWHERE), (4, EVERYWHERE), (4, (0.5, 0.51)))]


@pytest.mark.parametrize(("name", "scale", "interval"), CASES)
def test_the_plan_counts_what_is_done(
    spied: tuple[FashionFlowPipeline, Spy], name: str, scale: float, interval: tuple[float, float]
):
    pipeline, spy = spied
    settings = GenerateSettings(scheduler=name, steps=5, frames=6, guidance_scale=scale, guidance_interval=interval)
    with warnings.catch_warnings(action="ignore", category=FashionFlowWarning):
        plan = pipeline.plan(settings, PHOTO)
        assert spy.calls == []  # none of it is done
        clip = pipeline.generate(PHOTO, settings)
    assert len(spy.calls) == plan.unet_calls == plan.steps + plan.guided_steps
    assert tuple(dict.fromkeys(timestep for _, timestep, _ in spy.calls)) == plan.timesteps
    assert (plan.frames, plan.height, plan.width, plan.fps) == (clip.count, clip.height, clip.width, clip.fps)
    assert (plan.scheduler, plan.conditioning, plan.seconds) == (name, "both", None)


@pytest.mark.slow
def test_arithmetic_grows_with_what_is_asked_for(spied: tuple[FashionFlowPipeline, Spy]):
    pipeline, _ = spied
    one, three, guided = pipeline.plan(steps=1), pipeline.plan(steps=3), pipeline.plan(guidance_scale=2)
    assert three.tflop["unet"] == pytest.approx(3 * one.tflop["unet"])
    assert three.tflop["vae"] == one.tflop["vae"] and three.tflop["context"] == one.tflop["context"] > 0
    assert guided.unet_calls == 4 and guided.tflop["unet"] == pytest.approx(4 * one.tflop["unet"])
    photo, *frames = (pipeline.plan(frames=count, steps=1).tflop["vae"] for count in (2, 4, 6))
    assert frames[1] - frames[0] == pytest.approx(frames[0] - photo)
    assert one.tflop["total"] == pytest.approx(sum(one.tflop[part] for part in ("unet", "vae", "context")))
    assert pipeline.plan(frames=16, decode_chunk=7).decode_calls == 3


def test_the_bundled_models_plan():
    """docs/concepts/mini-latent.md: 12 x 117 GFLOP in the U-Net and 254 in the decoder; the encoder comes on top."""
    plan = load(registry.find("mini-latent"), device="cpu").plan()
    assert (plan.frames, plan.height, plan.width, plan.fps, plan.steps) == (70, 320, 256, 25, 12)
    assert plan.tflop["unet"] / 12 == pytest.approx(0.117, abs=0.001)
    assert plan.tflop["total"] == pytest.approx(1.67, abs=0.01)
    assert plan.weights_bytes == 4 * registry.show("mini-latent")["parameters"]["total"]


def test_half_precision_halves_the_weights(folder: Path):
    full, half = (load(folder, device="cpu", dtype=dtype).plan() for dtype in ("fp32", "bf16"))
    assert (full.dtype, half.dtype) == ("float32", "bfloat16")
    assert full.weights_bytes == 2 * half.weights_bytes and full.tflop == half.tflop


def test_a_plan_is_json(spied: tuple[FashionFlowPipeline, Spy]):
    found = json.loads(json.dumps(asdict(spied[0].plan())))
    assert found["model"] == "tiny" and found["device"] == "cpu" and found["timesteps"][0] == 999


def test_time_is_measured_only_on_request(spied: tuple[FashionFlowPipeline, Spy]):
    pipeline, spy = spied
    assert pipeline.plan(frames=8).seconds is None and spy.calls == []
    seconds = pipeline.plan(frames=8, steps=50, measure=True).seconds
    assert [x.shape for x, _, _ in spy.calls] == [(1, 4, 8, 16, 12)] * 2  # one to warm up, one timed
    assert seconds is not None and 0 < seconds < 600


def test_too_little_memory_to_measure_is_one_line(
    spied: tuple[FashionFlowPipeline, Spy], monkeypatch: pytest.MonkeyPatch
):
    pipeline, spy = spied

    def denoise(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr(spy, "denoise", denoise)
    with pytest.raises(FashionFlowError, match="out of memory with 4 frames") as caught:
        pipeline.plan(measure=True)
    assert caught.value.hint is not None and "frames" in caught.value.hint


def test_what_the_model_cannot_do_is_refused_before_it_is_counted(spied: tuple[FashionFlowPipeline, Spy]):
    pipeline, _ = spied
    refused: list[tuple[dict[str, Any], str]] = [
        ({"frames": 3}, "frames"),
        ({"steps": 1001}, "steps"),
        ({"size": (48, 64)}, "size"),
        ({"conditioning": "local"}, "conditioning"),
    ]
    for changes, option in refused:
        with pytest.raises(UsageError, match=option):
            pipeline.plan(**changes)


def test_timesteps_are_those_of_the_scheduler(spied: tuple[FashionFlowPipeline, Spy]):
    pipeline, _ = spied
    expected = set_timesteps(pipeline.make_scheduler("ddim"), 7, torch.device("cpu"), (-6.0, 5.0))
    assert pipeline.plan(steps=7).timesteps == tuple(expected)


def test_lcm_on_a_model_not_distilled_for_it_is_a_warning(tmp_path: Path, spied: tuple[FashionFlowPipeline, Spy]):
    for call in (lambda: spied[0].plan(scheduler="lcm"), lambda: spied[0].generate(PHOTO, scheduler="lcm")):
        with pytest.warns(FashionFlowWarning, match="scheduler: lcm is for distilled models; tiny is not one"):
            call()
    distilled = load(build_tiny_model(tmp_path / "tiny", distilled=True), device="cpu")
    with warnings.catch_warnings(action="error", category=FashionFlowWarning):
        distilled.plan(scheduler="lcm")
        spied[0].plan()


# ---- counting ------------------------------------------------------------------------------------------------------


def test_arithmetic_by_hand():
    """A multiply and an add are two operations; weights that exist are left alone, and none of it is computed."""
    linear, conv = nn.Linear(3, 5), nn.Conv2d(4, 6, 3, padding=1, bias=False)
    before = linear.weight.clone()
    assert count_flop(linear, (7, 3)) == 2 * 7 * 3 * 5
    assert count_flop(conv, (2, 4, 10, 8)) == 2 * 2 * 6 * 10 * 8 * 4 * 9
    heads, tokens, width = 2, 50, 16
    attention = 2 * (2 * heads * tokens * tokens * width)
    assert count_flop(F.scaled_dot_product_attention, *[(1, heads, tokens, width)] * 3) == attention
    assert torch.equal(linear.weight, before) and linear(torch.zeros(1, 3)).isfinite().all()
