"""LoRAs of pipelines: real files of adapters, loaded into miniatures, and those that do not fit."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from catalogues import shop
from command import assert_refused, run
from miniatures import Miniature
from PIL import Image
from safetensors.torch import save_file

from fashionflow_core import pipeline
from fashionflow_core.config import GenerateSettings
from fashionflow_core.errors import FashionFlowWarning, UsageError
from fashionflow_core.generators import offload
from fashionflow_core.generators.lora import lora_files

WAN = ("blocks.0.attn1.to_q", "blocks.0.attn1.to_v")  # square layers of 24 channels
LTX = ("transformer_blocks.0.attn1.to_q",)  # of 32


def lora(path: Path, names: tuple[str, ...], channels: int, prefix: str = "transformer.", scale: float = 1.0) -> Path:
    """A LoRA of rank 2 as `save_lora_weights` of diffusers names it."""
    generator = torch.Generator().manual_seed(1)
    path.parent.mkdir(parents=True, exist_ok=True)
    weights = {}
    for name in names:
        weights[f"{prefix}{name}.lora_A.weight"] = torch.randn(2, channels, generator=generator) * scale
        weights[f"{prefix}{name}.lora_B.weight"] = torch.randn(channels, 2, generator=generator) * scale
    save_file(weights, path)
    return path


def frames(place: Path, adapter: Path | None) -> np.ndarray:
    photo = np.random.default_rng(0).integers(0, 256, (96, 64, 3), np.uint8)
    pipe = pipeline.load(place, device="cpu", lora=adapter)
    settings = GenerateSettings(frames=9, steps=1, megapixels=0.0062, lock="off")
    return np.stack(list(pipe.generate(photo, settings).frames))


@pytest.mark.parametrize(
    ("family", "names", "channels"),
    [("ltx", LTX, 32), pytest.param("wan22_a14b", WAN, 24, marks=pytest.mark.slow)],
)
def test_a_lora_changes_frames(
    miniature: Miniature, tmp_path: Path, family: str, names: tuple[str, ...], channels: int
) -> None:
    place = miniature(family, tmp_path)
    plain, adapted = frames(place, None), frames(place, lora(tmp_path / "red.safetensors", names, channels))
    assert np.array_equal(plain[0], adapted[0]) and not np.array_equal(plain[1:], adapted[1:])
    nothing = lora(tmp_path / "nothing.safetensors", names, channels, scale=0)
    assert np.array_equal(frames(place, nothing), plain)


@pytest.mark.slow
def test_two_denoisers_get_one_file_each(miniature: Miniature, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two steps the first is at high noise, the second at low."""
    place = miniature("wan22_a14b", tmp_path)
    for name, high, low in (("high", 1, 0), ("low", 0, 1)):
        lora(tmp_path / name / "a_HIGH_noise.safetensors", WAN, 24, scale=high)
        lora(tmp_path / name / "a_low_noise.safetensors", WAN, 24, scale=low)
    opened: list[Any] = []
    monkeypatch.setattr(offload, "place", lambda pipe, _rung, _device: opened.append(pipe))
    for name, changed in (("high", "transformer"), ("low", "transformer_2")):
        pipeline.load(place, device="cpu", lora=tmp_path / name)
        inner = opened.pop()
        for name in ("transformer", "transformer_2"):
            found = getattr(inner, name).named_parameters()
            sizes = [float(weight.detach().abs().sum()) for key, weight in found if "lora_B" in key]
            assert len(sizes) == 2 and (min(sizes) > 0) is (name == changed)


def test_files_of_a_folder(tmp_path: Path) -> None:
    one, two = (tmp_path / f"x-{name}.safetensors" for name in ("high", "low"))
    one.touch()
    assert lora_files(tmp_path, False) == lora_files(one, False) == {"transformer": one}
    assert lora_files(one, True) == {"transformer": one, "transformer_2": one}
    two.touch()
    assert lora_files(tmp_path, True) == {"transformer": one, "transformer_2": two}
    for place, has_two in ((tmp_path, False), (tmp_path / "nothing", True), (tmp_path / "x.bin", True)):
        with pytest.raises(UsageError, match="not one safetensors file"):
            lora_files(place, has_two)


