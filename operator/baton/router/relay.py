"""Puts an engine's answer on the client's connection.

A stream goes through as it comes, in whole events, with one write for each read; any other answer is kept until it is
whole, so that an engine that dies in the middle of it can still be replaced. The bytes stay the engine's: the model
name in them is the one the engine knows. The events of a completion go through a journal, which notices when the engine
gives up and joins what comes from a second one.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from baton.router.errors import render_error_event
from baton.router.events import check_answer, end_of_last, is_whole
from baton.router.wire.failures import ExchangeError, FailureKind
from baton.router.wire.messages import HOP_BY_HOP, AnswerHead, Header, end_to_end

if TYPE_CHECKING:
    from collections.abc import Callable

    from baton.router.errors import ApiError
    from baton.router.journal import Journal
    from baton.router.wire.client_response import ClientResponse
    from baton.router.wire.upstream_connection import Source

# The body's framing is the client connection's; the others are the router's to give.
_HIDDEN = HOP_BY_HOP | {b"content-length", b"x-request-id", b"x-baton-prefill", b"x-baton-decode"}

_LAST_EVENT = re.compile(rb"(?:^|\n)data: ?\[DONE\]\s*\Z")

_TAIL_BYTES = 1024
"""Enough for the end of an answer: usage and [DONE]."""

_MAX_EVENT_BYTES = 1024 * 1024
"""An event that grows beyond this is passed on in pieces."""

# A quote inside generated text is escaped, so neither pattern can match there.
_PROMPT_TOKENS = re.compile(rb'"prompt_tokens": ?(\d+)')
_COMPLETION_TOKENS = re.compile(rb'"completion_tokens": ?(\d+)')


class Relay:
    """The sink for one try. A try that fails before `response.is_started` has left nothing behind at the client."""

    def __init__(
        self,
        response: ClientResponse,
        *,
        headers: list[Header],
        keep_bytes: int,
        is_generation: bool,
        on_first_byte: Callable[[], None],
        journal: Journal | None = None,
    ) -> None:
        """Relay to a response, with additional headers; it may have been begun by a stream that broke off.

        Keep at most `keep_bytes` of an answer that is not a stream before it is passed on in pieces.
        `is_generation`: a stream without `[DONE]` at its end is not whole, and an answer that the engine gave up none.
        """
        self._response = response
        self._headers = headers
        self._keep_bytes = keep_bytes
        self._is_generation = is_generation
        self._journal = journal
        self._on_first_byte: Callable[[], None] | None = on_first_byte
        self._head = AnswerHead(0, [])
        self._is_stream = self._goes_on = response.is_started
        self._kept: list[bytes] = []
        self._kept_bytes = 0
        self._unfinished = b""
        # The last two writes hold the last two events: usage and [DONE].
        self._before_last = b""
        self._last = b""

    def on_start(self, source: Source) -> None:
        """Let the client's pace govern the engine's."""
        self._response.follow(source)

    def on_head(self, head: AnswerHead) -> None:
        """Take the head; the client sees it with the first byte."""
        is_stream = head.header(b"content-type").lower().startswith(b"text/event-stream")
        if self._goes_on and not (is_stream and head.status == 200):
            raise ExchangeError(FailureKind.REPLAY_REFUSED, f"would not go on with an answer (status {head.status})")
        self._head = head
        self._is_stream = is_stream

    def on_body(self, data: bytes) -> None:
        """Pass on, or keep, what one read brought. This runs once a streamed chunk: the hot path."""
        if self._on_first_byte is not None:
            self._on_first_byte()
            self._on_first_byte = None
        if not self._is_stream:
            self._keep(data)
            return
        if self._unfinished:
            data = self._unfinished + data
            self._unfinished = b""
        if not is_whole(data):
            data = self._cut_after_events(data)
            if not data:
                return
        self._pass_on(data)

    def on_end(self) -> None:
        """Finish the answer, or fail because the stream is not whole."""
        if not self._is_stream and not self._response.is_started:
            body = b"".join(self._kept)
            if self._is_generation and self._head.status == 200:
                check_answer(body)
            self._last = body[-_TAIL_BYTES:]
            self._response.send(self._head.status, self._response_headers(), body)
            return
        if self._is_stream:
            self._end_stream()
        self._response.end()

    def break_off(self, error: ApiError) -> None:
        """End an answer that has been started but cannot be finished: say so in a stream, else cut the connection."""
        if self._is_stream:
            self._response.close_after()
            self._response.write(render_error_event(error))
            self._response.end()

    def token_counts(self) -> tuple[int | None, int | None]:
        """Return prompt and completion tokens, as far as the end of the answer tells them."""
        tail = self._tail()
        return _number(_PROMPT_TOKENS.search(tail)), _number(_COMPLETION_TOKENS.search(tail))

    def _tail(self) -> bytes:
        return (self._before_last + self._last)[-_TAIL_BYTES:]

    def _end_stream(self) -> None:
        if self._is_generation and self._head.status == 200:
            tail = (self._tail() + self._unfinished)[-_TAIL_BYTES:]
            if not _LAST_EVENT.search(tail):
                raise ExchangeError(FailureKind.TRUNCATED, "ended its stream without its last event")
        if self._unfinished:
            self._pass_on(self._unfinished)
        if not self._response.is_started:
            self._start()

    def _pass_on(self, data: bytes) -> None:
        journal = self._journal
        if journal is not None:
            data = journal.take(data)
        if data:
            if not self._response.is_started:
                self._start()
            self._before_last, self._last = self._last, data
            self._response.write(data)
        if journal is not None and journal.fault is not None:
            raise journal.fault

    def _cut_after_events(self, data: bytes) -> bytes:
        """Return the whole events in the data and keep the rest, so that an error event can follow at any time."""
        end = end_of_last(data)
        self._unfinished = data[end:]
        if len(self._unfinished) > _MAX_EVENT_BYTES:
            self._unfinished = b""
            return data
        return data[:end]

    def _keep(self, data: bytes) -> None:
        if self._response.is_started:
            self._response.write(data)
            return
        self._kept.append(data)
        self._kept_bytes += len(data)
        if self._kept_bytes > self._keep_bytes:
            self._start()
            self._response.write(b"".join(self._kept))
            self._kept.clear()

    def _start(self) -> None:
        self._response.start(self._head.status, self._response_headers())

    def _response_headers(self) -> list[Header]:
        return end_to_end(self._head.headers, hidden=_HIDDEN) + self._headers


def _number(found: re.Match[bytes] | None) -> int | None:
    return int(found[1]) if found is not None else None
