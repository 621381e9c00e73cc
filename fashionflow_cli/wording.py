"""Names of settings and commands in messages, as flags."""

from typing import Any

from fashionflow_core.errors import Wording

_FLAGS = {"guidance_scale": "--guidance"}  # of settings whose flag is not their name
_SHORT = {"out": "-o"}  # within sentences and commands


class CommandLine(Wording):
    """`--decode-chunk: ...`, `--dtype bf16`, `fashionflow export --onnx`."""

    def setting(self, name: str) -> str:
        """The flag at the start of an error."""
        return _FLAGS.get(name) or f"--{name.replace('_', '-')}"

    def option(self, name: str, value: Any = None) -> str:
        """The flag within a sentence, with its value unless it takes none."""
        flag = _SHORT.get(name) or self.setting(name)
        return flag if value is None or value is True else f"{flag} {value}"

    def command(self, name: str, *arguments: str, **options: Any) -> str:
        """The line to type."""
        return " ".join(("fashionflow", name, *arguments, *(self.option(*item) for item in options.items())))
