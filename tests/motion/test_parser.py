"""The figure parser: shapes and sizes, any photo's way in and out, its data, and what its weights find."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from places import ROOT

from fashionflow_core.images.parts import ARM_LEFT, ARM_RIGHT, HAIR, HEAD, LEGS, LOWER, PARTS, SHOES, UPPER
from fashionflow_core.models.parser import HEIGHT, WIDTH, FigureParser, ParsedPhoto, parse_photo
from fashionflow_core.motion.matte import find_matte
from fashionflow_core.motion.matte_parts import label_parts
from fashionflow_core.motion.matte_trust import overlap
from fashionflow_core.training.parser_data import SWAPPED, parser_sample

WEIGHTS = ROOT / "fashionflow_core" / "assets" / "mini" / "parser"


@pytest.fixture(scope="module")
def trained() -> FigureParser:
    return FigureParser.from_pretrained(WEIGHTS).float().eval()


def test_shape_and_size() -> None:
    model = FigureParser().eval()
    assert sum(value.numel() for value in model.parameters()) < 1_000_000
    with torch.inference_mode():
        assert model(torch.rand(2, 3, HEIGHT, WIDTH)).shape == (2, 1 + len(PARTS), HEIGHT // 2, WIDTH // 2)


def test_folder_brings_the_network_back(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = FigureParser(widths=(4, 8, 8, 8, 8)).eval()
    model.save_pretrained(tmp_path)
    again = FigureParser.from_pretrained(tmp_path).eval()
    picture = torch.rand(1, 3, HEIGHT, WIDTH)
    with torch.inference_mode():
        assert torch.equal(model(picture), again(picture))


@pytest.mark.slow
def test_onnx_export_agrees(tmp_path: Path, trained: FigureParser) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    path = tmp_path / "parser.onnx"
    picture = torch.rand(2, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))
    torch.onnx.export(trained, (picture,), str(path), dynamo=True, input_names=["photo"], verbose=False)
    onnx.checker.check_model(str(path))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"photo": picture.numpy()})
    with torch.inference_mode():
        assert np.abs(found - trained(picture).numpy()).max() < 1e-3


def bright(photos: torch.Tensor) -> torch.Tensor:
    """A stand-in for a network: the figure is what is dark, all of it the part that its colour names."""
    small = torch.nn.functional.avg_pool2d(photos, 2)
    logits = torch.full((len(photos), 1 + len(PARTS), HEIGHT // 2, WIDTH // 2), -10.0)
    dark = small.mean(dim=1) < 0.5
    logits[:, 0] = torch.where(dark, 10.0, -10.0)
    logits[:, 1] = torch.where(dark, -10.0, 10.0)
    logits[:, 1 + UPPER] = torch.where(dark, 10.0, -10.0)
    return logits


@pytest.mark.parametrize("size", [(640, 512), (400, 900), (900, 300), (64, 50), (1001, 777)])
def test_every_photo_comes_back_at_its_size_and_place(size: tuple[int, int]) -> None:
    photo = np.full((*size, 3), 240, np.uint8)
    rows = slice(round(0.3 * size[0]), round(0.9 * size[0]))
    columns = slice(round(0.4 * size[1]), round(0.7 * size[1]))
    photo[rows, columns] = 20
    parsed = parse_photo(bright, photo)
    assert parsed.matte.shape == size and parsed.parts.shape == (len(PARTS), *size)
    true = photo[..., 0] < 100
    assert overlap(parsed.matte > 0.5, true) > 0.93
    assert np.allclose(parsed.parts.sum(axis=0), 1, atol=1e-3)


def test_small_figures_are_looked_at_closely() -> None:
    photo = np.full((1280, 1024, 3), 240, np.uint8)
    photo[600:800, 300:360] = 20
    calls = []

    def counted(photos: torch.Tensor) -> torch.Tensor:
        calls.append(float((photos.mean(dim=1) < 0.5).float().mean()))
        return bright(photos)

    parsed = parse_photo(counted, photo)
    assert len(calls) == 2 and calls[1] > 10 * calls[0]
    assert overlap(parsed.matte > 0.5, photo[..., 0] < 100) > 0.95


def test_mirrored_photos_swap_arms(golden: Path, trained: FigureParser) -> None:
    photo = np.array(Image.open(golden / "photos" / "green.jpg").convert("RGB"))
    parsed, mirrored = parse_photo(trained, photo), parse_photo(trained, np.ascontiguousarray(photo[:, ::-1]))
    assert np.abs(parsed.matte - mirrored.matte[:, ::-1]).max() < 1e-3
    assert np.abs(parsed.parts[ARM_LEFT] - mirrored.parts[ARM_RIGHT, :, ::-1]).max() < 1e-3


def test_samples_follow_their_seed() -> None:
    first, again, other = parser_sample(7), parser_sample(7), parser_sample(8)
    assert np.array_equal(first.photo, again.photo) and np.array_equal(first.parts, again.parts)
    assert not np.array_equal(first.photo, other.photo)
    assert SWAPPED[[ARM_LEFT, ARM_RIGHT, UPPER]].tolist() == [ARM_RIGHT, ARM_LEFT, UPPER]
    for seed in range(6):
        sample = parser_sample(seed)
        assert sample.photo.shape == (320, 256, 3) and sample.parts.max() < len(PARTS)
        solid = (sample.alpha > 250) & (sample.parts > 0)
        assert overlap(solid, sample.alpha > 250) > 0.97 or not (sample.alpha > 250).any()


@pytest.mark.parametrize("busy", [False, True])
def test_unseen_figures(trained: FigureParser, busy: bool) -> None:
    found, parts = [], []
    for seed in range(40_000_000, 40_000_004):
        sample = parser_sample(seed, busy, hard=False)
        matte = find_matte(sample.photo, lambda photo: parse_photo(trained, photo))
        found.append(overlap(matte.alpha > 0.5, sample.alpha > 127))
        assert matte.parts is not None and ((matte.parts > 0) == (matte.alpha > 0)).all()
        body = np.isin(sample.parts, (UPPER, LOWER))
        parts.append(overlap(np.isin(matte.parts, (UPPER, LOWER)) & (matte.alpha > 0.5), body))
    assert np.median(found) > (0.93 if not busy else 0.88), found
    assert np.median(parts) > 0.75, parts


@pytest.mark.parametrize("name", ["blue", "green"])
def test_parts_of_real_photos(golden: Path, trained: FigureParser, name: str) -> None:
    photo = np.array(Image.open(golden / "photos" / f"{name}.jpg").convert("RGB"))
    matte = find_matte(photo, lambda pixels: parse_photo(trained, pixels))
    assert matte.trusted and matte.parts is not None
    assert overlap(matte.alpha > 0.5, find_matte(photo).alpha > 0.5) > 0.98
    label = np.where(matte.alpha > 0.5, matte.parts, 0)
    area = float((label > 0).sum())
    rows = {part: np.nonzero(label == part)[0] for part in range(1, len(PARTS))}
    columns = {part: np.nonzero(label == part)[1] for part in rows}
    for part in rows:
        assert len(rows[part]) > 0.01 * area, PARTS[part]
    assert columns[ARM_LEFT].mean() < columns[UPPER].mean() < columns[ARM_RIGHT].mean()
    order = [np.median(rows[part]) for part in (HAIR, UPPER, LOWER, LEGS, SHOES)]
    assert order == sorted(order) and np.median(rows[HEAD]) < np.median(rows[UPPER])
    for arm in (ARM_LEFT, ARM_RIGHT):  # from shoulder to hand
        assert rows[arm].min() < 140 and 320 < rows[arm].max() < 390
        assert len(rows[arm]) < 0.12 * area


def test_two_people_are_seen_as_two(golden: Path, trained: FigureParser) -> None:
    photo = np.array(Image.open(golden / "photos" / "green.jpg").convert("RGB"))
    pair = np.concatenate([photo[:, 150:330], photo[:, 155:330]], axis=1)
    matte = find_matte(pair, lambda pixels: parse_photo(trained, pixels))
    assert not matte.trusted and "several" in matte.reason


def test_empty_pictures_are_not_trusted(trained: FigureParser) -> None:
    rng = np.random.default_rng(0)
    for photo in (np.full((320, 256, 3), 240, np.uint8), rng.integers(0, 256, (320, 256, 3)).astype(np.uint8)):
        matte = find_matte(photo, lambda pixels: parse_photo(trained, pixels))
        assert not matte.trusted and matte.reason


def test_labels_without_strays() -> None:
    """A speck of arm far from the arm is none."""
    shares = np.zeros((len(PARTS), 60, 40), np.float32)
    shares[UPPER] = 0.5
    shares[ARM_LEFT, 5:50, 2:8] = 0.9
    shares[ARM_LEFT, 52:55, 30:33] = 0.9
    label = label_parts(np.zeros((60, 40, 3), np.uint8), np.ones((60, 40), np.float32), shares)
    assert label is not None
    assert (label[5:50, 2:8] == ARM_LEFT).all() and (label[52:55, 30:33] == UPPER).all()


def test_parsed_photo_is_a_pair() -> None:
    matte, parts = ParsedPhoto(np.zeros((2, 2), np.float32), np.zeros((9, 2, 2), np.float32))
    assert matte.shape == parts.shape[1:]
