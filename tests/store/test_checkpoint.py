"""The import of a published checkpoint: what it gives, what is refused, and that nothing is left half-made."""

import io
import json
import os
import pickle
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from golden.named_weights import named_normal
from safetensors.torch import load_file, save_file
from tiny import build_sources, hollow_published, named_published, seeded

from fashionflow_core.config import ModelConfig
from fashionflow_core.errors import FashionFlowError
from fashionflow_core.models import FashionFlowUNet, ImageContextAdapter
from fashionflow_core.store.published import (
    import_checkpoint,
    published_betas,
    read_checkpoint,
)

PARTS = ("unet", "adapter", "vae", "image_encoder", "feature_extractor", "scheduler")


def _message(error: pytest.ExceptionInfo[FashionFlowError]) -> str:
    assert "\n" not in error.value.message
    return error.value.message


# ---- import --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_sources(tmp_path_factory.mktemp("sources"))


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory, sources: Path) -> Path:
    """A model folder from a checkpoint of the published shapes with name-seeded weights."""
    folder = tmp_path_factory.mktemp("imported")
    checkpoint = folder / "checkpoint.pth"
    # As a training run leaves it: DataParallel's prefix, the optimizer's state, a counter.
    net = {f"module.{name}": tensor for name, tensor in named_published("net").items()}
    opt = {"state": {0: {"exp_avg": torch.zeros(3)}}}
    torch.save({"net": net, "adapter": named_published("adapter"), "opt": opt, "epoch": 3}, checkpoint)
    target = folder / "models" / "published"
    # The VAE as a folder that has a `vae/`, the CLIP as the folder itself.
    assert import_checkpoint(checkpoint, target, str(sources), str(sources / "clip")) == target
    checkpoint.unlink()
    assert [path.name for path in folder.iterdir()] == ["models"]
    assert [path.name for path in target.parent.iterdir()] == ["published"]
    return target


def test_import_gives_the_golden_outputs(imported: Path, golden: Path):
    unet = FashionFlowUNet.from_pretrained(imported, subfolder="unet", use_safetensors=True)
    adapter = ImageContextAdapter.from_pretrained(imported, subfolder="adapter", use_safetensors=True)
    latents = torch.from_numpy(named_normal("unet_a:latents", (1, 4, 8, 32, 32)))
    context = torch.from_numpy(named_normal("unet_a:context", (1, 50, 768)))
    clip = torch.from_numpy(named_normal("adapter_a:clip", (1, 50, 768)))
    vae = torch.from_numpy(named_normal("adapter_a:vae", (1, 4, 80, 64)))
    with np.load(golden / "golden.npz") as values, torch.inference_mode():
        output = unet(latents, torch.tensor([500]), context).sample
        np.testing.assert_allclose(output.numpy(), values["unet_a"], atol=1e-3, rtol=0)
        np.testing.assert_allclose(adapter(clip, vae).numpy(), values["adapter_a"], atol=1e-3, rtol=0)


def test_import_makes_a_whole_model_folder(imported: Path):
    assert sorted(path.name for path in imported.iterdir()) == sorted([*PARTS, "model.json"])
    files = [path for path in imported.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".safetensors"}
    umask = os.umask(0)
    os.umask(umask)
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o666 & ~umask}
    config = ModelConfig.load(imported)
    assert (config.name, config.height, config.width, config.frames, config.fps) == ("published", 640, 512, 70, 25)
    assert (config.fit, config.resample, config.vae_range) == ("stretch", "bilinear", "zero_one")
    assert (config.vae_sample, config.clip_rescale_twice, config.known_content) == (True, True, "none")
    assert (config.scheduler, config.steps, config.vae_patch_size) == ("ddpm", 1000, 1)
    assert config.latents_mean == (0,) * 4 and config.latents_std == pytest.approx((1 / 0.18215,) * 4)


