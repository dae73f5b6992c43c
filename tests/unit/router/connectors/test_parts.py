from __future__ import annotations

from typing import Any

import orjson
import pytest

from baton.router.client_body import ClientBody
from baton.router.connectors.parts import is_single, refusal, take_apart


def body(**fields: Any) -> ClientBody:
    given = {"model": "m", **fields}
    return ClientBody(orjson.dumps(given), given, "m", b',"return_token_ids":true')


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"n": 1},
        {"n": None},
        {"n": "2"},
        {"n": True},
        {"prompt": "a"},
        {"prompt": ["a"]},
        {"prompt": [[1, 2]]},
        {"prompt": [1, 2]},
        {"prompt": []},
    ],
)
def test_a_request_for_one_answer_is_left_alone(fields: dict[str, Any]) -> None:
    assert is_single(body(**fields))
    assert refusal(body(**fields)) is None


def test_choices_come_prompt_by_prompt_and_each_prompt_counts_once() -> None:
    given = body(prompt=["a", [1, 2]], n=2, seed=7, max_tokens=5)

    parts = take_apart(given)

    assert not is_single(given)
    common = {"model": "m", "max_tokens": 5}
    assert [part.body.fields for part in parts] == [
        {**common, "prompt": "a", "seed": 7},
        {**common, "prompt": "a", "seed": 8},
        {**common, "prompt": [1, 2], "seed": 7},
        {**common, "prompt": [1, 2], "seed": 8},
    ]
    assert [part.is_first for part in parts] == [True, False, True, False]
    for part in parts:
        assert orjson.loads(part.body.raw) == part.body.fields
        assert part.body.addition == given.addition


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 129}, "n"),
        ({"n": 2, "prompt": ["a"] * 65}, "n"),
        ({"prompt": ["a"] * 129}, "prompt"),
        ({"best_of": 2}, "best_of"),
        ({"use_beam_search": True}, "use_beam_search"),
    ],
)
def test_what_cannot_be_taken_apart_is_refused(fields: dict[str, Any], param: str) -> None:
    error = refusal(body(**fields))

    assert error is not None
    assert (error.status, error.param) == (400, param)
