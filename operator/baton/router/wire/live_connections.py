"""The connections of one listener that have not ended yet. Ends none itself."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from baton.router.wire.client_connection import ClientConnection


class LiveConnections:
    """A set that can be waited for to become empty. Belongs to the loop it is used in."""

    def __init__(self) -> None:
        self._members: set[ClientConnection] = set()
        self._emptied = asyncio.Event()
        self._emptied.set()

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[ClientConnection]:
        return iter(list(self._members))

    def add(self, connection: ClientConnection) -> None:
        """Take one in."""
        self._members.add(connection)
        self._emptied.clear()

    def discard(self, connection: ClientConnection) -> None:
        """Let one go."""
        self._members.discard(connection)
        if not self._members:
            self._emptied.set()

    async def wait_empty(self, deadline: float) -> bool:
        """Return whether all have ended by the deadline, by the loop's clock."""
        try:
            async with asyncio.timeout_at(deadline):
                await self._emptied.wait()
        except TimeoutError:
            return False
        return True
