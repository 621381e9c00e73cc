"""What is asked inside a process that may crash: each function imports one library and makes it work for real.

Module names are passed as variables where the house must not import the module: asking for it is the point.
"""

import io
import json
import os
import tempfile
import time
import warnings
from dataclasses import asdict
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fashionflow_core.device import DTYPES
from fashionflow_core.doctor.network import reach
from fashionflow_core.errors import FashionFlowError

_REPEATS = 5


def main(question: str) -> None:
    """Answer on stdout with one line of JSON; whatever libraries print goes to stderr."""
    answer_to = os.dup(1)
    os.dup2(2, 1)
    name, _, argument = question.partition(":")
    try:
        with warnings.catch_warnings(action="ignore"):
            answer = _QUESTIONS[name](*([argument] if argument else []))
    except BaseException as error:  # SystemExit of a module that thinks it is a script, too
        answer = {"failed": _words(error)}
    with os.fdopen(answer_to, "w") as out:
        out.write("\n" + json.dumps(answer) + "\n")
        out.flush()
    os._exit(0)  # some libraries crash while they are unloaded, after all went well


def _words(error: BaseException) -> str:
    """An exception as one line: the first of those that caused it, since libraries wrap them until nothing is told."""
    while error.__cause__ is not None and not isinstance(error, FashionFlowError):
        error = error.__cause__
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]


def version(module: str) -> dict[str, Any]:
    """Whether a module can be imported, and its version."""
    if find_spec(module) is None:
        return {"installed": False}
    found = import_module(module)
    return {"installed": True, "version": str(getattr(found, "__version__", "unknown"))}


def torch_() -> dict[str, Any]:
    """The build of torch, its devices, and which number types they compute with."""
    import torch

    cuda = torch.cuda.is_available()
    devices = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count() if cuda else 0))]
    devices += ["mps"] if torch.backends.mps.is_available() else []
    gpus = []
    for index in range(torch.cuda.device_count() if cuda else 0):
        properties = torch.cuda.get_device_properties(index)
        gpus.append(
            {
                "name": properties.name,
                "memory_bytes": properties.total_memory,
                "compute_capability": f"{properties.major}.{properties.minor}",
            }
        )
    return {
        "version": torch.__version__,
        "cuda": torch.version.cuda,
        "hip": getattr(torch.version, "hip", None),
        "cuda_available": cuda,
        "cuda_error": None if cuda or torch.version.cuda is None else _cuda_error(torch),
        "architectures": torch.cuda.get_arch_list() if cuda else [],
        "cudnn": torch.backends.cudnn.version() if cuda else None,
        "gpus": gpus,
        "mps": torch.backends.mps.is_available(),
        "threads": torch.get_num_threads(),
        "dtypes": {device: _dtypes(torch, device) for device in devices},
    }


def _cuda_error(torch: Any) -> str:
    try:
        torch.cuda.init()
    except Exception as error:
        return str(error).splitlines()[0][:300]
    return "no device"


def _dtypes(torch: Any, device: str) -> dict[str, Any]:
    """Each number type on a device: does it give what float32 on the CPU gives, and how long does it take.

    The CPU is timed on one thread, by what that thread spends: beside other work the clock says nothing, and threads
    that wait for each other made a type look fifty times slower than it is.
    """
    clock = time.thread_time if device == "cpu" else time.perf_counter
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    shapes = {"image": (4, 32, 40, 32), "kernel": (32, 32, 3, 3), "tokens": (1, 4, 320, 32)}
    inputs = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    expected = _work(torch, inputs)
    found = {}
    for name, kind in DTYPES.items():
        try:
            moved = {key: value.to(device, getattr(torch, kind)) for key, value in inputs.items()}
            output = _work(torch, moved)
            times = []
            for _ in range(_REPEATS):
                start = clock()
                _work(torch, moved)
                if device != "cpu":
                    getattr(torch, device.partition(":")[0]).synchronize()
                times.append(clock() - start)
            result = output.float().cpu()
            finite = bool(result.isfinite().all())
            error = float((result - expected).std() / expected.std()) if finite else None
            found[name] = {"finite": finite, "error": error, "seconds": min(times)}
        except Exception as error:
            lines = str(error).strip().splitlines()
            found[name] = {"failed": f"{type(error).__name__}: {lines[0] if lines else ''}"[:200]}
    torch.set_num_threads(threads)
    return found


