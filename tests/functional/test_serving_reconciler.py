from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
import pytest

from baton.kube.errors import ApiError, Conflict, Forbidden, Invalid, Transient
from baton.kube.resources import CONFIG_MAPS, MODEL_SERVINGS, PODS, SERVICES
from builders import serving
from fake_api_server import FakeApiServer
from functional.reconciler_fixture import KEY, Rig
from rendering_builders import pair

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from baton.kube.types import JsonObject

PODS_PATH = "/api/v1/pods"
PAIR = serving().role("prefill").role("decode", workers=1)
NAMES = ["demo-0-decode-0-0", "demo-0-decode-0-1", "demo-0-prefill-0-0"]
REPLICAS = ("prefill/prefill-0", "decode/decode-0")


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


def told(reason: str, *replicas: str) -> list[str]:
    return [f"Role{reason}: Role {replica} in ServingGroup demo-0 is now {reason}" for replica in replicas]


async def status(rig: Rig) -> JsonObject:
    found: JsonObject = (await rig.client.get(MODEL_SERVINGS, *KEY))["status"]
    return found


async def test_a_new_object_gets_its_children_and_a_status(rig: Rig) -> None:
    await rig.apply(PAIR)
    assert await rig.serving() is None

    assert await rig.names(PODS) == NAMES
    assert await rig.names(SERVICES) == ["demo-0-decode-0-0"]
    written = await status(rig)
    assert (written["observedGeneration"], written["replicas"], written["availableReplicas"]) == (1, 1, 0)
    assert (await rig.condition("Available"))["status"] == "False"
    assert await rig.condition("Reconciled") == {}, "nobody needs to hear that all is well"


async def test_pods_that_are_ready_make_it_available(rig: Rig) -> None:
    await settle(rig)
    assert (await rig.condition("Available"))["status"] == "True"
    assert (await status(rig))["availableReplicas"] == 1


async def test_nothing_is_written_when_nothing_changes(rig: Rig) -> None:
    await settle(rig)
    before = rig.writes()
    for _ in range(3):
        rig.clock.skip(60)
        await rig.serving()
    assert rig.writes() == before


async def test_a_typed_engine_becomes_a_launch_and_pods_that_mount_it(rig: Rig) -> None:
    document = pair().document()
    await rig.apply({**document, "metadata": {"name": "demo", "uid": "uid-of-demo"}})
    await rig.serving()
    launches = set(await rig.names(CONFIG_MAPS))
    assert len(launches) == 2
    mounted = {
        volume["configMap"]["name"]
        for pod in (await rig.client.list(PODS))["items"]
        for volume in pod["spec"]["volumes"]
        if "configMap" in volume
    }
    assert mounted == launches


async def test_what_is_surplus_goes_and_its_service_with_it(rig: Rig) -> None:
    await rig.apply(PAIR.role("decode", replicas=2, workers=1))
    await rig.serving()
    await rig.set_ready()
    await rig.apply(PAIR)
    await rig.serving()
    await rig.serving()
    assert await rig.names(PODS) == NAMES
    assert await rig.names(SERVICES) == ["demo-0-decode-0-0"]


async def test_an_object_on_its_way_out_is_left_alone(rig: Rig) -> None:
    await rig.apply(PAIR.with_metadata(deletionTimestamp="2026-01-01T00:00:00Z"))
    await rig.serving()
    assert rig.writes() == []


async def test_an_object_that_is_gone_is_nobodys_business(rig: Rig) -> None:
    assert await rig.serving() is None
    assert rig.writes() == []


# Names that are taken


async def test_a_name_that_is_taken_is_told_with_the_cure_and_the_rest_goes_on(rig: Rig) -> None:
    rig.server.put(PODS_PATH, NAMES[0], uid="foreign")
    await rig.apply(PAIR)
    with pytest.raises(Conflict, match="belongs to somebody else"):
        await rig.serving()

    assert await rig.names(PODS) == NAMES
    assert (await rig.uids(PODS))[NAMES[0]] == "foreign"
    told = await rig.condition("Reconciled")
    assert (told["status"], told["reason"]) == ("False", "ChildRefused")
    assert told["message"].startswith(f"Pod {NAMES[0]} exists and belongs to somebody else; delete it, or")
    assert (await status(rig))["observedGeneration"] == 1


