from __future__ import annotations

import pytest

from builders import serving
from planned_cluster import MULTI_NODE, NODE_NAMES, PAIR, Cluster, created, deleted, group_names, rolled, running

# roll-out by group


def test_outdated_groups_are_replaced_one_by_one_from_the_highest() -> None:
    cluster = rolled(PAIR.replicas(3))
    for ordinal in (2, 1, 0):
        cluster.step()
        assert cluster.leaving() == group_names(ordinal)
        assert cluster.plan().actions == ()
        cluster.finish_deletions()
        assert sorted(created(cluster.step())) == group_names(ordinal)
        assert cluster.plan().actions == (), "the next one waits until this one runs"
        cluster.make_ready()
    assert cluster.plan().actions == ()


@pytest.mark.parametrize(
    ("max_unavailable", "replaced"), [(2, (2, 3)), ("50%", (2, 3)), ("74%", (2, 3)), (9, (0, 1, 2, 3))]
)
def test_as_many_groups_are_replaced_at_once_as_may_be_down(
    max_unavailable: int | str, replaced: tuple[int, ...]
) -> None:
    cluster = rolled(PAIR.replicas(4).rollout(maxUnavailable=max_unavailable))
    cluster.step()
    assert cluster.leaving() == group_names(*replaced)


def test_a_group_that_is_down_anyway_is_replaced_first_and_uses_up_the_budget() -> None:
    cluster = rolled(PAIR.replicas(3))
    cluster.change("demo-0-prefill-0-0", ready=False)
    cluster.step()
    assert cluster.leaving() == group_names(0)


def test_groups_whose_pods_never_started_are_replaced_at_once() -> None:
    cluster = Cluster(PAIR.replicas(3))
    cluster.step()
    cluster.edit(PAIR.replicas(3).role("decode", image="image-that-exists"))
    cluster.step()
    assert cluster.leaving() == group_names(0, 1, 2)


def test_groups_below_the_partition_keep_their_template() -> None:
    cluster = rolled(PAIR.replicas(3).rollout(partition=2, maxUnavailable=3))
    before = {name: pod.uid for name, pod in cluster.pods.items()}
    cluster.converge()
    kept = {name for name, pod in cluster.pods.items() if pod.uid == before[name]}
    assert sorted(kept) == group_names(0, 1)


def test_lowering_the_partition_goes_on_with_the_roll_out() -> None:
    cluster = rolled(PAIR.replicas(3).rollout(partition=2))
    cluster.converge()
    cluster.edit(cluster.builder.rollout(partition=1))
    cluster.step()
    assert cluster.leaving() == group_names(1)


def test_a_protected_group_gets_lost_pods_back() -> None:
    cluster = rolled(PAIR.replicas(2).rollout(partition=2))
    cluster.vanish("demo-0-decode-0-0")
    made = cluster.plan()
    assert list(created(made)) == ["demo-0-decode-0-0"]
    assert not deleted(made)


@pytest.mark.parametrize("policy", ["None", "RoleRecreate"])
def test_a_multi_node_replica_of_a_forgotten_template_is_replaced_whole_and_never_patched_up(policy: str) -> None:
    cluster = rolled(MULTI_NODE.rollout(partition=1).recovery(policy))
    cluster.step()
    cluster.revisions.clear()
    cluster.vanish("demo-0-decode-0-0")
    cluster.change("demo-0-decode-0-1", ready=False)
    assert not cluster.step().stages[1:]
    cluster.restart("demo-0-decode-0-1")
    assert list(deleted(cluster.step())) == ["demo-0-decode-0-1"]
    cluster.fail("demo-0-decode-1-0")
    assert sorted(deleted(cluster.step())) == NODE_NAMES[2:]
    cluster.finish_deletions()
    assert list(created(cluster.step())) == NODE_NAMES


def test_groups_without_pods_to_come_are_replaced_too() -> None:
    cluster = running(PAIR.replicas(2).role("decode", replicas=0))
    cluster.edit(cluster.builder.without_role("prefill"))
    cluster.converge()
    assert cluster.pods == {}


def test_a_changed_number_of_workers_does_not_touch_groups_before_their_turn() -> None:
    cluster = running(MULTI_NODE.replicas(2))
    cluster.edit(MULTI_NODE.replicas(2).role("decode", replicas=2, workers=2))
    cluster.step()
    assert {name.split("-")[1] for name in cluster.leaving()} == {"1"}
    assert not any(name.endswith("-2") for name in cluster.pods)


