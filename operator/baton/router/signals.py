"""What the process is told from outside: to stop, to hurry, to read its files anew. Does none of it."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Signals:
    """`stop` is set by the first SIGTERM or SIGINT, `hurry` by the second; SIGHUP calls what asked for it."""

    def __init__(self) -> None:
        """Take the signals of this process, in the running loop."""
        self.stop = asyncio.Event()
        self.hurry = asyncio.Event()
        self._on_reload: list[Callable[[], None]] = []
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.tell)
        loop.add_signal_handler(signal.SIGHUP, self.reload)

    def tell(self) -> None:
        """Do what the next signal to stop does."""
        (self.hurry if self.stop.is_set() else self.stop).set()

    def on_reload(self, callback: Callable[[], None]) -> None:
        """Call this on each SIGHUP."""
        self._on_reload.append(callback)

    def reload(self) -> None:
        """Do what SIGHUP does."""
        for callback in self._on_reload:
            callback()
