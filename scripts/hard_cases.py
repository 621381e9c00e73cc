"""Contact sheets of the motion model on hard photos and the sample photos, at full size.

    python scripts/hard_cases.py docs/img/motion --seed 1

Writes one JPEG per photo: eight evenly spaced frames at 640x512. The photos are the two samples, and synthetic
figures that no model was trained on: stripes with sleeves, a print dress with long hair, trousers and jacket, a child,
and a figure cut at the knee.
"""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from contact_sheet import labelled, save, sheet
from PIL import Image
from score_motion import FPS, PHOTO_SIZE, SAMPLES, UNSEEN, generated

from fashionflow_core.images.loading import load_photo
from fashionflow_core.synthetic.figure import Figure, sample_figure
from fashionflow_core.synthetic.motion_clips import Placed, draw_photo, sample_placed

SIZE = PHOTO_SIZE
SHOWN = 8  # frames per clip
SHEETS = ("stripes with sleeves", "print dress with long hair", "trousers and jacket", "child", "cut at the knee")
STRIPES = ("horizontal_stripes", "vertical_stripes", "diagonal")

# Hard cases: name → condition on the figure.
CASES: dict[str, Callable[[Figure], bool]] = {
    "stripes with sleeves": lambda f: f.upper.kind in STRIPES and f.sleeves in ("long", "elbow"),
    "print dress with long hair": lambda f: f.garment == "dress" and f.upper.kind == "print" and f.hair == "long",
    "trousers and jacket": lambda f: f.garment in ("coat", "tunic"),
    "child": lambda f: f.group == "child",
    "top and trousers": lambda f: f.garment == "top_trousers" and f.group == "woman",
    "dots": lambda f: f.garment == "dress" and f.upper.kind == "dots",
    "man": lambda f: f.group == "man",
    "wide skirt": lambda f: f.garment in ("dress", "top_skirt") and f.hem in ("midi", "maxi") and f.flare > 0.1,
    "dark skin": lambda f: sum(f.skin_rgb) < 1.05,
}
KNEE = "cut at the knee"


def hard_cases(first: int) -> Iterator[tuple[str, np.ndarray]]:
    """Photos (640, 512, 3) of figures that are hard to animate, each with another seed.

    Args:
        first: first seed searched.
    """
    used: set[int] = set()
    for name, wanted in CASES.items():
        seed = next(s for s in range(first, first + 5000) if s not in used and wanted(sample_figure(s)))
        used.add(seed)
        yield name, draw_photo(Placed(sample_figure(seed), False, 0.05, False), *SIZE)[0]
    seed = next(s for s in range(first, first + 5000) if s not in used and _cut_at_the_knee(sample_placed(s)))
    yield KNEE, draw_photo(sample_placed(seed), *SIZE)[0]


def _cut_at_the_knee(placed: Placed) -> bool:
    figure = placed.figure
    low = (1 - (figure.ground - figure.size)) / figure.size  # share of the body above the frame's lower border
    return not placed.busy and 0.7 < low < 0.82


def sample_photos() -> Iterator[tuple[str, np.ndarray]]:
    """The two sample photos at 640x512."""
    for path in sorted(SAMPLES.glob("*.jpg")):
        photo = Image.fromarray(load_photo(path))
        yield path.stem, np.asarray(photo.resize((SIZE[1], SIZE[0]), Image.Resampling.LANCZOS))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=1, help="seed of the motion")
    parser.add_argument("--first-seed", type=int, default=UNSEEN + 1000, help="first seed searched for figures")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    photos = [*sample_photos(), *((name, photo) for name, photo in hard_cases(args.first_seed) if name in SHEETS)]
    for number, (name, photo) in enumerate(photos):
        clip = generated("mini", photo, number, args.seed)
        seconds = np.linspace(0, (len(clip) - 1) / FPS, SHOWN)[1:]
        top = ["photo", *(f"{second:.1f} s" for second in seconds)]
        save(labelled(sheet([clip], SHOWN, SIZE[0]), top, [], 36), args.folder / f"{name.replace(' ', '-')}.jpg")
        print(name, flush=True)


if __name__ == "__main__":
    main()
