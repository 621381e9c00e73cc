"""The quality gate: what it flags, what making a video again gains, and how its limits are set."""

from pathlib import Path

import numpy as np
import pytest
from catalogues import assert_whole, conventions, files, last, plain, quick, shop
from command import assert_refused
from quick_model import LOG, STILL, UNLUCKY

from fashionflow_core import video
from fashionflow_core.catalogue.quality_gate import QualityLimits, badness, evidence, flags, reroll_seed, score
from fashionflow_core.errors import FashionFlowError, UsageError
from fashionflow_core.metrics import motion_faults, steadiness
from fashionflow_core.synthetic.clips import render_clip
from fashionflow_core.synthetic.degraded import damaged
from fashionflow_core.synthetic.faulty import faulty
from fashionflow_core.synthetic.labelled import labelled_clip


@pytest.fixture(scope="module")
def clip() -> np.ndarray:
    return render_clip(3, frames=24, height=320, width=256).frames


def judged(folder: Path, frames: np.ndarray, photo: np.ndarray | None = None) -> list[str]:
    video.write(frames, folder / "a.mp4", 25, len(frames))
    return flags(score(folder / "a.mp4", frames[0] if photo is None else photo), QualityLimits())


@pytest.mark.slow
def test_good_clips_pass_and_each_fault_has_its_flag(clip: np.ndarray, tmp_path: Path) -> None:
    assert judged(tmp_path, clip) == []
    assert judged(tmp_path, np.repeat(clip[:1], 24, axis=0)) == ["still"]
    assert judged(tmp_path, clip, 255 - clip[0]) == ["first frame"]
    tinted = clip.copy()
    tinted[4:] = tinted[4:, ..., [2, 0, 1]]
    assert "colour" in judged(tmp_path, tinted)
    empty = clip.copy()
    empty[12:] = np.median(clip[0, :, :4], axis=(0, 1)).astype(np.uint8)
    assert "figure lost" in judged(tmp_path, empty)
    noise = np.random.default_rng(0).integers(0, 256, clip.shape, np.uint8)
    assert {"flicker", "wild"} <= set(judged(tmp_path, noise))


def test_unsteady_clips_have_their_reasons(tmp_path: Path) -> None:
    truth = labelled_clip(3, 24)
    assert judged(tmp_path, truth.frames) == []
    for damage, reason in (("flash", "flash"), ("background", "background"), ("fade", "faded")):
        made = damaged(truth.frames, truth.labels, damage, 1.0, np.random.default_rng(2))
        assert reason in judged(tmp_path, made)
        if damage == "flash":
            light = made.mean((1, 2, 3))
            scores = score(tmp_path / "a.mp4", made[0])
            assert light[evidence("flash", scores)] == pytest.approx(light.max(), abs=0.5)
            assert evidence("first frame", scores) == 0 and evidence("zoom", scores) is evidence("x", scores) is None
    assert "flash" not in judged(tmp_path, damaged(truth.frames, truth.labels, "ramp", 1.0, np.random.default_rng(2)))


def test_zoom_and_noise_are_no_movement(tmp_path: Path) -> None:
    truth = labelled_clip(3, 12)
    assert judged(tmp_path, faulty(truth, "zoom", 0.4, 3)) == ["zoom"]
    assert judged(tmp_path, faulty(truth, "still", 1.0, 3)) == ["still"]
    assert motion_faults.movement(truth.frames) > 5 * motion_faults.movement(faulty(truth, "still", 1.0, 3))
    growth = [motion_faults.zoom(faulty(truth, "zoom", strength, 3)).growth for strength in (0.2, 0.6, 1.0)]
    np.testing.assert_allclose(growth, np.subtract(1, 1 / np.array([1.05, 1.15, 1.25])), atol=0.02)
    found = motion_faults.zoom(np.repeat(truth.frames[:1], 4, axis=0))
    assert (found.share, found.growth) == (0, 0)
    with pytest.raises(ValueError, match="unknown fault"):
        faulty(truth, "nothing", 1.0, 3)


def test_doubled_limbs_have_their_reason(tmp_path: Path) -> None:
    made = faulty(labelled_clip(3, 16), "limb", 0.6, 3)
    assert judged(tmp_path, made) == ["limb"]
    scores = score(tmp_path / "a.mp4", made[0])
    assert evidence("limb", scores) == 10 and scores["doubled_limb"] > 0.02


