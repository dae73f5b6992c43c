"""The directory that the data path asks: the routes and endpoints in force, and what is in flight at each endpoint.

Watches nothing: whoever does publishes documents and passes on the changes of pods.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from baton.router.endpoints import EndpointSet, PodSet, selection_of
from baton.routing.ejection import EjectionPolicy, Ejections
from baton.routing.pick.selection import Selection
from baton.routing.table import RoutingTable
from baton.routing.types import Load
from baton.telemetry import directory_metrics
from baton.telemetry.logs import event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from collections.abc import Set as AbstractSet

    from baton.api.router_config import BackendConfig, RouterConfig
    from baton.routing.endpoints import PodFacts
    from baton.routing.types import Choice, Endpoint, Match, RequestFacts

_logger = logging.getLogger(__name__)


class LiveDirectory:
    """A `baton.router.directory.Directory`. `roll` returns random numbers from 0 up to but not including 1.

    Everything happens in the event loop's thread, so each request sees all of a change or nothing of it.
    """

    def __init__(
        self,
        roll: Callable[[], float],
        *,
        clock: Callable[[], float] = time.monotonic,
        ejection: EjectionPolicy = EjectionPolicy(),  # noqa: B008 # a frozen value
    ) -> None:
        self._roll = roll
        self._clock = clock
        self._ejections = Ejections(ejection)
        self._is_ready = False
        self._table = RoutingTable.build(())
        self._sets: dict[str, EndpointSet] = {}
        self._by_pods: dict[PodSet, list[EndpointSet]] = {}
        self._by_backend: dict[int, EndpointSet] = {}
        self._by_name: dict[tuple[str, str], EndpointSet] = {}
        self._loads: dict[str, Load] = {}

    @property
    def ready(self) -> bool:
        """Whether configuration and endpoints have been read at least once."""
        return self._is_ready

    def models(self) -> list[str]:
        """Return the model names that requests may use, sorted."""
        return self._table.models()

    def endpoints(self) -> set[Endpoint]:
        """Return all endpoints that take requests now."""
        return {endpoint for found in self._sets.values() for endpoint in found}

    def match(self, facts: RequestFacts) -> Match | None:
        """Return the backend for a request, or None when no route takes it."""
        return self._table.match(facts, self._roll())

    def choose(self, match: Match, *, excluded: AbstractSet[str] = frozenset()) -> Choice | None:
        """Return the endpoints for one try, leaving out the excluded endpoint names; None when none can take it.

        A backend with prefill and decode pods takes pairs only. Any other takes endpoints that do whole requests, or
        pairs if its endpoints announce that they are prefill and decode.
        """
        selection = self._selection(match, excluded)
        return selection.best(limit=match.backend.max_requests) if selection is not None else None

    def is_full(self, match: Match) -> bool:
        """Tell whether endpoints are ready, but all of them have as many requests in flight as they may have."""
        limit, selection = match.backend.max_requests, self._selection(match, frozenset())
        if limit is None or selection is None:
            return False
        return selection.best(limit=limit) is None and selection.best(limit=None) is not None

    def failed(self, endpoint: Endpoint) -> None:
        """Count a call of an endpoint that brought no usable answer. A few in a row eject it for a while."""
        if self._ejections.failed(endpoint.name, self._clock()):
            self._ejections.keep_only({found.name for found in self.endpoints()})
            directory_metrics.EJECTIONS.labels(endpoint.phase.value).inc()
            event(
                _logger, logging.WARNING, "endpoint keeps failing and is left out for a while", endpoint=endpoint.name
            )

    def answered(self, endpoint: Endpoint) -> None:
        """Count a call of an endpoint that ended well, with a refusal of the request (4xx) too."""
        self._ejections.answered(endpoint.name)

    def ejected(self) -> int:
        """Return how many endpoints are ejected."""
        return len(self._ejections)

    def started(self, endpoint: Endpoint, body_bytes: int) -> None:
        """Count a request as in flight at an endpoint."""
        self._ejections.chosen(endpoint.name, self._clock())
        load = self._loads.get(endpoint.name)
        if load is None:
            self._loads[endpoint.name] = Load(1, body_bytes)
        else:
            self._loads[endpoint.name] = Load(load.requests + 1, load.body_bytes + body_bytes)

    def finished(self, endpoint: Endpoint, body_bytes: int) -> None:
        """Take back what `started` counted, with the same arguments, exactly once. The endpoint may be gone by then."""
        load = self._loads[endpoint.name]
        if load.requests == 1:
            del self._loads[endpoint.name]
        else:
            self._loads[endpoint.name] = Load(load.requests - 1, load.body_bytes - body_bytes)

    def loads(self) -> dict[str, int]:
        """Return the requests in flight by endpoint name, of endpoints that are gone too."""
        return {name: load.requests for name, load in self._loads.items()}

    def publish(
        self, configs: Iterable[RouterConfig], *, pods_of: Callable[[PodSet], Iterable[PodFacts]] = lambda _: ()
    ) -> None:
        """Put these documents in force instead of all earlier ones. `pods_of` returns the pods known of a set.

        Backends that select as before keep their endpoints as they are.
        """
        documents = tuple(configs)
        sets: dict[str, EndpointSet] = {}
        by_backend: dict[int, EndpointSet] = {}
        by_name: dict[tuple[str, str], EndpointSet] = {}
        for document in documents:
            own = {backend.name: self._keep_or_make(backend, sets, pods_of) for backend in document.backends}
            by_backend.update((id(backend), own[backend.name]) for backend in document.backends)
            by_name.update(
                ((route.name, target.backend), own[target.backend])
                for route in document.routes
                for rule in route.rules
                for target in rule.targets
            )
        by_pods: dict[PodSet, list[EndpointSet]] = {}
        for found in sets.values():
            if found.pods is not None:
                by_pods.setdefault(found.pods, []).append(found)
        self._table = RoutingTable.build(documents)
        self._sets, self._by_pods, self._by_backend, self._by_name = sets, by_pods, by_backend, by_name

    def change_pod(self, pods: PodSet, old: PodFacts | None, new: PodFacts | None) -> None:
        """Take a pod of a set as it is now: None for one that was not there before, or is no more."""
        for found in self._by_pods.get(pods, ()):
            found.change(old, new)

    def set_ready(self) -> None:
        """Say that configuration and endpoints have been read. It stays so, whatever is out of reach later."""
        self._is_ready = True

    def _selection(self, match: Match, excluded: AbstractSet[str]) -> Selection | None:
        found = self._set_of(match)
        if found is None:
            return None
        return Selection(
            found.groups,
            is_paired=match.backend.pd_group is not None or not found.groups.aggregated,
            loads=self._loads,
            rolls=(self._roll(), self._roll(), self._roll()),
            excluded=excluded,
            ejected=self._ejections.closed(self._clock()),
        )

    def _keep_or_make(
        self, backend: BackendConfig, sets: dict[str, EndpointSet], pods_of: Callable[[PodSet], Iterable[PodFacts]]
    ) -> EndpointSet:
        selection = selection_of(backend)
        found = sets.get(selection) or self._sets.get(selection)
        if found is None:
            found = EndpointSet(backend, () if backend.selector is None else pods_of(PodSet.of(backend.selector)))
        sets[selection] = found
        return found

    def _set_of(self, match: Match) -> EndpointSet | None:
        # By identity, as names are unique only inside a document. The match holds the backend, so its id is not reused.
        found = self._by_backend.get(id(match.backend))
        if found is None:  # the match is older than the documents in force
            found = self._by_name.get((match.route, match.backend.name))
        return found
