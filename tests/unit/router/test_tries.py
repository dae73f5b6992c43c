from __future__ import annotations

import pytest

from baton.api.endpoints import Phase
from baton.api.router_config import RetryPolicy
from baton.router.call import UpstreamError
from baton.router.tries import error_after, pause_before_next
from baton.router.wire.failures import FailureKind
from baton.routing.types import Endpoint

DECODE = Endpoint("ns/d:8000", "10.0.0.1", 8000, phase=Phase.DECODE)


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
    policy = RetryPolicy(attempts=attempts, interval=0.5)

    assert pause_before_next(policy, tried=tried, now=now, deadline=10.0) == pause


@pytest.mark.parametrize(
    ("kind", "status"),
    [(FailureKind.TIMEOUT, 504), (FailureKind.STALLED, 504), (FailureKind.REFUSED, 502), (FailureKind.TRUNCATED, 502)],
)
def test_the_client_hears_which_endpoint_failed_and_how(kind: FailureKind, status: int) -> None:
    error = error_after(UpstreamError(DECODE, kind, "did not answer"), tried=3)

    assert (error.status, error.code) == (status, f"upstream_{kind.value}")
    assert error.message == "Decode endpoint ns/d:8000 did not answer (3 tries)."
