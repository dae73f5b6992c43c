from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from prometheus_client import REGISTRY

import virtual_time
from baton.api import labels
from baton.kube.errors import Forbidden, Transient
from baton.router.live_directory import LiveDirectory
from baton.router.watch import ConfigWatch
from baton.routing.types import RequestFacts
from routing_builders import config, pod, selector

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from baton.api.meta import JsonObject
    from baton.kube.errors import ApiError
    from baton.kube.types import Resource

A_MOMENT = 1.0
"""Virtual seconds, within which the router follows every change."""


class Cluster:
    """The API server's lists and watches, in memory."""

    def __init__(self) -> None:
        self.version = 0
        self.objects: dict[str, dict[tuple[str, str], JsonObject]] = defaultdict(dict)
        self.watches: list[tuple[str, str | None, str | None, asyncio.Queue[JsonObject | ApiError]]] = []
        self.failures: dict[str, ApiError] = {}

    def put(self, plural: str, found: JsonObject) -> None:
        self.version += 1
        metadata = {"uid": found["metadata"]["name"], **found["metadata"], "resourceVersion": str(self.version)}
        stored = {**found, "metadata": metadata}
        self.objects[plural][metadata["namespace"], metadata["name"]] = stored
        self._tell(plural, "MODIFIED", stored)

    def remove(self, plural: str, name: str, namespace: str = "ns") -> None:
        self.version += 1
        found = self.objects[plural].pop((namespace, name))
        metadata = {**found["metadata"], "resourceVersion": str(self.version)}
        self._tell(plural, "DELETED", {**found, "metadata": metadata})

    def fail(self, error: ApiError) -> None:
        """End all watches and refuse new lists and watches with this error."""
        self.failures = {"pods": error, "configmaps": error}
        for *_, queue in self.watches:
            queue.put_nowait(error)

    def selectors(self, plural: str) -> set[str | None]:
        return {selected for watched, _, selected, _ in self.watches if watched == plural}

    async def list_pages(
        self, resource: Resource, namespace: str | None = None, *, label_selector: str | None = None, **_: Any
    ) -> AsyncGenerator[JsonObject, None]:
        if (failure := self.failures.get(resource.plural)) is not None:
            raise failure
        await asyncio.sleep(0.05)
        found = self.objects[resource.plural].values()
        items = [one for one in found if is_selected(one, namespace, label_selector)]
        yield {"items": items, "metadata": {"resourceVersion": str(self.version)}}

    async def watch(
        self, resource: Resource, namespace: str | None = None, *, label_selector: str | None = None, **_: Any
    ) -> AsyncGenerator[JsonObject, None]:
        queue: asyncio.Queue[JsonObject | ApiError] = asyncio.Queue()
        entry = (resource.plural, namespace, label_selector, queue)
        self.watches.append(entry)
        try:
            while not isinstance(line := await queue.get(), Exception):
                yield line
            raise line
        finally:
            self.watches.remove(entry)

    def _tell(self, plural: str, kind: str, found: JsonObject) -> None:
        for watched, namespace, selected, queue in self.watches:
            if watched == plural and is_selected(found, namespace, selected):
                queue.put_nowait({"type": kind, "object": found})


def is_selected(found: JsonObject, namespace: str | None, label_selector: str | None) -> bool:
    own = found["metadata"].get("labels", {})
    wanted = [part.partition("=") for part in (label_selector or "").split(",") if part]
    return namespace in {None, found["metadata"]["namespace"]} and all(
        name in own and (not sign or own[name] == value) for name, sign, value in wanted
    )


def config_map(name: str = "route", text: str | None = None, *, namespace: str = "ns", **fields: Any) -> JsonObject:
    if text is None:
        fields = {"backend": {"selector": selector(namespace)}, **fields}
        text = yaml.safe_dump(config(name=f"{namespace}/{name}", **fields).document())
    metadata = {"name": name, "namespace": namespace, "labels": {labels.ROUTER_CONFIG: "v1"}}
    return {"metadata": metadata, "data": {labels.ROUTER_CONFIG_KEY: text}}


