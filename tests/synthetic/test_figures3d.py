"""3-D figures: geometry of cuts, rings and visibility, cloth, channels against the renderer, and the command line."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from motion_figures import psnr
from typer.testing import CliRunner

from fashionflow_cli.data import app
from fashionflow_core.errors import FashionFlowError, UsageError
from fashionflow_core.images import parts as labels
from fashionflow_core.motion.figure_box import FigureBox
from fashionflow_core.motion.matte import Matte
from fashionflow_core.motion.shell import Shell
from fashionflow_core.motion.timing import SPACING
from fashionflow_core.synthetic.figures3d import body as bodies
from fashionflow_core.synthetic.figures3d.rings import around, ring
from fashionflow_core.synthetic.figures3d.scene import visible
from fashionflow_core.synthetic.figures3d.surface import Smoother, cut, grid_faces, normals
from fashionflow_core.synthetic.motion_clips import sample_placed, write_motion_clip

SMALL = (160, 128)


@pytest.fixture(scope="module")
def extra() -> None:
    """Skips where the extra synth3d is not installed."""
    for name in ("warp", "anny"):
        pytest.importorskip(name, reason="the extra synth3d is not installed: make setup EXTRAS=dev,synth3d")


def tube(rows: int = 30, columns: int = 40, radius: float = 0.2) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and faces of a cylinder about z, 1 m high, facing outwards."""
    angle, z = np.meshgrid(np.linspace(-np.pi, np.pi, columns), np.linspace(1, 0, rows))
    return np.stack([radius * np.sin(angle), -radius * np.cos(angle), z], -1).reshape(-1, 3), grid_faces(rows, columns)


def area(vertices: np.ndarray, faces: np.ndarray) -> float:
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2)


# ---- geometry


def test_a_cut_keeps_what_its_field_says() -> None:
    vertices, faces = tube()
    field = vertices[:, 2] - 0.513
    part = cut(faces, field)
    points = part.at(vertices)
    assert points[:, 2].min() == pytest.approx(0.513, abs=1e-9)
    assert area(points, part.faces) == pytest.approx(area(vertices, faces) * 0.487, rel=1e-6)
    outward = normals(points, part.faces)
    assert (np.einsum("nk,nk->n", outward[:, :2], points[:, :2]) > 0).all()  # triangles keep their side
    np.testing.assert_allclose(part.of(field), points[:, 2] - 0.513, atol=1e-12)


def test_smoothing_takes_out_noise_and_keeps_borders() -> None:
    vertices, faces = tube()
    noisy = vertices + np.random.default_rng(0).normal(0, 0.004, vertices.shape)
    smoother = Smoother(faces, len(vertices))
    soft, plain = smoother(noisy, 8), smoother(vertices, 8)
    inner = (vertices[:, 2] > 0.1) & (vertices[:, 2] < 0.9) & (np.abs(vertices[:, 0]) < 0.15)
    inner &= vertices[:, 1] < 0  # away from the seam
    assert np.abs(soft - plain)[inner].mean() < 0.6 * np.abs(noisy - vertices)[inner].mean()
    assert smoother(vertices, 20)[:, 2].max() == pytest.approx(1.0)


def test_rings_lie_on_the_body_and_follow_it() -> None:
    vertices, faces = tube()
    angles = np.linspace(-3, 3, 24)
    found = ring(vertices, faces, 0.437, angles)
    points = found.at(vertices + np.array([[[0.0, 0, 0]], [[0.1, 0, 0]]]), 0.0)
    np.testing.assert_allclose(points[0, :, 2], 0.437, atol=1e-9)
    np.testing.assert_allclose(np.arctan2(points[0, :, 0], -points[0, :, 1]), angles, atol=0.02)
    np.testing.assert_allclose(points[1] - points[0], np.tile([0.1, 0, 0], (24, 1)), atol=1e-9)
    off = found.at(vertices[None], 0.05)[0]
    np.testing.assert_allclose(np.hypot(off[:, 0], off[:, 1]), 0.25, atol=0.003)
    assert around(points[0]) == pytest.approx(2 * np.pi * 0.2, rel=0.01)


def test_samples_show_the_nearest_triangle_at_their_place() -> None:
    projected = np.array([[2, 2, 0], [30, 4, 0], [5, 28, 0], [0, 0, -5], [40, 0, -5], [0, 40, -5]], float)
    hits = visible(projected, np.array([[0, 1, 2], [3, 4, 5]]), (32, 32))
    place = hits.at(projected, np.array([[0, 1, 2], [3, 4, 5]]))
    np.testing.assert_allclose(place[:, 0], hits.column + 0.5, atol=1e-6)
    np.testing.assert_allclose(place[:, 1], hits.row + 0.5, atol=1e-6)
    assert hits.triangle[(hits.row == 8) & (hits.column == 8)] == 0
    assert hits.triangle[(hits.row == 0) & (hits.column == 0)] == 1


# ---- figures


def figure3d(seed: int, seconds: float, frame: tuple[int, int] = SMALL) -> Any:
    from fashionflow_core.synthetic.figures3d.clip import Figure3d

    return Figure3d(seed, seconds, frame)


