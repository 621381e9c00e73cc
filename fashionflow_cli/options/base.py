"""Option types, panels and parsers."""

from typing import Any

import typer

VIDEO, SAMPLING, MACHINE = "Photo and video", "Sampling", "Model and machine"
MOTION = "Motion (models that move the photo, such as mini)"
CATALOGUE = "Several photos (with -o FOLDER)"
REPORTING, ADVANCED = "Settings and reporting", "Advanced"
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
