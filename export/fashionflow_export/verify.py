"""Is an engine folder as good as PyTorch? Network by network, then a short generation, frame by frame."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fashionflow_core import backends, pipeline
from fashionflow_core.backends import parity
from fashionflow_core.config import GenerateSettings, ModelConfig
from fashionflow_core.contract import BUILT_NOT_RUN, FAILED, GRAPHS, VERIFIED, Engines, RuntimeRecord
from fashionflow_core.data.synthetic import render_clip
from fashionflow_core.device import resolve_device
from fashionflow_core.errors import FashionFlowError

MIN_PSNR = {"fp32": 40.0, "fp16": 30.0}
KEPT_FRAMES = 8
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


def kept_frames(count: int) -> list[int]:
    """Which frames of the short generation an engine folder keeps."""
    return np.linspace(0, count - 1, min(KEPT_FRAMES, count)).round().astype(int).tolist()


def verify_folder(
    folder: Path,
    engines: Engines,
    answers: Answers | None = None,
    device: str = "auto",
    report: Callable[[str], None] = lambda line: None,
) -> Engines:
    """Verify every runtime of a folder that runs here, and note the states in its `engines.json`.

    Args:
        folder: of engines.
        engines: its record.
        answers: of PyTorch; None: those that travel with the folder.
        device: auto: onnxruntime on the CPU, TensorRT on the GPU.
        report: takes lines for people.

    Raises:
        FashionFlowError: a file is missing, changed or cannot be opened.
    """
    if answers is None:
        cases, frames = parity.load_cases(folder, engines)
        count = ModelConfig.load(folder).frames
        answers = Answers(cases, frames, kept_frames(count) if len(frames) else [], count)
    for runtime, record in engines.runtimes.items():
        chosen = "cpu" if device == "auto" and runtime == "onnxruntime" else device
        reason, hint = backends.missing(engines, runtime, engine_device(chosen))
        if reason:
            report(f"{runtime}: cannot run here: {reason}")
            if record.state == BUILT_NOT_RUN:
                engines = engines.with_runtime(runtime, replace(record, reason=f"{reason}; {hint}"))
        else:
            report(f"verifying with {runtime}")
            engines = verify_runtime(folder, engines, runtime, answers, chosen, report)
        engines.save(folder)
    return engines


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
    chosen = engine_device(device)
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


def engine_device(device: str) -> torch.device:
    """A device that engines run on: CUDA or the CPU."""
    chosen = resolve_device(device)
    return chosen if chosen.type == "cuda" else torch.device("cpu")


def require_verified(folder: Path, engines: Engines) -> None:
    """Raises FashionFlowError where a runtime failed its verification."""
    for name, record in engines.runtimes.items():
        if record.state == FAILED:
            raise FashionFlowError(
                f"{folder}: its {name} engines failed their verification: {record.reason}",
                hint="they are kept for inspection; generate refuses them without --allow-unverified",
            )
