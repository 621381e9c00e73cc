"""`fashionflow data`."""

import typer

from fashionflow_cli.data import download, prepare, synth

app = typer.Typer(help="Render, download and prepare training data.", no_args_is_help=True)
app.command("synth", epilog=synth.EXAMPLES, no_args_is_help=True)(synth.synth)
app.command("download", epilog=download.EXAMPLES, no_args_is_help=True)(download.download)
app.command("prepare", epilog=prepare.EXAMPLES, no_args_is_help=True)(prepare.prepare)
