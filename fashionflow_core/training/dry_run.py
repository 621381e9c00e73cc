"""Dry run of a training: base, data, geometry, memory, disk and hours, with one measured step; nothing is written."""

import math
import time
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from fashionflow_core.training.build import checkpointed_blocks
from fashionflow_core.training.config import TrainConfig
from fashionflow_core.training.data import Draw, collate
from fashionflow_core.training.run import make_target
from fashionflow_core.training.schedules import RunSchedule
from fashionflow_core.training.status import duration
from fashionflow_core.training.targets import Target, UNetTarget
from fashionflow_core.utils.device import autocast_dtype, free_memory, resolve_device
from fashionflow_core.utils.files import free_bytes

_FLOAT = 4  # bytes; weights, moments and averages are float32 in every dtype
_MEASURED_FRAMES = 4  # of a window; the cost of a step grows with its frames


@dataclass(frozen=True)
class TrainingPlan:
    """A run before it starts.

    Attributes:
        base, target: folder of the base model, and trained networks.
        clips, data: number of clips (target vae: frames), and where they are.
        frames, height, width: frames per window, and frame size in pixels.
        latent_shape: channels, height and width of the latents; empty: none.
        clips_per_step: clips per step over all processes; `clips_per_pass` on a device at once.
        learning_parameters: trained parameters; `frozen_parameters` are used but not trained.
        weights_bytes: all weights, gradients, both moments and averaged weights.
        activation_bytes: what the backward pass needs of one forward pass, estimated from the measured step; with
            gradient checkpointing the borders of the U-Net's levels, and the activations of the largest level.
        free_bytes: free memory of the device; None: unknown.
        checkpoint_bytes: one checkpoint; `disk_bytes` all that are kept and the result; `disk_free` on that disk.
        steps, epochs, hours: length of the run; `limit` is the setting that ends it.
        seconds_per_step: estimated from one measured step of `measured_frames` frames on `device` in `dtype`.
        problems: what would fail or be slow, one line each.
        settings: all settings of the run.
    """

    base: str
    target: str
    clips: int
    data: str
    frames: int
    height: int
    width: int
    latent_shape: tuple[int, ...]
    clips_per_step: int
    clips_per_pass: int
    learning_parameters: int
    frozen_parameters: int
    weights_bytes: int
    activation_bytes: int
    free_bytes: int | None
    checkpoint_bytes: int
    disk_bytes: int
    disk_free: int
    steps: int
    epochs: float
    hours: float
    limit: str
    seconds_per_step: float
    measured_frames: int
    device: str
    dtype: str
    problems: list[str] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)


def make_plan(config: TrainConfig, base: Path, out: Path, device: str = "auto", dtype: str = "auto") -> TrainingPlan:
    """Open base and data as a run would, measure one step on the device, and describe the run.

    Raises:
        FashionFlowError, UsageError: as `run.train` before its first step; not enough memory for the measured step.
    """
    chosen = resolve_device(device)
    half = autocast_dtype(dtype, chosen)
    target = make_target(config, base, out.absolute().name)
    free = free_memory(chosen)
    module: Any = target.module
    learning = sum(p.numel() for p in module.parameters() if p.requires_grad)
    frozen = sum(p.numel() for p in _networks(target) if not p.requires_grad)
    copies = 5 if config.optimizer.ema_decay else 4  # weights, gradients, two moments, averages
    weights = _FLOAT * (learning * copies + frozen)
    seconds, stored, frames = _measure(target, chosen, half)
    per_step, per_pass = config.data.batch_size, config.data.micro_batch_size or config.data.batch_size
    scale = target.frames / frames
    per_step_seconds = seconds * scale * per_step
    schedule = RunSchedule(config, len(target.examples), target.frames)
    steps, limit = _length(config, schedule, per_step_seconds)
    checkpoint = _FLOAT * learning * (copies - 1)
    where = next(folder for folder in (out, *out.absolute().parents) if folder.is_dir())
    disk = checkpoint * config.checkpoints.keep + _FLOAT * (learning + frozen)
    model = target.model
    networks: Any = target.networks
    plan = TrainingPlan(
        base=str(base),
        target=config.target,
        clips=len(target.examples),
        data=config.data.path,
        frames=target.frames,
        height=model.height,
        width=model.width,
        latent_shape=networks.adapter.latent_shape if config.target != "vae" else (),
        clips_per_step=per_step,
        clips_per_pass=per_pass,
        learning_parameters=learning,
        frozen_parameters=frozen,
        weights_bytes=weights,
        activation_bytes=round(stored * scale * per_pass),
        free_bytes=free,
        checkpoint_bytes=checkpoint,
        disk_bytes=disk,
        disk_free=round(min(free_bytes(where), 2**62)),
        steps=steps,
        epochs=steps * per_step / schedule.clips,
        hours=steps * per_step_seconds / 3600,
        limit=limit,
        seconds_per_step=per_step_seconds,
        measured_frames=frames,
        device=str(chosen),
        dtype="bf16" if half else "fp32",
        settings=asdict(config),
    )
    plan.problems.extend(_problems(plan))
    return plan


