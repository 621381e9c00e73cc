"""Remote models, against an imitation of an OpenAI-shaped video endpoint on 127.0.0.1 that stalls, fails and drops."""

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import assert_refused, run
from PIL import Image

from fashionflow_core import video
from fashionflow_core.config import GenerateSettings, LoadOptions
from fashionflow_core.diffusion.frame_generator import FrameGenerator
from fashionflow_core.errors import FashionFlowError
from fashionflow_core.generators.remote_model import KEY, RemoteLimits, RemoteModel
from fashionflow_core.generators.remote_place import address_of, remote_config

QUICK = RemoteLimits(answer=0.5, stalled=0.5, retries=2, pause=0.01)


@dataclass
class Endpoint:
    """The state of the imitation; tests change it while it runs.

    Attributes:
        content: the finished video.
        failing: how many of the next requests are answered with 503.
        drop: how many of the next answers with content are cut in the middle.
        hang: how many of the next requests are not answered.
        stalls: a job that never makes progress.
        fails: why jobs fail; empty: they do not.
        key: without it, 401 is answered; empty: nobody is asked.
        text: what is answered in place of JSON.
        moved: address that jobs are redirected to; empty: none.
        content_at: address that contents are redirected to; empty: none.
        log: method and path of each request.
        forms: bodies of the jobs.
        headers: of each request.
    """

    url: str = ""
    content: bytes = b""
    failing: int = 0
    drop: int = 0
    hang: int = 0
    stalls: bool = False
    fails: str = ""
    key: str = ""
    text: str = ""
    moved: str = ""
    content_at: str = ""
    log: list[str] = field(default_factory=list)
    forms: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    polls: int = 0
    closed: threading.Event = field(default_factory=threading.Event)


