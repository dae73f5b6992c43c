"""Revisions, surge, draining and healing against a real API server."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from baton.api import labels
from baton.dev.provider import ControlPlaneError
from builders import ServingBuilder, serving

if TYPE_CHECKING:
    from cluster import Cluster

    Documents = list[dict[str, Any]]


def raw(cluster: Cluster, **spec: Any) -> ServingBuilder:
    """Return a ModelServing of simulated engines, in the namespace of the test."""
    metadata = {"name": "demo", "namespace": cluster.namespace}
    return serving(**{"schedulerName": "default-scheduler", **spec}).with_metadata(**metadata)


def apply(cluster: Cluster, builder: ServingBuilder) -> None:
    document = builder.document()
    document["metadata"] = {"name": "demo", "namespace": cluster.namespace}
    document.pop("status")
    cluster.apply(document)
    cluster.until(lambda: is_observed(cluster), "the generation is observed")


def is_observed(cluster: Cluster) -> bool:
    found = cluster.get("modelserving", "demo")
    return bool(found.get("status", {}).get("observedGeneration") == found["metadata"]["generation"])


def images(cluster: Cluster) -> dict[str, str]:
    return {name: pod["spec"]["containers"][0]["image"] for name, pod in cluster.pods(name="demo").items()}


def test_a_protected_group_comes_back_from_its_own_template(cluster: Cluster) -> None:
    builder = raw(cluster, replicas=2).role("decode").rollout(partition=1)
    apply(cluster, builder)
    cluster.wait_available("demo")
    apply(cluster, builder.role("decode", image="engine:2"))
    new = {"demo-0-decode-0-0": "engine:1", "demo-1-decode-0-0": "engine:2"}
    cluster.until(lambda: images(cluster) == new, "the group above the partition is replaced")
    before = cluster.pods(name="demo")["demo-0-decode-0-0"]["metadata"]["uid"]

    cluster.run("delete", "pod", "demo-0-decode-0-0", "--wait=false")

    def is_back() -> bool:
        pod = cluster.pods(name="demo").get("demo-0-decode-0-0")
        return pod is not None and pod["metadata"]["uid"] != before

    cluster.until(is_back, "the lost pod is replaced")
    assert images(cluster) == new
    assert len(cluster.get("controllerrevisions")["items"]) == 2


def test_what_ran_before_is_healed_while_a_spec_is_refused(cluster: Cluster, deepseek: Documents) -> None:
    cluster.apply(*deepseek)
    cluster.wait_available("dsv4")
    before = cluster.pods(name="dsv4")
    tensor = [{"op": "replace", "path": "/spec/template/roles/0/engine/parallel/tensor", "value": 32}]
    cluster.run("patch", "modelserving", "dsv4", "--type=json", "-p", json.dumps(tensor))
    cluster.until(
        lambda: cluster.condition("modelserving", "dsv4", "Accepted").get("status") == "False", "the spec is refused"
    )
    name = min(before)
    cluster.run("delete", "pod", name, "--wait=false")

    def is_healed() -> bool:
        pods = cluster.pods(name="dsv4")
        return pods.keys() == before.keys() and pods[name]["metadata"]["uid"] != before[name]["metadata"]["uid"]

    cluster.until(is_healed, "the pods are complete again")
    assert "what runs is revision" in cluster.condition("modelserving", "dsv4", "Accepted")["message"]
    cluster.until_served("dsv4")


def test_a_roll_out_with_surge_keeps_all_replicas_available(cluster: Cluster) -> None:
    builder = raw(cluster, replicas=2).role("decode").rollout(maxSurge=1, maxUnavailable=0)
    apply(cluster, builder)
    cluster.wait_available("demo")
    seen: list[int] = []

    def is_over() -> bool:
        status = cluster.get("modelserving", "demo")["status"]
        seen.append(status["availableReplicas"])
        names = {"demo-0-decode-0-0": "engine:2", "demo-1-decode-0-0": "engine:2"}
        return images(cluster) == names and status["replicas"] == status["availableReplicas"] == 2

    apply(cluster, builder.role("decode", image="engine:2"))
    cluster.until(is_over, "all groups are replaced and none is left over")
    assert min(seen) >= 2


def test_pods_that_a_scale_down_removes_are_marked_before_they_go(cluster: Cluster, deepseek: Documents) -> None:
    model, route = deepseek
    model["spec"] |= {"replicas": 2, "drainTimeoutSeconds": 3}
    cluster.apply(model, route)
    cluster.wait_available("dsv4")
    cluster.run("scale", "modelserving", "dsv4", "--replicas=1")

    def marked() -> set[str]:
        pods = cluster.pods(name="dsv4").items()
        return {name for name, pod in pods if labels.DRAINING in (pod["metadata"].get("annotations") or {})}

    cluster.until(lambda: bool(marked()), "the pods of one group are marked")
    assert {name.split("-")[1] for name in marked()} <= {"1"}
    cluster.until(lambda: {name.split("-")[1] for name in cluster.pods(name="dsv4")} == {"0"}, "they are gone")
    cluster.until_served("dsv4")


def test_a_patch_for_another_uid_is_refused(cluster: Cluster) -> None:
    apply(cluster, raw(cluster).role("decode"))
    cluster.until(lambda: bool(cluster.pods(name="demo")), "there is a pod")
    patch = {"metadata": {"uid": "11111111-1111-1111-1111-111111111111", "annotations": {"touched": "yes"}}}
    with pytest.raises(ControlPlaneError, match=r"metadata\.uid: Invalid value"):
        cluster.run("patch", "pod", "demo-0-decode-0-0", "--type=merge", "-p", json.dumps(patch))


def test_a_change_beside_the_template_is_written_down_whatever_the_template_contains(cluster: Cluster) -> None:
    builder = raw(cluster, replicas=1).role("decode", image="engine:<1>&\u2028\u00e9")
    apply(cluster, builder)
    apply(cluster, builder.replicas(2))

    def is_settled() -> bool:
        (revision,) = cluster.get("controllerrevisions")["items"]
        return bool(json.loads(revision["metadata"]["annotations"][labels.SETTINGS])["replicas"] == 2)

    cluster.until(is_settled, "the revision has the new number of replicas")
