"""Contact sheets of several methods (the paper's Figure 3), as image or video."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fashionflow_core import video
from fashionflow_core.errors import FashionFlowError, SettingError
from fashionflow_core.evaluate.sources import Looked, VideoFrames, find_clips, look, read_clip
from fashionflow_core.utils.files import atomic_path, check_target

STILLS = (".png", ".jpg", ".jpeg")
_TEXT, _GAP = 16, 6  # pixels: line height of text, and padding
# Off-white, so that frames with a white wall stand out.
_INK, _PAPER, _NONE = (30, 30, 30), (236, 237, 240), (214, 215, 219)
_LONGEST = 600  # frames shown per clip


@dataclass(frozen=True, eq=False)
class Cells:
    """Frames of a grid: clip → method → frames; None where the clip is missing or damaged."""

    methods: list[str]
    clips: dict[str, list[np.ndarray | None]]
    fps: dict[str, list[float]]
    failed: list[str]


def grid(
    folders: Sequence[Path],
    out: Path,
    columns: int = 6,
    height: int = 160,
    limit: int = 8,
    overwrite: bool = False,
    titles: Sequence[str] | None = None,
) -> list[str]:
    """Write the clips that folders have in common as one image or video, with one folder per method.

    An image has one row of frames per method, evenly spaced in time; a video has one column per method. In a video each
    method plays at its own frame rate, and a shorter clip holds its last frame.

    Args:
        folders: at least one; the clips in them are paired by name. A folder named twice is shown twice.
        out: .png or .jpg, or a video.
        columns: frames per row of an image.
        height: height of a frame, in pixels.
        limit: use at most N clips, the first by name.
        titles: names of the methods; None: the names of the folders.

    Returns:
        Reasons why clips, or methods of a clip, are omitted.

    Raises:
        UsageError: unsupported suffix.
        FashionFlowError: a folder is missing, nothing can be shown, or `out` cannot be written.
    """
    suffix = out.suffix.lower()
    if suffix not in (*STILLS, *video.SUFFIXES):
        raise SettingError("out", f"{out}: suffix is not one of {', '.join((*STILLS, *video.SUFFIXES))}")
    check_target(out, overwrite)
    cells = gather(folders, height, limit, titles)
    if suffix in STILLS:
        with atomic_path(out) as temporary:
            picture(cells, columns, height).save(temporary, quality=90)
    else:
        rates = [rate for found in cells.fps.values() for rate in found if rate] or [25.0]
        frames = list(_film(cells, height, max(rates)))
        video.write(iter(frames), out, max(rates), len(frames), {"title": " | ".join(cells.methods)})
    return cells.failed


def gather(folders: Sequence[Path], height: int, limit: int, titles: Sequence[str] | None = None) -> Cells:
    """Decode the frames of a grid of these folders at display size.

    Raises:
        FashionFlowError: as `find_clips`, or no usable clip in any folder.
    """
    unreadable: list[str] = []
    by_method = [{source.key: source for source in find_clips(folder, unreadable)} for folder in folders]
    if all(folder.is_file() for folder in folders):  # single files are paired whatever their names
        name = next(iter(by_method[0]))
        by_method = [{name: next(iter(found.values()))} for found in by_method]
    names = sorted(set.union(*map(set, by_method)))
    # Common clips come first, so that a limit omits those that cannot be compared.
    names.sort(key=lambda name: sum(name not in found for found in by_method))
    cells = Cells(list(titles or _titles(folders)), {}, {}, unreadable)
    for name in sorted(names[:limit]):
        shown: list[np.ndarray | None] = []
        rates = []
        for folder, found in zip(folders, by_method, strict=True):
            frames, rate = None, 0.0
            if name not in found:
                cells.failed.append(f"{folder}: no clip named {name}")
            else:
                try:
                    looked = look(found[name])
                    frames, rate = _small(looked, height), looked.fps
                except FashionFlowError as error:
                    cells.failed.append(error.message)
            shown.append(frames)
            rates.append(rate)
        if any(frames is not None for frames in shown):
            cells.clips[name], cells.fps[name] = shown, rates
    if not cells.clips:
        raise FashionFlowError(
            f"{folders[0]}: no usable clip: {cells.failed[0]}",
            hint="pass folders of videos, or of folders of PNG frames",
        )
    return cells


def _titles(folders: Sequence[Path]) -> list[str]:
    """Names of the folders, with enough of the path to be distinct."""
    paths = [folder.resolve() for folder in folders]
    titles = [["/".join(path.parts[-depth:]) for path in paths] for depth in (1, 2, 3)]
    return next((names for names in titles if len(set(names)) == len(set(paths))), titles[-1])


def _small(looked: Looked, height: int) -> np.ndarray:
    width = max(2, round(looked.width * height / looked.height))
    clip: VideoFrames = read_clip(looked, min(looked.frames, _LONGEST), seed=0, size=(max(2, height), width))
    return clip.head


def picture(cells: Cells, columns: int, height: int) -> Image.Image:
    """One heading per clip, with one labelled row of frames per method."""
    font = ImageFont.load_default(_TEXT - 3)
    margin = 2 * _GAP + min(220, round(max(font.getlength(title) for title in cells.methods)))
    rows = []
    for name, shown in cells.clips.items():
        width = max(frames.shape[2] for frames in shown if frames is not None)
        rows.append((name, [_strip(frames, columns, height, width) for frames in shown]))
    wide = margin + max(strip.width for _, strips in rows for strip in strips) + _GAP
    heading = _TEXT + 2 * _GAP
    tall = sum(heading + len(strips) * (height + _GAP) for _, strips in rows) + _GAP
    sheet = Image.new("RGB", (wide, tall), _PAPER)
    draw = ImageDraw.Draw(sheet)
    top = 0
    for name, strips in rows:
        draw.text((margin, top + _GAP), _cut(name, font, wide - margin - _GAP), fill=_INK, font=font)
        top += heading
        for title, strip in zip(cells.methods, strips, strict=True):
            draw.text(
                (_GAP, top + height // 2 - _TEXT // 2), _cut(title, font, margin - 2 * _GAP), fill=_INK, font=font
            )
            sheet.paste(strip, (margin, top))
            top += height + _GAP
    return sheet


def _strip(frames: np.ndarray | None, columns: int, height: int, width: int) -> Image.Image:
    """Frames evenly spaced in time, including first and last, without repeats; grey where a clip is missing."""
    if frames is None:
        return _absent(columns * width + (columns - 1) * 2, height)
    chosen = np.unique(np.linspace(0, len(frames) - 1, columns).round().astype(int))
    each = frames.shape[2]
    strip = Image.new("RGB", (len(chosen) * each + (len(chosen) - 1) * 2, height), _PAPER)
    for place, index in enumerate(chosen):
        strip.paste(Image.fromarray(frames[index]), (place * (each + 2), 0))
    return strip


def _absent(width: int, height: int) -> Image.Image:
    cell = Image.new("RGB", (width, height), _NONE)
    ImageDraw.Draw(cell).text(
        (width // 2, height // 2), "none", fill=_INK, anchor="mm", font=ImageFont.load_default(13)
    )
    return cell


def _film(cells: Cells, height: int, fps: float) -> Iterator[np.ndarray]:
    """Frames of the whole grid: methods from left to right, clips from top to bottom."""
    font = ImageFont.load_default(_TEXT - 3)
    widths = [
        max([f.shape[2] for row in cells.clips.values() if (f := row[column]) is not None] or [height])
        for column in range(len(cells.methods))
    ]
    heading, line = _TEXT + _GAP, _TEXT + _GAP // 2
    wide, tall = sum(widths) + _GAP * (len(widths) + 1), heading + len(cells.clips) * (height + line) + _GAP
    empty = Image.new("RGB", (wide, tall), _PAPER)
    draw = ImageDraw.Draw(empty)
    lefts = [_GAP * (column + 1) + sum(widths[:column]) for column in range(len(widths))]
    for left, width, title in zip(lefts, widths, cells.methods, strict=True):
        draw.text((left, _GAP // 2), _cut(title, font, width), fill=_INK, font=font)
    tops = [heading + row * (height + line) for row in range(len(cells.clips))]
    seconds = 0.0
    for top, (name, shown) in zip(tops, cells.clips.items(), strict=True):
        draw.text((_GAP, top), _cut(name, font, wide - 2 * _GAP), fill=_INK, font=font)
        for left, width, frames, rate in zip(lefts, widths, shown, cells.fps[name], strict=True):
            if frames is None:
                empty.paste(_absent(width, height), (left, top + line))
            else:
                seconds = max(seconds, len(frames) / (rate or fps))
    for index in range(max(1, round(seconds * fps))):
        sheet = empty.copy()
        for top, (name, shown) in zip(tops, cells.clips.items(), strict=True):
            for left, frames, rate in zip(lefts, shown, cells.fps[name], strict=True):
                if frames is not None:
                    at = min(len(frames) - 1, int(index * (rate or fps) / fps + 1e-6))
                    sheet.paste(Image.fromarray(frames[at]), (left, top + line))
        yield np.asarray(sheet)


def _cut(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float) -> str:
    """The text on one line, truncated at the beginning if too wide, since names differ at their ends."""
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    if font.getlength(text) <= width:
        return text
    while text and font.getlength("..." + text) > width:
        text = text[1:]
    return "..." + text
