"""Folders of photos and videos as disks have them: unreadable parts, side folders of systems, outputs of other runs."""

import errno
import json
import os
import subprocess
from pathlib import Path

import pytest
from catalogues import conventions, files, photo
from catalogues import quick_process as quick
from clips import moving
from command import run_process as run
from tiny import build_tiny_model

from fashionflow_core import video
from fashionflow_core.catalogue.inputs import read_inputs
from fashionflow_core.dataset.clips import named_videos
from fashionflow_core.errors import FashionFlowError
from fashionflow_core.evaluate.sources import find_clips
from fashionflow_core.utils import folders

# Root reads what nobody else may: processes started here find `lost+found` unreadable all the same.
_HOOK = """
import os
_scandir = os.scandir
def scandir(path="."):
    if os.path.basename(os.fspath(path)) == "lost+found":
        raise PermissionError(13, "Permission denied", path)
    return _scandir(path)
os.scandir = scandir
"""


@pytest.fixture
def unreadable(tmp_path: Path) -> dict[str, str]:
    """An environment whose processes cannot read folders named `lost+found`."""
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(_HOOK)
    return {"PYTHONPATH": os.pathsep.join([str(tmp_path / "hook"), os.environ.get("PYTHONPATH", "")])}


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `unreadable`, in this process."""
    scandir = os.scandir

    def refuse(path: str = ".") -> object:
        if os.path.basename(os.fspath(path)) == "lost+found":
            raise OSError(errno.EIO, "Input/output error", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)


@pytest.mark.usefixtures("broken")
@pytest.mark.parametrize("argument", ["shop", "shop/*/*.jpg", "shop/**/*.jpg"])
def test_an_unreadable_folder_is_named_and_the_search_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argument: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a/1.jpg", "lost+found/2.jpg", "z/3.jpg"):
        photo(Path("shop", name))
    found = read_inputs([argument], Path("out"), bytes)
    assert [entry.source for entry in found.entries] == ["shop/a/1.jpg", "shop/z/3.jpg"]
    assert found.skipped.unreadable == ["shop/lost+found: folder cannot be read (input/output error)"]
    with pytest.raises(FashionFlowError, match=r"^shop/lost\+found: folder cannot be read"):
        read_inputs(["shop/lost+found"], Path("out"), bytes)
    assert not read_inputs(["shop/a/*.jpg"], Path("out"), bytes).skipped.unreadable  # nor looked at


@pytest.mark.usefixtures("broken")
def test_searches_for_videos_name_unreadable_folders_or_refuse_them(tmp_path: Path) -> None:
    for name in ("a/1.mp4", "lost+found/2.mp4", "z/3.mp4"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    for search in (lambda lines: named_videos([tmp_path], lines), lambda lines: find_clips(tmp_path, lines)):
        lines: list[str] = []
        assert len(search(lines)) == 2
        assert len(lines) == 1 and lines[0].startswith(f"{tmp_path / 'lost+found'}: ")
        with pytest.raises(FashionFlowError, match="cannot be read"):
            search(None)


def test_side_folders_of_systems_are_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sides = ("@eaDir", "#recycle", "$RECYCLE.BIN", "__MACOSX", ".thumbnails", "System Volume Information", "x/@EADIR")
    for side in sides:
        photo(Path("shop", side, "a.jpg"))
        Path("shop", side, "a.mp4").touch()
    photo(Path("shop", "._a.jpg"))
    Path("shop", "._a.mp4").touch()
    photo(Path("shop", "a.jpg"))
    Path("shop", "a.mp4").touch()
    for argument in ("shop", "shop/*", "shop/**", "shop/*.jpg", "memory:///shop"):
        if argument.startswith("memory"):
            fsspec = pytest.importorskip("fsspec")
            fsspec.filesystem("memory").put("shop", "/", recursive=True)
        found = read_inputs([argument], Path("out"), bytes)
        assert [Path(entry.source).name for entry in found.entries] == ["a.jpg"], argument
        assert not found.skipped.unreadable
    assert list(named_videos([Path("shop")])) == ["shop/a.mp4"]
    assert [clip.name for clip in find_clips(Path("shop"))] == ["a.mp4"]
    # A side folder that is named itself is meant.
    assert [entry.source for entry in read_inputs(["shop/@eaDir"], Path("out"), bytes).entries] == ["shop/@eaDir/a.jpg"]


@pytest.mark.parametrize("argument", ["shop", "shop/**/*.jpg", "shop/*/*.jpg", "memory:///disk/shop"])
def test_outputs_of_another_run_are_not_photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argument: str) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("women/a.jpg", "videos/a-poster.jpg", "videos/women/a-poster.jpg", "now/a-poster.jpg"):
        photo(Path("shop", name))
    for name in ("videos/a.mp4", "videos/manifest.jsonl", "now/manifest.jsonl"):
        Path("shop", name).touch()
    out = Path("shop/now")
    if "://" in argument:
        fsspec = pytest.importorskip("fsspec")
        fsspec.filesystem("memory").put("shop", "/disk/", recursive=True)
        out = Path("elsewhere")
    found = read_inputs([argument], out, bytes)
    assert [entry.source for entry in found.entries] == [f"{argument.split('/*')[0]}/women/a.jpg"]
    *own, line = found.skipped.lines()
    assert "shop/videos" in line and "the output folder of another run" in line
    assert bool(own) == ("://" in argument)


def test_folders_a_thousand_deep_and_links_in_circles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / "deep"
    deep.mkdir()
    monkeypatch.chdir(deep)
    for _ in range(2500):  # relative, since no path may be that long
        os.mkdir("d")
        os.chdir("d")
    monkeypatch.chdir(tmp_path)
    photo(deep / "a.jpg")
    (deep / "up").symlink_to("..")
    lines: list[str] = []
    try:
        assert list(folders.walk(deep, lines)) == [str(deep / "a.jpg")]
        assert [line.endswith("(file name too long)") for line in lines] == [True]
    finally:  # which pytest cannot remove
        subprocess.run(["rm", "-rf", deep], check=True)


def test_a_catalogue_with_an_unreadable_folder_ends_partly_done(tmp_path: Path, unreadable: dict[str, str]) -> None:
    conventions(tmp_path / "model")
    for name in ("a.jpg", "lost+found/b.jpg", "@eaDir/c.jpg"):
        photo(tmp_path / "shop" / name)
    result = quick("shop", "-o", "out", "--model", "model", cwd=tmp_path, env=unreadable)
    assert result.returncode == 3
    assert files(tmp_path / "out") == ["a-poster.jpg", "a.mp4"]
    said = "shop/lost+found: folder cannot be read (permission denied)"
    assert f"failed: {said}\n" in result.stderr and f"error: {said}\n" in result.stderr
    again = quick("shop", "-o", "out", "--model", "model", "--quiet", cwd=tmp_path, env=unreadable)
    assert (again.returncode, again.stdout) == (3, "")
    assert quick("shop", "-o", "out", "--model", "model", cwd=tmp_path).returncode == 0


@pytest.mark.slow
def test_prepare_evaluate_and_grid_with_an_unreadable_folder(tmp_path: Path, unreadable: dict[str, str]) -> None:
    build_tiny_model(tmp_path / "model")
    for name in ("a", "lost+found/b"):
        (tmp_path / "clips" / name).parent.mkdir(parents=True, exist_ok=True)
        video.write(moving(8), tmp_path / "clips" / f"{name}.mp4", fps=10, count=8)
    said = "clips/lost+found: folder cannot be read (permission denied)"
    for arguments in (
        ("data", "prepare", "clips", "-o", "cache", "--model", "model", "--frames", "4", "--json"),
        ("evaluate", "--fake", "clips", "--metrics", "drift", "--json"),
        ("grid", "clips", "clips", "-o", "grid.png"),
    ):
        result = run(*arguments, cwd=tmp_path, env=unreadable)
        assert result.returncode == 3, result.stderr
        assert said in result.stderr.replace(f"{tmp_path}/", ""), result.stderr
        if "--json" in arguments:
            assert said in json.dumps(json.loads(result.stdout)).replace(f"{tmp_path}/", "")
    assert (tmp_path / "grid.png").is_file()
