"""Decode first: the router in front of engines that call its metaserver."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from baton.api.traffic import KVConnectorType
from baton.router.data_path_settings import DataPathSettings
from baton.sim.faults import Fault, FaultKind
from baton.sim.transfer import Kind
from functional.engine_fixture import DONE, Message, Reply, generated, read_message, said, sse
from functional.router_fixture import COMPLETIONS, DEADLINE, chat, eventually, on_uvloop, request, router
from functional.simulated_pair import simulated_pair

if TYPE_CHECKING:
    from functional.engine_fixture import Script

LAYERWISE = KVConnectorType.MOONCAKE_LAYERWISE
PREFILLED: set[str] = set()
"""The ids of requests that a scripted prefill has answered."""

BLOCKS = {"do_remote_decode": True, "do_remote_prefill": False, "remote_block_ids": [[1, 2]], "remote_port": 30100}


async def call_back(url: str, content: Any) -> Message:
    """Do what decode's scheduler does."""
    host, port = url.removeprefix("http://").split("/")[0].split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(request(content, "/" + url.split("/", 3)[3]))
        return await read_message(reader)
    finally:
        writer.close()


def metaserver_of(message: Message) -> str:
    return str(message.json["kv_transfer_params"]["metaserver"])


def blocks_of(message: Message, **fields: Any) -> dict[str, Any]:
    return {"request_id": f"chatcmpl-{message.headers['x-request-id']}", **BLOCKS, **fields}


async def generates_when_prefilled(message: Message, reply: Reply) -> None:
    await eventually(lambda: message.headers["x-request-id"] in PREFILLED)
    await generated(message, reply)


def calling_back(*callbacks: dict[str, Any], then: Script = generates_when_prefilled) -> Script:
    """Return a decode that calls back, once for each, and then does something else."""

    async def decode(message: Message, reply: Reply) -> None:
        for fields in callbacks:
            answer = await call_back(metaserver_of(message), blocks_of(message, **fields))
            assert answer.status == 200
        await then(message, reply)

    return decode


async def waits_for_ever(message: Message, reply: Reply) -> None:
    await reply.client_gone()


async def prefills(message: Message, reply: Reply) -> None:
    PREFILLED.add(message.headers["x-request-id"])
    await reply.json({"choices": [], "usage": {"prompt_tokens_details": {"cached_tokens": 7}}})


async def fails(message: Message, reply: Reply) -> None:
    await reply.json({"error": {"message": "out of memory"}}, status=500)


async def refuses(message: Message, reply: Reply) -> None:
    await reply.json({"error": {"message": "too long", "code": 400}}, status=400)


@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize(
    ("path", "body"), [("/v1/chat/completions", chat()), (COMPLETIONS, {"model": "m", "prompt": [1, 2, 3]})]
)
@on_uvloop
async def test_decode_calls_for_its_prefill(path: str, body: dict[str, Any], is_streamed: bool) -> None:
    asked = body | {"max_tokens": 5, "stream": is_streamed}
    async with simulated_pair(LAYERWISE) as pair:
        answer = await pair.rig.ask(asked, path)
        many = await asyncio.gather(*(pair.rig.ask(asked, path) for _ in range(20)))
        prefill, decode = pair.state()

    assert [reply.status for reply in (answer, *many)] == [200] * 21
    if is_streamed:
        assert answer.body.endswith(DONE)
    else:
        assert answer.json["usage"]["completion_tokens"] == 5
    assert prefill["requests"] == {"prefill": 21, "decode": 0, "aggregated": 0}
    assert decode["requests"] == {"prefill": 0, "decode": 21, "aggregated": 0}
    assert decode["kv"]["received"] == 21
    assert prefill["kv"]["errors"] == decode["kv"]["errors"] == {}
    assert prefill["kv"]["blocks_used"] == decode["kv"]["blocks_used"] == 0


