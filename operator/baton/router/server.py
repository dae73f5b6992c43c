"""The router as a server: listeners, and the order in which it stops. Reads no configuration: its directory does."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING

from baton.router.application import AdminApplication, RouterApplication
from baton.router.handler import Handler
from baton.router.insight import OwnInsight
from baton.router.listening import Listeners, open_sockets, port_of
from baton.router.metaserver import Metaserver
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
from baton.router.wire.client_connection import ClientLimits
from baton.router.wire.pool import ConnectionPool, PoolLimits
from baton.router.wire.request_reader import ReaderLimits
from baton.telemetry import router_metrics

if TYPE_CHECKING:
    import socket
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
        metaserver_host: str | None = None,
        metaserver_port: int = 0,
    ) -> None:
        """Make ids by `request_ids` for requests without one; `engine_tls` is for engines that speak HTTPS.

        `administration` adds the paths by which people change the list of engines. `metaserver_host` and
        `metaserver_port` say where decode engines call back, as Metaserver takes them.
        """
        self._settings = settings
        self._directory = directory
        self._pool = ConnectionPool(_pool_limits(settings), tls=engine_tls)
        self._reclaimer = Reclaimer(directory)
        self._is_draining = False
        insight = OwnInsight(directory, lambda: self._is_draining)
        limits = client_limits(settings)
        self._metaserver = Metaserver(limits, host=metaserver_host, port=metaserver_port)
        services = Services(settings, directory, self._pool, self._reclaimer, self._metaserver)
        handler = Handler(services, request_ids=request_ids)
        public = public_paths(settings, is_administered=administration is not None)
        admin = admin_paths(is_administered=administration is not None)
        self._public = Listeners(
            RouterApplication(handler, directory, insight, paths=public, administration=administration), limits
        )
        self._admin = Listeners(AdminApplication(insight, paths=admin, administration=administration), limits)

    def __repr__(self) -> str:
        return f"<RouterServer [Clients: {len(self._public.live)}] {self._pool!r}>"

    @property
    def is_ready(self) -> bool:
        """Whether it wants new requests."""
        return self._directory.ready and not self._is_draining

    @property
    def is_idle(self) -> bool:
        """Whether it holds nothing of anybody: no client's connection, none in use at an engine, no KV to free."""
        return (
            not self._public.live
            and not self._pool.in_use
            and self._reclaimer.is_idle
            and not self._metaserver.expected
        )

    async def start(self, host: str, port: int, *, tls: ssl.SSLContext | None = None) -> int:
        """Accept clients and return the port, a free one if 0 is asked for. May be called for several addresses."""
        sockets = await open_sockets(host, port, option="--port")
        await self.serve(sockets, tls=tls)
        return port_of(sockets)

    async def serve(self, sockets: list[socket.socket], *, tls: ssl.SSLContext | None = None) -> None:
        """Accept clients on these sockets."""
        await self._public.serve(sockets, tls=tls)
        router_metrics.CONNECTIONS.set_function(lambda: len(self._public.live))

    async def start_admin(self, host: str, port: int) -> int:
        """Serve probes and metrics on another port, for as long as the router lives; return the port."""
        sockets = await open_sockets(host, port, option="--admin-port")
        await self.serve_admin(sockets)
        return port_of(sockets)

    async def serve_admin(self, sockets: list[socket.socket]) -> None:
        """Serve probes and metrics on these sockets, for as long as the router lives."""
        await self._admin.serve(sockets)

    async def drain(self, within: float) -> int:
        """Stop in uvicorn's order, and return how many connections had to be cut.

        Turn unready, go on for `drain_notice`, stop accepting, close each connection after what it has asked for. What
        is still being served after `within` seconds from now ends with an error that says so.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within
        self._is_draining = True
        await asyncio.sleep(min(self._settings.drain_notice, within))
        self._public.stop()
        await asyncio.sleep(0)  # what has just been accepted becomes a connection now
        clients = self._public.live
        for connection in clients:
            connection.drain()
        await clients.wait_empty(deadline)
        left = await self.cut()
        await self._reclaimer.wait(deadline)
        return left

    async def cut(self) -> int:
        """End what is being served with an error that says so, now, and return how many connections that were."""
        loop = asyncio.get_running_loop()
        clients = self._public.live
        left = len(clients)
        for connection in clients:
            connection.cut()
        await clients.wait_empty(loop.time() + _LAST_WORDS_TIME)
        await self._reclaimer.wait(loop.time() + _LAST_WORDS_TIME)
        return left

    async def close(self) -> None:
        """Stop at once whatever is left, the admin listener included. Does nothing the second time."""
        self._is_draining = True
        await self._public.close(_LAST_WORDS_TIME)
        await self._admin.close(_LAST_WORDS_TIME)
        await self._reclaimer.close()
        await self._metaserver.close()
        self._pool.close()


def public_paths(settings: DataPathSettings, *, is_administered: bool) -> Mapping[str, Action]:
    """Return what clients may ask."""
    paths = PUBLIC_PATHS_WITH_METRICS if settings.has_public_metrics else PUBLIC_PATHS
    return {**paths, **STANDALONE_PUBLIC_PATHS} if is_administered else paths


def admin_paths(*, is_administered: bool) -> Mapping[str, Action]:
    """Return what the admin listener may be asked."""
    return {**ADMIN_PATHS, **STANDALONE_ADMIN_PATHS} if is_administered else ADMIN_PATHS


def _pool_limits(settings: DataPathSettings) -> PoolLimits:
    return PoolLimits(
        connections=settings.max_endpoint_connections,
        idle_connections=settings.max_idle_connections,
        idle_time=settings.keep_time,
        connect_time=settings.connect_time,
    )


def client_limits(settings: DataPathSettings) -> ClientLimits:
    """Return what a client may use."""
    return ClientLimits(
        connections=settings.max_connections,
        reader=ReaderLimits(head_bytes=settings.max_head_bytes, body_bytes=settings.max_body_bytes),
        head_time=settings.head_time,
        body_time=settings.body_time,
        idle_time=settings.idle_time,
        write_time=settings.write_time,
    )
