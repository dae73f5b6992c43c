"""Wires the operator process together and decides the order in which its parts start and stop."""

from __future__ import annotations

import asyncio
import logging
import random
import signal
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
    template_record,
)
from baton.controllers.routes import RouteReconciler, RouteStores
from baton.controllers.servers import ServerReconciler
from baton.controllers.serving import ServingReconciler, ServingStores
from baton.kube.clock import SystemClock
from baton.kube.connect import connect, find_access
from baton.kube.events import EventRecorder
from baton.kube.optional import OptionalKind
from baton.kube.reflector import Reflector
from baton.kube.resources import (
    CONFIG_MAPS,
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
from baton.manager.kopf_glue import KopfThread
from baton.manager.listing import listings
from baton.manager.probes import Probes
from baton.manager.webhooks import webhook_of
from baton.telemetry.logs import event
from baton.telemetry.loop_lag import measure_loop_lag

if TYPE_CHECKING:
    from collections.abc import Iterable

    from baton.controllers.projection import (
        ChildRecord,
        DocumentRecord,
        KindRecord,
        PodGroupRecord,
        PodRecord,
        TemplateRecord,
    )
    from baton.kube.client import Client
    from baton.kube.types import Resource
    from baton.manager.settings import OperatorSettings
    from baton.manager.webhooks import Webhook

_logger = logging.getLogger(__name__)

_GRACE = 5.0
"""Seconds that running reconciles may take to finish at exit."""
_DISCOVERY_LAG = 1.0
"""Seconds by which the API server's discovery, from which kopf learns of kinds, may follow new CRDs."""
_SILENCE = 300.0
"""Seconds without a word from the API server after which the process asks to be restarted."""


class OperatorError(Exception):
    """The operator cannot start, or cannot go on. The message is for people and names the cure."""


@dataclass(frozen=True, slots=True)
class _Caches:
    """Every store and reflector of the process."""

    servings: Store[KindRecord[ModelServing]]
    routes: Store[KindRecord[ModelRoute]]
    servers: Store[KindRecord[ModelServer]]
    pods: Reflector[PodRecord]
    services: Reflector[ChildRecord]
    launches: Reflector[ChildRecord]
    documents: Reflector[DocumentRecord]
    templates: Reflector[TemplateRecord]
    pod_groups: OptionalKind[PodGroupRecord]
    leader_worker_sets: OptionalKind[KindRecord[LeaderWorkerSet]]

    @property
    def reflectors(self) -> tuple[Reflector[Any], ...]:
        return self.pods, self.services, self.launches, self.documents, self.templates

    @property
    def kinds(self) -> dict[Resource, Store[Any]]:
        """The stores that kopf feeds."""
        return {MODEL_SERVINGS: self.servings, MODEL_ROUTES: self.routes, MODEL_SERVERS: self.servers}


def _caches(client: Client) -> _Caches:
    return _Caches(
        servings=Store(kind_projection(ModelServing)),
        routes=Store(kind_projection(ModelRoute, check_route)),
        servers=Store(kind_projection(ModelServer, check_server)),
        pods=Reflector(client, PODS, project=pod_record, label_selector=labels.NAME),
        services=Reflector(client, SERVICES, project=child_record, label_selector=labels.NAME),
        launches=Reflector(client, CONFIG_MAPS, project=child_record, label_selector=labels.LAUNCH, name="launches"),
        documents=Reflector(
            client, CONFIG_MAPS, project=document_record, label_selector=labels.ROUTER_CONFIG, name="router-configs"
        ),
        templates=Reflector(
            client, CONFIG_MAPS, project=template_record, label_selector=labels.TEMPLATES, name="templates"
        ),
        pod_groups=OptionalKind(client, POD_GROUPS, project=pod_group_record),
        leader_worker_sets=OptionalKind(client, LEADER_WORKER_SETS, project=kind_projection(LeaderWorkerSet)),
    )


def _owner(record: PodRecord | ChildRecord | DocumentRecord | PodGroupRecord) -> Iterable[Key]:
    return () if record.owner is None else (record.owner,)


def _own(record: KindRecord[Any]) -> Iterable[Key]:
    return (key_of(record.raw),)


def _serving_controller(
    client: Client, caches: _Caches, recorder: EventRecorder, settings: OperatorSettings
) -> Controller[Key]:
    stores = ServingStores(
        servings=caches.servings,
        pods=caches.pods.store,
        services=caches.services.store,
        config_maps=caches.launches.store,
        templates=caches.templates.store,
        pod_groups=caches.pod_groups,
    )
    stores.index()
    reconciler = ServingReconciler(client=client, stores=stores, clock=SystemClock(), recorder=recorder)
    controller = Controller[Key](name="modelserving", reconcile=reconciler, workers=settings.workers)
    controller.owns(caches.servings, _own)
    controller.owns(caches.pods, _owner)
    controller.owns(caches.services, _owner)
    controller.owns(caches.launches, _owner)
    controller.owns(caches.templates, stores.servings_of_templates)
    controller.owns(caches.pod_groups, _owner)
    caches.pod_groups.on_definition(partial(_queue_all, controller, caches.servings))
    return controller


def _queue_all(controller: Controller[Key], store: Store[KindRecord[Any]]) -> None:
    for record in store.values():
        controller.queue.add(key_of(record.raw), priority=LISTED)


def _route_controller(client: Client, caches: _Caches, settings: OperatorSettings) -> Controller[Key]:
    stores = RouteStores(
        routes=caches.routes,
        servers=caches.servers,
        servings=caches.servings,
        pods=caches.pods.store,
        config_maps=caches.documents.store,
    )
    stores.index_references()
    reconciler = RouteReconciler(client=client, stores=stores, clock=SystemClock())
    controller = Controller[Key](name="modelroute", reconcile=reconciler, workers=settings.workers)
    controller.owns(stores.routes, _own)
    controller.owns(stores.servers, stores.routes_of_server)
    controller.owns(stores.servings, stores.routes_of_serving)
    controller.owns(caches.pods, stores.routes_of_pod)
    controller.owns(caches.documents, _owner)
    return controller


def _server_controller(client: Client, caches: _Caches, settings: OperatorSettings) -> Controller[Key]:
    reconciler = ServerReconciler(client=client, servers=caches.servers, clock=SystemClock())
    controller = Controller[Key](name="modelserver", reconcile=reconciler, workers=settings.workers)
    controller.owns(caches.servers, _own)
    return controller


def _bridge_controller(client: Client, caches: _Caches, settings: OperatorSettings) -> Controller[Key]:
    sets = caches.leader_worker_sets
    reconciler = LeaderWorkerSetReconciler(
        client=client, sets=sets.store, servings=caches.servings, clock=SystemClock()
    )
    controller = Controller[Key](name="leaderworkerset", reconcile=reconciler, workers=settings.workers)
    controller.owns(sets, _own)
    controller.owns(caches.servings, _own)  # of the same name, whoever made it
    return controller


def _probes(caches: _Caches, kopf_thread: KopfThread, webhook: Webhook | None) -> Probes:
    loop = asyncio.get_running_loop()

    def silent() -> str:
        ages = {
            reflector.name: loop.time() - reflector.heard
            for reflector in caches.reflectors
            if reflector.heard is not None
        }
        quiet = [f"{name} heard nothing for {age:.0f} s" for name, age in ages.items() if age > _SILENCE]
        return ", ".join(quiet)

    def unsynced() -> str:
        waiting = [reflector.name for reflector in caches.reflectors if not reflector.synced.is_set()]
        waiting += [kind.plural for kind, store in caches.kinds.items() if not store.synced.is_set()]
        return f"not listed yet: {', '.join(waiting)}" if waiting else ""

    def kopf_ended() -> str:
        return f"stopped: {kopf_thread.error or 'by request'}" if kopf_thread.ended.is_set() else ""

    ready = {"caches": unsynced, "kopf": kopf_ended}
    if webhook is not None:
        ready["webhook"] = webhook.problem
    return Probes(live={"watch": silent, "kopf": kopf_ended}, ready=ready)


async def run(settings: OperatorSettings) -> None:
    """Run the operator until SIGTERM or SIGINT.

    Raises:
        ConfigurationError: there is no usable kubeconfig or service account.
        OperatorError: the probe port is taken, or kopf stopped by itself, of which a restart is the cure.

    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with await connect(settings.kubeconfig, settings.context, connections=settings.connections) as client:
        await _run(client, settings, stop)


async def _run(client: Client, settings: OperatorSettings, stop: asyncio.Event) -> None:
    caches = _caches(client)
    recorder = EventRecorder(client, clock=SystemClock())
    controllers = [
        _serving_controller(client, caches, recorder, settings),
        _route_controller(client, caches, settings),
        _server_controller(client, caches, settings),
    ]
    optional: list[OptionalKind[Any]] = [caches.pod_groups]
    if settings.leader_worker_sets:
        optional.append(caches.leader_worker_sets)
        controllers.append(_bridge_controller(client, caches, settings))
    kopf_thread = KopfThread(
        {resource: store.offer for resource, store in caches.kinds.items()},
        find_access=partial(find_access, settings.kubeconfig, settings.context),
    )
    webhook = webhook_of(settings, client, clock=SystemClock())
    probes = _probes(caches, kopf_thread, webhook)
    await _serve_probes(probes, settings)
    try:
        async with asyncio.TaskGroup() as group:
            background = [
                *(group.create_task(source.run(), name=f"reflector-{source.name}") for source in caches.reflectors),
                *(group.create_task(kind.run(), name=f"optional-{kind.name}") for kind in optional),
                *(group.create_task(entry.run()) for entry in listings(client, caches.kinds, random=random.random)),
                group.create_task(recorder.run(), name="events"),
                group.create_task(measure_loop_lag(), name="loop-lag"),
                group.create_task(_start(kopf_thread, caches), name="kopf"),
            ]
            if webhook is not None:
                background.append(group.create_task(webhook.run(), name="webhook"))
            working = [group.create_task(controller.run(), name=controller.name) for controller in controllers]
            await _first(stop, kopf_thread.ended)
            event(_logger, logging.INFO, "operator stops")
            kopf_thread.ask_to_stop()
            for controller in controllers:
                controller.close()
            await asyncio.wait(working, timeout=_GRACE)
            for task in (*background, *working):
                task.cancel()
    finally:
        await kopf_thread.stop()
        await probes.close()
    if kopf_thread.error is not None:
        raise OperatorError(f"kopf stopped by itself: {kopf_thread.error!r}") from kopf_thread.error


async def _start(kopf_thread: KopfThread, caches: _Caches) -> None:
    """Start kopf once all kinds were listed: it takes no notice of CRDs that come later than itself."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    for store in caches.kinds.values():
        await store.synced.wait()
    await asyncio.sleep(min(loop.time() - begun, _DISCOVERY_LAG))
    kopf_thread.start()


async def _serve_probes(probes: Probes, settings: OperatorSettings) -> None:
    try:
        port = await probes.start(settings.probe_host, settings.probe_port)
    except OSError as error:
        await probes.close()
        message = f"cannot listen on {settings.probe_host} port {settings.probe_port}: {error.strerror or error}"
        raise OperatorError(f"{message}; choose another --probe-port or --probe-host") from error
    event(_logger, logging.INFO, "operator started", probes=f"http://{settings.probe_host}:{port}")


async def _first(*events: asyncio.Event) -> None:
    waiting = [asyncio.ensure_future(entry.wait()) for entry in events]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
