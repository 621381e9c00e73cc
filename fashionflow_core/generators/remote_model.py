"""Remote model: the OpenAI-shaped video endpoint that vLLM-Omni, SGLang and NVIDIA Dynamo serve.

POST /v1/videos starts a job, GET /v1/videos/ID tells its state, GET /v1/videos/ID/content returns the file.
"""

import http.client
import io
import json
import os
import secrets
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import numpy as np
import torch
from PIL import Image

from fashionflow_core import video
from fashionflow_core.config import LoadOptions, ResolvedSettings
from fashionflow_core.errors import FashionFlowError, SettingError, option
from fashionflow_core.generators.config import OWN_SCHEDULER, GeneratorConfig

KEY = "FASHIONFLOW_API_KEY"  # variable with the bearer token; an option would show it in process lists
_AGAIN = (408, 425, 429, 500, 502, 503, 504)
_DECODED = 4  # times the largest file: its decoded frames
_DONE = ("completed", "succeeded")
_ENDED = ("failed", "cancelled", "canceled", "error", "expired", "rejected")
T = TypeVar("T")
OnStep = Callable[[int, int], None]


@dataclass(frozen=True)
class RemoteLimits:
    """Time-outs, retries and largest file of requests to a server.

    Attributes:
        answer: time-out of a connection and of each read, in seconds.
        stalled: seconds without progress after which a job is cancelled.
        retries: of a request that failed temporarily.
        pause: seconds before the first retry and between two polls; grows to ten times that.
        bytes: largest video file.
    """

    answer: float = 60.0
    stalled: float = 1800.0
    retries: int = 4
    pause: float = 1.0
    bytes: int = 2 * 2**30


