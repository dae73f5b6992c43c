"""Keeps a directory in step with Kubernetes: the router's ConfigMaps, and the pods that their documents select.

Decides on no request. When the API server is out of reach everything stays as it was heard last.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from baton.api import labels
from baton.kube.reflector import Reflector
from baton.kube.resources import CONFIG_MAPS, PODS
from baton.kube.types import Key, key_of
from baton.router.endpoints import PodSet
from baton.routing.document import DocumentError, faults_of_config_map, read_document
from baton.routing.endpoints import PodFacts, facts_of
from baton.telemetry import directory_metrics as metrics
from baton.telemetry.logs import event

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from baton.api.router_config import RouterConfig
    from baton.kube.reflector import ListWatcher
    from baton.kube.types import JsonObject
    from baton.router.live_directory import LiveDirectory

_logger = logging.getLogger(__name__)

_GATHERING = 0.02  # seconds to wait for more changes before a new table is made
_PATIENCE = 10.0  # seconds that a new document waits for its pods to be listed


class ConfigWatch:
    """Follows all ConfigMaps with the label `labels.ROUTER_CONFIG`, in these namespaces or in all.

    A document with a fault leaves the last good one of its ConfigMap in force. A good one replaces it as soon as the
    pods it selects have been listed, so that no request meets a route whose endpoints are not known yet; if that takes
    too long, for example because the router may not list them, then without.
    """

    def __init__(self, client: ListWatcher, directory: LiveDirectory, *, namespaces: Sequence[str] = ()) -> None:
        self._client = client
        self._directory = directory
        self._wanted: dict[Key, RouterConfig] = {}
        self._in_force: dict[Key, RouterConfig] = {}
        self._pods: dict[PodSet, _PodWatch] = {}
        self._changed = asyncio.Event()
        self._configs = [
            Reflector(
                client,
                CONFIG_MAPS,
                project=_document_of,
                namespace=namespace,
                label_selector=labels.ROUTER_CONFIG,
                name="router-config" if namespace is None else f"router-config/{namespace}",
            )
            for namespace in namespaces or (None,)
        ]

    async def run(self) -> None:
        """Follow for ever; cancel it to stop."""
        async with asyncio.TaskGroup() as group:
            for reflector in self._configs:
                reflector.subscribe(self._take_document)
                group.create_task(self._mirror(reflector), name=reflector.name)
            while True:
                await self._changed.wait()
                await asyncio.sleep(_GATHERING)
                self._changed.clear()
                self._follow(group)

    async def _mirror(self, reflector: Reflector[Any]) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(reflector.run(), name=f"mirror {reflector.name}")
            await reflector.synced.wait()
            self._changed.set()

    def _take_document(self, old: _Document | None, new: _Document | None) -> None:
        if new is None:
            if old is not None:
                self._wanted.pop(old.key, None)
        elif new.config is not None:
            self._wanted[new.key] = new.config
        else:
            metrics.CONFIG_REJECTED.inc()
            namespace, name = new.key
            event(
                _logger,
                logging.ERROR,
                "router configuration refused, the last good one stays in force",
                config_map=f"{namespace}/{name}",
                faults="; ".join(new.faults),
            )
        self._changed.set()

    def _follow(self, group: asyncio.TaskGroup) -> None:
        """Take the next step towards the wanted documents. Every event that allows a further one comes here again."""
        for pods in _pod_sets(self._wanted.values()):
            if pods not in self._pods:
                self._start(pods, group)
        in_force: dict[Key, RouterConfig] = {}
        is_waiting = False
        for key, config in self._wanted.items():
            known = self._in_force.get(key)
            if known is config or all(map(self._is_settled, _pod_sets([config]))):
                in_force[key] = config
            else:
                is_waiting = True
                if known is not None:
                    in_force[key] = known
        if in_force != self._in_force:
            self._publish(in_force)
        used = set(_pod_sets(self._wanted.values())) | set(_pod_sets(self._in_force.values()))
        for pods in self._pods.keys() - used:
            self._pods.pop(pods).task.cancel()
        if not is_waiting and all(reflector.synced.is_set() for reflector in self._configs):
            self._directory.set_ready()

    def _publish(self, in_force: dict[Key, RouterConfig]) -> None:
        self._in_force = in_force
        self._directory.publish(in_force.values(), pods_of=lambda pods: self._pods[pods].reflector.store.values())
        metrics.CONFIG_DOCUMENTS.set(len(in_force))
        event(
            _logger,
            logging.INFO,
            "router configuration in force",
            documents=len(in_force),
            models=len(self._directory.models()),
            endpoints=len(self._directory.endpoints()),
        )

    def _start(self, pods: PodSet, group: asyncio.TaskGroup) -> None:
        reflector = Reflector(
            self._client,
            PODS,
            project=facts_of,
            namespace=pods.namespace,
            label_selector=pods.label_selector,
            name=f"pods {pods.namespace} {pods.label_selector}",
        )

        def take(old: PodFacts | None, new: PodFacts | None) -> None:
            _report_problem(old, new)
            self._directory.change_pod(pods, old, new)

        reflector.subscribe(take)
        loop = asyncio.get_running_loop()
        task = group.create_task(self._mirror(reflector), name=reflector.name)
        self._pods[pods] = _PodWatch(reflector, task, patience_ends=loop.time() + _PATIENCE)
        loop.call_at(self._pods[pods].patience_ends, self._changed.set)

    def _is_settled(self, pods: PodSet) -> bool:
        watch = self._pods[pods]
        return watch.reflector.synced.is_set() or asyncio.get_running_loop().time() >= watch.patience_ends


@dataclass(frozen=True, slots=True)
class _PodWatch:
    reflector: Reflector[PodFacts]
    task: asyncio.Task[None]
    patience_ends: float


@dataclass(frozen=True, slots=True)
class _Document:
    """What a ConfigMap says: a document, or what is wrong with it."""

    key: Key
    config: RouterConfig | None
    faults: tuple[str, ...] = ()


def _document_of(config_map: JsonObject) -> _Document:
    key = key_of(config_map)
    text = (config_map.get("data") or {}).get(labels.ROUTER_CONFIG_KEY)
    if text is None:
        return _Document(key, None, (f"data: {labels.ROUTER_CONFIG_KEY} is missing; put the document there",))
    try:
        config = read_document(text)
    except DocumentError as error:
        return _Document(key, None, error.faults)
    faults = faults_of_config_map(config, namespace=key[0])
    return _Document(key, None, tuple(faults)) if faults else _Document(key, config)


def _pod_sets(configs: Iterable[RouterConfig]) -> dict[PodSet, None]:
    return {
        PodSet.of(backend.selector): None
        for config in configs
        for backend in config.backends
        if backend.selector is not None
    }


def _report_problem(old: PodFacts | None, new: PodFacts | None) -> None:
    if new is not None and new.problem and (old is None or old.problem != new.problem):
        metrics.PODS_REJECTED.inc()
        event(
            _logger,
            logging.ERROR,
            "pod takes no requests, its endpoint annotation is wrong",
            pod=f"{new.namespace}/{new.name}",
            annotation=labels.ENDPOINTS,
            fault=new.problem,
        )
