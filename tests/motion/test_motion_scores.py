"""Turning speed, the table of limits, and blind comparison: known turns, made-up scores, filled forms."""

import json
from pathlib import Path

import blind_sheet
import clip_damage as damage
import hard_cases
import numpy as np
import pytest
import score_motion
import torch

from fashionflow_core.metrics.faithful import score_faithful
from fashionflow_core.metrics.tracking import blurred, follow
from fashionflow_core.metrics.turning import turning


def sliding(speed: float, count: int = 9) -> tuple[np.ndarray, np.ndarray]:
    """A textured surface that slides behind a fixed outline, as the front of a turning cylinder: frames, outlines."""
    noise = torch.from_numpy(np.random.default_rng(0).normal(0, 1, (3, 120, 160)).astype(np.float32))
    cloth = (128 + 500 * blurred(noise, 3.0)).permute(1, 2, 0).numpy().clip(0, 255)
    mask = np.zeros((120, 80), bool)
    mask[8:112, 24:56] = True
    frames = np.full((count, 120, 80, 3), 235, np.uint8)
    columns = np.arange(80)
    for i in range(count):
        place = columns + 40 - speed * i
        low = np.floor(place).astype(int)
        share = (place - low)[None, :, None]
        seen = cloth[:, low] * (1 - share) + cloth[:, low + 1] * share
        frames[i][mask] = seen[mask].astype(np.uint8)
    return frames, np.repeat(mask[None], count, axis=0)


def test_turning_speed_follows_the_surface():
    speeds = []
    for speed in (0.0, 0.4, 0.8):
        frames, masks = sliding(speed)
        turn = turning(follow(frames, masks[0]), masks)
        assert turn.angles[0] == 0
        # Half-width 16 pixels: the sine of the turn is the way over it.
        assert turn.angles[-1] == pytest.approx(np.degrees(np.arcsin(speed * 8 / 16)), rel=0.25, abs=0.5)
        speeds.append(turn.speed)
    assert speeds[0] < 0.1 < speeds[1] < speeds[2]
    nothing = turning(follow(frames, masks[0]), masks & False)
    assert np.isfinite(nothing.angles).all()


def test_a_still_photo_keeps_everything_and_does_not_move():
    scores = score_faithful(np.repeat(damage.clip(damage.STRIPES, 5)[:1], 3, axis=0))
    for name in ("pattern_kept", "face_kept", "edge_quality", "sharpness_kept", "largest_pop"):
        assert scores[name] == pytest.approx(1, abs=1e-3), name
    for name in ("garment_drift", "motion", "silhouette_range", "turning_speed"):
        assert scores[name] == pytest.approx(0, abs=1e-3), name


def made_up(quality: float, motion: float, skin: str = "light") -> dict[str, float | str | None]:
    names = [name for name, _, _ in score_motion.COLUMNS]
    return {**dict.fromkeys(names, quality), "motion": motion, "silhouette_range": motion, "turning_speed": motion} | {
        "garment_drift": 1.0,
        "skin_drift": 2.0 - quality,
        "skin_group": skin,
        "largest_pop": 1.2,
    }


def test_limits_are_judged_by_means_over_figures():
    rows = {
        "truth": [made_up(0.9, 1.0), made_up(0.9, 3.0)],
        "true-motion": [made_up(0.9, 1.0)] * 2,
        "mini": [made_up(0.85, 2.0, "light"), made_up(0.85, 2.0, "dark")],
        "mini-latent": [made_up(0.5, 1.0)] * 2,
        "noise": [made_up(0.1, 9.0)] * 2,
    }
    lines = score_motion.judge(rows, {"blue": {"mini": [made_up(0.9, 1.0)] * 3}})
    assert all(line.met for line in lines), [line for line in lines if not line.met]
    assert next(line for line in lines if line.what.startswith("motion")).value == pytest.approx(1)

    rows["mini"][1] |= {"largest_pop": 1.8, "skin_drift": 2.0, "silhouette_range": 9.0}
    missed = {line.what for line in score_motion.judge(rows, {}) if not line.met}
    assert missed == {
        "largest pop of any clip",
        "skin drift gap between skin groups",
        "range of silhouette width over the truth's",
    }
    alone = score_motion.judge({"truth": rows["truth"]}, {})
    assert alone and all(line.met is None for line in alone)
    assert "not measured" in score_motion.summary(alone) and "| truth |" in score_motion.table(rows)


def test_results_are_measured_once(tmp_path: Path):
    calls = []

    def measure() -> dict[str, float | str | None]:
        calls.append(1)
        return made_up(0.5, 1.0)

    first = score_motion.kept(tmp_path, "figure", "copy", measure)
    assert score_motion.kept(tmp_path, "figure", "copy", measure) == first and len(calls) == 1
    score_motion.kept(tmp_path, "other", "copy", measure)
    assert len(calls) == 2


def test_blind_votes_are_counted_against_the_key(tmp_path: Path):
    key = {"01": {"A": "network", "B": "handmade"}, "02": {"A": "handmade", "B": "network"}, "03": {"A": "", "B": ""}}
    (tmp_path / "key.json").write_text(json.dumps({"photos": key}))
    form = tmp_path / "judgement.txt"
    form.write_text("# which?\n01: A\n02: B\n03: =\n")
    assert blind_sheet.count(tmp_path, form) == {"network": 2, "handmade": 0, "equal": 1}
    form.write_text("01: A\n02: C\n03: =\n")
    with pytest.raises(SystemExit, match="invalid line"):
        blind_sheet.count(tmp_path, form)
    form.write_text("01: A\n")
    with pytest.raises(SystemExit, match="no vote for 02, 03"):
        blind_sheet.count(tmp_path, form)


def test_every_hard_case_is_found():
    found = list(hard_cases.hard_cases(score_motion.UNSEEN + 1000))
    assert [name for name, _ in found] == [*hard_cases.CASES, hard_cases.KNEE]
    assert set(hard_cases.SHEETS) <= {name for name, _ in found}
    # Each of another figure.
    assert len({photo.tobytes() for _, photo in found}) == len(found)
