"""The photo lock: degraded clips come back to their truth, and what cannot be locked is left alone."""

import json
from pathlib import Path

import numpy as np
import pytest
from command import assert_refused, run
from PIL import Image
from tiny import build_tiny_model

from fashionflow_core import video
from fashionflow_core.config import GenerateSettings, ModelConfig
from fashionflow_core.errors import FashionFlowError, UsageError
from fashionflow_core.images.lab import lab_to_srgb, srgb_to_lab
from fashionflow_core.lock import flow
from fashionflow_core.lock.colour import enlarged, reduced
from fashionflow_core.lock.options import LockOptions
from fashionflow_core.lock.photo_lock import PhotoLock, locked
from fashionflow_core.lock.transfer import ColourGaussian, light_change, offset, transfer_matrix
from fashionflow_core.metrics import drift
from fashionflow_core.metrics.labels import GARMENT
from fashionflow_core.store import registry
from fashionflow_core.store.published import published_config
from fashionflow_core.synthetic.degraded import DAMAGES, DegradedClip, as_generated, damaged
from fashionflow_core.synthetic.labelled import labelled_clip

FADE, RAMP = 3_000_000, 3_000_004  # seeds: a dress with dots that fades, trousers under light that falls


@pytest.fixture(scope="module")
def faded() -> DegradedClip:
    return as_generated(FADE, frames=8)


def lock(clip: DegradedClip, level: str) -> tuple[np.ndarray, PhotoLock]:
    made = PhotoLock(clip.truth.frames[0], LockOptions(level))
    return np.stack([made.add(frame) for frame in clip.frames]), made


def test_the_map_between_two_gaussians() -> None:
    rng = np.random.default_rng(0)
    one, other = (x @ x.T + np.eye(3) for x in rng.normal(0, 4, (2, 3, 3)))
    matrix = transfer_matrix(one, other, 0, 100)
    np.testing.assert_allclose(matrix @ one @ matrix, other, rtol=1e-6)
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-9)
    np.testing.assert_allclose(transfer_matrix(one, one, 0.5, 2), np.eye(3), atol=1e-6)
    assert np.linalg.eigvalsh(transfer_matrix(one, 100 * one, 0.7, 1.5)).max() == pytest.approx(1.5)
    assert ColourGaussian.of(np.zeros((29, 3))) is None


def test_lab_comes_back_as_srgb() -> None:
    colours = np.random.default_rng(0).integers(0, 256, (4096, 3), np.uint8)
    back = lab_to_srgb(srgb_to_lab(colours))
    assert np.abs(back.astype(int) - colours).max() <= 1
    assert lab_to_srgb(np.array([100.0, 90.0, 90.0])).tolist()[0] == 255


def test_large_images_are_converted_as_small_ones() -> None:
    image = np.random.default_rng(0).integers(0, 256, (150, 131, 3), np.uint8)
    lab = srgb_to_lab(image)
    np.testing.assert_allclose(lab[::7, ::5], srgb_to_lab(image[::7, ::5]), atol=1e-4)
    np.testing.assert_array_equal(lab_to_srgb(lab)[::7, ::5], lab_to_srgb(lab[::7, ::5]))
    assert srgb_to_lab(image[:0]).shape == (0, 131, 3) and srgb_to_lab(image / 255).dtype == np.float64


