"""The process of `baton sim`: HTTP on all ports, each connection led to the engine of its local address and port.

Opens the ports and makes the engines; `baton.sim.application` answers.
"""

from __future__ import annotations

import asyncio
import signal
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final, Self

from aiohttp import web
from yarl import URL

from baton.sim.application import Application
from baton.sim.engine import Engine, EngineIdentity
from baton.sim.listening import listen
from baton.sim.peers import HttpPeers

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from baton.sim.settings import SimSettings

# Running requests are cut, not finished; this is only the time their handlers get to notice.
_STOP_SECONDS: Final = 0.1


class SimServer:
    """All engines of one process. Use it with `async with`; leaving cuts every request and closes the ports.

    With port 0 the system chooses; `port` and `url` tell which. An engine exists from its first use on, by a request or
    by `engine`.
    """

    def __init__(self, settings: SimSettings) -> None:
        self.settings = settings
        self.ports: tuple[int, ...] = ()
        self.engines: dict[EngineIdentity, Engine] = {}
        self._resources = AsyncExitStack()
        self._peers = HttpPeers(keeps_connections=True)

    @property
    def port(self) -> int:
        """The first port listened on."""
        return self.ports[0]

    def url(self, address: str, port: int | None = None) -> str:
        """Return the base URL of an engine, without a slash at the end."""
        return str(URL.build(scheme="http", host=address, port=port or self.port)).rstrip("/")

    def engine(self, address: str, port: int | None = None) -> Engine:
        """Return the engine at an address and port (default: the first port)."""
        identity = EngineIdentity(address, port or self.port)
        if identity not in self.engines:
            self.engines[identity] = Engine(identity, self.settings, peers=self._peers)
        return self.engines[identity]

    async def __aenter__(self) -> Self:
        """Start listening.

        Raises:
            PortUnavailableError: a port is taken or not allowed; none stays open then.
        """
        async with AsyncExitStack() as resources:
            await resources.enter_async_context(self._peers)
            application = Application(self.settings, find_engine=self._engine_of, list_engines=self._list_engines)
            runner = web.AppRunner(
                application.build_api(), handler_cancellation=True, access_log=None, shutdown_timeout=_STOP_SECONDS
            )
            await runner.setup()
            resources.push_async_callback(runner.cleanup)
            resources.push_async_callback(self._close_engines)
            for port in self.settings.ports:
                await listen(runner, self.settings.host, port)
                self.ports = (*self.ports, runner.addresses[-1][1])
            self._resources = resources.pop_all()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._resources.aclose()

    async def _close_engines(self) -> None:
        for engine in self.engines.values():
            await engine.close()

    def _engine_of(self, request: web.Request) -> Engine:
        if request.transport is None:
            raise ConnectionResetError("the client has left")
        address, port = request.transport.get_extra_info("sockname")[:2]
        return self.engine(address, port)

    def _list_engines(self) -> list[Engine]:
        return [self.engines[identity] for identity in sorted(self.engines)]


async def serve(settings: SimSettings, *, on_ready: Callable[[SimServer], None]) -> None:
    """Run until SIGTERM or SIGINT. Raises PortUnavailableError."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with SimServer(settings) as server:
        on_ready(server)
        await stopped.wait()
