"""Jobs of `fashionflow serve`: none is lost, whatever ends the server or a worker, and none is made in vain."""

import json
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
from catalogues import last, lines
from quick_model import DEADLY, ENDLESS, HELD, HOLD, LOG, POISON, SECONDS
from serving import picture, serving

from fashionflow_core.serve.settings import ServerLimits, parse_span
from fashionflow_core.serve.video_request import VideoRequest
from fashionflow_core.serve.video_store import KeyReused, QueueFull, VideoStore, new_id


def made(log: Path) -> int:
    """How many videos the model was asked for."""
    return len(log.read_text().splitlines()) if log.exists() else 0


def until_made(log: Path, count: int) -> int:
    """Wait until the model was asked for so many videos; returns how many."""
    deadline = time.monotonic() + 60
    while made(log) < count:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return made(log)


@pytest.mark.slow
def test_a_kill_loses_nothing_and_repeats_what_was_in_hand(tmp_path: Path) -> None:
    out, log, hold = tmp_path / "out", tmp_path / "made", tmp_path / "hold"
    hold.touch()
    env = {LOG: str(log), HOLD: str(hold)}
    with serving(out, env=env) as server:
        done = server.made(picture(10))
        server.wait(done)
        held = server.made(picture(250, 5, HELD))
        waiting = [server.made(picture(10 * number)) for number in range(2, 8)]
        before = until_made(log, 2)
        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait()
    hold.unlink()
    with serving(out, env=env) as server:
        states = server.wait(done, held, *waiting)
        listed = server.ask("GET", "/v1/videos?limit=100").json["data"]
        for video in (done, held, *waiting):
            assert server.ask("GET", f"/v1/videos/{video}/content").body[4:8] == b"ftyp"
    assert {state["status"] for state in states} == {"completed"}
    assert [one["id"] for one in reversed(listed)] == [done, held, *waiting]
    assert (before, made(log)) == (2, 2 + 1 + len(waiting))
    assert len(lines(out)) == 2 + len(waiting)


@pytest.mark.slow
def test_each_kill_repeats_one_video_at_most(tmp_path: Path) -> None:
    """Also where one is written and scored while the next one is computed."""
    out, log, count, kills = tmp_path / "out", tmp_path / "made", 16, 0
    env = {LOG: str(log)}
    with serving(out, env=env) as server:
        videos = [server.made(picture(10 * number)) for number in range(count)]
        os.kill(server.process.pid, signal.SIGKILL)
        kills += 1
    for done in (3, 8):
        with serving(out, env=env) as server:
            server.wait(*videos[:done])
            os.kill(server.process.pid, signal.SIGKILL)
            kills += 1
    with serving(out, env=env) as server:
        assert {state["status"] for state in server.wait(*videos)} == {"completed"}
    assert count <= made(log) <= count + kills
    assert sorted(record["item"] for record in lines(out)) == sorted(videos)
    assert {record.get("scores") is not None for record in lines(out)} == {True}


@pytest.mark.slow
def test_a_video_that_is_deleted_while_it_is_made_ends_at_its_next_step(tmp_path: Path) -> None:
    out, log, hold = tmp_path / "out", tmp_path / "made", tmp_path / "hold"
    hold.touch()
    with serving(out, env={HOLD: str(hold), LOG: str(log)}) as server:
        endless, same = server.post(picture(250, 5, ENDLESS), variations=2).json["variations"]
        after = server.made(picture(30))
        while not server.state(endless)["progress"]:
            time.sleep(0.01)
        for name in (same, endless):  # the queued one first: the other makes room for it
            assert server.ask("DELETE", f"/v1/videos/{name}").json["deleted"]
        assert server.wait(after)[0]["status"] == "completed"
        metrics = server.ask("GET", "/metrics").body.decode()
    assert hold.exists() and made(log) == 2
    assert 'state="failed"' not in metrics and 'fashionflow_videos_total{state="deleted"} 2' in metrics
    assert [record["item"] for record in lines(out)] == [after] and len(list((out / "photos").iterdir())) == 1


