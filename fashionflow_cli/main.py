"""The Typer app and the one error boundary."""

import os
import signal
import sys
import time
from io import TextIOWrapper
from types import FrameType
from typing import Annotated, NoReturn

import typer

from fashionflow_cli import (
    bench,
    check,
    compare,
    config,
    data,
    doctor,
    evaluate,
    export,
    gallery,
    generate,
    inspect,
    interpolate,
    lock,
    models,
    serve,
    train,
)
from fashionflow_cli.console import Warnings, complain
from fashionflow_cli.options import LongCommand
from fashionflow_cli.wording import CommandLine
from fashionflow_core.errors import FashionFlowError, UsageError, Wording, first_line
from fashionflow_core.utils.paths import NoHome
from fashionflow_core.utils.signals import STOPS
from fashionflow_core.utils.text import log_traceback

DEBUG = "FASHIONFLOW_DEBUG"

app = typer.Typer(
    name="fashionflow",
    help="Turn still garment photos into short showcase videos.",
    epilog="Start here: fashionflow generate dress.jpg -o dress.mp4",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("generate", cls=LongCommand, rich_help_panel="Make videos", epilog=generate.EXAMPLES, no_args_is_help=True)(
    generate.generate
)
app.command("interpolate", rich_help_panel="Make videos", epilog=interpolate.EXAMPLES, no_args_is_help=True)(
    interpolate.interpolate
)
app.command("lock", rich_help_panel="Make videos", epilog=lock.EXAMPLES, no_args_is_help=True)(lock.lock)
app.command("gallery", rich_help_panel="Make videos")(gallery.gallery)
app.command("check", rich_help_panel="Make videos", epilog=check.EXAMPLES, no_args_is_help=True)(check.check)
app.command("inspect", rich_help_panel="Make videos", no_args_is_help=True)(inspect.inspect)
app.add_typer(models.app, name="models", rich_help_panel="Make videos")
app.add_typer(config.app, name="config", rich_help_panel="Make videos")
app.command("doctor", rich_help_panel="Make videos")(doctor.doctor)
app.add_typer(data.app, name="data", rich_help_panel="Train and measure")
app.command("train", rich_help_panel="Train and measure", epilog=train.EXAMPLES, no_args_is_help=True)(train.train)
for _command, _examples in (
    (evaluate.evaluate, evaluate.EXAMPLES),
    (evaluate.ablation, evaluate.ABLATION_EXAMPLES),
    (compare.compare, compare.COMPARE_EXAMPLES),
    (compare.grid, compare.GRID_EXAMPLES),
):
    app.command(_command.__name__, rich_help_panel="Train and measure", epilog=_examples, no_args_is_help=True)(
        _command
    )
app.command("export", rich_help_panel="Deploy", epilog=export.EXAMPLES, no_args_is_help=True)(export.export)
app.command("serve", rich_help_panel="Deploy", epilog=serve.EXAMPLES)(serve.serve)
app.command("verify", rich_help_panel="Deploy", no_args_is_help=True)(export.verify)
app.command("bench", rich_help_panel="Train and measure", epilog=bench.EXAMPLES)(bench.bench)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"fashionflow {version('fashionflow')}")
        raise typer.Exit


