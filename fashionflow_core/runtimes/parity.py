"""Parity: each graph's outputs compared with stored outputs of PyTorch.

References are stored with the folder (`references.npz`), so that engines can be verified without PyTorch weights: those
built on a machine that cannot run them are verified at first use.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch

from fashionflow_core.errors import FashionFlowError
from fashionflow_core.runtimes.interface import Runner
from fashionflow_core.store.engine_folder import GRAPHS, REFERENCES_FILE, Engines

# Largest error over largest value. float32 differs by order of summation; float16 rounds to 11 bits at every layer.
LIMITS = {"fp32": 1e-3, "fp16": 5e-2}
# Stored values per output: hundreds for every frame and row.
KEPT = 200_000
KEPT_FRAMES = 8  # stored frames of the short generation


@dataclass(frozen=True)
class Case:
    """One call of a graph, with the outputs of PyTorch.

    Attributes:
        network: name from `engine_folder.GRAPHS`.
        kind: "random" inputs of deviation 1, or "real" ones of a generation.
        frames: frames of the clip; 0 for networks without frames.
        inputs: float32 by name, with values exact in float16, to save space and match both dtypes.
        outputs: every `stride`-th value, flattened, float32 by name.
        strides: stride of each output.
    """

    network: str
    kind: str
    frames: int
    inputs: Mapping[str, np.ndarray]
    outputs: Mapping[str, np.ndarray]
    strides: Mapping[str, int]

    @classmethod
    def of(cls, network: str, kind: str, frames: int, inputs: Mapping[str, np.ndarray], outputs: Any) -> "Case":
        """A case with full outputs."""
        flat = {name: np.asarray(value, np.float32).ravel() for name, value in outputs.items()}
        return cls(network, kind, frames, dict(inputs), flat, dict.fromkeys(flat, 1))

    def thin(self) -> "Case":
        """The case with fewer values, for storage. Odd strides cover all columns of even sizes."""
        strides = {name: max(1, value.size // KEPT) | 1 for name, value in self.outputs.items()}
        outputs = {name: value[:: strides[name]] for name, value in self.outputs.items()}
        return replace(self, outputs=outputs, strides=strides)


@dataclass(frozen=True)
class Answers:
    """Reference outputs of PyTorch, full or as stored in an engine folder.

    Attributes:
        cases: cases of single networks.
        photo: photo of the short generation, uint8 (height, width, 3).
        frames: frames of that generation, uint8 (n, h, w, 3); empty: no generation to compare.
        indices: indices of these frames in the clip.
        count: number of frames of that clip.
    """

    cases: Sequence[Case]
    photo: np.ndarray
    frames: np.ndarray
    indices: Sequence[int]
    count: int

    def save(self, path: Path) -> None:
        """Write them as one `.npz`: thinned cases, and the first, the last and some frames between."""
        kept = np.linspace(0, len(self.frames) - 1, min(KEPT_FRAMES, len(self.frames))).round().astype(int)
        arrays: dict[str, np.ndarray] = {
            "generation/photo": self.photo,
            "generation/frames": self.frames[kept],
            "generation/indices": np.asarray(self.indices, int)[kept],
            "generation/count": np.asarray(self.count),
        }
        for number, case in enumerate(map(Case.thin, self.cases)):
            start = f"{number}/{case.network}/{case.kind}/{case.frames}"
            for name, value in case.inputs.items():
                arrays[f"{start}/in/{name}"] = value.astype(np.float16)
            for name, value in case.outputs.items():
                arrays[f"{start}/out/{name}/{case.strides[name]}"] = value
        # No pickles: it must open with allow_pickle=False.
        np.savez_compressed(path, allow_pickle=False, **arrays)  # pyright: ignore[reportArgumentType]


def load_answers(folder: Path, engines: Engines) -> Answers:
    """The references stored in an engine folder.

    Raises:
        FashionFlowError: the file is missing, changed or damaged.
    """
    if REFERENCES_FILE not in engines.files:
        raise FashionFlowError(f"{folder}: no {REFERENCES_FILE}", hint="export the model again")
    engines.check_file(folder, REFERENCES_FILE)
    try:
        with np.load(folder / REFERENCES_FILE, allow_pickle=False) as arrays:
            return _read(arrays)
    except (OSError, EOFError, ValueError, KeyError, IndexError, TypeError, AttributeError, BadZipFile) as error:
        raise FashionFlowError(
            f"{folder / REFERENCES_FILE}: damaged ({error or type(error).__name__})", hint="export the model again"
        ) from None


def _read(arrays: Any) -> Answers:
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    for key in arrays.files:
        if key.startswith("generation/"):
            continue
        *start, side, rest = key.split("/", 5)
        name, _, stride = rest.partition("/")
        case = found.setdefault(tuple(start), {"inputs": {}, "outputs": {}, "strides": {}})
        if side == "in":
            case["inputs"][name] = arrays[key].astype(np.float32)
        else:
            case["outputs"][name], case["strides"][name] = arrays[key], int(stride)
    return Answers(
        [Case(start[1], start[2], int(start[3]), **case) for start, case in found.items()],
        arrays["generation/photo"],
        arrays["generation/frames"],
        arrays["generation/indices"].tolist(),
        int(arrays["generation/count"]),
    )


def compare(runners: Mapping[str, Runner], engines: Engines, cases: Sequence[Case]) -> list[dict[str, Any]]:
    """Run the cases of all networks that have a runner.

    Returns:
        One JSON-serializable entry per case: network, inputs, frames, max_abs, relative (to the largest value), limit,
        passed.
    """
    entries = []
    for case in cases:
        if case.network not in runners:
            continue
        record = engines.networks[case.network]
        outputs = runners[case.network]({name: torch.from_numpy(value) for name, value in case.inputs.items()})
        worst, relative, wrong = 0.0, 0.0, ""
        for name in GRAPHS[case.network].outputs:
            found = outputs[name].float().cpu().numpy()
            expected_shape = [case.frames if size == -1 else size for size in record.outputs[name]]
            if list(found.shape) != expected_shape:
                wrong = f"{name} has shape {found.shape}, not {tuple(expected_shape)}"
                break
            found, expected = found.ravel()[:: case.strides[name]], case.outputs[name]
            if not (np.isfinite(found).all() and np.isfinite(expected).all()):
                wrong = f"{name} has values that are not finite"
                break
            error = float(np.abs(found - expected).max())
            worst, relative = max(worst, error), max(relative, error / max(float(np.abs(expected).max()), 1e-6))
        limit = LIMITS[record.dtype]
        entry = {
            "network": case.network,
            "inputs": case.kind,
            "frames": case.frames,
            "max_abs": worst,
            "relative": relative,
            "limit": limit,
            "passed": not wrong and relative <= limit,
        }
        entries.append(entry | ({"wrong": wrong} if wrong else {}))
    return entries


def failure(entries: Sequence[Mapping[str, Any]]) -> str:
    """The first failure as one phrase; empty if none."""
    for entry in entries:
        if not entry["passed"]:
            what = entry.get("wrong") or f"relative error {entry['relative']:.2g}, above {entry['limit']:g}"
            frames = f" at {entry['frames']} frames" if entry["frames"] else ""
            return f"{entry['network']} on {entry['inputs']} inputs{frames}: {what}"
    return ""
