"""Where decode engines call back that are asked first: "here are my blocks, have them filled" (mooncake-layerwise).

Takes the calls and gives each to the request that waits for it; asks no engine. A process listens for itself, on a port
of its own and only once it needs to, so that a callback reaches the very process that asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import socket
from typing import TYPE_CHECKING

import orjson

from baton.router.errors import JSON, SHOWN, ApiError, render_error
from baton.router.wire.client_connection import ClientConnection, ClientLimits
from baton.router.wire.live_connections import LiveConnections
from baton.telemetry.logs import event

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import Any

    from baton.router.wire.client_response import ClientResponse
    from baton.router.wire.messages import Refusal, Request

_logger = logging.getLogger(__name__)

PATH = "/v1/metaserver"

_PORTS = 64
"""Ports tried from the configured one on: processes of one machine each take their own."""

_MOST_WAITING = 8
"""Callbacks of one request that may wait to be looked at."""

_LAST_WORDS_TIME = 1.0
"""Seconds that connections have to end when the router closes."""

# vLLM's ids: the endpoint's prefix before the router's X-Request-Id, and for a completion the prompt's number after it.
_CHAT_ID = re.compile(r"chatcmpl-(.+)")
_COMPLETION_ID = re.compile(r"cmpl-(.+)-0")


class Callbacks:
    """The callbacks of one request, oldest first."""

    def __init__(self, url: str) -> None:
        """Tell decode to call `url`."""
        self.url = url
        self._waiting: asyncio.Queue[bytes] = asyncio.Queue(_MOST_WAITING)

    async def next(self) -> bytes:
        """Wait for a callback and return it: a JSON object, the KV parameters for prefill."""
        return await self._waiting.get()

    def add(self, callback: bytes) -> bool:
        """Keep a callback; False when too many wait."""
        if self._waiting.full():
            return False
        self._waiting.put_nowait(callback)
        return True


class Metaserver:
    """Listens from the first request that expects callbacks until `close`."""

    def __init__(self, limits: ClientLimits, *, host: str | None = None, port: int = 0) -> None:
        """Listen on `host`, an address that decode engines reach; None means this machine's on the default route.

        The port is the first free one from `port` on, any free one for 0.
        """
        self._limits = limits
        self._host = host
        self._port = port
        self._url = ""
        self._starting = asyncio.Lock()
        self._server: asyncio.Server | None = None
        self._live = LiveConnections()
        self._expected: dict[str, Callbacks] = {}

    @property
    def expected(self) -> int:
        """How many requests may get callbacks now."""
        return len(self._expected)

    @contextlib.asynccontextmanager
    async def expect(self, request_id: str) -> AsyncIterator[Callbacks]:
        """Take the callbacks of the request with this id, which nobody else can guess and no other request has."""
        async with self._starting:
            if self._server is None:
                await self._start()
        callbacks = self._expected[request_id] = Callbacks(self._url)
        try:
            yield callbacks
        finally:
            del self._expected[request_id]

    async def close(self) -> None:
        """Stop at once."""
        if self._server is not None:
            self._server.close()
        for connection in self._live:
            connection.abort()
        await self._live.wait_empty(asyncio.get_running_loop().time() + _LAST_WORDS_TIME)

    async def serve(self, request: Request, response: ClientResponse) -> None:
        """Answer a callback; the engine's scheduler waits, so at once."""
        error = self._take(request)
        if error is None:
            response.send(200, [JSON], b"{}")
        else:
            self._answer_error(error, response)

    def refuse(self, refusal: Refusal, response: ClientResponse) -> None:
        """Answer what could not be read."""
        self._answer_error(ApiError(refusal.status, "invalid_request", refusal.message), response)

    def _take(self, request: Request) -> ApiError | None:
        if request.path != PATH:
            return ApiError(404, "unknown_path", f"There is no {request.path[:SHOWN]} here.")
        if request.method != "POST":
            return ApiError(405, "wrong_method", f"{PATH} takes POST.", headers=((b"allow", b"POST"),))
        request_id = _request_id(request.body)
        if isinstance(request_id, ApiError):
            return request_id
        callbacks = self._expected.get(request_id)
        if callbacks is None:
            message = f"No request {request_id[:SHOWN]} waits here: it has ended, or another process asked."
            return ApiError(404, "unknown_request", message, param="request_id")
        if not callbacks.add(request.body):
            return ApiError(429, "too_many_callbacks", f"{_MOST_WAITING} callbacks of this request wait already.")
        return None

    def _answer_error(self, error: ApiError, response: ClientResponse) -> None:
        event(_logger, logging.WARNING, "callback refused", status=error.status, error=error.message)
        response.send(error.status, [JSON, *error.headers], render_error(error))

    async def _start(self) -> None:
        host = self._host or own_address()
        loop = asyncio.get_running_loop()
        for port in range(self._port, self._port + _PORTS) if self._port else (0,):
            try:
                self._server = await loop.create_server(
                    lambda: ClientConnection(self, self._limits, live=self._live, loop=loop), host, port
                )
            except OSError as error:
                event(_logger, logging.DEBUG, "port taken", host=host, port=port, error=str(error))
                continue
            bound = self._server.sockets[0].getsockname()[1]
            self._url = f"http://[{host}]:{bound}{PATH}" if ":" in host else f"http://{host}:{bound}{PATH}"
            event(_logger, logging.INFO, "listening for callbacks of decode engines", url=self._url)
            return
        raise MetaserverError(
            f"cannot listen on {host} from port {self._port} on for callbacks of decode engines; choose another place "
            "with --metaserver-host and --metaserver-port"
        )


class MetaserverError(Exception):
    """Nothing listens for callbacks; the message says where and the cure."""


def own_address() -> str:
    """Return this machine's address towards the default route, a loopback address if there is none; sends nothing.

    In a pod that is the pod's address.
    """
    # RFC 5737 and 3849: addresses of nobody.
    for family, nobody in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((nobody, 9))
            return str(probe.getsockname()[0])
    return "127.0.0.1"


def _request_id(body: bytes) -> str | ApiError:
    try:
        content: Any = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        return ApiError(400, "invalid_request", f"The body is not valid JSON: {error}.")
    if not isinstance(content, dict) or content.get("do_remote_decode") is not True:
        return ApiError(
            400, "invalid_request", "The body must be the KV parameters for a prefill, do_remote_decode true."
        )
    given = content.get("request_id")
    found = isinstance(given, str) and (_CHAT_ID.fullmatch(given) or _COMPLETION_ID.fullmatch(given))
    if not found:
        message = "The field 'request_id' must be chatcmpl-ID or cmpl-ID-0, with the X-Request-Id that decode was sent."
        return ApiError(400, "invalid_request", message, param="request_id")
    return found[1]
