"""Option types, panels and parsers."""

import copy
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

VIDEO, SAMPLING, MACHINE = "Photo and video", "Sampling", "Model and machine"
MOTION = "Motion (models that move the photo, such as mini)"
CATALOGUE = "Several photos (with -o FOLDER)"
REPORTING, ADVANCED = "Settings and reporting", "Advanced"
SHOPS, OTHER_MODELS, RARE = "Files for shops and platforms", "Other video models", "Rarely needed"
# Panels that --help leaves out and --help-all shows.
LONG_HELP = frozenset({SHOPS, OTHER_MODELS, RARE})
# Options with an environment variable, FASHIONFLOW_<OPTION>; all others can be set in the file of --config.
IN_ENVIRONMENT = frozenset({"model", "device", "dtype", "backend", "config", "quiet", "overwrite", "seed", "steps"})


def option(panel: str, name: str, *short: str, text: str, default: str = "", flag: bool = False, **more: Any) -> Any:
    """An option of a help panel, with its environment variable where it has one.

    Args:
        panel: its title.
        name: without dashes; short names follow.
        text: one line of help where possible.
        default: what the help calls the default.
        flag: whether it takes no value.
        more: arguments of `typer.Option`.
    """
    variable = "FASHIONFLOW_" + name.upper().replace("-", "_") if name in IN_ENVIRONMENT else None
    shown = f" [dim]\\[default: {default}][/dim]" if default else ""
    return typer.Option(
        f"--{name}",
        *short,
        help=text + shown,
        envvar=variable,
        rich_help_panel=panel,
        **{"show_default": False, **({"metavar": ""} if flag else {}), **more},
    )


class LongCommand(TyperCommand):
    """A command whose --help leaves out the panels of `LONG_HELP`; --help-all shows every option."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        shown = copy.copy(self)
        if not ctx.meta.get("help_all"):
            shown.params = [p for p in self.params if getattr(p, "rich_help_panel", None) not in LONG_HELP]
        TyperCommand.format_help(shown, ctx, formatter)


def _print_all_help(ctx: typer.Context, wanted: bool) -> None:
    if wanted:
        ctx.meta["help_all"] = True
        typer.echo(ctx.get_help())
        raise typer.Exit


HelpAll = Annotated[
    bool,
    option(
        REPORTING, "help-all", text="Show every option and exit.", flag=True, callback=_print_all_help, is_eager=True
    ),
]


def one_of(choices: tuple[str, ...], metavar: str = "") -> dict[str, Any]:
    """Arguments for an option that takes one of `choices`, which the core keeps: check, completion, help."""

    def check(value: str | None) -> str | None:
        if value is not None and value not in choices:
            raise typer.BadParameter(f"{value!r} is not one of {', '.join(choices)}")
        return value

    return {
        "callback": check,
        "autocompletion": lambda incomplete: [choice for choice in choices if choice.startswith(incomplete)],
        "metavar": metavar or "|".join(choices),
    }


def between(least: float, most: float = float("inf")) -> dict[str, Any]:
    """Arguments for an option that takes a number of a range, which the help would otherwise spell out."""

    def check(value: float | None) -> float | None:
        if value is not None and not least <= value <= most:
            limit = f"from {least:g} to {most:g}" if most < 1e9 else f"at least {least:g}"
            raise typer.BadParameter(f"must be {limit}, not {value}")
        return value

    return {"callback": check, "metavar": "N"}
