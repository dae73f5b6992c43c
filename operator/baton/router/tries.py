"""Whether and where a request is tried once more after a failure, and what the client hears if not. Tries nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from baton.router.errors import ApiError
from baton.router.wire.failures import OF_THE_REQUEST, FailureKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from baton.api.router_config import RetryPolicy
    from baton.router.call import UpstreamError

_LATE = frozenset({FailureKind.TIMEOUT, FailureKind.STALLED, FailureKind.NO_CALLBACK})

_NO_FAULT = frozenset({FailureKind.RECOMPUTED, FailureKind.ABORTED})
"""The engine is well and could not keep this request."""


class Failures:
    """The failed tries of one request."""

    def __init__(self, policy: RetryPolicy, *, most: int) -> None:
        """Allow as many tries in a row as the policy says, and `most` that got the client further, or were no fault."""
        self.last: UpstreamError | None = None
        self._policy = policy
        self._left = most
        self._in_a_row = 0
        self._sent = 0
        self._failed: set[str] = set()
        self._refused: set[str] = set()

    def pause_after(self, failure: UpstreamError, *, sent: int, now: float, deadline: float) -> float | None:
        """Return the seconds to wait before the next try, or None when there is to be none.

        `sent` are the bytes that the client has; `deadline` is for its first. The policy counts tries after the first.
        """
        self.last = failure
        if failure.kind not in OF_THE_REQUEST:
            self._failed.add(failure.endpoint.name)
        if failure.kind is FailureKind.REFUSED:
            self._refused.add(failure.endpoint.name)
        has_got_further = sent > self._sent or failure.kind in _NO_FAULT
        self._sent = sent
        if has_got_further and self._left:
            self._left -= 1
            self._in_a_row = 0
            return 0.0
        self._in_a_row += 1
        if self._in_a_row > self._policy.attempts or (not sent and now + self._policy.interval >= deadline):
            return None
        return self._policy.interval

    def exclusions(self) -> Iterator[set[str]]:
        """Yield the names of endpoints to leave out, fewer each time: what failed once may be back.

        Last of all come those at which nothing listens.
        """
        last = set() if self.last is None else {self.last.endpoint.name}
        yield self._failed | last
        if last - self._failed:
            yield set(self._failed)
        if self._failed - self._refused:
            yield set(self._refused)
        if self._refused:
            yield set()


def error_after(failure: UpstreamError, *, tried: int) -> ApiError:
    """Return the error for a client whose request failed for good."""
    status = 504 if failure.kind in _LATE else 502
    count = "1 try" if tried == 1 else f"{tried} tries"
    sentence = str(failure)
    return ApiError(status, f"upstream_{failure.kind.value}", f"{sentence[:1].upper()}{sentence[1:]} ({count}).")