@pytest.mark.slow
def test_a_stop_finishes_what_is_in_hand_and_keeps_the_rest(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with serving(out, env={SECONDS: "0.5"}) as server:
        videos = [server.made(picture(10 * number)) for number in range(6)]
        server.until(videos[0], "in_progress")
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0
        finished = set(last(out))
        assert {videos[0]} <= finished < set(videos)
        assert not list((out / ".fashionflow").glob("scratch-*"))
    with serving(out) as server:
        assert {state["status"] for state in server.wait(*videos)} == {"completed"}
    assert sorted(record["item"] for record in lines(out)) == sorted(videos)


@pytest.mark.slow
def test_photos_that_fail_hang_or_kill_harm_no_other(tmp_path: Path) -> None:
    out, hold = tmp_path / "out", tmp_path / "hold"
    hold.touch()
    with serving(out, "--time-limit", "30", env={HOLD: str(hold)}) as server:
        poison, held, deadly = (server.made(picture(250, 5, blue)) for blue in (POISON, HELD, DEADLY))
        fine = [server.made(picture(number)) for number in (20, 40)]
        failed = server.wait(poison, held, deadly)
        assert [state["status"] for state in failed] == ["failed"] * 3
        codes = [state["error"]["code"] for state in failed]
        assert codes == ["denoise_error", "time_limit", "worker_error"]
        assert "poison" in failed[0]["error"]["message"] and "30 s" in failed[1]["error"]["message"]
        assert {state["status"] for state in server.wait(*fine)} == {"completed"}
        metrics = server.ask("GET", "/metrics").body.decode()
    assert 'fashionflow_videos_total{state="failed"} 3' in metrics
    assert 'fashionflow_failures_total{stage="denoise"} 1' in metrics
    statuses = {record["status"] for record in lines(out) if record["item"] == deadly}
    assert statuses == {"retried", "lost"}


@pytest.mark.slow
def test_a_full_queue_answers_429_and_a_deleted_video_is_not_made(tmp_path: Path) -> None:
    out, log, hold = tmp_path / "out", tmp_path / "made", tmp_path / "hold"
    hold.touch()
    with serving(out, "--queue", "4", env={LOG: str(log), HOLD: str(hold)}) as server:
        held = server.made(picture(250, 5, HELD))
        until_made(log, 1)
        answers = [server.post(picture(number)) for number in range(12)]
        taken = [answer.json["id"] for answer in answers if answer.status == 200]
        refused = [answer for answer in answers if answer.status != 200]
        assert {answer.status for answer in refused} == {429} and 4 <= len(taken) <= 8
        assert int(refused[0].headers["retry-after"]) >= 1 and refused[0].json["error"]["code"] == "queue_full"
        assert server.post(picture(99), variations=5).status == 429
        gone = server.ask("DELETE", f"/v1/videos/{taken[-1]}")
        assert gone.json == {"id": taken[-1], "object": "video.deleted", "deleted": True}
        assert server.ask("DELETE", f"/v1/videos/{held}").status == 200
        hold.unlink()
        server.wait(*taken[:-1])
        assert server.ask("GET", f"/v1/videos/{taken[-1]}").status == 404
    assert made(log) == len(taken)  # the held one, and all but the one that was deleted in the queue
    assert set(last(out)) == set(taken[:-1])
    assert len(list(out.glob("*.mp4"))) == len(list((out / "photos").iterdir())) == len(taken) - 1


# the store alone


def request(**more: object) -> VideoRequest:
    name = new_id()
    return replace(VideoRequest(name, 1000.0, "", "p.png", "", {"seed": 1}, group=name), **more)  # type: ignore[arg-type]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_old_videos_go_with_their_files_and_a_shared_photo_stays(tmp_path: Path) -> None:
    clock = Clock()
    store = VideoStore(tmp_path, ServerLimits(keep_seconds=100), clock=clock)
    one, two = store.accept([request(), request(created=1001.0)], picture())
    assert one.request.photo == two.request.photo
    for video in (one, two):
        (tmp_path / f"{video.id}.mp4").write_bytes(b"video")
        (tmp_path / f"{video.id}-poster.jpg").write_bytes(b"poster")
    store.take()
    store.begin(one.id)
    record = {"item": one.id, "status": "done", "seed": 1, "output": f"{one.id}.mp4", "seconds": {"denoise": 1.0}}
    store.finish([record])
    clock.now += 101
    assert store.expire() == 1
    assert list(store.videos) == [two.id] and not list(tmp_path.glob(f"{one.id}*"))
    assert len(list((tmp_path / "photos").iterdir())) == 1
    store.remove(two.id)
    assert not list((tmp_path / "photos").iterdir()) and not store.waiting
    store.close()
    again = VideoStore(tmp_path, ServerLimits(), clock=clock)
    assert not again.videos and (tmp_path / "requests.jsonl").read_text() == ""
    assert (tmp_path / "manifest.jsonl").read_text() == ""
    again.close()


def test_a_line_that_was_cut_off_is_no_request_and_lines_after_it_count(tmp_path: Path) -> None:
    store = VideoStore(tmp_path, ServerLimits())
    (kept,) = store.accept([request()], picture())
    store.close()
    with (tmp_path / "requests.jsonl").open("a") as file:
        file.write('{"accepted": {"id": "video_half')
    store = VideoStore(tmp_path, ServerLimits())
    (later,) = store.accept([request(created=2000.0)], picture(1))
    store.close()
    assert list(VideoStore(tmp_path, ServerLimits()).videos) == [kept.id, later.id]


def test_the_same_key_gives_the_same_video_also_after_a_restart(tmp_path: Path) -> None:
    store = VideoStore(tmp_path, ServerLimits(queue=2))
    first = request(idempotency="k", digest="a")
    store.accept([first], picture())
    for _ in range(2):
        assert [video.id for video in store.accept([request(idempotency="k", digest="a")], picture())] == [first.id]
        with pytest.raises(KeyReused):
            store.accept([request(idempotency="k", digest="b")], picture())
        store.close()
        store = VideoStore(tmp_path, ServerLimits(queue=2))
    with pytest.raises(QueueFull):
        store.accept([request(idempotency="other"), request()], picture())
    store.accept([request(idempotency="other")], picture())  # what was refused does not hold its key
    store.remove(first.id)
    assert len(store.accept([request(idempotency="k", digest="b")], picture())) == 1


def test_many_removed_videos_do_not_stay_in_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fashionflow_core.serve.video_store._DEAD", 50)
    store = VideoStore(tmp_path, ServerLimits(queue=5000))
    (stays,) = store.accept([request()], picture())
    for _ in range(6):
        for video in store.accept([request() for _ in range(10)], picture()):
            store.remove(video.id)
    store.expire()
    (text,) = (tmp_path / "requests.jsonl").read_text().splitlines()
    assert json.loads(text)["accepted"]["id"] == stays.id
    (later,) = store.accept([request(created=2000.0)], picture())
    store.close()
    assert list(VideoStore(tmp_path, ServerLimits()).videos) == [stays.id, later.id]


def test_times_to_keep() -> None:
    assert [parse_span(text) for text in ("90s", "30m", "12h", "7d")] == [90, 1800, 43_200, 604_800]
    assert parse_span("forever") == float("inf")
    for text in ("", "7", "7 d", "0d", "-1d", "d", "1e3s"):
        with pytest.raises(Exception, match="keep"):
            parse_span(text)
