"""Measure how far a motion model shifts figures sideways, against the truth.

    python scripts/measure_shift.py --gain 1 --out benchmarks/results/motion-shift.json

The shift is the sideways motion of the whole figure: weight shifts and steps. Figures are those of `data synth
--motion`, with seeds that are excluded from training; each is generated once, with its exact matte. Prints the
deviation over time and the speed of true and generated shifts (root mean square over figures), and their ratios. With
--gain 1, the ratio of the speeds over both styles is the `shift_gain` that model.json should contain.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from fashionflow_core.config import GenerateSettings
from fashionflow_core.motion.control import shift_of
from fashionflow_core.motion.figure_box import GRID, FigureBox
from fashionflow_core.motion.timing import KEYFRAMES, SPACING, at_times
from fashionflow_core.pipeline import load
from fashionflow_core.synthetic.motion_clips import FRAME, draw_photo, make_motion_clip, sample_placed
from fashionflow_core.utils.files import write_text

HELD_OUT = 2_000_000  # first seed
FRAMES, FPS = 70, 25

Row = dict[str, dict[str, float]]


def figures(style: str, count: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Photo, uint8 (h, w, 3), matte (h, w) and true channels (4, 12, 40, 32) of each figure."""
    for seed in range(HELD_OUT, HELD_OUT + count):
        if style == "3d":
            from fashionflow_core.synthetic.figures3d.clip import Figure3d

            found = Figure3d(seed, (KEYFRAMES - 1) * SPACING).captured(KEYFRAMES)
            yield found.photo, found.alpha, found.channels
        else:
            photo, alpha = draw_photo(sample_placed(seed), *FRAME)
            yield photo, alpha, make_motion_clip(seed, KEYFRAMES).channels


def spread(shift: torch.Tensor) -> dict[str, float]:
    """Deviation over time, and speed per second, of a shift (n,), in figure heights."""
    return {"deviation": float(shift.std()), "speed": float(shift.diff().abs().mean()) * FPS}


def pooled(rows: list[Row], name: str) -> tuple[float, float]:
    """Root mean square over figures of a measure of the true and of the generated shift."""
    truth, model = (float(np.sqrt(np.mean([row[of][name] ** 2 for row in rows]))) for of in ("truth", "model"))
    return truth, model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--figures", type=int, default=10, help="of each style")
    parser.add_argument("--styles", nargs="+", choices=("drawn", "3d"), default=["drawn", "3d"])
    parser.add_argument("--gain", type=float, help="replaces the model's shift_gain")
    parser.add_argument("--out", type=Path, help="JSON file")
    args = parser.parse_args()
    pipeline = load(args.model, device="cpu", dtype="fp32")
    factor = 1.0 if args.gain is None else args.gain / pipeline.config.shift_gain
    settings = replace(GenerateSettings(seed=0), size="photo", frames=FRAMES)
    results: dict[str, list[Row]] = {}
    for style in args.styles:
        rows = results.setdefault(style, [])
        for item, (photo, alpha, keys) in enumerate(figures(style, args.figures)):
            cells = FigureBox.of(alpha).resample(alpha, *GRID, outside=0.0)
            true = at_times(torch.from_numpy(keys), np.arange(FRAMES) / FPS)
            clip = pipeline.generate(photo, settings, item, matte=alpha)
            rows.append(
                {
                    "truth": spread(shift_of(true, cells)),
                    "model": spread(factor * shift_of(clip.latents[0], cells)),
                }
            )
        for name in ("deviation", "speed"):
            truth, model = pooled(rows, name)
            print(f"{style}, {len(rows)} figures, {name}: truth {truth:.4f}, {model / truth:.2f} of it", flush=True)
    truth, model = pooled([row for rows in results.values() for row in rows], "speed")
    print(f"all: speed of the truth over the model's {truth / model:.2f}")
    if args.out:
        write_text(args.out, json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
