"""Mirrors one resource into a store for ever: list, watch, and start over when anything is wrong.

Decides nothing about the objects; what is kept of them is the caller's projection.
"""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import aclosing
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from baton.kube.backoff import delay_after
from baton.kube.client import PAGE_SIZE
from baton.kube.errors import SILENCE, ApiError, Transient, error_from
from baton.kube.store import Store, is_newer
from baton.telemetry import metrics
from baton.telemetry.logs import event

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from baton.kube.store import Changed
    from baton.kube.types import JsonObject, Key, Resource

T = TypeVar("T")

_logger = logging.getLogger(__name__)

_LAST_DELAY = 10.0  # seconds
_STEADY_WATCH = 10.0  # seconds; failures count as in a row until a watch has lasted this long
_SHORT = "ShortWatch"
_SHORTEST_WATCH = 1.0  # seconds; one that ends earlier and empty is waited for, or it would spin
_WATCH_TIME = 300.0  # seconds, up to twice that: not all watches come back at once
_PAGE_SIZE = 100  # measured with 5,000 pods: pages of 500 take 40 MB more, and 40 % more CPU, than these


class ListWatcher(Protocol):
    """The part of baton.kube.client.Client that a reflector needs."""

    def list_pages(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str | None = None,
        field_selector: str | None = None,
        limit: int = PAGE_SIZE,
    ) -> AsyncGenerator[JsonObject, None]:
        """Read a list page by page."""
        ...

    def watch(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        resource_version: str,
        label_selector: str | None = None,
        field_selector: str | None = None,
        server_timeout: int = 300,
        silence: float = 90.0,
    ) -> AsyncGenerator[JsonObject, None]:
        """Yield the events after a version."""
        ...


