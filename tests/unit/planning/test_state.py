from __future__ import annotations

from dataclasses import replace

import pytest

from baton.planning.state import Group, arrange
from baton.planning.target import target_of
from builders import ServingBuilder, pod_template, serving
from planned_cluster import Cluster, running

PAIR = serving().role("prefill", replicas=2).role("decode", workers=1)


def groups_of(cluster: Cluster) -> dict[int, Group]:
    return arrange(target_of(cluster.builder.desired()), cluster.pods.values())


def test_pods_are_arranged_by_group_role_replica_and_worker() -> None:
    groups = groups_of(running(PAIR.replicas(2)))
    assert list(groups) == [0, 1]
    assert {role: list(replicas) for role, replicas in groups[1].roles.items()} == {"decode": [0], "prefill": [0, 1]}
    assert [pod.name for pod in groups[1].roles["decode"][0].pods] == ["demo-1-decode-0-0", "demo-1-decode-0-1"]


def test_the_order_in_which_pods_are_seen_does_not_matter() -> None:
    cluster = running(PAIR.replicas(11))
    target = target_of(cluster.builder.desired())
    pods = list(cluster.pods.values())
    one, other = arrange(target, pods), arrange(target, reversed(pods))
    assert list(one) == list(other) == list(range(11))
    assert [pod.name for group in one.values() for pod in group.pods] == [
        pod.name for group in other.values() for pod in group.pods
    ]


def test_pods_of_other_owners_and_of_other_names_do_not_belong_to_any_group() -> None:
    cluster = running(PAIR)
    present = cluster.pods["demo-0-prefill-0-0"]
    cluster.pods["demo-3-prefill-0-0"] = replace(present, name="demo-3-prefill-0-0", owner_uid="somebody")
    cluster.pods["demo-4-prefill-0-0"] = replace(present, name="demo-4-prefill-0-0", owner_uid="")
    cluster.pods["demo-debug"] = replace(present, name="demo-debug")
    assert list(groups_of(cluster)) == [0]


def test_a_pod_is_found_by_its_name_whatever_group_its_labels_say() -> None:
    overriding = pod_template(labels={"modelserving.volcano.sh/group-name": "group-0"})
    groups = groups_of(running(serving(replicas=2).role("decode", entryTemplate=overriding)))
    assert [group.running for group in groups.values()] == [True, True]


@pytest.mark.parametrize("state", [{"ready": False}, {"deleting": True}])
def test_a_group_runs_while_all_its_pods_are_ready_and_stay(state: dict[str, bool]) -> None:
    cluster = running(PAIR)
    assert groups_of(cluster)[0].running
    cluster.change("demo-0-decode-0-1", **state)
    group = groups_of(cluster)[0]
    assert not group.running
    assert not group.roles["decode"][0].running
    assert group.roles["prefill"][0].running


def test_a_group_with_a_lost_pod_a_lost_replica_or_a_surplus_replica_does_not_run() -> None:
    for change in (PAIR.role("prefill", replicas=1), PAIR.role("prefill", replicas=3)):
        cluster = running(PAIR)
        cluster.edit(change)
        assert not groups_of(cluster)[0].running
    for name in ("demo-0-decode-0-1", "demo-0-prefill-1-0"):
        cluster = running(PAIR)
        cluster.vanish(name)
        assert not groups_of(cluster)[0].running


@pytest.mark.parametrize(
    "change",
    [PAIR.role("decode", workers=2), PAIR.role("decode", workers=0), PAIR.role("prefill", replicas=2, image="x")],
)
def test_an_outdated_group_runs_on_by_the_measure_of_its_own_template(change: ServingBuilder) -> None:
    cluster = running(PAIR)
    cluster.edit(change)
    group = groups_of(cluster)[0]
    assert group.outdated
    assert group.running


def test_an_outdated_replica_that_misses_its_entry_or_one_between_is_not_complete() -> None:
    for lost, complete in ((0, False), (1, False), (2, True)):
        cluster = running(serving().role("decode", workers=2))
        cluster.edit(cluster.builder.role("decode", workers=2, image="engine:2"))
        cluster.vanish(f"demo-0-decode-0-{lost}")
        assert groups_of(cluster)[0].roles["decode"][0].complete is complete


def test_a_group_is_outdated_by_an_added_role_and_runs_on_without_it() -> None:
    cluster = running(PAIR)
    cluster.edit(PAIR.role("router"))
    group = groups_of(cluster)[0]
    assert [entry.role.name for entry in group.expected] == ["prefill", "decode"]
    assert group.outdated
    assert group.running


def test_a_group_is_outdated_by_a_removed_role_and_runs_only_while_its_pods_do() -> None:
    cluster = running(PAIR)
    cluster.edit(PAIR.without_role("decode"))
    group = groups_of(cluster)[0]
    assert group.outdated
    assert group.running
    cluster.change("demo-0-decode-0-0", ready=False)
    assert not groups_of(cluster)[0].running


def test_a_role_that_lost_all_pods_is_missing_and_not_new() -> None:
    cluster = running(serving().role("prefill").role("decode"))
    cluster.vanish("demo-0-decode-0-0")
    group = groups_of(cluster)[0]
    assert [entry.role.name for entry in group.expected] == ["prefill", "decode"]
    assert not group.outdated
    assert not group.running


@pytest.mark.parametrize("builder", [PAIR.rollout_by_role(), PAIR.rollout(partition=1)])
def test_an_added_role_is_expected_where_no_roll_out_replaces_the_group(builder: ServingBuilder) -> None:
    cluster = running(builder)
    cluster.edit(builder.role("router"))
    group = groups_of(cluster)[0]
    assert "router" in [entry.role.name for entry in group.expected]
    assert not group.outdated


def test_a_group_has_started_once_every_role_has_a_started_replica() -> None:
    cluster = Cluster(PAIR)
    cluster.step()
    assert not groups_of(cluster)[0].started
    cluster.change("demo-0-prefill-0-0", phase="Running")
    assert not groups_of(cluster)[0].started
    cluster.change("demo-0-decode-0-1", phase="Running")
    assert groups_of(cluster)[0].started


def test_costs_are_summed_over_pods() -> None:
    cluster = running(PAIR)
    cluster.change("demo-0-decode-0-0", deletion_cost=5)
    cluster.change("demo-0-decode-0-1", deletion_cost=-2)
    group = groups_of(cluster)[0]
    assert (group.cost, group.roles["decode"][0].cost, group.roles["prefill"][0].cost) == (3, 3, 0)


def test_a_partition_protects_groups_or_replicas_of_a_role() -> None:
    by_group = groups_of(running(PAIR.replicas(3).rollout(partition=2)))
    assert [group.protected for group in by_group.values()] == [True, True, False]
    by_role = groups_of(running(serving().role("decode", replicas=3, partition=1).rollout_by_role()))
    assert not by_role[0].protected
    assert [replica.protected for replica in by_role[0].roles["decode"].values()] == [True, False, False]
