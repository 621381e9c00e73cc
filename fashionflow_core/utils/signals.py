"""Signals that stop a run."""

import signal

# Ctrl-C, `kill`, and the end of the terminal or connection (not on Windows).
STOPS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
