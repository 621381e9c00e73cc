"""Fitting of photos to a model's frame (pad, crop, stretch), Pillow images made upright, and PNG output."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from fashionflow_core.config import FIT_MODES, RESAMPLING, ModelConfig, ResolvedSettings
from fashionflow_core.errors import FashionFlowError, FashionFlowWarning, reason_of
from fashionflow_core.images.color_management import to_srgb
from fashionflow_core.images.loading import load_photo
from fashionflow_core.images.person import Box, find_figure, warn_if_no_figure
from fashionflow_core.utils.files import atomic_path, check_target
from fashionflow_core.utils.frame_sizes import FrameSizes

Photo = str | Path | np.ndarray | Image.Image

_RESAMPLE = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def as_pixels(photo: Photo, warn: bool = True) -> np.ndarray:
    """A photo as uint8 (h, w, 3), from a file or Pillow image (upright, on white, in sRGB) or such an array.

    Args:
        photo: the photo.
        warn: warn if no person is found in a file's photo.

    Raises:
        FashionFlowError: not a photo that `load_photo` can read, or samples of unknown range.
    """
    if isinstance(photo, str | Path):
        pixels = load_photo(photo)
        if warn:
            warn_if_no_figure(pixels, str(photo))
        return pixels
    if isinstance(photo, np.ndarray):
        return photo  # checked by `fit`
    if not isinstance(photo, Image.Image):
        raise FashionFlowError(
            f"photo: unsupported type {type(photo).__name__}",
            hint="pass a path, a Pillow image, or a uint8 array (h, w, 3)",
        )
    notes: list[str] = []
    try:
        pixels = to_srgb(ImageOps.exif_transpose(photo), (255, 255, 255), notes)
    except ValueError as error:
        raise FashionFlowError(f"photo: {error}", hint='convert it first: image.convert("RGB")') from None
    for note in notes:
        warnings.warn(f"photo: {note}", FashionFlowWarning, stacklevel=3)
    return pixels


@dataclass(frozen=True)
class Fitted:
    """A photo fitted to a model's frame.

    Attributes:
        pixels: uint8 (height, width, 3), the whole frame.
        box: the part of the frame that contains the photo; the rest is bars. Its sides are even where the frame's
            are, so that what is cut out of an output frame can be stored as yuv420p.
        source: left, top, right, bottom, in pixels of the photo, of the rectangle that fills the box.
    """

    pixels: NDArray[np.uint8]
    box: Box
    source: tuple[float, float, float, float]


def fit(photo: NDArray[np.uint8], height: int, width: int, mode: str = "pad", resample: str = "lanczos") -> Fitted:
    """Fit a photo to `height` x `width`.

    `pad` keeps the whole garment in proportion, centred, and fills each bar with the median colour of the photo's edge
    next to it. `crop` keeps proportions and fills the frame: it cuts the longer side about the figure, or about the
    photo's centre where `find_figure` finds none. It never cuts the figure: where that is longer than the frame can
    hold, the cut is widened to the whole figure, with bars on the other side, as with `pad`.
    `stretch` is a plain resize; with `bilinear` it matches the inference code published with FashionFlow.

    Args:
        photo: uint8 (h, w, 3), any h and w of at least 1.
        height, width: the frame, in pixels.
        mode: pad, crop or stretch.
        resample: bilinear, bicubic or lanczos, Pillow's filters.

    Returns:
        The frame, uint8 (height, width, 3), and the region that contains the photo.

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

    if mode == "stretch":
        return Fitted(_resized(photo, height, width, resample), Box(0, 0, height, width), _whole(photo))
    if mode == "crop":
        return _crop(photo, height, width, resample)
    return _pad(photo, height, width, resample)


@dataclass(frozen=True)
class Frame:
    """The frame that a model brings photos to.

    Attributes:
        size: (height, width) in pixels; None: the photo's own size, for models of any size.
        mode, resample: as in `fit`.
        longest_side: maximum pixels of the longer side if `size` is None; 0: no limit.
        sizes: sizes to choose from if `size` is None: the one nearest to the photo's shape.
    """

    size: tuple[int, int] | None
    mode: str
    resample: str
    longest_side: int = 0
    sizes: FrameSizes | None = None

    @classmethod
    def of(cls, config: ModelConfig, request: ResolvedSettings) -> "Frame":
        """Frame settings of a model combined with those of a request."""
        longest = request.motion.longest_side if request.motion else 0
        sizes = request.generator.sizes if request.generator else None
        return cls(request.size, request.fit, config.resample, longest, sizes)

    def fitted(self, photo: Photo | Fitted, warn: bool = False) -> Fitted:
        """A photo in this frame; one that is fitted already is returned as it is.

        Args:
            photo: the photo.
            warn: warn if no person is found in a file's photo.

        Raises:
            FashionFlowError: as in `as_pixels` and `fit`.
        """
        return photo if isinstance(photo, Fitted) else self.fit(as_pixels(photo, warn))

    def fit(self, photo: NDArray[np.uint8]) -> Fitted:
        """Fit a photo to this frame; at its own size only an odd last row or column is cut off.

        Raises:
            FashionFlowError: as in `fit`.
        """
        if self.size is not None:
            return fit(photo, *self.size, self.mode, self.resample)
        _check_pixels(photo, "photo")
        height, width = photo.shape[:2]
        if self.sizes is not None:
            return fit(photo, *self.sizes.nearest(height, width), self.mode, self.resample)
        scale = min(1.0, self.longest_side / max(height, width)) if self.longest_side else 1.0
        if scale < 1:
            size = tuple(max(2, 2 * round(side * scale / 2)) for side in (height, width))
            return fit(photo, size[0], size[1], "stretch", self.resample)
        if min(height, width) < 2:
            raise FashionFlowError(f"photo: {height}x{width} is too small", hint="use at least 2x2 pixels")
        height, width = height // 2 * 2, width // 2 * 2  # yuv420p stores even sides
        return Fitted(photo[:height, :width].copy(), Box(0, 0, height, width), (0, 0, width, height))


