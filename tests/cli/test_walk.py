"""The README as written: every block, in order; and a video of the published model, trained on and interpolated."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from command import run_process as run
from PIL import Image
from places import ROOT
from safetensors.torch import load_file
from tiny import build_tiny_model

from fashionflow_core import video
from fashionflow_core.dataset.cache import LatentCache
from fashionflow_core.store import registry


def _blocks() -> list[tuple[str, str]]:
    """The README's blocks of code in order: language and text."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def _script() -> str:
    """The blocks after `make`, as one shell script that stops at the first command that fails."""
    lines = ["set -euo pipefail"]
    for language, code in _blocks():
        if language == "python":
            lines.append(f"python - <<'END'\n{code}END")
        elif language == "" and not code.startswith("make "):
            lines.append(code)
    return "\n".join(lines)


def _checkout(folder: Path) -> Path:
    """A folder with what the README expects beside itself: `examples/`, and an environment that can be activated."""
    programs = folder / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name, command in (("fashionflow", f"{sys.executable} -m fashionflow_cli"), ("python", sys.executable)):
        (programs / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        (programs / name).chmod(0o755)
    (programs / "activate").write_text(f'PATH="{programs}:$PATH"\n')
    (folder / "examples").mkdir()
    with Image.open(ROOT / "examples" / "dress.jpg") as photo:  # videos of mini have its size: smaller ones are faster
        photo.reduce(3).save(folder / "examples" / "dress.jpg", quality=95)
    return folder


def test_the_readme_is_short_and_its_make_targets_exist() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150
    ((_, block),) = [found for found in _blocks() if found[1].startswith("make ")]
    targets = re.findall(r"^make (\S+)", block, re.MULTILINE)
    assert targets == ["demo", "test"]
    known = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(targets) <= set(known)


@pytest.mark.slow
def test_the_blocks_of_the_readme_work_as_written_one_after_the_other(tmp_path: Path):
    checkout = _checkout(tmp_path / "checkout")
    env = os.environ | {
        "FASHIONFLOW_HOME": str(tmp_path / "home"),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "benchmarks", ROOT / "export"))),
    }
    result = subprocess.run(
        ["bash", "-c", _script()], cwd=checkout, env=env, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr[-3000:]
    tour = checkout / "tour"
    made = {path.name for path in tour.glob("*.*")}
    assert {"dress.mp4", "loop.webm", "loop-poster.png", "piped.mp4", "python.mp4", "onnx.mp4", "trained.mp4"} <= made
    assert (tour / "videos" / "linen-dress.mp4").is_file() and (tour / "videos" / "index.html").is_file()
    for name in ("dress.mp4", "trained.mp4"):
        frames = video.read(tour / name).astype(int)
        assert 0.2 < np.abs(np.diff(frames, axis=0)).mean() < 20  # it moves, and is not noise
    learnt, before = (
        load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")
        for folder in (tour / "runs" / "first" / "model", registry.find("mini-latent"))
    )
    assert not all(torch.equal(learnt[name].to(weight.dtype), weight) for name, weight in before.items())


@pytest.mark.slow
def test_a_video_of_the_published_model_is_prepared_trained_on_and_interpolated(tmp_path: Path, golden: Path):
    """512x640, 70 frames: what users of the published model have."""
    source = golden / "green01.mp4"
    info = video.probe(source)
    assert (info.frames, info.height, info.width) == (70, 640, 512)
    masks = {"known_content": "rgb", "modes": ("generate", "interpolate")}
    tiny = build_tiny_model(tmp_path / "tiny", height=80, width=64, frames=8, **masks)
    result = run("data", "prepare", source, "-o", "cache", "--model", tiny, "--frames", "8", "--json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert len(LatentCache(tmp_path / "cache")) >= 1
    settings = ("data=cache", "max_steps=2", "mask_generate=0.5", "mask_interpolate=0.5", "tensorboard=false")
    options = [part for setting in settings for part in ("--set", setting)]
    trained = run("train", "--init-from", tiny, *options, "-o", "run", cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    made = run("interpolate", source, "-m", "run/model", "--json", "-o", "out.mp4", "--steps", "1", cwd=tmp_path)
    report = json.loads(made.stdout)
    assert (report["given"], report["frames"], report["height"], report["width"]) == (70, 139, 80, 64)
    assert report["fps"] == pytest.approx(2 * info.fps)
