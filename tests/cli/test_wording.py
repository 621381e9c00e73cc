"""How messages name settings and commands: in Python's words, in those of the command line, and between processes."""

import ast
import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from PIL import Image

import fashionflow_core
from fashionflow_cli.main import app
from fashionflow_cli.wording import CommandLine
from fashionflow_core.catalogue.photo_process import Helper, PhotoRequest
from fashionflow_core.config import GenerateSettings
from fashionflow_core.errors import SettingError, UsageError, Wording, command, option
from fashionflow_core.images.fitting import Frame

CORE = Path(fashionflow_core.__file__).parent


@pytest.fixture
def command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Wording, "current", CommandLine())


def _refusal(**settings: Any) -> str:
    with pytest.raises(SettingError) as caught:
        GenerateSettings(**settings)
    return str(caught.value)


def test_python_names_arguments() -> None:
    assert _refusal(decode_chunk=0) == "decode_chunk: must be above 0, not 0"
    assert _refusal(guidance_scale=0.5) == "guidance_scale: must be from 1 (none) to 100, not 0.5"
    assert _refusal(frames=2, duration=1.0) == "frames, duration: mutually exclusive"
    assert (option("frames"), option("dtype", "bf16")) == ("frames", "dtype=bf16")
    assert command("export") == "fashionflow export"
    assert command("data synth", motion=True, out="d") == "fashionflow data synth (motion=True, out=d)"


@pytest.mark.usefixtures("command_line")
def test_the_command_line_names_flags() -> None:
    assert _refusal(decode_chunk=0) == "--decode-chunk: must be above 0, not 0"
    assert _refusal(guidance_scale=0.5) == "--guidance: must be from 1 (none) to 100, not 0.5"
    assert _refusal(frames=2, duration=1.0) == "--frames, --duration: mutually exclusive"
    assert (option("frames"), option("dtype", "bf16")) == ("--frames", "--dtype bf16")
    assert command("models pull", "NAME", sha256="ABC") == "fashionflow models pull NAME --sha256 ABC"
    assert command("data synth", motion=True, out="d") == "fashionflow data synth --motion -o d"


@pytest.mark.usefixtures("command_line")
def test_errors_keep_their_words_on_the_way_to_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = pickle.dumps(SettingError("size", "too large", hint=f"leave {option('size')} out"))
    monkeypatch.setattr(Wording, "current", Wording())
    got = pickle.loads(sent)
    assert isinstance(got, UsageError) and got.exit_code == 2
    assert (str(got), got.message, got.hint) == ("--size: too large", "--size: too large", "leave --size out")


@pytest.mark.usefixtures("command_line")
def test_helper_processes_use_the_same_words(tmp_path: Path) -> None:
    photo = tmp_path / "odd {option('x')} --frames.png"
    Image.new("RGB", (200, 200)).save(photo)
    helper = Helper()
    try:
        opened = helper.ask(
            "photo", PhotoRequest(str(photo), Frame((32, 32), "pad", "bilinear"), (255, 255, 255), 0.01)
        )
    finally:
        helper.close()
    assert opened.error.message.startswith(f"{photo}: ")
    assert opened.error.hint.endswith("--max-megapixels 1")


def _calls(name: str) -> Iterator[tuple[str, ast.Call]]:
    for path in CORE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name and node.args:
                first = node.args[0]
                if isinstance(first, ast.Constant):
                    yield str(first.value), node


def _commands(group: Any, path: str = "") -> Iterator[tuple[str, set[str]]]:
    for name, one in group.commands.items():
        if hasattr(one, "commands"):
            yield from _commands(one, f"{path}{name} ")
        else:
            yield f"{path}{name}", {flag for parameter in one.params for flag in parameter.opts}


def test_every_setting_and_command_that_core_names_exists() -> None:
    known = dict(_commands(typer.main.get_command(app)))
    flags = set().union(*known.values())
    words = CommandLine()
    named = {name for maker in ("option", "SettingError") for names, _ in _calls(maker) for name in names.split(", ")}
    assert len(named) > 30
    assert {name for name in named if words.setting(name) not in flags} == set()
    for name, call in _calls("command"):
        assert name in known, name
        wanted = {words.option(keyword.arg) for keyword in call.keywords if keyword.arg}
        assert wanted <= known[name], (name, wanted - known[name])


def test_core_names_no_flag_of_its_own_accord() -> None:
    others = ("pip ", "_REINSTALL", "docker ", "--query-gpu")  # commands of other programs
    found = [
        f"{path.relative_to(CORE)}:{number}"
        for path in CORE.rglob("*.py")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(r"(?<!-)--[a-z]", line) and not any(other in line for other in others)
    ]
    assert found == []
