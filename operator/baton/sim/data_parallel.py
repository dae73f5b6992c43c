"""The processes of one instance: rank 0 gathers the others, and all go on together or not at all.

Stands for the real engine's coordinator and collectives: ranks become ready together, a rank that dies ends the others.
A rank that ends because it was told to says so first. The messages are lines of JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final, Protocol

import orjson

from baton.sim.listening import PortUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from baton.sim.launch import GroupPlace

_HELLO_SECONDS: Final = 5.0
_RETRY_SECONDS: Final = 0.1
_LEAVING: Final = {"leaving": True}


class GroupError(Exception):
    """The DP ranks of an instance did not come together, or one has died."""


class Membership(Protocol):
    """One rank's part in its group.

    `on_end(reason)` is called once the group is no more: the reason is None when rank 0 ended because it was told to.
    """

    async def join(self) -> None:
        """Return when all ranks are there. Raises GroupError."""

    async def leave(self) -> None:
        """Say that this rank ends because it was told to."""


class Alone:
    """The group of an instance without other ranks."""

    async def join(self) -> None:
        """Return at once."""

    async def leave(self) -> None:
        """Tell nobody."""


def make_membership(place: GroupPlace | None, on_end: Callable[[str | None], None]) -> Membership:
    """Return the part that a rank plays."""
    if place is None:
        return Alone()
    return Coordinator(place, on_end) if place.rank == 0 else Member(place, on_end)


class Coordinator:
    """Rank 0: listens, lets the others go when all are there, and notices when one dies."""

    def __init__(self, place: GroupPlace, on_end: Callable[[str | None], None]) -> None:
        self._place = place
        self._on_end = on_end
        self._members: dict[int, asyncio.StreamWriter] = {}
        self._is_complete = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._handlers: set[asyncio.Task[None]] = set()

    async def join(self) -> None:
        """Listen, and return when all other ranks are there.

        Raises:
            PortUnavailableError: the port is taken or not allowed.
            GroupError: they are not in time.
        """
        place = self._place
        try:
            self._server = await asyncio.start_server(self._accept, place.address, place.port, backlog=place.size)
        except OSError as error:
            raise PortUnavailableError(place.address, place.port, error) from error
        try:
            async with asyncio.timeout(place.seconds):
                await self._is_complete.wait()
        except TimeoutError as error:
            missing = sorted({*range(1, place.size)} - {*self._members})
            raise GroupError(f"{place.member}s {missing} did not join within {place.seconds:g} s") from error
        for writer in self._members.values():
            _send(writer, {"complete": True})

    async def leave(self) -> None:
        """Tell all members, and stop listening."""
        if self._server is not None:
            self._server.close()
        for writer in self._members.values():
            _send(writer, _LEAVING)
            writer.close()
        self._members.clear()
        for task in self._handlers:
            task.cancel()
        await asyncio.gather(*self._handlers, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer), name="DP rank")
        self._handlers.add(task)
        task.add_done_callback(self._handlers.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_HELLO_SECONDS):
                hello = await _receive(reader)
            if (refusal := self._check(hello)) is not None:
                _send(writer, {"refusal": refusal})
                return
            rank: int = hello["rank"]
            self._members[rank] = writer
            if len(self._members) == self._place.size - 1:
                self._is_complete.set()
            farewell = await _receive(reader)
            if self._members.get(rank) is not writer:
                return
            del self._members[rank]
            if self._is_complete.is_set() and farewell != _LEAVING:
                self._on_end(f"{self._place.member} {rank} has died, and the others cannot go on without it")

    def _check(self, hello: dict[str, Any]) -> str | None:
        place, rank, terms = self._place, hello.get("rank"), hello.get("terms")
        if type(rank) is not int or not 0 < rank < place.size or not isinstance(terms, dict):
            return f"{rank} is no {place.member} of an instance of {place.size}"
        if self._is_complete.is_set() or rank in self._members:
            return f"{place.member} {rank} is there already"
        for name, expected in place.terms.items():
            if terms.get(name) != expected:
                return (
                    f"Configuration mismatch detected for engine {rank}: {name} is {terms.get(name)!r}, at rank 0 "
                    f"{expected!r}"
                )
        return None


class Member:
    """Any other rank: finds rank 0 and stays connected to it."""

    def __init__(self, place: GroupPlace, on_end: Callable[[str | None], None]) -> None:
        self._place = place
        self._on_end = on_end
        self._writer: asyncio.StreamWriter | None = None
        self._watching: asyncio.Task[None] | None = None

    async def join(self) -> None:
        """Find rank 0, however late it comes, and return when it says that all ranks are there.

        Raises:
            GroupError: it refuses, or that is not in time.
        """
        place = self._place
        try:
            async with asyncio.timeout(place.seconds):
                while (reader := await self._try_to_join()) is None:  # noqa: ASYNC110 # rank 0 cannot tell that it is up
                    await asyncio.sleep(_RETRY_SECONDS)
        except TimeoutError as error:
            raise GroupError(
                f"{place.member} 0 at {place.address}:{place.port} did not gather all {place.size} within "
                f"{place.seconds:g} s"
            ) from error
        self._watching = asyncio.get_running_loop().create_task(self._watch(reader), name="watch DP rank 0")

    async def leave(self) -> None:
        """Tell rank 0."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        if self._writer is not None:
            _send(self._writer, _LEAVING)
            self._writer.close()
            with contextlib.suppress(ConnectionError):
                await self._writer.wait_closed()

    async def _try_to_join(self) -> asyncio.StreamReader | None:
        """Return the connection to rank 0 once the group is complete, or None to try again."""
        place = self._place
        try:
            reader, writer = await asyncio.open_connection(place.address, place.port)
        except OSError:
            return None
        self._writer = writer
        _send(writer, {"rank": place.rank, "terms": place.terms})
        answer = await _receive(reader)
        if answer.get("complete"):
            return reader
        writer.close()
        self._writer = None
        if "refusal" in answer:
            raise GroupError(f"{place.member} 0 at {place.address}:{place.port}: {answer['refusal']}")
        return None

    async def _watch(self, reader: asyncio.StreamReader) -> None:
        has_left = await _receive(reader) == _LEAVING
        self._on_end(None if has_left else f"{self._place.member} 0, the coordinator, has died")


def _send(writer: asyncio.StreamWriter, message: dict[str, Any]) -> None:
    writer.write(orjson.dumps(message) + b"\n")


async def _receive(reader: asyncio.StreamReader) -> dict[str, Any]:
    """Return the next message; an empty one at the end of the connection, and for whatever is none."""
    try:
        message = orjson.loads(await reader.readline() or b"{}")
    except (ConnectionError, ValueError):
        return {}
    return message if isinstance(message, dict) else {}
