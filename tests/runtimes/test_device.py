"""Choice of device and number type, on the machine at hand and on ones that torch is made to report."""

import pytest
import torch

from fashionflow_core.errors import UsageError
from fashionflow_core.utils.device import DTYPES, resolve_device, resolve_dtype

CPU, CUDA, MPS = torch.device("cpu"), torch.device("cuda"), torch.device("mps")


def _machine(monkeypatch: pytest.MonkeyPatch, *, cuda: int = 0, mps: bool = False, bf16: bool = True) -> None:
    """Let torch report a machine with so many GPUs."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: bf16)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


def test_auto_takes_the_best_there_is(monkeypatch: pytest.MonkeyPatch):
    _machine(monkeypatch)
    assert resolve_device() == CPU
    _machine(monkeypatch, mps=True)
    assert resolve_device("auto") == MPS
    _machine(monkeypatch, cuda=1, mps=True)
    assert resolve_device("auto") == CUDA


def test_named_devices(monkeypatch: pytest.MonkeyPatch):
    _machine(monkeypatch, cuda=2, mps=True)
    for name in ("cpu", "cuda", "cuda:0", "cuda:1", "mps"):
        assert resolve_device(name) == torch.device(name)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("gpu", "unknown device"),
        ("", "unknown device"),
        ("cuda:x", "unknown device"),
        ("cuda:-1", "unknown device"),
        ("meta", "unsupported"),
        ("cuda", "no CUDA device"),
        ("cuda:0", "no CUDA device"),
        ("mps", "no MPS"),
    ],
)
def test_a_device_that_is_not_there(monkeypatch: pytest.MonkeyPatch, name: str, says: str):
    _machine(monkeypatch)
    with pytest.raises(UsageError, match=says) as caught:
        resolve_device(name)
    assert caught.value.message.startswith("device") and "\n" not in caught.value.message


def test_a_number_beyond_the_last_gpu(monkeypatch: pytest.MonkeyPatch):
    _machine(monkeypatch, cuda=2)
    with pytest.raises(UsageError, match="only 2 CUDA devices"):
        resolve_device("cuda:2")


def test_auto_dtype(monkeypatch: pytest.MonkeyPatch):
    _machine(monkeypatch, cuda=1, bf16=True)
    assert resolve_dtype("auto", CUDA) == torch.bfloat16
    _machine(monkeypatch, cuda=1, bf16=False)
    assert resolve_dtype("auto", CUDA) == torch.float16
    assert resolve_dtype("auto", CPU) == torch.float32


def test_named_dtypes():
    found = {name: resolve_dtype(name, CPU) for name in DTYPES}
    assert found == {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def test_no_such_dtype():
    with pytest.raises(UsageError, match="unknown dtype 'float32'") as caught:
        resolve_dtype("float32", CPU)
    assert caught.value.hint is not None and "bf16" in caught.value.hint
