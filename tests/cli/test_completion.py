"""Shell completion: installed by the command itself, then tried in a real interactive shell with a real Tab key."""

import os
import re
import shutil
import sys
from pathlib import Path

import pexpect
import pytest


@pytest.fixture(params=["bash", "zsh"])
def shell(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A shell whose home folder is empty, with our command in its path."""
    if shutil.which(request.param) is None:
        pytest.skip(f"needs {request.param} (Debian: apt-get install {request.param})")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("TERM", "dumb")
    for name in ("ZDOTDIR", "BASH_ENV", "ENV"):
        monkeypatch.delenv(name, raising=False)
    return request.param


def install(shell: str) -> str:
    # Two commands: a shell with one would replace itself by it, and our command finds its shell as its parent.
    return str(pexpect.run(f"{shell} -c 'fashionflow --install-completion; exit $?'", encoding="utf-8", timeout=60))


def tab_shows(shell: str, typed: str, wanted: str) -> bool:
    """Whether an interactive shell shows `wanted` after `typed` and Tab keys."""
    child = pexpect.spawn(shell, ["-i"], encoding="utf-8", timeout=60, dimensions=(50, 160))
    try:
        child.sendline("echo set''tled")
        child.expect("settled")
        child.send(typed)
        child.expect(re.escape(typed[-5:]))
        for _ in range(2):  # bash lists candidates only at the second Tab
            child.send("\t")
            if child.expect([re.escape(wanted), pexpect.TIMEOUT], timeout=4) == 0:
                return True
        return False
    finally:
        child.close(force=True)


@pytest.mark.slow
def test_installed_completion_completes_options_and_values(shell: str) -> None:
    assert not tab_shows(shell, "fashionflow generate --sched", "uler"), "the control: nothing is installed yet"
    assert "completion installed" in install(shell)
    assert tab_shows(shell, "fashionflow generate --sched", "uler")
    assert tab_shows(shell, "fashionflow generate --scheduler uni", "pc")
    assert tab_shows(shell, "fashionflow models sh", "ow")
