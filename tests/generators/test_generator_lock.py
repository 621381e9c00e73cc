"""Photo lock of generated clips: default level, frame 0, falling back to the fade, retiming of locked frames."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from miniatures import Miniature

from fashionflow_core.config import GenerateSettings
from fashionflow_core.diffusion.clip import Clip
from fashionflow_core.diffusion.frame_generator import FrameGenerator
from fashionflow_core.generators.folder import config_of
from fashionflow_core.generators.remote_place import remote_config
from fashionflow_core.synthetic.degraded import DegradedClip, as_generated


class Returned:
    """A source that returns given frames, uint8 (n, h, w, 3), at 24 per second."""

    device, dtype, weights_bytes = "none", torch.float32, 0

    def __init__(self, frames: np.ndarray) -> None:
        self.frames = frames

    def generate(self, photos: Any, requests: Any, generators: Any, on_step: Any) -> tuple[list[np.ndarray], float]:
        return [self.frames.copy() for _ in photos], 24.0


@pytest.fixture(scope="module")
def drifted() -> DegradedClip:
    """A turning figure whose colours fade, and its truth."""
    return as_generated(3_000_000, frames=6, height=240, width=192)


def made(frames: np.ndarray, photo: np.ndarray, **settings: Any) -> tuple[Clip, np.ndarray]:
    config = remote_config("http://127.0.0.1/v1")
    request = GenerateSettings(size=photo.shape[:2], frames=len(frames), **settings).resolve(config)
    (clip,) = FrameGenerator(Returned(frames), config).generate_batch([photo], [request], [0])
    return clip, np.stack(list(clip.frames))


def error(frames: np.ndarray, truth: np.ndarray) -> float:
    return float(np.abs(frames[1:].astype(int) - truth[1:]).mean())


@pytest.mark.parametrize("level", ["colour", pytest.param("full", marks=pytest.mark.slow)])
def test_the_lock_takes_the_place_of_the_fade(drifted: DegradedClip, level: str) -> None:
    if level == "full":
        pytest.importorskip("cv2")
    truth, photo = drifted.truth.frames, drifted.truth.frames[0]
    plain, faded = made(drifted.frames, photo, lock="off")
    clip, locked = made(drifted.frames, photo, lock=level)
    assert plain.lock is None and "fashionflow_lock" not in plain.metadata
    assert clip.lock is not None and clip.lock.level == level and not clip.lock.reason
    assert np.array_equal(locked[0], photo) and np.array_equal(faded[0], photo)
    assert error(locked, truth) < 0.8 * error(drifted.frames, truth)
    assert error(locked[4:], truth[4:]) < 0.8 * error(faded[4:], truth[4:]), "frame 5 has no fade"
    assert np.array_equal(np.stack(list(clip.frames)), locked), "frames can be taken again"


def test_level_full_is_asked_of_foreign_models(
    miniature: Miniature, drifted: DegradedClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for config in (config_of(miniature("ltx", tmp_path)), remote_config("http://127.0.0.1/v1")):
        assert GenerateSettings().resolve(config).lock == "full"
        assert GenerateSettings(lock="off").resolve(config).lock == "off"
    monkeypatch.setattr("fashionflow_core.lock.photo_lock.is_installed", lambda: False)
    clip, _ = made(drifted.frames[:2], drifted.truth.frames[0])
    assert clip.lock is not None and (clip.lock.asked, clip.lock.level) == ("full", "colour")
    assert "extra 'lock'" in clip.lock.reason


def test_what_cannot_be_locked_is_faded(drifted: DegradedClip) -> None:
    photo, noise = drifted.truth.frames[0], np.random.default_rng(0).integers(0, 256, drifted.frames.shape, np.uint8)
    clip, frames = made(noise, photo, lock="colour")
    assert clip.lock is not None and clip.lock.level == "off" and "does not start" in clip.lock.reason
    assert np.array_equal(frames, made(noise, photo, lock="off")[1])
    assert np.array_equal(frames[0], photo) and np.array_equal(frames[5], noise[5])


def test_fewer_frames_than_asked_for_are_not_played_slower() -> None:
    """As some pipelines return them; a duration that was asked for is kept."""
    photo = np.zeros((32, 48, 3), np.uint8)
    config = remote_config("http://127.0.0.1/v1")
    for asked, count in ((GenerateSettings(frames=9), 5), (GenerateSettings(duration=0.5), 12)):
        request = replace(asked, size=photo.shape[:2], lock="off").resolve(config)
        generator = FrameGenerator(Returned(np.stack([photo] * 5)), config)
        (clip,) = generator.generate_batch([photo], [request], [0])
        assert clip.count == len(list(clip.frames)) == count


@pytest.mark.slow
def test_locked_frames_are_retimed(drifted: DegradedClip) -> None:
    photo = drifted.truth.frames[0]
    _, locked = made(drifted.frames[:3], photo, lock="colour")
    clip, twice = made(drifted.frames[:3], photo, lock="colour", fps=48.0)
    assert clip.count == len(twice) == 6
    assert np.array_equal(twice[::2], locked)
    assert clip.lock is not None and clip.lock.frames == len(locked), "the report counts generated frames"
