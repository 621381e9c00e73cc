"""Network folders in diffusers' layout: safety checks of config and weight index, loading.

diffusers, transformers and peft build what a config describes and follow the names in it. An untrusted config can
therefore request a terabyte of memory, code from elsewhere, or files outside its folder.
"""

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fashionflow_core.errors import FashionFlowError
from fashionflow_core.utils.typed_files import read_object

HINT = "import or pull the model again"
# Far above what published networks use: 48 layers, a width of 8,192, 1,000 timesteps.
MAX_LAYERS, MAX_NUMBER, MAX_LEVELS = 128, 1_000_000, 64
MAX_TIMESTEPS, MAX_PIXELS = 100_000, 8192
_LAYERS = re.compile(r"layer|depth|num_blocks|per_block")
# Keys of transformers: the first two load modules, the others kernels or packages by name.
_CODE = ("auto_map", "custom_pipelines", "quantization_config", "use_kernels")
_ATTENTION = (None, "eager", "sdpa")


def check_config(folder: Path) -> dict[str, Any]:
    """Check the config and the weight index of a network's folder.

    Returns:
        What `config.json` contains.

    Raises:
        FashionFlowError: a number out of range, a key that loads code, a weight file outside the folder.
    """
    path = folder / "config.json"
    try:
        config = read_object(path, HINT)
    except (FileNotFoundError, NotADirectoryError):
        raise FashionFlowError(f"{folder}: incomplete model folder: no config.json", HINT) from None
    for key, value in _entries(config):
        if key in _CODE and value:
            raise FashionFlowError(f"{path}: {key} loads code, which is not allowed", HINT)
        if key.endswith("attn_implementation") and value not in _ATTENTION:
            raise FashionFlowError(f"{path}: {key} {str(value)[:80]!r} loads code, which is not allowed", HINT)
        limit = MAX_LAYERS if _LAYERS.search(key) else MAX_NUMBER
        _check_number(path, key, value, limit)
        if isinstance(value, list) and len(value) > MAX_LEVELS:
            raise FashionFlowError(f"{path}: {key} has {len(value)} entries; at most {MAX_LEVELS} allowed", HINT)
    if (folder / "adapter_config.json").exists():  # transformers would load the base network that it names
        raise FashionFlowError(f"{folder / 'adapter_config.json'}: adapters are not allowed in this folder", HINT)
    for index in sorted(folder.glob("*.index.json")):
        files = read_object(index, HINT).get("weight_map")
        for name in set(map(str, files.values())) if isinstance(files, dict) else {""}:
            if Path(name).name != name or not name.endswith(".safetensors") or not (folder / name).is_file():
                raise FashionFlowError(f"{index}: {name[:80]!r} not a safetensors file of this folder", HINT)
    return config


def check_scheduler(folder: Path) -> None:
    """Check `scheduler_config.json` of a folder.

    Raises:
        FashionFlowError: a number out of range.
    """
    path = folder / "scheduler_config.json"
    for key, value in _entries(read_object(path, HINT)):
        _check_number(path, key, value, MAX_TIMESTEPS)


def check_processor(folder: Path) -> None:
    """Check `preprocessor_config.json` of a folder.

    Raises:
        FashionFlowError: an image size out of range.
    """
    path = folder / "preprocessor_config.json"
    for key, value in _entries(read_object(path, HINT)):
        _check_number(path, key, value, MAX_PIXELS)


def parameters(folder: Path) -> int:
    """Number of values in a network's safetensors files, from their headers only."""
    from safetensors import SafetensorError, safe_open

    total = 0
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(file, framework="np") as tensors:
                total += sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise FashionFlowError(
                f"{file}: not a safetensors file ({error})", hint="import or install the model again"
            ) from None
    return total


def open_network(kind: Any, folder: Path, **options: Any) -> tuple[Any, dict[str, Any]]:
    """Load a network with its class's `from_pretrained` after checking its config: safetensors only, offline.

    Args:
        kind: a model class of diffusers or transformers.
        folder: folder with `config.json` and the weights.
        options: additional arguments of `from_pretrained`.

    Returns:
        The network, and its loading report (`missing_keys`, `unexpected_keys`, ...).

    Raises:
        FashionFlowError: a failed check, or a config that does not match the size of the weights.
        Exception: from either library, for any other problem of the folder.
    """
    import torch  # listing model folders does not need torch

    config = check_config(folder)
    with torch.device("meta"):  # takes no memory, whatever the config requests
        if hasattr(kind, "config_class"):  # transformers: the config may be that of a composite model
            empty = kind(kind.config_class.from_pretrained(folder, local_files_only=True))
        else:
            empty = kind.from_config(config)
    wanted = sum(tensor.numel() for tensor in (*empty.parameters(), *empty.buffers()))
    found = parameters(folder)
    # Smaller differences are reported weight by weight.
    if wanted > 2 * found + 1_000_000:
        raise FashionFlowError(f"{folder}: config.json describes {wanted:,} values, the weights have {found:,}", HINT)
    return kind.from_pretrained(
        folder, use_safetensors=True, local_files_only=True, output_loading_info=True, **options
    )


def _entries(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Every key with its value, recursively; items of a list get the list's key."""
    for key, value in values.items():
        yield key, value
        if isinstance(value, Mapping):
            yield from _entries(value)
        elif isinstance(value, list):
            for entry in value:
                yield from _entries(entry if isinstance(entry, Mapping) else {key: entry})


def _check_number(path: Path, key: str, value: Any, limit: int) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and not (math.isfinite(value) and abs(value) <= limit):
        shown = f"{value:.3g}" if isinstance(value, float) or abs(value) < 10**15 else "a number of many digits"
        raise FashionFlowError(f"{path}: {key} is {shown}; at most {limit:,} allowed", HINT)
