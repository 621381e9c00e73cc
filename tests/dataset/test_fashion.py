"""`fashionflow data download fashion`: published lists, splits, integrity."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from clips import moving
from command import assert_refused, run
from video_server import Site, serving

from fashionflow_core import video
from fashionflow_core.dataset import fashion
from fashionflow_core.dataset.clips import named_videos


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Three small videos of different content."""
    folder = tmp_path_factory.mktemp("clips")
    made = []
    for frames in (6, 8, 10):
        path = folder / f"{frames}.mp4"
        video.write(moving(frames), path, fps=25, count=frames)
        made.append(path.read_bytes())
    return made


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch, clips: list[bytes]) -> Iterator[Site]:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with serving() as site:
        site.files = {f"/{index}.mp4": clip for index, clip in enumerate(clips)}
        yield site


def lists(site: Site, folder: Path, train: list[str], test: list[str]) -> list[str | Path]:
    """The options that name two lists of paths of the site."""
    words: list[str | Path] = []
    for split, paths in (("train", train), ("test", test)):
        (folder / f"{split}.txt").write_text("".join(f"{site.url}{path}\n" for path in paths))
        words += [f"--{split}-list", folder / f"{split}.txt"]
    return words


def test_splits_are_kept_and_checked(site: Site, tmp_path: Path):
    named = lists(site, tmp_path, ["/0.mp4", "/1.mp4"], ["/2.mp4"])
    result = run("data", "download", "fashion", *named, "-o", "fashion", "--json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "states no licence" in result.stderr
    report = json.loads(result.stdout)["integrity"]
    assert json.loads((tmp_path / "fashion" / "integrity.json").read_text()) == report
    train, test = report["splits"]["train"], report["splits"]["test"]
    assert (train["expected"], train["listed"], train["complete"], train["frames"]) == (500, 2, 2, [6, 8])
    assert (test["expected"], test["listed"], test["complete"]) == (100, 1, 1)
    assert sum(train["sizes"].values()) == 2
    assert report["problems"] == [
        "train: 2 videos listed, the paper has 500",
        "test: 1 videos listed, the paper has 100",
    ]
    names = set(named_videos([tmp_path / "fashion"], []))  # what `data prepare` finds, with its splits
    assert {name.split("/")[-2] for name in names} == {"train", "test"} and len(names) == 3


def test_a_second_run_downloads_nothing_and_finds_damage(site: Site, tmp_path: Path):
    named = lists(site, tmp_path, ["/0.mp4"], ["/2.mp4"])
    command = ("data", "download", "fashion", *named, "-o", "fashion")
    assert run(*command, cwd=tmp_path).returncode == 0
    requests = len(site.log)
    damaged = tmp_path / "fashion" / "train" / "0.mp4"
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    again = run(*command, cwd=tmp_path)
    assert len(site.log) == requests
    assert "problem: train/0.mp4: changed since its download" in again.stderr
    assert "train: 0 of 1 videos complete (paper: 500)" in again.stderr


def test_a_video_of_both_splits_is_only_tested_on(site: Site, tmp_path: Path, clips: list[bytes]):
    """By its address, and by its content under another address."""
    site.files["/copy.mp4"] = clips[2]
    named = lists(site, tmp_path, ["/0.mp4", "/2.mp4", "/copy.mp4"], ["/2.mp4"])
    result = run("data", "download", "fashion", *named, "-o", "fashion", cwd=tmp_path)
    assert f"problem: {site.url}/2.mp4: in both lists; kept in test only" in result.stderr
    assert "problem: test/2.mp4: same video as train/copy.mp4" in result.stderr
    assert not (tmp_path / "fashion" / "train" / "2.mp4").exists()


def test_lists_of_an_address(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Without options the lists are those of the authors' page."""
    for split, path in (("train", "/0.mp4"), ("test", "/1.mp4")):
        site.files[f"/fashion_{split}.txt"] = f"{site.url}{path}\n".encode()
        monkeypatch.setitem(fashion.LISTS, split, f"{site.url}/fashion_{split}.txt")
    result = run("data", "download", "fashion", "-o", "fashion", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert sorted(path.name for path in (tmp_path / "fashion").rglob("*.mp4")) == ["0.mp4", "1.mp4"]
    site.files["/fashion_test.txt"] = b"<!doctype html><title>sign in</title>"
    assert_refused(
        run("data", "download", "fashion", "-o", "new", "-q", cwd=tmp_path),
        1,
        "fashion_test.txt: a web page, not a list",
    )


def test_missing_videos_are_named(site: Site, tmp_path: Path):
    named = lists(site, tmp_path, ["/0.mp4", "/gone.mp4"], ["/1.mp4"])
    result = run("data", "download", "fashion", *named, "-o", "fashion", cwd=tmp_path)
    assert result.returncode == 3
    report = json.loads((tmp_path / "fashion" / "integrity.json").read_text())
    assert report["splits"]["train"]["missing"] == ["train/gone.mp4"]


def test_options_of_the_dataset_alone(tmp_path: Path):
    (tmp_path / "list.txt").write_text("http://127.0.0.1:9/a.mp4\n")
    refused = run("data", "download", "list.txt", "--train-list", "a.txt", "-o", "videos", cwd=tmp_path)
    assert_refused(refused, 2, "--train-list: only for the dataset fashion")
