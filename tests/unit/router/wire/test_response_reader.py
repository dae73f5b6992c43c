from __future__ import annotations

import pytest

from baton.router.wire.failures import ExchangeError, FailureKind
from baton.router.wire.response_reader import ResponseReader

OK = b"HTTP/1.1 200 OK\r\n"


def test_the_chunks_of_one_read_come_in_one_piece() -> None:
    reader = ResponseReader()

    body = reader.feed(OK + b"X-A:  b \r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n1\r\n")

    assert reader.head is not None
    assert reader.head.status == 200
    assert reader.head.header(b"x-a") == b"b"
    assert body == b"abcde"
    assert reader.feed(b"f\r\n0\r\nTrailer: t\r\n\r\n") == b"f"
    assert reader.is_complete
    assert reader.keep_alive


@pytest.mark.parametrize(
    ("answer", "keep_alive"),
    [
        (OK + b"Content-Length: 3\r\n\r\nabc", True),
        (OK + b"Connection: close\r\nContent-Length: 3\r\n\r\nabc", False),
        (OK + b"Connection: keep-alive, close\r\nContent-Length: 3\r\n\r\nabc", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc", False),
        (b"HTTP/1.1 204 No Content\r\n\r\n", True),
        (OK + b"Content-Length: 3\r\n\r\nabcHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", False),
        (OK + b"Content-Length: 3\r\n\r\nabcX", False),
    ],
)
def test_a_connection_is_kept_only_if_the_answer_leaves_it_clean(answer: bytes, keep_alive: bool) -> None:
    reader = ResponseReader()

    reader.feed(answer)

    assert reader.is_complete
    assert reader.keep_alive is keep_alive


def test_interim_answers_are_skipped() -> None:
    reader = ResponseReader()

    body = reader.feed(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: x\r\n\r\n" + OK)
    body += reader.feed(b"Content-Length: 2\r\n\r\nab")

    assert reader.head is not None
    assert reader.head.headers == [(b"content-length", b"2")]
    assert (body, reader.is_complete) == (b"ab", True)


def test_an_answer_without_framing_ends_with_the_connection() -> None:
    reader = ResponseReader()

    assert reader.feed(OK + b"\r\nabc") == b"abc"
    assert not reader.is_complete
    assert reader.ends_with_connection()


def test_an_answer_with_framing_does_not_end_with_the_connection() -> None:
    reader = ResponseReader()
    reader.feed(OK + b"Content-Length: 5\r\n\r\nabc")

    assert not reader.ends_with_connection()


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"SSH-2.0-OpenSSH\r\n", id="not HTTP"),
        pytest.param(OK + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", id="length and coding"),
        pytest.param(OK + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\n", id="two lengths"),
        pytest.param(OK + b"Transfer-Encoding: gzip\r\n\r\n", id="compressed"),
        pytest.param(OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", id="bad chunk size"),
        pytest.param(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", id="another protocol"),
        pytest.param(OK + b"X: " + b"x" * 300_000, id="endless head"),
        pytest.param(b"HTTP/1.1 100 Continue\r\nA: b\r\n\r\n" * 200_000, id="endless interim answers"),
    ],
)
def test_an_invalid_answer_fails_the_exchange(answer: bytes) -> None:
    with pytest.raises(ExchangeError) as caught:
        ResponseReader().feed(answer)

    assert caught.value.kind is FailureKind.MALFORMED
