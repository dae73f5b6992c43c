from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml

from baton.api import labels
from baton.kube.errors import Conflict, Forbidden, Invalid
from baton.kube.resources import CONFIG_MAPS, MODEL_ROUTES, PODS
from builders import serving
from fake_api_server import FakeApiServer
from functional.reconciler_fixture import Rig, model_server, route
from rendering_builders import pair

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from baton.kube.types import JsonObject

CONFIG_MAPS_PATH = "/api/v1/configmaps"
DOCUMENT = "demo-router-config"
PORTS = {"containers": [{"name": "engine", "image": "engine:1", "ports": [{"containerPort": 7100}]}]}
RAW = serving().role("prefill", entryTemplate={"spec": PORTS}).role("decode", entryTemplate={"spec": PORTS})
KEPT = "Not applied; the last good configuration stays in force"


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with FakeApiServer() as server, Rig.at(server) as made:
        yield made


async def condition(rig: Rig, kind: str, *, name: str = "demo") -> JsonObject:
    return await rig.condition(kind, of=MODEL_ROUTES, name=name)


async def document(rig: Rig) -> JsonObject:
    found = await rig.client.get(CONFIG_MAPS, "ns", DOCUMENT)
    content: JsonObject = yaml.safe_load(found["data"][labels.ROUTER_CONFIG_KEY])
    return content


async def version(rig: Rig) -> str:
    found = await rig.client.get(CONFIG_MAPS, "ns", DOCUMENT)
    return str(found["metadata"]["resourceVersion"])


async def settle(rig: Rig) -> None:
    """Serve a raw ModelServing with a route in force."""
    await rig.apply(RAW, route())
    await rig.serving()
    await rig.set_ready()
    await rig.route()


async def test_a_route_becomes_a_document_and_says_so(rig: Rig) -> None:
    await settle(rig)

    found = await rig.client.get(CONFIG_MAPS, "ns", DOCUMENT)
    (owner,) = found["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"], owner["controller"]) == (
        "ModelRoute",
        "demo",
        "uid-of-demo-route",
        True,
    )
    assert found["metadata"]["labels"] == {labels.ROUTER_CONFIG: "v1"}
    assert (await document(rig))["routes"][0]["modelName"] == "m"
    for kind, reason in (("Accepted", "Accepted"), ("ResolvedRefs", "ResolvedRefs"), ("Programmed", "Programmed")):
        told = await condition(rig, kind)
        assert (told["status"], told["reason"]) == ("True", reason)
    status = (await rig.client.get(MODEL_ROUTES, "ns", "demo"))["status"]
    assert status["observedGeneration"] == 1


async def test_nothing_is_written_when_nothing_changes(rig: Rig) -> None:
    await settle(rig)
    before = rig.writes()
    rig.clock.skip(60)
    await rig.route()
    assert rig.writes() == before


async def test_a_restarted_operator_writes_nothing_either(rig: Rig) -> None:
    await settle(rig)
    before = rig.writes()
    async with Rig.at(rig.server) as restarted:
        await restarted.route()
    assert rig.writes() == before


async def test_a_route_that_is_gone_or_going_is_left_alone(rig: Rig) -> None:
    await rig.route()
    going = route()
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    await rig.apply(going)
    await rig.route()
    assert rig.writes() == []


async def test_a_doubtful_route_is_in_force_and_its_warnings_are_told(rig: Rig) -> None:
    doubtful = route()
    doubtful["spec"]["rules"][0]["modelMatch"] = {"uri": {"exact": "/a", "prefix": "/b"}}
    await rig.apply(RAW, doubtful)
    await rig.route()
    told = await condition(rig, "Accepted")
    assert (told["status"], told["reason"]) == ("True", "AcceptedWithWarnings")
    assert "spec.rules[0].modelMatch.uri: exact decides" in told["message"]
    assert (await condition(rig, "Programmed"))["status"] == "True"


# The last good document


BAD = {
    "a field of another type": ({"rules": "none"}, "Invalid", "Accepted", "spec.rules"),
    "no model": ({"modelName": ""}, "Invalid", "Accepted", "spec: set modelName"),
    "a regular expression that is none": (
        {"rules": [{"modelMatch": {"uri": {"regex": "("}}, "targetModels": [{"modelServingName": "demo"}]}]},
        "Invalid",
        "Accepted",
        "spec.rules[0].modelMatch.uri.regex",
    ),
    "no rule": ({"rules": []}, "BackendNotFound", "ResolvedRefs", "spec.rules: there is no rule"),
    "a target that is not there": (
        {"rules": [{"targetModels": [{"modelServingName": "nobody"}]}]},
        "BackendNotFound",
        "ResolvedRefs",
        "there is no usable ModelServing 'nobody'",
    ),
    "one target of two that is not there": (
        {"rules": [{"targetModels": [{"modelServingName": "demo"}, {"modelServerName": "nobody"}]}]},
        "BackendNotFound",
        "ResolvedRefs",
        "spec.rules[0].targetModels[1].modelServerName",
    ),
}


