"""Reviews of a catalogue's videos: approved or rejected, one line each in `review.jsonl`."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fashionflow_core.errors import FashionFlowError, reason_of
from fashionflow_core.utils.files import append_durably

REVIEW = "review.jsonl"
APPROVED, REJECTED, UNDECIDED = "approved", "rejected", ""
VERDICTS = (APPROVED, REJECTED, UNDECIDED)


@dataclass(frozen=True)
class Review:
    """Last review of an item.

    Attributes:
        verdict: one of `VERDICTS`.
        seed: of the reviewed video; one with another seed has not been reviewed.
        rejections: number of rejected videos of this item.
    """

    verdict: str
    seed: int
    rejections: int = 0

    def of(self, seed: int) -> str:
        """Verdict on the video with this seed."""
        return self.verdict if seed == self.seed else UNDECIDED


def read_reviews(out: Path) -> dict[str, Review]:
    """The last review of each item of an output folder; lines that are not reviews are skipped.

    Raises:
        FashionFlowError: the file cannot be read.
    """
    found: dict[str, Review] = {}
    rejected: dict[str, set[int]] = {}
    for line in _lines(out / REVIEW):
        item, seed = line["item"], line["seed"]
        if line["verdict"] == REJECTED:
            rejected.setdefault(item, set()).add(seed)
        elif item in rejected:
            rejected[item].discard(seed)
        found[item] = Review(line["verdict"], seed, len(rejected.get(item, ())))
    return found


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return
    except OSError as error:
        raise FashionFlowError(f"{path}: {reason_of(error)}", hint=f"check its permissions: ls -l {path}") from None
    for text in data.split(b"\n"):
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if not isinstance(line, dict) or line.get("verdict") not in VERDICTS:
            continue
        if isinstance(line.get("item"), str) and type(line.get("seed")) is int:
            yield line


def write_review(out: Path, item: str, verdict: str, seed: int) -> None:
    """Append a review and flush it to the disk.

    Raises:
        OSError: it could not be written.
    """
    time = datetime.now(UTC).isoformat(timespec="seconds")
    line = json.dumps({"item": item, "verdict": verdict, "seed": seed, "time": time}) + "\n"
    descriptor = os.open(out / REVIEW, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        # An incomplete last line is ended first.
        end = os.fstat(descriptor).st_size
        torn = end > 0 and os.pread(descriptor, 1, end - 1) != b"\n"
        append_durably(descriptor, (b"\n" if torn else b"") + line.encode())
    finally:
        os.close(descriptor)
