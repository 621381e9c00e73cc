"""Text out of files, made fit for terminals and logs."""

import re
import sys
import traceback

# What moves the cursor, changes colours or turns text around: control characters (but line ends and tabs), line and
# paragraph separators, bidirectional overrides.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    r"""The text with escape sequences in place of control characters: `\x1b[2J`, never the character itself."""
    return _UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def log_traceback(error: BaseException) -> None:
    """Print a traceback to stderr: a terminal, or the log of a child process."""
    print(printable("".join(traceback.format_exception(error))), end="", file=sys.stderr, flush=True)
