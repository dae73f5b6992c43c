"""A queue of keys to work on: each waits once, is out once, and comes back if it was added meanwhile.

Knows nothing of what a key stands for, runs no worker, and works on one event loop without locks.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections import deque
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING, Generic, TypeVar

from baton.kube.backoff import delay_after
from baton.telemetry import metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

K = TypeVar("K", bound="Hashable")

LISTED = -100
"""Priority of keys that a list at start-up brings: fresh changes overtake them."""

_FIRST_RETRY = 0.005  # seconds; both as in client-go, but the cap, which is 1,000 s there
_LAST_RETRY = 300.0


class WorkQueue(Generic[K]):
    """Keys by priority, then first in, first out.

    `name` is the metrics' label; `jitter` returns random numbers from 0 up to 1 that spread the retries.
    """

    def __init__(self, name: str, *, jitter: Callable[[], float] = random.random) -> None:
        self._jitter = jitter
        self._ready: list[tuple[int, int, K]] = []  # a heap; entries whose rank is out of date are skipped
        self._waiting: dict[K, _Waiting] = {}  # everything that is to be handed out, ready, delayed or still out
        self._active: dict[K, float] = {}  # what is out, with the loop time of its start
        self._failures: dict[K, int] = {}
        self._getters: deque[asyncio.Future[None]] = deque()
        self._tickets = count()
        self._closed = False
        self._depth = metrics.WORKQUEUE_DEPTH.labels(name)
        self._adds = metrics.WORKQUEUE_ADDS.labels(name)
        self._retries = metrics.WORKQUEUE_RETRIES.labels(name)
        self._backoffs_cut = metrics.WORKQUEUE_BACKOFFS_CUT.labels(name)
        self._queue_duration = metrics.WORKQUEUE_QUEUE_DURATION.labels(name)
        self._work_duration = metrics.WORKQUEUE_WORK_DURATION.labels(name)

    def __len__(self) -> int:
        """Count the keys that wait, the delayed ones too."""
        return len(self._waiting)

    def add(self, key: K, *, after: float = 0.0, priority: int = 0) -> None:
        """Have the key handed out, `after` seconds from now; does nothing once the queue is closed.

        A waiting key keeps its place, the earlier time and the higher priority. A key that is out is handed out once
        more after it is done.
        """
        if self._closed:
            return
        now = asyncio.get_running_loop().time()
        due = now + max(after, 0.0)
        waiting = self._waiting.get(key)
        if waiting is None:
            waiting = self._waiting[key] = _Waiting(due, priority)
            self._adds.inc()
        else:
            if due < waiting.due and key in self._failures:
                self._backoffs_cut.inc()
            waiting.due = min(due, waiting.due)
            priority = max(priority, waiting.priority)
            if priority > waiting.priority and waiting.ticket is not None:
                heapq.heappush(self._ready, (-priority, waiting.ticket, key))
            waiting.priority = priority
        if key not in self._active:
            self._schedule(key, waiting, now)

    async def get(self) -> K | None:
        """Wait for a key and take it; None once the queue is closed. Call `done` with it, whatever happens."""
        loop = asyncio.get_running_loop()
        while not self._closed:
            while self._ready:
                rank, ticket, key = heapq.heappop(self._ready)
                waiting = self._waiting.get(key)
                if waiting is not None and waiting.ticket == ticket and waiting.priority == -rank:
                    del self._waiting[key]
                    self._active[key] = now = loop.time()
                    self._depth.dec()
                    self._queue_duration.observe(max(0.0, now - waiting.due))
                    return key
            await self._woken(loop)
        return None

    def done(self, key: K) -> None:
        """Say that the work on a key that `get` returned is over."""
        now = asyncio.get_running_loop().time()
        self._work_duration.observe(now - self._active.pop(key))
        waiting = self._waiting.get(key)
        if waiting is not None:
            self._schedule(key, waiting, now)

    def retry(self, key: K) -> None:
        """Add the key after a time that doubles with each failure, from 5 ms to 300 s."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        self._retries.inc()
        self.add(key, after=delay_after(failures, base=_FIRST_RETRY, cap=_LAST_RETRY, jitter=self._jitter()))

    def forget(self, key: K) -> int:
        """Count no failures for the key any more; return how many there were in a row."""
        return self._failures.pop(key, 0)

    def close(self) -> None:
        """Hand out nothing more: every `get` returns None. Work that is under way goes on to its `done`."""
        self._closed = True
        for waiting in self._waiting.values():
            waiting.cancel_timer()
            if waiting.ticket is not None:
                self._depth.dec()
        self._waiting.clear()
        self._ready.clear()
        while self._getters:
            self._wake_one()

    def _schedule(self, key: K, waiting: _Waiting, now: float) -> None:
        if waiting.ticket is not None:
            return
        waiting.cancel_timer()
        if waiting.due <= now:
            self._make_ready(key, waiting)
        else:
            loop = asyncio.get_running_loop()
            waiting.timer = loop.call_at(waiting.due, self._make_ready, key, waiting)

    def _make_ready(self, key: K, waiting: _Waiting) -> None:
        waiting.timer = None
        waiting.ticket = next(self._tickets)
        heapq.heappush(self._ready, (-waiting.priority, waiting.ticket, key))
        self._depth.inc()
        self._wake_one()

    async def _woken(self, loop: asyncio.AbstractEventLoop) -> None:
        getter = loop.create_future()
        self._getters.append(getter)
        try:
            await getter
        except asyncio.CancelledError:
            with suppress(ValueError):
                self._getters.remove(getter)
            if getter.done() and not getter.cancelled():
                self._wake_one()  # woken and cancelled in one turn of the loop: the key is someone else's to take
            raise

    def _wake_one(self) -> None:
        while self._getters:
            getter = self._getters.popleft()
            if not getter.done():
                getter.set_result(None)
                return


class _Waiting:
    """A key to hand out. `due` is in loop time; `ticket` is its place among the ready, None until it is one of them."""

    __slots__ = ("due", "priority", "ticket", "timer")

    def __init__(self, due: float, priority: int) -> None:
        self.due = due
        self.priority = priority
        self.ticket: int | None = None
        self.timer: asyncio.TimerHandle | None = None

    def cancel_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
