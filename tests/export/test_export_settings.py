"""What an export may be asked for, before anything heavy is imported."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny import tiny_config

from fashionflow_core.errors import UsageError
from fashionflow_export.settings import EngineSettings, ExportSettings


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"dtype": "bf16"}, "--dtype"),
        ({"frames": 7}, "--frames: must be even"),
        ({"dynamic_frames": (8, 8)}, "--dynamic-frames"),
        ({"dynamic_frames": (7, 12)}, "--dynamic-frames"),
        ({"dynamic_frames": (12, 8)}, "--dynamic-frames"),
        ({"dynamic_frames": (8, 12), "frames": 8}, "cannot be combined"),
        ({"decode_chunk": 0}, "--decode-chunk"),
        ({"networks": ("unet", "brain")}, "unknown network 'brain'"),
        ({"networks": ("",)}, "--networks: unknown network ''"),
        ({"networks": ("unet", "unet")}, "--networks: a network is given twice"),
        ({"frames": 1_000_000}, "--frames: .* at most 1000"),
        ({"dynamic_frames": (8, 1_000_000)}, "--dynamic-frames: .* at most 1000"),
        ({"engines": EngineSettings(flavor="rtx")}, "--trt-flavor: is for TensorRT engines"),
        ({"engines": EngineSettings(capabilities=("8.9",))}, "--compute-capability: is for TensorRT engines"),
        ({"engines": EngineSettings(workspace_gb=1.0)}, "--workspace-gb: is for TensorRT engines"),
        ({"engines": EngineSettings(timing_cache=Path("x"))}, "--timing-cache: is for TensorRT engines"),
        ({"engines": EngineSettings(refit=True)}, "--refit: is for TensorRT engines"),
    ],
)
def test_settings_that_cannot_be_meant(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        ExportSettings(**settings)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"flavor": "strawberry"}, "--trt-flavor"),
        ({"capabilities": ("89",)}, "neither like 8.9"),
        ({"capabilities": ("current", "8.9")}, "current cannot be combined with others"),
        ({"workspace_gb": 0.0}, "--workspace-gb"),
        ({"workspace_gb": float("nan")}, "--workspace-gb"),
        ({"workspace_gb": float("inf")}, "--workspace-gb"),
    ],
)
def test_engine_settings_that_cannot_be_meant(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        EngineSettings(**settings)


def test_names_of_models_stay_in_the_folder() -> None:
    """A folder is named after what model.json says, which others wrote."""
    config = tiny_config()
    settings = ExportSettings(frames=6, dtype="fp16")
    assert settings.folder_name(config) == "tiny-onnx-fp16-6x64x48"
    for name in ("../../evil", "/evil", "..", ".evil", "a b\n", ""):
        named = settings.folder_name(replace(config, name=name))
        assert Path(named).name == named and not named.startswith(".") and named.endswith("-onnx-fp16-6x64x48")
