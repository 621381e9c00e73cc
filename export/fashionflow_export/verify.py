"""Verification of every runtime of an engine folder on this machine."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from fashionflow_core import pipeline, runtimes
from fashionflow_core.errors import FashionFlowError, OutOfMemory, reason_of
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
    """Verify every runtime of a folder that runs here, and record the states in its `engines.json`.

    Args:
        folder: engine folder.
        engines: content of `engines.json`.
        answers: reference outputs of PyTorch; None: those stored in the folder.
        device: one of auto (onnxruntime on the CPU, TensorRT on the GPU), cpu, cuda.
        report: called with messages for the user.
        keep_failures: whether engines that cannot be loaded or run are recorded as failed, instead of raising.

    Raises:
        FashionFlowError: a file is missing, changed or unreadable; the folder is not writable.
    """
    answers = answers or load_answers(folder, engines)
    for runtime, record in engines.runtimes.items():
        chosen = "cpu" if device == "auto" and runtime == "onnxruntime" else device
        reason, _ = runtimes.missing(engines, runtime, engine_device(chosen))
        if reason:
            earlier = {VERIFIED: "; verified before", FAILED: "; failed before"}.get(record.state, "")
            report(f"{runtime}: cannot run here, so it was not verified{earlier}: {reason}")
            if record.state == BUILT_NOT_RUN:
                where = f"will be verified at first use; here {reason}"
                engines = engines.with_runtime(runtime, replace(record, reason=where))
        else:
            report(f"verifying with {runtime}")
            try:
                engines = verify_runtime(folder, engines, runtime, answers, chosen, report)
            except FashionFlowError as error:
                if not keep_failures:
                    raise
                # Too little memory is not a failure of the engines.
                state = BUILT_NOT_RUN if isinstance(error, OutOfMemory) else FAILED
                engines = engines.with_runtime(runtime, replace(record, state=state, reason=error.message))
        try:
            engines.save(folder)
        except OSError as error:
            raise FashionFlowError(
                f"{folder}: the result cannot be written ({reason_of(error)})",
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
    """Compare one runtime's files with PyTorch's outputs.

    Returns:
        `engines` with the runtime's record: verified, or failed with the reason. Nothing is written.

    Raises:
        FashionFlowError: a file is missing, changed or unreadable.
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
    """The device of engines: CUDA or the CPU."""
    chosen = resolve_device(device)
    return chosen if chosen.type == "cuda" else torch.device("cpu")


def require_verified(folder: Path, engines: Engines) -> None:
    """Raise FashionFlowError if a runtime failed its verification."""
    for name, record in engines.runtimes.items():
        if record.state == FAILED:
            raise FashionFlowError(
                f"{folder}: {name} engines failed verification: {record.reason}",
                hint="inspect them, or generate with --allow-unverified",
            )
