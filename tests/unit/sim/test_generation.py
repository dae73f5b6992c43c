from __future__ import annotations

from typing import Any

import pytest

from baton.sim.generation import FinishReason, Generation
from baton.sim.requests import Endpoint, GenerationRequest
from baton.sim.tokens import END_OF_ANSWER, History, tokenize, word_text
from baton.sim.transfer import Kind

PROMPT = tokenize("Tell me.")


def make(**fields: Any) -> Generation:
    request = GenerationRequest(endpoint=Endpoint.CHAT, model="m", prompt=PROMPT, **fields)
    history = History(seed=0, model="m", prompt=PROMPT)
    return Generation(
        request=request,
        request_id="chatcmpl-a",
        kind=Kind.AGGREGATED,
        source=None,
        history=history,
        fingerprint=history.fingerprint,
        limit=request.max_tokens or 100,
        blocks=1,
        arrived_at=0.0,
    )


def finish(generation: Generation, *, eos_rate: float = 0.0) -> Generation:
    while generation.finish_reason is None:
        generation.draw(eos_rate=eos_rate)
    return generation


@pytest.fixture
def words() -> list[int]:
    return finish(make(max_tokens=5)).tokens


def test_the_limit_ends_an_answer_with_its_last_word() -> None:
    generation = finish(make(max_tokens=3))
    assert generation.finish_reason is FinishReason.LENGTH
    assert generation.text == "".join(map(word_text, generation.tokens))
    assert generation.last_text == word_text(generation.tokens[-1])
    assert len(generation.tokens) == 3


def test_without_max_tokens_an_answer_ends_by_itself() -> None:
    generation = finish(make())
    assert generation.finish_reason is FinishReason.STOP
    assert generation.tokens[-1] == END_OF_ANSWER
    assert (generation.last_text, generation.stop_reason) == ("", None)


def test_the_end_may_come_before_max_tokens_but_not_before_min_tokens() -> None:
    assert finish(make(max_tokens=5), eos_rate=1.0).tokens == [END_OF_ANSWER]
    assert finish(make(max_tokens=5, min_tokens=5), eos_rate=1.0).finish_reason is FinishReason.LENGTH
    assert len(finish(make(min_tokens=3), eos_rate=1.0).tokens) == 4


def test_ignore_eos_goes_on_to_the_limit() -> None:
    assert len(finish(make(ignore_eos=True), eos_rate=1.0).tokens) == 100


def test_a_stop_token_ends_the_answer_and_is_not_shown(words: list[int]) -> None:
    generation = finish(make(max_tokens=5, stop_token_ids=frozenset({words[2]})))
    assert generation.tokens == words[:3]
    assert (generation.finish_reason, generation.stop_reason) == (FinishReason.STOP, words[2])
    assert generation.text == "".join(map(word_text, words[:2]))


def test_a_stop_token_before_min_tokens_does_not_stop(words: list[int]) -> None:
    generation = finish(make(max_tokens=5, min_tokens=3, stop_token_ids=frozenset({words[2]})))
    assert generation.tokens == words


def test_there_is_no_text_before_the_first_token() -> None:
    assert make().text == ""
