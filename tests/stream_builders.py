"""Events of streams as vLLM writes them, for tests of what reads and joins them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from baton.router.events import write_event

if TYPE_CHECKING:
    from collections.abc import Sequence

    from baton.router.events import Event

DONE = b"data: [DONE]\n\n"
PROMPT_IDS = [1, 2, 3]


def head(response_id: str = "chatcmpl-1") -> Event:
    return {"id": response_id, "object": "chat.completion.chunk", "created": 7, "model": "m"}


def chat_event(
    text: str | None, *, ids: Sequence[int] | None = (), response_id: str = "chatcmpl-1", **ending: Any
) -> Event:
    """Return the event of some text, or with None the one that opens a chat."""
    delta = {"role": "assistant", "content": ""} if text is None else {"content": text}
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None} | ending
    if text is not None:
        choice["token_ids"] = None if ids is None else list(ids)
    prompt_ids = {"prompt_token_ids": PROMPT_IDS} if text is None and ids is not None else {}
    return head(response_id) | {"choices": [choice]} | prompt_ids


def completion_event(text: str, *, ids: Sequence[int] | None = (), **ending: Any) -> Event:
    choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": None, "stop_reason": None} | ending
    choice |= {"prompt_token_ids": None, "token_ids": None if ids is None else list(ids)}
    return {"id": "cmpl-9", "object": "text_completion", "created": 8, "model": "m", "choices": [choice]}


def usage_event(prompt: int, completion: int, *, response_id: str = "chatcmpl-1") -> Event:
    usage = {"prompt_tokens": prompt, "total_tokens": prompt + completion, "completion_tokens": completion}
    return head(response_id) | {"choices": [], "usage": usage}


def stream(*events: Event) -> bytes:
    return b"".join(map(write_event, events))
