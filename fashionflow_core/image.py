"""Photos in, PNG out: any JPEG or PNG becomes upright RGB pixels, and those become the frame a model was trained on."""

import os
import struct
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from fashionflow_core.config import FIT_MODES, RESAMPLING
from fashionflow_core.errors import FashionFlowError
from fashionflow_core.files import atomic_path, check_target

FORMATS = ("JPEG", "PNG")
MAX_PIXELS = 50_000_000
_RESAMPLE = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
# What Pillow's decoders raise on damaged files, besides its own UnidentifiedImageError (an OSError).
_DAMAGED = (OSError, ValueError, SyntaxError, EOFError, IndexError, KeyError, OverflowError, struct.error)


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels: rows `top` to `top + height`, columns `left` to `left + width`."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True)
class Fitted:
    """A photo brought to a model's frame.

    Attributes:
        pixels: uint8 (height, width, 3), the whole frame.
        box: the part of the frame that holds the photo; the rest is pad bars. Its sides are even where the frame's
            are, so that what is cut out of an output frame can be stored as yuv420p.
    """

    pixels: NDArray[np.uint8]
    box: Box


def load_photo(path: str | Path) -> NDArray[np.uint8]:
    """Read a JPEG or PNG as sRGB pixels, upright, transparent parts on white.

    The EXIF orientation is applied; grey, palette and CMYK images become RGB; 16-bit grey is scaled to 8 bits.

    Returns:
        uint8 (h, w, 3), values 0 to 255.

    Raises:
        FashionFlowError: no such file, a folder, empty, not readable, not a JPEG or PNG, damaged or cut off, or above
            50 megapixels (judged from the header, before pixels are decoded).
    """
    path = Path(path)
    if path.is_dir():
        raise FashionFlowError(f"{path}: is a folder, not a photo", hint="name a JPEG or PNG file inside it")
    try:
        if path.stat().st_size == 0:
            raise FashionFlowError(f"{path}: is empty (0 bytes)", hint="copy or download the photo again")
        with _open(path) as image:
            image.load()  # verify() misses files that are cut off
            return _to_rgb(_upright(image))
    except FileNotFoundError:
        raise FashionFlowError(f"{path}: no such file", hint="check the spelling of the path") from None
    except PermissionError:
        raise FashionFlowError(f"{path}: may not be read", hint=f"check its permissions: ls -l {path}") from None
    except _DAMAGED as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise FashionFlowError(
            f"{path}: is damaged or cut off ({reason})", hint="copy or download the photo again"
        ) from None


def _open(path: Path) -> Image.Image:
    """Read the header only, and refuse from it what is no photo or too large."""
    try:
        with warnings.catch_warnings():
            # Pillow's warning starts above our own limit, which refuses the file in one line.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(path, formats=FORMATS)
    except UnidentifiedImageError:
        raise FashionFlowError(
            f"{path}: is not a JPEG or PNG photo", hint="save the photo as JPEG or PNG first"
        ) from None
    except Image.DecompressionBombError:
        raise _too_large(path, "far") from None
    if image.width * image.height > MAX_PIXELS:
        size = f"{image.width}x{image.height}"
        image.close()
        raise _too_large(path, size)
    return image


def _too_large(path: Path, size: str) -> FashionFlowError:
    limit = MAX_PIXELS // 1_000_000
    return FashionFlowError(f"{path}: is too large ({size}, above {limit} megapixels)", hint="scale the photo down")


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except _DAMAGED:
        # Unreadable EXIF says nothing about the orientation; the pixels are fine.
        return image


