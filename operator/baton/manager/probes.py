"""Serves /healthz, /readyz and /metrics of the operator process. Judges by what it is handed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Probes:
    """A small HTTP server; each check returns an empty string, or what is wrong."""

    def __init__(self, *, live: Mapping[str, Callable[[], str]], ready: Mapping[str, Callable[[], str]]) -> None:
        self._live = live
        self._ready = ready
        app = web.Application()
        app.add_routes(
            [
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._metrics),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None)

    async def start(self, host: str, port: int) -> int:
        """Listen; return the port. Raises OSError when the address is taken."""
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port)
        await site.start()
        address: tuple[str, int] = self._runner.addresses[0]
        return address[1]

    async def close(self) -> None:
        """Stop listening."""
        await self._runner.cleanup()

    async def _healthz(self, _: web.Request) -> web.Response:
        return _verdict(self._live)

    async def _readyz(self, _: web.Request) -> web.Response:
        return _verdict(self._ready)

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})


def _verdict(checks: Mapping[str, Callable[[], str]]) -> web.Response:
    failing = [f"{name}: {text}" for name, check in checks.items() if (text := check())]
    return web.Response(status=503 if failing else 200, text="\n".join(failing or ["ok"]) + "\n")
