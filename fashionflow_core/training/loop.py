"""Training loop: steps, checkpoints, out-of-memory retries, interruption."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from torch import Tensor

from fashionflow_core.errors import FashionFlowError, UsageError, option
from fashionflow_core.training import checkpoints
from fashionflow_core.training.checkpoints import RunProgress
from fashionflow_core.training.config import TrainConfig
from fashionflow_core.training.data import Steps, loader
from fashionflow_core.training.interruption import Interruption
from fashionflow_core.training.run_folder import RunFolder
from fashionflow_core.training.run_report import write_report
from fashionflow_core.training.schedules import RunSchedule
from fashionflow_core.training.status import NOISE_LEVELS, TrainingStatus, hours_left, level_means
from fashionflow_core.training.targets import Target
from fashionflow_core.utils.memory import is_out_of_memory


@dataclass(frozen=True)
class Report:
    """Callbacks for progress and notes, on the main process only.

    Attributes:
        progress: called after each step.
        note: called with one line for the user.
    """

    progress: Callable[[TrainingStatus], None] = lambda status: None
    note: Callable[[str], None] = lambda line: None


@dataclass
class StepLosses:
    """Losses of one step on one process.

    Attributes:
        mean: this process's share of the mean over all clips.
        sums, clips: sum of losses and number of clips at each noise level.
    """

    mean: float = 0.0
    sums: list[float] = field(default_factory=lambda: [0.0] * NOISE_LEVELS)
    clips: list[int] = field(default_factory=lambda: [0] * NOISE_LEVELS)

    def add(self, losses: Tensor, levels: Tensor | None) -> None:
        """Add the clips of a micro-batch: their losses and noise levels, (b,)."""
        if levels is not None:
            for loss, level in zip(losses.tolist(), levels.tolist()):
                self.sums[level] += loss
                self.clips[level] += 1


class Loop:
    """A run in progress; the main process has its folder open."""

    def __init__(
        self, config: TrainConfig, target: Target, accelerator: Accelerator, folder: RunFolder, report: Report
    ) -> None:
        self.config, self.target, self.accelerator, self.folder = config, target, accelerator, folder
        self.report = report if accelerator.is_main_process else Report()
        self.world = accelerator.num_processes
        if config.data.batch_size % self.world:
            raise UsageError(
                f"data.batch_size: {config.data.batch_size} clips cannot be split evenly over {self.world} processes"
            )
        learning = [p for p in target.module.parameters() if p.requires_grad]
        asked = config.optimizer
        optimizer = torch.optim.AdamW(
            learning,
            lr=asked.lr,
            betas=(asked.adam_betas[0], asked.adam_betas[1]),
            weight_decay=asked.weight_decay,
            fused=accelerator.device.type in ("cpu", "cuda"),
        )
        target.place(accelerator.device)
        self.module, self.optimizer = accelerator.prepare(target.module, optimizer)
        unwrapped = accelerator.unwrap_model(self.module)
        self.parameters = {name: p for name, p in unwrapped.named_parameters() if p.requires_grad}
        self.ema: EMAModel | None = None
        if asked.ema_decay:
            self.ema = EMAModel(list(self.parameters.values()), decay=asked.ema_decay, foreach=True)
        self.progress = RunProgress(micro=config.data.micro_batch_size)
        self.schedule = RunSchedule(config, len(target.examples), target.frames)  # type: ignore[arg-type]
        self._saved = 0.0  # time of the last checkpoint
        self._logged = (0.0, 0)  # seconds and clips drawn at the last line of the log
        self._by_noise: list[float | None] = [None] * NOISE_LEVELS  # the latest known

    # ---- checkpoints

    def resume(self) -> None:
        """Resume from the last checkpoint, if there is one."""
        found = checkpoints.latest(self.folder.checkpoints)
        if found is not None:
            tensors, self.progress, path = found
            if self.config.data.micro_batch_size:
                self.progress.micro = self.config.data.micro_batch_size
            raw = self.optimizer.optimizer
            checkpoints.restore(tensors, self.progress, self.parameters, raw, self.ema, path)
            self._saved, self._logged = self.progress.seconds, (self.progress.seconds, self.progress.drawn)
            self.report.note(f"resumed from {path}, step {self.progress.step}")
        if self.accelerator.is_main_process:
            self.folder.rewind_log(self.progress.step)
            for record in self.folder.records():
                self._know(record.get("loss_by_noise", []))
        self.accelerator.wait_for_everyone()

    def save(self) -> None:
        """Write a checkpoint and the plot; all processes must call it."""
        tensors = checkpoints.collect(self.parameters, self.optimizer.optimizer, self.ema)
        self._saved = self.progress.seconds
        if self.accelerator.is_main_process:
            path = checkpoints.save(self.folder.checkpoints, tensors, self.progress, self.config.checkpoints.keep)
            self.folder.log(event="checkpoint", step=self.progress.step, path=path.name)
            self.folder.draw_loss()
            write_report(self.folder, self.config)
        self.accelerator.wait_for_everyone()

    def _due(self) -> bool:
        due, progress = self.config.checkpoints, self.progress
        by_step = due.steps and progress.step % due.steps == 0
        by_time = due.minutes and progress.seconds - self._saved >= 60 * due.minutes
        return bool(by_step or by_time)

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """A context in which the networks have the averaged weights."""
        if self.ema is None:
            yield
            return
        learning = list(self.parameters.values())
        self.ema.store(learning)
        self.ema.copy_to(learning)
        try:
            yield
        finally:
            self.ema.restore(learning)

    # ---- steps

    def part(self) -> float:
        """Completed share of the run, 0 to 1."""
        return self.schedule.part(self.progress.step, self.progress.drawn, self.progress.seconds)

    def run(self, after_step: Callable[[], None]) -> int:
        """Train until the end or a signal.

        Args:
            after_step: called after each completed step, on all processes.

        Returns:
            The signal that ended it (a checkpoint is written), or 0.

        Raises:
            FashionFlowError: the loss is not finite, too many consecutive steps were skipped, or not even one clip fits
                into memory.
        """
        steps = Steps(
            self.config.seed,
            len(self.target.examples),  # type: ignore[arg-type]
            lambda step, drawn: self.schedule.window(step, self.schedule.part(step, drawn, self.progress.seconds)),
            self.progress.step,
            self.progress.drawn,
            self.accelerator.process_index,
            self.world,
        )
        on_gpu = self.accelerator.device.type == "cuda"
        batches = loader(self.target.examples, steps, self.config.data.workers, pin=on_gpu)
        with Interruption(lambda name: self.report.note(f"{name}: saving after this step (again to stop now)")) as stop:
            while self.part() < 1:
                began = time.monotonic()
                losses, norm, rate, clips = self._step(next(batches))
                losses, signum, seconds = self._agree(losses, stop.signum, time.monotonic() - began)
                self._finish_step(losses, norm, rate, clips, seconds)
                after_step()
                if signum or self._due():
                    self.save()
                if signum:
                    self.report.note(f"saved step {self.progress.step}; resume with {option('resume')}")
                    stop.act(signum)
                    return signum
        return 0

    def _step(self, batch: Any) -> tuple[StepLosses, float, float, int]:
        """Forward, backward and optimizer; returns this process's losses, gradient norm, learning rate, clips."""
        progress = self.progress
        clips = len(batch) * self.world
        rate = self.schedule.learning_rate(progress.step, self.part())
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        losses = self._gradients(batch, clips)
        while losses is None:
            self._halve(len(batch))
            losses = self._gradients(batch, clips)
        limit = self.config.optimizer.max_grad_norm or math.inf
        norm: Any = self.accelerator.clip_grad_norm_(list(self.parameters.values()), limit)
        norm = float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)  # sharded under FSDP
        # oneDNN's bfloat16 weight gradient of a temporal convolution over two frames is sometimes NaN (torch 2.13,
        # AVX-512); one such step would destroy all weights.
        if math.isfinite(norm) and math.isfinite(losses.mean):
            self.optimizer.step()
            progress.skipped = 0
            if self.ema is not None:
                self.ema.step(list(self.parameters.values()))
                progress.ema_step += 1
        else:
            progress.skipped += 1
        self.optimizer.zero_grad(set_to_none=True)
        return losses, norm, rate, clips

    def _gradients(self, batch: Any, clips: int) -> StepLosses | None:
        """Gradients of the whole batch, accumulated over micro-batches; None: out of memory."""
        parts = batch.split(self.progress.micro or len(batch))
        total, fits = StepLosses(), True
        try:
            for number, part in enumerate(parts):
                last = number == len(parts) - 1
                with contextlib.nullcontext() if last else self.accelerator.no_sync(self.module):
                    placed = self.target.prepare(part.to(self.accelerator.device))
                    losses = self.target.losses(self.module, placed)
                    loss = losses.sum() / clips
                    # DDP averages over processes, but the loss is the mean over all clips.
                    self.accelerator.backward(loss * self.world)
                total.mean += float(loss.detach())
                total.add(losses.detach(), self.target.noise_levels(placed))
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            fits = False
        if fits:
            return total
        # Outside of the except block the tensors of the failed pass are freed.
        self.optimizer.zero_grad(set_to_none=True)
        return None

    def _halve(self, clips: int) -> None:
        before = self.progress.micro or clips
        step = self.progress.step + 1
        if self.world > 1:
            raise FashionFlowError(
                f"step {step}: out of memory with {before} clips per pass",
                hint=f"set data.micro_batch_size={max(1, before // 2)}: it is fixed with several processes",
            )
        if before == 1:
            raise FashionFlowError(
                f"step {step}: out of memory with a single clip",
                hint=f"set unet.gradient_checkpointing=true, fewer frames, or use {option('dtype', 'bf16')}",
            )
        self.progress.micro = (min(before, clips) + 1) // 2
        if self.accelerator.device.type == "cuda":
            torch.cuda.empty_cache()
        self.report.note(
            f"step {step}: out of memory with {min(before, clips)} clips per pass; now {self.progress.micro}"
        )
        self.folder.log(event="out_of_memory", step=step, micro_batch_size=self.progress.micro)

    def _agree(self, losses: StepLosses, signum: int, seconds: float) -> tuple[StepLosses, int, float]:
        """The step's losses over all processes, a signal of any of them, the main process's time."""
        if self.world == 1:
            return losses, signum, seconds
        main = self.accelerator.is_main_process
        mine = [losses.mean, float(signum == 15), float(signum == 2), seconds if main else 0.0]
        sent = torch.tensor([*mine, *losses.sums, *losses.clips])
        everyone: Any = self.accelerator.reduce(sent.to(self.accelerator.device), reduction="sum")
        total, terminated, interrupted, seconds, *levels = everyone.tolist()
        sums, clips = levels[:NOISE_LEVELS], [round(count) for count in levels[NOISE_LEVELS:]]
        return StepLosses(total, sums, clips), 15 if terminated else 2 if interrupted else 0, seconds

    def _finish_step(self, losses: StepLosses, norm: float, rate: float, clips: int, seconds: float) -> None:
        progress, config, loss = self.progress, self.config, losses.mean
        progress.step, progress.drawn = progress.step + 1, progress.drawn + clips
        progress.seconds += seconds
        if not math.isfinite(loss):
            self._fail(f"step {progress.step}: the loss is not finite", f"a lower lr, or {option('dtype', 'fp32')}")
        if progress.skipped:
            self._log(event="skipped", step=progress.step, reason="gradients are not finite")
            if progress.skipped > config.optimizer.max_skipped_steps:
                self._fail(
                    f"step {progress.step}: gradients of {progress.skipped} consecutive steps were not finite",
                    f"a lower lr, or {option('dtype', 'fp32')}",
                )
        progress.losses.append(loss)
        for level in range(NOISE_LEVELS):
            progress.level_losses[level] += losses.sums[level]
            progress.level_clips[level] += losses.clips[level]
        spent, drawn = progress.seconds - self._logged[0], progress.drawn - self._logged[1]
        mean, epoch = sum(progress.losses) / len(progress.losses), progress.drawn / self.schedule.clips
        by_noise = level_means(progress.level_losses, progress.level_clips)
        speed = drawn / spent if spent else None
        log = progress.step % config.log.every == 0 or self.part() >= 1
        if log or None in self._by_noise:
            self._know(by_noise)
        shown = tuple(self._by_noise) if any(value is not None for value in self._by_noise) else ()
        left = hours_left(self.part(), progress.seconds)
        self.report.progress(TrainingStatus(self.part(), progress.step, epoch, mean, shown, rate, speed, left))
        if log:
            self._log(
                step=progress.step,
                epoch=round(epoch, 4),
                loss=mean,
                loss_by_noise=by_noise,
                lr=rate,
                grad_norm=norm,
                seconds=round(progress.seconds, 3),
                clips_per_second=round(speed, 4) if speed else None,
                micro_batch_size=progress.micro or clips // self.world,
            )
            progress.clear_losses()
            self._logged = (progress.seconds, progress.drawn)

    def _know(self, by_noise: list[float | None]) -> None:
        """Keep the latest mean loss of each noise level for the status line."""
        self._by_noise = [old if new is None else new for old, new in zip(self._by_noise, by_noise)] or self._by_noise

    def _log(self, **record: Any) -> None:
        if self.accelerator.is_main_process:
            self.folder.log(**record)

    def _fail(self, message: str, remedy: str) -> None:
        kept = checkpoints.found(self.folder.checkpoints)
        good = f"the last good checkpoint is {kept[-1]}" if kept else "there is no checkpoint yet"
        raise FashionFlowError(f"{message}; {good}", hint=f"resume with {option('resume')} and {remedy}")
