"""Engine folders for tests, each exported once for all workers: an export takes seconds to half a minute."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from tiny import build_tiny_model

from fashionflow_core.store.engine_folder import ENGINES_FILE, FileRecord


def shared(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], Any]) -> Path:
    """The folder `name`, made by whichever worker comes first."""
    base = factory.getbasetemp()
    # Workers have their own folders inside one that they share.
    home = base.parent if base.name.startswith("popen-") else base
    target = home / name
    with FileLock(home / f"{name}.lock"):
        if not target.exists():
            make(target)
    return target


def tiny_source(factory: pytest.TempPathFactory) -> Path:
    """A tiny model with PyTorch weights, its given frames shown to the U-Net, and an interpolator."""
    modes = ("generate", "interpolate")
    return shared(
        factory,
        "tiny-source",
        lambda path: build_tiny_model(path, known_content="latents", modes=modes, interpolator=True),
    )


def tiny_engines(factory: pytest.TempPathFactory, name: str, **settings: Any) -> Path:
    """The tiny model, exported; `settings` are those of `ExportSettings`."""
    from fashionflow_export.export import export_model
    from fashionflow_export.settings import ExportSettings

    source = tiny_source(factory)
    return shared(factory, name, lambda path: export_model(source, path, ExportSettings(**settings)))


def edit(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change `engines.json` in place."""
    path = folder / ENGINES_FILE
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def replace_file(folder: Path, file: str, content: bytes) -> None:
    """Put other bytes into a file and its hash into `engines.json`, as a broken export would."""
    (folder / file).write_bytes(content)
    edit(folder, lambda record: record["files"].update({file: asdict(FileRecord.of(folder / file))}))
