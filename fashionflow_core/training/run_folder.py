"""Layout of a run folder: settings, log, plot, previews, result."""

import json
import shutil
import time
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fashionflow_core.errors import FashionFlowError, SettingError, option
from fashionflow_core.training.config import TrainConfig
from fashionflow_core.training.settings import differences, load_config, to_yaml
from fashionflow_core.utils.files import atomic_path, write_text
from fashionflow_core.utils.locks import LOCK_FILE, locked
from fashionflow_core.utils.temporary import sweep

SETTINGS = "config.yaml"


class RunFolder:
    """Paths and log of a run.

    config.yaml: all settings. log.jsonl: one JSON object per line. loss.png: loss curve. report.html: curves, previews
    and events as a page. checkpoints/, previews/, tensorboard/. scheduler/: the noise schedule. model/ (or lora/): the
    result, once the run has finished.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.previews = path / "previews"
        self.tensorboard = path / "tensorboard"
        self.log_file = path / "log.jsonl"
        self.plot = path / "loss.png"
        self.report = path / "report.html"
        self.last: dict[str, Any] = {}
        self._lock = ExitStack()

    def check(self, config: TrainConfig, resume: bool, overwrite: bool) -> None:
        """Reject an unusable folder before any work.

        Raises:
            FashionFlowError: not empty and neither `resume` nor `overwrite`; not a run folder; not writable.
            UsageError: `resume` with settings that must not change.
        """
        path = self.path
        if path.exists() and not path.is_dir():
            raise FashionFlowError(
                f"{path}: is a file, not a run folder", hint=f"choose another one with {option('out')}"
            )
        # A run killed at its start leaves its lock and files that `sweep` removes.
        sweep(path)
        used = path.is_dir() and any(inside.name != LOCK_FILE for inside in path.iterdir())
        is_run = (path / SETTINGS).is_file()
        if used and not is_run:
            raise FashionFlowError(
                f"{path}: contains other files and no run", hint=f"choose another folder with {option('out')}"
            )
        if used and not (resume or overwrite):
            raise FashionFlowError(
                f"{path}: already contains a run",
                hint=f"pass {option('resume')} to continue it, or {option('overwrite', True)} to start again",
            )
        if resume and not is_run:
            raise FashionFlowError(f"{path}: no run to resume", hint=f"omit {option('resume')} to start one")
        if resume and (changed := differences(load_config(path / SETTINGS), config)):
            raise SettingError(
                "resume",
                f"{path}: the run was started with other settings: {', '.join(changed)}",
                hint=f"use those of {path / SETTINGS}, or {option('overwrite', True)} to start again",
            )

    def open(self, config: TrainConfig, overwrite: bool) -> None:
        """Create and lock the folder.

        Raises:
            FashionFlowError: it is in use by another process.
        """
        self._lock.enter_context(locked(self.path, "training"))
        for left in self.checkpoints.glob(".step-*.safetensors"):  # of a killed run, perhaps on another machine
            left.unlink(missing_ok=True)
        if overwrite:
            for name in ("checkpoints", "previews", "tensorboard", "scheduler", "model", "lora"):
                shutil.rmtree(self.path / name, ignore_errors=True)
            for name in ("log.jsonl", "loss.png", "report.html"):
                (self.path / name).unlink(missing_ok=True)
        write_text(self.path / SETTINGS, to_yaml(config))

    def close(self) -> None:
        self._lock.close()

    def records(self) -> list[dict[str, Any]]:
        """All lines of the log, without an incomplete last line of a killed run."""
        if not self.log_file.is_file():
            return []
        found = []
        for line in self.log_file.read_text(encoding="utf-8").splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
        return found

    def rewind_log(self, step: int) -> None:
        """Remove lines after `step`, since those steps are repeated."""
        kept = [json.dumps(record) + "\n" for record in self.records() if record["step"] <= step]
        write_text(self.log_file, "".join(kept))

    def log(self, **record: Any) -> None:
        """Append one line; `last` is the latest line with a loss."""
        if "loss" in record:
            self.last = record
        with self.log_file.open("a", encoding="utf-8") as file:
            file.write(json.dumps({**record, "time": round(time.time(), 3)}) + "\n")

    def draw_loss(self) -> None:
        """Plot the loss over the steps as a PNG; skipped without matplotlib."""
        if find_spec("matplotlib") is None:
            return
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        curve = [(record["step"], record["loss"]) for record in self.records() if "loss" in record]
        if not curve:
            return
        steps, losses = zip(*curve)
        figure = Figure(figsize=(8, 4.5), layout="constrained")
        axes = figure.subplots()
        axes.plot(steps, losses, linewidth=1)
        axes.set(xlabel="step", ylabel="loss", title=self.path.name)
        if min(losses) > 0:
            axes.set_yscale("log")
        axes.grid(alpha=0.3)
        with atomic_path(self.plot) as temporary:
            FigureCanvasAgg(figure).print_png(temporary)