def fit_alike(frame: NDArray[np.uint8], first: Fitted, resample: str = "lanczos") -> NDArray[np.uint8]:
    """Fit a later frame of a clip exactly as its first frame: same rectangle, same bars.

    Args:
        frame: uint8 (h, w, 3), of the same size as the photo of `first`.
        first: result of `fit` with the same filter.

    Returns:
        uint8 (height, width, 3); for that photo itself exactly `first.pixels`.
    """
    pixels, box = first.pixels.copy(), first.box
    inner = _resized(frame, box.height, box.width, resample, first.source)
    pixels[box.top : box.top + box.height, box.left : box.left + box.width] = inner
    return pixels


def _whole(photo: NDArray[np.uint8]) -> tuple[float, float, float, float]:
    return (0, 0, photo.shape[1], photo.shape[0])


def _resized(
    photo: NDArray[np.uint8],
    height: int,
    width: int,
    resample: str,
    source: tuple[float, float, float, float] | None = None,
) -> NDArray[np.uint8]:
    """The photo, or the rectangle left, top, right, bottom of it, at another size."""
    return np.array(Image.fromarray(photo).resize((width, height), _RESAMPLE[resample], box=source))


def _pad(
    photo: NDArray[np.uint8],
    height: int,
    width: int,
    resample: str,
    source: tuple[float, float, float, float] | None = None,
) -> Fitted:
    source = source or _whole(photo)
    left, top, right, bottom = source
    scale = min(height / (bottom - top), width / (right - left))
    box_height, box_width = _even((bottom - top) * scale, height), _even((right - left) * scale, width)
    box = Box((height - box_height) // 2, (width - box_width) // 2, box_height, box_width)
    inner = _resized(photo, box_height, box_width, resample, source)
    return Fitted(_with_bars(inner, box, height, width), box, source)


def _crop(photo: NDArray[np.uint8], height: int, width: int, resample: str) -> Fitted:
    photo_height, photo_width, _ = photo.shape
    scale = max(height / photo_height, width / photo_width)
    rows, columns = min(height / scale, photo_height), min(width / scale, photo_width)
    figure = find_figure(photo)
    keep = figure.box if figure else Box(0, 0, photo_height, photo_width)
    if figure and (keep.height > rows or keep.width > columns):
        # One side of the cut already spans the photo, so only the other can be too short.
        left, top, right, bottom = _whole(photo)
        if keep.height > rows:
            top, bottom = keep.top, keep.top + keep.height
        else:
            left, right = keep.left, keep.left + keep.width
        return _pad(photo, height, width, resample, (left, top, right, bottom))
    top = min(max(0.0, keep.top + (keep.height - rows) / 2), photo_height - rows)
    left = min(max(0.0, keep.left + (keep.width - columns) / 2), photo_width - columns)
    # Rounding may exceed the photo's bounds, which Pillow rejects.
    right, bottom = min(left + columns, photo_width), min(top + rows, photo_height)
    source = (left, top, right, bottom)
    return Fitted(_resized(photo, height, width, resample, source), Box(0, 0, height, width), source)


def _even(length: float, limit: int) -> int:
    """The even number nearest to `length`, from 2 to `limit`; `limit` itself if the photo fills that side."""
    return limit if length > limit - 1 else max(2, 2 * round(length / 2))


def _with_bars(inner: NDArray[np.uint8], box: Box, height: int, width: int) -> NDArray[np.uint8]:
    """Centre the photo between bars, each in the median colour of the adjacent edge."""
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
    """Write one frame, uint8 (h, w, 3), as a PNG, atomically.

    Args:
        path: output file, ending in .png.
        frame: pixels to write.

    Raises:
        FashionFlowError: the name does not end in .png, the folder is missing or not writable, or an invalid frame.
    """
    _check_pixels(frame, str(path))
    if Path(path).suffix.lower() != ".png":
        raise FashionFlowError(f"{path}: not a PNG name", hint="use a name that ends in .png")
    check_target(path, overwrite=True)
    try:
        with atomic_path(path) as temporary:
            Image.fromarray(frame).save(temporary, format="PNG")
    except OSError as error:
        raise FashionFlowError(f"{path}: not writable ({reason_of(error)})", "check the free disk space") from None


def _check_pixels(pixels: NDArray[np.uint8], name: str) -> None:
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise FashionFlowError(
            f"{name}: pixels must be uint8 (h, w, 3), not {pixels.dtype} {pixels.shape}",
            hint="convert them: array.clip(0, 255).astype(numpy.uint8)",
        )