def describe(plan: TrainingPlan) -> list[str]:
    """The plan in plain language, one line per subject."""
    shape = f"{plan.frames} frames of {plan.height}x{plan.width}"
    if plan.latent_shape:
        shape += f", latents {'x'.join(map(str, plan.latent_shape))}"
    if plan.target == "vae":
        shape = f"single frames of {plan.height}x{plan.width}"
    passes = "" if plan.clips_per_pass == plan.clips_per_step else f", {plan.clips_per_pass} at a time"
    memory = f"{_gb(plan.weights_bytes)} weights and optimizer, about {_gb(plan.activation_bytes)} activations"
    if plan.free_bytes is not None:
        memory += f"; {_gb(plan.free_bytes)} free on {plan.device}"
    return [
        f"base      {plan.base}",
        f"trains    {plan.target}: {plan.learning_parameters:,} parameters; {plan.frozen_parameters:,} more are frozen",
        f"data      {plan.clips:,} {'frames' if plan.target == 'vae' else 'clips'} in {plan.data}",
        f"window    {shape}",
        f"step      {plan.clips_per_step} clip{'s'[: plan.clips_per_step != 1]}{passes}",
        f"length    {plan.steps:,} steps, {plan.epochs:,.1f} epochs, ended by {plan.limit}",
        f"time      about {duration(plan.hours)} on {plan.device} in {plan.dtype}: {plan.seconds_per_step:.3g} s per "
        f"step, estimated from a measured step of {plan.measured_frames} frames",
        f"memory    {memory}",
        f"disk      {_gb(plan.disk_bytes)} for checkpoints and the result; {_gb(plan.disk_free)} free",
        *(f"problem   {problem}" for problem in plan.problems),
    ]


