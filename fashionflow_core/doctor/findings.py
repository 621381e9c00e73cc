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
from fashionflow_core.generators.folder import EXTRA, config_of, is_pipeline, missing_packages
from fashionflow_core.store import folder as model_folder
from fashionflow_core.store import registry
from fashionflow_core.utils import extras
from fashionflow_core.utils.nearest import nearest
from fashionflow_core.utils.paths import NoHome, expanded

OK, NOTE, PROBLEM = "ok", "note", "problem"

# Bytes below which a disk is worth a word: a video is a few megabytes, the published model 1.5 GB with its parts.
LITTLE_SPACE, MODEL_SPACE = 500_000_000, 3_000_000_000
# What the default job takes: 1.03 GB were measured (70 frames, 4 threads, torch 2.13 for the CPU).
NEEDED_MEMORY = 1_200_000_000
# Largest error, as a share of the spread of the right values: some ten times what was measured of each type on a CPU.
# Graphics cards compute convolutions of fp32 in TF32, whose 10 bits of mantissa are those of fp16.
TOLERANCE = {"fp32": 0.02, "bf16": 0.1, "fp16": 0.02}
SLOW = 4.0  # times as long as fp32
_TORCH = "'torch>=2.8,<2.14'"
_REINSTALL = "pip install --force-reinstall"


@dataclass(frozen=True)
class Check:
    """One line of the report."""

    name: str  # what was looked at: python, packages, torch, ...
    level: str  # ok; note: worth knowing, or absent and not needed; problem: broken, and `mend` says what helps
    summary: str
    mend: str | None = None  # the command, or what to do
    blocks: bool = False  # the default job cannot run because of this
    details: dict[str, Any] = field(default_factory=dict)  # what was measured, JSON-able


# ---- the machine ---------------------------------------------------------------------------------------------------


def python() -> Check:
    """The interpreter."""
    text = f"{platform.python_version()} ({platform.python_implementation()}, {sys.platform} {platform.machine()})"
    details = {"version": platform.python_version(), "executable": sys.executable, "supported": "3.11 to 3.13"}
    if (3, 11) <= sys.version_info[:2] <= (3, 13):
        return Check("python", OK, text, details=details)
    text += " is not supported: 3.11 to 3.13 are"
    others = [found for minor in (12, 13, 11) if (found := shutil.which(f"python3.{minor}"))]
    mend = f"{shlex.quote(others[0])} -m venv .venv" if others else "install Python 3.12"
    return Check("python", PROBLEM, text, mend, details=details)


def packages() -> Check:
    """The versions of what fashionflow needs, against what it asks for."""
    from packaging.requirements import Requirement

    own = _version("fashionflow")
    if own is None:
        mend = f"pip install -e '{Path(__file__).parents[2]}'"
        return Check("packages", PROBLEM, "fashionflow runs from files that were not installed", mend)
    found: dict[str, str | None] = {}
    wrong, pins = [], []
    for requirement in map(Requirement, requires("fashionflow") or []):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        found[requirement.name] = there = _version(requirement.name)
        if there is None or not requirement.specifier.contains(there, prereleases=True):
            wrong.append(f"{requirement.name} {there or 'is missing'}")
            pins.append(f"'{requirement.name}{requirement.specifier}'")
    details = {"fashionflow": own, **found}
    if wrong:
        text = f"not what fashionflow {own} needs: {', '.join(wrong)}"
        return Check("packages", PROBLEM, text, f"pip install {' '.join(pins)}", details=details)
    text = f"fashionflow {own}, and {len(found)} packages of the versions it needs"
    return Check("packages", OK, text, details=details)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def processors() -> Check:
    """How many processors this process may use, which is often fewer than there are."""
    there = os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else there
    # Version 2 has "150000 100000", or "max 100000", in one file.
    found = [*_cgroups("cpu.max"), *_cgroups("cpu.cfs_quota_us", "cpu.cfs_period_us")]
    quota = min((int(most) / int(period) for most, period in found if most.isdigit()), default=None)
    usable = min(allowed, quota) if quota else float(allowed)
    limits = [f"affinity {allowed}"] * (allowed < there)
    limits += [f"cgroup quota {quota:g}"] if quota and quota < allowed else []
    models = [line for line in _read("/proc/cpuinfo").splitlines() if line.startswith("model name")]
    name = models[0].partition(":")[2].strip() if models else platform.processor() or platform.machine()
    details = {"usable": usable, "present": there, "affinity": allowed, "cgroup_quota": quota, "model": name}
    text = f"{usable:g} usable" + (f" of {there}" if usable < there else "")
    text += f" ({', '.join(limits)})" if limits else ""
    return Check("processors", OK, f"{text}: {name}", details=details)


