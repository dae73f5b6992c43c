"""Both sides at once: the router in front of engines that meet in a room, as SGLang's do."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from baton.api.traffic import KVConnectorType
from functional.engine_fixture import DONE, Message, Reply, generated
from functional.router_fixture import chat, eventually, on_uvloop, request, router
from functional.simulated_pair import PREFILL, simulated_pair

if TYPE_CHECKING:
    from typing import Any

SGLANG = KVConnectorType.SGLANG


async def prefills(message: Message, reply: Reply) -> None:
    await reply.json({"choices": []})


async def waits_for_ever(message: Message, reply: Reply) -> None:
    await reply.client_gone()


async def fails(message: Message, reply: Reply) -> None:
    await reply.json({"error": {"message": "out of memory"}}, status=500)


async def refuses(message: Message, reply: Reply) -> None:
    await reply.json({"error": {"message": "too long", "code": 400}}, status=400)


@pytest.mark.parametrize("is_streamed", [False, True])
@on_uvloop
async def test_both_engines_meet_and_decode_answers(is_streamed: bool) -> None:
    asked = chat(max_tokens=5, stream=is_streamed)
    async with simulated_pair(SGLANG) as pair:
        answers = await asyncio.gather(*(pair.rig.ask(asked) for _ in range(20)))
        prefill, decode = pair.state()

    assert [answer.status for answer in answers] == [200] * 20
    if is_streamed:
        assert answers[0].body.endswith(DONE)
    else:
        assert answers[0].json["usage"]["completion_tokens"] == 5
    assert (prefill["requests"]["prefill"], decode["requests"]["decode"]) == (20, 20)
    assert prefill["kv"]["met"] == 20
    assert prefill["kv"]["errors"] == decode["kv"]["errors"] == {}
    assert prefill["kv"]["blocks_used"] == decode["kv"]["blocks_used"] == 0


@on_uvloop
async def test_each_try_has_a_room_of_its_own_and_the_clients_is_not_taken() -> None:
    evil = {"bootstrap_host": "evil", "bootstrap_port": 1, "bootstrap_room": 2}
    async with router([prefills], [fails, generated], connector=SGLANG) as rig:
        answer = await rig.ask(chat(**evil))

        [first, second] = [message.json for message in rig.prefill[0].requests]
        decodes = [engine.requests[0].json for engine in rig.decode]
    assert answer.status == 200
    assert decodes == [first, second]
    assert first["bootstrap_room"] != second["bootstrap_room"]
    assert 0 <= first["bootstrap_room"] < 2**63
    assert {name: first[name] for name in evil} == {
        "bootstrap_host": "127.0.0.1",
        "bootstrap_port": None,
        "bootstrap_room": first["bootstrap_room"],
    }
    assert b"evil" not in rig.prefill[0].requests[0].body


@on_uvloop
async def test_the_bootstrap_port_of_the_backend_is_told() -> None:
    async with router([prefills], [generated], connector=SGLANG) as rig:
        rig.directory.backend = rig.directory.backend.model_copy(update={"bootstrap_port": 8998})
        await rig.ask(chat())

        assert rig.decode[0].requests[0].json["bootstrap_port"] == 8998


@on_uvloop
async def test_a_prefill_that_fails_aborts_its_decode_and_another_pair_is_tried() -> None:
    async def waits_at_first(message: Message, reply: Reply) -> None:
        await (waits_for_ever if len(reply.engine.requests) == 1 else generated)(message, reply)

    async with router([fails, prefills], [waits_at_first], connector=SGLANG) as rig:
        answer = await rig.ask(chat())

        await eventually(lambda: rig.decode[0].abandoned == 1)
    assert answer.status == 200
    assert answer.headers["x-baton-prefill"] == "ns/p1:8000"


@on_uvloop
async def test_a_decode_that_fails_aborts_its_prefill() -> None:
    async with router([waits_for_ever], [fails], connector=SGLANG, attempts=0) as rig:
        answer = await rig.ask(chat())

        await eventually(lambda: rig.prefill[0].abandoned == 1)
    assert answer.status == 502


@on_uvloop
async def test_what_prefill_refuses_the_client_hears() -> None:
    async with router([refuses], [waits_for_ever], connector=SGLANG) as rig:
        answer = await rig.ask(chat())

        await eventually(lambda: rig.decode[0].abandoned == 1)
    assert (answer.status, answer.json["error"]["message"]) == (400, "too long")


@on_uvloop
async def test_a_client_that_leaves_takes_both_calls_with_it() -> None:
    async with router([waits_for_ever], [waits_for_ever], connector=SGLANG) as rig:
        client = await rig.send(request(chat(stream=True)))
        await eventually(lambda: len(rig.prefill[0].requests) == len(rig.decode[0].requests) == 1)
        client.close()
        await eventually(lambda: rig.prefill[0].abandoned == rig.decode[0].abandoned == 1)


@on_uvloop
async def test_a_simulated_decode_whose_prefill_has_another_prompt_fails() -> None:
    async with simulated_pair(SGLANG) as pair:
        [choice] = pair.rig.directory.choices
        meeting: dict[str, Any] = {"bootstrap_host": PREFILL, "bootstrap_room": 7, "max_tokens": 3}

        async def ask(address: str, prompt: str) -> int:
            reader, writer = await asyncio.open_connection(address, choice.decode.port)
            try:
                writer.write(request({"model": "m", "prompt": prompt, **meeting}, "/v1/completions"))
                return int((await reader.readline()).split()[1])
            finally:
                writer.close()

        statuses = await asyncio.gather(ask(PREFILL, "one"), ask(choice.decode.address, "two"))

    assert set(statuses) == {500}
