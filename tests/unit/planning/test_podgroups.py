from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from baton.api.meta import Condition
from baton.planning.forecast import foresee
from baton.planning.model import ChildKind, PodGroups, PodGroupView
from baton.planning.podgroups import conditions
from builders import JsonObject, ServingBuilder, serving
from planned_cluster import Cluster, created, deleted, updated

POD_GROUP = ChildKind.POD_GROUP
QUEUE = "scheduling.volcano.sh/queue-name"
PAIR = serving().role("prefill", replicas=2, workers=1).role("decode")


def requesting(**requests: str | int) -> JsonObject:
    container = {"name": "engine", "image": "engine:1", "resources": {"requests": requests, "limits": {"gpu": 9}}}
    waiter = {"name": "wait", "image": "wait:1", "resources": {"requests": {"cpu": "64"}}}
    return {"spec": {"containers": [container], "initContainers": [waiter]}}


def with_volcano(builder: ServingBuilder, *, has_sub_groups: bool = True) -> Cluster:
    cluster = Cluster(builder)
    cluster.install_volcano(has_sub_groups=has_sub_groups)
    return cluster


def running(builder: ServingBuilder) -> Cluster:
    cluster = with_volcano(builder)
    cluster.converge()
    return cluster


def groups_of(builder: ServingBuilder, *, has_sub_groups: bool = True) -> dict[str, Any]:
    return created(with_volcano(builder, has_sub_groups=has_sub_groups).plan(), POD_GROUP)


def spec_of(builder: ServingBuilder, *, has_sub_groups: bool = False) -> Any:
    return groups_of(builder, has_sub_groups=has_sub_groups)["demo-0"]["spec"]


def present(cluster: Cluster) -> dict[str, PodGroupView]:
    assert cluster.pod_groups is not None
    return cluster.pod_groups


def with_template(builder: ServingBuilder, **fields: Any) -> ServingBuilder:
    return replace(builder, template={**builder.template, **fields})


# Documents


def test_every_group_has_a_pod_group_of_its_name_before_its_pods() -> None:
    made = with_volcano(PAIR.replicas(2)).plan()
    assert list(created(made, POD_GROUP)) == ["demo-0", "demo-1"]
    assert [action.kind for action in made.stages[0] if action.kind is POD_GROUP] == [POD_GROUP, POD_GROUP]
    assert {action.kind for action in made.stages[1]} == {ChildKind.POD}


def test_a_pod_group_says_whose_it_is() -> None:
    metadata = groups_of(PAIR)["demo-0"]["metadata"]
    assert metadata["labels"] == {
        "modelserving.volcano.sh/name": "demo",
        "modelserving.volcano.sh/group-name": "demo-0",
    }
    assert metadata["annotations"]["scheduling.k8s.io/group-name"] == "demo-0"
    assert metadata["namespace"] == "default"
    assert metadata["ownerReferences"] == [
        {
            "apiVersion": "workload.serving.volcano.sh/v1alpha1",
            "kind": "ModelServing",
            "name": "demo",
            "uid": "uid-of-demo",
            "controller": True,
        }
    ]


@pytest.mark.parametrize(
    ("least", "members"),
    [(None, 5), ({"prefill": 1}, 3), ({"prefill": 0}, 1), ({"prefill": 1, "decode": 0}, 2), ({}, 5)],
)
def test_min_member_counts_all_pods_that_must_start_together(least: dict[str, int] | None, members: int) -> None:
    policy = {} if least is None else {"minRoleReplicas": least}
    assert spec_of(with_template(PAIR, gangPolicy=policy))["minMember"] == members
    assert spec_of(PAIR)["minMember"] == 5


def test_more_than_there_are_replicas_cannot_be_asked_for() -> None:
    builder = with_template(PAIR.role("prefill", replicas=1, workers=1), gangPolicy={"minRoleReplicas": {"prefill": 2}})
    assert spec_of(builder)["minMember"] == 3


