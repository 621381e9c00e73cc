"""Score the photo lock on degraded clips whose truth is known.

    python scripts/score_lock.py --seeds 3000400-3000431 --work build/lock --out build/lock.json

Clips are those of `synthetic.degraded.as_generated`; the kinds of damage take turns with the seed. Scores of a clip are
written as they are measured, and measured again only if the code of the lock, the clips or the metrics has changed. A
run that was stopped continues where it was.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

import fashionflow_core
from fashionflow_core.images.lab import ciede2000, srgb_to_lab
from fashionflow_core.lock.options import LockOptions
from fashionflow_core.lock.photo_lock import PhotoLock
from fashionflow_core.metrics import drift
from fashionflow_core.metrics.face import face_kept
from fashionflow_core.metrics.labels import GARMENT, SKIN
from fashionflow_core.metrics.pattern import pattern_kept
from fashionflow_core.metrics.pops import largest_pop
from fashionflow_core.metrics.tracking import follow
from fashionflow_core.synthetic.degraded import DegradedClip, as_generated
from fashionflow_core.utils.files import write_text

CODE = ("lock/*.py", "synthetic/degraded.py", "synthetic/labelled.py", "metrics/labels.py", "metrics/drift.py")
LIMIT = 0.1  # dB that a clip may lose

Scores = dict[str, Any]


def code_version() -> str:
    """Hash of the code that scores depend on."""
    root = Path(fashionflow_core.__file__).parent
    files = sorted(path for name in CODE for path in root.glob(name))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]


def error_by_frame(frames: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """PSNR of each frame but the photo, dB, float64 `(f - 1,)`."""
    square = [np.mean((a.astype(np.float32) - b) ** 2) for a, b in zip(frames[1:], truth[1:], strict=True)]
    return 10 * np.log10(255**2 / np.maximum(square, 1e-3))


def measured(frames: np.ndarray, clip: DegradedClip, track: Any) -> Scores:
    """Scores of one version of a clip; masks and motion are those of the truth."""
    true, labels = clip.truth.frames, clip.truth.labels
    worn, figure = labels == GARMENT, labels > 0
    by_frame = error_by_frame(frames, true)
    flicker = drift.temporal_energy(frames[1:]) / drift.sharpness(frames[1:], figure[1:])
    found = {
        "psnr": drift.psnr(frames[1:], true[1:]),
        "worst_frame": float(by_frame.min()),
        "drift": drift.cell_drift(frames[1:], true[0], worn[1:], worn[0]),
        "drift_mean": drift.garment_drift(np.concatenate([true[:1], frames[1:]]), worn),
        "from_truth": from_truth(frames, clip),
        "pattern": pattern_kept(np.concatenate([true[:1], frames[1:]]), worn[0], track),
        "face": face_kept(np.concatenate([true[:1], frames[1:]]), figure[0], track),
        "flicker": flicker,
        "pop": largest_pop(np.concatenate([true[:1], frames[1:]])),
    }
    return {name: round(float(value), 4) for name, value in found.items()}


def from_truth(frames: np.ndarray, clip: DegradedClip) -> float:
    """Mean CIEDE2000 between the mean colours of garment and skin in each frame and in its truth."""
    found = []
    for frame, true, labels in zip(frames[1:], clip.truth.frames[1:], clip.truth.labels[1:], strict=True):
        for label in (GARMENT, SKIN):
            place = labels == label
            if place.sum() >= 60:
                colours = (srgb_to_lab(one[place]).astype(np.float64).mean(0) for one in (true, frame))
                found.append(float(ciede2000(*colours)))
    return float(np.mean(found)) if found else 0.0


def score(seed: int, frames: int, height: int, width: int, levels: tuple[str, ...]) -> Scores:
    """Scores of a seed's clip: the truth, as generated, and locked at each level."""
    clip = as_generated(seed, frames, height, width)
    figure = clip.truth.labels[0] > 0
    track = follow(clip.truth.frames, figure, 2)
    found: Scores = {"seed": seed, "damage": clip.damage, "strength": clip.strength}
    found["fabrics"] = sorted({str(clip.truth.attributes[name]) for name in ("fabric", "lower_fabric")})
    found["turn"] = round(float(np.ptp(clip.truth.yaws)), 1)
    found["truth"] = measured(clip.truth.frames, clip, track)
    found["generated"] = measured(clip.frames, clip, track)
    for level in levels:
        lock = PhotoLock(clip.truth.frames[0], LockOptions(level))
        start = time.process_time()
        made = np.stack([lock.add(frame) for frame in clip.frames])
        seconds = (time.process_time() - start) / len(made)
        found[level] = measured(made, clip, track) | {"seconds": round(seconds, 4), "report": lock.report.summary()}
    return found


