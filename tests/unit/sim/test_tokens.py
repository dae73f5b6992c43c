from __future__ import annotations

import pytest

from baton.sim.tokens import (
    END_OF_ANSWER,
    LONGEST_ANSWER,
    SHORTEST_ANSWER,
    WORD_PIECES,
    Ending,
    History,
    detokenize,
    tokenize,
    word_text,
)


def draw_answer(ending: Ending, *, prompt: str = "Tell me.", seed: int = 0) -> list[int]:
    history = History(seed=seed, model="m", prompt=tokenize(prompt))
    answer: list[int] = []
    while END_OF_ANSWER not in answer and len(answer) < 200:
        answer.append(history.draw(ending))
    return answer


def test_words_are_distinct_and_one_token_each() -> None:
    assert len(set(WORD_PIECES)) == 256
    assert all(len(tokenize(piece)) == 1 for piece in WORD_PIECES)


def test_a_word_without_its_space_is_other_text() -> None:
    assert tokenize("river") != tokenize(" river")
    assert detokenize(tokenize("river river")) == "river river"


@pytest.mark.parametrize("token", [-1, 1, 255, 512, 1024 + 256, 2**25])
def test_an_id_that_no_text_has_is_refused(token: int) -> None:
    with pytest.raises(ValueError, match=f"{token} is no token id"):
        detokenize([token])


def test_the_end_has_no_text() -> None:
    assert word_text(END_OF_ANSWER) == ""
    assert detokenize([*tokenize(" river"), END_OF_ANSWER]) == " river"


def test_seed_model_and_prompt_change_the_answer_and_the_fingerprint() -> None:
    histories = [
        History(seed=0, model="m", prompt=[300]),
        History(seed=1, model="m", prompt=[300]),
        History(seed=0, model="n", prompt=[300]),
        History(seed=0, model="m", prompt=[301]),
    ]
    assert len({history.fingerprint for history in histories}) == 4
    assert len({tuple(history.draw() for _ in range(8)) for history in histories}) == 4


def test_an_answer_without_a_limit_has_a_natural_length() -> None:
    lengths = [len(draw_answer(Ending(has_natural_length=True), seed=seed)) - 1 for seed in range(200)]
    assert min(lengths) >= SHORTEST_ANSWER
    assert max(lengths) <= LONGEST_ANSWER
    assert len(set(lengths)) > 20


def test_the_end_comes_only_when_it_may() -> None:
    assert draw_answer(Ending(rate=1.0)) == [END_OF_ANSWER]
    assert END_OF_ANSWER not in draw_answer(Ending())