@on_uvloop
async def test_a_recomputed_answer_is_prefilled_again() -> None:
    async with simulated_pair(LAYERWISE) as pair:
        whole = await pair.rig.ask(chat(max_tokens=9, temperature=0))
        pair.decode.faults = [Fault(kind=FaultKind.RECOMPUTE, phase=Kind.DECODE, after=4, times=2)]
        stream = await pair.rig.ask(chat(max_tokens=9, temperature=0, stream=True))
        _, decode = pair.state()

    events = [json.loads(line[6:]) for line in stream.body.splitlines() if line.startswith(b"data: {")]
    text = "".join(event["choices"][0]["delta"].get("content") or "" for event in events)
    assert text == whole.json["choices"][0]["message"]["content"]
    assert decode["kv"]["received"] == 4


@on_uvloop
async def test_both_engines_know_a_request_by_one_id_that_begins_with_the_clients() -> None:
    async with router([prefills], [calling_back({})], connector=LAYERWISE) as rig:
        answers = [await rig.ask(chat(), headers="X-Request-Id: mine\r\n") for _ in range(2)]

        given = [message.headers["x-request-id"] for message in rig.decode[0].requests]
        assert [message.headers["x-request-id"] for message in rig.prefill[0].requests] == given
        [first, second] = rig.prefill[0].requests
    assert [answer.headers["x-request-id"] for answer in answers] == ["mine", "mine"]
    assert [one.startswith("mine-") for one in given] == [True, True]
    assert given[0] != given[1]
    assert first.json["kv_transfer_params"] == {"request_id": f"chatcmpl-{given[0]}", **BLOCKS}
    assert (first.json["min_tokens"], first.json["max_tokens"], first.json["stream"]) == (1, 1, False)
    assert first.first == second.first == "POST /v1/chat/completions HTTP/1.1"


@on_uvloop
async def test_a_second_callback_prefills_again_and_a_repeated_one_does_not() -> None:
    waiting = asyncio.Event()

    async def prefills_at_last(message: Message, reply: Reply) -> None:
        await waiting.wait()
        await prefills(message, reply)

    async def decode(message: Message, reply: Reply) -> None:
        for port in (1, 1, 2):  # blocks, the same again, then others
            await call_back(metaserver_of(message), blocks_of(message, remote_port=port))
            prefilled = 1 if port == 1 else 2
            await eventually(lambda: len(prefill.requests) == prefilled)  # noqa: B023 # it is awaited here
        waiting.set()
        while len(prefill.requests) < 3:  # until its answer has come, this is a repetition
            await call_back(metaserver_of(message), blocks_of(message, remote_port=2))
        await generated(message, reply)

    async with router([prefills_at_last], [decode], connector=LAYERWISE) as rig:
        prefill = rig.prefill[0]
        answer = await rig.ask(chat())

        ports = [message.json["kv_transfer_params"]["remote_port"] for message in prefill.requests]
    assert answer.status == 200
    assert ports[:3] == [1, 2, 2]


@on_uvloop
async def test_a_decode_that_never_calls_back_is_aborted_and_another_tried() -> None:
    settings = DataPathSettings(callback_time=0.05)
    async with router([prefills], [waits_for_ever, calling_back({})], connector=LAYERWISE, settings=settings) as rig:
        answer = await rig.ask(chat())

        assert rig.decode[0].abandoned == 1
    assert answer.status == 200
    assert answer.headers["x-baton-decode"] == "ns/d1:8000"


@on_uvloop
async def test_the_client_hears_of_a_callback_that_never_came() -> None:
    settings = DataPathSettings(callback_time=0.05)
    async with router([prefills], [waits_for_ever], connector=LAYERWISE, settings=settings, attempts=0) as rig:
        answer = await rig.ask(chat())

    assert (answer.status, answer.json["error"]["code"]) == (504, "upstream_no_callback")


