"""Export settings, validated before heavy imports."""

import math
import re
from dataclasses import dataclass, field, fields
from pathlib import Path

from fashionflow_core.config import ModelConfig
from fashionflow_core.errors import UsageError
from fashionflow_core.motion.figure_box import GRID
from fashionflow_core.runtimes.tensorrt_flavors import FLAVORS
from fashionflow_core.store.engine_folder import ENGINE_DTYPES, GRAPHS, GRAPHS_OF

# Far beyond the trained lengths; more frames only exhaust memory.
MAX_FRAMES = 1000
DECODE_CHUNK = 7
# Minimum keyframes of a motion model's window, which continues three of the previous one.
_KEYFRAMES = 4
_OPTIONS = {
    "flavor": "--trt-flavor",
    "capabilities": "--compute-capability",
    "workspace_gb": "--workspace-gb",
    "timing_cache": "--timing-cache",
    "refit": "--refit",
}


@dataclass(frozen=True)
class EngineSettings:
    """Build settings of engines.

    Attributes:
        flavor: one of auto and `FLAVORS`.
        capabilities: compute capabilities such as 8.9 that TensorRT-RTX compiles for; empty: all supported;
            ("current",): that of this GPU.
        workspace_gb: maximum working memory of an engine besides weights and tensors; None: no limit.
        timing_cache: file of TensorRT's timings.
        refit: whether the weights can be replaced later; TensorRT only.
    """

    flavor: str = "auto"
    capabilities: tuple[str, ...] = ()
    workspace_gb: float | None = None
    timing_cache: Path | None = None
    refit: bool = False

    def __post_init__(self) -> None:
        if self.flavor not in ("auto", *FLAVORS):
            raise UsageError(f"--trt-flavor: {self.flavor!r} is not one of auto, {', '.join(FLAVORS)}")
        for capability in self.capabilities:
            if not re.fullmatch(r"current|[0-9]{1,2}\.[0-9]", capability):
                raise UsageError(f"--compute-capability: {capability!r} is neither like 8.9 nor current")
        if "current" in self.capabilities and len(self.capabilities) > 1:
            raise UsageError("--compute-capability: current cannot be combined with others")
        if self.workspace_gb is not None and not 0 < self.workspace_gb < math.inf:
            raise UsageError(f"--workspace-gb: must be a number above 0, not {self.workspace_gb}")


@dataclass(frozen=True)
class ExportSettings:
    """What to export.

    Attributes:
        runtimes: names from `engine_folder.ENGINE_FILES`: onnxruntime for ONNX files, tensorrt for engines.
        dtype: one of fp32, fp16.
        frames: frames of the clip, even; for a motion model keyframes per window, at least 4; None: the model's.
        dynamic_frames: minimum and maximum frames, both even, instead of one number.
        networks: subset of the model's graphs (`engine_folder.GRAPHS_OF`); empty: all.
        decode_chunk: maximum frames per call of the decoder.
        verify: whether to run the result and compare it with PyTorch.
        engines: build settings of TensorRT engines.
    """

    runtimes: tuple[str, ...] = ("onnxruntime",)
    dtype: str = "fp32"
    frames: int | None = None
    dynamic_frames: tuple[int, int] | None = None
    networks: tuple[str, ...] = ()
    decode_chunk: int = DECODE_CHUNK
    verify: bool = True
    engines: EngineSettings = field(default_factory=EngineSettings)

    def __post_init__(self) -> None:
        if self.dtype not in ENGINE_DTYPES:
            raise UsageError(f"--dtype: engines compute in {' or '.join(ENGINE_DTYPES)}, not {self.dtype}")
        if self.dynamic_frames is not None and self.frames is not None:
            raise UsageError("--frames: cannot be combined with --dynamic-frames")
        if self.dynamic_frames is not None:
            low, high = self.dynamic_frames
            if low % 2 or high % 2 or not 0 < low < high <= MAX_FRAMES:
                raise UsageError(
                    "--dynamic-frames: must be MIN:MAX, both even, MIN above 0 and below MAX, MAX at most "
                    f"{MAX_FRAMES}, not {low}:{high}"
                )
        if self.frames is not None and (not 0 < self.frames <= MAX_FRAMES or self.frames % 2):
            raise UsageError(f"--frames: must be even, above 0 and at most {MAX_FRAMES}, not {self.frames}")
        if self.decode_chunk < 1:
            raise UsageError(f"--decode-chunk: must be at least 1, not {self.decode_chunk}")
        _check_names(self.networks, tuple(GRAPHS))
        if len(set(self.networks)) != len(self.networks):
            raise UsageError("--networks: a network is given twice")
        if "tensorrt" not in self.runtimes:
            for option in fields(EngineSettings):
                if getattr(self.engines, option.name) != option.default:
                    raise UsageError(f"{_OPTIONS[option.name]}: is for TensorRT engines only", hint="add --trt")

    def networks_of(self, config: ModelConfig) -> tuple[str, ...]:
        """The networks of a model that are exported.

        Raises:
            UsageError: a network that the model does not have, or an option for a missing decoder.
        """
        names = GRAPHS_OF[config.latents]
        _check_names(self.networks, names)
        if config.latents == "motion" and self.decode_chunk != DECODE_CHUNK:
            raise UsageError(f"--decode-chunk: model {config.name} has no decoder", hint="omit it")
        return self.networks or names

    def range_for(self, config: ModelConfig) -> tuple[int, int]:
        """Minimum and maximum frames of the U-Net.

        Raises:
            UsageError: too few for a motion model.
        """
        motion = config.latents == "motion"
        frames = self.frames or (config.keyframes if motion else config.frames)
        low, high = self.dynamic_frames or (frames, frames)
        if motion and low < _KEYFRAMES:
            raise UsageError(
                f"--{'dynamic-' if self.dynamic_frames else ''}frames: for motion model {config.name} these are "
                f"keyframes, at least {_KEYFRAMES}, not {low}"
            )
        return low, high

    def folder_name(self, config: ModelConfig) -> str:
        """Folder name from model, dtype and shape."""
        low, high = self.range_for(config)
        frames = f"{low}" if low == high else f"{low}-{high}"
        kind = "-".join("onnx" if runtime == "onnxruntime" else "trt" for runtime in self.runtimes)
        name = re.sub(r"[^\w+.-]+|^[.-]+", "-", config.name)  # one folder in the current folder
        height, width = GRID if config.latents == "motion" else (config.height, config.width)
        return f"{name}-{kind}-{self.dtype}-{frames}x{height}x{width}"


def _check_names(networks: tuple[str, ...], known: tuple[str, ...]) -> None:
    for name in networks:
        if name not in known:
            raise UsageError(f"--networks: unknown network {name!r}", hint=f"use some of: {', '.join(known)}")
