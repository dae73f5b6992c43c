"""Sends one call to the API server: connections, time limits, credentials, retries, and errors by kind.

Knows no resources; baton.kube.client builds the paths and the bodies.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import aiohttp
import orjson
from typing_extensions import override

from baton import __version__
from baton.kube.errors import CONNECTION_LOST, NOT_SENT, SILENCE, TIMEOUT, ApiError, Fenced, Transient, error_from
from baton.kube.retry import RetryBudget
from baton.telemetry import metrics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from types import TracebackType

    from aiohttp.abc import AbstractStreamWriter

    from baton.kube.access import Access
    from baton.kube.types import JsonObject

_CONNECT_TIMEOUT = 10.0  # seconds
_KEEP_ALIVE = 55.0  # seconds; the API server closes idle connections after 90
_STREAM_BUFFER = 2**18
_HEADERS = {
    "Accept": "application/json",
    "Accept-Encoding": "identity",  # gzip costs the API server more than it saves inside a cluster
    "User-Agent": f"baton/{__version__}",
}


@dataclass(frozen=True, slots=True)
class Call:
    """One call. `verb` names it in metrics, `timeout` is in seconds and bounds one try."""

    verb: str
    method: str
    path: str
    timeout: float
    query: dict[str, str] | None = None
    body: bytes | None = None
    content_type: str = "application/json"

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


class Transport:
    """One HTTP session with an API server, and at most `connections` calls at a time. Streams don't count.

    The time limit of a call begins when it is its turn. A call that the server's flow control puts off keeps its
    place among the `connections`, so that the pressure falls on the callers. `may_write` is asked before each write,
    a second time when it would leave; False is a Fenced.
    """

    def __init__(
        self,
        access: Access,
        *,
        connections: int,
        may_write: Callable[[], bool] = lambda: True,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._access = access
        self._may_write = may_write
        self._slots = asyncio.Semaphore(connections)
        self._jitter = jitter
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=0, ssl=self._access.tls or True, keepalive_timeout=_KEEP_ALIVE)
        self._session = aiohttp.ClientSession(connector=connector, headers=_HEADERS)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def send(self, call: Call) -> JsonObject:
        """Return the answer's object. Raises an ApiError of a fitting kind."""
        budget = RetryBudget(idempotent=call.method != "POST", jitter=self._jitter)
        async with self._slots:
            while True:
                try:
                    return await self._try(call)
                except ApiError as error:
                    wait = budget.wait_after(error)
                    if wait is None:
                        raise
                await asyncio.sleep(wait)

    @asynccontextmanager
    async def stream(self, call: Call, *, silence: float) -> AsyncIterator[Callable[[], Awaitable[bytes]]]:
        """Open an endless answer and yield what reads its next chunk, empty at the end.

        More than `silence` seconds without a byte is a Transient for SILENCE.
        """
        limits = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT, sock_read=silence)
        async with self._opened(call, limits) as response:

            async def read() -> bytes:
                with _mapped_errors(call):
                    try:
                        return await response.content.readany()
                    except TimeoutError as error:
                        raise Transient(0, SILENCE, f"{call}: silent for {silence:g} s") from error

            yield read

    async def _try(self, call: Call) -> JsonObject:
        loop = asyncio.get_running_loop()
        started = loop.time()
        limits = aiohttp.ClientTimeout(total=call.timeout, sock_connect=_CONNECT_TIMEOUT)
        try:
            async with self._opened(call, limits) as response:
                with _mapped_errors(call):
                    body = await response.read()
        finally:
            metrics.REST_DURATION.labels(call.verb).observe(loop.time() - started)
        answer = _parsed(body)
        if answer is None:
            raise Transient(response.status, "NotJson", f"{call}: the answer is not a JSON object")
        return answer

    @asynccontextmanager
    async def _opened(self, call: Call, limits: aiohttp.ClientTimeout) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send the call, a second time with fresh credentials if they are refused; yield only good answers."""
        authorization = self._access.authorization
        header = await authorization.header()
        response = await self._request(call, limits, header)
        try:
            if response.status == 401:
                fresh = await authorization.header_after_refusal(header)
                if fresh != header:
                    response.release()
                    response = await self._request(call, limits, fresh)
            if response.status >= 300:
                raise await _error_of(call, response)
            yield response
        finally:
            response.release()

    async def _request(self, call: Call, limits: aiohttp.ClientTimeout, header: str | None) -> aiohttp.ClientResponse:
        if self._session is None:
            raise RuntimeError("the client is not open: use it in an async with block")
        headers = {} if header is None else {"Authorization": header}
        body = None
        if call.body is not None:
            if not self._may_write():
                raise Fenced(0, "NotLeading", f"{call}: not sent, this process does not lead")
            headers["Content-Type"] = call.content_type
            body = _GuardedBody(call.body, self._may_write)
        code = "error"
        try:
            with _mapped_errors(call):
                response = await self._session.request(
                    call.method,
                    self._access.url + call.path,
                    params=call.query,
                    data=body,
                    headers=headers,
                    timeout=limits,
                    proxy=self._access.proxy,
                    server_hostname=self._access.server_name,
                    allow_redirects=False,
                    read_bufsize=_STREAM_BUFFER,
                )
            code = str(response.status)
        finally:
            metrics.REST_REQUESTS.labels(call.verb, code).inc()
        return response


class _GuardedBody(aiohttp.BytesPayload):
    """A body that asks once more when its connection is there: that may have taken seconds, or the process was paused.

    Headers leave together with it, so nothing was sent before.
    """

    def __init__(self, value: bytes, may_write: Callable[[], bool]) -> None:
        super().__init__(value)
        self._may_write = may_write

    @override
    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        if not self._may_write():
            raise ConnectionAbortedError("this process does not lead any more")
        await super().write_with_length(writer, content_length)


async def _error_of(call: Call, response: aiohttp.ClientResponse) -> ApiError:
    with _mapped_errors(call):
        body = await response.read()
    status = _parsed(body)
    if status is None or status.get("kind") != "Status":
        # Not from the API server itself: a load balancer or a proxy on the way.
        text = body[:200].decode(errors="replace").strip()
        status = {"message": f"{call}: {text or response.reason}"}
    return error_from(status, code=response.status, retry_after=_seconds(response.headers.get("Retry-After")))


def _parsed(body: bytes) -> JsonObject | None:
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return parsed if isinstance(parsed, dict) else None


def _seconds(text: str | None) -> float | None:
    return float(text) if text is not None and text.isdecimal() else None


@contextmanager
def _mapped_errors(call: Call) -> Iterator[None]:
    try:
        yield
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
        raise Transient(0, NOT_SENT, f"{call}: no connection: {error}") from error
    except TimeoutError as error:
        raise Transient(0, TIMEOUT, f"{call}: nothing heard within the time limit") from error
    except (aiohttp.ClientError, OSError) as error:
        raise Transient(0, CONNECTION_LOST, f"{call}: connection lost: {str(error) or type(error).__name__}") from error
