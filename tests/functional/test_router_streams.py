"""Streams and large answers that do not end as they should, and what the client sees of it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from baton.router.data_path_settings import DataPathSettings
from functional.router_fixture import (
    DONE,
    Client,
    Message,
    Reply,
    Rig,
    chat,
    eventually,
    generated,
    on_uvloop,
    request,
    router,
    sse,
)

ONE = {"choices": [{"delta": {"content": "one"}}]}


async def ask_stream(rig: Rig) -> tuple[Client, Message]:
    client = await rig.send(request(chat(stream=True)))
    return client, await client.read()


def events(answer: Message) -> list[Any]:
    assert answer.body.endswith(b"\n\n")
    return [json.loads(event.removeprefix(b"data: ")) for event in answer.body.removesuffix(b"\n\n").split(b"\n\n")]


@on_uvloop
async def test_a_stream_that_breaks_off_ends_with_an_error_event() -> None:
    async def breaks_off(request: Message, reply: Reply) -> None:
        await reply.begin_stream()
        await reply.chunk(sse(ONE) + b'data: {"half')
        await eventually(lambda: rig.directory.in_flight["ns/p0:8000"] == 0)
        reply.hang_up()

    async with router(decode=[breaks_off, generated]) as rig:
        client, answer = await ask_stream(rig)

        assert [len(engine.requests) for engine in rig.prefill + rig.decode] == [1, 1, 0]
        assert await client.read_all() == b""
    first, error = events(answer)
    assert first == ONE
    assert error["error"]["code"] == "upstream_broken_off"
    assert "decode endpoint ns/d0:8000" in error["error"]["message"].lower()


@on_uvloop
async def test_a_stream_without_its_last_event_ends_with_an_error_event() -> None:
    async def ends_early(request: Message, reply: Reply) -> None:
        await reply.begin_stream()
        await reply.chunk(sse(ONE))
        await reply.end_stream()

    async with router(decode=[ends_early]) as rig:
        _, answer = await ask_stream(rig)

    first, error = events(answer)
    assert (first, error["error"]["code"]) == (ONE, "upstream_truncated")


@on_uvloop
async def test_a_stream_with_invalid_chunks_ends_with_an_error_event() -> None:
    async def garbles(request: Message, reply: Reply) -> None:
        await reply.begin_stream()
        await reply.chunk(sse(ONE))
        await eventually(lambda: rig.directory.in_flight["ns/p0:8000"] == 0)
        await reply.raw(b"zz\r\n")
        await reply.client_gone()

    async with router(decode=[garbles]) as rig:
        _, answer = await ask_stream(rig)

    first, error = events(answer)
    assert (first, error["error"]["code"]) == (ONE, "upstream_malformed")


@on_uvloop
async def test_a_stream_that_stalls_ends_with_an_error_event() -> None:
    async def stalls(request: Message, reply: Reply) -> None:
        await reply.begin_stream()
        await reply.chunk(sse(ONE))
        await reply.client_gone()

    async with router(decode=[stalls], settings=DataPathSettings(stall_time=0.05)) as rig:
        _, answer = await ask_stream(rig)

    first, error = events(answer)
    assert (first, error["error"]["code"]) == (ONE, "upstream_stalled")


@on_uvloop
async def test_an_error_event_of_the_engine_passes_unchanged() -> None:
    async def reports(request: Message, reply: Reply) -> None:
        await reply.stream(ONE, {"error": {"message": "engine says"}})

    async with router(decode=[reports]) as rig:
        _, answer = await ask_stream(rig)

    assert answer.body == sse(ONE, {"error": {"message": "engine says"}}) + DONE


@on_uvloop
async def test_an_answer_ended_by_closing_the_connection_is_whole() -> None:
    async def closes(request: Message, reply: Reply) -> None:
        await reply.raw(b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + sse(ONE) + DONE)
        reply.writer.close()

    async with router(prefill=(), decode=[closes]) as rig:
        _, answer = await ask_stream(rig)

    assert answer.body == sse(ONE) + DONE


@on_uvloop
async def test_an_answer_too_large_to_keep_is_passed_on() -> None:
    text = "x" * 300_000

    async def verbose(request: Message, reply: Reply) -> None:
        await reply.json({"text": text})

    async with router(prefill=(), decode=[verbose], settings=DataPathSettings(max_answer_bytes=1000)) as rig:
        answer = await rig.ask(chat())

    assert answer.json == {"text": text}


@on_uvloop
async def test_a_large_answer_that_breaks_off_is_cut() -> None:
    async def breaks_off(request: Message, reply: Reply) -> None:
        await reply.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + b"x" * 2000)
        await eventually(lambda: rig.directory.in_flight["ns/p0:8000"] == 0)
        reply.hang_up()

    async with router(decode=[breaks_off], settings=DataPathSettings(max_answer_bytes=1000)) as rig:
        with pytest.raises(asyncio.IncompleteReadError):
            await rig.ask(chat())


@on_uvloop
async def test_a_stream_ended_by_closing_the_connection_too_early_says_so() -> None:
    async def closes_early(request: Message, reply: Reply) -> None:
        await reply.raw(b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + sse(ONE))
        reply.writer.close()

    async with router(prefill=(), decode=[closes_early]) as rig:
        _, answer = await ask_stream(rig)

    first, error = events(answer)
    assert (first, error["error"]["code"]) == (ONE, "upstream_truncated")
