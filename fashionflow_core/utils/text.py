"""Escaping of control characters in text for terminals and logs."""

import re
import sys
import traceback

# Characters that move the cursor, change colours or reverse text: control characters (except line ends and tabs), line
# and paragraph separators, bidirectional overrides.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    r"""The text with control characters written as escape sequences: `\x1b[2J`."""
    return _UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def log_traceback(error: BaseException) -> None:
    """Print a traceback to stderr: a terminal, or the log of a child process."""
    print(printable("".join(traceback.format_exception(error))), end="", file=sys.stderr, flush=True)
