"""What the answers of the libraries mean: each becomes lines of the report, with the command that mends a problem."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

from fashionflow_core.doctor.check import NOTE, OK, PROBLEM, Check
from fashionflow_core.doctor.probe import Answer

# Largest error, as a share of the spread of the right values: some ten times what was measured of each type on a CPU.
# Graphics cards compute convolutions of fp32 in TF32, whose 10 bits of mantissa are those of fp16.
TOLERANCE = {"fp32": 0.02, "bf16": 0.1, "fp16": 0.02}
SLOW = 4.0  # times as long as fp32
_TORCH = "'torch>=2.8,<2.14'"


class Driver(NamedTuple):
    """The GPUs that the NVIDIA driver reports, and why it reports none if its tool fails."""

    gpus: list[dict[str, Any]]
    error: str = ""


def torch(answer: Answer, driver: Driver) -> Iterator[Check]:
    """The build, the processors it can use, the number types."""
    if why := answer.get("failed"):
        yield Check(
            "torch", PROBLEM, f"cannot be used: {why}", f"pip install --force-reinstall {_TORCH}", details=answer
        )
        for gpu in driver.gpus:
            yield Check("gpu", NOTE, _gpu(gpu), details=gpu)
        return
    build = f"CUDA {answer['cuda']}" if answer["cuda"] else f"ROCm {answer['hip']}" if answer["hip"] else "CPU"
    details = {key: value for key, value in answer.items() if key not in ("dtypes", "gpus")}
    yield Check("torch", OK, f"{answer['version']}: {build} build, {answer['threads']} threads", details=details)
    yield from _gpus(answer, driver)
    if sys.platform == "darwin":
        yield Check("mps", OK if answer["mps"] else NOTE, "works" if answer["mps"] else "this torch has no MPS")
    for device, types in answer["dtypes"].items():
        yield _dtypes(device, types)


def _gpu(gpu: dict[str, Any]) -> str:
    driver = f", driver {gpu['driver']}" if gpu.get("driver") else ""
    capability = gpu.get("compute_capability") or "unknown"
    return f"{gpu['name']}, {gpu['memory_bytes'] / 2**30:.0f} GiB, compute capability {capability}{driver}"


def _gpus(answer: Answer, driver: Driver) -> Iterator[Check]:
    gpus = driver.gpus
    drivers = {gpu["name"]: gpu["driver"] for gpu in gpus}
    seen = [gpu | {"driver": drivers.get(gpu["name"])} for gpu in answer["gpus"]]
    for index, gpu in enumerate(seen):
        yield Check("gpu", OK, f"cuda:{index} {_gpu(gpu)}", details=gpu)
    if seen:
        return
    if driver.error:
        mend = "restart after an update of the driver; in a container: docker run --gpus all"
        yield Check("gpu", NOTE, f"none is used: nvidia-smi is here and fails ({driver.error})", mend)
        return
    if not gpus:
        yield Check("gpu", OK, "none, and none is needed", details={"gpus": []})
        return
    names, details = ", ".join(_gpu(gpu) for gpu in gpus), {"gpus": gpus, "cuda_error": answer["cuda_error"]}
    if not answer["cuda"]:
        mend = f"pip uninstall -y torch && pip install --no-cache-dir {_TORCH}"
        mend += " (from the index of CUDA builds that pytorch.org names, where that gives a CPU build again)"
        yield Check("gpu", PROBLEM, f"{names}: not used, since this torch is a CPU build", mend, details=details)
        return
    text = f"{names}: torch was built for CUDA {answer['cuda']} and cannot use it ({answer['cuda_error']})"
    yield Check(
        "gpu", PROBLEM, text, "update the NVIDIA driver; and unset CUDA_VISIBLE_DEVICES if it is set", details=details
    )


def nvidia_smi() -> Driver:
    """Ask the NVIDIA driver through its own tool."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return Driver([])
    query = "--query-gpu=name,memory.total,compute_cap,driver_version"
    command = [tool, query, "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=10, check=False, stdin=subprocess.DEVNULL, errors="replace"
        )
    except subprocess.TimeoutExpired:
        return Driver([], "no answer within 10 s")
    except OSError as error:
        return Driver([], str(error.strerror))
    if done.returncode:
        return Driver([], " ".join((done.stdout + done.stderr).split())[:200] or f"exit code {done.returncode}")
    gpus = []
    for line in done.stdout.splitlines():
        name, *rest = (part.strip() for part in line.rsplit(",", 3))
        if len(rest) == 3:
            size = int(rest[0]) * 2**20 if rest[0].isdigit() else 0
            gpus.append({"name": name, "memory_bytes": size, "compute_capability": rest[1], "driver": rest[2]})
    return Driver(gpus)


