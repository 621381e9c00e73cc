"""From videos to a trained model and back: the README's walk as written, and a video of the published model."""

import json
import os
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from command import run_process as run
from safetensors.torch import load_file
from tiny import build_tiny_model

from fashionflow_core import video
from fashionflow_core.dataset.cache import LatentCache
from fashionflow_core.store import registry

ROOT = Path(__file__).parents[1]


def _walk() -> list[list[str]]:
    """The commands of the README's block that trains a model."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = [code for _, code in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)]
    (block,) = [block for block in blocks if "fashionflow train" in block and "data synth" in block]
    return [shlex.split(line) for line in block.splitlines()]


@pytest.mark.slow
def test_the_walk_of_the_readme_works_as_written(tmp_path: Path):
    shutil.copy(ROOT / "examples" / "dress.jpg", tmp_path)
    commands = _walk()
    assert [command[1] for command in commands] == ["data", "data", "train", "generate"]
    for program, *arguments in commands:
        assert program == "fashionflow"
        result = run(*arguments, cwd=tmp_path, timeout=3600, env={"OMP_NUM_THREADS": str(os.cpu_count())})
        assert result.returncode == 0, (arguments, result.stderr)
    made = tmp_path / commands[-1][-1]
    info = video.probe(made)
    assert (info.frames, info.height, info.width) == (70, 320, 256)
    frames = video.read(made).astype(int)
    assert 0.2 < np.abs(np.diff(frames, axis=0)).mean() < 20  # it moves, and is not noise
    trained = tmp_path / commands[-1][commands[-1].index("--model") + 1]
    learnt, before = (
        load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")
        for folder in (trained, registry.find("mini-latent"))
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
