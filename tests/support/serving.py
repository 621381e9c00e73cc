"""`fashionflow serve` as a process of its own, with `quick_model`, and a client without any library."""

import contextlib
import http.client
import io
import json
import secrets
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from catalogues import QUICK, conventions
from command import COMMAND, environment, interruptible
from PIL import Image


@dataclass
class Answer:
    """What a server answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Server:
    """A running server and its client."""

    process: subprocess.Popen[bytes]
    port: int
    folder: Path
    log: Path
    headers: dict[str, str] = field(default_factory=dict)

    def ask(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None, timeout: float = 60
    ) -> Answer:
        """One request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            data = json.dumps(body) if isinstance(body, dict) else body
            kind = {"Content-Type": "application/json"} if isinstance(body, dict) else {}
            connection.request(method, path, data, {**self.headers, **kind, **(headers or {})})
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def post(
        self, photo: bytes, headers: Mapping[str, str] | None = None, name: str = "p.png", **fields: Any
    ) -> Answer:
        """A new video."""
        body, kind = form({**fields, "input_reference": (name, photo)})
        return self.ask("POST", "/v1/videos", body, {"Content-Type": kind, **(headers or {})})

    def made(self, photo: bytes, **fields: Any) -> str:
        """The id of a new video."""
        answer = self.post(photo, **fields)
        assert answer.status == 200, answer.body
        return answer.json["id"]

    def state(self, video: str) -> dict[str, Any]:
        return self.ask("GET", f"/v1/videos/{video}").json

    def wait(self, *videos: str, seconds: float = 120) -> list[dict[str, Any]]:
        """The videos, once they are completed or failed."""
        deadline = time.monotonic() + seconds
        while True:
            states = [self.state(video) for video in videos]
            if all(state["status"] in ("completed", "failed") for state in states):
                return states
            assert time.monotonic() < deadline and self.process.poll() is None, (states, self.log.read_text())
            time.sleep(0.02)

    def until(self, video: str, status: str) -> None:
        """Wait until a video has that status."""
        deadline = time.monotonic() + 60
        while self.state(video)["status"] != status:
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.01)


def form(fields: Mapping[str, Any]) -> tuple[bytes, str]:
    """A multipart body, with files as (name, bytes), and its media type."""
    mark = secrets.token_hex(8)
    parts = []
    for name, value in fields.items():
        if isinstance(value, tuple):
            head = f'Content-Disposition: form-data; name="{name}"; filename="{value[0]}"\r\nContent-Type: image/png'
            data = value[1]
        else:
            head, data = f'Content-Disposition: form-data; name="{name}"', str(value).encode()
        parts.append(f"--{mark}\r\n{head}\r\n\r\n".encode() + data + b"\r\n")
    return b"".join(parts) + f"--{mark}--\r\n".encode(), f"multipart/form-data; boundary={mark}"


def picture(red: int = 120, green: int = 90, blue: int = 60, size: tuple[int, int] = (64, 64)) -> bytes:
    """A photo of one colour; `quick_model` knows some that do harm."""
    file = io.BytesIO()
    Image.new("RGB", size, (red, green, blue)).save(file, "PNG")
    return file.getvalue()


@contextlib.contextmanager
def serving(
    folder: Path,
    *options: str | Path,
    env: Mapping[str, str] | None = None,
    model: str | None = None,
    ready: bool = True,
) -> Iterator[Server]:
    """A server whose videos are in `folder`; killed at the end. Without `model` it serves `quick_model`."""
    work = folder.parent
    if model is None:
        program, model = QUICK, str(work / "model")
        if not Path(model).exists():
            conventions(Path(model))
    else:
        program = COMMAND
    log, out = work / f"{folder.name}.log", work / f"{folder.name}.address"
    with log.open("ab") as errors, out.open("wb") as address, interruptible():
        process = subprocess.Popen(
            [*program, "serve", "--model", model, "--port", "0", "--folder", str(folder), *map(str, options)],
            cwd=work,
            env=environment(env),
            stdout=address,
            stderr=errors,
        )
    try:
        deadline = time.monotonic() + 60
        while not (text := out.read_text()).endswith("\n"):
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.01)
        server = Server(process, int(text.strip().rsplit(":", 1)[1]), folder, log)
        while ready and server.ask("GET", "/readyz").status != 200:
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.01)
        yield server
    finally:
        process.kill()
        process.wait()
