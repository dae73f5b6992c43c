"""A decode whose answer is cut, or comes in two pieces, at every byte; a client whose request does."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from functional.router_fixture import DONE, Message, Reply, chat, on_uvloop, request, router, said, sse

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

EVENTS = [said("Good"), said(" "), said("day", finish_reason="stop")]
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKS = [b"%x\r\n%b\r\n" % (len(part), part) for part in (sse(*EVENTS[:2]), sse(EVENTS[2]) + DONE)]
ANSWER = HEAD + b"".join(CHUNKS) + b"0\r\n\r\n"


async def generated_again(message: Message, reply: Reply) -> None:
    """Give the same answer, cut into other events."""
    await reply.stream(said("Goo"), said("d d"), said("ay", finish_reason="stop"))


def text_of(answer: Message) -> str:
    events = [event.removeprefix(b"data: ") for event in answer.body.removesuffix(b"\n\n").split(b"\n\n")]
    contents = [json.loads(event) for event in events if event != b"[DONE]"]
    return "".join(content["choices"][0]["delta"]["content"] for content in contents)


def answering(write: Callable[[Reply, int], Awaitable[None]]) -> Callable[[Message, Reply], Awaitable[None]]:
    """Return a script that is told the position by the request."""

    async def script(message: Message, reply: Reply) -> None:
        await write(reply, message.json["seed"])

    return script


async def cut(reply: Reply, at: int) -> None:
    await reply.raw(ANSWER[:at])
    reply.writer.close()


@on_uvloop
async def test_a_stream_cut_anywhere_goes_on_with_the_next_engine() -> None:
    async with router(decode=[answering(cut), generated_again], attempts=1) as rig:
        for at in range(len(ANSWER)):
            answer = await rig.ask(chat(stream=True, seed=at))
            assert answer.status == 200, at
            assert text_of(answer) == "Good day", at
            assert answer.body.endswith(DONE), at
            assert rig.directory.is_idle


@on_uvloop
async def test_a_stream_cut_anywhere_for_good_ends_honestly() -> None:
    async with router(decode=[answering(cut)], attempts=0) as rig:
        for at in range(len(ANSWER)):
            answer = await rig.ask(chat(stream=True, seed=at))
            if answer.status == 502:
                assert at <= len(HEAD) + len(CHUNKS[0]), at
                continue
            if answer.body.endswith(DONE):  # nothing else was missing
                assert text_of(answer) == "Good day", at
                continue
            *events, end = answer.body.split(b"\n\n")
            *tokens, error = [json.loads(event.removeprefix(b"data: ")) for event in events if event != b"data: [DONE]"]
            assert tokens == EVENTS[: len(tokens)], at
            assert tokens, at
            assert "error" in error, at
            assert end == b"", at
            assert rig.directory.is_idle


@on_uvloop
async def test_a_stream_split_anywhere_comes_through() -> None:
    async def split(reply: Reply, at: int) -> None:
        await reply.raw(ANSWER[:at])
        await asyncio.sleep(0)
        await reply.raw(ANSWER[at:])

    async with router(decode=[answering(split)], attempts=0) as rig:
        client = await rig.connect()
        for at in range(len(ANSWER)):
            answer = await client.ask(chat(stream=True, seed=at))
            assert answer.body == sse(*EVENTS) + DONE, at


@on_uvloop
async def test_a_request_cut_anywhere_reaches_no_engine_and_leaves_nothing() -> None:
    data = request(chat())
    async with router() as rig:
        for at in range(len(data)):
            client = await rig.send(data[:at])
            client.close()

        assert (await rig.ask(chat())).status == 200
        assert len(rig.prefill[0].requests) == 1
