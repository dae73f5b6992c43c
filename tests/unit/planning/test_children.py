from __future__ import annotations

from dataclasses import replace

from baton.planning.model import ChildKind, ChildView, ConfigFile, Delete
from builders import JsonObject, serving
from planned_cluster import Cluster, created, deleted, running

MULTI_NODE = serving().role("prefill").role("decode", replicas=2, workers=1)
SERVICE, CONFIG_MAP = ChildKind.SERVICE, ChildKind.CONFIG_MAP


def launch(version: str) -> ConfigFile:
    return ConfigFile(f"launch-{version}", "decode", {"launch.sh": version})


def mounting(version: str) -> JsonObject:
    volumes = [{"name": "launch", "configMap": {"name": f"launch-{version}"}}, {"name": "tmp", "emptyDir": {}}]
    return {"spec": {"containers": [{"name": "engine", "image": "engine:1"}], "volumes": volumes}}


def test_what_pods_need_is_created_before_them_and_collected_after() -> None:
    cluster = running(MULTI_NODE, launch("1"))
    cluster.edit(MULTI_NODE.role("decode", replicas=1, workers=1).role("router", workers=1), launch("2"))
    cluster.builder = cluster.builder.rollout_by_role()
    needs, pods, waste = cluster.plan().stages
    assert [(action.kind, action.name) for action in needs] == [
        (ChildKind.REVISION, needs[0].name),
        (CONFIG_MAP, "launch-2"),
        (SERVICE, "demo-0-router-0-0"),
    ]
    assert {action.kind for action in pods} == {ChildKind.POD}
    assert [(action.kind, action.name) for action in waste] == [(CONFIG_MAP, "launch-1")]


def test_a_plan_without_actions_has_no_stages() -> None:
    assert running(MULTI_NODE, launch("1")).plan().stages == ()


def test_a_lost_service_is_created_again() -> None:
    cluster = running(MULTI_NODE)
    del cluster.services["demo-0-decode-1-0"]
    made = cluster.plan()
    assert list(created(made, SERVICE)) == ["demo-0-decode-1-0"]
    assert len(made.actions) == 1


def test_a_lost_service_comes_back_also_for_a_replica_that_waits_for_its_roll_out() -> None:
    cluster = running(MULTI_NODE.rollout(partition=1))
    cluster.edit(cluster.builder.role("decode", replicas=2, workers=1, image="engine:2"))
    del cluster.services["demo-0-decode-1-0"]
    assert list(created(cluster.plan(), SERVICE)) == ["demo-0-decode-1-0"]


def test_a_lost_service_of_a_replica_that_leaves_stays_away() -> None:
    cluster = running(MULTI_NODE)
    cluster.edit(MULTI_NODE.role("decode", replicas=1, workers=1))
    del cluster.services["demo-0-decode-1-0"]
    assert not created(cluster.plan(), SERVICE)


def test_a_service_goes_once_its_replica_is_gone() -> None:
    cluster = running(MULTI_NODE)
    cluster.edit(MULTI_NODE.role("decode", replicas=1, workers=1))
    assert not deleted(cluster.step(), SERVICE)
    cluster.finish_deletions()
    assert deleted(cluster.plan(), SERVICE) == {"demo-0-decode-1-0": "its role replica is gone"}


def test_services_go_with_their_group() -> None:
    cluster = running(MULTI_NODE.replicas(2))
    cluster.edit(MULTI_NODE)
    cluster.step()
    cluster.finish_deletions()
    assert sorted(deleted(cluster.plan(), SERVICE)) == ["demo-1-decode-0-0", "demo-1-decode-1-0"]


def test_a_service_survives_the_replacement_of_its_replica() -> None:
    cluster = running(MULTI_NODE)
    before = dict(cluster.services)
    cluster.fail("demo-0-decode-0-0")
    cluster.converge()
    assert cluster.services == before


def test_a_service_goes_when_the_new_template_has_no_workers_and_not_before() -> None:
    cluster = running(MULTI_NODE)
    cluster.edit(MULTI_NODE.role("decode", replicas=2))
    assert not deleted(cluster.step(), SERVICE)
    cluster.converge()
    assert cluster.services == {}


def test_services_and_config_maps_of_others_and_those_leaving_are_not_touched() -> None:
    cluster = running(MULTI_NODE, launch("1"))
    foreign = ChildView("default", "demo-9-decode-0-0", "x", "somebody-else")
    leaving = ChildView("default", "demo-8-decode-0-0", "y", "uid-of-demo", deleting=True)
    for children in (cluster.services, cluster.config_maps):
        children.update({child.name: child for child in (foreign, leaving)})
    assert cluster.plan().actions == ()


def test_nothing_is_created_beside_a_service_that_leaves() -> None:
    cluster = running(MULTI_NODE)
    cluster.services["demo-0-decode-0-0"] = replace(cluster.services["demo-0-decode-0-0"], deleting=True)
    assert cluster.plan().actions == ()


def test_a_launch_config_map_is_kept_until_no_pod_mounts_it() -> None:
    cluster = running(serving(replicas=2).role("decode", entryTemplate=mounting("1")), launch("1"))
    cluster.edit(cluster.builder.role("decode", entryTemplate=mounting("2")), launch("2"))
    made = cluster.step()
    assert list(created(made, CONFIG_MAP)) == ["launch-2"]
    assert not deleted(made, CONFIG_MAP)
    cluster.change_all(lambda pod: replace(pod, deleting=True))
    assert not deleted(cluster.plan(), CONFIG_MAP), "pods that leave still mount it"
    cluster.finish_deletions()
    assert deleted(cluster.plan(), CONFIG_MAP) == {"launch-1": "no pod mounts it any more"}


def test_a_lost_launch_config_map_is_created_again() -> None:
    cluster = running(serving().role("decode", entryTemplate=mounting("1")), launch("1"))
    cluster.config_maps.clear()
    assert list(created(cluster.plan(), CONFIG_MAP)) == ["launch-1"]


def test_deletes_name_the_uid_of_what_was_seen() -> None:
    cluster = running(MULTI_NODE)
    uids = {name: pod.uid for name, pod in cluster.pods.items()}
    cluster.edit(MULTI_NODE.replicas(0))
    assert {action.name: action.uid for action in cluster.plan().actions if isinstance(action, Delete)} == uids


def test_a_name_taken_by_somebody_elses_pod_is_still_asked_for() -> None:
    # The API server answers with a conflict, which the status then tells; nothing is deleted to make room.
    cluster = Cluster(serving().role("decode"))
    cluster.step()
    name = "demo-0-decode-0-0"
    cluster.change(name, owner_uid="somebody-else")
    made = cluster.plan()
    assert list(created(made)) == [name]
    assert not deleted(made)
