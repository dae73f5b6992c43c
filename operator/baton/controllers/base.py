"""Runs a reconcile function for keys: sources fill a queue, workers empty it, failures come back later.

Knows no kind of object, and reads nothing of an event but the keys it concerns.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Hashable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from baton.kube.errors import ApiError
from baton.kube.work_queue import LISTED, WorkQueue
from baton.telemetry import metrics
from baton.telemetry.logs import event

if TYPE_CHECKING:
    from baton.kube.store import Changed

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

Reconcile = Callable[[K], Awaitable[float | None]]
"""Makes the world fit one key's object; returns after how many seconds to look again, None for not before a change."""

_logger = logging.getLogger(__name__)

_REST = 5.0
"""From one reconcile of a key to the next, which changes ask for, passes this many times as long as the last one took:
a burst of changes costs a fifth of the time at most, and the first change after a quiet time is acted on at once."""
_LONGEST_REST = 1.0
"""Seconds; a change is never put off longer."""
_NEGLIGIBLE = 0.001
"""Seconds; a reconcile that took less, as of an object that is gone, needs no rest."""


class TerminalError(Exception):
    """Trying again is of no use until something changes. The message names the field or the object, and the cure."""


class Source(Protocol[T_co]):
    """What tells of changes: a baton.kube.reflector.Reflector or a baton.kube.store.Store."""

    @property
    def synced(self) -> asyncio.Event:
        """Set once everything there is has been told."""
        ...

    def subscribe(self, changed: Changed[T_co]) -> None:
        """Call `changed` for what is there, and for every change from now on."""
        ...

    def unsubscribe(self, changed: Changed[T_co]) -> None:
        """Call `changed`, which was subscribed, no more."""
        ...


class Controller(Generic[K]):
    """Keeps calling `reconcile` for every key that a source or a caller puts into `queue`, one call a key at a time.

    An ApiError or an unexpected exception is retried with back-off; the latter is logged with its stack. A
    TerminalError waits for the next change. A failure is logged once, until its message changes or it is over.
    """

    def __init__(
        self, *, name: str, reconcile: Reconcile[K], workers: int = 8, jitter: Callable[[], float] = random.random
    ) -> None:
        self.name = name
        self.queue = WorkQueue[K](name, jitter=jitter)
        self._reconcile = reconcile
        self._workers = workers
        self._sources: list[asyncio.Event] = []
        self._at_close: list[Callable[[], None]] = []
        self._complaints: dict[K, str] = {}
        self._paces: dict[K, _Pace] = {}

    def owns(self, source: Source[T], key_of: Callable[[T], Iterable[K]]) -> None:
        """Queue every key that the old or the new state of an object concerns. `key_of` must not raise.

        A change that the projection does not show concerns nobody.
        """

        def changed(old: T | None, new: T | None) -> None:
            if old == new:
                return
            priority = 0 if source.synced.is_set() else LISTED
            keys = {key for state in (old, new) if state is not None for key in key_of(state)}
            for key in keys:
                self.queue.add(key, after=self._rest_of(key), priority=priority)

        self._sources.append(source.synced)
        source.subscribe(changed)
        self.at_close(partial(source.unsubscribe, changed))

    def at_close(self, undo: Callable[[], None]) -> None:
        """Call `undo` once, when the controller is closed."""
        self._at_close.append(undo)

    async def run(self) -> None:
        """Wait until all sources are synced, then work until `close`. Cancelling it cancels reconciles half-way."""
        for synced in self._sources:
            await synced.wait()
        async with asyncio.TaskGroup() as group:
            for number in range(self._workers):
                group.create_task(self._work(), name=f"{self.name}-{number}")

    def close(self) -> None:
        """Start no further reconcile, for good; `run` returns when those under way are finished."""
        self.queue.close()
        while self._at_close:
            self._at_close.pop()()

    async def _work(self) -> None:
        while (key := await self.queue.get()) is not None:
            started = asyncio.get_running_loop().time()
            if key in self._paces:
                self._paces[key].started = started
            try:
                result = await self._reconcile_once(key)
            finally:
                self.queue.done(key)
            self._pace(key, started)
            metrics.CONTROLLER_RECONCILES.labels(self.name, result).inc()

    async def _reconcile_once(self, key: K) -> str:
        try:
            after = await self._reconcile(key)
        except TerminalError as error:
            self.queue.forget(key)
            self._complain(key, error, "given up until something changes")
            return "terminal"
        except ApiError as error:
            self.queue.retry(key)
            self._complain(key, error, "reconcile failed, trying again")
            return "error"
        except Exception as error:  # noqa: BLE001 # one object's fault must not stop the others
            self.queue.retry(key)
            self._complain(key, error, "reconcile failed unexpectedly, trying again", is_unexpected=True)
            return "error"
        failures = self.queue.forget(key)
        if self._complaints.pop(key, None) is not None:
            event(_logger, logging.INFO, "reconcile works again", controller=self.name, key=key, failures=failures)
        if after is None:
            return "success"
        self.queue.add(key, after=after)
        return "requeue"

    def _pace(self, key: K, started: float) -> None:
        took = asyncio.get_running_loop().time() - started
        if took < _NEGLIGIBLE:
            self._paces.pop(key, None)
        else:
            self._paces[key] = _Pace(started, min(_REST * took, _LONGEST_REST))

    def _rest_of(self, key: K) -> float:
        pace = self._paces.get(key)
        if pace is None:
            return 0.0
        return max(0.0, pace.started + pace.interval - asyncio.get_running_loop().time())

    def _complain(self, key: K, error: Exception, message: str, *, is_unexpected: bool = False) -> None:
        complaint = f"{type(error).__name__}: {error}"
        is_news = self._complaints.get(key) != complaint
        self._complaints[key] = complaint
        event(
            _logger,
            (logging.ERROR if is_unexpected else logging.WARNING) if is_news else logging.DEBUG,
            message,
            controller=self.name,
            key=key,
            error=complaint,
            exc_info=error if is_unexpected and is_news else None,
        )


@dataclass(slots=True)
class _Pace:
    """When the last reconcile of a key started, in loop time, and how many seconds later the next one may."""

    started: float
    interval: float
