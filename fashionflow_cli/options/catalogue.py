"""Options of catalogues."""

from typing import Annotated

from fashionflow_cli.console import parse_batch, parse_retry
from fashionflow_cli.options.base import ADVANCED, CATALOGUE, RARE, between, one_of, option
from fashionflow_core.config import VIDEO_SUFFIXES

SUFFIXES = tuple(suffix.removeprefix(".") for suffix in VIDEO_SUFFIXES)

Format = Annotated[
    str,
    option(CATALOGUE, "format", text=f"{', '.join(SUFFIXES)}.", default="mp4", **one_of(SUFFIXES, "NAME")),
]
Devices = Annotated[
    str | None, option(CATALOGUE, "devices", text="One worker each, e.g. cuda:0,cuda:1, or all.", metavar="LIST")
]
Gate = Annotated[bool, option(CATALOGUE, "gate", text="Flag videos beyond the limits.", flag=True)]
Reroll = Annotated[int, option(CATALOGUE, "reroll", text="Retry flagged videos up to N times.", **between(0, 100))]
Scores = Annotated[bool, option(CATALOGUE, "scores/--no-scores", text="Measure every video.", default="on", flag=True)]
Retry = Annotated[
    str | None,
    option(CATALOGUE, "retry", text="Also remake: failed, rejected, or both.", parser=parse_retry, metavar="LIST"),
]
RetryFailed = Annotated[bool, option(RARE, "retry-failed", text="The same as --retry failed.", flag=True)]
Batch = Annotated[
    int,
    option(ADVANCED, "batch", text="Photos per call of the network.", default="auto", parser=parse_batch, metavar="N"),
]
GateLimits = Annotated[
    str | None, option(ADVANCED, "gate-limits", text="e.g. drift=6,still=0.5; implies --gate.", metavar="LIST")
]
Executor = Annotated[
    str,
    option(ADVANCED, "executor", text="local, or ray (extra ray).", **one_of(("local", "ray"), "NAME")),
]
RayAddress = Annotated[
    str | None, option(RARE, "ray-address", text="A Ray cluster, e.g. HOST:6379.", metavar="ADDRESS")
]
