"""A proxy before a real API server that refuses calls, loses calls and answers, and breaks watches, by a random source.

It also kills whoever it is told to between two writes. Speaks plain HTTP on the loopback; changes no call.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import orjson
import yaml
from aiohttp import ClientSession, ClientTimeout, TCPConnector, web

from baton.kube.clock import SystemClock
from baton.kube.kubeconfig import kubeconfig_access

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from random import Random

_HOP_BY_HOP = frozenset({"Connection", "Content-Length", "Host", "Keep-Alive", "Transfer-Encoding"})
_KEPT = frozenset({"Content-Encoding", "Content-Type", "Retry-After"})
_REFUSALS = ((429, "TooManyRequests"), (503, "ServiceUnavailable"), (403, "Forbidden"), (409, "Conflict"))
"""For writes; reads are refused with 503 alone."""
_PATIENCE = 5.0
"""Seconds in which calls may end when the proxy does; one that is cut off while it connects leaves a socket behind."""
_CLOSING = 0.25
"""Seconds in which TLS connections that were closed really end; aiohttp does not wait for them."""
_LONGEST_ANSWER = 60.0
"""Seconds for a call that is no watch."""


@dataclass
class Kill:
    """Who dies at which write from now on (1: the next), and whether the server gets to see that write."""

    write: int
    is_sent: bool
    act: Callable[[], None]


class FaultyProxy:
    """Use it in an `async with` block; clients take the kubeconfig `kubeconfig`, which it writes.

    `rate` is the share of calls that are refused, and once more of those whose answer is lost. Events of the operator
    (the objects) are not counted among the writes.
    """

    def __init__(self, upstream: Path, kubeconfig: Path, random: Random) -> None:
        self.kubeconfig = kubeconfig
        self.rate = 0.0
        self.kill: Kill | None = None
        self.writes: list[str] = []
        """Method and path of each, in order."""
        self.faults = 0
        self._document = yaml.safe_load(upstream.read_text())
        self._upstream = upstream
        self._random = random
        self._watches: dict[asyncio.Task[object], web.Request] = {}
        application = web.Application(client_max_size=1 << 24)
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=_PATIENCE)

    async def __aenter__(self) -> Self:
        access = await kubeconfig_access(str(self._upstream), context=None, clock=SystemClock())
        self._server = access.url
        self._session = ClientSession(
            connector=TCPConnector(ssl=access.tls or True, limit=0),
            timeout=ClientTimeout(total=None),
            auto_decompress=False,
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0]
        self._document["clusters"][0]["cluster"] = {"server": f"http://{host}:{port}"}
        self.kubeconfig.write_text(yaml.safe_dump(self._document))
        return self

    async def __aexit__(self, *_: object) -> None:
        watches = list(self._watches)
        for watch in watches:
            watch.cancel()
        await asyncio.gather(*watches, return_exceptions=True)
        await self._runner.cleanup()
        await self._session.close()
        await asyncio.sleep(_CLOSING)

    def break_watches(self) -> None:
        """Break all watches that are open."""
        for request in list(self._watches.values()):
            _abort(request)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if request.query.get("watch") == "true":
            return await self._stream(request)
        is_write = request.method != "GET" and not request.path.endswith("/events")
        dice = self._random.random()
        if dice < self.rate:
            self.faults += 1
            return _refusal(*(self._random.choice(_REFUSALS) if is_write else _REFUSALS[1]))
        kill = self._take_kill() if is_write else None
        if kill is not None and not kill.is_sent:
            kill.act()
            return _abort(request)
        answer = await self._forward(request)
        if is_write:
            self.writes.append(f"{request.method} {request.path}")
        if kill is not None:
            kill.act()
            return _abort(request)
        if dice < 2 * self.rate:
            self.faults += 1
            return _abort(request)
        return answer

    def _take_kill(self) -> Kill | None:
        """Count a write; return the kill if its time has come."""
        if self.kill is None:
            return None
        self.kill.write -= 1
        if self.kill.write > 0:
            return None
        kill, self.kill = self.kill, None
        return kill

    async def _forward(self, request: web.Request) -> web.Response:
        async with self._session.request(
            request.method,
            f"{self._server}{request.raw_path}",
            headers=_passed(request.headers),
            data=await request.read() or None,
            timeout=ClientTimeout(total=_LONGEST_ANSWER),
        ) as answer:
            content = await answer.read()
            return web.Response(status=answer.status, body=content, headers=_kept(answer.headers))

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None
        self._watches[task] = request
        try:
            async with self._session.get(
                f"{self._server}{request.raw_path}", headers=_passed(request.headers)
            ) as answer:
                response = web.StreamResponse(status=answer.status, headers=_kept(answer.headers))
                await response.prepare(request)
                with suppress(ConnectionError):  # the client has gone
                    async for chunk in answer.content.iter_any():
                        await response.write(chunk)
                return response
        finally:
            del self._watches[task]


def _passed(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.title() not in _HOP_BY_HOP}


def _kept(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.title() in _KEPT}


def _refusal(status: int, reason: str) -> web.Response:
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status, "reason": reason}
    headers = {"Retry-After": "1"} if status == 429 else {}
    text = orjson.dumps({**body, "message": "refused by the proxy"}).decode()
    return web.Response(status=status, text=text, content_type="application/json", headers=headers)


def _abort(request: web.Request) -> web.Response:
    """Break the connection; the response that the framework wants goes nowhere."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()
