"""Runtimes, one file each. The table is lazy: naming a runtime imports nothing but its own file."""

from importlib import import_module
from pathlib import Path

import torch

from fashionflow_core.contract import Networks
from fashionflow_core.errors import UsageError

_LOADERS = {"torch": "fashionflow_core.backends.torch"}


def load(folder: Path, backend: str, device: torch.device, dtype: torch.dtype) -> Networks:
    """Open a model folder's networks in a runtime.

    Raises:
        UsageError: no such backend.
        FashionFlowError: the folder lacks a network or holds a broken one.
    """
    if backend not in _LOADERS:
        raise UsageError(f"backend {backend!r} is unknown", hint=f"use one of: {', '.join(_LOADERS)}")
    return import_module(_LOADERS[backend]).load(folder, device, dtype)
