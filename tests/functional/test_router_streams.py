"""Streams and large answers that do not end as they should, and nothing can go on with: what the client sees of it."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

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
    said,
    sse,
)

if TYPE_CHECKING:
    from functional.router_fixture import Script

ONE = said("one")
LAST = said("two", finish_reason="stop")
# Guided decoding follows an answer from its beginning.
NO_REPLAY = chat(stream=True, response_format={"type": "json_object"})


async def ask_stream(rig: Rig) -> tuple[Client, Message]:
    client = await rig.send(request(NO_REPLAY))
    return client, await client.read()


def events(answer: Message) -> list[Any]:
    assert answer.body.endswith(b"\n\n")
    return [json.loads(event.removeprefix(b"data: ")) for event in answer.body.removesuffix(b"\n\n").split(b"\n\n")]


async def breaks_off(request: Message, reply: Reply) -> None:
    await reply.begin_stream()
    await reply.chunk(sse(ONE) + b'data: {"half')
    await asyncio.sleep(0.02)
    reply.hang_up()


async def hangs_up(request: Message, reply: Reply) -> None:
    reply.hang_up()


async def ends_early(request: Message, reply: Reply) -> None:
    await reply.begin_stream()
    await reply.chunk(sse(ONE))
    await reply.end_stream()


async def ends_without_a_reason(request: Message, reply: Reply) -> None:
    await reply.stream(ONE)


async def garbles(request: Message, reply: Reply) -> None:
    await reply.begin_stream()
    await reply.chunk(sse(ONE))
    await asyncio.sleep(0.02)
    await reply.raw(b"zz\r\n")
    await reply.client_gone()


async def stalls(request: Message, reply: Reply) -> None:
    await reply.begin_stream()
    await reply.chunk(sse(ONE))
    await reply.client_gone()


async def recomputes(request: Message, reply: Reply) -> None:
    await reply.stream(ONE, said("", finish_reason="stop", stop_reason="recomputed"))


async def aborts(request: Message, reply: Reply) -> None:
    await reply.stream(ONE, said("", finish_reason="abort"))


async def reports_its_death(request: Message, reply: Reply) -> None:
    await reply.stream(ONE, {"error": {"message": "EngineCore died", "code": 500}})


async def closes_early(request: Message, reply: Reply) -> None:
    await reply.raw(b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + sse(ONE))
    reply.writer.close()


@pytest.mark.parametrize(
    ("script", "part"),
    [
        (breaks_off, "closed the connection in the middle of its answer"),
        (ends_early, "ended its stream without its last event"),
        (ends_without_a_reason, "ended its stream without a finish_reason"),
        (garbles, "sent invalid HTTP"),
        (stalls, "sent nothing for 0.1 seconds"),
        (recomputes, "gave the request up to free KV blocks"),
        (aborts, "aborted the request"),
        (reports_its_death, "reported error 500: EngineCore died"),
        (closes_early, "ended its stream without its last event"),
    ],
)
@on_uvloop
async def test_a_stream_that_cannot_go_on_ends_with_an_error_event_that_says_why(script: Script, part: str) -> None:
    async with router(decode=[script, generated], settings=DataPathSettings(stall_time=0.1)) as rig:
        client, answer = await ask_stream(rig)

        assert [len(engine.requests) for engine in rig.prefill + rig.decode] == [1, 1, 0]
        assert await client.read_all() == b""
    first, error = events(answer)
    assert first == ONE
    assert error["error"]["code"] == "replay_impossible"
    assert f"Decode endpoint ns/d0:8000 {part}" in error["error"]["message"]
    assert error["error"]["message"].endswith(
        "The answer cannot go on exactly: guided decoding cannot begin in the middle of an answer."
    )


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
        await reply.raw(b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + sse(LAST) + DONE)
        reply.writer.close()

    async with router(prefill=(), decode=[closes]) as rig:
        _, answer = await ask_stream(rig)

    assert answer.body == sse(LAST) + DONE


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
    async def breaks_off_late(request: Message, reply: Reply) -> None:
        await reply.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + b"x" * 2000)
        await eventually(lambda: rig.directory.in_flight["ns/p0:8000"] == 0)
        reply.hang_up()

    async with router(decode=[breaks_off_late], settings=DataPathSettings(max_answer_bytes=1000)) as rig:
        with pytest.raises(asyncio.IncompleteReadError):
            await rig.ask(chat())


@on_uvloop
async def test_a_stream_too_long_to_keep_cannot_go_on() -> None:
    async def says_much(request: Message, reply: Reply) -> None:
        await reply.begin_stream()
        for _ in range(5):
            await reply.chunk(sse(said("x" * 20_000)))
        await asyncio.sleep(0.02)
        reply.hang_up()

    async with router(decode=[says_much], settings=DataPathSettings(max_journal_bytes=10)) as rig:
        client = await rig.send(request(chat(stream=True)))
        answer = await client.read()

    *texts, error = events(answer)
    assert len(texts) == 5
    assert error["error"]["message"].endswith("it is longer than the router keeps.")


@pytest.mark.parametrize("gone", ["prefill", "decode", "both"])
@on_uvloop
async def test_a_stream_whose_engines_are_all_gone_ends_with_an_error_event(gone: str) -> None:
    async def takes_all_along(request: Message, reply: Reply) -> None:
        await reply.begin_stream()
        await reply.chunk(sse(ONE))
        for engine in (rig.prefill if gone != "decode" else []) + (rig.decode if gone != "prefill" else []):
            engine.script = hangs_up
        await asyncio.sleep(0.02)
        reply.hang_up()

    async with router(decode=[takes_all_along]) as rig:
        client = await rig.send(request(chat(stream=True)))
        answer = await client.read()

    first, error = events(answer)
    assert first == ONE
    assert error["error"]["code"] == "upstream_closed"


@on_uvloop
async def test_a_stream_without_a_pair_to_go_on_with_ends_with_an_error_event() -> None:
    async def is_the_last(request: Message, reply: Reply) -> None:
        await reply.begin_stream()
        await reply.chunk(sse(ONE))
        rig.directory.choices = []
        await asyncio.sleep(0.02)
        reply.hang_up()

    async with router(decode=[is_the_last]) as rig:
        client = await rig.send(request(chat(stream=True)))
        answer = await client.read()

    first, error = events(answer)
    assert (first, error["error"]["code"]) == (ONE, "upstream_broken_off")
