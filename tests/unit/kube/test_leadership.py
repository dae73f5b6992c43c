"""On virtual time, with a server in memory: baton.kube.leadership does no more I/O than its calls."""

from __future__ import annotations

import asyncio
import datetime as dt
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from baton.kube.errors import AlreadyExists, Conflict, NotFound, Transient
from baton.kube.leadership import Alone, Elector
from virtual_time import VirtualTimeLoop, run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from baton.kube.types import JsonObject, Resource

KEY = ("system", "operator")


class FrozenClock:
    def now(self) -> dt.datetime:
        return dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


class Server:
    """Holds one Lease."""

    def __init__(self) -> None:
        self.lease: JsonObject | None = {"metadata": {"resourceVersion": "1"}}
        self.is_down = False
        self.hangs = False
        self.writes = 0

    async def get(self, resource: Resource, namespace: str | None, name: str) -> JsonObject:
        await self._answer()
        if self.lease is None:
            raise NotFound(404, "NotFound", "no lease")
        return self.lease

    async def create(self, resource: Resource, body: JsonObject) -> JsonObject:
        await self._answer()
        if self.lease is not None:
            raise AlreadyExists(409, "AlreadyExists", "there is a lease")
        return self._store(body["spec"])

    async def patch(self, resource: Resource, namespace: str | None, name: str, patch: JsonObject) -> JsonObject:
        found = await self.get(resource, namespace, name)
        if patch["metadata"]["resourceVersion"] != found["metadata"]["resourceVersion"]:
            raise Conflict(409, "Conflict", "changed")
        return self._store({**found.get("spec", {}), **patch["spec"]})

    @property
    def spec(self) -> dict[str, Any]:
        assert self.lease is not None
        return dict(self.lease.get("spec") or {})

    def _store(self, spec: JsonObject) -> JsonObject:
        self.writes += 1
        self.lease = {"metadata": {"resourceVersion": str(100 + self.writes)}, "spec": spec}
        return self.lease

    async def _answer(self) -> None:
        if self.is_down:
            raise Transient(503, "Down", "down")
        if self.hangs:
            await asyncio.Event().wait()


class Operator:
    """An elector with work that tells whether it runs, and when it began and ended."""

    def __init__(self, server: Server, name: str) -> None:
        self.stop = asyncio.Event()
        self.elector = Elector(
            server, lease=KEY, identity=name, clock=FrozenClock(), elapsed=asyncio.get_running_loop().time
        )
        self.terms: list[tuple[float, float]] = []
        self.slowness = 0.0
        self._began: float | None = None

    def is_working(self) -> bool:
        return self._began is not None

    async def work(self) -> None:
        self._began = began = now()
        try:
            await self.stop.wait()
        finally:
            await asyncio.sleep(self.slowness)
            self._began = None
            self.terms.append((began, now()))


@asynccontextmanager
async def running(*operators: Operator) -> AsyncIterator[list[asyncio.Task[None]]]:
    tasks = [asyncio.ensure_future(operator.elector.run(operator.work, operator.stop)) for operator in operators]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def now() -> float:
    return asyncio.get_running_loop().time()


def test_one_works_and_the_other_waits() -> None:
    async def script() -> None:
        server = Server()
        first, second = Operator(server, "first"), Operator(server, "second")
        async with running(first, second):
            await asyncio.sleep(100.0)
            assert (first.is_working(), second.is_working()) == (True, False)
            assert first.elector.is_leading()
            assert not second.elector.is_leading()
            assert server.spec["holderIdentity"] == "first"
            assert server.spec["leaseTransitions"] == 1
            assert server.writes == pytest.approx(50, abs=2)

    run(script())


def test_a_stop_gives_the_lease_to_the_other_at_once() -> None:
    async def script() -> None:
        server = Server()
        first, second = Operator(server, "first"), Operator(server, "second")
        first.slowness = 4.0
        async with running(first, second) as (ending, _):
            await asyncio.sleep(30.5)
            first.stop.set()
            await ending
            assert now() == pytest.approx(34.5)
            await asyncio.sleep(1.0)
            assert second.is_working()
            assert server.spec["holderIdentity"] == "second"

    run(script())


