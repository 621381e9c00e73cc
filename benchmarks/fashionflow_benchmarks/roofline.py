"""Roofline model: measured limits of a device for matrix products and memory copies."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from fashionflow_benchmarks.timing import Timing, seconds
from fashionflow_core.runtimes import flops

if TYPE_CHECKING:
    import torch

# Side of the matrices and bytes of the buffer: large enough to make caches and call overhead negligible.
_SIDE = {"cuda": 8192, "cpu": 2048}
_BYTES = {"cuda": 2**30, "cpu": 2**28}
_TRIES = 8
# For half precision on CPUs, which is a hundred times slower without native instructions.
_HALF_SIDE = 512


@dataclass(frozen=True)
class Roofline:
    """Limits of a device for one dtype.

    Attributes:
        matmul_flop_per_s: FLOP/s of the fastest of several square matrix products, plain and as 1x1 convolutions: on
            CPUs the two use different libraries, one of which may be twice as fast.
        copy_bytes_per_s: bytes read and written per second by the fastest of several copies.
    """

    matmul_flop_per_s: float
    copy_bytes_per_s: float

    def as_dict(self) -> dict[str, float]:
        """The limits, JSON-serializable."""
        return {"matmul_flop_per_s": self.matmul_flop_per_s, "copy_bytes_per_s": self.copy_bytes_per_s}


@dataclass(frozen=True)
class CallCost:
    """Work of one call: floating-point operations, and bytes operator by operator (`flops`); None: unknown."""

    flop: int | None = None
    traffic_bytes: int | None = None

    @classmethod
    def of(cls, forward: Callable[..., object], *shapes: tuple[int, ...]) -> Self:
        """Count both with `flops.count_flop` and `flops.count_traffic`."""
        return cls(flops.count_flop(forward, *shapes), flops.count_traffic(forward, *shapes))


def measure_limits(device: "torch.device", dtype: "torch.dtype") -> Roofline:
    """Measure both limits; takes a second on a CPU, less on a GPU."""
    import torch

    side, size = (table.get(device.type, table["cpu"]) for table in (_SIDE, _BYTES))
    if device.type == "cpu" and dtype != torch.float32:
        side = _HALF_SIDE
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    product = torch.empty_like(left)
    image = left.t().reshape(1, side, side // 64, 64).contiguous(memory_format=torch.channels_last)
    kernel = right.reshape(side, side, 1, 1)
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    with torch.inference_mode():
        matmul = min(
            _fastest(lambda: torch.matmul(left, right, out=product), device),
            _fastest(lambda: torch.nn.functional.conv2d(image, kernel), device),
        )
        copy = _fastest(lambda: target.copy_(source), device)
    return Roofline(2 * side**3 / matmul, 2 * size / copy)


def _fastest(call: Callable[[], object], device: "torch.device") -> float:
    return min(seconds(call, device) for _ in range(_TRIES))


def rows(
    timings: Mapping[str, Timing], work: Mapping[str, CallCost], limits: Roofline | None
) -> dict[str, dict[str, Any]]:
    """Results of a suite: times, memory, work, and share of the device's limits by name.

    A share of 1 means that the device is at its limit; the larger of the two is the bottleneck.
    """
    results = {}
    for name, timing in timings.items():
        row, done = timing.as_dict(), work.get(name, CallCost())
        row |= {"flop": done.flop, "traffic_bytes": done.traffic_bytes}
        for share, amount, roof in (
            ("matmul_share", done.flop, limits.matmul_flop_per_s if limits else None),
            ("copy_share", done.traffic_bytes, limits.copy_bytes_per_s if limits else None),
        ):
            row[share] = amount / roof / row["median_s"] if amount is not None and roof else None
        results[name] = row
    return results
