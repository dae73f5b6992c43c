"""Bytes of both sides cut, held back and damaged at every position: no hang, nothing left behind, no byte made up."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import io
import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, cast

import pytest

from baton.router.data_path_settings import DataPathSettings
from baton.telemetry import router_metrics
from functional.router_fixture import (
    CHAT,
    DONE,
    TRANSFER,
    Message,
    Reply,
    Rig,
    chat,
    eventually,
    generated,
    on_uvloop,
    prefilled,
    read_message,
    request,
    router,
    sse,
)

if TYPE_CHECKING:
    import socket

AT_ONCE = 64
"""Requests that run side by side."""

EVENTS = [{"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]} for text in ("one", "two")]
LAST = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
PARTS = [sse(EVENTS[0]), sse(EVENTS[1]), sse(LAST) + DONE]
STREAM = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in PARTS)
    + b"0\r\n\r\n"
)
PREFILL_BODY = json.dumps({"id": "p", "kv_transfer_params": TRANSFER}).encode()
PREFILL = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(PREFILL_BODY)
PREFILL += PREFILL_BODY

DAMAGE: dict[str, Callable[[bytes, int], bytes]] = {
    "a byte is missing": lambda data, at: data[:at] + data[at + 1 :],
    "a byte comes twice": lambda data, at: data[: at + 1] + data[at:],
    "a line feed": lambda data, at: data[:at] + b"\n" + data[at + 1 :],
    "a digit": lambda data, at: data[:at] + b"1" + data[at + 1 :],
    "a byte beyond ASCII": lambda data, at: data[:at] + b"\xff" + data[at + 1 :],
}

QUICK = DataPathSettings(
    max_replays=0, first_byte_time=0.5, answer_time=0.5, stall_time=0.3, head_time=0.5, body_time=0.5
)

Ask = Callable[[int], Awaitable[None]]


async def at_every(positions: int, ask: Ask) -> None:
    """Call for each position, many side by side."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def ask_in_turn(at: int) -> None:
        async with gate:
            await ask(at)

    async with asyncio.TaskGroup() as group:
        for at in range(positions):
            group.create_task(ask_in_turn(at))


@contextlib.asynccontextmanager
async def watched(rig: Rig) -> Any:
    """Check at the end that nothing is left of all that was asked."""
    in_flight = router_metrics.IN_FLIGHT._value.get()
    yield
    rig.close_clients()
    await eventually(lambda: rig.server.is_idle and rig.directory.is_idle)
    assert router_metrics.IN_FLIGHT._value.get() == in_flight
    assert [task for task in asyncio.all_tasks() if "Application.serve" in repr(task)] == []
    assert (await rig.ask(chat())).status == 200, "the router serves on"


def told_by_request(answers: Callable[[Reply, int], Awaitable[None]]) -> Callable[[Message, Reply], Awaitable[None]]:
    """Return a script that learns the position from the request; without one the request is answered well."""

    async def script(message: Message, reply: Reply) -> None:
        if "seed" in message.json:
            await answers(reply, message.json["seed"])
        elif "max_tokens" in message.json:
            await prefilled(message, reply)
        else:
            await generated(message, reply)

    return script


class _Socket:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, _mode: str) -> io.BytesIO:
        return io.BytesIO(self._data)


def reference(data: bytes) -> bytes:
    """Return the body that the standard library reads from an answer, as far as it goes."""
    response = http.client.HTTPResponse(cast("socket.socket", _Socket(data)))
    body = b""
    with contextlib.suppress(http.client.HTTPException, ValueError):
        response.begin()
        while piece := response.read1():
            body += piece
    return body


def passed_on(answer: Message) -> bytes:
    """Return what a client got of the engine's bytes: all but an error of the router at the end."""
    if answer.status >= 500:
        return b""
    body, mark, last = answer.body.rpartition(b'data: {"error":')
    return body if mark and b"upstream_" in last else answer.body


@pytest.mark.parametrize("damage", DAMAGE)
@on_uvloop
async def test_a_damaged_stream_is_passed_on_as_it_is_read_or_ends_with_an_error(damage: str) -> None:
    async def answers(reply: Reply, at: int) -> None:
        await reply.raw(DAMAGE[damage](STREAM, at))
        reply.writer.close()

    async with router(decode=[told_by_request(answers)], attempts=0, settings=QUICK) as rig, watched(rig):

        async def ask(at: int) -> None:
            answer = await rig.ask(chat(stream=True, seed=at))
            expected = reference(DAMAGE[damage](STREAM, at))
            got = passed_on(answer)
            assert expected.startswith(got), (at, expected, got)
            assert len(got) == len(expected) or answer.status >= 500 or b'"error"' in answer.body, (at, answer)

        await at_every(len(STREAM), ask)


