"""Garment similarity by an image encoder: laws, with random encoders of both kinds, and folders that are refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from clip_damage import clip, garments
from tiny_encoder import write_encoder

from fashionflow_core.errors import FashionFlowError
from fashionflow_core.metrics.image_encoder import ImageEncoder, garment_similarity

FRAMES = 4


@pytest.fixture(scope="module", params=["dinov2", "clip", "clip_vision_model"])
def encoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ImageEncoder:
    return ImageEncoder.load(write_encoder(tmp_path_factory.mktemp("encoder") / request.param, request.param))


@pytest.fixture(scope="module")
def worn() -> tuple[np.ndarray, np.ndarray]:
    """A clip and the garment's masks, at half of their size."""
    return clip()[:FRAMES, ::2, ::2], garments()[:FRAMES, ::2, ::2]


def similarity(encoder: ImageEncoder, photo: np.ndarray, garment: np.ndarray, *clip: np.ndarray) -> float:
    found = garment_similarity(encoder, photo, garment, *clip)
    assert found is not None
    return found


def test_the_same_garment_is_one(encoder: ImageEncoder, worn: tuple[np.ndarray, np.ndarray]):
    frames, masks = worn
    still = similarity(encoder, frames[0], masks[0], frames[:1].repeat(3, 0), masks[:1].repeat(3, 0))
    assert still == pytest.approx(1, abs=1e-5)
    turned = similarity(encoder, frames[0], masks[0], frames, masks)
    assert turned < still
    order = [2, 0, 3, 1]
    assert similarity(encoder, frames[0], masks[0], frames[order], masks[order]) == pytest.approx(turned, abs=1e-6)


def test_symmetry(encoder: ImageEncoder, worn: tuple[np.ndarray, np.ndarray]):
    frames, masks = worn
    there = similarity(encoder, frames[0], masks[0], frames[3:], masks[3:])
    assert similarity(encoder, frames[3], masks[3], frames[:1], masks[:1]) == pytest.approx(there, abs=1e-6)


def test_another_colour_is_less_alike(encoder: ImageEncoder, worn: tuple[np.ndarray, np.ndarray]):
    frames, masks = worn[0][:1], worn[1][:1]
    found = []
    for share in (0, 0.2, 0.5, 1):
        other = frames.copy()
        colour = (1 - share) * frames[masks] + share * np.array([200, 30, 60])
        other[masks] = colour.astype(np.uint8)
        found.append(similarity(encoder, frames[0], masks[0], other, masks))
    assert found == sorted(found, reverse=True) and len(set(found)) == 4


def test_the_background_and_the_place_do_not_count(encoder: ImageEncoder, worn: tuple[np.ndarray, np.ndarray]):
    frames, masks = worn[0][:1], worn[1][:1]
    other = np.where(masks[..., None], frames, 17).astype(np.uint8)
    moved, moved_masks = np.roll(other, (3, 5), (1, 2)), np.roll(masks, (3, 5), (1, 2))
    assert similarity(encoder, frames[0], masks[0], moved, moved_masks) == pytest.approx(1, abs=1e-5)


def test_without_a_garment(encoder: ImageEncoder, worn: tuple[np.ndarray, np.ndarray]):
    frames, masks = worn
    gone = masks.copy()
    gone[2:] = False
    whole = similarity(encoder, frames[0], masks[0], frames[:2], masks[:2])
    assert similarity(encoder, frames[0], masks[0], frames, gone) == pytest.approx(whole / 2, abs=1e-6)
    assert similarity(encoder, frames[0], masks[0], frames, np.zeros_like(masks)) == 0
    assert garment_similarity(encoder, frames[0], np.zeros_like(masks[0]), frames, masks) is None


def test_preprocessing_of_the_folder_is_used(tmp_path: Path):
    folder = write_encoder(tmp_path / "dino", "dinov2")
    values = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25], "crop_size": {"height": 24, "width": 24}}
    (folder / "preprocessor_config.json").write_text(json.dumps(values))
    encoder = ImageEncoder.load(folder)
    assert encoder.side == 24 and torch.equal(encoder.mean, torch.full((3,), 0.5))
    assert encoder.record()["sha256"] == list(encoder.sha256) and len(encoder.sha256[0]) == 64


@pytest.mark.parametrize("case", ["nowhere", "kind", "weights", "code"])
def test_refused_folders(tmp_path: Path, case: str):
    folder = write_encoder(tmp_path / "encoder", "dinov2") if case != "nowhere" else tmp_path / "nowhere"
    config = folder / "config.json"
    if case == "kind":
        config.write_text(json.dumps(json.loads(config.read_text()) | {"model_type": "bert"}))
    elif case == "weights":
        (folder / "model.safetensors").write_bytes(b"none")
    elif case == "code":
        config.write_text(json.dumps(json.loads(config.read_text()) | {"auto_map": {"AutoModel": "evil.Evil"}}))
    with pytest.raises(FashionFlowError) as error:
        ImageEncoder.load(folder)
    words = {"nowhere": "no such folder", "kind": "'bert'", "weights": "safetensors", "code": "auto_map"}
    assert words[case] in error.value.message
