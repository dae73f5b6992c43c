"""Server-sent events of completions: cutting bytes into whole events, reading and writing them. Keeps nothing."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import orjson

from baton.router.wire.failures import ExchangeError, FailureKind

if TYPE_CHECKING:
    from collections.abc import Iterator

Event = dict[str, Any]
"""What an event of a completion says: the JSON object after `data:`."""

DONE_EVENT: Final = b"data: [DONE]\n\n"
"""The last event of a stream."""

_ENDS: Final = (b"\n\n", b"\n\r\n")
_BLANK_LINE: Final = re.compile(rb"\n\r?\n")
_DATA: Final = re.compile(rb"^data: ?([^\r\n]*)\r?$", re.MULTILINE)

_RECOMPUTED: Final = "recomputed"
_ABORT: Final = "abort"


def is_whole(data: bytes) -> bool:
    """Tell whether an event ends where the data ends."""
    return data.endswith(_ENDS)


def end_of_last(data: bytes) -> int:
    """Return how many bytes of the data are whole events."""
    return max((data.rfind(mark) + len(mark) for mark in _ENDS if mark in data), default=0)


def split_events(data: bytes) -> Iterator[bytes]:
    """Yield the events in the data, each with the blank line that ends it, if there is one."""
    start = 0
    for blank in _BLANK_LINE.finditer(data):
        yield data[start : blank.end()]
        start = blank.end()
    if start < len(data):
        yield data[start:]


def is_done(event: bytes) -> bool:
    """Tell whether this is the last event of a stream."""
    return event.startswith(b"data:") and event[5:].strip() == b"[DONE]"


def read_event(event: bytes) -> Event | None:
    """Return what an event says; None for a comment, the last event, or anything that is no JSON object."""
    try:
        content = orjson.loads(b"\n".join(_DATA.findall(event)))
    except orjson.JSONDecodeError:
        return None
    return content if isinstance(content, dict) else None


def write_event(event: Event) -> bytes:
    """Write an event as engines do."""
    return b"data: %b\n\n" % orjson.dumps(event)


def choices_of(content: Event) -> list[dict[str, Any]]:
    """Return the choices of an event or of a whole answer, none if it has none or they are not what they should be."""
    choices = content.get("choices")
    return [choice for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []


def is_finished(content: Event) -> bool:
    """Tell whether an event or a whole answer says why a choice ended."""
    return any(choice.get("finish_reason") is not None for choice in choices_of(content))


def check_answer(answer: bytes) -> None:
    """Raise ExchangeError if a whole answer, one that is not streamed, is the engine giving up."""
    # A quote inside generated text is escaped: few answers have to be read.
    if b'"recomputed"' not in answer and b'"abort"' not in answer:
        return
    try:
        content = orjson.loads(answer)
    except orjson.JSONDecodeError:
        return
    if isinstance(content, dict) and (fault := fault_of(content)) is not None:
        raise fault


def fault_of(content: Event) -> ExchangeError | None:
    """Return why an event, or a whole answer, is the engine giving up rather than an answer; None if it is not.

    An error below 500 is the engine's answer to a request that it will not serve.
    """
    for choice in choices_of(content):
        if choice.get("stop_reason") == _RECOMPUTED:
            return ExchangeError(FailureKind.RECOMPUTED, "gave the request up to free KV blocks")
        if choice.get("finish_reason") == _ABORT:
            return ExchangeError(FailureKind.ABORTED, "aborted the request")
    error = content.get("error")
    if isinstance(error, dict) and isinstance(code := error.get("code"), int) and code >= 500:
        return ExchangeError(FailureKind.ENGINE_ERROR, f"reported error {code}: {str(error.get('message'))[:200]}")
    return None
