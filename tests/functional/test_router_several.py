"""Requests for several answers through prefill and decode: each answer has a prefill and a decode of its own."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from baton.api.traffic import KVConnectorType
from baton.sim.faults import Fault, FaultKind
from baton.sim.transfer import Kind
from functional.engine_fixture import DONE, Message, Reply, prefilled, said, sse
from functional.router_fixture import COMPLETIONS, DEADLINE, chat, eventually, on_uvloop, request, router
from functional.simulated_pair import simulated_pair

if TYPE_CHECKING:
    from functional.engine_fixture import Script

PROMPTS = ["one river", "two rivers", "many rivers"]
SEVERAL = [KVConnectorType.MOONCAKE, KVConnectorType.MOONCAKE_LAYERWISE, KVConnectorType.SGLANG]


def events_of(stream: bytes) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in stream.splitlines() if line.startswith(b"data: {")]


def texts_of(stream: bytes) -> dict[int, str]:
    texts: dict[int, str] = {}
    for event in events_of(stream):
        for choice in event["choices"]:
            texts[choice["index"]] = texts.get(choice["index"], "") + choice["text"]
    return texts


@pytest.mark.parametrize("connector", SEVERAL)
@pytest.mark.parametrize("prompts", [PROMPTS, [[1024, 1025], [1026]]])
@on_uvloop
async def test_a_list_of_prompts_is_answered_as_each_alone(connector: KVConnectorType, prompts: list[Any]) -> None:
    async with simulated_pair(connector) as pair:
        alone = [
            (await pair.rig.ask({"model": "m", "prompt": prompt, "max_tokens": 5}, COMPLETIONS)).json
            for prompt in prompts
        ]
        body = {"model": "m", "prompt": prompts, "max_tokens": 5}
        together = (await pair.rig.ask(body, COMPLETIONS)).json
        options = {"stream": True, "stream_options": {"include_usage": True}}
        stream = (await pair.rig.ask(body | options, COMPLETIONS)).body
        prefill, decode = pair.state()

    expected = [answer["choices"][0]["text"] for answer in alone]
    assert [choice["text"] for choice in together["choices"]] == expected
    assert [choice["index"] for choice in together["choices"]] == list(range(len(prompts)))
    usage = {name: sum(answer["usage"][name] for answer in alone) for name in alone[0]["usage"]}
    assert together["usage"] == usage
    assert texts_of(stream) == dict(enumerate(expected))
    events = events_of(stream)
    assert [event["usage"] for event in events if not event["choices"]] == [usage]
    assert len({event["id"] for event in events}) == 1
    assert stream.count(DONE) == 1
    assert stream.endswith(DONE)
    assert prefill["kv"]["held"] == prefill["kv"]["blocks_used"] == decode["kv"]["blocks_used"] == 0
    assert prefill["kv"]["errors"] == decode["kv"]["errors"] == {}


@on_uvloop
async def test_several_answers_to_one_prompt_have_seeds_and_ids_of_their_own() -> None:
    async def numbered(message: Message, reply: Reply) -> None:
        usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
        choice = {"index": 0, "message": {"content": str(message.json["seed"])}, "logprobs": {"content": []}}
        await reply.json({"id": message.headers["x-request-id"], "choices": [choice], "usage": usage})

    async with router([prefilled], [numbered]) as rig:
        answer = (await rig.ask(chat(n=3, seed=40, tools=[{"type": "function"}], logprobs=True))).json

        prefills, decodes = rig.prefill[0].requests, rig.decode[0].requests
    assert [choice["message"]["content"] for choice in answer["choices"]] == ["40", "41", "42"]
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
    assert answer["usage"] == {"prompt_tokens": 3, "completion_tokens": 6, "total_tokens": 9}
    assert answer["id"] == "made-id-0"
    ids = {f"made-id-{number}" for number in range(3)}
    assert {message.headers["x-request-id"] for message in prefills} == ids
    assert {message.headers["x-request-id"] for message in decodes} == ids
    assert [message.json["tools"] for message in decodes] == [[{"type": "function"}]] * 3
    assert [message.json.get("n") for message in prefills + decodes] == [None] * 6


async def refuses_the_second(message: Message, reply: Reply) -> None:
    if message.headers["x-request-id"].endswith("-1"):
        await reply.json({"error": {"message": "too long", "code": 400}}, status=400)
    else:
        await reply.client_gone()


async def fails_the_second(message: Message, reply: Reply) -> None:
    if message.headers["x-request-id"].endswith("-1"):
        await reply.json({"error": {"message": "out of memory"}}, status=500)
    else:
        await reply.client_gone()


@pytest.mark.parametrize(("script", "status"), [(refuses_the_second, 400), (fails_the_second, 502)])
@pytest.mark.parametrize("is_streamed", [False, True])
@on_uvloop
async def test_one_answer_that_fails_ends_the_others(script: Script, status: int, is_streamed: bool) -> None:
    async with router([prefilled], [script], attempts=0) as rig:
        answer = await rig.ask(chat(n=3, stream=is_streamed))

        await eventually(lambda: rig.decode[0].abandoned == 2)
    assert answer.status == status


@on_uvloop
async def test_a_stream_of_several_that_breaks_off_never_ends_as_if_it_were_whole() -> None:
    begun = asyncio.Event()

    async def breaks_the_second(message: Message, reply: Reply) -> None:
        await reply.begin_stream()
        await reply.chunk(sse(said("a")))
        if message.headers["x-request-id"].endswith("-1"):
            await begun.wait()
            reply.hang_up()
        else:
            await reply.client_gone()

    async with router([prefilled], [breaks_the_second], attempts=0) as rig:
        client = await rig.send(request(chat(n=2, stream=True)))
        await client.reader.readuntil(b'"index":1')
        begun.set()
        rest = await client.read_all()

    assert b'"error"' in rest
    assert DONE not in rest


@pytest.mark.parametrize("fault", [Fault(kind=FaultKind.RECOMPUTE, after=4), Fault(kind=FaultKind.CUT, after=3)])
@pytest.mark.parametrize("temperature", [0, 1])
@on_uvloop
async def test_a_stream_of_several_that_an_engine_gives_up_is_right_or_an_error(fault: Fault, temperature: int) -> None:
    body = {"model": "m", "prompt": PROMPTS, "max_tokens": 5, "temperature": temperature}
    options = {"stream": True, "stream_options": {"include_usage": True}}
    async with simulated_pair(KVConnectorType.MOONCAKE, attempts=3) as pair:
        whole = (await pair.rig.ask(body, COMPLETIONS)).json
        pair.decode.faults = [replace(fault, phase=Kind.DECODE, times=1)]
        stream = (await pair.rig.ask(body | options, COMPLETIONS)).body

    if temperature:
        assert b"replay_impossible" in stream
        assert DONE not in stream
    else:
        assert texts_of(stream) == {choice["index"]: choice["text"] for choice in whole["choices"]}
        assert [event["usage"] for event in events_of(stream) if not event["choices"]] == [whole["usage"]]


@on_uvloop
async def test_a_slow_client_slows_all_engines_down() -> None:
    sent = 0

    async def endless(message: Message, reply: Reply) -> None:
        nonlocal sent
        await reply.begin_stream()
        while True:
            await reply.chunk(sse(said("a" * 10_000)))
            sent += 1

    async with router([prefilled], [endless]) as rig:
        client = await rig.send(request(chat(n=2, stream=True)))
        await eventually(lambda: len(rig.decode[0].requests) == 2)
        seen = -1
        async with asyncio.timeout(DEADLINE):
            while seen != sent:
                seen = sent
                await asyncio.sleep(0.1)
        client.close()
        await eventually(lambda: rig.decode[0].abandoned == 2)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (chat(n=129), "n"),
        ({"model": "m", "prompt": ["a"] * 65, "n": 2}, "n"),
        ({"model": "m", "prompt": ["a"] * 129}, "prompt"),
        ({"model": "m", "prompt": "a", "best_of": 2}, "best_of"),
        ({"model": "m", "prompt": "a", "use_beam_search": True}, "use_beam_search"),
    ],
)
@on_uvloop
async def test_what_cannot_be_taken_apart_is_refused_with_the_field(body: dict[str, Any], param: str) -> None:
    async with router() as rig:
        answer = await rig.ask(body, COMPLETIONS if "prompt" in body else "/v1/chat/completions")

        assert rig.prefill[0].requests == []
    assert (answer.status, answer.json["error"]["param"]) == (400, param)
