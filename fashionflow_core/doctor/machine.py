"""The machine without its libraries: Python, packages, processors, memory, disk, hub, variables, models."""

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from difflib import get_close_matches
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from fashionflow_core import model_folder, registry
from fashionflow_core.doctor.check import NOTE, OK, PROBLEM, Check

PYTHONS = ((3, 11), (3, 13))
# Bytes below which a disk is worth a word: a video is a few megabytes, the published model 1.5 GB with its parts.
LITTLE_SPACE = 500_000_000
MODEL_SPACE = 3_000_000_000
# What the default job takes: 1.03 GB were measured (70 frames, 4 threads, torch 2.13 for the CPU).
NEEDED_MEMORY = 1_200_000_000


def python() -> Check:
    """The interpreter."""
    found = sys.version_info[:2]
    fits = PYTHONS[0] <= found <= PYTHONS[1]
    text = f"{platform.python_version()} ({platform.python_implementation()}, {sys.platform} {platform.machine()})"
    details = {"version": platform.python_version(), "executable": sys.executable, "supported": "3.11 to 3.13"}
    if fits:
        return Check("python", OK, text, details=details)
    return Check(
        "python", PROBLEM, f"{text} is not supported: 3.11 to 3.13 are", "python3.12 -m venv .venv", False, details
    )


def packages() -> Check:
    """The versions of what fashionflow needs, against what it asks for."""
    from packaging.requirements import Requirement

    try:
        own, lines = version("fashionflow"), requires("fashionflow") or []
    except PackageNotFoundError:
        return Check("packages", PROBLEM, "fashionflow runs from files that were not installed", "pip install -e .")
    found: dict[str, str | None] = {}
    wrong, pins = [], []
    for requirement in map(Requirement, lines):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            found[requirement.name] = there = version(requirement.name)
        except PackageNotFoundError:
            found[requirement.name] = there = None
        if there is None or not requirement.specifier.contains(there, prereleases=True):
            wrong.append(f"{requirement.name} {there or 'is missing'}")
            pins.append(f"'{requirement.name}{requirement.specifier}'")
    details = {"fashionflow": own, **found}
    if wrong:
        return Check(
            "packages",
            PROBLEM,
            f"not what fashionflow {own} needs: {', '.join(wrong)}",
            f"pip install {' '.join(pins)}",
            False,
            details,
        )
    return Check(
        "packages", OK, f"fashionflow {own}, and {len(found)} packages of the versions it needs", details=details
    )


def processors() -> Check:
    """How many processors this process may use, which is often fewer than there are."""
    there = os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else there
    quota = _cgroup_processors()
    usable = min(allowed, quota) if quota else float(allowed)
    text = f"{usable:g} usable" + (f" of {there}" if usable < there else "")
    limits = [f"affinity {allowed}"] * (allowed < there) + (
        [f"cgroup quota {quota:g}"] if quota and quota < allowed else []
    )
    name = _processor_name()
    details = {"usable": usable, "present": there, "affinity": allowed, "cgroup_quota": quota, "model": name}
    text += f" ({', '.join(limits)})" if limits else ""
    return Check("processors", OK, f"{text}: {name}", details=details)


def _processor_name() -> str:
    for line in _read("/proc/cpuinfo").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _cgroup_processors() -> float | None:
    """The quota of the innermost control group that sets one, in processors."""
    quotas = []
    for folder in _cgroups():
        parts = _read(folder / "cpu.max").split()  # version 2: "150000 100000", or "max 100000"
        if len(parts) == 2 and parts[0] != "max":
            quotas.append(int(parts[0]) / int(parts[1]))
        quota, period = _read(folder / "cpu.cfs_quota_us").strip(), _read(folder / "cpu.cfs_period_us").strip()
        if quota.isdigit() and period.isdigit():
            quotas.append(int(quota) / int(period))
    return min(quotas) if quotas else None


def _cgroups() -> Iterator[Path]:
    """The control groups of this process and those around it, where the system shows them."""
    root = Path("/sys/fs/cgroup")
    for line in _read("/proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        places = [root] if not controllers else [root / name for name in (controllers, *controllers.split(","))]
        for place in places:
            folder = place / path.lstrip("/")
            yield from (parent for parent in (folder, *folder.parents) if parent.is_relative_to(place))


def _read(path: str | Path) -> str:
    try:
        return Path(path).read_text()
    except (OSError, ValueError):
        return ""


def memory() -> Check:
    """Memory in all and free, with the limit of the control group."""
    total, free = _system_memory()
    limits = []
    for folder in _cgroups():
        for limit, used in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
            text = _read(folder / limit).strip()
            if text.isdigit() and (total is None or int(text) < total):
                limits.append((int(text), int(_read(folder / used).strip() or 0)))
    limit = min(limits, default=None)
    if limit:
        total, free = limit[0], min(max(0, room - used) for room, used in limits)
        free = min(free, _system_memory()[1] or free)
    details = {"total_bytes": total, "available_bytes": free, "cgroup_limit_bytes": limit[0] if limit else None}
    if total is None:
        return Check("memory", NOTE, "how much there is could not be found out", details=details)
    text = f"{total / 1e9:.1f} GB" + (" (limit of the control group)" if limit else "")
    if free is None:
        return Check("memory", OK, text, details=details)
    text += f", {free / 1e9:.1f} GB available"
    if free < NEEDED_MEMORY:
        mend = "close other programs, or raise the memory limit of the container"
        return Check(
            "memory", PROBLEM, f"{text}: the default job wants {NEEDED_MEMORY / 1e9:.1f} GB", mend, False, details
        )
    return Check("memory", OK, text, details=details)


def _system_memory() -> tuple[int | None, int | None]:
    fields = {}
    for line in _read("/proc/meminfo").splitlines():
        name, _, rest = line.partition(":")
        fields[name] = int(rest.split()[0]) * 1024
    if "MemTotal" in fields:
        return fields["MemTotal"], fields.get("MemAvailable")
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), None
    except (AttributeError, ValueError, OSError):
        return None, None


