"""What a run starts from, and what it changes: masks grown onto a model, LoRA, frozen parts, presets."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from test_train import losses, place, train
from tiny import build_sources, build_tiny_model, named_published, tiny_config
from tiny_cache import build_tiny_cache

from fashionflow_core import pipeline
from fashionflow_core.config import GenerateSettings, ModelConfig
from fashionflow_core.diffusion.known_frames import KnownFrames
from fashionflow_core.errors import FashionFlowError, UsageError
from fashionflow_core.runtimes.lora import fuse_lora, merge_lora
from fashionflow_core.runtimes.torch import load
from fashionflow_core.store.published import import_checkpoint
from fashionflow_core.training.run import make_target
from fashionflow_core.training.settings import load_config

__all__ = ["place"]  # the fixture
CPU = torch.device("cpu")


def target(place: Path, **changes: Any) -> Any:
    values = {"data": place / "cache", "base": place / "model", "max_steps": 1, "frames": 4} | changes
    config = load_config(None, [f"{key}={value}" for key, value in values.items()])
    return make_target(config, Path(config.init_from or config.base), "made")


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """A model without mask channels, as the published one, and its cache."""
    build_tiny_model(tmp_path / "model")
    build_tiny_cache(tmp_path / "cache", tmp_path / "model")
    return tmp_path


@pytest.mark.parametrize("content", ["rgb", "latents"])
def test_grown_mask_channels_change_nothing_at_step_0(plain: Path, content: str):
    made = target(plain, init_from=plain / "model", known_content=content, mask_interpolate=0.5, mask_generate=0.5)
    assert (made.model.known_content, made.model.modes) == (content, ("generate", "interpolate"))
    original = load(plain / "model", CPU, torch.float32)
    clip, context = torch.randn(1, 4, 4, 16, 12), torch.randn(1, 17, 32)
    shown = clip if content == "latents" else torch.randn(1, 3, 4, 16, 12)
    mask = torch.tensor([[1.0, 0, 1, 0]])
    given = KnownFrames.from_clip(clip, mask, shown)
    sample = torch.randn_like(clip)
    with torch.no_grad():
        grown = made.networks.unet(given.network_input(sample), torch.tensor([500]), context).sample
        before = original.unet(given.pin(sample), torch.tensor([500]), context).sample
    torch.testing.assert_close(grown, before, atol=1e-5, rtol=1e-4)  # zeros are added in another order


def test_model_grown_and_saved_still_makes_the_original_video(plain: Path):
    """Without a step: what is written is the original with more channels."""
    made = train(plain, plain / "run", init_from=plain / "model", known_content="rgb", max_steps=1, lr=1e-30)
    photo = np.random.default_rng(0).integers(0, 256, (64, 48, 3), dtype=np.uint8)
    videos = [
        np.stack(list(pipeline.load(folder, device="cpu").generate(photo, GenerateSettings(steps=2)).frames))
        for folder in (plain / "model", made)
    ]
    assert np.abs(videos[0].astype(int) - videos[1]).max() <= 1


@pytest.mark.slow
def test_masks_grow_onto_an_imported_published_checkpoint(tmp_path: Path):
    """The checkpoint's own 71.7 million weights, and the four channels that the paper's interpolation needs."""
    pth = tmp_path / "published.pth"
    torch.save({part: named_published(part) for part in ("net", "adapter")}, pth)
    sources = build_sources(tmp_path / "sources")
    model = import_checkpoint(pth, tmp_path / "model", vae=str(sources / "vae"), clip=str(sources / "clip"))
    build_tiny_cache(tmp_path / "cache", model, clips=1, frames=2)
    made = target(
        tmp_path,
        preset="published",
        init_from=model,
        known_content="rgb",
        frames=2,
        mask_generate=0.5,
        mask_interpolate=0.5,
    )
    assert made.networks.unet.config["in_channels"] == 8
    original = load(model, CPU, torch.float32).unet
    sample, context = torch.randn(1, 4, 2, 32, 32), torch.randn(1, 50, 768)
    shown = torch.randn(1, 4, 2, 32, 32)  # RGB and mask
    with torch.no_grad():
        grown = made.networks.unet(torch.cat((sample, shown), dim=1), torch.tensor([500]), context).sample
        torch.testing.assert_close(grown, original(sample, torch.tensor([500]), context).sample, atol=1e-4, rtol=1e-4)


def test_other_mask_channels_than_the_models_are_refused(place: Path):
    with pytest.raises(UsageError, match="known_content: the model of init_from has 5 mask channels already, not 4"):
        target(place, init_from=place / "model", known_content="rgb")


def test_masks_need_channels_that_tell_of_them(plain: Path):
    with pytest.raises(UsageError, match="no input for given frames"):
        target(plain, mask_generate=0, mask_extend=1)


@pytest.mark.parametrize(("key", "learns"), [("init_from", "unet"), ("base", "unet"), ("base", "vae")])
def test_motion_model_is_refused_by_targets_of_appearance(place: Path, tmp_path: Path, key: str, learns: str):
    """`mini` was an appearance model's name once: the hint names that model."""
    conventions = {"latents": "motion", "keyframes": 12, "keyframe_seconds": 0.25, "known_content": "photo"}
    (tmp_path / "model.json").write_text(tiny_config(name="mini", **conventions).to_json())
    with pytest.raises(UsageError, match=f"^{key}: mini is a motion model") as refusal:
        target(place, **{key: tmp_path, "target": learns})
    assert f"set {key}: mini-latent" in str(refusal.value.hint)


