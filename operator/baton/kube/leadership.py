"""Lets one of several processes act at a time: keeps its Lease, starts the work when elected, ends it when not.

The rules are in baton.kube.election. What keeps a process that was paused from writing is `is_leading`, which a
baton.kube.client.Client asks before each write.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol

from baton.kube.clock import elapsed
from baton.kube.election import ABSENT, NOBODY, Candidacy, Lease
from baton.kube.errors import TIMEOUT, ApiError, NotFound, Transient
from baton.kube.resources import LEASES
from baton.telemetry import metrics
from baton.telemetry.logs import event

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Awaitable, Callable, Coroutine

    from baton.common.clock import Clock
    from baton.kube.types import JsonObject, Key, Resource

_logger = logging.getLogger(__name__)

_RENEWAL = 2.0
"""Seconds between two renewals."""
_LOOK = 1.0
"""Seconds between two looks of who does not lead."""
_RETRY = 0.5
"""Seconds after a failure."""
_CALL_TIME = 2.0
"""Seconds for one call: several tries must fit between a renewal and its deadline."""


class LeaseClient(Protocol):
    """The part of baton.kube.client.Client that an elector needs."""

    async def get(self, resource: Resource, namespace: str | None, name: str) -> JsonObject:
        """Read an object."""
        ...

    async def create(self, resource: Resource, body: JsonObject) -> JsonObject:
        """Create an object."""
        ...

    async def patch(self, resource: Resource, namespace: str | None, name: str, patch: JsonObject) -> JsonObject:
        """Merge into an object."""
        ...


class Leadership(Protocol):
    """Decides when to work."""

    def is_leading(self) -> bool:
        """Tell whether this process may act now."""
        ...

    async def run(self, work: Callable[[], Coroutine[object, object, None]], stop: asyncio.Event) -> None:
        """Do the work while this process leads, until `stop`, on which the work has to end by itself."""
        ...


class Alone:
    """Leads always: there is no other process."""

    def is_leading(self) -> bool:
        """Return True."""
        return True

    async def run(self, work: Callable[[], Coroutine[object, object, None]], stop: asyncio.Event) -> None:
        """Do the work once."""
        if not stop.is_set():
            await work()


class Elector:
    """Leads while it holds a Lease.

    `client` is its own: a busy one would keep renewals waiting. `lease` is namespace and name, `identity` distinct for
    each process. Work is cancelled when the Lease is lost, and begun anew when it is won again.
    """

    def __init__(
        self,
        client: LeaseClient,
        *,
        lease: Key,
        identity: str,
        clock: Clock,
        elapsed: Callable[[], float] = elapsed,
    ) -> None:
        self._client = client
        self._namespace, self._name = lease
        self._clock = clock
        self._elapsed = elapsed
        self._candidacy = Candidacy(identity)
        self._elected = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._rival: str | None = None
        self._told = ""
        metrics.LEADER_STATUS.labels(self._name).set_function(lambda: float(self.is_leading()))

    def is_leading(self) -> bool:
        """Tell whether this process may act now."""
        return self._candidacy.is_leading(self._elapsed())

    async def run(self, work: Callable[[], Coroutine[object, object, None]], stop: asyncio.Event) -> None:
        """Do the work while elected, until `stop`; then give the Lease back, so that another takes it at once."""
        async with asyncio.TaskGroup() as group:
            campaign = group.create_task(self._campaign(), name="lease")
            stopping = group.create_task(stop.wait(), name="lease-stop")
            while not stop.is_set():
                elected = group.create_task(self._elected.wait(), name="lease-elected")
                await asyncio.wait((elected, stopping), return_when=asyncio.FIRST_COMPLETED)
                elected.cancel()
                if not stop.is_set():
                    await self._serve(work)
            stopping.cancel()
            campaign.cancel()
        await self._release()

    async def _serve(self, work: Callable[[], Coroutine[object, object, None]]) -> None:
        event(_logger, logging.INFO, "leading", lease=self._name)
        self._idle.clear()
        try:
            async with asyncio.TaskGroup() as group:
                term = group.create_task(work(), name="term")
                watch = group.create_task(self._end_with_lease(term), name="lease-watch")
                await asyncio.wait([term])
                watch.cancel()
        finally:
            self._idle.set()

    async def _end_with_lease(self, term: asyncio.Task[None]) -> None:
        """Cancel the work when its time is over."""
        while (left := self._candidacy.leads_until - self._elapsed()) > 0:  # noqa: ASYNC110 # time ends it
            await asyncio.sleep(min(left, _LOOK))
        event(_logger, logging.WARNING, "no longer leading", lease=self._name)
        self._elected.clear()
        term.cancel()

    async def _campaign(self) -> None:
        """Keep or seek the Lease for ever."""
        while True:
            try:
                await self._advance()
            except ApiError as error:
                self._candidacy = self._candidacy.doubting()
                self._complain(error)
                await asyncio.sleep(_RETRY)
                continue
            self._told = ""
            if self.is_leading():
                self._elected.set()
            await asyncio.sleep(_RENEWAL if self.is_leading() else _LOOK)

    async def _advance(self) -> None:
        if not self.is_leading():
            await self._idle.wait()  # a write that the last term began must not leave in the next one
        if self._candidacy.lease is None or not self.is_leading():
            seen = await self._read()
            self._candidacy = self._candidacy.saw(seen, at=self._elapsed())
            self._tell_of(seen)
        if self._candidacy.may_claim(self._elapsed()):
            sent = self._elapsed()
            self._candidacy = self._candidacy.claimed(await self._claim(), sent=sent)

    async def _read(self) -> Lease:
        try:
            return _lease_of(await _in_time(self._client.get(LEASES, self._namespace, self._name)))
        except NotFound:
            return ABSENT

    async def _claim(self) -> Lease:
        candidacy, present = self._candidacy, self._candidacy.lease or ABSENT
        now = _stamp(self._clock.now())
        is_new = present.holder != candidacy.identity
        spec = {
            "holderIdentity": candidacy.bid,
            "leaseDurationSeconds": round(candidacy.duration),
            "acquireTime": now if is_new else present.acquired,
            "renewTime": now,
            "leaseTransitions": present.transitions + is_new,
        }
        if present is not ABSENT:
            return await self._write(present, spec)
        metadata = {"namespace": self._namespace, "name": self._name}
        return _lease_of(await _in_time(self._client.create(LEASES, {"metadata": metadata, "spec": spec})))

    async def _release(self) -> None:
        """Give the Lease back if it is ours. Others have to wait for its end if that fails."""
        self._candidacy = self._candidacy.resigned()
        try:
            lease = await self._read()
            if lease.holder == self._candidacy.identity:
                await self._write(lease, {"holderIdentity": None, "renewTime": _stamp(self._clock.now())})
        except ApiError as error:
            event(_logger, logging.WARNING, "cannot give the lease back", lease=self._name, error=error)

    async def _write(self, present: Lease, spec: JsonObject) -> Lease:
        patch = {"metadata": {"resourceVersion": present.version}, "spec": spec}
        return _lease_of(await _in_time(self._client.patch(LEASES, self._namespace, self._name, patch)))

    def _tell_of(self, lease: Lease) -> None:
        if lease.holder not in {self._rival, self._candidacy.identity, NOBODY, ""}:
            event(_logger, logging.INFO, "another operator leads", lease=self._name, leader=lease.holder)
        self._rival = lease.holder

    def _complain(self, error: ApiError) -> None:
        """Log a failure once, however often it comes."""
        level = logging.DEBUG if str(error) == self._told else logging.WARNING
        self._told = str(error)
        event(_logger, level, "cannot get or renew the lease, trying again", lease=self._name, error=error)


async def _in_time(call: Awaitable[JsonObject]) -> JsonObject:
    """Bound a call with all its retries. Whether a write that took longer was done is not known."""
    try:
        async with asyncio.timeout(_CALL_TIME):
            return await call
    except TimeoutError as error:
        raise Transient(0, TIMEOUT, f"no answer about the lease within {_CALL_TIME:g} s") from error


def _lease_of(found: JsonObject) -> Lease:
    spec = found.get("spec") or {}
    return Lease(
        version=found["metadata"]["resourceVersion"],
        holder=spec.get("holderIdentity") or "",
        duration=float(spec.get("leaseDurationSeconds") or 0),
        transitions=spec.get("leaseTransitions") or 0,
        acquired=spec.get("acquireTime"),
    )


def _stamp(moment: dt.datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
