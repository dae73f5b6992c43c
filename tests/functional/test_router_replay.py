"""Streams that break off and go on: the client gets, byte for byte, what an undisturbed engine would have sent."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from baton.api.router_config import RouterConfig
from baton.router.data_path_settings import DataPathSettings
from baton.router.live_directory import LiveDirectory
from baton.router.server import RouterServer
from baton.sim.faults import Fault, FaultKind
from baton.sim.server import SimServer
from baton.sim.settings import SimSettings
from baton.sim.transfer import Kind
from functional.router_fixture import CHAT, COMPLETIONS, Client, Message, chat, eventually, on_uvloop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PREFILLS = ("127.64.9.1", "127.64.9.2")
DECODES = ("127.64.9.11", "127.64.9.12")
SETTINGS = DataPathSettings(names_endpoints=False)
IMPATIENT = replace(SETTINGS, stall_time=0.1, hand_over_time=0.2)
BREAKS = [kind for kind in FaultKind if kind is not FaultKind.REFUSE]


@dataclass
class Stage:
    """A router in front of two prefill and two decode engines that can be told to fail."""

    server: RouterServer
    sim: SimServer
    port: int

    def fail(self, kind: FaultKind, *, at: tuple[str, ...] = DECODES, **when: Any) -> None:
        """Have a decode fail; one fault that all of `at` share, so `times` counts for them together."""
        fault = Fault(kind=kind, phase=Kind.DECODE, **when)
        for address in at:
            self.sim.engine(address).faults.append(fault)

    async def ask(self, body: dict[str, Any], path: str = CHAT) -> Message:
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port))
        try:
            return await client.ask(body, path, headers="X-Request-Id: same\r\n")
        finally:
            client.close()

    def kv(self, what: str) -> int:
        return sum(self.sim.engine(address).describe()["kv"][what] for address in PREFILLS)


@contextlib.asynccontextmanager
async def stage(*, tokens_per_second: float = 0.0, settings: DataPathSettings = SETTINGS) -> AsyncIterator[Stage]:
    """At the end nothing may be left, and every prefill's KV must have been pulled."""
    sim_settings = SimSettings(ports=(0,), models=("m",), tokens_per_second=tokens_per_second)
    async with SimServer(sim_settings) as sim:
        phases = dict.fromkeys(PREFILLS, "prefill") | dict.fromkeys(DECODES, "decode")
        endpoints = [{"address": address, "port": sim.port, "phase": phase} for address, phase in phases.items()]
        backend = {"name": "b", "connector": "mooncake", "endpoints": endpoints, "retry": {"interval": 0.001}}
        route = {"name": "r", "modelName": "m", "rules": [{"targets": [{"backend": "b"}]}]}
        directory = LiveDirectory(random.Random(7).random)
        directory.publish([RouterConfig.model_validate({"routes": [route], "backends": [backend]})])
        server = RouterServer(settings, directory)
        try:
            at = Stage(server, sim, await server.start("127.0.0.1", 0))
            yield at
            await eventually(lambda: server.is_idle)
            assert (at.kv("held"), at.kv("expired")) == (0, 0)
            assert directory._loads == {}
        finally:
            await server.close()


def normal(answer: Message) -> bytes:
    """Return a body without what no two answers have in common."""
    body = answer.body
    created = body.partition(b'"created":')[2].partition(b",")[0]
    return body.replace(b'"created":' + created, b'"created":0')


def completion(**fields: Any) -> dict[str, Any]:
    return {"model": "m", "prompt": "Tell me", **fields}


