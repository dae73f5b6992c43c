"""Listening sockets: opens them, and serves connections on them until they are stopped. Answers no request."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import TYPE_CHECKING

from baton.router.start_error import StartError
from baton.router.wire.client_connection import ClientConnection
from baton.router.wire.live_connections import LiveConnections

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable

    from baton.router.wire.client_connection import Application, ClientLimits

_BACKLOG = 1024
"""Connections that the kernel keeps until they are accepted."""


class Listeners:
    """The listeners of one application. `live` holds the connections that came through them."""

    def __init__(self, application: Application, limits: ClientLimits) -> None:
        self.live = LiveConnections()
        self._application = application
        self._limits = limits
        self._servers: list[asyncio.Server] = []

    async def serve(self, sockets: Iterable[socket.socket], *, tls: ssl.SSLContext | None = None) -> None:
        """Accept connections on these sockets, which belong to the listeners from now on."""
        loop = asyncio.get_running_loop()
        for opened in sockets:
            server = await loop.create_server(
                lambda: ClientConnection(self._application, self._limits, live=self.live, loop=loop),
                sock=opened,
                ssl=tls,
                backlog=_BACKLOG,
            )
            self._servers.append(server)

    def stop(self) -> None:
        """Accept no more connections."""
        while self._servers:
            self._servers.pop().close()

    async def close(self, within: float) -> None:
        """Stop, and close all connections at once; wait so many seconds for what they were doing to end."""
        self.stop()
        for connection in self.live:
            connection.abort()
        await self.live.wait_empty(asyncio.get_running_loop().time() + within)


async def open_sockets(host: str, port: int, *, option: str, is_shared: bool = False) -> list[socket.socket]:
    """Listen on every address of a host, on a free port if 0 is asked for, the same for all addresses.

    `is_shared` lets other sockets listen on the same port: the kernel spreads new connections over them (SO_REUSEPORT).

    Raises:
        StartError: there is no such address, or the port is taken; the message names `option` as the cure.

    """
    opened: list[socket.socket] = []
    try:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in dict.fromkeys(found):
            port = port or (port_of(opened) if opened else 0)
            new = socket.socket(family, kind, protocol)
            opened.append(new)
            _bind(new, (address[0], port, *address[2:]), is_shared=is_shared)
    except OSError as error:
        for new in opened:
            new.close()
        reason = error.strerror if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)
        raise StartError(
            f"cannot listen on {host} port {port}: {reason}; choose another place with {option}"
        ) from error
    return opened


def place_of(sockets: list[socket.socket]) -> str:
    """Return address and port of the first socket, as people write them."""
    host, port = sockets[0].getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def port_of(sockets: list[socket.socket]) -> int:
    """Return the port that sockets listen on."""
    port: int = sockets[0].getsockname()[1]
    return port


def _bind(new: socket.socket, address: tuple[object, ...], *, is_shared: bool) -> None:
    new.setblocking(False)
    new.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if is_shared:
        new.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if new.family is socket.AF_INET6:
        # IPv4 has a socket of its own where it is wanted.
        new.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    new.bind(address)
    new.listen(_BACKLOG)
