"""Whatever ends a run, or a part of it: nothing half-written, nothing lost, nothing made twice."""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import disks
import pytest
from catalogues import assert_whole, conventions, files, last, lines, plain, quick, quick_started, shop, workers
from command import started, wait_until
from quick_model import DARK, DEADLY, HELD, HOLD, LOG, PATIENCE, POISON, SECONDS
from tiny import build_tiny_model

LINUX = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds processes in Linux's /proc")


def done(out: Path) -> Counter[str]:
    """Done-lines by item, while a run may be writing."""
    try:
        text = (out / "manifest.jsonl").read_text()
    except FileNotFoundError:
        return Counter()
    finished = [line for line in text.splitlines() if line.endswith("}") and '"status": "done"' in line]
    return Counter(line.split('"item": "')[1].split('"')[0] for line in finished)


def assert_videos_decode(out: Path) -> None:
    """Also right after a kill, when files under way may lie in the hidden folder."""
    from fashionflow_core import video

    for name in files(out):
        if name.endswith(".mp4"):
            assert len(video.read(out / name)) == 4, name


@pytest.mark.slow
@pytest.mark.parametrize("devices", ["cpu", "cpu,cpu"])
def test_killed_twenty_times(tmp_path: Path, devices: str) -> None:
    """kill -9 of the run, and with two workers now and then of a worker, at random moments of 40 items."""
    photos, out, model = shop(tmp_path / "photos", 40), tmp_path / "out", conventions(tmp_path / "model")
    env = {SECONDS: "0.1", LOG: str(tmp_path / "batches")}
    command = (photos, "-o", out, "--model", model, "--devices", devices)
    moments = random.Random(7)
    repeated = 0
    for kill in range(20):
        before, have = done(out), {name: (out / name).stat().st_ino for name in files(out) if name.endswith(".mp4")}
        with quick_started(*command, cwd=tmp_path, env=env) as process:
            # Some kills come while it starts, most while items are under way.
            if kill % 4:
                deadline = time.monotonic() + 120
                while sum(done(out).values()) <= sum(before.values()) and process.poll() is None:
                    assert time.monotonic() < deadline, (tmp_path / "log").read_text()
                    time.sleep(0.01)
            time.sleep(moments.uniform(0, 0.25))
            if devices != "cpu" and kill % 5 == 2 and workers(process.pid):
                os.kill(moments.choice(workers(process.pid)), signal.SIGKILL)
                time.sleep(moments.uniform(0, 0.5))
            process.kill()
        repeated += sum((out / name).stat().st_ino != inode for name, inode in have.items())
        assert_videos_decode(out)
        if sum(done(out).values()) >= 38:
            break
    result = quick(*command, cwd=tmp_path, env=env)
    assert result.returncode == 0, result.stderr
    assert assert_whole(out) == [f"{number:03d}.mp4" for number in range(40)]
    assert repeated == 0
    assert done(out) == Counter({f"{number:03d}": 1 for number in range(40)})
    assert len(files(out)) == 80


@LINUX
def test_a_dead_worker_is_replaced(tmp_path: Path) -> None:
    """Killed while each of the two is at a photo that it cannot finish."""
    photos, out, model = shop(tmp_path / "photos", 10), tmp_path / "out", conventions(tmp_path / "model")
    for number in range(2):
        plain(photos / f"0-held-{number}.png", (250, 5, HELD))
    hold, batches = tmp_path / "hold", tmp_path / "batches"
    hold.touch()
    command = (photos, "-o", out, "--model", model, "--devices", "cpu,cpu")
    with quick_started(*command, cwd=tmp_path, env={HOLD: str(hold), LOG: str(batches)}) as process:
        held = f"1 (250, 5, {HELD})\n"
        wait_until(lambda: batches.exists() and batches.read_text() == 2 * held, process, tmp_path / "log")
        os.kill(workers(process.pid)[0], signal.SIGKILL)
        wait_until(lambda: "it is replaced" in (tmp_path / "log").read_text(), process, tmp_path / "log")
        hold.unlink()
        assert process.wait(120) == 0, (tmp_path / "log").read_text()
    assert len(assert_whole(out)) == 12
    assert set(done(out).values()) == {1}
    (retried,) = [record for record in lines(out) if record["status"] == "retried"]
    assert "signal 9" in retried["message"] and "held" in retried["item"]
    assert last(out)[retried["item"]]["attempt"] == 2
    assert "was killed by signal 9; it is replaced" in (tmp_path / "log").read_text()


