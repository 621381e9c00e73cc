"""Photos and videos on other file systems: S3, as moto imitates it on 127.0.0.1, and whatever fsspec has."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from catalogues import assert_whole, conventions, last, lines, photo, quick, quick_process, shop
from command import assert_refused, run

from fashionflow_core import video
from fashionflow_core.catalogue import storage

FILE = "file:" + "//"


def test_arguments_are_urls_again() -> None:
    assert storage.as_given(Path("s3://bucket/a b/c.jpg")) == "s3://bucket/a b/c.jpg"
    assert storage.as_given(Path(f"{FILE}/a/b")) == f"{FILE}/a/b"
    for plain in ("a/b.jpg", "/a/b.jpg", "a:b", "c:/x"):
        assert storage.as_given(Path(plain)) == plain and not storage.is_url(plain)
    assert storage.mirror("s3://a/b/") == storage.mirror("s3://a/b") != storage.mirror("s3://a/c")


@pytest.mark.slow
def test_a_file_system_of_fsspecs(tmp_path: Path) -> None:
    """Files go the way of s3://, without a server."""
    shop(tmp_path / "photos", 3)
    photo(tmp_path / "photos" / "women" / "a.png", 9)
    (tmp_path / "photos" / "bad.jpg").write_bytes(b"no photo")
    (tmp_path / "photos" / "notes.txt").write_text("x")
    source, out = f"{FILE}{tmp_path}/photos/", f"{FILE}{tmp_path}/out"
    env = {"FASHIONFLOW_HOME": str(tmp_path / "home")}
    command = (source, "-o", out, "--model", conventions(tmp_path / "model"))
    result = quick(*command, cwd=tmp_path, env=env)
    assert result.returncode == 3, result.stderr
    assert sorted(result.stdout.split()) == [f"{out}/{name}.mp4" for name in ("000", "001", "002", "women/a")]
    assert assert_whole(tmp_path / "out") == ["000.mp4", "001.mp4", "002.mp4", "women/a.mp4"]
    records = last(tmp_path / "out")
    assert records["bad"]["message"].startswith(f"{source}bad.jpg: not a photo")
    assert records["women/a"]["source"] == f"{source}women/a.png"
    assert "women/a.mp4" in (tmp_path / "out" / "index.html").read_text()
    assert not list((tmp_path / "home").rglob("*.mp4"))

    again = quick(*command, cwd=tmp_path, env=env)
    assert again.returncode == 3 and again.stdout == "" and len(lines(tmp_path / "out")) == 5
    elsewhere = quick(*command, cwd=tmp_path, env={"FASHIONFLOW_HOME": str(tmp_path / "other")})
    assert elsewhere.stdout == "" and len(lines(tmp_path / "out")) == 5  # the manifest came along
    (tmp_path / "out" / "000.mp4").unlink()
    photo(tmp_path / "photos" / "001.jpg", 77)
    third = quick(*command, cwd=tmp_path, env=env)
    assert sorted(third.stdout.split()) == [f"{out}/000.mp4", f"{out}/001.mp4"], third.stderr
    (tmp_path / "out" / "index.html").unlink()
    page = run("gallery", out, cwd=tmp_path, env=env)
    assert (page.returncode, page.stdout) == (0, f"{out}/index.html\n"), page.stderr
    assert (tmp_path / "out" / "index.html").is_file()
    plan = quick(*command, "--dry-run", "--json", cwd=tmp_path, env=env)
    assert json.loads(plan.stdout)["to_do"] == 0


def test_addresses_that_lead_nowhere(tmp_path: Path) -> None:
    model = conventions(tmp_path / "model")
    env = {"FASHIONFLOW_HOME": str(tmp_path / "home")}
    for source, words in ((f"{FILE}{tmp_path}/none/", "no photos found"), ("nosuch://a/b/", "nosuch://a/b")):
        assert_refused(quick(source, "-o", "out", "--model", model, "-q", cwd=tmp_path, env=env), 1, words)


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """An S3 of moto's; what the environment must hold to reach it."""
    pytest.importorskip("moto", reason="needs moto[server]")
    pytest.importorskip("s3fs", reason="needs s3fs")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("moto") / "log"
    with log.open("wb") as streams:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        server = subprocess.Popen(command, stdout=streams, stderr=streams)
    url = f"http://127.0.0.1:{port}"
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(url, timeout=1).close()
                break
            except OSError:
                assert server.poll() is None and time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)
        yield keys | {"AWS_ENDPOINT_URL": url}
    finally:
        server.kill()
        server.wait()


@pytest.mark.slow
def test_s3(bucket: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import s3fs  # pyright: ignore[reportMissingImports]

    for name, value in bucket.items():
        monkeypatch.setenv(name, value)
    files = s3fs.S3FileSystem(skip_instance_cache=True)
    files.mkdir("shop")
    shop(tmp_path / "photos", 4)
    (tmp_path / "photos" / "bad.jpg").write_bytes(b"no photo")
    for path in (tmp_path / "photos").iterdir():
        files.put_file(str(path), f"shop/photos/spring & summer/{path.name}")
    env = {**bucket, "FASHIONFLOW_HOME": str(tmp_path / "home")}
    command = ("s3://shop/photos/", "-o", "s3://shop/videos/", "--model", conventions(tmp_path / "model"))
    result = quick_process(*command, cwd=tmp_path, env=env)
    assert result.returncode == 3, result.stderr
    made = [f"s3://shop/videos/spring & summer/{number:03d}.mp4" for number in range(4)]
    assert sorted(result.stdout.splitlines()) == made
    files.invalidate_cache()
    files.get("shop/videos", str(tmp_path / "got"), recursive=True)
    assert len(video.read(tmp_path / "got" / "spring & summer" / "000.mp4")) == 4
    assert {"manifest.jsonl", "index.html"} <= set(os.listdir(tmp_path / "got"))
    assert len(lines(tmp_path / "got")) == 5

    again = quick_process(*command, cwd=tmp_path, env={**env, "FASHIONFLOW_HOME": str(tmp_path / "elsewhere")})
    assert again.returncode == 3 and again.stdout == "", again.stderr
    files.rm("shop/videos/spring & summer/002.mp4")
    third = quick_process(*command, cwd=tmp_path, env=env)
    assert third.stdout.splitlines() == [made[2]]
    denied = quick_process("s3://nobody/x/", "-o", "out", "--model", tmp_path / "model", "-q", cwd=tmp_path, env=env)
    assert_refused(denied, 1, "s3://nobody/x")
