from __future__ import annotations

import pytest

from baton.kube.errors import (
    CONNECTION_LOST,
    NOT_SENT,
    TIMEOUT,
    ApiError,
    Conflict,
    NotFound,
    TooManyRequests,
    Transient,
)
from baton.kube.retry import RetryBudget


def waits(error: ApiError, *, idempotent: bool = True, jitter: float = 0.0) -> list[float]:
    budget = RetryBudget(idempotent=idempotent, jitter=lambda: jitter)
    found = []
    while (wait := budget.wait_after(error)) is not None:
        found.append(wait)
    return found


def too_many(retry_after: float | None) -> TooManyRequests:
    return TooManyRequests(429, "TooManyRequests", "later", retry_after)


def test_the_time_the_server_asks_for_is_waited_up_to_30_seconds_in_all() -> None:
    assert waits(too_many(10.0)) == [10.0, 10.0, 10.0]


def test_jitter_never_shortens_the_time_the_server_asks_for() -> None:
    assert waits(too_many(10.0), jitter=0.5) == [11.0, 11.0]


def test_a_wish_beyond_the_budget_is_the_caller_s_to_fulfil() -> None:
    assert waits(too_many(60.0)) == []


def test_without_a_wish_the_waits_grow() -> None:
    assert waits(too_many(None)) == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0]


def test_a_lost_connection_costs_two_more_tries() -> None:
    assert waits(Transient(0, CONNECTION_LOST, "reset")) == pytest.approx([0.1, 0.2])


def test_what_may_have_happened_is_not_asked_for_twice() -> None:
    assert waits(Transient(0, CONNECTION_LOST, "reset"), idempotent=False) == []


def test_what_was_never_sent_can_always_be_sent_again() -> None:
    assert len(waits(Transient(0, NOT_SENT, "refused"), idempotent=False)) == 2


@pytest.mark.parametrize(
    "error",
    [
        Transient(0, TIMEOUT, "t"),
        Transient(503, "ServiceUnavailable", "t"),
        Conflict(409, "c", "m"),
        NotFound(404, "n", "m"),
    ],
)
def test_everything_else_is_the_caller_s_to_judge(error: ApiError) -> None:
    assert waits(error) == []
