"""Writes Kubernetes events: each distinct message once, repeats as a count. Never fails or delays its callers."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from baton.api.labels import FIELD_MANAGER
from baton.kube.errors import ApiError, NotFound, TooManyRequests, Transient
from baton.kube.resources import EVENTS
from baton.telemetry import metrics
from baton.telemetry.logs import event

if TYPE_CHECKING:
    import datetime as dt

    from baton.common.clock import Clock
    from baton.kube.types import JsonObject, ObjectReference, Resource

_logger = logging.getLogger(__name__)

_REMEMBERED = 4096  # distinct events, as in client-go
_REPEAT_INTERVAL = 60.0  # seconds between two writes of the same event's count
_DELAYS = (1.0, 2.0, 4.0, 8.0, 16.0)  # seconds after each try that the API server had no time for
_LONGEST_MESSAGE = 1024  # characters; the API server's limit


class Writer(Protocol):
    """The part of baton.kube.client.Client that a recorder needs."""

    async def create(self, resource: Resource, body: JsonObject) -> JsonObject:
        """Create an object."""
        ...

    async def patch(self, resource: Resource, namespace: str | None, name: str, patch: JsonObject) -> JsonObject:
        """Merge into an object."""
        ...


@dataclass(frozen=True, slots=True)
class _Note:
    about: ObjectReference
    kind: str
    reason: str
    message: str


class EventRecorder:
    """Records events in the background, in order, at most `rate` a second.

    A note that was recorded before only raises that event's count, which is written at most once a minute. Distinct
    messages are distinct events. When the API server falls so far behind that `backlog` notes wait, new ones are
    dropped and counted in `events_recorded_total`.
    """

    def __init__(
        self, client: Writer, *, clock: Clock, component: str = FIELD_MANAGER, rate: float = 50.0, backlog: int = 4096
    ) -> None:
        self._client = client
        self._clock = clock
        self._component = component
        self._pause = 1.0 / rate
        self._outbox: asyncio.Queue[tuple[_Note, _Series]] = asyncio.Queue(backlog)
        self._known: OrderedDict[_Note, _Series] = OrderedDict()

    def record(self, about: ObjectReference, *, reason: str, message: str, is_warning: bool = False) -> None:
        """Note something about an object; the reason is one CamelCase word."""
        note = _Note(about, "Warning" if is_warning else "Normal", reason, message[:_LONGEST_MESSAGE])
        now = self._clock.now()
        series = self._known.get(note)
        if series is None:
            series = self._known[note] = _Series(now)
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(note)
        series.count += 1
        series.last = now
        if series.is_due(asyncio.get_running_loop().time()):
            self._put(note, series)
        else:
            metrics.EVENTS_RECORDED.labels("repeated").inc()

    async def run(self) -> None:
        """Write for ever; cancel it to stop."""
        while True:
            note, series = await self._outbox.get()
            metrics.EVENTS_RECORDED.labels(await self._deliver(note, series)).inc()
            await asyncio.sleep(self._pause)

    def _put(self, note: _Note, series: _Series) -> None:
        try:
            self._outbox.put_nowait((note, series))
            series.is_queued = True
        except asyncio.QueueFull:
            metrics.EVENTS_RECORDED.labels("dropped").inc()

    async def _deliver(self, note: _Note, series: _Series) -> str:
        series.is_queued = False
        for delay in _DELAYS:
            try:
                await self._write(note, series)
            except (Transient, TooManyRequests):
                await asyncio.sleep(delay)
            except ApiError as error:
                event(_logger, logging.DEBUG, "event refused", reason=note.reason, error=error)
                break
            else:
                return "sent"
        return "failed"

    async def _write(self, note: _Note, series: _Series) -> None:
        series.written = asyncio.get_running_loop().time()
        namespace = note.about.namespace or "default"
        if series.name is not None:
            repeat = {"count": series.count, "lastTimestamp": _timestamp(series.last)}
            try:
                await self._client.patch(EVENTS, namespace, series.name, repeat)
            except NotFound:
                series.restart()  # the API server forgets events after an hour
            else:
                return
        body = _body(note, series, namespace=namespace, component=self._component)
        await self._client.create(EVENTS, body)
        series.name = body["metadata"]["name"]


class _Series:
    """One event: how often it happened, and what the API server has of it."""

    __slots__ = ("count", "first", "is_queued", "last", "name", "written")

    def __init__(self, now: dt.datetime) -> None:
        self.name: str | None = None
        self.count = 0
        self.first = self.last = now
        self.written: float | None = None  # in loop time, which nobody sets
        self.is_queued = False

    def is_due(self, now: float) -> bool:
        return not self.is_queued and (self.written is None or now - self.written >= _REPEAT_INTERVAL)

    def restart(self) -> None:
        self.name = None
        self.count = 1
        self.first = self.last


def _body(note: _Note, series: _Series, *, namespace: str, component: str) -> JsonObject:
    about = note.about
    first = _timestamp(series.first)
    distinct = f"{about.uid}\0{note.kind}\0{note.reason}\0{note.message}\0{first}"
    digest = hashlib.blake2b(distinct.encode(), digest_size=8).hexdigest()
    return {
        "metadata": {"name": f"{about.name[:230]}.{digest}", "namespace": namespace},
        "involvedObject": {
            "apiVersion": about.api_version,
            "kind": about.kind,
            "namespace": about.namespace,
            "name": about.name,
            "uid": about.uid,
        },
        "type": note.kind,
        "reason": note.reason,
        "message": note.message,
        "count": series.count,
        "firstTimestamp": first,
        "lastTimestamp": _timestamp(series.last),
        "source": {"component": component},
        "reportingComponent": component,
    }


def _timestamp(moment: dt.datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
