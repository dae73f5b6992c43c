from __future__ import annotations

from typing import Any

import pytest

from baton.router.splice import Continuation, Repetition
from baton.router.transcript import Transcript, read_transcript
from baton.router.wire.failures import ExchangeError, FailureKind
from stream_builders import chat_event, completion_event, head, stream, usage_event

OTHER = "chatcmpl-2"


def told(*events: dict[str, Any]) -> Transcript:
    return read_transcript(stream(*events))


def again(text: str | None, **fields: Any) -> dict[str, Any]:
    return chat_event(text, response_id=OTHER, **fields)


BEGUN = told(chat_event(None), chat_event("Hel", ids=[4]))


def test_a_repetition_leaves_out_what_the_client_has() -> None:
    splice = Repetition(BEGUN)

    assert splice.take(again(None)) == []
    assert splice.take(again("H", ids=[8])) == []
    assert splice.take(again("ello", ids=[9])) == [chat_event("lo", ids=None)]
    assert splice.take(again("!", ids=[5])) == [chat_event("!", ids=[5])]
    assert splice.take(usage_event(3, 3, response_id=OTHER)) == [usage_event(3, 3)]


@pytest.mark.parametrize(
    "event", [again("Hal"), again("He", finish_reason="stop"), again("Hello", logprobs={"content": []})]
)
def test_a_repetition_that_says_something_else_is_refused(event: dict[str, Any]) -> None:
    with pytest.raises(ExchangeError) as caught:
        Repetition(BEGUN).take(event)
    assert caught.value.kind is FailureKind.DIVERGED


def test_a_repetition_of_a_tool_call_goes_on_in_its_arguments() -> None:
    def call(name: str | None, arguments: str, **fields: str) -> dict[str, Any]:
        function = {"arguments": arguments} if name is None else {"name": name, "arguments": arguments}
        choice = {"index": 0, "delta": {"tool_calls": [{"index": 0, **fields, "function": function}]}}
        return head() | {"choices": [choice | {"finish_reason": None}]}

    splice = Repetition(told(chat_event(None), call("f", '{"a', id="t-1", type="function")))

    assert splice.take(call("f", '{"a": 1}', id="t-2", type="function")) == [call(None, '": 1}')]


def test_a_repetition_of_nothing_is_the_answer_itself() -> None:
    assert Repetition(told()).take(again(None)) == [again(None)]
    opened = Repetition(told(chat_event(None)))
    assert opened.take(again(None)) == []
    assert opened.take(again("x", ids=[1])) == [chat_event("x", ids=[1])]


def test_a_completion_goes_on_as_the_chat_it_stands_for() -> None:
    splice = Continuation(BEGUN, is_chat=True)

    assert splice.take(completion_event("lo", ids=[5])) == [chat_event("lo", ids=[5])]
    [last] = splice.take(completion_event("!", ids=[6], finish_reason="stop"))
    assert last == chat_event("!", ids=[6], finish_reason="stop", stop_reason=None)
    assert list(last["choices"][0])[-1] == "token_ids"


def test_usage_adds_up() -> None:
    details = {"prompt_tokens_details": {"cached_tokens": 4}}
    event = usage_event(4, 2) | {"usage": usage_event(4, 2)["usage"] | details}

    [joined] = Continuation(BEGUN, is_chat=True).take(event)

    assert joined["usage"] == usage_event(3, 3)["usage"] | {"prompt_tokens_details": {"cached_tokens": 3}}


def test_a_chat_goes_on_as_itself_without_opening_again() -> None:
    splice = Continuation(told(chat_event(None, ids=None), chat_event("Hel", ids=None)), is_chat=True)

    assert splice.take(again(None, ids=None)) == []
    assert splice.take(again("lo", ids=None)) == [chat_event("lo", ids=None)]
    [usage] = splice.take(usage_event(10, 2, response_id=OTHER))
    assert usage["usage"] == usage_event(9, 3)["usage"]


def test_a_chat_that_reasons_anew_is_refused() -> None:
    event = head() | {"choices": [{"index": 0, "delta": {"reasoning": "hm"}, "finish_reason": None}]}

    with pytest.raises(ExchangeError):
        Continuation(BEGUN, is_chat=True).take(event)


def test_offsets_of_logprobs_go_on() -> None:
    splice = Continuation(told(completion_event("abc", ids=[4])), is_chat=False)

    [event] = splice.take(completion_event("de", ids=[5], logprobs={"text_offset": [0, 1]}))

    assert event["choices"][0]["logprobs"] == {"text_offset": [3, 4]}
