"""Reconcilers against an API server over HTTP: what is there, one reconcile, what is there then."""

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Self

import orjson

from baton.api import labels
from baton.api.admission import check_route, check_server
from baton.api.route import ModelRoute
from baton.api.server import ModelServer
from baton.api.serving import ModelServing
from baton.controllers.projection import (
    child_record,
    document_record,
    kind_projection,
    pod_group_record,
    pod_record,
    revision_record,
    template_record,
)
from baton.controllers.routes import RouteReconciler, RouteStores
from baton.controllers.servers import ServerReconciler
from baton.controllers.serving import ServingReconciler, ServingStores
from baton.kube.client import Client
from baton.kube.errors import NotFound
from baton.kube.events import EventRecorder
from baton.kube.optional import OptionalKind
from baton.kube.resources import (
    CONFIG_MAPS,
    CONTROLLER_REVISIONS,
    MODEL_ROUTES,
    MODEL_SERVERS,
    MODEL_SERVINGS,
    POD_GROUPS,
    PODS,
    SERVICES,
)
from baton.kube.store import Store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from baton.kube.types import JsonObject, ObjectReference, Resource
    from builders import ServingBuilder
    from fake_api_server import FakeApiServer

KEY = "ns", "demo"
NETWORKING = "networking.serving.volcano.sh/v1alpha1"
SELECTORS = {"launches": labels.LAUNCH, "documents": labels.ROUTER_CONFIG, "templates": labels.TEMPLATES}
KINDS = {kind.kind: kind for kind in (MODEL_SERVINGS, MODEL_SERVERS, MODEL_ROUTES, PODS, SERVICES, CONFIG_MAPS)}


class Clock:
    """Stands still until a test moves it."""

    def __init__(self) -> None:
        self._now = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        return self._now

    def skip(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)


class Recorder(EventRecorder):
    """Also keeps what it was told, with repeats."""

    def __init__(self, client: Client, clock: Clock) -> None:
        super().__init__(client, clock=clock)
        self.told: list[str] = []

    def record(self, about: ObjectReference, *, reason: str, message: str, is_warning: bool = False) -> None:
        assert (about.kind, about.namespace, about.name) == ("ModelServing", *KEY)
        self.told.append(f"{reason}: {message}")
        super().record(about, reason=reason, message=message, is_warning=is_warning)


