"""What one check of `fashionflow doctor` found."""

from dataclasses import dataclass, field
from typing import Any

OK, NOTE, PROBLEM = "ok", "note", "problem"


@dataclass(frozen=True)
class Check:
    """One line of the report.

    Attributes:
        name: what was looked at: python, packages, torch, ...
        level: ok; note: worth knowing, or absent and not needed; problem: broken, and `mend` says what helps.
        summary: one line.
        mend: the command, or what to do, that mends it.
        blocks: the default job cannot run because of this.
        details: what was measured, JSON-able.
    """

    name: str
    level: str
    summary: str
    mend: str | None = None
    blocks: bool = False
    details: dict[str, Any] = field(default_factory=dict)