def test_the_other_takes_over_from_one_that_is_gone() -> None:
    async def script() -> None:
        server = Server()
        first, second = Operator(server, "first"), Operator(server, "second")
        async with running(first) as (killed,), running(second):
            await asyncio.sleep(30.1)
            assert first.is_working()
            killed.cancel()
            await asyncio.sleep(12.0)
            assert not second.is_working()
            await asyncio.sleep(2.0)
            assert second.is_working()

    run(script())


def test_work_ends_before_another_may_take_the_lease_and_begins_anew_after_an_outage() -> None:
    async def script() -> None:
        server = Server()
        only = Operator(server, "only")
        async with running(only):
            await asyncio.sleep(10.1)
            server.is_down = True
            await asyncio.sleep(11.9)
            assert not only.is_working()
            await asyncio.sleep(60.0)
            server.is_down = False
            await asyncio.sleep(1.5)
            assert only.is_working()
        (began, ended), _ = only.terms
        assert began == 0.0
        assert ended == pytest.approx(18.0)  # the last renewal was sent at 10

    run(script())


def test_calls_that_hang_do_not_keep_it_from_renewing_in_time() -> None:
    async def script() -> None:
        server = Server()
        only = Operator(server, "only")
        async with running(only):
            await asyncio.sleep(10.1)
            server.hangs = True
            await asyncio.sleep(4.0)
            server.hangs = False
            await asyncio.sleep(60.0)
            assert only.is_working()
            assert only.terms == []

    run(script())


def test_no_new_term_begins_while_the_work_of_the_last_one_goes_on() -> None:
    async def script() -> None:
        server = Server()
        only = Operator(server, "only")
        only.slowness = 30.0
        async with running(only):
            await asyncio.sleep(1.0)
            server.is_down = True
            await asyncio.sleep(10.0)
            server.is_down = False
            await asyncio.sleep(10.0)
            assert only.is_working()  # it is being cancelled, and slow about it
            assert not only.elector.is_leading()
            await asyncio.sleep(30.0)
            assert only.elector.is_leading()
            assert len(only.terms) == 1
            only.slowness = 0.0

    run(script())


def test_a_process_that_was_paused_does_not_lead_when_it_goes_on() -> None:
    async def script() -> None:
        server = Server()
        only = Operator(server, "only")
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        async with running(only):
            await asyncio.sleep(1.0)
            loop.skip(60.0)  # in the midst of a callback, before any timer
            assert not only.elector.is_leading()

    run(script())


def test_an_admin_who_deletes_the_lease_ends_the_term() -> None:
    async def script() -> None:
        server = Server()
        only = Operator(server, "only")
        async with running(only):
            await asyncio.sleep(10.1)
            server.lease = None
            await asyncio.sleep(4.0)
            assert not only.is_working()
            await asyncio.sleep(14.0)
            assert only.is_working()
            assert server.spec["holderIdentity"] == "only"

    run(script())


def test_a_stop_before_any_election_does_no_work() -> None:
    async def script() -> None:
        server = Server()
        server.is_down = True
        only = Operator(server, "only")
        async with running(only) as (task,):
            await asyncio.sleep(30.0)
            only.stop.set()
            await task
        assert only.terms == []

    run(script())


def test_a_fault_of_the_work_is_not_hidden() -> None:
    async def script() -> None:
        async def break_down() -> None:
            raise ZeroDivisionError

        elector = Operator(Server(), "only").elector
        with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True):
            await elector.run(break_down, asyncio.Event())

    run(script())


def test_alone_it_works_until_the_end() -> None:
    async def script() -> None:
        ran = []

        async def work() -> None:
            ran.append(now())

        stop = asyncio.Event()
        await Alone().run(work, stop)
        stop.set()
        await Alone().run(work, stop)
        assert ran == [0.0]
        assert Alone().is_leading()

    run(script())
