"""Outputs on network shares, USB sticks and bucket mounts, which lack permissions, folder fsync, locks or a size."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from catalogues import QUICK, conventions, photo
from command import environment
from places import GOLDEN

from fashionflow_core.errors import FashionFlowError, FashionFlowWarning
from fashionflow_core.utils import files, locks

SOURCE = GOLDEN / "cases" / "odd_filesystem.c"


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that makes calls fail for paths that hold `/odd`."""
    compiler = shutil.which("cc")
    if sys.platform != "linux" or compiler is None:
        pytest.skip("needs Linux and a C compiler")
    made = tmp_path_factory.mktemp("shim") / "odd.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-w", "-o", made, SOURCE, "-ldl"], check=True)
    return made


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["chmod,fsyncdir", "fsyncdir_nosup,flock_nolck", "free0,utime", "flock_nosys"])
def test_catalogues_on_odd_file_systems(tmp_path: Path, shim: Path, fault: str) -> None:
    out = tmp_path / "odd"
    photo(tmp_path / "photos" / "a.jpg")
    conventions(tmp_path / "model")
    odd = {"LD_PRELOAD": str(shim), "SHIM": fault}
    command = [*QUICK, "generate", "photos", "-o", out, "--model", "model"]
    result = subprocess.run(
        list(map(str, command)), cwd=tmp_path, env=environment(odd), capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert [json.loads(line)["status"] for line in (out / "manifest.jsonl").open()] == ["done"]
    assert (out / "a.mp4").stat().st_size > 0 and ("no locks" in result.stderr) == ("nolck" in fault)


def test_permissions_and_folder_fsync_are_best_effort(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "not permitted")

    fsync = os.fsync
    monkeypatch.setattr(Path, "chmod", refuse)
    monkeypatch.setattr(os, "fsync", lambda d: refuse() if os.path.isdir(f"/proc/self/fd/{d}") else fsync(d))
    files.write_text(tmp_path / "a.txt", "whole")
    assert (tmp_path / "a.txt").read_text() == "whole"


def test_a_file_that_cannot_be_flushed_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="broken"):
        files.write_text(tmp_path / "a.txt", "whole")
    assert not list(tmp_path.iterdir())


def test_a_disk_of_size_zero_is_not_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(0, 0, 0))  # type: ignore[attr-defined]
    assert files.free_bytes(tmp_path) > 1e18


def test_a_file_system_without_locks_is_used_with_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class NoLocks:
        def __init__(self, *_: object) -> None: ...

        def acquire(self, **_: object) -> None:
            raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(locks, "FileLock", NoLocks)
    with pytest.warns(FashionFlowWarning, match="no locks"), locks.locked(tmp_path / "out", "run"):
        assert (tmp_path / "out").is_dir()


@pytest.mark.parametrize("letter", ["a", "ü"])
def test_names_of_the_greatest_length(tmp_path: Path, letter: str) -> None:
    name = letter * (251 // len(letter.encode())) + ".txt"
    files.write_text(tmp_path / name, "whole")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_link_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "real.txt").write_text("older")
    for name in ("link.txt", "link of link.txt", "dangling.txt"):
        target = {"link.txt": "far/real.txt", "link of link.txt": "link.txt"}.get(name, "far/new.txt")
        (tmp_path / name).symlink_to(target)
        files.write_text(files.check_target(tmp_path / name, overwrite=True), name)
        assert (tmp_path / name).is_symlink() and (tmp_path / name).read_text() == name
    assert sorted(path.name for path in (tmp_path / "far").iterdir()) == ["new.txt", "real.txt"]
    (tmp_path / "lost.txt").symlink_to("nowhere/real.txt")
    with pytest.raises(FashionFlowError, match=r"folder .*nowhere does not exist"):
        files.check_target(tmp_path / "lost.txt", overwrite=True)
