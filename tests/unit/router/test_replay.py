from __future__ import annotations

from typing import Any

import orjson
import pytest

from baton.router.client_body import ClientBody, parse_body
from baton.router.replay import Ending, Impossible, Replay, plan_replay
from baton.router.transcript import Transcript, read_transcript
from stream_builders import DONE, PROMPT_IDS, chat_event, completion_event, stream, usage_event

MESSAGES = [{"role": "user", "content": "Hi"}]
CHAT = {"model": "m", "messages": MESSAGES, "stream": True}
USAGE = {"stream_options": {"include_usage": True}}


def read(fields: dict[str, Any]) -> ClientBody:
    body = parse_body(orjson.dumps(fields))
    assert isinstance(body, ClientBody)
    return body


def begun(*, ids: bool = True, text: str = "Hello") -> Transcript:
    return read_transcript(
        stream(chat_event(None, ids=() if ids else None), chat_event(text, ids=[4, 5] if ids else None))
    )


def plan(fields: dict[str, Any], transcript: Transcript, **options: Any) -> Replay | Ending | Impossible:
    return plan_replay(read(fields), transcript, is_chat="messages" in fields, **options)


def way(fields: dict[str, Any], transcript: Transcript, **options: Any) -> str:
    """Return how it goes on, or why it cannot."""
    found = plan(fields, transcript, **options)
    assert not isinstance(found, Ending)
    return found.way if isinstance(found, Replay) else found.reason


def sent(fields: dict[str, Any], transcript: Transcript) -> dict[str, Any]:
    found = plan(fields, transcript)
    assert isinstance(found, Replay)
    assert orjson.loads(found.body.raw) == found.body.fields
    return found.body.fields


def test_a_chat_goes_on_as_a_completion_of_its_tokens() -> None:
    fields = CHAT | {"max_completion_tokens": 10, "min_tokens": 5, "top_p": 0.5, "chat_template_kwargs": {}, **USAGE}

    assert way(fields, begun()) == "token ids"
    assert sent(fields, begun()) == {
        "model": "m",
        "stream": True,
        "prompt": [*PROMPT_IDS, 4, 5],
        "echo": False,
        "max_tokens": 8,
        "min_tokens": 3,
        "top_p": 0.5,
        **USAGE,
    }


def test_a_chat_without_a_limit_stays_without() -> None:
    assert sent(CHAT, begun())["max_tokens"] is None


def test_a_completion_without_a_limit_has_the_apis() -> None:
    event = completion_event("Hello", ids=[4, 5])
    event["choices"][0]["prompt_token_ids"] = PROMPT_IDS

    assert sent({"model": "m", "prompt": "p"}, read_transcript(stream(event)))["max_tokens"] == 14


def test_a_chat_goes_on_by_its_text_where_token_ids_are_unknown() -> None:
    assert sent(CHAT | {"max_tokens": 10}, begun(ids=False)) == CHAT | {
        "messages": [*MESSAGES, {"role": "assistant", "content": "Hello"}],
        "add_generation_prompt": False,
        "continue_final_message": True,
        "max_tokens": 9,
    }


def test_a_message_that_was_being_continued_still_is() -> None:
    last = {"role": "assistant", "content": "Well, "}
    fields = CHAT | {"messages": [*MESSAGES, last], "continue_final_message": True, "add_generation_prompt": False}

    assert sent(fields, begun(ids=False))["messages"] == [*MESSAGES, last | {"content": "Well, Hello"}]


def test_a_completion_goes_on_by_its_text() -> None:
    transcript = read_transcript(stream(completion_event("pHello", ids=None)))

    assert sent({"model": "m", "prompt": ["p"], "max_tokens": 9}, transcript)["prompt"] == "ppHello"
    assert sent({"model": "m", "prompt": "p", "echo": True, "max_tokens": 9}, transcript)["prompt"] == "pHello"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"stop": ["x"]}, "text"),
        ({"tools": [{}]}, "text"),
        ({"logprobs": True}, "text"),
        ({"temperature": 0}, "token ids"),
        ({"temperature": 0, "presence_penalty": 1}, "repetition"),
        ({"seed": 1}, "repetition"),
        ({"response_format": {"type": "text"}}, "token ids"),
        ({"response_format": {"type": "json_object"}, "temperature": 0}, "repetition"),
        ({"response_format": {"type": "json_object"}}, "guided decoding cannot begin in the middle of an answer"),
        ({"structured_outputs": {}}, "guided decoding cannot begin in the middle of an answer"),
        ({"n": 2}, "it has several choices"),
        ({"max_tokens": 2}, "all its tokens are there, but not why it ended"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "text"),
    ],
)
def test_each_request_goes_on_in_the_way_that_is_exact(fields: dict[str, Any], expected: str) -> None:
    assert way(CHAT | fields, begun()) == expected


def test_another_second_answer_is_not_asked_for_again() -> None:
    assert way(CHAT | {"seed": 1}, begun(), may_repeat=False) == "token ids"
    assert way(CHAT | {"seed": 1, "n": 2}, begun(), may_repeat=False) == "it has several choices"


@pytest.mark.parametrize(
    ("delta", "fields", "reason"),
    [
        ({"tool_calls": [{"index": 0, "function": {"name": "f"}}]}, {}, "a tool call has begun"),
        ({"reasoning": "hm"}, {}, "the reasoning is not over"),
        ({"reasoning": "hm", "content": "so"}, {"tools": [{}]}, "reasoning and tools together need a parser"),
        ({"reasoning": "hm", "content": "so"}, {}, "its reasoning cannot be given back to the engine"),
        ({"content": "so "}, {}, "chat templates trim the white space that its text ends in"),
    ],
)
def test_it_says_why_nothing_is_exact(delta: dict[str, Any], fields: dict[str, Any], reason: str) -> None:
    event = chat_event(None, ids=None) | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}

    assert way(CHAT | fields, read_transcript(stream(event))) == reason


def test_an_answer_of_unknown_tokens_to_known_ones_cannot_go_on() -> None:
    transcript = read_transcript(stream(completion_event("a", ids=None)))

    assert "token ids" in way({"model": "m", "prompt": [1, 2], "max_tokens": 9}, transcript)


def test_a_client_without_text_gets_the_whole_answer() -> None:
    assert way(CHAT | {"n": 2}, read_transcript(stream(chat_event(None)))) == "repetition"


def test_what_is_only_not_ended_needs_no_engine() -> None:
    last = chat_event("!", ids=[6], finish_reason="stop")
    finished = stream(chat_event(None), chat_event("Hello", ids=[4, 5]), last)

    assert plan(CHAT, read_transcript(finished)) == Ending(DONE)
    assert plan(CHAT | USAGE, read_transcript(finished)) == Ending(stream(usage_event(3, 3)) + DONE)
    assert plan(CHAT | USAGE, read_transcript(finished + stream(usage_event(3, 3)))) == Ending(DONE)
    unknown = read_transcript(stream(chat_event("Hello", ids=None, finish_reason="stop")))
    assert way(CHAT | USAGE, unknown) == "its text is there, but not how many tokens it has"
