"""Which caches the operator keeps, and which controller looks at which of them. Starts nothing."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from baton.api import labels
from baton.api.admission import check_route, check_server
from baton.api.leader_worker_set import LeaderWorkerSet
from baton.api.route import ModelRoute
from baton.api.server import ModelServer
from baton.api.serving import ModelServing
from baton.controllers.base import Controller
from baton.controllers.leader_worker_sets import LeaderWorkerSetReconciler
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
from baton.kube.clock import SystemClock
from baton.kube.optional import OptionalKind
from baton.kube.reflector import Reflector
from baton.kube.resources import (
    CONFIG_MAPS,
    CONTROLLER_REVISIONS,
    LEADER_WORKER_SETS,
    MODEL_ROUTES,
    MODEL_SERVERS,
    MODEL_SERVINGS,
    POD_GROUPS,
    PODS,
    SERVICES,
)
from baton.kube.store import Store
from baton.kube.types import Key, key_of
from baton.kube.work_queue import LISTED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from baton.controllers.projection import (
        ChildRecord,
        DocumentRecord,
        KindRecord,
        PodGroupRecord,
        PodRecord,
        RevisionRecord,
        TemplateRecord,
    )
    from baton.kube.client import Client
    from baton.kube.events import EventRecorder
    from baton.kube.types import Resource
    from baton.manager.settings import OperatorSettings


@dataclass(frozen=True, slots=True)
class Caches:
    """Every store and reflector of the process."""

    servings: Store[KindRecord[ModelServing]]
    routes: Store[KindRecord[ModelRoute]]
    servers: Store[KindRecord[ModelServer]]
    pods: Reflector[PodRecord]
    services: Reflector[ChildRecord]
    launches: Reflector[ChildRecord]
    revisions: Reflector[RevisionRecord]
    documents: Reflector[DocumentRecord]
    templates: Reflector[TemplateRecord]
    pod_groups: OptionalKind[PodGroupRecord]
    leader_worker_sets: OptionalKind[KindRecord[LeaderWorkerSet]]

    @property
    def reflectors(self) -> tuple[Reflector[Any], ...]:
        """What fills the other stores."""
        return self.pods, self.services, self.launches, self.revisions, self.documents, self.templates

    @property
    def route_stores(self) -> RouteStores:
        """What says which routes lead to a pod."""
        return RouteStores(
            routes=self.routes,
            servers=self.servers,
            servings=self.servings,
            pods=self.pods.store,
            config_maps=self.documents.store,
        )

    @property
    def kinds(self) -> dict[Resource, Store[Any]]:
        """The stores that kopf feeds."""
        return {MODEL_SERVINGS: self.servings, MODEL_ROUTES: self.routes, MODEL_SERVERS: self.servers}

    def optional(self, settings: OperatorSettings) -> list[OptionalKind[Any]]:
        """Return the kinds to follow that the cluster may lack."""
        return [self.pod_groups, *([self.leader_worker_sets] if settings.leader_worker_sets else [])]


def caches_of(client: Client) -> Caches:
    """Return caches that are empty until their reflectors, the listings and kopf run."""
    caches = Caches(
        servings=Store(kind_projection(ModelServing)),
        routes=Store(kind_projection(ModelRoute, check_route)),
        servers=Store(kind_projection(ModelServer, check_server)),
        pods=Reflector(client, PODS, project=pod_record, label_selector=labels.NAME),
        services=Reflector(client, SERVICES, project=child_record, label_selector=labels.NAME),
        launches=Reflector(client, CONFIG_MAPS, project=child_record, label_selector=labels.LAUNCH, name="launches"),
        revisions=Reflector(client, CONTROLLER_REVISIONS, project=revision_record, label_selector=labels.NAME),
        documents=Reflector(
            client, CONFIG_MAPS, project=document_record, label_selector=labels.ROUTER_CONFIG, name="router-configs"
        ),
        templates=Reflector(
            client, CONFIG_MAPS, project=template_record, label_selector=labels.TEMPLATES, name="templates"
        ),
        pod_groups=OptionalKind(client, POD_GROUPS, project=pod_group_record),
        leader_worker_sets=OptionalKind(client, LEADER_WORKER_SETS, project=kind_projection(LeaderWorkerSet)),
    )
    caches.route_stores.index_references()
    return caches


def controllers_of(
    client: Client, caches: Caches, recorder: EventRecorder, settings: OperatorSettings
) -> list[Controller[Key]]:
    """Return fresh controllers, which remember nothing and have everything still to look at."""
    bridge = [_bridge_controller(client, caches, settings)] if settings.leader_worker_sets else []
    return [
        _serving_controller(client, caches, recorder, settings),
        _route_controller(client, caches, settings),
        _server_controller(client, caches, settings),
        *bridge,
    ]


def _owner(record: PodRecord | ChildRecord | RevisionRecord | DocumentRecord | PodGroupRecord) -> Iterable[Key]:
    return () if record.owner is None else (record.owner,)


def _own(record: KindRecord[Any]) -> Iterable[Key]:
    return (key_of(record.raw),)


def _serving_controller(
    client: Client, caches: Caches, recorder: EventRecorder, settings: OperatorSettings
) -> Controller[Key]:
    stores = ServingStores(
        servings=caches.servings,
        pods=caches.pods.store,
        services=caches.services.store,
        config_maps=caches.launches.store,
        templates=caches.templates.store,
        pod_groups=caches.pod_groups,
        revisions=caches.revisions.store,
    )
    stores.index()
    reconciler = ServingReconciler(
        client=client,
        stores=stores,
        is_routed=caches.route_stores.is_routed,
        clock=SystemClock(),
        recorder=recorder,
    )
    controller = Controller[Key](name="modelserving", reconcile=reconciler, workers=settings.workers)
    controller.owns(caches.servings, _own)
    controller.owns(caches.pods, _owner)
    controller.owns(caches.services, _owner)
    controller.owns(caches.launches, _owner)
    controller.owns(caches.revisions, _owner)
    controller.owns(caches.templates, stores.servings_of_templates)
    controller.owns(caches.pod_groups, _owner)
    hear = partial(_queue_all, controller, caches.servings)
    caches.pod_groups.on_definition(hear)
    controller.at_close(partial(caches.pod_groups.off_definition, hear))
    return controller


def _queue_all(controller: Controller[Key], store: Store[KindRecord[Any]]) -> None:
    for record in store.values():
        controller.queue.add(key_of(record.raw), priority=LISTED)


def _route_controller(client: Client, caches: Caches, settings: OperatorSettings) -> Controller[Key]:
    stores = caches.route_stores
    reconciler = RouteReconciler(client=client, stores=stores, clock=SystemClock())
    controller = Controller[Key](name="modelroute", reconcile=reconciler, workers=settings.workers)
    controller.owns(stores.routes, _own)
    controller.owns(stores.servers, stores.routes_of_server)
    controller.owns(stores.servings, stores.routes_of_serving)
    controller.owns(caches.pods, stores.routes_of_pod)
    controller.owns(caches.documents, _owner)
    return controller


def _server_controller(client: Client, caches: Caches, settings: OperatorSettings) -> Controller[Key]:
    reconciler = ServerReconciler(client=client, servers=caches.servers, clock=SystemClock())
    controller = Controller[Key](name="modelserver", reconcile=reconciler, workers=settings.workers)
    controller.owns(caches.servers, _own)
    return controller


def _bridge_controller(client: Client, caches: Caches, settings: OperatorSettings) -> Controller[Key]:
    sets = caches.leader_worker_sets
    reconciler = LeaderWorkerSetReconciler(
        client=client, sets=sets.store, servings=caches.servings, clock=SystemClock()
    )
    controller = Controller[Key](name="leaderworkerset", reconcile=reconciler, workers=settings.workers)
    controller.owns(sets, _own)
    controller.owns(caches.servings, _own)  # of the same name, whoever made it
    return controller
