"""Whether a request is tried once more after a failure, and what the client hears if not. Tries nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from baton.router.errors import ApiError
from baton.router.wire.failures import FailureKind

if TYPE_CHECKING:
    from baton.api.router_config import RetryPolicy
    from baton.router.call import UpstreamError

_LATE = frozenset({FailureKind.TIMEOUT, FailureKind.STALLED})


def pause_before_next(policy: RetryPolicy, *, tried: int, now: float, deadline: float) -> float | None:
    """Return the seconds to wait before the next try, or None when there is to be none.

    `tried` counts the tries made, at least one; the policy counts those after the first. A try that could only begin
    after the deadline is none.
    """
    if tried > policy.attempts or now + policy.interval >= deadline:
        return None
    return policy.interval


def error_after(failure: UpstreamError, *, tried: int) -> ApiError:
    """Return the error for a client whose request failed for good."""
    status = 504 if failure.kind in _LATE else 502
    count = "1 try" if tried == 1 else f"{tried} tries"
    sentence = str(failure)
    return ApiError(status, f"upstream_{failure.kind.value}", f"{sentence[:1].upper()}{sentence[1:]} ({count}).")
