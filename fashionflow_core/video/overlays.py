"""Overlays of a video (disclosure, caption, logo) and its end card."""

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from fashionflow_core.config import PLACES
from fashionflow_core.errors import FashionFlowError, SettingError
from fashionflow_core.video.canvas import VideoCanvas, enclosed
from fashionflow_core.video.fonts import load_font

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

# Shares of the shorter side of a frame.
_MARGIN, _MARK_TEXT, _CAPTION_TEXT, _LOGO = 0.035, 0.032, 0.05, (0.14, 0.24)
_LEAST_TEXT = 9  # pixels
_MOST_LINES = 3
_PLATE = (0, 0, 0, 120)  # behind white text
_MOST_PIXELS = 100_000_000


@dataclass(frozen=True)
class LogoOptions:
    """A logo in a corner.

    Attributes:
        file: PNG, JPEG or any other picture that Pillow reads; transparency is kept.
        place: one of `config.PLACES`.
        opacity: 0 to 1.

    Raises:
        UsageError: an unknown place, or opacity out of range.
    """

    file: str
    place: str = "top-right"
    opacity: float = 1.0

    def __post_init__(self) -> None:
        if self.place not in PLACES:
            raise SettingError("logo_place", f"must be one of {', '.join(PLACES)}, not {self.place!r}")
        if not 0 < self.opacity <= 1:
            raise SettingError("logo_opacity", f"must be above 0 and at most 1, not {self.opacity:g}")


@dataclass(frozen=True)
class EndCard:
    """A picture after the last frame.

    Attributes:
        file: as of a logo; transparent areas are white.
        seconds: duration.

    Raises:
        UsageError: not above 0, or more than a minute.
    """

    file: str
    seconds: float = 2.0

    def __post_init__(self) -> None:
        if not 0 < self.seconds <= 60:
            raise SettingError("end_card_seconds", f"must be above 0 and at most 60, not {self.seconds:g}")


def read_picture(file: str) -> Image.Image:
    """A logo or card as RGBA.

    Raises:
        FashionFlowError: no such file, not a picture, or too large.
    """
    try:
        with Image.open(file) as picture:
            if picture.width * picture.height > _MOST_PIXELS:
                raise FashionFlowError(f"{file}: {picture.width}x{picture.height} is too large", hint="scale it down")
            return picture.convert("RGBA")
    except FileNotFoundError:
        raise FashionFlowError(f"{file}: no such file", hint="check the spelling of the path") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = " ".join(str(error).split())
        raise FashionFlowError(f"{file}: cannot be read ({reason})", hint="use a PNG or JPEG picture") from None


def card_frame(card: EndCard, height: int, width: int) -> NDArray[np.uint8]:
    """The whole end card at a video's size, its background extended: uint8 (height, width, 3)."""
    picture = read_picture(card.file)
    white = Image.new("RGBA", picture.size, "white")
    pixels = np.asarray(Image.alpha_composite(white, picture).convert("RGB"))
    return VideoCanvas(pixels, enclosed(pixels.shape[0], pixels.shape[1], height, width)).place(pixels)