def disks() -> Iterator[Check]:
    """Free space where models, downloads, temporary files and videos go; one line for each disk that has little."""
    hub_home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    hub = Path(os.environ.get("HF_HUB_CACHE") or Path(hub_home) / "hub").expanduser()
    places = {
        "models": (registry.models_home(), MODEL_SPACE, "FASHIONFLOW_HOME"),
        "downloads": (hub, MODEL_SPACE, "HF_HOME"),
        "temporary files": (Path(tempfile.gettempdir()), LITTLE_SPACE, "TMPDIR"),
        "this folder": (Path(), LITTLE_SPACE, ""),
    }
    fine, details = [], {}
    for what, (place, wanted, variable) in places.items():
        try:
            place = place.absolute()
            beside = next(parent for parent in (place, *place.parents) if parent.is_dir())
            free = shutil.disk_usage(beside).free
        except OSError as error:  # a current folder that is gone, a share that is not mounted
            yield Check("disk", NOTE, f"{what}: {place}: {error.strerror}")
            continue
        writable = os.access(beside, os.W_OK)
        details[what] = {"path": str(place), "free_bytes": free, "writable": writable}
        mend = f"free some, or set {variable} to a folder on a larger disk" if variable else "cd to a larger disk"
        if not writable:
            other = (
                f"set {variable} to a folder that is" if variable else "cd to a folder that is, or write elsewhere: -o"
            )
            yield Check("disk", NOTE, f"{what}: {beside} is not writable", other)
        elif free < wanted:
            level = PROBLEM if free < LITTLE_SPACE else NOTE
            yield Check("disk", level, f"{what}: {free / 1e9:.2f} GB free in {place}", mend, details=details[what])
        else:
            fine.append(f"{what} {free / 1e9:.0f} GB")
    if fine:
        yield Check("disk", OK, f"free for {', '.join(fine)}", details=details)


def variables(known: frozenset[str]) -> Check:
    """Variables of ours that nobody reads: most often a slip of the pen. Their values are not shown."""
    ours = sorted(name for name in os.environ if name.upper().startswith("FASHIONFLOW"))
    unknown = [name for name in ours if name not in known]
    details = {"set": [name for name in ours if name in known], "unknown": unknown}
    if unknown:
        near = {name: get_close_matches(name, known, n=1) for name in unknown}
        words = ", ".join(f"{name} (did you mean {close[0]}?)" if close else name for name, close in near.items())
        return Check(
            "variables", NOTE, f"set, but read by nothing: {words}", f"unset {' '.join(unknown)}", details=details
        )
    text = f"set: {', '.join(details['set'])}" if details["set"] else "no FASHIONFLOW_* variable is set"
    return Check("variables", OK, text, details=details)


def models() -> Iterator[Check]:
    """Every installed model: its parts, the headers of its weights, recorded sizes. The bundled one must be whole."""
    for entry in registry.list_models():
        known = registry.KNOWN.get(entry.name)
        bundled = known is not None and known.bundled is not None
        if entry.path is None:
            if bundled:
                mend = "pip install --force-reinstall --no-deps fashionflow"
                yield Check("models", PROBLEM, f"{entry.name}: is missing from this installation", mend, blocks=True)
            else:
                yield Check("models", NOTE, f"{entry.name}: not installed", f"fashionflow models pull {entry.name}")
            continue
        damage, size = model_folder.damage(entry.path), model_folder.size(entry.path)
        details = {"name": entry.name, "path": str(entry.path), "size_bytes": size, "damage": damage}
        if not damage:
            yield Check("models", OK, f"{entry.name}: {size / 1e6:.0f} MB in {entry.path}", details=details)
            continue
        mend = (
            "pip install --force-reinstall --no-deps fashionflow"
            if bundled
            else f"fashionflow models remove {entry.name}, then pull or import it again"
        )
        yield Check("models", PROBLEM, f"{entry.name}: damaged: {'; '.join(damage[:3])}", mend, bundled, details)
    yield from _leftovers()


def _leftovers() -> Iterator[Check]:
    """Folders of installations that were killed midway: out of the way, but large."""
    home = registry.models_home()
    folders = [path for path in home.glob(".*") if path.is_dir() and path.name != ".downloads"] if home.is_dir() else []
    if folders:
        size = sum(model_folder.size(folder) for folder in folders)
        names = " ".join(f"'{folder}'" for folder in folders)
        text = f"{len(folders)} unfinished installations take {size / 1e6:.0f} MB (unless one is running now)"
        yield Check("models", NOTE, text, f"rm -r {names}", details={"folders": [str(folder) for folder in folders]})
