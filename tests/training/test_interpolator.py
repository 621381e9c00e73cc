"""A network for frames between given ones: what it adds to their mixture, in training, use and every runtime."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from engine_folders import tiny_engines, tiny_source
from safetensors.torch import load_file
from test_train import place, train
from test_train_start import CPU, learnt, target
from tiny import Spy, build_tiny_model

from fashionflow_core import pipeline
from fashionflow_core.config import MODEL_FILE, ModelConfig
from fashionflow_core.diffusion.conditioning import Conditioner
from fashionflow_core.diffusion.interpolation import Filler, GivenFrame, plan_passes, predicted
from fashionflow_core.diffusion.known_frames import KnownFrames
from fashionflow_core.errors import FashionFlowError, FashionFlowWarning, UsageError
from fashionflow_core.runtimes.torch import load
from fashionflow_core.store import folder as model_folder
from fashionflow_core.store import registry

__all__ = ["place"]  # the fixture
INTERPOLATES = {"target": "interpolator", "conditioning": "local", "mask_generate": 0, "mask_interpolate": 1}


@pytest.fixture
def video() -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 256, (5, 64, 48, 3), np.uint8))


@pytest.fixture(scope="module")
def trained(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model after some steps at a high rate: its interpolator says something, and the rest is what it was."""
    folder = tmp_path_factory.mktemp("interpolator")
    changes = {"init_from": place / "model", "max_steps": 6, "lr": 3e-2, "ema_decay": 0.5, "reverse": 0.5}
    return train(place, folder / "run", **INTERPOLATES, **changes)


def _given(latents: torch.Tensor, stride: int) -> KnownFrames:
    mask = torch.zeros(latents.shape[0], latents.shape[2])
    mask[:, ::stride] = 1
    return KnownFrames.from_clip(latents, mask)


# ---- what it is shown


