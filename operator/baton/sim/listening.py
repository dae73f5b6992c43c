"""Listening on a port, with an error that names it. Serves nothing itself."""

from __future__ import annotations

import errno
from typing import Final

from aiohttp import web

_BACKLOG: Final = 1024


class PortUnavailableError(Exception):
    """A port that cannot be listened on."""

    def __init__(self, host: str, port: int, cause: OSError) -> None:
        reason = "another program has it" if cause.errno == errno.EADDRINUSE else cause.strerror or cause
        super().__init__(f"cannot listen on {host} port {port}: {reason}; choose other ports or another host")


async def listen(runner: web.AppRunner, host: str, port: int) -> web.BaseSite:
    """Serve an application on a port; 0 lets the system choose one.

    Raises:
        PortUnavailableError: it is taken or not allowed.
    """
    site = web.TCPSite(runner, host, port, backlog=_BACKLOG)
    try:
        await site.start()
    except OSError as error:
        raise PortUnavailableError(host, port, error) from error
    return site
