"""Errors and warnings for users: one line and a hint.

The command line turns them into that line and an exit code at one boundary (`fashionflow_cli.main`); library users
catch `FashionFlowError`. Messages name settings by `option` and commands by `command`, in the words of whoever reads
them: a front end sets those once, as `Wording.current`, before anything runs.
"""

from typing import Any, ClassVar


class Wording:
    """How messages name settings and commands: as arguments of Python, unless a front end sets its own subclass.

    Attributes:
        current: of the whole process with all its threads, as a language would be. Helper processes are sent it, so it
            must be picklable. A message is complete once it is made, and can be stored, sent and compared as it is.
    """

    current: ClassVar["Wording"]

    def setting(self, name: str) -> str:
        """The setting at the start of an error, as in `frames: must be above 0`."""
        return name

    def option(self, name: str, value: Any = None) -> str:
        """The setting within a sentence, with the value that it should have if there is one."""
        return name if value is None else f"{name}={value}"

    def command(self, name: str, *arguments: str, **options: Any) -> str:
        """A command to type, with its arguments and options; an option without a value is True."""
        text = " ".join(("fashionflow", name, *arguments))
        named = ", ".join(self.option(key, value) for key, value in options.items())
        return f"{text} ({named})" if named else text


Wording.current = Wording()


def option(name: str, value: Any = None) -> str:
    """A setting within a message or hint: of `option("dtype", "bf16")`, Python makes `dtype=bf16`."""
    return Wording.current.option(name, value)


def command(name: str, *arguments: str, **options: Any) -> str:
    """A command within a message or hint: `command("export", onnx=True)`."""
    return Wording.current.command(name, *arguments, **options)


class FashionFlowError(Exception):
    """Something the user can mend: `message` names the file or option, `hint` says what to do. Exit code 1."""

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(FashionFlowError):
    """An option or argument that cannot be meant. Exit code 2."""

    exit_code = 2


class SettingError(UsageError):
    """A setting, or several together, with a value that cannot be meant: `frames: must be above 0, not -3`.

    Args:
        settings: the name of the argument or field, or several joined by ", ".
        problem: what is wrong.
    """

    def __init__(self, settings: str, problem: str, hint: str | None = None) -> None:
        names = ", ".join(Wording.current.setting(name) for name in settings.split(", "))
        super().__init__(f"{names}: {problem}", hint)

    def __reduce__(self) -> tuple[Any, ...]:
        # Pickle would call this class with the whole message alone. The settings were named by the sender's wording.
        return UsageError, (self.message, self.hint)


class OutOfMemory(FashionFlowError):
    """The device has no memory for what was asked; less at a time may fit. Exit code 1."""


class PartialError(FashionFlowError):
    """Some items of a batch failed, the others are done. Exit code 3."""

    exit_code = 3


class FashionFlowWarning(UserWarning):
    """Something worth knowing that stops nothing: one line that names the file or option.

    Core calls `warnings.warn(line, FashionFlowWarning, stacklevel=2)`; the command line prints it as `warning: line`.
    """
