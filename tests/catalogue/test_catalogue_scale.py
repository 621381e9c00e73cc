"""Many photos: batches, what a run itself costs, memory that stays flat, plans of up to a million.

`TEST_PHOTOS` and `TEST_PATHS` in the environment are the numbers of photos that are generated and planned.
"""

import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from catalogues import assert_whole, conventions, last, lines, quick, shop, workers
from command import COMMAND, environment, run, started
from places import SUPPORT
from quick_model import LOG, MEMORY, SECONDS
from tiny import build_tiny_model

from fashionflow_core import video

PHOTOS, PATHS = (int(os.environ.get(name, size)) for name, size in (("TEST_PHOTOS", "200"), ("TEST_PATHS", "300000")))
RESIDENT = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from Linux's /proc")


@pytest.mark.slow
def test_batches_give_the_videos_of_single_photos(tmp_path: Path) -> None:
    photos, model = shop(tmp_path / "photos", 5), build_tiny_model(tmp_path / "tiny")
    for batch in ("1", "4"):
        result = run("generate", photos, "-o", f"out{batch}", "-m", model, "--batch", batch, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
    for name in assert_whole(tmp_path / "out1"):
        one, four = (video.read(tmp_path / out / name).astype(int) for out in ("out1", "out4"))
        assert (
            np.abs(one - four).mean() < 0.2
        )  # a level in a frame may be more in a video of noise: tests/pipeline/test_batch.py


@pytest.mark.slow
def test_batches_take_what_is_alike_and_shrink_where_memory_runs_out(tmp_path: Path) -> None:
    photos, model, log = shop(tmp_path / "photos", 24), conventions(tmp_path / "model"), tmp_path / "batches"
    rows = [{"photo": f"photos/{n:03d}.jpg", "steps": 3 if n % 6 == 5 else 2, "seed": n} for n in range(24)]
    (tmp_path / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ("list.jsonl", "-o", "out", "--model", model, "--batch", "4")
    # Jobs gather while a batch takes its time.
    result = quick(*command, cwd=tmp_path, env={LOG: str(log), SECONDS: "0.3"})
    assert result.returncode == 0, result.stderr
    sizes = [int(line.split()[0]) for line in log.read_text().splitlines()]
    assert sum(sizes) == 24 and max(sizes) == 4
    assert {record["item"]: record["steps"] for record in last(tmp_path / "out").values()} == {
        f"{n:03d}": rows[n]["steps"] for n in range(24)
    }
    log.unlink()
    result = quick(
        photos, "-o", "small", "--model", model, "--batch", "8", cwd=tmp_path, env={LOG: str(log), MEMORY: "3"}
    )
    assert result.returncode == 0, result.stderr
    sizes = [int(line.split()[0]) for line in log.read_text().splitlines()]
    assert len([size for size in sizes if size > 3]) <= 2  # 8, then 4
    assert len(assert_whole(tmp_path / "small")) == 24


@pytest.mark.slow
def test_a_plan_of_a_catalogue(tmp_path: Path) -> None:
    photos, model = shop(tmp_path / "photos", 6), build_tiny_model(tmp_path / "tiny")
    (photos / "bad.jpg").write_bytes(b"no photo")
    command = ("generate", photos, "-o", "out", "-m", model)
    plan = run(*command, "--dry-run", cwd=tmp_path)
    assert plan.returncode == 0, plan.stderr
    rows = dict(re.split(r"  +", line, maxsplit=1) for line in plan.stdout.splitlines())
    assert (rows["items"], rows["to do"], rows["done before"]) == ("7", "7", "0")
    assert "one timed call" in rows["time"]
    assert not (tmp_path / "out").exists()
    assert run(*command, cwd=tmp_path).returncode == 3
    before = sorted((tmp_path / "out").rglob("*"))
    found = json.loads(run(*command, "--dry-run", "--json", "--retry-failed", cwd=tmp_path).stdout)
    assert (found["items"], found["to_do"], found["done"], found["failed"]) == (7, 1, 6, 0)
    assert found["seconds_each"] > 0 and found["measured"] == "videos made before" and found["bytes_each"] > 1000
    found = json.loads(run(*command, "--dry-run", "--json", cwd=tmp_path).stdout)
    assert (found["to_do"], found["done"], found["failed"], found["seconds"]) == (0, 6, 1, 0)
    found = json.loads(run(*command, "--dry-run", "--json", "--steps", "3", cwd=tmp_path).stdout)
    assert (found["to_do"], found["measured"]) == (7, "one timed call of each network")  # those had other steps
    assert sorted((tmp_path / "out").rglob("*")) == before


@RESIDENT
@pytest.mark.slow
def test_many_paths_are_planned(tmp_path: Path) -> None:
    """In 500 MB, and in ten times what a tenth takes."""
    spent, kilobytes = zip(*(_plan(tmp_path, count) for count in (PATHS // 10, PATHS)))
    assert kilobytes[1] < 500_000
    assert spent[1] < 15 * spent[0]  # with the square of their number it would be a hundred times


def _plan(folder: Path, count: int) -> tuple[float, float]:
    """Seconds of a processor and kilobytes of a process that plans so many paths."""
    with (folder / f"{count}.txt").open("w") as file:
        file.writelines(f"/photos/spring/{n // 1000:05d}/dress-{n:07d}.jpg\n" for n in range(count))
    code = (
        "import resource, subprocess, sys\n"
        "result = subprocess.run(sys.argv[1:], capture_output=True, text=True)\n"
        "print(result.stdout + result.stderr)\n"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
        "print('used', used.ru_utime + used.ru_stime, used.ru_maxrss)"
    )
    command = [*COMMAND, "generate", f"{count}.txt", "-o", "out", "--model", "mini-latent", "--dry-run"]
    result = subprocess.run(
        [sys.executable, "-c", code, *command],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert re.search(rf"to do +{count:,}", result.stdout), result.stdout
    seconds, kilobytes = map(float, result.stdout.split("used")[1].split())
    return seconds, kilobytes


@RESIDENT
@pytest.mark.parametrize("count", [1000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_memory_of_a_run_itself(tmp_path: Path, count: int) -> None:
    """Memory stays flat, whatever the number of items."""
    model = conventions(tmp_path / "model")
    command = [sys.executable, str(SUPPORT / "noop_run.py"), str(tmp_path / "out"), str(model), str(count)]
    result = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) < 50_000  # kilobytes
    assert len(lines(tmp_path / "out")) == count


def resident(pid: int) -> int:
    """Megabytes of a process in memory."""
    try:
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    except FileNotFoundError:
        return 0
    return int(found[1]) // 1024 if found else 0


@RESIDENT
@pytest.mark.slow
def test_hundreds_of_photos_one_of_them_cut_off(tmp_path: Path) -> None:
    """One failed line, all other videos, exit code 3; run, worker and its helper grow by less than 30 MB."""
    photos, out, model = shop(tmp_path / "photos", PHOTOS), tmp_path / "out", build_tiny_model(tmp_path / "tiny")
    (photos / "150.jpg").write_bytes((photos / "150.jpg").read_bytes()[:400])
    sizes: dict[int, list[int]] = {}
    over = threading.Event()

    def watch(pid: int) -> None:
        manifest = out / "manifest.jsonl"
        while not over.wait(0.5):
            if not manifest.exists() or manifest.read_bytes().count(b"\n") < 100:
                continue  # by then everything is open and was used
            helpers = [helper for worker in workers(pid) for helper in workers(worker)]
            for process in (pid, *workers(pid), *helpers):
                sizes.setdefault(process, []).append(resident(process))

    command = ("generate", photos, "-o", out, "-m", model, "--steps", "1", "--quiet")
    with started(*command, cwd=tmp_path, log=tmp_path / "log") as process:
        watcher = threading.Thread(target=watch, args=(process.pid,))
        watcher.start()
        code = process.wait(3600)
        over.set()
        watcher.join()
    assert code == 3
    assert len(assert_whole(out)) == PHOTOS - 1
    assert len(lines(out)) == PHOTOS
    (bad,) = [record for record in lines(out) if record["status"] != "done"]
    assert (bad["item"], bad["stage"], bad["error_class"]) == ("150", "photo", "PhotoError")
    assert len(sizes) >= 3
    assert all(max(found) - found[0] < 30 for found in sizes.values()), sizes
