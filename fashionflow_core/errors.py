"""Errors and warnings for users: one line and a hint.

The command line turns them into that line and an exit code at one boundary (`fashionflow_cli.main`); callers of the
library catch `FashionFlowError`. Messages name settings through `option` and commands through `command`; a front end
sets their form once, as `Wording.current`, before anything runs.
"""

from typing import Any, ClassVar


class Wording:
    """Names of settings and commands in messages: Python arguments, unless a front end sets its own subclass.

    Attributes:
        current: the form used by the whole process and all its threads. It is sent to helper processes, so it must be
            picklable. A finished message no longer depends on it.
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
    """An error that the user can fix: `message` names the file or option, `hint` is what to do. Exit code 1."""

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(FashionFlowError):
    """An invalid option or argument. Exit code 2."""

    exit_code = 2


class SettingError(UsageError):
    """An invalid value of a setting, or of several together: `frames: must be above 0, not -3`.

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
    """Out of memory on the device; a smaller batch or chunk may fit. Exit code 1."""


class PartialError(FashionFlowError):
    """Some items of a batch failed, the others are done. Exit code 3."""

    exit_code = 3


def reason_of(error: BaseException) -> str:
    """Why a call failed, in one line: the system's words (`no space left on device`), else the error's message."""
    system = getattr(error, "strerror", None)  # of OSError, and of PyAV's errors
    return system.lower() if system else " ".join(str(error).split()) or type(error).__name__


def first_line(error: BaseException, most: int = 200) -> str:
    """First line of an error's message, at most `most` characters; its type without a message.

    For errors of libraries: those of torch may continue with a C++ stack trace.
    """
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:most]


class FashionFlowWarning(UserWarning):
    """A warning of one line that names the file or option; the work continues.

    Core calls `warnings.warn(line, FashionFlowWarning, stacklevel=2)`; the command line prints it as `warning: line`.
    """
