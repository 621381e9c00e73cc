"""Validate the detectors of the quality gate on drawn clips with faults of five strengths.

    python scripts/score_gate.py --out benchmarks/results/gate-scores.json

Clean clips and faulty ones are divided by their seeds: even ones set the limits, odd ones are reported. Measurements of
a seed are kept, and measured again only if the code of the detectors or of the clips has changed. A run that was
stopped continues where it was.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import numpy as np
import torch

import fashionflow_core
from fashionflow_benchmarks.timing import hardware
from fashionflow_core.metrics import doubled, drift, lost_detail, motion_faults, steadiness
from fashionflow_core.synthetic.degraded import STRENGTHS
from fashionflow_core.synthetic.faulty import FAULTS, VISIBLE, faulty
from fashionflow_core.synthetic.labelled import labelled_clip
from fashionflow_core.utils.files import write_text

CODE = (
    *(f"metrics/{name}.py" for name in ("steadiness", "motion_faults", "doubled", "lost_detail", "drift", "pattern")),
    *("metrics/face.py", "metrics/tracking.py", "synthetic/faulty.py", "synthetic/degraded.py"),
)
BELOW = ("still",)  # faults with scores below their limit
FRAMES = 16

Values = dict[str, float]


def code_version() -> str:
    """Hash of the code that measurements depend on."""
    root = Path(fashionflow_core.__file__).parent
    return hashlib.sha256(b"".join((root / name).read_bytes() for name in CODE)).hexdigest()[:12]


def measured(frames: np.ndarray) -> Values:
    """Score of every detector."""
    chosen = np.unique(np.linspace(0, len(frames) - 1, 12).round().astype(int))
    zoom = motion_faults.zoom(frames)
    few = frames[chosen]
    _, figure, garment = drift.find_parts(few)
    lost = lost_detail.lost_structure(frames, figure[0], garment[0])
    found = {
        "still": motion_faults.movement(frames),
        "zoom": zoom.share if zoom.growth > motion_faults.LEAST_GROWTH else 0.0,
        "flash": steadiness.flash(frames[:, ::4, ::4]),
        "background": steadiness.wall_shift(frames[:, ::2, ::2]),
        "fade": steadiness.fade(few, figure),
        "limb": doubled.doubled_limb(frames),
        "blur": lost_detail.blur(few, figure),
        "texture": lost.pattern,
        "colour": drift.cell_drift(few[1:], few[0], garment[1:], garment[0]),
        "face": lost.face,
    }
    return {name: round(float(value), 4) for name, value in found.items()} | {"growth": round(zoom.growth, 4)}


def of_seed(seed: int, with_faults: bool) -> dict[str, Values]:
    """Scores of a seed's clip without faults (`clean`), and with each fault at each strength (`fault strength`)."""
    clip = labelled_clip(seed, FRAMES, 320, 256)
    found = {"clean": measured(clip.frames)}
    for fault in FAULTS if with_faults else ():
        for strength in STRENGTHS:
            found[f"{fault} {strength}"] = measured(faulty(clip, fault, strength, seed))
    return found


def limit_of(clean: np.ndarray, visible: np.ndarray) -> float:
    """Between what 2 % of the clean clips and nine tenths of the visible faults exceed, larger scores being worse.

    The middle of the two; the geometric one for scores below their limit, which are of different orders. Where the two
    overlap, 2 % of the clean clips are beyond the limit.
    """
    low, high = float(np.quantile(clean, 0.98)), float(np.quantile(visible, 0.1))
    if high <= low:
        return low
    return -float(np.sqrt(low * high)) if high < 0 else 0.5 * (low + high)


def report(rows: dict[int, dict[str, Values]]) -> dict[str, dict[str, object]]:
    """Limit, false alarms and recall by strength of each detector."""
    halves = [{seed: row for seed, row in rows.items() if seed % 2 == part} for part in (0, 1)]
    found: dict[str, dict[str, object]] = {}
    for fault in FAULTS:
        sign = -1 if fault in BELOW else 1
        clean = [np.array([sign * row["clean"][fault] for row in half.values()]) for half in halves]

        def of(half: int, strength: float, fault: str = fault, sign: int = sign) -> np.ndarray:
            name = f"{fault} {strength}"
            return np.array([sign * row[name][fault] for row in halves[half].values() if name in row])

        seen = [strength for strength in STRENGTHS if strength >= VISIBLE[fault]]
        limit = limit_of(clean[0], np.concatenate([of(0, strength) for strength in seen]))
        found[fault] = {
            "limit": round(sign * limit, 4),
            "false_alarms": float((clean[1] > limit).mean()),
            "clean_clips": len(clean[1]),
            "usual": round(float(np.median(np.abs(clean[0]))), 3),
            "worst_clean": round(float(np.concatenate(clean).max()) * sign, 3),
            "visible_from": VISIBLE[fault],
            "recall": {strength: round(float((of(1, strength) > limit).mean()), 3) for strength in STRENGTHS},
            "faulty_clips": len(of(1, 1.0)),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", type=int, default=4_000_000, help="first seed")
    parser.add_argument("--clean", type=int, default=120, help="number of clean clips")
    parser.add_argument("--faulty", type=int, default=32, help="number of clips that get the faults")
    parser.add_argument("--work", type=Path, default=Path("build/gate"), help="folder of measurements by clip")
    parser.add_argument("--out", type=Path, help="JSON of the report")
    arguments = parser.parse_args()
    folder = arguments.work / code_version()
    folder.mkdir(parents=True, exist_ok=True)
    rows: dict[int, dict[str, Values]] = {}
    for number in range(arguments.clean):
        seed, with_faults = arguments.first + number, number < arguments.faulty
        kept = folder / f"{seed}-{'faulty' if with_faults else 'clean'}.json"
        if not kept.exists():
            write_text(kept, json.dumps(of_seed(seed, with_faults)))
        rows[seed] = json.loads(kept.read_text())
    found = report(rows)
    print(json.dumps(found, indent=1))
    if arguments.out:
        about = {
            "seeds": [arguments.first, arguments.first + arguments.clean - 1],
            "frames": FRAMES,
            "hardware": hardware(torch.device("cpu"), "float32"),
        }
        write_text(arguments.out, json.dumps({"report": found, **about}, indent=1) + "\n")


if __name__ == "__main__":
    main()
