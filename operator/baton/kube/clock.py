"""The machine's clocks. Everything else takes the time as an argument (baton.common.clock)."""

from __future__ import annotations

import datetime as dt
import time
from typing import Final

_NEVER_SET: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def elapsed() -> float:
    """Return the seconds since some moment, also those that the machine slept; no clock setting changes them.

    An event loop's time does not count sleep, and uvloop's stands still while a callback runs.
    """
    return time.clock_gettime(_NEVER_SET)


class SystemClock:
    """Reads the machine's clock."""

    def now(self) -> dt.datetime:
        """Return the current time, aware, in UTC."""
        return dt.datetime.now(dt.UTC)  # noqa: TID251 # the one place that may read it
