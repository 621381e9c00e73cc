"""Findings of the doctor: results of checks, with commands that fix problems."""

import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from fashionflow_core.doctor.probe import Answer, hub_address
from fashionflow_core.errors import command, option
from fashionflow_core.generators.folder import (
    config_of,
    device_bytes,
    how_to_install,
    is_pipeline,
    missing_packages,
)
from fashionflow_core.generators.offload import expected_rung
from fashionflow_core.store import folder as model_folder
from fashionflow_core.store import registry
from fashionflow_core.utils import extras
from fashionflow_core.utils.nearest import nearest
from fashionflow_core.utils.paths import NoHome, expanded, hub_home

OK, NOTE, PROBLEM = "ok", "note", "problem"

# Bytes of free space below which a disk is reported: a video has a few MB, the published model 1.5 GB with its parts.
LITTLE_SPACE, MODEL_SPACE = 500_000_000, 3_000_000_000
# Bytes that the default job needs: 1.03 GB measured (70 frames, 4 threads, torch 2.13 for the CPU).
NEEDED_MEMORY = 1_200_000_000
# Largest error relative to the standard deviation of the reference: about ten times what was measured of each dtype on
# a CPU. GPUs compute fp32 convolutions in TF32, which has fp16's 10 mantissa bits.
TOLERANCE = {"fp32": 0.02, "bf16": 0.1, "fp16": 0.02}
SLOW = 4.0  # times as long as fp32
_TORCH = "'torch>=2.8,<2.14'"
_REINSTALL = "pip install --force-reinstall"


@dataclass(frozen=True)
class Check:
    """One line of the report."""

    name: str  # subject of the check: python, packages, torch, ...
    level: str  # ok; note: minor, or absent and not needed; problem: broken, see `fix`
    summary: str
    fix: str | None = None  # the command, or the steps, that fix it
    blocks: bool = False  # the default job cannot run because of this
    details: dict[str, Any] = field(default_factory=dict)  # measurements, JSON-serializable


# ---- the machine ---------------------------------------------------------------------------------------------------


def python() -> Check:
    """Version and platform of the interpreter."""
    text = f"{platform.python_version()} ({platform.python_implementation()}, {sys.platform} {platform.machine()})"
    details = {"version": platform.python_version(), "executable": sys.executable, "supported": "3.11 to 3.13"}
    if (3, 11) <= sys.version_info[:2] <= (3, 13):
        return Check("python", OK, text, details=details)
    text += " is not supported (only 3.11 to 3.13)"
    others = [found for minor in (12, 13, 11) if (found := shutil.which(f"python3.{minor}"))]
    fix = f"{shlex.quote(others[0])} -m venv .venv" if others else "install Python 3.12"
    return Check("python", PROBLEM, text, fix, details=details)


def packages() -> Check:
    """Installed versions of the dependencies against the required ones."""
    from packaging.requirements import Requirement

    own = _version("fashionflow")
    if own is None:
        fix = f"pip install -e '{Path(__file__).parents[2]}'"
        return Check("packages", PROBLEM, "fashionflow runs from files without an installation", fix)
    found: dict[str, str | None] = {}
    wrong, pins = [], []
    for requirement in map(Requirement, requires("fashionflow") or []):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        found[requirement.name] = there = _version(requirement.name)
        if there is None or not requirement.specifier.contains(there, prereleases=True):
            wrong.append(f"{requirement.name} {there or 'missing'}")
            pins.append(f"'{requirement.name}{requirement.specifier}'")
    details = {"fashionflow": own, **found}
    if wrong:
        text = f"unmet requirements of fashionflow {own}: {', '.join(wrong)}"
        return Check("packages", PROBLEM, text, f"pip install {' '.join(pins)}", details=details)
    text = f"fashionflow {own}, and {len(found)} packages of matching versions"
    return Check("packages", OK, text, details=details)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def processors() -> Check:
    """Number of processors that this process may use, often fewer than are present."""
    there = os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else there
    found = [*_cgroups("cpu.max"), *_cgroups("cpu.cfs_quota_us", "cpu.cfs_period_us")]
    quota = min((most / period for most, period in found), default=None)
    usable = min(allowed, quota) if quota else float(allowed)
    limits = [f"affinity {allowed}"] * (allowed < there)
    limits += [f"cgroup quota {quota:g}"] if quota and quota < allowed else []
    models = [line for line in _read("/proc/cpuinfo").splitlines() if line.startswith("model name")]
    name = models[0].partition(":")[2].strip() if models else platform.processor() or platform.machine()
    details = {"usable": usable, "present": there, "affinity": allowed, "cgroup_quota": quota, "model": name}
    text = f"{usable:g} usable" + (f" of {there}" if usable < there else "")
    text += f" ({', '.join(limits)})" if limits else ""
    return Check("processors", OK, f"{text}: {name}", details=details)


