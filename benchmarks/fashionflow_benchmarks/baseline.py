"""Common interface of the compared systems: calls by stage, calls per video, full runs.

Single calls of several baselines can be timed interleaved in one process (`timing.measure`) and multiplied by
`Baseline.seconds`. That is valid only if a call takes equally long at the start and the end of a video, which
`constancy` measures; `Baseline.run` generates the whole video.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from fashionflow_benchmarks.timing import quantile, seconds

if TYPE_CHECKING:
    import numpy as np
    import torch


class VideoMaker(Protocol):
    """Full run from a photo to frames."""

    def __call__(self, steps: int = ..., frames: int = ...) -> "np.ndarray":
        """uint8 (frames, height, width, 3); by default the number that the baseline's `calls` refer to."""
        ...


@dataclass(frozen=True)
class Baseline:
    """A system from one photo to a video, ready to be timed.

    Attributes:
        name: name of the row in tables.
        label: value of `Shape.label`, reported with every number.
        stages: stage → one call of it. "denoise" is one step of the sampler: U-Net, guidance, scheduler. It continues
            after the last call, and restarts after the last step.
        calls: stage → number of calls per video.
        flop: stage → floating-point operations of one call; a multiply-add counts as two.
        run: function that generates a whole video.
        walk: calls of "denoise" from noise to latents, for the whole video or the frames generated together.
        restart: function that resets the steps to the first.
        parameters: network → number of weights.
        details: dtypes, steps, sizes and batches, JSON-serializable.
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
        """Seconds of one video by stage, extrapolated from one call."""
        return {stage: count * per_call[stage] for stage, count in self.calls.items()}


def constancy(
    baseline: Baseline, device: "torch.device", stage: str = "denoise", count: int | None = None, ends: int = 3
) -> dict[str, Any]:
    """Compare the time of a call at the start and the end of a video.

    Args:
        baseline: baseline, called `ends` times for warm-up, then `count` times from the first step.
        device: device, synchronised before and after each timed call.
        stage: stage to time.
        count: consecutive calls; by default all of one walk through the steps or one video.
        ends: timed calls at either end.

    Returns:
        JSON-serializable: `stage`, `count`, seconds of the `first` and `last` calls, and `ratio`, median of the last
        over median of the first.

    Raises:
        ValueError: fewer calls than timed ones.
    """
    if count is None:
        count = baseline.walk if stage == "denoise" else baseline.calls[stage]
    if ends < 1 or count < 2 * ends:
        raise ValueError(f"{count} calls are too few for the first and last {ends}")
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
    """The largest divisor of `total` that is at most `most`: so that all batches have one size."""
    return next(size for size in range(min(total, most), 0, -1) if total % size == 0)
