"""A real decode server killed in the middle of streams. Runs last: the server does not come back."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from real_engine.test_hand_over import GREEDY, chat, read_stream, wait_until_free

if TYPE_CHECKING:
    import aiohttp

    from real_engine.conftest import System

pytestmark = pytest.mark.real_engine

STREAMS = 8


async def test_streams_go_on_token_by_token_when_their_decode_is_killed(
    system: System, session: aiohttp.ClientSession
) -> None:
    # Greedy: a seed's random numbers begin anew with a replay, so sampled tokens could not be the same.
    bodies = [chat(f"prompt number {n}", max_tokens=300, **GREEDY) for n in range(STREAMS)]
    undisturbed = [await read_stream(session, system.decode[0].url, body) for body in bodies]
    running = 0
    killed = asyncio.Event()

    async def wait_for_all() -> None:
        nonlocal running
        running += 1
        if running == STREAMS:
            system.decode[1].kill()
            killed.set()
        await killed.wait()

    disturbed = await asyncio.gather(
        *(read_stream(session, system.router_url, body, after_text=wait_for_all) for body in bodies)
    )

    for before, after in zip(undisturbed, disturbed, strict=True):
        assert after.text == before.text
        assert after.finish_reason == before.finish_reason
        assert after.is_done
        assert len(after.ids) == 1
    await wait_until_free(session, [*system.prefill, system.decode[0]])
