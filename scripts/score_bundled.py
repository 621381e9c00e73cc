"""Score a model on rendered figures it has never seen, beside baselines that show what the numbers are worth.

    python scripts/score_bundled.py --out benchmarks/results/bundled-scores.json

Rows: the truth itself, the model, and three baselines. `copy` repeats the photo: no drift, no motion. `noise` decodes
Gaussian noise. `vae` is the truth through encoder and decoder, the best any denoiser can reach with this VAE.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

from fashionflow_core.conditioning import (
    denormalize_latents,
    frames_to_tensor,
    from_vae_pixels,
    normalize_latents,
    tensor_to_frames,
    to_vae_pixels,
)
from fashionflow_core.config import GenerateSettings
from fashionflow_core.data.synthetic import render_clip
from fashionflow_core.files import write_text
from fashionflow_core.metrics.drift import score_clip
from fashionflow_core.pipeline import FashionFlowPipeline, load
from fashionflow_core.registry import find
from fashionflow_core.sampling import item_generator

UNSEEN = 1_000_000  # seeds from here on are never trained on (scripts/mini_recipe.py)
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


def score(pipeline: FashionFlowPipeline, figures: int, first_seed: int, steps: int | None) -> dict[str, object]:
    config = pipeline.config
    rows: dict[str, list[dict[str, float]]] = {}
    seconds = []
    for item in range(figures):
        clip = render_clip(first_seed + item, config.frames, config.height, config.width, config.fps)
        truth = clip.frames
        began = time.monotonic()
        generated = np.stack(list(pipeline.generate(truth[0], GenerateSettings(steps=steps), item).frames))
        seconds.append(time.monotonic() - began)
        candidates = {
            "truth": truth,
            config.name: generated,
            "copy": np.repeat(truth[:1], len(truth), axis=0),
            "noise": decoded_noise(pipeline, item, truth[0]),
            "vae": reconstruct(pipeline, truth),
        }
        for name, frames in candidates.items():
            rows.setdefault(name, []).append(score_clip(frames, truth))
        print(f"figure {item + 1} of {figures}: {summary(rows[config.name][-1])}", flush=True)
    means = {
        name: {
            key: float(np.mean([row[key] for row in values if np.isfinite(row[key])] or [np.inf])) for key in values[0]
        }
        for name, values in rows.items()
    }
    return {
        "model": config.name,
        "figures": figures,
        "first_seed": first_seed,
        "steps": steps or config.steps,
        "scheduler": config.scheduler,
        "generation_seconds": float(np.median(seconds)),
        "threads": torch.get_num_threads(),
        "device": str(pipeline.networks.device),
        "torch": torch.__version__,
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
    parser.add_argument("--model", default="mini", help="name or folder")
    parser.add_argument("--figures", type=int, default=16)
    parser.add_argument("--first-seed", type=int, default=UNSEEN)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", type=Path, help="JSON file")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    result = score(load(find(args.model), args.device, args.dtype), args.figures, args.first_seed, args.steps)
    print(table(result))
    if args.out:
        write_text(args.out, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
