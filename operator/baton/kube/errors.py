"""What can go wrong in a call to the API server, named by what the caller can do about it. Handles nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from baton.kube.types import JsonObject

NOT_SENT = "NotSent"
"""Reason of a Transient: no connection came about, so the server has seen nothing of the call."""
CONNECTION_LOST = "ConnectionLost"
"""Reason of a Transient: the connection broke, and the server may or may not have done what was asked."""
TIMEOUT = "Timeout"
"""Reason of a Transient: no answer within the time limit."""
SILENCE = "Silence"
"""Reason of a Transient: a watch was answered, then nothing more came within the time limit."""


class ConfigurationError(Exception):
    """The credentials or the address of the API server cannot be had: the message names the file and the cure."""


class ApiError(Exception):
    """A call failed. `status` is the HTTP status (0: there was no answer), `reason` one word, `message` for people."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(status, reason, message)
        self.status = status
        self.reason = reason
        self.message = message

    def __str__(self) -> str:
        return f"{self.message} ({self.status} {self.reason})" if self.status else f"{self.message} ({self.reason})"


class NotFound(ApiError):  # noqa: N818 # reads as the outcome it is, as do its siblings
    """No such object, or no such kind because its CRD is missing."""


class Conflict(ApiError):  # noqa: N818
    """The object is another one, or another version, than the call expected: read again, then decide again."""


class AlreadyExists(ApiError):  # noqa: N818
    """An object of that name exists: look at it, then adopt it or give up."""


class Invalid(ApiError):  # noqa: N818
    """The server refuses what was sent. Sending it again is of no use."""


class Forbidden(ApiError):  # noqa: N818
    """RBAC, a quota or an admission policy says no: somebody has to change it."""


class Unauthorized(ApiError):  # noqa: N818
    """The credentials are refused, freshly read ones too."""


class Gone(ApiError):  # noqa: N818
    """The version or the page asked for is too old: list again."""


class TooManyRequests(ApiError):  # noqa: N818
    """The server's flow control says later. `retry_after` is in seconds, None when the server did not say."""

    def __init__(self, status: int, reason: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(status, reason, message)
        self.retry_after = retry_after


class Fenced(ApiError):  # noqa: N818
    """Not sent: this process must not write (any more), another one leads."""


class Transient(ApiError):  # noqa: N818
    """The server failed, or could not be reached in time: try again later."""


_BY_STATUS: dict[int, type[ApiError]] = {
    400: Invalid,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    422: Invalid,
}


def error_from(status: JsonObject, *, code: int | None = None, retry_after: float | None = None) -> ApiError:
    """Build the error that a `Status` object tells of; `code` stands in where the object has none."""
    number = int(status.get("code") or code or 500)
    reason = str(status.get("reason") or f"Status{number}")
    message = str(status.get("message") or "the API server gave no message")
    if number == 429:
        return TooManyRequests(number, reason, message, retry_after)
    if number == 409 and reason == "AlreadyExists":
        return AlreadyExists(number, reason, message)
    if number >= 500:
        return Transient(number, reason, message)
    return _BY_STATUS.get(number, ApiError)(number, reason, message)
