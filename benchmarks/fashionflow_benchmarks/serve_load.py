"""Load test of `fashionflow serve`: many clients, a stub in place of the networks, kills in between

python -m fashionflow_benchmarks.serve_load --out benchmarks/results/serve-load.json
"""

import argparse
import http.client
import io
import json
import os
import platform
import random
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from fashionflow_core.catalogue.jobs import RunSpec
from fashionflow_core.config import GenerateSettings, LoadOptions, ModelConfig, ResolvedSettings
from fashionflow_core.serve.settings import ServerLimits, ServerOptions
from fashionflow_core.store.registry import ASSETS

if TYPE_CHECKING:
    import numpy as np

_POLL = 1.0  # seconds between two looks of a client, as OpenAI's client has it
_SIDE, _FRAMES = 64, 4


# the server's side


class StubClip:
    """The photo, getting darker."""

    def __init__(self, photo: "np.ndarray") -> None:
        self.photo, self.fps, self.count, self.warnings = photo, 8.0, _FRAMES, ()
        self.height, self.width = photo.shape[:2]
        self.latents = self.lock = None
        self.metadata = {"fashionflow_scheduler": "stub", "fashionflow_steps": "1"}

    @property
    def frames(self) -> "Iterator[np.ndarray]":
        """Its frames, uint8 (h, w, 3)."""
        for number in range(self.count):
            yield (self.photo * (1 - 0.02 * number)).astype("uint8")


class StubPipeline:
    """Stands where a pipeline does, without networks."""

    def __init__(self, config: ModelConfig) -> None:
        self.config, self.networks = config, SimpleNamespace(device="cpu")

    def resolve(self, settings: GenerateSettings) -> ResolvedSettings:
        """As the pipeline's."""
        return settings.resolve(self.config)

    def generate_batch(
        self,
        photos: Sequence[Any],
        settings: Sequence[GenerateSettings],
        items: Sequence[int],
        on_step: Callable[..., None],
    ) -> list[StubClip]:
        """As the pipeline's."""
        on_step(1, 1)
        return [StubClip(photo.pixels) for photo in photos]


def open_stub(folder: Path, _options: LoadOptions) -> StubPipeline:
    """As `pipeline.load`."""
    return StubPipeline(ModelConfig.load(folder))


def run_server(folder: str, queue: int) -> None:
    """Serve the stub until SIGTERM; prints the address."""
    from fashionflow_core.serve.run import serve

    class Stop(BaseException):
        """SIGTERM."""

    def stop(_signum: int, _frame: Any) -> None:
        raise Stop

    signal.signal(signal.SIGTERM, stop)
    work = RunSpec(
        model=str(ASSETS / "mini-latent"),
        out=folder,
        scratch="",
        scores=False,
        one_at_a_time=True,
        opener="fashionflow_benchmarks.serve_load:open_stub",
    )
    limits = ServerLimits(queue=queue, posts_per_minute=0)
    log = Path(folder).with_suffix(".log").open("a", buffering=1)
    serve(
        ServerOptions(work, port=0, devices=("cpu",), limits=limits),
        lambda address: print(address, flush=True),
        lambda line: print(line, file=log),
    )


# the clients' side


@dataclass
class LoadRun:
    """What all clients share.

    Attributes:
        port: of the server; 0 while there is none.
        accepted: id of each video, by its Idempotency-Key.
        ended: final state by id.
        status_seconds: what each status call took, in seconds; those that a kill cut off are not in it.
    """

    port: int = 0
    accepted: dict[str, str] = field(default_factory=dict)
    ended: dict[str, str] = field(default_factory=dict)
    status_seconds: list[float] = field(default_factory=list)
    refused: Counter[int] = field(default_factory=Counter)
    broken: int = 0


class LoadClient(threading.Thread):
    """One client: sends its photos one after the other, and looks at each video until it has ended."""

    def __init__(self, run: LoadRun, photos: Sequence[bytes], start_after: float) -> None:
        super().__init__(daemon=True)
        self._load, self._photos, self._after = run, photos, start_after
        self._connection: http.client.HTTPConnection | None = None

    def run(self) -> None:
        """Send and look."""
        time.sleep(self._after)
        for photo in self._photos:
            key = secrets.token_hex(8)
            body, kind = photo_form(photo)
            headers = {"Content-Type": kind, "Idempotency-Key": key}
            while True:
                status, answer = self._ask("POST", "/v1/videos", body, headers)
                if status == 200:
                    break
                if status:
                    self._load.refused[status] += 1
                time.sleep(random.uniform(0.5, 1.5))
            name = self._load.accepted[key] = answer["id"]
            while True:
                time.sleep(_POLL * random.uniform(0.8, 1.2))
                start = time.perf_counter()
                status, answer = self._ask("GET", f"/v1/videos/{name}")
                if status:
                    self._load.status_seconds.append(time.perf_counter() - start)
                if status == 404 or (status == 200 and answer["status"] in ("completed", "failed")):
                    self._load.ended[name] = "lost" if status == 404 else answer["status"]
                    break

    def _ask(self, method: str, path: str, body: bytes | None = None, headers: Any = None) -> tuple[int, Any]:
        """Status and JSON; status 0 where the server is away."""
        try:
            if self._connection is None or self._connection.port != self._load.port:
                self._connection = http.client.HTTPConnection("127.0.0.1", self._load.port, timeout=60)
            self._connection.request(method, path, body, headers or {})
            answer = self._connection.getresponse()
            return answer.status, json.loads(answer.read())
        except (OSError, ValueError, http.client.HTTPException):
            self._load.broken += 1
            if self._connection is not None:
                self._connection.close()
            self._connection = None
            return 0, None


