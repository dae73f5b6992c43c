"""What a message is once it has been read, and how heads are written. Reads no bytes and does no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

Header = tuple[bytes, bytes]
"""A header line; the name is in lower case."""

# RFC 9110, section 7.6.1: they describe one connection and must not be passed on.
HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)

_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}


@dataclass(frozen=True, slots=True)
class Request:
    """One whole request of a client. `target` is as it was sent, without scheme and host, `path` also without query."""

    method: str
    target: bytes
    path: str
    headers: list[Header]
    body: bytes
    keep_alive: bool
    is_http11: bool

    def header(self, name: bytes) -> bytes | None:
        """Return the first value of a header; the name is in lower case."""
        for key, value in self.headers:
            if key == name:
                return value
        return None


@dataclass(frozen=True, slots=True)
class AnswerHead:
    """Status and headers of an engine's answer."""

    status: int
    headers: list[Header]

    def header(self, name: bytes) -> bytes:
        """Return the first value of a header, empty when there is none; the name is in lower case."""
        for key, value in self.headers:
            if key == name:
                return value
        return b""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a client's bytes are not served: the status to answer and a sentence for people."""

    status: int
    message: str


def render_head(status: int, headers: Iterable[Header]) -> bytes:
    """Write status line and headers, with the empty line."""
    first = _STATUS_LINES.get(status) or b"HTTP/1.1 %d Unknown\r\n" % status
    return b"%b%b\r\n" % (first, render_headers(headers))


def render_headers(headers: Iterable[Header]) -> bytes:
    """Write header lines, without the empty line that ends a head."""
    return b"".join([b"%b: %b\r\n" % header for header in headers])


def named_in_connection(headers: Iterable[Header]) -> frozenset[bytes]:
    """Return the header names, and options such as `close`, that Connection headers list."""
    return frozenset(
        token.strip().lower() for name, value in headers if name == b"connection" for token in value.split(b",")
    )


def end_to_end(headers: Iterable[Header], *, hidden: frozenset[bytes]) -> list[Header]:
    """Return the headers to pass on: all but the hidden names (at least HOP_BY_HOP) and those that Connection lists."""
    lines = list(headers)
    named = named_in_connection(lines)
    if named:
        hidden |= named
    return [line for line in lines if line[0] not in hidden]
