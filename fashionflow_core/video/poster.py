"""Poster of a video: its sharpest frame away from the first one, as a marked and signed picture."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fashionflow_core.config import EncodeOptions
from fashionflow_core.errors import FashionFlowError, reason_of
from fashionflow_core.utils.files import atomic_path, check_target
from fashionflow_core.video import marking, signing

# Frame 0 is the photo, the same for all variations: a poster's distance from it is at least this share of the largest.
FAR = 0.5
# Maximum number of candidates held: the most distant ones.
HELD = 8
STEP = 8  # stride in pixels of the measured distance
_JPEG_QUALITY = 88


@dataclass(frozen=True)
class _Candidate:
    frame: np.ndarray
    distance: float
    sharpness: float


class PosterPicker:
    """Picks a poster from frames as they come."""

    def __init__(self) -> None:
        self._first: np.ndarray | None = None
        # Pareto set: no candidate is both nearer to the first frame and blurrier than another one.
        self.held: list[_Candidate] = []

    def add(self, frame: np.ndarray) -> None:
        """Consider the next frame, uint8 (h, w, 3)."""
        small = frame[::STEP, ::STEP].astype(np.int16)
        if self._first is None:
            self._first = small
        distance = float(np.abs(small - self._first).mean())
        sharpness = _sharpness(frame)
        if any(one.distance >= distance and one.sharpness >= sharpness for one in self.held):
            return
        far = FAR * max([distance, *(one.distance for one in self.held)])
        if distance < far:
            return
        kept = [one for one in self.held if one.distance >= far]
        kept = [one for one in kept if one.distance > distance or one.sharpness > sharpness]
        kept.append(_Candidate(frame.copy(), distance, sharpness))
        self.held = sorted(kept, key=lambda one: one.distance)[-HELD:]

    @property
    def poster(self) -> np.ndarray | None:
        """The sharpest frame far enough from the first; None before any frame."""
        return max(self.held, key=lambda one: one.sharpness).frame if self.held else None


def write(
    path: Path,
    frame: np.ndarray,
    options: EncodeOptions = EncodeOptions(),
    metadata: Mapping[str, str] | None = None,
    sources: Sequence[str] = (),
    comment: bytes = b"",
) -> None:
    """Write a poster, marked and signed as its video is; an existing file is replaced atomically.

    Args:
        path: output file, ending in .png, .jpg or .jpeg.
        frame: uint8 (h, w, 3), sRGB.
        options: of the video: whether it is marked, and by whom it is signed.
        metadata, sources: of the video, for the manifest of the signature.
        comment: of a JPEG.

    Raises:
        FashionFlowError: another suffix, the folder is missing or not writable, a full disk, or as `signing.sign`.
    """
    form = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}.get(path.suffix.lower())
    if form is None:
        raise FashionFlowError(f"{path}: not a name of a poster", hint="use a name that ends in .png or .jpg")
    check_target(path, overwrite=True)
    how: dict[str, Any] = {"pnginfo": marking.png_text() if options.mark else None}
    if form == "JPEG":
        how = {"quality": _JPEG_QUALITY, "comment": comment, "xmp": marking.XMP if options.mark else b""}
    try:
        with atomic_path(path) as temporary:
            Image.fromarray(frame).save(temporary, format=form, **how)
            if options.sign is not None:
                sign = replace(options.sign, sources=tuple(sources) or options.sign.sources)
                signing.sign(temporary, sign, path.name, metadata or {})
    except OSError as error:
        problem = f"{path}: could not be written ({reason_of(error)})"
        raise FashionFlowError(problem, hint="check the free disk space") from error


def _sharpness(frame: np.ndarray) -> float:
    """Mean square of the differences between neighbouring pixels, in the green channel."""
    green = frame[..., 1].astype(np.int16)
    across, down = np.diff(green, axis=1), np.diff(green, axis=0)
    return sum(float(np.square(one, dtype=np.int32).mean()) for one in (across, down) if one.size)
