from __future__ import annotations

from baton.router.wire.messages import HOP_BY_HOP, AnswerHead, end_to_end, render_head


def test_a_head_is_written_with_its_reason() -> None:
    assert render_head(404, [(b"a", b"b")]) == b"HTTP/1.1 404 Not Found\r\na: b\r\n\r\n"


def test_a_status_nobody_has_named_is_written_all_the_same() -> None:
    assert render_head(599, []) == b"HTTP/1.1 599 Unknown\r\n\r\n"


def test_headers_of_the_connection_are_not_passed_on() -> None:
    headers = [
        (b"connection", b"close, X-Own"),
        (b"x-own", b"1"),
        (b"keep-alive", b"timeout=5"),
        (b"transfer-encoding", b"chunked"),
        (b"x-kept", b"2"),
        (b"hidden", b"3"),
    ]

    assert end_to_end(headers, hidden=HOP_BY_HOP | {b"hidden"}) == [(b"x-kept", b"2")]


def test_a_header_that_is_not_there_is_empty() -> None:
    assert AnswerHead(200, [(b"a", b"b")]).header(b"c") == b""
