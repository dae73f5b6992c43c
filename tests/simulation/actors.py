"""Who acts in the simulated world: operators that run Baton's own reconciler on caches that lag behind."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from baton.api.serving import ModelServing
from baton.controllers.base import Controller
from baton.controllers.projection import (
    child_record,
    kind_projection,
    pod_group_record,
    pod_record,
    revision_record,
    template_record,
)
from baton.controllers.serving import ServingReconciler, ServingStores
from baton.kube.events import EventRecorder
from baton.kube.optional import OptionalKind
from baton.kube.resources import CONFIG_MAPS, CONTROLLER_REVISIONS, MODEL_SERVINGS, POD_GROUPS, PODS, SERVICES
from baton.kube.store import Store
from baton.kube.types import key_of
from simulation.world import NAMESPACE, FaultyClient, VirtualClock, World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from random import Random

    from baton.kube.client import Client
    from baton.kube.types import JsonObject, Key, Resource

KEY = NAMESPACE, "demo"
_REPEATED = 0.1
"""Share of the events that come twice."""
_RELISTED = 0.05
"""Share of the turns in which a watch has to begin anew with a list."""


class Operator:
    """One operator process: caches, queue, reconciler. `lag` is how many seconds events take to reach it at most.

    `check` sees each pod that the server is about to let this operator delete. It must not raise.
    """

    def __init__(
        self, world: World, random: Random, *, lag: float, check: Callable[[Operator, JsonObject], None]
    ) -> None:
        self.client = FaultyClient(world, random, before_delete=lambda pod: check(self, pod))
        client = cast("Client", self.client)
        pod_groups = OptionalKind(client, POD_GROUPS, project=pod_group_record)
        pod_groups.fields = frozenset({"subGroupPolicy"})
        self.stores = ServingStores(
            servings=Store(kind_projection(ModelServing)),
            pods=Store(pod_record),
            services=Store(child_record),
            config_maps=Store(child_record),
            templates=Store(template_record),
            pod_groups=pod_groups,
            revisions=Store(revision_record),
        )
        self.stores.index()
        clock = VirtualClock()
        reconciler = ServingReconciler(
            client=client,
            stores=self.stores,
            is_routed=lambda _: False,
            clock=clock,
            recorder=EventRecorder(client, clock=clock),
        )
        self._controller = Controller[tuple[str, str]](name="simulated", reconcile=reconciler, jitter=random.random)
        self._world = world
        self._random = random
        self._lag = lag
        self._fed: dict[Resource, Store[Any]] = {
            MODEL_SERVINGS: self.stores.servings,
            PODS: self.stores.pods,
            SERVICES: self.stores.services,
            CONFIG_MAPS: self.stores.config_maps,
            POD_GROUPS: pod_groups.store,
            CONTROLLER_REVISIONS: self.stores.revisions,
        }
        for resource, store in self._fed.items():
            self._controller.owns(store, _own if resource is MODEL_SERVINGS else _owner)

    @property
    def known(self) -> ModelServing | None:
        """The ModelServing as this operator knows it."""
        record = self.stores.servings.get(KEY)
        return None if record is None else record.value

    async def run(self) -> None:
        """Work until cancelled, which is how this process is killed."""
        async with asyncio.TaskGroup() as group:
            for resource, store in self._fed.items():
                group.create_task(self._watch(resource, store))
            group.create_task(self._controller.run())

    async def _watch(self, resource: Resource, store: Store[Any]) -> None:
        told = self._list(resource, store)
        store.synced.set()
        while True:
            async with self._world.changed:
                await self._world.changed.wait_for(lambda: len(self._world.history) > told)  # noqa: B023 # at once
            await asyncio.sleep(self._random.uniform(0, self._lag))
            if self._random.random() < _RELISTED:
                told = self._list(resource, store)
                continue
            for kind, event, found in self._world.history[told:]:
                if kind is resource:
                    for _ in range(1 + (self._random.random() < _REPEATED)):
                        store.offer(event, found)
                told += 1

    def _list(self, resource: Resource, store: Store[Any]) -> int:
        items = self._world.all(resource).values()
        version = max((int(found["metadata"]["resourceVersion"]) for _, _, found in self._world.history), default=0)
        store.keep_only({store.offer(None, item) for item in items}, at=str(version))
        return len(self._world.history)


def _own(record: Any) -> Iterable[Key]:
    return (key_of(record.raw),)


def _owner(record: Any) -> Iterable[Key]:
    return () if record.owner is None else (record.owner,)
