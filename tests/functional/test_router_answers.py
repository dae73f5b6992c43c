"""What must reach decode, and what the client sees of model names and usage, with prefill and decode apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from baton.api.traffic import KVConnectorType
from functional.engine_fixture import DONE, TRANSFER, Message, Reply, dumps, said, sse
from functional.router_fixture import COMPLETIONS, chat, on_uvloop, router

if TYPE_CHECKING:
    from typing import Any


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize("is_streamed", [False, True])
@on_uvloop
async def test_the_client_sees_the_model_it_asked_for(is_streamed: bool, size: int) -> None:
    async def names_its_model(message: Message, reply: Reply) -> None:
        answer = said('he said "model":"/models/m"', finish_reason="stop") | {"model": message.json["model"]}
        raw = sse(answer) + DONE if is_streamed else dumps(answer)
        kind = "text/event-stream" if is_streamed else "application/json"
        await reply.raw(f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(raw)}\r\n\r\n".encode())
        for start in range(0, len(raw), size):
            await reply.raw(raw[start : start + size])

    async with router(decode=[names_its_model], model="/models/m") as rig:
        answer = await rig.ask(chat(stream=is_streamed))

    assert b'"model":"m"' in answer.body
    assert b'\\"model\\":\\"/models/m\\"' in answer.body
    assert answer.body.count(b"/models/m") == 1


@pytest.mark.parametrize("connector", [KVConnectorType.MOONCAKE, KVConnectorType.LMCACHE])
@pytest.mark.parametrize("is_streamed", [False, True])
@on_uvloop
async def test_cached_tokens_are_those_that_prefill_found(connector: KVConnectorType, is_streamed: bool) -> None:
    def usage(cached: int) -> dict[str, Any]:
        return {"usage": {"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": cached}}}

    async def prefills(message: Message, reply: Reply) -> None:
        await reply.json({"choices": [], "kv_transfer_params": TRANSFER} | usage(4))

    async def decodes(message: Message, reply: Reply) -> None:
        if is_streamed:
            await reply.stream(said("a", finish_reason="stop"), {"choices": []} | usage(9))
        else:
            await reply.json(said("a", finish_reason="stop") | usage(9))

    async with router([prefills], [decodes], connector=connector) as rig:
        answer = await rig.ask(chat(stream=is_streamed, stream_options={"include_usage": True}))

    assert b'"prompt_tokens":9,"prompt_tokens_details":{"cached_tokens":4}' in answer.body


@on_uvloop
async def test_what_belongs_to_the_answer_reaches_decode_untouched() -> None:
    body = {
        "model": "m",
        "prompt": [1, 2, 3],
        "stream": True,
        "max_completion_tokens": 7,
        "logprobs": 2,
        "tools": [{"type": "function", "function": {"name": "f"}}],
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        "stop": ["x"],
        "seed": 2**70,
    }
    async with router() as rig:
        await rig.ask(body, COMPLETIONS)

        [decode], [prefill] = rig.decode[0].requests, rig.prefill[0].requests
    assert {name: decode.json[name] for name in body} == body
    assert prefill.json["prompt"] == [1, 2, 3]
    assert (prefill.json["max_tokens"], prefill.json["max_completion_tokens"], prefill.json["stream"]) == (1, 1, False)
    assert "stream_options" not in prefill.json