def test_min_resources_are_the_requests_of_those_pods() -> None:
    builder = (
        serving()
        .role("prefill", replicas=2, workers=1, entryTemplate=requesting(cpu="1500m", memory="64Gi", gpu=8))
        .role("decode", entryTemplate=requesting(cpu=1, memory="1k"))
    )
    builder = builder.role(
        "prefill",
        replicas=2,
        workers=1,
        entryTemplate=requesting(cpu="1500m", memory="64Gi", gpu=8),
        workerTemplate=requesting(cpu="250m"),
    )
    assert spec_of(builder)["minResources"] == {"cpu": "4500m", "gpu": "16", "memory": str(128 * 2**30 + 1000)}
    least = with_template(builder, gangPolicy={"minRoleReplicas": {"prefill": 1}})
    assert spec_of(least)["minResources"] == {"cpu": "2750m", "gpu": "8", "memory": str(64 * 2**30 + 1000)}


def test_a_request_that_is_no_quantity_is_left_to_the_api_server() -> None:
    assert spec_of(serving().role("decode", entryTemplate=requesting(cpu="many"))) == {"minMember": 1}


def test_the_queue_is_that_of_the_annotation() -> None:
    assert spec_of(PAIR.with_metadata(annotations={QUEUE: "night"}))["queue"] == "night"
    assert "queue" not in spec_of(PAIR)


def test_network_topology_is_for_the_group_and_for_its_role_replicas() -> None:
    topology = {"groupPolicy": {"highestTierAllowed": 2}, "rolePolicy": {"mode": "soft", "highestTierName": "rack"}}
    spec = spec_of(with_template(PAIR, networkTopology=topology), has_sub_groups=True)
    assert spec["networkTopology"] == {"mode": "hard", "highestTierAllowed": 2}
    assert [entry["networkTopology"] for entry in spec["subGroupPolicy"]] == [topology["rolePolicy"]] * 2


def test_sub_groups_are_the_replicas_of_each_role_if_volcano_knows_them() -> None:
    builder = with_template(PAIR, gangPolicy={"minRoleReplicas": {"prefill": 1}})
    assert spec_of(builder, has_sub_groups=True)["subGroupPolicy"] == [
        {
            "name": role,
            "labelSelector": {
                "matchLabels": {"modelserving.volcano.sh/name": "demo", "modelserving.volcano.sh/role": role}
            },
            "matchLabelKeys": ["modelserving.volcano.sh/role-id"],
            "subGroupSize": size,
            "minSubGroups": 1,
        }
        for role, size in (("prefill", 2), ("decode", 1))
    ]
    assert "subGroupPolicy" not in spec_of(builder, has_sub_groups=False)


# Pods


def test_pods_name_their_pod_group_and_their_role_replica_whatever_the_template_says() -> None:
    own = {"metadata": {"annotations": {"volcano.sh/task-spec": "mine", "note": "x"}}, **requesting()}
    pods = created(with_volcano(PAIR.role("decode", entryTemplate=own)).plan())
    assert pods["demo-0-prefill-1-1"]["metadata"]["annotations"] == {
        "scheduling.k8s.io/group-name": "demo-0",
        "volcano.sh/task-spec": "prefill-1",
    }
    assert pods["demo-0-decode-0-0"]["metadata"]["annotations"] == {
        "scheduling.k8s.io/group-name": "demo-0",
        "volcano.sh/task-spec": "decode-0",
        "note": "x",
    }


@pytest.mark.parametrize("scheduler", ["default-scheduler", "Volcano", ""])
def test_other_schedulers_get_neither_pod_groups_nor_annotations(scheduler: str) -> None:
    made = with_volcano(PAIR.with_spec(schedulerName=scheduler)).plan()
    assert created(made, POD_GROUP) == {}
    assert "annotations" not in created(made)["demo-0-decode-0-0"]["metadata"]


def test_without_volcano_nothing_is_asked_of_it() -> None:
    made = Cluster(PAIR).plan()
    assert created(made, POD_GROUP) == {}
    assert "annotations" not in created(made)["demo-0-decode-0-0"]["metadata"]


def test_a_pod_beside_pods_that_are_in_no_pod_group_is_placed_alone() -> None:
    cluster = Cluster(PAIR.recovery("None"))
    cluster.converge()
    cluster.install_volcano()
    cluster.vanish("demo-0-decode-0-0")
    made = cluster.step()
    assert list(created(made, POD_GROUP)) == ["demo-0"]
    assert "annotations" not in created(made)["demo-0-decode-0-0"]["metadata"], "its gang would never be complete"

    cluster.edit(cluster.builder.role("decode", image="engine:2"))
    cluster.step()
    cluster.finish_deletions()
    assert all(pod["metadata"]["annotations"] for pod in created(cluster.step()).values())
    assert cluster.pods["demo-0-prefill-0-0"].in_pod_group, "the whole group is made anew"


