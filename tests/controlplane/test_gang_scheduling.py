"""PodGroups and LeaderWorkerSets, whose CRDs come and go while the operator runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from builders import pod_template, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cluster import Cluster

pytestmark = pytest.mark.controlplane

DEFINITIONS = Path(__file__).parents[1] / "data" / "crds"
COLLECTION = 90.0
"""Seconds for Kubernetes to collect objects of a kind that is new to it: it looks for new kinds every 30 s."""
RAW = serving().role("prefill", workers=1).role("decode", replicas=2)


def define(cluster: Cluster, kind: str) -> None:
    path = DEFINITIONS / f"{kind}.yaml"
    cluster.run("apply", f"--filename={path}")
    cluster.run("wait", "--for=condition=Established", f"--filename={path}", "--timeout=30s")


def undefine(cluster: Cluster, kind: str) -> None:
    cluster.run("delete", "--ignore-not-found", f"--filename={DEFINITIONS / f'{kind}.yaml'}")


@pytest.fixture
def volcano(cluster: Cluster) -> Iterator[Cluster]:
    define(cluster, "podgroups")
    yield cluster
    undefine(cluster, "podgroups")


@pytest.fixture
def sets(cluster: Cluster) -> Iterator[Cluster]:
    define(cluster, "leaderworkersets")
    yield cluster
    undefine(cluster, "leaderworkersets")


def apply(cluster: Cluster, **template: Any) -> None:
    document = RAW.document()
    document["spec"]["template"] |= template
    document["metadata"] = {"name": "demo", "annotations": {"scheduling.volcano.sh/queue-name": "night"}}
    del document["status"]
    cluster.apply(document)


def pod_groups(cluster: Cluster) -> dict[str, Any]:
    return {item["metadata"]["name"]: item["spec"] for item in cluster.get("podgroups")["items"]}


def gang_scheduling(cluster: Cluster) -> str:
    return str(cluster.condition("modelserving", "demo", "GangScheduling").get("reason", ""))


def complaints(cluster: Cluster) -> list[str]:
    """Return what the operator has logged of optional kinds above INFO."""
    lines = cluster.system.log("baton-operator").read_text().splitlines()
    kinds = ("podgroups", "leaderworkersets", "PodGroup")
    return [line for line in lines if any(kind in line for kind in kinds) and " INFO " not in line]


def test_pods_are_placed_in_a_gang_that_follows_the_size_and_goes_with_its_group(volcano: Cluster) -> None:
    cluster = volcano
    apply(cluster, gangPolicy={"minRoleReplicas": {"decode": 1}}, networkTopology={"groupPolicy": {}})
    cluster.wait_available("demo")  # the scheduler's profile "volcano" binds them

    cluster.until(lambda: gang_scheduling(cluster) == "PodGroups", "the gang is told of")
    (spec,) = pod_groups(cluster).values()
    assert (spec["minMember"], spec["queue"], spec["networkTopology"]) == (3, "night", {"mode": "hard"})
    assert [entry["minSubGroups"] for entry in spec["subGroupPolicy"]] == [1, 1]
    for name, pod in cluster.pods(name="demo").items():
        assert pod["spec"]["schedulerName"] == "volcano"
        assert pod["metadata"]["annotations"]["scheduling.k8s.io/group-name"] == "demo-0"
        assert pod["metadata"]["annotations"]["volcano.sh/task-spec"] in name

    size = [{"op": "replace", "path": "/spec/template/roles/0/replicas", "value": 3}]
    cluster.run("patch", "modelserving", "demo", "--type=json", "-p", json.dumps(size))
    cluster.until(lambda: pod_groups(cluster)["demo-0"]["minMember"] == 7, "the size is told")
    cluster.run("scale", "modelserving", "demo", "--replicas=2")
    cluster.until(lambda: set(pod_groups(cluster)) == {"demo-0", "demo-1"}, "the new group has one")
    cluster.run("scale", "modelserving", "demo", "--replicas=1")
    cluster.until(lambda: set(pod_groups(cluster)) == {"demo-0"}, "that of the old group is gone")

    cluster.run("annotate", "modelserving", "demo", "scheduling.volcano.sh/queue-name-")
    cluster.until(lambda: pod_groups(cluster)["demo-0"]["queue"] == "default", "the queue follows the annotation")
    cluster.run("delete", "podgroup", "demo-0")
    cluster.until(lambda: "demo-0" in pod_groups(cluster), "a lost one comes back")
    cluster.wait_available("demo")
    version = cluster.get("podgroup", "demo-0")["metadata"]["resourceVersion"]
    cluster.run("annotate", "modelserving", "demo", "look=again")
    cluster.run("scale", "modelserving", "demo", "--replicas=2")
    cluster.until(lambda: "demo-1" in pod_groups(cluster), "the operator has looked again")
    assert cluster.get("podgroup", "demo-0")["metadata"]["resourceVersion"] == version, "nothing to change, no write"

    cluster.run("delete", "modelserving", "demo")
    cluster.until(lambda: not pod_groups(cluster), "they go with their object", patience=COLLECTION)


def test_volcano_comes_and_goes_while_the_operator_runs(cluster: Cluster) -> None:
    apply(cluster, gangPolicy={})
    cluster.wait_available("demo")
    cluster.until(lambda: gang_scheduling(cluster) == "NoPodGroups", "it is told that there is no Volcano")
    before = {name: pod["metadata"]["uid"] for name, pod in cluster.pods(name="demo").items()}

    for _ in range(2):
        define(cluster, "podgroups")
        cluster.until(lambda: set(pod_groups(cluster)) == {"demo-0"}, "what runs has a PodGroup")
        cluster.until(lambda: gang_scheduling(cluster) == "PodGroups", "the condition follows")
        undefine(cluster, "podgroups")
        cluster.until(lambda: gang_scheduling(cluster) == "NoPodGroups", "the condition follows")

    assert {name: pod["metadata"]["uid"] for name, pod in cluster.pods(name="demo").items()} == before
    cluster.run("scale", "modelserving", "demo", "--replicas=2")
    cluster.until(lambda: len(cluster.pods(name="demo")) == 8, "the operator goes on")
    assert complaints(cluster) == []


def leader_worker_set(*, replicas: int, size: int) -> dict[str, Any]:
    template = {"size": size, "leaderTemplate": pod_template("leader:1"), "workerTemplate": pod_template("worker:1")}
    return {
        "apiVersion": "leaderworkerset.x-k8s.io/v1",
        "kind": "LeaderWorkerSet",
        "metadata": {"name": "demo"},
        "spec": {"replicas": replicas, "leaderWorkerTemplate": template},
    }


def test_a_leader_worker_set_is_served_as_a_model_serving(sets: Cluster) -> None:
    cluster = sets
    cluster.apply(leader_worker_set(replicas=2, size=2))
    cluster.until(lambda: len(cluster.pods(name="demo")) == 4, "every leader and worker is there")
    cluster.run("wait", "--for=condition=Available", "leaderworkerset/demo", "--timeout=30s")

    def told() -> Any:
        status = cluster.get("leaderworkerset", "demo")["status"]
        return status.get("replicas"), status.get("readyReplicas")

    cluster.until(lambda: told() == (2, 2), "the counters are told back")
    labels = cluster.pods(name="demo")["demo-1-default-0-1"]["metadata"]["labels"]
    assert labels["leaderworkerset.sigs.k8s.io/name"] == "demo"
    assert (
        labels["leaderworkerset.sigs.k8s.io/group-index"],
        labels["leaderworkerset.sigs.k8s.io/worker-index"],
    ) == ("1", "1")

    cluster.apply(leader_worker_set(replicas=1, size=2))
    cluster.until(lambda: len(cluster.pods(name="demo")) == 2, "it is scaled")
    cluster.until(lambda: told() == (1, 1), "the counters follow")
    generation = cluster.get("modelserving", "demo")["metadata"]["generation"]
    cluster.run("annotate", "leaderworkerset", "demo", "look=again")
    cluster.run("delete", "pod", "demo-0-default-0-1", "--wait=false")
    cluster.until(lambda: told() == (1, 1) and len(cluster.pods(name="demo")) == 2, "a lost worker comes back")
    assert cluster.get("modelserving", "demo")["metadata"]["generation"] == generation, "no write that changes nothing"

    cluster.run("delete", "leaderworkerset", "demo")
    cluster.until(
        lambda: not cluster.get("modelservings")["items"], "the ModelServing goes with its set", patience=COLLECTION
    )
    cluster.until(lambda: not cluster.pods(name="demo"), "and so do the pods")


def test_a_model_serving_of_the_users_own_is_not_taken_over(sets: Cluster) -> None:
    cluster = sets
    apply(cluster)
    cluster.apply(leader_worker_set(replicas=2, size=2))
    cluster.until(
        lambda: cluster.condition("leaderworkerset", "demo", "Bridged").get("reason") == "NameTaken", "it is told"
    )
    assert [role["name"] for role in cluster.get("modelserving", "demo")["spec"]["template"]["roles"]] == [
        "prefill",
        "decode",
    ]
