from __future__ import annotations

import pytest

from planned_cluster import MULTI_NODE, NODE_NAMES, PAIR, Cluster, created, deleted, group_names, running


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
def test_a_failed_pod_of_a_removed_role_whose_template_is_forgotten_is_deleted_and_costs_nothing_else(
    policy: str,
) -> None:
    cluster = running(PAIR.rollout(partition=1).recovery(policy))
    cluster.edit(cluster.builder.without_role("decode"))
    cluster.step()
    cluster.revisions.clear()
    cluster.fail("demo-0-decode-0-0")
    assert list(deleted(cluster.step())) == ["demo-0-decode-0-0"]
    cluster.finish_deletions()
    assert cluster.plan().actions == ()
