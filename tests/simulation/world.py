"""An API server in memory with the kubelet's part of a pod's life, and clients of it that lose calls and answers."""

from __future__ import annotations

import asyncio
import itertools
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from baton.kube.errors import (
    CONNECTION_LOST,
    AlreadyExists,
    Conflict,
    Forbidden,
    NotFound,
    TooManyRequests,
    Transient,
)
from baton.kube.resources import MODEL_SERVINGS, PODS
from baton.kube.types import key_of
from fake_api_server import merged

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from baton.kube.types import JsonObject, Key, Resource

NAMESPACE = "ns"
LATENCY = 0.05
_TERMINATION = 0.3
"""Share of the pods on their way out, or not ready yet, that get there in one turn of the kubelet."""


class VirtualClock:
    """Wall-clock time that follows the loop's."""

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=asyncio.get_running_loop().time())


class World:
    """All objects by kind and key, and every change there ever was, in order."""

    def __init__(self) -> None:
        self.objects: dict[Resource, dict[Key, JsonObject]] = {}
        self.history: list[tuple[Resource, str, JsonObject]] = []
        self.changed = asyncio.Condition()
        self.writes = 0
        self.trace: list[str] = []
        self.created: list[str] = []
        """Names of the pods that operators created, with repeats."""
        self._numbers = itertools.count(1)
        self._tasks: set[asyncio.Task[None]] = set()

    def all(self, resource: Resource) -> dict[str, JsonObject]:
        """Return the objects of a kind by name."""
        return {key[1]: found for key, found in self.objects.get(resource, {}).items()}

    def get(self, resource: Resource, name: str) -> JsonObject:
        found = self.objects.get(resource, {}).get((NAMESPACE, name))
        if found is None:
            raise NotFound(404, "NotFound", f"{resource.kind} {name} not found")
        return found

    def create(self, resource: Resource, body: JsonObject) -> JsonObject:
        key = key_of(body)
        if key in self.objects.get(resource, {}):
            raise AlreadyExists(409, "AlreadyExists", f"{key[1]} already exists")
        metadata = {"uid": f"uid-{next(self._numbers)}", "generation": 1, **body["metadata"]}
        return self._store(resource, "ADDED", {**body, "kind": resource.kind, "metadata": metadata})

    def patch(self, resource: Resource, name: str, patch: JsonObject) -> JsonObject:
        found = self.get(resource, name)
        metadata = found["metadata"]
        if patch.get("metadata", {}).get("uid", metadata["uid"]) != metadata["uid"]:
            raise Conflict(409, "Conflict", "another uid")
        changed = merged(found, patch)
        if changed == found:
            return found
        if changed.get("spec") != found.get("spec"):
            changed = merged(changed, {"metadata": {"generation": metadata["generation"] + 1}})
        return self._store(resource, "MODIFIED", changed)

    def delete(self, resource: Resource, name: str, uid: str | None) -> JsonObject:
        """Delete an object; a pod only begins to terminate."""
        found = self.get(resource, name)
        if uid not in {None, found["metadata"]["uid"]}:
            raise Conflict(409, "Conflict", "another uid")
        if resource is PODS:
            return self.patch(PODS, name, {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}})
        return self.remove(resource, name)

    def remove(self, resource: Resource, name: str) -> JsonObject:
        """Let an object vanish at once."""
        found = self.get(resource, name)
        del self.objects[resource][NAMESPACE, name]
        return self._tell(resource, "DELETED", found)

    def note(self, text: str) -> None:
        """Keep a line for whoever has to understand a failure."""
        self.trace.append(f"{asyncio.get_running_loop().time():8.2f} {text}")

    def _store(self, resource: Resource, kind: str, found: JsonObject) -> JsonObject:
        told = self._tell(resource, kind, found)
        self.objects.setdefault(resource, {})[key_of(found)] = told
        return told

    def _tell(self, resource: Resource, kind: str, found: JsonObject) -> JsonObject:
        version = str(next(self._numbers))
        told = {**found, "metadata": {**found["metadata"], "resourceVersion": version}}
        self.history.append((resource, kind, told))
        task = asyncio.get_running_loop().create_task(self._wake())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return told

    async def _wake(self) -> None:
        async with self.changed:
            self.changed.notify_all()


