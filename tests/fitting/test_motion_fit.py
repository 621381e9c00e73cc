"""Motion channels fitted to videos: drawn figures with known turns, what is left out, and training on the result."""

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from fashionflow_cli.data import app
from fashionflow_core import video
from fashionflow_core.errors import FashionFlowError, UsageError
from fashionflow_core.fitting.motion_fit import LEAST_KEYS, MOST_RESIDUAL, STEPS, FittedMotion, fit_motion
from fashionflow_core.fitting.motion_prepare import FITS_FILE, FitRecord, clip_of, windows_of
from fashionflow_core.lock.flow import is_installed
from fashionflow_core.models.parser import FigureParser, ParsedPhoto, parse_photo
from fashionflow_core.motion.control import turn_of
from fashionflow_core.motion.figure_box import GRID, FigureBox
from fashionflow_core.motion.matte import Matte
from fashionflow_core.motion.timing import SPACING
from fashionflow_core.runtimes.torch import open_network
from fashionflow_core.store import registry
from fashionflow_core.synthetic.motion_clips import (
    KEYS,
    draw_photo,
    make_motion_clip,
    motion_frames,
    read_motion_clip,
    sample_placed,
)
from fashionflow_core.training import run
from fashionflow_core.training.motion import draw_window
from fashionflow_core.training.randomness import stream
from fashionflow_core.training.settings import load_config

needs_opencv = pytest.mark.skipif(not is_installed(), reason="extra lock is not installed")
PATTERNED = 510  # a studio, a complete figure and a print
FRAME = (320, 256)


def drawn(seed: int, keys: int, frame: tuple[int, int]) -> Iterator[np.ndarray]:
    return motion_frames(seed, (keys - 1) * STEPS + 1, STEPS / SPACING, frame)


def turns(channels: np.ndarray, matte: np.ndarray, box: FigureBox) -> np.ndarray:
    cells = box.resample(matte, *GRID, outside=0.0)
    return np.degrees(turn_of(torch.from_numpy(channels), cells, box))


def true_turns(seed: int, keys: int) -> np.ndarray:
    """Turns of the trunk in degrees, by the definition of the fit's."""
    clip = make_motion_clip(seed, keys)
    rows, columns = clip.matte.shape
    box = FigureBox(0.0, 0.0, float(rows), float(columns), clip.info["figure_height"])
    return turns(clip.channels, clip.matte, box)


@pytest.fixture(scope="module")
def fitted() -> FittedMotion:
    return fit_motion(drawn(PATTERNED, 3, FRAME))


@needs_opencv
def test_a_turn_is_fitted(fitted: FittedMotion) -> None:
    assert fitted.channels.shape == (4, 3, *GRID) and not fitted.channels[:, 0].any()
    assert np.isfinite(fitted.channels).all() and fitted.residual < MOST_RESIDUAL
    ratio = fitted.turns[2] / true_turns(PATTERNED, 3)[2]
    assert 0.7 < ratio < 1.3


@needs_opencv
def test_a_still_figure_stays() -> None:
    photo, _ = draw_photo(sample_placed(PATTERNED), *FRAME)
    still = fit_motion([photo] * (STEPS + 1))
    assert np.abs(still.channels).max() < 0.01 and np.abs(still.turns).max() < 1


def test_what_is_left_out(fitted_by_hand: Callable[..., FittedMotion]) -> None:
    assert not fitted_by_hand(LEAST_KEYS).refusal
    assert f"only 3 of at least {LEAST_KEYS} keyframes" in fitted_by_hand(3).refusal
    assert "residual" in fitted_by_hand(LEAST_KEYS, residual=2 * MOST_RESIDUAL).refusal
    assert "cut off at a side" in fitted_by_hand(LEAST_KEYS, left=0).refusal
    plain = replace(fitted_by_hand(LEAST_KEYS), uncertainty=9.0)
    assert "too little texture" in plain.refusal
    untrusted = replace(
        fitted_by_hand(LEAST_KEYS), matte=Matte(np.zeros((100, 80), np.float32), None, False, "no figure")
    )
    assert untrusted.refusal == "no figure"


@pytest.fixture
def fitted_by_hand() -> Callable[..., FittedMotion]:
    def made(keys: int, residual: float = 0.0, left: int = 30) -> FittedMotion:
        alpha = np.zeros((100, 80), np.float32)
        alpha[10:90, left : left + 20] = 1
        box = FigureBox.of(alpha)
        channels = np.linspace(0, 0.1, keys)[None, :, None, None] * np.ones((4, keys, *GRID))
        return FittedMotion(
            channels.astype(np.float32),
            box.resample(alpha, *GRID, outside=0.0),
            box,
            Matte(alpha, None, True, ""),
            alpha * 10,
            np.linspace(0, 20, keys),
            np.full(keys, residual),
            1.0,
            "",
        )

    return made


