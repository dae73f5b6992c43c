"""Kept connections to engines: who gets which, which are closed, when a new one is opened.

`Shelf.assign` decides and does no I/O; `ConnectionPool` acts on it. (The shape is httpcore's: every way in and out of
the pool ends in the same synchronous decision, and what it wants closed is closed outside of it.)
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Generic, NamedTuple, Protocol, TypeVar

from baton.router.wire.failures import ExchangeError, FailureKind
from baton.router.wire.upstream_connection import UpstreamConnection

if TYPE_CHECKING:
    import ssl


class Address(NamedTuple):
    """Where an engine listens."""

    host: str
    port: int
    is_tls: bool = False


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """Connections to one engine (in all, and kept idle), seconds one is kept idle, seconds to open one."""

    connections: int
    idle_connections: int
    idle_time: float
    connect_time: float


class Kept(Protocol):
    """What the decision looks at in a connection."""

    idle_since: float


C = TypeVar("C", bound=Kept)


@dataclass(slots=True, eq=False)
class Wanted(Generic[C]):
    """A request that wants a connection. Granted without one, it opens its own. `wake` is for whoever has to wait."""

    is_fresh: bool = False
    is_granted: bool = False
    connection: C | None = None
    wake: asyncio.Event | None = None

    def grant(self, connection: C | None) -> None:
        """Settle the wish."""
        self.is_granted = True
        self.connection = connection
        if self.wake is not None:
            self.wake.set()


@dataclass(slots=True, eq=False)
class Shelf(Generic[C]):
    """The connections to one engine. `taken` counts those that are in use or being opened."""

    limits: PoolLimits
    idle: deque[C] = field(default_factory=deque)
    waiting: deque[Wanted[C]] = field(default_factory=deque)
    taken: int = 0

    def assign(self, now: float) -> list[C]:
        """Grant what can be granted, in order of asking, and return the connections to close."""
        closing = []
        while self.idle and self._is_surplus(self.idle[0], now):
            closing.append(self.idle.popleft())
        while self.waiting and self.taken < self.limits.connections:
            wanted = self.waiting.popleft()
            self.taken += 1
            if self.idle and not wanted.is_fresh:
                wanted.grant(self.idle.pop())  # the last one used: the others may grow old and go
                continue
            if self.idle and self.taken + len(self.idle) > self.limits.connections:
                closing.append(self.idle.popleft())
            wanted.grant(None)
        return closing

    def _is_surplus(self, oldest: C, now: float) -> bool:
        return oldest.idle_since + self.limits.idle_time <= now or len(self.idle) > self.limits.idle_connections


class ConnectionPool:
    """Connections to any number of engines, for one event loop."""

    def __init__(self, limits: PoolLimits, *, tls: ssl.SSLContext | None = None) -> None:
        """Use `tls` for engines that speak HTTPS; None verifies them against the system's authorities."""
        self._limits = limits
        self._tls = tls
        self._shelves: dict[Address, Shelf[UpstreamConnection]] = {}
        self._sweep: asyncio.TimerHandle | None = None
        self._is_closed = False

    def __repr__(self) -> str:
        shelves = self._shelves.values()
        idle, waiting = sum(len(shelf.idle) for shelf in shelves), sum(len(shelf.waiting) for shelf in shelves)
        return f"<ConnectionPool [Requests: {self.in_use} active, {waiting} waiting | Connections: {idle} idle]>"

    @property
    def in_use(self) -> int:
        """How many connections are in use or being opened."""
        return sum(shelf.taken for shelf in self._shelves.values())

    async def acquire(self, address: Address, *, deadline: float, is_fresh: bool = False) -> UpstreamConnection:
        """Return a connection, to be given back with `release`; a new one when `is_fresh`. Raises ExchangeError."""
        shelf = self._shelves.get(address)
        if shelf is None:
            shelf = self._shelves[address] = Shelf(self._limits)
        wanted: Wanted[UpstreamConnection] = Wanted(is_fresh=is_fresh)
        shelf.waiting.append(wanted)
        self._settle(shelf)
        if not wanted.is_granted:
            await self._wait(shelf, wanted, deadline=deadline)
        if wanted.connection is not None:
            return wanted.connection
        try:
            return await self._open(shelf, address, deadline=deadline)
        except BaseException:
            self._give_back(shelf, None)
            raise

    def release(self, address: Address, connection: UpstreamConnection) -> None:
        """Take a connection back: it is kept if it is idle, and closed if an exchange is still going on."""
        if not connection.is_idle or self._is_closed:
            connection.abandon()
            self._give_back(self._shelves[address], None)
        else:
            self._give_back(self._shelves[address], connection)

    def close(self) -> None:
        """Close the idle connections now, and the others when they are released."""
        self._is_closed = True
        if self._sweep is not None:
            self._sweep.cancel()
        for shelf in self._shelves.values():
            while shelf.idle:
                shelf.idle.popleft().abandon()

    def _give_back(self, shelf: Shelf[UpstreamConnection], connection: UpstreamConnection | None) -> None:
        shelf.taken -= 1
        if connection is not None:
            connection.idle_since = asyncio.get_running_loop().time()
            shelf.idle.append(connection)
        self._settle(shelf)

    def _settle(self, shelf: Shelf[UpstreamConnection]) -> None:
        loop = asyncio.get_running_loop()
        for connection in shelf.assign(loop.time()):
            connection.abandon()
        if self._sweep is None and not self._is_closed:
            self._sweep = loop.call_later(self._limits.idle_time, self._sweep_all)

    def _sweep_all(self) -> None:
        self._sweep = None
        for address, shelf in list(self._shelves.items()):
            if not (shelf.taken or shelf.idle or shelf.waiting):
                del self._shelves[address]
            else:
                self._settle(shelf)

    async def _wait(
        self, shelf: Shelf[UpstreamConnection], wanted: Wanted[UpstreamConnection], *, deadline: float
    ) -> None:
        wanted.wake = asyncio.Event()
        try:
            async with asyncio.timeout_at(deadline):
                await wanted.wake.wait()
        except BaseException as error:
            if wanted.is_granted:
                self._give_back(shelf, wanted.connection)
            else:
                shelf.waiting.remove(wanted)
            if isinstance(error, TimeoutError):
                raise ExchangeError(FailureKind.TIMEOUT, "had no free connection in time") from None
            raise

    async def _open(self, shelf: Shelf[UpstreamConnection], address: Address, *, deadline: float) -> UpstreamConnection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(min(deadline, loop.time() + self._limits.connect_time)):
                _, connection = await loop.create_connection(
                    lambda: UpstreamConnection(loop, partial(_drop, shelf)),
                    address.host,
                    address.port,
                    ssl=(self._tls or True) if address.is_tls else None,
                )
        except TimeoutError:
            kind = FailureKind.TIMEOUT if loop.time() >= deadline else FailureKind.REFUSED
            raise ExchangeError(kind, "could not be connected in time") from None
        except (OSError, UnicodeError) as error:
            raise ExchangeError(FailureKind.REFUSED, f"could not be connected: {error}") from error
        return connection


def _drop(shelf: Shelf[UpstreamConnection], connection: UpstreamConnection) -> None:
    """Forget a connection that was closed while it was idle."""
    if connection in shelf.idle:
        shelf.idle.remove(connection)
