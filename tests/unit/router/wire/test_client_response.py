from __future__ import annotations

from baton.router.wire.client_response import ClientResponse
from transport_fixture import RecordingSource, RecordingTransport


def make(**options: bool) -> tuple[ClientResponse, RecordingTransport]:
    transport = RecordingTransport()
    return ClientResponse(transport, **({"keep_alive": True} | options)), transport


def test_a_whole_answer_is_one_write() -> None:
    response, transport = make()

    response.send(200, [(b"a", b"b")], b"body")

    assert transport.writes == [b"HTTP/1.1 200 OK\r\na: b\r\ncontent-length: 4\r\n\r\nbody"]
    assert (response.is_ended, response.sent, response.status) == (True, 4, 200)


def test_a_stream_is_chunked_and_its_head_leaves_with_the_first_piece() -> None:
    response, transport = make()
    response.start(200, [])
    assert transport.writes == []

    response.write(b"x" * 17)
    response.write(b"yz")
    response.end()

    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    assert transport.writes == [head + b"11\r\n" + b"x" * 17 + b"\r\n", b"2\r\nyz\r\n", b"0\r\n\r\n"]
    assert response.sent == 19


def test_a_stream_for_an_old_client_ends_with_the_connection() -> None:
    response, transport = make(is_http11=False)

    response.start(200, [])
    response.write(b"x")
    response.end()

    assert transport.written == b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nx"
    assert not response.keep_alive


def test_a_head_request_gets_the_head_only() -> None:
    response, transport = make(is_head_request=True)

    response.send(200, [], b"body")

    assert transport.written == b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n"


def test_a_status_without_a_body_has_no_framing() -> None:
    response, transport = make()

    response.send(204, [], b"")

    assert transport.written == b"HTTP/1.1 204 No Content\r\n\r\n"


def test_the_last_answer_of_a_connection_says_so() -> None:
    response, transport = make()
    response.close_after()

    response.send(200, [], b"")

    assert b"connection: close\r\n" in transport.written


def test_nothing_is_written_to_a_client_that_has_gone() -> None:
    response, transport = make()
    response.is_gone = True

    response.start(200, [])
    response.write(b"x")
    response.end()

    assert transport.writes == []


def test_the_source_follows_the_pace_of_the_client() -> None:
    response, _ = make()
    source = RecordingSource()
    response.follow(source)

    response.pause()
    response.resume()

    assert source.calls == ["pause", "resume"]


def test_a_source_that_comes_while_the_client_is_slow_is_paused_at_once() -> None:
    response, _ = make()
    response.pause()
    source = RecordingSource()

    response.follow(source)

    assert source.calls == ["pause"]