# Changes


def test_volcano_installed_later_gives_running_groups_their_pod_groups_and_touches_no_pod() -> None:
    cluster = Cluster(PAIR)
    cluster.converge()
    cluster.install_volcano()
    made = cluster.step()
    assert [(action.kind, action.name) for action in made.actions] == [(POD_GROUP, "demo-0")]
    assert cluster.plan().actions == ()


def test_a_changed_size_changes_the_pod_group_before_the_pods() -> None:
    cluster = running(PAIR)
    uid = present(cluster)["demo-0"].uid
    cluster.edit(cluster.builder.role("decode", replicas=3))
    made = cluster.step()
    assert updated(made, POD_GROUP)["demo-0"]["spec"]["minMember"] == 7
    assert [action.kind for action in made.stages[0]] == [POD_GROUP]
    assert (present(cluster)["demo-0"].uid, present(cluster)["demo-0"].spec["minMember"]) == (uid, 7)
    cluster.converge()
    assert cluster.plan().actions == ()


def test_fields_that_are_no_longer_set_are_removed_and_those_of_others_stay() -> None:
    topology = {"groupPolicy": {"highestTierAllowed": 2}}
    builder = with_template(PAIR, networkTopology=topology).role("decode", entryTemplate=requesting(cpu="1", gpu="8"))
    cluster = running(builder.with_metadata(annotations={QUEUE: "night"}))
    view = present(cluster)["demo-0"]
    present(cluster)["demo-0"] = replace(view, spec={**view.spec, "priorityClassName": "high"})
    named = {"groupPolicy": {"mode": "soft", "highestTierName": "rack"}}
    cluster.edit(with_template(builder, networkTopology=named).with_metadata(annotations={}))
    cluster.step()
    spec = present(cluster)["demo-0"].spec
    assert spec["networkTopology"] == {"mode": "soft", "highestTierName": "rack"}
    assert "queue" not in spec
    assert spec["priorityClassName"] == "high"

    cluster.edit(with_template(PAIR, networkTopology={}))
    cluster.converge()
    assert present(cluster)["demo-0"].spec.keys() & {"networkTopology", "minResources"} == set()


def test_what_volcano_fills_in_is_left_alone() -> None:
    cluster = running(PAIR.role("decode", entryTemplate=requesting(cpu="1500m", memory="64000")))
    view = present(cluster)["demo-0"]
    filled = {**view.spec, "queue": "default", "minResources": {"cpu": "1.5", "memory": "64k"}, "minTaskMember": {}}
    present(cluster)["demo-0"] = replace(view, spec=filled)
    assert cluster.plan().actions == ()


@pytest.mark.parametrize(
    "change", [{"minMember": 1}, {"minResources": {"cpu": "9"}}, {"minResources": {"cpu": "?"}}, {"subGroupPolicy": []}]
)
def test_what_others_change_is_put_right(change: JsonObject) -> None:
    cluster = running(PAIR.role("decode", entryTemplate=requesting(cpu=1)))
    view = present(cluster)["demo-0"]
    present(cluster)["demo-0"] = replace(view, spec={**view.spec, **change})
    cluster.step()
    assert present(cluster)["demo-0"].spec == view.spec


def test_a_new_version_of_volcano_that_knows_sub_groups_is_told_of_them() -> None:
    cluster = with_volcano(PAIR, has_sub_groups=False)
    cluster.converge()
    cluster.has_sub_groups = True
    assert len(updated(cluster.step(), POD_GROUP)["demo-0"]["spec"]["subGroupPolicy"]) == 2
    assert cluster.plan().actions == ()


def test_a_group_that_waits_for_its_roll_out_keeps_the_size_its_pods_have() -> None:
    cluster = running(PAIR.replicas(2))
    cluster.edit(cluster.builder.role("prefill", replicas=2, workers=2))
    made = cluster.step()
    assert updated(made, POD_GROUP) == {}, "no pod of the new size is created yet"
    cluster.finish_deletions()
    assert list(updated(cluster.step(), POD_GROUP)) == ["demo-1"]
    cluster.converge()
    assert {view.spec["minMember"] for view in present(cluster).values()} == {7}