@pytest.mark.parametrize(("spec", "reason", "kind", "text"), BAD.values(), ids=BAD)
async def test_a_bad_route_leaves_the_last_good_document_in_force(
    rig: Rig, spec: JsonObject, reason: str, kind: str, text: str
) -> None:
    await settle(rig)
    before = await version(rig)
    await rig.apply(route(**spec))
    assert await rig.route() is None

    assert await version(rig) == before
    told = await condition(rig, kind)
    assert (told["status"], told["reason"]) == ("False", reason)
    assert text in told["message"]
    programmed = await condition(rig, "Programmed")
    assert (programmed["status"], programmed["reason"], programmed["message"]) == ("False", reason, KEPT)

    await rig.apply(route())
    await rig.route()
    for mended in ("Accepted", "ResolvedRefs", "Programmed"):
        assert (await condition(rig, mended))["status"] == "True"
    assert await version(rig) == before


async def test_a_route_that_was_never_good_routes_nothing_and_says_so(rig: Rig) -> None:
    await rig.apply(route())
    await rig.route()
    assert (await condition(rig, "Programmed"))["message"] == "Not applied; no request is routed"
    assert await rig.names(CONFIG_MAPS) == []


async def test_a_target_whose_spec_cannot_be_read_leaves_the_document_as_it_is(rig: Rig) -> None:
    await settle(rig)
    before = await version(rig)
    broken = RAW.document()
    await rig.apply({**broken, "spec": {**broken["spec"], "replicas": "many"}})
    await rig.route()
    assert await version(rig) == before
    assert "no usable ModelServing 'demo'" in (await condition(rig, "ResolvedRefs"))["message"]


# The ConfigMap


@pytest.mark.parametrize(
    "drift",
    [
        {"data": {labels.ROUTER_CONFIG_KEY: "version: v0"}},
        {"data": {labels.ROUTER_CONFIG_KEY: None}},
        {"metadata": {"ownerReferences": None}},
    ],
)
async def test_a_document_that_was_changed_is_put_right(rig: Rig, drift: JsonObject) -> None:
    await settle(rig)
    before = await rig.client.get(CONFIG_MAPS, "ns", DOCUMENT)
    await rig.client.patch(CONFIG_MAPS, "ns", DOCUMENT, drift)
    await rig.route()
    after = await rig.client.get(CONFIG_MAPS, "ns", DOCUMENT)
    assert after["data"] == before["data"]
    assert after["metadata"]["ownerReferences"] == before["metadata"]["ownerReferences"]


async def test_what_others_add_to_a_document_may_stay(rig: Rig) -> None:
    await settle(rig)
    await rig.client.patch(CONFIG_MAPS, "ns", DOCUMENT, {"data": {"notes.txt": "x"}})
    before = rig.writes()
    await rig.route()
    assert rig.writes() == before


async def test_a_document_that_was_deleted_comes_back(rig: Rig) -> None:
    await settle(rig)
    before = await document(rig)
    await rig.client.delete(CONFIG_MAPS, "ns", DOCUMENT)
    await rig.route()
    assert await document(rig) == before


async def test_a_document_without_its_label_gets_it_back(rig: Rig) -> None:
    await settle(rig)
    await rig.client.patch(CONFIG_MAPS, "ns", DOCUMENT, {"metadata": {"labels": None}})
    await rig.look()
    rig.stores["documents"][1].keep_only(set())  # as the watch with a selector tells it
    await rig.route_as_seen()
    found = await rig.client.get(CONFIG_MAPS, "ns", DOCUMENT)
    assert found["metadata"]["labels"] == {labels.ROUTER_CONFIG: "v1"}


async def test_a_route_made_anew_takes_over_the_document_of_its_predecessor(rig: Rig) -> None:
    await settle(rig)
    successor = route()
    successor["metadata"]["uid"] = "uid-of-successor"
    await rig.apply(successor)
    await rig.route()
    found = await rig.client.get(CONFIG_MAPS, "ns", DOCUMENT)
    assert [owner["uid"] for owner in found["metadata"]["ownerReferences"]] == ["uid-of-successor"]