def test_one_that_does_not_fit_is_refused_in_one_line(miniature: Miniature, tmp_path: Path) -> None:
    miniature("ltx", tmp_path)
    Image.new("RGB", (64, 96)).save(tmp_path / "dress.png")
    cases = {
        "size mismatch": lora(tmp_path / "size.safetensors", LTX, 24),
        "not found in the base model": lora(tmp_path / "names.safetensors", WAN, 24),
        "none of its names": lora(tmp_path / "prefix.safetensors", LTX, 32, prefix="unet."),
        "Invalid LoRA": tmp_path / "other.safetensors",
        "header": tmp_path / "broken.safetensors",
    }
    save_file({"weight": torch.zeros(1)}, cases["Invalid LoRA"])
    cases["header"].write_bytes(b"none")
    arguments = ("generate", "dress.png", "-o", "a.mp4", "-q", "--device", "cpu")
    for words, file in cases.items():
        result = run(*arguments, "--model", "ltx", "--lora", file, cwd=tmp_path)
        assert_refused(result, 2, "--lora", file.name, "does not belong to ltx", words)


@pytest.mark.slow
def test_a_pipeline_without_loras_refuses_them(miniature: Miniature, tmp_path: Path) -> None:
    miniature("svd", tmp_path)
    Image.new("RGB", (64, 96)).save(tmp_path / "dress.png")
    file = lora(tmp_path / "a.safetensors", LTX, 32)
    arguments = ("generate", "dress.png", "-o", "a.mp4", "-q", "--device", "cpu", "--model", "svd")
    result = run(*arguments, "--lora", file, cwd=tmp_path)
    assert_refused(result, 2, "--lora", "StableVideoDiffusionPipeline takes no LoRA")


@pytest.mark.slow
def test_a_catalogue_takes_a_lora_from_the_cache_of_the_hub(miniature: Miniature, tmp_path: Path) -> None:
    """Whose files are links to others without a suffix."""
    miniature("ltx", tmp_path)
    shop(tmp_path / "photos", 1)
    file = lora(tmp_path / "blobs" / "0123", LTX, 32)
    linked = tmp_path / "models--shop--coats" / "snapshots" / "0123" / "coats.safetensors"
    linked.parent.mkdir(parents=True)
    linked.symlink_to(file)
    arguments = ("--frames", "9", "--steps", "1", "--megapixels", "0.0042", "--lora", linked)
    result = run("generate", "photos", "-o", "out", "--model", "ltx", *arguments, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "ltx+shop/coats@0123" in run("inspect", "out/000.mp4", cwd=tmp_path).stdout


def test_layers_that_a_model_lacks_are_told(miniature: Miniature, tmp_path: Path) -> None:
    place = miniature("ltx", tmp_path)
    more = lora(tmp_path / "more.safetensors", (*LTX, "transformer_blocks.7.attn1.to_q"), 32)
    with pytest.warns(FashionFlowWarning, match="ltx has 1 of its 2 layers"):
        pipe = pipeline.load(place, device="cpu", lora=more)
    assert pipe.config.name == "ltx+more"


def test_a_lora_of_the_hub_is_named_with_its_commit(miniature: Miniature, tmp_path: Path) -> None:
    snapshot = tmp_path / "models--shop--red-coats" / "snapshots" / ("0123abcd" * 5)
    file = lora(snapshot / "pytorch_lora_weights.safetensors", LTX, 32)
    assert (
        pipeline.load(miniature("ltx", tmp_path), device="cpu", lora=file).config.name == "ltx+shop/red-coats@0123abcd"
    )
