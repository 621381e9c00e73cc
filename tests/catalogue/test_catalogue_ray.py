"""`--executor ray`: the same run on Ray Data, with actors of this machine; what starts Ray is slow."""

import json
import pickle
import signal
from collections import Counter
from pathlib import Path

import pytest
from catalogues import assert_whole, conventions, last, lines, photo, plain, quick_started, shop
from catalogues import quick_process as quick
from command import assert_refused, wait_until
from places import SUPPORT
from quick_model import DEADLY, LOG, OPENER, POISON, SECONDS

from fashionflow_core.catalogue.jobs import Job, RunSpec
from fashionflow_core.catalogue.outputs import Remote
from fashionflow_core.catalogue.ray_executor import Actor, actors
from fashionflow_core.config import GenerateSettings, LoadOptions
from fashionflow_core.errors import FashionFlowError, UsageError, Wording

slow = pytest.mark.slow
TWO = ("--executor", "ray", "--devices", "cpu,cpu")


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="needs the extra 'ray'")
    # Ray's workers step back behind all else, which on a busy machine is for minutes.
    monkeypatch.setenv("RAY_worker_niceness", "0")


@slow
@pytest.mark.usefixtures("ray")
def test_one_item_is_poison_and_one_kills_its_worker(tmp_path: Path) -> None:
    """20 items, two actors: 18 done, 1 failed, 1 lost; resuming repeats none of the 18."""
    photos, model = shop(tmp_path / "photos", 18), conventions(tmp_path / "model")
    plain(photos / "009-deadly.png", (250, 5, DEADLY))
    plain(photos / "005-poison.png", (250, 5, POISON))
    out, log = tmp_path / "out", tmp_path / "batches"
    command = ("photos", "-o", "out", "--model", model, *TWO)
    result = quick(*command, cwd=tmp_path, env={LOG: str(log)}, timeout=900)
    assert result.returncode == 3, result.stderr
    assert sorted(result.stdout.splitlines()) == [f"out/{number:03d}.mp4" for number in range(18)]
    assert "ray" not in result.stderr.lower()  # what Ray has to say is in its log
    records = last(out)
    assert Counter(record["status"] for record in records.values()) == {"done": 18, "failed": 1, "lost": 1}
    assert records["009-deadly"]["status"] == "lost" and records["009-deadly"]["error_class"] == "WorkerDied"
    assert records["005-poison"]["message"] == "this photo is poison"
    assert len(assert_whole(out)) == 18
    made = len(log.read_text().splitlines())
    assert made == 18 + 1 + 2
    again = quick(*command, "--retry-failed", cwd=tmp_path, env={LOG: str(log)}, timeout=900)
    assert again.returncode == 3 and again.stdout == "", again.stderr
    assert len(log.read_text().splitlines()) == made + 1 + 2
    assert Counter(record["status"] for record in lines(out))["done"] == 18
    local = quick("photos", "-o", "out", "--model", model, cwd=tmp_path, env={LOG: str(log)})
    assert local.returncode == 3 and local.stdout == ""  # either engine goes on where the other stopped


@slow
@pytest.mark.usefixtures("ray")
def test_a_signal_ends_ray_too(tmp_path: Path) -> None:
    photos, model, out = shop(tmp_path / "photos", 12), conventions(tmp_path / "model"), tmp_path / "out"
    with quick_started(photos, "-o", out, "--model", model, *TWO, cwd=tmp_path, env={SECONDS: "1"}) as process:
        manifest = out / "manifest.jsonl"
        wait_until(lambda: manifest.exists() and manifest.stat().st_size > 0, process, tmp_path / "log", 600)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 143, (tmp_path / "log").read_text()
    made = len(assert_whole(out))
    assert made < 12
    result = quick(photos, "-o", out, "--model", model, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert len(assert_whole(out)) == 12 and Counter(r["status"] for r in lines(out)) == {"done": 12}


def test_the_actors_of_a_cluster() -> None:
    assert actors(("cpu", "cpu"), gpus=4) == (2, "cpu")
    assert actors(("cuda:0", "cuda:1"), gpus=4) == (2, "cuda")
    assert (actors(("auto",), gpus=4), actors(("auto",), gpus=0)) == ((1, "cuda"), (1, "auto"))
    assert actors(("all",), gpus=16) == (16, "cuda")
    with pytest.raises(UsageError, match="devices: all"):
        actors(("all",), gpus=0)


def test_files_under_way_are_on_the_machine_of_the_actor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a cluster the run's own folder for them may be on another one."""
    monkeypatch.syspath_prepend(SUPPORT)
    source, model = photo(tmp_path / "a.jpg"), conventions(tmp_path / "model")
    (tmp_path / "out").mkdir()
    work = RunSpec(
        str(model), "nowhere", "nowhere/scratch", f"file:/{'/'}{tmp_path}/out", load=LoadOptions("cpu"), opener=OPENER
    )
    job = Job(0, "a", str(source), GenerateSettings(), 0, "", "")
    actor = Actor(work, Wording.current)
    row = actor({"number": 0, "job": pickle.dumps(job)})
    assert json.loads(row["record"])["status"] == "done", row
    assert assert_whole(tmp_path / "out") == ["a.mp4"]

    def unreachable(_self: Remote, _name: str) -> None:
        raise FashionFlowError("s3://shop: connection reset")

    monkeypatch.setattr(Remote, "existing", unreachable)
    record = json.loads(actor({"number": 0, "job": pickle.dumps(job)})["record"])
    assert (record["status"], record["stage"], record["message"]) == ("failed", "write", "s3://shop: connection reset")


@slow
@pytest.mark.usefixtures("ray")
def test_no_cluster_and_no_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop(tmp_path / "photos", 1)
    command = ("photos", "-o", "out", "--model", conventions(tmp_path / "model"), "-q")
    assert_refused(quick(*command, "--ray-address", "auto", cwd=tmp_path), 2, "--ray-address: requires --executor ray")
    nobody = quick(*command, "--executor", "ray", "--ray-address", "auto", cwd=tmp_path)
    assert_refused(nobody, 1, "--ray-address: auto")
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "ray.py").write_text("raise ImportError('no ray')")
    missing = quick(*command, "--executor", "ray", cwd=tmp_path, env={"PYTHONPATH": str(tmp_path / "hidden")})
    assert_refused(missing, 1, "needs the extra 'ray'")
