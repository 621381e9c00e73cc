"""Training run from settings to a model folder."""

import contextlib
import os
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedType
from accelerate.state import AcceleratorState

from fashionflow_core.config import ModelConfig
from fashionflow_core.errors import FashionFlowWarning, UsageError, command, option
from fashionflow_core.store.folder import atomic_folder
from fashionflow_core.training import checkpoints
from fashionflow_core.training.config import TrainConfig
from fashionflow_core.training.loop import Loop, Report
from fashionflow_core.training.motion import MotionClips, MotionTarget
from fashionflow_core.training.previews import Previews
from fashionflow_core.training.run_folder import RunFolder
from fashionflow_core.training.run_report import write_report
from fashionflow_core.training.targets import Target, UNetTarget, open_cache, write_model
from fashionflow_core.training.vae import VAETarget
from fashionflow_core.utils import extras
from fashionflow_core.utils.device import DTYPES, autocast_dtype, resolve_device
from fashionflow_core.utils.libraries import quiet_libraries


def make_target(config: TrainConfig, base: Path, name: str) -> Target:
    """Build the target of a run, on the CPU, before the first step.

    Args:
        base: folder of `config.init_from`, or of `config.base`.
        name: name of the result.

    Raises:
        UsageError: no data, or a base model of the wrong kind.
        FashionFlowError: the base is a pipeline of diffusers or broken.
    """
    of_base = ModelConfig.load(base)
    if not config.data.path:
        made = {"vae": "a folder of videos", "motion": f"the clips of {command('data synth', motion=True)}"}
        what = made.get(config.target, f"the cache of {command('data prepare')}")
        raise UsageError(f"data.path: not set; needs {what}", hint=f"pass {option('set', 'data.path=runs/cache')}")
    if config.target != "motion" and of_base.latents == "motion":
        key = "init_from" if config.init_from else "base"
        raise UsageError(
            f"{key}: {of_base.name} is a motion model, but target {config.target} needs an appearance model",
            hint=f"set {key}: mini-latent, or target: motion",
        )
    if config.target == "vae":
        return VAETarget(config, base, name)
    if config.target == "motion":
        return MotionTarget(config, MotionClips(config.data.path), base, name)
    return UNetTarget(config, open_cache(config), base, name)


def train(
    config: TrainConfig,
    out: str | Path,
    base: Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    dtype: str = "auto",
    report: Report | None = None,
) -> Path:
    """Train, and write the result to the run folder.

    Under `torchrun` or `accelerate launch` every process calls this; only the first one writes.

    Args:
        config: all settings.
        out: run folder, created if missing.
        base: folder of `config.init_from`, or of `config.base`.
        resume: continue from the last checkpoint in `out`.
        overwrite: start again in a folder that contains a run.
        device: one of auto, cpu, cuda, cuda:1, mps.
        dtype: one of auto, fp32 or bf16 (autocast; weights and optimizer stay in float32).
        report: callbacks for progress and notes.

    Returns:
        Path of the result: `out`/model, or `out`/lora for a LoRA.

    Raises:
        FashionFlowError, UsageError: invalid settings or folders; see `Loop.run` for errors during training.
    """
    folder, report = RunFolder(Path(out)), report or Report()
    first = os.environ.get("RANK", "0") == "0"
    if first:
        folder.check(config, resume, overwrite)
    with _accelerator(device, dtype) as accelerator:
        target = make_target(config, base, folder.path.absolute().name)
        if first:
            folder.open(config, overwrite)
            target.scheduler.save_pretrained(folder.path / "scheduler")
        try:
            return _train(config, folder, base, target, accelerator, resume, report)
        finally:
            folder.close()


def _train(
    config: TrainConfig,
    folder: RunFolder,
    base: Path,
    target: Target,
    accelerator: Accelerator,
    resume: bool,
    report: Report,
) -> Path:
    loop = Loop(config, target, accelerator, folder, report)
    if resume:
        loop.resume()
    main = accelerator.is_main_process
    writer = None
    if main:
        _installed("matplotlib", "loss.png is omitted")
        if config.log.tensorboard and _installed("tensorboard", "events are omitted"):
            writer = _tensorboard(folder, loop.progress.step)
    previews = None
    sharded = accelerator.distributed_type == DistributedType.FSDP
    if main and config.previews.every and isinstance(target, UNetTarget) and not sharded:
        previews = Previews(target, config, folder.path, target.clips)

    def after_step() -> None:
        step = loop.progress.step
        if writer is not None and step % config.log.every == 0:
            for key in ("loss", "lr", "grad_norm", "clips_per_second"):
                if folder.last.get(key) is not None:
                    writer.add_scalar(key, folder.last[key], step)
        if previews is not None and (step % config.previews.every == 0 or loop.part() >= 1):
            with loop.averaged(), accelerator.autocast():
                for path in previews.make(step):
                    folder.log(event="preview", step=step, path=str(path.relative_to(folder.path)))

    try:
        loop.run(after_step)
    finally:
        if writer is not None:
            writer.close()
    loop.save()
    result = folder.path / ("lora" if config.lora.rank else "model")
    if main and sharded:  # the networks in memory are sharded
        whole = make_target(config, base, folder.path.absolute().name)
        checkpoints.result(checkpoints.read(checkpoints.found(folder.checkpoints)[-1])[0], whole.module)
        _write(config, whole, result)
    elif main:
        with loop.averaged():
            _write(config, target, result)
    if main:
        folder.log(event="done", step=loop.progress.step, path=result.name)
        write_report(folder, config)
    accelerator.wait_for_everyone()
    return result


def _write(config: TrainConfig, target: Target, result: Path) -> None:
    if config.lora.rank:
        from fashionflow_core.runtimes.lora import save_lora

        save_lora(target.networks.unet, result, base=config.init_from)
        return
    dtype = getattr(torch, DTYPES[config.save_dtype])
    with quiet_libraries(), atomic_folder(result) as made:
        if isinstance(target, MotionTarget):
            target.write(made, dtype)
        else:
            write_model(target, made, dtype)


def _installed(package: str, otherwise: str) -> bool:
    if find_spec(package) is not None:
        return True
    line = f"{package}: not installed; {otherwise} ({extras.install('train')})"
    warnings.warn(line, FashionFlowWarning, stacklevel=2)
    return False


def _tensorboard(folder: RunFolder, step: int) -> Any:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder.tensorboard), purge_step=step + 1)


@contextlib.contextmanager
def _accelerator(device: str, dtype: str) -> Iterator[Accelerator]:
    """accelerate's state of this process, reset afterwards."""
    chosen = resolve_device(device)
    half = autocast_dtype(dtype, chosen)
    if chosen.type == "cuda" and chosen.index is not None and "RANK" not in os.environ:
        os.environ["ACCELERATE_TORCH_DEVICE"] = str(chosen)
    accelerator = Accelerator(mixed_precision="bf16" if half else "no", cpu=chosen.type == "cpu")
    try:
        yield accelerator
        accelerator.end_training()
    finally:
        # Another run in this process may use another device or dtype.
        AcceleratorState._reset_state(reset_partial_state=True)