def running(story: Callable[[Cluster, LiveDirectory], Awaitable[None]], *, namespaces: tuple[str, ...] = ()) -> None:
    """Let a watch follow a cluster while the story is told, in virtual time."""

    async def tell() -> None:
        cluster, directory = Cluster(), LiveDirectory(lambda: 0.0)
        watch = ConfigWatch(cluster, directory, namespaces=namespaces)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(watch.run())
            await story(cluster, directory)
            task.cancel()

    virtual_time.run(tell())


async def a_moment() -> None:
    await asyncio.sleep(A_MOMENT)


def endpoints(directory: LiveDirectory, model: str = "m") -> list[str]:
    """Return what requests for a model may be sent to, by excluding one choice after the other."""
    match = directory.match(RequestFacts(model, "/v1/completions"))
    found: list[str] = []
    while match is not None and (choice := directory.choose(match, excluded=frozenset(found))) is not None:
        found.append(choice.decode.name)
    return sorted(found)


def rejected(kind: str) -> float:
    return REGISTRY.get_sample_value(f"baton_router_{kind}_rejected_total") or 0.0


def test_an_empty_cluster_makes_the_router_ready() -> None:
    async def story(_: Cluster, directory: LiveDirectory) -> None:
        assert not directory.ready
        await a_moment()
        assert directory.ready

    running(story)


def test_what_is_there_at_the_start_is_in_force_when_the_router_is_ready() -> None:
    async def story(cluster: Cluster, directory: LiveDirectory) -> None:
        cluster.put("configmaps", config_map())
        cluster.put("pods", pod("p-0"))
        for _ in range(1000):
            await asyncio.sleep(0.001)
            if directory.ready:
                break
        assert endpoints(directory) == ["ns/p-0:8000"]

    running(story)


def test_routes_and_pods_are_followed() -> None:
    async def story(cluster: Cluster, directory: LiveDirectory) -> None:
        await a_moment()
        cluster.put("configmaps", config_map())
        await a_moment()
        assert (directory.models(), endpoints(directory)) == (["m"], [])
        cluster.put("pods", pod("p-0"))
        cluster.put("pods", pod("p-1"))
        await a_moment()
        assert endpoints(directory) == ["ns/p-0:8000", "ns/p-1:8000"]
        cluster.put("pods", pod("p-0", ready=False))
        cluster.remove("pods", "p-1")
        await a_moment()
        assert endpoints(directory) == []
        cluster.remove("configmaps", "route")
        await a_moment()
        assert directory.models() == []

    running(story)


def test_pods_are_watched_once_a_selector_and_only_while_it_is_used() -> None:
    async def story(cluster: Cluster, directory: LiveDirectory) -> None:
        cluster.put("configmaps", config_map("one", model="m"))
        cluster.put("configmaps", config_map("two", model="n"))
        cluster.put("configmaps", config_map("three", model="o", backend={"selector": selector(app="x")}))
        await a_moment()
        assert sorted(cluster.selectors("pods"), key=str) == ["app=m", "app=x"]
        assert len(cluster.watches) == 3
        cluster.remove("configmaps", "one")
        cluster.remove("configmaps", "three")
        await a_moment()
        assert cluster.selectors("pods") == {"app=m"}
        assert directory.models() == ["n"]

    running(story)