def _cgroups(*names: str) -> Iterator[tuple[int, int]]:
    """Limits of the control group of this process and its parents: the two numbers in the files of these names."""
    for folder in _cgroup_folders():
        # Version 2 has "150000 100000", or "max 100000" without a limit, in one file.
        words = " ".join(_read(folder / name) for name in names).split()
        if len(words) == 2 and words[0].isdigit():
            yield int(words[0]), int(words[1])


def _cgroup_folders() -> Iterator[Path]:
    root = Path("/sys/fs/cgroup")
    for line in _read("/proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        for place in [root / name for name in (controllers, *controllers.split(","))] if controllers else [root]:
            folder = place / path.lstrip("/")
            yield from (parent for parent in (folder, *folder.parents) if parent.is_relative_to(place))


def _read(path: str | Path) -> str:
    try:
        return Path(path).read_text()
    except (OSError, ValueError):
        return ""


def memory() -> Check:
    """Total and free memory, and the limit of the control group."""
    fields = {line.partition(":")[0]: int(line.split()[1]) * 1024 for line in _read("/proc/meminfo").splitlines()}
    total, free = fields.get("MemTotal"), fields.get("MemAvailable")
    if total is None and hasattr(os, "sysconf"):
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    found = [*_cgroups("memory.max", "memory.current"), *_cgroups("memory.limit_in_bytes", "memory.usage_in_bytes")]
    limits = [(most, used) for most, used in found if most < (total or sys.maxsize)]
    if limits:
        room = min(max(0, most - used) for most, used in limits)
        total, free = min(limits)[0], min(room, free or room)
    limit = total if limits else None
    details = {"total_bytes": total, "available_bytes": free, "cgroup_limit_bytes": limit}
    if total is None:
        return Check("memory", NOTE, "size unknown", details=details)
    text = f"{total / 1e9:.1f} GB" + (" (limit of the control group)" if limits else "")
    text += "" if free is None else f", {free / 1e9:.1f} GB available"
    if free is None or free >= NEEDED_MEMORY:
        return Check("memory", OK, text, details=details)
    fix = "close other programs, or raise the memory limit of the container"
    text += f": the default job needs {NEEDED_MEMORY / 1e9:.1f} GB"
    return Check("memory", PROBLEM, text, fix, details=details)


def _models_home() -> Path | None:
    try:
        return registry.models_home()
    except NoHome:
        return None


def disks() -> Iterator[Check]:
    """Free space where models, downloads, temporary files and videos go; one line per disk with little space."""
    places = {
        "models": (_models_home(), MODEL_SPACE, "FASHIONFLOW_HOME"),
        "downloads": (expanded(os.environ.get("HF_HUB_CACHE") or hub_home() / "hub"), MODEL_SPACE, "HF_HOME"),
        "temporary files": (Path(tempfile.gettempdir()), LITTLE_SPACE, "TMPDIR"),
        "this folder": (Path(), LITTLE_SPACE, ""),
    }
    fine, details = [], {}
    for what, (place, wanted, variable) in places.items():
        if place is None or place.parts[:1] == ("~",):
            yield Check("disk", NOTE, f"{what}: the user has no home folder", f"set {variable} to a writable folder")
            continue
        try:
            place = place.absolute()
            beside = next(parent for parent in (place, *place.parents) if os.path.isdir(parent))
            free = shutil.disk_usage(beside).free
        except OSError as error:  # a deleted current folder, a share that is not mounted
            yield Check("disk", NOTE, f"{what}: {place}: {error.strerror}")
            continue
        writable = os.access(beside, os.W_OK)
        details[what] = {"path": str(place), "free_bytes": free, "writable": writable}
        fix = (f"set {variable} to" if variable else "cd to") + " a writable folder on a larger disk"
        if not writable:
            yield Check("disk", NOTE, f"{what}: {beside} is not writable", fix)
        elif free < wanted:
            level = PROBLEM if free < LITTLE_SPACE else NOTE
            yield Check("disk", level, f"{what}: {free / 1e9:.2f} GB free in {place}", fix, details=details[what])
        else:
            fine.append(f"{what} {free / 1e9:.0f} GB")
    if fine:
        yield Check("disk", OK, f"free for {', '.join(fine)}", details=details)


def variables(known: frozenset[str]) -> Check:
    """Unused `FASHIONFLOW_*` variables: possible typos. Their values are not shown."""
    ours = sorted(name for name in os.environ if name.upper().startswith("FASHIONFLOW"))
    there, unknown = [name for name in ours if name in known], [name for name in ours if name not in known]
    details = {"set": there, "unknown": unknown}
    if not unknown:
        text = f"set: {', '.join(there)}" if there else "no FASHIONFLOW_* variable is set"
        return Check("variables", OK, text, details=details)
    near = {name: nearest(name, known) for name in unknown}
    words = ", ".join(f"{name} (did you mean {close}?)" if close else name for name, close in near.items())
    return Check("variables", NOTE, f"unknown: {words}", f"unset {' '.join(unknown)}", details=details)


def models() -> Iterator[Check]:
    """Every installed model: parts, headers of weights, recorded sizes. The bundled model must be complete."""
    reinstall = extras.reinstall()
    for entry in registry.list_models():
        name, known = entry.name, registry.KNOWN.get(entry.name)
        bundled = known is not None and known.bundled is not None
        if entry.path is None and bundled:
            yield Check("models", PROBLEM, f"{name}: missing from this installation", reinstall, blocks=True)
        elif entry.path is None:
            needed = {"checkpoint": registry.CHECKPOINT} if name == registry.PUBLISHED else {}
            yield Check("models", NOTE, f"{name}: not installed", command("models pull", name, **needed))
        else:
            is_model = model_folder.is_model(entry.path)
            damage = (model_folder.damage if is_model else model_folder.network_damage)(entry.path)
            size = model_folder.size(entry.path)
            details = {"name": name, "path": str(entry.path), "size_bytes": size, "damage": damage}
            if not damage:
                yield (
                    _generator(name, entry.path, details)
                    if is_pipeline(entry.path)
                    else Check("models", OK, f"{name}: {size / 1e6:.0f} MB in {entry.path}", details=details)
                )
                continue
            fix = reinstall if bundled else f"{command('models remove', name)}, then pull or import it again"
            yield Check("models", PROBLEM, f"{name}: damaged: {'; '.join(damage[:3])}", fix, bundled, details)
    # Leftover folders of interrupted installations: harmless, but large.
    home = _models_home()
    hidden = home.glob(".*") if home is not None and os.access(home, os.R_OK) else ()
    folders = [path for path in hidden if path.is_dir() and path.name != ".downloads"]
    if folders:
        size = sum(model_folder.size(folder) for folder in folders)
        fix = "rm -r " + " ".join(f"'{folder}'" for folder in folders)
        text = f"{len(folders)} incomplete installations take {size / 1e6:.0f} MB (unless one is running now)"
        yield Check("models", NOTE, text, fix, details={"folders": [str(folder) for folder in folders]})


def _generator(name: str, folder: Path, details: dict[str, Any]) -> Check:
    """A pipeline of diffusers: bytes on disk and opened, expected offload, licence, missing packages."""
    config, missing = config_of(folder), missing_packages(folder)
    opened, gpus = device_bytes(folder, 2), nvidia_smi().gpus
    largest = max(gpus, key=lambda gpu: gpu["memory_bytes"], default=None)
    rung = expected_rung(opened, largest["memory_bytes"]) if largest else None
    where = f" (offload {rung} expected on {largest['name']})" if largest else ""
    text = (
        f"{name}: {details['size_bytes'] / 1e9:.1f} GB in {folder}, "
        f"{sum(opened.values()) / 1e9:.1f} GB in bf16{where}; licence: {getattr(config, 'licence', '')}"
    )
    details = details | {"missing_packages": missing, "device_bytes": sum(opened.values()), "offload": rung}
    if missing:
        return Check("models", PROBLEM, f"{text}; needs {', '.join(missing)}", how_to_install(missing), details=details)
    return Check("models", OK, text, details=details)


def offline() -> str | None:
    """The variable that turns the network off, if one is set."""
    names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    return next((name for name in names if os.environ.get(name, "").lower() in ("1", "on", "yes", "true")), None)


def hub(answer: Answer | None) -> Check:
    """Reachability of the hub; None: not tested. Never a problem: the bundled model needs no network."""
    parts = urlsplit(hub_address())
    try:  # without user and password
        shown = f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")
    except ValueError:
        shown = ""
    details: dict[str, Any] = {"endpoint": shown, "offline": bool(offline()), "reachable": None}
    if answer is None:
        return Check("hub", OK, f"{offline()} is set: models are loaded from the cache only", details=details)
    if parts.scheme not in ("http", "https") or not parts.hostname or not shown:
        fix = "unset HF_ENDPOINT, or: export HF_ENDPOINT=https://huggingface.co"
        return Check("hub", NOTE, "HF_ENDPOINT: not an address", fix, details=details)
    if why := answer.get("failed"):
        text = f"{shown} cannot be reached ({why}); only `{command('models pull')}` needs it"
        fix = "check the network, HTTPS_PROXY and HF_ENDPOINT, or set HF_HUB_OFFLINE=1"
        return Check("hub", NOTE, text, fix, details=details | {"reachable": False})
    details |= {"reachable": answer["status"] < 500, **answer}
    if answer["status"] >= 500:
        return Check("hub", NOTE, f"{shown} returned {answer['status']}", "retry later", details=details)
    return Check("hub", OK, f"{shown} responded in {answer['answered_in'] * 1000:.0f} ms", details=details)


# ---- the libraries -------------------------------------------------------------------------------------------------


class Driver(NamedTuple):
    """GPUs that the NVIDIA driver reports, and the error if its tool fails."""

    gpus: list[dict[str, Any]]
    error: str = ""


def nvidia_smi() -> Driver:
    """Query the NVIDIA driver through nvidia-smi."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return Driver([])
    query = [tool, "--query-gpu=name,memory.total,compute_cap,driver_version", "--format=csv,noheader,nounits"]
    pipes: Any = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True, "errors": "replace"}
    try:
        done = subprocess.run(query, timeout=10, check=False, **pipes)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Driver([], str(error))
    if done.returncode:
        return Driver([], " ".join((done.stdout + done.stderr).split())[:200] or f"exit code {done.returncode}")
    gpus = []
    for line in done.stdout.splitlines():
        name, *rest = (part.strip() for part in line.rsplit(",", 3))
        if len(rest) == 3:
            size = int(rest[0]) * 2**20 if rest[0].isdigit() else 0
            gpus.append({"name": name, "memory_bytes": size, "compute_capability": rest[1], "driver": rest[2]})
    return Driver(gpus)


def torch(answer: Answer, driver: Driver) -> Iterator[Check]:
    """Build of torch, usable devices, dtypes."""
    if why := answer.get("failed"):
        yield Check("torch", PROBLEM, f"cannot be used: {why}", f"{_REINSTALL} {_TORCH}", details=answer)
        yield from (Check("gpu", NOTE, _gpu(gpu), details=gpu) for gpu in driver.gpus)
        return
    build = f"CUDA {answer['cuda']}" if answer["cuda"] else f"ROCm {answer['hip']}" if answer["hip"] else "CPU"
    details = {key: value for key, value in answer.items() if key not in ("dtypes", "gpus")}
    yield Check("torch", OK, f"{answer['version']}: {build} build, {answer['threads']} threads", details=details)
    if answer["gpus"]:
        drivers = {gpu["name"]: gpu["driver"] for gpu in driver.gpus}
        for index, gpu in enumerate(answer["gpus"]):
            gpu = gpu | {"driver": drivers.get(gpu["name"])}
            yield Check("gpu", OK, f"cuda:{index} {_gpu(gpu)}", details=gpu)
    else:
        yield _unused_gpus(answer, driver)
    if sys.platform == "darwin":
        yield Check("mps", OK if answer["mps"] else NOTE, "works" if answer["mps"] else "this torch has no MPS")
    for device, types in answer["dtypes"].items():
        yield _dtypes(device, types)


def _gpu(gpu: dict[str, Any]) -> str:
    driver = f", driver {gpu['driver']}" if gpu.get("driver") else ""
    capability = gpu.get("compute_capability") or "unknown"
    return f"{gpu['name']}, {gpu['memory_bytes'] / 2**30:.0f} GiB, compute capability {capability}{driver}"


def _unused_gpus(answer: Answer, driver: Driver) -> Check:
    """The reason why torch finds no GPU."""
    if driver.error:
        fix = "restart after an update of the driver; in a container: docker run --gpus all"
        return Check("gpu", NOTE, f"none is used: nvidia-smi failed ({driver.error})", fix)
    if not driver.gpus:
        return Check("gpu", OK, "none (not needed)", details={"gpus": []})
    names, details = ", ".join(map(_gpu, driver.gpus)), {"gpus": driver.gpus, "cuda_error": answer["cuda_error"]}
    if not answer["cuda"]:
        fix = f"pip uninstall -y torch && pip install --no-cache-dir {_TORCH}"
        fix += " (if that installs a CPU build again: add the index of CUDA builds from pytorch.org)"
        return Check("gpu", PROBLEM, f"{names}: not used: this torch is a CPU build", fix, details=details)
    text = f"{names}: torch was built for CUDA {answer['cuda']} and cannot use it ({answer['cuda_error']})"
    fix = "update the NVIDIA driver, and unset CUDA_VISIBLE_DEVICES if it is set"
    return Check("gpu", PROBLEM, text, fix, details=details)


def _dtypes(device: str, types: dict[str, Any]) -> Check:
    """Dtypes that compute correctly on a device, and those that are much slower than fp32."""
    good, words = [], []
    reference = types["fp32"].get("seconds")
    for name, found in types.items():
        if not found.get("finite") or found["error"] > TOLERANCE[name]:
            words.append(f"{name} fails ({found.get('failed') or 'wrong results'})")
        elif reference and found["seconds"] > SLOW * reference:
            words.append(f"{name} works, {found['seconds'] / reference:.0f} times slower than fp32")
        else:
            good.append(name)
            words.append(f"{name} works")
    text, details = f"{device}: {', '.join(words)}", {"device": device, "types": types}
    if "fp32" not in good:  # the other dtypes are compared with it
        return Check("dtypes", PROBLEM, text, f"{_REINSTALL} {_TORCH}", device == "cpu", details)
    if len(good) < len(types):
        return Check("dtypes", NOTE, text, f"use {option('dtype', ' or '.join(good))} on {device}", details=details)
    return Check("dtypes", OK, text, details=details)


def torchvision(answer: Answer) -> Check:
    """Not needed, but a version that does not match torch breaks transformers, which import it if it is installed."""
    if why := answer.get("failed"):
        text = f"does not match this torch ({why}); not needed, and breaks packages that import it"
        return Check("torchvision", PROBLEM, text, "pip uninstall -y torchvision", details=answer)
    text = f"{answer['version']} matches this torch (not needed)" if answer["installed"] else "not installed"
    return Check("torchvision", OK, text, details=answer)


def onnxruntime(answer: Answer) -> Iterator[Check]:
    """Usable execution providers, and conflicts of two packages that own the same module."""
    installed = {name: found for name in ("onnxruntime", "onnxruntime-gpu") if (found := _version(name))}
    details = answer | {"packages": installed}
    if len(installed) > 1:
        fix = f"pip uninstall -y onnxruntime onnxruntime-gpu && {extras.install('onnx')}"
        text = f"both {' and '.join(f'{n} {v}' for n, v in installed.items())} are installed, and own the same module"
        yield Check("onnxruntime", PROBLEM, text, fix, details=details)
    if why := answer.get("failed"):
        fix = f"{_REINSTALL} {next(iter(installed), 'onnxruntime')}"
        yield Check("onnxruntime", PROBLEM, f"cannot be used: {why}", fix, details=details)
    elif not answer["installed"]:
        text = "not installed; needed for ONNX engines only"
        yield Check("onnxruntime", NOTE, text, extras.install("onnx"), details=details)
    else:
        works, others = _sorted(answer["providers"])
        text = f"{answer['version']}: usable providers: {', '.join(works) or 'none'}"
        text += f"; listed but unusable: {', '.join(others)}" if others else ""
        ok = "CPUExecutionProvider" in works
        fix = None if ok else f"{_REINSTALL} onnxruntime-gpu"
        yield Check("onnxruntime", OK if ok else PROBLEM, text, fix, details=details)


def _sorted(found: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Names of the working and of the failing entries."""
    works = [name for name, entry in found.items() if entry["works"]]
    return works, [name for name in found if name not in works]


def tensorrt(name: str, extra: str, answer: Answer) -> Check:
    """A TensorRT flavor: may be absent; if installed it must create a builder."""
    if why := answer.get("failed"):
        fix = f"{extras.install(extra, force=True)}; TensorRT also needs an NVIDIA driver"
        return Check(name, PROBLEM, f"installed, but unusable: {why}", fix, details=answer)
    if not answer["installed"]:
        text = f"not installed; needed for {'TensorRT engines' if name != 'polygraphy' else 'building them'} only"
        return Check(name, NOTE, text, extras.install(extra), details=answer)
    builds = ", builder works" if answer.get("builder") else ""
    return Check(name, OK, f"{answer['version']}{builds}", details=answer)


def encoders(answer: Answer) -> Check:
    """Encoders that encoded a few test frames; the default job needs H.264."""
    fix = f"{_REINSTALL} 'av>=18'"
    if why := answer.get("failed"):
        return Check("encoders", PROBLEM, f"cannot be tested: {why}", fix, details=answer)
    reasons = {encoder["encoder"]: encoder["reason"] for encoder in answer["encoders"] if not encoder["works"]}
    by_codec: dict[str, list[str]] = {}
    for encoder in answer["encoders"]:
        if encoder["works"]:
            by_codec.setdefault(encoder["codec"], []).append(encoder["encoder"])
    text = "; ".join(f"{codec}: {', '.join(names)}" for codec, names in by_codec.items()) or "none works"
    if "libx264" in by_codec.get("h264", []):
        return Check("encoders", OK, f"encode: {text}", details=answer)
    text = f"libx264, which the default job needs: {reasons.get('libx264', 'missing')}. Works: {text}"
    return Check("encoders", PROBLEM, text, fix, True, answer)


def photos(answer: Answer) -> Check:
    """Photo formats that were written and read back."""
    fix = f"{_REINSTALL} 'pillow>=12'"
    if why := answer.get("failed"):
        return Check("photos", PROBLEM, f"Pillow cannot be used: {why}", fix, True, answer)
    works, missing = _sorted(answer["formats"])
    text = f"Pillow {answer['version']} reads {', '.join(works)}"
    if not missing:
        return Check("photos", OK, text, details=answer)
    text += f"; not {', '.join(missing)}"
    if {"JPEG", "PNG"} & set(missing):
        return Check("photos", PROBLEM, text, f"{_REINSTALL} --no-cache-dir 'pillow>=12'", True, answer)
    return Check("photos", NOTE, text, extras.install("heif") if missing == ["HEIF"] else fix, details=answer)


def job(answer: Answer) -> Check:
    """The default job itself, which determines the exit code."""
    if why := answer.get("failed"):
        fix = f"fix the problems above; for details: FASHIONFLOW_DEBUG=1 {command('generate', 'PHOTO', out='a.mp4')}"
        return Check("default job", PROBLEM, f"cannot run: {why}", fix, True, answer)
    text = f"mini on the CPU made {answer['frames']} frames of {answer['width']}x{answer['height']} as MP4"
    return Check("default job", OK, f"{text} in {answer['seconds']:.1f} s", details=answer)
