"""SGLang's bootstrap: rooms at a prefill, where it and the decode of a request meet. Opens no connection.

Prefill computes nothing before its decode is there, and decode goes on when the room is filled. Both must come within
the bootstrap time (SGLANG_DISAGGREGATION_BOOTSTRAP_TIMEOUT, 300 seconds), or the one that waits fails.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import orjson

from baton.sim.kv import KVError, KVErrorReason

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

BOOTSTRAP_PATH: Final = "/sim/kv/bootstrap"
BOOTSTRAP_SECONDS: Final = 300.0


@dataclass(frozen=True, slots=True)
class Meeting:
    """Where prefill and decode of a request meet: a room at the bootstrap server at this place."""

    host: str
    port: int
    room: int


@dataclass(slots=True)
class _Room:
    prefill: str | None = None
    decode: str | None = None
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    is_filled: bool = False
    is_given_up: bool = False

    def check(self) -> None:
        if self.prefill != self.decode:
            raise KVError(KVErrorReason.MISMATCH, "prefill and decode of this room have different prompts")


class Rooms:
    """The rooms of one prefill."""

    def __init__(self) -> None:
        self.filled = 0
        self._rooms: dict[int, _Room] = {}

    @asynccontextmanager
    async def host(self, number: int, *, fingerprint: str) -> AsyncIterator[None]:
        """Compute a prompt inside, once its decode is there; the end fills the room.

        Raises:
            KVError: the room is another's, the decode does not come, or has another prompt.
        """
        room = self._rooms.setdefault(number, _Room())
        if room.prefill is not None:
            raise KVError(KVErrorReason.REUSED, f"room {number} has been used; give each request a room of its own")
        await self._set(room, prefill=fingerprint)
        try:
            await self._wait(room, "its decode", lambda: room.decode is not None)
            room.check()
            yield
            self.filled += 1
            room.is_filled = True
        finally:
            room.is_given_up = not room.is_filled
            await self._set(room)
            if room.is_given_up or room.decode is None:
                self._rooms.pop(number, None)

    async def knock(self, number: int, *, fingerprint: str) -> None:
        """Wait, as a decode, until a room is filled.

        Raises:
            KVError: the prefill does not come, gives up, or has another prompt.
        """
        room = self._rooms.setdefault(number, _Room())
        try:
            await self._set(room, decode=fingerprint)
            await self._wait(room, "its prefill", lambda: room.prefill is not None)
            room.check()
            await self._wait(room, "the KV", lambda: room.is_filled or room.is_given_up)
            if room.is_given_up:
                raise KVError(KVErrorReason.UNKNOWN, f"the prefill of room {number} was given up")
        finally:
            self._rooms.pop(number, None)

    async def _set(self, room: _Room, *, prefill: str | None = None, decode: str | None = None) -> None:
        async with room.changed:
            room.prefill = prefill or room.prefill
            room.decode = decode or room.decode
            room.changed.notify_all()

    async def _wait(self, room: _Room, whom: str, condition: Callable[[], bool]) -> None:
        try:
            async with asyncio.timeout(BOOTSTRAP_SECONDS), room.changed:
                await room.changed.wait_for(condition)
        except TimeoutError:
            message = f"{whom} did not come within {BOOTSTRAP_SECONDS:g} seconds; send the request to both at once"
            raise KVError(KVErrorReason.UNREACHABLE, message) from None


def write_knock(room: int, fingerprint: str) -> bytes:
    """Write what a decode tells the bootstrap server."""
    return orjson.dumps({"room": room, "fingerprint": fingerprint})


def read_knock(raw: bytes) -> tuple[int, str]:
    """Read that. Raises KVError for anything else."""
    try:
        body = orjson.loads(raw)
        return int(body["room"]), str(body["fingerprint"])
    except (ValueError, TypeError, KeyError) as error:
        raise KVError(KVErrorReason.INVALID, f"not a decode's knock: {error}") from error