class Overlay:
    """All overlays for frames of one size, drawn once.

    Args:
        height, width: of the frames.
        mark: disclosure, small, in a free corner; empty: none.
        caption: lines at the foot; empty: none.
        font: as for `fonts.load_font`.
        logo: a picture in a corner.

    Raises:
        UsageError, FashionFlowError: as `fonts.load_font` and `read_picture`; a caption that does not fit.
    """

    def __init__(
        self,
        height: int,
        width: int,
        mark: str = "",
        caption: str = "",
        font: str = "",
        logo: LogoOptions | None = None,
    ) -> None:
        self._size, self._font = (height, width), font
        self._short = min(height, width)
        taken = {logo.place} if logo is not None else set()
        layers = []
        foot = 0  # pixels that the caption takes
        if caption.strip():
            taken |= {"bottom-left", "bottom-right"}
            layers.append(self._caption(caption))
            foot = height - layers[0][0] - round(self._short * _MARGIN / 2)
        if logo is not None:
            layers.append(self._logo(logo, foot if logo.place.startswith("bottom") else 0))
        if mark.strip():
            corners = ("bottom-left", "top-left", "top-right", "bottom-right")
            layers.append(self._mark(mark, next(corner for corner in corners if corner not in taken)))
        self._layers = layers

    def apply(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A copy of a frame, uint8 (h, w, 3), with all overlays."""
        if not self._layers:
            return frame
        made = frame.copy()
        for top, left, layer in self._layers:
            part = made[top : top + layer.shape[0], left : left + layer.shape[1]]
            colour = layer[: part.shape[0], : part.shape[1], :3].astype(np.uint16)
            alpha = layer[: part.shape[0], : part.shape[1], 3:].astype(np.uint16)
            part[:] = (part * (255 - alpha) + colour * alpha + 127) // 255
        return made

    def _placed(self, picture: Image.Image, place: str, above: int = 0) -> tuple[int, int, NDArray[np.uint8]]:
        height, width = self._size
        margin = round(self._short * _MARGIN)
        top = margin if place.startswith("top") else height - margin - picture.height - above
        left = margin if place.endswith("left") else width - margin - picture.width
        if place == "bottom":
            left = (width - picture.width) // 2
        return max(0, top), max(0, left), np.asarray(picture)

    def _logo(self, logo: LogoOptions, above: int) -> tuple[int, int, NDArray[np.uint8]]:
        picture = read_picture(logo.file)
        scale = min(_LOGO[0] * self._short / picture.height, _LOGO[1] * self._short / picture.width)
        size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
        # Premultiplied, so that colours of transparent areas do not show at edges.
        picture = picture.convert("RGBa").resize(size, Image.Resampling.LANCZOS).convert("RGBA")
        picture.putalpha(picture.getchannel("A").point([round(level * logo.opacity) for level in range(256)]))
        return self._placed(picture, logo.place, above)

    def _mark(self, text: str, place: str) -> tuple[int, int, NDArray[np.uint8]]:
        size = max(_LEAST_TEXT, round(self._short * _MARK_TEXT))
        font = load_font(self._font, text, size)
        lines = _wrapped(text, font, self._size[1] * 0.6)
        if len(lines) > _MOST_LINES or any(font.getlength(line) > self._size[1] * 0.86 for line in lines):
            raise self._too_long("visible_mark", text)
        return self._placed(_plate(lines, font, size), place)

    def _caption(self, text: str) -> tuple[int, int, NDArray[np.uint8]]:
        size = max(_LEAST_TEXT, round(self._short * _CAPTION_TEXT))
        while True:
            font = load_font(self._font, text, size)
            lines = _wrapped(text, font, self._size[1] * 0.86)
            if len(lines) <= _MOST_LINES and all(font.getlength(line) <= self._size[1] * 0.86 for line in lines):
                return self._placed(_plate(lines, font, size), "bottom")
            if size <= _LEAST_TEXT:
                raise self._too_long("caption", text)
            size = max(_LEAST_TEXT, round(size * 0.88))

    def _too_long(self, name: str, text: str) -> SettingError:
        start = textwrap.shorten(text, 60, placeholder=" ...") if " " in text[:60] else text[:60]
        return SettingError(
            name, f"{start!r} is too long for a video of {self._size[1]} pixels", hint="use fewer or shorter words"
        )


def _wrapped(text: str, font: "FreeTypeFont", width: float) -> list[str]:
    """Lines of at most `width` pixels, broken between words and where the text has `\\n`."""
    lines: list[str] = []
    for paragraph in text.replace("\\n", "\n").splitlines():
        line = ""
        for word in paragraph.split():
            longer = f"{line} {word}".strip()
            if line and font.getlength(longer) > width:
                lines.append(line)
                longer = word
            line = longer
        lines.append(line)
    return [line for line in lines if line]


def _plate(lines: Sequence[str], font: "FreeTypeFont", size: int) -> Image.Image:
    """White lines, centred, on a translucent plate with round corners."""
    step, pad = round(size * 1.3), max(2, round(size * 0.45))
    width = max(1, round(max((font.getlength(line) for line in lines), default=1)))
    picture = Image.new("RGBA", (width + 2 * pad, step * len(lines) + round(pad * 1.2)))
    draw = ImageDraw.Draw(picture)
    draw.rounded_rectangle((0, 0, picture.width - 1, picture.height - 1), radius=pad, fill=_PLATE)
    for line, top in zip(lines, _tops(len(lines), step, pad)):
        middle, centre = picture.width / 2, top + step / 2
        draw.text((round(middle - font.getlength(line) / 2), round(centre)), line, font=font, fill="white", anchor="lm")
    return picture


def _tops(count: int, step: int, pad: int) -> Iterator[float]:
    yield from (pad * 0.6 + step * number for number in range(count))
