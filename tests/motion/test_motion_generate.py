"""Generation by motion: any size, length and rate, loops, continued clips, batches, and photos that cannot be moved."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_motion import build_tiny_motion_model, paper_doll

from fashionflow_core import pipeline
from fashionflow_core.config import GenerateSettings
from fashionflow_core.diffusion.clip import Clip
from fashionflow_core.errors import FashionFlowError, FashionFlowWarning, UsageError
from fashionflow_core.motion.control import controlled, safe_turn, shift_of, turn_of
from fashionflow_core.motion.distance import Variations, motion_distance
from fashionflow_core.motion.figure_box import GRID, FigureBox
from fashionflow_core.motion.handmade import handmade_motion
from fashionflow_core.motion.keyframes import GIVEN, plan_keyframes
from fashionflow_core.pipeline import FashionFlowPipeline


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_motion_model(tmp_path_factory.mktemp("motion") / "model")


@pytest.fixture(scope="module")
def pipe(model: Path) -> FashionFlowPipeline:
    return pipeline.load(model, device="cpu")


def frames_of(clip: Clip) -> np.ndarray:
    frames = np.stack(list(clip.frames))
    assert frames.shape == (clip.count, clip.height, clip.width, 3) and frames.dtype == np.uint8
    return frames


def test_the_first_frame_is_the_photo_and_the_rest_moves(pipe: FashionFlowPipeline) -> None:
    photo, mask = paper_doll()
    frames = frames_of(pipe.generate(photo, seed=1, matte=mask))
    assert len(frames) == 12
    assert np.array_equal(frames[0], photo)
    assert np.abs(frames[-1].astype(int) - photo)[mask > 0].mean() > 0.5
    # The wall far from the figure stays as it is.
    assert np.array_equal(frames[-1][:, :12], photo[:, :12])


@pytest.mark.parametrize("size", [(160, 128), (200, 128), (90, 160), (320, 256)])
def test_any_size(pipe: FashionFlowPipeline, size: tuple[int, int]) -> None:
    photo, mask = paper_doll()
    clip = pipe.generate(photo, size=size, frames=2, matte=mask)
    scale = min(size[0] / 160, size[1] / 128)
    assert abs(clip.height - 160 * scale) <= 2 and abs(clip.width - 128 * scale) <= 2  # the photo's aspect, no bars
    frames_of(clip)


def test_large_photos_are_reduced_unless_their_own_size_is_asked(pipe: FashionFlowPipeline) -> None:
    photo, mask = paper_doll(1400, 280)
    clip = pipe.generate(photo, frames=2, matte=mask)
    assert (clip.height, clip.width) == (1280, 256)
    clip = pipe.generate(photo, frames=2, size="photo", matte=mask)
    assert (clip.height, clip.width) == (1400, 280)


def test_odd_sides_lose_a_row_or_column_and_no_sharpness(pipe: FashionFlowPipeline) -> None:
    photo, mask = paper_doll(161, 127)
    frames = frames_of(pipe.generate(photo, frames=2, matte=mask))
    assert np.array_equal(frames[0], photo[:160, :126])


@pytest.mark.parametrize(
    ("settings", "count", "fps"),
    [
        ({}, 12, 24.0),
        ({"fps": 12}, 6, 12.0),  # as long, of fewer frames
        ({"fps": 60}, 30, 60.0),
        ({"frames": 20}, 20, 24.0),
        ({"duration": 2.0}, 48, 24.0),
        ({"interpolate": 2}, 23, 48.0),
        ({"loop": True}, 12, 24.0),
        ({"duration": 2.5, "loop": True, "fps": 10}, 25, 10.0),
    ],
)
def test_length_and_rate(pipe: FashionFlowPipeline, settings: dict, count: int, fps: float) -> None:
    photo, mask = paper_doll(80, 64)
    clip = pipe.generate(photo, matte=mask, **settings)
    assert (clip.count, clip.fps) == (count, fps)
    assert len(frames_of(clip)) == count


def test_more_frames_are_the_same_motion(pipe: FashionFlowPipeline) -> None:
    photo, mask = paper_doll()
    some = pipe.generate(photo, seed=3, matte=mask).latents
    for factor in (2, 4):
        more = pipe.generate(photo, seed=3, matte=mask, interpolate=factor).latents
        assert np.allclose(some, more[:, :, ::factor], atol=1e-6)
        # Smooth: no step is larger than its part of the largest step of the coarse motion, plus the spline's bow.
        coarse, fine = (float(found.diff(dim=2).abs().max()) for found in (some, more))
        assert fine <= 1.5 * coarse / factor


def test_a_loop_comes_back_without_a_jump(pipe: FashionFlowPipeline) -> None:
    photo, mask = paper_doll()
    for duration in (0.5, 2.0):
        motion = pipe.generate(photo, seed=2, matte=mask, loop=True, duration=duration).latents[0].numpy()
        steps = np.abs(np.diff(motion, axis=1)).mean(axis=(0, 2, 3))
        home = np.abs(motion[:, -1] - motion[:, 0]).mean()  # the step from the last frame to the first one
        assert home <= 1.5 * steps.max()


def test_a_longer_clip_continues_without_seams(pipe: FashionFlowPipeline) -> None:
    photo, mask = paper_doll()
    motion = pipe.generate(photo, seed=2, matte=mask, duration=2.0).latents[0].numpy()
    short = pipe.generate(photo, seed=2, matte=mask).latents[0].numpy()
    assert motion.shape[1] == 48
    # The second window continues the first one, which is the short clip but for its very end; how the figure faces the
    # camera is fitted to the whole clip.
    assert np.abs(motion[:, :9] - short[:, :9]).max() < 0.05 * np.abs(short).max()


def test_windows_cover_the_clip() -> None:
    for seconds in (0.2, 1.0, 2.76, 3.1, 10.0, 61.3):
        for loop in (False, True):
            plan = plan_keyframes(seconds, 12, 0.25, loop)
            frames = plan.windows[0].frames + sum(w.frames - GIVEN for w in plan.windows[1:])
            assert (frames - 1) * plan.spacing >= seconds - 1e-9
            assert all(window.frames % 2 == 0 for window in plan.windows)
            assert plan.windows[-1].closes == loop and not any(w.closes for w in plan.windows[:-1])


def test_seeds_and_variations_differ_and_repeat(pipe: FashionFlowPipeline) -> None:
    photo, mask = paper_doll()
    first = pipe.generate(photo, seed=1, matte=mask).latents
    again = pipe.generate(photo, seed=1, matte=mask).latents
    other = pipe.generate(photo, seed=1, item=1, matte=mask).latents
    assert np.array_equal(first, again)
    variations = Variations()
    assert variations.add("doll", first) is None
    assert variations.add("doll", again) == 0
    distance = variations.add("doll", other)
    assert distance is not None and distance > 0.2
    assert variations.add("another doll", first) is None
    assert motion_distance(first[0], -first[0]) == pytest.approx(2)


def test_a_batch_is_what_its_items_are_alone(pipe: FashionFlowPipeline) -> None:
    (photo, mask), (large, large_mask) = paper_doll(), paper_doll(200, 160)
    settings = [GenerateSettings(seed=1), GenerateSettings(seed=2, duration=1.0)]
    together = pipe.generate_batch([photo, large], settings, [0, 5], mattes=[mask, large_mask])
    for clip, pixels, matte, request, item in zip(together, (photo, large), (mask, large_mask), settings, (0, 5)):
        (alone,) = pipe.generate_batch([pixels], [request], [item], mattes=[matte])
        found, expected = frames_of(clip).astype(int), frames_of(alone).astype(int)
        assert np.abs(found - expected).max() <= 1


def test_the_turn_is_what_is_asked_for() -> None:
    _, mask = paper_doll()
    box = FigureBox.of(mask)
    cells = box.resample(mask, *GRID, outside=0.0)
    predicted = torch.from_numpy(handmade_motion(mask, box, np.arange(12) * 0.25, seed=0, turn=12.0))

    def peak(channels: torch.Tensor) -> float:
        return float(np.degrees(np.abs(turn_of(channels, cells, box)).max()))

    for degrees in (0.0, 5.0, 10.0, 17.0):
        assert peak(controlled(predicted, cells, box, "turn", degrees)) == pytest.approx(degrees, abs=1.0)
    # A network that hardly turns is not blown up to a large turn.
    assert peak(controlled(predicted, cells, box, "turn", 35.0)) < 2 * peak(predicted)
    swaying = controlled(predicted, cells, box, "sway", peak(predicted))
    assert peak(swaying) < 0.4 * peak(predicted)
    middle = box.resample(mask, *GRID, outside=0.0) > 0.5

    def sideways(channels: torch.Tensor) -> np.ndarray:
        return (channels[0].numpy() * middle).sum(axis=-1) / np.maximum(middle.sum(axis=-1), 1)

    assert np.allclose(sideways(swaying), sideways(predicted), atol=2e-3)  # sideways motion stays


def test_the_shift_of_the_figure_is_multiplied_and_nothing_else() -> None:
    _, mask = paper_doll()
    box = FigureBox.of(mask)
    cells = box.resample(mask, *GRID, outside=0.0)
    predicted = torch.from_numpy(handmade_motion(mask, box, np.arange(12) * 0.25, seed=0, turn=12.0))
    one, more = (controlled(predicted, cells, box, "turn", 12.0, gain) for gain in (1.0, 2.5))
    torch.testing.assert_close(shift_of(more, cells) - shift_of(one, cells), 1.5 * shift_of(predicted, cells))
    added = more - one
    assert added[0].abs().max() > 1e-3 and torch.equal(added[1:], torch.zeros_like(added[1:]))
    assert float((added[0].amax(dim=(1, 2)) - added[0].amin(dim=(1, 2))).max()) < 1e-6  # the figure moves as a whole
    assert added[:, 0].abs().max() < 1e-6  # the photo


def test_a_smaller_turn_is_that_of_the_figure() -> None:
    """Channels of a figure that turns by 48 degrees, scaled to 24, against those of the same figure turning by 24."""
    _, mask = paper_doll()
    box = FigureBox.of(mask)
    cells = box.resample(mask, *GRID, outside=0.0)
    times = np.arange(12) * 0.25
    far, near = (torch.from_numpy(handmade_motion(mask, box, times, seed=0, turn=t)) for t in (48.0, 24.0))
    seen = torch.from_numpy(cells > 0.5)

    def error(found: torch.Tensor) -> float:
        return float(((found - near)[0] * seen).square().mean().sqrt() / (near[0] * seen).square().mean().sqrt())

    asked = float(np.degrees(np.abs(turn_of(near, cells, box)).max()))
    peak = float(np.degrees(np.abs(turn_of(far, cells, box)).max()))
    assert error(controlled(far, cells, box, "turn", asked)) < 0.25
    assert error(far * (asked / peak)) > 0.35  # all channels in proportion


def test_wide_figures_turn_less() -> None:
    box = FigureBox.of(paper_doll()[1])
    narrow, wide = safe_turn(25.0, 0.1 * box.figure_height, box), safe_turn(25.0, 0.3 * box.figure_height, box)
    assert narrow == 25.0 and 5 < wide < 20


def test_simple_motion_needs_no_network(pipe: FashionFlowPipeline) -> None:
    steps = []
    photo, mask = paper_doll()
    clip = pipe.generate(photo, matte=mask, motion="simple", motion_amount=10.0, on_step=lambda *s: steps.append(s))
    assert not steps and frames_of(clip).std(axis=0).max() > 1


def test_photos_without_a_figure_are_pushed_by_the_camera(pipe: FashionFlowPipeline) -> None:
    photo = np.random.default_rng(0).integers(0, 255, (96, 80, 3), np.uint8)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        clip = pipe.generate(photo, seed=1)
    frames = frames_of(clip)
    assert np.array_equal(frames[0], photo) and not np.array_equal(frames[-1], photo)
    assert [one for one in caught if issubclass(one.category, FashionFlowWarning) and "camera" in str(one.message)]
    assert len(clip.warnings) == 1


def test_a_camera_loop_ends_where_it_began(pipe: FashionFlowPipeline) -> None:
    photo = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    with pytest.warns(FashionFlowWarning):
        frames = frames_of(pipe.generate(photo, loop=True, duration=1.0)).astype(int)
    step = np.abs(np.diff(frames, axis=0)).mean(axis=(1, 2, 3))
    assert np.abs(frames[-1] - frames[0]).mean() <= step.max()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"conditioning": "local"}, "conditioning"),
        ({"motion_amount": 36.0}, "motion_amount"),
        ({"motion": "dance"}, "motion"),
        ({"size": "large"}, "size"),
        ({"frames": 10, "duration": 1.0}, "duration"),
        ({"duration": 1e7}, "duration"),
    ],
)
def test_what_it_cannot_do_is_one_line(pipe: FashionFlowPipeline, settings: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        pipe.generate(paper_doll()[0], **settings)


def test_appearance_models_refuse_motion(tmp_path: Path) -> None:
    from tiny import build_tiny_model

    other = pipeline.load(build_tiny_model(tmp_path / "tiny"), device="cpu")
    photo, mask = paper_doll(64, 48)
    asked: list[tuple[str, dict]] = [
        ("motion", {"motion": "turn"}),
        ("loop", {"loop": True}),
        ("duration", {"duration": 2.0}),
        ("size", {"size": "photo"}),
        ("matte", {"matte": mask}),
    ]
    for option, settings in asked:
        with pytest.raises(UsageError, match=option):
            other.generate(photo, **settings)


def test_a_motion_model_fills_in_no_finished_videos(pipe: FashionFlowPipeline) -> None:
    with pytest.raises(UsageError, match="finished video"):
        pipe.interpolate(iter([]), 2)
    with pytest.raises(UsageError, match="finished video"):
        pipe.plan(video_frames=10)


def test_the_plan_counts_what_is_done(pipe: FashionFlowPipeline) -> None:
    steps = []
    clip = pipe.generate(paper_doll()[0], matte=paper_doll()[1], duration=1.0, on_step=lambda n, of: steps.append(of))
    plan = pipe.plan(duration=1.0, photo=paper_doll()[0], measure=True)
    assert len(steps) == steps[0] == plan.unet_calls == plan.steps * plan.clips
    assert (plan.frames, plan.height, plan.width) == (clip.count, clip.height, clip.width)
    assert plan.seconds is not None and plan.seconds > 0 and plan.tflop["unet"] > 0


def test_a_broken_folder_is_named(model: Path, tmp_path: Path) -> None:
    import shutil

    from fashionflow_core.store.folder import damage

    assert damage(model) == []
    shutil.copytree(model, tmp_path / "model")
    shutil.rmtree(tmp_path / "model" / "parser")
    assert any("parser" in line for line in damage(tmp_path / "model"))
    with pytest.raises(FashionFlowError, match="parser"):
        pipeline.load(tmp_path / "model", device="cpu")
