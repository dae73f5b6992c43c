from __future__ import annotations

import asyncio
from contextlib import suppress

from prometheus_client import REGISTRY

import virtual_time
from baton.telemetry.loop_lag import measure_loop_lag


def test_a_loop_that_is_held_up_shows_by_how_much() -> None:
    async def story() -> float | None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, virtual_time.VirtualTimeLoop)
        measuring = asyncio.ensure_future(measure_loop_lag(interval=10.0))
        await asyncio.sleep(5)
        loop.skip(8.0)
        await asyncio.sleep(1)
        measuring.cancel()
        with suppress(asyncio.CancelledError):
            await measuring
        return REGISTRY.get_sample_value("event_loop_lag_seconds")

    assert virtual_time.run(story()) == 3.0