async def test_all_is_well_again_once_the_name_is_free(rig: Rig) -> None:
    rig.server.put(PODS_PATH, NAMES[0], uid="foreign")
    await rig.apply(PAIR)
    with pytest.raises(Conflict):
        await rig.serving()
    rig.server.remove(PODS_PATH, NAMES[0])
    rig.clock.skip(60)
    await rig.serving()

    assert (await rig.uids(PODS))[NAMES[0]] != "foreign"
    told = await rig.condition("Reconciled")
    assert (told["status"], told["reason"], told["lastTransitionTime"]) == (
        "True",
        "Reconciled",
        "2026-01-01T00:01:00Z",
    )


async def test_a_child_that_only_refers_to_the_object_is_not_its_own(rig: Rig) -> None:
    reference = {"kind": "ModelServing", "name": "demo", "uid": "uid-of-demo"}
    rig.server.put(PODS_PATH, NAMES[0], metadata={"ownerReferences": [reference]})
    await rig.apply(PAIR)
    with pytest.raises(Conflict, match="belongs to somebody else"):
        await rig.serving()


async def test_an_own_child_that_the_cache_has_not_heard_of_is_as_good_as_created(rig: Rig) -> None:
    await rig.apply(PAIR)
    async with Rig.at(rig.server) as lagging:
        await lagging.look()
        await rig.serving()
        before = await rig.uids(PODS)
        await lagging.serving_as_seen()

        assert await rig.uids(PODS) == before
        assert len(lagging.stores["pods"][1]) == 3
        assert await rig.condition("Reconciled") == {}


# Deletions that meet somebody else's


async def test_deleting_what_has_vanished_is_done(rig: Rig) -> None:
    await settle(rig)
    await rig.apply(PAIR.without_role("decode").rollout_by_role())
    await rig.look()
    for name in NAMES[:2]:
        rig.server.remove(PODS_PATH, name)
    await rig.serving_as_seen()
    assert await rig.names(PODS) == NAMES[2:]
    assert await rig.condition("Reconciled") == {}


async def test_the_successor_of_what_was_to_go_is_spared(rig: Rig) -> None:
    await settle(rig)
    await rig.apply(PAIR.without_role("decode").rollout_by_role())
    await rig.look()
    rig.server.remove(PODS_PATH, NAMES[0])
    rig.server.put(PODS_PATH, NAMES[0], uid="successor")
    await rig.serving_as_seen()
    assert (await rig.uids(PODS))[NAMES[0]] == "successor"
    assert await rig.condition("Reconciled") == {}


async def test_a_deletion_that_takes_its_time_is_known_at_once(rig: Rig) -> None:
    await settle(rig)
    await rig.apply(PAIR.replicas(0))
    await rig.look()
    leaving = {"deletionTimestamp": "2026-01-01T00:00:30Z", "resourceVersion": "999999"}
    for name in NAMES:
        pod = await rig.client.get(PODS, "ns", name)
        rig.server.fail(
            "delete", 200, body=orjson.dumps({**pod, "metadata": {**pod["metadata"], **leaving}, "kind": "Pod"})
        )
    await rig.serving_as_seen()
    deletions = rig.server.count("delete")
    await rig.serving_as_seen()
    assert rig.server.count("delete") == deletions, "a second plan knows of the first one's deletions"


# What the API server refuses


@pytest.mark.parametrize(
    ("code", "reason", "message", "kind"),
    [
        (403, "Forbidden", 'pods "x" is forbidden: exceeded quota: npus', Forbidden),
        (422, "Invalid", 'Pod "x" is invalid: spec.containers[0].image: Required value', Invalid),
        (500, "InternalError", "etcdserver: request timed out", Transient),
    ],
)
async def test_a_refusal_is_told_in_the_servers_words_and_tried_again(
    rig: Rig, code: int, reason: str, message: str, kind: type[ApiError]
) -> None:
    await rig.apply(PAIR)
    rig.refuse("create", code, reason, message, times=2, skip=2)  # the revision and the Service are let through
    with pytest.raises(kind):
        await rig.serving()

    told = await rig.condition("Reconciled")
    assert (told["status"], told["reason"]) == ("False", "ChildRefused")
    assert message in told["message"]
    assert (await status(rig))["replicas"] == 1
    assert len(await rig.names(PODS)) == 1, "what is allowed is created"

    await rig.serving()
    assert await rig.names(PODS) == NAMES
    assert (await rig.condition("Reconciled"))["status"] == "True"


