"""One connection to an engine: a request out, the answer as callbacks to a sink, one exchange at a time.

Opens no connection and keeps none for later: wire.pool does.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast

from baton.router.wire.deadline import Deadline
from baton.router.wire.failures import ExchangeError, FailureKind, StaleConnectionError
from baton.router.wire.response_reader import ResponseReader

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from baton.router.wire.messages import AnswerHead

_EXCERPT_BYTES = 300
"""How much of an engine's error body goes into the message."""


class Source(Protocol):
    """What can be told to stop reading for a while, because the reader of its bytes is slow."""

    def pause(self) -> None:
        """Read no more until `resume`."""

    def resume(self) -> None:
        """Read on."""


class Sink(Protocol):
    """Takes an engine's answer, piece by piece. All but `on_start` may raise ExchangeError, which ends the exchange."""

    def on_start(self, source: Source) -> None:
        """Take the handle for back-pressure. Called again when the request has to be sent again."""

    def on_head(self, head: AnswerHead) -> None:
        """Take status (below 500) and headers."""

    def on_body(self, data: bytes) -> None:
        """Take what one read brought of the body; never empty."""

    def on_end(self) -> None:
        """Notice that the answer is whole."""


@dataclass(slots=True)
class _Exchange:
    sink: Sink
    stall_time: float
    done: asyncio.Future[None]
    has_body: bool = False


class UpstreamConnection(asyncio.Protocol):
    """A connection to an engine. It is idle (`is_idle`) when it may carry another exchange."""

    _transport: asyncio.Transport

    def __init__(self, loop: asyncio.AbstractEventLoop, on_lost: Callable[[UpstreamConnection], None]) -> None:
        self.idle_since = 0.0
        self._loop = loop
        self._on_lost = on_lost
        self._is_reused = False
        self._is_half_closed = False
        self._is_paused = False
        self._time_left = 0.0
        self._deadline = Deadline(loop, self._expire)
        self._reader = ResponseReader()
        self._exchange: _Exchange | None = None

    @property
    def is_idle(self) -> bool:
        """Whether the connection is open and may carry another exchange."""
        return self._exchange is None and not self._transport.is_closing()

    def send(self, request: Sequence[bytes], sink: Sink, *, deadline: float, stall_time: float) -> asyncio.Future[None]:
        """Send a request; the future ends with the answer, or with ExchangeError or StaleConnectionError.

        `deadline`, by the loop's clock, is for the first byte of the body; after that every `stall_time` seconds must
        bring something, except while the sink has paused. Needs an idle connection. Whoever no longer waits for the
        future calls `abandon`.
        """
        done = self._loop.create_future()
        if self._transport.is_closing():
            done.set_exception(StaleConnectionError())
            return done
        self._exchange = _Exchange(sink, stall_time, done)
        self._reader.reset()
        self._deadline.set(deadline)
        sink.on_start(self)
        self._transport.writelines(request)
        return done

    def leave(self) -> asyncio.Future[None] | None:
        """Close the sending side, by which the engine sees its client leave, and go on reading.

        Return the future of what it may have answered before; None if there is nothing to wait for, or no way to (TLS).
        """
        if self._exchange is None or self._transport.is_closing() or not self._transport.can_write_eof():
            return None
        self._transport.write_eof()
        self._is_half_closed = True
        self._exchange.done = self._loop.create_future()
        return self._exchange.done

    def abandon(self) -> None:
        """Close the connection at once, whatever is going on; the engine sees its client leave."""
        self._forget()
        self._transport.abort()

    # For the sink.

    def pause(self) -> None:
        """Read no more until `resume`."""
        if self._exchange is not None and not self._is_paused and not self._transport.is_closing():
            self._is_paused = True
            self._time_left = self._deadline.when - self._loop.time()
            self._deadline.clear()
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self._is_paused:
            self._is_paused = False
            if self._exchange is not None:
                self._deadline.set(self._loop.time() + self._time_left)
            if not self._transport.is_closing():
                self._transport.resume_reading()

    # For the loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Hand on what came. This runs once a streamed chunk: the hot path."""
        exchange = self._exchange
        if exchange is None:
            self.abandon()  # bytes that nobody asked for
            return
        reader = self._reader
        try:
            had_head = reader.head is not None
            body = reader.feed(data)
            if not had_head and reader.head is not None:
                self._begin(exchange, reader.head)
            if body:
                exchange.has_body = True
                if not reader.is_complete:
                    self._deadline.set(self._loop.time() + exchange.stall_time)
                exchange.sink.on_body(body)
            if reader.is_complete:
                self._end(exchange)
        except ExchangeError as error:
            self._fail(error)

    def connection_lost(self, exc: Exception | None) -> None:
        """End what was going on."""
        exchange = self._exchange
        if exchange is not None:
            self._end_with_connection(exchange, exc)
        self._deadline.cancel()
        self._on_lost(self)

    def _begin(self, exchange: _Exchange, head: AnswerHead) -> None:
        if head.status >= 500:
            exchange.sink = _EngineErrorSink(head.status)
        else:
            exchange.sink.on_head(head)

    def _end(self, exchange: _Exchange) -> None:
        exchange.sink.on_end()
        self._forget()
        self._is_reused = True
        # What is left of the request (the engine answered early) would be read as the next one.
        if not self._reader.keep_alive or self._is_half_closed or self._transport.get_write_buffer_size():
            self._transport.abort()
        if not exchange.done.done():
            exchange.done.set_result(None)

    def _end_with_connection(self, exchange: _Exchange, exc: Exception | None) -> None:
        if exc is None and self._reader.ends_with_connection():
            try:
                self._end(exchange)
            except ExchangeError as error:
                self._fail(error)
        elif self._reader.has_begun:
            self._fail(ExchangeError(FailureKind.BROKEN_OFF, "closed the connection in the middle of its answer"))
        elif self._is_reused:
            self._fail(StaleConnectionError())
        else:
            self._fail(ExchangeError(FailureKind.CLOSED, "closed the connection without an answer"))

    def _fail(self, error: Exception) -> None:
        exchange = self._exchange
        self.abandon()
        if exchange is not None and not exchange.done.done():
            exchange.done.set_exception(error)

    def _forget(self) -> None:
        self._exchange = None
        self._deadline.clear()  # its timer stays for the next exchange
        self.resume()

    def _expire(self) -> None:
        exchange = self._exchange
        if exchange is not None and exchange.has_body:
            self._fail(ExchangeError(FailureKind.STALLED, f"sent nothing for {exchange.stall_time:g} seconds"))
        else:
            self._fail(ExchangeError(FailureKind.TIMEOUT, "did not answer in time"))


class _EngineErrorSink:
    """Takes answers of 500 and above: the client never sees them, the error's message carries their beginning."""

    def __init__(self, status: int) -> None:
        self._status = status
        self._excerpt = b""

    def on_start(self, source: Source) -> None:
        """Need no back-pressure."""

    def on_head(self, head: AnswerHead) -> None:
        """Know the status already."""

    def on_body(self, data: bytes) -> None:
        """Keep the beginning, and wait for no more."""
        self._excerpt += data
        if len(self._excerpt) >= _EXCERPT_BYTES:
            self.on_end()

    def on_end(self) -> None:
        """Fail the exchange."""
        text = self._excerpt[:_EXCERPT_BYTES].decode(errors="replace").strip()
        raise ExchangeError(FailureKind.ENGINE_ERROR, f"answered {self._status}" + (f": {text}" if text else ""))
