"""The router as a server: listeners, and the order in which it stops. Reads no configuration: its directory does."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING

from baton.router.application import RouterApplication
from baton.router.handler import Handler
from baton.router.paths import (
    ADMIN_PATHS,
    PUBLIC_PATHS,
    PUBLIC_PATHS_WITH_METRICS,
    STANDALONE_ADMIN_PATHS,
    STANDALONE_PUBLIC_PATHS,
    Action,
)
from baton.router.reclaim import Reclaimer
from baton.router.story import Services
from baton.router.wire.client_connection import ClientConnection, ClientLimits
from baton.router.wire.live_connections import LiveConnections
from baton.router.wire.pool import ConnectionPool, PoolLimits
from baton.router.wire.request_reader import ReaderLimits
from baton.telemetry import router_metrics

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping

    from baton.router.administration import Administration
    from baton.router.data_path_settings import DataPathSettings
    from baton.router.directory import Directory

_LAST_WORDS_TIME = 1.0
"""Seconds that connections have to send the error which ends them."""


class RouterServer:
    """Serves clients from `start` to `close`; between them `drain` lets it stop without losing a request."""

    def __init__(
        self,
        settings: DataPathSettings,
        directory: Directory,
        *,
        request_ids: Callable[[], str] = lambda: secrets.token_hex(16),
        engine_tls: ssl.SSLContext | None = None,
        administration: Administration | None = None,
    ) -> None:
        """Make ids by `request_ids` for requests without one; `engine_tls` is for engines that speak HTTPS.

        `administration` adds the paths by which people change the list of engines.
        """
        self._settings = settings
        self._administration = administration
        self._directory = directory
        self._pool = ConnectionPool(_pool_limits(settings), tls=engine_tls)
        self._reclaimer = Reclaimer(directory)
        services = Services(settings, directory, self._pool, self._reclaimer)
        self._handler = Handler(services, request_ids=request_ids)
        self._limits = _client_limits(settings)
        self._clients = LiveConnections()
        self._admins = LiveConnections()
        self._public: list[asyncio.Server] = []
        self._admin: list[asyncio.Server] = []
        self._is_draining = False

    def __repr__(self) -> str:
        return f"<RouterServer [Clients: {len(self._clients)}] {self._pool!r}>"

    @property
    def is_ready(self) -> bool:
        """Whether it wants new requests."""
        return self._directory.ready and not self._is_draining

    @property
    def is_idle(self) -> bool:
        """Whether it holds nothing of anybody: no client's connection, none in use at an engine, no KV to free."""
        return not self._clients and not self._pool.in_use and self._reclaimer.is_idle

    async def start(self, host: str, port: int, *, tls: ssl.SSLContext | None = None) -> int:
        """Accept clients and return the port, a free one if 0 is asked for. May be called for several addresses."""
        paths = dict(PUBLIC_PATHS_WITH_METRICS if self._settings.has_public_metrics else PUBLIC_PATHS)
        if self._administration is not None:
            paths |= STANDALONE_PUBLIC_PATHS
        server = await self._listen(host, port, paths=paths, live=self._clients, tls=tls)
        self._public.append(server)
        router_metrics.CONNECTIONS.set_function(lambda: len(self._clients))
        return _port(server)

    async def start_admin(self, host: str, port: int) -> int:
        """Serve probes and metrics on another port, for as long as the router lives; return the port."""
        paths = dict(ADMIN_PATHS)
        if self._administration is not None:
            paths |= STANDALONE_ADMIN_PATHS
        server = await self._listen(host, port, paths=paths, live=self._admins)
        self._admin.append(server)
        return _port(server)

    async def drain(self, within: float) -> int:
        """Stop in uvicorn's order, and return how many connections had to be cut.

        Turn unready, go on for `drain_notice`, stop accepting, close each connection after what it has asked for. What
        is still being served after `within` seconds from now ends with an error that says so.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within
        self._is_draining = True
        await asyncio.sleep(min(self._settings.drain_notice, within))
        self._stop_listening(self._public)
        await asyncio.sleep(0)  # what has just been accepted becomes a connection now
        for connection in self._clients:
            connection.drain()
        await self._clients.wait_empty(deadline)
        left = len(self._clients)
        for connection in self._clients:
            connection.cut()
        await self._clients.wait_empty(loop.time() + _LAST_WORDS_TIME)
        await self._reclaimer.wait(max(deadline, loop.time() + _LAST_WORDS_TIME))
        return left

    async def close(self) -> None:
        """Stop at once whatever is left, the admin listener included. Does nothing the second time."""
        self._is_draining = True
        self._stop_listening(self._public)
        self._stop_listening(self._admin)
        for live in (self._clients, self._admins):
            for connection in live:
                connection.abort()
            await live.wait_empty(asyncio.get_running_loop().time() + _LAST_WORDS_TIME)
        await self._reclaimer.close()
        self._pool.close()

    async def _listen(
        self,
        host: str,
        port: int,
        *,
        paths: Mapping[str, Action],
        live: LiveConnections,
        tls: ssl.SSLContext | None = None,
    ) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        application = RouterApplication(
            self._handler, self._directory, self, paths=paths, administration=self._administration
        )
        return await loop.create_server(
            lambda: ClientConnection(application, self._limits, live=live, loop=loop),
            host,
            port,
            ssl=tls,
            backlog=1024,
        )

    def _stop_listening(self, servers: list[asyncio.Server]) -> None:
        while servers:
            servers.pop().close()


def _port(server: asyncio.Server) -> int:
    port: int = server.sockets[0].getsockname()[1]
    return port


def _pool_limits(settings: DataPathSettings) -> PoolLimits:
    return PoolLimits(
        connections=settings.max_endpoint_connections,
        idle_connections=settings.max_idle_connections,
        idle_time=settings.keep_time,
        connect_time=settings.connect_time,
    )


def _client_limits(settings: DataPathSettings) -> ClientLimits:
    return ClientLimits(
        connections=settings.max_connections,
        reader=ReaderLimits(head_bytes=settings.max_head_bytes, body_bytes=settings.max_body_bytes),
        head_time=settings.head_time,
        body_time=settings.body_time,
        idle_time=settings.idle_time,
        write_time=settings.write_time,
    )
