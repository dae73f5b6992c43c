"""Prefill, KV transfer and decode on real vLLM servers: the same answers as from one server, and no KV left behind."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from real_engine.engines import MODEL, Generation, stream_events

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import aiohttp

    from real_engine.conftest import System
    from real_engine.engines import Server

pytestmark = pytest.mark.real_engine

PROMPT = "the prompt is read, and the answer is written by decode. " * 6
DEADLINE = 60.0
"""Seconds until KV must be free. vLLM itself would hold it for 480."""

GREEDY: dict[str, Any] = {"temperature": 0}
SEEDED: dict[str, Any] = {"temperature": 1.0, "seed": 4711}


def chat(prompt: str = PROMPT, **fields: object) -> dict[str, Any]:
    messages = [{"role": "user", "content": prompt}]
    return {"model": MODEL, "messages": messages, "max_tokens": 48, "ignore_eos": True, **fields}


async def ask(session: aiohttp.ClientSession, url: str, body: dict[str, Any]) -> dict[str, Any]:
    path = "/v1/chat/completions" if "messages" in body else "/v1/completions"
    async with session.post(url + path, json=body) as response:
        answer: dict[str, Any] = await response.json()
        assert response.status == 200, answer
        return answer


async def read_stream(
    session: aiohttp.ClientSession,
    url: str,
    body: dict[str, Any],
    *,
    after_text: Callable[[], Awaitable[None]] | None = None,
) -> Generation:
    """Read a stream to its end; call `after_text` once, when some text has come."""
    path = "/v1/chat/completions" if "messages" in body else "/v1/completions"
    generation = Generation()
    async with session.post(url + path, json={**body, "stream": True}) as response:
        assert response.status == 200, await response.text()
        async for event in stream_events(response):
            if event is None:
                generation.is_done = True
                continue
            assert "error" not in event, event
            generation.add(event)
            if after_text is not None and len(generation.text) > 10:
                await after_text()
                after_text = None
    return generation


async def wait_until_free(session: aiohttp.ClientSession, servers: list[Server]) -> None:
    """Wait until no server runs a request or holds KV."""
    deadline = asyncio.get_running_loop().time() + DEADLINE
    while True:
        used = {
            f"{server.name} {name}": value
            for server in servers
            for name in ("vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc")
            if (value := await server.metric(session, name)) > 0
        }
        if not used:
            return
        assert asyncio.get_running_loop().time() < deadline, f"still in use: {used}"
        await asyncio.sleep(0.25)


@pytest.mark.parametrize("sampling", [GREEDY, SEEDED], ids=["greedy", "seeded"])
async def test_a_chat_answer_equals_that_of_one_server(
    system: System, session: aiohttp.ClientSession, sampling: dict[str, Any]
) -> None:
    body = chat(**sampling)
    alone = await ask(session, system.decode[0].url, body)
    handed_over = await ask(session, system.router_url, body)

    assert handed_over["choices"] == alone["choices"]
    assert handed_over["usage"]["completion_tokens"] == 48
    assert handed_over["usage"]["prompt_tokens"] == alone["usage"]["prompt_tokens"]


@pytest.mark.parametrize("sampling", [GREEDY, SEEDED], ids=["greedy", "seeded"])
async def test_a_stream_equals_that_of_one_server(
    system: System, session: aiohttp.ClientSession, sampling: dict[str, Any]
) -> None:
    body = chat(**sampling, return_token_ids=True)
    alone = await read_stream(session, system.decode[0].url, body)
    handed_over = await read_stream(session, system.router_url, body)

    assert handed_over.token_ids == alone.token_ids
    assert len(handed_over.token_ids) == 48
    assert handed_over.text == alone.text
    assert handed_over.is_done
    assert handed_over.finish_reason == "length"


async def test_a_completion_of_token_ids_equals_that_of_one_server(
    system: System, session: aiohttp.ClientSession
) -> None:
    body = {"model": MODEL, "prompt": list(range(10, 90)), "max_tokens": 16, "ignore_eos": True, **GREEDY}
    alone = await ask(session, system.decode[1].url, body)

    assert (await ask(session, system.router_url, body))["choices"] == alone["choices"]


async def test_decode_pulls_the_kv_and_prefill_keeps_none(system: System, session: aiohttp.ClientSession) -> None:
    servers = [*system.prefill, *system.decode]
    read_by_prefill = sum([await server.metric(session, "vllm:prompt_tokens_total") for server in system.prefill])
    await asyncio.gather(*(ask(session, system.router_url, chat(seed=n, temperature=1.0)) for n in range(8)))

    assert sum([await s.metric(session, "vllm:prompt_tokens_total") for s in system.prefill]) > read_by_prefill
    await wait_until_free(session, servers)


async def test_a_client_that_leaves_in_mid_stream_frees_the_kv(system: System, session: aiohttp.ClientSession) -> None:
    body = chat(max_tokens=1500, stream=True)
    async with session.post(f"{system.router_url}/v1/chat/completions", json=body) as response:
        events = stream_events(response)
        for _ in range(5):
            await anext(events)
    await wait_until_free(session, [*system.prefill, *system.decode])


@pytest.mark.parametrize("after", [0.0, 0.02, 0.05, 0.1, 0.2])
async def test_a_client_that_leaves_before_its_answer_frees_the_kv(
    system: System, session: aiohttp.ClientSession, after: float
) -> None:
    async def leave() -> None:
        request = asyncio.ensure_future(ask(session, system.router_url, chat(max_tokens=1000)))
        await asyncio.sleep(after)  # somewhere in prefill, hand-over or decode, as the machine goes
        request.cancel()
        await asyncio.wait([request])

    await asyncio.gather(*(leave() for _ in range(4)))
    await wait_until_free(session, [*system.prefill, *system.decode])
