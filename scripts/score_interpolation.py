"""Score frame interpolation on unseen rendered figures, next to baselines without a model.

    python scripts/score_interpolation.py --jobs 4 --threads 1 --out benchmarks/results/interpolation-scores.json

Every second (or fourth) frame of a figure is given; scores are of the frames in between only, against the truth.
`blend` mixes the two neighbouring given frames linearly, `repeat` shows the previous one. Both are scored on the given
frames themselves and, as `blend, vae` and `repeat, vae`, on their reconstructions by the model's VAE. `vae` is the
truth through it: a model can exceed it only by the residual of given frames (`vae_residual.py`). Motion and flicker are
of the whole clip, as ratios to the truth's.
"""

import argparse
import functools
import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from score_bundled import UNSEEN, reconstruct

from fashionflow_benchmarks.timing import hardware
from fashionflow_core.config import GenerateSettings, ModelConfig
from fashionflow_core.metrics.drift import motion, psnr, sharpness, temporal_energy
from fashionflow_core.pipeline import FashionFlowPipeline, load
from fashionflow_core.store.registry import find
from fashionflow_core.synthetic.clips import render_clip
from fashionflow_core.utils.files import write_text

FIRST = UNSEEN + 200_000  # settings were tuned on seeds from UNSEEN, and from UNSEEN + 500,000
COLUMNS = ("psnr", "motion_ratio", "flicker_ratio", "sharpness_ratio")


def blend(given: np.ndarray, stride: int) -> np.ndarray:
    """Given frames, uint8 (g, h, w, 3), and linear mixtures between them: ((g - 1) * stride + 1, h, w, 3)."""
    frames = [given[0]]
    for before, after in zip(given[:-1].astype(np.float32), given[1:].astype(np.float32)):
        for part in np.arange(1, stride + 1) / stride:
            frames.append(np.rint(before + part * (after - before)).astype(np.uint8))
    return np.stack(frames)


def repeat(given: np.ndarray, stride: int) -> np.ndarray:
    """Given frames, each shown `stride` times, the last one once."""
    return np.repeat(given, stride, axis=0)[: (len(given) - 1) * stride + 1]


def scores(frames: np.ndarray, truth: np.ndarray, stride: int) -> dict[str, float]:
    """One row of the table."""
    missing = np.arange(len(truth)) % stride != 0
    return {
        "psnr": psnr(frames[missing], truth[missing]),
        "motion_ratio": motion(frames) / motion(truth),
        "flicker_ratio": temporal_energy(frames) / temporal_energy(truth),
        "sharpness_ratio": sharpness(frames[missing]) / sharpness(truth[missing]),
    }


@dataclass(frozen=True)
class Job:
    """One figure to score, and the model to score on it."""

    folder: Path
    device: str
    threads: int
    seed: int
    factor: int


@functools.cache
def opened(folder: Path, device: str) -> FashionFlowPipeline:
    """One pipeline per process."""
    return load(folder, device=device)


def score_figure(job: Job) -> dict[str, dict[str, float]]:
    """Scores of every row of the table on one figure."""
    if job.threads:
        torch.set_num_threads(job.threads)
    pipeline, stride = opened(job.folder, job.device), job.factor
    config = pipeline.config
    truth = render_clip(job.seed, config.frames, config.height, config.width, config.fps).frames
    given = truth[::stride]
    truth = truth[: (len(given) - 1) * stride + 1]
    settings = GenerateSettings(interpolate=stride)
    seen = reconstruct(pipeline, truth)
    candidates = {
        config.name: np.stack(list(pipeline.interpolate(given, len(given), settings))),
        "blend": blend(given, stride),
        "repeat": repeat(given, stride),
        "blend, vae": blend(seen[::stride], stride),
        "repeat, vae": repeat(seen[::stride], stride),
        "vae": seen,
    }
    return {name: scores(frames, truth, stride) for name, frames in candidates.items()}


def table(means: dict[str, dict[str, float]]) -> str:
    lines = ["| | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    return "\n".join(
        lines + [f"| {name} | " + " | ".join(f"{row[c]:.2f}" for c in COLUMNS) + " |" for name, row in means.items()]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mini-latent", help="name or folder")
    parser.add_argument("--figures", type=int, default=8)
    parser.add_argument("--first-seed", type=int, default=FIRST)
    parser.add_argument("--factors", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=0, help="threads per process; 0: torch's default")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--out", type=Path, help="JSON file")
    args = parser.parse_args()
    folder = find(args.model)
    config = ModelConfig.load(folder)
    request = GenerateSettings(interpolate=args.factors[0]).resolve(config).filling
    result: dict[str, object] = {
        "model": config.name,
        "figures": args.figures,
        "first_seed": args.first_seed,
        "steps": request.steps,
        "scheduler": request.scheduler,
        "hardware": hardware(torch.device("cpu" if args.device == "auto" else args.device), "float32"),
    }
    with ProcessPoolExecutor(args.jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        for factor in args.factors:
            jobs = [
                Job(folder, args.device, args.threads, args.first_seed + item, factor) for item in range(args.figures)
            ]
            each = list(pool.map(score_figure, jobs))
            means = {
                name: {key: float(np.mean([row[name][key] for row in each])) for key in COLUMNS} for name in each[0]
            }
            result[f"factor {factor}"] = {"mean": means, "each": each}
            print(f"factor {factor}\n{table(means)}\n", flush=True)
    if args.out:
        write_text(args.out, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
