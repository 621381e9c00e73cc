"""`fashionflow config show`: every setting, its value and its source."""

from pathlib import Path
from typing import Annotated, Any

import typer

from fashionflow_cli.config_file import sources
from fashionflow_cli.console import result, result_json

app = typer.Typer(help="Settings and their sources.", no_args_is_help=True)

EXAMPLES = """[bold]Examples[/bold]

fashionflow config show

fashionflow config show --config shop.yaml --steps 30 --json
"""


@app.command("show", context_settings={"ignore_unknown_options": True, "allow_extra_args": True}, epilog=EXAMPLES)
def show(
    ctx: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout, for programs.")] = False,
) -> None:
    """Show what [bold]fashionflow generate[/bold] would use with the same flags, environment and file.

    Takes every option of generate. Order: flag, FASHIONFLOW_* variable, --config file, model, default.
    """
    settings = effective(ctx, ctx.args)
    if as_json:
        result_json({name: {"value": _plain(value), "source": source} for name, (value, source) in settings.items()})
        return
    rows = [(name, _text(value), source) for name, (value, source) in settings.items()]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for name, value, source in rows:
        result(f"{name:{widths[0]}}  {value:{widths[1]}}  {source}")


def effective(ctx: typer.Context, arguments: list[str]) -> dict[str, tuple[Any, str]]:
    """Every setting of `generate` under `arguments` → (value, source), with the model's values where none is given."""
    from fashionflow_core.generators.folder import config_of
    from fashionflow_core.store import registry

    command: Any = ctx.find_root().command
    generate = command.commands["generate"]
    # The photo is not a setting, but the command requires one.
    parsed = generate.make_context("generate", [*arguments, "--", "PHOTO"], parent=ctx.find_root())
    settings = sources(parsed)
    model = str(settings["model"][0])
    config = config_of(registry.find(model))
    of_model = {
        **{name: getattr(config, name) for name in ("fit", "frames", "fps", "steps", "scheduler")},
        "size": f"{config.height}x{config.width}",
        "conditioning": config.conditioning[0],
    }
    if config.latents == "motion":
        of_model |= {"motion": config.motion, "size": "the photo's"}
    if config.latents == "frames":
        of_model |= {"scheduler": "own", "size": "of the photo's shape"}
    for name, value in of_model.items():
        if settings[name][0] is None:
            settings[name] = (value, f"model {config.name}")
    return settings


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
