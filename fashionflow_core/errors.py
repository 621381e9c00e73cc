"""The errors a user may see. Each is one line that says what is wrong, and a hint that says what to do.

The command line turns them into that line and an exit code at one boundary (`fashionflow_cli.main`); library users
catch `FashionFlowError`.
"""


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


class OutOfMemory(FashionFlowError):
    """The device has no memory for what was asked; less at a time may fit. Exit code 1."""


class PartialError(FashionFlowError):
    """Some items of a batch failed, the others are done. Exit code 3."""

    exit_code = 3


class FashionFlowWarning(UserWarning):
    """Something worth knowing that stops nothing: one line that names the file or option.

    Core calls `warnings.warn(line, FashionFlowWarning, stacklevel=2)`; the command line prints it as `warning: line`.
    """
