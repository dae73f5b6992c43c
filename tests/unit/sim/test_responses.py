from __future__ import annotations

from typing import Any

import orjson
import pytest

from baton.sim.generation import Generation
from baton.sim.requests import Endpoint, GenerationRequest
from baton.sim.responses import AnswerHead, EventStream, write_answer, write_error, write_models
from baton.sim.tokens import History, tokenize, word_text
from baton.sim.transfer import Kind

PROMPT = tokenize("Tell me.")
USAGE = {"prompt_tokens": len(PROMPT), "completion_tokens": 3, "total_tokens": len(PROMPT) + 3}


def make(endpoint: Endpoint, **fields: Any) -> Generation:
    request = GenerationRequest(endpoint=endpoint, model="m", prompt=PROMPT, max_tokens=3, **fields)
    history = History(seed=0, model="m", prompt=PROMPT)
    return Generation(
        request=request,
        request_id="x",
        kind=Kind.AGGREGATED,
        source=None,
        history=history,
        fingerprint=history.fingerprint,
        limit=3,
        blocks=1,
        arrived_at=0.0,
    )


def write_stream(generation: Generation, *, response_id: str = "id") -> list[Any]:
    """Return the events of a whole stream; the end mark stays text."""
    events = EventStream(AnswerHead(response_id, 1700000000, "m"), generation.request)
    raw = b""
    while generation.finish_reason is None:
        token = generation.draw(eos_rate=0.0)
        raw += events.open() * (len(generation.tokens) == 1) + events.write_token(token, generation)
    raw += events.close(generation)
    assert raw.endswith(b"\n\n")
    data = [event.removeprefix(b"data: ") for event in raw.split(b"\n\n")[:-1]]
    return [event.decode() if event == b"[DONE]" else orjson.loads(event) for event in data]


def write_whole(generation: Generation) -> dict[str, Any]:
    while generation.finish_reason is None:
        generation.draw(eos_rate=0.0)
    answer = orjson.loads(write_answer(AnswerHead("id", 1700000000, "m"), generation))
    assert isinstance(answer, dict)
    return answer


def test_a_chat_stream_has_role_words_and_end() -> None:
    generation = make(Endpoint.CHAT, stream=True)
    role, *words, end = write_stream(generation)
    assert end == "[DONE]"
    assert role["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert [word["choices"][0]["delta"]["content"] for word in words] == [*map(word_text, generation.tokens)]
    assert [word["choices"][0]["finish_reason"] for word in words] == [None, None, "length"]
    for event in (role, *words):
        assert event["object"] == "chat.completion.chunk"
        assert (event["id"], event["created"], event["model"]) == ("id", 1700000000, "m")


def test_a_completion_stream_has_text_and_no_role() -> None:
    generation = make(Endpoint.COMPLETION, stream=True)
    *words, end = write_stream(generation)
    assert end == "[DONE]"
    assert "".join(word["choices"][0]["text"] for word in words) == generation.text
    assert {word["object"] for word in words} == {"text_completion"}


def test_usage_comes_last_if_asked_for() -> None:
    *_, usage, _ = write_stream(make(Endpoint.CHAT, stream=True, include_usage=True))
    assert usage["choices"] == []
    assert usage["usage"] == USAGE


def test_token_ids_come_with_each_chunk_and_the_prompts_with_the_first() -> None:
    chat = make(Endpoint.CHAT, stream=True, return_token_ids=True)
    role, *words, _ = write_stream(chat)
    assert role["prompt_token_ids"] == PROMPT
    assert [word["choices"][0]["token_ids"] for word in words] == [[token] for token in chat.tokens]
    completion = make(Endpoint.COMPLETION, stream=True, return_token_ids=True)
    first, *others, _ = write_stream(completion)
    assert first["choices"][0]["prompt_token_ids"] == PROMPT
    assert all("prompt_token_ids" not in other["choices"][0] for other in others)


def test_a_stop_token_is_named_as_the_reason() -> None:
    stop = make(Endpoint.CHAT).draw(eos_rate=0.0)
    *_, last, _ = write_stream(make(Endpoint.CHAT, stream=True, stop_token_ids=frozenset({stop})))
    assert last["choices"][0]["finish_reason"] == "stop"
    assert last["choices"][0]["stop_reason"] == stop
    assert last["choices"][0]["delta"]["content"] == ""


def test_an_id_from_the_client_is_escaped() -> None:
    role, *_ = write_stream(make(Endpoint.CHAT), response_id='chatcmpl-"%b\\')
    assert role["id"] == 'chatcmpl-"%b\\'


@pytest.mark.parametrize("endpoint", Endpoint)
def test_a_whole_answer_has_text_usage_and_the_hand_over(endpoint: Endpoint) -> None:
    generation = make(endpoint)
    generation.kv_transfer_params = {"remote_host": "127.64.0.1"}
    answer = write_whole(generation)
    choice = answer["choices"][0]
    text = choice["message"]["content"] if endpoint is Endpoint.CHAT else choice["text"]
    assert text == generation.text
    assert choice["finish_reason"] == "length"
    assert answer["usage"] == USAGE
    assert answer["kv_transfer_params"] == {"remote_host": "127.64.0.1"}
    assert answer["object"] == ("chat.completion" if endpoint is Endpoint.CHAT else "text_completion")


def test_a_whole_answer_has_token_ids_if_asked_for() -> None:
    chat = make(Endpoint.CHAT, return_token_ids=True)
    answer = write_whole(chat)
    assert answer["prompt_token_ids"] == PROMPT
    assert answer["choices"][0]["token_ids"] == chat.tokens
    completion = write_whole(make(Endpoint.COMPLETION, return_token_ids=True))
    assert completion["choices"][0]["prompt_token_ids"] == PROMPT


def test_models_are_listed_with_their_length() -> None:
    listed = orjson.loads(write_models(["one", "two"], created=1700000000, max_model_len=4096))
    assert listed["object"] == "list"
    assert [(card["id"], card["max_model_len"]) for card in listed["data"]] == [("one", 4096), ("two", 4096)]


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, "BadRequestError"), (404, "NotFoundError"), (405, "Method Not Allowed"), (500, "InternalServerError")],
)
def test_an_error_is_shaped_as_openais(status: int, kind: str) -> None:
    assert orjson.loads(write_error("wrong", status=status, field="model")) == {
        "error": {"message": "wrong", "type": kind, "param": "model", "code": status}
    }
