"""Render the bundled sample photos: figures outside the training data. `python scripts/make_examples.py`."""

from pathlib import Path

from PIL import Image

from fashionflow_core.synthetic.clips import render_clip
from fashionflow_core.utils.files import atomic_path

EXAMPLES = {"dress.jpg": 1_000_109, "coat.jpg": 1_000_107, "trousers.jpg": 1_000_118}


def main() -> None:
    folder = Path(__file__).parents[1] / "examples"
    for name, seed in EXAMPLES.items():
        photo = render_clip(seed, height=960, width=768, frame_indices=[0]).frames[0]
        with atomic_path(folder / name) as temporary:
            Image.fromarray(photo).save(temporary, quality=92)


if __name__ == "__main__":
    main()
