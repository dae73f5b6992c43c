from __future__ import annotations

import pytest

from baton.router.client_body import ClientBody
from baton.router.connectors.pull import PullConnector


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 2}, "n"),
        ({"best_of": 2}, "best_of"),
        ({"prompt": ["a", "b"]}, "prompt"),
        ({"prompt": [[1, 2], [3]]}, "prompt"),
    ],
)
def test_several_generations_of_one_request_are_refused(fields: dict[str, object], param: str) -> None:
    error = PullConnector().refusal(ClientBody(b"", fields, "m"))

    assert error is not None
    assert (error.status, error.param) == (400, param)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"n": 1},
        {"n": None},
        {"n": "2"},
        {"prompt": "a"},
        {"prompt": ["a"]},
        {"prompt": [[1, 2]]},
        {"prompt": [1, 2]},
    ],
)
def test_one_generation_is_served(fields: dict[str, object]) -> None:
    assert PullConnector().refusal(ClientBody(b"", fields, "m")) is None
