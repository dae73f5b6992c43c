from __future__ import annotations

import pytest

from baton.router.errors import ApiError
from baton.router.relay import Relay
from baton.router.wire.client_response import ClientResponse
from baton.router.wire.failures import ExchangeError, FailureKind
from baton.router.wire.messages import AnswerHead
from transport_fixture import RecordingSource, RecordingTransport

STREAM = AnswerHead(200, [(b"content-type", b"text/event-stream; charset=utf-8"), (b"transfer-encoding", b"chunked")])
JSON = AnswerHead(200, [(b"content-type", b"application/json"), (b"content-length", b"4")])
DONE = b"data: [DONE]\n\n"


class Rig:
    def __init__(self, *, keep_bytes: int = 100, is_generation: bool = True) -> None:
        self.transport = RecordingTransport()
        # HTTP/1.0, so that the body is written without framing.
        self.response = ClientResponse(self.transport, keep_alive=True, is_http11=False)
        self.first_bytes = 0
        self.relay = Relay(
            self.response,
            headers=[(b"x-own", b"1")],
            keep_bytes=keep_bytes,
            is_generation=is_generation,
            on_first_byte=self.notice,
        )

    def notice(self) -> None:
        self.first_bytes += 1

    @property
    def body(self) -> bytes:
        return self.transport.written.partition(b"\r\n\r\n")[2]


def test_a_stream_is_one_write_for_each_read() -> None:
    rig = Rig()
    rig.relay.on_head(STREAM)
    assert not rig.response.is_started

    rig.relay.on_body(b"data: 1\n\n")
    rig.relay.on_body(b"data: 2\n\ndata: 3\n\n")
    rig.relay.on_body(DONE)
    rig.relay.on_end()

    assert len(rig.transport.writes) == 3
    assert rig.body == b"data: 1\n\ndata: 2\n\ndata: 3\n\n" + DONE
    assert rig.first_bytes == 1
    assert rig.response.is_ended


def test_headers_are_the_engines_and_the_routers_own() -> None:
    rig = Rig()
    rig.relay.on_head(
        AnswerHead(201, [(b"server", b"uvicorn"), (b"x-request-id", b"engine"), (b"connection", b"close")])
    )
    rig.relay.on_end()

    head = rig.transport.written
    assert head == b"HTTP/1.1 201 Created\r\nserver: uvicorn\r\nx-own: 1\r\ncontent-length: 0\r\n\r\n"


def test_only_whole_events_are_passed_on() -> None:
    rig = Rig()
    rig.relay.on_head(STREAM)

    rig.relay.on_body(b"data: 1\n\ndata: ")
    assert rig.body == b"data: 1\n\n"
    rig.relay.on_body(b"2\n")
    assert rig.body == b"data: 1\n\n"
    rig.relay.on_body(b"\ndata: 3")

    assert rig.body == b"data: 1\n\ndata: 2\n\n"


def test_events_may_end_with_carriage_returns() -> None:
    rig = Rig()
    rig.relay.on_head(STREAM)

    rig.relay.on_body(b"data: 1\r\n\r\ndata: 2")
    rig.relay.on_body(b"\r\n\r\ndata: [DONE]\r\n\r\n")
    rig.relay.on_end()

    assert rig.body == b"data: 1\r\n\r\ndata: 2\r\n\r\ndata: [DONE]\r\n\r\n"


def test_an_error_comes_as_an_event_of_its_own() -> None:
    rig = Rig()
    rig.relay.on_head(STREAM)
    rig.relay.on_body(b'data: 1\n\ndata: {"half')

    rig.relay.break_off(ApiError(502, "a_code", "Why."))

    events = rig.body.split(b"\n\n")
    assert events[0] == b"data: 1"
    assert b'"code":"a_code"' in events[1]
    assert events[2] == b""
    assert (rig.response.is_ended, rig.response.keep_alive) == (True, False)


@pytest.mark.parametrize("end", [b"", b"data: 1\n\n", b'data: "data: [DONE]"\n\n', b"data: [DONE]x\n\n"])
def test_a_stream_without_its_last_event_is_not_whole(end: bytes) -> None:
    rig = Rig()
    rig.relay.on_head(STREAM)
    if end:
        rig.relay.on_body(end)

    with pytest.raises(ExchangeError) as caught:
        rig.relay.on_end()
    assert caught.value.kind is FailureKind.TRUNCATED
    assert not rig.response.is_ended


def test_the_last_event_needs_no_blank_line() -> None:
    rig = Rig()
    rig.relay.on_head(STREAM)

    rig.relay.on_body(b"data: [DONE]")
    rig.relay.on_end()

    assert rig.body == b"data: [DONE]"


