"""Contact sheet of videos: frames in labelled rows, as one image.

    python scripts/contact_sheet.py OUT.jpg VIDEO [VIDEO ...]
    python scripts/contact_sheet.py --relabel PICTURE.jpg --top photo "frame 23" --left truth mini

Columns are labelled with the time of their frame, rows with the name of their video; `--relabel` labels an existing
image.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fashionflow_core.utils.files import atomic_path
from fashionflow_core.video import probe, read

MARGIN = 8  # pixels around a label


def sheet(clips: list[np.ndarray], columns: int, height: int) -> Image.Image:
    """Rows of evenly spaced frames; first and last frame of each clip are among them."""
    rows = []
    for frames in clips:
        chosen = frames[np.linspace(0, len(frames) - 1, columns).round().astype(int)]
        row = Image.fromarray(np.concatenate(list(chosen), axis=1))
        rows.append(row.resize((round(row.width * height / row.height), height), Image.Resampling.LANCZOS))
    result = Image.new("RGB", (max(row.width for row in rows), height * len(rows)), "white")
    for index, row in enumerate(rows):
        result.paste(row, (0, index * height))
    return result


def labelled(image: Image.Image, top: list[str], left: list[str], font_size: int = 20) -> Image.Image:
    """The picture with a label above each of its equal columns and left of each of its equal rows."""
    font = ImageFont.load_default(font_size)
    above = font_size + 2 * MARGIN if top else 0
    beside = round(max(map(font.getlength, left))) + 2 * MARGIN if left else 0
    result = Image.new("RGB", (image.width + beside, image.height + above), "white")
    result.paste(image, (beside, above))
    draw = ImageDraw.Draw(result)
    for index, text in enumerate(top):
        middle = beside + (index + 0.5) * image.width / len(top)
        draw.text((middle, above / 2), text, font=font, fill="black", anchor="mm")
    for index, text in enumerate(left):
        middle = above + (index + 0.5) * image.height / len(left)
        draw.text((beside / 2, middle), text, font=font, fill="black", anchor="mm")
    return result


def times(path: Path, columns: int) -> list[str]:
    """Labels of evenly spaced frames; frame 0 is the photo."""
    info = probe(path)
    seconds = [frame / info.fps for frame in np.linspace(0, info.frames - 1, columns).round()]
    return ["photo", *(f"{second:.1f} s" for second in seconds[1:])]


def save(image: Image.Image, path: Path) -> None:
    with atomic_path(path) as temporary:
        image.save(temporary, quality=85)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("videos", type=Path, nargs="*")
    parser.add_argument("--columns", type=int, default=8)
    parser.add_argument("--height", type=int, default=200, help="height of a row in pixels")
    parser.add_argument("--relabel", action="store_true", help="label the existing image OUT")
    parser.add_argument("--top", nargs="*", default=[], help="labels of columns")
    parser.add_argument("--left", nargs="*", default=[], help="labels of rows")
    args = parser.parse_args()
    if args.relabel:
        picture = Image.open(args.out).convert("RGB")
        save(labelled(picture, args.top, args.left), args.out)
        return
    picture = sheet([read(video) for video in args.videos], args.columns, args.height)
    top, left = args.top or times(args.videos[0], args.columns), args.left or [video.stem for video in args.videos]
    save(labelled(picture, top, left), args.out)


if __name__ == "__main__":
    main()
