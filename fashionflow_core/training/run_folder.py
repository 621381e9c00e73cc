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
    """Paths of a run, and its log.

    config.yaml: all settings. log.jsonl: one JSON object a line. loss.png: its curve. checkpoints/, previews/,
    tensorboard/. scheduler/: the noise schedule. model/ (or lora/): the result, once the run is over.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.previews = path / "previews"
        self.tensorboard = path / "tensorboard"
        self.log_file = path / "log.jsonl"
        self.plot = path / "loss.png"
        self.last: dict[str, Any] = {}
        self._lock = ExitStack()

    def check(self, config: TrainConfig, resume: bool, overwrite: bool) -> None:
        """Refuse a folder that cannot be used, before any work.

        Raises:
            FashionFlowError: it holds something and neither `resume` nor `overwrite`; it is no run; nothing can be
                written there.
            UsageError: `resume` with settings that would lead the run off its path.
        """
        path = self.path
        if path.exists() and not path.is_dir():
            raise FashionFlowError(
                f"{path}: is a file, not the folder of a run", hint=f"name another one with {option('out')}"
            )
        # A run that was killed in its first moment left its lock, and what `sweep` removes.
        sweep(path)
        used = path.is_dir() and any(inside.name != LOCK_FILE for inside in path.iterdir())
        is_run = (path / SETTINGS).is_file()
        if used and not is_run:
            raise FashionFlowError(
                f"{path}: holds other files, and no run", hint=f"name another folder with {option('out')}"
            )
        if used and not (resume or overwrite):
            raise FashionFlowError(
                f"{path}: already holds a run",
                hint=f"pass {option('resume')} to go on with it, or {option('overwrite', True)} to begin anew",
            )
        if resume and not is_run:
            raise FashionFlowError(f"{path}: holds no run to resume", hint=f"leave {option('resume')} out to begin one")
        if resume and (changed := differences(load_config(path / SETTINGS), config)):
            raise SettingError(
                "resume",
                f"the run in {path} was begun with other settings: {', '.join(changed)}",
                hint=f"use those of {path / SETTINGS}, or {option('overwrite', True)} to begin anew",
            )

    def open(self, config: TrainConfig, overwrite: bool) -> None:
        """Make the folder and take it.

        Raises:
            FashionFlowError: another process works in it.
        """
        self._lock.enter_context(locked(self.path, "training"))
        for left in self.checkpoints.glob(".step-*.safetensors"):  # by a killed run, perhaps on another machine
            left.unlink(missing_ok=True)
        if overwrite:
            for name in ("checkpoints", "previews", "tensorboard", "scheduler", "model", "lora"):
                shutil.rmtree(self.path / name, ignore_errors=True)
            for name in ("log.jsonl", "loss.png"):
                (self.path / name).unlink(missing_ok=True)
        write_text(self.path / SETTINGS, to_yaml(config))

    def close(self) -> None:
        self._lock.close()

    def records(self) -> list[dict[str, Any]]:
        """All lines of the log; one that a killed run left unfinished is dropped."""
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
        """Drop what was logged after `step`: those steps are done again."""
        kept = [json.dumps(record) + "\n" for record in self.records() if record["step"] <= step]
        write_text(self.log_file, "".join(kept))

    def log(self, **record: Any) -> None:
        """Append one line; `last` is the latest of those with a loss."""
        if "loss" in record:
            self.last = record
        with self.log_file.open("a", encoding="utf-8") as file:
            file.write(json.dumps({**record, "time": round(time.time(), 3)}) + "\n")

    def draw_loss(self) -> None:
        """The loss over the steps as a PNG; where matplotlib is missing, nothing."""
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
