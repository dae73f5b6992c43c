"""ModelRoute: compile, write the router's document into a ConfigMap, write conditions. Decisions are in routing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import yaml

from baton.api import labels
from baton.api.endpoints import Phase
from baton.api.meta import Condition, Kind
from baton.api.router_config import CONFIG_VERSION, BackendConfig, RouterConfig
from baton.controllers.children import name_taken
from baton.controllers.conditions import accepted, joined, with_conditions, write_status
from baton.controllers.projection import DocumentRecord, document_record
from baton.kube.errors import ApiError, NotFound
from baton.kube.resources import CONFIG_MAPS, MODEL_ROUTES, PODS
from baton.kube.types import key_of
from baton.routing.compile import Compiled, compile_route, references
from baton.routing.endpoints import PodFacts, endpoints_of, facts_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from baton.api.route import ModelRoute
    from baton.api.server import ModelServer
    from baton.api.serving import ModelServing
    from baton.common.clock import Clock
    from baton.controllers.projection import KindRecord, PodRecord
    from baton.kube.client import Client
    from baton.kube.store import Store
    from baton.kube.types import JsonObject, Key

K = TypeVar("K", bound=Kind)

RESOLVED = "ResolvedRefs"
PROGRAMMED = "Programmed"

NAMESPACE = "namespace"
"""Index of the stores of ModelServers and ModelServings."""
NAMED = "named"
"""Index of the store of pods: (namespace, name) of the ModelServing that their label names."""
SERVER = "server"
"""Index of the store of routes: (namespace, name) of the ModelServers they point to."""
SERVING = "serving"
"""Index of the store of routes: (namespace, name) of the ModelServings they point to."""

_FOREIGN_PODS_PERIOD = 30.0
"""Seconds between two counts of pods that no ModelServing made and that are therefore not watched."""


@dataclass(frozen=True, slots=True)
class RouteStores:
    """The caches a reconcile reads."""

    routes: Store[KindRecord[ModelRoute]]
    servers: Store[KindRecord[ModelServer]]
    servings: Store[KindRecord[ModelServing]]
    pods: Store[PodRecord]
    config_maps: Store[DocumentRecord]

    def index_references(self) -> None:
        """Make the indices that reconciling and key mapping need."""
        self.routes.add_index(SERVER, lambda record: _targets(record)[0])
        self.routes.add_index(SERVING, lambda record: _targets(record)[1])
        self.servers.add_index(NAMESPACE, lambda record: (record.raw["metadata"]["namespace"],))
        self.servings.add_index(NAMESPACE, lambda record: (record.raw["metadata"]["namespace"],))
        self.pods.add_index(NAMED, lambda record: ((record.view.namespace, record.view.labels.get(labels.NAME)),))

    def routes_of_server(self, record: KindRecord[ModelServer]) -> Iterator[Key]:
        """Yield the keys of the routes that point to a ModelServer."""
        return self._pointing(SERVER, key_of(record.raw))

    def routes_of_serving(self, record: KindRecord[ModelServing]) -> Iterator[Key]:
        """Yield the keys of the routes that point to a ModelServing."""
        return self._pointing(SERVING, key_of(record.raw))

    def routes_of_pod(self, record: PodRecord) -> Iterator[Key]:
        """Yield the keys of the routes whose endpoints a pod may be one of."""
        if record.owner is not None:
            yield from self._pointing(SERVING, record.owner)
        for server in self.servers.by_index(NAMESPACE, record.view.namespace):
            if server.value is not None:
                selector = server.value.spec.workload_selector.match_labels
                if selector.items() <= record.view.labels.items():
                    yield from self.routes_of_server(server)

    def is_routed(self, record: PodRecord) -> bool:
        """Whether a pod may be an endpoint of any route."""
        return any(True for _ in self.routes_of_pod(record))

    def _pointing(self, index: str, target: Key) -> Iterator[Key]:
        for route in self.routes.by_index(index, target):
            yield key_of(route.raw)


class RouteReconciler:
    """Puts one ModelRoute into force. A route that is wrong leaves its last good document untouched."""

    def __init__(self, *, client: Client, stores: RouteStores, clock: Clock) -> None:
        self._client = client
        self._stores = stores
        self._clock = clock

    async def __call__(self, key: Key) -> float | None:
        """Reconcile one route; return after how many seconds to count foreign pods again."""
        record = self._stores.routes.get(key)
        if record is None or record.is_deleting:
            return None
        raw, validity = record.raw, accepted(record.problems)
        if record.value is None:
            await self._write_status(raw, [validity, self._not_programmed(raw, validity.reason)])
            return None
        compiled = self._compile(record.value)
        if compiled.config is None:
            reason = "BackendNotFound"
            resolved = Condition(type=RESOLVED, status="False", reason=reason, message=joined(compiled.problems))
            await self._write_status(raw, [validity, resolved, self._not_programmed(raw, reason)])
            return None
        resolved = Condition(type=RESOLVED, status="True", reason=RESOLVED, message="All targets exist")
        try:
            await self._program(raw, compiled.config)
        except ApiError as error:
            refused = self._not_programmed(raw, "ConfigMapRefused", why=str(error))
            await self._write_status(raw, [validity, resolved, refused])
            raise
        counts = [await self._count(backend) for backend in compiled.config.backends]
        await self._write_status(raw, [validity, resolved, _programmed(compiled.config, counts)])
        return _FOREIGN_PODS_PERIOD if any(_is_foreign(backend) for backend in compiled.config.backends) else None

    def _compile(self, route: ModelRoute) -> Compiled:
        namespace = route.metadata.namespace
        return compile_route(
            route,
            servers=_usable(self._stores.servers.by_index(NAMESPACE, namespace)),
            servings=_usable(self._stores.servings.by_index(NAMESPACE, namespace)),
        )

    async def _program(self, raw: JsonObject, config: RouterConfig) -> None:
        """Write the document, unless it is there; an object that has its name and belongs to others is not touched."""
        document = _config_map(raw, config)
        key = key_of(document)
        wanted = document_record(document)
        known = self._stores.config_maps.get(key)
        if known == wanted:
            return
        found = known or await self._find(key)
        has_lost_owner = known is not None and known.owner is None
        if found is not None and found.owner != wanted.owner and not has_lost_owner:
            raise name_taken(CONFIG_MAPS.kind, key[1])
        self._stores.config_maps.offer("MODIFIED", await self._client.apply(CONFIG_MAPS, document))

    async def _find(self, key: Key) -> DocumentRecord | None:
        """Look for a ConfigMap that the cache does not have, because it lacks our label or is very new."""
        try:
            return document_record(await self._client.get(CONFIG_MAPS, *key))
        except NotFound:
            return None

    async def _count(self, backend: BackendConfig) -> dict[Phase, int]:
        counts = dict.fromkeys(Phase, 0)
        for facts in await self._pods(backend):
            for endpoint in endpoints_of(facts, backend):
                counts[endpoint.phase] += 1
        return counts

    async def _pods(self, backend: BackendConfig) -> Iterable[PodFacts]:
        selector = backend.selector
        if selector is None:
            return []
        wanted = selector.match_labels
        if not _is_foreign(backend):
            records = self._stores.pods.by_index(NAMED, (selector.namespace, wanted[labels.NAME]))
            return [record.facts for record in records if wanted.items() <= record.view.labels.items()]
        text = ",".join(f"{key}={value}" for key, value in wanted.items())
        pages = self._client.list_pages(PODS, selector.namespace, label_selector=text)
        return [facts_of(pod) async for page in pages for pod in page["items"]]

    def _not_programmed(self, raw: JsonObject, reason: str, *, why: str = "") -> Condition:
        namespace, name = key_of(raw)
        kept = self._stores.config_maps.get((namespace, config_map_name(name)))
        message = "the last good configuration stays in force" if kept else "no request is routed"
        cause = f": {why}" if why else ""
        return Condition(type=PROGRAMMED, status="False", reason=reason, message=f"Not applied{cause}; {message}")

    async def _write_status(self, raw: JsonObject, wanted: Sequence[Condition]) -> None:
        status = {
            "observedGeneration": raw["metadata"].get("generation", 0),
            "conditions": with_conditions(raw, wanted, now=self._clock.now()),
        }
        await write_status(self._client, MODEL_ROUTES, self._stores.routes, raw, status)


def config_map_name(route: str) -> str:
    """Return the name of the ConfigMap that holds a route's document."""
    return f"{route}-router-config"


