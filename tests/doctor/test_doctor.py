"""`fashionflow doctor`: its report against reality, and faults made for real that must cost a line and nothing else."""

import importlib.metadata
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from command import COMMAND, environment, interruptible
from command import run_process as run
from hub_imitation import imitated_hub
from places import ROOT

from fashionflow_core import doctor
from fashionflow_core.doctor.probe import ask

SCHEMA = ROOT / "docs" / "reference" / "schemas" / "doctor.json"
Checks = dict[str, list[dict[str, Any]]]


def _doctor(tmp_path: Path, **env: str) -> tuple[int, dict[str, Any], Checks]:
    """Exit code, report and checks by name of a real run in an empty home."""
    settings = {"FASHIONFLOW_HOME": str(tmp_path / "home"), "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1"}
    result = run("doctor", "--json", cwd=tmp_path, env=settings | env)
    assert result.stderr == ""
    report = json.loads(result.stdout)
    jsonschema.validate(report, json.loads(SCHEMA.read_text(encoding="utf-8")))
    checks: Checks = defaultdict(list)
    for check in report["checks"]:
        checks[check["name"]].append(check)
    return result.returncode, report, checks


# ---- reality -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_every_line_is_what_this_machine_is(tmp_path: Path):
    import torch

    from fashionflow_core import video
    from fashionflow_core.store import registry

    code, report, checks = _doctor(tmp_path)
    assert code == 0 and report["can_run"] and report["schema"] == doctor.SCHEMA
    assert sum(report["counts"].values()) == len(report["checks"])
    # A problem without a remedy helps nobody.
    assert not [c for c in report["checks"] if c["level"] == "problem" and not c["fix"]]

    version = ".".join(map(str, sys.version_info[:3]))
    assert checks["python"][0]["details"]["version"] == version and version in checks["python"][0]["summary"]
    packages = checks["packages"][0]["details"]
    for name in ("fashionflow", "torch", "diffusers", "transformers", "av"):
        assert packages[name] == importlib.metadata.version(name)
    if hasattr(os, "sched_getaffinity"):
        assert checks["processors"][0]["details"]["affinity"] == len(os.sched_getaffinity(0))
    if Path("/proc/meminfo").exists():
        total = int(Path("/proc/meminfo").read_text().split()[1]) * 1024
        assert checks["memory"][0]["details"]["total_bytes"] <= total
    for line in checks["disk"]:
        for place in line["details"].values() if line["level"] == "ok" else ():
            beside = next(p for p in (Path(place["path"]), *Path(place["path"]).parents) if p.is_dir())
            assert place["free_bytes"] == pytest.approx(shutil.disk_usage(beside).free, rel=0.1)
    bundled = next(check for check in checks["models"] if check["summary"].startswith("mini-latent"))
    mini = registry.find("mini-latent")
    size = sum(path.stat().st_size for path in mini.rglob("*") if path.is_file())
    assert bundled["details"] == {"name": "mini-latent", "path": str(mini), "size_bytes": size, "damage": []}

    details = checks["torch"][0]["details"]
    assert (details["version"], details["cuda"]) == (torch.__version__, torch.version.cuda)
    assert len([c for c in checks["gpu"] if "name" in c["details"]]) == (
        torch.cuda.device_count() if torch.cuda.is_available() else 0
    )
    types = checks["dtypes"][0]["details"]
    assert types["device"] == "cpu" and set(types["types"]) == {"fp32", "bf16", "fp16"}
    assert all(found["finite"] and found["error"] < 0.1 for found in types["types"].values())
    reported = {encoder["encoder"]: encoder["works"] for encoder in checks["encoders"][0]["details"]["encoders"]}
    assert reported == {check.encoder: check.works for check in video.working_encoders()} and reported["libx264"]
    for name in ("onnxruntime", "tensorrt", "tensorrt_rtx", "polygraphy", "torchvision"):
        found = checks[name][0]["details"].get("installed", True)
        assert found == (find_spec(name) is not None), name
    job = checks["default job"][0]
    assert job["level"] == "ok" and job["details"]["frames"] == 2 and job["details"]["bytes"] > 0
    assert not list(tmp_path.iterdir())  # it looks, and leaves nothing behind


