"""Common form of the systems compared: calls by stage, calls per video, one run.

Single calls of several baselines can be timed interleaved in one process (`timing.measure`) and multiplied out by
`Baseline.seconds`. That is allowed only where a call takes as long at the end of a video as at its start, which
`constancy` measures; `Baseline.run` makes the whole video.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from fashionflow_benchmarks.timing import quantile, seconds

if TYPE_CHECKING:
    import numpy as np
    import torch


class VideoMaker(Protocol):
    """The whole way, from a photo to frames."""

    def __call__(self, steps: int = ..., frames: int = ...) -> "np.ndarray":
        """uint8 (frames, height, width, 3); by default as many as the baseline's `calls` are counted for."""
        ...


@dataclass(frozen=True)
class Baseline:
    """A way from one photo to a video, ready to be timed.

    Attributes:
        name: of the row in tables.
        label: `Shape.label`; goes wherever one of its numbers goes.
        stages: stage → one call of it. "denoise" is one step of the sampler: U-Net, guidance, scheduler. It goes on
            where the last call left off, and begins anew after the last step.
        calls: stage → calls that one video makes.
        flop: stage → floating-point operations of one call; multiply-adds count two.
        run: makes a whole video.
        walk: calls of "denoise" from noise to latents: of the whole video, or of the frames that are made together.
        restart: sets the steps back to the first.
        parameters: stage's networks → number of weights.
        details: JSON-able: number types, steps, sizes, batches.
    """

    name: str
    label: str
    stages: Mapping[str, Callable[[], object]]
    calls: Mapping[str, int]
    flop: Mapping[str, int]
    run: VideoMaker
    walk: int
    restart: Callable[[], None]
    parameters: Mapping[str, int]
    details: Mapping[str, Any]

    @property
    def video_flop(self) -> int:
        """Floating-point operations of one video."""
        return sum(count * self.flop[stage] for stage, count in self.calls.items())

    def seconds(self, per_call: Mapping[str, float]) -> dict[str, float]:
        """Seconds of one video by stage, multiplied out from those of one call."""
        return {stage: count * per_call[stage] for stage, count in self.calls.items()}


def constancy(
    baseline: Baseline, device: "torch.device", stage: str = "denoise", count: int | None = None, ends: int = 3
) -> dict[str, Any]:
    """Whether a call takes as long at the end of a video as at its start.

    Args:
        baseline: its stage is called `ends` times to warm up, and then `count` times from the first step on.
        device: synchronised before and after each call that is timed, not in between.
        stage: whose calls.
        count: consecutive calls; by default all that one walk through the steps or one video makes.
        ends: calls that are timed at either end.

    Returns:
        JSON-able: `stage`, `count`, seconds of the `first` and `last` calls, and `ratio`, median of the last over
        median of the first.

    Raises:
        ValueError: fewer calls than are timed.
    """
    if count is None:
        count = baseline.walk if stage == "denoise" else baseline.calls[stage]
    if ends < 1 or count < 2 * ends:
        raise ValueError(f"{count} calls have no first and last {ends}")
    call = baseline.stages[stage]
    for _ in range(ends):
        call()
    baseline.restart()
    first = tuple(seconds(call, device) for _ in range(ends))
    for _ in range(count - 2 * ends):
        call()
    last = tuple(seconds(call, device) for _ in range(ends))
    return {
        "stage": stage,
        "count": count,
        "first": list(first),
        "last": list(last),
        "ratio": quantile(last, 0.5) / quantile(first, 0.5),
    }


def even_share(total: int, most: int) -> int:
    """The largest divisor of `total` that is at most `most`: batches of one size, so that all calls are alike."""
    return next(size for size in range(min(total, most), 0, -1) if total % size == 0)
