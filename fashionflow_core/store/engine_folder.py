"""Engine folders: exported graphs, `engines.json` and its records.

An engine folder is a model folder with graphs (`unet/model.onnx`, `unet/model.engine`) in place of safetensors, which
`engines.json` describes. A model's pixel range, patches and latent statistics are inside its graphs, so the folder's
`model.json` has plain conventions: frames in [0, 1], latents of mean 0 and deviation 1.
"""

import dataclasses
import json
import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Self

from fashionflow_core.errors import FashionFlowError, command, option
from fashionflow_core.utils.files import write_text
from fashionflow_core.utils.hashing import sha256
from fashionflow_core.utils.typed_files import build, read_object

ENGINES_FILE = "engines.json"
REFERENCES_FILE = "references.npz"
SCHEMA = 1
VERIFIED, BUILT_NOT_RUN, FAILED = "verified", "built_not_run", "failed"


def _again() -> str:
    return f"export the model again: {command('export')}"


@dataclass(frozen=True)
class Graph:
    """Graph of one network: names of its tensors, in order. Its subfolder has the name of the network."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


# Inputs and outputs are float32, whatever the graph computes in. Sizes: image (b, 3, H, W) in [0, 1]; mean,
# logvar and latents (b, c, h, w), normalised; pixels (1, 3, s, s) as CLIP's processor makes them; context (1, n, d);
# sample (1, c_in, f, h, w); timestep (1,); prediction (1, c, f, h, w). Of a motion model latents are the photo's
# channels (1, k, h, w); photo (2, 3, H, W) in [0, 1], a photo and its mirror image; logits (2, 1 + parts, H/2, W/2).
GRAPHS = {
    "unet": Graph(("sample", "timestep", "context"), ("prediction",)),
    "vae_decoder": Graph(("latents",), ("image",)),
    "vae_encoder": Graph(("image",), ("mean", "logvar")),
    "image_encoder": Graph(("pixels", "latents"), ("context",)),
    "parser": Graph(("photo",), ("logits",)),
}
# Networks of a model by `ModelConfig.latents`.
GRAPHS_OF = {
    "appearance": ("unet", "vae_decoder", "vae_encoder", "image_encoder"),
    "motion": ("unet", "image_encoder", "parser"),
}
# Ranks other than 4; with rank 5 the number of frames may be dynamic (-1).
_RANKS = {"timestep": 1, "context": 3, "sample": 5, "prediction": 5}
# File of a network for each runtime.
ENGINE_FILES = {"onnxruntime": "model.onnx", "tensorrt": "model.engine"}
ENGINE_DTYPES = ("fp32", "fp16")


@dataclass(frozen=True)
class NetworkRecord:
    """One network of an engine folder.

    Attributes:
        dtype: of its arithmetic: fp32 or fp16.
        parameters: number of weights.
        inputs, outputs: tensor name → shape; the number of frames of a U-Net with dynamic frames is -1.
        flop: frames of the clip → floating-point operations of one call (of decoder and parser: for one image). Three
            entries fix the count for all numbers between: it is a square of the frames.
        files: runtime → its file in the folder, such as unet/model.onnx.
    """

    dtype: str
    parameters: int
    inputs: dict[str, list[int]]
    outputs: dict[str, list[int]]
    flop: dict[str, int]
    files: dict[str, str] = field(default_factory=dict)

    def wrong(self, graph: Graph) -> str:
        """What is wrong with this record of a graph, as one phrase; empty if nothing."""
        if self.dtype not in ENGINE_DTYPES:
            return f"computes in {self.dtype!r}, not in {' or '.join(ENGINE_DTYPES)}"
        if set(self.inputs) != set(graph.inputs) or set(self.outputs) != set(graph.outputs):
            return f"its tensors are {', '.join([*self.inputs, *self.outputs])}"
        for name, shape in {**self.inputs, **self.outputs}.items():
            fixed = shape if len(shape) < 5 or shape[2] != -1 else [*shape[:2], *shape[3:]]
            if len(shape) != _RANKS.get(name, 4) or min(fixed) < 1:
                return f"{name} has shape {shape}"
        if not self.flop or not all(frames.isdecimal() for frames in self.flop):
            return "flop counts operations by numbers of frames"
        return ""


@dataclass(frozen=True)
class FileRecord:
    """A file at its export: size in bytes and SHA-256, hexadecimal."""

    size: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> Self:
        """The record of a file as it is now."""
        return cls(path.stat().st_size, sha256(path))


@dataclass(frozen=True)
class RuntimeRecord:
    """Verification of the files for one runtime.

    Attributes:
        state: verified, built_not_run or failed.
        reason: why it is not verified; empty if it is.
        parity: one entry per network and set of inputs: largest and relative error against PyTorch in float32.
        generation: PSNR of a short seeded generation against the same, frame by frame; empty: not compared.
        build: what the files depend on (flavor, versions, compute capabilities); empty for ONNX.
    """

    state: str
    reason: str = ""
    parity: list[dict[str, Any]] = field(default_factory=list)
    generation: dict[str, Any] = field(default_factory=dict)
    build: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Engines:
    """Content of `engines.json`.

    Attributes:
        model: name of the model.
        source: the model folder it was exported from.
        source_files: files of that folder → SHA-256.
        lora: the LoRA that was fused in, or empty.
        dtype: requested; a network may be kept in fp32.
        frames: smallest and largest number of frames; all even numbers between are valid.
        conventions: fields of the source's `model.json` that are inside the graphs.
        schedule: for programs without diffusers: `prediction_type`, `alphas_cumprod` (one per
            timestep of the noise schedule), and the `timesteps` of the model's own number of steps.
        tools: name → version of the exporting programs.
        networks, runtimes: by name.
        files: each loaded file → its size and SHA-256.
        latents: as in `model.json`; determines the networks of a complete folder (`GRAPHS_OF`).
    """

    model: str
    source: str
    source_files: dict[str, str]
    lora: str
    dtype: str
    frames: list[int]
    conventions: dict[str, Any]
    schedule: dict[str, Any]
    tools: dict[str, str]
    networks: dict[str, NetworkRecord]
    runtimes: dict[str, RuntimeRecord]
    files: dict[str, FileRecord]
    schema: int = SCHEMA
    latents: str = "appearance"

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read `engines.json` of an engine folder.

        Raises:
            FashionFlowError: it is missing, invalid, or of another version.
        """
        path = Path(folder) / ENGINES_FILE
        try:
            content = read_object(path, _again())
        except (FileNotFoundError, NotADirectoryError):
            raise FashionFlowError(
                f"{folder}: not an engine folder (no {ENGINES_FILE})", hint=f"make one: {command('export', onnx=True)}"
            ) from None
        if content.get("schema") != SCHEMA:
            found = f"schema {content['schema']!r}" if "schema" in content else "no schema"
            raise FashionFlowError(f"{path}: has {found}, this version reads {SCHEMA}", hint=_again())
        engines = build(cls, content, path, _again())
        if wrong := engines._wrong():
            raise FashionFlowError(f"{path}: {wrong}", hint=_again())
        return engines

    def _wrong(self) -> str:
        """What is inconsistent in the record, as one phrase; empty if nothing."""
        for name, runtime in self.runtimes.items():
            if name not in ENGINE_FILES:
                return f"unknown runtime {name}"
            if runtime.state not in (VERIFIED, BUILT_NOT_RUN, FAILED):
                return f"{name} is in state {runtime.state!r}"
        if self.latents not in GRAPHS_OF:
            return f"latents are {self.latents!r}, not {' or '.join(GRAPHS_OF)}"
        if len(self.frames) != 2 or not 0 < self.frames[0] <= self.frames[1]:
            return f"frames are {self.frames}, not the fewest and the most"
        for name, network in self.networks.items():
            if name not in self.graphs:
                return f"unknown network {name}"
            if wrong := network.wrong(GRAPHS[name]):
                return f"networks.{name}: {wrong}"
            for runtime, file in network.files.items():
                # A file without a recorded state would run unverified.
                if runtime not in self.runtimes:
                    return f"networks.{name} has a file for {runtime}, which runtimes does not list"
                if file not in self.files:
                    return f"{file} has no hash"
        for file, entry in self.files.items():
            path = PurePosixPath(file)
            if path.is_absolute() or ".." in path.parts or not path.parts:
                return f"files: {file!r} is not a path inside the folder"
            if entry.size < 0 or not re.fullmatch("[0-9a-f]{64}", entry.sha256):
                return f"files: {file} has no size or no SHA-256"
        return ""

    def save(self, folder: str | Path) -> None:
        """Write `engines.json` atomically."""
        write_text(Path(folder) / ENGINES_FILE, json.dumps(dataclasses.asdict(self), indent=2) + "\n")

    @property
    def graphs(self) -> tuple[str, ...]:
        """Names of the networks of a complete folder."""
        return GRAPHS_OF[self.latents]

    @property
    def frame_counts(self) -> range:
        """Valid numbers of frames of the U-Net."""
        return range(self.frames[0], self.frames[1] + 1, 2)

    def with_runtime(self, name: str, record: RuntimeRecord) -> Self:
        """A copy with another record of one runtime."""
        return dataclasses.replace(self, runtimes={**self.runtimes, name: record})

    def check_files(self, folder: Path, network: str, runtime: str) -> Path:
        """The file of a network for a runtime, after it and its data files were checked against their hashes.

        Engines are machine code: only files that are listed here with their hash are loaded.

        Raises:
            FashionFlowError: the folder has no such file, or its hash differs.
        """
        record = self.networks.get(network)
        if record is None or runtime not in record.files:
            raise FashionFlowError(
                f"{folder}: holds no {network} for {runtime}",
                hint=f"it was exported for: {', '.join(self.runtimes) or 'nothing'}",
            )
        main = record.files[runtime]
        # Large models have a data file: model.onnx.data.
        for file in [name for name in self.files if name == main or name.startswith(f"{main}.")]:
            self.check_file(folder, file)
        return folder / main

    def check_file(self, folder: Path, file: str) -> None:
        """Check size and hash of a file.

        Raises:
            FashionFlowError: the file is missing or differs from `engines.json`.
        """
        path, entry = folder / file, self.files[file]
        if not path.is_file():
            raise FashionFlowError(f"{path}: is missing", hint=_again())
        if path.stat().st_size != entry.size or sha256(path) != entry.sha256:
            raise FashionFlowError(
                f"{path}: is not the file that {ENGINES_FILE} lists (its SHA-256 differs), so it was not loaded",
                hint=f"it was damaged or replaced; {_again()}",
            )


def refusal(folder: Path, runtime: str, record: RuntimeRecord) -> FashionFlowError:
    """The error for engines that failed verification."""
    return FashionFlowError(
        f"{folder}: its {runtime} engines failed verification ({record.reason})",
        hint=f"export the model again; {option('allow_unverified')} runs them anyway",
    )
