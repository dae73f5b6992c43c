"""Specs that cannot be acted upon: what ran before goes on, is healed, and the status says why."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from baton.kube.resources import CONTROLLER_REVISIONS, MODEL_SERVINGS, PODS
from builders import serving
from fake_api_server import FakeApiServer
from functional.reconciler_fixture import KEY, Rig
from rendering_builders import pair

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from baton.kube.types import JsonObject

PAIR = serving().role("prefill").role("decode", workers=1)


@pytest.fixture
async def server() -> AsyncIterator[FakeApiServer]:
    async with FakeApiServer() as running:
        yield running


@pytest.fixture
async def rig(server: FakeApiServer) -> AsyncIterator[Rig]:
    async with Rig.at(server) as made:
        yield made


async def settle(rig: Rig) -> None:
    """Create everything and let it become ready."""
    await rig.apply(PAIR)
    await rig.serving()
    await rig.set_ready()
    await rig.serving()


async def status(rig: Rig) -> JsonObject:
    found: JsonObject = (await rig.client.get(MODEL_SERVINGS, *KEY))["status"]
    return found


def unreadable(**change: object) -> JsonObject:
    document = PAIR.document()
    return {**document, "spec": {**document["spec"], **change}}


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"replicas": "many"}, "spec.replicas: should be a valid integer"),
        ({"template": {"roles": []}}, "spec.template.roles: "),
        ({"template": {"roles": [{"name": "decode"}]}}, "spec.template.roles[0].entryTemplate: is required"),
        ({"recoveryPolicy": "Sometimes"}, "spec.recoveryPolicy: should be 'ServingGroupRecreate'"),
    ],
)
async def test_a_spec_that_cannot_be_used_is_told_with_its_field_and_nothing_is_touched(
    rig: Rig, change: JsonObject, path: str
) -> None:
    await settle(rig)
    before, seen = await rig.uids(PODS), (await status(rig))["observedGeneration"]
    await rig.apply(unreadable(**change))
    assert await rig.serving() is None

    refused = await rig.condition("Accepted")
    assert (refused["status"], refused["reason"], refused["observedGeneration"]) == ("False", "Invalid", 2)
    assert path in refused["message"]
    assert await rig.uids(PODS) == before
    assert (await status(rig))["observedGeneration"] == seen, "the counters are not of the refused generation"

    await rig.apply(PAIR)
    await rig.serving()
    assert (await rig.condition("Accepted"))["status"] == "True"


async def test_an_engine_that_cannot_work_is_refused_and_its_pods_stay(rig: Rig) -> None:
    document = pair().document()
    document["metadata"] = {"name": "demo", "uid": "uid-of-demo"}
    await rig.apply(document)
    await rig.serving()
    before = await rig.uids(PODS)
    document["spec"]["template"]["roles"][0]["engine"]["parallel"]["tensor"] = 64
    await rig.apply(document)
    await rig.serving()

    refused = await rig.condition("Accepted")
    assert (refused["status"], refused["reason"]) == ("False", "Invalid")
    assert "spec.template.roles[0].engine.parallel" in refused["message"]
    assert await rig.uids(PODS) == before


async def test_what_ran_before_is_healed_while_the_spec_is_refused(rig: Rig) -> None:
    await settle(rig)
    before = await rig.uids(PODS)
    await rig.apply(unreadable(template={"roles": [{"name": "decode"}]}, replicas=7))
    await rig.serving()
    rig.server.remove("/api/v1/pods", "demo-0-prefill-0-0")
    await rig.serving()
    after = await rig.uids(PODS)
    assert after.keys() == before.keys()
    assert {name for name in after if after[name] == before[name]} == {"demo-0-decode-0-0", "demo-0-decode-0-1"}
    assert (await status(rig))["availableReplicas"] == 0
    await rig.set_ready("demo-0-prefill-0-0")
    await rig.serving()
    found = await status(rig)
    assert (found["availableReplicas"], found["observedGeneration"]) == (1, 1)
    refused = await rig.condition("Accepted")
    assert refused["status"] == "False"
    assert f"what runs is revision {found['updateRevision']}" in refused["message"]


async def test_a_typed_role_is_healed_with_its_former_launch_while_its_new_engine_is_refused(rig: Rig) -> None:
    document = pair().document()
    document["metadata"] = {"name": "demo", "uid": "uid-of-demo"}
    await rig.apply(document)
    await rig.serving()
    pods = {item["metadata"]["name"]: item for item in (await rig.client.list(PODS))["items"]}
    document["spec"]["template"]["roles"][0]["engine"]["parallel"]["tensor"] = 64
    await rig.apply(document)
    name = min(pods)
    rig.server.remove("/api/v1/pods", name)
    await rig.serving()
    assert (await rig.client.get(PODS, "ns", name))["spec"] == pods[name]["spec"]


async def test_a_refused_spec_is_written_about_once(rig: Rig) -> None:
    await settle(rig)
    await rig.apply(unreadable(replicas="many"))
    await rig.serving()
    before = rig.writes()
    for _ in range(3):
        rig.clock.skip(60)
        await rig.serving()
    assert rig.writes() == before


async def test_the_scale_of_a_refused_spec_is_that_of_the_last_good_one(rig: Rig) -> None:
    await settle(rig)
    await rig.apply(PAIR.replicas(2))
    await rig.serving()
    await rig.apply(unreadable(replicas=-1))
    rig.server.remove("/api/v1/pods", "demo-1-decode-0-0")
    await rig.serving()
    await rig.serving()
    assert len(await rig.names(PODS)) == 6


async def test_without_a_stored_revision_nothing_is_touched(rig: Rig) -> None:
    await settle(rig)
    (revision,) = await rig.names(CONTROLLER_REVISIONS)
    rig.server.remove("/apis/apps/v1/controllerrevisions", revision)
    await rig.apply(unreadable(replicas="many"))
    before = await rig.uids(PODS)
    await rig.serving()
    assert await rig.uids(PODS) == before
    assert "what runs" not in (await rig.condition("Accepted"))["message"]
