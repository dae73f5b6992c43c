from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from baton.api import labels
from baton.api.admission import check_route, check_server
from baton.api.route import ModelRoute
from baton.api.server import ModelServer
from baton.api.serving import ModelServing
from baton.controllers.projection import document_record, kind_projection, pod_record
from baton.controllers.routes import RouteStores, config_map_name
from baton.kube.store import Store

if TYPE_CHECKING:
    from baton.kube.types import JsonObject

_versions = count(1)


@pytest.fixture
def stores() -> RouteStores:
    made = RouteStores(
        routes=Store(kind_projection(ModelRoute, check_route)),
        servers=Store(kind_projection(ModelServer, check_server)),
        servings=Store(kind_projection(ModelServing)),
        pods=Store(pod_record),
        config_maps=Store(document_record),
    )
    made.index_references()
    return made


def named(name: str, namespace: str = "ns", **metadata: Any) -> JsonObject:
    return {
        "name": name,
        "namespace": namespace,
        "uid": f"uid-{name}",
        "resourceVersion": str(next(_versions)),
        **metadata,
    }


def route(name: str, *, namespace: str = "ns", **target: str) -> JsonObject:
    spec = {"modelName": "m", "rules": [{"targetModels": [target]}]}
    return {"metadata": named(name, namespace), "spec": spec}


def server(name: str, *, namespace: str = "ns", **wanted: str) -> JsonObject:
    spec = {"inferenceEngine": "vLLM", "workloadSelector": {"matchLabels": wanted}, "workloadPort": {"port": 8000}}
    return {"metadata": named(name, namespace), "spec": spec}


def pod(name: str, *, owner: str = "", namespace: str = "ns", **own: str) -> JsonObject:
    references = [{"kind": "ModelServing", "name": owner, "uid": "u", "controller": True}] if owner else []
    return {"metadata": named(name, namespace, labels=own, ownerReferences=references)}


def test_a_change_of_a_server_concerns_the_routes_that_point_to_it(stores: RouteStores) -> None:
    for found in (
        route("one", modelServerName="s"),
        route("two", modelServerName="s"),
        route("other", modelServerName="t"),
        route("serving", modelServingName="s"),
        route("elsewhere", namespace="far", modelServerName="s"),
    ):
        stores.routes.offer("ADDED", found)
    changed = kind_projection(ModelServer)(server("s", app="x"))
    assert sorted(stores.routes_of_server(changed)) == [("ns", "one"), ("ns", "two")]


def test_a_change_of_a_serving_concerns_the_routes_that_point_to_it(stores: RouteStores) -> None:
    stores.routes.offer("ADDED", route("one", modelServingName="s"))
    stores.routes.offer("ADDED", route("server", modelServerName="s"))
    changed = kind_projection(ModelServing)({"metadata": named("s"), "spec": {}})
    assert list(stores.routes_of_serving(changed)) == [("ns", "one")]


def test_a_route_that_points_elsewhere_now_is_not_concerned_any_more(stores: RouteStores) -> None:
    stores.routes.offer("ADDED", route("one", modelServerName="s"))
    stores.routes.offer("MODIFIED", route("one", modelServerName="t"))
    changed = kind_projection(ModelServer)(server("s", app="x"))
    assert list(stores.routes_of_server(changed)) == []


def test_a_pod_concerns_the_routes_of_its_serving_and_of_the_servers_that_select_it(stores: RouteStores) -> None:
    stores.servers.offer("ADDED", server("chosen", app="x"))
    stores.servers.offer("ADDED", server("strict", app="x", zone="1"))
    stores.servers.offer("ADDED", server("elsewhere", namespace="far", app="x"))
    for found in (
        route("by-serving", modelServingName="demo"),
        route("by-server", modelServerName="chosen"),
        route("not-chosen", modelServerName="strict"),
        route("far", namespace="far", modelServerName="elsewhere"),
    ):
        stores.routes.offer("ADDED", found)
    record = pod_record(pod("p", owner="demo", app="x"))
    assert sorted(stores.routes_of_pod(record)) == [("ns", "by-server"), ("ns", "by-serving")]


def test_a_pod_of_nobody_concerns_nobody(stores: RouteStores) -> None:
    stores.routes.offer("ADDED", route("one", modelServingName="demo"))
    assert list(stores.routes_of_pod(pod_record(pod("p")))) == []


@pytest.mark.parametrize(
    "spec", [None, {}, {"workloadSelector": None}, {"workloadSelector": {"matchLabels": {"app": "no label"}}}]
)
def test_a_server_that_cannot_be_used_selects_no_pods(stores: RouteStores, spec: JsonObject | None) -> None:
    stores.servers.offer("ADDED", {"metadata": named("broken"), "spec": spec})
    stores.routes.offer("ADDED", route("one", modelServerName="broken"))
    assert list(stores.routes_of_pod(pod_record(pod("p", app="no label")))) == []


def test_a_route_that_cannot_be_read_points_nowhere(stores: RouteStores) -> None:
    stores.routes.offer("ADDED", {"metadata": named("broken"), "spec": {"rules": "none"}})
    stores.routes.offer("ADDED", {"metadata": named("empty")})
    changed = kind_projection(ModelServer)(server("s", app="x"))
    assert list(stores.routes_of_server(changed)) == []


def test_pods_are_found_by_the_name_their_label_gives(stores: RouteStores) -> None:
    stores.pods.offer("ADDED", pod("a", **{labels.NAME: "demo"}))
    stores.pods.offer("ADDED", pod("b", **{labels.NAME: "other"}))
    stores.pods.offer("ADDED", pod("c"))
    assert [record.view.name for record in stores.pods.by_index("named", ("ns", "demo"))] == ["a"]


def test_a_document_is_named_after_its_route() -> None:
    assert config_map_name("dsv4") == "dsv4-router-config"