@pytest.mark.slow
def test_lost_prints_faces_and_detail_have_their_reasons(tmp_path: Path) -> None:
    truth = labelled_clip(8, 8)
    assert judged(tmp_path, truth.frames) == []
    for fault, strength, reason in (("texture", 0.6, "print"), ("face", 1.0, "face"), ("blur", 0.6, "blurred")):
        assert reason in judged(tmp_path, faulty(truth, fault, strength, 8)), fault
    recoloured = judged(tmp_path, faulty(truth, "colour", 0.6, 8))
    assert "recoloured" in recoloured and not {"face", "blurred"} & set(recoloured)


def test_steadiness_of_what_does_not_change() -> None:
    still = np.full((5, 16, 12, 3), 120, np.uint8)
    assert steadiness.flash(still) == steadiness.wall_shift(still) == 0
    assert steadiness.fade(still, np.ones(still.shape[:3], bool)) == 0
    assert steadiness.fade(still, np.zeros(still.shape[:3], bool)) == 0
    step = still.copy()
    step[2:] = 200
    assert steadiness.flash(step) == 0 and steadiness.flash(still[:1]) == 0
    blink = still.copy()
    blink[2] = 200
    assert steadiness.flash(blink) == pytest.approx(80)
    assert steadiness.wall_shift(step) > 20


def test_scores_are_numbers_whatever_the_video(tmp_path: Path) -> None:
    for count in (1, 2, 3):
        frames = np.zeros((count, 33, 47, 3), np.uint8)
        video.write(frames, tmp_path / "a.mp4", 5, count)
        scores = score(tmp_path / "a.mp4", frames[0])
        assert np.isfinite(list(scores.values())).all() and scores["figure_kept"] == 1
        assert ("motion" in scores, "flicker" in scores) == (count > 1, count > 2)
    with pytest.raises(FashionFlowError):
        score(tmp_path / "nothing.mp4", np.zeros((4, 4, 3), np.uint8))


def test_limits() -> None:
    limits = QualityLimits.parse("drift=6, still=0.5")
    assert (limits.drift, limits.still, limits.psnr) == (6, 0.5, QualityLimits().psnr)
    for text in ("colour=3", "drift", "drift=x", "drift=-1", "drift=nan"):
        with pytest.raises(UsageError, match="gate_limits"):
            QualityLimits.parse(text)
    fine = {"garment_drift": 3.0, "first_psnr": 36.0, "flicker": 2.0, "movement": 11.0, "figure_kept": 0.9}
    better = fine | {"garment_drift": 1.0}
    assert (
        flags(fine, QualityLimits()) == []
        and badness(better, QualityLimits()) == 0 < badness(fine, QualityLimits()) < 1
    )
    bad, worse = fine | {"garment_drift": 12.0}, fine | {"garment_drift": 20.0, "movement": 0.1}
    assert flags(bad, QualityLimits()) == ["colour"] and flags(worse, QualityLimits()) == ["colour", "still"]
    assert 1 < badness(bad, QualityLimits()) < badness(worse, QualityLimits())
    assert badness({}, QualityLimits()) == 0 and flags({}, QualityLimits()) == []
    assert len({reroll_seed(seed, number) for seed in range(100) for number in range(1, 10)}) == 900


