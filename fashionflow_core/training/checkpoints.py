"""Training checkpoints, one safetensors file each.

Tensors are named `weights/NAME`, `ema/NAME`, `optimizer/NAME/KEY`, with NAME a trained parameter. The rest of the state
is in the file's metadata. Random state is not stored: it follows from (seed, step).
"""

import json
import re
import warnings
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fashionflow_core.errors import FashionFlowError, FashionFlowWarning, option
from fashionflow_core.training.status import NOISE_LEVELS
from fashionflow_core.utils.files import atomic_path, set_mode

_NAME = re.compile(r"step-(\d{9})\.safetensors")


@dataclass
class RunProgress:
    """Progress of a run.

    Attributes:
        step, drawn: steps done, and clips drawn by them.
        seconds: time spent in steps.
        ema_step: updates of the averaged weights.
        micro: clips per forward pass on one device.
        skipped: consecutive steps up to now with gradients that are not finite.
        losses: losses of the steps since the last line of the log; the next line logs their mean.
        level_losses, level_clips: of the clips of those steps, by noise level: sum of losses, and number.
    """

    step: int = 0
    drawn: int = 0
    seconds: float = 0.0
    ema_step: int = 0
    micro: int = 0
    skipped: int = 0
    losses: list[float] = field(default_factory=list)
    level_losses: list[float] = field(default_factory=lambda: [0.0] * NOISE_LEVELS)
    level_clips: list[int] = field(default_factory=lambda: [0] * NOISE_LEVELS)

    def clear_losses(self) -> None:
        """Forget the losses, once they are in the log."""
        self.losses, self.level_losses, self.level_clips = [], [0.0] * NOISE_LEVELS, [0] * NOISE_LEVELS


def whole(tensor: Tensor) -> Tensor:
    """A full CPU copy of a tensor that may be sharded (FSDP); all processes must call it."""
    full: Any = tensor.detach()
    if hasattr(full, "full_tensor"):
        full = full.full_tensor()
    return full.to("cpu", copy=True).contiguous()


def put(target: Tensor, value: Tensor) -> None:
    """Copy a full tensor into one that may be sharded."""
    like: Any = target.detach()
    if hasattr(like, "full_tensor"):
        from torch.distributed.tensor import distribute_tensor

        value = distribute_tensor(value.to(like.device), like.device_mesh, like.placements)
    with torch.no_grad():
        target.copy_(value)


def collect(parameters: dict[str, Any], optimizer: Any, ema: Any) -> dict[str, Tensor]:
    """All tensors of a checkpoint, on the CPU; all processes must call it.

    Args:
        parameters: trained parameters by name.
        optimizer: the torch optimizer.
        ema: `EMAModel` of those parameters in that order, or None.
    """
    tensors = {}
    for number, (name, parameter) in enumerate(parameters.items()):
        tensors[f"weights/{name}"] = whole(parameter)
        if ema is not None:
            tensors[f"ema/{name}"] = whole(ema.shadow_params[number])
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer/{name}/{key}"] = whole(torch.as_tensor(value))
    return tensors


def save(folder: Path, tensors: dict[str, Tensor], progress: RunProgress, keep: int) -> Path:
    """Write a checkpoint, then remove all but the last `keep`.

    Raises:
        FashionFlowError: it cannot be written; earlier checkpoints are kept.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    folder.mkdir(exist_ok=True)
    path = folder / f"step-{progress.step:09}.safetensors"
    with atomic_path(path) as temporary:
        mode = temporary.stat().st_mode
        try:
            save_file(tensors, temporary, metadata={"progress": json.dumps(asdict(progress))})
        except SafetensorError as error:  # disk full
            raise FashionFlowError(
                f"{path}: not writable ({error})", hint=f"free some space, then pass {option('resume')}"
            ) from None
        set_mode(temporary, mode)  # safetensors creates private files
    for old in found(folder)[:-keep]:
        old.unlink(missing_ok=True)
    return path


def found(folder: Path) -> list[Path]:
    """Checkpoints of a folder, oldest first. Incomplete files of killed runs have other names."""
    return sorted(path for path in folder.glob("step-*") if _NAME.fullmatch(path.name))


def read(path: Path) -> tuple[dict[str, Tensor], RunProgress]:
    """Tensors and progress of a checkpoint.

    Raises:
        FashionFlowError: the file is damaged or incomplete.
    """
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file

    try:
        with safe_open(path, framework="pt") as file:
            progress = RunProgress(**json.loads((file.metadata() or {})["progress"]))
        return load_file(path), progress
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise FashionFlowError(
            f"{path}: damaged or incomplete checkpoint ({error})", hint="delete it to use the one before"
        ) from None


def latest(folder: Path) -> tuple[dict[str, Tensor], RunProgress, Path] | None:
    """The last readable checkpoint; damaged ones are skipped with a warning."""
    for path in reversed(found(folder)):
        try:
            return *read(path), path
        except FashionFlowError as error:
            warnings.warn(f"{error.message}: skipped", FashionFlowWarning, stacklevel=2)
    return None


def restore(
    tensors: dict[str, Tensor], progress: RunProgress, parameters: dict[str, Any], optimizer: Any, ema: Any, path: Path
) -> None:
    """Load a checkpoint's tensors into parameters, optimizer and averaged weights.

    Raises:
        FashionFlowError: the networks differ.
    """
    _check(path, {f"weights/{name}": parameter.shape for name, parameter in parameters.items()}, tensors)
    for number, (name, parameter) in enumerate(parameters.items()):
        put(parameter, tensors[f"weights/{name}"])
        if ema is not None:
            put(ema.shadow_params[number], tensors.get(f"ema/{name}", tensors[f"weights/{name}"]))
        state = {}
        for key in ("step", "exp_avg", "exp_avg_sq"):
            value = tensors.get(f"optimizer/{name}/{key}")
            if value is None:
                continue
            if value.ndim == 0:
                state[key] = value.to(parameter.device, copy=True)  # fused: step is on the device
            else:
                state[key] = torch.zeros_like(parameter)
                put(state[key], value)
        if state:
            optimizer.state[parameter] = state
    if ema is not None:
        ema.optimization_step = progress.ema_step


def result(tensors: dict[str, Tensor], module: Any) -> None:
    """Load the averaged weights of a checkpoint (else the weights) into a module that is not sharded."""
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            put(parameter, tensors.get(f"ema/{name}", tensors[f"weights/{name}"]))


def _check(path: Path, wanted: dict[str, Iterable[int]], tensors: dict[str, Tensor]) -> None:
    for name, shape in wanted.items():
        if name not in tensors or tuple(tensors[name].shape) != tuple(shape):
            raise FashionFlowError(
                f"{path}: checkpoint of other networks ({name.removeprefix('weights/')} differs)",
                hint="resume with the settings of the original run",
            )
