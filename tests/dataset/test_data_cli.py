"""`fashionflow data prepare` as its users meet it: real processes, real files, real kills."""

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from clips import moving
from command import assert_refused, run, started, wait_until
from tiny import build_tiny_model

from fashionflow_core import video
from fashionflow_core.dataset.cache import LatentCache


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "videos"
    for number in range(4):
        path = folder / ("train" if number else "test") / f"91+3 {number}é.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        video.write(moving(60 + number, 48, 40), path, fps=30, count=60 + number)
    return folder


def without_video(path: Path) -> Path:
    """A file of sound alone."""
    import av
    import numpy as np

    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)
    return path


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def test_a_folder_becomes_a_cache(videos: Path, model: Path, tmp_path: Path):
    folder = tmp_path / "videos"
    shutil.copytree(videos, folder)
    command = ("data", "prepare", "videos", "-o", "new/cache", "--model", model, "--clips-per-video", "2")

    planned = run(*command, "--dry-run", "--json", cwd=tmp_path)
    assert planned.returncode == 0, planned.stderr
    plan = json.loads(planned.stdout)
    assert (plan["videos"], plan["clips"], plan["already"], plan["frames"]) == (4, 8, 0, 4)
    assert [source["source"] for source in plan["sources"]] == [
        "videos/test/91+3 0é.mp4",
        *(f"videos/train/91+3 {number}é.mp4" for number in (1, 2, 3)),
    ]
    assert not (tmp_path / "new").exists()

    done = run(*command, "--workers", "3", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "new/cache\n"), done.stderr
    assert "8 clips encoded, 0 kept, 8 in all" in done.stderr
    cache = LatentCache(tmp_path / "new" / "cache")
    stored = sum(path.stat().st_size for path in cache.folder.glob("clips-*"))
    assert len(cache) == 8 and len(LatentCache(cache.folder, "test")) == 2
    assert stored == pytest.approx(plan["bytes"], rel=0.1)

    # More come, none of them good: they are named, the others stay.
    (folder / "broken.mp4").write_bytes((folder / "train" / "91+3 1é.mp4").read_bytes()[:1500])
    (folder / "empty.mp4").write_bytes(b"")
    without_video(folder / "sound.mp4")
    video.write(moving(3, 48, 40), folder / "short.mp4", fps=30, count=3)
    again = run(*command, "-q", "--json", cwd=tmp_path)
    assert again.returncode == 3
    summary = json.loads(again.stdout)
    assert (summary["encoded"], summary["kept"], summary["clips"]) == (0, 8, 8)
    names = ["broken.mp4", "empty.mp4", "short.mp4", "sound.mp4"]
    assert [entry["source"] for entry in summary["left_out"]] == [f"videos/{name}" for name in names]
    lines = again.stderr.splitlines()
    assert len(lines) == 6 and all(f"left out: videos/{name}: " in line for name, line in zip(names, lines))
    assert lines[4].startswith("error: 4 of 8 videos could not be used")


def test_what_cannot_be_done_is_refused_in_a_line(videos: Path, model: Path, tmp_path: Path):
    (tmp_path / "nothing").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "page.mp4").write_text("<html>")
    for arguments, code, words in (
        (("gone", "-o", "c"), 1, "gone: no such file or folder"),
        (("nothing", "-o", "c"), 1, "nothing: no videos found"),
        ((videos, "-o", "c", "--strides", "1,0"), 2, "'1,0' is not a list of whole numbers"),
        ((videos, "-o", "nothing/x", "--model", "gone"), 1, "'gone' is neither a known model nor a folder"),
        ((videos, "-o", "bad", "--model", model), 1, "bad: not empty, and not a cache of clips"),
    ):
        assert_refused(run("data", "prepare", *arguments, "-q", cwd=tmp_path), code, words)
    none = run("data", "prepare", "bad", "-o", "c", "--model", model, "-q", cwd=tmp_path)
    assert none.returncode == 1 and none.stdout == ""
    left_out, error, _ = none.stderr.splitlines()
    assert left_out.startswith("left out: bad/page.mp4: ") and error == "error: bad: none of the 1 videos can be used"
    assert not (tmp_path / "c").exists()


def prepare(videos: Path, cache: str, model: Path) -> list[str | Path]:
    """A command that takes a few seconds and many steps: 160 clips, six a shard."""
    options = ["--model", model, "--clips-per-video", "40", "--shard-mb", "0.25"]
    return ["data", "prepare", videos, "-o", cache, *options]


@pytest.fixture
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Here and in processes that are started: the last bits of latents depend on the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_kills_at_any_moment_cost_nothing_that_was_finished(videos: Path, model: Path, tmp_path: Path):
    assert run(*prepare(videos, "whole", model), cwd=tmp_path).returncode == 0
    whole = content(tmp_path / "whole")
    assert len(whole) > 20
    folder, log, draw = tmp_path / "cache", tmp_path / "log", random.Random(0)
    finished, kills = 0, 0

    def count() -> int:
        clips = len(LatentCache(folder)) if (folder / "index.json").exists() else 0
        return clips + len(list((folder / "parts").glob("[!.]*")))

    for more in (0, 7, 45, 60):
        enough = finished + more
        with started(*prepare(videos, "cache", model), cwd=tmp_path, log=log) as process:
            wait_until(lambda enough=enough: (folder / "index.json").exists() and count() >= enough, process, log)
            time.sleep(draw.random() / 100)
            process.send_signal(signal.SIGKILL)
            process.wait()
        kills += 1
        for clip in LatentCache(folder):
            assert clip.latents_mean.isfinite().all() and clip.first_frame.any()
        finished = count()
    assert finished > 100 and kills == 4
    index_before = {path.name: os.stat(path).st_mtime_ns for path in folder.glob("clips-*")}
    last = run(*prepare(videos, "cache", model), "--json", "-q", cwd=tmp_path)
    assert last.returncode == 0, last.stderr
    # A part that was in a shard already may have been counted twice.
    assert json.loads(last.stdout)["kept"] >= finished - 4
    assert {name: os.stat(folder / name).st_mtime_ns for name in index_before} == index_before
    assert content(folder) == whole


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_runs_end_soon_and_are_alone(videos: Path, model: Path, tmp_path: Path, signum: signal.Signals):
    log, folder = tmp_path / "log", tmp_path / "cache"
    with started(*prepare(videos, "cache", model), cwd=tmp_path, log=log) as process:
        wait_until(lambda: any(folder.glob("clips-*")), process, log)
        process.send_signal(signal.SIGSTOP)  # it holds the cache, however fast it is
        second = run(*prepare(videos, "cache", model), "-q", cwd=tmp_path)
        assert_refused(second, 1, "cache: another fashionflow data prepare is writing to it")
        process.send_signal(signal.SIGCONT)
        process.send_signal(signum)
        assert process.wait(timeout=30) == 128 + signum, log.read_text()
    assert not (folder / "index.json").exists() or len(LatentCache(folder)) < 160  # what was left to do stayed undone
    assert "Traceback" not in log.read_text()
    assert run(*prepare(videos, "cache", model), cwd=tmp_path).returncode == 0
    assert len(LatentCache(folder)) == 160 and not (folder / "parts").exists()
