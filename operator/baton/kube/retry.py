"""Decides whether one call is tried again, and when. Neither waits nor calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

from baton.kube.backoff import delay_after
from baton.kube.errors import CONNECTION_LOST, NOT_SENT, ApiError, TooManyRequests, Transient

if TYPE_CHECKING:
    from collections.abc import Callable

_LONGEST_WAIT = 30.0  # seconds in all that one call waits for the server's flow control
_MOST_RECONNECTS = 2


class RetryBudget:
    """What one call may spend on further tries.

    The server's flow control is obeyed for up to 30 s in all. A lost connection costs up to two more tries, if
    trying twice does no harm; whatever else fails is the caller's to judge.
    """

    def __init__(self, *, idempotent: bool, jitter: Callable[[], float]) -> None:
        self._idempotent = idempotent
        self._jitter = jitter
        self._waited = 0.0
        self._refusals = 0
        self._reconnects = 0

    def wait_after(self, error: ApiError) -> float | None:
        """Return the seconds to wait before the next try, None if there is none."""
        if isinstance(error, TooManyRequests):
            return self._after_refusal(error)
        if isinstance(error, Transient) and (
            error.reason == NOT_SENT or (error.reason == CONNECTION_LOST and self._idempotent)
        ):
            return self._after_loss()
        return None

    def _after_refusal(self, error: TooManyRequests) -> float | None:
        self._refusals += 1
        jitter = self._jitter()
        if error.retry_after is None:
            wait = delay_after(self._refusals, base=0.5, cap=8.0, jitter=jitter)
        else:
            wait = error.retry_after * (1.0 + 0.2 * jitter)
        self._waited += wait
        return wait if self._waited <= _LONGEST_WAIT else None

    def _after_loss(self) -> float | None:
        self._reconnects += 1
        if self._reconnects > _MOST_RECONNECTS:
            return None
        return delay_after(self._reconnects, base=0.1, cap=1.0, jitter=self._jitter())
