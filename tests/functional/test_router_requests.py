"""Requests that succeed, or are refused for what they are: bodies, headers and paths on both sides."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from baton.api.traffic import KVConnectorType
from baton.router.data_path_settings import DataPathSettings
from baton.routing.types import Choice
from functional.router_fixture import (
    COMPLETIONS,
    DONE,
    TRANSFER,
    chat,
    generated,
    has_ipv6,
    on_uvloop,
    prefilled,
    router,
    said,
    sse,
)

if TYPE_CHECKING:
    from typing import Any

EMPTY_PARAMETERS = {
    "do_remote_decode": True,
    "do_remote_prefill": False,
    "remote_engine_id": None,
    "remote_block_ids": None,
    "remote_host": None,
    "remote_port": None,
}


@on_uvloop
async def test_prefill_gets_a_reduced_request_and_decode_the_clients_with_the_parameters() -> None:
    body = chat(stream=True, stream_options={"include_usage": True}, max_completion_tokens=9, seed=2**70, n=1)
    async with router() as rig:
        answer = await rig.ask(body)

        [first], [second] = rig.prefill[0].requests, rig.decode[0].requests
    unchanged = {"model": "m", "messages": body["messages"], "n": 1}
    assert first.first == second.first == "POST /v1/chat/completions HTTP/1.1"
    assert {key: value for key, value in first.json.items() if key != "seed"} == unchanged | {
        "stream": False,
        "max_tokens": 1,
        "min_tokens": 1,
        "max_completion_tokens": 1,
        "kv_transfer_params": EMPTY_PARAMETERS,
    }
    assert second.json == body | {"return_token_ids": True, "kv_transfer_params": TRANSFER}
    assert answer.body.endswith(DONE)


@on_uvloop
async def test_a_stream_comes_through_as_the_engine_wrote_it() -> None:
    async with router() as rig:
        answer = await rig.ask(chat(stream=True))

    assert answer.status == 200
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.body == sse(said("Good"), said(" day", finish_reason="stop")) + DONE


@on_uvloop
async def test_an_answer_that_is_not_streamed_comes_with_its_length() -> None:
    async with router() as rig:
        answer = await rig.ask({"model": "m", "prompt": "Hi"}, COMPLETIONS)

    assert answer.json["choices"] == [{"message": {"content": "Hello"}}]
    assert answer.headers["content-length"] == str(len(answer.body))
    assert "transfer-encoding" not in answer.headers


@on_uvloop
async def test_the_answer_names_the_endpoints_and_the_request() -> None:
    async with router() as rig:
        answer = await rig.ask(chat())

    assert answer.headers["x-baton-prefill"] == "ns/p0:8000"
    assert answer.headers["x-baton-decode"] == "ns/d0:8000"
    assert answer.headers["x-request-id"] == "made-id"


@on_uvloop
async def test_the_answer_names_no_endpoints_where_that_is_unwanted() -> None:
    async with router(settings=DataPathSettings(names_endpoints=False)) as rig:
        answer = await rig.ask(chat())

    assert [name for name in answer.headers if name.startswith("x-baton")] == []


@pytest.mark.parametrize(
    ("sent", "used"),
    [("abc-1.2:3_4", "abc-1.2:3_4"), ("with blanks", "made-id"), ("x" * 129, "made-id"), ("", "made-id")],
)
@on_uvloop
async def test_a_sane_request_id_is_taken_and_any_other_replaced(sent: str, used: str) -> None:
    async with router() as rig:
        answer = await rig.ask(chat(), headers=f"X-Request-Id: {sent}\r\n")

        requests = rig.prefill[0].requests + rig.decode[0].requests
    assert [message.headers["x-request-id"] for message in (*requests, answer)] == [used] * 3


@on_uvloop
async def test_engines_get_the_clients_headers_but_those_of_its_connection() -> None:
    headers = (
        "Authorization: Bearer k\r\nX-Kept: 1\r\nConnection: keep-alive, X-Own\r\nX-Own: 2\r\nTE: trailers\r\n"
        "Accept-Encoding: gzip\r\n"
    )
    async with router() as rig:
        await rig.ask(chat(), headers=headers)

        requests = rig.prefill[0].requests + rig.decode[0].requests
    for message in requests:
        assert message.headers["authorization"] == "Bearer k"
        assert message.headers["x-kept"] == "1"
        assert {"connection", "x-own", "te", "accept-encoding"} & set(message.headers) == set()
        assert message.headers["host"].startswith("127.0.0.1:")


@pytest.mark.parametrize("connector", [KVConnectorType.HTTP, KVConnectorType.LMCACHE])
@on_uvloop
async def test_plain_connectors_pass_nothing_from_prefill_to_decode(connector: KVConnectorType) -> None:
    async with router(connector=connector) as rig:
        answer = await rig.ask(chat(max_tokens=50, min_tokens=5))

        [first], [second] = rig.prefill[0].requests, rig.decode[0].requests
    assert answer.status == 200
    assert first.json == chat(stream=False, max_tokens=1)
    assert second.json == chat(max_tokens=50, min_tokens=5)


@on_uvloop
async def test_an_aggregated_engine_gets_the_clients_bytes() -> None:
    body = b'{ "model": "m", "n": 3, "seed": 123456789012345678901234567890 }'
    async with router(prefill=()) as rig:
        answer = await rig.ask(body)

        assert rig.decode[0].requests[0].body == body
    assert answer.status == 200
    assert "x-baton-prefill" not in answer.headers


@pytest.mark.parametrize("prefill", [(prefilled,), ()])
@on_uvloop
async def test_parameters_that_a_client_sends_reach_no_engine(prefill: Any) -> None:
    async with router(prefill) as rig:
        await rig.ask(chat(kv_transfer_params={"do_remote_prefill": True, "remote_host": "evil"}))

        requests = [message for engine in rig.prefill + rig.decode for message in engine.requests]
    assert requests
    assert [message for message in requests if b"evil" in message.body] == []


@on_uvloop
async def test_the_model_is_rewritten_for_the_engines() -> None:
    async with router(model="/models/m") as rig:
        await rig.ask(chat())

        requests = rig.prefill[0].requests + rig.decode[0].requests
    assert [message.json["model"] for message in requests] == ["/models/m"] * 2


@pytest.mark.parametrize(
    ("body", "status", "param", "code"),
    [
        (b"{", 400, None, "invalid_request"),
        (b"[]", 400, None, "invalid_request"),
        (b"{}", 400, "model", "invalid_request"),
        (b'{"model":1}', 400, "model", "invalid_request"),
        (b'{"model":"other"}', 404, "model", "model_not_found"),
    ],
)
@on_uvloop
async def test_a_wrong_body_gets_an_error_that_clients_can_read(
    body: bytes, status: int, param: str | None, code: str
) -> None:
    async with router() as rig:
        client = await rig.connect()
        answer = await client.ask(body)
        after = await client.ask(chat())

    error = answer.json["error"]
    assert (answer.status, error["param"], error["code"]) == (status, param, code)
    assert error["type"] == "invalid_request_error"
    assert error["message"]
    assert answer.headers["x-request-id"] == "made-id"
    assert after.status == 200


@on_uvloop
async def test_rules_see_model_path_and_headers() -> None:
    async with router() as rig:
        await rig.ask(chat(), headers="X-Tenant: a\r\n")

        [facts] = rig.directory.facts
    assert (facts.model, facts.path, facts.headers["x-tenant"]) == ("m", "/v1/chat/completions", "a")


@on_uvloop
async def test_the_small_paths_answer() -> None:
    async with router() as rig:
        client = await rig.connect()
        models = await client.get("/v1/models")
        health = await client.get("/healthz")
        ready = await client.get("/readyz")
        metrics = await client.get("/metrics")
        unknown = await client.get("/nowhere")
        wrong = await client.get("/v1/chat/completions")

    assert models.json == {
        "object": "list",
        "data": [{"id": "m", "object": "model", "created": 0, "owned_by": "baton"}],
    }
    assert (health.status, health.json) == (200, {"message": "ok"})
    assert (ready.status, ready.json) == (200, {"message": "router is ready"})
    assert metrics.headers["content-type"].startswith("text/plain")
    assert b"# TYPE baton_router_requests_total counter" in metrics.body
    assert (unknown.status, unknown.json["error"]["code"]) == (404, "unknown_path")
    assert (wrong.status, wrong.headers["allow"]) == (405, "POST")


@on_uvloop
async def test_a_head_request_gets_no_body() -> None:
    async with router() as rig:
        client = await rig.send(b"HEAD /healthz HTTP/1.1\r\nHost: r\r\n\r\nGET /readyz HTTP/1.1\r\nHost: r\r\n\r\n")
        head = await client.reader.readuntil(b"\r\n\r\n")
        ready = await client.read()

    assert b"content-length: 16" in head
    assert ready.json == {"message": "router is ready"}


@on_uvloop
async def test_the_router_is_not_ready_before_its_directory_is() -> None:
    async with router() as rig:
        rig.directory.ready = False
        answer = await (await rig.connect()).get("/readyz")

    assert (answer.status, answer.json) == (503, {"message": "router is not ready"})


@on_uvloop
async def test_the_admin_listener_serves_probes_and_metrics_only() -> None:
    async with router(settings=DataPathSettings(has_public_metrics=False)) as rig:
        public = await (await rig.connect()).get("/metrics")
        rig.port = await rig.server.start_admin("127.0.0.1", 0)
        client = await rig.connect()
        statuses = {path: (await client.get(path)).status for path in ("/metrics", "/healthz", "/readyz", "/v1/models")}

    assert public.status == 404
    assert statuses == {"/metrics": 200, "/healthz": 200, "/readyz": 200, "/v1/models": 404}


@on_uvloop
async def test_a_large_prompt_goes_through_whole() -> None:
    body = json.dumps({"model": "m", "prompt": "é" * 500_000}, ensure_ascii=False).encode()
    async with router(decode=[generated]) as rig:
        answer = await rig.ask(body, COMPLETIONS)

        assert rig.decode[0].requests[0].body.startswith(body[:-1])
        assert rig.prefill[0].requests[0].json["prompt"] == "é" * 500_000
    assert answer.status == 200


@on_uvloop
async def test_engines_may_be_reached_by_name() -> None:
    async with router(prefill=()) as rig:
        endpoint = rig.decode[0].endpoint
        rig.directory.choices = [Choice(replace(endpoint, address="localhost"))]
        answer = await rig.ask(chat())

        assert rig.decode[0].requests[0].headers["host"] == f"localhost:{endpoint.port}"
    assert answer.status == 200


@on_uvloop
async def test_engines_may_be_reached_over_ipv6() -> None:
    if not has_ipv6():
        pytest.skip("this machine has no IPv6 loopback")
    async with router(prefill=(), host="::1") as rig:
        answer = await rig.ask(chat())

        assert rig.decode[0].requests[0].headers["host"] == f"[::1]:{rig.decode[0].endpoint.port}"
    assert answer.status == 200
