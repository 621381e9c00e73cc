"""Training of motion models: windows, augmentation, the preset in miniature, resuming, and what is refused."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from tiny_motion import motion_config
from transformers import CLIPVisionModel

from fashionflow_core.config import ModelConfig
from fashionflow_core.errors import FashionFlowError, UsageError
from fashionflow_core.images.parts import ARM_LEFT, ARM_RIGHT
from fashionflow_core.models import FashionFlowUNet, ImageContextAdapter
from fashionflow_core.runtimes.torch import open_network
from fashionflow_core.store import registry
from fashionflow_core.synthetic.motion_clips import MotionClip, make_motion_clip, write_motion_clip
from fashionflow_core.training import run
from fashionflow_core.training.config import LoRAConfig, TrainConfig
from fashionflow_core.training.data import Draw
from fashionflow_core.training.dry_run import describe, make_plan
from fashionflow_core.training.motion import MotionClips, MotionTarget, draw_window, model_config, shown
from fashionflow_core.training.motion_augment import View, damaged, mirrored, recoloured
from fashionflow_core.training.randomness import stream
from fashionflow_core.training.settings import load_config

SMALL = (
    *("preset=mini-motion", "max_minutes=0", "frames=4", "batch_size=2", "tensorboard=false", "warmup_steps=0"),
    *("unet_widths=8,16", "unet_cross_heads=1,1", "unet_heads=1", "unet_head_dim=8", "unet_time_dim=16"),
)


@pytest.fixture(scope="module")
def clip() -> MotionClip:
    return make_motion_clip(2)


@pytest.fixture(scope="module")
def clips(clip: MotionClip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    write_motion_clip(clip, folder / "clip-000000.safetensors")
    write_motion_clip(replace(clip, channels=clip.channels * 0.5), folder / "clip-000001.safetensors")
    return folder


@pytest.fixture(scope="module")
def base() -> Path:
    return registry.find("mini-latent")


def config(clips: Path, *settings: str) -> TrainConfig:
    return load_config(None, [*SMALL, f"data={clips}", *settings])


@pytest.fixture(scope="module")
def trained(clips: Path, base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "first"
    return run.train(config(clips, "max_steps=2", "checkpoint_steps=1"), out, base, device="cpu")


def test_the_preset_makes_a_model_folder(trained: Path, clip: MotionClip) -> None:
    model = ModelConfig.load(trained)
    assert (model.latents, model.known_content, model.keyframes) == ("motion", "photo", 4)
    assert model.latents_mean == (0.0,) * 4 and len(model.latents_std) == 4
    assert model.modes == ("generate", "extend") and model.context_dropout == 0.1
    unet = open_network(FashionFlowUNet, trained, "unet", torch.float32)
    adapter = open_network(ImageContextAdapter, trained, "adapter", torch.float32)
    encoder = open_network(CLIPVisionModel, trained, "image_encoder", torch.float32)
    assert not (trained / "vae").exists()
    context = adapter(encoder(torch.zeros(1, 3, 112, 112)).last_hidden_state, torch.zeros(1, 9, 40, 32))
    made = unet(torch.zeros(1, 4 + 9 + 1, 4, 40, 32), torch.tensor([500]), context).sample
    assert made.shape == (1, 4, 4, 40, 32) and made.isfinite().all()
    # Deviations are those of the clips: latents come out near 1.
    moved = (clip.channels[:, 1:12] ** 2 * clip.cover).sum(axis=(1, 2, 3)) / clip.cover.sum() / 11
    np.testing.assert_allclose(np.sqrt(moved * (1 + 0.25) / 2), model.latents_std, rtol=0.02)


@pytest.mark.parametrize(("settings", "gain"), [((), 1.0), (("init_from=tiny-motion",), 2.0)])
def test_the_gain_on_shifts_belongs_to_the_weights(clips: Path, settings: tuple[str, ...], gain: float) -> None:
    of_base = motion_config(shift_gain=2.0)
    assert model_config(config(clips, "max_steps=1", *settings), of_base, "new", (1.0,) * 4, 6).shift_gain == gain


def test_resuming_takes_the_same_path(trained: Path, clips: Path, base: Path, tmp_path: Path) -> None:
    out = tmp_path / "parts"
    run.train(config(clips, "max_steps=1"), out, base, device="cpu")
    again = run.train(config(clips, "max_steps=2"), out, base, device="cpu", resume=True)
    for part in ("unet", "adapter"):
        name = f"{part}/diffusion_pytorch_model.safetensors"
        assert (again / name).read_bytes() == (trained / name).read_bytes()


def test_a_trained_model_is_trained_on(trained: Path, clips: Path, tmp_path: Path) -> None:
    settings = config(clips, "max_steps=1", f"init_from={trained}", "ema_decay=0")
    target = MotionTarget(settings, MotionClips(clips), trained, "more")
    before = open_network(FashionFlowUNet, trained, "unet", torch.float32).state_dict()
    assert all(torch.equal(value, before[name]) for name, value in target.networks.unet.state_dict().items())
    assert target.model.latents_std == ModelConfig.load(trained).latents_std
    made = run.train(replace(settings, lora=LoRAConfig(rank=2)), tmp_path / "lora", trained, device="cpu")
    assert made.name == "lora" and (made / "adapter_config.json").is_file()


def test_the_preset_takes_a_base_with_a_parser() -> None:
    settings = load_config(None, ["preset=mini-motion"])
    assert (registry.find(settings.base) / "parser" / "config.json").is_file()


def test_the_parser_is_kept(trained: Path, clips: Path, base: Path, tmp_path: Path) -> None:
    target = MotionTarget(config(clips, "max_steps=1"), MotionClips(clips), base, "x")
    target.base = tmp_path / "base"
    (target.base / "parser").mkdir(parents=True)
    (target.base / "parser" / "config.json").write_text("{}")
    (tmp_path / "made").mkdir()
    target.write(tmp_path / "made", torch.float16)
    assert (tmp_path / "made" / "parser" / "config.json").read_text() == "{}"


# ---- windows and views


def test_windows_have_the_shares_of_the_preset(clips: Path) -> None:
    settings = config(clips, "max_steps=1")
    kinds = {"generate": 0, "loop": 0, "extend": 0}
    for step in range(400):
        mask, start = draw_window(settings, 12, False, stream(0, "clip", step))
        given = int(mask.sum())
        if start:
            kinds["extend"] += 1
            assert start <= 8 and mask[:2].all() and given <= 5
        else:
            kinds["loop" if mask[-1] else "generate"] += 1
            assert mask[0] and given == 1 + int(mask[-1])
    assert 230 < kinds["generate"] < 330 and kinds["loop"] > 35 and kinds["extend"] > 35
    loops = [draw_window(settings, 12, True, stream(0, "clip", step))[0][-1] for step in range(200)]
    assert sum(map(float, loops)) > 80


def test_frame_zero_is_pinned_without_noise(clips: Path, base: Path) -> None:
    target = MotionTarget(config(clips, "max_steps=1", "mask_loop=0", "mask_extend=0", "mask_generate=1"),
                          MotionClips(clips), base, "x")  # fmt: skip
    batch = target.examples[Draw(0, 0, 1, 0, 4)]
    assert not batch.latents[:, :, 0].any() and batch.given.tolist() == [[1, 0, 0, 0]]
    seen: list[torch.Tensor] = []

    class Spy(torch.nn.Module):
        def forward(self, shown: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
            seen.append(shown)
            return batch.latents

    assert float(target.losses(Spy(), batch)) == 0
    (network_input,) = seen
    assert network_input.shape == (1, 14, 4, 40, 32)
    assert not network_input[:, :4, 0].any() and network_input[:, :4, 1:].std() > 0.2
    for frame in range(4):  # the photo is seen in every frame
        torch.testing.assert_close(network_input[:, 4:13, frame], batch.content)
    assert network_input[:, 13].mean(dim=(2, 3)).tolist() == [[1, 0, 0, 0]]


def test_the_same_draw_is_the_same_example(clips: Path, base: Path) -> None:
    target = MotionTarget(config(clips, "max_steps=1"), MotionClips(clips), base, "x")
    one, again = (target.examples[Draw(3, 1, 2, 0, 4)] for _ in range(2))
    other = target.examples[Draw(4, 1, 2, 0, 4)]
    assert torch.equal(one.latents, again.latents) and torch.equal(one.content, again.content)
    assert not torch.equal(one.noise, other.noise)


def test_a_mirror_in_a_mirror_is_the_photo(clip: MotionClip) -> None:
    view = View(clip.photo, clip.matte, clip.parts, clip.inflation)
    once = mirrored(view)
    twice = mirrored(once)
    assert once.parts is not None and twice.parts is not None and twice.inflation is not None
    np.testing.assert_array_equal(once.parts == ARM_LEFT, (clip.parts == ARM_RIGHT)[:, ::-1])
    np.testing.assert_array_equal(twice.parts, clip.parts)
    np.testing.assert_array_equal(twice.photo, clip.photo)
    np.testing.assert_array_equal(twice.inflation, clip.inflation)


def test_damage_stays_small_and_colours_leave_the_shape(clip: MotionClip) -> None:
    view = View(clip.photo, clip.matte, clip.parts, clip.inflation)
    changed = 0
    for seed in range(30):
        random = stream(seed, "damage")
        bad = damaged(view, random)
        assert bad.matte.min() >= 0 and bad.matte.max() <= 1
        outside = np.abs(bad.matte - clip.matte).sum() / clip.matte.sum()
        assert outside < 0.3
        changed += outside > 0.001
        assert bad.parts is None or not bad.parts[bad.matte <= 0.5].any()
        painted = recoloured(bad, random)
        assert painted.matte is bad.matte and painted.photo.dtype == np.uint8
    assert changed > 8


def test_b_is_fitted_to_the_inflation_that_is_shown(clip: MotionClip) -> None:
    """Twice the inflation and half of b are the same motion."""
    true = View(clip.photo, clip.matte, clip.parts, clip.inflation)
    height = clip.info["figure_height"]
    content, ratio = shown(true, true, height)
    double, halved = shown(replace(true, inflation=2 * clip.inflation), true, height)
    assert (ratio == 1).all()
    on = clip.cover > 0.9
    np.testing.assert_allclose(halved.numpy()[on], 0.5, atol=1e-3)
    torch.testing.assert_close(double[4], 2 * content[4])


def test_log_snr_falls_linearly(base: Path, clips: Path) -> None:
    target = MotionTarget(config(clips, "max_steps=1"), MotionClips(clips), base, "x")
    abar = target.alphas_cumprod.double()
    snr = torch.log(abar / (1 - abar))
    torch.testing.assert_close(snr, torch.linspace(3, -9, 1000).double(), atol=2e-3, rtol=0)
    assert isinstance(target.scheduler, DDPMScheduler) and target.prediction == "sample"


# ---- refusals


def test_what_is_refused(clips: Path, base: Path, tmp_path: Path) -> None:
    with pytest.raises(FashionFlowError, match="contains no motion clips"):
        MotionClips(tmp_path)
    with pytest.raises(UsageError, match="mini-latent is not a motion model"):
        MotionTarget(config(clips, "max_steps=1", "init_from=mini-latent"), MotionClips(clips), base, "x")
    with pytest.raises(UsageError, match=r"unet\.widths"):
        MotionTarget(config(clips, "max_steps=1", "unet_widths=", "unet_cross_heads="), MotionClips(clips), base, "x")
    with pytest.raises(UsageError, match="longer than clips of 20"):
        MotionTarget(config(clips, "max_steps=1", "frames=22"), MotionClips(clips), base, "x")
    for settings, message in (
        (["mask_loop=0.2", "mask_generate=0.8"], "only for motion models"),
        (["preset=mini-motion", "preview_every=5"], "no previews"),
        (["preset=mini-motion", "mask_interpolate=0.15", "mask_extend=0"], "without masks.interpolate"),
        (["preset=mini-motion", "reverse=0.5"], "not for motion models"),
    ):
        with pytest.raises(UsageError, match=message):
            load_config(None, ["max_steps=1", *settings])


def test_the_plan_counts_what_learns(clips: Path, base: Path, tmp_path: Path) -> None:
    planned = make_plan(config(clips, "max_steps=3"), base, tmp_path / "run", "cpu")
    assert planned.target == "motion" and planned.clips == 2 and planned.steps == 3
    assert json.dumps(asdict(planned)) and describe(planned)
