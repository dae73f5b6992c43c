"""The answer to one request of a client: framing, and back-pressure for whoever produces it. Decides no content."""

from __future__ import annotations

from typing import TYPE_CHECKING

from baton.router.wire.messages import Header, render_head

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable

    from baton.router.wire.upstream_connection import Source

_WITHOUT_BODY = frozenset({204, 304})


class ClientResponse:
    """Written once, in order: `start`, any number of `write`, `end`; or all of it with `send`.

    `is_gone` says that the client has left (writing is harmless then), `is_cut` that the server is: whoever produces
    the answer has been cancelled and may end it in words. `keep_alive` may be set to False before `start`, and by
    `close_after` at any time. `sent` counts the bytes of the body, without framing.
    """

    __slots__ = (
        "_head",
        "_is_bodyless",
        "_is_chunked",
        "_is_http11",
        "_is_paused",
        "_source",
        "_transport",
        "is_cut",
        "is_ended",
        "is_gone",
        "is_started",
        "keep_alive",
        "sent",
        "status",
    )

    def __init__(
        self,
        transport: asyncio.Transport,
        *,
        keep_alive: bool,
        is_http11: bool = True,
        is_head_request: bool = False,
    ) -> None:
        self.keep_alive = keep_alive
        self.status = 0
        self.sent = 0
        self.is_started = False
        self.is_ended = False
        self.is_gone = False
        self.is_cut = False
        self._transport = transport
        self._is_http11 = is_http11
        self._is_bodyless = is_head_request
        self._is_paused = False
        self._is_chunked = False
        self._head = b""
        self._source: Source | None = None

    def start(self, status: int, headers: Iterable[Header], *, length: int | None = None) -> None:
        """Begin the answer; it leaves with the first bytes of the body, or with the end.

        `length` is the size of the body in bytes. Without it the body is chunked, or ends with the connection for a
        client that speaks HTTP/1.0. `headers` are without framing.
        """
        lines = list(headers)
        if status in _WITHOUT_BODY:
            self._is_bodyless = True
        elif length is not None:
            lines.append((b"content-length", b"%d" % length))
        elif self._is_http11:
            lines.append((b"transfer-encoding", b"chunked"))
            self._is_chunked = not self._is_bodyless
        else:
            self.keep_alive = False
        if not self.keep_alive:
            lines.append((b"connection", b"close"))
        self.status = status
        self.is_started = True
        self._head = render_head(status, lines)

    def write(self, data: bytes) -> None:
        """Send a part of the body, never empty, with one write. This runs once a streamed chunk: the hot path."""
        if self.is_gone or self._is_bodyless:
            return
        self.sent += len(data)
        if self._is_chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        if self._head:
            data = self._head + data
            self._head = b""
        self._transport.write(data)

    def end(self) -> None:
        """Finish the answer."""
        last = self._head + (b"0\r\n\r\n" if self._is_chunked else b"")
        self._head = b""
        self.is_ended = True
        if last and not self.is_gone:
            self._transport.write(last)

    def send(self, status: int, headers: Iterable[Header], body: bytes) -> None:
        """Write a whole answer."""
        self.start(status, headers, length=len(body))
        if body:
            self.write(body)
        self.end()

    def close_after(self) -> None:
        """Close the connection once the answer has ended."""
        self.keep_alive = False

    def follow(self, source: Source) -> None:
        """Take what the answer is produced from, to be paused while the client reads too slowly."""
        self._source = source
        if self._is_paused:
            source.pause()

    def pause(self) -> None:
        """Stop the source: the client does not keep up."""
        self._is_paused = True
        if self._source is not None:
            self._source.pause()

    def resume(self) -> None:
        """Let the source go on."""
        self._is_paused = False
        if self._source is not None:
            self._source.resume()
