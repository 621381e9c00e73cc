"""Score motion on unseen figures and on the sample photos, next to baselines.

    python scripts/score_motion.py --out benchmarks/results/motion-scores.json

Methods: `truth`, the rendered clip; `copy`, the photo repeated; `true-motion`, the renderer with the figure's exact
motion and matte; `mini`, the network's motion; `handmade`, procedural motion; `mini-latent`, which generates each
frame; `noise`, its decoder on noise. All use the same photo of each figure at the same size. Turns of the figures are
limited to those of a single photo (`synthetic.motion_clips.gentle_motion`).

Results per figure and method are cached in --work, and measured again only if their generation or measurement has
changed.
"""

import argparse
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from score_bundled import decoded_noise

import fashionflow_core
from fashionflow_benchmarks.timing import hardware
from fashionflow_core.config import DEFAULT_TURN, GenerateSettings
from fashionflow_core.errors import FashionFlowError
from fashionflow_core.images.loading import load_photo
from fashionflow_core.metrics.faithful import score_faithful
from fashionflow_core.motion.figure_box import MARGIN, FigureBox
from fashionflow_core.motion.handmade import handmade_motion
from fashionflow_core.motion.layers import visible_e
from fashionflow_core.motion.matte import Matte
from fashionflow_core.motion.prepared import PreparedPhoto
from fashionflow_core.motion.timing import KEYFRAMES, SPACING, at_times
from fashionflow_core.pipeline import FashionFlowPipeline, load
from fashionflow_core.store.registry import find
from fashionflow_core.synthetic.clips import studio_background
from fashionflow_core.synthetic.figure import Figure, sample_figure
from fashionflow_core.synthetic.geometry import Moment
from fashionflow_core.synthetic.motion import Motion
from fashionflow_core.synthetic.motion_clips import Placed, gentle_motion, true_channels
from fashionflow_core.synthetic.wardrobe import Wardrobe
from fashionflow_core.utils.files import write_text

UNSEEN = 1_000_000  # seeds from here on are excluded from training (docs/concepts/bundled-model.md)
FRAMES, FPS = 70, 25
SAMPLES = Path(__file__).parents[1] / "tests/golden/photos"
PHOTO_SIZE, PHOTO_SEEDS = (640, 512), 8
METHODS = ("truth", "copy", "true-motion", "mini", "handmade", "mini-latent", "noise")
OF_PHOTOS = ("copy", "mini", "handmade")
COLUMNS = (
    ("pattern_kept", "pattern", 3),
    ("face_kept", "face", 3),
    ("edge_quality", "edge", 3),
    ("sharpness_kept", "sharp kept", 3),
    ("garment_sharpness", "sharpness", 2),
    ("garment_drift", "drift", 2),
    ("skin_drift", "skin drift", 2),
    ("largest_pop", "pop", 2),
    ("motion", "motion", 2),
    ("silhouette_range", "width range", 1),
    ("turning_speed", "deg/frame", 2),
)

Scores = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Subject:
    """A rendered figure.

    Attributes:
        seed: seed of the figure.
        frames: true clip, uint8 (70, h, w, 3).
        matte: exact matte of frame 0.
        channels: true motion at the frames' times, float32 (4, 70, 40, 32), on `FigureBox.of(matte.alpha)`.
    """

    seed: int
    frames: np.ndarray
    matte: Matte
    channels: torch.Tensor


def limited(motion: Motion) -> Motion:
    """A motion whose turn from the photo, in the scored frames, is at most the default turn of models."""
    start = motion.yaws[0]
    turns = motion.yaw(np.arange(FRAMES) / FPS)
    share = min(1.0, np.radians(DEFAULT_TURN) / float(np.abs(turns - turns[0]).max()))
    return replace(motion, yaws=tuple(start + (yaw - start) * share for yaw in motion.yaws))


def render(seed: int, size: tuple[int, int], style: str) -> Subject:
    """The figure of a seed, in a gentle motion with the turn requested of models."""
    figure = sample_figure(seed)
    rng = np.random.Generator(np.random.PCG64([seed, 7]))
    figure = replace(figure, motion=limited(gentle_motion(figure.motion, rng)))
    return (render_3d if style == "3d" else render_drawn)(figure, size)


