from __future__ import annotations

import datetime as dt

from baton.kube.clock import SystemClock, elapsed


def test_the_system_clock_is_aware_and_in_utc() -> None:
    assert SystemClock().now().tzinfo is dt.UTC


def test_what_has_elapsed_only_grows() -> None:
    assert 0 < elapsed() <= elapsed()
