"""The DP ranks of an instance on real sockets: together or not at all."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from baton.sim.data_parallel import Coordinator, GroupError, Member, Membership, make_membership
from baton.sim.launch import GroupPlace
from baton.sim.listening import PortUnavailableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


class Ranks:
    """The ranks of one instance, and what they heard of its end."""

    def __init__(self, port: int) -> None:
        self.place = GroupPlace(
            member="DP rank",
            rank=0,
            size=3,
            address="127.0.0.1",
            port=port,
            seconds=20.0,
            terms={"tensor_parallel_size": 4},
        )
        self.made: list[Membership] = []
        self.heard: dict[int, str | None] = {}

    def make(self, rank: int, **changes: Any) -> Membership:
        self.made.append(make_membership(replace(self.place, rank=rank, **changes), partial(self._hear, rank)))
        return self.made[-1]

    def make_first(self) -> Coordinator:
        first = self.make(0)
        assert isinstance(first, Coordinator)
        return first

    def _hear(self, rank: int, reason: str | None) -> None:
        self.heard[rank] = reason

    async def join(self) -> tuple[Coordinator, Membership, Membership]:
        ranks = self.make_first(), self.make(1), self.make(2)
        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            for rank in reversed(ranks):
                group.create_task(rank.join())
        return ranks


async def wait_until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 # ranks announce nothing to wait for
            await asyncio.sleep(0.01)


@pytest.fixture
async def ranks(unused_tcp_port: int) -> AsyncIterator[Ranks]:
    ranks = Ranks(unused_tcp_port)
    yield ranks
    for rank in ranks.made:
        await rank.leave()


async def drop(rank: Membership) -> None:
    """End a rank's connections without a word, as the kernel does for a process that dies."""
    assert isinstance(rank, Member)
    assert rank._writer is not None
    rank._writer.transport.abort()


async def test_an_instance_of_one_rank_waits_for_nobody() -> None:
    alone = make_membership(None, lambda _: None)
    await alone.join()
    await alone.leave()


async def test_ranks_go_on_when_all_are_there(ranks: Ranks) -> None:
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        second = group.create_task(ranks.make(2).join())
        coordinator = ranks.make_first()
        first = group.create_task(coordinator.join())
        await wait_until(lambda: 2 in coordinator._members)
        assert not first.done()
        assert not second.done()
        group.create_task(ranks.make(1).join())
    assert ranks.heard == {}


async def test_a_rank_that_dies_ends_rank_0(ranks: Ranks) -> None:
    _, member, _ = await ranks.join()
    await drop(member)
    await wait_until(lambda: 0 in ranks.heard)
    assert ranks.heard[0] == "DP rank 1 has died, and the others cannot go on without it"


async def test_the_death_of_rank_0_ends_the_others(ranks: Ranks) -> None:
    coordinator, *_ = await ranks.join()
    coordinator._members[2].transport.abort()
    await wait_until(lambda: 2 in ranks.heard)
    assert ranks.heard[2] == "DP rank 0, the coordinator, has died"


async def test_ranks_that_are_told_to_stop_disturb_nobody(ranks: Ranks) -> None:
    coordinator, member, _ = await ranks.join()
    await member.leave()
    await wait_until(lambda: 1 not in coordinator._members)
    assert ranks.heard == {}
    await coordinator.leave()
    await wait_until(lambda: bool(ranks.heard))
    assert ranks.heard == {2: None}


async def test_what_does_not_belong_to_the_instance_is_refused(ranks: Ranks) -> None:
    await ranks.join()
    for stranger, message in (
        (ranks.make(1), "DP rank 1 is there already"),
        (ranks.make(7), "7 is no DP rank of an instance of 3"),
    ):
        with pytest.raises(GroupError, match=message):
            await stranger.join()


async def test_a_rank_that_was_started_otherwise_is_refused(ranks: Ranks) -> None:
    waiting = asyncio.ensure_future(ranks.make(0).join())
    stranger = ranks.make(1, terms={"tensor_parallel_size": 8})
    with pytest.raises(GroupError, match="Configuration mismatch detected for engine 1: tensor_parallel_size is 8"):
        await stranger.join()
    waiting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await waiting


async def test_nobody_waits_for_ever(ranks: Ranks) -> None:
    with pytest.raises(GroupError, match=r"DP ranks \[1, 2\] did not join within 0.05 s"):
        await ranks.make(0, seconds=0.05).join()
    with pytest.raises(GroupError, match=r"did not gather all 3 within 0.05 s"):
        await ranks.make(1, seconds=0.05).join()


async def test_a_taken_port_is_named(ranks: Ranks) -> None:
    await ranks.join()
    with pytest.raises(PortUnavailableError, match=f"port {ranks.place.port}: another program has it"):
        await ranks.make(0).join()


async def test_noise_on_the_port_changes_nothing(ranks: Ranks) -> None:
    coordinator = ranks.make_first()
    waiting = asyncio.ensure_future(coordinator.join())
    await wait_until(lambda: coordinator._server is not None)
    _, writer = await asyncio.open_connection("127.0.0.1", ranks.place.port)
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        group.create_task(ranks.make(1).join())
        group.create_task(ranks.make(2).join())
    await waiting
    writer.close()