def test_an_added_role_comes_with_the_replacement_of_each_group() -> None:
    cluster = running(PAIR.replicas(2))
    cluster.edit(PAIR.replicas(2).role("router"))
    made = cluster.step()
    assert not created(made)
    assert cluster.leaving() == group_names(1)
    assert cluster.builder.observed_status["availableReplicas"] == 1
    cluster.finish_deletions()
    assert sorted(created(cluster.step())) == [*group_names(1), "demo-1-router-0-0"]


def test_a_role_rescaled_together_with_a_new_template_keeps_the_budget() -> None:
    cluster = running(PAIR.replicas(3).role("decode", replicas=2))
    cluster.edit(PAIR.replicas(3).role("decode", replicas=3, image="engine:2"))
    cluster.step()
    assert {name.split("-")[1] for name in cluster.leaving()} == {"2"}


def test_a_roll_back_spares_the_groups_not_yet_replaced() -> None:
    cluster = rolled(PAIR.replicas(3))
    cluster.step()
    cluster.edit(PAIR.replicas(3))
    uids = {name: cluster.pods[name].uid for name in group_names(0, 1)}
    cluster.converge()
    assert {name: cluster.pods[name].uid for name in uids} == uids


# roll-out by role


def test_only_the_replicas_of_the_changed_role_are_replaced() -> None:
    cluster = rolled(PAIR.replicas(2).role("decode", replicas=2).rollout_by_role())
    before = {name: pod.uid for name, pod in cluster.pods.items()}
    assert sorted(deleted(cluster.step())) == ["demo-0-decode-1-0", "demo-1-decode-1-0"]
    cluster.converge()
    kept = {name for name, pod in cluster.pods.items() if pod.uid == before[name]}
    assert sorted(kept) == ["demo-0-prefill-0-0", "demo-1-prefill-0-0"]


def test_replicas_of_a_role_are_replaced_within_its_budget() -> None:
    cluster = rolled(serving().role("decode", replicas=4, maxUnavailable="50%").rollout_by_role())
    cluster.step()
    assert cluster.leaving() == ["demo-0-decode-2-0", "demo-0-decode-3-0"]
    cluster.finish_deletions()
    cluster.step()
    cluster.change("demo-0-decode-3-0", phase="Running", ready=True)
    assert list(deleted(cluster.plan())) == ["demo-0-decode-1-0"]


def test_the_budget_of_a_role_does_not_count_what_is_surplus() -> None:
    cluster = running(serving().role("decode", replicas=3).rollout_by_role())
    cluster.change("demo-0-decode-0-0", deletion_cost=-1)
    cluster.edit(cluster.builder.role("decode", replicas=2, image="engine:2"))
    assert deleted(cluster.plan()) == {
        "demo-0-decode-0-0": "decode-0 is surplus",
        "demo-0-decode-2-0": "decode-2 has an outdated template",
    }


def test_role_replicas_below_the_partition_keep_their_template() -> None:
    cluster = rolled(serving().role("decode", replicas=3, partition=1, maxUnavailable=3).rollout_by_role())
    assert sorted(deleted(cluster.plan())) == ["demo-0-decode-1-0", "demo-0-decode-2-0"]


def test_an_added_role_appears_in_every_group_at_once() -> None:
    cluster = running(PAIR.replicas(2).rollout_by_role())
    cluster.edit(cluster.builder.role("router"))
    made = cluster.plan()
    assert list(created(made)) == ["demo-0-router-0-0", "demo-1-router-0-0"]
    assert not deleted(made)


def test_a_removed_role_disappears_from_every_group_at_once() -> None:
    cluster = running(PAIR.replicas(2).rollout_by_role())
    cluster.edit(cluster.builder.without_role("decode"))
    assert deleted(cluster.plan()) == dict.fromkeys(["demo-0-decode-0-0", "demo-1-decode-0-0"], "role decode is gone")


def test_a_changed_number_of_workers_keeps_the_budget_of_the_role() -> None:
    cluster = running(serving().role("decode", replicas=3, workers=1).rollout_by_role())
    cluster.edit(cluster.builder.role("decode", replicas=3, workers=2))
    made = cluster.plan()
    assert sorted(deleted(made)) == ["demo-0-decode-2-0", "demo-0-decode-2-1"]
    assert not created(made)
