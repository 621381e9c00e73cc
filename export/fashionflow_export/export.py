"""Export of a model folder to an engine folder, including verification."""

import shutil
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fashionflow_core.config import MODEL_FILE, ModelConfig
from fashionflow_core.diffusion.schedulers import set_timesteps
from fashionflow_core.errors import FashionFlowError, FashionFlowWarning
from fashionflow_core.runtimes.flops import count_flop
from fashionflow_core.runtimes.parity import Answers
from fashionflow_core.runtimes.verification import short_generation
from fashionflow_core.store.engine_folder import (
    BUILT_NOT_RUN,
    ENGINE_FILES,
    ENGINES_FILE,
    GRAPHS,
    GRAPHS_OF,
    REFERENCES_FILE,
    Engines,
    FileRecord,
    NetworkRecord,
    RuntimeRecord,
)
from fashionflow_core.store.folder import INTERPOLATOR, atomic_folder, check_target, is_model
from fashionflow_export.channels_first_unet import for_engines
from fashionflow_export.engines import add_engines
from fashionflow_export.exported_model import ExportedModel, inputs_of, make_cases, open_source
from fashionflow_export.onnx import FLOAT16_MAX, check_exporter, export_onnx, half, peak_value
from fashionflow_export.settings import ExportSettings
from fashionflow_export.tensorrt import choose_flavor
from fashionflow_export.verify import verify_folder

_TOOLS = ("fashionflow", "torch", "diffusers", "transformers", "onnx", "onnxscript", "onnxruntime-gpu", "onnxruntime")
# Source of each graph's config.json, which documents the network and is not read at run time.
_PARTS = {"vae_decoder": "vae", "vae_encoder": "vae"}  # others have the name of the part


def export_model(
    model: Path,
    out: Path | None = None,
    settings: ExportSettings | None = None,
    lora: Path | None = None,
    overwrite: bool = False,
    report: Callable[[str], None] = lambda line: None,
) -> tuple[Path, Engines]:
    """Export a model folder to an engine folder, and verify it.

    Args:
        model: folder with PyTorch weights.
        out: output folder, written atomically; None: named after model, dtype and shape, in the current folder.
        settings: export settings.
        lora: LoRA folder for the model's U-Net, fused first.
        overwrite: whether to replace `out` if it is a model folder.
        report: called with messages for the user.

    Returns:
        The folder and its record. Engines that failed verification are included, with that state.

    Raises:
        FashionFlowError: invalid model, LoRA or target; a missing dependency.
    """
    settings = settings or ExportSettings()
    config = ModelConfig.load(model)
    if lora is not None:
        config = replace(config, name=f"{config.name}+{lora.resolve().name}")  # as `pipeline.load` calls it
    out = out or Path(settings.folder_name(config))
    _check_target(out, overwrite)
    names, (low, high) = settings.networks_of(config), settings.range_for(config)
    # All checks come before the work.
    flavor = choose_flavor(settings.engines) if "tensorrt" in settings.runtimes else None
    check_exporter()
    report(f"opening {model}")
    source = open_source(model, lora)
    own = config.keyframes if config.latents == "motion" else config.frames
    default = own if own in range(low, high + 1) else high
    counts = [default] if low == high else [default, low if low != default else high]
    batch = max(n for n in range(1, settings.decode_chunk + 1) if default % n == 0)

    report("computing reference outputs with PyTorch")
    cases = make_cases(source, names, counts, batch)
    everything = set(names) == set(GRAPHS_OF[config.latents])
    frames = np.zeros((0, config.height, config.width, 3), np.uint8)
    if everything and settings.verify:
        frames = short_generation(source.pipe, source.photo, default, batch)
    answers = Answers(cases, source.photo, frames, range(len(frames)), default)

    with atomic_folder(out) as made:
        networks = _write_graphs(made, source, settings, names, (low, high), default, batch, report)
        _copy_rest(made, source, config, default)
        weights, schedule = source.files, _schedule(source)
        del source  # frees memory for the following steps
        builds: dict[str, dict[str, Any]] = {name: {} for name in settings.runtimes}
        if flavor is not None:
            networks, builds["tensorrt"] = add_engines(
                made, networks, flavor, settings.engines, (low, default, high), out, report
            )
        if "onnxruntime" not in settings.runtimes:
            networks = _without_onnx(made, networks)
        answers.save(made / REFERENCES_FILE)
        engines = Engines(
            model=config.name,
            source=str(model.resolve()),
            source_files=weights,
            lora=str(lora.resolve()) if lora else "",
            dtype=settings.dtype,
            frames=[low, high],
            conventions={key: getattr(config, key) for key in _inside(config)},
            schedule=schedule,
            tools=_versions(),
            networks=networks,
            runtimes={name: RuntimeRecord(BUILT_NOT_RUN, "not run yet", build=builds[name]) for name in builds},
            files={
                path.relative_to(made).as_posix(): FileRecord.of(path)
                for path in sorted(made.rglob("*"))
                if path.name.startswith(tuple(ENGINE_FILES.values())) or path.name == REFERENCES_FILE
            },
            latents=config.latents,
        )
        engines.save(made)
        if settings.verify:
            # Engines that cannot be loaded have failed too; they are kept for inspection like those with wrong outputs.
            engines = verify_folder(made, engines, answers, report=report, keep_failures=True)
        _check_target(out, overwrite)  # another export may have finished meanwhile
    return out, engines