@pytest.mark.slow
@pytest.mark.usefixtures("extra")
def test_bodies_stand_and_turn() -> None:
    for seed in (0, 1, 4):
        figure = sample_placed(seed).figure
        body = bodies.BodyMesh(figure)
        times = np.array([0.0, 0.4, 1.3])
        posed = body.posed(figure, times)
        np.testing.assert_allclose(posed[..., 2].min(1), 0, atol=1e-6)
        assert 0.9 < np.ptp(posed[0, :, 2]) < 2.1
        head = body.head > 0.9
        for t, at in zip(times, posed):
            front = at[head][body.vertices[head, 1].argmin()] - at[head].mean(0)
            expected = figure.motion.yaw(0) + 0.85 * (figure.motion.yaw(t) - figure.motion.yaw(0))
            assert np.arctan2(front[0], -front[1]) == pytest.approx(float(expected), abs=0.25)


@pytest.mark.slow
@pytest.mark.usefixtures("extra")
def test_skirts_keep_their_length_and_their_waist() -> None:
    from fashionflow_core.synthetic.figures3d.dressed import Dressed

    dressed = Dressed(sample_placed(8).figure, 0.6)
    skirt = dressed.skirt
    assert skirt is not None and dressed.cloth is not None
    columns = skirt.rest.shape[1] + 1
    cloth = dressed.cloth.positions.reshape(-1, skirt.rest.shape[0], columns, 3)[:, :, :-1]
    down = np.linalg.norm(np.diff(cloth, axis=1), axis=-1)
    rest = np.linalg.norm(np.diff(skirt.rest, axis=0), axis=-1)
    assert np.abs(down.mean((0, 2)) / rest.mean(1) - 1)[2:].max() < 0.15
    assert cloth[..., 2].min() > 0 and np.isfinite(cloth).all()


@pytest.mark.slow
@pytest.mark.usefixtures("extra")
def test_a_clip_is_its_seed(tmp_path: Path) -> None:
    clip, again = (figure3d(9, 2 * SPACING).clip(keys=3) for _ in range(2))
    write_motion_clip(clip, tmp_path / "a.safetensors")
    write_motion_clip(again, tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert clip.info["attributes"]["style"] == "3d"
    assert not clip.channels[:, 0].any() and np.abs(clip.channels[:, 1:]).max() > 0.01
    assert set(np.unique(clip.parts)) == set(range(len(labels.PARTS)))
    on = clip.matte > 0.9
    assert (clip.parts[on] > 0).mean() > 0.98 and (clip.inflation[on] > 0).mean() > 0.98


@pytest.mark.slow
@pytest.mark.usefixtures("extra")
@pytest.mark.parametrize("seed", [0, 8])
def test_true_motion_comes_closer_to_the_true_frames_than_the_photo(seed: int) -> None:
    """The channels, drawn by the shell over the true background, against a copied photo."""
    from fashionflow_core.synthetic.figures3d.scene import Model

    figure = figure3d(seed, 6 * SPACING, (320, 256))
    model = Model(figure.dressed.surfaces(np.arange(7) * SPACING))
    studio = figure.studio(model)
    (photo, alpha), (truth, _) = studio.draw(0), studio.draw(6)
    hits = visible(figure.camera.project(model.positions(0)), model.faces, figure.frame)
    parts = np.zeros(figure.frame, np.uint8)
    parts[hits.row, hits.column] = model.part[hits.triangle]
    box = FigureBox.of(alpha, figure.placed.margin)
    plate = (255 * figure.background).astype(np.float32)
    channels = figure.clip(keys=7).channels
    drawn = next(iter(Shell(photo, Matte(alpha, parts, True, ""), plate, box).frames(channels[:, 6:], fade=0)))
    assert psnr(drawn, truth) > psnr(photo, truth) + 1


# ---- command line


def synth(out: Path, *arguments: str) -> Any:
    return CliRunner().invoke(app, ["synth", "-o", str(out), "-q", *arguments])


def test_a_missing_extra_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "warp", None)
    bodies.body_model.cache_clear()
    found = synth(tmp_path, "--motion", "--style", "3d", "--clips", "1").exception
    assert isinstance(found, FashionFlowError)
    assert "synth3d" in str(found) and "EXTRAS=dev,synth3d" in str(found.hint)


def test_styles_and_videos_are_of_motion_clips(tmp_path: Path) -> None:
    for arguments in (["--style", "3d"], ["--with-video"]):
        assert isinstance(synth(tmp_path, *arguments).exception, UsageError)


def test_motion_clips_with_videos_go_on_where_they_stopped(tmp_path: Path) -> None:
    settings = ["--motion", "--with-video", "--frames", "2", "--clips", "1", "--seed", "3", "--json"]
    assert json.loads(synth(tmp_path, *settings).stdout)["rendered"] == 1
    names = ["attributes.jsonl", "clip-000000.mp4", "clip-000000.safetensors"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert json.loads(synth(tmp_path, *settings).stdout)["kept"] == 1
    (tmp_path / "clip-000000.mp4").unlink()
    assert json.loads(synth(tmp_path, *settings).stdout)["rendered"] == 1
    refused = synth(tmp_path, *settings, "--frames", "3").exception
    assert isinstance(refused, FashionFlowError) and "other settings" in str(refused)


@pytest.mark.slow
@pytest.mark.usefixtures("extra")
def test_synth_makes_3d_clips_and_refuses_those_of_another_style(tmp_path: Path) -> None:
    settings = ["--motion", "--clips", "1", "--seed", "3"]
    assert synth(tmp_path, *settings, "--style", "3d").exit_code == 0
    line = json.loads((tmp_path / "attributes.jsonl").read_text())
    assert line["attributes"]["style"] == "3d"
    assert json.loads(synth(tmp_path, *settings, "--style", "3d", "--json").stdout)["kept"] == 1
    assert "other settings" in str(synth(tmp_path, *settings).exception)
