from __future__ import annotations

import pytest

from baton.router.wire.request_reader import ReaderLimits, RequestReader, Stage

LIMITS = ReaderLimits(head_bytes=1000, body_bytes=100)
POST = b"POST /v1/x?q=1 HTTP/1.1\r\nHost: a\r\n"


def reader(*, head: int = 1000, body: int = 100) -> RequestReader:
    return RequestReader(ReaderLimits(head_bytes=head, body_bytes=body))


def test_a_request_is_read_with_its_body() -> None:
    [request] = reader().feed(POST + b"X-A:  b \t\r\nContent-Length: 3\r\n\r\nabc")

    assert (request.method, request.target, request.path) == ("POST", b"/v1/x?q=1", "/v1/x")
    assert request.headers == [(b"host", b"a"), (b"x-a", b"b"), (b"content-length", b"3")]
    assert request.body == b"abc"
    assert request.keep_alive
    assert request.is_http11


def test_a_chunked_body_is_put_together_and_its_trailers_are_dropped() -> None:
    chunks = b"3;ext=1\r\nabc\r\n2\r\nde\r\n0\r\nX-Trailer: t\r\n\r\n"

    [request] = reader().feed(POST + b"Transfer-Encoding: Chunked\r\n\r\n" + chunks)

    assert request.body == b"abcde"
    assert request.header(b"x-trailer") is None


