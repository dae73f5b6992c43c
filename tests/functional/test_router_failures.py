"""What engines may do wrong, and what the client sees of it."""

from __future__ import annotations

import logging
import socket
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from baton.api.traffic import KVConnectorType
from baton.router.data_path_settings import DataPathSettings
from functional.router_fixture import (
    DONE,
    TRANSFER,
    Message,
    Reply,
    Rig,
    chat,
    eventually,
    generated,
    on_uvloop,
    prefilled,
    request,
    router,
    said,
    sse,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Script = Callable[[Message, Reply], Awaitable[None]]

ONE = said("one", finish_reason="stop")


async def hangs_up(request: Message, reply: Reply) -> None:
    reply.hang_up()


async def fails(request: Message, reply: Reply) -> None:
    await reply.json({"error": {"message": "out of memory"}}, status=500)


async def overloaded(request: Message, reply: Reply) -> None:
    await reply.json({"error": "busy"}, status=503)


async def refuses(request: Message, reply: Reply) -> None:
    await reply.json({"error": {"message": "too long", "code": 400}}, status=400)


async def hangs_up_after_the_head(request: Message, reply: Reply) -> None:
    await reply.begin_stream()
    reply.hang_up()


async def hangs_up_in_the_answer(request: Message, reply: Reply) -> None:
    await reply.raw(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
    reply.hang_up()


async def speaks_nonsense(request: Message, reply: Reply) -> None:
    await reply.raw(b"nonsense\r\n\r\n")


async def ends_an_empty_stream(request: Message, reply: Reply) -> None:
    await reply.begin_stream()
    await reply.end_stream()


async def answers_without_parameters(request: Message, reply: Reply) -> None:
    await reply.json({"choices": [], "kv_transfer_params": None})


async def answers_no_json(request: Message, reply: Reply) -> None:
    await reply.json(b"<html>")


async def never_answers(request: Message, reply: Reply) -> None:
    await reply.client_gone()


def asked(rig: Rig) -> list[int]:
    return [len(engine.requests) for engine in rig.prefill + rig.decode]


@pytest.mark.parametrize(
    "failing", [hangs_up, fails, overloaded, speaks_nonsense, answers_without_parameters, answers_no_json]
)
@on_uvloop
async def test_another_prefill_is_tried_when_one_fails(failing: Script) -> None:
    async with router(prefill=[failing, prefilled]) as rig:
        answer = await rig.ask(chat())

        assert asked(rig) == [1, 1, 1]
    assert (answer.status, answer.headers["x-baton-prefill"]) == (200, "ns/p1:8000")


@on_uvloop
async def test_another_pair_is_tried_when_nothing_listens() -> None:
    async with router(prefill=[prefilled, prefilled]) as rig:
        await rig.prefill[0].stop()
        answer = await rig.ask(chat())

    assert (answer.status, answer.headers["x-baton-prefill"]) == (200, "ns/p1:8000")


@pytest.mark.parametrize(
    "failing", [hangs_up, fails, hangs_up_after_the_head, hangs_up_in_the_answer, speaks_nonsense, ends_an_empty_stream]
)
@pytest.mark.parametrize("stream", [True, False])
@on_uvloop
async def test_a_decode_that_fails_before_its_first_byte_costs_a_new_prefill(failing: Script, stream: bool) -> None:
    keys: list[int] = []

    async def prefills_with_a_new_key(request: Message, reply: Reply) -> None:
        keys.append(len(keys))
        await reply.json({"kv_transfer_params": TRANSFER | {"key": keys[-1]}})

    async with router([prefills_with_a_new_key], [failing, generated]) as rig:
        answer = await rig.ask(chat(stream=stream))

        [first], [second] = (engine.requests for engine in rig.decode)
    assert [message.json["kv_transfer_params"]["key"] for message in (first, second)] == [0, 1]
    assert (answer.status, answer.headers["x-baton-decode"]) == (200, "ns/d1:8000")


@on_uvloop
async def test_an_only_pair_is_tried_again() -> None:
    async def fails_once(request: Message, reply: Reply) -> None:
        await (fails if len(rig.decode[0].requests) == 1 else generated)(request, reply)

    async with router(decode=[fails_once]) as rig:
        answer = await rig.ask(chat())

        assert asked(rig) == [2, 2]
    assert answer.status == 200


@pytest.mark.parametrize(
    ("failing", "status", "code", "part"),
    [
        (fails, 502, "upstream_engine_error", 'answered 500: {"error":{"message":"out of memory"}}'),
        (hangs_up, 502, "upstream_closed", "without an answer"),
        (answers_without_parameters, 502, "upstream_no_transfer_parameters", "without kv_transfer_params"),
        (answers_no_json, 502, "upstream_malformed", "other than JSON"),
    ],
)
@on_uvloop
async def test_tries_are_bounded_and_the_last_failure_is_told(
    failing: Script, status: int, code: str, part: str
) -> None:
    async with router(prefill=[failing] * 4, attempts=2) as rig:
        answer = await rig.ask(chat())

        assert asked(rig) == [1, 1, 1, 0, 0]
    error = answer.json["error"]
    assert (answer.status, error["code"], error["type"]) == (status, code, "server_error")
    assert part in error["message"]
    assert "prefill endpoint ns/p2:8000" in error["message"].lower()
    assert error["message"].endswith("(3 tries).")


@on_uvloop
async def test_a_refusal_may_be_empty_and_come_through_any_connector() -> None:
    async def refuses_silently(request: Message, reply: Reply) -> None:
        await reply.json(b"", status=429)

    async with router([refuses_silently], connector=KVConnectorType.LMCACHE) as rig:
        answer = await rig.ask(chat())

        assert asked(rig) == [1, 0]
    assert (answer.status, answer.body) == (429, b"")


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("phase", ["prefill", "decode"])
@on_uvloop
async def test_an_engines_refusal_passes_unchanged_and_is_not_retried(phase: str, stream: bool) -> None:
    prefill, decode = (refuses, generated) if phase == "prefill" else (prefilled, refuses)
    async with router([prefill, prefilled], [decode, generated]) as rig:
        answer = await rig.ask(chat(stream=stream))

        assert asked(rig) == [1, 0, int(phase == "decode"), 0]
    assert answer.status == 400
    assert answer.body == b'{"error":{"message":"too long","code":400}}'
    assert answer.headers["content-type"] == "application/json"


@on_uvloop
async def test_no_ready_pair_is_told_with_a_time_to_come_back() -> None:
    async with router(settings=DataPathSettings(retry_after=7)) as rig:
        rig.directory.choices = []
        answer = await rig.ask(chat())

    assert (answer.status, answer.headers["retry-after"]) == (503, "7")
    assert answer.json["error"]["code"] == "no_ready_endpoints"


@on_uvloop
async def test_busy_endpoints_are_told_with_a_time_to_come_back() -> None:
    async with router(prefill=()) as rig:
        rig.directory.choices, rig.directory.full = [], True
        answer = await rig.ask(chat())

    assert (answer.status, answer.headers["retry-after"]) == (429, "5")
    assert (answer.json["error"]["code"], answer.json["error"]["type"]) == (
        "too_many_requests",
        "invalid_request_error",
    )


@pytest.mark.parametrize(
    ("status", "is_well"), [(200, True), (400, True), (404, True), (429, True), (500, False), (503, False)]
)
@on_uvloop
async def test_the_directory_hears_how_each_call_ended(status: int, is_well: bool) -> None:
    async def answers(request: Message, reply: Reply) -> None:
        await reply.json({}, status=status)

    async with router(decode=[answers], attempts=0) as rig:
        await rig.ask(chat())

        assert rig.directory.outcomes == [("ns/p0:8000", True), ("ns/d0:8000", is_well)]


@on_uvloop
async def test_a_call_that_the_client_left_says_nothing_of_the_endpoint() -> None:
    async def never_answers(request: Message, reply: Reply) -> None:
        await reply.client_gone()

    async with router(prefill=(), decode=[never_answers]) as rig:
        client = await rig.send(request(chat()))
        await eventually(lambda: len(rig.decode[0].requests) == 1)
        client.close()
        await eventually(lambda: rig.decode[0].abandoned == 1)

        assert rig.directory.outcomes == []


@pytest.mark.parametrize("phase", ["prefill", "decode"])
@on_uvloop
async def test_the_timeout_bounds_all_tries_together(phase: str) -> None:
    prefill, decode = (never_answers, generated) if phase == "prefill" else (prefilled, never_answers)
    async with router([prefill] * 3, [decode] * 3, timeout=0.1) as rig:
        answer = await rig.ask(chat(stream=True))

        assert sum(asked(rig)) == (1 if phase == "prefill" else 2)
    assert (answer.status, answer.json["error"]["code"]) == (504, "upstream_timeout")


@on_uvloop
async def test_a_slow_prefill_is_given_up_in_time_for_another() -> None:
    async with router(prefill=[never_answers, prefilled], settings=DataPathSettings(prefill_time=0.05)) as rig:
        answer = await rig.ask(chat(stream=True))

        assert asked(rig) == [1, 1, 1]
    assert answer.status == 200


@on_uvloop
async def test_decode_has_to_begin_before_prefill_gives_the_kv_away() -> None:
    settings = DataPathSettings(hand_over_time=0.05)
    async with router(decode=[never_answers, generated], settings=settings) as rig:
        answer = await rig.ask(chat(stream=True))

        assert asked(rig) == [2, 1, 1]
    assert answer.status == 200


@on_uvloop
async def test_an_answer_that_is_not_streamed_and_breaks_off_everywhere_is_a_502() -> None:
    async with router(decode=[hangs_up_in_the_answer] * 3) as rig:
        answer = await rig.ask(chat())

        assert asked(rig) == [3, 1, 1, 1]
    assert (answer.status, answer.json["error"]["code"]) == (502, "upstream_broken_off")


@on_uvloop
async def test_a_long_error_of_an_engine_is_told_in_part() -> None:
    async def fails_at_length(request: Message, reply: Reply) -> None:
        await reply.raw(b"HTTP/1.1 500 X\r\nTransfer-Encoding: chunked\r\n\r\n")
        await reply.chunk(b"x" * 5000)
        await reply.client_gone()

    async with router(decode=[fails_at_length], attempts=0) as rig:
        answer = await rig.ask(chat())

    assert answer.json["error"]["message"].endswith(f"answered 500: {'x' * 300} (1 try).")


@on_uvloop
async def test_a_prefill_answer_beyond_the_limit_is_not_kept() -> None:
    async def verbose(request: Message, reply: Reply) -> None:
        await reply.json({"kv_transfer_params": {"x": "y" * 2000}})

    settings = DataPathSettings(max_answer_bytes=1000)
    async with router(prefill=[verbose], settings=settings, attempts=0) as rig:
        answer = await rig.ask(chat())

    assert (answer.status, answer.json["error"]["code"]) == (502, "upstream_too_large")


@on_uvloop
async def test_the_load_of_prefill_is_held_until_decodes_first_byte() -> None:
    loads: list[dict[str, int]] = []

    async def watches(request: Message, reply: Reply) -> None:
        loads.append(dict(rig.directory.in_flight))
        await reply.begin_stream()
        await reply.chunk(sse(ONE))
        await eventually(lambda: rig.directory.in_flight["ns/p0:8000"] == 0)
        loads.append(dict(rig.directory.in_flight))
        await reply.chunk(DONE)
        await reply.end_stream()

    async with router(decode=[watches]) as rig:
        await rig.ask(chat(stream=True))

    assert loads == [{"ns/p0:8000": 1, "ns/d0:8000": 1}, {"ns/p0:8000": 0, "ns/d0:8000": 1}]


@on_uvloop
async def test_every_request_leaves_one_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "baton.router.access"):
        async with router(prefill=[fails, prefilled]) as rig:
            client = await rig.connect()
            for body in (chat(), chat(model="other"), b"{"):
                await client.ask(body)
            await client.get("/nowhere")
            await client.get("/healthz")

    fields = [record.__dict__["baton_fields"] for record in caplog.records]
    assert [(line["status"], line["reason"]) for line in fields] == [
        (200, "ok"),
        (404, "model_not_found"),
        (400, "invalid_request"),
        (404, "unknown_path"),
    ]
    served = fields[0]
    assert (served["attempts"], served["prefill"], served["decode"]) == (2, "ns/p1:8000", "ns/d0:8000")
    assert (served["route"], served["backend"], served["prompt_tokens"]) == ("default/route", "ns/b", 3)


@on_uvloop
async def test_a_fault_of_the_router_itself_is_an_answer_too(caplog: pytest.LogCaptureFixture) -> None:
    async with router() as rig:
        client = await rig.connect()
        rig.directory.choices = None  # type: ignore[assignment] # whatever breaks
        broken = await client.ask(chat())

    assert (broken.status, broken.json["error"]["code"]) == (500, "internal_error")
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR] == ["request failed"]


@on_uvloop
async def test_a_connection_that_cannot_be_made_in_time_is_a_failed_try() -> None:
    with socket.socket() as full:
        # A listener whose queue is full answers no further connection.
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        async with router(prefill=[prefilled, prefilled], settings=DataPathSettings(connect_time=0.1)) as rig:
            choice = rig.directory.choices[0]
            assert choice.prefill is not None
            slow = replace(choice.prefill, port=full.getsockname()[1])
            rig.directory.choices[0] = replace(choice, prefill=slow)
            answer = await rig.ask(chat())
        for filler in fillers:
            filler.close()

    assert (answer.status, answer.headers["x-baton-prefill"]) == (200, "ns/p1:8000")
