"""Export a model's U-Net to ONNX and TensorRT-RTX in float32 and float16, and record time, memory and errors.

    python scripts/export_full_width.py MODEL -o benchmarks/results/export-full-width.json

Each export runs in its own process, to measure its peak memory.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from fashionflow_benchmarks import timing
from fashionflow_core.store.engine_folder import Engines
from fashionflow_core.utils.files import write_text


def export(model: Path, folder: Path, dtype: str) -> dict[str, Any]:
    """One export of the U-Net, and its measurements."""
    command = [sys.executable, "-m", "fashionflow_cli.main", "export", "--onnx", "--trt", "--trt-flavor", "rtx"]
    command += ["--networks", "unet", "--model", str(model), "--dtype", dtype, "-o", str(folder)]
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if code := os.waitstatus_to_exitcode(status):
        raise SystemExit(code)
    record = Engines.load(folder)
    unet, built = record.networks["unet"], record.runtimes["tensorrt"].build
    return {
        "dtype": unet.dtype,
        "seconds": round(time.perf_counter() - start, 1),
        "peak_memory_bytes": usage.ru_maxrss * 1024,
        "input": unet.inputs,
        "onnx_bytes": record.files["unet/model.onnx"].size,
        "engine_bytes": record.files["unet/model.engine"].size,
        "states": {name: runtime.state for name, runtime in record.runtimes.items()},
        "parity": record.runtimes["onnxruntime"].parity,
        "builder": f"TensorRT-RTX {built['version']}",
        **{name: value for name, value in built["engines"]["unet"].items() if name != "key"},
    }


def main() -> None:
    """Parse, export twice, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path, help="model folder with PyTorch weights")
    parser.add_argument("-o", "--out", type=Path, required=True, help="JSON file")
    parser.add_argument("--dtypes", default="fp32,fp16")
    arguments = parser.parse_args()
    import torch

    with tempfile.TemporaryDirectory() as scratch:
        results = {
            dtype: export(arguments.model, Path(scratch) / dtype, dtype) for dtype in arguments.dtypes.split(",")
        }
    hardware = timing.hardware(torch.device("cpu"), "float32")
    figures = {"suite": "export", "results": results, "hardware": hardware}
    write_text(arguments.out, json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
