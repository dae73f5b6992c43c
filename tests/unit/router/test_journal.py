from __future__ import annotations

import pytest

from baton.router.journal import Journal
from baton.router.splice import Repetition
from baton.router.transcript import read_transcript
from baton.router.wire.failures import FailureKind
from stream_builders import DONE, chat_event, stream, usage_event

OPENING, FIRST, LAST = chat_event(None), chat_event("a", ids=[4]), chat_event("b", ids=[5], finish_reason="stop")


def journal(*, limit: int = 1_000_000, hides: bool = True) -> Journal:
    return Journal(limit=limit, hides_token_ids=hides)


def test_the_client_sees_no_token_ids_that_it_has_not_asked_for() -> None:
    kept = journal()

    shown = [
        kept.take(events) for events in (stream(OPENING), stream(FIRST), stream(FIRST, FIRST), stream(LAST) + DONE)
    ]

    assert b"".join(shown).count(b"token_ids") == b"".join(shown).count(b'token_ids":null') == 5
    assert kept.read() == stream(OPENING, FIRST, FIRST, FIRST, LAST) + DONE
    assert kept.fault is None


def test_the_client_sees_the_token_ids_that_it_has_asked_for() -> None:
    kept = journal(hides=False)

    assert kept.take(stream(OPENING, FIRST)) == stream(OPENING, FIRST)
    assert kept.take(stream(FIRST)) == stream(FIRST)


def test_text_that_looks_like_fields_is_left_alone() -> None:
    kept = journal()
    event = stream(chat_event('"token_ids":[1],"finish_reason":null\n\n"recomputed"', ids=[4]))
    kept.take(stream(OPENING))

    assert kept.take(event) == event.replace(b'"token_ids":[4]', b'"token_ids":null')


@pytest.mark.parametrize(
    ("events", "passed", "kind"),
    [
        (stream(FIRST, chat_event("", finish_reason="stop", stop_reason="recomputed")), 1, FailureKind.RECOMPUTED),
        (stream(FIRST, chat_event("", finish_reason="abort")) + DONE, 1, FailureKind.ABORTED),
        (stream(FIRST) + b'data: {"error":{"code":500,"message":"x"}}\n\n' + DONE, 1, FailureKind.ENGINE_ERROR),
        (stream(FIRST) + DONE, 1, FailureKind.TRUNCATED),
        (stream(FIRST, usage_event(3, 1)) + DONE, 1, FailureKind.TRUNCATED),
        (DONE, 0, FailureKind.TRUNCATED),
    ],
)
def test_what_follows_when_an_engine_gives_up_is_not_the_clients(events: bytes, passed: int, kind: FailureKind) -> None:
    kept = journal(hides=False)
    kept.take(stream(OPENING))

    assert kept.take(events) == stream(FIRST) * passed
    assert kept.fault is not None
    assert kept.fault.kind is kind


def test_an_error_that_is_the_answer_ends_a_stream_well() -> None:
    events = b'data: {"error":{"code":400}}\n\n' + DONE
    kept = journal()

    assert kept.take(events) == events
    assert kept.fault is None


def test_events_are_packed_and_read_again() -> None:
    kept = journal()
    events = [chat_event(f"word {number}", ids=[number]) for number in range(2000)]
    for event in events:
        kept.take(stream(event))

    assert kept.read() == stream(*events)
    assert sum(map(len, kept._blocks)) < len(stream(*events)) / 8


def test_what_is_too_long_is_not_kept() -> None:
    kept = journal(limit=1000)
    for number in range(2000):
        kept.take(stream(chat_event(f"word {number}", ids=[number])))

    assert kept.read() is None


def test_a_second_engine_is_joined_to_the_first() -> None:
    kept = journal(hides=False)
    kept.take(stream(OPENING, FIRST))
    kept.begin_try(Repetition(read_transcript(kept.read() or b"")))

    again = stream(chat_event(None, response_id="x"), chat_event("a", ids=[4], response_id="x"))
    assert kept.take(b": ping\n\n" + again) == b""
    assert (
        kept.take(stream(chat_event("b", ids=[5], response_id="x", finish_reason="stop")) + DONE) == stream(LAST) + DONE
    )
    assert kept.read() == stream(OPENING, FIRST, LAST) + DONE
