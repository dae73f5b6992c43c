from __future__ import annotations

from typing import Any

import pytest

from baton.planning.model import ChildKind, ConfigFile
from builders import ServingBuilder, pod_template, serving
from planned_cluster import Cluster, created

WITH_WORKER = serving("sample", namespace="models").role("prefill", replicas=2, workers=1)
OWNER = {
    "apiVersion": "workload.serving.volcano.sh/v1alpha1",
    "kind": "ModelServing",
    "name": "sample",
    "uid": "uid-of-sample",
    "controller": True,
    "blockOwnerDeletion": True,
}


def pods_of(builder: ServingBuilder) -> dict[str, dict[str, Any]]:
    return created(Cluster(builder).plan())


def environment(container: dict[str, Any]) -> dict[str, str]:
    names = [entry["name"] for entry in container["env"]]
    assert len(names) == len(set(names))
    return {entry["name"]: entry["value"] for entry in container["env"]}


def with_containers(**spec: Any) -> ServingBuilder:
    return serving().role("decode", entryTemplate={"spec": spec})


def test_a_pod_is_named_after_serving_group_role_replica_and_worker() -> None:
    assert list(pods_of(serving("sample", replicas=2).role("prefill", replicas=2, workers=1).role("decode"))) == [
        f"sample-{group}-{rest}"
        for group in (0, 1)
        for rest in ("prefill-0-0", "prefill-0-1", "prefill-1-0", "prefill-1-1", "decode-0-0")
    ]


def test_a_pod_carries_the_labels_that_say_where_it_belongs() -> None:
    pods = pods_of(WITH_WORKER)
    labels = dict(pods["sample-0-prefill-1-1"]["metadata"]["labels"])
    assert labels.pop("modelserving.volcano.sh/revision")
    assert labels.pop("modelserving.volcano.sh/role-template-hash")
    assert labels == {
        "modelserving.volcano.sh/name": "sample",
        "modelserving.volcano.sh/group-name": "sample-0",
        "modelserving.volcano.sh/role": "prefill",
        "modelserving.volcano.sh/role-id": "prefill-1",
    }


def test_only_entry_pods_carry_the_entry_label() -> None:
    entries = {
        name: document["metadata"]["labels"].get("modelserving.volcano.sh/entry")
        for name, document in pods_of(WITH_WORKER).items()
    }
    assert entries == {
        "sample-0-prefill-0-0": "true",
        "sample-0-prefill-0-1": None,
        "sample-0-prefill-1-0": "true",
        "sample-0-prefill-1-1": None,
    }


@pytest.mark.parametrize("kind", list(ChildKind))
def test_every_child_is_in_the_namespace_of_its_owner_and_goes_with_it(kind: ChildKind) -> None:
    made = Cluster(WITH_WORKER, ConfigFile("launch-x", "prefill", {"launch.sh": "true"})).plan()
    for document in created(made, kind).values():
        assert document["metadata"]["namespace"] == "models"
        assert document["metadata"]["ownerReferences"] == [OWNER]


def test_every_container_is_told_its_place() -> None:
    containers = [{"name": "engine", "image": "a"}, {"name": "side", "image": "b"}]
    workers = {"spec": {"containers": containers}}
    builder = serving("sample", namespace="models").role("decode", replicas=2, workers=2, workerTemplate=workers)
    for container in pods_of(builder)["sample-0-decode-1-2"]["spec"]["containers"]:
        assert environment(container) == {
            "GROUP_SIZE": "3",
            "ENTRY_ADDRESS": "sample-0-decode-1-0.models",
            "WORKER_INDEX": "2",
            "GROUP_NAME": "sample-0",
            "ROLE_ID": "decode-1",
        }


def test_init_containers_are_told_their_place_too() -> None:
    builder = with_containers(containers=[{"name": "a"}], initContainers=[{"name": "b"}])
    spec = pods_of(builder)["demo-0-decode-0-0"]["spec"]
    assert environment(spec["initContainers"][0]) == environment(spec["containers"][0])


def test_our_environment_replaces_variables_of_the_same_name_and_comes_before_the_others() -> None:
    own = [{"name": "WORKER_INDEX", "value": "7"}, {"name": "RANK", "value": "$(WORKER_INDEX)"}]
    pods = pods_of(with_containers(containers=[{"name": "a", "env": own}]))
    (container,) = pods["demo-0-decode-0-0"]["spec"]["containers"]
    assert environment(container)["WORKER_INDEX"] == "0"
    assert container["env"][-1] == {"name": "RANK", "value": "$(WORKER_INDEX)"}


