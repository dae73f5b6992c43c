"""The KV that prefill engines hold for a decode: each is pulled, or reclaimed in the background. Moves no KV itself.

No engine has a call to free such KV; what frees it is a decode that pulls it. So a hand-over of which nobody knows that
it was pulled is followed by a decode call for one token whose answer is thrown away.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from baton.router.booking import Booking
from baton.router.call import UpstreamError
from baton.router.client_body import for_release
from baton.telemetry import router_metrics
from baton.telemetry.logs import event

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from baton.router.call import Call
    from baton.router.directory import Directory
    from baton.router.wire.messages import AnswerHead
    from baton.router.wire.upstream_connection import Sink, Source
    from baton.routing.types import Choice, Endpoint

_logger = logging.getLogger(__name__)

_MOST: Final = 512
"""Calls at once that only free KV; beyond that the engine's own timeout has to do."""

_PAUSES: Final = (0.0, 0.1, 1.0)
"""Seconds before each try."""


@dataclass(frozen=True, slots=True)
class _Reclaim:
    call: Call
    choice: Choice
    parameters: bytes


class HandOver:
    """The KV of one prefill on its way to a decode: a sink between that decode's answer and the client's.

    The first byte of an answer with status 200 is the proof that the KV was pulled. Settle it, however the call ended.
    """

    def __init__(self, reclaimer: Reclaimer, call: Call, choice: Choice, parameters: bytes, sink: Sink) -> None:
        self.parameters = parameters
        self._reclaimer = reclaimer
        self._call = call
        self._choice = choice
        self._sink = sink
        self._is_settled = False
        self._status = 0
        # Once the first byte has come, the bytes go to the sink directly: nothing is added to the hot path.
        self.on_body = self._take_first
        router_metrics.KV_HELD.inc()

    def on_start(self, source: Source) -> None:
        """Pass it on."""
        self._sink.on_start(source)

    def on_head(self, head: AnswerHead) -> None:
        """Pass it on."""
        self._status = head.status
        self._sink.on_head(head)

    def on_end(self) -> None:
        """Pass it on."""
        self._sink.on_end()

    def settle(self, *, has_failed: bool = False) -> None:
        """Have the KV reclaimed if it may still be held. Does nothing the second time."""
        if self._is_settled:
            return
        self._is_settled = True
        work = _Reclaim(self._call, self._choice, self.parameters)
        self._reclaimer.reclaim(work, has_failed=has_failed)

    def _take_first(self, data: bytes) -> None:
        if self._status == 200:
            self._is_settled = True
            router_metrics.settle_kv("pulled")
        self.on_body = self._sink.on_body
        self._sink.on_body(data)


class Reclaimer:
    """Frees KV in the background, for as long as the router lives."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._tasks: set[asyncio.Task[None]] = set()

    def hand_over(self, call: Call, choice: Choice, parameters: bytes, sink: Sink) -> HandOver:
        """Begin to account for the KV that these parameters (a JSON value) name."""
        return HandOver(self, call, choice, parameters, sink)

    def reclaim(self, reclaim: _Reclaim, *, has_failed: bool) -> None:
        """Free KV; by another decode than the one that has just failed, if there is one."""
        if len(self._tasks) >= _MOST:
            router_metrics.settle_kv("expired")
            return
        self.adopt(self._free(reclaim, has_failed=has_failed))

    def adopt(self, work: Coroutine[Any, Any, None]) -> None:
        """Do some work in the background."""
        task = asyncio.get_running_loop().create_task(work, name="reclaim KV")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way."""
        return not self._tasks

    async def wait(self, deadline: float) -> None:
        """Wait for the calls that are under way."""
        loop = asyncio.get_running_loop()
        while self._tasks and loop.time() < deadline:  # one may begin another
            await asyncio.wait(self._tasks, timeout=deadline - loop.time(), return_when=asyncio.FIRST_COMPLETED)

    async def close(self) -> None:
        """Give up."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _free(self, reclaim: _Reclaim, *, has_failed: bool) -> None:
        choice = reclaim.choice
        endpoint = choice.decode
        outcome = "expired"
        # Until the KV is free, prefill must not be taken for idle: it might be stopped.
        booking = Booking(self._directory, choice, body_bytes=0)
        try:
            for pause in _PAUSES:
                await asyncio.sleep(pause)
                if has_failed:
                    endpoint = self._other_decode(reclaim, endpoint)
                has_failed = not await _pull(reclaim, endpoint)
                if not has_failed:
                    outcome = "reclaimed"
                    break
        finally:
            booking.release()
            router_metrics.settle_kv(outcome)
        if outcome == "expired":
            prefill = "" if choice.prefill is None else choice.prefill.name
            event(
                _logger, logging.WARNING, "KV could not be pulled: freed before, or left to time out", prefill=prefill
            )

    def _other_decode(self, reclaim: _Reclaim, failed: Endpoint) -> Endpoint:
        other = self._directory.choose(reclaim.call.match, excluded={failed.name})
        if other is None or _kind_of(other.decode) != _kind_of(failed):
            return failed
        return other.decode


async def _pull(reclaim: _Reclaim, endpoint: Endpoint) -> bool:
    """Return whether the KV is free now."""
    call = reclaim.call
    deadline = asyncio.get_running_loop().time() + call.settings.reclaim_time
    body = for_release(call.body, model=call.model, transfer_parameters=reclaim.parameters)
    answer = call.expect(endpoint)
    try:
        await call.going_on_with(call.body, path=None, deadline=deadline).stream(endpoint, body, answer)
    except UpstreamError:
        return False
    return answer.head.status == 200


def _kind_of(endpoint: Endpoint) -> tuple[str, str]:
    """Return what endpoints that can pull from the same prefill have in common."""
    return endpoint.group, endpoint.kv_transfer
