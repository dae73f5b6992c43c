"""Tell people what long work does, with the time it has taken.

It formats and writes lines. What is said, and when, is the caller's business.
"""

from __future__ import annotations

import shutil
import sys
import time
from typing import Protocol, TextIO

# A log that nobody watches gets a sign of life this often, in seconds.
PASSING_INTERVAL = 15.0


class Report(Protocol):
    """Takes one line of progress.

    A passing line only says that work goes on: a terminal shows it until the next line replaces it, a log gets
    one now and then.
    """

    def __call__(self, line: str, *, passing: bool = False) -> None:
        """Show one line, without a line break at its end."""


def keep_silent(line: str, *, passing: bool = False) -> None:
    """Report nothing: the default of everything that takes a `Report`."""


class ConsoleReport:
    """Writes progress to a stream, by default standard error, and rewrites passing lines in place on a terminal."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._is_terminal = self._stream.isatty()
        self._has_passing_line = False
        self._last_passing = time.monotonic()

    def __call__(self, line: str, *, passing: bool = False) -> None:
        """Write one line; see `Report`."""
        if self._is_terminal:
            self._rewrite(line, passing=passing)
            return
        now = time.monotonic()
        if passing and now - self._last_passing < PASSING_INTERVAL:
            return
        self._last_passing = now
        self._stream.write(f"{line}\n")
        self._stream.flush()

    def _rewrite(self, line: str, *, passing: bool) -> None:
        start = "\r\x1b[2K" if self._has_passing_line else ""
        # A line that wraps could not be rewritten.
        end = line[: shutil.get_terminal_size().columns - 1] if passing else f"{line}\n"
        self._stream.write(f"{start}{end}")
        self._stream.flush()
        self._has_passing_line = passing


class Stopwatch:
    """Measures from its construction on."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds since the construction."""
        return time.monotonic() - self._start

    def __str__(self) -> str:
        return format_seconds(self.seconds)


def format_seconds(seconds: float) -> str:
    """Write a duration as people say it: "0.4 s", "12 s", "3 min 5 s"."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
