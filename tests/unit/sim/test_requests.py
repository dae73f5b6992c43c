from __future__ import annotations

from typing import Any

import orjson
import pytest

from baton.sim.requests import Endpoint, GenerationRequest, RequestError, read_request
from baton.sim.tokens import detokenize, tokenize


def read_completion(**fields: Any) -> GenerationRequest:
    return read_request(Endpoint.COMPLETION, orjson.dumps({"model": "m", "prompt": "Hello"} | fields))


def read_chat(*messages: Any, **fields: Any) -> GenerationRequest:
    return read_request(Endpoint.CHAT, orjson.dumps({"model": "m", "messages": messages} | fields))


def test_a_completion_is_read_with_its_defaults() -> None:
    assert read_completion() == GenerationRequest(
        endpoint=Endpoint.COMPLETION, model="m", prompt=tokenize("Hello"), max_tokens=16
    )


def test_every_field_that_counts_is_read() -> None:
    request = read_completion(
        max_tokens=9,
        min_tokens=2,
        ignore_eos=True,
        stop_token_ids=[1030],
        stream=True,
        stream_options={"include_usage": True},
        return_token_ids=True,
        kv_transfer_params={"do_remote_decode": True},
        temperature=0.5,
        unheard_of={"deep": 1},
    )
    assert (request.max_tokens, request.min_tokens, request.ignore_eos) == (9, 2, True)
    assert request.stop_token_ids == {1030}
    assert request.stream
    assert request.include_usage
    assert request.return_token_ids
    assert request.kv_transfer_params == {"do_remote_decode": True}


def test_null_is_the_same_as_leaving_out() -> None:
    fields = ("max_tokens", "min_tokens", "n", "stream", "stream_options", "ignore_eos", "stop_token_ids")
    message = {"role": "user", "content": "Hi"}
    assert read_chat(message, **dict.fromkeys(fields)) == read_chat(message)


@pytest.mark.parametrize("prompt", ["Hello river", ["Hello river"], tokenize("Hello river"), [tokenize("Hello river")]])
def test_a_prompt_is_text_or_token_ids(prompt: object) -> None:
    assert read_completion(prompt=prompt).prompt == tokenize("Hello river")


def test_max_completion_tokens_wins_over_max_tokens() -> None:
    assert read_completion(max_tokens=5, max_completion_tokens=3).max_tokens == 3


def test_a_chat_is_rendered_with_its_roles_and_opens_the_answer() -> None:
    request = read_chat(
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]},
        {"role": "assistant", "content": None},
    )
    rendered = "<|system|>Be brief.<|end|><|user|>Hello<|end|><|assistant|><|end|><|assistant|>"
    assert detokenize(request.prompt) == rendered


def test_a_continued_answer_is_the_prompt_and_what_was_said() -> None:
    question = {"role": "user", "content": "Hello"}
    begun = {"role": "assistant", "content": " river stone"}
    replay = read_chat(question, begun, add_generation_prompt=False, continue_final_message=True)
    assert replay.prompt == read_chat(question).prompt + tokenize(" river stone")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"model": None}, "model"),
        ({"model": 3}, "model"),
        ({"prompt": None}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": ["one", "two"]}, "prompt"),
        ({"prompt": [1, "two"]}, "prompt"),
        ({"prompt": [-1]}, "prompt"),
        ({"prompt": [2**25]}, "prompt"),
        ({"prompt": [True]}, "prompt"),
        ({"n": 2}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_tokens": 1, "min_tokens": 2}, "min_tokens"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": 1}, "stream_options"),
        ({"stop_token_ids": "x"}, "stop_token_ids"),
    ],
)
def test_a_wrong_field_is_named(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(RequestError, match=field) as refusal:
        read_completion(**fields)
    assert (refusal.value.field, refusal.value.status) == (field, 400)


@pytest.mark.parametrize(
    "messages",
    [
        [],
        ["text"],
        [{"content": "x"}],
        [{"role": "user", "content": 3}],
        [{"role": "user", "content": [{"type": "image_url"}]}],
    ],
)
def test_wrong_messages_are_refused(messages: list[Any]) -> None:
    with pytest.raises(RequestError, match="messages") as refusal:
        read_chat(*messages)
    assert refusal.value.field == "messages"


def test_an_answer_cannot_be_continued_and_opened_at_once() -> None:
    with pytest.raises(RequestError, match="add_generation_prompt: false"):
        read_chat({"role": "assistant", "content": "x"}, continue_final_message=True)


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b'"text"', b"\xff", b'{"model":"m","prompt":"\\ud800"}'])
def test_a_body_that_is_no_json_object_is_refused(raw: bytes) -> None:
    with pytest.raises(RequestError, match="body"):
        read_request(Endpoint.COMPLETION, raw)