def test_pipelined_requests_come_in_order() -> None:
    requests = reader().feed(b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\nGET /3")

    assert [request.path for request in requests] == ["/1", "/2"]


def test_a_proxy_style_target_is_served_by_its_path() -> None:
    targets = [
        (request.target, request.path)
        for target in (b"http://a:1/v1/y?q=/z", b"http://a", b"*")
        for request in reader().feed(b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n")
    ]

    assert targets == [(b"/v1/y?q=/z", "/v1/y"), (b"/", "/"), (b"*", "*")]


@pytest.mark.parametrize(
    ("head", "status"),
    [
        pytest.param(POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 400, id="length and coding"),
        pytest.param(POST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n", 400, id="coding and length"),
        pytest.param(POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\n", 400, id="two lengths"),
        pytest.param(POST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\n", 400, id="one length twice"),
        pytest.param(POST + b"Content-Length: 3, 3\r\n\r\n", 400, id="list of lengths"),
        pytest.param(POST + b"Content-Length: +3\r\n\r\n", 400, id="signed length"),
        pytest.param(POST + b"Content-Length: 99999999999999999999\r\n\r\n", 400, id="length overflows"),
        pytest.param(POST + b"Content-Length : 3\r\n\r\n", 400, id="blank before the colon"),
        pytest.param(POST + b"X: a\r\n b: c\r\n\r\n", 400, id="folded line"),
        pytest.param(POST + b"X: a\rb\r\n\r\n", 400, id="bare CR"),
        pytest.param(POST + b"X: a\0b\r\n\r\n", 400, id="NUL"),
        pytest.param(b"POST / HTTP/1.1\nHost: a\n\n", 400, id="bare LF"),
        pytest.param(POST + b"Transfer-Encoding: identity\r\n\r\n", 501, id="identity coding"),
        pytest.param(POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n", 501, id="compressed body"),
        pytest.param(POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n", 400, id="chunked is not last"),
        pytest.param(POST + b"Transfer-Encoding: xchunked\r\n\r\n", 501, id="unknown coding"),
        pytest.param(POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n", 400, id="two codings"),
        pytest.param(POST + b"Transfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n", 400, id="bad chunk size"),
        pytest.param(POST + b"Transfer-Encoding: chunked\r\n\r\n3\nabc\n", 400, id="LF after the chunk size"),
        pytest.param(POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n", 400, id="chunk longer than said"),
        pytest.param(POST + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n", 400, id="chunk overflows"),
        pytest.param(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400, id="coding in HTTP/1.0"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", 400, id="no host"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, id="two hosts"),
        pytest.param(b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505, id="HTTP/2.0"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, id="HTTP/2 preface"),
        pytest.param(b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 405, id="CONNECT"),
        pytest.param(b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n", 400, id="unknown method"),
        pytest.param(b"\x16\x03\x01\x02\x00", 400, id="TLS hello"),
        pytest.param(POST + b"Expect: a-pony\r\nContent-Length: 1\r\n\r\n", 417, id="unknown expectation"),
    ],
)
def test_what_can_be_read_in_two_ways_is_refused(head: bytes, status: int) -> None:
    subject = reader()

    assert subject.feed(head) == []
    assert subject.refusal is not None
    assert subject.refusal.status == status
    assert subject.feed(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n") == []


def test_requests_before_a_refused_one_are_still_served() -> None:
    subject = reader()

    [request] = subject.feed(b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGARBAGE\r\n\r\n")

    assert request.path == "/1"
    assert subject.refusal is not None


def test_a_body_over_the_limit_is_refused_before_it_is_sent() -> None:
    subject = reader(body=10)

    assert subject.feed(POST + b"Content-Length: 11\r\n\r\n") == []
    assert subject.refusal is not None
    assert subject.refusal.status == 413


def test_a_chunked_body_is_refused_where_it_passes_the_limit() -> None:
    subject = reader(body=10)

    refusals = []
    for part in (POST + b"Transfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n", b"1\r\n0\r\n"):
        subject.feed(part)
        refusals.append(subject.refusal and subject.refusal.status)

    assert refusals == [None, 413]


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(POST + b"X: " + b"x" * 1000, id="endless value"),
        pytest.param(POST + b"x" * 1000, id="endless name"),
        pytest.param(b"GET /" + b"x" * 1000, id="endless target"),
        pytest.param(POST + b"a:\r\n" * 100, id="many lines"),
        pytest.param(POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"a: b\r\n" * 100, id="many trailers"),
    ],
)
@pytest.mark.parametrize("step", [1, 7, 100_000])
def test_a_head_over_the_limit_is_refused_however_it_comes(head: bytes, step: int) -> None:
    subject = reader(head=500)

    for start in range(0, len(head), step):
        subject.feed(head[start : start + step])
    subject.feed(b"x")

    assert subject.refusal is not None
    assert subject.refusal.status == 431


def test_the_head_limit_does_not_count_the_body_or_the_next_request() -> None:
    subject = reader(head=200, body=1000)
    whole = POST + b"Content-Length: 1000\r\n\r\n" + b"x" * 1000

    requests = subject.feed(whole[:20])
    requests += subject.feed(whole[20:] + POST[:20])
    requests += subject.feed(POST[20:] + b"Content-Length: 0\r\n\r\n")

    assert subject.refusal is None
    assert [len(request.body) for request in requests] == [1000, 0]


@pytest.mark.parametrize(
    "last",
    [
        pytest.param(b"GET /1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", id="close"),
        pytest.param(b"GET /1 HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Close\r\n\r\n", id="close in a list"),
        pytest.param(b"GET /1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", id="HTTP/1.0"),
    ],
)
def test_nothing_is_read_after_the_last_request_of_a_connection(last: bytes) -> None:
    subject = reader()

    requests = subject.feed(last + b"GET /2 HTTP/1.1\r\nHost: a\r\n\r\n")

    assert [(request.path, request.keep_alive) for request in requests] == [("/1", False)]
    assert subject.is_finished
    assert subject.refusal is None


@pytest.mark.parametrize("cut", [10, 60, 90, 105, 1000])
def test_an_offer_to_upgrade_is_declined_and_its_body_read(cut: int) -> None:
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAM\r\nX-A: b\r\n"
    data = POST + offer + b"Content-Length: 3\r\n\r\nabc" + POST + b"Content-Length: 0\r\n\r\n"
    subject = reader()

    first, second = subject.feed(data[:cut]) + subject.feed(data[cut:])

    assert (first.body, first.keep_alive, first.header(b"x-a")) == (b"abc", True, b"b")
    assert first.header(b"upgrade") is None
    assert second.body == b""
    assert subject.refusal is None


def test_offers_to_upgrade_cannot_be_pipelined() -> None:
    offer = POST + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 3\r\n\r\nabc"
    subject = reader()

    [request] = subject.feed(offer + offer)

    assert request.body == b"abc"
    assert subject.refusal is not None
    assert subject.refusal.status == 400


def test_a_client_that_waits_to_be_asked_for_the_body_is_noticed() -> None:
    subject = reader()
    subject.feed(POST + b"Expect: 100-Continue\r\nContent-Length: 3\r\n\r\n")
    assert subject.expects_continue
    assert subject.stage is Stage.BODY

    [request] = subject.feed(b"abc")

    assert request.body == b"abc"
    assert not subject.expects_continue
