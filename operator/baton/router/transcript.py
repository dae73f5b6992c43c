"""What the events of a stream amount to: the text a client has, in its fields, and the tokens behind it. Pure.

Decides nothing about going on: baton.router.replay does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from baton.router.events import choices_of, read_event, split_events

if TYPE_CHECKING:
    from collections.abc import Iterator

    from baton.router.events import Event

Place = tuple[int, str]
"""Where text goes: the number of the choice, and the path of the field in it."""

CONTENT = "content"
"""The path of what an assistant says, as opposed to its reasoning, its refusal and its tool calls."""

_NOT_TEXT = frozenset({"role", "tool_calls"})


@dataclass(slots=True)
class Fragment:
    """A piece of text in an event: it is `holder[name]`. `call` is the tool call it belongs to."""

    place: Place
    holder: dict[str, Any]
    name: str
    call: dict[str, Any] | None = None

    @property
    def text(self) -> str:
        """The piece."""
        return str(self.holder[self.name])


@dataclass(slots=True)
class Transcript:
    """What a client has been sent.

    Attributes:
        head: the fields that every event repeats, such as the id, in their order; empty if nothing was sent.
        choice: the last choice of choice 0 that was sent, the pattern for further ones.
        texts: all text, by place.
        prompt_ids: the prompt's token ids, None if the engine has not told them.
        token_ids: those of the text of choice 0, None if the engine has not told them all. Tokens whose text is still
            to come (half a character) are not among them.
        events_with_text: how many events brought text for choice 0.
        has_tool_calls: whether a tool call has begun.
        generated: how many tokens choice 0 has cost, those without text among them; None as for token_ids.
        is_finished: whether every choice has told why it ended.
        has_usage: whether the numbers of tokens that come at the end have come.
    """

    head: Event = field(default_factory=dict)
    choice: Event = field(default_factory=dict)
    texts: dict[Place, str] = field(default_factory=dict)
    prompt_ids: list[int] | None = None
    token_ids: list[int] | None = field(default_factory=list)
    events_with_text: int = 0
    has_tool_calls: bool = False
    generated: int | None = 0
    open_choices: set[int] = field(default_factory=set)
    is_finished: bool = False
    has_usage: bool = False

    @property
    def is_blank(self) -> bool:
        """Whether the client has no text of any kind."""
        return not any(self.texts.values())

    @property
    def content(self) -> str:
        """The text of choice 0 that is neither reasoning nor a tool call."""
        return self.texts.get((0, CONTENT), "")

    @property
    def has_reasoning(self) -> bool:
        """Whether choice 0 has text other than its content and its tool calls."""
        return any(
            text and name != CONTENT and not name.startswith("tool_calls") for (_, name), text in self.texts.items()
        )

    @property
    def tokens(self) -> int:
        """How many tokens the text has; one an event where the engine has not told."""
        return self.events_with_text if self.token_ids is None else len(self.token_ids)


def read_transcript(stream: bytes) -> Transcript:
    """Read the events of a stream, however they were cut into reads."""
    transcript = Transcript()
    pending: list[int] = []
    for event in split_events(stream):
        content = read_event(event)
        if content is not None:
            _add(transcript, content, pending)
    return transcript


def fragments_of(choice: Event) -> Iterator[Fragment]:
    """Yield the pieces of text in a choice of an event; those of a chat and those of a completion look alike."""
    number = index if isinstance(index := choice.get("index"), int) else 0
    if isinstance(choice.get("text"), str):
        yield Fragment((number, CONTENT), choice, "text")
    delta = choice.get("delta")
    if not isinstance(delta, dict):
        return
    for name, value in delta.items():
        if isinstance(value, str) and name not in _NOT_TEXT:
            yield Fragment((number, name), delta, name)
    for call in delta.get("tool_calls") or ():
        function = call.get("function")
        for name in ("name", "arguments") if isinstance(function, dict) else ():
            if isinstance(function.get(name), str):
                yield Fragment((number, f"tool_calls.{call.get('index', 0)}.{name}"), function, name, call)


def _add(transcript: Transcript, content: Event, pending: list[int]) -> None:
    choices = choices_of(content)
    transcript.has_usage |= not choices and bool(content.get("usage"))
    if not transcript.head and choices:
        transcript.head = {
            name: value for name, value in content.items() if name not in {"choices", "usage", "prompt_token_ids"}
        }
    for choice in choices:
        prompt_ids = content.get("prompt_token_ids") or choice.get("prompt_token_ids")
        if transcript.prompt_ids is None and isinstance(prompt_ids, list):
            transcript.prompt_ids = prompt_ids
        has_text = False
        for fragment in fragments_of(choice):
            has_text |= bool(fragment.text)
            transcript.texts[fragment.place] = transcript.texts.get(fragment.place, "") + fragment.text
            transcript.has_tool_calls |= fragment.call is not None
        _note_ending(transcript, choice)
        if choice.get("index", 0) == 0:
            transcript.choice = choice
            _count(transcript, choice, pending, has_text=has_text)


def _note_ending(transcript: Transcript, choice: Event) -> None:
    index = choice.get("index", 0)
    if choice.get("finish_reason") is None:
        transcript.open_choices.add(index)
    else:
        transcript.open_choices.discard(index)
        transcript.is_finished = not transcript.open_choices


def _count(transcript: Transcript, choice: Event, pending: list[int], *, has_text: bool) -> None:
    """Add the tokens of an event; those that brought no text wait for the event that brings it."""
    ids = choice.get("token_ids")
    if isinstance(ids, list):
        pending.extend(ids)
        if transcript.generated is not None:
            transcript.generated += len(ids)
    elif has_text:
        transcript.token_ids = transcript.generated = None
    if has_text:
        transcript.events_with_text += 1
        if transcript.token_ids is not None:
            transcript.token_ids.extend(pending)
        pending.clear()