@pytest.mark.parametrize("step", [1, 2, 3])
def test_frames_are_reduced_to_means_and_enlarged_in_part(step: int) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (25, 32, 3), np.uint8)
    small = reduced(frame, step)
    blocks = frame[: 25 // step * step, : 32 // step * step].reshape(25 // step, step, 32 // step, step, 3)
    assert np.abs(small - blocks.mean((1, 3))).max() <= 0.5
    plane = np.ascontiguousarray(small[..., 0][None].astype(np.float32))
    whole = enlarged(plane, step, 25, 32)
    assert whole.shape == (1, 25, 32)
    for columns in (slice(0, 32), slice(3, 20), slice(8, 32)):
        np.testing.assert_allclose(enlarged(plane, step, 25, 32, columns), whole[..., columns], atol=1e-3)


@pytest.mark.parametrize("explained", [None, -3.0, 0.0, 4.0, 20.0])
def test_a_mean_is_corrected_towards_the_photos(explained: float | None) -> None:
    rng = np.random.default_rng(0)
    for wanted, now in rng.uniform((10, -40, -40), (90, 40, 40), (50, 2, 3)):
        made = offset(wanted, now, explained, turn=1.5, least=1.0)
        assert np.linalg.norm(now + made - wanted) <= np.linalg.norm(now - wanted) + 1e-9


def test_light_is_corrected_where_it_is_explained() -> None:
    wanted = np.array([60.0, -20.0, 30.0])
    darker = wanted * 0.92
    gap = np.linalg.norm(wanted - darker)
    assert np.linalg.norm(offset(wanted, darker, 0.0, 1.5, 1.0)) < 0.4 * gap  # a turn
    assert np.linalg.norm(offset(wanted, darker, 0.08 * np.linalg.norm(wanted), 1.5, 1.0)) > 0.85 * gap
    turned = darker + np.array([0, 12, 8])  # the hue has changed, too
    assert np.linalg.norm(turned + offset(wanted, turned, 0.0, 1.5, 1.0) - wanted) < 3
    wall = np.array([90.0, 0.0, 0.0])
    assert light_change(wanted, wall, 0.9 * wall, 0.0) == pytest.approx(0.1 * np.linalg.norm(wanted))
    assert light_change(wanted, wall, wall, 0.0) == 0
    assert light_change(wall, wall, wall, 0.5) == 0 and light_change(wall / 3, wall, wall, 0.5) < 0


def test_a_video_twice_as_large_is_locked_alike(faded: DegradedClip) -> None:
    pytest.importorskip("cv2")
    frames, photo = faded.frames[:4], faded.truth.frames[0]
    one, other = PhotoLock(photo), PhotoLock(photo.repeat(2, 0).repeat(2, 1))
    for frame in frames:
        made, large = one.add(frame), other.add(frame.repeat(2, 0).repeat(2, 1))
        assert np.abs(reduced(large, 2).astype(float) - made).mean() < 0.5
    assert other.report.pasted == pytest.approx(one.report.pasted, abs=0.1)


@pytest.mark.parametrize("level", ["colour", "full"])
def test_a_faded_clip_gets_its_colours_back(faded: DegradedClip, level: str) -> None:
    if level == "full":
        pytest.importorskip("cv2")
    truth, worn = faded.truth.frames, faded.truth.labels == GARMENT
    made, state = lock(faded, level)
    np.testing.assert_array_equal(made[0], truth[0])
    assert drift.psnr(made[1:], truth[1:]) > drift.psnr(faded.frames[1:], truth[1:]) + 2
    before = drift.cell_drift(faded.frames[1:], truth[0], worn[1:], worn[0])
    assert drift.cell_drift(made[1:], truth[0], worn[1:], worn[0]) < 0.6 * before
    report = state.report.summary()
    assert report["asked"] == report["level"] == level and "reason" not in report
    assert json.loads(json.dumps(report)) == report
    if level == "full":
        assert 0.1 < report["pasted"] <= 1 and len(state.report.pasted) == len(made) - 1


def test_the_background_is_the_photos() -> None:
    clip = as_generated(RAMP, frames=4)
    made, _ = lock(clip, "colour")
    wall = np.zeros(made.shape[1:3], bool)
    wall[: int(0.8 * len(wall)), :30] = True
    assert np.abs(made[-1][wall].astype(int) - clip.truth.frames[0][wall]).mean() < 1
    assert np.abs(clip.frames[-1][wall].astype(int) - clip.truth.frames[0][wall]).mean() > 4


def test_a_clip_that_kept_everything_keeps_it() -> None:
    truth = labelled_clip(RAMP, 4)
    lock = PhotoLock(truth.frames[0], LockOptions("colour"))
    made = np.stack([lock.add(frame) for frame in truth.frames])
    assert drift.psnr(made[1:], truth.frames[1:]) > 36


def test_what_cannot_be_locked_comes_back_as_it_was(faded: DegradedClip) -> None:
    frames, photo = faded.frames[:2], faded.truth.frames[0]
    rng = np.random.default_rng(0)
    clutter = photo.copy()
    clutter[::7, :60] = clutter[::5, -60:] = 20
    for shown, word in (
        (np.full_like(photo, 230), "figure"),
        (clutter, ""),
        (np.roll(photo, 40, axis=1), "start"),
        (rng.integers(0, 256, photo.shape, np.uint8), ""),
    ):
        lock = PhotoLock(shown, LockOptions("colour"))
        made = [lock.add(frame) for frame in frames]
        assert lock.report.level == "off" and word in lock.report.reason and lock.report.reason
        np.testing.assert_array_equal(np.stack(made), frames)
    with pytest.raises(ValueError, match="size"):
        PhotoLock(photo, LockOptions("colour")).add(frames[0][:-2])


def test_frames_can_be_taken_again(faded: DegradedClip) -> None:
    frames, report = locked(lambda: iter(faded.frames[:3]), faded.truth.frames[0], LockOptions("colour"))
    first = np.stack(list(frames()))
    np.testing.assert_array_equal(first, np.stack(list(frames())))
    assert report.frames == 3


def test_without_opencv_the_colours_are_locked(faded: DegradedClip, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "cv2", None)
    monkeypatch.setattr("fashionflow_core.lock.photo_lock.is_installed", lambda: False)
    frames, report = locked(lambda: iter(faded.frames[:2]), faded.truth.frames[0], LockOptions("full"))
    assert len(list(frames())) == 2
    assert (report.asked, report.level) == ("full", "colour") and "lock" in report.reason
    with pytest.raises(FashionFlowError, match="extra 'lock'"):
        flow.opencv()


def test_every_damage_grows_with_its_strength() -> None:
    clip = labelled_clip(RAMP, 8)
    for damage in DAMAGES:
        values = []
        for strength in (0.2, 0.6, 1.0):
            made = damaged(clip.frames, clip.labels, damage, strength, np.random.default_rng(1))
            np.testing.assert_array_equal(made[0], clip.frames[0])
            values.append(drift.psnr(made, clip.frames))
        assert values[0] > values[1] > values[2], damage
    with pytest.raises(ValueError, match="unknown damage"):
        damaged(clip.frames, clip.labels, "nothing", 1, np.random.default_rng(1))


@pytest.fixture
def place(tmp_path: Path, faded: DegradedClip) -> Path:
    Image.fromarray(faded.truth.frames[0]).save(tmp_path / "photo.png")
    video.write(iter(faded.frames), tmp_path / "in.mp4", 16, len(faded.frames), {"fashionflow_seed": "3"})
    return tmp_path


def test_the_command_locks_a_video(place: Path, faded: DegradedClip) -> None:
    result = run("lock", "in.mp4", "--photo", "photo.png", "--level", "colour", "--json", cwd=place)
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["path"] == "in-locked.mp4" and report["lock"] == {"asked": "colour", "level": "colour"}
    made = video.read(place / "in-locked.mp4")
    assert len(made) == report["frames"] == len(faded.frames)
    worn = faded.truth.labels == GARMENT
    before, after = (
        drift.cell_drift(frames[1:], faded.truth.frames[0], worn[1:], worn[0])
        for frames in (video.read(place / "in.mp4"), made)
    )
    assert after < 0.7 * before
    written = video.read_metadata(place / "in-locked.mp4")
    assert (written["fashionflow_lock"], written["fashionflow_seed"]) == ("colour", "3")
    again = run("lock", "in.mp4", "--photo", "photo.png", cwd=place)
    assert_refused(again, 1, "in-locked.mp4")
    assert_refused(run("lock", "in.mp4", "--photo", "photo.png", "--level", "all", cwd=place), 2, "level")
    assert_refused(run("lock", "in.mp4", "--photo", "none.png", "-o", "a.mp4", cwd=place), 1, "none.png")


def test_a_video_of_something_else_is_left_alone_and_said_so(place: Path) -> None:
    Image.fromarray(np.full((320, 256, 3), 240, np.uint8)).save(place / "blank.png")
    result = run("lock", "in.mp4", "--photo", "blank.png", "-o", "b.mp4", "--level", "colour", cwd=place)
    assert result.returncode == 0 and "lock: off instead of colour: no figure" in result.stderr


def test_generate_takes_a_level(place: Path, tmp_path: Path) -> None:
    model = build_tiny_model(tmp_path / "tiny")
    arguments = ("-m", model, "--lock", "colour", "--json", "-o", "a.mp4")
    result = run("generate", "photo.png", *arguments, cwd=place)
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["lock"]["asked"] == "colour"
    assert video.read_metadata(place / "a.mp4")["fashionflow_lock"] == "colour"
    plain = run("generate", "photo.png", "-m", model, "--json", "-o", "b.mp4", cwd=place)
    assert json.loads(plain.stdout)["lock"] is None
    assert "fashionflow_lock" not in video.read_metadata(place / "b.mp4")


def test_levels_by_model() -> None:
    mini, latent = (ModelConfig.load(registry.find(name)) for name in ("mini", "mini-latent"))
    assert GenerateSettings().resolve(mini).lock == GenerateSettings().resolve(latent).lock == "off"
    assert GenerateSettings(lock="colour").resolve(latent).lock == "colour"
    assert GenerateSettings().resolve(published_config()).lock == "full"
    assert GenerateSettings(lock="off").resolve(published_config()).lock == "off"
    with pytest.raises(UsageError, match="own pixels"):
        GenerateSettings(lock="full").resolve(mini)
    for make in (LockOptions, lambda level: GenerateSettings(lock=level)):
        with pytest.raises(UsageError, match="lock"):
            make("some")


@pytest.mark.slow
def test_degraded_clips_come_nearer_to_their_truth() -> None:
    pytest.importorskip("cv2")
    gains, before, after = [], 0.0, 0.0
    for seed in range(3_000_100, 3_000_108):
        clip = as_generated(seed, frames=24)
        made, _ = lock(clip, "full")
        truth, worn = clip.truth.frames, clip.truth.labels == GARMENT
        gains.append(drift.psnr(made[1:], truth[1:]) - drift.psnr(clip.frames[1:], truth[1:]))
        before += drift.cell_drift(clip.frames[1:], truth[0], worn[1:], worn[0])
        after += drift.cell_drift(made[1:], truth[0], worn[1:], worn[0])
    # Not every clip gains: docs/concepts/lock.md has the figures.
    assert np.mean(gains) > 2 and np.mean(np.array(gains) > 0) > 0.6 and min(gains) > -2.5
    assert after < 0.6 * before, (after, before, gains)
