from __future__ import annotations

import pytest

from baton.router.client_body import ClientBody, whole
from baton.router.errors import ApiError
from baton.router.form_body import is_form, parse_form

AUDIO = bytes(range(256)) * 40
TYPE = b"multipart/form-data; boundary=xYz"


def part(name: str, content: bytes, *, more: str = "") -> bytes:
    return f'--xYz\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + content + b"\r\n"


FILE = part("file", AUDIO, more='; filename="model.wav"\r\nContent-Type: audio/wav')
FORM = FILE + part("model", b"whisper") + part("stream", b"True") + b"--xYz--\r\n"


def parsed(raw: bytes, content_type: bytes = TYPE) -> ClientBody:
    body = parse_form(raw, content_type)
    assert isinstance(body, ClientBody)
    return body


@pytest.mark.parametrize(
    "content_type",
    [TYPE, b'Multipart/Form-Data; charset=utf-8; boundary="xYz"', b"multipart/form-data;boundary=xYz;charset=utf-8"],
)
def test_the_model_of_a_form_is_found(content_type: bytes) -> None:
    body = parsed(FORM, content_type)

    assert is_form(content_type)
    assert (body.model, body.is_streamed, whole(body, model=None)) == ("whisper", True, FORM)


def test_a_preamble_and_parts_without_a_name_are_skipped() -> None:
    raw = b"hello\r\n--xYz\r\nX: y\r\n\r\nmodel\r\n" + part("model", b"m") + b"--xYz--"

    body = parsed(raw)

    assert (body.model, body.is_streamed) == ("m", False)


@pytest.mark.parametrize("name", ["a", "a-much-longer-name"])
def test_another_model_changes_no_other_byte(name: str) -> None:
    expected = FORM.replace(b"\r\n\r\nwhisper\r\n", f"\r\n\r\n{name}\r\n".encode())

    assert whole(parsed(FORM), model=name) == expected


@pytest.mark.parametrize(
    ("raw", "content_type", "words"),
    [
        (FORM, b"multipart/form-data", "boundary"),
        (FILE + b"--xYz--\r\n", TYPE, "no field 'model'"),
        (part("model", b"m"), TYPE, "does not end"),
        (b"", TYPE, "no field 'model'"),
        (part("model", b"") + b"--xYz--", TYPE, "not be empty"),
        (part("model", b"\xff") + b"--xYz--", TYPE, "UTF-8"),
        (part("model", b"x" * 2000) + b"--xYz--", TYPE, "too long"),
        (b"--xYz--" + part("model", b"m") + b"--xYz--", TYPE, "no field 'model'"),
    ],
)
def test_a_form_that_names_no_model_is_refused(raw: bytes, content_type: bytes, words: str) -> None:
    error = parse_form(raw, content_type)

    assert isinstance(error, ApiError)
    assert (error.status, error.param) == (400, "model")
    assert words in error.message
