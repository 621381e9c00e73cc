"""SegFormer clothes parser (ATR labels), an alternative to a model's own parser."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fashionflow_core.errors import FashionFlowError, command, first_line
from fashionflow_core.images.parts import PARTS
from fashionflow_core.models.parser import ParsedPhoto
from fashionflow_core.utils.model_parts import check_processor, open_network

# ATR label, lower case → part, or parts between which the model's own parser decides: ATR labels only bare arms, so
# that sleeves are clothes, and does not divide a dress at the waist.
_GARMENT = ("upper", "lower", "arm_left", "arm_right")
_PARTS_OF: dict[str, tuple[str, ...]] = {
    "background": ("background",),
    "hat": ("hair",),
    "hair": ("hair",),
    "sunglasses": ("head",),
    "face": ("head",),
    "upper-clothes": ("upper", "arm_left", "arm_right"),
    "scarf": ("upper", "arm_left", "arm_right"),
    "dress": _GARMENT,
    "belt": ("upper", "lower"),
    "skirt": ("lower",),
    "pants": ("lower",),
    "bag": PARTS[1:],
    "left-leg": ("legs",),
    "right-leg": ("legs",),
    "left-shoe": ("shoes",),
    "right-shoe": ("shoes",),
}
_ARMS = ("left-arm", "right-arm")
_NEEDED = ("background", "hair", "face", *_ARMS)
_DOUBT = 1e-3  # share of the first of several parts where the model's own parser predicts none of them


def check_labels(labels: Mapping[Any, str], where: Path | str) -> list[str]:
    """The names of a network's classes in order, lower case.

    Args:
        labels: dictionary `id2label` of its configuration.
        where: file or folder named in errors.

    Raises:
        FashionFlowError: an unknown name, or a required one missing.
    """
    names = [str(labels[key]).lower().replace("_", "-") for key in sorted(labels, key=int)]
    unknown = [name for name in names if name not in _PARTS_OF and name not in _ARMS]
    missing = [name for name in _NEEDED if name not in names]
    if unknown or missing:
        what = f"unknown label {unknown[0]!r}" if unknown else f"missing label {missing[0]!r}"
        raise FashionFlowError(f"{where}: {what}", hint="use a model with labels of mattmdjaga/segformer_b2_clothes")
    return names


class ClothesParser:
    """Matte and parts of photos by a SegFormer; the model's own parser only divides clothes.

    Args:
        network: `SegformerForSemanticSegmentation`.
        processor: image processor of the network.
        names: classes, from `check_labels`.
    """

    def __init__(self, network: Any, processor: Any, names: list[str]) -> None:
        self.network, self.processor, self.names = network, processor, names

    @classmethod
    def load(cls, folder: Path, device: torch.device) -> "ClothesParser":
        """Load an installed parser.

        Raises:
            FashionFlowError: incomplete or damaged, or with other classes.
        """
        from transformers import SegformerForSemanticSegmentation, SegformerImageProcessorPil

        try:
            network, report = open_network(SegformerForSemanticSegmentation, folder)
            check_processor(folder)
            # Its stub omits the keyword.
            options: dict[str, Any] = {"local_files_only": True}
            processor = SegformerImageProcessorPil.from_pretrained(folder, **options)
        except Exception as error:  # from the checks, and any kind from the library for damaged files
            raise FashionFlowError(
                f"{folder}: cannot be loaded ({first_line(error)})",
                hint=f"{command('models pull', 'parser', overwrite=True)}, or {command('models remove', 'parser')}",
            ) from None
        names = check_labels(network.config.id2label, folder)
        return cls(network.to(device).eval(), processor, names)

    def parse(self, photo: np.ndarray, own: Callable[[np.ndarray], ParsedPhoto]) -> ParsedPhoto:
        """Matte and parts of a photo.

        Args:
            photo: photo, uint8 (h, w, 3), sRGB.
            own: the model's own parser.
        """
        shares = self.shares(photo)
        return ParsedPhoto(1 - shares[self.names.index("background")], merged(shares, self.names, own(photo).parts))

    @torch.inference_mode()
    def shares(self, photo: np.ndarray) -> np.ndarray:
        """Probability of each class at each pixel, float32 (classes, h, w)."""
        pixels: Tensor = self.processor(images=[photo], return_tensors="pt")["pixel_values"]
        logits = self.network(pixels.to(self.network.device, self.network.dtype)).logits.float()
        # Logits have a quarter of the network's resolution, and its aspect ratio: stretched back to the photo's.
        logits = F.interpolate(logits, size=photo.shape[:2], mode="bilinear", align_corners=False)
        return logits.softmax(dim=1)[0].cpu().numpy()


def merged(shares: np.ndarray, names: list[str], own: np.ndarray) -> np.ndarray:
    """Probabilities of `PARTS` from those of clothes.

    Args:
        shares: probabilities of the classes, float32 (classes, h, w), sum 1.
        names: names of the classes.
        own: probabilities of `PARTS` by the model's own parser, float32 (9, h, w).

    Returns:
        float32 (9, h, w), sum 1.
    """
    parts = np.zeros_like(own, dtype=np.float32)
    for name, share in zip(names, shares, strict=True):
        if name in _ARMS:
            continue
        targets = [PARTS.index(part) for part in _PARTS_OF[name]]
        weights = own[targets].astype(np.float32)
        weights[0] += _DOUBT
        parts[targets] += share * weights / weights.sum(axis=0)
    # Left and right are those of the image; in some photos of the data set they are the person's.
    arms = [shares[names.index(name)] for name in _ARMS]
    figure = 1 - shares[names.index("background")]
    left = int(np.argmin([_column(arm if arm.max() > 0.5 else figure) for arm in arms]))
    parts[PARTS.index("arm_left")] += arms[left]
    parts[PARTS.index("arm_right")] += arms[1 - left]
    return parts


def _column(weights: np.ndarray) -> float:
    """Mean column of the pixels of a plane (h, w)."""
    return float((weights.sum(axis=0) * np.arange(weights.shape[1])).sum() / max(float(weights.sum()), 1e-9))