def _dtypes(device: str, types: dict[str, Any]) -> Check:
    """Which number types compute rightly on a device, and whether one of them takes much longer than fp32."""
    words, slow, wrong = [], [], []
    reference = types["fp32"].get("seconds")
    for name, found in types.items():
        if not found.get("finite") or found["error"] > TOLERANCE[name]:
            wrong.append(name)
            words.append(f"{name} fails ({found.get('failed') or 'wrong numbers'})")
        elif reference and found["seconds"] > SLOW * reference:
            slow.append(name)
            words.append(f"{name} works, {found['seconds'] / reference:.0f} times slower than fp32")
        else:
            words.append(f"{name} works")
    text = f"{device}: {', '.join(words)}"
    details = {"device": device, "types": types}
    if "fp32" in wrong:
        mend = f"pip install --force-reinstall {_TORCH}"
        return Check("dtypes", PROBLEM, text, mend, device == "cpu", details)
    if wrong or slow:
        return Check("dtypes", NOTE, text, f"use --dtype {_best(types, wrong, slow)} on {device}", details=details)
    return Check("dtypes", OK, text, details=details)


def _best(types: dict[str, Any], wrong: list[str], slow: list[str]) -> str:
    good = [name for name in types if name not in wrong and name not in slow]
    return " or ".join(good)


def torchvision(answer: Answer) -> Check:
    """Not needed; but one that does not fit this torch breaks transformers, which import it where they see it."""
    if why := answer.get("failed"):
        text = f"is installed and does not fit this torch ({why}); it is not needed, and breaks what imports it"
        return Check("torchvision", PROBLEM, text, "pip uninstall -y torchvision", False, answer)
    if not answer["installed"]:
        return Check("torchvision", OK, "absent, as it should be", details=answer)
    return Check("torchvision", OK, f"{answer['version']} fits this torch (not needed)", details=answer)


def onnxruntime(answer: Answer) -> Iterator[Check]:
    """The providers that sessions get, and whether two packages own the same module."""
    installed = {name: found for name in ("onnxruntime", "onnxruntime-gpu") if (found := _version(name))}
    details = answer | {"packages": installed}
    if len(installed) > 1:
        mend = "pip uninstall -y onnxruntime onnxruntime-gpu && pip install 'fashionflow[onnx]'"
        text = f"both {' and '.join(f'{n} {v}' for n, v in installed.items())} are installed: they own the same module"
        yield Check("onnxruntime", PROBLEM, text, mend, details=details)
    if why := answer.get("failed"):
        mend = f"pip install --force-reinstall {next(iter(installed), 'onnxruntime')}"
        yield Check("onnxruntime", PROBLEM, f"cannot be used: {why}", mend, details=details)
    elif not answer["installed"]:
        text = "not installed; needed for ONNX engines alone"
        yield Check("onnxruntime", NOTE, text, "pip install 'fashionflow[onnx]'", details=details)
    else:
        works = [name for name, provider in answer["providers"].items() if provider["works"]]
        not_ = [name for name, provider in answer["providers"].items() if not provider["works"]]
        text = f"{answer['version']}: a session runs on {', '.join(works) or 'nothing'}"
        text += f"; listed, but not given to a session: {', '.join(not_)}" if not_ else ""
        level = OK if "CPUExecutionProvider" in works else PROBLEM
        mend = None if level == OK else "pip install --force-reinstall onnxruntime-gpu"
        yield Check("onnxruntime", level, text, mend, details=details)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def tensorrt(name: str, extra: str, answer: Answer) -> Check:
    """A TensorRT flavor: absent is fine, present must make a builder."""
    if why := answer.get("failed"):
        mend = f"pip install --force-reinstall 'fashionflow[{extra}]'; TensorRT also needs an NVIDIA driver"
        return Check(name, PROBLEM, f"is installed and cannot be used: {why}", mend, details=answer)
    if not answer["installed"]:
        text = f"not installed; needed for {'TensorRT engines' if name != 'polygraphy' else 'building them'} alone"
        return Check(name, NOTE, text, f"pip install 'fashionflow[{extra}]'", details=answer)
    builds = ", makes a builder" if answer.get("builder") else ""
    return Check(name, OK, f"{answer['version']}{builds}", details=answer)


