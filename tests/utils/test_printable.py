"""Control characters from file names and model files never reach terminals, logs or pipes as they are."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from catalogues import conventions, photo, quick
from command import COMMAND, environment, run

from fashionflow_core.store import registry
from fashionflow_core.utils.text import log_traceback, printable

# Clears the screen, sets the title, forges a line of ours, goes back to its start, turns the text around, 8-bit CSI.
EVIL = "x\x1b[2J\x1b]0;t\x07\nerror: y\r\u202e\x9b1m"


def is_harmless(text: str) -> bool:
    return printable(text.replace("\r", "")) == text.replace("\r", "")  # progress bars go back to their start


@pytest.mark.parametrize(
    "text, shown",
    [
        ("dress.jpg", "dress.jpg"),
        ("Höst 深 👗\u200d é\t|\n", "Höst 深 👗\u200d é\t|\n"),
        ("\x1b[2J", r"\x1b[2J"),
        ("a\rb\x7f\x00", r"a\rb\x7f\x00"),
        ("\x9b1m\x85", r"\x9b1m\x85"),
        ("\u202egpj\u2066\u2028", r"\u202egpj\u2066\u2028"),
        ("\udcff", "\udcff"),  # a byte that is no text: the stream says how it is written
    ],
)
def test_printable(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_tracebacks_in_logs(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        raise ValueError(EVIL)
    except ValueError as error:
        log_traceback(error)
    said = capsys.readouterr().err
    assert said.startswith("Traceback") and is_harmless(said) and r"\x1b[2J" in said


def test_photo_names_in_a_catalogue(tmp_path: Path) -> None:
    conventions(tmp_path / "model")
    photo(tmp_path / "shop" / f"{EVIL}.jpg")
    (tmp_path / "shop" / f"bad{EVIL}.png").write_text("no photo")
    result = quick("shop", "-o", "out", "--model", "model", cwd=tmp_path)
    assert result.returncode == 3
    shown = r"out/x\x1b[2J\x1b]0;t\x07\nerror: y\r\u202e\x9b1m.mp4"
    assert result.stdout == f"{shown}\n" and (tmp_path / "out" / f"{EVIL}.mp4").is_file()
    assert is_harmless(result.stderr) and r"badx\x1b[2J" in result.stderr
    assert "\nerror: y" not in result.stderr.replace("\r", "\n")
    for log in (tmp_path / "out" / ".fashionflow").glob("*.log"):
        assert is_harmless(log.read_text())


@pytest.mark.parametrize(
    "arguments",
    [
        ("models", "show", "evil"),
        ("models", "show", "unknown"),
        ("models", "list"),
        ("generate", f"bad{EVIL}.png", "-o", "a.mp4"),
        ("generate", f"no{EVIL}.png", "-o", "a.mp4"),
        ("evaluate", "--fake", f"no{EVIL}", "--metrics", "drift"),
        ("config", "show", "--config", f"no{EVIL}"),
        ("data", "download", f"bad{EVIL}.png", "-o", "d"),
    ],
    ids=lambda arguments: " ".join(arguments[:2]).encode("unicode_escape").decode(),
)
def test_commands(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    (tmp_path / f"bad{EVIL}.png").write_text("no photo")
    whole = json.loads((registry.find("mini-latent") / "model.json").read_text()) | {"purpose": EVIL, "name": EVIL}
    for name, model in (("evil", whole), ("unknown", whole | {EVIL: 1})):
        for folder in (tmp_path / name, tmp_path / "models" / name):
            folder.mkdir(parents=True)
            (folder / "model.json").write_text(json.dumps(model))
    env = {"FASHIONFLOW_HOME": str(tmp_path), "FASHIONFLOW_DEBUG": "1"}
    result = run(*arguments, cwd=tmp_path, env=env)
    assert is_harmless(result.stdout + result.stderr), (result.stdout, result.stderr)
    assert "internal" not in result.stderr and "\nerror: y" not in result.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
def test_bytes_that_are_no_text_go_through_pipes_and_not_to_terminals(tmp_path: Path) -> None:
    folder = os.fsdecode(b"m\x9b1m\xff")
    (tmp_path / folder).mkdir()
    (tmp_path / folder / "model.json").write_text("{}")
    command = [*COMMAND, "models", "path", folder]
    piped = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, check=True)
    assert piped.stdout.endswith(b"/m\x9b1m\xff\n")
    ours, theirs = pty.openpty()
    subprocess.run(command, cwd=tmp_path, env=environment(), stdout=theirs, stderr=theirs, check=True)
    os.close(theirs)
    assert os.read(ours, 10_000).endswith(rb"/m\udc9b1m\udcff" + b"\r\n")
    os.close(ours)
