from __future__ import annotations

from typing import Any

import pytest

from baton.api.admission import check_serving
from baton.api.leader_worker_set import LeaderWorkerSet
from baton.api.meta import Condition
from baton.api.serving import ModelServing
from baton.planning.leader_worker_sets import bridged, conditions_of, counters_of, is_current, serving_of
from builders import JsonObject, ServingBuilder, pod_template
from planned_cluster import Cluster, created

LEADER, WORKER = pod_template("leader:1", labels={"app": "llm"}), pod_template("worker:1")


def read(*, replicas: int = 2, size: int = 3, group: JsonObject | None = None, **spec: Any) -> LeaderWorkerSet:
    template = {"size": size, "workerTemplate": WORKER, **(group or {})}
    return LeaderWorkerSet.read(
        {
            "apiVersion": "leaderworkerset.x-k8s.io/v1",
            "kind": "LeaderWorkerSet",
            "metadata": {"name": "set", "namespace": "models", "uid": "uid-of-set"},
            "spec": {"replicas": replicas, "leaderWorkerTemplate": template, **spec},
        }
    )


def role_of(wanted: LeaderWorkerSet) -> JsonObject:
    (role,) = serving_of(wanted)["spec"]["template"]["roles"]
    assert isinstance(role, dict)
    return role


def image_of(template: JsonObject) -> Any:
    return template["spec"]["containers"][0]["image"]


def test_a_set_becomes_a_valid_model_serving_of_its_name_that_goes_with_it() -> None:
    document = serving_of(read())
    assert check_serving(ModelServing.read(document)) == []
    assert document["metadata"] == {
        "name": "set",
        "namespace": "models",
        "ownerReferences": [
            {
                "apiVersion": "leaderworkerset.x-k8s.io/v1",
                "kind": "LeaderWorkerSet",
                "name": "set",
                "uid": "uid-of-set",
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
    }
    assert document["spec"]["replicas"] == 2
    assert document["spec"]["plugins"] == [{"name": "lws-standard-labels"}]


def test_a_group_is_one_replica_of_the_role_default() -> None:
    role = role_of(read(group={"leaderTemplate": LEADER}))
    assert (role["name"], role["replicas"], role["workerReplicas"]) == ("default", 1, 2)
    assert (image_of(role["entryTemplate"]), image_of(role["workerTemplate"])) == ("leader:1", "worker:1")
    assert role["entryTemplate"]["metadata"]["labels"] == {"app": "llm"}


def test_a_leader_without_a_template_of_its_own_is_made_from_the_workers() -> None:
    role = role_of(read(size=1))
    assert (image_of(role["entryTemplate"]), role["workerReplicas"]) == ("worker:1", 0)


def test_pods_are_told_their_place_under_the_names_that_sets_have() -> None:
    own = {"name": "engine", "image": "i", "env": [{"name": "LWS_GROUP_SIZE", "value": "9"}, {"name": "A"}]}
    builder = ServingBuilder(
        metadata={"name": "set", "namespace": "models", "uid": "u", "generation": 1},
        spec={"replicas": 1},
        roles=(role_of(read(group={"workerTemplate": {"spec": {"containers": [own], "initContainers": [own]}}})),),
    )
    spec = created(Cluster(builder).plan())["set-0-default-0-2"]["spec"]
    for container in (*spec["containers"], *spec["initContainers"]):
        env = {entry["name"]: entry.get("value") for entry in container["env"]}
        assert env["LWS_LEADER_ADDRESS"] == "$(ENTRY_ADDRESS)"
        assert (env["LWS_GROUP_SIZE"], env["LWS_WORKER_INDEX"]) == ("$(GROUP_SIZE)", "$(WORKER_INDEX)")
        names = [entry["name"] for entry in container["env"]]
        assert names.index("ENTRY_ADDRESS") < names.index("LWS_LEADER_ADDRESS"), (
            "a reference needs what comes before it"
        )
        assert names[-1] == "A"


@pytest.mark.parametrize(("template", "scheduler"), [({}, "volcano"), ({"schedulerName": "mine"}, "mine")])
def test_the_scheduler_is_the_templates(template: JsonObject, scheduler: str) -> None:
    worker = {"spec": {**WORKER["spec"], **template}}
    assert serving_of(read(group={"workerTemplate": worker}))["spec"]["schedulerName"] == scheduler


@pytest.mark.parametrize(
    ("policy", "recovery"),
    [("RecreateGroupOnPodRestart", "RoleRecreate"), ("None", "None"), ("", "RoleRecreate")],
)
def test_a_restart_policy_is_a_recovery_policy(policy: str, recovery: str) -> None:
    assert serving_of(read(group={"restartPolicy": policy}))["spec"]["recoveryPolicy"] == recovery


@pytest.mark.parametrize(
    ("strategy", "limits"),
    [
        ({}, {"maxUnavailable": 1, "partition": 0}),
        (
            {"rollingUpdateConfiguration": {"maxUnavailable": "50%", "partition": 1}},
            {"maxUnavailable": "50%", "partition": 1},
        ),
    ],
)
def test_limits_of_a_roll_out_are_taken_over(strategy: JsonObject, limits: JsonObject) -> None:
    made = serving_of(read(rolloutStrategy=strategy))["spec"]["rolloutStrategy"]
    assert made == {"type": "ServingGroupRollingUpdate", "rollingUpdateConfiguration": limits}


def test_what_has_no_effect_is_named() -> None:
    told = bridged(
        read(
            group={"subGroupPolicy": {"subGroupSize": 2}, "volumeClaimTemplates": [{}]},
            startupPolicy="LeaderReady",
            rolloutStrategy={"rollingUpdateConfiguration": {"maxSurge": 1}},
        )
    )
    assert told.message == (
        "ModelServing set stands for it; without effect: spec.leaderWorkerTemplate.subGroupPolicy, "
        "spec.leaderWorkerTemplate.volumeClaimTemplates, spec.startupPolicy LeaderReady, "
        "spec.rolloutStrategy.rollingUpdateConfiguration.maxSurge"
    )
    assert bridged(read(startupPolicy="LeaderCreated")).message == "ModelServing set stands for it"


def test_a_model_serving_is_current_whatever_else_the_user_sets_in_it() -> None:
    document = serving_of(read())
    wanted = ModelServing.read(document)
    template = {**document["spec"]["template"], "gangPolicy": {}}
    assert is_current(ModelServing.read({**document, "spec": {**document["spec"], "template": template}}), wanted)
    assert not is_current(ModelServing.read({**document, "spec": {**document["spec"], "replicas": 5}}), wanted)
    assert not is_current(wanted, ModelServing.read(serving_of(read(size=4))))


def test_the_status_is_told_back() -> None:
    status = {
        "replicas": 2,
        "availableReplicas": 1,
        "updatedReplicas": 2,
        "labelSelector": "a=b",
        "conditions": [
            {"type": "Available", "status": "False", "reason": "GroupProgressing", "message": "m"},
            {"type": "Progressing", "status": "True"},
        ],
    }
    serving = ModelServing.read({**serving_of(read()), "status": status})
    assert counters_of(serving) == {"replicas": 2, "readyReplicas": 1, "updatedReplicas": 2, "hpaPodSelector": "a=b"}
    assert conditions_of(serving) == [
        Condition(type="Available", status="False", reason="GroupProgressing", message="m")
    ]
