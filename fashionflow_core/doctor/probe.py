"""Probes of libraries, each in its own process, which may crash.

Modules are imported by name, since this package must not depend on them.
"""

import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fashionflow_core.errors import FashionFlowError, first_line
from fashionflow_core.utils.device import DTYPES
from fashionflow_core.utils.network import check_network

Answer = dict[str, Any]  # the result of a function below, or {"failed": reason}

HUB_LIMIT = 3.0  # seconds
_REPEATS = 5
# The child uses this process's module path; -P, since `-c` would put the current folder first.
_CODE = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]); "
    "from fashionflow_core.doctor.probe import main; main(sys.argv[2])"
)


def ask(question: str, limit: float, running: "list[subprocess.Popen[str]] | None" = None) -> Answer:
    """Run one of `_QUESTIONS` in a new process with a limit in seconds; the process is in `running` meanwhile.

    Never raises for failures of the child: exceptions, signals and timeouts are returned as `failed`, in words.
    """
    running = [] if running is None else running
    path = json.dumps([entry for entry in sys.path if os.path.isabs(entry)])
    # Libraries that use the network on import are cut off.
    offline = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "PYTHONFAULTHANDLER": ""}
    start = time.monotonic()
    try:
        with (
            # Its temporary files go to a folder of this process, since a killed child leaves them behind.
            tempfile.TemporaryDirectory(prefix="fashionflow-doctor-", ignore_cleanup_errors=True) as scratch,
            subprocess.Popen(
                [sys.executable, "-P", "-c", _CODE, path, question],
                env={**os.environ, **offline, **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), scratch)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                start_new_session=True,
            ) as process,
        ):
            running.append(process)
            try:
                out, err = process.communicate(timeout=limit)
            finally:
                running.remove(process)
                stop(process)
    except subprocess.TimeoutExpired:
        return {"failed": f"timed out after {limit:.0f} s"}
    except OSError as error:  # no temporary folder, or no more processes
        return {"failed": f"could not be started: {error}"}
    try:
        return json.loads(out.strip().splitlines()[-1]) | {"seconds": time.monotonic() - start}
    except (ValueError, IndexError):
        said = (err.strip().splitlines() or [""])[-1].strip()[:300]
    code = process.returncode
    if code >= 0:
        return {"failed": said or f"the process exited with code {code} without output"}
    name = signal.Signals(-code).name if -code in list(signal.Signals) else f"signal {-code}"
    return {"failed": f"the process was ended by {name}" + (" (often too little memory)" if name == "SIGKILL" else "")}


def stop(process: "subprocess.Popen[str]") -> None:
    """End a child and its own children."""
    if sys.platform == "win32":
        process.kill()
    else:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)


# ---- inside the process --------------------------------------------------------------------------------------------


def main(question: str) -> None:
    """Print the result on stdout as one line of JSON; output of libraries goes to stderr."""
    answer_to = os.dup(1)
    os.dup2(2, 1)
    name, _, argument = question.partition(":")
    try:
        with warnings.catch_warnings(action="ignore"):
            answer = _QUESTIONS[name](*([argument] if argument else []))
    except BaseException as error:  # includes SystemExit of modules that exit on import
        # The root cause, since libraries wrap it in vague errors.
        while error.__cause__ is not None and not isinstance(error, FashionFlowError):
            error = error.__cause__
        answer = {"failed": f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]}
    with os.fdopen(answer_to, "w") as out:
        out.write("\n" + json.dumps(answer) + "\n")
        out.flush()
    os._exit(0)  # some libraries crash while they are unloaded, after success


def _library(module: str, use: Callable[[Any], Answer] = lambda found: {}) -> Answer:
    """Whether a module is installed, its version, and the result of `use`."""
    if find_spec(module) is None:
        return {"installed": False}
    found = import_module(module)
    return {"installed": True, "version": str(getattr(found, "__version__", "unknown")), **use(found)}


def _torch() -> Answer:
    """Build of torch, its devices, and their usable dtypes."""
    import torch

    error = "no device"
    try:
        torch.cuda.init()
    except Exception as failure:
        error = first_line(failure, 300)
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    cards = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count() if cuda else 0)]
    devices = ["cpu", *(f"cuda:{i}" for i in range(len(cards))), *(["mps"] if mps else [])]
    return {
        "version": torch.__version__,
        "cuda": torch.version.cuda,
        "hip": getattr(torch.version, "hip", None),
        "cuda_error": None if cuda or torch.version.cuda is None else error,
        "gpus": [
            {"name": c.name, "memory_bytes": c.total_memory, "compute_capability": f"{c.major}.{c.minor}"}
            for c in cards
        ],
        "mps": mps,
        "threads": torch.get_num_threads(),
        "dtypes": {device: _dtypes(torch, device) for device in devices},
    }


