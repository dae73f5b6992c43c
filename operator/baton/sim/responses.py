"""OpenAI answers as vLLM shapes them: whole answers, server-sent events, lists of models, errors. Pure.

The events of a stream are put together from bytes that are made once, because a load test asks for very many of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import orjson

from baton.sim.requests import Endpoint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from baton.sim.generation import Generation
    from baton.sim.requests import GenerationRequest

_ERROR_TYPES: Final = {
    HTTPStatus.BAD_REQUEST: "BadRequestError",
    HTTPStatus.NOT_FOUND: "NotFoundError",
    HTTPStatus.INTERNAL_SERVER_ERROR: "InternalServerError",
}

_WHOLE_OBJECT: Final = {Endpoint.CHAT: "chat.completion", Endpoint.COMPLETION: "text_completion"}
_CHUNK_OBJECT: Final = {Endpoint.CHAT: "chat.completion.chunk", Endpoint.COMPLETION: "text_completion"}


@dataclass(frozen=True, slots=True)
class AnswerHead:
    """What every piece of an answer repeats; created is Unix time in whole seconds."""

    response_id: str
    created: int
    model: str


def write_answer(head: AnswerHead, generation: Generation) -> bytes:
    """Return the body of a whole answer."""
    request = generation.request
    choice: dict[str, Any] = {
        "index": 0,
        "logprobs": None,
        "finish_reason": generation.finish_reason,
        "stop_reason": generation.stop_reason,
        "token_ids": generation.tokens if request.return_token_ids else None,
    }
    answer: dict[str, Any] = {
        "id": head.response_id,
        "object": _WHOLE_OBJECT[request.endpoint],
        "created": head.created,
        "model": head.model,
        "choices": [choice],
        "usage": _count_usage(generation),
        "kv_transfer_params": generation.kv_transfer_params,
    }
    prompt_token_ids = request.prompt if request.return_token_ids else None
    if request.endpoint is Endpoint.CHAT:
        choice["message"] = {"role": "assistant", "content": generation.text}
        answer["prompt_token_ids"] = prompt_token_ids
    else:
        choice["text"] = generation.text
        choice["prompt_token_ids"] = prompt_token_ids
    return orjson.dumps(answer)


class EventStream:
    """Writes the events of one streamed answer: opening, one event a token, closing."""

    __slots__ = ("_after_text", "_head", "_prompt_ids", "_request", "_start")

    def __init__(self, head: AnswerHead, request: GenerationRequest) -> None:
        self._request = request
        self._head: dict[str, Any] = {
            "id": head.response_id,
            "object": _CHUNK_OBJECT[request.endpoint],
            "created": head.created,
            "model": head.model,
        }
        is_chat = request.endpoint is Endpoint.CHAT
        text_field = b'"delta":{"content":' if is_chat else b'"text":'
        self._start = b"data: " + orjson.dumps(self._head)[:-1] + b',"choices":[{"index":0,' + text_field
        self._after_text = b'},"logprobs":null,"finish_reason":' if is_chat else b',"logprobs":null,"finish_reason":'
        self._prompt_ids = b""
        if request.return_token_ids and not is_chat:
            self._prompt_ids = b',"prompt_token_ids":' + orjson.dumps(request.prompt)

    def open(self) -> bytes:
        """Return what comes before the first token: the role event of a chat, nothing for a completion."""
        if self._request.endpoint is Endpoint.COMPLETION:
            return b""
        choice = {
            "index": 0,
            "delta": {"role": "assistant", "content": ""},
            "logprobs": None,
            "finish_reason": None,
        }
        prompt_ids = {"prompt_token_ids": self._request.prompt} if self._request.return_token_ids else {}
        return _write_event(self._head | {"choices": [choice]} | prompt_ids)

    def write_token(self, token: int, generation: Generation) -> bytes:
        """Return the event of the token just generated; the last one carries the finish reason."""
        ending = b"null"
        if generation.finish_reason is not None:
            stop_reason = orjson.dumps(generation.stop_reason)
            ending = b'"%b","stop_reason":%b' % (generation.finish_reason.encode(), stop_reason)
        token_ids = b"[%d]" % token if self._request.return_token_ids else b"null"
        prompt_ids, self._prompt_ids = self._prompt_ids, b""
        text = b'"%b"' % generation.last_text.encode()
        return b'%b%b%b%b,"token_ids":%b%b}]}\n\n' % (
            self._start,
            text,
            self._after_text,
            ending,
            token_ids,
            prompt_ids,
        )

    def give_up(self, generation: Generation) -> bytes:
        """Return the event that ends an answer without a token; nothing if it has none, as in vLLM."""
        if not generation.tokens:
            return b""
        empty: dict[str, Any] = {"delta": {}} if self._request.endpoint is Endpoint.CHAT else {"text": ""}
        ending = {"finish_reason": generation.finish_reason, "stop_reason": generation.stop_reason}
        token_ids: dict[str, Any] = {"token_ids": [] if self._request.return_token_ids else None}
        return _write_event(self._head | {"choices": [{"index": 0} | empty | {"logprobs": None} | ending | token_ids]})

    def close(self, generation: Generation) -> bytes:
        """Return what comes after the last token: the usage event if asked for, and the end mark."""
        usage = b""
        if self._request.include_usage:
            usage = _write_event(self._head | {"choices": [], "usage": _count_usage(generation)})
        return usage + b"data: [DONE]\n\n"


def write_models(models: Sequence[str], *, created: int, max_model_len: int) -> bytes:
    """Return the body of GET /v1/models."""
    cards = [
        {
            "id": model,
            "object": "model",
            "created": created,
            "owned_by": "baton",
            "root": model,
            "parent": None,
            "max_model_len": max_model_len,
        }
        for model in models
    ]
    return orjson.dumps({"object": "list", "data": cards})


def write_error(message: str, *, status: int, field: str | None = None) -> bytes:
    """Return the body of an error."""
    kind = _ERROR_TYPES.get(HTTPStatus(status)) or HTTPStatus(status).phrase
    return orjson.dumps({"error": {"message": message, "type": kind, "param": field, "code": status}})


def _write_event(value: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(value) + b"\n\n"


def _count_usage(generation: Generation) -> dict[str, int]:
    prompt, completion = len(generation.request.prompt), len(generation.tokens)
    return {"prompt_tokens": prompt, "total_tokens": prompt + completion, "completion_tokens": completion}
