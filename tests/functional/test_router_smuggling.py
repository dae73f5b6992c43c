"""Requests that two servers could read in two ways: refused, and nothing behind them on the connection is served.

The shapes are those of RFC 9112 (sections 2 to 7 and 11.2) and of the known attacks: CL.TE, TE.CL, TE.TE, CL.0.
"""

from __future__ import annotations

import pytest

from functional.router_fixture import chat, on_uvloop, request, router

BODY = b'{"model":"m","messages":[]}'
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
CHUNKED = b"Transfer-Encoding: chunked\r\n"
CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)


def post(*lines: bytes, body: bytes = BODY, first: bytes = b"POST /v1/chat/completions HTTP/1.1\r\n") -> bytes:
    return first + b"Host: r\r\n" + b"".join(lines) + b"\r\n" + body


REFUSED = {
    "length and coding": post(LENGTH, CHUNKED, body=CHUNKS),
    "coding and length": post(CHUNKED, LENGTH, body=CHUNKS),
    "coding and length 0": post(CHUNKED, b"Content-Length: 0\r\n", body=CHUNKS),
    "two lengths": post(LENGTH, b"Content-Length: 5\r\n"),
    "two equal lengths": post(LENGTH, LENGTH),
    "a list of lengths": post(b"Content-Length: 27, 27\r\n"),
    "negative length": post(b"Content-Length: -1\r\n"),
    "signed length": post(b"Content-Length: +27\r\n"),
    "length in hexadecimal": post(b"Content-Length: 0x1b\r\n"),
    "length with an underscore": post(b"Content-Length: 2_7\r\n"),
    "length with a space": post(b"Content-Length: 2 7\r\n"),
    "empty length": post(b"Content-Length: \r\n"),
    "length beyond 64 bits": post(b"Content-Length: 18446744073709551643\r\n"),
    "length in other digits": post("Content-Length: ٢٧\r\n".encode()),
    "two codings": post(CHUNKED, CHUNKED, body=CHUNKS),
    "chunked not last": post(b"Transfer-Encoding: chunked, identity\r\n", body=CHUNKS),
    "chunked twice": post(b"Transfer-Encoding: chunked, chunked\r\n", body=CHUNKS),
    "gzip": post(b"Transfer-Encoding: gzip, chunked\r\n", body=CHUNKS),
    "identity": post(b"Transfer-Encoding: identity\r\n"),
    "unknown coding": post(b"Transfer-Encoding: xchunked\r\n", body=CHUNKS),
    "coding with a parameter": post(b"Transfer-Encoding: chunked;q=1\r\n", body=CHUNKS),
    "coding with a vertical tab": post(b"Transfer-Encoding: \x0bchunked\r\n", body=CHUNKS),
    "quoted coding": post(b'Transfer-Encoding: "chunked"\r\n', body=CHUNKS),
    "empty coding": post(b"Transfer-Encoding:\r\n"),
    "coding in HTTP/1.0": post(CHUNKED, body=CHUNKS, first=b"POST /v1/chat/completions HTTP/1.0\r\n"),
    "space before the colon": post(LENGTH, b"X : y\r\n"),
    "space before the colon of a length": post(b"Content-Length : 27\r\n"),
    "tab before the colon of a coding": post(b"Transfer-Encoding\t: chunked\r\n", body=CHUNKS),
    "space before a name": post(LENGTH, b" X: y\r\n"),
    "folded line": post(LENGTH, b"X: y\r\n folded\r\n"),
    "folded first line": post(b" Content-Length: 27\r\n"),
    "folded coding": post(b"Transfer-Encoding:\r\n chunked\r\n", body=CHUNKS),
    "line without a colon": post(LENGTH, b"X\r\n"),
    "line without a name": post(LENGTH, b": y\r\n"),
    "name with a null": post(LENGTH, b"X\x00: y\r\n"),
    "value with a null": post(LENGTH, b"X: y\x00z\r\n"),
    "name in brackets": post(LENGTH, b"(X): y\r\n"),
    "bare CR in a value": post(LENGTH, b"X: y\rz\r\n"),
    "bare CR as the end of a line": post(LENGTH, b"X: y\rContent-Length: 0\r\n"),
    "bare LF as the end of a line": post(LENGTH, b"X: y\nY: z\r\n"),
    "bare LF as the end of a head": b"POST /v1/chat/completions HTTP/1.1\r\nHost: r\r\n" + LENGTH + b"\n" + BODY,
    "bare LF after the request line": post(LENGTH, first=b"POST /v1/chat/completions HTTP/1.1\n"),
    "chunk size with a sign": post(CHUNKED, body=b"+1b\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "chunk size with 0x": post(CHUNKED, body=b"0x1b\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "chunk size with a space before": post(CHUNKED, body=b" 1b\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "empty chunk size": post(CHUNKED, body=b"\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "chunk size beyond 64 bits": post(CHUNKED, body=b"1000000000000001b\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "chunk size ended by LF": post(CHUNKED, body=b"1b\n" + BODY + b"\r\n0\r\n\r\n"),
    "chunk without its end": post(CHUNKED, body=b"1a\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "chunk ended by LF": post(CHUNKED, body=b"1b\r\n" + BODY + b"\n0\r\n\r\n"),
    "chunk extension with LF": post(CHUNKED, body=b"1b;a\nb\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "chunk extension with CR": post(CHUNKED, body=b"1b;a\rb\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "length in a trailer": post(CHUNKED, body=CHUNKS[:-2] + b"Content-Length: 5\r\n\r\n"),
    "coding in a trailer": post(CHUNKED, body=CHUNKS[:-2] + b"Transfer-Encoding: x\r\n\r\n"),
    "two hosts": post(LENGTH, b"Host: s\r\n"),
    "no host": b"GET /healthz HTTP/1.1\r\n\r\n",
    "CONNECT": b"CONNECT r:80 HTTP/1.1\r\nHost: r\r\n\r\n",
    "HTTP/0.9": b"GET /healthz\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/1.2": b"GET /healthz HTTP/1.2\r\nHost: r\r\n\r\n",
    "tab in the request line": b"GET\t/healthz HTTP/1.1\r\nHost: r\r\n\r\n",
    "space in the target": b"GET /health z HTTP/1.1\r\nHost: r\r\n\r\n",
    "null in the target": b"GET /health\x00z HTTP/1.1\r\nHost: r\r\n\r\n",
    "CR in the target": b"GET /health\rz HTTP/1.1\r\nHost: r\r\n\r\n",
    "target without a slash": b"GET healthz HTTP/1.1\r\nHost: r\r\n\r\n",
    "lower case version": b"GET /healthz http/1.1\r\nHost: r\r\n\r\n",
    "unknown method": b"POKE /healthz HTTP/1.1\r\nHost: r\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
}

SERVED = {
    "length": post(LENGTH),
    "chunked": post(CHUNKED, body=CHUNKS),
    "chunked in capitals": post(b"TRANSFER-ENCODING: Chunked\r\n", body=CHUNKS),
    "chunk size in capitals with zeros": post(CHUNKED, body=b"001B\r\n" + BODY + b"\r\n000\r\n\r\n"),
    "chunk extensions": post(CHUNKED, body=b'1b;a=b;c="d"\r\n' + BODY + b"\r\n0;e\r\n\r\n"),
    "trailers": post(CHUNKED, body=CHUNKS[:-2] + b"Host: s\r\nX: y\r\n\r\n"),
    "two spaces in the request line": post(LENGTH, first=b"POST  /v1/chat/completions  HTTP/1.1\r\n"),
    "white space around a length": post(b"Content-Length: \t 27 \t\r\n"),
    "an empty line before": b"\r\n" + post(LENGTH),
    "for a proxy": post(LENGTH, first=b"POST http://other/v1/chat/completions HTTP/1.1\r\n"),
    "value beyond ASCII": post(LENGTH, "X: é\r\n".encode()),
    "empty value": post(LENGTH, b"X:\r\n"),
    "names that only look like framing": post(LENGTH, b"Content_Length: 5\r\nX-Transfer-Encoding: chunked\r\n"),
}


@pytest.mark.parametrize("shape", REFUSED)
@on_uvloop
async def test_it_is_refused_and_nothing_behind_it_is_served(shape: str) -> None:
    async with router(prefill=()) as rig:
        client = await rig.send(REFUSED[shape] + request(chat()))
        answer = await client.read()

        assert await client.read_all() == b""
        assert rig.decode[0].requests == []
    assert answer.status in {400, 405, 413, 501, 505}
    assert answer.headers["connection"] == "close"
    assert answer.json["error"]["message"]


@pytest.mark.parametrize("shape", SERVED)
@on_uvloop
async def test_what_can_be_read_in_one_way_is_served_with_what_is_behind_it(shape: str) -> None:
    async with router(prefill=()) as rig:
        client = await rig.send(SERVED[shape] + request(chat(seed=1)))
        answers = [await client.read(), await client.read()]

        first, second = rig.decode[0].requests
    assert [answer.status for answer in answers] == [200, 200]
    assert (first.first, first.body, second.json["seed"]) == ("POST /v1/chat/completions HTTP/1.1", BODY, 1)
    assert first.headers["content-length"] == str(len(BODY))
    assert "transfer-encoding" not in first.headers
