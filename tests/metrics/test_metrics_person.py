"""Skin, silhouettes, first frames and SSIM: laws, rendered figures, and an independent SSIM."""

import numpy as np
import pytest
import torch
from golden.named_weights import named_video

from fashionflow_core.images.lab import srgb_to_lab
from fashionflow_core.metrics import drift, person
from fashionflow_core.metrics.garment import frame_palette, skin_mask
from fashionflow_core.metrics.ssim import ssim
from fashionflow_core.synthetic.clips import render_clip
from fashionflow_core.synthetic.figure import SKIN_TONES


def masks_of(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    palette = frame_palette(frames[0])
    figure = np.stack([drift.figure_mask(frame) for frame in frames])
    worn = [drift.garment_mask(frame, palette) for frame in frames]
    return np.stack([skin_mask(f, palette, whole, g) for f, whole, g in zip(frames, figure, worn)]), figure


@pytest.mark.parametrize(
    ("lab", "group"),
    [
        ((80, 5, 15), "very light"),
        ((70, 10, 18), "light"),
        ((62, 10, 18), "intermediate"),
        ((55, 12, 20), "tan"),
        ((42, 12, 18), "brown"),
        ((28, 8, 10), "dark"),
        ((50, 0, 0), "brown"),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else None,
)
def test_skin_groups(lab: tuple[float, ...], group: str):
    assert person.skin_group(np.array(lab, np.float32)) == group


def test_every_tone_of_the_renderer_has_a_group_in_order():
    def angle(colour: str) -> float:
        rgb = np.array([int(colour.lstrip("#")[i : i + 2], 16) for i in (0, 2, 4)], np.uint8)
        lab = srgb_to_lab(rgb)
        return float(np.degrees(np.arctan2(lab[0] - 50, lab[2])))

    order = list(person.SKIN_GROUPS.values())
    groups = [
        order.index(next(group for least, group in person.SKIN_GROUPS.items() if angle(colour) > least))
        for colour in sorted(SKIN_TONES.values(), key=angle, reverse=True)
    ]
    assert groups == sorted(groups) and len(set(groups)) >= 4


@pytest.mark.parametrize("seed", [1_000_001, 1_000_004, 1_000_007])
def test_skin_drift_sees_a_changed_skin(seed: int):
    """The rendered figure keeps its skin; one whose skin alone is darkened, frame by frame, does not."""
    frames = render_clip(seed, frames=8, height=320, width=256).frames
    skin, figure = masks_of(frames)
    held = person.skin_drift(frames, skin, figure)
    still = np.repeat(frames[:1], 4, axis=0)
    assert person.skin_drift(still, np.repeat(skin[:1], 4, axis=0), np.repeat(figure[:1], 4, axis=0))
    if held is None:  # a figure covered up to the chin
        assert skin[0].mean() < 0.01
        return
    changed = frames.copy()
    for index in range(1, len(frames)):
        changed[index][skin[index]] = (frames[index][skin[index]] * 0.75).astype(np.uint8)
    drifted = person.skin_drift(changed, skin, figure)
    assert drifted is not None and drifted[0] == held[0]
    assert drifted[1] > held[1] + 4


def test_still_and_dissolving_silhouettes():
    figure = np.zeros((6, 40, 30), bool)
    figure[:, 5:35, 10:20] = True
    assert person.silhouette_correlation(figure) == pytest.approx(1)
    noisy = figure ^ (np.random.default_rng(0).random(figure.shape) < 0.2)
    value = person.silhouette_correlation(noisy)
    assert value is not None and value < 0.8
    gone = figure.copy()
    gone[3:] = False
    assert person.silhouette_correlation(gone) == pytest.approx(2 / 3)
    assert person.silhouette_correlation(np.zeros_like(figure)) is None
    assert person.silhouette_correlation(np.ones_like(figure)) == 1


def test_turning_together():
    widths = np.sin(np.linspace(0, 3, 20)) + 2
    assert person.width_correlation(widths, 3 * widths) == pytest.approx(1)
    assert person.width_correlation(widths, -widths) == pytest.approx(-1)
    assert person.width_correlation(widths, np.ones(20)) is None


def test_first_step():
    slope = np.arange(10, dtype=np.uint8)[:, None, None, None] * 2 + np.zeros((10, 8, 8, 3), np.uint8)
    assert person.first_step(slope) == pytest.approx(1)
    jumped = slope.copy()
    jumped[0] = 40
    value = person.first_step(jumped)
    assert value is not None and value > 10
    assert person.first_step(np.repeat(slope[:1], 4, axis=0)) is None


def test_ssim_laws_and_an_independent_one():
    image = pytest.importorskip("torchmetrics.functional.image", reason="torchmetrics comes with the extra dev")
    clip = named_video("ssim", (3, 40, 32))
    rng = np.random.default_rng(0)
    noisy = [np.clip(clip + rng.normal(0, s, clip.shape), 0, 255).astype(np.uint8) for s in (5, 20, 60)]
    values = [ssim(other, clip) for other in (clip, *noisy)]
    assert values[0] == 1 and values == sorted(values, reverse=True)
    assert ssim(noisy[0], clip) == pytest.approx(ssim(clip, noisy[0]))
    tensors = [torch.from_numpy(c).permute(0, 3, 1, 2).double() / 255 for c in (noisy[1], clip)]
    _, everywhere = image.structural_similarity_index_measure(*tensors, data_range=1.0, return_full_image=True)
    expected = float(everywhere[..., 5:-5, 5:-5].mean())  # torchmetrics' own mean counts the mirrored border too
    assert ssim(noisy[1], clip) == pytest.approx(expected, rel=1e-6)
    with pytest.raises(ValueError, match="11x11"):
        ssim(clip[:, :8], clip[:, :8])
