"""Typed JSON files: frozen dataclasses with checked fields."""

import dataclasses
import json
import math
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar, get_args, get_origin

from fashionflow_core.errors import FashionFlowError, reason_of

# Files of this project are kilobytes; another file of the same name must not fill the memory.
MAX_BYTES = 16 * 2**20
_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
T = TypeVar("T")


def read_object(path: Path, hint: str | None = None) -> dict[str, Any]:
    """The fields and values of a file that contains one JSON object.

    Raises:
        FileNotFoundError, NotADirectoryError: no such file; callers decide what that means.
        FashionFlowError: too large, unreadable, invalid JSON, or not an object; with the caller's hint.
    """
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as error:
        raise FashionFlowError(f"{path}: cannot be read ({reason_of(error)})", hint) from None
    if len(text) > MAX_BYTES:
        raise FashionFlowError(f"{path}: larger than {MAX_BYTES // 2**20} MiB, so not a file of this program", hint)
    try:
        content = json.loads(text.decode("utf-8"), parse_constant=_no_number)
    except (ValueError, RecursionError) as error:  # includes text that is not UTF-8, and numbers of 5,000 digits
        raise FashionFlowError(f"{path}: invalid JSON ({error})", hint) from None
    if not isinstance(content, dict):
        raise FashionFlowError(f"{path}: not a JSON object", hint)
    return content


def build(kind: type[T], values: Mapping[str, Any], path: Path, hint: str | None = None) -> T:
    """Build a dataclass, with nested dataclasses, from a JSON object.

    Fields may be annotated bool, int, float, str, Any, a dataclass, or a list, dict or `tuple[X, ...]` of these. Whole
    numbers are accepted for floats; numbers must be finite.

    Args:
        kind: the dataclass.
        values: its fields.
        path: the file, named in errors.
        hint: what to do about an invalid file.

    Raises:
        FashionFlowError: an unknown or missing field, or a value of the wrong type.
    """
    return _object(kind, values, path, "", hint)


def _object(kind: Any, values: Mapping[str, Any], path: Path, inside: str, hint: str | None) -> Any:
    fields = {field.name: field for field in dataclasses.fields(kind)}
    where = f" in {inside}" if inside else ""
    if unknown := sorted(set(values) - set(fields)):
        raise FashionFlowError(
            f"{path}: unknown fields{where}: {textwrap.shorten(', '.join(unknown), 200)}",
            hint="update fashionflow, or remove these fields",
        )
    needed = [
        name
        for name, field in fields.items()
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    if missing := [name for name in needed if name not in values]:
        raise FashionFlowError(f"{path}: lacks {', '.join(missing)}{where}", hint)
    start = f"{inside}." if inside else ""
    return kind(**{name: _value(fields[name].type, value, path, start + name, hint) for name, value in values.items()})


def _value(kind: Any, value: Any, path: Path, inside: str, hint: str | None) -> Any:
    origin, members = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin in (list, tuple) and isinstance(value, list):
        return origin(_value(members[0], one, path, f"{inside}[{n}]", hint) for n, one in enumerate(value))
    if origin is dict and isinstance(value, dict):
        return {key: _value(members[1], one, path, f"{inside}.{key}", hint) for key, one in value.items()}
    if dataclasses.is_dataclass(kind) and isinstance(value, dict):
        return _object(kind, value, path, inside, hint)
    allowed: Any = (int, float) if kind is float else kind
    fits = origin is None and isinstance(value, allowed) and (kind is bool or not isinstance(value, bool))
    if not fits or (isinstance(value, float) and not math.isfinite(value)):  # JSON's 1e999 parses as infinity
        wanted = _NAMES.get(kind) or ("a list" if origin in (list, tuple) else "an object")
        shown = textwrap.shorten(json.dumps(value), 80, placeholder=" ...")
        raise FashionFlowError(f"{path}: {inside} is {shown}, not {wanted}", hint)
    return value


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"not a number: {text}")
