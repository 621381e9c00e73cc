"""Contact sheet for a blind comparison: the network's motion and hand-made motion of 12 photos, in hidden order.

    python scripts/blind_sheet.py build/blind --seed 7

Writes sheet-01.png etc., one per photo, with two rows A and B of frames evenly spaced over the clip, a crop at twice
the size below each row, and the same pairs as videos (01-A.mp4, 01-B.mp4). The order is drawn from the seed and written
to key.json, which the judge must not open. judgement.txt is a form: one letter per photo.

    python scripts/blind_sheet.py build/blind --count build/blind/judgement.txt

counts the votes against the key.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from hard_cases import hard_cases
from PIL import Image, ImageDraw
from score_motion import FPS, SAMPLES, UNSEEN, generated, handmade

from fashionflow_core.images.loading import load_photo
from fashionflow_core.images.person import figure_mask, figure_rows
from fashionflow_core.utils.files import write_text
from fashionflow_core.video.writing import write

SHOWN = 6  # frames per clip in the sheet


def photos(first: int) -> Iterator[tuple[str, np.ndarray]]:
    """Two sample photos and ten hard cases."""
    for path in sorted(SAMPLES.glob("*.jpg"))[:2]:
        yield path.stem, load_photo(path)
    yield from hard_cases(first)


def cut(frames: np.ndarray, share: float, scale: int) -> np.ndarray:
    """The upper `share` of the figure in all frames, side by side, `scale` times as large."""
    mask = figure_mask(frames[0])
    top, bottom = figure_rows(mask) if mask.any() else (0, frames.shape[1])
    columns = np.flatnonzero(mask.any(axis=0)) if mask.any() else np.arange(frames.shape[2])
    margin = (bottom - top) // 15
    rows = slice(max(0, top - margin), min(frames.shape[1], top + round(share * (bottom - top)) + margin))
    wide = slice(max(0, columns[0] - margin), min(frames.shape[2], columns[-1] + margin))
    row = np.concatenate(list(frames[:, rows, wide]), axis=1)
    size = (row.shape[1] * scale, row.shape[0] * scale)
    return np.asarray(Image.fromarray(row).resize(size, Image.Resampling.LANCZOS))


def sheet(name: str, pair: list[np.ndarray]) -> Image.Image:
    """Rows A and B of frames, each with its crops at twice the size below."""
    chosen = [clip[np.linspace(0, len(clip) - 1, SHOWN).round().astype(int)] for clip in pair]
    rows = []
    for letter, frames in zip("AB", chosen):
        rows.append((letter, cut(frames, 1.0, 1)))
        rows.append((f"{letter}, 200 %", cut(frames, 0.5, 2)))
    picture = Image.new(
        "RGB", (max(r.shape[1] for _, r in rows), sum(r.shape[0] + 24 for _, r in rows) + 24), (255, 255, 255)
    )
    draw = ImageDraw.Draw(picture)
    draw.text((8, 4), name, fill=(0, 0, 0))
    y = 24
    for title, row in rows:
        draw.text((8, y + 4), title, fill=(0, 0, 0))
        picture.paste(Image.fromarray(row), (0, y + 24))
        y += row.shape[0] + 24
    return picture


def make(folder: Path, seed: int, first: int, only: int | None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    key: dict[str, dict[str, str]] = {}
    order = np.random.default_rng([seed, 12])
    names = []
    for number, (name, photo) in enumerate(photos(first), 1):
        swap = bool(order.random() < 0.5)
        names.append(name)
        if only is not None and number > only:
            continue
        made = {"network": generated("mini", photo, number, seed), "handmade": handmade(photo, number, seed)}
        methods = ["handmade", "network"] if swap else ["network", "handmade"]
        key[f"{number:02}"] = {"photo": name, "A": methods[0], "B": methods[1]}
        sheet(f"{number:02}  {name}", [made[m] for m in methods]).save(folder / f"sheet-{number:02}.png")
        for letter, method in zip("AB", methods):
            write(iter(made[method]), folder / f"{number:02}-{letter}.mp4", FPS, len(made[method]))
        print(f"{number:02} {name}", flush=True)
    write_text(folder / "key.json", json.dumps({"seed": seed, "photos": key}, indent=1) + "\n")
    form = "# A, B or = for each photo: which clip would a shop rather show?\n"
    write_text(folder / "judgement.txt", form + "".join(f"{number}: \n" for number in key))


def count(folder: Path, judgement: Path) -> dict[str, int]:
    """Votes by method; `=` counts for neither.

    Raises:
        SystemExit: an invalid line, or a photo without a vote.
    """
    key = json.loads((folder / "key.json").read_text(encoding="utf-8"))["photos"]
    votes = {"network": 0, "handmade": 0, "equal": 0}
    open_ = set(key)
    for line in judgement.read_text(encoding="utf-8").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        number, _, letter = (part.strip() for part in line.partition(":"))
        if number not in key or letter not in ("A", "B", "="):
            sys.exit(f"{judgement}: invalid line {line!r}: a number, a colon, and A, B or =")
        votes["equal" if letter == "=" else key[number][letter]] += 1
        open_.discard(number)
    if open_:
        sys.exit(f"{judgement}: no vote for {', '.join(sorted(open_))}")
    return votes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0, help="seed of the order and of both motions")
    parser.add_argument("--first-seed", type=int, default=UNSEEN + 1000, help="first seed searched for figures")
    parser.add_argument("--only", type=int, help="use the first N photos only")
    parser.add_argument("--count", type=Path, metavar="JUDGEMENT", help="count a filled form")
    args = parser.parse_args()
    if args.count:
        votes = count(args.folder, args.count)
        print(", ".join(f"{name} {number}" for name, number in votes.items()))
        return
    make(args.folder, args.seed, args.first_seed, args.only)


if __name__ == "__main__":
    main()