def _cgroups(*names: str) -> Iterator[list[str]]:
    """The two words in files of these names, of each control group of this process and those around it."""
    for folder in _cgroup_folders():
        words = " ".join(_read(folder / name) for name in names).split()
        if len(words) == 2:
            yield words


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
    """Memory in all and free, with the limit of the control group."""
    fields = {line.partition(":")[0]: int(line.split()[1]) * 1024 for line in _read("/proc/meminfo").splitlines()}
    total, free = fields.get("MemTotal"), fields.get("MemAvailable")
    if total is None and hasattr(os, "sysconf"):
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    found = [*_cgroups("memory.max", "memory.current"), *_cgroups("memory.limit_in_bytes", "memory.usage_in_bytes")]
    limits = [(int(most), int(used)) for most, used in found if most.isdigit() and int(most) < (total or sys.maxsize)]
    if limits:
        room = min(max(0, most - used) for most, used in limits)
        total, free = min(limits)[0], min(room, free or room)
    limit = total if limits else None
    details = {"total_bytes": total, "available_bytes": free, "cgroup_limit_bytes": limit}
    if total is None:
        return Check("memory", NOTE, "how much there is could not be found out", details=details)
    text = f"{total / 1e9:.1f} GB" + (" (limit of the control group)" if limits else "")
    text += "" if free is None else f", {free / 1e9:.1f} GB available"
    if free is None or free >= NEEDED_MEMORY:
        return Check("memory", OK, text, details=details)
    mend = "close other programs, or raise the memory limit of the container"
    text += f": the default job wants {NEEDED_MEMORY / 1e9:.1f} GB"
    return Check("memory", PROBLEM, text, mend, details=details)


def _models_home() -> Path | None:
    try:
        return registry.models_home()
    except NoHome:
        return None


def disks() -> Iterator[Check]:
    """Free space where models, downloads, temporary files and videos go; one line for each disk that has little."""
    hub_home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    places = {
        "models": (_models_home(), MODEL_SPACE, "FASHIONFLOW_HOME"),
        "downloads": (expanded(os.environ.get("HF_HUB_CACHE") or Path(hub_home, "hub")), MODEL_SPACE, "HF_HOME"),
        "temporary files": (Path(tempfile.gettempdir()), LITTLE_SPACE, "TMPDIR"),
        "this folder": (Path(), LITTLE_SPACE, ""),
    }
    fine, details = [], {}
    for what, (place, wanted, variable) in places.items():
        if place is None or place.parts[:1] == ("~",):
            yield Check("disk", NOTE, f"{what}: this user has no home folder", f"set {variable} to a writable folder")
            continue
        try:
            place = place.absolute()
            beside = next(parent for parent in (place, *place.parents) if os.path.isdir(parent))
            free = shutil.disk_usage(beside).free
        except OSError as error:  # a current folder that is gone, a share that is not mounted
            yield Check("disk", NOTE, f"{what}: {place}: {error.strerror}")
            continue
        writable = os.access(beside, os.W_OK)
        details[what] = {"path": str(place), "free_bytes": free, "writable": writable}
        mend = (f"set {variable} to" if variable else "cd to") + " a writable folder on a larger disk"
        if not writable:
            yield Check("disk", NOTE, f"{what}: {beside} is not writable", mend)
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
    there, unknown = [name for name in ours if name in known], [name for name in ours if name not in known]
    details = {"set": there, "unknown": unknown}
    if not unknown:
        text = f"set: {', '.join(there)}" if there else "no FASHIONFLOW_* variable is set"
        return Check("variables", OK, text, details=details)
    near = {name: nearest(name, known) for name in unknown}
    words = ", ".join(f"{name} (did you mean {close}?)" if close else name for name, close in near.items())
    return Check("variables", NOTE, f"set, but read by nothing: {words}", f"unset {' '.join(unknown)}", details=details)


