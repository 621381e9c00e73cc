"""Verification of engines: verdict of parity and of a short generation.

It runs at the end of exports, on request, and when engines are opened for the first time.
"""

import math
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fashionflow_core.config import GenerateSettings
from fashionflow_core.errors import FashionFlowWarning, OutOfMemory, option
from fashionflow_core.runtimes.engine_networks import GraphNetworks
from fashionflow_core.runtimes.parity import Answers, compare, failure, load_answers
from fashionflow_core.store.engine_folder import (
    BUILT_NOT_RUN,
    FAILED,
    VERIFIED,
    Engines,
    RuntimeRecord,
    refusal,
)
from fashionflow_core.utils.memory import is_out_of_memory

MIN_PSNR = {"fp32": 40.0, "fp16": 30.0}
STEPS = 4  # denoising steps of the short generation
_BEST = 100.0  # PSNR of equal frames; JSON has no infinity
Report = Callable[[str], None]


def verify_first_use(folder: Path, pipe: Any) -> None:
    """Verify engines that have never run, and record the result in their folder; skip all others.

    Args:
        folder: engine folder.
        pipe: `FashionFlowPipeline` with these engines.

    Raises:
        FashionFlowError: failed verification, or out of memory.
    """
    networks = pipe.networks
    if not isinstance(networks, GraphNetworks):
        return
    engines = networks.engines
    for runtime in sorted(set(networks.runtimes.values()) & set(engines.runtimes)):
        record = engines.runtimes[runtime]
        if record.state != BUILT_NOT_RUN:
            continue
        warnings.warn(
            f"{folder}: {runtime} engines have never run; verifying them against PyTorch first",
            FashionFlowWarning,
            stacklevel=3,
        )
        runners = {name: runner for name, runner in networks.runners.items() if networks.runtimes[name] == runtime}
        record = judge(engines, runtime, runners, load_answers(folder, engines), pipe)
        # A mixture does not verify the networks it omits; a read-only folder is verified again next time.
        if len(runners) == len(engines.graphs):
            engines = engines.with_runtime(runtime, record)
            with suppress(OSError):
                engines.save(folder)
        if record.state == FAILED:
            raise refusal(folder, runtime, record)


def judge(
    engines: Engines,
    runtime: str,
    runners: Mapping[str, Any],
    answers: Answers,
    pipe: Any = None,
    report: Report = lambda line: None,
) -> RuntimeRecord:
    """Compare a runtime's graphs with PyTorch, and return its record: verified or failed.

    Args:
        engines: content of `engines.json`.
        runtime: name of the runtime.
        runners: graphs by name.
        answers: reference outputs of PyTorch.
        pipe: pipeline with all graphs, for the short generation; None: compare networks only.
        report: called with messages for the user.

    Raises:
        FashionFlowError: a graph cannot run here, or out of memory.
    """
    try:
        entries = compare(runners, engines, answers.cases)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(
            f"{runtime}: out of memory while verifying engines",
            hint=f"close other programs, or export with fewer {option('frames')} "
            f"and a smaller {option('decode_chunk')}",
        ) from None
    for entry in entries:
        report(_line(entry))
    reason = failure(entries)
    generation: dict[str, Any] = {}
    if not reason and pipe is not None and len(answers.frames):
        generation = _compare_generation(engines, answers, pipe)
        report(
            f"generation of {generation['frames']} frames in {generation['steps']} steps: "
            f"{generation['min_psnr']:.1f} dB minimum, {generation['mean_psnr']:.1f} dB mean"
        )
        if generation["min_psnr"] < generation["limit"]:
            reason = f"frames of a generation at {generation['min_psnr']:.1f} dB, below {generation['limit']:g} dB"
    return replace(
        engines.runtimes[runtime],
        state=FAILED if reason else VERIFIED,
        reason=reason,
        parity=entries,
        generation=generation,
    )


def short_generation(pipe: Any, photo: np.ndarray, frames: int, chunk: int) -> np.ndarray:
    """Frames of the seeded generation for verification, uint8 (f, h, w, 3).

    Args:
        pipe: the `FashionFlowPipeline`.
        photo: photo, uint8 (h, w, 3).
        frames: frames of the clip; for a motion model spread over one window of keyframes.
        chunk: frames per call of the decoder.
    """
    config, fps, pulled = pipe.config, None, None
    if config.latents == "motion":
        # Slightly less than a window's duration, since rounding up would need a second window.
        fps = frames / ((config.keyframes - 1) * config.keyframe_seconds)
        # References must not depend on other installed packages.
        pulled, pipe.motion.clothes = pipe.motion.clothes, None
    settings = GenerateSettings(seed=0, steps=STEPS, frames=frames, fps=fps, decode_chunk=chunk, lock="off")
    try:
        return np.stack(list(pipe.generate(photo, settings).frames))
    finally:
        if pipe.motion is not None:
            pipe.motion.clothes = pulled


def psnr_of_frames(found: np.ndarray, expected: np.ndarray) -> list[float]:
    """PSNR in dB of each frame, uint8 (f, h, w, 3); equal frames count as 100 dB."""
    errors = [float(np.mean((a.astype(np.float32) - b) ** 2)) for a, b in zip(found, expected, strict=True)]
    return [min(10 * math.log10(255**2 / error), _BEST) if error else _BEST for error in errors]


def _compare_generation(engines: Engines, answers: Answers, pipe: Any) -> dict[str, Any]:
    found = short_generation(pipe, answers.photo, answers.count, pipe.networks.decode_batch)[list(answers.indices)]
    each = psnr_of_frames(found, answers.frames)
    return {
        "steps": STEPS,
        "frames": answers.count,
        "compared": len(each),
        "min_psnr": min(each),
        "mean_psnr": sum(each) / len(each),
        "limit": min(MIN_PSNR[network.dtype] for network in engines.networks.values()),
    }


def _line(entry: Mapping[str, Any]) -> str:
    frames = f", {entry['frames']} frames" if entry["frames"] else ""
    found = entry.get("wrong") or f"largest error {entry['max_abs']:.2g}, relative {entry['relative']:.2g}"
    return f"{entry['network']} ({entry['inputs']} inputs{frames}): {found}"
