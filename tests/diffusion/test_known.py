"""Known frames: pinning, the extra input channels, and the nearest given frame, each against a plain loop."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fashionflow_core.diffusion.known_frames import KnownFrames, nearest_given

FRAMES = 8
MASKS: dict[str, Callable[[int], bool]] = {
    "first": lambda frame: frame == 0,
    "every second": lambda frame: frame % 2 == 0,
    "last three": lambda frame: frame >= FRAMES - 3,
    "both ends": lambda frame: frame in (0, FRAMES - 1),
    "all": lambda frame: True,
}


def _mask(*names: str) -> Tensor:
    return torch.tensor([[float(MASKS[name](frame)) for frame in range(FRAMES)] for name in names])


def _clip(batch: int, channels: int, seed: int = 0) -> Tensor:
    return torch.randn(batch, channels, FRAMES, 3, 2, generator=torch.Generator().manual_seed(seed))


def test_nearest_given_against_a_search():
    generator = torch.Generator().manual_seed(0)
    for frames in (1, 2, 7, 70):
        mask = (torch.rand(40, frames, generator=generator) < 0.3).float()
        mask[torch.arange(40), torch.randint(frames, (40,), generator=generator)] = 1
        expected = [
            [min((j for j in range(frames) if given[j]), key=lambda j: (abs(i - j), j)) for i in range(frames)]
            for given in mask.tolist()
        ]
        assert nearest_given(mask).tolist() == expected


def test_a_tie_goes_to_the_earlier_frame():
    assert nearest_given(torch.tensor([[1.0, 0, 0, 0, 1]])).tolist() == [[0, 0, 0, 4, 4]]


def test_linear_fill_against_a_search():
    """Between two given frames their mixture by distance, beyond them the nearest; without any, zeros."""
    generator = torch.Generator().manual_seed(0)
    for frames in (1, 2, 7, 30):
        masks = (torch.rand(20, frames, generator=generator) < 0.3).float()
        clip = torch.randn(20, 3, frames, 2, 2, generator=generator)
        found = KnownFrames.from_clip(clip, masks, clip, "linear").channels()
        assert found is not None
        for item, mask in enumerate(masks.tolist()):
            given = [frame for frame in range(frames) if mask[frame]]
            for frame in range(frames):
                before = max((g for g in given if g <= frame), default=None)
                after = min((g for g in given if g >= frame), default=None)
                if before is None and after is None:
                    expected = torch.zeros(3, 2, 2)
                elif before is None or after is None or before == after:
                    expected = clip[item, :, before if before is not None else after]
                else:
                    part = (frame - before) / (after - before)
                    expected = (1 - part) * clip[item, :, before] + part * clip[item, :, after]
                torch.testing.assert_close(found[item, :3, frame], expected, atol=1e-6, rtol=0)
                if mask[frame]:
                    assert torch.equal(found[item, :3, frame], clip[item, :, frame])


def test_with_one_side_given_linear_is_nearest():
    """So that a model for generation or extension with the one reads the other alike."""
    clip = _clip(2, 4)
    for name in ("first", "last three"):
        linear, nearest = (
            KnownFrames.from_clip(clip, _mask(name, name), clip, fill).channels() for fill in ("linear", "nearest")
        )
        assert linear is not None and nearest is not None and torch.equal(linear, nearest)


@pytest.mark.parametrize("name", MASKS)
def test_pin_puts_the_given_frames_in_and_touches_no_other(name: str):
    given, sample = _clip(2, 4), _clip(2, 4, seed=1)
    pinned = KnownFrames.from_clip(given, _mask(name, name)).pin(sample)
    for frame in range(FRAMES):
        source = given if MASKS[name](frame) else sample
        assert torch.equal(pinned[:, :, frame], source[:, :, frame])


def test_items_of_a_batch_have_their_own_masks():
    given, sample = _clip(2, 4), _clip(2, 4, seed=1)
    both = KnownFrames.from_clip(given, _mask("first", "last three"), given, "nearest")
    for item, name in enumerate(("first", "last three")):
        alone = KnownFrames.from_clip(given[item : item + 1], _mask(name), given[item : item + 1], "nearest")
        assert torch.equal(both.network_input(sample)[item : item + 1], alone.network_input(sample[item : item + 1]))


def test_pin_takes_the_dtype_of_the_sample():
    known = KnownFrames.from_clip(_clip(1, 4), _mask("first"))
    assert known.pin(_clip(1, 4).bfloat16()).dtype == torch.bfloat16


def test_what_is_not_given_is_not_kept():
    """Nothing of the frames to be made may reach the network: in training they are there in the clip."""
    clip, content = _clip(1, 4), _clip(1, 3, seed=1)
    spoiled, spoiled_content = clip.clone(), content.clone()
    hidden = _mask("every second")[0] == 0
    spoiled[:, :, hidden] = 99
    spoiled_content[:, :, hidden] = 99
    sample = _clip(1, 4, seed=2)
    for fill in ("zero", "nearest"):
        one = KnownFrames.from_clip(clip, _mask("every second"), content, fill)
        other = KnownFrames.from_clip(spoiled, _mask("every second"), spoiled_content, fill)
        assert torch.equal(one.network_input(sample), other.network_input(sample))


@pytest.mark.parametrize("fill", ["zero", "nearest"])
@pytest.mark.parametrize("channels", [3, 4])  # RGB as in paper 3.3; latents
@pytest.mark.parametrize("name", MASKS)
def test_channels_hold_content_and_mask(name: str, channels: int, fill: str):
    content, mask = _clip(2, channels), _mask(name, name)
    found = KnownFrames.from_clip(_clip(2, 4, seed=1), mask, content, fill).channels()
    assert found is not None and found.shape == (2, channels + 1, FRAMES, 3, 2)
    given = [frame for frame in range(FRAMES) if MASKS[name](frame)]
    for frame in range(FRAMES):
        assert torch.equal(found[:, -1, frame], torch.full((2, 3, 2), float(frame in given)))
        if frame in given:
            expected = content[:, :, frame]
        elif fill == "zero":
            expected = torch.zeros(2, channels, 3, 2)
        else:
            expected = content[:, :, min(given, key=lambda other: (abs(other - frame), other))]
        assert torch.equal(found[:, :-1, frame], expected)


def test_network_input_is_the_pinned_sample_and_then_the_channels():
    known = KnownFrames.from_clip(_clip(1, 4), _mask("every second"), _clip(1, 3, seed=1))
    sample = _clip(1, 4, seed=2)
    found = known.network_input(sample)
    assert found.shape[1] == 4 + 3 + 1
    assert torch.equal(found[:, :4], known.pin(sample))
    extra = known.channels()
    assert extra is not None and torch.equal(found[:, 4:], extra)


def test_no_mask_channels_without_content():
    known = KnownFrames.first(_clip(1, 4)[:, :, 0], FRAMES)
    sample = _clip(1, 4, seed=1)
    assert known.channels() is None
    assert torch.equal(known.network_input(sample), known.pin(sample))


@pytest.mark.parametrize("fill", ["zero", "nearest"])
def test_first_is_the_clip_of_which_frame_0_is_given(fill: str):
    latents, content = _clip(2, 4), _clip(2, 3, seed=1)
    first = KnownFrames.first(latents[:, :, 0], FRAMES, content[:, :, 0], fill)
    masked = KnownFrames.from_clip(latents, _mask("first", "first"), content, fill)
    sample = _clip(2, 4, seed=2)
    assert torch.equal(first.mask, masked.mask) and torch.equal(first.latents, masked.latents)
    assert torch.equal(first.network_input(sample), masked.network_input(sample))


@pytest.mark.parametrize("fill", ["zero", "nearest"])
def test_with_nothing_given_the_channels_say_so(fill: str):
    mask = torch.zeros(2, FRAMES)
    mask[0, 0] = 1
    content, sample = _clip(2, 4), _clip(2, 4, seed=1)
    mixed = KnownFrames.from_clip(_clip(2, 4), mask, content, fill).channels()
    assert mixed is not None and mixed[0].any() and not mixed[1].any()
    nothing = KnownFrames.nothing(content[:, :, 0], FRAMES, content[:, :, 0], fill)
    found = nothing.network_input(sample)
    assert torch.equal(nothing.pin(sample), sample) and torch.equal(found[:, :4], sample)
    assert found.shape[1] == 4 + 4 + 1 and not found[:, 4:].any()
