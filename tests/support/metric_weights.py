"""Feature networks with weights made from names, under the names of the public files."""

import json
from pathlib import Path

import numpy as np
import torch
from golden.named_weights import named_state_dict, named_video
from places import GOLDEN

from fashionflow_core.metrics.weights import FILES


def write_named_weights(folder: Path) -> None:
    """Both files; I3D's in the old format of the public one."""
    shapes = json.loads((GOLDEN / "metric_shapes.json").read_text())
    for kind, file in FILES.items():
        state = {name: torch.from_numpy(value) for name, value in named_state_dict(shapes[kind], gain=1.6).items()}
        torch.save(state, folder / file.name, _use_new_zipfile_serialization=kind != "i3d")


def named_videos(name: str, count: int, shape: tuple[int, int, int]) -> list[np.ndarray]:
    return [named_video(f"{name}:{index}", shape) for index in range(count)]