def test_a_route_changes_its_pods_without_a_gap() -> None:
    async def story(cluster: Cluster, directory: LiveDirectory) -> None:
        cluster.put("configmaps", config_map())
        cluster.put("pods", pod("old"))
        cluster.put("pods", pod("new", {"app": "x"}))
        await a_moment()
        cluster.put("configmaps", config_map(backend={"selector": selector(app="x")}))
        seen = set()
        for _ in range(500):
            await asyncio.sleep(0.001)
            seen.add(tuple(endpoints(directory)))
        assert seen == {("ns/old:8000",), ("ns/new:8000",)}
        assert endpoints(directory) == ["ns/new:8000"]

    running(story)


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        (config_map(text="routes: ["), "document: no valid YAML"),
        (config_map(text="version: v2"), "version: "),
        (config_map(backend={"selector": selector("other")}), "backends[0].selector.namespace"),
        ({**config_map(), "data": None}, "data: router.yaml is missing"),
    ],
    ids=["yaml", "version", "namespace", "data"],
)
def test_a_bad_document_keeps_the_last_good_one_and_is_told_once(
    bad: JsonObject, field: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def story(cluster: Cluster, directory: LiveDirectory) -> None:
        cluster.put("configmaps", config_map())
        cluster.put("configmaps", config_map("other", model="n"))
        await a_moment()
        before = rejected("config")
        cluster.put("configmaps", bad)
        cluster.put("pods", pod("p-0"))
        await a_moment()
        assert endpoints(directory) == endpoints(directory, "n") == ["ns/p-0:8000"]
        assert rejected("config") == before + 1
        (told,) = [record for record in caplog.records if "refused" in record.message]
        assert told.baton_fields["config_map"] == "ns/route"  # type: ignore[attr-defined] # the logs' own extra
        assert told.baton_fields["faults"].startswith(field)  # type: ignore[attr-defined]
        cluster.put("configmaps", config_map(model="mended"))
        await a_moment()
        assert directory.models() == ["mended", "n"]

    running(story)


def test_a_bad_document_from_the_start_does_not_keep_the_others_waiting() -> None:
    async def story(cluster: Cluster, directory: LiveDirectory) -> None:
        cluster.put("configmaps", config_map("bad", text="version: v2"))
        cluster.put("configmaps", config_map())
        await a_moment()
        assert directory.ready
        assert directory.models() == ["m"]

    running(story)


def test_a_pod_with_a_bad_annotation_is_left_out_and_told_once() -> None:
    async def story(cluster: Cluster, directory: LiveDirectory) -> None:
        cluster.put("configmaps", config_map())
        cluster.put("pods", pod("good-0"))
        await a_moment()
        before = rejected("pods")
        cluster.put("pods", pod("bad-0", announced="{"))
        cluster.put("pods", pod("bad-0", announced="{", ready=False))
        await a_moment()
        assert endpoints(directory) == ["ns/good-0:8000"]
        assert rejected("pods") == before + 1

    running(story)


def test_an_outage_of_the_api_server_changes_nothing() -> None:
    async def story(cluster: Cluster, directory: LiveDirectory) -> None:
        cluster.put("configmaps", config_map())
        cluster.put("pods", pod("p-0"))
        cluster.put("pods", pod("p-1"))
        await a_moment()
        cluster.fail(Transient(0, "NotSent", "no connection"))
        cluster.remove("pods", "p-1")
        await asyncio.sleep(600)
        assert directory.ready
        assert endpoints(directory) == ["ns/p-0:8000", "ns/p-1:8000"]
        cluster.failures.clear()
        await asyncio.sleep(20)
        assert endpoints(directory) == ["ns/p-0:8000"]

    running(story)


def test_the_router_is_not_ready_before_the_documents_are_listed() -> None:
    async def story(cluster: Cluster, directory: LiveDirectory) -> None:
        cluster.fail(Transient(0, "NotSent", "no connection"))
        await asyncio.sleep(600)
        assert not directory.ready

    running(story)


def test_pods_that_cannot_be_listed_keep_neither_the_route_nor_readiness_for_ever() -> None:
    async def story(cluster: Cluster, directory: LiveDirectory) -> None:
        cluster.failures["pods"] = Forbidden(403, "Forbidden", "no")
        cluster.put("configmaps", config_map())
        await a_moment()
        was_ready = directory.ready
        await asyncio.sleep(15)
        assert (was_ready, directory.ready) == (False, True)
        assert directory.models() == ["m"]

    running(story)


def test_only_the_namespaces_asked_for_count() -> None:
    async def story(cluster: Cluster, directory: LiveDirectory) -> None:
        for namespace in ("one", "two", "three"):
            cluster.put("configmaps", config_map(namespace=namespace, model=namespace))
        await a_moment()
        assert directory.models() == ["one", "two"]

    running(story, namespaces=("one", "two"))
