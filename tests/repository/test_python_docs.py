"""docs/guides/python.md is true: each of its examples runs, in their order, and what the text says about them holds."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from places import ROOT
from tiny import build_tiny_model
from tiny_motion import build_tiny_motion_model

from fashionflow_core import video
from fashionflow_core.config import CONDITIONING, SCHEDULERS
from fashionflow_core.store import registry
from fashionflow_core.video import marking, platforms, provenance

GUIDE = ROOT / "docs" / "guides" / "python.md"


def _blocks() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", GUIDE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a photo and a model; tiny ones stand for the bundled models: the examples are about the calls."""
    stand_in = build_tiny_model(
        tmp_path / "models" / "mini-latent", known_content="latents", mask_fill="nearest", steps=10
    )
    known = registry.KnownModel(summary="tiny", source="tests", bundled=stand_in)
    monkeypatch.setitem(registry.KNOWN, "mini-latent", known)
    moving = build_tiny_motion_model(tmp_path / "models" / "mini")
    monkeypatch.setitem(registry.KNOWN, "mini", registry.KnownModel(summary="tiny", source="tests", bundled=moving))
    modes = {"modes": ("generate", "interpolate"), "conditioning": CONDITIONING}
    build_tiny_model(tmp_path / "shop" / "my-model", context_dropout=0.1, **modes)
    with Image.open(ROOT / "examples" / "dress.jpg") as photo:
        photo.reduce(4).save(tmp_path / "shop" / "dress.jpg")  # motion models make videos of the size of the photo
    monkeypatch.chdir(tmp_path / "shop")
    return tmp_path / "shop"


@pytest.mark.slow
def test_the_examples_run(shop: Path, capsys: pytest.CaptureFixture[str]):
    blocks, space = _blocks(), {}
    assert len(blocks) >= 10
    for block in blocks:
        exec(compile(block, str(GUIDE), "exec"), space)
    made = {path.name for path in shop.iterdir() if path.is_file()}
    assert made == {"dress.jpg", "dress.mp4", "dress-small.mp4", "step-by-step.mp4", "dress-poster.png"} | {
        *(f"dress-{item}.mp4" for item in (1, 2, 3)),
        *("dress.reels.mp4", "dress.gif", "dress-4x5.mp4", "reel.mp4"),
    }
    for name, target in (("dress.reels.mp4", "reels"), ("dress.gif", "gif"), ("reel.mp4", "reels")):
        assert not platforms.check(shop / name, platforms.find_platform(target))
    assert provenance.source_type(shop / "dress-poster.png") == marking.SOURCE_TYPE
    assert "is not a multiple of 2" in capsys.readouterr().out
    assert space["smooth"].count == 2 * space["trained"].config.frames - 1
    assert space["frames"] is not None and space["guided"].metadata["fashionflow_guidance"] == "2.5"


def test_step_by_step_is_generate(shop: Path):
    space: dict[str, Any] = {}
    exec(_blocks()[-1], space)
    whole = space["model"].generate("dress.jpg", seed=7, steps=10, frames=8)
    assert np.array_equal(space["latents"].numpy(), whole.latents.numpy())
    frames = np.stack(list(whole.frames))
    np.testing.assert_array_equal(np.stack(list(space["model"].decode(space["latents"], space["fitted"].box))), frames)
    info = video.probe("step-by-step.mp4")
    assert (info.frames, info.height, info.width, info.fps) == (whole.count, whole.height, whole.width, whole.fps)


def test_every_sampler_is_explained():
    rows = re.findall(r"^\| `([^`]+)` \|", GUIDE.read_text(encoding="utf-8"), re.MULTILINE)[1:]
    assert sorted(rows) == sorted(SCHEDULERS)


@pytest.mark.slow
def test_the_first_example_with_the_bundled_model(tmp_path: Path):
    """As a user runs it: another process, the real model, its default settings."""
    shutil.copy(ROOT / "examples" / "dress.jpg", tmp_path)
    subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", _blocks()[0]], cwd=tmp_path, check=True)
    info = video.probe(tmp_path / "dress.mp4")
    assert (info.frames, info.width, info.height, info.fps) == (70, 768, 960, 25)