def _check_target(out: Path, overwrite: bool) -> None:
    """As `check_target`; an export never replaces a folder of weights."""
    check_target(out, overwrite)
    if is_model(out) and not (out / ENGINES_FILE).is_file():
        raise FashionFlowError(
            f"{out}: contains the weights of a model; --overwrite replaces engines only", hint="choose another -o"
        )


def _write_graphs(
    made: Path,
    source: ExportedModel,
    settings: ExportSettings,
    names: Sequence[str],
    frames: tuple[int, int],
    default: int,
    batch: int,
    report: Callable[[str], None],
) -> dict[str, NetworkRecord]:
    low, high = frames
    dynamic = low != high
    examples = inputs_of(source, default, batch, "random")
    real = inputs_of(source, low, 1, "real")
    records = {}
    for name in names:
        dtype, graph = settings.dtype, for_engines(source.graphs[name])
        if dtype == "fp16" and (peak := peak_value(source.graphs[name], real[name])) > FLOAT16_MAX:
            warnings.warn(
                f"{name}: values reach {peak:.3g}, above the range of float16 ({FLOAT16_MAX:g}): kept in fp32",
                FashionFlowWarning,
                stacklevel=2,
            )
            dtype = "fp32"
        graph = graph if dtype == "fp32" else half(graph)
        report(f"{name}: exporting to ONNX in {dtype}")
        path = made / name / ENGINE_FILES["onnxruntime"]
        export_onnx(graph, name, examples[name], path, (low, high) if dynamic and name == "unet" else None)
        inputs = {key: list(value.shape) for key, value in examples[name].items()}
        outputs = _output_shapes(source, name, examples[name])
        if dynamic and name == "unet":
            inputs["sample"][2] = outputs["prediction"][2] = -1
        records[name] = NetworkRecord(
            dtype,
            sum(weight.numel() for weight in graph.parameters()),
            inputs,
            outputs,
            _count(source, low, high, name),
            {"onnxruntime": path.relative_to(made).as_posix()},
        )
        shutil.copy(source.folder / _PARTS.get(name, name) / "config.json", made / name / "config.json")
    return records


def _without_onnx(made: Path, networks: dict[str, NetworkRecord]) -> dict[str, NetworkRecord]:
    """Remove the ONNX files that engines were built from."""
    for record in networks.values():
        onnx = made / record.files["onnxruntime"]
        for path in (onnx, onnx.with_name(onnx.name + ".data")):
            path.unlink(missing_ok=True)
    return {
        name: replace(record, files={key: file for key, file in record.files.items() if key != "onnxruntime"})
        for name, record in networks.items()
    }


def _output_shapes(source: ExportedModel, name: str, inputs: dict[str, Any]) -> dict[str, list[int]]:
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        found = source.graphs[name](**{key: mode.from_tensor(value) for key, value in inputs.items()})
    values = found if isinstance(found, tuple) else (found,)
    return {key: list(value.shape) for key, value in zip(GRAPHS[name].outputs, values, strict=True)}


def _count(source: ExportedModel, low: int, high: int, name: str) -> dict[str, int]:
    """Operations of a graph: for the U-Net at up to three numbers of frames, for decoder and parser for one image."""
    counts = {}
    for frames in sorted({low, (low + high) // 4 * 2, high}) if name == "unet" else [low]:
        shapes = [tuple(value.shape) for value in inputs_of(source, frames, 1, "random")[name].values()]
        if name == "parser":  # input is a photo and its mirror image
            shapes = [(1, *shape[1:]) for shape in shapes]
        counts[str(frames)] = count_flop(source.graphs[name], *shapes)
    return counts


def _copy_rest(made: Path, source: ExportedModel, config: ModelConfig, frames: int) -> None:
    """Write everything except the graphs, including the interpolator, which is not a graph.

    The graphs include the conventions of their VAE, so model.json has neutral ones.
    """
    channels = len(config.latents_mean)
    inside = {
        "vae_range": "zero_one",
        "vae_patch_size": 1,
        "latents_mean": (0.0,) * channels,
        "latents_std": (1.0,) * channels,
    }
    length: dict[str, Any] = {"keyframes" if config.latents == "motion" else "frames": frames}
    plain = replace(config, **length, **{key: inside[key] for key in _inside(config)})
    (made / MODEL_FILE).write_text(plain.to_json(), encoding="utf-8")
    for part in ("scheduler", "feature_extractor", *([INTERPOLATOR] if config.interpolator else [])):
        shutil.copytree(source.folder / part, made / part)


def _inside(config: ModelConfig) -> tuple[str, ...]:
    """Fields of `model.json` for conventions that are part of the graphs: those of the VAE."""
    return () if config.latents == "motion" else ("vae_range", "vae_patch_size", "latents_mean", "latents_std")


def _schedule(source: ExportedModel) -> dict[str, Any]:
    """Value of `Engines.schedule`."""
    scheduler = source.pipe.make_scheduler("ddim")
    timesteps = set_timesteps(scheduler, source.config.steps, torch.device("cpu"), source.config.log_snr)
    return {
        "prediction_type": scheduler.config.prediction_type,
        "timesteps": timesteps,
        "alphas_cumprod": scheduler.alphas_cumprod.double().tolist(),
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in _TOOLS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
