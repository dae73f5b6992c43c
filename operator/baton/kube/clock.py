"""The machine's wall clock. Everything else takes the time as an argument (baton.common.clock)."""

from __future__ import annotations

import datetime as dt


class SystemClock:
    """Reads the machine's clock."""

    def now(self) -> dt.datetime:
        """Return the current time, aware, in UTC."""
        return dt.datetime.now(dt.UTC)  # noqa: TID251 # the one place that may read it
