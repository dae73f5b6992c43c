"""The directory that the data path asks: the routes and endpoints in force, and what is in flight at each endpoint.

Watches nothing: whoever does publishes documents and passes on the changes of pods.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from baton.router.endpoints import EndpointSet, PodSet, selection_of
from baton.routing.pick.least_loaded import choose_one, choose_pair
from baton.routing.table import RoutingTable
from baton.routing.types import Load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from collections.abc import Set as AbstractSet

    from baton.api.router_config import BackendConfig, RouterConfig
    from baton.routing.endpoints import PodFacts
    from baton.routing.types import Choice, Endpoint, Match, RequestFacts


class LiveDirectory:
    """A `baton.router.directory.Directory`. `roll` returns random numbers from 0 up to but not including 1.

    Everything happens in the event loop's thread, so each request sees all of a change or nothing of it.
    """

    def __init__(self, roll: Callable[[], float]) -> None:
        self._roll = roll
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
        """Return the endpoints for one try, leaving out the excluded endpoint names; None when none are ready.

        A backend with prefill and decode pods takes pairs only. Any other takes endpoints that do whole requests, or
        pairs if its endpoints announce that they are prefill and decode.
        """
        found = self._set_of(match)
        if found is None:
            return None
        groups = found.groups
        if match.backend.pd_group is None and groups.aggregated:
            return choose_one(groups, loads=self._loads, excluded=excluded, roll=self._roll())
        rolls = (self._roll(), self._roll(), self._roll())
        return choose_pair(groups, loads=self._loads, excluded=excluded, rolls=rolls)

    def started(self, endpoint: Endpoint, body_bytes: int) -> None:
        """Count a request as in flight at an endpoint."""
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
