"""`fashionflow serve`."""

import json
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from fashionflow_cli import options
from fashionflow_cli.console import result
from fashionflow_cli.generate_catalogue import devices_of
from fashionflow_cli.options.base import MACHINE, REPORTING, between, option
from fashionflow_core.config import EncodeOptions, LoadOptions
from fashionflow_core.errors import SettingError

if TYPE_CHECKING:
    from fashionflow_core.serve.settings import ServerOptions

EXAMPLES = """[bold]Examples[/bold]

fashionflow serve

fashionflow serve --host 0.0.0.0 --api-key-file keys.txt --folder /srv/videos --keep 7d

More: docs/guides/serve.md
"""
_SERVER, _SAFETY = "Server", "Safety"

Host = Annotated[str, option(_SERVER, "host", text="Address to listen on.", default="127.0.0.1", metavar="ADDRESS")]
Port = Annotated[int, option(_SERVER, "port", text="0: any free one.", default="8000", **between(0, 65535))]
Folder = Annotated[Path, option(_SERVER, "folder", text="Folder of queue and videos.", default="served", metavar="DIR")]
Queue = Annotated[
    int, option(_SERVER, "queue", text="Largest number of queued videos.", default="100", **between(1, 100_000))
]
TimeLimit = Annotated[
    float, option(_SERVER, "time-limit", text="Time limit per video in seconds.", default="600", **between(1, 86_400))
]
Keep = Annotated[
    str,
    option(_SERVER, "keep", text="Age at which videos are removed: 12h, 7d, forever.", default="7d", metavar="TIME"),
]
ApiKeyFile = Annotated[
    Path | None,
    option(
        _SAFETY,
        "api-key-file",
        text="API keys, one per line; without it only this machine can connect.",
        metavar="FILE",
    ),
]
AllowUrl = Annotated[
    list[str] | None,
    option(_SAFETY, "allow-url", text="Host that photos may be fetched from; repeatable.", metavar="HOST"),
]
Rate = Annotated[
    int, option(_SAFETY, "rate", text="New videos per minute and key; 0: unlimited.", default="120", **between(0))
]
MaxUpload = Annotated[
    float, option(_SAFETY, "max-upload", text="Largest request in megabytes.", default="64", **between(0.01, 512))
]
MaxSeconds = Annotated[
    float, option(_SAFETY, "max-seconds", text="Longest video in seconds.", default="60", **between(0.1, 3600))
]


def serve(
    host: Host = "127.0.0.1",
    port: Port = 8000,
    folder: Folder = Path("served"),
    queue: Queue = 100,
    time_limit: TimeLimit = 600.0,
    keep: Keep = "7d",
    api_key_file: ApiKeyFile = None,
    allow_url: AllowUrl = None,
    rate: Rate = 120,
    max_upload: MaxUpload = 64.0,
    max_megapixels: options.MaxMegapixels = 50.0,
    max_seconds: MaxSeconds = 60.0,
    model: options.Model = "mini",
    device: options.Device = "auto",
    devices: Annotated[
        str | None, option(MACHINE, "devices", text="One worker each, e.g. cuda:0,cuda:1, or all.", metavar="LIST")
    ] = None,
    dtype: options.Dtype = "auto",
    backend: options.Backend = "auto",
    background: options.Background = options.WHITE,
    codec: options.Codec = None,
    crf: options.Crf = None,
    encoder: options.Encoder = "software",
    scores: Annotated[
        bool, option(REPORTING, "scores/--no-scores", text="Compute scores of every video.", default="on", flag=True)
    ] = True,
    config: options.Config = None,
    quiet: options.Quiet = False,
) -> None:
    """Serve videos over HTTP (OpenAI's videos API) and a page at /. More: docs/guides/serve.md."""
    from fashionflow_core.catalogue.jobs import RunSpec
    from fashionflow_core.serve.run import check_extra
    from fashionflow_core.serve.settings import ApiKeys, ServerLimits, ServerOptions, parse_span, read_keys
    from fashionflow_core.store import registry

    check_extra()
    work = RunSpec(
        model=str(registry.find(model)),
        out=str(folder),
        scratch="",
        load=LoadOptions(device, dtype, backend),
        encode=EncodeOptions(crf, codec, encoder),
        background=background,
        max_megapixels=max_megapixels,
        scores=scores,
        one_at_a_time=True,
    )
    limits = ServerLimits(
        queue=queue,
        job_seconds=time_limit,
        keep_seconds=parse_span(keep),
        posts_per_minute=rate,
        body_bytes=int(max_upload * 1e6),
        photo_megapixels=max_megapixels,
        video_seconds=max_seconds,
    )
    hosts = frozenset(name.rstrip(".").lower() for name in allow_url or ())
    for name in hosts:
        if not name or any(sign in name for sign in "/:*@ "):
            raise SettingError("allow_url", f"{name!r} is not the name of a host", hint="such as cdn.example.com")
    keys = read_keys(api_key_file) if api_key_file else ApiKeys()
    workers = devices_of(devices or device)
    start(ServerOptions(work, host, port, workers, keys, hosts, limits), quiet)


def start(server: "ServerOptions", quiet: bool) -> None:
    """Run a server to its end, its address on stdout, its log on stderr."""
    from fashionflow_core import video
    from fashionflow_core.serve import run

    video.check_options(Path(server.work.out) / f"NAME{server.work.suffix}", server.work.encode)
    writing = threading.Lock()

    def log(line: str) -> None:
        if not quiet:
            with writing:
                print(line, file=sys.stderr, flush=True)

    def announce(address: str) -> None:
        result(address)
        log(json.dumps({"event": "listening", "address": address, "folder": server.work.out}))

    run.serve(server, announce, log)
