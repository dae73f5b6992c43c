"""Puts the answers to the parts of a request together as one engine would have given them. Pure; sends nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from baton.router.events import choices_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from baton.router.events import Event

Usage = dict[str, Any]


def merge_answers(answers: Sequence[Event], *, is_first: Sequence[bool]) -> Event:
    """Return one whole answer; its fields are those of the first part."""
    choices = [choice | {"index": index} for index, answer in enumerate(answers) for choice in choices_of(answer)]
    merged = answers[0] | {"choices": choices}
    usage = merge_usage([answer.get("usage") for answer in answers], is_first=is_first)
    return merged | {"usage": usage} if usage is not None else merged


def merge_usage(usages: Sequence[Usage | None], *, is_first: Sequence[bool]) -> Usage | None:
    """Add up the usage of all parts; a prompt counts once (`is_first`), though it was read for each answer."""
    known = [(usage, first) for usage, first in zip(usages, is_first, strict=True) if isinstance(usage, dict)]
    if not known:
        return None
    merged = _add([usage for usage, _ in known])
    prompts = _add([usage for usage, first in known if first])
    merged |= {name: value for name, value in prompts.items() if name.startswith("prompt_")}
    if "total_tokens" in merged:
        merged["total_tokens"] = merged.get("prompt_tokens", 0) + merged.get("completion_tokens", 0)
    return merged


def place_event(event: Event, head: Event, *, index: int) -> Event:
    """Return an event of one part as one of the whole stream; `head` is the first event of any part."""
    choices = [choice | {"index": index} for choice in choices_of(event)]
    common = {name: head[name] for name in ("id", "created") if name in head}
    return event | common | {"choices": choices}


def _add(usages: Sequence[Usage]) -> Usage:
    total: Usage = {}
    for usage in usages:
        for name, value in usage.items():
            known = total.get(name)
            if isinstance(known, int) and isinstance(value, int):
                total[name] = known + value
            elif isinstance(known, dict) and isinstance(value, dict):
                total[name] = _add([known, value])
            elif known is None:
                total[name] = value
    return total
