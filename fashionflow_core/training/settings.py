"""Training settings from presets, YAML files and `key=value`.

A setting has a full name, `optimizer.lr`, and an older flat name without group, `lr`.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

from fashionflow_core.errors import UsageError, option
from fashionflow_core.training.config import CHANGEABLE, FIELDS, GROUPS, TrainConfig
from fashionflow_core.training.presets import PRESETS
from fashionflow_core.utils.nearest import nearest
from fashionflow_core.utils.settings_files import read_mapping

# Flat names are field names, with a prefix in these groups and these exceptions.
_PREFIXES = {"masks": "mask_", "checkpoints": "checkpoint_", "previews": "preview_"} | {
    group: f"{group}_" for group in ("unet", "lora", "sampler", "log", "vae")
}
_EXCEPTIONS = {
    "data.path": "data",
    "conditioning.kind": "conditioning",
    "sampler.name": "sampler",
    "noise.shift": "noise_shift",
    "checkpoints.keep": "keep_checkpoints",
    "masks.interpolate_strides": "interpolate_strides",
    "masks.extend_frames": "extend_frames",
    "unet.gradient_checkpointing": "gradient_checkpointing",
    "log.tensorboard": "tensorboard",
}
FLAT: dict[str, str] = {
    _EXCEPTIONS.get(name, _PREFIXES.get(name.partition(".")[0], "") + name.rpartition(".")[2]): name for name in FIELDS
}


def load_config(path: str | Path | None, settings: Sequence[str] = ()) -> TrainConfig:
    """Preset, then the YAML file, then `key=value`, each overriding the one before.

    Args:
        path: YAML mapping of groups or flat names; it and `settings` may contain `preset`.
        settings: items `key=value`; lists as `a,b` or `[a, b]`.

    Raises:
        FashionFlowError: the file cannot be read or is not YAML.
        UsageError: an unknown key (with the nearest known one), or a value of the wrong type or out of range.
    """
    values = _read(str(path), read_mapping(path)) if path is not None else {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key.strip():
            raise UsageError(
                f"{option('set', setting)}: not KEY=VALUE", hint=f"write {option('set', 'optimizer.lr=1e-4')}"
            )
        name = _name(option("set"), key.strip())
        values[name] = _typed(option("set"), name, _parse(name, text.strip()))
    preset = values.pop("preset", "")
    if preset and preset not in PRESETS:
        raise UsageError(f"preset: unknown preset {preset!r}", hint=f"use one of: {', '.join(PRESETS)}")
    values = _read(preset, PRESETS.get(preset, {})) | values
    groups: dict[str, dict[str, Any]] = {group: {} for group in GROUPS}
    alone: dict[str, Any] = {}
    for name, value in values.items():
        group, _, key = name.rpartition(".")
        (groups[group] if group else alone)[key] = value
    return TrainConfig(**alone, **{group: GROUPS[group](**fields) for group, fields in groups.items()})


def to_yaml(config: TrainConfig) -> str:
    """All settings of a run as a YAML file that `load_config` reads back to the same."""
    import yaml

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(inner) for key, inner in value.items()}
        return list(value) if isinstance(value, tuple) else value

    return yaml.safe_dump(plain(dataclasses.asdict(config)), sort_keys=False)


def differences(old: TrainConfig, new: TrainConfig) -> list[str]:
    """Changed settings that a resumed run must keep."""
    fixed = [name for name in FIELDS if not {name, name.partition(".")[0]} & CHANGEABLE]
    return [name for name in fixed if old.value(name) != new.value(name)]


def _read(where: str, mapping: Mapping[Any, Any]) -> dict[str, Any]:
    """The settings of a file or preset, by full name."""
    flat: dict[str, Any] = {}
    for key, value in mapping.items():
        in_group = key in GROUPS and isinstance(value, dict)  # `data: cache` is flat
        flat |= {f"{key}.{inner}": one for inner, one in value.items()} if in_group else {str(key): value}
    names = {key: _name(where, key) for key in flat}
    return {name: _typed(where, name, flat[key]) for key, name in names.items()}


def _name(where: str, key: str) -> str:
    """The full name of a setting."""
    if key in FIELDS or key == "preset":
        return key
    if key in FLAT:
        return FLAT[key]
    if key in GROUPS:
        first = next(name for name in FIELDS if name.startswith(f"{key}."))
        raise UsageError(f"{where}: {key!r} is a group of settings", hint=f"set one of them, such as {first}")
    last = key.replace("-", "_").rpartition(".")[2]
    near = [name for name in FIELDS if name.rpartition(".")[2] == last]  # wrong or missing group
    if not near:
        known = FLAT | {name: name for name in (*FIELDS, "preset")}
        near = [known[one] for one in (nearest(key, known),) if one]
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise UsageError(f"{where}: unknown setting {key!r}", hint=f"{hint}see docs/guides/training.md for all settings")


def _parse(name: str, text: str) -> Any:
    """The value of a `key=value`: text as it is, everything else as YAML; `2,4` is a list where one is expected."""
    import yaml

    kind = FIELDS.get(name, str)
    if kind is str:
        return text
    if get_args(kind):
        text = text if text.startswith("[") else f"[{text}]"
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _typed(where: str, name: str, value: Any) -> Any:
    kind: Any = FIELDS.get(name, str)
    if members := get_args(kind):  # tuple[int, ...]
        if not isinstance(value, list | tuple):
            raise UsageError(f"{where}: {name} needs a list, not {value!r}", hint=f"write {name}=[2, 4]")
        return tuple(_scalar(where, name, member, members[0]) for member in value)
    return _scalar(where, name, value, kind)


def _scalar(where: str, name: str, value: Any, kind: type) -> Any:
    if kind is float and isinstance(value, str):  # YAML 1.1 reads 1e-4 as text
        with suppress(ValueError):
            value = float(value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not kind:
        words = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
        raise UsageError(f"{where}: {name} needs {words[kind]}, not {value!r}")
    return value
