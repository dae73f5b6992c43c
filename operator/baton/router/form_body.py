"""Finds the model in a multipart form, as audio is sent. Keeps the form's bytes as they are; reads no file in it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from baton.router.client_body import ClientBody
from baton.router.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Iterator

_BOUNDARY = re.compile(
    rb'multipart/form-data\s*;(?:.*;)?\s*boundary=(?:"([^"]{1,200})"|([^\s";]{1,200}))', re.IGNORECASE
)
_NAME = re.compile(rb'(?:^|\r\n)content-disposition:[^\r\n]*;\s*name="([^"\r\n]*)"', re.IGNORECASE)

_LONGEST_NAME = 1024  # bytes of a model's name


def is_form(content_type: bytes) -> bool:
    """Tell whether a body of this type is a multipart form."""
    return content_type[:19].lower() == b"multipart/form-data"


def parse_form(raw: bytes, content_type: bytes) -> ClientBody | ApiError:
    """Return the form with its fields `model` and `stream`, or say what is wrong with it."""
    found = _BOUNDARY.match(content_type)
    if found is None:
        return _refused("The Content-Type of a form must name its boundary.")
    places = {name: place for name, place in _fields(raw, found[1] or found[2]) if name in {b"model", b"stream"}}
    place = places.get(b"model")
    if place is None:
        return _refused("The form has no field 'model', or does not end with its boundary.")
    if place.stop - place.start > _LONGEST_NAME:
        return _refused("The field 'model' is too long.")
    try:
        model = raw[place].decode()
    except UnicodeDecodeError:
        return _refused("The field 'model' must be UTF-8 text.")
    if not model:
        return _refused("The field 'model' must not be empty.")
    is_streamed = raw[places[b"stream"]].lower() == b"true" if b"stream" in places else False
    return ClientBody(raw, {"model": model, "stream": is_streamed}, model, model_at=place)


def _fields(raw: bytes, boundary: bytes) -> Iterator[tuple[bytes, slice]]:
    """Yield each part's name and where in the form its content is (RFC 7578)."""
    mark = b"\r\n--" + boundary
    start = len(mark) - 2 if raw.startswith(mark[2:]) else _after(raw.find(mark), mark)
    while start > 0 and not raw.startswith(b"--", start):
        end = raw.find(mark, start)
        if end < 0:
            return
        head_end = raw.find(b"\r\n\r\n", start, end)
        if head_end >= 0 and (name := _NAME.search(raw, start, head_end)) is not None:
            yield name[1], slice(head_end + 4, end)
        start = end + len(mark)


def _after(found: int, mark: bytes) -> int:
    return found + len(mark) if found >= 0 else 0


def _refused(message: str) -> ApiError:
    return ApiError(400, "invalid_request", message, param="model")
