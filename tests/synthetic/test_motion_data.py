"""Motion clips: the geometry of drawn figures, true channels, files, and `fashionflow data synth --motion`."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from fashionflow_cli.data import app
from fashionflow_core.errors import FashionFlowError
from fashionflow_core.images import parts as labels
from fashionflow_core.motion.figure_box import GRID, FigureBox
from fashionflow_core.motion.layers import visible_e
from fashionflow_core.synthetic import geometry
from fashionflow_core.synthetic.clips import render_clip, studio_background
from fashionflow_core.synthetic.figure import Figure, sample_figure
from fashionflow_core.synthetic.geometry import Moment
from fashionflow_core.synthetic.motion_clips import (
    CROP,
    continued,
    make_motion_clip,
    read_motion_clip,
    sample_placed,
    true_channels,
    write_motion_clip,
)
from fashionflow_core.synthetic.raster import Stack, material
from fashionflow_core.synthetic.scenery import busy_background
from fashionflow_core.training.motion_augment import mirrored_channels

SIZE = (320, 256)


def still(figure: Figure, **changes: Any) -> Figure:
    """The figure without any motion but `changes`."""
    none = {"sway": 0.0, "swing": 0.0, "step": 0.0, "lag": 0.0, "shifts": (0.0,) * len(figure.motion.times)}
    return replace(figure, motion=replace(figure.motion, **(none | changes)))


# ---- geometry


@pytest.mark.parametrize("seed", [1, 3, 9])
def test_the_surface_is_what_the_rasteriser_draws(seed: int) -> None:
    figure = sample_figure(seed)
    moment = Moment(figure, 0.8, *SIZE)
    frame, alpha = moment.draw(studio_background(figure, *SIZE))
    clip = render_clip(seed, height=SIZE[0], width=SIZE[1], frame_indices=[20])
    np.testing.assert_array_equal(frame, clip.frames[0])
    found = moment.surface()
    assert (found.seen & (alpha > 0.5)).sum() > 0.97 * (found.seen | (alpha > 0.5)).sum()
    assert found.seen[alpha == 1].mean() > 0.999 and found.seen[alpha == 0].mean() < 1e-3
    assert (found.part[~found.seen] == labels.BACKGROUND).all() and (found.part[found.seen] > 0).all()
    # Cloth is part of upper, lower and sleeves alone; trousers, skirts and shirts of nothing else.
    garment = clip.garment_mask[0] & found.seen
    cloth = np.isin(found.part, [labels.UPPER, labels.LOWER, labels.ARM_LEFT, labels.ARM_RIGHT])
    assert cloth[garment].mean() > 0.99
    bare = np.isin(found.part, [labels.HEAD, labels.HAIR, labels.LEGS, labels.SHOES])
    assert clip.garment_mask[0][bare].mean() < 0.05


def test_left_and_right_are_those_of_the_picture() -> None:
    figure = still(sample_figure(5))
    for degrees in (0, 180):
        turned = still(figure, yaws=(float(np.radians(degrees)),) * len(figure.motion.times))
        part = Moment(turned, 0.0, *SIZE).surface().part
        columns = [np.nonzero(part == arm)[1].mean() for arm in (labels.ARM_LEFT, labels.ARM_RIGHT)]
        assert columns[0] < columns[1]


@pytest.mark.parametrize("seed", [2, 3, 6])
def test_points_lie_where_they_were_seen(seed: int) -> None:
    moment = Moment(sample_figure(seed), 0.5, *SIZE)
    found = moment.surface()
    places = moment.places(found.points())
    y, x = np.nonzero(found.seen)
    for got, expected in ((places.x, x + 0.5), (places.y, y + 0.5)):
        assert np.percentile(np.abs(got - expected), 99) < 0.05 and np.abs(got - expected).max() < 3
    assert (places.facing > 0).all()
    behind = moment.places(moment.behind(found.points()))
    outside = ~found.lining[found.seen]
    apart = np.abs(behind.x - places.x)[outside]  # a leaning limb's far side lies a little higher in the picture
    assert np.median(apart) < 0.6 and np.percentile(apart, 99) < 4
    assert (behind.z <= places.z + 1e-9)[outside].all()


def test_points_are_found_again_at_another_time() -> None:
    figure = sample_placed(12).figure
    before, after = Moment(figure, 0.0, *SIZE), Moment(figure, 0.6, *SIZE)
    points = before.surface().points()
    places, seen = after.places(points), after.surface()
    y, x = places.y.astype(int).clip(0, SIZE[0] - 1), places.x.astype(int).clip(0, SIZE[1] - 1)
    visible = (places.facing > 0.2) & (np.abs(seen.depth[y, x] - places.z) < 0.003) & (seen.stack[y, x] == points.stack)
    assert visible.mean() > 0.5
    assert np.abs(seen.knot[y, x] - points.knot)[visible].max() < 2.5
    turn = np.angle(np.exp(1j * (seen.angle[y, x] - points.angle)))[visible]
    assert np.percentile(np.abs(turn), 95) < 0.35


def test_stacks_keep_their_numbers() -> None:
    for seed in (48, 5, 17):
        figure = sample_placed(seed).figure
        kinds = {tuple((len(s.v), s.part) for s in Moment(figure, t, *SIZE).stacks) for t in (0.0, 0.5, 1.1, 1.9)}
        assert len(kinds) == 1


# ---- channels


def test_channels_of_a_turning_cylinder_are_its_geometry(monkeypatch: pytest.MonkeyPatch) -> None:
    """x + ax + b e = x cos(yaw) + z sin(yaw) with e = z: ax = x (cos - 1), b = sin, dz = -x sin."""
    figure = replace(still(sample_figure(0)), pitch=0.0, centre=0.5)
    v, skin = np.linspace(0.05, 0.95, 40), material(np.array([0.5, 0.5, 0.5]))
    turn = {0.0: 0.0, 1.0: np.radians(20), 2.0: np.radians(-35)}

    def stacks(_wardrobe: Any, t: float) -> list[Stack]:
        return [Stack(v, 0.0, 0.0, np.full(40, 0.15), np.full(40, 0.1), turn[t], skin, part=labels.UPPER)]

    monkeypatch.setattr(geometry, "figure_stacks", stacks)
    rest = Moment(figure, 0.0, *SIZE)
    surface = rest.surface()
    e = np.where(surface.seen, surface.depth, 0) * rest.body
    box = FigureBox.of(surface.seen.astype(np.float32))
    channels, cover = true_channels(figure, np.array([0.0, 1.0, 2.0]), box, e.astype(np.float32), SIZE)
    assert not channels[:, 0].any()
    rows, columns = np.indices(GRID)
    x = (columns + 0.5) / GRID[1] * box.width + box.left - rest.axis
    full = cover > 0.99
    assert full.sum() > 200
    for k, yaw in ((1, turn[1.0]), (2, turn[2.0])):
        ax, ay, b, dz = channels[:, k]
        np.testing.assert_allclose((ax * box.figure_height)[full], (x * (np.cos(yaw) - 1))[full], atol=0.25)
        np.testing.assert_allclose(b[full], np.sin(yaw), atol=1e-3)
        np.testing.assert_allclose((dz * box.figure_height)[full], (-x * np.sin(yaw))[full], atol=0.8)
        np.testing.assert_allclose(ay[full], 0, atol=1e-6)


def test_channels_of_a_shifted_figure_are_the_shift() -> None:
    figure = still(sample_figure(4))
    count = len(figure.motion.times)
    figure = still(figure, yaws=(0.0,) * count, shifts=tuple(0.01 * k for k in range(count)), step_hz=0.0, phase=0.0)
    moment = Moment(figure, 0.0, *SIZE)
    alpha = moment.surface().seen.astype(np.float32)
    box = FigureBox.of(alpha)
    t = 0.7
    channels, cover = true_channels(figure, np.array([0.0, t]), box, visible_e(alpha, None), SIZE)
    shift = float(figure.motion.shift(t)) * moment.body / box.figure_height
    on = cover > 0.5
    assert abs(shift) > 0.001
    np.testing.assert_allclose(channels[0, 1][on], shift, atol=1e-4)
    np.testing.assert_allclose(channels[1:, 1][:, on], 0, atol=1e-4)


def mirror(figure: Figure) -> Figure:
    """The figure as a mirror shows it: half a period later, its left and right change places."""
    motion = figure.motion
    return replace(
        figure,
        centre=1 - figure.centre,
        arms=figure.arms[::-1],
        motion=replace(
            motion,
            yaws=tuple(-yaw for yaw in motion.yaws),
            shifts=tuple(-shift for shift in motion.shifts),
            phase=motion.phase + np.pi,
        ),
    )


def test_the_mirrored_figure_has_mirrored_channels() -> None:
    figure = sample_placed(8).figure
    times = np.array([0.0, 0.5, 1.0])
    found = []
    for one in (figure, mirror(figure)):
        moment = Moment(one, 0.0, *SIZE)
        alpha = moment.surface().seen.astype(np.float32)
        part = moment.surface().part
        found.append(true_channels(one, times, FigureBox.of(alpha), visible_e(alpha, part), SIZE))
    (channels, cover), (other, _) = found
    turned = mirrored_channels(torch.from_numpy(other)).numpy()
    inner = cover > 0.9
    for k, allowed in enumerate((0.002, 0.002, 0.06, 0.004)):
        error = np.abs(turned[k] - channels[k])[:, inner]
        assert np.percentile(error, 95) < allowed, k
    assert np.abs(channels[:, 1:, inner]).mean() > 0.005


def test_fields_are_continued_without_steps() -> None:
    cover = np.zeros(GRID)
    cover[10:30, 8:24] = 1
    field = np.linspace(1, 2, 32) * np.ones(GRID)
    made = continued(field * cover, cover)
    np.testing.assert_allclose(made[cover == 1], field[cover == 1])
    assert made.min() > 1.1 and made.max() < 1.9
    assert np.abs(np.diff(made, axis=0)).max() < 0.2


# ---- clips


def test_figures_turn_within_reach_and_stand_anywhere() -> None:
    cut = off = loops = busy = 0
    for seed in range(200):
        placed = sample_placed(seed)
        figure = placed.figure
        t = np.arange(0, 5, 0.1)
        yaw = np.degrees(figure.motion.yaw(t))
        assert np.abs(yaw - yaw[0]).max() < 55 and np.abs(yaw[0]) < 28
        assert np.ptp(yaw) > 8
        cut += figure.ground > 1
        off += abs(figure.centre - 0.5) > 0.1
        loops += placed.loop
        busy += placed.busy
        if placed.loop:
            assert abs(figure.motion.yaw(2.76) - figure.motion.yaw(0.0)) < np.radians(5)
    assert 25 < cut < 70 and 25 < off < 110 and 15 < loops < 50 and 50 < busy < 110


def test_a_clip_is_its_seed(tmp_path: Path) -> None:
    one, again = make_motion_clip(2, keys=4), make_motion_clip(2, keys=4)
    write_motion_clip(one, tmp_path / "a.safetensors")
    write_motion_clip(again, tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert one.photo.shape == (*CROP, 3) and one.channels.shape == (4, 4, *GRID)
    assert not one.channels[:, 0].any() and one.channels[:, 1:].any()
    back = read_motion_clip(tmp_path / "a.safetensors")
    np.testing.assert_allclose(back.channels, one.channels, atol=1e-3)
    np.testing.assert_array_equal(back.parts, one.parts)
    assert back.info == one.info
    on = one.matte > 0.9
    assert (one.parts[on] > 0).mean() > 0.98 and (one.inflation[on] > 0).mean() > 0.98
    (tmp_path / "a.safetensors").write_bytes(b"no clip")
    with pytest.raises(FashionFlowError, match=r"a\.safetensors: not a motion clip"):
        read_motion_clip(tmp_path / "a.safetensors")


def test_cut_figures_touch_their_border() -> None:
    seed = next(s for s in range(100) if sample_placed(s).figure.ground > 1.3)
    clip = make_motion_clip(seed, keys=2)
    rows = np.flatnonzero(clip.matte.max(axis=1) > 0.5)
    assert rows[-1] < CROP[0] - 1  # the box keeps its margin below the cut
    assert (clip.matte[rows[-1]] > 0.5).sum() > 8  # cut across the body, not at the soles


def test_busy_backgrounds_are_the_same_at_every_size() -> None:
    large = busy_background(7, 160, 128)
    small = busy_background(7, 80, 64)
    assert large.min() >= 0 and large.max() <= 1
    halved = large.reshape(80, 2, 64, 2, 3).mean(axis=(1, 3))
    assert np.abs(halved - small).mean() < 0.02
    assert np.std(large) > 0.05


# ---- command line


def synth(out: Path, *arguments: str) -> Any:
    return CliRunner().invoke(app, ["synth", "--motion", "-o", str(out), "-q", *arguments])


def test_synth_motion_goes_on_where_it_stopped(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert synth(whole, "--clips", "2", "--seed", "3").exit_code == 0
    assert synth(parts, "--clips", "1", "--seed", "3").exit_code == 0
    assert json.loads(synth(parts, "--clips", "2", "--seed", "3", "--json").stdout)["kept"] == 1
    names = sorted(path.name for path in whole.iterdir())
    assert names == ["attributes.jsonl", "clip-000000.safetensors", "clip-000001.safetensors"]
    for name in names:
        assert (whole / name).read_bytes() == (parts / name).read_bytes()
    first = json.loads((whole / "attributes.jsonl").read_text().splitlines()[0])
    assert first["seed"] == 3_000_000 and first["attributes"]["motion"] in ("gentle", "loop")
    refused = synth(parts, "--clips", "1", "--seed", "4").exception
    assert isinstance(refused, FashionFlowError)
    assert "clip-000000.safetensors" in str(refused) and "other settings" in str(refused)
