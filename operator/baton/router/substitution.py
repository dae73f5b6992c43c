"""A sink that replaces one member of the JSON in an answer, wherever reads cut it. Parses nothing.

A quote inside generated text is escaped, so no text of an answer can be taken for the member.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from baton.router.wire.messages import AnswerHead
    from baton.router.wire.upstream_connection import Sink, Source

_ENDS = b"\n}"
_BEFORE_MEMBERS = (b"{", b",", b"}", b"\n")

_LONGEST = 512
"""Bytes of the longest member that is replaced even if it comes in several reads."""


class Substitution:
    """Passes an answer on to another sink, with other bytes for each member that matches."""

    def __init__(self, sink: Sink, member: re.Pattern[bytes], replacement: bytes, *, name: bytes) -> None:
        """Replace what `member` matches; no match is possible in bytes without `name`."""
        self._sink = sink
        self._member = member
        self._replacement = replacement
        self._name = name
        self._held = b""

    def on_start(self, source: Source) -> None:
        """Pass it on."""
        self._sink.on_start(source)

    def on_head(self, head: AnswerHead) -> None:
        """Pass it on."""
        self._sink.on_head(head)

    def on_body(self, data: bytes) -> None:
        """Replace, and keep back what may be the beginning of a member. This runs once a streamed chunk."""
        if self._held:
            data = self._held + data
            self._held = b""
        if data[-1] not in _ENDS:
            start = 1 + max(data.rfind(mark) for mark in _BEFORE_MEMBERS)
            if len(data) - start <= _LONGEST:
                self._held, data = data[start:], data[:start]
        if data:
            self._pass_on(data)

    def on_end(self) -> None:
        """Pass on what was kept back."""
        if self._held:
            self._pass_on(self._held)
            self._held = b""
        self._sink.on_end()

    def _pass_on(self, data: bytes) -> None:
        if self._name in data:
            data = self._member.sub(lambda _: self._replacement, data)
        self._sink.on_body(data)


def rename_model(sink: Sink, *, known_as: str | None, asked_for: str) -> Sink:
    """Let the client see the name of the model that it asked for, where the engines know it by another."""
    if known_as in {None, asked_for}:
        return sink
    member = re.compile(rb'"model": ?' + re.escape(orjson.dumps(known_as)))
    return Substitution(sink, member, b'"model":' + orjson.dumps(asked_for), name=b'"model"')


def count_cached(sink: Sink, cached: int | None) -> Sink:
    """Let the client see how many prompt tokens were in a cache, if that is known better than decode knows it."""
    if cached is None:
        return sink
    member = re.compile(rb'"cached_tokens": ?\d+')
    return Substitution(sink, member, b'"cached_tokens":%d' % cached, name=b'"cached_tokens"')
