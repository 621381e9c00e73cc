"""Score a model on unseen rendered figures, next to baselines.

    python scripts/score_bundled.py --jobs 4 --threads 1 --out benchmarks/results/bundled-scores.json

Rows: the truth itself, the model, and three baselines. `copy` repeats the photo: no drift, no motion. `noise` decodes
Gaussian noise. `vae` is the truth through encoder and decoder, an upper bound for any denoiser with this VAE.
"""

import argparse
import functools
import json
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from fashionflow_benchmarks.timing import hardware
from fashionflow_core.config import GenerateSettings, ModelConfig
from fashionflow_core.diffusion.conditioning import frames_to_tensor, tensor_to_frames
from fashionflow_core.diffusion.sampling import item_generator
from fashionflow_core.metrics.drift import score_clip
from fashionflow_core.pipeline import FashionFlowPipeline, load
from fashionflow_core.runtimes.preprocessing import (
    denormalize_latents,
    from_vae_pixels,
    normalize_latents,
    to_vae_pixels,
)
from fashionflow_core.store.registry import find
from fashionflow_core.synthetic.clips import render_clip
from fashionflow_core.utils.files import write_text

UNSEEN = 1_000_000  # seeds from here on are excluded from training (docs/concepts/mini-latent.md)
COLUMNS = (
    "garment_drift",
    "motion_ratio",
    "sharpness_ratio",
    "temporal_energy_ratio",
    "silhouette_error",
    "silhouette_range",
    "psnr",
)


def reconstruct(pipeline: FashionFlowPipeline, frames: np.ndarray) -> np.ndarray:
    """Frames through the VAE and back, uint8 (f, h, w, 3)."""
    result = []
    for start in range(0, len(frames), 7):
        pixels = frames_to_tensor(frames[start : start + 7], pipeline.networks.device)
        mean, _ = pipeline.networks.encode_image(to_vae_pixels(pixels, pipeline.config))
        latents = denormalize_latents(normalize_latents(mean, pipeline.config), pipeline.config)
        result.append(tensor_to_frames(from_vae_pixels(pipeline.networks.decode(latents), pipeline.config)))
    return np.concatenate(result)


def decoded_noise(pipeline: FashionFlowPipeline, item: int, photo: np.ndarray) -> np.ndarray:
    """The photo, then decoded Gaussian noise."""
    c, h, w = (getattr(pipeline.networks, f"latent_{name}") for name in ("channels", "height", "width"))
    noise = torch.randn((1, c, pipeline.config.frames, h, w), generator=item_generator(0, item))
    frames = np.stack(list(pipeline.decode(noise.to(pipeline.networks.device))))
    frames[0] = photo
    return frames


@dataclass(frozen=True)
class Job:
    """One figure to score, and the model to score on it."""

    folder: Path
    device: str
    dtype: str
    threads: int
    steps: int | None
    scheduler: str | None
    seed: int
    item: int


@functools.cache
def opened(folder: Path, device: str, dtype: str) -> FashionFlowPipeline:
    """One pipeline per process."""
    return load(folder, device=device, dtype=dtype)


def score_figure(job: Job) -> tuple[dict[str, dict[str, float]], float]:
    """Scores of every row of the table on one figure, and the seconds of its generation."""
    if job.threads:
        torch.set_num_threads(job.threads)
    pipeline = opened(job.folder, job.device, job.dtype)
    config = pipeline.config
    truth = render_clip(job.seed, config.frames, config.height, config.width, config.fps).frames
    began = time.monotonic()
    settings = GenerateSettings(steps=job.steps, scheduler=job.scheduler)
    generated = np.stack(list(pipeline.generate(truth[0], settings, job.item).frames))
    seconds = time.monotonic() - began
    candidates = {
        "truth": truth,
        config.name: generated,
        "copy": np.repeat(truth[:1], len(truth), axis=0),
        "noise": decoded_noise(pipeline, job.item, truth[0]),
        "vae": reconstruct(pipeline, truth),
    }
    return {name: score_clip(frames, truth) for name, frames in candidates.items()}, seconds


def score(jobs: list[Job], processes: int) -> dict[str, object]:
    """Score all figures, distributed over processes."""
    config = ModelConfig.load(jobs[0].folder)
    rows: dict[str, list[dict[str, float]]] = {}
    seconds = []
    # Forked children of a process with torch threads hang.
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        for job, (scores, took) in zip(jobs, pool.map(score_figure, jobs), strict=True):
            seconds.append(took)
            for name, values in scores.items():
                rows.setdefault(name, []).append(values)
            print(f"figure {job.seed}: {summary(scores[config.name])}", flush=True)
    means = {
        name: {
            key: float(np.mean([row[key] for row in values if np.isfinite(row[key])] or [np.inf])) for key in values[0]
        }
        for name, values in rows.items()
    }
    return {
        "model": config.name,
        "figures": len(jobs),
        "first_seed": jobs[0].seed,
        "steps": jobs[0].steps or config.steps,
        "scheduler": jobs[0].scheduler or config.scheduler,
        "generation_seconds": float(np.median(seconds)),
        "processes": processes,
        "threads_each": jobs[0].threads or torch.get_num_threads(),
        "hardware": hardware(
            torch.device("cpu") if jobs[0].device == "auto" else torch.device(jobs[0].device), "float32"
        ),
        "mean": means,
        "each": rows,
    }


def summary(scores: dict[str, float]) -> str:
    return ", ".join(f"{name} {scores[name]:.2f}" for name in COLUMNS)


def table(result: dict[str, object]) -> str:
    means = result["mean"]
    assert isinstance(means, dict)
    lines = ["| | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for name, row in means.items():
        lines.append(f"| {name} | " + " | ".join(f"{row[column]:.2f}" for column in COLUMNS) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mini-latent", help="name or folder")
    parser.add_argument("--figures", type=int, default=16)
    parser.add_argument("--first-seed", type=int, default=UNSEEN)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--scheduler")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--threads", type=int, default=0, help="threads per process; 0: torch's default")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--out", type=Path, help="JSON file")
    args = parser.parse_args()
    jobs = [
        Job(
            find(args.model),
            args.device,
            args.dtype,
            args.threads,
            args.steps,
            args.scheduler,
            args.first_seed + item,
            item,
        )
        for item in range(args.figures)
    ]
    result = score(jobs, args.jobs)
    print(table(result))
    if args.out:
        # JSON has no infinity (the truth's PSNR with itself).
        text = json.dumps(result, indent=1).replace("Infinity", "null")
        write_text(args.out, text + "\n")


if __name__ == "__main__":
    main()
