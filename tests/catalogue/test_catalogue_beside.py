"""What works beside the networks of a catalogue: begins before they do, and gives way to them."""

import io
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from catalogues import conventions, last, photo, workers
from quick_model import OPENER, QuickPipeline
from quick_model import load as quick

from fashionflow_core import video
from fashionflow_core.catalogue import ipc, run, worker
from fashionflow_core.catalogue.inputs import read_inputs
from fashionflow_core.catalogue.jobs import Job, RunSpec
from fashionflow_core.catalogue.photo_process import Helper
from fashionflow_core.catalogue.stages import Maker
from fashionflow_core.config import LoadOptions, ModelConfig
from fashionflow_core.utils.priority import NICENESS, give_way

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="threads and processes as Linux's /proc shows them")


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def load_after_helper(folder: Path, options: LoadOptions) -> QuickPipeline:
    """A model that is open only once the worker's helper is at the first photo."""
    deadline = time.monotonic() + 30
    while not workers(os.getpid()):
        if time.monotonic() > deadline:
            raise RuntimeError("no helper was started while the model was being opened")
        time.sleep(0.01)
    return quick(folder, options)


@pytest.mark.slow
@LINUX
def test_photos_are_opened_while_the_model_is_opened(tmp_path: Path) -> None:
    path, out = photo(tmp_path / "a.jpg"), tmp_path / "out"
    work = RunSpec(str(conventions(tmp_path / "model")), str(out), "", opener=f"{__name__}:load_after_helper")
    entries = read_inputs([str(path)], out, bytes).entries
    assert run.run(run.Request(entries, work, devices=("cpu",)), page=False).made == 1
    assert last(out)["a"]["status"] == "done"


def test_videos_are_encoded_while_the_networks_are_busy(tmp_path: Path) -> None:
    """The first video is complete only once the networks have begun the next clip."""
    begun: list[int] = []
    busy, written = threading.Event(), []

    class Busy(QuickPipeline):
        def generate_batch(self, *arguments: Any, **more: Any) -> Any:
            begun.append(len(begun))
            if len(begun) == 2:
                busy.set()
            return super().generate_batch(*arguments, **more)

    def report(job: Job, record: Mapping[str, Any]) -> None:
        written.append((record["status"], busy.wait(30)))

    model, out = conventions(tmp_path / "model"), tmp_path / "out"
    out.mkdir()
    work = RunSpec(str(model), str(out), str(out), opener=OPENER, scores=False).on("cpu")
    maker = Maker(work, report, pytest.fail, pytest.fail)
    maker.open()
    maker.pipe = Busy(ModelConfig.load(model), "cpu")  # pyright: ignore[reportAttributeAccessIssue]
    for number in range(2):
        source = str(photo(tmp_path / f"{number}.jpg"))
        maker.make([maker.start(Job(number, str(number), source, work.settings, 0, "", ""))])
    maker.finish()
    assert written == [("done", True)] * 2


def test_a_job_that_comes_after_the_end_is_left_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker whose disk is full ends by itself; what the run sent before it knew is not begun, and nothing breaks."""
    incoming = io.BytesIO()
    ipc.send(incoming, ("job", "a"))
    ipc.send(incoming, ("stop",))
    ipc.send(incoming, ("job", "b"))
    incoming.seek(0)
    begun, photos = [], ThreadPoolExecutor(1)

    def start(job: Any) -> Any:
        photos.submit(begun.append, job).result()
        photos.shutdown()  # as at the worker's end

    listening = worker._Worker(incoming, io.BytesIO())
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    listening.listen(start, cancel=lambda number: None)
    assert begun == ["a"] and listening.stop.is_set() and ended == [1]


@LINUX
def test_threads_beside_the_networks_give_way_with_all_they_start() -> None:
    before = niceness()
    with ThreadPoolExecutor(1, initializer=give_way) as outer:
        assert outer.submit(niceness).result() == max(before, NICENESS)
        with outer.submit(ThreadPoolExecutor, 1, initializer=give_way).result() as inner:
            assert inner.submit(niceness).result() == max(before, NICENESS)  # not twice
        started: list[int] = []
        thread = outer.submit(lambda: threading.Thread(target=lambda: started.append(niceness()))).result()
        outer.submit(thread.start).result()
        thread.join()
        assert started == [max(before, NICENESS)]
    assert niceness() == before


@LINUX
def test_a_video_is_encoded_by_threads_that_give_way(tmp_path: Path) -> None:
    """The frames come from a thread that keeps its priority: it has the networks."""
    frames = np.random.default_rng(0).integers(0, 256, (12, 64, 64, 3), np.uint8)
    seen: dict[str, set[int]] = {"frames": set(), "others": set()}
    before = {task.name for task in Path("/proc/self/task").iterdir()}

    def made() -> Any:
        for frame in frames:
            seen["frames"].add(niceness())
            tasks = {task.name for task in Path("/proc/self/task").iterdir()} - before
            seen["others"] |= {os.getpriority(os.PRIO_PROCESS, int(task)) for task in tasks}
            yield frame
            time.sleep(0.02)

    video.write(made(), tmp_path / "out.mp4", 25, len(frames))
    assert seen == {"frames": {niceness()}, "others": {max(niceness(), NICENESS)}}


@pytest.mark.slow
@LINUX
def test_a_helper_keeps_to_one_processor_and_gives_way(tmp_path: Path) -> None:
    """Threads that wait for each other in loops took four times the time of the processors that scoring needs."""
    noise = np.random.default_rng(0).integers(0, 256, (1, 20, 16, 3), np.uint8).repeat(16, 1).repeat(16, 2)
    frames = np.concatenate([np.roll(noise, 3 * number, axis=2) for number in range(24)])
    info = video.write(frames, tmp_path / "clip.mp4", 25, len(frames))
    others = workers(os.getpid())
    helper = Helper()
    try:
        helper.ask("score", str(info.path), frames[0], None)
        (child,) = set(workers(os.getpid())).difference(others)
        assert os.getpriority(os.PRIO_PROCESS, child) == max(niceness(), NICENESS)

        def spent() -> Counter[str]:
            """Ticks of a processor by thread."""
            found = {task.name: (task / "stat").read_text() for task in Path(f"/proc/{child}/task").iterdir()}
            fields = {name: text.rpartition(")")[2].split() for name, text in found.items()}
            return Counter({name: int(field[11]) + int(field[12]) for name, field in fields.items()})

        before = spent()
        for _ in range(4):
            assert "garment_drift" in helper.ask("score", str(info.path), frames[0], None)
        ticks = spent() - before
        assert ticks.total() < 1.5 * max(ticks.values()), ticks
    finally:
        helper.close()
