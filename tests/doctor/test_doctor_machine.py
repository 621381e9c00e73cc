"""`fashionflow doctor` on machines unlike this one: full disks, small containers, damaged models, a hub in trouble."""

import json
import os
import shutil
import socket
import threading
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hub_imitation import imitated_hub
from tiny import build_tiny_model

from fashionflow_core import doctor
from fashionflow_core.doctor import findings, probe
from fashionflow_core.utils import extras


def test_disks_that_are_nearly_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    class Usage(NamedTuple):
        total: int
        used: int
        free: int

    monkeypatch.setenv("FASHIONFLOW_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for free, level in ((10**7, "problem"), (10**9, "note"), (10**10, "ok")):
        monkeypatch.setattr(shutil, "disk_usage", lambda path, free=free: Usage(10**12, 0, free))
        checks = list(findings.disks())
        assert {check.level for check in checks} == {level} | ({"ok"} if level == "note" else set())
        assert not any(check.blocks for check in checks)
        assert level == "ok" or any("FASHIONFLOW_HOME" in str(check.fix) for check in checks)


def test_limits_of_a_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    (tmp_path / "memory.max").write_text(f"{10**9}\n")
    (tmp_path / "memory.current").write_text(f"{3 * 10**8}\n")
    monkeypatch.setattr(findings, "_cgroup_folders", lambda: iter([tmp_path]))
    processors, memory = findings.processors(), findings.memory()
    assert processors.details["usable"] == 0.5 and "cgroup quota 0.5" in processors.summary
    assert (memory.details["total_bytes"], memory.details["available_bytes"]) == (10**9, 7 * 10**8)
    assert memory.level == "problem" and "container" in str(memory.fix)
    (tmp_path / "cpu.max").write_text("max 100000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert findings.processors().details["cgroup_quota"] is None
    assert findings.memory().details["cgroup_limit_bytes"] is None


def test_damaged_models_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    home = tmp_path / "models"
    monkeypatch.setenv("FASHIONFLOW_HOME", str(tmp_path))
    whole, torn = build_tiny_model(home / "whole"), build_tiny_model(home / "torn")
    weights = torn / "vae" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    (torn / "adapter" / "config.json").unlink()
    (home / ".whole.x3" / "made").mkdir(parents=True)
    checks = {check.summary.split(":")[0]: check for check in findings.models()}
    assert checks["whole"].level == "ok" and checks["whole"].details["path"] == str(whole)
    assert checks["torn"].level == "problem" and not checks["torn"].blocks
    assert "diffusion_pytorch_model.safetensors" in checks["torn"].summary
    assert "adapter/config.json is missing" in checks["torn"].summary
    assert "fashionflow models remove torn" in str(checks["torn"].fix)
    assert any(str(home / ".whole.x3") in str(check.fix) for check in checks.values())
    shutil.copytree(whole, tmp_path / "mini-latent")
    shutil.rmtree(tmp_path / "mini-latent" / "unet")
    known = findings.registry.KnownModel("", "", bundled=tmp_path / "mini-latent")
    monkeypatch.setitem(findings.registry.KNOWN, "mini-latent", known)
    assert not doctor.can_run(findings.models())  # the bundled one is the default job's


def test_a_pulled_model_is_checked_against_its_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FASHIONFLOW_HOME", str(tmp_path))
    folder = build_tiny_model(tmp_path / "models" / "tiny")
    files = {"model.json": {"size": 1}, "unet/config.json": {"size": 2}, "gone.json": {"size": 3}}
    (folder / "source.json").write_text(json.dumps({"repo": "a/b", "commit": "c", "files": files}))
    damage = next(c.details["damage"] for c in findings.models() if c.summary.startswith("tiny"))
    assert len(damage) == 3 and "gone.json is missing" in damage


def test_encoders_without_x264():
    answer = {"encoders": [{"codec": "h264", "encoder": "libx264", "works": False, "reason": "unknown encoder"}]}
    check = findings.encoders(answer)
    assert check.level == "problem" and check.blocks and "libx264" in check.summary and "unknown" in check.summary
    assert "av" in str(check.fix)


def test_number_types_that_fail_or_crawl():
    def types(**changes: dict[str, Any]) -> dict[str, Any]:
        good = {"finite": True, "error": 0.0, "seconds": 0.01}
        return {"fp32": good, "bf16": good, "fp16": good} | changes

    gpu = {"version": "2.13", "cuda": "13.0", "hip": None, "cuda_error": None, "threads": 4, "mps": False, "gpus": []}

    def dtypes(device: str, **changes: dict[str, Any]) -> doctor.Check:
        return list(findings.torch(gpu | {"dtypes": {device: types(**changes)}}, findings.Driver([])))[-1]

    assert dtypes("cpu").level == "ok"
    crawling = dtypes("cpu", fp16={"finite": True, "error": 0.0, "seconds": 0.5})
    assert crawling.level == "note" and "50 times slower" in crawling.summary and "fp32 or bf16" in str(crawling.fix)
    missing = dtypes("cuda:0", bf16={"failed": "RuntimeError: not implemented"})
    assert missing.level == "note" and "bf16 fails" in missing.summary
    wrong = dtypes("cpu", fp32={"finite": True, "error": 0.5, "seconds": 0.01})
    assert wrong.level == "problem" and wrong.blocks


def test_a_driver_and_a_torch_that_do_not_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    tool = tmp_path / "nvidia-smi"
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    answer: dict[str, Any] = {"version": "2.13", "hip": None, "threads": 4, "mps": False, "gpus": [], "dtypes": {}}
    cpu, cuda = answer | {"cuda": None, "cuda_error": None}, answer | {"cuda": "13.0", "cuda_error": "driver too old"}
    seen = {"name": "NVIDIA L4", "memory_bytes": 23034 * 2**20, "compute_capability": "8.9"}

    def gpu(found: dict[str, Any], script: str) -> doctor.Check:
        tool.write_text(f"#!/bin/sh\n{script}\n")
        tool.chmod(0o755)
        return next(c for c in findings.torch(found, findings.nvidia_smi()) if c.name == "gpu")

    lists = "echo 'NVIDIA L4, 23034, 8.9, 550.54'"
    unused = gpu(cpu, lists)
    assert unused.level == "problem" and "CPU build" in unused.summary and "driver 550.54" in unused.summary
    assert "pip install" in str(unused.fix) and not unused.blocks
    old = gpu(cuda, lists)
    assert old.level == "problem" and "driver too old" in old.summary and "update the NVIDIA driver" in str(old.fix)
    used = gpu(cuda | {"gpus": [seen]}, lists)
    assert used.level == "ok" and used.summary == ("cuda:0 NVIDIA L4, 22 GiB, compute capability 8.9, driver 550.54")
    failing = gpu(cpu, "echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18")
    assert failing.level == "note" and "version mismatch" in failing.summary and failing.fix
    assert gpu(cpu, "true").summary == "none (not needed)"


# ---- the hub -------------------------------------------------------------------------------------------------------


def test_the_hub_in_every_mood(monkeypatch: pytest.MonkeyPatch):
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)

    def seen(address: str) -> doctor.Check:
        monkeypatch.setenv("HF_ENDPOINT", address)
        return findings.hub(probe.reach())

    with imitated_hub() as hub:
        assert seen(hub.url).level == "ok" and seen(hub.url + "/nowhere").level == "ok"
        hub.failing = 1
        assert "returned 503" in seen(hub.url).summary
        monkeypatch.setattr(probe, "HUB_LIMIT", 0.3)
        hub.hang.set()
        assert "timed out" in seen(hub.url).summary
        hub.hang.clear()
    assert "refused" in seen(hub.url).summary
    for address in ("nonsense", "ftp://a", "http://"):
        assert "not an address" in seen(address).summary
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up() -> None:
            server.accept()[0].close()

        threading.Thread(target=hang_up, daemon=True).start()
        dropped = seen(f"http://127.0.0.1:{server.getsockname()[1]}")
        assert dropped.level == "note" and "cannot be reached" in dropped.summary and dropped.fix
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert findings.offline() == "HF_HUB_OFFLINE"
    check = findings.hub(None)
    assert check.level == "ok" and "HF_HUB_OFFLINE is set" in check.summary


def test_recommended_commands_are_ones_that_succeed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No index has this package, `models pull published` needs a checkpoint, and an interpreter must be there."""
    monkeypatch.setattr(findings.shutil, "which", lambda name: "/opt/py thon" if name == "python3.11" else None)
    monkeypatch.setattr(findings.sys, "version_info", (3, 9, 0))
    assert findings.python().fix == "'/opt/py thon' -m venv .venv"
    monkeypatch.setattr(findings.shutil, "which", lambda name: None)
    assert findings.python().fix == "install Python 3.12"
    monkeypatch.setenv("FASHIONFLOW_HOME", str(tmp_path))
    checks = {check.summary.partition(":")[0]: check for check in findings.models()}
    assert "--checkpoint" in str(checks["published"].fix) or "checkpoint=" in str(checks["published"].fix)
    again = extras.reinstall()
    assert not again.endswith(" fashionflow") and (
        "git -C '" in again or "--no-deps" in again or again.startswith("install fashionflow again")
    )
