"""ModelRoute: compile, write the router's document into a ConfigMap, write conditions. Decisions are in routing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import yaml
from pydantic import ValidationError

from baton.api import admission, labels
from baton.api.endpoints import Phase
from baton.api.meta import Condition, Kind, problems_of
from baton.api.problems import Problem, Severity
from baton.api.route import ModelRoute
from baton.api.router_config import CONFIG_VERSION, BackendConfig, RouterConfig
from baton.api.server import ModelServer
from baton.api.serving import ModelServing
from baton.controllers.conditions import joined, with_conditions
from baton.kube.errors import NotFound
from baton.kube.resources import CONFIG_MAPS, MODEL_ROUTES, PODS
from baton.routing.compile import Compiled, compile_route, references
from baton.routing.endpoints import PodFacts, endpoints_of, facts_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from baton.common.clock import Clock
    from baton.controllers.projection import DocumentRecord, PodRecord
    from baton.kube.client import Client
    from baton.kube.store import Store
    from baton.kube.types import JsonObject, Key

K = TypeVar("K", bound=Kind)

ACCEPTED = "Accepted"
RESOLVED = "ResolvedRefs"
PROGRAMMED = "Programmed"

NAMESPACE = "namespace"
"""Index of the stores of ModelServers, ModelServings and pods."""
SERVER = "server"
"""Index of the store of routes: (namespace, name) of the ModelServers they point to."""
SERVING = "serving"
"""Index of the store of routes: (namespace, name) of the ModelServings they point to."""

_FOREIGN_PODS_PERIOD = 30.0
"""Seconds between two counts of pods that no ModelServing made and that are therefore not watched."""


@dataclass(frozen=True, slots=True)
class RouteStores:
    """The caches a reconcile reads."""

    routes: Store[JsonObject]
    servers: Store[JsonObject]
    servings: Store[JsonObject]
    pods: Store[PodRecord]
    config_maps: Store[DocumentRecord]

    def index_references(self) -> None:
        """Make the indices that reconciling and key mapping need."""
        self.routes.add_index(SERVER, lambda raw: _targets(raw)[0])
        self.routes.add_index(SERVING, lambda raw: _targets(raw)[1])
        for store in (self.servers, self.servings):
            store.add_index(NAMESPACE, lambda raw: (raw["metadata"]["namespace"],))
        self.pods.add_index(NAMESPACE, lambda record: (record.view.namespace,))

    def routes_of_server(self, raw: JsonObject) -> Iterator[Key]:
        """Yield the keys of the routes that point to a ModelServer."""
        return self._pointing(SERVER, (raw["metadata"]["namespace"], raw["metadata"]["name"]))

    def routes_of_serving(self, raw: JsonObject) -> Iterator[Key]:
        """Yield the keys of the routes that point to a ModelServing."""
        return self._pointing(SERVING, (raw["metadata"]["namespace"], raw["metadata"]["name"]))

    def routes_of_pod(self, record: PodRecord) -> Iterator[Key]:
        """Yield the keys of the routes whose endpoints a pod may be one of."""
        if record.owner is not None:
            yield from self._pointing(SERVING, record.owner)
        for server in self.servers.by_index(NAMESPACE, record.view.namespace):
            selector = ((server.get("spec") or {}).get("workloadSelector") or {}).get("matchLabels") or {}
            if selector and selector.items() <= record.view.labels.items():
                yield from self.routes_of_server(server)

    def _pointing(self, index: str, target: Key) -> Iterator[Key]:
        for route in self.routes.by_index(index, target):
            yield route["metadata"]["namespace"], route["metadata"]["name"]


class RouteReconciler:
    """Puts one ModelRoute into force. A route that is wrong leaves its last good document untouched."""

    def __init__(self, *, client: Client, stores: RouteStores, clock: Clock) -> None:
        self._client = client
        self._stores = stores
        self._clock = clock

    async def __call__(self, key: Key) -> float | None:
        """Reconcile one route; return after how many seconds to count foreign pods again."""
        raw = self._stores.routes.get(key)
        if raw is None or raw["metadata"].get("deletionTimestamp"):
            return None
        try:
            route = ModelRoute.read(raw)
        except ValidationError as error:
            await self._write_status(raw, self._refused(raw, problems_of(error)))
            return None
        errors = [problem for problem in admission.check_route(route) if problem.severity is Severity.ERROR]
        if errors:
            await self._write_status(raw, self._refused(raw, errors))
            return None
        compiled = self._compile(route)
        if compiled.config is None:
            await self._write_status(raw, self._unresolved(raw, compiled.problems))
            return None
        await self._program(raw, compiled.config)
        counts = [await self._count(backend) for backend in compiled.config.backends]
        await self._write_status(raw, _in_force(compiled.config, counts))
        return _FOREIGN_PODS_PERIOD if any(_is_foreign(backend) for backend in compiled.config.backends) else None

    def _compile(self, route: ModelRoute) -> Compiled:
        namespace = route.metadata.namespace
        servers = _readable(ModelServer, self._stores.servers.by_index(NAMESPACE, namespace))
        usable = {
            name: server
            for name, server in servers.items()
            if not any(problem.severity is Severity.ERROR for problem in admission.check_server(server))
        }
        servings = _readable(ModelServing, self._stores.servings.by_index(NAMESPACE, namespace))
        return compile_route(route, servers=usable, servings=servings)

    async def _program(self, raw: JsonObject, config: RouterConfig) -> None:
        document = _config_map(raw, config)
        metadata = document["metadata"]
        known = self._stores.config_maps.get((metadata["namespace"], metadata["name"]))
        if known is not None and known.content == document["data"]:
            return
        written = await self._client.apply(CONFIG_MAPS, document)
        self._stores.config_maps.offer("MODIFIED", written)

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
        if not _is_foreign(backend):
            wanted = selector.match_labels.items()
            records = self._stores.pods.by_index(NAMESPACE, selector.namespace)
            return [record.facts for record in records if wanted <= record.view.labels.items()]
        text = ",".join(f"{key}={value}" for key, value in selector.match_labels.items())
        pages = self._client.list_pages(PODS, selector.namespace, label_selector=text)
        return [facts_of(pod) async for page in pages for pod in page["items"]]

    def _refused(self, raw: JsonObject, problems: Iterable[object]) -> list[Condition]:
        message = joined(problems)
        return [
            Condition(type=ACCEPTED, status="False", reason="Invalid", message=message),
            self._not_programmed(raw, "Invalid"),
        ]

    def _unresolved(self, raw: JsonObject, problems: tuple[Problem, ...]) -> list[Condition]:
        return [
            Condition(type=ACCEPTED, status="True", reason="Accepted", message="The spec is valid"),
            Condition(type=RESOLVED, status="False", reason="BackendNotFound", message=joined(problems)),
            self._not_programmed(raw, "BackendNotFound"),
        ]

    def _not_programmed(self, raw: JsonObject, reason: str) -> Condition:
        kept = self._stores.config_maps.get((raw["metadata"]["namespace"], config_map_name(raw["metadata"]["name"])))
        message = "the last good configuration stays in force" if kept else "no request is routed"
        return Condition(type=PROGRAMMED, status="False", reason=reason, message=f"Not applied; {message}")

    async def _write_status(self, raw: JsonObject, wanted: list[Condition]) -> None:
        metadata = raw["metadata"]
        conditions = with_conditions(raw, wanted, now=self._clock.now())
        status = {"observedGeneration": metadata.get("generation", 0), "conditions": conditions}
        if status == (raw.get("status") or {}):
            return
        try:
            written = await self._client.patch_status(MODEL_ROUTES, metadata["namespace"], metadata["name"], status)
        except NotFound:
            return
        self._stores.routes.offer("MODIFIED", written)


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


def _in_force(config: RouterConfig, counts: list[dict[Phase, int]]) -> list[Condition]:
    total = sum(sum(count.values()) for count in counts)
    texts = [
        f"{backend.name}: {_counted(backend, count)}" for backend, count in zip(config.backends, counts, strict=True)
    ]
    reason = "Programmed" if total else "NoReadyEndpoints"
    return [
        Condition(type=ACCEPTED, status="True", reason="Accepted", message="The spec is valid"),
        Condition(type=RESOLVED, status="True", reason="ResolvedRefs", message="All targets exist"),
        Condition(type=PROGRAMMED, status="True", reason=reason, message="Ready endpoints: " + "; ".join(texts)),
    ]


def _counted(backend: BackendConfig, count: dict[Phase, int]) -> str:
    if backend.pd_group is None:
        return f"{count[Phase.AGGREGATED]}"
    return f"{count[Phase.PREFILL]} prefill, {count[Phase.DECODE]} decode"


def _is_foreign(backend: BackendConfig) -> bool:
    """Whether pods of the backend need not belong to a ModelServing, so that the pod cache may lack them."""
    return backend.selector is not None and labels.NAME not in backend.selector.match_labels


def _targets(raw: JsonObject) -> tuple[set[Key], set[Key]]:
    namespace = raw["metadata"]["namespace"]
    try:
        servers, servings = references(ModelRoute.read(raw))
    except ValidationError:
        return set(), set()
    return {(namespace, name) for name in servers}, {(namespace, name) for name in servings}


def _readable(kind: type[K], documents: Iterable[JsonObject]) -> dict[str, K]:
    found: dict[str, K] = {}
    for document in documents:
        try:
            found[document["metadata"]["name"]] = kind.read(document)
        except ValidationError:
            continue  # its own reconcile says what is wrong with it
    return found
