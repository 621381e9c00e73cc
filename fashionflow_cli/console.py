"""Console output: results on stdout, everything else on stderr."""

import json
import os
import re
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple, Self

import typer

from fashionflow_core.config import PHOTO_SIZE
from fashionflow_core.errors import FashionFlowError, FashionFlowWarning
from fashionflow_core.utils.text import printable


class Size(NamedTuple):
    """Height and width, in that order everywhere."""

    height: int
    width: int


def parse_size(text: str | Size) -> Size:
    """`320x256` → Size(height=320, width=256), for typer's `parser=`, which is also given the default."""
    if isinstance(text, Size):
        return text
    match = re.fullmatch(r"([1-9][0-9]{0,5})[xX×]([1-9][0-9]{0,5})", text)
    if not match:
        raise typer.BadParameter(f"{text!r} is not HEIGHTxWIDTH, such as 320x256")
    return Size(int(match[1]), int(match[2]))


def parse_frame(text: str | Size) -> Size | str:
    """As `parse_size`; or `photo`, the photo's own size."""
    return text if text == PHOTO_SIZE else parse_size(text)


class Color(NamedTuple):
    """sRGB, 0 to 255."""

    red: int
    green: int
    blue: int


def parse_color(text: str | Color) -> Color:
    """`white`, `#ffffff` or `rgb(255,255,255)` → Color(255, 255, 255)."""
    if isinstance(text, Color):
        return text
    from PIL import ImageColor

    try:
        channels = ImageColor.getrgb(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a colour: use a name such as white, or #rrggbb") from None
    if len(channels) != 3:
        raise typer.BadParameter(f"{text!r} is transparent: use a name such as white, or #rrggbb")
    return Color(*channels)


class Interval(NamedTuple):
    """Two numbers, lower first."""

    low: float
    high: float


def parse_interval(text: str | Interval) -> Interval:
    """`0.2,0.8` → Interval(0.2, 0.8)."""
    if isinstance(text, Interval):
        return text
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not LOW,HIGH, such as 0.2,0.8") from None
    return Interval(low, high)


def parse_batch(text: str | int) -> int:
    """`auto` → 0, `4` → 4."""
    if str(text) in ("auto", "0"):
        return 0
    if not str(text).isdecimal() or not 1 <= int(text) <= 1024:
        raise typer.BadParameter(f"{text!r} is neither auto nor a number from 1 to 1024")
    return int(text)


def parse_retry(text: str) -> str:
    """Items to retry: failed, rejected, or both separated by a comma."""
    if not set(text.split(",")) <= {"failed", "rejected"}:
        raise typer.BadParameter(f"{text!r} is not one of failed, rejected, or failed,rejected")
    return text


def result(text: str) -> None:
    """One line on stdout, flushed at once: the reader of a pipe may be waiting for it."""
    print(_escaped(text), flush=True)


def result_text(text: str) -> None:
    """Lines on stdout, such as a table."""
    print(printable(text), flush=True)


def result_json(value: Any) -> None:
    """One JSON value on one line of stdout."""
    result(json.dumps(value))  # escaped to ASCII: any encoding and any file name can be printed


def note(text: str, quiet: bool = False) -> None:
    """One line on stderr, for people."""
    if not quiet:
        print(_escaped(text), file=sys.stderr, flush=True)


class Warnings:
    """Prints FashionFlow's warnings as one line each and collects them; warnings of libraries are dropped.

    Each run of the command line has one, `context.ensure_object(Warnings)`, entered as a context manager.
    """

    def __init__(self) -> None:
        self.quiet = False
        self.lines: list[str] = []
        self._printed: set[str] = set()
        self._caught = warnings.catch_warnings()

    def __enter__(self) -> Self:
        self._caught.__enter__()
        warnings.simplefilter("always", FashionFlowWarning)
        warnings.showwarning = self._show
        return self

    def __exit__(self, *error: Any) -> None:
        self._caught.__exit__(*error)

    def take(self) -> list[str]:
        """Warnings since the last call."""
        lines, self.lines = list(dict.fromkeys(self.lines)), []
        return lines

    def _show(self, message: Warning | str, category: type[Warning], *_place: Any) -> None:
        if not issubclass(category, FashionFlowWarning):
            return
        line = one_line(str(message))
        self.lines.append(line)
        if self.quiet or line in self._printed:
            return
        self._printed.add(line)
        if "tqdm" in sys.modules:  # a progress bar may be active: clear its line and draw it again below
            from tqdm import tqdm

            tqdm.write(f"warning: {line}", file=sys.stderr)
        else:
            note(f"warning: {line}")


def complain(message: str, hint: str | None = None) -> None:
    """An error as one line, and the hint as another."""
    with suppress(OSError):  # stderr is closed; the exit code still reports the error
        note(f"error: {one_line(message)}")
        if hint:
            note(f"hint: {one_line(hint)}")


def _escaped(text: str) -> str:
    """A line with escape sequences in place of line ends and control characters."""
    return printable(text).replace("\n", r"\n")


def one_line(text: str) -> str:
    """The text with each run of whitespace as one space, printable on a terminal."""
    return printable(" ".join(text.split()))


@contextmanager
def progress(label: str, total: int, unit: str, quiet: bool = False) -> Iterator[Callable[[int], None]]:
    """A progress bar on stderr; the yielded function takes the number done. Log files get a line every 10 seconds."""
    from tqdm import tqdm

    screen = shutil.get_terminal_size()  # 80 by 24 without a terminal, or with one that reports 0 by 0
    interval = 0.1 if sys.stderr.isatty() else 10.0
    with tqdm(
        total=total,
        desc=one_line(label),
        unit=f" {unit}",
        file=sys.stderr,
        disable=quiet,
        mininterval=interval,
        ncols=screen.columns,
        nrows=screen.lines,
    ) as bar:

        def show(done: int) -> None:
            bar.update(done - bar.n)

        yield show


@contextmanager
def live_line(quiet: bool = False) -> Iterator[Callable[[Callable[[int], str]], None]]:
    """One line on stderr that is rewritten; the yielded function takes what writes it for a number of columns (0: any).

    In log files it is written every ten seconds.
    """
    from tqdm import tqdm

    on_terminal = sys.stderr.isatty()
    width = shutil.get_terminal_size().columns - 1 if on_terminal else 0
    interval = 0.1 if on_terminal else 10.0
    with tqdm(bar_format="{desc}", file=sys.stderr, disable=quiet, mininterval=interval, miniters=0) as line:

        def show(text: Callable[[int], str]) -> None:
            if not quiet:
                line.set_description_str(one_line(text(width)), refresh=False)
                line.update(1)

        yield show


def quiet_libraries() -> None:
    """Keep progress bars and advice of libraries off stderr.

    Call before they are imported. Environment variables set by the user are kept.

    Raises:
        FashionFlowError: Python runs without docstrings, from which transformers builds its classes; an environment
            variable of huggingface_hub has an invalid value.
    """
    from fashionflow_core.utils.network import check_hub_settings

    check_hub_settings()
    if sys.flags.optimize > 1:
        raise FashionFlowError(
            "python -OO: transformers cannot be imported without docstrings",
            hint="run it without -OO, and unset PYTHONOPTIMIZE; -O works",
        )
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
