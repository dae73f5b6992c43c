"""Bytes may come in any pieces, and be any bytes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from baton.router.relay import Relay
from baton.router.wire.client_response import ClientResponse
from baton.router.wire.failures import ExchangeError
from baton.router.wire.request_reader import ReaderLimits, RequestReader
from baton.router.wire.response_reader import ResponseReader
from transport_fixture import RecordingTransport

LIMITS = ReaderLimits(head_bytes=500, body_bytes=500)
REQUESTS = (
    b"POST /v1/x?a=b HTTP/1.1\r\nHost: a\r\nX-Long: " + b"x" * 100 + b"\r\nContent-Length: 7\r\n\r\n{'a':1}"
    b"POST /v1/y HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;e=1\r\nabc\r\n2\r\nde\r\n0\r\nT: r\r\n\r\n"
    b"POST /v1/u HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nok"
    b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
)
EVENTS = b'data: {"a":1}\n\n: comment\n\ndata: {"b":2}\n\nevent: x\r\ndata: 3\r\n\r\ndata: [DONE]\n\n'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
ANSWER = HEAD + b"".join(
    b"%x\r\n%b\r\n" % (len(EVENTS[i : i + 9]), EVENTS[i : i + 9]) for i in range(0, len(EVENTS), 9)
)
ANSWER += b"0\r\n\r\n"


def pieces(data: bytes) -> st.SearchStrategy[list[bytes]]:
    """Return ways to cut bytes."""
    cuts = st.lists(st.integers(0, len(data)), max_size=12).map(sorted)
    return cuts.map(lambda at: [data[start:end] for start, end in zip([0, *at], [*at, len(data)], strict=True)])


def damaged(data: bytes) -> st.SearchStrategy[bytes]:
    """Return the bytes with a few of them replaced."""
    change = st.tuples(st.integers(0, len(data) - 1), st.binary(max_size=3))

    def apply(changes: list[tuple[int, bytes]]) -> bytes:
        result = data
        for at, new in changes:
            result = result[:at] + new + result[at + 1 :]
        return result

    return st.lists(change, min_size=1, max_size=4).map(apply)


@given(pieces(REQUESTS))
def test_requests_are_the_same_however_they_come(parts: list[bytes]) -> None:
    [*whole] = RequestReader(LIMITS).feed(REQUESTS)
    reader = RequestReader(LIMITS)

    assert [request for part in parts for request in reader.feed(part)] == whole
    assert len(whole) == 4
    assert reader.refusal is None


@given(damaged(REQUESTS).flatmap(pieces))
def test_damaged_requests_are_served_or_refused_the_same_however_they_come(parts: list[bytes]) -> None:
    reader, other = RequestReader(LIMITS), RequestReader(LIMITS)

    cut = [request for part in parts for request in reader.feed(part)]
    whole = other.feed(b"".join(parts))

    assert cut == whole
    assert (reader.refusal is None) == (other.refusal is None)
    assert all(len(request.body) <= LIMITS.body_bytes for request in cut)


@given(pieces(ANSWER))
def test_a_stream_is_the_same_however_it_comes_and_always_whole_events(parts: list[bytes]) -> None:
    transport = RecordingTransport()
    response = ClientResponse(transport, keep_alive=True, is_http11=False)
    relay = Relay(response, headers=[], keep_bytes=1, is_generation=True, on_first_byte=lambda: None)
    reader = ResponseReader()

    for part in parts:
        had_head = reader.head is not None
        body = reader.feed(part)
        if not had_head and reader.head is not None:
            relay.on_head(reader.head)
        if body:
            relay.on_body(body)
        written = transport.written.partition(b"\r\n\r\n")[2]
        assert EVENTS.startswith(written)
        assert not written or written.endswith((b"\n\n", b"\n\r\n"))
    relay.on_end()

    assert reader.is_complete
    assert transport.written.partition(b"\r\n\r\n")[2] == EVENTS


@given(damaged(ANSWER).flatmap(pieces))
def test_a_damaged_answer_is_read_or_fails_and_nothing_else(parts: list[bytes]) -> None:
    reader = ResponseReader()
    size = 0
    try:
        for part in parts:
            size += len(reader.feed(part))
    except ExchangeError:
        return
    assert size <= sum(map(len, parts))
