from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from baton.api import labels
from baton.planning.model import ChildKind, ConfigFile
from builders import JsonObject, ServingBuilder, serving
from planned_cluster import MULTI_NODE, NODE_NAMES, PAIR, Cluster, created, deleted, group_names, rolled, running

if TYPE_CHECKING:
    from collections.abc import Iterable


def images(documents: Iterable[JsonObject]) -> set[str]:
    return {document["spec"]["containers"][0]["image"] for document in documents}


def held(builder: ServingBuilder) -> Cluster:
    """Return a cluster after a change of the image of decode that a partition holds back."""
    cluster = rolled(builder)
    cluster.converge()
    return cluster


def test_a_protected_group_is_rebuilt_from_its_own_template_and_carries_its_revision() -> None:
    cluster = held(PAIR.replicas(3).rollout(partition=2))
    old = {pod.labels[labels.REVISION] for name, pod in cluster.pods.items() if name.startswith("demo-1-")}
    for name in group_names(1):
        cluster.vanish(name)
    made = created(cluster.step())
    assert sorted(made) == group_names(1)
    assert images(made.values()) == {"engine:1"}
    assert {pod["metadata"]["labels"][labels.REVISION] for pod in made.values()} == old
    assert cluster.builder.observed_status["currentReplicas"] == 2


def test_all_protected_groups_at_once_come_back_as_they_were() -> None:
    cluster = held(PAIR.replicas(2).rollout(partition=2))
    cluster.pods.clear()
    assert images(created(cluster.step()).values()) == {"engine:1"}
    cluster.converge()
    status = cluster.plan().status
    assert (status.current_replicas, status.updated_replicas) == (2, 0)
    assert status.current_revision != status.update_revision


def test_a_new_group_below_the_partition_is_of_the_current_revision() -> None:
    cluster = held(PAIR.replicas(1).rollout(partition=3))
    cluster.edit(cluster.builder.replicas(4))
    made = created(cluster.step())
    assert {name: images([pod]) for name, pod in made.items() if "decode" in name} == {
        "demo-1-decode-0-0": {"engine:1"},
        "demo-2-decode-0-0": {"engine:1"},
        "demo-3-decode-0-0": {"engine:2"},
    }


def test_protected_groups_of_different_revisions_each_keep_their_own() -> None:
    cluster = running(PAIR.replicas(3).rollout(partition=2))
    for version, partition in ((2, 2), (3, 3)):
        cluster.edit(cluster.builder.role("decode", image=f"engine:{version}").rollout(partition=partition))
        cluster.converge()
    cluster.vanish("demo-0-decode-0-0")
    cluster.vanish("demo-2-decode-0-0")
    made = created(cluster.step())
    assert {name: images([pod]) for name, pod in made.items()} == {
        "demo-0-decode-0-0": {"engine:1"},
        "demo-2-decode-0-0": {"engine:2"},
    }


def test_a_protected_group_keeps_a_role_that_was_removed_and_gets_none_that_was_added() -> None:
    cluster = running(PAIR.rollout(partition=1))
    cluster.edit(cluster.builder.without_role("decode").role("router"))
    cluster.step()
    cluster.vanish("demo-0-decode-0-0")
    assert list(created(cluster.step())) == ["demo-0-decode-0-0"]
    cluster.make_ready()
    assert cluster.plan().actions == ()
    assert cluster.plan().status.available_replicas == 1


def test_a_protected_group_follows_the_present_number_of_role_replicas() -> None:
    cluster = held(PAIR.rollout(partition=1))
    role = {**cluster.builder.roles[1], "replicas": 3}
    cluster.edit(cluster.builder.with_role(role))
    made = created(cluster.step())
    assert list(made) == ["demo-0-decode-1-0", "demo-0-decode-2-0"]
    assert images(made.values()) == {"engine:1"}


def test_a_removed_role_keeps_the_number_of_replicas_it_had_last() -> None:
    cluster = running(PAIR.rollout(partition=1))
    cluster.edit(cluster.builder.role("decode", replicas=2))
    cluster.converge()
    cluster.edit(cluster.builder.without_role("decode"))
    cluster.converge()
    assert cluster.names() == ["demo-0-decode-0-0", "demo-0-decode-1-0", "demo-0-prefill-0-0"]


def test_a_group_that_waits_for_its_turn_is_healed_from_its_own_template() -> None:
    cluster = rolled(PAIR.replicas(3).role("prefill", replicas=2))
    cluster.step()
    cluster.vanish("demo-0-prefill-1-0")
    made = cluster.step()
    assert not deleted(made)
    (pod,) = created(made).values()
    old = cluster.pods["demo-0-decode-0-0"].labels[labels.REVISION]
    assert pod["metadata"]["labels"][labels.REVISION] == old


def test_a_group_that_waits_and_cannot_serve_any_more_is_replaced_at_once() -> None:
    cluster = rolled(PAIR.replicas(3))
    cluster.step()
    cluster.vanish("demo-0-prefill-0-0")
    assert list(deleted(cluster.step())) == ["demo-0-decode-0-0"]