class _Handler(BaseHTTPRequestHandler):
    endpoint: Endpoint

    def _handle(self) -> None:
        state = self.endpoint
        state.log.append(f"{self.command} {self.path}")
        state.headers.append(dict(self.headers))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if state.hang > 0:
            state.hang -= 1
            state.closed.wait(5)
            return
        if state.failing > 0:
            state.failing -= 1
            return self._json({"error": {"message": "warming up"}}, 503)
        if state.key and self.headers.get("Authorization") != f"Bearer {state.key}":
            return self._json({"error": {"message": "no key"}}, 401)
        if self.path == "/v1/models":
            return self._json({"data": [{"id": "tiny-i2v"}]})
        if self.command == "POST" and state.moved:
            return self._moved(state.moved)
        if self.command == "POST":
            state.forms.append(body)
            state.polls = 0
            return self._json({"id": "job/1", "status": "queued", "progress": 0})
        if self.path.endswith("/content"):
            return self._moved(state.content_at) if state.content_at else self._send_content()
        state.polls += 1
        if state.fails:
            return self._json({"status": "failed", "error": {"message": state.fails}})
        if state.stalls or state.polls < 3:
            return self._json({"status": "in_progress", "progress": 0 if state.stalls else 40 * state.polls})
        return self._json({"status": "completed", "progress": 100})

    do_GET = do_POST = do_DELETE = _handle

    def _moved(self, place: str) -> None:
        self.send_response(307)
        self.send_header("Location", place)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send_content(self) -> None:
        data = self.endpoint.content
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.endpoint.drop > 0:
            self.endpoint.drop -= 1
            self.wfile.write(data[: len(data) // 2])
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.wfile.write(data)

    def _json(self, value: Any, status: int = 200) -> None:
        data = (self.endpoint.text or json.dumps(value)).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        return


@contextlib.contextmanager
def _served(content: bytes) -> Iterator[Endpoint]:
    endpoint = Endpoint(content=content)
    handler = type("Handler", (_Handler,), {"endpoint": endpoint})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    endpoint.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        yield endpoint
    finally:
        endpoint.closed.set()
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[Endpoint]:
    frames = [np.full((96, 64, 3), 40 + 10 * n, np.uint8) for n in range(8)]
    video.write(iter(frames), tmp_path / "made.mp4", 8, len(frames), {})
    with _served((tmp_path / "made.mp4").read_bytes()) as endpoint:
        yield endpoint


@pytest.fixture
def photo() -> np.ndarray:
    return np.full((96, 64, 3), 200, np.uint8)


def generated(endpoint: Endpoint, photo: np.ndarray, limits: RemoteLimits = QUICK, **settings: Any) -> Any:
    config = remote_config(endpoint.url)
    request = GenerateSettings(size=(96, 64), **settings).resolve(config)
    steps: list[tuple[int, int]] = []
    source = RemoteModel(config, LoadOptions(), limits)
    (clip,) = FrameGenerator(source, config).generate_batch([photo], [request], [0], lambda *step: steps.append(step))
    return clip, steps


def test_a_photo_is_sent_and_a_video_comes_back(endpoint: Endpoint, photo: np.ndarray) -> None:
    clip, steps = generated(endpoint, photo, duration=1.0, fps=24.0, prompt="a red coat")
    frames = list(clip.frames)
    assert (len(frames), clip.count, clip.fps) == (24, 24, 24), "8 frames at 8 a second are one second"
    assert np.array_equal(frames[0], photo)
    assert steps[-1] == (50, 50) and len(steps) == 50
    assert endpoint.log[0] == "GET /v1/models" and endpoint.log[1] == "POST /v1/videos"
    assert endpoint.log[-1] == "GET /v1/videos/job%2F1/content"
    (form,) = endpoint.forms
    for text in (b"tiny-i2v", b"a red coat", b"64x96", b'name="seed"', b'name="input_reference"', b"\x89PNG"):
        assert text in form
    assert b"num_inference_steps" not in form and b"guidance" not in form, "what nobody asked for is the server's"


def test_the_same_seed_is_sent_again(endpoint: Endpoint, photo: np.ndarray) -> None:
    def seed(**settings: Any) -> bytes:
        generated(endpoint, photo, **settings)
        return endpoint.forms[-1].split(b'name="seed"\r\n\r\n')[1].split(b"\r\n")[0]

    assert seed(seed=3) == seed(seed=3) != seed(seed=4)


def test_failures_that_pass_are_waited_out(endpoint: Endpoint, photo: np.ndarray) -> None:
    endpoint.failing, endpoint.drop = 2, 2
    clip, _ = generated(endpoint, photo, duration=1.0)
    assert clip.count == 24 and sum(line.endswith("/content") for line in endpoint.log) == 3
    endpoint.hang = 1
    assert generated(endpoint, photo, duration=1.0)[0].count == 24


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"failing": 100}, "answers 503: warming up"),
        ({"hang": 100}, "cannot be reached"),
        ({"drop": 100}, "cannot be reached"),
        ({"stalls": True}, "no progress in 0.5 s"),
        ({"fails": "no memory\nleft"}, "the job failed: no memory left"),
        ({"key": "secret"}, "answers 401: no key"),
        ({"text": "<html>"}, "not a JSON object"),
        ({"text": "[]"}, "not a JSON object"),
        ({"text": "{}"}, "no job id"),
        ({"content": b"not a video at all"}, "not a video"),
        ({"content": b""}, "not a video"),
        ({"content": b"<!doctype html><html><body>Bad gateway</body></html>"}, "not a video"),
        ({"moved": "https://elsewhere/v1/videos"}, "answers 307: moved to https://elsewhere/v1/videos"),
        ({"content_at": "ftp://elsewhere/video.mp4"}, "answers 307: moved to ftp://elsewhere"),
    ],
)
def test_a_server_that_fails_is_one_line(
    endpoint: Endpoint, photo: np.ndarray, fault: dict[str, Any], words: str
) -> None:
    for name, value in fault.items():
        setattr(endpoint, name, value)
    with pytest.raises(FashionFlowError, match=words) as caught:
        generated(endpoint, photo)
    assert caught.value.message.startswith(endpoint.url) and caught.value.hint
    assert "\n" not in caught.value.message


def test_a_job_that_is_given_up_is_cancelled(endpoint: Endpoint, photo: np.ndarray) -> None:
    endpoint.stalls = True
    with pytest.raises(FashionFlowError):
        generated(endpoint, photo)
    assert "DELETE /v1/videos/job%2F1" in endpoint.log