def test_a_short_clip_is_filled_and_counted(fitted_by_hand: Callable[..., FittedMotion]) -> None:
    record = FitRecord("a.mp4", "0" * 64, 0, "a", 8, 20.0, 0.001, 1.0, "")
    clip = clip_of(fitted_by_hand(8), np.zeros((100, 80, 3), np.uint8), record)
    assert clip.channels.shape == (4, KEYS, *GRID) and clip.keys == 8
    np.testing.assert_array_equal(clip.channels[:, 8:], np.repeat(clip.channels[:, 7:8], KEYS - 8, axis=1))
    settings = load_config(None, ["preset=mini-motion", "data=x"])
    for number in range(40):
        mask, start = draw_window(settings, 12, False, stream(0, "window", number), 8)
        assert start == 0 and mask.sum() == 1
        assert draw_window(settings, 6, False, stream(0, "window", number), 8)[1] <= 2


def test_windows_are_spaced_evenly() -> None:
    (window,) = windows_of(70, 25.0, 1)
    assert window.start == 0 and window.frames[: 2 * STEPS + 1 : STEPS] == (0, 6, 13)
    assert [one.start for one in windows_of(300, 25.0, 3)] == [0, 100, 200]
    assert max(len(one.frames) for one in windows_of(3000, 25.0, 3)) == (KEYS - 1) * STEPS + 1
    assert not windows_of(20, 25.0, 1)


def test_the_extra_is_named_when_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    (tmp_path / "a.mp4").write_bytes(b"video")
    arguments = ["prepare", str(tmp_path), "-o", str(tmp_path / "motion"), "--model", "mini", "-q"]
    refused = CliRunner().invoke(app, arguments).exception
    assert isinstance(refused, FashionFlowError) and "extra 'lock'" in refused.message and "\n" not in refused.message
    assert not (tmp_path / "motion").exists()


@pytest.mark.parametrize("option", [("--frames", "8"), ("--strides", "1,2"), ("--dry-run",)], ids=" ".join)
def test_options_of_encoded_clips_are_refused(tmp_path: Path, option: tuple[str, ...]) -> None:
    (tmp_path / "a.mp4").write_bytes(b"video")
    arguments = ["prepare", str(tmp_path), "-o", str(tmp_path / "motion"), "--model", "mini", *option]
    refused = CliRunner().invoke(app, arguments).exception
    assert isinstance(refused, UsageError) and option[0] in refused.message


@needs_opencv
@pytest.mark.slow
@pytest.mark.parametrize("seed", [508, 509, 510])
def test_turns_of_drawn_figures(seed: int) -> None:
    network = open_network(FigureParser, registry.find("mini"), "parser", torch.float32).eval()

    def parse(photo: np.ndarray) -> ParsedPhoto:
        return parse_photo(network, photo)

    found = fit_motion(drawn(seed, 8, (640, 512)), parse)
    assert not found.refusal
    keys = len(found.turns)
    assert keys >= LEAST_KEYS
    true, fitted = true_turns(seed, keys), found.turns
    assert 0.7 < (true @ fitted) / (true @ true) < 1.3
    assert np.corrcoef(true, fitted)[0, 1] > 0.9
    assert np.abs(true - fitted).mean() < 6


@needs_opencv
@pytest.mark.slow
def test_videos_become_clips_that_mini_learns_from(tmp_path: Path) -> None:
    fps, count = 12.5, 20
    (tmp_path / "videos").mkdir()
    for name, frames in (
        ("turn.mp4", motion_frames(PATTERNED, count, fps)),
        ("plain.mp4", motion_frames(504, count, fps)),
    ):
        video.write(frames, tmp_path / "videos" / name, fps=fps, count=count, mark=False)
    out = tmp_path / "motion"
    arguments = ["prepare", str(tmp_path / "videos"), "-o", str(out), "--model", "mini", "-q", "--json"]
    first = CliRunner().invoke(app, arguments)
    assert "1 of 2 videos" in str(first.exception)
    made = json.loads(first.stdout)
    assert (made["fitted"], made["clips"]) == (1, 1) and "too little texture" in made["left_out"][0]["reason"]
    (file,) = out.glob("*.safetensors")
    clip = read_motion_clip(file)
    assert LEAST_KEYS <= clip.keys <= 8 and clip.info["attributes"]["source"] == "videos/turn.mp4"
    again = json.loads(CliRunner().invoke(app, arguments).stdout)
    assert (again["fitted"], again["kept"]) == (0, 1) and len((out / FITS_FILE).read_text().splitlines()) == 2
    settings = ["preset=mini-motion", f"data={out}", "init_from=mini", "max_steps=2", "batch_size=1"]
    settings += ["max_minutes=0", "tensorboard=false", "warmup_steps=0"]
    trained = run.train(load_config(None, settings), tmp_path / "run", registry.find("mini"), device="cpu")
    assert (trained / "unet" / "config.json").is_file()