def test_import_keeps_the_sources_weights(imported: Path, sources: Path):
    vae = load_file(sources / "vae" / "diffusion_pytorch_model.safetensors")
    ours = load_file(imported / "vae" / "diffusion_pytorch_model.safetensors")
    assert vae.keys() == ours.keys() and all(torch.equal(vae[name], ours[name]) for name in vae)
    from transformers import CLIPVisionModel

    kind: Any = CLIPVisionModel
    encoder, report = kind.from_pretrained(imported / "image_encoder", output_loading_info=True)
    assert not any(report.values())
    clip = load_file(sources / "clip" / "model.safetensors")
    assert all(torch.equal(tensor, clip[f"vision_model.{name}"]) for name, tensor in encoder.state_dict().items())


def test_import_writes_the_published_schedule(imported: Path):
    from diffusers import DDPMScheduler

    scheduler: Any = DDPMScheduler.from_pretrained(imported, subfolder="scheduler")
    torch.testing.assert_close(scheduler.betas, torch.tensor(published_betas()), rtol=0, atol=0)
    config = scheduler.config
    assert (config.prediction_type, config.variance_type, config.clip_sample) == ("epsilon", "fixed_small", False)
    scheduler.set_timesteps(1000)
    assert scheduler.timesteps.tolist() == list(range(999, -1, -1))
    scheduler.set_timesteps(50)
    assert scheduler.timesteps[0] == 999


# ---- refused -------------------------------------------------------------------------------------------------------


@pytest.fixture
def hollow(tmp_path: Path) -> Path:
    """A checkpoint whose names and shapes are right."""
    path = tmp_path / "hollow.pth"
    torch.save({part: hollow_published(part) for part in ("net", "adapter")}, path)
    return path