def table(rows: list[Scores], levels: tuple[str, ...]) -> str:
    """One line per clip."""
    lines = [f"{'seed':>8} {'damage':10} {'str':>3} {'turn':>5} {'psnr':>5} " + "".join(f"{x:>8}" for x in levels)]
    for row in sorted(rows, key=lambda row: (row["damage"], row["strength"])):
        before = row["generated"]["psnr"]
        gains = "".join(f"{row[level]['psnr'] - before:+8.2f}" for level in levels)
        last = row[levels[-1]]
        lines.append(
            f"{row['seed']:>8} {row['damage']:10} {row['strength']:3.1f} {row['turn']:5.0f} {before:5.1f} {gains}"
            f"  drift {row['generated']['drift']:5.2f} {last['drift']:5.2f} ({row['truth']['drift']:4.2f})"
            f"  colour {row['generated']['from_truth']:5.2f} {last['from_truth']:5.2f}"
            f"  pattern {row['generated']['pattern']:.3f} {last['pattern']:.3f}"
            f"  {','.join(row['fabrics'])}"
        )
    return "\n".join(lines)


def summary(rows: list[Scores], level: str) -> Scores:
    """What the limits of the lock are stated in, over all clips."""
    before, after = [row["generated"] for row in rows], [row[level] for row in rows]
    gains = np.array([b["psnr"] - a["psnr"] for a, b in zip(before, after)])

    def mean(scores: list[Scores], name: str) -> float:
        return float(np.mean([one[name] for one in scores]))

    def excess(scores: list[Scores]) -> float:
        """Mean of what each clip drifts beyond its truth, which drifts from its photo as it turns."""
        return float(np.mean([max(0.0, one["drift"] - row["truth"]["drift"]) for one, row in zip(scores, rows)]))

    printed = [row for row in rows if row["fabrics"] != ["plain"]]
    flickers = np.array([b["flicker"] / a["flicker"] for a, b in zip(before, after)])
    true = [row["truth"] for row in rows]
    truth = mean(true, "drift")
    return {
        "clips": len(rows),
        "psnr": [mean(before, "psnr"), mean(after, "psnr")],
        "gain_least": float(gains.min()),
        "share_higher": float((gains > 0).mean()),
        "share_lower_than_limit": float((gains < -LIMIT).mean()),
        "drift": [mean(before, "drift"), mean(after, "drift"), truth],
        "drift_cut": 1 - mean(after, "drift") / mean(before, "drift"),
        "drift_cut_above_truth": 1 - (mean(after, "drift") - truth) / (mean(before, "drift") - truth),
        "drift_excess": [excess(before), excess(after)],
        "drift_excess_cut": 1 - excess(after) / max(excess(before), 1e-9),
        "from_truth": [mean(before, "from_truth"), mean(after, "from_truth")],
        "from_truth_cut": 1 - mean(after, "from_truth") / mean(before, "from_truth"),
        "prints": len(printed),
        "share_pattern_up": float(np.mean([r[level]["pattern"] > r["generated"]["pattern"] for r in printed] or [0])),
        "face": [mean(before, "face"), mean(after, "face")],
        "flicker_mean": float(flickers.mean()),
        "flicker_most": float(flickers.max()),
        "flicker_above_both": int(
            (
                np.array([b["flicker"] / max(a["flicker"], t["flicker"]) for a, b, t in zip(before, after, true)])
                > 1.05
            ).sum()
        ),
        "pops": int(sum(b["pop"] > 1.05 * max(1.5, a["pop"], t["pop"]) for a, b, t in zip(before, after, true))),
        "seconds": mean(after, "seconds"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="3000400-3000431", help="first and last seed")
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--height", type=int, default=320)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--levels", default="colour,full")
    parser.add_argument("--work", type=Path, default=Path("build/lock"), help="folder of scores by clip")
    parser.add_argument("--out", type=Path, help="JSON of all clips and their summary")
    arguments = parser.parse_args()
    first, last = (int(x) for x in arguments.seeds.split("-"))
    levels = tuple(arguments.levels.split(","))
    size = (arguments.frames, arguments.height, arguments.width)
    folder = arguments.work / f"{code_version()}-{'x'.join(map(str, size))}-{'-'.join(levels)}"
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for seed in range(first, last + 1):
        kept = folder / f"{seed}.json"
        if not kept.exists():
            write_text(kept, json.dumps(score(seed, *size, levels)))
        rows.append(json.loads(kept.read_text()))
        print(table(rows[-1:], levels).splitlines()[1], flush=True)
    found = {level: summary(rows, level) for level in levels}
    print(table(rows, levels))
    print(json.dumps(found, indent=1))
    if arguments.out:
        write_text(arguments.out, json.dumps({"size": size, "summary": found, "clips": rows}, indent=1))


if __name__ == "__main__":
    main()
