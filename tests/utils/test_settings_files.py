"""Settings files: values that YAML reads otherwise than they look, and files made to exhaust a machine."""

from pathlib import Path

import pytest

from fashionflow_core.errors import FashionFlowError
from fashionflow_core.utils.settings_files import read_mapping


def read(tmp_path: Path, text: str) -> object:
    path = tmp_path / "shop.yaml"
    path.write_text(text, encoding="utf-8")
    return read_mapping(path)


def test_plain_settings(tmp_path: Path) -> None:
    text = "steps: 12\nguidance: 1.5\nsize: 640x512\nbackground: '#ffeedd'\nloop: true\nlr: 1.0e-3\nseed: 0\n"
    assert read(tmp_path, text) == {
        "steps": 12,
        "guidance": 1.5,
        "size": "640x512",
        "background": "#ffeedd",
        "loop": True,
        "lr": 0.001,
        "seed": 0,
    }
    assert read(tmp_path, "") == {} and read(tmp_path, "# nothing\n") == {}


@pytest.mark.parametrize(
    "text, said",
    [
        ("background: #ffeedd\n", "is a comment in YAML"),
        ("seed: 010\n", "010 would be an octal number"),
        ("duration: 25:00\n", "25:00 would be a number of base 60"),
        ("duration: 1:25.5\n", "base 60"),
        ("a: &a [1]\nb: [*a, *a]\n", "aliases"),
        ("a: " + "[" * 5000 + "]" * 5000, "brackets"),
        ("seed: " + "9" * 6000, "6000 digits"),
        ("- 1\n- 2\n", "not a mapping"),
        ("a: b: c\n", "not a readable YAML file"),
        ("x" * (2**20 + 1), "too large"),
    ],
)
def test_what_is_refused_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(FashionFlowError, match=said) as caught:
        read(tmp_path, text)
    assert "\n" not in caught.value.message and len(caught.value.message) < 500 and caught.value.hint


def test_devices_are_no_settings() -> None:
    with pytest.raises(FashionFlowError, match="not a regular file"):
        read_mapping("/dev/zero")