@app.callback()
def options(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Options before the command; their callbacks implement them."""
    ctx.with_resource(ctx.ensure_object(Warnings))


class _Stopped(BaseException):
    """SIGTERM or SIGHUP, raised in the running code so that every `finally` runs; only `main` catches it."""


class _Signals:
    """Signals that stop a run, raised as exceptions and recorded: libraries may convert the exception."""

    # Seconds during which further signals are ignored: `make` and terminals send two, and clean-up must finish.
    GRACE = 1.0

    def __init__(self) -> None:
        self.first: int | None = None
        self.last = float("-inf")
        # Shells make background jobs ignore SIGINT, and nohup ignores SIGHUP: keep that.
        self.handled = [s for s in STOPS if signal.getsignal(s) is not signal.SIG_IGN]
        for signum in self.handled:
            signal.signal(signum, self._raise)

    def _raise(self, signum: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if now - self.last < self.GRACE:
            return
        self.first, self.last = self.first or signum, now
        raise KeyboardInterrupt if signum == signal.SIGINT else _Stopped

    def restore(self) -> None:
        """Restore the default handlers: a signal ends the process at once."""
        for signum in self.handled:
            signal.signal(signum, signal.SIG_DFL)


def main() -> NoReturn:
    """Run the command line and exit: 0 done, 1 failed, 2 wrong usage, 3 partly done, 128 + N signal N."""
    _prepare_streams()
    Wording.current = CommandLine()
    signals = _Signals()
    try:
        code = _run()
        sys.stdout.flush()
    except BaseException as error:
        if signals.first is not None:
            _trace(error)
            code = 128 + signals.first
        elif isinstance(error, SystemExit):
            code = error.code if isinstance(error.code, int) else int(error.code is not None)
        else:
            code = _explain(error)
    signals.restore()
    _drop_unwritable_output()
    sys.exit(code)


def _prepare_streams() -> None:
    """Make streams accept all output: closed ones (`>&-`) discard it, file names may contain any bytes."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            # Takes the lowest free descriptor; otherwise the next opened file would become this stream.
            os.open(os.devnull, os.O_RDWR)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115
    if isinstance(sys.stdout, TextIOWrapper):
        utf8 = sys.stdout.encoding.lower() in ("utf-8", "utf8")
        # Undecodable bytes of file names pass through pipes unchanged, but are escaped on terminals.
        sys.stdout.reconfigure(errors="surrogateescape" if utf8 and not sys.stdout.isatty() else "backslashreplace")


def _run() -> int:
    # Without "standalone mode" Typer raises usage errors instead of printing a box of several lines.
    code = app(prog_name="fashionflow", standalone_mode=False)
    return code if isinstance(code, int) else 0


def _explain(error: BaseException) -> int:
    """Print one line (and a hint) for `error`; returns the exit code."""
    if isinstance(error, BrokenPipeError):
        return 1
    _trace(error)
    if isinstance(error, FashionFlowError):
        usage = f"see {_command_line()} --help" if isinstance(error, UsageError) else None
        complain(error.message, error.hint or usage)
        return error.exit_code
    if isinstance(error, typer.TyperException):
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "fashionflow"
        message = error.format_message()
        if message:  # empty after a bare command, which prints its help
            complain(message, f"see {command} --help")
        return 2
    if isinstance(error, typer.Abort | KeyboardInterrupt):
        return 130
    if isinstance(error, RuntimeError) and str(error) == "Could not determine home directory.":
        error = NoHome()
        complain(error.message, error.hint)
        return error.exit_code
    if isinstance(error, OSError) and error.strerror:
        name = error.filename
        where = os.fsdecode(name) if isinstance(name, str | bytes | os.PathLike) else "input or output"
        complain(f"{where}: {error.strerror.lower()}", f"set {DEBUG}=1 for the traceback")
        return 1
    complain(f"internal: {type(error).__name__}: {first_line(error, 300)}", f"set {DEBUG}=1 for the traceback")
    return 1


def _command_line() -> str:
    """The command that was called, without its arguments: `fashionflow data download`."""
    words, here = ["fashionflow"], typer.main.get_command(app)
    for word in sys.argv[1:]:
        here = getattr(here, "commands", {}).get(word)
        if here is None:
            break
        words.append(word)
    return " ".join(words)


def _trace(error: BaseException) -> None:
    if os.environ.get(DEBUG, "").lower() not in ("", "0", "false", "no", "off"):
        log_traceback(error)


def _drop_unwritable_output() -> None:
    """Avoid errors of the interpreter at exit when the reader of a pipe is gone."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


if __name__ == "__main__":
    main()