class Rig:
    """An operator's stores and reconcilers in the namespace `ns`; each reconcile sees all that the server has."""

    def __init__(self, server: FakeApiServer, client: Client) -> None:
        self.server = server
        self.client = client
        self.clock = Clock()
        self.recorder = Recorder(client, self.clock)
        self.pod_groups = OptionalKind(client, POD_GROUPS, project=pod_group_record)
        self.stores: dict[str, tuple[Resource, Store[Any]]] = {
            "servings": (MODEL_SERVINGS, Store(kind_projection(ModelServing))),
            "routes": (MODEL_ROUTES, Store(kind_projection(ModelRoute, check_route))),
            "servers": (MODEL_SERVERS, Store(kind_projection(ModelServer, check_server))),
            "pods": (PODS, Store(pod_record)),
            "services": (SERVICES, Store(child_record)),
            "launches": (CONFIG_MAPS, Store(child_record)),
            "revisions": (CONTROLLER_REVISIONS, Store(revision_record)),
            "documents": (CONFIG_MAPS, Store(document_record)),
            "templates": (CONFIG_MAPS, Store(template_record)),
            "pod_groups": (POD_GROUPS, self.pod_groups.store),
        }
        kept = {name: store for name, (_, store) in self.stores.items()}
        serving_stores = ServingStores(
            servings=kept["servings"],
            pods=kept["pods"],
            services=kept["services"],
            config_maps=kept["launches"],
            templates=kept["templates"],
            pod_groups=self.pod_groups,
            revisions=kept["revisions"],
        )
        route_stores = RouteStores(
            routes=kept["routes"],
            servers=kept["servers"],
            servings=kept["servings"],
            pods=kept["pods"],
            config_maps=kept["documents"],
        )
        serving_stores.index()
        route_stores.index_references()
        self._servings = ServingReconciler(
            client=client,
            stores=serving_stores,
            is_routed=route_stores.is_routed,
            clock=self.clock,
            recorder=self.recorder,
        )
        self._routes = RouteReconciler(client=client, stores=route_stores, clock=self.clock)
        self._servers = ServerReconciler(client=client, servers=kept["servers"], clock=self.clock)

    @classmethod
    @asynccontextmanager
    async def at(cls, server: FakeApiServer) -> AsyncIterator[Self]:
        """Begin as an operator does that has just been started."""
        async with Client.from_url(server.url) as client:
            yield cls(server, client)

    async def apply(self, *changes: ServingBuilder | JsonObject) -> None:
        """Write specs as `kubectl apply` does: the generation counts them, the status stays."""
        for change in changes:
            document = change if isinstance(change, dict) else change.document()
            resource, name = KINDS[document["kind"]], document["metadata"]["name"]
            present = await self.find(resource, name) or {"metadata": {"generation": 0}}
            metadata = {**document["metadata"], "generation": present["metadata"]["generation"] + 1}
            self.server.put(
                _collection(resource),
                name,
                metadata={**metadata, "namespace": "ns"},
                kind=document["kind"],
                spec=document["spec"],
                status=present.get("status", {}),
            )

    async def serving(self) -> float | None:
        await self.look()
        return await self.serving_as_seen()

    async def serving_as_seen(self) -> float | None:
        """Reconcile with what the caches had before."""
        return await self._servings(KEY)

    async def route(self) -> float | None:
        await self.look()
        return await self.route_as_seen()

    async def route_as_seen(self) -> float | None:
        return await self._routes(KEY)

    async def model_server(self) -> None:
        await self.look()
        await self._servers(KEY)

    async def look(self) -> None:
        """Fill the caches with what the server has."""
        for name, (resource, store) in self.stores.items():
            pages = self.client.list_pages(resource, label_selector=SELECTORS.get(name))
            found = [item async for page in pages for item in page["items"]]
            store.keep_only({store.offer(None, item) for item in found})

    async def find(self, resource: Resource, name: str) -> JsonObject | None:
        try:
            return await self.client.get(resource, "ns", name)
        except NotFound:
            return None

    async def names(self, resource: Resource) -> list[str]:
        return sorted(item["metadata"]["name"] for item in (await self.client.list(resource))["items"])

    async def uids(self, resource: Resource) -> dict[str, str]:
        items = (await self.client.list(resource))["items"]
        return {item["metadata"]["name"]: item["metadata"]["uid"] for item in items}

    async def condition(self, kind: str, *, of: Resource = MODEL_SERVINGS, name: str = "demo") -> JsonObject:
        found = await self.client.get(of, "ns", name)
        conditions: list[JsonObject] = found.get("status", {}).get("conditions", [])
        return next((entry for entry in conditions if entry["type"] == kind), {})

    async def set_ready(self, *names: str, ready: bool = True, since: str = "2026-01-01T00:00:00Z") -> None:
        """Let pods run, ready or not; all of them if none is named."""
        for name in names or await self.names(PODS):
            condition = {"type": "Ready", "status": str(ready), "lastTransitionTime": since}
            status = {"phase": "Running", "podIP": "10.0.0.1", "conditions": [condition]}
            await self.client.patch_status(PODS, "ns", name, status)

    def events(self) -> list[str]:
        """Return the messages recorded since the last call."""
        told, self.recorder.told = self.recorder.told, []
        return told

    def writes(self) -> list[str]:
        """Return every request so far that changes something."""
        return [
            f"{seen.verb} {seen.path.partition('?')[0]}"
            for seen in self.server.requests
            if seen.verb in {"create", "patch", "delete"}
        ]

    def refuse(self, verb: str, status: int, reason: str, message: str, *, times: int = 1, skip: int = 0) -> None:
        """Answer the next requests of a verb as an admission plugin or a quota does."""
        body = {"kind": "Status", "code": status, "reason": reason, "message": message}
        self.server.fail(verb, status, times=times, skip=skip, body=orjson.dumps(body))


def route(*targets: JsonObject, name: str = "demo", **spec: Any) -> JsonObject:
    rules = [{"targetModels": list(targets or [{"modelServingName": "demo"}])}]
    metadata = {"name": name, "uid": f"uid-of-{name}-route"}
    return {
        "apiVersion": NETWORKING,
        "kind": "ModelRoute",
        "metadata": metadata,
        "spec": {"modelName": "m", "rules": rules, **spec},
    }


def model_server(name: str = "demo", **spec: Any) -> JsonObject:
    needed = {
        "inferenceEngine": "vLLM",
        "workloadSelector": {"matchLabels": {"app": "engine"}},
        "workloadPort": {"port": 8000},
    }
    metadata = {"name": name, "uid": f"uid-of-{name}-server"}
    return {"apiVersion": NETWORKING, "kind": "ModelServer", "metadata": metadata, "spec": {**needed, **spec}}


def _collection(resource: Resource) -> str:
    return resource.path(None)
