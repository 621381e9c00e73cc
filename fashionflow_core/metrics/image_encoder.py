"""Garment similarity by an image encoder: DINOv2 or CLIP, from a folder in the layout of transformers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fashionflow_core.errors import FashionFlowError, first_line, option
from fashionflow_core.utils import hashing
from fashionflow_core.utils.model_parts import check_config, open_network
from fashionflow_core.utils.typed_files import read_object

# `model_type` of config.json → class of transformers.
_KINDS = {
    "clip": "CLIPVisionModelWithProjection",
    "clip_vision_model": "CLIPVisionModelWithProjection",
    "dinov2": "Dinov2Model",
    "dinov2_with_registers": "Dinov2WithRegistersModel",
}
# Without a preprocessor_config.json: mean and deviation of ImageNet, and of CLIP's training images.
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
_DINO_SIDE = 224  # pixels: DINOv2's config has the side of its last training phase, 518
_LEAST = 16  # pixels of a garment


@dataclass(frozen=True, eq=False)
class ImageEncoder:
    """An image encoder with its preprocessing.

    Attributes:
        network: a vision model of transformers.
        side: height and width of its input, in pixels.
        mean, deviation: of its input, `(3,)`, pixels in [0, 1].
        kind: `model_type` of its config.
        sha256: hash of its weights, of each file in the order of names.
    """

    network: Any
    side: int
    mean: Tensor
    deviation: Tensor
    kind: str
    sha256: tuple[str, ...]

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> ImageEncoder:
        """Open a folder with `config.json`, safetensors and perhaps `preprocessor_config.json`.

        Raises:
            FashionFlowError: missing, damaged, or of another kind.
        """
        import transformers

        hint = f"download one, such as facebook/dinov2-small, and pass its folder: {option('encoder', 'DIR')}"
        if not folder.is_dir():
            raise FashionFlowError(f"{folder}: no such folder of an image encoder", hint)
        config = check_config(folder)
        kind = str(config.get("model_type"))
        if kind not in _KINDS:
            raise FashionFlowError(f"{folder}: model type {kind!r} is not one of {', '.join(_KINDS)}", hint)
        # The image encoder of this project's models has no projection: its pooled features are used.
        unprojected = "CLIPVisionModel" in (config.get("architectures") or ())
        try:
            network, report = open_network(
                getattr(transformers, "CLIPVisionModel" if unprojected else _KINDS[kind]), folder
            )
        except FashionFlowError:
            raise
        except Exception as error:  # any kind from the library for damaged files
            raise FashionFlowError(f"{folder}: cannot be loaded ({first_line(error)})", hint) from None
        if missing := sorted(report["missing_keys"]):
            raise FashionFlowError(f"{folder}: weights without {missing[0]}", hint)
        side, mean, deviation = _preprocessing(folder, network.config, kind)
        return cls(
            network.to(device=device, dtype=torch.float32).requires_grad_(False).eval(),
            side,
            torch.tensor(mean, device=device),
            torch.tensor(deviation, device=device),
            kind,
            tuple(hashing.sha256(file) for file in sorted(folder.glob("*.safetensors"))),
        )

    def record(self) -> dict[str, Any]:
        """The entry of this encoder in a protocol."""
        return {"kind": self.kind, "side": self.side, "sha256": list(self.sha256)}

    @torch.inference_mode()
    def features(self, frames: np.ndarray, masks: np.ndarray) -> np.ndarray:
        """Unit-length features of what masks show, cut out, centred in a square and before the mean colour.

        Args:
            frames: uint8 `(f, h, w, 3)`.
            masks: bool `(f, h, w)`, none of them empty.

        Returns:
            float32 `(f, d)`.
        """
        pixels = torch.cat([self._input(frame, mask) for frame, mask in zip(frames, masks, strict=True)])
        found = self.network(pixel_values=pixels)
        embedded = getattr(found, "image_embeds", None)
        embedded = found.pooler_output if embedded is None else embedded
        return F.normalize(embedded.float(), dim=-1).cpu().numpy()

    def _input(self, frame: np.ndarray, mask: np.ndarray) -> Tensor:
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        part = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
        device = self.mean.device
        image = torch.from_numpy(frame[part].astype(np.float32) / 255).to(device)
        image = (image - self.mean) / self.deviation
        image = (image * torch.from_numpy(mask[part].astype(np.float32)).to(device)[..., None]).permute(2, 0, 1)
        height, width = image.shape[1:]
        spare_rows, spare_columns = max(0, width - height), max(0, height - width)
        square = F.pad(
            image,
            (spare_columns // 2, spare_columns - spare_columns // 2, spare_rows // 2, spare_rows - spare_rows // 2),
        )
        return F.interpolate(square[None], (self.side, self.side), mode="bicubic", antialias=True, align_corners=False)


def garment_similarity(
    encoder: ImageEncoder,
    photo: np.ndarray,
    garment: np.ndarray,
    frames: np.ndarray,
    masks: np.ndarray,
) -> float | None:
    """Mean cosine similarity of the garment in frames to the garment in the photo.

    Args:
        encoder: image encoder.
        photo: uint8 `(h, w, 3)`.
        garment: bool `(h, w)`, the garment in the photo.
        frames: uint8 `(f, h, w, 3)`.
        masks: bool `(f, h, w)`, the garment in the frames.

    Returns:
        -1 to 1; 1 for the same garment in the same pose; frames without a garment count as 0. None if the photo shows
        no garment.
    """
    if garment.sum() < _LEAST:
        return None
    seen = masks.sum(axis=(1, 2)) >= _LEAST
    if not seen.any():
        return 0.0
    wanted = encoder.features(photo[None], garment[None])[0]
    found = encoder.features(frames[seen], masks[seen])
    return float(np.sum(found @ wanted) / len(frames))


def _preprocessing(folder: Path, config: Any, kind: str) -> tuple[int, Any, Any]:
    """Side, mean and deviation of the input.

    Raises:
        FashionFlowError: an unreadable preprocessor_config.json, or a side that the network cannot take.
    """
    mean, deviation = _IMAGENET if kind.startswith("dinov2") else _CLIP
    side: Any = _DINO_SIDE if kind.startswith("dinov2") else config.image_size
    path = folder / "preprocessor_config.json"
    if path.is_file():
        values = read_object(path, "download the encoder again")
        mean, deviation = values.get("image_mean") or mean, values.get("image_std") or deviation
        size = values.get("crop_size") or values.get("size") or side
        side = size.get("height") or size.get("shortest_edge") if isinstance(size, dict) else size
        if not (isinstance(mean, list | tuple) and isinstance(deviation, list | tuple)):
            raise FashionFlowError(f"{path}: image_mean and image_std must be lists", "download the encoder again")
    patch = int(config.patch_size)
    side = side if isinstance(side, int) and patch <= side <= 1024 else int(config.image_size)
    return side // patch * patch if kind.startswith("dinov2") else int(config.image_size), mean, deviation