def _dtypes(torch: Any, device: str) -> Answer:
    """Error of each dtype on a device against float32 on the CPU, and its time.

    The CPU is timed on one thread by processor time: on a busy machine wall time is meaningless, and threads that wait
    for each other made one dtype look fifty times slower.
    """
    clock = time.thread_time if device == "cpu" else time.perf_counter
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    shapes = ((4, 32, 40, 32), (32, 32, 3, 3), (1, 4, 320, 32))
    inputs = [torch.randn(shape, generator=generator) for shape in shapes]
    expected = _work(torch, *inputs)
    found = {}
    for name, kind in DTYPES.items():
        try:
            moved = [value.to(device, getattr(torch, kind)) for value in inputs]
            output, times = _work(torch, *moved), []
            for _ in range(_REPEATS):
                start = clock()
                _work(torch, *moved)
                if device != "cpu":
                    getattr(torch, device.partition(":")[0]).synchronize()
                times.append(clock() - start)
            result = output.float().cpu()
            finite = bool(result.isfinite().all())
            error = float((result - expected).std() / expected.std()) if finite else None
            found[name] = {"finite": finite, "error": error, "seconds": min(times)}
        except Exception as error:
            found[name] = {"failed": _first_line(error)}
    torch.set_num_threads(threads)
    return found


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"[:200]


def _work(torch: Any, image: Any, kernel: Any, tokens: Any) -> Any:
    """A convolution, a matrix product and attention: the operations of the networks."""
    with torch.inference_mode():
        features = torch.nn.functional.conv2d(image, kernel, padding=1).flatten()[: tokens.numel()]
        mixed = torch.matmul(features.reshape(tokens.shape) / 17, kernel[:, :, 1, 1])
        return torch.nn.functional.scaled_dot_product_attention(tokens, mixed, mixed)


def _sessions(onnxruntime: Any) -> Answer:
    """Execution providers that a session really uses, tested with one session per listed provider."""
    import numpy as np
    from onnx import parser

    # An opset supported by every onnxruntime that could be installed.
    head = '<ir_version: 8, opset_import: ["": 17]>'
    model = parser.parse_model(f"{head} doctor (float[2] x) => (float[2] y) {{ y = Add(x, x) }}").SerializeToString()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    providers: Answer = {}
    for name in onnxruntime.get_available_providers():
        try:
            session = onnxruntime.InferenceSession(model, options, providers=[name])
            output = session.run(None, {"x": np.ones(2, np.float32)})[0]
            works = name in session.get_providers() and bool((np.asarray(output) == 2).all())
            providers[name] = {"works": works, "session": session.get_providers()}
        except Exception as error:
            providers[name] = {"works": False, "reason": _first_line(error)}
    return {"providers": providers}


def _encoders() -> Answer:
    """Encoders, tested by encoding."""
    import av

    from fashionflow_core import video

    return {"version": av.__version__, "encoders": [asdict(check) for check in video.working_encoders()]}


def _photos() -> Answer:
    """Photo formats that can be written and read back."""
    from PIL import Image, __version__

    formats: Answer = {}
    picture = Image.new("RGB", (64, 48), (200, 60, 30))
    for name in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"):
        try:
            if name == "HEIF":
                import_module("pillow_heif").register_heif_opener()
            stream = io.BytesIO()
            picture.save(stream, name)
            with Image.open(stream, formats=[name]) as image:
                image.load()
                formats[name] = {"works": image.size == picture.size}
        except Exception as error:
            formats[name] = {"works": False, "reason": _first_line(error)}
    return {"version": __version__, "formats": formats}


def _job() -> Answer:
    """The default job in small: the bundled model on the CPU, two frames in one step, an MP4 that is read back."""
    import numpy as np
    from PIL import Image

    import fashionflow_core as ff
    from fashionflow_core import video

    with tempfile.TemporaryDirectory() as folder:
        photo, clip = Path(folder) / "photo.png", Path(folder) / "clip.mp4"
        Image.new("RGB", (200, 300), (180, 90, 120)).save(photo)
        mask = np.zeros((300, 200), np.float32)  # a figure, so that all networks run
        mask[30:270, 70:130] = 1
        ff.load("mini", device="cpu").generate(photo, frames=2, steps=1, matte=mask).save(clip)
        info = video.probe(clip)
        return {"frames": info.frames, "width": info.width, "height": info.height, "bytes": clip.stat().st_size}


def hub_address() -> str:
    """Address of the hub: HF_ENDPOINT, else the public one."""
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def reach() -> Answer:
    """Request headers from the hub, in its own process, since name lookups have no time limit."""
    start = time.monotonic()
    try:
        check_network()
        request = urllib.request.Request(hub_address(), method="HEAD", headers={"User-Agent": "fashionflow-doctor"})
        with urllib.request.urlopen(request, timeout=HUB_LIMIT) as response:
            status = response.status
    except urllib.error.HTTPError as error:
        status = error.code
    except Exception as error:  # addresses, names, certificates, proxies: each raises its own kind
        return {"failed": " ".join(str(getattr(error, "reason", error)).split())[:200]}
    return {"status": status, "answered_in": round(time.monotonic() - start, 3)}


_QUESTIONS: dict[str, Callable[..., Answer]] = {
    "version": _library,
    "torch": _torch,
    "torchvision": lambda: _library(
        "torchvision", lambda _: {"operator": import_module("torchvision.ops").nms.__name__}
    ),
    "onnxruntime": lambda: _library("onnxruntime", _sessions),
    "tensorrt": lambda module: _library(
        module, lambda found: {"builder": found.Builder(found.Logger(found.Logger.ERROR)) is not None}
    ),
    "encoders": _encoders,
    "photos": _photos,
    "job": _job,
    "hub": reach,
}
