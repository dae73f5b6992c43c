from __future__ import annotations

import pytest

from baton.kube.errors import (
    AlreadyExists,
    ApiError,
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    NotFound,
    TooManyRequests,
    Transient,
    Unauthorized,
    error_from,
)


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (400, "BadRequest", Invalid),
        (401, "Unauthorized", Unauthorized),
        (403, "Forbidden", Forbidden),
        (404, "NotFound", NotFound),
        (405, "MethodNotAllowed", ApiError),
        (409, "Conflict", Conflict),
        (409, "AlreadyExists", AlreadyExists),
        (410, "Expired", Gone),
        (422, "Invalid", Invalid),
        (429, "TooManyRequests", TooManyRequests),
        (500, "InternalError", Transient),
        (503, "ServiceUnavailable", Transient),
        (504, "Timeout", Transient),
    ],
)
def test_each_status_becomes_the_error_that_says_what_to_do(code: int, reason: str, kind: type[ApiError]) -> None:
    error = error_from({"code": code, "reason": reason, "message": "m"})
    assert type(error) is kind
    assert (error.status, error.reason, error.message) == (code, reason, "m")


def test_the_server_s_wish_to_wait_is_kept() -> None:
    error = error_from({"code": 429}, retry_after=3.0)
    assert isinstance(error, TooManyRequests)
    assert error.retry_after == 3.0


def test_an_answer_that_says_nothing_is_told_by_its_http_status() -> None:
    error = error_from({}, code=404)
    assert type(error) is NotFound
    assert str(error) == "the API server gave no message (404 Status404)"


def test_an_error_without_an_answer_shows_no_status() -> None:
    assert str(Transient(0, "Timeout", "GET /x: nothing heard")) == "GET /x: nothing heard (Timeout)"
