"""What must hold of the simulated engine's tokens whatever the text: a replay is exact, as ids and as text."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from baton.sim.tokens import (
    END_OF_ANSWER,
    LONGEST_ANSWER,
    VOCABULARY_SIZE,
    WORD_PIECES,
    Ending,
    History,
    detokenize,
    tokenize,
    word_text,
)

TEXTS = st.text(st.characters(exclude_categories=["Cs"])) | st.text(" arivestonグ\n")
ANSWERS = st.lists(st.sampled_from(WORD_PIECES), max_size=20)
ENDINGS = st.builds(Ending, rate=st.sampled_from([0.0, 0.05]), has_natural_length=st.booleans())


def draw_tokens(history: History, number: int, ending: Ending) -> list[int]:
    return [history.draw(ending) for _ in range(number)]


@given(TEXTS)
def test_tokens_give_back_the_text(text: str) -> None:
    tokens = tokenize(text)
    assert detokenize(tokens) == text
    assert all(0 < token < VOCABULARY_SIZE for token in tokens)


@given(TEXTS, ANSWERS)
def test_an_answer_appended_to_a_prompt_is_cut_as_it_was_generated(prompt: str, answer: list[str]) -> None:
    words = [token for piece in answer for token in tokenize(piece)]
    assert [word_text(token) for token in words] == answer
    assert tokenize(prompt + "".join(answer)) == tokenize(prompt) + words


@given(TEXTS, st.integers(), st.text(max_size=5), ENDINGS, st.integers(0, 30))
def test_an_answer_goes_on_the_same_wherever_it_is_replayed(
    prompt: str, seed: int, model: str, ending: Ending, cut: int
) -> None:
    tokens = tokenize(prompt)
    answer = draw_tokens(History(seed=seed, model=model, prompt=tokens), 40, ending)
    by_ids = History(seed=seed, model=model, prompt=tokens + answer[:cut])
    assert draw_tokens(by_ids, 40 - cut, ending) == answer[cut:]
    if END_OF_ANSWER not in answer[:cut]:
        by_text = History(seed=seed, model=model, prompt=tokenize(prompt + "".join(map(word_text, answer[:cut]))))
        assert draw_tokens(by_text, 40 - cut, ending) == answer[cut:]


@given(TEXTS, st.integers())
def test_an_answer_without_a_limit_ends(prompt: str, seed: int) -> None:
    history = History(seed=seed, model="m", prompt=tokenize(prompt))
    assert END_OF_ANSWER in draw_tokens(history, LONGEST_ANSWER + 1, Ending(has_natural_length=True))
