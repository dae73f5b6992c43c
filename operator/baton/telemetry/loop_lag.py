"""Measures how late the event loop runs its callbacks. Judges nothing: baton.telemetry.metrics shows the number."""

from __future__ import annotations

import asyncio

from baton.telemetry.metrics import EVENT_LOOP_LAG


async def measure_loop_lag(*, interval: float = 1.0) -> None:
    """Measure for ever, once each `interval` seconds, into `event_loop_lag_seconds`."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + interval
        await asyncio.sleep(interval)
        EVENT_LOOP_LAG.set(max(0.0, loop.time() - due))
