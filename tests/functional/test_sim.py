"""The simulated engines on real sockets: addresses, the hand-over, errors, clients that leave, start and stop."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from typing import TYPE_CHECKING, Any

import aiohttp
import orjson
import pytest
from aiohttp import web

from baton.sim.listening import PortUnavailableError
from baton.sim.server import SimServer
from baton.sim.settings import SimSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

PREFILL, DECODE = "127.64.0.1", "127.64.0.2"
CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Tell me."}], "max_tokens": 5}
FOR_PREFILL = {"max_tokens": 1, "min_tokens": 1, "kv_transfer_params": {"do_remote_decode": True}}


class Client:
    """Talks to the engines of one process by their addresses."""

    def __init__(self, server: SimServer, session: aiohttp.ClientSession) -> None:
        self.server = server
        self.session = session

    async def get(self, address: str, path: str) -> tuple[int, bytes]:
        async with self.session.get(self.server.url(address) + path) as response:
            return response.status, await response.read()

    async def post(self, address: str, body: Any, *, path: str = "/v1/chat/completions") -> tuple[int, Any]:
        raw = body if isinstance(body, bytes) else orjson.dumps(body)
        headers = {"X-Request-Id": "abc"}
        async with self.session.post(self.server.url(address) + path, data=raw, headers=headers) as response:
            return response.status, await response.json()

    async def answer(self, address: str, body: Any, *, path: str = "/v1/chat/completions") -> Any:
        status, answer = await self.post(address, body, path=path)
        assert status == 200, answer
        return answer

    async def stream(self, address: str, body: Any) -> list[Any]:
        """Return the events of a streamed chat, without the end mark, which must be there."""
        url = self.server.url(address) + "/v1/chat/completions"
        async with self.session.post(url, json=body | {"stream": True}) as response:
            assert response.status == 200
            assert response.content_type == "text/event-stream"
            *events, end = (await response.read()).removesuffix(b"\n\n").split(b"\n\n")
        assert end == b"data: [DONE]"
        return [orjson.loads(event.removeprefix(b"data: ")) for event in events]

    async def prefill(self) -> Any:
        answer = await self.answer(PREFILL, CHAT | FOR_PREFILL)
        return answer["kv_transfer_params"]


@contextlib.asynccontextmanager
async def start(**settings: Any) -> AsyncIterator[Client]:
    async with SimServer(SimSettings(ports=(0,), **settings)) as server, aiohttp.ClientSession() as session:
        yield Client(server, session)


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with start() as client:
        yield client


async def wait_until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 # an engine announces nothing to wait for
            await asyncio.sleep(0.005)


async def test_one_port_answers_as_many_engines_by_their_addresses(client: Client) -> None:
    for address in ("127.64.0.2", "127.64.0.1", "127.64.0.1"):
        await client.answer(address, CHAT)
    _, raw = await client.get("127.64.9.9", "/sim/state")
    engines = orjson.loads(raw)["engines"]
    port = client.server.port
    assert [(engine["address"], engine["port"]) for engine in engines] == [("127.64.0.1", port), ("127.64.0.2", port)]
    assert [engine["requests"]["aggregated"] for engine in engines] == [2, 1]
    _, text = await client.get("127.64.0.1", "/metrics")
    assert b'vllm:request_success_total{engine="0",finished_reason="length",model_name="*"} 2.0' in text
    _, text = await client.get("127.64.0.3", "/metrics")
    assert b'vllm:request_success_total{engine="0",finished_reason="length",model_name="*"} 0.0' in text


async def test_prefill_and_decode_give_the_aggregated_answer(client: Client) -> None:
    aggregated = await client.answer("127.64.0.3", CHAT)
    parameters = await client.prefill()
    assert (parameters["remote_host"], parameters["remote_port"]) == (PREFILL, client.server.port)
    assert client.server.engine(PREFILL).kv.held_blocks == 1
    role, *words, usage = await client.stream(
        DECODE, CHAT | {"kv_transfer_params": parameters, "stream_options": {"include_usage": True}}
    )
    assert role["choices"][0]["delta"]["role"] == "assistant"
    text = "".join(word["choices"][0]["delta"]["content"] for word in words)
    assert text == aggregated["choices"][0]["message"]["content"]
    assert usage["usage"] == aggregated["usage"]
    prefill, decode = client.server.engine(PREFILL), client.server.engine(DECODE)
    assert (prefill.kv.held_blocks, prefill.kv.pulled) == (0, 1)
    assert prefill.describe()["requests"]["prefill"] == decode.describe()["requests"]["decode"] == 1


async def test_an_answer_is_named_by_the_request(client: Client) -> None:
    assert (await client.answer(DECODE, CHAT))["id"] == "chatcmpl-abc"
    completion = await client.answer(DECODE, {"model": "m", "prompt": "Hello"}, path="/v1/completions")
    assert completion["id"] == "cmpl-abc"
    role, *_ = await client.stream(DECODE, CHAT)
    assert role["id"].startswith("chatcmpl-")
    assert role["id"] != "chatcmpl-abc"


async def test_a_cut_answer_goes_on_by_token_ids_or_by_text(client: Client) -> None:
    whole = await client.answer(PREFILL, CHAT | {"return_token_ids": True, "max_tokens": 20})
    prompt, tokens = whole["prompt_token_ids"], whole["choices"][0]["token_ids"]
    replay = {"model": "m", "prompt": prompt + tokens[:8], "max_tokens": 12, "return_token_ids": True}
    by_ids = await client.answer(DECODE, replay, path="/v1/completions")
    assert by_ids["choices"][0]["token_ids"] == tokens[8:]
    begun = whole["choices"][0]["message"]["content"].removesuffix(by_ids["choices"][0]["text"])
    said = {"role": "assistant", "content": begun}
    continuing = {"add_generation_prompt": False, "continue_final_message": True, "max_tokens": 12}
    by_text = await client.answer(DECODE, CHAT | {"messages": [*CHAT["messages"], said]} | continuing)
    assert by_text["choices"][0]["message"]["content"] == by_ids["choices"][0]["text"]


@pytest.mark.parametrize("stream", [False, True])
async def test_reused_kv_fails_before_the_first_byte(client: Client, stream: bool) -> None:
    parameters = await client.prefill()
    decode = CHAT | {"kv_transfer_params": parameters, "stream": stream}
    await client.answer(DECODE, decode | {"stream": False})
    status, answer = await client.post(DECODE, decode)
    assert status == 500
    assert "pulled before" in answer["error"]["message"]
    assert answer["error"]["type"] == "InternalServerError"
    _, text = await client.get(DECODE, "/metrics")
    assert b'sim:kv_errors_total{engine="0",model_name="*",reason="reused"} 1.0' in text


async def test_a_prefill_that_is_gone_fails_its_decode(client: Client, unused_tcp_port: int) -> None:
    parameters = await client.prefill() | {"remote_port": unused_tcp_port}
    status, answer = await client.post(DECODE, CHAT | {"kv_transfer_params": parameters})
    assert status == 500
    assert f"no answer from the prefill at {PREFILL}:{unused_tcp_port}" in answer["error"]["message"]


async def test_a_prefill_that_is_no_simulated_engine_fails_its_decode(client: Client) -> None:
    runner = web.AppRunner(web.Application())
    await runner.setup()
    try:
        await web.TCPSite(runner, PREFILL, 0).start()
        parameters = await client.prefill() | {"remote_port": runner.addresses[0][1]}
        status, answer = await client.post(DECODE, CHAT | {"kv_transfer_params": parameters})
    finally:
        await runner.cleanup()
    assert status == 500
    assert "is no simulated engine" in answer["error"]["message"]


async def test_a_wrong_pull_is_refused(client: Client) -> None:
    status, answer = await client.post(PREFILL, {"engine_id": "e"}, path="/sim/kv/pull")
    assert (status, answer["reason"]) == (400, "invalid")


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        (b"{", 400, None),
        ({"messages": CHAT["messages"]}, 400, "model"),
        ({"model": "m"}, 400, "messages"),
        (CHAT | {"max_tokens": 1000}, 400, None),
        (CHAT | {"model": "x"}, 404, "model"),
        (CHAT | {"kv_transfer_params": {"do_remote_prefill": True}}, 400, "kv_transfer_params"),
    ],
)
async def test_a_wrong_request_gets_an_error_as_openais(body: Any, status: int, field: str | None) -> None:
    async with start(models=("m",), max_model_len=500) as client:
        answered, answer = await client.post(DECODE, body)
        assert answered == status
        assert (answer["error"]["code"], answer["error"]["param"]) == (status, field)
        assert answer["error"]["message"]
        assert client.server.engine(DECODE).kv.used == 0


async def test_models_health_and_version_are_served() -> None:
    async with start(models=("m", "n")) as client:
        status, raw = await client.get(DECODE, "/v1/models")
        assert [card["id"] for card in orjson.loads(raw)["data"]] == ["m", "n"]
        assert (status, await client.get(DECODE, "/health")) == (200, (200, b""))
        assert b"version" in (await client.get(DECODE, "/version"))[1]
        status, raw = await client.get(DECODE, "/nothing")
        assert (status, orjson.loads(raw)["error"]["type"]) == (404, "NotFoundError")


async def test_a_client_that_leaves_aborts_its_request() -> None:
    async with start(tokens_per_second=200) as client:
        engine = client.server.engine(DECODE)
        url = client.server.url(DECODE) + "/v1/chat/completions"
        async with client.session.post(url, json=CHAT | {"stream": True, "max_tokens": 10000}) as response:
            await response.content.readuntil(b"\n\n")
            assert (engine.running, engine.kv.used > 0) == (1, True)
            response.close()
        await wait_until(lambda: engine.running == 0)
        assert engine.kv.used == 0
        assert engine.counters.finished == {"abort": 1}


async def test_leaving_cuts_streams_and_closes_the_port() -> None:
    async with aiohttp.ClientSession() as session:
        async with start(tokens_per_second=50) as client:
            url = client.server.url(DECODE)
            response = await session.post(
                url + "/v1/chat/completions", json=CHAT | {"stream": True, "max_tokens": 10000}
            )
            await response.content.readuntil(b"\n\n")
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.get(url + "/health")


async def test_every_port_given_is_listened_on() -> None:
    async with SimServer(SimSettings(ports=(0, 0))) as server, aiohttp.ClientSession() as session:
        assert len(set(server.ports)) == 2
        for port in server.ports:
            async with session.get(server.url(DECODE, port) + "/metrics") as response:
                assert response.status == 200
        assert [(identity.address, identity.port) for identity in sorted(server.engines)] == [
            (DECODE, port) for port in sorted(server.ports)
        ]


async def test_a_taken_port_is_named_and_nothing_stays_open(client: Client) -> None:
    server = SimServer(SimSettings(ports=(0, client.server.port)))
    with pytest.raises(PortUnavailableError, match=f"port {client.server.port}: another program has it"):
        await server.__aenter__()
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.get(server.url(DECODE) + "/health")


async def start_command(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from baton.cli.sim import sim; sim()",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def test_the_command_says_when_it_listens_and_stops_on_sigterm(unused_tcp_port: int) -> None:
    process = await start_command("--ports", f"{unused_tcp_port}", "--tokens-per-second", "20")
    try:
        assert process.stderr is not None
        ready = await asyncio.wait_for(process.stderr.readline(), timeout=20)
        assert ready.decode() == f"sim: listening on 0.0.0.0 port {unused_tcp_port}\n"
        url = f"http://{DECODE}:{unused_tcp_port}/v1/chat/completions"
        async with (
            aiohttp.ClientSession() as session,
            session.post(url, json=CHAT | {"stream": True, "max_tokens": 10000}) as response,
        ):
            await response.content.readuntil(b"\n\n")
            process.send_signal(signal.SIGTERM)
            _, errors = await asyncio.wait_for(process.communicate(), timeout=20)
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.read()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    assert (process.returncode, errors) == (0, b"")


async def test_the_command_fails_clearly_when_a_port_is_taken(client: Client) -> None:
    process = await start_command("--ports", f"{client.server.port}")
    _, errors = await asyncio.wait_for(process.communicate(), timeout=20)
    assert process.returncode == 1
    assert f"port {client.server.port}: another program has it" in errors.decode()
    assert "Traceback" not in errors.decode()


async def test_the_command_names_a_wrong_option() -> None:
    process = await start_command("--ports", "80x")
    _, errors = await asyncio.wait_for(process.communicate(), timeout=20)
    assert process.returncode == 2
    assert "'--ports': '80x' is no port" in errors.decode()
