"""OpenAI request bodies, read and checked: what an engine needs of them, or an error that names the field.

Fields that change nothing here (temperature, tools, logprobs …) are accepted and ignored, as is any unknown field.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import orjson

from baton.sim.tokens import VOCABULARY_SIZE, tokenize

if TYPE_CHECKING:
    from collections.abc import Mapping


_COMPLETION_TOKENS: Final = 16
"""Tokens of a completion whose client sets no limit; null is no limit, as in vLLM."""


class Endpoint(StrEnum):
    """The two ways to ask for text; the value starts the ids of requests and answers, as in vLLM."""

    CHAT = "chatcmpl"
    COMPLETION = "cmpl"


class RequestError(Exception):
    """A request that is wrong, with the HTTP status and the field it is wrong in."""

    def __init__(self, message: str, *, field: str | None = None, status: int = 400) -> None:
        super().__init__(message)
        self.field = field
        self.status = status


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """Where a request's prefill and decode meet, as SGLang's are told; without a port at the engine's own."""

    host: str
    port: int | None
    room: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """What to generate. max_tokens is None when the client set no limit."""

    endpoint: Endpoint
    model: str
    prompt: list[int]
    max_tokens: int | None = None
    min_tokens: int = 0
    ignore_eos: bool = False
    stop_token_ids: frozenset[int] = frozenset()
    stream: bool = False
    include_usage: bool = False
    return_token_ids: bool = False
    kv_transfer_params: object = None
    bootstrap: Bootstrap | None = None


def read_request(endpoint: Endpoint, raw: bytes) -> GenerationRequest:
    """Read the body of a completion or chat completion.

    Raises:
        RequestError: it is no JSON object, or a field is missing or wrong.
    """
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise RequestError(f"the body is not valid JSON: {error}") from error
    if not isinstance(body, dict):
        raise RequestError("the body must be a JSON object")
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise RequestError("model is missing: name the model as a string", field="model")
    if _read_integer(body, "n", minimum=1) not in {None, 1}:
        raise RequestError("n must be 1", field="n")
    max_tokens = _read_integer(body, "max_completion_tokens", minimum=1) or _read_integer(body, "max_tokens", minimum=1)
    if endpoint is Endpoint.COMPLETION and "max_tokens" not in body:
        max_tokens = _COMPLETION_TOKENS
    min_tokens = _read_integer(body, "min_tokens", minimum=0) or 0
    if max_tokens is not None and min_tokens > max_tokens:
        raise RequestError(f"min_tokens {min_tokens} is over max_tokens {max_tokens}", field="min_tokens")
    stream = _read_flag(body, "stream")
    return GenerationRequest(
        endpoint=endpoint,
        model=model,
        prompt=_read_messages(body) if endpoint is Endpoint.CHAT else _read_prompt(body),
        max_tokens=max_tokens,
        min_tokens=min_tokens,
        ignore_eos=_read_flag(body, "ignore_eos"),
        stop_token_ids=frozenset(_read_token_ids(body.get("stop_token_ids") or [], field="stop_token_ids")),
        stream=stream,
        include_usage=_read_stream_options(body, stream=stream),
        return_token_ids=_read_flag(body, "return_token_ids"),
        kv_transfer_params=body.get("kv_transfer_params"),
        bootstrap=_read_bootstrap(body),
    )


def _read_integer(body: Mapping[str, Any], field: str, *, minimum: int) -> int | None:
    value = body.get(field)
    if value is None:
        return None
    if type(value) is not int or value < minimum:
        raise RequestError(f"{field} must be a whole number of at least {minimum}", field=field)
    return value


def _read_flag(body: Mapping[str, Any], field: str) -> bool:
    value = body.get(field)
    if value is None:
        return False
    if not isinstance(value, bool):
        raise RequestError(f"{field} must be true or false", field=field)
    return value


def _read_stream_options(body: Mapping[str, Any], *, stream: bool) -> bool:
    options = body.get("stream_options")
    if options is None:
        return False
    if not isinstance(options, dict):
        raise RequestError("stream_options must be an object", field="stream_options")
    if not stream:
        raise RequestError("stream_options needs stream: true", field="stream_options")
    return _read_flag(options, "include_usage")


def _read_bootstrap(body: Mapping[str, Any]) -> Bootstrap | None:
    host, room = body.get("bootstrap_host"), _read_integer(body, "bootstrap_room", minimum=0)
    if room is None:
        return None
    if not isinstance(host, str) or not host:
        raise RequestError("bootstrap_host is missing: name the prefill's address", field="bootstrap_host")
    return Bootstrap(host.strip("[]"), _read_integer(body, "bootstrap_port", minimum=1), room)


def _read_prompt(body: Mapping[str, Any]) -> list[int]:
    match body.get("prompt"):
        case str(text) | [str(text)] if text:
            return tokenize(text)
        case [[_, *_] as tokens]:
            return _read_token_ids(tokens, field="prompt")
        case [str() | list(), *_]:
            raise RequestError("prompt holds several prompts: send one string or one list of token ids", field="prompt")
        case [_, *_] as tokens:
            return _read_token_ids(tokens, field="prompt")
        case _:
            raise RequestError("prompt is missing or empty: send a string or a list of token ids", field="prompt")


def _read_token_ids(tokens: object, *, field: str) -> list[int]:
    if not isinstance(tokens, list) or any(type(token) is not int for token in tokens):
        raise RequestError(f"{field} must be a list of token ids", field=field)
    if tokens and not 0 <= min(tokens) <= max(tokens) < VOCABULARY_SIZE:
        raise RequestError(f"{field} has a token id outside 0 to {VOCABULARY_SIZE - 1}", field=field)
    return tokens


_END_OF_MESSAGE: Final = "<|end|>"


def _read_messages(body: Mapping[str, Any]) -> list[int]:
    """Render a chat as the prompt of a completion; add_generation_prompt and continue_final_message as in vLLM."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise RequestError("messages is missing or empty: send a list of messages", field="messages")
    rendered = "".join(
        f"<|{_read_role(message, index)}|>{_read_content(message, index)}{_END_OF_MESSAGE}"
        for index, message in enumerate(messages)
    )
    opens_answer = body.get("add_generation_prompt") is not False
    if _read_flag(body, "continue_final_message"):
        if opens_answer:
            raise RequestError(
                "continue_final_message needs add_generation_prompt: false", field="continue_final_message"
            )
        return tokenize(rendered.removesuffix(_END_OF_MESSAGE))
    return tokenize(rendered + "<|assistant|>" if opens_answer else rendered)


def _read_role(message: object, index: int) -> str:
    if not isinstance(message, dict) or not isinstance(role := message.get("role"), str):
        raise RequestError(f"messages[{index}].role is missing", field="messages")
    return role


def _read_content(message: Mapping[str, Any], index: int) -> str:
    match message.get("content"):
        case None:
            return ""
        case str(text):
            return text
        case list(parts) if all(_is_text_part(part) for part in parts):
            return "".join(part["text"] for part in parts)
        case _:
            raise RequestError(f"messages[{index}].content must be text, or a list of text parts", field="messages")


def _is_text_part(part: object) -> bool:
    return isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)
