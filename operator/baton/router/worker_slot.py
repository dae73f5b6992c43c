"""The place of one worker: its sockets, the process that has them now, and its replacement when that dies.

Decides nothing about the workers together: baton.router.supervisor does.
"""

from __future__ import annotations

import asyncio
import logging
import pickle
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

from baton.api.endpoints import Phase
from baton.router.listening import port_of
from baton.router.start_error import StartError
from baton.router.worker import CANNOT_START, Orders
from baton.routing.types import Endpoint
from baton.telemetry import router_metrics
from baton.telemetry.logs import event

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable

    from baton.router.settings import RouterSettings
    from baton.router.worker import WorkerProgram

_logger = logging.getLogger(__name__)

_HEALTHY_TIME = 10.0
"""Seconds after which a worker counts as having worked. One death before that is forgiven, too."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 10.0
"""Seconds before a worker is replaced that died early again; doubled each time."""


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """What all workers are started with. `open_public` opens further sockets on the clients' port.

    `up` is set once all have been there: from then on none that cannot start ends the others.
    """

    settings: RouterSettings
    program: WorkerProgram
    open_public: Callable[[], Awaitable[list[socket.socket]]]
    up: asyncio.Event


class WorkerSlot:
    """Runs one worker at a time.

    The clients' sockets stay open here while a worker is replaced, so the connections that the kernel has assigned to
    it wait for the next one. While that has to wait, they are closed, and the kernel assigns new ones to the others.
    """

    def __init__(
        self, number: int, options: WorkerOptions, *, public: list[socket.socket], admin: socket.socket
    ) -> None:
        """`admin` is a socket on a loopback address; `endpoint` says which."""
        self.endpoint = Endpoint(f"worker-{number}", "127.0.0.1", port_of([admin]), phase=Phase.AGGREGATED)
        self._number = number
        self._options = options
        self._public = public
        self._admin = admin
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()

    @property
    def is_running(self) -> bool:
        """Whether a process is there."""
        return self._process is not None

    async def keep(self) -> None:
        """Have a worker run until `stop`, then until it has ended. Raises StartError if the first cannot."""
        loop = asyncio.get_running_loop()
        early_deaths = 0
        while not self._stopping.is_set():
            if not self._public:
                self._public = await self._options.open_public()
            began = loop.time()
            code = await self._run()
            if self._stopping.is_set():
                break
            if code == CANNOT_START and not self._options.up.is_set():
                raise StartError(f"worker {self._number} cannot start; its log line says why")
            router_metrics.WORKER_DEATHS.inc()
            event(_logger, logging.ERROR, "worker died and is replaced", worker=self._number, exit_code=code)
            early_deaths = 0 if loop.time() - began >= _HEALTHY_TIME else early_deaths + 1
            if early_deaths > 1:
                self._close_public()
                await self._pause(min(_FIRST_PAUSE * 2 ** min(early_deaths, 10) / 4, _LONGEST_PAUSE))

    def stop(self) -> None:
        """Replace the worker no more, and have it finish what it does; the second time, have it cut that."""
        self._stopping.set()
        self._close_public()
        self._tell(signal.SIGTERM)

    def reload(self) -> None:
        """Have the worker read its files anew."""
        # A byte waits until the worker is there; a signal would kill one that is only just starting.
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.write(b"\n")

    def _tell(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)

    def close(self) -> None:
        """Kill the worker, if there is one, and close the sockets."""
        self._tell(signal.SIGKILL)
        self._close_public()
        self._admin.close()

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            pass

    async def _run(self) -> int:
        descriptors = tuple(one.fileno() for one in self._public)
        orders = Orders(
            number=self._number,
            settings=self._options.settings,
            public=descriptors,
            admin=self._admin.fileno(),
            program=self._options.program,
        )
        process = await asyncio.create_subprocess_exec(
            *self._options.program.command,
            stdin=asyncio.subprocess.PIPE,
            pass_fds=(*descriptors, self._admin.fileno()),
            start_new_session=True,  # a terminal's Ctrl-C is for the supervisor, which tells the workers
        )
        self._process = process
        try:
            if process.stdin is not None:
                process.stdin.write(pickle.dumps(orders))
            if self._stopping.is_set():
                self._tell(signal.SIGTERM)
            return await process.wait()
        finally:
            self._process = None
            if process.returncode is None:
                process.kill()

    def _close_public(self) -> None:
        while self._public:
            self._public.pop().close()