@pytest.mark.slow
def test_items_that_do_harm_do_it_alone(tmp_path: Path) -> None:
    """One that kills its worker is lost after its second try, one is poison, one never fits; 20 others are made."""
    photos, out, model = shop(tmp_path / "photos", 20), tmp_path / "out", conventions(tmp_path / "model")
    for name, blue in (("deadly", DEADLY), ("poison", POISON), ("huge", DARK)):
        plain(photos / f"005-{name}.png", (250, 5, blue))
    command = (photos, "-o", out, "--model", model, "--devices", "cpu,cpu")
    log = tmp_path / "batches"
    result = quick(*command, cwd=tmp_path, env={LOG: str(log)})
    assert result.returncode == 3, result.stderr
    records = last(out)
    assert Counter(record["status"] for record in records.values()) == {"done": 20, "failed": 2, "lost": 1}
    lost = records["005-deadly"]
    assert (lost["status"], lost["attempt"], lost["stage"], lost["error_class"]) == ("lost", 2, "worker", "WorkerDied")
    assert (records["005-poison"]["stage"], records["005-poison"]["message"]) == ("denoise", "this photo is poison")
    assert records["005-huge"]["error_class"] == "OutOfMemory"
    batches = log.read_text().splitlines()
    for blue, tries in ((DEADLY, 2), (POISON, 1), (DARK, 2)):
        assert batches.count(f"1 (250, 5, {blue})") == tries, batches
    assert len(assert_whole(out)) == 20
    again = quick(*command, cwd=tmp_path, env={LOG: str(log)})
    assert again.returncode == 3 and len(log.read_text().splitlines()) == len(batches)


@pytest.mark.parametrize("signum, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_one_signal_stops_between_steps(tmp_path: Path, signum: int, code: int) -> None:
    photos, out, model = shop(tmp_path / "photos", 12), tmp_path / "out", conventions(tmp_path / "model")
    command, log = (photos, "-o", out, "--model", model), tmp_path / "log"
    with quick_started(*command, cwd=tmp_path, env={SECONDS: "1"}) as process:
        wait_until(lambda: len(done(out)) >= 2, process, log)
        for pid in (*workers(process.pid), process.pid):  # a terminal sends it to all
            os.kill(pid, signum)
        wait_until(lambda: "finishing the current video" in log.read_text(), process, log)
        before = len(done(out))
        assert process.wait(60) == code, log.read_text()
    made = len(assert_whole(out))
    assert 2 <= made <= before + 3 and made == len(done(out))  # one that is denoised, one decoded, one written
    assert "Traceback" not in log.read_text()
    result = quick(*command, cwd=tmp_path)
    assert result.returncode == 0 and len(assert_whole(out)) == 12
    assert set(done(out).values()) == {1}


def test_a_second_signal_stops_now(tmp_path: Path) -> None:
    """A step that takes hours; the first signal alone would wait for it."""
    photos, out, model = shop(tmp_path / "photos", 4), tmp_path / "out", conventions(tmp_path / "model")
    log, batches = tmp_path / "log", tmp_path / "batches"
    env = {SECONDS: "10000", PATIENCE: "10000", LOG: str(batches)}
    with quick_started(photos, "-o", out, "--model", model, cwd=tmp_path, env=env) as process:
        wait_until(batches.exists, process, log)
        process.send_signal(signal.SIGINT)
        wait_until(lambda: "Ctrl-C again to stop now" in log.read_text(), process, log)
        time.sleep(1.2)  # another one within a second is taken for an echo of the first
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    assert files(out) == []


@pytest.mark.slow
def test_the_real_model_stops_between_steps(tmp_path: Path) -> None:
    photos, out = shop(tmp_path / "photos", 3), tmp_path / "out"
    model, log = build_tiny_model(tmp_path / "tiny"), tmp_path / "log"
    with started("generate", photos, "-o", out, "-m", model, "--steps", "900", cwd=tmp_path, log=log) as process:
        wait_until(lambda: "model open" in log.read_text(), process, log)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130, log.read_text()
    assert len(assert_whole(out)) < 3
    assert "Traceback" not in log.read_text()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with disks.small_disk(tmp_path / "disk") as folder:
        yield folder


@pytest.mark.slow
def test_a_full_disk_stops_the_run(tmp_path: Path, disk: Path) -> None:
    photos, out, model = shop(tmp_path / "photos", 40), disk / "out", conventions(tmp_path / "model")
    ballast = disks.fill(disk, leave=195_000)
    command = (photos, "-o", out, "--model", model, "--devices", "cpu,cpu")
    result = quick(*command, cwd=tmp_path)
    assert result.returncode == 1, result.stderr
    assert "full" in result.stderr or "no space left" in result.stderr
    assert "Traceback" not in result.stderr and result.stderr.splitlines()[-1].startswith("hint: free some space")
    made = assert_whole(out)
    # A video of each worker may have found room where its line then found none; the next run adopts it.
    assert len(made) < 40 and len(done(out)) <= len(made) <= len(done(out)) + 2
    assert not [record for record in lines(out) if record["status"] == "failed"]
    ballast.unlink()
    result = quick(*command, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert len(assert_whole(out)) == 40 and set(done(out).values()) == {1}