def models() -> Iterator[Check]:
    """Every installed model: its parts, the headers of its weights, recorded sizes. The bundled one must be whole."""
    reinstall = extras.reinstall()
    for entry in registry.list_models():
        name, known = entry.name, registry.KNOWN.get(entry.name)
        bundled = known is not None and known.bundled is not None
        if entry.path is None and bundled:
            yield Check("models", PROBLEM, f"{name}: is missing from this installation", reinstall, blocks=True)
        elif entry.path is None:
            needed = {"checkpoint": registry.CHECKPOINT} if name == registry.PUBLISHED else {}
            yield Check("models", NOTE, f"{name}: not installed", command("models pull", name, **needed))
        else:
            damage, size = model_folder.damage(entry.path), model_folder.size(entry.path)
            details = {"name": name, "path": str(entry.path), "size_bytes": size, "damage": damage}
            if not damage:
                yield (
                    _generator(name, entry.path, details)
                    if is_pipeline(entry.path)
                    else Check("models", OK, f"{name}: {size / 1e6:.0f} MB in {entry.path}", details=details)
                )
                continue
            mend = reinstall if bundled else f"{command('models remove', name)}, then pull or import it again"
            yield Check("models", PROBLEM, f"{name}: damaged: {'; '.join(damage[:3])}", mend, bundled, details)
    # Folders of installations that were killed midway: out of the way, but large.
    home = _models_home()
    hidden = home.glob(".*") if home is not None and os.access(home, os.R_OK) else ()
    folders = [path for path in hidden if path.is_dir() and path.name != ".downloads"]
    if folders:
        size = sum(model_folder.size(folder) for folder in folders)
        mend = "rm -r " + " ".join(f"'{folder}'" for folder in folders)
        text = f"{len(folders)} unfinished installations take {size / 1e6:.0f} MB (unless one is running now)"
        yield Check("models", NOTE, text, mend, details={"folders": [str(folder) for folder in folders]})


def _generator(name: str, folder: Path, details: dict[str, Any]) -> Check:
    """A pipeline of diffusers: bytes, licence, missing packages."""
    config, missing = config_of(folder), missing_packages(folder)
    text = f"{name}: {details['size_bytes'] / 1e9:.1f} GB in {folder}; licence: {getattr(config, 'licence', '')}"
    details = details | {"missing_packages": missing}
    if missing:
        return Check("models", PROBLEM, f"{text}; needs {', '.join(missing)}", extras.install(EXTRA), details=details)
    return Check("models", OK, text, details=details)


def offline() -> str | None:
    """The variable that forbids the network, if one does."""
    names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    return next((name for name in names if os.environ.get(name, "").lower() in ("1", "on", "yes", "true")), None)


def hub(answer: Answer | None) -> Check:
    """Whether the hub was reached; None: it was not asked. Never a problem: the bundled model needs no network."""
    parts = urlsplit(hub_address())
    try:  # without the user and password that may stand in it
        shown = f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")
    except ValueError:
        shown = ""
    details: dict[str, Any] = {"endpoint": shown, "offline": bool(offline()), "reachable": None}
    if answer is None:
        return Check("hub", OK, f"{offline()} is set: models come from the cache alone", details=details)
    if parts.scheme not in ("http", "https") or not parts.hostname or not shown:
        mend = "unset HF_ENDPOINT, or: export HF_ENDPOINT=https://huggingface.co"
        return Check("hub", NOTE, "HF_ENDPOINT is no address", mend, details=details)
    if why := answer.get("failed"):
        text = f"{shown} cannot be reached ({why}); only `{command('models pull')}` needs it"
        mend = "check the network, HTTPS_PROXY and HF_ENDPOINT, or set HF_HUB_OFFLINE=1"
        return Check("hub", NOTE, text, mend, details=details | {"reachable": False})
    details |= {"reachable": answer["status"] < 500, **answer}
    if answer["status"] >= 500:
        return Check("hub", NOTE, f"{shown} answers {answer['status']}", "try again later", details=details)
    return Check("hub", OK, f"{shown} answers in {answer['answered_in'] * 1000:.0f} ms", details=details)


