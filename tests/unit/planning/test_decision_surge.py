from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from baton.api import labels
from baton.planning.target import target_of
from planned_cluster import PAIR, Cluster, created, deleted, group_names, rolled, running

if TYPE_CHECKING:
    from builders import ServingBuilder


def surging(replicas: int = 3, **limits: int | str) -> ServingBuilder:
    return PAIR.replicas(replicas).rollout(**{"maxSurge": 1, "maxUnavailable": 0, **limits})


def replace_next(cluster: Cluster) -> None:
    """Let what leaves go, and what comes become ready, until something is deleted or all is at rest."""
    for _ in range(5):
        cluster.finish_deletions()
        cluster.make_ready()
        if deleted(cluster.step()):
            return


def test_a_group_beyond_the_replicas_comes_first_and_nothing_goes_before_it_runs() -> None:
    cluster = rolled(surging())
    made = cluster.step()
    assert sorted(created(made)) == group_names(3)
    assert not deleted(made)
    assert cluster.plan().actions == ()
    cluster.make_ready()
    assert sorted(deleted(cluster.step())) == group_names(2)


def test_all_ordinals_are_replaced_and_the_one_that_stood_in_goes_at_the_end() -> None:
    cluster = rolled(surging())
    cluster.step()
    gone = []
    while True:
        replace_next(cluster)
        if not cluster.leaving():
            break
        assert sum(group.startswith("demo-") for group in cluster.names()) >= 6, "three groups are there throughout"
        gone.append({name.split("-")[1] for name in cluster.leaving()})
    assert gone == [{"2"}, {"1"}, {"0"}, {"3"}]
    assert cluster.names() == sorted(group_names(0, 1, 2))
    assert not any(labels.SURGE in pod.labels for pod in cluster.pods.values())
    assert cluster.plan().status.available_replicas == 3


def test_as_many_stand_in_as_there_are_groups_to_replace() -> None:
    assert target_of(surging(10, maxSurge="25%").desired()).max_surge == 3
    cluster = rolled(surging(2, maxSurge=5))
    assert sorted(created(cluster.step())) == group_names(2, 3)


def test_a_partition_bounds_them_too() -> None:
    cluster = rolled(surging(3, partition=3))
    assert not created(cluster.step())


def test_a_group_that_stands_in_is_healed_like_any_other() -> None:
    cluster = rolled(surging())
    cluster.step()
    cluster.vanish("demo-3-decode-0-0")
    (pod,) = created(cluster.step()).values()
    assert pod["metadata"]["labels"][labels.SURGE] == "true"


def test_a_broken_template_stops_behind_the_group_that_stands_in() -> None:
    cluster = rolled(surging())
    cluster.step()
    for name in group_names(3):
        cluster.change(name, phase="Running", ready=False)
    cluster.step()
    assert cluster.leaving() == []
    cluster.edit(surging().with_metadata(generation=3))
    cluster.converge()
    assert cluster.names() == sorted(group_names(0, 1, 2))


def test_scaling_up_makes_a_group_that_stands_in_one_of_the_replicas() -> None:
    cluster = rolled(surging())
    cluster.step()
    cluster.edit(cluster.builder.replicas(4))
    cluster.converge()
    assert cluster.names() == sorted(group_names(0, 1, 2, 3))


def test_scaling_down_does_not_wait_for_anything_that_stands_in() -> None:
    cluster = rolled(surging())
    cluster.step()
    cluster.make_ready()
    cluster.edit(cluster.builder.replicas(1))
    cluster.converge()
    assert cluster.names() == group_names(0)


def test_without_a_roll_out_nothing_stands_in() -> None:
    cluster = running(surging())
    cluster.fail("demo-1-decode-0-0")
    cluster.step()
    assert {name.split("-")[1] for name in cluster.pods} == {"0", "1", "2"}


@pytest.mark.parametrize("limits", [{"maxUnavailable": 0}, {"maxUnavailable": 0, "maxSurge": 0}])
def test_without_surge_one_group_goes_at_a_time_whatever_may_be_unavailable(limits: dict[str, int]) -> None:
    cluster = rolled(PAIR.replicas(3).rollout(**limits))
    cluster.step()
    assert cluster.leaving() == group_names(2)


# paused


def paused(builder: ServingBuilder) -> Cluster:
    """Return a cluster whose template changed while its roll-out is paused."""
    cluster = running(builder)
    cluster.edit(cluster.builder.role("decode", image="engine:2").with_spec(paused=True))
    return cluster


def test_a_paused_roll_out_replaces_and_adds_nothing() -> None:
    cluster = paused(surging())
    made = cluster.step()
    assert not deleted(made)
    assert not created(made)
    cluster.edit(cluster.builder.with_spec(paused=False))
    assert created(cluster.step())


def test_a_roll_out_stops_half_way_and_goes_on() -> None:
    cluster = rolled(PAIR.replicas(3))
    cluster.step()
    cluster.finish_deletions()
    cluster.step()
    cluster.edit(cluster.builder.with_spec(paused=True))
    cluster.converge()
    status = cluster.plan().status
    assert (status.updated_replicas, status.available_replicas) == (1, 3)
    cluster.edit(cluster.builder.with_spec(paused=False))
    cluster.converge()
    assert cluster.plan().status.updated_replicas == 3


def test_scaling_and_healing_go_on_with_the_former_template() -> None:
    cluster = paused(PAIR.replicas(2))
    cluster.vanish("demo-0-decode-0-0")
    cluster.edit(cluster.builder.replicas(3))
    made = created(cluster.step())
    assert sorted(made) == sorted(["demo-0-decode-0-0", *group_names(2)])
    assert {pod["spec"]["containers"][0]["image"] for pod in made.values()} == {"engine:1"}
    cluster.make_ready()
    cluster.edit(cluster.builder.replicas(1))
    assert sorted(deleted(cluster.step())) == group_names(1, 2)


def test_roles_are_neither_added_removed_nor_replaced_while_paused() -> None:
    cluster = running(PAIR.rollout_by_role())
    cluster.edit(cluster.builder.without_role("decode").role("router").with_spec(paused=True))
    cluster.vanish("demo-0-decode-0-0")
    made = cluster.step()
    assert list(created(made)) == ["demo-0-decode-0-0"]
    assert not deleted(made)
    cluster.edit(cluster.builder.with_spec(paused=False))
    made = cluster.step()
    assert list(created(made)) == ["demo-0-router-0-0"]
    assert list(deleted(made)) == ["demo-0-decode-0-0"]


def test_what_is_created_paused_has_the_only_template_there_is() -> None:
    assert sorted(created(Cluster(PAIR.with_spec(paused=True)).plan())) == group_names(0)
