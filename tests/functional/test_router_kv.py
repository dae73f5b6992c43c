"""The KV that prefill engines hold: whatever becomes of a request, none is left to time out."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from prometheus_client import REGISTRY

from baton.router.data_path_settings import DataPathSettings
from functional.router_fixture import (
    TRANSFER,
    Message,
    Reply,
    chat,
    eventually,
    generated,
    on_uvloop,
    prefilled,
    request,
    router,
)

if TYPE_CHECKING:
    from functional.router_fixture import Rig, Script


async def never_answers(request: Message, reply: Reply) -> None:
    await reply.client_gone()


async def hangs_up(request: Message, reply: Reply) -> None:
    reply.hang_up()


async def fails(request: Message, reply: Reply) -> None:
    await reply.json({"error": "no memory"}, status=500)


async def refuses(request: Message, reply: Reply) -> None:
    await reply.json({"error": "not so"}, status=400)


def settled(outcome: str) -> float:
    """Return how many prefill results have had an outcome so far."""
    return REGISTRY.get_sample_value("baton_router_kv_settled_total", {"outcome": outcome}) or 0.0


def held() -> float:
    return REGISTRY.get_sample_value("baton_router_kv_held") or 0.0


def releases(rig: Rig) -> list[int]:
    return [len(engine.releases) for engine in rig.decode]


@on_uvloop
async def test_kv_that_decode_has_pulled_is_left_alone() -> None:
    before = settled("pulled")
    async with router() as rig:
        for stream in (True, False):
            await rig.ask(chat(stream=stream))

        assert releases(rig) == [0]
    assert (settled("pulled") - before, held()) == (2, 0)


@pytest.mark.parametrize("stream", [True, False])
@on_uvloop
async def test_kv_is_reclaimed_when_the_client_leaves_before_decode_answers(stream: bool) -> None:
    before = settled("reclaimed")
    async with router(decode=[never_answers]) as rig:
        client = await rig.send(request(chat(stream=stream, max_tokens=50, n=1, temperature=0.5)))
        await eventually(lambda: len(rig.decode[0].requests) == 1)
        assert held() == 1
        client.close()
        await eventually(lambda: releases(rig) == [1])

        [release] = rig.decode[0].releases
    assert release.json == {
        "model": "m",
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": False,
        "max_tokens": 1,
        "n": 1,
        "temperature": 0.5,
        "kv_transfer_params": TRANSFER,
    }
    assert (settled("reclaimed") - before, held()) == (1, 0)


@on_uvloop
async def test_kv_is_reclaimed_when_the_client_leaves_while_decode_is_being_connected() -> None:
    settings = DataPathSettings(max_endpoint_connections=1)
    async with router(decode=[never_answers], settings=settings) as rig:
        first = await rig.send(request(chat(stream=True)))
        await eventually(lambda: len(rig.decode[0].requests) == 1)
        second = await rig.send(request(chat(stream=True)))
        await eventually(lambda: held() == 2)
        second.close()
        first.close()
        await eventually(lambda: releases(rig) == [2])

        assert len(rig.decode[0].requests) == 1
    assert held() == 0


@on_uvloop
async def test_nothing_is_reclaimed_when_the_client_leaves_during_prefill() -> None:
    async with router([never_answers]) as rig:
        client = await rig.send(request(chat()))
        await eventually(lambda: len(rig.prefill[0].requests) == 1)
        client.close()
        await eventually(lambda: rig.prefill[0].abandoned == 1)

        assert releases(rig) == [0]


@pytest.mark.parametrize("failing", [hangs_up, fails])
@on_uvloop
async def test_kv_is_reclaimed_by_another_decode_when_one_fails(failing: Script) -> None:
    before = settled("reclaimed")
    async with router(decode=[failing, generated]) as rig:
        assert (await rig.ask(chat(stream=True))).status == 200
        await eventually(lambda: rig.server.is_idle or not held())

        assert releases(rig) == [0, 1]
    assert (settled("reclaimed") - before, held()) == (1, 0)


@on_uvloop
async def test_kv_is_reclaimed_when_decode_refuses_the_request() -> None:
    async with router(decode=[refuses]) as rig:
        assert (await rig.ask(chat())).status == 400
        await eventually(lambda: releases(rig) == [1])


@on_uvloop
async def test_kv_that_no_decode_can_pull_is_given_up() -> None:
    before = settled("expired")
    async with router(attempts=0) as rig:
        [choice] = rig.directory.choices
        rig.directory.choices = [replace(choice, decode=replace(choice.decode, port=1))]
        assert (await rig.ask(chat())).status == 502
        await eventually(lambda: not held())
    assert settled("expired") - before == 1


@on_uvloop
async def test_prefill_is_in_use_until_its_kv_is_free() -> None:
    async def releases_late(request: Message, reply: Reply) -> None:
        await may_answer.wait()
        await reply.json({})

    may_answer = asyncio.Event()
    async with router(decode=[never_answers]) as rig:
        rig.decode[0].release_script = releases_late
        client = await rig.send(request(chat(stream=True)))
        await eventually(lambda: len(rig.decode[0].requests) == 1)
        client.close()
        await eventually(lambda: releases(rig) == [1])

        assert rig.directory.in_flight["ns/p0:8000"] == 1
        may_answer.set()
        await eventually(lambda: rig.directory.is_idle)


@on_uvloop
async def test_a_router_that_drains_frees_kv_before_it_goes() -> None:
    async with router(decode=[never_answers]) as rig:
        client = await rig.send(request(chat(stream=True)))
        await eventually(lambda: len(rig.decode[0].requests) == 1)
        await rig.server.drain(0.05)

        assert releases(rig) == [1]
        assert held() == 0
        assert (await client.read()).status == 503


@on_uvloop
async def test_an_answer_of_prefill_that_comes_as_the_client_leaves_is_reclaimed_too() -> None:
    async def leaves(message: Message, reply: Reply) -> None:
        client.close()
        await prefilled(message, reply)

    async with router([leaves]) as rig:
        for _ in range(20):
            client = await rig.connect()
            await client.send(request(chat()))
            await eventually(lambda: rig.server.is_idle)
            await eventually(lambda: not held())


@on_uvloop
async def test_a_connection_that_was_half_closed_carries_no_further_request() -> None:
    is_over = asyncio.Event()

    async def answers_a_client_that_has_left(message: Message, reply: Reply) -> None:
        if len(reply.engine.requests) == 1:
            await reply.reader.read()
            await prefilled(message, reply)
            await is_over.wait()
        else:
            await prefilled(message, reply)

    async with router([answers_a_client_that_has_left]) as rig:
        client = await rig.send(request(chat()))
        await eventually(lambda: len(rig.prefill[0].requests) == 1)
        client.close()
        await eventually(lambda: len(rig.decode[0].releases) == 1)
        answer = await rig.ask(chat())
        is_over.set()

    assert answer.status == 200
