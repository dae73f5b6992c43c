from __future__ import annotations

from dataclasses import replace

import pytest

from builders import ServingBuilder, serving
from planned_cluster import Cluster, created, deleted, running

PAIR = serving().role("prefill").role("decode")
MULTI_NODE = serving().role("prefill").role("decode", replicas=2, workers=1)
NODE_NAMES = ["demo-0-decode-0-0", "demo-0-decode-0-1", "demo-0-decode-1-0", "demo-0-decode-1-1"]


def group_names(*ordinals: int) -> list[str]:
    return [f"demo-{ordinal}-{role}-0-0" for ordinal in ordinals for role in ("decode", "prefill")]


# scaling groups


def test_missing_groups_are_created_and_present_ones_are_left_alone() -> None:
    cluster = running(PAIR)
    cluster.edit(PAIR.replicas(3))
    made = cluster.plan()
    assert sorted(created(made)) == group_names(1, 2)
    assert not deleted(made)


def test_surplus_groups_are_deleted_whole_the_highest_first() -> None:
    cluster = running(PAIR.replicas(3))
    cluster.edit(PAIR.replicas(1))
    made = cluster.plan()
    assert sorted(deleted(made)) == group_names(1, 2)
    assert set(deleted(made).values()) == {"demo-1 is surplus", "demo-2 is surplus"}
    assert not created(made)


def test_all_groups_go_when_scaled_to_0() -> None:
    cluster = running(PAIR.replicas(2))
    cluster.edit(PAIR.replicas(0))
    assert sorted(deleted(cluster.plan())) == group_names(0, 1)


def test_a_group_that_does_not_run_and_then_the_cheapest_is_surplus_first() -> None:
    cluster = running(PAIR.replicas(4))
    cluster.change("demo-1-prefill-0-0", ready=False)
    cluster.change("demo-2-prefill-0-0", deletion_cost=-1)
    cluster.edit(PAIR.replicas(2))
    assert sorted(deleted(cluster.plan())) == group_names(1, 2)


def test_protected_groups_are_surplus_last() -> None:
    cluster = running(PAIR.replicas(3).rollout(partition=1))
    cluster.change("demo-0-prefill-0-0", ready=False)
    cluster.edit(cluster.builder.replicas(1))
    assert sorted(deleted(cluster.plan())) == group_names(1, 2)


def test_nothing_is_created_in_a_group_until_its_predecessor_is_gone() -> None:
    cluster = running(PAIR.replicas(2))
    for name in group_names(1):
        cluster.change(name, deleting=True)
    assert cluster.plan().actions == ()
    cluster.vanish("demo-1-prefill-0-0")
    assert cluster.plan().actions == ()
    cluster.vanish("demo-1-decode-0-0")
    assert sorted(created(cluster.plan())) == group_names(1)


def test_a_group_that_leaves_keeps_its_place_among_the_replicas() -> None:
    cluster = running(PAIR.replicas(2))
    cluster.edit(PAIR.replicas(1))
    cluster.step()
    cluster.edit(PAIR.replicas(2))
    assert cluster.plan().actions == ()
    cluster.finish_deletions()
    assert sorted(created(cluster.plan())) == group_names(1)


def test_a_deletion_of_surplus_groups_that_was_interrupted_goes_on_with_the_same_groups() -> None:
    cluster = running(PAIR.replicas(2))
    cluster.edit(PAIR.replicas(1))
    cluster.carry_out(cluster.plan().actions[:1])
    cluster.change("demo-0-prefill-0-0", ready=False, deletion_cost=-1)
    cluster.step()
    assert cluster.leaving() == group_names(1)


# scaling roles


def test_missing_role_replicas_are_created_in_every_group() -> None:
    cluster = running(PAIR.replicas(2))
    cluster.edit(PAIR.replicas(2).role("decode", replicas=2))
    made = cluster.plan()
    assert list(created(made)) == ["demo-0-decode-1-0", "demo-1-decode-1-0"]
    assert not deleted(made)


def test_surplus_role_replicas_are_deleted_in_the_same_order_as_groups() -> None:
    cluster = running(PAIR.role("decode", replicas=4))
    cluster.change("demo-0-decode-0-0", ready=False)
    cluster.change("demo-0-decode-2-0", deletion_cost=-1)
    cluster.edit(PAIR.role("decode", replicas=2))
    assert deleted(cluster.plan()) == {
        "demo-0-decode-0-0": "decode-0 is surplus",
        "demo-0-decode-2-0": "decode-2 is surplus",
    }


