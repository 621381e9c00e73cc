"""Runtimes beside onnxruntime's CPU: TensorRT as far as a machine without a GPU can tell, compiled PyTorch, CUDA."""

import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from engine_folders import edit, tiny_engines
from tiny import build_tiny_model

from fashionflow_benchmarks import report, runtimes
from fashionflow_benchmarks.model_under_test import BenchRequest
from fashionflow_core import pipeline
from fashionflow_core import runtimes as backends
from fashionflow_core.config import LoadOptions
from fashionflow_core.errors import FashionFlowError, UsageError
from fashionflow_core.runtimes import tensorrt as tensorrt_runtime
from fashionflow_core.runtimes.engine_networks import EngineNetworks
from fashionflow_core.runtimes.torch import load
from fashionflow_core.store.engine_folder import BUILT_NOT_RUN, VERIFIED, Engines
from fashionflow_core.utils import extras
from fashionflow_export.verify import verify_folder

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_engines(tmp_path_factory, "tiny-fp32", dynamic_frames=(8, 12))


@pytest.fixture
def copy(engines: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(engines, tmp_path / "engines"))


# ---- TensorRT, as far as a machine without a GPU can tell ----------------------------------------------------------


def _as_tensorrt(record: dict[str, Any], **build: Any) -> None:
    record["runtimes"]["tensorrt"] = {"state": BUILT_NOT_RUN, "build": {"flavor": "rtx"} | build}
    for network in record["networks"].values():
        network["files"]["tensorrt"] = network["files"]["onnxruntime"]


def test_engines_of_another_version_are_named(copy: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="needs the extra trt-rtx")
    edit(copy, lambda record: _as_tensorrt(record, version="0.9.1"))
    with pytest.raises(FashionFlowError, match=r"built by TensorRT-RTX 0\.9\.1, but"):
        pipeline.load(copy, device="cpu", backend="tensorrt")
    assert isinstance(backends.load(copy, LoadOptions("cpu")), EngineNetworks)  # what does run here


