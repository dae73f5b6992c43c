"""Calls that are no completions: they go to engines that do whole requests, byte for byte."""

from __future__ import annotations

import pytest

from functional.router_fixture import DONE, Message, Reply, on_uvloop, router, sse

FORM = (
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n\x00\xff--b\r\r\n'
    b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nm\r\n--b--\r\n'
)
FORM_TYPE = "multipart/form-data; boundary=b"


def form_request(path: str) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: r\r\nContent-Type: {FORM_TYPE}\r\nContent-Length: {len(FORM)}\r\n\r\n"
    return head.encode() + FORM


@pytest.mark.parametrize(
    "path",
    [
        "/v1/responses",
        "/v1/embeddings?a=b",
        "/v1/messages",
        "/v1/messages/count_tokens",
        "/v1/rerank",
        "/v2/rerank",
        "/rerank",
        "/v1/score",
        "/score",
        "/classify",
        "/pooling",
        "/tokenize",
        "/detokenize",
        "/v1/audio/speech",
        "/v1/images/generations",
    ],
)
@on_uvloop
async def test_other_calls_go_to_aggregated_engines_as_they_are(path: str) -> None:
    async def answers(request: Message, reply: Reply) -> None:
        await reply.json({"data": [1.0]}, status=201)

    async with router(prefill=(), decode=[answers]) as rig:
        answer = await rig.ask(b'{"model":"m", "input":"x"}', path, headers="Anthropic-Version: 2023-06-01\r\n")

        [message] = rig.decode[0].requests
    assert (message.first, message.body) == (f"POST {path} HTTP/1.1", b'{"model":"m", "input":"x"}')
    assert message.headers["anthropic-version"] == "2023-06-01"
    assert (answer.status, answer.json) == (201, {"data": [1.0]})


@pytest.mark.parametrize("path", ["/v1/audio/transcriptions", "/v1/audio/translations"])
@on_uvloop
async def test_audio_goes_through_with_the_model_in_a_form(path: str) -> None:
    async def hears(request: Message, reply: Reply) -> None:
        await reply.json({"text": "Hello"})

    async with router(prefill=(), decode=[hears]) as rig:
        answer = await (await rig.send(form_request(path))).read()

        [message] = rig.decode[0].requests
    assert (message.body, message.headers["content-type"]) == (FORM, FORM_TYPE)
    assert answer.json == {"text": "Hello"}


@on_uvloop
async def test_the_model_of_a_form_is_rewritten_for_the_engine() -> None:
    async def hears(request: Message, reply: Reply) -> None:
        await reply.json({})

    async with router(prefill=(), decode=[hears], model="whisper-large") as rig:
        await (await rig.send(form_request("/v1/audio/transcriptions"))).read()

        assert rig.decode[0].requests[0].body == FORM.replace(b"\r\nm\r\n", b"\r\nwhisper-large\r\n")


@on_uvloop
async def test_a_completion_is_no_form() -> None:
    async with router() as rig:
        answer = await (await rig.send(form_request("/v1/chat/completions"))).read()

    assert (answer.status, answer.json["error"]["code"]) == (400, "invalid_request")


@pytest.mark.parametrize("last", [b"event: message_stop\ndata: {}\n\n", sse({"type": "response.completed"}), DONE])
@on_uvloop
async def test_their_streams_end_as_they_like(last: bytes) -> None:
    async def streams(request: Message, reply: Reply) -> None:
        await reply.begin_stream()
        await reply.chunk(sse({"n": 1}))
        await reply.chunk(last)
        await reply.end_stream()

    async with router(prefill=(), decode=[streams]) as rig:
        answer = await rig.ask({"model": "m", "stream": True}, "/v1/messages")

    assert answer.body == sse({"n": 1}) + last


@on_uvloop
async def test_other_calls_cannot_go_through_prefill_and_decode() -> None:
    async with router() as rig:
        answer = await rig.ask({"model": "m", "input": "x"}, "/v1/embeddings")

        assert rig.prefill[0].requests == []
    assert answer.status == 501
    assert answer.json["error"]["code"] == "unsupported_by_backend"