def _config_map(raw: JsonObject, config: RouterConfig) -> JsonObject:
    metadata = raw["metadata"]
    text = yaml.safe_dump(config.document(), sort_keys=False, width=120)
    return {
        "metadata": {
            "name": config_map_name(metadata["name"]),
            "namespace": metadata["namespace"],
            "labels": {labels.ROUTER_CONFIG: CONFIG_VERSION},
            "ownerReferences": [
                {
                    "apiVersion": labels.NETWORKING_API_VERSION,
                    "kind": "ModelRoute",
                    "name": metadata["name"],
                    "uid": metadata["uid"],
                    "controller": True,
                }
            ],
        },
        "data": {labels.ROUTER_CONFIG_KEY: text},
    }


def _programmed(config: RouterConfig, counts: Sequence[dict[Phase, int]]) -> Condition:
    texts = [
        f"{backend.name}: {_counted(backend, count)}" for backend, count in zip(config.backends, counts, strict=True)
    ]
    reason = PROGRAMMED if any(any(count.values()) for count in counts) else "NoReadyEndpoints"
    return Condition(type=PROGRAMMED, status="True", reason=reason, message="Ready endpoints: " + "; ".join(texts))


def _counted(backend: BackendConfig, count: dict[Phase, int]) -> str:
    if backend.pd_group is None:
        return f"{count[Phase.AGGREGATED]}"
    return f"{count[Phase.PREFILL]} prefill, {count[Phase.DECODE]} decode"


def _is_foreign(backend: BackendConfig) -> bool:
    """Whether pods of the backend need not belong to a ModelServing, so that the pod cache may lack them."""
    return backend.selector is not None and labels.NAME not in backend.selector.match_labels


def _targets(record: KindRecord[ModelRoute]) -> tuple[set[Key], set[Key]]:
    if record.value is None:
        return set(), set()
    namespace = record.value.metadata.namespace
    servers, servings = references(record.value)
    return {(namespace, name) for name in servers}, {(namespace, name) for name in servings}


def _usable(records: Iterable[KindRecord[K]]) -> dict[str, K]:
    """Return what can be acted upon, by name; the own reconcile of the others says what is wrong with them."""
    return {record.value.metadata.name: record.value for record in records if record.value is not None}
