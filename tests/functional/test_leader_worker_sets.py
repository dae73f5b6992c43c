from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from baton.api.leader_worker_set import LeaderWorkerSet
from baton.api.serving import ModelServing
from baton.controllers.leader_worker_sets import LeaderWorkerSetReconciler
from baton.controllers.projection import KindRecord, kind_projection
from baton.kube.client import Client
from baton.kube.errors import Forbidden
from baton.kube.resources import LEADER_WORKER_SETS, MODEL_SERVINGS
from baton.kube.store import Store
from builders import pod_template
from fake_api_server import FakeApiServer
from functional.reconciler_fixture import Clock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from baton.kube.types import JsonObject

KEY = "ns", "demo"
SETS, SERVINGS = LEADER_WORKER_SETS.path(), MODEL_SERVINGS.path()


class Bridge:
    """Reconciles one LeaderWorkerSet, having seen all that the server has."""

    def __init__(self, server: FakeApiServer, client: Client) -> None:
        self.server = server
        self.client = client
        self.sets: Store[KindRecord[LeaderWorkerSet]] = Store(kind_projection(LeaderWorkerSet))
        self.servings: Store[KindRecord[ModelServing]] = Store(kind_projection(ModelServing))
        self._reconciler = LeaderWorkerSetReconciler(
            client=client, sets=self.sets, servings=self.servings, clock=Clock()
        )

    async def apply(self, *, replicas: Any = 2, metadata: JsonObject | None = None, **group: Any) -> None:
        template = {"size": 2, "workerTemplate": pod_template(), **group}
        status = (await self.find(LEADER_WORKER_SETS)).get("status", {})
        spec = {"replicas": replicas, "leaderWorkerTemplate": template}
        self.server.put(SETS, "demo", uid="uid-of-set", metadata=metadata or {}, spec=spec, status=status)

    async def reconcile(self) -> None:
        for resource, store in ((LEADER_WORKER_SETS, self.sets), (MODEL_SERVINGS, self.servings)):
            items = (await self.client.list(resource))["items"]
            store.keep_only({store.offer(None, item) for item in items})
        assert await self._reconciler(KEY) is None

    async def find(self, resource: Any) -> JsonObject:
        items = (await self.client.list(resource))["items"]
        return next(iter(items), {})

    async def condition(self, kind: str = "Bridged") -> JsonObject:
        status = (await self.find(LEADER_WORKER_SETS)).get("status", {})
        return next((entry for entry in status.get("conditions", []) if entry["type"] == kind), {})

    def writes(self) -> list[str]:
        return [seen.verb for seen in self.server.requests if seen.verb in {"create", "patch", "delete"}]


@pytest.fixture
async def bridge() -> AsyncIterator[Bridge]:
    async with opened() as made:
        yield made


@asynccontextmanager
async def opened() -> AsyncIterator[Bridge]:
    async with FakeApiServer() as server, Client.from_url(server.url) as client:
        yield Bridge(server, client)


async def test_a_set_gets_its_model_serving_and_is_told_of_it(bridge: Bridge) -> None:
    await bridge.apply()
    await bridge.reconcile()
    made = await bridge.find(MODEL_SERVINGS)
    assert made["metadata"]["ownerReferences"][0]["uid"] == "uid-of-set"
    assert made["spec"]["replicas"] == 2
    assert (await bridge.condition())["status"] == "True"


async def test_progress_is_told_back_and_what_is_current_is_not_written_again(bridge: Bridge) -> None:
    await bridge.apply()
    await bridge.reconcile()
    available = {"type": "Available", "status": "True", "reason": "AllGroupsReady", "message": "m"}
    status = {"replicas": 2, "availableReplicas": 2, "updatedReplicas": 2, "conditions": [available]}
    await bridge.client.patch_status(MODEL_SERVINGS, *KEY, status)
    await bridge.reconcile()
    told = (await bridge.find(LEADER_WORKER_SETS))["status"]
    assert (told["replicas"], told["readyReplicas"], told["updatedReplicas"]) == (2, 2, 2)
    assert (await bridge.condition("Available"))["status"] == "True"

    before = bridge.writes()
    for _ in range(3):
        await bridge.reconcile()
    assert bridge.writes() == before


async def test_a_changed_set_changes_its_model_serving_and_what_users_changed_is_put_right(bridge: Bridge) -> None:
    await bridge.apply()
    await bridge.reconcile()
    uid = (await bridge.find(MODEL_SERVINGS))["metadata"]["uid"]
    await bridge.apply(replicas=3, size=4)
    await bridge.reconcile()
    await bridge.client.patch(MODEL_SERVINGS, *KEY, {"spec": {"replicas": 9, "template": {"gangPolicy": {}}}})
    await bridge.reconcile()
    made = await bridge.find(MODEL_SERVINGS)
    assert (made["spec"]["replicas"], made["metadata"]["uid"]) == (3, uid)
    assert made["spec"]["template"]["roles"][0]["workerReplicas"] == 3
    assert made["spec"]["template"]["gangPolicy"] == {}, "the set says nothing of it"


async def test_a_deleted_model_serving_comes_back(bridge: Bridge) -> None:
    await bridge.apply()
    await bridge.reconcile()
    bridge.server.remove(SERVINGS, "demo")
    await bridge.reconcile()
    assert await bridge.find(MODEL_SERVINGS)


@pytest.mark.parametrize("whose", ["serving", "set"])
async def test_what_is_on_its_way_out_is_left_alone(bridge: Bridge, whose: str) -> None:
    leaving = {"deletionTimestamp": "2026-01-01T00:00:00Z"}
    await bridge.apply()
    await bridge.reconcile()
    await bridge.apply(replicas=3, metadata=leaving if whose == "set" else {})
    if whose == "serving":
        await bridge.client.patch(MODEL_SERVINGS, *KEY, {"metadata": leaving})
    await bridge.reconcile()
    assert (await bridge.find(MODEL_SERVINGS))["spec"]["replicas"] == 2


async def test_a_set_that_is_gone_is_nobodys_business(bridge: Bridge) -> None:
    await bridge.reconcile()
    assert bridge.writes() == []


async def test_a_model_serving_of_somebody_else_is_not_touched(bridge: Bridge) -> None:
    bridge.server.put(SERVINGS, "demo", spec={"replicas": 1})
    await bridge.apply()
    await bridge.reconcile()
    told = await bridge.condition()
    assert (told["status"], told["reason"]) == ("False", "NameTaken")
    assert told["message"] == "ModelServing demo: exists and is not this set's; delete it, or use another name"
    assert (await bridge.find(MODEL_SERVINGS))["spec"] == {"replicas": 1}


async def test_a_set_that_cannot_be_read_or_served_says_why(bridge: Bridge) -> None:
    await bridge.apply(replicas="many")
    await bridge.reconcile()
    assert "spec.replicas" in (await bridge.condition())["message"]

    await bridge.apply(workerTemplate={"spec": {"containers": [{"name": "engine", "image": "two words"}]}})
    await bridge.reconcile()
    told = await bridge.condition()
    assert (told["status"], told["reason"]) == ("False", "Invalid")
    assert "image" in told["message"]
    assert await bridge.find(MODEL_SERVINGS) == {}


async def test_a_refused_write_is_an_error_to_try_again(bridge: Bridge) -> None:
    await bridge.apply()
    bridge.server.fail("create", 403)
    with pytest.raises(Forbidden):
        await bridge.reconcile()
    await bridge.reconcile()
    assert await bridge.find(MODEL_SERVINGS)
