"""Why an exchange with an engine failed, by what the caller can do about it. Knows no endpoint: the caller does."""

from __future__ import annotations

from enum import StrEnum


class FailureKind(StrEnum):
    """What went wrong; a metric label."""

    REFUSED = "refused"
    """No connection could be made."""

    TIMEOUT = "timeout"
    """The answer did not begin in time."""

    STALLED = "stalled"
    """Nothing came for too long in the middle of the answer."""

    CLOSED = "closed"
    """The connection was closed before anything was answered."""

    BROKEN_OFF = "broken_off"
    """The connection was closed in the middle of the answer."""

    ENGINE_ERROR = "engine_error"
    """The engine answered with a status of 500 or above."""

    MALFORMED = "malformed"
    """The answer is not valid HTTP, or not what was asked for."""

    TOO_LARGE = "too_large"
    """The answer is larger than the router keeps."""

    TRUNCATED = "truncated"
    """The stream ended without its last event."""

    RECOMPUTED = "recomputed"
    """The engine gave the request up because it ran out of KV blocks."""

    ABORTED = "aborted"
    """The engine aborted the request, as one that is told to stop does."""

    REPLAY_REFUSED = "replay_refused"
    """The engine would not go on with the answer of another."""

    DIVERGED = "diverged"
    """A second answer is not the one that the client has the beginning of."""

    NO_TRANSFER_PARAMETERS = "no_transfer_parameters"
    """Prefill answered without the parameters that decode needs."""

    NO_CALLBACK = "no_callback"
    """Decode did not call for its prefill in time."""


OF_THE_REQUEST = frozenset(
    {FailureKind.RECOMPUTED, FailureKind.ABORTED, FailureKind.DIVERGED, FailureKind.REPLAY_REFUSED}
)
"""They say nothing against the endpoint, beyond the next try of the same request."""


class ExchangeError(Exception):
    """An exchange that brought no whole answer. The message completes the sentence "<endpoint> …"."""

    def __init__(self, kind: FailureKind, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class StaleConnectionError(Exception):
    """A kept connection was closed by the other side before it answered anything: try again on a new one."""