@pytest.mark.slow
def test_flagged_videos_are_made_again_and_the_best_is_kept(tmp_path: Path) -> None:
    photos, out, model = shop(tmp_path / "photos", 3), tmp_path / "out", conventions(tmp_path / "model")
    plain(photos / "never.png", (250, 5, STILL))
    plain(photos / "unlucky.png", (250, 5, UNLUCKY))
    limits = "drift=100,psnr=0,figure=0,wild=100,flash=255,wall=100,fade=1,zoom=1,limb=1,still=0.3"
    limits += ",cells=100,pattern=1,face=1,blur=1"
    assert quick(photos, "-o", out, "--model", model, cwd=tmp_path).returncode == 0
    plainly = last(out)
    assert all("flags" not in record and record["scores"]["motion"] >= 0 for record in plainly.values())

    gated = quick(photos, "-o", out, "--model", model, "--gate-limits", limits, cwd=tmp_path)
    assert gated.returncode == 0 and gated.stdout == "", gated.stderr  # nothing to make, and what is there is judged
    assert "flagged         2" in gated.stderr and "already done    5" in gated.stderr
    judged = last(out)
    assert {name for name, record in judged.items() if record.get("flags")} == {"never", "unlucky"}
    assert judged["never"]["judged"] and judged["000"] == plainly["000"]

    env = {LOG: str(tmp_path / "batches")}
    command = (photos, "-o", out, "--model", model, "--gate-limits", limits, "--reroll", "6")
    result = quick(*command, cwd=tmp_path, env=env)
    assert result.returncode == 0, result.stderr
    assert "flagged         1" in result.stderr
    records = last(out)
    seeds = [0, *(reroll_seed(0, number) for number in range(1, 7))]
    lucky = next(index for index, seed in enumerate(seeds) if seed % 3 == 1)
    assert records["unlucky"]["seed"] == seeds[lucky] and records["unlucky"]["flags"] == []
    assert [take["seed"] for take in records["unlucky"]["takes"]] == seeds[: lucky + 1]
    assert records["never"]["flags"] == ["still"] and len(records["never"]["takes"]) == 7
    assert records["000"] == plainly["000"], "what passes is not made again"
    assert len((tmp_path / "batches").read_text().splitlines()) == 6 + lucky
    assert len(assert_whole(out)) == 5 and len(files(out)) == 10
    again = quick(*command, cwd=tmp_path, env=env)
    assert (again.returncode, again.stdout) == (0, "")
    assert "flagged         1" in again.stderr, again.stderr
    for flags_of_run in (
        [],
        ["--gate-limits", limits],
        ["--gate-limits", f"{limits},still=0"],
    ):
        result = quick(photos, "-o", out, "--model", model, *flags_of_run, cwd=tmp_path, env=env)
        assert (result.returncode, result.stdout) == (0, ""), "a run without --reroll makes nothing again"
    assert last(out)["never"]["flags"] == [], "by other limits it passes"


@pytest.mark.slow
def test_videos_without_scores_are_scored_where_they_are(tmp_path: Path) -> None:
    photos, out, model = shop(tmp_path / "photos", 1), tmp_path / "out", conventions(tmp_path / "model")
    plain(photos / "never.png", (250, 5, STILL))
    env, limits = (
        {LOG: str(tmp_path / "batches")},
        "drift=100,psnr=0,figure=0,wild=100,flash=255,wall=100,fade=1,zoom=1,limb=1,still=0.3",
    )
    assert quick(photos, "-o", out, "--model", model, "--no-scores", cwd=tmp_path, env=env).returncode == 0
    made = len((tmp_path / "batches").read_text().splitlines())
    assert "scores" not in last(out)["never"]
    before = {name: (out / f"{name}.mp4").stat().st_mtime_ns for name in ("000", "never")}
    gated = quick(photos, "-o", out, "--model", model, "--gate-limits", limits, cwd=tmp_path, env=env)
    assert (gated.returncode, gated.stdout) == (0, ""), gated.stderr
    assert last(out)["never"]["flags"] == ["still"] and last(out)["000"]["scores"]
    assert len((tmp_path / "batches").read_text().splitlines()) == made
    # What was the least bad stays, though tries of another run are compared with it.
    command = (photos, "-o", out, "--model", model, "--gate-limits", limits, "--reroll", "2")
    rerolled = quick(*command, cwd=tmp_path, env=env)
    assert rerolled.returncode == 0, rerolled.stderr
    assert len((tmp_path / "batches").read_text().splitlines()) == made + 2
    assert len(last(out)["never"]["takes"]) == 3 and last(out)["never"]["seed"] == 0
    assert {name: (out / f"{name}.mp4").stat().st_mtime_ns for name in before} == before
    assert len(assert_whole(out)) == 2


def test_limits_that_are_none(tmp_path: Path) -> None:
    photos, model = shop(tmp_path / "photos", 1), conventions(tmp_path / "model")
    result = quick(photos, "-o", "out", "--model", model, "--gate-limits", "colour=1", "-q", cwd=tmp_path)
    assert_refused(result, 2, "unknown limit 'colour'")
    result = quick(photos, "-o", "out", "--model", model, "--no-scores", cwd=tmp_path)
    assert result.returncode == 0 and "scores" not in last(tmp_path / "out")["000"]