@on_uvloop
async def test_a_prefill_that_fails_aborts_its_decode_and_another_pair_is_tried() -> None:
    async def waits_at_first(message: Message, reply: Reply) -> None:
        await (waits_for_ever if len(reply.engine.requests) == 1 else generates_when_prefilled)(message, reply)

    async with router([fails, prefills], [calling_back({}, then=waits_at_first)], connector=LAYERWISE) as rig:
        answer = await rig.ask(chat())

        assert rig.decode[0].abandoned == 1
    assert answer.status == 200
    assert answer.headers["x-baton-prefill"] == "ns/p1:8000"


@on_uvloop
async def test_what_prefill_refuses_the_client_hears() -> None:
    async with router([refuses], [calling_back({}, then=waits_for_ever)], connector=LAYERWISE) as rig:
        answer = await rig.ask(chat())

        await eventually(lambda: rig.decode[0].abandoned == 1)
    assert (answer.status, answer.json["error"]["message"]) == (400, "too long")


@on_uvloop
async def test_a_decode_that_stays_silent_after_its_prefill_is_given_up() -> None:
    settings = DataPathSettings(hand_over_time=0.05)
    silent = calling_back({}, then=waits_for_ever)
    async with router([prefills], [silent, calling_back({})], connector=LAYERWISE, settings=settings) as rig:
        answer = await rig.ask(chat(stream=True))

        assert rig.decode[0].abandoned == 1
    assert answer.body.endswith(DONE)


@on_uvloop
async def test_a_client_that_leaves_takes_both_calls_with_it() -> None:
    async with router([waits_for_ever], [calling_back({}, then=waits_for_ever)], connector=LAYERWISE) as rig:
        client = await rig.send(request(chat(stream=True)))
        await eventually(lambda: len(rig.prefill[0].requests) == 1)
        client.close()
        await eventually(lambda: rig.prefill[0].abandoned == rig.decode[0].abandoned == 1)


@on_uvloop
async def test_callbacks_that_nobody_waits_for_are_refused() -> None:
    seen: list[Message] = []

    async def decode(message: Message, reply: Reply) -> None:
        url, good = metaserver_of(message), blocks_of(message)
        for content, path in (
            (good | {"request_id": "chatcmpl-other"}, ""),
            (good | {"request_id": good["request_id"] + "-0"}, ""),
            (good | {"request_id": 5}, ""),
            (good | {"do_remote_decode": False}, ""),
            (b"{", ""),
            (good, "/elsewhere"),
            (good, ""),
        ):
            seen.append(await call_back(url + path, content))
        await generates_when_prefilled(message, reply)

    async with router([prefills], [decode], connector=LAYERWISE) as rig:
        answer = await rig.ask(chat())
        [message] = rig.decode[0].requests
        async with asyncio.timeout(DEADLINE):
            while (await call_back(metaserver_of(message), blocks_of(message))).status != 404:
                pass  # the answer is there before the request is forgotten

    assert answer.status == 200
    assert [message.status for message in seen] == [404, 404, 400, 400, 400, 404, 200]


@on_uvloop
async def test_prefill_tells_how_many_tokens_were_cached() -> None:
    is_seen = asyncio.Event()

    async def decodes(message: Message, reply: Reply) -> None:
        await reply.begin_stream()
        while not is_seen.is_set():
            usage = {"prompt_tokens_details": {"cached_tokens": 90}}
            await reply.chunk(sse(said("a") | {"usage": usage}))
            await asyncio.sleep(0.001)
        await reply.chunk(sse(said("b", finish_reason="stop")) + DONE)
        await reply.end_stream()

    async with router([prefills], [calling_back({}, then=decodes)], connector=LAYERWISE) as rig:
        client = await rig.send(request(chat(stream=True)))
        async with asyncio.timeout(DEADLINE):
            await client.reader.readuntil(b'"cached_tokens":7}')
        is_seen.set()
        rest = await client.reader.readuntil(DONE)

    assert b'"cached_tokens":90' not in rest