def test_a_role_is_scaled_to_0_and_back() -> None:
    cluster = running(PAIR)
    cluster.edit(PAIR.role("decode", replicas=0))
    assert list(deleted(cluster.plan())) == ["demo-0-decode-0-0"]
    cluster.converge()
    cluster.edit(PAIR)
    assert list(created(cluster.plan())) == ["demo-0-decode-0-0"]


def test_a_surplus_multi_node_replica_goes_whole_under_every_recovery_policy() -> None:
    for policy in ("None", "RoleRecreate", "ServingGroupRecreate"):
        cluster = running(MULTI_NODE.recovery(policy))
        cluster.edit(cluster.builder.role("decode", replicas=1, workers=1))
        assert sorted(deleted(cluster.step())) == NODE_NAMES[2:]
        cluster.vanish("demo-0-decode-1-1")
        assert cluster.plan().actions == (), policy
        cluster.finish_deletions()
        assert not created(cluster.plan())


def test_nothing_is_created_in_a_role_replica_until_its_predecessor_is_gone() -> None:
    cluster = running(MULTI_NODE)
    cluster.change("demo-0-decode-0-0", deleting=True)
    cluster.change("demo-0-decode-0-1", deleting=True)
    cluster.vanish("demo-0-decode-0-1")
    assert not created(cluster.plan())
    cluster.finish_deletions()
    assert list(created(cluster.plan())) == NODE_NAMES[:2]


def test_a_failed_replica_that_is_surplus_costs_the_group_nothing() -> None:
    cluster = running(PAIR.role("decode", replicas=2).recovery("ServingGroupRecreate"))
    cluster.fail("demo-0-decode-0-0")
    cluster.edit(cluster.builder.role("decode", replicas=1))
    assert deleted(cluster.plan()) == {"demo-0-decode-0-0": "decode-0 is surplus"}


def test_a_creation_that_was_interrupted_is_completed() -> None:
    for written in range(1, 7):
        cluster = Cluster(MULTI_NODE)
        cluster.carry_out(cluster.plan().actions[:written])
        made = cluster.plan()
        assert not deleted(made)
        cluster.carry_out(made.actions)
        assert len(cluster.names()) == 5


# foreign pods


def test_pods_of_others_are_never_touched_and_never_counted() -> None:
    cluster = running(PAIR)
    own = cluster.pods["demo-0-prefill-0-0"]
    cluster.pods["demo-7-prefill-0-0"] = replace(own, name="demo-7-prefill-0-0", uid="x", owner_uid="somebody-else")
    cluster.pods["debug"] = replace(own, name="debug", uid="y", owner_uid="", phase="Failed")
    assert cluster.plan().actions == ()
    cluster.edit(PAIR.replicas(0))
    assert sorted(deleted(cluster.plan())) == group_names(0)


# recovery


def test_a_lost_pod_is_created_again() -> None:
    cluster = running(PAIR.replicas(2))
    cluster.vanish("demo-1-decode-0-0")
    made = cluster.plan()
    assert list(created(made)) == ["demo-1-decode-0-0"]
    assert not deleted(made)


LOSSES = pytest.mark.parametrize("loss", ["leaves", "vanishes", "fails"])
LOST = "demo-0-decode-0-1"


def lose(cluster: Cluster, loss: str) -> None:
    match loss:
        case "leaves":
            cluster.change(LOST, deleting=True)
        case "vanishes":
            cluster.vanish(LOST)
        case _:
            cluster.fail(LOST)


@LOSSES
def test_role_recreate_replaces_the_whole_replica(loss: str) -> None:
    cluster = running(MULTI_NODE)
    lose(cluster, loss)
    assert not created(cluster.step())
    assert set(NODE_NAMES[:2]) - {LOST} <= set(cluster.leaving()) <= set(NODE_NAMES[:2])
    cluster.finish_deletions()
    assert list(created(cluster.step())) == NODE_NAMES[:2]


@LOSSES
def test_serving_group_recreate_replaces_the_whole_group_and_no_other(loss: str) -> None:
    cluster = running(MULTI_NODE.replicas(2).recovery("ServingGroupRecreate"))
    lose(cluster, loss)
    assert not created(cluster.step())
    rest = {"demo-0-prefill-0-0", *NODE_NAMES}
    assert rest - {LOST} <= set(cluster.leaving()) <= rest
    cluster.finish_deletions()
    assert set(created(cluster.step())) == rest


@LOSSES
def test_with_policy_none_only_the_pod_itself_is_replaced(loss: str) -> None:
    cluster = running(MULTI_NODE.recovery("None"))
    lose(cluster, loss)
    cluster.step()
    assert set(cluster.leaving()) <= {LOST}
    cluster.finish_deletions()
    cluster.step()
    assert cluster.pods[LOST].uid != cluster.pods["demo-0-decode-0-0"].uid
    assert cluster.names() == sorted(["demo-0-prefill-0-0", *NODE_NAMES])
    assert sum(not pod.ready for pod in cluster.pods.values()) == 1


