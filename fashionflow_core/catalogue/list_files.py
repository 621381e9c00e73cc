"""List files of photos: text, CSV, TSV, JSON lines."""

import codecs
import csv
import io
import json
import os
import re
from collections.abc import Collection, Iterator
from dataclasses import fields
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from fashionflow_core.config import GenerateSettings
from fashionflow_core.errors import FashionFlowError, UsageError, option

SOURCE_COLUMNS = ("photo", "path", "file", "image", "source")
NAME_COLUMNS = ("output", "name")
_SEPARATOR = re.compile(rb'"?sep=([;,\t|])"?[\r\n]+', re.IGNORECASE)
# Fields of GenerateSettings that a row may set; the rest belongs to the run.
SETTINGS = {field.name: field for field in fields(GenerateSettings) if field.name not in ("size", "decode_chunk")}


def read_list(data: bytes, name: str, suffix: str, more: Collection[str] = ()) -> Iterator[Any]:
    """Rows of a list: a source, or (source, the other columns of the row).

    Args:
        data: the file.
        name: its name in errors.
        suffix: of its name, which determines the format; empty: the first line does.
        more: additional columns, such as those of captions.

    Raises:
        UsageError: not a list, an unknown column, or a row without a photo.
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # Excel's "Unicode text"
        data = data.decode("utf-16", errors="replace").encode()
    if b"\0" in data:
        raise UsageError(f"{name}: not a list of photos", hint=f"one photo needs a video: {option('out', 'NAME')}.mp4")
    data = data.removeprefix(codecs.BOM_UTF8)
    if b"\n" not in data:
        data = data.replace(b"\r", b"\n")  # line ends of classic Mac OS, which Excel can write
    separator = ""
    if stated := _SEPARATOR.match(data):  # Excel's own first line
        separator, data = stated[1].decode(), data[stated.end() :]
    first = next((line.strip() for line in io.BytesIO(data) if line.strip()), b"").decode(errors="replace")
    header = [column.strip().lower() for column in first.replace("\t", ",").replace(";", ",").split(",")]
    if suffix in (".jsonl", ".ndjson") or (not suffix and first.startswith("{")):
        for number, line in enumerate(_lines(data), start=1):
            if line.strip():
                yield _row(_json(line, f"{name}, line {number}"), f"{name}, line {number}", more)
    elif suffix in (".csv", ".tsv") or (not suffix and len(header) > 1 and set(header) & set(SOURCE_COLUMNS)):
        separator = separator or max("\t;,", key=first.count)
        rows = csv.DictReader(_lines(data, keep=True), delimiter=separator, restkey="", strict=True)
        try:
            rows.fieldnames = columns = [column.strip().lower() for column in rows.fieldnames or []]
            if twice := [column for column in columns if column and columns.count(column) > 1]:
                raise UsageError(f"{name}: column {twice[0]!r} occurs twice", hint="rename or remove one of them")
            for row in rows:
                where = f"{name}, line {rows.line_num}"
                if any(row.pop("", None) or ()):
                    raise UsageError(f"{where}: has more values than the header has columns", hint="quote commas")
                if not any(value and value.strip() for value in row.values()):
                    continue  # empty row, as spreadsheets write it
                yield _row({column: value for column, value in row.items() if value not in (None, "")}, where, more)
        except csv.Error as error:
            raise UsageError(f"{name}, line {max(rows.line_num, 1)}: {error}", hint="check the quotes") from None
    else:
        for line in _lines(data):
            if line.strip() and not line.startswith("# "):
                yield _source(line[1:-1] if len(line) > 2 and line[0] == line[-1] == '"' else line)


def _lines(data: bytes, keep: bool = False) -> Iterator[str]:
    """Lines, with or without line ends."""
    for line in io.BytesIO(data):
        # File names may contain any bytes: those that are not UTF-8 survive as surrogates.
        text = line.decode("utf-8", errors="surrogateescape")
        yield text if keep else text.rstrip("\r\n")


def _source(text: str) -> str:
    """A photo's path from a list, without `file://`, in the encoding of the file system."""
    if text.startswith("file://"):
        text = url2pathname(urlsplit(text).path)
    return text if _has_raw_bytes(text) and os.path.lexists(text) else _respelled(text)


def _has_raw_bytes(text: str) -> bool:
    return any("\udc80" <= character <= "\udcff" for character in text)


def _respelled(text: str) -> str:
    """Text of a list that is not UTF-8, decoded as Windows-1252."""
    return text.encode(errors="surrogateescape").decode("cp1252", errors="replace") if _has_raw_bytes(text) else text


def _json(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (
        ValueError,
        RecursionError,
    ) as error:  # endless numbers and brackets raise other errors than JSONDecodeError
        reason = getattr(error, "msg", "an endless number or endless brackets")
        raise UsageError(f"{where}: not JSON ({reason})", hint='a line is {"photo": "dress.jpg"}') from None
    if not isinstance(row, dict):
        raise UsageError(f"{where}: not a JSON object", hint='a line is {"photo": "dress.jpg"}')
    return {str(key).lower(): value for key, value in row.items() if value is not None}


def _row(row: dict[str, Any], where: str, more: Collection[str]) -> Any:
    known = (*SOURCE_COLUMNS, *NAME_COLUMNS, "caption", *SETTINGS, *more)
    row = {key.replace("-", "_"): value for key, value in row.items()}
    if "guidance" in row:
        row["guidance_scale"] = row.pop("guidance")
    if unknown := [key for key in row if key not in known]:
        raise UsageError(f"{where}: unknown column {unknown[0]!r}", hint=f"columns: {', '.join(known)}")
    source = next((row.pop(column) for column in SOURCE_COLUMNS if column in row), None)
    if not isinstance(source, str) or not source:
        raise UsageError(f"{where}: no photo in this row", hint="name it in the column photo")
    source = _source(source)
    row = {key: _respelled(value) if isinstance(value, str) else value for key, value in row.items()}
    for value in (source, *(str(row[key]) for key in (*NAME_COLUMNS, "caption") if key in row)):
        try:
            if b"\0" in os.fsencode(value):
                raise ValueError
        except ValueError:  # a lone surrogate, which JSON can contain
            raise UsageError(f"{where}: {value[:100]!r} has a character that no file name can contain") from None
    return (source, row) if row else source


def row_settings(values: dict[str, Any]) -> tuple[dict[str, Any] | None, str | None]:
    """Settings of a row in their types, or None and what is wrong; `GenerateSettings` checks them."""
    if not values:
        return None, None
    wanted: dict[str, Any] = {}
    for name, value in values.items():
        kind = str(SETTINGS[name].type)
        try:
            if name == "guidance_interval":
                ends = value.split(",") if isinstance(value, str) else value
                wanted[name] = tuple(float(end) for end in ends)
            elif "bool" in kind:
                wanted[name] = _switch(value)
            elif "int" in kind:
                wanted[name] = int(value) if isinstance(value, str) else value
            elif "float" in kind:
                wanted[name] = float(value) if isinstance(value, str) else value
            else:
                wanted[name] = str(value)
        except (TypeError, ValueError):
            return None, f"{name.replace('_', '-')}: {value!r} is not a valid value"
    try:
        GenerateSettings(**wanted)
    except (FashionFlowError, TypeError) as error:
        return None, str(error)
    return wanted, None


def _switch(value: Any) -> bool:
    """True or false from a JSON value or a word such as yes.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(value, bool):
        return value
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    try:
        return words[str(value).strip().lower()]
    except KeyError:
        raise ValueError(value) from None
