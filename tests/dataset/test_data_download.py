"""`fashionflow data download` against a server with faults: cut, ignored ranges, refusals, silence, wrong files."""

import errno
import hashlib
import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from clips import moving
from command import assert_refused, started, wait_until
from command import run_process as run
from video_server import Site, serving

from fashionflow_core import video
from fashionflow_core.dataset.download import Fetched, ListEntry, download_all, read_list, read_manifest, safe_name
from fashionflow_core.errors import FashionFlowWarning
from fashionflow_core.utils import download as http

ONLINE = {"HF_HUB_OFFLINE": "0", "HF_HUB_DOWNLOAD_TIMEOUT": "1", "HF_HUB_ETAG_TIMEOUT": "1"}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A small video, made large by a box of zeros that every reader skips."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    video.write(moving(8), path, fps=25, count=8)
    zeros = 300_000
    return path.read_bytes() + (8 + zeros).to_bytes(4, "big") + b"free" + bytes(zeros)


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """The server, and a client that is in a hurry."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT", 0.5)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_ETAG_TIMEOUT", 0.5)
    monkeypatch.setattr(http, "_WAIT", 0.02)
    with serving() as site:
        yield site


def fetch(site: Site, folder: Path, *lines: str, **options: Any) -> list[Fetched]:
    return download_all(read_list("\n".join(f"{site.url}{line}" for line in lines), "list"), folder, **options)


def states(found: list[Fetched]) -> list[str]:
    return [entry.state for entry in found]


def test_lists_are_read_line_by_line():
    digest = "ab" * 32
    text = (
        "\ufeff# the list\r\n\r\nhttps://h/a/91%2B3w%20x.mp4?v=1\r\n"
        f"https://h/b.mp4\ttrain/b one.mp4  sha256:{digest.upper()}\n"
        "https://h/91+3w%20x.mp4\nhttps://h/91+3W X.mp4 \nhttps://h/b.mp4\nhttps://h/c.mp4 sha256:12\n"
        "https://h/\nhttps://h/y?id=3\nftp://h/x.mp4\nnonsense\nhttps://h/d.mp4\t../d.mp4\n"
        "https://h/e.mp4\ttrain/B ONE.mp4\nhttps://h/downloads.jsonl\n"
    )
    items = {item.url: item for item in read_list(text, "list")}
    assert items["https://h/a/91%2B3w%20x.mp4?v=1"].name == "91+3w x.mp4"
    assert items["https://h/b.mp4"] == ListEntry("https://h/b.mp4", "train/b one.mp4", digest)
    other = items["https://h/91+3w%20x.mp4"].name
    assert other.startswith("91+3w x-") and other.endswith(".mp4") and len(other) == len("91+3w x-12345678.mp4")
    assert items["https://h/91+3W"].name == "X.mp4"  # an address holds no space: what follows is a name
    assert items["https://h/"].name == "video.mp4" and items["https://h/y?id=3"].name == "y.mp4"
    assert items["https://h/downloads.jsonl"].name != "downloads.jsonl"
    problems = {url: item.problem for url, item in items.items() if item.problem}
    assert list(problems) == ["https://h/c.mp4", "ftp://h/x.mp4", "nonsense", "https://h/d.mp4", "https://h/e.mp4"]
    assert problems["https://h/c.mp4"] == "list line 8: sha256:12 has 2 digits, not 64"
    assert problems["nonsense"] == "list line 12: nonsense: not an http or https address"
    assert "is outside the folder" in problems["https://h/d.mp4"]
    assert "is already used by https://h/b.mp4" in problems["https://h/e.mp4"]


def test_names_given_before_stay():
    taken = {"https://h/2/a.mp4": "a.mp4"}
    first, second = read_list("https://h/1/a.mp4\nhttps://h/2/a.mp4", "list", taken)
    assert second.name == "a.mp4" and first.name != "a.mp4"


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        *(("91+3w.mp4", "91+3w.mp4"), ("..", "_"), (".hidden.mp4", "_hidden.mp4"), ("a/b\\c:d.mp4", "a_b_c_d.mp4")),
        *(
            ("", "video"),
            ("x\n\0y.mp4", "x__y.mp4"),
            ("ü 裙.mp4", "ü 裙.mp4"),
            ("裙" * 300 + ".mp4", "裙" * 65 + ".mp4"),
        ),
    ],
)
def test_names_are_safe(name: str, safe: str):
    assert safe_name(name) == safe


def test_files_come_whole_and_once(site: Site, clip: bytes, tmp_path: Path):
    site.files = {f"/v/{number}.mp4": clip for number in range(6)}
    site.pause = 0.02
    lines = [f"/v/{number}.mp4" for number in range(6)]
    found = fetch(site, tmp_path / "new" / "folder", *lines, jobs=3)
    assert states(found) == ["fetched"] * 6 and 2 <= site.most_at_once <= 3
    folder = tmp_path / "new" / "folder"
    assert {path.name for path in folder.iterdir()} == {*(f"{n}.mp4" for n in range(6)), "downloads.jsonl", ".lock"}
    rows = [json.loads(line) for line in (folder / "downloads.jsonl").read_text().splitlines()]
    digest = hashlib.sha256(clip).hexdigest()
    for row in rows:
        assert (folder / row["file"]).read_bytes() == clip
        assert row == {"url": f"{site.url}/v/{row['file']}", "file": row["file"], "bytes": len(clip), "sha256": digest}
    asked = len(site.log)
    assert states(fetch(site, folder, *lines)) == ["kept"] * 6 and len(site.log) == asked
    (folder / "3.mp4").write_bytes(clip[:-1])
    (folder / "4.mp4").unlink()
    again = fetch(site, folder, *lines)
    assert states(again) == ["kept", "kept", "kept", "fetched", "fetched", "kept"]
    assert (folder / "3.mp4").read_bytes() == (folder / "4.mp4").read_bytes() == clip


@pytest.mark.parametrize("tells_length", [True, False])
def test_cut_connections_are_taken_up_where_they_broke(site: Site, clip: bytes, tmp_path: Path, tells_length: bool):
    site.files, site.tells_length = {"/a.mp4": clip}, tells_length
    site.drop = {"/a.mp4": [100_000, 0, 70_000]}
    assert states(fetch(site, tmp_path, "/a.mp4")) == ["fetched"]
    assert (tmp_path / "a.mp4").read_bytes() == clip
    ranges = site.gets("/a.mp4")
    assert len(ranges) == 4 and all(asked and int(asked[6:-1]) > 0 for asked in ranges[1:])


def test_servers_that_ignore_ranges_send_all_again(site: Site, clip: bytes, tmp_path: Path):
    site.files, site.ignores_range = {"/a.mp4": clip}, True
    site.drop = {"/a.mp4": [100_000, 200_000]}
    assert states(fetch(site, tmp_path, "/a.mp4")) == ["fetched"]
    assert (tmp_path / "a.mp4").read_bytes() == clip


def test_signed_addresses_that_refuse_head_are_fetched(site: Site, clip: bytes, tmp_path: Path):
    site.files, site.refuses_head = {"/a.mp4?signature=x": clip}, True
    assert states(fetch(site, tmp_path, "/a.mp4?signature=x")) == ["fetched"]
    assert (tmp_path / "a.mp4").read_bytes() == clip


def test_a_piece_of_an_older_version_is_not_gone_on_with(site: Site, clip: bytes, tmp_path: Path):
    site.files, site.drop = {"/a.mp4": clip}, {"/a.mp4": [150_000] + [0] * 9}
    assert states(fetch(site, tmp_path, "/a.mp4")) == ["failed"]
    newer = clip[:-1] + b"!"
    site.files, site.drop = {"/a.mp4": newer}, {}
    assert states(fetch(site, tmp_path, "/a.mp4")) == ["fetched"]
    assert (tmp_path / "a.mp4").read_bytes() == newer


def test_what_came_is_kept_for_the_next_run(site: Site, clip: bytes, tmp_path: Path):
    site.files, site.drop = {"/a.mp4": clip}, {"/a.mp4": [200_000] + [0] * 9}
    (failed,) = fetch(site, tmp_path, "/a.mp4")
    assert failed.state == "failed" and "download failed" in failed.problem
    site.drop = {}
    site.log.clear()
    assert states(fetch(site, tmp_path, "/a.mp4")) == ["fetched"]
    (asked,) = site.gets("/a.mp4")
    assert asked and int(asked[6:-1]) >= 131_072
    assert (tmp_path / "a.mp4").read_bytes() == clip


def test_busy_servers_are_left_alone_as_long_as_they_ask(
    site: Site, clip: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    site.files = {"/a.mp4": clip, "/b.mp4": clip}
    site.answers = {"/a.mp4": [(429, "1"), (500, None), (503, "0")], "/b.mp4": [(500, None)] * 9}
    waits: list[float] = []
    monkeypatch.setattr(http, "time", SimpleNamespace(sleep=waits.append, time=time.time, monotonic=time.monotonic))
    found = fetch(site, tmp_path, "/a.mp4", "/b.mp4", "/c.mp4", jobs=3)
    assert states(found) == ["fetched", "failed", "failed"]
    wait = http._WAIT  # doubled each time; the first answer asks for a second
    assert sorted(waits) == [wait, 2 * wait, 2 * wait, 4 * wait, 4 * wait, 1.0]
    assert "returned 500" in found[1].problem and "returned 404" in found[2].problem
    assert len([entry for entry in site.log if entry[1] == "/c.mp4"]) == 1  # waiting makes no file


def test_silence_ends(site: Site, clip: bytes, tmp_path: Path):
    site.files, site.hangs = {"/a.mp4": clip, "/b.mp4": clip}, {"/a.mp4"}
    found = fetch(site, tmp_path, "/a.mp4", "/b.mp4")
    assert states(found) == ["failed", "fetched"] and f"{site.url}/a.mp4" in found[0].problem


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("/circle.mp4", "redirect"),
        ("/away.mp4", "ftp"),
        ("/broken.mp4", "download failed"),
        ("/long.mp4", "not an address"),
        ("/endless.mp4", "no end after"),
        ("/crawl.mp4", "download too slow"),
        ("/headers.mp4", "no complete response"),
    ],
)
def test_what_one_address_does_fails_its_own_line(
    site: Site, clip: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str, words: str
):
    monkeypatch.setattr(http, "LARGEST_UNANNOUNCED", 2_000_000)
    monkeypatch.setattr(http, "FLOOR_SECONDS", 0.2)
    if address == "/headers.mp4":  # the others answer at once, however busy the machine is
        monkeypatch.setattr(http, "ANSWER_SECONDS", 3)
    site.headers_crawl = {"/headers.mp4"}
    site.files = dict.fromkeys(("/a.mp4", "/endless.mp4", "/crawl.mp4", "/z.mp4"), clip)
    site.redirects = {"/circle.mp4": "/turn.mp4", "/turn.mp4": "/circle.mp4", "/away.mp4": "ftp://h/x.mp4"}
    site.redirects |= {"/broken.mp4": "http://[::1", "/long.mp4": f"http://{'a' * 300}.example/x.mp4"}
    site.endless, site.crawls = {"/endless.mp4"}, {"/crawl.mp4": 0.02}
    found = fetch(site, tmp_path, "/a.mp4", address, "/z.mp4", jobs=1)
    assert states(found) == ["fetched", "failed", "fetched"]
    assert words in found[1].problem and f"{site.url}{address}" in found[1].problem and "\n" not in found[1].problem
    assert not any(path.stat().st_size > 2_500_000 for path in (tmp_path / ".partial").iterdir())


def test_a_slow_file_is_fetched_as_long_as_it_is_above_the_floor(
    site: Site, clip: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(http, "FLOOR_SECONDS", 0.05)
    site.files, site.pause = {"/a.mp4": clip}, 0.1
    assert states(fetch(site, tmp_path, "/a.mp4")) == ["fetched"]


def test_addresses_that_are_none_are_named_by_their_line():
    text = f"http://h/{'x' * 9000}.mp4\nhttp://[::1/a.mp4\nhttp://h:port/a.mp4\nhttp://:80/a.mp4\nhttp://h/ok.mp4"
    *bad, good = read_list(text, "list")
    assert [entry.problem.partition(": ")[0] for entry in bad] == [f"list line {n}" for n in (1, 2, 3, 4)]
    assert "characters" in bad[0].problem and all(len(entry.problem) < 350 for entry in bad)
    assert good.name == "ok.mp4" and not good.problem


def test_the_record_of_downloads_names_no_place_outside(site: Site, clip: bytes, tmp_path: Path):
    site.files = {"/a.mp4": clip, "/b.mp4": clip, "/c.mp4": clip, "/d/e.mp4": clip}
    out = tmp_path / "out"
    out.mkdir()
    places = ["../a.mp4", str(tmp_path / "b.mp4"), 5, "\x00.mp4"]
    rows = [
        json.dumps({"url": f"{site.url}{url}", "file": file, "bytes": 1, "sha256": ""})
        for url, file in zip(site.files, places)
    ]
    (out / "downloads.jsonl").write_bytes(
        "\n".join([*rows, "[" * 5000, '{"url": [], "file": {}}']).encode() + b"\xff\n"
    )
    with pytest.warns(FashionFlowWarning, match=r"line 1 .path outside"):
        taken = {url: row.file for url, row in read_manifest(out).items()}
    assert taken == {}
    with pytest.warns(FashionFlowWarning):
        assert states(fetch(site, out, *site.files)) == ["fetched"] * 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    assert len((out / "downloads.jsonl").read_text().splitlines()) == 4
    (tmp_path / "elsewhere").mkdir()
    (out / "link").symlink_to(tmp_path / "elsewhere")
    (found,) = fetch(site, out, "/a.mp4\tlink/new.mp4", overwrite=True)
    assert found.state == "failed" and "leads out of" in found.problem and not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize("call", ["_stream", "hashing.sha256"])
def test_a_full_disk_is_named(site: Site, clip: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str):
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    site.files = {"/a.mp4": clip}
    monkeypatch.setattr(f"fashionflow_core.utils.{'download.' if call == '_stream' else ''}{call}", full)
    (found,) = fetch(site, tmp_path, "/a.mp4")
    assert found.state == "failed" and "disk full" in found.problem


def test_what_is_no_video_is_not_kept(site: Site, clip: bytes, tmp_path: Path):
    page = b"\n<!DOCTYPE html><html>Not found</html>"
    site.files = {"/a.mp4": page, "/b.mp4": clip[:900], "/c.mp4": b"", "/d.csv": b"a,b\n", "/e.csv": page}
    found = fetch(site, tmp_path, *site.files)
    assert states(found) == ["failed", "failed", "failed", "fetched", "failed"]
    assert "a web page, not a video" in found[0].problem and "empty response" in found[2].problem
    assert {path.name for path in tmp_path.glob("*.*") if not path.name.startswith(".")} == {"d.csv", "downloads.jsonl"}
    site.files["/a.mp4"] = clip
    assert states(fetch(site, tmp_path, "/a.mp4")) == ["fetched"]


def test_hashes_are_checked(site: Site, clip: bytes, tmp_path: Path):
    site.files = {"/a.mp4": clip, "/b.mp4": clip}
    good = hashlib.sha256(clip).hexdigest()
    found = fetch(site, tmp_path, f"/a.mp4  sha256:{good}", f"/b.mp4\tx/b.mp4 sha256:{'0' * 64}")
    assert states(found) == ["fetched", "failed"] and f"SHA-256 is {good}" in found[1].problem
    assert states(fetch(site, tmp_path, f"/a.mp4 sha256:{'1' * 64}")) == ["failed"]  # kept files are held to it too
    assert (tmp_path / "a.mp4").read_bytes() == clip


def test_files_of_others_are_not_replaced(site: Site, clip: bytes, tmp_path: Path):
    site.files = {"/a.mp4": clip, "/1/b.mp4": clip, "/2/b.mp4": clip[:-1] + b"!"}
    (tmp_path / "a.mp4").write_text("mine")
    found = fetch(site, tmp_path, *site.files)
    assert states(found) == ["failed", "fetched", "fetched"] and "exists, but is not from" in found[0].problem
    assert (tmp_path / "a.mp4").read_text() == "mine"
    assert (tmp_path / found[1].file).read_bytes() != (tmp_path / found[2].file).read_bytes()
    assert states(fetch(site, tmp_path, "/a.mp4", overwrite=True)) == ["fetched"]
    assert (tmp_path / "a.mp4").read_bytes() == clip


def test_the_command_says_what_it_did(clip: bytes, tmp_path: Path):
    with serving() as site:
        site.files = {"/a.mp4": clip, "/b%2Bc.mp4": clip}
        (tmp_path / "list").write_text(f"{site.url}/a.mp4\n{site.url}/b%2Bc.mp4\n{site.url}/gone.mp4\n")
        done = run("data", "download", "list", "-o", "out", "--limit", "2", cwd=tmp_path, env=ONLINE)
        assert (done.returncode, done.stdout) == (0, "out\n"), done.stderr
        done = run("data", "download", "list", "-o", "out", "-q", "--json", cwd=tmp_path, env=ONLINE)
        assert done.returncode == 3 and [f["state"] for f in json.loads(done.stdout)["files"]] == [
            "kept",
            "kept",
            "failed",
        ]
        first, *rest = done.stderr.splitlines()
        assert first.startswith(f"failed: {site.url}/gone.mp4") and rest[0].startswith("error: 1 of 3 files")
    (tmp_path / "empty").write_text("# nothing\n")
    (tmp_path / "binary").write_bytes(bytes(range(256)))
    assert_refused(run("data", "download", "empty", "-o", "out", cwd=tmp_path), 1, "empty: contains no addresses")
    assert_refused(run("data", "download", "binary", "-o", "out", cwd=tmp_path), 1, "binary: not a text file")
    assert_refused(run("data", "download", "gone", "-o", "out", cwd=tmp_path), 1, "gone: no such file")


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_killed_download_is_taken_up(clip: bytes, tmp_path: Path, signum: int, code: int):
    with serving() as site:
        site.files = {f"/{number}.mp4": clip for number in range(4)}
        site.pause, site.hangs = 0.05, {"/3.mp4"}  # it cannot be done before it is killed, however long that takes
        patient = ONLINE | {"HF_HUB_DOWNLOAD_TIMEOUT": "60", "HF_HUB_ETAG_TIMEOUT": "60"}
        (tmp_path / "list").write_text("".join(f"{site.url}/{number}.mp4\n" for number in range(4)))
        log, out = tmp_path / "log", tmp_path / "out"
        command = ("data", "download", "list", "-o", "out", "--jobs", "1")
        with started(*command, cwd=tmp_path, log=log, env=patient) as process:
            wait_until(
                lambda: len(site.gets("/1.mp4")) == 1 and any((out / ".partial").glob("*.incomplete")), process, log
            )
            other = run(*command, "-q", cwd=tmp_path, env=ONLINE)
            assert_refused(other, 1, "another fashionflow data download is writing to it")
            process.send_signal(signum)
            assert process.wait(timeout=60) == code, log.read_text()
            assert "Traceback" not in log.read_text()
        assert {path.name for path in out.glob("*.mp4")} <= {f"{number}.mp4" for number in range(4)}
        assert all(path.read_bytes() == clip for path in out.glob("*.mp4"))
        kept = len(list(out.glob("*.mp4")))
        site.log.clear()
        site.pause = 0
        site.hangs.clear()
        assert run(*command, cwd=tmp_path, env=ONLINE).returncode == 0
        assert not any(site.gets(f"/{number}.mp4") for number in range(kept))
        assert (
            all((out / f"{number}.mp4").read_bytes() == clip for number in range(4)) and not (out / ".partial").exists()
        )