def test_a_group_is_recreated_for_a_whole_replica_that_vanished_unseen() -> None:
    cluster = running(PAIR.role("decode", replicas=2).recovery("ServingGroupRecreate"))
    cluster.vanish("demo-0-decode-1-0")
    cluster.step()
    assert cluster.leaving() == group_names(0)


def test_a_group_is_recreated_for_a_replica_that_leaves_whatever_the_others_do() -> None:
    cluster = running(PAIR.replicas(2).recovery("ServingGroupRecreate"))
    cluster.change("demo-1-decode-0-0", ready=False)
    cluster.step()
    cluster.change("demo-0-decode-0-0", deleting=True)
    assert list(deleted(cluster.plan())) == ["demo-0-prefill-0-0"]


def test_a_group_is_not_recreated_for_a_replica_that_is_yet_to_be_created() -> None:
    cluster = running(PAIR.recovery("ServingGroupRecreate"))
    cluster.edit(cluster.builder.role("decode", replicas=3))
    cluster.carry_out(cluster.plan().actions[:1])
    cluster.make_ready()
    made = cluster.step()
    assert list(created(made)) == ["demo-0-decode-2-0"]
    assert not deleted(made)
    assert not deleted(cluster.plan())


def test_a_group_is_not_recreated_for_a_replica_that_a_scale_down_removes() -> None:
    cluster = running(PAIR.role("decode", replicas=3).recovery("ServingGroupRecreate"))
    cluster.edit(cluster.builder.role("decode", replicas=1))
    cluster.step()
    assert cluster.leaving() == ["demo-0-decode-1-0", "demo-0-decode-2-0"]
    assert cluster.plan().actions == ()
    cluster.vanish("demo-0-decode-1-0")
    assert cluster.plan().actions == ()


def test_a_failed_pod_is_left_alone_for_the_grace_period() -> None:
    cluster = running(PAIR.grace(30))
    cluster.restart("demo-0-decode-0-0")
    cluster.pass_time(20)
    made = cluster.plan()
    assert (made.actions, made.requeue_after) == ((), 10.0)
    cluster.pass_time(10)
    made = cluster.plan()
    assert deleted(made) == {"demo-0-decode-0-0": "demo-0-decode-0-0 failed"}
    assert made.requeue_after is None


def test_a_pod_that_recovers_within_the_grace_period_stays() -> None:
    cluster = running(PAIR.grace(30))
    cluster.restart("demo-0-decode-0-0")
    cluster.pass_time(20)
    cluster.make_ready()
    cluster.pass_time(60)
    made = cluster.plan()
    assert (made.actions, made.requeue_after) == ((), None)


def test_the_pods_of_a_replaced_replica_do_not_count_as_a_second_loss() -> None:
    cluster = running(MULTI_NODE)
    cluster.fail(LOST)
    cluster.step()
    assert cluster.plan().actions == ()


@pytest.mark.parametrize("policy", ["None", "RoleRecreate", "ServingGroupRecreate"])
def test_a_failed_pod_of_a_removed_role_is_deleted_and_costs_nothing_else(policy: str) -> None:
    cluster = running(PAIR.rollout(partition=1).recovery(policy))
    cluster.edit(cluster.builder.without_role("decode"))
    cluster.fail("demo-0-decode-0-0")
    assert list(deleted(cluster.step())) == ["demo-0-decode-0-0"]
    cluster.finish_deletions()
    assert cluster.plan().actions == ()


# roll-out by group


def rolled(builder: ServingBuilder) -> Cluster:
    """Return a cluster whose pods run, right after the user changed the image of one role."""
    cluster = running(builder)
    (role,) = [role for role in builder.roles if role["name"] == "decode"]
    template = {"spec": {"containers": [{"name": "engine", "image": "engine:2"}]}}
    changed = {**role, "entryTemplate": template}
    cluster.edit(builder.with_role(changed))
    return cluster


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
def test_a_multi_node_replica_of_an_older_template_is_replaced_whole_and_never_patched_up(policy: str) -> None:
    cluster = rolled(MULTI_NODE.rollout(partition=1).recovery(policy))
    cluster.vanish("demo-0-decode-0-0")
    cluster.change(LOST, ready=False)
    assert cluster.plan().actions == ()
    cluster.restart(LOST)
    assert list(deleted(cluster.step())) == [LOST]
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
