"""Reviews: `review.jsonl`, `generate --retry rejected`, the marks in the gallery, and `gallery --review`."""

import json
import re
from pathlib import Path

import pytest
from catalogues import conventions, last, lines, quick, shop
from command import assert_refused, started, wait_until
from serving import Server

from fashionflow_core.catalogue import gallery
from fashionflow_core.catalogue.reviews import APPROVED, REJECTED, UNDECIDED, Review, read_reviews, write_review


def test_the_last_review_of_a_video_counts_and_broken_lines_do_not(tmp_path: Path) -> None:
    assert read_reviews(tmp_path) == {}
    write_review(tmp_path, "a", REJECTED, 1)
    write_review(tmp_path, "b", APPROVED, 1)
    with (tmp_path / "review.jsonl").open("a") as file:
        file.write(
            '[]\n{"item": "b", "verdict": "maybe", "seed": 1}\n{"item": 3, "verdict": "", "seed": 1}\nno\n{"item": "b'
        )
    write_review(tmp_path, "a", REJECTED, 2)
    write_review(tmp_path, "b", UNDECIDED, 1)
    found = read_reviews(tmp_path)
    assert found == {"a": Review(REJECTED, 2, 2), "b": Review(UNDECIDED, 1)}
    assert (found["a"].of(2), found["a"].of(3)) == (REJECTED, UNDECIDED)
    write_review(tmp_path, "a", APPROVED, 2)  # a rejection that was taken back
    assert read_reviews(tmp_path)["a"] == Review(APPROVED, 2, 1)


def test_rejected_videos_are_made_again_with_a_new_seed_and_then_stay(tmp_path: Path) -> None:
    conventions(tmp_path / "model")
    shop(tmp_path / "photos", 3)
    out = tmp_path / "out"
    command = ("photos", "-o", "out", "--model", "model", "--device", "cpu", "--no-scores")
    assert quick(*command, cwd=tmp_path).returncode == 0
    first = last(out)
    write_review(out, "001", REJECTED, first["001"]["seed"])
    write_review(out, "002", APPROVED, first["002"]["seed"])
    assert quick(*command, cwd=tmp_path).returncode == 0 and len(lines(out)) == 3  # nobody asked for it
    again = quick(*command, "--retry", "rejected", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    second = last(out)
    assert [name for name in first if second[name] != first[name]] == ["001"]
    assert second["001"]["seed"] != first["001"]["seed"]
    assert second["001"]["settings_hash"] == first["001"]["settings_hash"]
    for more in ((), ("--retry", "rejected"), ("--retry", "failed,rejected")):
        assert quick(*command, *more, cwd=tmp_path).returncode == 0 and len(lines(out)) == 4
    write_review(out, "001", REJECTED, second["001"]["seed"])
    quick(*command, "--retry", "rejected", cwd=tmp_path)
    seeds = [record["seed"] for record in lines(out) if record["item"] == "001"]
    assert len(set(seeds)) == 3
    assert_refused(quick(*command, "--retry", "some", cwd=tmp_path), 2, "retry", "some")


def test_the_gallery_shows_reviews_of_the_videos_that_are_there(tmp_path: Path) -> None:
    records = [
        {"item": name, "status": "done", "output": f"{name}.mp4", "seed": 5, "frames": 1, "fps": 8.0} for name in "abc"
    ]
    (tmp_path / "manifest.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    for name in "abc":
        (tmp_path / f"{name}.mp4").touch()
    for name, verdict, seed in (("a", APPROVED, 5), ("b", REJECTED, 5), ("c", REJECTED, 4)):
        write_review(tmp_path, name, verdict, seed)
    gallery.build(tmp_path)
    page = (tmp_path / "index.html").read_text()
    assert re.findall('"review": "([a-z]*)"', page) == ["approved", "rejected", ""]


@pytest.mark.slow
def test_a_folder_is_reviewed_in_the_page_of_the_server(tmp_path: Path) -> None:
    conventions(tmp_path / "model")
    shop(tmp_path / "photos/women", 2)
    out, log = tmp_path / "out", tmp_path / "log"
    assert quick("photos", "-o", "out", "--model", "model", "--device", "cpu", cwd=tmp_path).returncode == 0
    with started("gallery", "out", "--review", "--port", "0", cwd=tmp_path, log=log) as process:
        wait_until(lambda: "http://" in log.read_text(), process, log)
        wait_until(lambda: log.read_text().endswith("\n"), process, log)
        port = int(log.read_text().strip().rsplit(":", 1)[1])
        server = Server(process, port, out, log)
        videos = server.ask("GET", "/v1/videos").json["data"]
        assert {video["photo_name"] for video in videos} == {"women/000", "women/001"}
        one = next(video for video in videos if video["photo_name"] == "women/001")
        path = f"/v1/videos/{one['id']}"
        assert server.ask("GET", f"{path}/content").body == (out / "women/001.mp4").read_bytes()
        assert (
            server.ask("GET", f"{path}/content?variant=photo").body == (tmp_path / "photos/women/001.jpg").read_bytes()
        )
        assert server.ask("POST", f"{path}/review", {"verdict": "rejected"}).json["review"] == "rejected"
        assert server.ask("DELETE", path).status == 409
        assert server.ask("POST", f"{path}/again", {}).status == 503
        assert not server.ask("GET", "/session").json["can_make"]
        process.terminate()
        assert process.wait(30) == 0
    assert re.findall('"review": "([a-z]*)"', (out / "index.html").read_text()) == ["", "rejected"]
    again = quick("photos", "-o", "out", "--model", "model", "--device", "cpu", "--retry", "rejected", cwd=tmp_path)
    assert again.returncode == 0 and last(out)["women/001"]["seed"] != one["seed"]
    assert len(lines(out)) == 3