def encoders(answer: Answer) -> Check:
    """The encoders that encoded a few frames; H.264 is what the default job needs."""
    mend = "pip install --force-reinstall 'av>=18'"
    if why := answer.get("failed"):
        return Check("encoders", PROBLEM, f"cannot be tried: {why}", mend, details=answer)
    works = [encoder for encoder in answer["encoders"] if encoder["works"]]
    by_codec: dict[str, list[str]] = {}
    for encoder in works:
        by_codec.setdefault(encoder["codec"], []).append(encoder["encoder"])
    text = "; ".join(f"{codec}: {', '.join(names)}" for codec, names in by_codec.items()) or "none encodes"
    if "libx264" not in by_codec.get("h264", []):
        why = next(
            (encoder["reason"] for encoder in answer["encoders"] if encoder["encoder"] == "libx264"), "is absent"
        )
        return Check(
            "encoders", PROBLEM, f"libx264, which the default job needs: {why}. Works: {text}", mend, True, answer
        )
    return Check("encoders", OK, f"encode: {text}", details=answer)


def photos(answer: Answer) -> Check:
    """The photo formats that were written and read back."""
    if why := answer.get("failed"):
        return Check(
            "photos",
            PROBLEM,
            f"Pillow cannot be used: {why}",
            "pip install --force-reinstall 'pillow>=12'",
            True,
            answer,
        )
    works = [name for name, found in answer["formats"].items() if found["works"]]
    missing = [name for name, found in answer["formats"].items() if not found["works"]]
    text = f"Pillow {answer['version']} reads {', '.join(works)}"
    if {"JPEG", "PNG"} & set(missing):
        mend = "pip install --force-reinstall --no-cache-dir 'pillow>=12'"
        return Check("photos", PROBLEM, f"{text}; not {', '.join(missing)}", mend, True, answer)
    if missing:
        mend = (
            "pip install 'fashionflow[heif]'" if missing == ["HEIF"] else "pip install --force-reinstall 'pillow>=12'"
        )
        return Check("photos", NOTE, f"{text}; not {', '.join(missing)}", mend, details=answer)
    return Check("photos", OK, text, details=answer)


def job(answer: Answer) -> Check:
    """The default job itself: what decides over the exit code."""
    if why := answer.get("failed"):
        mend = "mend the problems above; FASHIONFLOW_DEBUG=1 fashionflow generate PHOTO -o a.mp4 tells more"
        return Check("default job", PROBLEM, f"cannot run: {why}", mend, True, answer)
    text = f"mini on the CPU made {answer['frames']} frames of {answer['width']}x{answer['height']} as MP4"
    return Check("default job", OK, f"{text} in {answer['seconds']:.1f} s", details=answer)
