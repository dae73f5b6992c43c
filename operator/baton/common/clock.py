"""The wall clock as a value that is handed in. Reads no clock itself: baton.kube.clock does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import datetime as dt


class Clock(Protocol):
    """Tells the wall-clock time. Durations and deadlines belong to the event loop's clock, which never jumps."""

    def now(self) -> dt.datetime:
        """Return the current time, aware, in UTC."""
        ...
