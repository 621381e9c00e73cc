"""Reads `TrainConfig` from a preset, a YAML file and `key=value`, and writes it back."""

import dataclasses
import difflib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

from fashionflow_core.errors import UsageError
from fashionflow_core.training.config import CHANGEABLE, TrainConfig
from fashionflow_core.training.presets import PRESETS
from fashionflow_core.yaml_file import read_mapping

_FIELDS = {field.name: field for field in dataclasses.fields(TrainConfig)}


def load_config(path: str | Path | None, settings: Sequence[str] = ()) -> TrainConfig:
    """Preset, then the YAML file, then `key=value`, each over the one before.

    Args:
        path: a YAML mapping; it and `settings` may name a `preset`.
        settings: `key=value` each; lists as `a,b` or `[a, b]`.

    Raises:
        FashionFlowError: the file cannot be read or is not YAML.
        UsageError: an unknown key (with the nearest known one), or a value of the wrong kind or out of range.
    """
    values: dict[str, Any] = {}
    if path is not None:
        for key, value in read_mapping(path).items():
            _check_key(str(path), str(key))
            values[str(key)] = _typed(str(path), str(key), value)
    for setting in settings:
        key, equals, text = setting.partition("=")
        key = key.strip()
        if not equals or not key:
            raise UsageError(f"--set {setting}: is not KEY=VALUE", hint="such as --set lr=1e-4")
        _check_key("--set", key)
        values[key] = _typed("--set", key, _parse(key, text.strip()))
    preset = values.pop("preset", "")
    if preset and preset not in PRESETS:
        raise UsageError(f"preset: {preset!r} is unknown", hint=f"use one of: {', '.join(PRESETS)}")
    return TrainConfig(**(PRESETS.get(preset, {}) | values))


def to_yaml(config: TrainConfig) -> str:
    """All settings of a run as a YAML file that `load_config` reads back to the same."""
    import yaml

    values = {key: list(v) if isinstance(v, tuple) else v for key, v in dataclasses.asdict(config).items()}
    return yaml.safe_dump(values, sort_keys=False)


def differences(old: TrainConfig, new: TrainConfig) -> list[str]:
    """Keys whose change would lead a resumed run off its path."""
    return [k for k in _FIELDS if k not in CHANGEABLE and getattr(old, k) != getattr(new, k)]


def _check_key(where: str, key: str) -> None:
    if key in _FIELDS or key == "preset":
        return
    near = difflib.get_close_matches(key.replace("-", "_"), [*_FIELDS, "preset"], n=1, cutoff=0.4)
    hint = f"did you mean {near[0]}? " if near else ""
    raise UsageError(f"{where}: {key!r} is no setting", hint=f"{hint}all of them are in docs/training.md")


def _parse(key: str, text: str) -> Any:
    """The value of `--set`: text stays text, everything else is YAML; `2,4` is a list where one is wanted."""
    import yaml

    kind = _FIELDS[key].type if key in _FIELDS else str
    if kind is str:
        return text
    if get_args(kind):
        text = text if text.startswith("[") else f"[{text}]"
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _typed(where: str, key: str, value: Any) -> Any:
    kind: Any = _FIELDS[key].type if key in _FIELDS else str
    if members := get_args(kind):  # tuple[int, ...]
        if not isinstance(value, list):
            raise UsageError(f"{where}: {key} needs a list, not {value!r}", hint=f"such as {key}=[2, 4]")
        return tuple(_scalar(where, key, member, members[0]) for member in value)
    return _scalar(where, key, value, kind)


def _scalar(where: str, key: str, value: Any, kind: type) -> Any:
    if kind is float and isinstance(value, str):  # YAML 1.1 takes 1e-4 for text
        with suppress(ValueError):
            value = float(value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not kind:
        words = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
        raise UsageError(f"{where}: {key} needs {words[kind]}, not {value!r}")
    return value
