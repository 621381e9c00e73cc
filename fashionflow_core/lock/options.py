"""Options and report of the photo lock."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fashionflow_core.config import LOCK_LEVELS
from fashionflow_core.errors import SettingError


@dataclass(frozen=True)
class LockOptions:
    """How a photo is locked to a video.

    Attributes:
        level: off; colour, the regions' colours and the background; full, the photo's own pixels, too.
        least_pasted: share of the figure below which no pixels of the photo are put in any more.
        follow: share of a new frame in the colours that a region is corrected from, 0 to 1.
        shading: share of the video's own shading that the photo's pixels take on, 0 to 1.
        least_shift: a region's mean that is off by less than about this (L*a*b*) is left alone: shading does that.
    """

    level: str = "full"
    least_pasted: float = 0.1
    follow: float = 0.8
    shading: float = 0.8
    least_shift: float = 1.0

    def __post_init__(self) -> None:
        if self.level not in LOCK_LEVELS:
            raise SettingError("lock", f"the value is {self.level!r}", hint=f"choose one of: {', '.join(LOCK_LEVELS)}")


@dataclass
class LockReport:
    """What was done to a video.

    Attributes:
        asked: level that was asked for.
        level: level that was reached: off, colour or full.
        reason: why it is another one, in words; empty if it is not.
        frames: number of frames seen.
        pasted: share of the figure that shows the photo's own pixels, one a frame from frame 1 on; level full alone.
        head_until: first frame whose head is the video's own again; None: none, or level colour.
        pixels_until: first frame from which no pixels of the photo were put in; None: none.
    """

    asked: str
    level: str
    reason: str = ""
    frames: int = 0
    pasted: list[float] = field(default_factory=list)
    head_until: int | None = None
    pixels_until: int | None = None

    def restart(self, level: str, reason: str) -> None:
        """Forget everything: the frames are taken from the first one on, once more."""
        self.level, self.reason, self.frames, self.pasted = level, reason, 0, []
        self.head_until = self.pixels_until = None

    def summary(self) -> dict[str, Any]:
        """For manifests and reports: JSON-able, no longer than a line."""
        found: dict[str, Any] = {"asked": self.asked, "level": self.level}
        if self.reason:
            found["reason"] = self.reason
        if self.pasted:
            found["pasted"] = round(sum(self.pasted) / len(self.pasted), 3)
        for name in ("head_until", "pixels_until"):
            if getattr(self, name) is not None:
                found[name] = getattr(self, name)
        return found
