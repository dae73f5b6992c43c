"""All workers of a router: gives each its sockets, and tells them all the same. Serves nothing and reads no file."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from baton.router.listening import open_sockets, port_of
from baton.router.worker_slot import WorkerOptions, WorkerSlot

if TYPE_CHECKING:
    import socket

    from baton.router.settings import RouterSettings
    from baton.router.worker import WorkerProgram

_LAST_TIME = 5.0
"""Seconds that workers have, beyond what their requests were given, before they are killed."""


class Workers:
    """The slots of a router's workers; `open` makes them, `close` ends what is left."""

    def __init__(self, settings: RouterSettings, program: WorkerProgram) -> None:
        """Run `settings.workers` workers with these settings, of which they share out what can be shared out."""
        data_path = settings.data_path
        own = replace(
            data_path,
            has_public_metrics=False,  # they would be those of whichever worker is asked
            max_connections=math.ceil(data_path.max_connections / settings.workers),
        )
        self.slots: list[WorkerSlot] = []
        self.up = asyncio.Event()
        """Set it once all workers have been there: from then on one that cannot start ends no others."""
        self._count = settings.workers
        self._options = partial(WorkerOptions, replace(settings, data_path=own), program, up=self.up)

    async def open(self, host: str, port: int) -> list[socket.socket]:
        """Make a slot for each worker, all on one port, a free one if 0 is asked for; return the first's sockets."""
        public = first = await _open_public(host, port)
        for number in range(self._count):
            if number:
                public = await _open_public(host, port_of(first))
            [admin] = await open_sockets("127.0.0.1", 0, option="--workers 1")
            options = self._options(open_public=partial(_open_public, host, port_of(first)))
            self.slots.append(WorkerSlot(number, options, public=public, admin=admin))
        return first

    async def keep(self) -> None:
        """Have all workers run until they are stopped, and replace those that die. Raises StartError in a group."""
        async with asyncio.TaskGroup() as group:
            for slot in self.slots:
                group.create_task(slot.keep(), name=slot.endpoint.name)

    def reload(self) -> None:
        """Have all workers read their files anew."""
        for slot in self.slots:
            slot.reload()

    async def stop(self, keeping: asyncio.Task[None], *, hurry: asyncio.Event, within: float) -> bool:
        """Have all workers finish, and cut what they do when `hurry` is set.

        Return whether all had ended when they had to; `keeping`, the task that runs `keep`, is cancelled otherwise.
        """
        self._stop_all()
        async with asyncio.TaskGroup() as group:
            hurrying = group.create_task(self._stop_again(hurry), name="second-signal")
            await asyncio.wait((keeping,), timeout=within + _LAST_TIME)
            hurrying.cancel()
        if keeping.done():
            return True
        keeping.cancel()
        return False

    def close(self) -> None:
        """Kill the workers that are left, and close all sockets."""
        for slot in self.slots:
            slot.close()

    def _stop_all(self) -> None:
        for slot in self.slots:
            slot.stop()

    async def _stop_again(self, hurry: asyncio.Event) -> None:
        await hurry.wait()
        self._stop_all()


async def _open_public(host: str, port: int) -> list[socket.socket]:
    return await open_sockets(host, port, option="--port", is_shared=True)
