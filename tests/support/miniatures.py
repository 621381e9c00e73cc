"""Miniatures of image-to-video pipelines, saved in diffusers' layout once for all tests."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from engine_folders import shared

Miniature = Callable[[str, Path], Path]
STEPS, FRAMES = 2, 9  # 9 is 4k+1 and 8k+1
FRAMES_OF = {"kandinsky5": 25}  # of the others `FRAMES`: it normalises the first four latents by those after them
# Those in the table of families; `skyreels_forcing` is a miniature of another class.
FAMILIES = (
    *("wan22_ti2v", "wan21", "wan22_a14b", "ltx", "svd", "cogvideox", "skyreels", "hunyuan15"),
    *("ltx2", "kandinsky5", "hunyuan"),
)


def copier(factory: pytest.TempPathFactory) -> Miniature:
    """A function of a family and a folder that returns a copy of the family's miniature, `folder`/`family`.

    Weights are random, the same in each run; whichever worker needs a family first makes it.
    """

    def miniature(family: str, folder: Path) -> Path:
        def make(place: Path) -> None:
            import torch
            from miniature_pipelines import BUILDERS

            with torch.random.fork_rng(devices=()):
                torch.manual_seed(0)
                BUILDERS[family]().save_pretrained(place, safe_serialization=True)

        return Path(shutil.copytree(shared(factory, f"miniature-{family}", make), folder / family))

    return miniature


def set_index(folder: Path, **values: Any) -> None:
    """Change entries of `model_index.json`; None removes one."""
    path = folder / "model_index.json"
    index = json.loads(path.read_text()) | values
    path.write_text(json.dumps({key: value for key, value in index.items() if value is not None}))
