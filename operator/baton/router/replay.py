"""Decides how a stream that broke off goes on elsewhere, and writes the request for it. Pure; sends nothing.

Three ways, each exact:
- by token ids: prompt and answer so far are the prompt of a completion. The engine goes on as if nothing had been.
- by text: the answer so far is appended to the prompt, or to the messages as one to be continued.
- by repetition: the same request once more, from the beginning. What the client has is compared and left out. The only
  way for what depends on how the answer began (tool calls, reasoning, guided decoding), and only where the request
  says that a second answer is the same: temperature 0 or a seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson

from baton.router.client_body import ClientBody
from baton.router.events import DONE_EVENT, write_event
from baton.router.splice import Continuation, Repetition

if TYPE_CHECKING:
    from baton.router.events import Event
    from baton.router.splice import Splice
    from baton.router.transcript import Transcript

COMPLETIONS_PATH: Final = "/v1/completions"

_UNLIMITED: Final = 16
"""Tokens of a completion that sets no max_tokens, as OpenAI and vLLM define it. A chat has no such limit."""

_ONLY_IN_CHATS: Final = frozenset(
    {
        *("messages", "tools", "tool_choice", "parallel_tool_calls", "functions", "function_call", "documents"),
        *("chat_template", "chat_template_kwargs", "add_generation_prompt", "continue_final_message", "echo"),
        *(
            "logprobs",
            "top_logprobs",
            "reasoning_effort",
            "include_reasoning",
            "mm_processor_kwargs",
            "media_io_kwargs",
        ),
        *("max_completion_tokens", "modalities", "audio", "verbosity", "truncate_prompt_tokens", "add_special_tokens"),
    }
)
_GUIDES: Final = (
    *("structured_outputs", "guided_json", "guided_regex", "guided_choice", "guided_grammar"),
    *("guided_json_object", "guided_whitespace_pattern"),
)


@dataclass(frozen=True, slots=True)
class Replay:
    """The request to send, to `path` (None: the client's own), and how to join what it brings."""

    body: ClientBody
    splice: Splice
    way: str
    path: str | None = None


@dataclass(frozen=True, slots=True)
class Ending:
    """The events that are missing after the last token: no engine is needed for them."""

    events: bytes


@dataclass(frozen=True, slots=True)
class Impossible:
    """Why a stream cannot go on; the reason completes "it cannot go on exactly: …"."""

    reason: str


def plan_replay(
    body: ClientBody, transcript: Transcript, *, is_chat: bool, may_repeat: bool = True
) -> Replay | Ending | Impossible:
    """Return how to go on after what the client has. `may_repeat`: no second answer has turned out another yet."""
    if transcript.is_finished and not _has_several(body.fields):
        ending = _ending(body.fields, transcript)
        if ending is not None:
            return ending
    if transcript.is_blank:
        return Replay(body, Repetition(transcript), "repetition")
    fields = body.fields
    can_repeat = may_repeat and _is_repeatable(fields)
    if can_repeat and _remembers(fields):
        # Going on would draw other tokens than the seed stands for.
        return Replay(body, Repetition(transcript), "repetition")
    obstacle = _obstacle(fields, transcript)
    found: Replay | str = obstacle or _by_token_ids(body, transcript, is_chat=is_chat)
    if isinstance(found, str) and obstacle is None:
        found = _by_text(body, transcript, is_chat=is_chat)
    if isinstance(found, Replay):
        return found
    if can_repeat:
        return Replay(body, Repetition(transcript), "repetition")
    return Impossible(found)


def _ending(fields: Event, transcript: Transcript) -> Ending | None:
    """Return what comes after the last token, None if that cannot be told."""
    options = fields.get("stream_options")
    if transcript.has_usage or not (isinstance(options, dict) and options.get("include_usage")):
        return Ending(DONE_EVENT)
    if transcript.prompt_ids is None or transcript.generated is None:
        return None
    prompt, generated = len(transcript.prompt_ids), transcript.generated
    usage = {"prompt_tokens": prompt, "total_tokens": prompt + generated, "completion_tokens": generated}
    return Ending(write_event({**transcript.head, "choices": [], "usage": usage}) + DONE_EVENT)


def _is_repeatable(fields: Event) -> bool:
    return fields.get("temperature") == 0 or isinstance(fields.get("seed"), int)


def _remembers(fields: Event) -> bool:
    """Tell whether sampling depends on more than the tokens so far: on random numbers, or on which are the answer's."""
    return fields.get("temperature") != 0 or any(fields.get(name) for name in ("presence_penalty", "frequency_penalty"))


def _has_several(fields: Event) -> bool:
    """Tell whether the answer has more than one choice; those that nothing has been sent of yet are not seen in it."""
    prompt = fields.get("prompt")
    if isinstance(prompt, list) and len(prompt) > 1 and not isinstance(prompt[0], int):
        return True
    return any(isinstance(count := fields.get(name), int) and count > 1 for name in ("n", "best_of"))


def _obstacle(fields: Event, transcript: Transcript) -> str | None:
    """Return why an answer can only be given again from its beginning, None if it need not."""
    if _has_several(fields):
        return "it has several choices"
    kind = fields.get("response_format")
    if any(fields.get(name) is not None for name in _GUIDES) or (isinstance(kind, dict) and kind.get("type") != "text"):
        return "guided decoding cannot begin in the middle of an answer"
    if transcript.has_tool_calls:
        return "a tool call has begun"
    if transcript.has_reasoning and (not transcript.content or fields.get("tools")):
        return "the reasoning is not over" if not transcript.content else "reasoning and tools together need a parser"
    limit = _limit(fields)
    if transcript.is_finished:
        return "its text is there, but not how many tokens it has"
    if limit is not None and transcript.tokens >= limit:
        return "all its tokens are there, but not why it ended"
    return None


def _by_token_ids(body: ClientBody, transcript: Transcript, *, is_chat: bool) -> Replay | str:
    fields = body.fields
    if transcript.prompt_ids is None or not transcript.token_ids:
        return "the engine has not told its token ids"
    if fields.get("stop"):
        return "text was held back that may have become a stop string"
    if is_chat and (fields.get("tools") or fields.get("logprobs") or _has_other_media(fields)):
        return "tools, logprobs and media need the chat's own answer"
    if is_chat:
        fields = {name: value for name, value in fields.items() if name not in _ONLY_IN_CHATS}
    fields = fields | {"prompt": transcript.prompt_ids + transcript.token_ids, "echo": False}
    if is_chat:
        fields["max_tokens"] = _limit(body.fields)
    elif "max_tokens" not in fields and transcript.tokens < _UNLIMITED:
        fields["max_tokens"] = _UNLIMITED
    return Replay(
        _shortened(body, fields, transcript.tokens),
        Continuation(transcript, is_chat=is_chat),
        "token ids",
        path=COMPLETIONS_PATH,
    )


def _by_text(body: ClientBody, transcript: Transcript, *, is_chat: bool) -> Replay | str:
    fields, text = body.fields, transcript.content
    if transcript.has_reasoning:
        return "its reasoning cannot be given back to the engine"
    added = _with_answer(fields, text) if is_chat else _with_text(fields, text)
    if isinstance(added, str):
        return added
    if not is_chat and "max_tokens" not in fields and transcript.tokens < _UNLIMITED:
        added["max_tokens"] = _UNLIMITED
    shortened = _shortened(body, fields | added, transcript.tokens)
    return Replay(shortened, Continuation(transcript, is_chat=is_chat), "text")


def _with_answer(fields: Event, text: str) -> Event | str:
    if text != text.rstrip():
        return "chat templates trim the white space that its text ends in"
    messages = fields.get("messages")
    if not isinstance(messages, list) or not messages:
        return "it has no messages"
    if fields.get("continue_final_message"):
        *messages, last = messages
        if not isinstance(last, dict) or not isinstance(last.get("content"), str):
            return "the message that it continues is not plain text"
        answer = last | {"content": last["content"] + text}
    else:
        answer = {"role": "assistant", "content": text}
    return {"messages": [*messages, answer], "add_generation_prompt": False, "continue_final_message": True}


def _with_text(fields: Event, text: str) -> Event | str:
    prompt = fields.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        [prompt] = prompt
    if not isinstance(prompt, str):
        return "its prompt is token ids, and the engine has not told those of the answer"
    return {"prompt": text, "echo": False} if fields.get("echo") else {"prompt": prompt + text}


def _shortened(body: ClientBody, fields: Event, tokens: int) -> ClientBody:
    """Return a body that asks for so many tokens less."""
    for name in ("max_tokens", "max_completion_tokens", "min_tokens"):
        if isinstance(limit := fields.get(name), int):
            fields[name] = max(0, limit - tokens)
    return ClientBody(orjson.dumps(fields), fields, body.model, body.addition)


def _limit(fields: Event) -> int | None:
    for name in ("max_completion_tokens", "max_tokens"):
        if isinstance(limit := fields.get(name), int):
            return limit
    return None


def _has_other_media(fields: Event) -> bool:
    messages: Any = fields.get("messages")
    return any(
        isinstance(part, dict) and part.get("type") != "text"
        for message in (messages if isinstance(messages, list) else ())
        if isinstance(message, dict) and isinstance(message.get("content"), list)
        for part in message["content"]
    )
