"""First frame, frame rate and duration of generated clips."""

from pathlib import Path

import numpy as np
import pytest
from miniatures import Miniature

from fashionflow_core import pipeline
from fashionflow_core.config import GenerateSettings
from fashionflow_core.generators.folder import config_of
from fashionflow_core.generators.frames import faded, retimed


def textured(offset: float) -> np.ndarray:
    """A smooth texture moved to the right by `offset` pixels, uint8 (64, 96, 3)."""
    rows, columns = np.mgrid[:64, :96].astype(float)
    columns = columns - offset
    channels = [np.sin(columns / 5 + rows / 9), np.cos(columns / 7), np.sin(rows / 6) * np.cos(columns / 4)]
    return (128 + 100 * np.stack(channels, -1)).astype(np.uint8)


def test_the_photo_is_frame_0_and_its_difference_fades() -> None:
    photo = np.full((4, 6, 3), 200, np.uint8)
    frames = np.full((9, 4, 6, 3), 100, np.uint8) + np.arange(9, dtype=np.uint8)[:, None, None, None]
    made = np.stack(list(faded(photo, iter(frames))))
    assert np.array_equal(made[0], photo)
    assert made[:, 0, 0, 0].tolist() == [200, 181, 162, 143, 124, 105, 106, 107, 108]


def test_frames_at_whole_places_are_kept_as_they_are() -> None:
    frames = np.stack([textured(n) for n in range(5)])
    assert np.array_equal(np.stack(list(retimed(iter(frames), 1, 5))), frames)
    assert np.array_equal(np.stack(list(retimed(iter(frames), 2, 3))), frames[::2])
    twice = np.stack(list(retimed(iter(frames), 0.5, 10)))
    assert np.array_equal(twice[::2], frames) and np.array_equal(twice[9], frames[4]), "the last one is repeated"


def test_frames_between_are_moved_and_not_blended() -> None:
    frames = np.stack([textured(0), textured(5)])
    (_, between) = retimed(iter(frames), 0.5, 2)
    true, blend = textured(2.5).astype(float), frames.astype(float).mean(0)
    inside = (slice(8, -8), slice(8, -8))
    assert abs(between - true)[inside].mean() < 0.25 * abs(blend - true)[inside].mean()


def test_what_cannot_be_followed_is_blended() -> None:
    frames = np.stack([textured(0), np.full((64, 96, 3), 90, np.uint8)])
    (_, between) = retimed(iter(frames), 0.5, 2)
    assert abs(between - frames.astype(float).mean(0)).mean() < 7


@pytest.mark.parametrize(
    ("asked", "generated", "written", "fps", "slowdown"),
    [
        ({}, 81, 81, 16, 1),
        ({"fps": 30.0}, 81, 152, 30, 1),
        ({"duration": 2.0}, 33, 32, 16, 1),
        ({"duration": 2.0, "fps": 24.0}, 33, 48, 24, 1),
        ({"duration": 8.1}, 81, 130, 16, 1.6),
        ({"frames": 17, "fps": 8.0}, 17, 8, 8, 1),
    ],
)
def test_rate_and_duration_are_met_without_playing_faster(
    miniature: Miniature,
    tmp_path: Path,
    asked: dict[str, float],
    generated: int,
    written: int,
    fps: float,
    slowdown: float,
) -> None:
    request = GenerateSettings(**asked).resolve(config_of(miniature("wan21", tmp_path)))  # pyright: ignore
    assert request.generator is not None
    assert (request.frames, request.video_frames, request.fps) == (generated, written, fps)
    assert request.generator.slowdown == pytest.approx(slowdown)


def test_a_clip_has_the_frames_that_were_asked_for(miniature: Miniature, tmp_path: Path) -> None:
    pipe = pipeline.load(miniature("ltx", tmp_path), device="cpu")
    settings = GenerateSettings(steps=1, megapixels=0.0042, duration=0.5, fps=30.0, lock="off")
    clip = pipe.generate(textured(0), settings)
    assert (clip.count, clip.fps, len(list(clip.frames))) == (15, 30, 15)