def render_3d(figure: Figure, size: tuple[int, int]) -> Subject:
    """A 3-D figure with simulated clothes (the extra synth3d)."""
    from fashionflow_core.synthetic.figures3d.clip import Figure3d

    seconds = max((KEYFRAMES - 1) * SPACING, FRAMES / FPS)
    subject = Figure3d(Placed(figure, loop=False, margin=MARGIN, busy=False), seconds, size)
    found = subject.captured(KEYFRAMES)
    matte = Matte(found.alpha, np.where(found.alpha > 0, np.maximum(found.parts, 1), 0).astype(np.uint8), True, "")
    channels = at_times(torch.from_numpy(found.channels), np.arange(FRAMES) / FPS)
    return Subject(figure.seed, np.stack(list(subject.frames(FRAMES, FPS))), matte, channels)


def render_drawn(figure: Figure, size: tuple[int, int]) -> Subject:
    """A 2-D figure."""
    wardrobe, background = Wardrobe(figure), studio_background(figure, *size)
    moments = [Moment(figure, i / FPS, *size, wardrobe) for i in range(FRAMES)]
    drawn = [moment.draw(background) for moment in moments]
    alpha, parts = drawn[0][1], moments[0].surface().part
    # A label wherever the matte is, as for predicted parts.
    matte = Matte(alpha, np.where(alpha > 0, np.maximum(parts, 1), 0).astype(np.uint8), True, "")
    box = FigureBox.of(alpha)
    keys, _ = true_channels(figure, np.arange(KEYFRAMES) * SPACING, box, visible_e(alpha, matte.parts), size, wardrobe)
    channels = at_times(torch.from_numpy(keys), np.arange(FRAMES) / FPS)
    return Subject(figure.seed, np.stack([frame for frame, _ in drawn]), matte, channels)


@cache
def opened(model: str) -> FashionFlowPipeline:
    return load(model, device="cpu", dtype="fp32")


def generated(model: str, photo: np.ndarray, item: int, seed: int = 0) -> np.ndarray:
    """A model's clip of a photo, at the photo's size."""
    pipeline = opened(model)
    settings = GenerateSettings(seed=seed)
    if pipeline.config.latents == "motion":
        settings = replace(settings, size="photo", frames=FRAMES)
    return np.stack(list(pipeline.generate(photo, settings, item).frames))


def handmade(photo: np.ndarray, item: int, seed: int = 0) -> np.ndarray:
    """The procedural motion, with the matte of `mini` if installed."""
    motion = opened("mini").motion if known("mini") else None
    prepared = PreparedPhoto.of(photo, motion.parse if motion else None)
    channels = handmade_motion(prepared.matte.alpha, prepared.box, np.arange(FRAMES) / FPS, 1000 * seed + item)
    return np.stack(list(prepared.frames(torch.from_numpy(channels))))


def make(method: str, subject: Subject, item: int) -> np.ndarray:
    """One method's clip of a figure."""
    photo = subject.frames[0]
    if method == "truth":
        return subject.frames
    if method == "copy":
        return np.repeat(photo[None], FRAMES, axis=0)
    if method == "true-motion":
        return np.stack(list(PreparedPhoto(photo, subject.matte).frames(subject.channels)))
    if method == "handmade":
        return handmade(photo, item)
    if method == "noise":
        return decoded_noise(opened("mini-latent"), item, photo)
    return generated(method, photo, item)


def known(model: str) -> bool:
    """Whether a complete model of that name is installed."""
    try:
        find(model)
        return (find(model) / "model.json").is_file() and (find(model) / "unet").is_dir()
    except FashionFlowError:
        return False


@cache
def fingerprint(method: str) -> str:
    """Cache key: changes with the model, the renderer and the metrics."""
    core = Path(fashionflow_core.__file__).parent
    folders = [core / "metrics", core / "synthetic"]
    if method in ("true-motion", "mini", "handmade"):
        folders.append(core / "motion")
    if method in ("mini", "mini-latent", "handmade", "noise"):
        models = [name for name in ("mini", "mini-latent") if name == method]
        models = models or [{"noise": "mini-latent"}.get(method, "mini")]
        folders += [find(model) for model in models if known(model)]
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for folder in folders:
        for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix != ".pyc"):
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def kept(work: Path, name: str, method: str, measure: Callable[[], Scores]) -> Scores:
    """A result from the work folder, measured and stored if missing."""
    path = work / f"{name}-{method}-{fingerprint(method)}.json"
    if path.is_file():
        return json.loads(path.read_text(encoding="utf-8"))
    scores = measure()
    write_text(path, json.dumps(scores, indent=1) + "\n")
    print(f"{name} {method}: {row(scores)}", flush=True)
    return scores


