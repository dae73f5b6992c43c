from __future__ import annotations

from typing import Any

from baton.router.transcript import read_transcript
from stream_builders import DONE, PROMPT_IDS, chat_event, head, stream, usage_event


def delta_event(delta: dict[str, Any]) -> dict[str, Any]:
    return head() | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}


def test_nothing_is_a_blank_transcript() -> None:
    transcript = read_transcript(b"")

    assert (transcript.is_blank, transcript.head, transcript.tokens) == (True, {}, 0)


def test_a_chat_is_its_text_and_its_tokens() -> None:
    transcript = read_transcript(stream(chat_event(None), chat_event("a", ids=[4, 5]), chat_event("b", ids=[6])))

    assert (transcript.content, transcript.prompt_ids, transcript.token_ids) == ("ab", PROMPT_IDS, [4, 5, 6])
    assert transcript.head == head()
    assert not transcript.is_finished


def test_tokens_without_text_count_when_the_text_comes() -> None:
    half = [chat_event(None), chat_event("a", ids=[4]), chat_event("", ids=[5])]

    assert read_transcript(stream(*half)).token_ids == [4]
    assert read_transcript(stream(*half, chat_event("é", ids=[6]))).token_ids == [4, 5, 6]
    assert read_transcript(stream(*half)).generated == 2


def test_token_ids_that_are_not_all_told_are_none() -> None:
    transcript = read_transcript(stream(chat_event("a", ids=[4]), chat_event("b", ids=None), chat_event("c", ids=[6])))

    assert transcript.token_ids is None
    assert transcript.tokens == 3


def test_reasoning_and_tool_calls_are_not_content() -> None:
    call = {"index": 0, "id": "t", "type": "function", "function": {"name": "f", "arguments": '{"a'}}
    events: list[dict[str, Any]] = [{"reasoning": "hm"}, {"content": "so"}, {"tool_calls": [call]}]
    transcript = read_transcript(stream(*map(delta_event, events)))

    assert transcript.texts == {
        (0, "reasoning"): "hm",
        (0, "content"): "so",
        (0, "tool_calls.0.name"): "f",
        (0, "tool_calls.0.arguments"): '{"a',
    }
    assert (transcript.has_reasoning, transcript.has_tool_calls) == (True, True)


def test_a_stream_is_finished_when_all_its_choices_are() -> None:
    second = {"choices": [{"index": 1, "delta": {"content": "x"}, "finish_reason": None}]}
    last = chat_event("b", finish_reason="stop")

    assert not read_transcript(stream(second, last)).is_finished
    transcript = read_transcript(stream(last, usage_event(3, 2)) + DONE)
    assert (transcript.is_finished, transcript.has_usage) == (True, True)