# ---- the libraries -------------------------------------------------------------------------------------------------


class Driver(NamedTuple):
    """The GPUs that the NVIDIA driver reports, and why it reports none if its tool fails."""

    gpus: list[dict[str, Any]]
    error: str = ""


def nvidia_smi() -> Driver:
    """Ask the NVIDIA driver through its own tool."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return Driver([])
    query = "nvidia-smi --query-gpu=name,memory.total,compute_cap,driver_version --format=csv,noheader,nounits"
    pipes: Any = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True, "errors": "replace"}
    try:
        done = subprocess.run(shlex.split(query), executable=tool, timeout=10, check=False, **pipes)
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
    """The build, the processors it can use, the number types."""
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
    """Why torch sees no GPU."""
    if driver.error:
        mend = "restart after an update of the driver; in a container: docker run --gpus all"
        return Check("gpu", NOTE, f"none is used: nvidia-smi is here and fails ({driver.error})", mend)
    if not driver.gpus:
        return Check("gpu", OK, "none, and none is needed", details={"gpus": []})
    names, details = ", ".join(map(_gpu, driver.gpus)), {"gpus": driver.gpus, "cuda_error": answer["cuda_error"]}
    if not answer["cuda"]:
        mend = f"pip uninstall -y torch && pip install --no-cache-dir {_TORCH}"
        mend += " (from the index of CUDA builds that pytorch.org names, where that gives a CPU build again)"
        return Check("gpu", PROBLEM, f"{names}: not used, since this torch is a CPU build", mend, details=details)
    text = f"{names}: torch was built for CUDA {answer['cuda']} and cannot use it ({answer['cuda_error']})"
    mend = "update the NVIDIA driver; and unset CUDA_VISIBLE_DEVICES if it is set"
    return Check("gpu", PROBLEM, text, mend, details=details)


def _dtypes(device: str, types: dict[str, Any]) -> Check:
    """Which number types compute rightly on a device, and whether one of them takes much longer than fp32."""
    good, words = [], []
    reference = types["fp32"].get("seconds")
    for name, found in types.items():
        if not found.get("finite") or found["error"] > TOLERANCE[name]:
            words.append(f"{name} fails ({found.get('failed') or 'wrong numbers'})")
        elif reference and found["seconds"] > SLOW * reference:
            words.append(f"{name} works, {found['seconds'] / reference:.0f} times slower than fp32")
        else:
            good.append(name)
            words.append(f"{name} works")
    text, details = f"{device}: {', '.join(words)}", {"device": device, "types": types}
    if "fp32" not in good:  # it cannot be slow beside itself
        return Check("dtypes", PROBLEM, text, f"{_REINSTALL} {_TORCH}", device == "cpu", details)
    if len(good) < len(types):
        return Check("dtypes", NOTE, text, f"use {option('dtype', ' or '.join(good))} on {device}", details=details)
    return Check("dtypes", OK, text, details=details)


def torchvision(answer: Answer) -> Check:
    """Not needed; but one that does not fit this torch breaks transformers, which import it where they see it."""
    if why := answer.get("failed"):
        text = f"is installed and does not fit this torch ({why}); it is not needed, and breaks what imports it"
        return Check("torchvision", PROBLEM, text, "pip uninstall -y torchvision", details=answer)
    text = f"{answer['version']} fits this torch (not needed)" if answer["installed"] else "absent, as it should be"
    return Check("torchvision", OK, text, details=answer)


def onnxruntime(answer: Answer) -> Iterator[Check]:
    """The providers that sessions get, and whether two packages own the same module."""
    installed = {name: found for name in ("onnxruntime", "onnxruntime-gpu") if (found := _version(name))}
    details = answer | {"packages": installed}
    if len(installed) > 1:
        mend = f"pip uninstall -y onnxruntime onnxruntime-gpu && {extras.install('onnx')}"
        text = f"both {' and '.join(f'{n} {v}' for n, v in installed.items())} are installed: they own the same module"
        yield Check("onnxruntime", PROBLEM, text, mend, details=details)
    if why := answer.get("failed"):
        mend = f"{_REINSTALL} {next(iter(installed), 'onnxruntime')}"
        yield Check("onnxruntime", PROBLEM, f"cannot be used: {why}", mend, details=details)
    elif not answer["installed"]:
        text = "not installed; needed for ONNX engines alone"
        yield Check("onnxruntime", NOTE, text, extras.install("onnx"), details=details)
    else:
        works, others = _sorted(answer["providers"])
        text = f"{answer['version']}: a session runs on {', '.join(works) or 'nothing'}"
        text += f"; listed, but not given to a session: {', '.join(others)}" if others else ""
        ok = "CPUExecutionProvider" in works
        mend = None if ok else f"{_REINSTALL} onnxruntime-gpu"
        yield Check("onnxruntime", OK if ok else PROBLEM, text, mend, details=details)


def _sorted(found: dict[str, Any]) -> tuple[list[str], list[str]]:
    """The names of what works and of what does not."""
    works = [name for name, entry in found.items() if entry["works"]]
    return works, [name for name in found if name not in works]


def tensorrt(name: str, extra: str, answer: Answer) -> Check:
    """A TensorRT flavor: absent is fine, present must make a builder."""
    if why := answer.get("failed"):
        mend = f"{extras.install(extra, force=True)}; TensorRT also needs an NVIDIA driver"
        return Check(name, PROBLEM, f"is installed and cannot be used: {why}", mend, details=answer)
    if not answer["installed"]:
        text = f"not installed; needed for {'TensorRT engines' if name != 'polygraphy' else 'building them'} alone"
        return Check(name, NOTE, text, extras.install(extra), details=answer)
    builds = ", makes a builder" if answer.get("builder") else ""
    return Check(name, OK, f"{answer['version']}{builds}", details=answer)


def encoders(answer: Answer) -> Check:
    """The encoders that encoded a few frames; H.264 is what the default job needs."""
    mend = f"{_REINSTALL} 'av>=18'"
    if why := answer.get("failed"):
        return Check("encoders", PROBLEM, f"cannot be tried: {why}", mend, details=answer)
    reasons = {encoder["encoder"]: encoder["reason"] for encoder in answer["encoders"] if not encoder["works"]}
    by_codec: dict[str, list[str]] = {}
    for encoder in answer["encoders"]:
        if encoder["works"]:
            by_codec.setdefault(encoder["codec"], []).append(encoder["encoder"])
    text = "; ".join(f"{codec}: {', '.join(names)}" for codec, names in by_codec.items()) or "none encodes"
    if "libx264" in by_codec.get("h264", []):
        return Check("encoders", OK, f"encode: {text}", details=answer)
    text = f"libx264, which the default job needs: {reasons.get('libx264', 'is absent')}. Works: {text}"
    return Check("encoders", PROBLEM, text, mend, True, answer)


def photos(answer: Answer) -> Check:
    """The photo formats that were written and read back."""
    mend = f"{_REINSTALL} 'pillow>=12'"
    if why := answer.get("failed"):
        return Check("photos", PROBLEM, f"Pillow cannot be used: {why}", mend, True, answer)
    works, missing = _sorted(answer["formats"])
    text = f"Pillow {answer['version']} reads {', '.join(works)}"
    if not missing:
        return Check("photos", OK, text, details=answer)
    text += f"; not {', '.join(missing)}"
    if {"JPEG", "PNG"} & set(missing):
        return Check("photos", PROBLEM, text, f"{_REINSTALL} --no-cache-dir 'pillow>=12'", True, answer)
    return Check("photos", NOTE, text, extras.install("heif") if missing == ["HEIF"] else mend, details=answer)


def job(answer: Answer) -> Check:
    """The default job itself: what decides over the exit code."""
    if why := answer.get("failed"):
        mend = f"mend the problems above; FASHIONFLOW_DEBUG=1 {command('generate', 'PHOTO', out='a.mp4')} tells more"
        return Check("default job", PROBLEM, f"cannot run: {why}", mend, True, answer)
    text = f"mini on the CPU made {answer['frames']} frames of {answer['width']}x{answer['height']} as MP4"
    return Check("default job", OK, f"{text} in {answer['seconds']:.1f} s", details=answer)
