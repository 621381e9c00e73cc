"""Is an engine folder as good as PyTorch? Network by network, then a short generation, frame by frame."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fashionflow_core import backends, pipeline
from fashionflow_core.backends import parity
from fashionflow_core.config import GenerateSettings, ModelConfig
from fashionflow_core.contract import FAILED, GRAPHS, VERIFIED, Engines, RuntimeRecord
from fashionflow_core.data.synthetic import render_clip

MIN_PSNR = {"fp32": 40.0, "fp16": 30.0}
STEPS = 4  # of the short generation
_BEST = 100.0  # of equal frames; JSON has no infinity


@dataclass(frozen=True)
class Answers:
    """What engines are compared with: PyTorch's answers, whole or as an engine folder keeps them.

    Attributes:
        cases: of single networks.
        frames: of the short generation, uint8 (n, h, w, 3); none: no generation is compared.
        indices: which frames of the clip those are.
        count: frames of that clip.
    """

    cases: Sequence[parity.Case]
    frames: np.ndarray
    indices: Sequence[int]
    count: int


def psnr_of_frames(found: np.ndarray, expected: np.ndarray) -> list[float]:
    """PSNR in dB of each frame, uint8 (f, h, w, 3); equal frames count as 100 dB."""
    errors = [float(np.mean((a.astype(np.float32) - b) ** 2)) for a, b in zip(found, expected, strict=True)]
    return [min(10 * math.log10(255**2 / error), _BEST) if error else _BEST for error in errors]


def verify_runtime(
    folder: Path,
    engines: Engines,
    runtime: str,
    answers: Answers,
    device: str = "auto",
    report: Callable[[str], None] = lambda line: None,
) -> Engines:
    """Compare one runtime's files with PyTorch's answers.

    Returns:
        `engines` with the runtime's record: verified, or failed with the reason. Nothing is written.

    Raises:
        FashionFlowError: a file is missing, changed or cannot be opened.
    """
    record = engines.runtimes[runtime]
    chosen = pipeline_device(device)
    names = [name for name in GRAPHS if name in engines.networks and runtime in engines.networks[name].files]
    runners = backends.open_runners(folder, engines, runtime, names, chosen)
    entries = parity.compare(runners, engines, answers.cases)
    for entry in entries:
        report(_line(entry))
    reason = parity.failure(entries)
    generation: dict[str, Any] = {}
    if not reason and len(answers.frames) and set(names) == set(GRAPHS):
        generation = _compare_generation(folder, engines, runtime, answers, device)
        report(
            f"generation of {generation['frames']} frames in {generation['steps']} steps: "
            f"{generation['min_psnr']:.1f} dB at worst, {generation['mean_psnr']:.1f} dB on average"
        )
        if generation["min_psnr"] < generation["limit"]:
            reason = f"frames of a generation at {generation['min_psnr']:.1f} dB, below {generation['limit']:g} dB"
    state = FAILED if reason else VERIFIED
    return engines.with_runtime(
        runtime, RuntimeRecord(state, reason, parity=entries, generation=generation, build=record.build)
    )


def standard_photo(config: ModelConfig) -> np.ndarray:
    """What generations are compared on: a rendered figure of the model's frame, uint8 (height, width, 3)."""
    return render_clip(0, height=config.height, width=config.width, frame_indices=[0]).frames[0]


def short_generation(pipe: pipeline.FashionFlowPipeline, photo: np.ndarray, frames: int, chunk: int) -> np.ndarray:
    """The seeded generation that verifications compare, uint8 (f, h, w, 3)."""
    settings = GenerateSettings(seed=0, steps=STEPS, frames=frames, decode_chunk=chunk)
    return np.stack(list(pipe.generate(photo, settings).frames))


def _compare_generation(folder: Path, engines: Engines, runtime: str, answers: Answers, device: str) -> dict[str, Any]:
    pipe = pipeline.load(folder, device=device, backend=runtime, allow_unverified=True)
    photo = standard_photo(pipe.config)
    chunk = engines.networks["vae_decoder"].inputs["latents"][0]
    found = short_generation(pipe, photo, answers.count, chunk)[list(answers.indices)]
    each = psnr_of_frames(found, answers.frames)
    return {
        "steps": STEPS,
        "frames": answers.count,
        "compared": len(each),
        "min_psnr": min(each),
        "mean_psnr": sum(each) / len(each),
        "limit": min(MIN_PSNR[network.dtype] for network in engines.networks.values()),
    }


def _line(entry: dict[str, Any]) -> str:
    frames = f", {entry['frames']} frames" if entry["frames"] else ""
    found = entry.get("wrong") or f"largest error {entry['max_abs']:.2g}, relative {entry['relative']:.2g}"
    return f"{entry['network']} ({entry['inputs']} inputs{frames}): {found}"


def pipeline_device(device: str) -> Any:
    """A device that engines run on: CUDA or the CPU."""
    import torch

    from fashionflow_core.device import resolve_device

    chosen = resolve_device(device)
    return chosen if chosen.type == "cuda" else torch.device("cpu")
