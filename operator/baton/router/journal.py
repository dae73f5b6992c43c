"""What a client has been sent of a stream, as it came from the engine: enough to go on with it elsewhere.

On the hot path it only looks whether events are ordinary and keeps their bytes; baton.router.transcript makes sense of
them when a replay is needed. Decides nothing: baton.router.replay does.
"""

from __future__ import annotations

import re
import zlib
from typing import TYPE_CHECKING, Final

from baton.router.events import (
    DONE_EVENT,
    choices_of,
    fault_of,
    is_done,
    is_finished,
    read_event,
    split_events,
    write_event,
)
from baton.router.wire.failures import ExchangeError, FailureKind

if TYPE_CHECKING:
    from baton.router.splice import Splice

# A quote inside a JSON string is escaped, and so is a line feed: no generated text can contain any of these.
_GOES_ON: Final = b'"finish_reason":null'
_TOKEN_IDS: Final = b'token_ids":['
_LISTED_IDS: Final = re.compile(rb'token_ids":\[[^\]]*\]')

# Where an event begins to differ from the one before it.
_DIFFERENCE: Final = re.compile(rb'data: ?\{[^\n]*?"(?:delta":\{|text":")')
_PREFIX: Final = b"\0"
"""Stands for what all events begin with. JSON cannot contain it."""

_BLOCK_BYTES: Final = 4 * 1024
"""Blocks of this size, 50 to 100 events, become a tenth of it, for two tenths of a microsecond an event."""


class Journal:
    """The events of one client's stream, whichever engines they come from.

    `fault` is set when an engine gives up in the middle: whatever follows from it is not the client's.
    """

    def __init__(self, *, limit: int, hides_token_ids: bool) -> None:
        """Keep at most `limit` bytes; hide token ids from a client that has not asked for them."""
        self.fault: ExchangeError | None = None
        self._limit = limit
        self._hides = hides_token_ids
        self._blocks: list[bytes] = []
        self._block = bytearray()
        self._prefix = b""
        self._is_full = False
        self._is_finished = False
        self._has_error = False
        self._splice: Splice | None = None

    def begin_try(self, splice: Splice | None) -> None:
        """Expect the stream of another engine, to be joined to what is there by `splice`; None for the first bytes."""
        self.fault = None
        self._splice = splice
        self._is_finished = self._has_error = False

    def take(self, events: bytes) -> bytes:
        """Keep whole events and return what the client is to see of them. This runs once a streamed chunk."""
        if (
            self._splice is not None
            or not self._prefix
            or not events.startswith(self._prefix)
            or events.find(b"\n") != len(events) - 2
            or events.rfind(_GOES_ON) < 0
        ):
            return self._take_with_care(events)
        # One event, and the answer goes on after it.
        self._block += _PREFIX + events[len(self._prefix) :]
        if len(self._block) > _BLOCK_BYTES:
            self._pack()
        if self._hides and (start := events.rfind(_TOKEN_IDS)) >= 0:
            start += len(_TOKEN_IDS)
            return b"%bnull%b" % (events[: start - 1], events[events.find(b"]", start) + 1 :])
        return events

    def read(self) -> bytes | None:
        """Return all events that were kept, None if they were more than may be kept."""
        if self._is_full:
            return None
        kept = b"".join([*map(zlib.decompress, self._blocks), self._block])
        return kept.replace(_PREFIX, self._prefix)

    def _take_with_care(self, events: bytes) -> bytes:
        if self._splice is not None or events.count(_GOES_ON) != events.count(b"\n\n"):
            events = self._inspect(events)
        if events:
            self._keep(events)
        return _LISTED_IDS.sub(b'token_ids":null', events) if self._hides else events

    def _inspect(self, events: bytes) -> bytes:
        good: list[bytes] = []
        for event in split_events(events):
            try:
                good.append(self._join(event))
            except ExchangeError as fault:
                self.fault = fault
                break
        return b"".join(good)

    def _join(self, event: bytes) -> bytes:
        """Return an event as the client is to get it; raise when it shows that the engine gives up."""
        if is_done(event):
            self._check_finished()
            return event if self._splice is None else DONE_EVENT
        content = read_event(event)
        if content is None:
            return event if self._splice is None else b""
        if (fault := fault_of(content)) is not None:
            raise fault
        self._is_finished |= is_finished(content)
        self._has_error |= "error" in content
        if content.get("usage") and not choices_of(content):
            self._check_finished()
        if self._splice is None:
            return event
        return b"".join(map(write_event, self._splice.take(content)))

    def _check_finished(self) -> None:
        """Raise when what comes after the last token comes although nothing has told why the answer ended."""
        if not self._is_finished and not self._has_error:
            raise ExchangeError(FailureKind.TRUNCATED, "ended its stream without a finish_reason")

    def _keep(self, events: bytes) -> None:
        if not self._prefix and (found := _DIFFERENCE.match(events)) is not None:
            self._prefix = found[0]
        self._block += events.replace(_PREFIX, b"")
        if len(self._block) > _BLOCK_BYTES:
            self._pack()

    def _pack(self) -> None:
        if not self._is_full:
            self._blocks.append(zlib.compress(self._block, 1))
            self._is_full = sum(map(len, self._blocks)) > self._limit
        if self._is_full:
            self._blocks.clear()
        self._block.clear()
