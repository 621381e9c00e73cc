"""Preset `paper` against the sentences of the paper, and a run of it from nothing to a video, at toy widths."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clips import moving
from command import assert_refused, run
from tiny import build_sources, build_tiny_model

from fashionflow_core import pipeline, video
from fashionflow_core.config import GenerateSettings, ModelConfig
from fashionflow_core.diffusion.schedulers import make_scheduler
from fashionflow_core.errors import FashionFlowError
from fashionflow_core.models import FashionFlowUNet
from fashionflow_core.training.base import check_base
from fashionflow_core.training.build import fresh_unet, known_channels
from fashionflow_core.training.data import draw_mask
from fashionflow_core.training.new_model import NewModelOptions, new_model
from fashionflow_core.training.randomness import stream
from fashionflow_core.training.schedules import noise_scheduler
from fashionflow_core.training.settings import load_config

NARROW = ("unet.widths=8,16", "unet.cross_heads=1,2", "unet.heads=2", "unet.head_dim=8", "unet.time_dim=32")


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_sources(tmp_path_factory.mktemp("sources"))


@pytest.fixture(scope="module")
def fresh(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new model in the paper's form, narrow, for 4 frames of 64x32."""
    torch.set_num_threads(1)
    asked = NewModelOptions(str(sources / "vae"), str(sources / "clip"), settings=NARROW, size=(64, 32), frames=4)
    return new_model("paper", tmp_path_factory.mktemp("fresh") / "paper", asked)


# ---- sentences (docs/concepts/paper-recipe.md)


def test_network_has_the_published_size_and_four_more_channels():
    """71,671,548 parameters (reference README), and 4 x 64 x 7 x 7 for RGB and mask of the given frames (3.3)."""
    config = load_config(None, ["preset=paper"])
    channels = 4 + known_channels(config.conditioning.known_content, 4)
    with torch.device("meta"):
        unet = fresh_unet(config.unet, FashionFlowUNet(), channels)
    assert channels == 8
    assert sum(p.numel() for p in unet.parameters()) == 71_671_548 + 4 * 64 * 7 * 7


def test_half_of_the_frames_are_masked_in_a_share_of_the_clips():
    config = load_config(None, ["preset=paper"])
    masks = torch.stack([draw_mask(config, 70, stream(0, "mask", index)) for index in range(400)])
    given = masks.sum(dim=1)
    assert set(given.tolist()) == {1.0, 35.0}
    assert float((given == 35).float().mean()) == pytest.approx(0.5, abs=0.08)
    assert bool((masks[given == 35][:, ::2] == 1).all())


def test_optimizer_length_and_noise_schedule():
    config = load_config(None, ["preset=paper"])
    assert (config.optimizer.lr, config.optimizer.adam_betas) == (2e-4, (0.5, 0.999))
    assert (config.schedule.max_epochs, config.schedule.lr_schedule) == (2500, "constant")
    scheduler = noise_scheduler(config.noise, None)
    steps = np.arange(1001)
    f = np.cos((steps / 1000 + 0.008) / 1.008 * np.pi / 2) ** 2  # Nichol and Dhariwal 2021, equation 17
    expected = np.cumprod(1 - np.minimum(1 - f[1:] / f[:-1], 0.999))
    np.testing.assert_allclose(scheduler.alphas_cumprod.numpy(), expected, atol=1e-6)
    assert scheduler.config.prediction_type == "epsilon"


def test_samples_with_the_variance_of_equation_2(fresh: Path):
    model = ModelConfig.load(fresh)
    assert (model.scheduler, model.steps) == ("ddpm-large", 1000)
    assert make_scheduler(fresh, model.scheduler).config.variance_type == "fixed_large"


# ---- new models


def test_new_model_takes_the_conventions_of_its_preset(fresh: Path, sources: Path, tmp_path: Path):
    model = ModelConfig.load(fresh)
    assert (model.height, model.width, model.frames, model.fps) == (64, 32, 4, 25)
    assert (model.known_content, model.mask_fill, model.modes) == ("rgb", "zero", ("generate", "interpolate"))
    assert (model.vae_range, model.vae_sample, model.clip_rescale_twice) == ("minus_one_one", False, False)
    assert model.latents_std == pytest.approx((1 / 0.18215,) * 4)
    asked = NewModelOptions(str(sources / "vae"), str(sources / "clip"), "published", NARROW, (64, 32), 4)
    published = ModelConfig.load(new_model("other", tmp_path / "other", asked))
    assert (published.fit, published.vae_range, published.vae_sample) == ("stretch", "zero_one", True)
    assert (published.known_content, published.scheduler) == ("none", "ddpm")


def test_new_model_on_the_networks_of_another_model(tmp_path: Path):
    """Latents and frame size are those of the VAE's model folder."""
    other = build_tiny_model(tmp_path / "other")
    asked = NewModelOptions(str(other), str(other), settings=NARROW)
    made = ModelConfig.load(new_model("new", tmp_path / "new", asked))
    base = ModelConfig.load(other)
    assert (made.latents_mean, made.latents_std) == (base.latents_mean, base.latents_std)
    assert (made.height, made.width, made.vae_patch_size) == (base.height, base.width, base.vae_patch_size)
    check_base(tmp_path / "new")


