"""How the router stops: in uvicorn's order, and with a word to whoever is cut."""

from __future__ import annotations

import asyncio
import json

import pytest

from baton.router.data_path_settings import DataPathSettings
from functional.router_fixture import (
    DONE,
    Message,
    Reply,
    chat,
    eventually,
    generated,
    on_uvloop,
    request,
    router,
    said,
    sse,
)

ONE = said("one", finish_reason="stop")


async def never_answers(request: Message, reply: Reply) -> None:
    await reply.client_gone()


async def streams_one(request: Message, reply: Reply) -> None:
    await reply.begin_stream()
    await reply.chunk(sse(ONE))
    await reply.client_gone()


@on_uvloop
async def test_an_idle_router_stops_at_once() -> None:
    async with router() as rig:
        client = await rig.connect()
        await client.get("/healthz")

        assert await rig.server.drain(10.0) == 0
        assert await client.read_all() == b""
        with pytest.raises(ConnectionError):
            await rig.connect()


@on_uvloop
async def test_what_is_being_served_is_finished() -> None:
    async def waits(request: Message, reply: Reply) -> None:
        await reply.begin_stream()
        await reply.chunk(sse(ONE))
        await release.wait()
        await reply.chunk(DONE)
        await reply.end_stream()

    release = asyncio.Event()
    async with router(decode=[waits]) as rig:
        client = await rig.send(request(chat(stream=True)))
        half = await rig.send(request(chat())[:50])
        await eventually(lambda: len(rig.decode[0].requests) == 1)
        draining = asyncio.ensure_future(rig.server.drain(10.0))
        await eventually(lambda: not rig.server.is_ready)
        rig.decode[0].script = generated
        await half.send(request(chat())[50:])
        last = await half.read()
        release.set()
        answer = await client.read()

        assert await draining == 0
        assert await client.read_all() == b""
    assert answer.body == sse(ONE) + DONE
    assert (last.status, last.headers["connection"]) == (200, "close")


@on_uvloop
async def test_the_router_turns_unready_before_it_stops_accepting() -> None:
    async with router(settings=DataPathSettings(drain_notice=0.1)) as rig:
        draining = asyncio.ensure_future(rig.server.drain(10.0))
        await eventually(lambda: not rig.server.is_ready)
        client = await rig.connect()
        ready = await client.get("/readyz")
        answer = await client.ask(chat())

        assert await draining == 0
    assert (ready.status, answer.status) == (503, 200)


@on_uvloop
async def test_a_stream_that_does_not_end_in_time_is_cut_with_an_error_event() -> None:
    async with router(decode=[streams_one]) as rig:
        client = await rig.send(request(chat(stream=True)))
        await eventually(lambda: rig.directory.in_flight["ns/p0:8000"] == 0 and len(rig.decode[0].requests) == 1)

        assert await rig.server.drain(0.05) == 1
        answer = await client.read()
        assert await client.read_all() == b""
        await eventually(lambda: rig.decode[0].abandoned == 1)
    first, error, end = answer.body.split(b"\n\n")
    assert first + b"\n\n" == sse(ONE)
    assert json.loads(error.removeprefix(b"data: "))["error"]["code"] == "router_stopping"
    assert end == b""


@on_uvloop
async def test_a_request_without_an_answer_in_time_is_cut_with_an_error() -> None:
    async with router(prefill=[never_answers]) as rig:
        client = await rig.send(request(chat()))
        await eventually(lambda: len(rig.prefill[0].requests) == 1)

        assert await rig.server.drain(0.05) == 1
        answer = await client.read()
    assert (answer.status, answer.json["error"]["code"]) == (503, "router_stopping")


@on_uvloop
async def test_a_request_that_does_not_arrive_in_time_is_cut() -> None:
    async with router() as rig:
        client = await rig.send(request(chat())[:50])
        await eventually(lambda: "Clients: 1" in repr(rig.server))

        assert await rig.server.drain(0.05) == 1
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await client.read()


@on_uvloop
async def test_the_admin_listener_answers_until_the_end() -> None:
    async with router(prefill=[never_answers]) as rig:
        admin_port = await rig.server.start_admin("127.0.0.1", 0)
        await rig.server.drain(1.0)
        rig.port = admin_port
        client = await rig.connect()
        ready, health = await client.get("/readyz"), await client.get("/healthz")
        await rig.server.close()

        assert await client.read_all() == b""
    assert (ready.status, health.status) == (503, 200)


@on_uvloop
async def test_closing_cuts_everything_at_once() -> None:
    async with router(prefill=[never_answers]) as rig:
        client = await rig.send(request(chat()))
        await eventually(lambda: len(rig.prefill[0].requests) == 1)

        await rig.server.close()

        assert rig.server.is_idle
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await client.read()
