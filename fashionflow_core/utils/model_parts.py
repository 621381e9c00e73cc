"""Folders of networks: size, checks of config and weight index, opening.

diffusers, transformers and peft build what a config asks for and follow the names in it. A config of a stranger can
therefore ask for a terabyte, for code from elsewhere, or for files outside its folder.
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
# Of transformers: the first two load modules, the others kernels or packages by name.
_CODE = ("auto_map", "custom_pipelines", "quantization_config", "use_kernels")
_ATTENTION = (None, "eager", "sdpa")


def check_config(folder: Path) -> dict[str, Any]:
    """Check the config and the weight index of a network's folder.

    Returns:
        What `config.json` contains.

    Raises:
        FashionFlowError: a number no network has, a key that loads code, a weight file outside the folder.
    """
    path = folder / "config.json"
    try:
        config = read_object(path, HINT)
    except (FileNotFoundError, NotADirectoryError):
        raise FashionFlowError(f"{folder}: incomplete model folder: no config.json", HINT) from None
    for key, value in _entries(config):
        if key in _CODE and value:
            raise FashionFlowError(f"{path}: {key} loads code, which is never done", HINT)
        if key.endswith("attn_implementation") and value not in _ATTENTION:
            raise FashionFlowError(f"{path}: {key} {str(value)[:80]!r} loads code, which is never done", HINT)
        limit = MAX_LAYERS if _LAYERS.search(key) else MAX_NUMBER
        _check_number(path, key, value, limit)
        if isinstance(value, list) and len(value) > MAX_LEVELS:
            raise FashionFlowError(f"{path}: {key} has {len(value)} entries; at most {MAX_LEVELS} are possible", HINT)
    if (folder / "adapter_config.json").exists():  # transformers would open the network that it names instead
        raise FashionFlowError(f"{folder / 'adapter_config.json'}: a network's folder has no adapters in it", HINT)
    for index in sorted(folder.glob("*.index.json")):
        files = read_object(index, HINT).get("weight_map")
        for name in set(map(str, files.values())) if isinstance(files, dict) else {""}:
            if Path(name).name != name or not name.endswith(".safetensors") or not (folder / name).is_file():
                raise FashionFlowError(f"{index}: {name[:80]!r} is not a safetensors file of this folder", HINT)
    return config


def check_scheduler(folder: Path) -> None:
    """Check `scheduler_config.json` of a folder.

    Raises:
        FashionFlowError: a number that no noise schedule has.
    """
    path = folder / "scheduler_config.json"
    for key, value in _entries(read_object(path, HINT)):
        _check_number(path, key, value, MAX_TIMESTEPS)


def check_processor(folder: Path) -> None:
    """Check `preprocessor_config.json` of a folder.

    Raises:
        FashionFlowError: a picture size that no image encoder has.
    """
    path = folder / "preprocessor_config.json"
    for key, value in _entries(read_object(path, HINT)):
        _check_number(path, key, value, MAX_PIXELS)


def parameters(folder: Path) -> int:
    """Number of values in a network's safetensors files, from their headers alone."""
    from safetensors import SafetensorError, safe_open

    total = 0
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(file, framework="np") as tensors:
                total += sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise FashionFlowError(
                f"{file}: is no safetensors file ({error})", hint="import or install the model again"
            ) from None
    return total


def open_network(kind: Any, folder: Path, **options: Any) -> tuple[Any, dict[str, Any]]:
    """One network by its class's `from_pretrained`, after its config has been checked: safetensors, no network.

    Args:
        kind: a model class of diffusers or transformers.
        folder: of `config.json` and the weights.
        options: further arguments of `from_pretrained`.

    Returns:
        The network, and its loading report (`missing_keys`, `unexpected_keys`, ...).

    Raises:
        FashionFlowError: of the checks; a config of a far larger network than the weights.
        Exception: of either library, for whatever else is wrong with the folder.
    """
    import torch  # model folders are listed without it

    config = check_config(folder)
    with torch.device("meta"):  # no memory is taken there, whatever the config asks for
        if hasattr(kind, "config_class"):  # of transformers; the config may be that of a larger model around it
            empty = kind(kind.config_class.from_pretrained(folder, local_files_only=True))
        else:
            empty = kind.from_config(config)
    wanted = sum(tensor.numel() for tensor in (*empty.parameters(), *empty.buffers()))
    found = parameters(folder)
    # Those that fit less exactly are reported weight by weight.
    if wanted > 2 * found + 1_000_000:
        raise FashionFlowError(
            f"{folder}: config.json describes a network of {wanted:,} values, the weights have {found:,}", HINT
        )
    return kind.from_pretrained(
        folder, use_safetensors=True, local_files_only=True, output_loading_info=True, **options
    )


def _entries(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Every key with its value, also of objects inside; what is in a list bears the list's key."""
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
        raise FashionFlowError(f"{path}: {key} is {shown}; at most {limit:,} is possible", HINT)
