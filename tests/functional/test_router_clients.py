"""What clients may do: keep connections, pipeline, be slow, leave, send too much or what can be read in two ways."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import TYPE_CHECKING

import pytest

from baton.router.data_path_settings import DataPathSettings
from functional.router_fixture import (
    DEADLINE,
    DONE,
    Client,
    Message,
    Reply,
    Rig,
    chat,
    eventually,
    generated,
    on_uvloop,
    prefilled,
    read_chunk,
    read_head,
    request,
    router,
    said,
    sse,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Script = Callable[[Message, Reply], Awaitable[None]]

ONE = said("one")


@on_uvloop
async def test_a_connection_carries_one_request_after_the_other() -> None:
    async with router() as rig:
        client = await rig.connect()
        answers = [await client.ask(chat(stream=stream)) for stream in (True, False, True)]

    assert [answer.status for answer in answers] == [200] * 3


@on_uvloop
async def test_pipelined_requests_are_answered_in_order_and_one_at_a_time() -> None:
    most = 0

    async def slow_at_first(request: Message, reply: Reply) -> None:
        nonlocal most
        most = max(most, sum(rig.directory.in_flight.values()))
        await asyncio.sleep(0.02 / len(rig.decode[0].requests))
        await reply.json({"n": request.json["seed"]})

    async with router(prefill=(), decode=[slow_at_first]) as rig:
        client = await rig.send(b"".join(request(chat(seed=n)) for n in range(30)))
        answers = [await client.read() for _ in range(30)]

    assert [answer.json["n"] for answer in answers] == list(range(30))
    assert most == 1


@on_uvloop
async def test_a_refused_request_is_answered_after_those_before_it() -> None:
    async with router() as rig:
        client = await rig.send(request(chat()) + b"GARBAGE\r\n\r\n")
        answers = [await client.read(), await client.read()]

        assert await client.read_all() == b""
    assert [answer.status for answer in answers] == [200, 400]


@pytest.mark.parametrize("size", [1, 3, 50])
@on_uvloop
async def test_a_request_may_come_in_pieces(size: int) -> None:
    data = request(chat(stream=True))
    async with router() as rig:
        client = await rig.connect()
        client.writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(data), size):
            await client.send(data[start : start + size])
            await asyncio.sleep(0)

        assert (await client.read()).body.endswith(DONE)


@on_uvloop
async def test_a_chunked_request_body_is_served() -> None:
    chunks = b'b\r\n{"model":"m\r\n3;x\r\n"} \r\n0\r\nTrailer: x\r\n\r\n'
    async with router(prefill=()) as rig:
        client = await rig.send(
            b"POST /v1/completions HTTP/1.1\r\nHost: r\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks
        )
        answer = await client.read()

        [message] = rig.decode[0].requests
    assert answer.status == 200
    assert (message.body, message.headers["content-length"]) == (b'{"model":"m"} ', "14")


@on_uvloop
async def test_a_client_that_waits_for_continue_is_asked_for_the_body() -> None:
    head, _, body = request(chat(), headers="Expect: 100-continue\r\n").partition(b"\r\n\r\n")
    async with router() as rig:
        client = await rig.send(head + b"\r\n\r\n")
        assert (await client.read()).status == 100
        await client.send(body)

        assert (await client.read()).status == 200


@on_uvloop
async def test_a_pipelined_client_is_asked_for_its_body_in_its_turn() -> None:
    head, _, body = request(chat(), headers="Expect: 100-continue\r\n").partition(b"\r\n\r\n")
    async with router() as rig:
        client = await rig.send(request(chat()) + head + b"\r\n\r\n")
        statuses = [(await client.read()).status, (await client.read()).status]
        await client.send(body)

        assert [*statuses, (await client.read()).status] == [200, 100, 200]


@on_uvloop
async def test_a_client_that_asks_for_it_is_closed_after_its_answer() -> None:
    async with router() as rig:
        client = await rig.send(request(chat(), headers="Connection: close\r\n"))
        answer = await client.read()

        assert await client.read_all() == b""
    assert answer.headers["connection"] == "close"


@on_uvloop
async def test_an_old_client_gets_a_stream_that_ends_with_the_connection() -> None:
    async with router() as rig:
        client = await rig.send(request(chat(stream=True)).replace(b"HTTP/1.1", b"HTTP/1.0"))
        answer = await client.read()

    assert "transfer-encoding" not in answer.headers
    assert answer.body.endswith(DONE)


@on_uvloop
async def test_an_offer_to_speak_http2_is_declined_without_losing_the_body() -> None:
    offer = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAM\r\n"
    async with router() as rig:
        client = await rig.connect()
        first = await client.ask(chat(), headers=offer)
        second = await client.ask(chat())

        assert "upgrade" not in rig.decode[0].requests[0].headers
    assert (first.status, second.status) == (200, 200)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        pytest.param(request(b"x" * 101), 413, id="body too large"),
        pytest.param(request(b"", headers="X: " + "x" * 1000 + "\r\n"), 431, id="head too large"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: r\r\nX: " + b"x" * 10_000, 431, id="endless head"),
        pytest.param(request(b"", headers="Transfer-Encoding: chunked\r\n"), 400, id="length and coding"),
        pytest.param(request(b"", headers="Content-Length: 5\r\n"), 400, id="two lengths"),
        pytest.param(request(b"", headers="X: a\r\n folded\r\n"), 400, id="folded line"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", 400, id="no host"),
        pytest.param(b"GET / HTTP/2.0\r\nHost: r\r\n\r\n", 505, id="HTTP/2"),
        pytest.param(b"CONNECT r:1 HTTP/1.1\r\nHost: r\r\n\r\n", 405, id="CONNECT"),
        pytest.param(b"\x16\x03\x01\x00\x05hello", 400, id="TLS"),
    ],
)
@on_uvloop
async def test_what_is_refused_is_answered_and_closed(
    data: bytes, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    settings = DataPathSettings(max_head_bytes=800, max_body_bytes=100)
    with caplog.at_level(logging.INFO, "baton.router.access"):
        async with router(settings=settings) as rig:
            client = await rig.send(data + request(chat()))
            answer = await client.read()

            assert await client.read_all() == b""
            assert rig.prefill[0].requests == []
    assert (answer.status, answer.headers["connection"]) == (status, "close")
    assert answer.json["error"]["message"]
    assert [record.__dict__["baton_fields"]["status"] for record in caplog.records] == [status]


@pytest.mark.parametrize("data", [b"POST / HT", b"POST /v1/x HTTP/1.1\r\nHost: r\r\nContent-Length: 5\r\n\r\nab"])
@on_uvloop
async def test_a_request_that_does_not_arrive_is_given_up(data: bytes) -> None:
    async with router(settings=DataPathSettings(head_time=0.05, body_time=0.05)) as rig:
        client = await rig.send(data)
        answer = await client.read()

        assert await client.read_all() == b""
    assert answer.status == 408


@pytest.mark.parametrize("data", [b"", b"GET /healthz HTTP/1.1\r\nHost: r\r\n\r\n"])
@on_uvloop
async def test_an_idle_connection_is_closed(data: bytes) -> None:
    async with router(settings=DataPathSettings(idle_time=0.05)) as rig:
        client = await rig.send(data)

        assert (await client.read_all()).startswith(b"HTTP/1.1 200" if data else b"")


@on_uvloop
async def test_time_limits_of_a_connection_do_not_bound_its_answers() -> None:
    async def slow(request: Message, reply: Reply) -> None:
        await asyncio.sleep(0.15)
        await generated(request, reply)

    settings = DataPathSettings(idle_time=0.05, head_time=0.05, body_time=0.05, write_time=0.05)
    async with router(prefill=(), decode=[slow], settings=settings) as rig:
        assert (await rig.ask(chat())).status == 200


@on_uvloop
async def test_connections_beyond_the_limit_are_turned_away() -> None:
    async with router(settings=DataPathSettings(max_connections=2)) as rig:
        first, second = await rig.connect(), await rig.connect()
        await first.get("/healthz")
        await second.get("/healthz")
        refused = await (await rig.connect()).read()
        first.close()
        await eventually(lambda: "Clients: 1" in repr(rig.server))

        assert (await rig.ask(chat())).status == 200
    assert refused.status == 503


async def never_answers(request: Message, reply: Reply) -> None:
    await reply.client_gone()


async def streams_for_ever(request: Message, reply: Reply) -> None:
    await reply.begin_stream()
    while True:
        await reply.chunk(sse(ONE))
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("half", [True, False])
@pytest.mark.parametrize(
    ("prefill", "decode", "calls"),
    [
        pytest.param(never_answers, generated, 1, id="prefill"),
        pytest.param(prefilled, never_answers, 2, id="before the first byte"),
        pytest.param(prefilled, streams_for_ever, 2, id="in the stream"),
    ],
)
@on_uvloop
async def test_a_client_that_leaves_is_noticed_by_the_engine_at_once(
    prefill: Script, decode: Script, calls: int, half: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "baton.router.access"):
        async with router([prefill], [decode]) as rig:
            client = await rig.send(request(chat(stream=True)))
            await eventually(lambda: sum(len(engine.requests) for engine in rig.prefill + rig.decode) == calls)
            if decode is streams_for_ever:
                await read_head(client.reader)
            if half:
                client.writer.write_eof()
            else:
                client.close()

            engine = rig.prefill[0] if calls == 1 else rig.decode[0]
            await eventually(lambda: engine.abandoned == 1)
            await eventually(lambda: rig.server.is_idle and rig.directory.is_idle)
            assert sum(len(engine.requests) for engine in rig.prefill + rig.decode) == calls
    [line] = [record.__dict__["baton_fields"] for record in caplog.records]
    assert (line["status"], line["reason"]) == (499, "client_gone")


@on_uvloop
async def test_a_client_that_leaves_between_two_tries_ends_them() -> None:
    async def fails(request: Message, reply: Reply) -> None:
        await reply.json({}, status=500)

    async with router([fails], attempts=50, interval=0.05) as rig:
        client = await rig.send(request(chat()))
        await eventually(lambda: len(rig.prefill[0].requests) == 1)
        client.close()
        await eventually(lambda: rig.server.is_idle)

        assert len(rig.prefill[0].requests) <= 2


async def connect_slowly(rig: Rig) -> Client:
    """Connect with a small receive buffer, and read nothing by itself."""
    slow = socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    slow.setblocking(False)
    await asyncio.get_running_loop().sock_connect(slow, ("127.0.0.1", rig.port))
    client = Client(*await asyncio.open_connection(sock=slow, limit=65536))
    rig.clients.append(client)
    return client


@on_uvloop
async def test_a_slow_client_slows_its_engine_and_loses_nothing() -> None:
    pieces, padding = 300, "x" * 65_000
    written = 0

    async def pours(request: Message, reply: Reply) -> None:
        nonlocal written
        await reply.begin_stream()
        for n in range(pieces):
            await reply.chunk(sse(said(padding, n=n)))
            written = n
        await reply.chunk(sse(said("", finish_reason="stop")))
        await reply.chunk(DONE)
        await reply.end_stream()

    async with router(decode=[pours]) as rig:
        client = await connect_slowly(rig)
        await client.send(request(chat(stream=True)))
        await read_head(client.reader)
        before = -1
        while written != before:  # until nothing moves any more
            before = written
            await asyncio.sleep(0.1)
        stuck = written
        body = b""
        async with asyncio.timeout(DEADLINE):
            while chunk := await read_chunk(client.reader):
                body += chunk

    # What was under way is what the sockets' buffers hold (some MiB here), not the 20 MB of the answer.
    assert stuck < pieces - 50
    parts = [said(padding, n=n) for n in range(pieces)]
    assert body == sse(*parts, said("", finish_reason="stop")) + DONE


@on_uvloop
async def test_a_slow_client_that_pipelines_is_served_no_faster_than_it_reads() -> None:
    requests, padding = 40, "x" * 1_000_000

    async def verbose(request: Message, reply: Reply) -> None:
        await reply.json({"n": request.json["seed"], "padding": padding})

    async with router(prefill=(), decode=[verbose]) as rig:
        client = await connect_slowly(rig)
        await client.send(b"".join(request(chat(seed=n)) for n in range(requests)))
        before = -1
        while len(rig.decode[0].requests) != before:  # until nothing moves any more
            before = len(rig.decode[0].requests)
            await asyncio.sleep(0.1)
        answers = [await client.read() for _ in range(requests)]

    assert before < requests - 10
    assert [answer.json["n"] for answer in answers] == list(range(requests))


@on_uvloop
async def test_a_client_that_takes_nothing_is_cut() -> None:
    async def pours(request: Message, reply: Reply) -> None:
        await reply.begin_stream()
        while True:
            await reply.chunk(sse({"padding": "x" * 65_000}))

    async with router(decode=[pours], settings=DataPathSettings(write_time=0.1)) as rig:
        client = await connect_slowly(rig)
        await client.send(request(chat(stream=True)))

        await eventually(lambda: rig.decode[0].abandoned == 1)
        await eventually(lambda: rig.server.is_idle and rig.directory.is_idle)
