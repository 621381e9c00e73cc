"""Frames between given frames: windows against a plain search, what the network is told, and what comes back."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import Spy, build_tiny_model, tiny_config

from fashionflow_core.config import GenerateSettings
from fashionflow_core.diffusion.interpolation import plan_passes, plan_windows
from fashionflow_core.diffusion.known_frames import nearest_given
from fashionflow_core.errors import FashionFlowError, UsageError
from fashionflow_core.images.fitting import fit
from fashionflow_core.pipeline import FashionFlowPipeline, load
from fashionflow_core.runtimes.preprocessing import normalize_latents

MODES = ("generate", "interpolate")
CONVENTIONS: dict[str, dict[str, Any]] = {
    "bundled": {"known_content": "latents", "mask_fill": "nearest", "interpolate_strides": (2, 4), "frames": 6},
    "paper": {"known_content": "rgb", "interpolate_scheduler": "ddpm", "interpolate_steps": 3},
    "published": {"vae_sample": True, "vae_range": "zero_one", "clip_rescale_twice": True},
}


@pytest.fixture(scope="module", params=CONVENTIONS)
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FashionFlowPipeline:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    return load(build_tiny_model(folder, modes=MODES, **CONVENTIONS[request.param]), device="cpu")


def _video(frames: int, height: int = 64, width: int = 48) -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 256, (frames, height, width, 3), np.uint8))


# ---- windows


@pytest.mark.parametrize("stride", [2, 3, 4])
def test_windows_make_every_frame_once_with_given_frames_where_they_belong(stride: int):
    for count, frames in itertools.product(range(2, 40), (6, 8, 16, 70)):
        windows = plan_windows(count, stride, frames, 2)
        made = [
            (window.start * stride + inside, inside) for window in windows for inside in range(window.skip, window.stop)
        ]
        assert [place for place, _ in made] == list(range((count - 1) * stride + 1))
        assert all((place % stride == 0) == (inside % stride == 0) for place, inside in made)
        assert len({(window.given, window.frames) for window in windows}) == 1  # all of one length
        assert all(w.frames % 2 == 0 and w.stop <= w.frames <= frames and w.start >= 0 for w in windows)
        assert windows[-1].start + windows[-1].given == count
        for one, other in itertools.pairwise(windows):
            assert one.start < other.start <= one.start + one.given - 1  # they share a given frame


def test_a_video_no_longer_than_a_window_is_one_window():
    (window,) = plan_windows(35, 2, 70, 2)
    assert (window.given, window.frames, window.stop, window.skip) == (35, 70, 69, 0)
    assert len(plan_windows(36, 2, 70, 2)) == 2


def test_engines_of_one_length_get_windows_of_that_length():
    """What they make behind the last given frame is thrown away."""
    (window,) = plan_windows(5, 2, 70, 2, range(70, 71))
    assert (window.given, window.frames, window.stop) == (5, 70, 9)
    (window,) = plan_windows(5, 2, 70, 2, range(8, 71, 2))
    assert window.frames == 10


def test_passes_follow_what_the_model_was_trained_for():
    def strides(factor: int, trained: tuple[int, ...]) -> list[tuple[int, int]]:
        passes = plan_passes(5, factor, tiny_config(interpolate_strides=trained), 70, 2)
        return [(windows[0].stride, windows[-1].start + windows[-1].given) for windows in passes]

    assert strides(2, (2,)) == [(2, 5)]
    assert strides(4, (2, 4)) == [(4, 5)]
    assert strides(4, (2,)) == [(2, 5), (2, 9)]  # twice every second
    with pytest.raises(UsageError, match="not trained for 2"):
        strides(2, (4,))
    with pytest.raises(UsageError, match="at least two frames"):
        plan_passes(1, 2, tiny_config(), 70, 2)
    with pytest.raises(UsageError, match="too short for two frames"):
        plan_windows(5, 4, 4, 2)


# ---- what comes back


@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize("frames", [2, 3, 11])
def test_given_frames_come_back_unchanged(tiny: FashionFlowPipeline, frames: int, factor: int):
    given = _video(frames)
    steps: list[tuple[int, int]] = []
    settings = {"interpolate": factor, "fit": "stretch"}
    if factor == 4 and tiny.config.frames == 4:
        settings["frames"] = 8
    made = list(tiny.interpolate(given, frames, on_step=lambda *step: steps.append(step), **settings))
    assert len(made) == (frames - 1) * factor + 1
    assert steps == [(number, len(steps)) for number in range(1, len(steps) + 1)]
    np.testing.assert_array_equal(made[::factor], given)
    assert all(not np.array_equal(made[number], made[0]) for number in range(1, len(made)))


@pytest.mark.parametrize("factor", [2, 4])
def test_a_generated_clip_keeps_its_frames(tiny: FashionFlowPipeline, factor: int):
    (photo,) = _video(1, 90, 60)
    frames = 8
    plain = tiny.generate(photo, frames=frames, seed=3)
    longer = tiny.generate(photo, frames=frames, seed=3, interpolate=factor)
    assert (longer.count, longer.fps) == ((frames - 1) * factor + 1, plain.fps * factor)
    assert torch.equal(longer.latents[:, :, ::factor], plain.latents)
    between = longer.latents[:, :, 1::factor]
    assert between.isfinite().all() and between.std() > 0.1
    shown = list(longer.frames)
    assert len(shown) == longer.count
    np.testing.assert_allclose(np.stack(shown[::factor]).astype(int), np.stack(list(plain.frames)), atol=1)
    assert longer.metadata["fashionflow_interpolate"] == str(factor)
    again = tiny.generate(photo, frames=frames, seed=3, interpolate=factor)
    assert torch.equal(again.latents, longer.latents)
    assert not torch.equal(tiny.generate(photo, frames=frames, seed=4, interpolate=factor).latents, longer.latents)


def test_the_duration_stays_unless_a_rate_is_asked_for(tiny: FashionFlowPipeline):
    (photo,) = _video(1)
    assert tiny.generate(photo, steps=1, interpolate=2, fps=30).fps == 30
    assert tiny.plan(steps=1, interpolate=2).fps == 50


def test_the_network_is_told_which_frames_are_given(tiny: FashionFlowPipeline):
    spy: Any = Spy(tiny.networks)
    spied = FashionFlowPipeline(spy, tiny.conditioner.processor, tiny.config, tiny.make_scheduler)
    given = _video(5)
    list(spied.interpolate(given, 5, fit="stretch", steps=2, frames=6))  # what is asked for goes before the model's
    assert len(spy.calls) == 2 * 2  # two windows of three given frames, two steps
    channels = tiny.networks.latent_channels
    if tiny.config.vae_sample:
        return
    for call, start in zip(spy.calls, (0, 0, 2, 2)):
        sample, _, context = call
        for place in range(3):
            latents, content = spied.conditioner.encode_frame(given[start + place], torch.Generator())
            assert torch.equal(sample[:, :channels, 2 * place], latents)
            if content is not None:
                assert torch.equal(sample[:, channels:-1, 2 * place], content)
                assert (sample[:, -1, 2 * place] == 1).all() and (sample[:, -1, 2 * place + 1] == 0).all()
        if tiny.config.mask_fill == "nearest":
            nearest = nearest_given(torch.tensor([[1.0, 0, 1, 0, 1, 0]]))[0]
            assert torch.equal(sample[:, channels:-1], sample[:, channels:-1, nearest])
        # The context is that of the window's own first frame.
        first, _ = spied.conditioner.encode_frame(given[start], torch.Generator())
        assert torch.equal(context, spied.conditioner.context(given[start][None], first))


def test_no_more_frames_are_taken_than_a_window_needs(tiny: FashionFlowPipeline):
    taken = 0

    def frames() -> Iterator[np.ndarray]:
        nonlocal taken
        for frame in _video(9):
            taken += 1
            yield frame

    made = tiny.interpolate(frames(), 9, steps=1, frames=4)
    assert taken == 0
    next(made)
    assert taken == 2
    list(made)
    assert taken == 9


def test_bars_are_cut_off_again(tiny: FashionFlowPipeline):
    given = _video(3, 50, 20)
    box = fit(given[0], 64, 48).box
    assert box.width < 48
    assert {frame.shape for frame in tiny.interpolate(given, 3, steps=1, fit="pad")} == {(box.height, box.width, 3)}


def test_a_video_that_ends_early_is_an_error(tiny: FashionFlowPipeline):
    made = tiny.interpolate(_video(4), 9, steps=1, frames=4)
    with pytest.raises(FashionFlowError, match="ends early, after 4 frames"):
        list(made)
    with pytest.raises(FashionFlowError, match="no frames"):
        list(tiny.interpolate([], 9, steps=1))


def test_models_that_were_not_trained_for_it_are_refused(tmp_path: Path):
    plain = load(build_tiny_model(tmp_path / "plain"), device="cpu")
    (photo,) = _video(1)
    for refused in (
        lambda: plain.generate(photo, interpolate=2),
        lambda: plain.interpolate(_video(3), 3),
        lambda: plain.plan(interpolate=4),
    ):
        with pytest.raises(UsageError, match="model tiny was not trained for interpolation"):
            refused()
    both = build_tiny_model(tmp_path / "both", modes=MODES, conditioning=("both", "global"))
    with pytest.raises(UsageError, match="global conditioning has no given frames"):
        load(both, device="cpu").generate(photo, interpolate=2, conditioning="global")
    with pytest.raises(UsageError, match="interpolate: must be 2 or 4"):
        plain.generate(photo, interpolate=3)


def test_local_conditioning_leaves_the_context_out(tmp_path: Path):
    folder = build_tiny_model(tmp_path / "local", modes=MODES, conditioning=("local",))
    tiny = load(folder, device="cpu")
    spy: Any = Spy(tiny.networks)
    list(
        FashionFlowPipeline(spy, tiny.conditioner.processor, tiny.config, tiny.make_scheduler).interpolate(
            _video(3), 3, steps=1
        )
    )
    assert spy.calls and not any(context.any() for _, _, context in spy.calls)


def test_the_plan_counts_what_is_done(tiny: FashionFlowPipeline):
    spy: Any = Spy(tiny.networks)
    spied = FashionFlowPipeline(spy, tiny.conditioner.processor, tiny.config, tiny.make_scheduler)
    plan = spied.plan(frames=6, interpolate=4)
    clip = spied.generate(_video(1)[0], frames=6, interpolate=4)
    assert (plan.frames, plan.fps) == (clip.count, clip.fps)
    assert (
        plan.unet_calls == len(spy.calls) == spied.count_steps(spied.resolve(GenerateSettings(frames=6, interpolate=4)))
    )
    video = spied.plan(interpolate=2, video_frames=9)
    spy.calls.clear()
    assert len(list(spied.interpolate(_video(9), 9))) == video.frames == 17
    assert (video.steps, video.scheduler) == ((3, "ddpm") if tiny.config.interpolate_steps else (2, "ddim"))
    assert video.unet_calls == len(spy.calls)


def test_latents_that_are_pinned_are_normalised(tiny: FashionFlowPipeline):
    """As in generation: the first given frame of both is the same."""
    (photo,) = _video(1)
    local, _, _ = tiny.conditioner.encode(photo[None], [torch.Generator().manual_seed(0)])
    alone, _ = tiny.conditioner.encode_frame(photo, torch.Generator().manual_seed(0))
    assert torch.equal(local, alone)
    assert normalize_latents(torch.zeros(1, 4, 1, 1), tiny.config).flatten()[0] == pytest.approx(-0.1)
