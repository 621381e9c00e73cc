"""Counts and progress of a run; hands its records to the manifest."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from fashionflow_core.catalogue.jobs import DONE, FAILED, LOST
from fashionflow_core.catalogue.manifest import Manifest
from fashionflow_core.catalogue.planner import Decision
from fashionflow_core.errors import FashionFlowError, reason_of

SECONDS = 15.0


@dataclass
class Summary:
    """Result of a run.

    Attributes:
        total: items of the catalogue.
        made: videos that this run made.
        kept: videos that were already there.
        flagged: how many of both the gate flags.
        failed, lost: items without a video, those of earlier runs included.
        failures: by item, the last records of those that failed in this run.
        seconds: of the run.
    """

    total: int = 0
    made: int = 0
    kept: int = 0
    failed: int = 0
    lost: int = 0
    flagged: int = 0
    failures: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True)
class Watcher:
    """Callbacks for the progress of a run, called from one of its threads.

    Attributes:
        recorded: called with each line of the manifest after it was flushed to the disk.
        skipped: called with each item that needs no work.
        said: called with a message about the run.
        warned: called with a warning.
    """

    recorded: Callable[[Mapping[str, Any]], None] = lambda record: None
    skipped: Callable[[Decision], None] = lambda decision: None
    said: Callable[[str], None] = lambda line: None
    warned: Callable[[str], None] = lambda line: None


class Ledger:
    """Record keeper of one run.

    Args:
        manifest: of the output folder, whose lock the caller holds.
        watcher: callbacks for progress.
        total: items of the catalogue.
    """

    def __init__(self, manifest: Manifest, watcher: Watcher, total: int) -> None:
        self.manifest, self.watcher, self.summary = manifest, watcher, Summary(total)
        self.now_and_then: Callable[[], None] | None = None  # called after lines were written, at most every SECONDS
        self._then = time.monotonic()

    def skip(self, decision: Decision) -> None:
        """Count an item that needs no work."""
        if decision.status == DONE:
            self.summary.kept += 1
            self.summary.flagged += decision.flagged
        elif decision.status == LOST:
            self.summary.lost += 1
        else:
            self.summary.failed += 1
        self.watcher.skipped(decision)

    def write(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Append records to the manifest with a single flush, then count and report them.

        Raises:
            FashionFlowError: the disk is full.
        """
        if not records:
            return
        now = datetime.now(UTC).isoformat(timespec="seconds")
        records = [{**record, "time": now} for record in records]
        try:
            self.manifest.append(records)
        except OSError as error:
            raise FashionFlowError(
                f"{self.manifest.path}: could not be written ({reason_of(error)})",
                hint="free some space, then run the same command again",
            ) from None
        if self.now_and_then is not None and time.monotonic() - self._then > SECONDS:
            self.now_and_then()
            self._then = time.monotonic()
        for record in records:
            if record["status"] == DONE:
                if record.get("judged"):
                    self.summary.kept += 1
                else:
                    self.summary.made += 1
                self.summary.flagged += bool(record.get("flags"))
            elif record["status"] in (FAILED, LOST):
                self.summary.failed += record["status"] == FAILED
                self.summary.lost += record["status"] == LOST
                self.summary.failures[str(record["item"])] = record
            self.watcher.recorded(record)
