"""Requirements of a pipeline before it is opened: bytes, packages, licence, expected offload rung."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fashionflow_core.config import LoadOptions, ResolvedSettings
from fashionflow_core.generators.config import GeneratorConfig
from fashionflow_core.generators.folder import check_folder, device_bytes, missing_packages, weights_bytes
from fashionflow_core.generators.offload import expected_rung
from fashionflow_core.generators.remote_place import is_remote
from fashionflow_core.utils.device import resolve_device, resolve_dtype


@dataclass(frozen=True)
class Requirements:
    """What a pipeline needs; `dataclasses.asdict` makes it JSON-able.

    Attributes:
        disk_bytes: of its weights, as stored.
        device_bytes: of its weights in the number types that they are opened in.
        free_bytes: of the device; None: the CPU, whose memory is shared with everything else.
        offload: the rung of the ladder that is expected to fit: none, model or group. A sum of weights cannot tell
            what a run takes beside them: when memory runs out, the next rung is taken.
        missing_packages: to be installed before it runs.
        licence, is_restricted: of the weights.
        is_tested: whether the tests run its family.
    """

    disk_bytes: int
    device_bytes: int
    free_bytes: int | None
    offload: str
    missing_packages: tuple[str, ...]
    licence: str
    is_restricted: bool
    is_tested: bool

    @classmethod
    def of(cls, folder: Path, config: GeneratorConfig, device: torch.device, dtype: torch.dtype) -> "Requirements":
        """Requirements of a folder in diffusers' layout; only the headers of its weights are read.

        Raises:
            FashionFlowError: its index or weights cannot be read.
        """
        on_device = device_bytes(folder, dtype.itemsize)
        free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None
        return cls(
            disk_bytes=sum(weights_bytes(folder).values()),
            device_bytes=sum(on_device.values()),
            free_bytes=free,
            offload=expected_rung(on_device, free),
            missing_packages=tuple(missing_packages(folder)),
            licence=config.licence,
            is_restricted=config.is_restricted,
            is_tested=config.is_tested,
        )


class UnopenedModel:
    """Placeholder of an opened pipeline, for planning: nothing is loaded, only the headers of weights are read.

    Args:
        folder: in diffusers' layout, or the address of a remote model.
        config, options: as for opening it.

    Raises:
        UsageError: no such device or number type.
        FashionFlowError: the folder is broken or unsafe.
    """

    def __init__(self, folder: Path, config: GeneratorConfig, options: LoadOptions) -> None:
        self.weights_bytes = 0
        self.requirements: Requirements | None = None
        if is_remote(folder):
            self.device, self.dtype = "remote", torch.float32
            return
        self.device: Any = resolve_device(options.device)
        self.dtype = resolve_dtype(options.dtype, self.device)
        check_folder(folder)
        self.requirements = Requirements.of(folder, config, self.device, self.dtype)
        self.weights_bytes = self.requirements.device_bytes

    def generate(
        self,
        photos: Sequence[np.ndarray],
        requests: Sequence[ResolvedSettings],
        generators: Sequence[torch.Generator],
        on_step: Any,
    ) -> tuple[list[np.ndarray], float]:
        """Never called."""
        raise ValueError("a planned model generates nothing")
