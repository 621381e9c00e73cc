"""Broken model folders: one line that names the path, for every part and every way to break it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import build_tiny_model
from torch import Tensor

from fashionflow_core.config import MODEL_FILE
from fashionflow_core.errors import FashionFlowError, UsageError
from fashionflow_core.pipeline import load


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


def _set(file: Path, **values: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def _weights(folder: Path, part: str) -> Path:
    return next((folder / part).glob("*.safetensors"))


def _cut(folder: Path, part: str) -> None:
    file = _weights(folder, part)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def _change(folder: Path, part: str, change: Callable[[dict[str, Tensor]], Any]) -> None:
    file = _weights(folder, part)
    state = load_file(file)
    change(state)
    save_file(state, file, metadata={"format": "pt"})


PARTS = ("unet", "adapter", "vae", "image_encoder")
BREAKS: dict[str, Callable[[Path, str], Any]] = {
    "no folder": lambda folder, part: shutil.rmtree(folder / part),
    "no weights": lambda folder, part: _weights(folder, part).unlink(),
    "cut weights": _cut,
    "no safetensors": lambda folder, part: _weights(folder, part).write_bytes(b"not weights at all"),
    "a weight missing": lambda folder, part: _change(folder, part, lambda state: state.popitem()),
    "a weight too many": lambda folder, part: _change(folder, part, lambda s: s.update(surplus=torch.zeros(2))),
    "a weight misshapen": lambda folder, part: _change(
        folder, part, lambda state: state.update({next(iter(state)): torch.zeros(5, 5, 5)})
    ),
    "bad json": lambda folder, part: (folder / part / "config.json").write_text('{"in_channels": '),
    "no json": lambda folder, part: (folder / part / "config.json").write_bytes(b"\xff\x00"),
}


def _refused(folder: Path, capfd: pytest.CaptureFixture[str]) -> FashionFlowError:
    """The error of opening a folder; the libraries add nothing to it on either stream."""
    capfd.readouterr()
    with pytest.raises(FashionFlowError) as caught:
        load(folder, device="cpu")
    assert capfd.readouterr() == ("", "")
    assert "\n" not in caught.value.message and len(caught.value.message) < 600
    assert str(folder) in caught.value.message
    return caught.value


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("breaks", BREAKS)
def test_a_broken_part_is_named(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], breaks: str, part: str
):
    broken = Path(shutil.copytree(folder, tmp_path / "model"))
    BREAKS[breaks](broken, part)
    assert str(broken / part) in _refused(broken, capfd).message


@pytest.mark.parametrize("part", ["feature_extractor", "scheduler"])
def test_a_broken_config_part_is_named(folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], part: str):
    broken = Path(shutil.copytree(folder, tmp_path / "model"))
    for file in (broken / part).iterdir():
        file.write_text('{"size": ')
    assert str(broken / part) in _refused(broken, capfd).message
    shutil.rmtree(broken / part)
    assert str(broken / part) in _refused(broken, capfd).message


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"banana": 1}, "banana"),
        ({"latents_mean": [0, 0, 0], "latents_std": [1, 1, 1]}, "latent channels 3, the networks have 4"),
        ({"known_content": "rgb"}, "U-Net input channels 8, the networks have 4"),
        ({"vae_patch_size": 1}, "VAE pixel channels 3, the networks have 12"),
        ({"height": 128}, "frame size"),
        ({"width": 49}, "frame size"),
    ],
)
def test_a_model_json_of_another_model(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], fields: dict[str, Any], says: str
):
    broken = Path(shutil.copytree(folder, tmp_path / "model"))
    _set(broken / MODEL_FILE, **fields)
    assert says in _refused(broken, capfd).message


@pytest.mark.parametrize(
    ("part", "says"),
    [
        ("unet", "unet has 6 latent channels, adapter has 4"),
        ("adapter", "unet has 4 latent channels, adapter has 6"),
        ("vae", "adapter has 4 latent channels, vae has 6"),
    ],
)
def test_a_part_of_another_model(folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], part: str, says: str):
    broken = Path(shutil.copytree(folder, tmp_path / "model"))
    other = build_tiny_model(tmp_path / "other", latents_mean=(0,) * 6, latents_std=(1,) * 6)
    shutil.rmtree(broken / part)
    shutil.copytree(other / part, broken / part)
    message = _refused(broken, capfd).message
    assert message.endswith(says)


def test_no_such_backend(folder: Path):
    with pytest.raises(UsageError, match="'abacus'"):
        load(folder, backend="abacus")
