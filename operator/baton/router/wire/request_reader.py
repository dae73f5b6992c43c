"""Turns a client's bytes into whole requests, within limits, and refuses what could be read in two ways.

Does no I/O: wire.client_connection feeds it. RFC 9112 is the source of what is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

import httptools

from baton.router.wire.messages import Header, Refusal, Request, named_in_connection, render_headers

_OVERHEAD = 32
"""What a header line counts besides its bytes, so that many short ones are bounded too (as in RFC 9113, 6.5.2)."""

_ONCE = frozenset({b"host", b"content-length", b"transfer-encoding", b"content-type", b"authorization", b"expect"})


class Stage(Enum):
    """Where in a message the reader is."""

    IDLE = auto()
    HEAD = auto()
    BODY = auto()


@dataclass(frozen=True, slots=True)
class ReaderLimits:
    """Bytes of a head (trailers included) and of a body."""

    head_bytes: int
    body_bytes: int


class _StoppedError(Exception):
    """Stops the parser; why is kept in the reader."""


class RequestReader:
    """Reads requests one after the other.

    After a refusal, and after a request that ends the connection (`is_finished`), further bytes are ignored.
    `messages` counts those begun. `expects_continue` is true while a client waits for `100 Continue` to send the body.
    """

    def __init__(self, limits: ReaderLimits) -> None:
        self.stage = Stage.IDLE
        self.messages = 0
        self.refusal: Refusal | None = None
        self.is_finished = False
        self.expects_continue = False
        self._limits = limits
        self._parser = httptools.HttpRequestParser(self)
        self._complete: list[Request] = []
        self._target = b""
        self._headers: list[Header] = []
        self._head_bytes = 0
        self._unfinished_bytes = 0
        self._pieces: list[bytes] = []
        self._body_bytes = 0
        self._keep_alive = True
        self._is_upgrade = False

    def feed(self, data: bytes) -> list[Request]:
        """Read bytes and return the requests they complete, in order."""
        if self.is_finished or self.refusal:
            return []
        own_message = self.messages + (self.stage is Stage.IDLE)
        try:
            self._parse(data)
        except httptools.HttpParserError as error:
            self._end_with(error)
        if self.stage is Stage.HEAD and self.messages == own_message:
            # All of it belongs to one head. The parser keeps an unfinished line to itself: count what it was given.
            self._count_unfinished(len(data))
        complete, self._complete = self._complete, []
        return complete

    def _end_with(self, error: httptools.HttpParserError) -> None:
        if not self.is_finished and self.refusal is None:
            self.refusal = Refusal(400, f"The request is not valid HTTP/1.1: {error}.")

    def _parse(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            # The parser stops at an offer to upgrade, body unread (Java's client makes one with every request). The
            # offer is declined by reading the same request without it.
            rest = data[upgrade.args[0] :]
            head = self._head_without_upgrade()
            self._parser = httptools.HttpRequestParser(self)
            try:
                self._parser.feed_data(head + rest)
            except httptools.HttpParserUpgrade:
                self.refusal = Refusal(400, "Only one request at a time may offer an upgrade.")

    def _head_without_upgrade(self) -> bytes:
        self._is_upgrade = False
        names = (b"upgrade", b"connection", b"http2-settings")
        kept = render_headers(line for line in self._headers if line[0] not in names)
        return b"%b %b HTTP/1.1\r\n%b\r\n" % (self._parser.get_method(), self._target, kept)

    def _count_unfinished(self, size: int) -> None:
        self._unfinished_bytes += size
        if self._unfinished_bytes > self._limits.head_bytes and self.refusal is None:
            self.refusal = self._head_too_large()

    def _head_too_large(self) -> Refusal:
        return Refusal(431, f"The request's headers exceed the limit of {self._limits.head_bytes} bytes.")

    def _body_too_large(self) -> Refusal:
        return Refusal(413, f"The request's body exceeds the limit of {self._limits.body_bytes} bytes.")

    def _refuse(self, refusal: Refusal) -> None:
        self.refusal = refusal
        raise _StoppedError

    # The parser's callbacks.

    def on_message_begin(self) -> None:
        """Forget the message before, or stop when there may be no other."""
        if self.is_finished:
            raise _StoppedError
        self.stage = Stage.HEAD
        self.messages += 1
        self._target = b""
        self._headers = []
        self._head_bytes = 0
        self._unfinished_bytes = 0
        self._pieces = []
        self._body_bytes = 0

    def on_url(self, url: bytes) -> None:
        """Take a part of the target."""
        self._target += url
        self._head_bytes += len(url)
        if self._head_bytes > self._limits.head_bytes:
            self._refuse(self._head_too_large())

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header line; trailers count and are dropped."""
        self._head_bytes += len(name) + len(value) + _OVERHEAD
        if self._head_bytes > self._limits.head_bytes:
            self._refuse(self._head_too_large())
        if self.stage is Stage.HEAD:
            self._headers.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        """Judge the head before any of the body is taken."""
        if self._parser.get_method() == b"CONNECT":
            self._refuse(Refusal(405, "CONNECT is not supported."))
        if self._parser.should_upgrade():
            self._is_upgrade = True
            return
        self.stage = Stage.BODY
        version = self._parser.get_http_version()
        single = [name for name, _ in self._headers if name in _ONCE]
        if len(single) != len(set(single)):
            self._refuse(Refusal(400, f"A header is sent twice that may be sent once: {_repeated(single)}."))
        if version not in {"1.0", "1.1"}:
            self._refuse(Refusal(505, "Only HTTP/1.0 and HTTP/1.1 are supported."))
        self._judge_framing({name: value for name, value in self._headers if name in _ONCE}, version=version)
        self._keep_alive = version == "1.1" and b"close" not in named_in_connection(self._headers)

    def _judge_framing(self, single: dict[bytes, bytes], *, version: str) -> None:
        if version == "1.1" and b"host" not in single:
            self._refuse(Refusal(400, "An HTTP/1.1 request needs a Host header."))
        if (coding := single.get(b"transfer-encoding")) is not None:
            if version == "1.0":
                self._refuse(Refusal(400, "HTTP/1.0 has no Transfer-Encoding."))
            if coding.lower() != b"chunked":
                self._refuse(Refusal(501, "The only Transfer-Encoding supported is chunked."))
        length = int(single.get(b"content-length") or 0)
        if length > self._limits.body_bytes:
            self._refuse(self._body_too_large())
        if (expectation := single.get(b"expect")) is not None and version == "1.1":
            if expectation.lower() != b"100-continue":
                self._refuse(Refusal(417, "The only expectation supported is 100-continue."))
            self.expects_continue = length > 0 or coding is not None

    def on_body(self, data: bytes) -> None:
        """Take a part of the body."""
        self.expects_continue = False
        self._body_bytes += len(data)
        if self._body_bytes > self._limits.body_bytes:
            self._refuse(self._body_too_large())
        self._pieces.append(data)

    def on_message_complete(self) -> None:
        """Hand out the request."""
        if self._is_upgrade:
            return
        self.stage = Stage.IDLE
        self.expects_continue = False
        target = _origin_form(self._target)
        self._complete.append(
            Request(
                method=self._parser.get_method().decode("ascii"),
                target=target,
                path=target.partition(b"?")[0].decode("latin-1"),
                headers=self._headers,
                body=self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces),
                keep_alive=self._keep_alive,
                is_http11=self._parser.get_http_version() == "1.1",
            )
        )
        self._pieces = []
        self.is_finished = not self._keep_alive


def _repeated(names: list[bytes]) -> str:
    return ", ".join(sorted({name.decode("ascii") for name in names if names.count(name) > 1}))


def _origin_form(target: bytes) -> bytes:
    """Return a target without scheme and host, which a client sends that takes the router for its proxy."""
    if target.startswith(b"/"):
        return target
    _, scheme, rest = target.partition(b"://")
    return b"/" + rest.partition(b"/")[2] if scheme else target