def test_streams_of_other_calls_end_as_they_like() -> None:
    rig = Rig(is_generation=False)
    rig.relay.on_head(STREAM)

    rig.relay.on_body(b"event: done\ndata: {}\n\n")
    rig.relay.on_end()

    assert rig.response.is_ended


def test_a_stream_of_no_events_is_an_answer_too() -> None:
    rig = Rig(is_generation=False)
    rig.relay.on_head(STREAM)

    rig.relay.on_end()

    assert rig.transport.written.startswith(b"HTTP/1.1 200 OK")
    assert rig.response.is_ended


def test_an_endless_event_is_passed_on_in_pieces() -> None:
    rig = Rig()
    rig.relay.on_head(STREAM)
    piece = b"x" * 700_000

    rig.relay.on_body(piece)
    assert rig.body == b""
    rig.relay.on_body(piece)
    assert rig.body == piece * 2
    rig.relay.on_body(b"y")
    rig.relay.on_body(b"\n\n" + DONE)

    assert rig.body == piece * 2 + b"y\n\n" + DONE


def test_any_other_answer_is_kept_until_it_is_whole() -> None:
    rig = Rig()
    rig.relay.on_head(JSON)
    rig.relay.on_body(b"{ ")
    rig.relay.on_body(b" }")
    assert not rig.response.is_started

    rig.relay.on_end()

    assert rig.transport.writes == [
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-own: 1\r\ncontent-length: 4\r\n\r\n{  }"
    ]


def test_an_answer_too_large_to_keep_is_passed_on_in_pieces() -> None:
    rig = Rig(keep_bytes=3)
    rig.relay.on_head(JSON)

    for piece in (b"12", b"34", b"56"):
        rig.relay.on_body(piece)
    assert rig.body == b"123456"
    rig.relay.on_end()

    assert rig.response.is_ended


def test_what_is_passed_on_in_pieces_can_only_be_cut() -> None:
    rig = Rig(keep_bytes=1)
    rig.relay.on_head(JSON)
    rig.relay.on_body(b"12")

    rig.relay.break_off(ApiError(502, "a_code", "Why."))

    assert rig.body == b"12"
    assert not rig.response.is_ended


@pytest.mark.parametrize(
    ("answer", "head"),
    [
        (b'{"text":"\\"prompt_tokens\\": 1","usage":{"prompt_tokens": 7,"completion_tokens":9}}', JSON),
        (b'data: {"usage":{"prompt_tokens":7,"total_tokens":16,"completion_tokens":9}}\n\n' + DONE, STREAM),
    ],
)
def test_tokens_are_counted_where_the_answer_tells_them(answer: bytes, head: AnswerHead) -> None:
    rig = Rig()
    rig.relay.on_head(head)
    rig.relay.on_body(answer)
    rig.relay.on_end()

    assert rig.relay.token_counts() == (7, 9)


def test_tokens_are_unknown_where_it_does_not() -> None:
    rig = Rig()
    rig.relay.on_head(STREAM)
    rig.relay.on_body(DONE)
    rig.relay.on_end()

    assert rig.relay.token_counts() == (None, None)


def test_the_clients_pace_governs_the_engine() -> None:
    rig = Rig()
    source = RecordingSource()
    rig.relay.on_start(source)

    rig.response.pause()

    assert source.calls == ["pause"]


def test_an_answer_that_the_engine_gave_up_is_none() -> None:
    rig = Rig(keep_bytes=1000)
    rig.relay.on_head(JSON)
    rig.relay.on_body(b'{"choices":[{"finish_reason":"stop","stop_reason":"recomputed"}]}')

    with pytest.raises(ExchangeError) as caught:
        rig.relay.on_end()
    assert caught.value.kind is FailureKind.RECOMPUTED
    assert not rig.response.is_started


@pytest.mark.parametrize("head", [JSON, AnswerHead(404, STREAM.headers)])
def test_an_engine_that_would_not_go_on_with_a_stream_writes_nothing_into_it(head: AnswerHead) -> None:
    rig = Rig()
    rig.relay.on_head(STREAM)
    rig.relay.on_body(b"data: 1\n\n")
    second = Relay(rig.response, headers=[], keep_bytes=100, is_generation=True, on_first_byte=rig.notice)

    with pytest.raises(ExchangeError) as caught:
        second.on_head(head)
    assert caught.value.kind is FailureKind.REPLAY_REFUSED
    second.break_off(ApiError(502, "a_code", "Why."))
    assert b'"code":"a_code"' in rig.body