@pytest.mark.parametrize("damage", DAMAGE)
@on_uvloop
async def test_a_damaged_answer_of_prefill_is_used_or_refused(damage: str) -> None:
    async def answers(reply: Reply, at: int) -> None:
        await reply.raw(DAMAGE[damage](PREFILL, at))
        reply.writer.close()

    async def decodes(message: Message, reply: Reply) -> None:
        assert isinstance(message.json["kv_transfer_params"], dict)
        await generated(message, reply)

    async with router([told_by_request(answers)], [decodes], attempts=0, settings=QUICK) as rig, watched(rig):

        async def ask(at: int) -> None:
            answer = await rig.ask(chat(stream=True, seed=at))
            assert answer.status < 500 or answer.status in {502, 504}, at
            assert answer.body.endswith(DONE) or answer.headers["content-type"] == "application/json", at

        await at_every(len(PREFILL), ask)


@pytest.mark.parametrize("phase", ["prefill", "decode"])
@pytest.mark.parametrize("ends", ["cut", "held back"])
@on_uvloop
async def test_an_answer_that_stops_anywhere_ends_in_time_with_an_error(phase: str, ends: str) -> None:
    data = PREFILL if phase == "prefill" else STREAM

    async def answers(reply: Reply, at: int) -> None:
        await reply.raw(data[:at])
        if ends == "cut":
            reply.writer.close()
        else:
            await reply.client_gone()

    script = told_by_request(answers)
    scripts = ([script], [generated]) if phase == "prefill" else ([prefilled], [script])
    async with router(*scripts, attempts=0, settings=QUICK) as rig, watched(rig):

        async def ask(at: int) -> None:
            answer = await rig.ask(chat(stream=True, seed=at))
            got = passed_on(answer)
            assert b"".join(PARTS).startswith(got), at
            assert answer.status in {502, 504} or got == b"".join(PARTS) or (got and b'"error"' in answer.body), at

        await at_every(len(data), ask)


@on_uvloop
async def test_a_stream_that_pauses_anywhere_comes_through() -> None:
    async def answers(reply: Reply, at: int) -> None:
        await reply.raw(STREAM[:at])
        await asyncio.sleep(0.005)
        await reply.raw(STREAM[at:])

    async with router(decode=[told_by_request(answers)], attempts=0) as rig, watched(rig):

        async def ask(at: int) -> None:
            assert (await rig.ask(chat(stream=True, seed=at))).body == b"".join(PARTS), at

        await at_every(len(STREAM), ask)


def small_request() -> bytes:
    return request(b'{"model":"m","messages":[],"stream":true}', CHAT)


@pytest.mark.parametrize("damage", DAMAGE)
@on_uvloop
async def test_a_damaged_request_gets_answers_or_a_refusal(damage: str) -> None:
    async with router(prefill=(), settings=QUICK) as rig, watched(rig):

        async def ask(at: int) -> None:
            client = await rig.send(DAMAGE[damage](small_request(), at))
            answer = await client.read()
            assert answer.status == 200 or answer.json["error"]["message"], at
            assert answer.headers["content-type"] == "application/json" or answer.body.endswith(DONE), at
            client.close()

        await at_every(len(small_request()), ask)


@on_uvloop
async def test_a_request_that_pauses_anywhere_is_served() -> None:
    async with router() as rig, watched(rig):

        async def ask(at: int) -> None:
            client = await rig.connect()
            for piece in (small_request()[:at], small_request()[at:]):
                await client.send(piece)
                await asyncio.sleep(0.005)
            assert (await client.read()).body.endswith(DONE), at

        await at_every(len(small_request()), ask)


@on_uvloop
async def test_a_client_that_leaves_anywhere_in_its_answer_leaves_nothing() -> None:
    async def streams_slowly(message: Message, reply: Reply) -> None:
        if "stream" not in message.json:
            await generated(message, reply)
            return
        await reply.begin_stream()
        for part in PARTS:
            await reply.chunk(part)
            await asyncio.sleep(0.001)
        await reply.end_stream()

    async def whole(rig: Rig) -> int:
        client = await rig.send(small_request())
        await client.read()
        client.close()
        again = await rig.send(small_request().replace(b"Host:", b"Connection: close\r\nHost:"))
        return len(await again.read_all())

    async with router(decode=[streams_slowly]) as rig, watched(rig):

        async def leave(at: int) -> None:
            client = await rig.send(small_request())
            await client.reader.readexactly(at)
            client.close()

        await at_every(await whole(rig) - len(b"connection: close\r\n"), leave)


@on_uvloop
async def test_a_pipeline_that_stops_anywhere_is_answered_as_far_as_it_came() -> None:
    first = small_request()
    both = first + request(chat())
    settings = DataPathSettings(head_time=0.5, body_time=0.5, idle_time=0.5)
    async with router(prefill=(), settings=settings) as rig, watched(rig):

        async def ask(at: int) -> None:
            client = await rig.send(both[:at])
            answers = []
            with contextlib.suppress(asyncio.IncompleteReadError):
                while True:
                    answers.append((await read_message(client.reader)).status)
            wholes = (at >= len(first)) + (at >= len(both))
            assert answers == [200] * wholes + [408] * (at not in {0, len(first), len(both)}), at

        await at_every(len(both) + 1, ask)
