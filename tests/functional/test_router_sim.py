"""The router in front of simulated engines, which hold KV and refuse what no prefill has handed over."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from baton.sim.server import SimServer
from baton.sim.settings import SimSettings
from functional.router_fixture import DONE, Rig, chat, on_uvloop, router

PREFILL, DECODE = "127.64.9.1", "127.64.9.2"


def use_simulated(rig: Rig, sim: SimServer) -> None:
    [choice] = rig.directory.choices
    assert choice.prefill is not None
    rig.directory.choices = [
        replace(
            choice,
            prefill=replace(choice.prefill, address=PREFILL, port=sim.port),
            decode=replace(choice.decode, address=DECODE, port=sim.port),
        )
    ]


@on_uvloop
async def test_requests_go_through_both_phases() -> None:
    async with SimServer(SimSettings(ports=(0,), models=("m",))) as sim, router() as rig:
        use_simulated(rig, sim)
        answer = await rig.ask(chat(max_tokens=5))
        stream = await rig.ask(chat(max_tokens=5, stream=True))
        many = await asyncio.gather(*(rig.ask(chat(max_tokens=5, seed=n)) for n in range(20)))
        state = sim.engine(PREFILL).describe()

    assert answer.json["usage"]["completion_tokens"] == 5
    assert stream.body.endswith(DONE)
    assert [reply.status for reply in many] == [200] * 20
    assert {key: state["kv"][key] for key in ("held", "pulled", "expired", "errors")} == {
        "held": 0,
        "pulled": 22,
        "expired": 0,
        "errors": {},
    }
