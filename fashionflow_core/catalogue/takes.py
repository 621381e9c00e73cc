"""Videos that are whole and not in their place yet: one an item, or several of which one is kept."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fashionflow_core.catalogue.work import Work


@dataclass
class Take:
    """One video of a job that is whole and not in its place yet."""

    video: Path
    poster: Path
    seed: int
    scores: dict[str, float] = field(default_factory=dict)
    flags: list[str] = field(default_factory=list)

    def discard(self) -> None:
        """Remove what has not been moved away."""
        self.video.unlink(missing_ok=True)
        self.poster.unlink(missing_ok=True)


def of_takes(best: Take, takes: list[Take], work: Work) -> dict[str, Any]:
    """What a manifest line says of the kept video, and of those it was chosen from."""
    found: dict[str, Any] = {"seed": best.seed}
    if best.scores:
        found["scores"] = best.scores
    if work.gate is not None:
        found["flags"] = best.flags
    if len(takes) > 1:
        found["takes"] = [{"seed": take.seed, "scores": take.scores, "flags": take.flags} for take in takes]
    return found
