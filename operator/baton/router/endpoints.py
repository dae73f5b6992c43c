"""The live endpoints of a backend: follows its pods and keeps them arranged for picking. Picks nothing itself."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Self

from baton.routing.endpoints import PodFacts, endpoints_of, static_endpoints_of
from baton.routing.pick.groups import EndpointGroups, GroupMembers

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from baton.api.router_config import BackendConfig, PodSelector
    from baton.routing.types import Endpoint

_DECISIVE = {"selector", "pd_group", "port", "protocol", "endpoints"}


@dataclass(frozen=True, slots=True)
class PodSet:
    """The pods of a namespace that have all these labels."""

    namespace: str
    labels: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, selector: PodSelector) -> Self:
        """Return the pods that a backend's selector means; equal ones are equal whatever the order of their labels."""
        return cls(selector.namespace, tuple(sorted(selector.match_labels.items())))

    @property
    def label_selector(self) -> str:
        """The labels as the API server takes them."""
        return ",".join(f"{key}={value}" for key, value in self.labels)


def selection_of(backend: BackendConfig) -> str:
    """Return what decides on the endpoints of a backend, as a key: backends with an equal one share their endpoints."""
    return backend.model_dump_json(include=_DECISIVE)


class EndpointSet:
    """The endpoints of the backends that have the same selection.

    A change costs as much as the group it is in; the arrangement follows with the next request.
    """

    def __init__(self, backend: BackendConfig, pods: Iterable[PodFacts] = ()) -> None:
        self.pods = None if backend.selector is None else PodSet.of(backend.selector)
        """The pods to be told of."""
        self._backend = backend
        self._by_pod: dict[tuple[str, str], tuple[Endpoint, ...]] = {}
        self._by_group: dict[str, dict[str, Endpoint]] = {}
        self._members: dict[str, GroupMembers] = {}
        self._changed: dict[str, None] = {}  # as a set, in the order of the changes
        self._arranged = EndpointGroups()
        for endpoint in static_endpoints_of(backend):
            self._add(endpoint)
        for pod in pods:
            self.change(None, pod)

    def __iter__(self) -> Iterator[Endpoint]:
        return chain.from_iterable(group.values() for group in self._by_group.values())

    @property
    def groups(self) -> EndpointGroups:
        """The endpoints as picking takes them."""
        if self._changed:
            self._arrange()
        return self._arranged

    def change(self, old: PodFacts | None, new: PodFacts | None) -> None:
        """Take a pod as it is now: None for one that was not there before, or is no more."""
        if old is not None and new is None:
            self._replace((old.namespace, old.name), ())
        if new is not None:
            self._replace((new.namespace, new.name), endpoints_of(new, self._backend))

    def _replace(self, pod: tuple[str, str], endpoints: tuple[Endpoint, ...]) -> None:
        known = self._by_pod.get(pod, ())
        if known == endpoints:
            return
        for endpoint in known:
            del self._by_group[endpoint.group][endpoint.name]
            self._changed[endpoint.group] = None
        for endpoint in endpoints:
            self._add(endpoint)
        if endpoints:
            self._by_pod[pod] = endpoints
        else:
            del self._by_pod[pod]

    def _add(self, endpoint: Endpoint) -> None:
        self._by_group.setdefault(endpoint.group, {})[endpoint.name] = endpoint
        self._changed[endpoint.group] = None

    def _arrange(self) -> None:
        for group in self._changed:
            endpoints = self._by_group[group]
            if endpoints:
                self._members[group] = GroupMembers.of(endpoints.values())
            else:
                del self._by_group[group]
                self._members.pop(group, None)
        self._changed.clear()
        self._arranged = EndpointGroups.of(self._members.values())
