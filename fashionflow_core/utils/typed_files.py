"""JSON and YAML files as frozen dataclasses."""

import dataclasses
import json
import math
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar, get_args, get_origin

from fashionflow_core.errors import FashionFlowError

# Ours have kilobytes. Whatever else bears their name should not fill the memory.
MAX_BYTES = 16 * 2**20
_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
T = TypeVar("T")


def read_object(path: Path, hint: str | None = None) -> dict[str, Any]:
    """The fields and values of a file that holds one JSON object.

    Raises:
        FileNotFoundError, NotADirectoryError: callers know what it means that there is none.
        FashionFlowError: it is too large, cannot be read, is no JSON or no object; with the caller's hint.
    """
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as error:
        raise FashionFlowError(f"{path}: cannot be read ({(error.strerror or str(error)).lower()})", hint) from None
    if len(text) > MAX_BYTES:
        raise FashionFlowError(f"{path}: is larger than {MAX_BYTES // 2**20} MiB, so it is none of ours", hint)
    try:
        content = json.loads(text.decode("utf-8"), parse_constant=_no_number)
    except (ValueError, RecursionError) as error:  # also of text that is not UTF-8, and of numbers of 5,000 digits
        raise FashionFlowError(f"{path}: is not valid JSON ({error})", hint) from None
    if not isinstance(content, dict):
        raise FashionFlowError(f"{path}: is not a JSON object of fields and values", hint)
    return content


def build(kind: type[T], values: Mapping[str, Any], path: Path, hint: str | None = None) -> T:
    """A dataclass of what a JSON object holds, and of the dataclasses inside it.

    Fields may be annotated bool, int, float, str, Any, a dataclass, or a list, dict or `tuple[X, ...]` of these. Whole
    numbers may stand for floats; numbers are finite.

    Args:
        kind: a dataclass.
        values: its fields.
        path: the file, named in errors.
        hint: what to do about a broken one.

    Raises:
        FashionFlowError: an unknown or missing field, or a value of another kind than the annotated one.
    """
    return _object(kind, values, path, "", hint)


def _object(kind: Any, values: Mapping[str, Any], path: Path, inside: str, hint: str | None) -> Any:
    fields = {field.name: field for field in dataclasses.fields(kind)}
    where = f" in {inside}" if inside else ""
    if unknown := sorted(set(values) - set(fields)):
        raise FashionFlowError(
            f"{path}: unknown fields{where}: {textwrap.shorten(', '.join(unknown), 200)}",
            hint="a newer fashionflow may know them: update it",
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
    if not fits or (isinstance(value, float) and not math.isfinite(value)):  # 1e999 is JSON, and infinite
        wanted = _NAMES.get(kind) or ("a list" if origin in (list, tuple) else "an object")
        shown = textwrap.shorten(json.dumps(value), 80, placeholder=" ...")
        raise FashionFlowError(f"{path}: {inside} is {shown}, not {wanted}", hint)
    return value


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")
