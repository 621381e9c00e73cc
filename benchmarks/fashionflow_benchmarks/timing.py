"""Timing: warm-up, interleaved repeats, quartiles, peak memory, hardware."""

import ctypes
import os
import platform
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


@dataclass
class CallProgress:
    """Progress callback of `measure`.

    Attributes:
        on_call: called with (done, total) calls, also before the first one.
    """

    on_call: Callable[[int, int], None] = lambda done, total: None


PROGRESS = CallProgress()


@dataclass(frozen=True)
class Timing:
    """Measurements of one callable.

    Attributes:
        seconds: wall-clock time of each repeat, in order.
        peak_memory_bytes: peak memory during one call: the allocator's on CUDA, the process's resident set on
            Linux CPUs; None if unsupported.
        call_memory_bytes: part of it above the memory held before the call.
    """

    seconds: tuple[float, ...]
    peak_memory_bytes: int | None
    call_memory_bytes: int | None

    def as_dict(self) -> dict[str, Any]:
        """JSON-serializable, with median and quartiles (linear interpolation) of the seconds."""
        return {
            "seconds": list(self.seconds),
            "lower_quartile_s": quantile(self.seconds, 0.25),
            "median_s": quantile(self.seconds, 0.5),
            "upper_quartile_s": quantile(self.seconds, 0.75),
            "peak_memory_bytes": self.peak_memory_bytes,
            "call_memory_bytes": self.call_memory_bytes,
        }


def quantile(values: tuple[float, ...], fraction: float) -> float:
    """The `fraction` (0 to 1) quantile of `values` (at least one), linearly interpolated."""
    ordered = sorted(values)
    position = fraction * (len(ordered) - 1)
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])


def synchronize(device: "torch.device") -> None:
    """Wait until the device has finished; no effect on CPUs."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def seconds(call: Callable[[], object], device: "torch.device") -> float:
    """Wall-clock time of one call, synchronised before and after."""
    synchronize(device)
    start = time.perf_counter()
    call()
    synchronize(device)
    return time.perf_counter() - start


def measure(
    callables: Mapping[str, Callable[[], object]], device: "torch.device", repeats: int = 5, warmup: int = 1
) -> dict[str, Timing]:
    """Time several callables against each other on one device.

    Each round runs every callable once, and every other round in reverse order, so that a slowdown of the machine
    (heat, other load) affects all equally. Memory is measured in an additional call of each, after the timing.

    Args:
        callables: name → function; results are discarded.
        device: device, synchronised before and after each call.
        repeats: timed calls of each, at least 1.
        warmup: calls of each before the first timed one.
    """
    if repeats < 1 or warmup < 0:
        raise ValueError(f"repeats must be at least 1 and warmup at least 0, not {repeats} and {warmup}")
    total, done = (warmup + repeats + 1) * len(callables), 0

    def finished() -> None:
        nonlocal done
        done += 1
        PROGRESS.on_call(done, total)

    PROGRESS.on_call(0, total)
    for call in callables.values():
        for _ in range(warmup):
            call()
            finished()
    times: dict[str, list[float]] = {name: [] for name in callables}
    order = list(callables.items())
    for _ in range(repeats):
        for name, call in order:
            times[name].append(seconds(call, device))
            finished()
        order.reverse()
    measured = {}
    for name, call in callables.items():
        measured[name] = Timing(tuple(times[name]), *_measure_memory(call, device))
        finished()
    return measured


def _measure_memory(call: Callable[[], object], device: "torch.device") -> tuple[int | None, int | None]:
    """(peak, peak minus the state before) in bytes of one call."""
    if device.type == "cuda":
        import torch

        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        synchronize(device)
        peak = torch.cuda.max_memory_allocated(device)
        return peak, peak - before
    if device.type != "cpu":
        return None, None
    try:
        # Free cached memory of earlier calls, which would distort the peak.
        ctypes.CDLL(None).malloc_trim(0)
        # Linux: writing 5 resets the peak resident set to its current size (man 5 proc).
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        before = _resident_bytes("VmRSS")
        call()
        peak = _resident_bytes("VmHWM")
    except (OSError, KeyError, AttributeError, TypeError):  # not Linux, not glibc, or not allowed
        return None, None
    return peak, max(0, peak - before)


def _resident_bytes(field: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    values = dict(line.split(":", 1) for line in lines if ":" in line)
    return int(values[field].split()[0]) * 1024


def hardware(device: "torch.device", dtype: str) -> dict[str, Any]:
    """Description of the hardware: processor, GPU, driver, versions, arithmetic settings, commit and date (UTC)."""
    import torch

    cuda = device.type == "cuda"
    properties = torch.cuda.get_device_properties(device) if cuda else None
    affinity = getattr(os, "sched_getaffinity", None)
    return {
        "device": device.type,
        "dtype": dtype,
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "usable_cores": len(affinity(0)) if affinity else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_average_1min": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "gpu": properties.name if properties else None,
        "gpu_memory_bytes": properties.total_memory if properties else None,
        "driver": _driver() if cuda else None,
        "cuda": torch.version.cuda if cuda else None,
        "cudnn": torch.backends.cudnn.version() if cuda else None,
        "tf32_convolutions": torch.backends.cudnn.allow_tf32 if cuda else None,
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        **_commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _driver() -> str | None:
    """Version of NVIDIA's driver, from nvidia-smi."""
    command = ("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return found.split("\n")[0].strip() or None


def _commit() -> dict[str, Any]:
    """The commit this file is from, and whether the checkout has changes; both None outside a checkout of it."""
    folder, name = Path(__file__).parent, Path(__file__).name

    def git(*arguments: str) -> str:
        command = ("git", "-C", str(folder), *arguments)
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", name)  # an installed copy may be inside another project's checkout
        return {"commit": git("rev-parse", "HEAD"), "uncommitted_changes": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return {"commit": None, "uncommitted_changes": None}