def photo_form(photo: bytes, fields: Mapping[str, str] = {}) -> tuple[bytes, str]:
    """A request for a video as multipart/form-data, and that with its boundary."""
    parts = [f'Content-Disposition: form-data; name="{name}"\r\n\r\n{value}'.encode() for name, value in fields.items()]
    head = 'Content-Disposition: form-data; name="input_reference"; filename="p"\r\nContent-Type: image/png\r\n\r\n'
    parts.append(head.encode() + photo)
    return b"".join(b"--m\r\n" + part + b"\r\n" for part in parts) + b"--m--\r\n", "multipart/form-data; boundary=m"


def _photo(number: int) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (_SIDE, _SIDE), (number % 256, number // 256 % 256, 90)).save(file, "PNG")
    return file.getvalue()


class LoadServer:
    """The server's process."""

    def __init__(self, folder: Path, queue: int, run: LoadRun) -> None:
        self._folder, self._queue, self._load = folder, queue, run
        self.start()

    def start(self) -> None:
        """Start it, and tell the clients its port."""
        call = f"run_server({str(self._folder)!r}, {self._queue})"
        code = f"from fashionflow_benchmarks.serve_load import run_server; {call}"
        self.process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self._load.port = int(self.process.stdout.readline().rsplit(":", 1)[1])

    def end(self, signum: int) -> None:
        """End it by a signal."""
        self.process.send_signal(signum)
        self.process.wait()

    def megabytes(self) -> float:
        """Resident memory."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def load_test(folder: Path, clients: int, jobs: int, queue: int) -> dict[str, Any]:
    """Run clients against a server that is killed twice and stopped once.

    Returns:
        Figures, with `lost`, `twice` and `failed` of the accepted videos.
    """
    run = LoadRun()
    server = LoadServer(folder, queue, run)
    photos = [_photo(number) for number in range(jobs)]
    threads = [LoadClient(run, photos[number::clients], 2.0 * number / clients) for number in range(clients)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    interruptions = [(0.25, signal.SIGKILL), (0.5, signal.SIGTERM), (0.75, signal.SIGKILL)]
    memory: list[list[float]] = [[]]
    while any(thread.is_alive() for thread in threads):
        if interruptions and len(run.ended) >= interruptions[0][0] * jobs:
            server.end(interruptions.pop(0)[1])
            server.start()
            memory.append([])
        memory[-1].append(server.megabytes())
        time.sleep(0.5)
    seconds = time.perf_counter() - start
    server.end(signal.SIGTERM)
    records = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
    done = Counter(record["item"] for record in records if record["status"] == "done")
    calls = sorted(run.status_seconds)
    own = sorted(_server_seconds(folder.with_suffix(".log")))
    return {
        "clients": clients,
        "jobs": jobs,
        "accepted": len(run.accepted),
        "completed": sum(state == "completed" for state in run.ended.values()),
        "failed": sum(state == "failed" for state in run.ended.values()),
        "lost": len(set(run.accepted.values()) - set(done)),
        "twice": sum(count > 1 for count in done.values()),
        "refused": {str(status): count for status, count in run.refused.items()},
        "calls_cut_off": run.broken,
        "seconds": round(seconds, 1),
        "status_calls": len(calls),
        "status_ms": {name: round(1000 * calls[int(share * (len(calls) - 1))], 1) for name, share in _SHARES.items()},
        "status_ms_in_server": {
            name: round(1000 * own[int(share * (len(own) - 1))], 2) for name, share in _SHARES.items()
        },
        "memory_mb": [[round(found[len(found) // 4], 1), round(found[-1], 1)] for found in memory if found],
    }


_SHARES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "most": 1.0}


def _server_seconds(log: Path) -> Iterator[float]:
    """What status calls took inside the server."""
    for line in log.read_text().splitlines():
        try:
            entry = json.loads(line)
        except ValueError:  # cut off by a kill
            continue
        if entry.get("method") == "GET" and entry["path"].startswith("/v1/videos/video_"):
            yield entry["seconds"]


def publish(figures: Mapping[str, Any], out: Path | None) -> None:
    """Print figures with the machine they were measured on, as JSON, and write them to a file if one is named."""
    machine = f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}"
    text = json.dumps({**figures, "machine": machine}, indent=2)
    print(text)
    if out:
        out.write_text(text + "\n", encoding="utf-8")


def main() -> None:
    """Run the test and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--queue", type=int, default=150)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp()) / "served"
    try:
        figures = load_test(folder, arguments.clients, arguments.jobs, arguments.queue)
    finally:
        shutil.rmtree(folder.parent)
    publish(figures, arguments.out)
    if figures["lost"] or figures["twice"] or figures["failed"] or figures["accepted"] != arguments.jobs:
        sys.exit("some videos were lost, failed or made twice")


if __name__ == "__main__":
    main()