@pytest.mark.parametrize(
    ("body", "path"),
    [
        pytest.param(chat(stream_options={"include_usage": True}), CHAT, id="chat"),
        pytest.param(completion(stream_options={"include_usage": True}), COMPLETIONS, id="completion"),
        pytest.param(chat(tools=[{"type": "function"}], stream_options={"include_usage": True}), CHAT, id="by text"),
        pytest.param(chat(seed=7, response_format={"type": "json_object"}), CHAT, id="by repetition"),
        pytest.param(chat(return_token_ids=True), CHAT, id="with token ids"),
    ],
)
@on_uvloop
async def test_a_stream_that_breaks_off_goes_on(body: dict[str, Any], path: str) -> None:
    body = body | {"stream": True, "max_tokens": 20}
    async with stage(settings=IMPATIENT) as at:
        expected = normal(await at.ask(body, path))
        for kind, after in itertools.product(BREAKS, (0, 1, 2, 19)):
            at.fail(kind, after=after, times=1)
            assert normal(await at.ask(body, path)) == expected, (kind, after)
            at.fail(kind, after=after, times=2)
            assert normal(await at.ask(body, path)) == expected, (kind, after, "twice")


@on_uvloop
async def test_an_answer_that_is_not_streamed_is_asked_for_again() -> None:
    body = chat(max_tokens=5)
    async with stage() as at:
        expected = normal(await at.ask(body))
        for kind in (FaultKind.RECOMPUTE, FaultKind.ABORT, FaultKind.CUT, FaultKind.ERROR, FaultKind.REFUSE):
            for after in (0,) if kind is FaultKind.REFUSE else (0, 3):
                at.fail(kind, after=after, times=2)
                assert normal(await at.ask(body)) == expected, (kind, after)


@on_uvloop
async def test_a_stream_goes_on_as_often_as_it_must() -> None:
    body = chat(stream=True, max_tokens=200, stream_options={"include_usage": True})
    async with stage() as at:
        expected = await at.ask(body)
        at.fail(FaultKind.RECOMPUTE, after=7)
        answers = await asyncio.gather(*(at.ask(body) for _ in range(5)))

    assert {normal(answer) for answer in answers} == {normal(expected)}


@on_uvloop
async def test_no_stream_of_many_is_lost_when_a_decode_dies() -> None:
    bodies = [chat(stream=True, max_tokens=60, stream_options={"include_usage": True}) for _ in range(40)]
    for n, body in enumerate(bodies):
        body["messages"] = [{"role": "user", "content": f"Tell me number {n}"}]
    async with stage(tokens_per_second=200) as at:
        expected = [normal(answer) for answer in await asyncio.gather(*(at.ask(body) for body in bodies))]
        streams = [asyncio.ensure_future(at.ask(body)) for body in bodies]
        engine = at.sim.engine(DECODES[0])
        before = engine.counters.generation_tokens
        await eventually(lambda: engine.counters.generation_tokens - before > 20 * 20)
        at.fail(FaultKind.CUT, at=DECODES[:1], rate=1.0)
        answers = [normal(answer) for answer in await asyncio.gather(*streams)]

        assert engine.counters.finished["abort"] > 10
    assert answers == expected


@on_uvloop
async def test_no_stream_of_many_is_lost_when_decodes_recompute() -> None:
    bodies = [chat(stream=True, max_tokens=100, stream_options={"include_usage": True}) for _ in range(40)]
    for n, body in enumerate(bodies):
        body["messages"] = [{"role": "user", "content": f"Tell me number {n}"}]
    async with stage() as at:
        expected = [normal(answer) for answer in await asyncio.gather(*(at.ask(body) for body in bodies))]
        at.fail(FaultKind.RECOMPUTE, rate=0.01)
        answers = [normal(answer) for answer in await asyncio.gather(*(at.ask(body) for body in bodies))]

        assert at.kv("pulled") > 2 * 40
    assert answers == expected


@on_uvloop
async def test_clients_that_leave_at_any_time_leave_no_kv_behind() -> None:
    async with stage(tokens_per_second=500) as at:
        for stream in (True, False):
            asked = [asyncio.ensure_future(at.ask(chat(stream=stream, max_tokens=50, user=str(n)))) for n in range(20)]
            for number, task in enumerate(asked):
                await asyncio.sleep(number * 0.0005)
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
