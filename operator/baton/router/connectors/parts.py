"""Takes a request for several answers apart, into requests for one answer each. Pure; sends nothing.

Prefill's KV is good for one decode, so what an engine alone would do in one request (`n`, lists of prompts) becomes
several through prefill and decode.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import orjson

from baton.router.errors import ApiError

if TYPE_CHECKING:
    from baton.router.client_body import ClientBody

_MOST = 128
"""Answers of one request: what OpenAI allows for `n`."""


@dataclass(frozen=True, slots=True)
class Part:
    """One of the answers. `is_first` of its prompt: usage counts a prompt once, however many answers it has."""

    body: ClientBody
    is_first: bool


def is_single(body: ClientBody) -> bool:
    """Tell whether the request is for one answer."""
    return _answers(body) == 1 and len(_prompts(body)) <= 1


def refusal(body: ClientBody) -> ApiError | None:
    """Return why a request cannot be taken apart."""
    answers = body.fields.get("best_of")
    if isinstance(answers, int) and answers > 1:
        return _refused("best_of", "'best_of' compares answers, which no single engine has; ask for 'n' of them.")
    if body.fields.get("use_beam_search"):
        return _refused("use_beam_search", "Beam search cannot go on after a hand-over from prefill to decode.")
    wanted = _answers(body) * max(1, len(_prompts(body)))
    if wanted > _MOST:
        field = "n" if _answers(body) > 1 else "prompt"
        return _refused(field, f"The request asks for {wanted} answers; send at most {_MOST} at once.")
    return None


def take_apart(body: ClientBody) -> list[Part]:
    """Return the parts in the order of their choices: all answers to the first prompt, then to the next."""
    answers = _answers(body)
    common = {name: value for name, value in body.fields.items() if name != "n"}
    parts: list[Part] = []
    for prompt in _prompts(body) or (None,):
        for number in range(answers):
            fields = common if prompt is None else common | {"prompt": prompt}
            if isinstance(seed := fields.get("seed"), int):
                # Equal seeds would give equal answers; vLLM counts up, too.
                fields = fields | {"seed": seed + number}
            parts.append(Part(replace(body, raw=orjson.dumps(fields), fields=fields), is_first=number == 0))
    return parts


def _answers(body: ClientBody) -> int:
    answers = body.fields.get("n")
    return answers if isinstance(answers, int) and answers > 1 else 1


def _prompts(body: ClientBody) -> list[Any]:
    """Return the prompts of a list of them; a list of token ids is one prompt."""
    prompts = body.fields.get("prompt")
    if isinstance(prompts, list) and len(prompts) > 1 and not isinstance(prompts[0], int):
        return prompts
    return []


def _refused(field: str, message: str) -> ApiError:
    return ApiError(400, "unsupported_by_connector", message, param=field)