async def test_a_refused_service_holds_its_pods_back(rig: Rig) -> None:
    await rig.apply(PAIR)
    rig.refuse("create", 403, "Forbidden", "no services here")
    with pytest.raises(Forbidden):
        await rig.serving()
    assert await rig.names(PODS) == []
    assert "no services here" in (await rig.condition("Reconciled"))["message"]


async def test_a_quota_is_not_asked_for_each_of_very_many_pods(rig: Rig) -> None:
    await rig.apply(serving(replicas=300).role("decode"))
    rig.refuse("create", 403, "Forbidden", "exceeded quota", times=300, skip=1)
    with pytest.raises(Forbidden):
        await rig.serving()
    assert 64 < rig.server.count("create") <= 129


async def test_a_status_that_is_refused_is_tried_again_and_no_event_is_lost(rig: Rig) -> None:
    await rig.apply(PAIR)
    rig.refuse("patch", 500, "InternalError", "later")
    with pytest.raises(Transient):
        await rig.serving()
    assert rig.events() == told("Creating", *REPLICAS)
    await rig.serving()
    assert (await status(rig))["replicas"] == 1


async def test_the_status_of_an_object_that_has_just_gone_is_nobodys_loss(rig: Rig) -> None:
    await rig.apply(PAIR)
    await rig.look()
    rig.refuse("patch", 404, "NotFound", "no such ModelServing")
    assert await rig.serving_as_seen() is None


# Events


async def test_each_transition_of_a_role_replica_is_told_once(rig: Rig) -> None:
    await rig.apply(PAIR)
    await rig.serving()
    assert rig.events() == told("Creating", *REPLICAS)
    await rig.serving()
    assert rig.events() == []
    await rig.set_ready()
    await rig.serving()
    await rig.serving()
    assert sorted(rig.events()) == sorted(told("Running", *REPLICAS))
    await rig.apply(PAIR.role("decode", replicas=0, workers=1))
    await rig.serving()
    await rig.serving()
    assert rig.events() == told("Deleting", "decode/decode-0")


async def test_a_creation_that_is_refused_for_long_is_told_once(rig: Rig) -> None:
    await rig.apply(PAIR)
    rig.refuse("create", 403, "Forbidden", "exceeded quota", times=10, skip=2)
    for _ in range(3):
        with pytest.raises(Forbidden):
            await rig.serving()
    assert rig.events() == told("Creating", *REPLICAS)


async def test_a_restarted_operator_repeats_no_event(rig: Rig) -> None:
    await settle(rig)
    async with Rig.at(rig.server) as restarted:
        await restarted.serving()
        assert restarted.events() == []
        await restarted.set_ready(NAMES[2], ready=False)
        await restarted.serving()
        await restarted.set_ready(NAMES[2])
        await restarted.serving()
        assert restarted.events() == told("Running", "prefill/prefill-0")


async def test_a_new_spec_forgets_no_event(rig: Rig) -> None:
    await rig.apply(PAIR)
    await rig.serving()
    rig.events()
    await rig.set_ready()
    await rig.apply(PAIR.role("decode", replicas=2, workers=1))
    await rig.serving()
    assert sorted(rig.events()) == sorted([*told("Creating", "decode/decode-1"), *told("Running", *REPLICAS)])


async def test_a_doubtful_spec_is_acted_upon_and_its_warnings_are_told(rig: Rig) -> None:
    await rig.apply(PAIR.replicas(3).rollout(maxUnavailable="10%"))
    await rig.serving()
    told = await rig.condition("Accepted")
    assert (told["status"], told["reason"]) == ("True", "AcceptedWithWarnings")
    assert "maxUnavailable: 10% of 3 rounds down to 0" in told["message"]
    assert len(await rig.names(PODS)) == 9


async def test_conditions_of_others_survive(rig: Rig) -> None:
    await rig.apply(PAIR)
    foreign = {"type": "Budgeted", "status": "True", "reason": "R", "message": "m"}
    await rig.client.patch_status(MODEL_SERVINGS, *KEY, {"conditions": [foreign]})
    await rig.serving()
    assert await rig.condition("Budgeted") == foreign
