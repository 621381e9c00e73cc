"""TensorRT engines of an engine folder, with reuse of valid ones."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from fashionflow_core.errors import FashionFlowError
from fashionflow_core.runtimes.tensorrt_flavors import Flavor
from fashionflow_core.store.engine_folder import ENGINE_FILES, Engines, NetworkRecord
from fashionflow_export.settings import EngineSettings
from fashionflow_export.tensorrt import build_engine, cache_key


def profile_of(record: NetworkRecord, frames: tuple[int, int], usual: int) -> dict[str, Any]:
    """Input → smallest, usual and largest shape, for inputs with a dynamic number of frames."""
    low, high = frames
    return {
        name: [tuple(count if size == -1 else size for size in shape) for count in (low, usual, high)]
        for name, shape in record.inputs.items()
        if -1 in shape
    }


def add_engines(
    made: Path,
    networks: Mapping[str, NetworkRecord],
    flavor: Flavor,
    settings: EngineSettings,
    frames: tuple[int, int, int],
    before: Path,
    report: Callable[[str], None],
) -> tuple[dict[str, NetworkRecord], dict[str, Any]]:
    """Build an engine for every ONNX file in a folder, or reuse that of an earlier export.

    Args:
        made: folder with the ONNX files of the networks.
        networks: records of the networks; the returned ones include the engines.
        flavor, settings: build settings.
        frames: fewest, usual and most frames of a clip.
        before: folder of a possible earlier export; its engines with the same key are reused.
        report: called with messages for the user.

    Returns:
        Records, and the value of `RuntimeRecord.build`: flavor, versions, and of each engine its key and the builder's
        information.

    Raises:
        FashionFlowError: as `build_engine`.
    """
    low, usual, high = frames
    built: dict[str, Any] = {}
    records: dict[str, NetworkRecord] = {}
    key: dict[str, Any] = {}
    for name, record in networks.items():
        profile = profile_of(record, (low, high), usual)
        onnx = made / record.files["onnxruntime"]
        key = cache_key(onnx, flavor, settings, record.dtype, profile)
        target = made / name / ENGINE_FILES["tensorrt"]
        info = _take_over(before, name, key, target, report)
        if info is None:
            report(f"{name}: building with {flavor.title} {key['version']}")
            plan, info = build_engine(onnx, flavor, settings, profile)
            target.write_bytes(plan)
        built[name] = {"key": key, **info}
        records[name] = replace(record, files={**record.files, "tensorrt": target.relative_to(made).as_posix()})
    shared = ("flavor", "version", "cuda", "compute_capabilities")
    return records, {field: key.get(field) for field in shared} | {"engines": built}


def _take_over(
    before: Path, name: str, key: Mapping[str, Any], target: Path, report: Callable[[str], None]
) -> dict[str, Any] | None:
    """Copy an engine of an earlier export if its key matches; returns its information, or None."""
    try:
        engines = Engines.load(before)
        known = dict(engines.runtimes["tensorrt"].build["engines"][name])
        old = known.pop("key")
        path = engines.check_files(before, name, "tensorrt")
    except (FashionFlowError, KeyError, TypeError, ValueError):
        return None  # not a trustworthy record
    changed = [field for field in {**key, **old} if old.get(field) != key.get(field)]
    if changed:
        report(f"{name}: the engine in {before} is stale ({_change(changed[0], old, key)}); building it again")
        return None
    shutil.copy(path, target)
    report(f"{name}: the engine in {before} is still valid; reusing it")
    return known


def _change(field: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    if field.startswith("onnx"):
        return "the graph or its weights changed"
    return f"{field} was {old.get(field)}, is {new.get(field)}"
