"""Sources of settings: flag, environment, `--config` file, model, default.

Typer resolves the first three and the last: the file becomes its `default_map`. Options that are None get the model's
values.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import typer

from fashionflow_core.errors import UsageError
from fashionflow_core.utils.nearest import did_you_mean
from fashionflow_core.utils.settings_files import read_mapping

# Not settings of a run, so not accepted in a file.
_FLAGS_ONLY = frozenset({"config", "help", "help_all"})


def read_config(ctx: typer.Context, path: Path | None) -> Path | None:
    """Callback of an eager `--config`: use a YAML file as the command's defaults, after checking each of its values.

    Raises:
        FashionFlowError: the file cannot be read or is not YAML.
        UsageError: the file is not a mapping, or contains a name or value that the command does not accept.
    """
    if path is None or ctx.resilient_parsing:
        return path
    values = read_mapping(path)
    options = {option.name: option for option in ctx.command.params if option.param_type_name == "option"}
    names = {_long_name(option): option.name for option in options.values()}
    names = {name: internal for name, internal in names.items() if internal not in _FLAGS_ONLY}
    defaults: dict[str, Any] = {}
    for key, value in values.items():
        name = str(key).replace("_", "-")
        if name not in names and name in _of_other_commands(ctx):
            continue  # one file serves several commands
        if name not in names:
            raise UsageError(
                f"{path}: unknown option {key!s}", hint=f"{did_you_mean(name, names)}see {ctx.command_path} --help"
            )
        internal = names[name]
        defaults[internal] = _checked(ctx, options[internal], path, key, value)
    ctx.default_map = {**(ctx.default_map or {}), **defaults}
    return path


def _of_other_commands(ctx: typer.Context) -> set[str]:
    """Settings of every command that accepts such a file."""
    commands: dict[str, Any] = getattr(ctx.find_root().command, "commands", {})
    taking = [c for c in commands.values() if any(option.name == "config" for option in getattr(c, "params", []))]
    options = [option for c in taking for option in c.params if option.param_type_name == "option"]
    return {_long_name(option) for option in options if option.name not in _FLAGS_ONLY}


def _checked(ctx: typer.Context, option: Any, path: Path, key: Any, value: Any) -> Any:
    """The value as the option's type; errors of the option name the file."""
    if isinstance(value, list):  # [0.2, 0.8] for an option that takes 0.2,0.8
        value = ",".join(map(str, value))
    # yes and no are booleans in YAML, and 5 is a number: each only where the option is of that kind.
    if value is None or isinstance(value, dict) or isinstance(value, bool) is not option.is_flag:
        kind = "true or false" if option.is_flag else "a value"
        raise UsageError(f"{path}: {key!s} needs {kind}, not {value!r}", hint=f"see {ctx.command_path} --help")
    value = value if option.is_flag else str(value)
    try:
        option.process_value(ctx, value)
    except typer.BadParameter as error:
        reason = error.message if str(value) in error.message else f"{value!r}: {error.message}"
        raise UsageError(f"{path}: {key!s}: {reason}", hint=f"see {ctx.command_path} --help") from None
    return value


def _long_name(option: Any) -> str:
    return next((name.removeprefix("--") for name in option.opts if name.startswith("--")), option.name)


def refuse_flags(ctx: typer.Context, names: Iterable[str], reason: str, hint: str) -> None:
    """Refuse flags of the command line that this run has no use for; defaults of a file may stay.

    Args:
        names: long names of options.
        reason, hint: of the error; {name} in the hint is the option's.

    Raises:
        UsageError: one of them was given.
    """
    given = sources(ctx)
    for name in names:
        if given[name][1] == f"flag --{name}":
            raise UsageError(f"--{name}: {reason}", hint=hint.format(name=name))


def refuse_without(ctx: typer.Context, partners: Mapping[str, tuple[str, ...]]) -> None:
    """Refuse flags of the command line that have no effect without one of their partners.

    Args:
        partners: long names of options, and of those that they need one of.

    Raises:
        UsageError: such a flag was given, and none of its partners is set.
    """
    given = sources(ctx)
    for name, needed in partners.items():
        if given[name][1] == f"flag --{name}" and all(given[other][0] is None for other in needed):
            either = " or ".join(f"--{other}" for other in needed)
            raise UsageError(f"--{name}: has no effect without {either}", hint=f"add {either}, or omit --{name}")


def sources(ctx: typer.Context) -> dict[str, tuple[Any, str]]:
    """Every setting of a command by its long name: its value and a description of its source.

    A value of None with the source "default" may be filled in by the model.
    """
    config = ctx.params.get("config")
    found: dict[str, tuple[Any, str]] = {}
    for option in ctx.command.params:
        if option.param_type_name != "option" or option.name is None or option.name in _FLAGS_ONLY:
            continue
        source = ctx.get_parameter_source(option.name)
        name = _long_name(option)
        words = {
            "COMMANDLINE": f"flag --{name}",
            "ENVIRONMENT": f"environment FASHIONFLOW_{name.upper().replace('-', '_')}",
            "DEFAULT_MAP": f"file {config}",
        }
        found[name] = (ctx.params.get(option.name), words.get(source.name if source else "", "default"))
    return found
