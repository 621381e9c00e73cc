"""Colour management: ICC profiles, deep grey and transparency to sRGB bytes."""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

_BAND = 1 << 20  # pixels converted at a time, since each step of a conversion makes a copy
_WHITE_IS_ZERO, _BITS = 262, 258  # TIFF tags: PhotometricInterpretation, BitsPerSample
_SPACES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}  # an ICC colour space, and Pillow's mode for it
_CLASSES = ("scnr", "mntr", "prtr", "spac")  # ICC device classes that describe an image's colours


def to_srgb(image: Image.Image, background: tuple[int, int, int], notes: list[str]) -> NDArray[np.uint8]:
    """Convert a decoded image of any mode to sRGB pixels, with transparent areas on `background`.

    Args:
        image: a loaded image.
        background: background colour, sRGB 0 to 255.
        notes: warnings for the user are appended, without the file's name.

    Returns:
        uint8 (h, w, 3), sRGB.

    Raises:
        ValueError: samples of 32 bits with an unknown range.
    """
    mode, transform = _profile(image, notes)
    depth = _Depth(image, mode, transform) if image.mode == "F" or image.mode.startswith("I") else None
    width, height = image.size
    pixels = np.empty((height, width, 3), np.uint8)
    rows = max(1, _BAND // width)
    for top in range(0, height, rows):
        band = image.crop((0, top, width, min(top + rows, height)))
        if depth is not None:
            pixels[top : top + rows] = depth.srgb(band, background)
            continue
        if band.mode in ("La", "RGBa"):  # premultiplied
            band = band.convert(band.mode.upper())
        alpha = None
        if band.has_transparency_data:
            _shorten_colour_key(band)
            rgba = band.convert("RGBA")
            alpha = np.asarray(rgba.getchannel("A"))
            band = band if band.mode in ("L", "LA") and mode == "L" else rgba
        colours = np.asarray(_apply(band, mode, transform))
        pixels[top : top + rows] = colours if alpha is None else _over(colours, alpha, background)
    return pixels


def _apply(image: Image.Image, mode: str, transform: Any) -> Image.Image:
    image = image if image.mode == mode else image.convert(mode)
    return image.convert("RGB") if transform is None else ImageCms.applyTransform(image, transform) or image


def _over(colours: NDArray[np.uint8], alpha: NDArray[np.uint8], background: tuple[int, int, int]) -> NDArray[np.uint8]:
    weight = alpha[:, :, None].astype(np.uint16)
    blend = colours * weight + np.array(background, np.uint16) * (255 - weight) + 127
    return (blend // 255).astype(np.uint8)


def _shorten_colour_key(image: Image.Image) -> None:
    """Pillow keeps the upper bytes of 16-bit colours, but all bits of the transparent colour."""
    key = image.info.get("transparency")
    if isinstance(key, tuple) and max(key) > 255:
        image.info["transparency"] = tuple(value >> 8 for value in key)


def _profile(image: Image.Image, notes: list[str]) -> tuple[str, Any]:
    """The mode in which the image's colours are read, and LittleCMS's transform to sRGB if one is needed."""
    if image.mode == "LAB":
        source = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
        return "LAB", _transform(source, "LAB")
    if "icc_profile" not in image.info:
        if image.mode == "CMYK":
            notes.append("CMYK without an ICC profile; colours are approximate")
        return "RGB", None
    grey = image.mode in ("1", "L", "LA", "La", "F") or image.mode.startswith("I")
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"] or b""))
        profile: Any = source.profile
        space, kind = profile.xcolor_space.strip(), profile.device_class
        # A grey image may have an RGB profile: its levels are those of the neutral colours.
        fits = {"GRAY": grey, "RGB": image.mode != "CMYK", "CMYK": image.mode == "CMYK"}.get(space, False)
        if fits and kind in _CLASSES:
            mode = _SPACES[space]
            transform = _transform(source, mode)
            return mode, None if mode != "CMYK" and _is_identity(mode, transform) else transform
        notes.append(f"the ICC profile is for {space}, not for this image; sRGB is assumed")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        notes.append("the ICC profile is damaged; sRGB is assumed")
    return "RGB", None


def _transform(source: ImageCms.ImageCmsProfile, mode: str) -> Any:
    # Perceptual intent where a profile has tables, as browsers do; matrix profiles have only one intent.
    intent = ImageCms.Intent.PERCEPTUAL
    return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB", renderingIntent=intent)


def _is_identity(mode: str, transform: Any) -> bool:
    """Whether a profile is sRGB itself; the transform would only add rounding errors of 1."""
    levels = np.linspace(0, 255, 18).round().astype(np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(18, -1, 3)
    probe = Image.fromarray(grid).convert(mode)
    change = np.asarray(_apply(probe, mode, transform)).astype(int) - np.asarray(probe.convert("RGB"))
    return bool(np.abs(change).max() <= 1)


class _Depth:
    """Range of the samples of grey with more than 8 bits, and the sRGB value of each of 256 levels."""

    def __init__(self, image: Image.Image, mode: str, transform: Any) -> None:
        tags: Any = getattr(image, "tag_v2", {})
        key = image.info.get("transparency")
        self.key = key if isinstance(key, int) else None
        self.inverted = False
        if image.mode.startswith("I;"):
            (bits, *_) = tags.get(_BITS) or (16,)
            self.top = float(2 ** min(16, bits) - 1)
            self.inverted = tags.get(_WHITE_IS_ZERO) == 0
        else:
            extrema: Any = image.getextrema()
            low, high = map(float, extrema)
            self.top = next((top for top in (1.0, 255.0, 65535.0) if low >= 0 and high <= top), float("nan"))
            if image.mode == "I":  # 16 bits, held in 32
                self.top = max(self.top, 65535.0)
            if not self.top <= (65535.0 if image.mode == "I" else 255.0):
                raise ValueError(f"32-bit samples from {low:g} to {high:g}: white level unknown")
        ramp = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
        self.levels = np.asarray(_apply(ramp, mode, transform))[0].astype(np.float32)

    def srgb(self, band: Image.Image, background: tuple[int, int, int]) -> NDArray[np.uint8]:
        values = np.asarray(band)
        level = values.astype(np.float32) * np.float32(255 / self.top)
        level = np.clip(255 - level if self.inverted else level, 0, 255)
        # Linear between levels, so that 16-bit values stay distinct unless the profile merges them.
        pixels = np.stack([np.interp(level, np.arange(256), curve) for curve in self.levels.T], axis=-1)
        pixels = np.rint(pixels).astype(np.uint8)
        if self.key is not None:
            pixels[values == self.key] = background
        return pixels
