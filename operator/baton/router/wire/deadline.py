"""One moving deadline on one timer of the loop. Decides nothing about what happens when it passes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


class Deadline:
    """Calls back once when the loop's clock passes `when`.

    Moving it later costs one attribute: a timer that fires early is set again. So it may be moved with every read.
    """

    __slots__ = ("_armed", "_callback", "_loop", "_timer", "when")

    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        self.when = math.inf
        self._loop = loop
        self._callback = callback
        self._timer: asyncio.TimerHandle | None = None
        self._armed = math.inf

    def set(self, when: float) -> None:
        """Move the deadline to this time of the loop's clock."""
        self.when = when
        if when < self._armed:
            self._arm()

    def clear(self) -> None:
        """Have no deadline until the next `set`."""
        self.when = math.inf

    def cancel(self) -> None:
        """Clear, and give the timer back."""
        self.when = self._armed = math.inf
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._armed = self.when
        self._timer = self._loop.call_at(self.when, self._fire)

    def _fire(self) -> None:
        self._timer = None
        self._armed = math.inf
        if self._loop.time() >= self.when:
            self.when = math.inf
            self._callback()
        elif self.when != math.inf:
            self._arm()