def _work(torch: Any, inputs: dict[str, Any]) -> Any:
    """A convolution, a matrix product and attention: what the networks are made of."""
    tokens, kernel = inputs["tokens"], inputs["kernel"]
    with torch.inference_mode():
        features = torch.nn.functional.conv2d(inputs["image"], kernel, padding=1).flatten()[: tokens.numel()]
        mixed = torch.matmul(features.reshape(tokens.shape) / 17, kernel[:, :, 1, 1])
        return torch.nn.functional.scaled_dot_product_attention(tokens, mixed, mixed)


def torchvision_() -> dict[str, Any]:
    """Whether torchvision is there, and if so, whether its operators fit this torch."""
    module = "torchvision"
    if find_spec(module) is None:
        return {"installed": False}
    found = import_module(module)
    operator = import_module(f"{module}.ops").nms.__name__
    return {"installed": True, "version": str(getattr(found, "__version__", "unknown")), "operator": operator}


def onnxruntime_() -> dict[str, Any]:
    """The providers that a session really gets, one session for each that the build lists."""
    import onnx
    from onnx import TensorProto, helper

    if find_spec("onnxruntime") is None:
        return {"installed": False}
    import numpy as np

    onnxruntime = import_module("onnxruntime")
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "doctor", value[:1], value[1:])
    # Old enough for every runtime that could be installed.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    providers: dict[str, Any] = {}
    for name in onnxruntime.get_available_providers():
        try:
            session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=[name])
            output = session.run(None, {"x": np.ones(2, np.float32)})[0]
            works = name in session.get_providers() and bool((np.asarray(output) == 2).all())
            providers[name] = {"works": works, "session": session.get_providers()}
        except Exception as error:
            providers[name] = {"works": False, "reason": str(error).strip().splitlines()[0][:200]}
    return {"installed": True, "version": onnxruntime.__version__, "providers": providers}


def tensorrt_(module: str) -> dict[str, Any]:
    """Whether a TensorRT flavor is there and makes a builder."""
    if find_spec(module) is None:
        return {"installed": False}
    found = import_module(module)
    builder = found.Builder(found.Logger(found.Logger.ERROR))
    return {"installed": True, "version": found.__version__, "builder": builder is not None}


def encoders() -> dict[str, Any]:
    """The encoders that really encode."""
    import av

    from fashionflow_core import video

    found = [asdict(check) for check in video.working_encoders()]
    return {"version": av.__version__, "encoders": found}


def photos() -> dict[str, Any]:
    """The photo formats that can be written and read back."""
    from PIL import Image, __version__

    formats = {}
    picture = Image.new("RGB", (64, 48), (200, 60, 30))
    for name in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"):
        try:
            if name == "HEIF":
                import_module("pillow_heif").register_heif_opener()
            stream = io.BytesIO()
            picture.save(stream, name)
            stream.seek(0)
            with Image.open(stream, formats=[name]) as image:
                image.load()
                works = image.size == picture.size
            formats[name] = {"works": works}
        except Exception as error:
            formats[name] = {"works": False, "reason": f"{type(error).__name__}: {error}"[:200]}
    return {"version": __version__, "formats": formats}


def job() -> dict[str, Any]:
    """The default job in small: the bundled model on the CPU, two frames in one step, an MP4 that reads back."""
    from PIL import Image

    import fashionflow_core as ff
    from fashionflow_core import video

    with tempfile.TemporaryDirectory() as folder:
        photo, clip = Path(folder) / "photo.png", Path(folder) / "clip.mp4"
        Image.new("RGB", (200, 300), (180, 90, 120)).save(photo)
        ff.load("mini", device="cpu").generate(photo, frames=2, steps=1).save(clip)
        info = video.probe(clip)
        return {"frames": info.frames, "width": info.width, "height": info.height, "bytes": clip.stat().st_size}


_QUESTIONS = {
    "version": version,
    "torch": torch_,
    "torchvision": torchvision_,
    "onnxruntime": onnxruntime_,
    "tensorrt": tensorrt_,
    "encoders": encoders,
    "photos": photos,
    "job": job,
    "hub": reach,
}
