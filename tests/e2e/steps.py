"""Prints what a long test does, and how long each step took."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from baton.dev.progress import Stopwatch

if TYPE_CHECKING:
    from collections.abc import Iterator


class Steps:
    """Lines on standard output, each with the time since the suite began."""

    def __init__(self) -> None:
        self._watch = Stopwatch()

    def say(self, text: str) -> None:
        for line in text.splitlines():
            print(f"[{self._watch.seconds:6.1f} s] {line}", flush=True)

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Print what was done once it is, with its time."""
        watch = Stopwatch()
        yield
        self.say(f"{what}: {watch}")
