from __future__ import annotations

import asyncio

import pytest

from baton.sim.kv import KVError
from baton.sim.rooms import Rooms


async def fill(rooms: Rooms, fingerprint: str = "p") -> None:
    async with rooms.host(7, fingerprint=fingerprint):
        pass


@pytest.mark.parametrize("is_prefill_first", [False, True])
async def test_prefill_and_decode_meet_whoever_comes_first(is_prefill_first: bool) -> None:
    rooms = Rooms()
    both = [fill(rooms), rooms.knock(7, fingerprint="p")]

    await asyncio.gather(*(both if is_prefill_first else reversed(both)))

    assert rooms.filled == 1


async def test_different_prompts_fail_both() -> None:
    rooms = Rooms()

    results = await asyncio.gather(fill(rooms, "x"), rooms.knock(7, fingerprint="p"), return_exceptions=True)

    assert [type(result) for result in results] == [KVError, KVError]
    assert rooms.filled == 0


async def test_a_decode_learns_that_its_prefill_was_given_up() -> None:
    rooms = Rooms()

    async def gives_up() -> None:
        async with rooms.host(7, fingerprint="p"):
            raise ConnectionError

    results = await asyncio.gather(gives_up(), rooms.knock(7, fingerprint="p"), return_exceptions=True)

    assert [type(result) for result in results] == [ConnectionError, KVError]


async def test_a_room_is_for_one_request() -> None:
    rooms = Rooms()
    first = asyncio.ensure_future(fill(rooms))
    await asyncio.sleep(0)

    with pytest.raises(KVError, match="room of its own"):
        await fill(rooms)
    await rooms.knock(7, fingerprint="p")
    await first
