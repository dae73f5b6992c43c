"""Turns an engine's bytes into the parts of one answer. Does no I/O, keeps no body."""

from __future__ import annotations

import httptools

from baton.router.wire.failures import ExchangeError, FailureKind
from baton.router.wire.messages import AnswerHead, Header

_HEAD_BYTES = 256 * 1024
"""Bytes of an answer's head, interim answers and trailers included: far above what any engine sends."""


class ResponseReader:
    """Reads the answers of one connection; `reset` before each.

    `head` is set once it has been read (interim 1xx answers are skipped); `is_complete` when the body has ended. Then
    `keep_alive` says whether the connection can carry another exchange.
    """

    __slots__ = (
        "_head_bytes",
        "_headers",
        "_parser",
        "_pieces",
        "_until_close",
        "has_begun",
        "head",
        "is_complete",
        "keep_alive",
    )

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self.reset()

    def reset(self) -> None:
        """Forget the answer before."""
        self.head: AnswerHead | None = None
        self.has_begun = False
        self.is_complete = False
        self.keep_alive = False
        self._headers: list[Header] = []
        self._head_bytes = 0
        self._until_close = False
        self._pieces: list[bytes] = []

    def feed(self, data: bytes) -> bytes:
        """Read bytes and return the part of the body in them, in one piece. Raises ExchangeError."""
        self.has_begun = True
        pieces = self._pieces = []
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            raise ExchangeError(FailureKind.MALFORMED, "switched to another protocol") from None
        except httptools.HttpParserError as error:
            if isinstance(error.__context__, ExchangeError):
                raise error.__context__ from None
            if not self.is_complete:
                raise ExchangeError(FailureKind.MALFORMED, f"sent invalid HTTP: {error}") from None
            self.keep_alive = False
        if self.head is None:
            # The parser keeps an unfinished line to itself: count what it was given.
            self._count(len(data))
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def ends_with_connection(self) -> bool:
        """Whether the end of the connection is the proper end of this answer."""
        return self._until_close and not self.is_complete

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > _HEAD_BYTES:
            raise ExchangeError(FailureKind.MALFORMED, f"sent more than {_HEAD_BYTES} bytes of headers")

    # The parser's callbacks.

    def on_message_begin(self) -> None:
        """Notice bytes beyond the answer: they belong to no request, so the connection is not used again."""
        self._headers = []
        if self.is_complete:
            self.keep_alive = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header line; trailers count and are dropped."""
        self._count(len(name) + len(value))
        if self.head is None:
            self._headers.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        """Publish the head, unless it is an interim one."""
        status = self._parser.get_status_code()
        if self.head is not None or 100 <= status < 200:
            return
        names = {name for name, _ in self._headers}
        if b"transfer-encoding" in names:
            codings = [value.lower() for name, value in self._headers if name == b"transfer-encoding"]
            if codings != [b"chunked"]:
                raise ExchangeError(FailureKind.MALFORMED, "used a transfer encoding other than chunked")
        elif b"content-length" not in names:
            self._until_close = True
        self.head = AnswerHead(status, self._headers)

    def on_body(self, data: bytes) -> None:
        """Take a part of the body."""
        self._pieces.append(data)

    def on_message_complete(self) -> None:
        """Notice the end of the answer."""
        if self.head is not None and not self.is_complete:
            self.is_complete = True
            self.keep_alive = self._parser.should_keep_alive()
