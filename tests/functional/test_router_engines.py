"""The router's connections to engines: kept, closed by either side, bounded."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from functional.router_fixture import Message, Reply, Rig, chat, eventually, generated, on_uvloop, router

from baton.router.data_path_settings import DataPathSettings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Script = Callable[[Message, Reply], Awaitable[None]]


def idle(rig: Rig) -> int:
    return int(repr(rig.server).rpartition("Connections: ")[2].split()[0])


@on_uvloop
async def test_connections_are_kept_and_used_again() -> None:
    async with router() as rig:
        for _ in range(3):
            assert (await rig.ask(chat())).status == 200

        assert [engine.connections for engine in rig.prefill + rig.decode] == [1, 1]
        assert idle(rig) == 2


@on_uvloop
async def test_an_engine_that_closes_an_idle_connection_is_not_noticed() -> None:
    async def closes(request: Message, reply: Reply) -> None:
        await generated(request, reply)
        reply.writer.close()

    async with router(prefill=(), decode=[closes], attempts=0) as rig:
        for _ in range(3):
            assert (await rig.ask(chat())).status == 200
            await eventually(lambda: idle(rig) == 0)

        assert rig.decode[0].connections == 3


@pytest.mark.parametrize("stream", [True, False])
@on_uvloop
async def test_a_kept_connection_that_dies_under_a_request_is_replaced(stream: bool) -> None:
    async def dies_when_used_again(request: Message, reply: Reply) -> None:
        if len(engine.requests) == 2:
            reply.hang_up()
        else:
            await generated(request, reply)

    async with router(prefill=(), decode=[dies_when_used_again], attempts=0) as rig:
        engine = rig.decode[0]
        answers = [await rig.ask(chat(stream=stream)) for _ in range(2)]

        assert (len(engine.requests), engine.connections) == (3, 2)
    assert [answer.status for answer in answers] == [200, 200]


@on_uvloop
async def test_a_request_is_sent_again_only_once() -> None:
    async def dies_from_the_second_on(request: Message, reply: Reply) -> None:
        if len(rig.decode[0].requests) > 1:
            reply.hang_up()
        else:
            await generated(request, reply)

    async with router(prefill=(), decode=[dies_from_the_second_on], attempts=0) as rig:
        answers = [await rig.ask(chat()) for _ in range(2)]

        assert len(rig.decode[0].requests) == 3
    assert [answer.status for answer in answers] == [200, 502]


@on_uvloop
async def test_idle_connections_are_closed_before_the_engine_does() -> None:
    async with router(settings=DataPathSettings(keep_time=0.05)) as rig:
        await rig.ask(chat())
        assert idle(rig) == 2

        await eventually(lambda: idle(rig) == 0)


@on_uvloop
async def test_idle_connections_are_bounded() -> None:
    async def waits(request: Message, reply: Reply) -> None:
        await release.wait()
        await generated(request, reply)

    release = asyncio.Event()
    async with router(prefill=(), decode=[waits], settings=DataPathSettings(max_idle_connections=2)) as rig:
        asking = [asyncio.ensure_future(rig.ask(chat())) for _ in range(5)]
        await eventually(lambda: len(rig.decode[0].requests) == 5)
        release.set()
        answers = await asyncio.gather(*asking)

        assert idle(rig) == 2
    assert [answer.status for answer in answers] == [200] * 5


@on_uvloop
async def test_requests_wait_for_a_connection_and_no_longer_than_their_deadline() -> None:
    async def waits(request: Message, reply: Reply) -> None:
        await release.wait()
        await generated(request, reply)

    release = asyncio.Event()
    settings = DataPathSettings(max_endpoint_connections=1)
    async with router(prefill=(), decode=[waits], settings=settings, timeout=0.3, attempts=0) as rig:
        first = asyncio.ensure_future(rig.ask(chat()))
        await eventually(lambda: len(rig.decode[0].requests) == 1)
        second = asyncio.ensure_future(rig.ask(chat()))
        await eventually(lambda: "1 waiting" in repr(rig.server))
        gone = await rig.connect()
        asyncio.ensure_future(gone.ask(chat())).add_done_callback(lambda asked: asked.exception())
        await eventually(lambda: "2 waiting" in repr(rig.server))
        gone.close()
        await eventually(lambda: "1 waiting" in repr(rig.server))
        release.set()

        assert [(await first).status, (await second).status] == [200, 200]
        assert len(rig.decode[0].requests) == 2

        release.clear()
        answers = await asyncio.gather(rig.ask(chat()), rig.ask(chat()))
        assert sorted(answer.json["error"]["code"] for answer in answers) == ["upstream_timeout"] * 2


@pytest.mark.parametrize("extra", [b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"x"])
@on_uvloop
async def test_bytes_beyond_an_answer_are_given_to_nobody(extra: bytes) -> None:
    async def says_too_much(request: Message, reply: Reply) -> None:
        await reply.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}" + extra)

    async with router(prefill=(), decode=[says_too_much]) as rig:
        answers = [await rig.ask(chat()) for _ in range(2)]

        assert rig.decode[0].connections == 2
    assert [answer.body for answer in answers] == [b"{}", b"{}"]


@on_uvloop
async def test_bytes_that_nobody_asked_for_close_an_idle_connection() -> None:
    async def talks_later(request: Message, reply: Reply) -> None:
        await generated(request, reply)
        await eventually(lambda: idle(rig) == 1)
        await reply.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async with router(prefill=(), decode=[talks_later]) as rig:
        await rig.ask(chat())
        await eventually(lambda: idle(rig) == 0)

        assert (await rig.ask(chat())).status == 200


@on_uvloop
async def test_interim_answers_are_kept_from_the_client() -> None:
    async def hints(request: Message, reply: Reply) -> None:
        await reply.raw(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")
        await generated(request, reply)

    async with router(prefill=(), decode=[hints]) as rig:
        answer = await rig.ask(chat())

    assert answer.status == 200
    assert "link" not in answer.headers