def _gb(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"


def _networks(target: Target) -> list[Any]:
    """Parameters of all networks that a run keeps in memory, each once."""
    networks: Any = target.networks
    parts = getattr(networks, "parts", None) or [networks.unet, networks.adapter, networks.image_encoder]
    unique = {id(p): p for part in (*parts, target.module) for p in part.parameters()}
    return list(unique.values())


def _length(config: TrainConfig, schedule: RunSchedule, seconds: float) -> tuple[int, str]:
    """Steps of the run, and the setting that ends it first."""
    ends = config.schedule
    limits = {
        "schedule.max_steps": ends.max_steps,
        "schedule.max_epochs": math.ceil(ends.max_epochs * schedule.clips / config.data.batch_size),
        "schedule.max_minutes": math.ceil(ends.max_minutes * 60 / seconds),
    }
    limit = min((name for name in limits if limits[name]), key=lambda name: limits[name])
    return limits[limit], limit


def _measure(target: Target, device: torch.device, half: torch.dtype | None) -> tuple[float, int, int]:
    """Seconds of forward and backward of one clip, bytes kept for the backward pass, and frames of its window.

    Twice: the first pass also allocates, selects kernels and counts bytes; the second is timed.
    """
    frames = target.frames
    if isinstance(target, UNetTarget):
        divisor = target.networks.frame_divisor
        frames = min(frames, divisor * math.ceil(_MEASURED_FRAMES / divisor))
    module: Any = target.module
    module.to(device)
    target.place(device)
    learning = {p.untyped_storage().data_ptr() for p in module.parameters()}
    seconds, stored = 0.0, 0
    for index in range(2):
        draws = [[Draw(index, 0, 1, 0, frames)]]
        (batch,) = DataLoader(target.examples, batch_sampler=draws, collate_fn=collate)
        counter = _SavedBytes(learning)
        _wait(device)
        began = time.perf_counter()
        with (
            counter.counting(module) if index == 0 else nullcontext(),
            torch.autocast(device.type, half, enabled=half is not None),
        ):
            loss = target.losses(module, target.prepare(batch.to(device))).sum()
        loss.backward()
        _wait(device)
        seconds, stored = time.perf_counter() - began, stored or counter.total
        module.zero_grad(set_to_none=True)
    return seconds, stored, frames


class _SavedBytes:
    """Bytes that a forward pass keeps for its backward pass, each storage once.

    Blocks with gradient checkpointing keep their inputs, and in the backward pass the activations of one block at a
    time exist. These are counted by running every block once more.

    Args:
        learning: addresses of the weights, which are not counted.
    """

    def __init__(self, learning: Container[int]) -> None:
        self._learning = learning
        self._kept: dict[int, int] = {}  # by address
        self._largest = 0  # block

    @property
    def total(self) -> int:
        return sum(self._kept.values()) + self._largest

    @contextmanager
    def counting(self, network: nn.Module) -> Iterator[None]:
        """Count during the `with` block."""
        blocks = checkpointed_blocks(network)
        wrapped = [block.forward for block in blocks]
        for block in blocks:
            block.forward = partial(self._block, block, block.forward)
        try:
            with self._saving(self._kept):
                yield
        finally:
            for block, forward in zip(blocks, wrapped):
                block.forward = forward

    def _saving(self, kept: dict[int, int]) -> torch.autograd.graph.saved_tensors_hooks:
        def remember(tensor: torch.Tensor) -> torch.Tensor:
            self._add(tensor, kept)
            return tensor

        return torch.autograd.graph.saved_tensors_hooks(remember, lambda tensor: tensor)

    def _add(self, tensor: torch.Tensor, kept: dict[int, int]) -> None:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._learning:
            kept[storage.data_ptr()] = storage.nbytes()

    def _block(self, block: nn.Module, checkpointed: Callable[..., Any], *inputs: torch.Tensor) -> Any:
        for tensor in inputs:
            self._add(tensor, self._kept)
        kept: dict[int, int] = {}
        with self._saving(kept):
            outputs = type(block).forward(block, *inputs)
        self._largest = max(self._largest, sum(size for at, size in kept.items() if at not in self._kept))
        del outputs
        return checkpointed(*inputs)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _problems(plan: TrainingPlan) -> list[str]:
    found = []
    needed = plan.weights_bytes + plan.activation_bytes
    if plan.free_bytes is not None and needed > plan.free_bytes:
        checkpointing = "" if plan.settings["unet"]["gradient_checkpointing"] else ", unet.gradient_checkpointing=true"
        remedy = f"data.micro_batch_size=1{checkpointing} or fewer data.frames"
        found.append(f"memory: about {_gb(needed)} needed, {_gb(plan.free_bytes)} free: set {remedy}")
    if plan.disk_bytes > plan.disk_free:
        found.append(f"disk: {_gb(plan.disk_bytes)} needed, {_gb(plan.disk_free)} free: set a smaller checkpoints.keep")
    return found