@pytest.mark.parametrize(
    "metadata",
    [{}, {"ownerReferences": [{"kind": "Deployment", "name": "web", "uid": "w", "controller": True}]}],
    ids=["of nobody", "of somebody else"],
)
@pytest.mark.parametrize("is_seen", [False, True])
async def test_a_config_map_that_was_not_made_for_the_route_is_not_touched(
    rig: Rig, metadata: JsonObject, is_seen: bool
) -> None:
    if is_seen and not metadata:
        metadata = {"ownerReferences": [{"kind": "ModelRoute", "name": "other", "uid": "o", "controller": True}]}
    rig.server.put(CONFIG_MAPS_PATH, DOCUMENT, metadata=metadata, data={"theirs": "x"})
    await rig.apply(RAW, route())
    await rig.look()
    if not is_seen:
        rig.stores["documents"][1].keep_only(set())
    with pytest.raises(Conflict):
        await rig.route_as_seen()

    assert (await rig.client.get(CONFIG_MAPS, "ns", DOCUMENT))["data"] == {"theirs": "x"}
    told = await condition(rig, "Programmed")
    assert (told["status"], told["reason"]) == ("False", "ConfigMapRefused")
    assert f"ConfigMap {DOCUMENT} exists and belongs to somebody else; delete it" in told["message"]

    rig.server.remove(CONFIG_MAPS_PATH, DOCUMENT)
    await rig.route()
    assert (await condition(rig, "Programmed"))["status"] == "True"


@pytest.mark.parametrize(("code", "kind"), [(403, Forbidden), (422, Invalid)])
async def test_a_document_that_is_refused_is_told_in_the_servers_words(
    rig: Rig, code: int, kind: type[Exception]
) -> None:
    await rig.apply(RAW, route())
    rig.refuse("patch", code, "Refused", "exceeded quota: configmaps")
    with pytest.raises(kind):
        await rig.route()
    told = await condition(rig, "Programmed")
    assert told["status"] == "False"
    assert told["message"].startswith("Not applied: exceeded quota: configmaps")
    assert (await condition(rig, "ResolvedRefs"))["status"] == "True"


# Endpoints


async def test_ready_endpoints_are_counted_by_phase(rig: Rig) -> None:
    await settle(rig)
    assert (await condition(rig, "Programmed"))["message"] == "Ready endpoints: serving/demo: 1 prefill, 1 decode"
    await rig.set_ready("demo-0-decode-0-0", ready=False)
    await rig.route()
    assert (await condition(rig, "Programmed"))["message"] == "Ready endpoints: serving/demo: 1 prefill, 0 decode"


async def test_a_route_without_ready_endpoints_is_in_force_and_says_so(rig: Rig) -> None:
    await rig.apply(RAW, route())
    await rig.route()
    told = await condition(rig, "Programmed")
    assert (told["status"], told["reason"]) == ("True", "NoReadyEndpoints")


async def test_every_rank_of_a_typed_pod_is_an_endpoint(rig: Rig) -> None:
    typed = pair().document()
    typed["metadata"] = {"name": "demo", "uid": "uid-of-demo"}
    await rig.apply(typed, route())
    await rig.serving()
    await rig.set_ready()
    await rig.route()
    assert (await condition(rig, "Programmed"))["message"] == "Ready endpoints: serving/demo: 2 prefill, 4 decode"


async def test_pods_that_no_model_serving_made_are_counted_now_and_then(rig: Rig) -> None:
    for name, own in (("a", {"app": "engine"}), ("b", {"app": "engine"}), ("c", {"app": "other"})):
        rig.server.put("/api/v1/pods", name, metadata={"labels": own})
    await rig.set_ready()
    await rig.apply(model_server(), route({"modelServerName": "demo"}))
    rig.server.requests.clear()

    assert await rig.route() == 30
    assert (await condition(rig, "Programmed"))["message"] == "Ready endpoints: server/demo: 2"
    assert any("app%3Dengine" in seen.path for seen in rig.server.requests if seen.verb == "list")

    await rig.set_ready("a", ready=False)
    assert await rig.route() == 30
    assert (await condition(rig, "Programmed"))["message"] == "Ready endpoints: server/demo: 1"


async def test_pods_of_a_model_serving_behind_a_server_are_counted_from_the_cache(rig: Rig) -> None:
    selector = {"matchLabels": {labels.NAME: "demo", labels.ROLE: "decode"}}
    await rig.apply(RAW, model_server(workloadSelector=selector), route({"modelServerName": "demo"}))
    await rig.serving()
    await rig.set_ready()
    assert await rig.route() is None
    assert (await condition(rig, "Programmed"))["message"] == "Ready endpoints: server/demo: 1"


async def test_pods_that_cannot_be_listed_do_not_keep_the_document_back(rig: Rig) -> None:
    await rig.apply(model_server(), route({"modelServerName": "demo"}))
    await rig.look()
    rig.refuse("list", 403, "Forbidden", "pods is forbidden")
    with pytest.raises(Forbidden):
        await rig.route_as_seen()
    assert (await document(rig))["backends"][0]["name"] == "server/demo"


async def test_pods_of_other_namespaces_are_not_counted(rig: Rig) -> None:
    await settle(rig)
    pod = await rig.client.get(PODS, "ns", "demo-0-decode-0-0")
    rig.server.put(
        "/api/v1/pods",
        "demo-0-decode-0-0",
        namespace="far",
        metadata={"labels": pod["metadata"]["labels"]},
        status=pod["status"],
    )
    await rig.route()
    assert (await condition(rig, "Programmed"))["message"] == "Ready endpoints: serving/demo: 1 prefill, 1 decode"
