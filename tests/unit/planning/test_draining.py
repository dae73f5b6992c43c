from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from baton.planning.model import ChildKind, Update
from planned_cluster import MULTI_NODE, PAIR, Cluster, created, deleted, group_names, rolled, running

if TYPE_CHECKING:
    from baton.planning.model import Plan
    from builders import ServingBuilder


def marked(made: Plan) -> list[str]:
    """Return the pods that a plan marks or whose mark it takes back."""
    return sorted(entry.name for entry in made.actions if isinstance(entry, Update) and entry.kind is ChildKind.POD)


def routed(builder: ServingBuilder, *, busy: int | None = None, timeout: int | None = 60) -> Cluster:
    """Return a running cluster that a route leads to, with this many requests on each pod."""
    cluster = running(builder if timeout is None else builder.with_spec(drainTimeoutSeconds=timeout))
    cluster.is_routed = True
    if busy is not None:
        cluster.in_flight = dict.fromkeys((pod.uid for pod in cluster.pods.values()), busy)
    return cluster


def test_surplus_pods_are_marked_then_waited_for_and_go_together_once_they_are_idle() -> None:
    cluster = routed(PAIR.replicas(2), busy=1)
    cluster.edit(cluster.builder.replicas(1))
    made = cluster.step()
    assert marked(made) == group_names(1)
    assert not deleted(made)
    assert made.requeue_after == 60
    cluster.in_flight[cluster.pods["demo-1-decode-0-0"].uid] = 0
    cluster.pass_time(20)
    made = cluster.plan()
    assert (made.actions, made.requeue_after) == ((), 40)
    cluster.in_flight[cluster.pods["demo-1-prefill-0-0"].uid] = 0
    assert sorted(deleted(cluster.plan())) == group_names(1)


def test_pods_that_look_idle_are_marked_first_because_requests_may_be_on_their_way() -> None:
    cluster = routed(PAIR.replicas(2), busy=0)
    cluster.edit(cluster.builder.replicas(1))
    assert not deleted(cluster.step())
    assert sorted(deleted(cluster.step())) == group_names(1)


def test_what_is_not_idle_in_time_goes_anyway() -> None:
    cluster = routed(PAIR.replicas(2), busy=1)
    cluster.edit(cluster.builder.replicas(1))
    cluster.step()
    cluster.pass_time(60)
    assert sorted(deleted(cluster.plan())) == group_names(1)


@pytest.mark.parametrize(("timeout", "busy", "waits"), [(None, None, 0), (None, 1, 300), (60, None, 60), (0, 1, 0)])
def test_how_long_is_waited(timeout: int | None, busy: int | None, waits: int) -> None:
    cluster = routed(PAIR.replicas(2), busy=busy, timeout=timeout)
    cluster.edit(cluster.builder.replicas(1))
    made = cluster.plan()
    assert (made.requeue_after or 0) == waits
    assert bool(deleted(made)) is (waits == 0)


def test_without_a_route_pods_go_at_once() -> None:
    cluster = routed(PAIR.replicas(2), busy=1)
    cluster.is_routed = False
    cluster.edit(cluster.builder.replicas(1))
    assert sorted(deleted(cluster.plan())) == group_names(1)


def test_a_group_that_drains_does_not_count_as_available() -> None:
    cluster = routed(PAIR.replicas(2), busy=1)
    cluster.edit(cluster.builder.replicas(1))
    cluster.step()
    status = cluster.plan().status
    assert (status.replicas, status.available_replicas, status.updated_replicas) == (2, 1, 1)


def test_what_is_wanted_again_is_marked_no_more_and_stays() -> None:
    cluster = routed(PAIR.replicas(2), busy=1)
    cluster.edit(cluster.builder.replicas(1))
    cluster.step()
    cluster.edit(cluster.builder.replicas(2))
    made = cluster.step()
    assert marked(made) == group_names(1)
    assert all(pod.draining_since is None for pod in cluster.pods.values())
    assert not cluster.plan().actions
    assert cluster.plan().status.available_replicas == 2


