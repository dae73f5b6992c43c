from __future__ import annotations

from dataclasses import replace

import pytest

from baton.api.endpoints import Phase
from baton.api.router_config import RetryPolicy
from baton.router.call import UpstreamError
from baton.router.tries import Failures, error_after
from baton.router.wire.failures import FailureKind
from baton.routing.types import Endpoint

DECODE = Endpoint("ns/d:8000", "10.0.0.1", 8000, phase=Phase.DECODE)
OTHER = replace(DECODE, name="ns/e:8000")


def failure(kind: FailureKind = FailureKind.CLOSED, endpoint: Endpoint = DECODE) -> UpstreamError:
    return UpstreamError(endpoint, kind, "did not answer")


def pauses(failures: Failures, *tries: tuple[FailureKind, int]) -> list[float | None]:
    return [failures.pause_after(failure(kind), sent=sent, now=0.0, deadline=10.0) for kind, sent in tries]


@pytest.mark.parametrize(
    ("attempts", "tried", "now", "pause"),
    [
        (2, 1, 0.0, 0.5),
        (2, 2, 0.0, 0.5),
        (2, 3, 0.0, None),
        (0, 1, 0.0, None),
        (2, 1, 9.4, 0.5),
        (2, 1, 9.5, None),
        (2, 1, 11.0, None),
    ],
)
def test_tries_end_with_their_number_and_with_the_deadline(
    attempts: int, tried: int, now: float, pause: float | None
) -> None:
    failures = Failures(RetryPolicy(attempts=attempts, interval=0.5), most=5)

    *_, last = [failures.pause_after(failure(), sent=0, now=now, deadline=10.0) for _ in range(tried)]
    assert last == pause


def test_the_deadline_is_for_the_first_byte_alone() -> None:
    failures = Failures(RetryPolicy(attempts=1, interval=0.5), most=5)

    assert failures.pause_after(failure(), sent=1, now=100.0, deadline=10.0) == 0.0
    assert failures.pause_after(failure(), sent=1, now=100.0, deadline=10.0) == 0.5


def test_only_failures_in_a_row_count_and_what_got_further_is_bounded() -> None:
    failures = Failures(RetryPolicy(attempts=1, interval=0.5), most=2)
    broken = FailureKind.BROKEN_OFF

    assert pauses(failures, (broken, 1), (broken, 1), (broken, 2)) == [0.0, 0.5, 0.0]
    assert pauses(failures, (broken, 3), (broken, 4)) == [0.5, None]


def test_an_engine_that_gives_a_request_up_is_no_failure_in_a_row() -> None:
    failures = Failures(RetryPolicy(attempts=0, interval=0.5), most=2)

    assert pauses(failures, *[(FailureKind.RECOMPUTED, 0)] * 3) == [0.0, 0.0, None]


def test_what_failed_is_left_out_and_what_gave_up_only_once() -> None:
    failures = Failures(RetryPolicy(attempts=9, interval=0.5), most=9)
    assert list(failures.exclusions()) == [set()]

    failures.pause_after(failure(), sent=0, now=0.0, deadline=10.0)
    assert list(failures.exclusions()) == [{DECODE.name}, set()]

    failures.pause_after(failure(FailureKind.RECOMPUTED, OTHER), sent=0, now=0.0, deadline=10.0)
    assert list(failures.exclusions()) == [{DECODE.name, OTHER.name}, {DECODE.name}, set()]


def test_where_nothing_listens_is_tried_last() -> None:
    failures = Failures(RetryPolicy(attempts=9, interval=0.5), most=9)
    failures.pause_after(failure(FailureKind.REFUSED), sent=0, now=0.0, deadline=10.0)
    failures.pause_after(failure(FailureKind.CLOSED, OTHER), sent=0, now=0.0, deadline=10.0)

    assert list(failures.exclusions()) == [{DECODE.name, OTHER.name}, {DECODE.name}, set()]


@pytest.mark.parametrize(
    ("kind", "status"),
    [(FailureKind.TIMEOUT, 504), (FailureKind.STALLED, 504), (FailureKind.REFUSED, 502), (FailureKind.TRUNCATED, 502)],
)
def test_the_client_hears_which_endpoint_failed_and_how(kind: FailureKind, status: int) -> None:
    error = error_after(failure(kind), tried=3)

    assert (error.status, error.code) == (status, f"upstream_{kind.value}")
    assert error.message == "Decode endpoint ns/d:8000 did not answer (3 tries)."