class Reflector(Generic[T]):
    """A mirror of the objects of one resource, in one namespace or all, which the selectors match on the server.

    `project` is that of baton.kube.store.Store. `page_size` bounds the memory that a list takes while it is read.
    After `silence` seconds without a line the watch is opened anew: a kind that never changes is that silent. After a
    fault it waits `retry_delay` seconds, doubled with each further one up to 10 s. `jitter` returns random numbers from
    0 up to 1.

    An answer such as 403 or 404 (no such CRD yet) is retried with back-off like any other fault; `last_error` tells it
    until the next success. Subscribers and projections must not raise: that ends `run`.
    """

    def __init__(
        self,
        client: ListWatcher,
        resource: Resource,
        *,
        project: Callable[[JsonObject], T],
        namespace: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
        name: str | None = None,
        page_size: int = _PAGE_SIZE,
        silence: float = 90.0,
        retry_delay: float = 0.2,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.name = name or resource.plural
        """The metrics' label. Reflectors of the same resource need different ones."""
        self.store = Store(project)
        self.heard: float | None = None
        """Loop time of the server's last sign of life, None before the first; in health at most twice `silence` ago."""
        self.last_error: ApiError | None = None
        """What went wrong last; None while all is well."""
        self._client = client
        self._resource = resource
        self._namespace = namespace
        self._label_selector = label_selector
        self._field_selector = field_selector
        self._page_size = page_size
        self._silence = silence
        self._retry_delay = retry_delay
        self._jitter = jitter
        self._failures = 0
        self._told = ""
        self._version: str | None = None  # to resume from; None: list first
        self._newest = ""  # the last version heard of, to notice a restored database

    @property
    def synced(self) -> asyncio.Event:
        """Set once the first list is complete."""
        return self.store.synced

    def subscribe(self, changed: Changed[T]) -> None:
        """Call `changed` for every object that is there, and for every change from now on."""
        self.store.subscribe(changed)

    def unsubscribe(self, changed: Changed[T]) -> None:
        """Call `changed`, which was subscribed, no more."""
        self.store.unsubscribe(changed)

    async def run(self) -> None:
        """Mirror for ever; cancel it to stop. It may be run again, and lists first then."""
        self._version = None
        loop = asyncio.get_running_loop()
        started = loop.time()
        age = metrics.REFLECTOR_AGE.labels(self.name)
        age.set_function(lambda: loop.time() - (started if self.heard is None else self.heard))
        metrics.REFLECTOR_OBJECTS.labels(self.name).set_function(self.store.__len__)
        try:
            while True:
                try:
                    if self._version is None:
                        self._version = await self._list()
                    await self._watch(self._version)
                except ApiError as error:
                    await self._recover_from(error)
        finally:
            metrics.REFLECTOR_AGE.remove(self.name)
            metrics.REFLECTOR_OBJECTS.remove(self.name)

    async def _list(self) -> str:
        """Store all pages, drop what they don't hold, and return the version to watch from."""
        listed: set[Key] = set()
        version = ""
        pages = self._client.list_pages(
            self._resource,
            self._namespace,
            label_selector=self._label_selector,
            field_selector=self._field_selector,
            limit=self._page_size,
        )
        async with aclosing(pages):
            async for page in pages:
                self._hear()
                version = page["metadata"]["resourceVersion"]
                self._note_version(version)
                listed.update(self.store.offer(None, item) for item in page["items"])
        self.store.keep_only(listed, at=version)
        self.last_error = None
        metrics.REFLECTOR_LISTS.labels(self.name).inc()
        if not self.synced.is_set():
            self.synced.set()
            event(_logger, logging.INFO, "synced", reflector=self.name, objects=len(self.store))
        return version

    async def _watch(self, version: str) -> None:
        """Store the events after this version until the server ends the stream, and note from where to resume."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        is_silent = True
        seen = metrics.REFLECTOR_EVENTS.labels(self.name)
        events = self._client.watch(
            self._resource,
            self._namespace,
            resource_version=version,
            label_selector=self._label_selector,
            field_selector=self._field_selector,
            server_timeout=int(_WATCH_TIME * (1.0 + self._jitter())),
            silence=self._silence,
        )
        async with aclosing(events):
            async for line in events:
                seen.inc()
                found = line["object"]
                if line["type"] == "ERROR":
                    raise error_from(found)
                if line["type"] != "BOOKMARK":
                    self.store.offer(line["type"], found)
                self._newest = self._version = found["metadata"]["resourceVersion"]
                is_silent = False
                self._hear()
                if self._failures and loop.time() - started >= _STEADY_WATCH:
                    self._end_failures()
        if is_silent and loop.time() - started < _SHORTEST_WATCH:
            raise Transient(200, _SHORT, f"watch of {self.name}: the server ended it at once")
        self._hear()
        self._end_failures()

    async def _recover_from(self, error: ApiError) -> None:
        if error.reason == SILENCE:
            # Nothing new for so long, or a connection that died unseen: the next watch misses nothing either way.
            event(_logger, logging.DEBUG, "silent, watching again", reflector=self.name)
            answered = asyncio.get_running_loop().time() - self._silence
            self.heard = answered if self.heard is None else max(self.heard, answered)
            return
        if error.reason != _SHORT:
            self._version = None  # a list finds what was missed, and what has vanished, whatever the fault was
        self._failures += 1
        self.last_error = error
        metrics.REFLECTOR_ERRORS.labels(self.name, error.reason).inc()
        delay = delay_after(self._failures, base=self._retry_delay, cap=_LAST_DELAY, jitter=self._jitter())
        level = logging.DEBUG if str(error) == self._told else logging.WARNING
        self._told = str(error)
        event(_logger, level, "out of step, trying again", reflector=self.name, error=error, seconds=round(delay, 1))
        await asyncio.sleep(delay)

    def _end_failures(self) -> None:
        if self._failures:
            event(_logger, logging.INFO, "in step again", reflector=self.name, failures=self._failures)
        self._failures = 0
        self._told = ""
        self.last_error = None

    def _note_version(self, listed: str) -> None:
        """Compare the version of a list with the last one: they only grow, unless the database was restored."""
        if is_newer(self._newest, listed):
            event(_logger, logging.WARNING, "the API server went back in time", reflector=self.name, version=listed)
            self.store.forget_versions()
        self._newest = listed

    def _hear(self) -> None:
        self.heard = asyncio.get_running_loop().time()
