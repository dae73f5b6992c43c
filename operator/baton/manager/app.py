"""Wires the operator process together and decides the order in which its parts start and stop."""

from __future__ import annotations

import asyncio
import logging
import random
import signal
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from baton.api import labels
from baton.controllers.base import Controller
from baton.controllers.projection import child_record, document_record, pod_record, without_managed_fields
from baton.controllers.routes import RouteReconciler, RouteStores
from baton.controllers.servers import ServerReconciler
from baton.controllers.serving import ServingReconciler, ServingStores
from baton.kube.clock import SystemClock
from baton.kube.connect import connect
from baton.kube.events import EventRecorder
from baton.kube.reflector import Reflector
from baton.kube.resources import CONFIG_MAPS, MODEL_ROUTES, MODEL_SERVERS, MODEL_SERVINGS, PODS, SERVICES
from baton.kube.store import Store
from baton.kube.types import Key, key_of
from baton.manager.kopf_glue import KopfThread
from baton.manager.listing import listings
from baton.manager.probes import Probes
from baton.telemetry.logs import event

if TYPE_CHECKING:
    from collections.abc import Iterable

    from baton.controllers.projection import ChildRecord, DocumentRecord, PodRecord
    from baton.kube.client import Client
    from baton.kube.types import JsonObject, Resource
    from baton.manager.settings import OperatorSettings

_logger = logging.getLogger(__name__)

_GRACE = 10.0
"""Seconds that running reconciles may take to finish at exit."""
_SILENCE = 300.0
"""Seconds without a word from the API server after which the process asks to be restarted."""


@dataclass(frozen=True, slots=True)
class _Caches:
    """Every store and reflector of the process."""

    kinds: dict[Resource, Store[JsonObject]]
    pods: Reflector[PodRecord]
    services: Reflector[ChildRecord]
    launches: Reflector[ChildRecord]
    documents: Reflector[DocumentRecord]

    @property
    def reflectors(self) -> tuple[Reflector[PodRecord] | Reflector[ChildRecord] | Reflector[DocumentRecord], ...]:
        return self.pods, self.services, self.launches, self.documents


def _caches(client: Client) -> _Caches:
    return _Caches(
        kinds={resource: Store(without_managed_fields) for resource in (MODEL_SERVINGS, MODEL_ROUTES, MODEL_SERVERS)},
        pods=Reflector(client, PODS, project=pod_record, label_selector=labels.NAME),
        services=Reflector(client, SERVICES, project=child_record, label_selector=labels.NAME),
        launches=Reflector(client, CONFIG_MAPS, project=child_record, label_selector=labels.LAUNCH, name="launches"),
        documents=Reflector(
            client, CONFIG_MAPS, project=document_record, label_selector=labels.ROUTER_CONFIG, name="router-configs"
        ),
    )


def _owner(record: PodRecord | ChildRecord | DocumentRecord) -> Iterable[Key]:
    return () if record.owner is None else (record.owner,)


def _own(raw: JsonObject) -> Iterable[Key]:
    return (key_of(raw),)


def _serving_controller(
    client: Client, caches: _Caches, recorder: EventRecorder, settings: OperatorSettings
) -> Controller[Key]:
    stores = ServingStores(
        servings=caches.kinds[MODEL_SERVINGS],
        pods=caches.pods.store,
        services=caches.services.store,
        config_maps=caches.launches.store,
    )
    stores.index_owners()
    reconciler = ServingReconciler(client=client, stores=stores, clock=SystemClock(), recorder=recorder)
    controller = Controller[Key](name="modelserving", reconcile=reconciler, workers=settings.workers)
    controller.owns(caches.kinds[MODEL_SERVINGS], _own)
    controller.owns(caches.pods, _owner)
    controller.owns(caches.services, _owner)
    controller.owns(caches.launches, _owner)
    return controller


def _route_controller(client: Client, caches: _Caches, settings: OperatorSettings) -> Controller[Key]:
    stores = RouteStores(
        routes=caches.kinds[MODEL_ROUTES],
        servers=caches.kinds[MODEL_SERVERS],
        servings=caches.kinds[MODEL_SERVINGS],
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
    servers = caches.kinds[MODEL_SERVERS]
    reconciler = ServerReconciler(client=client, servers=servers, clock=SystemClock())
    controller = Controller[Key](name="modelserver", reconcile=reconciler, workers=settings.workers)
    controller.owns(servers, _own)
    return controller


def _probes(caches: _Caches, kopf_thread: KopfThread) -> Probes:
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

    return Probes(live={"watch": silent, "kopf": kopf_ended}, ready={"caches": unsynced, "kopf": kopf_ended})


async def run(settings: OperatorSettings) -> None:
    """Run the operator until SIGTERM or SIGINT.

    Raises:
        ConfigurationError: there is no usable kubeconfig or service account.
        OSError: the probe port is taken.
        RuntimeError: kopf stopped by itself; a restart is the cure.

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
    kopf_thread = KopfThread({resource: store.offer for resource, store in caches.kinds.items()})
    probes = _probes(caches, kopf_thread)
    port = await probes.start(settings.probe_host, settings.probe_port)
    event(_logger, logging.INFO, "operator started", probes=f"http://{settings.probe_host}:{port}")
    kopf_thread.start()
    try:
        async with asyncio.TaskGroup() as group:
            background = [
                *(group.create_task(source.run(), name=f"reflector-{source.name}") for source in caches.reflectors),
                *(group.create_task(entry.run()) for entry in listings(client, caches.kinds, random=random.random)),
                group.create_task(recorder.run(), name="events"),
            ]
            working = [group.create_task(controller.run(), name=controller.name) for controller in controllers]
            await _first(stop, kopf_thread.ended)
            event(_logger, logging.INFO, "operator stops")
            for controller in controllers:
                controller.close()
            await asyncio.wait(working, timeout=_GRACE)
            for task in (*background, *working):
                task.cancel()
    finally:
        with suppress(asyncio.CancelledError):
            await kopf_thread.stop()
        await probes.close()
    if kopf_thread.error is not None:
        raise RuntimeError(f"kopf stopped by itself: {kopf_thread.error}")


async def _first(*events: asyncio.Event) -> None:
    waiting = [asyncio.ensure_future(entry.wait()) for entry in events]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
