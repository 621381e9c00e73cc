"""Users without a home folder, shells that close streams, terminals that end, `python -OO`."""

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from catalogues import photo
from command import COMMAND, assert_refused, environment, started, wait_until
from command import run_process as run

from fashionflow_core.store import registry
from fashionflow_core.utils.paths import NoHome, cache_home, expanded

SMALL = ("--frames", "4", "--steps", "1", "--size", "64x48", "--quiet")

# What a system says that does not know the user.
_HOOK = """
import pwd
def unknown(user):
    raise KeyError(user)
pwd.getpwuid = pwd.getpwnam = unknown
"""


def _homeless(folder: Path) -> dict[str, str]:
    """An environment without a home folder."""
    (folder / "hook").mkdir()
    (folder / "hook" / "sitecustomize.py").write_text(_HOOK)
    gone = ("HOME", "USER", "LOGNAME", "XDG_CACHE_HOME", "FASHIONFLOW_HOME", "HF_HOME")
    kept = {name: value for name, value in environment().items() if name not in gone}
    return kept | {"PYTHONPATH": os.pathsep.join([str(folder / "hook"), kept.get("PYTHONPATH", "")])}


def _run(*arguments: str, cwd: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], cwd=cwd, env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "arguments",
    [("models", "pull", "x/y"), ("generate", "a.jpg", "-o", "s3://b/videos")],
    ids=" ".join,
)
def test_what_needs_a_home_folder_says_so(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    photo(tmp_path / "a.jpg")
    result = _run(*arguments, cwd=tmp_path, env=_homeless(tmp_path))
    assert_refused(result, 1, "HOME: not set")
    assert "export FASHIONFLOW_HOME=" in result.stderr
    assert not (tmp_path / "~").exists()


def test_completion_without_a_home_folder_says_so(tmp_path: Path) -> None:
    # The shell whose completion is installed is the command's parent process; a shell stays one if more follows.
    command = f"{shlex.join([*COMMAND, '--install-completion'])}; exit $?"
    result = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, env=_homeless(tmp_path), capture_output=True, text=True, check=False
    )
    assert_refused(result, 1, "HOME: not set")
    assert "export FASHIONFLOW_HOME=" in result.stderr
    assert not (tmp_path / "~").exists()


def test_models_are_found_without_a_home_folder(tmp_path: Path) -> None:
    env = _homeless(tmp_path)
    result = _run("models", "list", cwd=tmp_path, env=env)
    assert result.returncode == 0 and result.stdout.startswith("mini "), result.stderr
    assert_refused(_run("models", "path", "~nobody/x", cwd=tmp_path, env=env), 1, "'~nobody/x' is neither")


@pytest.mark.slow
def test_generate_works_without_a_home_folder_and_doctor_names_the_cure(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg")
    env = _homeless(tmp_path)
    result = _run("generate", "a.jpg", "-o", "a.mp4", *SMALL, cwd=tmp_path, env=env)
    assert result.returncode == 0, result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jpg", "a.mp4", "hook"]
    found = json.loads(_run("doctor", "--json", cwd=tmp_path, env=env).stdout)
    assert found["can_run"]
    assert "set FASHIONFLOW_HOME to a writable folder" in [check["fix"] for check in found["checks"]]


def test_a_home_that_cannot_be_read_hides_no_bundled_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASHIONFLOW_HOME", str(tmp_path))

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert registry.find("mini").name == "mini"
    for name in ("HOME", "FASHIONFLOW_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda uid: {}[uid])
    assert expanded("~/a") == Path("~/a")
    with pytest.raises(NoHome):
        cache_home()


@pytest.mark.slow
@pytest.mark.parametrize("closed", ["<&- 2>&-", "<&- >&- 2>&-", "<&-"])
def test_streams_may_be_closed(tmp_path: Path, closed: str) -> None:
    """Files that are opened must not take their numbers."""
    photo(tmp_path / "a.jpg")
    command = shlex.join([*COMMAND, "generate", "a.jpg", "-o", "a.mp4", *SMALL])
    done = subprocess.run(f"exec {command} {closed}", shell=True, cwd=tmp_path, env=environment(), check=False)
    assert done.returncode == 0
    assert (tmp_path / "a.mp4").stat().st_size > 0
    none = subprocess.run(
        f"exec {shlex.join([*COMMAND, 'generate', '-', '-o', 'b.mp4'])} {closed}",
        shell=True,
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        check=False,
    )
    assert none.returncode == 1 and b"internal" not in none.stderr


def test_python_without_docstrings_is_refused_in_one_line(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg")
    env = environment({"PYTHONOPTIMIZE": "2"})
    assert_refused(_run("generate", "a.jpg", "-o", "a.mp4", cwd=tmp_path, env=env), 1, "python -OO")
    assert _run("models", "list", cwd=tmp_path, env=env).returncode == 0


# Names


@pytest.mark.parametrize(
    "arguments",
    [
        ("generate", "a.jpg", "-o", "x" * 252 + ".mp4"),
        ("generate", "a.jpg", "-o", "x" * 251 + ".mp4", "--poster"),
        ("generate", "a.jpg", "-o", "x" * 251 + ".mp4", "--variations", "2"),
        ("generate", "a.jpg", "-o", "a.mp4", "--frames-dir", "é" * 128),
    ],
    ids=["video", "poster", "variations", "frames"],
)
def test_names_that_are_too_long_are_refused_before_the_work(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    photo(tmp_path / "a.jpg")
    result = run(*arguments, cwd=tmp_path)
    assert result.returncode == 1
    assert "file name too long" in result.stderr.splitlines()[0] and "denoising" not in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["a.jpg"]


@pytest.mark.slow
def test_names_of_255_bytes(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg")
    video, frames = "é" * 125 + "x.mp4", "深" * 85
    for _ in range(2):
        options = ("--frames-dir", frames, *SMALL, "--overwrite")
        result = run("generate", "a.jpg", "-o", video, *options, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["a.jpg", video, frames])


# SIGHUP


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGHUP")
@pytest.mark.slow
def test_the_end_of_the_terminal_leaves_no_temporary_file(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg")
    command = ("generate", "a.jpg", "-o", "a.mp4", "--frames-dir", "frames")
    log = tmp_path / "log"
    with started(*command, cwd=tmp_path, log=log) as process:
        wait_until(lambda: any(tmp_path.glob(".a.*.mp4")), process, log)
        process.send_signal(signal.SIGHUP)
        assert process.wait(60) == 128 + signal.SIGHUP
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jpg", "log"]