class Kubelet:
    """Starts pods, makes them ready, and ends those that were deleted; each takes its time."""

    def __init__(self, world: World, random: Random) -> None:
        self._world = world
        self._random = random

    async def run(self) -> None:
        while True:
            await asyncio.sleep(0.2)
            for name, pod in sorted(self._world.all(PODS).items()):
                if self._random.random() < _TERMINATION:
                    self._advance(name, pod)

    def _advance(self, name: str, pod: JsonObject) -> None:
        status = pod.get("status") or {}
        if "deletionTimestamp" in pod["metadata"]:
            self._world.note(f"{name} ends")
            self._world.remove(PODS, name)
        elif "phase" not in status:
            self._world.patch(PODS, name, {"status": {"phase": "Running", "conditions": [ready("False")]}})
            self._world.note(f"{name} runs")
        elif status["phase"] == "Running" and status["conditions"][0]["status"] == "False":
            self._world.patch(PODS, name, {"status": {"conditions": [ready("True")]}})
            self._world.note(f"{name} is ready")


def ready(status: str) -> JsonObject:
    """Return the condition of a pod that says whether it is ready."""
    return {"type": "Ready", "status": status, "lastTransitionTime": VirtualClock().now().isoformat()}


class FaultyClient:
    """The calls of baton.kube.client.Client that a reconciler makes; each takes a while, and `rate` of them fail.

    `before_delete` sees each pod that the server is about to let this client delete.
    """

    def __init__(self, world: World, random: Random, *, before_delete: Callable[[JsonObject], None]) -> None:
        self.rate = 0.0
        self._world = world
        self._random = random
        self._before_delete = before_delete

    async def get(self, resource: Resource, namespace: str, name: str) -> JsonObject:
        return await self._call(lambda: self._world.get(resource, name))

    async def create(self, resource: Resource, body: JsonObject) -> JsonObject:
        def act() -> JsonObject:
            found = self._world.create(resource, body)
            self._world.note(f"create {resource.kind} {found['metadata']['name']}")
            if resource is PODS:
                self._world.created.append(found["metadata"]["name"])
            return found

        return await self._call(act, is_write=True)

    async def patch(self, resource: Resource, namespace: str, name: str, patch: JsonObject) -> JsonObject:
        return await self._call(lambda: self._world.patch(resource, name, patch), is_write=True)

    async def patch_status(self, resource: Resource, namespace: str, name: str, status: JsonObject) -> JsonObject:
        assert resource is MODEL_SERVINGS
        return await self._call(lambda: self._world.patch(resource, name, {"status": status}), is_write=True)

    async def delete(self, resource: Resource, namespace: str, name: str, *, uid: str) -> JsonObject:
        def act() -> JsonObject:
            found = self._world.get(resource, name)
            if resource is PODS and found["metadata"]["uid"] == uid:
                self._before_delete(found)
            self._world.note(f"delete {resource.kind} {name}")
            return self._world.delete(resource, name, uid)

        return await self._call(act, is_write=True)

    async def _call(self, act: Callable[[], JsonObject], *, is_write: bool = False) -> JsonObject:
        await asyncio.sleep(self._random.uniform(0, LATENCY))
        self._world.writes += is_write
        dice = self._random.random()
        if dice < self.rate:
            raise self._random.choice(
                [
                    Transient(503, "ServiceUnavailable", "try again"),
                    TooManyRequests(429, "TooManyRequests", "later", 1.0),
                    Forbidden(403, "Forbidden", "exceeded quota"),
                    Conflict(409, "Conflict", "try again"),
                ]
            )
        answer = act()
        if dice < 2 * self.rate:
            raise Transient(0, CONNECTION_LOST, "the answer is lost")
        await asyncio.sleep(self._random.uniform(0, LATENCY))
        return answer
