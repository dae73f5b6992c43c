"""The operator's caches, queues and reconcilers together. The tests hand over the events that kopf would."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from baton.api import labels
from baton.kube.client import Client
from baton.kube.clock import SystemClock
from baton.kube.errors import ApiError
from baton.kube.events import EventRecorder
from baton.kube.resources import CONFIG_MAPS, MODEL_ROUTES, MODEL_SERVINGS, PODS
from baton.manager import wiring
from baton.manager.listing import listings
from baton.manager.settings import OperatorSettings
from builders import serving
from fake_api_server import FakeApiServer
from functional.reconciler_fixture import model_server, route
from rendering_builders import pair

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from baton.kube.types import JsonObject, Resource

PORTS = {"containers": [{"name": "engine", "image": "engine:1", "ports": [{"containerPort": 7100}]}]}


class Operator:
    """Runs what manager.wiring wires, without kopf and probes."""

    def __init__(self, server: FakeApiServer, client: Client) -> None:
        self.server = server
        self.client = client
        self.generation = 0
        self.caches = wiring.caches_of(client)
        recorder = EventRecorder(client, clock=SystemClock())
        self.settings = OperatorSettings(leader_worker_sets=True)
        self.controllers = wiring.controllers_of(client, self.caches, recorder, self.settings)

    def apply(self, document: JsonObject) -> None:
        resource = next(kind for kind in self.caches.kinds if kind.kind == document["kind"])
        self.generation += 1
        metadata = {**document["metadata"], "namespace": "ns", "generation": self.generation}
        found = self.server.put(
            resource.path(None), metadata["name"], metadata=metadata, kind=document["kind"], spec=document["spec"]
        )
        self.caches.kinds[resource].offer("MODIFIED", found)

    async def condition(self, resource: Resource, name: str, kind: str) -> JsonObject:
        found = (await self.client.get(resource, "ns", name)).get("status", {}).get("conditions", [])
        return next((entry for entry in found if entry["type"] == kind), {})

    async def programmed(self, name: str = "demo") -> str:
        return str((await self.condition(MODEL_ROUTES, name, "Programmed")).get("message"))

    async def pods(self, name: str) -> list[str]:
        selector = f"{labels.NAME}={name}"
        return [item["metadata"]["name"] for item in (await self.client.list(PODS, label_selector=selector))["items"]]

    async def set_ready(self, name: str) -> None:
        status = {"phase": "Running", "podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]}
        await self.client.patch_status(PODS, "ns", name, status)


@pytest.fixture
async def operator() -> AsyncIterator[Operator]:
    async with FakeApiServer() as server, Client.from_url(server.url) as client:
        made = Operator(server, client)
        async with running(made):
            yield made


@asynccontextmanager
async def running(made: Operator) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        tasks = [
            *(group.create_task(source.run()) for source in made.caches.reflectors),
            *(group.create_task(kind.run()) for kind in made.caches.optional(made.settings)),
            *(group.create_task(entry.run()) for entry in listings(made.client, made.caches.kinds, random=lambda: 0.5)),
            *(group.create_task(controller.run()) for controller in made.controllers),
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()


async def until(is_true: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(10):
        while not await is_true():  # noqa: ASYNC110 # the condition is the server's, not ours to signal
            await asyncio.sleep(0.01)


def typed_route(name: str, **target: str) -> JsonObject:
    return route(target, name=name)


def raw(name: str = "demo", **spec: Any) -> JsonObject:
    return serving(name, **spec).role("decode", entryTemplate={"spec": PORTS}).document()


async def test_an_object_becomes_pods_and_a_lost_pod_comes_back(operator: Operator) -> None:
    operator.apply(raw())

    async def is_there() -> bool:
        return await operator.pods("demo") == ["demo-0-decode-0-0"]

    await until(is_there)
    await operator.set_ready("demo-0-decode-0-0")

    async def is_available() -> bool:
        return (await operator.condition(MODEL_SERVINGS, "demo", "Available")).get("status") == "True"

    await until(is_available)
    operator.server.remove("/api/v1/pods", "demo-0-decode-0-0")
    await until(is_there)


async def test_a_route_follows_its_pods_its_serving_and_its_server(operator: Operator) -> None:
    operator.apply(typed_route("demo", modelServingName="demo"))
    selector = {"matchLabels": {labels.NAME: "demo"}}
    operator.apply(typed_route("behind", modelServerName="server"))

    async def says(name: str, text: str) -> bool:
        return text in await operator.programmed(name)

    await until(lambda: says("demo", "no request is routed"))
    await until(lambda: says("behind", "no request is routed"))

    operator.apply(raw(replicas=0))  # it has no pods that could tell of it
    await until(lambda: says("demo", "Ready endpoints: serving/demo: 0"))
    operator.apply(raw())

    async def has_pods() -> bool:
        return bool(await operator.pods("demo"))

    await until(has_pods)
    operator.apply(model_server("server", workloadSelector=selector))
    await until(lambda: says("behind", "Ready endpoints: server/server: 0"))

    await operator.set_ready("demo-0-decode-0-0")
    await until(lambda: says("demo", "Ready endpoints: serving/demo: 1"))
    await until(lambda: says("behind", "Ready endpoints: server/server: 1"))


async def test_a_changed_template_renders_anew_whoever_names_it_and_nobody_else(operator: Operator) -> None:
    labelled = {"labels": {labels.TEMPLATES: "true"}}
    for name in ("one", "other"):
        document = pair(templates={"configMap": f"of-{name}"}).document()
        operator.apply({**document, "metadata": {"name": name, "uid": f"uid-of-{name}"}})
        operator.server.put("/api/v1/configmaps", f"of-{name}", data={"ready.sh.j2": "exit 0\n"})

    async def has_launches(name: str, *texts: str) -> bool:
        found = await operator.client.list(CONFIG_MAPS, label_selector=f"{labels.NAME}={name},{labels.LAUNCH}=decode")
        return {item["data"]["ready.sh"] for item in found["items"]} == set(texts)

    async def is_refused() -> bool:
        return (await operator.condition(MODEL_SERVINGS, "other", "Accepted")).get("status") == "False"

    await until(is_refused)
    for name in ("one", "other"):
        operator.server.put("/api/v1/configmaps", f"of-{name}", metadata=labelled, data={"ready.sh.j2": "exit 0\n"})
        await until(partial(has_launches, name, "exit 0\n"))

    operator.server.put("/api/v1/configmaps", "of-one", metadata=labelled, data={"ready.sh.j2": "exit 1\n"})
    await until(partial(has_launches, "one", "exit 0\n", "exit 1\n"))
    assert await has_launches("other", "exit 0\n")


async def test_a_document_that_disappears_is_written_again(operator: Operator) -> None:
    operator.apply(raw())
    operator.apply(typed_route("demo", modelServingName="demo"))

    async def is_there() -> bool:
        names = [item["metadata"]["name"] for item in (await operator.client.list(CONFIG_MAPS))["items"]]
        return names == ["demo-router-config"]

    await until(is_there)
    operator.server.remove("/api/v1/configmaps", "demo-router-config")
    await until(is_there)


async def test_a_bad_object_stops_no_other_and_a_refusal_is_tried_again(operator: Operator) -> None:
    quota = {"kind": "Status", "code": 403, "reason": "Forbidden", "message": "exceeded quota: npus"}
    operator.server.fail("create", 403, times=3, body=orjson.dumps(quota))
    operator.apply(raw("short"))

    async def is_told(name: str, condition: str, status: str) -> bool:
        return (await operator.condition(MODEL_SERVINGS, name, condition)).get("status") == status

    await until(lambda: is_told("short", "Reconciled", "True"))
    assert await operator.pods("short") == ["short-0-decode-0-0"]

    operator.server.put("/api/v1/pods", "taken-0-decode-0-0", uid="foreign")
    operator.apply(raw("taken"))
    operator.apply(raw("unreadable", replicas="many"))
    operator.apply(raw("fine"))

    async def is_fine() -> bool:
        return await operator.pods("fine") == ["fine-0-decode-0-0"]

    await until(is_fine)
    await until(lambda: is_told("taken", "Reconciled", "False"))
    await until(lambda: is_told("unreadable", "Accepted", "False"))

    operator.server.remove("/api/v1/pods", "taken-0-decode-0-0")
    await until(lambda: is_told("taken", "Reconciled", "True"))


async def test_an_outage_of_the_api_server_is_survived(operator: Operator) -> None:
    operator.apply(raw())

    async def is_there() -> bool:
        return await operator.pods("demo") == ["demo-0-decode-0-0"]

    await until(is_there)
    for verb in ("list", "create", "patch"):
        operator.server.fail(verb, 503, times=2)
    operator.server.cut_watches()
    operator.server.remove("/api/v1/pods", "demo-0-decode-0-0", is_told=False)

    async def is_back() -> bool:
        try:
            return await is_there()
        except ApiError:  # the faults hit the test's own list, too
            return False

    await until(is_back)
