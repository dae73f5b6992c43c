"""Joins the stream of a second engine to what a client has of the first: same id, no text twice, none missing. Pure.

Each splice takes the events of one stream in their order. Which one fits is baton.router.replay's decision.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from baton.router.events import choices_of
from baton.router.transcript import fragments_of
from baton.router.wire.failures import ExchangeError, FailureKind

if TYPE_CHECKING:
    from baton.router.events import Event
    from baton.router.transcript import Fragment, Transcript

_IDENTITY = ("id", "created", "model", "system_fingerprint")


class Splice(Protocol):
    """One way to join."""

    def take(self, event: Event) -> list[Event]:
        """Return what the client gets for an event of the second engine. Raises ExchangeError if they do not join."""


class Repetition:
    """For a second engine that answers the same request from the beginning.

    What the client has is compared, and left out. Without text at the client there is nothing to compare, and any
    answer will do.
    """

    def __init__(self, transcript: Transcript) -> None:
        self._identity = _identity_of(transcript)
        self._due = {place: text for place, text in transcript.texts.items() if text}
        self._has_begun = bool(transcript.head)

    def take(self, event: Event) -> list[Event]:
        """Return the event, the rest of it, or nothing."""
        if "choices" not in event:
            return [event]
        event.update(self._identity)
        if self._has_begun:
            event.pop("prompt_token_ids", None)
        kept = [choice for choice in choices_of(event) if self._keep(choice)]
        if event["choices"] and not kept:
            return []
        return [event | {"choices": kept}]

    def _keep(self, choice: dict[str, Any]) -> bool:
        """Take what the client has out of a choice; return whether anything is left."""
        is_old = False
        if self._has_begun:
            is_old = (choice.get("delta") or {}).pop("role", None) is not None
            _hide_prompt(choice)
        for fragment in list(fragments_of(choice)):
            due = self._due.get(fragment.place)
            if due:
                self._cut(choice, fragment, due)
                is_old = True
        if choice.get("finish_reason") is not None:
            if any(index == choice.get("index", 0) for index, _ in self._due):
                raise _diverged("it ends before the point that the first one had reached")
            return True
        return any(fragment.text for fragment in fragments_of(choice)) or not (is_old or self._due)

    def _cut(self, choice: dict[str, Any], fragment: Fragment, due: str) -> None:
        text = fragment.text
        size = min(len(text), len(due))
        if text[:size] != due[:size]:
            raise _diverged("it says something else")
        fragment.holder[fragment.name] = text[size:]
        if size == len(due):
            del self._due[fragment.place]
        else:
            self._due[fragment.place] = due[size:]
        if fragment.call is not None:
            fragment.call.pop("id", None)
            fragment.call.pop("type", None)
        if fragment.name == "name":
            del fragment.holder["name"]
        if text[size:]:
            if choice.get("logprobs"):
                raise _diverged("its tokens are cut otherwise, and their logprobs cannot be")
            if "token_ids" in choice:
                choice["token_ids"] = None


class Continuation:
    """For a second engine that was given the prompt with the text so far, and goes on from there.

    Its events may be those of a completion although the client's are those of a chat.
    """

    def __init__(self, transcript: Transcript, *, is_chat: bool) -> None:
        self._identity = _identity_of(transcript)
        self._head = transcript.head
        self._pattern = transcript.choice
        self._tokens = transcript.tokens
        self._prompt_tokens = None if transcript.prompt_ids is None else len(transcript.prompt_ids)
        self._characters = len(transcript.content)
        self._is_chat = is_chat
        self._has_reasoned = transcript.has_reasoning

    def take(self, event: Event) -> list[Event]:
        """Return the event as the first engine would have sent it; nothing for what only opens an answer."""
        choices = [self._rewrite(choice) for choice in choices_of(event)]
        kept = [choice for choice in choices if choice is not None]
        if choices and not kept:
            return []
        if "choices" in event:
            event = {**self._head, "choices": kept, **{name: event[name] for name in ("usage",) if name in event}}
        if isinstance(usage := event.get("usage"), dict):
            self._add_up(usage)
        return [event]

    def _rewrite(self, choice: dict[str, Any]) -> dict[str, Any] | None:
        delta = choice.get("delta")
        if isinstance(delta, dict):
            return self._rewrite_chat(choice, delta)
        _shift_offsets(choice, self._characters)
        if self._is_chat:
            return self._to_chat(choice)
        _hide_prompt(choice)
        return choice

    def _rewrite_chat(self, choice: dict[str, Any], delta: dict[str, Any]) -> dict[str, Any] | None:
        is_opening = delta.pop("role", None) is not None
        if not self._has_reasoned and any(
            name.startswith("reasoning") and value for name, value in delta.items() if isinstance(value, str)
        ):
            raise _diverged("it begins to reason anew")
        is_empty = not any(fragment.text for fragment in fragments_of(choice))
        return None if is_opening and is_empty and choice.get("finish_reason") is None else choice

    def _to_chat(self, choice: dict[str, Any]) -> dict[str, Any]:
        chat = {
            "index": choice.get("index", 0),
            "delta": {"content": choice.get("text", "")},
            "logprobs": None,
            "finish_reason": choice.get("finish_reason"),
        }
        if chat["finish_reason"] is not None and "stop_reason" in choice:
            chat["stop_reason"] = choice["stop_reason"]
        if "token_ids" in self._pattern:
            chat["token_ids"] = choice.get("token_ids")
        return chat

    def _add_up(self, usage: dict[str, Any]) -> None:
        prompt = usage.get("prompt_tokens")
        completion = usage.get("completion_tokens")
        if isinstance(prompt, int):
            prompt = prompt - self._tokens if self._prompt_tokens is None else self._prompt_tokens
            usage["prompt_tokens"] = prompt
            details = usage.get("prompt_tokens_details")
            if isinstance(details, dict) and isinstance(cached := details.get("cached_tokens"), int):
                details["cached_tokens"] = min(cached, prompt)
        if isinstance(completion, int):
            usage["completion_tokens"] = completion = completion + self._tokens
        if isinstance(prompt, int) and isinstance(completion, int):
            usage["total_tokens"] = prompt + completion


def _identity_of(transcript: Transcript) -> Event:
    return {name: transcript.head[name] for name in _IDENTITY if name in transcript.head}


def _hide_prompt(choice: dict[str, Any]) -> None:
    """Leave out the prompt's token ids, which the client had with its first event."""
    if choice.get("prompt_token_ids") is not None:
        del choice["prompt_token_ids"]


def _shift_offsets(choice: dict[str, Any], characters: int) -> None:
    logprobs = choice.get("logprobs")
    offsets = logprobs.get("text_offset") if isinstance(logprobs, dict) else None
    if isinstance(logprobs, dict) and isinstance(offsets, list):
        logprobs["text_offset"] = [offset + characters for offset in offsets]


def _diverged(how: str) -> ExchangeError:
    return ExchangeError(FailureKind.DIVERGED, f"gave another answer than the engine before: {how}")
