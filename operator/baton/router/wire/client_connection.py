"""One client's connection: requests in, one after the other, each answered before the next is begun.

Knows no path and no content: the application serves the requests and words the refusals.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast

from baton.router.wire.client_response import ClientResponse
from baton.router.wire.deadline import Deadline
from baton.router.wire.messages import Refusal, Request
from baton.router.wire.request_reader import ReaderLimits, RequestReader, Stage
from baton.telemetry.logs import event

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from baton.router.wire.live_connections import LiveConnections

_logger = logging.getLogger(__name__)

_PIPELINED = 8
"""Whole requests that may wait behind the one being served before the router stops reading."""

_LINGER_TIME = 2.0
"""Seconds in which a refused client may read why: closing at once would reset the connection under the answer."""

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """What a client may use: connections in all, bytes, and seconds.

    `idle_time` is between requests, `head_time` from the first byte of a head to its last, `body_time` the same for the
    body, `write_time` how long a client may take nothing of its answer.
    """

    connections: int
    reader: ReaderLimits
    head_time: float
    body_time: float
    idle_time: float
    write_time: float


class Application(Protocol):
    """What answers the requests."""

    def serve(self, request: Request, response: ClientResponse) -> Coroutine[Any, Any, None]:
        """Answer a request. Cancelled when the client leaves or the server is cut off (`response.is_cut`)."""

    def refuse(self, refusal: Refusal, response: ClientResponse) -> None:
        """Answer, at once, a client whose request could not be read."""


class ClientConnection(asyncio.Protocol):
    """A client's connection; it is in `live` until it is closed and whatever was serving it has ended."""

    _transport: asyncio.Transport

    def __init__(
        self,
        application: Application,
        limits: ClientLimits,
        *,
        live: LiveConnections,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._application = application
        self._limits = limits
        self._live = live
        self._loop = loop
        self._reader = RequestReader(limits.reader)
        self._waiting: deque[Request] = deque()
        self._response: ClientResponse | None = None
        self._task: asyncio.Task[None] | None = None
        self._deadline = Deadline(loop, self._expire)
        self._timed = (-1, Stage.IDLE)
        self._is_draining = False
        self._is_closing = False
        self._is_lost = False
        self._is_reading = True
        self._is_writable = True

    def drain(self) -> None:
        """Answer what has been sent, then close."""
        self._is_draining = True
        if self._response is not None:
            self._response.close_after()
        elif self._reader.stage is Stage.IDLE:
            self._close()

    def cut(self) -> None:
        """Cancel what is being served, so that it ends in words, or close at once when nothing is."""
        if self._response is not None and self._task is not None:
            self._response.is_cut = True
            self._response.close_after()
            self._task.cancel()
        else:
            self._transport.abort()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    # For the loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, or refuse one connection too many."""
        self._transport = cast("asyncio.Transport", transport)
        self._live.add(self)
        if len(self._live) > self._limits.connections:
            self._refuse(Refusal(503, "The router has as many connections as it may have."), may_linger=False)
        else:
            self._advance()

    def data_received(self, data: bytes) -> None:
        """Read, and serve what is whole."""
        if not self._is_closing:
            self._waiting.extend(self._reader.feed(data))
            self._advance()

    def eof_received(self) -> bool:
        """Take a half-closed connection for a client that has left: it is how most of them leave."""
        self._leave()
        self._deadline.set(self._loop.time() + self._limits.write_time)
        return False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 # asyncio's signature
        """End everything, whatever the reason."""
        self._is_lost = True
        self._deadline.cancel()
        self._leave()
        if self._task is None:
            self._live.discard(self)

    def pause_writing(self) -> None:
        """Stop the source of the answer."""
        self._is_writable = False
        self._deadline.set(self._loop.time() + self._limits.write_time)
        if self._response is not None:
            self._response.pause()

    def resume_writing(self) -> None:
        """Let the source of the answer go on."""
        self._is_writable = True
        self._timed = (-1, Stage.IDLE)
        if self._is_closing:
            return
        self._deadline.clear()
        if self._response is not None:
            self._response.resume()
        else:
            self._advance()

    # Everything below ends in one of: serving, waiting for bytes, closing.

    def _advance(self) -> None:
        if self._response is None:
            self._step()
        has_room = len(self._waiting) < _PIPELINED
        if has_room != self._is_reading and not self._transport.is_closing():
            self._is_reading = has_room
            (self._transport.resume_reading if has_room else self._transport.pause_reading)()

    def _step(self) -> None:
        if not self._is_writable:
            return
        if self._waiting:
            self._serve_next(self._waiting.popleft())
        elif self._reader.refusal is not None:
            self._refuse(self._reader.refusal)
        else:
            self._await_bytes()

    def _await_bytes(self) -> None:
        if self._reader.expects_continue:
            self._reader.expects_continue = False
            self._transport.write(_CONTINUE)
        timed = (self._reader.messages, self._reader.stage)
        if timed != self._timed:
            self._timed = timed
            self._deadline.set(self._loop.time() + self._time_for(self._reader.stage))

    def _time_for(self, stage: Stage) -> float:
        match stage:
            case Stage.IDLE:
                return self._limits.idle_time
            case Stage.HEAD:
                return self._limits.head_time
            case Stage.BODY:
                return self._limits.body_time

    def _serve_next(self, request: Request) -> None:
        self._deadline.clear()
        self._timed = (-1, Stage.IDLE)
        self._response = ClientResponse(
            self._transport,
            keep_alive=request.keep_alive and not self._is_draining,
            is_http11=request.is_http11,
            is_head_request=request.method == "HEAD",
        )
        self._task = self._loop.create_task(self._application.serve(request, self._response))
        self._task.add_done_callback(self._served)

    def _served(self, task: asyncio.Task[None]) -> None:
        response, self._response, self._task = self._response, None, None
        if not task.cancelled() and (error := task.exception()) is not None:
            event(_logger, logging.ERROR, "application failed", exc_info=error)
        if self._is_lost:
            self._live.discard(self)
        elif response is not None and not response.is_gone:
            self._after(response)

    def _after(self, response: ClientResponse) -> None:
        if not response.is_ended:
            self._transport.abort()
        elif not response.keep_alive:
            self._close()
        else:
            self._advance()

    def _refuse(self, refusal: Refusal, *, may_linger: bool = True) -> None:
        response = ClientResponse(self._transport, keep_alive=False)
        self._application.refuse(refusal, response)
        self._is_closing = True
        if may_linger and self._transport.can_write_eof():
            self._transport.write_eof()
            self._deadline.set(self._loop.time() + _LINGER_TIME)
        else:
            self._close()

    def _close(self) -> None:
        self._is_closing = True
        self._deadline.set(self._loop.time() + self._limits.write_time)
        self._transport.close()

    def _leave(self) -> None:
        self._is_closing = True
        self._waiting.clear()
        if self._response is not None and self._task is not None and not self._response.is_gone:
            self._response.is_gone = True
            self._task.cancel()

    def _expire(self) -> None:
        if self._is_closing or not self._is_writable:
            self._transport.abort()
        elif self._reader.stage is Stage.IDLE:
            self._close()
        else:
            self._refuse(Refusal(408, "The request did not arrive in time."))