def test_cache_of_another_model_is_refused(place: Path, tmp_path: Path):
    build_tiny_model(tmp_path / "model", known_content="latents", seed=1)
    with pytest.raises(FashionFlowError, match=r"cache: encoded with vae"):
        target(place, base=tmp_path / "model")


def test_only_the_training_split_is_trained_on(tmp_path: Path):
    build_tiny_model(tmp_path / "model")
    build_tiny_cache(tmp_path / "cache", tmp_path / "model", clips=5, splits=("train", "test"))
    assert len(target(tmp_path).examples) == 3
    assert len(target(tmp_path, split="test").examples) == 2
    assert len(target(tmp_path, split="all").examples) == 5
    with pytest.raises(FashionFlowError, match="no split 'val'"):
        target(tmp_path, split="val")


@pytest.fixture(scope="module")
def lora(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lora")
    made = train(place, folder / "run", init_from=place / "model", lora_rank=4, lr=3e-2, max_steps=10, ema_decay=0.5)
    assert made == folder / "run" / "lora"
    return made


def test_lora_is_a_folder_that_peft_opens(place: Path, lora: Path):
    peft = pytest.importorskip("peft")
    assert sorted(path.name for path in lora.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    assert json.loads((lora / "adapter_config.json").read_text())["r"] == 4
    unet = load(place / "model", CPU, torch.float32).unet
    inputs = (torch.randn(1, 9, 4, 16, 12), torch.tensor([300]), torch.randn(1, 17, 32))
    with torch.no_grad():
        before = unet(*inputs).sample
        theirs = peft.PeftModel.from_pretrained(unet, lora)(*inputs).sample
        ours = fuse_lora(load(place / "model", CPU, torch.float32).unet, lora)(*inputs).sample
    assert (before - theirs).abs().max() > 1e-3
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_merged_model_is_the_model_with_the_lora(place: Path, lora: Path, tmp_path: Path):
    made = merge_lora(place / "model", lora, tmp_path / "merged")
    merged, fused = (load(folder, CPU, torch.float32).unet for folder in (made, place / "model"))
    fuse_lora(fused, lora)
    ours, theirs = merged.state_dict(), fused.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert ModelConfig.load(made) == ModelConfig.load(place / "model")
    pipeline.load(made, device="cpu")


def test_lora_of_another_network_is_refused(place: Path, lora: Path, tmp_path: Path):
    build_tiny_model(tmp_path / "model", levels=3)
    unet = load(tmp_path / "model", CPU, torch.float32).unet
    with pytest.raises(FashionFlowError, match="does not match this U-Net"):
        fuse_lora(unet, lora)
    with pytest.raises(FashionFlowError, match="not a LoRA"):
        fuse_lora(unet, tmp_path)
    state = load_file(lora / "adapter_model.safetensors")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "adapter_config.json").write_bytes((lora / "adapter_config.json").read_bytes())
    save_file(dict(list(state.items())[1:]), broken / "adapter_model.safetensors")
    with pytest.raises(FashionFlowError, match="1 weights do not fit"):
        fuse_lora(load(place / "model", CPU, torch.float32).unet, broken)


def learnt(place: Path, made: Path) -> set[str]:
    """The networks whose weights differ from the base model's."""
    return {
        part
        for part in ("unet", "adapter", "vae", "image_encoder")
        for file in (made / part).glob("*.safetensors")
        if any(not torch.equal(x, load_file(place / "model" / part / file.name)[k]) for k, x in load_file(file).items())
    }


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({}, {"unet", "adapter"}),
        ({"conditioning": "local"}, {"unet"}),
        ({"conditioning": "global"}, {"unet", "adapter"}),
        ({"train_image_encoder": "true"}, {"unet", "adapter", "image_encoder"}),
        ({"target": "image_encoder"}, {"adapter", "image_encoder"}),
    ],
    ids=["unet", "local", "global", "train_image_encoder", "image_encoder"],
)
def test_what_learns(place: Path, tmp_path: Path, changes: dict[str, Any], parts: set[str]):
    made = train(place, tmp_path / "run", init_from=place / "model", max_steps=2, **changes)
    assert learnt(place, made) == parts
    config = ModelConfig.load(made)
    assert config.conditioning == (changes.get("conditioning", "both"),)


