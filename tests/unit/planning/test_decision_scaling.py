from __future__ import annotations

from dataclasses import replace

from planned_cluster import MULTI_NODE, NODE_NAMES, PAIR, Cluster, created, deleted, group_names, running

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
    assert not created(cluster.step())
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