class RemoteModel:
    """A model on a server.

    Args:
        config: of `remote_place.remote_config`.
        options: defaults only, since the server chooses.
        limits: of requests.

    Raises:
        UsageError: an option of a model that runs here.
    """

    device = "remote"
    dtype = torch.float32
    weights_bytes = 0

    def __init__(
        self, config: GeneratorConfig, options: LoadOptions = LoadOptions(), limits: RemoteLimits = RemoteLimits()
    ) -> None:
        for name in ("lora", "compile", "low_memory"):
            if getattr(options, name):
                raise SettingError(
                    name, f"{config.name} runs on its server, which chooses", hint=f"leave {option(name)} out"
                )
        self.config, self.limits = config, limits
        self.address, self.model = config.repo, config.name if config.name != urlsplit(config.repo).netloc else ""
        self._opener = urllib.request.build_opener(_Redirects)

    def generate(
        self,
        photos: Sequence[np.ndarray],
        requests: Sequence[ResolvedSettings],
        generators: Sequence[torch.Generator],
        on_step: OnStep,
    ) -> tuple[list[np.ndarray], float]:
        """Generate a clip on the server; a job that fails or is interrupted here is cancelled there.

        Args:
            photos: one, uint8 (h, w, 3), sent as PNG.
            requests: one, resolved for this model.
            generators: one, on the CPU; the seed that is sent is drawn from it.
            on_step: called with the server's progress as (steps done, steps in all).

        Returns:
            One clip, uint8 (n, h, w, 3), and its frame rate.

        Raises:
            FashionFlowError: the server cannot be reached, refuses, fails, stalls or returns no video.
        """
        (photo,), (request,), (generator,) = photos, requests, generators
        fields = self._fields(photo, request, int(torch.randint(2**31, (1,), generator=generator)))
        # Servers that know the header start one job, however often a dropped request is repeated.
        once = {"Idempotency-Key": secrets.token_hex(16)}
        job = self._json("POST", "/videos", *_form(fields, _png(photo)), once)
        name = job.get("id")
        if not isinstance(name, str) or not name:
            raise self._failure("no job id in its answer", f"is {self.address} an OpenAI-shaped video endpoint?")
        path = f"/videos/{quote(name, safe='')}"
        try:
            self._wait(path, job, request.steps, on_step)
        except BaseException:
            with suppress(Exception):
                self._send("DELETE", path, None, {}).close()
            raise
        frames, rate = self._content(f"{path}/content")
        return [frames], rate

    def _fields(self, photo: np.ndarray, request: ResolvedSettings, seed: int) -> dict[str, str]:
        asked = request.generator
        if asked is None:
            raise ValueError("the request was resolved for a model of FashionFlow")
        if not self.model:
            self.model = self._first_model()
        fields = {
            "model": self.model,
            "prompt": asked.prompt,
            "negative_prompt": asked.negative_prompt,
            "size": f"{photo.shape[1]}x{photo.shape[0]}",
            "seconds": str(max(1, round(request.frames / asked.model_fps))),
            "num_frames": str(request.frames),
            "fps": f"{asked.model_fps:g}",
            "seed": str(seed),
        }
        # Defaults are the server's.
        if request.steps != self.config.steps:
            fields["num_inference_steps"] = str(request.steps)
        if request.guidance_scale != 1:
            fields["guidance_scale"] = f"{request.guidance_scale:g}"
        if request.scheduler != OWN_SCHEDULER:
            fields["scheduler"] = request.scheduler
        return {key: value for key, value in fields.items() if value}

    def _first_model(self) -> str:
        """The name of the server's model; empty where it lists none."""
        listed = self._json("GET", "/models").get("data")
        first = listed[0] if isinstance(listed, list) and listed else {}
        return str(first.get("id", "")) if isinstance(first, dict) else ""

    def _wait(self, path: str, job: Mapping[str, Any], steps: int, on_step: OnStep) -> None:
        done, before, moved, pause = 0, None, time.monotonic(), self.limits.pause
        while True:
            status, progress = str(job.get("status", "")), job.get("progress")
            share = min(1.0, max(0.0, progress / 100)) if isinstance(progress, int | float) else 0.0
            now = steps if status in _DONE else int(share * steps)
            while done < now:
                done += 1
                on_step(done, steps)
            if status in _DONE:
                return
            if status in _ENDED:
                told = job.get("error")
                text = told.get("message") if isinstance(told, dict) else told
                raise self._failure(f"the job {status}: {_line(text or 'no reason given')}", "see the server's log")
            if (status, progress) != before:
                before, moved = (status, progress), time.monotonic()
            elif time.monotonic() - moved > self.limits.stalled:
                raise self._failure(
                    f"no progress in {self.limits.stalled:g} s ({status or 'no status'})", "see the server's log"
                )
            time.sleep(pause)
            pause = min(pause * 1.5, 10 * self.limits.pause)
            job = self._json("GET", path)

    def _content(self, path: str) -> tuple[np.ndarray, float]:
        with tempfile.TemporaryDirectory(prefix="fashionflow-remote-") as folder:
            file = Path(folder) / "video.mp4"

            def fetch() -> None:
                with self._send("GET", path, None, {}) as answer, file.open("wb") as target:
                    length = answer.headers.get("Content-Length", "")
                    self._check_bytes(int(length) if length.isdigit() else 0, self.limits.bytes)
                    while piece := answer.read(2**20):
                        self._check_bytes(target.tell() + len(piece), self.limits.bytes)
                        target.write(piece)
                if length.isdigit() and file.stat().st_size != int(length):
                    raise http.client.IncompleteRead(b"")

            self._persistent(fetch)
            try:
                found = video.probe(file)
                # All frames are held at once, so that a small file of many large frames must not fill the memory.
                self._check_bytes(found.frames * found.height * found.width * 3, _DECODED * self.limits.bytes)
                return video.read(file), found.fps or self.config.fps
            except FashionFlowError as error:
                if error.message.startswith(self.address):
                    raise
                raise self._failure(
                    f"not a video ({error.message.removeprefix(f'{file}: ')})",
                    "see the server's log",
                ) from None

    def _check_bytes(self, count: int, most: int) -> None:
        if count > most:
            raise self._failure(
                f"its video is larger than {most / 1e6:,.1f} MB",
                f"use a shorter {option('duration')} or a smaller {option('megapixels')}",
            )

    def _json(
        self, method: str, path: str, body: bytes | None = None, kind: str = "", headers: Mapping[str, str] = {}
    ) -> dict[str, Any]:
        def ask() -> bytes:
            with self._send(method, path, body, {**headers, **({"Content-Type": kind} if kind else {})}) as answer:
                return answer.read(2**20)

        try:
            found = json.loads(self._persistent(ask))
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise self._failure("its answer is not a JSON object", f"is {self.address} a video endpoint?")
        return found

    def _send(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Any:
        headers = {"Accept": "*/*", "User-Agent": "fashionflow", **headers}
        if key := os.environ.get(KEY):
            headers["Authorization"] = f"Bearer {key}"
        # The address is http or https: `remote_place` takes no other.
        asked = urllib.request.Request(self.address + path, data=body, headers=headers, method=method)
        return self._opener.open(asked, timeout=self.limits.answer)

    def _persistent(self, action: Callable[[], T]) -> T:
        """The result of `action`, retried after temporary failures."""
        pause = self.limits.pause
        for attempt in range(self.limits.retries + 1):
            try:
                return action()
            except urllib.error.HTTPError as error:
                if error.code not in _AGAIN or attempt == self.limits.retries:
                    raise self._refusal(error) from None
            except (OSError, http.client.HTTPException) as error:
                if attempt == self.limits.retries:
                    reason = getattr(error, "reason", None) or error
                    raise self._failure(
                        f"cannot be reached ({_line(reason) or type(error).__name__})",
                        f"check that the server runs: curl {self.address}/models",
                    ) from None
            time.sleep(pause)
            pause = min(pause * 2, 10 * self.limits.pause)
        raise AssertionError("the last attempt returns or raises")

    def _refusal(self, error: urllib.error.HTTPError) -> FashionFlowError:
        text = ""
        with suppress(Exception):
            content = json.loads(error.read(2**16))
            told = content.get("error", content.get("detail", ""))
            text = _line(told.get("message", "") if isinstance(told, dict) else told)
        if 300 <= error.code < 400:
            place = _line(error.headers.get("Location", "") if error.headers else "")
            return self._failure(f"answers {error.code}: moved to {place or 'nowhere'}", "name the new address")
        if error.code in (401, 403):
            return self._failure(f"answers {error.code}: {text or 'no access'}", f"set {KEY} to its key")
        return self._failure(f"answers {error.code}: {text or error.reason}", "see the server's log")

    def _failure(self, problem: str, hint: str) -> FashionFlowError:
        return FashionFlowError(f"{self.address}: {problem}", hint)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects of what is read, but takes the key to no other host, and starts no job elsewhere."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        # urllib would follow a moved POST with a GET, without the photo.
        if req.get_method() != "GET" or urlsplit(newurl).scheme not in ("http", "https"):
            return None
        made = super().redirect_request(req, fp, code, msg, headers, newurl)
        if made is not None and urlsplit(newurl)[:2] != urlsplit(req.full_url)[:2]:
            made.remove_header("Authorization")
        return made


def _png(photo: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(photo).save(buffer, format="PNG")
    return buffer.getvalue()


def _form(fields: Mapping[str, str], photo: bytes) -> tuple[bytes, str]:
    """A multipart form (RFC 7578) of texts and the photo, and its content type."""
    boundary = secrets.token_hex(16)
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="input_reference"; filename="photo.png"\r\n'
    parts += [head.encode(), b"Content-Type: image/png\r\n\r\n", photo, f"\r\n--{boundary}--\r\n".encode()]
    return b"".join(parts), f"multipart/form-data; boundary={boundary}"


def _line(text: object) -> str:
    """A server's message as one short line without control characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())[:300]
