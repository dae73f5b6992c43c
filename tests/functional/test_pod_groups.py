from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from baton.controllers.snapshot import read_snapshot
from baton.kube.errors import Conflict
from baton.kube.resources import CUSTOM_RESOURCE_DEFINITIONS, POD_GROUPS, PODS
from builders import serving
from fake_api_server import FakeApiServer
from functional.reconciler_fixture import KEY, Rig

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from baton.kube.types import JsonObject
    from baton.planning.model import PodGroups

PATH = POD_GROUPS.path()
PAIR = serving().role("prefill").role("decode", workers=1)


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    """An operator in a cluster that has PodGroups."""
    async with FakeApiServer() as server, Rig.at(server) as made:
        made.pod_groups.fields = frozenset({"minMember", "subGroupPolicy"})
        yield made


async def pod_group(rig: Rig, name: str = "demo-0") -> JsonObject:
    return await rig.client.get(POD_GROUPS, "ns", name)


async def test_pod_groups_follow_the_size_and_go_with_their_group(rig: Rig) -> None:
    await rig.apply(PAIR.replicas(2))
    await rig.serving()
    assert await rig.names(POD_GROUPS) == ["demo-0", "demo-1"]
    assert (await pod_group(rig))["spec"]["minMember"] == 3
    uid = (await pod_group(rig))["metadata"]["uid"]

    await rig.apply(PAIR.role("decode", replicas=2, workers=1))
    await rig.serving()
    await rig.serving()
    assert await rig.names(POD_GROUPS) == ["demo-0"]
    found = await pod_group(rig)
    assert (found["spec"]["minMember"], found["metadata"]["uid"]) == (5, uid)

    before = rig.writes()
    rig.clock.skip(60)
    await rig.serving()
    assert [write for write in rig.writes() if write not in before] == []


async def test_a_pod_group_of_somebody_else_keeps_the_pods_away_until_it_is_gone(rig: Rig) -> None:
    rig.server.put(PATH, "demo-0", spec={"minMember": 1})
    await rig.apply(PAIR)
    with pytest.raises(Conflict, match="PodGroup demo-0 exists and belongs to somebody else"):
        await rig.serving()
    assert await rig.names(PODS) == []
    assert (await pod_group(rig))["spec"] == {"minMember": 1}

    rig.server.remove(PATH, "demo-0")
    await rig.serving()
    assert len(await rig.names(PODS)) == 3


async def test_a_change_meets_only_the_pod_group_that_was_seen(rig: Rig) -> None:
    await rig.apply(PAIR)
    await rig.serving()
    await rig.apply(PAIR.role("decode", replicas=2, workers=1))
    await rig.look()
    rig.server.remove(PATH, "demo-0", is_told=False)
    await rig.serving_as_seen()
    assert await rig.names(POD_GROUPS) == [], "gone meanwhile, of which an event tells"

    rig.refuse("patch", 409, "Conflict", "uid mismatch")
    await rig.serving()
    assert (await pod_group(rig))["spec"]["minMember"] == 5


async def test_gang_scheduling_without_volcano_is_a_condition_until_it_is_installed(rig: Rig) -> None:
    present, rig.pod_groups.fields = rig.pod_groups.fields, None
    await rig.apply({**PAIR.document(), "spec": {**PAIR.document()["spec"], "template": GANG}})
    await rig.serving()
    told = await rig.condition("GangScheduling")
    assert (told["status"], told["reason"]) == ("False", "NoPodGroups")
    assert len(await rig.names(PODS)) == 3, "the pods are placed one by one"

    rig.pod_groups.fields = present
    await rig.serving()
    assert (await rig.condition("GangScheduling"))["status"] == "True"
    assert await rig.names(POD_GROUPS) == ["demo-0"]


GANG = {**PAIR.document()["spec"]["template"], "gangPolicy": {"minRoleReplicas": {"prefill": 1}}}


async def test_a_snapshot_holds_the_pod_groups_if_there_are_any(rig: Rig) -> None:
    async def seen() -> PodGroups | None:
        return (await read_snapshot(rig.client, *KEY, now=rig.clock.now())).observed.pod_groups

    await rig.apply(PAIR)
    await rig.serving()
    assert await seen() is None
    definition = {"versions": [{"name": "v1beta1", "served": True}]}
    status = {"conditions": [{"type": "Established", "status": "True"}]}
    name = "podgroups.scheduling.volcano.sh"
    rig.server.put(CUSTOM_RESOURCE_DEFINITIONS.path(), name, namespace="", spec=definition, status=status)
    found = await seen()
    assert found is not None
    assert ([view.name for view in found.present], found.has_sub_groups) == (["demo-0"], False)
