"""The router's own error answers, in the shape OpenAI's clients read. Decides on none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from baton.router.wire.messages import Header

JSON: Header = (b"content-type", b"application/json")

SHOWN = 200
"""Characters of a client's own words, such as a model name or a path, that errors and logs repeat."""


@dataclass(frozen=True, slots=True)
class ApiError:
    """An error answer. `code` is for programs, and the `reason` in metrics and logs; `param` names the field."""

    status: int
    code: str
    message: str
    param: str | None = None
    headers: tuple[Header, ...] = ()


def render_error(error: ApiError) -> bytes:
    """Write the JSON body."""
    kind = "invalid_request_error" if error.status < 500 else "server_error"
    shown = {"message": error.message, "type": kind, "param": error.param, "code": error.code}
    return orjson.dumps({"error": shown})


def render_error_event(error: ApiError) -> bytes:
    """Write the error as an event of a stream that has already begun."""
    return b"data: %b\n\n" % render_error(error)