def test_a_role_scaled_up_from_0_comes_with_the_present_template_only() -> None:
    cluster = running(PAIR.replicas(3).role("prefill", replicas=0))
    cluster.edit(PAIR.replicas(3).role("prefill", image="engine:2"))
    made = cluster.step()
    assert not created(made)
    assert list(deleted(made)) == ["demo-2-decode-0-0"]


def test_a_multi_node_replica_of_an_older_template_is_completed_by_its_own_number_of_workers() -> None:
    cluster = rolled(MULTI_NODE.rollout(partition=1).recovery("None"))
    cluster.step()
    cluster.vanish("demo-0-decode-0-1")
    made = cluster.step()
    assert list(created(made)) == ["demo-0-decode-0-1"]
    assert not deleted(made)
    cluster.make_ready()
    assert cluster.names() == [*NODE_NAMES, "demo-0-prefill-0-0"]
    assert cluster.plan().status.available_replicas == 1


def test_role_replicas_below_a_partition_come_back_with_their_template_and_others_with_the_new_one() -> None:
    cluster = held(serving().role("decode", replicas=3, partition=1, maxUnavailable=3).rollout_by_role())
    for ordinal in (0, 1):
        cluster.vanish(f"demo-0-decode-{ordinal}-0")
    made = created(cluster.step())
    assert {name: images([pod]) for name, pod in made.items()} == {
        "demo-0-decode-0-0": {"engine:1"},
        "demo-0-decode-1-0": {"engine:2"},
    }


def test_a_new_group_has_the_former_template_in_the_protected_replicas_of_each_role() -> None:
    cluster = held(PAIR.role("decode", replicas=2, partition=1).rollout_by_role())
    cluster.edit(cluster.builder.replicas(2))
    made = created(cluster.step())
    assert {name: images([pod]) for name, pod in made.items() if "decode" in name} == {
        "demo-1-decode-0-0": {"engine:1"},
        "demo-1-decode-1-0": {"engine:2"},
    }


@pytest.mark.parametrize("has_changed", [False, True])
def test_a_revision_is_written_before_the_first_pod_and_only_once(*, has_changed: bool) -> None:
    cluster = Cluster(PAIR.replicas(2).rollout(partition=2))
    if has_changed:
        cluster.converge()
        cluster.edit(cluster.builder.role("decode", image="engine:2"))
    first = cluster.plan().stages[0]
    revision = cluster.plan().status.update_revision
    assert [(action.kind, action.name) for action in first] == [(ChildKind.REVISION, f"demo-{revision}")]
    cluster.converge()
    assert len(cluster.revisions) == 1 + has_changed


def launched(version: int) -> ServingBuilder:
    volumes = [{"name": "launch", "configMap": {"name": f"launch-{version}"}}]
    spec = {"containers": [{"name": "engine", "image": f"engine:{version}"}], "volumes": volumes}
    return serving().role("decode", entryTemplate={"spec": spec}).rollout(partition=1)


def test_the_launch_of_an_older_template_comes_back_with_its_pods() -> None:
    files = [ConfigFile(f"launch-{version}", "decode", {"launch.sh": f"run {version}"}) for version in (0, 1)]
    cluster = running(launched(0), files[0])
    cluster.edit(launched(1), files[1])
    cluster.converge()
    cluster.vanish("demo-0-decode-0-0")
    del cluster.config_maps["launch-0"]
    made = cluster.step()
    assert created(made, ChildKind.CONFIG_MAP)["launch-0"]["data"] == {"launch.sh": "run 0"}
    assert cluster.pods["demo-0-decode-0-0"].config_maps == ("launch-0",)
    cluster.make_ready()
    assert sorted(cluster.config_maps) == ["launch-0", "launch-1"]
    assert cluster.plan().actions == ()


def test_revisions_that_pods_have_and_a_few_of_the_newest_others_stay() -> None:
    cluster = running(PAIR.replicas(2).rollout(partition=1))
    kept = cluster.builder.observed_status["currentRevision"]
    for version in range(2, 9):
        cluster.edit(cluster.builder.role("decode", image=f"engine:{version}"))
        cluster.converge()
    assert sorted(view.number for view in cluster.revisions.values()) == [1, 5, 6, 7, 8]
    assert [view.revision for view in cluster.revisions.values() if view.number == 1] == [kept]


def test_revisions_of_others_are_neither_read_nor_deleted() -> None:
    cluster = held(PAIR.replicas(2).rollout(partition=2))
    cluster.disown_revisions()
    cluster.vanish("demo-0-decode-0-0")
    made = cluster.plan()
    assert images(created(made).values()) == {"engine:2"}
    assert not deleted(made, ChildKind.REVISION)


def test_a_lost_pod_of_an_unchanged_role_carries_the_revision_of_its_protected_group() -> None:
    cluster = held(PAIR.role("prefill", workers=1).rollout(partition=1).recovery("None"))
    cluster.vanish("demo-0-prefill-0-1")
    (pod,) = created(cluster.step()).values()
    assert pod["metadata"]["labels"][labels.REVISION] == cluster.pods["demo-0-decode-0-0"].labels[labels.REVISION]