def test_lines_for_people(tmp_path: Path):
    env = {"FASHIONFLOW_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "FASHIONFLOW_DEVCE": "cpu"}
    result = run("doctor", cwd=tmp_path, env=env)
    lines = result.stdout.splitlines()
    assert (result.returncode, result.stderr) == (0, "")
    assert lines[0].startswith("ok       python") and lines[-1].startswith(
        "the default job can run; problems: 0, notes: "
    )
    remedies = [line for line in lines if line.startswith("  ")]
    assert all(line.split()[0] == "->" for line in remedies)
    assert any("FASHIONFLOW_DEVCE (did you mean FASHIONFLOW_DEVICE?)" in line for line in lines)


@pytest.mark.slow
def test_no_secret_is_shown(tmp_path: Path):
    secrets = {"HF_TOKEN": "hf_topsecret", "FASHIONFLOW_PASSWRD": "hunter2", "HF_HUB_OFFLINE": "0"}
    with imitated_hub() as hub:
        address = hub.url.replace("//", "//me:hunter2@")
        code, report, checks = _doctor(tmp_path, **secrets, HF_ENDPOINT=address)
        assert code == 0 and checks["hub"][0]["details"]["endpoint"] == hub.url
        assert all(request.authorization != "Bearer hf_topsecret" for request in hub.requests)
    text = json.dumps(report)
    assert "hunter2" not in text and "hf_topsecret" not in text and "FASHIONFLOW_PASSWRD" in text


def test_leaving_early_leaves_no_process(tmp_path: Path):
    marker = f"FASHIONFLOW_HOME={tmp_path}"
    with interruptible():
        process = subprocess.Popen(
            [*COMMAND, "doctor"],
            cwd=tmp_path,
            env=environment({"FASHIONFLOW_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "TMPDIR": str(tmp_path)}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    assert process.stdout is not None
    process.stdout.readline()  # the libraries are being asked by now
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    process.communicate()
    assert not list(tmp_path.iterdir())
    if Path("/proc/self/environ").exists():
        time.sleep(0.2)
        assert not [pid for pid in Path("/proc").glob("[0-9]*") if marker in _environ(pid)]


def _environ(process: Path) -> str:
    try:
        return (process / "environ").read_text(errors="replace")
    except OSError:
        return ""


def test_a_reader_that_leaves(tmp_path: Path):
    process = subprocess.Popen(
        [*COMMAND, "doctor"],
        cwd=tmp_path,
        env=environment({"HF_HUB_OFFLINE": "1"}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    process.stdout.close()  # as `| head -1` does
    assert process.wait(20) == 1 and process.stderr.read() == b""
    process.stderr.close()


# ---- libraries that misbehave --------------------------------------------------------------------------------------


def _module(folder: Path, name: str, code: str) -> None:
    path = folder / name / "__init__.py"
    path.parent.mkdir(parents=True)
    path.write_text(code)


def _distribution(folder: Path, name: str, version: str) -> None:
    path = folder / f"{name.replace('-', '_')}-{version}.dist-info" / "METADATA"
    path.parent.mkdir(parents=True)
    path.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


@pytest.mark.slow
def test_libraries_that_crash_cost_one_line(tmp_path: Path):
    fakes = tmp_path / "fakes"
    _module(fakes, "onnxruntime", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    _module(fakes, "tensorrt", "import sys; print('Welcome!'); sys.exit(0)")
    _module(fakes, "tensorrt_rtx", "__version__ = '1'")  # a name without what should be in it
    _module(fakes, "polygraphy", "__version__ = '0.53'; print('{}', flush=True)")
    _distribution(fakes, "onnxruntime", "1.31.0")
    _distribution(fakes, "onnxruntime-gpu", "1.31.0")
    _distribution(fakes, "diffusers", "0.30.0")
    (fakes / "bin").mkdir()
    tool = fakes / "bin" / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'NVIDIA L4, 23034, 8.9, 550.54'\n")
    tool.chmod(0o755)
    env = {"PYTHONPATH": str(fakes), "PATH": f"{tool.parent}{os.pathsep}{os.environ['PATH']}"}
    code, report, checks = _doctor(tmp_path, **env)

    both, crashed = checks["onnxruntime"]
    assert "both onnxruntime 1.31.0 and onnxruntime-gpu 1.31.0" in both["summary"]
    assert both["fix"].startswith("pip uninstall -y onnxruntime onnxruntime-gpu && pip install")
    assert "ended by SIGSEGV" in crashed["summary"] and crashed["level"] == "problem"
    assert "SystemExit" in checks["tensorrt"][0]["summary"]
    assert "Logger" in checks["tensorrt_rtx"][0]["summary"] or "Builder" in checks["tensorrt_rtx"][0]["summary"]
    assert checks["polygraphy"][0]["level"] == "ok"
    packages = checks["packages"][0]
    assert packages["level"] == "problem" and "diffusers 0.30.0" in packages["summary"]
    assert packages["fix"].startswith("pip install 'diffusers") and "0.42" in packages["fix"]
    gpu = checks["gpu"][0]
    if checks["torch"][0]["details"]["cuda"] is None:
        assert gpu["level"] == "problem" and "NVIDIA L4" in gpu["summary"] and "CPU build" in gpu["summary"]
        assert "pip install" in gpu["fix"] and "torch" in gpu["fix"]
    # Everything else was still looked at, and the default job needs none of these.
    assert checks["dtypes"] and checks["encoders"][0]["level"] == "ok"
    assert (code, report["can_run"]) == (0, True), checks["default job"]


@pytest.mark.slow
def test_a_torchvision_of_another_torch(tmp_path: Path):
    code = "raise RuntimeError('operator torchvision::nms does not exist')"
    _module(tmp_path / "fakes", "torchvision", code)
    exit_code, report, checks = _doctor(tmp_path, PYTHONPATH=str(tmp_path / "fakes"))
    vision, job = checks["torchvision"][0], checks["default job"][0]
    assert vision["level"] == "problem" and "nms does not exist" in vision["summary"]
    assert vision["fix"] == "pip uninstall -y torchvision"
    # diffusers imports it wherever it sees it, so this one really stops the job; and the job's line says why.
    assert (exit_code, report["can_run"]) == (1, False) and "nms does not exist" in job["summary"]


def test_without_torch_the_job_cannot_run(tmp_path: Path):
    _module(tmp_path / "fakes", "torch", "raise ImportError('libtorch_cpu.so: cannot open shared object file')")
    code, report, checks = _doctor(tmp_path, PYTHONPATH=str(tmp_path / "fakes"))
    assert (code, report["can_run"]) == (1, False)
    assert "libtorch_cpu.so" in checks["torch"][0]["summary"] and checks["torch"][0]["fix"].startswith("pip install")
    assert "libtorch_cpu.so" in checks["default job"][0]["summary"]
    assert checks["encoders"][0]["level"] == "ok"


def test_a_question_ends_in_every_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(tmp_path)
    _module(tmp_path, "hangs", f"import subprocess; subprocess.run('sleep 60; touch {tmp_path}/slept', shell=True)")
    _module(tmp_path, "killed", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    _module(tmp_path, "vanishes", "import os; os._exit(3)")
    _module(tmp_path, "talks", "import os; __version__ = '2'; os.write(1, b'x' * 3_000_000); print('bye')")
    _module(tmp_path, "raises", "raise BaseException('first line\\nsecond line')")
    _module(tmp_path, "dies_late", "import atexit, os; __version__ = '3'; atexit.register(os.abort)")
    assert ask("version:hangs", 1.0) == {"failed": "timed out after 1 s"}
    assert not (tmp_path / "slept").exists()
    assert "SIGKILL" in ask("version:killed", 20)["failed"]
    assert "code 3" in ask("version:vanishes", 20)["failed"]
    assert ask("version:talks", 20)["version"] == "2"
    assert ask("version:raises", 20)["failed"] == "BaseException: first line second line"
    assert ask("version:dies_late", 20)["version"] == "3"
    assert ask("version:absent_module", 20)["installed"] is False


@pytest.mark.slow
def test_the_current_folder_is_not_searched(tmp_path: Path):
    (tmp_path / "torch.py").write_text("raise ImportError('not this one')")
    (tmp_path / "json.py").write_text("raise ImportError('nor this one')")
    script = Path(sys.executable).with_name("fashionflow")
    if not script.exists():
        pytest.skip("fashionflow is not installed as a command here")
    done = subprocess.run(
        [script, "doctor"],
        cwd=tmp_path,
        env=environment({"HF_HUB_OFFLINE": "1"}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and "not this one" not in done.stdout, done.stdout + done.stderr
