"""Chromium, which most people will watch with, plays what is written, in its colours.

Frames are compared with what went into `video.write`, not with what our own decoder makes of the file. Compared are
the squares of 8x8 pixels that are flat, or span at most 12/255, up to 16 pixels around: there each channel's mean is
within 3/255, and so are 999 of 1,000 single values. At sharp edges 4:2:0 keeps no colour exactly, in any player.
"""

import base64
import itertools
import shutil
from typing import Any

import browser
import einops
import numpy as np
import pytest

from fashionflow_core import video
from fashionflow_core.synthetic.clips import render_clip

FPS = 25
VIDEOS = [("h264.mp4", "h264"), ("hevc.mp4", "hevc"), ("av1.mp4", "av1"), ("vp9.webm", "vp9"), ("av1.webm", "av1")]
PLAYED = [name for name, codec in VIDEOS if codec != "hevc"]  # Chromium has no HEVC decoder in software
SHOWN = (0, 7, 3, 11)  # frames by number; going back needs seeking to a key frame
CLIPS = ("pattern", "rendered")


def pattern(count: int = 12) -> np.ndarray:
    """Twelve flat squares, in time all corners and edges of the colour cube, above slopes of colour."""
    colours = np.array(list(itertools.product((0, 31, 128, 200, 255), repeat=3)), np.uint8)
    slope = np.linspace(0, 255, 256)
    frames = np.empty((count, 256, 256, 3), np.uint8)
    for index, frame in enumerate(frames):
        for square in range(12):
            top, left = square // 4 * 64, square % 4 * 64
            frame[top : top + 64, left : left + 64] = colours[(square * count + index) * 7 % 125]
        frame[192:224] = slope[:, None]
        frame[224:] = np.stack([slope, slope[::-1], np.full(256, 20.0 * index)], axis=1)
    return frames


SOURCES = {"pattern": pattern(), "rendered": render_clip(3, frames=12, height=320, width=256).frames}


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What Chromium says of every file, by its name; one browser for all, since starting it takes longest."""
    program = browser.find()
    if program is None:
        pytest.skip(f"needs Chromium, and none of {', '.join(browser.NAMES)} is on the PATH")
    folder = tmp_path_factory.mktemp("site")
    jobs: list[dict[str, Any]] = []
    for clip in CLIPS:
        frames = SOURCES[clip]
        for name, codec in VIDEOS:
            file = f"{clip}-{name}"
            video.write(frames, folder / file, FPS, len(frames), {"title": clip}, codec=codec)
            jobs.append({"kind": "video", "file": file, "fps": FPS, "times": [(n + 0.5) / FPS for n in SHOWN]})
        for suffix in ("gif", "webp"):
            file = f"{clip}.{suffix}"
            video.write(frames[:, :-1, :-1], folder / file, FPS, len(frames), {"title": clip})
            jobs.append({"kind": "image", "type": f"image/{suffix}", "file": file, "frames": list(SHOWN)})
    answers = browser.play(program, folder, tmp_path_factory.mktemp("chromium") / "profile", jobs, seconds=60)
    shutil.rmtree(folder)
    return {job["file"]: answer for job, answer in zip(jobs, answers)}


def pictures(answer: dict[str, Any]) -> np.ndarray:
    """The frames drawn on the canvas: int (f, h, w, 3)."""
    frames = [np.frombuffer(base64.b64decode(text), np.uint8) for text in answer["frames"]]
    rgba = np.stack(frames).reshape(-1, answer["height"], answer["width"], 4)
    assert (rgba[..., 3] == 255).all()
    return rgba[..., :3].astype(int)


def smooth(frames: np.ndarray) -> np.ndarray:
    """Which squares of 8x8 are flat or nearly so, with all that is up to 16 pixels away: bool (f, h / 8, w / 8)."""
    least = einops.reduce(frames, "f (h a) (w b) c -> f h w c", "min", a=8, b=8)
    most = einops.reduce(frames, "f (h a) (w b) c -> f h w c", "max", a=8, b=8)
    rows, columns = least.shape[1:3]
    around = [(slice(max(0, r - 2), r + 3), slice(max(0, c - 2), c + 3)) for r in range(rows) for c in range(columns)]
    spans = [most[:, r, c].max(axis=(1, 2)) - least[:, r, c].min(axis=(1, 2)) for r, c in around]
    return einops.rearrange(np.max(spans, axis=-1) <= 12, "(h w) f -> f h w", h=rows)


@pytest.mark.parametrize("name", PLAYED)
@pytest.mark.parametrize("clip", CLIPS)
def test_chromium_plays_and_seeks_in_the_right_colours(seen: dict[str, Any], clip: str, name: str) -> None:
    answer, source = seen[f"{clip}-{name}"], SOURCES[clip]
    assert "error" not in answer, answer
    assert (answer["height"], answer["width"]) == source.shape[1:3]
    assert answer["duration"] == pytest.approx(len(source) / FPS, abs=1e-3)
    assert answer["ended"] == pytest.approx(len(source) / FPS, abs=0.041)  # it played to the end
    assert answer["shown"] >= len(source) // 2  # frames decoded and offered for display; a slow machine drops some
    wanted = source[list(SHOWN)].astype(int)
    error = pictures(answer) - wanted
    level = smooth(wanted)
    mean = einops.reduce(error.astype(float), "f (h a) (w b) c -> f h w c", "mean", a=8, b=8)[level]
    pixels = np.abs(einops.rearrange(error, "f (h a) (w b) c -> f h w (a b c)", a=8, b=8)[level])
    assert level.mean() > 0.2
    assert np.abs(mean).max() <= 3
    assert (pixels <= 3).mean() > 0.999


@pytest.mark.parametrize("suffix", ["gif", "webp"])
@pytest.mark.parametrize("clip", CLIPS)
def test_chromium_shows_gif_and_webp_moving(seen: dict[str, Any], clip: str, suffix: str) -> None:
    answer, source = seen[f"{clip}.{suffix}"], SOURCES[clip][:, :-1, :-1]
    assert "error" not in answer, answer
    assert (answer["height"], answer["width"]) == source.shape[1:3]
    assert (answer["count"], answer["animated"], answer["forever"]) == (len(source), True, True)
    assert answer["durations"] == [1e6 / FPS] * len(SHOWN)  # microseconds
    wanted = source[list(SHOWN)].astype(int)
    error = pictures(answer) - wanted
    assert np.abs(error).mean() < 4  # 256 colours, and WebP's loss at edges