def test_the_pod_spec_is_the_templates_but_for_the_scheduler() -> None:
    spec = {"containers": [], "schedulerName": "other", "hostNetwork": True, "volumes": [{"name": "v"}]}
    pods = pods_of(with_containers(**spec))
    assert pods["demo-0-decode-0-0"]["spec"] == spec | {"schedulerName": "volcano"}
    pods = pods_of(with_containers(**spec).with_spec(schedulerName="default-scheduler"))
    assert pods["demo-0-decode-0-0"]["spec"]["schedulerName"] == "default-scheduler"


def test_workers_are_made_from_the_worker_template() -> None:
    pods = pods_of(serving().role("decode", workers=1, workerTemplate=pod_template("worker:1")))
    images = {name: document["spec"]["containers"][0]["image"] for name, document in pods.items()}
    assert images == {"demo-0-decode-0-0": "engine:1", "demo-0-decode-0-1": "worker:1"}


def test_labels_and_annotations_of_the_template_win_over_ours() -> None:
    labels = {"modelserving.volcano.sh/group-name": "group-0", "app": "mine"}
    builder = serving().role("decode", entryTemplate=pod_template(labels=labels, annotations={"note": "x"}))
    metadata = pods_of(builder)["demo-0-decode-0-0"]["metadata"]
    assert labels.items() <= metadata["labels"].items()
    assert metadata["annotations"] == {"note": "x"}


def test_a_template_cannot_override_which_template_its_pods_are_from() -> None:
    labels = {"modelserving.volcano.sh/revision": "mine", "modelserving.volcano.sh/role-template-hash": "mine"}
    cluster = Cluster(serving().role("decode", entryTemplate=pod_template(labels=labels)))
    cluster.converge(limit=5)
    assert "mine" not in cluster.pods["demo-0-decode-0-0"].labels.values()


def test_a_role_without_the_template_of_its_workers_is_refused_by_name() -> None:
    builder = serving().role("decode", workers=1, workerTemplate=None)
    with pytest.raises(ValueError, match="role decode has no workerTemplate"):
        Cluster(builder).plan()


def test_replicas_of_a_role_with_a_worker_template_get_a_headless_service() -> None:
    services = created(Cluster(WITH_WORKER.role("decode")).plan(), ChildKind.SERVICE)
    assert list(services) == ["sample-0-prefill-0-0", "sample-0-prefill-1-0"]
    place = {
        "modelserving.volcano.sh/group-name": "sample-0",
        "modelserving.volcano.sh/role": "prefill",
        "modelserving.volcano.sh/role-id": "prefill-1",
    }
    service = services["sample-0-prefill-1-0"]
    assert service["metadata"]["labels"] == place | {"modelserving.volcano.sh/name": "sample"}
    assert service["spec"] == {
        "clusterIP": "None",
        "publishNotReadyAddresses": True,
        "selector": place | {"modelserving.volcano.sh/entry": "true"},
    }


def test_a_worker_template_alone_is_enough_for_a_service() -> None:
    builder = serving().role("decode", workers=0, workerTemplate=pod_template())
    assert list(created(Cluster(builder).plan(), ChildKind.SERVICE)) == ["demo-0-decode-0-0"]


def test_a_service_selects_the_labels_its_entry_pod_really_has() -> None:
    override = {"modelserving.volcano.sh/group-name": "group-0"}
    template = pod_template(labels=override)
    made = Cluster(serving().role("decode", workers=1, entryTemplate=template, workerTemplate=template)).plan()
    selector = created(made, ChildKind.SERVICE)["demo-0-decode-0-0"]["spec"]["selector"]
    entry = created(made)["demo-0-decode-0-0"]["metadata"]["labels"]
    worker = created(made)["demo-0-decode-0-1"]["metadata"]["labels"]
    assert selector.items() <= entry.items()
    assert not selector.items() <= worker.items()


def test_a_launch_config_map_is_immutable_and_says_whose_it_is() -> None:
    made = Cluster(serving().role("decode"), ConfigFile("demo-decode-launch-x", "decode", {"launch.sh": "true"})).plan()
    (document,) = created(made, ChildKind.CONFIG_MAP).values()
    assert document["immutable"] is True
    assert document["data"] == {"launch.sh": "true"}
    assert document["metadata"]["labels"] == {
        "modelserving.volcano.sh/name": "demo",
        "baton.serving.volcano.sh/launch": "decode",
    }