def test_the_choice_does_not_change_while_pods_drain() -> None:
    cluster = routed(PAIR.replicas(3), busy=1)
    cluster.edit(cluster.builder.replicas(2))
    cluster.step()
    cluster.change("demo-0-decode-0-0", ready=False)
    cluster.change("demo-1-decode-0-0", deletion_cost=-9)
    assert not marked(cluster.step())
    cluster.pass_time(60)
    assert sorted(deleted(cluster.plan())) == group_names(2)


def test_a_roll_out_drains_group_by_group_within_its_budget() -> None:
    cluster = routed(PAIR.replicas(3), busy=1)
    cluster.edit(rolled(cluster.builder).builder)
    assert marked(cluster.step()) == group_names(2)
    cluster.change("demo-0-decode-0-0", ready=False)
    assert not cluster.plan().actions, "no other group takes its place"
    cluster.pass_time(60)
    assert sorted(deleted(cluster.step())) == group_names(2)


def test_a_multi_node_replica_drains_with_its_workers_of_which_no_router_knows() -> None:
    cluster = routed(MULTI_NODE)
    entry = cluster.pods["demo-0-decode-1-0"]
    cluster.in_flight = {entry.uid: 1}
    role = {**cluster.builder.roles[1], "replicas": 1}
    cluster.edit(cluster.builder.with_role(role))
    assert marked(cluster.step()) == ["demo-0-decode-1-0", "demo-0-decode-1-1"]
    cluster.in_flight = {entry.uid: 0}
    assert sorted(deleted(cluster.plan())) == ["demo-0-decode-1-0", "demo-0-decode-1-1"]


def test_what_failed_or_never_served_is_not_waited_for() -> None:
    cluster = routed(PAIR.replicas(2), busy=1)
    cluster.fail("demo-1-decode-0-0")
    assert list(deleted(cluster.step())) == ["demo-1-decode-0-0"]
    cluster.finish_deletions()
    assert list(created(cluster.step())) == ["demo-1-decode-0-0"]
    starting = Cluster(PAIR.replicas(2).with_spec(drainTimeoutSeconds=60))
    starting.is_routed = True
    starting.step()
    starting.edit(starting.builder.replicas(1))
    assert sorted(deleted(starting.plan())) == group_names(1)


def test_a_loss_elsewhere_takes_the_budget_of_what_drains() -> None:
    cluster = routed(PAIR.replicas(2).role("decode", replicas=2, workers=1).rollout_by_role(), busy=1)
    role = {**cluster.builder.roles[1], "workerReplicas": 0}
    cluster.edit(cluster.builder.with_role(role))
    assert {name.rpartition("-")[0][7:] for name in marked(cluster.step())} == {"decode-1"}
    cluster.vanish("demo-0-decode-0-1")
    made = cluster.step()
    assert list(deleted(made)) == ["demo-0-decode-0-0"]
    assert marked(made) == ["demo-0-decode-1-0", "demo-0-decode-1-1"]


def test_what_is_being_deleted_stays_the_surplus_while_others_drain() -> None:
    cluster = routed(MULTI_NODE.rollout_by_role(), busy=1)
    cluster.change("demo-0-decode-0-0", deleting=True)
    cluster.edit(cluster.builder.role("decode", replicas=1))
    cluster.step()
    assert not cluster.plan().actions


def test_what_drains_is_spared_no_more_than_before_when_another_group_loses_a_pod() -> None:
    cluster = routed(PAIR.replicas(3).role("prefill", replicas=2), busy=1)
    cluster.edit(cluster.builder.replicas(2))
    drained = marked(cluster.step())
    cluster.fail("demo-0-prefill-0-0")
    assert list(deleted(cluster.step())) == ["demo-0-prefill-0-0"]
    assert not cluster.plan().actions
    assert sorted(name for name, pod in cluster.pods.items() if pod.draining_since) == drained
