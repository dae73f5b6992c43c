"""A user of a namespace of a real API server: applies ModelServings, harms pods, and looks whether all is as wanted."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from baton.api import labels
from baton.api.serving import DEFAULT_SCHEDULER, ModelServing
from baton.controllers.desire import desired_of
from baton.controllers.snapshot import read_snapshot
from baton.kube.clock import SystemClock
from baton.kube.errors import Conflict, Forbidden, NotFound
from baton.kube.resources import CONFIG_MAPS, MODEL_SERVINGS, POD_GROUPS, PODS, SERVICES
from baton.planning.plan import plan
from invariants import Children, counts_wrong, differences, owner_of

if TYPE_CHECKING:
    from baton.kube.client import Client
    from baton.kube.types import JsonObject, Resource
    from builders import ServingBuilder

PATIENCE = 240.0
"""Seconds until all is well; a quiet machine needs ten."""
_DELAYS = {"dev.baton/start-delay": "300ms", "dev.baton/stop-delay": "300ms"}
_FAILED = {"phase": "Failed", "conditions": [{"type": "Ready", "status": "False"}]}


@dataclass(frozen=True)
class User:
    """Acts in `namespace` past any proxy. `has_pod_groups` tells whether the cluster has that kind."""

    client: Client
    namespace: str
    has_pod_groups: bool = False

    async def apply(self, builder: ServingBuilder) -> None:
        """Apply a ModelServing whose raw pods take a moment to start and to end."""
        document = builder.document()
        roles = [_slowed(role) for role in document["spec"]["template"]["roles"]]
        spec = {**document["spec"], "template": {**document["spec"]["template"], "roles": roles}}
        metadata = {"name": builder.metadata["name"], "namespace": self.namespace}
        await self.client.apply(MODEL_SERVINGS, {"metadata": metadata, "spec": spec})

    async def place_foreign(self, name: str, *, serving: str) -> str:
        """Create a pod that looks as if it were of a ModelServing; return the uid of its real owner."""
        owner = await self.client.create(
            CONFIG_MAPS, {"metadata": {"name": f"owner-of-{name}", "namespace": self.namespace}}
        )
        reference = {"apiVersion": "v1", "kind": "ConfigMap", "controller": True}
        reference |= {key: owner["metadata"][key] for key in ("name", "uid")}
        metadata = {
            "name": name,
            "namespace": self.namespace,
            "labels": {labels.NAME: serving},
            "ownerReferences": [reference],
        }
        pod = {"metadata": metadata, "spec": {"containers": [{"name": "engine", "image": "other:1"}]}}
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    await self.client.create(PODS, pod)
                except Forbidden:  # a new namespace has no service account yet
                    await asyncio.sleep(0.2)
                else:
                    return str(reference["uid"])

    async def fail(self, pod: str) -> None:
        """Let a pod fail, if it is still there."""
        with suppress(Conflict, NotFound):
            await self.client.patch_status(PODS, self.namespace, pod, _FAILED)

    async def delete_pod(self, pod: str) -> None:
        """Delete a pod, if it is still there."""
        await self.delete(PODS, pod)

    async def delete(self, resource: Resource, name: str) -> None:
        """Delete an object, if it is still there."""
        with suppress(NotFound):
            await self.client.delete(resource, self.namespace, name)

    async def items(self, resource: Resource) -> list[JsonObject]:
        """Return all objects of a kind; none where there is no such kind."""
        try:
            pages = self.client.list_pages(resource, self.namespace)
            return [item async for page in pages for item in page["items"]]
        except NotFound:
            return []

    async def wrong(self, builder: ServingBuilder) -> list[str]:
        """Return what is not as wanted: children, counters, and what a fresh plan would still do."""
        wanted = builder.build()
        name = wanted.metadata.name
        stored = await self.client.get(MODEL_SERVINGS, self.namespace, name)
        children = await self._children(wanted, stored["metadata"]["uid"])
        found = [*counts_wrong(stored), *differences(wanted, children)]
        return [f"{name}: {entry}" for entry in (*found, *await self._left(name))]

    async def until_rest(self, *builders: ServingBuilder) -> None:
        """Wait until nothing is wrong with any of them."""
        wrong: list[str] = []
        try:
            async with asyncio.timeout(PATIENCE):
                while True:
                    wrong = []
                    for builder in builders:
                        wrong += await self.wrong(builder)
                    if not wrong:
                        return
                    await asyncio.sleep(0.5)
        except TimeoutError:
            raise AssertionError("\n".join([f"no end of it in {PATIENCE:.0f} s", *wrong])) from None

    async def _children(self, wanted: ModelServing, uid: str) -> Children:
        async def names(resource: Resource) -> frozenset[str]:
            return frozenset(item["metadata"]["name"] for item in await self.items(resource) if owner_of(item) == uid)

        pods = {item["metadata"]["name"]: item for item in await self.items(PODS) if owner_of(item) == uid}
        is_gang = self.has_pod_groups and wanted.spec.scheduler_name == DEFAULT_SCHEDULER
        return Children(pods, await names(SERVICES), await names(POD_GROUPS) if is_gang else None)

    async def _left(self, name: str) -> list[str]:
        """Return what a fresh plan would do, and the counters that it would correct."""
        snapshot = await read_snapshot(self.client, self.namespace, name, now=SystemClock().now())
        assert snapshot.serving is not None
        serving = ModelServing.read(snapshot.serving)
        desired, problems = desired_of(serving)
        assert desired is not None, problems
        made = plan(desired, snapshot.observed)
        found = [f"to do: {type(action).__name__} {action.kind} {action.name}" for action in made.actions]
        if made.status.model_copy(update={"conditions": serving.status.conditions}) != serving.status:
            found.append(f"the status is {serving.status}, not {made.status}")
        return found


def _slowed(role: JsonObject) -> JsonObject:
    templates: dict[str, Any] = {}
    for key in ("entryTemplate", "workerTemplate"):
        if template := role.get(key):
            annotations = {**_DELAYS, **template["metadata"].get("annotations", {})}
            templates[key] = {**template, "metadata": {**template["metadata"], "annotations": annotations}}
    return {**role, **templates}