def test_same_seed_gives_the_same_networks(fresh: Path, sources: Path, tmp_path: Path):
    asked = NewModelOptions(str(sources / "vae"), str(sources / "clip"), settings=NARROW, size=(64, 32), frames=4)
    again = new_model("paper", tmp_path / "again", asked)
    for part in ("unet", "adapter"):
        (file,) = (fresh / part).glob("*.safetensors")
        assert file.read_bytes() == (again / part / file.name).read_bytes()


def test_refusals_of_new(sources: Path, tmp_path: Path):
    words = ["models", "new", "mine", "--vae", sources / "vae", "--clip", sources / "clip", "-o", "mine", "-q"]
    home = {"FASHIONFLOW_HOME": str(tmp_path / "home")}
    assert_refused(run(*words, "--preset", "mini-motion", cwd=tmp_path, env=home), 2, "--preset: unknown preset")
    assert_refused(run(*words, "--size", "100x100", cwd=tmp_path, env=home), 2, "--size: 100x100", "multiples of 128")
    assert "--size 128x128" in run(*words, "--size", "100x100", cwd=tmp_path, env=home).stderr
    assert_refused(run(*words, "--frames", "5", cwd=tmp_path, env=home), 2, "--frames: must be even")
    alone = run("models", "new", "mine", "-q", cwd=tmp_path, env=home)
    assert_refused(alone, 1, "--vae: not set")
    assert "fashionflow models pull base" in alone.stderr
    taken = run("models", "new", "published", "--vae", sources / "vae", "-q", cwd=tmp_path, env=home)
    assert_refused(taken, 1, "published: name of another model")
    assert not (tmp_path / "mine").exists()


# ---- the base of a run


def test_train_names_the_base_that_is_missing(tmp_path: Path):
    home = {"FASHIONFLOW_HOME": str(tmp_path / "home")}
    for more in ((), ("--dry-run",)):
        refused = run(
            "train", "--set", "preset=paper", "--set", "data=cache", "-o", "run", *more, cwd=tmp_path, env=home
        )
        assert_refused(refused, 1, "base: preset paper needs a model folder named paper")
        assert "fashionflow models pull base, then fashionflow models new paper" in refused.stderr
    assert not (tmp_path / "run").exists()


def test_a_base_that_lacks_a_part_fails_before_anything_is_opened(fresh: Path, tmp_path: Path):
    import shutil

    broken = shutil.copytree(fresh, tmp_path / "broken")
    next((broken / "vae").glob("*.safetensors")).unlink()
    with pytest.raises(FashionFlowError, match=r"base: .*broken: incomplete model folder: vae/ holds no weights"):
        check_base(broken)
    refused = run("train", "--set", "preset=paper", "--set", f"base={broken}", "-o", "run", cwd=tmp_path)
    assert_refused(refused, 1, "vae/ holds no weights")


@pytest.mark.parametrize(
    ("part", "key", "value", "words"),
    [
        ("adapter", "latent_width", 8, "the adapter needs latents of 8x8, frames of 64x32 make 8x4"),
        ("unet", "cross_attention_dim", 32, "the U-Net reads context of width 32, the adapter 768"),
        ("image_encoder", "patch_size", 16, "the adapter has CLIP tokens 50, the image encoder 197"),
        ("vae", "latent_channels", 16, "the VAE has latent channels 16, model.json 4"),
    ],
)
def test_a_base_of_parts_that_do_not_fit(fresh: Path, tmp_path: Path, part: str, key: str, value: int, words: str):
    import shutil

    odd = shutil.copytree(fresh, tmp_path / "odd")
    path = odd / part / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(FashionFlowError) as caught:
        check_base(odd)
    assert words in caught.value.message


# ---- from nothing to a video


@pytest.mark.slow
def test_recipe_runs_from_nothing_to_a_video(fresh: Path, tmp_path: Path):
    """prepare, dry run, train, generate and interpolate, on the real preset with narrow networks."""
    (tmp_path / "videos").mkdir()
    for index in range(2):
        video.write(moving(8 + index), tmp_path / "videos" / f"{index}.mp4", fps=25, count=8 + index)
    prepared = run(
        *("data", "prepare", "videos", "-o", "cache", "--model", fresh, "--strides", "1", "--device", "cpu", "-q"),
        cwd=tmp_path,
    )
    assert prepared.returncode == 0, prepared.stderr
    changed = ["preset=paper", f"base={fresh}", "data.path=cache", "schedule.max_steps=4", "log.every=2", *NARROW]
    words: list[Any] = ["train", *(word for one in changed for word in ("--set", one)), "-o", "run", "--device", "cpu"]
    planned = run(*words, "--dry-run", cwd=tmp_path)
    assert planned.returncode == 0, planned.stderr
    assert "2 clips in cache" in planned.stdout and "latents 4x8x4" in planned.stdout
    trained = run(*words, "-q", cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    model = ModelConfig.load(tmp_path / "run" / "model")
    assert (model.known_content, model.scheduler, model.steps) == ("rgb", "ddpm-large", 1000)
    pipe = pipeline.load(tmp_path / "run" / "model", device="cpu")
    photo = np.full((64, 32, 3), 128, np.uint8)
    clip = pipe.generate(photo, GenerateSettings(steps=2, lock="off"))
    assert clip.latents.isfinite().all() and len(list(clip.frames)) == 4
    between = pipe.generate(photo, GenerateSettings(steps=2, interpolate=2, lock="off"))
    assert len(list(between.frames)) == 7
