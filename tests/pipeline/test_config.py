"""Settings: what a model.json may say, what a request may ask for, and how each mistake is named."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from tiny import tiny_config

from fashionflow_core.config import MODEL_FILE, GenerateSettings, ModelConfig
from fashionflow_core.errors import FashionFlowError, UsageError


def _write(folder: Path, **overrides: Any) -> Path:
    """A model.json in which some fields are something else; None takes a field out."""
    values = json.loads(tiny_config().to_json()) | overrides
    path = folder / MODEL_FILE
    path.write_text(json.dumps({field: value for field, value in values.items() if value is not None}))
    return path


@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"known_content": "latents", "mask_fill": "nearest", "modes": ("generate", "interpolate", "extend")},
        {"vae_range": "zero_one", "vae_sample": True, "clip_rescale_twice": True, "fit": "stretch", "fps": 23.976},
    ],
)
def test_a_config_survives_its_file(tmp_path: Path, overrides: dict[str, Any]):
    config = tiny_config(**overrides)
    (tmp_path / MODEL_FILE).write_text(config.to_json(), encoding="utf-8")
    assert ModelConfig.load(tmp_path) == config
    assert ModelConfig.load(str(tmp_path)) == config


def test_a_field_left_out_takes_its_default(tmp_path: Path):
    _write(tmp_path, steps=None, mask_fill=None)
    config = ModelConfig.load(tmp_path)
    assert (config.steps, config.mask_fill) == (50, "zero")


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ({"name": None}, "name"),
        ({"banana": 1, "apple": 2}, "apple, banana"),
        ({"fit": "squeeze"}, "squeeze"),
        ({"resample": "nearest"}, "nearest"),
        ({"vae_range": "0..1"}, "vae_range"),
        ({"known_content": "pixels"}, "known_content"),
        ({"mask_fill": "grey"}, "mask_fill"),
        ({"scheduler": "heun"}, "heun"),
        ({"conditioning": ["both", "remote"]}, "remote"),
        ({"conditioning": []}, "conditioning"),
        ({"context_dropout": 1.5}, "context_dropout"),
        ({"distilled": "yes"}, "distilled"),
        ({"modes": ["generate", "dream"]}, "dream"),
        ({"height": 0}, "height"),
        ({"fps": -25}, "fps"),
        ({"steps": 0}, "steps"),
        ({"shift_gain": 0}, "shift_gain"),
        ({"latents_std": [1.0, 1.0, 1.0]}, "one value per channel"),
        ({"latents_std": [1.0, 1.0, 0.0, 1.0]}, "above 0"),
        ({"height": "64"}, "height"),
        ({"height": 64.5}, "height"),
        ({"height": True}, "height"),
        ({"vae_sample": 1}, "vae_sample"),
        ({"latents_mean": 0}, "latents_mean"),
        ({"latents_mean": ["a", "b", "c", "d"]}, "latents_mean"),
        ({"modes": "generate"}, "modes"),
    ],
)
def test_a_wrong_field_is_named_in_one_line(tmp_path: Path, overrides: dict[str, Any], says: str):
    _write(tmp_path, **overrides)
    with pytest.raises(FashionFlowError, match=says) as caught:
        ModelConfig.load(tmp_path)
    assert MODEL_FILE in caught.value.message and "\n" not in caught.value.message


@pytest.mark.parametrize("text", ["", "{", "[1]", "3", '"tiny"', "null", b"\xff\xfe\x00"])
def test_a_file_that_is_no_model_json(tmp_path: Path, text: str | bytes):
    path = tmp_path / MODEL_FILE
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(FashionFlowError) as caught:
        ModelConfig.load(tmp_path)
    assert str(path) in caught.value.message and "\n" not in caught.value.message


def test_a_folder_that_is_no_model(tmp_path: Path, golden: Path):
    for place in (tmp_path, tmp_path / "nothing", golden / "blue.jpg"):
        with pytest.raises(FashionFlowError, match="not a model folder") as caught:
            ModelConfig.load(place)
        assert str(place) in caught.value.message
        assert caught.value.hint is not None and "models list" in caught.value.hint


@pytest.mark.parametrize(
    ("settings", "option"),
    [
        ({"scheduler": "heun"}, "scheduler"),
        ({"conditioning": "remote"}, "conditioning"),
        ({"guidance_scale": 0.5}, "guidance_scale:"),
        ({"guidance_scale": math.nan}, "guidance_scale:"),
        ({"guidance_scale": math.inf}, "guidance_scale:"),
        ({"guidance_interval": (0.5, 0.5)}, "guidance_interval"),
        ({"guidance_interval": (0.7, 0.2)}, "guidance_interval"),
        ({"guidance_interval": (-0.1, 1)}, "guidance_interval"),
        ({"guidance_interval": (0, math.nan)}, "guidance_interval"),
        ({"guidance_interval": (0.5,)}, "guidance_interval"),
        ({"steps": 2.5}, "steps: must be a whole number"),
        ({"frames": True}, "frames: must be a whole number"),
        ({"seed": 0.5}, "seed: must be a whole number"),
        ({"fit": "squeeze"}, "fit"),
        ({"frames": 0}, "frames"),
        ({"frames": -2}, "frames"),
        ({"fps": 0}, "fps"),
        ({"fps": math.nan}, "fps"),
        ({"steps": 0}, "steps"),
        ({"decode_chunk": 0}, "decode_chunk"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**63}, "seed"),
    ],
)
def test_a_request_that_cannot_be_meant_names_the_option(settings: dict[str, Any], option: str):
    with pytest.raises(UsageError, match=option) as caught:
        GenerateSettings(**settings)
    assert caught.value.exit_code == 2 and "\n" not in caught.value.message


def test_the_ends_of_the_seeds():
    assert GenerateSettings(seed=0).seed == 0
    assert GenerateSettings(seed=2**63 - 1).seed == 2**63 - 1
