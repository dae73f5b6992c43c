from __future__ import annotations

import hashlib
from typing import Any

import pytest

from builders import JsonObject, ServingBuilder, serving
from planned_cluster import Cluster, created

ENTRY, WORKER = "demo-0-prefill-0-0", "demo-0-prefill-0-1"
PAIR = serving().role("prefill", workers=1).role("decode")
OWNER = {
    "apiVersion": "leaderworkerset.x-k8s.io/v1",
    "kind": "LeaderWorkerSet",
    "name": "set",
    "uid": "u",
    "controller": True,
}


def plugin(name: str = "demo-pod-tweaks", **fields: Any) -> JsonObject:
    return {"name": name, **fields}


def pods_of(builder: ServingBuilder, *plugins: JsonObject) -> dict[str, dict[str, Any]]:
    return created(Cluster(builder.with_spec(plugins=list(plugins))).plan())


def notes_of(pod: dict[str, Any]) -> dict[str, str]:
    found: dict[str, str] = pod["metadata"].get("annotations", {})
    return found


def test_tweaks_set_the_runtime_class_annotations_and_variables_of_every_container() -> None:
    own = {"name": "MODE", "value": "own"}
    spec = {
        "containers": [{"name": "engine", "image": "e", "env": [own]}],
        "initContainers": [{"name": "wait", "image": "e"}],
    }
    builder = serving().role("decode", entryTemplate={"metadata": {"annotations": {"a": "1", "b": "1"}}, "spec": spec})
    config = {"runtimeClassName": "ascend", "annotations": {"b": "2"}, "env": [{"name": "MODE", "value": "x"}]}
    pod = pods_of(builder, plugin(config=config))["demo-0-decode-0-0"]
    assert pod["spec"]["runtimeClassName"] == "ascend"
    assert notes_of(pod) == {"a": "1", "b": "2"}
    for container in (*pod["spec"]["containers"], *pod["spec"]["initContainers"]):
        assert [entry for entry in container["env"] if entry["name"] == "MODE"] == config["env"]
        assert container["env"][0]["name"] == "GROUP_SIZE"


def test_tweaks_without_a_configuration_change_nothing() -> None:
    assert pods_of(PAIR, plugin()) == pods_of(PAIR)


@pytest.mark.parametrize(
    ("scope", "touched"),
    [
        ({}, {"demo-0-prefill-0-0", "demo-0-prefill-0-1", "demo-0-decode-0-0"}),
        ({"target": "All"}, {"demo-0-prefill-0-0", "demo-0-prefill-0-1", "demo-0-decode-0-0"}),
        ({"target": "Entry"}, {"demo-0-prefill-0-0", "demo-0-decode-0-0"}),
        ({"target": "Worker"}, {"demo-0-prefill-0-1"}),
        ({"roles": ["decode"]}, {"demo-0-decode-0-0"}),
        ({"roles": ["decode"], "target": "Worker"}, set()),
    ],
)
def test_a_scope_says_which_pods_are_touched(scope: JsonObject, touched: set[str]) -> None:
    pods = pods_of(PAIR, plugin(config={"annotations": {"note": "x"}}, scope=scope))
    assert {name for name, pod in pods.items() if notes_of(pod)} == touched


def test_plugins_are_applied_in_their_order() -> None:
    notes = [plugin(config={"annotations": {"note": text}}) for text in "ab"]
    assert notes_of(pods_of(PAIR, *notes)[ENTRY]) == {"note": "b"}


def test_pods_of_a_leader_worker_set_get_its_labels() -> None:
    builder = PAIR.replicas(2).with_metadata(ownerReferences=[OWNER])
    metadata = pods_of(builder, plugin("lws-standard-labels"))["demo-1-prefill-0-1"]["metadata"]
    assert {key: value for key, value in metadata["labels"].items() if key.startswith("leaderworkerset")} == {
        "leaderworkerset.sigs.k8s.io/name": "set",
        "leaderworkerset.sigs.k8s.io/group-index": "1",
        "leaderworkerset.sigs.k8s.io/worker-index": "1",
        "leaderworkerset.sigs.k8s.io/group-key": hashlib.sha1(b"set-1", usedforsecurity=False).hexdigest(),
    }


def test_without_a_leader_worker_set_there_are_no_labels_of_one() -> None:
    assert pods_of(PAIR, plugin("lws-standard-labels")) == pods_of(PAIR)


def test_a_changed_plugin_restarts_no_pod() -> None:
    cluster = Cluster(PAIR)
    cluster.converge()
    cluster.edit(cluster.builder.with_spec(plugins=[plugin(config={"annotations": {"note": "x"}})]))
    cluster.step()
    assert cluster.leaving() == []
    cluster.vanish(WORKER)
    cluster.step()
    cluster.finish_deletions()
    assert notes_of(created(cluster.plan())[WORKER]) == {"note": "x"}, "new pods have it"
