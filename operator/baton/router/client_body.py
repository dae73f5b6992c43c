"""The JSON body of a client, and the bodies for engines that are made from it. Sends nothing.

What the client wrote reaches decode byte for byte wherever possible: parsing and writing again would lose large
numbers. Parameters of the KV transfer are the router's to give, so a client's own are left out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import orjson

from baton.router.errors import ApiError

TRANSFER_PARAMETERS = "kv_transfer_params"
IDS_WANTED = "return_token_ids"
_TRANSFER_FIELD = b',"%b":' % TRANSFER_PARAMETERS.encode()
BOOTSTRAP_HOST, BOOTSTRAP_PORT, BOOTSTRAP_ROOM = "bootstrap_host", "bootstrap_port", "bootstrap_room"
_HAND_OVER = frozenset({TRANSFER_PARAMETERS, BOOTSTRAP_HOST, BOOTSTRAP_PORT, BOOTSTRAP_ROOM})

# They would end prefill for another reason than its length, upon which the engine keeps no KV; what prefill
# generates is thrown away in any case.
_NOT_FOR_PREFILL = _HAND_OVER | {"stream_options", "stop", "stop_token_ids", "best_of", "min_tokens", IDS_WANTED}


@dataclass(frozen=True, slots=True)
class ClientBody:
    """A parsed body with its `model`, beside the bytes it was parsed from.

    `addition` is for the engine that generates the answer: further fields, each after a comma. `model_at` is where a
    form has the model's name, None for JSON.
    """

    raw: bytes
    fields: dict[str, Any]
    model: str
    addition: bytes = b""
    model_at: slice | None = None

    @property
    def is_streamed(self) -> bool:
        """Whether the client asked for a stream."""
        return self.fields.get("stream") is True


def parse_body(raw: bytes) -> ClientBody | ApiError:
    """Parse a request's body, or say what is wrong with it."""
    try:
        fields = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        return _refused(f"The body is not valid JSON: {error}.")
    if not isinstance(fields, dict):
        return _refused("The body must be a JSON object.")
    model = fields.get("model")
    if model is None:
        return _refused("The field 'model' is required.", param="model")
    if not isinstance(model, str) or not model:
        return _refused("The field 'model' must be a string that is not empty.", param="model")
    return ClientBody(raw, fields, model)


def ask_for_token_ids(body: ClientBody) -> ClientBody:
    """Have the engine tell the token ids of prompt and answer: what a replay goes on from."""
    return replace(body, addition=b',"%b":true' % IDS_WANTED.encode())


def whole(body: ClientBody, *, model: str | None) -> bytes:
    """Return the body for an engine that generates the answer: with another model name, if one is given."""
    base = _base(body, model)
    return _extended(base, body.addition) if body.addition else base


def for_prefill(body: ClientBody, *, model: str | None, additions: dict[str, Any]) -> bytes:
    """Return the body that makes an engine read the prompt, generate one token and no more, and not stream."""
    fields = {key: value for key, value in body.fields.items() if key not in _NOT_FOR_PREFILL}
    fields |= {"model": model or body.model, "stream": False, "max_tokens": 1}
    if "max_completion_tokens" in fields:
        fields["max_completion_tokens"] = 1
    if "n" in fields:
        fields["n"] = 1
    return orjson.dumps(fields | additions)


def for_decode(body: ClientBody, *, model: str | None, transfer_parameters: bytes) -> bytes:
    """Return the body with the parameters (a JSON value) that prefill answered with."""
    return _extended(_base(body, model), body.addition, _TRANSFER_FIELD, transfer_parameters)


def for_release(body: ClientBody, *, model: str | None, transfer_parameters: bytes) -> bytes:
    """Return the body that makes a decode engine pull the KV that prefill holds, and do as little else as it can."""
    return with_parameters(for_prefill(body, model=model, additions={}), transfer_parameters)


def for_both(body: ClientBody, *, model: str | None, additions: dict[str, Any]) -> bytes:
    """Return the body for engines of which both get the whole request, with additional fields."""
    return _extended(_base(body, model), body.addition, b",", orjson.dumps(additions)[1:-1])


def with_parameters(body: bytes, transfer_parameters: bytes) -> bytes:
    """Add the parameters (a JSON value) to a body that has none."""
    return _extended(body, _TRANSFER_FIELD, transfer_parameters)


def _base(body: ClientBody, model: str | None) -> bytes:
    replaced = _HAND_OVER | {IDS_WANTED} if body.addition else _HAND_OVER
    if replaced.isdisjoint(body.fields) and model in {None, body.model}:
        return body.raw
    if body.model_at is not None:
        name = (model or body.model).encode()
        return b"".join((body.raw[: body.model_at.start], name, body.raw[body.model_at.stop :]))
    fields = {key: value for key, value in body.fields.items() if key not in replaced}
    return orjson.dumps(fields | {"model": model or body.model})


def _extended(base: bytes, *additions: bytes) -> bytes:
    # The last brace closes the object, and there is a field before it: the model.
    return b"".join((memoryview(base)[: base.rindex(b"}")], *additions, b"}"))


def _refused(message: str, *, param: str | None = None) -> ApiError:
    return ApiError(400, "invalid_request", message, param=param)