def test_engines_without_their_runtime(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edit(copy, _as_tensorrt)
    monkeypatch.setattr(tensorrt_runtime, "find_spec", lambda name: None)
    with pytest.raises(FashionFlowError, match="TensorRT-RTX is not installed") as caught:
        pipeline.load(copy, device="cpu", backend="tensorrt")
    assert caught.value.hint == extras.install("trt-rtx")


def test_a_runtime_that_does_not_load(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its libraries are packages of their own: one may be missing, or of another system."""
    edit(copy, _as_tensorrt)
    monkeypatch.setattr(tensorrt_runtime, "find_spec", lambda name: name)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    with pytest.raises(FashionFlowError, match="TensorRT-RTX is installed, but fails to load") as caught:
        pipeline.load(copy, device="cpu", backend="tensorrt")
    assert caught.value.hint == extras.install("trt-rtx", force=True)


@pytest.mark.parametrize("flavor", ["strawberry", ["rtx"], None])
def test_engines_of_an_unknown_flavor(copy: Path, flavor: Any) -> None:
    edit(copy, lambda record: _as_tensorrt(record, flavor=flavor))
    with pytest.raises(FashionFlowError, match="unknown flavor"):
        pipeline.load(copy, device="cpu", backend="tensorrt")


def test_engines_without_a_gpu(copy: Path) -> None:
    rtx = pytest.importorskip("tensorrt_rtx", reason="needs the extra trt-rtx")
    edit(copy, lambda record: _as_tensorrt(record, version=rtx.__version__))
    with pytest.raises(FashionFlowError, match="needs an NVIDIA GPU") as caught:
        pipeline.load(copy, device="cpu", backend="tensorrt")
    assert caught.value.hint == "use backend=onnxruntime or torch"


def test_a_folder_of_onnx_alone_has_no_engines(engines: Path) -> None:
    with pytest.raises(FashionFlowError, match="no engines in the folder"):
        pipeline.load(engines, device="cpu", backend="tensorrt")


def test_runtimes_are_timed_side_by_side(engines: Path) -> None:
    names = ("torch", "onnxruntime", "vae=torch")
    result = runtimes.run(BenchRequest(str(engines), backends=names, device="cpu", repeats=2))
    assert list(result["results"]) == [f"{call}, {name}" for name in names for call in ("denoise", "decode")]
    assert all(len(row["seconds"]) == 2 and row["flop"] > 0 for row in result["results"].values())
    assert 0 < result["difference"]["onnxruntime"]["max_abs"] < 1e-3
    assert result["input"]["sample"] == [1, 9, 12, 16, 12]
    report.check(report.join([result]))
    assert "denoise, onnxruntime" in report.text(result)
    for wrong, message in (
        ({"backends": ("torch", "torch")}, "given twice"),
        ({"frames": 4}, "frames"),
        ({"model": "published"}, "no engines"),
    ):
        with pytest.raises(UsageError, match=message):
            runtimes.run(replace(BenchRequest(str(engines), backends=names, device="cpu"), **wrong))


@pytest.mark.parametrize("name", ["torch", "compiled"])
def test_other_weights_are_not_timed(copy: Path, name: str) -> None:
    edit(copy, lambda record: record.update(lora="/some/lora"))
    with pytest.raises(FashionFlowError, match=f"{name} cannot run here: a LoRA is fused"):
        runtimes.run(BenchRequest(str(copy), backends=(name, "onnxruntime"), device="cpu"))


def _copied_kernels(networks: Any) -> int:
    """How many weights of convolutions are copied in a pass of the U-Net and a decode; told by their last two sides."""
    with torch.profiler.profile(record_shapes=True) as profile:
        networks.denoise(torch.randn(2, 4, 4, 32, 32), torch.tensor([5]), torch.randn(2, 17, 32))
        networks.decode(torch.randn(2, 4, 32, 32))
    events: Any = profile.events()
    copied = [event.input_shapes[0][2:] for event in events if event.name == "aten::copy_"]
    return sum(shape in ([3, 3], [3, 1], [7, 7]) for shape in copied)


def test_no_weight_is_copied_at_each_call(tmp_path: Path) -> None:
    """Of networks in training all are: their weights are in torch's usual order. Both say the same."""
    folder = build_tiny_model(tmp_path / "model", levels=1)
    made, trained = backends.load(folder, LoadOptions("cpu", backend="torch")), load(folder, CPU, torch.float32)
    assert _copied_kernels(made) == 0 < _copied_kernels(trained)
    inputs = torch.randn(1, 4, 4, 16, 12), torch.tensor([5]), torch.randn(1, 17, 32)
    assert (made.denoise(*inputs) - trained.denoise(*inputs)).abs().max() < 1e-5


@pytest.mark.slow
def test_compiled_networks_say_the_same(tmp_path: Path) -> None:
    folder = build_tiny_model(tmp_path / "model", levels=1)
    plain, compiled = (
        backends.load(folder, LoadOptions("cpu", backend="torch", compile=compile)) for compile in (False, True)
    )
    generator = torch.Generator().manual_seed(0)
    inputs = (torch.randn(1, 4, 4, 16, 12, generator=generator), torch.tensor([5]), torch.randn(1, 17, 32))
    assert (plain.denoise(*inputs) - compiled.denoise(*inputs)).abs().max() < 1e-4
    latents = torch.randn(2, 4, 16, 12, generator=generator)
    assert (plain.decode(latents) - compiled.decode(latents)).abs().max() < 1e-4


@pytest.mark.gpu
def test_onnxruntime_on_cuda(engines: Path) -> None:
    networks = backends.load(engines, LoadOptions("cuda", backend="onnxruntime"))
    record = verify_folder(engines, Engines.load(engines), device="cuda").runtimes["onnxruntime"]
    assert record.state == VERIFIED
    runner: Any = networks
    assert runner.runners["unet"].cuda
