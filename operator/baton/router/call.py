"""One client's request as connectors see it, and the two ways to ask an engine: for a whole answer, or into a sink.

After a stream broke off the request of its replay takes the client's place: `going_on_with`.

Decides no order of calls (connectors do) and no retries (the handler does).
"""

from __future__ import annotations

import asyncio
from copy import copy
from typing import TYPE_CHECKING

from baton.api.traffic import Protocol
from baton.router.wire.exchange import exchange
from baton.router.wire.failures import OF_THE_REQUEST, ExchangeError, FailureKind
from baton.router.wire.messages import HOP_BY_HOP, AnswerHead, end_to_end, render_headers
from baton.router.wire.pool import Address

if TYPE_CHECKING:
    from baton.router.client_body import ClientBody
    from baton.router.data_path_settings import DataPathSettings
    from baton.router.directory import Directory
    from baton.router.metaserver import Metaserver
    from baton.router.reclaim import Reclaimer
    from baton.router.wire.exchange import Linger
    from baton.router.wire.messages import Request
    from baton.router.wire.pool import ConnectionPool
    from baton.router.wire.upstream_connection import Sink, Source
    from baton.routing.types import Endpoint, Match

# Written anew for each engine; and engines are not to compress what the router has to read.
_HIDDEN = HOP_BY_HOP | {b"host", b"content-length", b"expect", b"accept-encoding", b"x-request-id"}


class UpstreamError(Exception):
    """A call of an engine that brought no usable answer. The message is a sentence that names the endpoint."""

    def __init__(self, endpoint: Endpoint, kind: FailureKind, message: str) -> None:
        super().__init__(f"{endpoint.phase.value} endpoint {endpoint.name} {message}")
        self.endpoint = endpoint
        self.kind = kind


class Answer:
    """A sink that keeps the whole answer of an endpoint: `head` and, once it has ended (`is_whole`), `body`."""

    def __init__(self, endpoint: Endpoint, *, limit: int) -> None:
        self.endpoint = endpoint
        self.head = AnswerHead(0, [])
        self.body = b""
        self.is_whole = False
        self._limit = limit
        self._size = 0
        self._pieces: list[bytes] = []

    def on_start(self, source: Source) -> None:
        """Begin; nothing here is slow, so the source is never paused."""

    def on_head(self, head: AnswerHead) -> None:
        """Keep the head."""
        self.head = head

    def on_body(self, data: bytes) -> None:
        """Keep a piece."""
        self._size += len(data)
        if self._size > self._limit:
            raise ExchangeError(FailureKind.TOO_LARGE, f"answered with more than {self._limit} bytes")
        self._pieces.append(data)

    def on_end(self) -> None:
        """Put the pieces together."""
        self.body = b"".join(self._pieces)
        self.is_whole = True


class Call:
    """A client's request on its way. `deadline`, by the loop's clock, is for the first byte that the client gets.

    Every call of an engine carries the client's end-to-end headers and the same X-Request-Id. `reclaimer` is for
    connectors whose prefill holds KV, `metaserver` for those whose decode calls back.
    """

    def __init__(
        self,
        request: Request,
        body: ClientBody,
        *,
        match: Match,
        request_id: str,
        deadline: float,
        pool: ConnectionPool,
        directory: Directory,
        settings: DataPathSettings,
        reclaimer: Reclaimer,
        metaserver: Metaserver,
    ) -> None:
        """Take the request and what it matched."""
        self.body = body
        self.match = match
        self.deadline = deadline
        self.settings = settings
        self.reclaimer = reclaimer
        self.metaserver = metaserver
        self.request_id = request_id
        self._pool = pool
        self._directory = directory
        self._first_line = b"POST %b HTTP/1.1\r\n" % request.target
        self._headers = render_headers(end_to_end(request.headers, hidden=_HIDDEN))

    @property
    def model(self) -> str | None:
        """The name the engines know, None for the client's own."""
        return self.match.model

    def going_on_with(self, body: ClientBody, *, path: str | None, deadline: float) -> Call:
        """Return the call of a replay: other body, other path unless None, the rest as it is."""
        call = copy(self)
        call.body, call.deadline = body, deadline
        if path is not None:
            call._first_line = b"POST %b HTTP/1.1\r\n" % path.encode()  # noqa: SLF001 # it is one of this class
        return call

    def renamed(self, request_id: str) -> Call:
        """Return this call under another X-Request-Id."""
        call = copy(self)
        call.request_id = request_id
        return call

    def expect(self, endpoint: Endpoint) -> Answer:
        """Return the sink for a whole answer."""
        return Answer(endpoint, limit=self.settings.max_answer_bytes)

    async def fetch(self, answer: Answer, body: bytes, *, within: float, linger: Linger | None = None) -> None:
        """Have an engine's whole answer, its status below 500, within so many seconds. Raises UpstreamError.

        `linger` is that of baton.router.wire.exchange.
        """
        await self.stream(answer.endpoint, body, answer, within=within, linger=linger)

    async def stream(
        self, endpoint: Endpoint, body: bytes, sink: Sink, *, within: float | None = None, linger: Linger | None = None
    ) -> None:
        """Put an engine's answer, its status below 500, into the sink. Raises UpstreamError.

        `within` limits the time to the first byte further, to so many seconds from now.
        """
        deadline = self.deadline
        if within is not None:
            deadline = min(deadline, asyncio.get_running_loop().time() + within)
        await self._exchange(endpoint, body, sink, deadline=deadline, linger=linger)

    async def _exchange(
        self, endpoint: Endpoint, body: bytes, sink: Sink, *, deadline: float, linger: Linger | None
    ) -> None:
        host = f"[{endpoint.address}]" if ":" in endpoint.address else endpoint.address
        own = f"host: {host}:{endpoint.port}\r\ncontent-length: {len(body)}\r\nx-request-id: {self.request_id}\r\n"
        head = b"%b%b%b\r\n" % (self._first_line, own.encode(), self._headers)
        address = Address(endpoint.address, endpoint.port, endpoint.protocol is Protocol.HTTPS)
        try:
            await exchange(
                self._pool,
                address,
                (head, body),
                sink,
                deadline=deadline,
                stall_time=self.settings.stall_time,
                linger=linger,
            )
        except ExchangeError as error:
            if error.kind not in OF_THE_REQUEST and error.kind is not FailureKind.TOO_LARGE:
                self._directory.failed(endpoint)
            raise UpstreamError(endpoint, error.kind, str(error)) from None
        self._directory.answered(endpoint)
