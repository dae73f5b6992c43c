"""A prefill and a decode call of one request that run at the same time, of which each can fail the other.

Decides nothing about when they begin: connectors do.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from baton.router.call import UpstreamError
from baton.router.connectors.prefill import cached_tokens, give, prefill_of
from baton.router.substitution import count_cached
from baton.router.wire.failures import FailureKind

if TYPE_CHECKING:
    from baton.router.call import Answer, Call
    from baton.router.connectors.siblings import Siblings
    from baton.router.wire.messages import AnswerHead
    from baton.router.wire.upstream_connection import Sink, Source
    from baton.routing.types import Choice


class Race:
    """The two calls, as two of the siblings."""

    def __init__(self, siblings: Siblings, call: Call, choice: Choice, sink: Sink) -> None:
        self._siblings = siblings
        self.decoding: asyncio.Task[None] | None = None
        self.prefilling: asyncio.Task[Answer] | None = None
        self._call = call
        self._choice = choice
        self._prefill = prefill_of(choice)
        self._sink = sink
        self._answer = _DecodeAnswer(sink)
        self._must_begin_by: float | None = None

    def decode(self, body: bytes) -> None:
        """Ask decode."""
        work = self._call.stream(self._choice.decode, body, self._answer)
        self.decoding = self._siblings.start(work, name=f"decode {self._call.request_id}")

    async def prefill(self, body: bytes) -> None:
        """Ask prefill; what it was asked before is aborted, because decode no longer wants that."""
        await self._siblings.abort(self.prefilling)
        self._must_begin_by = None
        self.prefilling = self._siblings.start(self._fetch(body), name=f"prefill {self._call.request_id}")

    @property
    def has_begun(self) -> bool:
        """Whether decode's answer has."""
        return self._answer.has_begun

    async def wait(self, *others: asyncio.Task[bytes]) -> None:
        """Wait until one of the calls, or of the other tasks, has ended.

        Raises UpstreamError when decode has had its prefill for long and has not begun its streamed answer: it would
        wait for ever for KV that was lost on the way.
        """
        tasks: set[asyncio.Task[Any]] = {task for task in (self.decoding, self.prefilling, *others) if task is not None}
        left = None if self._must_begin_by is None or self.has_begun else self._must_begin_by - _now()
        done, _ = await asyncio.wait(tasks, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        if not done and not self.has_begun:
            message = "did not answer in time after its prefill"
            raise UpstreamError(self._choice.decode, FailureKind.TIMEOUT, message)

    async def is_over(self) -> bool:
        """Look at what has ended; return whether the client has its answer. Raises UpstreamError."""
        decoding, prefilling = self.decoding, self.prefilling
        if decoding is not None and decoding.done() and decoding.exception() is None:
            return True
        if prefilling is not None and prefilling.done():
            # Its failure comes first: a decode that fails too fails because of it.
            answer = prefilling.result()
            self.prefilling = None
            if answer.head.status != 200:
                await self._refuse(answer)
                return True
            self._note_prefilled(answer)
        if decoding is not None and decoding.done():
            decoding.result()
        return False

    async def _fetch(self, body: bytes) -> Answer:
        answer = self._call.expect(self._prefill)
        await self._call.fetch(answer, body, within=self._call.settings.prefill_time)
        return answer

    async def _refuse(self, answer: Answer) -> None:
        """Give the client prefill's words: decode would wait for what never comes."""
        await self._siblings.abort(self.decoding)
        if self._answer.has_begun:
            message = f"refused the request (status {answer.head.status}) that decode had begun to answer"
            raise UpstreamError(self._prefill, FailureKind.ENGINE_ERROR, message)
        give(answer, self._sink)

    def _note_prefilled(self, answer: Answer) -> None:
        if self._call.body.is_streamed:
            self._must_begin_by = _now() + self._call.settings.hand_over_time
        self._answer.note_prefilled(cached_tokens(answer))


class _DecodeAnswer:
    """Passes decode's answer on and notices its first byte."""

    def __init__(self, sink: Sink) -> None:
        self.has_begun = False
        self._is_prefilled = False
        self._sink = sink
        # With prefill's answer and the first byte of its own, the bytes go to the sink directly: nothing is added to
        # the hot path.
        self.on_body = self._take

    def on_start(self, source: Source) -> None:
        """Pass it on."""
        self._sink.on_start(source)

    def on_head(self, head: AnswerHead) -> None:
        """Pass it on."""
        self._sink.on_head(head)

    def on_end(self) -> None:
        """Pass it on."""
        self._sink.on_end()

    def note_prefilled(self, cached: int | None) -> None:
        """Correct the usage from now on: it is told at the end."""
        if not self._is_prefilled:
            self._is_prefilled = True
            self._sink = count_cached(self._sink, cached)

    def _take(self, data: bytes) -> None:
        self.has_begun = True
        if self._is_prefilled:
            self.on_body = self._sink.on_body
        self._sink.on_body(data)


def _now() -> float:
    return asyncio.get_running_loop().time()