# The end


def test_a_pod_group_goes_once_its_group_is_gone() -> None:
    cluster = running(PAIR.replicas(2))
    cluster.edit(cluster.builder.replicas(1))
    assert deleted(cluster.step(), POD_GROUP) == {}
    cluster.finish_deletions()
    assert deleted(cluster.step(), POD_GROUP) == {"demo-1": "its ServingGroup is gone"}
    assert list(present(cluster)) == ["demo-0"]


def test_pod_groups_outlive_a_change_of_the_scheduler_as_long_as_their_pods_do() -> None:
    cluster = running(PAIR.replicas(2))
    cluster.edit(cluster.builder.with_spec(schedulerName="other"))
    made = cluster.step()
    assert (updated(made, POD_GROUP), deleted(made), deleted(made, POD_GROUP)) == ({}, {}, {})
    cluster.edit(cluster.builder.replicas(1))
    cluster.converge()
    assert list(present(cluster)) == ["demo-0"]


def test_pod_groups_of_others_and_those_leaving_are_not_touched() -> None:
    cluster = running(PAIR)
    mine = present(cluster)["demo-0"]
    present(cluster)["demo-8"] = replace(mine, name="demo-8", owner_uid="somebody-else")
    present(cluster)["demo-9"] = replace(mine, name="demo-9", deleting=True)
    assert cluster.plan().actions == ()
    present(cluster)["demo-0"] = replace(mine, deleting=True)
    cluster.edit(cluster.builder.role("decode", replicas=3))
    made = cluster.plan()
    assert (updated(made, POD_GROUP), deleted(made, POD_GROUP)) == ({}, {})


# The condition

GANG: JsonObject = {"gangPolicy": {}}
TOPOLOGY: JsonObject = {"networkTopology": {"groupPolicy": {}, "rolePolicy": {}}}


@pytest.mark.parametrize(
    ("template", "spec", "pod_groups", "verdict", "words"),
    [
        (GANG, {}, None, ("False", "NoPodGroups"), "spec.template.gangPolicy has no effect: the cluster has no PodGro"),
        (GANG, {"schedulerName": "x"}, PodGroups(), ("False", "OtherScheduler"), "set spec.schedulerName to volcano"),
        (GANG | TOPOLOGY, {}, None, ("False", "NoPodGroups"), "gangPolicy and spec.template.networkTopology has"),
        (TOPOLOGY, {}, PodGroups(), ("False", "NoSubGroups"), "rolePolicy has no effect"),
        (TOPOLOGY, {}, PodGroups(has_sub_groups=True), ("True", "PodGroups"), "every ServingGroup"),
        (GANG, {}, PodGroups(), ("True", "PodGroups"), "every ServingGroup"),
    ],
)
def test_gang_scheduling_that_is_asked_for_is_told_of(
    template: JsonObject, spec: JsonObject, pod_groups: PodGroups | None, verdict: tuple[str, str], words: str
) -> None:
    (told,) = conditions(with_template(PAIR, **template).with_spec(**spec).build(), pod_groups)
    assert (told.type, told.status, told.reason) == ("GangScheduling", *verdict)
    assert words in told.message


def test_gang_scheduling_that_nobody_asked_for_is_not_mentioned_unless_it_was() -> None:
    assert conditions(PAIR.build(), None) == []
    before = Condition(type="GangScheduling", status="False", reason="NoPodGroups", message="m").document()
    (told,) = conditions(PAIR.status({"conditions": [before]}).build(), None)
    assert (told.status, told.reason) == ("True", "NotAskedFor")


# The forecast


def test_a_forecast_knows_what_becomes_of_pod_groups() -> None:
    cluster = running(PAIR.replicas(2))
    cluster.edit(cluster.builder.replicas(1).role("decode", replicas=3, image="engine:2"))
    foreseen = foresee(cluster.builder.desired(), cluster.observed())
    assert foreseen.is_complete
    told = [
        (type(action).__name__, action.name)
        for step in foreseen.steps
        for stage in step
        for action in stage
        if action.kind is POD_GROUP
    ]
    assert sorted(told) == [("Delete", "demo-1"), ("Update", "demo-0")]
    cluster = with_volcano(PAIR)
    assert foresee(cluster.builder.desired(), cluster.observed()).is_complete
