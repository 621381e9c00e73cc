"""Export settings, checked before anything heavy is imported."""

import math
import re
from dataclasses import dataclass, field, fields
from pathlib import Path

from fashionflow_core.config import ModelConfig
from fashionflow_core.errors import UsageError
from fashionflow_core.motion.figure_box import GRID
from fashionflow_core.runtimes.tensorrt_flavors import FLAVORS
from fashionflow_core.store.engine_folder import ENGINE_DTYPES, GRAPHS, GRAPHS_OF

# Far beyond what the models were trained for; more frames than these only fill the memory.
MAX_FRAMES = 1000
DECODE_CHUNK = 7
# The fewest keyframes of a motion model's window: it continues three of the one before.
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
    """How engines are built.

    Attributes:
        flavor: auto, or one of `FLAVORS`.
        capabilities: compute capabilities such as 8.9 that TensorRT-RTX compiles for; empty: all it knows;
            ("current",): that of the GPU here.
        workspace_gb: most memory that an engine may take beside weights and tensors; None: no limit.
        timing_cache: a file that TensorRT keeps its timings in.
        refit: whether the weights can be replaced later; TensorRT alone.
    """

    flavor: str = "auto"
    capabilities: tuple[str, ...] = ()
    workspace_gb: float | None = None
    timing_cache: Path | None = None
    refit: bool = False

    def __post_init__(self) -> None:
        if self.flavor not in ("auto", *FLAVORS):
            raise UsageError(f"--trt-flavor: {self.flavor!r} is none of auto, {', '.join(FLAVORS)}")
        for capability in self.capabilities:
            if not re.fullmatch(r"current|[0-9]{1,2}\.[0-9]", capability):
                raise UsageError(f"--compute-capability: {capability!r} is not like 8.9, nor current")
        if "current" in self.capabilities and len(self.capabilities) > 1:
            raise UsageError("--compute-capability: current stands alone")
        if self.workspace_gb is not None and not 0 < self.workspace_gb < math.inf:
            raise UsageError(f"--workspace-gb: must be a number above 0, not {self.workspace_gb}")


@dataclass(frozen=True)
class ExportSettings:
    """What to export.

    Attributes:
        runtimes: of `engine_folder.ENGINE_FILES`: onnxruntime for ONNX files, tensorrt for engines.
        dtype: fp32 or fp16.
        frames: of the clip, even; of a motion model keyframes of a window, at least 4; None: the model's.
        dynamic_frames: fewest and most of them, both even, instead of one number.
        networks: which of the model's graphs (`engine_folder.GRAPHS_OF`); empty: all.
        decode_chunk: most frames that the decoder takes at a time.
        verify: whether to run what was made and compare it.
        engines: how TensorRT engines are built.
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
            raise UsageError("--frames: fixes one number of frames, --dynamic-frames a range: give one of them")
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
            raise UsageError("--networks: one is named twice")
        if "tensorrt" not in self.runtimes:
            for option in fields(EngineSettings):
                if getattr(self.engines, option.name) != option.default:
                    raise UsageError(f"{_OPTIONS[option.name]}: is for TensorRT engines", hint="add --trt")

    def networks_of(self, config: ModelConfig) -> tuple[str, ...]:
        """Those of a model that are exported.

        Raises:
            UsageError: it lacks one that is named, or the decoder that an option is about.
        """
        names = GRAPHS_OF[config.latents]
        _check_names(self.networks, names)
        if config.latents == "motion" and self.decode_chunk != DECODE_CHUNK:
            raise UsageError(f"--decode-chunk: model {config.name} has no decoder", hint="leave it out")
        return self.networks or names

    def range_for(self, config: ModelConfig) -> tuple[int, int]:
        """Fewest and most frames that the U-Net takes.

        Raises:
            UsageError: too few for a motion model.
        """
        motion = config.latents == "motion"
        frames = self.frames or (config.keyframes if motion else config.frames)
        low, high = self.dynamic_frames or (frames, frames)
        if motion and low < _KEYFRAMES:
            raise UsageError(
                f"--{'dynamic-' if self.dynamic_frames else ''}frames: of motion model {config.name} they are "
                f"keyframes, at least {_KEYFRAMES} of them, not {low}"
            )
        return low, high

    def folder_name(self, config: ModelConfig) -> str:
        """Model, number type and shape."""
        low, high = self.range_for(config)
        frames = f"{low}" if low == high else f"{low}-{high}"
        kind = "-".join("onnx" if runtime == "onnxruntime" else "trt" for runtime in self.runtimes)
        name = re.sub(r"[^\w+.-]+|^[.-]+", "-", config.name)  # it is to be one folder, here
        height, width = GRID if config.latents == "motion" else (config.height, config.width)
        return f"{name}-{kind}-{self.dtype}-{frames}x{height}x{width}"


def _check_names(networks: tuple[str, ...], known: tuple[str, ...]) -> None:
    for name in networks:
        if name not in known:
            raise UsageError(f"--networks: no network {name!r}", hint=f"use some of: {', '.join(known)}")
