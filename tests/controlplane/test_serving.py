from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from cluster import Cluster

pytestmark = pytest.mark.controlplane

Documents = list[dict[str, Any]]


def replicas_patch(role: int, replicas: int) -> str:
    return json.dumps([{"op": "replace", "path": f"/spec/template/roles/{role}/replicas", "value": replicas}])


def test_an_applied_model_becomes_pods_by_role_and_serves(cluster: Cluster, deepseek: Documents) -> None:
    cluster.apply(*deepseek)
    cluster.wait_available("dsv4")

    assert set(cluster.pods(name="dsv4", role="prefill")) == {"dsv4-0-prefill-0-0"}
    assert set(cluster.pods(name="dsv4", role="decode")) == {"dsv4-0-decode-0-0"}
    answer = cluster.until_served("dsv4")
    assert answer.chunks == 8
    assert "dsv4-0-prefill-0-0" in answer.prefill
    assert "dsv4-0-decode-0-0" in answer.decode


def test_a_role_is_rescaled_both_ways_while_requests_follow(cluster: Cluster, deepseek: Documents) -> None:
    cluster.apply(*deepseek)
    cluster.wait_available("dsv4")
    before = {name: pod["metadata"]["uid"] for name, pod in cluster.pods(name="dsv4").items()}

    cluster.run("patch", "modelserving", "dsv4", "--type=json", "-p", replicas_patch(1, 2))
    cluster.until_served("dsv4", by="dsv4-0-decode-1-0")
    cluster.run("patch", "modelserving", "dsv4", "--type=json", "-p", replicas_patch(1, 1))
    cluster.until(lambda: "dsv4-0-decode-1-0" not in cluster.pods(name="dsv4"), "the surplus pod is gone")
    cluster.wait_available("dsv4")

    assert {name: pod["metadata"]["uid"] for name, pod in cluster.pods(name="dsv4").items()} == before
    cluster.until_served("dsv4", by="dsv4-0-decode-0-0")


def test_groups_are_rescaled_through_the_scale_subresource(cluster: Cluster, deepseek: Documents) -> None:
    cluster.apply(*deepseek)
    cluster.wait_available("dsv4")

    cluster.run("scale", "modelserving", "dsv4", "--replicas=2")
    answer = cluster.until_served("dsv4", by="dsv4-1-decode-0-0")
    assert "dsv4-1-prefill-0-0" in answer.prefill, "a pair stays inside one ServingGroup"
    assert len(cluster.pods(name="dsv4")) == 4

    cluster.run("scale", "modelserving", "dsv4", "--replicas=1")
    cluster.until(lambda: set(cluster.pods(name="dsv4", group_name="dsv4-1")) == set(), "group 1 is gone")
    assert len(cluster.pods(name="dsv4", group_name="dsv4-0")) == 2


def test_a_deleted_pod_comes_back_and_serves(cluster: Cluster, deepseek: Documents) -> None:
    cluster.apply(*deepseek)
    cluster.wait_available("dsv4")
    old = cluster.pods(name="dsv4")["dsv4-0-decode-0-0"]["metadata"]["uid"]

    cluster.run("delete", "pod", "dsv4-0-decode-0-0", "--wait=false")

    def is_healed() -> bool:
        pod = cluster.pods(name="dsv4").get("dsv4-0-decode-0-0")
        return pod is not None and pod["metadata"]["uid"] != old

    cluster.until(is_healed, "the pod has a successor")
    cluster.wait_available("dsv4")
    cluster.until_served("dsv4", by="dsv4-0-decode-0-0")


def test_everything_goes_with_the_object(cluster: Cluster, deepseek: Documents) -> None:
    cluster.apply(*deepseek)
    cluster.wait_available("dsv4")

    cluster.run("delete", "modelserving/dsv4", "modelroute/dsv4")

    def is_empty() -> bool:
        kept = cluster.get("pods,services,configmaps")["items"]
        return [item["metadata"]["name"] for item in kept] == ["kube-root-ca.crt"]

    cluster.until(is_empty, "all children are gone")
    cluster.until_refused("dsv4", status=404)


def test_an_operator_that_restarts_half_way_finishes_the_work(cluster: Cluster, deepseek: Documents) -> None:
    cluster.apply(*deepseek)
    cluster.wait_available("dsv4")
    version = cluster.get("modelserving", "dsv4")["metadata"]["resourceVersion"]

    cluster.system.stop("baton-operator")
    cluster.run("delete", "pod", "dsv4-0-prefill-0-0", "--wait=false")
    cluster.run("scale", "modelserving", "dsv4", "--replicas=2")
    cluster.until_refused("dsv4", status=503)
    cluster.system.restart("baton-operator")

    cluster.until(lambda: len(cluster.pods(name="dsv4")) == 4, "the restarted operator made all pods")
    cluster.wait_available("dsv4")
    cluster.until_served("dsv4")
    assert cluster.get("modelserving", "dsv4")["metadata"]["resourceVersion"] != version


