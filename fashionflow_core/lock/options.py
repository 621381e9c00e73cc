"""Options and report of the photo lock."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fashionflow_core.config import LOCK_LEVELS
from fashionflow_core.errors import SettingError


@dataclass(frozen=True)
class LockOptions:
    """Settings of the photo lock.

    Attributes:
        level: off; colour, the regions' colours and the background; full, the photo's own pixels, too.
        least_pasted: least share of the figure that can be followed from the photo; below it pasting ends.
        follow: weight of a new frame in the running statistics of a region, 0 to 1.
        shading: share of the video's shading that pasted pixels take over, 0 to 1.
        least_shift: offset of a region's mean (L*a*b*) below which it is mostly left uncorrected, as shading.
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
    """Report of a locked video.

    Attributes:
        asked: requested level.
        level: reached level: off, colour or full.
        reason: reason of a difference between the two, in words; else empty.
        frames: number of frames seen.
        pasted: share of the figure shown by the photo's pixels, per frame from frame 1 on; level full only.
        head_until: first frame with the video's own head; None: none, or level colour.
        pixels_until: first frame without pixels of the photo; None: none.
    """

    asked: str
    level: str
    reason: str = ""
    frames: int = 0
    pasted: list[float] = field(default_factory=list)
    head_until: int | None = None
    pixels_until: int | None = None

    def restart(self, level: str, reason: str) -> None:
        """Reset the report before another pass over the frames."""
        self.level, self.reason, self.frames, self.pasted = level, reason, 0, []
        self.head_until = self.pixels_until = None

    def summary(self) -> dict[str, Any]:
        """The report for manifests, JSON-serializable."""
        found: dict[str, Any] = {"asked": self.asked, "level": self.level}
        if self.reason:
            found["reason"] = self.reason
        if self.pasted:
            found["pasted"] = round(sum(self.pasted) / len(self.pasted), 3)
        for name in ("head_until", "pixels_until"):
            if getattr(self, name) is not None:
                found[name] = getattr(self, name)
        return found