def _to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    transparent = image.info.get("transparency")
    if image.mode.startswith("I"):
        # 16-bit grey: convert("RGB") clips at 255. 65535 / 257 = 255 exactly.
        values = np.asarray(image).astype(np.int64).clip(0, 65535)
        grey = ((values + 128) // 257).astype(np.uint8)
        if isinstance(transparent, int):
            grey[values == transparent] = 255
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.array(image.convert("RGB"))


def fit(photo: NDArray[np.uint8], height: int, width: int, mode: str = "pad", resample: str = "lanczos") -> Fitted:
    """Bring a photo to `height` x `width`.

    `pad` keeps the whole garment in proportion, centred, and fills each bar with the median colour of the photo's edge
    beside it; `crop` keeps proportions and cuts the longer side about the centre; `stretch` is a plain resize: with
    `bilinear` it is the published inference (reference README, "Conventions of the published inference", 1).

    Args:
        photo: uint8 (h, w, 3), any h and w of at least 1.
        height, width: the frame, in pixels.
        mode: pad, crop or stretch.
        resample: bilinear, bicubic or lanczos, Pillow's filters.

    Returns:
        The frame, uint8 (height, width, 3), and the region that holds the photo.

    Raises:
        FashionFlowError: the photo is not uint8 (h, w, 3), the frame is smaller than 2 pixels, or an unknown mode or
            filter.
    """
    _check_pixels(photo, "photo")
    if height < 2 or width < 2:
        raise FashionFlowError(f"frame: {height}x{width} is too small", hint="use at least 2x2 pixels")
    if mode not in FIT_MODES:
        raise FashionFlowError(f"fit: unknown mode {mode!r}", hint=f"choose one of: {', '.join(FIT_MODES)}")
    if resample not in RESAMPLING:
        raise FashionFlowError(f"resample: unknown filter {resample!r}", hint=f"choose one of: {', '.join(RESAMPLING)}")

    image = Image.fromarray(photo)
    whole = Box(0, 0, height, width)
    if mode == "stretch":
        return Fitted(np.array(image.resize((width, height), _RESAMPLE[resample])), whole)
    if mode == "crop":
        scale = max(height / image.height, width / image.width)
        kept_height, kept_width = min(height / scale, image.height), min(width / scale, image.width)
        left, top = (image.width - kept_width) / 2, (image.height - kept_height) / 2
        source = (left, top, left + kept_width, top + kept_height)
        return Fitted(np.array(image.resize((width, height), _RESAMPLE[resample], box=source)), whole)

    scale = min(height / image.height, width / image.width)
    box_height, box_width = _even(image.height * scale, height), _even(image.width * scale, width)
    inner = np.array(image.resize((box_width, box_height), _RESAMPLE[resample]))
    box = Box((height - box_height) // 2, (width - box_width) // 2, box_height, box_width)
    return Fitted(_with_bars(inner, box, height, width), box)


def _even(length: float, limit: int) -> int:
    """The even number nearest to `length`, from 2 to `limit`; `limit` itself when the photo fills that side."""
    return limit if length > limit - 1 else max(2, 2 * round(length / 2))


def _with_bars(inner: NDArray[np.uint8], box: Box, height: int, width: int) -> NDArray[np.uint8]:
    """Centre the photo between bars, each in the median colour of the edge it touches: the least visible flat bar."""
    frame = np.empty((height, width, 3), np.uint8)
    bottom, right = box.top + box.height, box.left + box.width
    rows, columns = max(1, box.height // 100), max(1, box.width // 100)
    frame[: box.top] = np.median(inner[:rows], axis=(0, 1))
    frame[bottom:] = np.median(inner[-rows:], axis=(0, 1))
    frame[box.top : bottom, : box.left] = np.median(inner[:, :columns], axis=(0, 1))
    frame[box.top : bottom, right:] = np.median(inner[:, -columns:], axis=(0, 1))
    frame[box.top : bottom, box.left : right] = inner
    return frame


def write_png(path: str | Path, frame: NDArray[np.uint8]) -> None:
    """Write one frame, uint8 (h, w, 3), as a PNG; nothing is left at `path` if that fails.

    Raises:
        FashionFlowError: the name does not end in .png, the folder is missing or not writable, or not such a frame.
    """
    _check_pixels(frame, str(path))
    if Path(path).suffix.lower() != ".png":
        raise FashionFlowError(f"{path}: only PNG images are written", hint="give it a name that ends in .png")
    check_target(path, overwrite=True)
    try:
        with atomic_path(path) as temporary:
            Image.fromarray(frame).save(temporary, format="PNG")
    except OSError as error:
        reason = error.strerror or os.fspath(path)
        raise FashionFlowError(f"{path}: could not be written ({reason})", hint="check the free disk space") from None


def _check_pixels(pixels: NDArray[np.uint8], name: str) -> None:
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise FashionFlowError(f"{name}: pixels must be uint8 (h, w, 3), not {pixels.dtype} {pixels.shape}")