class _Trap:
    """A pickle of it creates `path` when it is opened carelessly."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return io.open, (str(self.path), "w")


@pytest.mark.parametrize("form", ["zip", "legacy", "plain pickle"])
def test_hostile_pickle_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str):
    sprung, checkpoint = tmp_path / "sprung", tmp_path / "hostile.pth"
    content = {"net": hollow_published("net"), "adapter": {"linear1.bias": _Trap(sprung)}}
    if form == "plain pickle":
        checkpoint.write_bytes(pickle.dumps(_Trap(sprung)))
    else:
        torch.save(content, checkpoint, _use_new_zipfile_serialization=form == "zip")
    careless = pickle.loads(checkpoint.read_bytes()) if form == "plain pickle" else None
    careless = careless or torch.load(checkpoint, weights_only=False)["adapter"]["linear1.bias"]
    careless.close()
    assert sprung.exists(), "the trap is no trap, so this test would show nothing"
    sprung.unlink()
    # Even where somebody's environment loosens torch.load.
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    with pytest.raises(FashionFlowError, match=r"hostile\.pth: refused, .*none of it was run$") as error:
        import_checkpoint(checkpoint, tmp_path / "out")
    assert not sprung.exists()
    # Only files that torch wrote are looked into far enough to name the culprit.
    reason = _message(error).removeprefix(str(checkpoint))  # pytest's own folders may be called popen
    assert ("open" in reason) == (form != "plain pickle")
    assert [path.name for path in tmp_path.iterdir()] == ["hostile.pth"]


def test_damaged_and_other_files(tmp_path: Path, hollow: Path):
    whole = hollow.read_bytes()
    legacy = tmp_path / "legacy.pth"
    torch.save({"net": {}}, legacy, _use_new_zipfile_serialization=False)
    cases = {
        "truncated.pth": whole[: len(whole) // 2],
        "end_cut.pth": whole[:-30],
        "legacy_cut.pth": legacy.read_bytes()[:-10],
        "empty.pth": b"",
        "photo.pth": b"\xff\xd8\xff\xe0" + bytes(200),
        "text.pth": b"<html>sign in to download</html>",
    }
    for name, content in cases.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(FashionFlowError, match=name) as error:
            read_checkpoint(path)
        assert "damaged" in _message(error) and "weights_only" not in _message(error), name
    for path in (tmp_path, tmp_path / "missing.pth"):
        with pytest.raises(FashionFlowError, match="is not a file"):
            read_checkpoint(path)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ([1, 2], "holds a list, not the parts net and adapter"),
        ({"net": {}}, "missing adapter"),
        ({"net": torch.zeros(1), "ema": {}, "step": 4, "adapter": {}}, "missing net; unexpected ema"),
    ],
)
def test_other_contents(tmp_path: Path, content: Any, expected: str):
    path = tmp_path / "other.pth"
    torch.save(content, path)
    with pytest.raises(FashionFlowError) as error:
        read_checkpoint(path)
    assert _message(error) == f"{path}: {expected}"


def _edit(folder: Path, **fields: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | fields))


def _copy(source: Path, target: Path, drop: str = "") -> Path:
    """The network of a folder, without the weights whose name holds `drop`."""
    target.mkdir()
    (target / "config.json").write_bytes((source / "config.json").read_bytes())
    weights = next(source.glob("*.safetensors"))
    kept = {name: tensor for name, tensor in load_file(weights).items() if not drop or drop not in name}
    save_file(kept, target / weights.name, metadata={"format": "pt"})
    return target


def test_unfit_sources_are_refused_and_leave_nothing(tmp_path: Path, hollow: Path, sources: Path):
    empty, pickled = tmp_path / "empty", tmp_path / "pickled"
    empty.mkdir()
    pickled.mkdir()
    (pickled / "config.json").write_bytes((sources / "vae" / "config.json").read_bytes())
    (pickled / "diffusion_pytorch_model.bin").write_bytes(pickle.dumps({}))
    lacking_vae = _copy(sources / "vae", tmp_path / "lacking_vae", drop="decoder.conv_out")
    lacking_clip = _copy(sources / "clip", tmp_path / "lacking_clip", drop="vision_model.post_layernorm")
    torn = _copy(sources / "vae", tmp_path / "torn")
    weights = next(torn.glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:1000])
    wide = tmp_path / "wide"
    with seeded(0):
        from diffusers import AutoencoderKL

        AutoencoderKL(latent_channels=8, norm_num_groups=4, block_out_channels=(8,)).save_pretrained(wide)
    vae, clip = str(sources / "vae"), str(sources / "clip")
    cases = [
        (None, clip, "vae=CompVis/stable-diffusion-v1-4: cannot be fetched"),
        (vae, None, "clip=openai/clip-vit-base-patch32: cannot be fetched"),
        ("./nowhere/vae", clip, "vae=./nowhere/vae: no such folder"),
        (str(empty), clip, "holds no config.json"),
        (str(pickled), clip, "has no .safetensors file, only .bin"),
        (str(lacking_vae), clip, "2 weights are missing or have another shape"),
        (vae, str(lacking_clip), "2 weights are missing or have another shape"),
        (str(torn), clip, f"vae={torn}: cannot be opened"),
        (str(wide), clip, "encodes 3 channels as 8 at 1/1 of the size"),
        (vae, vae, f"clip={vae}: "),
    ]
    before = sorted(tmp_path.iterdir())
    for vae_source, clip_source, expected in cases:
        with pytest.raises(FashionFlowError) as error:
            import_checkpoint(hollow, tmp_path / "new" / "model", vae_source, clip_source)
        assert expected in _message(error)
        assert sorted(tmp_path.iterdir()) == before


def test_targets(tmp_path: Path, hollow: Path, sources: Path, monkeypatch: pytest.MonkeyPatch):
    vae, clip = str(sources / "vae"), str(sources / "clip")
    target = tmp_path / "model"
    target.mkdir()
    (target / "notes.txt").write_text("mine")
    with pytest.raises(FashionFlowError, match="already exists"):
        import_checkpoint(hollow, target, vae, clip)
    # --overwrite replaces models, not whatever folder was named by mistake.
    with pytest.raises(FashionFlowError, match="already exists") as error:
        import_checkpoint(hollow, target, vae, clip, overwrite=True)
    assert "not a model folder" in str(error.value.hint)
    (target / "model.json").write_text("{}")

    def interrupted(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ImageContextAdapter, "save_pretrained", interrupted)
        with pytest.raises(KeyboardInterrupt):
            import_checkpoint(hollow, target, vae, clip, overwrite=True)
    assert sorted(path.name for path in target.iterdir()) == ["model.json", "notes.txt"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hollow.pth", "model"]

    import_checkpoint(hollow, target, vae, clip, overwrite=True)
    assert sorted(path.name for path in target.iterdir()) == sorted([*PARTS, "model.json"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hollow.pth", "model"]