def test_a_restarted_operator_writes_nothing_when_all_is_well(cluster: Cluster, deepseek: Documents) -> None:
    cluster.apply(*deepseek)
    cluster.wait_available("dsv4")
    cluster.until(
        lambda: "16 decode" in cluster.condition("modelroute", "dsv4", "Programmed")["message"], "all ranks are counted"
    )
    before = {
        item["metadata"]["name"]: item["metadata"]["resourceVersion"]
        for item in cluster.get("modelservings,modelroutes,pods,configmaps")["items"]
    }

    cluster.system.restart("baton-operator")
    # A second model shows that the new process has worked through its queue.
    other = json.loads(json.dumps(deepseek[0]).replace("dsv4", "other"))
    cluster.apply(other)
    cluster.wait_available("other")

    after = {
        item["metadata"]["name"]: item["metadata"]["resourceVersion"]
        for item in cluster.get("modelservings,modelroutes,pods,configmaps")["items"]
    }
    assert {name: after[name] for name in before} == before


def test_raw_templates_with_a_model_server_serve(cluster: Cluster, article: Documents) -> None:
    cluster.apply(*article)
    cluster.wait_available("deepseekv4-pd")

    route = next(document for document in article if document["kind"] == "ModelRoute")
    answer = cluster.until_served(route["spec"]["modelName"])

    assert "deepseekv4-pd-0-prefill-0-0" in answer.prefill
    assert "deepseekv4-pd-0-decode-0-0" in answer.decode


def test_a_bad_spec_is_a_condition_that_names_field_and_cure(cluster: Cluster, deepseek: Documents) -> None:
    serving, route = deepseek
    cluster.apply(serving, route)
    cluster.wait_available("dsv4")
    before = {name: pod["metadata"]["uid"] for name, pod in cluster.pods(name="dsv4").items()}
    tensor = [{"op": "replace", "path": "/spec/template/roles/0/engine/parallel/tensor", "value": 32}]

    cluster.run("patch", "modelserving", "dsv4", "--type=json", "-p", json.dumps(tensor))
    cluster.until(
        lambda: cluster.condition("modelserving", "dsv4", "Accepted").get("status") == "False", "the spec is refused"
    )

    refused = cluster.condition("modelserving", "dsv4", "Accepted")
    assert "spec.template.roles[0].engine.parallel" in refused["message"]
    assert {name: pod["metadata"]["uid"] for name, pod in cluster.pods(name="dsv4").items()} == before
    cluster.until_served("dsv4")

    cluster.apply(serving)
    cluster.until(
        lambda: cluster.condition("modelserving", "dsv4", "Accepted").get("status") == "True", "the spec is accepted"
    )


def test_a_pod_that_cannot_be_placed_says_why(cluster: Cluster, deepseek: Documents) -> None:
    serving = deepseek[0]
    serving["spec"]["template"]["engine"]["accelerator"]["resourceName"] = "huawei.com/nobody-has-this"

    cluster.apply(serving)

    def says_why() -> bool:
        message = cluster.condition("modelserving", "dsv4", "Available").get("message", "")
        return "huawei.com/nobody-has-this" in message

    cluster.until(says_why, "the scheduler's words are in the condition")


def on_one_node(name: str, *, replicas: int = 1, **engine: Any) -> dict[str, Any]:
    """Return a ModelServing of one device a replica, on the network of node-3."""
    typed = {"image": "engine:1", "model": {"path": "/models/m"}, "network": {"hostNetwork": True}, **engine}
    template = {"spec": {"containers": [], "nodeSelector": {"kubernetes.io/hostname": "node-3"}}}
    return {
        "apiVersion": "workload.serving.volcano.sh/v1alpha1",
        "kind": "ModelServing",
        "metadata": {"name": name},
        "spec": {
            "schedulerName": "default-scheduler",
            "template": {
                "roles": [{"name": "server", "replicas": replicas, "engine": typed, "entryTemplate": template}]
            },
        },
    }


def test_pods_with_a_port_in_common_never_share_a_node_on_the_host_network(cluster: Cluster) -> None:
    def has_no_room(pod: str) -> bool:
        conditions = cluster.get("pod", pod).get("status", {}).get("conditions", [])
        message = next((each.get("message", "") for each in conditions if each["type"] == "PodScheduled"), "")
        return "didn't have free ports" in message

    cluster.apply(on_one_node("first", replicas=2))
    cluster.until(lambda: len(cluster.pods(name="first")) == 2, "both replicas have a pod")
    replicas = ("first-0-server-0-0", "first-0-server-1-0")
    cluster.until(lambda: sum(map(has_no_room, replicas)) == 1, "there is room for one replica")

    cluster.apply(
        on_one_node("apart", ports={"api": 7090}),
        on_one_node("meets", ports={"api": 7095}, parallel={"data": 6}),
    )
    cluster.wait_available("apart")
    cluster.until(lambda: has_no_room("meets-0-server-0-0"), "there is no room for ports 7095 to 7100 beside 7100")