def test_preset_mini_trains_on_windows_and_its_result_generates(place: Path, tmp_path: Path):
    """All of the recipe at toy size: short windows, reversed ones, whose photo is decoded; half precision."""
    changes = {
        "preset": "mini-latent",
        "frames": 8,
        "short_frames": 4,
        "unet_widths": "8,16",
        "unet_cross_heads": "1,2",
    }
    changes |= {"unet_heads": 2, "unet_head_dim": 8, "unet_time_dim": 32, "batch_size": 1, "max_minutes": 0}
    made = train(place, tmp_path / "run", max_steps=8, **changes)
    assert len(losses(tmp_path / "run")) == 8
    config = ModelConfig.load(made)
    assert (config.scheduler, config.steps, config.log_snr) == ("ddpm", 12, (-6.0, 5.0))
    assert {x.dtype for x in load_file(made / "unet" / "diffusion_pytorch_model.safetensors").values()} == {torch.half}
    photo = np.full((64, 48, 3), 90, np.uint8)
    clip = pipeline.load(made, device="cpu").generate(photo, GenerateSettings(steps=1))
    assert clip.latents.isfinite().all()


@pytest.mark.parametrize("preset", ["paper", "published"])
def test_presets_of_the_paper_make_the_published_network(preset: str):
    """71,671,548 parameters (reference README), made without memory for their values."""
    from fashionflow_core.models import FashionFlowUNet
    from fashionflow_core.training.build import fresh_unet

    config = load_config(None, [f"preset={preset}"])
    with torch.device("meta"):
        unet = fresh_unet(
            config.unet,
            FashionFlowUNet(
                block_out_channels=(8, 8), down_cross_attention_heads=(1, 1), up_cross_attention_heads=(1, 1)
            ),
            4,
        )
    assert sum(p.numel() for p in unet.parameters()) == 71_671_548
    assert config.optimizer.lr == {"paper": 2e-4, "published": 1e-4}[preset]
    assert (config.optimizer.adam_betas, config.schedule.max_epochs) == ((0.5, 0.999), 2500)
    assert config.loss.frame_loss == "sum"
