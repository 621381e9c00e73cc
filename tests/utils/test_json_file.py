"""JSON files of ours: what is in them comes back as it was, and whatever is wrong is one line."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fashionflow_core.config import MODEL_FILE, ModelConfig
from fashionflow_core.errors import FashionFlowError
from fashionflow_core.store.engine_folder import ENGINES_FILE, Engines
from fashionflow_core.utils.typed_files import MAX_BYTES, build, read_object

UNKNOWN = "update fashionflow, or remove these fields"


@dataclass(frozen=True)
class _Pocket:
    deep: float
    full: bool = False


@dataclass(frozen=True)
class _Coat:
    name: str
    buttons: tuple[int, ...]
    pockets: dict[str, _Pocket] = field(default_factory=dict)
    note: Any = None


def _coat(**values: Any) -> _Coat:
    return build(_Coat, {"name": "a", "buttons": [1], **values}, Path("coat.json"), "sew it again")


def test_what_is_there_comes_back() -> None:
    found = _coat(buttons=[1, 2], pockets={"left": {"deep": 3}}, note=[None, {"x": 1}])
    assert found == _Coat("a", (1, 2), {"left": _Pocket(3)}, [None, {"x": 1}])
    assert _coat() == _Coat("a", (1,))


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"name": 1}, "coat.json: name is 1, not text"),
        ({"name": None}, "coat.json: name is null, not text"),
        ({"buttons": 1}, "coat.json: buttons is 1, not a list"),
        ({"buttons": [1, True]}, "coat.json: buttons[1] is true, not a whole number"),
        ({"pockets": [1]}, "coat.json: pockets is [1], not an object"),
        ({"pockets": {"left": 1}}, "coat.json: pockets.left is 1, not an object"),
        ({"pockets": {"left": {}}}, "coat.json: lacks deep in pockets.left"),
        ({"pockets": {"left": {"deep": "x"}}}, 'coat.json: pockets.left.deep is "x", not a number'),
        ({"pockets": {"left": {"deep": float("inf")}}}, "pockets.left.deep is Infinity, not a number"),
        ({"pockets": {"left": {"deep": 1, "full": 1}}}, "pockets.left.full is 1, not true or false"),
        ({"pockets": {"left": {"deep": 1, "b": 1, "a": 2}}}, "coat.json: unknown fields in pockets.left: a, b"),
        ({"name": ["word"] * 1000}, " ..., not text"),
    ],
)
def test_what_is_wrong_is_named(values: dict[str, Any], says: str) -> None:
    with pytest.raises(FashionFlowError) as caught:
        _coat(**values)
    assert says in caught.value.message and len(caught.value.message) < 200
    assert caught.value.hint == (UNKNOWN if "unknown" in says else "sew it again")


def test_numbers_beyond_floats_are_numbers() -> None:
    assert _coat(pockets={"left": {"deep": 10**400}}).pockets["left"].deep == 10**400


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "invalid JSON"),
        (b"{", "invalid JSON"),
        (b"\xff\xfe{}", "invalid JSON"),
        (b'{"a": NaN}', "invalid JSON (not a number: NaN)"),
        (b'{"a": ' + b"1" * 5000 + b"}", "invalid JSON"),
        (b"[" * 100_000, "invalid JSON"),
        (b"[1]", "not a JSON object"),
        (b"null", "not a JSON object"),
        (b" " * (MAX_BYTES + 1), "larger than 16 MiB"),
    ],
    ids=["empty", "cut off", "no text", "nan", "digits", "deep", "list", "null", "huge"],
)
def test_files_that_hold_no_object(tmp_path: Path, content: bytes, says: str) -> None:
    """The same line from every reader, with the file's name."""
    for name, read in (("a.json", read_object), (MODEL_FILE, _model), (ENGINES_FILE, _engines)):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(FashionFlowError) as caught:
            read(tmp_path / name)
        assert caught.value.message.startswith(f"{tmp_path / name}: {says}") and len(caught.value.message) < 300


def _model(path: Path) -> ModelConfig:
    return ModelConfig.load(path.parent)


def _engines(path: Path) -> Engines:
    return Engines.load(path.parent)


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_object(tmp_path / "nowhere.json")
    (tmp_path / ENGINES_FILE).mkdir()
    with pytest.raises(FashionFlowError, match=r"cannot be read .is a directory"):
        Engines.load(tmp_path)