def test_the_key_comes_from_the_environment(
    endpoint: Endpoint, photo: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint.key = "secret"
    monkeypatch.setenv(KEY, "secret")
    clip, _ = generated(endpoint, photo, duration=1.0)
    assert "secret" not in json.dumps(clip.metadata)


def test_a_video_may_be_somewhere_else_where_the_key_does_not_go(
    endpoint: Endpoint, photo: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint.key = "secret"
    monkeypatch.setenv(KEY, "secret")
    with _served(endpoint.content) as store:
        endpoint.content_at = f"{store.url}/stored/content"
        assert generated(endpoint, photo, duration=1.0)[0].count == 24
        assert store.log == ["GET /v1/stored/content"] and "Authorization" not in store.headers[0]
    assert all(headers["Authorization"] == "Bearer secret" for headers in endpoint.headers)


def test_a_dropped_job_is_asked_for_once_more_under_its_key(endpoint: Endpoint, photo: np.ndarray) -> None:
    config = remote_config(f"{endpoint.url}#tiny")
    source = RemoteModel(config, LoadOptions(), QUICK)
    request = GenerateSettings(size=(96, 64), duration=1.0).resolve(config)
    for _ in range(2):
        endpoint.hang = 1
        FrameGenerator(source, config).generate_batch([photo], [request], [0])
    keys = [headers["Idempotency-Key"] for headers in endpoint.headers if "Idempotency-Key" in headers]
    assert len(keys) == 4 and keys[0] == keys[1] != keys[2] == keys[3]


def test_a_video_that_is_too_large_is_refused_at_once(endpoint: Endpoint, photo: np.ndarray, tmp_path: Path) -> None:
    size = len(endpoint.content)
    with pytest.raises(FashionFlowError, match=r"larger than 0\.0 MB"):
        generated(endpoint, photo, replace(QUICK, bytes=size - 1))
    assert sum(line.endswith("/content") for line in endpoint.log) == 1, "it would be as large again"
    frames = [np.full((256, 256, 3), 9 * n, np.uint8) for n in range(16)]
    video.write(iter(frames), tmp_path / "flat.mp4", 8, len(frames), {})
    endpoint.content = (tmp_path / "flat.mp4").read_bytes()
    with pytest.raises(FashionFlowError, match="larger than"):
        generated(endpoint, photo, replace(QUICK, bytes=len(endpoint.content)))  # small as a file, not decoded


def test_a_portrait_is_asked_for_in_its_own_shape(endpoint: Endpoint) -> None:
    portrait, config = np.full((150, 100, 3), 90, np.uint8), remote_config(f"{endpoint.url}#tiny")
    request = GenerateSettings(duration=1.0, megapixels=0.02).resolve(config)
    (clip,) = FrameGenerator(RemoteModel(config, LoadOptions(), QUICK), config).generate_batch(
        [portrait], [request], [0]
    )
    size = endpoint.forms[0].split(b'name="size"\r\n\r\n')[1].split(b"\r\n")[0]
    assert size == b"112x176", "width x height"
    # What came back was 64x96: a server that resizes; the bars are cut off in proportion.
    assert (clip.height, clip.width) == (92, 64)


@pytest.mark.slow
def test_the_command_line_makes_files_and_catalogues(endpoint: Endpoint, photo: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(2):
        Image.fromarray(photo - np.uint8(number)).save(tmp_path / "photos" / f"{number}.png")
    options = ("--model", f"{endpoint.url}#shop/model", "--duration", "1", "-q")
    result = run("generate", "photos/0.png", "-o", "a.mp4", *options, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert video.probe(tmp_path / "a.mp4").frames == 24
    assert b"shop/model" in endpoint.forms[0]
    # It returns 64x96 whatever is asked for; posters and scores follow.
    result = run("generate", "photos", "-o", "out", *options, "--poster", "--gate", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert len(list((tmp_path / "out").glob("*.mp4"))) == 2
    planned = run("generate", "photos/0.png", "-o", "b.mp4", *options, "--dry-run", cwd=tmp_path)
    assert planned.returncode == 0 and "remote" in planned.stdout, planned.stderr
    assert_refused(run("generate", "photos/0.png", "-o", "b.mp4", *options, "--compile", cwd=tmp_path), 2, "--compile")
    assert_refused(
        run("generate", "photos/0.png", "-o", "b.mp4", "--model", "http://u:p@h/v1", cwd=tmp_path), 2, "--model"
    )


def test_addresses_survive_paths() -> None:
    assert address_of(Path("http://127.0.0.1:80/v1#a/b")) == ("http://127.0.0.1:80/v1", "a/b")
    assert address_of("HTTPS://host/v1/") == ("https://host/v1", "")