def row(scores: Scores) -> str:
    return ", ".join(f"{title} {cell(scores.get(name), digits)}" for name, title, digits in COLUMNS)


def cell(value: Any, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def score_figures(
    figures: int, first: int, methods: list[str], size: tuple[int, int], style: str, work: Path
) -> dict[str, list[Scores]]:
    """Scores of every method, figure by figure."""
    rows: dict[str, list[Scores]] = {method: [] for method in methods}
    for item in range(figures):
        subject = cache(lambda seed=first + item: render(seed, size, style))
        for method in methods:
            name = f"{style}-{first + item}-{size[0]}x{size[1]}"
            rows[method].append(
                kept(work, name, method, lambda m=method: score_faithful(make(m, subject(), item)))  # noqa: B023
            )
    return rows


def score_photos(methods: list[str], seeds: int, work: Path) -> dict[str, dict[str, list[Scores]]]:
    """Scores on the sample photos: photo → method → one per seed."""
    found: dict[str, dict[str, list[Scores]]] = {}
    for item, path in enumerate(sorted(SAMPLES.glob("*.jpg"))):
        photo = load_photo(path)
        if photo.shape[:2] != PHOTO_SIZE:
            picture = Image.fromarray(photo).resize((PHOTO_SIZE[1], PHOTO_SIZE[0]), Image.Resampling.LANCZOS)
            photo = np.asarray(picture)
        for method in methods:
            for seed in range(1 if method == "copy" else seeds):

                def measure(method: str = method, seed: int = seed, photo: np.ndarray = photo, item: int = item):
                    if method == "copy":
                        frames = np.repeat(photo[None], FRAMES, axis=0)
                    elif method == "handmade":
                        frames = handmade(photo, item, seed)
                    else:
                        frames = generated(method, photo, item, seed)
                    return score_faithful(frames)

                scores = kept(work, f"{path.stem}-seed{seed}", method, measure)
                found.setdefault(path.stem, {}).setdefault(method, []).append(scores)
    return found


def mean(rows: list[Scores], name: str) -> float | None:
    values = [scores[name] for scores in rows if scores.get(name) is not None]
    return float(np.mean(values)) if values else None


@dataclass(frozen=True)
class Line:
    """One limit: quantity, value, limit as text; met is None if not measured."""

    what: str
    value: float | None
    limit: str
    met: bool | None


def skin_gap(rows: list[Scores]) -> float | None:
    """Largest difference of mean skin drift between two skin groups."""
    groups: dict[str, list[float]] = {}
    for scores in rows:
        if scores["skin_drift"] is not None:
            groups.setdefault(scores["skin_group"], []).append(scores["skin_drift"])
    means = [float(np.mean(values)) for values in groups.values()]
    return max(means) - min(means) if len(means) > 1 else None


def judge(rows: dict[str, list[Scores]], photos: dict[str, dict[str, list[Scores]]]) -> list[Line]:
    """Limits for a new model, and the expected order of methods by score."""
    lines: list[Line] = []
    mini, truth, best = rows.get("mini"), rows.get("truth"), rows.get("true-motion")

    def add(what: str, value: float | None, limit: str, test: Callable[[float], bool]) -> None:
        lines.append(Line(what, value, limit, None if value is None else bool(test(value))))

    def ratio(name: str, one: list[Scores] | None, other: list[Scores] | None) -> float | None:
        over, under = (mean(r, name) if r else None for r in (one, other))
        return over / under if over is not None and under else None

    for name, what in (
        ("motion", "motion over the truth's"),
        ("silhouette_range", "range of silhouette width over the truth's"),
        ("turning_speed", "turning speed over the truth's"),
    ):
        add(what, ratio(name, mini, truth), "0.7 to 1.3", lambda v: 0.7 <= v <= 1.3)
    add("garment drift", mean(mini, "garment_drift") if mini else None, "at most 1.5", lambda v: v <= 1.5)
    for name, what in (("sharpness_kept", "sharpness inside the garment"), ("pattern_kept", "pattern kept")):
        add(f"{what} over true motion's", ratio(name, mini, best), "at least 0.9", lambda v: v >= 0.9)
    pops = [scores["largest_pop"] for scores in mini or []]
    pops += [s["largest_pop"] for found in photos.values() for s in found.get("mini", [])]
    add("largest pop of any clip", max(pops) if pops else None, "at most 1.5", lambda v: v <= 1.5)
    add("skin drift gap between skin groups", skin_gap(mini) if mini else None, "at most 0.5", lambda v: v <= 0.5)
    for photo, found in photos.items():
        drifts = [scores["garment_drift"] for scores in found.get("mini", [])]
        what = f"garment drift of {photo}, worst of {len(drifts)} seeds"
        add(what, max(drifts) if drifts else None, "at most 1", lambda v: v <= 1)
    for order in (("true-motion", "mini"), ("mini", "mini-latent", "noise"), ("true-motion", "mini-latent", "noise")):
        if not all(method in rows for method in order):
            continue
        for name in ("pattern_kept", "face_kept", "edge_quality"):
            values = [mean(rows[method], name) for method in order]
            steps = [a - b for a, b in pairwise(value for value in values if value is not None)]
            add(f"{name}: least step of {' > '.join(order)}", min(steps), "0 or more", lambda v: v >= 0)
    return lines


def table(rows: dict[str, list[Scores]]) -> str:
    lines = ["| | " + " | ".join(title for _, title, _ in COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for method, scores in rows.items():
        cells = [cell(mean(scores, name), digits) for name, _, digits in COLUMNS]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def summary(lines: list[Line]) -> str:
    text = ["| must reach | value | limit | met |", "|---|---:|---|---|"]
    words = {True: "yes", False: "NO", None: "not measured"}
    text += [f"| {line.what} | {cell(line.value, 3)} | {line.limit} | {words[line.met]} |" for line in lines]
    return "\n".join(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--figures", type=int, default=16)
    parser.add_argument("--first-seed", type=int, default=UNSEEN)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--size", type=int, nargs=2, default=(320, 256), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--style", choices=("drawn", "3d"), default="drawn")
    parser.add_argument("--photo-seeds", type=int, default=PHOTO_SEEDS, help="0: no sample photos")
    parser.add_argument("--threads", type=int, default=0, help="0: torch's choice")
    parser.add_argument("--work", type=Path, default=Path("build/motion-scores"), help="folder of finished parts")
    parser.add_argument("--out", type=Path, help="JSON file")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    args.work.mkdir(parents=True, exist_ok=True)
    methods = [m for m in METHODS if m in args.methods and (m not in ("mini", "mini-latent") or known(m))]
    for method in set(args.methods) - set(methods):
        print(f"omitted: {method}, which is not installed")
    size = (args.size[0], args.size[1])
    if size != (320, 256) and {"mini-latent", "noise"} & set(methods):
        parser.error("mini-latent and noise have a fixed size, 320 256")
    rows = score_figures(args.figures, args.first_seed, methods, size, args.style, args.work)
    photos = (
        score_photos([m for m in OF_PHOTOS if m in methods], args.photo_seeds, args.work) if args.photo_seeds else {}
    )
    lines = judge(rows, photos)
    print(table(rows))
    for photo, found in photos.items():
        print(f"\n{photo}, {PHOTO_SIZE[0]}x{PHOTO_SIZE[1]}, means over seeds\n{table(found)}")
    print("\n" + summary(lines))
    if args.out:
        result = {
            "figures": args.figures,
            "style": args.style,
            "first_seed": args.first_seed,
            "size": list(size),
            "frames": FRAMES,
            "photo_size": list(PHOTO_SIZE),
            "photo_seeds": args.photo_seeds,
            "hardware": hardware(torch.device("cpu"), "float32"),
            "processes": 1,
            "usable_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "must_reach": [{"what": x.what, "value": x.value, "limit": x.limit, "met": x.met} for x in lines],
            "mean": {m: {name: mean(r, name) for name in r[0] if name != "skin_group"} for m, r in rows.items() if r},
            "each": rows,
            "photos": photos,
        }
        write_text(args.out, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
