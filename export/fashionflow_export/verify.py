"""Verification of every runtime of an engine folder on this machine."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from fashionflow_core import pipeline, runtimes
from fashionflow_core.errors import FashionFlowError, OutOfMemory
from fashionflow_core.runtimes.parity import Answers, load_answers
from fashionflow_core.runtimes.verification import judge
from fashionflow_core.store.engine_folder import BUILT_NOT_RUN, FAILED, VERIFIED, Engines
from fashionflow_core.utils.device import resolve_device


def verify_folder(
    folder: Path,
    engines: Engines,
    answers: Answers | None = None,
    device: str = "auto",
    report: Callable[[str], None] = lambda line: None,
    keep_failures: bool = False,
) -> Engines:
    """Verify every runtime of a folder that runs here, and note the states in its `engines.json`.

    Args:
        folder: of engines.
        engines: its record.
        answers: of PyTorch; None: those that travel with the folder.
        device: auto: onnxruntime on the CPU, TensorRT on the GPU.
        report: takes lines for people.
        keep_failures: what cannot even be opened or run is noted as failed, instead of raised.

    Raises:
        FashionFlowError: a file is missing, changed or cannot be opened; the folder cannot be written.
    """
    answers = answers or load_answers(folder, engines)
    for runtime, record in engines.runtimes.items():
        chosen = "cpu" if device == "auto" and runtime == "onnxruntime" else device
        reason, _ = runtimes.missing(engines, runtime, engine_device(chosen))
        if reason:
            earlier = {VERIFIED: "; it was verified before", FAILED: "; it failed before"}.get(record.state, "")
            report(f"{runtime}: cannot run here, so nothing was compared{earlier}: {reason}")
            if record.state == BUILT_NOT_RUN:
                where = f"verified where it is first used; here {reason}"
                engines = engines.with_runtime(runtime, replace(record, reason=where))
        else:
            report(f"verifying with {runtime}")
            try:
                engines = verify_runtime(folder, engines, runtime, answers, chosen, report)
            except FashionFlowError as error:
                if not keep_failures:
                    raise
                # A machine that is too small says nothing of the engines.
                state = BUILT_NOT_RUN if isinstance(error, OutOfMemory) else FAILED
                engines = engines.with_runtime(runtime, replace(record, state=state, reason=error.message))
        try:
            engines.save(folder)
        except OSError as error:
            raise FashionFlowError(
                f"{folder}: the result cannot be noted in it ({(error.strerror or str(error)).lower()})",
                hint="make the folder writable, or verify a copy of it",
            ) from None
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
    names = [name for name in engines.graphs if name in engines.networks and runtime in engines.networks[name].files]
    if set(names) == set(engines.graphs):
        pipe: Any = pipeline.load(folder, device=device, backend=runtime, allow_unverified=True)
        record = judge(engines, runtime, pipe.networks.runners, answers, pipe, report)
    else:
        runners = runtimes.open_runners(folder, engines, runtime, names, engine_device(device))
        record = judge(engines, runtime, runners, answers, report=report)
    return engines.with_runtime(runtime, record)


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
