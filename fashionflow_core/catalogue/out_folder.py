"""The output folder: held by one run at a time, with a hidden part for what is under way."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fashionflow_core.data.folder_lock import locked
from fashionflow_core.errors import FashionFlowError

HIDDEN = ".fashionflow"  # lock, logs, files under way


@contextmanager
def opened(out: Path) -> Iterator[Path]:
    """Make the output folder and be its only run; yields an empty folder for files under way.

    Raises:
        FashionFlowError: another run has it, or it cannot be made or written to.
    """
    if os.path.lexists(out) and not out.is_dir():
        raise FashionFlowError(f"{out}: is no folder", hint="choose another one with -o")
    hidden = out / HIDDEN
    with locked(hidden, "run of fashionflow", shown=out):  # of `generate` or `evaluate`, which fill it in one way
        scratch = hidden / f"scratch-{os.getpid()}"
        try:
            # What runs that were killed have left; all that was whole has been moved out of there.
            for old in hidden.glob("scratch-*"):
                shutil.rmtree(old, ignore_errors=True)
            scratch.mkdir()
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise FashionFlowError(f"{out}: cannot be written ({reason})", hint="check the free disk space") from None
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
