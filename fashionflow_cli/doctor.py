"""`fashionflow doctor`."""

from collections.abc import Iterator
from contextlib import closing
from typing import Annotated, Any

import typer

from fashionflow_cli.console import one_line, result, result_json

# Environment variables that are not read by an option.
_VARIABLES = ("FASHIONFLOW_HOME", "FASHIONFLOW_DEBUG", "FASHIONFLOW_API_KEY")


def doctor(
    ctx: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout, for programs.")] = False,
) -> None:
    """Test what this machine can run: torch and its dtypes, encoders, engines, models, disk, hub.

    Exit code 1 if the default job (the bundled model on the CPU, to MP4) cannot run; other problems do not
    change it.
    """
    from fashionflow_core import doctor

    checks = []
    # Closed explicitly: checks still running must end even if the reader of the report is gone.
    with closing(doctor.examine([*_VARIABLES, *_option_variables(ctx.find_root().command)])) as examination:
        for check in examination:
            checks.append(check)
            if not as_json:
                result(f"{check.level:8} {check.name:12} {one_line(check.summary)}")
                if check.fix:
                    result(f"{'':8} {'':12} -> {one_line(check.fix)}")
    found = doctor.report(checks)
    if as_json:
        result_json(found)
    else:
        counts = found["counts"]
        ability = "can run" if found["can_run"] else "cannot run"
        result(f"the default job {ability}; problems: {counts['problem']}, notes: {counts['note']}")
    if not found["can_run"]:
        raise typer.Exit(1)


def _option_variables(command: Any) -> Iterator[str]:
    """Environment variables of all options of a command and its subcommands."""
    for option in command.params:
        names = option.envvar or ()
        yield from (names,) if isinstance(names, str) else names
    for below in getattr(command, "commands", {}).values():
        yield from _option_variables(below)