@pytest.mark.parametrize("stride", [2, 4])
def test_it_is_shown_both_sides_and_how_far_it_is_from_them(stride: int):
    latents = torch.randn(2, 3, 8, 2, 2)
    shown = _given(latents, stride).interpolator_input()
    assert shown.shape == (2, 7, 8, 2, 2)
    last = (8 - 1) // stride * stride  # behind it there is but one side
    for frame in range(8):
        before = min(frame // stride * stride, last)
        after = frame if frame == before else min(before + stride, last)
        assert torch.equal(shown[:, :3, frame], latents[:, :, before])
        assert torch.equal(shown[:, 3:6, frame], latents[:, :, after])
        part = (frame - before) / stride if frame < last else 0
        assert (shown[:, 6, frame] == part).all()


def test_what_is_not_given_is_not_shown():
    """Neither to the network, nor in the mixture: blanked frames may hold anything."""
    known = _given(torch.randn(1, 3, 8, 2, 2), 2)
    other = KnownFrames(known.mask, torch.where(known.mask[:, None, :, None, None] > 0, known.latents, torch.nan))
    assert torch.equal(other.interpolator_input(), known.interpolator_input())
    assert torch.equal(other.mixed(other.latents), known.mixed(known.latents))


# ---- before the first step


@pytest.mark.parametrize("factor", [2, 4])
def test_one_that_says_zero_gives_the_linear_mixture_exactly(place: Path, factor: int):
    made = target(place, init_from=place / "model", interpolate_strides="2,4", **INTERPOLATES)
    latents = torch.randn(1, 4, 3, 16, 12)

    def never(*_: Any) -> Any:
        raise AssertionError("pixels are not needed")

    conditioner = Conditioner(made.networks, made.processor, made.model)
    passes = plan_passes(3, factor, made.model, 10, 2)
    filler = Filler(conditioner, never, passes, predicted(made.networks, lambda *_: None))
    given = [GivenFrame(latents[:, :, number], None, never) for number in range(3)]
    (window,) = filler.fill(given, torch.Generator())
    assert window.shape[2] == 2 * factor + 1
    for frame in range(window.shape[2]):
        before, inside = divmod(frame, factor)
        after = min(before + 1, 2)
        wanted = torch.lerp(latents[:, :, before], latents[:, :, after], inside / factor)
        assert torch.equal(window[:, :, frame], wanted)


def test_it_starts_from_the_levels_that_are_as_wide(tmp_path: Path, place: Path):
    build_tiny_model(tmp_path / "deep", levels=3, known_content="latents")
    unet = load(tmp_path / "deep", CPU, torch.float32).unet
    made = target(
        place,
        init_from=tmp_path / "deep",
        data=place / "cache",
        unet_widths="8,16",
        unet_cross_heads="1,2",
        **INTERPOLATES,
    )
    mine, theirs = made.networks.interpolator.state_dict(), unet.state_dict()
    for ours, level in (("down_blocks.0", "down_blocks.0"), ("up_blocks.1", "up_blocks.2")):
        name = "resnets.1.block1.conv.spatial.weight"
        assert torch.equal(mine[f"{ours}.{name}"], theirs[f"{level}.{name}"])
    first = theirs["conv_in.spatial.weight"]
    seen = first[:, :4] + first[:, 4:8]
    torch.testing.assert_close(mine["conv_in.spatial.weight"][:, :4] + mine["conv_in.spatial.weight"][:, 4:8], seen)
    assert not mine["conv_out.spatial.weight"].any()


# ---- training


@pytest.mark.slow
def test_only_the_interpolator_learns(place: Path, trained: Path):
    assert learnt(place, trained) == set()
    config, before = ModelConfig.load(trained), ModelConfig.load(place / "model")
    assert (config.interpolator, config.modes, config.conditioning) == (True, ("generate", "interpolate"), ("both",))
    assert config.steps == before.steps and config.scheduler == before.scheduler
    weights = load_file(trained / "interpolator" / "diffusion_pytorch_model.safetensors")
    assert weights["conv_out.spatial.weight"].abs().max() > 0.01


def test_training_and_use_agree(place: Path, trained: Path):
    """The loss of a run is the mean square error of the clips that the model then makes, over frames in between."""
    made = target(place, init_from=trained, interpolate_strides="2,4", frames=8, **INTERPOLATES)
    networks = load(trained, CPU, torch.float32)
    clips = made.examples.clips
    for stride in (2, 4):
        batch = _batch(made, stride)
        made.module.eval()
        with torch.no_grad():
            (loss,) = made.losses(made.module, batch)
        known = _given(batch.latents, stride)
        latents = known.mixed(known.latents) + networks.difference(known.interpolator_input())
        last = (8 - 1) // stride * stride
        between = [frame for frame in range(last) if frame % stride]
        error = (latents - batch.latents)[:, :, between].square().mean()
        assert error > 1e-3
        torch.testing.assert_close(loss, error, rtol=1e-4, atol=1e-6)
    assert len(clips) == 3


def _batch(made: Any, stride: int) -> Any:
    from fashionflow_core.training.data import Draw

    batch = made.examples[Draw(0, 0, 1, 0, 8)]
    batch.given = torch.zeros_like(batch.given)
    batch.given[:, ::stride] = 1
    return batch


def test_a_run_goes_on_from_the_interpolator_there_is(place: Path, trained: Path):
    made = target(place, init_from=trained, **INTERPOLATES)
    weights = load_file(trained / "interpolator" / "diffusion_pytorch_model.safetensors")
    assert all(torch.equal(weights[name], value) for name, value in made.networks.interpolator.state_dict().items())


def test_a_run_of_the_other_unet_keeps_it(place: Path, trained: Path, tmp_path: Path):
    made = train(place, tmp_path / "run", init_from=trained, max_steps=1)
    file = Path("interpolator") / "diffusion_pytorch_model.safetensors"
    assert ModelConfig.load(made).interpolator and (made / file).read_bytes() == (trained / file).read_bytes()
    fresh = train(place, tmp_path / "fresh", base=trained, max_steps=1)
    assert not ModelConfig.load(fresh).interpolator and not (fresh / "interpolator").exists()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"conditioning": "both"}, r"conditioning\.kind: local"),
        ({"mask_generate": 0.5, "mask_interpolate": 0.5}, r"masks\.interpolate: 1"),
        ({"init_from": ""}, "needs init_from"),
        ({"preview_every": 5}, "previews must be off"),
        ({"lora_rank": 4}, "LoRA is for the U-Net only"),
    ],
    ids=["context", "masks", "from nothing", "previews", "lora"],
)
def test_settings_that_cannot_be_meant(place: Path, changes: dict[str, Any], says: str):
    with pytest.raises(UsageError, match=says):
        target(place, **(INTERPOLATES | {"init_from": place / "model"} | changes))


# ---- use


