from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from baton.router.substitution import count_cached, rename_model
from baton.router.wire.messages import AnswerHead

if TYPE_CHECKING:
    from baton.router.wire.upstream_connection import Source


class Kept:
    """A sink that keeps what it gets."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.is_ended = False

    def on_start(self, source: Source) -> None:
        raise AssertionError(source)

    def on_head(self, head: AnswerHead) -> None:
        assert head.status == 200

    def on_body(self, data: bytes) -> None:
        assert data
        self.pieces.append(data)

    def on_end(self) -> None:
        self.is_ended = True


ANSWER = (
    rb'data: {"model":"/m/a","choices":[{"text":"{\"model\":\"/m/a\",\"cached_tokens\":9}"}]}' + b"\n\n"
    b'data: {"model": "/m/a", "choices":[],"usage":{"prompt_tokens_details":{"cached_tokens": 12}}}\n\n'
)


@given(st.sets(st.integers(1, len(ANSWER) - 1)))
def test_members_are_replaced_and_text_is_not_however_the_answer_is_cut(cuts: set[int]) -> None:
    kept = Kept()
    sink = rename_model(count_cached(kept, 3), known_as="/m/a", asked_for="a")
    places = [0, *sorted(cuts), len(ANSWER)]

    sink.on_head(AnswerHead(200, []))
    for start, end in pairwise(places):
        sink.on_body(ANSWER[start:end])
    sink.on_end()

    assert b"".join(kept.pieces) == (
        rb'data: {"model":"a","choices":[{"text":"{\"model\":\"/m/a\",\"cached_tokens\":9}"}]}' + b"\n\n"
        b'data: {"model":"a", "choices":[],"usage":{"prompt_tokens_details":{"cached_tokens":3}}}\n\n'
    )
    assert kept.is_ended


def test_whole_events_go_on_at_once() -> None:
    kept = Kept()
    sink = count_cached(kept, 3)

    sink.on_body(b'data: {"choices":[]}\n\n')

    assert kept.pieces == [b'data: {"choices":[]}\n\n']


def test_what_ends_in_the_middle_of_a_member_comes_with_the_end() -> None:
    kept = Kept()
    sink = count_cached(kept, 3)

    sink.on_body(b'{"cached_tokens":1')
    sink.on_end()

    assert b"".join(kept.pieces) == b'{"cached_tokens":3'


def test_nothing_stands_between_where_there_is_nothing_to_replace() -> None:
    kept = Kept()

    assert count_cached(kept, None) is kept
    assert rename_model(kept, known_as=None, asked_for="a") is kept
    assert rename_model(kept, known_as="a", asked_for="a") is kept
