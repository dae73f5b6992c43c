from __future__ import annotations

from typing import Any

import pytest

from baton.router.events import check_answer, end_of_last, fault_of, is_done, is_whole, read_event, split_events
from baton.router.wire.failures import ExchangeError, FailureKind

GIVEN_UP = {"choices": [{"finish_reason": "stop", "stop_reason": "recomputed"}]}


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n"])
def test_events_end_with_a_blank_line(end: bytes) -> None:
    data = b"data: 1" + end + b"data: 2" + end + b"data: 3"

    assert [len(event) for event in split_events(data)] == [7 + len(end)] * 2 + [7]
    assert end_of_last(data) == 2 * (7 + len(end))
    assert (is_whole(data), is_whole(data[: end_of_last(data)])) == (False, True)


@pytest.mark.parametrize(
    ("event", "content"),
    [
        (b'data: {"a":1}\n\n', {"a": 1}),
        (b'event: x\r\ndata:{"a":1}\r\n\r\n', {"a": 1}),
        (b'data: {"a":\ndata: 1}\n\n', {"a": 1}),
        (b": a comment\n\n", None),
        (b"data: [DONE]\n\n", None),
        (b'data: {"half', None),
    ],
)
def test_an_event_says_what_is_after_data(event: bytes, content: Any) -> None:
    assert read_event(event) == content
    assert is_done(event) is (b"[DONE]" in event)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (GIVEN_UP, FailureKind.RECOMPUTED),
        ({"choices": [{"finish_reason": "abort"}]}, FailureKind.ABORTED),
        ({"error": {"code": 500, "message": "dead"}}, FailureKind.ENGINE_ERROR),
        ({"error": {"code": 400}}, None),
        ({"error": "odd"}, None),
        ({"choices": [{"finish_reason": "stop", "stop_reason": None}]}, None),
        ({"choices": None}, None),
    ],
)
def test_an_engine_that_gives_up_is_told_from_one_that_answers(content: Any, kind: FailureKind | None) -> None:
    fault = fault_of(content)

    assert (fault and fault.kind) == kind


def test_a_whole_answer_that_was_given_up_is_none() -> None:
    check_answer(b'{"choices":[{"message":{"content":"recomputed"},"finish_reason":"stop"}]}')
    check_answer(b'"recomputed", but no JSON')
    with pytest.raises(ExchangeError):
        check_answer(b'{"choices":[{"finish_reason":"stop","stop_reason": "recomputed"}]}')