def test_a_video_takes_one_call_a_window_and_no_sampling(trained: Path, video: list[np.ndarray]):
    pipe = pipeline.load(trained, device="cpu")
    spy: Any = Spy(pipe.networks)
    spied = pipeline.FashionFlowPipeline(spy, pipe.conditioner.processor, pipe.config, pipe.make_scheduler)
    steps: list[tuple[int, int]] = []
    made = list(spied.interpolate(video, 5, on_step=lambda *step: steps.append(step), frames=6))
    assert not spy.calls and steps == [(1, 2), (2, 2)]
    np.testing.assert_array_equal(made[::2], video)
    plan = spied.plan(interpolate=2, video_frames=5, frames=6)
    assert (plan.unet_calls, plan.steps, plan.scheduler, plan.frames) == (2, 1, "interpolator", 9)
    count = pipe.networks.count_flop(6)
    assert plan.tflop["unet"] == 2 * count["difference"] / 1e12 and count["difference"] != count["denoise"]
    clip = spied.generate(video[0], steps=2, interpolate=2)
    assert len(spy.calls) == 2 and clip.count == 7  # the settings of sampling are those of generation alone


def test_seeds_make_no_difference(trained: Path, video: list[np.ndarray]):
    pipe = pipeline.load(trained, device="cpu")
    made = [np.stack(list(pipe.interpolate(video, 5, seed=seed))) for seed in (0, 1)]
    np.testing.assert_array_equal(made[0], made[1])


def test_settings_that_change_nothing_are_told_of(trained: Path, video: list[np.ndarray]):
    pipe = pipeline.load(trained, device="cpu")
    with pytest.warns(FashionFlowWarning, match="interpolates with a separate network"):
        made = list(pipe.interpolate(video, 5, steps=7))
    np.testing.assert_array_equal(made, list(pipe.interpolate(video, 5)))


def test_it_is_counted_and_missed(trained: Path, tmp_path: Path):
    shown = registry.show(str(trained))["parameters"]
    assert shown["interpolator"] > 0 and shown["total"] == sum(n for name, n in shown.items() if name != "total")
    assert not model_folder.damage(trained)
    broken = Path(shutil.copytree(trained, tmp_path / "broken"))
    shutil.rmtree(broken / "interpolator")
    assert any("interpolator" in line for line in model_folder.damage(broken))
    with pytest.raises(FashionFlowError, match=r"interpolator: missing part of the model folder"):
        pipeline.load(broken, device="cpu")
    shutil.copytree(build_tiny_model(tmp_path / "plain") / "unet", broken / "interpolator")
    with pytest.raises(FashionFlowError, match="do not match: interpolator"):
        pipeline.load(broken, device="cpu")


def test_a_model_json_from_before_has_none(place: Path, tmp_path: Path):
    old = Path(shutil.copytree(place / "model", tmp_path / "old"))
    values = json.loads((old / MODEL_FILE).read_text())
    del values["interpolator"]
    (old / MODEL_FILE).write_text(json.dumps(values))
    assert ModelConfig.load(old) == ModelConfig.load(place / "model")
    assert not pipeline.load(old, device="cpu").config.interpolator


@pytest.mark.slow
def test_engines_bring_it_along(tmp_path_factory: pytest.TempPathFactory, video: list[np.ndarray]):
    pytest.importorskip("onnxruntime")
    source = tiny_source(tmp_path_factory)
    engines = tiny_engines(tmp_path_factory, "tiny-engines-interpolator", runtimes=("onnxruntime",), verify=False)
    assert ModelConfig.load(engines).interpolator and not model_folder.damage(engines)
    made = [
        np.stack(list(pipeline.load(folder, device="cpu", allow_unverified=True).interpolate(video, 5)))
        for folder in (source, engines)
    ]
    assert np.abs(made[0].astype(int) - made[1]).max() <= 1
    plain, engine = (
        pipeline.load(folder, device="cpu", allow_unverified=True).networks for folder in (source, engines)
    )
    assert plain.count_flop(4)["difference"] == engine.count_flop(4)["difference"]


def test_networks_that_take_turns_bring_it_to_the_device(trained: Path, video: list[np.ndarray]):
    """`--low-memory`: the same frames, but for rounding (they are decoded one by one)."""
    made = [
        np.stack(list(pipeline.load(trained, device="cpu", low_memory=low).interpolate(video, 5)))
        for low in (False, True)
    ]
    assert np.abs(made[0].astype(int) - made[1]).max() <= 1
