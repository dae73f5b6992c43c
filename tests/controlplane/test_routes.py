from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from cluster import Cluster

pytestmark = pytest.mark.controlplane

Documents = list[dict[str, Any]]


def test_a_route_says_how_many_endpoints_are_ready(cluster: Cluster, deepseek: Documents) -> None:
    cluster.apply(*deepseek)
    cluster.wait_available("dsv4")

    def is_counted() -> bool:
        message = cluster.condition("modelroute", "dsv4", "Programmed").get("message", "")
        return "4 prefill, 16 decode" in message

    cluster.until(is_counted, "all DP ranks are counted")
    document = cluster.get("configmap", "dsv4-router-config")
    config = yaml.safe_load(document["data"]["router.yaml"])
    assert config["routes"][0]["modelName"] == "dsv4"
    assert config["backends"][0]["connector"] == "mooncake"


def test_a_changed_route_is_followed_and_a_bad_one_leaves_the_last_good_one(
    cluster: Cluster, deepseek: Documents
) -> None:
    serving, route = deepseek
    other = json.loads(json.dumps(serving).replace("dsv4", "other"))
    cluster.apply(serving, other, route)
    cluster.wait_available("dsv4")
    cluster.wait_available("other")
    cluster.until_served("dsv4", by="dsv4-0-decode-0-0")

    target = [{"op": "replace", "path": "/spec/rules/0/targetModels/0/modelServingName", "value": "other"}]
    cluster.run("patch", "modelroute", "dsv4", "--type=json", "-p", json.dumps(target))
    cluster.until_served("dsv4", by="other-0-decode-0-0")

    target[0]["value"] = "nobody"
    cluster.run("patch", "modelroute", "dsv4", "--type=json", "-p", json.dumps(target))
    cluster.until(
        lambda: cluster.condition("modelroute", "dsv4", "ResolvedRefs").get("status") == "False", "the route is refused"
    )

    message = cluster.condition("modelroute", "dsv4", "ResolvedRefs")["message"]
    assert "spec.rules[0].targetModels[0].modelServingName" in message
    assert "nobody" in message
    assert "last good configuration" in cluster.condition("modelroute", "dsv4", "Programmed")["message"]
    cluster.until_served("dsv4", by="other-0-decode-0-0")


def test_a_route_may_carry_pairs_connector_and_policy_itself(cluster: Cluster, article: Documents) -> None:
    serving = next(document for document in article if document["kind"] == "ModelServing")
    config = next(document for document in article if document["kind"] == "ConfigMap")
    label = "modelserving.volcano.sh/role"
    route = {
        "apiVersion": "networking.serving.volcano.sh/v1alpha1",
        "kind": "ModelRoute",
        "metadata": {"name": "inline"},
        "spec": {
            "modelName": "inline",
            "rules": [{"targetModels": [{"modelServingName": serving["metadata"]["name"]}]}],
            "workloadPort": {"port": 7100},
            "kvConnector": {"type": "mooncake"},
            "trafficPolicy": {"timeout": "300s", "retry": {"attempts": 3, "retryInterval": "150ms"}},
            "pdGroup": {
                "groupKey": "modelserving.volcano.sh/group-name",
                "prefillLabels": {label: "prefill"},
                "decodeLabels": {label: "decode"},
            },
        },
    }

    cluster.apply(config, serving, route)
    cluster.wait_available(serving["metadata"]["name"])

    assert "-prefill-0-0" in cluster.until_served("inline").prefill


def test_a_route_without_pods_answers_503_and_an_unknown_model_404(cluster: Cluster, deepseek: Documents) -> None:
    serving, route = deepseek
    serving["spec"]["replicas"] = 0
    cluster.apply(serving, route)
    cluster.until(
        lambda: cluster.condition("modelroute", "dsv4", "Programmed").get("reason") == "NoReadyEndpoints",
        "the route is programmed",
    )

    cluster.until_refused("dsv4", status=503)
    cluster.until_refused("nobody-serves-this", status=404)


def test_a_model_server_that_is_wrong_says_so(cluster: Cluster, article: Documents) -> None:
    server = next(document for document in article if document["kind"] == "ModelServer")
    server["spec"]["workloadSelector"]["matchLabels"] = {"app": "not a label"}

    cluster.apply(server)
    cluster.until(
        lambda: cluster.condition("modelserver", server["metadata"]["name"], "Accepted").get("status") == "False",
        "the ModelServer is refused",
    )

    message = cluster.condition("modelserver", server["metadata"]["name"], "Accepted")["message"]
    assert "spec.workloadSelector.matchLabels" in message
