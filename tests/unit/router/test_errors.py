from __future__ import annotations

import orjson
import pytest

from baton.router.errors import ApiError, render_error, render_error_event


@pytest.mark.parametrize(("status", "kind"), [(400, "invalid_request_error"), (503, "server_error")])
def test_an_error_has_the_shape_clients_read(status: int, kind: str) -> None:
    body = orjson.loads(render_error(ApiError(status, "a_code", "Why.", param="model")))

    assert body == {"error": {"message": "Why.", "type": kind, "param": "model", "code": "a_code"}}


def test_an_error_in_a_stream_is_one_event() -> None:
    event = render_error_event(ApiError(502, "a_code", "Two\nlines."))

    assert event.startswith(b"data: {")
    assert event.endswith(b"}\n\n")
    assert event.count(b"\n") == 2
