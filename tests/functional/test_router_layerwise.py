"""Decode first: the router in front of engines that call its metaserver."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from baton.api.traffic import KVConnectorType
from functional.router_fixture import COMPLETIONS, DONE, chat, on_uvloop
from functional.simulated_pair import simulated_pair

if TYPE_CHECKING:
    from typing import Any

LAYERWISE = KVConnectorType.MOONCAKE_LAYERWISE


@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize(
    ("path", "body"), [("/v1/chat/completions", chat()), (COMPLETIONS, {"model": "m", "prompt": "Hi"})]
)
@on_uvloop
async def test_decode_calls_for_its_prefill(path: str, body: dict[str, Any], is_streamed: bool) -> None:
    async with simulated_pair(LAYERWISE) as pair:
        asked = body | {"max_tokens": 5, "stream": is_streamed}
        answer = await pair.rig.ask(asked, path)
        many = await asyncio.gather(*(pair.rig.ask(asked, path) for _ in range(20)))
        prefill, decode = pair.state()

    assert answer.status == 200, answer.body
    assert [reply.status for reply in many] == [200] * 20
    if is_streamed:
        assert answer.body.endswith(DONE)
    else:
        assert answer.json["usage"]["completion_tokens"] == 5
    assert prefill["requests"] == {"prefill": 21, "decode": 0, "aggregated": 0}
    assert decode["requests"] == {"prefill": 0, "decode": 21, "aggregated": 0}
    assert decode["kv"]["received"] == 21
    assert prefill["kv"]["errors"] == decode["kv"]["errors"] == {}
    assert prefill["kv"]["blocks_used"] == decode["kv"]["blocks_used"] == 0
