from __future__ import annotations

import pytest

from baton.planning.target import replica_size, role_max_unavailable, role_partition, target_of
from builders import serving

ROLE = serving(replicas=5).role("decode", replicas=3)


def test_without_a_strategy_one_group_at_a_time_is_replaced_and_none_is_protected() -> None:
    target = target_of(ROLE.desired())
    assert (target.by_role, target.max_unavailable, target.partition) == (False, 1, 0)


@pytest.mark.parametrize(
    ("limits", "max_unavailable", "partition"),
    [
        ({}, 1, 0),
        ({"maxUnavailable": 2, "partition": 3}, 2, 3),
        ({"maxUnavailable": "50%", "partition": "50%"}, 2, 3),
    ],
)
def test_percentages_of_groups_are_rounded_down_for_max_unavailable_and_up_for_partition(
    limits: dict[str, int | str], max_unavailable: int, partition: int
) -> None:
    target = target_of(ROLE.rollout(**limits).desired())
    assert (target.max_unavailable, target.partition) == (max_unavailable, partition)


@pytest.mark.parametrize("amount", [0, "10%"])
def test_a_roll_out_never_stops_because_max_unavailable_comes_to_nothing(amount: int | str) -> None:
    assert target_of(ROLE.rollout(maxUnavailable=amount).desired()).max_unavailable == 1
    assert role_max_unavailable(ROLE.role("decode", maxUnavailable=amount).build().spec.template.roles[0]) == 1


def test_limits_of_groups_do_not_count_when_roles_are_rolled_out() -> None:
    target = target_of(ROLE.rollout(partition=2).rollout_by_role().desired())
    assert target.by_role
    assert target.partition == 0


def test_limits_of_a_role_are_resolved_against_its_replicas() -> None:
    (role,) = ROLE.role("decode", replicas=5, maxUnavailable="50%", partition="50%").build().spec.template.roles
    assert (role_max_unavailable(role), role_partition(role)) == (2, 3)


def test_a_replica_has_an_entry_pod_and_its_workers() -> None:
    roles = serving().role("one").role("four", workers=3).build().spec.template.roles
    assert [replica_size(role) for role in roles] == [1, 4]
    assert replica_size(serving().typed_role("typed").build().spec.template.roles[0]) == 1


@pytest.mark.parametrize(("replicas", "has_pods"), [((0, 0), False), ((0, 1), True)])
def test_a_group_has_pods_unless_all_its_roles_are_scaled_to_0(replicas: tuple[int, int], *, has_pods: bool) -> None:
    builder = serving().role("prefill", replicas=replicas[0]).role("decode", replicas=replicas[1])
    assert target_of(builder.desired()).has_pods is has_pods
