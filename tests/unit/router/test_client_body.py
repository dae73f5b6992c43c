from __future__ import annotations

import orjson
import pytest

from baton.router.client_body import (
    ClientBody,
    ask_for_token_ids,
    for_decode,
    for_prefill,
    for_release,
    parse_body,
    whole,
)
from baton.router.errors import ApiError

# A number that no double holds, blanks, and an escape: all that parsing and writing again would change.
RAW = b' {"model": "m", "seed": 123456789012345678901234567890, "prompt": "\\u0041 }"}\n'


def parsed(raw: bytes = RAW) -> ClientBody:
    body = parse_body(raw)
    assert isinstance(body, ClientBody)
    return body


@pytest.mark.parametrize(
    ("raw", "param", "part"),
    [
        (b"", None, "not valid JSON"),
        (b"{", None, "not valid JSON"),
        (b'{"model":"\xff"}', None, "not valid JSON"),
        (b"[" * 100_000, None, "not valid JSON"),
        (b'{"model":"m"} {}', None, "not valid JSON"),
        (b'["m"]', None, "must be a JSON object"),
        (b"{}", "model", "required"),
        (b'{"model":null}', "model", "required"),
        (b'{"model":7}', "model", "must be a string"),
        (b'{"model":""}', "model", "not empty"),
    ],
)
def test_a_body_that_names_no_model_is_refused(raw: bytes, param: str | None, part: str) -> None:
    error = parse_body(raw)

    assert isinstance(error, ApiError)
    assert (error.status, error.param) == (400, param)
    assert part in error.message


def test_what_needs_no_change_goes_on_as_it_came() -> None:
    assert whole(parsed(), model=None) is RAW
    assert whole(parsed(), model="m") is RAW


def test_the_model_is_rewritten() -> None:
    assert orjson.loads(whole(parsed(b'{"model":"m","n":1}'), model="other")) == {"model": "other", "n": 1}


@pytest.mark.parametrize("value", ["{}", "null", '{"do_remote_prefill":true}'])
def test_transfer_parameters_of_a_client_are_left_out(value: str) -> None:
    body = parsed(b'{"model":"m","kv_transfer_params":%b,"n":1}' % value.encode())

    assert orjson.loads(whole(body, model=None)) == {"model": "m", "n": 1}
    assert "kv_transfer_params" not in orjson.loads(for_prefill(body, model=None, additions={}))
    assert for_decode(body, model=None, transfer_parameters=b"{}").count(b"kv_transfer_params") == 1


def test_decode_gets_the_clients_bytes_and_the_parameters() -> None:
    body = for_decode(parsed(), model=None, transfer_parameters=b'{"a":1}')

    assert body == RAW.rstrip()[:-1] + b',"kv_transfer_params":{"a":1}}'


def test_prefill_generates_one_token_and_does_not_stream() -> None:
    fields = {
        "model": "m",
        "prompt": "p",
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 100,
        "max_completion_tokens": 100,
        "min_tokens": 50,
        "n": 1,
        "best_of": 3,
        "stop": ["a"],
        "stop_token_ids": [1],
        "temperature": 0.5,
    }

    body = for_prefill(parsed(orjson.dumps(fields)), model="other", additions={"min_tokens": 1})

    assert orjson.loads(body) == {
        "model": "other",
        "prompt": "p",
        "stream": False,
        "max_tokens": 1,
        "max_completion_tokens": 1,
        "min_tokens": 1,
        "n": 1,
        "temperature": 0.5,
    }


def test_prefill_is_not_told_what_the_client_did_not_say() -> None:
    body = orjson.loads(for_prefill(parsed(b'{"model":"m"}'), model=None, additions={}))

    assert body == {"model": "m", "stream": False, "max_tokens": 1}


@pytest.mark.parametrize(("value", "streamed"), [("true", True), ("false", False), ("null", False)])
def test_a_stream_is_known_by_its_field(value: str, streamed: bool) -> None:
    assert parsed(b'{"model":"m","stream":%b}' % value.encode()).is_streamed is streamed


def test_token_ids_are_asked_of_the_engine_that_answers_alone() -> None:
    body = ask_for_token_ids(parsed())

    assert whole(body, model=None) == RAW.rstrip()[:-1] + b',"return_token_ids":true}'
    assert orjson.loads(whole(body, model="other"))["return_token_ids"] is True
    assert b"return_token_ids" not in for_prefill(body, model=None, additions={})
    assert orjson.loads(for_decode(body, model=None, transfer_parameters=b"{}"))["return_token_ids"] is True


def test_a_clients_own_word_on_token_ids_is_replaced() -> None:
    body = ask_for_token_ids(parsed(b'{"model":"m","return_token_ids":false}'))

    assert whole(body, model=None) == b'{"model":"m","return_token_ids":true}'


def test_a_release_pulls_and_generates_one_token() -> None:
    body = for_release(
        parsed(b'{"model":"m","stream":true,"max_tokens":9}'), model=None, transfer_parameters=b'{"a":1}'
    )

    assert orjson.loads(body) == {"model": "m", "stream": False, "max_tokens": 1, "kv_transfer_params": {"a": 1}}
